"""The looks that somebody new chooses from: those that split tastes most."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from fhn_jax.new_users import Posterior
from fhn_jax.recommender.suggestions import Suggestion, different
from fhn_jax.retrieval.filters import Filter
from fhn_jax.retrieval.outfit_search import OutfitSearch

# Looks to start with that there are at most.
MOST_LOOKS = 24
# They are chosen for so many tastes, among so many of the best outfits for each.
_TASTES, _BEST = 64, 16
# Of the scores' standard deviation between users: what a like leaves uncertain.
_NOISE = 0.25


def first_looks(
    known: Float32[np.ndarray, "u d"],
    stranger: Posterior,
    index: OutfitSearch,
    score: Callable[[Any, Any], list[float]],
    filters: Sequence[Filter] = (),
    templates: Sequence[Sequence[str]] | None = None,
) -> list[Suggestion]:
    """Stored outfits that tell tastes apart best, among those that somebody likes most.

    Args:
      known: codes of the known users; some are drawn, always the same. Where there are
        not two, codes of the stranger stand for them.
      stranger: somebody new.
      index: of the outfits.
      score: the scores of outfits for a user code.
      filters, templates: what the outfits must be.
    """
    rng = np.random.default_rng(0)
    tastes = known
    if len(known) > _TASTES:
        tastes = known[np.sort(rng.choice(len(known), _TASTES, replace=False))]
    elif len(known) < 2:
        tastes = np.stack([stranger.draw(rng) for _ in range(_TASTES)])
    found = index.search_batch(
        tastes.astype(np.float64), _BEST, filters=filters, templates=templates
    )
    outfits = list(
        {one.items: one for hits in found for one in different(hits)}.values()
    )
    if not outfits:
        return []
    items = [outfit.items for outfit in outfits]
    scores = np.array([score(taste, items) for taste in tastes])
    chosen = [outfits[row] for row in splitting(scores, np.array(items), MOST_LOOKS)]
    own = score(stranger.mean, [look.items for look in chosen])
    return [
        dataclasses.replace(look, score=value)
        for look, value in zip(chosen, own, strict=True)
    ]


def splitting(
    scores: Float[np.ndarray, "u n"], places: Int[np.ndarray, "n s"], k: int
) -> list[int]:
    """Outfits whose scores differ most between users, one after the other.

    Each is the one of the largest variance given what users think of those before it,
    the scores being jointly Gaussian. An item comes twice only where there is no other.

    Args:
      scores: of n outfits for u users, who stand for all tastes.
      places: items of the outfits, -1 for none.
      k: how many; at most n.
    Returns:
      their rows.
    Source: Krause et al. 2008, "Near-Optimal Sensor Placements in Gaussian Processes":
      the greedy choice of maximum entropy.
    """
    centred = scores - scores.mean(axis=0, dtype=np.float64)
    covariance = centred.T @ centred / len(scores)
    noise = _NOISE**2 * np.trace(covariance) / max(len(places), 1)
    free = np.ones(len(places), bool)
    fresh = free.copy()
    chosen: list[int] = []
    while len(chosen) < min(k, len(places)):
        among = fresh if fresh.any() else free
        best = int(np.where(among, np.diagonal(covariance), -1).argmax())
        chosen.append(best)
        free[best] = False
        fresh &= ~((places == places[best]) & (places >= 0)).any(axis=1) & free
        told = covariance[best]
        if told[best] > 0:
            covariance = covariance - np.outer(told, told) / (told[best] + noise)
    return chosen
