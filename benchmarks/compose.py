"""Exact composition of outfits: the 10 best of all that the items of a catalogue allow.

    python benchmarks/compose.py --json compose.json
    python benchmarks/compose.py --items 200 2000 --codes runs/vse_t3/codes.safetensors

Three categories, 128 bits, two modalities, learned weights (T3), users of real numbers;
clustered, random and learned codes as in benchmarks/retrieval.py. With 200 items a
category each answer is compared with the plain way, which scores all 8 million outfits.
Compilation is excluded. Wall times suffer when the machine has other work; CPU times
stand beside them.
"""

import itertools
import time
from pathlib import Path

import numpy as np

try:
    from benchmarks import harness, retrieval
except ModuleNotFoundError:  # as `python benchmarks/compose.py`
    import harness
    import retrieval

from fhn_jax.retrieval.composer import Composer
from fhn_jax.retrieval.items import ItemTables

K = 10
# More items a category make more outfits than a plain scan can go through.
PLAIN = 200


def plain(tables: ItemTables, user: int) -> np.ndarray:
    """The best outfits by scoring all of them: [K, 3]."""
    counts = tables.codes.num_items
    scores = np.zeros(counts, np.int64)
    affinities = tables.affinities(tables.user_vectors(user))
    for axis, values in enumerate(affinities):
        shape = [1] * len(counts)
        shape[axis] = -1
        scores += values[0].reshape(shape)
    for a, b in itertools.combinations(range(len(counts)), 2):
        grid = np.indices((counts[a], counts[b])).reshape(2, -1)
        shape = [1] * len(counts)
        shape[a], shape[b] = counts[a], counts[b]
        scores += tables.pairs(a, grid[0], b, grid[1]).reshape(shape)
    scores = scores.ravel()
    kth = np.partition(scores, -K)[-K]
    # Places rise as ids do, slot by slot.
    some = np.flatnonzero(scores >= kth)
    some = some[np.argsort(-scores[some], kind="stable")][:K]
    return np.stack(np.unravel_index(some, counts), axis=1)


def measure(kind: str, path: Path | None, count: int, repeats: int):
    """All rows of one kind of codes and number of items a category."""
    codes = retrieval.make_codes(kind, path, (count,) * 3)
    tables = ItemTables.from_codes(codes)
    rows, made = [], []

    def add(case, what, function, times, scale, unit, warmup=1):
        timing = harness.timed(function, times, warmup)
        for clock in ("wall", "cpu"):
            values = tuple(scale * t for t in getattr(timing, clock))
            rows.append(harness.Row(case, f"{kind}: {what}, {clock}", unit, values))

    case = f"compose/{count}"
    build = lambda: made.append(Composer(tables))  # noqa: E731
    add(case, "tables", build, 1, 1, "s", warmup=0)
    composer = made[0]
    size = composer.num_bytes / 2**20
    rows.append(harness.Row(case, f"{kind}: tables", "MiB", (size,)))
    share = retrieval.clusteredness(codes)
    rows.append(harness.Row(case, f"{kind}: clusteredness", "share of bits", (share,)))
    if count <= PLAIN:
        for user in range(4):
            found, expected = composer.compose(user, K).items, plain(tables, user)
            if not np.array_equal(found, expected):
                raise AssertionError(f"user {user}: {found} is not {expected}")
        add(case, "plain", lambda: plain(tables, 0), 1, 1000, "ms")
    # Another user each time: no cache line is found again by chance.
    users = itertools.cycle(range(codes.num_users))
    last = codes.categories[codes.slots[-1]]

    def one():
        return composer.compose(next(users), K)

    def fixed():
        user = next(users)
        return composer.compose(user, K, fixed={last: user % count})

    add(case, "10 best", one, 8 * repeats, 1000, "ms")
    add(f"{case}/fixed", "10 best", fixed, 8 * repeats, 1000, "ms")
    return rows


def main() -> None:
    """Measures what the command line asks for."""
    parser = harness.parser(__doc__)
    parser.add_argument(
        "--items", nargs="+", type=int, default=[200, 2000, 20000], help="a category"
    )
    arguments, kinds = retrieval.parse(parser)
    rows: list[harness.Row] = []
    start = time.perf_counter()
    for kind in kinds:
        for count in arguments.items:
            print(f"{time.perf_counter() - start:6.0f} s  {kind}, {count}")
            rows += measure(kind, arguments.codes, count, arguments.repeats)
    harness.report(rows, arguments.json)


if __name__ == "__main__":
    main()
