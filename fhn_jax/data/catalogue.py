"""What a data set says about items, users and outfits: the types that all else takes.

Nothing here needs a file, an accelerator, an image or tensorflow.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int32, Int64

from fhn_jax.errors import InputError, MissingKeyError

SPLITS = ("train", "val", "test")
# How a file of negatives ends, by kind.
NEGATIVES = {"random": "nega", "hard": "nega_hard"}


@dataclasses.dataclass(frozen=True)
class Outfits:
    """Outfits, each seen by one user: a row is a user and an item per slot.

    Attributes:
      users: user ids.
      items: item ids *within the category of the slot*; -1 where the outfit's template
        has no such slot. A missing second item of a category (`Catalogue.slots` repeats
        it) is never -1, but the first one repeated.
    """

    users: Int32[np.ndarray, " n"]
    items: Int32[np.ndarray, "n s"]

    def __len__(self) -> int:
        return len(self.users)


@dataclasses.dataclass(frozen=True)
class Split:
    """The positives of one split, and the negatives that were drawn for them.

    Attributes:
      name: "train", "val" or "test".
      positives: outfits that the users like.
      negatives: by kind, "random" and "hard", for the files that exist. With k
        negatives to a positive, rows k*i to k*i + k - 1 belong to positive i, and
        have its user and template.
    """

    name: str
    positives: Outfits
    negatives: Mapping[str, Outfits]

    def ratio(self, kind: str) -> int:
        """Negatives of this kind to each positive.

        Raises:
          KeyError: the data has no negatives of this kind for this split.
        """
        if kind not in self.negatives:
            raise MissingKeyError(
                f"the {self.name} split has no {kind!r} negatives; it has "
                f"{sorted(self.negatives) or 'none'} (file tuples_{self.name}_"
                f"{NEGATIVES.get(kind, 'nega')} is absent)"
            )
        return len(self.negatives[kind]) // len(self.positives)


@dataclasses.dataclass(frozen=True)
class Questions:
    """Fill-in-the-blank questions: which candidate outfit is the user's own?

    Attributes:
      users: user ids.
      items: item ids within the category of the slot, -1 where there is none. Candidate
        0 is the answer; the candidates of a question differ in one slot, and have one
        template.
    """

    users: Int32[np.ndarray, " q"]
    items: Int32[np.ndarray, "q c s"]

    def __len__(self) -> int:
        return len(self.users)


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """All that a data set says about items, users and outfits, images aside.

    Attributes:
      root: the data root.
      variant: which `tuples_<variant>` was read.
      dataset: "demo" for a generated demo set, else the name of the root folder.
      num_users: users are 0 to num_users - 1, each with at least one train positive.
      categories: names of the categories, in the order of the CSV header.
      slots: the category of each place in an outfit, as an index into `categories`:
        (0, 1, 2), or (0, 0, 1, 2) for outfits with two tops. Outfits of several shapes
        fill some of the slots each, see `templates`.
      names: image file names of the items, per category; the item id is the index.
      splits: "train" and "test", and "val" where the data has it.
      fitb: fill-in-the-blank questions by split, where the data has them.
      checksum: SHA-256 over the bytes of all files read, in the order of their names.
      train_checksum: the same without those of the test split and of the questions.
    """

    root: Path
    variant: str
    dataset: str
    num_users: int
    categories: tuple[str, ...]
    slots: tuple[int, ...]
    names: tuple[tuple[str, ...], ...]
    splits: Mapping[str, Split]
    fitb: Mapping[str, Questions]
    checksum: str
    train_checksum: str

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each category starts in global item ids, and last their number."""
        return (0, *itertools.accumulate(len(names) for names in self.names))

    @property
    def num_items(self) -> int:
        """Number of items of all categories together."""
        return self.offsets[-1]

    @functools.cached_property
    def templates(self) -> tuple[tuple[int, ...], ...]:
        """The sets of slots that the positives of all splits fill, each once, sorted.

        Where all outfits have one shape, that is one template of all slots.
        """
        return templates_of(part.positives.items for part in self.splits.values())

    def template_name(self, template: tuple[int, ...]) -> str:
        """A template for people, such as "top+bottom+shoe"."""
        return "+".join(self.slot_names[slot] for slot in template)

    def of_template(self, template: tuple[int, ...]) -> "Catalogue":
        """The same with the outfits and questions of one template alone."""
        mask = sum(1 << slot for slot in template)

        def only(outfits: Outfits) -> Outfits:
            rows = template_masks(outfits.items) == mask
            return Outfits(outfits.users[rows], outfits.items[rows])

        splits = {
            name: Split(
                name,
                only(part.positives),
                {kind: only(outfits) for kind, outfits in part.negatives.items()},
            )
            for name, part in self.splits.items()
        }
        fitb = {}
        for name, questions in self.fitb.items():
            rows = template_masks(questions.items[:, 0]) == mask
            fitb[name] = Questions(questions.users[rows], questions.items[rows])
        return dataclasses.replace(self, splits=splits, fitb=fitb)

    def global_ids(
        self, items: Int[np.ndarray, "*any s"]
    ) -> Int32[np.ndarray, "*any s"]:
        """Item ids within a category to ids in one numbering of all items.

        Args:
          items: ids within the category of the slot, which is the last axis; -1, which
            stays -1, in a slot that a template lacks.
        Raises:
          ValueError: the last axis does not have one entry per slot, or an id is out
            of range.
        """
        if items.shape[-1] != len(self.slots):
            raise InputError(
                f"items {items.shape} must end in one id for each of the "
                f"{len(self.slots)} slots {self.slot_names}"
            )
        starts = np.array([self.offsets[c] for c in self.slots], np.int32)
        sizes = np.array([len(self.names[c]) for c in self.slots])
        needed = set.intersection(*map(set, self.templates))
        lowest = [0 if slot in needed else -1 for slot in range(len(self.slots))]
        if ((items < lowest) | (items >= sizes)).any():
            raise InputError(
                f"items {items.min()} to {items.max()}: expected ids within the "
                f"category of the slot, of which there are {sizes.tolist()}"
            )
        return np.where(items < 0, -1, items + starts).astype(np.int32)

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The category name of each slot, as in the CSV header after `user`."""
        return tuple(self.categories[c] for c in self.slots)

    def item_names(self) -> tuple[str, ...]:
        """Image file names of all items, by global id."""
        return tuple(itertools.chain.from_iterable(self.names))

    def split_items(self, split: str) -> tuple[Int32[np.ndarray, " _"], ...]:
        """Ids of the items in a split's positives, per category, sorted, each once.

        Raises:
          KeyError: the data has no such split.
        """
        if split not in self.splits:
            raise MissingKeyError(
                f"no split {split!r} in {sorted(self.splits)} of {self.root}"
            )
        return items_by_category(self.splits[split].positives.items, self.slots)


def template_masks(items: Int[np.ndarray, "*n s"]) -> Int64[np.ndarray, "*n"]:
    """Which slots of each outfit hold an item, as bits of a number: slot 0 is 1.

    >>> template_masks(np.array([[7, 0, 2], [7, -1, 2]]))
    array([7, 5])
    """
    return (items >= 0) @ (1 << np.arange(items.shape[-1]))


def templates_of(
    tables: Iterable[Int[np.ndarray, "_n s"]],
) -> tuple[tuple[int, ...], ...]:
    """The sets of slots that outfits fill, each once, sorted.

    >>> templates_of([np.array([[7, 0, 2], [7, -1, 2]]), np.array([[1, 1, 1]])])
    ((0, 1, 2), (0, 2))
    """
    masks = {mask for items in tables for mask in np.unique(template_masks(items))}
    return tuple(
        sorted(
            tuple(slot for slot in range(int(mask).bit_length()) if mask >> slot & 1)
            for mask in masks
        )
    )


def items_by_category(
    items: Int[np.ndarray, "n s"], slots: tuple[int, ...]
) -> tuple[Int32[np.ndarray, " _"], ...]:
    """Ids of the items of outfits, per category, sorted, each once.

    Args:
      items: ids within the category of the slot, -1 where there is none.
      slots: the category of each slot.
    """
    there = (
        np.unique(items[:, np.array(slots) == category])
        for category in range(max(slots) + 1)
    )
    return tuple(ids[ids >= 0].astype(np.int32) for ids in there)


def stored_outfits(catalogue: Catalogue) -> Int[np.ndarray, "n s"]:
    """All positives of a data set, each outfit once, by its items; the row is its id."""
    return np.unique(
        np.concatenate([part.positives.items for part in catalogue.splits.values()]),
        axis=0,
    )


def name_fault(name: str) -> str | None:
    """What forbids `name` as the name of an image, or None if nothing does.

    A name becomes a file name and a database key, and must not lead out of its
    folder.
    """
    if not name:
        return "is empty"
    if "/" in name or "\\" in name:
        return "has a path separator"
    if name in (".", ".."):
        return "is a folder"
    if not name.isprintable():
        if re.search(r"[\x00-\x1f\x7f]", name):
            return "has a control character"
        if re.search(r"[\ud800-\udfff]", name):
            return "is not valid Unicode"
    if len(name.encode()) > 255:
        return "is longer than 255 bytes"
    return None
