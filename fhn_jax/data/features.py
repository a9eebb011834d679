"""Features of images that a frozen network computed beforehand: no image is needed.

Under a data root, features NAME are `features/NAME/` (an LMDB: key = image file name,
value = the raw bytes of one float32 row) or, where that is not, `features/NAME.npz`
(`names` [m] unicode, `vectors` [m, f] of floats; nothing is ever unpickled).
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from fhn_jax.data.images import Progress
from fhn_jax.data.layout import (
    Catalogue,
    check_finite,
    missing_vectors,
    name_fault,
    read_vectors,
)
from fhn_jax.data.records import LmdbRecords
from fhn_jax.errors import InputError, MissingFileError

_LMDB_KIND = "an LMDB of one float32 row (raw bytes) by image file name"
_WRITER = "`numpy.savez(path, names=…, vectors=…)`"
_OTHERWISE = "train on images with another model.backbone.name"
_ROWS_AT_ONCE = 4096


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
    return read_vectors(
        npz, catalogue, kind="feature row", writer=_WRITER, otherwise=_OTHERWISE
    )


def _read_lmdb(
    path: Path, catalogue: Catalogue, progress: Progress | None
) -> Float32[np.ndarray, "n f"]:
    records = LmdbRecords(path, f"use {_LMDB_KIND}")
    names = catalogue.item_names()
    missing = records.missing(names)
    if missing:
        hint = f"{_OTHERWISE} (the first key there is {records.first_key()[:80]!r})"
        raise missing_vectors(path, catalogue, missing, "feature row", hint)
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
    check_finite(path, names, table)
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
