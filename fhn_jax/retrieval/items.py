"""Scores in whole numbers: what an item adds for a user, and what a pair adds.

A score is (sum of one number an item) + (sum of one number a pair of items). Here
these numbers are integers in a common unit. Their sums are therefore exact in any
order: bounds never round the wrong way, ties are well defined, and every way of
searching gives the same answer.
"""

import functools
import hashlib
import json
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int32, Shaped

from fhn_jax.codes import Codes, ScoreForm
from fhn_jax.codes.scoring import SCALE
from fhn_jax.errors import InputError
from fhn_jax.retrieval import kernels
from fhn_jax.retrieval.arguments import user_codes

# How far beyond the scores of a user of ±1 the range of the integers reaches.
_HEADROOM = 25
_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Template:
    """How outfits of one shape are scored, see `ItemTables`.

    Attributes:
      slots: numbers of its slots.
      form: of their score.
      per_item, per_pair: the units that an affinity and a pair term count.
    """

    slots: tuple[int, ...]
    form: ScoreForm
    per_item: int = 1
    per_pair: int = 1


@dataclass(frozen=True, eq=False)
class ItemTables:
    """Codes made ready for scoring in whole numbers.

    score = unit · (per_item · Σ affinities of the items + per_pair · Σ pair terms of the
    pairs of slots of different categories), where a template says what each counts: both
    1 if there is one template. Outfits of all templates have one unit, so their scores
    compare. One unit is 10 / (N · bits · modalities · 2**shift), where N is slots · pairs
    of the one template, or the least common multiple of the pairs of several. Weights λ·u
    and λ are rounded to multiples of 2**-shift. So with
    λ = 1 and codes of ±1 or 0/1 nothing is rounded, and outfits that tie on paper tie
    here. In all other cases a score differs from that of `fhn_jax.codes.Scorer` by
    less than `error`. `shift` is as large as 32 bits allow: 14 for 128 bits, two
    modalities and three slots.

    Shapes: n items of one category, m modalities, d bits, w = d / 8 bytes.

    Attributes:
      codes: the artifact.
      packed: item codes per category, uint8 [n, m·w]: the modalities side by side.
      scales: factors of the item codes per category, brought to -1 … 1 by a power of
        two that is part of the weights, float32 [n, m]; None if codes are not scaled.
      templates: of outfits, in the order of the codes.
      shift: binary digits kept of the weights.
      unit: the score that one unit is worth.
      error: an upper bound of the rounding error of a score.
      user_factor: what a user code is multiplied with before it is rounded, [d].
      item_weights: rounded λⁱ, times the slots of the one template, int32 [d].
      largest_scale: the power of two.
    """

    codes: Codes
    packed: tuple[np.ndarray, ...]
    scales: tuple[np.ndarray, ...] | None
    templates: tuple[Template, ...]
    shift: int
    unit: float
    error: float
    user_factor: np.ndarray
    item_weights: np.ndarray
    largest_scale: float

    @classmethod
    def from_codes(cls, codes: Codes) -> "ItemTables":
        """Makes the tables; the packed codes are copied once.

        Raises:
          MissingPackageError: numba is not installed.
        """
        kernels.require_numba()
        templates, common, of_user, of_pairs = _templates(codes)
        form = templates[0].form
        denominator = common * form.bits * form.modalities
        scales, largest = None, 1.0
        if codes.item_scales is not None:
            scales = tuple(
                np.stack([codes.item_scales[m][c] for m in codes.modalities], axis=1)
                for c in range(len(codes.categories))
            )
            # A power of two, so that dividing by it is exact and a few more items
            # seldom change the unit.
            largest = max(float(np.abs(a).max(initial=1)) for a in scales)
            largest = 2.0 ** math.ceil(math.log2(largest))
            scales = tuple(a.astype(np.float32) / np.float32(largest) for a in scales)
        lambda_user = codes.alpha * largest * codes.lambda_user.astype(np.float64)
        lambda_item = largest**2 * codes.lambda_item.astype(np.float64)
        largest_weight = form.user_weight * np.abs(lambda_user).mean()
        largest_weight += form.item_weight * np.abs(lambda_item).mean()
        steps = _LIMIT / denominator / _HEADROOM / (largest_weight or 1)
        shift = math.floor(math.log2(steps))
        unit = SCALE / (denominator * 2.0**shift)
        # Half a step of each weight, and where codes are scaled half of what an item and
        # modality, and a pair, counts.
        error = SCALE * 2.0**-shift
        if scales is not None:
            error += unit * form.modalities * max(map(sum, _counts(templates))) / 2
        return cls(
            codes=codes,
            packed=tuple(
                np.concatenate([codes.items[m][c] for m in codes.modalities], axis=1)
                for c in range(len(codes.categories))
            ),
            scales=scales,
            templates=templates,
            shift=shift,
            unit=unit,
            error=error,
            user_factor=form.user_weight * of_user * lambda_user,
            item_weights=np.rint(np.ldexp(lambda_item, shift)).astype(np.int32)
            * np.int32(form.item_weight * of_pairs),
            largest_scale=largest,
        )

    @functools.cached_property
    def item_fingerprint(self) -> str:
        """SHA-256 of all that stored pair terms depend on, users not included."""
        codes = self.codes
        about = [codes.bits, codes.alphabet, codes.modalities, codes.categories]
        about += [codes.slots, codes.num_items, self.shift, self.scales is not None]
        if len(codes.templates) > 1:
            about.append(codes.templates)
        digest = hashlib.sha256(json.dumps(about).encode())
        for array in (self.item_weights, *self.packed, *(self.scales or ())):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def is_part_of(self, other: "ItemTables") -> bool:
        """Whether all that is stored of these items holds in tables of more items."""
        ours, theirs = (
            (each.shift, each.unit, each.largest_scale, each.templates)
            for each in (self, other)
        )
        tables = [(self.packed, other.packed)]
        if self.scales is not None and other.scales is not None:
            tables.append((self.scales, other.scales))
        return (
            ours == theirs
            and np.array_equal(self.item_weights, other.item_weights)
            and (self.scales is None) == (other.scales is None)
            and all(
                len(old) <= len(new) and np.array_equal(old, new[: len(old)])
                for some, more in tables
                for old, new in zip(some, more, strict=True)
            )
        )

    def user_vectors(
        self, users: int | Shaped[np.ndarray, "..."], score: str = "asymmetric"
    ) -> Int32[np.ndarray, "u d"]:
        """What each bit of an item is worth to each user, in units.

        Args:
          users, score: see `user_codes`.
        Raises:
          ValueError: as `user_codes`; or a vector so large that scores would leave the
            range of 32 bits.
        """
        values = user_codes(self.codes, users, score)
        rounded = np.rint(np.ldexp(values * self.user_factor, self.shift))
        self._check_range(rounded)
        return rounded.astype(np.int32)

    def _check_range(self, weights: Float64[np.ndarray, "u d"]) -> None:
        modalities = len(self.codes.modalities)
        items, pairs = (
            max(counts) * modalities
            for counts in zip(*_counts(self.templates), strict=True)
        )
        room = _LIMIT - pairs * int(np.abs(self.item_weights.astype(np.int64)).sum())
        room -= pairs + items  # each scaled sum may be rounded up by a half
        worst = np.abs(weights).sum(axis=1) * items
        if not (worst <= room).all():
            row = int(np.argmax(worst))
            raise InputError(
                f"user vector {row} gives scores up to {worst[row] * self.unit:.3g}, "
                f"which do not fit the range of {room * self.unit:.3g}; divide the "
                "vector by a number"
            )

    def affinities(
        self, vectors: Int32[np.ndarray, "u d"]
    ) -> tuple[Int32[np.ndarray, "u n"], ...]:
        """What each item adds to the score of an outfit, per category, in units.

        Args:
          vectors: as `user_vectors` gives them.
        """
        tables = self.byte_tables(vectors)
        scales = self.scales or (None,) * len(self.packed)
        return tuple(
            kernels.affinities(*of_category, tables)
            for of_category in zip(self.packed, scales, strict=True)
        )

    def affinities_of(
        self,
        category: int,
        ids: Int[np.ndarray, " n"],
        vectors: Int32[np.ndarray, "u d"],
    ) -> Int32[np.ndarray, "u n"]:
        """The same of some items of one category.

        Args:
          ids: within the category, in range.
        """
        scales = None if self.scales is None else self.scales[category][ids]
        packed = self.packed[category][ids]
        return kernels.affinities(packed, scales, self.byte_tables(vectors))

    def pairs(
        self,
        category_a: int,
        ids_a: Int[np.ndarray, " n"],
        category_b: int,
        ids_b: Int[np.ndarray, " n"],
    ) -> Int32[np.ndarray, " n"]:
        """What pairs of items of two categories add to a score, in units.

        Args:
          ids_a, ids_b: ids within the categories, in range; row by row a pair.
        """
        scales = self.scales or (None,) * len(self.packed)
        return kernels.pairs(
            self.packed[category_a],
            self.packed[category_b],
            scales[category_a],
            scales[category_b],
            ids_a,
            ids_b,
            self.pair_table,
            self.codes.alphabet == "pm1",
        )

    @functools.cached_property
    def pair_table(self) -> Int32[np.ndarray, "w 256"]:
        """The pair term of each byte, by which of its bits differ (or are both set)."""
        signs = _bits_of_bytes() if self.codes.alphabet == "01" else -_signs_of_bytes()
        return _table(self.item_weights[None], signs)[0]

    def byte_tables(
        self, vectors: Int32[np.ndarray, "u d"]
    ) -> Int32[np.ndarray, "u w 256"]:
        """What each value of each byte of an item is worth to each user."""
        is_01 = self.codes.alphabet == "01"
        return _table(vectors, _bits_of_bytes() if is_01 else _signs_of_bytes())

    def compatibilities(
        self, items: Int[np.ndarray, "n s"], template: int = 0
    ) -> Int32[np.ndarray, " n"]:
        """The pair terms of outfits of a template, all together, in units.

        Args:
          items: ids within the category of each slot of the template, in range.
          template: its number.
        """
        form = self.templates[template].form
        slots = form.slots
        total = np.zeros(len(items), np.int32)
        for j, k in form.pairs:
            total += self.pairs(slots[j], items[:, j], slots[k], items[:, k])
        return total * np.int32(self.templates[template].per_pair)

    def to_scores(self, units: Int[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
        """Scores of so many units."""
        return units * self.unit


def _templates(codes: Codes) -> tuple[tuple[Template, ...], int, float, int]:
    """The templates of codes, and what is common to them, see `ItemTables`.

    With U and I the sums of a `ScoreForm`, s slots and P pairs, a score is U/s + I/P but
    for factors that all templates share: in units of 1/N it is N/s U + N/P I.

    Returns:
      the templates; N; and what stored weights of users and of pairs are multiplied with,
      which leaves the rest to `per_item` and `per_pair`.
    """
    forms = [ScoreForm.of(codes, slots) for slots in codes.templates]
    if len(forms) == 1:
        slots, pairs = len(forms[0].slots), forms[0].num_pairs
        whole = Template(codes.templates[0], forms[0])
        return (whole,), slots * pairs, float(pairs), slots
    # P is s (s - 1) / 2, so s divides 2 P: halves of weights make all counts whole, and
    # an affinity counts s - 1 times what a pair term counts.
    common = math.lcm(*(form.num_pairs for form in forms))
    templates = tuple(
        Template(slots, form, 2 * common // len(slots), common // form.num_pairs)
        for slots, form in zip(codes.templates, forms, strict=True)
    )
    return templates, common, 0.5, 1


def _counts(templates: tuple[Template, ...]) -> list[tuple[int, int]]:
    """The units that all items, and all pairs, of an outfit of each template count."""
    return [
        (each.per_item * len(each.slots), each.per_pair * len(each.form.pairs))
        for each in templates
    ]


@functools.cache
def _bits_of_bytes() -> Float64[np.ndarray, "256 8"]:
    bytes_ = np.arange(256, dtype=np.uint8)[:, None]
    return np.unpackbits(bytes_, axis=1, bitorder="little").astype(np.float64)


@functools.cache
def _signs_of_bytes() -> Float64[np.ndarray, "256 8"]:
    return 2 * _bits_of_bytes() - 1


def _table(
    weights: Int32[np.ndarray, "u d"], values: Float64[np.ndarray, "256 8"]
) -> Int32[np.ndarray, "u w 256"]:
    """Weighted sums of the values of every byte at every place."""
    # Float64 holds these whole numbers exactly, and is several times as fast.
    by_byte = weights.reshape(len(weights), -1, 8).astype(np.float64)
    return np.matmul(by_byte, values.T).astype(np.int32)
