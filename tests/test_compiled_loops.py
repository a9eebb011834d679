"""Compiled loops: kept on disk, compiled beforehand, and never stale."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.dispatcher import Dispatcher
from runs import REPOSITORY

from fhn_jax.errors import RefusedError
from fhn_jax.main import main
from fhn_jax.retrieval import compiling, kernels
from fhn_jax.retrieval.kernels import (
    affinity_sums,
    block_order,
    block_search,
    compose_bounds,
    compose_completion,
    compose_edges,
    compose_problem,
    jit,
    pair_terms,
    top_k,
)

MODULES = (
    *(affinity_sums, block_order, block_search, compose_bounds, compose_completion),
    *(compose_edges, compose_problem, pair_terms, top_k),
)


@pytest.mark.slow
def test_a_loop_is_compiled_anew_when_one_that_it_calls_has_changed(tmp_path):
    package = tmp_path / "loops"
    package.mkdir()
    shutil.copy(jit.__file__, package / "jit.py")
    (package / "__init__.py").touch()
    head = "from loops.jit import njit\n"
    (package / "calling.py").write_text(
        f"{head}from loops.called import add\n@njit\ndef run(a):\n return add(a)\n"
    )
    program = "from loops.calling import run\nprint(run(1), len(run.stats.cache_hits))"
    said = []
    for added in (1, 1, 2):
        (package / "called.py").write_text(
            f"{head}@njit\ndef add(a):\n return a + {added}\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
            capture_output=True,
            text=True,
            check=True,
        )
        said += [done.stdout.split()]
    # Its value, and whether it came from the disk.
    assert said == [["2", "0"], ["2", "1"], ["3", "0"]]


def test_all_loops_are_compiled_beforehand(capsys):
    main(["compile"])
    folder = capsys.readouterr().out.split()[-1]
    assert Path(folder).is_dir()
    loops = {
        value.py_func.__qualname__: value
        for module in MODULES
        for value in vars(module).values()
        if isinstance(value, Dispatcher)
    }
    assert set(sources()) == {
        module.__name__.rpartition(".")[2] for module in MODULES
    } | {"jit", "__init__"}
    for name, loop in loops.items():
        if loop.targetoptions.get("inline") == "always":
            continue
        # Neither a loop that is missing, nor one that others use with other types.
        here = {str(signature) for signature in loop.signatures}
        index = loop._cache._cache_file._load_index()
        kept = {str(key[0]) for key in index}
        assert len(kept) == 1 and len(here) <= 1, name


def sources():
    folder = Path(kernels.__file__).parent
    return [path.stem for path in folder.glob("*.py")]


def test_loops_that_cannot_be_kept_are_an_error(monkeypatch):
    monkeypatch.setattr(compiling, "cache_folder", lambda: None)
    with pytest.raises(RefusedError, match="set NUMBA_CACHE_DIR"):
        compiling.compile_loops()
