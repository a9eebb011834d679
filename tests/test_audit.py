"""What is odd about a data set is counted before it is trained on."""

import pytest
from polyvore_u import edit_line, read_lines, write_lines, write_polyvore_u
from runs import best, settings, train

from fhn_jax.data.audit import audit, describe
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError
from fhn_jax.training import experiment
from fhn_jax.training.loop import Loop

NOTHING = {
    "users_without_outfits": 0,
    "train_overlaps": 0,
    "false_negatives": 0,
    "duplicates": 0,
}
SHORT = {"train.epochs": 1}


@pytest.fixture
def root(tmp_path):
    return write_polyvore_u(tmp_path / "data", image_size=None)


def lines(root, name):
    path = root / "tuples_8" / name
    return path, read_lines(path)


def copy_row(root, source, row, target, to):
    edit_line(root / "tuples_8" / target, to, lines(root, source)[1][row - 1])


def test_sound_data_have_nothing_odd(root):
    counts = audit(read_catalogue(root, "8"))
    assert counts == NOTHING and describe(counts) == ""


def test_what_is_odd_is_counted(root):
    # Rows of user 0 are first in all files.
    copy_row(root, "tuples_train_posi", 2, "tuples_test_posi", 2)
    copy_row(root, "tuples_train_posi", 3, "tuples_train_posi", 4)
    copy_row(root, "tuples_test_posi", 3, "tuples_test_nega", 2)
    copy_row(root, "tuples_val_posi", 2, "tuples_test_nega_hard", 3)
    counts = audit(read_catalogue(root, "8"))
    assert counts == NOTHING | {
        "train_overlaps": 1,
        "false_negatives": 2,
        "duplicates": 1,
    }
    assert describe(counts) == (
        "test outfits that are train outfits of the same user: 1; test negatives that "
        "are outfits of the same user: 2; outfits that are listed again for the same "
        "user in the same split: 1"
    )


def test_an_outfit_of_another_user_is_no_overlap(root):
    _, rows = lines(root, "tuples_train_posi")
    other = next(row for row in rows[1:] if row.startswith("1,"))
    edit_line(root / "tuples_8" / "tuples_test_posi", 2, "0" + other[1:])
    assert audit(read_catalogue(root, "8")) == NOTHING


def test_the_order_of_two_tops_does_not_matter(tmp_path):
    root = write_polyvore_u(
        tmp_path / "data", slots=("top", "top", "bottom", "shoe"), image_size=None
    )
    edit_line(root / "tuples_8" / "tuples_train_posi", 2, "0,1,2,3,4")
    edit_line(root / "tuples_8" / "tuples_test_posi", 2, "0,2,1,3,4")
    assert audit(read_catalogue(root, "8"))["train_overlaps"] == 1


def drop_user(root, user):
    """Takes the test outfits of a user away."""
    for name in ("tuples_test_posi", "tuples_test_nega", "tuples_test_nega_hard"):
        path, rows = lines(root, name)
        write_lines(path, [row for row in rows if not row.startswith(f"{user},")])


def test_what_is_wrong_or_odd_is_said_before_training(
    root, tmp_path, monkeypatch, capsys
):
    drop_user(root, 3)
    copy_row(root, "tuples_train_posi", 2, "tuples_test_posi", 2)
    for name in ("fill_in_blank_test", "tuples_val_nega_hard"):
        (root / "tuples_8" / name).unlink()
    assert audit(read_catalogue(root, "8"))["users_without_outfits"] == 1
    monkeypatch.setattr(Loop, "run", lambda *_: None)
    with pytest.raises(FileNotFoundError):  # nothing was trained
        train(settings(root, SHORT), tmp_path / "run")
    error = capsys.readouterr().err
    where = f"tuples_8 in {root}"
    assert (
        f"error: {where}: test outfits that are train outfits of the same user: 1 of 14\n"
        f"warning: {where}: users without a test outfit, left out of all means: 1 of 8\n"
        f"`fhn-jax inspect {root} --variant 8` shows which, and what to do\n"
    ) in error
    assert "note: " not in error


@pytest.mark.slow
def test_a_checkpoint_is_tied_to_what_it_was_trained_on(root, tmp_path):
    config = settings(root, SHORT)
    before = train(config, tmp_path / "run")
    drop_user(root, 3)
    assert best(config, tmp_path / "run").step == before.step
    path, rows = lines(root, "tuples_val_posi")
    write_lines(path, rows[:1] + rows[1:][::-1])
    for name in ("tuples_val_nega", "tuples_val_nega_hard"):
        (root / "tuples_8" / name).unlink()
    path.unlink()
    with pytest.raises(InputError, match="trained on other data"):
        best(config, tmp_path / "run")


@pytest.mark.slow
def test_a_checkpoint_of_old_with_the_checksum_of_all_files_is_read(
    root, tmp_path, monkeypatch
):
    config = settings(root, SHORT)
    read = experiment.read_catalogue

    def as_of_old(*arguments):
        catalogue = read(*arguments)
        object.__setattr__(catalogue, "train_checksum", catalogue.checksum)
        return catalogue

    monkeypatch.setattr(experiment, "read_catalogue", as_of_old)
    step = train(config, tmp_path / "run").step
    monkeypatch.undo()
    assert best(config, tmp_path / "run").step == step
    drop_user(root, 3)
    with pytest.raises(InputError, match="trained on other data"):
        best(config, tmp_path / "run")
