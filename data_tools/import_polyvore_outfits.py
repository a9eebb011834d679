"""Imports Polyvore Outfits: outfits without users, for compatibility and blanks.

    fhn-jax import-polyvore-outfits polyvore_outfits data/outfits
    fhn-jax import-polyvore-outfits polyvore_outfits data/disjoint --version disjoint

`polyvore_outfits` is the folder that the authors publish. Everything is liked by the one
user "everybody"; the splits, the incompatible outfits and the questions are the authors'.
docs/data-sets.md says what becomes of them.
"""

import collections
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fhn_jax.data_tools.public.importing import Task, import_set, main_of
from fhn_jax.data_tools.shop.draws import CANDIDATES
from fhn_jax.data_tools.shop.summary import Summary

from fhn_jax.errors import InputError
from fhn_jax.files import read_json, read_text
from fhn_jax.program import Arguments, run_program

VERSIONS = ("nondisjoint", "disjoint")
USER = "everybody"
# Slot → the authors' semantic category.
SLOTS = {
    **{"top": "tops", "bottom": "bottoms", "dress": "all-body"},
    **{"outerwear": "outerwear", "shoe": "shoes", "bag": "bags", "hat": "hats"},
    **{"scarf": "scarves", "jewellery": "jewellery", "sunglasses": "sunglasses"},
    "accessory": "accessories",
}
_SLOT_OF = {category: slot for slot, category in SLOTS.items()}
_METADATA = "polyvore_item_metadata.json"
_SPLITS = {"train": "train", "val": "valid", "test": "test"}
_WHOLE = "download it again"

# Slot → item.
_Outfit = dict[str, str]


def import_polyvore_outfits(
    source: str | os.PathLike,
    root: str | os.PathLike,
    *,
    version: str = VERSIONS[0],
    **options: Any,
) -> Summary:
    """Makes a data root of Polyvore Outfits.

    Args:
      source: the folder with the metadata of the items, and a folder of each version.
      root: the data root to make.
      version: of the splits: "nondisjoint"; or "disjoint", of no item in common.
      **options: as of `import_catalogue`.
    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged, or too much of it is of no use.
    """
    if version not in VERSIONS:
        raise InputError(f"version={version!r}; expected one of {', '.join(VERSIONS)}")

    def read(task: Task) -> Mapping[str, Any]:
        return _Reader(task, version).read()

    return import_set(read, Path(source), Path(root), **options)


class _Reader:
    """Reads a version of the set."""

    def __init__(self, task: Task, version: str):
        self._task, self._version = task, version
        (path,) = task.find(_METADATA)
        self._items = read_json(path, dict, _WHOLE)
        # "SET_INDEX", which the questions call items by → item.
        self._names: dict[str, str] = {}
        self._taken: set[tuple[str, ...]] = set()
        self._masks: set[tuple[str, ...]] = set()

    def read(self) -> Mapping[str, Any]:
        """The tables of the set."""
        outfits, negatives, questions = [], [], []
        sets = {split: self._read_sets(theirs) for split, theirs in _SPLITS.items()}
        for split, theirs in _SPLITS.items():
            found = self._positives(f"{theirs}.json", sets[split])
            if split != "train":
                found, wrong = self._pair(found, self._incompatible(theirs))
                negatives += _rows(split, wrong)
            outfits += [
                {"outfit_id": name, **row}
                for (name, _), row in zip(
                    found, _rows(split, [o for _, o in found]), strict=True
                )
            ]
            self._masks |= {tuple(outfit) for _, outfit in found}
        for split, theirs in list(_SPLITS.items())[1:]:
            questions += _rows(split, self._questions(theirs))
        used = {
            item for row in (*outfits, *negatives, *questions) for item in row.values()
        }
        items = [self._item(name) for name in self._items if name in used]
        tables = {"items": items, "outfits": outfits, "negatives": negatives}
        tables |= {"questions": questions} if questions else {}
        shop: dict[str, Any] = {}
        for name, rows in tables.items():
            shop[name] = self._task.work / f"{name}.jsonl"
            with open(shop[name], "w", encoding="utf-8") as file:
                file.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
        catalogue = {
            "slots": {slot: [category] for slot, category in SLOTS.items()},
            "templates": [{"slots": list(mask)} for mask in sorted(self._masks)],
        }
        return shop | {"catalogue": catalogue}

    def _read_sets(self, split: str) -> list[tuple[str, list[str]]]:
        """Id and items of each outfit of a split; fills `names`."""
        file = f"{split}.json"
        (path,) = self._task.find(f"{self._version}/{file}")
        sets = read_json(path, list, _WHOLE)
        found = []
        for row, each in enumerate(sets, 1):
            try:
                own = str(each["set_id"])
                pieces = [(int(p["index"]), str(p["item_id"])) for p in each["items"]]
            except (KeyError, TypeError, ValueError):
                self._leave_out(file, row, each, "no outfit of set_id and items")
                continue
            self._names |= {f"{own}_{index}": item for index, item in pieces}
            found.append((own, [item for _, item in pieces]))
        self._task.left_out.check(file, len(sets), self._task.max_quarantine)
        return found

    def _positives(
        self, file: str, sets: Iterable[tuple[str, list[str]]]
    ) -> list[tuple[str, _Outfit]]:
        """The outfits of a split that no earlier one is equal to."""
        found = []
        for own, items in sets:
            outfit = self._outfit(file, own, items)
            if outfit is None:
                continue
            key = tuple(sorted(outfit.values()))
            if key in self._taken:
                self._leave_out(file, 0, own, "an earlier outfit is the same")
                continue
            self._taken.add(key)
            found.append((own, outfit))
        return found

    def _outfit(self, file: str, own: str, items: Iterable[str]) -> _Outfit | None:
        """The first item of each slot; None if they are fewer than two."""
        outfit: _Outfit = {}
        for item in items:
            slot = self._slot(item)
            if slot is None:
                self._leave_out(file, 0, own, f"an item has no known category: {item}")
                return None
            if slot in outfit:
                reason = f"an item of the outfit, which has another {slot}"
                self._leave_out(file, 0, item, reason)
            else:
                outfit[slot] = item
        if len(outfit) < 2:
            self._leave_out(file, 0, own, "the outfit has fewer than two categories")
            return None
        return {slot: outfit[slot] for slot in SLOTS if slot in outfit}

    def _slot(self, item: str) -> str | None:
        about = self._items.get(item)
        category = about.get("semantic_category") if isinstance(about, dict) else None
        return _SLOT_OF.get(category) if isinstance(category, str) else None

    def _incompatible(self, split: str) -> list[_Outfit]:
        """The outfits that the authors mixed at random."""
        file = f"compatibility_{split}.txt"
        (path,) = self._task.find(f"{self._version}/{file}")
        lines = read_text(path, _WHOLE).splitlines()
        found = []
        for row, line in enumerate(lines, 1):
            label, *names = line.split() or [""]
            items = [self._names.get(name, "") for name in names]
            if label not in ("0", "1") or not all(items):
                self._leave_out(file, row, line, "no label and items of known outfits")
            elif label == "0":
                outfit = self._outfit(file, f"line {row}", items)
                if outfit is not None:
                    found.append(outfit)
        self._task.left_out.check(file, len(lines), self._task.max_quarantine)
        return found

    def _pair(
        self, positives: list[tuple[str, _Outfit]], wrong: list[_Outfit]
    ) -> tuple[list[tuple[str, _Outfit]], list[_Outfit]]:
        """A negative of the same slots for each positive, in the order of the file."""
        by_slots: dict[tuple[str, ...], list[_Outfit]] = collections.defaultdict(list)
        for outfit in wrong:
            if tuple(sorted(outfit.values())) not in self._taken:
                by_slots[tuple(outfit)].append(outfit)
        turn: collections.Counter[tuple[str, ...]] = collections.Counter()
        kept, negatives = [], []
        for own, outfit in positives:
            slots = tuple(outfit)
            if not by_slots[slots]:
                self._leave_out(
                    "compatibility", 0, own, "no incompatible one is like it"
                )
                continue
            negatives.append(by_slots[slots][turn[slots] % len(by_slots[slots])])
            turn[slots] += 1
            kept.append((own, outfit))
        rest = sum(max(0, len(some) - turn[s]) for s, some in by_slots.items())
        if rest:
            what = f"{rest:,} incompatible outfits"
            self._leave_out("compatibility", 0, what, "more than there are positives")
        return kept, negatives

    def _questions(self, split: str) -> list[_Outfit]:
        """Candidates, the answer first, of each question."""
        file = f"fill_in_blank_{split}.json"
        (path,) = self._task.find(f"{self._version}/{file}")
        questions = read_json(path, list, _WHOLE)
        found = []
        for row, each in enumerate(questions, 1):
            reason = self._question(file, row, each, found)
            if reason:
                self._leave_out(file, row, each, reason)
        return found

    def _question(
        self, file: str, row: int, each: Any, found: list[_Outfit]
    ) -> str | None:
        """Adds the candidates of a question, or returns why it is left out."""
        try:
            given, answers = map(list, (each["question"], each["answers"]))
            own = given[0].rpartition("_")[0]
            # The answer is of the question's outfit, the others are of other outfits.
            answers.sort(key=lambda name: name.rpartition("_")[0] != own)
            items = [self._names[name] for name in given]
            wanted = [self._names[name] for name in answers]
        except (KeyError, TypeError, IndexError, AttributeError):
            return "no question and answers of known outfits"
        slots = {self._slot(item) for item in wanted}
        right = [name.rpartition("_")[0] == own for name in answers]
        if len(set(wanted)) != CANDIDATES or right != [
            True,
            *[False] * (CANDIDATES - 1),
        ]:
            return f"expected {CANDIDATES} answers, one of them right"
        if len(slots) > 1 or None in slots:
            return "the answers are of several categories"
        slot = str(slots.pop())
        rest = [item for item in items if self._slot(item) != slot]
        outfit = self._outfit(file, f"question {row}", [wanted[0], *rest])
        if outfit is None:
            return "the rest of the outfit is of no use"
        if tuple(outfit) not in self._masks:
            return "no outfit has its categories"
        found += [outfit | {slot: item} for item in wanted]
        return None

    def _item(self, name: str) -> dict[str, str]:
        about = self._items[name]
        return {
            "id": name,
            "category": about["semantic_category"],
            "title": str(about.get("title") or about.get("url_name") or ""),
            "category_id": str(about.get("category_id") or ""),
        }

    def _leave_out(self, file: str, row: int, what: object, reason: str) -> None:
        self._task.left_out.add(f"{self._version}/{file}", row, what, reason)


def _rows(split: str, outfits: Iterable[_Outfit]) -> list[dict[str, str]]:
    return [{"user": USER, "split": split, **outfit} for outfit in outfits]


def _flags(parser: Arguments) -> None:
    parser.add_argument(
        "--version",
        choices=VERSIONS,
        default=VERSIONS[0],
        help="of the splits; disjoint has no item in two of them (default: %(default)s)",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    main_of(
        import_polyvore_outfits,
        "import-polyvore-outfits",
        __doc__,
        arguments,
        flags=_flags,
    )


if __name__ == "__main__":
    run_program(main)
