"""What the command line shows of outfits: a table, a JSON file and a contact sheet."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Num

from fhn_jax import files
from fhn_jax.cli.progress import say_written
from fhn_jax.codes import Codes
from fhn_jax.errors import InputError, MissingFileError

# Cards side by side in a contact sheet, and rows of them: more is nothing to look at.
_CARDS = 5
_SHEET_ROWS = 20


def read_csv(
    path: Path, what: str, headers: Sequence[Sequence[str]]
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Reads a CSV file; blank lines are left out.

    Args:
      what: the file should hold, for errors.
      headers: those that it may have.
    Returns:
      its header; and of each row where it is, for errors, and its cells.
    Raises:
      FileNotFoundError: there is no such file.
      ValueError: another header, or a row of more or fewer cells; names the line.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; expected a CSV file of {what}")
    text = files.read_text(path, f"expected a CSV file of {what}; save it as UTF-8")
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next(reader, [])
        if header not in headers:
            expected = " or ".join(repr(",".join(each)) for each in headers)
            raise InputError(
                f"{path}, line 1: header is {','.join(header)[:160]!r}, expected "
                f"{expected}"
            )
        rows = [(f"{path}, line {reader.line_num}", row) for row in reader if row]
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}; expected a CSV file of {what}"
        ) from None
    for where, row in rows:
        if len(row) != len(header):
            raise InputError(f"{where}: {len(row)} cells, expected {len(header)}")
    return header, rows


def read_outfits(path: Path, codes: Codes) -> Int[np.ndarray, "n s"]:
    """Reads outfits from a CSV file whose header names the slots.

    Args:
      path: a header such as `top,bottom,shoe` and a row for each outfit: its items by
        id, or by name where the codes keep names. The id of an outfit is the number of
        its row, from 0.
    Raises:
      FileNotFoundError: there is no such file.
      ValueError: another header, no outfits, or an unknown item; names the line.
    """
    slots = [codes.categories[category] for category in codes.slots]
    numbers = ItemNumbers(codes)
    _, rows = read_csv(path, "outfits", [slots])
    if not rows:
        raise InputError(f"{path} holds no outfits, expected a line for each")
    return np.array(
        [
            [
                numbers.find(slot, cell, where)
                for slot, cell in zip(slots, row, strict=True)
            ]
            for where, row in rows
        ]
    )


def parse_items(text: str, codes: Codes, flag: str) -> dict[str, list[int]]:
    """Items as the command line has them: `shoe:4`, `top:shirt.jpg`, with commas.

    Args:
      flag: names the flag in errors.
    Returns:
      category -> item ids.
    Raises:
      ValueError: an unknown category or item.
    """
    numbers = ItemNumbers(codes)
    items: dict[str, list[int]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, item = part.partition(":")
        if not colon or name not in codes.categories:
            raise InputError(
                f"{flag}: {part!r} is no item; expected a category of "
                f"{codes.categories} and an item of it, such as "
                f"'{codes.categories[0]}:4'"
            )
        items.setdefault(name, []).append(numbers.find(name, item, flag))
    return items


class ItemNumbers:
    """Finds items by what a user may call them: their ids and their names, as text.

    Names win: an item may be called "7".
    """

    def __init__(self, codes: Codes):
        self._codes = codes
        self._known: dict[str, dict[str, int]] = {}

    def find(self, category: str, item: str, where: str) -> int:
        """The id of an item.

        Args:
          where: the text stands, for errors.
        Raises:
          ValueError: there is no such item.
        """
        codes, number = self._codes, self._codes.categories.index(category)
        if category not in self._known:
            known = {str(i): i for i in range(codes.num_items[number])}
            if codes.names is not None:
                known |= {name: i for i, name in enumerate(codes.names[number])}
            self._known[category] = known
        found = self._known[category].get(item)
        if found is None:
            raise InputError(
                f"{where}: {category} {item!r} is unknown; expected an id of 0 to "
                f"{codes.num_items[number] - 1}, or the name of an item"
            )
        return found


def write_outfits(
    folder: Path,
    name: str,
    about: Mapping[str, Any],
    codes: Codes,
    images: Any,
    *,
    items: Int[np.ndarray, "k s"],
    scores: Num[np.ndarray, " k"],
    ids: Int[np.ndarray, " k"] | None = None,
) -> dict[str, Any]:
    """Prints outfits as a table; writes NAME.json and, with images, NAME.png.

    The picture shows the best of them, 100 at most.

    Args:
      folder: gets the files.
      about: what was asked, goes into the file.
      images: the `ImageStore` of the items, by the names in the codes, or None.
      items: of each outfit, the best first.
      scores: of the outfits.
      ids: of stored outfits.
    Returns:
      what NAME.json holds: `about`, and "outfits": for each, from the best, {"id" of
      a stored outfit, "score", "items", "names"}.
    """
    slots = codes.slots
    rows = [
        {
            "score": float(score),
            "items": outfit,
            "names": [
                codes.names[c][i] if codes.names is not None else str(i)
                for c, i in zip(slots, outfit, strict=True)
            ],
        }
        for score, outfit in zip(scores, items.tolist(), strict=True)
    ]
    if ids is not None:
        rows = [{"id": n} | row for n, row in zip(ids.tolist(), rows, strict=True)]
    result = dict(about) | {"outfits": rows}
    written, sheet = [folder / f"{name}.json"], folder / f"{name}.png"
    files.write_json(written[0], result)
    if images is not None and rows and codes.names is not None:
        _write_sheet(sheet, name, about, codes, rows, images)
        written.append(sheet)
    else:
        sheet.unlink(missing_ok=True)  # pictures of an earlier answer
    print(format_table([codes.categories[c] for c in slots], rows))
    say_written(*written)
    return result


def format_table(slots: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Outfits as lines of text, from the best.

    >>> print(format_table(["top"], [{"id": 7, "score": 1.5, "names": ["shirt"]}]))
    rank  outfit     score  top
       1       7    1.5000  shirt
    """
    widths = [
        max([len(slot), *(len(row["names"][i]) for row in rows)])
        for i, slot in enumerate(slots)
    ]
    cells = [("rank", "outfit", "score", list(slots))]
    cells += [
        (str(rank), str(row.get("id", "new")), f"{row['score']:.4f}", row["names"])
        for rank, row in enumerate(rows, 1)
    ]
    return "\n".join(
        f"{rank:>4}  {outfit:>6}  {score:>8}  "
        + "  ".join(f"{n:{w}}" for n, w in zip(names, widths, strict=True)).rstrip()
        for rank, outfit, score, names in cells
    )


def _write_sheet(path, name, about, codes, rows, images) -> None:
    from fhn_jax.data.images import thumbnail
    from fhn_jax.reporting import contact_sheet

    shown = rows[: _CARDS * _SHEET_ROWS]
    best = "The best outfits"
    if len(shown) < len(rows):
        best = f"The first {len(shown)} of the {len(rows):,} best outfits"
    pictures = [
        contact_sheet.OutfitPicture(
            [
                [
                    thumbnail(images, codes.names[c][i], contact_sheet.ITEM_PX)
                    for c, i in line
                ]
                for line in contact_sheet.as_worn(codes.slots, row["items"])
            ],
            caption=f"{rank} · {row['score']:.2f}",
        )
        for rank, row in enumerate(shown, 1)
    ]
    sheet = contact_sheet.contact_sheet(
        [pictures[i : i + _CARDS] for i in range(0, len(pictures), _CARDS)],
        heading=f"{name.capitalize()} for user {about['user']}",
        note=f"{best} of {codes.dataset}, by the codes",
    )
    with files.atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
