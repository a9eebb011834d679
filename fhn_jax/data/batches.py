"""Batches of outfits as indices: who, which outfits, and which items to encode."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32

from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.negatives import NegativeSampler
from fhn_jax.errors import InputError


class Batch(NamedTuple):
    """A training batch. Every distinct item is listed, and encoded, once.

    Attributes:
      users: user of each positive.
      outfits: candidates of each positive, itself first, then its negatives; entries
        are rows of the slot's category segment in `items`, -1 where there is no item.
      weights: 1 for real rows, 0 for padding.
      items: global item ids, one segment a category, padded with -1.
      paired: items whose image and text are compared (VSE); not padding, and for
        outfits with two tops not the items that are only first tops.
    """

    users: Int32[np.ndarray, " b"]
    outfits: Int32[np.ndarray, "b c s"]
    weights: Float32[np.ndarray, " b"]
    items: Int32[np.ndarray, " n"]
    paired: Bool[np.ndarray, " n"]


class TrainBatches:
    """The batches of each epoch, a function of (seed, epoch) alone.

    Args:
      catalogue: the data.
      sampler: of negatives.
      batch_size: positives in a batch; the last batch of an epoch is padded.
      seed: of the order.
      multiple: segments are padded to a multiple of it, to be shared by devices.
    Attributes:
      segments: rows of each category in `Batch.items`, the same for every batch: as
        many as a batch holds, or all items in use if they are fewer. Where not every
        outfit has the category, more than the many that nearly all batches hold come
        in no batch: an order of an epoch with such a batch is drawn again.
      steps: batches an epoch.
    Raises:
      ValueError: more rows in a batch than positives.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        sampler: NegativeSampler,
        batch_size: int,
        seed: int,
        multiple: int = 1,
    ):
        self.positives = catalogue.splits["train"].positives
        if not 1 <= batch_size <= len(self.positives):
            raise InputError(
                f"train.batch_size={batch_size}: expected 1 to {len(self.positives)}, "
                f"the training outfits of tuples_{catalogue.variant}; use "
                f"--config.train.batch_size={len(self.positives)} or less"
            )
        self.sampler, self.batch_size, self.seed = sampler, batch_size, seed
        self.slots = catalogue.slots
        self.offsets = catalogue.offsets
        largest, self._scarce = [], []
        for category, ids in enumerate(sampler.used_items):
            mine = [s for s, c in enumerate(self.slots) if c == category]
            having = (self.positives.items[:, mine] >= 0).any(axis=1)
            most = _most(batch_size, int(having.sum()), len(self.positives))
            if most < batch_size:
                self._scarce.append((having, most))
            largest.append(min(most * (1 + sampler.ratio) * len(mine), len(ids)))
        self.segments = tuple(-(-size // multiple) * multiple for size in largest)
        self.steps = math.ceil(len(self.positives) / batch_size)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Batches of an epoch; the first `skip` are left out (to resume within it)."""
        rows, weights = self.order(epoch)
        negatives = self.sampler.draw(epoch)
        for step in range(skip, self.steps):
            yield self._batch(rows[step], weights[step], negatives)

    def order(
        self, epoch: int
    ) -> tuple[Int32[np.ndarray, "steps b"], Float32[np.ndarray, "steps b"]]:
        """Which positives are in each batch of an epoch, and 1, or 0 for padding."""
        rng = np.random.default_rng((self.seed, 1, epoch))
        count, shape = len(self.positives), (self.steps, self.batch_size)
        real = np.arange(self.steps * self.batch_size).reshape(shape) < count
        while True:
            rows = np.zeros(shape, np.int32)
            rows[real] = rng.permutation(count)
            if all(
                ((having[rows] & real).sum(axis=1) <= most).all()
                for having, most in self._scarce
            ):
                break
        # Rows of the last batch again, so that padding adds no item.
        rows[-1] = np.resize(rows[-1, real[-1]], self.batch_size)
        return rows, real.astype(np.float32)

    def _batch(self, rows, weights, negatives) -> Batch:
        outfits = np.concatenate(
            [self.positives.items[rows, None], negatives[rows]], axis=1
        )
        local = np.empty_like(outfits)
        segments, paired = [], []
        for category, size in enumerate(self.segments):
            mine = [s for s, c in enumerate(self.slots) if c == category]
            ids, where = np.unique(outfits[..., mine], return_inverse=True)
            absent = int(ids[0] < 0)  # -1 is no item; it sorts before all of them.
            ids, where = ids[absent:], where - absent
            local[..., mine] = where.reshape(outfits[..., mine].shape)
            segment = np.full(size, -1, np.int32)
            segment[: len(ids)] = ids + self.offsets[category]
            in_last = np.ones(len(ids), bool)
            if len(mine) > 1:  # Else all are, and need no search in each batch.
                in_last = np.isin(ids, outfits[..., mine[-1]])
            segments.append(segment)
            paired.append(np.pad(in_last, (0, size - len(ids))))
        return Batch(
            users=self.positives.users[rows],
            outfits=local.astype(np.int32),
            weights=weights,
            items=np.concatenate(segments),
            paired=np.concatenate(paired),
        )


def _most(drawn: int, having: int, among: int) -> int:
    """How many of `drawn` outfits have what `having` of all have; at most once in 10¹²
    are there more.

    Source: Bernstein's inequality, which holds for draws without replacement too.
    """
    mean, share = drawn * having / among, math.log(1e12) / 3
    beyond = share + math.sqrt(share**2 + 6 * share * mean * (1 - having / among))
    return min(drawn, having, math.ceil(mean + beyond))
