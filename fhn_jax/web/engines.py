"""Connections to SQLite and to PostgreSQL: settings, limits, private files."""

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event as sa_event
from sqlalchemy import exc
from sqlalchemy.engine import URL, make_url

from fhn_jax.errors import InputError, MissingFileError, MissingPackageError

# Seconds that a request waits for the database, in each of its ways to keep it waiting.
CONNECT_S, STATEMENT_S, POOL_S = 3, 5, 5
# Milliseconds that a statement of SQLite waits for another process.
BUSY_MS = 5000
# More than the server has threads.
_CONNECTIONS = 40


def parse(url: str) -> URL:
    """A URL of one of both kinds; raises InputError for another."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (exc.ArgumentError, ValueError):
        parsed, backend = None, ""
    if backend == "sqlite" and parsed is not None:
        name = parsed.database or ""
        backend = (
            "" if name in ("", ":memory:") or name.startswith("file:") else backend
        )
    if parsed is None or backend not in ("sqlite", "postgresql"):
        raise InputError(
            "--database-url: expected a URL such as sqlite:////folder/visitors.sqlite "
            "or postgresql+psycopg://user@host/name"
        )
    return parsed


def sqlite_path(url: str) -> Path | None:
    """The file of a database, None for PostgreSQL; raises InputError as `Database`."""
    parsed = parse(url)
    is_file = parsed.get_backend_name() == "sqlite"
    return Path(parsed.database or "") if is_file else None


def sqlite_engine(url: URL, path: Path) -> sa.Engine:
    """Connections to a file, which is made and private; foreign keys hold, deleted is gone."""
    if not path.parent.is_dir():
        raise MissingFileError(
            f"--database-url: there is no folder {path.parent} for the visitors; make it"
        )
    # Private, as are the files that SQLite puts beside it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with contextlib.suppress(PermissionError):
        path.chmod(0o600)
    name = f"{path.absolute().as_uri()}?mode=rw"

    def connect():
        # Never makes an empty file in place of one that was removed.
        return sqlite3.connect(name, uri=True, check_same_thread=False)

    engine = sa.create_engine(
        url,
        creator=connect,
        poolclass=sa.QueuePool,
        hide_parameters=True,
        pool_size=_CONNECTIONS,
        pool_timeout=POOL_S,
    )

    @sa_event.listens_for(engine, "connect")
    def connected(connection, record):
        # `begins` starts transactions: the driver would start them late.
        connection.isolation_level = None
        record.info["file"] = _identity(path)
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # What is deleted is overwritten.
        cursor.execute("PRAGMA secure_delete = ON")
        cursor.close()

    @sa_event.listens_for(engine, "checkout")
    def checked_out(connection, record, proxy):
        if record.info["file"] != _identity(path):
            raise exc.DisconnectionError("the file was replaced")

    @sa_event.listens_for(engine, "begin")
    def begins(connection):
        kind = connection.get_execution_options().get("begin", "DEFERRED")
        if kind is None:
            return
        # `_patiently` waits, before anything has been read.
        cursor = connection.connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            connection.exec_driver_sql(f"BEGIN {kind}")
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            cursor.close()

    return engine


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def postgres_engine(url: URL) -> sa.Engine:
    """Connections to a server, with time limits on everything."""
    try:
        import psycopg
    except ModuleNotFoundError:
        raise MissingPackageError(
            'PostgreSQL needs the package psycopg: pip install "fhn_jax[postgres]"'
        ) from None

    class Limited(psycopg.Connection):
        """A connection that gives a server up that does not answer in time."""

        # The server ends a statement that is too long itself.
        seconds: float = STATEMENT_S + 1.0

        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().wait(_limited(gen, self.seconds), *args, **kwargs)
            except _NoAnswer:
                self.pgconn.finish()
                text = f"no answer within {self.seconds} s"
                raise psycopg.OperationalError(text) from None

    arguments = {
        "connect_timeout": CONNECT_S,
        "options": f"-c statement_timeout={1000 * STATEMENT_S} "
        f"-c lock_timeout={1000 * STATEMENT_S} "
        "-c idle_in_transaction_session_timeout=60000",
        "application_name": "fhn_jax",
    }
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=10,
        pool_timeout=POOL_S,
        hide_parameters=True,
    )

    @sa_event.listens_for(engine, "do_connect")
    def connect(dialect, record, args, given):
        return Limited.connect(*args, **arguments | given)

    return engine


class _NoAnswer(Exception):
    pass


def _limited(steps, seconds: float):
    """The steps of a psycopg operation, which are to end in so many seconds.

    A step without news is taken ten times a second.
    """
    deadline = time.monotonic() + seconds
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise _NoAnswer
            wanted = steps.send(ready)
    except StopIteration as ended:
        return ended.value
