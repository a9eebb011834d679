"""The mesh of devices, where each array of a training step lies on it, and its hosts.

The rows of a batch are spread over the axis "data"; weights are on every device; the
user table, its gradient and its optimiser's moments are spread over the axis "model".

A run of several processes has one mesh over the devices of all. Every process runs the
same program and computes the same indices, reads its own rows of each batch, and has
whole rows of the mesh, so that it holds every weight.
"""

import atexit
import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from fhn_jax.errors import InputError

DATA, MODEL = "data", "model"
# Of the shutdown barrier: a process that does not reach it in time has failed.
_SHUTDOWN_SECONDS = 10
_START_SECONDS = 300
# In which the others can fail by themselves after process 0 has.
_GRACE_SECONDS = 5


@contextlib.contextmanager
def multi_host(
    coordinator: str,
    processes: int,
    process_id: int,
    agreed: type[BaseException] = KeyboardInterrupt,
) -> Iterator[None]:
    """Makes this process one of several that run the same; before any call of jax.

    What is not given is asked of the cluster (Slurm, Open MPI, Kubernetes, a TPU pod).

    Args:
      coordinator: HOST:PORT of process 0, where the others can reach it; "" if not
        given.
      processes: how many; 0 if not given.
      process_id: of this one, from 0; -1 if not given.
      agreed: raised in all processes or in none. After any other exception this process
        ends without waiting for the others, and they fail when they miss it.
    Raises:
      ValueError: a value out of its range, not given and not known to a cluster, or
        another number of processes than the coordinator has.
    """
    if processes and not 0 <= process_id < processes:
        raise InputError(
            f"--process-id={process_id}: expected 0 to {processes - 1}, another one for "
            f"each of --processes={processes}"
        )
    port = coordinator.rpartition(":")[2]
    if coordinator and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 2**16):
        raise InputError(
            f"--coordinator={coordinator!r}: expected HOST:PORT of process 0, such as "
            "10.0.0.1:1234"
        )
    try:
        _initialize(coordinator, processes, process_id)
        yield
        wait_for_all()
    except BaseException as error:
        if not isinstance(error, agreed):
            atexit.register(_exit, 130 if isinstance(error, KeyboardInterrupt) else 1)
        raise


def _initialize(coordinator: str, processes: int, process_id: int) -> None:
    if processes and process_id == 0:
        # If fewer come, jax ends this process with words about tasks and barriers.
        print(
            f"waiting for all {processes} processes, {_START_SECONDS} seconds at most",
            file=sys.stderr,
        )
    try:
        jax.distributed.initialize(
            coordinator or None,
            processes or None,
            None if process_id < 0 else process_id,
            initialization_timeout=_START_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except ValueError as error:
        raise InputError(
            f"no cluster that jax knows says where the processes are ({error}); give "
            "--coordinator=HOST:PORT, --processes=N and --process-id=0 to N-1"
        ) from None
    if processes and jax.process_count() != processes:
        raise InputError(
            f"--processes={processes}, but process 0 at {coordinator} was started with "
            f"--processes={jax.process_count()}; start all with the same number"
        )


def _exit(code: int) -> None:
    """Ends the process without the shutdown barrier, which waits for all others."""
    sys.stdout.flush()
    sys.stderr.flush()
    if is_first() and jax.process_count() > 1:
        # Without it jax aborts the others, who may be about to say what is wrong.
        time.sleep(_GRACE_SECONDS)
    os._exit(code)


def is_first() -> bool:
    """Whether this is the process that writes and prints for all."""
    return jax.process_index() == 0


def wait_for_all() -> None:
    """Returns when every process has called it."""
    multihost_utils.sync_global_devices("fhn_jax")


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Lets the first process do something before the others do it."""
    if not is_first():
        wait_for_all()
    try:
        yield
    finally:
        if is_first():
            wait_for_all()


def stop_agreed(step: int) -> bool:
    """Whether a process got SIGTERM; the answer after a step is the same in all."""
    return multihost_utils.reached_preemption_sync_point(step)


def gather(values: np.ndarray) -> np.ndarray:
    """The values of each process, of one shape in all: [processes, ...], bit for bit.

    Args:
      values: of at least one axis, any type.
    """
    if jax.process_count() == 1:
        return values[None]
    # jax would round float64 to float32.
    as_bytes = np.ascontiguousarray(values).view(np.uint8)
    return np.asarray(multihost_utils.process_allgather(as_bytes)).view(values.dtype)


def make_mesh(data: int, model: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of the first data x model devices.

    Args:
      data: devices that share the rows of a batch.
      model: devices that share the user table.
      devices: to take from; all if None.
    Raises:
      ValueError: fewer devices than that; with several processes, devices left over,
        or a user table spread over several of them.
    """
    devices = jax.devices() if devices is None else devices
    if min(data, model) < 1 or data * model > len(devices):
        raise InputError(
            f"mesh.data={data} x mesh.model={model}: expected at least 1 each, and "
            f"together at most {len(devices)}, the devices that are there"
        )
    processes = jax.process_count()
    if processes > 1:
        own = len(devices) // processes
        if data * model != len(devices):
            raise InputError(
                f"mesh.data={data} x mesh.model={model}: {processes} processes have "
                f"{len(devices)} devices, and the mesh must have them all; use "
                f"--config.mesh.data={max(1, len(devices) // model)}"
            )
        if own % model:
            raise InputError(
                f"mesh.model={model} does not divide the {own} devices of a process; "
                "start one process a host, or use a divisor"
            )
    return jax.make_mesh(
        (data, model),
        (DATA, MODEL),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices[: data * model],
    )


def check_batch_size(batch_size: int, mesh: Mesh | AbstractMesh) -> None:
    """Raises ValueError unless the data axis divides the positives of a batch."""
    parts = mesh.shape[DATA]
    if batch_size % parts:
        larger = -(-batch_size // parts) * parts
        raise InputError(
            f"train.batch_size={batch_size} must be divisible by the {parts} devices of "
            f"mesh.data; use --config.train.batch_size={larger}"
        )


def by_rows(mesh: Mesh) -> NamedSharding:
    """The first axis spread over "data"."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def everywhere(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def place(mesh: Mesh, tree: Any, shardings: Any) -> Any:
    """Puts arrays, equal in every process, on the mesh; each process its own part.

    Args:
      mesh: of the shardings.
      tree: of arrays.
      shardings: one for each, see `of_state`, or one for all; never by rows.
    """
    if isinstance(shardings, NamedSharding):
        shardings = jax.tree.map(lambda _, one=shardings: one, tree)

    def put(array, sharding):
        # jax.device_put would first send all to everybody, to compare them.
        own = NamedSharding(mesh.local_mesh, sharding.spec)
        return _seen_from(mesh, jax.device_put(array, own))

    return jax.tree.map(put, tree, shardings)


def local(tree: Any) -> Any:
    """What `place` put, as arrays of this process alone; nothing is copied."""
    return jax.tree.map(
        lambda array: (
            array
            if array.is_fully_addressable
            else _seen_from(array.sharding.mesh.local_mesh, array)
        ),
        tree,
    )


def copy(array: jax.Array) -> jax.Array:
    """A copy that lies where the array does; nothing is compiled."""
    return jax.make_array_from_single_device_arrays(
        array.shape,
        array.sharding,
        [
            jax.device_put(shard.data, shard.device, may_alias=False)
            for shard in array.addressable_shards
        ],
    )


def _seen_from(mesh: Mesh, array: jax.Array) -> jax.Array:
    """An array whose shards are the same in every process, on another mesh."""
    return jax.make_array_from_single_device_arrays(
        array.shape,
        NamedSharding(mesh, _spec(array)),
        [shard.data for shard in array.addressable_shards],
    )


def _spec(array: jax.Array) -> PartitionSpec:
    """Where an array that lies on a mesh has its axes."""
    sharding: Any = array.sharding
    return sharding.spec


def own_rows(mesh: Mesh | None, length: int) -> np.ndarray:
    """Which of the rows of a batch are on this process's devices, in order."""
    if mesh is None:
        return np.arange(length)
    slices = by_rows(mesh).addressable_devices_indices_map((length,)).values()
    return np.unique(np.concatenate([np.arange(length)[rows] for rows in slices]))


def join_rows(mesh: Mesh, rows: np.ndarray, length: int) -> jax.Array:
    """The array of a whole batch, of which each process gives its `own_rows`."""
    shape = (length, *rows.shape[1:])
    return jax.make_array_from_process_local_data(by_rows(mesh), rows, shape)


def of_state(mesh: Any, state: Any) -> Any:
    """The sharding of each array of a training state, or of its shapes.

    Variables are annotated where they are made: `mesh_axes` names the mesh axis that
    each axis of the array is spread over. Moments and averages are variables with the
    annotation of what they belong to. All other arrays are on every device.

    Args:
      mesh: a `Mesh`, or an `AbstractMesh`.
      state: a pytree of arrays, some of them in `nnx.Variable`s.
    Raises:
      InputError: a mesh axis does not divide the axis that is spread over it.
    """

    def place(leaf):
        axes = leaf.get_metadata().get("mesh_axes", ()) if _is_variable(leaf) else ()
        for array in jax.tree.leaves(leaf) if axes else ():
            for length, axis in zip(array.shape, axes, strict=True):
                if axis is not None and length > 1 and length % mesh.shape[axis]:
                    raise InputError(
                        f"mesh.{axis}={mesh.shape[axis]} does not divide the {length} "
                        "columns of the user table; use a divisor of model.bits"
                    )
        return jax.tree.map(
            lambda array: NamedSharding(mesh, PartitionSpec(*_spread(array, axes))),
            leaf,
        )

    return jax.tree.map(place, state, is_leaf=_is_variable)


def _spread(array: Any, axes: Sequence[str | None]) -> list[str | None]:
    """The mesh axes of an array; one number a row, of row-wise moments, is not spread."""
    pairs = zip(axes, array.shape, strict=bool(axes))
    return [axis if length > 1 else None for axis, length in pairs]


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)
