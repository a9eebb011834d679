"""Ranking the whole catalogue: of all stored outfits, which are shown to a user?

Candidates of a user are all outfits that are somebody's positive in any split, but those
that are the user's own positives in the other splits. Right are the user's positives in
this one. The model's lists come from exact search over its codes; baselines rank the
same candidates (`fhn_jax.evaluation.baselines`). Of equal scores the outfit that is
stored first comes first, whoever ranks.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32

from fhn_jax.codes import Codes
from fhn_jax.data.catalogue import Catalogue, stored_outfits, template_masks
from fhn_jax.errors import InputError
from fhn_jax.evaluation import baselines, metrics
from fhn_jax.evaluation.baselines import Values
from fhn_jax.evaluation.evaluators import check_same_data, part_of, scores_by_user
from fhn_jax.evaluation.top_k import LIST_METRICS, Lists

# Users with no more training positives than this quantile are those of few likes.
_FEW = 0.25
_SCORES = ("binary", "asymmetric")
_AT_ONCE = 64
_BITS = np.array([value.bit_count() for value in range(256)], np.uint8)


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """What is ranked for the users of a split.

    Attributes:
      outfits: all that are stored, ids within the category of the slot, -1 for none.
      users: those with positives in the split, sorted.
      liked: of each of them the ids of right outfits, sorted.
      known: of each the ids of outfits that are left out, sorted.
    """

    outfits: Int[np.ndarray, "m s"]
    users: Int32[np.ndarray, " u"]
    liked: Sequence[Int[np.ndarray, " _"]]
    known: Sequence[Int[np.ndarray, " _"]]

    @classmethod
    def of(cls, catalogue: Catalogue, split: str) -> "Candidates":
        """Those of a split.

        An outfit that is a user's positive in several splits is left out.
        """
        outfits = stored_outfits(catalogue)
        positives = {
            name: (part.positives.users, _find(outfits, part.positives.items))
            for name, part in catalogue.splits.items()
        }
        users = np.unique(positives[split][0])
        known = [np.empty(0, np.int64)] * len(users)
        others = [found for name, found in positives.items() if name != split]
        if others:
            owners, ids = map(np.concatenate, zip(*others, strict=True))
            known = [np.unique(ids[owners == user]) for user in users]
        owners, ids = positives[split]
        liked = [
            np.setdiff1d(ids[owners == user], left_out)
            for user, left_out in zip(users, known, strict=True)
        ]
        everybody = cls(outfits, users, liked, known)
        return everybody.of_users([len(each) > 0 for each in liked])

    def among(self, mask: Bool[np.ndarray, " m"]) -> "Candidates":
        """The same with some of the outfits right alone; users need one of them."""
        liked = [ids[mask[ids]] for ids in self.liked]
        return self.of_users([len(ids) > 0 for ids in liked], liked)

    def of_users(
        self, mask: Sequence[bool], liked: Sequence[np.ndarray] | None = None
    ) -> "Candidates":
        """The same of some users."""
        some = np.flatnonzero(mask).tolist()
        liked = self.liked if liked is None else liked
        return Candidates(
            self.outfits,
            self.users[some],
            [liked[place] for place in some],
            [self.known[place] for place in some],
        )


# Best first: ids of at most k outfits for each user.
Ranking = list[Int[np.ndarray, " _"]]


def evaluate_catalogue(
    codes: Codes,
    catalogue: Catalogue,
    split: str = "test",
    *,
    k: int = 10,
    vectors: Float32[np.ndarray, "n f"] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Ranks the whole catalogue by a model and by baselines, for the users of a split.

    Args:
      codes: the model's, of `catalogue`.
      catalogue: the data.
      split: whose positives are right.
      k: length of the lists.
      vectors: of all items by global id, for the baselines that need them.
      seed: of the baselines.
    Returns:
      {"k", "candidates", "users", "scores": {ranker: {metric: value}}, "segments":
      {segment: {"users", "scores": the same for metrics of likes}}, "negatives": {kind:
      {baseline: {"auc", "ndcg_at_10"}}}, "fitb": {baseline: value}, "left_out"}.
      Rankers are "binary", "asymmetric" and the baselines. Segments are "new items":
      right outfits with an item that no training positive has; "few likes": users in the
      lowest quarter of training positives; and each template. A segment in which
      everything is right that is right anyway is not listed.
      "negatives" and "fitb" are the baselines' own on the files' negatives and
      questions, as `evaluators.evaluate` computes them for the model.
    Raises:
      InputError: codes of other data, an unknown split, k < 1, or no user of the split
        has an outfit that is not one of the others' too.
    """
    check_same_data(codes, catalogue)
    part = part_of(catalogue, split)
    if k < 1:
        raise InputError(f"k={k}: expected at least 1")
    candidates = Candidates.of(catalogue, split)
    if not len(candidates.users):
        raise InputError(
            f"{catalogue.root}: every positive of the {split} split is one of the same "
            "user in another split too; there is nothing left to find"
        )
    found = baselines.baselines(catalogue, vectors, seed)
    rankings = {name: _by_codes(codes, candidates, k, name) for name in _SCORES}
    rankings |= {
        name: _by_values(values, catalogue, candidates, k)
        for name, values in found.items()
    }
    popularity, distance = baselines.popularity(catalogue), _distance(codes)

    def lists(some: Candidates, ranking: Ranking) -> Lists:
        place = np.searchsorted(candidates.users, some.users)
        mine = [ranking[p] for p in place]
        return Lists(
            hits=[np.isin(ids, of) for ids, of in zip(mine, some.liked, strict=True)],
            liked=np.array([len(of) for of in some.liked]),
            items=[catalogue.global_ids(some.outfits[ids]) for ids in mine],
            k=k,
            num_items=catalogue.num_items,
            popularity=popularity,
            distance=distance,
        )

    def table(some: Candidates, everything: bool) -> dict[str, dict[str, float]]:
        made = {name: lists(some, ranking) for name, ranking in rankings.items()}
        wanted = [m for m in LIST_METRICS if everything or m.of_likes]
        return {
            name: {metric.name: metric.function(each) for metric in wanted}
            for name, each in made.items()
        }

    segments = {
        name: {"users": len(some.users), "scores": table(some, everything=False)}
        for name, some in _segments(catalogue, candidates).items()
        if len(some.users) and _total(some) < _total(candidates)
    }
    results: dict[str, Any] = {
        "k": k,
        "candidates": len(candidates.outfits),
        "users": len(candidates.users),
        "scores": table(candidates, everything=True),
        "segments": segments,
        "negatives": {},
        "left_out": baselines.describe(found),
    }
    for kind, negatives in part.negatives.items():
        results["negatives"][kind] = {}
        for name, values in found.items():
            scores = [
                baselines.outfit_scores(values, catalogue, some.users, some.items)
                for some in (part.positives, negatives)
            ]
            each = scores_by_user(part, kind, *scores).values()
            results["negatives"][kind][name] = {
                "auc": float(np.mean([metrics.auc(*user) for user in each])),
                "ndcg_at_10": float(
                    np.mean([metrics.ndcg_at_k(*user) for user in each])
                ),
            }
    if questions := catalogue.fitb.get(split):
        count, choices, slots = questions.items.shape
        users = np.repeat(questions.users, choices)
        items = questions.items.reshape(-1, slots)
        results["fitb"] = {
            name: metrics.fitb(
                baselines.outfit_scores(values, catalogue, users, items).reshape(
                    count, choices
                )
            )
            for name, values in found.items()
        }
    return results


def _total(some: Candidates) -> int:
    """How many outfits are right, for all users together."""
    return sum(map(len, some.liked))


def _segments(catalogue: Catalogue, candidates: Candidates) -> dict[str, Candidates]:
    train = catalogue.splits["train"].positives
    counts = np.bincount(train.users, minlength=catalogue.num_users)
    few = counts[candidates.users] <= np.quantile(counts, _FEW)
    seen = np.zeros(catalogue.num_items + 1, bool)  # the last for no item
    seen[catalogue.global_ids(train.items)] = True
    seen[-1] = True
    known = seen[catalogue.global_ids(candidates.outfits)]
    segments = {
        "new items": candidates.among(np.asarray(~known.all(axis=1))),
        "few likes": candidates.of_users(few.tolist()),
    }
    if len(catalogue.templates) > 1:
        masks = template_masks(candidates.outfits)
        for template in catalogue.templates:
            mask = sum(1 << slot for slot in template)
            name = catalogue.template_name(template)
            segments[name] = candidates.among(np.isin(masks, mask))
    return segments


def _by_codes(codes: Codes, candidates: Candidates, k: int, score: str) -> Ranking:
    # Here, so that evaluation without it needs no numba.
    from fhn_jax.retrieval.filters import ExcludeOutfits
    from fhn_jax.retrieval.searcher import Searcher

    searcher = Searcher.in_memory(codes, candidates.outfits)
    filters = [[ExcludeOutfits(known)] for known in candidates.known]
    hits = searcher.search_batch(candidates.users, k, score=score, filters=filters)
    return [each.outfits for each in hits]


def _by_values(
    values: Values, catalogue: Catalogue, candidates: Candidates, k: int
) -> Ranking:
    outfits = catalogue.global_ids(candidates.outfits)
    ranking: Ranking = []
    for start in range(0, len(candidates.users), _AT_ONCE):
        users = candidates.users[start : start + _AT_ONCE]
        known = candidates.known[start : start + _AT_ONCE]
        for worth, left_out in zip(values(users), known, strict=True):
            scores = baselines.mean_of_items(worth, outfits)
            scores[left_out] = -np.inf
            ranking.append(_best(scores, min(k, len(scores) - len(left_out))))
    return ranking


def _best(scores: Float64[np.ndarray, " m"], k: int) -> Int[np.ndarray, " k"]:
    """Places of the k best; of equal scores the first."""
    if k == 0:
        return np.empty(0, np.int64)
    kth = np.partition(scores, len(scores) - k)[len(scores) - k]
    some = np.flatnonzero(scores >= kth)
    return some[np.argsort(-scores[some], kind="stable")][:k]


def _find(
    outfits: Int[np.ndarray, "m s"], rows: Int[np.ndarray, "n s"]
) -> Int[np.ndarray, " n"]:
    """Where outfits are among sorted, different ones."""
    places = {row: place for place, row in enumerate(map(tuple, outfits.tolist()))}
    return np.array([places[row] for row in map(tuple, rows.tolist())], np.int64)


def _distance(codes: Codes) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """See `Lists.distance`."""
    of_modalities = [np.concatenate(codes.items[m]) for m in codes.modalities]
    packed = np.concatenate(of_modalities, axis=1)
    return lambda a, b: _BITS[packed[a] ^ packed[b]].mean(axis=1) / 8


def format_table(results: Mapping[str, Any]) -> str:
    """Aligned text tables of what `evaluate_catalogue` returns."""
    k = results["k"]
    lines = [
        f"The {k} best of {results['candidates']:,} outfits for {results['users']:,} "
        "users"
    ]
    lines += _rows(results["scores"], k)
    for name, segment in results["segments"].items():
        lines += ["", f"{name}: {segment['users']:,} users"]
        lines += _rows(segment["scores"], k)
    return "\n".join(lines)


def _rows(scores: Mapping[str, Mapping[str, float]], k: int) -> list[str]:
    labels = {metric.name: metric.label.format(k=k) for metric in LIST_METRICS}
    width = max(map(len, scores))
    columns = next(iter(scores.values()))
    head = "  ".join(labels[column] for column in columns)
    lines = [f"{'':{width}}  {head}"]
    for name, values in scores.items():
        cells = (
            f"{value:{len(labels[column])}.4f}" for column, value in values.items()
        )
        lines.append("  ".join([f"{name:{width}}", *cells]))
    return lines
