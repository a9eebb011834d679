"""What the items and users of a data set are called, and who is meant by a text.

Where a data root has items.parquet, a text is one of the shop's own ids; else it is a
number or an image name. `#7` is the number 7 in both. Users are named in the same way,
by users.parquet.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from fhn_jax.data.item_table import (
    ITEMS_FILE,
    OWN_COLUMNS,
    USERS_FILE,
    Ids,
    ItemTable,
    read_items,
    read_users,
)
from fhn_jax.data.titles import read_titles
from fhn_jax.errors import InputError, nearest

_NUMBER = re.compile("#([0-9]{1,18})")
_PLAIN_NUMBER = re.compile("#?([0-9]{1,18})")
# The nearest of a million takes seconds.
MOST_COMPARED = 20_000
_REMEDY = (
    "expected those that the run was trained on; import the catalogue again, or train "
    "again"
)


@dataclasses.dataclass(frozen=True, eq=False)
class ItemNames:
    """Ids, titles and attributes by category and item; items and users by text.

    Attributes:
      categories: their names.
      counts: items of each.
      images: image names of the items, by category, if they are known.
      table: what the shop says of its items; None for data of no shop.
      users: the shop's ids of the users; None if there are none.
      titles: by image name, where there is no table.

    >>> names = ItemNames(("top", "shoe"), (3, 2), (("a", "b", "c"), ("d", "e")))
    >>> names.find("top", "b", "--fixed"), names.find("shoe", "#1", "--fixed")
    (1, 1)
    """

    categories: tuple[str, ...]
    counts: tuple[int, ...]
    images: Sequence[Sequence[str]] | None = None
    table: ItemTable | None = None
    users: Ids | None = None
    titles: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.table is None:
            return
        sizes = [b - a for a, b in zip(self._starts, self._starts[1:], strict=False)]
        known = dict(zip(self.table.categories, sizes, strict=True))
        for name, count in zip(self.categories, self.counts, strict=True):
            # The table may have been updated since: new items come last.
            if known.get(name, 0) < count:
                raise InputError(
                    f"{ITEMS_FILE} has {known.get(name, 0):,} items of the category "
                    f"{name!r}, and the codes have {count:,}; {_REMEDY}"
                )

    @property
    def _starts(self) -> tuple[int, ...]:
        assert self.table is not None
        return self.table.offsets

    def _row(self, category: int, item: int) -> int:
        """The row of an item in the table."""
        assert self.table is not None
        place = self.table.categories.index(self.categories[category])
        return self._starts[place] + item

    # --- what they are called ---------------------------------------------------------

    def id(self, category: int, item: int) -> str | None:
        """The shop's id of an item, None for data of no shop."""
        return None if self.table is None else self.table.ids[self._row(category, item)]

    def title(self, category: int, item: int) -> str | None:
        """The title of an item, None if it has none."""
        if self.table is not None:
            return self.table.titles[self._row(category, item)] or None
        if self.images is None:
            return None
        return self.titles.get(self.images[category][item]) or None

    def attributes(self, category: int, item: int) -> dict[str, Any]:
        """The shop's attributes of an item that it has a value of, as JSON has them."""
        if self.table is None:
            return {}
        row = self.table.row(self._row(category, item))
        return {k: v for k, v in row.items() if k not in OWN_COLUMNS}

    @functools.cached_property
    def available(self) -> dict[str, Int[np.ndarray, " _"]]:
        """The items that the shop still has, of the categories where it lacks some.

        As a filter: `Only(names.available)`.
        """
        if self.table is None:
            return {}
        found = {}
        for category, count in enumerate(self.counts):
            first = self._row(category, 0) if count else 0
            removed = self.table.removed[first : first + count]
            if removed.any():
                found[self.categories[category]] = np.flatnonzero(~removed)
        return found

    def is_available(self, category: int, item: int) -> bool:
        """Whether the shop still has an item."""
        return self.table is None or not self.table.removed[self._row(category, item)]

    def are_available(
        self, slots: Sequence[int], outfits: Int[np.ndarray, "n s"]
    ) -> Bool[np.ndarray, " n"]:
        """Whether the shop still has all items of each outfit.

        Args:
          slots: the category of each slot.
          outfits: an item for each slot, -1 for none.
        """
        good = np.ones(len(outfits), bool)
        for category, items in zip(slots, outfits.T, strict=True):
            there = self.available.get(self.categories[category])
            if there is not None:
                good &= (items < 0) | np.isin(items, there)
        return good

    def columns(self) -> dict[str, np.ndarray]:
        """The shop's attributes of all items, one category after the other."""
        if self.table is None:
            return {}
        starts = [self._row(c, 0) if n else 0 for c, n in enumerate(self.counts)]
        pairs = list(zip(starts, self.counts, strict=True))
        return {
            name: np.concatenate([values[first : first + n] for first, n in pairs])
            for name, values in self.table.attributes.items()
        }

    def label(self, category: int, item: int) -> str:
        """An item in a line of text: id and title, else its image name or number."""
        own = self.id(category, item)
        if own is not None:
            return printable(f"{own} {self.title(category, item) or ''}").strip()
        return str(item) if self.images is None else self.images[category][item]

    def called(self, slots: Sequence[int], items: Sequence[int]) -> list[str]:
        """Titles of an outfit's items, or the shop's ids; of those that have any.

        Args:
          slots: the category of each slot.
          items: of each slot, -1 for none.
        """
        there = {(c, i): None for c, i in zip(slots, items, strict=True) if i >= 0}
        found = [self.title(*each) or self.id(*each) for each in there]
        return [printable(text) for text in found if text]

    def user(self, number: int) -> str:
        """A user in a line of text: the shop's id, or the number."""
        return str(number) if self.users is None else printable(self.users[number])

    # --- who is meant -----------------------------------------------------------------

    def find(self, category: str, text: str, where: str) -> int:
        """The number of an item of a category.

        Args:
          where: the text stands, for errors.
        Raises:
          InputError: there is no such item; names the nearest.
        """
        number = self.categories.index(category)
        count, found = self.counts[number], None
        if self.table is not None:
            own = self.item(text)
            if own is not None and own[0] != number:
                raise InputError(
                    f"{where}: {text!r} is an item of {self.categories[own[0]]}, not "
                    f"of {category}"
                )
            found, expected = None if own is None else own[1], "an id of the shop, or"
        else:
            found, expected = self._by_image[number].get(text), "an id of"
        pattern = _PLAIN_NUMBER if self.table is None else _NUMBER
        if found is None and (given := pattern.fullmatch(text)):
            found = int(given[1]) if int(given[1]) < count else None
        if found is not None:
            return found
        if self.table is not None:
            near = self.nearest_item(text)
            expected = f"{expected} #0 to #{count - 1}"
        else:
            near = _nearest(text, self._by_image[number])
            expected = f"{expected} 0 to {count - 1}, or the name of an item"
        raise InputError(
            f"{where}: {category} {text[:80]!r} is unknown; expected {expected}{near}"
        )

    def item(self, own: str) -> tuple[int, int] | None:
        """Category and number of the item of a shop's id; None if there is none."""
        if self.table is None or own not in self.table.ids:
            return None
        row = self.table.ids.number(own)
        category = self.categories.index(self.table.category(row))
        return category, row - self._row(category, 0)

    def nearest_item(self, text: str) -> str:
        """What to add to an error about a text that is no item of the shop."""
        return "" if self.table is None else _nearest(text, self.table.ids.names)

    def find_user(self, text: str, where: str) -> int:
        """The number of a user; that of a number is not compared with how many there are.

        Raises:
          InputError: there is no such user; names the nearest.
        """
        if self.users is not None and text in self.users:
            return self.users.number(text)
        pattern = _PLAIN_NUMBER if self.users is None else _NUMBER
        if given := pattern.fullmatch(text):
            return int(given[1])
        if self.users is None:
            raise InputError(
                f"{where}: {text[:80]!r} is no user; expected a number: the data have no "
                "users.parquet with ids of their own"
            )
        raise InputError(
            f"{where}: user {text[:80]!r} is not one of the {len(self.users):,} users; "
            f"expected an id of the shop, or #0 to #{len(self.users) - 1}"
            f"{_nearest(text, self.users.names)}"
        )

    @functools.cached_property
    def _by_image(self) -> list[dict[str, int]]:
        images = self.images or [()] * len(self.categories)
        return [{name: i for i, name in enumerate(some)} for some in images]


@runtime_checkable
class Items(Protocol):
    """Codes, as far as their items and users have names."""

    @property
    def categories(self) -> tuple[str, ...]: ...
    @property
    def num_items(self) -> tuple[int, ...]: ...
    @property
    def num_users(self) -> int: ...
    @property
    def names(self) -> Sequence[Sequence[str]] | None: ...


def read_names(root: str | os.PathLike, variant: str, items: Items) -> ItemNames:
    """The names of a data root's items and users; where it has none, those of no shop.

    Args:
      root, variant: of the data.
      items: the codes of these data.
    Raises:
      ValueError: a file is damaged, or of other items or users.
      ModuleNotFoundError: there are such files, and duckdb is not installed.
    """
    root = Path(root)
    table, users = read_items(root), read_user_ids(root, variant)
    if users is not None and len(users) < items.num_users:
        raise InputError(
            f"{root / USERS_FILE} has {len(users):,} users, and the codes have "
            f"{items.num_users:,}; {_REMEDY}"
        )
    titles = read_titles(root / "titles.json") if table is None else {}
    try:
        return ItemNames(
            items.categories, items.num_items, items.names, table, users, titles
        )
    except InputError as error:
        raise InputError(f"{root}: {error}") from None


def read_user_ids(root: Path, variant: str) -> Ids | None:
    """The shop's ids of the users of a variant; None without users.parquet."""
    users, chosen = read_users(root), root / f"tuples_{variant}" / "users"
    if users is None or not chosen.is_file():
        return users
    # `split_users` numbers some of them anew.
    originals = np.loadtxt(chosen, np.int64, delimiter=",", skiprows=1, ndmin=2)[:, 1]
    return Ids([users[i] for i in originals.tolist()], "user")


def _nearest(text: str, known: Collection[str]) -> str:
    return nearest(text[:80], known) if len(known) <= MOST_COMPARED else ""


def printable(text: str) -> str:
    """Text on one line, without what moves a terminal's cursor or colours it."""
    return "".join(c if c.isprintable() else " " for c in text)
