"""How good the codes are on a small real set: every case, three seeds, one table.

    python benchmarks/clothing.py --root ../shared/data/clothing_outfits --variant 40

Each run is the README's command in a process of its own; one that learns from a teacher
(`-taught`) comes after three runs of other seeds, and models of taste, of which the
teacher is the mean. What it leaves goes to benchmarks/clothing/CASE-SEED/: the settings,
the curves and the results; a run whose results are there already is not run again. The
table at the end is made of those files.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
LOGS = REPOSITORY / "benchmarks" / "clothing"
KEPT = ("config.json", "metrics.jsonl", "results.json")
UNSCALED = "--config.model.item_scale=False"
# case: the config and single values
CASES = {
    "vse-ste-scaled": ("vse_t3.py:clothing",),
    "vse-ste": ("vse_t3.py:clothing", UNSCALED),
    "vse-tanh-scaled": ("vse_t3.py:clothing,hash=tanh",),
    "vse-tanh": ("vse_t3.py:clothing,hash=tanh", UNSCALED),
    "image-ste-scaled": ("t3.py:clothing",),
    "text-ste-scaled": ("text_t3.py:clothing",),
    # With `fhn-jax embed-images DATA --model garment`.
    "vse-garment": ("vse_t3.py:clothing,features=garment",),
    "vse-beside-garment": ("vse_t3.py:clothing,beside=garment",),
    "vse-masked-beside-garment": ("vse_t3.py:clothing,masked,beside=garment",),
    "image-masked": ("t3.py:clothing,masked",),
    "image-masked-beside-garment": ("t3.py:clothing,masked,beside=garment",),
    "image-beside-garment": ("t3.py:clothing,beside=garment",),
    "image-garment": ("t3.py:clothing,features=garment",),
}
# Of each teacher: runs, and models of taste.
RUNS, TASTES = 3, 8
TAUGHT = {
    f"{case}-taught": case
    for case in (
        "vse-beside-garment",
        "image-beside-garment",
        "vse-masked-beside-garment",
        "image-masked-beside-garment",
    )
}
SEEDS = (0, 1, 2)


def run(case: str, seed: int, root: Path, variant: str) -> None:
    """Trains, exports and evaluates one case; keeps its logs, all or none of them."""
    kept = LOGS / f"{case}-{seed}"
    if kept.is_dir():
        return
    config, *values = CASES[TAUGHT.get(case, case)]
    with tempfile.TemporaryDirectory() as folder:

        def command(name: str, where: str, seed: int, *flags: str) -> Path:
            """Runs a command of the settings of this case; returns its workdir."""
            workdir = Path(folder) / where
            words = [
                *(sys.executable, "-m", "fhn_jax.main", name),
                f"--config=configs/{config}",
                *values,
                f"--config.data.root={root.absolute()}",
                f"--config.data.variant={variant}",
                f"--config.seed={seed}",
                "--config.wandb.mode=disabled",
                f"--workdir={workdir}",
                *flags,
            ]
            subprocess.run(words, cwd=REPOSITORY, check=True)
            return workdir

        if case in TAUGHT:
            runs = []
            for number in range(RUNS):
                # Seeds that no run of the table has.
                own = 100 + RUNS * seed + number
                command("train", f"run-{number}", own)
                runs.append(command("extract-features", f"run-{number}", own))
            flags = [f"--run={each}" for each in runs]
            made = command("teach", "teacher", seed, *flags, f"--tastes={TASTES}")
            config += f",teacher={made / 'teacher.safetensors'}"
        keep(command("all", "run", seed), kept)


def keep(workdir: Path, kept: Path, **replaced: str) -> None:
    """Copies the logs of a run to a new folder, all or none of them.

    Args:
      replaced: sections of the settings with a path → the setting that holds it, of
        which the last part is kept: not where it lies on this machine.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_name(f".{kept.name}.{os.getpid()}")
    partial.mkdir()
    for name in KEPT:
        if (workdir / name).is_file():
            shutil.copy(workdir / name, partial / name)
    if (partial / "config.json").is_file():
        config = json.loads((partial / "config.json").read_text())
        config.pop("sha256", None)  # of what is changed here
        named = {"data": "root"} | replaced
        if "teacher" in config.get("train", {}):
            named["train"] = "teacher"
        for section, key in named.items():
            config[section][key] = Path(config[section][key]).name
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    partial.rename(kept)


def table() -> str:
    """Markdown: the median over the seeds and their range, a row a case and score."""
    lines = [
        "| case | score | AUC random | AUC hard | NDCG | NDCG parity | FITB | FITB parity "
        "| gap |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in (*CASES, *TAUGHT):
        runs = [
            json.loads((LOGS / f"{case}-{seed}" / "results.json").read_text())
            for seed in SEEDS
            if (LOGS / f"{case}-{seed}").is_dir()
        ]
        for which in ("binary", "asymmetric", "relaxed") if runs else ():
            scores = [r["scores"][which] for r in runs]
            gaps = [
                r["scores"]["relaxed"]["auc"] - r["scores"]["binary"]["auc"]
                for r in runs
            ]
            cells = [
                cell([s["auc"] for s in scores]),
                cell([r["hard"][which]["auc"] for r in runs]),
                *(
                    cell([s[name] for s in scores])
                    for name in ("ndcg", "ndcg_parity", "fitb", "fitb_parity")
                ),
                cell(gaps) if which == "binary" else "",
            ]
            lines.append(f"| {case} | {which} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(values: Sequence[float]) -> str:
    """The median and the range."""
    ends = f"{min(values):.3f}–{max(values):.3f}"
    return f"{statistics.median(values):.3f} ({ends})"


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--variant", required=True)
    cases = [*CASES, *TAUGHT]
    parser.add_argument("--cases", nargs="*", choices=cases, default=cases)
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    options = parser.parse_args()
    for seed in options.seeds:
        for case in options.cases:
            run(case, seed, options.root, options.variant)
    print(table())


if __name__ == "__main__":
    main()
