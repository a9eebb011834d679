"""Bytes by name in an LMDB, which holds images or feature vectors.

LMDBs of `data_tools.build_lmdb` hold a checksum of each value too. Its key is that of the
value behind a NUL, with which no name begins; the number of checksums has a key as well.
"""

import contextlib
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb

from fhn_jax.errors import InputError, MissingFileError

# Called with the number of records done, and of all.
Progress = Callable[[int, int], None]

CHECKSUMS_KEY = b"\0fhn_jax.checksums"


def checksum_key(key: bytes) -> bytes:
    """Where the checksum of a key's value is."""
    return b"\0" + key


def checksum(value: bytes) -> bytes:
    """CRC-32, which notices every damage of up to 32 bits in a row."""
    return zlib.crc32(value).to_bytes(4, "big")


class LmdbRecords:
    """An LMDB to read from: the key is a name in UTF-8, the value any bytes.

    Args:
      path: the folder with data.mdb.
      remedy: how to get such an LMDB, for errors: "make it with …".
    Raises:
      FileNotFoundError: there is no data.mdb.
      ValueError: it is no LMDB, or is cut off.
    """

    def __init__(self, path: str | os.PathLike, remedy: str):
        self.path = Path(path)
        self._remedy = remedy
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

    def verify(self) -> int:
        """Reads all values and compares their checksums; returns how many have one.

        Raises:
          ValueError: a value is damaged.
        """
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
        try:
            with self._environment().begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise self._damaged(str(error)) from None

    def _damaged(self, what: str) -> InputError:
        return InputError(
            f"{self.path}/data.mdb is damaged: {what}; copy or download it again, or "
            f"{self._remedy}"
        )

    def _environment(self) -> lmdb.Environment:
        return _environments.get(self.path, self._remedy)


class _Environments:
    """The LMDBs that this process has open: lmdb opens none twice.

    Known by the identity of the data file, so that an LMDB built anew at the same
    path is opened anew. A forked process may not use its parent's, and opens its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[int, int], tuple[int, lmdb.Environment]] = {}

    def get(self, path: Path, remedy: str) -> lmdb.Environment:
        try:
            status = (path / "data.mdb").stat()
        except OSError:
            raise MissingFileError(
                f"{path} holds no data.mdb; expected an LMDB; remove it, or {remedy}"
            ) from None
        key = (status.st_dev, status.st_ino)
        with self._lock:
            pid, environment = self._open.get(key, (0, None))
            if environment is not None:
                if pid == os.getpid():
                    return environment
                environment.close()
            environment = _open(path, status.st_size, remedy)
            self._open[key] = (os.getpid(), environment)
            return environment


_environments = _Environments()


def _open(path: Path, size: int, remedy: str) -> lmdb.Environment:
    """Opens an LMDB for reading, after making sure that its file is complete."""
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
