"""Features of the image networks against those computed by the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fhn_jax.models.backbones import make_backbone
from fhn_jax.models.reference_names import from_reference, set_variables
from tests.golden_weights import assert_close, load, normal, recipe_weights

TOLERANCE = 1e-4


def golden_network(name, size):
    """The golden arrays, the network with its weights, and the images."""
    case = f"backbone_{name}_{size}"
    golden = load(case)
    weights = recipe_weights(case, golden["seed_weights"])
    weights = {f"features.{key}": value for key, value in weights.items()}
    network = nnx.eval_shape(lambda: make_backbone(name, rngs=nnx.Rngs(0)))
    values = from_reference(weights)
    set_variables(network, {path[1:]: value for path, value in values.items()})
    draws = np.random.RandomState(int(golden["seed_input"]))
    images = normal(draws, golden["input_shape"])
    np.testing.assert_array_equal(images.ravel()[:8], golden["input_first8"])
    return golden, network, jnp.asarray(images.transpose(0, 2, 3, 1))


def run(network, images, early):
    """What the method `early` gives, and the features."""
    graphdef, variables = nnx.split(network)

    def call(variables, images):
        network = nnx.merge(graphdef, variables)
        return getattr(network, early)(images), network(images)

    return jax.device_get(jax.jit(call)(variables, images))


@pytest.mark.slow
@pytest.mark.parametrize("size", [224, 291])
def test_alexnet_agrees(size):
    golden, network, images = golden_network("alexnet", size)
    pooled, features = run(network, images, "convolve")
    assert_close(pooled.mean(3), golden["conv_out_mean_over_channels"], TOLERANCE)
    assert_close(pooled.mean((1, 2)), golden["conv_out_mean_over_space"], TOLERANCE)
    assert_close(features, golden["features"], TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnet_agrees(name):
    golden, network, images = golden_network(name, 224)
    stem, features = run(network, images, "stem_map")
    assert_close(stem.mean(3), golden["stem_mean_over_channels"], TOLERANCE)
    assert_close(features, golden["features"], TOLERANCE)
