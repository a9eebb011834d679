"""The files of a variant: positives, negatives and questions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fhn_jax.data_tools.shop import draws
from fhn_jax.data_tools.shop.engine import write_csv
from fhn_jax.data_tools.shop.splits import SPLITS, Judgements
from jaxtyping import Int, Int8

from fhn_jax.data.catalogue import NEGATIVES
from fhn_jax.errors import InputError


def write_tuples(
    connection: Any,
    folder: Path,
    names: Sequence[str],
    all_: Judgements,
    splits: Int8[np.ndarray, " n"],
    given: Mapping[str, draws.Given],
    *,
    weights: bool,
    negatives: int,
    rng: np.random.Generator,
) -> list[str]:
    """Writes the files of all splits.

    Args:
      connection: a database.
      folder: of the variant.
      names: of the slots.
      all_: what users said of outfits.
      splits: of each.
      given: "negatives" and "questions" of the shop's own; others are drawn.
      weights: whether a like that is repeated is so many train positives.
      negatives: of each positive.
      rng: of all that is drawn.
    Returns:
      what must be said about it.
    """
    users, rows, liked = all_.users, all_.items, all_.liked
    sizes = [int(rows[:, k].max()) + 1 for k in range(len(names))]
    taken = draws.Taken(users[liked], rows[liked], sizes)
    notes = []

    def write(ending: str, owners: np.ndarray, outfits: np.ndarray) -> None:
        _write(connection, folder / ending, names, owners, outfits)

    for split, number in SPLITS.items():
        which = np.flatnonzero((splits == number) & liked)
        if not len(which):
            continue
        if split == "train" and weights:
            which = np.repeat(which, all_.counts[which])
        owners, positives = users[which], rows[which]
        choices = draws.pools(positives, rows[liked])
        write(f"tuples_{split}_posi", owners, positives[:, None])
        no = np.flatnonzero((splits == number) & ~liked)
        if "negatives" in given:
            for kind, ending in NEGATIVES.items():
                table = given["negatives"].take(split, kind)
                if len(table.users):
                    own = _of_positives(table, owners, split, kind)
                    write(f"tuples_{split}_{ending}", owners, own)
        elif split != "train" or len(no):
            drawn = draws.random_negatives(
                owners, positives, choices, negatives, taken, rng
            )
            placed = draws.put_dislikes(drawn, owners, (users[no], rows[no]))
            if len(no):
                notes.append(
                    f"{len(no):,} dislikes are {placed:,} of the {drawn[..., 0].size:,} "
                    f"{split} negatives"
                )
            write(f"tuples_{split}_nega", owners, drawn)
        if split == "train":
            continue
        if "negatives" not in given:
            hard = draws.hard_negatives(owners, positives, negatives, taken, rng)
            if hard is None:
                notes.append(
                    f"the {split} split has no hard negatives: a user has nearly all "
                    "outfits of the others"
                )
            else:
                write(f"tuples_{split}_nega_hard", owners, hard)
        if "questions" in given:
            table = given["questions"].take(split, "random")
            if not len(table.users):
                continue
            asked, candidates = table.questions()
        else:
            found, candidates = draws.questions(owners, positives, choices, taken, rng)
            asked = owners[found]
            if len(found) < len(owners):
                notes.append(
                    f"{len(owners) - len(found):,} of {len(owners):,} outfits of the "
                    f"{split} split are no question: too few items make other outfits"
                )
        if len(asked):
            path = folder / f"fill_in_blank_{split}"
            _write(connection, path, names, asked, candidates, side_by_side=True)
    return notes


def _of_positives(
    table: draws.Given, owners: Int[np.ndarray, " n"], split: str, kind: str
) -> Int[np.ndarray, "n k s"]:
    """Given negatives, as many to each positive."""
    count, rest = divmod(len(table.users), len(owners))
    if rest or not np.array_equal(np.repeat(owners, count), table.users):
        raise InputError(
            f"{table.label}: {len(table.users):,} {kind} negatives of the {split} split; "
            f"expected as many for each of its {len(owners):,} positives, in their order "
            "and with their users"
        )
    return table.items.reshape(len(owners), count, -1)


def _write(
    connection: Any,
    path: Path,
    names: Sequence[str],
    users: Int[np.ndarray, " n"],
    outfits: Int[np.ndarray, "n k s"],
    *,
    side_by_side: bool = False,
) -> None:
    """Writes the k outfits of each user's row, after one another or side by side."""
    several = outfits.shape[1]
    if side_by_side:
        header = ",".join(("user", *names) * several)
        columns = {}
        for number in range(several):
            columns[f"user {number}"] = users
            for k in range(len(names)):
                columns[f"{number} {k}"] = outfits[:, number, k].copy()
    else:
        header = ",".join(("user", *names))
        columns = {"user": np.repeat(users, several)}
        columns |= {f"{k}": outfits[:, :, k].ravel() for k in range(len(names))}
    write_csv(connection, path, header, columns)
