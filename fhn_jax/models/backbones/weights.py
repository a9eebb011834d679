"""Pretrained image networks: where their weights come from, and how they become ours.

State dicts of torchvision and timm are read, from safetensors files. A BatchNorm network
becomes one of `norm="frozen_batch"`: its running statistics are folded into a scale and a
bias for each channel, which is what it computes outside of training. So published ImageNet
weights of a ResNet give here the features that they give in PyTorch. A GroupNorm network,
such as timm's resnet50_gn, keeps its norms ("group").
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open

from fhn_jax.errors import InputError
from fhn_jax.models.backbones.resnet import DEPTHS, ResNet
from fhn_jax.models.reference_names import (
    Path,
    check_shapes,
    our_layout,
    set_variables,
)


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Published weights of an image network.

    Attributes:
      network: name of the backbone.
      norm: of a ResNet, see `ResNet`; "" of others.
      source: address of the file.
      licence: as the publisher states it, of code and weights; what ImageNet's own
        terms say of networks trained on it is for the user to judge.
      sha256: of that file, its first digits where the publisher gives no more; None
        where none are published.
      image_size: pixels of a side in their training.
      mean, std: of pixels in [0, 1], which they expect to be normalised by.
    """

    network: str
    norm: str
    source: str
    licence: str
    sha256: str | None
    image_size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


def _torchvision(network: str, norm: str, file: str) -> Pretrained:
    # The name of a file ends in the first digits of its checksum.
    return Pretrained(
        network,
        norm,
        f"https://download.pytorch.org/models/{file}.pth",
        "BSD-3-Clause",
        file.rpartition("-")[2],
    )


# tv: torchvision's first version of ImageNet weights; the other names are timm's.
PRETRAINED = {
    "alexnet.tv_in1k": _torchvision("alexnet", "", "alexnet-owt-7be5be79"),
    **{
        f"{network}.tv_in1k": _torchvision(network, "frozen_batch", file)
        for network, file in (
            ("resnet18", "resnet18-f37072fd"),
            ("resnet34", "resnet34-b627a593"),
            ("resnet50", "resnet50-0676ba61"),
            ("resnet101", "resnet101-63fe2227"),
            ("resnet152", "resnet152-394f9c45"),
        )
    },
    "resnet50_gn.a1h_in1k": Pretrained(
        "resnet50",
        "group",
        "https://huggingface.co/timm/resnet50_gn.a1h_in1k/resolve/main/model.safetensors",
        "Apache-2.0",
        None,
    ),
}
# ε of BatchNorm in torchvision and timm.
EPSILON = 1e-5
_CONVERT = "python -m data_tools.convert_weights"
_ALEXNET = {
    **{
        ("convolutions", i): f"features.{layer}"
        for i, layer in enumerate((0, 3, 6, 8, 10))
    },
    ("fc6",): "classifier.1",
    ("fc7",): "classifier.4",
}
_CLASSIFIERS = ("fc.", "classifier.6.")
_STATISTICS = ("running_mean", "running_var")


def remedy(name: str, path: str) -> str:
    """Where to get registered weights and how to put them at `path`."""
    source = PRETRAINED[name].source
    file = source.rpartition("/")[2]
    put = f"save it as {path}"
    if not source.endswith(".safetensors"):
        put = f"convert it: {_CONVERT} {file} {path}"
    return f"get {source} ({PRETRAINED[name].licence}), and {put}"


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
    if network != "alexnet" and network not in DEPTHS:
        raise InputError(
            f"model.backbone.weights: {network!r} takes no pretrained weights; expected "
            f"model.backbone.name to be alexnet, {', '.join(DEPTHS)}"
        )
    variables = dict(nnx.to_flat_state(nnx.state(backbone, nnx.Param)))
    names = {path: _name(network, path) for path in variables}
    expected = {
        names[path]: _torch_shape(variable.shape)
        for path, variable in variables.items()
    }
    folds = isinstance(backbone, ResNet) and backbone.norm == "frozen_batch"
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
        raise InputError(f"{error}{_norm_remedy(network, folds, tensors)}") from None
    tensors = {name: np.asarray(x, np.float32) for name, x in tensors.items()}
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise InputError(f"{name} has a NaN or an infinity; get the file again")
    if folds:
        for norm in norms:
            tensors |= folded(norm, tensors)
    set_variables(
        backbone,
        {path: _layout(tensors[name], path) for path, name in names.items()},
    )


def folded(norm: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weight and bias of a BatchNorm of this name with its statistics in them.

    Raises:
      ValueError: a variance is negative.
    """
    mean, variance = (tensors[f"{norm}.{statistic}"] for statistic in _STATISTICS)
    if (variance < 0).any():
        raise InputError(f"{norm}.running_var is negative; get the file again")
    scale = tensors[f"{norm}.weight"] / np.sqrt(variance + np.float32(EPSILON))
    bias = tensors[f"{norm}.bias"] - mean * scale
    return {f"{norm}.weight": scale, f"{norm}.bias": bias}


def _norm_remedy(network: str, folds: bool, tensors: Mapping[str, Any]) -> str:
    """What to do where the norms are of the other kind."""
    has_statistics = any(name.endswith(_STATISTICS) for name in tensors)
    if network not in DEPTHS or folds == has_statistics:
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


def _name(network: str, path: Path) -> str:
    """The name of a variable in state dicts of torchvision and timm."""
    leaf = "bias" if path[-1] == "bias" else "weight"
    if network == "alexnet":
        return f"{_ALEXNET[path[:-1]]}.{leaf}"
    match path[:-1]:
        case ("stem",):
            return f"conv1.{leaf}"
        case ("stem_norm",):
            return f"bn1.{leaf}"
        case ("blocks", block, "shortcut"):
            part = "downsample.0"
        case ("blocks", block, "shortcut_norm"):
            part = "downsample.1"
        case ("blocks", block, "convolutions", i):
            part = f"conv{i + 1}"
        case ("blocks", block, "norms", i):
            part = f"bn{i + 1}"
    stage = 0
    while block >= DEPTHS[network][0][stage]:
        block -= DEPTHS[network][0][stage]
        stage += 1
    return f"layer{stage + 1}.{block}.{part}.{leaf}"
