"""Settings of all tests."""

import os

# Broadcasting between arrays of unequal rank must be spelled out. Set as a variable, so
# that it holds in child processes too, and tests without jax do not import it.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

# No test writes to the user's cache of compiled steps; see runs.compiled_once.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", "")
