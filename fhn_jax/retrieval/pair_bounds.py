"""How well an item can go with a cluster of items: bounds for composing outfits.

Pair terms do not depend on the user. So the best pair term of each item with each
cluster of the other categories is found once, and serves every user:

  items[i, Q] ≥ max_{j ∈ Q} pair(i, j)        pairs[P, Q] = max_{i ∈ P} items[i, Q]
"""

import dataclasses
import functools
import os

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from fhn_jax.errors import InputError
from fhn_jax.files import ArrayFolder, ArrayFormat
from fhn_jax.retrieval.blocks import Layout
from fhn_jax.retrieval.items import ItemTables

FORMAT = ArrayFormat(
    name="fhn_jax.pair_bounds",
    version=2,
    noun="bounds of pair terms",
    remedy="build them again with PairBounds.build",
    metadata={"codes": str, "num_coarse": int},
)
_LAYOUT = {
    "order": np.int32,
    "category_starts": np.int64,
    "range_starts": np.int64,
}
_NUM_CLUSTERS = 256
# Rows of a matrix of pair terms that are computed at a time.
_ROWS = 512


@dataclasses.dataclass(frozen=True, eq=False)
class PairBounds:
    """Upper bounds of pair terms, in units of `ItemTables`.

    Items are numbered by position as in `layout`, clusters by their order in it; p
    clusters, n items, c categories.

    Attributes:
      layout: the order of the items.
      items: int32 [*], the best pair term of each item with each cluster of the
        categories that it goes with, item by item.
      pairs: int32 [p, p], the largest of them for each two clusters of such categories.
      together: bool [c, c], which categories are in a template together.
    """

    layout: Layout
    items: np.ndarray
    pairs: np.ndarray
    together: np.ndarray

    @classmethod
    def build(cls, tables: ItemTables, seed: int = 0) -> "PairBounds":
        """Clusters the items and bounds their pair terms.

        Args:
          seed: of the clusters, which decide how long a search takes, not what it
            finds.
        """
        layout = Layout.make(tables.packed, _NUM_CLUSTERS, seed)
        num_clusters = len(layout.range_starts) - 1 - layout.num_coarse
        shape = (num_clusters, num_clusters)
        empty = cls(
            layout=layout,
            items=np.empty(0, np.int32),
            pairs=np.full(shape, np.iinfo(np.int32).min, np.int32),
            together=_together(tables),
        )
        size = int((empty._widths * np.diff(layout.category_starts)).sum())
        bounds = dataclasses.replace(empty, items=np.empty(size, np.int32))
        vectors = _vectors(tables, layout)
        # Without the common factor of the weights many sums are exact in float32.
        factor = max(int(np.gcd.reduce(tables.item_weights)), 1)
        weights = tables.item_weights // factor
        modalities = len(tables.codes.modalities)
        largest = np.abs(weights.astype(np.int64)).sum() * modalities
        margin = 0.0
        if tables.scales is not None or largest >= 2**24:
            # Each float32 sum is off by less than one rounding a term; and units of
            # scaled codes are rounded once a modality.
            terms = vectors[0].shape[1] + 4
            margin = largest * terms * 2.0**-23 + modalities / factor
        by_entry = np.tile(weights, modalities).astype(np.float32)
        weighted = [v * by_entry for v in vectors]
        num = np.diff(bounds.first_cluster)
        for a in range(len(num)):
            for b in range(a + 1, len(num)):
                if num[a] and num[b] and bounds.together[a, b]:
                    bounds._fill(a, b, vectors[a], weighted[b], factor, margin)
        return bounds

    @functools.cached_property
    def clusters(self) -> Int64[np.ndarray, " edges"]:
        """The first position of each cluster; last the number of items."""
        return self.layout.range_starts[self.layout.num_coarse :]

    @functools.cached_property
    def first_cluster(self) -> Int64[np.ndarray, " edges"]:
        """The first cluster of each category; last the number of clusters."""
        starts = self.layout.category_starts
        return np.searchsorted(self.clusters[:-1], starts).astype(np.int64)

    @functools.cached_property
    def _widths(self) -> Int64[np.ndarray, " c"]:
        """How many bounds each item of a category has: one for each such cluster."""
        return self.together @ np.diff(self.first_cluster)

    @functools.cached_property
    def rows(self) -> Int64[np.ndarray, " n"]:
        """Where the bounds of each item start in `items`."""
        lengths = np.repeat(self._widths, np.diff(self.layout.category_starts))
        return np.cumsum(lengths) - lengths

    @functools.cached_property
    def columns(self) -> Int64[np.ndarray, "c c"]:
        """Where the bounds with a category stand among those of an item.

        The pair term of position i of category a with cluster q of category b is at
        most items[rows[i] + columns[a, b] + q].
        """
        num = np.diff(self.first_cluster)
        before = np.cumsum(self.together * num, axis=1) - self.together * num
        return before - self.first_cluster[:-1]

    @functools.cached_property
    def largest(self) -> Int32[np.ndarray, "p c"]:
        """The largest of `pairs` of each cluster with those of each category."""
        found = np.full((len(self.pairs), len(self.first_cluster) - 1), -(2**31))
        for category, first in enumerate(self.first_cluster[:-1]):
            columns = self.pairs[:, first : self.first_cluster[category + 1]]
            if columns.size:
                found[:, category] = columns.max(axis=1)
        return found.astype(np.int32)

    @property
    def num_bytes(self) -> int:
        """What the bounds take in memory."""
        arrays = (self.items, self.rows, self.pairs, self.clusters)
        return sum(array.nbytes for array in arrays)

    def save(self, folder: str | os.PathLike, tables: ItemTables) -> None:
        """Keeps the bounds in a new folder, which appears when all is there.

        Raises:
          FileExistsError: there is something at `folder`.
        """
        with ArrayFolder.create(folder, FORMAT) as new:
            new.metadata["codes"] = tables.item_fingerprint
            new.metadata["num_coarse"] = self.layout.num_coarse
            for name in _LAYOUT:
                new.add(f"{name}.npy", getattr(self.layout, name))
            new.add("items.npy", self.items)
            new.add("pairs.npy", self.pairs)

    @classmethod
    def open(cls, folder: str | os.PathLike, tables: ItemTables) -> "PairBounds":
        """Maps bounds that were saved, after comparing checksums.

        Raises:
          FileNotFoundError: nothing is saved there.
          ValueError: it is damaged, or of other codes.
        """
        opened = ArrayFolder.open(folder, FORMAT)
        if opened.metadata["codes"] != tables.item_fingerprint:
            raise InputError(f"{folder} holds bounds of other codes; {FORMAT.remedy}")
        opened.verify()
        layout = Layout(
            **{name: opened.map(f"{name}.npy", kind) for name, kind in _LAYOUT.items()},
            num_coarse=opened.metadata["num_coarse"],
        )
        items, pairs = (
            opened.map(f"{name}.npy", np.int32) for name in ("items", "pairs")
        )
        return cls(layout, items, pairs, _together(tables))

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
        width = self._widths[a]
        matrix = self.items[begin : begin + rows * width].reshape(rows, width)
        column = self.first_cluster[b] + self.columns[a, b]
        return matrix[:, column : column + num[b]]


def _together(tables: ItemTables) -> Bool[np.ndarray, "c c"]:
    """Which different categories are in a template together."""
    count = len(tables.codes.categories)
    together = np.zeros((count, count), bool)
    for template in tables.templates:
        together[np.ix_(template.form.slots, template.form.slots)] = True
    return together & ~np.eye(count, dtype=bool)


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
