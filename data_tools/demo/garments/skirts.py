"""Skirts, seen from the front, drawn panel by panel.

Coordinates are units of `demo.canvas`: the canvas is 100 wide and high, y down.
"""

import numpy as np
from fhn_jax.data_tools.demo.canvas import Canvas
from fhn_jax.data_tools.demo.cloth import Cloth, Plane, mix
from fhn_jax.data_tools.demo.garments.parts import BLACK, both_sides, seam_colour
from fhn_jax.data_tools.demo.outlines import Number, chain, mirror, spline, symmetric


def _skirt_band(
    canvas: Canvas, cloth: Cloth, half: Number, y: Number, high: Number
) -> None:
    inside = symmetric(
        chain(
            spline((50, y - 0.3), (50 + half, y)),
            np.array([(50 + half, y + 2), (50.0, y + 3.6)]),
        )
    )
    canvas.fill(inside, Cloth(mix(cloth.base, BLACK, 0.45), BLACK), wrinkle=0)
    band = symmetric(
        chain(
            spline((50, y + 1.8), (50 + 0.6 * half, y + 1.2), (50 + half, y)),
            spline(
                (50 + half + 0.6, y + high),
                (50 + 0.6 * half, y + high + 1.4),
                (50, y + high + 1.9),
            ),
        )
    )
    canvas.fill(band, cloth, radius=1.1, depth=0.2, occlusion=0.35, wrinkle=0.5)


def draw_mini_skirt(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """A short flared shape; buttons or pockets in front on some."""
    half, hem, low = 19.0, rng.uniform(28, 33), rng.uniform(74, 80)
    y, high = 20.0, 5.0
    canvas.fold(
        [
            spline((50 + 0.5 * x, y + 20), (50 + 0.8 * x, 58), (50 + x, low))
            for x in rng.uniform(-2, 2, 4) + np.array([-22.0, -9.0, 8.0, 21.0])
        ],
        width=4.2,
        strength=0.28,
    )
    skirt = symmetric(
        chain(
            spline(
                (50 + half, y + high),
                (50 + half + 0.45 * (hem - half) + 2.0, y + 0.42 * (low - y)),
                (50 + hem, low),
            ),
            spline((50 + hem, low), (50 + 0.55 * hem, low + 2.6), (50, low + 3.4)),
        )
    )
    skirt = np.concatenate([[(50.0, y + high)], skirt, [(50.0, y + high)]])
    canvas.fill(skirt, cloth, radius=3.2, depth=0.3)
    thread = seam_colour(cloth.base)
    hem_line = spline(
        (50 + hem - 0.6, low - 3), (50 + 0.55 * hem, low - 0.4), (50, low + 0.4)
    )
    canvas.stroke(both_sides(hem_line), thread, width=0.3, opacity=0.55, dash=0.8)
    style = rng.random()
    if style < 0.35:
        line = np.array([(51.8, y + high + 2), (51.8, low + 3)])
        canvas.stroke([line], thread, width=0.35, opacity=0.6)
        gold = (0.74, 0.58, 0.36)
        canvas.buttons([(50, h) for h in np.linspace(y + 11, low - 6, 5)], gold, 1.35)
    elif style < 0.7:
        pocket = spline((57, y + high + 1.6), (60, y + 12), (71, y + 14))
        canvas.stroke(both_sides(pocket), thread, width=0.45, opacity=0.7)
    _skirt_band(canvas, cloth, half, y, high)


def draw_pleated_skirt(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Knee-length, sharp pleats that fan out to a zigzag hem."""
    half, hem, low = 14.5, rng.uniform(31, 36), rng.uniform(78, 86)
    y, high = 14.0, 5.0
    count = int(rng.integers(11, 15))

    def width(level: np.ndarray) -> np.ndarray:
        share = np.clip((level - y - high) / (low - y - high), 0, 1.05)
        return half + 0.8 + (hem - half) * share**0.86

    def pleats(x: Plane, level: Plane) -> Plane:
        position = (x - 50) / width(level)
        phase = (position * 0.5 + 0.5) * count % 1
        share = np.clip((level - y - high) / 14, 0.3, 1)
        return share * (
            0.30 * (0.5 - phase) - 0.28 * np.exp(-(((phase - 0.97) / 0.06) ** 2))
        )

    edge = np.linspace(-1, 1, 2 * count + 1)
    teeth = (
        low + 3.2 * (1 - edge**2) + np.where(np.arange(2 * count + 1) % 2, 0.9, -0.5)
    )
    hem_line = np.stack([50 + edge * hem, teeth], axis=1)
    levels = np.linspace(low - 1, y + high, 14)
    right = np.stack([50 + width(levels), levels], axis=1)
    left = mirror(right)[::-1]
    outline = np.concatenate([hem_line, right, left])
    canvas.fill(outline, cloth, radius=2.2, depth=0.25, shade=pleats, wrinkle=0.5)
    _skirt_band(canvas, cloth, half, y, high)


def draw_maxi_skirt(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Long and flowing, soft waves down to the hem."""
    half, hem, low = 12.0, rng.uniform(25, 31), rng.uniform(91, 94)
    y, high = 4.5, 4.2
    waves = rng.uniform(4.2, 6.0)
    turn = rng.uniform(0, 2 * np.pi)

    def width(level: np.ndarray) -> np.ndarray:
        share = np.clip((level - y - high) / (low - y - high), 0, 1.05)
        return half + 0.6 + (hem - half) * (0.42 * np.sqrt(share) + 0.58 * share)

    def flow(x: Plane, level: Plane) -> Plane:
        position = (x - 50) / width(level)
        share = np.clip((level - y - high) / 60, 0.12, 1)
        bend = position * waves * np.pi + turn + 0.9 * np.sin(level / 19 + turn)
        return 0.24 * share * (np.sin(bend) + 0.35 * np.sin(2.1 * bend + 1.3))

    edge = np.linspace(-1, 1, 61)
    swing = low + 2.6 * (1 - edge**2) + 0.9 * np.sin(edge * waves * np.pi + turn)
    hem_line = np.stack([50 + edge * hem, swing], axis=1)
    levels = np.linspace(low - 1, y + high, 18)
    right = np.stack([50 + width(levels), levels], axis=1)
    outline = np.concatenate([hem_line, right, mirror(right)[::-1]])
    canvas.fill(outline, cloth, radius=2.6, depth=0.28, shade=flow)
    if rng.random() < 0.4:
        for level in (y + 0.42 * (low - y), y + 0.70 * (low - y)):
            side = float(width(np.array([level]))[0])
            seam = spline((50 - side, level), (50, level + 2.8), (50 + side, level))
            canvas.stroke([seam], seam_colour(cloth.base), width=0.4, opacity=0.55)
    _skirt_band(canvas, cloth, half, y, high)
