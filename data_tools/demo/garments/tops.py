"""Tops of thin cloth: t-shirt, tank top, polo and shirt, seen from the front, drawn panel by panel.

Coordinates are units of `demo.canvas`: the canvas is 100 wide and high, y down.
"""

from dataclasses import replace

import numpy as np
from fhn_jax.data_tools.demo.canvas import Canvas
from fhn_jax.data_tools.demo.cloth import Cloth, Colour, mix
from fhn_jax.data_tools.demo.garments.cuts import (
    LONG_SLEEVE,
    LONG_UNDER,
    Cut,
    draw_base,
    draw_body_folds,
    draw_collar_band,
    draw_cuffs,
    draw_inside,
    hem_line,
    stitch_hem,
    stitch_sleeves,
    vary_cut,
)
from fhn_jax.data_tools.demo.garments.parts import BLACK, both_sides, luma, seam_colour
from fhn_jax.data_tools.demo.outlines import (
    Number,
    arc,
    chain,
    mirror,
    ribbon,
    spline,
    symmetric,
)


def draw_tshirt(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Short sleeves, ribbed round or V neck."""
    neck = "v" if rng.random() < 0.25 else "crew"
    cut = vary_cut(Cut(depth=13 if neck == "v" else 7.5), rng)
    front = draw_base(canvas, cut, cloth, rng, neck=neck)
    band = mix(cloth.base, BLACK, 0.06)
    draw_collar_band(canvas, front, cut, cloth.plain(band, "rib"), 1.9)
    stitch_hem(canvas, cut, cloth)
    stitch_sleeves(canvas, cut, cloth)


def draw_tank(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """No sleeves, deep arm holes, narrow shoulders, bound edges."""
    cut = vary_cut(
        Cut(
            neck=9.5,
            neck_y=8.5,
            depth=17,
            shoulder=14.5,
            shoulder_y=9.6,
            chest=20.5,
            armpit_y=37.5,
            waist=19.4,
            hem=21.4,
            drop=1.8,
        ),
        rng,
    )
    front = arc((50, cut.neck_y), (cut.neck, cut.depth), 90, 0, 16)
    draw_body_folds(canvas, cut, rng)
    draw_inside(canvas, cut, front, cloth.base)
    hole = spline(cut.shoulder_point, (50 + 14.2, 22), (50 + 16.2, 31.5), cut.armpit)
    side = spline(cut.armpit, (50 + cut.waist, cut.waist_y), (50 + cut.hem, cut.hem_y))
    body = symmetric(
        chain(
            front, spline(cut.neck_point, cut.shoulder_point), hole, side, hem_line(cut)
        )
    )
    canvas.fill(body, cloth, radius=3.0, depth=0.26)
    trim = cloth.plain(mix(cloth.base, BLACK, 0.10))
    draw_collar_band(canvas, front, cut, trim, 1.4)
    for line in both_sides(hole):
        width = 1.3 if line[0, 0] > 50 else -1.3
        canvas.fill(ribbon(line, width), trim, radius=0.7, occlusion=0.1)
    stitch_hem(canvas, cut, cloth)


def _collar(
    canvas: Canvas, cut: Cut, cloth: Cloth, *, spread: Number, length: Number
) -> None:
    """A turned-down collar: the stand behind, two leaves in front."""
    y = cut.neck_y
    stand = symmetric(
        chain(
            spline(
                (50, y - 1.6), (50 + 0.6 * cut.neck, y - 2.2), (50 + cut.neck, y - 1.4)
            ),
            spline((50 + cut.neck, y + 3), (50, y + cut.depth)),
        )
    )
    inner = cloth.plain(mix(cloth.base, BLACK, 0.22))
    canvas.fill(stand, inner, depth=0.25, radius=1.6)
    canvas.stroke(
        [np.array([(48.2, y + 1.2), (51.8, y + 1.2)])],
        (0.9, 0.89, 0.86) if luma(cloth.base) < 0.6 else (0.35, 0.36, 0.4),
        width=1.6,
    )
    leaf = chain(
        spline(
            (50.2, y + cut.depth - 0.6),
            (50 + 0.62 * cut.neck, y + 2.6),
            (50 + 0.86 * cut.neck, y - 2.2),
        ),
        spline(
            (50 + 0.86 * cut.neck, y - 2.2),
            (50 + 1.2 * cut.neck, y - 0.6),
            (50 + 1.42 * cut.neck, y + 3.4),
        ),
        spline((50 + 1.42 * cut.neck, y + 3.4), (50 + spread, y + length)),
        spline((50 + spread, y + length), (50.2, y + cut.depth - 0.6)),
    )
    for outline, turn in ((leaf, 24), (mirror(leaf), -24)):
        canvas.fill(outline, cloth, turn=turn, radius=1.2, occlusion=0.5)
    tip = np.array([(50 + spread, y + length)])
    edge = np.concatenate([[(50 + 1.42 * cut.neck, y + 3.4)], tip, leaf[:1]])
    inset = edge + (leaf.mean(axis=0) - edge) * 0.16
    canvas.stroke(
        both_sides(inset), seam_colour(cloth.base), width=0.25, opacity=0.45, dash=0.6
    )


def _placket(
    canvas: Canvas,
    cloth: Cloth,
    top: Number,
    bottom: Number,
    buttons: int,
    colour: Colour,
    half: Number = 1.7,
) -> None:
    """The band down the front with its buttons."""
    outline = np.array(
        [(50 - half, top), (50 + half, top), (50 + half, bottom), (50 - half, bottom)]
    )
    canvas.fill(outline, cloth, radius=0.8, depth=0.16, occlusion=0.3, relief=0.6)
    thread = seam_colour(cloth.base)
    edges = [np.array([(50 + s, top + 1), (50 + s, bottom - 1)]) for s in (-1.2, 1.2)]
    canvas.stroke(edges, thread, width=0.22, opacity=0.45, dash=0.6)
    heights = np.linspace(top + 2.2, bottom - 5, buttons)
    canvas.buttons([(50, y) for y in heights], colour)


def draw_pocket(
    canvas: Canvas, cloth: Cloth, x: Number, y: Number, wide: Number, high: Number
) -> None:
    """A patch pocket with its upper left corner at x, y."""
    outline = np.array(
        [
            (x, y),
            (x + wide, y),
            (x + wide, y + 0.82 * high),
            (x + wide / 2, y + high),
            (x, y + 0.82 * high),
        ]
    )
    canvas.fill(outline, cloth, radius=0.7, depth=0.14, rim=0.4)
    line = np.array([(x + 0.3, y + 1.9), (x + wide - 0.3, y + 1.9)])
    canvas.stroke([line], seam_colour(cloth.base), width=0.25, opacity=0.55)


def draw_polo(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Short sleeves with ribbed ends, soft collar, two or three buttons."""
    cut = vary_cut(Cut(depth=6.5), rng)
    draw_base(canvas, cut, cloth, rng)
    trim = cloth.plain(mix(cloth.base, BLACK, 0.08), "rib")
    if cloth.pattern == "plain" and rng.random() < 0.4:
        trim = cloth.plain(cloth.accent, "rib")
    draw_cuffs(canvas, cut, trim, 2.6)
    pearl = (0.95, 0.94, 0.91) if luma(cloth.base) < 0.8 else (0.55, 0.5, 0.45)
    top = cut.neck_y + cut.depth - 1.5
    _placket(canvas, cloth.plain(), top, top + 17, int(rng.integers(2, 4)), pearl)
    _collar(canvas, cut, trim, spread=7.5, length=11)
    stitch_hem(canvas, cut, cloth)


def draw_shirt(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Long sleeves with cuffs, pointed collar, buttons down the front, curved hem."""
    cut = vary_cut(
        Cut(
            depth=6.0,
            chest=20.8,
            waist=19.6,
            hem=19.6,
            hem_y=84,
            drop=7.0,
            sleeve=LONG_SLEEVE,
            under=LONG_UNDER,
        ),
        rng,
    )
    draw_base(canvas, cut, cloth, rng)
    draw_cuffs(canvas, cut, replace(cloth, phase=cloth.phase + 0.3), 5.2)
    light = luma(cloth.base) > 0.75
    button = (0.80, 0.78, 0.74) if light else (0.94, 0.93, 0.90)
    top = cut.neck_y + cut.depth - 1
    _placket(canvas, cloth, top, cut.hem_y + cut.drop - 0.4, 7, button)
    if rng.random() < 0.6:
        draw_pocket(canvas, cloth, 55.5, 37, 10.5, 12)
    _collar(
        canvas,
        cut,
        cloth.plain() if cloth.pattern == "floral" else cloth,
        spread=8.2,
        length=13.5,
    )
    hem = hem_line(cut) - np.array([0, 1.3])
    canvas.stroke(
        both_sides(hem), seam_colour(cloth.base), width=0.25, opacity=0.5, dash=0.6
    )
    canvas.buttons([(84.6, 82.5), (15.4, 82.5)], button, 0.8)
