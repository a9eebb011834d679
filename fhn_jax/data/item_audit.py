"""What is wrong or odd about the items of a data set: images, vectors, names and titles."""

import collections
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from fhn_jax.data.audit import EXAMPLES, Finding, Labels, by_level
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.images import ImageStore, each_image, open_images
from fhn_jax.data.item_table import ITEMS_FILE, USERS_FILE, read_items, read_users
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
    items, users = read_items(root), read_users(root)
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
    return Labels(catalogue, items, users), findings


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
    images, shown, sizes = None, np.zeros(catalogue.num_items, bool), {}
    try:
        images = open_images(root)
    except (MissingFileError, InputError) as error:
        absent = isinstance(error, MissingFileError)
        findings.append(
            Finding(
                "no_images",
                "note" if absent and usable else "error",
                "image stores that cannot be used",
                1,
                0,
                (str(error),),
                "Train on text or features, or add the images.",
            )
        )
    if images is not None:
        found, shown, sizes = _images(images, catalogue, labels, full, progress)
        findings += found
    return ItemAudit(by_level([*findings, *vectors]), images, shown, sizes)


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
    if labels.items is None:
        return
    titles = labels.items.titles
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


def _images(
    store: ImageStore,
    catalogue: Catalogue,
    labels: Labels,
    full: bool,
    progress: Progress | None,
) -> tuple[list[Finding], np.ndarray, dict[tuple[int, int], int]]:
    """Findings about images; which items have one to show; and their sizes."""
    names = catalogue.item_names()
    missing = set(store.missing(names))
    there = [item for item, name in enumerate(names) if name not in missing]

    def finding(kind, level, what, items, remedy, said=None, pairs=()) -> Finding:
        return Finding(
            kind,
            level,
            what,
            len(items),
            len(names),
            said or _examples(labels, items[:EXAMPLES]),
            remedy,
            pairs,
        )

    def look(data: bytes, name: str) -> _Look:
        return _look(data, name, full)

    looks = dict(
        zip(
            there,
            each_image(store, [names[item] for item in there], look, progress),
            strict=True,
        )
    )
    faulty = [item for item, seen in looks.items() if seen.fault]
    good = {item: seen for item, seen in looks.items() if not seen.fault}
    small = [i for i, seen in good.items() if max(seen.size) < SMALL_PX]
    long = [i for i, s in good.items() if max(s.size) > MAX_ASPECT * min(s.size)]
    blank = [item for item, seen in good.items() if seen.blank]
    first: dict[bytes, int] = {}
    copies = {
        item: original
        for item, seen in good.items()
        if (original := first.setdefault(seen.digest, item)) != item
    }
    distinct = [item for item in first.values() if full and not good[item].blank]
    alike, pairs = _alike(good, distinct) if distinct else ([], [])

    def sizes_of(items) -> tuple[str, ...]:
        return tuple(
            "{} is {}x{}".format(*_examples(labels, [item]), *good[item].size)
            for item in items[:EXAMPLES]
        )

    def called(some) -> tuple[str, ...]:
        return tuple(
            " = ".join(_examples(labels, list(pair))) for pair in some[:EXAMPLES]
        )

    copied = list(copies.items())
    findings = [
        finding(
            *("missing_images", "error", "items without an image"),
            [item for item, name in enumerate(names) if name in missing],
            f"Add the images to {store.path}, or take the items out of the data.",
        ),
        finding(
            *("unreadable_images", "error", "images that cannot be read"),
            faulty,
            "Save or download them again.",
            tuple(str(looks[item].fault) for item in faulty[:EXAMPLES]),
        ),
        finding(
            *("small_images", "warning", f"images smaller than {SMALL_PX} pixels"),
            small,
            "Use larger ones: there is hardly a garment to see.",
            sizes_of(small),
        ),
        finding(
            "long_images",
            "warning",
            f"images more than {MAX_ASPECT:g} times as long as wide",
            long,
            "Crop them to the garment: most of the square becomes white.",
            sizes_of(long),
        ),
        finding(
            *("blank_images", "warning", "images of one colour"),
            blank,
            "Replace these placeholders by photos, or train on text alone.",
        ),
        finding(
            *("equal_images", "warning", "items with the very image of an earlier one"),
            list(copies),
            "Merge them into one item, if they are: split apart, they tell the answer.",
            called(copied),
            tuple(copied[:_SHOWN_PAIRS]),
        ),
        finding(
            *("near_equal_images", "note", "items whose image nearly equals another's"),
            alike,
            "Look at the pairs, and merge the items that are one.",
            called(pairs),
            tuple(pairs[:_SHOWN_PAIRS]),
        ),
    ]
    extra = len(store) - (len(set(names)) - len(missing))
    findings.append(
        Finding(
            "extra_images",
            "note",
            "images of no item",
            max(extra, 0),
            len(store),
            (),
            "Nothing to do: they are not read.",
        )
    )
    shown = np.zeros(len(names), bool)
    shown[list(good)] = True
    sizes = collections.Counter(seen.size for seen in good.values())
    return findings, shown, dict(sizes.most_common())


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
    levels = int(np.ptp(pixels, axis=(0, 1)).max())
    return _Look(None, size, digest, levels <= _BLANK_LEVELS, *picture_hash(pixels))


def _alike(
    looks: dict[int, _Look], items: Sequence[int]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Items that are nearly equal to another one of these, and the pairs of them."""
    hashes = np.array([looks[item].picture for item in items], np.uint64)
    colours = np.array([looks[item].colours for item in items], np.uint8)
    alike, pairs = near_equal(hashes, colours)
    numbers: Int[np.ndarray, " n"] = np.array(items)
    found = [(one, other) for one, other in numbers[pairs].tolist()]
    return numbers[alike].tolist(), found
