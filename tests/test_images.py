"""Image stores: what they return, and each bad input."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest

from fhn_jax.data.images import (
    VERIFIED_KEY,
    FolderImages,
    ImageStore,
    LmdbImages,
    load_table,
    open_images,
    verify_images,
)
from fhn_jax.data.pictures import decode
from tests.polyvore_u import encode, write_lmdb

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)


def write_folder(path, count=5, size=8):
    """A folder of images 0.jpg, 1.jpg, …; returns their names."""
    path.mkdir(parents=True)
    names = [f"{i}.jpg" for i in range(count)]
    for i, name in enumerate(names):
        (path / name).write_bytes(encode(np.full((size, size, 3), 20 * i)))
    return names


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "images" / "291x291")
    return tmp_path / "images" / "291x291"


@pytest.fixture
def database(tmp_path, folder):
    path = tmp_path / "images" / "lmdb"
    write_lmdb(path, {p.name.encode(): p.read_bytes() for p in folder.iterdir()})
    return path


# Stores


def test_lmdb_and_folder_read_the_same_in_the_order_asked_for(folder, database):
    names = ["3.jpg", "0.jpg", "3.jpg", "4.jpg"]
    expected = [(folder / name).read_bytes() for name in names]
    for store in (FolderImages(folder), LmdbImages(database)):
        assert isinstance(store, ImageStore)
        assert store.read(names) == expected
        assert store.read([]) == []
        assert len(store) == 5


def test_missing_keeps_the_order(folder, database):
    names = ["z.jpg", "1.jpg", "a.jpg", "3.jpg"]
    for store in (FolderImages(folder), LmdbImages(database)):
        assert store.missing(names) == ["z.jpg", "a.jpg"]
        assert store.missing([]) == []


def test_missing_image_names_store_and_remedy(folder, database):
    with pytest.raises(KeyError) as caught:
        LmdbImages(database).read(["1.jpg", "a1f.jpg", "b2.jpg"])
    for part in ("image 'a1f.jpg' and 1 more missing in", str(database), "(5 images)"):
        assert part in str(caught.value)
    assert "rebuild it with data_tools/build_lmdb.py" in str(caught.value)
    with pytest.raises(KeyError, match="image 'a1f.jpg' missing in .*add the file"):
        FolderImages(folder).read(["1.jpg", "a1f.jpg"])


def test_lmdb_is_preferred_to_the_folder(tmp_path, folder):
    assert isinstance(open_images(tmp_path), FolderImages)
    write_lmdb(tmp_path / "images" / "lmdb", {b"9.jpg": b"x"})
    store = open_images(tmp_path)
    assert isinstance(store, LmdbImages)
    assert store.path == tmp_path / "images" / "lmdb"


def test_the_only_folder_of_images_is_found_whatever_its_name(tmp_path, folder):
    folder.rename(folder.parent / "64x64")
    (folder.parent / "lmdb.partial").mkdir()
    assert open_images(tmp_path).path == folder.parent / "64x64"


def test_several_folders_of_images_are_ambiguous(tmp_path, folder):
    write_folder(folder.parent / "64x64")
    assert open_images(tmp_path).path == folder
    folder.rename(folder.parent / "128x128")
    with pytest.raises(ValueError, match=r"several folders, \['128x128', '64x64'\]"):
        open_images(tmp_path)


def test_no_images_says_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the folder .*291x291.*text"):
        open_images(tmp_path)
    (tmp_path / "images" / "lmdb.partial").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="lmdb.partial is an unfinished build"):
        open_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="image folder .*nowhere does not"):
        FolderImages(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/hosts", "..", "a\0b", ""])
def test_names_do_not_leave_the_folder(folder, name):
    (folder.parent / "secret.jpg").write_bytes(b"secret")
    with pytest.raises(ValueError, match="expected the name of a file in"):
        FolderImages(folder).read([name])


def test_links_do_not_leave_the_folder(folder):
    (folder.parent / "secret.jpg").write_bytes(b"secret")
    (folder / "link.jpg").symlink_to(folder.parent / "secret.jpg")
    (folder / "inside.jpg").symlink_to(folder / "1.jpg")
    (folder / "broken.jpg").symlink_to(folder / "gone.jpg")
    os.mkfifo(folder / "pipe.jpg")
    store = FolderImages(folder)
    with pytest.raises(ValueError, match="link.jpg is a link to .*secret.jpg, outside"):
        store.read(["link.jpg"])
    with pytest.raises(ValueError, match="pipe.jpg is no regular file"):
        store.read(["pipe.jpg"])
    with pytest.raises(KeyError, match="broken.jpg"):
        store.read(["broken.jpg"])
    assert store.read(["inside.jpg"]) == store.read(["1.jpg"])
    assert store.missing(["broken.jpg", "pipe.jpg"]) == ["broken.jpg", "pipe.jpg"]


def test_linked_folder_is_read(tmp_path, folder):
    (tmp_path / "here").symlink_to(folder)
    assert len(FolderImages(tmp_path / "here").read(["1.jpg"])) == 1


# LMDB files


def test_lmdb_may_be_opened_several_times(database):
    first, second = LmdbImages(database), LmdbImages(str(database) + "/../lmdb")
    assert first.read(["1.jpg"]) == second.read(["1.jpg"])


def test_lmdb_built_anew_at_the_same_path_is_opened_anew(database):
    assert len(LmdbImages(database)) == 5
    database.rename(database.with_name("old"))
    write_lmdb(database, {b"new.jpg": b"new"})
    assert LmdbImages(database).read(["new.jpg"]) == [b"new"]


def test_images_are_read_on_when_their_folder_is_removed(tmp_path, folder, database):
    version = tmp_path / "version"
    version.mkdir()
    (version / "linked").symlink_to(folder)
    shutil.copytree(database, version / "lmdb", copy_function=os.link)
    stores = FolderImages(version / "linked"), LmdbImages(version / "lmdb")
    shutil.rmtree(version)
    for store in stores:
        assert store.read(["2.jpg"]) == [(folder / "2.jpg").read_bytes()]
        assert store.missing(["1.jpg", "x.jpg"]) == ["x.jpg"] and len(store) == 5
        with pytest.raises(KeyError, match="'x.jpg' missing"):
            store.read(["x.jpg"])
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="the image folder .* does not exist"):
        stores[0].read(["2.jpg"])


def test_an_lmdb_is_closed_when_nobody_reads_it(database):
    first, second = LmdbImages(database), LmdbImages(database)
    del first
    assert len(second.read(["1.jpg"])) == 1
    del second
    # What is open is not opened twice; a file that is removed would keep its place.
    lmdb.open(str(database), readonly=True, lock=False).close()


@pytest.mark.slow
def test_forked_child_reads_with_an_lmdb_of_its_own(database):
    # In a process of its own: jax, which other tests load here, warns of every fork.
    program = f"""
import os
from fhn_jax.data.images import LmdbImages
store = LmdbImages({str(database)!r})
expected = store.read(["2.jpg"])
child = os.fork()
if not child:
    same = False
    try:
        same = store.read(["2.jpg"]) == expected
    finally:
        os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
assert store.read(["2.jpg"]) == expected
"""
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)


def test_folder_without_lmdb_is_refused(tmp_path, folder):
    (tmp_path / "images" / "lmdb").mkdir()
    with pytest.raises(FileNotFoundError, match="lmdb holds no data.mdb.*build_lmdb"):
        open_images(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello" * 5000])
def test_file_that_is_no_lmdb_is_refused(database, content):
    (database / "data.mdb").write_bytes(content)
    with pytest.raises(ValueError, match="data.mdb is no LMDB .*again"):
        LmdbImages(database)


def test_cut_off_lmdb_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "lmdb"
    write_lmdb(path, {b"%d.jpg" % i: bytes(20_000) for i in range(20)})
    os.truncate(path / "data.mdb", 200_000)
    with pytest.raises(ValueError, match="cut off: 200,000 bytes; expected at least 4"):
        LmdbImages(path)


def test_lmdb_is_verified_if_it_says_so_and_holds_as_many(tmp_path):
    images = {b"1.jpg": b"x", b"2.jpg": b"y"}
    write_lmdb(tmp_path / "no", images)
    write_lmdb(tmp_path / "yes", {**images, VERIFIED_KEY: b"2"})
    write_lmdb(tmp_path / "more", {**images, VERIFIED_KEY: b"1"})
    write_lmdb(tmp_path / "odd", {**images, VERIFIED_KEY: b"\xff"})
    stores = {
        name: LmdbImages(tmp_path / name) for name in ("no", "yes", "more", "odd")
    }
    assert {name for name, store in stores.items() if store.verified} == {"yes"}
    assert {len(store) for store in stores.values()} == {2}


# Many images


def test_verify_images_lists_what_is_wrong(folder):
    (folder / "1.jpg").write_bytes(b"")
    (folder / "3.jpg").write_bytes((folder / "3.jpg").read_bytes()[:-5])
    (folder / "4.jpg").write_bytes(encode(PIXELS, "GIF"))
    names = [f"{i}.jpg" for i in range(5)]
    with pytest.raises(ValueError, match="3 of 5 images in .*291x291 are of") as caught:
        verify_images(FolderImages(folder), names)
    lines = str(caught.value).splitlines()
    assert [line.split("'")[1] for line in lines[1:]] == ["1.jpg", "3.jpg", "4.jpg"]
    verify_images(FolderImages(folder), ["0.jpg", "2.jpg"])


def test_verify_images_lists_at_most_twenty(tmp_path):
    names = write_folder(tmp_path / "bad", 30)
    for name in names:
        (tmp_path / "bad" / name).write_bytes(b"")
    with pytest.raises(ValueError, match="30 of 30 images") as caught:
        verify_images(FolderImages(tmp_path / "bad"), names)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22 and lines[-1] == "…"


def test_verify_images_tells_of_missing_images_first(folder, database):
    (folder / "1.jpg").write_bytes(b"")
    names = ["1.jpg", "gone.jpg", "lost.jpg"]
    for store in (FolderImages(folder), LmdbImages(database)):
        with pytest.raises(KeyError, match="'gone.jpg' and 1 more missing"):
            verify_images(store, names)


def test_verified_images_are_only_looked_up(tmp_path):
    write_lmdb(tmp_path / "lmdb", {b"1.jpg": b"no image", VERIFIED_KEY: b"1"})
    store = LmdbImages(tmp_path / "lmdb")
    verify_images(store, ["1.jpg"])
    with pytest.raises(KeyError, match="'2.jpg' missing"):
        verify_images(store, ["1.jpg", "2.jpg"])


def test_progress_is_reported_to_the_end(tmp_path):
    names = write_folder(tmp_path / "many", 300, size=1)
    calls = []
    verify_images(
        FolderImages(tmp_path / "many"), names, progress=lambda *c: calls.append(c)
    )
    assert calls == [(256, 300), (300, 300)]


def test_table_holds_each_image_in_order(folder, database):
    names = ["4.jpg", "0.jpg", "2.jpg"]
    for store in (FolderImages(folder), LmdbImages(database)):
        table = load_table(store, names, None)
        assert table.shape == (3, 8, 8, 3) and table.dtype == np.uint8
        for row, name in zip(table, names, strict=True):
            np.testing.assert_array_equal(row, decode((folder / name).read_bytes(), ""))
        assert load_table(store, names, 4).shape == (3, 4, 4, 3)


def test_table_of_other_sizes_needs_a_size(folder):
    (folder / "2.jpg").write_bytes(encode(PIXELS))
    names = [f"{i}.jpg" for i in range(5)]
    with pytest.raises(ValueError, match="'2.jpg' in .* is 10x12; expected 8x8, the"):
        load_table(FolderImages(folder), names, None)
    assert load_table(FolderImages(folder), names, 8).shape == (5, 8, 8, 3)


def test_table_names_the_image_that_cannot_be_decoded(folder):
    (folder / "2.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="image '2.jpg' cannot be decoded"):
        load_table(FolderImages(folder), [f"{i}.jpg" for i in range(5)], 8)
    with pytest.raises(ValueError, match="no image names"):
        load_table(FolderImages(folder), [], 8)


def test_paths_may_be_text(folder, database):
    assert FolderImages(str(folder)).path == folder
    assert LmdbImages(str(database)).path == Path(database)
