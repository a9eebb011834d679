"""Filters by attributes, as people write them: `price<=80`, `season in {summer,winter}`."""

import copy
import dataclasses
import re

import numpy as np

from fhn_jax.codes import Codes
from fhn_jax.errors import InputError, nearest
from fhn_jax.retrieval.attributes import Attributes, unknown_attribute
from fhn_jax.retrieval.filters import Conditions

# None of them looks at a run of spaces twice.
_OPERATOR = re.compile(r"<=|>=|!=|=|<|>|\b(?:not\s+)?in(?=\s*\{)")
_NOT = re.compile(r"not\s+|!\s*")
_NO_TRUTH = re.compile(r"[<>={}]|\sin\s")
_QUOTED = r"""\"[^"]*(?:""[^"]*)*"|'[^']*(?:''[^']*)*'"""
_VALUE = re.compile(rf"""\s*(?:({_QUOTED})\s*|([^\s,"'][^,"']*))(?:,|$)""")
_HELP = (
    "expected such as price<=80, season in {summer,winter}, brand!=X, in_stock, "
    "not in_stock, or shoe:price<=80 for shoes alone"
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One condition on an attribute of items.

    Attributes:
      text: as it was written.
      name: of the attribute; after CATEGORY: if it is of the items of one alone.
      operator: see `Column.meets`.
      values: what is compared with.
    """

    text: str
    name: str
    operator: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Comparison":
        """Reads a condition.

        Raises:
          InputError: it is none.

        >>> Comparison.parse("shoe:season not in {summer, 'mid, season'}").values
        ('summer', 'mid, season')
        """
        text = text.strip()
        if found := _OPERATOR.search(text, 1):
            name, operator = text[: found.start()].rstrip(), found[0]
            value, several = text[found.end() :].lstrip(), operator.endswith("in")
            if not set(name) & set("<>=!{}") and value[:1] not in ("", "="):
                values = _listed(value) if several else (_unquoted(value),)
                if values:
                    known = {"in": "="}.get(operator, "!=") if several else operator
                    return cls(text, name, known, values)
        elif text and not _NO_TRUTH.search(text):
            no = _NOT.match(text)
            name = text[no.end() :] if no else text
            if name:
                return cls(text, name, "!=" if no else "=", ("true",))
        raise InputError(f"{text[:80]!r} is no condition on items; {_HELP}")

    def allowed(self, codes: Codes, attributes: Attributes) -> Conditions:
        """Which items meet it, of all categories or of the one that it is on.

        Raises:
          InputError: an unknown attribute, value or category, or one of another kind;
            names the nearest.
        """
        columns, name = attributes.columns(), self.name
        numbers = list(range(len(codes.categories)))
        prefix, colon, rest = name.partition(":")
        if name not in columns and colon:
            if prefix not in codes.categories:
                raise InputError(
                    f"{self.text[:80]!r} is on {prefix!r}, which is no category; "
                    f"expected one of {codes.categories}"
                    f"{nearest(prefix, codes.categories)}"
                )
            name, numbers = rest.strip(), [codes.categories.index(prefix)]
        if name not in columns:
            raise unknown_attribute(name, columns)
        met = columns[name].meets(self.operator, self.values, name)
        starts = np.cumsum([0, *codes.num_items])
        if len(met) != starts[-1]:
            raise InputError(
                f"attributes of {len(met):,} items, and the codes have {starts[-1]:,}; "
                "make them again"
            )
        return Conditions(allowed={c: met[starts[c] : starts[c + 1]] for c in numbers})


class Where:
    """Outfits all of whose items meet some conditions on their attributes.

    A condition compares an attribute with a value: `price<=80` (or <, >, >=), `brand=X`,
    `brand!=X`, `season in {summer,winter}`, `season not in {summer}`, `in_stock`,
    `not in_stock`; values may be in quotes, in which a quote is written twice.
    `shoe:price<=80` is on shoes alone. An item that lacks the attribute meets `!=`,
    `not in` and `not` alone. Texts are compared as they are written; times as 2026-12-24
    or 2026-12-24T18:30.

    Args:
      conditions: all of them have to be met.
      attributes: of the items; those of the index, the composer or the collection that
        is asked by default.

    >>> rng = np.random.default_rng(0)
    >>> vectors = {name: rng.normal(size=(2, 64)) for name in ("top", "shoe")}
    >>> codes = Codes.from_embeddings(vectors)
    >>> attributes = Attributes.in_memory(codes, {"price": [20, 90, 60, 75]})
    >>> Where("price<=80", "shoe:price>70", attributes=attributes).resolve(codes).allowed
    {0: array([ True, False]), 1: array([False,  True])}
    """

    def __init__(self, *conditions: str, attributes: Attributes | None = None):
        self._comparisons = tuple(map(Comparison.parse, conditions))
        self._attributes = attributes

    @staticmethod
    def reads(name: str) -> bool:
        """Whether conditions can be on an attribute of this name.

        >>> Where.reads("price"), Where.reads("price<=80")
        (True, False)
        """
        try:
            read = [Comparison.parse(name + rest).name for rest in ("=x", " in {x}")]
        except InputError:
            return False
        return set(read) == {name}

    def __repr__(self) -> str:
        return f"Where({', '.join(repr(each.text) for each in self._comparisons)})"

    def __str__(self) -> str:
        return ", ".join(each.text for each in self._comparisons)

    def parts(self) -> list["Where"]:
        """Filters of one condition each, which are this one together."""
        return [
            Where(each.text, attributes=self._attributes) for each in self._comparisons
        ]

    def of(self, attributes: Attributes | None) -> "Where":
        """The same of these attributes, if it has none of its own."""
        if self._attributes is not None or attributes is None:
            return self
        bound = copy.copy(self)
        bound._attributes = attributes
        return bound

    def resolve(self, codes: Codes) -> Conditions:
        if self._attributes is None:
            raise InputError(
                f"{self}: these items have no attributes; expected an items.parquet "
                "with attribute columns beside the data, or `attributes`"
            )
        conditions = Conditions()
        for each in self._comparisons:
            conditions &= each.allowed(codes, self._attributes)
        return conditions


def _listed(text: str) -> tuple[str, ...]:
    """The values of {a, 'b, c'}; none if it is not that."""
    if text[-1:] != "}":
        return ()
    inside, at, values = text[1:-1].strip(), 0, []
    while at < len(inside):
        found = _VALUE.match(inside, at)
        if found is None:
            return ()
        values.append(_unquoted(found[1] or found[2].rstrip()))
        at = found.end()
    return tuple(values)


def _unquoted(text: str) -> str:
    """What is in quotes, if it is; a quote within them is written twice."""
    quote = text[:1]
    if len(text) < 2 or quote not in "\"'" or text[-1] != quote:
        return text
    return text[1:-1].replace(2 * quote, quote)
