"""When something was liked: the times that shops write, as Unix seconds."""

from typing import Any

from fhn_jax.data_tools.shop.engine import text
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
    number = "TRY_CAST(replace(t.time, ',', '.') AS DOUBLE)"
    units = " ".join(
        f"WHEN {number} > {a} THEN {number} / {b}" for a, b in _UNITS.items()
    )
    written = f"regexp_replace(t.time, {text(_SLASHES)}, '\\1/\\2/\\3')"
    value = (
        "CASE WHEN length(t.time) = 8 AND regexp_full_match(t.time, '(19|20)\\d{6}') "
        "THEN epoch(try_strptime(t.time, '%Y%m%d')) "
        f"WHEN isfinite({number}) THEN CASE {units} ELSE {number} END "
        f"ELSE coalesce(epoch(TRY_CAST(t.time AS TIMESTAMPTZ)), "
        f"epoch(try_strptime({written}, {_formats(connection, source)}))) END"
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


def _formats(connection: Any, source: Source) -> str:
    """A list of the ways in which a table writes dates, beside ISO 8601."""
    first, second = (
        f"max(TRY_CAST(regexp_extract(time, {text(_SLASHES)}, {k}) AS INTEGER))"
        for k in (1, 2)
    )
    ((first, second),) = connection.execute(
        f"SELECT {first}, {second} FROM {source.kind} "
        "WHERE contains(time, '/') OR contains(time, '-')"
    ).fetchall()
    dates = ["%d.%m.%Y"]
    if first is not None and (first > 12) != (second > 12):
        dates.append("%d/%m/%Y" if first > 12 else "%m/%d/%Y")
    return f"[{', '.join(text(date + hour) for date in dates for hour in _HOURS)}]"
