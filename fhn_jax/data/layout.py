"""The Polyvore-U layout, read into a typed catalogue that is checked throughout.

A data root holds images, text vectors and one folder `tuples_<variant>` for each set
of users: lists of image names per category, and CSV files of outfits. Everything that
later code takes for granted (ids in range, users without gaps, negatives that belong
to their positive) is checked here, once, before any training time is spent. A fault
is an error that names the file and line, what was found, what was expected and what
to do about it.

Nothing here needs an accelerator, an image or tensorflow.
"""

import dataclasses
import functools
import hashlib
import io
import itertools
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int, Int32

from fhn_jax.errors import InputError, MissingFileError, MissingKeyError

SPLITS = ("train", "val", "test")
# How a file of negatives ends, by kind.
NEGATIVES = {"random": "nega", "hard": "nega_hard"}

_LAYOUT = (
    "expected the Polyvore-U layout: ROOT/tuples_VARIANT/ with image_list_CATEGORY, "
    "tuples_train_posi, tuples_test_posi and tuples_test_nega, and beside it "
    "ROOT/images/ and ROOT/sentence_vector/semantic.npz"
)
_REMEDY = (
    "point config.data.root and config.data.variant at your data, or draw the demo "
    "set with `python -m data_tools.make_demo`"
)
_DOWNLOAD = "download or copy this file again"


@dataclasses.dataclass(frozen=True)
class Outfits:
    """Outfits, each seen by one user: a row is a user and an item per slot.

    Attributes:
      users: user ids.
      items: item ids *within the category of the slot*. Never -1: a missing second
        item of a category is already the first one repeated.
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
        negatives to a positive, rows k*i to k*i + k - 1 belong to positive i and
        have its user.
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
      items: item ids within the category of the slot. Candidate 0 is the answer; the
        candidates of a question differ in one slot.
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
        (0, 1, 2), or (0, 0, 1, 2) for outfits with two tops.
      names: image file names of the items, per category; the item id is the index.
      splits: "train" and "test", and "val" where the data has it.
      fitb: fill-in-the-blank questions by split, where the data has them.
      checksum: SHA-256 over the bytes of all files read, in the order of their names.
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

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each category starts in global item ids, and last their number."""
        return (0, *itertools.accumulate(len(names) for names in self.names))

    @property
    def num_items(self) -> int:
        """Number of items of all categories together."""
        return self.offsets[-1]

    def global_ids(
        self, items: Int[np.ndarray, "*any s"]
    ) -> Int32[np.ndarray, "*any s"]:
        """Item ids within a category to ids in one numbering of all items.

        Args:
          items: ids within the category of the slot, which is the last axis.
        Raises:
          ValueError: the last axis does not have one entry per slot.
        """
        if items.shape[-1] != len(self.slots):
            raise InputError(
                f"items {items.shape} must end in one id for each of the "
                f"{len(self.slots)} slots {self.slot_names}"
            )
        starts = np.array([self.offsets[c] for c in self.slots], np.int32)
        return items.astype(np.int32) + starts

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
        items = self.splits[split].positives.items
        slots = np.array(self.slots)
        return tuple(
            np.unique(items[:, slots == category]).astype(np.int32)
            for category in range(len(self.categories))
        )


def stored_outfits(catalogue: Catalogue) -> Int[np.ndarray, "n s"]:
    """All positives of a data set, each outfit once, by its items; the row is its id."""
    return np.unique(
        np.concatenate([part.positives.items for part in catalogue.splits.values()]),
        axis=0,
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
    folder = _variant_folder(root, variant)
    train = folder / "tuples_train_posi"
    if not train.is_file():
        raise MissingFileError(f"{train} is missing; {_LAYOUT}; {_DOWNLOAD}")
    categories, slots = _parse_header(train, _first_line(train, train.read_bytes()))
    contents = {path.name: path.read_bytes() for path in _files(folder, categories)}
    checksum = hashlib.sha256()
    for content in contents.values():
        checksum.update(content)

    names = tuple(
        _parse_names(folder / f"image_list_{c}", contents[f"image_list_{c}"])
        for c in categories
    )
    slot_names = tuple(categories[c] for c in slots)
    sizes = tuple(len(names[c]) for c in slots)

    def outfits(name: str) -> Outfits:
        path = folder / name
        table = _parse_table(path, contents[name], ("user", *slot_names))
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
                _check_negatives(folder / name, negatives[kind], positives)
        splits[split] = Split(split, positives, negatives)

    fitb = {}
    for split in ("val", "test"):
        name = f"fill_in_blank_{split}"
        if name in contents:
            fitb[split] = _parse_questions(
                folder / name, contents[name], slot_names, sizes, num_users
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
    )


def read_text_vectors(
    root: str | os.PathLike, catalogue: Catalogue
) -> Float32[np.ndarray, "n t"]:
    """The text vector of every item, rows by global item id.

    Read from `sentence_vector/semantic.npz`: `names` [m] unicode and `vectors` [m, t]
    of floats. Vectors of names that are no item of the catalogue are left out.

    Args:
      root: the data root.
      catalogue: whose items are wanted.
    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is cut off, holds pickled objects or other shapes, has no
        vector for some item, or a vector with a NaN or an infinity.
    """
    path = Path(root) / "sentence_vector" / "semantic.npz"
    convert = f"`python -m data_tools.convert_semantic {path.with_suffix('.pkl')}`"
    if not path.is_file():
        if path.with_suffix(".pkl").is_file():
            raise MissingFileError(
                f"{path} is missing, only the pickle semantic.pkl is there; unpickling "
                f"runs code, so training never does it: run {convert} once"
            )
        raise MissingFileError(
            f"{path} is missing; expected arrays `names` (m,) of image file names and "
            "`vectors` (m, t) of float32; add it, or train on images alone"
        )
    return read_vectors(
        path,
        catalogue,
        kind="text vector",
        writer=convert,
        otherwise="train on images alone",
    )


def read_vectors(
    path: Path, catalogue: Catalogue, *, kind: str, writer: str, otherwise: str
) -> Float32[np.ndarray, "n f"]:
    """The vector of every item from an npz, rows by global item id.

    The file holds `names` [m] unicode and `vectors` [m, f] of floats. Vectors of names
    that are no item of the catalogue are left out.

    Args:
      path: the file; it is there.
      catalogue: whose items are wanted.
      kind: what a vector is, for errors.
      writer: what writes such a file, for errors.
      otherwise: how to do without, for errors.
    Raises:
      ValueError: the file is cut off, holds pickled objects or other shapes, has no
        vector for some item, or a vector with a NaN or an infinity.
    """
    names, vectors = _load_vectors(path, writer)
    rows = {name: row for row, name in enumerate(names)}
    if len(rows) != len(names):
        twice = _first_repeated(names)
        raise InputError(f"{path}: the name {names[twice]!r} occurs twice; drop one")
    wanted = catalogue.item_names()
    missing = [name for name in wanted if name not in rows]
    if missing:
        raise missing_vectors(path, catalogue, missing, kind, otherwise)
    order = np.fromiter((rows[name] for name in wanted), np.int64, len(wanted))
    # The copy is saved where it can be: on the full data set it is 2 GB.
    if not np.array_equal(order, np.arange(len(names))):
        vectors = vectors[order]
    with np.errstate(over="ignore"):
        vectors = vectors.astype(np.float32, copy=False)
    check_finite(path, wanted, vectors)
    return vectors


def missing_vectors(
    path: Path,
    catalogue: Catalogue,
    missing: Sequence[str],
    kind: str,
    otherwise: str,
) -> ValueError:
    """The error for items without a vector; see `read_vectors`."""
    return InputError(
        f"{path}: {len(missing):,} of {catalogue.num_items:,} items have no {kind}: "
        f"{', '.join(map(repr, missing[:5]))}{', …' if len(missing) > 5 else ''}; "
        f"expected one for each name in {catalogue.root}/tuples_{catalogue.variant}/"
        f"image_list_*; get those that belong to these items, or {otherwise}"
    )


def check_finite(
    path: Path, names: Sequence[str], vectors: Float32[np.ndarray, "n f"]
) -> None:
    """Raises ValueError if a vector of the file has a NaN or an infinity."""
    rows_at_once = 4096
    for start in range(0, len(vectors), rows_at_once):
        finite = np.isfinite(vectors[start : start + rows_at_once]).all(axis=1)
        if not finite.all():
            name = names[start + int(np.argmin(finite))]
            raise InputError(
                f"{path}: the vector of item {name!r} has a NaN or an infinity; "
                "expected finite float32 values; mend or drop it and write the file "
                "again"
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


def _variant_folder(root: Path, variant: str) -> Path:
    """The folder of the tuples, which exists."""
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


def _first_line(path: Path, content: bytes) -> str:
    """The first line of a CSV file that is not empty."""
    if not content:
        raise InputError(f"{path} is empty; {_DOWNLOAD}")
    line = content.partition(b"\n")[0].removesuffix(b"\r")
    return line.decode("utf-8", "backslashreplace")


def _short(line: str) -> str:
    """A line for an error text: quoted, and not the whole of a wrong file."""
    return repr(line if len(line) <= 160 else line[:159] + "…")


def _parse_header(path: Path, line: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Categories and slots from the header of the train positives."""
    fields = line.split(",")
    example = "expected `user,<category>,…` such as `user,top,bottom,shoe`"
    if fields[0] != "user" or len(fields) < 2:
        raise InputError(
            f"{path}:1: the header is {_short(line)}; {example}; {_DOWNLOAD}"
        )
    for field in fields[1:]:
        # Categories become part of file names and of tensor names.
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", field):
            raise InputError(
                f"{path}:1: {_short(field)} in the header {_short(line)} is no name "
                f"of a category (letters, digits, _ and -); {example}"
            )
    categories = tuple(dict.fromkeys(fields[1:]))
    runs = [name for name, _ in itertools.groupby(fields[1:])]
    if len(runs) != len(categories):
        twice = runs[_first_repeated(runs)]
        raise InputError(
            f"{path}:1: the slots of category {twice!r} are apart in the header "
            f"{_short(line)}; slots of one category must be neighbours, as in "
            "`user,top,top,bottom,shoe`"
        )
    return categories, tuple(categories.index(name) for name in fields[1:])


def _parse_names(path: Path, content: bytes) -> tuple[str, ...]:
    """The image names of a category: valid, and each once."""
    if not content:
        raise InputError(f"{path} is empty; expected one name a line; {_DOWNLOAD}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 text ({error.reason}); expected one image file "
            f"name a line; {_DOWNLOAD}"
        ) from None
    # Not splitlines(), which also splits at characters that are part of a name.
    names = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    for line, name in enumerate(names, 1):
        fault = name_fault(name)
        if fault:
            raise InputError(
                f"{path}:{line}: the name {name[:80]!r} {fault}; expected the name of "
                "an image file, without folder; mend the line"
            )
    if len(set(names)) != len(names):
        twice = _first_repeated(names)
        raise InputError(
            f"{path}:{twice + 1}: the name {names[twice]!r} is already in line "
            f"{names.index(names[twice]) + 1}; expected each item once; mend the list "
            f"(item ids are line numbers) or {_DOWNLOAD}"
        )
    return tuple(names)


def _parse_table(
    path: Path, content: bytes, header: Sequence[str]
) -> Int[np.ndarray, "n c"]:
    """The rows of a CSV file of integers that has exactly this header."""
    line = _first_line(path, content)
    expected = ",".join(header)
    if line != expected:
        raise InputError(
            f"{path}:1: the header is {_short(line)}; expected {expected!r}, as in "
            f"tuples_train_posi; {_DOWNLOAD}"
        )
    body = content[content.find(b"\n") + 1 :] if b"\n" in content else b""
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n")
    if not body:
        raise InputError(f"{path} has a header and no rows; {_DOWNLOAD}")
    # What is left without digits shows wrong columns and characters in one
    # comparison, a hundred times faster than a loop over the lines.
    rows = body.count(b"\n")
    separators = b"," * (len(header) - 1) + b"\n"
    if body.translate(None, b"-0123456789") != separators * rows:
        raise InputError(_table_fault(path, body, len(header)))
    try:
        table = np.loadtxt(
            io.BytesIO(body), np.int64, comments=None, delimiter=",", ndmin=2
        )
    except ValueError:
        raise InputError(_table_fault(path, body, len(header))) from None
    if table.max() > np.iinfo(np.int32).max:
        row, column = divmod(int(table.argmax()), len(header))
        raise InputError(
            f"{path}:{row + 2}: the id {table.max()} in column {column + 1} "
            f"({header[column]}) is out of range; expected less than 2**31; {_DOWNLOAD}"
        )
    return table


def _table_fault(path: Path, body: bytes, columns: int) -> str:
    """What is wrong in the first wrong line of a CSV file of integers."""
    lines = body.decode("utf-8", "backslashreplace").split("\n")
    for number, line in enumerate(lines[:-1] if not lines[-1] else lines, 2):
        fields = line.split(",")
        where = f"{path}:{number}: {_short(line)}"
        if len(fields) != columns:
            cut = " (the file is cut off there)" if number - 1 == len(lines) else ""
            return (
                f"{where} has {len(fields)} columns{cut}; expected {columns}; "
                f"{_DOWNLOAD}"
            )
        for field in fields:
            if not re.fullmatch(r"-?[0-9]{1,18}", field):
                return f"{where}: {field[:40]!r} is no integer id; {_DOWNLOAD}"
    return (
        f"{path}:{len(lines) + 1}: the last line {_short(lines[-1])} has no line end: "
        f"the file may be cut off there; {_DOWNLOAD}, or end it with a newline if it "
        "is complete"
    )


def _check_items(
    path: Path,
    items: Int[np.ndarray, "n s"],
    slot_names: Sequence[str],
    sizes: Sequence[int],
    rows_per_line: int = 1,
) -> None:
    """All item ids in range; -1 only in a further slot of one category."""
    for slot, (name, size) in enumerate(zip(slot_names, sizes, strict=True)):
        column = items[:, slot]
        further = slot > 0 and slot_names[slot - 1] == name
        bad = (column < (-1 if further else 0)) | (column >= size)
        if bad.any():
            row = int(np.argmax(bad))
            line = row // rows_per_line + 2
            remedy = f"use the image_list_{name} that belongs to the tuples"
            if column[row] == -1:
                remedy = (
                    "-1 says that an outfit has no further item of a category, and "
                    "may stand only in a second slot of the category"
                )
            raise InputError(
                f"{path}:{line}: item {column[row]} is out of range in column "
                f"{slot + 2} ({name}); expected 0 to {size - 1}, the {size:,} lines of "
                f"image_list_{name}; {remedy}"
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


def _check_negatives(path: Path, negatives: Outfits, positives: Outfits) -> None:
    """The same number of negatives to each positive, and with its user."""
    ratio, rest = divmod(len(negatives), len(positives))
    if rest or not ratio:
        raise InputError(
            f"{path} has {len(negatives):,} rows; expected a multiple of the "
            f"{len(positives):,} positives, rows k*i to k*i + k - 1 for positive i; "
            f"one of the two files is cut off: {_DOWNLOAD}"
        )
    owners = np.repeat(positives.users, ratio)
    bad = negatives.users != owners
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path}:{row + 2}: user {negatives.users[row]}; expected {owners[row]}, "
            f"the user of positive {row // ratio} (line {row // ratio + 2} of the "
            f"positives): rows {ratio}*i to {ratio}*i + {ratio - 1} belong to positive "
            f"i; put the rows in the order of the positives, or {_DOWNLOAD}"
        )


def _parse_questions(
    path: Path,
    content: bytes,
    slot_names: Sequence[str],
    sizes: Sequence[int],
    num_users: int,
) -> Questions:
    """Fill-in-the-blank questions: candidates of one user that differ in one slot."""
    once = ("user", *slot_names)
    line = _first_line(path, content)
    candidates = (line.count(",") + 1) // len(once)
    if candidates < 2 or line != ",".join(once * candidates):
        raise InputError(
            f"{path}:1: the header is {_short(line)}; expected {','.join(once)!r} "
            f"once for each candidate, side by side, at least twice; {_DOWNLOAD}"
        )
    remedy = "drop the question, or remove the file to go without fill in the blank"
    table = _parse_table(path, content, once * candidates)
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
        where = [slot_names[s] for s in np.flatnonzero(differs[row])]
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
    return Questions(
        users[:, 0].astype(np.int32), flat.reshape(items.shape).astype(np.int32)
    )


def _first_repeated(values: Sequence[str]) -> int:
    """Index of the first value that occurred before; there is one."""
    seen = set()
    for index, value in enumerate(values):
        if value in seen:
            return index
        seen.add(value)
    raise InputError("no value occurs twice")


def _load_vectors(path: Path, writer: str) -> tuple[list[str], np.ndarray]:
    """Names and vectors of an npz file, of the right kinds and lengths."""
    with open(path, "rb") as file:
        start = file.read(4)
        if not start.startswith(b"PK"):
            what = "a pickle" if start[:1] in (b"\x80", b"(") else "no npz file"
            raise InputError(
                f"{path} is {what} (it starts with {start!r}); expected a numpy npz "
                f"archive; write it with {writer}, or {_DOWNLOAD}"
            )
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                absent = {"names", "vectors"} - set(archive)
                if absent:
                    raise InputError(
                        f"{path} has no array {min(absent)!r}, only {sorted(archive)}; "
                        f"expected `names` and `vectors`; write it with {writer}"
                    )
                names, vectors = (
                    _load_array(path, archive, key, writer)
                    for key in ("names", "vectors")
                )
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise InputError(
                f"{path} is cut off or damaged ({error}); {_DOWNLOAD}"
            ) from None
    if names.ndim != 1 or names.dtype.kind != "U":
        raise InputError(
            f"{path}: `names` is {names.dtype} {names.shape}; expected unicode (m,)"
        )
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.shape[1]:
        raise InputError(
            f"{path}: `vectors` is {vectors.dtype} {vectors.shape}; expected float32 "
            "(m, t), one row of equal length per name"
        )
    if len(names) != len(vectors):
        raise InputError(
            f"{path}: {len(names):,} names and {len(vectors):,} vectors; expected as "
            f"many; write the file again with {writer}"
        )
    return names.tolist(), vectors


def _load_array(
    path: Path, archive: np.lib.npyio.NpzFile, key: str, writer: str
) -> np.ndarray:
    """An array of an npz archive, unless it would have to be unpickled."""
    try:
        return archive[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise InputError(
                f"{path}: {key!r} is damaged ({error}); {_DOWNLOAD}"
            ) from None
        raise InputError(
            f"{path}: {key!r} holds pickled objects, which are never loaded; expected "
            f"plain unicode names and float32 vectors; write the file with {writer}"
        ) from None
