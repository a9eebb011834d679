"""Outfits that users do not like: negatives, hard negatives and wrong answers.

All keep the template of their positive, and none is a positive of its user. None is
anybody's positive either, except of one item alone: nearly every item is somebody's.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64, UInt64

from fhn_jax.data.catalogue import template_masks
from fhn_jax.data.negatives import MAX_REDRAWS, outfit_keys
from fhn_jax.errors import InputError

CANDIDATES = 4
_AT_ONCE = 2**18


@dataclasses.dataclass(frozen=True)
class Given:
    """Negatives or questions that a shop gives, in its order.

    Attributes:
      label: of the table, for people.
      users, items: a row is an outfit.
      splits: "train", "val" or "test".
      kinds: "random" or "hard".
    """

    label: str
    users: Int[np.ndarray, " n"]
    items: Int[np.ndarray, "n s"]
    splits: np.ndarray
    kinds: np.ndarray

    def take(self, split: str, kind: str) -> "Given":
        """Those of a split and kind."""
        which = (self.splits == split) & (self.kinds == kind)
        return Given(
            self.label,
            self.users[which],
            self.items[which],
            self.splits[which],
            self.kinds[which],
        )

    def questions(
        self,
    ) -> tuple[Int[np.ndarray, " q"], Int[np.ndarray, "q c s"]]:
        """The rows as questions: each as many rows, the answer first.

        Raises:
          ValueError: a question has other users or fewer rows than others.
        """
        count, rest = divmod(len(self.users), CANDIDATES)
        users = self.users.reshape(-1, CANDIDATES) if not rest else self.users[:, None]
        if rest or (users != users[:, :1]).any():
            raise InputError(
                f"{self.label}: expected {CANDIDATES} rows for each question, of one user "
                "and the answer first"
            )
        return users[:, 0], self.items.reshape(count, CANDIDATES, -1)


class Taken:
    """Which outfits are positives, of anybody and of whom."""

    def __init__(
        self,
        users: Int[np.ndarray, " n"],
        items: Int[np.ndarray, "n s"],
        sizes: Sequence[int],
    ):
        """Notes the positives of all splits.

        Args:
          sizes: items of each slot.
        """
        self._sizes = list(sizes)
        self._users = int(users.max()) + 1
        self._all = np.unique(outfit_keys(items, self._sizes))
        self._own = np.unique(self._own_keys(users, items))

    def _own_keys(self, users, items) -> UInt64[np.ndarray, " n"]:
        table = np.concatenate([users[:, None], items], axis=1)
        return outfit_keys(table, [self._users, *self._sizes])

    def own(
        self, users: Int[np.ndarray, " n"], items: Int[np.ndarray, "n s"]
    ) -> Bool[np.ndarray, " n"]:
        """Whether each is a positive of its user."""
        return _within(self._own_keys(users, items), self._own)

    def anybody(
        self, users: Int[np.ndarray, " n"], items: Int[np.ndarray, "n s"]
    ) -> Bool[np.ndarray, " n"]:
        """Whether each is a positive of anybody; one item alone, of its user."""
        single = (items >= 0).sum(axis=1) == 1
        taken = _within(outfit_keys(items, self._sizes), self._all)
        taken[single] = self.own(users[single], items[single])
        return taken


def _within(
    keys: UInt64[np.ndarray, " n"], table: UInt64[np.ndarray, " m"]
) -> Bool[np.ndarray, " n"]:
    at = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return table[at] == keys


def pools(
    items: Int[np.ndarray, "n s"], all_items: Int[np.ndarray, "m s"]
) -> list[Int32[np.ndarray, " _"]]:
    """The items of each slot that are drawn from.

    Those that the positives of the split use: one that nobody chose would give itself
    away. Where they are fewer than questions need, those of all splits.

    Args:
      items: positives of the split.
      all_items: positives of all splits.
    """
    found = []
    for slot in range(items.shape[1]):
        used = np.unique(items[:, slot][items[:, slot] >= 0])
        if len(used) < 2 * CANDIDATES:
            used = np.unique(all_items[:, slot][all_items[:, slot] >= 0])
        found.append(used)
    return found


def random_negatives(
    users: Int[np.ndarray, " n"],
    items: Int[np.ndarray, "n s"],
    choices: Sequence[Int32[np.ndarray, " _"]],
    count: int,
    taken: Taken,
    rng: np.random.Generator,
) -> Int32[np.ndarray, "n k s"]:
    """Outfits of items drawn on their own, `count` to each positive.

    Raises:
      ValueError: nearly all that could be drawn are positives.
    """
    drawn = np.empty((len(items), count, items.shape[1]), np.int32)
    for start in range(0, len(items), _AT_ONCE // count + 1):
        part = slice(start, start + _AT_ONCE // count + 1)
        owners = np.repeat(users[part], count)
        rows = np.repeat(items[part], count, axis=0).astype(np.int32)
        todo = np.arange(len(rows))
        for _ in range(MAX_REDRAWS):
            for slot, pool in enumerate(choices):
                where = todo[rows[todo, slot] >= 0]
                rows[where, slot] = pool[rng.integers(len(pool), size=len(where))]
            todo = todo[taken.anybody(owners[todo], rows[todo])]
            if not len(todo):
                break
        else:
            raise InputError(
                f"no negative found in {MAX_REDRAWS} draws: nearly all combinations of "
                f"the items of a split ({', '.join(str(len(p)) for p in choices)} by "
                "slot) are positives; import more items, or fewer likes"
            )
        drawn[part] = rows.reshape(-1, count, items.shape[1])
    return drawn


def hard_negatives(
    users: Int[np.ndarray, " n"],
    items: Int[np.ndarray, "n s"],
    count: int,
    taken: Taken,
    rng: np.random.Generator,
    *,
    only: Int[np.ndarray, " m"] | None = None,
) -> Int32[np.ndarray, "m k s"] | None:
    """Positives of other users, `count` to each positive; None if there are too few.

    Args:
      only: the positives to draw for; by default for all. A row may come twice.
    """
    masks = template_masks(items)
    wanted = np.arange(len(items)) if only is None else only
    drawn = np.empty((len(wanted), count, items.shape[1]), np.int32)
    for mask in np.unique(masks[wanted]):
        same = np.flatnonzero(masks == mask)
        places = np.flatnonzero(masks[wanted] == mask)
        for start in range(0, len(places), _AT_ONCE // count + 1):
            part = places[start : start + _AT_ONCE // count + 1]
            owners = np.repeat(users[wanted[part]], count)
            rows = np.empty((len(owners), items.shape[1]), np.int32)
            todo = np.arange(len(rows))
            for _ in range(MAX_REDRAWS):
                rows[todo] = items[same[rng.integers(len(same), size=len(todo))]]
                todo = todo[taken.own(owners[todo], rows[todo])]
                if not len(todo):
                    break
            else:
                return None
            drawn[part] = rows.reshape(-1, count, items.shape[1])
    return drawn


def put_dislikes(
    negatives: Int32[np.ndarray, "n k s"],
    users: Int[np.ndarray, " n"],
    disliked: tuple[Int[np.ndarray, " m"], Int[np.ndarray, "m s"]],
) -> int:
    """Makes explicit dislikes the first negatives of their user's positives, in place.

    A user's dislikes of a template go round: positive i gets those from k·i on.

    Args:
      negatives: of each positive; all slots that are -1 tell its template.
      users: of each positive.
      disliked: users and items of the dislikes.
    Returns:
      how many negatives they are.
    """
    by_user: dict[tuple[int, int], list[int]] = {}
    for row, (user, mask) in enumerate(
        zip(disliked[0].tolist(), template_masks(disliked[1]).tolist(), strict=True)
    ):
        by_user.setdefault((user, mask), []).append(row)
    masks = template_masks(negatives[:, 0])
    concerned = np.flatnonzero(np.isin(users, disliked[0]))
    turn: dict[tuple[int, int], int] = {}
    count = negatives.shape[1]
    placed = 0
    for positive in concerned.tolist():
        key = int(users[positive]), int(masks[positive])
        rows = by_user.get(key)
        if not rows:
            continue
        some = min(count, len(rows))
        start = turn.get(key, 0)
        chosen = [rows[(start + n) % len(rows)] for n in range(some)]
        turn[key] = start + some
        negatives[positive, :some] = disliked[1][chosen]
        placed += some
    return placed


def questions(
    users: Int[np.ndarray, " n"],
    items: Int[np.ndarray, "n s"],
    choices: Sequence[Int32[np.ndarray, " _"]],
    taken: Taken,
    rng: np.random.Generator,
) -> tuple[Int64[np.ndarray, " q"], Int32[np.ndarray, "q c s"]]:
    """Positives, each with copies that have another item in one slot.

    Returns:
      which positives became questions; and the candidates, the answer first. A slot of
      fewer items than candidates is not asked for.
    """
    enough = np.array([len(pool) >= CANDIDATES for pool in choices])
    asked = np.flatnonzero(((items >= 0) & enough).any(axis=1))
    possible = (items[asked] >= 0) & enough
    slot = np.where(possible, rng.random(possible.shape), -1).argmax(axis=1)
    candidates = np.repeat(items[asked][:, None], CANDIDATES, axis=1).astype(np.int32)
    good = np.ones(len(asked), bool)
    for wrong in range(1, CANDIDATES):
        todo = np.arange(len(asked))
        for _ in range(MAX_REDRAWS):
            for number, pool in enumerate(choices):
                where = todo[slot[todo] == number]
                draws = pool[rng.integers(len(pool), size=len(where))]
                candidates[where, wrong, number] = draws
            drawn = np.take_along_axis(
                candidates[todo, :, :], slot[todo][:, None, None], axis=2
            )[:, : wrong + 1, 0]
            again = (drawn[:, :-1] == drawn[:, -1:]).any(axis=1)
            again |= taken.anybody(users[asked[todo]], candidates[todo, wrong])
            todo = todo[again]
            if not len(todo):
                break
        good[todo] = False
    return asked[good], candidates[good]
