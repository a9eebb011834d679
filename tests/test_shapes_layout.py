"""Outfits of several shapes, as they are read, checked and written."""

import dataclasses

import numpy as np
import pytest
from polyvore_u import edit_line, read_lines, write_lines, write_polyvore_u
from shapes import SLOTS, TEMPLATES, write_shapes

from fhn_jax.data.audit import audit, describe
from fhn_jax.data.catalogue import stored_outfits, template_masks
from fhn_jax.data.layout import read_catalogue, write_outfits, write_questions
from fhn_jax.errors import InputError

THREE = "top+bottom+shoe"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Files that no test changes."""
    return write_shapes(tmp_path_factory.mktemp("shapes") / "data")


@pytest.fixture
def root(tmp_path):
    return write_shapes(tmp_path / "data")


def rows(root, name):
    return np.loadtxt(
        root / "tuples_8" / name, np.int64, delimiter=",", skiprows=1, ndmin=2
    )


def test_templates_are_those_of_the_positives(shapes):
    catalogue = read_catalogue(shapes, "8")
    assert catalogue.slot_names == SLOTS
    assert catalogue.templates == TEMPLATES
    assert catalogue.template_name(TEMPLATES[1]) == "top+bottom+shoe+outerwear"


def test_outfits_of_one_shape_have_one_template_of_all_slots(tmp_path):
    two_tops = ("top", "top", "bottom", "shoe")
    write_polyvore_u(tmp_path, image_size=None)
    write_polyvore_u(tmp_path, variant="9", slots=two_tops, image_size=None)
    assert read_catalogue(tmp_path, "8").templates == ((0, 1, 2),)
    # -1 in the second of two tops is no template of its own.
    assert read_catalogue(tmp_path, "9").templates == ((0, 1, 2, 3),)


def test_absent_items_stay_absent(shapes):
    catalogue = read_catalogue(shapes, "8")
    for split, part in catalogue.splits.items():
        np.testing.assert_array_equal(
            part.positives.items, rows(shapes, f"tuples_{split}_posi")[:, 1:]
        )
        assert part.positives.items.min() == -1
        for negatives in part.negatives.values():
            np.testing.assert_array_equal(
                template_masks(negatives.items),
                np.repeat(template_masks(part.positives.items), 3),
            )
    questions = rows(shapes, "fill_in_blank_test").reshape(-1, 4, 7)
    np.testing.assert_array_equal(catalogue.fitb["test"].items, questions[:, :, 1:])


def test_global_ids_and_items_of_a_split_leave_absent_items_out(shapes):
    catalogue = read_catalogue(shapes, "8")
    items = catalogue.splits["train"].positives.items
    found = catalogue.global_ids(items)
    np.testing.assert_array_equal(
        found, np.where(items < 0, -1, items + 32 * np.arange(6))
    )
    for slot, ids in enumerate(catalogue.split_items("train")):
        assert ids.tolist() == sorted(set(items[:, slot].tolist()) - {-1})
    with pytest.raises(InputError, match="ids within the category"):
        catalogue.global_ids(np.full((1, 6), -2))


def test_a_slot_that_all_templates_have_is_never_absent(tmp_path):
    write_shapes(tmp_path, templates=((0, 1, 2), (2, 3)))
    catalogue = read_catalogue(tmp_path, "8")
    assert catalogue.global_ids(np.array([[-1, -1, 5, 0]])).tolist() == [
        [-1, -1, 69, 96]
    ]
    with pytest.raises(InputError, match="ids within the category"):
        catalogue.global_ids(np.array([[0, 1, -1, 0]]))


def test_stored_outfits_tell_templates_apart(shapes):
    catalogue = read_catalogue(shapes, "8")
    stored = stored_outfits(catalogue)
    want = {
        tuple(row)
        for part in catalogue.splits.values()
        for row in part.positives.items.tolist()
    }
    assert len(stored) == len(want)
    assert {tuple(row) for row in stored.tolist()} == want


def test_what_is_written_is_read_back(root):
    before = read_catalogue(root, "8")
    folder = root / "tuples_8"
    test = before.splits["test"]
    users = test.positives.users
    write_outfits(
        folder / "tuples_test_posi", SLOTS, users, test.positives.items[:, None]
    )
    write_outfits(
        folder / "tuples_test_nega",
        SLOTS,
        users,
        test.negatives["random"].items.reshape(len(users), 3, 6),
    )
    questions = before.fitb["test"]
    write_questions(
        folder / "fill_in_blank_test", SLOTS, questions.users, questions.items
    )
    assert read_catalogue(root, "8").checksum == before.checksum


# What is refused


def assert_refused(root, *texts):
    with pytest.raises(InputError) as refused:
        read_catalogue(root, "8")
    for text in texts:
        assert text in str(refused.value)


def test_an_outfit_without_items_is_refused(root):
    edit_line(root / "tuples_8/tuples_val_posi", 3, "0" + ",-1" * 6)
    assert_refused(root, "tuples_val_posi:3: the outfit has no item", "drop the row")


def test_items_below_minus_one_are_refused(root):
    edit_line(root / "tuples_8/tuples_train_posi", 2, "0,-2,1,1,-1,-1,-1")
    assert_refused(root, "tuples_train_posi:2: item -2 is out of range in column 2")


def test_a_negative_of_another_template_is_refused(root):
    # Line 2 of the positives is a top, a bottom and a shoe.
    edit_line(root / "tuples_8/tuples_test_nega", 4, "0,-1,-1,24,24,-1,24")
    assert_refused(
        root,
        "tuples_test_nega:4: the outfit is of shoe+dress+bag; expected "
        f"{THREE}, as of positive 0 (line 2 of the positives)",
    )


def test_candidates_of_several_templates_are_refused(root):
    path = root / "tuples_8/fill_in_blank_test"
    once = "0,24,24,24,-1,-1,-1"
    wrong = "0,24,24,-1,-1,-1,-1"
    write_lines(path, [read_lines(path)[0], ",".join([once, wrong, wrong, wrong])])
    assert_refused(
        root,
        f"fill_in_blank_test:2: candidate 2 is of top+bottom; expected {THREE}",
        "remove the file",
    )


def test_questions_of_a_template_of_nobody_are_refused(root):
    path = root / "tuples_8/fill_in_blank_test"
    candidates = [f"0,24,{item},-1,-1,-1,-1" for item in (24, 25, 26, 27)]
    write_lines(path, [read_lines(path)[0], ",".join(candidates)])
    assert_refused(
        root, "fill_in_blank_test:2: the candidates are of top+bottom, as no"
    )


def test_a_slot_that_nobody_fills_is_refused(tmp_path):
    write_polyvore_u(tmp_path, image_size=None)
    folder = tmp_path / "tuples_8"
    write_lines(folder / "image_list_bag", ["bag000.jpg"])
    for path in [*folder.glob("tuples_*")]:
        header, *lines = read_lines(path)
        write_lines(path, [f"{header},bag", *(f"{line},-1" for line in lines)])
    (folder / "fill_in_blank_test").unlink()
    assert_refused(tmp_path, "no positive of any split has an item of bag", "drop the")


# What is odd


def test_oddities_are_counted_per_template(shapes):
    catalogue = read_catalogue(shapes, "8")
    counts = audit(catalogue)
    assert describe(counts) == ""
    assert list(counts["by_template"]) == [
        catalogue.template_name(template) for template in TEMPLATES
    ]
    for of_template in counts["by_template"].values():
        assert of_template == {
            "positives": {"train": 16, "val": 8, "test": 8},
            "users_without_outfits": 0,
            "train_overlaps": 0,
            "false_negatives": 0,
            "duplicates": 0,
        }


def test_oddities_of_a_template_are_its_own(shapes):
    catalogue = read_catalogue(shapes, "8")
    train, test = catalogue.splits["train"], catalogue.splits["test"]
    # The first positive of all, three items, is tested again.
    items = test.positives.items.copy()
    items[0] = train.positives.items[0]
    positives = dataclasses.replace(test.positives, items=items)
    catalogue.splits["test"] = dataclasses.replace(test, positives=positives)
    counts = audit(catalogue)
    assert counts["train_overlaps"] == 1
    assert [
        of_template["train_overlaps"] for of_template in counts["by_template"].values()
    ] == [1, 0, 0, 0]
