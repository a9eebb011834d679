"""What composition searches, and the best outfits it has found.

An outfit is one item a slot; pairs of items of different categories add pair terms:

  score(o) = Σ_s affinity(o_s) + Σ_{s < t, other category} pair(o_s, o_t)

Equal scores are ordered by ids, slot by slot, the ids of one category rising.
"""

import typing

import numpy as np

from fhn_jax.retrieval.kernels.jit import njit_inline, njit_no_refcount
from fhn_jax.retrieval.kernels.pair_terms import pair

# Below any score: an item that may not be used, or a place that is not yet taken.
NEG_INF = -(2**50)


class Problem(typing.NamedTuple):
    """What is searched. Items are numbered by position, clusters as in `PairBounds`.

    Attributes:
      affinities: int64 [n], what an item adds, with its pair terms with fixed items;
        NEG_INF if it may not be used.
      best: int64 [clusters], the largest affinity of each cluster.
      lowest: int64 [clusters], the lowest id in each cluster that may be used.
      codes, scales, table, differing: as `pair_terms.pair` takes them.
      ids: int32 [n], the id of each position within its category.
      clusters, first_cluster, items, rows, columns, pairs, largest: as in `PairBounds`.
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
      scores: int64 [k], the best found, falling; NEG_INF where there are fewer.
      outfits: int64 [k, s], their ids; those of one category rise from slot to slot.
      chosen: int64 [s], the position in each slot; -1 while it is open.
      min_ids: int64 [s], the lowest id that each slot may get.
      row: int64 [s], for passing an outfit on.
      gains: int64 [s, clusters], bounds by cluster for each open slot.
      found: int64 [2], score and position of the best that `complete_one` saw.
      cluster_bounds: int64 [clusters], bounds of what the clusters of one category lead
        to.
      open_slots: int64 [s], room for the slots that an edge leaves open.
      partners, partner_bounds: int64 [largest cluster], room for items of a cluster,
        and the bounds of their pair terms with another one.
      counters: int64 [3], how many pairs of clusters had their items looked at, how many
        clusters were scanned to complete outfits, and how many pair terms were computed.
    """

    scores: np.ndarray
    outfits: np.ndarray
    chosen: np.ndarray
    min_ids: np.ndarray
    row: np.ndarray
    gains: np.ndarray
    found: np.ndarray
    cluster_bounds: np.ndarray
    open_slots: np.ndarray
    partners: np.ndarray
    partner_bounds: np.ndarray
    counters: np.ndarray


@njit_no_refcount
def _sort_ids(slots, min_ids, row):
    """Puts `min_ids` into `row`, items of one category in rising order."""
    s = len(slots)
    for slot in range(s):
        row[slot] = min_ids[slot]
    for _ in range(s - 1):
        for slot in range(s):
            for other in range(slot + 1, s):
                if slots[slot] == slots[other] and row[slot] > row[other]:
                    row[slot], row[other] = row[other], row[slot]


@njit_no_refcount
def _precedes(row, outfit):
    """Whether a row comes before an outfit, among equal scores."""
    for slot in range(len(row)):
        if row[slot] != outfit[slot]:
            return row[slot] < outfit[slot]
    return False


@njit_no_refcount
def _wins_tie(slots, min_ids, row, outfits):
    """Whether the outfit `min_ids` comes before the last of the best, of equal score."""
    _sort_ids(slots, min_ids, row)
    return _precedes(row, outfits[-1])


@njit_inline
def can_enter_top_k(problem, state, bound):
    """Whether an outfit of score `bound` and ids `min_ids` would be among the best."""
    worst = state.scores[-1]
    if bound != worst:
        return bound > worst
    return _wins_tie(problem.slots, state.min_ids, state.row, state.outfits)


@njit_no_refcount
def insert(problem, state, score):
    """Takes the outfit `min_ids` into the best, unless it is there already."""
    scores, outfits = state.scores, state.outfits
    _sort_ids(problem.slots, state.min_ids, state.row)
    first, last = 0, len(scores)
    while first < last:
        middle = (first + last) // 2
        worse = scores[middle] < score
        if scores[middle] == score:
            worse = _precedes(state.row, outfits[middle])
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


@njit_inline
def pair_of(problem, state, a, b):
    """The pair term of the items at two positions."""
    state.counters[2] += 1
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
