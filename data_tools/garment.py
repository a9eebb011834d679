"""Colours and pattern of the garment in a photo, without its background.

Features that need no pretrained network: what is measured is measured inside of the
garment's mask. And cut-outs, garments on white.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from fhn_jax.data.masks import SIZE, garment, garment_in, without_bars

# Shares of a photo that a cut-out has: less is hardly a garment, and more all of the photo.
_SHOWN = 0.05, 0.97
# Levels that are white, as JPEG leaves it, and corners that have it around a cut-out.
_WHITE, _WHITE_CORNERS = 244, 3
# Where a* and b* are counted, and how finely; CIELAB is divided by 100.
_AB = np.stack(
    np.meshgrid(np.linspace(-0.4, 0.6, 6), np.linspace(-0.5, 0.7, 6), indexing="ij"), -1
).reshape(-1, 2)
_AB_WIDTH = 0.12
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
# Standard deviations, in pixels, of what blurs a photo before its edges are measured.
_BLURS = (0, 1.5, 3, 6)
# Mean and deviation of each kind of feature over photos of garments, about: what comes out
# has mean 0 and deviation 1 then, as layers like it.
_ABOUT = {
    "mean": ((0.42, 0.04, 0.0), (0.2, 0.13, 0.13)),
    "spread": ((0.11, 0.04, 0.05), (0.06, 0.04, 0.04)),
    "chroma": ((0.14, 0.05), (0.14, 0.04)),
    "lightness": ((0.29, 0.35, 0.42, 0.49, 0.56), 0.21),
    "hues": (0.0, 0.13),
    "ab": (0.1, 0.15),
    # By scale, direction and channel.
    "edges": (
        np.add.outer((-3.4, -4.1, -4.5, -4.9), ((0.0, -1.3, -1.1),)),
        np.reshape((0.63, 0.6, 0.52, 0.43), (4, 1, 1)),
    ),
}


def is_on_white(pixels: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Whether a photo, without white bars beside it, has white corners, or nothing else."""
    box = without_bars(pixels)
    if box is None:
        return True
    levels = pixels[box].min(axis=2)
    n = max(1, min(levels.shape) // 32)
    # Where a bar ends, JPEG's blocks have something of it.
    edge = min(8, min(levels.shape) // 8)
    ends = np.s_[edge : edge + n], np.s_[-edge - n : -edge or None]
    corners = [np.median(levels[rows, columns]) for rows in ends for columns in ends]
    return bool(sum(level >= _WHITE for level in corners) >= _WHITE_CORNERS)


def on_white(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"] | None:
    """The garment of a photo on white; None where none is found."""
    height, width = pixels.shape[:2]
    scale = SIZE / max(height, width)
    mask = garment_in(pixels)
    if mask is None or not _SHOWN[0] <= mask.mean() <= _SHOWN[1]:
        return None
    soft = cv2.resize(
        mask.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    # What is round in the photo was steps in the small picture of it.
    soft = cv2.GaussianBlur(soft, (0, 0), max(0.9 / scale, 0.5))
    alpha = np.clip((soft - 0.35) / 0.3, 0, 1)[..., None]
    return np.round(pixels * alpha + 255 * (1 - alpha)).astype(np.uint8)


def colours_and_pattern(
    pixels: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"] | None
) -> Float32[np.ndarray, " f"]:
    """What a garment looks like, as numbers of mean about 0 and deviation about 1.

    Mean and deviation of CIELAB and of chroma, quantiles of lightness, the first three
    harmonics of hue weighed by chroma, how often each part of the a*b* plane occurs, and how
    strong edges are along and across, at four scales.

    Args:
      pixels: an sRGB photo.
      mask: where the garment is; None for all of the photo.
    """
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) / 100
    kernel = np.ones((3, 3), np.uint8)
    whole = np.ones(pixels.shape[:2], np.uint8)
    inner = whole if mask is None else cv2.erode(mask.astype(np.uint8), kernel)
    if not inner.any():
        inner = whole if mask is None else mask
    colours = lab[inner > 0]
    mean, spread = colours.mean(axis=0), colours.std(axis=0)
    chroma, hue = np.hypot(*colours.T[1:]), np.arctan2(colours[:, 2], colours[:, 1])
    angles = hue * np.arange(1, 4)[:, None]
    near = ((colours[:, None, 1:] - _AB) ** 2).sum(axis=2) / (2 * _AB_WIDTH**2)
    near = np.exp(-near)
    found = {
        "mean": mean,
        "spread": spread,
        "chroma": np.array([chroma.mean(), chroma.std()]),
        "lightness": np.quantile(colours[:, 0], _QUANTILES),
        "hues": np.array([(f(angles) * chroma).mean(axis=1) for f in (np.cos, np.sin)]),
        # The square root, so that rare colours count.
        "ab": np.sqrt((near / near.sum(axis=1, keepdims=True)).mean(axis=0)),
        "edges": _edges(lab, inner > 0),
    }
    scaled = [
        np.ravel((values - np.asarray(_ABOUT[name][0])) / _ABOUT[name][1])
        for name, values in found.items()
    ]
    return np.clip(np.concatenate(scaled), -5, 5).astype(np.float32)


def _edges(lab, inner):
    """Logarithms of the mean gradients [scale, direction, channel]."""
    found = []
    for blur in _BLURS:
        smooth = cv2.GaussianBlur(lab, (0, 0), blur) if blur else lab
        gradients = [
            cv2.Sobel(smooth, cv2.CV_32F, *along)[inner] / 8
            for along in ((1, 0), (0, 1))
        ]
        found.append([np.sqrt((g**2).mean(axis=0)) for g in gradients])
    return np.log(np.array(found) + 1e-3)


def features(pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n f"]:
    """`colours_and_pattern` of photos, of all of a photo where no garment is found."""
    return np.stack([colours_and_pattern(each, garment(each)) for each in pixels])
