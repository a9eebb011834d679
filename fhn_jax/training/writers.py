"""Where metrics and results go: files always, Weights & Biases as asked."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fhn_jax import files
from fhn_jax.errors import InputError, MissingPackageError

WANDB_MODES = ("offline", "online", "disabled")


class Writer:
    """Writes metrics of a run; a context manager.

    Args:
      workdir: gets metrics.jsonl, and the folder wandb unless it is disabled.
      config: of the run, as JSON values.
      mode: of Weights & Biases, one of `WANDB_MODES`. "offline" never uses the
        network; "online" needs a key that is already set up, and never asks for one.
      project: of Weights & Biases.
      after_step: a resumed run's step; lines of later steps are dropped, since those
        steps are run again. Weights & Biases goes on with the same run.
      writes: nothing is written if False, as by all but one of several processes.
    Raises:
      ValueError, ModuleNotFoundError: as `check_wandb`; wandb does not start.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        config: Mapping[str, Any],
        *,
        mode: str = "offline",
        project: str = "fhn_jax",
        after_step: int = 0,
        writes: bool = True,
    ):
        self.path, self._run, self._file = Path(workdir) / "metrics.jsonl", None, None
        if not writes:
            return
        self._run = _start_wandb(Path(workdir), config, mode, project, after_step > 0)
        if self.path.exists():
            files.write_text(self.path, _kept(self.path, after_step))
        self._file = open(self.path, "a", encoding="utf-8")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self._file is not None:
            self._file.close()
        if self._run is not None:
            self._run.finish(exit_code=0 if kind is None else 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes metrics of a step; the line is on disk when this returns.

        Raises:
          ValueError: a metric is not finite.
        """
        line = json.dumps({"step": step, **metrics}, allow_nan=False)
        if self._file is None:
            return
        self._file.write(line + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._run is not None:
            self._run.log(dict(metrics), step=step)


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
      columns, rows: of the table of its results.
      charts: name → PNG file.
      codes: the file of its codes.
      about: them, as JSON values.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    charts: Mapping[str, Path]
    codes: Path
    about: Mapping[str, Any]


def write_outcome(
    workdir: str | os.PathLike,
    config: Mapping[str, Any],
    outcome: Outcome,
    *,
    mode: str,
    project: str,
    after_step: int,
) -> None:
    """Adds to the run of Weights & Biases what came of it; nothing where it is disabled.

    Args:
      workdir, config, mode, project: as of `Writer`, which has started that run.
      outcome: a table, pictures, and an artifact of type "codes".
      after_step: the last step of the run.
    Raises:
      ValueError, ModuleNotFoundError: as of `Writer`.
    """
    run = _start_wandb(Path(workdir), config, mode, project, resumes=True)
    if run is None:
        return
    import wandb

    try:
        with run:
            table = wandb.Table(list(outcome.columns), [list(r) for r in outcome.rows])
            logged: dict[str, Any] = {"results": table}
            for name, path in outcome.charts.items():
                logged[f"report/{name}"] = wandb.Image(str(path))
            # Offline, a run that goes on does not know its own last step.
            run.log(logged, step=max(run.step, after_step + 1))
            codes = wandb.Artifact(
                f"codes-{run.id}", "codes", metadata=dict(outcome.about)
            )
            # By default a copy is left in the home folder.
            codes.add_file(str(outcome.codes.resolve()), policy="immutable")
            run.log_artifact(codes)
    except wandb.Error as error:
        raise _wandb_error(mode, error) from None


def _kept(path: Path, last: int) -> str:
    """The lines of metrics up to a step; of those that are damaged a warning tells."""
    text = files.read_text(path, "remove it; only curves are lost")
    kept, damaged = [], []
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        try:
            if json.loads(line)["step"] <= last and line.endswith("\n"):
                kept.append(line)
        except (ValueError, KeyError, TypeError, RecursionError):
            damaged.append(str(number))
    if damaged:
        print(
            f"warning: {path}: lines that are no metrics are removed: "
            f"{', '.join(damaged[:10])}{', …' if len(damaged) > 10 else ''}",
            file=sys.stderr,
        )
    return "".join(kept)


def check_wandb(mode: str) -> None:
    """Makes sure, without asking for anything, that Weights & Biases can be used.

    Raises:
      ValueError: unknown mode, or online without a key that the server takes.
      ModuleNotFoundError: wandb is wanted but not installed.
    """
    if mode not in WANDB_MODES:
        raise InputError(
            f"config.wandb.mode={mode!r}: expected one of {', '.join(WANDB_MODES)}"
        )
    if mode == "disabled":
        return
    if mode == "offline":
        # Otherwise its telemetry looks for a server even so.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
    try:
        import wandb
    except ModuleNotFoundError:
        raise MissingPackageError(
            "config.wandb.mode needs the package wandb: pip install wandb, or use "
            "--config.wandb.mode=disabled"
        ) from None
    if mode == "online":
        try:
            if not wandb.login(prompt=False):
                raise InputError(
                    "config.wandb.mode='online' needs a key: run `wandb login` or set "
                    "WANDB_API_KEY first, or use --config.wandb.mode=offline"
                )
        except wandb.Error as error:
            raise _wandb_error(mode, error) from None


def _start_wandb(workdir, config, mode, project, resumes):
    check_wandb(mode)
    if mode == "disabled":
        return None
    import wandb

    note = workdir / "wandb" / "id"
    try:
        run = wandb.init(
            project=project,
            dir=workdir,
            name=workdir.name,
            config=dict(config),
            mode=mode,
            # Offline too: `wandb sync` then sends both stretches as one run.
            id=_noted_id(note) if resumes else None,
            resume="allow",
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, x_disable_stats=True
            ),
        )
    except wandb.Error as error:
        raise _wandb_error(mode, error) from None
    files.write_text(note, f"{run.id}\n")
    return run


def _noted_id(note: Path) -> str | None:
    """The id of the workdir's run of Weights & Biases, None if there was none."""
    if not note.exists():
        return None
    remedy = "remove it, and a new run of Weights & Biases starts"
    name = files.read_text(note, remedy).strip()
    if not re.fullmatch("[A-Za-z0-9_-]{1,64}", name):
        raise InputError(
            f"{note} holds {name[:80]!r}, expected the id of a run: up to 64 letters, "
            f"digits, - and _; {remedy}"
        )
    return name


def _wandb_error(mode, error):
    remedy = "--config.wandb.mode=offline (`wandb sync` can send the run later)"
    if mode == "offline":
        remedy = "--config.wandb.mode=disabled"
    return InputError(f"config.wandb.mode={mode!r}: {error}; use {remedy}")
