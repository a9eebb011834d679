"""All images of a data set, decoded once into a memory-mapped file.

The file is a plain .npy array, uint8 [items, H, W, 3], or of 4 channels with the garments'
masks. Behind it are a CRC-32 of each image, uint32 [items], and a checksum of those and of
what the file was made from: names, size, and the encoded images' own sizes and times.
"""

import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8, UInt32

from fhn_jax import files
from fhn_jax.data.images import ImageStore, LmdbImages, channels, load_table
from fhn_jax.data.records import Progress
from fhn_jax.errors import InputError

# Another one where photos are read, or garments found in them, in another way.
_VERSION = 2
_SEAL_BYTES = 64
_REMEDY = "remove the file, it is built anew"


class PixelTable:
    """Decoded images in a memory-mapped file: it takes no more memory than is free.

    An image is compared with its checksum when it is first read.

    Attributes:
      rows: uint8 [n, h, w, c], mapped; not checked.
    """

    def __init__(
        self, path: Path, rows: np.memmap, checksums: UInt32[np.ndarray, " n"]
    ):
        """Use `host_table`."""
        self.rows = rows
        self._path, self._checksums = path, checksums
        self._checked = np.zeros(len(rows), bool)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, ids: Int[np.ndarray, " m"]) -> UInt8[np.ndarray, "m h w c"]:
        """Some images, by their number.

        Raises:
          InputError: one of them is damaged.
        """
        found = np.asarray(self.rows[ids])
        for row in np.flatnonzero(~self._checked[ids]):
            number = ids[row]
            if zlib.crc32(found[row]) != self._checksums[number]:
                raise InputError(
                    f"{self._path} is damaged: the checksum of image {number} is wrong; "
                    f"{_REMEDY}"
                )
            self._checked[number] = True
        return found


def host_table(
    path: str | os.PathLike,
    store: ImageStore,
    names: Sequence[str],
    size: int,
    *,
    masked: bool = False,
    progress: Progress | None = None,
    notice: Callable[[str], None] = lambda text: None,
) -> PixelTable:
    """The decoded images, from the file if it is of these images, else built anew.

    Args:
      path: the file; appears whole or not at all.
      store: where the encoded images are.
      names: of the images.
      size: height and width in pixels.
      masked: see `load_table`.
      progress: called with the number of images done, and of all, when it is built.
      notice: told when a file of other images is replaced, and what reading changed.
    Raises:
      KeyError: an image is missing.
      ValueError: an image cannot be used.
      OSError: there is no room, or no right, to write the file.
    """
    path = Path(path)
    missing = store.missing(names)
    if missing:
        store.read(missing[:1])  # Raises the store's own error.
    digest = table_digest(store, names, size)
    shape = (len(names), size, size, channels(masked))
    found = _open(path, digest, shape)
    if isinstance(found, str):
        if path.exists():
            notice(f"{path} {found}; it is built anew")
        with files.lock(path, "decoding images"), files.atomic_path(path) as temporary:
            with open(temporary, "wb") as file:
                np.lib.format.write_array_header_1_0(file, _header(shape))
                start = file.tell()
            # First, because writing to a mapped hole of a full disk kills the process.
            files.reserve(temporary, start + math.prod(shape))
            table = files.map_array(temporary, "r+", "")
            load_table(
                *(store, names, size),
                masked=masked,
                table=table,
                progress=progress,
                notice=notice,
            )
            table.flush()
            checksums = np.array([zlib.crc32(row) for row in table], "<u4").tobytes()
            del table
            with open(temporary, "ab") as file:
                file.write(checksums + _seal(digest, checksums))
        found = _open(path, digest, shape)
    if isinstance(found, str):
        raise InputError(f"{path} {found} as soon as it is written; is the disk sound?")
    return found


def _header(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"descr": "|u1", "fortran_order": False, "shape": shape}


def _seal(digest: str, checksums: bytes) -> bytes:
    """The last bytes of a file."""
    return hashlib.sha256(digest.encode() + checksums).hexdigest().encode()


def table_digest(store: ImageStore, names: Sequence[str], size: int) -> str:
    """Checksum of all that decides the pixels of a table, but for the bytes themselves.

    Where the data lies does not matter, so that a folder may be moved.
    """
    sources = (
        [store.path / "data.mdb"]
        if isinstance(store, LmdbImages)
        else [store.path / name for name in names]
    )
    digest = hashlib.sha256(json.dumps([_VERSION, size, list(names)]).encode())
    for source in sources:
        status = source.stat()
        digest.update(b"%d %d\n" % (status.st_size, status.st_mtime_ns))
    return digest.hexdigest()


def verify(path: Path) -> int:
    """Compares all images of a file with their checksums; returns how many there are.

    Whether they are still the images of the data is not looked at.

    Raises:
      InputError: one is damaged, or the file is no table of images.
    """
    rows = files.map_array(path, "r", _REMEDY)
    table = _table(path, rows)
    if table is None or rows.ndim != 4 or rows.dtype != np.uint8:
        raise InputError(f"{path} is cut off or no table of images; {_REMEDY}")
    for number in range(len(rows)):
        table[0].read(np.array([number]))
    return len(rows)


def _table(path: Path, rows: np.memmap) -> tuple[PixelTable, bytes, bytes] | None:
    """Mapped rows with the checksums behind them, which are returned with the seal."""
    with open(path, "rb") as file:
        file.seek(rows.offset + rows.nbytes)
        rest = file.read()
    checksums, seal = rest[: 4 * len(rows)], rest[4 * len(rows) :]
    if len(seal) != _SEAL_BYTES:
        return None
    of_rows = np.frombuffer(checksums, "<u4").astype(np.uint32)
    return PixelTable(path, rows, of_rows), checksums, seal


def _open(path: Path, digest: str, shape: tuple[int, ...]) -> PixelTable | str:
    """The table in a file, or why it is not the one that is wanted."""
    if not path.exists():
        return "is not there"
    try:
        rows = files.map_array(path, "r", "")
    except (InputError, OSError):
        return "is cut off or no table of images"
    if (rows.shape, rows.dtype) != (shape, np.uint8):
        return "is of other images (its shape differs)"
    found = _table(path, rows)
    if found is None:
        return "is cut off or no table of images"
    table, checksums, seal = found
    if seal != _seal(digest, checksums):
        return "is of other images (its checksum differs)"
    return table
