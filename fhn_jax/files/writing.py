"""Files and folders that appear whole or not at all."""

import contextlib
import ctypes
import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fhn_jax.errors import ExistingFileError, RefusedError
from fhn_jax.files.locks import lock, temporary_file, temporary_folder
from fhn_jax.files.reading import SEAL, checksum_of


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike, *, private: bool = False) -> Iterator[Path]:
    """Yields a temporary file in the folder of `path`, renamed to it on success.

    The file is synced to disk before the rename, and its folder after it, so that a
    crash leaves either the old file or the new one. On an exception the temporary file
    is removed; after a crash, the next process that writes into the folder removes it.

    Args:
      path: the file to write; its folder is created.
      private: whether it is for its owner alone.
    Yields:
      the temporary path to write to, which is private.
    """
    path = Path(path)
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path) as temporary, _naming(path, temporary):
            yield temporary
            # mkstemp makes files private; an artifact gets the permissions of any other.
            temporary.chmod(0o600 if private else 0o666 & ~_umask())
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        sync_folder(path.parent)


def refuse_existing(path: str | os.PathLike) -> None:
    """Raises FileExistsError if there is anything at `path`, which is kept."""
    if os.path.lexists(path):
        raise ExistingFileError(
            f"{path} exists and is left as it is; remove it, or choose another name"
        )


@contextlib.contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yields an empty folder beside `path`, renamed to it on success.

    On an exception it is removed, with all that was written into it; after a crash, the
    next process that writes beside it does that.

    Args:
      path: the folder to make; the folder that it lies in is created.
    Yields:
      the temporary folder to write into.
    Raises:
      FileExistsError: there is something at `path`.
      BusyError: another process makes the same folder.
    """
    path = Path(path)
    refuse_existing(path)
    with _naming(path), lock(path, "making it"), temporary_folder(path) as private:
        refuse_existing(path)
        new = (
            private / "new"
        )  # Private folders stay so; this one gets the usual rights.
        new.mkdir()
        yield new
        refuse_existing(path)
        new.rename(path)
        sync_folder(path.parent)


@contextlib.contextmanager
def replaced_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yields an empty folder beside `path`, which takes its place on success.

    Linux swaps the two in one step. Elsewhere there is no folder for a moment.

    Args:
      path: the folder to make or replace; the folder that it lies in is created.
    Raises:
      BusyError: another process makes the same folder.
    """
    path = Path(path)
    with _naming(path), lock(path, "making it"), temporary_folder(path) as private:
        new = private / "new"
        new.mkdir()
        yield new
        if path.exists() and _exchange(new, path):
            sync_folder(path.parent)
            return
        old = private / "old"
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
        sync_folder(path.parent)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes bytes, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


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


def write_sealed(path: str | os.PathLike, values: Mapping[str, Any]) -> None:
    """Writes a JSON object with its checksum in it, for `read_sealed`.

    Raises:
      ValueError: as `write_json`.
    """
    # As they will be read: keys are text there.
    as_read = json.loads(json.dumps(values, allow_nan=False))
    write_json(path, as_read | {SEAL: checksum_of(as_read)})


def reserve(path: str | os.PathLike, size: int) -> None:
    """Makes a file `size` bytes long, all of them on the disk.

    What is mapped into memory must have its place first: writing to a hole of a file on
    a full disk kills the process.

    Raises:
      OSError: there is no room.
    """
    with _naming(Path(path)), open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        # Not on every system, nor on every file system.
        except (AttributeError, OSError) as error:
            if getattr(error, "errno", None) not in (None, errno.EINVAL, errno.ENOTSUP):
                raise
            zeros = bytes(2**20)
            for start in range(0, size, len(zeros)):
                file.write(zeros[: size - start])


def require_room(path: str | os.PathLike, size: int, what: str) -> None:
    """Refuses what the disk cannot hold, before the work that makes it.

    Args:
      path: where it will be; need not be there yet.
      size: its bytes, or fewer.
      what: it is.
    Raises:
      RefusedError: less is free; says both sizes.
    """
    there = Path(path).absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if size > free:
        scale, unit = (2**30, "GiB") if size >= 2**30 else (2**20, "MiB")
        raise RefusedError(
            f"{path}: {what} needs {size / scale:,.2f} {unit}, and {free / scale:,.2f} "
            f"{unit} of the disk are free; make room or choose a folder on another disk"
        )


def unnamed_array(
    path: str | os.PathLike, shape: tuple[int, ...], dtype: type
) -> np.ndarray:
    """Zeros in a file without a name, mapped into memory: they may be larger than that.

    The place on the disk is free again when the array is gone, however the process ends.

    Args:
      path: the file lies in its folder, which is created.
      shape: of the array; not empty.
      dtype: of its values.
    Raises:
      OSError: there is no room.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_file(path) as temporary, _naming(path, temporary):
        reserve(temporary, math.prod(shape) * np.dtype(dtype).itemsize)
        return np.asarray(np.memmap(temporary, dtype, "r+", shape=shape))


def sync_folder(folder: str | os.PathLike) -> None:
    """Waits until the entries of a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with _naming(Path(folder)):
            os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot
            raise
    finally:
        os.close(handle)


def _exchange(a: Path, b: Path) -> bool:
    """Swaps what lies at two paths, in one step; whether the system can."""
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return rename(here, os.fsencode(a), here, os.fsencode(b), swap) == 0


@contextlib.contextmanager
def _naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Lets errors of the operating system name `path`, which the user knows."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            if error.filename in (None, str(temporary)):
                error.filename, error.filename2 = str(path), None
        raise


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def link_or_copy(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """The same file at another place: for files that are replaced, and never changed.

    Where the file system has no links, the target is a copy.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
