"""The search for the best outfits of one template, and of several together."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from fhn_jax.retrieval import kernels
from fhn_jax.retrieval.arguments import check_most
from fhn_jax.retrieval.blocks import Layout
from fhn_jax.retrieval.caps import Caps
from fhn_jax.retrieval.filters import among, in_order
from fhn_jax.retrieval.items import ItemTables, Template
from fhn_jax.retrieval.kernels import compose_edges
from fhn_jax.retrieval.kernels.compose_problem import NEG_INF, Problem
from fhn_jax.retrieval.pair_bounds import PairBounds

# Thresholds of edges are approached in these steps, see `compose_edges`.
_ROUNDS = np.array([0.5, 1.0])


class Searches:
    """The searches for one user, as often as caps need them.

    Args:
      each: one for every template.
      tables: how outfits are scored.
    """

    def __init__(self, each: Sequence["Search"], tables: ItemTables):
        self._each = each
        self._codes = tables.codes
        self._layout = each[0].layout

    def best(
        self,
        k: int,
        excluded: Int64[np.ndarray, "e s"] | None,
        caps: Caps | None,
    ) -> tuple[Int64[np.ndarray, "n s"], Int64[np.ndarray, " n"]]:
        """The k best outfits and their scores, in units.

        Args:
          excluded: outfits that are left out.
          caps: what is in so many outfits that it is left out.
        """
        if excluded is None:
            excluded = np.empty((0, len(self._codes.slots)), np.int64)
        if caps is None:
            return self._best(k, excluded)
        return self._capped(k, excluded, caps)

    def _best(self, k, excluded):
        wanted = k
        while True:
            found = [search.best(wanted) for search in self._each]
            items = np.concatenate([some for some, _ in found])
            units = np.concatenate([some for _, some in found])
            # Stable: of equal scores the first template's, in the order of the search.
            order = np.argsort(-units, kind="stable")
            are_all = all(len(some) < wanted for some, _ in found)
            if not are_all:  # Beyond these another template's may be missing.
                order = order[:wanted]
            if len(excluded):
                order = order[~among(items[order], excluded)]
            if len(order) >= k or are_all:
                return items[order[:k]], units[order[:k]]
            wanted *= 2

    def _capped(self, k, excluded, caps):
        """Outfits one after the other, leaving out items that no other may have."""
        place = self._layout.places
        # Items that are not in the catalogue are held, and count for nothing.
        counts = np.array(self._codes.num_items)[list(self._codes.slots)]
        chosen, scores = [], []
        while len(chosen) < k:
            taken = np.array(chosen, np.int64).reshape(-1, len(self._codes.slots))
            some = np.concatenate([excluded, taken])
            items, units = self._best(k - len(chosen), some)
            for outfit, score in zip(items, units, strict=True):
                if caps.take(np.where(outfit < counts, outfit, -1)):
                    chosen.append(outfit)
                    scores.append(score)
            if not len(items):
                break  # there are no others
            full = np.zeros(len(place), bool)
            full[place] = ~caps.left()
            for search in self._each:
                search.leave_out(full)
        items = np.array(chosen, np.int64).reshape(-1, len(self._codes.slots))
        return items, np.array(scores, np.int64)


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
