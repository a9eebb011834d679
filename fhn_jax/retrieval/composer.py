"""The best of all possible outfits of a catalogue, without going through them."""

import contextlib
import dataclasses
import functools
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64, Shaped, UInt8

from fhn_jax.codes import Codes
from fhn_jax.errors import InputError
from fhn_jax.retrieval import kernels
from fhn_jax.retrieval.arguments import (
    check_count,
    item_ids,
    one_user,
    template_numbers,
)
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.caps import Caps
from fhn_jax.retrieval.composition import Search, Searches
from fhn_jax.retrieval.filters import (
    Conditions,
    Filters,
    listed,
    parts_of,
    resolve,
    takes_attributes,
)
from fhn_jax.retrieval.items import ItemTables, Template
from fhn_jax.retrieval.kernels.compose_edges import MAX_FREE
from fhn_jax.retrieval.kernels.compose_problem import NEG_INF
from fhn_jax.retrieval.pair_bounds import PairBounds


@dataclass(frozen=True, eq=False)
class Compositions:
    """Outfits made for a user, best first.

    Attributes:
      items: int64 [n, s], for each slot an id within its category, -1 where the outfit's
        template has none; ids in slots of one category rise, and equal ones stand for a
        single item.
      scores: float64 [n].
      is_greedy: whether they were chosen one after the other, for `at_most`, so that
        they need not be the best of all that meet the limit.
      emptied_by: what leaves none, if there are none: the first filter after which, of
        those before it, nothing is left.
    """

    items: np.ndarray
    scores: np.ndarray
    is_greedy: bool
    emptied_by: str | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls, slots: int) -> "Compositions":
        """No outfits of so many slots."""
        return cls(np.empty((0, slots), np.int64), np.empty(0), False)


class _NothingLeftError(InputError):
    """Filters leave no item to choose."""


@dataclass(frozen=True, eq=False)
class ExternalItem:
    """An item that is not in the catalogue, such as the one in a photo.

    Attributes:
      codes: its packed code in each modality, uint8 [m, w].
      scales: its factor in each modality, float32 [m]; 1 where codes are not scaled. A
        factor above the items' largest, rounded up to a power of two, counts as that.
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
      attributes: of the items, for filters.

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
        attributes: Attributes | None = None,
    ):
        self._attributes = attributes
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
    def kept(
        cls,
        folder: str | os.PathLike,
        tables: ItemTables,
        attributes: Attributes | None = None,
    ) -> "Composer":
        """Takes the bounds from a folder, or makes them and keeps them there.

        They take seconds to make for many items, and are mapped into memory when they
        are kept. What is damaged or belongs to other items is made anew.
        """
        try:
            bounds = PairBounds.open(folder, tables)
            return cls(tables, bounds=bounds, attributes=attributes)
        except (FileNotFoundError, ValueError):
            made = cls(tables, attributes=attributes)
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
        templates: Sequence[Sequence[str]] | None = None,
        at_most: Mapping[str, int] | None = None,
    ) -> Compositions:
        """The k best outfits for a user, of all that the items allow.

        Equal scores are ordered by template, and within one by ids, slot by slot. There
        are fewer than k outfits if the items allow no more; none if a category of every
        template is empty.

        Args:
          user: an id, or a user code as floats [d], such as of a new user.
          k: how many.
          score: "asymmetric" (the real user code) or "binary" (its signs).
          fixed: category -> item (or several, for as many slots) that each outfit has,
            whatever the filters say. The id of an `ExternalItem` in an answer follows
            those of the category's items.
          filters: what an outfit must be.
          templates: of the outfits, each by its categories, such as [("dress", "shoe")];
            all by default. Those without a slot for each item that outfits must have,
            or where filters leave no item for a slot, are left out.
          at_most: attribute, or "item" -> how many of the outfits may have an item of
            the same value of it; see `fhn_jax.retrieval.caps` for the rule.
        Raises:
          InputError: k or a limit < 1, over a million outfits to give, an unknown
            score, user, category, item, template or attribute, more items required than
            slots, a filter by items that leaves no item to choose in a category, no template left, outfits excluded by id, or a vector that
            `ItemTables.user_vectors` rejects.
        """
        check_count("k", k)
        asked = functools.partial(
            self._compose, user, score=score, fixed=fixed or {}, templates=templates
        )
        try:
            found = asked(k, filters, at_most)
        except _NothingLeftError:
            plain = [each for each in listed(filters) if not takes_attributes(each)]
            for each in plain:  # A list that leaves nothing by itself is an error.
                asked(1, [each], None)
            found = Compositions.none(len(self._tables.codes.slots))
        if len(found) or not filters:
            return found
        by = _emptied_by(filters, asked)
        return dataclasses.replace(found, is_greedy=bool(at_most), emptied_by=by)

    def _compose(self, user, k, filters, at_most, *, score, fixed, templates):
        codes = self._tables.codes
        vectors = self._tables.user_vectors(one_user(user), score)
        conditions = resolve(filters, codes, self._attributes)
        if len(conditions.excluded_ids):
            raise InputError(
                "outfits are excluded by id, but composed outfits have none; give the "
                f"items of each, [n, {len(codes.slots)}]"
            )
        held, external = self._held(fixed, conditions)
        caps = None
        if at_most:
            starts = self._bounds.layout.category_starts
            known = [
                starts[c] + i
                for c, some in held.items()
                for i in some
                if i < codes.num_items[c]
            ]
            held_ids = np.array(known, np.int64)
            caps = Caps(at_most, codes, self._attributes, held_ids)
        weights = self._tables.byte_tables(vectors)
        some = [self._tables.templates[n] for n in template_numbers(codes, templates)]
        searches = [
            self._search(each, weights, held, external, conditions)
            for each in self._open(some, held, conditions)
        ]
        best = Searches(searches, self._tables).best
        items, units = best(k, conditions.excluded_items, caps)
        return Compositions(items, self._tables.to_scores(units), caps is not None)

    def _open(
        self,
        templates: Sequence[Template],
        held: Mapping[int, Sequence[int]],
        conditions: Conditions,
    ) -> list[Template]:
        """Templates that have room for the held items, and items for all other slots."""
        names = self._tables.codes.categories
        for category, items in held.items():
            most = max(each.form.slots.count(category) for each in templates)
            if len(items) > most:
                raise InputError(
                    f"{len(items)} items are fixed in {names[category]}, expected at most "
                    f"{most}: one a slot"
                )
        wanted = conditions.required.keys() | held.keys()
        with_room = [
            each
            for each in templates
            if wanted <= {*each.form.slots}
            and all(len(some) <= each.form.slots.count(c) for c, some in held.items())
        ]
        if not with_room:
            raise InputError(
                f"no template has all of {[names[c] for c in sorted(wanted)]}, of which "
                "items are fixed; fix fewer"
            )
        lacking = [
            c for c, allowed in sorted(conditions.allowed.items()) if not allowed.any()
        ]
        lacks = [
            [c for c in lacking if each.form.slots.count(c) > len(held.get(c, ()))]
            for each in with_room
        ]
        found = [each for each, of in zip(with_room, lacks, strict=True) if not of]
        if not found:
            name = names[lacks[0][0]]
            raise _NothingLeftError(
                f"there is no {name} to choose from; expected at least one item, "
                f"or a fixed {name}"
            )
        return found

    def _search(self, template, weights, held, external, conditions) -> Search:
        """The search for the best outfits of a template."""
        slots = np.array(template.form.slots)
        fixed = np.full(len(slots), -1)
        for category, some in held.items():
            fixed[np.flatnonzero(slots == category)[: len(some)]] = np.sort(some)
        free = slots[fixed < 0].tolist()
        if len(free) > MAX_FREE:
            raise InputError(
                f"{len(free)} slots are to be filled, expected at most {MAX_FREE}; fix "
                "the items of some"
            )
        affinities = np.full(len(self._codes), NEG_INF)
        total = self._add_fixed(template, affinities, weights, fixed, external)
        self._restrict(affinities, free, conditions)
        return Search(
            *(template, self._tables, self._bounds, self._codes, self._scales),
            *(affinities, fixed, total),
        )

    def _held(
        self, fixed: Mapping[str, FixedItems], conditions: Conditions
    ) -> tuple[dict[int, list[int]], dict[int, list[ExternalItem]]]:
        """The ids that all outfits have, and external items, by category."""
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
                    raise _NothingLeftError(
                        f"{codes.categories[category]} {item} must be there and is "
                        "not allowed; change one of the filters"
                    )
            of_category += left
        return {c: some for c, some in ids.items() if some}, external

    def _check_external(self, name: str, items: Sequence[ExternalItem]) -> None:
        codes = self._tables.codes
        width = (len(codes.modalities), codes.bits // 8)
        for item in items:
            right = np.isfinite(item.scales) & (item.scales >= 0)
            if item.codes.shape != width or not right.all():
                raise InputError(
                    f"external item in {name}: codes of shape {item.codes.shape}, scales "
                    f"{item.scales}; expected {width} and finite ones, 0 or more"
                )

    def _add_fixed(
        self,
        template: Template,
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
          what the fixed items give by themselves, in pair terms of the template, as the
          affinities.
        """
        tables, slots = self._tables, template.form.slots
        factor = template.per_item // template.per_pair
        starts = self._bounds.layout.category_starts
        held = {
            slot: self._item(slots[slot], item, external)
            for slot, item in enumerate(fixed.tolist())
            if item >= 0
        }
        total = factor * sum(
            int(kernels.affinities(*item, weights)[0, 0]) for item in held.values()
        )
        zero = np.zeros(1, np.int64)
        for slot, other in template.form.pairs:
            if slot in held and other in held:
                (codes, scales), (others, factors) = held[slot], held[other]
                total += int(
                    kernels.pairs(
                        *(codes, others, scales, factors, zero, zero),
                        tables.pair_table,
                        tables.codes.alphabet == "pm1",
                    )[0]
                )
        # A fixed item's tables are the same for all categories that it meets.
        tables_of = {
            slot: kernels.pair_tables(
                codes[0], tables.pair_table, tables.codes.alphabet == "pm1"
            )
            for slot, (codes, _) in held.items()
        }
        open_categories = {c for c, item in zip(slots, fixed, strict=True) if item < 0}
        if not held and len(open_categories) == len(starts) - 1:
            affinities[:] = self._affinities(0, starts[-1], weights, [], factor)
            return 0
        for category in open_categories:
            first, last = starts[category : category + 2]
            others = [
                (tables_of[slot], factors)
                for slot, (_, factors) in held.items()
                if slots[slot] != category
            ]
            affinities[first:last] = self._affinities(
                first, last, weights, others, factor
            )
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
            # Larger ones would leave the range of the sums.
            scales = own.scales[None] / np.float32(tables.largest_scale)
            return codes, np.minimum(scales, np.float32(1))
        layout = self._bounds.layout
        place = layout.places[layout.category_starts[category] + item]
        scales = None if self._scales is None else self._scales[place : place + 1]
        return self._codes[place : place + 1], scales

    def _affinities(
        self, first, last, weights, others, factor
    ) -> Int32[np.ndarray, " n"]:
        """What the items at some positions add for a user, and with some others.

        Args:
          others: tables of the pair terms with each of them, and its scales.
          factor: of the former.
        """
        factor = np.int32(factor)
        codes = self._codes[first:last]
        tables = [table for table, _ in others]
        modalities = len(self._tables.codes.modalities)
        if self._scales is None:
            # All that is added for a byte is looked up at once.
            everything = sum(tables, np.tile(factor * weights[0], (modalities, 1)))
            return kernels.affinities(codes, None, everything[None])[0]
        scales = self._scales[first:last]
        total = factor * kernels.affinities(codes, scales, weights)[0]
        for table, factors in others:
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
        free: Sequence[int],
        conditions: Conditions,
    ) -> None:
        """Sets the affinities of items that may not be chosen to NEG_INF.

        Args:
          free: the categories of the slots to fill.
        """
        layout = self._bounds.layout
        for category in set(free) & conditions.allowed.keys():
            first, last = layout.category_starts[category:][:2]
            allowed = conditions.allowed[category][layout.order[first:last]]
            affinities[first:last][~allowed] = NEG_INF


def _emptied_by(filters: Filters, asked: Callable[..., Compositions]) -> str | None:
    """The first filter after which nothing is left; those by attributes come last."""
    parts = sorted(parts_of(filters), key=takes_attributes)
    for number in range(len(parts)):
        try:
            is_left = len(asked(1, parts[:number], None)) > 0
        except _NothingLeftError:
            is_left = False
        if not is_left:
            return str(parts[number - 1]) if number else None
    return str(parts[-1]) if parts else None
