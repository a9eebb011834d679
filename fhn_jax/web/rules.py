"""What outfits must be, as requests have it."""

import dataclasses
import re
from collections.abc import Hashable, Sequence
from http import HTTPStatus

import numpy as np

from fhn_jax.recommender import Column, HasCategory, Only, Rules, Where, Without
from fhn_jax.web import schemas
from fhn_jax.web.cards import Cards, Refused

# Texts of an attribute that are listed, where there are no more.
_MOST_LISTED = 100
_NUMBER = re.compile("#?([0-9]{1,9})")


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a query asks of outfits, as text; see `routes.recommendations`."""

    where: tuple[str, ...] = ()
    at_most: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    include_seen: bool = False


ANYTHING = Asked()


class RulesOf:
    """Makes rules of what is asked.

    Args:
      cards: looks up items.
    """

    def __init__(self, cards: Cards):
        self._cards, self._attributes = cards, cards.recommender.index.attributes
        # Counting takes a while, and the page shows them each time.
        self._described: tuple[Hashable, dict[str, schemas.Attribute]] = (None, {})

    @property
    def version(self) -> Hashable:
        """Of the attributes, which may change at any time."""
        return None if self._attributes is None else self._attributes.version

    def attributes(self) -> dict[str, schemas.Attribute]:
        """What conditions may be on."""
        if self._attributes is None:
            return {}
        version, found = self._described
        if version != self.version:
            columns = self._attributes.columns()
            found = {name: _described(column) for name, column in columns.items()}
            self._described = self.version, found
        return found

    def of(self, asked: Asked) -> Rules:
        """The rules of a query.

        Raises:
          Refused: it cannot be read, or names what there is not.
        """
        caps = {}
        for text in asked.at_most:
            name, _, number = text.rpartition("=")
            if not name.strip() or not re.fullmatch(r"\s*[0-9]{1,4}\s*", number):
                raise Refused(
                    HTTPStatus.UNPROCESSABLE_ENTITY,
                    f"at_most: {text[:80]!r} is no limit; expected such as brand=2",
                )
            caps[name.strip()] = int(number)
        filters = []
        for kind, listed in ((Only, asked.only), (Without, asked.without)):
            if listed:
                filters.append(kind(self._items(listed), ", ".join(listed)[:80]))
        if asked.category:
            for name in asked.category:
                self._cards.category(name)
            filters.append(HasCategory(asked.category))
        if asked.where:
            filters.append(Where(*asked.where))
        return Rules(filters, caps, asked.include_seen)

    def of_composition(self, request: schemas.Composition) -> Rules:
        """The rules of a composition.

        Raises:
          Refused, InputError: as `of`.
        """
        filters = []
        if request.without:
            items = request.without.items()
            filters.append(Without({n: self._cards.items(n, c) for n, c in items}))
        if request.where:
            filters.append(Where(*request.where))
        return Rules(filters, request.at_most)

    def _items(self, listed: Sequence[str]) -> dict[str, list[int]]:
        """Category -> items of texts as CATEGORY:ITEM."""
        found: dict[str, list[int]] = {}
        for text in listed:
            name, _, item = text.partition(":")
            number = _NUMBER.fullmatch(item)
            category = self._cards.category(name)
            known = int(number[1]) if number else item
            if self._cards.recommender.names.table is not None and item[:1] != "#":
                known = item  # Even one that looks like a number.
            found.setdefault(name, []).append(self._cards.item(category, known))
        return found


def _described(column: Column) -> schemas.Attribute:
    about = schemas.Attribute(
        kind=column.kind, values=None, counts=None, least=None, most=None
    )
    if column.kind == "number":
        there = column.values[np.isfinite(column.values)]
        if len(there):
            about.least, about.most = float(there.min()), float(there.max())
    elif 0 < len(column.texts) <= _MOST_LISTED:
        there = column.values[column.values >= 0]
        counts = np.bincount(there, minlength=len(column.texts)).tolist()
        about.values = sorted(column.texts)
        about.counts = [counts[column.texts[text]] for text in about.values]
    return about
