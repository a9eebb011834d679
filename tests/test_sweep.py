"""Sweeps: which runs they are of, their commands, their table, and what is refused."""

import importlib
import json
import shlex
from pathlib import Path

import pytest
from absl import flags
from runs import REPOSITORY

from fhn_jax.cli import sweep
from fhn_jax.errors import UserError
from fhn_jax.training import build

NAMES = ("t3", "text_t3", "vse_t3")
BITS = [8, 16, 32, 64, 128, 256, 512]
SWEEP = """
from ml_collections import ConfigDict

def get_config(arg=None):
    values = dict(part.partition("=")[::2] for part in (arg or "").split(",") if part)
    return ConfigDict({"a": values.get("a", "1"), "flag": "flag" in values})

def sweep(add):
    add()
    add(a=1)
    add(a=2)
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A small config with a sweep, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.py").write_text(SWEEP)
    return "small.py"


@pytest.mark.parametrize("name", NAMES)
def test_sweeps_compare_bits_hash_types_and_the_margin_of_two_modalities(name):
    found = sweep.runs(str(REPOSITORY / f"configs/{name}.py:data=53"))
    get_config = importlib.import_module(f"fhn_jax.configs.{name}").get_config
    configs = [get_config(run.partition(":")[2]) for run in found]
    for config in configs:
        assert config.data.variant == "53"
        build.check_config(config)
    assert sorted({config.model.bits for config in configs}) == BITS
    assert {config.model.matching.hash_types for config in configs} == {0, 1, 2, 3}
    margins = {config.loss.margin for config in configs}
    assert margins == ({0.0, 0.05, 0.1, 0.2, 0.4} if name == "vse_t3" else {0.1})
    # One setting is changed at a time, and no run is there twice.
    assert len(configs) == 7 + 3 + len(margins) - 1


def test_commands_are_those_of_the_command_line():
    config = "configs/vse_t3.py:data=630,bits=64"
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "", flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_integer("config.train.epochs", 0, "", flag_values=values)
    workdirs = set()
    for command in sweep.commands(config, ["--config.train.epochs=5"]):
        *start, main = shlex.split(command)[:3]
        assert (start, main) == (["python", "-m"], "fhn_jax.main")
        values.unparse_flags()
        assert values(["main", *shlex.split(command)[3:]]) == ["main"]
        assert values.config.startswith("configs/vse_t3.py:data=630,bits=")
        assert values["config.train.epochs"].value == 5
        workdirs.add(values.workdir)
    assert len(workdirs) == 7 + 3 + 4
    assert "runs/vse_t3-data=630-bits=64-margin=0.4" in workdirs


def test_runs_of_equal_settings_are_there_once_and_flags_stay_flags(config):
    assert sweep.runs(config) == {
        "small.py": Path("runs/small"),
        "small.py:a=2": Path("runs/small-a=2"),
    }
    assert list(sweep.runs(f"{config}:flag,a=3")) == [
        "small.py:flag,a=3",
        "small.py:flag,a=1",
        "small.py:flag,a=2",
    ]


def test_the_table_shows_what_is_done(config, capsys):
    results = {"split": "test", "scores": {"binary": {"auc": 0.75, "fitb": 0.5}}}
    Path("runs/small-a=2").mkdir(parents=True)
    Path("runs/small-a=2/results.json").write_text(json.dumps(results))
    sweep.main([config, "--table"])
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head[-5:] == ["split", "auc", "ndcg", "ndcg_parity", "fitb"]
    assert rows == [
        ["small.py", "-", "-", "-", "-", "-"],
        ["small.py:a=2", "test", "0.7500", "-", "-", "0.5000"],
    ]


def test_commands_are_printed(config, capsys):
    sweep.main([config, "--config.a=3"])
    assert capsys.readouterr().out.splitlines() == [
        "python -m fhn_jax.main --config small.py --workdir runs/small --config.a=3",
        "python -m fhn_jax.main --config small.py:a=2 --workdir runs/small-a=2 "
        "--config.a=3",
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("nowhere.py", "--config: there is no file nowhere.py; expected one, or one"),
        ("none.py", "none.py has no function sweep(add)"),
        ("none.py:foo", "none.py has no function sweep(add)"),
        (f"{REPOSITORY}/configs/t3.py:foo=3", "config argument 'foo' is unk"),
    ],
)
def test_a_mistake_is_named(tmp_path, monkeypatch, config, message):
    monkeypatch.chdir(tmp_path)
    Path("none.py").write_text("")
    with pytest.raises(UserError) as caught:
        sweep.main([config])
    assert str(caught.value).startswith(message)


def test_the_table_takes_no_flags_of_runs(config):
    with pytest.raises(UserError, match="--table reads results alone; got --config.a"):
        sweep.main([config, "--table", "--config.a=3"])


def test_a_flag_that_runs_do_not_take_is_named(config):
    with pytest.raises(UserError, match="flag --tabel is unknown.*mean '--table'"):
        sweep.main([config, "--tabel"])
