"""What holds of every learner of new users; clicks that are refused."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from catalogues import outfits
from clicks import (
    COUNTS,
    KINDS,
    LEARNERS,
    codes_for,
    empty,
    learners,
    random_clicks,
    scores_of,
)
from random_codes import random_codes

from fhn_jax.codes import Codes
from fhn_jax.data.catalogue import Outfits
from fhn_jax.errors import InputError
from fhn_jax.new_users import BprFit, RandomCode, Similarity, fit_users, no_clicks


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


def test_who_contradicts_an_earlier_click_is_named_by_the_own_number():
    codes = random_codes(num_users=2, counts=(3, 3, 3))
    learner, one = RandomCode(codes), np.zeros((1, 3), np.int32)
    none = no_clicks(codes)
    users = learner.fit(Outfits(np.array([7], np.int32), one), none, 9)
    with pytest.raises(InputError, match="user 7 both likes and dislikes"):
        learner.update(users, none, Outfits(np.array([7], np.int32), one))


def test_random_codes_stay_when_more_is_clicked():
    codes = random_codes(num_users=2, counts=(3, 3, 3))
    learner, none = RandomCode(codes, seed=3), no_clicks(codes)
    users = learner.fit(none, none, 5)
    click = Outfits(np.array([4], np.int32), np.zeros((1, 3), np.int32))
    after = learner.update(users, click, none)
    np.testing.assert_array_equal(after.bits, users.bits)
    assert len(after.likes) == 1


def test_similarity_to_nobody_is_refused():
    codes = dataclasses.replace(
        random_codes(num_users=2, counts=(3, 3, 3)),
        users=np.zeros((0, 2), np.uint8),
        user_latents=np.zeros((0, 16), np.float32),
    )
    with pytest.raises(InputError, match="no known users.*method=fit"):
        Similarity(codes, no_clicks(codes), no_clicks(codes))


def test_outfits_of_different_lengths_are_named():
    codes = random_codes(num_users=2, counts=(3, 3, 3))
    with pytest.raises(InputError, match="likes of user 1 are outfits of different"):
        fit_users(codes, likes=[[(0, 0, 0)], [(1, 1, 1), (2,)]])
