"""What is wrong or odd about the items of a data set: images, vectors, names and titles."""

import collections
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from fhn_jax.data.audit import EXAMPLES, Finding, Labels, by_level
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.images import ImageStore, each_image, open_images
from fhn_jax.data.item_names import read_user_ids
from fhn_jax.data.item_table import ITEMS_FILE, USERS_FILE, read_items
from fhn_jax.data.near_equal import near_equal, picture_hash
from fhn_jax.data.pictures import UnsuitableImage, garment_photo, photo_size
from fhn_jax.data.records import Progress
from fhn_jax.data.vectors import MissingVectorsError, read_features, vectors_there
from fhn_jax.errors import InputError, MissingFileError

# Pixels of the longer side below which a garment cannot be recognised.
SMALL_PX = 64
# A photo that is so many times as long as wide is mostly white sides.
MAX_ASPECT = 3.0
_BLANK_LEVELS = 8
_SHOWN_PAIRS = 12


@dataclasses.dataclass(frozen=True, eq=False)
class ItemAudit:
    """What was found about items.

    Attributes:
      findings: the worst first.
      images: the store, if there is one that can be read.
      shown: whether the image of each item can be shown, by global id.
      sizes: width and height of the images that can be, and how many have it.
    """

    findings: list[Finding]
    images: ImageStore | None
    shown: np.ndarray
    sizes: dict[tuple[int, int], int]


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class _Look:
    """What is known of an image: the fault, or the rest; of its pixels only in full."""

    fault: str | None = None
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    blank: bool = False
    picture: np.uint64 = np.uint64(0)
    colours: UInt8[np.ndarray, " 192"] | None = None


def read_labels(root: Path, catalogue: Catalogue) -> tuple[Labels, list[Finding]]:
    """The shop's ids of a data root, and what is wrong with the tables of them.

    Raises:
      ValueError, ModuleNotFoundError: as `read_items`.
    """
    items, users = read_items(root), read_user_ids(root, catalogue.variant)
    findings = []
    remedy = "Import the catalogue again: the table is of other data."
    if items is not None:
        own = (catalogue.categories, catalogue.offsets)
        if (items.categories, items.offsets) != own:
            expected = {
                c: len(n)
                for c, n in zip(catalogue.categories, catalogue.names, strict=True)
            }
            sizes = np.diff(items.offsets).tolist()
            found = dict(zip(items.categories, sizes, strict=True))
            findings.append(
                Finding(
                    "other_items",
                    "error",
                    f"categories in which {ITEMS_FILE} has other items than the lists",
                    len(set(expected.items()) ^ set(found.items())) or 1,
                    0,
                    (f"{ITEMS_FILE}: {found}", f"image lists: {expected}"),
                    remedy,
                )
            )
            items = None
    if users is not None and len(users) != catalogue.num_users:
        what = f"users that only one of {USERS_FILE} and tuples_train_posi has"
        count = abs(len(users) - catalogue.num_users)
        said = f"{len(users):,} and {catalogue.num_users:,}"
        findings.append(
            Finding("other_users", "error", what, count, 0, (said,), remedy)
        )
        users = None
    names = Labels.plain(catalogue).names
    names = dataclasses.replace(names, table=items, users=users)
    return Labels(catalogue, names), findings


def item_audit(
    root: Path,
    catalogue: Catalogue,
    labels: Labels,
    *,
    full: bool = False,
    progress: Progress | None = None,
) -> ItemAudit:
    """Looks at names, titles, vectors and every image.

    Args:
      root: the data root.
      labels: of the examples.
      full: decode every image, which finds damaged and nearly equal ones; otherwise
        headers are read, and bytes compared.
      progress: called with the number of images done, and of all.
    """
    findings = [*_names(catalogue, labels), *_titles(labels)]
    vectors = by_level(_vectors(root, catalogue, labels))
    unusable = sum(finding.level == "error" for finding in vectors)
    usable = len(vectors_there(root)) > unusable
    images, shown = None, np.zeros(catalogue.num_items, bool)
    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    try:
        images = open_images(root)
    except (MissingFileError, InputError) as error:
        absent = isinstance(error, MissingFileError)
        findings.append(
            Finding(
                "no_images",
                "note" if absent and usable else "error",
                f"image folders that {'are missing' if absent else 'cannot be used'}",
                1,
                0,
                (str(error),),
                "Train on text or features, or add the images.",
            )
        )
    if images is not None:
        seen = _see(images, catalogue, full, progress)
        findings += _image_findings(seen, labels)
        shown[list(seen.good)] = True
        sizes = collections.Counter(look.size for look in seen.good.values())
    by_size = dict(sizes.most_common())
    return ItemAudit(by_level([*findings, *vectors]), images, shown, by_size)


def _examples(labels: Labels, items: Sequence[int]) -> tuple[str, ...]:
    """What the first few items are called, with their image names."""
    names = labels.catalogue.item_names()
    texts = ((labels.item(item), names[item]) for item in items[:EXAMPLES])
    return tuple(dict.fromkeys(" ".join(dict.fromkeys(each)) for each in texts))


def _names(catalogue: Catalogue, labels: Labels) -> Iterator[Finding]:
    counts = collections.Counter(catalogue.item_names())
    twice = [name for name, count in counts.items() if count > 1]
    yield Finding(
        "shared_names",
        "warning",
        "image names that several categories list",
        len(twice),
        len(counts),
        tuple(twice[:EXAMPLES]),
        "Leave each in one list: one photo is two items, which compete.",
    )


def _titles(labels: Labels) -> Iterator[Finding]:
    if labels.names.table is None:
        return
    titles = labels.names.table.titles
    untitled = [i for i, title in enumerate(titles) if not (title or "").strip()]
    yield Finding(
        "untitled",
        "note",
        "items without a title",
        len(untitled),
        len(titles),
        _examples(labels, untitled),
        "Add titles to the shop's table: text vectors know nothing of these items.",
    )


def _vectors(root: Path, catalogue: Catalogue, labels: Labels) -> Iterator[Finding]:
    """What training with each of the vectors would stumble over."""
    numbers = None
    for name in vectors_there(root):
        try:
            rows = read_features(root, name, catalogue)
        except MissingVectorsError as error:
            if numbers is None:
                numbers = {n: i for i, n in enumerate(catalogue.item_names())}
            yield Finding(
                "missing_vectors",
                "error",
                f"items without a vector in {name!r}",
                len(error.names),
                catalogue.num_items,
                _examples(labels, [numbers[n] for n in error.names[:EXAMPLES]]),
                "Make the vectors again, or remove the file if nothing uses it.",
            )
        except InputError as error:
            yield Finding(
                "unreadable_vectors",
                "error",
                f"files of vectors {name!r} that cannot be used",
                1,
                0,
                (str(error),),
                "Make the vectors again, or remove the file if nothing uses it.",
            )
        else:
            empty = np.flatnonzero(~rows.any(axis=1))
            yield Finding(
                "zero_vectors",
                "warning",
                f"items whose vector in {name!r} is all zeros",
                len(empty),
                len(rows),
                _examples(labels, empty[:EXAMPLES].tolist()),
                "Give them a title or a photo: these vectors tell nothing.",
            )


@dataclasses.dataclass(frozen=True, eq=False)
class _Seen:
    """What was seen of the images of all items.

    Attributes:
      missing: global ids of the items without an image.
      looks: global id → what its image is like, of all others.
      full: whether pixels were looked at.
    """

    store: ImageStore
    missing: list[int]
    looks: dict[int, _Look]
    full: bool

    @functools.cached_property
    def good(self) -> dict[int, _Look]:
        """The images that can be read."""
        return {item: look for item, look in self.looks.items() if not look.fault}

    @functools.cached_property
    def originals(self) -> dict[int, int]:
        """Item → the first one that has the very same image."""
        first: dict[bytes, int] = {}
        return {i: first.setdefault(look.digest, i) for i, look in self.good.items()}


def _see(
    store: ImageStore, catalogue: Catalogue, full: bool, progress: Progress | None
) -> _Seen:
    names = catalogue.item_names()
    absent = set(store.missing(names))
    missing = [item for item, name in enumerate(names) if name in absent]
    there = [item for item, name in enumerate(names) if name not in absent]
    look = functools.partial(_look, full=full)
    looks = each_image(
        store,
        [names[item] for item in there],
        look,
        progress,
        unreadable=lambda error: _Look(fault=str(error)),
    )
    return _Seen(store, missing, dict(zip(there, looks, strict=True)), full)


def _image_findings(seen: _Seen, labels: Labels) -> Iterator[Finding]:
    catalogue, store, good = labels.catalogue, seen.store, seen.good
    total = catalogue.num_items

    def finding(kind, level, what, items, remedy, examples=(), pairs=()) -> Finding:
        said = tuple(examples) or _examples(labels, items)
        return Finding(kind, level, what, len(items), total, said, remedy, tuple(pairs))

    yield finding(
        *("missing_images", "error", "items without an image"),
        seen.missing,
        f"Add the images to {store.path}, or take the items out of the data.",
    )
    faults = {item: look.fault for item, look in seen.looks.items() if look.fault}
    yield finding(
        *("unreadable_images", "error", "images that cannot be read"),
        list(faults),
        "Save or download them again.",
        list(faults.values())[:EXAMPLES],
    )
    small = {i: look.size for i, look in good.items() if max(look.size) < SMALL_PX}
    yield finding(
        *("small_images", "warning", f"images smaller than {SMALL_PX} pixels"),
        list(small),
        "Use larger ones: there is hardly a garment to see.",
        _sizes(labels, small),
    )
    sizes = {item: look.size for item, look in good.items()}
    long = {i: size for i, size in sizes.items() if max(size) > MAX_ASPECT * min(size)}
    yield finding(
        "long_images",
        "warning",
        f"images more than {MAX_ASPECT:g} times as long as wide, or as wide as long",
        list(long),
        "Crop them to the garment: most of the square becomes white.",
        _sizes(labels, long),
    )
    yield finding(
        *("blank_images", "warning", "images of one colour"),
        [item for item, look in good.items() if look.blank],
        "Replace these placeholders by photos, or train on text alone.",
    )
    copies = [(item, other) for item, other in seen.originals.items() if item != other]
    yield finding(
        *("equal_images", "warning", "items with the very image of an earlier one"),
        [item for item, _ in copies],
        "Merge them if they are one item: likes and codes are split between them.",
        _pairs(labels, copies),
        copies[:_SHOWN_PAIRS],
    )
    leaks = _leaks(seen, catalogue)
    yield finding(
        *("leaked_images", "warning", "new items of val or test with a train image"),
        list(leaks),
        "Merge them if they are one item: a new item that was learned is no test.",
        _pairs(labels, list(leaks.items())),
    )
    if seen.full:
        alike, pairs = _alike(seen)
        yield finding(
            *("near_equal_images", "note", "items whose image nearly equals another's"),
            alike,
            "Look at the pairs, and merge the items that are one.",
            _pairs(labels, pairs),
            pairs[:_SHOWN_PAIRS],
        )
    used = len({catalogue.item_names()[item] for item in seen.looks})
    yield Finding(
        *("extra_images", "note", "images of no item", len(store) - used, len(store)),
        (),
        "Nothing to do: they are not read.",
    )


def _sizes(labels: Labels, sizes: Mapping[int, tuple[int, int]]) -> list[str]:
    few = itertools.islice(sizes.items(), EXAMPLES)
    return ["{} is {}x{}".format(*_examples(labels, [i]), *size) for i, size in few]


def _pairs(labels: Labels, pairs: Sequence[tuple[int, int]]) -> list[str]:
    return [" = ".join(_examples(labels, pair)) for pair in pairs[:EXAMPLES]]


def _leaks(seen: _Seen, catalogue: Catalogue) -> dict[int, int]:
    """Items that training has not seen → one that it has, with the very same image."""
    used = {
        split: {
            start + item
            for start, items in zip(
                catalogue.offsets, catalogue.split_items(split), strict=False
            )
            for item in items.tolist()
        }
        for split in catalogue.splits
    }
    trained = used.pop("train")
    shown = {seen.originals[i]: i for i in trained if i in seen.originals}
    new = set().union(*used.values()) - trained
    return {
        item: shown[original]
        for item in sorted(new)
        if (original := seen.originals.get(item)) in shown
    }


def _look(data: bytes, name: str, full: bool) -> _Look:
    """What an image is; its pixels are looked at in full alone."""
    try:
        size = photo_size(data, name)
        pixels = garment_photo(data, name).pixels if full else None
    except UnsuitableImage as error:
        return _Look(fault=str(error))
    digest = hashlib.blake2b(data, digest_size=16).digest()
    if pixels is None:
        return _Look(None, size, digest)
    spread = max(int(np.ptp(pixels[:, :, colour])) for colour in range(3))
    blank = spread <= _BLANK_LEVELS
    return _Look(None, size, digest, blank, *picture_hash(pixels))


def _alike(seen: _Seen) -> tuple[list[int], list[tuple[int, int]]]:
    """Items whose images are nearly, but not quite those of others, and the pairs."""
    items = [i for i in sorted(set(seen.originals.values())) if not seen.good[i].blank]
    if not items:
        return [], []
    hashes = np.array([seen.good[item].picture for item in items], np.uint64)
    colours = np.array([seen.good[item].colours for item in items], np.uint8)
    alike, pairs = near_equal(hashes, colours)
    numbers = np.array(items)
    return numbers[alike].tolist(), [(a, b) for a, b in numbers[pairs].tolist()]
