"""What an import did, or would do: for people, and for import.json."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fhn_jax.data_tools.shop.options import Options
from fhn_jax.data_tools.shop.tables import Loaded

# A reason without what it is about.
KIND = "split_part(reason, ': ', 1)"
_REASONS_SHOWN = 10
_ROWS_SHOWN = 5
# Attributes of items.
_MOST_SHOWN = 40


@dataclasses.dataclass(frozen=True)
class Summary:
    """What an import did, or would do.

    Attributes:
      tables: table → rows in it.
      left_out: table → reason → rows.
      slots: of the layout.
      templates: the sets of slots that outfits are of → likes.
      splits: split → positives.
      users, items: how many there are.
      changes: of an update: what → how many, such as "new items".
      attributes: of items → the type of each, with an example.
      text: all this for people.
    """

    tables: Mapping[str, int]
    left_out: Mapping[str, Mapping[str, int]]
    slots: tuple[str, ...]
    templates: Mapping[tuple[str, ...], int]
    splits: Mapping[str, int]
    users: int
    items: int
    changes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    text: str = ""


def left_out_of(connection: Any) -> dict[str, dict[str, int]]:
    """What is left out so far: table → reason → rows, the most first."""
    found: dict[str, dict[str, int]] = {}
    for file, reason, count in connection.execute(
        f"SELECT file, {KIND} AS kind, count(*) AS n FROM left_out "
        "GROUP BY file, kind ORDER BY file, n DESC, kind"
    ).fetchall():
        found.setdefault(file, {})[reason] = count
    return found


def rows_left_out(connection: Any, file: str, *, faults: bool) -> str:
    """The first rows of a table that are left out, a line for each.

    Args:
      faults: whether only those that are at fault.
    """
    rows = connection.execute(
        "SELECT row, what, reason FROM left_out WHERE file = ? AND (fault OR NOT ?) "
        f"ORDER BY row LIMIT {_ROWS_SHOWN}",
        [file, faults],
    ).fetchall()
    return "".join(
        f"\n  {file}, row {row:,}{f' ({what[:80]})' if what else ''}: {reason}"
        for row, what, reason in rows
    )


def reasons(connection: Any) -> str:
    """Why nothing is left, as far as rows that are left out tell it."""
    rows = connection.execute(
        f"SELECT file, {KIND} AS kind, count(*) AS n FROM left_out "
        "GROUP BY file, kind ORDER BY n DESC, file, kind LIMIT 5"
    ).fetchall()
    if not rows:
        return "import more likes, or allow fewer of each user with --min-likes"
    photos = any(reason.startswith("its photo") for _, reason, _ in rows)
    shown = [
        rows_left_out(connection, file, faults=False)
        for file in dict.fromkeys(file for file, _, _ in rows)
    ]
    return (
        "left out were "
        + "; ".join(
            [f"{count:,} rows of {file}: {reason}" for file, reason, count in rows]
            + ["--no-images goes without photos"] * photos
        )
        + "".join(shown)
    )


def text_of(summary: Summary, loaded: Loaded, connection: Any) -> str:
    """A summary for people, with what was noted."""
    lines = []
    if loaded.categories.guessed:
        lines += ["catalogue.toml, as guessed from the names of the categories:"]
        toml = loaded.categories.as_toml().splitlines()
        lines += [f"  {line}" for line in toml]
    for source in loaded.sources.values():
        renamed = ", ".join(
            f"{our} = {their!r}"
            for our, their in source.columns.items()
            if our != their
        )
        lines.append(
            f"{source.label}: {source.rows:,} rows"
            + (f" (columns {renamed})" if renamed else "")
        )
        reasons = list(summary.left_out.get(source.label, {}).items())
        for reason, count in reasons[:_REASONS_SHOWN]:
            lines.append(f"  {count:>12,} left out: {reason}")
        if rest := sum(count for _, count in reasons[_REASONS_SHOWN:]):
            lines.append(f"  {rest:>12,} left out for other reasons")
        if source.kind == "items":
            about = list(summary.attributes.items())
            lines += [f"    {column}: {text}" for column, text in about[:_MOST_SHOWN]]
            if rest := len(about[_MOST_SHOWN:]):
                lines.append(f"    and {rest:,} more attributes")
    for (note,) in connection.execute("SELECT * FROM notes").fetchall():
        lines.append(f"note: {note}")
    for what, count in summary.changes.items():
        lines.append(f"{count:>14,} {what}")
    lines.append(
        f"{summary.items:,} items of {', '.join(summary.slots)}; "
        f"{summary.users:,} users"
    )
    for template, count in summary.templates.items():
        lines.append(f"  {count:>12,} likes of {' + '.join(template)}")
    splits = ", ".join(f"{n:,} {s}" for s, n in summary.splits.items())
    lines.append(f"splits: {splits}")
    return "\n".join(lines)


def as_json(summary: Summary, options: Options) -> dict[str, Any]:
    values = dataclasses.asdict(summary)
    values.pop("text")
    values["templates"] = [
        {"slots": list(template), "likes": count}
        for template, count in summary.templates.items()
    ]
    return values | {"options": dataclasses.asdict(options)}
