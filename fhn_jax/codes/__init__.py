"""The codes artifact, and the scores that it gives: all that a recommender needs."""

from fhn_jax.codes.artifact import (
    MODALITIES,
    SCORES,
    Codes,
    Latents,
    Scorer,
    outfit_scores,
    pack,
    unpack,
)

__all__ = [
    "MODALITIES",
    "SCORES",
    "Codes",
    "Latents",
    "Scorer",
    "outfit_scores",
    "pack",
    "unpack",
]
