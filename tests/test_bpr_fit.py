"""The code that minimises the BPR loss of a user's clicks, and the bits that follow it."""

import dataclasses

import numpy as np
import pytest
from catalogues import outfits
from clicks import (
    COUNTS,
    KINDS,
    codes_for,
    empty,
    random_clicks,
    scores_of,
)
from random_codes import random_codes

from fhn_jax.codes import Codes, Scorer
from fhn_jax.data.catalogue import Outfits
from fhn_jax.evaluation import metrics
from fhn_jax.new_users import BprFit, RandomCode, fit_users
from fhn_jax.new_users.bpr import _nearest_bits


def loss_of(codes, learner, likes, dislikes, strength, shrinkage, around=None):
    """A function of one user's code: the loss as the docstring of BprFit has it."""
    known = codes.user_latents.astype(np.float64)
    mean, spread = known.mean(axis=0), (known**2).mean()
    mean = mean if around is None else around
    covariance = (1 - shrinkage) * np.cov(known.T) + shrinkage * spread * np.eye(
        codes.bits
    )
    precision = np.linalg.inv(covariance)

    def loss(latent):
        of_user = dataclasses.replace(
            codes,
            users=codes.users[:1],
            user_latents=latent[None].astype(np.float32),
        )
        liked, disliked, sampled = (
            scores_of(of_user, "asymmetric", np.zeros(len(items)), items)
            for items in (likes.items, dislikes.items, learner.sampled)
        )
        if len(liked):
            pairs = [(sampled[None], liked[:, None], 0.5 if len(disliked) else 1.0)]
            pairs += [(disliked[None], liked[:, None], 0.5)] * bool(len(disliked))
        else:
            pairs = [(disliked[:, None], sampled[None], 1.0)]
        rank = sum(
            weight * np.logaddexp(0, low - high).mean(axis=1).sum()
            for low, high, weight in pairs
        )
        away = latent - mean
        return rank + strength / 2 * away @ precision @ away

    return loss


@pytest.mark.slow
@pytest.mark.parametrize("clicks", ["both", "likes", "dislikes"])
@pytest.mark.parametrize("kind", KINDS)
def test_fit_finds_the_minimum_of_the_loss(kind, clicks):
    codes = codes_for(**KINDS[kind])
    learner = BprFit(codes, rank=codes.bits, strength=0.5, shrinkage=0.3)
    likes = random_clicks(1, 4, 0, codes)
    dislikes = random_clicks(1, 6, 1, codes)
    if clicks == "likes":
        dislikes = empty(len(codes.slots))
    if clicks == "dislikes":
        likes = empty(len(codes.slots))
    latent = learner.fit(likes, dislikes).latents[0].astype(np.float64)
    loss = loss_of(codes, learner, likes, dislikes, 0.5, 0.3)
    lowest = loss(latent)
    assert lowest < loss(codes.user_latents.mean(axis=0).astype(np.float64)) - 1e-3
    rng = np.random.default_rng(0)
    for _ in range(20):
        step = rng.normal(size=codes.bits)
        step *= 0.2 / np.linalg.norm(step)
        # Convex, so a minimum lies where both ways lead up by as much.
        up, down = loss(latent + step) - lowest, loss(latent - step) - lowest
        assert up > 0 and down > 0
        assert abs(up - down) < 0.2 * (up + down)


@pytest.mark.parametrize("clicks", ["both", "likes", "dislikes"])
def test_posterior_is_as_wide_as_the_loss_is_flat(clicks):
    codes = codes_for()
    learner = BprFit(codes, rank=codes.bits, strength=0.5, shrinkage=0.3)
    likes, dislikes = random_clicks(1, 4, 0, codes), random_clicks(1, 6, 1, codes)
    likes = empty() if clicks == "dislikes" else likes
    dislikes = empty() if clicks == "likes" else dislikes
    posterior = learner.posterior(likes, dislikes)
    latent = learner.latents(likes, dislikes, 1)[0]
    np.testing.assert_array_equal(posterior.mean, latent)
    loss = loss_of(codes, learner, likes, dislikes, 0.5, 0.3)
    rng, middle = np.random.default_rng(0), latent.astype(np.float64)
    for _ in range(5):
        normal = rng.normal(size=codes.bits)
        # One standard deviation, in the small: the loss is strength / 2 higher there.
        step = posterior.basis @ (posterior.root @ normal) / np.linalg.norm(normal) / 4
        curve = loss(middle + step) + loss(middle - step) - 2 * loss(middle)
        assert curve == pytest.approx(0.5 / 4**2, rel=0.03)


def test_posterior_without_clicks_is_the_prior_and_of_a_known_user_narrower():
    codes = codes_for()
    learner = BprFit(codes, rank=codes.bits, shrinkage=0.3)
    known = codes.user_latents.astype(np.float64)
    prior = 0.7 * np.cov(known.T) + 0.3 * (known**2).mean() * np.eye(codes.bits)

    def covariance(around=None):
        found = learner.posterior(empty(), empty(), around)
        root = (found.basis @ found.root).astype(np.float64)
        return found.mean, root @ root.T

    mean, wide = covariance()
    np.testing.assert_allclose(mean, known.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(wide, prior, atol=1e-4 * prior.max())
    mean, narrow = covariance(codes.user_latents[3])
    np.testing.assert_array_equal(mean, codes.user_latents[3])
    assert np.trace(narrow) < 0.9 * np.trace(wide)
    assert np.linalg.eigvalsh(wide - narrow).min() > -1e-4 * prior.max()


@pytest.mark.parametrize("kind", ["T3", "0/1", "two tops"])
def test_a_known_user_is_learned_from_the_own_code_on(kind):
    codes = codes_for(**KINDS[kind])
    learner = BprFit(codes, rank=codes.bits, strength=0.5, shrinkage=0.3)
    likes = random_clicks(2, 4, 0, codes)
    dislikes = random_clicks(2, 6, 1, codes)
    own = codes.user_latents[[3, 7]]
    nothing = empty(len(codes.slots))
    np.testing.assert_array_equal(learner.latents(nothing, nothing, 2, own), own)
    found = learner.latents(likes, dislikes, 2, own)
    rng = np.random.default_rng(0)
    for user in range(2):
        mine = [
            Outfits(
                np.zeros(len(c), np.int32)[c.users == user], c.items[c.users == user]
            )
            for c in (likes, dislikes)
        ]
        around = own[user].astype(np.float64)
        loss = loss_of(codes, learner, *mine, 0.5, 0.3, around)
        latent = found[user].astype(np.float64)
        lowest = loss(latent)
        assert lowest < loss(around) - 1e-3
        for _ in range(10):
            step = rng.normal(size=codes.bits)
            step *= 0.2 / np.linalg.norm(step)
            up, down = loss(latent + step) - lowest, loss(latent - step) - lowest
            assert up > 0 and down > 0
            assert abs(up - down) < 0.2 * (up + down)


def test_dislikes_and_sampled_outfits_count_one_half_each():
    codes = codes_for()
    likes, dislikes = random_clicks(1, 4, 0), random_clicks(1, 6, 1)
    learner = BprFit(codes, rank=codes.bits, strength=0.5, shrinkage=0.3)
    latent = learner.fit(likes, dislikes).latents[0].astype(np.float64)
    loss = loss_of(codes, learner, likes, dislikes, 0.5, 0.3)
    lowest = loss(latent)
    # Steps towards and away from the dislikes: a wrong weight would tilt just these.
    step = codes.item_codes("visual")[0][dislikes.items[:, 0]].sum(axis=0)
    step = 0.02 * step / np.linalg.norm(step)
    up, down = loss(latent + step) - lowest, loss(latent - step) - lowest
    assert up > 0 and down > 0
    assert abs(up - down) < 0.2 * (up + down)


def test_the_real_code_alone_is_that_of_the_fit():
    codes = codes_for()
    clicks = random_clicks(3, 4, 0), random_clicks(3, 5, 1)
    learner = BprFit(codes)
    np.testing.assert_array_equal(
        learner.latents(*clicks, 3), learner.fit(*clicks).latents
    )
    with pytest.raises(ValueError, match="both likes and dislikes|likes and dislikes"):
        learner.latents(clicks[0], clicks[0], 3)


def test_fewer_directions_come_close_to_all():
    codes = codes_for(bits=64)
    likes, dislikes = random_clicks(5, 5, 0), random_clicks(5, 10, 1)
    few = BprFit(codes, rank=32).fit(likes, dislikes)
    all_of_them = BprFit(codes, rank=64).fit(likes, dislikes)
    ours, theirs = few.latents.ravel(), all_of_them.latents.ravel()
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95


def test_liked_outfits_score_above_disliked_ones():
    codes = codes_for(bits=64)
    likes, dislikes = random_clicks(6, 3, 0), random_clicks(6, 6, 1)
    users = BprFit(codes, strength=0.01).fit(likes, dislikes)
    new = users.into(codes)
    for which in ("asymmetric", "binary"):
        liked = scores_of(new, which, likes.users, likes.items).reshape(6, 3)
        disliked = scores_of(new, which, dislikes.users, dislikes.items).reshape(6, 6)
        assert np.mean(liked[:, :, None] > disliked[:, None]) > 0.95


def test_a_new_user_is_found_again_and_bits_lose_little():
    """Known and new users are drawn alike; a few clicks of a new one tell the rest."""
    rng = np.random.default_rng(0)
    tastes = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 64)) / 2
    codes = random_codes(counts=(200, 200, 200), num_users=60, bits=64)
    true = dataclasses.replace(
        codes,
        user_latents=tastes.astype(np.float32),
        users=np.packbits(tastes > 0, axis=1, bitorder="little"),
    )
    known = dataclasses.replace(
        true, users=true.users[:50], user_latents=true.user_latents[:50]
    )

    def drawn(each, best):
        rows = []
        for user in range(50, 60):
            items = rng.integers(200, size=(each * 20, 3))
            order = np.argsort(
                scores_of(true, "asymmetric", np.full(len(items), user), items)
            )
            chosen = order[-each:] if best else rng.choice(order[:-each], each, False)
            rows += [(user - 50, *items[row]) for row in chosen]
        return outfits(rows)

    users = BprFit(known).fit(drawn(10, True), drawn(20, False))
    liked, disliked = drawn(40, True), drawn(40, False)
    auc = {}
    for name, codes in (("fit", users.into(known)), ("nobody", None)):
        for which in ("binary", "asymmetric"):
            if codes is None:
                codes = RandomCode(known).fit(liked, disliked).into(known)
            high, low = (
                scores_of(codes, which, clicks.users, clicks.items).reshape(10, 40)
                for clicks in (liked, disliked)
            )
            auc[name, which] = np.mean(
                [metrics.auc(*pair) for pair in zip(high, low, strict=True)]
            )
    assert auc["fit", "asymmetric"] > 0.9
    assert auc["fit", "binary"] > auc["fit", "asymmetric"] - 0.03
    assert auc["nobody", "binary"] < 0.8


@pytest.mark.parametrize("alphabet", ["pm1", "01"])
def test_a_real_code_too_large_for_bits_is_shrunk_first(alphabet):
    rng = np.random.default_rng(2)
    codes = codes_for(alphabet=alphabet, item_scales=None)
    mix = rng.normal(size=(16, 16)).astype(np.float32)
    middle, half = (0.5, 0.5) if alphabet == "01" else (0.0, 1.0)
    away = rng.normal(size=(50, 16)).astype(np.float32)
    away *= 0.7 * half / np.abs(away).mean(axis=1, keepdims=True)
    fitting, large = (
        _nearest_bits(codes, np.float32(middle + size * away), mix.T @ mix)
        for size in (1, 10)
    )
    np.testing.assert_array_equal(large, fitting)


@pytest.mark.parametrize(("alphabet", "middle"), [("pm1", 0.0), ("01", 0.5)])
def test_without_known_users_nobody_is_in_the_middle(alphabet, middle):
    codes = random_codes(counts=COUNTS, num_users=0, alphabet=alphabet)
    nobody = BprFit(codes).fit(empty(), empty(), 1)
    np.testing.assert_array_equal(nobody.latents, np.full((1, 16), middle))


@pytest.mark.parametrize("alphabet", ["pm1", "01"])
def test_no_single_flip_of_the_binary_code_is_better(alphabet):
    rng = np.random.default_rng(1)
    codes = codes_for(alphabet=alphabet, item_scales=None)
    mix = rng.normal(size=(16, 16)).astype(np.float32)
    covariance = mix.T @ mix
    # Small enough not to be shrunk.
    low = 0.0 if alphabet == "01" else -1.0
    latents = rng.uniform(low, 1, (50, 16)).astype(np.float32)
    bits = _nearest_bits(codes, latents, covariance)
    assert set(np.unique(bits)) == {low, 1.0}

    def worth(bits):
        away = bits - latents
        return np.einsum("ud,de,ue->u", away, covariance, away)

    for bit in range(16):
        flipped = bits.copy()
        flipped[:, bit] = low + 1 - flipped[:, bit]
        assert (worth(flipped) >= worth(bits) - 1e-4).all()
    signs = np.where(latents >= (low + 1) / 2, 1, low)
    assert worth(bits).mean() < 0.7 * worth(signs).mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(strength=0.0), "strength=0.0: expected above 0"),
        (dict(strength=float("nan")), "strength=nan"),
        (dict(strength=float("inf")), "strength=inf"),
        (dict(shrinkage=0.0), "shrinkage=0.0: expected above 0, at most 1"),
        (dict(shrinkage=1.5), "shrinkage=1.5"),
        (dict(samples=0), "samples=0, rank=32: expected at least 1"),
        (dict(rank=0), "rank=0"),
    ],
)
def test_wrong_options_of_the_fit_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        BprFit(codes_for(), **options)


def test_codes_that_know_no_users_or_items_cannot_be_fitted():
    with pytest.raises(ValueError, match="trained with zero_user_term"):
        BprFit(codes_for(zero_user_term=True))
    with pytest.raises(ValueError, match="no items of category 'shoe'"):
        BprFit(random_codes(counts=(5, 4, 0)))


def test_a_fit_ends_where_halving_a_step_never_would():
    rng = np.random.default_rng(4)
    vectors = {name: rng.normal(size=(4, 8)) for name in ("top", "shoe")}
    codes = Codes.from_embeddings(vectors, users=rng.normal(size=(3, 8)))
    codes = dataclasses.replace(codes, user_latents=codes.user_latents * np.float32(4))
    likes, dislikes = [[(3, 3), (2, 0), (3, 0), (3, 2)]], [[(3, 1), (1, 3), (0, 3)]]
    users = fit_users(codes, likes=likes, dislikes=dislikes)
    scorer = Scorer(users.into(codes))
    liked, disliked = (
        scorer.score("asymmetric", np.zeros(len(of[0]), int), np.array(of[0]))
        for of in (likes, dislikes)
    )
    assert liked.min() > disliked.max()
