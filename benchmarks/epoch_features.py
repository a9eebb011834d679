r"""An epoch on precomputed features at the size of Polyvore-630: 127,326 pairs.

    python -m benchmarks.epoch_features --json epoch_features.json

Features and outfits are random, of the true numbers: 205,234 rows of 512 floats, 630
users. The epoch is that of `configs/t3.py:features=…` (visual only, 128 bits, batches of
64), with its negatives drawn, its validation and its checkpoint.
"""

import argparse
import itertools
import os
import platform
import statistics
import subprocess
import tempfile
import time
from importlib import metadata
from pathlib import Path
from unittest import mock

import jax.numpy as jnp
import lmdb
import numpy as np
from fhn_jax.configs import t3

from fhn_jax import files
from fhn_jax.data.batches import TrainBatches
from fhn_jax.data.catalogue import Catalogue, Outfits, Split
from fhn_jax.data.items import ItemInputs
from fhn_jax.data.vectors import read_features
from fhn_jax.training.experiment import Experiment

Seconds = tuple[float, float]

USERS, WIDTH = 630, 512
# Items of each category and positives; items are disjoint between train and test.
ITEMS = {"train": 159_729, "test": 45_505}
POSITIVES = {"train": 127_326, "val": 12_565}
NEGATIVES = 10


def random_catalogue() -> Catalogue:
    """Users, items and outfits of the true numbers; val items are training items."""
    rng = np.random.default_rng(0)
    sizes = {
        split: np.diff(np.linspace(0, n, 4, dtype=int)) for split, n in ITEMS.items()
    }

    def outfits(rows: int) -> Outfits:
        users = np.sort(np.arange(rows) % USERS).astype(np.int32)
        return Outfits(users, rng.integers(0, sizes["train"], (rows, 3), np.int32))

    splits = {}
    for split, rows in POSITIVES.items():
        positives = outfits(rows)
        negatives = outfits(rows * NEGATIVES)
        splits[split] = Split(split, positives, {"random": negatives})
    categories = ("top", "bottom", "shoe")
    return Catalogue(
        root=Path("random"),
        variant="630",
        dataset="random",
        num_users=USERS,
        categories=categories,
        slots=(0, 1, 2),
        names=tuple(
            tuple(f"{category}{i}.jpg" for i in range(n))
            for category, n in zip(categories, sum(sizes.values()), strict=True)
        ),
        splits=splits,
        fitb={},
        checksum="0" * 64,
        train_checksum="0" * 64,
    )


def write_features(path: Path, names: tuple[str, ...]) -> None:
    """An LMDB with a random row for each name."""
    rng = np.random.default_rng(1)
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=2**32, sync=False) as environment:
        with environment.begin(write=True) as transaction:
            for name in names:
                row = rng.random(WIDTH, np.float32)
                transaction.put(name.encode(), row.tobytes())


def measure_reading(catalogue: Catalogue) -> tuple[np.ndarray, list[Seconds]]:
    """The features, and the time of reading them from an LMDB that was just written."""
    with tempfile.TemporaryDirectory() as root:
        write_features(Path(root) / "features" / "random", catalogue.item_names())
        before = now()
        features = read_features(root, "random", catalogue)
        return features, [since(before)]


def measure_epochs(catalogue: Catalogue, features: np.ndarray, epochs: int):
    """The time of each epoch after the first, in which the step is compiled."""
    config = t3.get_config("features=random")
    config.train.epochs = epochs + 1
    config.wandb.mode = "disabled"
    names = catalogue.item_names()
    inputs = ItemInputs({"visual": jnp.asarray(features)}, None, None, names, 0)
    begun = []
    epoch_of = TrainBatches.epoch

    def epoch(self, *arguments):
        begun.append(now())
        return epoch_of(self, *arguments)

    with (
        tempfile.TemporaryDirectory() as workdir,
        mock.patch.object(TrainBatches, "epoch", epoch),
    ):
        Experiment(config, Path(workdir), catalogue=catalogue, inputs=inputs).train()
    begun.append(now())
    return [since(a, b) for a, b in itertools.pairwise(begun[1:])]


def now() -> Seconds:
    """Wall and CPU seconds."""
    return time.perf_counter(), time.process_time()


def since(before: Seconds, after: Seconds | None = None) -> Seconds:
    """Wall and CPU seconds between two times, or until now."""
    wall, cpu = after or now()
    return wall - before[0], cpu - before[1]


def rows_of(case: str, measured: list[Seconds]) -> list[dict]:
    """Rows of the JSON file: the median of wall and CPU seconds."""
    return [
        {
            "case": case,
            "metric": metric,
            "value": statistics.median(values),
            "unit": "s",
            "min": min(values),
            "max": max(values),
            "n": len(values),
        }
        for metric, values in zip(
            ("wall", "cpu"), zip(*measured, strict=True), strict=True
        )
    ]


def main() -> None:
    """Prints and writes the seconds of reading the features and of an epoch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    parser.add_argument("--epochs", type=int, default=3, help="epochs to measure")
    arguments = parser.parse_args()
    catalogue = random_catalogue()
    features, reading = measure_reading(catalogue)
    rows = rows_of("read/630_features", reading)
    epochs = measure_epochs(catalogue, features, arguments.epochs)
    rows += rows_of("epoch/630_features", epochs)
    for row in rows:
        print(
            "{case:20} {metric:4} {value:8.2f} {unit} [{min:.2f}, {max:.2f}]".format(
                **row
            )
        )
    if arguments.json:
        head = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(head, capture_output=True, text=True, check=True)
        packages = ("jax", "flax", "optax", "numpy")
        files.write_json(
            arguments.json,
            {
                "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
                "versions": {name: metadata.version(name) for name in packages},
                "commit": commit.stdout.strip(),
                "rows": rows,
            },
        )


if __name__ == "__main__":
    main()
