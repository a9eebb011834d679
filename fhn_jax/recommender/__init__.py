"""Outfits for a visitor who judges them, from codes and an index alone.

The command line, the page and tasks of a cluster all recommend through this.
"""

from fhn_jax.recommender.recommender import Recommender
from fhn_jax.recommender.suggestions import Judged, Reasons, Suggestion
from fhn_jax.retrieval.composer import ExternalItem

__all__ = ["ExternalItem", "Judged", "Reasons", "Recommender", "Suggestion"]
