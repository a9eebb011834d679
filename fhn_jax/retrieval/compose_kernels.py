"""The inner loops of composing outfits, compiled by numba.

Why few outfits need a look: split each affinity evenly over the pairs its item is in.
A score is then a sum of one value a pair of slots, its *edges*. An outfit among the k
best so far or better has at least one edge that reaches its threshold; the thresholds
add up to the k-th best score. So all edges above their threshold are found (by bounds
of pairs of clusters, then of an item and a cluster, then one by one), and each is
completed to outfits, where bounds of clusters leave few items to try.
"""

import typing

import numpy as np

from fhn_jax.retrieval.kernels import _borrowing, _inlined, _jit, pair

# Below any score: an item that may not be used, or a place that is not yet taken.
NONE = -(2**50)
# Clusters of the first category that a first good outfit is looked for in.
STARTS = 3
# Edges count affinities and pair terms so many times: all shares divide it.
WHOLE = 12


class Problem(typing.NamedTuple):
    """What is searched. Items are numbered by position, clusters as in `PairBounds`.

    Attributes:
      affinities: int64 [n], what an item adds, with its pair terms with fixed items;
        NONE if it may not be used.
      best: int64 [clusters], the largest affinity of each cluster.
      lowest: int64 [clusters], the lowest id in each cluster that may be used.
      codes, scales, table, differing: as `fhn_jax.retrieval.kernels.pair` takes them.
      ids: int32 [n], the id of each position within its category.
      clusters, first_cluster, cluster_of, items, rows, columns, pairs, largest: as in
        `PairBounds`.
      slots: int64 [s], the category of each slot.
      free: int64 [f], the slots to fill, at least two of different categories.
      fixed: int64 [s], the id in each slot that is not free.
    """

    affinities: np.ndarray
    best: np.ndarray
    lowest: np.ndarray
    codes: np.ndarray
    scales: np.ndarray
    table: np.ndarray
    differing: bool
    ids: np.ndarray
    clusters: np.ndarray
    first_cluster: np.ndarray
    cluster_of: np.ndarray
    items: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    pairs: np.ndarray
    largest: np.ndarray
    slots: np.ndarray
    free: np.ndarray
    fixed: np.ndarray


class State(typing.NamedTuple):
    """What changes during a search.

    Attributes:
      scores: int64 [k], the best found, falling; NONE where there are fewer.
      outfits: int64 [k, s], their ids; those of one category rise from slot to slot.
      chosen: int64 [s], the position in each slot; -1 while it is open.
      low: int64 [s], the lowest id that each slot may get.
      row: int64 [s], for passing an outfit on.
      reach: int64 [s, clusters], bounds by cluster for each open slot.
      found: int64 [2], score and position of the best that `_complete_one` saw.
      promise: int64 [clusters], bounds of what the clusters of one category lead to.
      rest: int64 [s], room for the slots that an edge leaves open.
      others, bounds: int64 [largest cluster], room for items of a cluster, and what
        they have with another one at most.
    """

    scores: np.ndarray
    outfits: np.ndarray
    chosen: np.ndarray
    low: np.ndarray
    row: np.ndarray
    reach: np.ndarray
    found: np.ndarray
    promise: np.ndarray
    rest: np.ndarray
    others: np.ndarray
    bounds: np.ndarray


@_borrowing
@typing.no_type_check
def _sort_row(slots, low, row):
    """Puts `low` into `row`, items of one category in rising order."""
    s = len(slots)
    for slot in range(s):
        row[slot] = low[slot]
    for _ in range(s - 1):
        for slot in range(s):
            for other in range(slot + 1, s):
                if slots[slot] == slots[other] and row[slot] > row[other]:
                    row[slot], row[other] = row[other], row[slot]


@_borrowing
@typing.no_type_check
def _before(row, outfit):
    """Whether a row comes before an outfit, among equal scores."""
    for slot in range(len(row)):
        if row[slot] != outfit[slot]:
            return row[slot] < outfit[slot]
    return False


@_borrowing
@typing.no_type_check
def _wins_tie(slots, low, row, outfits):
    """Whether the outfit `low` comes before the last of the best, of equal score."""
    _sort_row(slots, low, row)
    return _before(row, outfits[-1])


@_inlined
@typing.no_type_check
def _hopeful(problem, state, bound):
    """Whether an outfit of score `bound` and ids `low` would be among the best."""
    worst = state.scores[-1]
    if bound != worst:
        return bound > worst
    return _wins_tie(problem.slots, state.low, state.row, state.outfits)


@_borrowing
@typing.no_type_check
def _insert(problem, state, score):
    """Takes the outfit `low` into the best, unless it is there already."""
    scores, outfits = state.scores, state.outfits
    _sort_row(problem.slots, state.low, state.row)
    first, last = 0, len(scores)
    while first < last:
        middle = (first + last) // 2
        worse = scores[middle] < score
        if scores[middle] == score:
            worse = _before(state.row, outfits[middle])
        if worse:
            last = middle
        else:
            first = middle + 1
    if first == len(scores):
        return
    if first > 0 and scores[first - 1] == score:
        same = True
        for slot in range(len(state.row)):
            same &= outfits[first - 1, slot] == state.row[slot]
        if same:
            return
    for place in range(len(scores) - 1, first, -1):
        scores[place] = scores[place - 1]
        for slot in range(len(state.row)):
            outfits[place, slot] = outfits[place - 1, slot]
    scores[first] = score
    for slot in range(len(state.row)):
        outfits[first, slot] = state.row[slot]


@_inlined
@typing.no_type_check
def _pair(problem, a, b):
    return pair(
        problem.codes,
        problem.codes,
        problem.scales,
        problem.scales,
        a,
        b,
        problem.table,
        problem.differing,
    )


@_inlined
@typing.no_type_check
def _set_reach(problem, state, slot):
    """Bounds what each cluster adds in `slot` to the chosen, in `state.reach`."""
    category = problem.slots[slot]
    first = problem.first_cluster[category]
    count = problem.first_cluster[category + 1] - first
    reach = state.reach[slot][:count]
    best = problem.best[first : first + count]
    for q in range(count):
        reach[q] = best[q]
    for other in problem.free:
        position = state.chosen[other]
        if position >= 0 and problem.slots[other] != category:
            begin = problem.rows[position]
            begin += problem.columns[problem.slots[other], category] + first
            bounds = problem.items[begin : begin + count]
            for q in range(count):
                reach[q] += bounds[q]
    return reach


@_borrowing
@typing.no_type_check
def _largest(values):
    # Without places, so that compilers make vector instructions of it.
    largest = values[0]
    for value in values:
        largest = max(largest, value)
    return largest


@_borrowing
@typing.no_type_check
def _place_of(value, values):
    for place in range(len(values)):
        if values[place] == value:
            return place
    return -1


@_inlined
@typing.no_type_check
def _bound_of(problem, state, other, category, cluster):
    """The bound of the pair of what is chosen in `other` with a cluster."""
    begin = problem.rows[state.chosen[other]]
    return problem.items[
        begin + problem.columns[problem.slots[other], category] + cluster
    ]


@_borrowing
@typing.no_type_check
def _exactly(problem, state, slot, position, cluster, value, more):
    """Adds up the pairs of an item with the chosen, while it is hopeful.

    Args:
      value: the score so far, the affinity of the item included.
      more: a bound of what slots still open can add.
    Returns:
      (whether it is hopeful, its score).
    """
    category = problem.slots[slot]
    rest = more
    for other in problem.free:
        if state.chosen[other] >= 0 and problem.slots[other] != category:
            rest += _bound_of(problem, state, other, category, cluster)
    if not _hopeful(problem, state, value + rest):
        return False, value
    for other in problem.free:
        if state.chosen[other] >= 0 and problem.slots[other] != category:
            rest -= _bound_of(problem, state, other, category, cluster)
            value += _pair(problem, state.chosen[other], position)
            if not _hopeful(problem, state, value + rest):
                return False, value
    return True, value


@_borrowing
@typing.no_type_check
def _complete_one(problem, state, slot, total):
    """Takes the best outfits of the chosen items and any item in `slot`.

    Args:
      total: the score of the chosen items.
    """
    first = problem.first_cluster[problem.slots[slot]]
    reach = _set_reach(problem, state, slot)
    state.found[0] = NONE
    # Clusters by falling bound: what the first ones hold spares looks at the others.
    while True:
        most = _largest(reach)
        if total + most < state.scores[-1] or most <= NONE // 2:
            break
        q = _place_of(most, reach)
        reach[q] = 4 * NONE
        cluster = first + q
        state.low[slot] = problem.lowest[cluster]
        if not _hopeful(problem, state, total + most):
            continue
        most += total - problem.best[cluster]
        for position in range(problem.clusters[cluster], problem.clusters[cluster + 1]):
            affinity = problem.affinities[position]
            if affinity <= NONE or most + affinity < state.scores[-1]:
                continue
            state.low[slot] = problem.ids[position]
            good, value = _exactly(
                problem,
                state,
                slot,
                position,
                cluster,
                total + problem.affinities[position],
                0,
            )
            if good:
                _insert(problem, state, value)
                if value > state.found[0]:
                    state.found[0] = value
                    state.found[1] = position
    state.low[slot] = 0


@_borrowing
@typing.no_type_check
def _complete_two(problem, state, slot, other, total):
    """As `_complete_one`, for two open slots."""
    category, second = problem.slots[slot], problem.slots[other]
    first = problem.first_cluster[category]
    count = problem.first_cluster[category + 1] - first
    first_other = problem.first_cluster[second]
    count_other = problem.first_cluster[second + 1] - first_other
    reach = _set_reach(problem, state, slot)
    reach_other = _set_reach(problem, state, other)
    most_other = _largest(reach_other)
    top = _place_of(_largest(reach), reach)
    for number in range(-1, count):
        if number == top:
            continue
        q = top if number < 0 else number
        cluster = first + q
        if problem.best[cluster] <= NONE:
            continue
        more = most_other
        if category != second:
            more = np.int64(4 * NONE)
            for r in range(count_other):
                more = max(
                    more, reach_other[r] + problem.pairs[cluster, first_other + r]
                )
        state.low[slot] = problem.lowest[cluster]
        if not _hopeful(problem, state, total + reach[q] + more):
            continue
        for position in range(problem.clusters[cluster], problem.clusters[cluster + 1]):
            if problem.affinities[position] <= NONE:
                continue
            state.low[slot] = problem.ids[position]
            good, value = _exactly(
                problem,
                state,
                slot,
                position,
                cluster,
                total + problem.affinities[position],
                more,
            )
            if good:
                state.chosen[slot] = position
                _complete_one(problem, state, other, value)
                state.chosen[slot] = -1
                _set_reach(problem, state, other)
    state.low[slot] = 0


@_borrowing
@typing.no_type_check
def _complete(problem, state, rest, total):
    """Takes the best outfits with the chosen items; `rest` are the open slots."""
    if len(rest) == 0:
        if _hopeful(problem, state, total):
            _insert(problem, state, total)
    elif len(rest) == 1:
        _complete_one(problem, state, rest[0], total)
    else:
        _complete_two(problem, state, rest[0], rest[1], total)


@_borrowing
@typing.no_type_check
def _start(problem, state, cluster):
    """Looks for a good outfit, with an item of `cluster` in the first free slot.

    Takes the most promising cluster and item slot by slot, then exchanges one item at
    a time while that helps.
    """
    free = problem.free
    for slot in free:
        state.chosen[slot] = -1
        state.low[slot] = 0
    for number, slot in enumerate(free):
        if number > 0:
            reach = _set_reach(problem, state, slot)
            cluster = problem.first_cluster[problem.slots[slot]]
            cluster += _place_of(_largest(reach), reach)
        best, best_value = -1, np.int64(4 * NONE)
        for position in range(problem.clusters[cluster], problem.clusters[cluster + 1]):
            value = problem.affinities[position]
            for other in free[:number]:
                if problem.slots[other] != problem.slots[slot]:
                    value += _pair(problem, state.chosen[other], position)
            if value > best_value:
                best, best_value = position, value
        state.chosen[slot] = best
        state.low[slot] = problem.ids[best]
    total = _score(problem, state)
    if total <= NONE:
        return
    idle, number = 0, 0
    while idle < len(free):
        slot = free[number % len(free)]
        number += 1
        before = state.chosen[slot]
        state.chosen[slot] = -1
        rest = _score(problem, state)
        _complete_one(problem, state, slot, rest)
        if state.found[0] > total:
            total, before, idle = state.found[0], state.found[1], 0
        else:
            idle += 1
        state.chosen[slot] = before
        state.low[slot] = problem.ids[before]


@_borrowing
@typing.no_type_check
def _score(problem, state):
    """The score of the chosen items."""
    total = np.int64(0)
    for number, slot in enumerate(problem.free):
        position = state.chosen[slot]
        if position < 0:
            continue
        total += problem.affinities[position]
        for other in problem.free[:number]:
            there = state.chosen[other] >= 0
            if there and problem.slots[other] != problem.slots[slot]:
                total += _pair(problem, state.chosen[other], position)
    return total


@_inlined
@typing.no_type_check
def _rest_bound(problem, rest, category_a, cluster_a, category_b, cluster_b):
    """Bounds what open slots can add to items of two clusters."""
    total = np.int64(0)
    for slot in rest:
        category = problem.slots[slot]
        first = problem.first_cluster[category]
        last = problem.first_cluster[category + 1]
        best = problem.best[first:last]
        if category == category_a:
            total += _largest_sum(best, problem.pairs[cluster_b, first:last])
        elif category == category_b:
            total += _largest_sum(best, problem.pairs[cluster_a, first:last])
        else:
            total += _largest_sum_of_three(
                best,
                problem.pairs[cluster_a, first:last],
                problem.pairs[cluster_b, first:last],
            )
    return total + _rest_pairs(problem, rest)


@_inlined
@typing.no_type_check
def _rest_bound_of_item(problem, rest, category_a, i, category_b, cluster_b):
    """As `_rest_bound`, for an item and a cluster."""
    total = np.int64(0)
    for slot in rest:
        category = problem.slots[slot]
        first = problem.first_cluster[category]
        last = problem.first_cluster[category + 1]
        best = problem.best[first:last]
        if category == category_a:
            total += _largest_sum(best, problem.pairs[cluster_b, first:last])
            continue
        begin = problem.rows[i] + problem.columns[category_a, category]
        bounds = problem.items[begin + first : begin + last]
        if category == category_b:
            total += _largest_sum(best, bounds)
        else:
            pairs = problem.pairs[cluster_b, first:last]
            total += _largest_sum_of_three(best, bounds, pairs)
    return total + _rest_pairs(problem, rest)


# Over slices counted from 0, so that compilers make vector instructions of these loops.


@_borrowing
@typing.no_type_check
def _largest_sum(some, others):
    largest = np.int64(4 * NONE)
    for q in range(len(some)):
        largest = max(largest, some[q] + others[q])
    return largest


@_borrowing
@typing.no_type_check
def _largest_sum_of_three(some, others, more):
    largest = np.int64(4 * NONE)
    for q in range(len(some)):
        largest = max(largest, some[q] + (np.int64(others[q]) + more[q]))
    return largest


@_inlined
@typing.no_type_check
def _rest_pairs(problem, rest):
    """Bounds the pair of two open slots."""
    if len(rest) == 2:
        one, two = problem.slots[rest[0]], problem.slots[rest[1]]
        if one != two:
            return np.int64(_largest_pair(problem, one, two))
    return np.int64(0)


@_borrowing
@typing.no_type_check
def _largest_pair(problem, one, two):
    largest = np.int32(-(2**31))
    for p in range(problem.first_cluster[one], problem.first_cluster[one + 1]):
        largest = max(largest, problem.largest[p, two])
    return largest


@_jit
@typing.no_type_check
def compose(problem, scores, outfits, rounds):
    """Finds the best outfits.

    Args:
      scores: int64 [k], all NONE; filled with the best scores, falling.
      outfits: int64 [k, s], filled with their ids.
      rounds: float64, thresholds are approached in these steps up to 1, so that the
        k-th best score is nearly final before most edges are looked for.
    """
    slots, free = problem.slots, problem.free
    s, c = len(slots), len(problem.first_cluster) - 1
    num_clusters = len(problem.clusters) - 1
    largest = 0
    for p in range(num_clusters):
        largest = max(largest, problem.clusters[p + 1] - problem.clusters[p])
    state = State(
        scores,
        outfits,
        np.full(s, -1),
        problem.fixed.copy(),
        np.empty(s, np.int64),
        np.empty((s, num_clusters), np.int64),
        np.empty(2, np.int64),
        np.empty(num_clusters, np.int64),
        np.empty(s, np.int64),
        np.empty(largest, np.int64),
        np.empty(largest, np.int64),
    )
    for slot in free:
        state.low[slot] = 0
    if len(free) == 2:
        # It finds good outfits first by itself; a start would cost more.
        _promise_pairs(problem, state, slots[free[0]], slots[free[1]])
        first, last = problem.first_cluster[slots[free[0]] :][:2]
        mosts, best = state.promise[: last - first], problem.best[first:last]
        # The best clusters first: the k-th best score then soon rules out the others.
        order = np.argsort(-(best + mosts))
        _pairs_alone(problem, state, free[0], free[1], mosts, order)
        return
    amount = np.zeros(c, np.int64)
    for slot in free:
        amount[slots[slot]] += 1
    num_edges = np.int64(0)
    # What an affinity counts in an edge, and the best one of each cluster so counted.
    share = np.zeros(c, np.int64)
    counted = np.zeros(num_clusters, np.int64)
    for category in range(c):
        if 0 < amount[category] < len(free):
            share[category] = WHOLE // (len(free) - amount[category])
            num_edges += amount[category] * (len(free) - amount[category])
        for p in range(
            problem.first_cluster[category], problem.first_cluster[category + 1]
        ):
            counted[p] = share[category] * problem.best[p]
    num_edges //= 2
    tops = np.full((c, c), 64 * NONE)
    reached = np.int64(0)
    for a in range(c):
        for b in range(a + 1, c):
            if amount[a] > 0 and amount[b] > 0:
                tops[a, b] = _top_edge(problem, counted, a, b)
                reached += amount[a] * amount[b] * tops[a, b]
    _start_all(problem, state)
    for part in rounds:
        for a in range(c):
            for b in range(a + 1, c):
                if amount[a] == 0 or amount[b] == 0:
                    continue
                threshold = np.int64(64 * NONE)
                if scores[-1] > NONE:
                    gap = reached - WHOLE * scores[-1]
                    threshold = tops[a, b] - np.int64(np.ceil(gap / num_edges * part))
                    threshold -= 1  # the division may round
                elif part < 1:
                    continue
                _edges(problem, state, a, b, share, counted, threshold)


@_borrowing
@typing.no_type_check
def _promise_pairs(problem, state, a, b):
    """What an item of category b adds at most to each cluster of category a."""
    first_a, last_a = problem.first_cluster[a], problem.first_cluster[a + 1]
    first_b, last_b = problem.first_cluster[b], problem.first_cluster[b + 1]
    best = problem.best[first_b:last_b]
    for p in range(first_a, last_a):
        pairs = problem.pairs[p, first_b:last_b]
        state.promise[p - first_a] = _largest_sum(best, pairs)


@_borrowing
@typing.no_type_check
def _pairs_alone(problem, state, slot, other, mosts, order):
    """Takes the best outfits where two slots of different categories are all to fill.

    There is one edge, so no threshold is needed but the k-th best score. The bounds of
    an item with all clusters lie side by side.

    Args:
      mosts: what an item in `other` adds at most to each cluster.
      order: in which clusters are looked at.
    """
    a, b = problem.slots[slot], problem.slots[other]
    first_a = problem.first_cluster[a]
    first_b, last_b = problem.first_cluster[b], problem.first_cluster[b + 1]
    state.chosen[slot] = state.chosen[other] = -1
    for number in order:
        p, most = first_a + number, mosts[number]
        if problem.best[p] + most < state.scores[-1] or problem.best[p] <= NONE:
            continue
        for i in range(problem.clusters[p], problem.clusters[p + 1]):
            affinity = problem.affinities[i]
            if affinity <= NONE or affinity + most < state.scores[-1]:
                continue
            begin = problem.rows[i] + problem.columns[a, b]
            state.low[slot] = problem.ids[i]
            for q in range(first_b, last_b):
                reach = affinity + problem.items[begin + q]
                if reach + problem.best[q] < state.scores[-1]:
                    continue
                for j in range(problem.clusters[q], problem.clusters[q + 1]):
                    total = affinity + problem.affinities[j]
                    if reach + problem.affinities[j] < state.scores[-1]:
                        continue
                    if problem.affinities[j] <= NONE:
                        continue
                    # Nor can the pair be more than what j has with the cluster of i.
                    least = problem.rows[j] + problem.columns[b, a] + p
                    if total + problem.items[least] < state.scores[-1]:
                        continue
                    state.low[other] = problem.ids[j]
                    total += _pair(problem, i, j)
                    if _hopeful(problem, state, total):
                        _insert(problem, state, total)
    state.low[slot] = state.low[other] = 0


@_borrowing
@typing.no_type_check
def _start_all(problem, state):
    """Starts from the clusters with the best bounds."""
    category = problem.slots[problem.free[0]]
    first = problem.first_cluster[category]
    count = problem.first_cluster[category + 1] - first
    promise = state.promise[:count]
    for p in range(count):
        promise[p] = problem.best[first + p]
        for slot in problem.free[1:]:
            if problem.slots[slot] != category:
                promise[p] += problem.largest[first + p, problem.slots[slot]]
    for _ in range(min(STARTS, count)):
        most = _largest(promise)
        if most <= NONE // 2:
            break
        top = _place_of(most, promise)
        promise[top] = 64 * NONE
        _start(problem, state, first + top)


@_borrowing
@typing.no_type_check
def _top_edge(problem, counted, a, b):
    """The largest bound of an edge of two categories."""
    first, last = problem.first_cluster[a], problem.first_cluster[a + 1]
    ceiling = np.int64(64 * NONE)
    for q in range(problem.first_cluster[b], problem.first_cluster[b + 1]):
        ceiling = max(ceiling, counted[q])
    best = first
    for p in range(first, last):
        if counted[p] + WHOLE * problem.largest[p, b] > (
            counted[best] + WHOLE * problem.largest[best, b]
        ):
            best = p
    top = _row_top(problem, counted, best, b)
    for p in range(first, last):
        if counted[p] + WHOLE * problem.largest[p, b] + ceiling > top:
            top = max(top, _row_top(problem, counted, p, b))
    return top


@_inlined
@typing.no_type_check
def _row_top(problem, counted, p, b):
    """The largest bound of an edge of a cluster with one of category b."""
    first, last = problem.first_cluster[b], problem.first_cluster[b + 1]
    return counted[p] + _largest_edge(counted[first:last], problem.pairs[p, first:last])


@_borrowing
@typing.no_type_check
def _largest_edge(counted, pairs):
    largest = np.int64(64 * NONE)
    for q in range(len(counted)):
        largest = max(largest, counted[q] + WHOLE * np.int64(pairs[q]))
    return largest


@_borrowing
@typing.no_type_check
def _edges(problem, state, a, b, share, counted, threshold):
    """Completes all edges of two categories that reach a threshold."""
    slots, free = problem.slots, problem.free
    slot_a, slot_b = -1, -1
    for slot in free:
        state.chosen[slot] = -1
        state.low[slot] = 0
        if slot_a < 0 and slots[slot] == a:
            slot_a = slot
        if slot_b < 0 and slots[slot] == b:
            slot_b = slot
    count = 0
    for slot in free:
        if slot != slot_a and slot != slot_b:
            state.rest[count] = slot
            count += 1
    rest = state.rest[:count]
    first, last = problem.first_cluster[b], problem.first_cluster[b + 1]
    ceiling = _largest(counted[first:last])
    for p in range(problem.first_cluster[a], problem.first_cluster[a + 1]):
        largest = counted[p] + WHOLE * problem.largest[p, b]
        if problem.best[p] <= NONE or largest + ceiling < threshold:
            continue
        if _row_top(problem, counted, p, b) < threshold:
            continue
        for q in range(first, last):
            edge = counted[p] + counted[q] + WHOLE * np.int64(problem.pairs[p, q])
            if edge < threshold or problem.best[q] <= NONE:
                continue
            more = _rest_bound(problem, rest, a, p, b, q)
            bound = problem.best[p] + problem.best[q] + problem.pairs[p, q] + more
            state.low[slot_a] = problem.lowest[p]
            state.low[slot_b] = problem.lowest[q]
            if _hopeful(problem, state, bound):
                _block(
                    problem,
                    state,
                    (slot_a, slot_b),
                    (p, q),
                    (share[a], share[b]),
                    threshold,
                    rest,
                    more,
                )
    state.chosen[slot_a] = state.chosen[slot_b] = -1
    state.low[slot_a] = state.low[slot_b] = 0


@_borrowing
@typing.no_type_check
def _block(problem, state, pair_of_slots, clusters, shares, threshold, rest, more):
    """Completes the edges between two clusters; `more` bounds what the rest adds."""
    slot_a, slot_b = pair_of_slots
    p, q = clusters
    share_a, share_b = shares
    a, b = problem.slots[slot_a], problem.slots[slot_b]
    affinities, best = problem.affinities, problem.best
    first = problem.clusters[q]
    others, bounds = state.others, state.bounds
    count = 0
    # What the clusters allow is compared first: it lies at hand, the bounds of an item
    # lie far from those of the next one.
    pair_most = np.int64(problem.pairs[p, q])
    edge_most = share_a * best[p] + WHOLE * pair_most
    edge_of_others = most_of_others = np.int64(64 * NONE)
    for j in range(first, problem.clusters[q + 1]):
        affinity = affinities[j]
        if (
            affinity <= NONE
            or edge_most + share_b * affinity < threshold
            or best[p] + affinity + pair_most + more < state.scores[-1]
        ):
            continue
        bound = np.int64(problem.items[problem.rows[j] + problem.columns[b, a] + p])
        edge = share_b * affinity + WHOLE * bound
        if (
            share_a * best[p] + edge >= threshold
            and best[p] + affinity + bound + more >= state.scores[-1]
        ):
            others[count], bounds[count] = j, bound
            edge_of_others = max(edge_of_others, edge)
            most_of_others = max(most_of_others, affinity + bound)
            count += 1
    if count == 0:
        return
    for i in range(problem.clusters[p], problem.clusters[p + 1]):
        affinity = affinities[i]
        if (
            affinity <= NONE
            or share_a * affinity + edge_of_others < threshold
            or affinity + most_of_others + more < state.scores[-1]
        ):
            continue
        bound = np.int64(problem.items[problem.rows[i] + problem.columns[a, b] + q])
        edge = share_a * affinity + share_b * best[q] + WHOLE * bound
        if edge < threshold:
            continue
        state.low[slot_a] = problem.ids[i]
        state.low[slot_b] = problem.lowest[q]
        if not _hopeful(problem, state, affinity + best[q] + bound + more):
            continue
        state.chosen[slot_a] = i
        more_i, is_close = more, False
        for number in range(count):
            j = others[number]
            edge = share_a * affinity + share_b * affinities[j]
            least = min(bound, bounds[number])
            if edge + WHOLE * least < threshold:
                continue
            total = affinity + affinities[j]
            state.low[slot_b] = problem.ids[j]
            if not _hopeful(problem, state, total + least + more_i):
                continue
            if not is_close:
                # Looked at only where it is needed: it takes as long as ten items.
                more_i = min(more, _rest_bound_of_item(problem, rest, a, i, b, q))
                is_close = True
                if not _hopeful(problem, state, total + least + more_i):
                    continue
            term = _pair(problem, i, j)
            if edge + WHOLE * np.int64(term) < threshold:
                continue
            if _hopeful(problem, state, total + term + more_i):
                state.chosen[slot_b] = j
                _complete(problem, state, rest, total + term)
        state.chosen[slot_b] = -1
    state.chosen[slot_a] = -1
