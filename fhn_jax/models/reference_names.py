"""Weights of the reference under our names, and in our layout.

The reference stores a linear layer as (out, in) and a convolution as (out, in, row,
column); here they are (in, out) and (row, column, in, out). The mapping is linear and
only moves numbers, so gradients go the same way as weights.
"""

import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx

Path = tuple[str | int, ...]

_HEADS = {"t": "text", "v": "visual"}
_CONVOLUTIONS = {0: 0, 3: 1, 6: 2, 8: 3, 10: 4}  # AlexNet: features.N → convolutions.i
_FULLY_CONNECTED = {"1": "fc6", "4": "fc7"}  # AlexNet: classifier.N
_MATCHING = {
    0: {"weight": "alpha"},
    1: {"weight": "lambda_user"},
    2: {"weight": "lambda_item"},
    3: {"0.weight": "lambda_user", "1.weight": "lambda_item"},
}
_USERS = {
    "encoder.weight": ("embedding",),
    "encoder.0.weight": ("embedding",),
    "encoder.0.bias": ("bias",),
    "encoder.2.weight": ("out", "kernel"),
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
        if name.endswith("scale") or re.fullmatch(r"features\.fc\.\w+", name):
            continue
        path = _path(name, hash_types, blocks)
        converted[path] = _layout(value, path)
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
    if variables.keys() != values.keys():
        raise ValueError(
            f"the weights are of another network: {_dotted(variables.keys() - values)} "
            f"missing, {_dotted(values.keys() - variables.keys())} unexpected"
        )
    for path, variable in variables.items():
        if variable.shape != values[path].shape:
            raise ValueError(
                f"{'.'.join(map(str, path))}: the weights have shape "
                f"{values[path].shape}, expected {variable.shape}"
            )
        variables[path] = variable.replace(jnp.asarray(values[path], variable.dtype))
    nnx.update(module, nnx.from_flat_state(variables))


def _dotted(paths) -> str:
    names = sorted(".".join(map(str, path)) for path in paths)
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "") or "none"


def _block(name: str) -> tuple[int, int] | None:
    """Stage and place of the residual block that a weight belongs to."""
    match = re.match(r"features\.layer(\d+)\.(\d+)\.", name)
    return (int(match[1]), int(match[2])) if match else None


def _path(name: str, hash_types: int, blocks: list[tuple[int, int]]) -> Path:
    group, _, rest = name.partition(".")
    if group == "user_embedding" and rest in _USERS:
        return ("user", *_USERS[rest])
    if group == "core" and rest in _MATCHING[hash_types]:
        return ("matching", _MATCHING[hash_types][rest])
    if match := re.fullmatch(
        r"encoder_([tv])\.(\d+)\.encoder\.(\d)\.(weight|bias)", name
    ):
        modality = _HEADS[match[1]]
        first = {"text": "0", "visual": "1"}[modality]
        layer = "hidden" if match[3] == first else "out"
        return ("heads", modality, int(match[2]), layer, _leaf(match[4]))
    if group == "features":
        return ("backbone", *_backbone_path(name, rest, blocks))
    raise KeyError(f"{name!r} is no weight of the reference (hash_types {hash_types})")


def _backbone_path(name: str, rest: str, blocks: list[tuple[int, int]]) -> Path:
    if match := re.fullmatch(r"features\.(\d+)\.(\w+)", rest):
        return ("convolutions", _CONVOLUTIONS[int(match[1])], _leaf(match[2]))
    if match := re.fullmatch(r"classifier\.(\d)\.(\w+)", rest):
        return (_FULLY_CONNECTED[match[1]], _leaf(match[2]))
    if rest == "conv1.weight":
        return ("stem", "kernel")
    if match := re.fullmatch(r"gn1\.(\w+)", rest):
        return ("stem_norm", _norm_leaf(match[1]))
    if block := _block(name):
        parts = rest.split(".")[2:]
        return ("blocks", blocks.index(block), *_block_path(parts))
    raise KeyError(f"{name!r} is no weight of a backbone of the reference")


def _block_path(parts: list[str]) -> Path:
    match parts:
        case ["downsample", "0", _]:
            return ("shortcut", "kernel")
        case ["downsample", "1", leaf]:
            return ("shortcut_norm", _norm_leaf(leaf))
        case [layer, leaf] if layer.startswith("gn"):
            return ("norms", int(layer[2:]) - 1, _norm_leaf(leaf))
        case [layer, _] if layer.startswith("conv"):
            return ("convolutions", int(layer[4:]) - 1, "kernel")
    raise KeyError(f"{'.'.join(parts)!r} is no part of a residual block")


def _leaf(name: str) -> str:
    return {"weight": "kernel", "bias": "bias"}[name]


def _norm_leaf(name: str) -> str:
    return {"weight": "scale", "bias": "bias"}[name]


def _layout(value: np.ndarray, path: Path) -> np.ndarray:
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
