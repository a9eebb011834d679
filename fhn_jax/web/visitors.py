"""Visitors: who they are, what they judge, and what is learned from it."""

from collections.abc import Iterable
from http import HTTPStatus

from fhn_jax.recommender import Judgement
from fhn_jax.web import schemas
from fhn_jax.web.cards import API, Cards, Refused
from fhn_jax.web.state import Change, State, Visitor

# More than a person does in a year of evenings; less than fills a disk.
MOST_JUDGEMENTS = 5000
_WELCOME = "Like what you would wear, pass on the rest. Each click teaches."


class Visitors:
    """Makes, finds and describes visitors, and learns from their judgements.

    Args:
      cards: looks up and shows items.
      state: stores visitors.
      known_users: whether anybody may open a known user.
    """

    def __init__(self, cards: Cards, state: State, *, known_users: bool):
        self._cards, self._state, self.known_users = cards, state, known_users
        self._recommender = cards.recommender

    def create(self, user: int | None) -> str:
        """Adds a visitor and returns the token.

        Raises:
          Refused: an unknown user, or none may be opened.
        """
        if user is not None and not self.known_users:
            raise Refused(
                HTTPStatus.FORBIDDEN, "known users cannot be opened on this server"
            )
        try:
            latents = self._recommender.start(user)
        except ValueError as error:
            raise Refused(HTTPStatus.NOT_FOUND, str(error)) from None
        return self._state.create(user, latents)

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
        counts = _counts(self._state.judgements(visitor.id))
        return schemas.Visitor(
            user=visitor.user,
            **counts.model_dump(),
            bits=self._recommender.bits(visitor.latents),
            created=visitor.created,
        )

    def lead(self, visitor: Visitor | None) -> str:
        """The line above the outfits; `visitor` is None for somebody new."""
        if visitor is None:
            return _WELCOME
        counts = _counts(self._state.judgements(visitor.id))
        if visitor.user is not None and not counts.likes + counts.dislikes:
            return f"What person {visitor.user} of the data would be shown."
        if not counts.likes + counts.dislikes:
            return _WELCOME
        return f"Learned from {counts.likes} liked and {counts.dislikes} passed."

    def history(self, visitor: Visitor, limit: int) -> schemas.History:
        """The newest judgements."""
        judged = self._state.judgements(visitor.id)[:limit]
        cards = [self._cards.judgement_card(one, visitor) for one in judged]
        return schemas.History(feedback=cards)

    def judge(self, visitor: Visitor, request: schemas.Judgement) -> schemas.Judged:
        """Stores a like or dislike and learns from it.

        Raises:
          Refused: neither or both of an outfit and an item, unknown ones, or too many
            judgements.
        """
        items = self._judged_items(request)
        with self._state.changing(visitor.id) as change:
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
        with self._state.changing(visitor.id) as change:
            undone = change.undo()
            judged = self._learn(change) if undone else change.judgements()
        card = None if undone is None else self._cards.judgement_card(undone, visitor)
        return schemas.Undone(undone=card, **_counts(judged).model_dump())

    def reset(self, visitor: Visitor) -> schemas.Counts:
        """Takes all judgements back."""
        with self._state.changing(visitor.id) as change:
            change.reset()
            self._learn(change)
        return schemas.Counts(likes=0, dislikes=0)

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

    def _learn(self, change: Change) -> list[Judgement]:
        judged = change.judgements()
        change.set_latents(self._recommender.learn(change.visitor.user, judged))
        return judged


def _counts(judged: Iterable[Judgement]) -> schemas.Counts:
    liked = [one.liked for one in judged]
    return schemas.Counts(likes=sum(liked), dislikes=len(liked) - sum(liked))
