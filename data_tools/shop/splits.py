"""Which likes train, which choose the model, and which test it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int, Int8, Int32

from fhn_jax.errors import InputError

METHODS = ("random", "time", "leave-last-out")
TRAIN, VAL, TEST, LEFT_OUT = 0, 1, 2, 3
SPLITS = {"train": TRAIN, "val": VAL, "test": TEST}
# With fewer likes of a user, none is spared to test.
SPARED = 3


class Judgements(NamedTuple):
    """What users said of outfits, in the order of the shop's files.

    Attributes:
      users: numbers of the users.
      items: numbers within the slot, -1 where the outfit has none.
      liked: else disliked.
      times: Unix seconds, NaN where unknown.
      counts: how often it was liked.
      splits: given ones, -1 where none is.
      file, row: where it stands.
    """

    users: Int32[np.ndarray, " n"]
    items: Int32[np.ndarray, "n s"]
    liked: Bool[np.ndarray, " n"]
    times: Float64[np.ndarray, " n"]
    counts: Int32[np.ndarray, " n"]
    splits: Int8[np.ndarray, " n"]
    file: Int8[np.ndarray, " n"]
    row: Int[np.ndarray, " n"]

    def take(self, which: np.ndarray) -> "Judgements":
        """Some of them."""
        return Judgements(*(each[which] for each in self))


def split_likes(
    all_: Judgements,
    method: str,
    shares: tuple[float, float],
    new_items: bool,
    rng: np.random.Generator,
) -> tuple[Int8[np.ndarray, " n"], str]:
    """A split for each judgement.

    Args:
      method: "random": of each user's likes; "time": all before a moment, up to another,
        and after it; "leave-last-out": each user's last like tests, the one before it
        chooses the model.
      shares: of val and of test.
      new_items: no item of the test split is in another one.
    Returns:
      `TRAIN`, `VAL`, `TEST`, or `LEFT_OUT` where no split may have it; and why that is.
    """
    order = all_.times if not np.isnan(all_.times).any() else np.zeros(len(all_.users))
    if method == "time":
        if np.isnan(all_.times).any():
            raise InputError("split=time needs a time of each like")
        cuts = np.quantile(all_.times[all_.liked], [1 - sum(shares), 1 - shares[1]])
        splits = np.searchsorted(cuts, all_.times, side="left").astype(np.int8)
        return splits, ""
    number = len(all_.users)
    splits = np.zeros(number, np.int8)
    if new_items:
        splits = _by_items(all_, shares[1], rng)
        chosen = (splits == TRAIN) & (rng.random(number) < shares[0])
        splits[chosen] = VAL
        return splits, "some of its items are new in the test split, others are not"
    key = rng.random(number) if method == "random" else order
    # Dislikes are dealt out like likes, and apart from them.
    for liked in (True, False):
        which = np.flatnonzero(all_.liked == liked)
        rank, total = _ranks(all_.users[which], key[which])
        if method == "random":
            test = np.maximum(1, np.round(shares[1] * total))
            val = np.maximum(shares[0] > 0, np.round(shares[0] * total))
        else:
            test, val = np.ones(len(which)), np.full(len(which), shares[0] > 0)
        few = total < SPARED
        behind = total - 1 - rank
        part = np.where(behind < test, TEST, np.where(behind < test + val, VAL, TRAIN))
        splits[which] = np.where(few, TRAIN, part)
    return splits, ""


def _ranks(
    users: Int[np.ndarray, " n"], key: np.ndarray
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The place of each among those of its user, from 0 by key; and their number."""
    order = np.lexsort((key, users))
    of = users[order]
    first = np.flatnonzero(np.concatenate([[True], of[1:] != of[:-1]])[: len(of)])
    lengths = np.diff(np.append(first, len(of)))
    rank, total = np.empty(len(of), np.int64), np.empty(len(of), np.int64)
    rank[order] = np.arange(len(of)) - np.repeat(first, lengths)
    total[order] = np.repeat(lengths, lengths)
    return rank, total


def _by_items(
    all_: Judgements, share: float, rng: np.random.Generator
) -> Int8[np.ndarray, " n"]:
    """Splits by whether all items of an outfit are of the test's, or none is."""
    sizes = (all_.items >= 0).sum(axis=1)
    # So many items that outfits of the mean size are tested in this share.
    odds = (share / (1 - share)) ** (1 / sizes.mean())
    new = np.zeros(all_.items.shape, bool)
    for slot in range(all_.items.shape[1]):
        column = all_.items[:, slot]
        is_new = rng.random(max(int(column.max()), 0) + 1) < odds / (1 + odds)
        new[:, slot] = is_new[column] & (column >= 0)
    count = new.sum(axis=1)
    splits = np.where(count == sizes, TEST, np.where(count, LEFT_OUT, TRAIN))
    return splits.astype(np.int8)
