"""The mesh of devices, and where each array of a training step lies on it.

The rows of a batch are spread over the axis "data"; weights are on every device; the
user table, its gradient and its optimiser's moments are spread over the axis "model".
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

DATA, MODEL = "data", "model"


def make_mesh(
    data: int, model: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """A mesh of the first data x model devices.

    Args:
      data: devices that share the rows of a batch.
      model: devices that share the user table.
      devices: to take from; all if None.
    Raises:
      ValueError: fewer devices than that.
    """
    devices = jax.devices() if devices is None else devices
    if min(data, model) < 1 or data * model > len(devices):
        raise ValueError(
            f"mesh.data={data} x mesh.model={model}: expected at least 1 each, and "
            f"together at most {len(devices)}, the devices that are there"
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
        raise ValueError(
            f"train.batch_size={batch_size} must be divisible by the {parts} devices of "
            f"mesh.data; use --config.train.batch_size={larger}"
        )


def by_rows(mesh: Mesh) -> NamedSharding:
    """The first axis spread over "data"."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def everywhere(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def of_state(mesh: Mesh | AbstractMesh, state: Any) -> Any:
    """The sharding of each array of a training state, or of its shapes.

    The user table is cut along the bits: they are a multiple of 8 whatever the number
    of users, and looking up a user needs no traffic.

    Raises:
      ValueError: the model axis does not divide the bits.
    """
    cut = NamedSharding(mesh, PartitionSpec(None, MODEL))

    def place(path, array):
        if not _is_user_table(path):
            return everywhere(mesh)
        if array.shape[1] % mesh.shape[MODEL]:
            raise ValueError(
                f"mesh.model={mesh.shape[MODEL]} does not divide the {array.shape[1]} "
                "columns of the user table; use a divisor of model.bits"
            )
        return cut

    return jax.tree_util.tree_map_with_path(place, state)


def _is_user_table(path: tuple) -> bool:
    """Whether a path leads to the table, one of its moments, or its average."""
    keys = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
    return ("user", "embedding") in zip(keys, keys[1:], strict=False)
