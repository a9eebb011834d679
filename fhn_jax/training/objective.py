"""The objective of training: the ranking losses by name, and the visual-semantic loss.

A new ranking loss is a function of the scores of positives and of negatives, and an
entry of `RANK_LOSSES`.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fhn_jax.errors import InputError


def bpr_loss(
    positive: Float[Array, " b"], negative: Float[Array, "b c"]
) -> Float[Array, " b"]:
    """Bayesian personalised ranking loss, in nats; a tie gives log 2.

    Args:
      positive: score of each positive outfit, higher is better.
      negative: scores of its negatives; the loss is the mean over them.
    Source: Rendle et al., UAI 2009, "BPR".

    >>> bpr_loss(jnp.zeros(1), jnp.zeros((1, 2))).round(4)
    Array([0.6931], dtype=float32)
    """
    _check_paired(positive, negative)
    return jax.nn.softplus(negative - positive[:, None]).mean(axis=1)


def softmax_loss(
    positive: Float[Array, " b"], negative: Float[Array, "b c"], sharpness: float = 1.0
) -> Float[Array, " b"]:
    """log(1 + Σ_k exp(τ (s⁻_k − s⁺))) / τ²: the positive against all its negatives.

    The hardest negatives get the largest gradient, more so the sharper. Divided by
    τ², so that the curvature at a tie is the same whatever τ.

    Args:
      positive: score of each positive outfit.
      negative: scores of its negatives.
      sharpness: τ, above 0.
    Source: multi-class N-pair loss, Sohn, NeurIPS 2016.

    >>> softmax_loss(jnp.zeros(1), jnp.zeros((1, 1))).round(4)
    Array([0.6931], dtype=float32)
    """
    _check_paired(positive, negative)
    margins = sharpness * (negative - positive[:, None])
    margins = jnp.pad(margins, ((0, 0), (1, 0)))
    return jax.nn.logsumexp(margins, axis=1) / sharpness**2


def imitation_loss(
    scores: Float[Array, "b c"], teacher: Float[Array, "b _"], sharpness: float = 1.0
) -> Float[Array, " b"]:
    """Cross entropy of a student's choice among candidates to a teacher's, over τ².

    Who chooses takes candidate k with probability softmax(τ s)_k.

    Args:
      scores: of the student.
      teacher: of its teacher.
      sharpness: τ, above 0.
    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"; for
      rankings Cao et al., ICML 2007 (ListNet).

    >>> imitation_loss(jnp.zeros((1, 2)), jnp.zeros((1, 2))).round(4)
    Array([0.6931], dtype=float32)
    """
    if scores.shape != teacher.shape:
        raise ValueError(f"scores {scores.shape} and teacher {teacher.shape} differ")
    chosen = jax.nn.softmax(sharpness * teacher, axis=1)
    logs = jax.nn.log_softmax(sharpness * scores, axis=1)
    return -(chosen * logs).sum(axis=1) / sharpness**2


def vse_loss(
    visual: Float[Array, "n d"],
    text: Float[Array, "n d"],
    margin: float,
    mask: Bool[Array, " n"] | None = None,
) -> Float[Array, " n"]:
    """Visual-semantic embedding loss: an item's image and text match each other best.

    With S = V Tᵀ / d, row i: [Σ_j max(0, m − S_ii + S_ij) + Σ_j max(0, m − S_ii +
    S_ji) − 2m] / (n − 1). The sums include j = i, whose two terms are the 2m.

    Args:
      visual: visual codes, one row per item.
      text: text codes of the same items.
      margin: m, at least 0.
      mask: rows that count; the others neither have a loss nor are in a sum.
    Returns:
      loss of each row, 0 where masked out.
    Raises:
      ValueError: shapes differ (at trace time).
    Source: Kiros et al. 2014; Lu et al., CVPR 2019, section 3.4.
    """
    if visual.shape != text.shape:
        raise ValueError(f"visual {visual.shape} and text {text.shape} must be paired")
    n, d = visual.shape
    similarity = jnp.matmul(visual, text.T, precision="highest") / d
    matched = jnp.diagonal(similarity)
    hinge = jax.nn.relu(margin - matched[:, None] + similarity)
    hinge = hinge + jax.nn.relu(margin - matched[:, None] + similarity.T)
    if mask is None:
        return (hinge.sum(axis=1) - 2 * margin) / max(n - 1, 1)
    loss = (hinge * mask[None, :]).sum(axis=1) - 2 * margin
    return jnp.where(mask, loss / jnp.maximum(mask.sum() - 1, 1), 0.0)


def _check_paired(positive, negative):
    if positive.shape != negative.shape[:1]:
        raise ValueError(
            f"positive {positive.shape} and negative {negative.shape} must be paired: "
            "[b] and [b, c]"
        )


class RankLoss(NamedTuple):
    """A ranking loss.

    Attributes:
      of: from the scores [b] of positives and [b, c] of their negatives to the loss [b].
      options: attributes of `Objective` that it takes by name.
    """

    of: Callable[..., Float[Array, " b"]]
    options: tuple[str, ...] = ()


# What `loss.rank` of a config can name.
RANK_LOSSES = {
    "bpr": RankLoss(bpr_loss),
    "softmax": RankLoss(softmax_loss, ("sharpness",)),
}


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a step minimises.

    rank + vse_weight · VSE, with rank = (1 − w) · L(relaxed) + w · L(binary scores).

    Attributes:
      rank: L, one of `RANK_LOSSES`.
      sharpness: τ of `softmax_loss`, above 0.
      binary_share: w in [0, 1]; above 0 only where the hash layer has a gradient.
      vse_weight: weight of the visual-semantic loss (with both modalities).
      margin: of the visual-semantic loss, at least 0.
    Raises:
      ValueError: an unknown loss or a value out of its range.
    """

    rank: str = "bpr"
    sharpness: float = 1.0
    binary_share: float = 0.0
    vse_weight: float = 0.1
    margin: float = 0.1

    def __post_init__(self):
        if self.rank not in RANK_LOSSES:
            raise InputError(
                f"loss.rank={self.rank!r}: expected one of {', '.join(RANK_LOSSES)}"
            )
        if not 0 <= self.binary_share <= 1:
            raise InputError(f"loss.binary_share={self.binary_share}: expected 0 to 1")
        if not self.sharpness > 0:
            raise InputError(f"loss.sharpness={self.sharpness}: expected above 0")
        for name in ("vse_weight", "margin"):
            if not getattr(self, name) >= 0:
                raise InputError(
                    f"loss.{name}={getattr(self, name)}: expected at least 0"
                )

    def rank_loss(self, scores: Float[Array, "b c"]) -> Float[Array, " b"]:
        """L of candidate scores, the positive first."""
        loss, names = RANK_LOSSES[self.rank]
        options = {name: getattr(self, name) for name in names}
        return loss(scores[:, 0], scores[:, 1:], **options)

    def imitation(
        self, scores: Float[Array, "b c"], teacher: Float[Array, "b c"]
    ) -> Float[Array, " b"]:
        """`imitation_loss`, which takes the place of the ranking loss of a student."""
        return imitation_loss(scores, teacher, self.sharpness)
