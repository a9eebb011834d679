"""Negative outfits for training."""

import numpy as np
from jaxtyping import Bool, Int, Int32, UInt64

from fhn_jax.data.catalogue import Catalogue
from fhn_jax.errors import InputError

NEGATIVES = ("random_online", "random_fixed", "hard_online", "hard_fixed")
HARD_SCHEDULES = ("constant", "sqrt")
MAX_REDRAWS = 100


def outfit_keys(
    items: Int[np.ndarray, "*n s"], sizes: list[int]
) -> UInt64[np.ndarray, "*n"]:
    """One integer an outfit, equal for equal outfits.

    Different outfits have different keys while their combinations fit 64 bits; beyond
    that (four slots of many items), keys wrap around and two outfits share one with a
    probability of about 2⁻⁶⁴, at the cost of a needless redraw.

    Args:
      items: item ids within the category of each slot, -1 where there is none.
      sizes: number of items of each slot's category.
    """
    keys = np.zeros(items.shape[:-1], np.uint64)
    for slot, size in enumerate(sizes):
        # An odd factor loses no bit when it wraps around. -1 counts as one more item.
        factor = np.uint64((size + 1) | 1)
        keys = keys * factor + (items[..., slot] + 1).astype(np.uint64)
    return keys


class NegativeSampler:
    """Draws the negatives of an epoch; the same (seed, epoch) gives the same ones.

    | kind            | negatives of a positive                                        |
    |-----------------|----------------------------------------------------------------|
    | `random_online` | each slot's item drawn from those of the training positives;   |
    |                 | never an outfit that is anybody's positive                     |
    | `hard_online`   | with probability `hard_share` a positive of another user that  |
    |                 | is not this user's, else random                                |
    | `random_fixed`, | `ratio` of those in the files, in turn by epoch                |
    | `hard_fixed`    |                                                                |

    In epoch e (from 0) of E, the share of hard ones is `hard_share`, or with the
    schedule "sqrt" hard_share · sqrt(e / E).

    A positive with one top (both top slots equal) has random negatives with one top;
    hard and fixed ones are as they come.

    Args:
      catalogue: the data; its train split is used.
      kind: one of `NEGATIVES`.
      ratio: negatives of each positive.
      hard_share, hard_schedule: see above.
      epochs: E of the schedule.
      seed: of the draws.
    Attributes:
      used_items: sorted ids of the items that positives and negatives may hold, per
        category.
    Raises:
      ValueError: unknown kind or schedule, a share out of range, files without these
        negatives, fewer of them than `ratio`, or nothing to draw from.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        kind: str,
        *,
        ratio: int = 1,
        hard_share: float = 0.8,
        hard_schedule: str = "constant",
        epochs: int = 1,
        seed: int = 0,
    ):
        if kind not in NEGATIVES:
            raise InputError(
                f"train.negatives={kind!r}: expected one of {', '.join(NEGATIVES)}"
            )
        if ratio < 1:
            raise InputError(f"train.ratio={ratio}: expected at least 1")
        if not 0 <= hard_share <= 1:
            raise InputError(f"train.hard_share={hard_share}: expected 0 to 1")
        if hard_schedule not in HARD_SCHEDULES:
            raise InputError(
                f"train.hard_schedule={hard_schedule!r}: expected one of "
                f"{', '.join(HARD_SCHEDULES)}"
            )
        split = catalogue.splits["train"]
        self.kind, self.ratio, self.seed = kind, ratio, seed
        self.hard_share = hard_share if kind == "hard_online" else 0.0
        self.hard_schedule, self.epochs = hard_schedule, epochs
        self.positives = split.positives
        self.slots = catalogue.slots
        if kind.endswith("_fixed"):
            name = kind.removesuffix("_fixed")
            file = "tuples_train_nega" + ("" if name == "random" else f"_{name}")
            # DIFFERS: the reference silently reads the random file for missing hard ones.
            if name not in split.negatives:
                raise InputError(
                    f"train.negatives={kind!r} needs the file {file} in "
                    f"tuples_{catalogue.variant}; it is not there; use train.negatives="
                    f"'{name}_online'"
                )
            stored = split.ratio(name)
            if stored < ratio:
                raise InputError(
                    f"train.ratio={ratio}, but {file} holds {stored} negatives a "
                    f"positive; lower it or use train.negatives='{name}_online'"
                )
            items = split.negatives[name].items
            self.fixed = items.reshape(len(split.positives), stored, -1)
            self.used_items = _items_by_category(
                np.concatenate([self.positives.items, items]), self.slots
            )
            return
        items = self.positives.items
        self.used_items = _items_by_category(items, self.slots)
        self.sizes = [len(catalogue.names[c]) for c in self.slots]
        self.pools = [self.used_items[c] for c in self.slots]
        self.keys = np.unique(outfit_keys(items, self.sizes))
        possible = np.prod([float(len(pool)) for pool in self.pools])
        if possible <= len(self.keys):
            raise InputError(
                "every combination of the training items is a positive: there is no "
                "random negative to draw"
            )
        self.own = np.unique(self._own_keys(self.positives.users, items))
        if self.hard_share and len(np.unique(self.positives.users)) < 2:
            raise InputError("train.negatives='hard_online' needs at least two users")

    def draw(self, epoch: int) -> Int32[np.ndarray, "n k s"]:
        """Negatives of all training positives for an epoch, in their order."""
        if self.kind.endswith("_fixed"):
            stored = self.fixed.shape[1]
            turn = (epoch * self.ratio + np.arange(self.ratio)) % stored
            return self.fixed[:, turn].astype(np.int32)
        rng = np.random.default_rng((self.seed, epoch))
        shape = (len(self.positives), self.ratio)
        items = self._random(rng, shape)
        if self.hard_share:
            hard = rng.random(shape) < self.hard_share_of(epoch)
            others, valid = self._hard(rng, shape)
            items = np.where((hard & valid)[..., None], others, items)
        return items.astype(np.int32)

    def hard_share_of(self, epoch):
        """Share of hard negatives in an epoch from 0, a number or, in jit, an array."""
        if self.hard_schedule == "sqrt":
            return self.hard_share * (epoch / self.epochs) ** 0.5
        return self.hard_share

    def _random(self, rng, shape):
        items = np.empty((*shape, len(self.slots)), np.int64)
        todo = np.ones(shape, bool)
        one_top = self._repeated_slots()
        for _ in range(MAX_REDRAWS):
            rows = np.nonzero(todo)
            drawn = np.stack(
                [
                    pool[rng.integers(len(pool), size=len(rows[0]))]
                    for pool in self.pools
                ],
                axis=-1,
            )
            for slot, repeats in one_top.items():
                same = repeats[rows[0]]
                drawn[same, slot] = drawn[same, slot - 1]
            items[rows] = drawn
            todo[rows] = np.isin(outfit_keys(drawn, self.sizes), self.keys)
            if not todo.any():
                return items
        raise no_negative_error()

    def _hard(self, rng, shape):
        """Positives of anybody, and whether each is a valid hard negative."""
        users = np.broadcast_to(self.positives.users[:, None], shape)
        items = np.empty((*shape, len(self.slots)), np.int64)
        valid = np.zeros(shape, bool)
        for _ in range(MAX_REDRAWS):
            rows = np.nonzero(~valid)
            drawn = self.positives.items[
                rng.integers(len(self.positives), size=len(rows[0]))
            ]
            items[rows] = drawn
            valid[rows] = ~np.isin(self._own_keys(users[rows], drawn), self.own)
            if valid.all():
                break
        return items, valid

    def _own_keys(self, users, items) -> UInt64[np.ndarray, "*n"]:
        table = np.concatenate([users[..., None].astype(np.int64), items], axis=-1)
        return outfit_keys(table, [int(self.positives.users.max()) + 1, *self.sizes])

    def _repeated_slots(self) -> dict[int, Bool[np.ndarray, " n"]]:
        """Second slots of a category → which positives leave them empty."""
        items = self.positives.items
        return {
            slot: items[:, slot] == items[:, slot - 1]
            for slot in range(1, len(self.slots))
            if self.slots[slot] == self.slots[slot - 1]
        }


def no_negative_error() -> ValueError:
    """The error for data that leave nearly nothing to draw."""
    return InputError(
        f"no random negative found in {MAX_REDRAWS} draws: nearly all combinations of "
        "the training items are positives; use train.negatives='random_fixed'"
    )


def _items_by_category(items, slots) -> tuple[Int32[np.ndarray, " _n"], ...]:
    return tuple(
        np.unique(items[:, np.array(slots) == category]).astype(np.int32)
        for category in range(max(slots) + 1)
    )
