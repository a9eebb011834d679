"""Bytes by name in an LMDB, which holds images or feature vectors."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import lmdb

from fhn_jax.errors import InputError, MissingFileError

# Called with the number of records done, and of all.
Progress = Callable[[int, int], None]


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
        with self._environment().begin() as transaction:
            self._count = transaction.stat()["entries"]

    def __len__(self) -> int:
        return self._count

    def read(self, names: Sequence[str]) -> list[bytes]:
        """The values of `names`, by one call into the LMDB for all of them.

        Raises:
          KeyError: a name is not there.
        """
        keys = [name.encode() for name in names]
        with self._environment().begin() as transaction:
            with transaction.cursor() as cursor:
                found = dict(cursor.getmulti(keys))
        return [found[key] for key in keys]

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not there, in their order."""
        with self._environment().begin() as transaction:
            with transaction.cursor() as cursor:
                return [name for name in names if not cursor.set_key(name.encode())]

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None if it is not there."""
        with self._environment().begin() as transaction:
            return transaction.get(key)

    def first_key(self) -> bytes:
        """The first key of all, b"" in an empty LMDB."""
        with self._environment().begin() as transaction:
            with transaction.cursor() as cursor:
                cursor.first()
                return cursor.key()

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
