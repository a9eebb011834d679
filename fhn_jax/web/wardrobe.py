"""A visitor's wardrobe: items of the catalogue and photos of their own."""

from http import HTTPStatus

from fhn_jax.data.pictures import decode
from fhn_jax.web import schemas
from fhn_jax.web.cards import Cards, Refused
from fhn_jax.web.photos import PhotoEncoder
from fhn_jax.web.state import KeptPhoto, State, Visitor
from fhn_jax.web.tiles import tile

MOST_IN_WARDROBE = 200
# Each way to combine photos is searched by itself.
MOST_PHOTOS = 12
# Of their pictures together: 12 of 160 KiB, where a usual one has 30.
MOST_PHOTO_BYTES = 2 * 2**20


class Wardrobe:
    """Adds, shows and removes items and photos.

    Args:
      cards: looks up and shows items.
      state: stores visitors.
      encoder: of photos; without it none can be uploaded.
    """

    def __init__(self, cards: Cards, state: State, encoder: PhotoEncoder | None):
        self._cards, self._state, self._encoder = cards, state, encoder

    @property
    def takes_photos(self) -> bool:
        """Whether photos can be uploaded."""
        return self._encoder is not None

    def is_up(self) -> bool:
        """Whether photos can be encoded now, where they can be uploaded at all."""
        return self._encoder is None or self._encoder.is_up()

    def close(self) -> None:
        """Stops the encoder."""
        if self._encoder is not None:
            self._encoder.close()

    def show(self, visitor: Visitor) -> schemas.Wardrobe:
        """All photos, then all items."""
        photos = self._state.photos(visitor.id)
        counts = self._cards.codes.num_items
        items = [
            self._cards.item_card(category, item)
            for category, item in self._state.wardrobe(visitor.id)
            if item < counts[category]
        ]
        return schemas.Wardrobe(
            items=[*map(self._cards.photo_card, photos), *items],
            photos=self.takes_photos,
            limit=MOST_IN_WARDROBE,
        )

    def add(self, visitor: Visitor, name: str, item: int) -> None:
        """Puts an item into the wardrobe.

        Raises:
          Refused: no such item, or the wardrobe is full.
        """
        category = self._cards.category(name)
        self._cards.item(category, item)
        with self._state.changing(visitor.id) as change:
            if not change.add_item(category, item, most=MOST_IN_WARDROBE):
                raise Refused(
                    HTTPStatus.CONFLICT,
                    f"the wardrobe is full: it holds {MOST_IN_WARDROBE} items; take "
                    "some out",
                )

    def remove(self, visitor: Visitor, name: str, item: int) -> None:
        """Takes an item out of the wardrobe.

        Raises:
          Refused: it is not there.
        """
        category = self._cards.category(name)
        with self._state.changing(visitor.id) as change:
            if not change.remove_item(category, item):
                raise Refused(
                    HTTPStatus.NOT_FOUND, f"{name} {item} is not in the wardrobe"
                )

    def add_photo(
        self, visitor: Visitor, name: str, title: str, data: bytes
    ) -> schemas.ItemCard:
        """Encodes a photo and puts it into the wardrobe.

        Raises:
          Refused: no encoder, no such category, no such image, or too many photos.
          UnavailableError: as `PhotoEncoder.encode`.
        """
        if self._encoder is None:
            raise Refused(
                HTTPStatus.NOT_FOUND, "photos cannot be used here: there is no encoder"
            )
        category = self._cards.category(name)
        if len(self._state.photos(visitor.id)) >= MOST_PHOTOS:
            raise _too_many_photos()
        try:
            photo = self._encoder.encode(data, category)
        except ValueError as error:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        title = _printable(title)[:60] or f"My {name}"
        with self._state.changing(visitor.id) as change:
            number = change.add_photo(
                category,
                title,
                photo,
                most=MOST_PHOTOS,
                most_bytes=MOST_PHOTO_BYTES,
            )
        if number is None:
            raise _too_many_photos()
        return self._cards.photo_card(KeptPhoto(number, category, title, photo))

    def photo(self, visitor: Visitor, number: int, *, as_tile: bool = False) -> bytes:
        """The JPEG of a visitor's photo, as it is kept or as a tile.

        Raises:
          Refused: the visitor has no such photo.
        """
        for photo in self._state.photos(visitor.id):
            if photo.id == number:
                picture = photo.photo.picture
                return tile(decode(picture, photo.title)) if as_tile else picture
        raise Refused(HTTPStatus.NOT_FOUND, f"photo {number} is not in your wardrobe")

    def remove_photo(self, visitor: Visitor, number: int) -> None:
        """Deletes a photo.

        Raises:
          Refused: the visitor has no such photo.
        """
        with self._state.changing(visitor.id) as change:
            if not change.remove_photo(number):
                raise Refused(
                    HTTPStatus.NOT_FOUND, f"photo {number} is not in your wardrobe"
                )


def _printable(text: str) -> str:
    """Without what a database or a page cannot hold: NUL, lone surrogates, controls."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def _too_many_photos() -> Refused:
    return Refused(
        HTTPStatus.CONFLICT,
        f"the wardrobe holds {MOST_PHOTOS} photos and {MOST_PHOTO_BYTES / 2**20:g} MiB "
        "of them and no more; delete one",
    )
