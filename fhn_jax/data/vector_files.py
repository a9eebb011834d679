"""Files of vectors: `ROOT/vectors/NAME.npz`, and what they are in `NAME.json`.

The npz holds `names` [m] unicode, the image file names of items, and `vectors` [m, f]
float32, one row per name. The JSON file beside it says which model made them of what
(`model`, `source`), and has the SHA-256 of the npz (`digest`); vectors from elsewhere
may come without it.
"""

import itertools
import math
import os
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from fhn_jax.data.catalogue import name_fault
from fhn_jax.data.tables import DOWNLOAD
from fhn_jax.errors import InputError
from fhn_jax.files import atomic_path, read_json, sha256_file, write_json

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


def load_vectors(path: Path, writer: str | None = None) -> tuple[list[str], np.ndarray]:
    """Names and vectors of an npz file, of the right kinds and lengths.

    Args:
      path: the file; it is there.
      writer: what writes such a file, for errors; None: numpy.
    Raises:
      ValueError: the file is cut off, holds pickled objects or other shapes, or is not
        the one that its JSON file describes.
    """
    writer = writer or "`numpy.savez(path, names=…, vectors=…)`"
    _check_digest(path)
    with open(path, "rb") as file:
        start = file.read(4)
        # numpy would unpickle anything else.
        if start not in (b"PK\3\4", b"PK\5\6"):
            what = "a pickle" if start[:1] in (b"\x80", b"(") else "no npz file"
            raise InputError(
                f"{path} is {what} (it starts with {start!r}); expected a numpy npz "
                f"archive; write it with {writer}, or {DOWNLOAD}"
            )
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                absent = {"names", "vectors"} - set(archive)
                if absent:
                    raise InputError(
                        f"{path} has no array {min(absent)!r}, only {sorted(archive)}; "
                        f"expected `names` and `vectors`; write it with {writer}"
                    )
                names, vectors = (
                    _load_array(path, archive, key, writer)
                    for key in ("names", "vectors")
                )
        # The last are an unknown way of compression, a password, and a name.
        except (
            *(zipfile.BadZipFile, zlib.error, EOFError, OSError),
            *(NotImplementedError, RuntimeError, UnicodeDecodeError),
        ) as error:
            raise InputError(
                f"{path} is cut off or damaged ({error}); {DOWNLOAD}"
            ) from None
    if names.ndim != 1 or names.dtype.kind != "U":
        raise InputError(
            f"{path}: `names` is {names.dtype} {names.shape}; expected unicode (m,)"
        )
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.shape[1]:
        raise InputError(
            f"{path}: `vectors` is {vectors.dtype} {vectors.shape}; expected float32 "
            "(m, t), one row of equal length per name"
        )
    if len(names) != len(vectors):
        raise InputError(
            f"{path}: {len(names):,} names and {len(vectors):,} vectors; expected as "
            f"many; write the file again with {writer}"
        )
    return names.tolist(), vectors


def _load_array(
    path: Path, archive: np.lib.npyio.NpzFile, key: str, writer: str
) -> np.ndarray:
    """An array of an npz archive, unless it would have to be unpickled.

    Its size is compared with what the archive holds and with the memory of the machine
    before there is room made for it.
    """
    damaged = f"{path}: {key!r} is damaged"
    stored: Any = archive.zip
    try:
        with stored.open(f"{key}.npy") as file:
            version = np.lib.format.read_magic(file)
            # Of all versions that numpy writes, but for the length of a number.
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            shape, _, dtype = read[version](file)
            size = math.prod(shape) * dtype.itemsize + file.tell()
        held = stored.getinfo(f"{key}.npy").file_size
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError):
        raise
    # numpy parses the header as Python, and raises whatever that can raise.
    except Exception as error:
        raise InputError(f"{damaged} ({error}); {DOWNLOAD}") from None
    if dtype.hasobject:
        raise InputError(
            f"{path}: {key!r} holds pickled objects, which are never loaded; expected "
            f"plain unicode names and float32 vectors; write the file with {writer}"
        )
    if size != held:
        raise InputError(
            f"{damaged}: {dtype} {shape} takes {size:,} bytes, and the file holds "
            f"{held:,}; {DOWNLOAD}"
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise InputError(
            f"{path}: {key!r} takes {size:,} bytes, more than the {memory:,} of this "
            f"machine's memory; write the file with {writer}, of fewer items"
        )
    try:
        return archive[key]
    except ValueError as error:
        raise InputError(f"{damaged} ({error}); {DOWNLOAD}") from None


def _check_digest(path: Path) -> None:
    """Raises ValueError if the JSON file beside an npz describes another npz."""
    note = path.with_suffix(".json")
    if path.parent.name != FOLDER or not note.is_file():
        return
    remedy = f"make the vectors again, or remove {note} if {path.name} is right"
    digest = read_json(note, dict, remedy).get("digest")
    found = sha256_file(path)
    if digest != found:
        raise InputError(
            f"{path} has the SHA-256 {found[:12]}…, and {note} says {str(digest)[:12]}"
            f"…: one of them was replaced or damaged; {remedy}"
        )


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
