"""Where the garment is in a photo, apart from what it lies or hangs on. Needs OpenCV."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from fhn_jax.data.pictures import NO_GARMENT, Changes, fitted, garment_photo

# Pixels of the longer side of the photos in which garments are looked for.
SIZE = 160
# Of the photo's sides: a frame that is background, an ellipse in which the garment may be,
# and one in which it is.
_FRAME, _MAYBE, _SURELY = 0.03, 0.42, 0.08
_ROUNDS = 3
# Parts smaller than this share of the largest are not the garment's.
_SMALL_PART = 0.1
# Hardly more of the photo than what is surely the garment: nothing was found.
_LEAST = 0.03
# Levels by which a photo varies that is all background.
_PLAIN = 1.5


def garment(pixels: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"] | None:
    """Where the garment is; None where nothing stands out from the background.

    Args:
      pixels: an sRGB photo of one garment, about in its middle; white bars beside the photo
        do not count.
    Source: Rother, Kolmogorov and Blake, SIGGRAPH 2004, "GrabCut".
    """
    box = without_bars(pixels)
    if box is None:
        return None
    photo = np.ascontiguousarray(pixels[box])
    if photo.std(axis=(0, 1)).max() < _PLAIN:
        return None  # GrabCut would take seconds to find nothing.
    height, width = photo.shape[:2]
    y = (np.arange(height)[:, None] + 0.5) / height - 0.5
    x = (np.arange(width)[None] + 0.5) / width - 0.5
    radius = np.hypot(y, x)
    labels = np.where(radius < _MAYBE, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    frame = max(1, round(_FRAME * min(height, width)))
    inside = np.zeros(labels.shape, bool)
    inside[frame:-frame, frame:-frame] = True
    labels[~inside] = cv2.GC_BGD
    labels[radius < _SURELY] = cv2.GC_FGD
    # Its mixtures of colours start at random.
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    no_box = (0, 0, 1, 1)  # The labels say what is known.
    cv2.grabCut(photo, labels, no_box, *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    _, part, about, _ = cv2.connectedComponentsWithStats(found)
    areas = about[:, cv2.CC_STAT_AREA]
    areas[0] = 0  # The background is part 0.
    found = (areas >= max(_SMALL_PART * areas.max(), 1))[part]
    if found.mean() < _LEAST:
        return None
    mask = np.zeros(pixels.shape[:2], bool)
    mask[box] = found
    return mask


def garment_in(pixels: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "_ _"] | None:
    """`garment` in a photo of any size, its longer side scaled to `SIZE` pixels."""
    height, width = pixels.shape[:2]
    scale = SIZE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return garment(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def without_bars(pixels: UInt8[np.ndarray, "h w 3"]) -> tuple[slice, slice] | None:
    """Rows and columns of a photo without white bars beside it; None of one all white."""
    rows, columns = (
        np.flatnonzero((pixels < 250).any(axis=2).mean(axis=axis) > 0.005)
        for axis in (1, 0)
    )
    if min(len(rows), len(columns)) < 8:
        return None
    return np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def masked(
    pixels: UInt8[np.ndarray, "h w 3"], size: int
) -> tuple[UInt8[np.ndarray, "s s 4"], bool]:
    """A photo `fitted` to a size, and in a fourth channel how much of a pixel is garment.

    Args:
      pixels: of the photo.
      size: height and width of the result.
    Returns:
      levels 0 to 255, and whether a garment was found; all of a photo without one counts
      as garment, but not the white at its sides.
    """
    mask = garment_in(pixels)
    found = mask is not None
    if mask is None:
        mask = np.ones(pixels.shape[:2], bool)
    # What `fitted` adds is white, so that is what is no garment.
    outside = np.where(mask, 0, 255).astype(np.uint8)
    outside = np.repeat(outside[..., None], 3, axis=2)
    outside = fitted(outside, size, pixels.shape[:2])
    return np.concatenate([fitted(pixels, size), 255 - outside[..., :1]], axis=2), found


def decode_masked(
    data: bytes,
    name: str,
    size: int,
    into: UInt8[np.ndarray, "_ _ 4"] | None = None,
    changes: Changes | None = None,
) -> UInt8[np.ndarray, "_ _ 4"]:
    """The pixels of `garment_photo`, `masked`; see `decode`.

    Args:
      data, name: see `garment_photo`.
      size: height and width, in pixels.
      into: an array of this size to write the pixels to.
      changes: gets what was changed, and `NO_GARMENT` where none was found.
    Raises:
      ValueError: see `garment_photo`.
    """
    photo = garment_photo(data, name)
    pixels, found = masked(photo.pixels, size)
    if changes is not None:
        changes.note(name, photo.changes + (() if found else (NO_GARMENT,)))
    if into is not None:
        into[:] = pixels
        return into
    return pixels
