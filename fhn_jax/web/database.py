"""A database that is shared, gets full, hangs or goes away: transactions, and faults.

SQLite admits one writer. The writers of a process therefore wait in one queue and share
transactions: while one is committed, all who came in the meantime are in the next.
"""

import contextlib
import logging
import math
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from fhn_jax.errors import UnavailableError
from fhn_jax.web import engines

# Seconds that a change waits for its turn, and for other processes.
_LOCK_S = 10
# Seconds that a server which starts waits for others that make the tables: under load
# that alone can take longer than a change may wait.
_START_S = 120.0
# Seconds between attempts at a server that did not answer; meanwhile requests fail
# at once.
_PAUSE_S = 1.0
# For so long the log waits for who reads it, and nobody can write.
_WIPE_MS = 50
# Held by who makes or changes the tables of PostgreSQL.
_LOCK = int.from_bytes(b"fhn_jax")
# Changes in one transaction of SQLite.
_MOST_TOGETHER = 64
_log = logging.getLogger("fhn_jax.web")
# A source of its own: what a program draws from the global one does not depend on locks.
_waits = random.Random()
_T = TypeVar("_T")


class DatabaseUnavailableError(UnavailableError):
    """The database cannot be used now; what was asked for has not been done.

    Attributes:
      reason: what the database says; may name files.
    """

    def __init__(self, reason: str):
        super().__init__("the database cannot be used now; try again in some seconds")
        self.reason = reason


class Database:
    """Connections to a database, and what is done when it fails.

    A fault is logged once, when it begins, without the values of statements; so is its
    end.

    Args:
      url: of SQLAlchemy, see `State`.
    Attributes:
      shown: the URL without its password.
      path: of the file, None for PostgreSQL.
    Raises:
      InputError: another kind of URL.
      MissingFileError: no folder for the file.
      MissingPackageError: PostgreSQL without psycopg.
    """

    def __init__(self, url: str):
        parsed = engines.parse(url)
        self.shown = parsed.render_as_string(hide_password=True)
        self._faults = _Faults(self.shown)
        self._turn = threading.Lock()
        self._waiting, self._batch = 0, None
        self._closed = False
        # Whether something was deleted since the log was last removed, and a thread is at it.
        self._unwiped = self._wiping = False
        self._counting = threading.Lock()
        self.path = engines.sqlite_path(url)
        if self.path is None:
            self._engine = engines.postgres_engine(parsed)
        else:
            self._engine = engines.sqlite_engine(parsed, self.path)
        # To begin and end a transaction takes SQLite longer than to read a row.
        self._reader = self._engine.execution_options(begin=None)

    @contextlib.contextmanager
    def preparing(self) -> Iterator[Connection]:
        """A transaction to make or change the tables: it may take long.

        Servers that start together go through it one after the other.

        Raises:
          DatabaseUnavailableError: the database cannot be used.
        """
        if self.path is not None:
            with self._faults.of("write"):
                _patiently(self._admit_readers, _START_S)
                with self._engine.connect() as connection:
                    connection.execution_options(begin="IMMEDIATE")
                    # A table that is made anew is dropped, and would take along what
                    # refers to it.
                    cursor = connection.connection.cursor()
                    cursor.execute("PRAGMA foreign_keys = OFF")
                    try:
                        with _patiently(connection.begin, _START_S):
                            yield connection
                    finally:
                        cursor.execute("PRAGMA foreign_keys = ON")
                        cursor.close()
            return
        with self._faults.of("write"), self._engine.begin() as connection:
            limited: Any = connection.connection.dbapi_connection
            limited.seconds = math.inf
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            yield connection
        del limited.seconds

    def _admit_readers(self) -> None:
        """Makes readers and a writer of SQLite admit each other; the file keeps it."""
        with self._engine.connect() as connection:
            connection.execution_options(begin=None)
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that only reads; each statement sees what is committed by then.

        Raises:
          DatabaseUnavailableError: the database cannot be used.
        """
        with self._faults.of("read"), self._reader.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction; what it wrote is on the disk when the block is left.

        Raises:
          DatabaseUnavailableError: the database cannot be used, and nothing was written.
        """
        with self._faults.of("write"):
            if self.path is None:
                with self._engine.begin() as connection:
                    yield connection
            else:
                with self._together() as connection:
                    yield connection

    @contextlib.contextmanager
    def _together(self) -> Iterator[Connection]:
        """A part of a transaction that the writers of this process share.

        The last of those who wait commits for all. A part that fails is undone alone,
        but for faults of the database, which fail all parts.
        """
        with self._counting:
            self._waiting += 1
        has_turn = self._turn.acquire(timeout=_LOCK_S)
        with self._counting:
            self._waiting -= 1
        if not has_turn:
            raise exc.TimeoutError("too many changes wait for the database")
        try:
            batch = self._batch = self._batch or _Batch(self._engine)
            try:
                with batch.part() as connection:
                    yield connection
            finally:
                if not (self._waiting and batch.has_room()):
                    self._end(batch)
        finally:
            self._turn.release()
        while not batch.done.wait(_LOCK_S):
            # Who waited has given up, and it was the last one.
            with self._turn:
                if not batch.done.is_set():
                    self._end(batch)
        if batch.error is not None:
            raise batch.error

    def _end(self, batch: "_Batch") -> None:
        self._batch = None
        batch.end()

    def wipe(self) -> None:
        """Removes what was deleted from SQLite's write-ahead log, too.

        While others read what is in it, that is tried again in the background.
        """
        if self.path is None or self._wiped():
            return
        with self._counting:
            self._unwiped = True
            if self._wiping:
                return
            self._wiping = True
        threading.Thread(target=self._wipe_later, daemon=True).start()

    def _wipe_later(self) -> None:
        pause = threading.Event()
        while True:
            with self._counting:
                if self._closed or not self._unwiped:
                    self._wiping = False
                    return
                self._unwiped = False
            if not self._wiped():
                with self._counting:
                    self._unwiped = True
                pause.wait(_PAUSE_S)

    def _wiped(self) -> bool:
        try:
            with self._faults.of("write"), self._engine.connect() as connection:
                connection.execution_options(begin=None)
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {_WIPE_MS}")
                try:
                    checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)"
                    return connection.exec_driver_sql(checkpoint).scalar() == 0
                finally:
                    connection.exec_driver_sql(
                        f"PRAGMA busy_timeout = {engines.BUSY_MS}"
                    )
        except DatabaseUnavailableError:
            return False

    def close(self) -> None:
        """Closes all connections."""
        self._closed = True
        self._engine.dispose()


class _Batch:
    """A transaction of SQLite that several changes share."""

    def __init__(self, engine: sa.Engine):
        self._connection = engine.connect().execution_options(begin="IMMEDIATE")
        try:
            self._transaction = _patiently(self._connection.begin)
        except BaseException:
            self._connection.close()
            raise
        self._parts = 0
        self.done, self.error = threading.Event(), None

    def has_room(self) -> bool:
        """Whether another change may join."""
        return self.error is None and self._parts < _MOST_TOGETHER

    @contextlib.contextmanager
    def part(self) -> Iterator[Connection]:
        """A change that is undone alone if it fails."""
        self._parts += 1
        try:
            with self._connection.begin_nested():
                yield self._connection
        except exc.DBAPIError as error:
            if _is_fault(error):
                self.error = error
            raise

    def end(self) -> None:
        """Commits; afterwards `error` tells whether that failed."""
        try:
            if self.error is None:
                self._transaction.commit()
            else:
                self._transaction.rollback()
        except exc.DBAPIError as error:
            self.error = self.error or error
        finally:
            with contextlib.suppress(exc.DBAPIError):
                self._connection.close()
            self.done.set()


# --- faults -----------------------------------------------------------------------


class _Faults:
    """Makes errors of the database `DatabaseUnavailableError`, and logs each once."""

    def __init__(self, shown: str):
        self._shown = shown
        self._lock = threading.Lock()
        # What was logged since the last success, by what was tried.
        self._logged: dict[str, set[str]] = {"read": set(), "write": set()}
        # When to try again a database that kept somebody waiting in vain.
        self._next: float | None = None

    @contextlib.contextmanager
    def of(self, kind: str) -> Iterator[None]:
        """Watches an attempt to "read" or to "write"."""
        started = time.monotonic()
        if self._next is not None:
            self._take_turn(started)
        try:
            yield
        except (exc.DBAPIError, exc.TimeoutError) as error:
            if not _is_fault(error):
                raise
            was_slow = time.monotonic() - started > _PAUSE_S
            raise DatabaseUnavailableError(self._begin(kind, error, was_slow)) from None
        if self._next is not None or self._logged[kind]:
            self._end(kind)

    def _take_turn(self, now: float) -> None:
        """Lets one attempt through in every pause."""
        with self._lock:
            if self._next is not None:
                if now < self._next:
                    raise DatabaseUnavailableError("the database does not answer")
                self._next = now + _PAUSE_S

    def _begin(self, kind: str, error: exc.SQLAlchemyError, was_slow: bool) -> str:
        original = error.orig if isinstance(error, exc.DBAPIError) else error
        text = " ".join(str(original).split())[:300]
        with self._lock:
            if was_slow:
                self._next = time.monotonic() + _PAUSE_S
            known = text in self._logged[kind]
            self._logged[kind].add(text)
        if not known:
            _log.error("%s: cannot %s: %s", self._shown, kind, text)
        return text

    def _end(self, kind: str) -> None:
        with self._lock:
            self._next = None
            logged, self._logged[kind] = self._logged[kind], set()
        if logged:
            _log.warning("%s: can %s again", self._shown, kind)


def _is_fault(error: exc.SQLAlchemyError) -> bool:
    """Whether an error is of the database, not of the statement or its values."""
    ours = (exc.IntegrityError, exc.DataError, exc.NotSupportedError)
    return not isinstance(error, ours)


def _is_locked(error: exc.DBAPIError) -> bool:
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _patiently(attempt: Callable[[], _T], seconds: float | None = None) -> _T:
    """Tries until no other process is in the way; for `_LOCK_S` by default.

    SQLite waits longer and longer between attempts, and starves beside busy writers.
    """
    deadline = time.monotonic() + (_LOCK_S if seconds is None else seconds)
    while True:
        try:
            return attempt()
        except exc.DBAPIError as error:
            if not _is_locked(error) or time.monotonic() > deadline:
                raise
        time.sleep(_waits.uniform(0.001, 0.005))
