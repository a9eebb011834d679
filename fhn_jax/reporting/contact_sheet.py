"""Outfits side by side as one picture, drawn with Pillow.

An outfit is a card of the pictures of its items, stacked as they are worn, above a
caption; a sheet is rows of cards, each row under a title of its own.
"""

import functools
import importlib.util
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from fhn_jax.errors import InputError, MissingPackageError

ITEM_PX = 144  # side of the square that an item's picture is fitted into
# The limit of JPEG per side, and what viewers open without trouble.
MAX_SIDE = 65_500
MAX_PIXELS = 150_000_000

_PAGE = "#f6f7f9"
_CARD = "#ffffff"
_LINE = "#e4e7ee"
_TEXT = "#1d2433"
_MUTED = "#667085"
_GREEN = "#16a34a"

_MARGIN = 28  # around the sheet
_GUTTER = 14  # between cards, and between a row and its title
_PADDING = 8  # of a card
_GAP = 4  # between the pictures of a card
_RADIUS = 12
_BORDER = 4
_CAPTION = 30  # height of a caption
_LABEL = 18  # height of a label
_SINGLE = 3  # categories that have a line each
_TITLE = 32  # height of a title
_HEADING = 44  # height of the heading
_NOTE = 40  # height of the note below it


@dataclass(frozen=True, eq=False)
class OutfitPicture:
    """What a sheet shows of one outfit.

    Attributes:
      lines: pictures of the items from top to bottom; those of one line stand side by
        side. See `as_worn`.
      caption: one line of text below; cut to the width of the card.
      labels: what the items are called, a line each below the caption; cut as well.
      columns: pictures side by side in the width of the card, each of its full size; a
        longer line shares the width.
      highlighted: whether it has a green frame and a tick, such as an outfit that the
        user likes.
    """

    lines: Sequence[Sequence[Image.Image]]
    caption: str = ""
    highlighted: bool = False
    labels: Sequence[str] = ()
    columns: int = 1


def as_worn(slots: Sequence[int], items: Sequence[int]) -> list[list[tuple[int, int]]]:
    """The items of an outfit as (category, item) in lines.

    Up to three categories have a line each; of more, two share one. A repeated item (the
    only top of an outfit with two slots for one) comes once, and a slot without an item
    (-1) not at all.

    Args:
      slots: the category of each slot.
      items: the item of each slot.

    >>> as_worn((0, 0, 1, 2), (5, 5, 7, 9))
    [[(0, 5)], [(1, 7)], [(2, 9)]]
    >>> as_worn((0, 1, 2), (5, -1, 9))
    [[(0, 5)], [(2, 9)]]
    >>> as_worn((0, 1, 2, 3, 4), (5, 6, 9, 2, 7))
    [[(0, 5), (1, 6)], [(2, 9), (3, 2)], [(4, 7)]]
    """
    lines: dict[int, dict[tuple[int, int], None]] = {}
    for category, item in zip(slots, items, strict=True):
        if item == -1:
            continue
        lines.setdefault(int(category), {})[int(category), int(item)] = None
    found = [list(line) for line in lines.values()]
    if len(found) <= _SINGLE:
        return found
    pairs = (found[place : place + 2] for place in range(0, len(found), 2))
    return [list(itertools.chain(*pair)) for pair in pairs]


def picture_of(
    slots: Sequence[int],
    items: Sequence[int],
    picture: Callable[[int, int], Image.Image],
    **texts: Any,
) -> OutfitPicture:
    """An outfit as worn.

    Args:
      slots, items: see `as_worn`.
      picture: of a category's item.
      texts: caption, labels and highlighted, see `OutfitPicture`.
    """
    lines = as_worn(slots, items)
    return OutfitPicture(
        [[picture(*cell) for cell in line] for line in lines],
        columns=max(len({category for category, _ in line}) for line in lines),
        **texts,
    )


def contact_sheet(
    rows: Sequence[Sequence[OutfitPicture]],
    *,
    titles: Sequence[str] = (),
    heading: str = "",
    note: str = "",
    item_px: int = ITEM_PX,
) -> Image.Image:
    """Draws outfits as cards in rows.

    Args:
      rows: the outfits of each row, from left to right; rows may differ in length, and
        outfits in their number of items.
      titles: one for each row, or none at all.
      heading, note: text above all rows, in large and in small letters.
      item_px: side of the square that an item's picture is fitted into, in pixels.
    Returns:
      the sheet, RGB.
    Raises:
      ValueError: no outfit, an outfit without a picture, another number of titles than
        of rows, or a sheet that is too large to be saved and opened.

    >>> outfit = OutfitPicture([[Image.new("RGB", (8, 8))]], "first")
    >>> contact_sheet([[outfit, outfit]], item_px=32).size
    (182, 142)
    """
    _check(rows, titles)
    heights = [
        (_TITLE + _GUTTER if titles else 0)
        + max(_card_size(o, item_px)[1] for o in row)
        for row in rows
    ]
    head = _HEADING * bool(heading) + _NOTE * bool(note)
    width = 2 * _MARGIN + max(
        sum(_card_size(outfit, item_px)[0] + _GUTTER for outfit in row) - _GUTTER
        for row in rows
    )
    height = 2 * _MARGIN + head + sum(heights) + 2 * _GUTTER * (len(rows) - 1)
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise InputError(
            f"a sheet of {len(rows):,} rows of up to {max(map(len, rows)):,} outfits "
            f"would be {width:,} x {height:,} pixels; expected at most {MAX_SIDE:,} a "
            f"side and {MAX_PIXELS // 10**6} megapixels; show fewer, or make several"
        )
    sheet = Image.new("RGB", (width, height), _PAGE)
    top = _MARGIN + head
    if heading:
        _write(sheet, heading, 28, _TEXT, _MARGIN + 14)
    if note:
        _write(sheet, note, 16, _MUTED, top - _NOTE + 14)
    for number, (row, row_height) in enumerate(zip(rows, heights, strict=True)):
        cards_top, left = top, _MARGIN
        if titles:
            _write(sheet, titles[number], 20, _TEXT, top + _TITLE // 2)
            cards_top += _TITLE + _GUTTER
        for outfit in row:
            card = _card(outfit, item_px, top + row_height - cards_top)
            sheet.paste(card, (left, cards_top))
            left += card.width + _GUTTER
        top += row_height + 2 * _GUTTER
    return sheet


def most_outfits(
    rows: int, slots: Sequence[int], labels: int = 0, *, item_px: int = ITEM_PX
) -> int:
    """How many outfits fit side by side in a sheet with titles, heading and note.

    Args:
      rows: of the sheet.
      slots: the category of each slot of the largest outfit.
      labels: in a card.

    >>> most_outfits(6, (0, 1, 2))
    232
    """
    lines = as_worn(slots, range(len(slots)))
    columns = 2 if len(set(slots)) > _SINGLE else 1
    width, height = _size_of_card(len(lines), columns, True, labels, item_px)
    each = _TITLE + _GUTTER + height + 2 * _GUTTER
    total = 2 * _MARGIN + _HEADING + _NOTE + rows * each
    widest = min(MAX_SIDE, MAX_PIXELS // total) - 2 * _MARGIN + _GUTTER
    return max(widest // (width + _GUTTER), 0)


def _check(rows: Sequence[Sequence[OutfitPicture]], titles: Sequence[str]) -> None:
    if not rows or not all(rows):
        raise InputError("a row of the sheet has no outfit; expected at least one each")
    if titles and len(titles) != len(rows):
        raise InputError(f"{len(titles)} titles of {len(rows)} rows; expected as many")
    for number, row in enumerate(rows):
        for place, outfit in enumerate(row):
            if not outfit.lines or not all(outfit.lines):
                raise InputError(
                    f"outfit {place} of row {number} has a line without a picture; "
                    "expected at least one picture a line"
                )


def _write(sheet: Image.Image, text: str, size: int, color: str, middle: int) -> None:
    """Writes a line between the margins of the sheet."""
    fitted = _fitted(text, _font(size), sheet.width - 2 * _MARGIN)
    position = (_MARGIN, middle)
    ImageDraw.Draw(sheet).text(position, fitted, color, _font(size), anchor="lm")


def _card_size(outfit: OutfitPicture, item_px: int) -> tuple[int, int]:
    captioned = bool(outfit.caption or outfit.highlighted)
    return _size_of_card(
        len(outfit.lines), outfit.columns, captioned, len(outfit.labels), item_px
    )


def _size_of_card(
    lines: int, columns: int, captioned: bool, labels: int, item_px: int
) -> tuple[int, int]:
    frame = 2 * (_PADDING + _BORDER)
    texts = (_CAPTION if captioned else 0) + labels * _LABEL
    height = lines * item_px + (lines - 1) * _GAP + frame + texts
    return columns * item_px + (columns - 1) * _GAP + frame, height


def _card(outfit: OutfitPicture, item_px: int, height: int) -> Image.Image:
    width = _card_size(outfit, item_px)[0]
    card = _rounded(width, height, _GREEN if outfit.highlighted else _LINE)
    edge = _PADDING + _BORDER
    inner = width - 2 * edge
    for number, line in enumerate(outfit.lines):
        # The pictures of one line share its width; their boxes keep its height.
        room = inner - (len(line) - 1) * _GAP
        box = (room // max(len(line), outfit.columns), item_px)
        for place, picture in enumerate(line):
            fitted = ImageOps.contain(
                picture.convert("RGB"), box, Image.Resampling.LANCZOS
            )
            left = edge + place * (box[0] + _GAP) + (box[0] - fitted.width) // 2
            top = edge + number * (item_px + _GAP) + (item_px - fitted.height) // 2
            card.paste(fitted, (left, top))
    draw = ImageDraw.Draw(card)
    labels = len(outfit.labels) * _LABEL
    middle = height - edge - labels - _CAPTION // 2 + 4
    room = inner
    if outfit.highlighted:
        room -= 20
        _tick(card, edge + inner - 15, middle - 7)
    for number, label in enumerate(outfit.labels):
        text, line = _fitted(label, _font(13), inner), height - edge - labels
        position = (edge + 1, line + number * _LABEL + _LABEL // 2)
        draw.text(position, text, _TEXT, _font(13), anchor="lm")
    text = _fitted(outfit.caption, _font(15), room)
    draw.text((edge + 1, middle), text, _MUTED, _font(15), anchor="lm")
    return card


def _rounded(width: int, height: int, border: str) -> Image.Image:
    """An empty card. Drawn larger and scaled down, which makes round corners smooth."""
    scale = 4
    large = Image.new("RGB", (scale * width, scale * height), _PAGE)
    line = _BORDER if border == _GREEN else 1
    ImageDraw.Draw(large).rounded_rectangle(
        (0, 0, large.width - 1, large.height - 1),
        radius=scale * _RADIUS,
        fill=_CARD,
        outline=border,
        width=scale * line,
    )
    return large.resize((width, height), Image.Resampling.BOX)


def _tick(card: Image.Image, left: int, top: int) -> None:
    """Draws a tick of 15 x 14 pixels: fonts do not all have one."""
    scale = 4
    large = Image.new("RGB", (15 * scale, 14 * scale), _CARD)
    points = [(1, 8), (5.5, 12), (13.5, 2)]
    ImageDraw.Draw(large).line(
        [(scale * x, scale * y) for x, y in points],
        fill=_GREEN,
        width=int(2.6 * scale),
        joint="curve",
    )
    card.paste(large.resize((15, 14), Image.Resampling.BOX), (left, top))


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu, which comes with matplotlib, so that sheets look the same everywhere.

    The font that comes with Pillow has no letters with accents.
    """
    # Where the package is, without the time of importing it.
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise MissingPackageError(
            "pictures need the font of matplotlib; install it with "
            "pip install 'fhn_jax[retrieval]'"
        )
    fonts = Path(found.origin).with_name("mpl-data") / "fonts" / "ttf"
    return ImageFont.truetype(fonts / "DejaVuSans.ttf", size)


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text on one line, cut with "…" to what fits `width` pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
