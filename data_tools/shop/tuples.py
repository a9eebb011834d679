"""The files of a variant: positives, negatives and questions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fhn_jax.data_tools.shop import draws
from fhn_jax.data_tools.shop.engine import write_csv
from fhn_jax.data_tools.shop.splits import SPLITS, Judgements
from jaxtyping import Int, Int8, Int32

from fhn_jax.data.catalogue import NEGATIVES, Catalogue, Outfits, Questions, Split
from fhn_jax.errors import InputError


def write_tuples(
    connection: Any,
    folder: Path,
    names: Sequence[str],
    all_: Judgements,
    splits: Int8[np.ndarray, " n"],
    given: Mapping[str, draws.Given],
    before: Catalogue | None = None,
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
      before: what is there already: its rows come first and stay, but that what has
        become a positive of its user is no longer a negative or a wrong answer.
      weights: whether a like that is repeated is so many train positives.
      negatives: of each positive.
      rng: of all that is drawn.
    Returns:
      what must be said about it.
    """
    old = {} if before is None else before.splits
    liked = all_.liked
    users = np.concatenate(
        [*(s.positives.users for s in old.values()), all_.users[liked]]
    )
    rows = np.concatenate(
        [*(s.positives.items for s in old.values()), all_.items[liked]]
    )
    tables = [rows, *(n.items for s in old.values() for n in s.negatives.values())]
    sizes = [max(int(t[:, k].max()) for t in tables) + 1 for k in range(len(names))]
    taken = draws.Taken(users, rows, sizes)
    notes = []

    def write(ending: str, owners: np.ndarray, outfits: np.ndarray) -> None:
        _write(connection, folder / ending, names, owners, outfits)

    for split, number in SPLITS.items():
        which = np.flatnonzero((splits == number) & liked)
        there = old.get(split) or Split(split, _no_outfits(len(names)), {})
        if not len(which) and not len(there.positives):
            continue
        if split == "train" and weights:
            which = np.repeat(which, all_.counts[which])
        owners = np.concatenate([there.positives.users, all_.users[which]])
        positives = np.concatenate([there.positives.items, all_.items[which]])
        choices = draws.pools(positives, rows)
        write(f"tuples_{split}_posi", owners, positives[:, None])
        no = np.flatnonzero((splits == number) & ~liked)

        every = np.arange(len(owners))

        def draw(kind, some, count, of=(owners, positives, choices)):
            owners, positives, choices = of
            if kind == "hard":
                return draws.hard_negatives(
                    owners, positives, count, taken, rng, only=some
                )
            of = (owners[some], positives[some], choices)
            return draws.random_negatives(*of, count, taken, rng)

        if "negatives" in given:
            for kind, ending in NEGATIVES.items():
                table = given["negatives"].take(split, kind)
                if len(table.users):
                    own = _of_positives(table, owners, split, kind)
                    write(f"tuples_{split}_{ending}", owners, own)
        elif split != "train" or len(no) and len(which) or "random" in there.negatives:
            drawn = _drawn(there, "random", every, negatives, taken, draw)
            assert drawn is not None
            new = drawn[len(there.positives) :]
            placed = draws.put_dislikes(
                *(new, all_.users[which], (all_.users[no], all_.items[no]))
            )
            if len(no) and len(which):
                notes.append(
                    f"{len(no):,} dislikes are {placed:,} of the {new[..., 0].size:,} "
                    f"{split} negatives"
                )
            write(f"tuples_{split}_nega", owners, drawn)
        if split == "train":
            continue
        if "negatives" not in given:
            drawn = None
            if not len(there.positives) or "hard" in there.negatives:
                drawn = _drawn(there, "hard", every, negatives, taken, draw)
            if drawn is None:
                notes.append(
                    f"the {split} split has no hard negatives: a user has nearly all "
                    "outfits of the others"
                )
            else:
                write(f"tuples_{split}_nega_hard", owners, drawn)
        if "questions" in given:
            table = given["questions"].take(split, "random")
            if not len(table.users):
                continue
            asked, candidates = table.questions()
        else:
            first = len(there.positives)
            found, candidates = draws.questions(
                *(owners[first:], positives[first:], choices, taken, rng)
            )
            asked = owners[first:][found]
            if len(found) < len(which):
                notes.append(
                    f"{len(which) - len(found):,} of {len(which):,} outfits of the "
                    f"{split} split are no question: too few items make other outfits"
                )
            if before is not None and split in before.fitb:
                known = _still_wrong(before.fitb[split], taken)
                asked = np.concatenate([known.users, asked])
                candidates = np.concatenate([known.items, candidates])
        if len(asked):
            path = folder / f"fill_in_blank_{split}"
            _write(connection, path, names, asked, candidates, side_by_side=True)
    return notes


def _no_outfits(slots: int) -> Outfits:
    return Outfits(np.zeros(0, np.int32), np.zeros((0, slots), np.int32))


def _drawn(
    there: Split,
    kind: str,
    every: Int[np.ndarray, " n"],
    count: int,
    taken: draws.Taken,
    draw: Callable[[str, np.ndarray, int], np.ndarray | None],
) -> Int32[np.ndarray, "n k s"] | None:
    """The negatives of a split: those that are there, and new ones for the rest.

    Args:
      there: the split before.
      kind: of negatives.
      every: the positives, by row; those of before come first.
      count: of each positive, where there are none yet.
      draw: draws so many of a kind for each of some positives; None where it cannot.
    """
    if kind not in there.negatives:
        return draw(kind, every, count)
    first, count = len(there.positives), there.ratio(kind)
    owners, items = there.negatives[kind].users, there.negatives[kind].items.copy()
    # Who likes an outfit today may have had it as a negative.
    wrong = np.flatnonzero(taken.own(owners, items))
    again, new = draw(kind, wrong // count, 1), draw(kind, every[first:], count)
    if again is None or new is None:
        return None
    items[wrong] = again[:, 0]
    return np.concatenate([items.reshape(first, count, items.shape[1]), new])


def _still_wrong(known: Questions, taken: draws.Taken) -> Questions:
    """The questions of which no wrong answer has become a positive of its user."""
    wrong = known.items[:, 1:]
    owners = np.repeat(known.users, wrong.shape[1])
    liked = taken.own(owners, wrong.reshape(len(owners), -1))
    stays = ~liked.reshape(wrong.shape[:2]).any(axis=1)
    return Questions(known.users[stays], known.items[stays])


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
