"""What a user thinks of an outfit, from their codes."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from fhn_jax.errors import InputError

SCORE_SCALE = 10.0
HASH_TYPES = (0, 1, 2, 3)


def category_pairs(slots: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Pairs of slots whose items are compared: all of different categories.

    Args:
      slots: the category index of each slot.

    >>> category_pairs((0, 1, 2))
    ((0, 1), (0, 2), (1, 2))
    >>> len(category_pairs((0, 0, 1, 2)))
    5
    """
    return tuple(
        (j, k)
        for j in range(len(slots))
        for k in range(j + 1, len(slots))
        if slots[j] != slots[k]
    )


class Matching(nnx.Module):
    """Score of an outfit for a user: 10 · (user term + item term).

    user term = mean over the items of the outfit and bits of λᵘ_d u_d x_d, times α;
    item term = mean over its pairs of different categories and bits of λⁱ_d x_d x'_d,
    0 where there are none. So scores of outfits of different templates compare.

    | hash_types | learned                                             |
    |------------|-----------------------------------------------------|
    | 0          | one scalar α on the user term                       |
    | 1          | λᵘ                                                  |
    | 2          | λⁱ                                                  |
    | 3          | both λᵘ and λⁱ ("T3")                               |

    What is not learned is 1.

    Attributes:
      lambda_user, lambda_item: [d] matching weights, or None where not learned.
      alpha: [] scalar, or None where not learned.
    Args:
      bits: length of a code.
      slots: the category index of each slot of an outfit.
      templates: the sets of slots that outfits fill; by default one of all slots.
      hash_types: 0, 1, 2 or 3.
      zero_item_term: ablation, score = 20 · user term.
      zero_user_term: ablation, score = 20 · item term (zero_item_term wins).
    Raises:
      ValueError: unknown hash_types, or nothing but an item term where no template has
        two categories.
    Source: Lu et al., CVPR 2019, equations 4 to 7.
    """

    def __init__(
        self,
        bits: int,
        slots: tuple[int, ...],
        templates: tuple[tuple[int, ...], ...] = (),
        *,
        hash_types: int = 3,
        zero_item_term: bool = False,
        zero_user_term: bool = False,
    ):
        if hash_types not in HASH_TYPES:
            raise InputError(f"model.hash_types={hash_types}: expected 0, 1, 2 or 3")
        self.pairs = tuple(
            pair
            for pair in category_pairs(slots)
            if not templates or any(set(pair) <= set(t) for t in templates)
        )
        each = [tuple(slots[s] for s in t) for t in templates] or [slots]
        if zero_user_term and not zero_item_term and not any(map(category_pairs, each)):
            raise InputError(
                "model.matching.zero_user_term=True leaves the item term, but no outfit "
                "has items of two categories: all scores would be 0; use "
                "--config.model.matching.zero_user_term=False"
            )
        self.hash_types = hash_types
        self.zero_item_term = zero_item_term
        self.zero_user_term = zero_user_term and not zero_item_term
        # DIFFERS: hash_types 2 of the reference weighs user-item products by λⁱ.
        # An array each: a training step may be given both, to overwrite them.
        self.alpha = nnx.Param(jnp.ones(())) if hash_types == 0 else None
        self.lambda_user = nnx.Param(jnp.ones(bits)) if hash_types in (1, 3) else None
        self.lambda_item = nnx.Param(jnp.ones(bits)) if hash_types in (2, 3) else None

    def __call__(
        self,
        users: Float[Array, "*#b d"],
        items: Float[Array, "*#b s d"],
        present: Bool[Array, "*#b s"] | None = None,
    ) -> Float[Array, "*#b"]:
        """Scores outfits; leading axes of `users` broadcast against those of `items`.

        Args:
          users: user codes.
          items: the codes of each outfit's items, by slot; those of outfits of a single
            item by themselves.
          present: which slots the outfit fills; all by default.
        """
        num_items: Any = items.shape[-2]
        num_pairs: Any = max(len(self.pairs), 1)
        if present is not None:
            items = jnp.where(present[..., None], items, 0.0)
            num_items = present.sum(-1)
            pairs = [present[..., j] & present[..., k] for j, k in self.pairs]
            num_pairs = jnp.maximum(sum(pair.astype(int) for pair in pairs), 1)[
                ..., None
            ]
        user_term: Any = 0.0
        item_term: Any = 0.0
        if not self.zero_user_term:
            weighted = _weigh(users, self.lambda_user)
            user_term = (weighted * items.sum(-2)).mean(-1) / num_items
            if self.alpha is not None:
                user_term = user_term * self.alpha
        if not self.zero_item_term and self.pairs:
            products: Any = (
                sum(items[..., j, :] * items[..., k, :] for j, k in self.pairs)
                / num_pairs
            )
            item_term = _weigh(products, self.lambda_item).mean(-1)
        ablated = self.zero_item_term or self.zero_user_term
        scale = 2 * SCORE_SCALE if ablated else SCORE_SCALE
        return scale * (user_term + item_term)


def _weigh(x, weights):
    """`x` times the weight of each bit, the last axis; no weights are all 1."""
    return x if weights is None else x * jnp.broadcast_to(weights[...], x.shape)
