"""Upper bounds on what items that are not yet chosen can add to an outfit.

With best[Q] the largest affinity in cluster Q, items[i, Q] ≥ pair(i, j) for every j in Q
and pairs[P, Q] ≥ items[i, Q] for every i in P (see `PairBounds`), an item j of cluster Q
in an open slot adds to chosen items i, …

  affinity(j) + Σ_i pair(i, j) ≤ best[Q] + Σ_i items[i, Q]

and to items i, i' that are known by their clusters P, P' alone at most

  max_Q (best[Q] + pairs[P, Q] + pairs[P', Q])

where the pair with an item of the same category counts nothing. Two open slots of
different categories add the largest of their pair terms, max pairs[Q, R].
"""

import numpy as np

from fhn_jax.retrieval.kernels.compose_problem import NEG_INF
from fhn_jax.retrieval.kernels.jit import njit_inline, njit_no_refcount

# The loops over clusters run over slices that are counted from 0 and find maxima without
# their places, so that compilers make vector instructions of them.


@njit_no_refcount
def max_of(values):
    """The largest value."""
    largest = values[0]
    for value in values:
        largest = max(largest, value)
    return largest


@njit_no_refcount
def index_of(value, values):
    """Where a value first stands; -1 if nowhere."""
    for place in range(len(values)):
        if values[place] == value:
            return place
    return -1


@njit_no_refcount
def max_plus(some, others):
    """max_q (some[q] + others[q])."""
    largest = np.int64(4 * NEG_INF)
    for q in range(len(some)):
        largest = max(largest, some[q] + others[q])
    return largest


@njit_no_refcount
def max_plus_3(some, others, more):
    """max_q (some[q] + others[q] + more[q])."""
    largest = np.int64(4 * NEG_INF)
    for q in range(len(some)):
        largest = max(largest, some[q] + (np.int64(others[q]) + more[q]))
    return largest


@njit_inline
def bound_gains(problem, state, slot):
    """Bounds what an item of each cluster adds in `slot`: a view of `state.gains`."""
    category = problem.slots[slot]
    first = problem.first_cluster[category]
    count = problem.first_cluster[category + 1] - first
    gains = state.gains[slot][:count]
    best = problem.best[first : first + count]
    for q in range(count):
        gains[q] = best[q]
    for other in problem.free:
        position = state.chosen[other]
        if position >= 0 and problem.slots[other] != category:
            begin = problem.rows[position]
            begin += problem.columns[problem.slots[other], category] + first
            bounds = problem.items[begin : begin + count]
            for q in range(count):
                gains[q] += bounds[q]
    return gains


@njit_inline
def pair_bound(problem, state, other, category, cluster):
    """Bounds the pair terms of the item chosen in `other` with a cluster."""
    begin = problem.rows[state.chosen[other]]
    return problem.items[
        begin + problem.columns[problem.slots[other], category] + cluster
    ]


@njit_inline
def bound_open_slots(problem, rest, category_a, cluster_a, category_b, cluster_b):
    """Bounds what the slots `rest` add to an item of each of two clusters."""
    total = np.int64(0)
    for slot in rest:
        category = problem.slots[slot]
        first = problem.first_cluster[category]
        last = problem.first_cluster[category + 1]
        best = problem.best[first:last]
        if category == category_a:
            total += max_plus(best, problem.pairs[cluster_b, first:last])
        elif category == category_b:
            total += max_plus(best, problem.pairs[cluster_a, first:last])
        else:
            total += max_plus_3(
                best,
                problem.pairs[cluster_a, first:last],
                problem.pairs[cluster_b, first:last],
            )
    return total + bound_open_pairs(problem, rest)


@njit_inline
def bound_open_slots_of_item(problem, rest, category_a, i, category_b, cluster_b):
    """As `bound_open_slots`, for item i and a cluster."""
    total = np.int64(0)
    for slot in rest:
        category = problem.slots[slot]
        first = problem.first_cluster[category]
        last = problem.first_cluster[category + 1]
        best = problem.best[first:last]
        if category == category_a:
            total += max_plus(best, problem.pairs[cluster_b, first:last])
            continue
        begin = problem.rows[i] + problem.columns[category_a, category]
        bounds = problem.items[begin + first : begin + last]
        if category == category_b:
            total += max_plus(best, bounds)
        else:
            pairs = problem.pairs[cluster_b, first:last]
            total += max_plus_3(best, bounds, pairs)
    return total + bound_open_pairs(problem, rest)


@njit_inline
def bound_open_pairs(problem, rest):
    """Bounds the pair terms among open slots."""
    total = np.int64(0)
    for number in range(1, len(rest)):
        for other in rest[:number]:
            one, two = problem.slots[rest[number]], problem.slots[other]
            if one != two:
                total += np.int64(_max_pair(problem, one, two))
    return total


@njit_no_refcount
def _max_pair(problem, one, two):
    largest = np.int32(-(2**31))
    for p in range(problem.first_cluster[one], problem.first_cluster[one + 1]):
        largest = max(largest, problem.largest[p, two])
    return largest
