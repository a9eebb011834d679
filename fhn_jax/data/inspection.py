"""All that can be said about a data set before anything is trained on it."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fhn_jax.data.audit import LEVELS, Finding, Labels, by_level, outfit_findings
from fhn_jax.data.catalogue import Catalogue, template_masks
from fhn_jax.data.item_audit import ItemAudit, item_audit, read_labels
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.records import Progress
from fhn_jax.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Counts to show.

    Attributes:
      title: of the table.
      header: of the columns.
      rows: a name, and a count for each further column.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[tuple[str, Sequence[int]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Inspection:
    """What was found in a data set.

    Attributes:
      findings: the worst first.
      items: what was seen of items and images.
      full: whether every image was decoded.
    """

    catalogue: Catalogue
    labels: Labels
    findings: Sequence[Finding]
    items: ItemAudit
    full: bool

    def count(self, level: str) -> int:
        """The number of findings of a level."""
        return sum(finding.level == level for finding in self.findings)

    @property
    def verdict(self) -> str:
        """The findings in a few words, such as "1 error, 2 warnings and 0 notes"."""
        counts = [(self.count(level), level) for level in LEVELS]
        words = [f"{n} {level}{'' if n == 1 else 's'}" for n, level in counts]
        return f"{', '.join(words[:-1])} and {words[-1]}"


def inspect_data(
    root: str | os.PathLike,
    variant: str | None = None,
    *,
    full: bool = False,
    progress: Progress | None = None,
) -> Inspection:
    """Reads a data set and looks at everything that is in it.

    Args:
      root: the data root.
      variant: of the outfits; not needed where there is one alone.
      full: decode every image, see `item_audit`.
      progress: called with the number of images done, and of all.
    Raises:
      FileNotFoundError, ValueError: as `read_catalogue`, or there are several variants.
    """
    root = Path(root)
    catalogue = read_catalogue(root, variant or _only_variant(root))
    labels, of_tables = read_labels(root, catalogue)
    items = item_audit(root, catalogue, labels, full=full, progress=progress)
    outfits = outfit_findings(catalogue, labels)
    findings = by_level([*of_tables, *outfits, *items.findings])
    return Inspection(catalogue, labels, findings, items, full)


def _only_variant(root: Path) -> str:
    there = sorted(path.name for path in root.glob("tuples_*") if path.is_dir())
    names = [name.removeprefix("tuples_") for name in there]
    if len(names) > 1:
        raise InputError(
            f"{root} has the variants {', '.join(names)}; choose one with --variant"
        )
    return names[0] if names else "VARIANT"


def tables(catalogue: Catalogue) -> list[Table]:
    """Counts per split, per category and, if there are several, per template."""
    splits = catalogue.splits
    train = catalogue.split_items("train")
    of_splits, items = [], {}
    for name, part in splits.items():
        items[name] = catalogue.split_items(name)
        new = sum(
            len(np.setdiff1d(a, b)) for a, b in zip(items[name], train, strict=False)
        )
        negatives = {kind: len(each) for kind, each in part.negatives.items()}
        questions = catalogue.fitb.get(name)
        of_splits.append(
            (
                name,
                (
                    len(part.positives),
                    len(np.unique(part.positives.users)),
                    sum(map(len, items[name])),
                    new if name != "train" else 0,
                    negatives.get("random", 0),
                    negatives.get("hard", 0),
                    0 if questions is None else len(questions),
                ),
            )
        )
    header = ["", "outfits", "users", "items", "new items", "random negatives"]
    found = [Table("Splits", [*header, "hard negatives", "questions"], of_splits)]
    of_categories = [
        (
            category,
            (
                len(catalogue.names[number]),
                *(len(worn[number]) for worn in items.values()),
            ),
        )
        for number, category in enumerate(catalogue.categories)
    ]
    header = ["", "items", *(f"worn in {name}" for name in splits)]
    found.append(Table("Categories", header, of_categories))
    if len(catalogue.templates) > 1:
        masks = {n: template_masks(part.positives.items) for n, part in splits.items()}
        of_templates = []
        for template in catalogue.templates:
            mask = sum(1 << slot for slot in template)
            counts = [int((each == mask).sum()) for each in masks.values()]
            of_templates.append((catalogue.template_name(template), counts))
        header = ["", *(f"{name} outfits" for name in splits)]
        found.append(Table("Templates", header, of_templates))
    return found
