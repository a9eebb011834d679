r"""Seconds to learn new users from 10 likes and 20 dislikes each.

    python -m benchmarks.cold_start --json cold_start.json

Codes are random, of the usual sizes: 128 bits, images and text, per-item scales, 630
known users, 100,000 items. No case depends on what the codes mean.
"""

import argparse
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np

from fhn_jax import files
from fhn_jax.codes import Codes
from fhn_jax.data.catalogue import Outfits
from fhn_jax.new_users import BprFit, no_clicks

BITS, KNOWN = 128, 630
ITEMS = (40_000, 40_000, 20_000)
LIKES, DISLIKES = 10, 20


def random_codes() -> Codes:
    """Codes of random bits."""
    rng = np.random.default_rng(0)
    modalities = ("visual", "text")

    def bits(count):
        return rng.integers(0, 256, (count, BITS // 8), dtype=np.uint8)

    return Codes(
        bits=BITS,
        alphabet="pm1",
        modalities=modalities,
        categories=("top", "bottom", "shoe"),
        slots=(0, 1, 2),
        hash_types=3,
        zero_item_term=False,
        zero_user_term=False,
        dataset="random",
        dataset_checksum="",
        config_hash="",
        items={m: tuple(bits(n) for n in ITEMS) for m in modalities},
        item_scales={
            m: tuple(rng.uniform(0.3, 0.9, n).astype(np.float16) for n in ITEMS)
            for m in modalities
        },
        users=bits(KNOWN),
        user_latents=rng.uniform(-1, 1, (KNOWN, BITS)).astype(np.float32),
        lambda_user=rng.normal(1, 0.3, BITS).astype(np.float32),
        lambda_item=rng.normal(1, 0.3, BITS).astype(np.float32),
    )


def random_clicks(users: int, each: int) -> Outfits:
    """So many outfits for each user."""
    rng = np.random.default_rng(each)
    items = np.stack([rng.integers(n, size=users * each) for n in ITEMS], axis=1)
    return Outfits(
        np.repeat(np.arange(users, dtype=np.int32), each), items.astype(np.int32)
    )


def measure(
    case: str, run: Callable[[], object], *, users: int, repeats: int
) -> list[dict]:
    """Rows of a case: time and CPU time of a call; users a second if there are many."""
    run()  # warm
    wall, cpu = [], []
    for _ in range(repeats):
        before = time.perf_counter(), time.process_time()
        run()
        wall.append(1e3 * (time.perf_counter() - before[0]))
        cpu.append(1e3 * (time.process_time() - before[1]))
    columns = [("wall", wall, "ms"), ("cpu", cpu, "ms")]
    if users > 1:
        columns.append(("rate", [1e3 * users / ms for ms in wall], "users/s"))
        columns.append(("cpu_rate", [1e3 * users / ms for ms in cpu], "users/s"))
    return [
        {
            "case": case,
            "metric": metric,
            "value": statistics.median(values),
            "unit": unit,
            "min": min(values),
            "max": max(values),
            "n": repeats,
        }
        for metric, values, unit in columns
    ]


def main() -> None:
    """Prints and writes the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    parser.add_argument("--users", type=int, default=4096, help="in the batch")
    arguments = parser.parse_args()
    learner = BprFit(random_codes())
    one = [random_clicks(1, each) for each in (LIKES, DISLIKES)]
    many = [random_clicks(arguments.users, each) for each in (LIKES, DISLIKES)]
    user, click = learner.fit(*one), random_clicks(1, 1)
    rows = [
        *measure("cold_start/fit_1", lambda: learner.fit(*one), users=1, repeats=200),
        *measure(
            "cold_start/update_1",
            lambda: learner.update(user, click, no_clicks(learner.codes)),
            users=1,
            repeats=200,
        ),
        *measure(
            "cold_start/fit_batch",
            lambda: learner.fit(*many),
            users=arguments.users,
            repeats=5,
        ),
    ]
    for row in rows:
        print(
            "{case:22} {metric:9} {value:10.2f} {unit:8}[{min:.2f}, {max:.2f}]".format(
                **row
            )
        )
    if arguments.json:
        head = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(head, capture_output=True, text=True, check=True)
        files.write_json(
            arguments.json,
            {
                "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
                "versions": {
                    "python": platform.python_version(),
                    "numpy": metadata.version("numpy"),
                },
                "commit": commit.stdout.strip(),
                "rows": rows,
            },
        )


if __name__ == "__main__":
    main()
