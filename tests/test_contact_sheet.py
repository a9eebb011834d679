"""Sheets of outfits: what is drawn where, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from fhn_jax.errors import InputError
from fhn_jax.reporting import contact_sheet as drawing
from fhn_jax.reporting.contact_sheet import (
    OutfitPicture,
    as_worn,
    contact_sheet,
    most_outfits,
    picture_of,
)

RED, BLUE, BLACK = (200, 30, 30), (30, 30, 200), (0, 0, 0)
GREEN = (22, 163, 74)


def picture(color, size=(40, 40)):
    return Image.new("RGB", size, color)


def outfit(*colors, **options):
    return OutfitPicture([[picture(color)] for color in colors], **options)


def count(sheet, color):
    """Number of pixels of exactly this colour."""
    return int((np.asarray(sheet) == color).all(axis=2).sum())


def box(sheet, color):
    """First and last row and column of the pixels of this colour."""
    rows, columns = np.nonzero((np.asarray(sheet) == color).all(axis=2))
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_items_are_stacked_as_they_are_given():
    sheet = contact_sheet([[outfit(RED, BLUE)]], item_px=50)
    assert count(sheet, RED) == count(sheet, BLUE) == 50 * 50
    red, blue = box(sheet, RED), box(sheet, BLUE)
    assert red[1] < blue[0] and red[2:] == blue[2:]


def test_items_of_one_line_share_its_width():
    two = OutfitPicture([[picture(RED), picture(BLUE)], [picture(BLACK)]])
    sheet = contact_sheet([[two]], item_px=50)
    assert count(sheet, RED) == count(sheet, BLUE) == 23 * 23
    red, blue = box(sheet, RED), box(sheet, BLUE)
    assert red[:2] == blue[:2] and red[3] < blue[2]
    assert box(sheet, BLACK)[0] > red[1]


def test_pictures_keep_their_proportions():
    tall = OutfitPicture([[picture(RED, (20, 80))]])
    assert count(contact_sheet([[tall]], item_px=40), RED) == 10 * 40


def test_rows_stand_below_each_other_and_outfits_side_by_side():
    sheet = contact_sheet([[outfit(RED), outfit(BLUE)], [outfit(BLACK)]], item_px=40)
    red, blue, black = (box(sheet, color) for color in (RED, BLUE, BLACK))
    assert red[:2] == blue[:2] and red[3] < blue[2]
    assert black[0] > red[1] and black[2:] == red[2:]


def test_a_highlighted_outfit_has_a_green_frame_and_a_tick():
    plain = contact_sheet([[outfit(RED, caption="1")]], item_px=60)
    marked = contact_sheet([[outfit(RED, caption="1", highlighted=True)]], item_px=60)
    assert not count(plain, GREEN)
    top, bottom, left, right = box(marked, GREEN)
    inner = np.asarray(marked)[top + 6 : bottom - 5, left + 6 : right - 5]
    assert count(marked, GREEN) > 4 * 4 * 60 and (inner == GREEN).all(axis=2).any()


def test_captions_and_titles_are_drawn_and_cut_to_the_width():
    def sheet(caption, title):
        return contact_sheet([[outfit(RED, caption=caption)]], titles=[title])

    short, long, longer = (sheet("1", "a"), *(sheet("w" * n, "a") for n in (200, 300)))
    assert short.size == long.size and short != long and long == longer
    assert sheet("1", "a") != sheet("1", "b")
    assert sheet("1", "b" * 400).size == short.size


def test_a_heading_and_a_note_stand_above_all_rows():
    plain = contact_sheet([[outfit(RED)]], item_px=400)
    headed = contact_sheet([[outfit(RED)]], item_px=400, heading="A", note="b")
    added = headed.height - plain.height
    assert added > 0 and box(headed, RED)[0] == box(plain, RED)[0] + added
    other = contact_sheet([[outfit(RED)]], item_px=400, heading="A", note="c")
    assert other.size == headed.size and other != headed


def test_a_line_break_in_a_caption_does_not_break_the_card():
    one = contact_sheet([[outfit(RED, caption="one two")]])
    assert contact_sheet([[outfit(RED, caption="one\ntwo")]]) == one


@pytest.mark.parametrize("rows", [[], [[]]])
def test_no_outfits_are_refused(rows):
    with pytest.raises(ValueError, match="has no outfit"):
        contact_sheet(rows)


def test_an_outfit_without_pictures_is_refused():
    with pytest.raises(ValueError, match="outfit 1 of row 0 has a line without"):
        contact_sheet([[outfit(RED), OutfitPicture([[picture(RED)], []])]])


def test_titles_must_be_as_many_as_rows():
    with pytest.raises(ValueError, match="2 titles of 1 rows"):
        contact_sheet([[outfit(RED)]], titles=["a", "b"])


def test_a_sheet_too_large_to_open_is_refused_before_it_is_drawn():
    with pytest.raises(ValueError, match="2,000 rows of up to 1 outfits .* show fewer"):
        contact_sheet([[outfit(RED, BLUE, BLACK)]] * 2000)


@pytest.mark.parametrize(
    ("slots", "items", "lines"),
    [
        ((0, 1, 2), (3, 4, 5), [[(0, 3)], [(1, 4)], [(2, 5)]]),
        ((0, 0, 1), (3, 4, 3), [[(0, 3), (0, 4)], [(1, 3)]]),
        ((0, 0, 1), (3, 3, 3), [[(0, 3)], [(1, 3)]]),
    ],
)
def test_a_line_is_a_category_and_a_repeated_item_comes_once(slots, items, lines):
    assert as_worn(slots, items) == lines


@pytest.mark.parametrize(("side", "pixels"), [(650, 10**9), (10**5, 300_000)])
def test_the_most_outfits_are_those_that_fit(monkeypatch, side, pixels):
    monkeypatch.setattr(drawing, "MAX_SIDE", side)
    monkeypatch.setattr(drawing, "MAX_PIXELS", pixels)

    def sheet(columns):
        row = [outfit(RED, BLUE, caption="1")] * columns
        text = {"titles": ["1", "2"], "heading": "a", "note": "b"}
        return contact_sheet([row, row], **text, item_px=40)

    most = most_outfits(2, (0, 1), item_px=40)
    assert most > 2 and sheet(most).width <= side
    with pytest.raises(InputError, match="a sheet of 2 rows"):
        sheet(most + 1)


@pytest.mark.parametrize("pieces", range(1, 7))
def test_pieces_have_their_full_size_and_labels_a_line_each(pieces):
    slots, items = tuple(range(pieces)), [5] * pieces
    made = picture_of(
        slots, items, lambda *_: picture(RED), labels=["a shirt"] * pieces
    )
    sheet = contact_sheet([[made]], item_px=40)
    assert count(sheet, RED) == pieces * 40 * 40
    plain = picture_of(slots, items, lambda *_: picture(RED))
    assert sheet.height - contact_sheet([[plain]], item_px=40).height == pieces * 18
    assert (sheet.width > contact_sheet([[outfit(RED)]], item_px=40).width) == (
        pieces > 3
    )


@pytest.mark.parametrize("text", ["crêpe", "Blüse", "Шарф", "Ł€–…·"])
def test_letters_of_all_titles_are_drawn(text):
    font = drawing._font(13)
    missing = bytes(font.getmask("\uffff"))
    assert missing not in [bytes(font.getmask(letter)) for letter in text]
