"""Item images by name, from an LMDB or a folder, and the reading of all of them.

No name or link leads out of the folder.
"""

import functools
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fhn_jax.data.catalogue import name_fault
from fhn_jax.data.pictures import Changes, decode, image_fault
from fhn_jax.data.records import LmdbRecords, Progress
from fhn_jax.errors import (
    InputError,
    MissingFileError,
    MissingKeyError,
    MissingPackageError,
)

# No image can have this key: a name has no control character. Its value is the number
# of images that were decoded when the LMDB was built, in decimal.
VERIFIED_KEY = b"\0fhn_jax.verified"

# The folder beside those of the photos that `cut-out` writes.
CUTOUTS = "cutouts"
Notice = Callable[[str], None]
_IMAGES_AT_ONCE = 256
_BUILD = "`python -m data_tools.build_lmdb IMAGES_FOLDER LMDB_FOLDER`"


def next_version(name: str, taken: Collection[str]) -> str:
    """A name for another photo of the same item; "a~2" after "a"."""
    stem, _, count = name.rpartition("~")
    number = int(count) + 1 if stem and count.isdecimal() else 2
    stem = stem if number > 2 else name
    while f"{stem}~{number}" in taken:
        number += 1
    return f"{stem}~{number}"


def is_version(name: str, of: str) -> bool:
    """Whether a name is of a later photo of the item that was called `of`.

    >>> is_version("a~3", "a"), is_version("a~3", "a~2"), is_version("a", "a~2")
    (True, True, False)
    """
    stem, _, count = name.rpartition("~")
    if not stem or not count.isdecimal():
        return False
    earlier, _, number = of.rpartition("~")
    if of == stem:
        return True
    return earlier == stem and number.isdecimal() and int(number) < int(count)


@runtime_checkable
class ImageStore(Protocol):
    """Where encoded images are read from, by file name."""

    path: Path

    @property
    def verified(self) -> bool:
        """Whether every image is known to decode, so that nobody need check again."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def read(self, names: Sequence[str]) -> list[bytes]:
        """The encoded images of `names`, in their order; a name may occur twice.

        Raises:
          KeyError: an image is not there.
          ValueError: a name leads out of the store.
        """
        ...

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not there, in their order."""
        ...


class LmdbImages(LmdbRecords):
    """Images in an LMDB: the key is the file name, the value the encoded bytes.

    Args:
      path: the folder with data.mdb.
    Raises:
      FileNotFoundError: there is no data.mdb.
      ValueError: it is no LMDB, or is cut off.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__(path, f"make it with {_BUILD}")
        mark = self.get(VERIFIED_KEY)
        self._images = super().__len__() - (mark is not None)
        # Images that were added after the build were not verified by it.
        self._verified = mark == b"%d" % self._images

    @property
    def verified(self) -> bool:
        """Whether `data_tools.build_lmdb` decoded every image in it."""
        return self._verified

    def __len__(self) -> int:
        return self._images

    def read(self, names: Sequence[str]) -> list[bytes]:
        """The encoded images, by one call into the LMDB for all of them.

        Raises:
          KeyError: an image is not there.
        """
        try:
            return super().read(names)
        except KeyError:
            raise _missing_error(self, self.missing(names)) from None


class FolderImages:
    """Images as files of a folder, or of the one that a link leads to when it is opened.

    Args:
      path: the folder.
    Raises:
      FileNotFoundError: there is no such folder.
    """

    verified = False

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        # The link may be removed, as a published version is that is still served.
        self._real_path = self.path.resolve()
        self._require()

    def __len__(self) -> int:
        return len(self._names())

    def read(self, names: Sequence[str]) -> list[bytes]:
        """The bytes of the files.

        Raises:
          KeyError: an image is not there.
          ValueError: a name is no plain file name, or a link that leads out of the
            folder.
        """
        return [self._read(name) for name in names]

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not there, in their order."""
        there = self._names()
        return [name for name in names if name not in there]

    def find(self, name: str) -> bytes | None:
        """The bytes of a file, None where there is none; raises as `read`."""
        try:
            return self._bytes(name)
        except FileNotFoundError:
            return None

    def _require(self) -> None:
        if not self._real_path.is_dir():
            raise MissingFileError(f"the image folder {self.path} does not exist")

    def _names(self) -> set[str]:
        self._require()
        with os.scandir(self._real_path) as entries:
            return {e.name for e in entries if e.is_file()}

    def _read(self, name: str) -> bytes:
        try:
            return self._bytes(name)
        except FileNotFoundError:
            raise _missing_error(self, [name]) from None

    def _bytes(self, name: str) -> bytes:
        fault = name_fault(name)
        if fault:
            raise InputError(
                f"the image name {name[:80]!r} {fault}; expected the name of a file in "
                f"{self.path}"
            )
        path = self._real_path / name
        if not stat.S_ISREG(path.lstat().st_mode):
            self._check_link(path)
        return path.read_bytes()

    def _check_link(self, path: Path) -> None:
        target = path.resolve()
        if not target.is_relative_to(self._real_path):
            raise InputError(
                f"{path} is a link to {target}, outside of the image folder; links "
                "that leave it are not followed; copy the file there instead"
            )
        if not target.is_file() and target.exists():
            raise InputError(f"{path} is no regular file; expected an image")


def open_images(root: str | os.PathLike) -> LmdbImages | FolderImages:
    """The images of a data root: its LMDB, or the folder if there is no LMDB.

    Args:
      root: the data root; reads `images/lmdb`, or else `images/291x291`, or else the
        only folder in `images`.
    Raises:
      FileNotFoundError: neither is there.
      ValueError: several folders could be meant, or the LMDB is damaged.
    """
    images = Path(root) / "images"
    if (images / "lmdb").exists():
        return LmdbImages(images / "lmdb")
    if (images / "291x291").is_dir():
        return FolderImages(images / "291x291")
    folders = []
    if images.is_dir():
        folders = sorted(
            path
            for path in images.iterdir()
            if path.is_dir()
            and not path.name.startswith((".", "lmdb"))
            and path.name != CUTOUTS
        )
    if not folders:
        partial = images / "lmdb.partial"
        hint = (
            f"{partial} is an unfinished build: run {_BUILD} again to finish it"
            if partial.exists()
            else "add the images, or train on text alone"
        )
        raise MissingFileError(
            f"there are no images in {images}; expected the folder {images}/291x291 "
            f"with a file for each item, or {images}/lmdb; {hint}"
        )
    if len(folders) > 1:
        raise InputError(
            f"{images} has several folders, {[path.name for path in folders]}; "
            f"expected one, or one named 291x291, or an LMDB {images}/lmdb made from "
            f"the right one with {_BUILD}"
        )
    return FolderImages(folders[0])


class CutOuts:
    """Images for people: the garment alone where it was cut out, else the photo.

    Attributes:
      version: of the cut-outs.
    Args:
      folder: of the cut-outs, by the names of the photos.
      photos: all images.
    """

    def __init__(self, folder: Path, photos: ImageStore):
        self.path, self.verified = photos.path, photos.verified
        self._cut_out, self._photos = FolderImages(folder), photos
        # Others after each addition.
        self.version = f"{folder.stat().st_mtime_ns:x}"

    def __len__(self) -> int:
        return len(self._photos)

    def read(self, names: Sequence[str]) -> list[bytes]:
        """As of the photos."""
        return [self._read(name) for name in names]

    def missing(self, names: Sequence[str]) -> list[str]:
        """As of the photos."""
        return self._photos.missing(names)

    def _read(self, name: str) -> bytes:
        made = self._cut_out.find(name)
        return self._photos.read([name])[0] if made is None else made


def shown_images(root: str | os.PathLike) -> ImageStore | None:
    """The images of a data root as people see them; None without any.

    Raises:
      FileNotFoundError, ValueError: see `open_images`.
    """
    images = Path(root) / "images"
    if not images.is_dir():
        return None
    photos, folder = open_images(root), images / CUTOUTS
    return CutOuts(folder, photos) if folder.is_dir() else photos


def thumbnail(store: ImageStore, name: str, size: int) -> Image.Image:
    """A picture of an item, scaled down to fit a square of `size` pixels.

    Raises:
      KeyError: the image is not there.
      ValueError: it cannot be used, see `decode`.
    """
    picture = Image.fromarray(decode(store.read([name])[0], name))
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    return picture


def verify_images(
    store: ImageStore,
    names: Sequence[str],
    *,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> None:
    """Makes sure that every image is there and decodes.

    In a store that was verified when it was built, the images are only looked up.

    Args:
      store: to read from.
      names: of the images.
      progress: called with the number of images done, and of all.
      notice: told what reading changes about the images, see `Changes`.
    Raises:
      KeyError: images are missing.
      ValueError: images cannot be used; names up to 20 of them.
    """
    missing = store.missing(names)
    if missing:
        raise _missing_error(store, missing)
    if store.verified:
        return
    changes = Changes()
    check = functools.partial(image_fault, changes=changes)
    faults = [f for f in each_image(store, names, check, progress) if f]
    tell_changes(changes, store.path, notice)
    if faults:
        raise InputError(
            "\n".join(
                [
                    f"{len(faults):,} of {len(names):,} images in {store.path} are of "
                    "no use:",
                    *faults[:20],
                    *(["…"] if len(faults) > 20 else []),
                ]
            )
        )


def channels(masked: bool) -> int:
    """Of what `photo_reader` reads."""
    return 4 if masked else 3


def photo_reader(masked: bool) -> Callable[..., UInt8[np.ndarray, "_h _w _c"]]:
    """`decode`, or `decode_masked`, which adds where the garment is as a fourth channel.

    Raises:
      ModuleNotFoundError: masks need OpenCV, which is not installed.
    """
    if not masked:
        return decode
    try:
        from fhn_jax.data.masks import decode_masked
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"masks of garments need the package {error.name}: "
            'pip install "fhn_jax[garment]"'
        ) from None
    return decode_masked


def load_table(
    store: ImageStore,
    names: Sequence[str],
    size: int | None,
    *,
    masked: bool = False,
    table: UInt8[np.ndarray, "n h w c"] | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> UInt8[np.ndarray, "n h w c"]:
    """Decodes all images into one array.

    Args:
      store: to read from.
      names: of the images.
      size: height and width in pixels, see `decode`. None: as they are, all equal.
      masked: with a fourth channel, see `photo_reader`.
      table: to decode into; a new one if None.
      progress: called with the number of images done, and of all.
      notice: told what reading changed about the images, see `Changes`.
    Raises:
      KeyError: an image is missing.
      ValueError: an image cannot be used; without `size`, one has another size.
    """
    if not names:
        raise InputError("no image names: expected at least one")

    changes, read = Changes(), photo_reader(masked)

    def sized(data: bytes, name: str) -> np.ndarray:
        return read(data, name, size, changes=changes)

    for row, image in enumerate(each_image(store, names, sized, progress)):
        if table is None:  # Only now is the size known.
            table = np.empty((len(names), *image.shape), np.uint8)
        if image.shape != table.shape[1:]:
            height, width = image.shape[:2]
            raise InputError(
                f"image {names[row]!r} in {store.path} is {width}x{height}; expected "
                f"{table.shape[2]}x{table.shape[1]}, the size of {names[0]!r}; give a "
                "size that all are resized to"
            )
        table[row] = image
    tell_changes(changes, store.path, notice)
    assert table is not None
    return table


def tell_changes(changes: Changes, path: Path, notice: Notice | None) -> None:
    """Tells what reading the images in `path` changed, if anything."""
    if changes and notice is not None:
        notice(f"images in {path} are not read as they are stored: {changes}")


def _missing_error(store: ImageStore, missing: Sequence[str]) -> KeyError:
    others = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
    remedy = (
        "rebuild it with data_tools/build_lmdb.py"
        if isinstance(store, LmdbImages)
        else "add the file, or remove the item from the data"
    )
    return MissingKeyError(
        f"image {missing[0]!r}{others} missing in {store.path} ({len(store):,} "
        f"images); expected one for each item; {remedy}"
    )


def each_image(
    store: ImageStore,
    names: Sequence[str],
    function: Callable[[bytes, str], Any],
    progress: Progress | None,
    unreadable: Callable[[InputError], Any] | None = None,
) -> Iterator[Any]:
    """`function` of the bytes and name of each image, in order, by a few threads.

    Args:
      store: to read from.
      names: of the images.
      function: called by several threads.
      progress: called with the number of images done, and of all.
      unreadable: what there is instead for an image that the store cannot give.
    Raises:
      KeyError: an image is missing.
      ValueError: the store cannot give an image, without `unreadable`.
    """

    def read_one(name: str) -> Any:
        try:
            (data,) = store.read([name])
        except InputError as error:
            assert unreadable is not None
            return unreadable(error)
        return function(data, name)

    # Pillow decodes without Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(names), _IMAGES_AT_ONCE):
            some = names[start : start + _IMAGES_AT_ONCE]
            try:
                found = pool.map(function, store.read(some), some)
            except InputError:
                if unreadable is None:
                    raise
                found = pool.map(read_one, some)
            yield from found
            if progress is not None:
                progress(start + len(some), len(names))
