"""A small model of taste on vectors of items, without codes: a teacher of networks.

What a user thinks of an outfit is linear in its items' vectors, and how well two items go
together is a small network of both. With little data this errs otherwise than a network
of codes does, so that the mean of both is better than either.
"""

import functools
import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int

from fhn_jax.data.batches import Batch, TrainBatches
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.vectors import read_features, read_text_vectors
from fhn_jax.errors import InputError
from fhn_jax.models.matching import category_pairs
from fhn_jax.training.objective import softmax_loss
from fhn_jax.training.settings import Settings
from fhn_jax.training.teacher import Teacher

STEPS = 2000
_RATE = 0.01
# Longer vectors are reduced to so many principal components.
_LONG, _COMPONENTS = 128, 32
# Of the network of pairs: what it sees of an item, its hidden layer, and dropout there.
_SEEN, _HIDDEN, _DROPOUT = 8, 32, 0.5
# Weights of the squares of the parameters against the likes, each like counting 1.
_PRIOR = {"own": 2.0, "shared": 80.0, "project": 40.0, "hidden": 40.0, "out": 40.0}
_PRIOR_OF_SCALES = 20.0
_CHUNK = 64


def read_vectors(
    config: Settings, catalogue: Catalogue
) -> list[Float32[np.ndarray, "n _"]]:
    """The vectors of all items that the settings name, rows by global item id.

    Raises:
      InputError: they name none.
      FileNotFoundError, ValueError: see `read_features`.
    """
    data, found = config.data, []
    if data.features:
        found.append(read_features(data.root, data.features, catalogue))
    if "text" in config.model.modalities:
        found.append(read_text_vectors(data.root, catalogue, data.text))
    if not found:
        raise InputError(
            "a model of taste needs vectors of items: give text, or the config argument "
            "beside=garment, or --tastes=0 to learn from runs alone"
        )
    return found


def standardised(
    vectors: list[Float32[np.ndarray, "n _"]],
    used: tuple[Int[np.ndarray, " _n"], ...],
    offsets: tuple[int, ...],
) -> Float32[np.ndarray, "n f"]:
    """Vectors side by side, each number of mean 0 and deviation 1 over the items used.

    Args:
      vectors: of all items, rows by global item id.
      used: ids of the items of training, per category.
      offsets: global id of each category's item 0.
    """
    each = [ids + start for ids, start in zip(used, offsets[:-1], strict=True)]
    together = np.concatenate(each)
    parts = []
    for values in vectors:
        values = np.asarray(values, np.float32)
        if values.shape[1] > _LONG:
            centre = values[together].mean(axis=0)
            axes = np.linalg.svd(values[together] - centre, full_matrices=False)[2]
            values = (values - centre) @ axes[:_COMPONENTS].T
        parts.append(values)
    found = np.concatenate(parts, axis=1)
    for category, ids in enumerate(each):
        own = slice(offsets[category], offsets[category + 1])
        if not len(ids):
            found[own] = 0
            continue
        # What hardly varies is not blown up.
        spread = found[ids].std(axis=0) + 1e-3
        found[own] = np.clip((found[own] - found[ids].mean(axis=0)) / spread, -4, 4)
    return found


class TasteModel:
    """A user's taste as weights of the items' numbers, and a network of pairs.

    score = mean over items of s · w · x + mean over pairs of p · g(x, x'), where s and p
    are the numbers of slots and pairs, w = own · exp(scales) + shared for each user and
    category, and g sees h = project · x of both items, their products and distances.

    The squares of the parameters weigh as a prior would: of all users together, so that
    few likes go further.

    Args:
      catalogue: the data.
      batches: of the training split; their negatives are used.
      vectors: of all items, see `standardised`.
      seed: of the start and of dropout.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        batches: TrainBatches,
        vectors: Float32[np.ndarray, "n f"],
        seed: int,
    ):
        self.catalogue, self.batches, self.seed = catalogue, batches, seed
        self.vectors = jnp.asarray(vectors)
        self.slots = catalogue.slots
        self.pairs = category_pairs(self.slots)
        # Of two categories, each once, in the order of the categories.
        self.kinds = sorted({self._kind(j, k) for j, k in self.pairs})

    def _kind(self, j: int, k: int) -> tuple[int, int]:
        first, second = sorted((self.slots[j], self.slots[k]))
        return first, second

    def train(self, progress: Callable[[int, int], None], steps: int) -> Teacher:
        """Learns from the likes; what it says of all users and items.

        Args:
          progress: called with the number of steps done, and of all.
          steps: of the optimizer, such as `STEPS`.
        """
        optimizer = optax.adam(optax.cosine_decay_schedule(_RATE, steps))
        params = self._start()
        state = optimizer.init(params)
        key = jax.random.key(self.seed)

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def advance(params, state, key, batch):
            grads = jax.grad(self._loss)(params, key, batch)
            updates, state = optimizer.update(grads, state)
            return optax.apply_updates(params, updates), state

        for step, batch in enumerate(itertools.islice(self._endless(), steps)):
            params, state = advance(params, state, jax.random.fold_in(key, step), batch)
            progress(step + 1, steps)
        return self._tables(params)

    def _endless(self) -> Iterator[Batch]:
        for epoch in itertools.count():
            yield from self.batches.epoch(epoch)

    def _start(self) -> dict[str, Array]:
        categories, features = max(self.slots) + 1, self.vectors.shape[1]
        keys = jax.random.split(jax.random.key(self.seed), 2)
        seen = jax.random.normal(keys[0], (categories, features, _SEEN))
        hidden = jax.random.normal(keys[1], (len(self.kinds), 4 * _SEEN, _HIDDEN))
        return {
            "own": jnp.zeros((self.catalogue.num_users, categories, features)),
            "scales": jnp.full((categories, features), -1.0),
            "shared": jnp.zeros((categories, features)),
            "project": seen * features**-0.5,
            "hidden": hidden * (2 * _SEEN) ** -0.5,
            "bias": jnp.zeros((len(self.kinds), _HIDDEN)),
            "out": jnp.zeros((len(self.kinds), _HIDDEN)),
        }

    def _loss(self, params, key, batch: Batch):
        scores = self._scores(params, key, batch)
        loss = softmax_loss(scores[:, 0], scores[:, 1:])
        loss = (loss * batch.weights).sum() / batch.weights.sum()
        prior = sum(w * (params[name] ** 2).sum() for name, w in _PRIOR.items())
        prior += _PRIOR_OF_SCALES * jnp.exp(params["scales"]).sum()
        return loss + prior / len(self.batches.positives)

    def _scores(self, params, key, batch: Batch):
        there = batch.outfits >= 0
        starts = np.cumsum((0, *self.batches.segments))
        rows = [
            jnp.maximum(batch.outfits[..., s], 0) + int(starts[c])
            for s, c in enumerate(self.slots)
        ]
        x = self.vectors[jnp.maximum(batch.items, 0)]
        taste = self._tastes(params, batch.users)[:, None]
        by_slot = [
            jnp.where(there[..., s], (x[rows[s]] * taste[:, :, c]).sum(-1), 0.0)
            for s, c in enumerate(self.slots)
        ]
        score = sum(by_slot) * (len(self.slots) / jnp.maximum(there.sum(-1), 1))
        if not self.pairs:
            return score
        parts = jnp.split(x, starts[1:-1])
        seen = jnp.concatenate(
            [part @ params["project"][c] for c, part in enumerate(parts)]
        )
        match, count = jnp.zeros_like(score), jnp.zeros(score.shape, int)
        for number, (j, k) in enumerate(self.pairs):
            j, k = (j, k) if self.slots[j] < self.slots[k] else (k, j)
            both = there[..., j] & there[..., k]
            drop = jax.random.fold_in(key, number)
            kind = self.kinds.index(self._kind(j, k))
            found = self._match(params, kind, seen[rows[j]], seen[rows[k]], drop)
            match, count = match + jnp.where(both, found, 0.0), count + both
        return score + match * (len(self.pairs) / jnp.maximum(count, 1))

    def _tastes(self, params, users) -> Float[Array, "b k f"]:
        scales, shared = (params[name][None] for name in ("scales", "shared"))
        return params["own"][users] * jnp.exp(scales) + shared

    def _match(self, params, kind, first, second, key=None):
        sides = (first * second, jnp.abs(first - second), first, second)
        x = jnp.concatenate(jnp.broadcast_arrays(*sides), axis=-1)
        bias = jnp.expand_dims(params["bias"][kind], tuple(range(x.ndim - 1)))
        hidden = jax.nn.relu(x @ params["hidden"][kind] + bias)
        if key is not None:
            kept = jax.random.bernoulli(key, 1 - _DROPOUT, hidden.shape)
            hidden = jnp.where(kept, hidden / (1 - _DROPOUT), 0.0)
        return hidden @ params["out"][kind]

    def _tables(self, params) -> Teacher:
        count, offsets = self.catalogue.num_items, self.catalogue.offsets
        taste = np.zeros((count, self.catalogue.num_users), np.float32)
        match = np.zeros((count, count), np.float32)
        users = self._tastes(params, slice(None))
        own = [slice(*offsets[c : c + 2]) for c in range(max(self.slots) + 1)]
        for category, rows in enumerate(own):
            taste[rows] = self.vectors[rows] @ users[:, category].T * len(self.slots)
        block = jax.jit(self._match, static_argnums=1)
        for kind, (first, second) in enumerate(self.kinds):
            all_of = self.vectors[own[second]] @ params["project"][second]
            for start in range(own[first].start, own[first].stop, _CHUNK):
                rows = slice(start, min(start + _CHUNK, own[first].stop))
                some = self.vectors[rows] @ params["project"][first]
                found = block(params, kind, some[:, None], all_of[None])
                match[rows, own[second]] = found * len(self.pairs)
        return Teacher(taste, match + match.T)
