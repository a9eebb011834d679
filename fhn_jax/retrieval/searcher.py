"""The search itself: the best of stored outfits for users, exactly."""

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Int32, Int64, Shaped

from fhn_jax.codes import Codes
from fhn_jax.errors import InputError
from fhn_jax.retrieval import blocks, kernels
from fhn_jax.retrieval.items import ItemTables, check_count, item_ids

# Users scored at a time by `search_batch`, by a thread.
_USERS_AT_ONCE = 32
# Ways to cluster that are tried when an index is built, on so many outfits at most.
_CLUSTERS = (256, 64)
_TRIAL_OUTFITS = 10**6
_TRIAL_USERS = 8


@dataclass(frozen=True, eq=False)
class Hits:
    """The best outfits for a user, the best first; of equal scores the lower id.

    Attributes:
      outfits: ids, int64 [k]. Fewer than were asked for if no more are admitted.
      scores: float64 [k].
      items: int32 [k, s], ids within the category of the slot.
    """

    outfits: Int64[np.ndarray, " k"]
    scores: Float64[np.ndarray, " k"]
    items: Int32[np.ndarray, "k s"]

    def __len__(self) -> int:
        return len(self.outfits)


class Searcher:
    """Searches segments of outfits.

    Args:
      tables: how outfits are scored.
      layout: the order of the items.
      segments: outfits, in blocks of this layout.
      removed: sorted ids of outfits that are not to be found.
      num_outfits: ids are below this.
    """

    def __init__(
        self,
        tables: ItemTables,
        layout: blocks.Layout,
        segments: Sequence[kernels.Blocks],
        removed: Int64[np.ndarray, " _"],
        num_outfits: int,
    ):
        self._tables = tables
        self._layout = layout
        self._segments = segments
        self._removed = removed
        self._num_outfits = num_outfits
        self._num_stored = sum(len(segment.outfits) for segment in segments)
        self._packed = layout.by_position(tables.packed)
        self._scales = None
        if tables.scales is not None:
            self._scales = layout.by_position(tables.scales)

    @classmethod
    def in_memory(cls, codes: Codes, outfits: Shaped[np.ndarray, "..."]) -> "Searcher":
        """Makes a searcher of outfits that were not stored as an index.

        Args:
          outfits: an item id for each slot; ids are the rows.
        Raises:
          ValueError: as `check_outfits`.
        """
        tables = ItemTables.from_codes(codes)
        items = check_outfits(codes, outfits)
        layout = blocks.Layout.make(tables.packed, None, seed=0)
        ids = np.arange(len(items))
        segments = [arrange(tables, layout, items, ids)] if len(items) else []
        return cls(tables, layout, segments, np.empty(0, np.int64), len(items))

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
            self._tables, self._layout, segments, self._removed, self._num_outfits
        )

    def search(
        self,
        user: int | np.integer | Shaped[np.ndarray, "..."],
        k: int = 10,
        *,
        score: str = "asymmetric",
        exclude: Sequence[int] | Shaped[np.ndarray, "..."] = (),
        must_contain: Mapping[str, Any] | None = None,
        categories: Mapping[str, Any] | None = None,
    ) -> Hits:
        """The k best outfits for a user.

        Args:
          user: an id, or a user code as floats [d], such as of a new user.
          k: how many.
          score: "asymmetric" (the real user code) or "binary" (its signs).
          exclude: outfits to leave out, such as those the user has seen.
          must_contain: category -> item or items: an outfit must have all of these.
          categories: category -> items: an outfit must have no others of it.
        Raises:
          ValueError: k < 1, an unknown score, user, category, item or outfit, or a
            vector that `ItemTables.user_vectors` rejects.
        """
        if np.ndim(user) > 1 or (
            np.ndim(user) == 1 and np.asarray(user).dtype.kind != "f"
        ):
            raise InputError(
                f"user is an array of shape {np.shape(user)}, expected an id or one "
                "vector of floats; use search_batch for several users"
            )
        users = np.asarray(user)[None]
        return self.search_batch(
            users,
            k,
            score=score,
            exclude=[exclude],
            must_contain=must_contain,
            categories=categories,
        )[0]

    def search_batch(
        self,
        users: Shaped[np.ndarray, "u ..."],
        k: int = 10,
        *,
        score: str = "asymmetric",
        exclude: Sequence[Sequence[int] | Shaped[np.ndarray, "..."]] | None = None,
        must_contain: Mapping[str, Any] | None = None,
        categories: Mapping[str, Any] | None = None,
    ) -> list[Hits]:
        """The k best outfits for each of several users, who share their scoring.

        Args:
          users: ids [u], or user codes as floats [u, d].
          exclude: for each user the outfits to leave out.
          k, score, must_contain, categories: as for `search`.
        Raises:
          ValueError: as `search`.
        """
        check_count("k", k)
        vectors = self._tables.user_vectors(users, score)
        excluded = self._check_excluded(exclude, len(vectors))
        admitted, wanted = self._admitted(must_contain, categories)

        def some(start: int) -> list[Hits]:
            part = vectors[start : start + _USERS_AT_ONCE]
            # Any 16 bits are then a valid offset from the start of any range, so that
            # a damaged file may give wrong outfits but not a crash.
            affinities = kernels.affinities(
                self._packed, self._scales, self._tables.byte_tables(part), 2**16
            )
            found = []
            for user, values in enumerate(affinities, start):
                filters = kernels.Filters(
                    self._removed, excluded[user], admitted, wanted
                )
                found.append(self._best(values, filters, int(k)))
            return found

        starts = range(0, len(vectors), _USERS_AT_ONCE)
        if len(starts) < 2:
            return [hits for start in starts for hits in some(start)]
        # The loops run without Python's lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return [hits for part in pool.map(some, starts) for hits in part]

    def _best(self, affinities, filters, k) -> Hits:
        limited = affinities[: len(self._packed)]
        if len(filters.admitted):
            allowed = filters.admitted[: len(limited)]
            limited = np.where(allowed, limited, np.int32(kernels.NEG_INF))
        bounds = self._layout.range_maxima(limited)
        best = kernels.TopK.empty(min(k, max(self._num_stored, 1)))
        place = 0
        for segment in self._segments:
            kernels.search_blocks(segment, affinities, bounds, filters, best, place)
            place += len(segment.outfits)
        count = int(best.counts[0])
        order = np.lexsort((best.outfits[:count], ~best.scores[:count]))
        return Hits(
            outfits=best.outfits[order],
            scores=self._tables.to_scores(best.scores[order]),
            items=self._items(best.places[order]),
        )

    def _items(self, places: Int64[np.ndarray, " n"]) -> Int32[np.ndarray, "n s"]:
        """Item ids of stored outfits, by their place in all segments."""
        items = np.empty((len(places), len(self._tables.codes.slots)), np.int32)
        first = 0
        for segment in self._segments:
            last = first + len(segment.outfits)
            here = np.flatnonzero((places >= first) & (places < last))
            positions = blocks.positions_of(segment, places[here] - first)
            if positions.size and positions.max() >= len(self._layout.order):
                raise InputError(
                    "stored outfits have no such items: the index is damaged; `verify` "
                    "tells which file"
                )
            items[here] = self._layout.order[positions]
            first = last
        return items

    def _check_ids(self, outfits) -> Int64[np.ndarray, " n"]:
        ids = np.asarray(outfits)
        if ids.size == 0:
            return np.empty(0, np.int64)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise InputError(
                f"outfits are {ids.dtype} {list(ids.shape)}, expected a list of ids"
            )
        wrong = ids[(ids < 0) | (ids >= self._num_outfits)]
        if wrong.size:
            raise InputError(
                f"outfit {wrong[0]} is not in the index; expected 0 to "
                f"{self._num_outfits - 1}"
            )
        return np.unique(ids).astype(np.int64)

    def _check_excluded(self, exclude, count) -> list[Int64[np.ndarray, " n"]]:
        if exclude is None:
            return [np.empty(0, np.int64)] * count
        if len(exclude) != count:
            raise InputError(
                f"exclude has {len(exclude)} lists of outfits, expected one for each of "
                f"{count} users"
            )
        return [self._check_ids(outfits) for outfits in exclude]

    def _admitted(self, must_contain, categories):
        """Which positions an outfit may have, and which it must have."""
        codes, starts = self._tables.codes, self._layout.category_starts
        wanted = []
        admitted = np.empty(0, bool)
        if must_contain or categories:
            admitted = np.ones(starts[-1] + 2**16, bool)
        for names, only in ((categories or {}, True), (must_contain or {}, False)):
            for name, items in names.items():
                ids = item_ids(codes, name, items)
                category = codes.categories.index(name)
                positions = self._positions(category, ids)
                first, last = starts[category : category + 2]
                if not only:
                    wanted += positions.tolist()
                # With one slot for the category, what must be there is all there is.
                if only or (positions.size and codes.slots.count(category) == 1):
                    those = np.zeros(last - first, bool)
                    those[positions - first] = True
                    admitted[first:last] &= those
        return admitted, np.array(wanted, np.int64)

    def _positions(self, category, ids) -> Int64[np.ndarray, " n"]:
        """Positions of items of one category."""
        first, last = self._layout.category_starts[category : category + 2]
        place = np.empty(last - first, np.int64)
        place[self._layout.order[first:last]] = np.arange(first, last)
        return place[ids]


def _part(segment: kernels.Blocks, number: int, count: int) -> kernels.Blocks:
    """The blocks that start within one of `count` runs of equally many outfits."""
    ends = np.array([number, number + 1]) * len(segment.outfits) // count
    first, last = np.searchsorted(segment.starts[:-1], ends)
    a, b = segment.starts[[first, last]]
    return segment._replace(
        items=segment.items[a:b],
        compatibilities=segment.compatibilities[a:b],
        outfits=segment.outfits[a:b],
        starts=segment.starts[first : last + 1] - a,
        tops=segment.tops[first:last],
        ranges=segment.ranges[first:last],
        groups=blocks.groups_of(segment.ranges[first:last]),
    )


def check_outfits(
    codes: Codes, outfits: Shaped[np.ndarray, "..."]
) -> Int32[np.ndarray, "n s"]:
    """Outfits whose item ids are all in range.

    Raises:
      ValueError: another number of slots, or an id out of range.
    """
    slots = codes.slots
    if (
        outfits.ndim != 2
        or outfits.shape[1] != len(slots)
        or outfits.dtype.kind not in "iu"
    ):
        raise InputError(
            f"outfits are {outfits.dtype} {list(outfits.shape)}, expected whole numbers "
            f"[n, {len(slots)}]: an item id for each slot "
            f"{tuple(codes.categories[c] for c in slots)}"
        )
    for slot, category in enumerate(slots):
        ids, count = outfits[:, slot], codes.num_items[category]
        wrong = np.flatnonzero((ids < 0) | (ids >= count))
        if wrong.size:
            raise InputError(
                f"outfit {wrong[0]}: {codes.categories[category]} (slot {slot}) "
                f"{ids[wrong[0]]} is not among the codes; expected 0 to {count - 1}"
            )
    return outfits.astype(np.int32)


def arrange(
    tables: ItemTables,
    layout: blocks.Layout,
    items: Int32[np.ndarray, "n s"],
    outfits: Int[np.ndarray, " n"],
) -> kernels.Blocks:
    """Outfits, given by their items and ids, as blocks with their pair terms."""
    positions = layout.positions(tables.codes.slots, items)
    return blocks.arrange(layout, positions, tables.compatibilities(items), outfits)


def choose_layout(
    tables: ItemTables, items: Int32[np.ndarray, "n s"], seed: int
) -> tuple[blocks.Layout, dict[str, float]]:
    """The layout with the fastest searches.

    Args:
      items: of the outfits that will be searched, or of the first of them.
      seed: of the clusters and the sample.
    Returns:
      the layout, and the seconds that a search took in trials on a sample, by clusters
      per category; none without outfits.
    """
    rng = np.random.default_rng(seed)
    sample = items
    if len(items) > _TRIAL_OUTFITS:
        sample = items[np.sort(rng.integers(0, len(items), _TRIAL_OUTFITS))]
    compatibilities = tables.compatibilities(sample)
    vectors = rng.choice([-1.0, 1.0], (_TRIAL_USERS, tables.codes.bits))
    if tables.codes.num_users:
        users = rng.integers(0, tables.codes.num_users, _TRIAL_USERS)
        vectors = tables.codes.user_latents[users]
    affinities = tables.affinities(tables.user_vectors(vectors))
    none = np.empty(0, np.int64)
    filters = kernels.Filters(none, none, np.empty(0, bool), none)
    best_layout, seconds = None, {}
    for number in _CLUSTERS:
        layout = blocks.Layout.make(tables.packed, number, seed)
        if not len(sample):
            return layout, {}
        positions = layout.positions(tables.codes.slots, sample)
        segment = blocks.arrange(
            layout, positions, compatibilities, np.arange(len(sample))
        )
        times = []
        # The first search compiles.
        for user in (0, *range(_TRIAL_USERS)):
            values = layout.by_position([each[user] for each in affinities])
            start = time.perf_counter()
            bounds = layout.range_maxima(values)
            best = kernels.TopK.empty(10)
            kernels.search_blocks(segment, values, bounds, filters, best, 0)
            times.append(time.perf_counter() - start)
        seconds[str(number)] = statistics.median(times[1:])
        if seconds[str(number)] == min(seconds.values()):
            best_layout = layout
    return best_layout, seconds
