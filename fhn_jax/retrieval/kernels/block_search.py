"""Search of stored outfits, leaving out the blocks that cannot hold one of the best.

For a block B of outfits whose item in slot s comes from range R_s,

  score(o) = Σ_s affinity(o_s) + compatibility(o)
           ≤ Σ_s max_{i ∈ R_s} affinity(i) + max_{o ∈ B} compatibility(o)

for every outfit o in B. B is pruned when that is below the k-th best score so far. In a
group of blocks with the same ranges the first sum is the same and compatibilities fall,
so the blocks after a pruned one, and the outfits after a pruned one, are pruned too.
"""

import typing

import numpy as np
from jaxtyping import Int32

from fhn_jax.retrieval.kernels.jit import njit, njit_no_refcount
from fhn_jax.retrieval.kernels.top_k import TopK, push

# Below any affinity: the bound of a range without an admitted item.
NEG_INF = -(2**31)
# Below any sum of bounds, several times over: a range of the group admits no item.
_IMPOSSIBLE = -(2**56)
# The first blocks of this many groups with the largest bounds are searched before all
# others: a high k-th best score then prunes nearly everything else.
_FIRST_BLOCKS = 32


class Blocks(typing.NamedTuple):
    """Outfits in blocks whose items come from the same ranges of positions.

    Shapes: n outfits, s slots, b blocks, r ranges, g groups. Items are numbered by
    position, all categories in one numbering; a range is a run of at most 65,536
    positions. Blocks with the same ranges follow each other: a group.

    Attributes:
      items: uint16 [n, s], position less the start of the range.
      compatibilities: int32 [n], falling within a block.
      outfits: uint32 [n], ids.
      starts: int64 [b + 1], first outfit of each block.
      tops: int32 [b], the largest compatibility of each block; they fall within a
        group.
      ranges: int32 [b, s], the range of each slot.
      groups: int64 [g + 1], first block of each group.
      group_ranges, group_tops: int32 [g, s] and [g], those of its first block: they bound
        the group without a look at its blocks.
      range_starts: int64 [r], the first position of each range.
    """

    items: np.ndarray
    compatibilities: np.ndarray
    outfits: np.ndarray
    starts: np.ndarray
    tops: np.ndarray
    ranges: np.ndarray
    groups: np.ndarray
    group_ranges: np.ndarray
    group_tops: np.ndarray
    range_starts: np.ndarray


class Filters(typing.NamedTuple):
    """Which outfits are admitted.

    Attributes:
      dead, excluded: int64, sorted ids that are not.
      admitted: bool [items] by position: an outfit has none but these; no entries
        admit all.
      wanted: positions; an outfit has all of these.
      gone: int64 [e, s], outfits that are not by the positions of their items, in
        rising order within a row and among the rows.
    """

    dead: np.ndarray
    excluded: np.ndarray
    admitted: np.ndarray
    wanted: np.ndarray
    gone: np.ndarray


def search_blocks(
    blocks: Blocks,
    affinities: Int32[np.ndarray, " items"],
    bounds: Int32[np.ndarray, " r"],
    filters: Filters,
    best: TopK,
    place: int,
) -> None:
    """Puts the best outfits of some blocks among the best so far.

    Args:
      affinities: of the items, by position.
      bounds: largest affinity of an admitted item of each range; `NEG_INF` without one.
      best: is changed; the blocks that are looked at are counted in it.
      place: of the first outfit.
    """
    _search(*blocks, affinities, bounds, *filters, *best, place, _FIRST_BLOCKS)


@njit
def _search(
    items,
    compatibilities,
    outfits,
    starts,
    tops,
    ranges,
    groups,
    group_ranges,
    group_tops,
    range_starts,
    affinities,
    bounds,
    dead,
    excluded,
    admitted,
    wanted,
    gone,
    best_scores,
    best_outfits,
    best_places,
    counts,
    place,
    num_first,
):
    num_groups, slots = len(groups) - 1, ranges.shape[1]
    item_bounds = np.empty(num_groups, np.int64)
    first = np.full(num_first, -1, np.int64)
    wide = np.empty(len(bounds), np.int64)
    for number, bound in enumerate(bounds):
        wide[number] = bound if bound != NEG_INF else _IMPOSSIBLE
    least = _IMPOSSIBLE // 2
    if counts[0] == len(best_scores):
        least = np.int64(best_scores[0])
    _bound_groups(group_ranges, group_tops, wide, least, item_bounds, first)
    bases, base = np.empty(slots, np.int64), np.uint64(0)
    filtered = len(admitted) > 0
    begun = np.zeros(num_groups, np.bool_)
    positions = np.empty(slots, np.int64)
    for number in range(num_first + num_groups):
        group = first[number] if number < num_first else number - num_first
        if group < 0 or item_bounds[group] + group_tops[group] < least:
            continue
        if counts[0] == len(best_scores):
            least = np.int64(best_scores[0])
        begin, end = groups[group], groups[group + 1]
        if number < num_first:
            end, begun[group] = begin + 1, True
        elif begun[group]:
            begin += 1
        for block in range(begin, end):
            full = counts[0] == len(best_scores)
            if full and item_bounds[group] + tops[block] < best_scores[0]:
                break
            counts[1] += 1
            if block == begin:
                for slot in range(slots):
                    bases[slot] = range_starts[ranges[block, slot]]
                base = np.uint64(bases[0])  # An unsigned index needs no test.
            for row in range(starts[block], starts[block + 1]):
                # Before all else: of few admitted items, most outfits have others.
                if filtered and not admitted[base + np.uint64(items[row, 0])]:
                    continue
                score = np.int64(compatibilities[row])
                full = counts[0] == len(best_scores)
                if full and item_bounds[group] + score < best_scores[0]:
                    break
                if filtered:
                    are_admitted = True
                    for slot in range(1, slots):
                        if not admitted[bases[slot] + items[row, slot]]:
                            are_admitted = False
                            break
                    if not are_admitted:
                        continue
                for slot in range(slots):
                    score += affinities[bases[slot] + items[row, slot]]
                if full and score < best_scores[0]:
                    continue
                outfit = np.int64(outfits[row])
                if full and score == best_scores[0] and outfit > best_outfits[0]:
                    continue
                if _contains(dead, outfit) or _contains(excluded, outfit):
                    continue
                if len(gone) and _is_gone(gone, items[row], bases, positions):
                    continue
                if _has_wanted_items(items[row], bases, wanted):
                    push(
                        best_scores,
                        best_outfits,
                        best_places,
                        counts,
                        score,
                        outfit,
                        place + row,
                    )


@njit_no_refcount
def _bound_groups(group_ranges, group_tops, bounds, least, item_bounds, first):
    """Bounds what the items of each group add, and finds the groups to begin with.

    Args:
      bounds: int64 [r], `_IMPOSSIBLE` for ranges without an admitted item.
      least: groups of a lower bound are left out.
      item_bounds: int64 [g], filled with Σ_s max_{i ∈ R_s} affinity(i).
      first: int64, all -1; filled with the groups whose first blocks have the largest
        bounds, falling, as far as there are so many.
    """
    last = len(first) - 1
    for group in range(len(item_bounds)):
        bound = np.int64(0)
        for slot in range(group_ranges.shape[1]):
            # An unsigned index needs no test.
            bound += bounds[np.uint64(group_ranges[group, slot])]
        item_bounds[group] = bound
        bound += group_tops[group]
        if bound < least:
            continue
        # Insertion into a sorted list.
        place = last + 1
        while place > 0:
            other = first[place - 1]
            if other >= 0 and item_bounds[other] + group_tops[other] >= bound:
                break
            place -= 1
            if place < last:
                first[place + 1] = other
        if place <= last:
            first[place] = group
        if first[last] >= 0:
            worst = first[last]
            least = max(least, item_bounds[worst] + group_tops[worst])


@njit_no_refcount
def _contains(ids, wanted):
    if len(ids) == 0:
        return False
    place = np.searchsorted(ids, wanted)
    return place < len(ids) and ids[place] == wanted


@njit_no_refcount
def _is_gone(gone, row, bases, positions):
    """Whether an outfit's items, in any order, are a row of `gone`.

    Args:
      positions: int64 [s], room for the positions in rising order.
    """
    slots = len(bases)
    for slot in range(slots):
        position, place = bases[slot] + row[slot], slot
        while place > 0 and positions[place - 1] > position:
            positions[place] = positions[place - 1]
            place -= 1
        positions[place] = position
    low, high = 0, len(gone)
    while low < high:
        middle = (low + high) // 2
        slot = 0
        while slot < slots and gone[middle, slot] == positions[slot]:
            slot += 1
        if slot == slots:
            return True
        if gone[middle, slot] < positions[slot]:
            low = middle + 1
        else:
            high = middle
    return False


@njit_no_refcount
def _has_wanted_items(row, bases, wanted):
    """Whether the wanted items are among those of an outfit."""
    for position in wanted:
        has = False
        for slot in range(len(bases)):
            has |= bases[slot] + row[slot] == position
        if not has:
            return False
    return True
