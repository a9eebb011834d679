"""The file of decoded images, and the choice of where inputs live."""

import os
import subprocess
import sys

import numpy as np
import pytest
from blocks import use_blocks
from polyvore_u import write_polyvore_u
from runs import load, metrics, settings, train

from fhn_jax.data import pixels
from fhn_jax.data.images import load_table, open_images
from fhn_jax.data.items import Free, choose_cache
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.pixels import host_table

GIB = 2**30


@pytest.fixture
def root(tmp_path):
    return write_polyvore_u(tmp_path / "data", positives=(2, 1, 1), items=(5, 5, 5))


@pytest.fixture
def names(root):
    return read_catalogue(root, "8").item_names()


def build(root, names, notices, size=16):
    path = root / "images" / "decoded.npy"
    return host_table(path, open_images(root), names, size, notice=notices.append)


def everything(table):
    return table.read(np.arange(len(table)))


def never(*_, **__):
    raise AssertionError("decoded again")


def test_the_file_holds_what_decoding_gives(root, names):
    notices = []
    table = build(root, names, notices)
    assert isinstance(table.rows, np.memmap) and not table.rows.flags.writeable
    np.testing.assert_array_equal(
        everything(table), load_table(open_images(root), names, 16)
    )
    assert notices == []


def test_the_file_is_reused(root, names, monkeypatch):
    first = everything(build(root, names, []))
    monkeypatch.setattr(pixels, "load_table", never)
    np.testing.assert_array_equal(everything(build(root, names, [])), first)


def other_names(root, names, path):
    return names[::-1]


def other_image(root, names, path):
    file = root / "images" / "291x291" / names[0]
    os.utime(file, ns=(0, 0))
    return names


def cut_off(root, names, path):
    path.write_bytes(path.read_bytes()[:-70])
    return names


def other_checksum(root, names, path):
    path.write_bytes(path.read_bytes()[:-64] + b"0" * 64)
    return names


def no_table(root, names, path):
    path.write_bytes(b"\x80pickle")
    return names


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (other_names, "is of other images"),
        (other_image, "is of other images"),
        (other_checksum, "is of other images"),
        (cut_off, "is cut off or no table"),
        (no_table, "is cut off or no table"),
    ],
)
def test_a_file_of_other_images_is_built_anew_with_a_notice(root, names, change, fault):
    build(root, names, [])
    names, notices = change(root, names, root / "images" / "decoded.npy"), []
    table = build(root, names, notices)
    np.testing.assert_array_equal(
        everything(table), load_table(open_images(root), names, 16)
    )
    assert len(notices) == 1 and fault in notices[0] and "anew" in notices[0]


@pytest.mark.slow
def test_no_flipped_bit_of_a_table_goes_unnoticed(root, names):
    path = root / "images" / "decoded.npy"
    whole = everything(build(root, names, []))
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    # Of the header, the pixels, the checksums and the seal.
    places = [*rng.choice(128, 20), *rng.choice(len(data), 20)]
    places += [*range(len(data) - 4 * len(names) - 64, len(data), 7)]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            found = everything(build(root, names, []))
        except ValueError as error:
            assert str(path) in str(error) and "remove the file" in str(error)
        else:  # built anew, or what changed means nothing
            np.testing.assert_array_equal(found, whole)


def test_damage_far_from_what_is_read_is_no_error_yet(root, names):
    path = root / "images" / "decoded.npy"
    build(root, names, [])
    data = bytearray(path.read_bytes())
    data[128 + 16 * 16 * 3 * 4 + 5] ^= 1
    path.write_bytes(data)
    table = build(root, names, [])
    table.read(np.array([1, 3, 5]))
    with pytest.raises(ValueError, match="the checksum of image 4 is wrong"):
        table.read(np.array([3, 4]))


def test_a_full_disk_is_an_error_and_not_a_crash(root, names, monkeypatch):
    """Pixels that are written to a mapped hole would kill the process."""
    program = (
        "import resource, signal, sys\n"
        "from fhn_jax.data.images import open_images\n"
        "from fhn_jax.data.layout import read_catalogue\n"
        "from fhn_jax.data.pixels import host_table\n"
        "root, path = sys.argv[1:]\n"
        "names = read_catalogue(root, '8').item_names()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))\n"
        "try: host_table(path, open_images(root), names, 224)\n"
        "except OSError as error: sys.exit(str(error))\n"
    )
    path = root / "images" / "decoded.npy"
    done = subprocess.run(
        # -B: Python would leave half of a compiled module.
        [sys.executable, "-B", "-c", program, root, path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "File too large" in done.stderr
    assert str(path) in done.stderr
    assert os.listdir(root / "images") == ["291x291"]


def test_a_build_that_fails_leaves_no_file(root, names):
    (root / "images" / "291x291" / names[-1]).write_bytes(b"no image")
    with pytest.raises(ValueError, match=f"image '{names[-1]}' cannot be decoded"):
        build(root, names, [])
    assert [p.name for p in (root / "images").iterdir()] == ["291x291"]


def test_an_image_that_is_missing_is_named(root, names):
    (root / "images" / "291x291" / names[1]).unlink()
    with pytest.raises(KeyError, match=f"image '{names[1]}' missing"):
        build(root, names, [])


@pytest.mark.parametrize(
    ("free", "choice"),
    [
        (Free(80 * GIB, 900 * GIB, is_cpu=False), "device"),
        (Free(60 * GIB, 900 * GIB, is_cpu=False), "host"),
        (Free(60 * GIB, 20 * GIB, is_cpu=False), "none"),
        (Free(150 * GIB, 900 * GIB, is_cpu=True), "host"),
        (Free(250 * GIB, 900 * GIB, is_cpu=True), "device"),
    ],
)
def test_auto_picks_by_what_is_free_and_says_so(free, choice):
    picked, text = choose_cache("auto", 52 * GIB, 2 * GIB, free)
    assert picked == choice
    assert choice in text and "54.00 GiB" in text


def test_device_asked_for_without_the_memory_names_both_sizes():
    with pytest.raises(ValueError, match="take 54.00 GiB, and 40.00 GiB .*cache=host"):
        choose_cache("device", 52 * GIB, 2 * GIB, Free(40 * GIB, 9 * GIB, False))


@pytest.mark.slow
def test_host_and_device_train_alike(root, tmp_path, monkeypatch):
    use_blocks(monkeypatch)
    lines = []
    for cache in ("device", "host"):
        config = settings(root, {"data.cache": cache, "train.epochs": 1}, config="t3")
        train(config, tmp_path / cache)
        lines.append(metrics(tmp_path / cache))
    assert lines[0] == lines[1]
    _, inputs = load(config)
    assert isinstance(inputs.pixels.rows, np.memmap) and not inputs.tables
