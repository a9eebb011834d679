"""Pixels are normalised by the mean and spread of the settings, wherever they are seen."""

from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest
from blocks import make_blocks
from flax import nnx
from polyvore_u import write_polyvore_u
from runs import load, settings

from fhn_jax.models import fashion_hash_net
from fhn_jax.training import build
from fhn_jax.training.export import all_items
from fhn_jax.training.step import pop_metrics

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
ZEROS = (0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny", image_size=32)


@pytest.fixture(scope="module")
def make(root):
    def make(mean, std=STD):
        config = settings(root, config="t3")
        with config.unlocked():
            config.data.mean, config.data.std = mean, std
            config.data.cache = "device"
        catalogue, inputs = load(config)
        with mock.patch.object(fashion_hash_net, "make_backbone", make_blocks):
            model = build.make_model(config, catalogue, **inputs.dims)
        return config, catalogue, inputs, model

    return make


@nnx.jit(static_argnums=2)
def encode(model, images, category):
    return model.head("visual", category)(model.features(images))


def test_items_are_encoded_from_normalised_pixels(make):
    config, catalogue, inputs, model = make(MEAN)
    encoder = build.make_encoder(config, model, inputs)
    found = encoder(model, all_items(catalogue), catalogue.offsets)["visual"]
    pixels = np.asarray(inputs.tables["visual"], np.float64) / 255
    normalised = ((pixels - MEAN) / STD).astype(np.float32)
    for category, latents in enumerate(found):
        first, last = catalogue.offsets[category : category + 2]
        expected = encode(model, jnp.asarray(normalised[first:last]), category)
        np.testing.assert_allclose(latents, expected, rtol=1e-4, atol=1e-6)


def loss_of_first_step(config, catalogue, inputs, model):
    batches = build.make_batches(config, catalogue)
    trainer = build.make_trainer(config, model, batches)
    schedule = build.make_schedule(config, batches.steps)
    epochs = build.make_epochs(config, trainer, batches, inputs)
    advance, _ = next(epochs.advances(schedule, 0, 0, 1.0))
    state, _ = advance(trainer.init())
    return pop_metrics(state)[1]["loss"]


@pytest.mark.slow
def test_the_first_step_depends_on_the_mean(make):
    with_mean, without = (loss_of_first_step(*make(mean)) for mean in (MEAN, ZEROS))
    assert with_mean == loss_of_first_step(*make(MEAN))
    assert with_mean != without
