"""Photos with the mask of their garment: what is in it, and that the network sees no more."""

import dataclasses
import errno
import io
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from photos_of_garments import photo_of_a_garment
from PIL import Image
from polyvore_u import write_polyvore_u
from random_codes import random_codes
from runs import act, load, metrics, settings, train

from fhn_jax import files
from fhn_jax.codes import Codes, tensor_file
from fhn_jax.data.images import load_table, open_images, photo_reader
from fhn_jax.data.pictures import decode
from fhn_jax.errors import BusyError, InputError, MissingPackageError
from fhn_jax.models.augment import Augmentation, normalise
from fhn_jax.models.backbones import make_backbone, resnet
from fhn_jax.training import inputs
from fhn_jax.web import photos

GROUND, OTHER_GROUND = (190, 170, 150), (60, 90, 70)
BLUE, RED = (40, 60, 140), (150, 40, 40)


def encoded(pixels):
    """A PNG."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def read():
    pytest.importorskip("cv2")
    return photo_reader(masked=True)


@pytest.fixture
def root(tmp_path):
    """Data with photos of garments of many colours, the first of nothing at all."""
    pytest.importorskip("cv2")
    root = write_polyvore_u(tmp_path / "data", image_size=48, items=(6, 4, 4))
    colours = np.random.default_rng(0)
    for number, path in enumerate(sorted((root / "images" / "291x291").iterdir())):
        photo, _ = photo_of_a_garment(GROUND, colours.integers(0, 150, 3), 96)
        photo = photo if number else np.full_like(photo, 120)
        Image.fromarray(photo).save(path, "JPEG", quality=95)
    return root


def names_of(root):
    return sorted(path.name for path in (root / "images" / "291x291").iterdir())


def network(masked=True):
    return make_backbone("tiny", width=8, shapes=8, masked=masked, rngs=nnx.Rngs(0))


def test_the_fourth_channel_is_how_much_of_a_pixel_is_garment(read):
    photo, inside = photo_of_a_garment(GROUND, BLUE, 160)
    wide = np.full((160, 200, 3), 255, np.uint8)
    wide[:, 20:180] = photo
    seen = read(encoded(wide), "wide.png", 50)
    assert seen.shape == (50, 50, 4) and seen.dtype == np.uint8
    assert (seen[..., :3] == decode(encoded(wide), "wide.png", 50)).all()
    share = np.zeros((200, 200), np.float32)
    share[20:180, 20:180] = inside
    share = share.reshape(50, 4, 50, 4).mean(axis=(1, 3))
    found = seen[..., 3] / 255
    assert np.abs(found - share).mean() < 0.02
    assert (found[share == 1] > 0.9).all() and (found[:5] == 0).all()


@pytest.mark.slow
def test_a_photo_without_a_garment_is_seen_whole_and_counted(root):
    told, names = [], names_of(root)
    table = load_table(open_images(root), names, 16, masked=True, notice=told.append)
    assert table.shape == (len(names), 16, 16, 4)
    assert (table[0, ..., 3] == 255).all() and (table[1:, 0, 0, 3] == 0).all()
    (text,) = told
    assert f"1 without a garment that stands out, seen whole ({names[0]!r})" in text


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (700, 5)])
def test_photos_of_odd_sizes_have_a_mask_too(read, size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    seen = read(encoded(noise), "odd.png", 24)
    assert seen[..., 3].max() == 255
    sides = (seen[..., :3] == 255).all(axis=-1)
    assert max(size) == 1 or (seen[..., 3][sides] == 0).mean() > 0.9


@pytest.mark.parametrize("size", [32, 48, 224])
def test_the_white_at_the_sides_is_no_garment_to_the_pixel(read, size, monkeypatch):
    """Where all of the photo is, though garments are looked for at another size."""

    def everything(pixels):
        return np.ones(pixels.shape[:2], bool)

    monkeypatch.setattr("fhn_jax.data.masks.garment", everything)
    for shape in [(291, width) for width in range(100, 400, 17)]:
        grey = np.full((*shape, 3), 120, np.uint8)
        seen = read(encoded(grey), "grey.png", size)
        white = (seen[..., :3] == 255).all(axis=-1)
        assert ((seen[..., 3] == 0) == white).all()


@pytest.mark.slow
def test_a_masked_network_sees_nothing_but_the_garment(read):
    """Of two backgrounds it says the same; of two garments it does not."""
    pictures = [
        photo_of_a_garment(ground, colour)[0]
        for ground, colour in ((GROUND, BLUE), (OTHER_GROUND, BLUE), (GROUND, RED))
    ]
    _, inside = photo_of_a_garment(GROUND, BLUE)
    mask = np.where(inside, 255, 0).astype(np.uint8)[..., None]
    x = np.stack([np.concatenate([each, mask], axis=-1) for each in pictures])
    x = normalise(jnp.asarray(x), (0.0,) * 3, (1.0,) * 3)
    same, different = differences(network()(x))
    assert same < 0.05 < 10 * same < different
    same, different = differences(network(masked=False)(x[..., :3]))
    assert same > different / 3


def differences(features):
    return tuple(float(np.abs(features[i] - features[0]).mean()) for i in (1, 2))


@pytest.mark.slow
def test_a_mask_of_nothing_gives_numbers():
    x = jnp.concatenate([jnp.full((1, 32, 32, 3), 0.5), jnp.zeros((1, 32, 32, 1))], -1)
    assert np.isfinite(network()(x)).all()


def test_a_mask_becomes_the_share_of_a_pixel_that_is_garment():
    levels = jnp.asarray(np.array([[[[0, 51, 255, 51]]]], np.uint8))
    seen = np.asarray(normalise(levels, (0.5, 0.2, 0.0), (0.5, 0.1, 0.2)))
    np.testing.assert_allclose(seen[0, 0, 0], [-1, 0, 5, 0.2], atol=1e-5)


def test_shape_and_pattern_are_averaged_over_the_mask():
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 3)).astype(np.float32)
    mask = np.zeros((1, 4, 4, 1), np.float32)
    mask[0, 1:, :3] = 1
    found = resnet._pooled(jnp.asarray(x), jnp.asarray(mask))
    expected = x[:, 1:, :3].mean(axis=(1, 2))
    np.testing.assert_allclose(found, expected, atol=5e-3)
    assert np.abs(expected - x.mean(axis=(1, 2))).max() > 0.05


@pytest.mark.slow
def test_the_mask_moves_with_the_photo():
    """A photo that is its own mask is so after augmentation, too."""
    _, inside = photo_of_a_garment(GROUND, BLUE, 32)
    x = np.repeat(np.where(inside, 255, 0).astype(np.uint8)[None, ..., None], 4, -1)
    key = nnx.Rngs(1).params()
    moved = Augmentation(flip=True, shift=0.2, zoom=0.2)(key, jnp.asarray(x))
    assert np.abs(np.asarray(moved) - x).max() > 100
    np.testing.assert_allclose(moved[..., 3], moved[..., 0], atol=1e-3)


@pytest.mark.slow
def test_where_photos_are_kept_makes_no_difference(root, tmp_path):
    lines = []
    for cache in ("device", "host", "none"):
        overrides = {"data.cache": cache, "train.epochs": 1}
        train(masked(root, overrides), tmp_path / cache)
        lines.append(metrics(tmp_path / cache))
    assert (root / "images" / "decoded_32_masked.npy").is_file()
    assert lines[0] and lines[0] == lines[1] == lines[2]


def masked(root, overrides=None):
    return settings(root, overrides, config="t3", arg="smoke,masked")


@pytest.mark.slow
def test_masks_are_found_once(root, monkeypatch):
    config = masked(root)
    first = load(config)[1].tables["visual"]
    monkeypatch.setattr("fhn_jax.data.masks.garment", None)
    assert (load(config)[1].tables["visual"] == first).all()


@pytest.mark.slow
def test_a_run_beside_one_that_writes_the_file_reads_the_photos_itself(root):
    config = masked(root)
    path = root / "images" / "decoded_32_masked.npy"
    with files.lock(path, "decoding images"):
        alone = load(config)[1].tables["visual"]
    assert not path.exists()
    assert (load(config)[1].tables["visual"] == alone).all() and path.exists()
    path.unlink()
    with files.lock(path, "decoding images"), pytest.raises(BusyError):
        load(masked(root, {"data.cache": "host"}))


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["device", "host"])
def test_some_items_leave_the_file_of_all_alone(root, cache):
    config = masked(root, {"data.cache": cache})
    catalogue, whole = load(config)
    path = root / "images" / "decoded_32_masked.npy"
    before = path.stat()
    one = inputs.one_input(config, catalogue)
    first, alone = map(first_photo, (whole, one))
    assert alone.shape == (32, 32, 4) and (alone == first).all()
    assert path.stat() == before


def first_photo(of_items):
    """Pixels, wherever they are kept."""
    ((_, streamed),) = of_items.stream([(np.array([0], np.int32), None)])
    return np.asarray((streamed | of_items.tables)["visual"][0])


@pytest.mark.slow
def test_a_full_disk_has_masks_that_were_found_and_needs_none(root, monkeypatch):
    config = masked(root, {"data.cache": "device"})
    path = root / "images" / "decoded_32_masked.npy"
    free = inputs.free_bytes(root)
    full = dataclasses.replace(free, disk=0)
    with monkeypatch.context() as patched:
        patched.setattr(inputs, "free_bytes", lambda root: full)
        # Other programs fill a disk, too.
        patched.setattr(files, "reserve", refuse)
        found = load(config)[1].tables["visual"]
        assert not path.exists()
        with pytest.raises(OSError, match="No space"):
            load(masked(root, {"data.cache": "host"}))
    load(config)
    monkeypatch.setattr(inputs, "free_bytes", lambda root: full)
    monkeypatch.setattr("fhn_jax.data.masks.garment", None)
    assert (load(config)[1].tables["visual"] == found).all()


def refuse(path, size):
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


@pytest.mark.slow
def test_an_uploaded_photo_gets_the_code_of_the_item(root, tmp_path):
    run = tmp_path / "run"
    config = masked(root, {"model.item_scale": True, "train.epochs": 1})
    act("train", config, run)
    act("extract-features", workdir=run)
    act("export-encoder", workdir=run)
    codes, names = Codes.load(run / "codes.safetensors"), load(config)[0].names
    function, view = photos.load_program(run / photos.FILE)
    found = [
        photos._encode(function, view, open_images(root).read([name])[0], category)
        for category, of in enumerate(names)
        for name in of
    ]
    signs, scales = zip(*((photo.code, photo.scale) for photo in found), strict=True)
    assert np.array_equal(signs, np.concatenate(codes.items["visual"]))
    assert len(np.unique(signs, axis=0)) > 3
    of_items = np.concatenate(codes.item_scales["visual"])
    np.testing.assert_allclose(scales, of_items, rtol=1e-3)


def test_without_opencv_the_extra_is_named(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.delitem(sys.modules, "fhn_jax.data.masks", raising=False)
    with pytest.raises(MissingPackageError, match=r"fhn_jax\[garment\]"):
        load(masked(root))


def test_an_encoder_says_whether_it_takes_masks(tmp_path, monkeypatch):
    path = tmp_path / photos.FILE
    codes = random_codes()
    photos.save_encoder(path, b"program", codes, 32, masked=True)
    assert photos.read_encoder(path).masked
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.delitem(sys.modules, "fhn_jax.data.masks", raising=False)
    with pytest.raises(MissingPackageError, match=r"fhn_jax\[garment\]"):
        photos.PhotoEncoder(path, codes)
    write, program = tensor_file.serialize, {"program": np.zeros(1, np.uint8)}
    about = {"format": photos.FORMAT, "version": str(tensor_file.VERSION)}
    about |= {"config_hash": codes.config_hash, "image_size": "32"}
    # As it was written before there were masks.
    path.write_bytes(write(program, about))
    assert not photos.read_encoder(path).masked
    path.write_bytes(write(program, about | {"masked": "2"}))
    with pytest.raises(InputError, match="masked"):
        photos.read_encoder(path)


@pytest.mark.parametrize(
    ("config", "arg"),
    [("t3", "masked"), ("text_t3", "clothing,masked"), ("t3", "features=x,masked")],
)
def test_masks_need_the_small_network(root, config, arg):
    with pytest.raises(InputError, match="masks are for the small network"):
        settings(root, config=config, arg=arg)
