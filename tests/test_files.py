import errno
import hashlib
import json
import os
import stat

import numpy as np
import pytest

from fhn_jax import files


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new folder" / "file.txt"
    files.write_text(path, "old")
    files.write_text(path, "ä\n")
    assert path.read_bytes() == "ä\n".encode()
    assert os.listdir(path.parent) == ["file.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError, match="half way"):
        with files.atomic_path(path) as temporary:
            temporary.write_text("ne")
            raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_the_old_file_is_there_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file.txt"
    files.write_text(path, "old")
    with files.atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_files_get_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "file.txt", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o640


def test_json_is_readable_and_ends_in_a_newline(tmp_path):
    path = tmp_path / "file.json"
    files.write_json(path, {"b": [1, 2.5], "a": None})
    assert path.read_text().startswith('{\n  "b": [\n')
    assert path.read_text().endswith("}\n")
    assert json.loads(path.read_text()) == {"b": [1, 2.5], "a": None}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_of_a_number_it_cannot_hold_is_refused_and_not_written(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "file.json", {"a": value})
    assert not (tmp_path / "file.json").exists()


def test_sha256_is_of_the_bytes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 100_000)
    assert files.sha256_file(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_folder_appears_with_all_that_is_in_it(tmp_path):
    path = tmp_path / "new folder" / "target"
    with files.new_folder(path) as temporary:
        (temporary / "file").write_text("text")
        assert not path.exists()
    assert (path / "file").read_text() == "text"
    assert os.listdir(path.parent) == ["target"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask


def test_a_failed_folder_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="half way"):
        with files.new_folder(tmp_path / "target") as temporary:
            (temporary / "file").write_text("text")
            raise RuntimeError("half way")
    assert os.listdir(tmp_path) == []


def test_a_folder_takes_the_place_of_nothing(tmp_path):
    (tmp_path / "target").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="target exists and is left as it is"):
        with files.new_folder(tmp_path / "target"):
            pytest.fail("refused too late")
    # Also if it came while the folder was filled.
    with pytest.raises(FileExistsError, match="late exists"):
        with files.new_folder(tmp_path / "late"):
            (tmp_path / "late").mkdir()
    assert sorted(os.listdir(tmp_path)) == ["late", "target"]


KIND = files.ArrayFormat("example", 3, "an example", "make it again")


@pytest.fixture
def folder(tmp_path):
    """A folder with the arrays a.npy and part/b.npy, opened."""
    with files.ArrayFolder.create(tmp_path / "arrays", KIND) as new:
        new.metadata["names"] = ["a"]
        new.add("a.npy", np.arange(3))
        new.add("part/b.npy", np.zeros((2, 2), np.uint8))
        assert not (tmp_path / "arrays").exists()
    return files.ArrayFolder.open(tmp_path / "arrays", KIND)


def names_in(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


def test_an_array_folder_holds_what_it_was_given(folder):
    assert folder.metadata == {"names": ["a"]}
    np.testing.assert_array_equal(folder.map("a.npy", np.int64), [0, 1, 2])
    assert folder.map("part/b.npy", np.uint8, verify=True).shape == (2, 2)
    assert folder.sizes == {"a.npy": 128 + 24, "part/b.npy": 128 + 4}
    folder.verify()


def test_writing_to_a_mapped_array_leaves_the_file(folder):
    folder.map("a.npy", np.int64)[0] = 9
    folder.verify()
    assert folder.map("a.npy", np.int64)[0] == 0


def test_a_change_of_an_array_folder_is_whole(folder):
    mapped = folder.map("part/b.npy", np.uint8)
    with folder.change() as change:
        change.metadata["names"] = ["a", "c"]
        change.add("c.npy", np.ones(1))
        change.drop("part")
        other = files.ArrayFolder.open(folder.path, KIND)
        assert set(other.sizes) == {"a.npy", "part/b.npy"}
    assert names_in(folder.path) == ["a.npy", "c.npy", "manifest.json"]
    assert not mapped.any()
    for each in (folder, files.ArrayFolder.open(folder.path, KIND)):
        assert each.metadata == {"names": ["a", "c"]}
        each.verify()
    with pytest.raises(ValueError, match="changed since it was opened; open it again"):
        with other.change():
            pytest.fail("refused too late")


def test_a_failed_change_of_an_array_folder_leaves_the_old_one(folder):
    before = names_in(folder.path)
    with pytest.raises(RuntimeError, match="half way"):
        with folder.change() as change:
            change.metadata["names"] = []
            change.add("new/c.npy", np.ones(1))
            change.drop("a.npy")
            raise RuntimeError("half way")
    assert names_in(folder.path) == before
    assert folder.metadata == {"names": ["a"]}
    files.ArrayFolder.open(folder.path, KIND).verify()


@pytest.mark.parametrize("name", ["a.npy", "../a.npy", "/a.npy", "a.txt", "./c.npy"])
def test_arrays_are_written_once_and_inside_the_folder(folder, name):
    with pytest.raises(ValueError, match="is not the name of a new npy file"):
        with folder.change() as change:
            change.add(name, np.ones(1))
    folder.verify()


def test_damage_of_an_array_folder_is_named(folder):
    path = folder.path / "a.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    folder.map("a.npy", np.int64)
    for check in (folder.verify, lambda: folder.map("a.npy", np.int64, verify=True)):
        with pytest.raises(ValueError, match="a.npy: its checksum .*; make it again"):
            check()
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="has 151 bytes, expected 152"):
        folder.map("a.npy", np.int64)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="it is part of an example; make it"):
        folder.map("a.npy", np.int64)
    with pytest.raises(ValueError, match="lacks c.npy"):
        folder.map("c.npy", np.int64)
    with pytest.raises(ValueError, match="b.npy holds uint8, expected int64"):
        folder.map("part/b.npy", np.int64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format is 'other', expected 'example'"),
        ({"version": 2}, "version is 2, expected 3; make it again"),
        ({"names": []}, "its checksum is wrong"),
    ],
)
def test_an_array_folder_of_another_kind_is_refused(folder, change, message):
    path = folder.path / "manifest.json"
    files.write_json(path, json.loads(path.read_text()) | change)
    with pytest.raises(ValueError, match=message):
        files.ArrayFolder.open(folder.path, KIND)
    path.write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        files.ArrayFolder.open(folder.path, KIND)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="expected an example; make it again"):
        files.ArrayFolder.open(folder.path, KIND)


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_is_at_two_places_whether_there_are_links_or_not(
    tmp_path, monkeypatch, has_links
):
    (tmp_path / "one").write_text("text")
    if not has_links:

        def refused(*_):
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refused)
    files.link_or_copy(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two").read_text() == "text"
    assert os.path.samefile(tmp_path / "one", tmp_path / "two") == has_links
