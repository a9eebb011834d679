"""Looks that a shop edits: who liked one before goes on liking that one, not the new one.

A row of `looks.parquet` is an `id` of the shop's table of outfits and the `items` that it
had, sorted; a look that was edited has a row for each of what it was.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fhn_jax.data_tools.shop.before import Before
from fhn_jax.data_tools.shop.engine import text

from fhn_jax.data.item_table import LOOKS_FILE


def read_looks(connection: Any, root: Path | None, slots: Sequence[str]) -> None:
    """Makes `looks` of the table of outfits, and `looks_before` of a data root's."""
    pieces = " UNION ALL ".join(
        f"SELECT s.row, n.id AS item FROM outfits_sets s JOIN numbered n "
        f"ON n.slot = {k} AND n.number = s.s{k} WHERE s.fault IS NULL"
        for k in range(len(slots))
    )
    connection.execute(
        f"""
        CREATE TABLE looks AS SELECT any_value(t.outfit_id) AS id,
            list(p.item ORDER BY p.item) AS items
          FROM ({pieces}) p JOIN outfits t ON p.row = t.row GROUP BY t.row;
        CREATE TABLE looks_before (id VARCHAR, items VARCHAR[])
        """
    )
    path = None if root is None else root / LOOKS_FILE
    if path is not None and path.is_file():
        connection.execute(
            f"INSERT INTO looks_before SELECT id, items FROM read_parquet({text(path)})"
        )


def keep_looks(
    connection: Any, before: Before, number: int, slots: Sequence[str]
) -> None:
    """Makes likes of looks that were edited those of the pieces that were liked.

    Args:
      before: the data that are updated.
      number: of the table of likes in `likes_all`, whose rows of `waited` are read.
    """
    count = range(len(slots))
    columns = ", ".join(f"max(k.number) FILTER (k.slot = {k}) AS s{k}" for k in count)
    connection.execute(
        f"""
        CREATE TEMP TABLE edited AS SELECT any_value(e.id) AS id, {columns},
            CAST(bit_or(1 << k.slot) AS INTEGER) AS mask
          FROM (SELECT row_number() OVER () AS row, b.id, b.items FROM looks_before b
              JOIN looks n ON b.id = n.id WHERE b.items <> n.items) e,
            unnest(e.items) AS u(item) LEFT JOIN known k ON u.item = k.id
          GROUP BY e.row HAVING bool_and(k.slot IS NOT NULL)
        """
    )
    ((some,),) = connection.execute("SELECT count(DISTINCT id) FROM edited").fetchall()
    if not some:
        return
    positives = [split.positives for split in before.catalogue.splits.values()]
    rows = np.concatenate([each.items for each in positives])
    liked = {"user": np.concatenate([each.users for each in positives])}
    for k in count:
        there = k < rows.shape[1]
        liked[f"s{k}"] = rows[:, k].copy() if there else np.full(len(rows), -1)
    connection.register("liked_before", liked)
    same = " AND ".join(f"l.s{k} = coalesce(e.s{k}, -1)" for k in count)
    waits = " AND ".join(f"w.s{k} IS NOT DISTINCT FROM e.s{k}" for k in count)
    put = ", ".join(f"s{k} = o.s{k}" for k in count)
    ((changed,),) = connection.execute(
        f"""
        UPDATE likes_all SET mask = o.mask, {put} FROM
          (SELECT DISTINCT ON (t.row) t.row, o.* FROM likes t JOIN (
              SELECT u.id AS "user", e.* FROM edited e JOIN liked_before l ON {same}
                JOIN before_users u ON l."user" = u.number
              UNION ALL SELECT w."user", e.* FROM edited e JOIN waited w ON {waits}
            ) o ON t."user" = o."user" AND t.outfit_id = o.id ORDER BY t.row) o
        WHERE likes_all.file = {number} AND likes_all.row = o.row
        """
    ).fetchall()
    connection.unregister("liked_before")
    note = (
        f"{some:,} outfits are of other pieces than before: {changed:,} likes of them "
        "stay with the pieces that were liked"
    )
    connection.execute("INSERT INTO notes VALUES (?)", [note])


def write_looks(connection: Any, root: Path) -> None:
    """Writes what the looks are, and were."""
    connection.execute(
        "COPY (SELECT DISTINCT * FROM (FROM looks_before UNION ALL FROM looks) "
        f"ORDER BY id, items) TO {text(root / LOOKS_FILE)} (FORMAT parquet)"
    )
