"""Files that appear whole or not at all, and folders of arrays with checksums."""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from fhn_jax.errors import ExistingFileError, InputError, MissingFileError


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


# Names that stay within the folder.
_ARRAY_NAME = re.compile(r"(?:[\w-]+/)*[\w-]+\.npy")


@dataclass(frozen=True)
class ArrayFormat:
    """What an `ArrayFolder` holds.

    Attributes:
      name: as its manifest has it, such as "fhn_jax.outfits".
      version: folders of other versions are refused.
      noun: for error messages, such as "an index of outfits".
      remedy: for error messages, what to do if a folder cannot be used.
    """

    name: str
    version: int
    noun: str
    remedy: str


class ArrayChange:
    """Arrays and metadata that an `ArrayFolder` is going to have.

    Attributes:
      metadata: JSON values; may be edited.
    """

    def __init__(self, path: Path, metadata: dict[str, Any], files: dict[str, Any]):
        """Use `ArrayFolder.create` or `ArrayFolder.change`."""
        self.metadata = metadata
        self._path = path
        self._files = files
        self._added: list[str] = []

    def add(self, name: str, array: Shaped[np.ndarray, "..."]) -> str:
        """Writes an array.

        Args:
          name: of its file, new and ending in ".npy"; may lie in a subfolder.
        Returns:
          the name.
        """
        if name in self._files or not _ARRAY_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a new npy file")
        # Noted before it is there, so that it is removed if writing it fails.
        self._added.append(name)
        path = self._path / name
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.save(file, array, allow_pickle=False)
        about = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        self._files[name] = about
        return name

    def drop(self, name: str) -> None:
        """Leaves out an array, or all those in a subfolder."""
        for other in [n for n in self._files if n == name or n.startswith(f"{name}/")]:
            del self._files[other]


class ArrayFolder:
    """A folder of npy files, and a manifest with their sizes and checksums.

    Files are written once and never changed. `change` writes new files, replaces the
    manifest in one step, and then removes the files that it no longer names. A crash or
    a failed change therefore leaves the old arrays, and whoever has mapped an array that
    was removed keeps it.

    >>> import numpy as np, tempfile
    >>> kind = ArrayFormat("example", 1, "an example", "make it again")
    >>> path = Path(tempfile.mkdtemp()) / "arrays"
    >>> with ArrayFolder.create(path, kind) as new:
    ...     new.metadata["seed"] = 7
    ...     _ = new.add("squares.npy", np.arange(4) ** 2)
    >>> folder = ArrayFolder.open(path, kind)
    >>> folder.metadata["seed"], folder.map("squares.npy", np.int64)
    (7, array([0, 1, 4, 9]))
    """

    def __init__(self, path: Path, kind: ArrayFormat, manifest: Mapping[str, Any]):
        """Use `open`."""
        self.path = path
        self.kind = kind
        self._manifest = manifest

    @classmethod
    @contextlib.contextmanager
    def create(
        cls, path: str | os.PathLike, kind: ArrayFormat
    ) -> Iterator[ArrayChange]:
        """Yields what fills a new folder, which appears when that has succeeded.

        Raises:
          ExistingFileError: there is something at `path`.
        """
        with new_folder(path) as folder:
            change = ArrayChange(folder, {}, {})
            yield change
            _write_manifest(folder, _manifest(kind, change))

    @classmethod
    def open(cls, path: str | os.PathLike, kind: ArrayFormat) -> "ArrayFolder":
        """Reads the manifest of a folder.

        Raises:
          MissingFileError: there is no manifest.
          InputError: it is damaged, or of another format or version.
        """
        return cls(Path(path), kind, _read_manifest(Path(path), kind))

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the manifest says beside the files."""
        own = ("format", "version", "files")
        return {key: v for key, v in self._manifest.items() if key not in own}

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name."""
        return {name: about["bytes"] for name, about in self._manifest["files"].items()}

    def map(
        self, name: str, dtype: np.dtype | type, *, verify: bool = False
    ) -> Shaped[np.ndarray, "..."]:
        """An array, mapped into memory; writing to it changes a copy.

        Args:
          name: of the file.
          dtype: what it must have.
          verify: whether to compare the checksum, which reads the whole file; sizes are
            compared in any case.
        Raises:
          MissingFileError: the file is missing.
          InputError: it is damaged or of another type, or no such array is in the
            manifest.
        """
        path = self._check(name, verify)
        try:
            # Copy-on-write: compiled loops take it as they take an array in memory, and
            # are not compiled a second time for read-only ones.
            array = np.load(path, mmap_mode="c", allow_pickle=False)
        except ValueError as error:
            raise InputError(
                f"{path}: not an npy file ({error}); {self.kind.remedy}"
            ) from None
        if array.dtype != dtype:
            raise InputError(f"{path} holds {array.dtype}, expected {np.dtype(dtype)}")
        return np.asarray(array)

    def verify(self) -> None:
        """Reads all files and compares their checksums.

        Raises:
          MissingFileError: a file is missing.
          InputError: a file is damaged.
        """
        for name in self._manifest["files"]:
            self._check(name, True)

    @contextlib.contextmanager
    def change(self) -> Iterator[ArrayChange]:
        """Yields what changes the folder, when that has succeeded.

        Raises:
          InputError: the folder has been changed by others since it was opened.
        """
        old = self._manifest
        if _read_manifest(self.path, self.kind) != old:
            raise InputError(
                f"{self.path} has been changed since it was opened; open it again"
            )
        change = ArrayChange(self.path, dict(self.metadata), dict(old["files"]))
        try:
            yield change
            new = _manifest(self.kind, change)
            _write_manifest(self.path, new)
        except BaseException:
            _remove(self.path, change._added)
            raise
        self._manifest = new
        _remove(self.path, (old["files"].keys() | change._added) - new["files"].keys())

    def _check(self, name: str, whole: bool) -> Path:
        """Compares the size of a file with the manifest, and if `whole` its checksum."""
        path, remedy = self.path / name, self.kind.remedy
        about = self._manifest["files"].get(name)
        if about is None:
            raise InputError(f"{self.path}: its manifest lacks {name}; {remedy}")
        if not path.is_file():
            raise MissingFileError(
                f"{path}: no such file, it is part of {self.kind.noun}; {remedy}"
            )
        size = path.stat().st_size
        if size != about["bytes"]:
            raise InputError(
                f"{path} has {size:,} bytes, expected {about['bytes']:,}: it is cut off "
                f"or was changed; {remedy}"
            )
        if whole and sha256_file(path) != about["sha256"]:
            raise InputError(f"{path}: its checksum is wrong, it is damaged; {remedy}")
        return path


def _manifest(kind: ArrayFormat, change: ArrayChange) -> dict[str, Any]:
    head = {"format": kind.name, "version": kind.version}
    return head | change.metadata | {"files": change._files}


def _checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    checksum = {"checksum": _checksum(manifest)}
    write_json(folder / "manifest.json", dict(manifest) | checksum)


def _read_manifest(folder: Path, kind: ArrayFormat) -> dict[str, Any]:
    path, remedy = folder / "manifest.json", kind.remedy
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file, expected {kind.noun}; {remedy}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); {remedy}") from None
    found = manifest.get("format") if isinstance(manifest, dict) else manifest
    if found != kind.name:
        raise InputError(f"{path}: format is {found!r}, expected {kind.name!r}")
    version = manifest.get("version")
    if version != kind.version:
        raise InputError(
            f"{path}: version is {version!r}, expected {kind.version}; {remedy}"
        )
    checksum = manifest.pop("checksum", None)
    if checksum != _checksum(manifest):
        raise InputError(f"{path}: its checksum is wrong, it is damaged; {remedy}")
    for name in manifest["files"]:
        if not _ARRAY_NAME.fullmatch(name):
            raise InputError(f"{path} names {name!r}, no file of {kind.noun}; {remedy}")
    return manifest


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Removes files, and the subfolders that they leave empty."""
    for name in names:
        path = folder / name
        path.unlink(missing_ok=True)
        if path.parent != folder:
            with contextlib.suppress(OSError):  # not empty, or gone
                path.parent.rmdir()
