"""Bytes by name in an LMDB, which holds images or feature vectors.

LMDBs of `data_tools.build_lmdb` hold a checksum of each value too. Its key is that of the
value behind a NUL, with which no name begins; the number of checksums has a key as well.
Beside data.mdb lies data.json with its size and its SHA-256: LMDB itself trusts the tree
between the values, and can end the process where that is damaged.
"""

import contextlib
import dataclasses
import os
import re
import shutil
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fhn_jax import files
from fhn_jax.errors import InputError, MissingFileError

# Called with the number of records done, and of all.
Progress = Callable[[int, int], None]

CHECKSUMS_KEY = b"\0fhn_jax.checksums"
# Beside data.mdb.
_ABOUT = "data.json"
# Files of up to so many bytes are compared with their checksum when they are opened,
# which takes a fraction of a second; larger ones by `check_file`.
_COMPARED_WHEN_OPENED = 256 * 2**20


def checksum_key(key: bytes) -> bytes:
    """Where the checksum of a key's value is."""
    return b"\0" + key


def checksum(value: bytes) -> bytes:
    """CRC-32, which notices every damage of up to 32 bits in a row."""
    return zlib.crc32(value).to_bytes(4, "big")


def note_file(folder: Path) -> None:
    """Writes data.json about the data.mdb of a folder, which is complete."""
    path = folder / "data.mdb"
    about = {"bytes": path.stat().st_size, "data_sha256": files.sha256_file(path)}
    files.write_sealed(folder / _ABOUT, about)


def replace_record(folder: Path, old: str, new: str, value: bytes) -> None:
    """Replaces a value and its name, and leaves nothing of it in the file.

    Whoever has the LMDB open goes on with what there was.
    """
    import lmdb

    with files.temporary_folder(folder / "data.mdb") as private:
        for path in (private / "all", private / "small"):
            path.mkdir()
        shutil.copyfile(folder / "data.mdb", private / "all" / "data.mdb")
        size = 2 * (folder / "data.mdb").stat().st_size + 2**20
        with lmdb.open(str(private / "all"), map_size=size, lock=False) as environment:
            with environment.begin(write=True) as transaction:
                for key in (old.encode(), checksum_key(old.encode())):
                    transaction.delete(key)
                key = new.encode()
                transaction.put(key, value)
                if transaction.get(CHECKSUMS_KEY) is not None:
                    transaction.put(checksum_key(key), checksum(value))
            # Freed pages would keep what was in them.
            environment.copy(str(private / "small"), compact=True)
        note_file(private / "small")
        # Without data.json for a moment, so that it never says that a file is damaged.
        (folder / _ABOUT).unlink(missing_ok=True)
        for name in ("data.mdb", _ABOUT):
            os.replace(private / "small" / name, folder / name)
        files.sync_folder(folder)


class LmdbRecords:
    """An LMDB to read from: the key is a name in UTF-8, the value any bytes.

    It is opened at once, and read on when its folder is removed, as a published version is
    that is still served. It is closed when nobody has it any more.

    Args:
      path: the folder with data.mdb.
      remedy: how to get such an LMDB, for errors: "make it with …".
    Raises:
      FileNotFoundError: there is no data.mdb.
      ValueError: it is no LMDB, is cut off, or is not the file that was built.
    """

    def __init__(self, path: str | os.PathLike, remedy: str):
        self.path = Path(path)
        self._remedy = remedy
        self._opened: _Opened | None = None
        with self._reading() as transaction:
            self._entries = transaction.stat()["entries"]
            count = transaction.get(CHECKSUMS_KEY)
        self._has_checksums = count is not None
        if count is not None:
            if not re.fullmatch(b"[0-9]{1,18}", count) or int(count) >= self._entries:
                raise self._damaged(f"it states {count[:20]!r} checksums")
            self._entries -= 1 + int(count)

    def __len__(self) -> int:
        return self._entries

    def read(self, names: Sequence[str]) -> list[bytes]:
        """The values of `names`, by one call into the LMDB for all of them.

        Raises:
          KeyError: a name is not there.
          ValueError: a value is not what was stored, as its checksum says.
        """
        keys = [name.encode() for name in names]
        wanted = keys
        if self._has_checksums:
            wanted = [*keys, *map(checksum_key, keys)]
        with self._reading() as transaction, transaction.cursor() as cursor:
            found = dict(cursor.getmulti(wanted))
        for name, key in zip(names, keys, strict=True):
            # What others have added since it was built has none.
            stored = found.get(checksum_key(key))
            if stored is not None and stored != checksum(found[key]):
                raise self._damaged(f"the checksum of {name!r} is wrong")
        return [found[key] for key in keys]

    def check_file(self) -> None:
        """Compares the file with its checksum, if it has one and nobody did it yet.

        Raises:
          ValueError: it is damaged.
        """
        opened = self._current()
        if not opened.compared:
            _compare(self.path, self._remedy)
            opened.compared = True

    def verify(self) -> int:
        """Reads all values and compares their checksums; returns how many have one.

        Raises:
          ValueError: the file or a value is damaged.
        """
        self.check_file()
        count = 0
        with self._reading() as transaction, transaction.cursor() as cursor:
            for key, stored in cursor.iternext():
                if not key.startswith(b"\0"):
                    break
                value = transaction.get(key[1:])
                if value is not None:
                    count += 1
                    if checksum(value) != stored:
                        raise self._damaged(f"the checksum of {key[1:]!r} is wrong")
        return count

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not there, in their order."""
        with self._reading() as transaction, transaction.cursor() as cursor:
            return [name for name in names if not cursor.set_key(name.encode())]

    def names(self) -> list[str]:
        """The names of all records, in the order of their keys."""
        with self._reading() as transaction, transaction.cursor() as cursor:
            keys = cursor.iternext(values=False)
            return [key.decode() for key in keys if not key.startswith(b"\0")]

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None if it is not there."""
        with self._reading() as transaction:
            return transaction.get(key)

    def first_key(self) -> bytes:
        """The first key of all, b"" in an empty LMDB."""
        with self._reading() as transaction, transaction.cursor() as cursor:
            cursor.first()
            return cursor.key()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Any]:
        """A transaction; what LMDB finds wrong with its file becomes an InputError."""
        import lmdb

        try:
            with self._current().environment.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise self._damaged(str(error)) from None

    def _damaged(self, what: str) -> InputError:
        return _damaged(self.path, what, self._remedy)

    def _current(self) -> "_Opened":
        self._opened = _environments.get(self.path, self._remedy, self._opened)
        return self._opened


def _damaged(path: Path, what: str, remedy: str) -> InputError:
    return InputError(
        f"{path}/data.mdb is damaged: {what}; copy or download it again, or {remedy}"
    )


@dataclasses.dataclass
class _Opened:
    """An LMDB that a process has open.

    Attributes:
      pid: of the process.
      size: of its file, which is mapped into memory.
      compared: whether the file was compared with its checksum.
    """

    pid: int
    environment: Any
    size: int
    compared: bool


class _Environments:
    """The LMDBs that this process has open: lmdb opens none twice.

    Known by the identity of the data file, so that an LMDB built anew at the same
    path is opened anew. A forked process may not use its parent's, and opens its own.
    Those that no reader has any more are closed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = weakref.WeakValueDictionary[tuple[int, int], _Opened]()

    def get(self, path: Path, remedy: str, last: _Opened | None) -> _Opened:
        """The LMDB of a folder, or what it was `last` where the folder is gone."""
        try:
            status = (path / "data.mdb").stat()
        except OSError:
            if last is not None and last.pid == os.getpid():
                return last
            raise MissingFileError(
                f"{path} holds no data.mdb; expected an LMDB; remove it, or {remedy}"
            ) from None
        key, size = (status.st_dev, status.st_ino), status.st_size
        with self._lock:
            found = self._open.get(key)
            if found is not None and found.pid == os.getpid():
                # Reading past its new end would kill the process.
                if size < found.size:
                    what = f"it was cut off to {size:,} bytes while it was open"
                    raise _damaged(path, what, remedy)
                return found
            compared = found is not None and found.compared
            if found is not None:
                found.environment.close()
            _check_size(path, size, remedy)
            if not compared and size <= _COMPARED_WHEN_OPENED:
                _compare(path, remedy)
                compared = True
            environment = _open(path, size, remedy)
            made = _Opened(os.getpid(), environment, size, compared)
            self._open[key] = made
            return made


_environments = _Environments()


def _about(path: Path, remedy: str) -> dict[str, Any] | None:
    """What data.json says, None without one, as of LMDBs of other programs."""
    about = path / _ABOUT
    if not about.exists():
        return None
    remedy = f"remove it, and {remedy}"
    values = files.read_sealed(about, remedy)
    kinds = {"bytes": int, "data_sha256": str}
    if any(type(values.get(key)) is not kind for key, kind in kinds.items()):
        raise InputError(
            f"{about} holds {str(values)[:80]}, expected bytes and data_sha256; {remedy}"
        )
    return values


def _check_size(path: Path, size: int, remedy: str) -> None:
    about = _about(path, remedy)
    if about is not None and size != about["bytes"]:
        what = f"it has {size:,} bytes; expected {about['bytes']:,}, as {_ABOUT} says"
        raise _damaged(path, what, remedy)


def _compare(path: Path, remedy: str) -> None:
    about = _about(path, remedy)
    if about is not None:
        if files.sha256_file(path / "data.mdb") != about["data_sha256"]:
            raise _damaged(path, f"its checksum is not that in {_ABOUT}", remedy)


def check_whole(path: Path, remedy: str) -> None:
    """Raises InputError if the data.mdb of a folder is cut off, before it is mapped."""
    size = (path / "data.mdb").stat().st_size
    if size:  # A new one is still empty.
        _open(path, size, remedy).close()


def _open(path: Path, size: int, remedy: str) -> Any:
    """Opens an LMDB for reading, after making sure that its file is complete."""
    import lmdb

    again = f"copy or download it again, or {remedy}"
    try:
        # No lock: it needs write access to the folder, and nobody writes here.
        environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise InputError(f"{path}/data.mdb is no LMDB ({error}); {again}") from None
    # The file is memory-mapped: reading past its end would kill the process.
    pages = environment.info()["last_pgno"] + 1
    expected = pages * environment.stat()["psize"]
    if size < expected:
        environment.close()
        raise InputError(
            f"{path}/data.mdb is cut off: {size:,} bytes; expected at least "
            f"{expected:,}; {again}"
        )
    return environment
