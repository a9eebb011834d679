"""The training loop."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from fhn_jax.errors import NotFiniteError
from fhn_jax.training import sharding
from fhn_jax.training.checkpoint import Checkpoints
from fhn_jax.training.epochs import DeviceEpochs, HostEpochs
from fhn_jax.training.schedule import Schedule
from fhn_jax.training.settings import Settings
from fhn_jax.training.step import TrainState, pop_metrics
from fhn_jax.training.stopping import Interrupted, StopSignal
from fhn_jax.training.validation import Validation
from fhn_jax.training.writers import Writer


def due(step: int, every: int, last: int) -> bool:
    """Whether something done every so many steps is due after `step` of `last`."""
    return step % every == 0 or step == last


class Loop:
    """Runs the steps of all epochs; logs, validates, saves and stops in between.

    Args:
      settings: `train` of the config.
      epochs: of the steps.
      schedule: of the rates.
      beta: from an epoch, from 0, to the slope of the relaxation in it.
      validation: None without a validation split.
      writer: of metrics.
      checkpoints: of states.
      about: the data that are trained on, noted in each checkpoint; JSON.
    """

    def __init__(
        self,
        settings: Settings,
        epochs: HostEpochs | DeviceEpochs,
        schedule: Schedule,
        beta: Callable[[int], float],
        validation: Validation | None,
        writer: Writer,
        checkpoints: Checkpoints,
        about: Mapping[str, Any],
    ):
        self.settings, self.epochs, self.schedule = settings, epochs, schedule
        self.beta, self.validation = beta, validation
        self.writer, self.checkpoints = writer, checkpoints
        self.about = about
        self.steps_per_epoch = epochs.batches.steps
        self.total_steps = settings.epochs * self.steps_per_epoch
        self.started = time.monotonic()
        self.images = 0
        # When the epochs began whose time the next line tells, and after how many steps.
        self.resumed, self.resumed_at = self.started, 0

    def run(self, state: TrainState) -> None:
        """Trains from a state (donated) to the last step.

        Raises:
          FloatingPointError: a metric is not finite.
          Interrupted: stopped by a signal; the state is saved.
        """
        step = self.resumed_at = int(state.step)
        bar = tqdm(
            total=self.total_steps,
            initial=step,
            desc="training",
            unit="step",
            disable=not (sys.stderr.isatty() and sharding.is_first()),
        )
        with bar, StopSignal() as stop:
            while step < self.total_steps:
                epoch, skip = divmod(step, self.steps_per_epoch)
                state, step = self._epoch(state, epoch, skip, bar, stop)

    def _epoch(self, state, epoch, skip, bar, stop):
        advances = self.epochs.advances(self.schedule, epoch, skip, self.beta(epoch))
        for advance, step in advances:
            state, images = advance(state)
            self.images += images
            bar.update(step - bar.n)
            if due(step, self.settings.log_steps, self.total_steps):
                state = self._log(state, step)
            stops = stop.asked(step)
            if stops and step % self.steps_per_epoch:
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
        line = {"epoch": step / self.steps_per_epoch}
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
        last = self.settings.epochs
        if not due(epoch, self.settings.val_epochs, last):
            return state
        paused = time.monotonic()
        epochs = (step - self.resumed_at) / self.steps_per_epoch
        seconds = (paused - self.resumed) / epochs
        pop_metrics(state)  # Names what is not finite, before validation trips over it.
        state = self.epochs.trainer.settle(state)
        score, measured = None, {}
        if self.validation is not None:
            model = self.epochs.trainer.model(state)
            measured = self.validation(model, self.beta(epoch - 1))
            _check_finite(measured, step)
            self.schedule.end_epoch(measured["val/loss"])
            score = measured[self.settings.select]
            self.writer.write(step, {"epoch": float(epoch), **measured})
        if sharding.is_first():
            line = f"{_line(epoch, last, measured)}  {seconds:.1f} s an epoch, {_devices()}"
            tqdm.write(line, file=sys.stderr)
        self._save(state, score)
        self.resumed, self.resumed_at = time.monotonic(), step
        self.started += self.resumed - paused
        return state

    def _save(self, state, score=None) -> None:
        pop_metrics(state)  # A state that is not finite must not be saved.
        host = {"schedule": self.schedule.memory(), **self.about}
        self.checkpoints.save(state, host, score)


def _line(epoch: int, last: int, measured: Mapping[str, float]) -> str:
    if not measured:
        return f"epoch {epoch}/{last}  (there is no val split)"
    shown = ("loss", "auc_binary", "auc_relaxed", "auc_asymmetric")
    values = "  ".join(f"{name} {measured[f'val/{name}']:.4f}" for name in shown)
    return f"epoch {epoch}/{last}  val: {values}"


def _devices() -> str:
    """What computes, such as "1 x cpu" or "8 x NVIDIA H200"."""
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind}"


def _check_finite(measured: Mapping[str, float], step: int) -> None:
    for name, value in measured.items():
        if not np.isfinite(value):
            raise NotFiniteError(
                f"{name} is {value} at step {step}; lower config.optimizer.rates"
            )
