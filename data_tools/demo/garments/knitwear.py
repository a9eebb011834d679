"""Sweaters, cardigans and hoodies, seen from the front, drawn panel by panel.

Coordinates are units of `demo.canvas`: the canvas is 100 wide and high, y down.
"""

from dataclasses import replace

import numpy as np
from fhn_jax.data_tools.demo.canvas import Canvas
from fhn_jax.data_tools.demo.cloth import Cloth, mix
from fhn_jax.data_tools.demo.garments.cuts import (
    Cut,
    draw_base,
    draw_collar_band,
    draw_cuffs,
    draw_rib_hem,
    vary_cut,
)
from fhn_jax.data_tools.demo.garments.parts import (
    BLACK,
    METAL,
    WHITE,
    both_sides,
    luma,
    seam_colour,
)
from fhn_jax.data_tools.demo.garments.tops import draw_pocket
from fhn_jax.data_tools.demo.outlines import (
    chain,
    curve,
    mirror,
    offset,
    points,
    ribbon,
    spline,
    symmetric,
)


def draw_sweater(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Knitted, long sleeves, ribbed hem and cuffs; round neck or roll neck."""
    cut = vary_cut(
        Cut(
            neck=8.6,
            depth=6.0,
            shoulder=24,
            chest=23.0,
            waist=22.6,
            hem=21.0,
            hem_y=84,
            drop=0.6,
            sleeve=((81, 26), (87.0, 47), (91.5, 68), (92.0, 80)),
            under=((83.6, 82), (80.2, 67), (76.5, 51)),
        ),
        rng,
    )
    roll = rng.random() < 0.3
    front = draw_base(canvas, cut, cloth, rng)
    if cloth.pattern == "plain" and rng.random() < 0.5:
        _cables(canvas, cut, cloth)
    rib = cloth.plain(mix(cloth.base, BLACK, 0.05), "rib")
    draw_cuffs(canvas, cut, rib, 5.5)
    draw_rib_hem(canvas, cut, rib, 6.5)
    if roll:
        y = cut.neck_y
        outline = symmetric(
            chain(
                spline((50, y - 6.4), (55, y - 6.6), (58.6, y - 5.2)),
                spline((58.6, y - 5.2), (60.2, y - 0.5), (59.2, y + 3.6)),
                spline((59.2, y + 3.6), (55, y + 7.2), (50, y + 8)),
            )
        )
        canvas.fill(outline, rib, radius=1.8, occlusion=0.5)
        fold = spline((41.2, y - 1), (50, y + 2.4), (58.8, y - 1))
        canvas.stroke([fold], seam_colour(cloth.base), width=0.5, opacity=0.35)
    else:
        draw_collar_band(canvas, front, cut, rib, 2.9)


def _cables(canvas: Canvas, cut: Cut, cloth: Cloth) -> None:
    """Three twisted cords down the front."""
    y = np.linspace(cut.neck_y + cut.depth + 4, cut.hem_y - 8, 80)
    dark, light = mix(cloth.base, BLACK, 0.3), mix(cloth.base, WHITE, 0.35)
    for x in (39.0, 50.0, 61.0):
        wave = 1.5 * np.sin(y / 1.55)
        cords = [np.stack([x + s * wave, y], axis=1) for s in (1, -1)]
        canvas.stroke(cords, dark, width=1.5, opacity=0.30)
        canvas.stroke(
            [cord - np.array([0.3, 0.2]) for cord in cords],
            light,
            width=0.7,
            opacity=0.4,
        )
        rails = [np.array([(x + s, y[0]), (x + s, y[-1])]) for s in (-3.2, 3.2)]
        canvas.stroke(rails, dark, width=0.6, opacity=0.35)


def draw_cardigan(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Knitted, open V neck, a band with buttons, two pockets."""
    cut = vary_cut(
        Cut(
            neck=8.4,
            depth=29,
            shoulder=22.5,
            chest=21.4,
            waist=20.8,
            hem=20.2,
            hem_y=84,
            drop=0.6,
            sleeve=((80, 26), (86.0, 47), (90.5, 68), (91.0, 80)),
            under=((83.0, 82), (79.6, 67), (75.0, 51)),
        ),
        rng,
    )
    cut = replace(cut, depth=29 * rng.uniform(0.9, 1.1))
    front = draw_base(canvas, cut, cloth, rng, neck="v")
    rib = cloth.plain(mix(cloth.base, BLACK, 0.10), "rib")
    if cloth.pattern == "plain" and rng.random() < 0.4:
        rib = cloth.plain(cloth.accent, "rib")
    draw_cuffs(canvas, cut, rib, 5)
    draw_rib_hem(canvas, cut, rib, 5.5)
    bottom = cut.hem_y + cut.drop + 5.5
    middle = (50.0, cut.neck_y + cut.depth)
    band = rib.plain(weave="smooth")
    for line in (front, mirror(front)):
        width = 3.0 if line[-1, 0] > 50 else -3.0
        canvas.fill(ribbon(line, width), band, radius=0.9, occlusion=0.3)
    column = np.array(
        [
            (48.2, middle[1] - 0.6),
            (51.8, middle[1] - 0.6),
            (51.8, bottom),
            (48.2, bottom),
        ]
    )
    canvas.fill(column, band, radius=0.9, occlusion=0.4)
    button = (0.36, 0.24, 0.16) if luma(rib.base) > 0.45 else (0.85, 0.80, 0.70)
    heights = np.linspace(middle[1] + 2.5, bottom - 3, 5)
    canvas.buttons([(50, y) for y in heights], button, 1.25)
    if rng.random() < 0.6:
        for x in (34.0, 56.5):
            draw_pocket(canvas, cloth, x, 65, 9.5, 12)


def draw_hoodie(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Hood, draw string, kangaroo pocket, ribbed hem and cuffs; zip on some."""
    cut = vary_cut(
        Cut(
            neck=9.5,
            neck_y=20,
            depth=6.0,
            shoulder=23.6,
            shoulder_y=24,
            chest=22.6,
            armpit_y=42,
            waist=22.4,
            hem=20.8,
            hem_y=85,
            drop=0.6,
            sleeve=((80.5, 32), (86.5, 51), (91.2, 71), (91.8, 82)),
            under=((83.4, 84), (80.0, 70), (76.2, 55)),
        ),
        rng,
    )
    draw_base(canvas, cut, cloth, rng)
    rib = cloth.plain(mix(cloth.base, BLACK, 0.07), "rib")
    draw_cuffs(canvas, cut, rib, 5)
    draw_rib_hem(canvas, cut, rib, 5.5)
    thread = seam_colour(cloth.base)
    bottom = cut.hem_y + cut.drop
    zipped = rng.random() < 0.4
    pocket = symmetric(
        chain(
            points("50,62 58.5,62"),
            curve("58.5,62 61.5,67 65.5,73.5"),
            np.array([(65.5, bottom - 0.8), (50.0, bottom - 0.8)]),
        )
    )
    canvas.fill(pocket, cloth, radius=1.4, depth=0.2, rim=0.45)
    edge = curve("57.8,62.6 60.8,67.4 64.6,73.8")
    canvas.stroke(both_sides(edge), thread, width=0.28, opacity=0.6, dash=0.7)
    if zipped:
        column = np.array([(50, cut.neck_y + 8), (50, bottom + 5)])
        canvas.stroke([column], thread, width=2.2, opacity=0.35)
        canvas.stroke([column], METAL, width=0.9)
        canvas.stroke([column], (0.3, 0.3, 0.3), width=0.9, dash=0.45, opacity=0.7)
        pull = np.array([(50, cut.neck_y + 9), (50, cut.neck_y + 13)])
        canvas.stroke([pull], (0.55, 0.54, 0.52), width=1.5)
    # The hood lies open behind the neck: its outside, its dark inside, its front edges.
    hood = symmetric(
        chain(
            curve("50,4 59,5.2 65.5,12 65.8,20 63.5,25.5"),
            curve("63.5,25.5 58,29 50,30.5"),
        )
    )
    canvas.fill(hood, cloth, radius=2.6, depth=0.3)
    mouth = symmetric(
        chain(curve("50,7.6 56.4,9.2 59.6,15 58,22"), curve("58,22 54.5,26.8 50,29.6"))
    )
    lining = cloth.plain(mix(cloth.base, BLACK, 0.42))
    canvas.fill(
        mouth,
        lining,
        depth=0.4,
        radius=2.4,
        relief=-0.6,
        shade=lambda x, y: 0.012 * (y - 18) + 0 * x,
    )
    seam = curve("50,4.6 50.3,6 50,7.4")
    canvas.stroke([seam], thread, width=0.35, opacity=0.6)
    flap = chain(
        curve("50.2,30.6 55.6,27.2 59.6,21.5 60.4,14.5"),
        curve("60.4,14.5 64.5,19 63,26"),
        curve("63,26 57.5,31.5 50.2,33.5"),
    )
    for outline in (flap, mirror(flap)):
        canvas.fill(outline, cloth, radius=1.8, occlusion=0.45)
    hem = offset(curve("50.6,30.8 56,27.4 60,21.5 60.8,15.5"), 1.4)
    canvas.stroke(both_sides(hem), thread, width=0.25, opacity=0.5, dash=0.7)
    cord = mix(cloth.base, WHITE, 0.82) if luma(cloth.base) < 0.7 else (0.45, 0.46, 0.5)
    sway = rng.uniform(-1, 1, 2)
    strings = [
        spline((53.2, 31), (54.2 + sway[0], 38), (53.6 + sway[0], 45.5)),
        spline((46.8, 31), (45.6 + sway[1], 37), (46.2 + sway[1], 43.5)),
    ]
    canvas.stroke(
        [s + np.array([0.5, 0.3]) for s in strings], BLACK, width=1.0, opacity=0.2
    )
    canvas.stroke(strings, cord, width=0.95)
    canvas.stroke([s[-3:] for s in strings], METAL, width=1.2)
    canvas.buttons([(53.2, 31), (46.8, 31)], METAL, 0.85)
