"""Residual networks, from ImageNet size down to tiny."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from fhn_jax.errors import InputError

# name: (blocks of each stage, bottleneck)
DEPTHS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
# name: groups of the normalisation, 0 for `FrozenBatchNorm`
NORMS = {"group": 32, "frozen_batch": 0}


def he_fan_out(key, shape, dtype=jnp.float32):
    # Drawn flat, which are the same numbers: with four axes, XLA on CPU takes a second
    # to compile the draw of each new shape.
    rows, columns, _, outputs = shape
    draws = jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)
    return draws * jnp.sqrt(jnp.array(2.0 / (rows * columns * outputs), dtype))


def _conv(inputs, outputs, kernel, stride, rngs):
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2,
        use_bias=False,
        kernel_init=he_fan_out,
        rngs=rngs,
    )


class FrozenBatchNorm(nnx.Module):
    """A BatchNorm of fixed statistics, which is a scale and a bias for each channel.

    The statistics are folded into the two: scale = γ / sqrt(σ² + ε), bias = β − μ·scale.
    They are trained like those of any norm where the backbone is.
    """

    def __init__(self, features: int, *, zero: bool):
        fill = jnp.zeros if zero else jnp.ones
        self.scale = nnx.Param(fill(features))
        self.bias = nnx.Param(jnp.zeros(features))

    def __call__(self, x: Float[Array, "n h w f"]) -> Float[Array, "n h w f"]:
        return x * self.scale.reshape(1, 1, 1, -1) + self.bias.reshape(1, 1, 1, -1)


def _norm(features, rngs, groups=32, zero=False):
    if not groups:
        return FrozenBatchNorm(features, zero=zero)
    scale = nnx.initializers.zeros if zero else nnx.initializers.ones
    return nnx.GroupNorm(
        features,
        num_groups=groups,
        epsilon=1e-5,
        use_fast_variance=False,
        scale_init=scale,
        rngs=rngs,
    )


class Block(nnx.Module):
    """A residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1 (`bottleneck`).

    The last norm starts at 0, so a new block is the identity (Goyal et al. 2017).
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        stride: int = 1,
        bottleneck: bool = False,
        groups: int = 32,
        rngs: nnx.Rngs,
    ):
        outputs = width * 4 if bottleneck else width
        # kernel sizes and strides; the stride is on the first 3x3.
        layout = ((1, 1), (3, stride), (1, 1)) if bottleneck else ((3, stride), (3, 1))
        self.convolutions = nnx.List([])
        self.norms = nnx.List([])
        channels = inputs
        for i, (kernel, step) in enumerate(layout):
            last = i == len(layout) - 1
            features = outputs if last else width
            self.convolutions.append(_conv(channels, features, kernel, step, rngs))
            self.norms.append(_norm(features, rngs, groups, zero=last))
            channels = features
        projects = stride != 1 or inputs != outputs
        self.shortcut = _conv(inputs, outputs, 1, stride, rngs) if projects else None
        self.shortcut_norm = _norm(outputs, rngs, groups) if projects else None

    def __call__(self, x: Float[Array, "n h w f"]) -> Float[Array, "n h2 w2 f2"]:
        residual = x
        if self.shortcut is not None and self.shortcut_norm is not None:
            residual = self.shortcut_norm(self.shortcut(x))
        pairs = list(zip(self.convolutions, self.norms, strict=True))
        for layer, norm in pairs[:-1]:
            x = jax.nn.relu(norm(layer(x)))
        layer, norm = pairs[-1]
        return jax.nn.relu(norm(layer(x)) + residual)


class ResNet(nnx.Module):
    """ResNet-18/34/50/101/152 with GroupNorm(32) and global average pooling.

    Attributes:
      num_features: 512, or 2048 with bottleneck blocks.
    Args:
      name: a key of `DEPTHS`.
      norm: "group", or "frozen_batch" for pretrained weights of BatchNorm networks.
    Raises:
      ValueError: unknown norm.
    Source: He et al., CVPR 2016; Wu and He, ECCV 2018 (GroupNorm).
    """

    min_size = 32
    epsilon = 1e-5  # of BatchNorm, where published weights were trained

    def __init__(self, name: str, *, norm: str = "group", rngs: nnx.Rngs):
        if norm not in NORMS:
            raise InputError(
                f"model.backbone.norm={norm!r}: expected one of {', '.join(NORMS)}"
            )
        depths, bottleneck = DEPTHS[name]
        self.norm = norm
        self.stem = _conv(3, 64, 7, 2, rngs)
        self.stem_norm = _norm(64, rngs, NORMS[norm])
        self.blocks = nnx.List([])
        channels = 64
        for stage, depth in enumerate(depths):
            width = 64 * 2**stage
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                self.blocks.append(
                    Block(
                        channels,
                        width,
                        stride=stride,
                        bottleneck=bottleneck,
                        groups=NORMS[norm],
                        rngs=rngs,
                    )
                )
                channels = width * 4 if bottleneck else width
        self.num_features = channels

    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n f"]:
        """Features of normalised images of any size from 32 pixels."""
        x = self.stem_map(images)
        for block in self.blocks:
            x = block(x)
        return x.mean(axis=(1, 2))

    def stem_map(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n h2 w2 64"]:
        """The map after the first pooling."""
        x = jax.nn.relu(self.stem_norm(self.stem(images)))
        edges: Any = ((1, 1), (1, 1))  # flax says that it is a string
        return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=edges)


def torch_name(network: str, path: tuple) -> str:
    """The name of a variable of a ResNet in state dicts of torchvision and timm.

    >>> torch_name("resnet18", ("blocks", 2, "convolutions", 0, "kernel"))
    'layer2.0.conv1.weight'
    """
    leaf = "bias" if path[-1] == "bias" else "weight"
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
        case _:
            raise ValueError(f"{path} is not a variable of {network}")
    stage = 0
    while block >= DEPTHS[network][0][stage]:
        block -= DEPTHS[network][0][stage]
        stage += 1
    return f"layer{stage + 1}.{block}.{part}.{leaf}"


def perceptual(images: Float[Array, "n h w 3"]) -> Float[Array, "n h w 4"]:
    """Lightness, green-red, blue-yellow and chroma of sRGB pixels in [0, 1].

    CIELAB (white D65) divided by 100, and its chroma: differences look about as large
    as they are.

    Source: CIE 15:2004; sRGB of IEC 61966-2-1.
    """
    images = jnp.clip(images, 0.0, 1.0)
    linear = jnp.where(
        images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055) ** 2.4
    )
    white = _SRGB_TO_XYZ.sum(axis=1).reshape(1, 1, 1, 3)
    xyz = linear @ _SRGB_TO_XYZ.T / white
    f = jnp.where(xyz > 0.008856, jnp.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lightness = 1.16 * f[..., 1] - 0.16
    a, b = 5 * (f[..., 0] - f[..., 1]), 2 * (f[..., 1] - f[..., 2])
    chroma = jnp.sqrt(a**2 + b**2 + 1e-6)
    return jnp.stack([lightness, a, b, chroma], axis=-1)


_SRGB_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]],
    np.float32,
)


# Of a pixel without garment, so that a mask of nothing still has a mean.
_LEAST_MASK = 1e-3


def _pooled(
    x: Float[Array, "n h w f"], mask: Float[Array, "n _h _w 1"] | None
) -> Float[Array, "n f"]:
    """The mean over an image, or over its mask."""
    if mask is None:
        return x.mean(axis=(1, 2))
    weights = jax.image.resize(mask, (*x.shape[:3], 1), "bilinear") + _LEAST_MASK
    return (x * weights).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))


class Tiny(nnx.Module):
    """A small network for small images, few items and CPUs: colours, shape, pattern.

    Two attention maps, which start as narrow and wide windows on the centre and learn
    from the convolutions what to leave out, give the mean and the spread of perceptual
    colour. Three residual stages see shape and pattern. What leaves is a short vector:
    with a thousand items, a wide one is learned by heart.

    With the mask of the garment as a fourth channel, nothing else is seen or pooled: the
    maps start as the mask instead of windows, and what is no garment is grey.

    Takes pixels in [0, 1] (data.mean = 0, data.std = 1).

    Attributes:
      num_features: length of the feature vector.
    Args:
      width: channels of the first stage, a multiple of 4; then 2·width and 4·width.
      shapes: features for shape and pattern, beside 16 for colour.
      masked: whether images come with masks.
    """

    min_size = 16
    colour_grid = 16
    windows = (0.1, 0.25)  # standard deviations, in sides of the image

    def __init__(
        self,
        *,
        width: int = 16,
        shapes: int = 16,
        masked: bool = False,
        rngs: nnx.Rngs,
    ):
        self.masked = masked
        self.stem = _conv(4 if masked else 3, width, 3, 2, rngs)
        self.stem_norm = _norm(width, rngs, groups=width // 4)
        self.blocks = nnx.List([])
        channels = width
        for stage, stride in enumerate((2, 2, 1)):
            features = width * 2**stage
            self.blocks.append(
                Block(
                    channels, features, stride=stride, groups=features // 4, rngs=rngs
                )
            )
            channels = features
        maps = len(self.windows)
        zeros = nnx.initializers.zeros
        self.attention = nnx.Linear(channels, maps, kernel_init=zeros, rngs=rngs)
        self.shape_norm = nnx.LayerNorm(channels, rngs=rngs)
        self.shape_out = nnx.Linear(channels, shapes, rngs=rngs)
        self.num_features = 2 * 4 * maps + shapes

    def __call__(self, images: Float[Array, "n h w c"]) -> Float[Array, "n f"]:
        """Features of images of any size from 16 pixels, values in [0, 1]."""
        x = 2 * images[..., :3] - 1
        mask = None
        if self.masked:
            mask = images[..., 3:]
            x = jnp.concatenate([x * mask, mask], axis=-1)
        x = jax.nn.relu(self.stem_norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        shape = self.shape_out(self.shape_norm(_pooled(x, mask)))
        # A grid of about 16x16 pixels is a large enough sample of an image's colours.
        stride = max(1, min(images.shape[1:3]) // self.colour_grid)
        colours = perceptual(images[:, ::stride, ::stride, :3])
        n, rows, columns, _ = colours.shape
        logits = jax.image.resize(
            self.attention(x), (n, rows, columns, len(self.windows)), "bilinear"
        )
        if mask is None:
            logits += self._centred(rows, columns)[None]
        else:
            logits += jnp.log(mask[:, ::stride, ::stride] + _LEAST_MASK)
        weights = jax.nn.softmax(logits.reshape(n, rows * columns, -1), axis=1)
        # In float32 whatever the arithmetic: E[x²] − E[x]² of nearly equal colours
        # keeps no digit of bfloat16.
        dtype = colours.dtype
        colours = colours.reshape(n, rows * columns, -1).astype(jnp.float32)
        weights = weights.astype(jnp.float32)
        mean = jnp.einsum("npf,npa->naf", colours, weights)
        square = jnp.einsum("npf,npa->naf", colours**2, weights)
        spread = jnp.sqrt(jax.nn.relu(square - mean**2) + 1e-4)
        colour = jnp.concatenate([mean, spread], axis=-1).reshape(n, -1).astype(dtype)
        return jnp.concatenate([self.colour_scale * colour, shape], axis=-1)

    colour_scale = 4.0  # colours vary by about a quarter

    def _centred(self, rows: int, columns: int) -> Float[np.ndarray, "h w a"]:
        """Log-weights of the windows at the start."""
        y = (np.arange(rows) + 0.5) / rows - 0.5
        x = (np.arange(columns) + 0.5) / columns - 0.5
        radius = y[:, None, None] ** 2 + x[None, :, None] ** 2
        return (-radius / (2 * np.array(self.windows) ** 2)).astype(np.float32)
