"""One attribute of all items as a compact array, and what is compared with it."""

import datetime
import functools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from fhn_jax.errors import InputError, nearest

Kind = Literal["number", "boolean", "text", "time"]
# What stands for true and for false beside 1 and 0, as an import reads it.
TRUE, FALSE = ("true", "yes", "ja", "oui", "y"), ("false", "no", "nein", "non", "n")
_TRUTHS: Mapping[str, int] = dict.fromkeys((*TRUE, "1"), 1) | dict.fromkeys(
    (*FALSE, "0"), 0
)
_ORDERS: Mapping[str, Callable] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
# The nearest of more texts takes seconds.
_MOST_COMPARED = 20_000
_INTEGERS = (np.int8, np.int16, np.int32, np.int64)


@dataclass(frozen=True, eq=False)
class Column:
    """An attribute of all items.

    Attributes:
      kind: what its values are.
      values: of each item [n]. Numbers have the smallest type that holds all of them
        exactly, NaN where there is none; times are seconds since 1970 in UTC, float64,
        likewise; booleans int8, -1 where there is none; texts int32, their numbers in
        `texts`, -1 where there is none.
      texts: the number of each different text, in the order of the numbers.
    """

    kind: Kind
    values: Shaped[np.ndarray, " n"]
    texts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Sequence[Any] | Shaped[np.ndarray, " n"]) -> "Column":
        """The column of some values; None, and NaN in numbers, where there is none.

        What is neither a number nor a boolean nor a time is a text.

        >>> Column.of([80, None, 120.5])
        Column(number, 3 items)
        >>> Column.of(["red", None, "red"]).texts
        {'red': 0}
        """
        array = np.asarray(values)
        if array.dtype.kind == "b":
            return cls("boolean", array.astype(np.int8))
        if array.dtype.kind in "iuf":
            return cls("number", _smallest(array))
        items = array.tolist()
        if array.dtype.kind == "M":
            items = array.astype("M8[us]").tolist()
        kind = _kind([item for item in items if item is not None])
        empty = cls(kind, np.full(len(items), _ABSENT[kind], _WIDEST[kind]))
        there = [n for n, item in enumerate(items) if item is not None]
        made = empty.changed(np.array(there, np.int64), [items[n] for n in there], "")
        return cls(kind, _smallest(made.values)) if kind == "number" else made

    def __repr__(self) -> str:
        return f"Column({self.kind}, {len(self.values)} items)"

    def plain(self) -> Sequence[Any] | Shaped[np.ndarray, " n"]:
        """The values as they were given, but for the type of numbers."""
        if self.kind == "number":
            return self.values
        if self.kind == "time":
            times = (np.nan_to_num(self.values) * 1e6).astype("M8[us]")
            times[np.isnan(self.values)] = np.datetime64("NaT")
            return times
        known = [*self.texts, None] if self.kind == "text" else [False, True, None]
        return [known[value] for value in self.values]

    def at(self, place: int) -> str | bool | int | float | None:
        """The value of one item as JSON has it, None for none; times in ISO 8601."""
        value = self.values[place].item()
        if self.kind in ("number", "time") and math.isnan(value):
            return None
        if self.kind == "number":
            return value
        if self.kind == "time":
            time = datetime.datetime.fromtimestamp(value, datetime.UTC)
            return time.replace(tzinfo=None).isoformat()
        if value < 0:
            return None
        return bool(value) if self.kind == "boolean" else self._texts[value]

    @functools.cached_property
    def _texts(self) -> list[str]:
        return list(self.texts)

    def changed(
        self, places: Shaped[np.ndarray, " m"], values: Sequence[Any], name: str
    ) -> "Column":
        """The column with other values at some places.

        Args:
          places: of items.
          values: for each of them, None for none.
          name: of the attribute, for errors.
        Raises:
          InputError: a value of another kind.
        """
        texts = self.texts
        if self.kind == "text":
            new = dict.fromkeys(str(v) for v in values if v is not None)
            new = [text for text in new if text not in texts]
            if new:
                texts = {**texts, **{t: len(texts) + n for n, t in enumerate(new)}}
        encoded = [
            _ABSENT[self.kind] if value is None else self._encode(value, texts, name)
            for value in values
        ]
        given = np.array(encoded, _WIDEST[self.kind])
        if self.kind != "number":
            array = self.values.copy()
            array[places] = given
            return Column(self.kind, array, texts)
        dtype = self.values.dtype
        with np.errstate(invalid="ignore"):
            fits = np.array_equal(given.astype(dtype), given, equal_nan=True)
        array = self.values.copy() if fits else self.values.astype(np.float64)
        array[places] = given
        return Column(self.kind, array if fits else _smallest(array))

    def _encode(self, value: Any, texts: Mapping[str, int], name: str) -> Any:
        if self.kind == "text":
            return texts[str(value)]
        if _kind([value]) == self.kind:
            return _seconds(value) if self.kind == "time" else value
        return self._parse(str(value), name)

    def _parse(self, text: str, name: str) -> Any:
        """A text as the values of this kind are stored.

        Raises:
          InputError: it is of another kind.
        """
        try:
            if self.kind == "number":
                return float(text)
            if self.kind == "time":
                return _seconds(datetime.datetime.fromisoformat(text))
            return _TRUTHS[text.lower()]
        except (KeyError, ValueError):
            expected = {
                "number": "a number",
                "time": "a time such as 2026-12-24",
                "boolean": "true or false",
            }[self.kind]
            raise InputError(
                f"{name} is a {self.kind}, and {text[:80]!r} is none; expected {expected}"
            ) from None

    @functools.cached_property
    def groups(self) -> Int64[np.ndarray, " n"]:
        """Which items have the same value: a number for each; -1 for none."""
        if self.kind in ("text", "boolean"):
            return self.values.astype(np.int64)
        there = ~np.isnan(self.values)
        groups = np.full(len(self.values), -1)
        groups[there] = np.unique(self.values[there], return_inverse=True)[1]
        return groups

    def meets(
        self, operator: str, texts: Sequence[str], name: str
    ) -> Bool[np.ndarray, " n"]:
        """Which items meet a comparison. Those without a value meet `!=` alone.

        Args:
          operator: "=", "!=" (to none of the texts), "<", "<=", ">" or ">=".
          texts: what is compared with, several for = and != alone.
          name: of the attribute, for errors.
        Raises:
          InputError: texts and booleans are not ordered; a text that no item has; or a
            value of another kind.
        """
        if operator in _ORDERS:
            if self.kind in ("text", "boolean"):
                raise InputError(
                    f"{name} is a {self.kind}, which {operator} does not compare; "
                    "expected =, != or in"
                )
            # Of its full width: a Python number would be rounded to the column's type.
            limit = np.float64(self._parse(texts[0], name))
            return _ORDERS[operator](self.values, limit)
        if self.kind == "text":
            # Of each different text, and at last of none.
            known = np.zeros(len(self.texts) + 1, bool)
            known[[self._number(text, name) for text in texts]] = True
            return (known if operator == "=" else ~known)[self.values]
        found = np.zeros(len(self.values), bool)
        for text in texts:
            found |= self.values == np.float64(self._parse(text, name))
        return found if operator == "=" else ~found

    def _number(self, text: str, name: str) -> int:
        if text in self.texts:
            return self.texts[text]
        near = self.texts if len(self.texts) <= _MOST_COMPARED else ()
        few = f", only {list(self.texts)}" if len(self.texts) <= 8 else ""
        raise InputError(
            f"no item has {name} {text[:80]!r}{few}{nearest(text[:80], near)}"
        )


_ABSENT = {"number": np.nan, "time": np.nan, "boolean": -1, "text": -1}
_WIDEST = {
    "number": np.float64,
    "time": np.float64,
    "boolean": np.int8,
    "text": np.int32,
}


def _kind(values: Sequence[Any]) -> Kind:
    """What some values are, all of them."""
    if not values:
        return "text"
    if all(isinstance(v, bool | np.bool_) for v in values):
        return "boolean"
    if all(
        isinstance(v, numbers.Number) and not isinstance(v, bool | np.bool_)
        for v in values
    ):
        return "number"
    return "time" if all(isinstance(v, datetime.date) for v in values) else "text"


def _seconds(value: datetime.date) -> float:
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime.combine(value, datetime.time())
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return value.timestamp()


def _smallest(array: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """Numbers in the smallest type that holds them exactly."""
    for dtype in (*_INTEGERS, np.float32):
        with np.errstate(invalid="ignore", over="ignore"):
            small = array.astype(dtype)
        if np.array_equal(small, array, equal_nan=array.dtype.kind == "f"):
            return small
    return array.astype(np.float64)
