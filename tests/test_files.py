import hashlib
import json
import os
import stat

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
