"""What the API and the page do for a visitor: the recommender over the state."""

import dataclasses
import functools
import io
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus

from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from fhn_jax.codes import Codes
from fhn_jax.data.images import ImageStore, thumbnail
from fhn_jax.recommender import Recommender, Suggestion
from fhn_jax.web import schemas
from fhn_jax.web.photos import PhotoEncoder
from fhn_jax.web.state import Judgement, KeptPhoto, State, Visitor

API = "/api/v1"
THUMBNAIL_PX = 320
# More than a person does in a year of evenings; less than fills a disk.
MOST_JUDGEMENTS = 5000
MOST_IN_WARDROBE = 200
# Each way to combine photos is searched by itself.
MOST_PHOTOS = 12
_THUMBNAIL_BYTES = 64 * 2**20
_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


class Refused(Exception):
    """A request that cannot be answered, with what to say about it.

    Attributes:
      status: of HTTP.
      detail: what is wrong, and what was expected.
    """

    def __init__(self, status: HTTPStatus, detail: str):
        super().__init__(detail)
        self.status, self.detail = status, detail


class Service:
    """What visitors can do.

    Args:
      recommender: finds outfits.
      state: remembers visitors.
      images: of the items, where there are any.
      encoder: of photos; without it none can be uploaded.
      outfits: how many are stored.
      known_users: whether anybody may open a known user.
    """

    def __init__(
        self,
        recommender: Recommender,
        state: State,
        images: ImageStore | None,
        encoder: PhotoEncoder | None = None,
        *,
        outfits: int,
        known_users: bool = True,
    ):
        self.recommender, self.state, self._images = recommender, state, images
        self._num_outfits, self.known_users = outfits, known_users
        self._encoder = encoder
        self._version = recommender.codes.dataset_checksum[:8]
        self._thumbnails = _Bounded(_THUMBNAIL_BYTES)

    @property
    def codes(self) -> Codes:
        """Of the items and known users."""
        return self.recommender.codes

    # --- visitors ---------------------------------------------------------------------

    def catalogue(self) -> schemas.Catalogue:
        """What there is."""
        codes = self.codes
        return schemas.Catalogue(
            dataset=codes.dataset,
            slots=list(self.recommender.slots),
            categories=dict(zip(codes.categories, codes.num_items, strict=True)),
            outfits=self._num_outfits,
            bits=codes.bits,
            users=codes.num_users if self.known_users else 0,
            photos=self._encoder is not None,
        )

    def close(self) -> None:
        """Ends what runs beside."""
        self.state.close()
        if self._encoder is not None:
            self._encoder.close()

    def new_visitor(self, user: int | None) -> str:
        """Makes a visitor; returns the token.

        Raises:
          Refused: no such known user, or none may be opened.
        """
        if user is not None and not self.known_users:
            raise Refused(
                HTTPStatus.FORBIDDEN, "known users cannot be opened on this server"
            )
        try:
            latents = self.recommender.start(user)
        except ValueError as error:
            raise Refused(HTTPStatus.NOT_FOUND, str(error)) from None
        return self.state.create(user, latents)

    def visitor(self, token: str) -> Visitor:
        """The visitor of a token.

        Raises:
          Refused: there is none.
        """
        visitor = self.state.visitor(token) if token else None
        if visitor is None:
            raise Refused(
                HTTPStatus.UNAUTHORIZED,
                f"no visitor is known by this token; make one with POST {API}/visitors",
            )
        return visitor

    def about(self, visitor: Visitor) -> schemas.Visitor:
        """What the visitor may know of themselves."""
        counts = _counts(self.state.judgements(visitor.id))
        return schemas.Visitor(
            user=visitor.user,
            **counts.model_dump(),
            bits=self.recommender.bits(visitor.latents),
            created=visitor.created,
        )

    def history(self, visitor: Visitor, limit: int) -> schemas.History:
        """The newest judgements."""
        judged = self.state.judgements(visitor.id)[:limit]
        cards = [self._judgement_card(one, visitor) for one in judged]
        return schemas.History(feedback=cards)

    # --- outfits ----------------------------------------------------------------------

    def recommend(
        self, visitor: Visitor | None, k: int, explore: float, page: int = 0
    ) -> schemas.Outfits:
        """The next outfits; the same again as long as nothing is judged.

        Args:
          visitor: None for somebody of whom nothing is known.
          k: how many.
          explore: share of them to learn from.
          page: 0 for the best k, 1 for those after them, and so on.
        """
        if visitor is None:
            latents, judged, seed = self.recommender.start(None), [], 0
        else:
            latents, judged = visitor.latents, self.state.judgements(visitor.id)
            seed = visitor.id * 1_000_003 + visitor.changes
        found = self.recommender.recommend(
            latents, k, judged=judged, explore=explore, seed=seed, page=page
        )
        return schemas.Outfits(outfits=[self._outfit_card(one) for one in found])

    def lead(self, visitor: Visitor | None) -> str:
        """What to say above the outfits."""
        if visitor is None:
            return "Like what you would wear, pass on the rest. Each click teaches."
        counts = _counts(self.state.judgements(visitor.id))
        if visitor.user is not None and not counts.likes + counts.dislikes:
            return f"What person {visitor.user} of the data would be shown."
        if not counts.likes + counts.dislikes:
            return "Like what you would wear, pass on the rest. Each click teaches."
        return f"Learned from {counts.likes} liked and {counts.dislikes} passed."

    def judge(self, visitor: Visitor, request: schemas.Judgement) -> schemas.Judged:
        """Takes a like or dislike and learns from it.

        Raises:
          Refused: neither or both of an outfit and an item, unknown ones, or too many
            judgements.
        """
        if (request.items is None) == (request.item is None):
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "give either items, an outfit, or item, one item",
            )
        if request.items is not None:
            items = self.outfit(request.items)
        else:
            category = self.category(request.item.category)
            items = [-1] * len(self.codes.slots)
            items[self.codes.slots.index(category)] = self.item(
                category, request.item.item
            )
        with self.state.changing(visitor.id) as change:
            if change.count() >= MOST_JUDGEMENTS:
                raise Refused(
                    HTTPStatus.CONFLICT,
                    f"{MOST_JUDGEMENTS:,} judgements are kept of a visitor and no "
                    "more; reset, or undo some",
                )
            event = change.judge(items, request.liked)
            judged = self._learn(change)
        return schemas.Judged(event=event, **_counts(judged).model_dump())

    def undo(self, visitor: Visitor) -> schemas.Undone:
        """Takes the last judgement back."""
        with self.state.changing(visitor.id) as change:
            undone = change.undo()
            judged = self._learn(change) if undone else change.judgements()
        card = None if undone is None else self._judgement_card(undone, visitor)
        return schemas.Undone(undone=card, **_counts(judged).model_dump())

    def reset(self, visitor: Visitor) -> schemas.Counts:
        """Takes all judgements back."""
        with self.state.changing(visitor.id) as change:
            change.reset()
            self._learn(change)
        return schemas.Counts(likes=0, dislikes=0)

    def _learn(self, change) -> list[Judgement]:
        judged = change.judgements()
        change.learned(self.recommender.learn(change.visitor.user, judged))
        return judged

    def compose(
        self, visitor: Visitor, request: schemas.Composition
    ) -> schemas.Compositions:
        """Outfits of any items.

        Raises:
          Refused: unknown or too many items, an empty wardrobe, or both a wardrobe and
            candidates.
        """
        photos = self._photos_of(visitor) if self._may_have_photos(request) else {}
        fixed: dict[str, list[int]] = {}
        candidates = None if request.candidates is None else dict(request.candidates)
        if request.wardrobe:
            candidates = self._worn(visitor, request, photos)
        worn = photos if request.wardrobe else {}
        for name, items in request.fixed.items():
            if isinstance(items, str):
                worn = worn | {name: [self._photo(photos, name, int(items[1:]))]}
                # Nothing but the photo.
                candidates = (candidates or {}) | {name: []}
            else:
                fixed[name] = [items] if isinstance(items, int) else items
        try:
            if worn:
                outfits = self.recommender.compose_with_photos(
                    visitor.latents,
                    request.k,
                    fixed=fixed,
                    candidates=candidates or {},
                    photos={
                        name: [(one.id, one.photo.guest(self.codes)) for one in some]
                        for name, some in worn.items()
                    },
                    diversity=request.diversity,
                )
                greedy = request.diversity is not None
            else:
                outfits, greedy = self.recommender.compose(
                    visitor.latents,
                    request.k,
                    fixed=fixed,
                    candidates=candidates,
                    diversity=request.diversity,
                )
        except ValueError as error:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        judged = {one.items: one for one in self.state.judgements(visitor.id)}
        titles = {one.id: one for some in photos.values() for one in some}
        return schemas.Compositions(
            outfits=[self._outfit_card(one, judged, titles) for one in outfits],
            greedy=greedy,
        )

    def _may_have_photos(self, request: schemas.Composition) -> bool:
        named = any(isinstance(items, str) for items in request.fixed.values())
        return request.wardrobe or named

    def _photos_of(self, visitor: Visitor) -> dict[str, list[KeptPhoto]]:
        """Category -> photos."""
        found: dict[str, list[KeptPhoto]] = {}
        for photo in self.state.photos(visitor.id):
            name = self.codes.categories[photo.category]
            found.setdefault(name, []).append(photo)
        return found

    def _photo(self, photos, name: str, number: int) -> KeptPhoto:
        for photo in photos.get(name, ()):
            if photo.id == number:
                return photo
        raise Refused(
            HTTPStatus.NOT_FOUND, f"{name[:40]} w{number} is not in your wardrobe"
        )

    def _worn(self, visitor: Visitor, request, photos) -> dict[str, list[int]]:
        """The items of a wardrobe by category."""
        if request.candidates is not None:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "both candidates and the wardrobe are given, expected one",
            )
        found: dict[str, list[int]] = {}
        for category, item in self.state.wardrobe(visitor.id):
            found.setdefault(self.codes.categories[category], []).append(item)
        if not found and not photos:
            raise Refused(
                HTTPStatus.CONFLICT, "the wardrobe is empty; put items into it"
            )
        return found

    def explain(self, visitor: Visitor, request: schemas.Outfit) -> schemas.Reasons:
        """Why an outfit has its score.

        Raises:
          Refused: not an outfit of known items.
        """
        items = self.outfit(request.items)
        reasons = self.recommender.explain(visitor.latents, items)
        slots, names = self.codes.slots, self.recommender.slots
        cards = [
            schemas.ItemReason(**self.card(c, i).model_dump(), share=share)
            for c, i, share in zip(slots, items, reasons.items, strict=True)
        ]
        return schemas.Reasons(
            score=reasons.score,
            user_term=sum(reasons.items),
            item_term=sum(value for *_, value in reasons.pairs),
            items=cards,
            pairs=[
                schemas.PairReason(a=names[j], b=names[k], share=value)
                for j, k, value in reasons.pairs
            ],
            sentence=_sentence(cards, reasons.pairs, names),
        )

    # --- items ------------------------------------------------------------------------

    def items(self, name: str, offset: int, limit: int, query: str) -> schemas.Items:
        """Items of a category whose titles contain all words of the query.

        Raises:
          Refused: no such category.
        """
        category = self.category(name)
        ids: Sequence[int] = range(self.codes.num_items[category])
        words = query.lower().split()
        if words:
            titles = self._titles[category]
            ids = [i for i in ids if all(word in titles[i] for word in words)]
        page = ids[offset : offset + limit]
        return schemas.Items(
            items=[self.card(category, item) for item in page], total=len(ids)
        )

    @functools.cached_property
    def _titles(self) -> list[list[str]]:
        """By category and item, in small letters."""
        return [
            [self.recommender.title(category, item).lower() for item in range(count)]
            for category, count in enumerate(self.codes.num_items)
        ]

    def similar(self, name: str, item: int, k: int) -> schemas.SimilarItems:
        """Items like one.

        Raises:
          Refused: no such item.
        """
        category = self.category(name)
        found = self.recommender.similar(category, self.item(category, item), k)
        return schemas.SimilarItems(
            items=[
                schemas.SimilarItem(
                    **self.card(category, other).model_dump(), similarity=share
                )
                for other, share in found
            ]
        )

    def wardrobe(self, visitor: Visitor) -> schemas.Wardrobe:
        """The items that the visitor put into the wardrobe."""
        photos = self.state.photos(visitor.id)
        items = [self.card(*key) for key in self.state.wardrobe(visitor.id)]
        return schemas.Wardrobe(
            items=[*map(self._photo_card, photos), *items],
            photos=self._encoder is not None,
            limit=MOST_IN_WARDROBE,
        )

    def add_photo(
        self, visitor: Visitor, name: str, title: str, data: bytes
    ) -> schemas.ItemCard:
        """Encodes a photo and puts it into the wardrobe.

        Raises:
          Refused: no encoder, no such category, no such image, or too many photos.
        """
        if self._encoder is None:
            raise Refused(
                HTTPStatus.NOT_FOUND, "photos cannot be used here: there is no encoder"
            )
        category = self.category(name)
        if len(self.state.photos(visitor.id)) >= MOST_PHOTOS:
            raise self._too_many_photos()
        try:
            photo = self._encoder.encode(data, category)
        except ValueError as error:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        except TimeoutError as error:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
        title = " ".join(title.split())[:60] or f"My {name}"
        with self.state.changing(visitor.id) as change:
            number = change.keep(category, title, photo, most=MOST_PHOTOS)
        if number is None:
            raise self._too_many_photos()
        return self._photo_card(KeptPhoto(number, category, title, photo))

    def _too_many_photos(self) -> Refused:
        return Refused(
            HTTPStatus.CONFLICT,
            f"the wardrobe holds {MOST_PHOTOS} photos and no more; delete one",
        )

    def picture(self, visitor: Visitor, number: int) -> bytes:
        """The JPEG of a visitor's photo.

        Raises:
          Refused: the visitor has no such photo.
        """
        for photo in self.state.photos(visitor.id):
            if photo.id == number:
                return photo.photo.picture
        raise Refused(HTTPStatus.NOT_FOUND, f"photo {number} is not in your wardrobe")

    def drop_photo(self, visitor: Visitor, number: int) -> None:
        """Deletes a photo.

        Raises:
          Refused: the visitor has no such photo.
        """
        with self.state.changing(visitor.id) as change:
            if not change.drop(number):
                raise Refused(
                    HTTPStatus.NOT_FOUND, f"photo {number} is not in your wardrobe"
                )

    def wear(self, visitor: Visitor, name: str, item: int) -> None:
        """Puts an item into the wardrobe.

        Raises:
          Refused: no such item, or the wardrobe is full.
        """
        category = self.category(name)
        self.item(category, item)
        with self.state.changing(visitor.id) as change:
            if not change.wear(category, item, most=MOST_IN_WARDROBE):
                raise Refused(
                    HTTPStatus.CONFLICT,
                    f"the wardrobe is full: it holds {MOST_IN_WARDROBE} items; take "
                    "some out",
                )

    def take_off(self, visitor: Visitor, name: str, item: int) -> None:
        """Takes an item out of the wardrobe.

        Raises:
          Refused: it is not in it.
        """
        category = self.category(name)
        with self.state.changing(visitor.id) as change:
            if not change.take_off(category, item):
                raise Refused(
                    HTTPStatus.NOT_FOUND, f"{name} {item} is not in the wardrobe"
                )

    def image(self, name: str, item: int) -> tuple[bytes, str]:
        """The picture of an item and its media type.

        Raises:
          Refused: no such item, or it has no picture.
        """
        data = self._image(self.category(name), item)
        with Image.open(io.BytesIO(data), formats=tuple(_TYPES)) as image:
            return data, _TYPES[image.format]

    def thumbnail(self, name: str, item: int) -> tuple[bytes, str]:
        """A small picture of an item and its media type; raises as `image`."""
        category = self.category(name)
        made = self._thumbnails.get((category, item))
        if made is None:
            self._image(category, item)
            picture = io.BytesIO()
            image = self.codes.names[category][item]
            small = thumbnail(self._images, image, THUMBNAIL_PX)
            small.save(picture, "JPEG", quality=85)
            made = picture.getvalue()
            self._thumbnails.put((category, item), made)
        return made, _TYPES["JPEG"]

    def check(self) -> None:
        """Raises `Refused` unless the database answers."""
        try:
            self.state.check()
        except SQLAlchemyError:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer"
            ) from None

    def _image(self, category: int, item: int) -> bytes:
        self.item(category, item)
        if self._images is None or self.codes.names is None:
            raise Refused(HTTPStatus.NOT_FOUND, "this data set has no pictures")
        try:
            return self._images.read([self.codes.names[category][item]])[0]
        except KeyError:
            raise Refused(
                HTTPStatus.NOT_FOUND, "there is no picture of this item"
            ) from None

    # --- what requests name -----------------------------------------------------------

    def category(self, name: str) -> int:
        """The number of a category.

        Raises:
          Refused: there is no such category.
        """
        if name not in self.codes.categories:
            raise Refused(
                HTTPStatus.NOT_FOUND,
                f"category {name[:40]!r} is unknown; expected one of "
                f"{', '.join(self.codes.categories)}",
            )
        return self.codes.categories.index(name)

    def item(self, category: int, item: int) -> int:
        """The item itself.

        Raises:
          Refused: there is no such item.
        """
        count = self.codes.num_items[category]
        if not 0 <= item < count:
            raise Refused(
                HTTPStatus.NOT_FOUND,
                f"{self.codes.categories[category]} {item} is unknown; expected 0 to "
                f"{count - 1}",
            )
        return item

    def outfit(self, items: Mapping[str, int]) -> list[int]:
        """An outfit in the order of the slots.

        Raises:
          Refused: a slot is missing or unknown, or an item is.
        """
        names = self.recommender.slots
        if set(items) != set(names):
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"an outfit has the slots {', '.join(names)}, got "
                f"{', '.join(sorted(map(str, items)))[:200] or 'none'}",
            )
        return [
            self.item(category, items[name])
            for category, name in zip(self.codes.slots, names, strict=True)
        ]

    def card(self, category: int, item: int) -> schemas.ItemCard:
        """An item to show."""
        name = self.codes.categories[category]
        base = f"{API}/items/{name}/{item}"
        return schemas.ItemCard(
            category=name,
            item=item,
            title=self.recommender.title(category, item),
            image=f"{base}/image?v={self._version}",
            thumbnail=f"{base}/thumbnail?v={self._version}",
        )

    def _photo_card(self, photo: KeptPhoto) -> schemas.ItemCard:
        address = f"{API}/wardrobe/photos/{photo.id}"
        return schemas.ItemCard(
            category=self.codes.categories[photo.category],
            item=f"w{photo.id}",
            title=photo.title,
            image=address,
            thumbnail=address,
        )

    def _outfit_card(
        self,
        suggestion: Suggestion,
        judged: Mapping[tuple[int, ...], Judgement] | None = None,
        photos: Mapping[int, KeptPhoto] | None = None,
    ) -> schemas.OutfitCard:
        found = (judged or {}).get(suggestion.items)
        return schemas.OutfitCard(
            id=suggestion.outfit,
            items=[
                self.card(category, item)
                if item >= 0
                else self._photo_card((photos or {})[-item])
                for category, item in zip(
                    self.codes.slots, suggestion.items, strict=True
                )
            ],
            score=suggestion.score,
            explored=suggestion.explores,
            feedback=None if found is None else _word(found.liked),
        )

    def _judgement_card(
        self, judgement: Judgement, visitor: Visitor
    ) -> schemas.JudgementCard:
        outfit, item = None, None
        places = [s for s, i in enumerate(judgement.items) if i >= 0]
        if len(places) == len(self.codes.slots):
            scores = self.recommender.scores(visitor.latents, [judgement.items])
            suggestion = Suggestion(judgement.items, scores[0])
            outfit = self._outfit_card(suggestion, {judgement.items: judgement})
        else:
            slot = places[0]
            item = self.card(self.codes.slots[slot], judgement.items[slot])
        return schemas.JudgementCard(
            event=judgement.event,
            liked=judgement.liked,
            outfit=outfit,
            item=item,
            at=judgement.at,
        )


def _word(liked: bool) -> str:
    return "like" if liked else "dislike"


def _counts(judged: Iterable[Judgement]) -> schemas.Counts:
    liked = [one.liked for one in judged]
    return schemas.Counts(likes=sum(liked), dislikes=len(liked) - sum(liked))


def _sentence(cards, pairs, names) -> str:
    """The reasons in words."""
    best = max(cards, key=lambda card: card.share)
    worst = min(cards, key=lambda card: card.share)
    if best.share <= 0:
        text = "None of these pieces is quite your taste"
    elif worst.share >= 0:
        text = f"All pieces are your taste, above all “{best.title}”"
    else:
        text = f"“{best.title}” is your taste, “{worst.title}” less so"
    if pairs:
        j, k, value = max(pairs, key=lambda pair: pair[2])
        if value > 0:
            text += f"; {names[j]} and {names[k]} go together best"
        else:
            text += "; the pieces do not go together well"
    return text + "."


@dataclasses.dataclass
class _Bounded:
    """Bytes by key; the least recently used go when there are too many.

    Args:
      most: bytes to hold.
    """

    most: int
    _held: int = 0

    def __post_init__(self):
        self._values: OrderedDict = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key) -> bytes | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key, value: bytes) -> None:
        with self._lock:
            old = self._values.pop(key, b"")
            self._values[key] = value
            self._held += len(value) - len(old)
            while self._held > self.most:
                _, gone = self._values.popitem(last=False)
                self._held -= len(gone)
