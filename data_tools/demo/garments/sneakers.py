"""Sneakers, seen from the side, toe to the left, drawn panel by panel.

Coordinates are units of `demo.canvas`: the canvas is 100 wide and high, y down.
"""

import numpy as np
from fhn_jax.data_tools.demo.canvas import Canvas
from fhn_jax.data_tools.demo.cloth import Cloth, Colour, mix
from fhn_jax.data_tools.demo.garments.parts import (
    BLACK,
    luma,
    seam_colour,
)
from fhn_jax.data_tools.demo.outlines import (
    Number,
    Points,
    arc,
    chain,
    curve,
    points,
    spline,
)


def draw_sole(
    canvas: Canvas, outline: Points, colour: Colour, *, weave: str = "smooth"
) -> None:
    canvas.fill(
        outline,
        Cloth(colour, colour),
        radius=1.0,
        depth=0.25,
        occlusion=0.3,
        wrinkle=0.2,
    )


def draw_opening(canvas: Canvas, outline: Points, colour: Colour) -> None:
    """The dark inside of a shoe behind its near edge."""
    inner = mix(colour, (0.16, 0.13, 0.11), 0.62)
    canvas.fill(
        outline, Cloth(inner, inner), depth=0.35, radius=1.4, relief=-0.5, wrinkle=0
    )


def draw_sneakers(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Low laced sports shoe: thick sole, toe guard, tongue, side and heel panels."""
    accent = cloth.plain(cloth.accent)
    white = (0.95, 0.95, 0.94)
    light_sole = rng.random() < 0.75
    sole = white if light_sole else mix(cloth.accent, BLACK, 0.1)
    draw_opening(
        canvas,
        chain(curve("52,42 60,38.6 72,40.6 84,37.4"), curve("85,42 72,50 57,50")),
        cloth.accent,
    )
    tongue = chain(
        curve("40,50 46.5,40 51.6,33.4"),
        curve("51.6,33.4 56,33.6 58.6,37.4"),
        curve("58.6,37.4 56,45 49,53"),
    )
    canvas.fill(tongue, cloth.plain(), radius=1.6)
    upper = chain(
        curve("6.6,68 7,62.8 11.4,58.8 19,56.8 29,54.2 38,49.2"),
        curve("38,49.2 46,44.6 53.4,40.6"),
        curve("53.4,40.6 60,46.2 69,47.6 78,43.4 83.4,36.2"),
        curve("83.4,36.2 87,35.4 88.8,39 89,48 91,58 91.2,68"),
    )
    canvas.fill(upper, cloth, origin=(0, 8), radius=3.0, depth=0.26)
    overlay = cloth.plain(mix(cloth.base, BLACK, 0.10))
    guard = chain(
        curve("6.4,68.5 7,63 11,59.4 16.5,58"),
        curve("16.5,58 20.5,61.5 29,63.4 38,64.4 40,68.5"),
    )
    canvas.fill(guard, overlay, radius=1.6, depth=0.2, occlusion=0.25)
    holes = [
        np.array([(x, y), (x + 0.3, y)])
        for k in range(4)
        for x, y in ((20.0 + 2.9 * k, 58.2 - 0.5 * k), (21.6 + 2.9 * k, 60.2 - 0.3 * k))
    ]
    canvas.stroke(holes, BLACK, width=0.7, opacity=0.35)
    heel = chain(
        curve("77.6,43.6 82.4,37.6 86,35.6 88.2,37.6"),
        curve("88.2,37.6 89,48 91,58 91.2,68.5"),
        curve("75,68.5 79.4,60 79.8,52 77.6,43.6"),
    )
    canvas.fill(heel, accent, radius=2.0, depth=0.22, occlusion=0.25)
    if rng.random() < 0.5:
        saddle = chain(
            curve("44.8,50.5 50.5,46 56.2,42.6"),
            curve("56.2,42.6 59.5,46 62,47.2"),
            curve("62,47.2 63,57 66.5,68.5"),
            curve("47,68.5 48.5,59 44.8,50.5"),
        )
        canvas.fill(saddle, accent, radius=1.2, depth=0.2, occlusion=0.25)
    else:
        for k in range(2):
            x = 52 + 8.5 * k
            bar = np.array([(x, 51), (x + 4, 51), (x - 0.6, 68), (x - 4.6, 68)])
            canvas.fill(bar, accent, radius=0.7, depth=0.2, occlusion=0.25)
    eyelets = chain(
        curve("28.5,54.4 41,47.6 53.4,40.8"),
        curve("57.4,45.4 47,52.2 36.5,58.2"),
        curve("36.5,58.2 31,57.6 28.5,54.4"),
    )
    canvas.fill(eyelets, overlay, radius=1.2, depth=0.2, occlusion=0.25)
    thread = seam_colour(cloth.base)
    padding = curve("59,48.4 69,50.4 79.6,45.8")
    canvas.stroke([padding], thread, width=0.3, opacity=0.6, dash=0.7)
    laces = white if luma(cloth.base) < 0.85 or rng.random() < 0.6 else (0.3, 0.3, 0.33)
    _laces(canvas, (28.6, 53.2), (50.6, 40.4), 6, laces, (5.6, 3.0))
    base = chain(
        curve("5.2,66.4 12,67.8 30,67.8 55,67.2 78,66.2 93.2,63.8"),
        curve("93.2,63.8 94.6,69.5 92.4,75.6"),
        curve("92.4,75.6 70,76.2 40,76.2 20,75.6 9.5,73.2 4.6,69"),
    )
    draw_sole(canvas, base, sole)
    tread = curve("8.6,72 20,74.4 40,74.9 70,74.9 92.6,74.2")
    trim = mix(cloth.base, BLACK, 0.1) if light_sole else white
    canvas.stroke([tread], trim, width=1.2, opacity=0.85)
    line = curve("6.4,68.4 14,69.6 50,69.2 92.8,65.8")
    canvas.stroke([line], (0.3, 0.3, 0.3), width=0.25, opacity=0.4, dash=0.7)


def _laces(
    canvas: Canvas,
    start: tuple[Number, Number],
    end: tuple[Number, Number],
    count: int,
    colour: Colour,
    reach: tuple[Number, Number],
) -> None:
    """Laces across the throat, spaced from `start` (toe side) to `end`."""
    across = np.array([(0, 0), (0.5 * reach[0], 0.5 * reach[1] - 0.8), reach])
    lines = [
        spline(*((1 - share) * np.array(start) + share * np.array(end) + across))
        for share in np.linspace(0, 1, count)
    ]
    shadow = [line + np.array([0.15, 0.55]) for line in lines]
    canvas.stroke(shadow, BLACK, width=1.5, opacity=0.3)
    canvas.stroke(lines, mix(colour, BLACK, 0.22), width=1.55)
    canvas.stroke([line - np.array([0.1, 0.15]) for line in lines], colour, width=1.05)
    canvas.buttons([tuple(line[-1]) for line in lines], (0.45, 0.44, 0.43), 0.55)


def draw_high_tops(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Canvas shoe that covers the ankle: rubber toe, many laces, round patch."""
    white = (0.95, 0.945, 0.93)
    draw_opening(
        canvas,
        chain(curve("51,15 60,12.6 76,13 83,15.5"), curve("83,19 66,22 53,20")),
        cloth.base,
    )
    tongue = chain(
        curve("42,40 46,22 49,11.5"),
        curve("49,11.5 53.5,10.5 57,13"),
        curve("57,13 55,30 49,46"),
    )
    canvas.fill(tongue, cloth.plain(), radius=1.6)
    upper = chain(
        curve("8,68 9.2,61 15,56.6 25,54.2 35,49.6 43,41.6"),
        curve("43,41.6 48,28 51.6,16.2"),
        curve("51.6,16.2 66,18 83.4,14.6"),
        curve("83.4,14.6 84.6,28 84.2,42 87.4,56 88,68"),
    )
    canvas.fill(upper, cloth, origin=(0, 4), radius=3.0, depth=0.3)
    thread = seam_colour(cloth.base)
    canvas.stroke(
        [curve("57.6,19 55,32 49,47 40,56.4"), curve("58.6,19 56,32 50,47 41,57")],
        thread,
        width=0.3,
        opacity=0.6,
        dash=0.8,
    )
    strip = chain(
        curve("79.4,15.6 83.4,14.8 84.6,28 84.2,42 87.4,56 88,67"),
        curve("83.4,67 82.6,56 80,42 80.4,28 79.4,15.6"),
    )
    canvas.fill(strip, cloth.plain(cloth.accent), radius=1.0, occlusion=0.2)
    cap = chain(
        curve("7.4,68.5 8.4,60.8 14.4,56.4 22,55"), curve("22,55 27.6,60 28.6,68.5")
    )
    draw_sole(canvas, cap, white)
    spot = arc((67, 33), (5.4, 5.4), 0, 360, 40)
    canvas.fill(spot, Cloth(white, white), radius=0.8, occlusion=0.3, wrinkle=0)
    ring = mix(cloth.accent, BLACK, 0.1)
    canvas.stroke([arc((67, 33), (4.3, 4.3), 0, 360, 40)], ring, width=0.6)
    peak = points("63.9,35.6 66,31.2 67.2,33.2 68.4,30.4 70.2,35.6")
    canvas.fill(peak, Cloth(ring, ring), radius=0.4, occlusion=0, wrinkle=0)
    _laces(canvas, (37.2, 49.4), (50.2, 18.4), 7, white, (4.8, 2.2))
    base = chain(
        curve("6,66.2 14,66.6 50,66.4 89.6,65.4"),
        curve("89.6,65.4 90.6,69.5 89.4,74"),
        curve("89.4,74 60,74.8 20,74.8 9,73.4 5.4,69.4"),
    )
    draw_sole(canvas, base, white)
    line = curve("6.6,68.4 20,69 60,69 90,68")
    canvas.stroke([line], mix(cloth.accent, BLACK, 0.1), width=0.8, opacity=0.9)
    foot = curve("8.4,73.2 20,74.2 60,74.2 89.6,73.4")
    canvas.stroke([foot], (0.55, 0.42, 0.3), width=0.8, opacity=0.8)
