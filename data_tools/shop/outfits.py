"""Outfits of a shop: of its tables of outfits, orders and likes.

A table names the items of an outfit in one of two forms: a column for each slot, or a row
for each item. Either way an outfit becomes a row with `mask` (of the slots it has, bit by
bit) and the number of the item in each slot, NULL where it has none: s0, s1, …
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from fhn_jax.data_tools.shop.engine import name, text
from fhn_jax.data_tools.shop.settings import Settings
from fhn_jax.data_tools.shop.sources import Source
from fhn_jax.data_tools.shop.vocabulary import SLOTS, TEMPLATES

from fhn_jax.errors import InputError, nearest

# Without catalogue.toml, what so few outfits are is no template.
_RARE = 0.01
# A table of which more refers to what is not there belongs to another catalogue.
_MOST_UNKNOWN = 0.5


@dataclasses.dataclass(frozen=True)
class Templates:
    """The sets of slots that make an outfit, as bits of slot numbers.

    Attributes:
      slots: names, by number.
      masks: the largest first, then as they were named.
    """

    slots: tuple[str, ...]
    masks: tuple[int, ...]

    def names(self, mask: int) -> str:
        """A set of slots, for people."""
        return ", ".join(s for k, s in enumerate(self.slots) if mask >> k & 1)

    def fault(self, mask: int) -> str:
        """Why an outfit of these slots is left out."""
        lacking = [m for m in self.masks if m & mask == mask]
        if lacking:
            nearest = min(lacking, key=lambda m: m.bit_count())
            return f"lacks {self.names(nearest & ~mask)} to be an outfit"
        return f"its slots are those of no template: {self.names(mask)}"


def mark_known(connection: Any) -> None:
    """Makes `known`: every id of an item, with slot and number where it is good."""
    connection.execute(
        """
        CREATE TABLE known AS SELECT i.id, any_value(n.slot) AS slot,
            any_value(n.number) AS number
          FROM (SELECT id FROM items UNION SELECT id FROM numbered) i
            LEFT JOIN numbered n ON i.id = n.id
          WHERE i.id IS NOT NULL GROUP BY i.id
        """
    )


def item_columns(source: Source, slots: Sequence[str]) -> list[str]:
    """The columns that name items: item_id alone where each item is a row; or none."""
    wide = [c for c in source.columns if c in slots or c.startswith("item ")]
    return wide + ["item_id"] * source.has("item_id")


def gather(
    connection: Any, source: Source, slots: Sequence[str], own: str, where: str = "true"
) -> None:
    """Makes `KIND_pieces`: an item of an outfit a row, by key.

    Args:
      source: outfits, orders or likes.
      own: the column that says which outfit, "" where each row is one.
      where: which of its rows.
    Raises:
      ValueError: most items are not of the catalogue.
    """
    columns = item_columns(source, slots)
    long = columns == ["item_id"]
    key = name(own) if own and long else "row"
    if long:
        raw = (
            f"SELECT {key} AS key, row, item_id AS item, NULL AS claimed "
            f"FROM {source.kind} WHERE {where}"
        )
    elif columns:
        raw = " UNION ALL ".join(
            f"SELECT row AS key, row, {name(column)} AS item, "
            f"{slots.index(column) if column in slots else 'NULL'} AS claimed "
            f"FROM {source.kind} WHERE {where} AND {name(column)} IS NOT NULL"
            for column in columns
        )
        nothing = " AND ".join(f"{name(column)} IS NULL" for column in columns)
        raw += (
            f" UNION ALL SELECT row, row, NULL, NULL FROM {source.kind} "
            f"WHERE {where} AND {nothing}"
        )
    else:
        raise InputError(
            f"{source.label} has no items: expected a column item_id with a row for each "
            f"item, or a column for each slot ({', '.join(slots)}); it has "
            f"{', '.join(map(repr, source.columns.values()))}"
        )
    connection.execute(
        f"""
        CREATE TABLE {source.kind}_pieces AS SELECT r.key, r.row, r.item, k.slot,
            k.number, CASE WHEN r.key IS NULL THEN 'no {own}'
              WHEN r.item IS NULL THEN 'no item'
              WHEN k.id IS NULL THEN 'an item is unknown: ' || r.item[:80]
              WHEN k.slot IS NULL THEN 'an item was left out: ' || r.item[:80]
              WHEN r.claimed <> k.slot THEN 'an item is of another slot: ' || r.item[:80]
            END AS fault, k.id IS NULL AND r.item IS NOT NULL AS unknown
          FROM ({raw}) r LEFT JOIN known k ON r.item = k.id
        """
    )
    check_unknown(connection, source, f"{source.kind}_pieces", "item")


def check_unknown(connection: Any, source: Source, table: str, kind: str) -> None:
    """Raises ValueError if most of a table refers to what is not there."""
    total, unknown, first = connection.execute(
        f"SELECT count(*), count(*) FILTER (unknown), min(row) FILTER (unknown) "
        f"FROM {table}"
    ).fetchone()
    if unknown > _MOST_UNKNOWN * total:
        known = "known" if kind == "item" else "outfits_all"
        there = connection.execute(
            f"SELECT id FROM {known} ORDER BY id LIMIT 3"
        ).fetchall()
        some = connection.execute(
            f"SELECT DISTINCT item FROM {table} WHERE unknown ORDER BY item LIMIT 3"
        ).fetchall()
        raise InputError(
            f"{source.label}: {unknown:,} of {total:,} {kind}s are unknown, such as "
            f"{_listed(some)} (the first in row {first:,}); does it belong to another catalogue? Expected ids of the "
            f"table of items{'' if kind == 'item' else ' and outfits'}, such as "
            f"{_listed(there)}"
        )


def _listed(rows: Sequence[tuple[str]]) -> str:
    return ", ".join(repr(item) for (item,) in rows)


def assemble(
    connection: Any, source: Source, slots: Sequence[str], *, single: bool = False
) -> None:
    """Makes `KIND_sets` of `KIND_pieces`: strict, each item of the outfit counts.

    Args:
      single: whether each piece is all of its outfit.
    """
    kind = source.kind
    if single:
        columns = ", ".join(
            f"CASE WHEN slot = {k} THEN number END AS s{k}" for k in range(len(slots))
        )
        connection.execute(
            f"CREATE VIEW {kind}_sets AS SELECT row AS key, row, CAST(1 << slot AS "
            f"INTEGER) AS mask, {columns}, fault FROM {kind}_pieces"
        )
        return
    columns = ", ".join(
        f"max(number) FILTER (slot = {k}) AS s{k}" for k in range(len(slots))
    )
    connection.execute(
        f"""
        CREATE TABLE {kind}_sets AS SELECT key, min(row) AS row,
            CAST(bit_or(1 << slot) AS INTEGER) AS mask, {columns},
            coalesce(min(fault), CASE WHEN count(DISTINCT slot) < count(DISTINCT
              (slot, number)) THEN 'two items of a slot' END) AS fault
          FROM {kind}_pieces GROUP BY key
        """
    )


def assemble_orders(
    connection: Any, source: Source, slots: Sequence[str], templates: Templates
) -> None:
    """Makes `KIND_sets` of `KIND_pieces`: of each order the largest outfit in it.

    An order fills a template if it has exactly one item for each of its slots; its other
    items are left.
    """
    kind = source.kind
    for fault, count in connection.execute(
        f"SELECT split_part(fault, ': ', 1) AS why, count(*) FROM {kind}_pieces "
        "WHERE key IS NOT NULL AND fault IS NOT NULL GROUP BY why ORDER BY why"
    ).fetchall():
        note = f"{source.label}: {count:,} pieces of orders are left: {fault}"
        connection.execute("INSERT INTO notes VALUES (?)", [note])
    fills = " ".join(f"WHEN mask & {m} = {m} THEN {m}" for m in templates.masks)
    singles = ", ".join(
        f"max(number) FILTER (slot = {k}) AS s{k}" for k in range(len(slots))
    )
    chosen = ", ".join(
        f"CASE WHEN chosen & {1 << k} <> 0 THEN s{k} END AS s{k}"
        for k in range(len(slots))
    )
    connection.execute(
        f"""
        CREATE TABLE {kind}_sets AS
        WITH slots AS (SELECT key, slot, min(row) AS row, max(number) AS number,
            count(DISTINCT number) AS several FROM {kind}_pieces GROUP BY key, slot),
        orders AS (SELECT key, min(row) AS row, CAST(coalesce(bit_or(1 << slot) FILTER
            (several = 1), 0) AS INTEGER) AS mask, {singles} FROM slots GROUP BY key),
        filled AS (SELECT *, CASE {fills} END AS chosen FROM orders)
        SELECT key, row, chosen AS mask, {chosen}, CASE WHEN key IS NULL THEN
            'no order_id' WHEN chosen IS NULL THEN 'the order fills no template' END
            AS fault FROM filled
        """
    )


def find_templates(
    connection: Any,
    settings: Settings,
    slots: tuple[str, ...],
    strict: Sequence[str],
    before: Sequence[int] = (),
) -> Templates:
    """The templates: those of catalogue.toml, or those that outfits have.

    Args:
      slots: by number.
      strict: tables whose `KIND_sets` are outfits as they are.
      before: those that the data have already, as bits of slot numbers.
    """
    if settings.templates:
        named = settings.templates
    else:
        counts: dict[int, int] = {}
        for kind in strict:
            rows = connection.execute(
                f"SELECT mask, count(*) FROM {kind}_sets WHERE fault IS NULL GROUP BY mask"
            ).fetchall()
            for mask, count in rows:
                counts[mask] = counts.get(mask, 0) + count
        several = {m: n for m, n in counts.items() if m.bit_count() > 1}
        usual = [m for m, n in several.items() if n >= _RARE * sum(several.values())]
        named = [
            tuple(s for k, s in enumerate(slots) if m >> k & 1) for m in sorted(usual)
        ]
        if not named and not before:
            named = [t for t in TEMPLATES if set(t) <= set(slots)]
    masks = []
    for template in named:
        if set(template) <= set(slots):
            masks.append(sum(1 << slots.index(slot) for slot in template))
            continue
        for slot in set(template) - set(slots) - set(settings.slots or SLOTS):
            raise InputError(
                f"catalogue.toml: a template has the slot {slot!r}; expected some of "
                f"{', '.join(SLOTS)}{nearest(slot, SLOTS)}"
            )
        lacking = ", ".join(slot for slot in template if slot not in slots)
        note = f"no item is of the slot {lacking}, so none makes {' + '.join(template)}"
        connection.execute("INSERT INTO notes VALUES (?)", [note])
    masks += [mask for mask in before if mask not in masks]
    masks.sort(key=lambda mask: -mask.bit_count())
    return Templates(slots, tuple(masks))


def judge_templates(connection: Any, kind: str, templates: Templates) -> None:
    """Marks the outfits of `KIND_sets` that are of no template."""
    masks = connection.execute(
        f"SELECT DISTINCT mask FROM {kind}_sets WHERE fault IS NULL"
    ).fetchall()
    for (mask,) in masks:
        if mask not in templates.masks:
            connection.execute(
                f"UPDATE {kind}_sets SET fault = {text(templates.fault(mask))} "
                f"WHERE fault IS NULL AND mask = {mask}"
            )


def note_faults(connection: Any, source: Source, own: str, counted: bool) -> None:
    """Notes in `left_out` which outfits of `KIND_sets` are left out.

    Args:
      own: the column that says which outfit, "" where each row is one.
      counted: whether that is a fault of the data.
    """
    what = f"t.{name(own)}" if own else "NULL"
    connection.execute(
        f"""
        INSERT INTO left_out SELECT {text(source.label)}, s.row, {what}, s.fault,
            {str(counted).lower()} AND NOT starts_with(s.fault, 'an item was left out')
          FROM {source.kind}_sets s JOIN {source.kind} t ON s.row = t.row
          WHERE s.fault IS NOT NULL ORDER BY s.row
        """
    )
