"""At most so many results with the same item, brand or colour.

The rule: results are taken from the whole ranking, best first, of equal scores in its own
order; a result is left out if one of its items has a value that is in as many results
taken before it as are allowed. A result with two items of a brand counts once for it.
Items that all results must have, and items without a value, do not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int64

from fhn_jax.codes import Codes
from fhn_jax.retrieval.arguments import check_count
from fhn_jax.retrieval.attributes import Attributes, unknown_attribute
from fhn_jax.retrieval.filters import Conditions

# The name that stands for the item itself, among those of attributes.
ITEM = "item"
# So many times what lacks is asked for, to be read on.
MORE = 4


class Caps:
    """Which results may still be taken, for one user.

    Args:
      limits: attribute, or "item" -> the most results with a value of it.
      codes: of the items.
      attributes: of these.
      held: items that all results have, by the start of their category plus their id.
    Raises:
      InputError: a limit < 1, or an unknown attribute.
    """

    def __init__(
        self,
        limits: Mapping[str, int],
        codes: Codes,
        attributes: Attributes | None,
        held: Sequence[int] | Int64[np.ndarray, " n"] = (),
    ):
        starts = np.cumsum([0, *codes.num_items])
        self._starts, self._ends = starts[list(codes.slots)], starts[1:-1]
        self._held = np.zeros(starts[-1], bool)
        self._held[np.asarray(held, np.int64)] = True
        columns = {} if attributes is None else attributes.columns()
        self._limits = []
        for name, limit in limits.items():
            check_count(f"at_most {name}", limit)
            if name == ITEM:
                values = np.arange(starts[-1])
            elif name in columns:
                values = columns[name].groups
            else:
                raise unknown_attribute(name, {ITEM: None, **columns})
            counts = np.zeros(values.max(initial=-1) + 1, np.int64)
            self._limits.append((limit, values, counts))

    def take(self, outfit: Sequence[int] | Int[np.ndarray, " s"]) -> bool:
        """Whether a result may be taken; then it counts.

        Args:
          outfit: an id for each slot, -1 for none.
        """
        row = np.asarray(outfit)
        items = (self._starts + row)[row >= 0]
        items = items[~self._held[items]]
        used = []
        for limit, values, counts in self._limits:
            own = np.unique(values[items])
            own = own[own >= 0]
            if (counts[own] >= limit).any():
                return False
            used.append((counts, own))
        for counts, own in used:
            counts[own] += 1
        return True

    def filter(self) -> "Left":
        """The filter of outfits without any other items."""
        return Left(np.split(self.left(), self._ends))

    def left(self) -> Bool[np.ndarray, " n"]:
        """The items that a result may still have, all categories in one numbering."""
        left = np.ones(len(self._held), bool)
        for limit, values, counts in self._limits:
            # The last is that of items without a value.
            left &= np.append(counts < limit, True)[values]
        return left | self._held


@dataclass(frozen=True, eq=False)
class Left:
    """The filter of what a `Caps` leaves: of each category the items."""

    allowed: Sequence[Bool[np.ndarray, " _"]]

    def __str__(self) -> str:
        return "at most"

    def resolve(self, codes: Codes) -> Conditions:
        return Conditions(allowed=dict(enumerate(self.allowed)))
