"""Items of a shop: their slots, numbers, names and attributes."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fhn_jax.data_tools.shop.attributes import Attribute
from fhn_jax.data_tools.shop.engine import name, text
from fhn_jax.data_tools.shop.settings import Settings
from fhn_jax.data_tools.shop.sources import Source
from fhn_jax.data_tools.shop.vocabulary import SLOTS, guess_slot

from fhn_jax.errors import InputError, nearest

_LONGEST_NAME = 200


@dataclasses.dataclass(frozen=True)
class Categories:
    """Where a shop's categories go.

    Attributes:
      slots: in the order of the layout.
      slot_of: the shop's category → its slot, None where nobody knows.
      counts: the shop's category → items.
      guessed: whether by name, and not by catalogue.toml.
    """

    slots: tuple[str, ...]
    slot_of: Mapping[str, str | None]
    counts: Mapping[str, int]
    guessed: bool

    def as_toml(self) -> str:
        """The choice as the beginning of a catalogue.toml."""
        lines = ["[slots]"]
        for slot in self.slots:
            some = [_quoted(c) for c in self.slot_of if self.slot_of[c] == slot]
            lines.append(f"{slot} = [{', '.join(some)}]")
        rest = [_quoted(c) for c in self.slot_of if self.slot_of[c] is None]
        if rest:
            lines.insert(0, f"ignore = [{', '.join(rest)}]")
        return "\n".join(lines)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # TOML has these escapes too.


def find_categories(connection: Any, settings: Settings, source: Source) -> Categories:
    """Sorts the shop's categories into slots.

    Raises:
      ValueError: no category has a slot.
    """
    counts = dict(
        connection.execute(
            "SELECT category, count(*) AS n FROM items WHERE category IS NOT NULL "
            "GROUP BY category ORDER BY n DESC, category"
        ).fetchall()
    )
    if not counts:
        raise InputError(f"{source.label}: no row has a category; expected one in each")
    ignored = {each.casefold().strip() for each in settings.ignore}
    if settings.slots:
        by_name = {
            category.casefold().strip(): slot
            for slot, some in settings.slots.items()
            for category in (slot, *some)
        }
        by_name |= {
            category.casefold().strip(): slot
            for slot, some in settings.slots.items()
            for category in some
        }
        slot_of = {c: by_name.get(c.casefold()) for c in counts}
        slots = tuple(settings.slots)
    else:
        slot_of = {
            c: None if c.casefold() in ignored else guess_slot(c) for c in counts
        }
        slots = SLOTS
    there = {slot for slot in slot_of.values() if slot}
    if not there:
        raise InputError(
            f"{source.label}: no category has a slot: {', '.join(list(counts)[:10])}; "
            "say in catalogue.toml which slot each belongs to: [slots] top = [...]"
        )
    return Categories(
        tuple(slot for slot in slots if slot in there),
        slot_of,
        counts,
        guessed=not settings.slots,
    )


def sort_items(
    connection: Any, settings: Settings, source: Source, categories: Categories
) -> None:
    """Makes `good_items` of `items`, and notes the others in `left_out`.

    `good_items` has row, id, slot (number of a slot), name (of its image, and of its
    line in the image list), title and image.
    """
    label = text(source.label)
    known = ", ".join(
        f"({text(category)}, {categories.slots.index(slot) if slot else 'NULL'}, "
        f"{text(_unknown(category, settings, categories))}, "
        f"{category.casefold().strip() not in {c.casefold().strip() for c in settings.ignore}})"
        for category, slot in categories.slot_of.items()
    )
    connection.execute(
        f"""
        CREATE TEMP TABLE slot_of AS
          SELECT * FROM (VALUES {known}) t(category, slot, reason, fault);
        CREATE TABLE judged AS SELECT i.row, i.id, s.slot, CASE
            WHEN i.id IS NULL THEN 'no id'
            WHEN row_number() OVER (PARTITION BY i.id ORDER BY i.row) > 1
              THEN 'the id is that of an earlier item'
            WHEN i.category IS NULL THEN 'no category'
            WHEN s.slot IS NULL THEN s.reason END AS reason,
            coalesce(s.fault, true) AS fault
          FROM items i LEFT JOIN slot_of s ON i.category = s.category;
        INSERT INTO left_out SELECT {label}, row, id, reason,
            fault FROM judged WHERE reason IS NOT NULL ORDER BY row;
        CREATE TABLE good_items AS SELECT i.*, j.slot, CASE
            WHEN regexp_matches(i.id, '^[^/\\\\%[:cntrl:]]+$') AND i.id NOT IN ('.', '..')
              AND strlen(i.id) <= {_LONGEST_NAME} THEN i.id
            WHEN strlen(url_encode(i.id)) <= {_LONGEST_NAME}
              AND i.id NOT IN ('.', '..') THEN url_encode(i.id)
            ELSE '%' || sha256(i.id) END AS name
          FROM items i JOIN judged j ON i.row = j.row WHERE j.reason IS NULL
          ORDER BY i.row;
        """
    )


def _unknown(category: str, settings: Settings, categories: Categories) -> str:
    """Why the items of a category that has no slot are left out."""
    if category.casefold().strip() in {c.casefold().strip() for c in settings.ignore}:
        return f"category {category!r} is ignored, as catalogue.toml says"
    known = [c for some in settings.slots.values() for c in some]
    return f"category {category!r} has no slot{nearest(category, known)}"


def number_items(connection: Any, *, before: bool = False) -> None:
    """Makes `numbered`: the number of each item within its slot, in the order of the file.

    Args:
      before: whether there are `before_items`: they keep their numbers and come first,
        with no row where the file does not have them.
    """
    if not before:
        connection.execute(
            "CREATE TABLE before_items (id VARCHAR, name VARCHAR, slot INTEGER, "
            '"index" INTEGER)'
        )
    connection.execute(
        """
        CREATE TABLE numbered AS
          SELECT b.id, coalesce(g.name, b.name) AS name, b.slot, b."index" AS number, g.row
            FROM before_items b LEFT JOIN good_items g ON b.id = g.id
          UNION ALL SELECT id, name, slot, CAST(coalesce(n, 0) + row_number()
              OVER (PARTITION BY slot ORDER BY row) - 1 AS INTEGER), row
            FROM good_items LEFT JOIN
              (SELECT slot, count(*) AS n FROM before_items GROUP BY slot) USING (slot)
            WHERE id NOT IN (SELECT id FROM before_items)
        """
    )


def write_items(
    connection: Any,
    source: Source,
    attributes: Mapping[str, Attribute],
    slots: Sequence[str],
    used: Sequence[int],
    path: Path,
    before: Collection[str] | None = None,
) -> None:
    """Writes items.parquet.

    Args:
      attributes: how each is read.
      slots: names, by number.
      used: the numbers of those that the layout has.
      before: the attributes of `before_items`, in an update. Items that the file does not
        have are marked as removed, and stay what they were.
    """
    updates, before = before is not None, before or ()
    selected = []
    for column, attribute in attributes.items():
        value = attribute.value
        if column in before:
            value = f"CASE WHEN i.row IS NULL THEN b.{name(column)} ELSE {value} END"
        selected.append(f"{value} AS {name(column)}")
    selected += [f"b.{name(column)}" for column in before if column not in attributes]
    title = "CAST(NULL AS VARCHAR)"
    if source.has("title"):
        title = "i.title"
    if updates:
        own = title if source.has("title") else "b.title"
        title = f"CASE WHEN i.row IS NULL THEN b.title ELSE {own} END"
    slot_names = "[" + ", ".join(map(text, slots)) + "]"
    connection.execute(
        f"""
        COPY (SELECT {slot_names}[n.slot + 1] AS category, n.number AS "index", n.id,
            {title} AS title, n.row IS NULL AS removed
            {"".join(", " + each for each in selected)}
          FROM numbered n LEFT JOIN good_items i ON n.row = i.row
            LEFT JOIN before_items b ON n.id = b.id
          WHERE n.slot IN ({", ".join(map(str, used))}) ORDER BY n.slot, n.number)
        TO {text(path)} (FORMAT parquet)
        """
    )
