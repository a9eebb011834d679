"""What the encoders see of each item: images or features, text; resident or streamed."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, Int32

from fhn_jax.data.images import ImageStore
from fhn_jax.data.schema import Catalogue

T = TypeVar("T")
CACHES = ("auto", "device", "none")
_AUTO_BYTES = 2**30


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
    """

    tables: dict[str, Any]
    text: Float32[np.ndarray, "n t"] | None
    images: ImageStore | None
    names: tuple[str, ...]
    image_size: int

    def stream(
        self, batches: Iterable[tuple[Int32[np.ndarray, " n"], T]]
    ) -> Iterator[tuple[T, dict[str, np.ndarray]]]:
        """Adds to each batch the inputs that are not resident.

        Args:
          batches: (item ids, -1 for padding; anything).
        Yields:
          the anything, and modality → rows of the ids: uint8 [n, h, w, 3] images,
          float32 [n, t] text vectors; padding rows are arbitrary.
        """
        if self.images is None:
            for ids, batch in batches:
                yield batch, self._text_of(ids)
            return
        from fhn_jax.data.pipeline import image_batches

        # The pipeline reads ahead in its own thread; the queue keeps batches in step.
        ahead = collections.deque()

        def read_ahead():
            for ids, batch in batches:
                ahead.append((ids, batch))
                yield ids

        for images in image_batches(
            read_ahead(), self.names, self.images, self.image_size
        ):
            ids, batch = ahead.popleft()
            yield batch, {"visual": images} | self._text_of(ids)

    def _text_of(self, ids) -> dict[str, np.ndarray]:
        return {} if self.text is None else {"text": self.text[np.maximum(ids, 0)]}


def choose_cache(
    cache: str, catalogue: Catalogue, image_size: int, text_dim: int
) -> str:
    """Where item inputs live: "device" or "none" (streamed).

    Args:
      cache: one of `CACHES`; "auto" takes the device for tables of up to 1 GiB.
    Raises:
      ValueError: unknown.
    """
    if cache not in CACHES:
        raise ValueError(f"data.cache={cache!r}: expected one of {', '.join(CACHES)}")
    if cache != "auto":
        return cache
    size = catalogue.num_items * (3 * image_size**2 + 4 * text_dim)
    return "device" if size <= _AUTO_BYTES else "none"
