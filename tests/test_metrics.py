"""Ranking metrics against hand-made values, brute force and the reference."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from fhn_jax.evaluation import metrics

GOLDEN = Path(__file__).parent / "golden"
DISCOUNTS = {
    "max": metrics.reference_discounts,
    "log": metrics.usual_discounts,
}


def golden(name):
    with np.load(GOLDEN / name, allow_pickle=False) as file:
        values = dict(file)
    pos = np.split(values["posi"], np.cumsum(values["posi_count"])[:-1])
    neg = np.split(values["nega"], np.cumsum(values["nega_count"])[:-1])
    return list(zip(pos, neg, strict=True)), values


def tie_orders(pos, neg):
    """Labels by rank, for every order that falling scores allow."""
    labelled = [(s, 1) for s in pos] + [(s, 0) for s in neg]
    for order in itertools.permutations(labelled):
        scores = [score for score, _ in order]
        if scores == sorted(scores, reverse=True):
            yield [label for _, label in order]


def slow_ndcg_at(labels, m, discount):
    def dcg(ordered):
        gains = [2**label - 1 for label in ordered[:m]]
        return sum(g / discount(r) for r, g in enumerate(gains, start=1))

    return dcg(labels) / dcg(sorted(labels, reverse=True))


def slow_ndcg(labels):
    cutoffs = range(1, len(labels) + 1)
    return np.mean(
        [slow_ndcg_at(labels, m, lambda r: math.log2(max(r, 2))) for m in cutoffs]
    )


SMALL = [
    ([3.0], [1.0]),
    ([1.0], [3.0]),
    ([1.0, 1.0], [1.0, 1.0, 1.0]),
    ([2.0, 1.0], [2.0, 1.0, 0.0, 1.0]),
    ([5.0, 2.0, 2.0], [2.0, 2.0, 7.0]),
    ([0.0, -1.0, 4.0], [-1.0, 4.0, 4.0, -2.0]),
]


@pytest.fixture(params=SMALL, ids=str)
def small(request):
    return tuple(np.array(scores) for scores in request.param)


# Against the reference.


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("metrics_*.npz")), ids=str)
def test_auc_agrees_with_the_reference(path):
    users, values = golden(path.name)
    got = np.array([metrics.auc(*user) for user in users])
    np.testing.assert_allclose(got, values["auc_per_user"], rtol=1e-12)
    np.testing.assert_allclose(got.mean(), values["auc_mean"], rtol=1e-12)


@pytest.mark.parametrize("discount", DISCOUNTS)
@pytest.mark.parametrize("path", sorted(GOLDEN.glob("metrics_*.npz")), ids=str)
def test_ndcg_parity_agrees_with_the_reference(path, discount):
    users, values = golden(path.name)
    curves = []
    for user in users:
        gains = metrics.ranked_gains_parity(*user)
        curves.append(metrics.ndcg_curve(gains, DISCOUNTS[discount](gains.size)))
    got = [curve.mean() for curve in curves]
    np.testing.assert_allclose(
        got, values[f"stable_ndcg_per_user_{discount}"], rtol=1e-12
    )
    longest = max(len(curve) for curve in curves)
    per_position = [
        np.mean([curve[m] for curve in curves if len(curve) > m])
        for m in range(longest)
    ]
    np.testing.assert_allclose(
        per_position, values[f"stable_ndcg_per_position_{discount}"], rtol=1e-12
    )


@pytest.mark.parametrize("name", ["metrics_0.npz", "metrics_2.npz"])
def test_without_ties_ndcg_is_the_reference_ndcg(name):
    users, values = golden(name)
    for function in (metrics.ndcg, metrics.ndcg_parity):
        got = [function(*user) for user in users]
        np.testing.assert_allclose(got, values["ndcg_per_user_max"], rtol=1e-12)


# Against all orders of ties.


def test_auc_counts_ties_one_half(small):
    pos, neg = small
    pairs = [(p > n) + (p == n) / 2 for p in pos for n in neg]
    assert metrics.auc(pos, neg) == pytest.approx(np.mean(pairs))


def test_ndcg_is_the_mean_over_tie_orders(small):
    expected = np.mean([slow_ndcg(labels) for labels in tie_orders(*small)])
    assert metrics.ndcg(*small) == pytest.approx(expected)


def test_ndcg_parity_is_the_best_tie_order(small):
    expected = max(slow_ndcg(labels) for labels in tie_orders(*small))
    assert metrics.ndcg_parity(*small) == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 2, 3, 10])
def test_ndcg_at_k_is_the_mean_over_tie_orders(small, k):
    cut = min(k, sum(map(len, small)))
    expected = np.mean(
        [
            slow_ndcg_at(labels, cut, lambda r: math.log2(r + 1))
            for labels in tie_orders(*small)
        ]
    )
    assert metrics.ndcg_at_k(*small, k) == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 2, 3, 10])
def test_recall_at_k_is_the_mean_over_tie_orders(small, k):
    expected = np.mean([sum(labels[:k]) / sum(labels) for labels in tie_orders(*small)])
    assert metrics.recall_at_k(*small, k) == pytest.approx(expected)


def test_expected_gains_are_the_mean_over_tie_orders(small):
    expected = np.mean(list(tie_orders(*small)), axis=0)
    np.testing.assert_allclose(metrics.ranked_gains(*small), expected)


# Properties.


@pytest.mark.parametrize("seed", range(20))
def test_ranking_metrics_depend_on_the_order_alone(seed):
    rng = np.random.default_rng(seed)
    pos = rng.integers(0, 6, rng.integers(1, 9)).astype(np.float64)
    neg = rng.integers(0, 6, rng.integers(1, 40)).astype(np.float64)
    for function in (metrics.auc, metrics.ndcg, metrics.ndcg_at_k, metrics.recall_at_k):
        value = function(pos, neg)
        assert 0 <= value <= 1
        shuffled = function(rng.permutation(pos), rng.permutation(neg))
        assert function(np.exp(pos), np.exp(neg)) == value == shuffled


@pytest.mark.parametrize("seed", range(20))
def test_auc_of_swapped_roles_is_the_rest_to_one(seed):
    rng = np.random.default_rng(seed)
    pos, neg = rng.integers(0, 5, 7) * 1.0, rng.integers(0, 5, 30) * 1.0
    assert metrics.auc(pos, neg) + metrics.auc(neg, pos) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(20))
def test_parity_flatters(seed):
    rng = np.random.default_rng(seed)
    pos, neg = rng.integers(0, 5, 7) * 1.0, rng.integers(0, 5, 30) * 1.0
    assert metrics.ndcg_parity(pos, neg) >= metrics.ndcg(pos, neg)


def test_a_scorer_that_ties_everything_is_at_chance():
    pos, neg = np.zeros(3), np.zeros(9)
    assert metrics.auc(pos, neg) == 0.5
    assert metrics.recall_at_k(pos, neg, 4) == pytest.approx(4 / 12)
    assert metrics.ndcg_parity(pos, neg) == 1.0  # why parity alone does not do
    assert metrics.ndcg(pos, neg) < 0.7
    questions = np.zeros((5, 4))
    assert metrics.fitb(questions) == 0.25
    assert metrics.fitb_parity(questions) == 1.0


def test_a_perfect_ranking_scores_one():
    pos, neg = np.array([3.0, 2.0]), np.array([1.0, 0.0, -5.0])
    for function in (metrics.auc, metrics.ndcg, metrics.ndcg_parity):
        assert function(pos, neg) == 1.0
    assert metrics.ndcg_at_k(pos, neg) == metrics.recall_at_k(pos, neg) == 1.0


def test_recall_at_k_cannot_exceed_k_over_the_positives():
    assert metrics.recall_at_k(np.full(30, 2.0), np.zeros(300)) == pytest.approx(1 / 3)


def test_float32_scores_are_taken_as_they_are():
    pos, neg = np.array([0.1], np.float32), np.array([0.1], np.float64)
    assert metrics.auc(pos, pos) == 0.5
    assert metrics.auc(pos, neg) == 1.0  # float32(0.1) is above 0.1


# Pairs and questions.


def test_pair_accuracy_counts_a_tie_as_wrong():
    pos = np.array([2.0, 1.0])
    neg = np.array([[1.0, 2.0, 3.0], [0.0, 0.5, 1.0]])
    assert metrics.pair_accuracy(pos, neg) == 0.5


def test_fitb_shares_a_tie_among_the_best():
    scores = np.array(
        [
            [3.0, 1.0, 2.0, 0.0],  # right
            [1.0, 3.0, 2.0, 0.0],  # wrong
            [2.0, 2.0, 1.0, 0.0],  # one of two
            [1.0, 1.0, 1.0, 1.0],  # one of four
            [1.0, 2.0, 2.0, 0.0],  # a tie without the answer: wrong
        ]
    )
    assert metrics.fitb(scores) == pytest.approx((1 + 0 + 1 / 2 + 1 / 4 + 0) / 5)
    assert metrics.fitb_parity(scores) == pytest.approx(3 / 5)


# The table of metrics.


@pytest.mark.parametrize("metric", metrics.METRICS, ids=lambda metric: metric.name)
def test_ties_count_what_the_table_says(metric):
    def value(pos, neg):
        given = {
            "evaluate-rank": (pos, neg),
            "evaluate-accuracy": (pos, neg.reshape(2, 6)),
            "fitb": (np.column_stack([pos, neg.reshape(2, 6)]),),
        }
        return metric.function(*given[metric.action])

    rng = np.random.default_rng(0)
    orders = [rng.permutation(np.arange(14.0)) for _ in range(2000)]
    expected = {
        "expected": np.mean([value(order[:2], order[2:]) for order in orders]),
        "positive": value(np.ones(2), np.zeros(12)),
        "negative": value(np.zeros(2), np.ones(12)),
    }
    assert expected["positive"] - 0.1 > expected["expected"]
    assert expected["expected"] > expected["negative"] + 0.1
    tied = value(np.ones(2), np.ones(12))
    assert tied == pytest.approx(expected[metric.ties], abs=0.03)


def test_every_metric_has_fields_and_words_of_its_own():
    fields = [field for metric in metrics.METRICS for field in metric.fields]
    assert len(fields) == len(set(fields))
    for texts in zip(*((m.label, m.help) for m in metrics.METRICS), strict=True):
        assert all(texts) and len(texts) == len(set(texts))


# Bootstrap.


def test_bootstrap_is_the_same_for_the_same_seed():
    values = np.random.default_rng(0).random(40)
    assert metrics.bootstrap_ci95(values, 1) == metrics.bootstrap_ci95(values, 1)
    assert metrics.bootstrap_ci95(values, 1) != metrics.bootstrap_ci95(values, 2)


def test_bootstrap_interval_is_about_two_standard_errors_each_way():
    values = np.random.default_rng(0).normal(0.8, 0.1, 400)
    low, high = metrics.bootstrap_ci95(values, 0)
    error = values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=error / 6)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=error / 6)


def test_bootstrap_of_one_user_is_that_user():
    assert metrics.bootstrap_ci95(np.array([0.7]), 0) == pytest.approx((0.7, 0.7))


# Bad input.

RANKING = (
    metrics.auc,
    metrics.ndcg,
    metrics.ndcg_parity,
    metrics.ndcg_at_k,
    metrics.recall_at_k,
)


@pytest.mark.parametrize("function", RANKING)
def test_a_ranking_needs_positives_and_negatives(function):
    with pytest.raises(ValueError, match="no positives: a ranking needs"):
        function(np.zeros(0), np.zeros(3))
    with pytest.raises(ValueError, match="no negatives: a ranking needs"):
        function(np.zeros(3), np.zeros(0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("function", RANKING)
def test_scores_that_are_not_finite_are_an_error(function, bad):
    with pytest.raises(ValueError, match="score 1 of the positives is -?(nan|inf)"):
        function(np.array([0.0, bad]), np.zeros(3))
    with pytest.raises(ValueError, match="score 0 of the negatives is -?(nan|inf)"):
        function(np.zeros(3), np.array([bad]))


def test_pairs_and_questions_must_be_finite():
    with pytest.raises(ValueError, match="score 3 of the negatives is nan"):
        metrics.pair_accuracy(np.zeros(2), np.array([[0.0, 0.0], [0.0, np.nan]]))
    for function in (metrics.fitb, metrics.fitb_parity):
        with pytest.raises(ValueError, match="question 1, candidate 0: score is inf"):
            function(np.array([[0.0, 1.0], [np.inf, 0.0]]))


def test_questions_need_two_candidates():
    for shape in ((0, 4), (3, 1)):
        with pytest.raises(ValueError, match="at least one question of at least two"):
            metrics.fitb(np.zeros(shape))


def test_cutoffs_start_at_one():
    for function in (metrics.ndcg_at_k, metrics.recall_at_k):
        with pytest.raises(ValueError, match="k is 0, expected at least 1"):
            function(np.zeros(2), np.zeros(2), 0)


def test_bootstrap_needs_finite_values_of_users():
    for values in (np.zeros(0), np.array([1.0, np.nan])):
        with pytest.raises(ValueError, match="expected finite values of users"):
            metrics.bootstrap_ci95(values, 0)
