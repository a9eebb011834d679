"""The command line, from one end to the other."""

import dataclasses
import io
import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from fhn_jax.configs import vse_t3
from fhn_jax.data_tools import make_demo
from fhn_jax.data_tools.build_lmdb import build_lmdb
from PIL import Image
from polyvore_u import edit_line, write_polyvore_u
from random_codes import codes_of
from runs import REPOSITORY, compiled_once, flags, run, settings

from fhn_jax.cli import actions
from fhn_jax.cli.actions import ACTIONS, prepare
from fhn_jax.data.items import ItemInputs
from fhn_jax.data.layout import read_catalogue
from fhn_jax.reporting import report
from fhn_jax.training import build

RANK = ("auc", "auc_ci95", "ndcg", "ndcg_parity", "ndcg_at_10", "recall_at_10")
SCORES = {
    which: {*RANK, "pair_accuracy", "fitb", "fitb_parity"}
    for which in ("binary", "relaxed", "asymmetric")
}


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture
def own_root(tmp_path):
    """Data that a test may damage."""
    return write_polyvore_u(tmp_path / "data", image_size=32, items=(16, 8, 8))


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


@pytest.fixture
def no_training(monkeypatch):
    """Fails a test that trains."""
    from fhn_jax.training import loop

    def fail(*_):
        pytest.fail("training has begun")

    monkeypatch.setattr(loop._Loop, "run", fail)


def results(workdir):
    return json.loads((workdir / "results.json").read_text(encoding="utf-8"))


def act(action, config, workdir, split="test"):
    """What the command line does after it has read its flags."""
    config, workdir = prepare(config, {}, "name", workdir)
    ACTIONS[action](config, workdir, split)


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
    assert list((workdir / "wandb").glob("offline-run-*/run-*.wandb"))


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
    assert found == {
        "dataset": "tiny",
        "split": "test",
        "negatives": "random",
        "users": 8,
        "positives": 16,
        "config_hash": build.config_hash(settings(root, config="vse_t3")),
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
    for chart, _, _, lines in report.CURVES:
        assert (workdir / "report" / f"train-{chart}-light.png").is_file()
        assert all(f'"{metric}": ' in logged for metric, _, _ in lines)


@pytest.mark.slow
def test_the_main_job_says_what_it_does_and_no_more(main_job):
    _, out, err = main_job
    starts = (
        "data.cache=auto takes ",
        "decoding images: ",
        "epoch ",
        "encoding items: ",
    )
    assert [line for line in err.splitlines() if not line.startswith(starts)] == []
    lines = out.splitlines()
    assert lines[0] == "tiny, test split: 8 users, 16 positives"
    assert lines[-1].startswith("report: ")
    assert len(lines) == 9


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
    act("extract-features", None, tmp_path)
    assert encoded == list(range(96))  # Every item exactly once.
    act("fitb", None, tmp_path)
    assert results(tmp_path)["scores"]["binary"].keys() == {"fitb", "fitb_parity"}
    act("evaluate-accuracy", None, tmp_path)
    act("evaluate-rank", None, tmp_path)
    assert results(tmp_path) == results(done)
    act("report", None, tmp_path)
    assert (tmp_path / "report" / "index.html").is_file()
    # Nothing of this depends on the folder that it is in.
    for name in ("codes.safetensors", "latents.safetensors"):
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes()
    act("evaluate-rank", None, tmp_path, "val")
    assert results(tmp_path)["split"] == "val"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, root):
    """A workdir with config.json and random codes, as if it were trained."""
    workdir = tmp_path_factory.mktemp("evaluated")
    config = settings(root)
    values = build.config_values(config)
    (workdir / "config.json").write_text(json.dumps(values), encoding="utf-8")
    codes_of(read_catalogue(root, "8")).save(workdir / "codes.safetensors")
    return workdir


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
    config, workdir = prepare(settings(root), {}, "name", str(tmp_path))
    assert (config.data.root, workdir) == (str(root), tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_config_of_a_workdir_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json.* give the --config of the run"):
        prepare(None, {}, None, tmp_path)


# --- flags ------------------------------------------------------------------------

PRINT = """
import json
from fhn_jax import actions

def show(config, workdir, split):
    print(json.dumps([json.loads(config.to_json_best_effort()), str(workdir), split]))

actions.ACTIONS["train"] = show
"""
VSE = f"--config={REPOSITORY / 'configs' / 'vse_t3.py'}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([VSE, "--config.model.bitz=64"], """unknown config key 'bitz'. Did you mean \
"bits" instead of "bitz"?"""),
        ([f"{VSE}:foo=3"], "config argument 'foo' is unknown; expected some of "),
        ([VSE, "--config.train.epochs=x"], "flag --config.train.epochs=x: invalid"),
        (["--config=nowhere.py"], "No such file or directory: 'nowhere.py'"),
        (["dance", VSE], "action 'dance' is unknown; expected all, train, extract-"),
        (["train", "fitb", VSE], "one action at most, got train, fitb"),
        (["--wrokdir=x", VSE], "Unknown command line flag 'wrokdir'. Did you mean"),
        ([], "give --config configs/vse_t3.py, or the --workdir of a run"),
        (["fitb", "--workdir=nowhere"], "nowhere/config.json: no such file; give --"),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_one_line(tmp_path, arguments, message):
    code, out, err = run(arguments, cwd=tmp_path)
    first, second = err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert second == "(--debug shows where in the code)"
    assert (code, out) == (1, "")
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path):
    code, _, err = run(["fitb", "--workdir=nowhere", "--debug"], cwd=tmp_path)
    assert code == 1
    assert "Traceback (most recent call last)" in err
    assert "nowhere/config.json: no such file" in err.splitlines()[-1]


def test_ctrl_c_before_training_is_no_traceback(tmp_path):
    patch = """
from fhn_jax import actions

def interrupted(*_):
    raise KeyboardInterrupt

actions.ACTIONS["train"] = interrupted
"""
    code, _, err = run(
        ["train", VSE, "--config.data.variant=630"], patch=patch, cwd=tmp_path
    )
    assert code == 130
    assert err == "interrupted: run again to go on from the last checkpoint\n"


def test_the_workdir_is_named_after_the_config(tmp_path):
    code, out, err = run(
        ["train", f"{VSE}:bits=64,smoke", "--config.data.variant=630"],
        patch=PRINT,
        cwd=tmp_path,
    )
    assert code == 0, err
    config, workdir, split = json.loads(out)
    assert (workdir, split) == ("runs/vse_t3-bits=64-smoke", "test")
    assert config["data"]["root"] == "data/polyvore"
    assert config["data"]["variant"] == "630"


# --- which data -------------------------------------------------------------------


def small_demo(root, *, users=32, seed=0):
    """Stands in for the demo set, which takes half a minute to draw."""
    if not Path(root).exists():
        write_polyvore_u(root, variant=str(users), users=users, image_size=None)
        (Path(root) / "DEMO").write_text(json.dumps({"users": users}))


@pytest.fixture
def at_home(monkeypatch, tmp_path):
    """A working directory without data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(make_demo, "make_demo", small_demo)
    return tmp_path


def test_without_any_data_the_demo_stands_in_and_says_so(at_home, capsys):
    config, workdir = prepare(vse_t3.get_config().lock(), {}, "vse_t3", None)
    assert "THIS IS DEMO DATA" in capsys.readouterr().err
    assert (config.data.root, config.data.variant) == ("data/demo", "32")
    assert workdir == Path("runs/vse_t3")
    catalogue = read_catalogue(config.data.root, config.data.variant)
    assert catalogue.dataset == "demo"
    # With settings for a CPU.
    demo = vse_t3.get_config().demo
    assert config.train.to_dict() == demo.train.to_dict()
    assert config.optimizer.to_dict() == demo.optimizer.to_dict()
    assert "demo" not in config


def test_the_demo_is_made_once(at_home, capsys):
    for _ in range(2):
        config, _ = prepare(vse_t3.get_config().lock(), {}, "vse_t3", None)
    assert config.data.root == "data/demo"
    assert "THIS IS DEMO DATA" in capsys.readouterr().err


def test_what_the_command_line_says_wins_over_the_demo_settings(tmp_path):
    patch = f"""
import json, sys
sys.path.insert(0, {str(REPOSITORY / "tests")!r})
import fhn_jax.data_tools.make_demo
from test_main import small_demo
data_tools.make_demo.make_demo = small_demo
{PRINT}
"""
    values = ("train.epochs=1", "train.batch_size=7", "optimizer.rates.user=0.125")
    code, out, err = run(
        ["train", VSE, *(f"--config.{value}" for value in values)],
        patch=patch,
        cwd=tmp_path,
    )
    assert code == 0, err
    assert "THIS IS DEMO DATA" in err
    config, workdir, _ = json.loads(out)
    assert workdir == "runs/vse_t3"
    assert config["data"]["root"] == "data/demo"
    demo = vse_t3.get_config().demo
    assert config["train"] == demo.train.to_dict() | {"epochs": 1, "batch_size": 7}
    assert config["optimizer"]["rates"]["user"] == 0.125
    assert config["optimizer"]["name"] == demo.optimizer.name


@pytest.fixture
def no_demo(monkeypatch):
    def fail(*_, **__):
        pytest.fail("the demo replaces data that was named")

    monkeypatch.setattr(make_demo, "make_demo", fail)


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
        act("all", config, None)
    assert list(at_home.iterdir()) == []


def test_data_polyvore_is_taken_if_it_is_there(at_home, no_demo):
    write_polyvore_u("data/polyvore", variant="630", image_size=None)
    config, _ = prepare(vse_t3.get_config().lock(), {}, "vse_t3", None)
    assert (config.data.root, config.data.variant) == ("data/polyvore", "630")
    assert config.train.epochs == 100
    assert "demo" not in config


# --- bad input, before any training -----------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.bits": 12}, "model.bits=12: .* use a multiple of 8"),
        (
            {"train.batch_size": 49},
            "train.batch_size=49: expected 1 to 48, .*=48 or less",
        ),
        ({"train.negatives": "random_onlin"}, "'random_onlin'.* expected one of"),
        ({"train.select": "val/auc"}, "train.select='val/auc': expected one of"),
        (
            {"model.hash": "tanh"},
            "loss.binary_share=0.5, but .*'tanh' pass no gradient",
        ),
        (
            {"data.cache": "disk"},
            "data.cache='disk': expected one of auto, device, host, none",
        ),
        ({"data.variant": "9"}, r"tuples_9 is missing: .* has the variants \['8'\]"),
        ({"wandb.mode": "onlin"}, "config.wandb.mode='onlin': expected one of offline"),
        ({"model.matching.hash_types": 4}, "hash_types=4.* expected"),
        ({"model.backbone.name": "vgg"}, "model.backbone.name='vgg': expected one of"),
    ],
)
def test_a_wrong_setting_is_found_before_training(
    root, tmp_path, no_training, overrides, message
):
    config = settings(root, overrides, config="vse_t3")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        act("all", config, tmp_path / "run")


def test_a_run_that_never_trained_leaves_the_workdir_free(root, tmp_path, no_training):
    too_large = settings(root, {"train.batch_size": 49})
    with pytest.raises(ValueError, match="use --config.train.batch_size=48 or less"):
        act("train", too_large, tmp_path / "run")
    with pytest.raises(pytest.fail.Exception, match="training has begun"):
        act("train", settings(root, {"train.batch_size": 48}), tmp_path / "run")
    # Nor does one that was stopped before its first checkpoint.
    with pytest.raises(pytest.fail.Exception, match="training has begun"):
        act("train", settings(root, {"train.batch_size": 47}), tmp_path / "run")


def test_the_workdir_of_another_config_is_refused(root, tmp_path, no_training):
    workdir = tmp_path / "run"
    (workdir / "checkpoints" / "6").mkdir(parents=True)
    values = build.config_values(settings(root, {"model.bits": 32, "seed": 1}))
    (workdir / "config.json").write_text(json.dumps(values))
    for action in ("all", "train", "extract-features"):
        with pytest.raises(
            ValueError,
            match="another config: model.bits is 32 there and 16 here; seed is 1 there "
            "and 0 here. Use another --workdir",
        ):
            act(action, settings(root), workdir)
    assert json.loads((workdir / "config.json").read_text()) == values


def test_features_of_a_run_that_was_not_trained_are_an_error(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished checkpoint; train first"):
        act("extract-features", settings(root), tmp_path)


def test_evaluation_without_codes_says_what_to_do(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"codes.safetensors.*extract-features"):
        act("evaluate-rank", settings(root), tmp_path)


def test_codes_of_another_data_set_are_refused(evaluated, tmp_path):
    other = write_polyvore_u(tmp_path / "other", image_size=None, seed=1)
    for action in ("evaluate-rank", "evaluate-accuracy", "fitb"):
        with pytest.raises(
            ValueError, match="the codes are of data set 'tiny'.*'other'"
        ):
            act(action, settings(other), evaluated)
    assert not (evaluated / "results.json").exists()


def test_an_image_missing_in_the_folder_is_named(own_root, tmp_path, no_training):
    (own_root / "images" / "291x291" / "shoe003.jpg").unlink()
    for cache in ("device", "none"):
        config = settings(own_root, {"data.cache": cache}, config="t3")
        with pytest.raises(KeyError, match="image 'shoe003.jpg' missing in .*291x291"):
            act("train", config, tmp_path / "run")


def test_an_image_missing_in_the_lmdb_is_named(own_root, tmp_path, no_training):
    folder = own_root / "images" / "291x291"
    (folder / "shoe003.jpg").rename(tmp_path / "shoe003.jpg")
    build_lmdb(folder, own_root / "images" / "lmdb")
    for cache in ("device", "none"):
        config = settings(own_root, {"data.cache": cache}, config="t3")
        with pytest.raises(
            KeyError, match="image 'shoe003.jpg' missing in .*lmdb .* rebuild it with"
        ):
            act("train", config, tmp_path / "run")


def cut_off(path):
    path.write_bytes(path.read_bytes()[:300])


def grey(path):
    buffer = io.BytesIO()
    Image.new("L", (32, 32)).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize("cache", ["device", "none"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_off, "image 'top002.jpg' cannot be decoded .* complete JPEG, PNG or WebP"),
        (grey, "image 'top002.jpg' has mode L; expected RGB; convert it"),
    ],
)
def test_an_image_of_no_use_is_named(
    own_root, tmp_path, no_training, cache, damage, message
):
    damage(own_root / "images" / "291x291" / "top002.jpg")
    config = settings(own_root, {"data.cache": cache}, config="vse_t3")
    with pytest.raises(ValueError, match=message):
        act("all", config, tmp_path / "run")


def test_a_pickle_where_an_archive_is_expected_is_not_loaded(
    own_root, tmp_path, no_training
):
    path = own_root / "sentence_vector" / "semantic.npz"

    class Bomb:
        def __reduce__(self):
            return sys.exit, ("the pickle was loaded",)

    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(
        ValueError, match=r"semantic.npz is a pickle .* expected a numpy"
    ):
        act("train", settings(own_root), tmp_path / "run")


def test_a_text_vector_that_is_not_finite_is_named(own_root, tmp_path, no_training):
    path = own_root / "sentence_vector" / "semantic.npz"
    with np.load(path) as archive:
        names, vectors = archive["names"], archive["vectors"]
    vectors[5, 3] = np.nan
    np.savez(path, names=names, vectors=vectors)
    with pytest.raises(ValueError, match="item 'top005.jpg' has a NaN"):
        act("train", settings(own_root), tmp_path / "run")


def test_a_line_of_the_data_that_is_wrong_is_named(own_root, tmp_path, no_training):
    edit_line(own_root / "tuples_8" / "tuples_train_posi", 4, "0,99,1,1")
    with pytest.raises(
        ValueError, match="tuples_train_posi:4: item 99 is out of range"
    ):
        act("train", settings(own_root), tmp_path / "run")


def test_each_kind_of_error_is_one_that_main_shows_as_a_line():
    for error in (ValueError(), KeyError(), FileNotFoundError(), PermissionError()):
        assert isinstance(error, actions.ERRORS)
    assert not isinstance(TypeError(), actions.ERRORS)


# --- progress ---------------------------------------------------------------------


@dataclasses.dataclass
class Stream:
    """A stderr that is a terminal, or is not."""

    terminal: bool
    text: str = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return self.terminal


def test_progress_is_a_line_each_tenth_where_there_is_no_terminal(monkeypatch):
    stream = Stream(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    update = actions.progress("decoding images")
    for done in range(0, 2001, 50):
        update(done, 2000)
    lines = stream.text.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "decoding images: 2,000 of 2,000"


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    stream = Stream(terminal=True)
    monkeypatch.setattr(sys, "stderr", stream)
    update = actions.progress("decoding images")
    assert stream.text == ""
    update(50, 100)
    update(100, 100)
    assert "100%" in stream.text
    assert stream.text.endswith("\n")
