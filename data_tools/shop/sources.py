"""A shop's tables: found in a folder or given in memory, and read as text.

Every value is read as text: an id keeps its zeros, and a cell that a spreadsheet would
compute stays what it says.
"""

import codecs
import csv
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fhn_jax.data_tools.shop.engine import name, reading, text
from fhn_jax.data_tools.shop.settings import TABLES, Settings

from fhn_jax.errors import ExistingFileError, InputError, MissingFileError, nearest

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_DELIMITERS = ",;\t|"
_CHUNK = 2**22

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
# An attribute of such a name gets another.
_RESERVED = {"row", "index", "slot", "name", "category", "id", "title", "image"}


@dataclasses.dataclass(frozen=True)
class Source:
    """A table of a shop, in the database as one of texts.

    Attributes:
      kind: one of `TABLES`, and the name in the database. It has `row`, from 1, and the
        columns below by our names.
      label: for people, such as "items.csv".
      columns: our names of its columns, those of slots included → theirs.
      rows: how many.
    """

    kind: str
    label: str
    columns: Mapping[str, str]
    rows: int

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
        folder = Path(shop)
        if not folder.is_dir():
            raise MissingFileError(
                f"there is no folder {folder}; expected items.csv, likes.csv and perhaps "
                "outfits.csv or orders.csv in it (or .jsonl, or .parquet)"
            )
        found = {}
        for kind in TABLES:
            paths = [folder / (kind + ending) for ending in FORMATS]
            there = [path for path in paths if path.is_file()]
            if len(there) > 1:
                raise ExistingFileError(
                    f"{folder} has {there[0].name} and {there[1].name}; keep one of them"
                )
            if there:
                found[kind] = there[0]
    if "items" not in found:
        names = [] if isinstance(shop, Mapping) else sorted(os.listdir(shop))
        raise MissingFileError(
            f"there is no table of items; expected items{{{','.join(FORMATS)}}} in "
            f"{shop if not isinstance(shop, Mapping) else 'the mapping'}"
            f"{nearest('items.csv', names)}"
        )
    return found


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
    if isinstance(given, str | os.PathLike):
        theirs, selected = _open_file(connection, kind, Path(given), label)
    else:
        theirs, selected = _open_object(connection, kind, given)
    columns = _columns(kind, label, theirs, settings, slots)
    chosen = ", ".join(
        f"nullif(trim({selected[their]}), '') AS {name(our)}"
        for our, their in columns.items()
    )
    connection.execute(
        f"CREATE TABLE {name(kind)} AS SELECT row_number() OVER () AS row, {chosen} "
        f"FROM {selected['']}"
    )
    _note_rejects(connection, label)
    (rows,) = connection.execute(f"SELECT count(*) FROM {name(kind)}").fetchone()
    if not rows:
        raise InputError(f"{label} has no rows; expected at least one")
    return Source(kind, label, columns, rows)


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
        if our not in known:
            raise InputError(
                f"catalogue.toml: columns.{kind}.{our} is unknown; expected some of "
                f"{', '.join(known)}{nearest(our, known)}"
            )
        if their not in theirs:
            raise _no_column(label, str(their), theirs, "as catalogue.toml says")
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
            raise _no_column(label, our, theirs, f"or [columns.{kind}] {our} = ...")
    if kind == "items":
        taken = {*_RESERVED, *columns}
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
        f"expected one of that name, {otherwise} in catalogue.toml"
    )


def _plain(column: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", column.strip().casefold()).strip("_")


def _open_object(
    connection: Any, kind: str, given: Any
) -> tuple[list[str], dict[str, str]]:
    try:
        connection.register(f"given_{kind}", given)
    except Exception as error:
        raise InputError(
            f"{kind} is a {type(given).__name__} ({error}); expected a path, a "
            "DataFrame or an Arrow table"
        ) from None
    return _typed(connection, f"given_{kind}")


def _typed(connection: Any, table: str) -> tuple[list[str], dict[str, str]]:
    """Columns of a table with types, and how each is read as text."""
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
    return [column for column, *_ in described], selected


def _open_file(
    connection: Any, kind: str, path: Path, label: str
) -> tuple[list[str], dict[str, str]]:
    if path.suffix == ".parquet":
        with reading(label, "Parquet file"):
            return _typed(connection, f"read_parquet({text(path)})")
    path = _as_utf8(connection, path, label)
    if path.suffix in (".jsonl", ".ndjson"):
        return _open_json(connection, kind, path, label)
    return _open_csv(path, label)


def _open_csv(path: Path, label: str) -> tuple[list[str], dict[str, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        start = file.readline()
    if not start.strip():
        raise InputError(f"{label} is empty; expected a header and rows")
    counts = {d: start.count(d) for d in _DELIMITERS}
    delimiter = max(counts, key=lambda each: counts[each])
    header = [n.strip() for n in next(csv.reader([start], delimiter=delimiter))]
    if len({n.casefold() for n in header}) != len(header) or not all(header):
        raise InputError(
            f"{label}: the header is {start.strip()[:160]!r}; expected a name for each "
            "column, each once"
        )
    columns = "{" + ", ".join(f"{text(n)}: 'VARCHAR'" for n in header) + "}"
    table = (
        f"read_csv({text(path)}, columns={columns}, delim={text(delimiter)}, "
        "auto_detect=false, header=true, quote='\"', escape='\"', store_rejects=true, "
        "rejects_table='rejects', rejects_scan='rejects_scans')"
    )
    return header, {"": table} | {n: name(n) for n in header}


def _open_json(
    connection: Any, kind: str, path: Path, label: str
) -> tuple[list[str], dict[str, str]]:
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
    selected = {"": f"json_{kind}"}
    for (key,) in keys:
        pointer = "/" + key.replace("~", "~0").replace("/", "~1")
        selected[key] = f"(line ->> {text(pointer)})"
    return [key for (key,) in keys], selected


def _note_rejects(connection: Any, label: str) -> None:
    """Moves the lines that could not be read as CSV to `left_out`."""
    tables = {n for (n,) in connection.execute("SHOW TABLES").fetchall()}
    if "rejects" in tables:
        connection.execute(
            f"INSERT INTO left_out SELECT {text(label)}, line, trim(csv_line, E' \\r\\n')[:200], "
            "'the line does not fit the header', true FROM "
            "(SELECT line, any_value(csv_line) AS csv_line FROM rejects GROUP BY line);"
            "DROP TABLE rejects; DROP TABLE IF EXISTS rejects_scans"
        )


def _as_utf8(connection: Any, path: Path, label: str) -> Path:
    """The file, or a copy of it in UTF-8 if it is anything else.

    Spreadsheets write Windows-1252 and UTF-16, and files of several hands mix encodings:
    a line that is no UTF-8 is read as Windows-1252.
    """
    with open(path, "rb") as file:
        start = file.read(4)
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        lines = _lines_of_utf16(path)
        note = "the file is UTF-16"
    elif _is_utf8(path):
        return path
    else:
        lines = _lines_of_any(path)
        note = "lines that are no UTF-8 were read as Windows-1252"
    copy = Path(
        connection.execute("SELECT current_setting('temp_directory')").fetchone()[0]
    )
    copy.mkdir(parents=True, exist_ok=True)
    copy = copy / f"{path.stem}.utf8{path.suffix}"
    with open(copy, "w", encoding="utf-8", newline="") as file:
        file.writelines(lines)
    connection.execute(f"INSERT INTO notes VALUES ({text(f'{label}: {note}')})")
    return copy


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open(path, "rb") as file:
        try:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _lines_of_utf16(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-16", newline="", errors="replace") as file:
        yield from file


def _lines_of_any(path: Path) -> Iterator[str]:
    with open(path, "rb") as file:
        for line in file:
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                yield line.decode("cp1252", errors="replace")
