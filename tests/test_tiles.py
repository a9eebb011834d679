"""Tiles of garments: any photo, whole, on a ground that goes with it."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fhn_jax.web.tiles import tile

RED, BLUE, WHITE = (200, 30, 30), (30, 60, 180), (255, 255, 255)


def photo(size, ground, garment=BLUE, box=None):
    """A garment in the middle of a ground."""
    made = Image.new("RGB", size, ground)
    width, height = size
    box = box or (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
    ImageDraw.Draw(made).ellipse(box, garment)
    return made


def tiled(image):
    data = tile(np.asarray(image))
    made = Image.open(io.BytesIO(data))
    assert made.format == "JPEG" and made.size == (300, 400)
    return np.asarray(made).astype(int)


def near(pixels, colour):
    return (np.abs(pixels - colour) < 12).all(-1)


def extent(mask):
    """Width and height of what is true."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


@pytest.mark.parametrize(
    "size", [(300, 400), (400, 300), (291, 291), (60, 300), (90, 90)]
)
def test_the_ground_of_a_photo_fills_its_tile(size):
    made = tiled(photo(size, RED))
    is_garment = near(made, BLUE)
    assert (near(made, RED) | is_garment).mean() > 0.93
    # All of it is shown, as wide for its height as it was.
    wide, tall = extent(is_garment)
    scale = min(300 / size[0], 400 / size[1])
    assert wide == pytest.approx(size[0] * scale / 2, abs=0.08 * 300)
    assert tall == pytest.approx(size[1] * scale / 2, abs=0.08 * 400)


@pytest.mark.parametrize("inner", [(218, 291), (291, 218)])
def test_white_bars_of_a_photo_that_was_made_square_are_no_ground(inner):
    square = Image.new("RGB", (291, 291), WHITE)
    square.paste(photo(inner, RED), ((291 - inner[0]) // 2, (291 - inner[1]) // 2))
    data = io.BytesIO()
    square.save(data, "JPEG", quality=85)
    assert not near(tiled(Image.open(data)), WHITE).any()


@pytest.mark.parametrize(
    "box", [(0, 0, 200, 40), (100, 0, 140, 200), (40, 40, 120, 110), (80, 0, 120, 200)]
)
def test_garments_on_white_are_centred_with_the_same_margins(box):
    made = tiled(photo((200, 200), WHITE, box=box))
    is_garment = near(made, BLUE)
    wide, tall = extent(is_garment)
    assert max(wide / 300, tall / 400) == pytest.approx(0.84, abs=0.02)
    assert wide / tall == pytest.approx((box[2] - box[0]) / (box[3] - box[1]), rel=0.05)
    rows, columns = (np.flatnonzero(is_garment.any(axis)) for axis in (1, 0))
    assert (rows[0] + rows[-1]) / 2 == pytest.approx(199.5, abs=2)
    assert (columns[0] + columns[-1]) / 2 == pytest.approx(149.5, abs=2)
    assert near(made[:10], WHITE).all()


def test_a_speck_is_not_blown_up():
    made = tiled(photo((4000, 4000), WHITE, box=(1000, 1000, 1010, 1010)))
    assert max(extent(~near(made, WHITE))) < 8


def test_an_empty_picture_is_white():
    assert near(tiled(Image.new("RGB", (40, 40), WHITE)), WHITE).all()
