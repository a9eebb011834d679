"""What a user thinks of an outfit: the score, written once for numpy.

`fhn_jax.models.matching` is the same formula for jax. Search in whole numbers, vectors
for a database and learners of new users derive their constants from `ScoreForm`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int8, Num

from fhn_jax.codes.artifact import Codes
from fhn_jax.codes.checks import check_range, expect
from fhn_jax.codes.latents import Latents
from fhn_jax.codes.packing import unpack
from fhn_jax.errors import InputError

SCORES = ("binary", "asymmetric", "relaxed")
SCALE = 10.0
# Outfits scored at a time: their unpacked codes then fit the processor's cache.
_BLOCK = 256


@dataclass(frozen=True)
class ScoreForm:
    """The formula of a score, but for codes and matching weights.

    With U = Σ over modalities, items and bits of λᵘ u x, and I = Σ over modalities,
    pairs of items of different categories and bits of λⁱ x x':

      score = 10 · (user_weight · α · P · U + item_weight · s · I) / denominator

    where s is the number of slots, P = max(number of pairs, 1) and
    denominator = s · P · bits · modalities: ten times the sum of both terms' means. The
    weights are 1; an ablation doubles one of them and leaves the other term out.

    Attributes:
      slots: category of each slot of an outfit.
      bits: length of a code.
      modalities: number of codes of an item.
      zero_item_term: ablation, score = 20 · user term.
      zero_user_term: ablation, score = 20 · item term; zero_item_term wins.

    >>> form = ScoreForm((0, 1, 2), bits=128, modalities=2)
    >>> form.pairs, form.denominator
    (((0, 1), (0, 2), (1, 2)), 2304)
    """

    slots: tuple[int, ...]
    bits: int
    modalities: int = 1
    zero_item_term: bool = False
    zero_user_term: bool = False

    @classmethod
    def of(cls, codes: Codes, slots: Sequence[int] | None = None) -> "ScoreForm":
        """The formula of a model, for all slots of an outfit or for some of them.

        Args:
          slots: numbers of the slots that an outfit fills.
        """
        return cls(
            codes.slots if slots is None else tuple(codes.slots[s] for s in slots),
            codes.bits,
            len(codes.modalities),
            codes.zero_item_term,
            codes.zero_user_term,
        )

    @property
    def user_weight(self) -> int:
        """Factor of the user term: 0, 1 or 2."""
        if self.zero_item_term:
            return 2
        return 0 if self.zero_user_term else 1

    @property
    def item_weight(self) -> int:
        """Factor of the item term: 0, 1 or 2."""
        return 2 - self.user_weight

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of slots whose items are compared: all of different categories."""
        count = len(self.slots)
        return tuple(
            (j, k)
            for j in range(count)
            for k in range(j + 1, count)
            if self.slots[j] != self.slots[k]
        )

    @property
    def num_pairs(self) -> int:
        """Number of pairs; 1 if there are none, where the item term is 0."""
        return max(len(self.pairs), 1)

    @property
    def denominator(self) -> int:
        """What both terms have in common below the line."""
        return len(self.slots) * self.num_pairs * self.bits * self.modalities


def outfit_scores(
    form: ScoreForm,
    users: Num[np.ndarray, "n d"],
    items: Sequence[Sequence[Num[np.ndarray, "n d"]]],
    lambda_user: Float[np.ndarray, " d"],
    lambda_item: Float[np.ndarray, " d"],
    alpha: float = 1.0,
) -> Float64[np.ndarray, " n"]:
    """Scores outfits, each for one user, from dense codes; see `ScoreForm`.

    Ties: both terms are brought to one denominator and divided once. With λ = 1 and
    codes of ±1 or 0/1 every numerator is a whole number, so scores that are equal on
    paper are equal here, whatever the order of bits, slots or outfits. With learned λ
    the sums are exact in float64 as long as the weights' magnitudes differ by less
    than about 2**20. Real codes are summed in one fixed order, so the same outfit
    always gets the same score.

    Args:
      users: the code of the user of each outfit.
      items: per modality and slot the codes of the outfits' items.
      lambda_user, lambda_item, alpha: matching weights.
    Returns:
      scores, about -20 to 20 for λ = 1.
    Source: Lu et al. 2019.

    >>> ones = np.ones(8)
    >>> user, top, shoe = np.ones((3, 1, 8))
    >>> outfit_scores(ScoreForm((0, 1), bits=8), user, [[top, shoe]], ones, ones)
    array([20.])
    >>> outfit_scores(ScoreForm((0, 1), bits=8), user, [[top, -shoe]], ones, ones)
    array([-10.])
    """
    n, d = users.shape
    user_sum = np.zeros(n)
    item_sum = np.zeros(n)
    for modality in items:
        # Grouping by category leaves out pairs within one, such as the two tops.
        total = np.zeros((n, d))
        pairs = np.zeros((n, d))
        for category in sorted(set(form.slots)):
            group = np.zeros((n, d))
            for slot_category, codes in zip(form.slots, modality, strict=True):
                if slot_category == category:
                    group += codes
            pairs += total * group
            total += group
        # einsum treats each row alike; a BLAS product may round rows differently.
        user_sum += np.einsum("nd,nd,d->n", users, total, lambda_user, dtype=np.float64)
        item_sum += np.einsum("nd,d->n", pairs, lambda_item, dtype=np.float64)
    numerator = form.user_weight * alpha * form.num_pairs * user_sum
    numerator += form.item_weight * len(form.slots) * item_sum
    return SCALE * numerator / form.denominator


def gather(
    codes: Codes,
    items: Int[np.ndarray, "n s"],
    slots: Sequence[int] | None = None,
    item_vectors: Callable[..., np.ndarray] | None = None,
) -> list[list[Float32[np.ndarray, "n d"]]]:
    """The codes of outfits' items, per modality and slot, as `outfit_scores` takes them.

    Args:
      items: ids within the category of the slot, in range.
      slots: numbers of the slots that the columns of `items` are; all by default.
      item_vectors: gives the codes of a modality, category and ids; by default those of
        the artifact, scaled.
    """
    item_vectors = item_vectors or codes.item_vectors
    slots = range(len(codes.slots)) if slots is None else slots
    return [
        [
            item_vectors(modality, codes.slots[slot], items[:, column])
            for column, slot in enumerate(slots)
        ]
        for modality in codes.modalities
    ]


def by_slots(
    items: Int[np.ndarray, "n s"],
) -> Iterator[tuple[tuple[int, ...], Int[np.ndarray, " m"]]]:
    """Outfits that have the same slots.

    Args:
      items: -1 in a slot that an outfit has not.
    Yields:
      numbers of slots, and the rows with just these.
    """
    groups = [((), np.arange(len(items)))] if len(items) else []
    for slot, filled in enumerate(items.T >= 0):
        halves = []
        for slots, rows in groups:
            has = filled[rows]
            halves += [(slots, rows[~has]), ((*slots, slot), rows[has])]
        groups = [(slots, rows) for slots, rows in halves if len(rows)]
    yield from groups


def blocks(
    codes: Codes,
    items: Int[np.ndarray, "n s"],
    item_vectors: Callable[..., np.ndarray] | None = None,
) -> Iterator[tuple[Int[np.ndarray, " m"], ScoreForm, list[list[np.ndarray]]]]:
    """Blocks of outfits that have the same slots, so few that codes fit the cache.

    Args:
      items: ids within the category of the slot, -1 in a slot that an outfit has not.
      item_vectors: see `gather`.
    Yields:
      rows of the block; the form of their score; the codes of their items.
    """
    for slots, rows in by_slots(items):
        form = ScoreForm.of(codes, slots)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            some = items[block][:, list(slots)]
            yield block, form, gather(codes, some, slots, item_vectors)


class Scorer:
    """Scores outfits from a codes artifact.

    Args:
      codes: the artifact.
      latents: relaxed item codes, needed for the relaxed score only.
    Raises:
      ValueError: `latents` are those of other codes.

    >>> vectors = np.array([[1.0] * 8, [-1.0] * 8])
    >>> codes = Codes.from_embeddings({"top": vectors, "shoe": vectors}, users=vectors)
    >>> scorer = Scorer(codes)
    >>> scorer
    Scorer(binary, asymmetric; Codes(8 bits, visual, 4 items in top/shoe, 2 users))
    >>> users, outfits = np.array([0, 0, 0]), np.array([[0, 0], [0, 1], [1, 1]])
    >>> scorer.score("binary", users, outfits)
    array([ 20., -10.,   0.], dtype=float32)
    """

    def __init__(self, codes: Codes, latents: Latents | None = None):
        if latents is not None:
            latents.check(codes)
        self._codes = codes
        self._latents = latents

    def __repr__(self) -> str:
        return f"Scorer({', '.join(self.which)}; {self._codes!r})"

    @property
    def which(self) -> tuple[str, ...]:
        """The scores that can be computed: of "binary", "asymmetric", "relaxed"."""
        return SCORES if self._latents is not None else SCORES[:2]

    def score(
        self, which: str, users: Int[np.ndarray, " n"], items: Int[np.ndarray, "n s"]
    ) -> Float32[np.ndarray, " n"]:
        """Scores outfits, a block at a time, so memory does not grow with their number.

        For the tie rule see `outfit_scores`.

        Args:
          which: "binary" (user and item bits), "asymmetric" (real user, item bits) or
            "relaxed" (both real).
          users: user of each outfit.
          items: items of each outfit: ids within the category of the slot, -1 where
            its template has no such slot.
        Raises:
          ValueError: an unknown score, an id out of range, slots that are no template,
            or no latents for "relaxed".
        """
        codes = self._codes
        expect("score", which in SCORES, which, f"one of {SCORES}")
        item_vectors = codes.item_vectors
        if which == "relaxed":
            if self._latents is None:
                raise InputError(
                    "the relaxed score needs latents.safetensors beside the codes; "
                    "extract-features writes it"
                )
            item_vectors = self._latents.item_vectors
        _check_ids(codes, users, items)
        user_vectors = self._binary_users if which == "binary" else self._real_users
        scores = np.empty(len(users), np.float32)
        for rows, form, gathered in blocks(codes, items, item_vectors):
            scores[rows] = outfit_scores(
                form,
                user_vectors(users[rows]),
                gathered,
                codes.lambda_user,
                codes.lambda_item,
                codes.alpha,
            )
        return scores

    def _binary_users(self, users: Int[np.ndarray, " n"]) -> Int8[np.ndarray, "n d"]:
        codes = self._codes
        return unpack(codes.users[users], codes.bits, codes.alphabet)

    def _real_users(self, users: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
        return self._codes.user_latents[users]


def _check_ids(
    codes: Codes, users: Int[np.ndarray, " n"], items: Int[np.ndarray, "n s"]
) -> None:
    expect(
        "items.shape",
        items.shape == (len(users), len(codes.slots)),
        items.shape,
        f"{(len(users), len(codes.slots))}: one outfit a user, one item a slot",
    )
    check_range("user", users, codes.num_users)
    absent = -1 if len(codes.templates) > 1 else None
    for slot, category in enumerate(codes.slots):
        name = f"{codes.categories[category]} (slot {slot})"
        check_range(name, items[:, slot], codes.num_items[category], absent)
    check_templates(codes, items)


def check_templates(codes: Codes, items: Int[np.ndarray, "n s"]) -> None:
    """Raises InputError naming the first outfit whose slots are no template.

    Args:
      items: -1 in a slot that an outfit has not.
    """
    if len(codes.templates) == 1:
        return  # ids that are in range fill all slots
    wrong = [rows[0] for slots, rows in by_slots(items) if slots not in codes.templates]
    if wrong:
        names = [codes.categories[category] for category in codes.slots]
        templates = map("+".join, codes.template_names)
        raise InputError(
            f"outfit {min(wrong)} has items {items[min(wrong)].tolist()} of {names}, "
            f"expected a template, {' or '.join(templates)}, and -1 in all other slots"
        )
