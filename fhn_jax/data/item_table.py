"""A shop's own ids, titles and attributes, beside the numbers that all else uses.

`ROOT/items.parquet` has a row for each item, in the order of global ids: `category`
(string), `index` (int32, the id within the category), `id` (string, the shop's own),
`title` (string or null), `removed` (boolean, may be absent: the shop has it no more), and
the shop's attribute columns. `ROOT/users.parquet` has `index` (int32) and `id` (string).
`data_tools.import_catalogue` writes both.
"""

import contextlib
import dataclasses
import datetime
import functools
import math
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Bool, Int32

from fhn_jax import files
from fhn_jax.errors import InputError, MissingKeyError, MissingPackageError, nearest

ITEMS_FILE, USERS_FILE = "items.parquet", "users.parquet"
# Which likes are of visitors of the site: numbers of the user and of the items.
VISITORS_FILE = "visitors.parquet"
# What users said who have too few likes yet, by their and the items' ids.
WAITING_FILE = "waiting.parquet"
# What the shop's outfits are, and were before they were edited, by the items' ids.
LOOKS_FILE = "looks.parquet"
# A digest of each photo as the shop has it, by name.
PHOTOS_FILE = "photos.parquet"
_REQUIRED = ("category", "index", "id", "title")
OWN_COLUMNS = (*_REQUIRED, "removed")
_REMEDY = "import the catalogue again with `fhn-jax import-catalogue`"


@dataclasses.dataclass(frozen=True, eq=False)
class Ids:
    """Ids of a shop, and the numbers that stand for them: the position of each.

    Attributes:
      names: the ids, each once.
      kind: what they are of, for errors: "item".
    """

    names: Sequence[str]
    kind: str

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: SupportsIndex) -> str:
        return self.names[operator.index(number)]

    @functools.cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def number(self, name: str) -> int:
        """The number that stands for an id.

        Raises:
          KeyError: there is no such id; names the nearest.
        """
        try:
            return self._numbers[name]
        except KeyError:
            # The nearest of a million takes seconds.
            near = self.names if len(self) <= 20_000 else ()
            raise MissingKeyError(
                f"{self.kind} {name[:80]!r} is not one of the {len(self):,} "
                f"{self.kind}s{nearest(name, near)}"
            ) from None

    def numbers(self, names: Iterable[str]) -> Int32[np.ndarray, " n"]:
        """The numbers of several; see `number`."""
        return np.array([self.number(name) for name in names], np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class ItemTable:
    """What a shop says about its items, by global id.

    Attributes:
      ids: the shop's own ids; `ids[i]` and `ids.number(id)`.
      titles: None where an item has none.
      categories: names, in the order of global ids.
      offsets: where each category starts in global ids, and last their number.
      attributes: by name, a value for each item: numbers as float64 with NaN where there
        is none, all others as objects with None where there is none.
      removed: whether the shop has it no more; it keeps its number, and is never
        recommended.
    """

    ids: Ids
    titles: Sequence[str | None]
    categories: tuple[str, ...]
    offsets: tuple[int, ...]
    attributes: Mapping[str, np.ndarray]
    removed: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.ids)

    def category(self, number: SupportsIndex) -> str:
        """The category of an item, by global id."""
        return self.categories[
            int(np.searchsorted(self.offsets, int(number), "right")) - 1
        ]

    def row(self, number: SupportsIndex) -> dict[str, Any]:
        """All that is known of an item, by global id; without what it has no value of.

        `id`, `category`, and if there are any `title` and attributes, as JSON has them:
        times in ISO 8601, what JSON has no type for as text.
        """
        row = {
            "id": self.ids[number],
            "category": self.category(number),
            "title": self.titles[operator.index(number)],
        }
        row |= {name: values[number] for name, values in self.attributes.items()}
        plain = {name: _json(value) for name, value in row.items()}
        return {k: v for k, v in plain.items() if v is not None}


def read_items(root: str | os.PathLike) -> ItemTable | None:
    """What a shop says about the items of a data root; None without items.parquet.

    Raises:
      ValueError: the file is damaged, or not as this module says.
      ModuleNotFoundError: duckdb is not installed.
    """
    path = Path(root) / ITEMS_FILE
    if not path.is_file():
        return None
    columns = read_table(path, _REQUIRED)
    categories, starts = np.unique(columns["category"].astype(str), return_index=True)
    order = np.argsort(starts)
    offsets = (*starts[order].tolist(), len(columns["id"]))
    expected = [np.arange(b - a) for a, b in zip(offsets, offsets[1:], strict=False)]
    if not np.array_equal(columns["index"], np.concatenate(expected)):
        raise InputError(
            f"{path}: `index` does not count the items of each category from 0, one "
            f"category after another; {_REMEDY}"
        )
    titles = columns["title"]
    return ItemTable(
        ids=_ids(path, columns["id"], "item"),
        titles=titles.tolist(),
        categories=tuple(categories[order].tolist()),
        offsets=offsets,
        attributes={k: v for k, v in columns.items() if k not in OWN_COLUMNS},
        removed=columns.get("removed", np.zeros(len(titles), bool)).astype(bool),
    )


def read_users(root: str | os.PathLike) -> Ids | None:
    """The shop's ids of the users of a data root; None without users.parquet.

    Raises:
      ValueError: the file is damaged, or not as this module says.
      ModuleNotFoundError: duckdb is not installed.
    """
    path = Path(root) / USERS_FILE
    if not path.is_file():
        return None
    columns = read_table(path, ("index", "id"))
    if not np.array_equal(columns["index"], np.arange(len(columns["id"]))):
        raise InputError(f"{path}: `index` does not count the users from 0; {_REMEDY}")
    return _ids(path, columns["id"], "user")


def rewrite_table(path: Path, put: str, where: str, *, erase: bool = False) -> int:
    """Changes rows of one of both files, whole or not at all; returns how many.

    Args:
      put, where: of SQL.
      erase: whether all else about an item goes, and it is marked as removed.
    """
    with _reading(path) as database:
        database.execute(f"CREATE TABLE t AS FROM read_parquet('{_quoted(path)}')")
        columns = [c for c, *_ in database.execute("DESCRIBE t").fetchall()]
        if erase:
            if "removed" not in columns:
                database.execute(
                    "ALTER TABLE t ADD COLUMN removed BOOLEAN DEFAULT false"
                )
            kept = ("category", "index", "id", "removed")
            gone = [
                f'"{c.replace(chr(34), chr(34) * 2)}" = NULL'
                for c in columns
                if c not in kept
            ]
            put = ", ".join([put, "removed = true", *gone])
        (count,) = database.execute(f"UPDATE t SET {put} WHERE {where}").fetchone()
        with files.atomic_path(path) as temporary:
            database.execute(
                f"COPY (SELECT * FROM t) TO '{_quoted(temporary)}' (FORMAT parquet)"
            )
    return count


def delete_rows(path: Path, where: str) -> int:
    """Deletes rows of a table, whole or not at all; returns how many.

    Args:
      where: of SQL.
    """
    with _reading(path) as database:
        database.execute(f"CREATE TABLE t AS FROM read_parquet('{_quoted(path)}')")
        (count,) = database.execute(f"DELETE FROM t WHERE {where}").fetchone()
        with files.atomic_path(path) as temporary:
            database.execute(f"COPY t TO '{_quoted(temporary)}' (FORMAT parquet)")
    return count


def write_table(
    path: str | os.PathLike, kinds: Mapping[str, type], rows: Sequence[Sequence[Any]]
) -> None:
    """Writes a Parquet file for its owner alone, whole or not at all.

    Args:
      kinds: by column what it holds: str, bool, int or float.
      rows: a value for each column, which may be None.
    """
    path = Path(path)
    names = {str: "VARCHAR", bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE"}
    columns = zip(*rows, strict=True) if rows else ((),) * len(kinds)
    given = {
        name: np.array(column, object)
        for name, column in zip(kinds, columns, strict=True)
    }
    cast = ", ".join(
        f'CAST("{name}" AS {names[kind]}) AS "{name}"' for name, kind in kinds.items()
    )
    # Into the file that is there: another one would be everybody's until it is whole.
    options = "FORMAT parquet, USE_TMP_FILE false"
    with (
        _reading(path) as database,
        files.atomic_path(path, private=True) as temporary,
    ):
        database.register("given", given)
        database.execute(
            f"COPY (SELECT {cast} FROM given) TO '{_quoted(temporary)}' ({options})"
        )


def read_table(
    path: Path, required: Sequence[str], remedy: str = _REMEDY
) -> dict[str, np.ndarray]:
    """The columns of a Parquet file, in the order of its rows.

    Args:
      required: columns that it must have.
      remedy: what to do about one that is not so.
    Returns:
      numbers as they are, as float64 with NaN where any is absent; all others as objects
      with None for absent values.
    Raises:
      InputError: no Parquet file, or another one.
      MissingPackageError: duckdb is not installed.
    """
    with _reading(path, remedy) as database:
        relation = database.read_parquet(str(path))
        absent = [name for name in required if name not in relation.columns]
        if absent:
            raise InputError(
                f"{path} has no column {absent[0]!r}, only {relation.columns}; {remedy}"
            )
        return {name: _plain(v) for name, v in relation.fetchnumpy().items()}


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _ids(path: Path, column: np.ndarray, kind: str) -> Ids:
    names = column.tolist()
    if not names or None in names or len(set(names)) != len(names):
        raise InputError(
            f"{path}: expected an id for each {kind}, each once; {_REMEDY}"
        )
    return Ids(names, kind)


def _json(value: Any) -> str | int | float | bool | None:
    """A value as JSON has it; None for one that is no number."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    is_time = isinstance(value, (datetime.date, datetime.time))
    return value.isoformat() if is_time else str(value)


def _plain(values: np.ndarray) -> np.ndarray:
    """A column without a mask; see `ItemTable.attributes`."""
    values, absent = np.ma.getdata(values), np.ma.getmaskarray(values)
    if values.dtype.kind in "iu" and not absent.any():
        return values
    if values.dtype.kind in "iuf":
        return np.where(absent, np.nan, values).astype(np.float64)
    values = values.astype(object)
    values[absent] = None
    return values


@contextlib.contextmanager
def _reading(path: Path, remedy: str = _REMEDY) -> Iterator[Any]:
    """A database in memory; what it finds wrong with a file becomes an InputError."""
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f'{path} needs the package duckdb: pip install "fhn_jax[shop]"'
        ) from error
    with duckdb.connect() as database:
        try:
            yield database
        except duckdb.Error as error:
            raise InputError(f"{path} is no Parquet file ({error}); {remedy}") from None
