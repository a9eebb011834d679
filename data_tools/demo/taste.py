"""Simulated users of the demo set: what each one likes, what goes together.

A user's utility of an outfit is taste + compatibility. Taste is a sum over the items of
a noisy function of their visible attributes; few style archetypes, mixed per user, and
personal colours. Compatibility is the same for everybody: garments of the same season
and occasion, colours that do not clash, not two loud patterns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from fhn_jax.data_tools.demo.wardrobe import (
    ATTRIBUTES,
    CATEGORIES,
    HUES,
    Item,
    attributes,
)
from jaxtyping import Float, Int

from fhn_jax.errors import InputError

ARCHETYPES: dict[str, dict[str, float]] = {
    "minimalist": {"vivid": -1.2, "loud": -1.2, "formal": 0.4},
    "sporty": {"formal": -1.2, "blue": 0.7, "red": 0.5, "block": 0.8, "vivid": 0.4},
    "romantic": {"pink": 1.2, "purple": 0.9, "light": 0.7, "motif": 1.0, "skirt": 0.9},
    "earthy": {"yellow": 1.0, "green": 0.8, "light": -0.4, "grid": 0.9, "warm": 0.7},
    "maritime": {"blue": 1.4, "lines": 1.3, "light": 0.2, "motif": -0.6},
    "bold": {"vivid": 1.2, "loud": 1.0, "red": 0.6, "pink": 0.4},
    "office": {"formal": 1.4, "light": -0.4, "blue": 0.4, "lines": 0.4, "motif": -0.5},
    "dark": {"light": -1.5, "vivid": -0.5, "warm": 0.4},
    "summery": {"warm": -1.3, "yellow": 0.7, "light": 0.8, "green": 0.4},
}

TASTE_NOISE = 0.07  # standard deviation of a user's view of one item (taste: 1)
COMPATIBILITY = 0.75  # standard deviation over random outfits (taste: 1)
CHOICE_NOISE = 0.05  # standard deviation of the noise in choosing


@dataclass(frozen=True)
class World:
    """Utilities of all outfits for all users.

    Attributes:
      taste: per category float64 [u, n]: part of the utility from that item.
      fit: (category, category) -> float64 [n, n']: part from two items together.
    """

    taste: tuple[Float[np.ndarray, "u _"], ...]
    fit: Mapping[tuple[int, int], Float[np.ndarray, "_ _"]]

    @property
    def num_users(self) -> int:
        return len(self.taste[0])

    def utility(
        self, users: Int[np.ndarray, "*any"], items: Int[np.ndarray, "*any s"]
    ) -> Float[np.ndarray, "*any"]:
        """What users think of outfits; higher is better.

        Args:
          users: any shape.
          items: the same shape and an axis of items, in the order of `CATEGORIES`.
        """
        total = sum(
            taste[users, items[..., slot]] for slot, taste in enumerate(self.taste)
        )
        for (i, j), fit in self.fit.items():
            total = total + fit[items[..., i], items[..., j]]
        return total


def make_world(items: Mapping[str, Sequence[Item]], users: int, seed: int) -> World:
    """Draws users and computes their utilities.

    Args:
      items: category -> items, for all of `CATEGORIES`.
      users: how many.
      seed: the same seed gives the same users.
    """
    rng = np.random.default_rng([seed, 3])
    seen = [attributes(items[category]) for category in CATEGORIES]
    weights = _user_weights(users, rng)  # [u, c, k]
    kinds = [sorted({item.kind for item in items[c]}) for c in CATEGORIES]
    parts = []
    for slot, category in enumerate(CATEGORIES):
        liking = weights[:, slot] @ seen[slot].T
        kind = np.array([kinds[slot].index(item.kind) for item in items[category]])
        liking = (
            _unit(liking)
            + 0.35 * rng.standard_normal((users, len(kinds[slot])))[:, kind]
        )
        liking = _unit(liking) + TASTE_NOISE * rng.standard_normal(liking.shape)
        parts.append(_unit(liking))
    # Nobody cares equally about tops, bottoms and shoes.
    care = rng.uniform(0.7, 1.3, size=(users, len(CATEGORIES)))
    care /= np.sqrt((care**2).sum(axis=1, keepdims=True))
    taste = tuple(part * care[:, slot, None] for slot, part in enumerate(parts))
    return World(taste=taste, fit=_compatibility(seen))


def _unit(values: Float[np.ndarray, "u n"]) -> Float[np.ndarray, "u n"]:
    """Every row with mean 0 and variance 1."""
    centred = values - values.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-9)


def _user_weights(users: int, rng: np.random.Generator) -> Float[np.ndarray, "u c k"]:
    """Weight of every attribute for every user and category."""
    styles = np.zeros((len(ARCHETYPES), len(ATTRIBUTES)))
    for row, style in enumerate(ARCHETYPES.values()):
        for name, weight in style.items():
            styles[row, ATTRIBUTES.index(name)] = weight
    # Every user is mostly one or two archetypes; all of them occur equally often.
    mixture = rng.dirichlet(np.full(len(styles), 0.25), size=users)
    mixture[np.arange(users), np.arange(users) % len(styles)] += 0.9
    base = (mixture / mixture.sum(axis=1, keepdims=True)) @ styles * 1.2
    hues = [ATTRIBUTES.index(name) for name in HUES]
    for user in range(users):
        liked, other, disliked = rng.choice(hues, 3, replace=False)
        base[user, liked] += 0.9
        base[user, other] += 0.5
        base[user, disliked] -= 0.8
    base += 0.2 * rng.standard_normal(base.shape)
    shape = (users, len(CATEGORIES), len(ATTRIBUTES))
    return base[:, None, :] + 0.25 * rng.standard_normal(shape)


def _compatibility(
    seen: Sequence[Float[np.ndarray, "_ k"]],
) -> dict[tuple[int, int], Float[np.ndarray, "_ _"]]:
    """How well two items go together, for each pair of categories."""
    hues = [ATTRIBUTES.index(name) for name in HUES]
    angles = np.radians(list(HUES.values()))
    apart = np.cos(angles[:, None] - angles[None, :])
    # Near hues harmonise, hues a third of the circle apart clash, opposite ones are fair.
    harmony = np.where(apart > 0.5, 0.45, np.where(apart < -0.8, -0.2, -1.0))

    def column(slot: int, name: str) -> np.ndarray:
        return seen[slot][:, ATTRIBUTES.index(name)]

    fit = {}
    for i in range(len(seen)):
        for j in range(i + 1, len(seen)):
            occasion = np.subtract.outer(column(i, "formal"), column(j, "formal")) ** 2
            season = np.subtract.outer(column(i, "warm"), column(j, "warm")) ** 2
            loud = np.multiply.outer(column(i, "loud"), column(j, "loud"))
            colour = seen[i][:, hues] @ harmony @ seen[j][:, hues].T
            fit[i, j] = -0.30 * occasion - 0.22 * season - 1.2 * loud + 0.7 * colour
    # Variance of the sum over random outfits, the items drawn independently.
    rng = np.random.default_rng(0)
    draw = [rng.integers(0, len(part), 20_000) for part in seen]
    total = sum(table[draw[i], draw[j]] for (i, j), table in fit.items())
    scale = COMPATIBILITY / max(float(total.std()), 1e-9)
    return {pair: table * scale for pair, table in fit.items()}


def choose_outfits(
    world: World,
    pools: Sequence[Int[np.ndarray, " _"]],
    count: int,
    among: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "u n s"]:
    """Every user's positives: each the best of `among` random outfits, up to a little noise.

    Args:
      world: utilities.
      pools: per category, the items to choose from.
      count: positives per user, all different.
      among: random outfits behind each choice.
      rng: draws the outfits and the noise.
    Raises:
      ValueError: the pools do not hold enough different outfits.
    """
    if np.prod([float(len(pool)) for pool in pools]) < 2 * count:
        sizes = [len(pool) for pool in pools]
        raise InputError(
            f"pools of {sizes} items make too few outfits for {count} different "
            "positives per user; use more items or fewer positives"
        )
    chosen = np.zeros((world.num_users, count, len(pools)), dtype=np.int64)
    for user in range(world.num_users):
        offers = np.stack([rng.choice(pool, (count, among)) for pool in pools], axis=-1)
        noise = CHOICE_NOISE * rng.standard_normal((count, among))
        value = world.utility(np.full((count, among), user), offers) + noise
        taken: set[tuple[int, ...]] = set()
        for row in range(count):
            ranked = offers[row, np.argsort(-value[row], kind="stable")].tolist()
            free = (outfit for outfit in map(tuple, ranked) if outfit not in taken)
            best = next(free, None)
            while best is None:  # all offers are taken already: anything new
                other = tuple(int(rng.choice(pool)) for pool in pools)
                best = None if other in taken else other
            taken.add(best)
            chosen[user, row] = best
    return chosen


def auc(
    world: World,
    users: Int[np.ndarray, " n"],
    positives: Int[np.ndarray, "n s"],
    negatives: Int[np.ndarray, "n k s"],
) -> float:
    """AUC of the true utility, ties one half, mean over users: no model can do better.

    Args:
      world: utilities.
      users: of each positive.
      positives: outfits.
      negatives: k outfits that go with each positive.
    """
    positive = world.utility(users, positives)
    every = np.broadcast_to(users[:, None], negatives.shape[:2])
    negative = world.utility(every, negatives)
    areas = []
    for user in np.unique(users):
        mine = users == user
        gap = np.subtract.outer(positive[mine], negative[mine].ravel())
        areas.append(np.mean((gap > 0) + 0.5 * (gap == 0)))
    return float(np.mean(areas))
