"""Training runs for tests: their settings and processes."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fhn_jax.cli.config import GivenConfig
from fhn_jax.cli.run import RunChoice
from fhn_jax.main import COMMANDS
from fhn_jax.program import run_program

REPOSITORY = Path(__file__).parents[1]
# Not equal in two runs that are otherwise equal bit for bit.
TIMES = ("train/seconds", "train/images_per_second")


def settings(root, overrides=None, *, config="text_t3", variant="8", arg="smoke"):
    """The settings of a config for the data in `root`, wandb disabled.

    Args:
      overrides: single values by dotted key.
      arg: of the config.
    """
    settings = importlib.import_module(f"fhn_jax.configs.{config}").get_config(arg)
    values = {"data.root": str(root), "data.variant": variant, "wandb.mode": "disabled"}
    settings.update_from_flattened_dict(values | (overrides or {}))
    return settings.lock()


def flags(root, overrides=None, *, config="text_t3", variant="8"):
    """The command line that gives `settings`."""
    values = {"data.root": str(root), "data.variant": variant, "wandb.mode": "disabled"}
    values |= overrides or {}
    path = REPOSITORY / "configs" / f"{config}.py"
    return [
        f"--config={path}:smoke",
        *(f"--config.{key}={value}" for key, value in values.items()),
    ]


def quiet(title):
    """A progress bar that shows nothing."""
    return lambda done, total: None


def start(arguments, *, patch="", cwd=None, env=None):
    """Starts the command line in a process of its own.

    Args:
      arguments: of the command line.
      patch: Python that runs first.
      cwd: working directory.
      env: variables to change; None removes one.
    """
    program = f"{patch}\nfrom fhn_jax import main\nmain.main()\n"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | (env or {})
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=cwd,
        env={key: value for key, value in environment.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(arguments, **options):
    """The exit code, stdout and stderr of the command line, see `start`."""
    process = start(arguments, **options)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def choose(config=None, workdir=None, overrides=None):
    """What the command line makes of settings and a workdir."""
    given = None if config is None else GivenConfig(config, overrides or {}, "name")
    return RunChoice(given, None if workdir is None else Path(workdir))


def act(command, config=None, workdir=None, **options):
    """Runs a command in this process, on settings or on a workdir's; raises its errors.

    Args:
      options: values of its flags, a text for one that is given once; the others have
        their defaults.
    """
    command = COMMANDS[command]
    values = {flag.name.replace("-", "_"): flag.default for flag in command.flags}
    assert options.keys() <= values.keys()
    options |= {
        name: (value,)
        for name, value in options.items()
        if isinstance(values[name], tuple) and isinstance(value, str)
    }
    command.run(choose(config, workdir), **values | options)


def exit_code(main, arguments):
    """The exit code of a program that runs in this process; errors go to stderr."""
    try:
        run_program(main, arguments)
    except SystemExit as exit_:
        print(exit_.code, file=sys.stderr)
        return 1
    return 0


def load(config):
    """Catalogue and item inputs of a config."""
    from fhn_jax.data.layout import read_catalogue
    from fhn_jax.training.inputs import load_inputs

    catalogue = read_catalogue(config.data.root, config.data.variant)
    return catalogue, load_inputs(config, catalogue, quiet)


def train(config, workdir):
    """Trains in this process."""
    from fhn_jax.training.experiment import Experiment

    return Experiment(config, workdir).train()


def train_until(config, workdir, step, said, monkeypatch):
    """Trains, and stops as if asked to when this step is logged; says when, so."""
    from fhn_jax.training.loop import Loop
    from fhn_jax.training.stopping import Interrupted, StopSignal

    log, stops, enter = Loop._log, [], StopSignal.__enter__

    def stop_at(self, state, done):
        if done == step:
            stops[0].noted = True
        return log(self, state, done)

    with monkeypatch.context() as patched:
        patched.setattr(
            StopSignal, "__enter__", lambda self: (stops.append(self), enter(self))[1]
        )
        patched.setattr(Loop, "_log", stop_at)
        with pytest.raises(Interrupted, match=f"stopped after {said};"):
            train(config, workdir)


def best(config, workdir):
    """The best network of a run."""
    from fhn_jax.training.experiment import Experiment

    return Experiment(config, workdir).best()


def metrics(workdir):
    """The lines of metrics.jsonl, without `TIMES`."""
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name not in TIMES}
        for line in lines
    ]


def steps(workdir):
    """The steps of the checkpoints of a run, in order."""
    folders = (workdir / "checkpoints").iterdir()
    return sorted(int(path.name) for path in folders if path.name.isdigit())


def latest(config, workdir):
    """The arrays, by name, and the host values of the latest checkpoint."""
    from flax import nnx

    from fhn_jax.training import build
    from fhn_jax.training.checkpoint import Checkpoints, flatten

    catalogue, inputs = load(config)
    model = nnx.eval_shape(lambda: build.make_model(config, catalogue, **inputs.dims))
    trainer = build.make_trainer(config, model, build.make_batches(config, catalogue))
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state, host = checkpoints.restore(trainer.shapes(), checkpoints.latest)
    return {name: np.asarray(a) for name, a in flatten(state).items()}, host


def assert_equal_runs(config, ours, theirs):
    """Two runs of a config have equal metrics and final states, bit for bit."""
    assert metrics(ours) == metrics(theirs)
    assert steps(ours) == steps(theirs)
    (our_arrays, our_host), (their_arrays, their_host) = (
        latest(config, workdir) for workdir in (ours, theirs)
    )
    assert our_host == their_host
    assert our_arrays.keys() == their_arrays.keys()
    for name, array in our_arrays.items():
        np.testing.assert_array_equal(array, their_arrays[name], err_msg=name)


def chunks_of(latents, size=10**9):
    """Latents of all items in chunks, as `ItemEncoder.stream` yields them."""
    for category, z in enumerate(next(iter(latents.values()))):
        for start in range(0, len(z), size):
            rows = slice(start, min(start + size, len(z)))
            yield category, rows, {m: by[category][rows] for m, by in latents.items()}


def assert_like_runs(ours, theirs):
    """Two workdirs have the same metrics, but for rounding."""
    ours, theirs = metrics(ours), metrics(theirs)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
