"""New users of few clicks on a trained network: how good, and how fast, four ways.

    python benchmarks/clothing_cold_start.py --root ../shared/data/clothing_outfits --variant 40

A network is trained on the first 32 of the 40 users. The last 8 are new: each has 10
likes and 20 dislikes of the training items, drawn by seed, and the whole test split.
They are learned by retraining, by the fork's similarity code and by the fit; a code of
random bits is what there is to beat.

Each step is a command of the README in a process of its own, in --workdir. What it
leaves goes to benchmarks/clothing_cold_start/STEP-SEED/; a step whose results are there
already is not run again. The table at the end is made of those files.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from clothing import REPOSITORY, SEEDS, cell, keep

# Programs of the repository are imported as its own commands do it.
sys.path.insert(0, str(REPOSITORY))

from fhn_jax.configs import cold_start

from fhn_jax.cli import new_users
from fhn_jax.codes import Codes
from fhn_jax.data.layout import read_catalogue
from fhn_jax.files import write_json

LOGS = REPOSITORY / "benchmarks" / "clothing_cold_start"
KNOWN, NEW = 32, 8
LIKES, DISLIKES_EACH = 10, 2
METHODS = ("retrain", "fit", "similarity", "random")
REPEATS = 9


def python(*arguments: str) -> dict[str, float]:
    """Runs a module of the repository; the seconds that it took, all threads' too."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", *arguments], cwd=REPOSITORY, check=True)
    wall = time.perf_counter() - before[1]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before[0].ru_utime - before[0].ru_stime
    return {"wall": wall, "cpu": cpu}


def part_users(root: Path, variant: str, data: Path, seed: int) -> None:
    """A data root with the variants `known` and `new`; all else are links."""
    data.mkdir(parents=True, exist_ok=True)
    for path in root.iterdir():
        if not (data / path.name).exists():
            (data / path.name).symlink_to(path.absolute())
    options = [f"--users=0-{KNOWN - 1}"]
    if not (data / "tuples_known").is_dir():
        python("data_tools.split_users", str(data), variant, "known", *options)
    options = [f"--users={KNOWN}-{KNOWN + NEW - 1}", f"--at-most={LIKES}"]
    options += [f"--negatives={DISLIKES_EACH}", f"--seed={seed}"]
    if not (data / "tuples_new").is_dir():
        python("data_tools.split_users", str(data), variant, "new", *options)


def run(
    root: Path,
    variant: str,
    folder: Path,
    logs: Path,
    seed: int,
    methods: Sequence[str],
    beside: str,
) -> None:
    """All steps of a seed that are not kept in `logs` yet."""
    steps = [s for s in ("base", *methods) if not (logs / f"{s}-{seed}").is_dir()]
    if not steps:
        return
    data, base = folder / f"data-{seed}", folder / f"base-{seed}"
    part_users(root, variant, data, seed)
    beside = beside and f",beside={beside}"
    common = [f"--config.seed={seed}", "--config.wandb.mode=disabled"]
    common += [f"--config.data.root={data.absolute()}"]
    if not (base / "results.json").is_file():
        config = f"--config=configs/vse_t3.py:clothing,data=known{beside}"
        python("fhn_jax.main", config, *common, f"--workdir={base.absolute()}")
    if "base" in steps:
        keep(base, logs / f"base-{seed}")
    for method in (step for step in steps if step != "base"):
        workdir = folder / f"{method}-{seed}"
        arguments = f"clothing,data=new,method={method},base={base.absolute()}{beside}"
        config = f"--config=configs/cold_start.py:{arguments}"
        took = python(
            *("fhn_jax.main", "cold-start", config),
            *common,
            f"--workdir={workdir.absolute()}",
        )
        if method != "retrain":
            took = learning_time(method, base, data)
        kept = logs / f"{method}-{seed}"
        keep(workdir, kept, cold_start="base")
        per_user = {name: seconds / NEW for name, seconds in took.items()}
        write_json(kept / "seconds.json", per_user)


def learning_time(method: str, base: Path, data: Path) -> dict[str, float]:
    """Seconds to learn all new users at once from their clicks, the codes in memory."""
    settings = cold_start.get_config("clothing").cold_start
    codes = Codes.load(base / "codes.safetensors")
    learner = new_users.learners(
        codes,
        read_catalogue(data, "known"),
        codes,
        **{name: settings[name] for name in new_users.OPTIONS},
    )[method]
    train = read_catalogue(data, "new").splits["train"]
    took = []
    for _ in range(1 + REPEATS):
        before = time.perf_counter(), time.process_time()
        learner.fit(train.positives, train.negatives["random"], NEW)
        took.append((time.perf_counter() - before[0], time.process_time() - before[1]))
    took = sorted(took[1:])  # The first one finds nothing in the caches.
    return dict(zip(("wall", "cpu"), took[REPEATS // 2], strict=True))


def table(logs: Path) -> str:
    """Markdown: the median over the seeds and their range, a row a method."""
    lines = [
        "| users | AUC random | AUC hard | FITB | seconds per user | CPU-seconds |",
        "|---|---|---|---|---|---|",
    ]
    for step in ("base", *METHODS):
        folders = [f for seed in SEEDS if (f := logs / f"{step}-{seed}").is_dir()]
        if not folders:
            continue
        results = [json.loads((f / "results.json").read_text()) for f in folders]
        cells = [
            cell([r["scores"]["binary"]["auc"] for r in results]),
            cell([r["hard"]["binary"]["auc"] for r in results]),
            cell([r["scores"]["binary"]["fitb"] for r in results]),
        ]
        if step == "base":
            cells += ["", ""]
        else:
            took = [json.loads((f / "seconds.json").read_text()) for f in folders]
            for name in ("wall", "cpu"):
                seconds = sorted(t[name] for t in took)
                cells.append(f"{seconds[len(seconds) // 2]:.2g}")
        title = f"{KNOWN} known ones" if step == "base" else f"{NEW} new ones, {step}"
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument(
        "--workdir", type=Path, default=REPOSITORY / "runs" / "clothing_cold_start"
    )
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--beside", default="", help="features beside the images")
    options = parser.parse_args()
    logs, workdir = LOGS, options.workdir
    if options.beside:
        logs, workdir = (path / f"beside-{options.beside}" for path in (logs, workdir))
    data = options.root, options.variant
    for seed in options.seeds:
        run(*data, workdir, logs, seed, options.methods, options.beside)
    print(table(logs))


if __name__ == "__main__":
    main()
