"""What a run's pages would be liked, estimated from pages that another made."""

import numpy as np
import pytest

from fhn_jax.codes import Codes
from fhn_jax.evaluation.off_policy import MOST_WEIGHT, off_policy
from fhn_jax.recommender import Judged, Recommender
from fhn_jax.recommender import logged as logged_pages
from fhn_jax.recommender.logged import LoggedPage, check_comparable
from fhn_jax.retrieval.searcher import Searcher

# Of eight outfits how likely each is shown, and liked; the new policy shows the first four.
SHOWN = np.array([0.9, 0.5, 0.2, 0.1, 0.9, 0.8, 0.3, 0.1])
LIKED = np.array([0.2, 0.4, 0.7, 0.9, 0.5, 0.6, 0.1, 0.3])
CHOSEN = np.arange(8) < 4
TRUE = LIKED[CHOSEN].mean()


def simulate(seed, visitors=800):
    """What is shown to and judged by visitors who differ in how much they like at all."""
    rng = np.random.default_rng(seed)
    taste = rng.uniform(-0.1, 0.1, (visitors, 1)) + LIKED
    who, outfit = np.nonzero(rng.random((visitors, 8)) < SHOWN)
    liked = (rng.random(len(who)) < taste[who, outfit]).astype(float)
    liked[rng.random(len(who)) < 0.2] = np.nan  # Not judged.
    return who, liked, SHOWN[outfit], CHOSEN[outfit], 4 * visitors


@pytest.mark.slow
def test_the_interval_has_the_true_value_of_another_policy():
    found = [off_policy(*simulate(seed)) for seed in range(20)]
    inside = [one.interval[0] < TRUE < one.interval[1] for one in found]
    assert sum(inside) >= 17
    assert abs(np.mean([one.estimate for one in found]) - TRUE) < 0.01
    assert all(one.gain[0] > 0 and not one.obstacle for one in found)
    for seed, one in enumerate(found[:5]):
        # Without weights what was likely shown counts more: far from the truth.
        who, liked, _, chosen, _ = simulate(seed)
        plain = off_policy(who, liked, np.ones(len(who)), chosen, 4 * 800)
        assert plain.interval[1] < TRUE - 0.1
        assert np.isclose(one.logged, np.nanmean(liked))
        assert 0.9 < one.covered < 1.1
    assert "more is liked" in found[0].text


def test_weights_are_clipped_and_the_effective_size_is_of_visitors():
    visitors, ones = np.array([5, 5, 9, 9]), np.ones(4)
    found = off_policy(visitors, ones, np.array([0.5, 1, 1 / 50, 1]), ones > 0, 10)
    weights = 3, MOST_WEIGHT + 1
    expected = sum(weights) ** 2 / sum(w**2 for w in weights)
    assert found.effective == pytest.approx(expected)
    assert (found.matched, found.clipped) == (4, 0.25)
    assert "as much as 1 visitors" in found.text and "concluded" in found.text


def test_too_little_says_nothing():
    assert "30" in off_policy(*simulate(0, visitors=20)).obstacle
    who, liked, shown, chosen, places = simulate(0)
    rare = off_policy(who, liked, shown, chosen, 2 * places)
    assert "of what this run would show could be shown at all" in rare.obstacle
    nothing = np.zeros(0)
    empty = off_policy(nothing, nothing, nothing, nothing > 0, 0)
    assert np.isnan(empty.estimate) and empty.effective == 0 and empty.obstacle


# --- propensities -----------------------------------------------------------------


@pytest.fixture(scope="module")
def recommender():
    rng = np.random.default_rng(0)
    items = {name: rng.normal(size=(20, 32)) for name in ("top", "shoe")}
    codes = Codes.from_embeddings(items, users=rng.normal(size=(30, 32)))
    outfits = np.unique(rng.integers(20, size=(150, 2)), axis=0)
    return Recommender(codes, Searcher.in_memory(codes, outfits))


def logged(recommender, seed, judged, posterior, explore=0.5):
    """A page of six as the server makes and logs it."""
    shown = recommender.recommend(
        *(posterior.mean, 6),
        judged=judged,
        explore=explore,
        seed=seed,
        posterior=posterior,
    )
    items = np.array([one.items for one in shown], np.int32)
    about = dict(visitor="a", user=None, codes="", k=6, explore=explore, page=0)
    return LoggedPage(**about, judged=judged, items=items, liked=np.ones(6))


@pytest.mark.slow
def test_propensities_are_how_often_pages_have_an_outfit(recommender, monkeypatch):
    monkeypatch.setattr(logged_pages, "DRAWS", 200)
    judged = Judged(np.array([[3, 4], [5, -1]], np.int32), np.array([True, False]))
    known = recommender.posterior(None, judged)
    pages = [logged(recommender, seed, judged, known) for seed in range(30)]
    times = {}
    for page in pages:
        for outfit in map(tuple, page.items.tolist()):
            times[outfit] = times.get(outfit, 0) + 1
    page = pages[0]
    chances = page.propensities(recommender)
    often = np.array([times[tuple(each)] / 30 for each in page.items.tolist()])
    assert (often == 1).sum() >= 3 and 0 < often.min() < 0.9
    np.testing.assert_allclose(chances, often, atol=0.25)
    # What it would show itself are the best of these, and what is always there, too.
    chosen = page.chosen_by(recommender)
    assert chosen[often == 1].all()


def test_a_page_that_cannot_be_made_again_is_left_out(recommender):
    nothing = Judged.nothing(2)
    known = recommender.posterior(None, nothing)
    page = logged(recommender, 1, nothing, known, explore=0.0)
    assert (page.propensities(recommender) == 1).all()
    assert page.chosen_by(recommender).all()
    outfits = np.array([[0, 0], [1, 1], [2, 2], [3, 3], [4, 4], [5, 5], [6, 6], [7, 7]])
    codes = recommender.codes
    assert (
        page.propensities(Recommender(codes, Searcher.in_memory(codes, outfits)))
        is None
    )
    others = Codes.from_embeddings({n: np.ones((20, 32)) for n in ("hat", "shoe")})
    with pytest.raises(ValueError, match="another catalogue"):
        check_comparable(codes, others)
