import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from fhn_jax.training.writers import Outcome, Writer, check_wandb, write_outcome

REPOSITORY = Path(__file__).parents[1]


def lines(workdir):
    text = (workdir / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def write(workdir, *steps, **options):
    with Writer(workdir, {}, mode="disabled", **options) as writer:
        for step in steps:
            writer.write(step, {"train/loss": step / 2})


class FakeWandb(types.ModuleType):
    """Stands in for the package wandb; notes what is done."""

    class Error(Exception):
        pass

    class Settings(dict):
        pass

    def __init__(self, has_key=True, login=None, init=None, image=None):
        super().__init__("wandb")
        self.id = "abc123"
        self.has_key = has_key
        self.failures = {"login": login, "init": init, "image": image}
        self.logged, self.exit_code, self.step = [], None, 0
        self.artifacts = []

    def login(self, prompt=True):
        assert not prompt
        self._fail("login")
        return self.has_key

    def init(self, **options):
        self._fail("init")
        self.options = options
        return self

    def _fail(self, name):
        if self.failures[name]:
            raise self.Error(self.failures[name])

    def log(self, metrics, step):
        self.logged.append((step, metrics))

    def finish(self, exit_code):
        self.exit_code = exit_code

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.finish(0 if kind is None else 1)

    def Table(self, columns, data):
        return "table", columns, data

    def Image(self, path):
        self._fail("image")
        return "image", path

    def Artifact(self, name, kind, metadata):
        made = types.SimpleNamespace(name=name, type=kind, metadata=metadata, files=[])
        made.add_file = lambda path, policy: made.files.append(path)
        return made

    def log_artifact(self, artifact):
        self.artifacts.append(artifact)


def outcome(workdir):
    """Of a run: a table of one row, a chart, codes."""
    codes = workdir / "codes.safetensors"
    codes.write_bytes(b"codes")
    rows = [["random", "binary", 0.75, None, [0.5, 1.0]]]
    columns = ["negatives", "score", "auc", "fitb", "auc_ci95"]
    charts = {"scores": REPOSITORY / "docs" / "report.png"}
    return Outcome(columns, rows, charts, codes, {"sha256": "ab", "bits": 16})


@pytest.fixture
def use(monkeypatch):
    """Installs a FakeWandb."""
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "true")  # And takes it back.

    def install(**options):
        fake = FakeWandb(**options)
        monkeypatch.setitem(sys.modules, "wandb", fake)
        return fake

    return install


def test_each_line_is_a_step_and_its_metrics(tmp_path):
    write(tmp_path, 1, 2)
    assert lines(tmp_path) == [
        {"step": 1, "train/loss": 0.5},
        {"step": 2, "train/loss": 1.0},
    ]


def test_a_line_is_on_disk_when_it_is_written(tmp_path):
    with Writer(tmp_path, {}, mode="disabled") as writer:
        writer.write(1, {"train/loss": 1.0})
        assert len(lines(tmp_path)) == 1


def test_a_resumed_run_drops_the_lines_of_steps_it_does_again(tmp_path):
    write(tmp_path, 1, 2, 3, 4)
    write(tmp_path, 3, after_step=2)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]


def test_a_new_run_drops_all_lines(tmp_path):
    write(tmp_path, 1, 2)
    write(tmp_path, 5)
    assert [line["step"] for line in lines(tmp_path)] == [5]


def test_a_line_cut_off_by_a_crash_is_dropped_and_named(tmp_path, capsys):
    write(tmp_path, 1, 2)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "train/lo')
    write(tmp_path, 3, after_step=2)
    assert "metrics.jsonl: lines that are no metrics are removed: 3" in (
        capsys.readouterr().err
    )
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_metric_that_is_not_finite_is_not_written(tmp_path, value):
    with Writer(tmp_path, {}, mode="disabled") as writer:
        with pytest.raises(ValueError, match="not JSON compliant"):
            writer.write(1, {"train/loss": value})
    assert lines(tmp_path) == []


def test_an_unknown_mode_is_an_error(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"config.wandb.mode='ofline': expected one of offline, online, disabled",
    ):
        Writer(tmp_path, {}, mode="ofline")


def test_disabled_does_not_import_wandb(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    write(tmp_path, 1)


def test_wandb_wanted_but_not_installed_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ModuleNotFoundError, match="pip install wandb, or use"):
        check_wandb("offline")


def test_online_without_a_key_is_an_error(use):
    use(has_key=False)
    with pytest.raises(ValueError, match="needs a key: run `wandb login` or set WANDB"):
        check_wandb("online")


@pytest.mark.parametrize("when", ["login", "init"])
def test_a_server_that_does_not_answer_is_an_error(use, tmp_path, when):
    use(**{when: "no route to host"})
    with pytest.raises(
        ValueError, match="'online': no route to host; use --config.wandb.mode=offline"
    ):
        Writer(tmp_path, {}, mode="online")


def test_offline_needs_no_key(use):
    use(has_key=False)
    check_wandb("offline")
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"


def test_wandb_gets_config_and_metrics(use, tmp_path):
    fake = use()
    with Writer(tmp_path, {"seed": 3}, mode="offline", project="p") as writer:
        writer.write(4, {"train/loss": 0.5})
    assert fake.logged == [(4, {"train/loss": 0.5})]
    assert fake.exit_code == 0
    assert fake.options["config"] == {"seed": 3}
    assert (fake.options["project"], fake.options["mode"]) == ("p", "offline")


def test_a_resumed_run_goes_on_as_the_same_run_of_wandb(use, tmp_path):
    fake = use()
    with Writer(tmp_path, {}, mode="offline"):
        assert fake.options["id"] is None
    fake.id = "drawn-anew"
    with Writer(tmp_path, {}, mode="online", after_step=4):
        assert (fake.options["id"], fake.options["resume"]) == ("abc123", "allow")


def test_a_new_run_is_a_new_run_of_wandb(use, tmp_path):
    fake = use()
    with Writer(tmp_path, {}, mode="offline"):
        fake.id = "second"
    with Writer(tmp_path, {}, mode="offline"):
        assert fake.options["id"] is None
    with Writer(tmp_path, {}, mode="offline", after_step=4):
        assert fake.options["id"] == "second"


def test_a_damaged_id_of_wandb_is_an_error_that_names_the_file(use, tmp_path):
    use()
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "id").write_text("a/b")
    with pytest.raises(ValueError, match=r"wandb/id holds 'a/b', expected .* remove"):
        Writer(tmp_path, {}, mode="offline", after_step=4)


def test_wandb_is_told_of_a_failed_run(use, tmp_path):
    fake = use()
    with pytest.raises(FloatingPointError):
        with Writer(tmp_path, {}, mode="offline"):
            raise FloatingPointError
    assert fake.exit_code == 1


def test_what_came_of_a_run_goes_to_its_run_of_wandb(use, tmp_path):
    fake, given = use(), outcome(tmp_path)
    with Writer(tmp_path, {}, mode="offline"):
        pass
    fake.exit_code = None
    options = dict(mode="offline", project="p", after_step=8)
    write_outcome(tmp_path, {"seed": 3}, given, **options)
    assert (fake.options["id"], fake.options["project"]) == ("abc123", "p")
    assert fake.options["config"] == {"seed": 3}
    chart = ("image", str(given.charts["scores"]))
    table = ("table", given.columns, given.rows)
    assert fake.logged == [(9, {"results": table, "report/scores": chart})]
    (codes,) = fake.artifacts
    assert (codes.name, codes.type) == ("codes-abc123", "codes")
    assert codes.metadata == {"sha256": "ab", "bits": 16}
    assert codes.files == [str(given.codes)]
    assert fake.exit_code == 0
    fake.step = 20  # Online, a run that goes on knows its own last step.
    write_outcome(tmp_path, {}, given, **options)
    assert fake.logged[1][0] == 20


def test_what_came_of_a_run_goes_nowhere_if_wandb_is_disabled(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    given = outcome(tmp_path)
    write_outcome(tmp_path, {}, given, mode="disabled", project="p", after_step=8)
    assert list(tmp_path.iterdir()) == [given.codes]


def test_a_failure_of_wandb_after_the_run_is_an_error_of_one_line(use, tmp_path):
    fake = use(image="no room")
    with pytest.raises(ValueError, match="mode='offline': no room; use --config.wandb"):
        write_outcome(
            tmp_path, {}, outcome(tmp_path), mode="offline", project="p", after_step=8
        )
    assert fake.exit_code == 1


@pytest.mark.slow
def test_the_real_wandb_never_asks_for_a_key(tmp_path):
    program = """
from fhn_jax.training.writers import Outcome, Writer, check_wandb, write_outcome
from pathlib import Path
import sys
for step in (1, 2):
    with Writer(Path("run"), {"seed": 3}, after_step=step - 1) as writer:
        writer.write(step, {"train/loss": 0.5})
codes = Path("run/codes.safetensors")
codes.write_bytes(b"codes")
rows = [["random", "binary", 0.75, None, [0.5, 1.0]], ["hard", "binary", 0.5, 0.5, None]]
columns = ["negatives", "score", "auc", "fitb", "auc_ci95"]
outcome = Outcome(columns, rows, {"scores": Path(sys.argv[1])}, codes, {"bits": 16})
write_outcome("run", {}, outcome, mode="offline", project="p", after_step=2)
try:
    check_wandb("online")
except ValueError as error:
    print(error)
"""
    (tmp_path / "run").mkdir()
    # Other runs of this process leave variables behind, such as that of their service.
    env = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("WANDB_") and key != "NETRC"
    }
    done = subprocess.run(
        [sys.executable, "-c", program, REPOSITORY / "docs" / "report.png"],
        cwd=tmp_path,
        env=env | {"HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "config.wandb.mode='online' needs a key" in done.stdout
    assert done.stderr == ""
    # Stretches of one run, which `wandb sync` puts together.
    wandb = tmp_path / "run" / "wandb"
    (name,) = {path.name for path in wandb.glob("offline-run-*/run-*.wandb")}
    assert name == f"run-{(wandb / 'id').read_text().strip()}.wandb"
    assert len(list(wandb.glob("offline-run-*"))) == 3
    (table,) = wandb.glob("offline-run-*/files/media/table/results_*.json")
    assert json.loads(table.read_text())["data"][0][2:] == [0.75, None, [0.5, 1.0]]
    assert list(wandb.glob("offline-run-*/files/media/images/report/scores_*.png"))
    staged = tmp_path.glob(".local/**/staging/*")  # In the home folder.
    assert b"codes" not in {path.read_bytes() for path in staged}
    assert len(lines(tmp_path / "run")) == 2
