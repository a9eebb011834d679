"""Attributes of a shop's items: what type each column is, and how its text is read.

A number is read by the sign that its own cell has for decimals: 19,90 and 19.90 are the same
in one column. A cell that may be either, such as 1.299, is read as the others of its column
are, or as they were before an update.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fhn_jax.data_tools.shop.engine import name, text
from fhn_jax.data_tools.shop.settings import Settings
from fhn_jax.data_tools.shop.sources import Source
from fhn_jax.data_tools.shop.times import moments

from fhn_jax.data.csv_files import SURE
from fhn_jax.errors import InputError, nearest

# As `fhn_jax.retrieval.columns` has them.
TRUE, FALSE = ("true", "yes", "ja", "oui", "y"), ("false", "no", "nein", "non", "n")
_OWN = ("id", "category", "title", "image")
_SPACES = r"[\s\x{00A0}\x{2009}\x{202F}'\x{2019}]"  # and what the Swiss write in them
_CURRENCY = r"€|\$|£|¥|EUR|USD|GBP|CHF|SEK|DKK|NOK|PLN|CZK|kr\.?|zł|Kč"
# Texts whose decimal sign D is not sure; SURE is of those that are.
_EITHER = r"-?[1-9]\d{0,2}D\d{3}"
_SCIENTIFIC = r"-?\d+(\.\d+)?[eE][+-]\d+|-?\d+\.\d+[eE]\d+"
_OTHER = {",": ".", ".": ","}
# Days as shops write them, perhaps with a time of the day behind.
_DATE = r"(\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{4})([ T].*)?"
# Of more values that are none, nobody would take the column for one of numbers.
_MOSTLY = 0.5


@dataclasses.dataclass(frozen=True)
class Attribute:
    """How a column is read.

    Attributes:
      kind: its type, one of `settings.ATTRIBUTE_TYPES`.
      value: a query's expression of it, for a row `i`.
      about: its type, an example and what else must be said, for people.
      decimal: the sign by which its numbers were read, "" where none needed one.
    """

    kind: str
    value: str
    about: str
    decimal: str = ""


@dataclasses.dataclass(frozen=True)
class _Numbers:
    """The numbers of a column.

    Attributes:
      value: a query's expression of them.
      count: how many there are.
      decimal: the sign by which what may be either is read, "" where there is nothing to
        tell it.
      note: what must be said, "" for nothing.
    """

    value: str
    count: int
    decimal: str
    note: str


def find_attributes(
    connection: Any,
    source: Source,
    settings: Settings,
    kinds: Mapping[str, str] | None,
    decimals: Mapping[str, str],
) -> dict[str, Attribute]:
    """How each attribute of `good_items` is read; notes what is odd about one.

    Args:
      kinds: of an update: the types of the attributes that there are, which stay.
      decimals: the signs by which numbers were read before.
    Raises:
      InputError: catalogue.toml names what there is not, or in an update, a value is not
        of the attribute's type.
    """
    columns = [column for column in source.columns if column not in _OWN]
    for column in settings.attributes:
        if column not in columns:
            raise InputError(
                f"catalogue.toml: attributes.{column}: {source.label} has no such "
                f"column{nearest(column, columns)}"
            )
    return {
        column: _attribute(
            connection,
            *(column, source, settings),
            (kinds or {}).get(column),
            decimals.get(column, ""),
        )
        for column in columns
    }


def _attribute(
    connection: Any,
    column: str,
    source: Source,
    settings: Settings,
    before: str | None,
    decimal: str,
) -> Attribute:
    """How one is read.

    Args:
      before: the type that it has already, in an update.
      decimal: the sign by which its numbers were read.
    """
    raw = f"i.{name(column)}"
    kind = settings.attributes.get(column, before or source.types.get(column))
    if before is not None and kind != before:
        raise InputError(
            f"catalogue.toml: attributes.{column} is {kind!r}, and {before!r} in the data "
            "that are updated; an attribute keeps its type: name the column otherwise"
        )
    total, zeros, true_or_false, dates = connection.execute(
        f"""
        SELECT count({raw}), count(*) FILTER (regexp_full_match({raw}, '\\s*-?0\\d+')),
          count(*) FILTER (lower({raw}) IN ({", ".join(map(text, TRUE + FALSE))})),
          count(*) FILTER (regexp_full_match({raw}, {text(_DATE)}))
        FROM good_items i
        """
    ).fetchone()
    moment = moments(connection, "good_items", column, raw)
    numbers = _numbers(connection, column, source, settings.decimal, decimal)
    if kind is None:
        kind = "text"
        if total and numbers.count == total and not zeros:
            kind = "number"
        elif total and true_or_false == total:
            kind = "boolean"
        elif total and dates == total:
            ((lost,),) = connection.execute(
                f"SELECT count(*) - count({moment}) FROM good_items i "
                f"WHERE {raw} IS NOT NULL"
            ).fetchall()
            kind = "text" if lost else "time"
    boolean = (
        f"CASE WHEN lower({raw}) IN ({', '.join(map(text, (*TRUE, '1')))}) THEN true "
        f"WHEN lower({raw}) IN ({', '.join(map(text, (*FALSE, '0')))}) THEN false END"
    )
    value = {
        "number": numbers.value,
        "boolean": boolean,
        "time": moment,
        "text": raw,
    }[kind]
    _check(connection, column, source, kind, value, before)
    (example,) = connection.execute(
        f"SELECT CAST(arg_min({value}, i.row) AS VARCHAR) FROM good_items i"
    ).fetchone()
    about = f"{kind}, such as {example[:40]!r}" if example else f"{kind}, none given"
    if column not in settings.attributes:
        declare = f"attributes.{column} = "
        if kind == "text" and not zeros:
            how = "as in the data that are updated; import anew" if before else ""
            alike = {"number": numbers.count, "time": dates}
            about += _hint_of_text(total, alike, declare, how)
        elif kind == "number" and not before and _are_flags(connection, raw, total):
            about += (
                f': 0 and 1 alone; {declare}"boolean" in catalogue.toml makes it one'
            )
    if kind != "number":
        return Attribute(kind, value, about)
    if numbers.note:
        _note(connection, f"{source.label}: {numbers.note}")
    return Attribute(kind, value, about, numbers.decimal)


def _hint_of_text(total: int, alike: Mapping[str, int], declare: str, how: str) -> str:
    """What must be said of a column of texts that look like something else.

    Args:
      total: number of texts.
      alike: type → how many look like it.
      declare: the beginning of a line of catalogue.toml that gives the type.
      how: what can be done instead of that, if it cannot be given.
    """
    hint = ""
    for kind, count in alike.items():
        if count and count >= _MOSTLY * total:
            hint += f": it looks like {'dates' if kind == 'time' else 'numbers'}"
            if count < total:
                hint += f"; {total - count:,} of {total:,} values are none"
            hint += "; " + (how or f'{declare}"{kind}" in catalogue.toml takes them')
    return hint


def _are_flags(connection: Any, raw: str, total: int) -> bool:
    """Whether all values are 0 or 1."""
    (flags,) = connection.execute(
        f"SELECT count(*) FILTER ({raw} IN ('0', '1')) FROM good_items i"
    ).fetchone()
    return flags == total


def _check(
    connection: Any,
    column: str,
    source: Source,
    kind: str,
    value: str,
    before: str | None,
) -> None:
    """Notes how many values are not of a type; raises InputError in an update."""
    raw = f"i.{name(column)}"
    (lost,) = connection.execute(
        f"SELECT count({raw}) - count({value}) FROM good_items i"
    ).fetchone()
    if not lost:
        return
    if before is None:
        _note(
            connection,
            f"{source.label}: {lost:,} values of {column} are no {kind} and left empty",
        )
        return
    row, found = connection.execute(
        f"SELECT i.row, {raw} FROM good_items i WHERE {raw} IS NOT NULL AND "
        f"{value} IS NULL ORDER BY i.row LIMIT 1"
    ).fetchone()
    raise InputError(
        f"{source.label}, row {row:,}: {column} is {found[:80]!r}, expected a {kind}, "
        f"as in the data that are updated ({lost:,} such rows); mend it, or leave "
        "the cell empty"
    )


def _numbers(
    connection: Any, column: str, source: Source, given: str, before: str
) -> _Numbers:
    """The numbers of a column of texts.

    Args:
      given: the decimal sign that catalogue.toml names, if any.
      before: the one by which the column was read before.
    """
    raw = f"i.{name(column)}"
    plain = f"regexp_replace({raw}, {text(_SPACES)}, '', 'g')"
    ends = text(f"^(-?)(?:{_CURRENCY})|(?:{_CURRENCY})$")
    plain = f"regexp_replace({plain}, {ends}, '\\1', 'gi')"
    plain = f"regexp_replace({plain}, '[.,][-–—]+$', '')"  # "19,-"
    if source.types.get(column) == "number":
        # A program wrote it: 1.299 has a point, whatever its column looks like.
        return _Numbers(f"TRY_CAST({raw} AS DOUBLE)", *_count(connection, raw), ".", "")
    signs = {sign: _with(SURE, sign) for sign in ",."}
    signs["."] += f"|{_SCIENTIFIC}"
    either = {sign: _with(_EITHER, sign) for sign in ",."}
    parts = [
        *(_matching(plain, raw, signs[sign]) for sign in ",."),
        *(_matching(plain, raw, either[sign]) for sign in ",."),
        f"count(*) FILTER (regexp_full_match({plain}, '-?\\d+'))",
        f"count(*) FILTER (regexp_full_match({plain}, '-?[1-9]\\d\\d'))",
        f"count(*) FILTER (regexp_full_match({plain}, '-?\\d{{4,}}'))",
    ]
    found = connection.execute(f"SELECT {', '.join(parts)} FROM good_items i")
    commas, comma, points, point, grouped, one, dotted, other, whole, hundreds, more = (
        found.fetchone()
    )
    unsure, example = grouped + dotted, other or one
    # Beside 899 and without 1299, 1.299 is a thousand and more.
    thousands = hundreds and not more
    usual = "," if dotted >= grouped else "."
    sign, why = ".", "since nothing tells"
    if given:
        sign, why = given, "as catalogue.toml says"
    elif commas != points:
        sign, why = "," if commas > points else ".", "as most others"
    elif before:
        sign, why = before, "as before"
    elif unsure and thousands:
        sign, why = usual, "as there are hundreds, and no thousands, without it"
    comma_value = f"replace(replace({plain}, '.', ''), ',', '.')"
    point_value = f"replace({plain}, ',', '')"
    by = {",": comma_value, ".": point_value}
    value = (
        f"TRY_CAST(CASE WHEN regexp_full_match({plain}, {text(signs[','])}) THEN "
        f"{comma_value} WHEN regexp_full_match({plain}, {text(signs['.'])}) THEN "
        f"{point_value} WHEN regexp_full_match({plain}, '-?\\d+|"
        f"{either[',']}|{either['.']}') THEN {by[sign]} END AS DOUBLE)"
    )
    notes = []
    if commas and points:
        notes.append(
            f"{commas:,} values of {column} have a decimal comma, such as {comma!r}, and "
            f"{points:,} a point, such as {point!r}; each is read as it is written"
        )
    told = bool(given) or bool(commas) != bool(points)
    told |= bool(before) and not commas and not points
    if unsure and not told:
        read = _read(example, sign)
        notes.append(
            f"{unsure:,} values of {column} may have decimals or thousands, such as "
            f'{example!r}, which is read as {read}, {why}; say decimal = "," or '
            'decimal = "." in catalogue.toml'
        )
    needed = told or commas or points or unsure
    return _Numbers(
        value,
        commas + points + unsure + whole,
        sign if needed else "",
        "; ".join(notes),
    )


def _count(connection: Any, raw: str) -> tuple[int]:
    return connection.execute(f"SELECT count({raw}) FROM good_items i").fetchone()


def _matching(plain: str, raw: str, pattern: str) -> str:
    """How many cells match, and an example."""
    where = f"FILTER (regexp_full_match({plain}, {text(pattern)}))"
    return f"count(*) {where}, arg_min({raw}, i.row) {where}"


def _read(example: str, sign: str) -> str:
    return example.strip().replace(_OTHER[sign], "").replace(sign, ".")


def _with(pattern: str, sign: str) -> str:
    """A pattern with a decimal sign."""
    return pattern.replace("T", f"[{_OTHER[sign]}]").replace("D", f"[{sign}]")


def _note(connection: Any, note: str) -> None:
    connection.execute("INSERT INTO notes VALUES (?)", [note])
