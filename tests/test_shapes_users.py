"""New users from outfits of several shapes, and from single items."""

import numpy as np
import pytest
from catalogues import catalogue
from random_codes import codes_of, outfits_of, shop_codes

from fhn_jax.codes import Scorer, blocks, outfit_scores
from fhn_jax.data.catalogue import Outfits
from fhn_jax.errors import InputError
from fhn_jax.new_users import BprFit, Similarity, fit_users
from fhn_jax.new_users.similarity import similarity

BAG_ALONE = [-1, -1, -1, -1, -1, 2]  # a template
TOP_ALONE = [3, -1, -1, -1, -1, -1]  # none


@pytest.fixture(scope="module")
def codes():
    return shop_codes(counts=(30, 30, 30, 30, 30, 30), num_users=12)


def scores_of(codes, latent, items):
    """Scores for a user code, of outfits of any slots."""
    scores = np.empty(len(items))
    for rows, form, gathered in blocks(codes, items):
        user = np.tile(latent, (len(rows), 1))
        weights = (codes.lambda_user, codes.lambda_item, codes.alpha)
        scores[rows] = outfit_scores(form, user, gathered, *weights)
    return scores


def clicks_of(codes, seed, *more):
    items = np.unique(outfits_of(np.random.default_rng(seed), codes, 9), axis=0)
    items = np.concatenate([items, np.array(more).reshape(-1, 6)]).astype(np.int32)
    return Outfits(np.zeros(len(items), np.int32), items)


def test_fit_compares_likes_with_sampled_outfits_of_their_template(codes):
    learner = BprFit(codes, rank=codes.bits, strength=0.5, shrinkage=0.3)
    shapes = (learner.sampled >= 0).astype(int)
    numbers = [codes.templates.index(tuple(np.flatnonzero(s).tolist())) for s in shapes]
    assert np.bincount(numbers).tolist() == [32] * 4
    likes, dislikes = clicks_of(codes, 1, TOP_ALONE), clicks_of(codes, 2, BAG_ALONE)
    known = codes.user_latents.astype(np.float64)
    spread = 0.3 * (known**2).mean() * np.eye(codes.bits)
    precision = np.linalg.inv(0.7 * np.cov(known.T) + spread)
    same = ((likes.items >= 0)[:, None] == (learner.sampled >= 0)).all(axis=2)
    same[-1] = True

    def loss(latent):
        liked, disliked, sampled = (
            scores_of(codes, latent, items)
            for items in (likes.items, dislikes.items, learner.sampled)
        )
        above = np.logaddexp(0, disliked - liked[:, None]).mean(axis=1)
        above += np.average(np.logaddexp(0, sampled - liked[:, None]), 1, same)
        away = latent - known.mean(axis=0)
        return above.sum() / 2 + 0.25 * away @ precision @ away

    latent = learner.fit(likes, dislikes).latents[0].astype(np.float64)
    lowest, rng = loss(latent), np.random.default_rng(0)
    assert lowest < loss(known.mean(axis=0)) - 1e-3
    for _ in range(20):
        step = rng.normal(size=codes.bits)
        step *= 0.2 / np.linalg.norm(step)
        up, down = loss(latent + step) - lowest, loss(latent - step) - lowest
        assert up > 0 and down > 0
        assert abs(up - down) < 0.2 * (up + down)


def test_single_likes_raise_the_scores_of_outfits_with_the_item(codes):
    liked = [[-1, -1, -1, 4, -1, -1], [-1, -1, 7, -1, -1, -1]]
    fitted = fit_users(codes, [liked], [[BAG_ALONE]])
    nobody = fit_users(codes, [[]])
    row = np.array([[-1, -1, 7, 4, -1, -1]])
    before, after = (
        Scorer(users.into(codes)).score("asymmetric", np.array([0]), row)[0]
        for users in (nobody, fitted)
    )
    assert after > before


def test_similarity_takes_the_mean_over_the_items_that_there_are(codes):
    rng = np.random.default_rng(0)
    users = np.arange(24, dtype=np.int32) % 12

    def many():
        return Outfits(users, outfits_of(rng, codes, 24).astype(np.int32))

    known = (many(), many())
    own = (clicks_of(codes, 1, TOP_ALONE), clicks_of(codes, 2))
    vectors = codes.to_numpy()

    def mean_of(row):
        items = [(slot, item) for slot, item in enumerate(row) if item >= 0]
        return np.mean([vectors[m][s][i] for m in vectors for s, i in items], axis=0)

    def mean(clicks, user):
        rows = clicks.items[clicks.users == user]
        return np.mean([mean_of(row) for row in rows], axis=0)

    liked, disliked = (mean(clicks, 0)[None] for clicks in own)
    expected = similarity(
        *(np.stack([mean(c, u) for u in range(12)]) for c in known),
        liked,
        disliked,
        codes.user_codes().astype(np.float64),
        codes.lambda_user,
        codes.lambda_item,
        disliked_by_known=disliked,
    )
    got = Similarity(codes, *known).fit(*own)
    np.testing.assert_array_equal(got.bits[0], np.where(expected[0] >= 0, 1, -1))
    expected /= np.abs(expected).mean()
    np.testing.assert_allclose(got.latents, expected, rtol=1e-4, atol=1e-5)


def test_data_with_outfits_of_a_template_that_the_codes_lack_are_refused():
    whole, sizes = [(0, 0, 1, 2), (1, 3, 3, 3)], (4, 4, 4)
    data = catalogue(whole, sizes)
    codes, more = codes_of(data), catalogue([*whole, (0, 0, -1, 2)], sizes)
    clicks = data.splits["train"].positives
    none = Outfits(clicks.users[:0], clicks.items[:0])
    users = BprFit(codes).fit(clicks, none)
    assert users.into(codes, data).num_users == 2
    with pytest.raises(
        InputError, match="has outfits of top.shoe, the codes .*top.bott"
    ):
        users.into(codes, more)
    assert users.into(codes_of(more), data).num_users == 2
