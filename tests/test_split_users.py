"""Variants of some users or some outfits: right, whole, and the same for a seed."""

import os
import re

import numpy as np
import pytest
from fhn_jax.data_tools.split_users import main, split_users
from runs import exit_code

from fhn_jax.data.layout import read_catalogue
from tests.polyvore_u import edit_line, read_lines, write_polyvore_u

VARIABLE = ("top", "top", "bottom", "shoe")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tiny"
    write_polyvore_u(folder, image_size=None, positives=(12, 2, 2))
    return write_polyvore_u(
        folder, variant="8v", image_size=None, slots=VARIABLE, positives=(5, 0, 2)
    )


@pytest.fixture
def old(root):
    return read_catalogue(root, "8")


@pytest.fixture
def new(request):
    """A name of its own for the variant that a test makes."""
    return f"of {request.node.name}"


def rows_of(outfits, user):
    """The outfits of a user, as a set of tuples."""
    return {tuple(row) for row in outfits.items[outfits.users == user].tolist()}


def originals(made):
    """The old id of each user."""
    lines = read_lines(made.root / f"tuples_{made.variant}" / "users")
    assert lines[0] == "user,original_user"
    pairs = [tuple(map(int, line.split(","))) for line in lines[1:]]
    assert [user for user, _ in pairs] == list(range(made.num_users))
    return [original for _, original in pairs]


@pytest.mark.parametrize("variant", ["8", "8v"])
def test_chosen_users_keep_all_that_is_theirs(root, new, variant):
    old = read_catalogue(root, variant)
    made = split_users(root, variant, f"{new}{variant}", users="5,1-2")
    assert made.num_users == 3 and originals(made) == [1, 2, 5]
    assert made.names == old.names and made.slots == old.slots
    assert made.splits.keys() == old.splits.keys() and made.fitb.keys() == {"test"}
    for name, split in made.splits.items():
        theirs = old.splits[name]
        tables = [(split.positives, theirs.positives)]
        assert split.negatives.keys() == theirs.negatives.keys() == {"random", "hard"}
        tables += [(split.negatives[k], theirs.negatives[k]) for k in split.negatives]
        for mine, before in tables:
            rows = np.isin(before.users, [1, 2, 5])
            np.testing.assert_array_equal(mine.items, before.items[rows])
            want = np.searchsorted([1, 2, 5], before.users[rows])
            np.testing.assert_array_equal(mine.users, want)
    rows = np.isin(old.fitb["test"].users, [1, 2, 5])
    np.testing.assert_array_equal(made.fitb["test"].items, old.fitb["test"].items[rows])


def test_a_missing_second_top_stays_missing(root, new):
    split_users(root, "8v", new, users="2-3")
    missing = 0
    for name in ("tuples_train_posi", "tuples_test_nega", "fill_in_blank_test"):
        old, made = (
            np.loadtxt(root / f"tuples_{v}" / name, int, delimiter=",", skiprows=1)
            for v in ("8v", new)
        )
        mine = old[(old[:, 0] == 2) | (old[:, 0] == 3)]
        mine[:, ::5] -= 2  # The users; a question repeats its user.
        np.testing.assert_array_equal(made, mine)
        missing += (made == -1).sum()
    assert missing


def test_random_users_and_the_rest_are_all_users(root, new):
    base = split_users(root, "8", f"{new} a", random_users=5, seed=3)
    others = split_users(root, "8", f"{new} b", random_users=5, seed=3, rest=True)
    assert base.num_users == 5 and others.num_users == 3
    assert sorted(originals(base) + originals(others)) == list(range(8))
    again = split_users(root, "8", f"{new} c", random_users=5, seed=3)
    assert again.checksum == base.checksum and originals(again) == originals(base)
    other = split_users(root, "8", f"{new} d", random_users=5, seed=4)
    assert originals(other) != originals(base)


@pytest.mark.parametrize(
    ("share", "at_most", "count"),
    [(0.5, None, 6), (0.01, None, 1), (1.0, 4, 4), (0.25, 2, 2), (0.25, 9, 3)],
)
def test_a_share_of_each_users_training_outfits_is_kept(
    root, old, new, share, at_most, count
):
    made = split_users(root, "8", new, share=share, at_most=at_most)
    train, before = made.splits["train"], old.splits["train"]
    assert np.bincount(train.positives.users).tolist() == [count] * 8
    for user in range(8):
        kept = rows_of(train.positives, user)
        assert len(kept) == count and kept <= rows_of(before.positives, user)
    for name in ("val", "test"):
        np.testing.assert_array_equal(
            made.splits[name].positives.items, old.splits[name].positives.items
        )
    assert len(made.fitb["test"]) == len(old.fitb["test"])


@pytest.mark.parametrize("negatives", [None, 2])
@pytest.mark.parametrize("kind", ["random", "hard"])
def test_a_positive_keeps_its_own_negatives(root, old, new, kind, negatives):
    made = split_users(root, "8", new, share=0.5, negatives=negatives)
    before = old.splits["train"]
    place = {
        (user, *row): number
        for number, (user, row) in enumerate(
            zip(before.positives.users, before.positives.items.tolist(), strict=True)
        )
    }
    theirs = before.negatives[kind].items.reshape(len(before.positives), 3, 3)
    train = made.splits["train"]
    assert train.ratio(kind) == (negatives or 3)
    mine = train.negatives[kind].items.reshape(len(train.positives), -1, 3)
    rows = zip(train.positives.users, train.positives.items.tolist(), mine, strict=True)
    for user, row, block in rows:
        want = theirs[place[user, *row]][:negatives]
        np.testing.assert_array_equal(block, want)
    assert made.splits["test"].ratio(kind) == 3


def test_what_is_kept_depends_on_user_and_seed_alone_and_grows_with_the_share(
    root, new
):
    def kept(name, **options):
        made = split_users(root, "8", f"{new} {name}", **options)
        positives = made.splits["train"].positives
        return {old: rows_of(positives, u) for u, old in enumerate(originals(made))}

    quarter, half = kept("quarter", share=0.25), kept("half", share=0.5)
    assert all(quarter[user] < half[user] for user in range(8))
    assert kept("of one", share=0.5, users="6")[6] == half[6]
    assert kept("other", share=0.5, seed=1) != half


def test_a_split_of_nobody_is_left_out(tmp_path):
    root = write_polyvore_u(tmp_path / "data", image_size=None)
    for name in ("posi", "nega", "nega_hard"):
        path = root / "tuples_8" / f"tuples_val_{name}"
        lines = [x for x in read_lines(path) if not x.startswith("4,")]
        path.write_text("".join(f"{line}\n" for line in lines))
    path = root / "tuples_8" / "fill_in_blank_test"
    lines = [x for x in read_lines(path) if not x.startswith("4,")]
    path.write_text("".join(f"{line}\n" for line in lines))
    made = split_users(root, "8", "one", users="4")
    assert made.splits.keys() == {"train", "test"} and not made.fitb
    assert split_users(root, "8", "two", users="4,5").splits.keys() == {
        "train",
        "val",
        "test",
    }


def test_users_without_a_test_outfit_are_an_error(tmp_path):
    root = write_polyvore_u(tmp_path / "data", image_size=None)
    for path in (root / "tuples_8").glob("*test*"):
        lines = [x for x in read_lines(path) if not x.startswith("4,")]
        path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(ValueError, match="none of the 1 users has an outfit in .*test"):
        split_users(root, "8", "one", users="4")
    assert not (root / "tuples_one").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--users", "3,8"], "'8' is out of range; expected ids from 0 to 7"),
        (["--users", "5-3"], "'5-3' is out of range"),
        (["--users", "one"], "'one' is neither an id nor a range"),
        (["--users", ""], "'' is neither an id nor a range"),
        (["--random-users", "9"], "random_users=9; expected 1 to 8"),
        (["--random-users", "0"], "random_users=0; expected 1 to 8"),
        (["--rest"], "the rest of all 8 users is nobody"),
        (["--share", "0"], "share=0.0; expected more than 0, and at most 1"),
        (["--share", "1.5"], "share=1.5; expected"),
        (["--share", "nan"], "share=nan; expected"),
        (["--at-most", "0"], "at_most=0; expected at least 1"),
        (["--negatives", "0"], "negatives=0; expected at least 1"),
        (["--negatives", "4"], "_nega of .*tuples_8 holds 3 of each positive"),
        (["--seed", "-1"], "seed=-1; expected a number from 0"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(root, capsys, options, message):
    before = sorted(os.listdir(root))
    assert exit_code(main, [str(root), "8", "bad", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 2
    assert re.search(message, error)
    assert sorted(os.listdir(root)) == before


def test_an_existing_variant_is_left_alone(root, capsys):
    before = read_catalogue(root, "8v").checksum
    assert exit_code(main, [str(root), "8", "8v", "--share", "0.5"]) == 1
    assert "tuples_8v exists and is left as it is" in capsys.readouterr().err
    assert read_catalogue(root, "8v").checksum == before


def test_the_new_variant_cannot_lie_elsewhere(root, capsys):
    assert exit_code(main, [str(root), "8", "x/../../y"]) == 1
    assert "has a path separator" in capsys.readouterr().err


def test_a_variant_that_is_wrong_is_not_taken_further(tmp_path, capsys):
    root = write_polyvore_u(tmp_path / "data", image_size=None)
    edit_line(root / "tuples_8" / "tuples_train_nega", 5, "0,1,2,99")
    assert exit_code(main, [str(root), "8", "new"]) == 1
    assert "tuples_train_nega:5: item 99 is out of range" in capsys.readouterr().err
    assert exit_code(main, [str(root), "9", "new"]) == 1
    assert "has the variants ['8']" in capsys.readouterr().err
    assert sorted(p.name for p in root.glob("*tuples_*")) == ["tuples_8"]


def test_the_command_line_says_what_was_made(root, capsys, new):
    assert (
        exit_code(main, [str(root), "8", new, "--users", "0-2", "--at-most", "4"]) == 0
    )
    assert capsys.readouterr().out == (
        f"{root}/tuples_{new} has 3 users; positives: 12 train, 6 val, 6 test\n"
    )


def test_a_root_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no data at"):
        split_users(tmp_path / "data" / "polyvore", "630", "base", random_users=5)
    assert list(tmp_path.iterdir()) == []
