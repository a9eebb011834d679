"""From a shop's tables to arrays: who likes what, by number, with what was left out."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fhn_jax.data_tools.shop import items, likes, outfits
from fhn_jax.data_tools.shop.before import Before
from fhn_jax.data_tools.shop.draws import Given
from fhn_jax.data_tools.shop.engine import text
from fhn_jax.data_tools.shop.forgotten import leave_out_forgotten
from fhn_jax.data_tools.shop.looks import keep_looks, read_looks
from fhn_jax.data_tools.shop.settings import Settings
from fhn_jax.data_tools.shop.sources import Source, load_table
from fhn_jax.data_tools.shop.splits import LEFT_OUT, SPLITS, TRAIN, Judgements
from fhn_jax.data_tools.shop.waiting import add_waiting, read_waiting

from fhn_jax.errors import InputError

_RATING = ("outfits", "orders", "likes")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A shop's items in the database.

    Attributes:
      sources: table → what was read.
      categories: where the shop's categories go.
    """

    sources: Mapping[str, Source]
    categories: items.Categories


def begin(connection: Any, left_out: Any = None) -> None:
    """Makes the tables for what is left out, and for what else must be said.

    Args:
      left_out: rows of what was left out before: file, row, what and reason.
    """
    connection.execute(
        """
        CREATE TABLE left_out (file VARCHAR, row BIGINT, what VARCHAR, reason VARCHAR,
            fault BOOLEAN);
        CREATE TABLE notes (note VARCHAR)
        """
    )
    if left_out is not None:
        connection.register("left_out_before", left_out)
        connection.execute(
            "INSERT INTO left_out SELECT file, row, what, reason, false "
            "FROM left_out_before"
        )
        connection.unregister("left_out_before")


def load(
    connection: Any,
    found: Mapping[str, Any],
    settings: Settings,
    before: Before | None = None,
) -> Loaded:
    """Reads all tables, and sorts the items into slots.

    Args:
      before: the data that are updated: their slots keep their numbers.
    """
    source = load_table(connection, "items", found["items"], settings)
    gone = 0
    if before is not None:
        gone = leave_out_forgotten(connection, before.root, [source], ())
    categories = items.find_categories(connection, settings, source)
    if before is not None:
        categories = before.slots(categories)
    items.sort_items(connection, settings, source, categories)
    sources = {"items": source}
    for kind, given in found.items():
        if kind != "items":
            sources[kind] = load_table(
                connection, kind, given, settings, categories.slots
            )
    if before is not None:
        others = [each for each in sources.values() if each is not source]
        slots = categories.slots
        gone += leave_out_forgotten(connection, before.root, others, slots)
    if gone:
        note = (
            f"{gone:,} rows are of users and items that were deleted for good, and are "
            "left out; `fhn-jax forget --allow` lets one of them come again"
        )
        connection.execute("INSERT INTO notes VALUES (?)", [note])
    return Loaded(sources, categories)


def make_judgements(
    connection: Any,
    loaded: Loaded,
    settings: Settings,
    *,
    split: str,
    min_likes: int,
    before: Before | None = None,
) -> outfits.Templates:
    """Makes the table `judgements`, of items that are numbered.

    Args:
      split: "given" to go by the tables' column split.
      before: the data that are updated: their templates stay, and known users need no
        number of likes.
    Raises:
      ValueError: nothing says who likes what, or nothing is left.
    """
    slots, sources = loaded.categories.slots, loaded.sources
    rating = [source for kind, source in sources.items() if kind != "items"]
    if split == "time" and rating and not any(s.has("time") for s in rating):
        raise InputError(
            f"split=time: {', '.join(s.label for s in rating)} have no column "
            "time; add it to the table of likes or orders, or split otherwise"
        )
    outfits.mark_known(connection)
    rated = sources.get("likes")
    named = [] if rated is None else _outfits_named(connection, rated, sources, slots)
    strict = []
    if "outfits" in sources:
        outfits.gather(connection, sources["outfits"], slots, "outfit_id")
        outfits.assemble(connection, sources["outfits"], slots)
        strict.append("outfits")
    if rated is not None and (outfits.item_columns(rated, slots) or not named):
        rest = " AND ".join(["true", *(f"{column} IS NULL" for column in named)])
        outfits.gather(connection, rated, slots, "", rest)
        single = outfits.item_columns(rated, slots) == ["item_id"]
        outfits.assemble(connection, rated, slots, single=single)
        if not single:
            strict.append("likes")
    if "orders" in sources:
        outfits.gather(connection, sources["orders"], slots, "order_id")
    masks = () if before is None else before.masks
    templates = outfits.find_templates(connection, settings, slots, strict, masks)
    for kind in strict:
        outfits.judge_templates(connection, kind, templates)
    if "orders" in sources:
        if not templates.masks:
            raise InputError(
                f"{sources['orders'].label}: nobody says what makes an outfit of "
                f"{', '.join(slots)}; add [[templates]] to catalogue.toml"
            )
        outfits.assemble_orders(connection, sources["orders"], slots, templates)
    likes.make_likes(connection, slots)
    labels = []
    for kind, key in (("outfits", "outfit_id"), ("orders", "order_id")):
        if kind in sources:
            if kind == "outfits":
                _mark_repeated(connection)
            outfits.note_faults(connection, sources[kind], key, kind == "outfits")
            likes.add_makers(connection, sources[kind], len(labels), slots)
            labels.append(sources[kind].label)
    _make_outfits_all(connection, sources, slots)
    if "outfits" in sources:
        read_looks(connection, before and before.root, slots)
    if before is not None:
        read_waiting(connection, before.root, slots)
    if rated is not None:
        likes.add_likes(connection, rated, len(labels), slots, named)
        if before is not None and "outfit_id" in named and "outfits" in sources:
            keep_looks(connection, before, len(labels), slots)
        labels.append(rated.label)
    rates = any(s.has("user") for kind, s in sources.items() if kind in _RATING)
    if not rates and before is None:
        raise InputError(
            "nothing says who likes what: expected a table of likes (user, and item_id "
            f"or outfit_id), or outfits or orders with a column user{_notes(connection)}"
        )
    if _goes_by_time(connection, split, sources):
        likes.leave_out_times(connection, labels)
    if split == "given":
        _leave_out(
            connection,
            labels,
            "likes_all",
            "split IS NULL",
            "no split of train, val, test",
        )
    waits = split != "given" and min_likes > 1
    if waits and before is not None:
        add_waiting(connection, len(labels), slots)
    labels.append("likes that waited")
    likes.merge_repeats(connection, slots)
    if waits:
        waited, known = len(labels) - 1, before is not None
        likes.leave_out_rare(connection, labels, min_likes, waited, before=known)
    connection.execute("CREATE TABLE labels (file UTINYINT, label VARCHAR)")
    for number, label in enumerate(labels):
        connection.execute("INSERT INTO labels VALUES (?, ?)", [number, label])
    return templates


def _outfits_named(
    connection: Any,
    rated: Source,
    sources: Mapping[str, Source],
    slots: Sequence[str],
) -> list[str]:
    """The columns by which rows of the table of likes name outfits of other tables."""
    there = {"outfits", "orders"} & set(sources)
    named = []
    for column, tables in (("outfit_id", there), ("order_id", there - {"outfits"})):
        if not rated.has(column):
            continue
        if tables:
            named.append(column)
            continue
        lacking = f"the column {column} says nothing: there is no such table"
        if not outfits.item_columns(rated, slots):
            raise InputError(f"{rated.label}: {lacking}")
        note = f"{rated.label}: {lacking}, so rows are likes of their items"
        connection.execute("INSERT INTO notes VALUES (?)", [note])
    return named


def _goes_by_time(connection: Any, split: str, sources: Mapping[str, Source]) -> bool:
    """Whether a split needs the time of each like, which most must have then."""
    rating = [s for kind, s in sources.items() if kind in _RATING and s.has("user")]
    without = [source.label for source in rating if not source.has("time")]
    if split == "leave-last-out" and without:
        if len(without) < len(rating):
            note = (
                f"split={split} goes by the order of rows, and not by times: "
                f"{', '.join(without)} has none"
            )
            connection.execute("INSERT INTO notes VALUES (?)", [note])
        return False
    if split not in ("time", "leave-last-out"):
        return False
    ((total, lost),) = connection.execute(
        "SELECT count(*), count(*) FILTER (time IS NULL) FROM likes_all"
    ).fetchall()
    if 2 * lost > total:
        raise InputError(
            f"split={split}: {lost:,} of {total:,} likes have no time that can be read"
            f"{_notes(connection)}"
        )
    return True


def _notes(connection: Any) -> str:
    notes = connection.execute("SELECT note FROM notes").fetchall()
    return "".join(f"; {note}" for (note,) in notes)


def _leave_out(
    connection: Any, labels: Sequence[str], table: str, where: str, reason: str
) -> None:
    names = "[" + ", ".join(map(text, labels)) + "]"
    connection.execute(
        f"""
        INSERT INTO left_out SELECT {names}[file + 1], row, "user", {text(reason)}, true
          FROM {table} WHERE {where};
        DELETE FROM {table} WHERE {where}
        """
    )


def _mark_repeated(connection: Any) -> None:
    """Marks the rows of `outfits_sets` whose id an earlier outfit has."""
    connection.execute(
        """
        UPDATE outfits_sets SET fault = 'the id is that of an earlier outfit'
          WHERE fault IS NULL AND row IN (SELECT row FROM (SELECT s.row, row_number()
            OVER (PARTITION BY t.outfit_id ORDER BY s.row) AS n
            FROM outfits_sets s JOIN outfits t ON s.row = t.row) WHERE n > 1)
        """
    )


def _make_outfits_all(
    connection: Any, sources: Mapping[str, Source], slots: Sequence[str]
) -> None:
    """Makes `outfits_all`: id → whether it is good, mask and items."""
    columns = ", ".join(f"s.s{k}" for k in range(len(slots)))
    parts = [
        f"SELECT t.{key} AS id, s.row, s.fault IS NULL AS good, s.mask, {columns} "
        f"FROM {kind}_sets s JOIN {kind} t ON s.row = t.row WHERE t.{key} IS NOT NULL"
        for kind, key in (("outfits", "outfit_id"), ("orders", "order_id"))
        if kind in sources
    ]
    empty = ", ".join(f"NULL::INTEGER AS s{k}" for k in range(len(slots)))
    parts = parts or [
        f"SELECT NULL::VARCHAR AS id, 0 AS row, false AS good, 0 AS mask, {empty} "
        "WHERE false"
    ]
    connection.execute(
        "CREATE TABLE outfits_all AS SELECT * EXCLUDE (n) FROM (SELECT *, row_number() "
        f"OVER (PARTITION BY id ORDER BY good DESC, row) AS n FROM "
        f"({' UNION ALL '.join(parts)})) WHERE n = 1"
    )


def fetch_judgements(connection: Any, slots: Sequence[str]) -> Judgements:
    """The table `judgements` as arrays; users are numbered by their ids.

    Ids of equal length are in order, so that numbers count up.
    """
    connection.execute(
        """
        CREATE TABLE user_numbers AS SELECT "user" AS id, CAST(row_number() OVER
            (ORDER BY length("user"), "user") - 1 AS INTEGER) AS number
          FROM (SELECT DISTINCT "user" FROM judgements)
        """
    )
    columns = ", ".join(f"coalesce(j.s{k}, -1) AS s{k}" for k in range(len(slots)))
    cases = " ".join(f"WHEN {text(s)} THEN {n}" for s, n in SPLITS.items())
    table = connection.execute(
        f"""
        SELECT u.number AS "user", {columns}, j.value = 1 AS liked,
            coalesce(j.time, 'nan'::DOUBLE) AS time, j.count,
            CAST(CASE j.split {cases} ELSE -1 END AS TINYINT) AS split, j.file, j.row
          FROM judgements j JOIN user_numbers u ON j."user" = u.id
          ORDER BY j.file, j.row
        """
    ).fetchnumpy()
    table = {column: np.ma.getdata(values) for column, values in table.items()}
    return Judgements(
        users=table["user"],
        items=np.stack([table[f"s{k}"] for k in range(len(slots))], axis=1),
        liked=table["liked"],
        times=table["time"],
        counts=table["count"],
        splits=table["split"],
        file=table["file"].astype(np.int8),
        row=table["row"],
    )


def fetch_given(
    connection: Any,
    source: Source,
    slots: Sequence[str],
    used: Sequence[int],
    numbers: np.ndarray,
) -> Given:
    """A table of negatives or questions, in its order.

    Args:
      slots: all of them.
      used: the numbers of those that the layout has.
      numbers: new number of each user.
    Raises:
      ValueError: a row cannot be used: others are where they are because of it.
    """
    outfits.gather(connection, source, slots, "")
    outfits.assemble(connection, source, slots)
    kind = "coalesce(lower(t.kind), 'random')" if source.has("kind") else "'random'"
    columns = ", ".join(f"coalesce(s.s{k}, -1) AS s{k}" for k in used)
    table = f"""
        FROM {source.kind} t LEFT JOIN {source.kind}_sets s ON t.row = s.row
          LEFT JOIN user_numbers u ON t."user" = u.id
        """
    wrong = f"""coalesce(s.fault, CASE WHEN s.row IS NULL THEN 'no item'
        WHEN u.id IS NULL THEN 'unknown user'
        WHEN t.split NOT IN ('train', 'val', 'test') THEN 'unknown split'
        WHEN {kind} NOT IN ('random', 'hard') THEN 'unknown kind' END)"""
    fault = connection.execute(
        f"SELECT t.row, {wrong} {table} WHERE {wrong} IS NOT NULL ORDER BY t.row LIMIT 1"
    ).fetchone()
    if fault:
        raise InputError(
            f"{source.label}, row {fault[0]:,}: {fault[1]}; expected rows of items, users "
            "and splits that the other tables have"
        )
    found = connection.execute(
        f'SELECT u.number AS "user", t.split, {kind} AS kind, {columns} {table} '
        "ORDER BY t.row"
    ).fetchnumpy()
    found = {column: np.ma.getdata(values) for column, values in found.items()}
    return Given(
        source.label,
        numbers[found["user"]],
        np.stack([found[f"s{k}"] for k in used], axis=1),
        found["split"],
        found["kind"],
    )


def leave_out_rows(
    connection: Any, some: Judgements, reason: str, *, fault: bool = False
) -> None:
    """Notes judgements that were left out in numpy."""
    if not len(some.users):
        return
    rows = {"file": some.file, "row": some.row, "number": some.users}
    connection.register("rows_left_out", rows)
    connection.execute(
        f"INSERT INTO left_out SELECT l.label, r.row, u.id, {text(reason)}, "
        f"{str(fault).lower()} FROM rows_left_out r JOIN labels l ON r.file = l.file "
        "JOIN user_numbers u ON r.number = u.number ORDER BY r.file, r.row"
    )
    connection.unregister("rows_left_out")


def trainable(
    all_: Judgements, splits: np.ndarray, known: np.ndarray, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which judgements stay in their split, and new numbers of their users.

    Users without a train positive are left out.

    Args:
      known: the number that each user has already, -1 for new ones.
      first: the number of the first new one.
    Returns:
      whether each stays; and the new number of each user, -1 for those left out.
    """
    trained = np.zeros(len(known), bool)
    trained[all_.users[(splits == TRAIN) & all_.liked]] = True
    new = trained & (known < 0)
    numbers = np.where(new, first + np.cumsum(new) - 1, known).astype(np.int32)
    return (numbers >= 0)[all_.users] & (splits != LEFT_OUT), numbers


def write_users(
    connection: Any, numbers: np.ndarray, path: Any, first: int = 0
) -> None:
    """Writes users.parquet; see `trainable`. Those before `first` are `before_users`."""
    known = 'SELECT number AS "index", id FROM before_users UNION ALL' if first else ""
    users = {"old": np.arange(len(numbers), dtype=np.int32), "new": numbers}
    connection.register("new_numbers", users)
    connection.execute(
        f"""
        COPY (SELECT * FROM ({known} SELECT n.new AS "index", u.id FROM user_numbers u
            JOIN new_numbers n ON u.number = n.old WHERE n.new >= {first})
          ORDER BY "index")
        TO {text(path)} (FORMAT parquet)
        """
    )
    connection.unregister("new_numbers")
