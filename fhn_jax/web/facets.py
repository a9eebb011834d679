"""What the page's form of filters offers, of what the shop says of its items."""

import dataclasses
from collections.abc import Sequence

from fhn_jax.recommender import Where
from fhn_jax.web import schemas
from fhn_jax.web.colours import are_colours, swatch

# In this order, before all others.
_FIRST = ("colour", "color", "season", "price", "brand")
# Said beside the price, and no property of a garment.
_NOT_OFFERED = ("currency",)


@dataclasses.dataclass(frozen=True)
class Option:
    """A value to choose."""

    text: str
    count: int
    colour: str | None


@dataclasses.dataclass(frozen=True)
class Facet:
    """An attribute to filter by."""

    name: str
    label: str
    kind: str
    least: str = ""
    most: str = ""
    options: Sequence[Option] = ()


def facets(catalogue: schemas.Catalogue) -> list[Facet]:
    """The attributes by which items can be told apart, the usual ones first."""
    found = []
    for name, about in catalogue.attributes.items():
        if not Where.reads(name):
            continue
        facet = Facet(name, label(name), about.kind)
        if about.kind == "number" and about.least != about.most:
            least, most = _amount(about.least), _amount(about.most)
            facet = dataclasses.replace(facet, least=least, most=most)
        elif about.kind == "text" and tells_apart(name, about):
            facet = dataclasses.replace(facet, options=_options(about))
        elif about.kind != "boolean":
            continue
        found.append(facet)
    places = {name: place for place, name in enumerate(_FIRST)}
    return sorted(found, key=lambda one: places.get(one.name.lower(), len(_FIRST)))


def tells_apart(name: str, about: schemas.Attribute) -> bool:
    """Whether the values of a text are kinds of items: several, and of several items."""
    counts = about.counts or []
    several = 2 <= len(counts) and 2 * len(counts) <= sum(counts)
    return several and name.lower() not in _NOT_OFFERED


def label(name: str) -> str:
    """The name of a column as people write it."""
    return name.replace("_", " ").capitalize()


def _amount(value: float | None) -> str:
    """A number as the page writes prices."""
    if value is None:
        return ""
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"


def _options(about: schemas.Attribute) -> list[Option]:
    values, counts = about.values or [], about.counts or []
    has_colours = are_colours(values)
    return [
        Option(text, count, swatch(text) if has_colours else None)
        for text, count in zip(values, counts, strict=True)
        if count
    ]
