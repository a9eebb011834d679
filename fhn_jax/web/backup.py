"""Copies of the database of visitors, and databases from copies."""

import contextlib
import os
import sqlite3
from pathlib import Path

from fhn_jax import files
from fhn_jax.errors import InputError, MissingFileError, RefusedError
from fhn_jax.web.engines import sqlite_path
from fhn_jax.web.state import State


def back_up(url: str, copy: str | os.PathLike) -> int:
    """Copies a database, which servers may be using, to a new file.

    Args:
      url: of the database, see `State`; SQLite.
      copy: the file to make, readable by its owner alone.
    Returns:
      the number of visitors in the copy.
    Raises:
      InputError: PostgreSQL, which has tools of its own.
      MissingFileError: there is no such database.
      ExistingFileError: the copy exists.
      RefusedError: the database is damaged, or cannot be read or the copy written.
    """
    source, copy = _file(url), Path(copy)
    files.refuse_existing(copy)
    with files.temporary_folder(copy) as folder:
        made = folder / "copy"
        count = _copy(source, made)
        os.replace(made, copy)
        files.sync_folder(copy.parent)
    return count


def restore(copy: str | os.PathLike, url: str, codes: str) -> int:
    """Makes a database from a copy, which is migrated if it is of an earlier version.

    Args:
      copy: of `back_up`.
      url: of the database to make, see `State`; SQLite.
      codes: see `State`.
    Returns:
      the number of visitors.
    Raises:
      InputError: PostgreSQL; a copy of a newer version or of other codes.
      MissingFileError: there is no such copy.
      ExistingFileError: there is a database already.
      RefusedError: the copy is damaged or cannot be read, or the database written.
    """
    copy, target = Path(copy), _file(url)
    # A log of another database would be applied to this one.
    for name in (target.name, f"{target.name}-wal", f"{target.name}-shm"):
        files.refuse_existing(target.with_name(name))
    with files.temporary_folder(target) as folder:
        made = folder / "copy"
        count = _copy(copy, made)
        State(f"sqlite:///{made.absolute()}", codes).close()
        os.replace(made, target)
        files.sync_folder(target.parent)
    return count


def _file(url: str) -> Path:
    path = sqlite_path(url)
    if path is None:
        raise InputError(
            "only databases of SQLite are copied by this; use pg_dump and pg_restore for "
            "PostgreSQL"
        )
    return path


def _copy(source: Path, made: Path) -> int:
    """Copies a database that may be in use; returns the number of visitors."""
    if not source.is_file():
        raise MissingFileError(f"there is no database {source}; give its path")
    os.close(os.open(made, os.O_RDWR | os.O_CREAT, 0o600))
    try:
        with (
            contextlib.closing(_open(source)) as old,
            contextlib.closing(_open(made)) as new,
        ):
            old.backup(new)
            # One file, without a log beside it.
            new.execute("PRAGMA journal_mode = DELETE")
            (found,) = new.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            (count,) = new.execute("SELECT count(*) FROM visitors").fetchone()
    except sqlite3.Error as error:
        raise RefusedError(
            f"{source} cannot be copied: {error}; if it is damaged, take another copy"
        ) from None
    with open(made, "rb") as file:
        os.fsync(file.fileno())
    return count


def _open(path: Path) -> sqlite3.Connection:
    # Who may only read leaves the log behind when it is the last one to close.
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
