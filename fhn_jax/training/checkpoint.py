"""Checkpoints of a training run: the latest and the best, each atomic.

A checkpoint holds checksums of its arrays, of what the host has to know, and of its
score, which are compared when it is read.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from fhn_jax import files
from fhn_jax.errors import InputError, NotFiniteError, RefusedError
from fhn_jax.training import pieces, sharding
from fhn_jax.training.rows import USER_TABLE
from fhn_jax.training.step import TrainState

# Behind the step, in the names of folders that are no checkpoints.
_DAMAGED, _REPLACED = ".damaged", ".replaced"
# Files of orbax in a checkpoint, without which its arrays cannot be found.
_DESCRIBING = ("_CHECKPOINT_METADATA", "state/_METADATA", "state/manifest.ocdbt")
_policies = ocp.training.preservation_policies


def flatten(tree: Any) -> dict[str, Any]:
    """The arrays, or shapes, of a pytree by their path: "params/user/embedding"."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


class DamagedCheckpointError(InputError):
    """A checkpoint that is not what was saved."""


class Checkpoints:
    """The checkpoints of a run; a context manager that waits for pending writes.

    Keeps the latest and the one with the highest score; the score is higher for better.

    Args:
      folder: holds one folder per checkpoint, named by its step.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder).absolute()
        self._pending = None
        self._restore_replaced()
        self._scores: dict[int, float] = {}
        self._read: dict[int, Any] = {}
        # The types of orbax do not fit each other.
        checkpointer: Any = ocp.training.Checkpointer
        each = ocp.training.save_decision_policies.FixedIntervalPolicy(1)
        kept = [_policies.LatestN(1), _Best(self._scores)]
        with self._reading():
            self._checkpointer = checkpointer(
                self.folder,
                save_decision_policy=each,
                preservation_policy=_policies.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=True,
            )
        for checkpoint in self._checkpointer.checkpoints:
            if not self._is_whole(checkpoint):
                path = self.folder / str(checkpoint.step)
                print(f"warning: {path} is incomplete and left out", file=sys.stderr)
            else:
                with contextlib.suppress(DamagedCheckpointError):
                    self._note_score(checkpoint)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._wait()
        finally:
            with self._writing():  # It says again what went wrong.
                self._checkpointer.close()

    def _wait(self) -> None:
        """Returns when the pending write is on disk; raises what went wrong in it."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with self._writing():
                pending.result()
            for path in self.folder.glob(f"*{_REPLACED}"):
                shutil.rmtree(path, ignore_errors=True)

    def _restore_replaced(self) -> None:
        """Brings back what a killed process was about to replace."""
        for path in self.folder.glob(f"*{_REPLACED}"):
            if not path.with_suffix("").exists():
                path.rename(path.with_suffix(""))

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
        scored = []
        for checkpoint in filter(self._is_whole, self._checkpointer.checkpoints):
            self._note_score(checkpoint)
            if checkpoint.step in self._scores:
                scored.append((self._scores[checkpoint.step], checkpoint.step))
        return max(scored)[1] if scored else self.latest

    def _is_whole(self, checkpoint: Any) -> bool:
        """Whether it is not half removed: only what is neither best nor latest can be."""
        # Orbax removes the other half when the next checkpoint is saved.
        path = self.folder / str(checkpoint.step)
        return all((path / name).exists() for name in _DESCRIBING)

    def _note_score(self, checkpoint: Any) -> None:
        """Notes the score of a checkpoint; old versions kept it as a metric of orbax."""
        noted, step = self._noted(checkpoint.step), checkpoint.step
        score = noted.get("score", (checkpoint.metrics or {}).get("score"))
        if score is not None:
            self._scores[step] = float(score)

    def save(
        self, state: TrainState, host: Mapping[str, Any], score: float | None = None
    ) -> None:
        """Saves a state; one of the same step is replaced.

        Returns when the arrays are copied, and writes them in the background; the next
        call, and the end of the context, wait for that; several processes wait at once.
        Large arrays are neither copied nor written in the background, but in pieces.
        A process that is killed meanwhile leaves the earlier checkpoint: a new one
        appears under its name when it is whole, and only then the earlier one goes.

        Args:
          state: arrays.
          host: what else the run needs to go on; JSON.
          score: of the validation, higher is better; None when not validated.
        Raises:
          FloatingPointError: an array is not finite; earlier checkpoints are kept.
          RefusedError: there is no room for it, or it could not be written, which the
            next call may say; earlier checkpoints are kept.
        """
        self._write(int(state.step), flatten(state), host, score)

    def _write(
        self,
        step: int,
        arrays: dict[str, jax.Array],
        host: Mapping[str, Any],
        score: float | None,
    ) -> None:
        """Saves arrays by name; see `save`."""
        examined = _examine(arrays)
        for name, (finite, _) in examined.items():
            if not finite:
                raise NotFiniteError(
                    f"{name} is not finite after step {step}; the last good "
                    "checkpoint is kept. Lower config.optimizer.rates, or look at the "
                    "data of that step."
                )
        self._wait()
        # With no room for a folder, orbax would wait for it for five minutes.
        size = sum(array.nbytes for array in arrays.values())
        files.require_room(self.folder, size, f"checkpoint {step}")
        score = None if score is None else float(score)
        noted = {
            "host": dict(host),
            "score": score,
            "arrays": {name: checksum for name, (_, checksum) in examined.items()},
        }
        self._scores.pop(step, None)
        self._read.pop(step, None)
        if score is not None:
            self._scores[step] = score
        alone = jax.process_count() == 1
        if alone and (self.folder / str(step)).exists():
            # It would be gone while the new one is written.
            self._rename(step, _REPLACED)
        large = alone and any(array.nbytes > pieces.BYTES for array in arrays.values())
        with self._writing(), _little_memory() if large else contextlib.nullcontext():
            self._pending = self._checkpointer.save_async(
                step,
                # Copies, because the training step donates its state.
                pieces.split(arrays) if large else jax.tree.map(sharding.copy, arrays),
                overwrite=not alone,
                custom_metadata=noted | {"sha256": _sha256(noted)},
            )
        if large or not alone:
            # Processes meet when a write is done: one that dies before that would keep
            # the others in the background until the runtime aborts them.
            self._wait()

    def host(self, step: int) -> dict[str, Any]:
        """The host values of a checkpoint.

        Raises:
          DamagedCheckpointError: they are not those that were saved.
        """
        noted = self._noted(step)
        return noted["host"] if "arrays" in noted else noted

    def _noted(self, step: int) -> dict[str, Any]:
        """What is noted in a checkpoint, its checksum compared.

        In those of old versions these are the host values alone.
        """
        self._wait()
        with self._reading(step):
            noted = dict(self._metadata(step).custom_metadata or {})
        stated = noted.pop("sha256", None)
        # orbax takes what is no JSON for nothing, and a damaged key for one of ours.
        unsigned = bool(noted) and noted.keys() <= {"schedule", "data"}
        if not unsigned and stated != _sha256(noted):
            raise self._damaged(step, "the checksum of its metadata is wrong")
        return noted

    def _metadata(self, step: int) -> Any:
        """What orbax knows of a checkpoint, which takes it a tenth of a second to read."""
        if step not in self._read:
            self._read[step] = self._checkpointer.metadata(step)
        return self._read[step]

    def _rename(self, step: int, suffix: str) -> Path:
        """Takes a checkpoint out of the way; returns its new folder."""
        self._read.pop(step, None)
        path = self.folder / str(step)
        aside = path.with_name(f"{path.name}{suffix}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        self._checkpointer.reload()
        return aside

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Lets what the operating system refuses name the folder."""
        try:
            yield
        except (OSError, ValueError) as error:
            # The errors of tensorstore are ValueErrors, and say which one it was.
            if not isinstance(error, OSError) and "os_error_code" not in str(error):
                raise
            what = str(error).splitlines()[:1] or [type(error).__name__]
            raise RefusedError(
                f"a checkpoint in {self.folder} could not be written: {what[0][:300]}; "
                "those before it are kept, and the same command goes on from them once "
                "the disk has room and can be written"
            ) from error

    @contextlib.contextmanager
    def _reading(self, step: int | str = "*") -> Iterator[None]:
        """Lets all that goes wrong with the files of a checkpoint name it."""
        try:
            yield
        # orbax and tensorstore raise nearly anything at damaged files.
        except Exception as error:
            what = str(error).splitlines()[:1] or [type(error).__name__]
            raise self._damaged(step, what[0][:200]) from error

    def _damaged(self, step: int | str, what: str) -> DamagedCheckpointError:
        return DamagedCheckpointError(
            f"checkpoint {self.folder / str(step)} is damaged: {what}; remove this folder "
            "to use the other checkpoint there, or to start anew where there is none"
        )

    def restore_latest(
        self, state: TrainState, check: Callable[[dict[str, Any]], None]
    ) -> tuple[TrainState, dict[str, Any]] | None:
        """The latest checkpoint that is whole; None if there is no checkpoint.

        A damaged one is set aside with a warning, where there is another.

        Args:
          state: as for `restore`.
          check: called with the host values of a checkpoint before it is restored.
        Raises:
          ValueError: as `restore`.
        """
        while (step := self.latest) is not None:
            try:
                check(self.host(step))
                return self.restore(state, step)
            except DamagedCheckpointError as error:
                # Several processes need not all see the damage.
                alone = jax.process_count() == 1
                if not alone or len(self._checkpointer.checkpoints) < 2:
                    raise
                aside = self._rename(step, _DAMAGED)
                print(
                    f"warning: {str(error).partition('; remove')[0]}; it is kept as "
                    f"{aside}, and the run goes on from "
                    f"{self.folder / str(self.latest)}",
                    file=sys.stderr,
                )
        return None

    def restore(
        self, state: TrainState, step: int
    ) -> tuple[TrainState, dict[str, Any]]:
        """The state and host values of a checkpoint.

        Args:
          state: of the structure, shapes and shardings to expect; its values are not
            used, and need not be there.
          step: of the checkpoint.
        Raises:
          ValueError: the checkpoint has other arrays; names the first five.
          DamagedCheckpointError: it is not what was saved.
        """
        self._wait()
        expected = flatten(state)
        self._check(expected, pieces.whole(self._stored(step)), step)
        arrays = self._load(step, expected)
        # Copies, because the training step donates its state; one at a time.
        leaves = [sharding.copy(arrays.pop(name)) for name in expected]
        restored = jax.tree.unflatten(jax.tree.structure(state), leaves)
        return restored, self.host(step)

    def forget_users(self, users: Sequence[int], data: str | None) -> int:
        """Zeroes the rows of users in all checkpoints; returns how many checkpoints.

        Damaged ones that were set aside are removed.

        Args:
          users: none of them notes the data alone.
          data: the checksum of the data as they are now, noted from now on; None leaves
            what is noted.
        """
        self._wait()
        steps = [each.step for each in self._checkpointer.checkpoints]
        for step in steps:
            host, score = self.host(step), self._scores.get(step)
            shapes = self._shapes(step)
            arrays = {
                # The optimiser has a table of the same kind for each of its moments.
                name: array.at[jnp.array(users)].set(0)
                if users and USER_TABLE in name
                else array
                for name, array in self._load(step, shapes).items()
            }
            host |= {} if data is None else {"data": data}
            self._write(step, arrays, host, score)
        damaged = list(self.folder.glob(f"*{_DAMAGED}")) if users else []
        for folder in damaged:
            shutil.rmtree(folder)
        return len(steps) + len(damaged)

    def verify(self) -> list[int]:
        """Reads all checkpoints and compares their checksums; returns their steps.

        Raises:
          DamagedCheckpointError: one is not what was saved.
        """
        self._wait()
        steps = [each.step for each in self._checkpointer.checkpoints]
        for step in steps:
            self._load(step, self._shapes(step))
        return steps

    def _stored(self, step: int) -> dict[str, Any]:
        """The shapes of what is stored, by name."""
        with self._reading(step):
            return dict(self._metadata(step).metadata)

    def _shapes(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes of the arrays of a checkpoint, to be loaded on one device."""
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        return {
            name: jax.ShapeDtypeStruct(about.shape, about.dtype, sharding=here)
            for name, about in pieces.whole(self._stored(step)).items()
        }

    def _load(self, step: int, expected: Mapping[str, Any]) -> dict[str, jax.Array]:
        """The arrays of a checkpoint, their checksums compared."""
        abstract = {
            name: jax.ShapeDtypeStruct(
                array.shape, array.dtype, sharding=array.sharding
            )
            for name, array in expected.items()
        }
        stored = self._stored(step)

        def load(wanted):
            asked = {name: wanted.get(name, ocp.PLACEHOLDER) for name in stored}
            with self._reading(step):
                return self._checkpointer.load(step, asked)

        arrays = load(abstract)
        arrays = {
            name: arrays[name]
            if name in stored
            else pieces.join(like, stored, name, lambda p, of: load({p: of})[p])
            for name, like in abstract.items()
        }
        stated = self._noted(step).get("arrays")
        if stated is not None:
            for name, (_, checksum) in _examine(arrays).items():
                if checksum != stated.get(name):
                    raise self._damaged(step, f"the checksum of {name} is wrong")
        return arrays

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


class _Best:
    """Preserves the checkpoint of the highest score; of equal scores the latest.

    Scores are read from what is noted in the checkpoints, not from the metrics of orbax,
    which have no checksum.
    """

    def __init__(self, scores: Mapping[int, float]):
        self._scores = scores

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: Any
    ) -> list[bool]:
        """Which of the checkpoints to preserve."""
        del context
        scores = [
            (self._scores[each.step], each.step)
            for each in checkpoints
            if each.step in self._scores
        ]
        best = max(scores)[1] if scores else None
        return [each.step == best for each in checkpoints]


@contextlib.contextmanager
def _little_memory() -> Iterator[None]:
    """Lets orbax write two pieces at a time, from where they are."""
    context = ocp.Context()
    context.memory.deepcopy_host_arrays = False
    context.memory.write_concurrent_bytes = 2 * pieces.BYTES
    with context:
        yield


def _sha256(noted: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(noted, sort_keys=True).encode()).hexdigest()


def _examine(arrays: dict[str, jax.Array]) -> dict[str, tuple[bool, int]]:
    """Whether arrays are finite, and their checksums; on the devices where they are."""
    # Each by itself: what is compiled serves all arrays of a shape, of any network.
    examined = jax.device_get([_examine_one(array) for array in arrays.values()])
    return {
        name: (bool(finite), int(checksum))
        for name, (finite, checksum) in zip(arrays, examined, strict=True)
    }


@jax.jit
def _examine_one(array: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.isfinite(array).all(), _checksum(array)


def _checksum(array: jax.Array) -> jax.Array:
    """Sum of the bits of all entries, each times an odd number of its own, modulo 2^32.

    The same however the array lies on devices. One wrong entry always changes it.
    """
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    width = min(8 * array.dtype.itemsize, 32)
    bits = jax.lax.bitcast_convert_type(array, jnp.dtype(f"uint{width}"))
    place = jnp.zeros(bits.shape, jnp.uint32)
    for axis, length in enumerate(bits.shape):
        place = place * jnp.uint32(length & 0xFFFFFFFF)
        place += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    factors = (place * jnp.uint32(2654435761)) ^ jnp.uint32(0x9E3779B9) | jnp.uint32(1)
    return (bits.astype(jnp.uint32) * factors).sum(dtype=jnp.uint32)
