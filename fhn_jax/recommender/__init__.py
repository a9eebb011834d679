"""Outfits for a visitor who judges them, from codes and an index alone.

The command line, the page and tasks of a cluster all recommend through this.
"""

from fhn_jax.new_users import Posterior
from fhn_jax.recommender.recommender import Recommender
from fhn_jax.recommender.suggestions import Judged, Reasons, Rules, Suggestion
from fhn_jax.retrieval.columns import Column
from fhn_jax.retrieval.composer import ExternalItem
from fhn_jax.retrieval.filters import HasCategory, Only, Without
from fhn_jax.retrieval.where import Where

__all__ = [
    "Column",
    "ExternalItem",
    "HasCategory",
    "Judged",
    "Only",
    "Posterior",
    "Reasons",
    "Recommender",
    "Rules",
    "Suggestion",
    "Where",
    "Without",
]
