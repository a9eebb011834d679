"""The LMDB builder: complete or not there, resumable, and clear about bad images."""

import os
import signal
import subprocess
import sys
import time

import fhn_jax.data_tools.build_lmdb as tool
import lmdb
import numpy as np
import pytest
from fhn_jax.data_tools.build_lmdb import build_lmdb, main
from runs import exit_code

from fhn_jax.data import records
from fhn_jax.data.forgetting import forget_item
from fhn_jax.data.images import LmdbImages, verify_images
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.pictures import blank
from fhn_jax.data.records import CHECKSUMS_KEY, checksum_key
from fhn_jax.errors import BusyError, InputError
from tests.polyvore_u import encode, write_polyvore_u


def write_images(folder, count, size=8):
    """Images 000.jpg, 001.jpg, …; returns {name: bytes}."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    images = {
        f"{i:03d}.jpg": encode(rng.integers(0, 256, (size, size, 3)))
        for i in range(count)
    }
    for name, data in images.items():
        (folder / name).write_bytes(data)
    return images


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "291x291"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "images" / "lmdb"


def read_all(target, images):
    return dict(zip(images, LmdbImages(target).read(list(images)), strict=True))


def test_lmdb_holds_the_bytes_of_every_file(folder, target):
    images = write_images(folder, 7)
    assert build_lmdb(folder, target) == 7
    assert read_all(target, images) == images
    store = LmdbImages(target)
    assert store.verified and len(store) == 7
    verify_images(store, list(images))
    assert sorted(os.listdir(target)) == ["data.json", "data.mdb"]
    assert os.listdir(target.parent) == ["lmdb"]


def test_no_flipped_bit_of_a_value_goes_unnoticed(folder, target):
    images = write_images(folder, 7, size=90)
    build_lmdb(folder, target)
    assert LmdbImages(target).verify() == 7
    (target / "data.json").unlink()  # As in LMDBs of older versions.
    data = (target / "data.mdb").read_bytes()
    for number, (name, value) in enumerate(images.items()):
        changed = bytearray(data)
        changed[data.index(value) + 99 * number] ^= 1 << number
        # A new file, because LMDBs are known by their inode.
        (target / "data.mdb").unlink()
        (target / "data.mdb").write_bytes(changed)
        store = LmdbImages(target)
        for use in (lambda: store.read([name]), store.verify):  # noqa: B023
            with pytest.raises(ValueError, match=f"data.mdb is damaged: .*{name}"):
                use()


def replace_data(target, data):
    """Puts other bytes into a new file, because LMDBs are known by their inode."""
    (target / "data.mdb").unlink()
    (target / "data.mdb").write_bytes(data)


@pytest.mark.parametrize("is_large", [False, True])
def test_no_damage_of_the_tree_goes_unnoticed_or_ends_the_process(
    folder, target, monkeypatch, is_large
):
    write_images(folder, 300)
    build_lmdb(folder, target)
    data = (target / "data.mdb").read_bytes()
    if is_large:
        monkeypatch.setattr(records, "_COMPARED_WHEN_OPENED", 0)
    rng = np.random.default_rng(0)
    for place in rng.integers(0x2000, len(data), 40):  # beyond what is read at first
        changed = bytearray(data)
        changed[place] ^= 0xFF
        replace_data(target, changed)
        with pytest.raises(
            InputError, match="data.mdb is damaged: its checksum is not"
        ):
            LmdbImages(target).check_file()
    replace_data(target, data)
    assert LmdbImages(target).verify() == 300


@pytest.mark.parametrize("size", [-40_000, -4096, -1, 4096])
def test_a_file_of_another_size_is_an_error(folder, target, size):
    write_images(folder, 30)
    build_lmdb(folder, target)
    data = (target / "data.mdb").read_bytes()
    replace_data(target, (data + bytes(4096))[: len(data) + size])
    with pytest.raises(
        InputError, match="data.mdb is damaged: it has .* bytes; expected"
    ):
        LmdbImages(target)


def test_a_file_cut_off_while_it_is_open_is_an_error(folder, target):
    images = write_images(folder, 30)
    build_lmdb(folder, target)
    store = LmdbImages(target)
    os.truncate(target / "data.mdb", 4096)
    for use in (lambda: store.read(list(images)), store.verify, store.check_file):
        with pytest.raises(
            InputError, match="cut off to 4,096 bytes while it was open"
        ):
            use()


def test_an_unfinished_file_that_was_cut_off_is_not_gone_on_with(folder, target):
    images = write_images(folder, 30, size=90)
    (folder / "bad.jpg").write_bytes(b"bad")
    partial = target.with_name("lmdb.partial")
    with pytest.raises(InputError, match="no LMDB was made"):
        build_lmdb(folder, target)
    (folder / "bad.jpg").unlink()
    data = (partial / "data.mdb").read_bytes()
    replace_data(partial, data[:-8192])
    with pytest.raises(InputError, match="cut off: .*remove the folder to start anew"):
        build_lmdb(folder, target)
    replace_data(partial, b"")  # killed at its first step
    build_lmdb(folder, target)
    assert read_all(target, images) == images


def test_a_damaged_note_of_the_file_is_named(folder, target):
    write_images(folder, 3)
    build_lmdb(folder, target)
    for text in ("{", "[]", "{}", '{"bytes": true, "data_sha256": ""}'):
        (target / "data.json").write_text(text)
        replace_data(target, (target / "data.mdb").read_bytes())
        with pytest.raises(InputError, match="lmdb/data.json"):
            LmdbImages(target)


def test_a_deleted_photo_leaves_nothing_behind(tmp_path, monkeypatch):
    root = write_polyvore_u(tmp_path, variant="8", image_size=8)
    folder, target = root / "images" / "291x291", root / "images" / "lmdb"
    build_lmdb(folder, target)
    photo = (folder / "top003.jpg").read_bytes()
    others = {
        p.name: p.read_bytes() for p in folder.iterdir() if p.name != "top003.jpg"
    }
    (root / "images" / "lmdb.partial").mkdir()
    catalogue = read_catalogue(root, "8")

    def forget():
        return forget_item(root, catalogue, 0, 3, "top003")

    # Stopped between the file and what is said about it, it is read all the same.
    replace = os.replace

    def stopped(source, to):
        if to in (target / "data.mdb", target / "data.json"):
            moved.append(to)
        if len(moved) == 2:
            raise KeyboardInterrupt
        replace(source, to)

    moved = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            forget()
    assert read_all(target, others) == others
    assert forget()["images"] == 1  # in the folder; the LMDB is done
    store = LmdbImages(target)
    assert store.verify() == len(others) + 1 and store.missing(["top003.jpg"])
    assert read_all(target, others) == others
    assert store.read(["forgotten-top-3"]) == [blank()]
    for path in [path for path in root.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        assert photo not in content and b"top003" not in content, path
    assert "images" not in forget()  # there is none any more


def test_an_lmdb_without_checksums_is_read(folder, target):
    """As those of other programs, and of older versions."""
    images = write_images(folder, 3)
    build_lmdb(folder, target)
    (target / "data.json").unlink()
    with lmdb.open(str(target), lock=False) as environment:
        with environment.begin(write=True) as transaction:
            transaction.delete(CHECKSUMS_KEY)
            for name in images:
                transaction.delete(checksum_key(name.encode()))
    store = LmdbImages(target)
    assert read_all(target, images) == images
    assert store.verified and len(store) == 3 and store.verify() == 0


def test_two_builds_at_once_have_one_loser(folder, target):
    write_images(folder, 3)

    def other(done, total):
        with pytest.raises(BusyError, match="lmdb is in use: .*building it"):
            build_lmdb(folder, target)

    build_lmdb(folder, target, progress=other)
    assert os.listdir(target.parent) == ["lmdb"]


def test_the_lmdb_needs_no_lock_file_in_memory(folder, target, monkeypatch):
    """On a full disk writing to it would kill the process."""
    write_images(folder, 3)
    seen = []
    build_lmdb(
        folder,
        target,
        progress=lambda *_: seen.extend(os.listdir(f"{target}.partial")),
    )
    assert seen == ["data.mdb"]


def test_hidden_files_and_folders_are_ignored(folder, target):
    write_images(folder, 2)
    (folder / ".DS_Store").write_bytes(b"junk")
    (folder / "more").mkdir()
    assert build_lmdb(folder, target) == 2


def test_map_grows_as_needed(folder, target, monkeypatch):
    monkeypatch.setattr(tool, "_FIRST_MAP_SIZE", 2**16)
    monkeypatch.setattr(tool, "_IMAGES_AT_ONCE", 16)
    images = write_images(folder, 100, size=64)
    assert sum(map(len, images.values())) > 2**17
    build_lmdb(folder, target)
    assert read_all(target, images) == images


def test_bad_images_are_all_named_and_no_lmdb_is_made(folder, target, capsys):
    write_images(folder, 6)
    (folder / "001.jpg").write_bytes(b"no image")
    (folder / "004.jpg").write_bytes((folder / "004.jpg").read_bytes()[:-20])
    (folder / "005.jpg").write_bytes(encode(np.zeros((8, 8, 3)), "GIF"))
    assert exit_code(main, [str(folder), str(target)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: 3 of 6 images in ")
    for part in ("'001.jpg' cannot", "'004.jpg' cannot", "'005.jpg' cannot"):
        assert part in error
    assert not target.exists()


def test_at_most_twenty_bad_images_are_named(folder, target, capsys):
    for name in write_images(folder, 25):
        (folder / name).write_bytes(b"")
    assert exit_code(main, [str(folder), str(target)]) == 1
    error = capsys.readouterr().err
    assert error.count("cannot be decoded") == 20
    assert "25 of 25" in error and "and 5 more" in error


def test_next_run_continues_and_decodes_only_what_is_new(folder, target, monkeypatch):
    images = write_images(folder, 12)
    good = (folder / "003.jpg").read_bytes()
    (folder / "003.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="1 of 12 images"):
        build_lmdb(folder, target)
    assert (target.parent / "lmdb.partial").is_dir()

    # What changed since is taken anew, and what is gone is dropped.
    (folder / "003.jpg").write_bytes(good)
    (folder / "007.jpg").write_bytes(good)
    (folder / "009.jpg").unlink()
    decoded = []
    check = tool.decode
    monkeypatch.setattr(
        tool,
        "decode",
        lambda data, name, **_: decoded.append(name) or check(data, name),
    )
    assert build_lmdb(folder, target) == 11
    assert sorted(decoded) == ["003.jpg", "007.jpg"]
    del images["009.jpg"]
    images["007.jpg"] = good
    assert read_all(target, images) == images
    assert LmdbImages(target).verified and len(LmdbImages(target)) == 11


def test_killed_run_leaves_no_lmdb_and_the_next_one_completes_it(folder, target):
    images = write_images(folder, 60)
    code = f"""
import time
import fhn_jax.data_tools.build_lmdb as tool
tool._IMAGES_AT_ONCE = 10
tool.build_lmdb({str(folder)!r}, {str(target)!r}, progress=lambda done, total: (
    print(done, flush=True), time.sleep(60 if done >= 30 else 0)))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line == "30\n":
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not target.exists()
    seen = []
    assert build_lmdb(folder, target, progress=lambda *done: seen.append(done)) == 60
    assert seen == [(60, 60)]
    assert read_all(target, images) == images


def test_complete_lmdb_is_left_alone(folder, target):
    write_images(folder, 3)
    build_lmdb(folder, target)
    before = (target / "data.mdb").stat()
    assert build_lmdb(folder, target) == 3
    assert (target / "data.mdb").stat().st_mtime_ns == before.st_mtime_ns


def test_target_that_is_something_else_is_never_overwritten(folder, target, tmp_path):
    write_images(folder, 3)
    build_lmdb(folder, target)
    (folder / "002.jpg").rename(folder / "003.jpg")
    with pytest.raises(
        ValueError, match="holds 3 images.*has 3, of which 1 are not in"
    ):
        build_lmdb(folder, target)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ValueError, match="file exists and is no folder; remove it"):
        build_lmdb(folder, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no data.mdb"):
        build_lmdb(folder, tmp_path / "empty")
    other = tmp_path / "other"
    tool.lmdb.open(str(other)).close()
    with pytest.raises(ValueError, match="not built and verified by this tool"):
        build_lmdb(folder, other)


def test_folder_without_images_suggests_the_right_one(folder, target, capsys):
    write_images(folder, 1)
    assert exit_code(main, [str(folder.parent), str(target)]) == 1
    assert "did you mean one of its folders, ['291x291']?" in capsys.readouterr().err
    assert exit_code(main, [str(folder / "nowhere"), str(target)]) == 1
    assert "nowhere does not exist" in capsys.readouterr().err


def test_odd_file_name_is_refused(folder, target):
    write_images(folder, 1)
    (folder / "a\nb.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="has a control character; rename it"):
        build_lmdb(folder, target)


def test_link_out_of_the_folder_is_not_followed(folder, target, tmp_path):
    write_images(folder, 1)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(ValueError, match="link.jpg is a link to"):
        build_lmdb(folder, target)


def test_command_line_says_what_was_built(folder, target, capsys):
    write_images(folder, 3)
    assert exit_code(main, [str(folder), str(target)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{target} holds 3 images, all verified\n"
    assert captured.err == ""


def test_without_a_terminal_progress_is_plain_lines(
    folder, target, capsys, monkeypatch
):
    write_images(folder, 3)
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert exit_code(main, [str(folder), str(target)]) == 0
    assert capsys.readouterr().err == "build_lmdb: 3 of 3 images\n"
