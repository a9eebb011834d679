"""Completion: the best outfits that contain the items chosen so far.

Clusters Q of an open slot are taken by falling bound

  total + best[Q] + Σ_chosen items[i, Q]

(see `compose_bounds`); the first one that cannot enter the top k ends the search. Within
a cluster an item's own affinity takes the place of best[Q], and then exact pair terms
take the place of items[i, Q] one by one.
"""

import numpy as np

from fhn_jax.retrieval.kernels.compose_bounds import (
    bound_gains,
    bound_open_pairs,
    index_of,
    max_of,
    max_plus,
    pair_bound,
)
from fhn_jax.retrieval.kernels.compose_problem import (
    NEG_INF,
    can_enter_top_k,
    insert,
    pair_of,
)
from fhn_jax.retrieval.kernels.jit import njit_no_refcount

# Clusters of the first free slot from which a first good outfit is searched.
_NUM_SEEDS = 3


@njit_no_refcount
def complete(problem, state, rest, total):
    """Takes the best outfits with the chosen items; `rest` are the open slots."""
    if len(rest) == 0:
        if can_enter_top_k(problem, state, total):
            insert(problem, state, total)
    elif len(rest) == 1:
        complete_one(problem, state, rest[0], total)
    else:
        _complete_more(problem, state, rest, total)


@njit_no_refcount
def complete_one(problem, state, slot, total):
    """Takes the best outfits of the chosen items and any item in `slot`.

    Args:
      total: the score of the chosen items.
    """
    first = problem.first_cluster[problem.slots[slot]]
    gains = bound_gains(problem, state, slot)
    state.found[0] = NEG_INF
    while True:
        bound = max_of(gains)
        if total + bound < state.scores[-1] or bound <= NEG_INF // 2:
            break
        q = index_of(bound, gains)
        gains[q] = 4 * NEG_INF
        cluster = first + q
        state.min_ids[slot] = problem.lowest[cluster]
        if not can_enter_top_k(problem, state, total + bound):
            continue
        state.counters[1] += 1
        bound += total - problem.best[cluster]
        for position in range(problem.clusters[cluster], problem.clusters[cluster + 1]):
            affinity = problem.affinities[position]
            if affinity <= NEG_INF or bound + affinity < state.scores[-1]:
                continue
            state.min_ids[slot] = problem.ids[position]
            can_enter, value = _exact_score(
                problem,
                state,
                slot,
                position,
                cluster,
                total + problem.affinities[position],
                np.int64(0),  # a literal would be a type of its own
            )
            if can_enter:
                insert(problem, state, value)
                if value > state.found[0]:
                    state.found[0] = value
                    state.found[1] = position
    state.min_ids[slot] = 0


@njit_no_refcount
def _complete_more(problem, state, rest, total):
    """As `complete_one`, for two open slots or more."""
    slot, others = rest[0], rest[1:]
    category = problem.slots[slot]
    first = problem.first_cluster[category]
    count = problem.first_cluster[category + 1] - first
    gains = bound_gains(problem, state, slot)
    for other in others:
        bound_gains(problem, state, other)
    pairs_bound = bound_open_pairs(problem, others)
    top = index_of(max_of(gains), gains)
    for number in range(-1, count):
        if number == top:
            continue
        q = top if number < 0 else number
        cluster = first + q
        if problem.best[cluster] <= NEG_INF:
            continue
        rest_bound = pairs_bound
        for other in others:
            rest_bound += _best_gain(problem, state, other, category, cluster)
        state.min_ids[slot] = problem.lowest[cluster]
        if not can_enter_top_k(problem, state, total + gains[q] + rest_bound):
            continue
        state.counters[1] += 1
        for position in range(problem.clusters[cluster], problem.clusters[cluster + 1]):
            if problem.affinities[position] <= NEG_INF:
                continue
            state.min_ids[slot] = problem.ids[position]
            can_enter, value = _exact_score(
                problem,
                state,
                slot,
                position,
                cluster,
                total + problem.affinities[position],
                rest_bound,
            )
            if can_enter:
                state.chosen[slot] = position
                if len(others) == 1:
                    complete_one(problem, state, others[0], value)
                else:
                    _complete_more(problem, state, others, value)
                state.chosen[slot] = -1
                for other in others:
                    bound_gains(problem, state, other)
    state.min_ids[slot] = 0


@njit_no_refcount
def _best_gain(problem, state, slot, category, cluster):
    """Bounds what an item in an open slot adds, with an item of a cluster chosen too.

    Args:
      slot: `bound_gains` has bounded what its items add to those chosen.
      category: of the cluster.
    """
    own = problem.slots[slot]
    first = problem.first_cluster[own]
    count = problem.first_cluster[own + 1] - first
    gains = state.gains[slot][:count]
    if own == category:
        return max_of(gains)
    return max_plus(gains, problem.pairs[cluster, first : first + count])


@njit_no_refcount
def _exact_score(problem, state, slot, position, cluster, value, rest_bound):
    """Replaces the bounds of an item's pair terms by exact ones, while it can enter.

    Args:
      value: the score so far, the affinity of the item included.
      rest_bound: of what slots still open add.
    Returns:
      (whether the outfit can enter the top k, its score so far).
    """
    category = problem.slots[slot]
    rest = rest_bound
    for other in problem.free:
        if state.chosen[other] >= 0 and problem.slots[other] != category:
            rest += pair_bound(problem, state, other, category, cluster)
    if not can_enter_top_k(problem, state, value + rest):
        return False, value
    for other in problem.free:
        if state.chosen[other] >= 0 and problem.slots[other] != category:
            rest -= pair_bound(problem, state, other, category, cluster)
            value += pair_of(problem, state, state.chosen[other], position)
            if not can_enter_top_k(problem, state, value + rest):
                return False, value
    return True, value


@njit_no_refcount
def seed_top_k(problem, state):
    """Fills the top k with good outfits, from the clusters with the largest bounds."""
    category = problem.slots[problem.free[0]]
    first = problem.first_cluster[category]
    count = problem.first_cluster[category + 1] - first
    cluster_bounds = state.cluster_bounds[:count]
    for p in range(count):
        cluster_bounds[p] = problem.best[first + p]
        for slot in problem.free[1:]:
            if problem.slots[slot] != category:
                cluster_bounds[p] += problem.largest[first + p, problem.slots[slot]]
    for _ in range(min(_NUM_SEEDS, count)):
        bound = max_of(cluster_bounds)
        if bound <= NEG_INF // 2:
            break
        top = index_of(bound, cluster_bounds)
        cluster_bounds[top] = 64 * NEG_INF
        _seed_from_cluster(problem, state, first + top)


@njit_no_refcount
def _seed_from_cluster(problem, state, cluster):
    """Looks for a good outfit, with an item of `cluster` in the first free slot.

    Greedy, slot by slot, the cluster with the largest bound and its best item; then
    exchanges one item at a time while that raises the score.
    """
    free = problem.free
    for slot in free:
        state.chosen[slot] = -1
        state.min_ids[slot] = 0
    for number, slot in enumerate(free):
        if number > 0:
            gains = bound_gains(problem, state, slot)
            cluster = problem.first_cluster[problem.slots[slot]]
            cluster += index_of(max_of(gains), gains)
        best, best_value = -1, np.int64(4 * NEG_INF)
        for position in range(problem.clusters[cluster], problem.clusters[cluster + 1]):
            value = problem.affinities[position]
            for other in free[:number]:
                if problem.slots[other] != problem.slots[slot]:
                    value += pair_of(problem, state, state.chosen[other], position)
            if value > best_value:
                best, best_value = position, value
        state.chosen[slot] = best
        state.min_ids[slot] = problem.ids[best]
    total = _score_of_chosen(problem, state)
    if total <= NEG_INF:
        return
    idle, number = 0, 0
    while idle < len(free):
        slot = free[number % len(free)]
        number += 1
        before = state.chosen[slot]
        state.chosen[slot] = -1
        rest = _score_of_chosen(problem, state)
        complete_one(problem, state, slot, rest)
        if state.found[0] > total:
            total, before, idle = state.found[0], state.found[1], 0
        else:
            idle += 1
        state.chosen[slot] = before
        state.min_ids[slot] = problem.ids[before]


@njit_no_refcount
def _score_of_chosen(problem, state):
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
                total += pair_of(problem, state, state.chosen[other], position)
    return total
