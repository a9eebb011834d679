"""Compiling all loops before anybody waits for them."""

import numpy as np

from fhn_jax.codes import Codes
from fhn_jax.errors import RefusedError
from fhn_jax.retrieval.composer import Composer
from fhn_jax.retrieval.kernels.jit import cache_folder
from fhn_jax.retrieval.searcher import Searcher

_USERS, _ITEMS = 40, 4


def compile_loops() -> str:
    """Compiles the loops of search and composition, unless they are compiled already.

    They are kept on disk for this kind of processor, and for this source.

    Returns:
      the folder where they are.
    Raises:
      MissingPackageError: numba is not installed.
      RefusedError: they cannot be kept, since no folder is writable.
    """
    rng = np.random.default_rng(0)
    # Each loop has one type for all codes, but those of bytes and of words differ.
    for bits in (64, 8):
        vectors = rng.normal(size=(3, _ITEMS, bits))
        codes = Codes.from_embeddings(
            dict(zip(("top", "bottom", "shoe"), vectors, strict=True)),
            users=rng.normal(size=(_USERS, bits)),
        )
        outfits = np.tile(np.arange(_ITEMS)[:, None], 3)
        Searcher.in_memory(codes, outfits).search_batch(np.arange(_USERS), 1)
    composer = Composer(codes)
    composer.compose(0, 1)
    composer.compose(0, 1, fixed={"shoe": 0})
    folder = cache_folder()
    if folder is None:
        raise RefusedError(
            "the compiled loops cannot be kept: neither the folder of the package nor "
            "~/.cache is writable; set NUMBA_CACHE_DIR to one that is, here and for "
            "the server"
        )
    return folder
