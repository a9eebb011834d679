"""What is asked of stored outfits, and answered, wherever they are."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32, Int64, Shaped

from fhn_jax.codes import Codes
from fhn_jax.retrieval.arguments import check_count, one_user
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.caps import MORE, Caps
from fhn_jax.retrieval.filters import (
    ExcludeOutfits,
    Filters,
    OneOrEach,
    among,
    each_of,
    held,
    in_order,
    listed,
    parts_of,
    resolve_each,
)

Templates = Sequence[Sequence[str]] | None


@dataclass(frozen=True, eq=False)
class Hits:
    """The best outfits for a user, the best first; of equal scores the lower id.

    Attributes:
      outfits: ids, int64 [k]. Fewer than were asked for if no more are admitted.
      scores: float64 [k].
      items: int32 [k, s], ids within the category of the slot, -1 where the outfit's
        template has none.
      emptied_by: what leaves none, if there are none: the first filter after which, of
        those before it, no outfit is left.
    """

    outfits: Int64[np.ndarray, " k"]
    scores: Float64[np.ndarray, " k"]
    items: Int32[np.ndarray, "k s"]
    emptied_by: str | None = None

    def __len__(self) -> int:
        return len(self.outfits)

    @classmethod
    def none(cls, slots: int) -> "Hits":
        """No outfits of so many slots."""
        empty = np.empty((0, slots), np.int32)
        return cls(np.empty(0, np.int64), np.empty(0), empty)

    @classmethod
    def joined(cls, parts: Sequence["Hits"]) -> "Hits":
        """Several, one after the other."""
        outfits, scores, items = zip(
            *((part.outfits, part.scores, part.items) for part in parts), strict=True
        )
        return cls(
            np.concatenate(outfits), np.concatenate(scores), np.concatenate(items)
        )

    def take(self, rows: Shaped[np.ndarray, " n"] | slice) -> "Hits":
        """Some of them."""
        return Hits(self.outfits[rows], self.scores[rows], self.items[rows])


class OutfitSearch(abc.ABC):
    """Finds the best of stored outfits: here, on a cluster or in a database.

    Attributes:
      attributes: of the items, for filters; None if there are none.
    """

    def __init__(self, codes: Codes, attributes: Attributes | None):
        self._codes = codes
        self.attributes = attributes

    @abc.abstractmethod
    def __len__(self) -> int:
        """How many outfits can be found."""

    def check(self) -> None:  # noqa: B027  (what is in this process can always)
        """Raises UnavailableError if it cannot be asked now."""

    @abc.abstractmethod
    def find(
        self,
        users: Shaped[np.ndarray, "u ..."],
        k: int,
        score: str,
        filters: OneOrEach,
        templates: Templates,
    ) -> list[Hits]:
        """The k best outfits for each user, without a reason if there are none.

        Args and Raises: as `search_batch`, but for `at_most`.
        """

    def search_batch(
        self,
        users: Shaped[np.ndarray, "u ..."],
        k: int = 10,
        *,
        score: str = "asymmetric",
        filters: OneOrEach = (),
        templates: Templates = None,
        at_most: Mapping[str, int] | None = None,
        **options: Any,
    ) -> list[Hits]:
        """The k best outfits for each of several users, who share their scoring.

        Args:
          users: ids [u], or user codes as floats [u, d], such as of new users.
          k: how many.
          score: "asymmetric" (the real user code) or "binary" (its signs).
          filters: what an outfit must be, for all users; or for each user a sequence of
            filters, such as of what the user has seen.
          templates: of the outfits, each by its categories, such as
            [("dress", "shoe")]; all by default.
          at_most: attribute, or "item" -> how many of the outfits may have an item of
            the same value of it; see `fhn_jax.retrieval.caps` for the rule.
          options: of a database, see there.
        Raises:
          InputError: k < 1, an unknown score, user, category, item, outfit, template or
            attribute, a vector that `ItemTables.user_vectors` rejects, or filters for
            another number of users.
        """
        check_count("k", k)

        def find(some: Any, count: int, filters: OneOrEach) -> list[Hits]:
            return self.find(users[some], count, score, filters, templates, **options)

        if at_most:
            found = self._capped(len(users), int(k), filters, at_most, find)
        else:
            found = find(slice(None), int(k), filters)
        return [
            hits
            if len(hits) or not filters
            else self._emptied(hits, filters, user, len(found), find)
            for user, hits in enumerate(found)
        ]

    def search(
        self,
        user: int | np.integer | Shaped[np.ndarray, "..."],
        k: int = 10,
        *,
        score: str = "asymmetric",
        filters: Filters = (),
        templates: Templates = None,
        at_most: Mapping[str, int] | None = None,
        **options: Any,
    ) -> Hits:
        """The k best outfits for one user, an id or a code as floats [d].

        Args and Raises: as `search_batch`.
        """
        # A sequence for each of one user.
        each: Any = [listed(filters)]
        return self.search_batch(
            one_user(user),
            k,
            score=score,
            filters=each,
            templates=templates,
            at_most=at_most,
            **options,
        )[0]

    def _capped(
        self,
        count: int,
        k: int,
        filters: OneOrEach,
        at_most: Mapping[str, int],
        find: Callable[[Any, int, OneOrEach], list[Hits]],
    ) -> list[Hits]:
        """The ranking read from the best on, see `caps`, in parts."""
        given = each_of(filters, count)
        conditions = resolve_each(given, self._codes, count, self.attributes)
        caps = [
            Caps(at_most, self._codes, self.attributes, held(each, self._codes))
            for each in conditions
        ]
        taken = [[Hits.none(len(self._codes.slots))] for _ in range(count)]
        missing = np.full(count, k)
        todo = np.arange(count)
        while todo.size:
            wanted = MORE * int(missing[todo].max())
            # What was not taken has an item that is left out now, so each outfit of the
            # ranking is seen once.
            rest = [
                [
                    *given[user],
                    caps[user].filter(),
                    ExcludeOutfits(np.concatenate([h.outfits for h in taken[user]])),
                ]
                for user in todo
            ]
            going = []
            for user, hits in zip(todo, find(todo, wanted, rest), strict=True):
                kept = []
                for row, outfit in enumerate(hits.items):
                    if len(kept) < missing[user] and caps[user].take(outfit):
                        kept.append(row)
                taken[user].append(hits.take(np.array(kept, np.int64)))
                missing[user] -= len(kept)
                if missing[user] and len(hits) == wanted:
                    going.append(user)
            todo = np.array(going, np.int64)
        return [Hits.joined(parts) for parts in taken]

    def _emptied(
        self,
        none: Hits,
        filters: OneOrEach,
        user: int,
        count: int,
        find: Callable[[Any, int, OneOrEach], list[Hits]],
    ) -> Hits:
        """No hits, with what leaves none."""
        parts = parts_of(each_of(filters, count)[user])
        for number in range(len(parts)):
            if not len(find(slice(user, user + 1), 1, [parts[:number]])[0]):
                by = str(parts[number - 1]) if number else None
                return dataclasses.replace(none, emptied_by=by)
        return dataclasses.replace(none, emptied_by=str(parts[-1]) if parts else None)


def best_without(
    excluded: Int64[np.ndarray, "m s"] | None,
    slots: tuple[int, ...],
    k: int,
    find: Callable[[int], Hits],
) -> Hits:
    """The k best hits whose items are not those of an excluded outfit.

    Args:
      excluded: outfits by their items, see `Conditions`.
      slots: category of each slot.
      find: the best hits, so many.
    """
    if excluded is None:
        return find(k)
    # The same items may be stored many times.
    more = len(excluded)
    while True:
        hits = find(k + more)
        left = hits.take(~among(in_order(slots, hits.items), excluded))
        if len(left) >= k or len(hits) < k + more:
            return left.take(slice(k))
        more *= 2
