"""When something was liked: the times that shops write, as Unix seconds."""

from typing import Any

from fhn_jax.data_tools.shop.engine import name, text
from fhn_jax.data_tools.shop.sources import Source

# Numbers beyond these are milli-, micro- and nanoseconds: seconds of the year 5138.
_UNITS = {1e17: 1e9, 1e14: 1e6, 1e11: 1e3}
_HOURS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_SLASHES = r"^(\d{1,2})[/-](\d{1,2})[/-](\d{4})"


def seconds(connection: Any, source: Source) -> str:
    """A query's expression for the time of a row `t`, NULL for none.

    Dates such as 03/05/2024 are read where another of the table says whether the day or
    the month comes first. How many times cannot be read is noted.
    """
    if not source.has("time"):
        return "NULL"
    formats = _formats(connection, source.kind, "time")
    number = "TRY_CAST(replace(t.time, ',', '.') AS DOUBLE)"
    units = " ".join(
        f"WHEN {number} > {a} THEN {number} / {b}" for a, b in _UNITS.items()
    )
    value = (
        "CASE WHEN length(t.time) = 8 AND regexp_full_match(t.time, '(19|20)\\d{6}') "
        "THEN epoch(try_strptime(t.time, '%Y%m%d')) "
        f"WHEN isfinite({number}) THEN CASE {units} ELSE {number} END "
        f"ELSE epoch({_written('t.time', formats)}) END"
    )
    ((lost, some),) = connection.execute(
        f"SELECT count(*), min(t.time) FROM {source.kind} t "
        f"WHERE t.time IS NOT NULL AND {value} IS NULL"
    ).fetchall()
    if lost:
        note = (
            f"{source.label}: {lost:,} times cannot be read, such as {some[:40]!r}; "
            "expected Unix seconds, or year-month-day hour:minute:second"
        )
        connection.execute("INSERT INTO notes VALUES (?)", [note])
    return value


def moments(connection: Any, table: str, column: str, value: str) -> str:
    """A query's expression for a text as a timestamp in UTC, NULL where it is no date.

    Args:
      table, column: whose texts tell whether days or months come first.
      value: the text.
    """
    return _written(value, _formats(connection, table, column))


def _written(value: str, formats: str) -> str:
    slashes = f"regexp_replace({value}, {text(_SLASHES)}, '\\1/\\2/\\3')"
    return (
        f"coalesce(TRY_CAST({value} AS TIMESTAMPTZ) AT TIME ZONE 'UTC', "
        f"try_strptime({slashes}, {formats}))"
    )


def _formats(connection: Any, table: str, column: str) -> str:
    """A list of the ways in which a column writes dates, beside ISO 8601."""
    own = name(column)
    first, second = (
        f"max(TRY_CAST(regexp_extract({own}, {text(_SLASHES)}, {k}) AS INTEGER))"
        for k in (1, 2)
    )
    ((first, second),) = connection.execute(
        f"SELECT {first}, {second} FROM {table} "
        f"WHERE contains({own}, '/') OR contains({own}, '-')"
    ).fetchall()
    dates = ["%d.%m.%Y"]
    if first is not None and (first > 12) != (second > 12):
        dates.append("%d/%m/%Y" if first > 12 else "%m/%d/%Y")
    return f"[{', '.join(text(date + hour) for date in dates for hour in _HOURS)}]"
