"""Files of vectors: `ROOT/vectors/NAME.npz`, and what they are in `NAME.json`.

The npz holds `names` [m] unicode, the image file names of items, and `vectors` [m, f]
float32, one row per name. The JSON file beside it says which model made them of what
(`model`, `source`), and has the SHA-256 of the npz (`digest`); vectors from elsewhere
may come without it.
"""

import itertools
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from fhn_jax.data.catalogue import name_fault
from fhn_jax.errors import InputError
from fhn_jax.files import atomic_path, sha256_file, write_json

FOLDER = "vectors"


def write_vectors(
    root: str | os.PathLike,
    name: str,
    names: Sequence[str],
    chunks: Iterable[Float32[np.ndarray, "_k _f"]],
    *,
    model: str,
    source: str,
) -> Path:
    """Writes vectors of items, chunk by chunk: only one chunk is in memory.

    Args:
      root: the data root.
      name: of the vectors.
      names: image file names of the items, in the order of the rows.
      chunks: the rows, some at a time; all of one width, and finite.
      model: what made the vectors.
      source: what it made them of.
    Returns:
      the npz file.
    Raises:
      ValueError: the name is of no use; there are more or fewer rows than names; a row
        has another width, a NaN or an infinity.
    """
    path = vectors_path(root, name)
    note = path.with_suffix(".json")
    chunks = iter(chunks)
    first = next(chunks, None)
    if first is None or not len(names):
        raise InputError(f"{path}: there are no vectors to write")
    width, done = first.shape[1], 0
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with archive.open("names.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.array(names), allow_pickle=False)
        with archive.open("vectors.npy", "w", force_zip64=True) as file:
            header = {
                "descr": "<f4",
                "fortran_order": False,
                "shape": (len(names), width),
            }
            np.lib.format.write_array_header_1_0(file, header)
            for rows in itertools.chain((first,), chunks):
                _check_rows(path, names[done : done + len(rows)], rows, width)
                file.write(np.ascontiguousarray(rows, "<f4").data)
                done += len(rows)
        if done != len(names):
            raise InputError(
                f"{path}: {done:,} vectors for {len(names):,} names; expected as many"
            )
        # Without it a crash leaves vectors of nobody knows what, not of the old model.
        note.unlink(missing_ok=True)
    write_json(note, {"model": model, "source": source, "digest": sha256_file(path)})
    return path


def vectors_path(root: str | os.PathLike, name: str) -> Path:
    """The npz file of the vectors of this name.

    Raises:
      ValueError: the name cannot be a file's.
    """
    fault = name_fault(name)
    if fault:
        raise InputError(
            f"vectors {name[:80]!r}: the name {fault}; expected a name such as 'title'"
        )
    return Path(root) / FOLDER / f"{name}.npz"


def _check_rows(path: Path, names: Sequence[str], rows: np.ndarray, width: int) -> None:
    if len(names) < len(rows):
        raise InputError(f"{path}: more vectors than names; expected as many")
    if rows.shape[1] != width:
        raise InputError(
            f"{path}: the vector of {names[0]!r} has {rows.shape[1]:,} numbers, those "
            f"before it {width:,}; expected one width"
        )
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{path}: the vector of {names[int(np.argmin(finite))]!r} has a NaN or an "
            "infinity; expected finite numbers"
        )
