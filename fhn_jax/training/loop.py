"""The training loop."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from fhn_jax.data.batches import TrainBatches
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.items import ItemInputs
from fhn_jax.errors import InputError, MissingFileError, NotFiniteError
from fhn_jax.models.fashion_hash_net import FashionHashNet
from fhn_jax.models.hashing import tanh_scale
from fhn_jax.training import build, sharding
from fhn_jax.training.checkpoint import Checkpoints
from fhn_jax.training.schedule import Schedule
from fhn_jax.training.settings import Settings
from fhn_jax.training.step import Trainer, TrainState, pop_metrics
from fhn_jax.training.stopping import Interrupted, StopSignal
from fhn_jax.training.validation import Validation
from fhn_jax.training.workdir import check_trained, claim_workdir, is_trained
from fhn_jax.training.writers import Writer


def due(step: int, every: int, last: int) -> bool:
    """Whether something done every so many steps is due after `step` of `last`."""
    return step % every == 0 or step == last


class Trained(NamedTuple):
    """A network to validate, export and score with.

    Attributes:
      model: the network.
      beta: slope of the relaxation in its epoch.
      step: after which it was saved.
    """

    model: FashionHashNet
    beta: float
    step: int


def train(
    config: Settings,
    workdir: Path,
    catalogue: Catalogue,
    inputs: ItemInputs,
    model: FashionHashNet | None = None,
) -> Trained:
    """Trains a network, or goes on where a killed run of this workdir left off.

    A resumed run ends bit for bit as one that was never stopped (same machine). Of
    several processes, see `sharding.multi_host`, each calls this, and the first writes.

    Args:
      config: all settings.
      workdir: gets config.json, metrics.jsonl and checkpoints.
      catalogue: the data.
      inputs: images and text of its items.
      model: the network to start from; by default a new one.
    Returns:
      the network of the best validation score (`train.select`), or of the last epoch
      where the data has no validation split.
    Raises:
      FloatingPointError: a metric is not finite.
      Interrupted: stopped by a signal; the state is saved.
      ValueError: the workdir holds a run of another config or of other data.
    """
    starts = not is_trained(workdir)
    if starts:
        build.note_weights(config)
    _claim(config, workdir)
    if model is None:
        model = build.make_model(config, catalogue, **build.input_dims(inputs))
        if starts:
            build.load_weights(config, model)
    batches = build.make_batches(config, catalogue)
    trainer = build.make_trainer(config, model, batches)
    schedule = build.make_schedule(config, batches.steps)
    validation = None
    if "val" in catalogue.splits:
        encoder = build.make_encoder(config, model, inputs)
        objective = build.make_objective(config)
        validation = Validation(catalogue, encoder, objective)
    state = trainer.init(take=True)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        if checkpoints.latest is not None:
            state, host = _restore(checkpoints, state, checkpoints.latest, catalogue)
            schedule.recall(host["schedule"])
        done = int(state.step)
        if done == config.train.epochs * batches.steps:
            print(f"{workdir} is trained to the end already", file=sys.stderr)
        else:
            with Writer(
                workdir,
                build.config_values(config),
                mode=config.wandb.mode,
                project=config.wandb.project,
                after_step=done,
                writes=sharding.is_first(),
            ) as writer:
                loop = _Loop(
                    config,
                    catalogue.checksum,
                    trainer,
                    batches,
                    inputs,
                    schedule,
                    validation,
                    writer,
                    checkpoints,
                )
                loop.run(state)
    return restore_best(config, workdir, catalogue, inputs)


def restore_best(
    config: Settings, workdir: Path, catalogue: Catalogue, inputs: ItemInputs
) -> Trained:
    """The best network of a run.

    Raises:
      FileNotFoundError: the workdir holds no checkpoint.
      ValueError: it holds a run of another config or of other data.
    """
    check_trained(workdir)
    _claim(config, workdir)
    model = build.make_model(config, catalogue, **build.input_dims(inputs))
    batches = build.make_batches(config, catalogue)
    trainer = build.make_trainer(config, model, batches)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        best = checkpoints.best
        if best is None:
            raise MissingFileError(f"{checkpoints.folder} holds no whole checkpoint")
        state, _ = _restore(checkpoints, trainer.init(take=True), best, catalogue)
    step = int(state.step)
    return Trained(trainer.model(state), _beta(config, step, batches.steps), step)


def _claim(config: Settings, workdir: Path) -> None:
    claim_workdir(build.config_values(config), workdir, writes=sharding.is_first())


def _restore(
    checkpoints: Checkpoints, state: TrainState, step: int, catalogue: Catalogue
) -> tuple[TrainState, dict[str, Any]]:
    checksum = checkpoints.host(step)["data"]
    if checksum != catalogue.checksum:
        raise InputError(
            f"{checkpoints.folder} was trained on other data (checksum "
            f"{checksum[:12]}) than tuples_{catalogue.variant} in {catalogue.root} "
            f"({catalogue.checksum[:12]}); give that data, or another --workdir"
        )
    return checkpoints.restore(state, step)


class _Loop:
    def __init__(
        self,
        config: Settings,
        checksum: str,
        trainer: Trainer,
        batches: TrainBatches,
        inputs: ItemInputs,
        schedule: Schedule,
        validation: Validation | None,
        writer: Writer,
        checkpoints: Checkpoints,
    ):
        self.config, self.checksum = config, checksum
        self.trainer, self.batches = trainer, batches
        self.schedule, self.validation = schedule, validation
        self.writer, self.checkpoints = writer, checkpoints
        self.epochs = build.make_epochs(config, trainer, batches, inputs)
        self.total_steps = config.train.epochs * batches.steps
        self.started = time.monotonic()
        self.images = 0

    def run(self, state: TrainState) -> None:
        step = int(state.step)
        bar = tqdm(
            total=self.total_steps,
            initial=step,
            desc="training",
            unit="step",
            disable=not (sys.stderr.isatty() and sharding.is_first()),
        )
        with bar, StopSignal() as stop:
            while step < self.total_steps:
                epoch, skip = divmod(step, self.batches.steps)
                state, step = self._epoch(state, epoch, skip, bar, stop)

    def _epoch(self, state, epoch, skip, bar, stop):
        beta = tanh_scale(epoch, self.config.model.tanh_gamma)
        for advance, step in self.epochs.advances(self.schedule, epoch, skip, beta):
            state, images = advance(state)
            self.images += images
            bar.update(step - bar.n)
            if due(step, self.config.train.log_steps, self.total_steps):
                state = self._log(state, step)
            stops = stop.asked(step)
            if stops and step % self.batches.steps:
                self._save(state)
                raise Interrupted(f"stopped after step {step}; run again to go on")
        state = self._end_epoch(state, step, epoch + 1)
        if stops and step < self.total_steps:
            if self.checkpoints.latest != step:
                self._save(state)
            raise Interrupted(f"stopped after epoch {epoch + 1}; run again to go on")
        return state, step

    def _log(self, state, step) -> TrainState:
        state, means = pop_metrics(state)
        seconds = time.monotonic() - self.started
        line = {"epoch": step / self.batches.steps}
        line |= {f"train/{name}": value for name, value in means.items()}
        line |= {
            "train/rate": float(np.float32(self.schedule.rate(step - 1))),
            "train/seconds": round(seconds, 3),
            "train/images_per_second": round(self.images / max(seconds, 1e-9), 1),
        }
        self.started, self.images = time.monotonic(), 0
        self.writer.write(step, line)
        return state

    def _end_epoch(self, state, step, epoch) -> TrainState:
        last = self.config.train.epochs
        if not due(epoch, self.config.train.val_epochs, last):
            return state
        paused = time.monotonic()
        pop_metrics(state)  # Names what is not finite, before validation trips over it.
        score, measured = None, {}
        if self.validation is not None:
            beta = _beta(self.config, step, self.batches.steps)
            measured = self.validation(self.trainer.model(state), beta)
            _check_finite(measured, step)
            self.schedule.end_epoch(measured["val/loss"])
            score = measured[self.config.train.select]
            self.writer.write(step, {"epoch": float(epoch), **measured})
        if sharding.is_first():
            tqdm.write(_line(epoch, last, measured), file=sys.stderr)
        self._save(state, score)
        self.started += time.monotonic() - paused
        return state

    def _save(self, state, score=None) -> None:
        pop_metrics(state)  # A state that is not finite must not be saved.
        host = {"schedule": self.schedule.memory(), "data": self.checksum}
        self.checkpoints.save(state, host, score)


def _beta(config: Settings, step: int, steps_per_epoch: int) -> float:
    """Slope of the relaxation after a step: of the epoch that the step was in."""
    return tanh_scale(max(step - 1, 0) // steps_per_epoch, config.model.tanh_gamma)


def _line(epoch: int, last: int, measured: Mapping[str, float]) -> str:
    if not measured:
        return f"epoch {epoch}/{last}  (there is no val split)"
    shown = ("loss", "auc_binary", "auc_relaxed", "auc_asymmetric")
    values = "  ".join(f"{name} {measured[f'val/{name}']:.4f}" for name in shown)
    return f"epoch {epoch}/{last}  val: {values}"


def _check_finite(measured: Mapping[str, float], step: int) -> None:
    for name, value in measured.items():
        if not np.isfinite(value):
            raise NotFiniteError(
                f"{name} is {value} at step {step}; lower config.optimizer.rates"
            )
