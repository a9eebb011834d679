r"""How long new items take from a file to an answer.

    python benchmarks/update.py --json update.json

10,000 items come to a catalogue of a million (random codes of 128 bits in two modalities)
with a million stored outfits, and 10,000 outfits of them. Times are of the codes from their
file, of an index that takes up items and outfits, of the first search after that, and of an
index built anew, to compare with; then of bringing both together again (`compact`).

    python benchmarks/update.py --shop

A shop of 200 items is imported, trained for a few epochs, published and served by processes
of their own. A line is appended to items.csv, `refresh --epochs 0` runs, and the time counts
until the server composes an outfit with the new item.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

try:
    from benchmarks import harness
except ModuleNotFoundError:  # as `python benchmarks/update.py`
    import harness

from fhn_jax.codes import Codes
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.updating import update_index

ITEMS, NEW, OUTFITS, BITS = 999_999, 10_000, 10**6, 128
PORT = 8931


def synthetic(items: int) -> Codes:
    """Random codes of three categories."""
    rng = np.random.default_rng(0)
    counts = [items // 3 + (k < items % 3) for k in range(3)]
    return Codes(
        bits=BITS,
        modalities=("visual", "text"),
        categories=("top", "bottom", "shoe"),
        items={
            modality: tuple(
                rng.integers(0, 256, (n, BITS // 8), dtype=np.uint8) for n in counts
            )
            for modality in ("visual", "text")
        },
        users=rng.integers(0, 256, (100, BITS // 8), dtype=np.uint8),
        user_latents=rng.uniform(-1, 1, (100, BITS)).astype(np.float32),
    )


def large(folder: Path) -> list[harness.Row]:
    """The times of a catalogue of a million."""
    codes = synthetic(ITEMS + NEW)
    before = [n - NEW // 3 - 1 for n in codes.num_items]
    rng = np.random.default_rng(1)

    def outfits(count: int, first: list[int]) -> np.ndarray:
        ends = zip(first, codes.num_items, strict=True)
        return np.stack([rng.integers(a, b, count) for a, b in ends], axis=1)

    known = codes.first_items(before)
    old = np.stack([rng.integers(0, n, OUTFITS) for n in before], axis=1)
    old = np.unique(old, axis=0)
    new = outfits(NEW, before)
    codes.save(folder / "codes.safetensors")
    rows = []

    def took(metric: str, start: float) -> None:
        seconds = time.perf_counter() - start
        rows.append(harness.Row("update/1M", metric, "s", (seconds,)))

    start = time.perf_counter()
    OutfitIndex.build(folder / "index", known, old).search(0)
    took("build of the index", start)
    all_ = np.concatenate([old, new])
    begin = start = time.perf_counter()
    loaded = Codes.load(folder / "codes.safetensors")
    took("codes from the file", start)
    start = time.perf_counter()
    index = OutfitIndex.open_grown(folder / "index", loaded)
    took("new items taken up", start)
    start = time.perf_counter()
    update_index(index, all_)
    took("outfits brought up to date", start)
    start = time.perf_counter()
    index.search(0, 10)
    took("first search", start)
    took("from file to answer", begin)
    searches = harness.timed(lambda: index.search(1, 10), 20)
    rows.append(harness.Row("update/1M", "search after", "s", searches.wall))
    start = time.perf_counter()
    index.compact()
    took("compaction", start)
    searches = harness.timed(lambda: index.search(1, 10), 20)
    rows.append(harness.Row("update/1M", "search when compacted", "s", searches.wall))
    return rows


def write_shop(folder: Path) -> None:
    """A shop of 201 items and 40 users without photos."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    slots = {"top": "T-Shirts", "bottom": "Jeans", "shoe": "Sneaker"}
    with open(folder / "items.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "category", "title"])
        for slot, category in slots.items():
            for n in range(67):
                style = ("linen", "sports", "formal", "denim")[n % 4]
                writer.writerow([f"{slot}-{n}", category, f"{style} {slot} {n}"])
    with open(folder / "likes.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", *slots])
        for user in range(40):
            for _ in range(12):
                items = [f"{s}-{rng.integers(16) * 4 + user % 4}" for s in slots]
                writer.writerow([f"u{user}", *items])


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fhn_jax.main", *map(str, arguments)]


def ask(path: str, body: dict | None = None, token: str = "") -> dict:
    """An answer of the server."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{PORT}{path}"
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
        return json.loads(answer.read())


def patiently(found, seconds: float = 120):
    """What `found` returns, once it does not fail."""
    end = time.perf_counter() + seconds
    while True:
        try:
            return found()
        except (urllib.error.URLError, ConnectionError, KeyError):
            if time.perf_counter() > end:
                raise
            time.sleep(0.1)


def shop(folder: Path) -> list[harness.Row]:
    """The time from a line of items.csv to an outfit of the running server."""
    write_shop(folder / "shop")
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    root, workdir = folder / "data", folder / "run"
    subprocess.run(command("import-catalogue", folder / "shop", root), **quiet)
    flags = [f"--config.data.root={root}", "--config.train.epochs=3"]
    flags += ["--config.wandb.mode=disabled", f"--workdir={workdir}"]
    subprocess.run(command("train", "--config=shop", *flags), **quiet)
    subprocess.run(command("extract-features", f"--workdir={workdir}"), **quiet)
    subprocess.run(command("publish", f"--workdir={workdir}"), **quiet)
    serve = command("serve", f"--workdir={workdir}", f"--port={PORT}", "--rate=0")
    server = subprocess.Popen(serve, stdout=subprocess.DEVNULL)
    try:
        patiently(lambda: ask("/ready"))
        token = ask("/api/v1/visitors", {})["token"]
        start = time.perf_counter()
        with open(folder / "shop" / "items.csv", "a") as file:
            file.write("top-new,T-Shirts,linen top of today\n")
        of_shop = [f"--shop={folder / 'shop'}", "--epochs=0"]
        subprocess.run(command("refresh", f"--workdir={workdir}", *of_shop), **quiet)
        refreshed = time.perf_counter() - start

        def composed() -> dict:
            item = ask("/api/v1/item?id=top-new")["item"]
            wanted = {"k": 1, "fixed": {"top": item}}
            return ask("/api/v1/compose", wanted, token)["outfits"][0]

        found = patiently(composed)
        seconds = time.perf_counter() - start
        assert any(piece["id"] == "top-new" for piece in found["items"])
    finally:
        server.terminate()
        server.wait()
    return [
        harness.Row("update/shop_200", "refresh without training", "s", (refreshed,)),
        harness.Row("update/shop_200", "from items.csv to an outfit", "s", (seconds,)),
    ]


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--shop", action="store_true", help="a served shop of 200 items"
    )
    parser.add_argument("--json", metavar="FILE", help="where to write the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = (shop if options.shop else large)(Path(folder))
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
