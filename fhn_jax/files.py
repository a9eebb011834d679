"""Files that appear whole or not at all, and their checksums."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fhn_jax.errors import ExistingFileError


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary file in the folder of `path`, renamed to it on success.

    The file is synced to disk before the rename, so that a crash leaves either the old
    file or the new one. On an exception the temporary file is removed.

    Args:
      path: the file to write; its folder is created.
    Yields:
      the temporary path to write to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; an artifact gets the permissions of any other.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_existing(path: str | os.PathLike) -> None:
    """Raises FileExistsError if there is anything at `path`, which is kept."""
    if os.path.lexists(path):
        raise ExistingFileError(
            f"{path} exists and is left as it is; remove it, or choose another name"
        )


@contextlib.contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yields an empty folder beside `path`, renamed to it on success.

    On an exception it is removed, with all that was written into it.

    Args:
      path: the folder to make; the folder that it lies in is created.
    Yields:
      the temporary folder to write into.
    Raises:
      FileExistsError: there is something at `path`.
    """
    path = Path(path)
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Folders of mkdtemp are private; the one within gets the usual permissions.
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}.", dir=path.parent
    ) as private:
        new = Path(private) / "new"
        new.mkdir()
        yield new
        refuse_existing(path)
        new.rename(path)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all.

    Raises:
      ValueError: `value` holds a NaN or an infinity, which JSON cannot say.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256_file(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
