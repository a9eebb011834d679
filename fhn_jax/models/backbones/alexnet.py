"""AlexNet as a fully convolutional feature extractor."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from fhn_jax.errors import InputError

# (features, kernel, stride, padding, max-pool after it)
_CONVOLUTIONS = (
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)
_FC6_KERNEL = 6
MIN_SIZE = 63
# Path of a layer → its name in torchvision's state dict.
TORCH_NAMES: dict[tuple, str] = {
    **{
        ("convolutions", i): f"features.{layer}"
        for i, layer in enumerate((0, 3, 6, 8, 10))
    },
    ("fc6",): "classifier.1",
    ("fc7",): "classifier.4",
}


def torch_name(path: tuple) -> str:
    """The name of a variable in torchvision's state dict.

    >>> torch_name(("fc6", "kernel"))
    'classifier.1.weight'
    """
    return f"{TORCH_NAMES[path[:-1]]}.{'bias' if path[-1] == 'bias' else 'weight'}"


def patches(x: Float[Array, "n h w f"], kernel: int) -> Float[Array, "n h2 w2 p"]:
    """All kernel x kernel windows of `x` as vectors, in the order (row, column, f).

    The input gradient of a convolution with a window this large takes XLA on CPU about
    100 times as long as the same arithmetic as a matrix product of patches.
    """
    rows, columns = x.shape[1] - kernel + 1, x.shape[2] - kernel + 1
    windows = [
        x[:, i : i + rows, j : j + columns]
        for i in range(kernel)
        for j in range(kernel)
    ]
    return jnp.concatenate(windows, axis=-1)


def pad_to(x: Float[Array, "n h w f"], size: int) -> Float[Array, "n h2 w2 f"]:
    """Maps of at least size x size, smaller ones centred in zeros."""
    missing = [max(0, size - length) for length in x.shape[1:3]]
    pads = [(short // 2, short - short // 2) for short in missing]
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


class AlexNet(nnx.Module):
    """AlexNet with its fully connected layers applied at every position.

    The five convolutions are those of the one-column network; fc6 is a 6x6 and fc7 a
    1x1 convolution, both computed as matrix products, and the mean over positions is
    the feature vector: 291 pixels give 3x3 positions, 224 pixels one. The map of an
    image below 223 pixels is smaller than 6x6 and padded with zeros, so every image of
    at least 63 pixels works.

    Attributes:
      num_features: 4096.
    Source: Krizhevsky 2014, "One weird trick for parallelizing CNNs"; fully
      convolutional as in Lu et al., CVPR 2019.
    """

    num_features = 4096
    min_size = MIN_SIZE

    def __init__(self, *, rngs: nnx.Rngs):
        channels = 3
        self.convolutions = nnx.List([])
        for features, kernel, stride, padding, _ in _CONVOLUTIONS:
            self.convolutions.append(
                nnx.Conv(
                    channels,
                    features,
                    (kernel, kernel),
                    strides=stride,
                    padding=padding,
                    kernel_init=nnx.initializers.he_normal(),
                    rngs=rngs,
                )
            )
            channels = features
        self.fc6 = nnx.Linear(
            channels * _FC6_KERNEL**2,
            self.num_features,
            kernel_init=nnx.initializers.he_normal(),
            rngs=rngs,
        )
        self.fc7 = nnx.Linear(
            self.num_features,
            self.num_features,
            kernel_init=nnx.initializers.he_normal(),
            rngs=rngs,
        )

    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n f"]:
        """Features of normalised images.

        Raises:
          ValueError: the images are smaller than 63 pixels (at trace time).
        """
        if min(images.shape[1:3]) < MIN_SIZE:
            raise InputError(
                f"AlexNet needs images of at least {MIN_SIZE} pixels, got "
                f"{images.shape[1]}x{images.shape[2]}; set data.image_size or take "
                "model.backbone.name='tiny'"
            )
        x = pad_to(self.convolve(images), _FC6_KERNEL)
        x = jax.nn.relu(self.fc6(patches(x, _FC6_KERNEL)))
        x = jax.nn.relu(self.fc7(x))
        return x.mean(axis=(1, 2))

    def convolve(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n h2 w2 256"]:
        """The last pooled map of convolutions."""
        x = images
        for layer, (*_, pool) in zip(self.convolutions, _CONVOLUTIONS, strict=True):
            x = layer(x)
            x = jax.nn.relu(x)
            if pool:
                x = nnx.max_pool(x, (3, 3), strides=(2, 2))
        return x
