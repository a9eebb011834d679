"""What has been learned of each visitor: it follows from the judgements, on demand."""

import dataclasses
import datetime
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
from jaxtyping import Float32

from fhn_jax.recommender import Judged, Posterior, Recommender, Suggestion
from fhn_jax.web.state import State, Visitor

# Judgements that are held, of the visitors who came last, each of whom counts for so many
# more; some 100 MB.
_MOST_HELD, _EACH = 1_000_000, 100
# Pages of outfits that are held of a visitor.
_MOST_PAGES = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Taste:
    """What a visitor judged and what was learned from it.

    Attributes:
      judged: without superseded judgements.
      posterior: what that says of the user code.
    """

    judged: Judged
    posterior: Posterior
    _pages: dict[Hashable, list[Suggestion]] = dataclasses.field(default_factory=dict)

    def page(
        self, key: Hashable, find: Callable[[], list[Suggestion]]
    ) -> list[Suggestion]:
        """The outfits of a page, found when it is asked for first."""
        found = self._pages.get(key)
        if found is None:
            found = find()
            if len(self._pages) >= _MOST_PAGES:
                self._pages.clear()
            self._pages[key] = found
        return found

    @property
    def latents(self) -> Float32[np.ndarray, " d"]:
        """The user code that fits best."""
        return self.posterior.mean

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
        self._nobody = self._learn(None, Judged.nothing(len(recommender.slots)))

    def of(self, visitor: Visitor | None) -> Taste:
        """The taste of a visitor, None for somebody new."""
        if visitor is None:
            return self._nobody
        # A database that is restored meanwhile may have somebody else of this id.
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
        # A later version of the codes may have had more items.
        judged = judged.of(self._recommender.codes)
        return Taste(judged, self._recommender.posterior(user, judged))

    def _hold(
        self, key: tuple[int, datetime.datetime], changes: int, taste: Taste
    ) -> None:
        with self._lock:
            _, old = self._held.pop(key, (0, None))
            self._held[key] = changes, taste
            self._count += len(taste.judged) - (len(old.judged) if old else -_EACH)
            while self._count > _MOST_HELD:
                _, (_, dropped) = self._held.popitem(last=False)
                self._count -= len(dropped.judged) + _EACH
