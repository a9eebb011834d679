"""Looks to start with, variety on a page, and draws from what is known of a taste."""

import numpy as np
import pytest
from random_codes import random_codes

from fhn_jax.recommender import Judged, Recommender, Suggestion
from fhn_jax.recommender.first_looks import splitting
from fhn_jax.recommender.suggestions import limit, spread
from fhn_jax.retrieval.searcher import Searcher


def outfits_of(*rows):
    return [Suggestion(row, -float(place)) for place, row in enumerate(rows)]


def test_looks_split_what_those_before_leave_open():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(30, 4)) @ rng.normal(size=(4, 12))
    rows = splitting(scores, np.arange(12)[:, None], 6)
    covariance = np.cov(scores.T, bias=True)
    noise = 0.25**2 * np.trace(covariance) / 12
    for count, row in enumerate(rows):
        before = rows[:count]
        told = covariance[np.ix_(before, before)] + noise * np.eye(count)
        with_them = covariance[:, before]
        left = covariance - with_them @ np.linalg.solve(told, with_them.T)
        variance = np.delete(np.diagonal(left), before)
        assert left[row, row] == pytest.approx(variance.max())


def test_looks_have_each_piece_once_as_long_as_there_are_others():
    scores = np.random.default_rng(0).normal(size=(9, 6)) * [9, 8, 7, 1, 1, 1]
    places = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [2, 3], [-1, 4]])
    rows = splitting(scores, places, 6)
    assert rows[0] == 0 and set(rows[1:3]) == {4, 5} and sorted(rows) == list(range(6))


def test_a_piece_comes_again_only_when_there_is_no_other():
    found = outfits_of((0, 0), (0, 1), (1, 2), (0, 3), (2, 0), (0, 4))
    assert [one.items for one in spread(found, 5, set(), limit=1)] == [
        *((0, 0), (1, 2)),
        *((0, 1), (2, 0)),
        (0, 3),
    ]
    # What stands beside them counts.
    beside = spread(found, 2, set(), limit=1, beside=outfits_of((1, 9)))
    assert [one.items for one in beside] == [(0, 0), (0, 1)]
    assert limit(12, 0) == 1 and limit(12, 5) == 3 and limit(4, 5) == 2


@pytest.mark.slow
def test_draws_explore_less_the_more_is_known():
    codes = random_codes(counts=(30, 20, 10), num_users=12, bits=32)
    rng = np.random.default_rng(0)
    outfits = np.stack([rng.integers(n, size=400) for n in codes.num_items], axis=1)
    outfits = np.unique(outfits, axis=0)
    recommender = Recommender(codes, Searcher.in_memory(codes, outfits))
    shares = []
    for count in (0, 12, 150):
        items = outfits[rng.permutation(len(outfits))[:count]].astype(np.int32)
        scores = recommender.scores(codes.user_latents[5], items.tolist())
        liked = np.array(scores) > np.median(scores) if count else np.zeros(0, bool)
        judged = Judged(items, liked)
        posterior = recommender.posterior(None, judged)
        found = [
            recommender.recommend(
                *(posterior.mean, 8),
                judged=judged,
                explore=0.5,
                posterior=posterior,
                seed=seed,
            )
            for seed in range(20)
        ]
        shares.append(sum(one.explores for page in found for one in page))
    assert shares[0] > shares[-1] and 0 < shares[0] <= 80
