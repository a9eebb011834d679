"""The Polyvore-U layout: read into a typed catalogue, checked throughout; and written.

A data root holds images, text vectors and one folder `tuples_<variant>` for each set
of users: lists of image names per category, and CSV files of outfits. Everything that
later code takes for granted (ids in range, users without gaps, negatives that belong
to their positive) is checked here, once, before any training time is spent. A fault
is an error that names the file and line, what was found, what was expected and what
to do about it.

A row has one column per slot, and -1 where its outfit has no item: outfits may fill
different sets of slots. Only where the header repeats a category does -1 say that the
second item of a category is the first one again.

Nothing here needs an accelerator, an image or tensorflow.
"""

import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int32

from fhn_jax.data.catalogue import (
    NEGATIVES,
    SPLITS,
    Catalogue,
    Outfits,
    Questions,
    Split,
    name_fault,
    template_masks,
)
from fhn_jax.data.tables import (
    DOWNLOAD,
    first_line,
    parse_names,
    parse_table,
    quoted,
    write_table,
)
from fhn_jax.errors import InputError, MissingFileError, UserError

_LAYOUT = (
    "expected the Polyvore-U layout: ROOT/tuples_VARIANT/ with image_list_CATEGORY, "
    "tuples_train_posi, tuples_test_posi and tuples_test_nega, and beside it "
    "ROOT/images/ and ROOT/sentence_vector/semantic.npz"
)
_NOT_TRAINED_ON = ("tuples_test_", "fill_in_blank_")
_REMEDY = (
    "point config.data.root and config.data.variant at your data, or draw the demo "
    "set with `python -m data_tools.make_demo`"
)


def read_catalogue(root: str | os.PathLike, variant: str) -> Catalogue:
    """Reads and checks the outfits of one variant of a data set.

    The val split, hard negatives, train negatives and fill-in-the-blank questions
    may be absent. Every file that is there must be right.

    Args:
      root: the data root.
      variant: reads the folder `tuples_<variant>`.
    Raises:
      FileNotFoundError: the root, the variant or a required file is missing.
      ValueError: a file is empty, cut off or breaks the layout; the text names the
        file and line, what was expected and the remedy.
    """
    root = Path(root)
    while True:
        folder = variant_folder(root, variant)
        identity = folder.stat()
        try:
            catalogue = _read(root, variant, folder)
        except UserError as error:
            catalogue = error
        # An update swaps the root for another.
        if folder.is_dir() and os.path.samestat(folder.stat(), identity):
            if isinstance(catalogue, UserError):
                raise catalogue
            return catalogue


def _read(root: Path, variant: str, folder: Path) -> Catalogue:
    """The catalogue, of files that nobody changes meanwhile; see `read_catalogue`."""
    train = folder / "tuples_train_posi"
    if not train.is_file():
        raise MissingFileError(f"{train} is missing; {_LAYOUT}; {DOWNLOAD}")
    categories, slots = _parse_header(train, first_line(train, train.read_bytes()))
    contents = {path.name: path.read_bytes() for path in _files(folder, categories)}
    checksum, train_checksum = hashlib.sha256(), hashlib.sha256()
    for name, content in contents.items():
        checksum.update(content)
        if not name.startswith(_NOT_TRAINED_ON):
            train_checksum.update(b"%d %s\n" % (len(content), name.encode()) + content)

    names = tuple(
        parse_names(folder / f"image_list_{c}", contents[f"image_list_{c}"])
        for c in categories
    )
    slot_names = tuple(categories[c] for c in slots)
    sizes = tuple(len(names[c]) for c in slots)

    def outfits(name: str) -> Outfits:
        path = folder / name
        table = parse_table(path, contents[name], ("user", *slot_names))
        items = table[:, 1:]
        _check_items(path, items, slot_names, sizes)
        _fill_missing(items, slot_names)
        return Outfits(table[:, 0].astype(np.int32), items.astype(np.int32))

    splits = {}
    num_users = 0
    for split in SPLITS:
        name = f"tuples_{split}_posi"
        if name not in contents:
            continue
        positives = outfits(name)
        if split == "train":
            num_users = _count_users(folder / name, positives.users)
        _check_users(folder / name, positives.users, num_users)
        negatives = {}
        for kind, ending in NEGATIVES.items():
            name = f"tuples_{split}_{ending}"
            if name in contents:
                negatives[kind] = outfits(name)
                _check_negatives(folder / name, negatives[kind], positives, slot_names)
        splits[split] = Split(split, positives, negatives)
    known = _check_slots(folder, splits, slot_names)

    fitb = {}
    for split in ("val", "test"):
        name = f"fill_in_blank_{split}"
        if name in contents:
            fitb[split] = _parse_questions(
                folder / name, contents[name], slot_names, sizes, num_users, known
            )
    is_demo = (root / "DEMO").is_file()
    return Catalogue(
        root=root,
        variant=variant,
        dataset="demo" if is_demo else root.resolve().name,
        num_users=num_users,
        categories=categories,
        slots=slots,
        names=names,
        splits=splits,
        fitb=fitb,
        checksum=checksum.hexdigest(),
        train_checksum=train_checksum.hexdigest(),
    )


def write_outfits(
    path: str | os.PathLike,
    slot_names: Sequence[str],
    users: Int[np.ndarray, " n"],
    outfits: Int[np.ndarray, "n k s"],
) -> None:
    """Writes one outfit per line, the k outfits of each user's row after one another.

    Args:
      path: the file, such as `tuples_train_posi` (k = 1) or `tuples_train_nega`.
      slot_names: the category of each slot.
      users: of each row.
      outfits: item ids within the category of the slot, -1 where there is none.
    """
    rows = np.concatenate([_owners(users, outfits), outfits], axis=2)
    write_table(path, ",".join(("user", *slot_names)), rows.reshape(-1, rows.shape[2]))


def write_questions(
    path: str | os.PathLike,
    slot_names: Sequence[str],
    users: Int[np.ndarray, " q"],
    questions: Int[np.ndarray, "q c s"],
) -> None:
    """Writes one question per line: its candidates side by side, the answer first."""
    rows = np.concatenate([_owners(users, questions), questions], axis=2)
    header = ",".join(("user", *slot_names) * questions.shape[1])
    write_table(path, header, rows.reshape(len(rows), -1))


def _owners(
    users: Int[np.ndarray, " n"], outfits: Int[np.ndarray, "n k s"]
) -> Int[np.ndarray, "n k 1"]:
    """The user of each outfit, as a first column."""
    return np.broadcast_to(users[:, None, None], (*outfits.shape[:2], 1))


def variant_folder(root: Path, variant: str) -> Path:
    """The folder of the tuples of a variant.

    Raises:
      FileNotFoundError: the root or the variant is missing.
      ValueError: `variant` is no part of a folder's name.
    """
    if not root.is_dir():
        raise MissingFileError(
            f"there is no data at {root} ({root.absolute()} is not a folder); "
            f"{_LAYOUT}; {_REMEDY}"
        )
    if name_fault(variant):
        raise InputError(
            f"data variant {variant!r} {name_fault(variant)}; expected VARIANT of a "
            "folder tuples_VARIANT, such as '630'"
        )
    folder = root / f"tuples_{variant}"
    if not folder.is_dir():
        there = sorted(
            path.name.removeprefix("tuples_")
            for path in root.glob("tuples_*")
            if path.is_dir()
        )
        found = f"has the variants {there}" if there else "has no folder tuples_*"
        remedy = "choose one of them with config.data.variant" if there else _REMEDY
        raise MissingFileError(
            f"{folder} is missing: {root} {found}; {_LAYOUT}; {remedy}"
        )
    return folder


def _files(folder: Path, categories: Sequence[str]) -> list[Path]:
    """The files of a variant that are there, by name; all the required ones are."""
    required = [f"image_list_{category}" for category in categories]
    required += ["tuples_train_posi", "tuples_test_posi", "tuples_test_nega"]
    optional = ["fill_in_blank_val", "fill_in_blank_test", "tuples_val_posi"]
    optional += [f"tuples_{s}_{e}" for s in SPLITS for e in NEGATIVES.values()]
    if (folder / "tuples_val_posi").is_file():
        required.append("tuples_val_nega")
    missing = [name for name in required if not (folder / name).is_file()]
    if missing:
        raise MissingFileError(
            f"{folder} lacks {', '.join(missing)}; is the download complete? {_LAYOUT}"
        )
    names = sorted({*required, *(n for n in optional if (folder / n).is_file())})
    for name in names:
        if name.startswith("tuples_val_nega") and "tuples_val_posi" not in names:
            raise MissingFileError(
                f"{folder} has {name} but not tuples_val_posi, the positives they "
                "belong to; is the download complete? Add the one or remove the other"
            )
    return [folder / name for name in names]


def _parse_header(path: Path, line: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Categories and slots from the header of the train positives."""
    fields = line.split(",")
    example = "expected `user,<category>,…` such as `user,top,bottom,shoe`"
    if fields[0] != "user" or len(fields) < 2:
        raise InputError(
            f"{path}:1: the header is {quoted(line)}; {example}; {DOWNLOAD}"
        )
    for field in fields[1:]:
        # Categories become part of file names and of tensor names.
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", field):
            raise InputError(
                f"{path}:1: {quoted(field)} in the header {quoted(line)} is no name "
                f"of a category (letters, digits, _ and -); {example}"
            )
    categories = tuple(dict.fromkeys(fields[1:]))
    runs = [name for name, _ in itertools.groupby(fields[1:])]
    if len(runs) != len(categories):
        twice = next(name for name in categories if runs.count(name) > 1)
        raise InputError(
            f"{path}:1: the slots of category {twice!r} are apart in the header "
            f"{quoted(line)}; slots of one category must be neighbours, as in "
            "`user,top,top,bottom,shoe`"
        )
    return categories, tuple(categories.index(name) for name in fields[1:])


def _check_items(
    path: Path,
    items: Int[np.ndarray, "n s"],
    slot_names: Sequence[str],
    sizes: Sequence[int],
    rows_per_line: int = 1,
) -> None:
    """All item ids in range, and an item in each outfit.

    -1 says that there is none; but where a category has two slots, it may stand only in
    the second one.
    """
    repeated = len(set(slot_names)) < len(slot_names)
    for slot, (name, size) in enumerate(zip(slot_names, sizes, strict=True)):
        column = items[:, slot]
        further = slot > 0 and slot_names[slot - 1] == name
        optional = further or not repeated
        bad = (column < (-1 if optional else 0)) | (column >= size)
        if bad.any():
            row = int(np.argmax(bad))
            line = row // rows_per_line + 2
            remedy = f"use the image_list_{name} that belongs to the tuples"
            if column[row] == -1:
                remedy = (
                    "where the header repeats a category, -1 says that an outfit has no "
                    "further item of it, and may stand only in its second slot"
                )
            raise InputError(
                f"{path}:{line}: item {column[row]} is out of range in column "
                f"{slot + 2} ({name}); expected 0 to {size - 1}, the {size:,} lines of "
                f"image_list_{name}; {remedy}"
            )
    empty = (items < 0).all(axis=1)
    if empty.any():
        line = int(np.argmax(empty)) // rows_per_line + 2
        raise InputError(
            f"{path}:{line}: the outfit has no item, -1 in every column; expected at "
            "least one; drop the row"
        )


def _fill_missing(items: Int[np.ndarray, "n s"], slot_names: Sequence[str]) -> None:
    """Replaces, in place, a missing further item of a category by the first one."""
    for slot in range(1, len(slot_names)):
        if slot_names[slot - 1] == slot_names[slot]:
            absent = items[:, slot] == -1
            items[absent, slot] = items[absent, slot - 1]


def _count_users(path: Path, users: Int32[np.ndarray, " n"]) -> int:
    """Number of users in the train positives, which have no gap."""
    there = np.unique(users)
    if there[0] < 0:
        row = int(np.argmin(users))
        raise InputError(
            f"{path}:{row + 2}: user {users[row]} is negative; expected ids from 0"
        )
    count = int(there[-1]) + 1
    if len(there) != count:
        gaps = [gap for gap, _ in zip(_gaps(there), range(5), strict=False)]
        missing = count - len(there)
        raise InputError(
            f"{path}: {missing:,} user ids have no positive: "
            f"{', '.join(map(str, gaps))}{', …' if missing > 5 else ''}; expected "
            f"every id from 0 to {count - 1}; number the users without gaps"
        )
    return count


def _gaps(there: Int32[np.ndarray, " n"]) -> Iterator[int]:
    """The numbers from 0 that are not in a sorted array, in order."""
    expected = 0
    for user in there.tolist():
        yield from range(expected, user)
        expected = user + 1


def _check_users(path: Path, users: Int32[np.ndarray, " n"], num_users: int) -> None:
    """Every user is one of the train positives'."""
    bad = (users < 0) | (users >= num_users)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path}:{row + 2}: user {users[row]} has no train positive; expected 0 to "
            f"{num_users - 1}, the users of tuples_train_posi; the files are of "
            "different variants, or one is cut off"
        )


def _check_slots(
    folder: Path, splits: Mapping[str, Split], slot_names: Sequence[str]
) -> Int[np.ndarray, " t"]:
    """Every slot is filled by somebody; returns the `template_masks` there are."""
    known = np.unique(
        np.concatenate(
            [np.unique(template_masks(s.positives.items)) for s in splits.values()]
        )
    )
    unused = [
        name for slot, name in enumerate(slot_names) if not (known >> slot & 1).any()
    ]
    if unused:
        raise InputError(
            f"{folder}: no positive of any split has an item of {', '.join(unused)} (-1 "
            "in every row); drop the column from all tables of the variant"
        )
    return known


def _template(mask: np.int64, slot_names: Sequence[str]) -> str:
    """A template for an error text."""
    return "+".join(name for slot, name in enumerate(slot_names) if mask >> slot & 1)


def _check_negatives(
    path: Path, negatives: Outfits, positives: Outfits, slot_names: Sequence[str]
) -> None:
    """The same number of negatives to each positive, with its user and template."""
    ratio, rest = divmod(len(negatives), len(positives))
    if rest or not ratio:
        raise InputError(
            f"{path} has {len(negatives):,} rows; expected a multiple of the "
            f"{len(positives):,} positives, rows k*i to k*i + k - 1 for positive i; "
            f"one of the two files is cut off: {DOWNLOAD}"
        )
    owners = np.repeat(positives.users, ratio)
    bad = negatives.users != owners
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path}:{row + 2}: user {negatives.users[row]}; expected {owners[row]}, "
            f"the user of positive {row // ratio} (line {row // ratio + 2} of the "
            f"positives): rows {ratio}*i to {ratio}*i + {ratio - 1} belong to positive "
            f"i; put the rows in the order of the positives, or {DOWNLOAD}"
        )
    found = template_masks(negatives.items)
    wanted = np.repeat(template_masks(positives.items), ratio)
    bad = found != wanted
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path}:{row + 2}: the outfit is of {_template(found[row], slot_names)}; "
            f"expected {_template(wanted[row], slot_names)}, as of positive "
            f"{row // ratio} (line {row // ratio + 2} of the positives), to which it "
            "belongs; put -1 where the positive has -1, and an item where it has one"
        )


def _parse_questions(
    path: Path,
    content: bytes,
    slot_names: Sequence[str],
    sizes: Sequence[int],
    num_users: int,
    known: Int[np.ndarray, " t"],
) -> Questions:
    """Fill-in-the-blank questions: candidates of one user that differ in one slot.

    Args:
      known: `template_masks` of the positives.
    """
    once = ("user", *slot_names)
    line = first_line(path, content)
    candidates = (line.count(",") + 1) // len(once)
    if candidates < 2 or line != ",".join(once * candidates):
        raise InputError(
            f"{path}:1: the header is {quoted(line)}; expected {','.join(once)!r} "
            f"once for each candidate, side by side, at least twice; {DOWNLOAD}"
        )
    remedy = "drop the question, or remove the file to go without fill in the blank"
    table = parse_table(path, content, once * candidates)
    table = table.reshape(len(table), candidates, len(once))
    users, items = table[:, :, 0], table[:, :, 1:]
    flat = items.reshape(-1, len(slot_names))
    _check_items(path, flat, slot_names, sizes, rows_per_line=candidates)
    several = (users != users[:, :1]).any(axis=1)
    if several.any():
        row = int(np.argmax(several))
        raise InputError(
            f"{path}:{row + 2}: the candidates have the users {users[row].tolist()}; "
            f"expected one user; {remedy}"
        )
    _check_users(path, users[:, 0].astype(np.int32), num_users)
    # Before a missing item is filled in: it repeats another, which may differ.
    differs = (items != items[:, :1]).any(axis=1)
    bad = differs.sum(axis=1) != 1
    if bad.any():
        row = int(np.argmax(bad))
        where = [slot_names[s] for s in np.flatnonzero(differs[row]).tolist()]
        raise InputError(
            f"{path}:{row + 2}: the candidates differ in {len(where)} slots {where}; "
            f"expected exactly one; {remedy}"
        )
    repeats = (items[:, 1:] == items[:, :1]).all(axis=2)
    if repeats.any():
        row, candidate = (int(i) for i in np.argwhere(repeats)[0])
        raise InputError(
            f"{path}:{row + 2}: candidate {candidate + 2} is the answer once more; "
            f"expected a wrong outfit; {remedy}"
        )
    _fill_missing(flat, slot_names)
    masks = template_masks(flat.reshape(items.shape))
    wrong = masks != masks[:, :1]
    if wrong.any():
        row, candidate = (int(i) for i in np.argwhere(wrong)[0])
        raise InputError(
            f"{path}:{row + 2}: candidate {candidate + 1} is of "
            f"{_template(masks[row, candidate], slot_names)}; expected "
            f"{_template(masks[row, 0], slot_names)}, as the answer; {remedy}"
        )
    unknown = ~np.isin(masks[:, 0], known)
    if unknown.any():
        row = int(np.argmax(unknown))
        raise InputError(
            f"{path}:{row + 2}: the candidates are of "
            f"{_template(masks[row, 0], slot_names)}, as no positive of any split is; "
            f"{remedy}"
        )
    return Questions(
        users[:, 0].astype(np.int32), flat.reshape(items.shape).astype(np.int32)
    )
