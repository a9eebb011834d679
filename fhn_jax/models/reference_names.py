"""Weights of the reference under our names, and in our layout.

The reference stores a linear layer as (out, in) and a convolution as (out, in, row,
column); here they are (in, out) and (row, column, in, out). The mapping is linear and
only moves numbers, so gradients go the same way as weights.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from fhn_jax.errors import InputError, MissingKeyError
from fhn_jax.models.backbones.alexnet import TORCH_NAMES

Path = tuple[Any, ...]  # of names and indices
NAMED = 20

_LEAF = {"weight": "kernel", "bias": "bias"}
_NORM_LEAF = {"weight": "scale", "bias": "bias"}
_ALEXNET = {name: path for path, name in TORCH_NAMES.items()}
_MATCHING = {
    0: {"weight": "alpha"},
    1: {"weight": "lambda_user"},
    2: {"weight": "lambda_item"},
    3: {"0.weight": "lambda_user", "1.weight": "lambda_item"},
}
_HIDDEN, _BIAS, _OUT = ("hidden", "kernel"), ("hidden", "bias"), ("out", "kernel")
_HEADS = {
    "encoder_t": ("text", {"0.weight": _HIDDEN, "0.bias": _BIAS, "3.weight": _OUT}),
    "encoder_v": ("visual", {"1.weight": _HIDDEN, "1.bias": _BIAS, "4.weight": _OUT}),
}
_USERS = {
    "encoder.weight": ("user", "embedding"),
    "encoder.0.weight": ("user", "embedding"),
    "encoder.0.bias": ("user", "bias"),
    "encoder.2.weight": ("user", "out", "kernel"),
}


def from_reference(
    weights: Mapping[str, np.ndarray], *, hash_types: int = 3
) -> dict[Path, np.ndarray]:
    """Arrays of the reference by the path of our variable, in our layout.

    What we have no place for is left out: the classifier of a ResNet and the slope of
    tanh, which is no weight here.

    Args:
      weights: by the reference's names, such as "encoder_t.0.encoder.3.weight".
      hash_types: of the network; says what "core.weight" is.
    Raises:
      KeyError: an unknown name.
    """
    blocks = sorted({block for name in weights if (block := _block(name))})
    converted = {}
    for name, value in weights.items():
        if name.endswith(".scale") or re.fullmatch(r"features\.fc\.\w+", name):
            continue
        path = _path(name, hash_types, blocks)
        converted[path] = our_layout(value, path)
    return converted


def load_reference(
    module: nnx.Module, weights: Mapping[str, np.ndarray], *, hash_types: int = 3
) -> None:
    """Sets all variables of a network to weights of the reference.

    Args:
      module: a `FashionHashNet` of the same structure.
      weights: see `from_reference`.
      hash_types: see `from_reference`.
    Raises:
      KeyError: an unknown name.
      ValueError: a variable without a weight, a weight without a variable, or one of
        another shape.
    """
    set_variables(module, from_reference(weights, hash_types=hash_types))


def set_variables(module: nnx.Module, values: Mapping[Path, np.ndarray]) -> None:
    """Sets all variables of a module, by path.

    Raises:
      ValueError: a variable without a value, a value without a variable, or one of
        another shape.
    """
    variables = dict(nnx.to_flat_state(nnx.state(module, nnx.Param)))
    check_shapes(
        {".".join(map(str, path)): x.shape for path, x in variables.items()},
        {".".join(map(str, path)): x.shape for path, x in values.items()},
    )
    for path, variable in variables.items():
        variables[path] = variable.replace(jnp.asarray(values[path], variable.dtype))
    nnx.update(module, nnx.from_flat_state(variables))


def check_shapes(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> None:
    """Makes sure that arrays are those of a network, by name and shape.

    Raises:
      ValueError: names each that is missing, unexpected or of another shape; of a long
        list of one kind the first `NAMED`.
    """
    kinds = (
        [f"{name} missing" for name in sorted(expected.keys() - found.keys())],
        [f"{name} unexpected" for name in sorted(found.keys() - expected.keys())],
        [
            f"{name} has shape {found[name]}, expected {shape}"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ],
    )
    faults = [fault for kind in kinds for fault in kind[:NAMED]]
    if faults:
        more = sum(map(len, kinds)) - len(faults)
        raise InputError(
            f"the weights are of another network: {'; '.join(faults)}"
            + (f"; and {more} more" if more else "")
        )


def _block(name: str) -> tuple[int, int] | None:
    """Stage and place of the residual block that a weight belongs to."""
    match = re.match(r"features\.layer(\d+)\.(\d+)\.", name)
    return (int(match[1]), int(match[2])) if match else None


def _path(name: str, hash_types: int, blocks: list[tuple[int, int]]) -> Path:
    group, _, rest = name.partition(".")
    path = None
    if group == "user_embedding":
        path = _USERS.get(rest)
    elif group == "core" and rest in _MATCHING[hash_types]:
        path = ("matching", _MATCHING[hash_types][rest])
    elif group == "features":
        path = _backbone_path(rest, blocks)
    elif match := re.fullmatch(r"(\d+)\.encoder\.(\d\.\w+)", rest):
        modality, layers = _HEADS.get(group, ("", {}))
        if match[2] in layers:
            path = ("heads", modality, int(match[1]), *layers[match[2]])
    if path is None:
        raise MissingKeyError(
            f"{name!r} is no weight of the reference with hash_types {hash_types}"
        )
    return path


def _backbone_path(rest: str, blocks: list[tuple[int, int]]) -> Path | None:
    match = re.fullmatch(r"(features|classifier)\.(\d+)\.(weight|bias)", rest)
    if match and (layer := _ALEXNET.get(f"{match[1]}.{match[2]}")):
        return ("backbone", *layer, _LEAF[match[3]])
    if rest == "conv1.weight":
        return ("backbone", "stem", "kernel")
    if match := re.fullmatch(r"gn1\.(weight|bias)", rest):
        return ("backbone", "stem_norm", _NORM_LEAF[match[1]])
    match = re.fullmatch(r"layer\d+\.\d+\.(.+)", rest)
    part = _block_path(match[1]) if match else None
    block = _block(f"features.{rest}")
    if part is None or block is None:
        return None
    return ("backbone", "blocks", blocks.index(block), *part)


def _block_path(rest: str) -> Path | None:
    if rest == "downsample.0.weight":
        return ("shortcut", "kernel")
    if match := re.fullmatch(r"downsample\.1\.(weight|bias)", rest):
        return ("shortcut_norm", _NORM_LEAF[match[1]])
    if match := re.fullmatch(r"conv([123])\.weight", rest):
        return ("convolutions", int(match[1]) - 1, "kernel")
    if match := re.fullmatch(r"gn([123])\.(weight|bias)", rest):
        return ("norms", int(match[1]) - 1, _NORM_LEAF[match[2]])
    return None


def our_layout(value: np.ndarray, path: Path) -> np.ndarray:
    """An array of PyTorch in the layout of our variable of this path."""
    match path:
        case (*_, "alpha"):
            return value.reshape(())
        case (*_, "lambda_user" | "lambda_item"):
            return value.reshape(-1)
        case (*_, "fc6" | "fc7", "kernel"):
            # Rows in the order of `patches`: row, column, feature.
            return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
        case (*_, "kernel") if value.ndim == 4:
            return value.transpose(2, 3, 1, 0)
        case (*_, "kernel" | "embedding"):
            return value.T
    return value
