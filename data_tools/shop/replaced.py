"""Photos of known items that are others today.

`photos.parquet` remembers a digest of each photo as the shop has it. A photo that is
replaced gets a name of its own, by which the item's code is made anew, see
`fhn_jax.training.growth`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fhn_jax.data_tools.shop.before import Before
from fhn_jax.data_tools.shop.engine import text
from fhn_jax.data_tools.shop.sources import Source

from fhn_jax.data.images import ImageStore, next_version, open_images
from fhn_jax.data.item_table import PHOTOS_FILE, write_table
from fhn_jax.data.pictures import UnsuitableImage, decode, fitted, for_training
from fhn_jax.errors import InputError

_SHOWN = 5
# A photo that was only stored anew differs by no more, of 256 levels in the mean.
_SAME = 4.0
_COMPARED_SIZE = 64


class Replaced(NamedTuple):
    """What became of the photos of known items.

    Attributes:
      photos: those to store, by the names that items have now.
      digests: of all photos, by name.
      others: how many items are other pieces.
      count: how many have another photo, and are the same piece.
    """

    photos: Mapping[str, Path]
    digests: Mapping[str, str]
    others: int = 0
    count: int = 0


def digests_of(photos: Mapping[str, Path]) -> dict[str, str]:
    """A digest of each file, by name; without those that cannot be read."""
    with ThreadPoolExecutor() as pool:
        found = zip(photos, pool.map(_digest, photos.values()), strict=True)
        return {name: digest for name, digest in found if digest}


def _digest(path: Path) -> str:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=12).hexdigest()
    except OSError:
        return ""


def write_digests(root: Path, digests: Mapping[str, str]) -> None:
    """Writes photos.parquet."""
    rows = sorted(digests.items())
    write_table(root / PHOTOS_FILE, {"name": str, "digest": str}, rows)


def replace_photos(
    connection: Any,
    source: Source,
    before: Before,
    photos: Mapping[str, Path],
    size: int,
    *,
    force: bool,
) -> Replaced:
    """Finds the known items whose photo is another, and gives them another name.

    Args:
      photos: the photo of each item by name.
      size: that photos are stored with.
      force: whether items may change altogether.
    Raises:
      InputError: title and photo of an item are another piece's.
    """
    known = {name: path for name, path in photos.items() if name in before.names}
    digests, remembered = digests_of(known), _remembered(connection, before)
    candidates = {
        name: photos[name]
        for name, digest in digests.items()
        if remembered.get(name) != digest
    }
    changed = _changed(connection, open_images(before.root), candidates, size)
    title = "NULL, NULL, false"
    if source.has("title"):
        title = "b.title, g.title, g.title IS DISTINCT FROM b.title"
    rows = connection.execute(
        f"SELECT g.row, g.id, g.name, {title} FROM good_items g JOIN "
        "before_items b ON g.id = b.id ORDER BY g.row"
    ).fetchall()
    rows = [row for row in rows if row[2] in changed]
    others = [row for row in rows if row[-1]]
    if others and not force:
        shown = "\n".join(
            f"  row {row:,}: {own!r} was {old!r} and is {new!r} now"
            for row, own, _, old, new, _ in others[:_SHOWN]
        )
        raise InputError(
            f"{source.label}: title and photo of {len(others):,} known items are "
            f"others:\n{shown}\nan id must go on meaning the same piece, since likes "
            "and codes stay; give new pieces new ids, or take the change with --force"
        )
    found = {name: path for name, path in photos.items() if name not in known}
    digests = {**remembered, **digests}
    for _, own, image, *_ in rows:
        renamed = next_version(image, before.names)
        found[renamed] = photos[image]
        digests[renamed] = digests.pop(image)
        connection.execute(
            "UPDATE good_items SET name = ? WHERE id = ?", [renamed, own]
        )
    return Replaced(found, digests, len(others), len(rows) - len(others))


def _remembered(connection: Any, before: Before) -> dict[str, str]:
    path = before.root / PHOTOS_FILE
    if not path.is_file():
        return {}
    rows = connection.execute(f"SELECT name, digest FROM read_parquet({text(path)})")
    return {name: digest for name, digest in rows.fetchall() if name in before.names}


def _changed(
    connection: Any, store: ImageStore, photos: Mapping[str, Path], size: int
) -> set[str]:
    """Names of the photos that show something else than those that are stored."""
    changed, faults = set(), []
    for name, data in _prepared(photos, size):
        if isinstance(data, str):
            faults.append(data)
        elif store.missing([name]) or not _alike(data, store.read([name])[0], name):
            changed.add(name)
    if faults:
        note = (
            f"{len(faults):,} new photos of known items are of no use, and the old ones "
            f"stay, such as {faults[0]}"
        )
        connection.execute("INSERT INTO notes VALUES (?)", [note])
    return changed


def _prepared(
    photos: Mapping[str, Path], size: int
) -> Iterator[tuple[str, bytes | str]]:
    """Name, and the photo as it is stored for training, or what is wrong with it."""
    for name, path in photos.items():
        try:
            yield name, for_training(path.read_bytes(), name, size)
        except (OSError, UnsuitableImage) as error:
            yield name, str(error)


def _alike(one: bytes, other: bytes, name: str) -> bool:
    if one == other:
        return True
    pictures = [
        fitted(decode(data, name), _COMPARED_SIZE).astype(np.int16)
        for data in (one, other)
    ]
    return float(np.abs(pictures[0] - pictures[1]).mean()) <= _SAME
