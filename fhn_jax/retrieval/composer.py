"""The best of all possible outfits of a catalogue, without going through them."""

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64, Shaped, UInt8

from fhn_jax.codes import Codes
from fhn_jax.errors import InputError
from fhn_jax.retrieval import kernels
from fhn_jax.retrieval.arguments import check_count, check_most, item_ids, one_user
from fhn_jax.retrieval.filters import Conditions, Filters, among, in_order, resolve
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.kernels import compose_edges
from fhn_jax.retrieval.kernels.compose_problem import NEG_INF, Problem
from fhn_jax.retrieval.pair_bounds import PairBounds

# Thresholds of edges are approached in these steps, see `compose_edges`.
_ROUNDS = np.array([0.5, 1.0])


@dataclass(frozen=True, eq=False)
class Compositions:
    """Outfits made for a user, best first.

    Attributes:
      items: int64 [n, s], for each slot an id within its category; ids in slots of one
        category rise, and equal ones stand for a single item.
      scores: float64 [n].
      is_greedy: whether they were chosen one after the other, for diversity, so that
        they need not be the best of all that meet the limit.
    """

    items: np.ndarray
    scores: np.ndarray
    is_greedy: bool

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class ExternalItem:
    """An item that is not in the catalogue, such as the one in a photo.

    Attributes:
      codes: its packed code in each modality, uint8 [m, w].
      scales: its factor in each modality, float32 [m]; 1 where codes are not scaled.
    """

    codes: UInt8[np.ndarray, "m w"]
    scales: Float32[np.ndarray, " m"]


FixedItems = int | ExternalItem | Sequence[int | ExternalItem] | Int[np.ndarray, " _"]


class Composer:
    """Makes outfits from any items of a catalogue, one item a slot.

    Slots of one category (two tops) may hold the same item, which stands for a single
    one; their order does not matter, and the pair between them does not count.

    Args:
      items: codes, or tables made of them.
      seed: of the clusters, which decide how long composing takes, not what it finds.
      bounds: of pairs of these items, if they are made already.

    >>> from fhn_jax import Codes
    >>> vectors = np.random.default_rng(0).normal(size=(3, 20, 64))
    >>> items = dict(zip(("top", "bottom", "shoe"), vectors))
    >>> composer = Composer(Codes.from_embeddings(items, users=vectors[0, :4]))
    >>> best = composer.compose(user=3, k=5, fixed={"shoe": 7})
    >>> best.items[:, 2]
    array([7, 7, 7, 7, 7])
    """

    def __init__(
        self,
        items: Codes | ItemTables,
        seed: int = 0,
        *,
        bounds: PairBounds | None = None,
    ):
        tables = ItemTables.from_codes(items) if isinstance(items, Codes) else items
        self._tables = tables
        self._bounds = bounds or PairBounds.build(tables, seed)
        layout = self._bounds.layout
        self._codes = layout.by_position(tables.packed)
        self._scales = None
        if tables.scales is not None:
            self._scales = layout.by_position(tables.scales)

    def __repr__(self) -> str:
        return f"Composer({self._tables.codes!r})"

    @classmethod
    def kept(cls, folder: str | os.PathLike, tables: ItemTables) -> "Composer":
        """Takes the bounds from a folder, or makes them and keeps them there.

        They take seconds to make for many items, and are mapped into memory when they
        are kept. What is damaged or belongs to other items is made anew.
        """
        try:
            return cls(tables, bounds=PairBounds.open(folder, tables))
        except (FileNotFoundError, ValueError):
            made = cls(tables)
        shutil.rmtree(folder, ignore_errors=True)
        # Another process may have been faster, or there is no room; it is made already.
        with contextlib.suppress(OSError):
            made._bounds.save(folder, tables)
        return made

    @property
    def num_bytes(self) -> int:
        """What the stored bounds of pair terms take in memory."""
        return self._bounds.num_bytes

    def compose(
        self,
        user: int | np.integer | Shaped[np.ndarray, "..."],
        k: int = 10,
        *,
        score: str = "asymmetric",
        fixed: Mapping[str, FixedItems] | None = None,
        filters: Filters = (),
        diversity: int | None = None,
    ) -> Compositions:
        """The k best outfits for a user, of all that the items allow.

        Equal scores are ordered by ids, slot by slot. There are fewer than k outfits if
        the items allow no more; none if a category of the catalogue is empty.

        Args:
          user: an id, or a user code as floats [d], such as of a new user.
          k: how many.
          score: "asymmetric" (the real user code) or "binary" (its signs).
          fixed: category -> item (or several, for as many slots) that each outfit has,
            whatever the filters say. The id of an `ExternalItem` in an answer follows
            those of the category's items.
          filters: what an outfit must be.
          diversity: no item, other than those that all outfits must have, is in more
            than so many of the outfits. Outfits are then taken greedily: each is the
            best that the limit allows after those before it.
        Raises:
          InputError: k or diversity < 1, over a million outfits to give, an unknown
            score, user, category or item, more items required than slots, filters that
            contradict each other or leave no item to choose in a category, outfits
            excluded by id, or a vector that `ItemTables.user_vectors` rejects.
        """
        check_count("k", k)
        if diversity is not None:
            check_count("diversity", diversity)
        codes = self._tables.codes
        vectors = self._tables.user_vectors(one_user(user), score)
        conditions = resolve(filters, codes)
        if len(conditions.excluded_ids):
            raise InputError(
                "outfits are excluded by id, but composed outfits have none; give the "
                f"items of each, [n, {len(codes.slots)}]"
            )
        slots_fixed, external = self._fix(fixed or {}, conditions)
        weights = self._tables.byte_tables(vectors)
        affinities = np.full(len(self._codes), NEG_INF)
        total = self._add_fixed(affinities, weights, slots_fixed, external)
        self._restrict(affinities, slots_fixed, conditions)
        search = _Search(self, affinities, slots_fixed)
        excluded = conditions.excluded_items
        if excluded is None:
            excluded = np.empty((0, len(codes.slots)), np.int64)
        if diversity is None:
            items, units = search.best(k, excluded)
        else:
            items, units = search.diverse(k, excluded, diversity)
        scores = self._tables.to_scores(units + total)
        return Compositions(items, scores, diversity is not None)

    def _fix(
        self, fixed: Mapping[str, FixedItems], conditions: Conditions
    ) -> tuple[Int64[np.ndarray, " s"], dict[int, list[ExternalItem]]]:
        """The id in each slot, -1 where it is free; and external items by category."""
        codes = self._tables.codes
        ids: dict[int, list[int]] = {}
        external: dict[int, list[ExternalItem]] = {}
        for name, items in fixed.items():
            some = list(np.atleast_1d(np.array(items, object)))
            own = [item for item in some if isinstance(item, ExternalItem)]
            known = [item for item in some if not isinstance(item, ExternalItem)]
            found = item_ids(codes, name, known).tolist()
            category = codes.categories.index(name)
            self._check_external(name, own)
            found += [codes.num_items[category] + n for n in range(len(own))]
            ids[category], external[category] = found, own
        for category, required in conditions.required.items():
            of_category = ids.setdefault(category, [])
            left = [item for item in required.tolist() if item not in of_category]
            for item in left:
                if not conditions.allowed.get(category, {item: True})[item]:
                    raise InputError(
                        f"{codes.categories[category]} {item} must be there and is "
                        "not allowed; change one of the filters"
                    )
            of_category += left
        slots_fixed = np.full(len(codes.slots), -1)
        for category, some in ids.items():
            slots = np.flatnonzero(np.array(codes.slots) == category)
            if len(some) > len(slots):
                raise InputError(
                    f"{len(some)} items are fixed in {codes.categories[category]}, "
                    f"expected at most {len(slots)}: one a slot"
                )
            slots_fixed[slots[: len(some)]] = np.sort(some)
        return slots_fixed, external

    def _check_external(self, name: str, items: Sequence[ExternalItem]) -> None:
        codes = self._tables.codes
        width = (len(codes.modalities), codes.bits // 8)
        for item in items:
            if item.codes.shape != width or not np.isfinite(item.scales).all():
                raise InputError(
                    f"external item in {name}: codes of shape {item.codes.shape}, scales "
                    f"{item.scales}; expected {width} and finite ones"
                )

    def _add_fixed(
        self,
        affinities: Int64[np.ndarray, " n"],
        weights: Int32[np.ndarray, "1 w 256"],
        fixed: Int64[np.ndarray, " s"],
        external: Mapping[int, Sequence[ExternalItem]],
    ) -> int:
        """Fills in the affinities, pair terms with fixed items included.

        Args:
          affinities: is filled in where a slot is free.
          weights: of the user.
        Returns:
          what the fixed items give by themselves.
        """
        tables, slots = self._tables, self._tables.codes.slots
        starts = self._bounds.layout.category_starts
        held = {
            slot: self._item(slots[slot], item, external)
            for slot, item in enumerate(fixed.tolist())
            if item >= 0
        }
        total = sum(
            int(kernels.affinities(*item, weights)[0, 0]) for item in held.values()
        )
        zero = np.zeros(1, np.int64)
        for slot, other in tables.form.pairs:
            if slot in held and other in held:
                (codes, scales), (others, factors) = held[slot], held[other]
                total += int(
                    kernels.pairs(
                        *(codes, others, scales, factors, zero, zero),
                        tables.pair_table,
                        tables.codes.alphabet == "pm1",
                    )[0]
                )
        open_categories = {c for c, item in zip(slots, fixed, strict=True) if item < 0}
        if not held and len(open_categories) == len(starts) - 1:
            affinities[:] = self._affinities(0, starts[-1], weights, [])
            return 0
        for category in open_categories:
            first, last = starts[category : category + 2]
            others = [item for slot, item in held.items() if slots[slot] != category]
            affinities[first:last] = self._affinities(first, last, weights, others)
        return total

    def _item(
        self,
        category: int,
        item: int,
        external: Mapping[int, Sequence[ExternalItem]],
    ) -> tuple[UInt8[np.ndarray, "1 mw"], Float32[np.ndarray, "1 m"] | None]:
        """The packed codes and the scales of one item."""
        tables = self._tables
        count = tables.codes.num_items[category]
        if item >= count:
            own = external[category][item - count]
            codes = own.codes.reshape(1, -1)
            if self._scales is None:
                return codes, None
            return codes, own.scales[None] / np.float32(tables.largest_scale)
        layout = self._bounds.layout
        place = layout.places[layout.category_starts[category] + item]
        scales = None if self._scales is None else self._scales[place : place + 1]
        return self._codes[place : place + 1], scales

    def _affinities(self, first, last, weights, others) -> Int32[np.ndarray, " n"]:
        """What the items at some positions add for a user, and with some others."""
        codes = self._codes[first:last]
        tables = [
            kernels.pair_tables(
                item[0],
                self._tables.pair_table,
                self._tables.codes.alphabet == "pm1",
            )
            for item, _ in others
        ]
        modalities = len(self._tables.codes.modalities)
        if self._scales is None:
            # All that is added for a byte is looked up at once.
            everything = sum(tables, np.tile(weights[0], (modalities, 1)))
            return kernels.affinities(codes, None, everything[None])[0]
        scales = self._scales[first:last]
        total = kernels.affinities(codes, scales, weights)[0]
        for (_, factors), table in zip(others, tables, strict=True):
            for modality, part in enumerate(np.split(table, modalities)):
                width = len(part)
                own = codes[:, modality * width : (modality + 1) * width]
                own = np.ascontiguousarray(own)
                sums = kernels.affinities(own, None, part[None])[0]
                factor = scales[:, modality].astype(np.float64)
                factor *= float(factors[0, modality])
                total += np.rint(sums * factor).astype(np.int32)
        return total

    def _restrict(
        self,
        affinities: Int64[np.ndarray, " n"],
        fixed: Int64[np.ndarray, " s"],
        conditions: Conditions,
    ) -> None:
        """Sets the affinities of items that may not be chosen to NEG_INF."""
        codes, layout = self._tables.codes, self._bounds.layout
        free = {c for c, item in zip(codes.slots, fixed, strict=True) if item < 0}
        for category in sorted(free & conditions.allowed.keys()):
            allowed = conditions.allowed[category]
            if not allowed.any():
                name = codes.categories[category]
                raise InputError(
                    f"there is no {name} to choose from; expected at least one item, "
                    f"or a fixed {name}"
                )
            first, last = layout.category_starts[category:][:2]
            affinities[first:last][~allowed[layout.order[first:last]]] = NEG_INF


class _Search:
    """The search for one user, as often as diversity needs it.

    Args:
      affinities: what each item adds, NEG_INF if it may not be chosen.
      fixed: the id in each slot, -1 where it is free.
    """

    def __init__(self, composer: Composer, affinities, fixed):
        self._composer = composer
        self._affinities = affinities
        self._fixed = fixed
        self._slots = composer._tables.codes.slots
        self._free = np.flatnonzero(fixed < 0)

    def best(self, k, excluded):
        """The k best outfits and their scores without those excluded."""
        items, units = self._search(k + len(excluded))
        kept = ~among(items, excluded)
        return items[kept][:k], units[kept][:k]

    def diverse(self, k, excluded, limit):
        """Outfits one after the other, leaving out items once they are in `limit`."""
        starts = self._composer._bounds.layout.category_starts
        place = self._composer._bounds.layout.places
        uses = np.zeros(len(self._affinities), np.int64)
        chosen, scores = [], []
        while len(chosen) < k:
            taken = np.array(chosen, np.int64).reshape(-1, len(self._slots))
            items, units = self.best(k - len(chosen), np.concatenate([excluded, taken]))
            full = np.zeros(len(uses), bool)
            for outfit, score in zip(items, units, strict=True):
                used = np.unique(
                    [
                        place[starts[self._slots[slot]] + outfit[slot]]
                        for slot in self._free_of(outfit)
                    ]
                ).astype(np.int64)
                if not full[used].any():
                    chosen.append(outfit)
                    scores.append(score)
                    uses[used] += 1
                    full |= uses >= limit
            if not full.any():
                break  # there are no others
            self._affinities[full] = NEG_INF
        items = np.array(chosen, np.int64).reshape(-1, len(self._slots))
        return items, np.array(scores, np.int64)

    def _free_of(self, outfit):
        """The slots of an outfit that do not hold the fixed items."""
        left = [
            (c, item)
            for c, item in zip(self._slots, self._fixed, strict=True)
            if item >= 0
        ]
        for slot, pair in enumerate(zip(self._slots, outfit, strict=True)):
            if pair in left:
                left.remove(pair)
            else:
                yield slot

    def _search(self, k):
        bounds, free = self._composer._bounds, self._free
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
        composer = self._composer
        bounds, tables = composer._bounds, composer._tables
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
            codes=composer._codes,
            scales=kernels.scale_factors(composer._scales),
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
        layout = self._composer._bounds.layout
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
