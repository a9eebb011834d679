"""What is known of a user's code, and how surely."""

import dataclasses

import numpy as np
from jaxtyping import Float32

from fhn_jax.codes import Codes


@dataclasses.dataclass(frozen=True, eq=False)
class Posterior:
    """A Gaussian over a user's real code.

    Attributes:
      mean: the code that fits best.
      basis: B, the m directions in which outfits differ; of a learner, all users share it.
      root: R of the covariance B R Rᵀ Bᵀ.
    """

    mean: Float32[np.ndarray, " d"]
    basis: Float32[np.ndarray, "d m"]
    root: Float32[np.ndarray, "m m"]

    def draw(
        self, rng: np.random.Generator, scale: float = 1.0
    ) -> Float32[np.ndarray, " d"]:
        """A code that the user may as well have, for Thompson sampling.

        Args:
          scale: of the standard deviation.
        """
        normal = rng.standard_normal(self.root.shape[1]).astype(np.float32)
        return self.mean + np.float32(scale) * (self.basis @ (self.root @ normal))


def prior_of(
    codes: Codes, shrinkage: float
) -> tuple[Float32[np.ndarray, " d"], Float32[np.ndarray, "d d"]]:
    """Mean of the known users, and a root of their covariance, see `BprFit`."""
    known = codes.user_latents.astype(np.float64)
    identity = np.eye(codes.bits)
    if not len(known):
        middle = 0.5 if codes.alphabet == "01" else 0.0
        return np.full(codes.bits, middle, np.float32), identity.astype(np.float32)
    mean = known.mean(axis=0)
    centred = known - mean
    spread = (known**2).mean() or 1.0
    covariance = (1 - shrinkage) * centred.T @ centred / max(len(known) - 1, 1)
    values, vectors = np.linalg.eigh(covariance + shrinkage * spread * identity)
    root = vectors * np.sqrt(values)
    return mean.astype(np.float32), root.astype(np.float32)
