"""The search itself: the best of stored outfits for users, exactly."""

import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int, Int32, Int64, Shaped

from fhn_jax.codes import Codes, by_slots
from fhn_jax.errors import InputError
from fhn_jax.retrieval import blocks, kernels
from fhn_jax.retrieval.arguments import check_outfits, outfit_ids, template_numbers
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.filters import Conditions, resolve_each, rows_of
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.outfit_search import Hits, OneOrEach, OutfitSearch, Templates

# Positions beyond the last item. Any 16 bits are then a valid offset from the start of
# any range, so that a damaged file may give wrong outfits but not a crash.
_PADDING = 2**16
# Users scored at a time by `search_batch`, by a thread.
_USERS_AT_ONCE = 32
# Ways to cluster that are tried when an index is built, on so many outfits at most. With
# 24 a million outfits of three slots are enough for blocks of the same clusters in all
# three; with 256 only in one or two of them, but of items that are more alike.
_CLUSTERS = (256, 64, 24)
_TRIAL_OUTFITS = 10**6
_TRIAL_USERS = 8


class Searcher(OutfitSearch):
    """Searches segments of outfits.

    Args:
      tables: how outfits are scored.
      layout: the order of the items.
      segments: outfits of one template each, in blocks of this layout.
      removed: sorted ids of outfits that are not to be found.
      num_outfits: ids are below this.
      attributes: of the items, for filters.
    """

    def __init__(
        self,
        tables: ItemTables,
        layout: blocks.Layout,
        segments: Sequence[kernels.Blocks],
        removed: Int64[np.ndarray, " _"],
        num_outfits: int,
        attributes: Attributes | None = None,
    ):
        super().__init__(tables.codes, attributes)
        self._tables = tables
        self._layout = layout
        self._segments = segments
        self._removed = removed
        self._num_outfits = num_outfits
        self._templates = [template_of(tables, layout, each) for each in segments]
        counts = [len(segment.outfits) for segment in segments]
        self._num_stored = sum(counts)
        self._places = np.cumsum([0, *counts]).tolist()
        self._packed = layout.by_position(tables.packed)
        self._scales = None
        if tables.scales is not None:
            self._scales = layout.by_position(tables.scales)

    @classmethod
    def in_memory(
        cls,
        codes: Codes,
        outfits: Shaped[np.ndarray, "..."],
        attributes: Attributes | None = None,
    ) -> "Searcher":
        """Makes a searcher of outfits that were not stored as an index.

        Args:
          outfits: an item id for each slot; ids are the rows.
          attributes: of the items, for filters.
        Raises:
          ValueError: as `check_outfits`.
        """
        tables = ItemTables.from_codes(codes)
        items = check_outfits(codes, outfits)
        layout = blocks.Layout.make(tables.packed, None, seed=0)
        segments = arrange_each(tables, layout, items, np.arange(len(items)))
        none = np.empty(0, np.int64)
        return cls(tables, layout, segments, none, len(items), attributes)

    def __len__(self) -> int:
        """How many outfits can be found."""
        if not self._removed.size:
            return self._num_stored
        stored = (np.isin(each.outfits, self._removed) for each in self._segments)
        return sum(int((~gone).sum()) for gone in stored)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} outfits of {self._tables.codes!r})"

    def part(self, number: int, count: int) -> "Searcher":
        """One of `count` parts that share out the outfits; ids stay as they are.

        Blocks stay whole, and mapped files stay mapped: of a part's outfits nothing is
        read or copied.

        Args:
          number: 0 to count - 1.
        """
        parts = [_part(segment, number, count) for segment in self._segments]
        segments = [segment for segment in parts if len(segment.outfits)]
        return Searcher(
            *(self._tables, self._layout, segments, self._removed, self._num_outfits),
            self.attributes,
        )

    def find(
        self,
        users: Shaped[np.ndarray, "u ..."],
        k: int,
        score: str,
        filters: OneOrEach,
        templates: Templates,
    ) -> list[Hits]:
        vectors = self._tables.user_vectors(users, score)
        conditions = resolve_each(
            filters, self._tables.codes, len(vectors), self.attributes
        )
        numbers = template_numbers(self._tables.codes, templates)
        # Users who share their conditions share their filter.
        different = {id(each): each for each in conditions}
        by_position = {
            key: self._by_template(each, numbers) for key, each in different.items()
        }

        def some(start: int) -> list[Hits]:
            part = vectors[start : start + _USERS_AT_ONCE]
            affinities = kernels.affinities(
                self._packed, self._scales, self._tables.byte_tables(part), _PADDING
            )
            return [
                self._best(values, by_position[id(each)], int(k))
                for values, each in zip(affinities, conditions[start:], strict=False)
            ]

        starts = range(0, len(vectors), _USERS_AT_ONCE)
        if len(starts) < 2:
            return [hits for start in starts for hits in some(start)]
        # The loops run without Python's lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return [hits for part in pool.map(some, starts) for hits in part]

    def _best(self, affinities, filters: dict[int, kernels.Filters], k: int) -> Hits:
        """The best of the outfits of some templates."""
        best = kernels.TopK.empty(min(k, max(self._num_stored, 1)))
        for number, each in filters.items():
            self._search_template(number, affinities, each, best)
        count = int(best.counts[0])
        order = np.lexsort((best.outfits[:count], ~best.scores[:count]))
        return Hits(
            outfits=best.outfits[order],
            scores=self._tables.to_scores(best.scores[order]),
            items=self._items(best.places[order]),
        )

    def _search_template(self, number, affinities, filters, best) -> None:
        """Puts the best outfits of a template among the best so far."""
        per_item = self._tables.templates[number].per_item
        if per_item > 1:
            affinities = affinities * np.int32(per_item)
        limited = affinities[: len(self._packed)]
        if len(filters.admitted):
            limited = limited.copy()
            limited[~filters.admitted[: len(limited)]] = kernels.NEG_INF
        bounds = self._layout.range_maxima(limited)
        segments = zip(self._segments, self._templates, self._places, strict=False)
        for segment, template, place in segments:
            if template == number:
                kernels.search_blocks(segment, affinities, bounds, filters, best, place)

    def _items(self, places: Int64[np.ndarray, " n"]) -> Int32[np.ndarray, "n s"]:
        """Item ids of stored outfits, by their place in all segments."""
        items = np.full((len(places), len(self._tables.codes.slots)), -1, np.int32)
        segments = zip(self._segments, self._templates, self._places, strict=False)
        for segment, template, first in segments:
            last = first + len(segment.outfits)
            here = np.flatnonzero((places >= first) & (places < last))
            positions = blocks.positions_of(segment, places[here] - first)
            if positions.size and positions.max() >= len(self._layout.order):
                raise InputError(
                    "stored outfits have no such items: the index is damaged; `verify` "
                    "tells which file"
                )
            slots = np.array(self._tables.templates[template].slots)
            items[here[:, None], slots] = self._layout.order[positions]
        return items

    def _by_template(
        self, conditions: Conditions, numbers: Sequence[int]
    ) -> dict[int, kernels.Filters]:
        """Conditions as the loops take them, for templates that can meet them."""
        filters = self._by_position(conditions)
        return {
            number: filters._replace(gone=self._gone(conditions.excluded_items, number))
            for number in numbers
            if conditions.required.keys()
            <= {*self._tables.templates[number].form.slots}
        }

    def _by_position(self, conditions: Conditions) -> kernels.Filters:
        """Conditions as the loops take them, but for outfits by their items."""
        codes, layout = self._tables.codes, self._layout
        starts = layout.category_starts
        admitted, wanted = np.empty(0, bool), []
        if conditions.allowed or conditions.required:
            admitted = np.ones(starts[-1] + _PADDING, bool)
        for category, (first, last) in enumerate(zip(starts, starts[1:], strict=False)):
            order = layout.order[first:last]
            if category in conditions.allowed:
                admitted[first:last] = conditions.allowed[category][order]
            ids = conditions.required.get(category, ())
            if len(ids):
                required = np.isin(order, ids)
                wanted.append(first + np.flatnonzero(required))
                # With one slot for the category, what must be there is all there is.
                if codes.slots.count(category) == 1:
                    admitted[first:last] &= required
        return kernels.Filters(
            self._removed,
            outfit_ids(conditions.excluded_ids, self._num_outfits),
            admitted,
            np.concatenate([*wanted, np.empty(0, np.int64)]),
            np.empty((0, 0), np.int64),
        )

    def _gone(
        self, items: Int64[np.ndarray, "e s"] | None, number: int
    ) -> Int64[np.ndarray, "f t"]:
        """Outfits of a template by their items, as the loops take them."""
        template = self._tables.templates[number]
        if items is None:
            return np.empty((0, len(template.slots)), np.int64)
        items = items[rows_of(items, template.slots)][:, list(template.slots)]
        positions = self._layout.positions(template.form.slots, items)
        rows = np.sort(positions.astype(np.int64), axis=1)
        return rows[np.lexsort(rows.T[::-1])]


def _part(segment: kernels.Blocks, number: int, count: int) -> kernels.Blocks:
    """The blocks that start within one of `count` runs of equally many outfits."""
    ends = np.array([number, number + 1]) * len(segment.outfits) // count
    first, last = np.searchsorted(segment.starts[:-1], ends)
    a, b = segment.starts[[first, last]]
    tops, ranges = segment.tops[first:last], segment.ranges[first:last]
    return segment._replace(
        items=segment.items[a:b],
        compatibilities=segment.compatibilities[a:b],
        outfits=segment.outfits[a:b],
        starts=segment.starts[first : last + 1] - a,
        tops=tops,
        ranges=ranges,
        **blocks.groups_of(ranges, tops),
    )


def arrange(
    tables: ItemTables,
    layout: blocks.Layout,
    items: Int32[np.ndarray, "n s"],
    outfits: Int[np.ndarray, " n"],
    template: int = 0,
) -> kernels.Blocks:
    """Outfits of a template, given by their items and ids, as blocks with pair terms."""

    def pair_terms(positions: np.ndarray) -> np.ndarray:
        return tables.compatibilities(layout.order[positions], template)

    slots = tables.templates[template].form.slots
    return blocks.arrange(layout, layout.positions(slots, items), pair_terms, outfits)


def arrange_each(
    tables: ItemTables,
    layout: blocks.Layout,
    items: Int32[np.ndarray, "n s"],
    outfits: Int[np.ndarray, " n"],
) -> list[kernels.Blocks]:
    """Outfits as a segment for each template that they have.

    Args:
      items: -1 in a slot that an outfit's template has not.
    """
    if not len(items):
        return []
    if len(tables.templates) == 1:
        return [arrange(tables, layout, items, outfits)]
    numbers = {each.slots: number for number, each in enumerate(tables.templates)}
    return [
        arrange(tables, layout, items[rows][:, slots], outfits[rows], numbers[slots])
        for slots, rows in by_slots(items)
    ]


def template_of(
    tables: ItemTables, layout: blocks.Layout, segment: kernels.Blocks
) -> int:
    """The number of the template of a segment's outfits; -1 if there is none."""
    if len(tables.templates) == 1:
        return 0 if segment.ranges.shape[1] == len(tables.templates[0].slots) else -1
    firsts = layout.range_starts[segment.ranges]
    categories = np.searchsorted(layout.category_starts, firsts, "right") - 1
    for number, each in enumerate(tables.templates):
        same = categories.shape[1] == len(each.slots)
        if same and (categories == each.form.slots).all():
            return number
    return -1


def choose_layout(
    tables: ItemTables, items: Int32[np.ndarray, "n s"], seed: int
) -> tuple[blocks.Layout, dict[str, float]]:
    """The layout with the fastest searches.

    Args:
      items: of the outfits that will be searched, or of the first of them.
      seed: of the clusters and the sample.
    Returns:
      the layout, and the CPU-seconds that a search took in trials on a sample, by clusters
      per category; none without outfits.
    """
    rng = np.random.default_rng(seed)
    sample = items
    if len(items) > _TRIAL_OUTFITS:
        sample = items[np.sort(rng.integers(0, len(items), _TRIAL_OUTFITS))]
    vectors = rng.choice([-1.0, 1.0], (_TRIAL_USERS, tables.codes.bits))
    if tables.codes.num_users:
        users = rng.integers(0, tables.codes.num_users, _TRIAL_USERS)
        vectors = tables.codes.user_latents[users]
    layouts: dict[str, blocks.Layout] = {}
    seconds: dict[str, float] = {}
    none, count = np.empty(0, np.int64), len(sample)
    for number in _CLUSTERS:
        layout = blocks.Layout.make(tables.packed, number, seed)
        if not count:
            return layout, {}
        segments = arrange_each(tables, layout, sample, np.arange(count))
        trial = Searcher(tables, layout, segments, none, count)
        times = []
        # The first search compiles.
        for user in (0, *range(_TRIAL_USERS)):
            # What else the machine does must not decide.
            start = time.thread_time()
            trial.search(vectors[user])
            times.append(time.thread_time() - start)
        seconds[str(number)] = statistics.median(times[1:])
        layouts[str(number)] = layout
    return layouts[min(seconds, key=lambda number: seconds[number])], seconds
