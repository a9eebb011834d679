"""The best outfits found so far, as a heap."""

import typing

import numpy as np

from fhn_jax.retrieval.kernels.jit import njit


class TopK(typing.NamedTuple):
    """The best outfits found so far: room for k of them, in heap order.

    Attributes:
      scores: int32 [k], in units; the first entry is the worst.
      outfits: int64 [k], ids; of two equal scores the lower id is the better one.
      places: int64 [k], where each outfit is stored, for the caller.
      counts: int64 [2], how many outfits are held, and how many blocks of outfits were
        looked at to find them.
    """

    scores: np.ndarray
    outfits: np.ndarray
    places: np.ndarray
    counts: np.ndarray

    @classmethod
    def empty(cls, k: int) -> "TopK":
        """Room for k outfits."""
        return cls(
            np.empty(k, np.int32),
            np.empty(k, np.int64),
            np.empty(k, np.int64),
            np.zeros(2, np.int64),
        )


@njit
def push(scores, outfits, places, counts, score, outfit, place):
    """Adds an outfit, which replaces the worst one if k are held."""
    size = counts[0]
    if size < len(scores):
        here = size
        counts[0] += 1
        while here > 0:
            above = (here - 1) // 2
            if not (
                score < scores[above]
                or (score == scores[above] and outfit > outfits[above])
            ):
                break
            scores[here] = scores[above]
            outfits[here] = outfits[above]
            places[here] = places[above]
            here = above
    else:
        here = 0
        while True:
            below = 2 * here + 1
            if below >= size:
                break
            other = below + 1
            if other < size and (
                scores[other] < scores[below]
                or (scores[other] == scores[below] and outfits[other] > outfits[below])
            ):
                below = other
            if not (
                scores[below] < score
                or (scores[below] == score and outfits[below] > outfit)
            ):
                break
            scores[here] = scores[below]
            outfits[here] = outfits[below]
            places[here] = places[below]
            here = below
    scores[here] = score
    outfits[here] = outfit
    places[here] = place
