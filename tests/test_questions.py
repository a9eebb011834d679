"""Fill-in-the-blank questions of the Polyvore-U layout: each bad input."""

import pytest

from fhn_jax.data.layout import read_catalogue
from tests.polyvore_u import edit_line, read_lines, write_lines, write_polyvore_u
from tests.test_schema import assert_refused


@pytest.fixture
def root(tmp_path):
    return write_polyvore_u(tmp_path / "data", image_size=None)


@pytest.fixture
def folder(root):
    return root / "tuples_8"


def test_question_header_must_be_the_header_repeated(root, folder):
    path = folder / "fill_in_blank_test"
    header = read_lines(path)[0]
    for wrong in ("user,top,bottom,shoe", header + ",user", header[5:] + ",user"):
        edit_line(path, 1, wrong)
        assert_refused(root, "fill_in_blank_test:1: the header is", "side by side")


def test_long_headers_are_compared_in_full(tmp_path):
    slots = tuple("c" * 40 + letter for letter in "abcd")
    root = write_polyvore_u(tmp_path, slots=slots)
    assert read_catalogue(root, "8").fitb["test"].items.shape == (16, 4, 4)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("0,17,18,19,1,20,18,19", "users [0, 1]; expected one"),
        ("0,17,18,19,0,20,21,19", "differ in 2 slots ['top', 'bottom']"),
        ("0,17,18,19,0,17,18,19", "differ in 0 slots []"),
        ("9,17,18,19,9,20,18,19", "user 9 has no train positive"),
        ("0,17,18,19,0,17,18,32", "item 32 is out of range in column 4 (shoe)"),
        ("0,17,18,19", "has 4 columns; expected 8"),
    ],
)
def test_bad_question_names_the_line(root, folder, row, fault):
    header = "user,top,bottom,shoe,user,top,bottom,shoe"
    good = "0,17,18,19,0,20,18,19"
    write_lines(folder / "fill_in_blank_test", [header, good, row, good])
    assert_refused(root, "fill_in_blank_test:3:", fault)


def test_question_with_a_copy_of_the_answer_is_refused(root, folder):
    header = ",".join(["user,top,bottom,shoe"] * 3)
    row = "0,17,18,19,0,20,18,19,0,17,18,19"
    write_lines(folder / "fill_in_blank_test", [header, row])
    assert_refused(root, "fill_in_blank_test:2: candidate 3 is the answer once more")
