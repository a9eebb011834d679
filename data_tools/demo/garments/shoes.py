"""Boots, pumps, loafers and sandals, seen from the side, toe to the left, drawn panel by panel.

Coordinates are units of `demo.canvas`: the canvas is 100 wide and high, y down.
"""

import numpy as np
from fhn_jax.data_tools.demo.canvas import Canvas
from fhn_jax.data_tools.demo.cloth import Cloth, mix
from fhn_jax.data_tools.demo.garments.parts import (
    BLACK,
    METAL,
    WHITE,
    luma,
    seam_colour,
)
from fhn_jax.data_tools.demo.garments.sneakers import draw_opening, draw_sole
from fhn_jax.data_tools.demo.outlines import Points, arc, chain, curve, points, spline


def draw_chelsea_boots(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Ankle boot with elastic sides, pull tabs and a low heel."""
    draw_opening(
        canvas,
        chain(curve("50,17 60,15.4 74,15.2 84,17.4"), curve("84,21 66,22 50,20")),
        cloth.base,
    )
    tab = points("82.4,19 82.8,11.5 86.6,11.5 86.4,20")
    dark = cloth.plain(mix(cloth.base, BLACK, 0.35))
    canvas.fill(tab, dark, radius=0.8)
    canvas.fold(
        [
            curve("45,44 52,48.5 58,47.5"),
            curve("42,49 50,53 57,52"),
            curve("52,38 57,41.5 62,41"),
        ],
        width=1.8,
        strength=0.4,
    )
    upper = chain(
        curve("7,69 8.6,62.6 16,58 27,54.6 38,49 46,38 49,18.4"),
        curve("49,18.4 66,20.2 85,17.4"),
        curve("85,17.4 86.2,34 85.6,48 88.6,58 88.8,69"),
    )
    canvas.fill(upper, cloth, origin=(0, 6), radius=3.6, depth=0.42, relief=1.3)
    gore = chain(
        curve("58,19.6 60,32 66,45.5"), curve("66,45.5 70.5,45.5 73.6,32 74.6,19.2")
    )
    elastic = cloth.plain(mix(cloth.base, (0.13, 0.12, 0.12), 0.7), "rib")
    canvas.fill(gore, elastic, radius=1.2, relief=-0.5)
    thread = seam_colour(cloth.base)
    welt = curve("8.4,66.6 30,67.2 60,66.8 88.4,65.6")
    canvas.stroke(
        [curve("56.6,20 58.8,33 65.4,47.2 72,46 75.2,33 76,20")],
        thread,
        width=0.3,
        opacity=0.55,
        dash=0.7,
    )
    shine = curve("13,62.8 20,59.8 30,57.6")
    if cloth.weave == "leather":
        canvas.stroke([shine], WHITE, width=1.4, opacity=0.16)
    tan = rng.random() < 0.25
    sole = (0.55, 0.40, 0.26) if tan else (0.14, 0.12, 0.115)
    base = chain(
        curve("5.6,67.6 30,68.4 60,68 90.6,66.8"),
        points("90.2,78.4 69.6,78.6 67.4,73.2"),
        curve("67.4,73.2 40,72.6 16,72.6 6.4,70.4"),
    )
    draw_sole(canvas, base, sole)
    canvas.stroke(
        [welt + np.array([0, 2.4])],
        mix(sole, WHITE, 0.45),
        width=0.3,
        opacity=0.6,
        dash=0.8,
    )


def draw_knee_boots(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Boot with a tall shaft and a block heel."""
    draw_opening(
        canvas,
        chain(curve("52.6,5.4 64,4 80.6,5.6"), curve("80,8.6 66,9.4 53,8")),
        cloth.base,
    )
    canvas.fold(
        [
            curve("48,64 56,68.4 64,67.6"),
            curve("50,59 58,63 66,61"),
            curve("76.6,61 70,65 64,64"),
            curve("54,52 59,54.4 64,53"),
        ],
        width=1.9,
        strength=0.42,
    )
    upper = chain(
        curve("15.2,84.5 16.6,78 24,74 35,71 45,66.4 51,57 52,40 51,22 52.4,6.6"),
        curve("52.4,6.6 66,8.2 81,6.2"),
        curve("81,6.2 82.8,24 79.2,42 77.4,57 79.6,70 80.6,83"),
    )
    canvas.fill(upper, cloth, origin=(0, 2), radius=3.6, depth=0.42, relief=1.3)
    thread = seam_colour(cloth.base)
    seam = curve("67,8 66.6,30 65,50 64,66 60,80")
    canvas.stroke([seam], thread, width=0.35, opacity=0.5)
    zipper = curve("69.6,40 68.4,56 67.6,74")
    if rng.random() < 0.5:
        canvas.stroke([zipper], METAL, width=0.7, opacity=0.9)
        canvas.stroke([zipper], BLACK, width=0.7, dash=0.4, opacity=0.5)
    else:
        strap = chain(
            curve("50.6,58.6 64,61.6 78,58.4"), curve("78.2,61.6 64,65 50.2,61.8")
        )
        canvas.fill(strap, cloth.plain(mix(cloth.base, BLACK, 0.2)), radius=0.8)
        canvas.stroke(
            [points("62,61 66.4,61 66.4,65.4 62,65.4 62,61")], METAL, width=0.8
        )
    sole = (0.14, 0.12, 0.115)
    base = chain(
        curve("14,82.2 36,83 56,80.6 81.6,80.2"),
        points("81,95 69,95 66.8,84.2"),
        curve("66.8,84.2 56,84.6 42,86.8 22,87 14.4,84.8"),
    )
    draw_sole(canvas, base, sole)


def draw_pumps(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """High heel, pointed toe, low-cut top line."""
    high = rng.uniform(0, 7)
    top = 33.0 - high  # of the heel's back
    inner = (0.80, 0.69, 0.56)
    draw_opening(
        canvas,
        chain(
            spline(
                (31, 59.6),
                (44, 57.0),
                (58, 50 - 0.6 * high),
                (72, 40 - high),
                (87, top),
            ),
            spline((87, top + 3), (76, 48), (61, 62), (46, 70), (32.5, 64)),
        ),
        inner,
    )
    heel = chain(
        spline((73.5, 56 - 0.7 * high), (82, 60 - high), (84.4, 72), (84.6, 88)),
        np.array([(88.0, 88.0)]),
        spline((88.0, 88.0), (89.4, 72), (92.0, 58 - high), (92.2, 48 - high)),
    )
    block = rng.random() < 0.4
    if block:
        heel = chain(
            spline((71.5, 58 - 0.8 * high), (76, 66), (77.4, 88)),
            np.array([(89.4, 88.0)]),
            spline((89.4, 88.0), (91.0, 68), (92.2, 48 - high)),
        )
    canvas.fill(heel, cloth.plain(mix(cloth.base, BLACK, 0.08)), radius=1.4, depth=0.4)
    sole = chain(
        spline(
            (5.2, 85.2),
            (16, 87.6),
            (32, 87.6),
            (44, 82.6),
            (58, 70.5),
            (72, 60 - 0.8 * high),
            (91, 56 - high),
        ),
        spline(
            (91, 53 - high),
            (72, 56 - 0.8 * high),
            (56, 68),
            (42, 80),
            (30, 84),
            (12, 83),
        ),
    )
    draw_sole(
        canvas, sole, (0.62, 0.5, 0.38) if rng.random() < 0.6 else (0.13, 0.11, 0.11)
    )
    upper = chain(
        curve("4.4,84 11,78.6 20,71.5 30.4,60.6"),
        spline(
            (30.4, 60.6),
            (37, 67.2),
            (47, 67.4),
            (60, 59.4),
            (74, 46.4 - 0.8 * high),
            (87.2, top),
        ),
        spline((87.2, top), (90.6, top + 1.4), (92.4, 41 - high), (92.6, 55 - high)),
        spline(
            (92.6, 55 - high),
            (76, 57.6 - 0.8 * high),
            (60, 67.4),
            (45, 80.6),
            (32, 85.4),
            (16, 86.2),
            (4.4, 84.0),
        ),
    )
    canvas.fill(upper, cloth, origin=(0, 10), radius=2.4, depth=0.36, relief=1.2)
    if cloth.weave == "leather":
        canvas.stroke(
            [curve("13.5,79.4 20,74.6 27,67.4")], WHITE, width=1.5, opacity=0.22
        )
    line = spline(
        (30.6, 62.2),
        (37.4, 68.6),
        (47.4, 68.8),
        (61, 60.6),
        (75, 47.6 - 0.8 * high),
        (87, top + 1.6),
    )
    canvas.stroke([line], seam_colour(cloth.base), width=0.3, opacity=0.55)
    if rng.random() < 0.3:
        bow = chain(
            curve("29.6,63.5 24.5,58.6 25,66.4 29.6,64.5"),
            curve("29.6,64.5 36,68.5 35.4,61 29.6,63.5"),
        )
        canvas.fill(bow, cloth.plain(cloth.accent), radius=0.9, occlusion=0.4)


def draw_loafers(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Slip-on: raised seam around the toe, strap across, low heel."""
    draw_opening(
        canvas,
        chain(curve("44,47.6 56,45 72,45 88,41.6"), curve("88,46 72,57 52,56")),
        (0.72, 0.58, 0.43),
    )
    upper = chain(
        curve("5.4,70 5.6,64.6 10,60.4 19,57.4 30,53.4 42.6,45.8"),
        curve("42.6,45.8 46.6,46.4 50.4,51.6"),
        curve("50.4,51.6 61,56.2 75,51.4 87.4,42.2"),
        curve("87.4,42.2 90.6,43.4 91.6,54 92.4,62 92.2,70"),
    )
    canvas.fill(upper, cloth, origin=(0, 10), radius=3.0, depth=0.34)
    thread = seam_colour(cloth.base)
    apron = curve("46,60.4 32,61 20,63.6 12.4,64.6 8.6,62.2")
    canvas.stroke([apron + np.array([0.2, 0.8])], BLACK, width=1.1, opacity=0.28)
    canvas.stroke([apron], mix(cloth.base, WHITE, 0.16), width=1.0, opacity=0.8)
    canvas.stroke([apron], thread, width=1.0, opacity=0.6, dash=0.45)
    strap = chain(
        curve("31.4,52.8 36.4,49.6 41.4,46.2"),
        curve("41.4,46.2 49,57 51.2,69"),
        curve("42.4,69 39.6,60 31.4,52.8"),
    )
    band = cloth.plain(mix(cloth.base, BLACK, 0.14))
    canvas.fill(strap, band, radius=1.4, depth=0.2, occlusion=0.4)
    style = rng.random()
    if style < 0.45:
        slot = curve("37.4,53 40.2,53.8 42.4,57")
        canvas.stroke([slot], BLACK, width=1.5, opacity=0.6)
    elif style < 0.8:
        rings = [
            arc((37.6, 52.4), (2.7, 1.9), 0, 360, 20),
            arc((43.4, 59.4), (1.9, 2.7), 0, 360, 20),
            points("39.6,53.9 42.4,57.2"),
        ]
        canvas.stroke(rings, (0.4, 0.3, 0.12), width=1.2, opacity=0.6)
        canvas.stroke(rings, (0.83, 0.67, 0.34), width=0.8)
    else:
        for x, y in ((35.4, 55.0), (39.8, 55.6)):
            tassel = np.array(
                [(x - 0.8, y), (x + 0.8, y), (x + 0.6, y + 6.6), (x - 2.6, y + 6)]
            )
            canvas.fill(tassel, band, radius=0.7, occlusion=0.4)
            canvas.stroke([tassel[:2] + np.array([-0.2, 1.4])], thread, width=0.4)
    collar = curve("51.4,53.6 61,58 75.4,53.2 87.6,44.4")
    canvas.stroke([collar], thread, width=0.3, opacity=0.55, dash=0.7)
    counter = curve("78.6,52.4 81.4,60 81.8,69")
    canvas.stroke([counter], thread, width=0.35, opacity=0.5)
    sole = (0.20, 0.145, 0.11) if luma(cloth.base) < 0.6 else (0.50, 0.38, 0.27)
    base = chain(
        curve("4.2,68.2 30,69.4 60,69.2 93.6,67.8"),
        points("93.2,77.4 72.6,77.6 71.2,73.2"),
        curve("71.2,73.2 40,73.4 16,73.4 4.8,70.8"),
    )
    draw_sole(canvas, base, sole)
    welt = curve("7,70.4 30,71.2 60,71 91,69.8")
    canvas.stroke([welt], mix(sole, WHITE, 0.4), width=0.3, opacity=0.6, dash=0.8)


def draw_sandals(canvas: Canvas, cloth: Cloth, rng: np.random.Generator) -> None:
    """Open: a cork foot bed, two bands over the foot, on most one around the ankle."""
    cork = (0.78, 0.64, 0.47)
    lining = cloth.plain(mix(cloth.base, (0.30, 0.22, 0.15), 0.55))
    ankle = rng.random() < 0.65
    thick = rng.uniform(0, 4)
    thread = seam_colour(cloth.base)

    def panel(outline: Points, made_of: Cloth) -> None:
        canvas.fill(outline, made_of, radius=1.5, depth=0.28, occlusion=0.3)

    front = chain(
        curve("15.4,71 17.6,61.6 24.2,55.6"),
        curve("24.2,55.6 30.5,52.4 38.2,54"),
        curve("38.2,54 37,62 35.6,71.4"),
    )
    back = chain(
        curve("42.6,71.4 44.4,60 49.4,52.2"),
        curve("49.4,52.2 55.5,48.2 63,49.6"),
        curve("63,49.6 62.6,60 61.6,70.8"),
    )
    if ankle:
        far = chain(
            curve("61.6,40.6 76,35.2 90.4,40.6"), curve("90.6,44.6 76,39.6 62,44.8")
        )
        panel(far, lining)
    bed = chain(
        curve("5.6,68.6 10,65.4 22,64.2 40,65.6 60,64.6 84,60.8"),
        curve("84,60.8 92,60.8 94.4,65"),
        curve("94.4,65 80,70.6 50,72.6 20,72.6 5.6,68.6"),
    )
    for outline in (front, back):  # the far ends of the bands, behind the foot bed
        panel(outline + np.array([4.2, -1.6]), lining)
    draw_sole(canvas, bed, cork)
    slab = chain(
        curve("5.2,68.2 12,71.4 30,72.2 60,71 80,68.6 94.6,64.6"),
        spline((94.6, 64.6), (95.6, 70), (94.0, 75.0 + thick)),
        spline(
            (94.0, 75.0 + thick),
            (60, 76.4 + thick),
            (30, 77.2 + thick),
            (10, 75 + thick),
        ),
        spline((10, 75 + thick), (5.4, 72.0), (5.2, 68.2)),
    )
    rubber = rng.random() < 0.5
    draw_sole(canvas, slab, (0.22, 0.19, 0.17) if rubber else mix(cork, BLACK, 0.28))
    canvas.stroke(
        [curve("10,72.6 30,73.6 60,72.4 93.6,67.2")],
        mix(cork, WHITE, 0.2),
        width=0.35,
        opacity=0.5,
        dash=0.8,
    )
    for outline in (front, back):
        panel(outline, cloth)
        centre = outline.mean(axis=0)
        inset = centre + (outline - centre) * 0.86
        canvas.stroke([inset], thread, width=0.28, opacity=0.5, dash=0.7)
    if ankle:
        quarter = chain(
            curve("79.6,69.2 83.6,57 84.4,46.4"), curve("91.4,43.6 93.4,55 93.8,66.4")
        )
        panel(quarter, cloth)
        near = chain(
            curve("61.4,40.2 69,44.6 78,45.8 90.6,40.2"),
            curve("91.4,45 78,51.4 69,50 62,45.4"),
        )
        panel(near, cloth)
    for x, y in [(53.0, 60.0), (26.6, 63.0)] + ([(73, 47.6)] if ankle else []):
        frame = points("-2,-2.3 2,-2.3 2,2.3 -2,2.3 -2,-2.3")
        frame = frame + np.array([x, y])
        canvas.stroke([frame + 0.35], BLACK, width=0.9, opacity=0.3)
        pin = np.array([(x - 2, y), (x + 2.4, y)])
        canvas.stroke([frame, pin], METAL, width=0.8)
