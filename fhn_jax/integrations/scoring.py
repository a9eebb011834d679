"""Scores of outfits for an evaluation, by tasks of Ray."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from fhn_jax.codes import Codes, Scorer
from fhn_jax.integrations.tasks import Write, made_parts, save_array

_OUTFITS_EACH = 2**18


class ClusterScorer(Scorer):
    """A `Scorer` whose outfits are shared out over the connected Ray cluster.

    Args:
      codes: the artifact.
      folder: for what is made in parts, on storage that all nodes share.
      each: outfits in a part.
    """

    def __init__(self, codes: Codes, folder: Path, *, each: int = _OUTFITS_EACH):
        super().__init__(codes)
        self._folder, self._each = folder.resolve(), each

    def score(
        self, which: str, users: Int[np.ndarray, " n"], items: Int[np.ndarray, "n s"]
    ) -> Float32[np.ndarray, " n"]:
        starts = range(0, max(len(users), 1), self._each)
        cuts = [slice(start, start + self._each) for start in starts]
        digest = hashlib.sha256(np.ascontiguousarray(users).data)
        digest.update(np.ascontiguousarray(items).data)
        about = {"codes_sha256": self._codes.sha256(), "score": which}
        with made_parts(
            *(self._folder, about | {"outfits_sha256": digest.hexdigest()}, ".npy"),
            *(_prepare, dataclasses.replace(self._codes, names=None)),
            [(which, users[cut], items[cut]) for cut in cuts],
            cluster=True,
        ) as paths:
            return np.concatenate([np.load(path) for path in paths])


def _prepare(codes: Codes) -> Write:
    scorer = Scorer(codes)
    return lambda chunk, path: save_array(path, scorer.score(*chunk))
