"""Negative outfits for training."""

import numpy as np
from jaxtyping import Bool, Int, Int32, UInt64

from fhn_jax.data.catalogue import (
    Catalogue,
    items_by_category,
    template_masks,
    templates_of,
)
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
    |                 | never an outfit that is anybody's positive, nor a single item  |
    |                 | that is this user's                                            |
    | `hard_online`   | with probability `hard_share` a positive of another user that  |
    |                 | is not this user's, else (or if there is none) random          |
    | `random_fixed`, | `ratio` of those in the files, in turn by epoch                |
    | `hard_fixed`    |                                                                |

    In epoch e (from 0) of E, the share of hard ones is `hard_share`, or with the
    schedule "sqrt" hard_share · sqrt(e / E).

    All have the template of their positive: items in the same slots. A positive with one
    top (both top slots equal) has random negatives with one top; hard and fixed ones are
    as they come.

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
      pools: items to draw from, of each slot; -1 alone for one that is never filled.
      order: rows of the training positives, sorted by template.
      groups: of each positive's template, [n, 2]: where its rows start in `order` and how
        many they are.
      shared: whether several users have positives of a positive's template, [n].
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
            self.used_items = items_by_category(
                np.concatenate([self.positives.items, items]), self.slots
            )
            return
        users, items = self.positives.users, self.positives.items
        self.used_items = items_by_category(items, self.slots)
        self.sizes = [len(catalogue.names[c]) for c in self.slots]
        nothing = np.array([-1], np.int32)
        self.pools = [
            self.used_items[c] if len(self.used_items[c]) else nothing
            for c in self.slots
        ]
        self.known = np.unique(self._keys(owners(users, items), items))
        self._check_possible(catalogue)
        self.own = np.unique(self._keys(users, items))
        if self.hard_share and len(np.unique(users)) < 2:
            raise InputError("train.negatives='hard_online' needs at least two users")
        masks = template_masks(items)
        self.order = np.argsort(masks, kind="stable").astype(np.int32)
        each, template, counts = np.unique(
            masks, return_inverse=True, return_counts=True
        )
        groups = np.stack([np.cumsum(counts) - counts, counts], axis=1)
        self.groups = groups[template].astype(np.int32)
        several = [len(np.unique(users[masks == mask])) > 1 for mask in each]
        self.shared = np.array(several)[template]

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
        absent = self.positives.items < 0
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
            drawn[absent[rows[0]]] = -1
            items[rows] = drawn
            whose = owners(self.positives.users[rows[0]], drawn)
            todo[rows] = np.isin(self._keys(whose, drawn), self.known)
            if not todo.any():
                return items
        raise no_negative_error()

    def _hard(self, rng, shape):
        """Positives of the same template, and whether each is a valid hard negative."""
        users = np.broadcast_to(self.positives.users[:, None], shape)
        items = np.full((*shape, len(self.slots)), -1, np.int64)
        valid = np.zeros(shape, bool)
        todo = np.broadcast_to(self.shared[:, None], shape).copy()
        groups = np.unique(self.groups[self.shared], axis=0).tolist()
        for _ in range(MAX_REDRAWS):
            for start, count in groups:
                mine = self.groups[:, 0] == start
                rows = np.nonzero(todo & mine[:, None])
                other = start + rng.integers(count, size=len(rows[0]))
                drawn = self.positives.items[self.order[other]]
                items[rows] = drawn
                fits = ~np.isin(self._keys(users[rows], drawn), self.own)
                valid[rows], todo[rows] = fits, ~fits
            if not todo.any():
                break
        return items, valid

    def _check_possible(self, catalogue: Catalogue) -> None:
        """Raises InputError where a template leaves no random negative to draw."""
        users, items = self.positives.users, self.positives.items
        keys, masks = self._keys(owners(users, items), items), template_masks(items)
        for template in templates_of([items]):
            rows = masks == sum(1 << slot for slot in template)
            possible = np.prod([float(len(self.pools[slot])) for slot in template])
            name = catalogue.template_name(template)
            _, first = np.unique(keys[rows], return_index=True)
            if len(template) == 1:
                each = np.bincount(users[rows][first])
                if each.max() >= possible:
                    raise InputError(
                        f"user {each.argmax()} likes every {name} of the training "
                        "outfits: there is no random negative to draw; use "
                        "train.negatives='random_fixed', or drop these likes"
                    )
            elif possible <= len(first):
                raise InputError(
                    f"every combination of the training items ({name}) is a positive: "
                    "there is no random negative to draw"
                )

    def _keys(self, users, items) -> UInt64[np.ndarray, "*n"]:
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


def owners(
    users: Int[np.ndarray, " n"], items: Int[np.ndarray, "n s"]
) -> Int[np.ndarray, " n"]:
    """Whose positives an outfit may not be, to be a negative: -1 is everybody's.

    A single item is nearly always a positive of somebody; only its own user's counts.
    """
    return np.where((items >= 0).sum(axis=-1) == 1, users, -1)


def no_negative_error() -> ValueError:
    """The error for data that leave nearly nothing to draw."""
    return InputError(
        f"no random negative found in {MAX_REDRAWS} draws: nearly all combinations of "
        "the training items are positives; use train.negatives='random_fixed'"
    )
