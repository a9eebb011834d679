"""Exact composition by edges: which pairs of items can be in one of the best outfits.

Each affinity is split evenly over the pairs that its item is in, f_c of them for an item
of category c, so that a score is a sum of one *edge* per pair of free slots of different
categories:

  edge(i, j) = affinity(i) / f_a + affinity(j) / f_b + pair(i, j)

Let M_e be a bound on edge e of any outfit. An outfit that enters the top k has
Σ_e edge_e ≥ kth, so at least one of its n edges is at least

  M_e - (Σ_e M_e - kth) / n

Only edges at or above this threshold are completed to outfits. They are found by bounds,
of two clusters, of an item and a cluster, then exactly:

  edge(i, j) ≤ best[P] / f_a + best[Q] / f_b + pairs[P, Q]        for i in P, j in Q
  edge(i, j) ≤ affinity(i) / f_a + best[Q] / f_b + items[i, Q]    for j in Q

and are pruned, too, where the bound of the whole outfit cannot enter the top k. Edges are
integers: they are multiplied by `EDGE_SCALE`.
"""

import numpy as np

from fhn_jax.retrieval.kernels.compose_bounds import (
    bound_open_slots,
    bound_open_slots_of_item,
    index_of,
    max_of,
    max_plus,
)
from fhn_jax.retrieval.kernels.compose_completion import complete, seed_top_k
from fhn_jax.retrieval.kernels.compose_problem import (
    NEG_INF,
    State,
    can_enter_top_k,
    insert,
    pair_of,
)
from fhn_jax.retrieval.kernels.jit import njit, njit_inline, njit_no_refcount

# Slots that can be filled at most.
MAX_FREE = 9
# Edges are multiplied by this, so that they are integers: every f_c < MAX_FREE divides it.
EDGE_SCALE = 840


@njit
def compose(problem, scores, outfits, rounds):
    """Finds the best outfits.

    Args:
      scores: int64 [k], all NEG_INF; filled with the best scores, falling.
      outfits: int64 [k, s], filled with their ids.
      rounds: float64, thresholds are approached in these steps up to 1, so that the
        k-th best score is nearly final before most edges are looked at.
    Returns:
      `State.counters`.
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
        np.zeros(3, np.int64),
    )
    for slot in free:
        state.min_ids[slot] = 0
    if len(free) == 2:
        # Good outfits are found at once; seeding would take longer.
        _compose_two_slots(problem, state, free[0], free[1])
        return state.counters
    amount = np.zeros(c, np.int64)
    for slot in free:
        amount[slots[slot]] += 1
    num_edges = np.int64(0)
    # EDGE_SCALE / f_c for each category, and best[P] times it for each cluster.
    share = np.zeros(c, np.int64)
    scaled_best = np.zeros(num_clusters, np.int64)
    for category in range(c):
        if 0 < amount[category] < len(free):
            share[category] = EDGE_SCALE // (len(free) - amount[category])
            num_edges += amount[category] * (len(free) - amount[category])
        for p in range(
            problem.first_cluster[category], problem.first_cluster[category + 1]
        ):
            scaled_best[p] = share[category] * problem.best[p]
    num_edges //= 2
    max_edges = np.full((c, c), 64 * NEG_INF)
    sum_of_maxima = np.int64(0)
    for a in range(c):
        for b in range(a + 1, c):
            if amount[a] > 0 and amount[b] > 0:
                max_edges[a, b] = _max_edge(problem, scaled_best, a, b)
                sum_of_maxima += amount[a] * amount[b] * max_edges[a, b]
    seed_top_k(problem, state)
    for part in rounds:
        for a in range(c):
            for b in range(a + 1, c):
                if amount[a] == 0 or amount[b] == 0:
                    continue
                threshold = np.int64(64 * NEG_INF)
                if scores[-1] > NEG_INF:
                    gap = sum_of_maxima - EDGE_SCALE * scores[-1]
                    threshold = max_edges[a, b] - np.int64(
                        np.ceil(gap / num_edges * part)
                    )
                    threshold -= 1  # the division may round
                elif part < 1:
                    continue
                _complete_edges(problem, state, a, b, share, scaled_best, threshold)
    return state.counters


@njit_no_refcount
def _bound_partners(problem, state, a, b):
    """Bounds the outfits of one item of each cluster of category a and one of b."""
    first_a, last_a = problem.first_cluster[a], problem.first_cluster[a + 1]
    first_b, last_b = problem.first_cluster[b], problem.first_cluster[b + 1]
    best = problem.best[first_b:last_b]
    for p in range(first_a, last_a):
        pairs = problem.pairs[p, first_b:last_b]
        state.cluster_bounds[p - first_a] = problem.best[p] + max_plus(best, pairs)


@njit_no_refcount
def _compose_two_slots(problem, state, slot, other):
    """Finds the best outfits if just two slots, of different categories, are free.

    There is one edge, so its threshold is the k-th best score.
    """
    a, b = problem.slots[slot], problem.slots[other]
    first_a, last_a = problem.first_cluster[a], problem.first_cluster[a + 1]
    first_b, last_b = problem.first_cluster[b], problem.first_cluster[b + 1]
    state.chosen[slot] = state.chosen[other] = -1
    _bound_partners(problem, state, a, b)
    bounds = state.cluster_bounds[: last_a - first_a]
    # The best clusters first: the k-th best score then soon rules out the others.
    for _ in range(len(bounds)):
        bound = max_of(bounds)
        if bound < state.scores[-1]:
            break
        number = index_of(bound, bounds)
        bounds[number] = 64 * NEG_INF
        p = first_a + number
        if problem.best[p] <= NEG_INF:
            continue
        partner_bound = bound - problem.best[p]
        for i in range(problem.clusters[p], problem.clusters[p + 1]):
            affinity = problem.affinities[i]
            if affinity <= NEG_INF or affinity + partner_bound < state.scores[-1]:
                continue
            begin = problem.rows[i] + problem.columns[a, b]
            state.min_ids[slot] = problem.ids[i]
            for q in range(first_b, last_b):
                partial = affinity + problem.items[begin + q]
                if partial + problem.best[q] < state.scores[-1]:
                    continue
                state.counters[0] += 1
                for j in range(problem.clusters[q], problem.clusters[q + 1]):
                    total = affinity + problem.affinities[j]
                    if partial + problem.affinities[j] < state.scores[-1]:
                        continue
                    if problem.affinities[j] <= NEG_INF:
                        continue
                    # The other bound of this pair: that of j with the cluster of i.
                    at = problem.rows[j] + problem.columns[b, a] + p
                    if total + problem.items[at] < state.scores[-1]:
                        continue
                    state.min_ids[other] = problem.ids[j]
                    total += pair_of(problem, state, i, j)
                    if can_enter_top_k(problem, state, total):
                        insert(problem, state, total)
    state.min_ids[slot] = state.min_ids[other] = 0


@njit_no_refcount
def _max_edge(problem, scaled_best, a, b):
    """Bounds the edges of two categories."""
    first, last = problem.first_cluster[a], problem.first_cluster[a + 1]
    ceiling = np.int64(64 * NEG_INF)
    for q in range(problem.first_cluster[b], problem.first_cluster[b + 1]):
        ceiling = max(ceiling, scaled_best[q])
    best = first
    for p in range(first, last):
        if scaled_best[p] + EDGE_SCALE * problem.largest[p, b] > (
            scaled_best[best] + EDGE_SCALE * problem.largest[best, b]
        ):
            best = p
    top = _max_edge_of_cluster(problem, scaled_best, best, b)
    for p in range(first, last):
        if scaled_best[p] + EDGE_SCALE * problem.largest[p, b] + ceiling > top:
            top = max(top, _max_edge_of_cluster(problem, scaled_best, p, b))
    return top


@njit_inline
def _max_edge_of_cluster(problem, scaled_best, p, b):
    """Bounds the edges of a cluster's items with those of category b."""
    first, last = problem.first_cluster[b], problem.first_cluster[b + 1]
    return scaled_best[p] + _max_plus_scaled(
        scaled_best[first:last], problem.pairs[p, first:last]
    )


@njit_no_refcount
def _max_plus_scaled(scaled_best, pairs):
    largest = np.int64(64 * NEG_INF)
    for q in range(len(scaled_best)):
        largest = max(largest, scaled_best[q] + EDGE_SCALE * np.int64(pairs[q]))
    return largest


@njit_no_refcount
def _complete_edges(problem, state, a, b, share, scaled_best, threshold):
    """Completes all edges of two categories that reach a threshold."""
    slots, free = problem.slots, problem.free
    slot_a = slot_b = np.int64(-1)  # a literal would be a type of its own
    for slot in free:
        state.chosen[slot] = -1
        state.min_ids[slot] = 0
        if slot_a < 0 and slots[slot] == a:
            slot_a = slot
        if slot_b < 0 and slots[slot] == b:
            slot_b = slot
    count = 0
    for slot in free:
        if slot != slot_a and slot != slot_b:
            state.open_slots[count] = slot
            count += 1
    rest = state.open_slots[:count]
    first, last = problem.first_cluster[b], problem.first_cluster[b + 1]
    ceiling = max_of(scaled_best[first:last])
    for p in range(problem.first_cluster[a], problem.first_cluster[a + 1]):
        largest = scaled_best[p] + EDGE_SCALE * problem.largest[p, b]
        if problem.best[p] <= NEG_INF or largest + ceiling < threshold:
            continue
        if _max_edge_of_cluster(problem, scaled_best, p, b) < threshold:
            continue
        for q in range(first, last):
            edge = (
                scaled_best[p]
                + scaled_best[q]
                + EDGE_SCALE * np.int64(problem.pairs[p, q])
            )
            if edge < threshold or problem.best[q] <= NEG_INF:
                continue
            rest_bound = bound_open_slots(problem, rest, a, p, b, q)
            bound = problem.best[p] + problem.best[q] + problem.pairs[p, q] + rest_bound
            state.min_ids[slot_a] = problem.lowest[p]
            state.min_ids[slot_b] = problem.lowest[q]
            if can_enter_top_k(problem, state, bound):
                _complete_cluster_pair(
                    problem,
                    state,
                    (slot_a, slot_b),
                    (p, q),
                    (share[a], share[b]),
                    threshold,
                    rest,
                    rest_bound,
                )
    state.chosen[slot_a] = state.chosen[slot_b] = -1
    state.min_ids[slot_a] = state.min_ids[slot_b] = 0


@njit_no_refcount
def _complete_cluster_pair(
    problem, state, pair_of_slots, clusters, shares, threshold, rest, rest_bound
):
    """Completes the edges between two clusters; `rest_bound` bounds what `rest` adds."""
    slot_a, slot_b = pair_of_slots
    p, q = clusters
    share_a, share_b = shares
    state.counters[0] += 1
    a, b = problem.slots[slot_a], problem.slots[slot_b]
    affinities, best = problem.affinities, problem.best
    first = problem.clusters[q]
    others, bounds = state.partners, state.partner_bounds
    count = 0
    # Bounds by cluster are compared first: they are in the cache, while those of one
    # item lie far from those of the next.
    pair_bound = np.int64(problem.pairs[p, q])
    edge_bound = share_a * best[p] + EDGE_SCALE * pair_bound
    max_partner_edge = max_partner_gain = np.int64(64 * NEG_INF)
    for j in range(first, problem.clusters[q + 1]):
        affinity = affinities[j]
        if (
            affinity <= NEG_INF
            or edge_bound + share_b * affinity < threshold
            or best[p] + affinity + pair_bound + rest_bound < state.scores[-1]
        ):
            continue
        bound = np.int64(problem.items[problem.rows[j] + problem.columns[b, a] + p])
        edge = share_b * affinity + EDGE_SCALE * bound
        if (
            share_a * best[p] + edge >= threshold
            and best[p] + affinity + bound + rest_bound >= state.scores[-1]
        ):
            others[count], bounds[count] = j, bound
            max_partner_edge = max(max_partner_edge, edge)
            max_partner_gain = max(max_partner_gain, affinity + bound)
            count += 1
    if count == 0:
        return
    for i in range(problem.clusters[p], problem.clusters[p + 1]):
        affinity = affinities[i]
        if (
            affinity <= NEG_INF
            or share_a * affinity + max_partner_edge < threshold
            or affinity + max_partner_gain + rest_bound < state.scores[-1]
        ):
            continue
        bound = np.int64(problem.items[problem.rows[i] + problem.columns[a, b] + q])
        edge = share_a * affinity + share_b * best[q] + EDGE_SCALE * bound
        if edge < threshold:
            continue
        state.min_ids[slot_a] = problem.ids[i]
        state.min_ids[slot_b] = problem.lowest[q]
        if not can_enter_top_k(problem, state, affinity + best[q] + bound + rest_bound):
            continue
        state.chosen[slot_a] = i
        rest_bound_i, is_close = rest_bound, False
        for number in range(count):
            j = others[number]
            edge = share_a * affinity + share_b * affinities[j]
            least = min(bound, bounds[number])
            if edge + EDGE_SCALE * least < threshold:
                continue
            total = affinity + affinities[j]
            state.min_ids[slot_b] = problem.ids[j]
            if not can_enter_top_k(problem, state, total + least + rest_bound_i):
                continue
            if not is_close:
                # Only where needed: it takes as long as ten items.
                rest_bound_i = min(
                    rest_bound, bound_open_slots_of_item(problem, rest, a, i, b, q)
                )
                is_close = True
                if not can_enter_top_k(problem, state, total + least + rest_bound_i):
                    continue
            term = pair_of(problem, state, i, j)
            if edge + EDGE_SCALE * np.int64(term) < threshold:
                continue
            if can_enter_top_k(problem, state, total + term + rest_bound_i):
                state.chosen[slot_b] = j
                complete(problem, state, rest, total + term)
        state.chosen[slot_b] = -1
    state.chosen[slot_a] = -1
