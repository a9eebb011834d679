"""Encoders: from features to the latents that the hash layer turns into codes."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

INIT_STDDEV = 0.01


def normal_linear(
    inputs: int, outputs: int, *, use_bias: bool, stddev: float, rngs: nnx.Rngs
) -> nnx.Linear:
    """A linear layer with weights N(0, stddev) and bias 0.

    Of the highest precision: signs of latents become bits, and those near zero should
    not differ between machines more than they must.
    """
    return nnx.Linear(
        inputs,
        outputs,
        use_bias=use_bias,
        kernel_init=nnx.initializers.normal(stddev),
        precision="highest",
        rngs=rngs,
    )


def dropout(x: Array, rate: float, rngs: nnx.Rngs | None) -> Array:
    """Dropout that draws from `rngs`, or the identity when there are none."""
    return nnx.Dropout(rate)(x, rngs=rngs, deterministic=rngs is None)


class Head(nnx.Module):
    """[dropout →] Linear → ReLU → dropout → Linear without bias: features to latents.

    The visual head of the reference drops its input too and is F → F/2 → bits; the text
    head is T → 1024 → bits.

    Args:
      inputs: length of the features.
      hidden: length of the hidden layer.
      bits: length of a code.
      input_dropout: share of the input features dropped in training.
      dropout: share of the hidden units dropped in training.
      stddev: of the initial weights; 0 takes He's sqrt(2 / inputs) for the hidden and
        sqrt(1 / hidden) for the last layer, which starts adaptive optimisers at codes
        of useful size.
      gain: of the hidden layer's initial weights, which have `gain` times that
        deviation. He's takes features of mean square 1; vectors of length 1 want more.
    Source: Lu et al., CVPR 2019, section 4.2.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        bits: int,
        *,
        input_dropout: float,
        dropout: float,
        stddev: float = INIT_STDDEV,
        gain: float = 1.0,
        rngs: nnx.Rngs,
    ):
        self.input_dropout = input_dropout
        self.dropout = dropout
        self.hidden = normal_linear(
            inputs,
            hidden,
            use_bias=True,
            stddev=gain * (stddev or (2 / inputs) ** 0.5),
            rngs=rngs,
        )
        self.out = normal_linear(
            hidden,
            bits,
            use_bias=False,
            stddev=stddev or (1 / hidden) ** 0.5,
            rngs=rngs,
        )

    def __call__(
        self, x: Float[Array, "n f"], rngs: nnx.Rngs | None = None
    ) -> Float[Array, "n d"]:
        """Latents of a batch of items; dropout only when `rngs` are given."""
        x = dropout(x, self.input_dropout, rngs)
        x = jax.nn.relu(self.hidden(x))
        return self.out(dropout(x, self.dropout, rngs))


class UserEncoder(nnx.Module):
    """User latents: an embedding, or shared archetypes mixed for each user.

    Args:
      num_users: number of users.
      bits: length of a code.
      share_user: Linear(users, 128) with bias → softmax → Linear(128, bits), so that
        users are mixtures of 128 archetypes.
      stddev: of the initial weights.
    Source: Lu et al., CVPR 2019 and its release (share_user).
    """

    archetypes = 128

    def __init__(
        self,
        num_users: int,
        bits: int,
        *,
        share_user: bool = False,
        stddev: float = INIT_STDDEV,
        rngs: nnx.Rngs,
    ):
        width = self.archetypes if share_user else bits
        table = nnx.initializers.normal(stddev)(rngs.params(), (num_users, width))
        # Cut along the bits, which are a multiple of 8 whatever the number of users:
        # looking up a user then needs no traffic.
        self.embedding = nnx.Param(table, mesh_axes=(None, "model"))
        self.bias = nnx.Param(jnp.zeros(width)) if share_user else None
        self.out = (
            normal_linear(width, bits, use_bias=False, stddev=stddev, rngs=rngs)
            if share_user
            else None
        )

    def __call__(self, users: Int[Array, " b"]) -> Float[Array, "b d"]:
        """Latents of users by id."""
        z = self.embedding[users]
        if self.out is None or self.bias is None:
            return z
        return self.out(jax.nn.softmax(z + self.bias[None, :], axis=-1))
