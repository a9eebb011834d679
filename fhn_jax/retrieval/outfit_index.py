"""Exact search for the best of millions of stored outfits.

An index is a folder of memory-mapped arrays beside a manifest that names them:

  manifest.json     which codes, which files, their sizes and checksums
  layout/           the order of the items (see `fhn_jax.retrieval.blocks`)
  segment-N/        outfits in blocks; each `append` adds a segment
  removed-N.npy     sorted ids of the outfits that were removed

Files are written once and never changed. Every change writes new files and then
replaces the manifest in one step, so a crash or a failed call leaves the old index.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from fhn_jax import files
from fhn_jax.codes import Codes
from fhn_jax.errors import ExistingFileError, InputError, MissingFileError
from fhn_jax.retrieval import blocks, kernels, searcher
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.searcher import Searcher

FORMAT = "fhn_jax.outfits"
VERSION = 2

_REMEDY = "build it again with OutfitIndex.build"
_MAX_OUTFITS = 2**32
_DTYPES = {
    "items": np.uint16,
    "compatibilities": np.int32,
    "outfits": np.uint32,
    "starts": np.int64,
    "tops": np.int32,
    "ranges": np.int32,
}
_FILE = re.compile(
    rf"layout/(order|ranges)\.npy|segment-\d+/({'|'.join(_DTYPES)})\.npy|"
    r"removed-\d+\.npy"
)
# Read whole, and checked, when an index is opened; the others are mapped.
_SMALL = ("starts", "tops", "ranges")


class OutfitIndex(Searcher):
    """Stored outfits, searched exactly for any user of some codes.

    An outfit's id is its place in the order in which outfits were given: those of
    `build` from 0, those of each `append` after them. Ids are never used again.

    Scores are those of `ItemTables`. Users are no part of an index, so codes with other
    or more users of the same items may open it.

    Make one with `build`, or `open` one that was built. An index in memory goes on
    showing what it showed when it was opened, except for changes made through itself.
    """

    def __init__(self, folder: Path, tables: ItemTables, manifest: Mapping[str, Any]):
        """Use `build` or `open`."""
        self._folder = folder
        self._load(tables, manifest)

    def _load(self, tables: ItemTables, manifest: Mapping[str, Any]) -> None:
        self._manifest = manifest
        layout = _read_layout(self._folder, manifest, tables)
        removed = np.empty(0, np.int64)
        if manifest["removed"]:
            removed = _map(self._folder, manifest, manifest["removed"], np.int64)
        super().__init__(
            tables,
            layout,
            [
                _read_segment(self._folder, manifest, name, layout)
                for name in manifest["segments"]
            ],
            removed,
            manifest["outfits"],
        )

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike,
        codes: Codes,
        outfits: Shaped[np.ndarray, "..."],
        *,
        seed: int = 0,
    ) -> "OutfitIndex":
        """Builds the index of some outfits in a new folder.

        How finely items are clustered is decided by trying it: searches for a few
        users are timed on a sample of the outfits. It changes the time a search takes
        and nothing else.

        Args:
          folder: appears when the index is whole.
          codes: of the items.
          outfits: an item id for each slot of `codes`, where a missing second item of a
            category is the first one again.
          seed: of the clusters and the sample.
        Raises:
          FileExistsError: the folder is there.
          ValueError: an item id out of range, or another number of slots.
        """
        folder = Path(folder)
        if folder.exists():
            raise ExistingFileError(
                f"{folder} exists; remove it to build anew, or open it and append"
            )
        tables = ItemTables.from_codes(codes)
        items = searcher.check_outfits(codes, outfits)
        _check_number(len(items))
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            layout, trials = searcher.choose_layout(tables, items, seed)
            writer = _Writer(temporary)
            writer.add("layout/order.npy", layout.order)
            writer.add("layout/ranges.npy", layout.range_starts)
            segments = []
            if len(items):
                ids = np.arange(len(items))
                segments = [
                    writer.add_segment(1, searcher.arrange(tables, layout, items, ids))
                ]
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "codes": tables.item_fingerprint,
                "slots": len(codes.slots),
                "coarse_ranges": layout.num_coarse,
                "trials": trials,
                "outfits": len(items),
                "live": len(items),
                "changes": 1,
                "segments": segments,
                "removed": None,
                "files": writer.files,
            }
            _write_manifest(temporary, manifest)
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o777 & ~umask)
            os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return cls.open(folder, codes)

    @classmethod
    def open(cls, folder: str | os.PathLike, codes: Codes) -> "OutfitIndex":
        """Opens an index without reading its outfits, which are mapped into memory.

        The manifest, the layout and the blocks' bounds are checked by checksum, the
        outfits' files by size only; `verify` reads and checks all.

        Raises:
          FileNotFoundError: no index in this folder, or a file of it is missing.
          ValueError: a damaged index, or one of other codes.
        """
        folder = Path(folder)
        tables = ItemTables.from_codes(codes)
        manifest = _read_manifest(folder)
        if manifest["codes"] != tables.item_fingerprint:
            raise InputError(
                f"{folder} is an index of other codes: of items, pair weights or slots "
                f"with checksum {manifest['codes'][:12]}, not "
                f"{tables.item_fingerprint[:12]}; open it with the codes it was built "
                f"from, or {_REMEDY}"
            )
        return cls(folder, tables, manifest)

    def __len__(self) -> int:
        """How many outfits can be found."""
        return self._manifest["live"]

    @property
    def tables(self) -> ItemTables:
        """How outfits are scored."""
        return self._tables

    @property
    def num_bytes(self) -> int:
        """Bytes of all files of the index."""
        return sum(about["bytes"] for about in self._manifest["files"].values())

    @property
    def bytes_each(self) -> tuple[float, float]:
        """Bytes that an outfit takes in files, and an item in files and memory."""
        sizes = {
            name: about["bytes"] for name, about in self._manifest["files"].items()
        }
        layout = sum(n for name, n in sizes.items() if name.startswith("layout/"))
        items = layout + self._packed.nbytes
        if self._scales is not None:
            items += self._scales.nbytes
        return (
            (self.num_bytes - layout) / max(self._num_stored, 1),
            items / max(len(self._packed), 1),
        )

    @property
    def trials(self) -> Mapping[str, float]:
        """Seconds a search took in trials at build time, by clusters per category."""
        return self._manifest["trials"]

    def verify(self) -> None:
        """Reads the whole index and compares checksums.

        Raises:
          ValueError: a file is damaged.
        """
        for name in self._manifest["files"]:
            _check_file(self._folder, self._manifest, name, whole=True)

    def append(self, outfits: Shaped[np.ndarray, "..."]) -> range:
        """Adds outfits, as a segment of their own.

        Many small segments make searches slower; `compact` makes them one.

        Returns:
          their ids.
        Raises:
          ValueError: as `build`; more than 2**32 outfits; or the index has been changed
            by another process since it was opened.
        """
        items = searcher.check_outfits(self._tables.codes, outfits)
        first = self._manifest["outfits"]
        ids = range(first, first + len(items))
        _check_number(ids.stop)
        if not len(items):
            return ids
        segment = searcher.arrange(self._tables, self._layout, items, np.array(ids))
        with self._change() as (manifest, writer):
            name = writer.add_segment(manifest["changes"], segment)
            manifest["segments"] = [*manifest["segments"], name]
            manifest["outfits"] = ids.stop
            manifest["live"] += len(ids)
        return ids

    def remove(self, outfits: Sequence[int] | Int[np.ndarray, " n"]) -> None:
        """Removes outfits by id; their space is freed by `compact`.

        Raises:
          ValueError: an unknown or removed id; or the index has been changed by another
            process since it was opened.
        """
        ids = self._check_ids(outfits)
        gone = ids[np.isin(ids, self._removed)]
        if gone.size:
            raise InputError(f"outfit {gone[0]} has been removed already")
        if ids.size:
            with self._change() as (manifest, writer):
                manifest["removed"] = writer.add(
                    f"removed-{manifest['changes']}.npy",
                    np.union1d(self._removed, ids),
                )
                manifest["live"] -= len(ids)

    def compact(self) -> None:
        """Makes all segments one, without the removed outfits; ids stay as they are.

        Raises:
          ValueError: the index has been changed by another process since it was opened.
        """
        stored = [np.asarray(segment.outfits) for segment in self._segments]
        outfits = np.concatenate([*stored, np.empty(0, np.uint32)])
        places = np.flatnonzero(~np.isin(outfits, self._removed))
        with self._change() as (manifest, writer):
            manifest["segments"] = []
            if places.size:
                segment = searcher.arrange(
                    self._tables,
                    self._layout,
                    self._items(places),
                    outfits[places].astype(np.int64),
                )
                name = writer.add_segment(manifest["changes"], segment)
                manifest["segments"] = [name]

    @contextlib.contextmanager
    def _change(self) -> Iterator[tuple[dict[str, Any], "_Writer"]]:
        """Yields a copy of the manifest to change, and what writes files for it.

        Files that the old manifest alone names are removed after the new one is there;
        whoever has mapped them keeps them. If the change fails, its own are removed.
        """
        old = self._manifest
        if _read_manifest(self._folder) != old:
            raise InputError(
                f"{self._folder} has been changed since it was opened; open it again"
            )
        new = old | {"changes": old["changes"] + 1}
        writer = _Writer(self._folder)
        try:
            yield new, writer
            kept = ("layout", new["removed"], *new["segments"])
            every = old["files"] | writer.files
            new["files"] = {
                name: about
                for name, about in every.items()
                if name in kept or name.partition("/")[0] in kept
            }
            _write_manifest(self._folder, new)
        except BaseException:
            _remove(self._folder, writer.files.keys() - old["files"].keys())
            raise
        _remove(self._folder, old["files"].keys() - new["files"].keys())
        self._load(self._tables, new)


class _Writer:
    """Writes arrays into a folder and keeps what a manifest says of them."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.files: dict[str, dict[str, Any]] = {}

    def add(self, name: str, array: np.ndarray) -> str:
        """Writes an array as npy; returns its name."""
        path = self._folder / name
        # Known before it is there, so that it is removed if writing it fails.
        self.files[name] = {}
        with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.save(file, array, allow_pickle=False)
        self.files[name] = {
            "bytes": path.stat().st_size,
            "sha256": files.sha256_file(path),
        }
        return name

    def add_segment(self, number: int, segment: kernels.Blocks) -> str:
        """Writes the arrays of a segment; returns its name."""
        name = f"segment-{number}"
        for key in _DTYPES:
            self.add(f"{name}/{key}.npy", getattr(segment, key))
        return name


def _check_number(count: int) -> None:
    if count > _MAX_OUTFITS:
        raise InputError(
            f"{count:,} outfits, expected {_MAX_OUTFITS:,} at most in one index; "
            "start another index"
        )


def _remove(folder: Path, names) -> None:
    for name in names:
        path = folder / name
        path.unlink(missing_ok=True)
        if (
            path.parent != folder
            and path.parent.is_dir()
            and not any(path.parent.iterdir())
        ):
            path.parent.rmdir()


def _checksum(manifest: Mapping[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    files.write_json(
        folder / "manifest.json", dict(manifest) | {"checksum": _checksum(manifest)}
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no such file, expected an index of outfits; {_REMEDY}"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); {_REMEDY}") from None
    found = manifest.get("format") if isinstance(manifest, dict) else manifest
    if found != FORMAT:
        raise InputError(f"{path}: format is {found!r}, expected {FORMAT!r}")
    if manifest.get("version") != VERSION:
        raise InputError(
            f"{path}: version is {manifest.get('version')!r}, expected {VERSION}; "
            f"{_REMEDY}"
        )
    checksum = manifest.pop("checksum", None)
    if checksum != _checksum(manifest):
        raise InputError(f"{path}: its checksum is wrong, it is damaged; {_REMEDY}")
    wrong = [name for name in manifest["files"] if not _FILE.fullmatch(name)]
    if wrong:
        raise InputError(f"{path} names {wrong[0]!r}, no file of an index; {_REMEDY}")
    return manifest


def _check_file(folder: Path, manifest, name: str, *, whole: bool) -> Path:
    """Checks the size of a file, and if `whole` its contents."""
    path, about = folder / name, manifest["files"][name]
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no such file, it is part of an index; {_REMEDY}"
        )
    size = path.stat().st_size
    if size != about["bytes"]:
        raise InputError(
            f"{path} has {size:,} bytes, expected {about['bytes']:,}: it is cut off or "
            f"was changed; {_REMEDY}"
        )
    if whole and files.sha256_file(path) != about["sha256"]:
        raise InputError(f"{path}: its checksum is wrong, it is damaged; {_REMEDY}")
    return path


def _map(folder: Path, manifest, name: str, dtype, *, whole=False) -> np.ndarray:
    path = _check_file(folder, manifest, name, whole=whole)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{path}: not an npy file ({error}); {_REMEDY}") from None
    if array.dtype != dtype:
        raise InputError(f"{path} holds {array.dtype}, expected {np.dtype(dtype)}")
    return np.asarray(array)


def _read_layout(folder: Path, manifest, tables: ItemTables) -> blocks.Layout:
    order = _map(folder, manifest, "layout/order.npy", np.int32, whole=True)
    ranges = _map(folder, manifest, "layout/ranges.npy", np.int64, whole=True)
    layout = blocks.Layout(
        order=order,
        category_starts=np.concatenate([[0], np.cumsum(tables.codes.num_items)]),
        range_starts=ranges,
        num_coarse=manifest["coarse_ranges"],
    )
    starts = layout.category_starts
    sizes = np.repeat(np.diff(starts), np.diff(starts))
    _expect(
        folder / "layout",
        order.shape == sizes.shape
        and ((order >= 0) & (order < sizes)).all()
        and 0 <= layout.num_coarse < max(ranges.size, 1)
        and ((ranges[:-1] >= 0) & (ranges[:-1] < max(len(order), 1))).all()
        and ranges[-1] == len(order),
    )
    return layout


def _read_segment(folder: Path, manifest, name: str, layout) -> kernels.Blocks:
    arrays = {
        key: _map(folder, manifest, f"{name}/{key}.npy", dtype, whole=key in _SMALL)
        for key, dtype in _DTYPES.items()
    }
    ranges = arrays["ranges"]
    _expect(folder / name, ranges.ndim == 2)
    segment = kernels.Blocks(
        **arrays, groups=blocks.groups_of(ranges), range_starts=layout.range_starts
    )
    count, slots = len(segment.outfits), manifest["slots"]
    starts = segment.starts
    # Compiled loops do not look whether a place is there.
    _expect(
        folder / name,
        segment.items.shape == (count, slots)
        and segment.compatibilities.shape == segment.outfits.shape == (count,)
        and ranges.shape == (len(starts) - 1, slots)
        and segment.tops.shape == (len(starts) - 1,)
        and starts[0] == 0
        and starts[-1] == count
        and (np.diff(starts) > 0).all()
        and ((ranges >= 0) & (ranges < len(layout.range_starts) - 1)).all(),
    )
    return segment


def _expect(path: Path, holds: bool | np.bool_) -> None:
    if not holds:
        raise InputError(f"{path}: its arrays do not fit each other; {_REMEDY}")
