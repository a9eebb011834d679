"""Outfits in blocks: in what order they are stored, so that most need no look.

Items of a category are put in an order in which alike items stand together. A *range*
is a run of that order: a cluster of alike items (fine), or up to 65,536 neighbours
(coarse). A block holds outfits whose items come from the same ranges, so one sum of
the best affinities of these ranges bounds the scores of all of them.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64, UInt8

from fhn_jax.retrieval import kernels

# Items are stored as 16 bits relative to the start of their range.
_MAX_RANGE = 2**16
_BLOCK = 128
# Fewer outfits of the same clusters share a block with those of other clusters.
_MIN_GROUP = 64
# Clusters are found on at most this many items of a category.
_CLUSTER_SAMPLE = 2**12
_CLUSTER_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Layout:
    """The order of the items, all categories in one numbering by position.

    Attributes:
      order: int32 [items], the id within its category of the item at each position.
      category_starts: int64 [c + 1], the first position of each category.
      range_starts: int64 [r + 1], the first position of each range: the coarse ranges,
        then the fine ones; last the number of items.
      num_coarse: how many ranges are coarse.
    """

    order: np.ndarray
    category_starts: np.ndarray
    range_starts: np.ndarray
    num_coarse: int

    @classmethod
    def make(
        cls, packed: tuple[np.ndarray, ...], num_clusters: int | None, seed: int
    ) -> "Layout":
        """Orders items by clusters of their codes.

        Args:
          packed: codes per category, uint8 [n, w].
          num_clusters: of each category; None makes each item one of its own.
          seed: of the clusters.
        """
        counts = [len(codes) for codes in packed]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        order, coarse, fine = [], [], []
        for start, codes in zip(starts, packed, strict=False):
            if num_clusters is None:
                labels = np.arange(len(codes))
            else:
                labels = cluster(codes, num_clusters, seed)
            by_label = np.argsort(labels, kind="stable").astype(np.int32)
            order.append(by_label)
            changes = np.flatnonzero(np.diff(labels[by_label], prepend=-1))
            pages = np.arange(0, len(codes), _MAX_RANGE)
            coarse.append(start + pages)
            # A range has one page, so fine ranges are short enough as well.
            fine.append(start + np.union1d(changes, pages))
        ranges = [*coarse, *fine, starts[-1:]]
        return cls(
            order=np.concatenate(order),
            category_starts=starts,
            range_starts=np.concatenate(ranges).astype(np.int64),
            num_coarse=sum(map(len, coarse)),
        )

    def extended(
        self, packed: tuple[np.ndarray, ...], num_clusters: int, seed: int
    ) -> tuple["Layout", Int32[np.ndarray, " r"]]:
        """The same with more items, in ranges of their own.

        Args:
          packed: codes of all items per category, those of this layout first.
          num_clusters: of the new items of each category.
          seed: of the clusters.
        Returns:
          the layout, and the number that each range of this one has in it. In a range
          everything stays where it was from its start.
        """
        counts = np.diff(self.category_starts)
        more = Layout.make(
            tuple(c[n:] for c, n in zip(packed, counts, strict=True)),
            num_clusters,
            seed,
        )
        starts = self.category_starts + more.category_starts
        order, ours, theirs = [], self.category_starts, more.category_starts
        for category, count in enumerate(counts.tolist()):
            order.append(self.order[ours[category] : ours[category + 1]])
            new = more.order[theirs[category] : theirs[category + 1]]
            order.append(new + np.int32(count))

        def moved(layout: Layout, shifts: np.ndarray) -> np.ndarray:
            firsts = layout.range_starts[:-1]
            of = np.searchsorted(layout.category_starts, firsts, "right") - 1
            return firsts + shifts[of]

        old = moved(self, theirs)
        new = moved(more, starts[:-1] + counts - theirs[:-1])
        # The coarse ranges come first, then the fine ones, each in order.
        kinds = np.concatenate(
            [
                np.arange(len(old)) >= self.num_coarse,
                np.arange(len(new)) >= more.num_coarse,
            ]
        )
        firsts = np.concatenate([old, new])
        sorted_ = np.lexsort((firsts, kinds))
        numbers = np.empty(len(firsts), np.int32)
        numbers[sorted_] = np.arange(len(firsts))
        layout = Layout(
            order=np.concatenate(order),
            category_starts=starts,
            range_starts=np.append(firsts[sorted_], starts[-1]),
            num_coarse=self.num_coarse + more.num_coarse,
        )
        return layout, numbers[: len(old)]

    def by_position(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Arrays by item id, one for each category, as one array by position."""
        starts = self.category_starts
        return np.concatenate(
            [
                array[self.order[first:last]]
                for array, first, last in zip(arrays, starts, starts[1:], strict=False)
            ]
        )

    @functools.cached_property
    def places(self) -> Int32[np.ndarray, " n"]:
        """The position of each item, by the start of its category plus its id."""
        places = np.empty(len(self.order), np.int32)
        starts = self.category_starts
        for first, last in zip(starts, starts[1:], strict=False):
            places[first + self.order[first:last]] = np.arange(first, last)
        return places

    def positions(
        self, slots: tuple[int, ...], items: Int[np.ndarray, "n s"]
    ) -> Int32[np.ndarray, "n s"]:
        """Positions of items given by their ids within the category of the slot."""
        return self.places[items + self.category_starts[list(slots)].astype(np.int32)]

    def range_maxima(self, values: Int32[np.ndarray, " n"]) -> Int32[np.ndarray, " r"]:
        """The largest of the values, given by position, of each range."""
        starts, split = self.range_starts[:-1], self.num_coarse
        if not len(values):
            return values
        coarse = np.maximum.reduceat(values, starts[:split])
        if len(starts) - split == len(values):  # each item is a range
            return np.concatenate([coarse, values])
        return np.concatenate([coarse, np.maximum.reduceat(values, starts[split:])])


def arrange(
    layout: Layout,
    positions: Int32[np.ndarray, "n s"],
    pair_terms: Callable[[Int32[np.ndarray, "n s"]], Int32[np.ndarray, " n"]],
    outfits: Int[np.ndarray, " n"],
) -> kernels.Blocks:
    """Puts outfits into blocks.

    Outfits of the same clusters in all slots make blocks if they are many; else the
    last slots' clusters are given up, one after the other. Within such a group they
    are ordered by compatibility, and those of the same in the order given.

    Args:
      positions: of the items of each outfit.
      pair_terms: of outfits by the positions of their items.
      outfits: ids.
    """
    n, slots = positions.shape
    starts, split = layout.range_starts[:-1], layout.num_coarse
    # Which coarse and which fine range each position is in.
    every = np.arange(layout.range_starts[-1])
    coarse, fine = (
        (np.searchsorted(part, every, "right") - 1 + first).astype(np.int32)
        for part, first in ((starts[:split], 0), (starts[split:], split))
    )
    group = np.full(n, -1, np.int32)
    ranges, num_groups = [], 0
    for depth in range(slots, -1, -1):
        rest = np.flatnonzero(group < 0) if ranges else slice(None)
        labels = np.stack(
            [
                (fine if slot < depth else coarse)[positions[rest, slot]]
                for slot in range(slots)
            ],
            axis=1,
        )
        keys = row_keys(labels)
        if keys.max(initial=0) > 4 * len(keys):
            keys = np.unique(keys, return_inverse=True)[1]
        sizes = np.bincount(keys)
        kept = np.flatnonzero(sizes >= (_MIN_GROUP if depth else 1))
        numbers = np.full(len(sizes), -1, np.int32)
        numbers[kept] = num_groups + np.arange(len(kept))
        group[rest] = numbers[keys]
        rows = np.empty(len(sizes), np.int64)
        rows[keys] = np.arange(len(keys))
        ranges.append(labels[rows[kept]])
        num_groups += len(kept)
    sizes = np.bincount(group, minlength=num_groups)
    ends = np.cumsum(sizes)
    order = kernels.order_by_group(group, ends - sizes)
    # What is read in another order is the slow part, so that comes once. After it alike
    # items are near each other, and their codes in the processor's cache.
    positions, outfits = positions[order], outfits.astype(np.uint32)[order]
    del group, order
    compatibilities = pair_terms(positions)
    falling = kernels.order_in_groups(ends, compatibilities)
    num_blocks = -(-sizes // _BLOCK)
    block_group = np.repeat(np.arange(num_groups), num_blocks)
    inside = np.arange(len(block_group)) - np.repeat(
        np.cumsum(num_blocks) - num_blocks, num_blocks
    )
    block_starts = (ends - sizes)[block_group] + inside * _BLOCK
    group_ranges = np.concatenate(ranges)
    block_ranges = group_ranges[block_group]
    compatibilities = compatibilities[falling]
    tops = compatibilities[block_starts]
    block_starts = np.append(block_starts, n).astype(np.int64)
    # One slot after the other, for less memory.
    items = np.empty((n, slots), np.uint16)
    for slot in range(slots):
        firsts = starts[group_ranges[:, slot]].astype(np.int32)
        items[:, slot] = positions[falling, slot] - np.repeat(firsts, sizes)
    return kernels.Blocks(
        items=items,
        compatibilities=compatibilities,
        outfits=outfits[falling],
        starts=block_starts,
        tops=tops,
        ranges=block_ranges,
        **groups_of(block_ranges, tops),
        range_starts=layout.range_starts,
    )


def groups_of(
    ranges: Int32[np.ndarray, "b s"], tops: Int32[np.ndarray, " b"]
) -> dict[str, np.ndarray]:
    """Runs of blocks with the same ranges, as `Blocks` has them."""
    changes = np.flatnonzero((ranges[1:] != ranges[:-1]).any(axis=1)) + 1
    firsts = np.concatenate([[0], changes])[: len(ranges)]
    return {
        "groups": np.append(firsts, len(ranges)),
        "group_ranges": ranges[firsts],
        "group_tops": tops[firsts],
    }


def positions_of(
    blocks: kernels.Blocks, rows: Int[np.ndarray, " n"]
) -> Int64[np.ndarray, "n s"]:
    """Positions of the items of stored outfits."""
    block = np.searchsorted(blocks.starts, rows, "right") - 1
    return blocks.range_starts[blocks.ranges[block]] + blocks.items[rows]


def row_keys(labels: Int[np.ndarray, "n s"]) -> Int64[np.ndarray, " n"]:
    """One number, from 0, for each different row; small where the labels' ranges are."""
    keys = np.zeros(len(labels), np.int64)
    largest = 1
    for column in labels.T if len(labels) else ():
        low = int(column.min())
        count = int(column.max()) - low + 1
        if largest * count >= 2**62:
            keys = np.unique(keys, return_inverse=True)[1]
            largest = int(keys.max()) + 1
        keys *= count
        keys += column - low
        largest *= count
    return keys


def cluster(
    packed: UInt8[np.ndarray, "n w"], num_clusters: int, seed: int
) -> Int[np.ndarray, " n"]:
    """k-means of codes: which cluster each item belongs to.

    Centres start far from each other (as in k-means++) and move a few times, on a
    sample of the items.
    """
    n = len(packed)
    if n <= num_clusters:
        return np.arange(n)
    rng = np.random.default_rng(seed)
    sample = rng.permutation(n)[:_CLUSTER_SAMPLE]
    points = _signs(packed[sample])
    centres = np.empty((num_clusters, points.shape[1]), np.float32)
    distance = np.full(len(points), np.inf, np.float32)
    chosen = 0
    for number in range(num_clusters):
        centres[number] = points[chosen]
        # Squares of distances of ±1 codes, which are whole numbers.
        np.minimum(
            distance, 2 * (points.shape[1] - points @ points[chosen]), out=distance
        )
        total = np.cumsum(distance, dtype=np.float64)
        if total[-1] == 0:  # fewer different codes than clusters
            centres = centres[: number + 1]
            break
        chosen = int(np.searchsorted(total, rng.uniform(0, total[-1]), "right"))
        chosen = min(chosen, len(points) - 1)
    for _ in range(_CLUSTER_ROUNDS):
        labels = _nearest(points, centres)
        members = (labels == np.arange(len(centres))[:, None]).astype(np.float32)
        counts = members.sum(axis=1, keepdims=True)
        sums = members @ points
        centres = np.where(counts > 0, sums / np.maximum(counts, 1), centres)
    parts = range(0, n, _CLUSTER_SAMPLE)
    return np.concatenate(
        [_nearest(_signs(packed[i : i + _CLUSTER_SAMPLE]), centres) for i in parts]
    )


def _signs(packed: UInt8[np.ndarray, "n w"]) -> Float32[np.ndarray, "n d"]:
    bits = np.unpackbits(packed, axis=1, bitorder="little")
    return bits.astype(np.float32) * 2 - 1


def _nearest(
    points: Float32[np.ndarray, "n d"], centres: Float32[np.ndarray, "k d"]
) -> Int[np.ndarray, " n"]:
    norms = np.einsum("kd,kd->k", centres, centres)
    return np.argmax(points @ centres.T - norms / 2, axis=1)
