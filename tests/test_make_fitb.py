"""Fill-in-the-blank questions: right columns, one answer, and the same for a seed."""

import os

import numpy as np
import pytest
from fhn_jax.data_tools.make_fitb import main, make_fitb
from runs import exit_code

from fhn_jax.data.layout import read_catalogue
from tests.polyvore_u import read_lines, write_polyvore_u, write_table

VARIABLE = ("top", "top", "bottom", "shoe")


def write(root, **options):
    """A data set without questions."""
    root = write_polyvore_u(root, image_size=None, **options)
    (root / "tuples_8" / "fill_in_blank_test").unlink()
    return root


@pytest.fixture
def root(tmp_path):
    return write(tmp_path / "data")


def raw(root, split="test", slots=3):
    """The questions as they are in the file, [q, c, 1 + s]."""
    lines = read_lines(root / "tuples_8" / f"fill_in_blank_{split}")
    table = np.array([line.split(",") for line in lines[1:]], np.int64)
    return table.reshape(len(table), -1, slots + 1)


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("candidates", [2, 4, 5])
def test_each_positive_is_a_question_and_its_answer_comes_first(
    root, split, candidates
):
    options = {"split": split, "candidates": candidates}
    assert make_fitb(root, "8", **options) == 16
    catalogue = read_catalogue(root, "8")
    positives, questions = catalogue.splits[split].positives, catalogue.fitb[split]
    assert questions.items.shape == (16, candidates, 3)
    np.testing.assert_array_equal(questions.users, positives.users)
    np.testing.assert_array_equal(questions.items[:, 0], positives.items)
    header = read_lines(root / "tuples_8" / f"fill_in_blank_{split}")[0]
    assert header == ",".join(["user,top,bottom,shoe"] * candidates)


@pytest.mark.parametrize("slots", [("top", "bottom", "shoe"), VARIABLE])
def test_candidates_differ_and_none_is_a_positive(tmp_path, slots):
    root = write(tmp_path / "data", slots=slots, positives=(6, 2, 12))
    make_fitb(root, "8")
    catalogue = read_catalogue(root, "8")
    positives = catalogue.splits["test"].positives.items
    known = {frozenset(enumerate(row)) for row in positives.tolist()}
    used = catalogue.split_items("test")
    for question in catalogue.fitb["test"].items.tolist():
        assert len({tuple(candidate) for candidate in question}) == 4
        for candidate in question[1:]:
            assert frozenset(enumerate(candidate)) not in known
            for slot, item in zip(catalogue.slots, candidate, strict=True):
                assert item in used[slot]


def test_every_slot_is_asked_for(root):
    make_fitb(root, "8")
    differs = (raw(root)[:, 1:, 1:] != raw(root)[:, :1, 1:]).any(axis=1)
    assert (differs.sum(axis=1) == 1).all() and differs.any(axis=0).all()


@pytest.mark.parametrize(("category", "slot"), [("top", 0), ("bottom", 1), ("shoe", 2)])
def test_a_fixed_category_is_the_only_one_asked_for(root, category, slot):
    make_fitb(root, "8", category=category)
    differs = (raw(root)[:, 1:, 1:] != raw(root)[:, :1, 1:]).any(axis=1)
    assert differs[:, slot].all() and differs.sum() == len(differs)


@pytest.mark.parametrize("category", ["random", "top"])
def test_of_two_tops_one_that_is_there_is_asked_for(tmp_path, category):
    root = write(tmp_path / "data", slots=VARIABLE, positives=(6, 2, 12))
    make_fitb(root, "8", category=category)
    questions = raw(root, slots=4)
    missing = questions[:, 0, 2] == -1
    assert missing.any() and (questions[missing, :, 2] == -1).all()
    # The data has outfits of the same top twice; questions add none.
    two = questions[~missing, 1:]
    same = questions[~missing, 0, 1] == questions[~missing, 0, 2]
    assert ((two[:, :, 1] != two[:, :, 2]) | same[:, None]).all()
    differs = (questions != questions[:, :1]).any(axis=1)[:, 1:]
    assert (differs.sum(axis=1) == 1).all()
    assert differs[~missing, 0].any() and differs[~missing, 1].any()


def test_the_same_seed_gives_the_same_questions(root):
    path = root / "tuples_8" / "fill_in_blank_test"
    made = []
    for seed in (0, 0, 1):
        make_fitb(root, "8", seed=seed)
        made.append(path.read_bytes())
        path.unlink()
    assert made[0] == made[1] != made[2]


def test_wrong_items_are_drawn_evenly(tmp_path):
    root = write(tmp_path / "data", positives=(6, 2, 200), items=(16, 8, 40))
    make_fitb(root, "8", category="shoe")
    drawn = np.bincount(raw(root)[:, 1:, 3].ravel(), minlength=64)[24:]
    # 4,800 draws of 40 items: 120 each, give or take.
    assert drawn.sum() == 4800 and drawn.min() > 70 and drawn.max() < 180


def test_a_pool_just_large_enough_is_searched_to_its_end(tmp_path):
    root = write(tmp_path / "data")
    folder = root / "tuples_8"
    write_lists(folder, [(user, *[24 + user] * 3) for user in range(8)])
    assert make_fitb(root, "8", candidates=8, category="shoe") == 8
    for question in raw(root):
        assert sorted(question[:, 3].tolist()) == list(range(24, 32))


def write_lists(folder, rows):
    """Test positives, with negatives of the same users."""
    header = "user,top,bottom,shoe"
    write_table(folder / "tuples_test_posi", header, rows)
    (folder / "tuples_test_nega_hard").unlink()
    negatives = [(user, 26, 26, 26) for user, *_ in rows]
    write_table(folder / "tuples_test_nega", header, negatives)


@pytest.mark.parametrize("category", ["shoe", "random"])
def test_fewer_items_than_candidates_are_an_error(root, capsys, category):
    arguments = [str(root), "8", "--candidates", "9", "--category", category]
    assert exit_code(main, arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 2
    kind = "shoe" if category == "shoe" else "top"
    assert f"different items of category '{kind}', fewer than the 9 candida" in error
    assert not (root / "tuples_8" / "fill_in_blank_test").exists()


def test_too_few_outfits_that_nobody_has_are_an_error(root, capsys):
    rows = [(user, 24, 24, 24 + shoe) for user in range(8) for shoe in (0, 1, 2, 3)]
    write_lists(root / "tuples_8", rows)
    assert exit_code(main, [str(root), "8", "--category", "shoe"]) == 1
    error = capsys.readouterr().err
    assert "line 2 of tuples_test_posi: only 0 other items of category 'shoe'" in error
    assert not (root / "tuples_8" / "fill_in_blank_test").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--candidates", "1"], "candidates=1; expected at least 2"),
        (["--category", "hat"], "'hat'; expected 'random' or one of top, bottom, shoe"),
        (["--seed", "-1"], "seed=-1; expected a number from 0"),
    ],
)
def test_bad_options_are_one_line(root, capsys, options, message):
    before = sorted(os.listdir(root / "tuples_8"))
    assert exit_code(main, [str(root), "8", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 2 and message in error
    assert sorted(os.listdir(root / "tuples_8")) == before


def test_a_split_that_is_not_there_is_an_error(tmp_path, capsys):
    root = write(tmp_path / "data", positives=(6, 0, 2))
    assert exit_code(main, [str(root), "8", "--split", "val"]) == 1
    assert "tuples_8 has no val split" in capsys.readouterr().err
    with pytest.raises(ValueError, match="split='train'; expected one of val, test"):
        make_fitb(root, "8", split="train")


def test_existing_questions_are_left_alone(root, capsys):
    make_fitb(root, "8")
    path = root / "tuples_8" / "fill_in_blank_test"
    before = path.read_bytes()
    assert exit_code(main, [str(root), "8", "--seed", "5"]) == 1
    assert "fill_in_blank_test exists and is left as it is" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_the_command_line_says_what_was_made(root, capsys):
    assert exit_code(main, [str(root), "8", "--split", "val", "--candidates", "3"]) == 0
    assert capsys.readouterr().out == (
        f"{root}/tuples_8/fill_in_blank_val holds 16 questions of 3 candidates\n"
    )
