"""Outfits for a visitor: recommended, composed and explained."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeGuard

from fhn_jax.errors import InputError
from fhn_jax.recommender import Suggestion
from fhn_jax.web import schemas
from fhn_jax.web.cards import Cards, Refused
from fhn_jax.web.impressions import Model
from fhn_jax.web.liking import in_words
from fhn_jax.web.rules import ANYTHING, Asked, RulesOf
from fhn_jax.web.state import KeptPhoto, State, Visitor
from fhn_jax.web.tastes import Tastes

_PHOTO = re.compile("w[0-9]{1,9}")
# Photos by the name of their category.
_Photos = Mapping[str, Sequence[KeptPhoto]]


class Outfits:
    """Recommends, composes and explains outfits.

    Args:
      cards: looks up and shows items.
      state: stores visitors.
      tastes: what was learned of visitors.
      model: what ranks outfits, for what is stored of pages.
    """

    def __init__(self, cards: Cards, state: State, tastes: Tastes, model: Model):
        self._cards, self._state, self._tastes = cards, state, tastes
        self._model = model
        self._recommender = cards.recommender
        self._rules = RulesOf(cards)

    def attributes(self) -> dict[str, schemas.Attribute]:
        """What conditions may be on."""
        return self._rules.attributes()

    def taste(self, visitor: Visitor) -> schemas.TasteInWords:
        """What a visitor likes, in words."""
        judged = self._tastes.of(visitor).judged
        groups = in_words(judged, self._cards, self.attributes())
        return schemas.TasteInWords(groups=groups)

    def recommend(
        self,
        visitor: Visitor | None,
        k: int,
        explore: float,
        page: int = 0,
        asked: Asked = ANYTHING,
    ) -> schemas.Outfits:
        """The next outfits; they stay the same until the visitor judges one.

        That a page is shown is stored when it is made: one that comes again, from what
        is remembered of the visitor, is the same impression.

        Args:
          visitor: None for somebody new.
          k: how many.
          explore: share of them that is shown to learn from.
          page: 0 for the best k, 1 for those after them, and so on.
          asked: what they must be.
        Raises:
          Refused: unknown attributes, items or categories in what is asked.
        """
        taste = self._tastes.of(visitor)
        about: dict[str, Any] = {
            "judged": taste.judged,
            "user": None if visitor is None else visitor.user,
        }

        def find() -> list[Suggestion]:
            found = self._recommender.recommend(
                taste.latents,
                k,
                explore=explore,
                seed=0 if visitor is None else visitor.id * 1_000_003 + visitor.changes,
                page=page,
                posterior=taste.posterior,
                **about,
            )
            how = {"k": k, "explore": explore, "page": page}
            self._show(visitor, "recommend", found, **how, free=asked == ANYTHING)
            return found

        key = (k, explore, page, asked, self._rules.version)
        try:
            about["rules"] = self._rules.of(asked)
            found = taste.page(key, find)
            by = None
            if not found and page == 0:
                by = self._recommender.why_empty(taste.latents, **about)
        except InputError as error:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        cards = [self._cards.outfit_card(one) for one in found]
        return schemas.Outfits(outfits=cards, emptied_by=by)

    def start(self, visitor: Visitor | None, k: int) -> schemas.Outfits:
        """Looks to pick those one likes from, the most telling first.

        Args:
          visitor: what they judged is left out; None for somebody new.
          k: how many.
        """
        looks = self._recommender.looks(k, judged=self._tastes.of(visitor).judged)
        self._show(visitor, "start", looks, k=k)
        cards = [self._cards.outfit_card(one) for one in looks]
        return schemas.Outfits(outfits=cards, emptied_by=None)

    def compose(
        self, visitor: Visitor, request: schemas.Composition
    ) -> schemas.Compositions:
        """The best outfits of any items.

        Raises:
          Refused: unknown or too many items, an empty wardrobe, or both a wardrobe and
            candidates.
        """
        photos = self._photos_of(visitor) if _may_use_photos(request) else {}
        fixed: dict[str, list[int]] = {}
        candidates = None
        if request.candidates is not None:
            candidates = {
                n: self._cards.items(n, c) for n, c in request.candidates.items()
            }
        if request.wardrobe:
            candidates = self._wardrobe_items(visitor, request, photos)
        used: _Photos = photos if request.wardrobe else {}
        for name, items in request.fixed.items():
            if _is_photo(items):
                used = {**used, name: [_photo(photos, name, int(items[1:]))]}
                # No item besides the photo.
                candidates = (candidates or {}) | {name: []}
            else:
                some = items if isinstance(items, list) else [items]
                fixed[name] = self._cards.items(name, some)
        taste = self._tastes.of(visitor)
        try:
            rules = self._rules.of_composition(request)
            if not request.include_seen:
                seen = self._recommender.seen(visitor.user, taste.judged)
                rules = dataclasses.replace(rules, filters=[*seen, *rules.filters])
            if used:
                found = self._recommender.compose_with_photos(
                    taste.latents,
                    request.k,
                    fixed=fixed,
                    candidates=candidates or {},
                    photos={
                        name: [
                            (one.id, one.photo.item(self._cards.codes)) for one in some
                        ]
                        for name, some in used.items()
                    },
                    templates=request.templates,
                    rules=rules,
                    owned=request.wardrobe,
                )
            else:
                found = self._recommender.compose(
                    taste.latents,
                    request.k,
                    fixed=fixed,
                    candidates=candidates,
                    templates=request.templates,
                    rules=rules,
                    owned=request.wardrobe,
                )
        except ValueError as error:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        self._show(visitor, "compose", found.outfits, k=request.k)
        known = taste.judged
        liked = zip(map(tuple, known.items.tolist()), known.liked.tolist(), strict=True)
        judged = dict(liked)
        titles = {one.id: one for some in photos.values() for one in some}
        return schemas.Compositions(
            outfits=[
                self._cards.outfit_card(one, judged, titles) for one in found.outfits
            ],
            greedy=found.is_greedy,
            emptied_by=found.emptied_by,
        )

    def explain(self, visitor: Visitor, request: schemas.Outfit) -> schemas.Reasons:
        """Why an outfit has its score.

        Raises:
          Refused: a slot is missing or unknown, or an item is.
        """
        items = self._cards.outfit(request.items)
        latents = self._tastes.of(visitor).latents
        reasons = self._recommender.explain(latents, items)
        slots, names = self._cards.codes.slots, self._recommender.slots
        cards = [
            schemas.ItemReason(**self._cards.item_card(c, i).model_dump(), share=share)
            for c, i, share in zip(slots, items, reasons.items, strict=True)
            if i >= 0
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

    def _show(
        self,
        visitor: Visitor | None,
        way: str,
        outfits: Sequence[Suggestion],
        **asked: int | float,
    ) -> None:
        """Stores that a page is shown; who has left no trace leaves none by that."""
        if visitor is not None and outfits:
            self._state.impressions.add(visitor, way, asked, outfits, self._model)

    def _photos_of(self, visitor: Visitor) -> dict[str, list[KeptPhoto]]:
        """Category -> photos."""
        found: dict[str, list[KeptPhoto]] = {}
        for photo in self._state.photos(visitor.id):
            name = self._cards.codes.categories[photo.category]
            found.setdefault(name, []).append(photo)
        return found

    def _wardrobe_items(
        self, visitor: Visitor, request: schemas.Composition, photos: _Photos
    ) -> dict[str, list[int]]:
        """Category -> items in the wardrobe, without photos."""
        if request.candidates is not None:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "both candidates and the wardrobe are given, expected one",
            )
        found: dict[str, list[int]] = {}
        for category, item in self._state.wardrobe(visitor.id):
            if item >= self._cards.codes.num_items[category]:
                continue
            found.setdefault(self._cards.codes.categories[category], []).append(item)
        if not found and not photos:
            raise Refused(
                HTTPStatus.CONFLICT, "the wardrobe is empty; put items into it"
            )
        return found


def _may_use_photos(request: schemas.Composition) -> bool:
    return request.wardrobe or any(map(_is_photo, request.fixed.values()))


def _is_photo(items: object) -> TypeGuard[str]:
    """Whether what is fixed names a photo of the visitor's."""
    return isinstance(items, str) and _PHOTO.fullmatch(items) is not None


def _photo(photos: _Photos, name: str, number: int) -> KeptPhoto:
    for photo in photos.get(name, ()):
        if photo.id == number:
            return photo
    raise Refused(
        HTTPStatus.NOT_FOUND, f"{name[:40]} w{number} is not in your wardrobe"
    )


def _sentence(
    cards: Sequence[schemas.ItemReason],
    pairs: Sequence[tuple[int, int, float]],
    names: Sequence[str],
) -> str:
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
