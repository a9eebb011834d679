"""Who likes what: rows of a user, an outfit, 1 or -1, and a time."""

import time
from collections.abc import Sequence
from typing import Any

from fhn_jax.data_tools.shop.engine import name, text
from fhn_jax.data_tools.shop.outfits import check_unknown, item_columns
from fhn_jax.data_tools.shop.sources import Source
from fhn_jax.data_tools.shop.times import seconds

_LIKE = ("1", "1.0", "1,0", "+1", "true", "yes", "like", "liked")
_DISLIKE = (
    "-1",
    "-1.0",
    "-1,0",
    "\N{MINUS SIGN}1",
    "false",
    "no",
    "dislike",
    "disliked",
)
_DAY = 86_400
_SPLITS = {"val": ("val", "valid", "validation", "dev"), "test": ("test",)}


def make_likes(connection: Any, slots: Sequence[str]) -> None:
    """Makes the empty table `likes_all`."""
    columns = ", ".join(f"s{k} INTEGER" for k in range(len(slots)))
    connection.execute(
        f'CREATE TABLE likes_all (file UTINYINT, row BIGINT, "user" VARCHAR, '
        f"value TINYINT, time DOUBLE, split VARCHAR, mask INTEGER, {columns})"
    )


def add_makers(
    connection: Any, source: Source, number: int, slots: Sequence[str]
) -> None:
    """Adds who made or ordered the outfits of `KIND_sets`, where the table says so."""
    if not source.has("user"):
        return
    owner, several, owners = 't."user"', "false", ""
    if item_columns(source, slots) == ["item_id"]:
        owner, several = 'o."user"', "o.users > 1"
        owners = f"""
            JOIN (SELECT p.key, min(t."user") AS "user", count(DISTINCT t."user") AS users
              FROM {source.kind}_pieces p JOIN {source.kind} t ON p.row = t.row
              GROUP BY p.key) o ON s.key = o.key"""
    connection.execute(
        f"""
        CREATE TEMP TABLE made AS SELECT s.*, {owner} AS "user", {seconds(connection, source)} AS time,
            {_split(source)} AS split, CASE WHEN {owner} IS NULL THEN 'no user'
              WHEN {several} THEN 'it is of several users' END AS why
          FROM {source.kind}_sets s JOIN {source.kind} t ON s.row = t.row {owners}
          WHERE s.fault IS NULL;
        INSERT INTO likes_all SELECT {number}, row, "user", 1, time, split, mask,
            {_items(slots)} FROM made s WHERE why IS NULL;
        INSERT INTO left_out SELECT {text(source.label)}, row, NULL, why, true
          FROM made WHERE why IS NOT NULL ORDER BY row;
        DROP TABLE made
        """
    )


def add_likes(
    connection: Any,
    source: Source,
    number: int,
    slots: Sequence[str],
    named: Sequence[str],
) -> None:
    """Adds the rows of a table of likes.

    Args:
      number: of the table, for `file`.
      named: the columns by which rows name outfits of `outfits_all`. What other rows like
        is in `KIND_sets`, where the table names items too.
    Raises:
      ValueError: most of them are of outfits that are not there.
    """
    label, kind = text(source.label), source.kind
    items = item_columns(source, slots)
    parts = [f"SELECT row, fault, mask, {_items(slots)} FROM {kind}_sets s"] * bool(
        items
    )
    if named:
        outfit = f"coalesce({', '.join(f't.{each}' for each in named)})"
        ways = [f"t.{each}" for each in named]
        if items:
            ways.append(f"coalesce({', '.join(f't.{name(each)}' for each in items)})")
        several = " + ".join(f"CAST({way} IS NOT NULL AS INTEGER)" for way in ways)
        rows = f"WHERE {outfit} IS NOT NULL" if items else ""
        connection.execute(
            f"""
            CREATE TABLE {kind}_named AS SELECT t.row, {outfit} AS item,
                o.id IS NULL AS unknown, CASE
                  WHEN {outfit} IS NULL THEN 'no {named[0]}'
                  WHEN {several} > 1 THEN 'it names several of {", ".join([*named, *items])}'
                  WHEN o.id IS NULL THEN 'the outfit is unknown: ' || {outfit}[:80]
                  WHEN NOT o.good THEN 'the outfit was left out: ' || o.id[:80] END AS fault,
                o.mask, {_items(slots, "o")}
              FROM {kind} t LEFT JOIN outfits_all o ON {outfit} = o.id {rows}
            """
        )
        check_unknown(connection, source, f"{kind}_named", "outfit")
        parts.append(f"SELECT row, fault, mask, {_items(slots)} FROM {kind}_named s")
    found = f"({' UNION ALL '.join(parts)})"
    value = "1"
    if source.has("value"):
        value = (
            f"CASE WHEN t.value IS NULL OR lower(t.value) IN "
            f"({', '.join(map(text, _LIKE))}) THEN 1 WHEN lower(t.value) IN "
            f"({', '.join(map(text, _DISLIKE))}) THEN -1 END"
        )
    wrong = (
        "'the value is neither 1 nor -1: ' || t.value[:20]"
        if source.has("value")
        else "NULL"
    )
    connection.execute(
        f"""
        CREATE TABLE {source.kind}_judged AS SELECT s.* EXCLUDE (fault), t."user",
            {value} AS value, {seconds(connection, source)} AS time, {_split(source)} AS split,
            CASE WHEN t."user" IS NULL THEN 'no user' WHEN s.fault IS NOT NULL
              THEN s.fault WHEN {value} IS NULL THEN {wrong} END AS fault
          FROM {found} s JOIN {source.kind} t ON s.row = t.row;
        INSERT INTO left_out SELECT {label}, row, "user", fault,
            NOT contains(fault, ' was left out: ') FROM {source.kind}_judged
          WHERE fault IS NOT NULL ORDER BY row;
        INSERT INTO likes_all SELECT {number}, row, "user", value, time, split, mask,
            {_items(slots)} FROM {source.kind}_judged s WHERE fault IS NULL;
        DROP TABLE {source.kind}_judged
        """
    )


def merge_repeats(connection: Any, slots: Sequence[str]) -> None:
    """Makes `judgements` of `likes_all`: what a user said of an outfit, once.

    Who both likes and dislikes an outfit has the last word: by time, then by row. `count`
    says how often it was liked.
    """
    keys = ", ".join(["mask", *(f"s{k}" for k in range(len(slots)))])
    connection.execute(
        f"""
        CREATE TABLE judgements AS SELECT min(file) AS file, min(row) AS row, "user",
            arg_max(value, (coalesce(time, 0), row)) AS value, max(time) AS time,
            min(split) AS split, CAST(count(*) AS INTEGER) AS count,
            min(value) < max(value) AS contradicts, {keys}
          FROM likes_all GROUP BY "user", {keys}
        """
    )
    repeats, both = connection.execute(
        "SELECT sum(count) - count(*), count(*) FILTER (contradicts) FROM judgements"
    ).fetchone()
    if repeats:
        connection.execute(
            f"INSERT INTO notes VALUES ('{repeats:,} likes repeat one of the same user')"
        )
    if both:
        connection.execute(
            f"INSERT INTO notes VALUES ('{both:,} outfits are liked and disliked by one "
            "user; the last word counts')"
        )


def leave_out_times(connection: Any, labels: Sequence[str]) -> None:
    """Leaves out the likes without a time, and those of the future."""
    names = "[" + ", ".join(map(text, labels)) + "]"
    fault = (
        "CASE WHEN time IS NULL THEN 'no time, or none that can be read' "
        f"WHEN time > {time.time() + _DAY} THEN 'the time is in the future' END"
    )
    connection.execute(
        f"""
        INSERT INTO left_out SELECT {names}[file + 1], row, "user", {fault}, true
          FROM likes_all WHERE {fault} IS NOT NULL ORDER BY file, row;
        DELETE FROM likes_all WHERE {fault} IS NOT NULL
        """
    )


def leave_out_rare(
    connection: Any,
    labels: Sequence[str],
    least: int,
    waited: int,
    *,
    before: bool = False,
) -> None:
    """Leaves out the users with fewer likes than wanted: theirs are in `waiting`.

    Args:
      waited: the `file` of the likes that have waited already, and need no telling.
      before: whether there are `before_users`, who need none.
    """
    known = 'WHERE "user" NOT IN (SELECT id FROM before_users)' if before else ""
    names = "[" + ", ".join(map(text, labels)) + "]"
    connection.execute(
        f"""
        CREATE TEMP TABLE rare AS SELECT "user", count(*) FILTER (value = 1) AS n
          FROM judgements {known} GROUP BY "user" HAVING n < {least};
        CREATE TABLE waiting AS SELECT j.*, j.file <> {waited} AS new
          FROM judgements j JOIN rare r ON j."user" = r."user";
        INSERT INTO left_out SELECT {names}[file + 1], row, "user",
            'the user has fewer than {least} likes', false
          FROM waiting WHERE new ORDER BY file, row;
        DELETE FROM judgements WHERE "user" IN (SELECT "user" FROM rare)
        """
    )
    count, users = connection.execute(
        'SELECT count(*), count(DISTINCT "user") FROM waiting'
    ).fetchone()
    if count:
        note = (
            f"{count:,} likes and dislikes of {users:,} users wait until there are "
            f"{least} likes of each, in this table or in those of updates"
        )
        connection.execute("INSERT INTO notes VALUES (?)", [note])


def _items(slots: Sequence[str], table: str = "s") -> str:
    return ", ".join(f"{table}.s{k}" for k in range(len(slots)))


def _split(source: Source) -> str:
    """A query's expression for the split that a row names."""
    if not source.has("split"):
        return "NULL"
    cases = " ".join(
        f"WHEN lower(t.split) IN ({', '.join(map(text, names))}) THEN {text(split)}"
        for split, names in _SPLITS.items()
    )
    return f"CASE {cases} WHEN lower(t.split) IN ('train', 'training') THEN 'train' END"
