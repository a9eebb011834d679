"""One reading of garment photos, for the catalogue and for visitors alike.

A photo becomes what it shows: RGB of 8 bits a colour, turned as its camera noted, what is
transparent on white, and where a size is wanted, square with white at the sides.

Photos are hostile until checked: only JPEG, PNG and WebP are decoded, at most 25
megapixels.
"""

import io
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from fhn_jax.errors import InputError

MAX_PIXELS = 25_000_000
# Each scan of a progressive JPEG is decoded over all of its pixels, so a small file of
# many scans costs seconds. The usual ten scans of the largest image are below this.
MAX_SCANNED_PIXELS = 12 * MAX_PIXELS

_FORMATS = ("JPEG", "PNG", "WEBP")
_WHITE = _OPAQUE = 255
# Of JPEGs that are encoded once more: nothing that a network sees is lost.
_QUALITY = 95
_NAMED = 3
# What undoes the orientation that a camera noted; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# An orientation is in one of them, if there is any.
_ORIENTATION_MARKS = (b"Exif\0\0", b"tiff:Orientation")

# What reading changes, in the order in which it is told.
TURNED = "turned as the camera noted"
ON_WHITE = "transparent, put on white"
TO_RGB = "grey or of other colours, made RGB"
TO_8_BITS = "of 16 bits a colour, made 8"
PADDED = "not square, given white sides"
NO_GARMENT = "without a garment that stands out, seen whole"
_CHANGES = (TURNED, ON_WHITE, TO_RGB, TO_8_BITS, PADDED, NO_GARMENT)


class GarmentPhoto(NamedTuple):
    """A photo as all else sees it.

    Attributes:
      pixels: levels 0 to 255.
      changes: how it differs from what is stored, such as `TURNED`; `PADDED` says that
        `fitted` will add white.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    changes: tuple[str, ...]


class Changes:
    """How many photos were changed when they were read, and the names of a few.

    Threads may share one.

    >>> changes = Changes()
    >>> changes.note("a.jpg", (TURNED,))
    >>> print(changes)
    1 turned as the camera noted ('a.jpg')
    """

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def note(self, name: str, changes: Iterable[str]) -> None:
        """Counts the changes of a photo."""
        for change in changes:
            self._names.setdefault(change, []).append(name)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._names)

    def __str__(self) -> str:
        parts = []
        for change in (each for each in _CHANGES if each in self._names):
            names = self._names[change]
            shown = ", ".join(map(repr, sorted(names)[:_NAMED]))
            more = ", …" if len(names) > _NAMED else ""
            parts.append(f"{len(names):,} {change} ({shown}{more})")
        return "; ".join(parts)


class UnsuitableImage(InputError):
    """An image that the models cannot take; the text names it and the remedy."""


def garment_photo(
    data: bytes, name: str, into: UInt8[np.ndarray, "_h _w 3"] | None = None
) -> GarmentPhoto:
    """Reads a photo.

    Args:
      data: an encoded JPEG, PNG or WebP.
      name: of the photo, for errors.
      into: an array, contiguous, which the pixels of a plain JPEG of just its size are
        written to.
    Raises:
      ValueError: it cannot be decoded completely, moves, or has more than 25 megapixels.
    """
    try:
        pixels = _plain_jpeg(data, into)
        changes = []
        if pixels is None:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                _check_still(image, name, data)
                pixels, changes = _as_shown(image)
        if pixels.shape[0] != pixels.shape[1]:
            changes.append(PADDED)
        return GarmentPhoto(pixels, tuple(changes))
    except UnsuitableImage:
        raise
    except Exception as error:  # Decoders of hostile bytes raise nearly anything.
        raise UnsuitableImage(_undecodable(data, name, error)) from error


def photo_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of a photo as they are stored, from its header alone.

    Raises:
      ValueError: that is no header of a still JPEG, PNG or WebP of at most 25 megapixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_still(image, name, data)
            return image.size
    except UnsuitableImage:
        raise
    except Exception as error:  # Decoders of hostile bytes raise nearly anything.
        raise UnsuitableImage(_undecodable(data, name, error)) from error


def fitted(
    pixels: UInt8[np.ndarray, "h w 3"], size: int, shape: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "s s 3"]:
    """A photo scaled to fill a square, the rest white.

    Args:
      pixels: of the photo.
      size: height and width of the square; scaled with an antialiasing triangle filter.
      shape: height and width of the photo where `pixels` are of another scale.
    """
    height, width = shape or pixels.shape[:2]
    if pixels.shape[:2] == (size, size):
        return pixels
    longer = max(height, width)
    wide, tall = (max(1, round(side * size / longer)) for side in (width, height))
    scaled = Image.fromarray(pixels).resize((wide, tall), Image.Resampling.BILINEAR)
    if wide == tall:
        return np.array(scaled)
    square = np.full((size, size, 3), _WHITE, np.uint8)
    left, top = (size - wide) // 2, (size - tall) // 2
    square[top : top + tall, left : left + wide] = np.array(scaled)
    return square


def decode(
    data: bytes,
    name: str,
    size: int | None = None,
    into: UInt8[np.ndarray, "h w 3"] | None = None,
    changes: Changes | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of `garment_photo`, `fitted` to a size.

    Args:
      data, name: see `garment_photo`.
      size: height and width, in pixels. None: as it is.
      into: an array of this size, contiguous, to write the pixels to.
      changes: gets what was changed.
    Raises:
      ValueError: see `garment_photo`.
    """
    photo = garment_photo(data, name, into)
    if changes is not None:
        changes.note(name, photo.changes)
    pixels = photo.pixels if size is None else fitted(photo.pixels, size)
    if into is not None and pixels is not into:
        into[:] = pixels
        return into
    return pixels


def for_training(data: bytes, name: str, size: int) -> bytes:
    """An encoded photo as it is stored for training: what it shows, no larger than that.

    A photo that is read as it is stored, square and not larger than `size`, stays as it
    is. All others become JPEGs of just this size.

    Args:
      data, name: see `garment_photo`.
      size: height and width, in pixels.
    Raises:
      ValueError: see `garment_photo`.
    """
    import simplejpeg

    photo = garment_photo(data, name)
    if not photo.changes and len(photo.pixels) <= size:
        return data
    pixels = np.ascontiguousarray(fitted(photo.pixels, size))
    return simplejpeg.encode_jpeg(pixels, quality=_QUALITY, colorsubsampling="444")


def blank() -> bytes:
    """An image in which there is nothing to see."""
    import simplejpeg

    return simplejpeg.encode_jpeg(np.full((16, 16, 3), _WHITE, np.uint8))


def image_fault(data: bytes, name: str, changes: Changes | None = None) -> str | None:
    """Why an encoded image is of no use, or None: it decodes. See `decode`."""
    try:
        decode(data, name, changes=changes)
    except UnsuitableImage as error:
        return str(error)
    return None


def _plain_jpeg(
    data: bytes, into: UInt8[np.ndarray, "_h _w 3"] | None
) -> UInt8[np.ndarray, "h w 3"] | None:
    """The pixels of a plain JPEG, which are Pillow's, in less than half the time.

    None for anything else, of which Pillow then says what it is.
    """
    import simplejpeg

    if not data.startswith(b"\xff\xd8"):
        return None
    # A search of the bytes costs next to nothing; few JPEGs need the second look.
    noted = any(mark in data for mark in _ORIENTATION_MARKS)
    if noted and _jpeg_orientation(data) in _TURNS:
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


def _as_shown(
    image: Image.Image,
) -> tuple[UInt8[np.ndarray, "h w 3"], list[str]]:
    """What a viewer would show of an image, on white; and what was changed for that."""
    changes = []
    stored = [str(tile.args) for tile in getattr(image, "tile", ())]
    if any("16" in kind for kind in stored):  # such as "RGB;16B"
        changes.append(TO_8_BITS)
    turn = _TURNS.get(_orientation(image))
    if image.mode not in ("RGB", "RGBA"):
        changes.append(TO_RGB)
    if image.mode.startswith("I"):
        image = _of_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getextrema()[-1] != (_OPAQUE, _OPAQUE):
            changes.append(ON_WHITE)
        # What lies behind transparent pixels is nobody's business.
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        image = white
    if image.mode != "RGB":
        image = image.convert("RGB")
    if turn is not None:
        changes.append(TURNED)
        image = image.transpose(turn)
    return np.array(image), changes


def _of_8_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits as one of 8: Pillow would clip most of it to white."""
    levels = np.asarray(image).astype(np.int64)
    grey = Image.fromarray((levels >> 8).astype(np.uint8))
    hidden = image.info.get("transparency")
    if not isinstance(hidden, int):
        return grey
    alpha = np.where(levels == hidden, 0, _OPAQUE).astype(np.uint8)
    return Image.merge("LA", [grey, Image.fromarray(alpha)])


def _orientation(image: Image.Image) -> int:
    """What the camera noted of how it was held; 1, upright, where that is unreadable."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Notes of cameras are as hostile as pixels.
        return 1


def _jpeg_orientation(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return _orientation(image)
    except Exception:  # It reads some notes when it opens.
        return 1


def _scans(data: bytes) -> int:
    """How many scans a JPEG has, and a few more if it holds previews of itself.

    Within a scan 0xFF is followed by 0, so the marker of a start occurs nowhere else.
    """
    return data.count(b"\xff\xda")


def _check_still(image: Image.Image, name: str, data: bytes) -> None:
    """Checks what a file says of itself, before any pixel is decoded."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnsuitableImage(
            f"image {name!r} is {width}x{height}; expected at most "
            f"{MAX_PIXELS // 10**6} megapixels; make it smaller"
        )
    scans = _scans(data) if image.format in ("JPEG", "MPO") else 1
    if scans * width * height > MAX_SCANNED_PIXELS:
        raise UnsuitableImage(
            f"image {name!r} is a {width}x{height} JPEG of {scans} scans; expected at "
            f"most {MAX_SCANNED_PIXELS // (width * height)} of that size; save it again "
            "as a baseline JPEG"
        )
    # MPO: a JPEG with a second, smaller JPEG behind it, from some cameras.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise UnsuitableImage(
            f"image {name!r} is a moving {image.format}; expected a still image"
        )


def _undecodable(data: bytes, name: str, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return (
            f"image {name!r} is a decompression bomb; expected at most "
            f"{MAX_PIXELS // 10**6} megapixels"
        )
    return (
        f"image {name!r} cannot be decoded ({len(data):,} bytes, {_reason(error)}); "
        "expected a complete JPEG, PNG or WebP file; save or download it again"
    )


def _reason(error: Exception) -> str:
    """The text of a decoder's error, without the address of the buffer."""
    text = str(error).split("<_io.BytesIO")[0].strip()
    return text or type(error).__name__
