"""The database of visitors: their judgements and their wardrobes.

SQLite beside the run, or PostgreSQL that several servers share. Nothing else holds
state, so a restart loses nothing and several processes can serve the same visitors.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from jaxtyping import Float32
from sqlalchemy import event as sa_event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from fhn_jax.errors import InputError, MissingPackageError
from fhn_jax.recommender import Judgement
from fhn_jax.web.photos import Photo

# Version of the tables.
VERSION = 1
_TOKEN_BYTES = 32
_LOCK = int.from_bytes(b"fhn_jax")

_metadata = sa.MetaData()
_about = sa.Table(
    "about",
    _metadata,
    sa.Column("version", sa.Integer, nullable=False),
    # Checksum: a user code is only meaningful with the codes it was learned on.
    sa.Column("codes", sa.String(64), nullable=False),
)
_visitors = sa.Table(
    "visitors",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("token", sa.String(64), nullable=False, unique=True),
    sa.Column("known_user", sa.Integer),
    sa.Column("latents", sa.LargeBinary, nullable=False),
    sa.Column("changes", sa.Integer, nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
)
_judgements = sa.Table(
    "judgements",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(
        "visitor",
        sa.ForeignKey("visitors.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("items", sa.String(200), nullable=False),
    sa.Column("liked", sa.Boolean, nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sqlite_autoincrement=True,  # Ids of undone judgements are not reused.
)
_wardrobe = sa.Table(
    "wardrobe",
    _metadata,
    sa.Column(
        "visitor", sa.ForeignKey("visitors.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("category", sa.Integer, primary_key=True),
    sa.Column("item", sa.Integer, primary_key=True),
)
_photos = sa.Table(
    "photos",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(
        "visitor",
        sa.ForeignKey("visitors.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("category", sa.Integer, nullable=False),
    sa.Column("title", sa.String(100), nullable=False),
    sa.Column("picture", sa.LargeBinary, nullable=False),
    sa.Column("code", sa.LargeBinary, nullable=False),
    sa.Column("scale", sa.Float, nullable=False),
    sqlite_autoincrement=True,
)


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


@dataclasses.dataclass(frozen=True, eq=False)
class Visitor:
    """Somebody with a token.

    Attributes:
      id: internal, never sent to anybody.
      user: the known user that this one was opened as, or None.
      latents: the user code that was learned so far, float32 [d].
      changes: counts changes of the judgements.
      created: time, with zone.
    """

    id: int
    user: int | None
    latents: Float32[np.ndarray, " d"]
    changes: int
    created: datetime.datetime


class Gone(Exception):
    """The visitor has been removed in the meantime."""


class State:
    """A database of visitors.

    Args:
      url: of SQLAlchemy: "sqlite:////folder/visitors.sqlite", or
        "postgresql+psycopg://user@host/name". Tables are made where there are none.
      codes: checksum of the codes that visitors' codes belong to.
    Raises:
      ValueError: another kind of URL, tables of another version, or of other codes.
      ModuleNotFoundError: PostgreSQL without psycopg.
      sqlalchemy.exc.OperationalError: the database does not answer.
    """

    def __init__(self, url: str, codes: str):
        self._engine = _engine(url)
        with self._writing() as connection:
            if self._engine.dialect.name == "postgresql":
                # Servers that start together make the tables one after the other.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            _metadata.create_all(connection)
            found = connection.execute(sa.select(_about)).first()
            if found is None:
                connection.execute(_about.insert().values(version=VERSION, codes=codes))
                return
        shown = make_url(url).render_as_string(hide_password=True)
        if found.version != VERSION:
            raise InputError(
                f"{shown} has tables of version {found.version}, this program writes "
                f"version {VERSION}; give another --database-url"
            )
        if found.codes != codes:
            raise InputError(
                f"the visitors in {shown} belong to other codes ({found.codes[:12]}, "
                f"not {codes[:12]}): what was learned of them says nothing here; give "
                "another --database-url, or remove it"
            )

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    def is_up(self) -> bool:
        """Whether the database answers."""
        try:
            with self._engine.connect() as connection:
                connection.execute(sa.select(sa.literal(1)))
        except SQLAlchemyError:
            return False
        return True

    def create(self, user: int | None, latents: Float32[np.ndarray, " d"]) -> str:
        """Adds a visitor.

        Args:
          user: a known user to start as.
          latents: the code to start from.
        Returns:
          the secret token, which only the visitor keeps.
        """
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._writing() as connection:
            connection.execute(
                _visitors.insert().values(
                    token=_digest(token),
                    known_user=user,
                    latents=latents.tobytes(),
                    changes=0,
                    created=_now(),
                )
            )
        return token

    def visitor(self, token: str) -> Visitor | None:
        """The visitor of a token, None for an unknown one."""
        with self._engine.connect() as connection:
            return _visitor(connection, _visitors.c.token == _digest(token))

    def forget(self, visitor: int) -> None:
        """Deletes a visitor with all data."""
        with self._writing() as connection:
            connection.execute(_visitors.delete().where(_visitors.c.id == visitor))

    def judgements(self, visitor: int) -> list[Judgement]:
        """What a visitor judged, the newest first; judged again, the last one counts."""
        with self._engine.connect() as connection:
            return _current(connection, visitor)

    def wardrobe(self, visitor: int) -> list[tuple[int, int]]:
        """Category and item of what is in a wardrobe, in this order."""
        table = _wardrobe.c
        rows = sa.select(table.category, table.item).where(table.visitor == visitor)
        with self._engine.connect() as connection:
            found = connection.execute(rows.order_by(table.category, table.item))
            return [tuple(row) for row in found]

    def photos(self, visitor: int) -> list[KeptPhoto]:
        """The photos in a wardrobe, the oldest first."""
        mine = sa.select(_photos).where(_photos.c.visitor == visitor)
        with self._engine.connect() as connection:
            rows = connection.execute(mine.order_by(_photos.c.id))
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
    def changing(self, visitor: int) -> Iterator["Change"]:
        """A transaction during which nobody else changes this visitor.

        Raises:
          Gone: the visitor has been removed.
        """
        with self._writing() as connection:
            row = _visitors.c.id == visitor
            found = _visitor(connection, row, lock=True)
            if found is None:
                raise Gone("this visitor was removed")
            yield Change(connection, found)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._engine.connect().execution_options(writes=True) as connection:
            with connection.begin():
                yield connection


class Change:
    """The operations of a transaction, see `State.changing`.

    Attributes:
      visitor: as it is before the change.
    """

    def __init__(self, connection: Connection, visitor: Visitor):
        self._connection, self.visitor = connection, visitor

    def judgements(self) -> list[Judgement]:
        """As `State.judgements`."""
        return _current(self._connection, self.visitor.id)

    def count(self) -> int:
        """Number of stored judgements, including superseded ones."""
        mine = _judgements.c.visitor == self.visitor.id
        count = sa.select(sa.func.count()).select_from(_judgements).where(mine)
        return self._connection.execute(count).scalar_one()

    def judge(self, items: Sequence[int], liked: bool) -> int:
        """Adds a judgement; returns its event."""
        values = {
            "visitor": self.visitor.id,
            "items": "/".join(map(str, items)),
            "liked": liked,
            "at": _now(),
        }
        return _insert(self._connection, _judgements, values)

    def undo(self) -> Judgement | None:
        """Takes the last judgement back; the one before it counts again."""
        mine = _judgements.c.visitor == self.visitor.id
        newest = sa.select(*_COLUMNS).where(mine).order_by(_judgements.c.id.desc())
        row = self._connection.execute(newest.limit(1)).first()
        if row is None:
            return None
        taken = _judgements.delete().where(_judgements.c.id == row[0])
        self._connection.execute(taken)
        return _judgement(row)

    def reset(self) -> None:
        """Takes all judgements back."""
        mine = _judgements.c.visitor == self.visitor.id
        self._connection.execute(_judgements.delete().where(mine))

    def set_latents(self, latents: Float32[np.ndarray, " d"]) -> None:
        """Stores the user code that was learned from the judgements."""
        row = _visitors.c.id == self.visitor.id
        self._connection.execute(
            _visitors.update()
            .where(row)
            .values(latents=latents.tobytes(), changes=_visitors.c.changes + 1)
        )

    def add_item(self, category: int, item: int, *, most: int) -> bool:
        """Puts an item into the wardrobe; False if it holds `most` already."""
        table = _wardrobe.c
        mine = table.visitor == self.visitor.id
        there = sa.select(sa.func.count()).select_from(_wardrobe).where(mine)
        same = there.where((table.category == category) & (table.item == item))
        if self._connection.execute(same).scalar_one():
            return True
        if self._connection.execute(there).scalar_one() >= most:
            return False
        values = {"visitor": self.visitor.id, "category": category, "item": item}
        self._connection.execute(_wardrobe.insert().values(**values))
        return True

    def add_photo(
        self, category: int, title: str, photo: Photo, *, most: int
    ) -> int | None:
        """Puts a photo into the wardrobe; its id, None if there are `most` already."""
        mine = _photos.c.visitor == self.visitor.id
        there = sa.select(sa.func.count()).select_from(_photos).where(mine)
        if self._connection.execute(there).scalar_one() >= most:
            return None
        values = {
            "visitor": self.visitor.id,
            "category": category,
            "title": title,
            "picture": photo.picture,
            "code": photo.code.tobytes(),
            "scale": photo.scale,
        }
        return _insert(self._connection, _photos, values)

    def remove_photo(self, photo: int) -> bool:
        """Deletes a photo; False if the visitor has none of this id."""
        row = (_photos.c.visitor == self.visitor.id) & (_photos.c.id == photo)
        return bool(self._connection.execute(_photos.delete().where(row)).rowcount)

    def remove_item(self, category: int, item: int) -> bool:
        """Takes an item out of the wardrobe; False if it is not there."""
        table = _wardrobe.c
        row = (table.visitor == self.visitor.id) & (table.category == category)
        delete = _wardrobe.delete().where(row & (table.item == item))
        return bool(self._connection.execute(delete).rowcount)


def _insert(connection: Connection, table: sa.Table, values: dict[str, Any]) -> int:
    """Adds a row; returns its id."""
    added = connection.execute(table.insert().values(**values).returning(table.c.id))
    return added.scalar_one()


def _engine(url: str) -> sa.Engine:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        parsed, backend = None, ""
    if parsed is None or backend not in ("sqlite", "postgresql"):
        raise InputError(
            "--database-url: expected a URL such as sqlite:////folder/visitors.sqlite "
            "or postgresql+psycopg://user@host/name"
        )
    try:
        engine = sa.create_engine(parsed, pool_pre_ping=backend == "postgresql")
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"PostgreSQL needs the package {error.name}: pip install "
            '"fhn_jax[postgres]", with a URL that begins postgresql+psycopg://'
        ) from None
    if backend == "sqlite":
        _prepare_sqlite(engine)
    return engine


def _prepare_sqlite(engine: sa.Engine) -> None:
    @sa_event.listens_for(engine, "connect")
    def connected(connection, _record):
        # `begins` starts transactions: the driver would start them late.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 10000")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @sa_event.listens_for(engine, "begin")
    def begins(connection):
        # Writers wait for each other here, before they have read anything.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _visitor(connection: Connection, row, *, lock: bool = False) -> Visitor | None:
    query = sa.select(_visitors).where(row)
    # SQLite has no row locks and needs none: it admits one writer at a time.
    found = connection.execute(query.with_for_update() if lock else query).first()
    if found is None:
        return None
    return Visitor(
        found.id,
        found.known_user,
        np.frombuffer(found.latents, np.float32),
        found.changes,
        _utc(found.created),
    )


_COLUMNS = tuple(_judgements.c[name] for name in ("id", "items", "liked", "at"))


def _current(connection: Connection, visitor: int) -> list[Judgement]:
    mine = _judgements.c.visitor == visitor
    rows = sa.select(*_COLUMNS).where(mine).order_by(_judgements.c.id.desc())
    newest: dict[tuple[int, ...], Judgement] = {}
    for judgement in map(_judgement, connection.execute(rows)):
        newest.setdefault(judgement.items, judgement)
    return list(newest.values())


def _judgement(row: Any) -> Judgement:
    event, items, liked, at = row
    return Judgement(event, tuple(map(int, items.split("/"))), liked, _utc(at))


def _digest(token: str) -> str:
    """The stored hash of a token; tokens cannot be recovered from it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _utc(at: datetime.datetime) -> datetime.datetime:
    # SQLite keeps no zone.
    return at if at.tzinfo else at.replace(tzinfo=datetime.UTC)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
