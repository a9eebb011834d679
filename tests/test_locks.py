"""Locks, temporaries of the dead, and errors that name the file."""

import errno
import json
import mmap
import os
import signal
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest

from fhn_jax import files
from fhn_jax.errors import BusyError, InputError, MissingFileError
from fhn_jax.files import locks

KIND = files.ArrayFormat("example", 3, "an example", "make it again")

# Holds a lock and two temporaries until it is killed.
HOLDER = """
import sys, time
from pathlib import Path
from fhn_jax import files
path = Path(sys.argv[1])
with (
    files.lock(path / "index", "training"),
    files.atomic_path(path / "file.txt") as temporary,
    files.new_folder(path / "folder") as folder,
):
    temporary.write_text("half")
    (folder / "a").write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_lock_names_who_holds_it_and_a_crash_releases_it(tmp_path, holder):
    with pytest.raises(BusyError) as busy:
        with files.lock(tmp_path / "index", "writing"):
            pytest.fail("not locked")
    assert f"process {holder.pid} on " in str(busy.value)
    assert "index is in use" in str(busy.value) and "(training)" in str(busy.value)
    with pytest.raises(BusyError, match="making it"):
        with files.new_folder(tmp_path / "folder"):
            pytest.fail("not locked")
    holder.kill()
    holder.wait()
    with files.lock(tmp_path / "index", "writing"):
        pass
    with files.new_folder(tmp_path / "folder"):
        pass
    files.write_text(tmp_path / "other.txt", "")
    files.sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["folder", "other.txt"]


def test_temporaries_of_the_living_are_left(tmp_path, holder):
    before = sorted(os.listdir(tmp_path))
    assert len(before) == 4  # two locks, two temporaries
    files.sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    # Files that only look alike are not ours.
    (tmp_path / ".keep.tmp").write_text("")
    files.sweep(tmp_path)
    assert os.listdir(tmp_path) == [".keep.tmp"]


def test_a_writer_sweeps_a_folder_once(tmp_path):
    (tmp_path / ".old.txt.abcd1234.tmp").write_text("half")
    (tmp_path / ".old.abcd1234.tmp").mkdir()
    files.write_text(tmp_path / "new.txt", "")
    assert os.listdir(tmp_path) == ["new.txt"]


def test_a_lock_binds_threads_and_is_removed(tmp_path):
    with files.lock(tmp_path / "a", "writing"):
        with pytest.raises(BusyError, match=f"process {os.getpid()} on"):
            with files.lock(tmp_path / "a", "writing"):
                pytest.fail("not locked")
    assert os.listdir(tmp_path) == []


def test_readers_share_a_lock_that_writers_do_not_get(tmp_path, monkeypatch):
    path = tmp_path / "run"

    def refused(**how):
        with pytest.raises(BusyError, match=f"process {os.getpid()} on"):
            with files.lock(path, "training", **how):
                pytest.fail("not locked")

    with files.lock(path, "reading", shared=True):
        with files.lock(path, "reading", shared=True):
            refused()
        refused()  # The one that ended left the lock to the other.
    assert os.listdir(tmp_path) == []
    with files.lock(path, "training"):
        refused(shared=True)
    # Who may not write there reads without a lock.
    monkeypatch.setattr(
        os, "open", mock.Mock(side_effect=PermissionError(errno.EACCES, "no"))
    )
    with files.lock(path, "reading", shared=True):
        pass
    with pytest.raises(PermissionError):
        with files.lock(path, "training"):
            pytest.fail("locked")


def test_a_temporary_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path, monkeypatch
):
    lock = locks._try_lock
    taken = []

    def late(handle):
        if not taken:
            files.sweep(tmp_path)
            taken.append(os.listdir(tmp_path))
        return lock(handle)

    monkeypatch.setattr(locks, "_try_lock", late)
    files.write_text(tmp_path / "a", "text")
    assert taken == [[]] and (tmp_path / "a").read_text() == "text"


@pytest.mark.parametrize("name", ["fsync", "replace", "posix_fallocate"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failed_write_names_the_file_that_was_meant(
    tmp_path, monkeypatch, name, code
):
    path = tmp_path / "file.bin"

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError) as raised, files.atomic_path(path) as temporary:
        files.reserve(temporary, 10)
    assert raised.value.errno == code and raised.value.filename == str(path)
    assert os.listdir(tmp_path) == []


def test_an_array_on_a_full_disk_says_so(tmp_path):
    """numpy reports short writes by an error without a number or a name."""
    program = (
        "import resource, signal, sys, numpy as np; from fhn_jax import files\n"
        "kind = files.ArrayFormat('example', 3, 'an example', 'make it again')\n"
        "with files.ArrayFolder.create(sys.argv[1], kind) as new:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))\n"
        "    try: new.add('a.npy', np.zeros(2**20, np.uint8))\n"
        "    except OSError as error: sys.exit(f'{error.errno} {error}')\n"
    )
    done = subprocess.run(
        # -B: Python would leave half of a compiled module.
        [sys.executable, "-B", "-c", program, tmp_path / "index"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.startswith(f"{errno.EFBIG} ") and "a.npy" in done.stderr
    assert os.listdir(tmp_path) == []


def test_reserved_bytes_are_on_the_disk(tmp_path, monkeypatch):
    for path in (tmp_path / "a", tmp_path / "b"):
        path.write_bytes(b"")
        files.reserve(path, 3 * 2**20 + 1)
        status = path.stat()
        assert status.st_size == 3 * 2**20 + 1
        assert status.st_blocks * 512 >= status.st_size
        # The second time as on a system without such a call.
        monkeypatch.delattr(os, "posix_fallocate", raising=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 10**5, "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8"),
        (b'{"a": ', "not JSON"),
        (b"[1]", "holds a list, expected a dict"),
        (b"1" * 5000, "not JSON|holds a int"),
    ],
)
def test_json_of_no_use_is_named(tmp_path, data, message):
    path = tmp_path / "file.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"file.json.*({message}).*; make it again"):
        files.read_json(path, dict, "make it again")


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": "ä"}).encode())
    assert files.read_json(path, dict, "") == {"a": "ä"}
    with pytest.raises(MissingFileError, match="none.json: no such file; make it"):
        files.read_json(tmp_path / "none.json", dict, "make it")


def test_a_folder_is_replaced_or_kept(tmp_path):
    path = tmp_path / "report"
    for text in ("old", "new"):
        with files.replaced_folder(path) as folder:
            (folder / "a").write_text(text)
    assert (path / "a").read_text() == "new"
    with pytest.raises(RuntimeError):
        with files.replaced_folder(path):
            raise RuntimeError
    assert (path / "a").read_text() == "new" and os.listdir(tmp_path) == ["report"]


# Array folders.


def make(path):
    with files.ArrayFolder.create(path, KIND) as new:
        new.add("a.npy", np.arange(3))
    return files.ArrayFolder.open(path, KIND)


def test_what_a_crash_left_in_an_array_folder_goes_with_the_next_change(tmp_path):
    folder = make(tmp_path / "arrays")
    (folder.path / "part").mkdir()
    np.save(folder.path / "part" / "b.npy", np.arange(3))
    (folder.path / "part" / ".c.npy.abcd1234.tmp").write_bytes(b"")
    (folder.path / "empty").mkdir()
    with folder.change() as change:
        change.add("d.npy", np.arange(3))
    assert sorted(os.listdir(folder.path)) == ["a.npy", "d.npy", "manifest.json"]


def test_arrays_are_verified_once_and_after_their_files_are_gone(tmp_path):
    folder = make(tmp_path / "arrays")
    path = folder.path / "a.npy"
    folder.map("a.npy", np.int64)
    path.unlink()
    folder.verify_mapped()
    other = make(tmp_path / "other")
    path = other.path / "a.npy"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    other.map("a.npy", np.int64)
    with pytest.raises(InputError, match="a.npy: its checksum is wrong"):
        other.verify_mapped()


def test_a_change_whose_last_sync_fails_keeps_what_its_manifest_names(
    tmp_path, monkeypatch
):
    folder = make(tmp_path / "arrays")
    sync = files.writing.sync_folder

    def fail(path):
        sync(path)
        if (path / "manifest.json").exists() and "b.npy" in (
            path / "manifest.json"
        ).read_text():
            raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(files.writing, "sync_folder", fail)
    with pytest.raises(OSError, match="Input/output error"):
        with folder.change() as change:
            change.add("b.npy", np.arange(3))
    monkeypatch.undo()
    files.ArrayFolder.open(folder.path, KIND).verify()


def test_two_changes_at_once_have_one_loser(tmp_path):
    one = make(tmp_path / "arrays")
    other = files.ArrayFolder.open(one.path, KIND)
    with one.change() as change:
        change.add("b.npy", np.arange(3))
        with pytest.raises(BusyError, match="arrays is in use: .*changing it"):
            with other.change():
                pytest.fail("not locked")
        assert not other.is_outdated()
    assert other.is_outdated() and not one.is_outdated()


def test_a_file_that_cannot_be_mapped_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(3))
    refused = mock.Mock(side_effect=OSError(errno.ENOMEM, "no memory"))
    monkeypatch.setattr(mmap, "mmap", refused)
    with pytest.raises(OSError, match="no memory.*a.npy"):
        files.map_array(path, "r", "make it again")
