"""What the server remembers of visitors: their judgements and their wardrobes.

SQLite beside the run, or PostgreSQL that several servers share. Nothing else holds
state, so a restart loses nothing and several processes can serve the same visitors.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import logging
import secrets
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa

from fhn_jax.errors import InputError, UnreachableError
from fhn_jax.recommender import Judged
from fhn_jax.web import tables
from fhn_jax.web.change import (
    Change,
    Judgement,
    Visitor,
    current,
    judged,
    locked_visitor,
    name_of,
    today,
    utc,
    visitor_of_token,
)
from fhn_jax.web.database import Database, DatabaseUnavailableError
from fhn_jax.web.impressions import Impressions
from fhn_jax.web.migrations import VERSION, migrate
from fhn_jax.web.photos import Photo

_TOKEN_BYTES = 32
# Answers are repeated for so many days to who repeats a request.
_KEEP_ANSWERS = datetime.timedelta(days=1)
# Visitors that expire are deleted so many at a time, so that others can write between.
_AT_ONCE = 100
_HOUR_S = 3600.0
_log = logging.getLogger("fhn_jax.web")


@dataclasses.dataclass(frozen=True, eq=False)
class KeptPhoto:
    """A photo in a wardrobe.

    Attributes:
      id: identifies it to its visitor.
      category: its number.
      title: what the visitor calls it.
      photo: picture and code.
    """

    id: int
    category: int
    title: str
    photo: Photo


class Gone(Exception):
    """The visitor has been removed in the meantime."""


class Event(NamedTuple):
    """A like or dislike of some visitor.

    Attributes:
      visitor: a name that tells nobody who it is.
      user: the known user that the visitor was opened as.
      items: of each slot, -1 for none.
      liked: or disliked.
      at: when.
    """

    visitor: str
    user: int | None
    items: tuple[int, ...]
    liked: bool
    at: datetime.datetime


class State:
    """A database of visitors.

    Args:
      url: of SQLAlchemy: "sqlite:////folder/visitors.sqlite", or
        "postgresql+psycopg://user@host/name". Tables are made where there are none,
        and those of earlier versions are migrated.
      codes: checksum of the codes that visitors' judgements belong to.
      keep_days: visitors who have not come for so many days are forgotten; 0 for never.
    Attributes:
      impressions: what visitors were shown.
    Raises:
      InputError: another kind of URL, tables of a newer version, or of other codes.
      MissingFileError: no folder for the file.
      MissingPackageError: PostgreSQL without psycopg.
      UnreachableError: the database does not answer, is damaged or cannot be written.

    Everything raises `DatabaseUnavailableError` while the database cannot be used.
    """

    def __init__(self, url: str, codes: str, *, keep_days: int = 0):
        if keep_days < 0:
            raise InputError(f"--keep-days={keep_days}: expected days, or 0 for ever")
        self._database, self._keep_days = Database(url), keep_days
        self.impressions = Impressions(self._database)
        try:
            with self._database.preparing() as connection:
                migrate(connection, self._database.shown)
                self._check(connection, codes)
        except DatabaseUnavailableError as error:
            self.close()
            raise UnreachableError(
                f"{self._database.shown} cannot be used for visitors: {error.reason}; "
                "mend it, or give another --database-url"
            ) from None
        except InputError:
            self.close()
            raise

    def _check(self, connection: sa.Connection, codes: str) -> None:
        found = connection.execute(sa.select(tables.about)).first()
        if found is None:
            mine = {"version": int(VERSION), "codes": codes}
            connection.execute(tables.about.insert().values(**mine))
        elif found.codes != codes:
            raise InputError(
                f"the visitors in {self._database.shown} belong to other codes "
                f"({found.codes[:12]}, not {codes[:12]}): what they judged says nothing "
                "here; give another --database-url, or remove it"
            )

    def close(self) -> None:
        """Writes what waits to be written, and closes all connections."""
        self.impressions.close()
        self._database.close()

    def is_up(self) -> bool:
        """Whether the database can be read and written; writes to find out."""
        try:
            with self._database.writing() as connection:
                connection.execute(tables.about.update().values(checked=_now()))
        except DatabaseUnavailableError:
            return False
        return True

    # --- visitors ---------------------------------------------------------------------

    def create(self, user: int | None) -> str:
        """Adds a visitor.

        Args:
          user: a known user to start as.
        Returns:
          the secret token, which only the visitor keeps.
        """
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        values = {"known_user": user, "changes": 0, "created": _now(), "seen": today()}
        with self._database.writing() as connection:
            new = tables.visitors.insert().values(token=_digest(token), **values)
            connection.execute(new)
        return token

    def visitor(self, token: str) -> Visitor | None:
        """The visitor of a token, None for an unknown one."""
        with self._database.reading() as connection:
            found = visitor_of_token(connection, _digest(token))
        if found is not None and found.seen != today():
            row = tables.visitors.c.token == _digest(token)
            seen = tables.visitors.update().where(row).values(seen=today())
            # Who may only look while nothing can be written has been here all the same.
            with contextlib.suppress(DatabaseUnavailableError):
                with self._database.writing() as connection:
                    connection.execute(seen)
        return found

    def forget(self, visitor: int) -> None:
        """Deletes a visitor with all data."""
        with self._database.writing() as connection:
            mine = tables.visitors.c.id == visitor
            connection.execute(tables.visitors.delete().where(mine))
        self._database.wipe()

    def forget_user(self, user: int) -> int:
        """Deletes the visitors who were opened as a known user; returns how many."""
        mine = tables.visitors.c.known_user == user
        with self._database.writing() as connection:
            count = connection.execute(tables.visitors.delete().where(mine)).rowcount
        self._database.wipe()
        return count

    def expire(self) -> int:
        """Forgets who has not come for too long; returns how many.

        Answers that need no longer be repeated go, too.
        """
        answers, visitors = tables.answers, tables.visitors
        old = answers.c.at < _now() - _KEEP_ANSWERS
        with self._database.writing() as connection:
            any_old = connection.execute(answers.delete().where(old)).rowcount
        if any_old:
            self._database.wipe()
        if not self._keep_days:
            return 0
        last = today() - datetime.timedelta(days=self._keep_days)
        gone = sa.select(visitors.c.id).where(visitors.c.seen < last).limit(_AT_ONCE)
        count = 0
        while True:
            with self._database.writing() as connection:
                delete = visitors.delete().where(visitors.c.id.in_(gone))
                found = connection.execute(delete).rowcount
            count += found
            if found < _AT_ONCE:
                break
        if count:
            self._database.wipe()
        return count

    def keep_house(self) -> None:
        """Expires every hour from now on, in a thread that ends with the process."""

        def forever():
            pause = threading.Event()
            while True:
                with contextlib.suppress(DatabaseUnavailableError):
                    count = self.expire()
                    if count:
                        _log.info(
                            "%d visitors have not come for long: forgotten", count
                        )
                pause.wait(_HOUR_S)

        threading.Thread(target=forever, daemon=True).start()

    # --- what they have ---------------------------------------------------------------

    def judgements(self, visitor: int) -> list[Judgement]:
        """What a visitor judged, the newest first; judged again, the last one counts."""
        with self._database.reading() as connection:
            return current(connection, visitor)

    def all_judgements(self, visitor: int) -> list[Judgement]:
        """All that is stored, superseded ones included, the newest first."""
        with self._database.reading() as connection:
            return current(connection, visitor, superseded=True)

    def answers(self, visitor: int) -> list[tuple[datetime.datetime, str]]:
        """Answers that are kept to be repeated, and since when; the newest first."""
        table = tables.answers.c
        rows = sa.select(table.at, table.answer).where(table.visitor == visitor)
        with self._database.reading() as connection:
            found = connection.execute(rows.order_by(table.id.desc()))
            return [(utc(at), answer) for at, answer in found]

    def judged(self, visitor: int, slots: int) -> Judged:
        """As `judgements`, for learning: without times, and faster.

        Args:
          slots: of an outfit.
        """
        with self._database.reading() as connection:
            return judged(connection, visitor, slots)

    def events(self) -> list[Event]:
        """What all visitors judged, in the order in which they did."""
        given, who = tables.judgements.c, tables.visitors.c
        columns = (given.visitor, who.created, who.known_user)
        rows = sa.select(*columns, given["items"], given.liked, given.at).join_from(
            tables.judgements, tables.visitors, given.visitor == who.id
        )
        with self._database.reading() as connection:
            return [
                Event(
                    name_of(visitor, created),
                    known,
                    tuple(map(int, items.split("/"))),
                    liked,
                    utc(at),
                )
                for visitor, created, known, items, liked, at in connection.execute(
                    rows.order_by(given.id)
                )
            ]

    def wardrobe(self, visitor: int) -> list[tuple[int, int]]:
        """Category and item of what is in a wardrobe, in this order."""
        table = tables.wardrobe.c
        rows = sa.select(table.category, table.item).where(table.visitor == visitor)
        with self._database.reading() as connection:
            found = connection.execute(rows.order_by(table.category, table.item))
            return [(category, item) for category, item in found]

    def photos(self, visitor: int) -> list[KeptPhoto]:
        """The photos in a wardrobe, the oldest first."""
        mine = sa.select(tables.photos).where(tables.photos.c.visitor == visitor)
        with self._database.reading() as connection:
            rows = connection.execute(mine.order_by(tables.photos.c.id))
            return [
                KeptPhoto(
                    row.id,
                    row.category,
                    row.title,
                    Photo(row.picture, np.frombuffer(row.code, np.uint8), row.scale),
                )
                for row in rows
            ]

    @contextlib.contextmanager
    def changing(self, visitor: int) -> Iterator[Change]:
        """A transaction during which nobody else changes this visitor.

        In SQLite nobody changes any visitor meanwhile: what takes long is done before
        or afterwards.

        Raises:
          Gone: the visitor has been removed.
        """
        with self._database.writing() as connection:
            found = locked_visitor(connection, visitor)
            if found is None:
                raise Gone("this visitor was removed")
            change = Change(connection, found)
            yield change
        if change.has_deleted:
            self._database.wipe()


def _digest(token: str) -> str:
    """The stored hash of a token; tokens cannot be recovered from it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
