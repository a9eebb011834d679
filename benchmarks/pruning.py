"""Where exact search and composition spend their time, and what pruning could leave out.

    python benchmarks/pruning.py
    python benchmarks/pruning.py --kinds random --outfits 1M --items 20000

An oracle knows the score of the tenth best outfit before it starts. What a bound does not
rule out for the oracle, no order of search can leave out with that bound. Spread is the
standard deviation of affinities within the ranges of a layout, as a share of that among
all items of a category: what a range says nothing about.
"""

import time
from pathlib import Path

import numpy as np

try:
    from benchmarks import harness, retrieval
except ModuleNotFoundError:  # as `python benchmarks/pruning.py`
    import harness
    import retrieval

from fhn_jax.retrieval import kernels, searcher
from fhn_jax.retrieval.composer import Composer
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.kernels import compose_edges

K, USERS, COMPOSED = 10, 16, 8


def search_rows(kind: str, path: Path | None, name: str) -> list[harness.Row]:
    """Of stored outfits, with the layout that an index would choose."""
    codes = retrieval.make_codes(kind, path)
    tables = ItemTables.from_codes(codes)
    outfits = retrieval.make_outfits(codes, retrieval.SIZES[name])
    layout, _ = searcher.choose_layout(tables, outfits, 0)
    (blocks,) = searcher.arrange_each(tables, layout, outfits, np.arange(len(outfits)))
    packed = layout.by_position(tables.packed)
    scales = None if tables.scales is None else layout.by_position(tables.scales)
    none = np.empty(0, np.int64)
    filters = kernels.Filters(
        *(none, none, np.empty(0, bool), none),
        np.empty((0, len(codes.slots)), np.int64),
    )
    of_outfits = np.repeat(np.arange(len(blocks.tops)), np.diff(blocks.starts))
    found: dict[tuple[str, str], list[float]] = {}

    def timed(what, function):
        start = time.process_time()
        result = function()
        ms = 1000 * (time.process_time() - start)
        found.setdefault((what, "CPU-ms"), []).append(ms)
        return result

    for user in (0, *range(min(USERS, codes.num_users))):
        weights = tables.byte_tables(tables.user_vectors(np.array([user])))
        affinities = timed(
            "affinities of all items",
            lambda weights=weights: kernels.affinities(packed, scales, weights, 2**16)[
                0
            ],
        )
        own = affinities[: len(packed)]
        bounds = timed("bounds of ranges", lambda own=own: layout.range_maxima(own))
        best = kernels.TopK.empty(K)
        timed(
            "search of blocks",
            lambda a=affinities, b=bounds, t=best: kernels.search_blocks(
                blocks, a, b, filters, t, 0
            ),
        )
        of_blocks = bounds[blocks.ranges].sum(axis=1, dtype=np.int64)
        tenth = best.scores.min()
        fine = np.add.reduceat(
            own, starts := layout.range_starts[layout.num_coarse : -1]
        )
        sizes = np.diff(np.append(starts, len(own)))
        inside = own - np.repeat(fine / sizes, sizes)
        whole = [
            own[a:b].var() for a, b in zip(*_pairs(layout.category_starts), strict=True)
        ]
        for what, value in {
            "blocks looked at": best.counts[1] / len(blocks.tops),
            "blocks, oracle": np.mean(of_blocks + blocks.tops >= tenth),
            "outfits, oracle": np.mean(
                of_blocks[of_outfits] + blocks.compatibilities >= tenth
            ),
            "spread": float(np.sqrt((inside**2).mean() / np.mean(whole))),
        }.items():
            found.setdefault((what, "share"), []).append(float(value))
    # The first user's search compiles.
    return [
        harness.Row(f"{kind}/{name}", what, unit, tuple(values[1:]))
        for (what, unit), values in found.items()
    ]


def _pairs(edges):
    return edges[:-1], edges[1:]


def compose_rows(kind: str, path: Path | None, count: int) -> list[harness.Row]:
    """Of composition from so many items a category."""
    codes = retrieval.make_codes(kind, path, (count,) * 3)
    composer = Composer(codes)
    clusters = np.diff(composer._bounds.first_cluster)
    pairs = (clusters.sum() ** 2 - (clusters**2).sum()) / 2
    whole, found = compose_edges.compose, {}

    def note(who, problem, scores, outfits, rounds):
        start = time.process_time()
        counters = whole(problem, scores, outfits, rounds)
        ms = 1000 * (time.process_time() - start)
        for what, value, unit in (
            ("search", ms, "CPU-ms"),
            ("pairs of clusters looked at", counters[0] / pairs, "share"),
            ("pair terms computed", counters[2], ""),
        ):
            found.setdefault((f"{what}, {who}", unit), []).append(float(value))
        return counters

    def both(problem, scores, outfits, rounds):
        counters = note("ours", problem, scores, outfits, rounds)
        known, last = np.full_like(scores, scores[-1]), np.full_like(outfits, 2**30)
        note("oracle", problem, known, last, np.ones(1))
        return counters

    compose_edges.compose = both
    try:
        for user in (0, *range(min(COMPOSED, codes.num_users))):
            composer.compose(user, K)
    finally:
        compose_edges.compose = whole
    return [
        harness.Row(f"{kind}/compose/{count}", what, unit, tuple(values[1:]))
        for (what, unit), values in found.items()
    ]


def main() -> None:
    """Measures what the command line asks for."""
    parser = harness.parser(__doc__)
    parser.add_argument("--outfits", nargs="*", choices=retrieval.SIZES, default=["1M"])
    parser.add_argument("--items", nargs="*", type=int, default=[20000])
    arguments, kinds = retrieval.parse(parser)
    rows: list[harness.Row] = []
    for kind in kinds:
        for name in arguments.outfits:
            rows += search_rows(kind, arguments.codes, name)
        for count in arguments.items:
            rows += compose_rows(kind, arguments.codes, count)
    harness.report(rows, arguments.json)


if __name__ == "__main__":
    main()
