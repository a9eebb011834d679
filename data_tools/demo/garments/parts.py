"""Colours, and what all garments are sewn with."""

from fhn_jax.data_tools.demo.cloth import Colour, mix
from fhn_jax.data_tools.demo.outlines import Number, Points, mirror

BLACK, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
METAL = (0.74, 0.72, 0.68)

COLOURS: dict[str, Colour] = {
    "white": (0.96, 0.96, 0.945),
    "cream": (0.94, 0.895, 0.80),
    "beige": (0.83, 0.745, 0.62),
    "camel": (0.75, 0.56, 0.345),
    "brown": (0.42, 0.275, 0.185),
    "rust": (0.70, 0.335, 0.17),
    "orange": (0.92, 0.49, 0.17),
    "mustard": (0.83, 0.64, 0.18),
    "yellow": (0.965, 0.845, 0.31),
    "olive": (0.425, 0.43, 0.235),
    "green": (0.215, 0.52, 0.305),
    "forest green": (0.115, 0.295, 0.215),
    "mint": (0.645, 0.845, 0.75),
    "teal": (0.10, 0.485, 0.50),
    "light blue": (0.60, 0.76, 0.90),
    "blue": (0.18, 0.38, 0.735),
    "navy": (0.125, 0.17, 0.325),
    "purple": (0.42, 0.255, 0.56),
    "lavender": (0.74, 0.67, 0.86),
    "pink": (0.945, 0.655, 0.735),
    "fuchsia": (0.83, 0.205, 0.465),
    "red": (0.785, 0.155, 0.18),
    "burgundy": (0.435, 0.105, 0.18),
    "light grey": (0.765, 0.77, 0.775),
    "grey": (0.535, 0.54, 0.555),
    "charcoal": (0.275, 0.285, 0.31),
    "black": (0.115, 0.115, 0.125),
}


def luma(colour: Colour) -> Number:
    """Perceived lightness of an sRGB colour, 0 to 1."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def seam_colour(colour: Colour) -> Colour:
    """A colour for seams that shows on `colour`: darker, or lighter on dark cloth."""
    if luma(colour) < 0.25:
        return mix(colour, WHITE, 0.22)
    return mix(colour, BLACK, 0.42)


def both_sides(*curves: Points) -> list[Points]:
    """Curves of the right half and their mirror images."""
    return [side for curve in curves for side in (curve, mirror(curve))]
