"""Results that are made in parts, of which an interruption costs only the last ones."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fhn_jax.errors import InputError, MissingFileError, UserError
from fhn_jax.files.journal import append_record, read_records
from fhn_jax.files.locks import lock
from fhn_jax.files.reading import read_sealed, sha256_file
from fhn_jax.files.writing import atomic_path, write_sealed

_ABOUT, _DONE = "about.json", "done.jsonl"


class Parts:
    """A folder of numbered files that together are one result; see `parts`.

    Attributes:
      paths: of all parts, in their order.
    """

    def __init__(self, folder: Path, count: int, suffix: str):
        """Use `parts`."""
        self.paths = [folder / f"part-{n:05}{suffix}" for n in range(count)]
        self._journal = folder / _DONE
        self._done: set[int] = set()
        records, self._end = read_records(self._journal)
        for number, digest in records:
            path = self.paths[number]
            if path.is_file() and sha256_file(path) == digest:
                self._done.add(number)

    @property
    def missing(self) -> list[int]:
        """Numbers of the parts that are still to be made."""
        return [n for n in range(len(self.paths)) if n not in self._done]

    @property
    def is_empty(self) -> bool:
        """Whether no part has been made."""
        return not self._done

    def note(self, number: int, digest: str) -> None:
        """Notes that a part is there, as `write_part` wrote it, perhaps elsewhere.

        Raises:
          MissingFileError: it is not there.
        """
        path = self.paths[number]
        if not path.is_file():
            raise MissingFileError(
                f"{path} was written, and is not there on this machine; choose a folder "
                "on storage that all nodes share"
            )
        self._end = append_record(self._journal, [number, digest], self._end)
        self._done.add(number)


@contextlib.contextmanager
def parts(
    folder: Path, about: Mapping[str, Any], count: int, suffix: str
) -> Iterator[Parts]:
    """Yields the parts of a result: those that an interruption left, and room for others.

    When all has been made of them the folder is removed. On an exception it stays, for
    the next call with the same `about`, unless no part is there.

    Args:
      folder: of the parts alone.
      about: JSON values that say what is made, of what: parts of another are removed.
      count: of the parts.
      suffix: of their names.
    Raises:
      BusyError: another process makes the same.
    """
    wanted = json.loads(json.dumps({**about, "count": count, "suffix": suffix}))
    with lock(folder, "making its parts"):
        try:
            if read_sealed(folder / _ABOUT, "") != wanted:
                raise InputError("parts of another result")
            found = Parts(folder, count, suffix)
        except UserError:  # There are none, or none of use.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            write_sealed(folder / _ABOUT, wanted)
            found = Parts(folder, count, suffix)
        try:
            yield found
        except BaseException:
            if found.is_empty:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder)


def write_part(path: Path, write: Callable[[Path], None]) -> str:
    """Writes a part, whole or not at all; returns its SHA-256.

    Args:
      write: writes to the path that it is given.
    """
    with atomic_path(path) as temporary:
        write(temporary)
        return sha256_file(temporary)
