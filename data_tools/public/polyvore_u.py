"""Polyvore-U as its authors publish it on the hub, in the layout that training reads.

A variant there is `items.json`, the image names of each category, and tables without a
header: `{train,valid,test}_{pos,neg}` and `test_fitb`. A row is an outfit: user, number of
items, items and their categories, the last two padded with -1 to the same length.
Source: polyvore-u/convert_tuples.py of github.com/lzcn/outfit-datasets.
"""

import shutil
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from fhn_jax.data.catalogue import name_fault
from fhn_jax.data.tables import write_names, write_table
from fhn_jax.errors import InputError
from fhn_jax.files import read_json, read_text

CATEGORIES = ("top", "bottom", "shoe")
_NAMES = {
    f"{theirs}_{kind}": f"tuples_{split}_{ending}"
    for theirs, split in (("train", "train"), ("valid", "val"), ("test", "test"))
    for kind, ending in (("pos", "posi"), ("neg", "nega"))
}
_CANDIDATES = 4
_REMEDY = "is it another layout? Give the revision that has this one: --revision"


def write_variant(source: Path, target: Path) -> None:
    """Writes a variant.

    Args:
      source: the authors' folder; files of the layout that training reads are copied.
      target: an empty folder.
    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is not as expected.
    """
    if (
        not (source / "items.json").is_file()
        and (source / "tuples_train_posi").is_file()
    ):
        for path in source.iterdir():
            if path.is_file():
                shutil.copyfile(path, target / path.name)
        return
    path = source / "items.json"
    lists = read_json(path, list, _REMEDY)
    if len(lists) != len(CATEGORIES):
        raise InputError(
            f"{path} has {len(lists)} lists; expected those of {', '.join(CATEGORIES)}"
        )
    for category, names in zip(CATEGORIES, lists, strict=True):
        for name in names if isinstance(names, list) else [names]:
            fault = name_fault(name) if isinstance(name, str) else "is no text"
            if fault:
                raise InputError(f"{path}: the {category} {str(name)[:80]!r} {fault}")
        write_names(target / f"image_list_{category}", names)
    tables = {
        ours: _read(source / theirs, [len(names) for names in lists])
        for theirs, ours in _NAMES.items()
        if not theirs.endswith("neg") or (source / theirs).is_file()
    }
    if (source / "test_fitb").is_file():
        questions = _read(source / "test_fitb", [len(names) for names in lists])
        if len(questions) % _CANDIDATES:
            raise InputError(
                f"{source / 'test_fitb'} has {len(questions):,} rows; expected "
                f"{_CANDIDATES} for each question"
            )
        tables["fill_in_blank_test"] = questions
    # Of two tops the second may be absent; that is how training knows such variants.
    two = any((rows[:, 2] >= 0).any() for rows in tables.values())
    header = ["user", "top", *(["top"] if two else []), "bottom", "shoe"]
    for name, rows in tables.items():
        rows = rows if two else np.delete(rows, 2, axis=1)
        several = 1
        if name.startswith("fill"):
            several = _CANDIDATES
            rows = rows.reshape(len(rows) // several, -1)
        write_table(target / name, ",".join(header * several), rows)


def _read(path: Path, sizes: list[int]) -> Int64[np.ndarray, "n 5"]:
    """A table of outfits: user, top, second top or -1, bottom and shoe."""
    lines = read_text(path, _REMEDY).split()
    try:
        rows = np.array([line.split(",") for line in lines]).astype(np.int64)
        width = (rows.shape[1] - 2) // 2
        if rows.shape[1] != 2 + 2 * width or width not in (3, 4):
            raise ValueError("expected 8 or 10 numbers a row")
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(
            f"{path} is no table of outfits ({error}); {_REMEDY}"
        ) from None
    items, kinds = rows[:, 2 : 2 + width], rows[:, 2 + width :]
    outfits = np.full((len(rows), 5), -1)
    outfits[:, 0] = rows[:, 0]
    for number in range(width):
        kind, item = kinds[:, number], items[:, number]
        for category, size in enumerate(sizes):
            where = kind == category
            if (where & ((item < 0) | (item >= size))).any():
                row = int(np.argmax(where & ((item < 0) | (item >= size))))
                raise InputError(
                    f"{path}:{row + 1}: {CATEGORIES[category]} {item[row]}; expected 0 to "
                    f"{size - 1}"
                )
            column = {0: 1, 1: 3, 2: 4}[category]
            second = where & (outfits[:, column] >= 0)
            outfits[where & ~second, column] = item[where & ~second]
            if category == 0:
                outfits[second, 2] = item[second]
            elif second.any():
                row = int(np.argmax(second))
                raise InputError(f"{path}:{row + 1}: two {CATEGORIES[category]} items")
    lacking = (outfits[:, [1, 3, 4]] < 0).any(axis=1)
    if lacking.any():
        raise InputError(
            f"{path}:{int(np.argmax(lacking)) + 1}: the outfit lacks a top, bottom or shoe"
        )
    return outfits
