"""Metrics of lists: of all stored outfits, the k best for each user. Pure numpy.

A new metric is a function and an entry of `LIST_METRICS`. A list is ranked; equal scores
have been put in order by whoever ranked (here: the outfit that is stored first).
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int

from fhn_jax.evaluation.metrics import usual_discounts


@dataclasses.dataclass(frozen=True, eq=False)
class Lists:
    """What each user was recommended, and what of it is right.

    Attributes:
      hits: of each user [k_u] which recommendations are liked; k_u < k where no more
        outfits were left.
      liked: of each user how many outfits could have been found, at least 1.
      items: of each user the items of the recommendations [k_u, s], as global ids, -1
        in a slot that an outfit does not have.
      k: how many were asked for.
      num_items: of the catalogue.
      popularity: of each item the share of users who like a training outfit with it,
        float64 [num_items].
      distance: of two arrays of items [n], global ids of one category each pair, to the
        share of bits that differ [n].
    """

    hits: Sequence[Bool[np.ndarray, " _"]]
    liked: Int[np.ndarray, " u"]
    items: Sequence[Int[np.ndarray, "_ s"]]
    k: int
    num_items: int
    popularity: Float64[np.ndarray, " _"]
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray]


def precision(lists: Lists) -> float:
    """Share of the k recommendations that are liked, mean over users."""
    return float(np.mean([hits.sum() / lists.k for hits in lists.hits]))


def recall(lists: Lists) -> float:
    """Share of a user's liked outfits that are recommended, mean over users."""
    found = [hits.sum() for hits in lists.hits]
    return float(np.mean(np.array(found) / lists.liked))


def hit_rate(lists: Lists) -> float:
    """Share of users with a liked outfit among the recommendations."""
    return float(np.mean([hits.any() for hits in lists.hits]))


def mrr(lists: Lists) -> float:
    """Reciprocal rank of the first liked outfit, 0 if none is recommended."""
    ranks = [hits.argmax() + 1 if hits.any() else np.inf for hits in lists.hits]
    return float(np.mean(1 / np.array(ranks, np.float64)))


def ndcg(lists: Lists) -> float:
    """NDCG of the k best: gain 1, discount log2(rank + 1), ideal min(k, liked) on top.

    Source: Järvelin and Kekäläinen 2002.
    """
    weights = 1 / usual_discounts(lists.k)
    ideal = np.cumsum(weights)[np.minimum(lists.liked, lists.k) - 1]
    gained = [weights[: len(hits)][hits].sum() for hits in lists.hits]
    return float(np.mean(gained / ideal))


def coverage(lists: Lists) -> float:
    """Share of the catalogue's items that are recommended to anybody."""
    return len(_recommended(lists, unique=True)) / lists.num_items


def diversity(lists: Lists) -> float:
    """Mean share of bits in which items of two outfits of a list differ, slot by slot.

    Over pairs of outfits and the slots that both have; 0 where a list repeats the same
    items, about ½ for unrelated ones. Lists without such a pair do not count.

    Source: intra-list distance, Ziegler et al. 2005.
    """
    values = []
    for items in lists.items:
        a, b = np.triu_indices(len(items), 1)
        both = (items[a] >= 0) & (items[b] >= 0)
        if both.any():
            values.append(lists.distance(items[a][both], items[b][both]).mean())
    return float(np.mean(values)) if values else 0.0


def novelty(lists: Lists) -> float:
    """Mean of -log2 of the popularity of recommended items, in bits.

    An item that nobody likes counts as half as popular as the least popular other one.

    Source: mean self-information, Vargas and Castells 2011.
    """
    known = lists.popularity[lists.popularity > 0]
    least = known.min() / 2 if known.size else 0.5
    popularity = np.maximum(lists.popularity[_recommended(lists)], least)
    return float(-np.log2(popularity).mean()) if popularity.size else 0.0


def popularity_bias(lists: Lists) -> float:
    """How popular recommended items are, relative to the mean of the catalogue.

    1 where popularity plays no part.
    """
    mean = lists.popularity.mean()
    found = lists.popularity[_recommended(lists)]
    return float(found.mean() / mean) if mean > 0 and found.size else 0.0


def _recommended(lists: Lists, unique: bool = False) -> Int[np.ndarray, " n"]:
    items = np.concatenate([each.ravel() for each in lists.items])
    items = items[items >= 0]
    return np.unique(items) if unique else items


@dataclasses.dataclass(frozen=True)
class ListMetric:
    """One column of the table of lists.

    Attributes:
      name: key in results.json.
      function: computes it.
      label: heading; `{k}` stands for the length of the lists.
      help: what it measures, one line.
      of_likes: whether it depends on what is liked, and so has a value by segment.
    """

    name: str
    function: Callable[[Lists], float]
    label: str
    help: str
    of_likes: bool = True


LIST_METRICS = (
    ListMetric(
        "hit_rate",
        hit_rate,
        "Hit@{k}",
        "share of users with a liked outfit in the list",
    ),
    ListMetric(
        "precision", precision, "Precision@{k}", "share of the list that is liked"
    ),
    ListMetric(
        "recall", recall, "Recall@{k}", "share of a user's liked outfits in the list"
    ),
    ListMetric("mrr", mrr, "MRR@{k}", "1 / rank of the first liked outfit"),
    ListMetric("ndcg", ndcg, "NDCG@{k}", "gain 1, discount log2(rank + 1)"),
    ListMetric(
        "coverage",
        coverage,
        "Coverage",
        "share of all items that anybody is shown",
        of_likes=False,
    ),
    ListMetric(
        "diversity",
        diversity,
        "Diversity",
        "share of bits in which outfits of a list differ",
        of_likes=False,
    ),
    ListMetric(
        "novelty", novelty, "Novelty", "-log2 of the items' popularity", of_likes=False
    ),
    ListMetric(
        "popularity_bias",
        popularity_bias,
        "Popularity",
        "of shown items, relative to the mean",
        of_likes=False,
    ),
)
