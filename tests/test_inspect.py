"""What is planted in a data set is found, with its level, count, examples and remedy."""

import json
import re
import shutil

import numpy as np
import pytest
from fhn_jax.data_tools import inspect_data as program
from fhn_jax.data_tools.build_lmdb import build_lmdb
from fhn_jax.data_tools.split_users import split_users
from PIL import Image
from polyvore_u import edit_line, encode, read_lines, write_lines, write_polyvore_u
from shapes import write_shapes

from fhn_jax.data.inspection import inspect_data
from fhn_jax.errors import InputError, MissingFileError


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_polyvore_u(tmp_path_factory.mktemp("sound") / "data", image_size=80)


@pytest.fixture
def root(sound, tmp_path):
    """A data set in which each test plants something."""
    return shutil.copytree(sound, tmp_path / "data")


def folder(root):
    return root / "tuples_8"


def row(root, name, number):
    return read_lines(folder(root) / name)[number - 1]


def picture(root, name):
    return root / "images" / "291x291" / name


def findings(root, **options):
    return {
        (finding.kind, finding.what): finding
        for finding in inspect_data(root, "8", **options).findings
    }


def assert_found(root, kind, level, count, total, *, example, what="", full=False):
    """There is one finding of this kind (and text), and it says all this."""
    matching = [
        finding
        for (name, text), finding in findings(root, full=full).items()
        if name == kind and what in text
    ]
    assert len(matching) == 1, matching
    (finding,) = matching
    assert (finding.level, finding.count, finding.total) == (level, count, total)
    assert example in finding.examples[0] and len(finding.examples) <= 5
    assert finding.remedy.endswith(".")
    return finding


def test_sound_data_have_neither_errors_nor_warnings(root):
    found = inspect_data(root, full=True)
    assert [f.level for f in found.findings if f.level != "note"] == []
    assert found.verdict.startswith("0 errors, 0 warnings and ")
    assert found.items.shown.all() and found.items.sizes == {(80, 80): 96}


# Outfits


@pytest.mark.parametrize(
    ("source", "target", "what"),
    [
        ("train", "test", "test outfits that are train outfits of the same user"),
        ("train", "val", "val outfits that are train outfits of the same user"),
        ("val", "test", "test outfits that are val outfits of the same user"),
    ],
)
def test_outfits_of_two_splits_are_errors(root, source, target, what):
    copied = row(root, f"tuples_{source}_posi", 2)
    edit_line(folder(root) / f"tuples_{target}_posi", 3, copied)
    items = " + ".join(
        f"{category}{int(item):03}.jpg"
        for category, item in zip(
            ("top", "bottom", "shoe"), copied.split(",")[1:], strict=True
        )
    )
    example = f"tuples_{target}_posi:3: user 0: {items}"
    assert_found(root, "overlaps", "error", 1, 16, what=what, example=example)


def test_repeated_outfits_are_a_warning(root):
    edit_line(folder(root) / "tuples_train_posi", 4, row(root, "tuples_train_posi", 3))
    example = "tuples_train_posi:4: user 0"
    assert_found(root, "duplicates", "warning", 1, 48, example=example)


def test_items_of_test_that_are_trained_on_are_a_note(root):
    copied = row(root, "tuples_train_posi", 2)
    edit_line(folder(root) / "tuples_test_posi", 4, "1" + copied[1:])
    found = findings(root)
    seen = found["seen_items", "test items that training has seen too"]
    assert (seen.level, seen.count) == ("note", 3) and seen.examples[0].startswith(
        "top"
    )


@pytest.mark.parametrize(
    ("split", "kind", "level", "total"),
    [
        ("test", "nega", "error", 96),
        ("test", "nega_hard", "error", 96),
        ("train", "nega", "warning", 288),
    ],
)
def test_negatives_that_the_user_likes_are_found(root, split, kind, level, total):
    copied = row(root, f"tuples_{split}_posi", 3)
    edit_line(folder(root) / f"tuples_{split}_{kind}", 2, copied)
    what = f"{split} negatives that are outfits of the same user"
    example = f"tuples_{split}_{kind}:2: user 0"
    assert_found(root, "false_negatives", level, 1, total, what=what, example=example)


def test_random_negatives_that_others_like_are_a_note(root):
    last = row(root, "tuples_test_posi", 17)
    edit_line(folder(root) / "tuples_test_nega", 2, f"0{last[1:]}")
    example = "tuples_test_nega:2: user 0"
    assert_found(root, "liked_by_others", "note", 1, 48, example=example)


def test_questions_with_several_answers_or_none_are_found(root):
    own, other = row(root, "tuples_test_posi", 2), row(root, "tuples_test_posi", 3)
    user, top, bottom, shoe = own.split(",")
    # The other outfit of the user becomes one that differs in a single slot.
    other = ",".join([user, "31" if top != "31" else "30", bottom, shoe])
    wrong = f"{user},29,{bottom},{shoe}"
    nobody = f"{user},28,{bottom},{shoe}"
    edit_line(folder(root) / "tuples_test_posi", 3, other)
    path = folder(root) / "fill_in_blank_test"
    edit_line(path, 2, ",".join([own, other, wrong, wrong]))
    edit_line(path, 3, ",".join([nobody, wrong, wrong, wrong]))
    assert_found(
        *(root, "several_answers", "error", 1, 16),
        example="fill_in_blank_test:2: user 0",
    )
    assert_found(
        *(root, "no_answer", "warning", 1, 16), example="fill_in_blank_test:3: user 0"
    )


def drop(root, split, user, keep):
    """Leaves a user so many positives of a split, and their negatives."""
    for ending, each in (("posi", 1), ("nega", 3), ("nega_hard", 3)):
        path = folder(root) / f"tuples_{split}_{ending}"
        lines = read_lines(path)
        own = [n for n, line in enumerate(lines) if line.startswith(f"{user},")]
        gone = set(own[keep * each :])
        write_lines(path, [line for n, line in enumerate(lines) if n not in gone])


def test_users_of_whom_there_is_little_are_found(root):
    drop(root, "train", 2, 4)
    drop(root, "test", 3, 0)
    assert_found(root, "few_likes", "warning", 1, 8, example="user 2: 4")
    assert_found(root, "users_without_outfits", "warning", 1, 8, example="user 3")


def test_items_that_nobody_wears_are_a_note(root):
    path = folder(root) / "image_list_shoe"
    write_lines(path, [*read_lines(path), "new1.jpg", "new2.jpg"])
    found = findings(root)["unused_items", "items in no outfit of any split"]
    assert found.level == "note" and found.count >= 2 and found.total == 98


def test_rare_categories_are_a_warning(root):
    path = folder(root) / "image_list_shoe"
    write_lines(path, [*read_lines(path), *(f"new{i}.jpg" for i in range(700))])
    example = "top: 32 items"
    assert_found(root, "rare_categories", "warning", 2, 3, example=example)


def test_templates_that_are_tested_and_not_trained_are_a_warning(tmp_path):
    root = write_shapes(tmp_path / "data")
    for ending in ("posi", "nega", "nega_hard"):
        path = folder(root) / f"tuples_train_{ending}"
        header, *lines = read_lines(path)
        # Single bags go.
        kept = [line for line in lines if not re.fullmatch(r"\d+(,-1){5},\d+", line)]
        write_lines(path, [header, *kept])
    example = "bag"
    assert_found(root, "untrained_templates", "warning", 1, 4, example=example)


# Images


def test_missing_images_are_an_error(root):
    for name in ("top003.jpg", "shoe000.jpg"):
        picture(root, name).unlink()
    example = "top003.jpg"
    assert_found(root, "missing_images", "error", 2, 96, example=example)


def test_no_images_at_all_are_a_note_where_there_are_vectors(root):
    shutil.rmtree(root / "images")
    example = "there are no images"
    assert_found(root, "no_images", "note", 1, 0, example=example)
    (root / "sentence_vector" / "semantic.npz").unlink()
    assert_found(root, "no_images", "error", 1, 0, example=example)


def test_two_folders_of_images_are_an_error(root):
    (root / "images" / "291x291").rename(root / "images" / "a")
    (root / "images" / "b").mkdir()
    assert_found(root, "no_images", "error", 1, 0, example="several folders")


@pytest.mark.parametrize("full", [False, True])
def test_files_that_are_no_images_are_an_error(root, full):
    picture(root, "top001.jpg").write_text("<html>not found</html>")
    example = "image 'top001.jpg' cannot be decoded"
    assert_found(
        *(root, "unreadable_images", "error", 1, 96), example=example, full=full
    )


def test_images_that_are_cut_off_are_found_when_all_are_decoded(root):
    path = picture(root, "top001.jpg")
    path.write_bytes(path.read_bytes()[:-200])
    assert not [kind for kind, _ in findings(root) if kind == "unreadable_images"]
    example = "image 'top001.jpg' cannot be decoded"
    assert_found(
        *(root, "unreadable_images", "error", 1, 96), example=example, full=True
    )


@pytest.mark.parametrize("full", [False, True])
def test_damaged_values_of_an_lmdb_are_errors_like_any_image(root, full):
    target = root / "images" / "lmdb"
    build_lmdb(root / "images" / "291x291", target)
    (target / "data.json").unlink()  # As in an LMDB that is too large to compare.
    data = (target / "data.mdb").read_bytes()
    for name in ("top001.jpg", "shoe002.jpg"):
        value = picture(root, name).read_bytes()
        data = data.replace(value, value[:-1] + b"?")
    shutil.rmtree(target.with_name("291x291"))
    (target / "data.mdb").unlink()
    (target / "data.mdb").write_bytes(data)
    finding = assert_found(
        *(root, "unreadable_images", "error", 2, 96), example="top001.jpg", full=full
    )
    assert "checksum of 'top001.jpg' is wrong" in finding.examples[0]
    assert "shoe002.jpg" in finding.examples[1]


def test_a_link_that_leaves_the_folder_is_an_error_like_any_image(root, tmp_path):
    picture(root, "top001.jpg").rename(tmp_path / "a.jpg")
    picture(root, "top001.jpg").symlink_to(tmp_path / "a.jpg")
    example = "outside of the image folder"
    assert_found(root, "unreadable_images", "error", 1, 96, example=example)


def noise(height, width, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth)


def test_images_of_odd_size_are_a_warning(root):
    picture(root, "top001.jpg").write_bytes(encode(noise(20, 40)))
    picture(root, "top002.jpg").write_bytes(encode(noise(100, 400)))
    example = "top001.jpg is 40x20"
    assert_found(root, "small_images", "warning", 1, 96, example=example)
    example = "top002.jpg is 400x100"
    assert_found(root, "long_images", "warning", 1, 96, example=example)


def test_blank_images_are_a_warning(root):
    picture(root, "top001.jpg").write_bytes(encode(np.full((80, 80, 3), 240)))
    example = "top001.jpg"
    assert_found(root, "blank_images", "warning", 1, 96, example=example, full=True)


def test_equal_images_are_a_warning_with_their_pictures(root):
    shutil.copy(picture(root, "top001.jpg"), picture(root, "top004.jpg"))
    shutil.copy(picture(root, "top001.jpg"), picture(root, "shoe000.jpg"))
    found = assert_found(
        *(root, "equal_images", "warning", 2, 96), example="top004.jpg = top001.jpg"
    )
    assert found.items == ((4, 1), (64, 1))


def test_new_items_with_an_image_of_training_are_a_warning(root):
    shutil.copy(picture(root, "top001.jpg"), picture(root, "top027.jpg"))
    example = "top027.jpg = top001.jpg"
    assert_found(root, "leaked_images", "warning", 1, 96, example=example)


@pytest.mark.parametrize("options", [{"quality": 60}, {"size": 200}])
def test_nearly_equal_images_are_a_note_with_their_pictures(root, options):
    original = noise(80, 80)
    picture(root, "top001.jpg").write_bytes(encode(original))
    size = options.pop("size", 80)
    larger = Image.fromarray(original).resize((size, size))
    picture(root, "top004.jpg").write_bytes(encode(np.asarray(larger), **options))
    found = assert_found(
        *(root, "near_equal_images", "note", 2, 96),
        example="top001.jpg = top004.jpg",
        full=True,
    )
    assert found.items == ((1, 4),)
    assert not [kind for kind, _ in findings(root) if kind == "near_equal_images"]


def test_images_of_no_item_are_a_note(root):
    shutil.copy(picture(root, "top001.jpg"), picture(root, "other.jpg"))
    found = findings(root)["extra_images", "images of no item"]
    assert (found.level, found.count, found.total) == ("note", 1, 97)


def test_a_name_in_two_lists_is_a_warning(root):
    edit_line(folder(root) / "image_list_shoe", 3, "top002.jpg")
    example = "top002.jpg"
    assert_found(root, "shared_names", "warning", 1, 95, example=example)


# Vectors and tables


def edit_vectors(root, change):
    path = root / "sentence_vector" / "semantic.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **change(arrays["names"], arrays["vectors"]))


def test_missing_vectors_are_an_error(root):
    edit_vectors(root, lambda names, rows: {"names": names[2:], "vectors": rows[2:]})
    what, example = "'semantic'", "top000.jpg"
    assert_found(root, "missing_vectors", "error", 2, 96, what=what, example=example)


def test_damaged_vectors_are_an_error(root):
    edit_vectors(root, lambda names, rows: {"names": names, "vectors": rows * np.nan})
    example = "'top000.jpg' has a NaN or an infinity"
    assert_found(root, "unreadable_vectors", "error", 1, 0, example=example)


def test_vectors_of_zeros_are_a_warning(root):
    def change(names, rows):
        rows[5] = 0
        return {"names": names, "vectors": rows}

    edit_vectors(root, change)
    example = "top005.jpg"
    assert_found(root, "zero_vectors", "warning", 1, 96, example=example)


def write_tables(root, items=None, users=8):
    """The tables of a shop: ids A-000, …, titles of all items but the first."""
    duckdb = pytest.importorskip("duckdb")
    items = items or {"top": 32, "bottom": 32, "shoe": 32}
    rows = [
        (category, index, f"{category[0].upper()}-{index:03}", f"{category} {index}")
        for category, count in items.items()
        for index in range(count)
    ]
    rows[0] = (*rows[0][:3], "")
    for name, columns, values in (
        ("items", 'category, "index", id, title', rows),
        ("users", '"index", id', [(i, f"anna-{i}") for i in range(users)]),
    ):
        listed = ", ".join(map(repr, values))
        duckdb.sql(
            f"copy (select * from (values {listed}) t({columns})) to "
            f"'{root / name}.parquet' (format parquet)"
        )


def test_examples_have_the_ids_of_the_shop(root):
    write_tables(root)
    picture(root, "top003.jpg").unlink()
    edit_line(folder(root) / "tuples_test_posi", 2, row(root, "tuples_train_posi", 2))
    example = "T-003 top003.jpg"
    assert_found(root, "missing_images", "error", 1, 96, example=example)
    example = "tuples_test_posi:2: user anna-0: T-0"
    assert_found(root, "overlaps", "error", 1, 16, example=example)
    assert_found(root, "untitled", "note", 1, 96, example="T-000 top000.jpg")


def test_a_variant_of_some_users_has_their_ids(root):
    write_tables(root)
    split_users(root, "8", "part", users="anna-3,anna-5")
    posi = root / "tuples_part" / "tuples_test_posi"
    edit_line(posi, 2, read_lines(root / "tuples_part" / "tuples_train_posi")[1])
    found = {finding.kind: finding for finding in inspect_data(root, "part").findings}
    assert "other_users" not in found
    assert (
        found["overlaps"].examples[0].startswith("tuples_test_posi:2: user anna-3: T")
    )


def test_tables_of_another_catalogue_are_an_error(root):
    write_tables(root, items={"top": 33, "bottom": 32, "shoe": 32}, users=9)
    example = "items.parquet: {'top': 33"
    assert_found(root, "other_items", "error", 2, 0, example=example)
    assert_found(root, "other_users", "error", 1, 0, example="9 and 8")


# The program


def run(capsys, *arguments):
    """The exit status of the program, and what it prints."""
    status = 0
    try:
        program.main([*map(str, arguments)])
    except SystemExit as end:
        status = end.code
    return status, capsys.readouterr().out


def test_warnings_alone_end_with_status_0_and_errors_with_1(root, capsys):
    edit_line(folder(root) / "tuples_train_posi", 4, row(root, "tuples_train_posi", 3))
    status, text = run(capsys, root)
    assert status == 0 and "0 errors, 1 warning and " in text.splitlines()[0]
    assert (
        "warning: train outfits that are listed again for the same user: 1 of 48\n"
        "    tuples_train_posi:4: user 0: top0"
    ) in text
    assert "  → Keep one row of each" in text
    assert re.search(r"\nSplits +outfits +users .*\ntrain +48 +8 ", text)
    picture(root, "top003.jpg").unlink()
    status, text = run(capsys, root)
    assert status == 1 and "1 error, 1 warning and " in text


def test_the_page_holds_its_pictures_and_is_small(root, tmp_path, capsys):
    shutil.copy(picture(root, "top001.jpg"), picture(root, "top004.jpg"))
    picture(root, "shoe003.jpg").unlink()
    drop(root, "train", 2, 4)  # or there would be no histogram
    cut_off = picture(root, "shoe004.jpg")
    cut_off.write_bytes(cut_off.read_bytes()[:-200])
    status, text = run(capsys, root, "--out", tmp_path / "out")
    path = tmp_path / "out" / "inspection.html"
    assert status == 1 and text.endswith(f"wrote {path}\n")
    page = path.read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|srcset|href)="([^"]*)"', page)
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert len(page) < 3_000_000
    assert "Items with the very image" not in page  # CSS makes the capital
    assert "items with the very image of an earlier one" in page
    assert 'alt="top: top004.jpg"' in page and 'alt="shoe: shoe003.jpg"' not in page
    assert 'alt="Chart: Likes of users. 4 to 6, ' in page
    # What cannot be shown has its name there.
    assert '<span class="name" title="shoe: shoe004.jpg">' in page
    assert [p.name for p in path.parent.iterdir()] == ["inspection.html"]


def test_names_of_a_shop_are_escaped_on_the_page(root, tmp_path, capsys):
    edit_line(folder(root) / "image_list_top", 2, "<script>.jpg")
    run(capsys, root, "--out", tmp_path / "out")
    page = (tmp_path / "out" / "inspection.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;.jpg" in page and "<script>" not in page


def test_several_variants_are_asked_about(root, capsys):
    shutil.copytree(folder(root), root / "tuples_9")
    with pytest.raises(InputError, match="the variants 8, 9; choose one"):
        program.main([str(root)])
    assert run(capsys, root, "--variant", "9")[0] == 0


def test_a_folder_without_data_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match="expected the Polyvore-U layout"):
        program.main([str(tmp_path)])


def test_a_demo_has_no_error(root, capsys):
    (root / "DEMO").write_text(json.dumps({"users": 8}))
    assert run(capsys, root, "--full")[0] == 0
