"""Exact search for stored outfits, against what else one might do.

    python benchmarks/retrieval.py --json retrieval.json
    python benchmarks/retrieval.py --outfits 1M 10M --codes runs/vse_t3/codes.safetensors

Catalogues have 100,000 items with codes of 128 bits in two modalities, learned weights
(T3), users of real numbers, and outfits of random items. Codes are

  clustered  200 styles; an item's code is its style's with 15 % of the bits flipped
  random     independent bits
  learned    those of --codes: items are repeated up to 100,000 with 5 % flipped

Filters by attributes keep 1 % or 50 % of the items, drawn at random; a change is of the
prices of 100 items, seen by another that has the index open.

Every answer of the index is compared with that of the plain scan. Wall times suffer
when the machine has other work; CPU times stand beside them.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

try:
    from benchmarks import harness
except ModuleNotFoundError:  # as `python benchmarks/retrieval.py`
    import harness

from fhn_jax.codes import Codes
from fhn_jax.integrations.vectors import outfit_vectors, query_vectors
from fhn_jax.retrieval import blocks
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.kernels.jit import njit
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.where import Where

ITEMS = (34_000, 33_000, 33_000)
BITS = 128
USERS = 256
STYLES, STYLE_NOISE, COPY_NOISE = 200, 0.15, 0.05
SIZES = {"10k": 10**4, "1M": 10**6, "10M": 10**7, "100M": 10**8}
K = 10
# Ways that take this many outfits at most; slower or larger ones are left out beyond.
FAISS_OUTFITS = 10**6
LOOP_SHARE = 10
# Prices are 0 to 99, so the share of items below a price is that many percent.
PRICES, KEPT = 100, (1, 50)
CHANGED = 100


def make_codes(kind: str, path: Path | None, counts: Sequence[int] = ITEMS) -> Codes:
    """The codes of a benchmark; see the docstring of this file.

    Args:
      kind: "clustered", "random" or "learned".
      path: of the learned codes.
      counts: items of each category; learned codes share them out evenly.
    """
    if kind == "learned":
        return _repeated(Codes.load(path), sum(counts))
    rng = np.random.default_rng(0)
    modalities = ("visual", "text")
    items = {}
    for modality in modalities:
        styles = rng.integers(0, 2, (STYLES, BITS), dtype=np.uint8)
        per_category = []
        for number, count in enumerate(counts):
            # An item has one style, whatever the modality.
            style = np.random.default_rng(number).integers(0, STYLES, count)
            codes = styles[style] ^ (rng.random((count, BITS)) < STYLE_NOISE)
            if kind == "random":
                codes = rng.integers(0, 2, (count, BITS), dtype=np.uint8)
            per_category.append(np.packbits(codes, axis=1, bitorder="little"))
        items[modality] = tuple(per_category)
    weights = rng.normal(1, 0.3, (2, BITS)).astype(np.float32)
    return Codes(
        bits=BITS,
        alphabet="pm1",
        modalities=modalities,
        categories=("top", "bottom", "shoe"),
        slots=(0, 1, 2),
        hash_types=3,
        zero_item_term=False,
        zero_user_term=False,
        dataset=kind,
        dataset_checksum="",
        config_hash="",
        items=items,
        item_scales=None,
        users=rng.integers(0, 256, (USERS, BITS // 8), dtype=np.uint8),
        user_latents=rng.uniform(-1, 1, (USERS, BITS)).astype(np.float32),
        lambda_user=weights[0],
        lambda_item=weights[1],
    )


def _repeated(codes: Codes, total: int) -> Codes:
    """Codes of as many items as the benchmark wants, by copies with noise."""
    rng = np.random.default_rng(0)
    fields = {name: getattr(codes, name) for name in codes.__dataclass_fields__}
    counts = [total // len(codes.categories)] * len(codes.categories)
    sources = [
        np.arange(n) % own for n, own in zip(counts, codes.num_items, strict=True)
    ]
    items, scales = {}, {}
    for modality in codes.modalities:
        copies = []
        for packed, source in zip(codes.items[modality], sources, strict=True):
            noise = rng.random((len(source), codes.bits)) < COPY_NOISE
            noise[: len(packed)] = False
            copies.append(packed[source] ^ np.packbits(noise, axis=1))
        items[modality] = tuple(copies)
        if codes.item_scales is not None:
            scales[modality] = tuple(
                each[source]
                for each, source in zip(
                    codes.item_scales[modality], sources, strict=True
                )
            )
    return Codes(
        **fields | {"items": items, "item_scales": scales or None, "names": None}
    )


def make_outfits(codes: Codes, count: int) -> np.ndarray:
    """Outfits of random items, int32 [n, s]."""
    rng = np.random.default_rng(1)
    return np.stack(
        [rng.integers(0, codes.num_items[c], count, np.int32) for c in codes.slots],
        axis=1,
    )


def prices(codes: Codes) -> dict[str, np.ndarray]:
    """A price and a brand of each item, one category after the other."""
    rng = np.random.default_rng(2)
    count = sum(codes.num_items)
    brands = np.array([f"brand {number}" for number in range(200)])
    return {"price": rng.integers(0, PRICES, count), "brand": rng.choice(brands, count)}


def clusteredness(codes: Codes) -> float:
    """Share of bits that agree with the majority of the item's cluster, of 256.

    For random codes little above .5: by how much depends on the items in a cluster.
    1 for copies of 256 codes.
    """
    shares = []
    for packed in ItemTables.from_codes(codes).packed:
        labels = blocks.cluster(packed, 256, seed=0)
        bits = np.unpackbits(packed, axis=1)
        for label in np.unique(labels):
            share = bits[labels == label].mean(axis=0)
            count = np.count_nonzero(labels == label)
            shares.append((np.maximum(share, 1 - share).mean(), count))
    values, counts = np.array(shares).T
    return float(np.average(values, weights=counts))


def build(kind: str, path: Path | None, count: int, folder: Path) -> dict[str, Any]:
    """Builds an index in `folder`; what that took, compilation excluded."""
    codes = make_codes(kind, path)
    warm = make_outfits(codes, 1000)
    OutfitIndex.build(folder.with_name(f"{folder.name}-warm"), codes, warm)
    outfits = make_outfits(codes, count)
    built = harness.timed(
        lambda: OutfitIndex.build(folder, codes, outfits, attributes=prices(codes)),
        1,
        warmup=0,
    )
    return {
        "wall": built.wall[0],
        "cpu": built.cpu[0],
        "peak": harness.peak_mebibytes(),
    }


class Scan:
    """The plain ways: item affinities, three additions an outfit, all outfits."""

    def __init__(self, tables: ItemTables, outfits: np.ndarray):
        starts = np.concatenate([[0], np.cumsum(tables.codes.num_items)])
        slots = list(tables.codes.slots)
        self.tables = tables
        self.items = outfits + starts[slots].astype(np.int32)
        self.compatibilities = tables.compatibilities(outfits)
        self._loop = njit(_scan)

    def affinities(self, user: int) -> np.ndarray:
        """Of all items, category after category."""
        vectors = self.tables.user_vectors(user)
        return np.concatenate([a[0] for a in self.tables.affinities(vectors)])

    def compiled(self, user: int) -> np.ndarray:
        """The ids of the best outfits, by a compiled loop."""
        return self._loop(self.items, self.compatibilities, self.affinities(user), K)

    def numpy(self, user: int, kept: np.ndarray | None = None) -> np.ndarray:
        """The same by numpy, sums of gathered rows.

        Args:
          kept: which items outfits may have, category after category.
        """
        scores = self.affinities(user)[self.items].sum(axis=1)
        scores += self.compatibilities
        if kept is None:
            return _best(scores)
        some = np.flatnonzero(kept[self.items].all(axis=1))
        return some[np.lexsort((some, -scores[some].astype(np.int64)))][:K]

    def python(self, user: int) -> list[int]:
        """A Python loop over a part of the outfits, as a web page might do it."""
        values = self.affinities(user).tolist()
        part = len(self.items) // LOOP_SHARE
        outfits = self.items[:part].tolist()
        pairs = self.compatibilities[:part].tolist()
        scores = []
        for number, items in enumerate(outfits):
            score = pairs[number]
            for item in items:
                score += values[item]
            scores.append((-score, number))
        scores.sort()
        return [number for _, number in scores[:K]]


def _best(scores: np.ndarray) -> np.ndarray:
    kth = np.partition(scores, -K)[-K]
    some = np.flatnonzero(scores >= kth)
    return some[np.lexsort((some, -scores[some].astype(np.int64)))][:K]


def _scan(items, compatibilities, affinities, k):
    """The best by insertion into a sorted list; an earlier outfit wins a tie."""
    best = np.full(k, -(2**31), np.int64)
    ids = np.full(k, -1, np.int64)
    for row in range(len(items)):
        score = compatibilities[row]
        for slot in range(items.shape[1]):
            score += affinities[items[row, slot]]
        if score > best[k - 1]:
            at = k - 1
            while at > 0 and best[at - 1] < score:
                best[at] = best[at - 1]
                ids[at] = ids[at - 1]
                at -= 1
            best[at] = score
            ids[at] = row
    return ids


def measure(
    kind: str, path: Path | None, name: str, repeats: int, folder: Path
) -> list[harness.Row]:
    """All rows of one kind of codes and number of outfits."""
    count, rows = SIZES[name], []

    def add(case: str, way: str, function, times: int = repeats) -> None:
        timing = harness.timed(function, times)
        for clock in ("wall", "cpu"):
            values = tuple(1000 * t for t in getattr(timing, clock))
            rows.append(harness.Row(case, f"{kind}: {way}, {clock}", "ms", values))

    def tell(case: str, what: str, value: float, unit: str) -> None:
        rows.append(harness.Row(case, f"{kind}: {what}", unit, (value,)))

    one, many = f"search/{name}/1", f"search/{name}/64"
    target = folder / f"{kind}-{name}"
    built = harness.apart(build, kind, path, count, target)
    tell(one, "build, wall", built["wall"], "s")
    tell(one, "build, cpu", built["cpu"], "s")
    tell(one, "build, peak memory", built["peak"], "MiB")
    codes = make_codes(kind, path)
    tell(one, "clusteredness", clusteredness(codes), "share of bits")
    # The file system's cache is warm; the outfits themselves are not read.
    add(one, "open", lambda: OutfitIndex.open(target, codes))
    index = OutfitIndex.open(target, codes)
    outfit_bytes, item_bytes = index.bytes_each
    tell(one, "outfit", outfit_bytes, "bytes")
    tell(one, "item", item_bytes, "bytes")
    outfits = make_outfits(codes, count)
    scan = Scan(index.tables, outfits)
    users = iter(np.tile(np.arange(codes.num_users), 10**6))
    for user in range(8):
        found, expected = index.search(user, K).outfits, scan.numpy(user)
        if not np.array_equal(found, expected):
            raise AssertionError(f"user {user}: {found} is not {expected}")
    # Another user each time: no result or cache line is found again by chance.
    add(one, "index", lambda: index.search(int(next(users)), K), 8 * repeats)
    some = np.arange(64) % codes.num_users
    add(many, "index", lambda: index.search_batch(some, K))
    _add_filters(index, scan, one, add, lambda: int(next(users)), 8 * repeats)
    add(one, "plain scan", lambda: scan.compiled(int(next(users))))
    add(one, "numpy", lambda: scan.numpy(int(next(users))))
    if count > FAISS_OUTFITS:
        return rows
    tenth = f"Python loop over 1/{LOOP_SHARE} of the outfits"
    add(one, tenth, lambda: scan.python(int(next(users))), 1)
    vectors, queries = outfit_vectors(codes, outfits), query_vectors(codes, some)
    product = "numpy matrix product"
    add(one, product, lambda: _best(vectors @ queries[0]))
    rows += _faiss_rows(one, many, kind, vectors, queries, add)
    return rows


def _add_filters(index: OutfitIndex, scan: Scan, case: str, add, user, times) -> None:
    """Adds the rows of searches with filters and caps, and of a change."""
    found = prices(scan.tables.codes)["price"]
    for percent in KEPT:
        cheap = Where(f"price<{percent}")
        for number in range(4):
            hits = index.search(number, K, filters=cheap).outfits
            expected = scan.numpy(number, found < percent)
            if not np.array_equal(hits, expected):
                raise AssertionError(f"user {number}: {hits} is not {expected}")
        what = f"index, {percent} % of the items"
        add(case, what, lambda by=cheap: index.search(user(), K, filters=by), times)
    for name in ("item", "brand"):
        cap = {name: 1}
        what = f"index, at most 1 with {'an item' if name == 'item' else 'a brand'}"
        add(case, what, lambda cap=cap: index.search(user(), K, at_most=cap), times)
    other = OutfitIndex.open(index.folder, scan.tables.codes).attributes
    attributes = index.attributes
    assert other is not None and attributes is not None
    first = scan.tables.codes.categories[0]

    def change() -> None:
        new = dict.fromkeys(range(CHANGED), user() % PRICES)
        attributes.change({"price": {first: new}})
        assert other.columns()["price"].values[0] == new[0]

    add(case, f"{CHANGED} attributes changed and seen", change, times)


def _faiss_rows(one, many, kind, outfits, queries, add) -> list[harness.Row]:
    try:
        import faiss
    except ModuleNotFoundError:
        print(f"{one}, {kind}: without faiss, which is not installed (dev extra)")
        return []
    width = outfits.shape[1]
    inner = faiss.METRIC_INNER_PRODUCT
    eight = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_8bit, inner)
    eight.train(outfits[:100_000])
    flat = faiss.IndexFlatIP(width)
    for index in (eight, flat):
        index.add(outfits)
    add(one, "faiss flat", lambda: flat.search(queries[:1], K))
    add(one, "faiss 8 bit", lambda: eight.search(queries[:1], K))
    add(many, "faiss 8 bit", lambda: eight.search(queries, K))
    exact, found = (index.search(queries, K)[1] for index in (flat, eight))
    recall = np.mean([len({*a} & {*b}) / K for a, b in zip(exact, found, strict=True)])
    return [harness.Row(many, f"{kind}: recall of faiss 8 bit", "", (float(recall),))]


def parse(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str]]:
    """Reads the command line, and from it the kinds of codes to measure."""
    parser.add_argument(
        "--kinds",
        nargs="*",
        choices=("clustered", "random"),
        default=("clustered", "random"),
        help="both by default; without a value those of --codes alone",
    )
    parser.add_argument("--codes", type=Path, help="codes.safetensors of a run")
    arguments = parser.parse_args()
    learned = [] if arguments.codes is None else ["learned"]
    return arguments, [*arguments.kinds, *learned]


def main() -> None:
    """Measures what the command line asks for."""
    parser = harness.parser(__doc__)
    parser.add_argument(
        "--outfits", nargs="+", choices=SIZES, default=["1M", "10M"], help="how many"
    )
    arguments, kinds = parse(parser)
    rows: list[harness.Row] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            for name in arguments.outfits:
                print(f"{time.perf_counter() - start:6.0f} s  {kind}, {name}")
                rows += measure(
                    kind, arguments.codes, name, arguments.repeats, Path(folder)
                )
    harness.report(rows, arguments.json)


if __name__ == "__main__":
    main()
