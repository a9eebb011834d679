"""The script of all that is measured on an accelerator: what it runs, and leaves."""

import json
import os
import subprocess
import sys

import pytest
from test_docs import ROOT, check_benchmark

SCRIPT = ROOT / "benchmarks" / "gpu.sh"
# What the machine that lends the accelerator has not.
ABSENT = ("tensorflow", "lmdb", "ml_collections", "wandb", "duckdb", "simplejpeg")
# Says what it was asked for; measures, fails or hangs in place of Python.
FAKE = """#!/bin/sh
case "$1" in */gpu_summary.py) exec "$REAL" "$@" ;; esac
echo "$@" >> "$COMMANDS"
case "$*" in *resnet50*) exit 3 ;; *alexnet*) ;; *--likes*) exec sleep 60 ;; esac
while [ "$1" != --json ]; do shift; done
echo '{"machine": {"cores": 2}, "rows": [{"case": "c", "metric": "pairs", "unit": "1/s",
  "value": 7000, "min": 1, "max": 7001, "n": 3}]}' > "$2"
"""


def run(folder, *steps, **environment):
    return subprocess.run(
        ["bash", SCRIPT, folder, *steps],
        env=os.environ | {"PYTHON": sys.executable} | environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=500,
    )


def steps_of(folder):
    lines = (folder / "results.jsonl").read_text().splitlines()
    return {step["step"]: step for step in map(json.loads, lines)}


@pytest.mark.parametrize("tiny", ["", "1"])
def test_a_step_that_fails_does_not_take_the_others_with_it(
    tmp_path, monkeypatch, tiny
):
    fake, commands = tmp_path / "python", tmp_path / "commands"
    fake.write_text(FAKE.replace("exec sleep 60", "exit 124"))
    fake.chmod(0o755)
    done = run(
        tmp_path / "out",
        TINY=tiny, PYTHON=str(fake), REAL=sys.executable, COMMANDS=str(commands),
    )  # fmt: skip
    steps = steps_of(tmp_path / "out")
    failed = {name: step["status"] for name, step in steps.items() if step["status"]}
    assert failed == {"resnet50": 3, "likes": 124} and len(steps) == 9
    page = (tmp_path / "out" / "summary.md").read_text()
    assert "| alexnet | ≥ 6,000 | 7,000 1/s, pairs | yes |" in page
    assert "| epoch | ≤ 25 | – | not measured |" in page and page in done.stdout
    for line in commands.read_text().splitlines():
        path, *words = line.split()
        check_benchmark(ROOT / path, words, monkeypatch)


@pytest.mark.slow
def test_the_script_needs_only_what_the_machine_has(tmp_path):
    for name in ABSENT:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name}')")
    steps = ("features", "users", "export")
    run(tmp_path / "out", *steps, TINY="1", PYTHONPATH=str(tmp_path))
    assert [s["status"] for s in steps_of(tmp_path / "out").values()] == [0, 0, 0]
    assert (tmp_path / "out" / "profile.tgz").stat().st_size > 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("results.jsonl", "summary.md", "log", "profile.tgz")
    }
