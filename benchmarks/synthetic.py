"""Networks and data of the true sizes, without files, for benchmarks.

Nothing here needs tensorflow, lmdb, ml_collections or wandb: a machine with jax, flax
and optax can measure.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from fhn_jax.data.catalogue import Catalogue, Outfits, Split
from fhn_jax.models.augment import Augmentation
from fhn_jax.models.fashion_hash_net import PRECOMPUTED, FashionHashNet, Shape
from fhn_jax.models.hashing import Hash
from fhn_jax.training.objective import Objective
from fhn_jax.training.rows import skipped_step
from fhn_jax.training.step import Trainer, make_optimizer

SLOTS = (0, 1, 2)
SINGLE = ((0,), (1,), (2,))
CATEGORIES = ("top", "bottom", "shoe")
TEXT_DIM = 2400
BITS = 128
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RATES = {
    "sgd": dict(user=10.0, backbone=0.001, visual=0.01, text=0.01, matching=0.1),
    "adam": dict(user=0.01, backbone=1e-5, visual=1e-4, text=1e-4, matching=1e-3),
}
# The sizes of Polyvore-630: 205,234 items, and its users and training outfits.
POLYVORE_630 = dict(items=(68_412, 68_411, 68_411), users=630, outfits=127_326)


def model(
    modalities: tuple[str, ...],
    backbone: str,
    image_size: int,
    users: int,
    *,
    features: int = 0,
    likes: bool = False,
) -> FashionHashNet:
    """The network with the reference's settings, on start weights.

    Args:
      features: width of the vectors that stand for images; 0 for images.
      likes: of single items, in place of outfits.
    """
    drawn = min(users, POLYVORE_630["users"])
    shape = Shape(
        drawn,
        SLOTS,
        text_dim=TEXT_DIM,
        image_size=image_size,
        feature_dim=features,
        templates=SINGLE if likes else (),
    )
    visual = dict(hidden=0, input_dropout=0.5, dropout=0.5, stddev=0.01)
    text = dict(hidden=1024, input_dropout=0.0, dropout=0.5, stddev=0.01)
    network = FashionHashNet(
        shape,
        modalities=modalities,
        bits=BITS,
        hash=Hash("ste"),
        backbone=dict(name=PRECOMPUTED if features else backbone),
        visual_head=visual,
        text_head=text,
        single=False,
        user=dict(share_user=False, stddev=0.01),
        matching=dict(hash_types=3),
        rngs=nnx.Rngs(0),
    )
    # Drawing millions of them would take three times their memory, and a while.
    table = network.user.embedding[...]
    network.user.embedding.set_value(table[jnp.arange(users) % drawn])
    return network


def trainer(
    network: FashionHashNet,
    segments: tuple[int, ...],
    *,
    optimizer: str = "sgd",
    rows: bool = True,
    **options,
) -> Trainer:
    """The training step with the reference's settings.

    Args:
      network: from `model`.
      segments: rows of each category in a batch's items.
      optimizer: "sgd" or "adam".
      rows: whether a step passes over the rows of its own users alone.
      options: of `Trainer`.
    """
    settings = dict(weight_decay=1e-6, momentum=0.9)
    rates = RATES[optimizer]
    skipped = skipped_step(optimizer, rates["user"], **settings) if rows else None
    return Trainer(
        network,
        make_optimizer(optimizer, rates, **settings),
        Objective("bpr", binary_share=0.5, vse_weight=0.1, margin=0.1),
        segments=segments,
        slots=SLOTS,
        augmentation=Augmentation(flip=True),
        mean=MEAN,
        std=STD,
        skipped=skipped,
        **options,
    )


def catalogue(
    items: tuple[int, ...], users: int, outfits: int, likes: bool = False
) -> Catalogue:
    """A catalogue with a train split of random outfits, every user with some.

    Args:
      items: of each category.
      users, outfits: how many.
      likes: whether the outfits are single items, of any category.
    """
    rng = np.random.default_rng(0)
    owners = np.sort(np.resize(np.arange(users, dtype=np.int32), outfits))
    table = np.stack([rng.integers(n, size=outfits) for n in items], axis=1)
    if likes:
        liked = rng.integers(len(items), size=(outfits, 1))
        table[liked != np.arange(len(items))] = -1
    positives = Outfits(owners, table.astype(np.int32))
    return Catalogue(
        root=Path("synthetic"),
        variant="synthetic",
        dataset="synthetic",
        num_users=users,
        categories=CATEGORIES,
        slots=SLOTS,
        names=tuple(
            tuple(f"{category}_{i}.jpg" for i in range(n))
            for category, n in zip(CATEGORIES, items, strict=True)
        ),
        splits={"train": Split("train", positives, {})},
        fitb={},
        checksum="0" * 64,
        train_checksum="0" * 64,
    )
