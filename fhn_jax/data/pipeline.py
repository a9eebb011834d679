"""Streams of decoded images: a tf.data pipeline of batches.

A batch is read by one call into the store, so that Python's lock is held briefly, and
decoded by threads that do not hold it. Everything that is random or that a device does
better (flips, normalisation) is left to the training step.
"""

import functools
import os
import threading
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from fhn_jax.data.images import ImageStore, channels, photo_reader
from fhn_jax.errors import InputError

_ALIGNMENT = 64  # bytes


def image_batches(
    id_batches: Iterable[Int32[np.ndarray, " _"]],
    names: Sequence[str],
    store: ImageStore,
    size: int,
    *,
    masked: bool = False,
    prefetch: int = 2,
) -> Iterator[UInt8[np.ndarray, "_ h w c"]]:
    """The decoded images of each batch of ids, in the order of the batches.

    Pixels are those of `photo_reader`. Batches may differ in length.
    The images should have been verified (`verify_images`), which tells of those that
    reading changes.

    Args:
      id_batches: global item ids; -1 is padding, which becomes an image of zeros.
      names: image file names by global item id.
      store: to read from.
      size: height and width of the result, in pixels.
      masked: with a fourth channel, see `photo_reader`.
      prefetch: finished batches that wait for the consumer.
    Yields:
      read-only arrays of levels 0 to 255.
    Raises:
      KeyError: an image is not in the store.
      ValueError: an image cannot be decoded, or an id is out of range.
      Exception: whatever iterating over `id_batches` raises.
    """
    tf, decode = _tensorflow(), photo_reader(masked)
    shape = (size, size, channels(masked))
    # An exception that passes through tensorflow would come out as another one.
    failures: list[Exception] = []

    def read() -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        try:
            for ids in id_batches:
                yield _read_batch(ids, names, store)
        except Exception as error:
            failures.append(error)

    def read_on() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # tensorflow may still be reading when the consumer has stopped.
        while True:
            with reading:
                batch = next(reader, None)
            if batch is None:
                return
            yield batch

    def decode_batch(batch_names: Any, batch: Any) -> UInt8[np.ndarray, "n h w c"]:
        pixels = _aligned((len(batch), *shape))

        def decode_into(row: int) -> None:
            if batch[row]:
                name = batch_names[row].decode()
                decode(batch[row], name, size, pixels[row])
            else:
                pixels[row] = 0

        try:
            for _ in pool.map(decode_into, range(len(batch))):
                pass
        except Exception as error:
            where = f"{error} (in {store.path})"
            is_input = isinstance(error, InputError)
            failures.append(InputError(where) if is_input else error)
            raise
        return pixels

    def decoded(batch_names: Any, batch: Any) -> Any:
        pixels = tf.numpy_function(
            decode_batch, [batch_names, batch], tf.uint8, stateful=False
        )
        return tf.ensure_shape(pixels, [None, *shape])

    reader, reading = read(), threading.Lock()
    strings = tf.TensorSpec([None], tf.string)
    batches = tf.data.Dataset.from_generator(
        read_on, output_signature=(strings, strings)
    )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # Two batches at once: the next one starts while the last images of one are done.
        batches = batches.map(decoded, num_parallel_calls=2, deterministic=True)
        iterator = batches.prefetch(prefetch).as_numpy_iterator()
        try:
            while True:
                try:
                    images = next(iterator)
                except StopIteration:
                    break
                except tf.errors.OpError:
                    raise failures[0] from None
                yield images
        finally:
            del iterator
            # tensorflow would keep the reader, and with it the source of the ids, for
            # as long as the process lives.
            with reading:
                reader.close()
    if failures:
        raise failures[0]


def _aligned(shape: tuple[int, ...]) -> UInt8[np.ndarray, "n h w c"]:
    """An array that tensorflow takes as it is; it copies those of other addresses."""
    memory = np.empty(int(np.prod(shape)) + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    return memory[first : first + int(np.prod(shape))].reshape(shape)


def _read_batch(
    ids: np.ndarray, names: Sequence[str], store: ImageStore
) -> tuple[np.ndarray, np.ndarray]:
    """Names and encoded images of a batch, empty for padding."""
    if not len(ids):
        raise ValueError("an empty batch of item ids: expected at least one")
    bad = (ids < -1) | (ids >= len(names))
    if bad.any():
        raise ValueError(
            f"item id {ids[np.argmax(bad)]} in a batch; expected 0 to "
            f"{len(names) - 1}, or -1 for padding"
        )
    batch_names = [names[int(i)] if i >= 0 else "" for i in ids.tolist()]
    images = iter(store.read([name for name in batch_names if name]))
    found = np.empty((2, len(ids)), object)
    found[0] = [name.encode() for name in batch_names]
    found[1] = [next(images) if name else b"" for name in batch_names]
    return found[0], found[1]


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
