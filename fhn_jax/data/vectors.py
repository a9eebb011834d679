"""Vectors of items that were computed beforehand: of their text, or of their images.

Under a data root, text vectors are `sentence_vector/semantic.npz`, and features NAME of
images are `features/NAME/` (an LMDB: key = image file name, value = the raw bytes of one
float32 row) or, where that is missing, `features/NAME.npz`. An npz holds `names` [m]
unicode and `vectors` [m, f] of floats; nothing is ever unpickled.
"""

import collections
import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from fhn_jax.data.catalogue import Catalogue, name_fault
from fhn_jax.data.records import LmdbRecords, Progress
from fhn_jax.data.tables import DOWNLOAD
from fhn_jax.errors import InputError, MissingFileError

_LMDB_KIND = "an LMDB of one float32 row (raw bytes) by image file name"
_WRITER = "`numpy.savez(path, names=…, vectors=…)`"
_OTHERWISE = "train on images with another model.backbone.name"
_ROWS_AT_ONCE = 4096


def read_text_vectors(
    root: str | os.PathLike, catalogue: Catalogue
) -> Float32[np.ndarray, "n t"]:
    """The text vector of every item, rows by global item id.

    Read from `sentence_vector/semantic.npz`: `names` [m] unicode and `vectors` [m, t]
    of floats. Vectors of names that are no item of the catalogue are left out.

    Args:
      root: the data root.
      catalogue: whose items are wanted.
    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is cut off, holds pickled objects or other shapes, has no
        vector for some item, or a vector with a NaN or an infinity.
    """
    path = Path(root) / "sentence_vector" / "semantic.npz"
    convert = f"`python -m data_tools.convert_semantic {path.with_suffix('.pkl')}`"
    if not path.is_file():
        if path.with_suffix(".pkl").is_file():
            raise MissingFileError(
                f"{path} is missing, only the pickle semantic.pkl is there; unpickling "
                f"runs code, so training never does it: run {convert} once"
            )
        raise MissingFileError(
            f"{path} is missing; expected arrays `names` (m,) of image file names and "
            "`vectors` (m, t) of float32; add it, or train on images alone"
        )
    return _read_npz(
        path,
        catalogue,
        kind="text vector",
        writer=convert,
        otherwise="train on images alone",
    )


def read_features(
    root: str | os.PathLike,
    name: str,
    catalogue: Catalogue,
    *,
    progress: Progress | None = None,
) -> Float32[np.ndarray, "n f"]:
    """The feature vector of every item, rows by global item id; any width f.

    Args:
      root: the data root; see above for where features lie in it.
      name: of the features.
      catalogue: whose items are wanted; features of other names are left out.
      progress: called with the number of rows done, and of all.
    Raises:
      FileNotFoundError: there are no features of this name.
      ValueError: they are damaged, of unequal widths, no float32 rows or not finite, or
        items have none; names up to five.
    """
    folder = Path(root) / "features"
    fault = name_fault(name)
    if fault:
        raise InputError(
            f"data.features={name[:80]!r} {fault}; expected the name of a folder or npz "
            f"file in {folder}"
        )
    path, npz = folder / name, folder / f"{name}.npz"
    if path.exists():
        return _read_lmdb(path, catalogue, progress)
    if not npz.is_file():
        there = sorted({p.name.removesuffix(".npz") for p in folder.glob("[!.]*")})
        raise MissingFileError(
            f"there are no features {name!r}: expected {path}/data.mdb, {_LMDB_KIND}, "
            f"or {npz} with arrays `names` (m,) and `vectors` (m, f); there is "
            f"{', '.join(there) or 'nothing'} in {folder}; download them, or "
            f"{_OTHERWISE}"
        )
    return _read_npz(
        npz, catalogue, kind="feature row", writer=_WRITER, otherwise=_OTHERWISE
    )


def _read_npz(
    path: Path, catalogue: Catalogue, *, kind: str, writer: str, otherwise: str
) -> Float32[np.ndarray, "n f"]:
    """The vector of every item from an npz, rows by global item id.

    The file holds `names` [m] unicode and `vectors` [m, f] of floats. Vectors of names
    that are no item of the catalogue are left out.

    Args:
      path: the file; it is there.
      catalogue: whose items are wanted.
      kind: what a vector is, for errors.
      writer: what writes such a file, for errors.
      otherwise: how to do without, for errors.
    Raises:
      ValueError: the file is cut off, holds pickled objects or other shapes, has no
        vector for some item, or a vector with a NaN or an infinity.
    """
    names, vectors = _load_vectors(path, writer)
    rows = {name: row for row, name in enumerate(names)}
    if len(rows) != len(names):
        twice, _ = collections.Counter(names).most_common(1)[0]
        raise InputError(f"{path}: the name {twice!r} occurs twice; drop one")
    wanted = catalogue.item_names()
    missing = [name for name in wanted if name not in rows]
    if missing:
        raise _missing_error(path, catalogue, missing, kind, otherwise)
    order = np.fromiter((rows[name] for name in wanted), np.int64, len(wanted))
    # The copy is saved where it can be: on the full data set it is 2 GB.
    if not np.array_equal(order, np.arange(len(names))):
        vectors = vectors[order]
    with np.errstate(over="ignore"):
        vectors = vectors.astype(np.float32, copy=False)
    _check_finite(path, wanted, vectors)
    return vectors


def _load_vectors(path: Path, writer: str) -> tuple[list[str], np.ndarray]:
    """Names and vectors of an npz file, of the right kinds and lengths."""
    with open(path, "rb") as file:
        start = file.read(4)
        if not start.startswith(b"PK"):
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
        # The last is an unknown way of compression, or a password.
        except (
            *(zipfile.BadZipFile, zlib.error, EOFError, OSError),
            *(NotImplementedError, RuntimeError),
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


def _read_lmdb(
    path: Path, catalogue: Catalogue, progress: Progress | None
) -> Float32[np.ndarray, "n f"]:
    records = LmdbRecords(path, f"use {_LMDB_KIND}")
    names = catalogue.item_names()
    missing = records.missing(names)
    if missing:
        hint = f"{_OTHERWISE} (the first key there is {records.first_key()[:80]!r})"
        raise _missing_error(path, catalogue, missing, "feature row", hint)
    table = np.empty((0, 0), np.float32)
    for start in range(0, len(names), _ROWS_AT_ONCE):
        some = names[start : start + _ROWS_AT_ONCE]
        values = records.read(some)
        if not start:
            table = np.empty((len(names), _width(path, some[0], values[0])), np.float32)
        _check_widths(path, names[0], some, values, table.shape[1])
        rows = np.frombuffer(b"".join(values), "<f4").reshape(len(some), -1)
        table[start : start + len(some)] = rows
        if progress is not None:
            progress(start + len(some), len(names))
    _check_finite(path, names, table)
    return table


def _width(path: Path, name: str, value: bytes) -> int:
    """Numbers in the first row, which all others must have."""
    # Other programs store arrays pickled, or as npy files: both would pass as floats.
    if b"numpy" in value[:128].lower():
        raise InputError(
            f"{path}: the value of item {name!r} is a pickled or saved numpy array; "
            f"expected {_LMDB_KIND}; write each as array.astype('<f4').tobytes()"
        )
    return len(value) // 4


def _check_widths(
    path: Path, first: str, names: Sequence[str], values: Sequence[bytes], width: int
) -> None:
    for name, value in zip(names, values, strict=True):
        if len(value) == 4 * width and width:
            continue
        if len(value) % 4 or not value:
            raise InputError(
                f"{path}: the value of item {name!r} has {len(value):,} bytes; expected "
                "the raw bytes of one float32 row, a multiple of 4; write it again"
            )
        raise InputError(
            f"{path}: the row of item {name!r} has {len(value) // 4:,} numbers, that of "
            f"{first!r} has {width:,}; expected rows of one width; write them again "
            "with one network"
        )


def _missing_error(
    path: Path,
    catalogue: Catalogue,
    missing: Sequence[str],
    kind: str,
    otherwise: str,
) -> ValueError:
    """The error for items without a vector; see `_read_npz`."""
    return InputError(
        f"{path}: {len(missing):,} of {catalogue.num_items:,} items have no {kind}: "
        f"{', '.join(map(repr, missing[:5]))}{', …' if len(missing) > 5 else ''}; "
        f"expected one for each name in {catalogue.root}/tuples_{catalogue.variant}/"
        f"image_list_*; get those that belong to these items, or {otherwise}"
    )


def _check_finite(
    path: Path, names: Sequence[str], vectors: Float32[np.ndarray, "n f"]
) -> None:
    """Raises ValueError if a vector of the file has a NaN or an infinity."""
    rows_at_once = 4096
    for start in range(0, len(vectors), rows_at_once):
        finite = np.isfinite(vectors[start : start + rows_at_once]).all(axis=1)
        if not finite.all():
            name = names[start + int(np.argmin(finite))]
            raise InputError(
                f"{path}: the vector of item {name!r} has a NaN or an infinity; "
                "expected finite float32 values; mend or drop it and write the file "
                "again"
            )
