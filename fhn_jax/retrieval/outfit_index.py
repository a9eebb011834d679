"""Exact search for the best of millions of stored outfits.

An index is a `fhn_jax.files.ArrayFolder`:

  manifest.json     which codes, which files, their sizes and checksums
  layout/           the order of the items (see `fhn_jax.retrieval.blocks`)
  segment-N/        outfits in blocks; each `append` adds a segment for every template
  removed-N.npy     sorted ids of the outfits that were removed
  attributes/       of the items, if there are any: see `fhn_jax.retrieval.attributes`
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from fhn_jax import files
from fhn_jax.codes import Codes
from fhn_jax.errors import InputError, MissingFileError, UserError
from fhn_jax.files import ArrayChange, ArrayFolder
from fhn_jax.retrieval import blocks, kernels, searcher
from fhn_jax.retrieval.arguments import check_outfits, outfit_ids
from fhn_jax.retrieval.attributes import Attributes, Values
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.outfit_search import Hits
from fhn_jax.retrieval.searcher import Searcher

FORMAT = files.ArrayFormat(
    name="fhn_jax.outfits",
    version=2,
    noun="an index of outfits",
    remedy="build it again with OutfitIndex.build",
    metadata={
        "codes": str,
        "coarse_ranges": int,
        "segments": list,
        "removed": str | None,
        "outfits": int,
        "live": int,
        "changes": int,
    },
)

_ATTRIBUTES = "attributes"
_MAX_OUTFITS = 2**32
_DTYPES = {
    "items": np.uint16,
    "compatibilities": np.int32,
    "outfits": np.uint32,
    "starts": np.int64,
    "tops": np.int32,
    "ranges": np.int32,
}
# Checked when an index is opened; the others are mapped, and checked by the first search.
_SMALL = ("starts", "tops", "ranges")


class OutfitIndex(Searcher):
    """Stored outfits, searched exactly for any user of some codes.

    An outfit's id is its place in the order in which outfits were given: those of
    `build` from 0, those of each `append` after them. Ids are never used again.

    Scores are those of `ItemTables`. Users are no part of an index, so codes with other
    or more users of the same items may open it.

    Make one with `build`, or `open` one that was built. An index in memory goes on
    showing what it showed when it was opened, except for changes made through itself.

    >>> import tempfile
    >>> rng = np.random.default_rng(0)
    >>> vectors = {name: rng.normal(size=(100, 64)) for name in ("top", "shoe")}
    >>> codes = Codes.from_embeddings(vectors, users=rng.normal(size=(4, 64)))
    >>> outfits = rng.integers(100, size=(1000, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = OutfitIndex.build(f"{folder}/index", codes, outfits)
    ...     hits = index.search(3, 5)
    >>> hits.items.shape
    (5, 2)
    """

    def __init__(self, folder: ArrayFolder, tables: ItemTables, verify: bool):
        """Use `build` or `open`."""
        self._folder, self._verify = folder, verify
        self.attributes = None
        with contextlib.suppress(MissingFileError):
            self.attributes = Attributes.open(folder.path / _ATTRIBUTES, tables.codes)
        self._load(tables)

    def _load(self, tables: ItemTables) -> None:
        folder, metadata = self._folder, self._folder.metadata
        layout = _read_layout(folder, tables)
        removed = np.empty(0, np.int64)
        if metadata["removed"]:
            removed = folder.map(metadata["removed"], np.int64)
        super().__init__(
            tables,
            layout,
            [
                _read_segment(folder, name, tables, layout)
                for name in metadata["segments"]
            ],
            removed,
            metadata["outfits"],
            self.attributes,
        )

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike,
        codes: Codes,
        outfits: Shaped[np.ndarray, "..."],
        *,
        seed: int = 0,
        attributes: Values | None = None,
    ) -> "OutfitIndex":
        """Builds the index of some outfits in a new folder.

        How finely items are clustered is decided by trying it: searches for a few
        users are timed on a sample of the outfits. It changes the time a search takes
        and nothing else.

        Args:
          folder: appears when the index is whole.
          codes: of the items.
          outfits: an item id for each slot of `codes`, where a missing second item of a
            category is the first one again; -1 where an outfit's template has no such
            slot.
          seed: of the clusters and the sample.
          attributes: what filters by attributes go by: name -> a value for each item,
            one category after the other; `index.attributes` changes them.
        Raises:
          FileExistsError: the folder is there.
          BusyError: another process builds it.
          ValueError: an item id out of range, another number of slots, or attributes of
            more or fewer items.
        """
        files.refuse_existing(folder)
        tables = ItemTables.from_codes(codes)
        items = check_outfits(codes, outfits)
        _check_number(len(items))
        with ArrayFolder.create(folder, FORMAT) as new:
            layout, trials = searcher.choose_layout(tables, items, seed)
            new.metadata = {
                "codes": tables.item_fingerprint,
                "slots": len(codes.slots),
                "coarse_ranges": layout.num_coarse,
                "trials": trials,
                "outfits": len(items),
                "live": len(items),
                "changes": 1,
                "segments": [],
                "removed": None,
            }
            new.add("layout/order.npy", layout.order)
            new.add("layout/ranges.npy", layout.range_starts)
            ids = np.arange(len(items))
            _add_segments(new, searcher.arrange_each(tables, layout, items, ids))
            if attributes is not None:
                Attributes.create(new.path / _ATTRIBUTES, codes, attributes)
        return cls.open(folder, codes)

    @classmethod
    def open(
        cls, folder: str | os.PathLike, codes: Codes, *, verify: bool = True
    ) -> "OutfitIndex":
        """Opens an index without reading its outfits, which are mapped into memory.

        The checksums of the manifest, the layout and the blocks' bounds are compared
        now, those of the outfits by the first search, which reads all of them once.

        Args:
          folder: of the index.
          codes: of the items.
          verify: False leaves out the latter, for an index that was verified before it
            was copied to many machines; sizes are compared even so.
        Raises:
          FileNotFoundError: no index in this folder, or a file of it is missing.
          ValueError: a damaged index, or one of other codes.
        """
        tables = ItemTables.from_codes(codes)
        while True:
            opened = ArrayFolder.open(folder, FORMAT)
            try:
                return cls._of(opened, tables, verify)
            except UserError:
                # Another process may have removed what this manifest names.
                if not opened.is_outdated():
                    raise

    @classmethod
    def _of(
        cls, opened: ArrayFolder, tables: ItemTables, verify: bool
    ) -> "OutfitIndex":
        found = opened.metadata["codes"]
        if found != tables.item_fingerprint:
            raise InputError(
                f"{opened.path} is an index of other codes: of items, pair weights or slots "
                f"with checksum {found[:12]}, not {tables.item_fingerprint[:12]}; open "
                f"it with the codes it was built from, or {FORMAT.remedy}"
            )
        return cls(opened, tables, verify)

    def __len__(self) -> int:
        """How many outfits can be found."""
        return self._folder.metadata["live"]

    @property
    def tables(self) -> ItemTables:
        """How outfits are scored."""
        return self._tables

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._folder.path

    @property
    def num_bytes(self) -> int:
        """Bytes of all files of the index."""
        return sum(self._folder.sizes.values())

    @property
    def bytes_each(self) -> tuple[float, float]:
        """Bytes that an outfit takes in files, and an item in files and memory."""
        sizes = self._folder.sizes.items()
        layout = sum(size for name, size in sizes if name.startswith("layout/"))
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
        return self._folder.metadata["trials"]

    def verify(self) -> None:
        """Reads the whole index and compares checksums.

        Raises:
          ValueError: a file is damaged.
        """
        self._folder.verify()

    def find(self, users, k, score, filters, templates) -> list[Hits]:
        self._verify_outfits()
        return super().find(users, k, score, filters, templates)

    def part(self, number: int, count: int) -> Searcher:
        """One of `count` parts that share out the outfits, see `Searcher`."""
        self._verify_outfits()
        return super().part(number, count)

    def _verify_outfits(self) -> None:
        if self._verify:
            self._folder.verify_mapped()

    def append(self, outfits: Shaped[np.ndarray, "..."]) -> range:
        """Adds outfits, as a segment of their own for each template.

        Many small segments make searches slower; `compact` makes them one.

        Returns:
          their ids.
        Raises:
          BusyError: another process is changing the index.
          ValueError: as `build`; more than 2**32 outfits; or the index has been changed
            by another process since it was opened.
        """
        items = check_outfits(self._tables.codes, outfits)
        first = self._num_outfits
        ids = range(first, first + len(items))
        _check_number(ids.stop)
        if not len(items):
            return ids
        of_items = (self._tables, self._layout, items)
        segments = searcher.arrange_each(*of_items, np.array(ids))
        with self._change() as change:
            _add_segments(change, segments)
            change.metadata["outfits"] = ids.stop
            change.metadata["live"] += len(ids)
        return ids

    def remove(self, outfits: Sequence[int] | Int[np.ndarray, " n"]) -> None:
        """Removes outfits by id; their space is freed by `compact`.

        Raises:
          ValueError: an unknown or removed id; or the index has been changed by another
            process since it was opened.
        """
        ids = np.unique(outfit_ids(outfits, self._num_outfits))
        gone = ids[np.isin(ids, self._removed)]
        if gone.size:
            raise InputError(f"outfit {gone[0]} has been removed already")
        if ids.size:
            with self._change() as change:
                metadata = change.metadata
                if metadata["removed"]:
                    change.drop(metadata["removed"])
                name = f"removed-{metadata['changes']}.npy"
                metadata["removed"] = change.add(name, np.union1d(self._removed, ids))
                metadata["live"] -= len(ids)

    def compact(self) -> None:
        """Makes the segments of a template one, without the removed outfits.

        Ids stay as they are.

        Raises:
          ValueError: the index has been changed by another process since it was opened.
        """
        self._folder.verify_mapped()  # Damage must not get a new checksum.
        stored = [np.asarray(segment.outfits) for segment in self._segments]
        outfits = np.concatenate([*stored, np.empty(0, np.uint32)])
        places = np.flatnonzero(~np.isin(outfits, self._removed))
        with self._change() as change:
            for name in change.metadata["segments"]:
                change.drop(name)
            change.metadata["segments"] = []
            segments = searcher.arrange_each(
                self._tables,
                self._layout,
                self._items(places),
                outfits[places].astype(np.int64),
            )
            _add_segments(change, segments)

    @contextlib.contextmanager
    def _change(self) -> Iterator[ArrayChange]:
        """Yields what changes the folder; then this index shows what it holds."""
        with self._folder.change() as change:
            change.metadata["changes"] += 1
            yield change
        self._load(self._tables)


def _add_segments(change: ArrayChange, segments: Sequence[kernels.Blocks]) -> None:
    """Writes the arrays of segments, named by the number of the change."""
    for number, segment in enumerate(segments):
        name = f"segment-{change.metadata['changes']}"
        if number:
            name += f"-{number}"
        for key in _DTYPES:
            change.add(f"{name}/{key}.npy", getattr(segment, key))
        change.metadata["segments"] = [*change.metadata["segments"], name]


def _check_number(count: int) -> None:
    if count > _MAX_OUTFITS:
        raise InputError(
            f"{count:,} outfits, expected {_MAX_OUTFITS:,} at most in one index; "
            "start another index"
        )


def _read_layout(folder: ArrayFolder, tables: ItemTables) -> blocks.Layout:
    order = folder.map("layout/order.npy", np.int32, verify=True)
    ranges = folder.map("layout/ranges.npy", np.int64, verify=True)
    layout = blocks.Layout(
        order=order,
        category_starts=np.concatenate([[0], np.cumsum(tables.codes.num_items)]),
        range_starts=ranges,
        num_coarse=folder.metadata["coarse_ranges"],
    )
    starts = layout.category_starts
    sizes = np.repeat(np.diff(starts), np.diff(starts))
    _expect(
        folder.path / "layout",
        order.shape == sizes.shape
        and ((order >= 0) & (order < sizes)).all()
        and 0 <= layout.num_coarse < max(ranges.size, 1)
        and ((ranges[:-1] >= 0) & (ranges[:-1] < max(len(order), 1))).all()
        and ranges[-1] == len(order),
    )
    return layout


def _read_segment(
    folder: ArrayFolder, name: str, tables: ItemTables, layout: blocks.Layout
) -> kernels.Blocks:
    arrays = {
        key: folder.map(f"{name}/{key}.npy", dtype, verify=key in _SMALL)
        for key, dtype in _DTYPES.items()
    }
    ranges = arrays["ranges"]
    _expect(folder.path / name, ranges.ndim == 2)
    segment = kernels.Blocks(
        **arrays, groups=blocks.groups_of(ranges), range_starts=layout.range_starts
    )
    count, starts = len(segment.outfits), segment.starts
    # Compiled loops do not check indices.
    _expect(
        folder.path / name,
        segment.items.shape == (count, ranges.shape[1])
        and segment.compatibilities.shape == segment.outfits.shape == (count,)
        and len(ranges) == len(starts) - 1
        and segment.tops.shape == (len(starts) - 1,)
        and starts[0] == 0
        and starts[-1] == count
        and (np.diff(starts) > 0).all()
        and ((ranges >= 0) & (ranges < len(layout.range_starts) - 1)).all()
        and searcher.template_of(tables, layout, segment) >= 0,
    )
    return segment


def _expect(path: Path, holds: bool | np.bool_) -> None:
    if not holds:
        raise InputError(f"{path}: its arrays do not fit each other; {FORMAT.remedy}")
