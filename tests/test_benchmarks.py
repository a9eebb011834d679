"""The benchmarks: what they write, and that the baseline computes what we do."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_codes import random_codes

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def harness():
    sys.path.insert(0, str(FOLDER))
    try:
        import harness

        yield harness  # The processes that it starts look for it there too.
    finally:
        sys.path.remove(str(FOLDER))


def test_a_report_is_a_table_and_a_file_of_medians(harness, tmp_path, capsys):
    rows = [harness.Row("search/1M/1", "query", "ms", (3.0, 1.0, 2.0))]
    harness.report(rows, tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found) == {"machine", "versions", "commit", "rows"}
    assert found["rows"] == [
        {
            "case": "search/1M/1",
            "metric": "query",
            "value": 2.0,
            "unit": "ms",
            "min": 1.0,
            "max": 3.0,
            "n": 3,
        }
    ]
    assert found["machine"]["cores"] >= 1 and "jax" in found["versions"]
    assert "search/1M/1  query   2       1    3    ms    3" in capsys.readouterr().out


def test_timing_leaves_the_warmup_out(harness):
    calls = []
    timing = harness.timed(lambda: calls.append(0), repeats=3, warmup=2)
    assert len(calls) == 5 and len(timing.wall) == len(timing.cpu) == 3


def test_peak_memory_is_that_of_the_process_alone(harness):
    held = bytearray(300 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    assert harness.peak_mebibytes() > 300
    assert harness.apart(harness.peak_mebibytes) < harness.peak_mebibytes() - 200


def test_clusteredness_is_1_for_copies_and_low_for_random_codes(harness):
    import retrieval  # its folder is on the path beside the harness

    codes = random_codes(counts=(3000, 3000, 3000), bits=64, modalities=("text",))
    assert 0.5 < retrieval.clusteredness(codes) < 0.8
    copies = tuple(packed[np.arange(3000) % 200] for packed in codes.items["text"])
    copied = dataclasses.replace(codes, items={"text": copies})
    assert retrieval.clusteredness(copied) == pytest.approx(1)


@pytest.mark.parametrize("name", ["train_step", "epoch", "input_pipeline"])
def test_a_number_of_repeats_below_one_is_refused(name):
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--repeats", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "expected at least 1" in done.stderr


def test_the_step_of_a_small_batch_is_measured(tmp_path):
    arguments = ["--modalities", "text", "--batch", "2", "--processes", "1"]
    done = subprocess.run(
        [sys.executable, FOLDER / "train_step.py", *arguments, "--repeats", "2"]
        + ["--json", tmp_path / "out.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert {row["case"] for row in rows} == {"train_step/text_b2"}
    values = {row["metric"]: row["value"] for row in rows}
    assert values["step"] > 0 and values["CPU time of a step"] > 0
    assert 0 < values["share of a matrix product's FLOP/s"] < 1.5
