"""Image augmentation and normalisation on the device, inside the jitted step."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from fhn_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of training images that keep their colours.

    Attributes:
      flip: mirror left to right with probability one half.
      shift: move by up to this share of a side, edges repeated.
      zoom: scale by a factor drawn from [1 − zoom, 1 + zoom].
    Raises:
      ValueError: shift or zoom out of range.
    """

    flip: bool = True
    shift: float = 0.0
    zoom: float = 0.0

    def __post_init__(self):
        for name in ("shift", "zoom"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"data.augment.{name}={getattr(self, name)}: expected 0 to 1"
                )

    def __call__(self, key: Array, images: UInt8[Array, "n h w c"]) -> Array:
        """Augmented images [n, h, w, c], uint8 or float in [0, 255]."""
        flip_key, shift_key, zoom_key = jax.random.split(key, 3)
        if self.flip:
            flip = jax.random.bernoulli(flip_key, 0.5, (images.shape[0], 1, 1, 1))
            images = jnp.where(flip, images[:, :, ::-1], images)
        if not (self.shift or self.zoom):
            return images
        n, height, width, _ = images.shape
        shift = jax.random.uniform(shift_key, (n, 2), minval=-1, maxval=1) * self.shift
        zoom = jax.random.uniform(zoom_key, (n, 2), minval=-1, maxval=1) * self.zoom
        rows = _resample(height, shift[:, 0], 1 + zoom[:, 0])
        columns = _resample(width, shift[:, 1], 1 + zoom[:, 1])
        images = images.astype(jnp.float32)
        images = jnp.einsum("nih,nhwf->niwf", rows, images)
        return jnp.einsum("njw,niwf->nijf", columns, images)


def _resample(size, shift, scale) -> Float[Array, "n size size"]:
    """Matrices that resample one axis linearly, about its centre, edges repeated."""
    centre = (size - 1) / 2
    target = (jnp.arange(size) - centre)[None, :] / scale[:, None] + centre
    target = jnp.clip(target + shift[:, None] * size, 0, size - 1)
    distance = jnp.abs(target[:, :, None] - jnp.arange(size)[None, None, :])
    return jnp.maximum(0.0, 1.0 - distance)


def normalise(
    images: Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "n h w c"]:
    """Pixels in [0, 255] to floats of zero mean and unit variance, by channel.

    Args:
      images: [n, h, w, 3], uint8 or float; a fourth channel, the garment's mask, becomes
        shares in [0, 1].
      mean, std: of pixels in [0, 1].
    """
    x = images.astype(jnp.float32) / 255.0
    masks = images.shape[-1] - 3
    mean, std = (*mean, *(0.0,) * masks), (*std, *(1.0,) * masks)
    centre, spread = (jnp.asarray(v).reshape(1, 1, 1, -1) for v in (mean, std))
    return (x - centre) / spread
