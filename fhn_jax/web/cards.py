"""From names in requests to numbers of the codes, and back to cards in responses."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import numpy as np
from jaxtyping import Float32

from fhn_jax.codes import Codes
from fhn_jax.errors import nearest
from fhn_jax.recommender import Recommender, Suggestion
from fhn_jax.web import schemas, tiles
from fhn_jax.web.change import Judgement
from fhn_jax.web.state import KeptPhoto

API = "/api/v1"
# What a card shows of what the shop says.
_SHOWN = ("price", "currency")
# Users of the data who were visitors, see `change.name_of`, or are deleted: nobody else's.
_PRIVATE = re.compile(r"visitor-\d+-\d+|forgotten-user-\d+")


class Refused(Exception):
    """A request that is refused, with the reason.

    Attributes:
      status: HTTP status of the response.
      detail: what is wrong, and what was expected.
    """

    def __init__(self, status: HTTPStatus, detail: str):
        super().__init__(detail)
        self.status, self.detail = status, detail


class Cards:
    """Looks up what requests name, and makes cards for responses.

    Args:
      recommender: whose items and outfits are shown.
      root_path: what a proxy puts before all paths.
      pictures: version of the pictures.
    Attributes:
      image_version, tile_version: part of the addresses of pictures.
    """

    def __init__(
        self, recommender: Recommender, root_path: str = "", pictures: str = ""
    ):
        self.recommender, self._api = recommender, root_path + API
        self.image_version = recommender.codes.dataset_checksum[:8] + pictures
        self.tile_version = f"{self.image_version}.{tiles.VERSION}"

    @property
    def codes(self) -> Codes:
        """Codes of the items and known users."""
        return self.recommender.codes

    def category(self, name: str) -> int:
        """The number of a category.

        Raises:
          Refused: it is unknown.
        """
        if name not in self.codes.categories:
            raise Refused(
                HTTPStatus.NOT_FOUND,
                f"category {name[:40]!r} is unknown; expected one of "
                f"{', '.join(self.codes.categories)}"
                f"{nearest(name[:40], self.codes.categories)}",
            )
        return self.codes.categories.index(name)

    def item(self, category: int, item: int | str) -> int:
        """The number of an item.

        Args:
          item: its number, or the shop's id.
        Raises:
          Refused: it is unknown, or of another category.
        """
        if isinstance(item, str):
            found, number = self.by_id(item)
            if found != category:
                raise Refused(
                    HTTPStatus.NOT_FOUND,
                    f"{item[:80]!r} is an item of {self.codes.categories[found]}, not of "
                    f"{self.codes.categories[category]}",
                )
            return number
        count = self.codes.num_items[category]
        if not 0 <= item < count:
            raise Refused(
                HTTPStatus.NOT_FOUND,
                f"{self.codes.categories[category]} {item} is unknown; expected 0 to "
                f"{count - 1}",
            )
        return item

    def items(self, name: str, items: Sequence[int | str]) -> list[int]:
        """Numbers of items of a category; those that are numbers are not checked.

        Raises:
          Refused: an unknown category or id.
        """
        return [
            item if isinstance(item, int) else self.item(self.category(name), item)
            for item in items
        ]

    def by_id(self, own: str) -> tuple[int, int]:
        """Category and number of the item of a shop's id.

        Raises:
          Refused: there is no such item, or the catalogue is of no shop.
        """
        names = self.recommender.names
        found = names.item(own)
        if found is None:
            text = f"no item of the shop has the id {own[:80]!r}"
            if names.table is None:
                text = (
                    "this catalogue has no ids of a shop; give items by their numbers, "
                    f"not {own[:80]!r}"
                )
            raise Refused(HTTPStatus.NOT_FOUND, text)
        return found

    def user(self, user: int | str) -> int:
        """The number of a known user.

        Args:
          user: the number, or the shop's id.
        Raises:
          Refused: there is no such user.
        """
        users, count = self.recommender.names.users, self.codes.num_users
        if isinstance(user, str):
            if users is None or user not in users:
                raise Refused(
                    HTTPStatus.NOT_FOUND, f"user {user[:80]!r} is not known to the shop"
                )
            user = users.number(user)
        if user < count and users is not None and _PRIVATE.fullmatch(users[user]):
            raise Refused(HTTPStatus.NOT_FOUND, f"user {user} is not known to the shop")
        if user >= count:
            raise Refused(
                HTTPStatus.NOT_FOUND,
                f"user {user} is not known; expected 0 to {count - 1}",
            )
        return user

    def outfit(self, items: Mapping[str, int | str]) -> list[int]:
        """The items of an outfit in the order of the slots, -1 where it has none.

        Raises:
          Refused: the slots are no template, or an item is unknown.
        """
        names = self.recommender.slots
        shapes = [[names[slot] for slot in each] for each in self.codes.templates]
        if set(items) not in map(set, shapes):
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"an outfit has the slots {' or '.join(map(', '.join, shapes))}, got "
                f"{', '.join(sorted(map(str, items)))[:200] or 'none'}",
            )
        return [
            self.item(category, items[name]) if name in items else -1
            for category, name in zip(self.codes.slots, names, strict=True)
        ]

    def knows(self, items: Sequence[int]) -> bool:
        """Whether an outfit's items are all there: a later version may have had more.

        Args:
          items: of each slot, -1 for none.
        """
        counts = self.codes.num_items
        places = zip(self.codes.slots, items, strict=True)
        return all(item < counts[category] for category, item in places)

    def item_card(
        self, category: int, item: int, *, full: bool = False
    ) -> schemas.ItemCard:
        """An item to show; all that the shop says of it in full alone."""
        return schemas.ItemCard(**self._about(category, item, full))

    def said(self, category: int, item: int) -> dict[str, str | bool | int | float]:
        """What the shop says of an item now, which is what conditions go by."""
        kept = self.recommender.index.attributes
        said = self.recommender.names.attributes(category, item)
        said |= {} if kept is None else kept.of(category, item)
        return {name: value for name, value in said.items() if value is not None}

    def _about(self, category: int, item: int, full: bool = False) -> dict[str, Any]:
        """The fields of `item_card`."""
        name = self.codes.categories[category]
        base = f"{self._api}/items/{name}/{item}"
        said = self.said(category, item)
        return dict(
            category=name,
            item=item,
            id=self.recommender.names.id(category, item),
            title=self.recommender.title(category, item),
            gone=not self.recommender.names.is_available(category, item),
            attributes={k: v for k, v in said.items() if full or k in _SHOWN},
            image=f"{base}/image?v={self.image_version}",
            thumbnail=f"{base}/thumbnail?v={self.tile_version}",
        )

    def photo_card(self, photo: KeptPhoto) -> schemas.ItemCard:
        """A photo in a wardrobe to show."""
        address = f"{self._api}/wardrobe/photos/{photo.id}"
        return schemas.ItemCard(
            category=self.codes.categories[photo.category],
            item=f"w{photo.id}",
            id=None,
            title=photo.title,
            gone=False,
            attributes={},
            image=address,
            thumbnail=f"{address}?tile=1",
        )

    def outfit_card(
        self,
        suggestion: Suggestion,
        judged: Mapping[tuple[int, ...], bool] | None = None,
        photos: Mapping[int, KeptPhoto] | None = None,
    ) -> schemas.OutfitCard:
        """An outfit to show.

        Args:
          suggestion: in whose items a photo is -1 - id.
          judged: by items whether they are liked; the card tells it of this outfit.
          photos: by id.
        """
        found = (judged or {}).get(suggestion.items)
        feedback = None
        if found is not None:
            feedback = "like" if found else "dislike"
        pieces = []
        for slot, category, item in zip(
            self.recommender.slots, self.codes.slots, suggestion.items, strict=True
        ):
            if item != -1:
                about = (
                    self._about(category, item)
                    if item >= 0
                    else self.photo_card((photos or {})[~item]).model_dump()
                )
                pieces.append(schemas.Piece(slot=slot, **about))
        return schemas.OutfitCard(
            id=suggestion.outfit,
            items=pieces,
            score=suggestion.score,
            explored=suggestion.explores,
            feedback=feedback,
        )

    def judgement_card(
        self, judgement: Judgement, latents: Float32[np.ndarray, " d"]
    ) -> schemas.JudgementCard:
        """A judgement to show, with the score of the outfit for a user code.

        What only a later version has is not shown.
        """
        outfit, item = None, None
        places = [s for s, i in enumerate(judgement.items) if i >= 0]
        known = self.knows(judgement.items)
        if known and (len(places) > 1 or len(self.codes.slots) == 1):
            scores = self.recommender.scores(latents, [judgement.items])
            suggestion = Suggestion(judgement.items, scores[0])
            outfit = self.outfit_card(suggestion, {judgement.items: judgement.liked})
        elif known:
            slot = places[0]
            item = self.item_card(self.codes.slots[slot], judgement.items[slot])
        return schemas.JudgementCard(
            event=judgement.event,
            liked=judgement.liked,
            outfit=outfit,
            item=item,
            at=judgement.at,
        )
