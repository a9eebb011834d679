"""Who is at work on what: advisory locks, and temporaries that do not outlive it.

A lock is held by an open file (flock): the operating system lets go of it when its
process ends, however that ends. So nobody has to guess whether a process number in a
file still stands for the same process, or on which host.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from fhn_jax.errors import BusyError, RefusedError

# As `temporary_file` and `temporary_folder` call them, and as `lock` does.
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp", re.DOTALL)
_LOCK = re.compile(r"\..+\.lock", re.DOTALL)
# In a temporary folder, locked by its owner.
_OWNER = "owner"
# File systems that know no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
_NAME_BYTES = 200

_swept: set[str] = set()
_sweeping = threading.Lock()


@contextlib.contextmanager
def lock(path: str | os.PathLike, work: str, *, shared: bool = False) -> Iterator[None]:
    """Makes sure that nobody else changes a file or folder meanwhile.

    The lock is the file `.NAME.lock` beside `path`, removed at the end. After a crash it
    stays, free: whoever comes next takes it over. It binds those who take it, threads of
    this process included.

    Args:
      path: the file or folder, which need not exist.
      work: what is done to it, for whoever finds it locked: "training", "writing".
      shared: it is only read: others may read it too. Where no lock may be made, it is
        read without one.
    Raises:
      BusyError: it is locked; says by whom, and for what.
      RefusedError: the file system knows no locks.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.parent / f".{_short(path.name)}.lock"
    try:
        handle = _lock_file(place, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except OSError as error:
        refused = isinstance(error, RefusedError) or error.errno in _NOT_WRITABLE
        if not (shared and refused):
            raise
        handle = -1
    if handle == -1:
        yield
        return
    if handle is None:
        raise BusyError(f"{path} is in use: {_owner(place)}; wait until that has ended")
    try:
        about = {"process": os.getpid(), "host": socket.gethostname(), "work": work}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(about).encode(), 0)
        yield
    finally:
        # The last of those who read removes it.
        if not shared or _try_lock(handle):
            place.unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Yields an empty private file beside `path`, removed at the end if it is there."""
    sweep_once(path.parent)
    while True:
        handle, name = tempfile.mkstemp(".tmp", f".{_short(path.name)}.", path.parent)
        # Another process may have taken it for an orphan before it was locked.
        if _try_lock(handle) and _is_at(handle, name):
            break
        os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def temporary_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yields an empty private folder beside `path`, removed at the end with its content.

    Args:
      path: the file or folder that is made of the content; the folder that it lies in is
        created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_once(path.parent)
    handle = None
    while handle is None:
        private = Path(tempfile.mkdtemp(".tmp", f".{_short(path.name)}.", path.parent))
        with contextlib.suppress(FileNotFoundError):  # swept before it was locked
            handle = _lock_file(private / _OWNER)
    try:
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)
        os.close(handle)


def sweep_once(folder: str | os.PathLike) -> None:
    """`sweep`, the first time that this process comes to a folder."""
    key = os.path.realpath(folder)
    with _sweeping:
        if key in _swept:
            return
        _swept.add(key)
    sweep(folder)


def sweep(folder: str | os.PathLike) -> None:
    """Removes temporaries and locks in a folder whose owners are dead."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(".")]
    for name in names:
        path = Path(folder, name)
        if _TEMPORARY.fullmatch(name) or _LOCK.fullmatch(name):
            # What may not be removed, or went by itself, is left.
            with contextlib.suppress(OSError):
                _remove_orphan(path)


def _remove_orphan(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        with _if_free(path) as free:
            if free:
                path.unlink()
        return
    try:
        with _if_free(path / _OWNER) as free:
            if free:
                shutil.rmtree(path)
    except FileNotFoundError:
        path.rmdir()  # Its owner died, or is about to lock it: then it makes another.


@contextlib.contextmanager
def _if_free(path: Path) -> Iterator[bool]:
    """Locks a file that is there; yields whether nobody else had."""
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield _is_at(handle, path)
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def _lock_file(path: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    """An open and locked file, made if need be; None if another has it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            if _is_at(handle, path):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError as error:
            os.close(handle)
            if error.errno in _NO_LOCKS:
                raise RefusedError(
                    f"{path}: the file system knows no locks ({error.strerror}); use a "
                    "folder on another"
                ) from None
            raise
        os.close(handle)


def _try_lock(handle: int) -> bool:
    """Locks a temporary; where there are no locks nobody sweeps, and none is needed."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        return error.errno in _NO_LOCKS
    return True


def _is_at(handle: int, path: str | os.PathLike) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _owner(place: Path) -> str:
    """Who holds a lock, as its file says."""
    try:
        about = json.loads(place.read_text(encoding="utf-8"))
        return (
            f"process {int(about['process'])} on {str(about['host'])!r} is at work "
            f"there ({str(about['work'])})"
        )
    except (OSError, ValueError, LookupError, TypeError):
        return "another process is at work there"


def _short(name: str) -> str:
    """A name with room for what is added to it."""
    return os.fsdecode(os.fsencode(name)[:_NAME_BYTES])
