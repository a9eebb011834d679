"""A taste in words: the colours, styles and brands of what a visitor likes and passes on.

They are of the attributes by which a shop's items can be told apart. Where none is of
colours, those that titles name stand in, and where there are none at all, all words of
titles do.
"""

import re
from collections import Counter
from collections.abc import Iterator

from fhn_jax.recommender import Judged
from fhn_jax.web import schemas
from fhn_jax.web.cards import Cards
from fhn_jax.web.colours import are_colours, swatch
from fhn_jax.web.facets import label, tells_apart

# Words of a group.
_MOST = 5
_COLOURS, _STYLES = "Colours", "Styles"
# Of titles: they say nothing of a garment.
_NO_STYLES = frozenset({"and", "for", "from", "the", "with", "without"})


def in_words(
    judged: Judged, cards: Cards, attributes: dict[str, schemas.Attribute]
) -> list[schemas.TasteGroup]:
    """What is liked more often than not, by kind, and what is passed on.

    Args:
      judged: by a visitor.
      attributes: of the items.
    """
    names = [n for n, about in attributes.items() if tells_apart(n, about)]
    has_colours = any(are_colours(attributes[name].values or []) for name in names)
    liked: dict[str, Counter[str]] = {}
    passed: dict[str, Counter[str]] = {}
    for items, likes in zip(judged.items.tolist(), judged.liked.tolist(), strict=True):
        for category, item in zip(cards.codes.slots, items, strict=True):
            if item < 0:
                continue
            for group, word in _words(cards, category, item, names, has_colours):
                for counts in (liked, passed):
                    counts.setdefault(group, Counter())
                (liked if likes else passed)[group][word] += 1
    groups = [_group(name, liked[name], passed[name]) for name in liked]
    # Those with colours to see come first.
    groups.sort(key=lambda group: not any(word.colour for word in group.liked))
    return [group for group in groups if group.liked or group.passed]


def _words(
    cards: Cards, category: int, item: int, names: list[str], has_colours: bool
) -> Iterator[tuple[str, str]]:
    """What is said of an item: pairs of a group and a word."""
    said = cards.said(category, item)
    yield from ((label(name), str(said[name])) for name in names if name in said)
    title = cards.recommender.names.title(category, item) or ""
    for word in dict.fromkeys(re.findall(r"[^\W\d_]{3,}", title.lower())):
        if swatch(word):
            if not has_colours:
                yield _COLOURS, word
        elif not names and word not in _NO_STYLES:
            yield _STYLES, word


def _group(name: str, liked: Counter[str], passed: Counter[str]) -> schemas.TasteGroup:
    colours = are_colours([*liked, *passed])

    def most(of: Counter[str], other: Counter[str]) -> list[schemas.TasteWord]:
        lead = {word: of[word] - other[word] for word in of}
        # Once may be chance, if others come again.
        least = min(2, max(lead.values(), default=0))
        more = [word for word in of if lead[word] >= max(1, least)]
        more.sort(key=lambda word: (-lead[word], -of[word], word))
        return [
            schemas.TasteWord(
                text=word,
                liked=liked[word],
                passed=passed[word],
                colour=swatch(word) if colours else None,
            )
            for word in more[:_MOST]
        ]

    return schemas.TasteGroup(
        name=name, liked=most(liked, passed), passed=most(passed, liked)
    )
