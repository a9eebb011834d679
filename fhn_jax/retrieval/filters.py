"""Filters: what an outfit must be to be found, stored or composed.

Search in an index, on a cluster or in a database and composition take the same filters,
and an outfit is found if it meets all of them.

A filter is anything with a method `resolve` that states its conditions for some codes,
and with `str()` as it is to be called. One that needs attributes of items has a method
`of(attributes)`, which gives the filter to resolve; one that is several conditions may
have `parts()`, a filter for each. A new one is a class of its own, and needs no change
elsewhere:

    @dataclass(frozen=True)
    class PriceAtMost:
        limit: float
        prices: Mapping[str, np.ndarray]  # category -> price of each item

        def resolve(self, codes):
            return Conditions(
                allowed={
                    codes.categories.index(name): prices <= self.limit
                    for name, prices in self.prices.items()
                }
            )
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, Int64, Shaped

from fhn_jax.codes import Codes, by_slots
from fhn_jax.errors import InputError
from fhn_jax.retrieval.arguments import check_outfits, item_ids, outfit_ids


@dataclass(frozen=True, eq=False)
class Conditions:
    """What filters say about outfits, in numbers.

    Attributes:
      allowed: category (by number) -> bool [items]: an outfit has no other items of it.
        All items of a category without an entry are allowed.
      required: category -> int64 ids: an outfit has each of these items, and some item
        of each category with an entry.
      excluded_ids: sorted ids of stored outfits that are not to be found.
      excluded_items: outfits that are not to be found, each by its items, int64 [n, s],
        sorted as by `in_order`, -1 in a slot that an outfit has not; None if there are
        none.
    """

    allowed: Mapping[int, Bool[np.ndarray, " _"]] = field(default_factory=dict)
    required: Mapping[int, Int64[np.ndarray, " _"]] = field(default_factory=dict)
    excluded_ids: Int64[np.ndarray, " _"] = field(
        default_factory=lambda: np.empty(0, np.int64)
    )
    excluded_items: Int64[np.ndarray, "n s"] | None = None

    def __and__(self, other: "Conditions") -> "Conditions":
        """Both together."""
        allowed, required = dict(self.allowed), dict(self.required)
        for category, mask in other.allowed.items():
            known = allowed.get(category)
            allowed[category] = mask if known is None else known & mask
        for category, ids in other.required.items():
            required[category] = np.union1d(required.get(category, ids), ids)
        ids = [c.excluded_ids for c in (self, other) if len(c.excluded_ids)]
        rows = [c.excluded_items for c in (self, other) if c.excluded_items is not None]
        return Conditions(
            allowed,
            required,
            np.union1d(*ids) if len(ids) == 2 else [*ids, self.excluded_ids][0],
            np.concatenate(rows) if rows else None,
        )


@runtime_checkable
class Filter(Protocol):
    """A condition on outfits."""

    def resolve(self, codes: Codes) -> Conditions:
        """The condition for outfits of these codes.

        Raises:
          InputError: the filter names what the codes do not have.
        """
        ...


# So many rows are compared with each other faster than they are put into a set.
_FEW = 100_000

# One filter or several; and those for all users, or a sequence for each.
Filters = Filter | Sequence[Filter]
OneOrEach = Filters | Sequence[Sequence[Filter]]


@dataclass(frozen=True)
class MustContain:
    """Outfits that have each of some items.

    Attributes:
      items: category -> id of an item, or ids.
      text: how somebody wrote that.

    >>> from fhn_jax import Codes
    >>> vectors = np.random.default_rng(0).normal(size=(2, 5, 64))
    >>> codes = Codes.from_embeddings({"top": vectors[0], "shoe": vectors[1]})
    >>> MustContain({"shoe": 4}).resolve(codes).required
    {1: array([4])}
    """

    items: Mapping[str, Any]
    text: str = ""

    def __str__(self) -> str:
        return f"with {self.text or _counted(self.items)}"

    def resolve(self, codes: Codes) -> Conditions:
        some = _by_number(codes, self.items)
        return Conditions(required={c: ids for c, ids in some.items() if len(ids)})


@dataclass(frozen=True)
class HasCategory:
    """Outfits that have an item of each of some categories, whichever it is.

    Attributes:
      names: of the categories.

    >>> from fhn_jax import Codes
    >>> vectors = np.random.default_rng(0).normal(size=(2, 5, 64))
    >>> codes = Codes.from_embeddings({"top": vectors[0], "shoe": vectors[1]})
    >>> HasCategory(["shoe"]).resolve(codes).required
    {1: array([], dtype=int64)}
    """

    names: Sequence[str]

    def __str__(self) -> str:
        return f"with {', '.join(self.names)}"

    def resolve(self, codes: Codes) -> Conditions:
        return Conditions(required=_by_number(codes, dict.fromkeys(self.names, ())))


@dataclass(frozen=True)
class Only:
    """Outfits without any other items of some categories.

    Attributes:
      items: category -> ids; all items of other categories are allowed.
      text: how somebody wrote that.

    >>> from fhn_jax import Codes
    >>> vectors = np.random.default_rng(0).normal(size=(2, 5, 64))
    >>> codes = Codes.from_embeddings({"top": vectors[0], "shoe": vectors[1]})
    >>> Only({"top": [0, 3]}).resolve(codes).allowed
    {0: array([ True, False, False,  True, False])}
    """

    items: Mapping[str, Any]
    text: str = ""

    def __str__(self) -> str:
        return f"only {self.text or _counted(self.items)}"

    def resolve(self, codes: Codes) -> Conditions:
        allowed = {}
        for category, ids in _by_number(codes, self.items).items():
            allowed[category] = np.zeros(codes.num_items[category], bool)
            allowed[category][ids] = True
        return Conditions(allowed=allowed)


@dataclass(frozen=True)
class Without:
    """Outfits that have none of some items.

    Attributes:
      items: category -> ids.
      text: how somebody wrote that.

    >>> from fhn_jax import Codes
    >>> vectors = np.random.default_rng(0).normal(size=(2, 5, 64))
    >>> codes = Codes.from_embeddings({"top": vectors[0], "shoe": vectors[1]})
    >>> Without({"top": [0, 3]}).resolve(codes).allowed
    {0: array([False,  True,  True, False,  True])}
    """

    items: Mapping[str, Any]
    text: str = ""

    def __str__(self) -> str:
        return f"without {self.text or _counted(self.items)}"

    def resolve(self, codes: Codes) -> Conditions:
        only = Only(self.items).resolve(codes)
        return Conditions(allowed={c: ~mask for c, mask in only.allowed.items()})


@dataclass(frozen=True)
class Wardrobe:
    """Outfits of some items alone, such as those that somebody owns.

    Attributes:
      items: category -> ids; no items of other categories are allowed.

    >>> from fhn_jax import Codes
    >>> vectors = np.random.default_rng(0).normal(size=(2, 3, 64))
    >>> codes = Codes.from_embeddings({"top": vectors[0], "shoe": vectors[1]})
    >>> Wardrobe({"top": [0, 2]}).resolve(codes).allowed
    {0: array([ True, False,  True]), 1: array([False, False, False])}
    """

    items: Mapping[str, Any]

    def __str__(self) -> str:
        return f"a wardrobe of {_counted(self.items)}"

    def resolve(self, codes: Codes) -> Conditions:
        return Only({**dict.fromkeys(codes.categories, ()), **self.items}).resolve(
            codes
        )


@dataclass(frozen=True, eq=False)
class ExcludeOutfits:
    """All outfits but some, such as those that a user has seen.

    Attributes:
      outfits: ids of stored outfits [n], or for each outfit its items [n, s], an id for
        each slot, -1 where its template has none. The order of items of one category does
        not matter.

    >>> from fhn_jax import Codes
    >>> vectors = np.random.default_rng(0).normal(size=(2, 5, 64))
    >>> codes = Codes.from_embeddings({"top": vectors[0], "shoe": vectors[1]})
    >>> ExcludeOutfits([30, 12]).resolve(codes).excluded_ids
    array([12, 30])
    >>> ExcludeOutfits([(0, 3)]).resolve(codes).excluded_items
    array([[0, 3]])
    """

    outfits: Sequence[Any] | Shaped[np.ndarray, "..."]

    def __str__(self) -> str:
        return f"without {len(self.outfits):,} outfits"

    def resolve(self, codes: Codes) -> Conditions:
        outfits = np.asarray(self.outfits)
        if outfits.ndim < 2 or outfits.size == 0:
            return Conditions(excluded_ids=np.unique(outfit_ids(outfits)))
        rows = check_outfits(codes, outfits).astype(np.int64)
        return Conditions(excluded_items=in_order(codes.slots, rows))


@dataclass(frozen=True, eq=False)
class Seen:
    """The outfits that each user has seen, likes or owns.

    Attributes:
      starts: int64 [u + 1], where those of a user start; last their number.
      outfits: int32 [n, s], an item for each slot, -1 where there is none.
    """

    starts: Int64[np.ndarray, " _"]
    outfits: Int[np.ndarray, "n s"]

    @classmethod
    def of(
        cls,
        users: Int[np.ndarray, " n"],
        outfits: Int[np.ndarray, "n s"],
        count: int,
    ) -> "Seen":
        """Makes one.

        Args:
          users: who has seen the outfit of the row.
          count: of users.
        """
        order = np.argsort(users, kind="stable")
        starts = np.searchsorted(users[order], np.arange(count + 1))
        return cls(starts.astype(np.int64), outfits[order])

    def without(self, user: int) -> list[Filter]:
        """What leaves out those of a user; nobody if there are none."""
        first, last = self.starts[user : user + 2]
        return [ExcludeOutfits(self.outfits[first:last])] if last > first else []


def _counted(items: Mapping[str, Any]) -> str:
    """How many items of each category: "shoe 4, 12 items of top"."""
    return ", ".join(
        f"{name} {np.ravel(ids)[0]}"
        if np.size(ids) == 1
        else f"{np.size(ids)} of {name}"
        for name, ids in items.items()
    )


def _by_number(
    codes: Codes, items: Mapping[str, Any]
) -> dict[int, Int64[np.ndarray, " _"]]:
    ids = {name: np.unique(item_ids(codes, name, some)) for name, some in items.items()}
    return {codes.categories.index(name): some for name, some in ids.items()}


def listed(filters: Any) -> Sequence[Any]:
    """Filters as a sequence, where there is one alone too."""
    return [filters] if _is_filter(filters) else filters


def _is_filter(value: Any) -> bool:
    # To ask whether it is an instance of the protocol takes longer than the filter does.
    return hasattr(value, "resolve")


def resolve(
    filters: Filters, codes: Codes, attributes: Any | None = None
) -> Conditions:
    """The conditions of all filters together.

    Args:
      attributes: of the items, for filters that take some: those with a method `of`.
    """
    conditions = Conditions()
    for each in listed(filters):
        bound: Any = each.of(attributes) if takes_attributes(each) else each
        conditions &= bound.resolve(codes)
    return conditions


def takes_attributes(filter: Any) -> bool:
    """Whether a filter goes by attributes of items."""
    return hasattr(filter, "of")


def bound(filters: OneOrEach, attributes: Any) -> OneOrEach:
    """The same filters, those that take attributes with these."""
    if _is_filter(filters):
        some: Any = filters
        return some.of(attributes) if takes_attributes(some) else some
    return [bound(each, attributes) for each in filters]  # pyright: ignore


def parts_of(filters: Filters) -> list[Any]:
    """Filters, those of several conditions as several filters."""
    found = []
    for each in listed(filters):
        found += each.parts() if hasattr(each, "parts") else [each]
    return found


def each_of(filters: OneOrEach, count: int) -> list[Sequence[Filter]]:
    """The filters for each of several users.

    Args:
      filters: those for all users, or a sequence for each user.
      count: how many users.
    Raises:
      InputError: sequences for another number of users.
    """
    given = listed(filters)
    for_all = [each for each in given if _is_filter(each)]
    if len(for_all) == len(given):
        return [for_all] * count
    by_user = [each for each in given if not _is_filter(each)]
    if len(by_user) != count or for_all:
        raise InputError(
            f"filters are {len(by_user)} sequences of filters, expected one for each of "
            f"{count} users, or filters for all of them"
        )
    return by_user


def resolve_each(
    filters: OneOrEach, codes: Codes, count: int, attributes: Any | None = None
) -> list[Conditions]:
    """The conditions for each of several users; those who share filters share them.

    Args and Raises: as `each_of` and `resolve`.
    """
    given = each_of(filters, count)
    different = {id(each): each for each in given}
    resolved = {
        key: resolve(each, codes, attributes) for key, each in different.items()
    }
    return [resolved[id(each)] for each in given]


def held(conditions: Conditions, codes: Codes) -> Int64[np.ndarray, " n"]:
    """Items that all outfits must have, all categories in one numbering."""
    starts = np.cumsum([0, *codes.num_items])
    some = [starts[c] + ids for c, ids in conditions.required.items()]
    return np.concatenate([np.empty(0, np.int64), *some])


def rows_of(
    outfits: Int[np.ndarray, "n s"], slots: tuple[int, ...]
) -> Int64[np.ndarray, " m"]:
    """Which outfits have just these slots, by number."""
    return dict(by_slots(outfits)).get(slots, np.empty(0, np.int64))


def in_order(
    slots: tuple[int, ...], outfits: Int[np.ndarray, "n s"]
) -> Int[np.ndarray, "n s"]:
    """Outfits with the items of each category in rising order."""
    outfits = outfits.copy()
    for category in set(slots):
        same = [slot for slot, other in enumerate(slots) if other == category]
        outfits[:, same] = np.sort(outfits[:, same], axis=1)
    return outfits


def among(
    outfits: Int[np.ndarray, "n s"], others: Int[np.ndarray, "m s"]
) -> Bool[np.ndarray, " n"]:
    """Which outfits are among others."""
    if len(outfits) * len(others) < _FEW:
        return (outfits[:, None] == others).all(axis=2).any(axis=1)
    known = set(map(tuple, others.tolist()))
    return np.array([tuple(row) in known for row in outfits.tolist()], bool)
