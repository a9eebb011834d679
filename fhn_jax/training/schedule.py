"""Learning-rate schedules: a factor on all rates, computed on the host."""

import dataclasses
import math

from fhn_jax.errors import InputError

SCHEDULES = ("constant", "plateau", "step", "cosine")


@dataclasses.dataclass
class Schedule:
    """The factor on all learning rates, by step and by what validation says.

    | name       | factor                                                            |
    |------------|-------------------------------------------------------------------|
    | `constant` | 1                                                                 |
    | `plateau`  | times `factor` when the validation loss has not fallen below      |
    |            | (1 − threshold) · best for more than `patience` epochs; then      |
    |            | `cooldown` epochs are not counted                                 |
    | `step`     | times `factor` every `every` epochs                               |
    | `cosine`   | from 1 to 0 over the run                                          |

    All rise linearly over the first `warmup_steps`.

    Args:
      name: one of `SCHEDULES`.
      total_steps: of the run.
      steps_per_epoch: of the run.
    Raises:
      ValueError: unknown name or a value out of range.
    Source: plateau and step as in PyTorch's ReduceLROnPlateau and StepLR.
    """

    name: str
    total_steps: int
    steps_per_epoch: int
    warmup_steps: int = 0
    factor: float = 0.5
    patience: int = 10
    cooldown: int = 10
    threshold: float = 0.05
    every: int = 10
    # What a plateau remembers.
    scale: float = 1.0
    best: float | None = None
    bad_epochs: int = 0
    cooling: int = 0

    def __post_init__(self):
        if self.name not in SCHEDULES:
            raise InputError(
                f"schedule.name={self.name!r}: expected one of {', '.join(SCHEDULES)}"
            )
        if not 0 < self.factor < 1:
            raise InputError(
                f"schedule.factor={self.factor}: expected above 0, below 1"
            )
        if self.every < 1:
            raise InputError(f"schedule.every={self.every}: expected at least 1")
        if not 0 <= self.threshold < 1:
            raise InputError(
                f"schedule.threshold={self.threshold}: expected 0 to below 1"
            )
        for name in ("warmup_steps", "patience", "cooldown"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"schedule.{name}={getattr(self, name)}: expected at least 0"
                )

    def rate(self, step: int) -> float:
        """The factor of a step, counted from 0."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        match self.name:
            case "plateau":
                return warmup * self.scale
            case "step":
                # DIFFERS: the reference's drops come one epoch late.
                epoch = step // self.steps_per_epoch
                return warmup * self.factor ** (epoch // self.every)
            case "cosine":
                return warmup * (1 + math.cos(math.pi * step / self.total_steps)) / 2
        return warmup

    def end_epoch(self, loss: float) -> None:
        """Takes the validation loss of an epoch; lower is better.

        DIFFERS: the reference hands its scheduler the negated loss, so that the rate
        falls while the loss falls.
        """
        if self.name != "plateau":
            return
        if self.best is None or loss < self.best * (1 - self.threshold):
            self.best, self.bad_epochs = loss, 0
        else:
            self.bad_epochs += 1
        if self.cooling > 0:
            self.cooling -= 1
            self.bad_epochs = 0
        if self.bad_epochs > self.patience:
            self.scale *= self.factor
            self.cooling, self.bad_epochs = self.cooldown, 0

    def memory(self) -> dict[str, float | None]:
        """What a checkpoint must hold to go on."""
        return {name: getattr(self, name) for name in _MEMORY}

    def recall(self, memory: dict[str, float | None]) -> None:
        """Takes over what `memory` gave."""
        for name in _MEMORY:
            setattr(self, name, memory[name])


_MEMORY = ("scale", "best", "bad_epochs", "cooling")
