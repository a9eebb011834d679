"""Tops, seen from the front, drawn panel by panel.

Coordinates are units of `data_tools.drawing`: the canvas is 100 wide and high, y down.
"""

from dataclasses import dataclass, replace

import numpy as np
from fhn_jax.data_tools.drawing import (
    Canvas,
    Cloth,
    Colour,
    Points,
    arc,
    chain,
    curve,
    mirror,
    mix,
    offset,
    points,
    ribbon,
    spline,
    symmetric,
)
from fhn_jax.data_tools.garments.parts import (
    BLACK,
    METAL,
    WHITE,
    both_sides,
    luma,
    seam_colour,
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

    neck: float = 9.0
    neck_y: float = 12.0
    depth: float = 7.5
    shoulder: float = 23.0
    shoulder_y: float = 17.0
    chest: float = 21.5
    armpit_y: float = 37.0
    waist: float = 20.6
    waist_y: float = 62.0
    hem: float = 21.6
    hem_y: float = 90.0
    drop: float = 1.2
    sleeve: tuple[tuple[float, float], ...] = ((81.5, 25), (89.5, 38.5))
    under: tuple[tuple[float, float], ...] = ((78.5, 45),)

    @property
    def neck_point(self) -> tuple[float, float]:
        return 50 + self.neck, self.neck_y

    @property
    def shoulder_point(self) -> tuple[float, float]:
        return 50 + self.shoulder, self.shoulder_y

    @property
    def armpit(self) -> tuple[float, float]:
        return 50 + self.chest, self.armpit_y


LONG_SLEEVE = ((79.5, 26), (84.5, 47), (89.0, 69), (91.0, 84))
LONG_UNDER = ((83.0, 85.6), (79.5, 68), (75.2, 50))


def _vary(cut: Cut, rng: np.random.Generator) -> Cut:
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


def _side(cut: Cut) -> Points:
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


def _hem(cut: Cut) -> Points:
    """The hem from the right corner to the middle."""
    return spline(
        (50 + cut.hem, cut.hem_y),
        (50 + 0.55 * cut.hem, cut.hem_y + 0.8 * cut.drop),
        (50, cut.hem_y + cut.drop),
    )


def _sleeves(canvas: Canvas, cut: Cut, cloth: Cloth) -> None:
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


def _cuffs(canvas: Canvas, cut: Cut, cloth: Cloth, length: float) -> None:
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


def _inside(canvas: Canvas, cut: Cut, front: Points, colour: Colour) -> None:
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


def _body_folds(canvas: Canvas, cut: Cut, rng: np.random.Generator) -> None:
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


def _sleeve_folds(canvas: Canvas, cut: Cut, rng: np.random.Generator) -> None:
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


def _top_base(
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
    _body_folds(canvas, cut, rng)
    if long:
        _sleeve_folds(canvas, cut, rng)
    if sleeves:
        _sleeves(canvas, cut, cloth)
    front = _neckline(cut, neck)
    _inside(canvas, cut, front, cloth.base)
    body = symmetric(chain(front, _side(cut), _hem(cut)))
    canvas.fill(body, cloth, radius=3.0, depth=0.26)
    return front


def _collar_band(
    canvas: Canvas, front: Points, cut: Cut, cloth: Cloth, width: float
) -> None:
    """A knitted band around the neck opening."""
    outer = offset(front, width)
    whole = np.concatenate([mirror(front)[::-1], front, outer[::-1], mirror(outer)])
    canvas.fill(whole, cloth, radius=0.9, occlusion=0.2)


def _hem_stitch(canvas: Canvas, cut: Cut, cloth: Cloth, rise: float = 2.2) -> None:
    hem = _hem(cut) - np.array([0, rise])
    thread = seam_colour(cloth.base)
    lines = [np.concatenate([hem, mirror(hem)[::-1]])]
    canvas.stroke(lines, thread, width=0.28, opacity=0.6, dash=0.7)


def _sleeve_stitch(canvas: Canvas, cut: Cut, cloth: Cloth, rise: float = 2.2) -> None:
    outer, inner = np.array(cut.sleeve[-1]), np.array(cut.under[0])
    up = np.array(cut.sleeve[-2]) - outer
    up = up / np.hypot(*up) * rise
    line = np.array([outer + up, inner + up])
    canvas.stroke(
        both_sides(line), seam_colour(cloth.base), width=0.28, opacity=0.6, dash=0.7
    )


def draw_tshirt(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Short sleeves, ribbed round or V neck."""
    neck = "v" if rng.random() < 0.25 else "crew"
    cut = _vary(Cut(depth=13 if neck == "v" else 7.5), rng)
    front = _top_base(canvas, cut, cloth, rng, neck=neck)
    band = mix(cloth.base, BLACK, 0.06)
    _collar_band(canvas, front, cut, cloth.plain(band, "rib"), 1.9)
    _hem_stitch(canvas, cut, cloth)
    _sleeve_stitch(canvas, cut, cloth)


def draw_tank(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """No sleeves, deep arm holes, narrow shoulders, bound edges."""
    cut = _vary(
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
    _body_folds(canvas, cut, rng)
    _inside(canvas, cut, front, cloth.base)
    hole = spline(cut.shoulder_point, (50 + 14.2, 22), (50 + 16.2, 31.5), cut.armpit)
    side = spline(cut.armpit, (50 + cut.waist, cut.waist_y), (50 + cut.hem, cut.hem_y))
    body = symmetric(
        chain(front, spline(cut.neck_point, cut.shoulder_point), hole, side, _hem(cut))
    )
    canvas.fill(body, cloth, radius=3.0, depth=0.26)
    trim = cloth.plain(mix(cloth.base, BLACK, 0.10))
    _collar_band(canvas, front, cut, trim, 1.4)
    for line in both_sides(hole):
        width = 1.3 if line[0, 0] > 50 else -1.3
        canvas.fill(ribbon(line, width), trim, radius=0.7, occlusion=0.1)
    _hem_stitch(canvas, cut, cloth)


def _collar(
    canvas: Canvas, cut: Cut, cloth: Cloth, *, spread: float, length: float
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
    top: float,
    bottom: float,
    buttons: int,
    colour: Colour,
    half: float = 1.7,
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


def _pocket(
    canvas: Canvas, cloth: Cloth, x: float, y: float, wide: float, high: float
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
    cut = _vary(Cut(depth=6.5), rng)
    _top_base(canvas, cut, cloth, rng)
    trim = cloth.plain(mix(cloth.base, BLACK, 0.08), "rib")
    if cloth.pattern == "plain" and rng.random() < 0.4:
        trim = cloth.plain(cloth.accent, "rib")
    _cuffs(canvas, cut, trim, 2.6)
    pearl = (0.95, 0.94, 0.91) if luma(cloth.base) < 0.8 else (0.55, 0.5, 0.45)
    top = cut.neck_y + cut.depth - 1.5
    _placket(canvas, cloth.plain(), top, top + 17, int(rng.integers(2, 4)), pearl)
    _collar(canvas, cut, trim, spread=7.5, length=11)
    _hem_stitch(canvas, cut, cloth)


def draw_shirt(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Long sleeves with cuffs, pointed collar, buttons down the front, curved hem."""
    cut = _vary(
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
    _top_base(canvas, cut, cloth, rng)
    _cuffs(canvas, cut, replace(cloth, phase=cloth.phase + 0.3), 5.2)
    light = luma(cloth.base) > 0.75
    button = (0.80, 0.78, 0.74) if light else (0.94, 0.93, 0.90)
    top = cut.neck_y + cut.depth - 1
    _placket(canvas, cloth, top, cut.hem_y + cut.drop - 0.4, 7, button)
    if rng.random() < 0.6:
        _pocket(canvas, cloth, 55.5, 37, 10.5, 12)
    _collar(
        canvas,
        cut,
        cloth.plain() if cloth.pattern == "floral" else cloth,
        spread=8.2,
        length=13.5,
    )
    hem = _hem(cut) - np.array([0, 1.3])
    canvas.stroke(
        both_sides(hem), seam_colour(cloth.base), width=0.25, opacity=0.5, dash=0.6
    )
    canvas.buttons([(84.6, 82.5), (15.4, 82.5)], button, 0.8)


def draw_sweater(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Knitted, long sleeves, ribbed hem and cuffs; round neck or roll neck."""
    cut = _vary(
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
    front = _top_base(canvas, cut, cloth, rng)
    if cloth.pattern == "plain" and rng.random() < 0.5:
        _cables(canvas, cut, cloth)
    rib = cloth.plain(mix(cloth.base, BLACK, 0.05), "rib")
    _cuffs(canvas, cut, rib, 5.5)
    _waistband_rib(canvas, cut, rib, 6.5)
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
        _collar_band(canvas, front, cut, rib, 2.9)


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


def _waistband_rib(canvas: Canvas, cut: Cut, rib: Cloth, high: float) -> None:
    hem = _hem(cut)
    low = hem * np.array([1, 1.0]) + np.array([0, high])
    low[:, 0] = 50 + (hem[:, 0] - 50) * 0.95
    right = np.concatenate([hem[::-1], low])
    canvas.fill(symmetric(right), rib, radius=1.4, occlusion=0.3, wrinkle=0.5)


def draw_cardigan(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Knitted, open V neck, a band with buttons, two pockets."""
    cut = _vary(
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
    front = _top_base(canvas, cut, cloth, rng, neck="v")
    rib = cloth.plain(mix(cloth.base, BLACK, 0.10), "rib")
    if cloth.pattern == "plain" and rng.random() < 0.4:
        rib = cloth.plain(cloth.accent, "rib")
    _cuffs(canvas, cut, rib, 5)
    _waistband_rib(canvas, cut, rib, 5.5)
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
            _pocket(canvas, cloth, x, 65, 9.5, 12)


def draw_hoodie(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Hood, draw string, kangaroo pocket, ribbed hem and cuffs; zip on some."""
    cut = _vary(
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
    _top_base(canvas, cut, cloth, rng)
    rib = cloth.plain(mix(cloth.base, BLACK, 0.07), "rib")
    _cuffs(canvas, cut, rib, 5)
    _waistband_rib(canvas, cut, rib, 5.5)
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


def _jacket(
    canvas: Canvas,
    cut: Cut,
    cloth: Cloth,
    rng: np.random.Generator,
    *,
    point: float,
    lining: Colour,
    round_front: bool,
    overlap: float,
) -> None:
    """Sleeves, lining and two overlapping fronts that meet at height `point`."""
    _body_folds(canvas, cut, rng)
    _sleeve_folds(canvas, cut, rng)
    _sleeves(canvas, cut, cloth)
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
        _side(cut),
        spline((50 + cut.hem, cut.hem_y), (50 + 0.62 * cut.hem, low)),
        corner,
        np.array([(50 - overlap, point + 3)]),
    )
    for outline in (mirror(front), front):
        canvas.fill(outline, cloth, radius=2.6, depth=0.28)


def _lapels(
    canvas: Canvas, cut: Cut, cloth: Cloth, point: float, wide: float, overlap: float
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


def _flap(canvas: Canvas, cloth: Cloth, x: float, y: float, wide: float) -> None:
    """A pocket flap on the right, and its mirror image."""
    outline = np.array(
        [(x, y), (x + wide, y - 0.8), (x + wide + 0.3, y + 3.4), (x + 0.3, y + 4.4)]
    )
    for side in (outline, mirror(outline)):
        canvas.fill(side, cloth, radius=0.8, depth=0.15, occlusion=0.5)


def draw_blazer(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Tailored jacket: notched lapels, one or two buttons, flap pockets."""
    cut = _vary(
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
    cut = _vary(
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
    _cuffs(canvas, cuff, strap, 2.2)
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
