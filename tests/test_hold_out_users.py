"""Known and new users of one data set."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from polyvore_u import read_lines, write_polyvore_u

from data_tools.hold_out_users import hold_out_users, main
from fhn_jax.data.schema import read_catalogue, read_text_vectors

SLOTS = (("top", "bottom", "shoe"), ("top", "top", "bottom", "shoe"))


@pytest.fixture(scope="module", params=SLOTS, ids=len)
def root(request, tmp_path_factory):
    return write_polyvore_u(
        tmp_path_factory.mktemp("data") / "tiny", slots=request.param
    )


@pytest.fixture
def parted(root, tmp_path):
    """All users, and the catalogues of the known and of the new ones."""
    out = tmp_path / "out"
    names = hold_out_users(root, "8", out, new=3, likes=2, dislikes=4)
    assert names == ("5", "3")
    return read_catalogue(root, "8"), *(read_catalogue(out, n) for n in names)


def rows(outfits):
    return np.column_stack([outfits.users, outfits.items]).tolist()


def test_every_table_is_parted_by_user(parted):
    everyone, known, new = parted
    for split, part in everyone.splits.items():
        tables = {"positives": part.positives, **part.negatives}
        for kind, table in tables.items():
            mine = [row for row in rows(table) if row[0] < 5]
            theirs = [[row[0] - 5, *row[1:]] for row in rows(table) if row[0] >= 5]
            ours, others = (
                rows(dict(positives=s.positives, **s.negatives).get(kind, table))
                for s in (known.splits[split], new.splits[split])
            )
            if split != "train":
                assert (ours, others) == (mine, theirs)
            elif kind != "hard":
                assert ours == mine
                assert all(row in theirs for row in others)
    assert [len(known.fitb["test"]), len(new.fitb["test"])] == [10, 6]
    assert new.fitb["test"].users.tolist() == [0, 0, 1, 1, 2, 2]


def test_new_users_keep_the_likes_and_dislikes_asked_for(parted):
    everyone, _, new = parted
    train = new.splits["train"]
    assert np.bincount(train.positives.users).tolist() == [2, 2, 2]
    assert train.ratio("random") == 2
    whole = everyone.splits["train"]
    positives, negatives = rows(whole.positives), rows(whole.negatives["random"])
    for number, (user, *items) in enumerate(rows(train.positives)):
        row = positives.index([user + 5, *items])
        of_it = [[r[0] + 5, *r[1:]] for r in rows(train.negatives["random"])]
        assert of_it[2 * number : 2 * number + 2] == negatives[3 * row : 3 * row + 2]


def test_known_users_have_no_hard_negatives_of_new_ones(parted):
    _, known, _ = parted
    assert set(known.splits["train"].negatives) == {"random"}
    assert set(known.splits["test"].negatives) == {"random", "hard"}


def test_items_images_and_text_are_the_same(parted):
    everyone, known, new = parted
    assert known.names == new.names == everyone.names
    vectors = read_text_vectors(everyone.root, everyone)
    np.testing.assert_array_equal(read_text_vectors(new.root, new), vectors)
    image = new.root / "images" / "291x291" / new.names[0][0]
    assert image.read_bytes()


def test_another_seed_keeps_other_likes(root, tmp_path):
    for seed in (0, 0, 1):
        out = tmp_path / f"{seed}{len(list(tmp_path.iterdir()))}"
        hold_out_users(root, "8", out, new=3, likes=2, dislikes=2, seed=seed)
    first, again, other = (
        read_lines(out / "tuples_3" / "tuples_train_posi")
        for out in sorted(tmp_path.iterdir())
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(new=0), "new=0 of 8 users: expected 1 to 7"),
        (dict(new=8), "new=8 of 8"),
        (dict(new=4), "not half of them"),
        (dict(likes=7, dislikes=7), "user 5 has 6 training outfits; likes=7 is too"),
        (dict(likes=0), "likes=0, dislikes=4: expected dislikes that are 1 to 3 times"),
        (dict(likes=3, dislikes=4), "likes=3, dislikes=4"),
        (dict(likes=2, dislikes=8), "likes=2, dislikes=8"),
        (dict(likes=2, dislikes=0), "likes=2, dislikes=0"),
    ],
)
def test_impossible_parts_are_refused_and_nothing_is_written(
    root, tmp_path, options, message
):
    options = dict(new=3, likes=2, dislikes=4) | options
    with pytest.raises(ValueError, match=message):
        hold_out_users(root, "8", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_command_line_says_what_it_made_or_what_is_wrong(root, tmp_path):
    command = [sys.executable, "-m", "data_tools.hold_out_users", str(root), "8"]
    command += [str(tmp_path / "out"), "--new=3", "--likes=2", "--dislikes=4"]
    cwd = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.stdout.endswith("tuples_5 (known users), tuples_3 (new users)\n")
    with pytest.raises(SystemExit, match="error: .*out"):
        main(command[3:])
