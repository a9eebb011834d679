"""Compiling the loops of retrieval: the one place that imports numba.

Compiled loops are kept beside their source, or in `NUMBA_CACHE_DIR`. numba compiles anew
when the file that holds a loop has changed, but not when only a loop that it calls, in
another file, has. So the stamp of a file is that of all files of loops here.
"""

import functools
import hashlib
import inspect
from importlib import resources
from typing import Any

from fhn_jax.errors import MissingPackageError

try:
    import numba
except ModuleNotFoundError:
    numba = None


def require_numba() -> None:
    """Raises MissingPackageError unless numba is installed."""
    if numba is None:
        raise MissingPackageError(
            "searching and composing outfits needs numba, which is not installed; "
            'pip install "fhn_jax[retrieval]"'
        )


def njit(loop, **options):
    """Compiles `loop` at its first call and caches the result on disk.

    Without numba the loop is returned as it is, so that modules can be imported.
    """
    if numba is None:
        return loop
    # Tests wrap functions in a check of annotations, which cannot be compiled.
    loop = inspect.unwrap(loop)
    try:
        compiled: Any = numba.njit(cache=True, nogil=True, **options)(loop)
        index = compiled._cache._cache_file
        index._source_stamp = index._source_stamp, _digest()
        return compiled
    except (RuntimeError, AttributeError):
        # No folder is writable; or numba's cache, which is not documented, is another.
        return numba.njit(nogil=True, **options)(loop)


def cache_folder() -> str | None:
    """Where compiled loops are kept; None if they are not."""
    compiled: Any = njit(_digest)
    return compiled._cache.cache_path


@functools.cache
def _digest() -> str:
    """Of the source of all loops."""
    files = resources.files(str(__package__)).iterdir()
    sources = {file.name: file.read_bytes() for file in files if file.is_file()}
    digest = hashlib.sha256()
    for name in sorted(name for name in sources if name.endswith(".py")):
        digest.update(sources[name])
    return digest.hexdigest()


def njit_no_refcount(loop):
    """As `njit`, without reference counting: for loops that allocate no arrays.

    The caller owns the arrays, so counting their references is of no use; with tuples
    of twenty arrays it takes longer than the loops themselves.
    """
    try:
        return njit(loop, _nrt=False)
    except KeyError:  # the option is not documented, so it may disappear
        return njit(loop)


def njit_inline(loop):
    """As `njit`, inlined into its callers.

    For short loops that are called often: passing a tuple of twenty arrays takes longer
    than they do.
    """
    return njit(loop, inline="always")
