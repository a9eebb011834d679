"""The hash layer: from a latent vector to a relaxed code and a binary code."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fhn_jax.errors import InputError

HASHES = ("ste", "tanh", "binary01", "none")
STE_GRADIENTS = ("clip", "tanh")


@jax.custom_jvp
def sign(z: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Sign of `z` as ±1, sign(0) = +1, with the gradient of clip(z, -1, 1).

    Source: Hinton's straight-through estimator in the clipped form of Courbariaux et
    al. 2016, "Binarized Neural Networks".

    >>> sign(jnp.array([-2.0, 0.0, 0.5])).tolist()
    [-1.0, 1.0, 1.0]
    >>> jax.grad(lambda z: sign(z).sum())(jnp.array([-2.0, 0.0, 0.5])).tolist()
    [0.0, 1.0, 1.0]
    """
    # DIFFERS: sign(0) is 0 in the reference, which no bit can hold.
    return jnp.where(z >= 0, 1.0, -1.0).astype(z.dtype)


@sign.defjvp
def _sign_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    return sign(z), jnp.where(jnp.abs(z) <= 1, dz, 0)


@jax.custom_jvp
def sign_tanh(z: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """As `sign`, with the gradient of tanh: no bit ever stops learning entirely."""
    return sign(z)


@sign_tanh.defjvp
def _sign_tanh_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    return sign(z), dz * (1 - jnp.tanh(z) ** 2)


def tanh_scale(epoch: int | float, gamma: float) -> float:
    """The reference's slope β of tanh(β z) in an epoch: sqrt(1 + γ·epoch).

    >>> tanh_scale(3, 1.0)
    2.0
    """
    return (1.0 + gamma * epoch) ** 0.5


@dataclasses.dataclass(frozen=True)
class Hash:
    """Turns latents z into codes.

    | kind       | relaxed code       | binary code                                   |
    |------------|--------------------|-----------------------------------------------|
    | `ste`      | clip(z, -1, 1)     | sign(z), straight-through gradient            |
    | `tanh`     | tanh(β z)          | sign(z), no gradient (the reference's way)    |
    | `binary01` | (tanh(β z) + 1)/2  | 1 where z >= 0 else 0, no gradient            |
    | `none`     | z                  | sign(z), no gradient                          |

    Attributes:
      kind: one of `HASHES`.
      ste_gradient: backward of `ste`, "clip" or "tanh".
      item_scale: binary codes of items are scaled by the item's mean |tanh z| (one
        number an item and modality), so that an uncertain item weighs less. With
        `ste` the gradient passes through the scale. Not with `binary01`.
    Raises:
      ValueError: unknown kind or gradient, or an impossible combination.
    Source: Lu et al., CVPR 2019, section 3.3 (tanh relaxation); the scale is in the
      spirit of Rastegari et al. 2016, "XNOR-Net".
    """

    kind: str = "ste"
    ste_gradient: str = "clip"
    item_scale: bool = False

    def __post_init__(self):
        if self.kind not in HASHES:
            raise InputError(
                f"model.hash={self.kind!r}: expected one of {', '.join(HASHES)}"
            )
        if self.ste_gradient not in STE_GRADIENTS:
            raise InputError(
                f"model.ste_gradient={self.ste_gradient!r}: expected one of "
                f"{', '.join(STE_GRADIENTS)}"
            )
        if self.item_scale and self.kind == "binary01":
            raise InputError(
                "model.item_scale=True needs ±1 codes; model.hash='binary01' has 0/1 "
                "codes. Use hash='ste' or 'tanh', or item_scale=False."
            )

    @property
    def alphabet(self) -> str:
        """The two values of a bit: "pm1" (±1) or "01"."""
        return "01" if self.kind == "binary01" else "pm1"

    @property
    def trains_binary(self) -> bool:
        """Whether the binary score has a gradient."""
        return self.kind == "ste"

    def relaxed(
        self, z: Float[Array, "*n"], beta: float | Float[Array, ""] = 1.0
    ) -> Float[Array, "*n"]:
        """The real-valued code; `beta` is the slope of tanh."""
        match self.kind:
            case "ste":
                return jnp.clip(z, -1.0, 1.0)
            case "tanh":
                return jnp.tanh(beta * z)
            case "binary01":
                return (jnp.tanh(beta * z) + 1.0) / 2.0
        return z

    def binary(self, z: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The code of bits, as floats of the alphabet."""
        if self.kind == "ste":
            return sign(z) if self.ste_gradient == "clip" else sign_tanh(z)
        bits = jax.lax.stop_gradient(sign(z))
        return (bits + 1.0) / 2.0 if self.kind == "binary01" else bits

    def scale(self, z: Float[Array, "*n d"]) -> Float[Array, "*n"]:
        """The scale of each item's binary code: mean |tanh z| over the bits, in [0, 1]."""
        return jnp.abs(jnp.tanh(z)).mean(axis=-1)

    def item(self, z: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """The binary code of items as the scores use it: scaled if `item_scale`."""
        if not self.item_scale:
            return self.binary(z)
        scale = self.scale(z)
        if not self.trains_binary:
            scale = jax.lax.stop_gradient(scale)
        return scale[..., None] * self.binary(z)
