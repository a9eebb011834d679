"""What is wrong or odd about a data set, though all of its files can be read.

Each `Finding` has a level: an error makes training fail or its figures mislead, a warning
makes them better or worse than they should be, a note is good to know. The findings about
outfits (`outfit_findings`) need no image and are shown before every training; those about
items are in `item_audit`. Their counts for one split are in results.json (`audit`).
"""

import bisect
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt64

from fhn_jax.data.catalogue import NEGATIVES, Catalogue, Outfits, templates_of
from fhn_jax.data.item_names import ItemNames, printable
from fhn_jax.data.negatives import outfit_keys

LEVELS = ("error", "warning", "note")
EXAMPLES = 5
# Users with fewer train outfits are hardly learned.
FEW_LIKES = 5
# A category with less than this share of the items of the largest is rare.
RARE = 0.05

# What each count of `audit` is, for people; {split} is the split that is evaluated on.
_COUNTED = {
    "users_without_outfits": "users without a {split} outfit, left out of all means",
    "train_overlaps": "{split} outfits that are train outfits of the same user",
    "false_negatives": "{split} negatives that are outfits of the same user",
    "duplicates": "outfits that are listed again for the same user in the same split",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that is wrong or odd.

    Attributes:
      kind: its name, such as "false_negatives".
      level: one of `LEVELS`.
      what: what was counted, a plural: "items without an image".
      count: how many there are.
      total: how many of these there could be; 0 where that says nothing.
      examples: the first few.
      remedy: what to do, a sentence.
      items: pictures that show it: pairs of global item ids.
    """

    kind: str
    level: str
    what: str
    count: int
    total: int
    examples: tuple[str, ...]
    remedy: str
    items: tuple[tuple[int, int], ...] = ()

    @property
    def has_more(self) -> bool:
        """Whether there are others than the examples."""
        return self.count > len(self.examples) == EXAMPLES

    def __str__(self) -> str:
        share = f" of {self.total:,}" if self.total else ""
        return f"{self.what}: {self.count:,}{share}"


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """How findings name items and users: by the shop's ids where there are any.

    Attributes:
      catalogue: theirs.
      names: of its items and users.
    """

    catalogue: Catalogue
    names: ItemNames

    @classmethod
    def plain(cls, catalogue: Catalogue) -> "Labels":
        """Images and numbers alone."""
        sizes = tuple(map(len, catalogue.names))
        return cls(catalogue, ItemNames(catalogue.categories, sizes, catalogue.names))

    def item(self, number: int) -> str:
        """The id of an item, or its image name, by global id."""
        category, item = self._place(number)
        own = self.names.id(category, item)
        return self.catalogue.names[category][item] if own is None else printable(own)

    def title(self, number: int) -> str:
        """The title of an item, else its id or image name, by global id."""
        return self.names.title(*self._place(number)) or self.item(number)

    def user(self, number: int) -> str:
        """A user for people."""
        return f"user {self.names.user(number)}"

    def row(self, name: str, outfits: Outfits, row: int) -> str:
        """An outfit of a table: its file and line, its user and its items."""
        worn = dict.fromkeys(
            self.item(number)
            for number in self.catalogue.global_ids(outfits.items[row]).tolist()
            if number >= 0
        )
        user = self.user(int(outfits.users[row]))
        return f"tuples_{name}:{row + 2}: {user}: {' + '.join(worn)}"

    def _place(self, number: int) -> tuple[int, int]:
        category = bisect.bisect_right(self.catalogue.offsets, number) - 1
        return category, number - self.catalogue.offsets[category]


def audit(catalogue: Catalogue, split: str = "test") -> dict[str, Any]:
    """Counts what makes figures of a split better or worse than they should be.

    Returns:
      "users_without_outfits": users without a positive in the split;
      "train_overlaps": positives of the split that are train positives of their user;
      "false_negatives": negatives of the split, of all kinds, that are positives of
      their user in any split; "duplicates": positives of all splits that repeat an
      earlier one of their user in the same split. Where there are several templates,
      "by_template" has the same for the outfits of each, by its name, and "positives",
      their number in each split.
    """
    counts: dict[str, Any] = _counts(catalogue, split)
    if len(catalogue.templates) > 1:
        counts["by_template"] = {}
        for template in catalogue.templates:
            of_template = catalogue.of_template(template)
            positives = {
                name: len(part.positives) for name, part in of_template.splits.items()
            }
            counts["by_template"][catalogue.template_name(template)] = {
                "positives": positives,
                **_counts(of_template, split),
            }
    return counts


def describe(counts: Mapping[str, Any], split: str = "test") -> str:
    """The counts of `audit` that are not 0, in a line; "" if there are none.

    >>> describe({"users_without_outfits": 0, "train_overlaps": 3})
    'test outfits that are train outfits of the same user: 3'
    """
    return "; ".join(
        f"{what.format(split=split)}: {counts[name]:,}"
        for name, what in _COUNTED.items()
        if counts.get(name)
    )


def outfit_findings(
    catalogue: Catalogue, labels: Labels | None = None
) -> list[Finding]:
    """What is wrong or odd about outfits, users and questions, the worst first.

    Args:
      labels: of the examples; by default they are named by images and numbers.
    """
    tables = _Tables(catalogue)
    labels = labels or Labels.plain(catalogue)
    return by_level(
        found
        for check in (_splits, _negatives, _questions, _users, _items)
        for found in check(tables, labels)
    )


def warnings_of(catalogue: Catalogue) -> list[str]:
    """Lines for whoever is about to train: the findings that are not only notes."""
    findings = [f for f in outfit_findings(catalogue) if f.level != "note"]
    where = f"tuples_{catalogue.variant} in {catalogue.root}"
    lines = [f"{finding.level}: {where}: {finding}\n" for finding in findings]
    if lines:
        command = f"fhn-jax inspect {catalogue.root} --variant {catalogue.variant}"
        lines.append(f"`{command}` shows which, and what to do\n")
    return lines


def by_level(findings: Iterable[Finding]) -> list[Finding]:
    """Findings with something in them, the worst first."""
    there = [finding for finding in findings if finding.count]
    return sorted(there, key=lambda finding: LEVELS.index(finding.level))


class _Tables:
    """The outfits of a catalogue as numbers to compare."""

    def __init__(self, catalogue: Catalogue):
        self.catalogue = catalogue
        self.positives = {
            name: self.keys(part.positives) for name, part in catalogue.splits.items()
        }

    def keys(self, outfits: Outfits, own: bool = True) -> UInt64[np.ndarray, " n"]:
        """One integer for a user and an outfit, whatever the order of two tops.

        Args:
          own: False for the outfit alone, whose user is not looked at.
        """
        catalogue = self.catalogue
        items = outfits.items.copy()
        for category in set(catalogue.slots):
            same = [s for s, other in enumerate(catalogue.slots) if other == category]
            if len(same) > 1:
                items[:, same] = np.sort(items[:, same], axis=1)
        users = outfits.users if own else np.zeros_like(outfits.users)
        sizes = [len(catalogue.names[category]) for category in catalogue.slots]
        table = np.column_stack([users, items])
        return outfit_keys(table, [catalogue.num_users, *sizes])

    @functools.cached_property
    def liked(self) -> UInt64[np.ndarray, " n"]:
        """The keys of all positives."""
        return np.unique(np.concatenate(list(self.positives.values())))

    @functools.cached_property
    def liked_by_anybody(self) -> UInt64[np.ndarray, " n"]:
        """The keys of all outfits that are positives, without their users."""
        parts = self.catalogue.splits.values()
        return np.unique(np.concatenate([self.keys(p.positives, False) for p in parts]))

    def absent_users(self, split: str) -> Int[np.ndarray, " u"]:
        """Users without a positive in a split."""
        there = self.catalogue.splits[split].positives.users
        return np.setdiff1d(np.arange(self.catalogue.num_users), there)

    def overlaps(self, split: str, other: str) -> Bool[np.ndarray, " n"]:
        """Which positives of a split are positives of their user in another one."""
        return np.isin(self.positives[split], self.positives[other])

    def false_negatives(self, split: str) -> dict[str, Bool[np.ndarray, " _"]]:
        """Which negatives of each kind are positives of their user in any split."""
        negatives = self.catalogue.splits[split].negatives
        return {
            kind: _among(self.keys(outfits), self.liked)
            for kind, outfits in negatives.items()
        }

    def repeats(self, split: str) -> Bool[np.ndarray, " n"]:
        """Which positives repeat an earlier one of their user in the same split."""
        keys = self.positives[split]
        order = np.argsort(keys, kind="stable")
        repeats = np.zeros(len(keys), bool)
        repeats[order[1:]] = keys[order[1:]] == keys[order[:-1]]
        return repeats


def _among(keys: UInt64[np.ndarray, " n"], known: UInt64[np.ndarray, " m"]):
    """Which keys are among sorted ones; faster than sorting millions of keys too."""
    if not len(known):
        return np.zeros(len(keys), bool)
    return known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys


def _counts(catalogue: Catalogue, split: str) -> dict[str, int]:
    tables = _Tables(catalogue)
    overlaps = tables.overlaps(split, "train").sum() if split != "train" else 0
    return {
        "users_without_outfits": len(tables.absent_users(split)),
        "train_overlaps": int(overlaps),
        "false_negatives": sum(
            int(found.sum()) for found in tables.false_negatives(split).values()
        ),
        "duplicates": sum(int(tables.repeats(name).sum()) for name in catalogue.splits),
    }


def _rows(
    labels: Labels, name: str, outfits: Outfits, found: Bool[np.ndarray, " n"]
) -> list[str]:
    rows = np.flatnonzero(found)[:EXAMPLES].tolist()
    return [labels.row(name, outfits, row) for row in rows]


def _splits(tables: _Tables, labels: Labels) -> Iterator[Finding]:
    """Outfits that are in two splits, or twice in one; items that are in two."""
    splits = tables.catalogue.splits
    names = [name for name in ("train", "val", "test") if name in splits]
    for number, split in enumerate(names):
        positives = splits[split].positives
        for other in names[:number]:
            found = tables.overlaps(split, other)
            yield Finding(
                "overlaps",
                "error",
                f"{split} outfits that are {other} outfits of the same user",
                int(found.sum()),
                len(found),
                tuple(_rows(labels, f"{split}_posi", positives, found)),
                f"Remove these rows from tuples_{split}_posi, with their negatives: "
                "what was learned by heart is no test.",
            )
        found = tables.repeats(split)
        yield Finding(
            "duplicates",
            "warning",
            f"{split} outfits that are listed again for the same user",
            int(found.sum()),
            len(found),
            tuple(_rows(labels, f"{split}_posi", positives, found)),
            "Keep one row of each, with its negatives: they count twice.",
        )
        if split == "train":
            continue
        seen, every = _seen_items(tables.catalogue, split)
        yield Finding(
            "seen_items",
            "note",
            f"{split} items that training has seen too",
            len(seen),
            every,
            tuple(labels.item(number) for number in seen[:EXAMPLES]),
            "Figures are about new outfits of known items; where new items matter, "
            "split by items.",
        )


def _seen_items(catalogue: Catalogue, split: str) -> tuple[list[int], int]:
    """Global ids of the items of a split that are in train positives, and how many all are."""
    own, train = catalogue.split_items(split), catalogue.split_items("train")
    seen = [
        start + np.intersect1d(mine, trained)
        for start, mine, trained in zip(catalogue.offsets, own, train, strict=False)
    ]
    return np.concatenate(seen).tolist(), sum(map(len, own))


def _negatives(tables: _Tables, labels: Labels) -> Iterator[Finding]:
    """Negatives that are positives."""
    for split, part in tables.catalogue.splits.items():
        found = tables.false_negatives(split)
        yield Finding(
            "false_negatives",
            "warning" if split == "train" else "error",
            _COUNTED["false_negatives"].format(split=split),
            sum(int(each.sum()) for each in found.values()),
            sum(map(len, found.values())),
            tuple(
                text
                for kind, each in found.items()
                for text in _rows(
                    *(labels, f"{split}_{NEGATIVES[kind]}", part.negatives[kind], each)
                )
            )[:EXAMPLES],
            "Train with train.negatives=random_online, which never draws them."
            if split == "train"
            else "Draw others: a model that is right about them loses points.",
        )
        if "random" not in part.negatives:
            continue
        outfits = part.negatives["random"]
        others = _among(tables.keys(outfits, own=False), tables.liked_by_anybody)
        # A single item is nearly always somebody's.
        others &= ((outfits.items >= 0).sum(axis=1) > 1) & ~found["random"]
        yield Finding(
            "liked_by_others",
            "note",
            f"random {split} negatives that are outfits of other users",
            int(others.sum()),
            len(others),
            tuple(_rows(labels, f"{split}_{NEGATIVES['random']}", outfits, others)),
            "A few do no harm; many make random negatives as hard as hard ones.",
        )


def _questions(tables: _Tables, labels: Labels) -> Iterator[Finding]:
    """Questions without an answer, or with several."""
    for split, questions in tables.catalogue.fitb.items():
        count, candidates, slots = questions.items.shape
        flat = Outfits(
            np.repeat(questions.users, candidates), questions.items.reshape(-1, slots)
        )
        liked = np.isin(tables.keys(flat), tables.liked).reshape(count, candidates)
        for kind, level, what, found, remedy in (
            (
                *("several_answers", "error"),
                f"{split} questions whose wrong candidates are outfits of the user",
                liked[:, 1:].any(axis=1),
                "Make the questions again with `fhn-jax make-fitb`.",
            ),
            (
                *("no_answer", "warning"),
                f"{split} questions whose answer is no outfit of the user",
                ~liked[:, 0],
                "Make the questions again with `fhn-jax make-fitb`.",
            ),
        ):
            rows = np.flatnonzero(found)
            yield Finding(
                kind,
                level,
                what,
                len(rows),
                count,
                tuple(
                    f"fill_in_blank_{split}:{row + 2}: "
                    f"{labels.user(int(questions.users[row]))}"
                    for row in rows[:EXAMPLES].tolist()
                ),
                remedy,
            )


def _users(tables: _Tables, labels: Labels) -> Iterator[Finding]:
    """Users of whom there is little or nothing to learn or to test."""
    catalogue = tables.catalogue
    likes = likes_of_users(catalogue)
    few = np.flatnonzero(likes < FEW_LIKES)
    yield Finding(
        "few_likes",
        "warning",
        f"users with fewer than {FEW_LIKES} train outfits",
        len(few),
        len(likes),
        tuple(f"{labels.user(u)}: {likes[u]}" for u in few[:EXAMPLES].tolist()),
        "Leave them out, and learn them later from their likes as new users.",
    )
    for split in catalogue.splits:
        absent = tables.absent_users(split)
        yield Finding(
            "users_without_outfits",
            "warning",
            _COUNTED["users_without_outfits"].format(split=split),
            len(absent),
            len(likes),
            tuple(labels.user(user) for user in absent[:EXAMPLES].tolist()),
            "Nothing to do, but means are over the other users.",
        )


def likes_of_users(catalogue: Catalogue) -> Int[np.ndarray, " u"]:
    """The number of train positives of each user."""
    users = catalogue.splits["train"].positives.users
    return np.bincount(users, minlength=catalogue.num_users)


def _items(tables: _Tables, labels: Labels) -> Iterator[Finding]:
    """Items that nobody wears, categories and templates of which there is little."""
    catalogue = tables.catalogue
    used = np.zeros(catalogue.num_items, bool)
    for part in catalogue.splits.values():
        numbers = catalogue.global_ids(part.positives.items)
        used[numbers[numbers >= 0]] = True
    unused = np.flatnonzero(~used)
    yield Finding(
        "unused_items",
        "note",
        "items in no outfit of any split",
        len(unused),
        len(used),
        tuple(labels.item(number) for number in unused[:EXAMPLES].tolist()),
        "Nothing to do: they get codes, though no like says anything about them.",
    )
    sizes = np.diff(catalogue.offsets)
    rare = np.flatnonzero(sizes < RARE * sizes.max())
    largest = catalogue.categories[int(sizes.argmax())]
    yield Finding(
        "rare_categories",
        "warning",
        f"categories with less than {RARE:.0%} of the items of {largest}",
        len(rare),
        len(sizes),
        tuple(
            f"{catalogue.categories[c]}: {sizes[c]:,} items"
            for c in rare[:EXAMPLES].tolist()
        ),
        "Add items, or merge the category with another: few are learned from.",
    )
    trained = templates_of([catalogue.splits["train"].positives.items])
    unknown = [t for t in catalogue.templates if t not in trained]
    yield Finding(
        "untrained_templates",
        "warning",
        "templates of val or test outfits that no train outfit has",
        len(unknown),
        len(catalogue.templates),
        tuple(catalogue.template_name(template) for template in unknown[:EXAMPLES]),
        "Train on some of them, or leave them out: their scores were never learned.",
    )
