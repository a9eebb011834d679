"""How good learners of new users are: clicks drawn from training outfits."""

import numpy as np
import pytest
from clicks import (
    codes_for,
    empty,
    random_clicks,
)
from polyvore_u import write_polyvore_u
from random_codes import codes_of

from fhn_jax.data.layout import read_catalogue
from fhn_jax.evaluation.cold_start import draw_clicks, evaluate
from fhn_jax.evaluation.evaluators import evaluate as evaluate_codes
from fhn_jax.new_users import BprFit, RandomCode


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    root = write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny", image_size=None)
    return read_catalogue(root, "8")


@pytest.mark.slow
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
