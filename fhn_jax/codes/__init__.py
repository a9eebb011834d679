"""The codes artifact, and the scores that it gives: all that a recommender needs."""

from fhn_jax.codes.artifact import Codes, load
from fhn_jax.codes.checks import MODALITIES
from fhn_jax.codes.latents import Latents
from fhn_jax.codes.packing import pack, unpack
from fhn_jax.codes.scoring import (
    SCORES,
    ScoreForm,
    Scorer,
    blocks,
    by_slots,
    check_templates,
    gather,
    outfit_scores,
)

__all__ = [
    "MODALITIES",
    "SCORES",
    "Codes",
    "Latents",
    "ScoreForm",
    "Scorer",
    "blocks",
    "by_slots",
    "check_templates",
    "gather",
    "load",
    "outfit_scores",
    "pack",
    "unpack",
]
