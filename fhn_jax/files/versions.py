"""Numbered versions of something, one of which is current."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fhn_jax.errors import InputError
from fhn_jax.files.locks import lock
from fhn_jax.files.writing import new_folder, sync_folder

_CURRENT = "current"
_KEPT = 5


class Versions:
    """A folder of versions `1`, `2`, …, and a link `current` to one of them.

    A version never changes once it is there. The link is replaced in one step, so readers
    find the old version or the new one, and whoever has one open keeps it.

    >>> versions = Versions(Path(tempfile.mkdtemp()) / "published")
    >>> for text in ("old", "new"):
    ...     with versions.publish() as new:
    ...         _ = (new / "text").write_text(text)
    >>> versions.current.name, (versions.current / "text").read_text()
    ('2', 'new')
    >>> versions.rollback()
    1
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    @property
    def current(self) -> Path | None:
        """The folder of the current version, None if there is none."""
        try:
            return self.folder / os.readlink(self.folder / _CURRENT)
        except FileNotFoundError:
            return None

    @property
    def numbers(self) -> list[int]:
        """The versions that are there, in order."""
        there = [path.name for path in self.folder.glob("[1-9]*")]
        return sorted(int(name) for name in there if name.isdigit())

    @contextlib.contextmanager
    def publish(self) -> Iterator[Path]:
        """Yields an empty folder, which becomes the current version on success.

        Raises:
          BusyError: another process publishes.
        """
        with lock(self.folder, "publishing"):
            number = (self.numbers or [0])[-1] + 1
            with new_folder(self.folder / str(number)) as new:
                yield new
            self._point_to(number)
            self._prune(number)

    def rollback(self, prepare: Callable[[Path, Path], None] | None = None) -> int:
        """Makes the version before the current one current; returns its number.

        Args:
          prepare: gets that version and the current one, before it becomes current.
        Raises:
          InputError: there is none.
          BusyError: another process publishes.
        """
        with lock(self.folder, "publishing"):
            current = self.current
            older = [n for n in self.numbers if current and n < int(current.name)]
            if not older:
                raise InputError(
                    f"{self.folder} has no version before the current one; there are "
                    f"{self.numbers or 'none'}"
                )
            if prepare is not None and current is not None:
                prepare(self.folder / str(older[-1]), current)
            self._point_to(older[-1])
            return older[-1]

    def remove_older(self) -> int:
        """Removes all versions but the current one; returns how many.

        Raises:
          BusyError: another process publishes.
        """
        with lock(self.folder, "publishing"):
            current = self.current
            others = [n for n in self.numbers if current and str(n) != current.name]
            for number in others:
                shutil.rmtree(self.folder / str(number))
            return len(others)

    def _point_to(self, number: int) -> None:
        with tempfile.TemporaryDirectory(".tmp", ".link.", self.folder) as private:
            link = Path(private, _CURRENT)
            link.symlink_to(str(number))
            link.replace(self.folder / _CURRENT)
        sync_folder(self.folder)

    def _prune(self, current: int) -> None:
        """Removes the oldest, so that a few are left to go back to."""
        older = [number for number in self.numbers if number < current]
        for number in older[: 1 - _KEPT]:
            shutil.rmtree(self.folder / str(number), ignore_errors=True)
