"""The stream of decoded images: exact pixels, order, padding and errors."""

import gc
import itertools
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from fhn_jax.data_tools.build_lmdb import build_lmdb
from PIL import Image

from fhn_jax.data.images import FolderImages, LmdbImages, load_table, verify_images
from fhn_jax.data.pictures import decode
from fhn_jax.data.pipeline import image_batches
from tests.polyvore_u import encode
from tests.test_images import write_lmdb
from tests.test_pictures import PIXELS, saved, transparent, turned

# tensorflow takes seconds to import, in each process.
pytestmark = pytest.mark.slow

SIZE = 33
COUNT = 24


def batch(*ids):
    return np.array(ids, np.int32)


@pytest.fixture(scope="module")
def names():
    return [f"{i}.{'png' if i % 3 == 2 else 'jpg'}" for i in range(COUNT)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, names):
    """JPEGs of several qualities and subsamplings, and PNGs."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("images")
    smooth = np.indices((SIZE, SIZE)).sum(axis=0)[:, :, None] * [2, 3, 1]
    for i, name in enumerate(names):
        pixels = smooth + rng.integers(-60, 60, (SIZE, SIZE, 3)) + 5 * i
        options = {"quality": 40 + 2 * i, "subsampling": i % 2 * 2}
        if name.endswith("png"):
            (path / name).write_bytes(encode(pixels, "PNG"))
        else:
            progressive = i % 4 == 0
            (path / name).write_bytes(
                encode(pixels, progressive=progressive, **options)
            )
    return path


@pytest.fixture(scope="module")
def store(folder, names):
    return FolderImages(folder)


def test_pixels_equal_pillows_exactly(store, names):
    table = load_table(store, names, None)
    (found,) = image_batches([np.arange(COUNT, dtype=np.int32)], names, store, SIZE)
    np.testing.assert_array_equal(found, table)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_is_decoded_exactly(tmp_path, lossless):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3))
    data = encode(pixels, "WEBP", lossless=lossless)
    (tmp_path / "a.webp").write_bytes(data)
    (found,) = image_batches([batch(0)], ["a.webp"], FolderImages(tmp_path), 9)
    np.testing.assert_array_equal(found[0], decode(data, "a.webp"))


def test_lmdb_gives_the_same_pixels_as_the_folder(tmp_path, folder, store, names):
    write_lmdb(
        tmp_path / "lmdb",
        {name.encode(): (folder / name).read_bytes() for name in names},
    )
    ids = [batch(3, 1, 2, 3), batch(0, 5, -1, 7)]
    for one, other in zip(
        image_batches(ids, names, store, SIZE),
        image_batches(ids, names, LmdbImages(tmp_path / "lmdb"), SIZE),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_batches_come_in_order_and_may_differ_in_length(store, names):
    table = load_table(store, names, None)
    rng = np.random.default_rng(1)
    ids = [rng.integers(0, COUNT, n).astype(np.int32) for n in (5, 1, 17, 5, 40) * 4]
    found = list(image_batches(iter(ids), names, store, SIZE))
    assert len(found) == len(ids)
    for images, wanted in zip(found, ids, strict=True):
        np.testing.assert_array_equal(images, table[wanted])


def test_padding_is_zero_and_never_read(folder, names):
    read = []

    class Watched(FolderImages):
        def read(self, names):
            read.append(list(names))
            return super().read(names)

    ids = [batch(-1, 4, -1), batch(-1, -1)]
    found = list(image_batches(ids, names, Watched(folder), SIZE))
    assert read == [["4.jpg"], []]
    assert not found[0][[0, 2]].any() and not found[1].any()
    assert found[0][1].any()
    assert [images.shape for images in found] == [
        (3, SIZE, SIZE, 3),
        (2, SIZE, SIZE, 3),
    ]


@pytest.mark.parametrize("size", [16, 50])
def test_resize_agrees_with_pillow_to_one_level(store, names, size):
    (found,) = image_batches([np.arange(COUNT, dtype=np.int32)], names, store, size)
    difference = np.abs(found.astype(int) - load_table(store, names, size))
    assert difference.max() <= 1
    assert difference.mean() < 0.25


def test_images_of_other_sizes_are_resized_and_the_rest_are_not(tmp_path):
    names = ["wide.png", "right.png"]
    pixels = np.random.default_rng(0).integers(0, 256, (8, 14, 3)).astype(np.uint8)
    (tmp_path / "wide.png").write_bytes(encode(pixels, "PNG"))
    (tmp_path / "right.png").write_bytes(encode(pixels[:, :8], "PNG"))
    store = FolderImages(tmp_path)
    (found,) = image_batches([batch(0, 1)], names, store, 8)
    np.testing.assert_array_equal(found[1], pixels[:, :8])
    wide = decode((tmp_path / "wide.png").read_bytes(), "", 8).astype(int)
    assert np.abs(found[0] - wide).max() <= 1


def test_each_batch_is_read_by_one_call(folder, names):
    calls = []

    class Watched(FolderImages):
        def read(self, names):
            calls.append(len(names))
            return super().read(names)

    list(image_batches([batch(1, 2, 3), batch(4, 5, 6)], names, Watched(folder), SIZE))
    assert calls == [3, 3]


# Errors


@pytest.mark.parametrize("content", [b"no image", "cut", "gif"])
def test_decode_error_names_the_image(tmp_path, folder, names, content):
    for name in names:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    if content == "cut":
        content = (folder / "7.jpg").read_bytes()[:-100]
    if content == "gif":
        content = encode(np.zeros((SIZE, SIZE, 3)), "GIF")
    (tmp_path / "7.jpg").write_bytes(content)
    stream = image_batches(
        [batch(0, 1), batch(2, 3), batch(6, 7, 8), batch(9)],
        names,
        FolderImages(tmp_path),
        SIZE,
    )
    assert len(next(stream)) == len(next(stream)) == 2
    with pytest.raises(ValueError, match="image '7.jpg' cannot") as caught:
        next(stream)
    assert str(tmp_path) in str(caught.value)


def test_missing_image_reaches_the_consumer_after_the_batches_before_it(store, names):
    stream = image_batches(
        [batch(0, 1), batch(2, COUNT)], [*names, "gone.jpg"], store, SIZE
    )
    assert len(next(stream)) == 2
    with pytest.raises(KeyError, match="'gone.jpg' missing in"):
        next(stream)


def test_error_of_the_ids_reaches_the_consumer_as_it_is(store, names):
    class Odd(Exception):
        pass

    def ids():
        yield batch(0)
        raise Odd("the sampler ran dry")

    stream = image_batches(ids(), names, store, SIZE)
    next(stream)
    with pytest.raises(Odd, match="the sampler ran dry"):
        next(stream)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (batch(0, COUNT), "item id 24 in a batch; expected 0 to 23, or -1"),
        (batch(-2), "item id -2 in a batch"),
        (batch(), "an empty batch"),
    ],
)
def test_ids_out_of_range_are_refused(store, names, ids, text):
    with pytest.raises(ValueError, match=text):
        list(image_batches([ids], names, store, SIZE))


# Stopping


def test_stopping_early_closes_the_source_and_its_thread(store, names):
    closed = threading.Event()

    def ids():
        try:
            for i in itertools.count():
                yield batch(i % COUNT, 0)
        finally:
            closed.set()

    stream = image_batches(ids(), names, store, SIZE)
    for _ in range(3):
        next(stream)
    stream.close()
    del stream
    gc.collect()
    assert closed.wait(10)


def test_no_more_is_read_than_the_queue_holds(store, names):
    taken = []

    def ids():
        for i in range(100):
            taken.append(i)
            yield batch(i % COUNT)

    stream = image_batches(ids(), names, store, SIZE, prefetch=1)
    next(stream)
    time.sleep(0.3)
    assert len(taken) < 15
    stream.close()


def test_no_batches_give_no_images(store, names):
    assert list(image_batches([], names, store, SIZE)) == []


def test_tensorflow_is_imported_only_when_a_pipeline_starts_and_quietly(folder):
    code = f"""
import sys
from fhn_jax.data.pipeline import image_batches
from fhn_jax.data.images import FolderImages
assert "tensorflow" not in sys.modules
import numpy as np
ids = [np.zeros(1, np.int32)]
(images,) = image_batches(ids, ["0.jpg"], FolderImages({str(folder)!r}), {SIZE})
import tensorflow as tf
print(images.shape, tf.config.get_visible_devices("GPU"))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.stdout == f"(1, {SIZE}, {SIZE}, 3) []\n", done.stderr
    assert not done.stderr


def test_all_ways_of_reading_agree_and_tell_what_they_change(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    grey = Image.fromarray(PIXELS[..., 0])
    photos = {
        "turned.jpg": turned(6),
        "clear.png": saved(transparent()),
        "grey.png": saved(grey),
        "deep.png": saved(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 256)),
        "plain.jpg": encode(PIXELS[:10]),
    }
    for name, data in photos.items():
        (folder / name).write_bytes(data)
    names, told = list(photos), []
    expected = np.stack([decode(data, "", 16) for data in photos.values()])
    build_lmdb(folder, tmp_path / "lmdb", notice=told.append)
    stores = FolderImages(folder), LmdbImages(tmp_path / "lmdb")
    for store in stores:
        table = load_table(store, names, 16, notice=told.append)
        np.testing.assert_array_equal(table, expected)
        (found,) = image_batches([np.arange(5, dtype=np.int32)], names, store, 16)
        np.testing.assert_array_equal(found, expected)
    verify_images(stores[0], names, notice=told.append)
    assert (
        len(told) == 4
        and len({text.partition("they are stored")[2] for text in told}) == 1
    )
    for part in (
        f"images in {folder} are not read as they are stored: 1 turned",
        "put on white ('clear.png')",
        "2 grey or of other colours, made RGB ('deep.png', 'grey.png')",
        "1 of 16 bits a colour, made 8 ('deep.png')",
        "4 not square",
    ):
        assert part in told[0]
