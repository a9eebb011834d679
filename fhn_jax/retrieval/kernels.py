"""Inner loops of retrieval: compiled where numba is installed, numpy where it is not.

Everything here is whole numbers (or products of them that float64 holds exactly), so
both ways give the same answers, bit for bit. What other modules call takes arrays and
picks the way; what carries `_jit` or `_borrowing` is for compiled loops.
"""

import typing

import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8

try:
    import numba
except ModuleNotFoundError:
    numba = None

# Whether to run the compiled loops. `pip install "fhn_jax[retrieval]"` brings them.
COMPILED = numba is not None
# An affinity below all others: of a range of items without an admitted one.
NONE = -(2**31)
# A bound of blocks that need no look; several of them can be added up.
_DONE = -(2**56)
# Users whose affinities are computed together: two cache lines of 32-bit numbers.
_USERS = 32
_ITEMS = 64
# How many of the most promising blocks of outfits are looked at before the others; at
# most one of a group where loops are compiled.
_FIRST_BLOCKS = 32


def _jit(loop, **options):
    """Compiles `loop` at its first call and keeps the result beside the source.

    The loops carry `no_type_check`, since a loop wrapped by a checker of annotations
    cannot be compiled. Without numba the loop stays as it is, and is not called.
    """
    if numba is None:
        return loop
    try:
        return numba.njit(cache=True, nogil=True, **options)(loop)
    except RuntimeError:  # there is no folder to keep it in
        return numba.njit(nogil=True, **options)(loop)


def _borrowing(loop):
    """As `_jit`, for loops that make no arrays.

    Those they are handed are not theirs to free, so references need no counting: with
    tuples of twenty arrays that takes longer than the loops themselves.
    """
    try:
        return _jit(loop, _nrt=False)
    except KeyError:  # the option has no promise of staying
        return _jit(loop)


def _inlined(loop):
    """As `_jit`, but written into the loops that call it.

    For what is called often and does little: handing over a tuple of twenty arrays
    takes longer than that.
    """
    return _jit(loop, inline="always")


def affinities(
    codes: UInt8[np.ndarray, "n mw"],
    scales: Float32[np.ndarray, "n m"] | None,
    tables: Int32[np.ndarray, "u w 256"],
    padding: int = 0,
) -> Int32[np.ndarray, "u padded"]:
    """Sums a user's weights over the bits of each item, a byte at a time.

    Args:
      codes: packed codes, the bytes of m modalities side by side.
      scales: factor of each item's code by modality; None for 1.
      tables: for each user and place of a byte the sum for each of its values; one set
        serves every modality.
      padding: how many columns of no meaning follow those of the items.
    """
    n, width = len(codes), tables.shape[1]
    sums = _sums_compiled if COMPILED else _sums_numpy
    out = np.empty((len(tables), n + padding), np.int32)
    if scales is None:
        sums(codes, tables, out)
        return out
    part = np.empty((len(tables), n), np.int32)
    out[:, :n] = 0
    for modality, factors in enumerate(scales.T.astype(np.float64)):
        first = modality * width
        sums(np.ascontiguousarray(codes[:, first : first + width]), tables, part)
        out[:, :n] += np.rint(part * factors).astype(np.int32)
    return out


def _sums_numpy(codes, tables, out):
    width = tables.shape[1]
    total = np.zeros((len(tables), len(codes)), np.int32)
    for byte, column in enumerate(codes.T):
        total += tables[:, byte % width][:, column]
    out[:, : len(codes)] = total


def _sums_compiled(codes, tables, out):
    users, width = tables.shape[:2]
    if width % 8:
        _sums_loop(codes, tables, out)
        return
    # The tables of many users side by side: each look-up then serves all of them.
    many = users // _USERS * _USERS
    for first in range(0, many, _USERS):
        some = tables[first : first + _USERS].transpose(1, 2, 0).reshape(-1)
        _sums_of_many_loop(codes, some, width, out[first : first + _USERS])
    words = codes.view(np.uint64)
    for user in range(many, users):
        _sums_of_one_loop(words, tables[user].reshape(-1), width // 8, out[user])


@_jit
@typing.no_type_check
def _sums_loop(codes, tables, out):
    users, width = tables.shape[:2]
    for item in range(len(codes)):
        for user in range(users):
            total = np.int32(0)
            for byte in range(codes.shape[1]):
                total += tables[user, byte % width, codes[item, byte]]
            out[user, item] = total


@_jit
@typing.no_type_check
def _sums_of_one_loop(words, table, width, out):
    """Codes as 64-bit words; unsigned numbers spare a test for negative ones."""
    low = np.uint64(255)
    for item in range(len(words)):
        total = np.int32(0)
        for word in range(words.shape[1]):
            x = words[item, word]
            at = np.uint64((word % width) * 2048)
            a = table[at + (x & low)]
            b = table[at + np.uint64(256) + ((x >> np.uint64(8)) & low)]
            c = table[at + np.uint64(512) + ((x >> np.uint64(16)) & low)]
            d = table[at + np.uint64(768) + ((x >> np.uint64(24)) & low)]
            e = table[at + np.uint64(1024) + ((x >> np.uint64(32)) & low)]
            f = table[at + np.uint64(1280) + ((x >> np.uint64(40)) & low)]
            g = table[at + np.uint64(1536) + ((x >> np.uint64(48)) & low)]
            h = table[at + np.uint64(1792) + (x >> np.uint64(56))]
            total += ((a + b) + (c + d)) + ((e + f) + (g + h))
        out[item] = total


@_jit
@typing.no_type_check
def _sums_of_many_loop(codes, table, width, out):
    users = np.uint64(_USERS)
    n, bytes_ = codes.shape
    # Some items at a time, whose sums are turned into rows while they are at hand.
    sums = np.empty((_ITEMS, _USERS), np.int32)
    for start in range(0, n, _ITEMS):
        stop = min(start + _ITEMS, n)
        for item in range(start, stop):
            row = sums[item - start]
            for byte in range(0, bytes_, 8):
                at = np.uint64((byte % width) * 256)
                a = (at + np.uint64(codes[item, byte])) * users
                b = (at + np.uint64(256) + np.uint64(codes[item, byte + 1])) * users
                c = (at + np.uint64(512) + np.uint64(codes[item, byte + 2])) * users
                d = (at + np.uint64(768) + np.uint64(codes[item, byte + 3])) * users
                e = (at + np.uint64(1024) + np.uint64(codes[item, byte + 4])) * users
                f = (at + np.uint64(1280) + np.uint64(codes[item, byte + 5])) * users
                g = (at + np.uint64(1536) + np.uint64(codes[item, byte + 6])) * users
                h = (at + np.uint64(1792) + np.uint64(codes[item, byte + 7])) * users
                for user in range(users):
                    part = (table[a + user] + table[b + user]) + (
                        table[c + user] + table[d + user]
                    )
                    part += (table[e + user] + table[f + user]) + (
                        table[g + user] + table[h + user]
                    )
                    row[user] = part if byte == 0 else row[user] + part
        for user in range(_USERS):
            for item in range(start, stop):
                out[user, item] = sums[item - start, user]


def pairs(
    codes_a: UInt8[np.ndarray, "a mw"],
    codes_b: UInt8[np.ndarray, "b mw"],
    scales_a: Float32[np.ndarray, "a m"] | None,
    scales_b: Float32[np.ndarray, "b m"] | None,
    ids_a: Int[np.ndarray, " n"],
    ids_b: Int[np.ndarray, " n"],
    table: Int32[np.ndarray, "w 256"],
    differing: bool,
) -> Int32[np.ndarray, " n"]:
    """Sums weights over the bits of pairs of items.

    Args:
      ids_a, ids_b: row n pairs item ids_a[n] of `codes_a` with ids_b[n] of `codes_b`.
      table: for each place of a byte the sum for each of its values.
      differing: whether a byte says which bits differ (±1 codes) or which are both set
        (0/1 codes).
    """
    if not COMPILED:
        return _pairs_numpy(
            codes_a, codes_b, scales_a, scales_b, ids_a, ids_b, table, differing
        )
    out = np.empty(len(ids_a), np.int32)
    _pairs_loop(
        codes_a,
        codes_b,
        _factors(scales_a),
        _factors(scales_b),
        ids_a,
        ids_b,
        table,
        differing,
        out,
    )
    return out


def pair_tables(
    code: UInt8[np.ndarray, " mw"], table: Int32[np.ndarray, "w 256"], differing: bool
) -> Int32[np.ndarray, "mw 256"]:
    """Tables by which `affinities` sums the pairs of one item with any others.

    Args:
      code: of the item.
      table, differing: as for `pairs`.
    """
    values = np.arange(256)
    values = values ^ code[:, None] if differing else values & code[:, None]
    places = np.arange(len(code)) % len(table)
    return table[places[:, None], values]


def _factors(scales):
    """Scales as a compiled loop takes them; no rows for none."""
    return np.empty((0, 0)) if scales is None else scales.astype(np.float64)


def _pairs_numpy(codes_a, codes_b, scales_a, scales_b, ids_a, ids_b, table, differing):
    width = len(table)
    combine = np.bitwise_xor if differing else np.bitwise_and
    total = np.zeros(len(ids_a), np.int32)
    for first in range(0, codes_a.shape[1], width):
        part = np.zeros_like(total)
        for byte in range(first, first + width):
            values = combine(codes_a[ids_a, byte], codes_b[ids_b, byte])
            part += table[byte - first][values]
        if scales_a is not None:
            modality = first // width
            factor = scales_a[ids_a, modality].astype(np.float64)
            factor *= scales_b[ids_b, modality]
            part = np.rint(part * factor).astype(np.int32)
        total += part
    return total


@_borrowing
@typing.no_type_check
def pair(codes_a, codes_b, scales_a, scales_b, a, b, table, differing):
    """One pair of `pairs`, for compiled loops; scales as `_factors` gives them."""
    # Unsigned numbers spare a test for negative ones, and two thirds of the time.
    width = np.uint64(len(table))
    one, other = codes_a[a], codes_b[b]
    total = np.int32(0)
    for modality in range(len(one) // len(table)):
        first = np.uint64(modality) * width
        part = np.int32(0)
        if differing:
            for byte in range(width):
                part += table[byte, one[first + byte] ^ other[first + byte]]
        else:
            for byte in range(width):
                part += table[byte, one[first + byte] & other[first + byte]]
        if len(scales_a):
            factor = scales_a[a, modality] * scales_b[b, modality]
            part = np.int32(np.rint(part * factor))
        total += part
    return total


@_jit
@typing.no_type_check
def _pairs_loop(
    codes_a, codes_b, scales_a, scales_b, ids_a, ids_b, table, differing, out
):
    for n in range(len(out)):
        out[n] = pair(
            codes_a, codes_b, scales_a, scales_b, ids_a[n], ids_b[n], table, differing
        )


class Best(typing.NamedTuple):
    """The best outfits found so far: places for k of them, in no order.

    Attributes:
      scores: in units.
      outfits: ids; of two equal scores the lower id is the better one.
      places: where each outfit is stored, for whoever asks.
      count: int64 [1], how many places are filled, from the start.
    """

    scores: np.ndarray
    outfits: np.ndarray
    places: np.ndarray
    count: np.ndarray

    @classmethod
    def empty(cls, k: int) -> "Best":
        """Room for k outfits."""
        return cls(
            np.empty(k, np.int32),
            np.empty(k, np.int64),
            np.empty(k, np.int64),
            np.zeros(1, np.int64),
        )


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
      tops: int32 [b], the largest compatibility of each block, side by side; they fall
        within a group.
      ranges: int32 [b, s], the range of each slot.
      groups: int64 [g + 1], first block of each group.
      range_starts: int64 [r], the first position of each range.
    """

    items: np.ndarray
    compatibilities: np.ndarray
    outfits: np.ndarray
    starts: np.ndarray
    tops: np.ndarray
    ranges: np.ndarray
    groups: np.ndarray
    range_starts: np.ndarray


class Filters(typing.NamedTuple):
    """Which outfits are admitted.

    Attributes:
      dead, excluded: int64, sorted ids that are not.
      admitted: bool [items] by position: an outfit has none but these; no entries
        admit all.
      wanted: positions; an outfit has all of these.
    """

    dead: np.ndarray
    excluded: np.ndarray
    admitted: np.ndarray
    wanted: np.ndarray


def search_blocks(
    blocks: Blocks,
    affinities: Int32[np.ndarray, " items"],
    bounds: Int32[np.ndarray, " r"],
    filters: Filters,
    best: Best,
    place: int,
) -> None:
    """Puts the best outfits of some blocks among the best so far.

    A block is left out when even an outfit of the best items of its ranges, with the
    largest compatibility of the block, would not be among the best; so are those after
    it in its group then.

    Args:
      affinities: of the items, by position.
      bounds: largest affinity of an admitted item of each range; `NONE` without one.
      best: is changed.
      place: of the first outfit.
    """
    run = _search_compiled if COMPILED else _search_numpy
    run(blocks, affinities, bounds, filters, best, place)


def _search_numpy(blocks, affinities, bounds, filters, best, place):
    block_bounds = bounds.astype(np.int64)[blocks.ranges].sum(axis=1)
    block_bounds += blocks.tops
    possible = np.flatnonzero((bounds[blocks.ranges] != NONE).all(axis=1))
    order = possible[np.argsort(-block_bounds[possible], kind="stable")]
    firsts = blocks.range_starts[blocks.ranges]
    sizes = np.diff(blocks.starts)
    done, step = 0, _FIRST_BLOCKS
    while done < len(order):
        some = order[done : done + step]
        if best.count[0] == len(best.scores):
            some = some[block_bounds[some] >= best.scores.min()]
        if not some.size:
            return
        block = np.repeat(some, sizes[some])
        inside = np.arange(len(block)) - np.repeat(
            np.cumsum(sizes[some]) - sizes[some], sizes[some]
        )
        rows = blocks.starts[block] + inside
        positions = firsts[block] + blocks.items[rows]
        scores = blocks.compatibilities[rows] + affinities[positions].sum(
            axis=1, dtype=np.int32
        )
        outfits = blocks.outfits[rows].astype(np.int64)
        admitted = ~np.isin(outfits, filters.dead)
        admitted &= ~np.isin(outfits, filters.excluded)
        if len(filters.admitted):
            admitted &= filters.admitted[positions].all(axis=1)
        for wanted in filters.wanted:
            admitted &= (positions == wanted).any(axis=1)
        _merge(scores[admitted], outfits[admitted], place + rows[admitted], best)
        done, step = done + step, 2 * step


def _merge(scores, outfits, places, best):
    """Puts the best of some outfits among the best so far."""
    count = best.count[0]
    scores = np.concatenate([best.scores[:count], scores])
    outfits = np.concatenate([best.outfits[:count], outfits])
    places = np.concatenate([best.places[:count], places])
    # The scores' negatives would leave out the least int32; complements do not.
    order = np.lexsort((outfits, ~scores))[: len(best.scores)]
    best.count[0] = len(order)
    best.scores[: len(order)] = scores[order]
    best.outfits[: len(order)] = outfits[order]
    best.places[: len(order)] = places[order]


def _search_compiled(blocks, affinities, bounds, filters, best, place):
    _search_loop(*blocks, affinities, bounds, *filters, *best, place, _FIRST_BLOCKS)


@_jit
@typing.no_type_check
def _search_loop(
    items,
    compatibilities,
    outfits,
    starts,
    tops,
    ranges,
    groups,
    range_starts,
    affinities,
    bounds,
    dead,
    excluded,
    admitted,
    wanted,
    best_scores,
    best_outfits,
    best_places,
    count,
    place,
    num_first,
):
    num_groups, slots = len(groups) - 1, ranges.shape[1]
    # The best items of each group.
    best_items = np.empty(num_groups, np.int64)
    # The groups whose first blocks are most promising, in falling order, come first: a
    # good k-th best outfit rules out nearly all the others.
    first = np.full(num_first, -1, np.int64)
    first_bounds = np.full(num_first, np.int64(_DONE // 2))
    for group in range(num_groups):
        bound = np.int64(0)
        for slot in range(slots):
            largest = bounds[ranges[groups[group], slot]]
            bound += largest if largest != NONE else _DONE
        best_items[group] = bound
        bound += tops[groups[group]]
        if bound > first_bounds[num_first - 1]:
            last = num_first - 1
            while last > 0 and first_bounds[last - 1] < bound:
                first[last] = first[last - 1]
                first_bounds[last] = first_bounds[last - 1]
                last -= 1
            first[last], first_bounds[last] = group, bound
    bases = np.empty(slots, np.int64)
    begun = np.zeros(num_groups, np.bool_)
    for number in range(num_first + num_groups):
        group = first[number] if number < num_first else number - num_first
        if group < 0 or best_items[group] < _DONE // 2:
            continue
        begin, end = groups[group], groups[group + 1]
        if number < num_first:
            end, begun[group] = begin + 1, True
        elif begun[group]:
            begin += 1
        for block in range(begin, end):
            full = count[0] == len(best_scores)
            if full and best_items[group] + tops[block] < best_scores[0]:
                break
            if block == begin:
                for slot in range(slots):
                    bases[slot] = range_starts[ranges[block, slot]]
            for row in range(starts[block], starts[block + 1]):
                score = compatibilities[row]
                full = count[0] == len(best_scores)
                if full and best_items[group] + score < best_scores[0]:
                    break
                for slot in range(slots):
                    score += affinities[bases[slot] + items[row, slot]]
                if full and score < best_scores[0]:
                    continue
                outfit = np.int64(outfits[row])
                if full and score == best_scores[0] and outfit > best_outfits[0]:
                    continue
                if _contains(dead, outfit) or _contains(excluded, outfit):
                    continue
                fits = True
                if len(admitted):
                    for slot in range(slots):
                        fits &= admitted[bases[slot] + items[row, slot]]
                for position in wanted:
                    has = False
                    for slot in range(slots):
                        has |= bases[slot] + items[row, slot] == position
                    fits &= has
                if fits:
                    _push(
                        best_scores,
                        best_outfits,
                        best_places,
                        count,
                        score,
                        outfit,
                        place + row,
                    )


@_jit
@typing.no_type_check
def _contains(ids, wanted):
    place = np.searchsorted(ids, wanted)
    return place < len(ids) and ids[place] == wanted


@_jit
@typing.no_type_check
def _push(scores, outfits, places, count, score, outfit, place):
    """Adds an outfit to a heap whose first entry is the worst; drops that if full."""
    size = count[0]
    if size < len(scores):
        here = size
        count[0] += 1
        while here > 0:
            above = (here - 1) // 2
            if not (
                score < scores[above]
                or (score == scores[above] and outfit > outfits[above])
            ):
                break
            scores[here] = scores[above]
            outfits[here] = outfits[above]
            places[here] = places[above]
            here = above
    else:
        here = 0
        while True:
            below = 2 * here + 1
            if below >= size:
                break
            other = below + 1
            if other < size and (
                scores[other] < scores[below]
                or (scores[other] == scores[below] and outfits[other] > outfits[below])
            ):
                below = other
            if not (
                scores[below] < score
                or (scores[below] == score and outfits[below] > outfit)
            ):
                break
            scores[here] = scores[below]
            outfits[here] = outfits[below]
            places[here] = places[below]
            here = below
    scores[here] = score
    outfits[here] = outfit
    places[here] = place
