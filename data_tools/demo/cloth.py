"""What a garment is sewn from: a colour, a pattern and a weave."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fhn_jax.data_tools.demo.outlines import Number
from jaxtyping import Float

from fhn_jax.errors import InputError

NOISE = 512  # pixels, side of the tiles of noise
Plane = Float[np.ndarray, "_ _"]
Colour = tuple[Number, Number, Number]

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


def mix(a: Colour, b: Colour, share: Number) -> Colour:
    """`a` with `share` of `b`."""
    return tuple(float(p + (q - p) * share) for p, q in zip(a, b, strict=True))


def _pulse(t: Plane, duty: Number, soft: Number) -> Plane:
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
    period: Number = 8.0
    phase: Number = 0.0
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
        self, x: Plane, y: Plane, turn: Number, origin: tuple[Number, Number]
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


GRAINS = {
    "smooth": _smooth,
    "knit": _knit,
    "denim": _denim,
    "wool": _wool,
    "leather": _leather,
    "rib": _rib,
}
