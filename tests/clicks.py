"""Codes and clicks of new users for tests."""

import numpy as np
from catalogues import outfits
from random_codes import random_codes

from fhn_jax.codes import Scorer
from fhn_jax.data.catalogue import Outfits
from fhn_jax.new_users import BprFit, RandomCode, Similarity

COUNTS = (30, 20, 10)


def random_clicks(users, each, seed=0, codes=None):
    """So many different outfits for each user, none of them with other seeds."""
    rng = np.random.default_rng(seed)
    slots = (0, 1, 2) if codes is None else codes.slots
    # Seeds 0 to 2 have shoes of their own, so that no outfit is drawn twice.
    low, high = (0, 3, 6, 10)[seed], (0, 3, 6, 10)[seed + 1]
    rows = []
    for user in range(users):
        own = set()
        while len(own) < each:
            items = [int(rng.integers(COUNTS[c])) for c in slots]
            items[-1] = int(rng.integers(low, high))
            own.add((user, *items))
        rows += sorted(own)
    return outfits(rows)


def empty(slots=3):
    return Outfits(np.zeros(0, np.int32), np.zeros((0, slots), np.int32))


def codes_for(**changes):
    return random_codes(counts=COUNTS, num_users=12, scaled=True, **changes)


def learners(codes):
    known = (random_clicks(12, 4, 0, codes), random_clicks(12, 4, 1, codes))
    return {
        "fit": BprFit(codes),
        "similarity": Similarity(codes, *known),
        "random": RandomCode(codes),
    }


LEARNERS = ("fit", "similarity", "random")


def scores_of(codes, which, users, items):
    """Scores of outfits for users that are in `codes`."""
    return Scorer(codes).score(which, users.astype(np.int32), items.astype(np.int32))


KINDS = {
    "T3": dict(),
    "alpha": dict(hash_types=0, modalities=("text",)),
    "no item term": dict(zero_item_term=True, hash_types=1),
    "0/1": dict(alphabet="01", item_scales=None),
    "two tops": dict(slots=(0, 0, 1, 2)),
    "long": dict(bits=64),
}
