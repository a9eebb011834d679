"""The one reading of garment photos: exact pixels, what it changes, each bad input."""

import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from fhn_jax.data import pictures
from fhn_jax.data.pictures import (
    MAX_PIXELS,
    Changes,
    decode,
    fitted,
    garment_photo,
    image_fault,
)
from tests.polyvore_u import encode

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)
WHITE = [255, 255, 255]


def png(width, height, mode=2, depth=8, rows=b""):
    """The bytes of a PNG that says it is width x height, by default with no pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, mode, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def saved(image, kind="PNG", **options):
    """The bytes of a Pillow image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation, kind="JPEG", **options):
    """A photo that its camera noted to be held otherwise."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(PIXELS), kind, exif=exif, **options)


# What is read as it is stored


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_images_are_decoded_exactly(kind):
    data = encode(PIXELS, kind, **({"lossless": True} if kind == "WEBP" else {}))
    found = decode(data, "a")
    np.testing.assert_array_equal(found, PIXELS)
    assert found.flags.writeable


def test_jpeg_is_decoded_like_pillow():
    data = encode(PIXELS, quality=85)
    expected = np.array(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data, "a"), expected)


def test_resize_is_an_antialiased_triangle_filter():
    # Halving: each output pixel is the mean of inputs with weights 1 3 3 1.
    line = np.array([0, 0, 0, 0, 160, 160, 160, 160])
    image = np.broadcast_to(line[None, :, None], (8, 8, 3))
    found = decode(encode(image, "PNG"), "a", 4)
    assert found.shape == (4, 4, 3)
    np.testing.assert_array_equal(found[0, :, 0], [0, 20, 140, 160])


def test_resize_to_the_same_size_changes_nothing():
    square = PIXELS[:10]
    np.testing.assert_array_equal(decode(encode(square, "PNG"), "a", 10), square)


def test_image_of_another_shape_is_resized_to_a_square():
    assert decode(encode(PIXELS), "a", 6).shape == (6, 6, 3)


# What is changed


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_is_turned_as_its_camera_noted(kind, orientation):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = turned(orientation, kind, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.array(ImageOps.exif_transpose(image))
    photo = garment_photo(data, "a")
    np.testing.assert_array_equal(photo.pixels, expected)
    assert (pictures.TURNED in photo.changes) == (orientation != 1)


def test_a_turn_noted_in_xmp_alone_counts():
    text = b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='3' tiff:Orientation=\"3\"/>"
    plain = encode(PIXELS)
    segment = b"\xff\xe1" + struct.pack(">H", len(text) + 2) + text
    photo = garment_photo(plain[:2] + segment + plain[2:], "a")
    np.testing.assert_array_equal(photo.pixels, decode(plain, "a")[::-1, ::-1])


def test_upright_jpegs_with_notes_keep_the_fast_decoder(monkeypatch):
    calls = []
    fast = simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg", lambda *a, **o: calls.append(1) or fast(*a, **o)
    )
    plain = decode(encode(PIXELS, quality=75), "a")
    np.testing.assert_array_equal(decode(turned(1), "a"), plain)
    decode(turned(6), "a")
    assert calls == [1, 1]


def test_unreadable_notes_of_a_camera_leave_the_photo_as_it_is():
    plain = encode(PIXELS)
    for notes in (b"Exif\0\0", b"Exif\0\0MM\0\x2a\xff\xff\xff\xff", b"Exif\0\0II*\0"):
        segment = b"\xff\xe1" + struct.pack(">H", len(notes) + 2) + notes
        photo = garment_photo(plain[:2] + segment + plain[2:], "a")
        np.testing.assert_array_equal(photo.pixels, decode(plain, "a"))
        assert pictures.TURNED not in photo.changes


def transparent():
    """Half of it hidden, and something ugly behind."""
    image = Image.fromarray(PIXELS).convert("RGBA")
    image.putalpha(
        Image.fromarray(
            np.where(np.arange(10) < 5, 0, 255)[None].repeat(12, 0).astype(np.uint8)
        )
    )
    return image


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_transparent_becomes_white(kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    photo = garment_photo(saved(transparent(), kind, **options), "a")
    assert (photo.pixels[:, :5] == WHITE).all()
    np.testing.assert_array_equal(photo.pixels[:, 5:], PIXELS[:, 5:])
    assert pictures.ON_WHITE in photo.changes


def test_half_transparent_colours_are_mixed_with_white():
    image = Image.new("RGBA", (4, 4), (200, 30, 90, 128))
    assert np.abs(decode(saved(image), "a")[0, 0] - np.array([227, 142, 172])).max() < 2


def test_an_alpha_that_hides_nothing_changes_nothing():
    photo = garment_photo(saved(Image.fromarray(PIXELS).convert("RGBA")), "a")
    np.testing.assert_array_equal(photo.pixels, PIXELS)
    assert pictures.ON_WHITE not in photo.changes


@pytest.mark.parametrize("mode", ["LA", "P", "PA"])
def test_transparency_of_grey_and_palette_images_is_white_too(mode):
    grey = Image.fromarray(PIXELS[..., 0])
    if mode == "P":
        palette = Image.new("P", (4, 4), 0)
        palette.putpalette([9, 9, 9, 200, 0, 0])
        palette.putpixel((1, 2), 1)
        data, shown = saved(palette, transparency=0), [200, 0, 0]
        found = decode(data, "a")
        assert (found[2, 1] == shown).all() and (found[0] == WHITE).all()
        return
    alpha = Image.fromarray(np.full((12, 10), 255, np.uint8))
    alpha.putpixel((0, 0), 0)
    found = decode(saved(Image.merge("LA", [grey, alpha])), "a")
    assert (found[0, 0] == WHITE).all()
    np.testing.assert_array_equal(found[1:], PIXELS[1:, :, :1].repeat(3, 2))


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_grey_and_palette_images_keep_their_colours(mode):
    image = Image.fromarray(PIXELS).convert(mode)
    photo = garment_photo(saved(image), "a")
    np.testing.assert_array_equal(photo.pixels, np.array(image.convert("RGB")))
    assert pictures.TO_RGB in photo.changes


def test_cmyk_and_grey_jpegs_are_read():
    for mode in ("CMYK", "L"):
        image = Image.new(mode, (8, 8), (0, 200, 100, 10) if mode == "CMYK" else 60)
        data = saved(image, "JPEG", quality=95)
        expected = np.array(image.convert("RGB")).astype(int)
        photo = garment_photo(data, "a")
        assert np.abs(photo.pixels - expected).max() <= 3
        assert photo.changes == (pictures.TO_RGB,)


def test_16_bits_keep_the_upper_half():
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
    photo = garment_photo(saved(Image.fromarray(levels)), "a")
    np.testing.assert_array_equal(photo.pixels, (levels >> 8)[..., None].repeat(3, 2))
    assert pictures.TO_8_BITS in photo.changes
    hidden = decode(saved(Image.fromarray(levels), transparency=1040), "a")
    assert (hidden[0, 1] == WHITE).all() and (hidden[0, 2] == 8).all()


def test_16_bit_colours_keep_the_upper_half():
    row = np.array([[0, 0x1234, 0xFFFF], [0x80FF, 0xAB00, 0x0100]], ">u2")
    photo = garment_photo(png(2, 1, depth=16, rows=b"\0" + row.tobytes()), "a")
    np.testing.assert_array_equal(photo.pixels[0], [[0, 0x12, 0xFF], [0x80, 0xAB, 1]])
    assert photo.changes == (pictures.TO_8_BITS, pictures.PADDED)


def test_progressive_jpegs_are_those_of_the_slow_decoder():
    data = encode(PIXELS, quality=80, progressive=True)
    expected = np.array(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data, "a"), expected)


@pytest.mark.parametrize("shape", [(12, 4), (4, 12)])
def test_what_is_not_square_gets_white_sides(shape):
    image = np.full((*shape, 3), 40)
    found = decode(encode(image, "PNG"), "a", 6)
    assert (found == 40).all(axis=2).sum() == 12 and (found == WHITE).all(
        axis=2
    ).sum() == 24
    assert (found[2:4, 2:4] == 40).all()
    assert pictures.PADDED in garment_photo(encode(image, "PNG"), "a").changes
    thin = fitted(np.zeros((500, 1, 3), np.uint8), 10)
    assert (thin == 0).all(axis=2).sum() == 10


def test_changes_are_counted_and_named():
    changes = Changes()
    assert not changes
    for number in range(1200):
        changes.note(f"{number:04}.png", (pictures.ON_WHITE,))
    changes.note("a.jpg", (pictures.TURNED,))
    assert changes and str(changes) == (
        "1 turned as the camera noted ('a.jpg'); 1,200 transparent, put on white "
        "('0000.png', '0001.png', '0002.png', …)"
    )


# What is refused


@pytest.mark.parametrize("cut", [0, 3, 100, -2])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_cut_off_image_is_refused_by_name(kind, cut):
    data = encode(PIXELS, kind)
    # The last bytes of a PNG are an empty chunk: its pixels are complete.
    if (kind, cut) == ("PNG", -2):
        cut = -40
    with pytest.raises(ValueError, match="image 'a1.jpg' cannot be decoded .*again"):
        decode(data[:cut], "a1.jpg")


def test_error_of_the_decoder_has_no_address():
    assert "0x" not in image_fault(b"<html>", "a.jpg")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_are_refused(kind):
    assert "cannot be decoded" in image_fault(encode(PIXELS, kind), "a.jpg")


def test_moving_image_is_refused():
    buffer = io.BytesIO()
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1])]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    assert "is a moving WEBP; expected a still" in image_fault(buffer.getvalue(), "a")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        ((5001, 5000), "is 5001x5000; expected at most 25 megapixels"),
        ((10_000, 10_000), "expected at most 25 megapixels"),
        ((60_000, 60_000), "is a decompression bomb; expected at most 25 megapixels"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_before_they_are_decoded(size, text):
    with pytest.raises(ValueError, match=text):
        decode(png(*size), "a.png")


def test_decompression_bomb_warning_is_an_error():
    with pytest.raises(ValueError, match="is a decompression bomb"):
        decode(png(10_000, 10_000), "a.png")


def test_most_pixels_allowed_are_not_refused_for_their_number():
    assert 5000 * 5000 == MAX_PIXELS
    assert "cannot be decoded" in image_fault(png(5000, 5000), "a.png")
