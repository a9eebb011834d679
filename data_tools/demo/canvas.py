"""A small drawing engine for cloth: patterned panels in soft light.

A garment is a stack of *panels* on a `Canvas`. A panel is an outline filled with a
`Cloth` (colour, pattern, weave), darkened towards its edges and lit from the upper left,
so that it looks sewn from fabric instead of cut from paper. Outlines are drawn at
`OVERSAMPLE` times the final size and averaged down; patterns and light are computed at
the final size, with soft edges of their own.

Lengths are in *units*: the canvas is 100 units wide and high, x to the right, y down.
"""

from collections.abc import Callable, Sequence

import numpy as np
from fhn_jax.data_tools.demo.cloth import (
    GRAINS,
    NOISE,
    Cloth,
    Colour,
    Plane,
    mix,
    noise,
)
from fhn_jax.data_tools.demo.outlines import SIZE, UNIT, Number, Points, arc
from PIL import Image, ImageDraw, ImageFilter

OVERSAMPLE = 3


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
        self, lines: Sequence[Points], width: Number = 2.2, strength: Number = 0.5
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
        turn: Number = 0.0,
        origin: tuple[Number, Number] = (50.0, 0.0),
        shade: Callable[[Plane, Plane], Plane] | None = None,
        depth: Number = 0.30,
        radius: Number = 2.2,
        relief: Number = 1.0,
        occlusion: Number = 0.35,
        rim: Number = 0.30,
        wrinkle: Number = 1.0,
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
        light += GRAINS[cloth.weave](
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
        width: Number = 0.4,
        opacity: Number = 1.0,
        dash: Number | None = None,
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
        centres: Sequence[tuple[Number, Number]],
        colour: Colour,
        radius: Number = 0.95,
    ) -> None:
        """Sews on round buttons with a rim, a light and four holes."""
        if not centres:
            return
        spots = [np.asarray(centre, dtype=np.float64) for centre in centres]
        circle = arc((0, 0), (1, 1), 0, 360, 14)

        def dots(shift: tuple[Number, Number], size: Number) -> list[Points]:
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

    def _spots(self, shapes: Sequence[Points], colour: Colour, opacity: Number) -> None:
        box = _box(shapes, 0)
        mask = np.asarray(_mask(shapes, box), dtype=np.float32)
        mask *= np.float32(opacity / 255)
        for channel in range(3):
            plane = self.rgb[channel][box]
            plane += (np.float32(colour[channel]) - plane) * mask
        self.alpha[box] += (1 - self.alpha[box]) * mask

    def paste(
        self, other: "Canvas", shift: tuple[Number, Number], light: Number = 1.0
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


def _blur(image: Image.Image, radius: Number) -> Plane:
    """Coverage in [0, 1] blurred by `radius` pixels."""
    if radius > 5:  # too smooth to need every pixel
        half = image.reduce(2).filter(ImageFilter.GaussianBlur(radius / 2))
        blurred = half.resize(image.size, Image.Resampling.BILINEAR)
    else:
        blurred = image.filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, dtype=np.float32) * np.float32(1 / 255)


def _box(shapes: Sequence[Points], margin: Number) -> tuple[slice, slice]:
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
    width: Number | None = None,
    hole: Points | None = None,
) -> Image.Image:
    """Coverage of a pixel box by closed shapes or, with `width` (units), by lines."""
    high, wide = (side.stop - side.start for side in box)
    image = Image.new("L", (wide * OVERSAMPLE, high * OVERSAMPLE))
    draw = ImageDraw.Draw(image)
    corner = np.array([box[1].start, box[0].start])

    def pixels(shape: Points) -> list[tuple[Number, Number]]:
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


def _dashes(line: Points, length: Number) -> list[Points]:
    """Every other piece of `length` units of an open curve."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    starts = np.arange(0, along[-1] - 0.5 * length, 2 * length)
    ends = np.minimum(starts + length, along[-1])
    return [
        np.stack([np.interp(t, along, line[:, axis]) for axis in (0, 1)], axis=1)
        for t in np.stack([starts, (starts + ends) / 2, ends], axis=1)
    ]
