"""The main job of the command line, from one end to the other, and its data."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from fhn_jax.configs import vse_t3
from fhn_jax.data_tools import make_demo
from polyvore_u import small_demo, write_polyvore_u
from random_codes import codes_of
from runs import act, choose, flags, run, settings

from fhn_jax import files, main
from fhn_jax.data.items import ItemInputs
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError
from fhn_jax.reporting import training
from fhn_jax.training.settings import config_hash, config_values

RANK = ("auc", "auc_ci95", "ndcg", "ndcg_parity", "ndcg_at_10", "recall_at_10")
SCORES = {
    which: {*RANK, "pair_accuracy", "fitb", "fitb_parity"}
    for which in ("binary", "relaxed", "asymmetric")
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def main_job(tmp_path_factory, root):
    """The main job, wandb as by default: (workdir, stdout, stderr)."""
    workdir = tmp_path_factory.mktemp("runs") / "smoke"
    offline = {"wandb.mode": "offline"}
    code, out, err = run(
        ["--workdir", workdir, *flags(root, offline, config="vse_t3")],
        cwd=workdir.parent,
    )
    assert code == 0, err
    return workdir, out, err


def results(workdir):
    return files.read_sealed(workdir / "results.json", "")


# --- the main job -----------------------------------------------------------------


@pytest.mark.slow
def test_the_main_job_fills_the_workdir(main_job):
    workdir, _, _ = main_job
    assert {path.name for path in workdir.iterdir()} == {
        "config.json",
        "checkpoints",
        "metrics.jsonl",
        "codes.safetensors",
        "latents.safetensors",
        "results.json",
        "report",
        "wandb",
    }
    assert (workdir / "report" / "index.html").is_file()
    assert list((workdir / "report").glob("*.png"))
    # Two stretches of one run, of training and of what came of it.
    stretches = (workdir / "wandb").glob("offline-run-*/run-*.wandb")
    (training, outcome) = sorted(stretches, key=lambda path: path.stat().st_mtime)
    assert training.name == outcome.name
    media = outcome.parent / "files" / "media"
    (table,) = media.glob("table/results_*.json")
    assert json.loads(table.read_text())["columns"][:2] == ["negatives", "score"]
    charts = list((workdir / "report").glob("*-light.png"))
    assert len(list(media.glob("images/report/*.png"))) == len(charts) > 0
    assert b"codes.safetensors" in outcome.read_bytes()


@pytest.mark.slow
def test_results_have_exactly_the_promised_fields(main_job, root):
    workdir, _, _ = main_job
    found = results(workdir)
    assert {which: set(fields) for which, fields in found.pop("scores").items()} == (
        SCORES
    )
    assert {which: set(fields) for which, fields in found.pop("hard").items()} == SCORES
    config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    assert config["model"]["bits"] == 16
    assert len(found.pop("codes_sha256")) == 64
    assert set(found.pop("data").values()) == {0}
    assert found == {
        "dataset": "tiny",
        "split": "test",
        "negatives": "random",
        "users": 8,
        "positives": 16,
        "config_hash": config_hash(settings(root, config="vse_t3")),
    }


@pytest.mark.slow
def test_metrics_have_the_promised_names(main_job):
    workdir, _, _ = main_job
    lines = [
        json.loads(line)
        for line in (workdir / "metrics.jsonl").read_text().splitlines()
    ]
    names = {name for line in lines for name in line}
    assert {
        *("step", "epoch", "val/loss", "val/binary_loss", "val/gap"),
        *(f"train/{n}" for n in ("loss", "rank_loss", "binary_loss", "vse_loss")),
        *("train/accuracy_relaxed", "train/accuracy_binary", "train/rate"),
        *("train/images_per_second", "train/seconds"),
        *(f"val/auc_{which}" for which in SCORES),
        *("val/accuracy_relaxed", "val/accuracy_binary"),
        *("val/bit_balance", "val/saturated"),
    } <= names
    assert all("step" in line and "epoch" in line for line in lines)
    assert lines[-1]["epoch"] == 2


@pytest.mark.slow
def test_the_report_has_a_chart_of_everything_it_means_to_draw(main_job):
    workdir, _, _ = main_job
    logged = (workdir / "metrics.jsonl").read_text()
    for chart, _, _, lines in training.CURVES:
        assert (workdir / "report" / f"train-{chart}-light.png").is_file()
        assert all(f'"{metric}": ' in logged for metric, _, _ in lines)


@pytest.mark.slow
def test_the_main_job_says_what_it_does_and_no_more(main_job):
    workdir, out, err = main_job
    starts = (
        "data.cache=auto takes ",
        "decoding images: ",
        "epoch ",
        "encoding items: ",
    )
    assert [line for line in err.splitlines() if not line.startswith(starts)] == []
    lines = out.splitlines()
    written = ("config.json", "metrics.jsonl", "checkpoints")
    written += ("codes.safetensors", "latents.safetensors")
    assert lines[:5] == [f"wrote {workdir / name}" for name in written]
    assert lines[5] == "tiny, test split: 8 users, 16 positives"
    written = ("results.json", "report/index.html")
    assert lines[-2:] == [f"wrote {workdir / name}" for name in written]
    assert len(lines) == 15


@pytest.mark.slow
def test_the_actions_one_by_one_give_the_same(main_job, tmp_path, monkeypatch, capsys):
    done, _, _ = main_job
    for name in ("checkpoints", "config.json", "metrics.jsonl"):
        copy = shutil.copytree if (done / name).is_dir() else shutil.copy
        copy(done / name, tmp_path / name)
    encoded = []
    stream = ItemInputs.stream

    def counted(self, batches):
        def noted():
            for ids, batch in batches:
                encoded.extend(ids[ids >= 0].tolist())
                yield ids, batch

        return stream(self, noted())

    monkeypatch.setattr(ItemInputs, "stream", counted)
    act("extract-features", workdir=tmp_path)
    assert encoded == list(range(96))  # Every item exactly once.
    act("fitb", workdir=tmp_path)
    assert results(tmp_path)["scores"]["binary"].keys() == {"fitb", "fitb_parity"}
    act("evaluate-accuracy", workdir=tmp_path)
    act("evaluate-rank", workdir=tmp_path)
    assert results(tmp_path) == results(done)
    act("report", workdir=tmp_path)
    assert (tmp_path / "report" / "index.html").is_file()
    # Nothing of this depends on the folder that it is in.
    for name in ("codes.safetensors", "latents.safetensors"):
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes()
    act("evaluate-rank", workdir=tmp_path, split="val")
    assert results(tmp_path)["split"] == "val"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, root):
    """A workdir with config.json and random codes, as if it were trained."""
    workdir = tmp_path_factory.mktemp("evaluated")
    config = settings(root)
    values = config_values(config)
    (workdir / "config.json").write_text(json.dumps(values), encoding="utf-8")
    codes_of(read_catalogue(root, "8")).save(workdir / "codes.safetensors")
    return workdir


@pytest.mark.slow
def test_evaluation_needs_the_workdir_alone_and_loads_nothing_slow(evaluated, tmp_path):
    workdir = shutil.copytree(evaluated, tmp_path / "run")
    loaded = "import atexit, sys; atexit.register(lambda: print(*sys.modules))"
    for action in ("evaluate-rank", "evaluate-accuracy", "fitb"):
        code, out, err = run([action, "--workdir", workdir], patch=loaded)
        assert (code, err) == (0, "")
        modules = set(out.splitlines()[-1].split())
        assert "fhn_jax.evaluation.evaluators" in modules
        slow = {"jax", "jaxlib", "flax", "tensorflow", "matplotlib", "orbax", "wandb"}
        assert not slow & modules
    assert set(results(workdir)["scores"]["binary"]) == SCORES["binary"]


def test_a_config_given_wins_over_that_of_the_workdir(tmp_path, root):
    (tmp_path / "config.json").write_text("{}")
    chosen = choose(settings(root), tmp_path).open()
    assert (chosen.root, chosen.workdir) == (root, tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_config_of_a_workdir_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json.* give the --config of the run"):
        choose(workdir=tmp_path).open()


@pytest.fixture
def no_training(monkeypatch):
    """Fails a test that trains."""
    from fhn_jax.training.loop import Loop

    def fail(*_):
        pytest.fail("training has begun")

    monkeypatch.setattr(Loop, "run", fail)


# --- which data -------------------------------------------------------------------


def shown(monkeypatch):
    """The runs that the train command is then told to train."""
    runs = []
    train = dataclasses.replace(
        main.COMMANDS["train"], run=lambda choice, **_: runs.append(choice.open())
    )
    monkeypatch.setitem(main.COMMANDS, "train", train)
    return runs


@pytest.fixture
def at_home(monkeypatch, tmp_path):
    """A working directory without data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(make_demo, "make_demo", small_demo)
    return tmp_path


def test_without_any_data_the_demo_stands_in_and_says_so(at_home, capsys):
    run = choose(vse_t3.get_config().lock()).open()
    config = run.config
    assert "THIS IS DEMO DATA" in capsys.readouterr().err
    assert (config.data.root, config.data.variant) == ("data/demo", "32")
    assert run.workdir == Path("runs/name")
    catalogue = read_catalogue(config.data.root, config.data.variant)
    assert catalogue.dataset == "demo"
    # With settings for a CPU.
    demo = vse_t3.get_config().demo
    assert config.train.to_dict() == demo.train.to_dict()
    assert config.optimizer.to_dict() == demo.optimizer.to_dict()
    assert "demo" not in config


def test_the_demo_is_made_once(at_home, capsys):
    for _ in range(2):
        run = choose(vse_t3.get_config().lock()).open()
    assert run.root == Path("data/demo")
    assert "THIS IS DEMO DATA" in capsys.readouterr().err


def test_what_the_command_line_says_wins_over_the_demo_settings(at_home, monkeypatch):
    run = shown(monkeypatch)
    values = ("train.epochs=1", "train.batch_size=7", "optimizer.rates.user=0.125")
    main.run(["train", "--config=vse_t3", *(f"--config.{value}" for value in values)])
    (opened,) = run
    assert opened.workdir == Path("runs/vse_t3")
    assert opened.root == Path("data/demo")
    demo, config = vse_t3.get_config().demo, opened.config.to_dict()
    assert config["train"] == demo.train.to_dict() | {"epochs": 1, "batch_size": 7}
    assert config["optimizer"]["rates"]["user"] == 0.125
    assert config["optimizer"]["name"] == demo.optimizer.name


@pytest.fixture
def no_demo(monkeypatch):
    def fail(*_, **__):
        pytest.fail("the demo replaces data that was named")

    monkeypatch.setattr(make_demo, "make_demo", fail)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("root", "data/mine", r"there is no data at data/mine .* draw the demo"),
        ("variant", "519", r"there is no data at data/polyvore .* draw the demo"),
    ],
)
def test_data_that_was_named_and_is_missing_is_an_error(
    at_home, no_demo, no_training, key, value, message
):
    config = vse_t3.get_config("smoke").lock()
    config.data[key] = value
    with pytest.raises(FileNotFoundError, match=message):
        act("all", config)
    assert list(at_home.iterdir()) == []


def test_data_polyvore_is_taken_if_it_is_there(at_home, no_demo):
    write_polyvore_u("data/polyvore", variant="630", image_size=None)
    config = choose(vse_t3.get_config().lock()).open().config
    assert (config.data.root, config.data.variant) == ("data/polyvore", "630")
    assert config.train.epochs == 100
    assert "demo" not in config


@pytest.mark.parametrize(
    "value", ["model.backbone.name=resnet18", "optimizer.name=adam"]
)
def test_a_network_that_the_demo_would_replace_is_an_error(at_home, monkeypatch, value):
    shown(monkeypatch)
    argument = value.replace("model.", "").replace(".name", "")
    with pytest.raises(InputError, match=f"the demo's settings .* argument {argument}"):
        main.run(["train", "--config=vse_t3", f"--config.{value}"])
