"""New users from a few clicks."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from catalogues import outfits
from golden_weights import load
from polyvore_u import write_polyvore_u
from random_codes import codes_of, random_codes

from fhn_jax.codes import Codes, Scorer
from fhn_jax.data.catalogue import Outfits
from fhn_jax.data.layout import read_catalogue
from fhn_jax.evaluation import metrics
from fhn_jax.evaluation.cold_start import draw_clicks, evaluate
from fhn_jax.evaluation.evaluators import evaluate as evaluate_codes
from fhn_jax.new_users import (
    BprFit,
    RandomCode,
    Similarity,
    no_clicks,
)
from fhn_jax.new_users.bpr import _nearest_bits
from fhn_jax.new_users.similarity import similarity

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


# --- the fork's closed form -------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2])
def test_similarity_equals_the_fork(number):
    golden = load(f"coldstart_{number}")
    before_sign = similarity(
        *(golden[name] for name in ("big_pos", "big_neg", "small_pos", "small_neg")),
        golden["big_user_codes"],
        golden["lambda_u"][0],
        golden["lambda_i"][0],
        beta=float(golden["beta"]),
        epsilon=float(golden["epsilon"]),
        disliked_by_known=golden["small_neg"],
    )
    np.testing.assert_allclose(before_sign, golden["presign"], rtol=1e-6, atol=1e-9)
    # Of 0/1 codes the fork compares this with ½, which it never reaches: all bits are 0
    # (so they are in the file). `Similarity` takes the sign for both alphabets.
    high, low = (0.5, 0) if golden["binary01"] else (0, -1)
    np.testing.assert_array_equal(
        np.where(before_sign >= high, 1, low), golden["codes"]
    )


def test_similarity_equals_the_page_click_by_click():
    golden = load("web_recommender")
    clicked = {1: [], -1: [], 0: []}
    steps = zip(
        golden["action"],
        golden["outfit"],
        golden["user_code_after"],
        golden["ratings_after"],
        strict=True,
    )
    for action, outfit, code, ratings in steps:
        clicked[int(action)].append(golden["outfit_feats"][outfit])
        ones = np.ones((1, golden["lambda_u"].shape[1]))
        liked, disliked = (
            np.mean(clicked[sign], axis=0, keepdims=True) if clicked[sign] else ones
            for sign in (1, -1)
        )
        before_sign = similarity(
            golden["big_pos"],
            golden["big_neg"],
            liked,
            disliked,
            golden["big_user_codes"],
            golden["lambda_u"][0],
            golden["lambda_i"][0],
            disliked_by_known=liked,
        )
        np.testing.assert_array_equal(np.where(before_sign[0] >= 0, 1, -1), code)
        ours = (np.sign(before_sign) * golden["lambda_u"]) @ golden["outfit_feats"].T
        np.testing.assert_allclose(ours[0], ratings, rtol=1e-9)


@pytest.mark.parametrize("page", [False, True])
def test_similarity_of_codes_is_the_formula_on_mean_unscaled_codes(page):
    codes = codes_for()
    known = (random_clicks(12, 4, 0), random_clicks(12, 4, 1))
    likes, dislikes = random_clicks(3, 2, 2), outfits([(0, 1, 1, 1)])
    bits = codes.to_numpy()

    def mean(clicks, user):
        return np.mean(
            [
                np.mean([bits[m][c][i] for m in bits for c, i in enumerate(items)], 0)
                for items in clicks.items[clicks.users == user]
            ],
            axis=0,
        )

    learner = Similarity(codes, *known, beta=0.3, epsilon=0.7, page=page)
    users = learner.fit(likes, dislikes)
    nothing = np.full(codes.bits, float(page))
    liked = np.stack([mean(likes, user) for user in range(3)])
    disliked = np.stack([mean(dislikes, 0), nothing, nothing])
    want = similarity(
        *(np.stack([mean(clicks, user) for user in range(12)]) for clicks in known),
        liked,
        disliked,
        codes.user_codes().astype(float),
        codes.lambda_user,
        codes.lambda_item,
        beta=0.3,
        epsilon=0.7,
        disliked_by_known=liked if page else disliked,
    )
    np.testing.assert_array_equal(users.bits, np.where(want >= 0, 1, -1))
    want /= np.abs(want).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(users.latents, want, rtol=1e-5)


# --- fit --------------------------------------------------------------------------

KINDS = {
    "T3": dict(),
    "alpha": dict(hash_types=0, modalities=("text",)),
    "no item term": dict(zero_item_term=True, hash_types=1),
    "0/1": dict(alphabet="01", item_scales=None),
    "two tops": dict(slots=(0, 0, 1, 2)),
    "long": dict(bits=64),
}


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


# --- all learners -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LEARNERS)
def test_codes_of_new_users_fit_into_the_artifact(tmp_path, name, kind):
    codes = codes_for(**KINDS[kind])
    learner = learners(codes)[name]
    users = learner.fit(random_clicks(3, 2, 0, codes), random_clicks(3, 4, 1, codes))
    assert len(users) == 3
    assert users.latents.dtype == np.float32 and users.bits.dtype == np.int8
    users.into(codes).save(tmp_path / "codes")
    loaded = Codes.load(tmp_path / "codes")
    np.testing.assert_array_equal(loaded.user_codes(), users.bits)
    np.testing.assert_array_equal(loaded.user_latents, users.latents)


@pytest.mark.parametrize("name", ["fit", "similarity"])
def test_many_users_at_once_are_as_each_alone(name):
    codes = codes_for()
    learner = learners(codes)[name]
    rng = np.random.default_rng(5)
    likes, dislikes = random_clicks(150, 9, 0), random_clicks(150, 9, 1)
    # From 0 to 9 clicks; user 7 has none at all, 8 no likes, 9 no dislikes.
    keep = [rng.random(len(c)) < 0.1 * (c.users % 11) for c in (likes, dislikes)]
    for rows, clicks, none in zip(
        keep, (likes, dislikes), ((7, 8), (7, 9)), strict=True
    ):
        rows &= ~np.isin(clicks.users, none)
    likes, dislikes = (
        Outfits(c.users[rows], c.items[rows])
        for c, rows in zip((likes, dislikes), keep, strict=True)
    )
    together = learner.fit(likes, dislikes, 150)
    for user in (*range(12), 149):
        mine = [
            Outfits(
                np.zeros(np.sum(c.users == user), np.int32), c.items[c.users == user]
            )
            for c in (likes, dislikes)
        ]
        alone = learner.fit(*mine, 1)
        np.testing.assert_allclose(
            together.latents[user], alone.latents[0], rtol=0, atol=2e-3
        )
        assert np.mean(together.bits[user] == alone.bits[0]) > 0.9


@pytest.mark.parametrize("name", LEARNERS)
def test_the_same_clicks_give_the_same_codes(name):
    codes = codes_for()
    ours, theirs = (
        learners(codes)[name].fit(random_clicks(9, 3, 0), random_clicks(9, 3, 1))
        for _ in range(2)
    )
    np.testing.assert_array_equal(ours.latents, theirs.latents)
    np.testing.assert_array_equal(ours.bits, theirs.bits)


@pytest.mark.parametrize("name", ["fit", "similarity"])
def test_an_update_is_the_fit_of_all_clicks_and_leaves_others_alone(name):
    learner = learners(codes_for())[name]
    likes, dislikes = random_clicks(4, 3, 0), random_clicks(4, 3, 1)
    users = learner.fit(likes, dislikes)
    click = outfits([(2, 5, 5, 9)])
    updated = learner.update(users, click, no_clicks(learner.codes))
    everything = learner.fit(
        Outfits(
            np.append(likes.users, click.users),
            np.concatenate([likes.items, click.items]),
        ),
        dislikes,
    )
    np.testing.assert_allclose(updated.latents[2], everything.latents[2], atol=2e-3)
    assert np.abs(updated.latents[2] - users.latents[2]).max() > 1e-3
    others = [0, 1, 3]
    np.testing.assert_array_equal(updated.latents[others], users.latents[others])
    np.testing.assert_array_equal(updated.bits[others], users.bits[others])
    assert len(updated.likes) == len(likes) + 1
    assert len(updated.dislikes) == len(dislikes)
    again = learner.update(updated, no_clicks(learner.codes), outfits([(0, 1, 1, 9)]))
    np.testing.assert_array_equal(again.latents[2], updated.latents[2])


def test_a_user_without_clicks_is_the_average_user():
    codes = codes_for()
    none = no_clicks(codes)
    mean = codes.user_latents.mean(axis=0)
    users = BprFit(codes).fit(none, none, 2)
    np.testing.assert_allclose(users.latents, [mean] * 2, rtol=1e-5, atol=1e-7)
    of_bits = codes.user_codes().mean(axis=0)
    users = learners(codes)["similarity"].fit(none, none, 1)
    np.testing.assert_array_equal(users.bits[0], np.where(of_bits >= 0, 1, -1))
    assert len(BprFit(codes).fit(none, none)) == 0


def test_without_known_users_the_prior_is_round():
    codes = random_codes(counts=COUNTS, num_users=0)
    likes = random_clicks(1, 3, 0)
    users = BprFit(codes).fit(likes, empty())
    assert np.abs(users.latents).max() > 0
    liked = scores_of(users.into(codes), "asymmetric", likes.users, likes.items)
    zero = dataclasses.replace(users, latents=np.zeros_like(users.latents))
    before = scores_of(zero.into(codes), "asymmetric", likes.users, likes.items)
    assert liked.mean() > before.mean()


@pytest.mark.parametrize("name", ["fit", "similarity"])
def test_a_liked_item_alone_is_a_click(name):
    codes = codes_for(bits=64)
    learner = learners(codes)[name]
    alone = learner.fit(outfits([(0, -1, 4, -1)]), no_clicks(codes))
    nobody = learner.fit(no_clicks(codes), no_clicks(codes), 1)

    def gain(items):
        rows = np.array(items, np.int32)
        after, before = (
            scores_of(users.into(codes), "asymmetric", np.zeros(len(rows)), rows)
            for users in (alone, nobody)
        )
        return (after - before).mean()

    rng = np.random.default_rng(0)
    tops, shoes = rng.integers(30, size=200), rng.integers(10, size=200)
    with_it = np.column_stack([tops, np.full(200, 4), shoes])
    others = np.column_stack([tops, rng.integers(20, size=200), shoes])
    assert gain(with_it) > gain(others)


def test_nothing_but_numpy_and_the_codes_is_needed():
    program = "import sys, fhn_jax.new_users; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    slow = {"jax", "flax", "tensorflow", "matplotlib", "orbax", "scipy", "numba"}
    assert not slow & set(done.stdout.split())


# --- comparison -------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    root = write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny", image_size=None)
    return read_catalogue(root, "8")


def test_evaluate_compares_learners_at_numbers_of_likes(catalogue):
    codes = codes_of(catalogue)
    compared = {"fit": BprFit(codes), "random": RandomCode(codes)}
    rows = evaluate(compared, catalogue, likes=(1, 3, 50, 100), dislikes=2)
    # 6 training outfits a user.
    assert [(row["likes"], row["method"]) for row in rows] == [
        (n, name) for n in (1, 3, 6) for name in compared
    ]
    assert all(row["dislikes"] == 2 * row["likes"] for row in rows)
    likes, dislikes = draw_clicks(catalogue, 3, 2)
    users = compared["fit"].fit(likes, dislikes)
    want = evaluate_codes(users.into(codes, catalogue), catalogue)
    assert rows[2]["scores"] == want["scores"]
    assert rows[2]["hard"] == want["hard"]
    assert {row["seconds_per_user"] > 0 for row in rows} == {True}


def test_drawn_clicks_are_training_outfits_and_their_negatives(catalogue):
    train = catalogue.splits["train"]
    likes, dislikes = draw_clicks(catalogue, 2, 3, seed=1)
    assert np.bincount(likes.users).tolist() == [2] * 8
    rows = {
        (user, *items): row
        for row, (user, items) in enumerate(
            zip(train.positives.users, train.positives.items.tolist(), strict=True)
        )
    }
    negatives = train.negatives["random"]
    for number, (user, items) in enumerate(
        zip(likes.users, likes.items.tolist(), strict=True)
    ):
        row = rows[user, *items]
        np.testing.assert_array_equal(
            dislikes.items[3 * number : 3 * number + 3],
            negatives.items[3 * row : 3 * row + 3],
        )
    other, _ = draw_clicks(catalogue, 2, 3, seed=2)
    assert not np.array_equal(likes.items, other.items)
    with pytest.raises(ValueError, match="0 to 3 dislikes of each"):
        draw_clicks(catalogue, 2, 4)


def test_users_learned_on_other_items_are_refused(catalogue):
    users = BprFit(codes_for()).fit(random_clicks(8, 1, 0), empty())
    with pytest.raises(ValueError, match="have 30 items of category 'top', and"):
        users.into(codes_for(), catalogue)
    unnamed = codes_for(names=None)
    with pytest.raises(ValueError, match=r"\(30, 20, 10\) items of .* lists \(32"):
        users.into(unnamed, catalogue)
    with pytest.raises(ValueError, match="slots .0, 0, 1, 2. of"):
        users.into(codes_for(slots=(0, 0, 1, 2)), catalogue)


# --- bad input --------------------------------------------------------------------


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize(
    ("likes", "dislikes", "message"),
    [
        ([(0, 30, 0, 0)], [], "likes, row 0: top 30 is unknown; expected 0 to 29, or "),
        ([(0, 0, 0, 0), (0, 0, 0, -2)], [], "likes, row 1: shoe -2 is unknown"),
        ([], [(0, 0, 20, 0)], "dislikes, row 0: bottom 20 is unknown; expected 0 to 19"),
        ([(3, 0, 0, 0)], [], "likes, row 0: user 3 is unknown; expected 0 to 1"),
        ([(-1, 0, 0, 0)], [], "likes, row 0: user -1 is unknown"),
        ([(0, -1, -1, -1)], [], "likes, row 0: no item; expected at least one"),
        (
            [(0, 1, 1, 1), (1, 2, 3, 4)],
            [(0, 2, 3, 4), (1, 2, 3, 4)],
            r"user 1 both likes and dislikes outfit \[2, 3, 4\]",
        ),
        ([(0, 1, -1, 1)], [(0, 1, -1, 1)], r"dislikes outfit \[1, -1, 1\]"),
    ],
)  # fmt: skip
def test_wrong_clicks_are_named(name, likes, dislikes, message):
    learner = learners(codes_for())[name]
    tables = [outfits(rows) if rows else empty() for rows in (likes, dislikes)]
    with pytest.raises(ValueError, match=message):
        learner.fit(*tables, 2)


def test_clicks_of_another_number_of_slots_are_refused():
    with pytest.raises(ValueError, match=r"likes have items \(1, 4\), expected \(1, 3"):
        BprFit(codes_for()).fit(outfits([(0, 1, 1, 1, 1)]), empty())


def test_a_click_may_not_contradict_an_earlier_one():
    learner = BprFit(codes_for())
    users = learner.fit(outfits([(0, 1, 2, 3), (1, 4, 4, 4)]), empty())
    with pytest.raises(ValueError, match=r"likes and dislikes outfit \[4, 4, 4\]"):
        learner.update(users, empty(), outfits([(1, 4, 4, 4)]))
    with pytest.raises(ValueError, match="row 0: user 2 is unknown; expected 0 to 1"):
        learner.update(users, empty(), outfits([(2, 4, 4, 4)]))


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(beta=1.5), "beta=1.5: expected 0 to 1"),
        (dict(epsilon=-1.0), "epsilon=-1.0: expected at least 0"),
        (dict(epsilon=float("nan")), "epsilon=nan"),
    ],
)
def test_wrong_options_of_the_similarity_are_named(options, message):
    known = (random_clicks(12, 1, 0), random_clicks(12, 1, 1))
    with pytest.raises(ValueError, match=message):
        Similarity(codes_for(), *known, **options)


def test_similarity_needs_clicks_of_every_known_user():
    known = (random_clicks(12, 1, 0), random_clicks(11, 1, 1))
    with pytest.raises(ValueError, match="known user 11 has no dislikes"):
        Similarity(codes_for(), *known)
