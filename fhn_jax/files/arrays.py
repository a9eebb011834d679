"""Folders of arrays with a manifest of their checksums."""

import contextlib
import dataclasses
import hashlib
import mmap
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped

from fhn_jax.errors import InputError, MissingFileError, UserError
from fhn_jax.files.locks import lock, sweep
from fhn_jax.files.reading import checksum_of, map_array, read_json, sha256_file
from fhn_jax.files.writing import atomic_path, new_folder, write_json

# Names that stay within the folder.
_ARRAY_NAME = re.compile(r"(?:[\w-]+/)*[\w-]+\.npy")


@dataclasses.dataclass(frozen=True)
class ArrayFormat:
    """What an `ArrayFolder` holds.

    Attributes:
      name: as its manifest has it, such as "fhn_jax.outfits".
      version: folders of other versions are refused.
      noun: for error messages, such as "an index of outfits".
      remedy: for error messages, what to do if a folder cannot be used.
      metadata: the type of each value that the manifest must have.
    """

    name: str
    version: int
    noun: str
    remedy: str
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class ArrayChange:
    """Arrays and metadata that an `ArrayFolder` is going to have.

    Attributes:
      path: of the folder.
      metadata: JSON values; may be edited.
    """

    def __init__(self, path: Path, metadata: dict[str, Any], files: dict[str, Any]):
        """Use `ArrayFolder.create` or `ArrayFolder.change`."""
        self.path = path
        self.metadata = metadata
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
        path = self.path / name
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            hashed = _Hashed(file)
            np.lib.format.write_array(hashed, np.asanyarray(array), allow_pickle=False)
        # Of what was meant, not of what can be read back.
        about = {"bytes": hashed.size, "sha256": hashed.digest.hexdigest()}
        self._files[name] = about
        return name

    def drop(self, name: str) -> None:
        """Leaves out an array, or all those in a subfolder."""
        for other in [n for n in self._files if n == name or n.startswith(f"{name}/")]:
            del self._files[other]


class _Hashed:
    """A file to write to that computes the checksum of what is written.

    It is no file to numpy, whose own way of writing arrays to files reports a full disk
    without saying so.
    """

    def __init__(self, file: BinaryIO):
        self._file, self.size, self.digest = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)


class ArrayFolder:
    """A folder of npy files, and a manifest with their sizes and checksums.

    Files are written once and never changed. `change` writes new files, replaces the
    manifest in one step, and then removes the files that it no longer names. A crash or
    a failed change therefore leaves the old arrays, and whoever has mapped an array that
    was removed keeps it. One process changes a folder at a time; what a crash left in it
    is removed by the next change.

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
        # Names of arrays whose checksum holds, and what was mapped of the others.
        self._checked: set[str] = set()
        self._unchecked: dict[str, mmap.mmap] = {}
        self._scattered: set[str] = set()

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
        self,
        name: str,
        dtype: np.dtype | type,
        *,
        verify: bool = False,
        scattered: bool = False,
    ) -> Shaped[np.ndarray, "..."]:
        """An array, mapped into memory; writing to it changes a copy.

        Args:
          name: of the file.
          dtype: what it must have.
          verify: whether to compare the checksum now, which reads the whole file;
            `verify_mapped` does it later. Sizes are compared in any case.
          scattered: whether single rows are read, far from each other; the system then
            leaves their neighbours on the disk.
        Raises:
          MissingFileError: the file is missing.
          InputError: it is damaged or of another type, or no such array is in the
            manifest.
        """
        path = self._check(name)
        # Copy-on-write: compiled loops take it as they take an array in memory, and
        # are not compiled a second time for read-only ones.
        array: Any = map_array(path, "c", self.kind.remedy)
        if name not in self._checked:
            # From the start of the file, header included.
            self._unchecked[name] = array._mmap
        if scattered:
            self._scattered.add(name)
            _advise(array._mmap, "MADV_RANDOM")
        if verify:
            self._verify_mapped(name)
        if array.dtype != dtype:
            raise InputError(f"{path} holds {array.dtype}, expected {np.dtype(dtype)}")
        return np.asarray(array)

    def verify_mapped(self) -> None:
        """Compares the checksums of the mapped arrays, of each once.

        What is compared is the memory, so it does not matter if others have removed the
        files meanwhile.

        Raises:
          InputError: a file is damaged.
        """
        for name in list(self._unchecked):
            self._verify_mapped(name)

    def _verify_mapped(self, name: str) -> None:
        mapped = self._unchecked.get(name)
        if mapped is None:
            return
        _advise(mapped, "MADV_NORMAL")
        self._compare(name, hashlib.sha256(mapped).hexdigest())
        if name in self._scattered:
            _advise(mapped, "MADV_RANDOM")
        self._checked.add(name)
        self._unchecked.pop(name, None)

    def verify(self) -> None:
        """Reads all files and compares their checksums.

        Raises:
          MissingFileError: a file is missing.
          InputError: a file is damaged.
        """
        for name in self._manifest["files"]:
            self._compare(name, sha256_file(self._check(name)))
            self._checked.add(name)
            self._unchecked.pop(name, None)

    def is_outdated(self) -> bool:
        """Whether the folder has been changed by others since it was opened."""
        try:
            return _read_manifest(self.path, self.kind) != self._manifest
        except (MissingFileError, InputError):
            return False

    @contextlib.contextmanager
    def change(self) -> Iterator[ArrayChange]:
        """Yields what changes the folder, when that has succeeded.

        Raises:
          BusyError: another process is changing the folder.
          InputError: the folder has been changed by others since it was opened.
        """
        with lock(self.path, "changing it"):
            with self._change() as change:
                yield change

    @contextlib.contextmanager
    def _change(self) -> Iterator[ArrayChange]:
        old = self._manifest
        if _read_manifest(self.path, self.kind) != old:
            raise InputError(
                f"{self.path} has been changed since it was opened; open it again"
            )
        self._remove_orphans()
        change = ArrayChange(self.path, dict(self.metadata), dict(old["files"]))
        try:
            yield change
            new = _manifest(self.kind, change)
            _write_manifest(self.path, new)
        except BaseException:
            # Which manifest is there decides: its rename may have been the last success.
            named: Any = {}
            with contextlib.suppress(UserError):
                named = _read_manifest(self.path, self.kind)["files"]
            _remove(self.path, [name for name in change._added if name not in named])
            raise
        self._manifest = new
        gone = (old["files"].keys() | change._added) - new["files"].keys()
        for name in gone:
            self._unchecked.pop(name, None)
        self._checked -= gone
        self._scattered -= gone
        _remove(self.path, gone)

    def _remove_orphans(self) -> None:
        """Removes what a crash has left: nobody else is at work here."""
        folders = [self.path, *_subfolders(self.path)]
        for folder in folders:
            sweep(folder)
        there = (path for folder in folders for path in folder.glob("*.npy"))
        names = (path.relative_to(self.path).as_posix() for path in there)
        _remove(self.path, [name for name in names if name not in self.sizes])
        for folder in reversed(folders[1:]):
            with contextlib.suppress(OSError):  # not empty, or gone
                folder.rmdir()

    def _check(self, name: str) -> Path:
        """The path of a file, after comparing its size with the manifest."""
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
        return path

    def _compare(self, name: str, found: str) -> None:
        if found != self._manifest["files"][name]["sha256"]:
            raise InputError(
                f"{self.path / name}: its checksum is wrong, it is damaged; "
                f"{self.kind.remedy}"
            )


def _advise(mapped: mmap.mmap, advice: str) -> None:
    """Says how a file will be read, where the system can be told."""
    if hasattr(mmap, advice):
        mapped.madvise(getattr(mmap, advice))


def _subfolders(folder: Path) -> Iterator[Path]:
    """Those below a folder, but for what belongs to a manifest of its own."""
    for path in folder.iterdir():
        if path.is_dir() and not (path / "manifest.json").is_file():
            yield path
            yield from _subfolders(path)


def _manifest(kind: ArrayFormat, change: ArrayChange) -> dict[str, Any]:
    head = {"format": kind.name, "version": kind.version}
    return head | change.metadata | {"files": change._files}


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    checksum = {"checksum": checksum_of(manifest)}
    write_json(folder / "manifest.json", dict(manifest) | checksum)


def _read_manifest(folder: Path, kind: ArrayFormat) -> dict[str, Any]:
    path, remedy = folder / "manifest.json", kind.remedy
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file, expected {kind.noun}; {remedy}")
    manifest = read_json(path, dict, remedy)
    found = manifest.get("format")
    if found != kind.name:
        raise InputError(f"{path}: format is {found!r}, expected {kind.name!r}")
    version = manifest.get("version")
    if version != kind.version:
        raise InputError(
            f"{path}: version is {version!r}, expected {kind.version}; {remedy}"
        )
    checksum = manifest.pop("checksum", None)
    if checksum != checksum_of(manifest):
        raise InputError(f"{path}: its checksum is wrong, it is damaged; {remedy}")
    # The checksum says that it was written so, and not by whom.
    for key, type_ in {"files": dict, **kind.metadata}.items():
        if key not in manifest or not isinstance(manifest[key], type_):
            raise InputError(
                f"{path}: {key} is {str(manifest.get(key))[:60]!r}, expected {type_}; "
                f"{remedy}"
            )
    for name, about in manifest["files"].items():
        if not _ARRAY_NAME.fullmatch(name):
            raise InputError(f"{path} names {name!r}, no file of {kind.noun}; {remedy}")
        sizes = about.get("bytes") if isinstance(about, dict) else None
        if type(sizes) is not int or not isinstance(about.get("sha256"), str):
            raise InputError(f"{path}: {name} has no size and checksum; {remedy}")
    return manifest


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Removes files, and the subfolders that they leave empty."""
    for name in names:
        path = folder / name
        path.unlink(missing_ok=True)
        if path.parent != folder:
            with contextlib.suppress(OSError):  # not empty, or gone
                path.parent.rmdir()
