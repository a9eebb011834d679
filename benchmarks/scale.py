r"""What 100 million outfits and 10 million users take, on paper from what is measured here.

    python benchmarks/scale.py --json scale.json

Pieces are measured at sizes of a few minutes, with random codes of 128 bits in two
modalities; times are CPU time, which depends less on what else runs. What grows with the size is
measured at two sizes, and the line through both is taken on; each line of the second table
names the measurement that it comes from.

    python benchmarks/scale.py --run 10000000 --folder /large/disk

An index of so many outfits is built, piece by piece so that memory stays bounded, and
searched: what was paper before.
"""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness  # noqa: E402

from fhn_jax.codes import Codes  # noqa: E402
from fhn_jax.retrieval.outfit_index import OutfitIndex  # noqa: E402

OUTFITS, USERS, ITEMS = 100_000_000, 10_000_000, 10_000_000
# Of a machine that the second table counts in.
CORES, MEMORY_GIB, NIGHT_H = 32, 128, 8
BITS, SLOTS = 128, 3
SIZES = 1_000_000, 10_000_000
PIECE = 5_000_000
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


def outfits_of(codes: Codes, count: int, seed: int = 0) -> np.ndarray:
    """Random outfits, int32 [count, 3]."""
    rng = np.random.default_rng(seed)
    return np.stack(
        [rng.integers(0, n, count, dtype=np.int32) for n in codes.num_items], axis=1
    )


def codes_bytes(folder: str) -> tuple[float, float]:
    """Bytes of the file for an item, and for a user."""
    sizes = []
    for items, users in ((3_000, 3_000), (30_000, 3_000), (3_000, 30_000)):
        path = Path(folder) / "codes.safetensors"
        codes_of(items, users).save(path)
        sizes.append(path.stat().st_size)
    return (sizes[1] - sizes[0]) / 27_000, (sizes[2] - sizes[0]) / 27_000


def build(folder: str, count: int) -> OutfitIndex:
    """An index of so many outfits of 100,000 items, a piece in memory at a time."""
    codes, place = codes_of(100_000, 1_024), Path(folder) / "index"
    index = OutfitIndex.build(place, codes, outfits_of(codes, min(PIECE, count)))
    for done in range(PIECE, count, PIECE):
        index.append(outfits_of(codes, min(PIECE, count - done), seed=done))
        print(f"{done:,} outfits and more", file=sys.stderr)
    return index


def index_pieces(folder: str, count: int, repeats: int) -> dict[str, tuple[float, ...]]:
    """An index of so many outfits: bytes of each, CPU-s to build, CPU-ms of searches."""
    import numba

    numba.set_num_threads(1)
    start = time.process_time()
    index = build(folder, count)
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
    likes = Outfits(users, outfits_of(codes, len(users)))
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


def run(folder: str, count: int, repeats: int) -> list[harness.Row]:
    """Builds and searches an index of so many outfits."""
    rows, case = [], f"scale/run of {count:,}"

    def add(metric: str, unit: str, *values: float) -> None:
        rows.append(harness.Row(case, metric, unit, values))

    start = time.perf_counter()
    index = build(folder, count)
    add("building", "s", time.perf_counter() - start)
    add("peak memory of building", "MiB", harness.peak_mebibytes())
    add("index", "GiB", index.num_bytes / 2**30)
    start = time.perf_counter()
    index.search(0, 10)
    add("first search, which reads and verifies all", "s", time.perf_counter() - start)
    for name, users in (("search", 1), ("search of a user among 64", 64)):
        call: Callable = lambda n=users: index.search_batch(np.arange(n), 10)  # noqa: E731
        walls = harness.timed(call, repeats).wall
        add(name, "ms", *(1e3 * wall / users for wall in walls))
    add("peak memory, pages of the index included", "MiB", harness.peak_mebibytes())
    return rows


def main() -> None:
    """The command line."""
    parser = harness.parser(__doc__)
    parser.add_argument(
        "--run", type=int, metavar="N", help="build N outfits and search"
    )
    parser.add_argument("--folder", help="where the files are for a while")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.run:
            rows = harness.apart(run, folder, options.run, options.repeats)
            harness.report(rows, options.json)
            return
        rows = measure(folder, options.repeats)
    harness.report(rows, options.json)
    print(f"\n{OUTFITS:,} outfits, {USERS:,} users, {ITEMS:,} items, on paper:\n")
    for what, value, source in on_paper(rows):
        print(f"| {what} | {value} | {source} |")


if __name__ == "__main__":
    main()
