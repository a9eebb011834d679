"""All images of a data set, decoded once into a memory-mapped file.

The file is a plain .npy array, uint8 [items, H, W, 3], and behind it the checksum of
what it was made from: names, size, and the encoded images' own sizes and times.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from fhn_jax.data.images import ImageStore, LmdbImages, load_table
from fhn_jax.data.records import Progress
from fhn_jax.files import atomic_path

_VERSION = 1
_DIGEST_BYTES = 64


def host_table(
    path: str | os.PathLike,
    store: ImageStore,
    names: Sequence[str],
    size: int,
    *,
    progress: Progress | None = None,
    notice: Callable[[str], None] = lambda text: None,
) -> UInt8[np.ndarray, "n h w 3"]:
    """The decoded images, from the file if it is of these images, else built anew.

    Args:
      path: the file; appears whole or not at all.
      store: where the encoded images are.
      names: of the images.
      size: height and width in pixels.
      progress: called with the number of images done, and of all, when it is built.
      notice: told when a file of other images is replaced.
    Returns:
      a read-only array mapped into memory: it takes no more of it than is free.
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
    fault = _fault(path, digest, (len(names), size, size, 3))
    if fault:
        if path.exists():
            notice(f"{path} {fault}; it is built anew")
        with atomic_path(path) as temporary:
            table = np.lib.format.open_memmap(
                temporary, "w+", np.uint8, (len(names), size, size, 3)
            )
            load_table(store, names, size, table=table, progress=progress)
            table.flush()
            del table
            with open(temporary, "ab") as file:
                file.write(digest.encode())
    return np.load(path, mmap_mode="r", allow_pickle=False)


def table_digest(store: ImageStore, names: Sequence[str], size: int) -> str:
    """Checksum of all that decides the pixels of a table, but for the bytes themselves.

    Where the data lies does not matter, so that a folder may be moved.
    """
    files = (
        [store.path / "data.mdb"]
        if isinstance(store, LmdbImages)
        else [store.path / name for name in names]
    )
    digest = hashlib.sha256(json.dumps([_VERSION, size, list(names)]).encode())
    for file in files:
        status = file.stat()
        digest.update(b"%d %d\n" % (status.st_size, status.st_mtime_ns))
    return digest.hexdigest()


def _fault(path: Path, digest: str, shape: tuple[int, ...]) -> str | None:
    """Why a file is not the table that is wanted; None: it is."""
    if not path.exists():
        return "is not there"
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return "is cut off or no table of images"
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _DIGEST_BYTES))
        found = file.read()
    expected_bytes = getattr(table, "offset", 0) + table.nbytes + _DIGEST_BYTES
    if path.stat().st_size != expected_bytes:
        return "is cut off or no table of images"
    if found != digest.encode() or (table.shape, table.dtype) != (shape, np.uint8):
        return "is of other images (its checksum differs)"
    return None
