"""How good learners of new users are: clicks drawn from training outfits, and scores."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from fhn_jax.codes import Codes
from fhn_jax.data.catalogue import Catalogue, Outfits
from fhn_jax.errors import InputError
from fhn_jax.evaluation import evaluators as evaluation
from fhn_jax.new_users import BprFit, Learner, RandomCode, Similarity

# Likes a user has when the learners are compared.
LIKES = (1, 3, 10, 30, 100)
# The studies of the fork: weights of the similarity code, and how much of a user's
# training outfits is needed.
BETAS = tuple(np.round(np.arange(0, 1.01, 0.1), 1).tolist())
EPSILONS = (0.0, 0.25, 0.5, 0.75, 1.0)
SIZES = (
    ("100 %", 1.0, None),
    ("10 %", 0.1, None),
    ("5 %", 0.05, None),
    ("5 %, 20 negatives", 0.05, 20),
)
_FIGURES = ("auc", "auc_hard", "fitb")


def learners(
    codes: Codes,
    known: Catalogue,
    items: Codes,
    *,
    beta: float,
    epsilon: float,
    strength: float,
    shrinkage: float,
) -> dict[str, Learner]:
    """The learners by name.

    Args:
      codes: of the base run.
      known: its data; the known users' likes and dislikes are of the train split.
      items: codes of the new users' items, with the users of the base run.
      beta, epsilon: of the similarity code.
      strength, shrinkage: of the fit.
    Raises:
      KeyError: the train split has no random negatives.
      ValueError: an option out of range.
    """
    train = known.splits["train"]
    train.ratio("random")
    return {
        "fit": BprFit(items, strength=strength, shrinkage=shrinkage),
        "similarity": Similarity(
            items,
            train.positives,
            train.negatives["random"],
            beta=beta,
            epsilon=epsilon,
            known=codes,
        ),
        "random": RandomCode(items),
    }


def draw_clicks(
    catalogue: Catalogue,
    likes: int | Int[np.ndarray, " u"],
    dislikes: int | None = None,
    *,
    most_dislikes: int | None = None,
    seed: int = 0,
) -> tuple[Outfits, Outfits]:
    """Some training outfits of every user, as clicks.

    Args:
      likes: of each user, drawn from the training positives; all if there are fewer.
      dislikes: random negatives of each of these positives; by default all.
      most_dislikes: of each user; by default all of these.
      seed: of the draw.
    Raises:
      KeyError: the train split has no random negatives.
      ValueError: it has fewer of a positive; no likes.
    """
    train = catalogue.splits["train"]
    ratio = train.ratio("random")
    dislikes = ratio if dislikes is None else dislikes
    if not 0 <= dislikes <= ratio or np.min(likes) < 1:
        raise InputError(
            f"likes={likes}, dislikes={dislikes}: expected at least one like, and 0 to "
            f"{ratio} dislikes of each, as many as tuples_train_nega has"
        )
    rng = np.random.default_rng(seed)
    users = train.positives.users
    order = rng.permutation(len(users))
    order = order[np.argsort(users[order], kind="stable")]
    wanted = np.broadcast_to(likes, catalogue.num_users)[users[order]]
    rows = np.sort(order[_number_within(users[order]) < wanted])
    negatives = (rows[:, None] * ratio + np.arange(dislikes)).ravel()
    if most_dislikes is not None:
        users = train.negatives["random"].users[negatives]
        # Sorted by user, so that numbers within a user count up.
        negatives = negatives[np.argsort(users, kind="stable")]
        negatives = negatives[_number_within(np.sort(users)) < most_dislikes]
    disliked = train.negatives["random"]
    return (
        Outfits(train.positives.users[rows], train.positives.items[rows]),
        Outfits(disliked.users[negatives], disliked.items[negatives]),
    )


def _number_within(users: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """0, 1, 2, … for the rows of each user, which are together."""
    return np.arange(len(users)) - np.searchsorted(users, users)


def evaluate(
    learners: Mapping[str, Learner],
    catalogue: Catalogue,
    split: str = "test",
    *,
    likes: Sequence[int] = LIKES,
    dislikes: int = 2,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Compares learners on users with few clicks.

    Args:
      learners: by name, on codes of the items of `catalogue`.
      catalogue: data of the new users; clicks are drawn from its training outfits.
      split: to evaluate on.
      likes: numbers of likes of a user to compare at; those that no user has are left
        out, but for the smallest.
      dislikes: to each like.
      seed: of the draw.
    Returns:
      a row for each number of likes and learner: {"method", "likes", "dislikes",
      "seconds_per_user", "scores", and "hard" if there are hard negatives}; scores as
      in results.json.
    Raises:
      ValueError: other items, or as `draw_clicks` and `fhn_jax.evaluation.evaluators.evaluate`.
    """
    most = int(np.bincount(catalogue.splits["train"].positives.users).max())
    rows = []
    for count in sorted({min(n, most) for n in likes}):
        liked, disliked = draw_clicks(catalogue, count, dislikes, seed=seed)
        for name, learner in learners.items():
            started = time.perf_counter()
            users = learner.fit(liked, disliked, catalogue.num_users)
            seconds = time.perf_counter() - started
            codes = users.into(learner.codes, catalogue)
            results = evaluation.evaluate(codes, catalogue, split)
            rows.append(
                {
                    "method": name,
                    "likes": count,
                    "dislikes": count * dislikes,
                    "seconds_per_user": seconds / len(users),
                    **{k: results[k] for k in ("scores", "hard") if k in results},
                }
            )
    return rows


def study(
    learners: Mapping[str, Learner], catalogue: Catalogue, split: str
) -> dict[str, Any]:
    """The fork's studies of the similarity code, and all learners by their clicks.

    Args:
      learners: from `learners`.
      catalogue: of the new users.
      split: to evaluate on.
    Returns:
      {"dataset", "split", "users", "sweep": rows of beta and epsilon, "sizes": rows of
      size and method, "likes": rows of likes and method}; each row has "auc",
      "auc_hard" (if there are hard negatives) and "fitb" (if there are questions) of
      the binary score.
    """
    train = catalogue.splits["train"]
    train.ratio("random")
    everything = train.positives, train.negatives["random"]
    similarity = learners["similarity"]
    assert isinstance(similarity, Similarity)
    sweep = [
        {"beta": beta, "epsilon": epsilon}
        | _measure(similarity.weighted(beta, epsilon), *everything, catalogue, split)
        for beta in BETAS
        for epsilon in EPSILONS
    ]
    own = np.bincount(train.positives.users, minlength=catalogue.num_users)
    sizes = []
    for name, share, most in SIZES:
        counts = np.maximum(np.rint(share * own).astype(int), 1)
        clicks = draw_clicks(catalogue, counts, most_dislikes=most)
        sizes += [
            {"size": name, "method": method}
            | _measure(learner, *clicks, catalogue, split)
            for method, learner in learners.items()
        ]
    likes = [
        {"likes": row["likes"], "method": row["method"]} | _figures(row)
        for row in evaluate(
            learners, catalogue, split, dislikes=min(2, train.ratio("random"))
        )
    ]
    return {
        "dataset": catalogue.dataset,
        "split": split,
        "users": catalogue.num_users,
        "sweep": sweep,
        "sizes": sizes,
        "likes": likes,
    }


def format_study(study: Mapping[str, Any]) -> str:
    """The study as aligned text tables."""
    parts = [f"{study['dataset']}, {study['split']} split: {study['users']:,} users"]
    for key in ("sweep", "sizes", "likes"):
        rows = study[key]
        table = [list(rows[0])]
        table += [
            [f"{v:.4f}" if name in _FIGURES else str(v) for name, v in row.items()]
            for row in rows
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        parts.append(
            "\n".join(
                "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True))
                for row in table
            )
        )
    return "\n\n".join(parts)


def _measure(learner, likes, dislikes, catalogue, split):
    users = learner.fit(likes, dislikes, catalogue.num_users)
    return _figures(
        evaluation.evaluate(users.into(learner.codes, catalogue), catalogue, split)
    )


def _figures(results: Mapping[str, Any]) -> dict[str, float]:
    """The binary figures of results.json."""
    binary = results["scores"]["binary"]
    figures = {"auc": binary["auc"]}
    if "hard" in results:
        figures["auc_hard"] = results["hard"]["binary"]["auc"]
    if "fitb" in binary:
        figures["fitb"] = binary["fitb"]
    return figures
