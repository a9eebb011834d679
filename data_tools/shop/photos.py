"""Photos of a shop's items: found, checked, and stored for training."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from fhn_jax.data_tools.build_lmdb import image_faults, store_images
from fhn_jax.data_tools.shop.engine import text
from fhn_jax.data_tools.shop.sources import Source

from fhn_jax.data.records import Progress

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
_FOLDER = "images"
_ROWS_AT_ONCE = 10_000
_SHOWN = 200


def find_photos(
    connection: Any,
    source: Source,
    folder: Path | None,
    known: Collection[str] = (),
) -> dict[str, Path]:
    """The photo of each item of `good_items` by its name; {} where none has any.

    Items without one are noted in `left_out`, and no longer in `good_items`.

    Args:
      folder: that paths in the column image start from; without such a column, the photos
        are in `images` below it, and called like the items' ids.
      known: names of items that may go without, in an update.
    """
    has_photos = folder is not None and (
        source.has("image") or (folder / _FOLDER).is_dir()
    )
    if not has_photos and not known:
        return {}
    if folder is None or not has_photos:
        locate = _nowhere
    elif source.has("image"):
        locate = _by_path(folder)
    else:
        locate = _by_id(folder / _FOLDER)
    photos, faults = {}, []
    for row, name, item, image in _rows(connection, source):
        found = locate(item, image)
        if isinstance(found, Path):
            photos[name] = found
        elif name not in known:
            faults.append((row, found))
    _leave_out(connection, source, faults)
    return photos


def store_photos(
    connection: Any,
    source: Source,
    photos: Mapping[str, Path],
    target: Path | None,
    size: int,
    progress: Progress | None,
    known: Path | None = None,
) -> None:
    """Stores photos in an LMDB; items whose photo is of no use are left out.

    Args:
      target: the folder of the LMDB; None only to read the photos.
      known: the LMDB of an earlier import, whose photos are in it as well.
    """
    if target is None:
        faults = image_faults(photos, size, progress)
    else:
        faults = store_images(photos, target, size, known=known, progress=progress)
    numbers = {}
    if faults:
        for row, name, _, _ in _rows(connection, source):
            if name in faults:
                numbers[name] = row
    _leave_out(
        connection,
        source,
        [
            (numbers[name], f"its photo is of no use: {photos[name].name}: {why}")
            for name, why in faults.items()
        ],
    )


def _nowhere(item: str, image: str | None) -> Path | str:
    return "its photo is missing"


def _by_path(folder: Path) -> Callable[[str, str | None], Path | str]:
    real = folder.resolve()

    def locate(item: str, image: str | None) -> Path | str:
        if image is None:
            return "no photo"
        if "://" in image[:10]:
            return f"its photo is a web address; download it first: {image[:_SHOWN]}"
        path = folder / image
        if "\\" in image and not path.exists():
            path = folder / image.replace("\\", "/")  # as Windows writes it
        if "\0" in image or not path.resolve().is_relative_to(real):
            return f"its photo is outside of the shop's folder: {image[:_SHOWN]}"
        return path if path.is_file() else f"its photo is missing: {image[:_SHOWN]}"

    return locate


def _by_id(folder: Path) -> Callable[[str, str | None], Path | str]:
    there = {}
    for name in os.listdir(folder):
        stem, ending = os.path.splitext(name)
        there[stem + ending.casefold()] = there[name] = name
    others = {os.path.splitext(name)[0]: os.path.splitext(name)[1] for name in there}

    def locate(item: str, image: str | None) -> Path | str:
        names = (item, *(item + ending for ending in _ENDINGS))
        found = next((there[name] for name in names if name in there), None)
        if found is None and item in others:
            return f"its photo is a {others[item]}; expected {', '.join(_ENDINGS)}"
        if found is None:
            return f"its photo is missing: {folder.name}/{item[:_SHOWN]}{_ENDINGS[0]}"
        return folder / found

    return locate


def _rows(connection: Any, source: Source) -> Iterator[tuple]:
    """Row, name, id and image of each item of `good_items`."""
    image = "image" if source.has("image") else "NULL"
    cursor = connection.cursor()
    cursor.execute(f"SELECT row, name, id, {image} FROM good_items ORDER BY row")
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        yield from rows


def _leave_out(connection: Any, source: Source, faults: list[tuple[int, str]]) -> None:
    if not faults:
        return
    connection.execute("CREATE TEMP TABLE bad_photos (row BIGINT, reason VARCHAR)")
    connection.executemany("INSERT INTO bad_photos VALUES (?, ?)", faults)
    connection.execute(
        f"""
        INSERT INTO left_out SELECT {text(source.label)}, b.row, g.id, b.reason, true
          FROM bad_photos b JOIN good_items g ON b.row = g.row ORDER BY b.row;
        DELETE FROM good_items WHERE row IN (SELECT row FROM bad_photos);
        DROP TABLE bad_photos
        """
    )
