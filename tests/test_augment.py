"""Augmentation and normalisation of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fhn_jax.models.augment import Augmentation, normalise

KEY = jax.random.key(3)


def photos(n, size=12):
    rng = np.random.default_rng(n)
    return jnp.asarray(rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8))


@pytest.mark.slow
def test_flip_mirrors_about_half_of_the_images_left_to_right():
    images = photos(200)
    got = Augmentation(flip=True)(KEY, images)
    assert got.dtype == jnp.uint8
    mirrored = (got == images[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (got == images).all(axis=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 70 < mirrored.sum() < 130


def test_nothing_changes_without_augmentation():
    images = photos(4)
    got = Augmentation(flip=False)(KEY, images)
    np.testing.assert_array_equal(got, images)


@pytest.mark.slow
def test_draws_depend_on_the_key_alone():
    images = photos(8)
    change = Augmentation(shift=0.2, zoom=0.2)
    np.testing.assert_array_equal(change(KEY, images), change(KEY, images))
    other = change(jax.random.key(4), images)
    assert not np.array_equal(change(KEY, images), other)


def ramps(n, size):
    """Images whose first channel is the column and second the row."""
    column, row = np.meshgrid(np.arange(size), np.arange(size))
    image = np.stack([column, row, np.full_like(row, 9)], axis=-1).astype(np.uint8)
    return jnp.asarray(np.repeat(image[None], n, axis=0))


@pytest.mark.slow
def test_shift_moves_by_up_to_its_share_and_repeats_the_edges():
    size, share = 21, 0.2
    got = np.asarray(Augmentation(flip=False, shift=share)(KEY, ramps(60, size)))
    middle = size // 2
    for channel in (0, 1):
        moved = got[:, middle, middle, channel] - middle
        assert np.abs(moved).max() <= share * size
        assert moved.min() < -0.5 * share * size and moved.max() > 0.5 * share * size
        want = np.clip(np.arange(size) + moved[:, None], 0, size - 1)
        line = got[:, middle, :, 0] if channel == 0 else got[:, :, middle, 1]
        np.testing.assert_allclose(line, want, atol=1e-3)


def test_zoom_scales_about_the_middle():
    size, zoom = 21, 0.3
    got = np.asarray(Augmentation(flip=False, zoom=zoom)(KEY, ramps(60, size)))
    middle = size // 2
    np.testing.assert_allclose(got[:, middle, middle, :2], middle, atol=1e-3)
    step = got[:, middle, middle + 1, 0] - middle
    assert step.min() >= 1 / (1 + zoom) - 1e-4 and step.max() <= 1 / (1 - zoom) + 1e-4
    assert step.max() - step.min() > 0.3
    offsets = np.arange(size) - middle
    want = np.clip(middle + offsets * step[:, None], 0, size - 1)
    np.testing.assert_allclose(got[:, middle, :, 0], want, atol=1e-3)


@pytest.mark.slow
def test_colours_are_kept():
    images = ramps(20, 16)
    got = np.asarray(Augmentation(shift=0.3, zoom=0.3)(KEY, images))
    np.testing.assert_allclose(got[..., 2], 9, rtol=1e-5)
    assert got.min() >= 0 and got.max() <= 15.001


@pytest.mark.parametrize("name", ["shift", "zoom"])
@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_amounts_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"data.augment.{name}={value}: expected 0 to"):
        Augmentation(**{name: value})


def test_normalised_pixels_have_the_channel_mean_and_deviation_taken_out():
    mean, std = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)
    images = jnp.asarray(np.array([[[[0, 255, 51]]]], np.uint8))
    got = normalise(images, mean, std)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, [[[[-1.0, 3.0, 0.2]]]], rtol=1e-6)
    np.testing.assert_allclose(normalise(images.astype(jnp.float32), mean, std), got)
