"""Users, items and outfits as vectors whose inner product is the score.

For a vector database, which then finds the best outfits. The score of an outfit is a sum
over its items, weighted by the user's code, plus its compatibility, which no user
changes. So with e = bits + 1 dimensions,

  outfit  the sum of its items' codes, over both modalities   | its compatibility
  item    its codes, summed over both modalities              | 0
  query   the user's code times λᵘ and the constant factors   | 1

the inner product of a query and an outfit *is* the score, and that of a query and an
item is what the item adds for this user. Where outfits have several templates, a score
holds the mean over the items that there are: the sum is multiplied by the number of all
slots and divided by that of the outfit's, and an item's product is what it adds to an
outfit of all slots. What a database stores does not depend on the
users: new users, and what they learn, change queries only.

Store the vectors as float32 and without normalising, with the inner product ("dot",
"ip") as their measure. `fhn_jax.integrations.qdrant` does so in Qdrant.
"""

from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from fhn_jax.codes import Codes, ScoreForm, blocks, outfit_scores
from fhn_jax.codes.scoring import SCALE
from fhn_jax.errors import InputError
from fhn_jax.retrieval.arguments import check_outfits, item_ids, user_codes


def query_vectors(
    codes: Codes, users: int | Shaped[np.ndarray, "..."], score: str = "asymmetric"
) -> Float32[np.ndarray, "u e"]:
    """Users as vectors, see above.

    Args:
      codes: the artifact.
      users, score: as for `user_codes`.
    Raises:
      ValueError: as `user_codes`; or a vector too large for float32.
    """
    values = user_codes(codes, users, score)
    form = ScoreForm.of(codes)  # of all slots
    factor = SCALE * form.user_weight * codes.alpha * form.num_pairs / form.denominator
    weighted = values * codes.lambda_user.astype(np.float64) * factor
    wrong = np.flatnonzero(np.abs(weighted).max(axis=1) > np.finfo(np.float32).max)
    if wrong.size:
        raise InputError(
            f"user vector {wrong[0]} does not fit into float32; divide the vector by a "
            "number"
        )
    ones = np.ones((len(values), 1))
    return np.concatenate([weighted, ones], axis=1).astype(np.float32)


def item_vectors(codes: Codes, category: str, items: Any) -> Float32[np.ndarray, "n e"]:
    """Items of one category as vectors, see above.

    Args:
      codes: the artifact.
      category: its name.
      items: their ids.
    Raises:
      ValueError: an unknown category or item.
    """
    ids = item_ids(codes, category, items)
    number = codes.categories.index(category)
    vectors = np.zeros((len(ids), codes.bits + 1), np.float32)
    for modality in codes.modalities:
        vectors[:, :-1] += codes.item_vectors(modality, number, ids)
    return vectors


def outfit_vectors(
    codes: Codes, outfits: Shaped[np.ndarray, "..."]
) -> Float32[np.ndarray, "n e"]:
    """Outfits as vectors, see above.

    Args:
      codes: the artifact.
      outfits: an item id for each slot, -1 where an outfit's template has none.
    Raises:
      ValueError: an item id out of range, another number of slots, or slots that are no
        template.
    """
    items = check_outfits(codes, outfits)
    vectors = np.empty((len(items), codes.bits + 1), np.float32)
    for rows, form, gathered in blocks(codes, items):
        share = np.float32(len(codes.slots) / len(form.slots))
        vectors[rows, :-1] = sum(map(sum, gathered)) * share
        # The score for a user of zeros.
        vectors[rows, -1] = outfit_scores(
            form,
            np.zeros((len(rows), codes.bits), np.int8),
            gathered,
            codes.lambda_user,
            codes.lambda_item,
        )
    return vectors
