"""A shop's own vectors of its items, taken over under the names of the layout."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fhn_jax.data_tools.shop.engine import text
from jaxtyping import Float32

from fhn_jax.data.vector_files import write_vectors
from fhn_jax.data.vectors import load_vectors
from fhn_jax.errors import InputError

_ROWS_AT_ONCE = 4096
_WRITER = "`numpy.savez(path, names=…, vectors=…)`, names being the ids of the items"
# If more items have none, the vectors are of another catalogue.
_MOST_MISSING = 0.5


def carry_over(connection: Any, folder: Path, root: Path, used: Sequence[int]) -> None:
    """Writes `vectors/NAME.npz` of a data root for each NAME.npz or .parquet of a folder.

    An item without a vector gets zeros, which is noted.

    Args:
      folder: of the shop's vectors, keyed by its ids; need not exist.
      root: the data root.
      used: the numbers of the slots that the layout has.
    Raises:
      ValueError: a file is damaged, or most items have no vector in it.
    """
    if not folder.is_dir():
        return
    rows = connection.execute(
        f"SELECT id, name FROM numbered WHERE slot IN ({', '.join(map(str, used))}) "
        "ORDER BY slot, number"
    ).fetchnumpy()
    ids, names = rows["id"].tolist(), rows["name"].tolist()
    for path in sorted(folder.iterdir()):
        if path.suffix == ".npz":
            theirs, table = load_vectors(path, _WRITER)
        elif path.suffix == ".parquet":
            theirs, table = _read_parquet(connection, path)
        else:
            continue
        number = {own: at for at, own in enumerate(theirs)}
        at = np.array([number.get(own, -1) for own in ids])
        missing = int((at < 0).sum())
        if missing > _MOST_MISSING * len(ids):
            raise InputError(
                f"{path}: {missing:,} of {len(ids):,} items have no vector; it has those "
                f"of {', '.join(map(repr, theirs[:3]))}; expected the ids of the table of "
                "items"
            )
        if missing:
            note = f"{path.name}: {missing:,} items have no vector and get zeros"
            connection.execute("INSERT INTO notes VALUES (?)", [note])
        write_vectors(
            root,
            path.stem,
            names,
            _chunks(table, at),
            model="the shop's own",
            source=path.name,
        )


def _chunks(table: np.ndarray, at: np.ndarray) -> Iterator[Float32[np.ndarray, "k f"]]:
    for start in range(0, len(at), _ROWS_AT_ONCE):
        some = at[start : start + _ROWS_AT_ONCE]
        rows = table[some].astype(np.float32)
        rows[some < 0] = 0
        yield rows


def _read_parquet(connection: Any, path: Path) -> tuple[list[str], np.ndarray]:
    """Ids and vectors: the column id, and a column of lists or all columns of numbers."""
    import duckdb

    try:
        table = f"read_parquet({text(path)})"
        described = connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()
        kinds = {column: kind for column, kind, *_ in described}
        if "id" not in kinds:
            raise InputError(f"{path} has no column id, only {', '.join(kinds)}")
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        lists = [c for c, kind in kinds.items() if kind.endswith("]")]
        if len(lists) == 1:
            return _read_lists(connection, path, table, lists[0], count)
        columns = [c for c, kind in kinds.items() if kind in ("FLOAT", "DOUBLE")]
        if not columns or lists:
            raise InputError(
                f"{path}: expected the column id and one column of lists of numbers, or "
                f"a column for each number; it has {', '.join(kinds)}"
            )
        found = connection.execute(f"SELECT * FROM {table}").fetchnumpy()
        rows = [np.ma.filled(found[c], np.nan).astype(np.float32) for c in columns]
        return list(map(str, found["id"].tolist())), np.stack(rows, axis=1)
    except duckdb.Error as error:
        raise InputError(f"{path} is no Parquet file: {error}") from None


def _read_lists(
    connection: Any, path: Path, table: str, column: str, count: int
) -> tuple[list[str], np.ndarray]:
    ids, vectors = [], np.empty((0, 0), np.float32)
    cursor = connection.cursor()
    cursor.execute(f'SELECT CAST(id AS VARCHAR), "{column}" FROM {table}')
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        if not ids:
            vectors = np.empty((count, len(rows[0][1] or ())), np.float32)
        for own, values in rows:
            if values is None or len(values) != vectors.shape[1]:
                raise InputError(
                    f"{path}: the vector of {own!r} has {len(values or ()):,} numbers; "
                    f"expected {vectors.shape[1]:,}, as of the first"
                )
            vectors[len(ids)] = values
            ids.append(own)
    return ids, vectors
