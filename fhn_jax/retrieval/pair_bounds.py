"""How well an item can go with a cluster of items: bounds for composing outfits.

Pair terms do not depend on the user. So the best pair term of each item with each
cluster of the other categories is found once, and serves every user.
"""

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32

from fhn_jax import files
from fhn_jax.errors import InputError
from fhn_jax.retrieval.blocks import Layout
from fhn_jax.retrieval.items import ItemTables

FORMAT, VERSION = "fhn_jax.pair_bounds", 1
_BOUNDS = (
    *("clusters", "first_cluster", "cluster_of", "items", "rows", "columns", "pairs"),
)
_NUM_CLUSTERS = 256
# Rows of a matrix of pair terms that are computed at a time.
_ROWS = 512


@dataclass(frozen=True, eq=False)
class PairBounds:
    """Upper bounds of pair terms, in units of `ItemTables`.

    Items are numbered by position as in `layout`, clusters by their order in it.

    Attributes:
      layout: the order of the items.
      clusters: int64 [clusters + 1], the first position of each cluster; last the
        number of items.
      first_cluster: int64 [c + 1], the first cluster of each category.
      cluster_of: int32 [n], the cluster of each position.
      items: int32 [*], the best pair term of each item with each cluster of the other
        categories, item by item.
      rows: int64 [n], where the numbers of an item start in `items`.
      columns: int64 [c, c]: the pair term of position i of category a with cluster q of
        category b is at most items[rows[i] + columns[a, b] + q].
      pairs: int32 [clusters, clusters], the largest of them for each two clusters of
        different categories.
    """

    layout: Layout
    clusters: np.ndarray
    first_cluster: np.ndarray
    cluster_of: np.ndarray
    items: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    pairs: np.ndarray

    @classmethod
    def build(cls, tables: ItemTables, seed: int = 0) -> "PairBounds":
        """Clusters the items and bounds their pair terms.

        Args:
          seed: of the clusters, which decide how long a search takes, not what it
            finds.
        """
        layout = Layout.make(tables.packed, _NUM_CLUSTERS, seed)
        starts = layout.category_starts
        clusters = layout.range_starts[layout.num_coarse :]
        first = np.searchsorted(clusters[:-1], starts)
        num = np.diff(first)
        c = len(num)
        # Each row leaves out the clusters of the item's own category.
        widths = first[-1] - num
        columns = np.array(
            [[-(num[a] if b > a else 0) for b in range(c)] for a in range(c)], np.int64
        )
        lengths = np.repeat(widths, np.diff(starts))
        bounds = cls(
            layout=layout,
            clusters=clusters,
            first_cluster=first,
            cluster_of=np.repeat(
                np.arange(first[-1], dtype=np.int32), np.diff(clusters)
            ),
            items=np.empty(lengths.sum(), np.int32),
            rows=np.cumsum(lengths) - lengths,
            columns=columns,
            pairs=np.full((first[-1], first[-1]), np.iinfo(np.int32).min, np.int32),
        )
        vectors = _vectors(tables, layout)
        # Without the common factor of the weights many sums are exact in float32.
        factor = max(int(np.gcd.reduce(tables.item_weights)), 1)
        weights = tables.item_weights // factor
        largest = np.abs(weights.astype(np.int64)).sum() * len(tables.codes.modalities)
        margin = 0.0
        if tables.scales is not None or largest >= 2**24:
            # Each float32 sum is off by less than one rounding a term; and units of
            # scaled codes are rounded once a modality.
            terms = vectors[0].shape[1] + 4
            margin = largest * terms * 2.0**-23 + len(tables.codes.modalities) / factor
        by_entry = np.tile(weights, _modalities(tables)).astype(np.float32)
        weighted = [v * by_entry for v in vectors]
        for a in range(c):
            for b in range(a + 1, c):
                if num[a] and num[b]:
                    bounds._fill(a, b, vectors[a], weighted[b], factor, margin)
        return bounds

    @functools.cached_property
    def largest(self) -> Int32[np.ndarray, "p c"]:
        """The largest of `pairs` of each cluster with those of each category."""
        found = np.full((len(self.pairs), len(self.first_cluster) - 1), -(2**31))
        for category, first in enumerate(self.first_cluster[:-1]):
            columns = self.pairs[:, first : self.first_cluster[category + 1]]
            if columns.size:
                found[:, category] = columns.max(axis=1)
        return found.astype(np.int32)

    def save(self, folder: str | os.PathLike, tables: ItemTables) -> None:
        """Keeps the bounds in a new folder, which appears when all is there.

        Raises:
          FileExistsError: there is something at `folder`.
        """
        with files.new_folder(folder) as new:
            kept = {}
            for name, array in self._arrays().items():
                np.save(new / f"{name}.npy", array)
                kept[name] = files.sha256_file(new / f"{name}.npy")
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "codes": tables.item_fingerprint,
                "num_coarse": self.layout.num_coarse,
                "files": kept,
            }
            files.write_json(new / "manifest.json", manifest)

    @classmethod
    def open(cls, folder: str | os.PathLike, tables: ItemTables) -> "PairBounds":
        """Maps bounds that were kept, after comparing checksums.

        Raises:
          FileNotFoundError: nothing is kept there.
          ValueError: it is damaged, or of other codes.
        """
        folder = Path(folder)
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            about = [manifest[key] for key in ("format", "version", "codes")]
            split, kept = manifest["num_coarse"], manifest["files"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder}: the manifest is damaged ({error!r})") from None
        if about != [FORMAT, VERSION, tables.item_fingerprint]:
            raise InputError(f"{folder} holds bounds of other codes or another version")
        arrays = {}
        for name in ("order", "category_starts", "range_starts", *_BOUNDS):
            path = folder / f"{name}.npy"
            if files.sha256_file(path) != kept.get(name):
                raise InputError(f"{path} is damaged: its checksum is another one")
            # Copied where it is written to, which is never: compiled loops then take it
            # as they take an array in memory.
            array = np.load(path, mmap_mode="c", allow_pickle=False)
            arrays[name] = np.asarray(array)
        layout = Layout(
            *(arrays.pop(n) for n in ("order", "category_starts", "range_starts")),
            num_coarse=split,
        )
        return cls(layout=layout, **arrays)

    def _arrays(self) -> dict[str, np.ndarray]:
        layout = self.layout
        return {
            "order": layout.order,
            "category_starts": layout.category_starts,
            "range_starts": layout.range_starts,
        } | {name: getattr(self, name) for name in _BOUNDS}

    def _fill(self, a, b, vectors_a, weighted_b, factor, margin) -> None:
        """Fills in what categories a and b have to do with each other."""

        def units(sums):
            return np.ceil((sums.astype(np.float64) + margin) * factor).astype(np.int32)

        of_a, of_b = self._rows_of(a, b), self._rows_of(b, a)
        starts = self.layout.category_starts
        first_a, last_a = self.first_cluster[a : a + 2]
        first_b, last_b = self.first_cluster[b : b + 2]
        edges_a = self.clusters[first_a : last_a + 1] - starts[a]
        edges_b = self.clusters[first_b:last_b] - starts[b]
        most_rows = max(_ROWS, int(np.diff(edges_a).max()))
        # Written again and again: fresh memory would take as long as the product.
        memory = np.empty((most_rows, len(weighted_b)), np.float32)
        begin = 0
        while begin < len(edges_a) - 1:
            end = int(np.searchsorted(edges_a, edges_a[begin] + _ROWS, "right")) - 1
            end = max(end, begin + 1)
            first, last = edges_a[[begin, end]]
            sums = memory[: last - first]
            np.matmul(vectors_a[first:last], weighted_b.T, out=sums)
            of_a[first:last] = units(np.maximum.reduceat(sums, edges_b, axis=1))
            for cluster in range(begin, end):
                rows = slice(*(edges_a[cluster : cluster + 2] - first))
                of_b[:, cluster] = units(sums[rows].max(axis=0))
            begin = end
        pairs = np.maximum.reduceat(of_a, edges_a[:-1], axis=0)
        self.pairs[first_a:last_a, first_b:last_b] = pairs
        self.pairs[first_b:last_b, first_a:last_a] = pairs.T

    def _rows_of(self, a: int, b: int) -> np.ndarray:
        """The bounds of items of category a with clusters of category b, a view."""
        starts, num = self.layout.category_starts, np.diff(self.first_cluster)
        begin = self.rows[starts[a]]
        rows = starts[a + 1] - starts[a]
        width = num.sum() - num[a]
        matrix = self.items[begin : begin + rows * width].reshape(rows, width)
        column = self.first_cluster[b] + self.columns[a, b]
        return matrix[:, column : column + num[b]]

    @property
    def num_bytes(self) -> int:
        """What the bounds take in memory."""
        arrays = (self.items, self.rows, self.pairs, self.cluster_of, self.clusters)
        return sum(array.nbytes for array in arrays)


def _modalities(tables: ItemTables) -> int:
    return len(tables.codes.modalities)


def _vectors(tables: ItemTables, layout: Layout) -> list[Float32[np.ndarray, "n md"]]:
    """Codes times scales by position, the modalities side by side."""
    low = -1 if tables.codes.alphabet == "pm1" else 0
    found = []
    for category, packed in enumerate(tables.packed):
        first, last = layout.category_starts[category : category + 2]
        order = layout.order[first:last]
        bits = np.unpackbits(packed[order], axis=1, bitorder="little")
        vectors = np.where(bits, np.float32(1), np.float32(low))
        if tables.scales is not None:
            vectors *= np.repeat(tables.scales[category][order], tables.codes.bits, 1)
        found.append(vectors)
    return found
