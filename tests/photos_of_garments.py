"""Photos of one garment each, for tests."""

import numpy as np


def photo_of_a_garment(background, garment, size=160):
    """An ellipse of one colour, a fifth of the photo, on a speckled background."""
    rng = np.random.default_rng(0)
    pixels = np.full((size, size, 3), background) + rng.normal(0, 8, (size, size, 3))
    y, x = np.mgrid[:size, :size] / size - 0.5
    inside = (y / 0.3) ** 2 + (x / 0.22) ** 2 < 1
    pixels[inside] = garment + rng.normal(0, 4, (int(inside.sum()), 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), inside
