"""Leaves out of a shop's tables whom and what was deleted for good."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fhn_jax.data_tools.shop.engine import name, text
from fhn_jax.data_tools.shop.outfits import item_columns
from fhn_jax.data_tools.shop.sources import Source

from fhn_jax.data.forgotten import read_forgotten, salt_of


def leave_out_forgotten(
    connection: Any, root: Path, sources: Sequence[Source], slots: Sequence[str]
) -> int:
    """Deletes the rows of deleted users and items from tables that were read.

    They are not in `left_out`, which would name them again. An outfit with a deleted item
    goes with all its rows, and with the likes of it.

    Args:
      root: the data that are updated, whose list of them it goes by.
    Returns:
      how many rows.
    """
    forgotten, salt = read_forgotten(root), salt_of(root)
    marks = {
        kind: f"IN ({', '.join(map(text, digests))})"
        for kind, digests in forgotten.items()
        if digests
    }

    def among(kind: str, column: str) -> str:
        return f"coalesce(sha256({text(salt)} || {name(column)}) {marks[kind]}, false)"

    total, of_outfits = 0, "false"
    for source in sorted(sources, key=lambda each: each.kind != "outfits"):
        found = []
        if "user" in marks and source.has("user"):
            found.append(among("user", "user"))
        if "item" in marks:
            wide = item_columns(source, slots)
            columns = ["id"] if source.kind == "items" else wide
            found += [among("item", column) for column in columns]
            if source.kind == "outfits" and found:
                connection.execute(
                    "CREATE TEMP TABLE forgotten_outfits AS SELECT DISTINCT outfit_id "
                    f"FROM outfits WHERE outfit_id IS NOT NULL AND ({' OR '.join(found)})"
                )
                of_outfits = "outfit_id IN (SELECT outfit_id FROM forgotten_outfits)"
            if source.has("outfit_id"):
                found.append(of_outfits)
        if found:
            (count,) = connection.execute(
                f"DELETE FROM {name(source.kind)} WHERE {' OR '.join(found)}"
            ).fetchone()
            total += count
    return total
