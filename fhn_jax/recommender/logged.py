"""Pages that visitors were shown, made again: how likely each of their outfits was."""

import dataclasses
from collections import Counter
from itertools import chain

import numpy as np
from jaxtyping import Bool, Float, Int32

from fhn_jax.codes import Codes
from fhn_jax.errors import InputError
from fhn_jax.recommender.pages import free_pages
from fhn_jax.recommender.recommender import DRAWN, Recommender
from fhn_jax.recommender.suggestions import Judged, limit

# Pages that are drawn to see how often an outfit is on one.
DRAWS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class LoggedPage:
    """A page of recommendations that a visitor was shown.

    Attributes:
      visitor: any name.
      user: the known user that the visitor was opened as.
      codes: checksum of the codes that ranked it.
      k, explore, page: what was asked for, see `Recommender.recommend`.
      judged: what the visitor had judged before.
      items: of each outfit, -1 for none, int32 [n, s].
      liked: 1 or 0 as it was judged, NaN where it was not.
    """

    visitor: str
    user: int | None
    codes: str
    k: int
    explore: float
    page: int
    judged: Judged
    items: Int32[np.ndarray, "n s"]
    liked: Float[np.ndarray, " n"]

    def propensities(self, shown_by: Recommender) -> Float[np.ndarray, " n"] | None:
        """How likely each outfit was on the page, given what had been judged.

        The posterior of the visitor's code follows from the judgements, and the page from
        a draw of it: an outfit that is on c of `DRAWS` pages has (c + 1) / (DRAWS + 1),
        the page that was shown being one more.

        Args:
          shown_by: what ranked it.
        Returns:
          None if the page cannot be made again: fewer of its outfits are on all pages than
            do not explore. The outfits that are stored have changed since, or a judgement
            was taken back.
        """
        judged = self.judged.of(shown_by.codes)
        posterior = shown_by.posterior(self.user, judged)
        explores = round(self.explore * self.k)
        draws, rng = DRAWS if explores else 0, np.random.default_rng(0)
        pages = free_pages(
            shown_by.index,
            [posterior.mean, *(posterior.draw(rng, DRAWN) for _ in range(draws))],
            (self.k - explores, explores),
            self.page,
            shown_by.filters(self.user, judged),
            limit(self.k, len(judged)),
        )
        times = Counter(one.items for both in pages for one in chain(*both))
        counts = np.array([times[tuple(each)] for each in self.items.tolist()])
        if (counts == len(pages)).sum() < min(self.k - explores, len(counts)):
            return None
        return (counts + 1) / (len(pages) + 1)

    def chosen_by(self, recommender: Recommender) -> Bool[np.ndarray, " n"]:
        """Which of the outfits would have been among the best k of another recommender.

        That has learned from the same judgements, and explores nothing.
        """
        judged = self.judged.of(recommender.codes)
        best = recommender.recommend(
            recommender.learn(self.user, judged),
            self.k,
            judged=judged,
            page=self.page,
            user=self.user,
        )
        found = {one.items for one in best}
        return np.array([tuple(each) in found for each in self.items.tolist()], bool)


def check_comparable(shown_by: Codes, new: Codes) -> None:
    """Raises InputError unless both number the same items alike; either may have more."""
    same = shown_by.slots == new.slots and shown_by.categories == new.categories
    for ours, theirs in zip(shown_by.names or (), new.names or (), strict=False):
        same &= all(a == b for a, b in zip(ours, theirs, strict=False))
    if not same:
        raise InputError(
            "the codes to evaluate number other items than those that ranked the pages: "
            "they are of another catalogue; give a run on the same data"
        )
