"""Ranking of the whole catalogue, and the baselines beside it."""

import json
import sys
import tracemalloc
import types

import numpy as np
import pytest

from fhn_jax import files
from fhn_jax.cli import compare
from fhn_jax.codes import Scorer
from fhn_jax.data.catalogue import stored_outfits, template_masks
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.evaluation import baselines, top_k
from fhn_jax.evaluation.catalogue_ranking import (
    Candidates,
    evaluate_catalogue,
    format_table,
)
from fhn_jax.evaluation.top_k import LIST_METRICS, Lists
from tests.catalogues import catalogue as small_catalogue
from tests.polyvore_u import write_polyvore_u
from tests.random_codes import codes_of
from tests.shapes import write_shapes

K = 15


@pytest.fixture(scope="module", params=["one template", "four templates"])
def catalogue(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "tiny"
    write = write_polyvore_u if request.param == "one template" else write_shapes
    return read_catalogue(write(root), "8")


@pytest.fixture(scope="module")
def vectors(catalogue):
    rng = np.random.default_rng(1)
    return rng.normal(size=(catalogue.num_items, 12)).astype(np.float32)


def slow_lists(catalogue, scores_of):
    """Best outfits of each test user, by scoring every outfit and sorting."""
    outfits = stored_outfits(catalogue)
    keys = list(map(tuple, outfits.tolist()))
    found = {}
    test = catalogue.splits["test"].positives
    for user in sorted(set(test.users.tolist())):
        mine = {
            name: {
                tuple(row)
                for row, owner in zip(
                    part.positives.items.tolist(), part.positives.users, strict=True
                )
                if owner == user
            }
            for name, part in catalogue.splits.items()
        }
        known = mine["train"] | mine.get("val", set())
        scores = scores_of(user, outfits)
        order = sorted(range(len(keys)), key=lambda i: (-scores[i], i))
        best = [i for i in order if keys[i] not in known][:K]
        found[user] = (
            [keys[i] in mine["test"] for i in best],
            len(mine["test"] - known),
            outfits[best],
        )
    return found


def expected(catalogue, found):
    """Metrics of likes, by loops."""
    hits = [each[0] for each in found.values()]
    liked = [each[1] for each in found.values()]
    ideal = [sum(1 / np.log2(r + 2) for r in range(min(n, K))) for n in liked]
    gains = [sum(h / np.log2(r + 2) for r, h in enumerate(of)) for of in hits]
    first = [next((1 / (r + 1) for r, h in enumerate(of) if h), 0.0) for of in hits]
    items = {
        (slot, item)
        for _, _, outfits in found.values()
        for row in outfits.tolist()
        for slot, item in zip(
            (catalogue.slots[s] for s in range(len(row))), row, strict=True
        )
        if item >= 0
    }
    return {
        "hit_rate": np.mean([any(of) for of in hits]),
        "precision": np.mean([sum(of) / K for of in hits]),
        "recall": np.mean([sum(of) / n for of, n in zip(hits, liked, strict=True)]),
        "mrr": np.mean(first),
        "ndcg": np.mean([g / i for g, i in zip(gains, ideal, strict=True)]),
        "coverage": len(items) / catalogue.num_items,
    }


@pytest.mark.parametrize("score", ["binary", "asymmetric"])
def test_lists_of_a_model_are_those_of_brute_force(catalogue, score):
    codes = codes_of(catalogue, hash_types=0, alpha=1.0)
    scorer = Scorer(codes)
    results = evaluate_catalogue(codes, catalogue, k=K)

    def scores_of(user, outfits):
        return scorer.score(score, np.full(len(outfits), user), outfits)

    found = expected(catalogue, slow_lists(catalogue, scores_of))
    assert results["candidates"] == len(stored_outfits(catalogue))
    for name, value in found.items():
        assert results["scores"][score][name] == pytest.approx(value), name
    assert 0 < results["scores"][score]["recall"] < 1, "this test would see nothing"


@pytest.mark.parametrize("name", ["popularity", "neighbours", "linear"])
def test_lists_of_a_baseline_are_those_of_brute_force(catalogue, vectors, name):
    values = baselines.baselines(catalogue, vectors)[name]
    results = evaluate_catalogue(codes_of(catalogue), catalogue, k=K, vectors=vectors)

    def scores_of(user, outfits):
        users = np.full(len(outfits), user)
        return baselines.outfit_scores(values, catalogue, users, outfits)

    found = expected(catalogue, slow_lists(catalogue, scores_of))
    for metric, value in found.items():
        assert results["scores"][name][metric] == pytest.approx(value), metric


def test_segments_are_parts_of_what_is_right(catalogue):
    results = evaluate_catalogue(codes_of(catalogue), catalogue, k=K)
    everything = Candidates.of(catalogue, "test")
    named = set(results["segments"]) - {"new items", "few likes"}
    several = len(catalogue.templates) > 1
    assert named == (
        {catalogue.template_name(t) for t in catalogue.templates} if several else set()
    )
    if several:
        masks = template_masks(everything.outfits)
        parts = [
            everything.among(masks == sum(1 << s for s in t))
            for t in catalogue.templates
        ]
        assert sum(len(i) for p in parts for i in p.liked) == sum(
            len(ids) for ids in everything.liked
        )
    for segment in results["segments"].values():
        assert set(segment["scores"]["binary"]) == {
            metric.name for metric in LIST_METRICS if metric.of_likes
        }


def test_baselines_have_figures_on_the_files_negatives_and_questions(
    catalogue, vectors
):
    results = evaluate_catalogue(codes_of(catalogue), catalogue, k=K, vectors=vectors)
    assert set(results["negatives"]) == set(catalogue.splits["test"].negatives)
    for of_kind in results["negatives"].values():
        assert {"popularity", "neighbours", "linear"} <= set(of_kind)
        for values in of_kind.values():
            assert 0 < values["auc"] < 1
    assert 0 <= results["fitb"]["linear"] <= 1


def test_a_taste_that_is_in_the_vectors_is_learned_by_neighbours_and_linear():
    # User u likes items whose first entry has the sign of u.
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(120, 4)).astype(np.float32)
    vectors[:, 0] = np.where(np.arange(120) % 2, 2, -2)
    odd, even = np.arange(1, 40, 2), np.arange(0, 40, 2)

    def rows(user, items):
        return [(user, *map(int, rng.choice(items[:14], 3))) for _ in range(8)]

    catalogue = small_catalogue(
        rows(0, odd) + rows(1, even),
        (40, 40, 40),
        negatives={"random": rows(0, even) + rows(1, odd)},
    )
    found = baselines.baselines(catalogue, vectors)
    users = np.array([0, 0, 1, 1])
    # Items that nobody has liked.
    items = np.array([[odd[-1]] * 3, [even[-1]] * 3] * 2)
    for name in ("neighbours", "linear"):
        scores = baselines.outfit_scores(found[name], catalogue, users, items)
        assert scores[0] > scores[1] and scores[2] < scores[3], name
    scores = baselines.outfit_scores(found["popularity"], catalogue, users, items)
    assert scores.tolist() == [0, 0, 0, 0]


def test_neighbours_are_looked_for_in_the_items_of_a_category():
    # The user likes items 0 and 1 of each: tops that point one way, shoes the other.
    vectors = np.array([[1, 0], [1, 0.1], [1, 0], [-1, 0]] * 2, np.float32)
    vectors[4:] *= -1
    catalogue = small_catalogue([(0, 0, 0), (0, 1, 1)], (4, 4), slots=(0, 1))
    worth = baselines.baselines(catalogue, vectors)["neighbours"](np.array([0]))[0]
    assert worth[2] > 0.9 and worth[3] < -0.9
    assert worth[6] > 0.9 and worth[7] < -0.9


def test_factors_of_implicit_are_used_where_it_is_installed(monkeypatch):
    class Als:
        def __init__(self, factors, **options):
            assert {"random_state", "use_gpu", "num_threads"} == set(options)

        def fit(self, matrix, show_progress):
            self.user_factors, self.item_factors = np.eye(2), matrix.toarray().T

    monkeypatch.setitem(sys.modules, "implicit", types.ModuleType("implicit"))
    module = types.ModuleType("implicit.als")
    module.AlternatingLeastSquares = Als
    monkeypatch.setitem(sys.modules, "implicit.als", module)
    catalogue = small_catalogue([(0, 0, 1, 2), (1, 3, 3, 3)], (4, 4, 4))
    values = baselines.baselines(catalogue, None)["als"](np.array([1]))
    assert np.flatnonzero(values[0]).tolist() == [3, 7, 11]


def test_likes_of_many_users_and_items_are_kept_as_pairs():
    rows = [(user, user * 20, 19_999, 0) for user in range(1_000)]
    catalogue = small_catalogue(rows, (20_000, 20_000, 20_000))
    tracemalloc.start()
    users, items = baselines.liked_items(catalogue)
    assert tracemalloc.get_traced_memory()[1] < 2**20, (
        "not a flag for each pair there is"
    )
    tracemalloc.stop()
    assert len(users) == 3_000 and items[users == 7].tolist() == [140, 39_999, 40_000]


def lists(**changes):
    values = {
        "hits": [np.array([False, True]), np.array([True, False])],
        "liked": np.array([1, 4]),
        "items": [np.array([[0, 3], [1, 3]]), np.array([[0, 3], [0, -1]])],
        "k": 2,
        "num_items": 6,
        "popularity": np.array([0.5, 0.25, 0, 0.5, 0, 0]),
        "distance": lambda a, b: (a != b) / 2,
    }
    return Lists(**values | changes)


@pytest.mark.parametrize(
    "name, value",
    [
        ("hit_rate", 1),
        ("precision", 1 / 2),
        ("recall", (1 + 1 / 4) / 2),
        ("mrr", (1 / 2 + 1) / 2),
        ("ndcg", (1 / np.log2(3) + 1 / (1 + 1 / np.log2(3))) / 2),
        ("coverage", 3 / 6),
        ("diversity", (1 / 4 + 0) / 2),
        ("novelty", (6 * 1 + 2) / 7),
        ("popularity_bias", ((6 * 0.5 + 0.25) / 7) / (1.25 / 6)),
    ],
)
def test_list_metrics_by_hand(name, value):
    (metric,) = [metric for metric in LIST_METRICS if metric.name == name]
    assert metric.function(lists()) == pytest.approx(value)


def test_an_item_that_nobody_likes_is_the_most_novel():
    unknown = lists(items=[np.array([[2, 4]]), np.array([[2, 4]])])
    assert top_k.novelty(unknown) == pytest.approx(3)


def test_what_cannot_be_ranked_is_refused(catalogue):
    codes = codes_of(catalogue)
    with pytest.raises(InputError, match="k=0: expected at least 1"):
        evaluate_catalogue(codes, catalogue, k=0)
    with pytest.raises(InputError, match="no 'dev' split"):
        evaluate_catalogue(codes, catalogue, "dev")


def test_a_list_is_as_long_as_the_catalogue_at_most(catalogue):
    results = evaluate_catalogue(codes_of(catalogue), catalogue, k=10**6)
    for values in results["scores"].values():
        assert values["recall"] == values["hit_rate"] == 1
    assert "The 1000000 best of" in format_table(results)


def test_runs_are_compared(tmp_path, catalogue):
    codes = codes_of(catalogue)
    for name, bits in (("a", 64), ("b", 128)):
        results = {
            "dataset": "tiny",
            "split": "test",
            "codes_sha256": codes.sha256(),
            "scores": {"binary": {"auc": bits / 256, "fitb": 0.5}},
        }
        files.write_sealed(tmp_path / name / "results.json", results)
        config = {"model": {"bits": bits, "single": True}}
        files.write_sealed(tmp_path / name / "config.json", config)
    ranked = evaluate_catalogue(codes, catalogue, k=K)
    about = {"codes_sha256": codes.sha256()}
    files.write_sealed(tmp_path / "a" / "catalogue_ranking.json", about | ranked)
    text = "\n".join(compare.compare([tmp_path / "a", tmp_path / "b"]))
    assert "0.2500" in text and "0.5000" in text
    assert f"Hit@{K}" in text and "popularity" in text
    (line,) = [line for line in text.splitlines() if line.startswith("model.")]
    assert line.split() == ["model.bits", "64", "128"]


def test_a_run_that_was_not_evaluated_cannot_be_compared(tmp_path):
    with pytest.raises(MissingFileError, match="evaluate-rank --workdir"):
        list(compare.compare([tmp_path]))


def test_lists_of_other_codes_are_not_compared(tmp_path):
    files.write_sealed(tmp_path / "results.json", {"codes_sha256": "a", "scores": {}})
    files.write_sealed(tmp_path / "catalogue_ranking.json", {"codes_sha256": "b"})
    with pytest.raises(InputError, match="of other codes than"):
        list(compare.compare([tmp_path]))
    assert json.loads((tmp_path / "results.json").read_text())["codes_sha256"] == "a"


@pytest.mark.parametrize("num_users", [7, 10, 49])
def test_outfits_whose_items_have_as_many_likes_tie(num_users):
    rng = np.random.default_rng(0)
    likes = rng.integers(0, num_users, 300)
    outfits = rng.integers(0, 300, (5000, 3))
    worth = baselines.mean_of_items(likes.astype(np.float32), outfits)
    sums = likes[outfits].sum(axis=1)
    assert len(np.unique(worth)) == len(np.unique(sums))
