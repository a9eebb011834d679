"""The search for the best outfits of one template, and of several together."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from fhn_jax.retrieval import kernels
from fhn_jax.retrieval.arguments import check_most
from fhn_jax.retrieval.blocks import Layout
from fhn_jax.retrieval.filters import among, in_order
from fhn_jax.retrieval.items import ItemTables, Template
from fhn_jax.retrieval.kernels import compose_edges
from fhn_jax.retrieval.kernels.compose_problem import NEG_INF, Problem
from fhn_jax.retrieval.pair_bounds import PairBounds

# Thresholds of edges are approached in these steps, see `compose_edges`.
_ROUNDS = np.array([0.5, 1.0])


class Searches:
    """The searches for one user, as often as diversity needs them.

    Args:
      each: one for every template.
      tables: how outfits are scored.
      held: category -> ids of the items that all outfits have.
    """

    def __init__(
        self,
        each: Sequence["Search"],
        tables: ItemTables,
        held: Mapping[int, Sequence[int]],
    ):
        self._each = each
        self._codes = tables.codes
        self._held = held
        self._layout = each[0].layout

    def best(
        self,
        k: int,
        excluded: Int64[np.ndarray, "e s"] | None,
        limit: int | None,
    ) -> tuple[Int64[np.ndarray, "n s"], Int64[np.ndarray, " n"]]:
        """The k best outfits and their scores, in units.

        Args:
          excluded: outfits that are left out.
          limit: leaves out items once they are in so many outfits.
        """
        if excluded is None:
            excluded = np.empty((0, len(self._codes.slots)), np.int64)
        if limit is None:
            return self._best(k, excluded)
        return self._diverse(k, excluded, limit)

    def _best(self, k, excluded):
        found = [search.best(k + len(excluded)) for search in self._each]
        items = np.concatenate([some for some, _ in found])
        units = np.concatenate([some for _, some in found])
        # Stable: of equal scores the first template's, in the order of the search.
        order = np.argsort(-units, kind="stable")
        order = order[~among(items[order], excluded)][:k]
        return items[order], units[order]

    def _diverse(self, k, excluded, limit):
        """Outfits one after the other, leaving out items once they are in `limit`."""
        starts, place = self._layout.category_starts, self._layout.places
        uses = np.zeros(len(place), np.int64)
        chosen, scores = [], []
        while len(chosen) < k:
            taken = np.array(chosen, np.int64).reshape(-1, len(self._codes.slots))
            some = np.concatenate([excluded, taken])
            items, units = self._best(k - len(chosen), some)
            full = np.zeros(len(uses), bool)
            for outfit, score in zip(items, units, strict=True):
                own = [starts[c] + i for c, i in self._chosen(outfit.tolist())]
                used = np.unique(place[np.array(own, np.int64)])
                if not full[used].any():
                    chosen.append(outfit)
                    scores.append(score)
                    uses[used] += 1
                    full |= uses >= limit
            if not full.any():
                break  # there are no others
            for search in self._each:
                search.leave_out(full)
        items = np.array(chosen, np.int64).reshape(-1, len(self._codes.slots))
        return items, np.array(scores, np.int64)

    def _chosen(self, outfit: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Category and id of the items of an outfit that not all must have."""
        left = [(c, item) for c, items in self._held.items() for item in items]
        for pair in zip(self._codes.slots, outfit, strict=True):
            if pair in left:
                left.remove(pair)
            elif pair[1] >= 0:
                yield pair


class Search:
    """The search for the best outfits of a template, for one user.

    Args:
      template: of the outfits.
      tables: how outfits are scored.
      bounds: of pairs of items.
      codes, scales: of the items, by position in the layout of `bounds`.
      affinities: what each item adds, NEG_INF if it may not be chosen; in pair terms of
        the template, as `total`.
      fixed: the id in each slot of the template, -1 where it is free.
      total: what the fixed items give by themselves.
    """

    def __init__(
        self,
        template: Template,
        tables: ItemTables,
        bounds: PairBounds,
        codes: UInt8[np.ndarray, "n mw"],
        scales: Float32[np.ndarray, "n m"] | None,
        affinities: Int64[np.ndarray, " n"],
        fixed: Int64[np.ndarray, " s"],
        total: int,
    ):
        self._template, self._tables, self._bounds = template, tables, bounds
        self._codes, self._scales = codes, scales
        self._affinities, self._fixed, self._total = affinities, fixed, total
        self._slots = template.form.slots
        self._free = np.flatnonzero(fixed < 0)

    def best(self, k: int) -> tuple[Int64[np.ndarray, "n s"], Int64[np.ndarray, " n"]]:
        """The k best outfits, with -1 in slots of other templates, and their scores."""
        found, units = self._found(k)
        items = np.full((len(found), len(self._tables.codes.slots)), -1)
        items[:, self._template.slots] = found
        return items, (units + self._total) * self._template.per_pair

    @property
    def layout(self) -> Layout:
        """The order of the items."""
        return self._bounds.layout

    def leave_out(self, positions: Bool[np.ndarray, " n"]) -> None:
        """Chooses these items no more."""
        self._affinities[positions] = NEG_INF

    def _found(self, k):
        bounds, free = self._bounds, self._free
        categories = sorted({self._slots[slot] for slot in free})
        allowed = self._affinities > NEG_INF
        starts = bounds.layout.category_starts
        combinations = 1
        for slot in free:
            first, last = starts[self._slots[slot] :][:2]
            combinations *= int(allowed[first:last].sum())
        k = min(k, combinations)
        check_most(k)
        scores = np.full(k, NEG_INF)
        outfits = np.zeros((k, len(self._slots)), np.int64)
        if k == 0:
            return outfits, scores
        if len(categories) < 2:
            return self._without_pairs(k)
        compose_edges.compose(self._problem(), scores, outfits, _ROUNDS)
        found = scores > NEG_INF
        return outfits[found], scores[found]

    def _problem(self):
        bounds, tables = self._bounds, self._tables
        ids, affinities = bounds.layout.order, self._affinities
        starts = bounds.clusters[:-1]
        lowest = ids[starts]
        if affinities.min() <= NEG_INF:
            lowest = np.where(affinities > NEG_INF, ids, np.iinfo(np.int32).max)
            lowest = np.minimum.reduceat(lowest, starts)
        return Problem(
            affinities=affinities,
            best=np.maximum.reduceat(affinities, starts),
            lowest=lowest.astype(np.int64),
            codes=self._codes,
            scales=kernels.scale_factors(self._scales),
            table=tables.pair_table,
            differing=tables.codes.alphabet == "pm1",
            ids=ids,
            clusters=bounds.clusters,
            first_cluster=bounds.first_cluster,
            items=bounds.items,
            rows=bounds.rows,
            columns=bounds.columns,
            pairs=bounds.pairs,
            largest=bounds.largest,
            slots=np.array(self._slots),
            free=self._free,
            fixed=self._fixed,
        )

    def _without_pairs(self, k):
        """The best outfits if at most one category is open: affinities add up.

        A part of an outfit, or one more item for it, that n others precede gives way
        to n others in every outfit. So of the sums of the p-th part and the r-th item
        only those with few pairs before (p, r) can be among the k best.
        """
        parts = np.empty((1, 0), np.int64)
        units = np.zeros(1, np.int64)
        for number, slot in enumerate(self._free):
            if number == 0:
                ids, values = self._in_falling_order(self._slots[slot])
            # One sum may stand for as many pairs as it has items.
            counts = k * (number + 1) // np.arange(1, len(parts) + 1)
            counts = np.minimum(counts, len(ids))
            part = np.repeat(np.arange(len(parts)), counts)
            item = np.arange(len(part)) - np.repeat(np.cumsum(counts) - counts, counts)
            # Each set of items once: put in by rising id.
            new = np.ones(len(part), bool)
            if number:
                new = parts[part, -1] <= ids[item]
            part, item = part[new], item[new]
            parts = np.column_stack([parts[part], ids[item]])
            units = units[part] + values[item]
            order = np.lexsort((*self._filled(parts).T[::-1], -units))[:k]
            parts, units = parts[order], units[order]
        return self._filled(parts), units

    def _in_falling_order(self, category):
        """Ids and affinities of the items that may be chosen, best first."""
        layout = self._bounds.layout
        first, last = layout.category_starts[category:][:2]
        ids = layout.order[first:last].astype(np.int64)
        values = self._affinities[first:last]
        order = np.lexsort((ids, -values))[: int((values > NEG_INF).sum())]
        return ids[order], values[order]

    def _filled(self, parts):
        """Outfits of the fixed items and of ids in the first of the free slots."""
        rows = np.tile(self._fixed, (len(parts), 1))
        count = parts.shape[1]
        rows[:, self._free[:count]] = parts
        return in_order(self._slots, rows)
