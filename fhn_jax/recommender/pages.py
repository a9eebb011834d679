"""Pages of outfits whose caps hold for all that is on them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from fhn_jax.codes import Codes
from fhn_jax.recommender.suggestions import (
    Suggestion,
    best_and_others,
    different,
)
from fhn_jax.retrieval.caps import Caps
from fhn_jax.retrieval.filters import ExcludeOutfits, Filter, held, resolve
from fhn_jax.retrieval.outfit_search import OutfitSearch

# So many times the outfits wanted are looked at, for those that explore.
_WIDER = 8


def free_pages(
    index: OutfitSearch,
    users: Sequence[Float[np.ndarray, " d"]],
    counts: Sequence[int],
    page: int,
    filters: Sequence[Filter],
    most: int,
) -> list[tuple[list[Suggestion], list[Suggestion]]]:
    """As `capped_page`, where no item is in more than `most` outfits if that can be.

    Args:
      users: of the first are the best; with each other one there is a page.
    """
    k = sum(counts)
    hits = index.search_batch(
        np.stack(users).astype(np.float64), k * (page + _WIDER), filters=filters
    )
    return best_and_others([different(h) for h in hits], k, counts[1], page, most)


def capped_page(
    index: OutfitSearch,
    codes: Codes,
    users: Sequence[Float[np.ndarray, " d"]],
    counts: Sequence[int],
    page: int,
    filters: Sequence[Filter],
    at_most: Mapping[str, int],
) -> tuple[list[Suggestion], list[Suggestion]]:
    """The best for a user that earlier pages do not show; those of another, to explore.

    Args:
      users: their codes; the second is of whom the others are, if there are any.
      counts: how many of both.
      page: 0 for the best, 1 for the best after those, and so on.
      filters: what all are.
      at_most: see `fhn_jax.retrieval.caps`.
    """
    shown: list[tuple[int, ...]] = []
    best: list[Suggestion] = []
    for _ in range(page + 1):
        hits = index.search(
            users[0].astype(np.float64),
            counts[0],
            filters=[*filters, *_without(shown)],
            at_most=at_most,
        )
        best = different(hits)
        shown += [one.items for one in best]
    if not counts[1]:
        return best, []
    conditions = resolve(filters, codes, index.attributes)
    caps = Caps(at_most, codes, index.attributes, held(conditions, codes))
    for one in best:
        caps.take(one.items)
    hits = index.search(
        users[1].astype(np.float64),
        counts[1] * _WIDER,
        filters=[*filters, *_without(shown), caps.filter()],
    )
    others = [
        dataclasses.replace(one, explores=True)
        for one in different(hits)
        if caps.take(one.items)
    ]
    return best, others[: counts[1]]


def _without(shown: Sequence[tuple[int, ...]]) -> list[Filter]:
    return [ExcludeOutfits(np.array(shown))] if shown else []
