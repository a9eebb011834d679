"""Trousers and shorts, seen from the front, drawn panel by panel.

Coordinates are units of `demo.canvas`: the canvas is 100 wide and high, y down.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from fhn_jax.data_tools.demo.canvas import Canvas
from fhn_jax.data_tools.demo.cloth import Cloth, Colour, Plane, mix
from fhn_jax.data_tools.demo.garments.parts import (
    BLACK,
    METAL,
    WHITE,
    both_sides,
    luma,
    seam_colour,
)
from fhn_jax.data_tools.demo.outlines import (
    Number,
    Points,
    chain,
    mirror,
    offset,
    ribbon,
    spline,
    symmetric,
)


@dataclass(frozen=True)
class Legs:
    """Measures of trousers; x from the centre line, heights are y.

    Attributes:
      waist, waist_y: half width and height of the waist band's upper corner.
      band: height of the waist band.
      hip, hip_y: widest part.
      crotch_y: where the legs part.
      knee: (inner, outer) edge of the leg.
      knee_y: height of the knee.
      ankle: (inner, outer) edge at the hem.
      ankle_y: height of the hem.
    """

    waist: Number = 15.0
    waist_y: Number = 6.0
    band: Number = 4.2
    hip: Number = 19.2
    hip_y: Number = 25.0
    crotch_y: Number = 37.0
    knee: tuple[Number, Number] = (4.6, 17.2)
    knee_y: Number = 62.0
    ankle: tuple[Number, Number] = (6.2, 16.2)
    ankle_y: Number = 94.5

    def leg(self) -> Points:
        """Outline of the right leg below the waist band."""
        top = self.waist_y + self.band
        outer = spline(
            (50 + self.waist + 0.4, top),
            (50 + self.hip - 0.6, 0.6 * self.hip_y + 0.4 * top),
            (50 + self.hip, self.hip_y + 3),
            (50 + self.knee[1], self.knee_y),
            (50 + self.ankle[1], self.ankle_y),
        )
        hem = spline(
            (50 + self.ankle[1], self.ankle_y),
            (50 + sum(self.ankle) / 2, self.ankle_y + 0.8),
            (50 + self.ankle[0], self.ankle_y),
        )
        inner = spline(
            (50 + self.ankle[0], self.ankle_y),
            (50 + self.knee[0], self.knee_y),
            (50 + 0.35 * self.knee[0], self.crotch_y + 6),
            (50.0, self.crotch_y),
        )
        return chain(outer, hem, inner, np.array([(50.0, top + 0.8)]))

    def crease(self) -> Points:
        """The middle of the right leg, from the hip to the hem."""
        return spline(
            (50 + 0.62 * self.waist, self.waist_y + self.band + 2),
            (50 + 0.54 * self.hip, self.crotch_y),
            (50 + sum(self.knee) / 2, self.knee_y),
            (50 + sum(self.ankle) / 2, self.ankle_y),
        )


def _resize(legs: Legs, rng: np.random.Generator) -> Legs:
    wide = rng.uniform(0.93, 1.09)
    end = rng.uniform(0.95, 1.0)
    return replace(
        legs,
        knee=(legs.knee[0], legs.knee[0] + (legs.knee[1] - legs.knee[0]) * wide),
        ankle=(legs.ankle[0], legs.ankle[0] + (legs.ankle[1] - legs.ankle[0]) * wide),
        ankle_y=legs.crotch_y + (legs.ankle_y - legs.crotch_y) * end,
    )


def _leg_folds(canvas: Canvas, legs: Legs, rng: np.random.Generator) -> None:
    """Whiskers at the crotch, creases at the knees, breaks above the hem."""
    jitter = rng.uniform(-1.2, 1.2, 12)
    y = legs.crotch_y
    whiskers = [
        spline(
            (50 + 1.6, y - 2 + 4.2 * k),
            (50 + 0.42 * legs.hip, y - 5 + 3.4 * k + jitter[k]),
            (50 + 0.78 * legs.hip, y - 9.5 + 3.0 * k + jitter[k + 3]),
        )
        for k in range(3)
    ]
    canvas.fold(both_sides(*whiskers), width=1.9, strength=0.26 * rng.uniform(0.7, 1.2))
    if legs.ankle_y < 80:
        return
    inner, outer = legs.knee
    knees = [
        spline(
            (50 + inner + 0.6, legs.knee_y + d),
            (50 + 0.5 * (inner + outer), legs.knee_y + d + 2.2),
            (50 + inner + (outer - inner) * reach, legs.knee_y + d + 0.4),
        )
        for d, reach in ((-5 + jitter[6], 0.7), (0 + jitter[7], 0.85), (5, 0.6))
    ]
    canvas.fold(knees, width=1.8, strength=0.22)
    canvas.fold([mirror(k) + np.array([0, jitter[8]]) for k in knees], 1.8, 0.22)
    low = legs.ankle_y
    breaks = [
        spline(
            (50 + legs.ankle[1] - 0.8, low - 5 - 4.5 * k),
            (50 + sum(legs.ankle) / 2, low - 3.6 - 4.5 * k + 0.5 * jitter[9 + k]),
            (50 + legs.ankle[0] + 2.5, low - 5.4 - 4.5 * k),
        )
        for k in range(2)
    ]
    canvas.fold(both_sides(*breaks), width=1.7, strength=0.24)


def _trousers(
    canvas: Canvas,
    legs: Legs,
    cloth: Cloth,
    rng: np.random.Generator,
    shade: Callable[[Plane, Plane], Plane] | None = None,
) -> None:
    """The inside of the waist and both legs."""
    _leg_folds(canvas, legs, rng)
    y = legs.waist_y
    inside = symmetric(
        chain(
            spline(
                (50, y - 0.4), (50 + 0.6 * legs.waist, y - 0.6), (50 + legs.waist, y)
            ),
            np.array([(50 + legs.waist, y + 2), (50.0, y + 4.5)]),
        )
    )
    canvas.fill(inside, Cloth(mix(cloth.base, BLACK, 0.45), BLACK), wrinkle=0)
    outline = legs.leg()
    for side in (outline, mirror(outline)):
        canvas.fill(side, cloth, radius=2.6, depth=0.32, occlusion=0.2, shade=shade)


def _waistband(canvas: Canvas, legs: Legs, cloth: Cloth, loops: bool = True) -> None:
    """The band around the waist, dipping in front, with belt loops."""
    y, half, high = legs.waist_y, legs.waist, legs.band
    upper = spline((50, y + 2.0), (50 + 0.55 * half, y + 1.4), (50 + half, y))
    lower = spline(
        (50 + half + 0.5, y + high),
        (50 + 0.55 * half, y + high + 1.5),
        (50, y + high + 2.1),
    )
    canvas.fill(
        symmetric(chain(upper, lower)),
        cloth,
        radius=1.1,
        depth=0.2,
        occlusion=0.3,
        wrinkle=0.5,
    )
    if loops:
        for x in (0.42 * half, 0.86 * half):
            top = y + 1.4 - 1.4 * (x / half) ** 2
            loop = np.array(
                [
                    (50 + x, top),
                    (51.5 + x, top),
                    (51.5 + x, top + high + 0.8),
                    (50 + x, top + high + 0.8),
                ]
            )
            for side in (loop, mirror(loop)):
                canvas.fill(side, cloth, radius=0.4, occlusion=0.4)


def _fly(canvas: Canvas, legs: Legs, thread: Colour, opacity: Number) -> None:
    """Centre seam and the curved stitching of the fly."""
    top = legs.waist_y + legs.band + 2
    seam = np.array([(50, top), (50, legs.crotch_y)])
    canvas.stroke([seam], BLACK, width=0.35, opacity=0.35)
    low = legs.crotch_y - 7
    stitch = spline((53.6, top), (53.5, low - 4), (50.4, low))
    canvas.stroke([stitch], thread, width=0.35, opacity=opacity, dash=0.7)


def draw_jeans(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Denim with faded thighs, five pockets, contrast stitching and rivets."""
    legs = _resize(Legs(), rng)
    fade = rng.uniform(0.04, 0.34)

    def faded(x: Plane, y: Plane) -> Plane:
        thigh = np.exp(-(((np.abs(x - 50) - 10.5) / 4.6) ** 2 + ((y - 42) / 17) ** 2))
        shin = np.exp(-(((np.abs(x - 50) - 11) / 4.0) ** 2 + ((y - 66) / 11) ** 2))
        return fade * (thigh + 0.6 * shin)

    _trousers(canvas, legs, cloth, rng, faded)
    gold = (0.85, 0.62, 0.28) if luma(cloth.base) < 0.7 else (0.55, 0.5, 0.42)
    top = legs.waist_y + legs.band
    pocket = spline((56.2, top + 1.4), (58.2, top + 6.2), (66.5, top + 8.0))
    lining = chain(pocket, np.array([(65.8, top + 0.4)]))
    for side in (lining, mirror(lining)):
        canvas.fill(
            side, cloth.plain(mix(cloth.base, BLACK, 0.18)), radius=1.0, occlusion=0.0
        )
    canvas.stroke(both_sides(pocket), BLACK, width=0.4, opacity=0.4)
    canvas.stroke(
        both_sides(offset(pocket, 0.8)), gold, width=0.35, opacity=0.8, dash=0.7
    )
    coin = np.array([(60.2, top + 4.2), (64.4, top + 4.4)])
    canvas.stroke([coin], gold, width=0.35, opacity=0.75, dash=0.7)
    _waistband(canvas, legs, cloth)
    band = spline(
        (50 - legs.waist, legs.waist_y + 0.9),
        (50, legs.waist_y + 2.9),
        (50 + legs.waist, legs.waist_y + 0.9),
    )
    canvas.stroke(
        [band, band + np.array([0, 2.9])], gold, width=0.3, opacity=0.7, dash=0.7
    )
    _fly(canvas, legs, gold, 0.85)
    outer = legs.leg()[4:40] - np.array([0.9, 0])
    canvas.stroke(both_sides(outer), gold, width=0.28, opacity=0.45, dash=0.7)
    hem = spline(
        (50 + legs.ankle[1] - 0.4, legs.ankle_y - 1.8),
        (50 + legs.ankle[0] + 0.4, legs.ankle_y - 1.8),
    )
    canvas.stroke(both_sides(hem), gold, width=0.35, opacity=0.8, dash=0.7)
    canvas.buttons([(50.2, legs.waist_y + 4.1)], (0.72, 0.55, 0.34), 1.15)
    rivets = [(56.8, top + 2.2), (66.0, top + 7.6)]
    canvas.buttons(
        [*rivets, *((100 - x, y) for x, y in rivets)], (0.75, 0.55, 0.35), 0.5
    )


def draw_chinos(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Straight cotton trousers: slanted pockets, soft crease; turn-ups on some."""
    legs = _resize(Legs(knee=(4.4, 17.6), ankle=(6.0, 16.8)), rng)
    canvas.fold(both_sides(legs.crease()[6:]), width=1.4, strength=0.20)
    _trousers(canvas, legs, cloth, rng)
    thread = seam_colour(cloth.base)
    top = legs.waist_y + legs.band
    pocket = np.array([(50 + 0.66 * legs.waist, top + 1.2), (67.6, top + 12)])
    canvas.stroke(both_sides(pocket), thread, width=0.45, opacity=0.75)
    canvas.stroke(
        both_sides(pocket - np.array([0.9, 0])),
        thread,
        width=0.25,
        opacity=0.5,
        dash=0.7,
    )
    _waistband(canvas, legs, cloth)
    _fly(canvas, legs, thread, 0.6)
    canvas.buttons(
        [(50.2, legs.waist_y + 4.1)], mix(cloth.base, (0.25, 0.17, 0.1), 0.7), 1.0
    )
    if rng.random() < 0.4:
        for side in (np.array, mirror):
            turn = side(
                np.array(
                    [
                        (50 + legs.ankle[0] - 0.5, legs.ankle_y - 4.2),
                        (50 + legs.ankle[1] + 0.5, legs.ankle_y - 4.2),
                        (50 + legs.ankle[1] + 0.3, legs.ankle_y + 0.8),
                        (50 + legs.ankle[0] - 0.3, legs.ankle_y + 0.8),
                    ]
                )
            )
            canvas.fill(turn, cloth, radius=1.2, occlusion=0.4)


def draw_wide_trousers(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """High waist, pleats, legs that widen to the hem."""
    legs = _resize(
        Legs(
            waist=13.0,
            waist_y=4.5,
            band=4.6,
            hip=19.0,
            hip_y=24,
            crotch_y=37,
            knee=(2.2, 22.5),
            knee_y=62,
            ankle=(2.4, 26.8),
            ankle_y=95,
        ),
        rng,
    )
    crease = legs.crease()
    drape = [
        spline(
            (50 + s * 0.55 * legs.hip, 30),
            (50 + s * legs.knee[1], 62),
            (50 + s * legs.ankle[1], 94),
        )
        for s in (0.3, 0.82)
    ]
    canvas.fold(both_sides(*drape), width=4.0, strength=0.30)
    canvas.fold(both_sides(crease), width=1.5, strength=0.34)
    _trousers(canvas, legs, cloth, rng)
    thread = seam_colour(cloth.base)
    top = legs.waist_y + legs.band
    pleat = np.array(
        [(50 + 0.38 * legs.waist, top + 1.6), (50 + 0.44 * legs.waist, top + 10)]
    )
    canvas.stroke(both_sides(pleat), thread, width=0.45, opacity=0.6)
    pocket = np.array([(50 + 0.82 * legs.waist, top + 1.0), (66.0, top + 11)])
    canvas.stroke(both_sides(pocket), thread, width=0.4, opacity=0.6)
    _waistband(canvas, legs, cloth, loops=rng.random() < 0.4)
    seam = np.array([(50, top + 1.6), (50, legs.crotch_y)])
    canvas.stroke([seam], BLACK, width=0.35, opacity=0.35)


def draw_joggers(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Sweat trousers: gathered waist with a draw string, ribbed ankles; side stripe."""
    legs = _resize(
        Legs(
            waist=14.5,
            band=5.0,
            hip=19.8,
            knee=(3.8, 18.0),
            ankle=(7.0, 14.6),
            ankle_y=89,
            knee_y=60,
        ),
        rng,
    )
    _trousers(canvas, legs, cloth, rng)
    if cloth.pattern == "plain" and rng.random() < 0.5:
        stripe = offset(legs.leg()[2:37], 1.2)
        for side in (ribbon(stripe, 2.6), mirror(ribbon(stripe, 2.6))):
            canvas.fill(side, cloth.plain(cloth.accent), radius=0.6, occlusion=0)
    thread = seam_colour(cloth.base)
    rib = cloth.plain(mix(cloth.base, BLACK, 0.08), "rib")
    low = legs.ankle_y
    cuff = np.array(
        [
            (50 + legs.ankle[0] - 0.2, low),
            (50 + legs.ankle[1] + 0.2, low),
            (50 + legs.ankle[1] - 0.6, low + 5.5),
            (50 + legs.ankle[0] + 0.6, low + 5.5),
        ]
    )
    for side in (cuff, mirror(cuff)):
        canvas.fill(side, rib, radius=1.2, occlusion=0.3)
    top = legs.waist_y + legs.band
    pocket = spline(
        (50 + 0.72 * legs.waist, top + 1.4), (64.6, top + 8), (68.6, top + 13)
    )
    canvas.stroke(both_sides(pocket), thread, width=0.5, opacity=0.7)
    _waistband(canvas, legs, rib, loops=False)
    cord = mix(cloth.base, WHITE, 0.8) if luma(cloth.base) < 0.7 else (0.45, 0.46, 0.5)
    strings = [
        spline((51.6, legs.waist_y + 4.6), (53.4, top + 5), (52.6, top + 11)),
        spline((48.4, legs.waist_y + 4.6), (46.8, top + 4), (47.6, top + 9.5)),
    ]
    canvas.stroke([s + 0.4 for s in strings], BLACK, width=0.9, opacity=0.2)
    canvas.stroke(strings, cord, width=0.85)
    canvas.stroke([s[-3:] for s in strings], METAL, width=1.1)


def draw_shorts(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Short legs, slanted pockets, belt loops."""
    legs = _resize(
        Legs(
            waist=20.0,
            waist_y=19,
            band=5.4,
            hip=25.6,
            hip_y=42,
            crotch_y=56,
            knee=(2.6, 27.6),
            knee_y=67,
            ankle=(3.2, 28.6),
            ankle_y=79,
        ),
        rng,
    )
    _trousers(canvas, legs, cloth, rng)
    thread = seam_colour(cloth.base)
    top = legs.waist_y + legs.band
    pocket = np.array([(50 + 0.66 * legs.waist, top + 1.4), (74.2, top + 15)])
    canvas.stroke(both_sides(pocket), thread, width=0.5, opacity=0.75)
    canvas.stroke(
        both_sides(pocket - np.array([1.1, 0])),
        thread,
        width=0.28,
        opacity=0.5,
        dash=0.8,
    )
    _waistband(canvas, legs, cloth)
    _fly(canvas, legs, thread, 0.6)
    canvas.buttons(
        [(50.2, legs.waist_y + 4.9)], mix(cloth.base, (0.25, 0.17, 0.1), 0.7), 1.2
    )
    hem = np.array(
        [
            (50 + legs.ankle[1] - 0.3, legs.ankle_y - 2.8),
            (50 + legs.ankle[0] + 0.3, legs.ankle_y - 2.8),
        ]
    )
    canvas.stroke(both_sides(hem), thread, width=0.3, opacity=0.6, dash=0.8)
