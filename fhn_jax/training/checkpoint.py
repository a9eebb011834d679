"""Checkpoints of a training run: the latest and the best, each atomic."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from fhn_jax.errors import InputError, NotFiniteError
from fhn_jax.training.step import TrainState

_policies = ocp.training.preservation_policies


def flatten(tree: Any) -> dict[str, jax.Array]:
    """The arrays of a pytree by their path, such as "params/user/embedding"."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


class Checkpoints:
    """The checkpoints of a run; a context manager that waits for pending writes.

    Keeps the latest and the one with the highest score; the score is higher for better.

    Args:
      folder: holds one folder per checkpoint, named by its step.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder).absolute()
        self._pending = None
        # The types of orbax do not fit each other.
        checkpointer: Any = ocp.training.Checkpointer
        self._checkpointer = checkpointer(
            self.folder,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(
                1
            ),
            preservation_policy=_policies.AnyPreservationPolicy(
                [
                    _policies.LatestN(1),
                    _policies.BestN(
                        get_metric_fn=lambda metrics: metrics["score"],
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            cleanup_tmp_directories=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._wait()
        finally:
            self._checkpointer.close()

    def _wait(self) -> None:
        """Returns when the pending write is on disk; raises what went wrong in it."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    @property
    def latest(self) -> int | None:
        """Step of the latest checkpoint, or None."""
        self._wait()
        checkpoint = self._checkpointer.latest
        return None if checkpoint is None else checkpoint.step

    @property
    def best(self) -> int | None:
        """Step of the checkpoint of the highest score; the latest if none has one."""
        self._wait()
        scored = [
            (checkpoint.metrics["score"], checkpoint.step)
            for checkpoint in self._checkpointer.checkpoints
            if checkpoint.metrics
        ]
        return max(scored)[1] if scored else self.latest

    def save(
        self, state: TrainState, host: Mapping[str, Any], score: float | None = None
    ) -> None:
        """Saves a state; one of the same step is replaced.

        Returns when the arrays are copied, and writes them in the background; the next
        call, and the end of the context, wait for that; several processes wait at once.
        A process that is killed meanwhile leaves the earlier checkpoint: a new one
        appears under its name when it is whole, and only then the earlier one goes.

        Args:
          state: arrays.
          host: what else the run needs to go on; JSON.
          score: of the validation, higher is better; None when not validated.
        Raises:
          FloatingPointError: an array is not finite; earlier checkpoints are kept.
        """
        arrays = flatten(state)
        finite = jax.device_get(_all_finite(arrays))
        for name in arrays:
            if not finite[name]:
                raise NotFiniteError(
                    f"{name} is not finite after step {int(state.step)}; the last good "
                    "checkpoint is kept. Lower config.optimizer.rates, or look at the "
                    "data of that step."
                )
        self._wait()
        self._pending = self._checkpointer.save_async(
            int(state.step),
            # Copies, because the training step donates its state.
            jax.tree.map(jnp.copy, arrays),
            overwrite=True,
            metrics=None if score is None else {"score": float(score)},
            custom_metadata=dict(host),
        )
        if jax.process_count() > 1:
            # Processes meet when a write is done: one that dies before that would keep
            # the others in the background until the runtime aborts them.
            self._wait()

    def host(self, step: int) -> dict[str, Any]:
        """The host values of a checkpoint."""
        self._wait()
        return dict(self._checkpointer.metadata(step).custom_metadata or {})

    def restore(
        self, state: TrainState, step: int
    ) -> tuple[TrainState, dict[str, Any]]:
        """The state and host values of a checkpoint.

        Args:
          state: of the structure and shapes to expect; its values are not used.
          step: of the checkpoint.
        Raises:
          ValueError: the checkpoint has other arrays; names the first five.
        """
        self._wait()
        expected = flatten(state)
        stored = self._checkpointer.metadata(step).metadata
        self._check(expected, stored, step)
        abstract = {
            name: jax.ShapeDtypeStruct(
                array.shape, array.dtype, sharding=array.sharding
            )
            for name, array in expected.items()
        }
        arrays = self._checkpointer.load(step, abstract)
        # Copies, because the training step donates its state.
        leaves = [jnp.array(arrays[name]) for name in expected]
        restored = jax.tree.unflatten(jax.tree.structure(state), leaves)
        return restored, self.host(step)

    def _check(self, expected, stored, step):
        faults = [f"{name} missing" for name in expected if name not in stored]
        faults += [f"{name} unexpected" for name in stored if name not in expected]
        faults += [
            f"{name} has shape {tuple(stored[name].shape)}, expected {array.shape}"
            for name, array in expected.items()
            if name in stored and tuple(stored[name].shape) != array.shape
        ]
        if faults:
            raise InputError(
                f"checkpoint {self.folder / str(step)} does not fit the model: "
                f"{'; '.join(faults[:5])}{'; …' if len(faults) > 5 else ''}. It was "
                "made with another config, or on vectors of another width; use those, or "
                "another --workdir."
            )


@jax.jit
def _all_finite(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.isfinite(array).all() for name, array in arrays.items()}
