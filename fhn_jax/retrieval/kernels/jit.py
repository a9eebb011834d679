"""Compiling the loops of retrieval: the one place that imports numba.

Compiled loops are kept beside their source. numba compiles anew when the file that holds
a loop has changed, but not when only a loop that it calls, in another file, has: remove
`__pycache__` after editing such a loop.
"""

import inspect

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
        return numba.njit(cache=True, nogil=True, **options)(loop)
    except RuntimeError:  # no folder is writable
        return numba.njit(nogil=True, **options)(loop)


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
