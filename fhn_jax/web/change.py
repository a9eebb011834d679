"""A change of what the server remembers of a visitor: the steps of one transaction."""

import dataclasses
import datetime
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fhn_jax.recommender import Judged
from fhn_jax.web.photos import Photo
from fhn_jax.web.tables import answers, judgements, photos, visitors, wardrobe

# Answers that are kept of a visitor, so that they can be repeated: more than a person's
# requests of a day, less than fills a disk.
MOST_ANSWERS = 10_000


class Judgement(NamedTuple):
    """A like or dislike.

    Attributes:
      event: rises with time.
      items: of the outfit, an id for each slot; -1 in all slots but one for an item
        alone.
      liked: or disliked.
      at: when.
    """

    event: int
    items: tuple[int, ...]
    liked: bool
    at: datetime.datetime


@dataclasses.dataclass(frozen=True, eq=False)
class Visitor:
    """Somebody with a token.

    Attributes:
      id: internal, never sent to anybody.
      user: the known user that this one was opened as, or None.
      changes: counts changes of the judgements.
      created: time, with zone.
      seen: the day of the last visit, of UTC.
    """

    id: int
    user: int | None
    changes: int
    created: datetime.datetime
    seen: datetime.date


class KeyReused(Exception):
    """An idempotency key came with another request before."""


class Change:
    """The operations of a transaction, see `State.changing`.

    Attributes:
      visitor: as it is before the change.
      has_deleted: whether something private was deleted.
    """

    def __init__(self, connection: Connection, visitor: Visitor):
        self._connection, self.visitor = connection, visitor
        self.has_deleted = False

    # --- requests that come twice -----------------------------------------------------

    def answer_of(self, key: str, request: str) -> str | None:
        """The answer that a request got when it came first, None if it did not.

        Args:
          key: that the client chose for the request.
          request: what it asks for.
        Raises:
          KeyReused: the key came with another request.
        """
        mine = {"visitor": self.visitor.id, "key": _sha256(key)}
        found = self._connection.execute(_ANSWER, mine).first()
        if found is None:
            return None
        if found.request != _sha256(request):
            raise KeyReused("this idempotency key came with another request before")
        return found.answer

    def keep_answer(self, key: str, request: str, answer: str) -> None:
        """Stores an answer for `answer_of`; the oldest of many are dropped."""
        values = {
            "visitor": self.visitor.id,
            "key": _sha256(key),
            "request": _sha256(request),
            "answer": answer,
            "at": datetime.datetime.now(datetime.UTC),
        }
        _insert(self._connection, answers, values)
        keep_newest(self._connection, answers, self.visitor.id, MOST_ANSWERS)

    # --- judgements -------------------------------------------------------------------

    def judged(self, slots: int) -> Judged:
        """As `State.judged`, with what has been changed."""
        return judged(self._connection, self.visitor.id, slots)

    def count(self) -> int:
        """Number of stored judgements, including superseded ones."""
        mine = {"visitor": self.visitor.id}
        return self._connection.execute(_COUNT, mine).scalar_one()

    def judge(self, items: Sequence[int], liked: bool) -> int:
        """Adds a judgement; returns its event.

        One that says again what the last one of these items says is that one.
        """
        mine = {"visitor": self.visitor.id, "items": "/".join(map(str, items))}
        before = self._connection.execute(_NEWEST, mine).first()
        if before is not None and before.liked == liked:
            return before.id
        self._changed()
        values = mine | {"liked": liked, "at": datetime.datetime.now(datetime.UTC)}
        return self._connection.execute(_JUDGE, values).scalar_one()

    def undo(self) -> Judgement | None:
        """Takes the last judgement back; the one before it counts again."""
        mine = judgements.c.visitor == self.visitor.id
        newest = sa.select(*_COLUMNS).where(mine).order_by(judgements.c.id.desc())
        row = self._connection.execute(newest.limit(1)).first()
        if row is None:
            return None
        self._changed()
        taken = judgements.delete().where(judgements.c.id == row[0])
        self._connection.execute(taken)
        self.has_deleted = True
        return _judgement(row)

    def reset(self) -> None:
        """Takes all judgements back, and forgets the answers, which say of some."""
        self._changed()
        for table in (judgements, answers):
            mine = table.c.visitor == self.visitor.id
            self._connection.execute(table.delete().where(mine))
        self.has_deleted = True

    def _changed(self) -> None:
        self._connection.execute(_CHANGED, {"visitor": self.visitor.id})

    # --- the wardrobe -----------------------------------------------------------------

    def add_item(self, category: int, item: int, *, most: int) -> bool:
        """Puts an item into the wardrobe; False if it holds `most` already."""
        table = wardrobe.c
        mine = table.visitor == self.visitor.id
        there = sa.select(sa.func.count()).select_from(wardrobe).where(mine)
        same = there.where((table.category == category) & (table.item == item))
        if self._connection.execute(same).scalar_one():
            return True
        if self._connection.execute(there).scalar_one() >= most:
            return False
        values = {"visitor": self.visitor.id, "category": category, "item": item}
        self._connection.execute(wardrobe.insert().values(**values))
        return True

    def remove_item(self, category: int, item: int) -> bool:
        """Takes an item out of the wardrobe; False if it is not there."""
        table = wardrobe.c
        row = (table.visitor == self.visitor.id) & (table.category == category)
        delete = wardrobe.delete().where(row & (table.item == item))
        self.has_deleted = True
        return bool(self._connection.execute(delete).rowcount)

    def add_photo(
        self, category: int, title: str, photo: Photo, *, most: int, most_bytes: int
    ) -> int | None:
        """Puts a photo into the wardrobe.

        Args:
          most, most_bytes: photos, and bytes of their pictures, that it may hold then.
        Returns:
          its id; None if it would be too many or too large together.
        """
        mine = photos.c.visitor == self.visitor.id
        size = sa.func.coalesce(sa.func.sum(sa.func.length(photos.c.picture)), 0)
        there = sa.select(sa.func.count(), size).select_from(photos).where(mine)
        count, total = self._connection.execute(there).one()
        if count >= most or total + len(photo.picture) > most_bytes:
            return None
        values = {
            "visitor": self.visitor.id,
            "category": category,
            "title": title,
            "picture": photo.picture,
            "code": photo.code.tobytes(),
            "scale": photo.scale,
        }
        return _insert(self._connection, photos, values)

    def remove_photo(self, photo: int) -> bool:
        """Deletes a photo; False if the visitor has none of this id."""
        row = (photos.c.visitor == self.visitor.id) & (photos.c.id == photo)
        self.has_deleted = True
        return bool(self._connection.execute(photos.delete().where(row)).rowcount)


def visitor_of_token(connection: Connection, token: str) -> Visitor | None:
    """The visitor of a token's checksum."""
    return _visitor(connection.execute(_OF_TOKEN, {"checksum": token}).first())


def locked_visitor(connection: Connection, visitor: int) -> Visitor | None:
    """The visitor of an id, whom nobody else changes until the transaction ends."""
    return _visitor(connection.execute(_LOCKED, {"visitor": visitor}).first())


def current(
    connection: Connection, visitor: int, *, superseded: bool = False
) -> list[Judgement]:
    """A visitor's judgements, the newest first; superseded ones as well on request."""
    mine = judgements.c.visitor == visitor
    rows = sa.select(*_COLUMNS).where(mine).order_by(judgements.c.id.desc())
    found = map(_judgement, connection.execute(rows))
    if superseded:
        return list(found)
    newest: dict[tuple[int, ...], Judgement] = {}
    for judgement in found:
        newest.setdefault(judgement.items, judgement)
    return list(newest.values())


def judged(connection: Connection, visitor: int, slots: int) -> Judged:
    """As `current`, for learning: without times, and faster.

    Args:
      slots: of an outfit.
    """
    found = connection.execute(_JUDGED, {"visitor": visitor}).all()
    if not found:
        return Judged.nothing(slots)
    texts, liked = zip(*found, strict=True)
    items = np.array("/".join(texts).split("/"), np.int32)
    return Judged(items.reshape(-1, slots), np.array(liked, bool))


def keep_newest(
    connection: Connection, table: sa.Table, visitor: int, most: int
) -> None:
    """Deletes all but so many of a visitor's rows."""
    mine = table.c.visitor == visitor
    last = sa.select(table.c.id).where(mine).order_by(table.c.id.desc())
    too_old = table.c.id <= last.limit(1).offset(most).scalar_subquery()
    connection.execute(table.delete().where(mine & too_old))


def name_of(visitor: int, created: datetime.datetime) -> str:
    """What a visitor is called outside: it tells nobody who it is."""
    # Until version 4 of the tables SQLite gave the number of who was forgotten again.
    return f"visitor-{visitor}-{round(utc(created).timestamp())}"


def utc(at: datetime.datetime) -> datetime.datetime:
    """A time of the database, with its zone."""
    # SQLite keeps none.
    return at if at.tzinfo else at.replace(tzinfo=datetime.UTC)


def today() -> datetime.date:
    """The day, of UTC."""
    return datetime.datetime.now(datetime.UTC).date()


_COLUMNS = tuple(judgements.c[name] for name in ("id", "items", "liked", "at"))
# Made once: that takes SQLAlchemy longer than it takes SQLite to execute them.
_MINE = judgements.c.visitor == sa.bindparam("visitor")
_OF_TOKEN = sa.select(visitors).where(visitors.c.token == sa.bindparam("checksum"))
_OF_ID = visitors.c.id == sa.bindparam("visitor")
# SQLite has no row locks and needs none: it admits one writer at a time.
_LOCKED = sa.select(visitors).where(_OF_ID).with_for_update()
_CHANGED = visitors.update().where(_OF_ID).values(changes=visitors.c.changes + 1)
_NEWEST = (
    sa.select(judgements.c.id, judgements.c.liked)
    .where(_MINE, judgements.c["items"] == sa.bindparam("items"))
    .order_by(judgements.c.id.desc())
    .limit(1)
)
_JUDGE = judgements.insert().returning(judgements.c.id)
_COUNT = sa.select(sa.func.count()).select_from(judgements).where(_MINE)
# What a visitor thinks now, newest first: the last judgement of each outfit.
_LAST = (
    sa.select(sa.func.max(judgements.c.id)).where(_MINE).group_by(judgements.c["items"])
)
_JUDGED = (
    sa.select(judgements.c["items"], judgements.c.liked)
    .where(judgements.c.id.in_(_LAST))
    .order_by(judgements.c.id.desc())
)
_ANSWER = sa.select(answers).where(
    answers.c.visitor == sa.bindparam("visitor"), answers.c.key == sa.bindparam("key")
)


def _visitor(row: Any) -> Visitor | None:
    if row is None:
        return None
    return Visitor(row.id, row.known_user, row.changes, utc(row.created), row.seen)


def _judgement(row: Any) -> Judgement:
    event, items, liked, at = row
    return Judgement(event, tuple(map(int, items.split("/"))), liked, utc(at))


def _insert(connection: Connection, table: sa.Table, values: dict[str, Any]) -> int:
    """Adds a row; returns its id."""
    added = connection.execute(table.insert().values(**values).returning(table.c.id))
    return added.scalar_one()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
