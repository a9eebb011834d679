"""Streams of decoded images: read in Python, decoded in tensorflow's threads.

A batch is read by one call into the store, so that Python's lock is held briefly, and
decoded and resized without it. Everything that is random or that a device does better
(flips, normalisation) is left to the training step.
"""

import collections
import contextlib
import functools
import io
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from fhn_jax.data.images import ImageStore, decode, image_fault


def image_batches(
    id_batches: Iterable[Int32[np.ndarray, " _"]],
    names: Sequence[str],
    store: ImageStore,
    size: int,
    *,
    prefetch: int = 2,
) -> Iterator[UInt8[np.ndarray, "_ h w 3"]]:
    """The decoded images of each batch of ids, in the order of the batches.

    Pixels are those that Pillow decodes. Images that are not `size` x `size` are
    resized with an antialiasing triangle filter. Batches may differ in length. The
    images should have been verified (`verify_images`): decoding checks what it must,
    but not their megapixels.

    Args:
      id_batches: global item ids; -1 is padding, which becomes an image of zeros.
      names: image file names by global item id.
      store: to read from.
      size: height and width of the result, in pixels.
      prefetch: finished batches that wait for the consumer.
    Yields:
      read-only arrays of levels 0 to 255.
    Raises:
      KeyError: an image is not in the store.
      ValueError: an image cannot be decoded, or an id is out of range.
      Exception: whatever iterating over `id_batches` raises.
    """
    tf = _tensorflow()
    in_flight: collections.deque[tuple[list[str], np.ndarray]] = collections.deque()
    failures: list[Exception] = []

    def read() -> Iterator[np.ndarray]:
        # An exception that passes through tensorflow would come out as another one.
        try:
            for ids in id_batches:
                batch_names, batch = _read_batch(ids, names, store)
                in_flight.append((batch_names, batch))
                yield batch
        except Exception as error:
            failures.append(error)

    tensor_of = functools.partial(_tensor_of, tf, size)
    threads = os.cpu_count()

    def decode_batch(batch: Any) -> Any:
        images = tf.data.Dataset.from_tensor_slices(batch)
        images = images.map(tensor_of, num_parallel_calls=threads, deterministic=True)
        return images.batch(tf.size(batch, tf.int64)).get_single_element()

    reader = read()
    batches = tf.data.Dataset.from_generator(
        lambda: reader, output_signature=tf.TensorSpec([None], tf.string)
    )
    # Two batches at once: the next one starts while the last images of one are done.
    batches = batches.map(decode_batch, num_parallel_calls=2, deterministic=True)
    iterator = batches.prefetch(prefetch).as_numpy_iterator()
    try:
        while True:
            try:
                images = next(iterator)
            except StopIteration:
                break
            except tf.errors.OpError as error:
                raise _decode_error(tensor_of, store, *in_flight[0], error) from None
            in_flight.popleft()
            yield images
    finally:
        # This waits for a read in progress. tensorflow would keep the reader, and with
        # it the source of the ids, for as long as the process lives.
        del iterator
        reader.close()
    if failures:
        raise failures[0]


def _read_batch(
    ids: np.ndarray, names: Sequence[str], store: ImageStore
) -> tuple[list[str], np.ndarray]:
    """Names and encoded images of a batch, empty for padding."""
    if not len(ids):
        raise ValueError("an empty batch of item ids: expected at least one")
    bad = (ids < -1) | (ids >= len(names))
    if bad.any():
        raise ValueError(
            f"item id {ids[np.argmax(bad)]} in a batch; expected 0 to "
            f"{len(names) - 1}, or -1 for padding"
        )
    batch_names = [names[i] if i >= 0 else "" for i in ids.tolist()]
    images = iter(store.read([name for name in batch_names if name]))
    batch = np.empty(len(ids), object)
    batch[:] = [_no_webp(next(images), name) if name else b"" for name in batch_names]
    return batch_names, batch


def _no_webp(image: bytes, name: str) -> bytes:
    """The image, a WebP as a PNG: tensorflow needs another operation for WebP.

    Choosing the operation for each image would slow all of them down; Pillow takes
    about 5 ms for one WebP.
    """
    if not image.startswith(b"RIFF"):
        return image
    png = io.BytesIO()
    Image.fromarray(decode(image, name)).save(png, "PNG", compress_level=1)
    return png.getvalue()


def _tensor_of(tf: Any, size: int, image: Any) -> Any:
    """An encoded image, or b"" for padding, as a tensor uint8 [size, size, 3]."""

    def pixels():
        # The default transform is off by up to 6 levels. Despite its name, this
        # operation decodes PNG as well.
        found = tf.io.decode_jpeg(image, channels=0, dct_method="INTEGER_ACCURATE")
        return resized(tf.ensure_shape(found, [None, None, 3]))

    def resized(found):
        return tf.cond(
            tf.reduce_all(tf.equal(tf.shape(found)[:2], size)),
            lambda: found,
            lambda: tf.cast(
                tf.round(
                    tf.image.resize(found, (size, size), "bilinear", antialias=True)
                ),
                tf.uint8,
            ),
        )

    is_padding = tf.equal(tf.strings.length(image), 0)
    black = functools.partial(tf.zeros, [size, size, 3], tf.uint8)
    return tf.ensure_shape(tf.cond(is_padding, black, pixels), [size, size, 3])


def _decode_error(
    tensor_of: Any, store: ImageStore, names: list[str], batch: np.ndarray, error: Any
) -> ValueError:
    """The error for a batch that tensorflow could not decode: it names the image."""
    for name, image in zip(names, batch, strict=True):
        if not name:
            continue
        fault = image_fault(image, name)
        if fault is None:
            with contextlib.suppress(type(error)):
                tensor_of(image)
                continue
            fault = f"image {name!r} cannot be decoded by tensorflow ({error.message})"
        return ValueError(f"{fault} (in {store.path})")
    return ValueError(
        f"a batch of images from {store.path}, {names[0]!r} to {names[-1]!r}, could "
        f"not be decoded: {error.message}"
    )


@functools.cache
def _tensorflow() -> Any:
    """tensorflow, imported quietly and kept off the accelerators, which are JAX's."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Its notice about rounding is printed at any log level; nothing here uses oneDNN.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    with warnings.catch_warnings():
        # Of tensorflow's own dependencies; nobody here can act on them.
        warnings.simplefilter("ignore", DeprecationWarning)
        import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    return tf
