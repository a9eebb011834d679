r"""A simulated year: items and users arrive month by month, and `refresh` follows.

    python benchmarks/year.py --root ../shared/data/clothing_outfits --json year.json
    python benchmarks/year.py --root ../shared/data/clothing_outfits --images

A shop opens with 76 % of the items and 16 of the 40 users of a data set in the layout; each
month brings 2 % of the items, two users, and the likes that they make possible. A quarter
of the likes is never told to the shop: each month they are what `refresh` is judged by, if
their user or one of their pieces is of that month. Every `--every` months a network is
trained from nothing on the same data, with the settings of the first one, and judged by the
same likes. Each like stands against ten outfits of the pieces that there are.

Items are texts, or photos. Train and validation splits of the data set are used,
its test split is not.

    python benchmarks/year.py --log benchmarks/year.log --chart docs/year.svg

draws what such a year printed, as far as it came.
"""

import argparse
import csv
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

try:
    from benchmarks import harness
except ModuleNotFoundError:  # as `python benchmarks/year.py`
    import harness

from fhn_jax.codes import Scorer, load
from fhn_jax.data.item_names import read_names
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.vector_files import load_vectors
from fhn_jax.recommender.publishing import served

MONTHS, A_MONTH = 12, 0.02
USERS_AT_FIRST, USERS_A_MONTH = 16, 2
UNTOLD, NEGATIVES = 0.25, 10
SCORE = "asymmetric"


@dataclasses.dataclass
class World:
    """What a year brings.

    Attributes:
      shelves: category → names of its items.
      arrival: category → the month of each item; 0 for those of the opening.
      users: the month of each user.
      likes: (n, 1 + categories), a user and items; each once.
      untold: (n,), whether the shop is never told.
    """

    shelves: dict[str, list[str]]
    arrival: dict[str, np.ndarray]
    users: np.ndarray
    likes: np.ndarray
    untold: np.ndarray

    @classmethod
    def of(cls, root: Path, variant: str, seed: int) -> "World":
        """Draws who arrives when."""
        rng = np.random.default_rng(seed)
        catalogue = read_catalogue(root, variant)
        likes = np.concatenate(
            [
                np.column_stack([split.positives.users, split.positives.items])
                for split in (catalogue.splits["train"], catalogue.splits["val"])
            ]
        )
        shelves, arrival = {}, {}
        for column, slot in enumerate(catalogue.slots, 1):
            category, names = catalogue.categories[slot], catalogue.names[slot]
            used = np.unique(likes[:, column])
            shelves[category] = [names[item] for item in used]
            likes[:, column] = np.searchsorted(used, likes[:, column])
            arrival[category] = _months(len(used), rng)
        users = np.maximum(
            0, (np.arange(catalogue.num_users) - USERS_AT_FIRST) // USERS_A_MONTH + 1
        )
        rng.shuffle(users)
        return cls(shelves, arrival, users, likes, rng.random(len(likes)) < UNTOLD)

    def months(self, likes: np.ndarray) -> np.ndarray:
        """The month in which a like is possible."""
        items = zip(self.arrival.values(), likes[:, 1:].T, strict=True)
        return np.max([self.users[likes[:, 0]], *(a[i] for a, i in items)], axis=0)

    def tell(self, shop: Path, month: int, vectors: Path, photos: Path | None) -> None:
        """Writes the tables of a month's end; with photos, or with vectors of texts."""
        (shop / ("images" if photos else "vectors")).mkdir(parents=True, exist_ok=True)
        there = [
            (category, name)
            for category, names in self.shelves.items()
            for name, arrived in zip(names, self.arrival[category], strict=True)
            if arrived <= month
        ]
        columns = ["category", "id"]
        if photos:
            columns.append("image")
            for _, name in there:
                shutil.copy(photos / name, shop / "images" / name)
        with open(shop / "items.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for category, name in there:
                writer.writerow([category, name, f"images/{name}"][: len(columns)])
        told = self.likes[~self.untold & (self.months(self.likes) <= month)]
        with open(shop / "likes.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["user", *self.shelves])
            shelves = list(self.shelves.values())
            for user, *items in told.tolist():
                pieces = zip(shelves, items, strict=True)
                writer.writerow([f"u{user}", *(names[item] for names, item in pieces)])
        if photos:
            return
        known, values = load_vectors(vectors)
        row = {name: n for n, name in enumerate(known)}
        names = [name for _, name in there]
        rows = values[[row[name] for name in names]]
        np.savez(shop / "vectors" / "text.npz", names=np.array(names), vectors=rows)

    def questions(self, month: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Untold likes that this month made possible, and outfits beside each.

        Returns:
          (n, 1 + categories) and (n, NEGATIVES, categories).
        """
        rng = np.random.default_rng((seed, month))
        asked = self.likes[self.untold & (self.months(self.likes) == month)]
        there = [np.flatnonzero(arrived <= month) for arrived in self.arrival.values()]
        shape = len(asked), NEGATIVES
        return asked, np.stack([rng.choice(items, shape) for items in there], axis=2)


def _months(count: int, rng: np.random.Generator) -> np.ndarray:
    arrived = np.zeros(count, int)
    each = round(A_MONTH * count)
    late = rng.permutation(count)[: each * MONTHS]
    arrived[late] = np.arange(len(late)) // each + 1
    return arrived


class Shop:
    """The command line, asked for one shop, with the processor time that it takes."""

    def __init__(self, folder: Path, epochs: int):
        self.tables, self.root, self.workdir = (
            folder / name for name in ("shop", "data", "run")
        )
        self._epochs = epochs

    def open(self) -> float:
        """Imports, trains and publishes."""
        took = _seconds("import-catalogue", self.tables, self.root)
        took += self.train(self.workdir)
        return took + _seconds("publish", "--workdir", self.workdir)

    def train(self, workdir: Path) -> float:
        """Trains from nothing on the data that there are, and exports the codes."""
        flags = [f"--config.data.root={self.root}", "--config.wandb.mode=disabled"]
        took = _seconds("train", "--config=shop", *flags, "--workdir", workdir)
        return took + _seconds("extract-features", "--workdir", workdir)

    def refresh(self) -> float:
        """What cron would call at the end of a month."""
        flags = ["--shop", self.tables, "--epochs", self._epochs, "--fall", 0.01]
        return _seconds("refresh", "--workdir", self.workdir, *flags, ok=(0, 2))


def _seconds(*arguments: object, ok: tuple[int, ...] = (0,)) -> float:
    """Runs a command; the processor time that it and its children took."""
    command = [sys.executable, "-m", "fhn_jax.main", *map(str, arguments)]
    before = os.times()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in ok:
        sys.exit(f"{' '.join(command)}: {done.stderr or done.stdout}")
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def judge(world: World, month: int, run: Path, root: Path) -> float:
    """The AUC of codes on the untold likes of a month's new items and users."""
    asked, beside = world.questions(month, seed=0)
    outfits = np.concatenate([asked[:, None, 1:], beside], axis=1)
    codes = load(run)
    names = read_names(root, "shop", codes)
    users = np.array([names.find_user(f"u{user}", "likes") for user in asked[:, 0]])
    items = np.empty_like(outfits)
    for column, (category, shelf) in enumerate(world.shelves.items()):
        there = np.unique(outfits[:, :, column])
        numbers = [names.find(category, shelf[item], "items") for item in there]
        items[:, :, column] = np.array(numbers)[
            np.searchsorted(there, outfits[:, :, column])
        ]
    flat = items.reshape(-1, items.shape[2])
    scores = Scorer(codes).score(SCORE, np.repeat(users, items.shape[1]), flat)
    scores = scores.reshape(items.shape[:2])
    liked, others = scores[:, :1], scores[:, 1:]
    return float(np.mean((liked > others) + 0.5 * (liked == others)))


def year(world: World, folder: Path, vectors: Path, options: argparse.Namespace):
    """Lives through it, and prints each month.

    Yields:
      month, likes it is judged by, AUC and CPU seconds of `refresh`, and both of a network
      trained from nothing, NaN where none was.
    """
    shop = Shop(folder, options.epochs)
    photos = options.root / "images" / "291x291" if options.images else None
    world.tell(shop.tables, 0, vectors, photos)
    print(f"the opening: trained in {shop.open():.0f} CPU-s", flush=True)
    for month in range(1, MONTHS + 1):
        world.tell(shop.tables, month, vectors, photos)
        cost = shop.refresh()
        run, _ = served(shop.workdir, shop.root)
        found = [month, len(world.questions(month, 0)[0])]
        found += [judge(world, month, run, shop.root), cost]
        if month % options.every:
            found += [float("nan")] * 2
        else:
            anew = folder / f"anew-{month}"
            cost = shop.train(anew)
            found += [judge(world, month, anew, shop.root), cost]
        print("month {}: {} likes, AUC {:.4f} in {:.0f} CPU-s".format(*found), end="")
        print("; from nothing {:.4f} in {:.0f} CPU-s".format(*found[4:]), flush=True)
        yield found


def draw(log: Path, chart: Path) -> None:
    """Draws the months of a log, AUC and processor time of both ways; prints a table."""
    import matplotlib

    matplotlib.use("Agg")
    # The same file each time, with letters as text.
    matplotlib.rcParams |= {"svg.hashsalt": "year", "svg.fonttype": "none"}
    from matplotlib import pyplot

    number = r"([0-9.]+|nan)"
    one = rf"AUC {number} in {number} CPU-s"
    line = rf"month ([0-9]+): ([0-9]+) likes, {one}; from nothing {number} in {number}"
    months = np.array(re.findall(line, log.read_text("utf-8")), float).T
    if not months.size:
        sys.exit(f"{log} has no months")
    print("| month | likes | AUC, `refresh` | from nothing | CPU-s | from nothing |")
    print("|---|---|---|---|---|---|")
    for month, likes, *both in months.T:
        auc, cost, other, theirs = both
        print(f"| {month:.0f} | {likes:.0f} | {auc:.3f} | {other:.3f}", end="")
        print(f" | {cost:.0f} | {theirs:.0f} |")
    _, likes, auc, cost, other, theirs = months[:, ~np.isnan(months[4])]
    behind = np.average(auc - other, weights=likes)
    print(f"refresh - from nothing, mean over likes: {behind:.4f}", end="")
    print(f", at {cost.sum() / theirs.sum():.2f} of its processor time")
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3))
    for axis, label, ours in zip(axes, ("AUC", "CPU-s"), (2, 3), strict=True):
        there = ~np.isnan(months[ours + 2])
        axis.plot(months[0], months[ours], "o-", label="refresh")
        axis.plot(
            months[0][there], months[ours + 2][there], "s--", label="from nothing"
        )
        axis.set(xlabel="month", ylabel=label)
    axes[0].set_title("likes of new items and users")
    axes[1].set_title("processor time")
    axes[1].set_ylim(bottom=0)
    axes[0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(chart, metadata={"Date": None})


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, help="of the data set")
    parser.add_argument("--log", type=Path, help="of a year, to draw in place of one")
    parser.add_argument("--chart", type=Path, help="SVG file to draw it to")
    parser.add_argument("--variant", default="40", help="of its outfits")
    parser.add_argument(
        "--vectors", default="sentence_vector/semantic.npz", help="of its items' texts"
    )
    parser.add_argument(
        "--images", action="store_true", help="items are photos, not texts"
    )
    parser.add_argument("--epochs", type=int, default=2, help="of a refresh")
    parser.add_argument("--every", type=int, default=1, help="months between networks")
    parser.add_argument("--seed", type=int, default=0, help="of who arrives when")
    parser.add_argument("--json", metavar="FILE", help="where to write the results")
    options = parser.parse_args()
    if bool(options.log) != bool(options.chart) or bool(options.log) == bool(
        options.root
    ):
        parser.error("give --root, or --log and --chart")
    if options.log:
        draw(options.log, options.chart)
        return
    world = World.of(options.root, options.variant, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        vectors = options.root / options.vectors
        found = np.array(list(year(world, Path(folder), vectors, options)))
    both = found[~np.isnan(found[:, 4])]
    weights = both[:, 1] / both[:, 1].sum()
    difference = both[:, 2] - both[:, 4]
    metrics = (
        ("AUC of refresh", "", found[:, 2]),
        ("AUC from nothing", "", both[:, 4]),
        ("AUC, refresh - from nothing", "", difference),
        ("the same, mean over likes", "", [weights @ difference]),
        ("CPU time of refresh", "s", found[:, 3]),
        ("CPU time from nothing", "s", both[:, 5]),
        ("CPU time, refresh / from nothing", "", both[:, 3] / both[:, 5]),
    )
    case = "year/images" if options.images else "year/text"
    rows = [
        harness.Row(case, name, unit, tuple(map(float, values)))
        for name, unit, values in metrics
    ]
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
