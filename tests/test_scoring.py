"""Scores of outfits from codes: the formula, ties, and what is refused."""

import dataclasses
import itertools

import numpy as np
import pytest

from fhn_jax.codes import Latents, ScoreForm, Scorer, outfit_scores, pack
from tests.random_codes import latents_of, outfits_of, random_codes, shop_codes


def brute_force_score(user, modalities, slots, codes):
    """The score of one outfit, term by term, in Python floats."""
    d = codes.bits
    total = 0.0
    for items in modalities:
        user_term = sum(
            float(codes.lambda_user[i]) * float(user[i]) * float(x[i])
            for x in items
            for i in range(d)
        ) / (len(items) * d)
        pairs = [
            (j, k)
            for j, k in itertools.combinations(range(len(slots)), 2)
            if slots[j] != slots[k]
        ]
        item_term = sum(
            float(codes.lambda_item[i]) * float(items[j][i]) * float(items[k][i])
            for j, k in pairs
            for i in range(d)
        ) / (len(pairs) * d)
        user_term *= codes.alpha
        if codes.zero_item_term:
            total += 20 * user_term
        elif codes.zero_user_term:
            total += 20 * item_term
        else:
            total += 10 * (user_term + item_term)
    return total / len(modalities)


def some_outfits(codes, count=40, seed=1):
    rng = np.random.default_rng(seed)
    users = rng.integers(0, codes.num_users, count)
    items = np.stack(
        [rng.integers(0, codes.num_items[c], count) for c in codes.slots], axis=1
    )
    return users, items


@pytest.mark.parametrize("which", ["binary", "asymmetric", "relaxed"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hash_types": 0},
        {"hash_types": 1},
        {"hash_types": 2},
        {"scaled": True},
        {"alphabet": "01"},
        {"zero_item_term": True},
        {"zero_user_term": True},
        {"zero_item_term": True, "zero_user_term": True},
        {"modalities": ("text",)},
        {"slots": (0, 0, 1, 2)},
        {"slots": (2, 0, 1, 0)},
    ],
    ids=str,
)
def test_scores_are_those_of_the_formula(which, changes):
    codes = random_codes(**changes)
    latents = latents_of(codes)
    users, items = some_outfits(codes)
    got = Scorer(codes, latents).score(which, users, items)
    assert got.dtype == np.float32
    user_codes = codes.user_codes() if which == "binary" else codes.user_latents
    vectors = {
        modality: latents.items[modality]
        if which == "relaxed"
        else codes.item_codes(modality)
        for modality in codes.modalities
    }
    for row in range(len(users)):
        outfit = [
            [
                vectors[m][c][item]
                for c, item in zip(codes.slots, items[row], strict=True)
            ]
            for m in codes.modalities
        ]
        expected = brute_force_score(user_codes[users[row]], outfit, codes.slots, codes)
        np.testing.assert_allclose(got[row], expected, rtol=1e-6, atol=1e-6)


def some(arrays, categories):
    return {m: tuple(of[c] for c in categories) for m, of in arrays.items()}


@pytest.mark.parametrize("which", ["binary", "asymmetric", "relaxed"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scaled": True},
        {"alphabet": "01", "hash_types": 0},
        {"zero_user_term": True},
    ],
    ids=str,
)
def test_an_outfit_scores_as_one_of_codes_with_its_slots_alone(which, changes):
    codes = shop_codes(**changes)
    latents = latents_of(codes)
    rng = np.random.default_rng(0)
    items = outfits_of(rng, codes, 600)  # more than a block
    users = rng.integers(0, codes.num_users, len(items))
    got = Scorer(codes, latents).score(which, users, items)
    for template in codes.templates:
        own = [s in template for s in range(6)]
        rows = ((items >= 0) == own).all(axis=1)
        assert rows.any()
        alone = dataclasses.replace(
            codes,
            categories=tuple(codes.categories[s] for s in template),
            slots=(),
            templates=(),
            names=None,
            items=some(codes.items, template),
            item_scales=codes.item_scales and some(codes.item_scales, template),
        )
        parts = some(latents.items, template)
        expected = Scorer(alone, Latents(parts, alone.sha256())).score(
            which, users[rows], items[rows][:, list(template)]
        )
        np.testing.assert_array_equal(got[rows], expected)


def test_outfits_of_no_template_are_named():
    codes, user = shop_codes(), np.array([0, 0])
    outfit = [0, 1, 2, -1, -1, -1]
    for wrong, text in (
        (
            [0, 1, -1, -1, -1, -1],
            r"outfit 1 has items .* expected a template, top\+bottom",
        ),
        ([-1] * 6, "outfit 1 has items .* and -1 in all other slots"),
        (
            [0, 1, 2, -2, -1, -1],
            r"row 1: dress \(slot 3\) -2 .* 0 to 4, or -1 for none",
        ),
    ):
        with pytest.raises(ValueError, match=text):
            Scorer(codes).score("binary", user, np.array([outfit, wrong]))


def test_a_top_that_stands_in_for_a_missing_one_makes_no_pair_with_itself():
    codes = random_codes(slots=(0, 0, 1, 2), zero_user_term=True)
    one_top = np.array([[1, 1, 2, 0]])
    score = Scorer(codes).score("binary", np.array([0]), one_top)
    x = {m: codes.item_codes(m) for m in codes.modalities}
    expected = np.mean(
        [
            np.mean(
                [
                    (codes.lambda_item * a * b).mean()
                    for a, b in [
                        (x[m][0][1], x[m][1][2]),
                        (x[m][0][1], x[m][2][0]),
                        (x[m][0][1], x[m][1][2]),
                        (x[m][0][1], x[m][2][0]),
                        (x[m][1][2], x[m][2][0]),
                    ]
                ]
            )
            for m in codes.modalities
        ]
    )
    np.testing.assert_allclose(score, [20 * expected], rtol=1e-5)


def test_one_category_has_no_item_term():
    user = np.ones((1, 8))
    item = [[np.ones((1, 8))]]
    ones = np.ones(8)
    assert outfit_scores(ScoreForm((0,), bits=8), user, item, ones, ones) == [10.0]


def test_two_categories_make_one_pair():
    ones = np.ones(8)
    user, top, shoe = np.ones((3, 1, 8))
    form = ScoreForm((0, 1), bits=8)
    assert form.num_pairs == 1
    assert outfit_scores(form, user, [[top, -shoe]], ones, ones) == [-10.0]


@pytest.mark.parametrize("slots", [(0, 1, 2), (0, 0, 1, 2)])
@pytest.mark.parametrize("alphabet", ["pm1", "01"])
def test_scores_equal_on_paper_tie_exactly(slots, alphabet):
    codes = random_codes(
        hash_types=0,
        alpha=1.0,
        slots=slots,
        alphabet=alphabet,
        counts=(40, 40, 40),
        names=None,
    )
    users, items = some_outfits(codes, count=5000)
    got = Scorer(codes).score("binary", users, items)
    # The numerator in integers: the score times s · pairs · bits · modalities / 10.
    s = len(slots)
    pairs = [
        (j, k) for j, k in itertools.combinations(range(s), 2) if slots[j] != slots[k]
    ]
    exact = np.zeros(len(users), np.int64)
    user_codes = codes.user_codes()[users].astype(np.int64)
    for modality in codes.to_numpy().values():
        x = [modality[c][items[:, j]].astype(np.int64) for j, c in enumerate(slots)]
        exact += len(pairs) * sum((user_codes * x[j]).sum(1) for j in range(s))
        exact += s * sum((x[j] * x[k]).sum(1) for j, k in pairs)
    by_score = np.unique(got, return_inverse=True)[1]
    by_number = np.unique(exact, return_inverse=True)[1]
    np.testing.assert_array_equal(by_score, by_number)
    assert len(np.unique(exact)) < len(exact) / 5  # there are many ties


def test_order_of_bits_does_not_change_a_score_with_learned_weights():
    codes = random_codes(bits=128)
    rng = np.random.default_rng(3)
    order = rng.permutation(128)
    shuffled = random_codes(
        bits=128,
        items={
            m: tuple(pack(a[:, order]) for a in arrays)
            for m, arrays in codes.to_numpy().items()
        },
        users=pack(codes.user_codes()[:, order]),
        lambda_user=codes.lambda_user[order],
        lambda_item=codes.lambda_item[order],
    )
    outfits = some_outfits(codes, count=500)
    np.testing.assert_array_equal(
        Scorer(codes).score("binary", *outfits),
        Scorer(shuffled).score("binary", *outfits),
    )


@pytest.mark.parametrize("which", ["binary", "asymmetric", "relaxed"])
def test_score_of_an_outfit_does_not_depend_on_its_place(which):
    codes = random_codes(bits=128, scaled=True)
    scorer = Scorer(codes, latents_of(codes))
    users, items = some_outfits(codes, count=700)
    together = scorer.score(which, users, items)
    order = np.random.default_rng(0).permutation(700)
    np.testing.assert_array_equal(
        scorer.score(which, users[order], items[order]), together[order]
    )
    for row in (0, 255, 256, 699):
        one = slice(row, row + 1)
        assert scorer.score(which, users[one], items[one]) == together[one]


def test_no_outfits_have_no_scores():
    codes = random_codes()
    users, items = some_outfits(codes, count=0)
    assert Scorer(codes).score("binary", users, items).shape == (0,)


def test_scorer_names_the_scores_it_can_give():
    codes = random_codes()
    assert Scorer(codes).which == ("binary", "asymmetric")
    assert Scorer(codes, latents_of(codes)).which[-1] == "relaxed"


def test_relaxed_score_without_latents_is_an_error():
    codes = random_codes()
    with pytest.raises(ValueError, match="needs latents.safetensors"):
        Scorer(codes).score("relaxed", *some_outfits(codes))


def test_unknown_score_is_an_error():
    codes = random_codes()
    with pytest.raises(ValueError, match="score is 'auc', expected one of"):
        Scorer(codes).score("auc", *some_outfits(codes))


def test_unknown_ids_are_named_with_the_valid_range():
    codes = random_codes()
    users, items = some_outfits(codes)
    wrong = users.copy()
    wrong[7] = 6
    with pytest.raises(ValueError, match="row 7: user 6 .* expected 0 to 5"):
        Scorer(codes).score("binary", wrong, items)
    wrong = items.copy()
    wrong[3, 1] = -1
    with pytest.raises(ValueError, match=r"row 3: bottom \(slot 1\) -1 .* 0 to 3"):
        Scorer(codes).score("binary", users, wrong)


def test_outfits_with_another_number_of_slots_are_an_error():
    codes = random_codes()
    users, items = some_outfits(codes)
    with pytest.raises(ValueError, match=r"items.shape is \(40, 2\), expected"):
        Scorer(codes).score("binary", users, items[:, :2])
