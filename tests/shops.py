"""Folders of a shop's own files."""

import csv
import json

import numpy as np

CATEGORIES = {"top": "T-Shirts", "bottom": "Jeans", "shoe": "Sneaker"}


def items(each=8, categories=CATEGORIES):
    """Rows of a table of items: so many of each category."""
    return [
        {
            "id": f"{slot[0].upper()}-{number:03}",
            "category": category,
            "title": f"{category} no. {number}",
            "price": f"{number},50",
        }
        for slot, category in categories.items()
        for number in range(each)
    ]


def wide_likes(users=4, each=6, seed=0, sizes=8, slots=tuple(CATEGORIES)):
    """Rows of a table of likes, with a column for each slot; no outfit comes twice."""
    rng = np.random.default_rng(seed)
    rows = {}
    while len(rows) < users * each:
        outfit = tuple(f"{s[0].upper()}-{rng.integers(sizes):03}" for s in slots)
        rows.setdefault(outfit, f"user {len(rows) // each}")
    return [
        {"user": user, **dict(zip(slots, outfit, strict=True))}
        for outfit, user in rows.items()
    ]


def write(folder, encoding="utf-8", **tables):
    """Writes tables, lists of rows, as NAME.csv."""
    folder.mkdir(exist_ok=True)
    for name, rows in tables.items():
        with open(folder / f"{name}.csv", "w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def quarantine(root):
    """What an import left out, in its order."""
    lines = (root / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
