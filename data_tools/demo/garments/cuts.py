"""The cut of a top: body, sleeves, seams and folds, seen from the front, drawn panel by panel.

Coordinates are units of `demo.canvas`: the canvas is 100 wide and high, y down.
"""

from dataclasses import dataclass, replace

import numpy as np
from fhn_jax.data_tools.demo.canvas import Canvas
from fhn_jax.data_tools.demo.cloth import Cloth, Colour, mix
from fhn_jax.data_tools.demo.garments.parts import (
    BLACK,
    both_sides,
    luma,
    seam_colour,
)
from fhn_jax.data_tools.demo.outlines import (
    Number,
    Points,
    arc,
    chain,
    mirror,
    offset,
    points,
    spline,
    symmetric,
)


@dataclass(frozen=True)
class Cut:
    """Measures of a top; widths are half widths, heights are y.

    Attributes:
      neck: neck opening at the shoulder.
      neck_y: height of that point.
      depth: how far below it the front neckline reaches.
      shoulder, shoulder_y: tip of the shoulder.
      chest, armpit_y: below the arm.
      waist, waist_y: narrowest part of the body.
      hem, hem_y: lower corner.
      drop: how far below the corners the middle of the hem hangs.
      sleeve: outer edge of the right sleeve after the shoulder, ending at the cuff.
      under: its inner edge, from the cuff up towards the armpit.
    """

    neck: Number = 9.0
    neck_y: Number = 12.0
    depth: Number = 7.5
    shoulder: Number = 23.0
    shoulder_y: Number = 17.0
    chest: Number = 21.5
    armpit_y: Number = 37.0
    waist: Number = 20.6
    waist_y: Number = 62.0
    hem: Number = 21.6
    hem_y: Number = 90.0
    drop: Number = 1.2
    sleeve: tuple[tuple[Number, Number], ...] = ((81.5, 25), (89.5, 38.5))
    under: tuple[tuple[Number, Number], ...] = ((78.5, 45),)

    @property
    def neck_point(self) -> tuple[Number, Number]:
        return 50 + self.neck, self.neck_y

    @property
    def shoulder_point(self) -> tuple[Number, Number]:
        return 50 + self.shoulder, self.shoulder_y

    @property
    def armpit(self) -> tuple[Number, Number]:
        return 50 + self.chest, self.armpit_y


LONG_SLEEVE = ((79.5, 26), (84.5, 47), (89.0, 69), (91.0, 84))
LONG_UNDER = ((83.0, 85.6), (79.5, 68), (75.2, 50))


def vary_cut(cut: Cut, rng: np.random.Generator) -> Cut:
    """Another size of the same cut: width and length change by a few per cent."""
    wide, long = rng.uniform(0.95, 1.05), rng.uniform(0.95, 1.03)
    return replace(
        cut,
        waist=cut.waist * wide,
        hem=cut.hem * wide,
        waist_y=cut.armpit_y + (cut.waist_y - cut.armpit_y) * long,
        hem_y=cut.armpit_y + (cut.hem_y - cut.armpit_y) * long,
        depth=cut.depth * rng.uniform(0.9, 1.15),
    )


def _neckline(cut: Cut, kind: str) -> Points:
    """The front neckline from its middle to the right neck point."""
    bottom = (50.0, cut.neck_y + cut.depth)
    if kind == "v":
        middle = (50 + 0.46 * cut.neck, cut.neck_y + 0.56 * cut.depth)
        return spline(bottom, middle, cut.neck_point)
    return arc((50, cut.neck_y), (cut.neck, cut.depth), 90, 0, 16)


def side_line(cut: Cut) -> Points:
    """The body's right edge from the neck point to the hem's corner."""
    return chain(
        spline(cut.neck_point, cut.shoulder_point),
        spline(
            cut.shoulder_point,
            (50 + min(cut.shoulder, cut.chest) - 1.2, 0.5 * (17 + cut.armpit_y)),
            cut.armpit,
        ),
        spline(cut.armpit, (50 + cut.waist, cut.waist_y), (50 + cut.hem, cut.hem_y)),
    )


def hem_line(cut: Cut) -> Points:
    """The hem from the right corner to the middle."""
    return spline(
        (50 + cut.hem, cut.hem_y),
        (50 + 0.55 * cut.hem, cut.hem_y + 0.8 * cut.drop),
        (50, cut.hem_y + cut.drop),
    )


def draw_sleeves(canvas: Canvas, cut: Cut, cloth: Cloth) -> None:
    """Both sleeves, the pattern turned as they hang."""
    tip, pit = cut.shoulder_point, cut.armpit
    right = chain(
        spline((tip[0] - 4, tip[1] - 1.2), tip, *cut.sleeve),
        spline(*cut.under, pit),
        np.array([(pit[0] - 3, pit[1] - 1), (tip[0] - 4, tip[1] + 3)]),
    )
    cuff = np.mean([cut.sleeve[-1], cut.under[0]], axis=0)
    top = np.mean([tip, pit], axis=0)
    angle = float(np.degrees(np.arctan2(cuff[0] - top[0], cuff[1] - top[1])))
    for outline, turn, origin in (
        (right, -angle, tip),
        (mirror(right), angle, (100 - tip[0], tip[1])),
    ):
        canvas.fill(
            outline,
            cloth,
            turn=turn,
            origin=origin,
            depth=0.34,
            radius=1.9,
            occlusion=0,
        )


def draw_cuffs(canvas: Canvas, cut: Cut, cloth: Cloth, length: Number) -> None:
    """A band of `length` units at the end of each sleeve."""
    outer, inner = np.array(cut.sleeve[-1]), np.array(cut.under[0])
    up = np.array(cut.sleeve[-2]) - outer
    up = up / np.hypot(*up) * length
    squeeze = 0.06 * (inner - outer)
    right = np.array(
        [outer + squeeze, inner - squeeze, inner - squeeze * 0.3 + up, outer + up]
    )
    for outline in (right, mirror(right)):
        canvas.fill(outline, cloth, radius=1.0, occlusion=0.15)


def draw_inside(canvas: Canvas, cut: Cut, front: Points, colour: Colour) -> None:
    """The inside of the back with its label, seen through the neck opening."""
    back = spline(
        cut.neck_point, (50 + 0.5 * cut.neck, cut.neck_y + 0.7), (50, cut.neck_y + 1.0)
    )
    low = front[::-1] + np.array([0, 0.6])
    outline = symmetric(np.concatenate([back[::-1], low]))
    canvas.fill(
        outline,
        Cloth(mix(colour, BLACK, 0.32), colour),
        depth=0.25,
        shade=lambda x, y: -0.05 * (y - cut.neck_y) + 0 * x,
        wrinkle=0.4,
    )
    label = points("48,14 52,14 52,16.2 48,16.2") + np.array([0, cut.neck_y - 11.6])
    if cut.depth > 6:
        tag = (0.93, 0.92, 0.89) if luma(colour) < 0.7 else (0.33, 0.33, 0.36)
        canvas.fill(label, Cloth(tag, tag), radius=0.4, depth=0.1, wrinkle=0)


def draw_body_folds(canvas: Canvas, cut: Cut, rng: np.random.Generator) -> None:
    """Creases from the armpits, at the waist and down to the hem."""
    pit_x, pit_y = cut.armpit
    jitter = rng.uniform(-1.5, 1.5, size=(8, 2))
    pull = [
        spline(
            (pit_x - 1.5, pit_y + 1 + 3 * k),
            (pit_x - 6 + jitter[k, 0], pit_y + 0.5 + 4.2 * k),
            (pit_x - 12.5 + 2 * k, pit_y - 1 + 6.5 * k + jitter[k, 1]),
        )
        for k in range(2)
    ]
    canvas.fold(pull, width=2.0, strength=0.30 * rng.uniform(0.6, 1.2))
    canvas.fold(
        [mirror(line) + jitter[2] * 0.6 for line in pull], width=2.0, strength=0.28
    )
    low = cut.hem_y
    drape = [
        spline(
            (50 + x + jitter[3 + k, 0], low - rng.uniform(20, 34)),
            (50 + x + 1.5 * jitter[4 + k, 1], low - 12),
            (50 + x + jitter[3 + k, 1], low - 1),
        )
        for k, x in enumerate((-13.0, -3.0, 11.5))
    ]
    canvas.fold(drape, width=3.4, strength=0.20 * rng.uniform(0.5, 1.2))
    waist = [
        spline(
            (50 + s * (cut.waist - 0.5), cut.waist_y + d),
            (50 + s * (cut.waist - 5), cut.waist_y + d + 2.5),
            (50 + s * (cut.waist - 9.5), cut.waist_y + d + 3),
        )
        for s, d in ((1, -2 + jitter[6, 0]), (-1, 3 + jitter[6, 1]), (1, 9.0))
    ]
    canvas.fold(waist, width=2.0, strength=0.22)


def draw_sleeve_folds(canvas: Canvas, cut: Cut, rng: np.random.Generator) -> None:
    """Creases across long sleeves near the elbows and above the cuffs."""
    outer = spline(cut.shoulder_point, *cut.sleeve)
    inner = spline(*cut.under, cut.armpit)[::-1]
    lines = []
    for share in (0.42, 0.54, 0.66, 0.9):
        a = inner[int(share * (len(inner) - 1))]
        b = outer[int(min(share + 0.07, 1) * (len(outer) - 1))]
        reach = rng.uniform(0.5, 0.85)
        c = a + (b - a) * reach
        middle = (a + c) / 2 + np.array([0, rng.uniform(0.6, 1.6)])
        lines.append(spline(tuple(a), tuple(middle), tuple(c)))
    canvas.fold(lines, width=1.9, strength=0.30)
    canvas.fold(
        [mirror(line) + rng.uniform(-1.5, 1.5, 2) for line in lines],
        width=1.9,
        strength=0.30,
    )


def draw_base(
    canvas: Canvas,
    cut: Cut,
    cloth: Cloth,
    rng: np.random.Generator,
    *,
    neck: str = "crew",
    sleeves: bool = True,
) -> Points:
    """Sleeves, inside and body of a closed top; returns half of the neckline."""
    long = sleeves and len(cut.sleeve) > 2
    draw_body_folds(canvas, cut, rng)
    if long:
        draw_sleeve_folds(canvas, cut, rng)
    if sleeves:
        draw_sleeves(canvas, cut, cloth)
    front = _neckline(cut, neck)
    draw_inside(canvas, cut, front, cloth.base)
    body = symmetric(chain(front, side_line(cut), hem_line(cut)))
    canvas.fill(body, cloth, radius=3.0, depth=0.26)
    return front


def draw_collar_band(
    canvas: Canvas, front: Points, cut: Cut, cloth: Cloth, width: Number
) -> None:
    """A knitted band around the neck opening."""
    outer = offset(front, width)
    whole = np.concatenate([mirror(front)[::-1], front, outer[::-1], mirror(outer)])
    canvas.fill(whole, cloth, radius=0.9, occlusion=0.2)


def stitch_hem(canvas: Canvas, cut: Cut, cloth: Cloth, rise: Number = 2.2) -> None:
    hem = hem_line(cut) - np.array([0, rise])
    thread = seam_colour(cloth.base)
    lines = [np.concatenate([hem, mirror(hem)[::-1]])]
    canvas.stroke(lines, thread, width=0.28, opacity=0.6, dash=0.7)


def stitch_sleeves(canvas: Canvas, cut: Cut, cloth: Cloth, rise: Number = 2.2) -> None:
    outer, inner = np.array(cut.sleeve[-1]), np.array(cut.under[0])
    up = np.array(cut.sleeve[-2]) - outer
    up = up / np.hypot(*up) * rise
    line = np.array([outer + up, inner + up])
    canvas.stroke(
        both_sides(line), seam_colour(cloth.base), width=0.28, opacity=0.6, dash=0.7
    )


def draw_rib_hem(canvas: Canvas, cut: Cut, rib: Cloth, high: Number) -> None:
    hem = hem_line(cut)
    low = hem * np.array([1, 1.0]) + np.array([0, high])
    low[:, 0] = 50 + (hem[:, 0] - 50) * 0.95
    right = np.concatenate([hem[::-1], low])
    canvas.fill(symmetric(right), rib, radius=1.4, occlusion=0.3, wrinkle=0.5)
