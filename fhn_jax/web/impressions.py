"""What visitors were shown: stored in the background, and lost rather than waited for.

A page is one row. Pages that are shown while the last ones are written wait in memory and
share the next transaction; if too many wait, or the database cannot be used, they are
lost, and counted.
"""

import contextlib
import datetime
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fhn_jax.recommender import Suggestion
from fhn_jax.web.change import Visitor, keep_newest, name_of, utc
from fhn_jax.web.database import Database, DatabaseUnavailableError
from fhn_jax.web.tables import impressions, visitors

# Pages of a visitor; older ones are deleted.
_MOST_KEPT = 500
# Pages that wait to be written, and those of one transaction.
_MOST_WAITING, _AT_ONCE = 10_000, 500
# Seconds between transactions, so that these are few, and that the end may take.
_EVERY_S, _END_S = 0.2, 2.0
_log = logging.getLogger("fhn_jax.web")


class Model(NamedTuple):
    """What ranked a page.

    Attributes:
      version: the number of a published one; 0 of what is served as it is in the run.
      codes: their checksum.
    """

    version: int
    codes: str


class Impression(NamedTuple):
    """A page of outfits that a visitor was shown.

    Attributes:
      visitor: as `name_of` has it.
      user: the known user that the visitor was opened as.
      at: when.
      model: what ranked it.
      way: "recommend", "start" for the first looks, or "compose".
      asked: how many outfits, and so on: the arguments of that way that are numbers.
      outfits: in the order of the page; the item of a photo is -1 - its id.
    """

    visitor: str
    user: int | None
    at: datetime.datetime
    model: Model
    way: str
    asked: Mapping[str, int | float]
    outfits: Sequence[Suggestion]


class Impressions:
    """Stores and reads impressions.

    Args:
      database: of the visitors.
    Attributes:
      on_loss: called with the number of pages that could not be stored.
    """

    def __init__(self, database: Database):
        self._database = database
        self.on_loss: Callable[[int], None] = lambda count: None
        self._waiting: list[tuple[Visitor, dict[str, Any]]] = []
        self._changed, self._ended = threading.Condition(), threading.Event()
        self._writer: threading.Thread | None = None

    def add(
        self,
        visitor: Visitor,
        way: str,
        asked: Mapping[str, int | float],
        outfits: Sequence[Suggestion],
        model: Model,
    ) -> None:
        """Takes down that a page is shown now; never waits and never fails."""
        row = {
            "visitor": visitor.id,
            "at": datetime.datetime.now(datetime.UTC),
            **model._asdict(),
            "page": (way, asked, outfits),
        }
        with self._changed:
            if self._ended.is_set() or len(self._waiting) >= _MOST_WAITING:
                self.on_loss(1)
                return
            self._waiting.append((visitor, row))
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, daemon=True)
                self._writer.start()
            self._changed.notify()

    def close(self) -> None:
        """Writes what waits, as far as that is soon done; what comes later is lost."""
        with self._changed:
            self._ended.set()
            self._changed.notify()
        if self._writer is not None:
            self._writer.join(_END_S)

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended.is_set())
                some = self._waiting[:_AT_ONCE]
                del self._waiting[:_AT_ONCE]
                more = bool(self._waiting)
            if not some:
                return
            # Before others wait for the database.
            some = [(who, row | {"page": _to_json(*row["page"])}) for who, row in some]
            try:
                with self._database.writing() as connection:
                    _store(connection, some)
            except DatabaseUnavailableError:
                self.on_loss(len(some))
            except Exception:
                _log.exception("what visitors were shown could not be stored")
                self.on_loss(len(some))
            if not more:
                self._ended.wait(_EVERY_S)

    def of(self, visitor: int) -> list[Impression]:
        """What a visitor was shown, the newest first."""
        mine = impressions.c.visitor == visitor
        with self._rows(mine, impressions.c.id.desc()) as rows:
            return [_impression(row) for row in rows]

    def all(self) -> list[Impression]:
        """What all visitors were shown, in order."""
        with self._rows(sa.true(), impressions.c.at, impressions.c.id) as rows:
            return [_impression(row) for row in rows]

    @contextlib.contextmanager
    def _rows(self, where: Any, *order: Any) -> Iterator[Any]:
        who = visitors.c.created, visitors.c.known_user
        query = sa.select(impressions, *who).join_from(impressions, visitors)
        with self._database.reading() as connection:
            yield connection.execute(query.where(where).order_by(*order))


def _store(
    connection: Connection, some: Sequence[tuple[Visitor, dict[str, Any]]]
) -> None:
    """Adds rows of visitors who are still there, and deletes the oldest of many."""
    ids = {who.id for who, _ in some}
    query = sa.select(visitors.c.id, visitors.c.created).where(visitors.c.id.in_(ids))
    # Nobody removes them meanwhile; SQLite admits one writer anyway.
    query = query.order_by(visitors.c.id).with_for_update(read=True, key_share=True)
    # A database that was restored meanwhile may have somebody else of this number.
    there = {(id, utc(created)) for id, created in connection.execute(query)}
    rows = [row for who, row in some if (who.id, who.created) in there]
    if not rows:
        return
    connection.execute(impressions.insert(), rows)
    mine = impressions.c.visitor
    many = sa.select(mine).where(mine.in_(ids)).group_by(mine)
    many = many.having(sa.func.count() > _MOST_KEPT)
    # A tenth more goes, so that a visitor with many is seldom among them.
    most = _MOST_KEPT - _MOST_KEPT // 10
    for visitor in sorted(connection.execute(many).scalars()):
        keep_newest(connection, impressions, visitor, most)


def _to_json(
    way: str, asked: Mapping[str, int | float], outfits: Sequence[Suggestion]
) -> str:
    shown = [[round(one.score, 6), int(one.explores), *one.items] for one in outfits]
    return json.dumps([way, asked, shown], separators=(",", ":"))


def _impression(row: Any) -> Impression:
    way, asked, shown = json.loads(row.page)
    return Impression(
        visitor=name_of(row.visitor, row.created),
        user=row.known_user,
        at=utc(row.at),
        model=Model(row.version, row.codes),
        way=way,
        asked=asked,
        outfits=[
            Suggestion(tuple(items), score, explores=bool(explores))
            for score, explores, *items in shown
        ],
    )
