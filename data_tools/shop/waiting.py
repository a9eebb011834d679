"""Likes of users who have too few of them yet: they wait beside the data for more.

A row of `waiting.parquet` is what a user said of an outfit: `user`, `value` (1 or -1),
`time`, `count` and `items`, the shop's ids of its pieces, null in slots that it has not.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fhn_jax.data_tools.shop.engine import text

from fhn_jax.data.item_table import WAITING_FILE

# So many wait at most; the oldest go first.
_MOST = 1_000_000
_NOTHING = """(SELECT NULL::VARCHAR AS "user", NULL::TINYINT AS value, NULL::DOUBLE AS time,
    0 AS count, NULL::VARCHAR[] AS items WHERE false)"""


def read_waiting(connection: Any, root: Path, slots: Sequence[str]) -> None:
    """Makes `waited` of what waits in a data root: a row for each judgement."""
    path, source = root / WAITING_FILE, _NOTHING
    if path.is_file():
        source = f"read_parquet({text(path)})"
    columns = ", ".join(
        f"max(k.number) FILTER (k.slot = {k}) AS s{k}" for k in range(len(slots))
    )
    connection.execute(
        f"""
        CREATE TEMP TABLE waited AS WITH
          w AS (SELECT row_number() OVER () AS row, * FROM {source}),
          p AS (SELECT i.row, {columns}, CAST(bit_or(1 << k.slot) AS INTEGER) AS mask
            FROM (SELECT row, unnest(items) AS item FROM w) i
              LEFT JOIN known k ON i.item = k.id
            WHERE i.item IS NOT NULL GROUP BY i.row HAVING bool_and(k.slot IS NOT NULL))
          SELECT w.* EXCLUDE (items), p.* EXCLUDE (row) FROM w JOIN p ON w.row = p.row
        """
    )


def add_waiting(connection: Any, number: int, slots: Sequence[str]) -> None:
    """Adds `waited` to `likes_all`, but for what is said anew today.

    Args:
      number: for `file`.
    """
    same = " AND ".join(
        f"l.s{k} IS NOT DISTINCT FROM w.s{k}" for k in range(len(slots))
    )
    items = ", ".join(f"w.s{k}" for k in range(len(slots)))
    connection.execute(
        f"""
        INSERT INTO likes_all SELECT {number}, w.row - {_MOST}, w."user", w.value, w.time,
            NULL, w.mask, {items}
          FROM (SELECT *, unnest(range(count)) FROM waited) w
          WHERE NOT EXISTS (SELECT 1 FROM likes_all l
            WHERE l."user" = w."user" AND {same})
        """
    )


def write_waiting(connection: Any, root: Path, slots: Sequence[str]) -> None:
    """Writes what waits from now on, of the table `waiting`."""
    joins = " ".join(
        f"LEFT JOIN numbered n{k} ON n{k}.slot = {k} AND n{k}.number = w.s{k}"
        for k in range(len(slots))
    )
    ids = ", ".join(f"n{k}.id" for k in range(len(slots)))
    connection.execute(
        f"""
        COPY (SELECT "user", value, time, count, items FROM (
            SELECT w."user", w.value, w.time, w.count, w.new, w.file, w.row,
              [{ids}] AS items
            FROM waiting w {joins} ORDER BY w.new DESC, w.file DESC, w.row DESC
            LIMIT {_MOST}) ORDER BY new, file, row)
        TO {text(root / WAITING_FILE)} (FORMAT parquet)
        """
    )
