"""A backbone that compiles fast, for claims that no network of convolutions is part of."""

import jax.numpy as jnp
from flax import nnx

from fhn_jax.models import fashion_hash_net


class Blocks(nnx.Module):
    """The mean colours of 8x8 blocks of 32x32 pixels, and a weight of each."""

    min_size = 8
    num_features = 48

    def __init__(self, rngs):
        self.weight = nnx.Param(jnp.ones(self.num_features))

    def __call__(self, images):
        n, height, width, _ = images.shape
        blocks = images.reshape(n, height // 8, 8, width // 8, 8, 3).mean((2, 4))
        return blocks.reshape(n, -1) * self.weight[...][None]


def make_blocks(name, rngs, **_):
    """In place of `make_backbone`."""
    return Blocks(rngs)


def use_blocks(monkeypatch):
    """All networks made in this test have it."""
    monkeypatch.setattr(fashion_hash_net, "make_backbone", make_blocks)


# The same in a process of its own, see `runs.start`.
WITH_BLOCKS = """
from fhn_jax.models import fashion_hash_net
from tests.blocks import make_blocks

fashion_hash_net.make_backbone = make_blocks
"""
