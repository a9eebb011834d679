"""Evaluation from codes: results.json, its table, and its errors."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from fhn_jax import files
from fhn_jax.codes import Codes, Scorer
from fhn_jax.data.catalogue import Outfits, Split
from fhn_jax.data.layout import read_catalogue
from fhn_jax.evaluation import evaluators
from tests.polyvore_u import write_polyvore_u
from tests.random_codes import codes_of, latents_of

RANK = {"auc", "auc_ci95", "ndcg", "ndcg_parity", "ndcg_at_10", "recall_at_10"}
FITB = {"fitb", "fitb_parity"}
ALL = RANK | FITB | {"pair_accuracy"}


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "tiny"
    return read_catalogue(write_polyvore_u(root), "8")


@pytest.fixture
def workdir(tmp_path, catalogue):
    """A workdir with codes and latents, not yet evaluated."""
    codes = codes_of(catalogue)
    codes.save(tmp_path / "codes.safetensors")
    latents_of(codes).save(tmp_path / "latents.safetensors", codes)
    return tmp_path


def slow_fields(codes, latents, catalogue, which, kind):
    """All fields but the interval and NDCG, by loops over outfits."""
    scorer = Scorer(codes, latents)
    part = catalogue.splits["test"]

    def score(user, outfit):
        one = scorer.score(which, np.array([user]), np.array([outfit]))
        return float(one[0])

    liked = [
        score(*row)
        for row in zip(part.positives.users, part.positives.items, strict=True)
    ]
    table = part.negatives[kind]
    others = [score(*row) for row in zip(table.users, table.items, strict=True)]
    ratio = len(others) // len(liked)
    aucs, recalls = [], []
    for user in np.unique(part.positives.users):
        pos = [s for s, u in zip(liked, part.positives.users, strict=True) if u == user]
        neg = [s for s, u in zip(others, table.users, strict=True) if u == user]
        aucs.append(np.mean([(p > n) + (p == n) / 2 for p in pos for n in neg]))
        tenth = sorted(pos + neg, reverse=True)[:10]
        recalls.append(len([p for p in pos if p in tenth]) / len(pos))
    pairs = [
        p > others[i * ratio + j] for i, p in enumerate(liked) for j in range(ratio)
    ]
    hits = []
    questions = catalogue.fitb["test"]
    for user, candidates in zip(questions.users, questions.items, strict=True):
        scores = [score(user, outfit) for outfit in candidates]
        best = [i for i, s in enumerate(scores) if s == max(scores)]
        hits.append((0 in best) / len(best))
    return {
        "auc": np.mean(aucs),
        "recall_at_10": np.mean(recalls),
        "pair_accuracy": np.mean(pairs),
        "fitb": np.mean(hits),
    }


def test_results_have_the_documented_fields(catalogue):
    codes = codes_of(catalogue)
    results = evaluators.evaluate(codes, catalogue, latents=latents_of(codes))
    assert list(results) == [
        "dataset",
        "split",
        "negatives",
        "users",
        "positives",
        "scores",
        "config_hash",
        "codes_sha256",
        "data",
        "hard",
    ]
    assert results["dataset"] == "tiny" and results["split"] == "test"
    assert results["negatives"] == "random"
    assert results["users"] == 8 and results["positives"] == 16
    assert results["config_hash"] == codes.config_hash
    assert results["codes_sha256"] == codes.sha256()
    for scores in (results["scores"], results["hard"]):
        assert list(scores) == ["binary", "asymmetric", "relaxed"]
        for values in scores.values():
            assert set(values) == ALL
            low, high = values["auc_ci95"]
            assert low <= values["auc"] <= high
    json.dumps(results, allow_nan=False)


@pytest.mark.parametrize("which", ["binary", "asymmetric", "relaxed"])
@pytest.mark.parametrize("kind", ["random", "hard"])
def test_fields_agree_with_slow_loops(catalogue, which, kind):
    codes = codes_of(catalogue)
    latents = latents_of(codes)
    results = evaluators.evaluate(codes, catalogue, latents=latents)
    block = results["scores"] if kind == "random" else results["hard"]
    expected = slow_fields(codes, latents, catalogue, which, kind)
    for field, value in expected.items():
        assert block[which][field] == pytest.approx(value), field


def test_rows_of_users_need_not_be_sorted():
    items = np.zeros((4, 3), np.int32)
    liked = Outfits(np.array([1, 0, 1, 0], np.int32), items)
    others = Outfits(np.array([0, 1, 0, 1], np.int32), items)
    scores = np.arange(4, dtype=np.float32)
    part = Split("test", liked, {"random": others})
    users = evaluators.scores_by_user(part, "random", scores, scores)
    assert list(users) == [0, 1]
    (p0, n0), (p1, n1) = users.values()
    assert (p0.tolist(), n0.tolist()) == ([1, 3], [0, 2])
    assert (p1.tolist(), n1.tolist()) == ([0, 2], [1, 3])


def test_codes_that_tie_everything_are_at_chance(catalogue):
    counts = [len(names) for names in catalogue.names]
    items = {
        modality: tuple(np.full((n, 2), 255, np.uint8) for n in counts)
        for modality in ("visual", "text")
    }
    results = evaluators.evaluate(codes_of(catalogue, items=items), catalogue)
    values = results["scores"]["binary"]
    assert values["auc"] == 0.5 and values["auc_ci95"] == [0.5, 0.5]
    assert values["fitb"] == 0.25 and values["fitb_parity"] == 1.0
    assert values["pair_accuracy"] == 0.0 and values["ndcg_parity"] == 1.0
    assert values["ndcg"] < 0.9


def test_evaluation_is_repeatable(catalogue):
    codes = codes_of(catalogue)
    assert evaluators.evaluate(codes, catalogue) == evaluators.evaluate(
        codes, catalogue
    )


def test_without_latents_there_is_no_relaxed_score(catalogue):
    results = evaluators.evaluate(codes_of(catalogue), catalogue)
    assert set(results["scores"]) == set(results["hard"]) == {"binary", "asymmetric"}


def test_a_split_without_questions_has_no_fitb_fields(catalogue):
    results = evaluators.evaluate(codes_of(catalogue), catalogue, "val")
    assert results["split"] == "val"
    assert set(results["scores"]["binary"]) == ALL - FITB


def test_without_hard_negatives_there_is_no_hard_block(catalogue):
    part = catalogue.splits["test"]
    part = Split("test", part.positives, {"random": part.negatives["random"]})
    easy = dataclasses.replace(catalogue, splits={**catalogue.splits, "test": part})
    assert "hard" not in evaluators.evaluate(codes_of(easy), easy)


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("evaluate-rank", RANK),
        ("evaluate-accuracy", {"pair_accuracy"}),
        ("fitb", FITB),
        ("all", ALL),
    ],
)
def test_each_action_computes_its_own_fields(workdir, catalogue, action, fields):
    results = evaluators.run(action, workdir, catalogue, "test")
    for scores in (results["scores"], results["hard"]):
        for values in scores.values():
            assert set(values) == fields
    assert files.read_sealed(workdir / "results.json", "") == results


def test_actions_one_by_one_make_the_same_file_as_all_at_once(workdir, catalogue):
    for action in ("fitb", "evaluate-accuracy", "evaluate-rank"):
        evaluators.run(action, workdir, catalogue, "test")
    one_by_one = (workdir / "results.json").read_text()
    (workdir / "results.json").unlink()
    evaluators.run("all", workdir, catalogue, "test")
    assert (workdir / "results.json").read_text() == one_by_one


@pytest.mark.parametrize("old", ["other codes", "other split", "not json", "a list"])
def test_results_of_something_else_are_started_anew(workdir, catalogue, old):
    path = workdir / "results.json"
    if old == "other codes":
        evaluators.run("fitb", workdir, catalogue, "test")
        (workdir / "latents.safetensors").unlink()
        codes_of(catalogue, seed=1).save(workdir / "codes.safetensors")
    elif old == "other split":
        evaluators.run("evaluate-rank", workdir, catalogue, "val")
    else:
        path.write_text({"not json": "{", "a list": "[]"}[old])
    results = evaluators.run("evaluate-accuracy", workdir, catalogue, "test")
    assert set(results["scores"]["binary"]) == {"pair_accuracy"}
    assert files.read_sealed(path, "") == results


def test_run_prints_an_aligned_table(workdir, catalogue, capsys):
    evaluators.run("all", workdir, catalogue, "test")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny, test split: 8 users, 16 positives"
    assert lines[1].split() == [
        "negatives",
        "score",
        "auc",
        "auc_ci95",
        "ndcg",
        "ndcg_parity",
        "ndcg_at_10",
        "recall_at_10",
        "pair_accuracy",
        "fitb",
        "fitb_parity",
    ]
    assert [line.split()[:2] for line in lines[2:]] == [
        [kind, which]
        for kind in ("random", "hard")
        for which in ("binary", "asymmetric", "relaxed")
    ]
    assert len({len(line) for line in lines[1:]}) == 1


@pytest.mark.slow
def test_outfits_with_two_tops_are_evaluated(tmp_path):
    slots = ("top", "top", "bottom", "shoe")
    catalogue = read_catalogue(write_polyvore_u(tmp_path / "two", slots=slots), "8")
    codes = codes_of(catalogue)
    latents = latents_of(codes)
    results = evaluators.evaluate(codes, catalogue, latents=latents)
    expected = slow_fields(codes, latents, catalogue, "binary", "random")
    for field, value in expected.items():
        assert results["scores"]["binary"][field] == pytest.approx(value), field


# Errors.


def test_codes_of_another_data_set_are_rejected(workdir, catalogue, tmp_path):
    root = write_polyvore_u(tmp_path / "other", seed=5)
    other = read_catalogue(root, "8")
    with pytest.raises(ValueError) as error:
        evaluators.run("all", workdir, other, "test")
    text = str(error.value)
    assert catalogue.checksum[:12] in text and other.checksum[:12] in text
    assert "'tiny'" in text and "'other'" in text and str(root) in text
    assert "extract-features" in text
    assert not (workdir / "results.json").exists()


def test_codes_of_other_numbers_are_rejected(catalogue):
    codes = codes_of(catalogue)
    fewer = dataclasses.replace(
        codes, users=codes.users[:5], user_latents=codes.user_latents[:5]
    )
    with pytest.raises(ValueError, match="5 users, .* but the data is .* 8 users"):
        evaluators.evaluate(fewer, catalogue)


def test_missing_codes_name_the_action_that_makes_them(tmp_path, catalogue):
    with pytest.raises(FileNotFoundError, match="codes.safetensors.*extract-features"):
        evaluators.run("all", tmp_path, catalogue, "test")


def test_damaged_codes_are_rejected_before_anything_is_written(workdir, catalogue):
    path = workdir / "codes.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        evaluators.run("all", workdir, catalogue, "test")
    assert not (workdir / "results.json").exists()


def test_latents_of_other_codes_are_rejected(workdir, catalogue):
    codes_of(catalogue, seed=1).save(workdir / "codes.safetensors")
    with pytest.raises(ValueError, match="latents.safetensors: codes_sha256 is"):
        evaluators.run("all", workdir, catalogue, "test")


def test_unknown_actions_and_splits_are_named(workdir, catalogue):
    with pytest.raises(ValueError, match="action is 'rank', expected one of"):
        evaluators.run("rank", workdir, catalogue, "test")
    with pytest.raises(ValueError, match="no 'dev' split .* expected one of"):
        evaluators.run("all", workdir, catalogue, "dev")


def test_fitb_without_questions_is_an_error(workdir, catalogue):
    with pytest.raises(ValueError, match="no fill_in_blank_val in tuples_8"):
        evaluators.run("fitb", workdir, catalogue, "val")


def test_means_are_over_the_users_who_have_positives(catalogue, capsys):
    part, ratio = catalogue.splits["test"], 3
    keep = part.positives.users != 3
    short = Split(
        "test",
        Outfits(part.positives.users[keep], part.positives.items[keep]),
        {
            kind: Outfits(each.users[rows], each.items[rows])
            for kind, each in part.negatives.items()
            for rows in [np.repeat(keep, ratio)]
        },
    )
    fewer = dataclasses.replace(catalogue, splits={**catalogue.splits, "test": short})
    codes = codes_of(catalogue)
    results = evaluators.evaluate(codes, fewer)
    assert results["users"] == 7 and results["positives"] == 14
    assert results["data"]["users_without_outfits"] == 1
    expected = slow_fields(codes, latents_of(codes), fewer, "binary", "random")
    assert results["scores"]["binary"]["auc"] == pytest.approx(expected["auc"])
    lines = evaluators.format_table(results).splitlines()
    assert lines[:2] == [
        "tiny, test split: 7 users, 14 positives",
        "warning: users without a test outfit, left out of all means: 1",
    ]


def test_a_split_without_random_negatives_is_an_error(catalogue):
    part = catalogue.splits["test"]
    broken = dataclasses.replace(
        catalogue,
        splits={**catalogue.splits, "test": Split("test", part.positives, {})},
    )
    with pytest.raises(ValueError, match="no tuples_test_nega in tuples_8"):
        evaluators.evaluate(codes_of(broken), broken)


def test_evaluation_starts_without_the_training_stack():
    code = (
        "import sys, fhn_jax.evaluation.evaluators; "
        "print([m for m in ('jax', 'flax', 'tensorflow', 'matplotlib', 'scipy', 'lmdb')"
        " if m in sys.modules])"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loaded_codes_are_those_of_the_workdir(workdir, catalogue):
    codes, latents = evaluators.load_codes(workdir)
    assert isinstance(codes, Codes) and codes.sha256() == codes_of(catalogue).sha256()
    assert latents is not None
    (workdir / "latents.safetensors").unlink()
    assert evaluators.load_codes(workdir)[1] is None
