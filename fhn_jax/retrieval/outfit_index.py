"""Exact search for the best of millions of stored outfits.

An index is a `fhn_jax.files.ArrayFolder`:

  manifest.json     which codes, which files, their sizes and checksums
  layout/           the order of the items (see `fhn_jax.retrieval.blocks`); layout-N/
                    after the index has taken up more items
  segment-N/        outfits in blocks; each `append` adds a segment for every template
  removed-N.npy     sorted ids of the outfits that were removed
  attributes/       of the items, if there are any: see `fhn_jax.retrieval.attributes`
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int32, Shaped

from fhn_jax import files
from fhn_jax.codes import Codes
from fhn_jax.errors import InputError, MissingFileError, UserError
from fhn_jax.files import ArrayChange, ArrayFolder
from fhn_jax.retrieval import index_files, searcher
from fhn_jax.retrieval.arguments import check_count, check_outfits, outfit_ids
from fhn_jax.retrieval.attributes import Attributes, Values
from fhn_jax.retrieval.blocks import Layout
from fhn_jax.retrieval.index_files import FORMAT
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.outfit_search import Hits
from fhn_jax.retrieval.searcher import Searcher

ATTRIBUTES = "attributes"
_MAX_OUTFITS = 2**32
# Of the new items of a category.
_NEW_CLUSTERS = 64


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
            self.attributes = Attributes.open(folder.path / ATTRIBUTES, tables.codes)
        self._load(tables)

    def _load(self, tables: ItemTables) -> None:
        folder, metadata = self._folder, self._folder.metadata
        layout = index_files.read_layout(folder, tables)
        removed = np.empty(0, np.int64)
        if metadata["removed"]:
            removed = folder.map(metadata["removed"], np.int64)
        super().__init__(
            tables,
            layout,
            [
                index_files.read_segment(folder, str(name), tables, layout)
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
        attributes: Values | Attributes | None = None,
        about: str = "",
        clusters: int | None = None,
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
          about: what the outfits are of, see `about`.
          clusters: of the items of a category, instead of trials. Few, such as 24, are for
            an index that grows by many appends: a search bounds each segment's groups of
            outfits, of which there are up to clusters ** slots.
        Raises:
          FileExistsError: the folder is there.
          BusyError: another process builds it.
          RefusedError: the disk has no room for it.
          ValueError: an item id out of range, another number of slots, or attributes of
            more or fewer items.
        """
        files.refuse_existing(folder)
        tables = ItemTables.from_codes(codes)
        items = check_outfits(codes, outfits)
        _check_number(len(items))
        index_files.require_room(folder, tables, len(items))
        with ArrayFolder.create(folder, FORMAT) as new:
            if clusters is None:
                layout, trials = searcher.choose_layout(tables, items, seed)
            else:
                check_count("clusters", clusters)
                layout, trials = Layout.make(tables.packed, clusters, seed), {}
            new.metadata = {
                "codes": tables.item_fingerprint,
                "items": list(codes.num_items),
                "slots": len(codes.slots),
                "trials": trials,
                "outfits": len(items),
                "live": len(items),
                "changes": 1,
                "about": about,
                "segments": [],
                "removed": None,
            }
            index_files.add_layout(new, layout, "layout")
            ids = np.arange(len(items))
            index_files.add_segments(
                new, searcher.arrange_each(tables, layout, items, ids)
            )
            if isinstance(attributes, Attributes):
                attributes = attributes.values()
            if attributes is not None:
                Attributes.create(new.path / ATTRIBUTES, codes, attributes)
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

    @classmethod
    def open_grown(cls, folder: str | os.PathLike, codes: Codes) -> "OutfitIndex":
        """Opens an index of codes, or of the first of their items, and takes up the rest.

        Raises:
          FileNotFoundError, ValueError: as `open` and `grow`.
        """
        counts = ArrayFolder.open(folder, FORMAT).metadata.get("items")
        known = codes if counts is None else codes.first_items(counts)
        index = cls.open(folder, known)
        index.grow(codes)
        return index

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
        layout = sum(size for name, size in sizes if name.startswith("layout"))
        items = layout + self._packed.nbytes
        if self._scales is not None:
            items += self._scales.nbytes
        return (
            (self.num_bytes - layout) / max(self._num_stored, 1),
            items / max(len(self._packed), 1),
        )

    @property
    def trials(self) -> Mapping[str, float]:
        """CPU-seconds a search took in trials at build time, by clusters per category."""
        return self._folder.metadata["trials"]

    @property
    def about(self) -> str:
        """What the outfits are of, as whoever made or updated the index has it."""
        return self._folder.metadata.get("about", "")

    @about.setter
    def about(self, text: str) -> None:
        with self._change() as change:
            change.metadata["about"] = text

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

    def checked(self, outfits: Shaped[np.ndarray, "..."]) -> Int32[np.ndarray, "n s"]:
        """Outfits as they are stored.

        Raises:
          InputError: as `build`.
        """
        return check_outfits(self._tables.codes, outfits)

    def append(self, outfits: Shaped[np.ndarray, "..."]) -> range:
        """Adds outfits, as a segment of their own for each template.

        Many small segments make searches slower; `compact` makes them one.

        Returns:
          their ids.
        Raises:
          BusyError: another process is changing the index.
          RefusedError: the disk has no room for them.
          ValueError: as `build`; more than 2**32 outfits; or the index has been changed
            by another process since it was opened.
        """
        items = self.checked(outfits)
        first = self._num_outfits
        ids = range(first, first + len(items))
        _check_number(ids.stop)
        if not len(items):
            return ids
        index_files.require_room(self.folder, self._tables, len(items))
        of_items = (self._tables, self._layout, items)
        segments = searcher.arrange_each(*of_items, np.arange(first, ids.stop))
        with self._change() as change:
            index_files.add_segments(change, segments)
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

    def stored(self) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, "n s"]]:
        """Ids and items of the outfits that can be found."""
        self._verify_outfits()
        stored = [np.asarray(segment.outfits) for segment in self._segments]
        ids = np.concatenate([*stored, np.empty(0, np.uint32)]).astype(np.int64)
        places = np.flatnonzero(~np.isin(ids, self._removed))
        return ids[places], self._items(places)

    def grow(self, codes: Codes, *, seed: int = 0) -> None:
        """Takes up items that came after those of the index, which stay as they are.

        Outfits of them can be appended then. The new items are clustered by themselves,
        which makes searches a little slower than an index that is built anew. The
        attributes of the items go: `Attributes.create` makes those of all.

        Args:
          codes: with the items of the index first, and the same scoring.
        Raises:
          InputError: an item of the index has another code, or scores have another unit,
            as where there is a new template: build the index again; or the index has
            been changed by another process since it was opened.
        """
        tables = ItemTables.from_codes(codes)
        if tables.item_fingerprint == self._tables.item_fingerprint:
            return
        if not self._tables.is_part_of(tables):
            raise InputError(
                f"{self._folder.path}: the codes have other items, not those of the index "
                f"and more, or score otherwise; {FORMAT.remedy}"
            )
        layout, numbers = self._layout.extended(tables.packed, _NEW_CLUSTERS, seed)
        with self._folder.change() as change:
            # First, since they must not be of fewer items.
            shutil.rmtree(self._folder.path / ATTRIBUTES, ignore_errors=True)
            self.attributes = None
            metadata = change.metadata
            metadata["changes"] += 1
            change.drop(metadata.get("layout", "layout"))
            index_files.add_layout(change, layout, f"layout-{metadata['changes']}")
            metadata["codes"] = tables.item_fingerprint
            metadata["items"] = list(codes.num_items)
            ranges = {}
            for name, segment in zip(metadata["segments"], self._segments, strict=True):
                change.drop(index_files.ranges_of(metadata, name))
                ranges[name] = change.add(
                    f"{name}/ranges-{metadata['changes']}.npy", numbers[segment.ranges]
                )
            metadata["ranges"] = ranges
        self._load(tables)

    def compact(self) -> None:
        """Makes the segments of a template one, without the removed outfits.

        Ids stay as they are.

        Raises:
          RefusedError: the disk has no room for the new segment beside the old ones.
          ValueError: the index has been changed by another process since it was opened.
        """
        self._folder.verify_mapped()  # Damage must not get a new checksum.
        stored = [np.asarray(segment.outfits) for segment in self._segments]
        outfits = np.concatenate([*stored, np.empty(0, np.uint32)])
        places = np.flatnonzero(~np.isin(outfits, self._removed))
        # The old segments go when the new one is there.
        index_files.require_room(self.folder, self._tables, len(places))
        with self._change() as change:
            for name in change.metadata["segments"]:
                change.drop(name)
            change.metadata["segments"], change.metadata["ranges"] = [], {}
            segments = searcher.arrange_each(
                self._tables,
                self._layout,
                self._items(places),
                outfits[places].astype(np.int64),
            )
            index_files.add_segments(change, segments)

    def set_attributes(self, values: Values, source: str = "") -> None:
        """Gives all items other attributes, see `Attributes.create`."""
        folder, codes = self._folder.path / ATTRIBUTES, self._tables.codes
        if self.attributes is None:
            try:
                self.attributes = Attributes.create(folder, codes, values, source)
                return
            except FileExistsError:  # Another process was faster.
                self.attributes = Attributes.open(folder, codes)
        self.attributes.replace(values, source)

    @contextlib.contextmanager
    def _change(self) -> Iterator[ArrayChange]:
        """Yields what changes the folder; then this index shows what it holds."""
        with self._folder.change() as change:
            change.metadata["changes"] += 1
            yield change
        self._load(self._tables)


def _check_number(count: int) -> None:
    if count > _MAX_OUTFITS:
        raise InputError(
            f"{count:,} outfits, expected {_MAX_OUTFITS:,} at most in one index; "
            "start another index"
        )
