"""Convolution and max-pooling against XLA's own, on one CPU and on several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fhn_jax.models import spatial
from fhn_jax.models.alexnet import AlexNet
from fhn_jax.models.spatial import convolution, kernel_gradient, max_pool


@pytest.fixture(params=[True, False], ids=["image by image", "whole batches"])
def one_cpu(request, monkeypatch):
    monkeypatch.setattr(spatial, "_image_by_image", lambda: request.param)
    return request.param


def draw(seed, *shape):
    values = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(values.astype(np.float32))


def xla_convolution(images, kernel, stride, padding):
    return jax.lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        ((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def xla_max_pool(x, window, padding):
    pads = ((padding, padding), (padding, padding))
    return nnx.max_pool(x, (window, window), strides=(2, 2), padding=pads)


def with_gradient(pool):
    """What a pooling gives, and the gradient of what went in."""

    @jax.jit
    def run(x, gradient):
        result, back = jax.vjp(pool, x)
        return result, *back(gradient)

    return run


# Max-pooling


def test_max_pool_leaves_out_incomplete_windows():
    x = jnp.arange(36.0).reshape(1, 6, 6, 1)
    assert max_pool(x)[0, :, :, 0].tolist() == [[14.0, 16.0], [26.0, 28.0]]


def test_the_gradient_goes_to_the_first_of_equals(one_cpu):
    gradient = jax.grad(lambda x: max_pool(x).sum())(jnp.zeros((1, 5, 5, 1)))
    want = np.zeros((5, 5))
    want[np.ix_([0, 2], [0, 2])] = 1
    np.testing.assert_array_equal(gradient[0, :, :, 0], want)


@pytest.mark.parametrize(
    ("window", "padding", "height", "width"),
    [
        (1, 0, 5, 4),
        (2, 0, 7, 6),
        (2, 1, 5, 8),
        (3, 0, 9, 8),
        (3, 1, 8, 7),
        (4, 3, 6, 9),
    ],
)
def test_pooling_is_xlas_to_the_bit_whatever_ties(
    window, padding, height, width, one_cpu
):
    rng = np.random.default_rng(window)
    x = jnp.asarray(rng.integers(-2, 3, (9, height, width, 4)).astype(np.float32))
    run = with_gradient(lambda x: max_pool(x, window, padding))
    run_xla = with_gradient(lambda x: xla_max_pool(x, window, padding))
    gradient = draw(window, *xla_max_pool(x, window, padding).shape)
    for got, want in zip(run(x, gradient), run_xla(x, gradient), strict=True):
        np.testing.assert_array_equal(got, want)


def test_relu_after_pooling_is_relu_before_it():
    x, gradient = draw(0, 2, 9, 9, 3), draw(1, 2, 4, 4, 3)
    after, back = jax.vjp(lambda x: jax.nn.relu(max_pool(x)), x)
    before, xla_back = jax.vjp(lambda x: xla_max_pool(jax.nn.relu(x), 3, 0), x)
    np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(back(gradient)[0], xla_back(gradient)[0])


def test_a_pooled_map_keeps_a_byte_for_a_window():
    x = jnp.zeros((2, 9, 9, 3))
    kept = [
        array
        for array in jax.tree.leaves(jax.vjp(max_pool, x)[1])
        if getattr(array, "size", 0) > 1
    ]
    assert [(array.dtype, array.shape) for array in kept] == [(jnp.uint8, (2, 4, 4, 3))]


# Convolution

LAYERS = {
    "alexnet 1": (3, 63, 11, 4, 2),
    "alexnet 2": (4, 23, 5, 1, 2),
    "3x3": (5, 18, 3, 1, 1),
    "3x3, stride 2": (5, 37, 3, 2, 1),
    "resnet stem": (3, 40, 7, 2, 3),
    "no padding": (2, 21, 4, 3, 0),
    "pixels left over": (2, 50, 2, 3, 1),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_the_gradient_of_a_kernel_is_xlas(layer):
    channels, size, side, stride, padding = layer
    images = draw(0, 3, size, size + 2, channels)
    kernel = draw(1, side, side, channels, 6)
    result, back = jax.vjp(
        lambda kernel: xla_convolution(images, kernel, stride, padding), kernel
    )
    gradient = draw(2, *result.shape)
    got = kernel_gradient(images, gradient, side, stride, padding)
    np.testing.assert_allclose(got, back(gradient)[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [8, 40], ids=["small map", "large map"])
def test_a_layer_is_a_convolution(size, one_cpu, monkeypatch):
    asked = []
    monkeypatch.setattr(
        spatial,
        "kernel_gradient",
        lambda *args: asked.append(args) or kernel_gradient(*args),
    )
    layer = convolution(3, 4, 3, stride=2, padding=1, rngs=nnx.Rngs(0))
    images, kernel = draw(0, 2, size, size, 3), layer.kernel[...]
    graphdef, weights = nnx.split(layer)

    def of_layer(images, kernel):
        weights.kernel = weights.kernel.replace(kernel)
        return nnx.merge(graphdef, weights)(images)

    got, back = jax.vjp(of_layer, images, kernel)
    want, xla_back = jax.vjp(
        lambda images, kernel: xla_convolution(images, kernel, 2, 1), images, kernel
    )
    np.testing.assert_array_equal(got, want)
    gradient = draw(1, *want.shape)
    for one, other in zip(back(gradient), xla_back(gradient), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    assert bool(asked) == (one_cpu and size == 40)


def test_gradients_of_half_precision_are_summed_in_float32(one_cpu):
    layer = convolution(3, 4, 3, stride=1, padding=1, rngs=nnx.Rngs(0))
    images = jnp.ones((64, 32, 32, 3), jnp.bfloat16)
    graphdef, weights = nnx.split(layer)
    weights = jax.tree.map(lambda x: x.astype(jnp.bfloat16), weights)
    gradient = jax.grad(lambda w: nnx.merge(graphdef, w)(images).sum())(weights)
    assert gradient.kernel[...].dtype == jnp.bfloat16
    # 64 images of 32 x 32 ones: bfloat16 sums would stop at 256.
    assert gradient.kernel[...][1, 1, 0, 0] == 64 * 32 * 32


def test_alexnet_has_the_same_gradients_image_by_image(monkeypatch):
    images = draw(0, 2, 160, 160, 3)
    graphdef, weights = nnx.split(AlexNet(rngs=nnx.Rngs(0)))
    products = []
    monkeypatch.setattr(
        spatial,
        "kernel_gradient",
        lambda *args: products.append(args) or kernel_gradient(*args),
    )

    def loss(weights):
        return (nnx.merge(graphdef, weights).convolve(images) ** 2).sum()

    found = []
    for one_cpu in (True, False):
        monkeypatch.setattr(spatial, "_image_by_image", lambda one=one_cpu: one)
        found.append(jax.grad(loss)(weights))
        # Maps of 39x39 and 19x19; the later ones are small.
        assert len(products) == 2
    for ours, xlas in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(ours, xlas, rtol=1e-3, atol=1e-4 * abs(xlas).max())
