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


def add_waiting(connection: Any, root: Path, number: int, slots: Sequence[str]) -> None:
    """Adds to `likes_all` what waits in a data root, but for what is said anew today.

    Args:
      number: for `file`.
    """
    path = root / WAITING_FILE
    if not path.is_file():
        return
    columns = ", ".join(
        f"max(k.number) FILTER (k.slot = {k}) AS s{k}" for k in range(len(slots))
    )
    same = " AND ".join(
        f"l.s{k} IS NOT DISTINCT FROM p.s{k}" for k in range(len(slots))
    )
    items = ", ".join(f"p.s{k}" for k in range(len(slots)))
    connection.execute(
        f"""
        CREATE TEMP TABLE waited AS
          SELECT row_number() OVER () AS row, * FROM read_parquet({text(path)});
        CREATE TEMP TABLE waited_pieces AS SELECT w.row, {columns},
            CAST(bit_or(1 << k.slot) AS INTEGER) AS mask, bool_and(k.slot IS NOT NULL) AS good
          FROM (SELECT row, unnest(items) AS item FROM waited) w
            LEFT JOIN known k ON w.item = k.id
          WHERE w.item IS NOT NULL GROUP BY w.row;
        INSERT INTO likes_all SELECT {number}, w.row - {_MOST}, w."user", w.value, w.time,
            NULL, p.mask, {items}
          FROM (SELECT *, unnest(range(count)) FROM waited) w
            JOIN waited_pieces p ON w.row = p.row
          WHERE p.good AND NOT EXISTS (SELECT 1 FROM likes_all l
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
