"""The closed form of a new user's code, as in the fork and its page."""

import numpy as np
import pytest
from catalogues import outfits
from clicks import (
    codes_for,
    random_clicks,
)
from golden_weights import load

from fhn_jax.new_users import Similarity
from fhn_jax.new_users.similarity import similarity


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
