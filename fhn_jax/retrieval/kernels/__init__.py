"""The compiled loops of search and composition, over whole numbers.

  jit             how they are compiled
  affinity_sums   what items add for users
  pair_terms      what pairs of items add
  top_k           the best outfits so far
  block_order     the order of outfits in blocks
  block_search    search of stored outfits, block by block
  compose_*       composition of outfits: what is searched (problem), upper bounds
                  (bounds), completing outfits (completion), the search (edges)

All sums are of integers, or of products of them that float64 holds exactly. So results
do not depend on the order of summation, and a bound is never below what it bounds.
"""

from fhn_jax.retrieval.kernels.affinity_sums import affinities
from fhn_jax.retrieval.kernels.block_order import order_by_group, order_in_groups
from fhn_jax.retrieval.kernels.block_search import (
    NEG_INF,
    Blocks,
    Filters,
    search_blocks,
)
from fhn_jax.retrieval.kernels.jit import require_numba
from fhn_jax.retrieval.kernels.pair_terms import pair_tables, pairs, scale_factors
from fhn_jax.retrieval.kernels.top_k import TopK

__all__ = [
    "NEG_INF",
    "Blocks",
    "Filters",
    "TopK",
    "affinities",
    "order_by_group",
    "order_in_groups",
    "pair_tables",
    "pairs",
    "require_numba",
    "scale_factors",
    "search_blocks",
]
