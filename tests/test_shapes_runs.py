"""Runs on outfits of several shapes: from training to the report."""

import numpy as np
import pytest
from blocks import use_blocks
from fhn_jax.data_tools.export_ranked import export_ranked
from polyvore_u import read_lines
from runs import (
    act,
    assert_equal_runs,
    assert_like_runs,
    metrics,
    settings,
    train,
    train_until,
)
from shapes import SLOTS, TEMPLATES, by_definition, write_shapes

from fhn_jax import files
from fhn_jax.codes import Codes, Scorer
from fhn_jax.data.catalogue import template_masks
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError
from fhn_jax.evaluation import evaluators

pytestmark = pytest.mark.slow

CHANGES = {
    "train.epochs": 6,
    "train.batch_size": 16,
    "train.log_steps": 4,
    "train.average_decay": 0.9,
    "optimizer.name": "adamw",
    "optimizer.rates.user": 0.05,
    "optimizer.rates.text": 0.02,
}
NAMES = ["+".join(SLOTS[slot] for slot in template) for template in TEMPLATES]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", image_size=32)


@pytest.fixture(scope="module")
def workdir(root, tmp_path_factory):
    """A run that is trained, exported and evaluated."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    act("train", settings(root, CHANGES), workdir)
    for command in ("extract-features", "evaluate-rank", "evaluate-accuracy", "fitb"):
        act(command, None, workdir)
    return workdir


def test_training_learns(workdir):
    losses = [line["train/loss"] for line in metrics(workdir) if "train/loss" in line]
    assert losses[-1] < 0.8 * losses[0]


def test_exported_codes_score_as_defined(root, workdir):
    codes = Codes.load(workdir / "codes.safetensors")
    assert codes.templates == TEMPLATES
    test = read_catalogue(root, "8").splits["test"]
    items, users = (codes.item_codes("text"), codes.user_codes())
    got = Scorer(codes).score("binary", test.positives.users, test.positives.items)
    want = [
        by_definition(
            users[user].astype(float),
            {s: items[s][i] for s, i in enumerate(row) if i >= 0},
            codes.lambda_user,
            codes.lambda_item,
        )
        for user, row in zip(test.positives.users, test.positives.items, strict=True)
    ]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_validation_agrees_with_the_exported_codes(root, workdir):
    codes = Codes.load(workdir / "codes.safetensors")
    catalogue = read_catalogue(root, "8")
    values = evaluators.evaluate(codes, catalogue, "val")["scores"]["binary"]
    best = [line for line in metrics(workdir) if "val/auc_binary" in line]
    assert values["auc"] == pytest.approx(max(line["val/auc_binary"] for line in best))


def test_results_have_a_block_for_each_template(root, workdir):
    results = files.read_sealed(workdir / "results.json", "")
    assert list(results["by_template"]) == NAMES
    codes = Codes.load(workdir / "codes.safetensors")
    scorer, catalogue = Scorer(codes), read_catalogue(root, "8")
    test, questions = catalogue.splits["test"], catalogue.fitb["test"]
    liked = scorer.score("binary", test.positives.users, test.positives.items)
    of_questions = np.stack(
        [
            scorer.score("binary", questions.users, questions.items[:, candidate])
            for candidate in range(4)
        ],
        axis=1,
    )
    for template, found in zip(TEMPLATES, results["by_template"].values(), strict=True):
        mask = sum(1 << slot for slot in template)
        rows = template_masks(test.positives.items) == mask
        assert (found["users"], found["positives"]) == (8, rows.sum())
        for kind, block in (("random", "scores"), ("hard", "hard")):
            table = test.negatives[kind]
            others = scorer.score("binary", table.users, table.items).reshape(-1, 3)
            values = found[block]["binary"]
            right = liked[rows, None] > others[rows]
            assert values["pair_accuracy"] == pytest.approx(right.mean())
            aucs = []
            for user in range(8):
                mine = rows & (test.positives.users == user)
                margins = np.subtract.outer(liked[mine], others[mine].ravel())
                aucs.append(((margins > 0) + (margins == 0) / 2).mean())
            assert values["auc"] == pytest.approx(np.mean(aucs))
        answers = of_questions[template_masks(questions.items[:, 0]) == mask]
        parity = (answers[:, :1] > answers[:, 1:]).all(axis=1)
        tied = (answers[:, :1] >= answers[:, 1:]).all(axis=1)
        assert parity.mean() <= found["scores"]["binary"]["fitb"] <= tied.mean()


def test_the_table_has_a_line_for_each_template(workdir):
    table = evaluators.format_table(files.read_sealed(workdir / "results.json", ""))
    starts = [line.split("  ")[0] for line in table.splitlines()]
    assert [f"random, {name}" for name in NAMES for _ in range(3)] == starts[-12:]


def test_report_and_rankings_show_outfits_of_two_to_four_pieces(workdir, tmp_path):
    act("report", None, workdir)
    page = (workdir / "report/index.html").read_text()
    for name in NAMES:
        assert f"Random<small>{name}, 8 liked</small>" in page
    export_ranked(workdir, tmp_path / "ranked", users="0", best=3)
    lines = read_lines(tmp_path / "ranked/user_0/ranking.csv")
    assert len(lines) == 1 + 4 + 12
    counts = {sum(map(bool, line.split(",")[3:])) for line in lines[1:]}
    assert counts == {1, 3, 4}


# Single items


def test_likes_of_single_items_train_the_user_term(tmp_path):
    write_shapes(tmp_path / "data", templates=((5,),), positives=(4, 2, 2))
    config = settings(tmp_path / "data", CHANGES | {"train.epochs": 10})
    act("train", config, tmp_path / "run")
    lines = metrics(tmp_path / "run")
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert losses[-1] < 0.9 * losses[0]
    act("extract-features", None, tmp_path / "run")
    codes = Codes.load(tmp_path / "run/codes.safetensors")
    # Nothing is learned of pairs.
    assert codes.templates == ((0,),)
    act("evaluate-rank", None, tmp_path / "run")


def test_single_items_without_a_user_term_are_refused(tmp_path):
    write_shapes(tmp_path / "data", templates=((5,),))
    changes = CHANGES | {"model.matching.zero_user_term": True}
    with pytest.raises(InputError, match="no outfit has items of two categories"):
        train(settings(tmp_path / "data", changes), tmp_path / "run")


# Host and device


@pytest.fixture(scope="module")
def two_shapes(tmp_path_factory):
    """Outfits of two shapes over three categories, which compile sooner."""
    root = tmp_path_factory.mktemp("data") / "two"
    return write_shapes(root, templates=((0, 1), (0, 1, 2)), image_size=32)


def test_images_and_text_train_alike_on_host_and_device(
    two_shapes, tmp_path, monkeypatch
):
    use_blocks(monkeypatch)
    for sampler in ("host", "device"):
        changes = {"train.sampler": sampler, "train.negatives": "random_fixed"}
        changes |= {"train.epochs": 2, "data.cache": "device"}
        config = settings(two_shapes, CHANGES | changes, config="vse_t3")
        train(config, tmp_path / sampler)
    assert_like_runs(tmp_path / "device", tmp_path / "host")
    assert metrics(tmp_path / "host")[0]["train/vse_loss"] > 0


def test_a_run_resumes_bit_for_bit(two_shapes, tmp_path, monkeypatch):
    changes = {"train.sampler": "device", "train.negatives": "hard_online"}
    config = settings(two_shapes, CHANGES | changes | {"train.epochs": 3})
    train(config, tmp_path / "whole")
    train_until(config, tmp_path / "stopped", 8, "epoch 2", monkeypatch)
    train(config, tmp_path / "stopped")
    assert_equal_runs(config, tmp_path / "stopped", tmp_path / "whole")
