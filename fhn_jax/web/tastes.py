"""What has been learned of each visitor: it follows from the judgements, on demand."""

import dataclasses
import datetime
import threading
from collections import OrderedDict

import numpy as np
from jaxtyping import Float32

from fhn_jax.recommender import Judged, Recommender
from fhn_jax.web.state import State, Visitor

# Judgements that are held, of the visitors who came last; some 50 MB.
_MOST_HELD = 500_000


@dataclasses.dataclass(frozen=True, eq=False)
class Taste:
    """What a visitor judged and what was learned from it.

    Attributes:
      judged: without superseded judgements.
      latents: the user code, float32 [d].
    """

    judged: Judged
    latents: Float32[np.ndarray, " d"]

    @property
    def likes(self) -> int:
        """How much is liked."""
        return int(self.judged.liked.sum())

    @property
    def dislikes(self) -> int:
        """How much is disliked."""
        return len(self.judged) - self.likes


class Tastes:
    """Learns from the judgements of visitors, and remembers it until they change.

    Args:
      recommender: learns.
      state: stores judgements.
    """

    def __init__(self, recommender: Recommender, state: State):
        self._recommender, self._state = recommender, state
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[int, datetime.datetime], tuple[int, Taste]]
        self._held, self._count = OrderedDict(), 0

    def of(self, visitor: Visitor | None) -> Taste:
        """The taste of a visitor, None for somebody new."""
        if visitor is None:
            return self._learn(None, Judged.nothing(len(self._recommender.slots)))
        # SQLite gives the id of a forgotten visitor to a new one.
        key = visitor.id, visitor.created
        with self._lock:
            changes, taste = self._held.get(key, (-1, None))
        if taste is None or changes != visitor.changes:
            # What was judged since `visitor` was read may be in it: it is newer, and
            # learned from again when its change is seen.
            taste = self._learn(
                visitor.user,
                self._state.judged(visitor.id, len(self._recommender.slots)),
            )
            self._hold(key, visitor.changes, taste)
        return taste

    def _learn(self, user: int | None, judged: Judged) -> Taste:
        return Taste(judged, self._recommender.learn(user, judged))

    def _hold(
        self, key: tuple[int, datetime.datetime], changes: int, taste: Taste
    ) -> None:
        with self._lock:
            _, old = self._held.pop(key, (0, None))
            self._held[key] = changes, taste
            # One for what a visitor takes who judged nothing.
            self._count += len(taste.judged) - (len(old.judged) if old else -1)
            while self._count > _MOST_HELD:
                _, (_, dropped) = self._held.popitem(last=False)
                self._count -= len(dropped.judged) + 1
