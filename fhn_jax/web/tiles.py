"""Tiles: pictures of garments of one shape, which lie side by side on the page.

Shops' photos have any shape and background. A tile shows all of one, and beside it its
background goes on, out of focus. A garment on white is centred, with the same
margins as all others; the page gives white the tint of its tiles.
"""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

WIDTH, HEIGHT = 300, 400
# Part of the addresses of tiles, which browsers keep: another one for other tiles.
VERSION = 1
# JPEG leaves white a little grey.
_WHITE = 248
# So many lines beside a bar have something of its white.
_MIXED = 2
# Of a garment that was cut out, which would be cramped at the edges: its share of a tile.
_SHARE = 0.84
# No more is seen of a garment that is lost in its picture, in widths of the tile.
_LARGEST = 3
# How much what goes on beside a photo is blurred, in pixels.
_BLUR = 36


def tile(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A JPEG of 300x400 pixels that shows all of a photo.

    Args:
      pixels: levels of the photo.
    """
    pixels = _without_bars(pixels)
    is_cut_out = bool((_corners(_least(pixels)) >= _WHITE).all())
    height, width = pixels.shape[:2]
    left, top, right, bottom = _garment(pixels) if is_cut_out else (0, 0, width, height)
    scale = min(WIDTH / width, HEIGHT / height)
    if is_cut_out:
        fits = min(WIDTH / (right - left), HEIGHT / (bottom - top))
        scale = min(_SHARE * fits, _LARGEST * scale)
    wide, tall = (max(1, round(side * scale)) for side in (width, height))
    photo = Image.fromarray(pixels).resize((wide, tall), Image.Resampling.BICUBIC)
    x = round((WIDTH - scale * (left + right)) / 2)
    y = round((HEIGHT - scale * (top + bottom)) / 2)
    if is_cut_out:
        made = Image.new("RGB", (WIDTH, HEIGHT), "white")
    else:
        ground = _edges(np.asarray(photo), axis=0 if tall < HEIGHT else 1)
        small = Image.fromarray(ground).reduce(4)
        small = small.filter(ImageFilter.GaussianBlur(_BLUR / 4))
        made = small.resize((WIDTH, HEIGHT))
    made.paste(photo, (x, y))
    data = io.BytesIO()
    made.save(data, "JPEG", quality=85)
    return data.getvalue()


def _edges(photo: UInt8[np.ndarray, "h w 3"], axis: int) -> UInt8[np.ndarray, "H W 3"]:
    """A tile whose halves go on as two edges of a photo end."""
    size = (HEIGHT, WIDTH)[axis]
    lines = np.where(np.arange(size) < size / 2, 0, photo.shape[axis] - 1)
    return photo.take(lines, axis)


def _without_bars(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "a b 3"]:
    """A photo without the white bars that made it square.

    White around a garment that was cut out is no bar: without it, the corners are white
    too.
    """
    least = _least(pixels)
    for axis in (0, 1):
        size = pixels.shape[axis]
        lines = np.flatnonzero(least.mean(1 - axis) < _WHITE)
        if not len(lines):
            return pixels  # All of it is white.
        first, last = lines[0], lines[-1]
        first += _MIXED if first > 0 else 0
        last -= _MIXED if last < size - 1 else 0
        if last - first < size // 8:
            continue
        kept = np.arange(first, last + 1)
        if np.median(_corners(least.take(kept, axis))) < _WHITE:
            pixels, least = pixels.take(kept, axis), least.take(kept, axis)
    return pixels


def _least(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    """The least of each pixel's levels; by columns, which is faster than `min`."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    return np.minimum(np.minimum(red, green), blue)


def _corners(levels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, " 16"]:
    """Some pixels of the corners, none of which mixes with what is beside the photo."""
    height, width = levels.shape
    rows, columns = (
        np.array([n, n + 1, side - n - 2, side - n - 1])
        for side, n in ((height, min(3, height // 8)), (width, min(3, width // 8)))
    )
    return levels[np.ix_(rows % height, columns % width)].reshape(-1)


def _garment(pixels: UInt8[np.ndarray, "h w 3"]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is not white."""
    is_garment = _least(pixels) < _WHITE - 10
    rows, columns = (np.flatnonzero(is_garment.any(axis)) for axis in (1, 0))
    if not len(rows):
        return 0, 0, pixels.shape[1], pixels.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
