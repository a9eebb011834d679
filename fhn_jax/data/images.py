"""Item images by name, from an LMDB or a folder, and their checked decoding.

Images are hostile until checked: only JPEG, PNG and WebP are decoded, at most 25
megapixels, and no name or link leads out of the folder.
"""

import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, ImageOps

from fhn_jax.data.catalogue import name_fault
from fhn_jax.data.records import LmdbRecords, Progress
from fhn_jax.errors import InputError, MissingFileError, MissingKeyError

MAX_PIXELS = 25_000_000
# Each scan of a progressive JPEG is decoded over all of its pixels, so a small file of
# many scans costs seconds. The usual ten scans of the largest image are below this.
MAX_SCANNED_PIXELS = 12 * MAX_PIXELS
# No image can have this key: a name has no control character. Its value is the number
# of images that were decoded when the LMDB was built, in decimal.
VERIFIED_KEY = b"\0fhn_jax.verified"

_FORMATS = ("JPEG", "PNG", "WEBP")
_IMAGES_AT_ONCE = 256
_BUILD = "`python -m data_tools.build_lmdb IMAGES_FOLDER LMDB_FOLDER`"


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
    """Images as files of a folder.

    Args:
      path: the folder.
    Raises:
      FileNotFoundError: there is no such folder.
    """

    verified = False

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.is_dir():
            raise MissingFileError(f"the image folder {self.path} does not exist")
        self._real_path = self.path.resolve()

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

    def _names(self) -> set[str]:
        with os.scandir(self.path) as entries:
            return {e.name for e in entries if e.is_file()}

    def _read(self, name: str) -> bytes:
        fault = name_fault(name)
        if fault:
            raise InputError(
                f"the image name {name[:80]!r} {fault}; expected the name of a file in "
                f"{self.path}"
            )
        path = self.path / name
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                self._check_link(path)
            return path.read_bytes()
        except FileNotFoundError:
            raise _missing_error(self, [name]) from None

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
            if path.is_dir() and not path.name.startswith((".", "lmdb"))
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


def decode(
    data: bytes,
    name: str,
    size: int | None = None,
    into: UInt8[np.ndarray, "h w 3"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image after checking that it is one that the models can take.

    Args:
      data: an encoded JPEG, PNG or WebP.
      name: of the image, for errors.
      size: height and width to resize to if it has another one, in pixels, with an
        antialiasing triangle filter. None: as it is.
      into: an array of this size, contiguous, to write the pixels to.
    Raises:
      ValueError: it cannot be decoded completely, is not RGB, moves, or has more
        than 25 megapixels.
    """
    try:
        pixels = _jpeg_pixels(data, into)
        if pixels is None:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                _check_header(image, name, data)
                pixels = np.array(image)
        if size is not None and pixels.shape[:2] != (size, size):
            image = Image.fromarray(pixels)
            image = image.resize((size, size), Image.Resampling.BILINEAR)
            pixels = np.array(image)
        if into is not None and pixels is not into:
            into[:] = pixels
        return pixels
    except _UnsuitableImage:
        raise
    except Exception as error:  # Decoders of hostile bytes raise nearly anything.
        raise _UnsuitableImage(
            f"{_undecodable(data, name, error)}; download it again, or remove the item "
            "from the data"
        ) from error


def _jpeg_pixels(
    data: bytes, into: UInt8[np.ndarray, "_h _w 3"] | None
) -> UInt8[np.ndarray, "h w 3"] | None:
    """The pixels of a plain JPEG, which are Pillow's, in less than half the time.

    None for anything else, of which Pillow then says what it is.
    """
    if not data.startswith(b"\xff\xd8"):
        return None
    try:
        tall, wide, colours, _ = simplejpeg.decode_jpeg_header(data)
        height, width = int(tall), int(wide)
        pixels = height * width
        if colours not in ("YCbCr", "RGB") or pixels > MAX_PIXELS:
            return None
        if _scans(data) * pixels > MAX_SCANNED_PIXELS:
            return None
        exact = {"fastdct": False, "fastupsample": False}
        if into is not None and into.shape == (height, width, 3):
            simplejpeg.decode_jpeg(data, "RGB", buffer=into, **exact)
            return into
        return simplejpeg.decode_jpeg(data, "RGB", **exact)
    except ValueError:
        return None


def garment_photo(data: bytes, size: int) -> Image.Image:
    """Somebody's photo as those of the data sets: RGB, square, the rest white.

    Unlike `decode` it takes any colours, and turns a photo as its camera says.

    Args:
      data: an encoded JPEG, PNG or WebP.
      size: height and width, in pixels.
    Raises:
      ValueError: it cannot be decoded completely, moves, or has more than 25 megapixels.
    """
    name = "photo"
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_still(image, name, data)
            # What lies behind transparent pixels is nobody's business.
            image = ImageOps.exif_transpose(image).convert("RGBA")
            image.thumbnail((size, size), Image.Resampling.LANCZOS)
            square = Image.new("RGB", (size, size), "white")
            place = ((size - image.width) // 2, (size - image.height) // 2)
            square.paste(image, place, image)
            return square
    except _UnsuitableImage:
        raise
    except Exception as error:  # Decoders of hostile bytes raise nearly anything.
        raise _UnsuitableImage(_undecodable(data, name, error)) from error


def thumbnail(store: ImageStore, name: str, size: int) -> Image.Image:
    """A picture of an item, scaled down to fit a square of `size` pixels.

    Raises:
      KeyError: the image is not there.
      ValueError: it cannot be used, see `decode`.
    """
    picture = Image.fromarray(decode(store.read([name])[0], name))
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    return picture


def image_fault(data: bytes, name: str) -> str | None:
    """Why an encoded image is of no use, or None: it decodes. See `decode`."""
    try:
        decode(data, name)
    except _UnsuitableImage as error:
        return str(error)
    return None


def verify_images(
    store: ImageStore, names: Sequence[str], *, progress: Progress | None = None
) -> None:
    """Makes sure that every image is there and decodes.

    In a store that was verified when it was built, the images are only looked up.

    Args:
      store: to read from.
      names: of the images.
      progress: called with the number of images done, and of all.
    Raises:
      KeyError: images are missing.
      ValueError: images cannot be used; names up to 20 of them.
    """
    missing = store.missing(names)
    if missing:
        raise _missing_error(store, missing)
    if store.verified:
        return
    faults = [f for f in _decoded(store, names, image_fault, progress) if f]
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


def load_table(
    store: ImageStore,
    names: Sequence[str],
    size: int | None,
    *,
    table: UInt8[np.ndarray, "n h w 3"] | None = None,
    progress: Progress | None = None,
) -> UInt8[np.ndarray, "n h w 3"]:
    """Decodes all images into one array.

    Args:
      store: to read from.
      names: of the images.
      size: height and width in pixels, see `decode`. None: as they are, all equal.
      table: to decode into; a new one if None.
      progress: called with the number of images done, and of all.
    Raises:
      KeyError: an image is missing.
      ValueError: an image cannot be used; without `size`, one has another size.
    """
    if not names:
        raise InputError("no image names: expected at least one")

    def sized(data: bytes, name: str) -> np.ndarray:
        return decode(data, name, size)

    for row, image in enumerate(_decoded(store, names, sized, progress)):
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
    assert table is not None
    return table


class _UnsuitableImage(InputError):
    """An image that the models cannot take; the text names it and the remedy."""


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


def _undecodable(data: bytes, name: str, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return (
            f"image {name!r} is a decompression bomb; expected at most "
            f"{MAX_PIXELS // 10**6} megapixels"
        )
    return (
        f"image {name!r} cannot be decoded ({len(data):,} bytes, {_reason(error)}); "
        "expected a complete JPEG, PNG or WebP file"
    )


def _scans(data: bytes) -> int:
    """How many scans a JPEG has, and a few more if it holds previews of itself.

    Within a scan 0xFF is followed by 0, so the marker of a start occurs nowhere else.
    """
    return data.count(b"\xff\xda")


def _check_header(image: Image.Image, name: str, data: bytes) -> None:
    """Checks what a file says of itself, before any pixel is decoded."""
    _check_still(image, name, data)
    if image.mode != "RGB":
        raise _UnsuitableImage(
            f"image {name!r} has mode {image.mode}; expected RGB; convert it, for "
            f"example with PIL: Image.open(FILE).convert('RGB').save(FILE)"
        )


def _check_still(image: Image.Image, name: str, data: bytes) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _UnsuitableImage(
            f"image {name!r} is {width}x{height}; expected at most "
            f"{MAX_PIXELS // 10**6} megapixels; make it smaller"
        )
    scans = _scans(data) if image.format in ("JPEG", "MPO") else 1
    if scans * width * height > MAX_SCANNED_PIXELS:
        raise _UnsuitableImage(
            f"image {name!r} is a {width}x{height} JPEG of {scans} scans; expected at "
            f"most {MAX_SCANNED_PIXELS // (width * height)} of that size; save it again "
            "as a baseline JPEG"
        )
    # MPO: a JPEG with a second, smaller JPEG behind it, from some cameras.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise _UnsuitableImage(
            f"image {name!r} is a moving {image.format}; expected a still image"
        )


def _reason(error: Exception) -> str:
    """The text of a decoder's error, without the address of the buffer."""
    text = str(error).split("<_io.BytesIO")[0].strip()
    return text or type(error).__name__


def _decoded(
    store: ImageStore,
    names: Sequence[str],
    function: Callable[[bytes, str], Any],
    progress: Progress | None,
) -> Iterator[Any]:
    """`function` of the bytes and name of each image, in order, by a few threads."""
    # Pillow decodes without Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(names), _IMAGES_AT_ONCE):
            some = names[start : start + _IMAGES_AT_ONCE]
            yield from pool.map(function, store.read(some), some)
            if progress is not None:
                progress(start + len(some), len(names))
