"""What a data root holds before an update, and what an update may not change.

Known items and users keep their numbers. So an id must go on meaning the same piece: its
category stays, and its title and photo do not both change.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fhn_jax.data_tools.shop.engine import name, text
from fhn_jax.data_tools.shop.items import Categories
from fhn_jax.data_tools.shop.sources import Source
from fhn_jax.data_tools.shop.splits import Judgements
from jaxtyping import Bool, Int32

from fhn_jax.data.catalogue import Catalogue, Outfits
from fhn_jax.data.forgetting import without_outfits
from fhn_jax.data.item_table import (
    ITEMS_FILE,
    OWN_COLUMNS,
    USERS_FILE,
    Ids,
    ItemTable,
    read_items,
    read_users,
)
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.negatives import outfit_keys
from fhn_jax.data.vectors import PLACES
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.files import link_or_copy, read_json

# Types of columns as an import writes them.
_KINDS = {
    "DOUBLE": "number",
    "BOOLEAN": "boolean",
    "TIMESTAMP": "time",
    "VARCHAR": "text",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Before:
    """A data root that is to be updated.

    Attributes:
      root: its folder.
      catalogue: items by number, and who likes what.
      table, users: the shop's ids.
      options: of its import.
      kinds: attribute → its type, as in catalogue.toml.
      decimals: attribute → the sign by which its numbers were read.
    """

    root: Path
    catalogue: Catalogue
    table: ItemTable
    users: Ids
    options: Mapping[str, Any]
    kinds: Mapping[str, str]
    decimals: Mapping[str, str]

    @property
    def masks(self) -> tuple[int, ...]:
        """Templates of the data, as bits of slot numbers."""
        return tuple(sum(1 << k for k in each) for each in self.catalogue.templates)

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """Image names of all items."""
        return frozenset(self.catalogue.item_names())

    @property
    def images(self) -> Path | None:
        """The LMDB of the photos, if there are any."""
        path = self.root / "images" / "lmdb"
        return path if path.is_dir() else None

    def slots(self, categories: Categories) -> Categories:
        """The same categories, in slots that have the numbers they had."""
        known = self.catalogue.slot_names
        new = [slot for slot in categories.slots if slot not in known]
        return dataclasses.replace(categories, slots=(*known, *new))


def read_before(connection: Any, root: Path, variant: str) -> Before:
    """Reads a data root, and makes `before_items` and `before_users` of it.

    Raises:
      MissingFileError: there is none, or not one that an import made.
      ValueError: it is damaged.
    """
    catalogue = read_catalogue(root, variant)
    table, users = read_items(root), read_users(root)
    about = root / "import.json"
    if table is None or users is None or not about.is_file():
        raise MissingFileError(
            f"{root} has no {ITEMS_FILE}, {USERS_FILE} or import.json; only what "
            "import-catalogue made can be updated"
        )
    known = read_json(about, dict, "import the catalogue again")
    options = known.get("options", {})
    if options.get("new_items"):
        raise InputError(
            f"{root} was imported with --new-items: an update cannot keep the items of "
            "its test unseen; import the catalogue anew"
        )
    listed = [
        (category, number, k, image)
        for k, (category, names) in enumerate(
            zip(catalogue.categories, catalogue.names, strict=True)
        )
        for number, image in enumerate(names)
    ]
    columns: list[Any] = [np.array(each) for each in zip(*listed, strict=True)]
    names = dict(zip(("category", "number", "slot", "name"), columns, strict=True))
    connection.register("names_before", names)
    source = f"read_parquet({text(root / ITEMS_FILE)})"
    described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    there = {column: kind for column, kind, *_ in described}
    kept = ", ".join(f"p.{name(column)}" for column in there if column != "removed")
    was_removed = "p.removed" if "removed" in there else "false"
    connection.execute(
        f"""
        CREATE TABLE before_items AS SELECT {kept}, n.name,
            {was_removed} AS was_removed, CAST(n.slot AS INTEGER) AS slot
          FROM {source} p JOIN names_before n ON p.category = n.category
            AND p."index" = n.number;
        CREATE TABLE before_users AS SELECT "index" AS number, id
          FROM read_parquet({text(root / USERS_FILE)})
        """
    )
    connection.unregister("names_before")
    kinds = {
        column: _KINDS.get(kind, "text")
        for column, kind in there.items()
        if column not in OWN_COLUMNS
    }
    decimals = known.get("decimals", {})
    return Before(root, catalogue, table, users, options, kinds, decimals)


def leave_out_moved(
    connection: Any, source: Source, before: Before, categories: Categories
) -> None:
    """Leaves out the items of new slots, and known ones whose slot is another now."""
    slots = "[" + ", ".join(map(text, categories.slots)) + "]"
    known = len(before.catalogue.slots)
    moved = f"""
        SELECT g.row, g.id, CASE WHEN b.id IS NULL THEN 'its slot is new: ' ||
            {slots}[g.slot + 1] || '; import anew, and train, to add it'
          ELSE 'it was of another slot: ' || b.category || '; give it another id' END
          AS reason, b.id IS NOT NULL AS fault
        FROM good_items g LEFT JOIN before_items b ON g.id = b.id
        WHERE g.slot >= {known} OR g.slot <> b.slot
        """
    connection.execute(
        f"""
        CREATE TEMP TABLE moved AS {moved};
        INSERT INTO left_out SELECT {text(source.label)}, row, id, reason, fault
          FROM moved ORDER BY row;
        DELETE FROM good_items WHERE row IN (SELECT row FROM moved);
        UPDATE good_items SET name = b.name FROM before_items b WHERE good_items.id = b.id
        """
    )


def check_whole(
    connection: Any, source: Source, before: Before, *, force: bool
) -> None:
    """Raises InputError if most items are gone, as from a table that was cut off."""
    gone, there = connection.execute(
        "SELECT count(*) FILTER (g.row IS NULL), count(*) FROM before_items b "
        "LEFT JOIN good_items g ON g.id = b.id WHERE NOT b.was_removed"
    ).fetchone()
    if 2 * gone > there and not force:
        raise InputError(
            f"{source.label} lacks {gone:,} of the {there:,} items that there were; is "
            "it cut off, or are its ids others? Give all that is sold, or take them out "
            "of sale with import-catalogue --update --force"
        )


def known_users(connection: Any) -> Int32[np.ndarray, " u"]:
    """The number that each of `user_numbers` has already, -1 for new users."""
    found = connection.execute(
        "SELECT coalesce(b.number, -1)::INTEGER AS number FROM user_numbers u "
        "LEFT JOIN before_users b ON u.id = b.id ORDER BY u.number"
    ).fetchnumpy()["number"]
    return np.ma.getdata(found).astype(np.int32)


def are_new(
    before: Before, all_: Judgements, known: Int32[np.ndarray, " u"]
) -> Bool[np.ndarray, " n"]:
    """Which judgements the data have not: all but what is a positive of some split.

    Args:
      known: number of each user, -1 for new ones.
    """
    theirs = [_rows(s.positives) for s in before.catalogue.splits.values()]
    ours = _rows_of(before, all_, known)
    return (ours[:, 0] < 0) | ~_among(ours, np.concatenate(theirs))


def without_disliked(
    before: Before, all_: Judgements, known: Int32[np.ndarray, " u"]
) -> Before:
    """The data without the positives that their users dislike now.

    Args:
      known: number of each user, -1 for new ones.
    """
    disliked = _rows_of(before, all_.take(~all_.liked), known)

    def gone(users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return _among(np.column_stack([users, items]), disliked)

    left = without_outfits(before.catalogue, gone, stand_ins=())
    return dataclasses.replace(before, catalogue=left)


def _rows(outfits: Outfits) -> Int32[np.ndarray, "n s"]:
    """Outfits as rows of the user and the items."""
    return np.column_stack([outfits.users, outfits.items])


def _rows_of(
    before: Before, some: Judgements, known: Int32[np.ndarray, " u"]
) -> Int32[np.ndarray, "n s"]:
    """Judgements as rows of the user's number, and the items of the data's slots."""
    width = len(before.catalogue.slots)
    return np.column_stack([known[some.users], some.items[:, :width]])


def _among(
    ours: Int32[np.ndarray, "n s"], theirs: Int32[np.ndarray, "m s"]
) -> Bool[np.ndarray, " n"]:
    """Which rows are among others."""
    sizes = [
        int(max(rows.max(initial=0) for rows in (column, other))) + 1
        for column, other in zip(ours.T, theirs.T, strict=True)
    ]
    return np.isin(outfit_keys(ours, sizes), outfit_keys(theirs, sizes))


def carry_over(before: Before, root: Path, *, only_said: bool = False) -> list[str]:
    """Puts what an update does not make anew into the new data root, as it is.

    Args:
      only_said: whether nothing is to be written.
    Returns:
      what must be said about it.
    """
    notes = []
    for path in sorted(before.root.rglob("*")):
        own = path.relative_to(before.root)
        if path.is_dir() or own.parts[0] == "images" or (root / own).exists():
            continue
        if own.parts[0].startswith("tuples_"):
            continue
        if not only_said:
            (root / own).parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, root / own)
        if own.parts[0] in PLACES and own.suffix == ".npz":
            notes.append(
                f"{own} has no vectors of the new items; make them as they were made"
            )
    for path in sorted(before.root.glob("tuples_*")):
        if path.name != f"tuples_{before.catalogue.variant}":
            notes.append(f"{path.name} was of the catalogue before, and is gone")
    return notes
