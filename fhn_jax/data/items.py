"""What the encoders see of each item: images or features, text; resident or streamed."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, Int32

from fhn_jax.data.images import ImageStore
from fhn_jax.data.pixels import PixelTable
from fhn_jax.errors import InputError

T = TypeVar("T")
CACHES = ("auto", "device", "host", "none")
# What "auto" leaves of the free memory: to weights, gradients and activations on an
# accelerator, and to everybody else on a CPU, where it is the host's own.
_AUTO_SHARE = {"accelerator": 0.75, "cpu": 0.25}


@dataclasses.dataclass(frozen=True)
class ItemInputs:
    """Images and text vectors of all items, by global item id.

    Resident tables lie on the device and are gathered inside the jitted step; what is
    not resident is streamed batch by batch.

    Attributes:
      tables: modality → rows of all items, where resident; features always are.
      text: text vectors, where streamed.
      images: the store, where images are streamed.
      names: item names by global id.
      image_size: pixels of a side.
      pixels: decoded images in a memory-mapped file, where streamed from there.
      masked: whether images have a fourth channel, see `photo_reader`.
    """

    tables: dict[str, Any]
    text: Float32[np.ndarray, "n t"] | None
    images: ImageStore | None
    names: tuple[str, ...]
    image_size: int
    pixels: PixelTable | None = None
    masked: bool = False

    @property
    def dims(self) -> dict[str, int]:
        """Lengths of text vectors and of precomputed features, each 0 without them."""
        text = self.tables.get("text", self.text)
        features = self.tables.get("features", self.tables.get("visual"))
        return {
            "text_dim": 0 if text is None else text.shape[1],
            "feature_dim": (
                0 if features is None or features.ndim > 2 else features.shape[1]
            ),
        }

    def stream(
        self, batches: Iterable[tuple[Int32[np.ndarray, " n"], T]]
    ) -> Iterator[tuple[T, dict[str, np.ndarray]]]:
        """Adds to each batch the inputs that are not resident.

        Args:
          batches: (item ids, -1 for padding; payload).
        Yields:
          the payload, and modality → rows of the ids: uint8 [n, h, w, c] images,
          float32 [n, t] text vectors; padding rows are arbitrary.
        """
        if self.images is None:
            for ids, batch in batches:
                yield batch, self._pixels_of(ids) | self._text_of(ids)
            return
        from fhn_jax.data.pipeline import image_batches

        # The pipeline reads ahead in its own thread; the queue keeps batches in step.
        ahead = collections.deque()

        def read_ahead():
            for ids, batch in batches:
                ahead.append((ids, batch))
                yield ids

        for images in image_batches(
            *(read_ahead(), self.names, self.images, self.image_size),
            masked=self.masked,
        ):
            ids, batch = ahead.popleft()
            yield batch, {"visual": images} | self._text_of(ids)

    def _pixels_of(self, ids) -> dict[str, np.ndarray]:
        if self.pixels is None:
            return {}
        # In the order of the file, which is kinder to a disk, then back.
        wanted, where = np.unique(np.maximum(ids, 0), return_inverse=True)
        return {"visual": self.pixels.read(wanted)[where]}

    def _text_of(self, ids) -> dict[str, np.ndarray]:
        return {} if self.text is None else {"text": self.text[np.maximum(ids, 0)]}


@dataclasses.dataclass(frozen=True)
class Free:
    """Bytes that are free.

    Attributes:
      device: of the first device's memory, the host's where that is a CPU.
      disk: where the file of decoded images would be.
      is_cpu: whether the device is a CPU.
    """

    device: int
    disk: int
    is_cpu: bool


def choose_cache(
    cache: str, image_bytes: int, text_bytes: int, free: Free
) -> tuple[str, str]:
    """Where item inputs live, and why.

    | cache  | images and text                                                      |
    |--------|----------------------------------------------------------------------|
    | device | decoded, on the device, gathered inside the step                     |
    | host   | decoded once into a memory-mapped file, read batch by batch          |
    | none   | read from the store and decoded batch by batch                       |
    | auto   | device if the tables fit its free memory well, else host if the file |
    |        | fits the disk, else none                                             |

    Args:
      cache: one of `CACHES`.
      image_bytes, text_bytes: size of the tables of all items; 0 without.
      free: what is free.
    Returns:
      one of "device", "host" and "none", and a line for the user.
    Raises:
      ValueError: unknown, or "device" was asked for and the tables do not fit.
    """
    if cache not in CACHES:
        raise InputError(f"data.cache={cache!r}: expected one of {', '.join(CACHES)}")
    size = image_bytes + text_bytes
    what = f"decoded items of {_gib(size)}, {_gib(free.device)} of memory free"
    if cache == "device" and size > free.device:
        raise InputError(
            f"data.cache='device': the tables of all items take {_gib(size)}, and "
            f"{_gib(free.device)} of the device's memory are free; use "
            "--config.data.cache=host, or a smaller data.image_size"
        )
    if cache != "auto":
        return cache, f"data.cache={cache}: {what}"
    share = _AUTO_SHARE["cpu" if free.is_cpu else "accelerator"]
    if size <= share * free.device:
        return "device", f"data.cache=auto takes device: {what}"
    if not image_bytes:
        return "none", f"data.cache=auto takes none, text is streamed: {what}"
    if image_bytes <= 0.9 * free.disk:
        return "host", (
            f"data.cache=auto falls back to host, a file on disk: {what}, of which it "
            f"takes at most {share:.0%}"
        )
    return "none", (
        f"data.cache=auto falls back to none, decoding in every epoch: {what}, and "
        f"{_gib(free.disk)} of disk"
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB"
