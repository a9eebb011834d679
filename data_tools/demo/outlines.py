"""Smooth outlines of a garment's parts.

Lengths are in *units*: the canvas is 100 units wide and high, x to the right, y down.
"""

import functools

import numpy as np
from jaxtyping import Real

SIZE = 291  # pixels, the image size of Polyvore-U
UNIT = SIZE / 100  # pixels per unit

Number = float | int
Point = tuple[Number, Number] | Real[np.ndarray, "2"]  # x, y
Points = Real[np.ndarray, "_ 2"]


def spline(*points: Point, steps: int = 9) -> Points:
    """A smooth open curve through `points`; two points give the straight line.

    Cubic Hermite segments with Bessel tangents on the chord lengths, which do not loop
    where points are unevenly spaced.

    Args:
      points: (x, y) in units, at least two, no two neighbours equal.
      steps: points per segment.
    Returns:
      float64 [n, 2], beginning and ending exactly at the first and the last point.
    """
    knots = np.asarray(points, dtype=np.float64)
    if len(knots) == 2:
        return knots
    chord = np.hypot(*np.diff(knots, axis=0).T)[:, None]
    slope = np.diff(knots, axis=0) / chord
    inner = (slope[:-1] * chord[1:] + slope[1:] * chord[:-1]) / (chord[:-1] + chord[1:])
    tangent = np.concatenate(
        [2 * slope[:1] - inner[:1], inner, 2 * slope[-1:] - inner[-1:]]
    )
    t = (np.arange(steps) / steps)[None, :, None]
    p, q = knots[:-1, None], knots[1:, None]
    m, n = (tangent[:-1] * chord)[:, None], (tangent[1:] * chord)[:, None]
    curve = (
        (2 * t**3 - 3 * t**2 + 1) * p
        + (t**3 - 2 * t**2 + t) * m
        + (3 * t**2 - 2 * t**3) * q
        + (t**3 - t**2) * n
    )
    return np.concatenate([curve.reshape(-1, 2), knots[-1:]])


@functools.lru_cache(maxsize=1024)
def points(text: str) -> Points:
    """Corners from their coordinates: "x,y x,y ...", as in SVG; not to be modified.

    >>> points("1,2 3.5,-4").tolist()
    [[1.0, 2.0], [3.5, -4.0]]
    """
    array = np.array([pair.split(",") for pair in text.split()], dtype=np.float64)
    array.flags.writeable = False
    return array


@functools.lru_cache(maxsize=1024)
def curve(text: str) -> Points:
    """The `spline` through the points of "x,y x,y ..."; not to be modified."""
    array = spline(*points(text))
    array.flags.writeable = False
    return array


def chain(*curves: Points) -> Points:
    """One outline from curves laid end to end; they meet at corners."""
    return np.concatenate(curves)


def mirror(points: Points) -> Points:
    """`points` on the other side of the canvas' vertical centre line, same order."""
    return np.stack([100 - points[:, 0], points[:, 1]], axis=1)


def symmetric(half: Points) -> Points:
    """A closed outline from its right half, given from the top to the bottom."""
    return np.concatenate([half, mirror(half)[::-1]])


def arc(
    centre: tuple[Number, Number],
    radius: tuple[Number, Number],
    start: Number,
    end: Number,
    steps: int = 24,
) -> Points:
    """Part of an ellipse; angles in degrees, 0 to the right, 90 down."""
    angle = np.radians(np.linspace(start, end, steps))
    return np.stack(
        [centre[0] + radius[0] * np.cos(angle), centre[1] + radius[1] * np.sin(angle)],
        axis=1,
    )


def offset(points: Points, width: Number) -> Points:
    """An open curve moved sideways by `width` units, to the right of its direction."""
    direction = np.gradient(points, axis=0)
    length = np.maximum(np.hypot(direction[:, 0], direction[:, 1]), 1e-9)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1) / length[:, None]
    return points + width * normal


def ribbon(points: Points, width: Number) -> Points:
    """The closed outline of a band of `width` units to the right of an open curve."""
    return np.concatenate([points, offset(points, width)[::-1]])
