"""Settings of all tests."""

import atexit
import importlib.metadata
import os
import shutil
import tempfile

import pytest
from postgres_server import postgres  # noqa: F401  (a fixture)

# Broadcasting between arrays of unequal rank must be spelled out. Set as a variable, so
# that it holds in child processes too, and tests without jax do not import it.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

# Nearly all of the time is that of compilers: fast code would not pay for itself here.
# The README's commands, which are run apart, are compiled as a user's are.
_flags = ["--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    _flags.append("--xla_cpu_use_fusion_emitters=false")  # Later ones do not know it.
os.environ.setdefault("XLA_FLAGS", " ".join(_flags))


def _share_compiled_steps():
    """One cache of compiled steps for this run of the tests, and none of the user's.

    Each training run jits functions of its own; without a cache every test would wait
    for the same code to be compiled again. Workers of pytest-xdist and child processes
    inherit the variables, and so the cache.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="fhn_jax-tests-compiled-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


_share_compiled_steps()


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """How to serve a small site; a module may have another."""
    from web_site import make_site

    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def app(settings):
    """The server of these settings."""
    from fhn_jax.web.app import create_app

    app = create_app(settings)
    yield app
    app.state.service.close()
