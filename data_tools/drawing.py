"""A small drawing engine for cloth: smooth outlines, patterned panels, soft light.

A garment is a stack of *panels* on a `Canvas`. A panel is an outline filled with a
`Cloth` (colour, pattern, weave), darkened towards its edges and lit from the upper left,
so that it looks sewn from fabric instead of cut from paper. Outlines are drawn at
`OVERSAMPLE` times the final size and averaged down; patterns and light are computed at
the final size, with soft edges of their own.

Lengths are in *units*: the canvas is 100 units wide and high, x to the right, y down.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real
from PIL import Image, ImageDraw, ImageFilter

from fhn_jax.errors import InputError

SIZE = 291  # pixels, the image size of Polyvore-U
UNIT = SIZE / 100  # pixels per unit
OVERSAMPLE = 3
NOISE = 512  # pixels, side of the tiles of noise

Point = tuple[float, float] | Real[np.ndarray, "2"]  # x, y
Points = Real[np.ndarray, "_ 2"]
Plane = Float[np.ndarray, "_ _"]
Colour = tuple[float, float, float]

PATTERNS = (
    "plain",
    "striped",
    "pinstriped",
    "checked",
    "plaid",
    "dotted",
    "floral",
    "colour-block",
)
WEAVES = ("smooth", "knit", "denim", "wool", "leather", "rib")


# ---------------------------------------------------------------- outlines


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
    centre: tuple[float, float],
    radius: tuple[float, float],
    start: float,
    end: float,
    steps: int = 24,
) -> Points:
    """Part of an ellipse; angles in degrees, 0 to the right, 90 down."""
    angle = np.radians(np.linspace(start, end, steps))
    return np.stack(
        [centre[0] + radius[0] * np.cos(angle), centre[1] + radius[1] * np.sin(angle)],
        axis=1,
    )


def offset(points: Points, width: float) -> Points:
    """An open curve moved sideways by `width` units, to the right of its direction."""
    direction = np.gradient(points, axis=0)
    length = np.maximum(np.hypot(direction[:, 0], direction[:, 1]), 1e-9)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1) / length[:, None]
    return points + width * normal


def ribbon(points: Points, width: float) -> Points:
    """The closed outline of a band of `width` units to the right of an open curve."""
    return np.concatenate([points, offset(points, width)[::-1]])


# ------------------------------------------------------------------- cloth


@functools.lru_cache(maxsize=1)
def noise() -> dict[str, Plane]:
    """Tiles of fixed, seamless noise with mean 0 and variance 1, float32.

    `soft` varies over a tenth of the canvas, `streak` is drawn out vertically as hanging
    cloth is, `grain` varies from pixel to pixel.
    """
    rng = np.random.default_rng(20190618)
    frequency = np.fft.fftfreq(NOISE)
    fx, fy = frequency[None, :], frequency[:, None]
    tiles = {}
    for name, (wide, high) in {
        "soft": (22.0, 22.0),
        "streak": (7.0, 42.0),
        "grain": (0.7, 0.7),
    }.items():
        spectrum = np.exp(-2 * (np.pi**2) * ((fx * wide) ** 2 + (fy * high) ** 2) / 2)
        white = np.fft.fft2(rng.standard_normal((NOISE, NOISE)))
        tile = np.fft.ifft2(white * spectrum).real
        tiles[name] = ((tile - tile.mean()) / tile.std()).astype(np.float32)
    return tiles


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with `share` of `b`."""
    return tuple(float(p + (q - p) * share) for p, q in zip(a, b, strict=True))


def _pulse(t: Plane, duty: float, soft: float) -> Plane:
    """1 on the first `duty` of every period of 1, with edges `soft` wide; else 0."""
    distance = np.abs((t - duty / 2 + 0.5) % 1 - 0.5)
    return np.clip((duty / 2 - distance) / soft + 0.5, 0, 1)


@dataclass(frozen=True)
class Cloth:
    """What a panel is made of.

    Attributes:
      base: main colour, sRGB in [0, 1].
      accent: colour of the pattern.
      pattern: one of `PATTERNS`.
      weave: one of `WEAVES`; its fine structure and how it takes the light.
      period: units between repeats of the pattern.
      phase: where the pattern begins, in periods.
      seed: of the flowers.
    """

    base: Colour
    accent: Colour
    pattern: str = "plain"
    weave: str = "smooth"
    period: float = 8.0
    phase: float = 0.0
    seed: int = 0

    def __post_init__(self):
        if self.pattern not in PATTERNS:
            raise InputError(f"pattern={self.pattern!r}: expected one of {PATTERNS}")
        if self.weave not in WEAVES:
            raise InputError(f"weave={self.weave!r}: expected one of {WEAVES}")

    def plain(self, colour: Colour | None = None, weave: str | None = None) -> "Cloth":
        """The same cloth without pattern, perhaps in another colour or weave."""
        return Cloth(
            self.base if colour is None else colour,
            self.accent,
            weave=self.weave if weave is None else weave,
        )

    def paint(
        self, x: Plane, y: Plane, turn: float, origin: tuple[float, float]
    ) -> Float[np.ndarray, "3 _ _"]:
        """Colours at positions x, y (units); `turn` and `origin` as in `Canvas.fill`."""
        if self.pattern == "plain":
            rgb = np.asarray(self.base, dtype=np.float32)[:, None, None]
            return np.broadcast_to(rgb, (3, *x.shape))
        cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        dx, dy = x - origin[0], y - origin[1]
        return _PATTERNS[self.pattern](self, dx * cos + dy * sin, dy * cos - dx * sin)


def _blend(base: Colour, layers: Sequence[tuple[Colour, Plane]]) -> np.ndarray:
    """`base` under layers of (colour, opacity)."""
    shape = np.broadcast_shapes(*(opacity.shape for _, opacity in layers))
    out = np.empty((3, *shape), dtype=np.float32)
    for channel in range(3):
        value = np.float32(base[channel])
        for colour, opacity in layers:
            value = value + (np.float32(colour[channel]) - value) * opacity
        out[channel] = value
    return out


def _striped(cloth: Cloth, x: Plane, y: Plane) -> np.ndarray:
    stripe = _pulse(y / cloth.period + cloth.phase, 0.42, 0.4 / cloth.period)
    return _blend(cloth.base, [(cloth.accent, stripe)])


def _pinstriped(cloth: Cloth, x: Plane, y: Plane) -> np.ndarray:
    stripe = _pulse(x / cloth.period + 0.5, 0.28, 0.4 / cloth.period)
    return _blend(cloth.base, [(cloth.accent, stripe)])


def _checked(cloth: Cloth, x: Plane, y: Plane) -> np.ndarray:
    soft = 0.4 / cloth.period
    across = _pulse(x / cloth.period + 0.25, 0.5, soft)
    down = _pulse(y / cloth.period + cloth.phase, 0.5, soft)
    return _blend(cloth.base, [(cloth.accent, 0.5 * (across + down))])


def _plaid(cloth: Cloth, x: Plane, y: Plane) -> np.ndarray:
    u, v = x / (2 * cloth.period), y / (2 * cloth.period) + cloth.phase
    soft = 0.2 / cloth.period
    layers = [
        (cloth.accent, 0.55 * _pulse(t, 0.45, soft) * np.ones_like(x + y))
        for t in (u + 0.22, v)
    ]
    bright = sum(cloth.base) + sum(cloth.accent) < 2.6
    thread = (0.96, 0.93, 0.86) if bright else mix(cloth.accent, (0, 0, 0), 0.45)
    layers += [(thread, 0.6 * _pulse(t, 0.075, soft)) for t in (u + 0.5, v + 0.28)]
    return _blend(cloth.base, layers)


def _dotted(cloth: Cloth, x: Plane, y: Plane) -> np.ndarray:
    # Staggered rows: the nearer of two square lattices, half a period apart.
    u, v = x / cloth.period, y / cloth.period + cloth.phase
    distance = np.minimum(
        np.hypot((u + 0.5) % 1 - 0.5, (v + 0.5) % 1 - 0.5),
        np.hypot(u % 1 - 0.5, v % 1 - 0.5),
    )
    dot = np.clip((0.23 - distance) * cloth.period / 0.35 + 0.5, 0, 1)
    return _blend(cloth.base, [(cloth.accent, dot)])


def _floral(cloth: Cloth, x: Plane, y: Plane) -> np.ndarray:
    table = np.random.default_rng([7, cloth.seed]).random((16, 16, 4))
    table = table.astype(np.float32)
    u, v = x / cloth.period, y / cloth.period + cloth.phase
    v = v + 0.5 * (np.floor(u) % 2)  # columns staggered
    i, j = np.floor(u).astype(np.int32) % 16, np.floor(v).astype(np.int32) % 16
    shift_x, shift_y, size, turn = np.moveaxis(table[i, j], -1, 0)
    dx = (u % 1 - 0.5 + 0.16 * (shift_x - 0.5)) * cloth.period
    dy = (v % 1 - 0.5 + 0.16 * (shift_y - 0.5)) * cloth.period
    radius = np.hypot(dx, dy)
    theta = np.arctan2(dy, dx) + 2 * np.pi * turn
    reach = cloth.period * (0.30 + 0.09 * size)
    petal = np.clip((reach * (0.72 + 0.28 * np.cos(5 * theta)) - radius) / 0.4, 0, 1)
    heart = np.clip((0.3 * reach - radius) / 0.4 + 0.5, 0, 1)
    leaf_x, leaf_y = np.abs(u % 1 - 0.5) - 0.5, v % 1 - 0.5
    lean = leaf_x * 0.7 + leaf_y * 0.7, leaf_y * 0.7 - leaf_x * 0.7
    leaf = np.clip((0.15 - np.hypot(lean[0], 2.3 * lean[1])) * cloth.period / 0.4, 0, 1)
    light = sum(cloth.accent) > 1.9
    centre = (0.80, 0.52, 0.12) if light else (0.98, 0.86, 0.45)
    green = mix((0.24, 0.46, 0.27), cloth.base, 0.15)
    vein = 0.22 * petal * np.clip(1 - radius / reach, 0, 1)
    return _blend(
        cloth.base,
        [
            (green, leaf),
            (cloth.accent, petal),
            ((0.25, 0.05, 0.1), vein),
            (centre, heart),
        ],
    )


def _colour_block(cloth: Cloth, x: Plane, y: Plane) -> np.ndarray:
    lower = np.clip((y - cloth.period * 6 - cloth.phase * 6) / 0.35 + 0.5, 0, 1)
    return _blend(cloth.base, [(cloth.accent, lower * np.ones_like(x))])


_PATTERNS = {
    "striped": _striped,
    "pinstriped": _pinstriped,
    "checked": _checked,
    "plaid": _plaid,
    "dotted": _dotted,
    "floral": _floral,
    "colour-block": _colour_block,
}


# ------------------------------------------------------------------ canvas


class Canvas:
    """Panels, seams and folds of one garment, painted back to front.

    Attributes:
      rgb: float32 [3, SIZE, SIZE], colours times opacity, sRGB.
      alpha: float32 [SIZE, SIZE], opacity.
    """

    def __init__(self, rng: np.random.Generator):
        """Args: rng: draws where the wrinkles are."""
        self.rgb = np.zeros((3, SIZE, SIZE), dtype=np.float32)
        self.alpha = np.zeros((SIZE, SIZE), dtype=np.float32)
        corner = rng.integers(0, NOISE - SIZE, size=(3, 2))
        self._noise = {
            name: tile[y : y + SIZE, x : x + SIZE]
            for (name, tile), (x, y) in zip(noise().items(), corner, strict=True)
        }
        self._folds = np.zeros((SIZE, SIZE), dtype=np.float32)
        axis = ((np.arange(SIZE) + 0.5) / UNIT).astype(np.float32)
        # Cloth is never quite flat: patterns follow these shifts of up to a unit.
        self._x = axis[None, :] + 0.35 * self._noise["soft"]
        self._y = axis[:, None] + 0.2 * self._noise["streak"]
        self._flat_x = np.broadcast_to(axis[None, :], (SIZE, SIZE))
        self._flat_y = np.broadcast_to(axis[:, None], (SIZE, SIZE))

    def fold(
        self, lines: Sequence[Points], width: float = 2.2, strength: float = 0.5
    ) -> None:
        """Lays creases into the panels that are filled after this call.

        Args:
          lines: open curves.
          width: of the shadow, in units; a ridge of light runs along its upper left.
          strength: 0 to 1.
        """
        # Half the resolution is enough for something this soft.
        image = Image.new("L", (SIZE // 2 + 1, SIZE // 2 + 1), 128)
        draw = ImageDraw.Draw(image)
        pixels = max(1, round(width * UNIT / 4))
        for value, shift in ((128 + 110, -0.32 * width), (128 - 110, 0.32 * width)):
            for line in lines:
                points = ((line + shift) * (UNIT / 2)).tolist()
                draw.line([tuple(point) for point in points], value, pixels)
        blurred = image.filter(ImageFilter.GaussianBlur(width * UNIT / 6.4))
        whole = blurred.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        values = np.asarray(whole, dtype=np.float32)
        self._folds += (values - 128) * np.float32(strength / 127)

    def fill(
        self,
        outline: Points,
        cloth: Cloth,
        *,
        turn: float = 0.0,
        origin: tuple[float, float] = (50.0, 0.0),
        shade: Callable[[Plane, Plane], Plane] | None = None,
        depth: float = 0.30,
        radius: float = 2.2,
        relief: float = 1.0,
        occlusion: float = 0.35,
        rim: float = 0.30,
        wrinkle: float = 1.0,
        hole: Points | None = None,
    ) -> None:
        """Paints a panel.

        Args:
          outline: closed.
          cloth: what it is made of.
          turn: degrees by which the cloth is turned clockwise; 0 hangs straight down.
          origin: position in the pattern that does not move when the cloth is turned.
          shade: extra light by position (not moved by wrinkles): 0 leaves the colour,
            -1 is black, 1 is bright.
          depth: how much darker the edge is than the middle.
          radius: how far that darkening reaches inside, in units.
          relief: strength of the light from the upper left on the bulge.
          occlusion: strength of the shadow on what lies beneath.
          rim: strength of the thin dark line along the edge.
          wrinkle: strength of the random wrinkles.
          hole: closed outline that is cut out.
        """
        box = _box([outline], 1.8 * radius)
        image = _mask([outline], box, hole=hole)
        mask = np.asarray(image, dtype=np.float32) / 255
        soft = _blur(image, radius * UNIT)
        edge = np.asarray(image.filter(ImageFilter.BoxBlur(1)), dtype=np.float32) / 255
        colour = cloth.paint(self._x[box], self._y[box], turn, origin)
        leather = cloth.weave == "leather"

        inside = np.clip(2 * soft - 1, 0, 1)
        light = depth * (inside - 1)
        if relief:
            slope = np.zeros_like(soft)
            slope[1:-1, 1:-1] = (
                0.6 * (soft[1:-1, 2:] - soft[1:-1, :-2])
                + soft[2:, 1:-1]
                - soft[:-2, 1:-1]
            )
            gloss = 1.7 if leather else 0.9
            light += relief * gloss * radius * slope
        light += self._folds[box]
        if wrinkle:
            rumple = (
                0.045 * self._noise["streak"][box] + 0.03 * self._noise["soft"][box]
            )
            light += wrinkle * (0.35 if leather else 1.0) * rumple
        light += _WEAVES[cloth.weave](
            self._noise["grain"][box], self._x[box], self._y[box]
        )
        if shade is not None:
            light += shade(self._flat_x[box], self._flat_y[box])
        light -= rim * (1 - np.clip(2 * edge - 1, 0, 1))

        # Shadows saturate: cloth in the shade keeps its colour.
        dark = 1 / (1 - 1.1 * np.minimum(light, 0))
        glow = np.clip(light, 0, 1) * (0.9 if leather else 0.55)
        under = 1 - occlusion * soft * (1 - mask)
        keep = 1 - mask
        for channel in range(3):
            lit = colour[channel] * dark
            lit += (1 - lit) * glow
            plane = self.rgb[channel][box]
            plane *= under * keep
            plane += lit * mask
        self.alpha[box] *= keep
        self.alpha[box] += mask

    def stroke(
        self,
        lines: Sequence[Points],
        colour: Colour,
        *,
        width: float = 0.4,
        opacity: float = 1.0,
        dash: float | None = None,
    ) -> None:
        """Draws lines, such as seams and stitches, onto the panels.

        Args:
          lines: open curves.
          colour: sRGB.
          width: in units.
          opacity: 0 to 1.
          dash: length of a stitch and of the gap after it, in units; None: solid.
        """
        if dash is not None:
            lines = [piece for line in lines for piece in _dashes(line, dash)]
        if not lines:
            return
        box = _box(lines, width)
        image = _mask(lines, box, width=width)
        # Never beyond the garment: a seam may end exactly at an edge.
        mask = np.asarray(image, dtype=np.float32) * np.float32(opacity / 255)
        mask *= self.alpha[box]
        for channel in range(3):
            plane = self.rgb[channel][box]
            plane += (np.float32(colour[channel]) - plane) * mask

    def buttons(
        self,
        centres: Sequence[tuple[float, float]],
        colour: Colour,
        radius: float = 0.95,
    ) -> None:
        """Sews on round buttons with a rim, a light and four holes."""
        if not centres:
            return
        spots = [np.asarray(centre, dtype=np.float64) for centre in centres]
        circle = arc((0, 0), (1, 1), 0, 360, 14)

        def dots(shift: tuple[float, float], size: float) -> list[Points]:
            return [spot + np.asarray(shift) + size * circle for spot in spots]

        self._spots(dots((0.15, 0.3), radius * 1.12), (0.05, 0.05, 0.06), 0.45)
        self._spots(dots((0, 0), radius), mix(colour, (0, 0, 0), 0.28), 1.0)
        self._spots(dots((-0.05, -0.05), radius * 0.78), colour, 1.0)
        self._spots(
            dots((-0.25 * radius, -0.3 * radius), 0.35 * radius), (1, 1, 1), 0.4
        )
        hole = 0.28 * radius
        for shift in ((hole, hole), (-hole, -hole)):
            self._spots(dots(shift, radius * 0.15), (0.1, 0.1, 0.1), 0.7)

    def _spots(self, shapes: Sequence[Points], colour: Colour, opacity: float) -> None:
        box = _box(shapes, 0)
        mask = np.asarray(_mask(shapes, box), dtype=np.float32)
        mask *= np.float32(opacity / 255)
        for channel in range(3):
            plane = self.rgb[channel][box]
            plane += (np.float32(colour[channel]) - plane) * mask
        self.alpha[box] += (1 - self.alpha[box]) * mask

    def paste(
        self, other: "Canvas", shift: tuple[float, float], light: float = 1.0
    ) -> None:
        """Lays another canvas on top, moved by whole pixels nearest to `shift` units.

        Args:
          other: another canvas.
          shift: (x, y) in units.
          light: factor on its colours.
        """
        dx, dy = round(shift[0] * UNIT), round(shift[1] * UNIT)
        here = (
            slice(max(dy, 0), SIZE + min(dy, 0)),
            slice(max(dx, 0), SIZE + min(dx, 0)),
        )
        there = (
            slice(max(-dy, 0), SIZE + min(-dy, 0)),
            slice(max(-dx, 0), SIZE + min(-dx, 0)),
        )
        mask = other.alpha[there]
        grey = Image.fromarray((mask * 255).astype(np.uint8))
        under = 1 - 0.35 * _blur(grey, 2.0 * UNIT) * (1 - mask)
        self.rgb[:, here[0], here[1]] *= under * (1 - mask)
        self.rgb[:, here[0], here[1]] += light * other.rgb[:, there[0], there[1]]
        self.alpha[here] += (1 - self.alpha[here]) * mask

    def image(self) -> Image.Image:
        """The garment with a soft shadow on white, an RGB image of SIZE x SIZE pixels."""
        shape = Image.fromarray((self.alpha * 255).astype(np.uint8))
        cast = np.zeros((SIZE, SIZE), dtype=np.float32)
        wide = _blur(shape, 2.4 * UNIT)
        down, right = round(1.3 * UNIT), round(0.7 * UNIT)
        cast[down:, right:] = wide[:-down, :-right]
        ground = 1 - 0.26 * cast
        out = self.rgb + (1 - self.alpha) * ground
        pixels = (np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8)
        return Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)))


def _blur(image: Image.Image, radius: float) -> Plane:
    """Coverage in [0, 1] blurred by `radius` pixels."""
    if radius > 5:  # too smooth to need every pixel
        half = image.reduce(2).filter(ImageFilter.GaussianBlur(radius / 2))
        blurred = half.resize(image.size, Image.Resampling.BILINEAR)
    else:
        blurred = image.filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, dtype=np.float32) * np.float32(1 / 255)


def _box(shapes: Sequence[Points], margin: float) -> tuple[slice, slice]:
    """Rows and columns of the canvas within `margin` units of `shapes`."""
    every = np.concatenate(shapes)
    pad = int(np.ceil(margin * UNIT)) + 2
    low = np.clip(np.floor(every.min(axis=0) * UNIT) - pad, 0, SIZE - 1)
    high = np.clip(np.ceil(every.max(axis=0) * UNIT) + pad, low + 1, SIZE)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _mask(
    shapes: Sequence[Points],
    box: tuple[slice, slice],
    *,
    width: float | None = None,
    hole: Points | None = None,
) -> Image.Image:
    """Coverage of a pixel box by closed shapes or, with `width` (units), by lines."""
    high, wide = (side.stop - side.start for side in box)
    image = Image.new("L", (wide * OVERSAMPLE, high * OVERSAMPLE))
    draw = ImageDraw.Draw(image)
    corner = np.array([box[1].start, box[0].start])

    def pixels(shape: Points) -> list[tuple[float, float]]:
        return [tuple(p) for p in ((shape * UNIT - corner) * OVERSAMPLE).tolist()]

    for shape in shapes:
        if width is None:
            draw.polygon(pixels(shape), fill=255)
        else:
            thick = max(1, round(width * UNIT * OVERSAMPLE))
            draw.line(pixels(shape), fill=255, width=thick, joint="curve")
    if hole is not None:
        draw.polygon(pixels(hole), fill=0)
    return image.reduce(OVERSAMPLE)


def _dashes(line: Points, length: float) -> list[Points]:
    """Every other piece of `length` units of an open curve."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    starts = np.arange(0, along[-1] - 0.5 * length, 2 * length)
    ends = np.minimum(starts + length, along[-1])
    return [
        np.stack([np.interp(t, along, line[:, axis]) for axis in (0, 1)], axis=1)
        for t in np.stack([starts, (starts + ends) / 2, ends], axis=1)
    ]


def _smooth(grain: Plane, x: Plane, y: Plane) -> Plane:
    return 0.008 * grain


def _knit(grain: Plane, x: Plane, y: Plane) -> Plane:
    # Columns of stitches, each a small V: rows bend up and down from column to column.
    column = np.abs((x / 1.9) % 1 - 0.5)
    row = np.abs((y / 1.6 + column) % 1 - 0.5)
    return 0.16 * (row - 0.25) + 0.012 * grain


def _denim(grain: Plane, x: Plane, y: Plane) -> Plane:
    return 0.028 * grain


def _wool(grain: Plane, x: Plane, y: Plane) -> Plane:
    return 0.017 * grain


def _leather(grain: Plane, x: Plane, y: Plane) -> Plane:
    return 0.006 * grain


def _rib(grain: Plane, x: Plane, y: Plane) -> Plane:
    return 0.3 * (np.abs((x / 1.5) % 1 - 0.5) - 0.25)


_WEAVES = {
    "smooth": _smooth,
    "knit": _knit,
    "denim": _denim,
    "wool": _wool,
    "leather": _leather,
    "rib": _rib,
}
