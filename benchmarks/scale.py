r"""What 100 million outfits and 10 million users take, on paper from what is measured here.

    python benchmarks/scale.py --json scale.json

Pieces are measured at sizes of a few minutes, with random codes of 128 bits in two
modalities; times are CPU time, which depends less on what else runs. What grows with the size is
measured at two sizes, and the line through both is taken on; each line of the second table
names the measurement that it comes from.

    python benchmarks/scale.py --run 10M 100M 1000M --folder /large/disk --kinds clustered

An index of so many outfits is built and searched, and appended to and searched again, piece
by piece so that memory stays bounded: what was paper before. Kinds of codes are those of
benchmarks/retrieval.py. The answer for one user is compared with a scan of all that is
stored. Cold is a search, and the opening before it, with no page of the index in memory;
warm are other users one after the other. With --shards 4 the largest index is asked as a
`ClusterIndex` on this machine, too. This is for Linux alone.
"""

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

try:
    from benchmarks import harness, retrieval
except ModuleNotFoundError:  # as `python benchmarks/scale.py`
    import harness
    import retrieval

from fhn_jax.codes import Codes
from fhn_jax.errors import RefusedError
from fhn_jax.retrieval import index_files
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.outfit_search import Hits, OutfitSearch

OUTFITS, USERS, ITEMS = 100_000_000, 10_000_000, 10_000_000
# Of a machine that the second table counts in.
CORES, MEMORY_GIB, NIGHT_H = 32, 128, 8
BITS, SLOTS = 128, 3
SIZES = 1_000_000, 10_000_000
# Outfits that are put in order at a time, in 4 GiB.
PIECE = 50_000_000
CLUSTERS = 24
K = 10
_CATEGORIES = ("top", "bottom", "shoe")


def codes_of(items: int, users: int) -> Codes:
    """Random codes."""
    rng = np.random.default_rng(0)
    counts = [items // SLOTS + (k < items % SLOTS) for k in range(SLOTS)]

    def packed(count: int) -> np.ndarray:
        return rng.integers(0, 256, (count, BITS // 8), dtype=np.uint8)

    return Codes(
        bits=BITS,
        modalities=("visual", "text"),
        categories=_CATEGORIES,
        items={m: tuple(map(packed, counts)) for m in ("visual", "text")},
        users=packed(users),
        user_latents=rng.uniform(-1, 1, (users, BITS)).astype(np.float32),
    )


def outfits_of(codes: Codes, ids: np.ndarray) -> np.ndarray:
    """Random outfits, int32 [count, 3], that are always the same for an id.

    Source: the numbers are those of SplitMix64 (Steele, Lea and Flood, 2014).
    """
    outfits = np.empty((len(ids), SLOTS), np.int32)
    for slot, count in enumerate(codes.num_items):
        mixed = (SLOTS * ids.astype(np.uint64) + slot) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed ^= mixed >> np.uint64(shift)
            mixed *= np.uint64(factor)
        outfits[:, slot] = (mixed ^ (mixed >> np.uint64(31))) % np.uint64(count)
    return outfits


def codes_bytes(folder: str) -> tuple[float, float]:
    """Bytes of the file for an item, and for a user."""
    sizes = []
    for items, users in ((3_000, 3_000), (30_000, 3_000), (3_000, 30_000)):
        path = Path(folder) / "codes.safetensors"
        codes_of(items, users).save(path)
        sizes.append(path.stat().st_size)
    return (sizes[1] - sizes[0]) / 27_000, (sizes[2] - sizes[0]) / 27_000


def grow(place: Path, codes: Codes, count: int) -> OutfitIndex:
    """An index with so many outfits, a piece in memory at a time."""
    index = OutfitIndex.open(place, codes) if place.exists() else None
    done = 0 if index is None else len(index)
    for first in range(done, count, PIECE):
        last = min(first + PIECE, count)
        outfits = outfits_of(codes, np.arange(first, last))
        if index is None:
            index = OutfitIndex.build(place, codes, outfits, clusters=CLUSTERS)
        else:
            index.append(outfits)
        print(f"{last:,} of {count:,} outfits", file=sys.stderr, flush=True)
    assert index is not None
    return index


def index_pieces(folder: str, count: int, repeats: int) -> dict[str, tuple[float, ...]]:
    """An index of so many outfits: bytes of each, CPU-s to build, CPU-ms of searches."""
    import numba

    numba.set_num_threads(1)
    start = time.process_time()
    index = grow(Path(folder) / "index", codes_of(100_000, 1_024), count)
    built = time.process_time() - start
    index.search(0, 10)  # Reads and verifies all.
    one = harness.timed(lambda: index.search(3, 10), repeats)
    many = harness.timed(lambda: index.search_batch(np.arange(256), 10), 1)
    return {
        "bytes": (index.bytes_each[0],),
        "build": (built,),
        "search": tuple(1e3 * cpu for cpu in one.cpu),
        "of many": tuple(1e3 * cpu / 256 for cpu in many.cpu),
    }


def fit_ms(repeats: int) -> tuple[float, ...]:
    """Milliseconds of a visitor's code from 20 likes."""
    from fhn_jax.data.catalogue import Outfits
    from fhn_jax.new_users import BprFit, no_clicks

    codes = codes_of(100_000, 1_024)
    learner, count = BprFit(codes), 256
    users = np.repeat(np.arange(count, dtype=np.int32), 20)
    likes = Outfits(users, outfits_of(codes, np.arange(len(users))))
    found = harness.timed(lambda: learner.fit(likes, no_clicks(codes), count), repeats)
    return tuple(1e3 * cpu / count for cpu in found.cpu)


def encode_rate(images: int, repeats: int) -> tuple[float, ...]:
    """Images that the default network encodes in a CPU-second."""
    import synthetic

    from fhn_jax.data.items import ItemInputs
    from fhn_jax.training.export import ItemEncoder

    model = synthetic.model(("visual",), "alexnet", 224, 100)
    pixels = np.random.default_rng(0).integers(0, 256, (images, 224, 224, 3), np.uint8)
    inputs = ItemInputs({"visual": pixels}, None, None, (), 224)
    norm = dict(mean=synthetic.MEAN, std=synthetic.STD)
    encoder = ItemEncoder(model, inputs, chunk=64, **norm)
    ids = (np.arange(images, dtype=np.int32),)
    found = harness.timed(lambda: encoder(model, ids, (0, images)), repeats)
    return tuple(images / cpu for cpu in found.cpu)


@dataclasses.dataclass(frozen=True)
class Line:
    """A quantity that grows in a line, from two measurements."""

    start: float
    slope: float

    @classmethod
    def through(cls, values: list[float]) -> "Line":
        slope = (values[1] - values[0]) / (SIZES[1] - SIZES[0])
        return cls(values[0] - slope * SIZES[0], slope)

    def __call__(self, size: int) -> float:
        return self.start + self.slope * size


def measure(folder: str, repeats: int) -> list[harness.Row]:
    """The pieces."""
    rows = []

    def add(metric: str, unit: str, values: tuple[float, ...], case: str = "") -> None:
        print(f"{metric}: {values[0]:.4g} {unit}", file=sys.stderr)
        rows.append(
            harness.Row(f"scale/{case}" if case else "scale", metric, unit, values)
        )

    item, user = codes_bytes(folder)
    add("codes of an item", "bytes", (item,))
    add("codes of a user", "bytes", (user,))
    for count in SIZES:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            found = harness.apart(index_pieces, place, count, repeats)
        case = f"{count:,} outfits"
        add("index of an outfit", "bytes", found["bytes"], case)
        add("building the index, one core", "s", found["build"], case)
        add("search, one core", "ms", found["search"], case)
        add("search of a user among many, one core", "ms", found["of many"], case)
    add("fit of a visitor's 20 likes, one core", "ms", harness.apart(fit_ms, repeats))
    rate = harness.apart(encode_rate, 128, min(repeats, 2))
    add("images encoded (AlexNet, 224 px), one core", "1/s", rate)
    return rows


def on_paper(rows: list[harness.Row]) -> list[tuple[str, str, str]]:
    """What, how much, and of which measurement."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.metric, []).append(float(np.median(row.values)))
    line = {name: Line.through(two) for name, two in found.items() if len(two) == 2}
    one = {name: values[0] for name, values in found.items() if len(values) == 1}
    lines: list[tuple[str, str, str]] = []

    def add(what: str, value: float, unit: str, source: str) -> None:
        lines.append((what, f"{value:,.3g} {unit}", source))

    def nights(what: str, hours: float, source: str) -> None:
        machines = int(np.ceil(hours / CORES / NIGHT_H))
        add(f"{what}, core hours", hours, "h", source)
        text = f"{machines} of {CORES} cores for {hours / CORES / machines:.2g} h"
        lines.append((f"{what}, machines in a night", text, source))

    each = found["index of an outfit"][-1]
    index = each * OUTFITS / 2**30
    add("index, disk and page cache", index, "GiB", "index of an outfit")
    items = one["codes of an item"] * ITEMS / 2**30
    add(f"codes of {ITEMS:,} items, disk and memory", items, "GiB", "codes of an item")
    users = one["codes of a user"] * USERS / 2**30
    add("codes of all users, disk and memory", users, "GiB", "codes of a user")
    memory = index + items + users
    text = f"{memory:,.3g} GiB: {int(np.ceil(memory / MEMORY_GIB))} of {MEMORY_GIB} GiB"
    lines.append(("a server with all of it in memory", text, "the three above"))
    build = line["building the index, one core"](OUTFITS) / 3600
    add("building the index", build, "core hours", "building the index, one core")
    name = "search, one core"
    search = line[name](OUTFITS)
    add("a search, one core", search, "ms", name)
    text = f"{int(np.ceil(search / 50))} cores (shards of a ClusterIndex)"
    lines.append(("a search in 50 ms", text, name))
    name = "search of a user among many, one core"
    nights("recommend-all", line[name](OUTFITS) * USERS / 3.6e6, name)
    name = "fit of a visitor's 20 likes, one core"
    nights("fitting all users", one[name] * USERS / 3.6e6, name)
    name = "images encoded (AlexNet, 224 px), one core"
    nights(f"encoding {ITEMS:,} items", ITEMS / one[name] / 3600, name)
    return lines


def check(place: Path, codes: Codes, user: int, hits: Hits) -> None:
    """Compares hits with a scan of all that is stored, and with what was to be stored."""
    tables = ItemTables.from_codes(codes)
    vectors = tables.user_vectors(np.array([user]))
    order, firsts = (np.load(place / f"layout/{n}.npy") for n in ("order", "ranges"))
    ends = np.cumsum(codes.num_items)[:-1]
    by_position = np.concatenate(
        [
            each[0][some]
            for each, some in zip(
                tables.affinities(vectors), np.split(order, ends), strict=True
            )
        ]
    )
    ids, scores = np.empty(0, np.int64), np.empty(0, np.int64)
    for folder in place.glob("segment-*"):
        stored = {file.stem: np.load(file, "r") for file in folder.glob("*.npy")}
        for block in range(0, len(stored["ranges"]), 2**13):
            starts = stored["starts"][block : block + 2**13 + 1]
            rows = slice(starts[0], starts[-1])
            ranges = stored["ranges"][block : block + 2**13]
            positions = np.repeat(firsts[ranges], np.diff(starts), axis=0)
            found = by_position[positions + stored["items"][rows]].sum(axis=1)
            found += stored["compatibilities"][rows]
            least = scores[-1] if len(scores) == K else found.min()
            good = np.flatnonzero(found >= least)
            scores = np.append(scores, found[good])
            ids = np.append(ids, stored["outfits"][rows][good].astype(np.int64))
            best = np.lexsort((ids, -scores))[:K]
            ids, scores = ids[best], scores[best]
    made = outfits_of(codes, hits.outfits)
    sums = tables.compatibilities(made).astype(np.int64)
    for slot, each in enumerate(tables.affinities(vectors)):
        sums += each[0][made[:, slot]]
    if not (
        np.array_equal(hits.outfits, ids)
        and np.array_equal(hits.items, made)
        and np.array_equal(scores, sums)
        and np.array_equal(hits.scores, tables.to_scores(scores))
    ):
        raise AssertionError(f"{hits} is not {ids}, {scores}")


def run(
    folder: str, kind: str, counts: list[int], shards: int, repeats: int
) -> list[harness.Row]:
    """Builds an index and searches it at several sizes."""
    if kind == "random":
        codes = codes_of(100_000, 1_024)
    else:
        codes = retrieval.make_codes(kind, None)
    place = Path(folder) / "index"
    rows, built = [], harness.Timing((0.0,), (0.0,))
    for count in counts:
        case = f"scale/{kind}, {count:,} outfits"

        def add(metric: str, unit: str, *values: float, case: str = case) -> None:
            rows.append(harness.Row(case, metric, unit, values))
            middle = float(np.median(values))
            text = f"{case}: {metric}: {middle:.4g} {unit}"
            print(text, file=sys.stderr, flush=True)

        # The peak of what follows.
        Path("/proc/self/clear_refs").write_text("5")
        more = harness.timed(lambda n=count: grow(place, codes, n), 1, warmup=0)
        built = harness.Timing(
            (built.wall[0] + more.wall[0],), (built.cpu[0] + more.cpu[0],)
        )
        add("building", "s", *built.wall)
        add("building, CPU", "s", *built.cpu)
        add("peak memory, mapped bounds included", "MiB", harness.peak_mebibytes())
        _search(place, codes, shards if count == counts[-1] else 0, repeats, add)
    return rows


def _search(place: Path, codes: Codes, shards: int, repeats: int, add) -> None:
    _cold(place, codes, repeats, add)
    index = OutfitIndex.open(place, codes)
    add("index", "GiB", index.num_bytes / 2**30)
    start = time.perf_counter()
    hits = index.search(0, K)
    verified = time.perf_counter() - start
    add("first search, which reads and verifies all", "s", verified)
    _warm("", index, codes, repeats, add)
    start = time.perf_counter()
    check(place, codes, 0, hits)
    add("a scan of all for one user, by numpy", "s", time.perf_counter() - start)
    if shards:
        _shards(shards, place, index, codes, repeats, add)


def _cold(place: Path, codes: Codes, repeats: int, add: Callable) -> None:
    opening, searching = [], []
    for user in range(repeats + 1):  # The first may have to compile.
        for path in place.rglob("*.*"):
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        index = OutfitIndex.open(place, codes, verify=False)
        opened = time.perf_counter()
        index.search(user, K)
        searching.append(1e3 * (time.perf_counter() - opened))
        opening.append(opened - start)
        del index  # What is mapped stays in memory.
    add("opening, cold", "s", *opening[1:])
    add("search of one user, cold", "ms", *searching[1:])


def _warm(name: str, index: OutfitSearch, codes: Codes, repeats: int, add) -> None:
    """Other users each time: what one has read does not help the next."""
    for users, times in ((1, 8 * repeats), (64, 3)):
        some = iter(np.arange((times + 1) * users).reshape(-1, users) % codes.num_users)
        found = harness.timed(
            lambda some=some: index.search_batch(next(some), K), times
        )
        what = f"{name}search of one user" + (f" among {users}" if users > 1 else "")
        add(what, "ms", *(1e3 * wall / users for wall in found.wall))
        if not name:  # Not in other processes.
            add(f"{what}, CPU", "ms", *(1e3 * cpu / users for cpu in found.cpu))


def _shards(
    count: int, place: Path, index: OutfitIndex, codes: Codes, repeats: int, add
) -> None:
    from fhn_jax.integrations.cluster import connect
    from fhn_jax.integrations.ray import ClusterIndex

    with connect():
        start = time.perf_counter()
        cluster = ClusterIndex.open(place, codes, shards=count, seconds=3600)
        opened = time.perf_counter() - start
        add(f"{count} shards: opening, which reads and verifies all", "s", opened)
        for user in range(repeats):
            found, ours = cluster.search(user, K).outfits, index.search(user, K).outfits
            if not np.array_equal(found, ours):
                raise AssertionError(f"{found} is not {ours}")
        _warm(f"{count} shards: ", cluster, codes, repeats, add)


def main() -> None:
    """The command line."""
    parser = harness.parser(__doc__)
    parser.add_argument(
        "--run",
        type=harness.count,
        nargs="+",
        metavar="N",
        help="build so many outfits and search; rising numbers",
    )
    parser.add_argument(
        "--kinds", nargs="+", choices=("clustered", "random"), default=["random"]
    )
    parser.add_argument(
        "--shards", type=int, default=0, help="search these too, by Ray"
    )
    parser.add_argument("--folder", help="where the files are for a while")
    options = parser.parse_args()
    if options.run:
        rows, few = [], ItemTables.from_codes(codes_of(30, 1))
        try:
            index_files.require_room(
                options.folder or tempfile.gettempdir(), few, max(options.run)
            )
        except RefusedError as error:
            sys.exit(str(error))
        for kind in options.kinds:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                case = folder, kind, options.run, options.shards, options.repeats
                rows += harness.apart(run, *case)
        harness.report(rows, options.json)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = measure(folder, options.repeats)
    harness.report(rows, options.json)
    print(f"\n{OUTFITS:,} outfits, {USERS:,} users, {ITEMS:,} items, on paper:\n")
    for what, value, source in on_paper(rows):
        print(f"| {what} | {value} | {source} |")


if __name__ == "__main__":
    main()
