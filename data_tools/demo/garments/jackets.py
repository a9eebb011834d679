"""Blazers and coats, seen from the front, drawn panel by panel.

Coordinates are units of `demo.canvas`: the canvas is 100 wide and high, y down.
"""

from dataclasses import replace

import numpy as np
from fhn_jax.data_tools.demo.canvas import Canvas
from fhn_jax.data_tools.demo.cloth import Cloth, Colour, mix
from fhn_jax.data_tools.demo.garments.cuts import (
    Cut,
    draw_body_folds,
    draw_cuffs,
    draw_sleeve_folds,
    draw_sleeves,
    side_line,
    vary_cut,
)
from fhn_jax.data_tools.demo.garments.parts import (
    BLACK,
    WHITE,
    both_sides,
    luma,
    seam_colour,
)
from fhn_jax.data_tools.demo.outlines import (
    Number,
    chain,
    curve,
    mirror,
    points,
    spline,
    symmetric,
)


def _jacket(
    canvas: Canvas,
    cut: Cut,
    cloth: Cloth,
    rng: np.random.Generator,
    *,
    point: Number,
    lining: Colour,
    round_front: bool,
    overlap: Number,
) -> None:
    """Sleeves, lining and two overlapping fronts that meet at height `point`."""
    draw_body_folds(canvas, cut, rng)
    draw_sleeve_folds(canvas, cut, rng)
    draw_sleeves(canvas, cut, cloth)
    back = symmetric(
        chain(
            spline((50, cut.neck_y - 1.2), (50 + cut.neck, cut.neck_y)),
            np.array([(50 + cut.neck + 1, cut.neck_y + 4), (51.0, point + 2)]),
        )
    )
    canvas.fill(
        back,
        Cloth(lining, lining),
        depth=0.35,
        shade=lambda x, y: -0.25 + 0.006 * (y - cut.neck_y) + 0 * x,
    )
    tag = points("47,17 53,17 53,20.5 47,20.5") + np.array([0, cut.neck_y - 12])
    canvas.fill(tag, Cloth((0.2, 0.2, 0.22), BLACK), radius=0.4, wrinkle=0)
    low = cut.hem_y + cut.drop
    if round_front:
        corner = spline(
            (50 + 0.62 * cut.hem, low),
            (50 + 0.30 * cut.hem, low - 1.6),
            (51.5, low - 14),
        )
    else:
        corner = np.array([(50 + 0.5 * cut.hem, low), (50 - overlap, low)])
    front = chain(
        spline(
            (50 - overlap, point),
            (50 + 0.5 * cut.neck, 0.5 * (point + cut.neck_y)),
            cut.neck_point,
        ),
        side_line(cut),
        spline((50 + cut.hem, cut.hem_y), (50 + 0.62 * cut.hem, low)),
        corner,
        np.array([(50 - overlap, point + 3)]),
    )
    for outline in (mirror(front), front):
        canvas.fill(outline, cloth, radius=2.6, depth=0.28)


def _lapels(
    canvas: Canvas, cut: Cut, cloth: Cloth, point: Number, wide: Number, overlap: Number
) -> None:
    """Notched lapels that roll over from the neck to height `point`."""
    y = cut.neck_y
    notch = y + 13.0
    lapel = chain(
        spline(
            (50 - overlap, point),
            (50 + 0.42 * cut.neck, 0.48 * point + 0.52 * y),
            (50 + cut.neck - 0.3, y + 2),
        ),
        spline((50 + cut.neck + 2.5, y + 8), (50 + wide - 2.2, notch - 0.8)),
        spline((50 + wide - 2.2, notch - 0.8), (50 + wide + 0.6, notch - 2.6)),
        spline(
            (50 + wide + 0.6, notch - 2.6),
            (50 + 0.74 * wide, 0.5 * (point + notch)),
            (50 - overlap, point + 0.5),
        ),
    )
    collar = chain(
        spline(
            (50 + cut.neck - 2.8, y + 6.5),
            (50 + cut.neck - 1.8, y + 1),
            (50 + 0.55 * cut.neck, y - 3.4),
        ),
        spline(
            (50 + 0.55 * cut.neck, y - 3.4),
            (50 + cut.neck + 2.2, y - 1.8),
            (50 + cut.neck + 5.4, y + 4.4),
        ),
        spline((50 + cut.neck + 5.4, y + 4.4), (50 + wide - 3.0, notch - 2.4)),
        spline((50 + wide - 3.0, notch - 2.4), (50 + cut.neck + 1.0, y + 9.5)),
    )
    neck = symmetric(
        chain(
            spline((50, y - 3.8), (50 + 0.56 * cut.neck, y - 3.4)),
            spline((50 + 0.95 * cut.neck, y + 1.6), (50, y + 2.6)),
        )
    )
    canvas.fill(neck, cloth, radius=1.0)
    for side in (mirror, np.array):
        turn = 18 if side is mirror else -18
        for outline in (lapel, collar):
            canvas.fill(
                side(outline), cloth, turn=turn, radius=1.3, occlusion=0.55, rim=0.4
            )


def _flap(canvas: Canvas, cloth: Cloth, x: Number, y: Number, wide: Number) -> None:
    """A pocket flap on the right, and its mirror image."""
    outline = np.array(
        [(x, y), (x + wide, y - 0.8), (x + wide + 0.3, y + 3.4), (x + 0.3, y + 4.4)]
    )
    for side in (outline, mirror(outline)):
        canvas.fill(side, cloth, radius=0.8, depth=0.15, occlusion=0.5)


def draw_blazer(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Tailored jacket: notched lapels, one or two buttons, flap pockets."""
    cut = vary_cut(
        Cut(
            neck=9.2,
            neck_y=11,
            depth=8,
            shoulder=24.5,
            shoulder_y=16.5,
            chest=21.2,
            waist=18.4,
            waist_y=58,
            hem=21.8,
            hem_y=86,
            drop=1.8,
            sleeve=((80.5, 25), (85.0, 46), (88.6, 68), (89.6, 83)),
            under=((81.6, 84.6), (79.0, 68), (75.0, 50)),
        ),
        rng,
    )
    point = rng.uniform(50, 58)
    lining = mix(cloth.base, (0.35, 0.30, 0.33), 0.6)
    _jacket(
        canvas,
        cut,
        cloth,
        rng,
        point=point,
        lining=lining,
        round_front=True,
        overlap=1.6,
    )
    _lapels(canvas, cut, cloth, point, 16.0, 1.6)
    _flap(canvas, cloth, 54.5, 66.5, 11.5)
    breast = points("57.5,40.2 65.5,38.6 65.7,40.8 57.7,42.4")
    canvas.fill(breast, cloth, radius=0.6, occlusion=0.4)
    if rng.random() < 0.3:
        square = points("58.5,40.4 59.5,35.8 62,38 63.8,35.2 64.8,39")
        canvas.fill(square, Cloth((0.95, 0.94, 0.92), WHITE), radius=0.7)
    button = (
        mix(cloth.base, BLACK, 0.45) if luma(cloth.base) > 0.3 else (0.34, 0.32, 0.31)
    )
    heights = (point + 2.5,) if rng.random() < 0.4 else (point + 2.5, point + 13)
    canvas.buttons([(50.6, y) for y in heights], button, 1.35)
    small = [(83.6 + 0.4 * k, 79.5 + 1.9 * k - 2) for k in range(3)]
    canvas.buttons(small + [(100 - x, y) for x, y in small], button, 0.7)
    dart = curve("60.5,46 59.6,56 60.2,65")
    canvas.stroke(both_sides(dart), seam_colour(cloth.base), width=0.3, opacity=0.35)


def draw_coat(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Long, wide lapels, two rows of buttons; a belt on some."""
    cut = vary_cut(
        Cut(
            neck=7.4,
            neck_y=8,
            depth=6,
            shoulder=19.5,
            shoulder_y=12.5,
            chest=17.4,
            armpit_y=29,
            waist=16.4,
            waist_y=48,
            hem=22.5,
            hem_y=93.5,
            drop=1.4,
            sleeve=((74.6, 20), (79.0, 37), (82.4, 54), (83.4, 66)),
            under=((76.2, 67.2), (73.6, 54), (70.4, 39)),
        ),
        rng,
    )
    cut = replace(cut, hem_y=min(cut.hem_y, 95.0))
    point = rng.uniform(37, 42)
    lining = mix(cloth.base, (0.35, 0.28, 0.25), 0.6)
    canvas.fold(
        [
            spline((50 + x, 58), (50 + 1.15 * x, 75), (50 + 1.3 * x, 93))
            for x in (-14.0, -7.5, 6.5, 13.0)
        ],
        width=3.2,
        strength=0.25,
    )
    _jacket(
        canvas,
        cut,
        cloth,
        rng,
        point=point,
        lining=lining,
        round_front=False,
        overlap=4.5,
    )
    _lapels(canvas, cut, cloth, point, 15.5, 3.0)
    thread = seam_colour(cloth.base)
    edge = np.array([(45.9, point + 3), (45.9, cut.hem_y)])
    canvas.stroke([edge], thread, width=0.3, opacity=0.5)
    dark = luma(cloth.base) > 0.3
    button = mix(cloth.base, (0.15, 0.08, 0.04), 0.75) if dark else (0.36, 0.34, 0.33)
    belt = rng.random() < 0.45
    rows = (point + 3, point + 19) if belt else (point + 3, point + 12, point + 21)
    canvas.buttons([(x, y) for y in rows for x in (47.6, 55.2)], button, 1.4)
    cuff = replace(cut, sleeve=((82.4, 54), (83.4, 61)), under=((75.8, 62.2),))
    strap = cloth.plain(mix(cloth.base, BLACK, 0.06))
    draw_cuffs(canvas, cuff, strap, 2.2)
    _flap(canvas, cloth, 55.5, 66.0, 9.5)
    if belt:
        y = cut.waist_y + 1
        half = cut.waist + 0.8
        band = symmetric(
            np.array(
                [
                    (50, y - 2.2),
                    (50 + half, y - 2.4),
                    (50 + half, y + 2.0),
                    (50, y + 2.4),
                ]
            )
        )
        canvas.fill(band, strap, radius=1.0, occlusion=0.5)
        buckle = np.array([(46.6, y - 3), (53.4, y - 3), (53.4, y + 3), (46.6, y + 3)])
        hole = np.array([(48, y - 1.7), (52, y - 1.7), (52, y + 1.7), (48, y + 1.7)])
        canvas.fill(
            buckle,
            Cloth(mix(button, BLACK, 0.1), WHITE, weave="leather"),
            radius=0.7,
            hole=hole,
            wrinkle=0,
        )
        tail = np.array(
            [(53.4, y - 1.8), (60, y + 0.6), (59.4, y + 4.6), (53.2, y + 2)]
        )
        canvas.fill(tail, strap, radius=0.9)
