"""The reader of the Polyvore-U layout: what it returns, and each bad input."""

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest

from fhn_jax.data.catalogue import name_fault
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.tables import read_table
from fhn_jax.data.titles import read_titles
from tests.polyvore_u import (
    edit_line,
    read_lines,
    write_lines,
    write_polyvore_u,
    write_table,
)

TWO_TOPS = ("top", "top", "bottom", "shoe")


@pytest.fixture
def root(tmp_path):
    return write_polyvore_u(tmp_path / "data", image_size=None)


@pytest.fixture
def folder(root):
    return root / "tuples_8"


@pytest.fixture
def two_tops(tmp_path):
    return write_polyvore_u(tmp_path / "data", slots=TWO_TOPS, image_size=None)


def rows(path):
    """The integers of a CSV file."""
    return np.array([line.split(",") for line in read_lines(path)[1:]], int)


def assert_refused(root, *parts, error=ValueError, variant="8"):
    """Reading fails, and the text has all the parts."""
    with pytest.raises(error) as caught:
        read_catalogue(root, variant)
    for part in parts:
        assert part in str(caught.value), (part, str(caught.value))


# What is read


def test_tables_are_those_of_the_files(root, folder):
    catalogue = read_catalogue(root, "8")
    assert list(catalogue.splits) == ["train", "val", "test"]
    for name, split in catalogue.splits.items():
        table = rows(folder / f"tuples_{name}_posi")
        np.testing.assert_array_equal(split.positives.users, table[:, 0])
        np.testing.assert_array_equal(split.positives.items, table[:, 1:])
        assert split.positives.users.dtype == np.int32
        assert split.positives.items.dtype == np.int32
        assert len(split.positives) == len(table)
        for kind, ending in (("random", "nega"), ("hard", "nega_hard")):
            table = rows(folder / f"tuples_{name}_{ending}")
            np.testing.assert_array_equal(split.negatives[kind].users, table[:, 0])
            np.testing.assert_array_equal(split.negatives[kind].items, table[:, 1:])
            assert split.ratio(kind) == 3


def test_catalogue_says_what_the_header_says(root):
    catalogue = read_catalogue(root, "8")
    assert catalogue.categories == ("top", "bottom", "shoe")
    assert catalogue.slots == (0, 1, 2)
    assert catalogue.slot_names == ("top", "bottom", "shoe")
    assert catalogue.num_users == 8
    assert catalogue.offsets == (0, 32, 64, 96)
    assert catalogue.num_items == 96
    assert catalogue.names[1][:2] == ("bottom000.jpg", "bottom001.jpg")
    assert catalogue.item_names()[32] == "bottom000.jpg"
    assert catalogue.variant == "8"
    assert catalogue.dataset == "data"


def test_categories_come_from_the_header_whatever_they_are(tmp_path):
    slots = ("hat", "dress", "dress", "ring", "bag")
    root = write_polyvore_u(tmp_path / "wardrobe", slots=slots)
    catalogue = read_catalogue(root, "8")
    assert catalogue.categories == ("hat", "dress", "ring", "bag")
    assert catalogue.slots == (0, 1, 1, 2, 3)
    assert catalogue.dataset == "wardrobe"


def test_demo_marker_makes_the_data_set_demo(root):
    (root / "DEMO").write_text("{}")
    assert read_catalogue(root, "8").dataset == "demo"


def test_global_ids_add_the_offset_of_the_slots_category(two_tops):
    catalogue = read_catalogue(two_tops, "8")
    items = np.array([[[1, 2, 3, 4]]])
    np.testing.assert_array_equal(
        catalogue.global_ids(items), [[[1, 2, 3 + 32, 4 + 64]]]
    )
    assert catalogue.global_ids(items).dtype == np.int32
    with pytest.raises(ValueError, match=r"one id for each of the 4 slots"):
        catalogue.global_ids(np.zeros((2, 3), np.int64))


def test_split_items_are_those_of_its_positives_sorted(two_tops):
    catalogue = read_catalogue(two_tops, "8")
    table = rows(two_tops / "tuples_8/tuples_val_posi")
    tops, bottoms, shoes = catalogue.split_items("val")
    assert tops.tolist() == sorted(set(table[:, 1:3].ravel().tolist()) - {-1})
    assert bottoms.tolist() == sorted(set(table[:, 3].tolist()))
    assert shoes.tolist() == sorted(set(table[:, 4].tolist()))
    with pytest.raises(KeyError, match="no split 'dev' in"):
        catalogue.split_items("dev")


def test_missing_second_top_is_the_first_top_repeated(two_tops):
    catalogue = read_catalogue(two_tops, "8")
    table = rows(two_tops / "tuples_8/tuples_train_posi")[:, 1:]
    absent = table[:, 1] == -1
    assert 0 < absent.sum() < len(table)
    table[absent, 1] = table[absent, 0]
    np.testing.assert_array_equal(catalogue.splits["train"].positives.items, table)


def test_questions_put_the_answer_first(root, folder):
    questions = read_catalogue(root, "8").fitb["test"]
    table = rows(folder / "fill_in_blank_test").reshape(-1, 4, 4)
    np.testing.assert_array_equal(questions.users, table[:, 0, 0])
    np.testing.assert_array_equal(questions.items, table[:, :, 1:])
    np.testing.assert_array_equal(
        questions.items[:, 0], read_catalogue(root, "8").splits["test"].positives.items
    )
    assert len(questions) == 16


def test_question_may_differ_in_a_first_top_without_a_second(two_tops):
    path = two_tops / "tuples_8/fill_in_blank_test"
    header = ",".join(["user", *TWO_TOPS] * 2)
    write_table(path, header, [[0, 1, -1, 2, 3, 0, 4, -1, 2, 3]])
    questions = read_catalogue(two_tops, "8").fitb["test"]
    assert questions.items.tolist() == [[[1, 1, 2, 3], [4, 4, 2, 3]]]


def test_val_hard_negatives_questions_and_train_negatives_may_be_absent(root, folder):
    for path in folder.iterdir():
        if re.search("val|hard|blank|train_nega", path.name):
            path.unlink()
    catalogue = read_catalogue(root, "8")
    assert list(catalogue.splits) == ["train", "test"]
    assert not catalogue.splits["train"].negatives
    assert list(catalogue.splits["test"].negatives) == ["random"]
    assert not catalogue.fitb
    with pytest.raises(KeyError, match="train split has no 'random' negatives; .*none"):
        catalogue.splits["train"].ratio("random")


def test_val_questions_are_read_too(root, folder):
    (folder / "fill_in_blank_val").write_bytes(
        (folder / "fill_in_blank_test").read_bytes()
    )
    assert sorted(read_catalogue(root, "8").fitb) == ["test", "val"]


def test_checksum_is_over_all_files_in_the_order_of_their_names(root, folder):
    expected = hashlib.sha256(
        b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    )
    assert read_catalogue(root, "8").checksum == expected.hexdigest()
    (folder / "notes.txt").write_text("not read")
    assert read_catalogue(root, "8").checksum == expected.hexdigest()
    (folder / "tuples_val_nega_hard").unlink()
    assert read_catalogue(root, "8").checksum != expected.hexdigest()


def test_windows_line_ends_are_read(root, folder):
    expected = read_catalogue(root, "8")
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    found = read_catalogue(root, "8")
    assert found.names == expected.names
    np.testing.assert_array_equal(
        found.splits["test"].positives.items, expected.splits["test"].positives.items
    )


def test_reading_imports_no_machine_learning():
    code = (
        "import sys, fhn_jax.data.layout; "
        "print([m for m in ('jax', 'flax', 'tensorflow', 'lmdb') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# Missing data


def test_missing_root_says_what_it_should_look_like(tmp_path):
    assert_refused(
        tmp_path / "nowhere",
        str(tmp_path / "nowhere"),
        "tuples_VARIANT",
        "python -m data_tools.make_demo",
        error=FileNotFoundError,
    )


def test_missing_variant_lists_those_that_are_there(root):
    write_polyvore_u(root, variant="53")
    parts = ["tuples_630 is missing", "['53', '8']", "config.data.variant"]
    assert_refused(root, *parts, error=FileNotFoundError, variant="630")


def test_root_without_variants_says_so(tmp_path):
    assert_refused(tmp_path, "has no folder tuples_*", error=FileNotFoundError)


@pytest.mark.parametrize("variant", ["", "../8", "a\\b", "..\n"])
def test_variant_is_no_path(root, variant):
    assert_refused(root, "data variant", variant=variant)


@pytest.mark.parametrize(
    "name",
    [
        "image_list_bottom",
        "tuples_train_posi",
        "tuples_test_posi",
        "tuples_test_nega",
        "tuples_val_nega",
    ],
)
def test_missing_file_is_named(root, folder, name):
    (folder / name).unlink()
    assert_refused(root, name, "expected", error=FileNotFoundError)


def test_val_negatives_without_positives_are_refused(root, folder):
    (folder / "tuples_val_posi").unlink()
    assert_refused(
        root, "tuples_val_nega", "not tuples_val_posi", error=FileNotFoundError
    )


# Half-downloaded data


@pytest.mark.parametrize("name", ["tuples_train_posi", "tuples_test_nega"])
def test_empty_file_is_refused(root, folder, name):
    (folder / name).write_text("")
    assert_refused(root, f"{name} is empty", "again")


def test_empty_image_list_is_refused(root, folder):
    (folder / "image_list_shoe").write_text("")
    assert_refused(root, "image_list_shoe is empty", "one name a line")


def test_header_without_rows_is_refused(root, folder):
    (folder / "tuples_test_posi").write_text("user,top,bottom,shoe\n")
    assert_refused(root, "tuples_test_posi has a header and no rows")


def test_file_cut_off_between_columns_names_the_last_line(root, folder):
    path = folder / "tuples_val_nega"
    lines = read_lines(path)
    path.write_text("\n".join(lines[:20]) + "\n0,1")
    assert_refused(
        root, f"{path}:21: '0,1' has 2 columns (the file is cut off there); expected 4"
    )


def test_file_cut_off_within_a_number_names_the_last_line(root, folder):
    path = folder / "fill_in_blank_test"
    path.write_bytes(path.read_bytes()[:-2])
    assert_refused(root, f"{path}:17: the last line", "no line end", "cut off")


def test_negatives_cut_off_at_a_line_are_refused(root, folder):
    write_lines(
        folder / "tuples_test_nega", read_lines(folder / "tuples_test_nega")[:-1]
    )
    parts = ["tuples_test_nega has 47 rows", "multiple of the 16 positives", "cut off"]
    assert_refused(root, *parts)


def test_fewer_negatives_than_positives_are_refused(root, folder):
    write_lines(
        folder / "tuples_test_nega", read_lines(folder / "tuples_test_nega")[:9]
    )
    assert_refused(root, "tuples_test_nega has 8 rows", "multiple of the 16 positives")


def test_page_downloaded_instead_of_data_is_shown(root, folder):
    (folder / "tuples_train_posi").write_text("<!DOCTYPE html>" + " " * 5000)
    assert_refused(root, "tuples_train_posi:1: the header is '<!DOCTYPE html>", "again")


def test_zeros_instead_of_data_are_refused(root, folder):
    path = folder / "tuples_train_nega"
    path.write_bytes(bytes(len(path.read_bytes())))
    assert_refused(root, "tuples_train_nega:1: the header is '\\x00")


# Headers and columns


@pytest.mark.parametrize(
    "header", ["top,bottom,shoe", "user", "user,top,,shoe", "user, top", "user,../top"]
)
def test_wrong_train_header_says_what_is_expected(root, folder, header):
    edit_line(folder / "tuples_train_posi", 1, header)
    assert_refused(root, "tuples_train_posi:1:", "`user,top,bottom,shoe`")


def test_slots_of_a_category_must_be_neighbours(root, folder):
    edit_line(folder / "tuples_train_posi", 1, "user,top,bottom,top")
    parts = ["tuples_train_posi:1:", "category 'top' are apart", "user,top,top,bottom"]
    assert_refused(root, *parts)


def test_header_that_differs_between_files_is_refused(root, folder):
    edit_line(folder / "tuples_test_nega", 1, "user,bottom,top,shoe")
    assert_refused(
        root,
        "tuples_test_nega:1: the header is 'user,bottom,top,shoe'; expected "
        "'user,top,bottom,shoe'",
    )


@pytest.mark.parametrize(
    ("line", "columns"), [("0,1,2", 3), ("0,1,2,3,4", 5), ("", 1), ("0,1", 2)]
)
def test_wrong_column_count_names_file_and_line(root, folder, line, columns):
    path = folder / "tuples_train_nega"
    edit_line(path, 7, line)
    assert_refused(root, f"{path}:7: {line!r} has {columns} columns; expected 4")


@pytest.mark.parametrize(
    "field",
    ["1.5", "x", "", " 1", "1e3", "-", "--1", "1-1", "+1", "0x1", "٣", "9" * 30],
)
def test_field_that_is_no_integer_names_file_and_line(root, folder, field):
    path = folder / "tuples_test_posi"
    edit_line(path, 3, f"0,16,{field},16")
    assert_refused(root, f"{path}:3:", "is no integer id")


# Items and users


@pytest.mark.parametrize(("item", "slot"), [(32, 0), (-2, 1), (2**31, 2), (2**40, 1)])
def test_item_out_of_range_names_line_column_and_list(root, folder, item, slot):
    path = folder / "tuples_test_nega_hard"
    row = [0, 16, 16, 16]
    row[slot + 1] = item
    edit_line(path, 5, ",".join(map(str, row)))
    name = ("top", "bottom", "shoe")[slot]
    assert_refused(root, f"{path}:5:", f"{item} ", f"column {slot + 2} ({name})")


def test_item_out_of_range_says_the_length_of_the_list(root, folder):
    edit_line(folder / "tuples_train_posi", 2, "0,1,32,3")
    assert_refused(root, "expected 0 to 31, the 32 lines of image_list_bottom")


def test_short_image_list_is_seen_by_the_ids(root, folder):
    path = folder / "image_list_top"
    write_lines(path, read_lines(path)[:20])
    assert_refused(root, "out of range", "the 20 lines of image_list_top")


@pytest.mark.parametrize("row", ["0,-1,1,2,3", "0,1,2,-1,3"])
def test_only_a_second_top_may_be_missing(two_tops, row):
    path = two_tops / "tuples_8/tuples_train_posi"
    edit_line(path, 2, row)
    assert_refused(two_tops, f"{path}:2: item -1", "only in its second slot")


def test_item_may_not_be_missing_beside_negatives_that_have_it(root, folder):
    edit_line(folder / "tuples_train_posi", 2, "0,1,-1,3")
    assert_refused(root, "tuples_train_nega:2: the outfit is of top+bottom+shoe")


def test_negative_user_is_refused(root, folder):
    edit_line(folder / "tuples_train_posi", 4, "-1,1,2,3")
    assert_refused(root, "tuples_train_posi:4: user -1 is negative")


def test_gaps_in_the_users_are_named(root, folder):
    path = folder / "tuples_train_posi"
    lines = [line for line in read_lines(path) if line[0] not in "256"]
    write_lines(path, lines)
    assert_refused(root, f"{path}: 3 user ids have no positive: 2, 5, 6; expected", "7")


def test_many_gaps_are_counted_without_listing_them_all(root, folder):
    edit_line(folder / "tuples_train_posi", 49, "2000000000,1,2,3")
    assert_refused(root, "1,999,999,992 user ids", "8, 9, 10, 11, 12, …")


@pytest.mark.parametrize("name", ["tuples_val_posi", "tuples_test_posi"])
def test_user_without_training_outfits_is_refused(root, folder, name):
    edit_line(folder / name, 17, "8,30,30,30")
    assert_refused(root, f"{name}:17: user 8 has no train positive; expected 0 to 7")


def test_negative_of_another_user_names_its_positive(root, folder):
    path = folder / "tuples_val_nega"
    line = read_lines(path)[6 + 1]
    assert line.startswith("1,")
    edit_line(path, 8, "0" + line[1:])
    assert_refused(
        root, f"{path}:8: user 0; expected 1, the user of positive 2 (line 4"
    )


# Names


def test_duplicate_name_is_refused_with_both_lines(root, folder):
    edit_line(folder / "image_list_shoe", 9, "shoe002.jpg")
    assert_refused(
        root, "image_list_shoe:9: the name 'shoe002.jpg' is already in line 3"
    )


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("/etc/passwd", "path separator"),
        ("../a.jpg", "path separator"),
        ("a\\b.jpg", "path separator"),
        ("..", "is a folder"),
        (".", "is a folder"),
        ("a\0.jpg", "control character"),
        ("a\x1b[2J.jpg", "control character"),
        ("", "is empty"),
        ("a" * 256, "longer than 255 bytes"),
    ],
)
def test_name_that_could_leave_its_folder_is_refused(root, folder, name, fault):
    edit_line(folder / "image_list_top", 3, name)
    assert_refused(root, "image_list_top:3: the name", fault)


def test_names_of_real_files_have_no_fault():
    assert name_fault("b94bafb3edbead0087962c3f32a3852a2ce94608.jpg") is None
    assert name_fault("rød kjole (2).png") is None
    assert name_fault("..jpg") is None


def test_image_list_that_is_no_text_names_the_line(root, folder):
    path = folder / "image_list_top"
    path.write_bytes(b"top000.jpg\nb\xff.jpg\n")
    assert_refused(root, "image_list_top:2: not UTF-8 text")


def test_a_byte_order_mark_is_no_part_of_the_data(root, folder):
    before = read_catalogue(root, "8")
    (root / "titles.json").write_text('{"top000.jpg": "Shirt"}', encoding="utf-8-sig")
    for path in folder.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    after = read_catalogue(root, "8")
    assert after.names == before.names and after.categories == before.categories
    for name, split in before.splits.items():
        ours = after.splits[name].positives
        np.testing.assert_array_equal(ours.items, split.positives.items)
    assert len(after.fitb["test"]) == len(before.fitb["test"])
    header, table = read_table(folder / "tuples_test_posi")
    assert header == "user,top,bottom,shoe"
    assert len(table) == len(before.splits["test"].positives)
    assert read_titles(root / "titles.json") == {"top000.jpg": "Shirt"}
