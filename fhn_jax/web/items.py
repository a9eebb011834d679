"""Items of the catalogue: search by title, similar items, pictures."""

import functools
import io
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from http import HTTPStatus

from PIL import Image

from fhn_jax.data.images import ImageStore
from fhn_jax.data.pictures import decode
from fhn_jax.errors import MissingFileError, UnavailableError
from fhn_jax.web import schemas
from fhn_jax.web.cards import Cards, Refused
from fhn_jax.web.tiles import tile

_CACHE_BYTES = 64 * 2**20
_log = logging.getLogger("fhn_jax.web")
_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


class Items:
    """Finds and shows items.

    Args:
      cards: looks up and shows items.
      images: of the items, if there are any.
    Attributes:
      image_version, tile_version: see `Cards`.
    """

    def __init__(self, cards: Cards, images: ImageStore | None):
        self._cards, self._images = cards, images
        self._recommender = cards.recommender
        self.image_version, self.tile_version = cards.image_version, cards.tile_version
        self._thumbnails = ByteCache(_CACHE_BYTES)

    def search(self, name: str, offset: int, limit: int, query: str) -> schemas.Items:
        """Items of a category whose titles, or the shop's ids, contain all words.

        Raises:
          Refused: no such category.
        """
        category = self._cards.category(name)
        ids: Sequence[int] = range(self._cards.codes.num_items[category])
        words = query.lower().split()
        if words:
            titles = self._titles[category]
            ids = [i for i in ids if all(word in titles[i] for word in words)]
        page = ids[offset : offset + limit]
        return schemas.Items(
            items=[self._cards.item_card(category, item) for item in page],
            total=len(ids),
        )

    def by_id(self, own: str) -> schemas.ItemCard:
        """The item of a shop's id.

        Raises:
          Refused: no such item.
        """
        return self._cards.item_card(*self._cards.by_id(own), full=True)

    def one(self, name: str, item: int) -> schemas.ItemCard:
        """The item of a number, with all that the shop says of it.

        Raises:
          Refused: no such item.
        """
        category = self._cards.category(name)
        number = self._cards.item(category, item)
        return self._cards.item_card(category, number, full=True)

    def similar(self, name: str, item: int, k: int) -> schemas.SimilarItems:
        """Items like one.

        Raises:
          Refused: no such item.
        """
        category = self._cards.category(name)
        found = self._recommender.similar(category, self._cards.item(category, item), k)
        return schemas.SimilarItems(
            items=[
                schemas.SimilarItem(
                    **self._cards.item_card(category, other).model_dump(),
                    similarity=share,
                )
                for other, share in found
            ]
        )

    def image(self, name: str, item: int) -> tuple[bytes, str]:
        """The picture of an item and its media type.

        Raises:
          Refused: no such item, or it has no picture.
        """
        data = _read(*self._name(self._cards.category(name), item))
        with Image.open(io.BytesIO(data), formats=tuple(_TYPES)) as image:
            return data, _TYPES[image.format or ""]

    def thumbnail(self, name: str, item: int) -> tuple[bytes, str]:
        """The tile of an item, and its media type; raises as `image`."""
        category = self._cards.category(name)
        made = self._thumbnails.get((category, item))
        if made is None:
            images, name = self._name(category, item)
            made = tile(decode(_read(images, name), name))
            self._thumbnails.put((category, item), made)
        return made, _TYPES["JPEG"]

    @functools.cached_property
    def _titles(self) -> list[list[str]]:
        """By category and item what is searched, in lower case."""
        title, own = self._recommender.title, self._recommender.names.id
        return [
            [
                f"{title(category, item)} {own(category, item) or ''}".lower()
                for item in range(count)
            ]
            for category, count in enumerate(self._cards.codes.num_items)
        ]

    def _name(self, category: int, item: int) -> tuple[ImageStore, str]:
        """The image store, and the name of an item's picture in it."""
        self._cards.item(category, item)
        names = self._cards.codes.names
        if self._images is None or names is None:
            raise Refused(HTTPStatus.NOT_FOUND, "this data set has no pictures")
        return self._images, names[category][item]


class ByteCache:
    """Bytes by key; the least recently used are dropped when there are too many.

    Args:
      most: bytes to hold.
    """

    def __init__(self, most: int):
        self._most, self._bytes = most, 0
        self._values: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> bytes | None:
        """The value of a key, None without one."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: tuple[int, int], value: bytes) -> None:
        """Adds or replaces a value."""
        with self._lock:
            old = self._values.pop(key, b"")
            self._values[key] = value
            self._bytes += len(value) - len(old)
            while self._bytes > self._most:
                _, dropped = self._values.popitem(last=False)
                self._bytes -= len(dropped)


def _read(images: ImageStore, name: str) -> bytes:
    try:
        return images.read([name])[0]
    except KeyError:
        raise Refused(
            HTTPStatus.NOT_FOUND, "there is no picture of this item"
        ) from None
    except MissingFileError as error:
        _log.error("%s", error)
        raise UnavailableError("the pictures are not there now") from None
