"""How long does a shop's import take, and how much memory?

    python benchmarks/import_catalogue.py --repeats 1 --json import_catalogue.json

Shops are made up first: `outfits` are a million items with titles in six categories, a
million outfits of four shapes in long form, and as many likes by 100,000 users; `likes`
are ten million likes of single items by them. `photos` are JPEG images of 291 x 291 pixels
and 10 kB, which are verified and copied. Seconds are those of everything, text vectors of
the titles included (`--no-titles` goes without them); `titles` are those vectors alone, of
the items of `outfits`.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness  # noqa: E402
from input_pipeline import make_images  # noqa: E402

_CATEGORIES = ("T-Shirts", "Jeans", "Sneaker", "Dresses", "Coats", "Bags")


def make_items(folder: Path, items: int, titles: bool) -> None:
    """Writes items.csv: item i is of category i modulo six."""
    import duckdb

    title = ", 'blue cotton no ' || i || ' of ' || (i % 997) AS title" if titles else ""
    duckdb.connect().execute(
        f"COPY (SELECT 'sku-' || i AS id, {list(_CATEGORIES)}[1 + i % 6] AS category, "
        f"round(i % 9973 / 100, 2) AS price{title} FROM range({items}) t(i)) "
        f"TO '{folder}/items.csv'"
    )


def make_outfits(folder: Path, items: int, outfits: int, users: int) -> None:
    """Writes outfits.csv in long form, and likes.csv: each outfit is liked once."""
    import duckdb

    shapes = "[[0, 1, 2], [3, 2], [0, 1, 2, 4], [3, 2, 5]]"
    duckdb.connect().execute(
        f"""
        SELECT setseed(0.5);
        COPY (SELECT 'look-' || i AS outfit_id,
            'sku-' || (6 * CAST(floor(random() * {items // 6}) AS BIGINT) + slot)
            AS item_id FROM (SELECT i, unnest({shapes}[1 + i % 4]) AS slot
            FROM range({outfits}) t(i))) TO '{folder}/outfits.csv';
        COPY (SELECT CAST(floor(random() * {users}) AS BIGINT) AS user_id,
            'look-' || i AS outfit_id FROM range({outfits}) t(i)) TO '{folder}/likes.csv'
        """
    )


def make_likes(folder: Path, items: int, likes: int, users: int) -> None:
    """Writes likes.csv of single items, with times."""
    import duckdb

    duckdb.connect().execute(
        f"""
        SELECT setseed(0.5);
        COPY (SELECT CAST(floor(random() * {users}) AS BIGINT) AS user_id,
            'sku-' || CAST(floor(random() * {items}) AS BIGINT) AS item_id,
            1600000000 + CAST(random() * 1e8 AS BIGINT) AS time
            FROM range({likes})) TO '{folder}/likes.csv'
        """
    )


def measure(shop: str) -> tuple[float, float, float]:
    """Seconds, CPU-seconds and peak MiB of an import."""
    from fhn_jax import import_catalogue

    with tempfile.TemporaryDirectory(dir=Path(shop).parent) as folder:
        start, cpu = time.perf_counter(), time.process_time()
        summary = import_catalogue(shop, Path(folder) / "data")
        seconds = time.perf_counter() - start
        print(summary.text, file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return seconds, time.process_time() - cpu, min(peak, harness.peak_mebibytes())


def measure_titles(root: str) -> tuple[float, float, float]:
    """Seconds, CPU-seconds and peak MiB of the text vectors of a data root."""
    from fhn_jax.data_tools.embed_text import embed_text

    start, cpu = time.perf_counter(), time.process_time()
    embed_text(root)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return seconds, cpu, harness.peak_mebibytes()


def imported(shop: str, root: str) -> None:
    """Imports a shop, in a process of its own."""
    from fhn_jax import import_catalogue

    import_catalogue(shop, root)


def measure_photos(folder: str) -> tuple[float, int]:
    """CPU-seconds of verifying and copying photos into an LMDB, and their number."""
    from fhn_jax.data_tools.build_lmdb import store_images

    photos = {path.name: path for path in Path(folder).iterdir()}
    with tempfile.TemporaryDirectory(dir=Path(folder).parent) as place:
        cpu = time.process_time()
        assert not store_images(photos, Path(place) / "lmdb", 291)
        return time.process_time() - cpu, len(photos)


def main() -> None:
    """The command line."""
    parser = harness.parser(__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--outfits", type=int, default=1_000_000)
    parser.add_argument("--likes", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--photos", type=int, default=5_000)
    parser.add_argument("--no-titles", dest="titles", action="store_false")
    parser.add_argument("--cases", default="outfits,likes,titles,photos")
    options = parser.parse_args()
    cases = options.cases.split(",")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            shop = Path(folder) / case
            shop.mkdir()
            if case == "photos":
                make_images(shop / "photos", options.photos)
                found = [
                    harness.apart(measure_photos, str(shop / "photos"))
                    for _ in range(options.repeats)
                ]
                rates = tuple(count / seconds for seconds, count in found)
                rows.append(
                    harness.Row(f"import/{case}", "photos a CPU-second", "1/s", rates)
                )
                continue
            make_items(shop, options.items, options.titles)
            function, place, what = measure, shop, "import"
            if case == "likes":
                make_likes(shop, options.items, options.likes, options.users)
            else:
                make_outfits(shop, options.items, options.outfits, options.users)
            if case == "titles":
                function, place, what = measure_titles, shop / "data", "text vectors"
                harness.apart(imported, str(shop), str(place))
            found = [
                harness.apart(function, str(place)) for _ in range(options.repeats)
            ]
            for metric, unit, values in zip(
                (what, "CPU time", "peak memory"),
                ("s", "CPU-s", "MiB"),
                zip(*found, strict=True),
                strict=True,
            ):
                rows.append(harness.Row(f"import/{case}", metric, unit, values))
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
