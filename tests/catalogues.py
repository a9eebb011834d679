"""Catalogues in memory, without files."""

from pathlib import Path

import numpy as np

from fhn_jax.data.catalogue import Catalogue, Outfits, Split


def outfits(rows):
    """Outfits of rows (user, item, …)."""
    table = np.array(rows, np.int32)
    return Outfits(table[:, 0].copy(), table[:, 1:].copy())


def catalogue(positives, sizes, *, slots=(0, 1, 2), negatives=None):
    """A catalogue with a train split alone.

    Args:
      positives: rows (user, item, …).
      sizes: number of items of each category.
      slots: the category index of each slot.
      negatives: kind → rows (user, item, …).
    """
    train = outfits(positives)
    names = tuple(
        tuple(f"{category}_{i}.jpg" for i in range(size))
        for category, size in enumerate(sizes)
    )
    return Catalogue(
        root=Path("data"),
        variant="8",
        dataset="data",
        num_users=int(train.users.max()) + 1,
        categories=("top", "bottom", "shoe")[: len(sizes)],
        slots=slots,
        names=names,
        splits={
            "train": Split(
                "train",
                train,
                {kind: outfits(rows) for kind, rows in (negatives or {}).items()},
            )
        },
        fitb={},
        checksum="0" * 64,
        train_checksum="0" * 64,
    )


def random_positives(users, each, sizes, slots=(0, 1, 2), seed=0):
    """Rows (user, item, …): for each user so many distinct outfits."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        own = set()
        while len(own) < each:
            own.add(tuple(int(rng.integers(sizes[c])) for c in slots))
        rows += [(user, *outfit) for outfit in sorted(own)]
    return rows
