"""Commands and flags: help, mistakes, and which run a command is about."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from polyvore_u import write_polyvore_u
from random_codes import codes_of
from runs import REPOSITORY, exit_code, run

import fhn_jax
from fhn_jax import files, main
from fhn_jax.cli.command import Command, Program
from fhn_jax.cli.progress import progress
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import UserError
from fhn_jax.training.workdir import claim_workdir, read_config

VSE = f"--config={REPOSITORY / 'configs' / 'vse_t3.py'}"
COMMANDS = [each for each in main.COMMANDS.values() if isinstance(each, Command)]
PROGRAMS = [each for each in main.COMMANDS.values() if isinstance(each, Program)]


@pytest.fixture
def trained(monkeypatch):
    """The runs that the train command is told to train."""
    runs = []
    command = dataclasses.replace(
        main.COMMANDS["train"], run=lambda choice, **_: runs.append(choice.open())
    )
    monkeypatch.setitem(main.COMMANDS, "train", command)
    return runs


# --- help -------------------------------------------------------------------------


def test_help_lists_every_command_with_a_line(capsys):
    main.run(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for command in main.COMMANDS.values():
        assert any(re.match(rf"  {command.name} +\S", line) for line in lines)
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_of_a_command_shows_its_flags_alone_with_defaults(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main.run([command.name, "--help"])
    assert not ended.value.code
    out = " ".join(capsys.readouterr().out.split())
    own = {flag.name for flag in command.flags}
    every = {flag.name for each in COMMANDS for flag in each.flags}
    for name in every:
        assert (f"--{name} " in out) == (name in own), name
    for flag in command.flags:
        if not isinstance(flag.default, bool) and flag.default not in ("", ()):
            assert f"{flag.help} (default: {flag.default})" in out
    assert "--config" in out and "--workdir" in out


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_programs_are_commands_with_a_help_of_their_own(program, capsys):
    with pytest.raises(SystemExit) as ended:
        main.run([program.name, "--help"])
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"usage: fhn-jax {program.name} ")


def test_the_version_is_that_of_the_package(capsys):
    main.run(["--version"])
    assert capsys.readouterr().out == f"fhn_jax {fhn_jax.__version__}\n"


# --- mistakes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([VSE, "--config.model.bitz=64"], "'model.bitz' is unknown; did you mean 'model.bits'?"),
        ([VSE, "--config.modl.bits=64"], "'modl.bits' is unknown; did you mean 'model.bits'?"),
        ([VSE, "--config.model.bits.x=64"], "config key 'model.bits.x' is unknown"),
        ([f"{VSE}:foo=3"], "config argument 'foo' is unknown; expected some of "),
        ([f"{VSE}:bit=3"], "did you mean 'bits'?"),
        ([VSE, "--config.train.epochs=x"], "flag --config.train.epochs=x: invalid"),
        (["--config=nowhere.py"], "there is no file nowhere.py; expected one, or one"),
        (["--config=vse_t4"], "did you mean 'vse_t3'?"),
        (["--config=configs/vse_t2.py"], "did you mean 'vse_t3'?"),
        (["--config.seed=3"], "--config.seed=3: give --config NAME as well"),
        (["dance", VSE], "command 'dance' is unknown; fhn-jax --help lists"),
        (["serach", VSE], "did you mean 'search'?"),
        (["train", "fitb", VSE], "unexpected argument 'fitb'"),
        (["--wrokdir=x", VSE], "flag --wrokdir is unknown; did you mean '--workdir'?"),
        (["search", "--usr=3"], "did you mean '--user'?"),
        (["search", "--user=1", "--user=2"], "--user is given twice; expected once"),
        (["search", "--k=10", "--k", "10"], "--k is given twice; expected once"),
        ([VSE, "--workdir=a", "--workdir=b"], "--workdir is given twice"),
        ([VSE, VSE], "--config is given twice; expected once"),
        (["make-demo", "x", "--users=3", "--users=4"], "--users is given twice"),
        (["search", "--k=x"], "argument --k: invalid int value: 'x'"),
        (["fitb", "--split=tset"], "argument --split: invalid choice: 'tset'"),
        (["train", "--likes=3"], "train does not take --likes, which is a flag of cold-s"),
        (["search", "--split=val"], "search does not take --split, which is a flag of"),
        (["search", "--processes=2"], "which is a flag of all, train, extract-features"),
        (["make-demo", "x", "--user=3"], "did you mean '--users'?"),
        (["make-demo"], "the following arguments are required: out"),
        ([], "give --config, such as --config vse_t3, or the --workdir of a run"),
        (["fitb", "--workdir=nowhere"], "nowhere/config.json: no such file; give --"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_and_nothing_is_written(
    tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)):
        main.run(arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_one_line_and_debug_shows_the_traceback(tmp_path):
    code, out, err = run(["fitb", "--workdir=nowhere"], cwd=tmp_path)
    first, second = err.splitlines()
    assert first.startswith("error: nowhere/config.json: no such file")
    assert second == "(--debug shows where in the code)"
    assert (code, out) == (1, "")
    code, _, err = run(["fitb", "--workdir=nowhere", "--debug"], cwd=tmp_path)
    assert code == 1
    assert "Traceback (most recent call last)" in err
    assert "nowhere/config.json: no such file" in err.splitlines()[-1]


def planted(monkeypatch, error):
    """Makes the fitb command raise an error."""

    def fail(choice, **_):
        raise error

    command = dataclasses.replace(main.COMMANDS["fitb"], run=fail)
    monkeypatch.setitem(main.COMMANDS, "fitb", command)


@pytest.mark.parametrize("kind", [ValueError, KeyError, TypeError, FileNotFoundError])
def test_a_bug_is_a_traceback(monkeypatch, kind):
    planted(monkeypatch, kind("a bug"))
    with pytest.raises(kind, match="a bug"):
        main.main(["fitb"])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(13, "Permission denied", "runs/x"), "runs/x: Permission denied"),
        (OSError(28, "No space left on device", "a"), "a: No space left on device"),
        (OSError(98, "Address already in use"), "Address already in use"),
        (OSError(5, "Input/output error", "a"), "a: Input/output error"),
    ],
)  # fmt: skip
def test_what_the_system_refuses_is_one_line(monkeypatch, capsys, error, text):
    planted(monkeypatch, error)
    assert exit_code(main.run, ["fitb"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {text}\n")


@pytest.mark.slow
def test_a_workdir_below_a_file_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    config = ["--config=text_t3:smoke", f"--config.data.root={tmp_path}"]
    arguments = ["train", *config, f"--workdir={tmp_path / 'file' / 'run'}"]
    assert exit_code(main.run, arguments) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_a_missing_package_is_named_with_its_pip_line(monkeypatch):
    planted(monkeypatch, ModuleNotFoundError("no", name="jax.numpy"))
    with pytest.raises(UserError, match=r'jax.numpy: pip install "fhn_jax\[train\]"'):
        main.run(["fitb"])
    planted(monkeypatch, ModuleNotFoundError("no", name="fhn_jax.bug"))
    with pytest.raises(ModuleNotFoundError, match="no") as caught:
        main.run(["fitb"])
    assert not isinstance(caught.value, UserError)


def test_a_reader_that_stops_is_no_traceback():
    program = "from fhn_jax.main import main; main(['--help'])"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    planted(monkeypatch, KeyboardInterrupt())
    with pytest.raises(SystemExit) as ended:
        main.main(["fitb"])
    assert ended.value.code == 130
    err = capsys.readouterr().err
    assert err == "interrupted: run the same command again to go on\n"


TERMINATED = """
import os, signal, sys
from pathlib import Path
from fhn_jax import files
from fhn_jax.program import run_program

def main(_):
    with (
        files.lock(sys.argv[1] + "/run", "writing"),
        files.new_folder(sys.argv[1] + "/folder") as folder,
        files.atomic_path(sys.argv[1] + "/file") as path,
    ):
        path.write_text("half")
        (folder / "a").write_text("half")
        if child := os.fork():
            os.waitpid(child, 0)
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            os.kill(os.getpid(), signal.SIGTERM)

run_program(main, [])
"""


def test_sigterm_cleans_up_in_every_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 143
    assert done.stderr == "terminated: run the same command again to go on\n"
    assert list(tmp_path.iterdir()) == []


# --- which run --------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        [f"{VSE}:bits=64,hash=tanh"],
        ["--config", "vse_t3:bits=64,hash=tanh"],
        ["--config=vse_t3:bits=64,hash=tanh"],
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_configs_have_names_and_name_the_workdir(
    tmp_path, monkeypatch, trained, config, first
):
    monkeypatch.chdir(tmp_path)
    arguments = [*config, "--config.data.variant=630", "--config.train.epochs", "5"]
    main.run(["train", *arguments] if first else [*arguments, "train"])
    (opened,) = trained
    assert opened.workdir == Path("runs/vse_t3-bits=64-hash=tanh")
    assert (opened.root, opened.variant) == (Path("data/polyvore"), "630")
    assert (opened.config.model.bits, opened.config.train.epochs) == (64, 5)


def test_a_file_wins_over_a_config_of_the_package(tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    Path("t3").with_suffix(".py").write_text("from fhn_jax.configs.text_t3 import *\n")
    main.run(["train", "--config=t3.py", "--config.data.root=x"])
    main.run(["train", "--config=t3", "--config.data.root=x"])
    seen = [tuple(opened.config.model.modalities) for opened in trained]
    assert seen == [("text",), ("visual",)]


def test_a_relative_data_root_is_kept_relative_to_the_workdir(tmp_path, monkeypatch):
    (tmp_path / "a" / "data").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    workdir = tmp_path / "a" / "runs" / "x"
    text = {"text": "semantic"}
    claim_workdir({"data": {"root": "data"} | text}, Path("runs/x"))
    noted = json.loads((workdir / "config.json").read_text())
    assert noted["data"] == {"root": "../../data"} | text
    assert read_config(Path("runs/x")) == {"data": {"root": "data"} | text}
    monkeypatch.chdir(tmp_path / "b")
    assert read_config(workdir) == {"data": {"root": "../a/data"} | text}
    # What was read can be written again, and moved along with its data.
    claim_workdir(read_config(workdir), workdir)
    assert json.loads((workdir / "config.json").read_text()) == noted
    os.rename(tmp_path / "a", tmp_path / "c")
    read = read_config(tmp_path / "c" / "runs" / "x")
    assert read == {"data": {"root": "../c/data"} | text}


def test_an_absolute_data_root_and_that_of_an_old_run_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    claim_workdir({"data": {"root": str(tmp_path / "data")}}, Path("run"))
    assert read_config(Path("run"))["data"]["root"] == str(tmp_path / "data")
    files.write_json(tmp_path / "old" / "config.json", {"data": {"root": "data"}})
    assert read_config(tmp_path / "old")["data"]["root"] == "data"


@pytest.mark.slow
def test_a_run_is_evaluated_from_any_folder_and_names_what_it_writes(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    write_polyvore_u("tiny")
    codes_of(read_catalogue("tiny", "8")).save(Path("run/codes.safetensors"))
    claim_workdir({"data": {"root": "tiny", "variant": "8"}}, Path("run"))
    monkeypatch.chdir(tmp_path / "b")
    for command in ("evaluate-rank", "fitb", "search", "compose", "cold-start"):
        flags = ["--fit", "--likes=1"] if command == "cold-start" else []
        main.run([command, "--workdir=../a/run", *flags])
        lines = capsys.readouterr().out.splitlines()
        written = [line[6:] for line in lines if line.startswith("wrote ")]
        assert written and all(os.path.exists(path) for path in written)
    assert list((tmp_path / "b").iterdir()) == []


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
    update = progress("decoding images")
    for done in range(0, 2001, 50):
        update(done, 2000)
    lines = stream.text.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "decoding images: 2,000 of 2,000"


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    stream = Stream(terminal=True)
    monkeypatch.setattr(sys, "stderr", stream)
    update = progress("decoding images")
    assert stream.text == ""
    update(50, 100)
    update(100, 100)
    assert "100%" in stream.text
    assert stream.text.endswith("\n")
