"""Vectors of items that were computed beforehand: of their text, or of their images.

Vectors of any kind have a name, and are looked for under a data root in this order:
`vectors/NAME.npz` (see `vector_files`), `features/NAME/` (an LMDB: key = image file
name, value = the raw bytes of one float32 row), `features/NAME.npz` and
`sentence_vector/NAME.npz`. Nothing is ever unpickled.
"""

import collections
import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from fhn_jax.data.catalogue import Catalogue, name_fault
from fhn_jax.data.records import LmdbRecords, Progress
from fhn_jax.data.vector_files import FOLDER, load_vectors
from fhn_jax.errors import InputError, MissingFileError

# Folders of a data root that may hold vectors.
PLACES = (FOLDER, "features", "sentence_vector")
_LMDB_KIND = "an LMDB of one float32 row (raw bytes) by image file name"
_OTHERWISE = "train on images with another model.backbone.name"
_ROWS_AT_ONCE = 4096
TEXT = "semantic"  # the name of Polyvore-U's text vectors


class MissingVectorsError(InputError):
    """Items without a vector.

    Attributes:
      names: image file names of all of them.
    """

    def __init__(self, text: str, names: Sequence[str]):
        super().__init__(text)
        self.names = names


def read_text_vectors(
    root: str | os.PathLike, catalogue: Catalogue, name: str = TEXT
) -> Float32[np.ndarray, "n t"]:
    """The text vector of every item, rows by global item id; any width t.

    Args:
      root: the data root.
      catalogue: whose items are wanted; vectors of other names are left out.
      name: of the vectors; see above for where they lie.
    Raises:
      FileNotFoundError: there are no vectors of this name.
      ValueError: the file is damaged, holds pickled objects or other shapes, is not the
        one that its JSON file describes, has no vector for some item, or a vector with a
        NaN or an infinity.
    """
    path = _find(root, name, "data.text")
    old = Path(root) / "sentence_vector" / f"{name}.npz"
    convert = f"`python -m data_tools.convert_semantic {old.with_suffix('.pkl')}`"
    if path is None and old.with_suffix(".pkl").is_file():
        raise MissingFileError(
            f"{old} is missing, only the pickle {name}.pkl is there; unpickling runs "
            f"code, so training never does it: run {convert} once"
        )
    if path is None and name == TEXT:
        raise MissingFileError(
            f"{old} is missing; expected arrays `names` (m,) of image file names and "
            "`vectors` (m, t) of float32; add it, make vectors of titles with `fhn-jax "
            "embed-text` and name them with data.text, or train on images alone"
        )
    if path is None:
        raise _none_error(root, name, "text vectors", "data.text")
    otherwise, kind = "train on images alone", "text vector"
    if path.suffix != ".npz":
        return _read_lmdb(path, catalogue, kind, otherwise)
    writer = convert if path == old else None
    return _read_npz(path, catalogue, kind=kind, writer=writer, otherwise=otherwise)


def read_features(
    root: str | os.PathLike,
    name: str,
    catalogue: Catalogue,
    *,
    progress: Progress | None = None,
) -> Float32[np.ndarray, "n f"]:
    """The feature vector of every item, rows by global item id; any width f.

    Args:
      root: the data root.
      name: of the features; see above for where they lie.
      catalogue: whose items are wanted; features of other names are left out.
      progress: called with the number of rows done, and of all, of an LMDB.
    Raises:
      FileNotFoundError, ValueError: as `read_text_vectors`.
    """
    path, kind = _find(root, name, "data.features"), "feature row"
    if path is None:
        raise _none_error(root, name, "features", "data.features")
    if path.suffix != ".npz":
        return _read_lmdb(path, catalogue, kind, _OTHERWISE, progress)
    return _read_npz(path, catalogue, kind=kind, writer=None, otherwise=_OTHERWISE)


def read_item_vectors(
    root: str | os.PathLike, names: Iterable[str], catalogue: Catalogue
) -> Float32[np.ndarray, "n f"] | None:
    """Several vectors of every item side by side, each of mean length 1.

    Args:
      names: of vectors; those that are not there are left out.
    Returns:
      rows by global item id; None if none are there.
    Raises:
      ValueError: as `read_text_vectors`.
    """
    found = []
    for name in names:
        with contextlib.suppress(MissingFileError):
            vectors = read_features(root, name, catalogue)
            length = np.linalg.norm(vectors, axis=1).mean() or 1
            found.append((vectors / length).astype(np.float32))
    return np.concatenate(found, axis=1) if found else None


def _find(root: str | os.PathLike, name: str, setting: str) -> Path | None:
    """Where vectors lie; None for nowhere."""
    root = Path(root)
    fault = name_fault(name)
    if fault:
        raise InputError(
            f"{setting}={name[:80]!r} {fault}; expected the name of vectors, such as "
            f"NAME of {root / FOLDER}/NAME.npz"
        )
    places = (
        root / FOLDER / f"{name}.npz",
        root / "features" / name,
        root / "features" / f"{name}.npz",
        root / "sentence_vector" / f"{name}.npz",
    )
    return next((path for path in places if path.exists()), None)


def vectors_there(root: str | os.PathLike) -> list[str]:
    """The names of all vectors of a data root, sorted."""
    return sorted(
        {
            path.name.removesuffix(".npz")
            for folder in PLACES
            for path in (Path(root) / folder).glob("[!.]*")
            if path.suffix in ("", ".npz")
        }
    )


def _none_error(
    root: str | os.PathLike, name: str, what: str, setting: str
) -> MissingFileError:
    there = vectors_there(root)
    return MissingFileError(
        f"there are no {what} {name!r}: expected {root}/{FOLDER}/{name}.npz with arrays "
        f"`names` (m,) and `vectors` (m, f), or {root}/features/{name}/data.mdb, "
        f"{_LMDB_KIND}; there is {', '.join(there) or 'nothing'} in {root}; "
        f"make them with `fhn-jax embed-text` or `fhn-jax embed-images`, or set another "
        f"{setting}"
    )


def _read_npz(
    path: Path, catalogue: Catalogue, *, kind: str, writer: str | None, otherwise: str
) -> Float32[np.ndarray, "n f"]:
    """The vector of every item from an npz, rows by global item id.

    The file holds `names` [m] unicode and `vectors` [m, f] of floats. Vectors of names
    that are no item of the catalogue are left out.

    Args:
      path: the file; it is there.
      catalogue: whose items are wanted.
      kind: what a vector is, for errors.
      writer: what writes such a file, for errors; None: numpy.
      otherwise: how to do without, for errors.
    Raises:
      ValueError: the file is cut off, holds pickled objects or other shapes, has no
        vector for some item, or a vector with a NaN or an infinity.
    """
    names, vectors = load_vectors(path, writer)
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


def _read_lmdb(
    path: Path,
    catalogue: Catalogue,
    kind: str,
    otherwise: str,
    progress: Progress | None = None,
) -> Float32[np.ndarray, "n f"]:
    records = LmdbRecords(path, f"use {_LMDB_KIND}")
    records.check_file()
    names = catalogue.item_names()
    missing = records.missing(names)
    if missing:
        hint = f"{otherwise} (the first key there is {records.first_key()[:80]!r})"
        raise _missing_error(path, catalogue, missing, kind, hint)
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
) -> MissingVectorsError:
    """The error for items without a vector; see `_read_npz`."""
    return MissingVectorsError(
        f"{path}: {len(missing):,} of {catalogue.num_items:,} items have no {kind}: "
        f"{', '.join(map(repr, missing[:5]))}{', …' if len(missing) > 5 else ''}; "
        f"expected one for each name in {catalogue.root}/tuples_{catalogue.variant}/"
        f"image_list_*; get those that belong to these items, or {otherwise}",
        missing,
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
