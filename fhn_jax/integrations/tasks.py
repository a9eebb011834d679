"""Results made in parts by tasks of a Ray cluster, or by this process.

Tasks, not Ray Data: a part that is there after a kill must not be made again, and that
needs files of known names, which Ray Data does not write.
"""

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fhn_jax import files
from fhn_jax.errors import UnreachableError
from fhn_jax.integrations.cluster import connect, ray_module

# Writes one part of a result, of a chunk of what it is made of.
Write = Callable[[Any, Path], None]


@contextlib.contextmanager
def made_parts(
    folder: Path,
    about: Mapping[str, Any],
    suffix: str,
    prepare: Callable[[Any], Write],
    shared: Any,
    chunks: Sequence[Any],
    progress: Callable[[int, int], None] | None = None,
    *,
    cluster: bool,
    gpus: bool = False,
) -> Iterator[list[Path]]:
    """Yields the parts of a result, one for each chunk; they are removed at the end.

    Each is written whole or not at all. What was made before an interruption is taken as
    it is, and what a lost node was at is made again by another. A part must depend on
    its chunk alone, so that it is the same wherever it is made.

    Args:
      folder, about, suffix: see `files.parts`; the folder is on storage that all nodes
        share.
      prepare: a function of a module; called with `shared` once in each process that
        makes parts.
      shared: what all parts need.
      chunks: what each part is made of.
      progress: is called with the number of parts there are, and of all.
      cluster: whether tasks of the connected Ray cluster make them, else this process.
      gpus: whether a task takes a GPU where the cluster has some.
    Raises:
      UnreachableError: Ray lost a task again and again.
      MissingFileError: another node does not share the storage.
    """
    with files.parts(folder, about, len(chunks), suffix) as parts:
        made = _by_tasks(gpus) if cluster else _here
        missing, total = parts.missing, len(chunks)
        if progress is not None and len(missing) < total:
            progress(total - len(missing), total)
        jobs = [(n, chunks[n], parts.paths[n]) for n in missing]
        with contextlib.closing(made(prepare, shared, jobs)) as digests:
            for left, (number, digest) in enumerate(digests, 1 - len(missing)):
                parts.note(number, digest)
                if progress is not None:
                    progress(total + left, total)
        yield parts.paths


def at(address: str) -> contextlib.AbstractContextManager[None]:
    """Joins the cluster at an address; without one nothing is done."""
    return connect(address) if address else contextlib.nullcontext()


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array; unlike `numpy.save`, to a path of whatever name.

    And a full disk is an error that says so, where `numpy.save` leaves the reason out.
    """
    array = np.ascontiguousarray(array)
    header = np.lib.format.header_data_from_array_1_0(array)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data)


def _here(prepare, shared, jobs) -> Generator[tuple[int, str]]:
    if not jobs:
        return
    write = prepare(shared)
    for number, chunk, path in jobs:
        yield number, files.write_part(path, functools.partial(write, chunk))


def _by_tasks(gpus: bool) -> Callable[..., Generator[tuple[int, str]]]:
    def made(prepare, shared, jobs):
        ray = ray_module()
        takes_gpu = gpus and ray.cluster_resources().get("GPU", 0) >= 1
        task = ray.remote(_part).options(num_gpus=int(takes_gpu))
        # In a list it stays a reference, which each process resolves once.
        reference = [ray.put(shared)]
        pending = {
            task.remote(prepare, reference, chunk, path): number
            for number, chunk, path in jobs
        }
        try:
            while pending:
                (done,), _ = ray.wait(list(pending))
                digest = ray.get(done)
                yield pending.pop(done), digest
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:300]
            raise UnreachableError(
                f"the Ray cluster does not finish a task ({reason}); "
                "look with `ray status` whether it has nodes and memory left, and call "
                "this again: what was made is kept"
            ) from None
        finally:
            # No task may write into a folder that is about to be removed.
            for call in pending:
                ray.cancel(call)
            if pending:
                ray.wait(list(pending), num_returns=len(pending))

    return made


def _part(prepare, reference, chunk, path) -> str:
    """Writes a part and returns its digest: a task."""
    write = _prepared(prepare, reference[0])
    return files.write_part(path, functools.partial(write, chunk))


@functools.lru_cache(maxsize=1)
def _prepared(prepare, reference) -> Write:
    return prepare(ray_module().get(reference))
