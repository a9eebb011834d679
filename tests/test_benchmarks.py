"""The benchmarks: what they write, and that the baseline computes what we do."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_codes import random_codes

from benchmarks import peers, retrieval, scale, year
from fhn_jax.data.batches import Batch
from fhn_jax.integrations.vectors import outfit_vectors
from fhn_jax.retrieval.outfit_index import OutfitIndex

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def harness():
    sys.path.insert(0, str(FOLDER))
    try:
        import harness

        yield harness  # The processes that it starts look for it there too.
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def few_outfits(tmp_path_factory):
    """500 outfits of the few items of random codes, for the peers of search."""
    case = peers.Case("random", None, 500, tmp_path_factory.mktemp("peers"))
    case.__dict__["codes"] = retrieval.make_codes("random", None, (40, 30, 20))
    np.save(case.folder / "vectors.npy", outfit_vectors(case.codes, case.outfits))
    return case


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


def test_clusteredness_is_1_for_copies_and_low_for_random_codes():
    codes = random_codes(counts=(3000, 3000, 3000), bits=64, modalities=("text",))
    assert 0.5 < retrieval.clusteredness(codes) < 0.8
    copies = tuple(packed[np.arange(3000) % 200] for packed in codes.items["text"])
    copied = dataclasses.replace(codes, items={"text": copies})
    assert retrieval.clusteredness(copied) == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_step", "epoch", "input_pipeline", "export"])
def test_a_number_of_repeats_below_one_is_refused(name):
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--repeats", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "expected at least 1" in done.stderr


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_export_of_few_items_is_measured(tmp_path):
    sizes = {"items": 301, "width": 16, "hidden": 8, "bits": 16, "chunk": 64}
    flags = [f"--{name}={value}" for name, value in sizes.items()]
    done = subprocess.run(
        [sys.executable, FOLDER / "export.py", *flags]
        + ["--folder", tmp_path, "--json", tmp_path / "out.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert {row["case"] for row in rows} == {"export/301x16"}
    values = {row["metric"]: row["value"] for row in rows}
    assert values["throughput"] > 0 and values["size of the files"] > 0
    peak = values["peak anonymous memory"]
    assert 0 < peak < values["peak memory with pages of files"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_the_baseline_has_our_loss(harness):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import plain_torch
    import synthetic

    batch, users, size = 2, 5, 224
    network = synthetic.model(("visual", "text"), "alexnet", size, users)
    for heads in network.heads.values():
        for head in heads:
            head.dropout = head.input_dropout = 0.0
            # Latents of about 1, so that the relaxed scores count too.
            head.out.kernel[...] = 20 * head.out.kernel[...]
    network.user.embedding[...] = 50 * network.user.embedding[...]
    trainer = synthetic.trainer(network, (2 * batch,) * 3)
    theirs = plain_torch.Network(("visual", "text"), synthetic.TEXT_DIM, users).eval()
    copied = {"user.weight": network.user.embedding}
    for name, layer in (
        *((f"backbone.layers.{i}", network.backbone.convolutions[n])
          for n, i in enumerate((0, 3, 6, 8, 10))),
        ("backbone.layers.13", network.backbone.fc6),
        ("backbone.layers.15", network.backbone.fc7),
        *((f"heads.visual.{c}.1", network.heads["visual"][c].hidden) for c in range(3)),
        *((f"heads.visual.{c}.4", network.heads["visual"][c].out) for c in range(3)),
        *((f"heads.text.{c}.0", network.heads["text"][c].hidden) for c in range(3)),
        *((f"heads.text.{c}.3", network.heads["text"][c].out) for c in range(3)),
    ):  # fmt: skip
        copied[f"{name}.weight"] = layer.kernel
        if layer.bias is not None:
            copied[f"{name}.bias"] = layer.bias
    state = theirs.state_dict()
    for name, variable in copied.items():
        value = np.array(variable[...])
        if value.ndim == 4:
            value = value.transpose(3, 2, 0, 1)
        elif name == "backbone.layers.13.weight":
            value = value.reshape(6, 6, 256, 4096).transpose(3, 2, 0, 1)
        elif value.ndim == 2 and name != "user.weight":
            value = value.T
        state[name] = torch.from_numpy(value.reshape(state[name].shape).copy())
    assert set(state) == {*copied, "matching.0", "matching.1"}
    theirs.load_state_dict(state)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(6 * batch, size, size, 3)).astype(np.float32)
    texts = rng.normal(size=(6 * batch, synthetic.TEXT_DIM)).astype(np.float32)
    who = np.arange(batch, dtype=np.int32) % users
    with torch.no_grad():
        latents = theirs(
            {
                "visual": torch.from_numpy(images.transpose(0, 3, 1, 2).copy()),
                "text": torch.from_numpy(texts),
            }
        )
        expected = plain_torch.loss_of(theirs, torch.from_numpy(who).long(), latents)
    rows = np.arange(2 * batch, dtype=np.int32).reshape(batch, 2, 1)
    one = Batch(
        users=who,
        outfits=np.repeat(rows, 3, axis=2),
        weights=np.ones(batch, np.float32),
        items=np.arange(6 * batch, dtype=np.int32),
        paired=np.ones(6 * batch, bool),
    )
    inputs = {"visual": jnp.asarray(images), "text": jnp.asarray(texts)}
    one = jax.tree.map(jnp.asarray, one)
    loss, _ = trainer._loss(jax.random.key(0), 1.0, one, inputs, trainer._params)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("name", [each for each in peers.PEERS if each != "ours"])
def test_a_peer_finds_the_best_when_its_knob_is_turned_up(name, few_outfits):
    pytest.importorskip(peers.PEERS[name].module)
    peer = peers.PEERS[name](few_outfits)
    peer.build()
    scores = few_outfits.vectors @ few_outfits.queries.T
    for price in (None, 60) if peer.can_filter else (None,):
        kept = few_outfits.prices < (np.inf if price is None else price)
        best = np.argsort(-np.where(kept[:, None], scores, -np.inf), axis=0)[:10].T
        found = np.array(
            [peer.search([user], peer.last, price)[0] for user in range(4)]
        )
        shares = [np.isin(a, b).mean() for a, b in zip(found, best, strict=False)]
        assert np.mean(shares) >= 0.95
        assert np.array_equal(peer.search(range(4), peer.last, price), found)


@pytest.mark.slow
def test_a_peer_that_is_not_installed_is_left_out_with_a_line(monkeypatch, capsys):
    monkeypatch.setattr(peers.Usearch, "module", "a_module_that_is_not_there")
    rows = peers.compare("clustered", None, "1k", ["usearch"], [0.9])
    assert {row.case for row in rows} == {"clustered/1k/ours"}
    assert "clustered, 1k: without usearch" in capsys.readouterr().out


@pytest.mark.slow
def test_an_index_that_grows_is_searched_and_scanned(tmp_path):
    rows = scale.run(str(tmp_path), "clustered", [2000, 3000], 0, 1)
    cases = {row.case for row in rows}
    assert cases == {f"scale/clustered, {n} outfits" for n in ("2,000", "3,000")}
    metrics = [row.metric for row in rows]
    assert metrics.count("search of one user, cold") == 2
    # What is damaged is found out.
    codes = retrieval.make_codes("clustered", None)
    hits = OutfitIndex.open(tmp_path / "index", codes).search(0, 9)
    with pytest.raises(AssertionError):
        scale.check(tmp_path / "index", codes, 0, hits)


def test_an_index_larger_than_the_disk_is_refused_in_a_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scale.py", "--run", "1000000000M"])
    with pytest.raises(SystemExit, match="of the disk are free; make room") as refusal:
        scale.main()
    assert "\n" not in str(refusal.value)


def test_a_knob_is_turned_as_far_as_the_recall_needs():
    def attempt(knob):
        return peers.Tried(knob, min(knob / 100, 0.97), (1.0,), (1.0,))

    found, most = peers.tune(attempt, [0.9, 0.99], 10, 1000)
    assert found.keys() == {0.9} and 90 <= found[0.9].knob < 112
    assert most.knob == 1000 and most.recall == 0.97


def test_a_year_is_drawn_from_its_log(tmp_path):
    log, chart = tmp_path / "year.log", tmp_path / "year.svg"
    month = (
        "month {0}: 40 likes, AUC 0.7{0}50 in 33 CPU-s; from nothing {1} in {1} CPU-s"
    )
    log.write_text(
        "\n".join(month.format(n, t) for n, t in enumerate(["60", "nan"], 1))
    )
    year.draw(log, chart)
    assert "from nothing" in chart.read_text()
    log.write_text("the opening: trained in 68 CPU-s")
    with pytest.raises(SystemExit, match="has no months"):
        year.draw(log, chart)


def test_a_peer_that_is_not_installed_is_left_out(harness, monkeypatch, capsys):
    monkeypatch.setattr(peers.PEERS["usearch"], "module", "no_such_package")
    monkeypatch.setattr(harness, "apart", lambda *_: [("memory", "MiB", (1.0,))])
    monkeypatch.setattr(peers, "harness", harness)
    monkeypatch.setattr(peers, "SIZES", {"few": 10})
    rows = peers.compare("random", None, "few", ["usearch"], [0.9])
    assert [row.case for row in rows] == ["random/few/ours"]
    assert "random, few: without usearch: No module named" in capsys.readouterr().out
