"""The file of decoded images, and the choice of where inputs live."""

import os

import numpy as np
import pytest
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


def never(*_, **__):
    raise AssertionError("decoded again")


def test_the_file_holds_what_decoding_gives(root, names):
    notices = []
    table = build(root, names, notices)
    assert isinstance(table, np.memmap) and not table.flags.writeable
    np.testing.assert_array_equal(table, load_table(open_images(root), names, 16))
    assert notices == []


def test_the_file_is_reused(root, names, monkeypatch):
    first = np.array(build(root, names, []))
    monkeypatch.setattr(pixels, "load_table", never)
    np.testing.assert_array_equal(build(root, names, []), first)


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
    np.testing.assert_array_equal(table, load_table(open_images(root), names, 16))
    assert len(notices) == 1 and fault in notices[0] and "anew" in notices[0]


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


def test_host_and_device_train_alike(root, tmp_path):
    lines = []
    for cache in ("device", "host"):
        config = settings(root, {"data.cache": cache, "train.epochs": 1}, config="t3")
        train(config, tmp_path / cache)
        lines.append(metrics(tmp_path / cache))
    assert lines[0] == lines[1]
    _, inputs = load(config)
    assert isinstance(inputs.pixels, np.memmap) and not inputs.tables
