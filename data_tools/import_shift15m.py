"""Imports SHIFT15M: 2.5 million outfits of the fashion site IQON, with features of items.

    fhn-jax import-shift15m shift15m data/shift15m --split time

`shift15m` holds the authors' iqon_outfits.json and perhaps features/ITEM.json.gz, which
become `vectors/vgg.npz`. docs/data-sets.md says what becomes of it.
"""

import collections
import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fhn_jax.data_tools.item_lists import item_names
from fhn_jax.data_tools.public.importing import (
    Task,
    import_set,
    main_of,
    templates,
)
from fhn_jax.data_tools.shop import engine
from fhn_jax.data_tools.shop.engine import text
from fhn_jax.data_tools.shop.summary import Summary
from jaxtyping import Float32

from fhn_jax.data.item_table import read_items
from fhn_jax.data.vector_files import write_vectors
from fhn_jax.errors import InputError
from fhn_jax.program import run_program

OUTFITS = "iqon_outfits.json"
FEATURES = "features"
VECTORS = "vgg"
WIDTH = 4096
# The authors' files have numbers, and their documentation the names in this order.
CATALOGUE = {
    "slots": {
        **{"outerwear": ["10"], "top": ["11"], "bottom": ["12"]},
        **{"shoe": ["13"], "bag": ["14"]},
    },
    "ignore": ["15", "16"],
    "templates": templates([("top",)], ["bottom", "outerwear", "shoe", "bag"]),
}
# A feature file has 4,096 numbers as text.
_MOST_BYTES = 2**20
_ROWS_AT_ONCE = 256
# If more items have none, the features are of another set.
_MOST_MISSING = 0.5


def import_shift15m(
    source: str | os.PathLike, root: str | os.PathLike, **options: Any
) -> Summary:
    """Makes a data root of SHIFT15M.

    Args:
      source: the folder with iqon_outfits.json.
      root: the data root to make.
      **options: as of `import_catalogue`; and `catalogue`, a file with other slots.
    Raises:
      FileNotFoundError: there is no iqon_outfits.json.
      ValueError: it is damaged, or too much of it is of no use.
    """
    options["images"] = False  # Only features are published.
    add = _add_vectors if (Path(source) / FEATURES).is_dir() else None
    return import_set(_read, Path(source), Path(root), add=add, **options)


def _read(task: Task) -> Mapping[str, Any]:
    (path,) = task.find(OUTFITS)
    items, orders = task.work / "items.parquet", task.work / "orders.parquet"
    with engine.database(task.work) as connection:
        _read_outfits(connection, task, path)
        connection.execute(
            f"""
            CREATE TABLE pieces AS SELECT row, set_id AS order_id, user_id AS "user",
                publish_date AS "time", unnest(items, recursive := true) FROM outfits;
            COPY (SELECT order_id, "user", "time", item_id FROM pieces ORDER BY row)
              TO {text(orders)} (FORMAT parquet);
            COPY (SELECT item_id AS id, arg_min(category_id1, row) AS category,
                arg_min(category_id2, row) AS subcategory, arg_min(price, row) AS price
              FROM pieces WHERE item_id IS NOT NULL GROUP BY item_id ORDER BY min(row))
              TO {text(items)} (FORMAT parquet)
            """
        )
        several = connection.execute(
            "SELECT item_id FROM pieces GROUP BY item_id "
            "HAVING count(DISTINCT category_id1) > 1 ORDER BY item_id"
        ).fetchall()
    for (item,) in several:
        reason = "the item's category in later outfits, which is another"
        task.left_out.add(OUTFITS, 0, item, reason)
    return {"items": items, "orders": orders, "catalogue": task.catalogue or CATALOGUE}


def _read_outfits(connection: Any, task: Task, path: Path) -> None:
    """Makes the table `outfits`, with an outfit of each id."""
    item = ", ".join(
        f"{name} VARCHAR"
        for name in ("item_id", "category_id1", "category_id2", "price")
    )
    with engine.reading(str(path), "whole file as the authors publish it"):
        connection.execute(
            f"""
            CREATE TABLE outfits AS SELECT row_number() OVER () AS row, set_id,
                "user".user_id AS user_id, publish_date, items
              FROM read_json({text(path)}, columns={{'set_id': 'VARCHAR',
                'user': 'STRUCT(user_id VARCHAR)', 'publish_date': 'VARCHAR',
                'items': 'STRUCT({item})[]'}})
            """
        )
    fault = """CASE WHEN set_id IS NULL THEN 'no set_id'
        WHEN coalesce(len(items), 0) = 0 THEN 'no items'
        WHEN row_number() OVER (PARTITION BY set_id ORDER BY row) > 1
          THEN 'the id is that of an earlier outfit' END"""
    connection.execute(
        f"CREATE TABLE faults AS SELECT * FROM (SELECT row, set_id, {fault} AS fault "
        "FROM outfits) WHERE fault IS NOT NULL"
    )
    for row, outfit, why in connection.execute(
        "SELECT * FROM faults ORDER BY row"
    ).fetchall():
        task.left_out.add(OUTFITS, row, outfit, why)
    (total,) = connection.execute("SELECT count(*) FROM outfits").fetchone()
    task.left_out.check(OUTFITS, total, task.max_quarantine)
    connection.execute("DELETE FROM outfits WHERE row IN (SELECT row FROM faults)")


def _add_vectors(task: Task, root: Path) -> str:
    """Writes the features of a data root's items as vectors."""
    table = read_items(root)
    assert table is not None
    folder = task.source / FEATURES
    faults: dict[str, str] = {}
    with os.scandir(folder) as entries:
        there = {entry.name.removesuffix(".json.gz") for entry in entries}
    ids = list(table.ids.names)
    missing = sum(item not in there for item in ids)
    if missing > _MOST_MISSING * len(ids):
        raise InputError(
            f"{folder} has no ITEM.json.gz of {missing:,} of {len(ids):,} items; expected "
            "the files of the authors' archives, all in this folder"
        )
    write_vectors(
        root,
        VECTORS,
        item_names(root),
        _chunks(folder, ids, there, faults),
        model="VGG, by the authors of SHIFT15M",
        source=f"{FEATURES}/*.json.gz",
    )
    with open(root / "quarantine.jsonl", "a", encoding="utf-8") as file:
        for item, reason in faults.items():
            line = {"file": FEATURES, "row": 0, "what": item, "reason": reason}
            file.write(json.dumps(line) + "\n")
    counts = collections.Counter(faults.values())
    said = "".join(f"\n  {n:>12,} are zeros: {why}" for why, n in counts.items())
    return f"vectors/{VECTORS}.npz: features of {len(ids):,} items{said}"


def _chunks(
    folder: Path, ids: Sequence[str], there: set[str], faults: dict[str, str]
) -> Iterator[Float32[np.ndarray, "k f"]]:
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        some = ids[start : start + _ROWS_AT_ONCE]
        rows = np.zeros((len(some), WIDTH), np.float32)
        for row, item in zip(rows, some, strict=True):
            # A name from the folder is one without a path in it.
            fault = "there is no file" if item not in there else None
            fault = fault or _read_features(folder / f"{item}.json.gz", row)
            if fault:
                faults[item] = fault
        yield rows


def _read_features(path: Path, row: np.ndarray) -> str | None:
    """Reads a row; returns what is wrong with the file, and leaves the row as it is."""
    try:
        with gzip.open(path) as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            return f"the file holds more than {_MOST_BYTES:,} bytes"
        values = np.array(json.loads(data), np.float32)
    except (OSError, EOFError, zlib.error, ValueError, TypeError, RecursionError):
        return "the file is damaged"
    if values.shape != (WIDTH,) or not np.isfinite(values).all():
        return f"the file does not hold {WIDTH:,} finite numbers"
    row[:] = values
    return None


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    main_of(import_shift15m, "import-shift15m", __doc__, arguments)


if __name__ == "__main__":
    run_program(main)
