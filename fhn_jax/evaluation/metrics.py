"""Metrics of scores, the table of all of them, and bootstrap intervals. Pure numpy.

A new metric is a function and an entry of `METRICS` here: evaluation, results.json,
its text table, the report and the table of a sweep read that.

A user's outfits are given as scores of positives `p` and of negatives `n`, higher is
better. Tied scores have no order of their own: a metric is its expected value over all
orders of the tied outfits, so a tied pair counts ½. There are two exceptions, which
`METRICS` marks. The `_parity` variants give every tie to the positive, as the PyTorch
release of the method does; a scorer that ties everything then looks perfect, so they
serve comparison only. `pair_accuracy` counts a tie as wrong, again as that release; such
a scorer then looks worst.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64


def auc(pos: Float[np.ndarray, " p"], neg: Float[np.ndarray, " n"]) -> float:
    """Share of (positive, negative) pairs ranked right, a tie counts one half.

    Raises:
      ValueError: no positives, no negatives, or a score that is not finite.

    >>> auc(np.array([2.0, 1.0]), np.array([1.0, 0.0]))
    0.875
    """
    _check(pos, neg)
    order = np.sort(neg)
    below = np.searchsorted(order, pos, side="left")
    not_above = np.searchsorted(order, pos, side="right")
    return float((below + not_above).sum() / (2 * pos.size * neg.size))


def ranked_gains(
    pos: Float[np.ndarray, " p"], neg: Float[np.ndarray, " n"]
) -> Float64[np.ndarray, " m"]:
    """Expected gain at each rank, best first: the share of positives in its tie.

    Returns:
      m = p + n gains between 0 and 1 that sum to p.
    Raises:
      ValueError: no positives, no negatives, or a score that is not finite.

    >>> ranked_gains(np.array([3.0, 1.0]), np.array([1.0, 0.0]))
    array([1. , 0.5, 0.5, 0. ])
    """
    _check(pos, neg)
    _, ties, counts = np.unique(
        -np.concatenate([pos, neg]), return_inverse=True, return_counts=True
    )
    positives = np.bincount(ties[: pos.size], minlength=counts.size)
    return np.repeat(positives / counts, counts)


def ranked_gains_parity(
    pos: Float[np.ndarray, " p"], neg: Float[np.ndarray, " n"]
) -> Float64[np.ndarray, " m"]:
    """Gain at each rank, best first, with positives before the negatives they tie with.

    Returns:
      m = p + n gains, each 0 or 1.
    Raises:
      ValueError: no positives, no negatives, or a score that is not finite.

    >>> ranked_gains_parity(np.array([3.0, 1.0]), np.array([1.0, 0.0]))
    array([1., 1., 0., 0.])
    """
    _check(pos, neg)
    order = np.argsort(-np.concatenate([pos, neg]), kind="stable")
    return (order < pos.size).astype(np.float64)


def reference_discounts(m: int) -> Float64[np.ndarray, " m"]:
    """log2(max(rank, 2)) of ranks 1 to m: ranks 1 and 2 weigh the same.

    Source: Järvelin and Kekäläinen 2002, discounting from rank b = 2 on.

    >>> reference_discounts(4).round(2)
    array([1.  , 1.  , 1.58, 2.  ])
    """
    return np.log2(np.maximum(np.arange(1, m + 1), 2))


def usual_discounts(m: int) -> Float64[np.ndarray, " m"]:
    """log2(rank + 1) of ranks 1 to m.

    >>> usual_discounts(3).round(2)
    array([1.  , 1.58, 2.  ])
    """
    return np.log2(np.arange(2, m + 2))


def ndcg_curve(
    gains: Float64[np.ndarray, " m"], discounts: Float64[np.ndarray, " m"]
) -> Float64[np.ndarray, " m"]:
    """NDCG at each cutoff 1 to m, from the gain at each rank.

    The ideal ranking has all positives (the sum of the gains) on top.
    """
    num_positives = round(gains.sum())
    ideal = (np.arange(gains.size) < num_positives).astype(np.float64)
    return np.cumsum(gains / discounts) / np.cumsum(ideal / discounts)


def ndcg(pos: Float[np.ndarray, " p"], neg: Float[np.ndarray, " n"]) -> float:
    """NDCG of the paper: its mean over all cutoffs 1 to p + n, expected over ties.

    Gain 1 for a positive (2^y - 1), discount log2(max(rank, 2)).

    Raises:
      ValueError: no positives, no negatives, or a score that is not finite.

    >>> ndcg(np.array([2.0]), np.array([1.0, 0.0]))
    1.0
    """
    gains = ranked_gains(pos, neg)
    return float(ndcg_curve(gains, reference_discounts(gains.size)).mean())


def ndcg_parity(pos: Float[np.ndarray, " p"], neg: Float[np.ndarray, " n"]) -> float:
    """`ndcg` with every tie given to the positive, to compare with published figures.

    Raises:
      ValueError: no positives, no negatives, or a score that is not finite.

    >>> ndcg_parity(np.zeros(1), np.zeros(2))
    1.0
    """
    gains = ranked_gains_parity(pos, neg)
    return float(ndcg_curve(gains, reference_discounts(gains.size)).mean())


def ndcg_at_k(
    pos: Float[np.ndarray, " p"], neg: Float[np.ndarray, " n"], k: int = 10
) -> float:
    """NDCG of the k best (of all, if fewer), expected over ties.

    Gain 1 for a positive, discount log2(rank + 1); the ideal has min(k, p) positives
    on top.

    Raises:
      ValueError: k < 1, no positives, no negatives, or a score that is not finite.
    """
    _check_cutoff(k)
    gains = ranked_gains(pos, neg)
    return float(ndcg_curve(gains, usual_discounts(gains.size))[:k][-1])


def recall_at_k(
    pos: Float[np.ndarray, " p"], neg: Float[np.ndarray, " n"], k: int = 10
) -> float:
    """Share of the p positives that are among the k best, expected over ties.

    At most k / p, so it stays below 1 where there are more than k positives.

    Raises:
      ValueError: k < 1, no positives, no negatives, or a score that is not finite.

    >>> recall_at_k(np.array([3.0, 0.0]), np.array([2.0, 1.0]), k=1)
    0.5
    """
    _check_cutoff(k)
    return float(ranked_gains(pos, neg)[:k].sum() / pos.size)


def pair_accuracy(pos: Float[np.ndarray, " p"], neg: Float[np.ndarray, "p k"]) -> float:
    """Share of positives that beat a negative of their own, over all p·k pairs.

    A tie counts as wrong.

    Args:
      pos: scores of positives, of any users.
      neg: scores of the k negatives that belong to each.
    Raises:
      ValueError: no pairs, or a score that is not finite.

    >>> pair_accuracy(np.array([2.0, 1.0]), np.array([[1.0, 0.0], [1.0, 2.0]]))
    0.5
    """
    _check(pos, neg)
    return float((pos[:, None] > neg).mean())


def fitb(scores: Float[np.ndarray, "q c"]) -> float:
    """Share of questions whose answer, candidate 0, scores highest.

    An answer that ties with others for the best counts 1 / number of the best: the
    chance to be picked among them.

    Raises:
      ValueError: no questions, fewer than two candidates, or a score that is not
        finite.

    >>> fitb(np.array([[1.0, 0.0], [1.0, 1.0]]))
    0.75
    """
    _check_questions(scores)
    is_best = scores == scores.max(axis=1, keepdims=True)
    return float((is_best[:, 0] / is_best.sum(axis=1)).mean())


def fitb_parity(scores: Float[np.ndarray, "q c"]) -> float:
    """`fitb` with every tie given to the answer, to compare with published figures.

    Raises:
      ValueError: no questions, fewer than two candidates, or a score that is not
        finite.

    >>> fitb_parity(np.array([[1.0, 0.0], [1.0, 1.0]]))
    1.0
    """
    _check_questions(scores)
    return float((scores[:, 0] == scores.max(axis=1)).mean())


def bootstrap_ci95(
    per_user: Float[np.ndarray, " u"], seed: int, resamples: int = 2000
) -> tuple[float, float]:
    """95 % interval of the mean over users, by drawing users with replacement.

    Percentiles 2.5 and 97.5 of the means of the drawn samples.

    Args:
      per_user: one value per user.
      seed: of the draws; the same seed gives the same interval.
    Returns:
      lower and upper end.
    Raises:
      ValueError: no users, or a value that is not finite.
    Source: Efron and Tibshirani 1993, percentile interval.
    """
    if not per_user.size or not np.isfinite(per_user).all():
        raise ValueError(f"per_user is {per_user}, expected finite values of users")
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for number in range(resamples):
        means[number] = rng.choice(per_user, per_user.size).mean()
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Metric:
    """One column of results.json and of all tables made from it.

    Attributes:
      name: key in results.json.
      action: the command that computes it, which also decides what `function` takes:
        "evaluate-rank": the scores [p] of a user's positives and [n] of the user's
        negatives; the metric is the mean over users.
        "evaluate-accuracy": the scores [p] of all positives and [p, k] of the k
        negatives that belong to each.
        "fitb": the scores [q, c] of the candidates of all questions, the answer first.
      function: scores → a number.
      ties: what an order among tied scores counts: its "expected" value, or as if it
        favoured the "positive" or the "negative".
      label: heading of its column in the report.
      help: what it measures, as HTML; the report lists it below the table.
      interval: key in results.json of its 95 % bootstrap interval over users; "" for
        none. Only for "evaluate-rank".
      is_summary: whether the table of a sweep shows it, which has a line per run.
    """

    name: str
    action: Literal["evaluate-rank", "evaluate-accuracy", "fitb"]
    function: Callable[..., float]
    ties: Literal["expected", "positive", "negative"]
    label: str
    help: str
    interval: str = ""
    is_summary: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """Its keys in results.json."""
        return (self.name, self.interval) if self.interval else (self.name,)


# In the order of results.json and of all tables.
METRICS = (
    Metric(
        "auc",
        "evaluate-rank",
        auc,
        ties="expected",
        label="AUC",
        help="share of (liked, not liked) outfit pairs of a user in the right order; a "
        "tie counts ½; mean over users. The interval is a bootstrap over users.",
        interval="auc_ci95",
        is_summary=True,
    ),
    Metric(
        "ndcg",
        "evaluate-rank",
        ndcg,
        ties="expected",
        label="NDCG",
        help="NDCG averaged over all cutoffs, discount log2(max(rank, 2)), as in the "
        "paper; ties in expectation.",
        is_summary=True,
    ),
    Metric(
        "ndcg_parity",
        "evaluate-rank",
        ndcg_parity,
        ties="positive",
        label="NDCG parity",
        help="the same with every tie given to the liked outfit.",
        is_summary=True,
    ),
    Metric(
        "ndcg_at_10",
        "evaluate-rank",
        functools.partial(ndcg_at_k, k=10),
        ties="expected",
        label="NDCG@10",
        help="NDCG of the ten best, discount log2(rank + 1).",
    ),
    Metric(
        "recall_at_10",
        "evaluate-rank",
        functools.partial(recall_at_k, k=10),
        ties="expected",
        label="Recall@10",
        help="share of a user's liked outfits among the ten best; cannot exceed ten "
        "divided by their number.",
    ),
    Metric(
        "pair_accuracy",
        "evaluate-accuracy",
        pair_accuracy,
        ties="negative",
        label="Pair accuracy",
        help="share of liked outfits that beat a negative of their own; a tie is wrong.",
    ),
    Metric(
        "fitb",
        "fitb",
        fitb,
        ties="expected",
        label="FITB",
        help="fill in the blank: share of questions whose right answer scores highest.",
        is_summary=True,
    ),
    Metric(
        "fitb_parity",
        "fitb",
        fitb_parity,
        ties="positive",
        label="FITB parity",
        help="the same with every tie given to the answer.",
    ),
)


def _check(pos: np.ndarray, neg: np.ndarray) -> None:
    for name, scores in (("positives", pos), ("negatives", neg)):
        if not scores.size:
            raise ValueError(f"no {name}: a ranking needs at least one of each")
        if not np.isfinite(scores).all():
            row = np.flatnonzero(~np.isfinite(scores))[0]
            raise ValueError(
                f"score {row} of the {name} is {scores.ravel()[row]}, expected a "
                "finite number"
            )


def _check_cutoff(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1")


def _check_questions(scores: np.ndarray) -> None:
    if scores.shape[0] < 1 or scores.shape[1] < 2:
        raise ValueError(
            f"scores of questions have shape {scores.shape}, expected at least one "
            "question of at least two candidates"
        )
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise ValueError(
            f"question {row}, candidate {column}: score is {scores[row, column]}, "
            "expected a finite number"
        )
