"""A shop's tables: found in a folder or given in memory, and read as text.

Every value is read as text: an id keeps its zeros, and a cell that a spreadsheet would
compute stays what it says.
"""

import csv
import dataclasses
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fhn_jax.data_tools.shop.engine import name, reading, text
from fhn_jax.data_tools.shop.settings import TABLES, Settings
from fhn_jax.data_tools.shop.text_files import as_utf8, copy_lines

from fhn_jax.data.csv_files import delimiter_of, is_before_header
from fhn_jax.errors import ExistingFileError, InputError, MissingFileError, nearest

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_LIKE_TABLES = (*FORMATS, *".json .txt .xls .xlsx .ods .gz .zip .db .sqlite".split())
_LONGEST_HEADER = 100  # lines

# Our name of a column → what shops call it, beside that name.
_SYNONYMS = {
    "id": "item_id itemid sku product_id productid article_id article artikelnummer "
    "artikel_id ean gtin variant_id asin",
    "category": "product_type type garment_type kategorie warengruppe categorie "
    "categoria product_category category_name class",
    "title": "name product_name item_name titel titre titulo titolo bezeichnung "
    "prod_name product_title",
    "image": "image_path photo picture filename file image_file image_name bild foto "
    "img image_url",
    "item_id": "item itemid sku product_id productid article_id artikelnummer ean",
    "outfit_id": "outfit outfitid look_id look set_id",
    "order_id": "order orderid basket_id basket bestellung bestellnummer cart_id "
    "invoice_id transaction_id session_id",
    "user": "user_id userid customer customer_id customerid client_id kunde "
    "kundennummer visitor_id",
    "value": "like liked rating feedback",
    "time": "timestamp date datetime created_at t_dat zeit datum ordered_at event_time",
    "split": "",
    "kind": "",
    "question": "question_id",
}
_OF = {
    "items": ("id", "category", "title", "image"),
    "outfits": ("outfit_id", "item_id", "user", "time", "split"),
    "orders": ("order_id", "item_id", "user", "time", "split"),
    "likes": ("user", "outfit_id", "order_id", "item_id", "value", "time", "split"),
    "negatives": ("user", "outfit_id", "item_id", "split", "kind"),
    "questions": ("user", "question", "split"),
}
_NEEDED = {
    "items": ("id", "category"),
    "outfits": ("outfit_id",),
    "orders": ("order_id",),
    "likes": ("user",),
    "negatives": ("user", "split"),
    "questions": ("user", "split"),
}
# Types of columns → what the database calls them.
_TYPES = {
    "number": r"DECIMAL.*|DOUBLE|FLOAT|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?",
    "time": "DATE|TIMESTAMP.*",
}
# An attribute of such a name gets another.
_RESERVED = {"row", "index", "slot", "name", "removed"} | {*_OF["items"]}


# Columns of a table; how each is read as text, and the table as ""; and known types.
Opened = tuple[list[str], dict[str, str], dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Source:
    """A table of a shop, in the database as one of texts.

    Attributes:
      kind: one of `TABLES`, and the name in the database. It has `row`, from 1, and the
        columns below by our names.
      label: for people, such as "items.csv".
      columns: our names of its columns, those of slots included → theirs.
      rows: how many.
      types: our name of a column → "number" or "time", where the table itself says that
        it is one.
    """

    kind: str
    label: str
    columns: Mapping[str, str]
    rows: int
    types: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def has(self, column: str) -> bool:
        """Whether it has one of our columns."""
        return column in self.columns


def find_tables(shop: Any) -> dict[str, Any]:
    """Table → file or object in memory.

    Args:
      shop: a folder, or such a mapping already.
    Raises:
      FileNotFoundError: no folder, or no table of items in it.
      FileExistsError: two files of one table.
    """
    if isinstance(shop, Mapping):
        for kind in shop:
            if kind not in (*TABLES, "left_out", "folder", "catalogue"):
                raise InputError(
                    f"there is no table {kind!r}; expected some of {', '.join(TABLES)}"
                    f"{nearest(str(kind), TABLES)}"
                )
        found = {kind: shop[kind] for kind in TABLES if shop.get(kind) is not None}
    else:
        found = _in_folder(Path(shop))
    if "items" not in found:
        where = "the mapping"
        if not isinstance(shop, Mapping):
            names = sorted(os.listdir(shop))
            others = set(names) - {path.name for path in found.values()}
            near = nearest("items.csv", sorted(others))
            if other := [n for n in names if Path(n).stem.casefold() == "items"]:
                near = f"; save {other[0]} as CSV or Parquet"
            where = f"{shop}, which has {_some(names)}{near}"
        raise MissingFileError(
            f"there is no table of items; expected items{{{','.join(FORMATS)}}} in {where}"
        )
    return found


def unread_tables(folder: Path, found: Mapping[str, Any]) -> list[str]:
    """Names of what looks like a table in a shop's folder, and is none that is known.

    Args:
      folder: the shop's.
      found: what `find_tables` found, there or elsewhere.
    """
    known = [each for each in found.values() if isinstance(each, Path)]
    if not any(path.parent == folder for path in known):
        return []
    names = set(os.listdir(folder)) - {path.name for path in known}
    return sorted(n for n in names if Path(n).suffix.casefold() in _LIKE_TABLES)


def _in_folder(folder: Path) -> dict[str, Path]:
    """Table → file."""
    tables = "items.csv, likes.csv and perhaps outfits.csv or orders.csv"
    if folder.is_file():
        raise InputError(
            f"{folder} is a file; expected the folder with {tables} in it"
            + (", unpacked" if folder.suffix in (".zip", ".gz", ".7z", ".tar") else "")
        )
    if not folder.is_dir():
        raise MissingFileError(
            f"there is no folder {folder}; expected one with {tables} in it (or .jsonl, "
            "or .parquet)"
        )
    found = {}
    for path in sorted(folder.iterdir()):
        kind, ending = path.stem.casefold(), path.suffix.casefold()
        if kind in TABLES and ending in FORMATS and path.is_file():
            if kind in found:
                raise ExistingFileError(
                    f"{folder} has {found[kind].name} and {path.name}; keep one of them"
                )
            found[kind] = path
    return {kind: found[kind] for kind in TABLES if kind in found}


def _some(names: Sequence[str]) -> str:
    """The first of many names, for people."""
    rest = f" and {len(names) - 8:,} more" if len(names) > 8 else ""
    return ", ".join(map(repr, names[:8])) + rest if names else "nothing"


def load_table(
    connection: Any,
    kind: str,
    given: Any,
    settings: Settings,
    slots: Sequence[str] = (),
) -> Source:
    """Reads a table into the database, and what of it cannot be read into `left_out`.

    Args:
      connection: a database with the table `left_out`.
      kind: of `TABLES`.
      given: a file; or a DataFrame, an Arrow table or whatever else DuckDB scans.
      settings: may name columns.
      slots: whose names may be columns of an outfit's items.
    Raises:
      ValueError: the file is none of its kind, or lacks a column.
    """
    label = Path(given).name if isinstance(given, str | os.PathLike) else kind
    noted = _noted(connection, label)
    if isinstance(given, str | os.PathLike):
        theirs, selected, types = _open_file(connection, kind, Path(given), label)
    else:
        theirs, selected, types = _open_object(connection, kind, given)
    columns = _columns(kind, label, theirs, settings, slots)
    chosen = ", ".join(
        f"nullif(trim({selected[their]}), '') AS {name(our)}"
        for our, their in columns.items()
    )
    with reading(label, "table that can be read"):
        connection.execute(
            f"CREATE TABLE {name(kind)} AS SELECT row_number() OVER () AS row, {chosen} "
            f"FROM {selected['']}"
        )
    _note_rejects(connection, label)
    (rows,) = connection.execute(f"SELECT count(*) FROM {name(kind)}").fetchone()
    if not rows:
        raise InputError(f"{label} has no rows; expected at least one")
    rows += _noted(connection, label) - noted
    known = {our: types[their] for our, their in columns.items() if their in types}
    return Source(kind, label, columns, rows, known)


def _columns(
    kind: str,
    label: str,
    theirs: Sequence[str],
    settings: Settings,
    slots: Sequence[str],
) -> dict[str, str]:
    """Our name of each column that is used → theirs."""
    given = settings.columns.get(kind, {})
    known = [*_OF[kind], *slots]
    plain = {_plain(their): their for their in theirs}
    columns = {}
    for our, their in given.items():
        # Attributes may be called as one likes, but for what must be a mistake.
        if our not in known and (kind != "items" or nearest(our, known)):
            raise InputError(
                f"catalogue.toml: columns.{kind}.{our} is unknown; expected some of "
                f"{', '.join(known)}{nearest(our, known)}"
            )
        if their not in theirs:
            remedy = f"as [columns.{kind}] {our} of catalogue.toml says"
            raise _no_column(label, str(their), theirs, remedy)
        columns[our] = their
    for our in known:
        for word in (our, *_SYNONYMS.get(our, "").split()):
            their = plain.get(word.casefold())
            if our not in columns and their and their not in columns.values():
                columns[our] = their
    if kind != "items":
        if not any(slot in columns for slot in slots) and "item_id" not in columns:
            numbered = [n for n in theirs if re.fullmatch(r"(?i)item[_ -]?\d+", n)]
            columns |= {f"item {n}": their for n, their in enumerate(numbered)}
    for our in _NEEDED[kind]:
        if our not in columns:
            remedy = f"or [columns.{kind}] {our} = ... in catalogue.toml"
            raise _no_column(label, our, theirs, remedy)
    if kind == "items":
        if reserved := {*columns} & (_RESERVED - {*known}):
            raise InputError(
                f"catalogue.toml: columns.items.{min(reserved)}: an attribute cannot be "
                f"called {min(reserved)!r}; name it otherwise"
            )
        taken = {*_RESERVED, *map(str.casefold, columns)}
        for their in theirs:
            if their not in columns.values():
                our = their
                while our.casefold() in taken:
                    our += "_"
                columns[our] = their
                taken.add(our.casefold())
    return columns


def _no_column(
    label: str, column: str, theirs: Sequence[str], otherwise: str
) -> InputError:
    near = nearest(_plain(column), [_plain(n) for n in theirs])
    return InputError(
        f"{label} has no column {column!r}, only {', '.join(map(repr, theirs))}{near}; "
        f"expected one of that name, {otherwise}"
    )


def _plain(column: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", column.strip().casefold()).strip("_")


def _open_object(connection: Any, kind: str, given: Any) -> Opened:
    try:
        connection.register(f"given_{kind}", given)
    except Exception:
        raise InputError(
            f"{kind} is a {type(given).__name__}; expected a path, a DataFrame or an "
            "Arrow table"
        ) from None
    return _typed(connection, f"given_{kind}")


def _typed(connection: Any, table: str) -> Opened:
    """Columns of a table with types."""
    described = connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()
    selected = {"": table}
    for column, kind, *_ in described:
        value = name(column)
        if kind in ("DOUBLE", "FLOAT"):  # Ids beside a gap become such numbers.
            selected[column] = (
                f"CASE WHEN {value} = trunc({value}) AND abs({value}) < 1e15 "
                f"THEN CAST(CAST({value} AS BIGINT) AS VARCHAR) "
                f"WHEN isnan({value}) THEN NULL ELSE CAST({value} AS VARCHAR) END"
            )
        else:
            selected[column] = f"CAST({value} AS VARCHAR)"
    types = {
        column: "number"
        for column, kind, *_ in described
        if re.match(
            r"(DECIMAL.*|DOUBLE|FLOAT|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?)$", kind
        )
    }
    return [column for column, *_ in described], selected, types


def _open_file(connection: Any, kind: str, path: Path, label: str) -> Opened:
    ending = path.suffix.casefold()
    if ending == ".parquet":
        with reading(label, "Parquet file"):
            return _typed(connection, f"read_parquet({text(path)})")
    path = as_utf8(connection, path, label)
    if ending in (".jsonl", ".ndjson"):
        return _open_json(connection, kind, path, label)
    return _open_csv(connection, path, label)


def _open_csv(connection: Any, path: Path, label: str) -> Opened:
    with open(path, encoding="utf-8-sig", newline="") as file:
        first = start = file.readline()
        while start and is_before_header(start):
            start = file.readline()
        if not start:
            raise InputError(f"{label} is empty; expected a header and rows")
        delimiter = delimiter_of(start)
        lines = itertools.chain([start], itertools.islice(file, _LONGEST_HEADER))
        header = [n.strip() for n in next(csv.reader(lines, delimiter=delimiter))]
        if start is not first or "\n" in "".join(header):
            # The database knows headers of the first line alone.
            path = copy_lines(connection, path, itertools.chain(["header\n"], file))
    named = [n for n in header if n]
    twice = [
        n for k, n in enumerate(named) if n.casefold() in map(str.casefold, named[:k])
    ]
    if twice or not named:
        why = f", with {twice[0]!r} twice (as capitals or not)" if twice else ""
        raise InputError(
            f"{label}: the header is {start.strip()[:160]!r}{why}; expected a name for "
            "each column, each once"
        )
    if len(named) < len(header):
        places = ", ".join(str(k) for k, n in enumerate(header, 1) if not n)
        note = f"{label}: column {places} has no name, and is not read"
        connection.execute("INSERT INTO notes VALUES (?)", [note])
    unnamed = (f"unnamed {k}" for k in itertools.count())
    columns = ", ".join(f"{text(n or next(unnamed))}: 'VARCHAR'" for n in header)
    table = (
        f"read_csv({text(path)}, columns={{{columns}}}, delim={text(delimiter)}, "
        f"auto_detect=false, header=true, quote='\"', escape='\"', "
        "store_rejects=true, rejects_table='rejects', rejects_scan='rejects_scans')"
    )
    return named, {"": table} | {n: name(n) for n in named}, {}


def _open_json(connection: Any, kind: str, path: Path, label: str) -> Opened:
    lines = (
        f"(SELECT row_number() OVER () AS row, line FROM read_csv({text(path)}, "
        "columns={'line': 'VARCHAR'}, delim=chr(7), quote='', escape='', header=false, "
        "auto_detect=false) WHERE trim(line) <> '')"
    )
    lines = lines.replace("chr(7)", text("\x07"))
    right = "CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' ELSE false END"
    connection.execute(
        f"CREATE TABLE json_{kind} AS SELECT line FROM {lines} WHERE {right} ORDER BY row;"
        f"INSERT INTO left_out SELECT {text(label)}, row, line[:200], "
        f"'the line is no JSON object', true FROM {lines} WHERE NOT {right}"
    )
    keys = connection.execute(
        "SELECT key FROM (SELECT unnest(json_keys(line)) AS key FROM "
        f"json_{kind}) GROUP BY key ORDER BY count(*) DESC, key"
    ).fetchall()
    if not keys:
        raise InputError(f"{label} has no line with a JSON object; expected one a row")
    selected, types = {"": f"json_{kind}"}, {}
    for (key,) in keys:
        pointer = text("/" + key.replace("~", "~0").replace("/", "~1"))
        selected[key] = f"(line ->> {pointer})"
        (numbers,) = connection.execute(
            f"SELECT bool_and(json_type(line, {pointer}) IN ('DOUBLE', 'BIGINT', "
            f"'UBIGINT')) FROM json_{kind} WHERE line ->> {pointer} IS NOT NULL"
        ).fetchone()
        if numbers:
            types[key] = "number"
    return [key for (key,) in keys], selected, types


def _noted(connection: Any, label: str) -> int:
    """How many rows of a table are left out so far."""
    ((count,),) = connection.execute(
        "SELECT count(*) FROM left_out WHERE file = ?", [label]
    ).fetchall()
    return count


def _note_rejects(connection: Any, label: str) -> None:
    """Moves the lines that could not be read as CSV to `left_out`."""
    tables = {n for (n,) in connection.execute("SHOW TABLES").fetchall()}
    if "rejects" in tables:
        # A quote that is not closed takes the lines behind it with it.
        connection.execute(
            f"""
            INSERT INTO left_out SELECT {text(label)}, line + unnest(range(lines)),
                start[:200], reason, true
              FROM (SELECT line, regexp_replace(text, '\\s*[\\r\\n].*', '', 's') AS start,
                greatest(1, len(string_split(text, E'\\n'))) AS lines, reason
              FROM (SELECT line, any_value(trim(csv_line, E' \\r\\n')) AS text, CASE
                  WHEN bool_or(error_type = 'LINE SIZE OVER MAXIMUM')
                    THEN 'the line is too long'
                  WHEN bool_or(contains(error_message, 'unterminated quote'))
                    THEN 'it is behind a quote that is not closed'
                  ELSE 'the line does not fit the header' END AS reason
                FROM rejects GROUP BY line)) ORDER BY line;
            DROP TABLE rejects; DROP TABLE IF EXISTS rejects_scans
            """
        )
