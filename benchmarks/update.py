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

    python benchmarks/update.py --load

The same shop changes a line of items.csv 50 times, each time with a refresh, and goes back
20 times, while clients ask for outfits and like them. Each version is waited for; a request
that gets no answer, or an error, is lost.
"""

import argparse
import contextlib
import csv
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
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
PORT, CLIENTS = 8931, 4


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


QUIET = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Path]:
    """A shop of 201 items, imported, trained, published and served; yields the workdir."""
    write_shop(folder / "shop")
    root, workdir = folder / "data", folder / "run"
    subprocess.run(command("import-catalogue", folder / "shop", root), **QUIET)
    flags = [f"--config.data.root={root}", "--config.train.epochs=3"]
    flags += ["--config.wandb.mode=disabled", f"--workdir={workdir}"]
    subprocess.run(command("train", "--config=shop", *flags), **QUIET)
    subprocess.run(command("extract-features", f"--workdir={workdir}"), **QUIET)
    subprocess.run(command("publish", f"--workdir={workdir}"), **QUIET)
    serve = command("serve", f"--workdir={workdir}", f"--port={PORT}", "--rate=0")
    server = subprocess.Popen(serve, stdout=subprocess.DEVNULL)
    try:
        patiently(lambda: ask("/ready"))
        yield workdir
    finally:
        server.terminate()
        server.wait()


def refresh(folder: Path) -> float:
    """Takes the shop's tables to the server; how many seconds that took."""
    start = time.perf_counter()
    flags = [f"--workdir={folder / 'run'}", f"--shop={folder / 'shop'}", "--epochs=0"]
    subprocess.run(command("refresh", *flags), **QUIET)
    return time.perf_counter() - start


def shop(folder: Path) -> list[harness.Row]:
    """The time from a line of items.csv to an outfit of the running server."""
    with served(folder):
        token = ask("/api/v1/visitors", {})["token"]
        start = time.perf_counter()
        with open(folder / "shop" / "items.csv", "a") as file:
            file.write("top-new,T-Shirts,linen top of today\n")
        refreshed = refresh(folder)

        def composed() -> dict:
            item = ask("/api/v1/item?id=top-new")["item"]
            wanted = {"k": 1, "fixed": {"top": item}}
            return ask("/api/v1/compose", wanted, token)["outfits"][0]

        found = patiently(composed)
        seconds = time.perf_counter() - start
        assert any(piece["id"] == "top-new" for piece in found["items"])
    return [
        harness.Row("update/shop_200", "refresh without training", "s", (refreshed,)),
        harness.Row("update/shop_200", "from items.csv to an outfit", "s", (seconds,)),
    ]


class Client:
    """A visitor who asks for outfits and likes one, again and again.

    Attributes:
      seconds: of each answer.
      lost: what was no answer, or an error.
    """

    def __init__(self):
        self.seconds: list[float] = []
        self.lost: list[str] = []
        self._come()

    def _come(self) -> None:
        self._token = ask("/api/v1/visitors", {})["token"]

    def run(self, ended: threading.Event) -> None:
        while not ended.is_set():
            found = self._ask("/api/v1/recommendations?k=12")
            if found is not None and not found["outfits"]:
                self._come()  # All that there is has been liked.
            elif found is not None:
                shown = found["outfits"][0]["items"]
                items = {piece["category"]: piece["item"] for piece in shown}
                self._ask("/api/v1/feedback", {"liked": True, "items": items})

    def _ask(self, path: str, body: dict | None = None) -> dict | None:
        start = time.perf_counter()
        try:
            return ask(path, body, self._token)
        except (urllib.error.URLError, ConnectionError, ValueError) as error:
            self.lost.append(f"{path}: {error!r}")
            return None
        finally:
            self.seconds.append(time.perf_counter() - start)


def under_load(folder: Path, refreshes: int, rollbacks: int) -> list[harness.Row]:
    """Requests that are lost while versions come and go, each of them served for a while."""
    path, took = folder / "shop" / "items.csv", []
    with served(folder) as workdir:
        clients = [Client() for _ in range(CLIENTS)]
        ended = threading.Event()
        threads = [threading.Thread(target=c.run, args=(ended,)) for c in clients]
        for thread in threads:
            thread.start()
        titles, rest = ["linen top 0"], rollbacks
        for number in range(refreshes):
            line, title = f"top-0,T-Shirts,{titles[-1]}", f"linen top of day {number}"
            path.write_text(path.read_text().replace(line, f"top-0,T-Shirts,{title}"))
            titles.append(title)
            took.append(refresh(folder))
            _wait_for(title)
            # One after some refreshes, until there have been so many.
            if rest and (number + 1) * rollbacks // refreshes > rollbacks - rest:
                rest -= 1
                subprocess.run(command("rollback", f"--workdir={workdir}"), **QUIET)
                _wait_for(titles[-2])
        ended.set()
        for thread in threads:
            thread.join()
    lost = [text for client in clients for text in client.lost]
    print(*lost[:20], sep="\n", file=sys.stderr)
    seconds = [s for client in clients for s in client.seconds]
    name = f"update/{refreshes}_refreshes_{rollbacks}_rollbacks"
    quantiles = {
        f"answer, {q}th percentile": np.percentile(seconds, q) for q in (50, 99)
    }
    return [
        harness.Row(name, "requests", "", (len(seconds),)),
        harness.Row(name, "requests lost", "", (len(lost),)),
        harness.Row(name, "refresh", "s", tuple(took)),
        *(harness.Row(name, q, "s", (float(s),)) for q, s in quantiles.items()),
        harness.Row(name, "slowest answer", "s", (max(seconds),)),
    ]


def _wait_for(title: str) -> None:
    """Waits until the server has the version with this title."""

    def there() -> None:
        found = ask("/api/v1/item?id=top-0")
        if found["title"] != title:
            raise KeyError(title)

    patiently(there)


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--shop", action="store_true", help="a served shop of 200 items"
    )
    parser.add_argument(
        "--load", action="store_true", help="the same, while versions come and go"
    )
    parser.add_argument("--refreshes", type=int, default=50, help="of --load")
    parser.add_argument("--rollbacks", type=int, default=20, help="of --load")
    parser.add_argument("--json", metavar="FILE", help="where to write the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.load:
            rows = under_load(Path(folder), options.refreshes, options.rollbacks)
        else:
            rows = (shop if options.shop else large)(Path(folder))
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
