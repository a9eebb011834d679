"""What is judged and what is shown, and how a page of outfits gets variety."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence, Set

import numpy as np
from jaxtyping import Bool, Int32

from fhn_jax.codes import Codes
from fhn_jax.retrieval.filters import ExcludeOutfits, Filter, rows_of
from fhn_jax.retrieval.outfit_search import Hits

# An item is in at most this share of the outfits shown, or in two.
_SHARE = 1 / 4
# Until so much is judged, it is in one: variety tells more, and looks better.
_FEW = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """What a visitor likes and dislikes, the newest first.

    Attributes:
      items: of each outfit, an id for each slot, int32 [n, s]; -1 where its template has
        none, and in all slots but one for an item alone.
      liked: or disliked, bool [n].
    """

    items: Int32[np.ndarray, "n s"]
    liked: Bool[np.ndarray, " n"]

    @classmethod
    def nothing(cls, slots: int) -> "Judged":
        """Of somebody new."""
        return cls(np.empty((0, slots), np.int32), np.empty(0, bool))

    def __len__(self) -> int:
        return len(self.liked)

    def of(self, codes: Codes) -> "Judged":
        """Those of which the codes have all items."""
        counts = np.array(codes.num_items)[list(codes.slots)]
        known = (self.items < counts).all(axis=1)
        return self if known.all() else Judged(self.items[known], self.liked[known])

    def others(self, templates: tuple[tuple[int, ...], ...]) -> list[Filter]:
        """The filter of outfits that were not judged.

        Args:
          templates: the slots of each.
        """
        rows = [rows_of(self.items, slots) for slots in templates]
        outfits = self.items[np.sort(np.concatenate(rows))]
        return [ExcludeOutfits(outfits)] if len(outfits) else []


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """An outfit to show.

    Attributes:
      items: an id for each slot, -1 where its template has none.
      score: for the visitor.
      outfit: id of the stored outfit; None for one that was composed.
      explores: it is there to learn from, not because it scores best.
    """

    items: tuple[int, ...]
    score: float
    outfit: int | None = None
    explores: bool = False


@dataclasses.dataclass(frozen=True)
class Rules:
    """What outfits must be, besides new to the visitor.

    Attributes:
      filters: see `fhn_jax.retrieval.filters`.
      at_most: attribute, or "item" -> how many outfits may have the same value of it.
      include_seen: not to leave out what was judged, and what a known user likes.
    """

    filters: Sequence[Filter] = ()
    at_most: Mapping[str, int] = dataclasses.field(default_factory=dict)
    include_seen: bool = False


NO_RULES = Rules()


@dataclasses.dataclass(frozen=True)
class Composed:
    """Outfits that were made of any items, the best first.

    Attributes:
      is_greedy, emptied_by: see `fhn_jax.retrieval.composer.Compositions`.
    """

    outfits: list[Suggestion]
    is_greedy: bool
    emptied_by: str | None


@dataclasses.dataclass(frozen=True)
class Reasons:
    """What a score is made of.

    Attributes:
      items: what each slot's item adds: how it fits the visitor.
      pairs: (slot, slot, what the pair adds): how items go together.
    """

    items: tuple[float, ...]
    pairs: tuple[tuple[int, int, float], ...]

    @property
    def score(self) -> float:
        """Their sum, the score."""
        return sum(self.items) + sum(value for *_, value in self.pairs)


def limit(k: int, judged: int) -> int:
    """In how many outfits of a page of k an item may be."""
    return 1 if judged < _FEW else max(2, round(k * _SHARE))


def different(hits: Hits) -> list[Suggestion]:
    """Hits as suggestions; of outfits of the same items the best."""
    rows = zip(
        hits.items.tolist(), hits.scores.tolist(), hits.outfits.tolist(), strict=True
    )
    found: dict[tuple[int, ...], Suggestion] = {}
    for items, score, outfit in rows:
        key = tuple(items)
        if key not in found:
            found[key] = Suggestion(key, score, outfit)
    return list(found.values())


def spread(
    found: Sequence[Suggestion],
    k: int,
    shown: Set[tuple[int, ...]],
    *,
    limit: int,
    beside: Sequence[Suggestion] = (),
) -> list[Suggestion]:
    """The first k that are not shown, but no item in more than `limit` of them.

    If there are no others, an item is in one more, and so on. What stands `beside` them
    on the page counts.
    """
    counts = Counter(place for one in beside for place in _places(one))
    chosen: list[Suggestion] = []
    waiting = [one for one in found if one.items not in shown]
    while waiting and len(chosen) < k:
        rest: list[Suggestion] = []
        for suggestion in waiting:
            if len(chosen) == k:
                break
            places = _places(suggestion)
            if any(counts[place] >= limit for place in places):
                rest.append(suggestion)
            else:
                chosen.append(suggestion)
                counts.update(places)
        waiting, limit = rest, limit + 1
    return chosen


def best_and_others(
    found: Sequence[Sequence[Suggestion]], k: int, explores: int, page: int, limit: int
) -> list[tuple[list[Suggestion], list[Suggestion]]]:
    """Pages of k: the best, and those that are there to explore.

    Args:
      found: the ranking for the visitor, and for each page one to explore by; a page
        without, if nothing is to.
      explores: how many of the k are of the latter; those that would stand there
        anyway are not marked as exploring.
      page: 0 for the best k - explores, 1 for the next ones, and so on.
      limit: see `spread`.
    """
    shown: set[tuple[int, ...]] = set()
    best: list[Suggestion] = []
    for _ in range(page + 1):
        best = spread(found[0], k - explores, shown, limit=limit)
        shown |= {suggestion.items for suggestion in best}
    if not explores:
        return [(best, [])]
    usual = spread(found[0], explores, shown, limit=limit, beside=best)
    known = {suggestion.items for suggestion in usual}
    pages: list[tuple[list[Suggestion], list[Suggestion]]] = []
    for drawn in found[1:]:
        others = spread(drawn, explores, shown, limit=limit, beside=best)
        others = [
            dataclasses.replace(one, explores=one.items not in known) for one in others
        ]
        pages.append((best, others))
    return pages


def _places(suggestion: Suggestion) -> list[tuple[int, int]]:
    """Slots and their items."""
    return [place for place in enumerate(suggestion.items) if place[1] >= 0]


def interleave(
    best: Sequence[Suggestion], others: Sequence[Suggestion]
) -> list[Suggestion]:
    """All of both, the others spread evenly among the best."""
    mixed = list(best)
    step = len(best) / (len(others) + 1)
    for number, other in enumerate(others, 1):
        mixed.insert(round(number * step) + number - 1, other)
    return mixed


def slot_names(codes: Codes) -> tuple[str, ...]:
    """A name for each slot: its category, numbered from the second of it on."""
    names: list[str] = []
    for place, category in enumerate(codes.slots):
        before = codes.slots[:place].count(category)
        name = codes.categories[category]
        names.append(f"{name}{before + 1}" if before else name)
    return tuple(names)
