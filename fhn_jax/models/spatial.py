"""Convolution and max-pooling with gradients that are fast on a CPU too.

On a single CPU they go through a batch image by image, so that what they write is read
again while it is in the cache. XLA would fuse the steps of a whole batch instead, and
compute the cheap ones anew for every value that is made of them.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

# Positions of a map from which on each image is worth a pass of its own.
_LARGE_MAP = 257
_POOL_STRIDE = 2


def _image_by_image() -> bool:
    # Several devices share the images of a batch, and would have to gather them.
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int, padding: int, **options
) -> nnx.Conv:
    """A layer of square kernels.

    Args:
      inputs: channels.
      outputs: channels.
      kernel: length of a side, in pixels; so are stride and padding.
      options: of `nnx.Conv`: use_bias, kernel_init, rngs.
    """
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        strides=stride,
        padding=padding,
        conv_general_dilated=_convolve,
        **options,
    )


def _convolve(images, kernel, strides, padding, **settings):
    """`lax.conv_general_dilated`, of the layers that `convolution` makes."""
    convolve = partial(
        jax.lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        **settings,
    )
    size = kernel.shape[0]
    _, height, width, _ = jax.eval_shape(convolve, images, kernel).shape
    if not _image_by_image() or size == 1 or height * width < _LARGE_MAP:
        return convolve(images, kernel)

    def forward(images, kernel):
        return convolve(images, kernel), (images, kernel)

    def backward(kept, gradient):
        images, kernel = kept
        to_images = jax.vjp(lambda images: convolve(images, kernel), images)[1]
        of_kernel = kernel_gradient(images, gradient, size, strides[0], padding[0][0])
        return *to_images(gradient), of_kernel.astype(kernel.dtype)

    differentiable = jax.custom_vjp(convolve)
    differentiable.defvjp(forward, backward)
    return differentiable(images, kernel)


def kernel_gradient(
    images: Float[Array, "n h w f"],
    gradient: Float[Array, "n h2 w2 f2"],
    kernel: int,
    stride: int,
    padding: int,
) -> Float[Array, "k k f f2"]:
    """The gradient of a convolution's kernel, as matrix products, image by image.

    XLA on CPU takes it for a convolution with windows as large as the map, which needs
    more than twice the CPU time for the 5x5 kernels of AlexNet.

    Args:
      images: what was convolved.
      gradient: of the result.
      kernel: length of a side; so are stride and padding.
    Returns:
      float32 sums.
    """
    _, height, width, outputs = gradient.shape
    channels = images.shape[3]
    # Cells of stride x stride pixels, so that what a product reads lies together.
    cells = -(-kernel // stride)
    down, across = height + cells - 1, width + cells - 1
    features = stride**2 * channels
    places = jnp.moveaxis(jnp.indices((cells, cells)), 0, -1).reshape(-1, 2)

    def add(total, of_image):
        image, gradient = of_image
        missing = [
            (padding, max(0, count * stride - padding - length))
            for count, length in zip((down, across), image.shape, strict=False)
        ]
        image = jnp.pad(image, (*missing, (0, 0)))
        image = image[: down * stride, : across * stride]
        image = image.reshape(down, stride, across, stride, channels).swapaxes(1, 2)
        image = image.reshape(down, across, features)

        def product(place):
            part = jax.lax.dynamic_slice(image, (*place, 0), (height, width, features))
            return jnp.einsum(
                "hwf,hwg->fg", part, gradient, preferred_element_type=jnp.float32
            )

        return total + jax.lax.map(product, places), None

    shape = (cells**2, features, outputs)
    total, _ = jax.lax.scan(add, jnp.zeros(shape, jnp.float32), (images, gradient))
    total = total.reshape(cells, cells, stride, stride, channels, -1).swapaxes(1, 2)
    side = cells * stride
    return total.reshape(side, side, channels, -1)[:kernel, :kernel]


def _each_image(function, *batches):
    """`function` of the first, second, … images of some batches, as batches."""
    if not _image_by_image():
        return jax.vmap(function)(*batches)
    images = [jax.eval_shape(lambda batch: batch[0], batch) for batch in batches]
    shapes = jax.eval_shape(function, *images)
    # What starts as zeros XLA may write long before, and keep; so it starts as a value
    # that has to be there first.
    value = batches[0][(0,) * batches[0].ndim]
    start = jax.tree.map(
        lambda one: jnp.full((len(batches[0]), *one.shape), value.astype(one.dtype)),
        shapes,
    )

    def put(i, results):
        of_image = function(*(batch[i] for batch in batches))
        return jax.tree.map(lambda all_, one: all_.at[i].set(one), results, of_image)

    return jax.lax.fori_loop(0, len(batches[0]), put, start)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(
    x: Float[Array, "n h w f"], window: int = 3, padding: int = 0
) -> Float[Array, "n h2 w2 f"]:
    """Max-pooling of stride 2; incomplete windows are left out.

    The gradient goes to the first largest value of a window, row by row. All that is
    kept for it is where that value lies, one byte for a window. XLA's own gradient
    takes a CPU four times as long and five times the memory of `x`: it writes the
    coordinates of every value down, and scatters.

    Args:
      window: length of a side, at most 16.
      padding: rows and columns of -inf on each side, fewer than `window`.
    """
    pads = ((padding, padding), (padding, padding))
    strides = (_POOL_STRIDE, _POOL_STRIDE)
    return nnx.max_pool(x, (window, window), strides=strides, padding=pads)


def _pool_forward(x, window, padding):
    pool = partial(_largest_and_places, window=window, padding=padding)
    largest, places = _each_image(pool, x)
    return largest, (places, x.shape[1:3])


def _pool_backward(window, padding, kept, gradient):
    places, shape = kept
    spread = partial(_spread, shape=shape, window=window, padding=padding)
    return (_each_image(spread, gradient, places),)


max_pool.defvjp(_pool_forward, _pool_backward)


def _largest_and_places(image, window, padding):
    """Of each window of an image: its largest value, the first place that has it."""
    pads = ((padding, padding), (padding, padding), (0, 0))
    image = jnp.pad(image, pads, constant_values=-jnp.inf)
    places = [jnp.uint8(column) for column in range(window)]
    largest, places = _first_largest(_steps(image, 1, window), places)
    places = [
        place + jnp.uint8(window * row)
        for row, place in enumerate(_steps(places, 0, window))
    ]
    return _first_largest(_steps(largest, 0, window), places)


def _steps(x, axis, window):
    """Slices of stride 2 along an axis: what each window has first, second, …"""
    windows = (x.shape[axis] - window) // _POOL_STRIDE + 1
    last = _POOL_STRIDE * (windows - 1) + 1
    return [
        jax.lax.slice_in_dim(x, start, start + last, _POOL_STRIDE, axis)
        for start in range(window)
    ]


def _first_largest(values, places):
    """The largest of some arrays, elementwise, and the place of the first such one."""
    largest, place = values[0], jnp.broadcast_to(places[0], values[0].shape)
    for value, its_place in zip(values[1:], places[1:], strict=True):
        place = jnp.where(value > largest, its_place, place)
        largest = jnp.maximum(largest, value)
    return largest, place


def _spread(gradient, places, shape, window, padding):
    """The gradient of an image of that shape from those of its windows."""
    result = jnp.zeros((*shape, gradient.shape[2]), gradient.dtype)
    # From the last place to the first: the order in which XLA adds a value's windows.
    for place in reversed(range(window**2)):
        edges = []
        for start, length, windows in zip(
            divmod(place, window), shape, gradient.shape, strict=False
        ):
            before = start - padding
            after = length - before - (_POOL_STRIDE * (windows - 1) + 1)
            edges.append((before, after, _POOL_STRIDE - 1))
        here = jnp.where(places == place, gradient, 0)
        result += jax.lax.pad(here, jnp.zeros((), here.dtype), (*edges, (0, 0, 0)))
    return result
