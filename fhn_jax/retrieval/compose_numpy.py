"""The search of `compose_kernels` without numba: the same bounds, on whole arrays."""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from fhn_jax.retrieval import kernels
from fhn_jax.retrieval.compose_kernels import NONE, STARTS, WHOLE, Problem


class Finder:
    """Finds the best outfits of a problem.

    Args:
      problem: as in `compose_kernels`.
      scores: int64 [k], all NONE; filled with the best scores, falling.
      outfits: int64 [k, s], filled with their ids.
    """

    def __init__(self, problem: Problem, scores: np.ndarray, outfits: np.ndarray):
        self._problem = problem
        self._scores = scores
        self._outfits = outfits
        self._scales = None
        if len(problem.scales):
            self._scales = problem.scales.astype(np.float32)
        slots = problem.slots
        self._twins = [
            np.flatnonzero(slots == c)
            for c in set(slots.tolist())
            if (slots == c).sum() > 1
        ]
        self._low = problem.fixed.copy()
        self._low[problem.free] = 0

    def run(self, rounds: Float64[np.ndarray, " r"]) -> None:
        """Fills in the best outfits; `rounds` as for `compose_kernels.compose`."""
        problem, scores = self._problem, self._scores
        slots, free = problem.slots, problem.free
        amount = np.bincount(slots[free], minlength=len(problem.first_cluster) - 1)
        used = np.flatnonzero(amount)
        share = WHOLE // np.maximum(len(free) - amount, 1)
        kinds = [(a, b) for a in used for b in used if a < b]
        edges = {kind: self._cluster_edges(*kind, share) for kind in kinds}
        reached = sum(int(amount[a] * amount[b] * edges[a, b].max()) for a, b in kinds)
        num_edges = sum(int(amount[a] * amount[b]) for a, b in kinds)
        self._start_all()
        for part in rounds:
            for kind in kinds:
                if scores[-1] <= NONE and part < 1:
                    continue
                for p in np.argsort(-edges[kind].max(axis=1), kind="stable"):
                    threshold = 64 * NONE
                    if scores[-1] > NONE:
                        gap = (reached - WHOLE * int(scores[-1])) / num_edges * part
                        threshold = int(edges[kind].max()) - int(np.ceil(gap)) - 1
                    self._complete_edges(*kind, share, threshold, p, edges[kind][p])

    def _clusters(self, category) -> slice:
        first = self._problem.first_cluster
        return slice(first[category], first[category + 1])

    def _cluster_edges(self, a, b, share) -> Int64[np.ndarray, "p q"]:
        problem, in_a, in_b = self._problem, self._clusters(a), self._clusters(b)
        edges = WHOLE * problem.pairs[in_a, in_b].astype(np.int64)
        edges += share[a] * problem.best[in_a, None] + share[b] * problem.best[in_b]
        return edges

    def _bounds(self, a, b, positions) -> Int64[np.ndarray, "n q"]:
        """Bounds of the pairs of items of category a with the clusters of b."""
        problem, clusters = self._problem, self._clusters(b)
        columns = np.arange(clusters.start, clusters.stop) + problem.columns[a, b]
        return problem.items[problem.rows[positions][:, None] + columns].astype(
            np.int64
        )

    def _pairs(self, a, b) -> Int64[np.ndarray, " n"]:
        problem = self._problem
        scales = self._scales
        return kernels.pairs(
            problem.codes,
            problem.codes,
            scales,
            scales,
            a,
            b,
            problem.table,
            problem.differing,
        ).astype(np.int64)

    def _members(self, clusters) -> tuple[Int64[np.ndarray, " n"], ...]:
        """The items of some clusters that may be used, and which cluster each is in.

        Returns:
          positions, and places in `clusters`.
        """
        problem = self._problem
        sizes = problem.clusters[clusters + 1] - problem.clusters[clusters]
        place = np.repeat(np.arange(len(clusters)), sizes)
        inside = np.arange(len(place)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        positions = problem.clusters[clusters][place] + inside
        usable = problem.affinities[positions] > NONE
        return positions[usable], place[usable]

    def _in_order(self, rows: Int64[np.ndarray, "n s"]) -> Int64[np.ndarray, "n s"]:
        for twins in self._twins:
            rows[:, twins] = np.sort(rows[:, twins], axis=1)
        return rows

    def _hopeful(self, bounds, low, columns) -> Bool[np.ndarray, " n"]:
        """Whether outfits of such scores, and such ids at least, would be the best.

        Args:
          low: lowest id for each slot.
          columns: slot -> ids [n] that take the place of those in `low`.
        """
        worst = self._scores[-1]
        hopeful = bounds > worst
        equal = np.flatnonzero(bounds == worst)
        if len(equal):
            rows = np.tile(low, (len(equal), 1))
            for slot, ids in columns.items():
                rows[:, slot] = ids[equal]
            different = self._in_order(rows) != self._outfits[-1]
            first = different.argmax(axis=1)
            each = np.arange(len(rows))
            before = rows[each, first] < self._outfits[-1][first]
            hopeful[equal] = different.any(axis=1) & before
        return hopeful

    def _take(self, values, low, columns) -> None:
        """Takes outfits into the best; arguments as for `_hopeful`."""
        rows = np.tile(low, (len(values), 1))
        for slot, ids in columns.items():
            rows[:, slot] = ids
        found = self._scores > NONE
        rows = np.concatenate([self._outfits[found], self._in_order(rows)])
        values = np.concatenate([self._scores[found], values])
        # Equal outfits have equal scores.
        order = np.lexsort((*rows.T[::-1], -values))
        rows, values = rows[order], values[order]
        new = np.ones(len(rows), bool)
        new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
        rows, values = rows[new][: len(self._scores)], values[new][: len(self._scores)]
        self._scores[: len(values)] = values
        self._outfits[: len(rows)] = rows

    def _reach(self, chosen, slot) -> Int64[np.ndarray, " q"]:
        """Bounds what each cluster adds in a slot to the chosen items."""
        problem, slots = self._problem, self._problem.slots
        reach = problem.best[self._clusters(slots[slot])].copy()
        for other, position in chosen.items():
            if slots[other] != slots[slot]:
                of_item = self._bounds(slots[other], slots[slot], np.array([position]))
                reach += of_item[0]
        return reach

    def _complete(self, chosen, low, total, rest):
        """Takes the best outfits with the chosen items.

        Args:
          chosen: slot -> position.
          low: their ids; the lowest id for each slot of `rest`.
          total: the score of the chosen items.
          rest: the open slots, one or two.
        Returns:
          score and position of the best item seen for a single open slot.
        """
        problem, slots = self._problem, self._problem.slots
        slot, others = rest[0], rest[1:]
        category = slots[slot]
        clusters = self._clusters(category)
        reach = self._reach(chosen, slot)
        more = np.zeros(len(reach), np.int64)
        for other in others:
            of_other = self._reach(chosen, other)
            if slots[other] == category:
                more += of_other.max()
            else:
                pairs = problem.pairs[clusters, self._clusters(slots[other])]
                more += (of_other + pairs).max(axis=1)
        numbers = np.arange(clusters.start, clusters.stop)
        usable = problem.best[clusters] > NONE
        columns = {slot: problem.lowest[clusters]}
        usable &= self._hopeful(total + reach + more, low, columns)
        positions, place = self._members(numbers[usable])
        values = total + problem.affinities[positions]
        for other, position in chosen.items():
            if slots[other] != category:
                values += self._pairs(np.full(len(positions), position), positions)
        ids = problem.ids[positions].astype(np.int64)
        good = self._hopeful(values + more[usable][place], low, {slot: ids})
        positions, values, ids = positions[good], values[good], ids[good]
        if not len(positions):
            return NONE, -1
        if not others:
            self._take(values, low, {slot: ids})
            best = values.argmax()
            return values[best], positions[best]
        more = more[usable][place][good]
        for n in np.lexsort((ids, -values - more)):
            below = low.copy()
            below[slot] = ids[n]
            one = np.array([values[n] + more[n]])
            if self._hopeful(one, below, {})[0]:
                self._complete({**chosen, slot: positions[n]}, below, values[n], others)
        return NONE, -1

    def _start_all(self) -> None:
        """Looks for good outfits from the clusters with the best bounds."""
        problem, slots = self._problem, self._problem.slots
        clusters = self._clusters(slots[problem.free[0]])
        bounds = problem.best[clusters].copy()
        for slot in problem.free[1:]:
            if slots[slot] != slots[problem.free[0]]:
                there = self._clusters(slots[slot])
                sums = problem.best[there] + problem.pairs[clusters, there]
                bounds += sums.max(axis=1)
        for p in np.argsort(-bounds, kind="stable")[:STARTS]:
            if problem.best[clusters][p] > NONE:
                self._start(clusters.start + p)

    def _start(self, cluster) -> None:
        """Takes what promises most slot by slot, then exchanges while that helps."""
        problem, slots, free = self._problem, self._problem.slots, self._problem.free
        chosen, total = {}, 0
        for slot in free:
            if chosen:
                cluster = self._clusters(slots[slot]).start
                cluster += int(self._reach(chosen, slot).argmax())
            positions, _ = self._members(np.array([cluster]))
            values = self._values(chosen, slot, positions)
            best = values.argmax()
            total += values[best]
            chosen[slot] = positions[best]
        idle, number = 0, 0
        while idle < len(free):
            slot = free[number % len(free)]
            others = {s: position for s, position in chosen.items() if s != slot}
            low = self._low.copy()
            for other, position in others.items():
                low[other] = problem.ids[position]
            rest = total - self._values(others, slot, np.array([chosen[slot]]))[0]
            score, position = self._complete(others, low, rest, [slot])
            number, idle = number + 1, idle + 1
            if score > total:
                total, chosen[slot], idle = score, position, 0

    def _values(self, chosen, slot, positions) -> Int64[np.ndarray, " n"]:
        """What items in a slot add to the chosen ones."""
        values = self._problem.affinities[positions]
        for other, position in chosen.items():
            if self._problem.slots[other] != self._problem.slots[slot]:
                values = values + self._pairs(
                    np.full(len(positions), position), positions
                )
        return values

    def _complete_edges(self, a, b, share, threshold, p, edges) -> None:
        """Completes the edges of cluster p of category a that reach a threshold."""
        problem, slots = self._problem, self._problem.slots
        free = problem.free.tolist()
        slot_a = next(slot for slot in free if slots[slot] == a)
        slot_b = next(slot for slot in free if slots[slot] == b)
        rest = [slot for slot in free if slot not in (slot_a, slot_b)]
        first_b = problem.first_cluster[b]
        p = problem.first_cluster[a] + p
        q = np.flatnonzero(
            (edges >= threshold) & (problem.best[self._clusters(b)] > NONE)
        )
        if problem.best[p] <= NONE or not len(q):
            return
        more = self._rest_bounds(rest, a, p, b, first_b + q)
        # Pairs of an item and a cluster.
        items, _ = self._members(np.array([p]))
        bounds = self._bounds(a, b, items)[:, q]
        affinities, best = problem.affinities, problem.best[first_b + q]
        sums = share[a] * affinities[items][:, None] + share[b] * best + WHOLE * bounds
        i, column = np.nonzero(sums >= threshold)
        limit = affinities[items[i]] + best[column] + bounds[i, column] + more[column]
        ids = {
            slot_a: problem.ids[items[i]].astype(np.int64),
            slot_b: problem.lowest[first_b + q[column]],
        }
        good = self._hopeful(limit, self._low, ids)
        i, column = i[good], column[good]
        # Pairs of items, and their exact values.
        j, place = self._members(first_b + q[column])
        i, column = items[i[place]], column[place]
        terms = self._pairs(i, j)
        sums = share[a] * affinities[i] + share[b] * affinities[j] + WHOLE * terms
        totals = affinities[i] + affinities[j] + terms
        limits = totals + more[column]
        ids = {
            slot: problem.ids[n].astype(np.int64)
            for slot, n in ((slot_a, i), (slot_b, j))
        }
        good = (sums >= threshold) & self._hopeful(limits, self._low, ids)
        i, j, totals, limits = i[good], j[good], totals[good], limits[good]
        ids = {slot: of_slot[good] for slot, of_slot in ids.items()}
        if not rest:
            self._take(totals, self._low, ids)
            return
        for n in np.lexsort((ids[slot_b], ids[slot_a], -limits)):
            low = self._low.copy()
            low[slot_a], low[slot_b] = ids[slot_a][n], ids[slot_b][n]
            if self._hopeful(limits[n : n + 1], low, {})[0]:
                self._complete({slot_a: i[n], slot_b: j[n]}, low, totals[n], rest)

    def _rest_bounds(self, rest, a, p, b, q) -> Int64[np.ndarray, " q"]:
        """Bounds what open slots add to items of cluster p and of each of clusters q."""
        problem, slots = self._problem, self._problem.slots
        total = np.zeros(len(q), np.int64)
        for slot in rest:
            there = self._clusters(slots[slot])
            sums = np.tile(problem.best[there], (len(q), 1))
            if slots[slot] != a:
                sums += problem.pairs[p, there]
            if slots[slot] != b:
                sums += problem.pairs[q, there]
            total += sums.max(axis=1)
        if len(rest) == 2 and slots[rest[0]] != slots[rest[1]]:
            one, two = (self._clusters(slots[slot]) for slot in rest)
            total += problem.pairs[one, two].max()
        return total
