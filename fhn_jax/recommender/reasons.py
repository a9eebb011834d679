"""What gives an outfit its score."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from fhn_jax.recommender.suggestions import Reasons
from fhn_jax.retrieval.items import ItemTables


def explain(
    tables: ItemTables,
    categories: Sequence[int],
    latents: Float32[np.ndarray, " d"],
    items: Sequence[int],
) -> Reasons:
    """Which items and which pairs give an outfit its score; exactly.

    Args:
      categories: of the slots.
      latents: the user code.
      items: an id for each slot, -1 where the outfit has none.
    """
    slots = tuple(slot for slot, item in enumerate(items) if item >= 0)
    template = next(each for each in tables.templates if each.slots == slots)
    weights = tables.user_vectors(latents.astype(np.float64))
    ids = [np.array([item]) for item in items]
    own = {
        slot: tables.affinities_of(categories[slot], ids[slot], weights)[0, 0]
        for slot in slots
    }
    pairs = [(slots[j], slots[k]) for j, k in template.form.pairs]
    terms = [
        tables.pairs(categories[j], ids[j], categories[k], ids[k])[0] for j, k in pairs
    ]
    of_items = [template.per_item * int(own.get(s, 0)) for s in range(len(items))]
    of_pairs = [template.per_pair * int(term) for term in terms]
    values = tables.to_scores(np.array([*of_items, *of_pairs])).tolist()
    return Reasons(
        tuple(values[: len(items)]),
        tuple(
            (j, k, value)
            for (j, k), value in zip(pairs, values[len(items) :], strict=True)
        ),
    )
