"""Visitors: who they are, what they judge, and what is learned from it."""

import base64
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from fhn_jax.web import schemas
from fhn_jax.web.cards import API, Cards, Refused
from fhn_jax.web.change import Change, KeyReused
from fhn_jax.web.state import State, Visitor
from fhn_jax.web.tastes import Tastes

# More than a person does in a year of evenings; less than fills a disk.
MOST_JUDGEMENTS = 5000
_Answer = TypeVar("_Answer", bound=schemas.Counts)
_WELCOME = "Pick three looks you like, and pass on what you would not wear. Each click teaches."


class Visitors:
    """Makes, finds and describes visitors, and keeps their judgements.

    Args:
      cards: looks up and shows items.
      state: stores visitors.
      tastes: what was learned of visitors.
      known_users: whether anybody may open a known user.
    """

    def __init__(
        self, cards: Cards, state: State, tastes: Tastes, *, known_users: bool
    ):
        self._cards, self._state, self._tastes = cards, state, tastes
        self._recommender, self.known_users = cards.recommender, known_users

    def create(self, user: int | str | None) -> str:
        """Adds a visitor and returns the token.

        Raises:
          Refused: an unknown user, or none may be opened.
        """
        if user is not None and not self.known_users:
            raise Refused(
                HTTPStatus.FORBIDDEN, "known users cannot be opened on this server"
            )
        return self._state.create(None if user is None else self._cards.user(user))

    def find(self, token: str) -> Visitor:
        """The visitor of a token.

        Raises:
          Refused: the token is unknown.
        """
        visitor = self._state.visitor(token) if token else None
        if visitor is None:
            raise Refused(
                HTTPStatus.UNAUTHORIZED,
                f"no visitor is known by this token; make one with POST {API}/visitors",
            )
        return visitor

    def about(self, visitor: Visitor) -> schemas.Visitor:
        """What the visitor is shown about themselves."""
        taste = self._tastes.of(visitor)
        return schemas.Visitor(
            user=visitor.user,
            user_id=self._user_id(visitor.user),
            likes=taste.likes,
            dislikes=taste.dislikes,
            bits=self._recommender.bits(taste.latents),
            created=visitor.created,
        )

    def _user_id(self, user: int | None) -> str | None:
        users = self._recommender.names.users
        return None if user is None or users is None else users[user]

    def is_new(self, visitor: Visitor | None) -> bool:
        """Whether nothing is known of somebody; None for one without a trace."""
        if visitor is None:
            return True
        return visitor.user is None and not len(self._tastes.of(visitor).judged)

    def lead(self, visitor: Visitor | None) -> str:
        """The line above the outfits; `visitor` is None for somebody new."""
        taste = self._tastes.of(visitor)
        if len(taste.judged):
            return f"Learned from {taste.likes} liked and {taste.dislikes} passed."
        if visitor is not None and visitor.user is not None:
            name = self._user_id(visitor.user) or visitor.user
            return f"What person {name} of the data would be shown."
        return _WELCOME

    def history(self, visitor: Visitor, limit: int) -> schemas.History:
        """The newest judgements."""
        latents = self._tastes.of(visitor).latents
        all_ = self._state.judgements(visitor.id)
        judged = [one for one in all_ if self._cards.knows(one.items)][:limit]
        cards = [self._cards.judgement_card(one, latents) for one in judged]
        return schemas.History(feedback=cards)

    def judge(
        self, visitor: Visitor, request: schemas.Judgement, key: str | None = None
    ) -> tuple[schemas.Judged, bool]:
        """Stores a like or dislike.

        Args:
          key: of a request that may come again; that is then answered as it was first.
        Returns:
          the answer, and False if it came before.
        Raises:
          Refused: neither or both of an outfit and an item, unknown ones, too many
            judgements, or a key of another request.
        """
        with self._state.changing(visitor.id) as change:

            def answer() -> schemas.Judged:
                # A later version may have had items that a repeated request names.
                items = self._judged_items(request)
                event = change.judge(items, request.liked)
                if change.count() > MOST_JUDGEMENTS:
                    raise Refused(
                        HTTPStatus.CONFLICT,
                        f"{MOST_JUDGEMENTS:,} judgements are kept of a visitor and no "
                        "more; reset, or undo some",
                    )
                return schemas.Judged(event=event, **self._counts(change))

            # Whatever the order in which the client wrote it.
            asked = json.dumps(request.model_dump(), sort_keys=True)
            return _once(change, key, asked, schemas.Judged, answer)

    def undo(self, visitor: Visitor, key: str | None = None) -> schemas.Undone:
        """Takes the last judgement back.

        Args:
          key: as of `judge`.
        Raises:
          Refused: a key of another request.
        """
        latents = self._tastes.of(visitor).latents
        with self._state.changing(visitor.id) as change:

            def answer() -> schemas.Undone:
                undone, card = change.undo(), None
                if undone is not None:
                    card = self._cards.judgement_card(undone, latents)
                return schemas.Undone(undone=card, **self._counts(change))

            undone, _ = _once(change, key, "undo", schemas.Undone, answer)
        return undone

    def reset(self, visitor: Visitor) -> schemas.Counts:
        """Takes all judgements back."""
        with self._state.changing(visitor.id) as change:
            change.reset()
        return schemas.Counts(likes=0, dislikes=0)

    def everything(self, visitor: Visitor) -> schemas.Everything:
        """All that is stored of a visitor, and what was learned from it."""
        slots, categories = self._recommender.slots, self._cards.codes.categories
        return schemas.Everything(
            about=self.about(visitor),
            seen=visitor.seen,
            feedback=[
                schemas.StoredJudgement(
                    event=one.event,
                    liked=one.liked,
                    items={
                        slot: item
                        for slot, item in zip(slots, one.items, strict=True)
                        if item >= 0
                    },
                    at=one.at,
                )
                for one in self._state.all_judgements(visitor.id)
            ],
            impressions=[
                schemas.StoredImpression(
                    at=page.at,
                    version=page.model.version,
                    codes=page.model.codes,
                    way=page.way,
                    asked=dict(page.asked),
                    outfits=[
                        schemas.ShownOutfit(
                            items={
                                slot: item if item >= 0 else f"w{~item}"
                                for slot, item in zip(slots, one.items, strict=True)
                                if item != -1
                            },
                            score=one.score,
                            explored=one.explores,
                        )
                        for one in page.outfits
                    ],
                )
                for page in self._state.impressions.of(visitor.id)
            ],
            answers=[
                schemas.StoredAnswer(at=at, answer=json.loads(answer))
                for at, answer in self._state.answers(visitor.id)
            ],
            wardrobe=[
                schemas.ItemKey(category=categories[category], item=item)
                for category, item in self._state.wardrobe(visitor.id)
            ],
            photos=[
                schemas.StoredPhoto(
                    id=one.id,
                    category=categories[one.category],
                    title=one.title,
                    jpeg=base64.b64encode(one.photo.picture).decode(),
                    code=one.photo.code.tobytes().hex(),
                )
                for one in self._state.photos(visitor.id)
            ],
        )

    def _counts(self, change: Change) -> dict[str, int]:
        """Likes and dislikes, as `about` has them."""
        judged = change.judged(len(self._recommender.slots))
        liked = judged.of(self._cards.codes).liked
        return {"likes": int(liked.sum()), "dislikes": int((~liked).sum())}

    def _judged_items(self, request: schemas.Judgement) -> list[int]:
        """The items by slot, -1 in all slots but one for an item alone."""
        if request.items is not None and request.item is None:
            return self._cards.outfit(request.items)
        if request.item is not None and request.items is None:
            category = self._cards.category(request.item.category)
            slots = self._cards.codes.slots
            items = [-1] * len(slots)
            items[slots.index(category)] = self._cards.item(category, request.item.item)
            return items
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "give either items, an outfit, or item, one item",
        )


def _once(
    change: Change,
    key: str | None,
    request: str,
    kind: type[_Answer],
    answer: Callable[[], _Answer],
) -> tuple[_Answer, bool]:
    """The answer of a request, which is carried out unless its key came before.

    Returns:
      it, and whether it was carried out.
    """
    if key is None:
        return answer(), True
    try:
        kept = change.answer_of(key, request)
    except KeyReused as error:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
    if kept is not None:
        return kind.model_validate_json(kept), False
    made = answer()
    change.keep_answer(key, request, made.model_dump_json())
    return made, True
