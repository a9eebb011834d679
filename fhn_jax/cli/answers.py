"""What the command line shows of outfits: a table, a JSON file and a contact sheet."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Num

from fhn_jax import files
from fhn_jax.cli.progress import say_written
from fhn_jax.codes import Codes
from fhn_jax.data.csv_files import read_rows
from fhn_jax.data.item_names import ItemNames
from fhn_jax.errors import InputError, nearest

# Cards side by side in a contact sheet, and rows of them: more is nothing to look at.
_CARDS = 5
_SHEET_ROWS = 20
# Characters of an item in a table; image names are often 44.
_LONGEST = 48


def read_csv(
    path: Path, what: str, headers: Sequence[Sequence[str]]
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Reads a CSV file, see `read_rows`.

    Args:
      headers: those that it may have.
    Raises:
      FileNotFoundError, ValueError: as `read_rows`; another header.
    """
    header, rows = read_rows(path, what)
    if header not in [*map(list, headers)]:
        expected = " or ".join(repr(",".join(each)) for each in headers)
        raise InputError(
            f"{path}, line 1: header is {','.join(header)[:160]!r}, expected {expected}"
        )
    return header, rows


def read_outfits(path: Path, codes: Codes, names: ItemNames) -> Int[np.ndarray, "n s"]:
    """Reads outfits from a CSV file whose header names the slots.

    Args:
      path: a header such as `top,bottom,shoe`, perhaps with `outfit_id` before it, which is
        not read, and a row for each outfit: its items, see `ItemNames.find`, and nothing or
        -1 where its template has none. The id of an outfit is the number of its row, from 0.
      names: of the codes' items.
    Raises:
      FileNotFoundError: there is no such file.
      ValueError: another header, no outfits, an unknown item, or an outfit of no
        template; names the line.
    """
    slots = [codes.categories[category] for category in codes.slots]
    header, rows = read_csv(path, "outfits", [slots, ["outfit_id", *slots]])
    rows = [(where, cells[len(header) - len(slots) :]) for where, cells in rows]
    if not rows:
        raise InputError(f"{path} holds no outfits, expected a line for each")
    found = [items_of_cells(cells, slots, names, where) for where, cells in rows]
    outfits = np.array(found)
    if len(codes.templates) > 1:
        shapes = set(map(frozenset, codes.templates))
        for (where, _), outfit in zip(rows, outfits, strict=True):
            if frozenset(np.flatnonzero(outfit >= 0).tolist()) not in shapes:
                raise InputError(
                    f"{where}: no outfit has just these slots; expected those of "
                    f"{' or '.join(map('+'.join, codes.template_names))}"
                )
    elif (outfits < 0).any():
        where, _ = rows[int((outfits < 0).any(axis=1).argmax())]
        raise InputError(f"{where}: a slot is empty; expected an item of each slot")
    return outfits


def items_of_cells(
    cells: Sequence[str], slots: Sequence[str], names: ItemNames, where: str
) -> list[int]:
    """The items of a row that has a cell for each slot, -1 for none."""
    return [
        -1 if cell.strip() in ("", "-1") else names.find(slot, cell.strip(), where)
        for slot, cell in zip(slots, cells, strict=True)
    ]


def parse_items(
    texts: Sequence[str], names: ItemNames, flag: str
) -> dict[str, list[int]]:
    """Items as the command line has them: `shoe:4`, `top:SKU-9`, `SKU-9`, with commas.

    Args:
      texts: each as `split_items` has it.
      names: see `ItemNames.find`.
      flag: names the flag in errors.
    Returns:
      category -> item ids.
    Raises:
      ValueError: an unknown category or item.
    """
    items: dict[str, list[int]] = {}
    for part in (part for text in texts for part in split_items(text, names)):
        category, number = parse_item(part, names, flag)
        items.setdefault(category, []).append(number)
    return items


def split_items(text: str, names: ItemNames) -> list[str]:
    """What stands between the commas, unless they are of the id of one item."""
    text = text.strip()
    category, _, own = text.partition(":")
    of_category = category in names.categories and names.item(own) is not None
    if names.item(text) is not None or of_category:
        return [text]
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_item(text: str, names: ItemNames, flag: str) -> tuple[str, int]:
    """One item, see `parse_items`: its category and id."""
    own = names.item(text)
    if own is not None:
        return names.categories[own[0]], own[1]
    name, colon, item = text.partition(":")
    if not colon or name not in names.categories:
        by_id = "" if names.table is None else ", or an id of the shop"
        near = nearest(name, names.categories if colon else ())
        raise InputError(
            f"{flag}: {text[:80]!r} is no item; expected a category of "
            f"{names.categories} and an item of it, such as "
            f"'{names.categories[0]}:4'{by_id}{near}"
        )
    return name, names.find(name, item, flag)


def parse_templates(texts: Sequence[str], codes: Codes) -> list[tuple[str, ...]] | None:
    """Templates as the command line has them: `top+bottom+shoe,dress+shoe`.

    Returns:
      the categories of each, in the order of the codes; None if there are none.
    Raises:
      ValueError: outfits have no such template; names the nearest.
    """
    known = {tuple(sorted(each)): each for each in codes.template_names}
    found, text = [], ",".join(texts)
    for part in filter(None, (part.strip() for part in text.split(","))):
        names = tuple(sorted(name.strip() for name in part.split("+")))
        if names not in known:
            shown = ["+".join(each) for each in known.values()]
            raise InputError(
                f"--templates: {part[:80]!r} is no template of these outfits; expected "
                f"some of {', '.join(shown)}{nearest(part[:80], shown)}"
            )
        found.append(known[names])
    return found or None


def write_outfits(
    folder: Path,
    name: str,
    about: Mapping[str, Any],
    codes: Codes,
    names: ItemNames,
    images: Any,
    *,
    items: Int[np.ndarray, "k s"],
    scores: Num[np.ndarray, " k"],
    numbers: Int[np.ndarray, " k"] | None = None,
    emptied_by: str | None = None,
) -> dict[str, Any]:
    """Prints outfits as a table; writes NAME.json and, with images, NAME.png.

    The picture shows the best of them, 100 at most.

    Args:
      folder: gets the files.
      about: what was asked, goes into the file.
      names: of the codes' items.
      images: the `ImageStore` of the items, by the names in the codes, or None.
      items: of each outfit, the best first.
      scores: of the outfits.
      numbers: of stored outfits.
      emptied_by: the filter that leaves none, if there are none.
    Returns:
      what NAME.json holds: `about`, `emptied_by` if there is that, and "outfits": for each, from the best, {"id" of
      a stored outfit, "score", "items", "names"}, and of a shop's items "ids" and
      "titles"; in a slot that an outfit has not, items have -1, the others null.
    """
    slots = codes.slots

    def of_items(call, outfit) -> list:
        pairs = zip(slots, outfit, strict=True)
        return [None if item < 0 else call(slot, item) for slot, item in pairs]

    def image(category: int, item: int) -> str:
        return str(item) if codes.names is None else codes.names[category][item]

    rows: list[dict[str, Any]] = []
    for score, outfit in zip(scores, items.tolist(), strict=True):
        row = {"score": float(score), "items": outfit, "names": of_items(image, outfit)}
        if names.table is not None:
            row["ids"] = of_items(names.id, outfit)
            row["titles"] = of_items(names.title, outfit)
        rows.append(row)
    if numbers is not None:
        rows = [{"id": n} | row for n, row in zip(numbers.tolist(), rows, strict=True)]
    result = dict(about) | {"outfits": rows}
    if emptied_by:
        result["emptied_by"] = emptied_by
    written, sheet = [folder / f"{name}.json"], folder / f"{name}.png"
    files.write_json(written[0], result)
    if images is not None and rows and codes.names is not None:
        _write_sheet(sheet, name, about, codes, names, rows, images)
        written.append(sheet)
    else:
        sheet.unlink(missing_ok=True)  # pictures of an earlier answer
    labels = [of_items(names.label, row["items"]) for row in rows]
    print(format_table([codes.categories[c] for c in slots], rows, labels))
    if emptied_by:
        print(f"no outfit is left by: {emptied_by}")
    say_written(*written)
    return result


def format_table(
    slots: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Sequence[str | None]],
) -> str:
    """Outfits as lines of text, from the best.

    Args:
      labels: of each outfit's items.

    >>> print(format_table(["top"], [{"id": 7, "score": 1.5}], [["shirt"]]))
    rank  outfit     score  top
       1       7    1.5000  shirt
    """
    table = [[_cut(label or "–") for label in each] for each in labels]
    widths = [max(map(len, column)) for column in zip(slots, *table, strict=True)]
    cells = [("rank", "outfit", "score", list(slots))]
    cells += [
        (str(rank), str(row.get("id", "new")), f"{row['score']:.4f}", label)
        for rank, (row, label) in enumerate(zip(rows, table, strict=True), 1)
    ]
    return "\n".join(
        f"{rank:>4}  {outfit:>6}  {score:>8}  "
        + "  ".join(f"{n:{w}}" for n, w in zip(names, widths, strict=True)).rstrip()
        for rank, outfit, score, names in cells
    )


def _cut(label: str) -> str:
    """A label that leaves room for others beside it."""
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1].rstrip()}…"


def _write_sheet(path, name, about, codes, names, rows, images) -> None:
    from fhn_jax.data.images import thumbnail
    from fhn_jax.reporting import contact_sheet

    shown = rows[: _CARDS * _SHEET_ROWS]
    best = "The best outfits"
    if len(shown) < len(rows):
        best = f"The first {len(shown)} of the {len(rows):,} best outfits"

    def picture(category: int, item: int):
        return thumbnail(images, codes.names[category][item], contact_sheet.ITEM_PX)

    pictures = [
        contact_sheet.picture_of(
            codes.slots,
            row["items"],
            picture,
            caption=f"{rank} · {row['score']:.2f}",
            labels=names.called(codes.slots, row["items"]),
        )
        for rank, row in enumerate(shown, 1)
    ]
    sheet = contact_sheet.contact_sheet(
        [pictures[i : i + _CARDS] for i in range(0, len(pictures), _CARDS)],
        heading=f"{name.capitalize()} for user {about.get('user_id', about['user'])}",
        note=f"{best} of {codes.dataset}, by the codes",
    )
    with files.atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
