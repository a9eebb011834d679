"""What `embed-images` and `embed-text` share: vectors made in parts, here or on Ray."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fhn_jax.data.records import Progress
from fhn_jax.data.vector_files import vectors_path, write_vectors
from fhn_jax.integrations import tasks

# For a parser of arguments.
RAY_ADDRESS = (
    ("--ray-address",),
    {
        "default": "",
        "metavar": "HOST:PORT",
        "help": "of a Ray cluster whose nodes make them; default: this process does",
    },
)


def embed(
    root: str | os.PathLike,
    name: str,
    names: Sequence[str],
    prepare: Callable[[Any], Callable[[Sequence[str]], np.ndarray]],
    shared: Any,
    inputs: Sequence[str],
    each: int,
    progress: Progress | None = None,
    *,
    model: str,
    source: str,
    ray_address: str = "",
) -> Path:
    """Writes vectors of all items; what an interruption left is not made again.

    Args:
      root, name, names, model, source: see `write_vectors`.
      prepare: a function of a module; of `shared` it makes, once in each process, what
        makes the vectors of some inputs.
      inputs: what the vector of each item is made of.
      each: inputs in a part.
      progress: called with the number of items done, and of all.
      ray_address: of a Ray cluster; this process makes them if empty.
    Raises:
      ValueError: see `write_vectors`.
      BusyError: another process makes the same vectors.
      ConnectionError: no cluster answers at the address.
    """
    path = vectors_path(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256("\0".join((*names, *inputs)).encode()).hexdigest()
    chunks = [inputs[i : i + each] for i in range(0, len(inputs), each)]

    def of_parts(done: int, total: int) -> None:
        if progress is not None:
            progress(min(done * each, len(names)), len(names))

    with (
        tasks.at(ray_address),
        tasks.made_parts(
            path.with_name(f".{path.stem}.parts").resolve(),
            {"model": model, "source": source, "inputs_sha256": digest, "each": each},
            ".npy",
            _prepare,
            (prepare, shared),
            chunks,
            of_parts,
            cluster=bool(ray_address),
            gpus=True,
        ) as parts,
    ):
        rows = (np.load(part, allow_pickle=False) for part in parts)
        return write_vectors(root, name, names, rows, model=model, source=source)


def _prepare(shared: tuple) -> tasks.Write:
    prepare, of_it = shared
    make = prepare(of_it)

    def write(inputs: Sequence[str], path: Path) -> None:
        tasks.save_array(path, np.ascontiguousarray(make(inputs), "<f4"))

    return write
