"""A tiny data set in the Polyvore-U layout, complete and valid, for tests."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image

SPLITS = ("train", "val", "test")


def write_polyvore_u(
    root: str | Path,
    *,
    variant: str = "8",
    users: int = 8,
    seed: int = 0,
    slots: Sequence[str] = ("top", "bottom", "shoe"),
    image_size: int | None = 32,
    positives: Sequence[int] = (6, 2, 2),
    items: Sequence[int] = (16, 8, 8),
    ratio: int = 3,
    candidates: int = 4,
    text_dim: int = 24,
) -> Path:
    """Writes images, text vectors and the tuples of one variant.

    Items are disjoint between the splits; a user's positives are distinct. With a
    repeated slot, as in ("top", "top", "bottom", "shoe"), every other outfit lacks the
    second one (-1). Each category has its own colours and words, and each item a
    shade and words of its own, so that there is something to learn.

    Args:
      root: the folder to write to; another variant may be there already, with the
        same seed, items, image_size and text_dim.
      variant: writes `tuples_<variant>`.
      users: number of users.
      seed: of all choices.
      slots: the header of the CSV files after `user`.
      image_size: height and width of the JPEG images, in pixels. None: no images.
      positives: of each user in train, val and test; 0 leaves val out.
      items: of each category in train, val and test.
      ratio: random and hard negatives to each positive.
      candidates: in a fill-in-the-blank question; one question a test positive.
      text_dim: length of a text vector.
    Returns:
      the root, as a Path.
    """
    root = Path(root)
    folder = root / f"tuples_{variant}"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    categories = list(dict.fromkeys(slots))
    names = {
        category: [f"{category}{i:03d}.jpg" for i in range(sum(items))]
        for category in categories
    }
    for category, category_names in names.items():
        write_lines(folder / f"image_list_{category}", category_names)
    if image_size is not None:
        write_images(root, names, image_size, rng)
    write_text_vectors(root, names, text_dim, rng)

    header = ",".join(["user", *slots])
    starts = np.concatenate([[0], np.cumsum(items)])
    for split, each, start, end in zip(
        SPLITS, positives, starts[:-1], starts[1:], strict=True
    ):
        if not each:
            continue
        table = _positives(rng, slots, users, each, int(start), int(end))
        write_table(folder / f"tuples_{split}_posi", header, table)
        known = {tuple(row) for row in table[:, 1:].tolist()}
        random = [
            (row[0], *_draw(rng, slots, int(start), int(end), known))
            for row in table.tolist()
            for _ in range(ratio)
        ]
        write_table(folder / f"tuples_{split}_nega", header, random)
        hard = [
            (row[0], *_hard(rng, table, row[0])) for row in table for _ in range(ratio)
        ]
        write_table(folder / f"tuples_{split}_nega_hard", header, hard)
        if split == "test":
            questions = [
                _question(rng, row, candidates, int(start), int(end)) for row in table
            ]
            write_table(
                folder / "fill_in_blank_test",
                ",".join([header] * candidates),
                questions,
            )
    return root


def write_features(root, *, name="resnet34", variant="8", width=48, npz=False, seed=0):
    """Features of the items of a variant: near to those of the same category.

    Returns:
      image file name → float32 vector, as written.
    """
    rng = np.random.default_rng(seed)
    vectors = {}
    for path in sorted((Path(root) / f"tuples_{variant}").glob("image_list_*")):
        centre = rng.normal(size=width)
        for item in read_lines(path):
            vectors[item] = (centre + rng.normal(size=width)).astype(np.float32)
    folder = Path(root) / "features"
    if npz:
        folder.mkdir(exist_ok=True)
        arrays = dict(
            names=np.array(list(vectors)), vectors=np.stack([*vectors.values()])
        )
        np.savez(folder / f"{name}.npz", **arrays)
    else:
        rows = {item.encode(): row.tobytes() for item, row in vectors.items()}
        write_lmdb(folder / name, rows)
    return vectors


def write_lmdb(path, entries):
    """An LMDB of {key: value}, both bytes."""
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=2**24) as environment:
        with environment.begin(write=True) as transaction:
            for key, value in entries.items():
                transaction.put(key, value)


def write_images(root, names, image_size, rng):
    """An image of two coloured areas and a little noise for each item."""
    folder = root / "images" / "291x291"
    folder.mkdir(parents=True, exist_ok=True)
    for index, category_names in enumerate(names.values()):
        base = np.full(3, 60)
        base[index % 3] = 200
        for name in category_names:
            pixels = np.empty((image_size, image_size, 3), np.int64)
            pixels[:] = base
            pixels[: image_size // 2] = rng.integers(0, 256, 3)
            pixels += rng.integers(-10, 11, pixels.shape)
            (folder / name).write_bytes(encode(pixels))


def encode(pixels, kind="JPEG", **options):
    """The bytes of an image file of `pixels` (integers of any range, clipped)."""
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def write_text_vectors(root, names, text_dim, rng):
    """`semantic.npz`: unit vectors, near to those of the same category."""
    folder = root / "sentence_vector"
    folder.mkdir(parents=True, exist_ok=True)
    vectors = []
    for category_names in names.values():
        centre = rng.normal(size=text_dim)
        vectors.append(centre + rng.normal(size=(len(category_names), text_dim)))
    vectors = np.concatenate(vectors)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.savez(
        folder / "semantic.npz",
        names=np.array([name for several in names.values() for name in several]),
        vectors=vectors.astype(np.float32),
    )


def write_table(path, header, rows):
    """A CSV file of integers."""
    write_lines(path, [header, *(",".join(map(str, row)) for row in rows)])


def write_lines(path, lines):
    """A text file with a newline after each line."""
    path.write_text("".join(f"{line}\n" for line in lines))


def read_lines(path):
    """The lines of a text file."""
    return path.read_text().splitlines()


def edit_line(path, number, text):
    """Replaces line `number` (from 1), or removes it if `text` is None."""
    lines = read_lines(path)
    lines[number - 1 : number] = [] if text is None else [text]
    write_lines(path, lines)


def _positives(rng, slots, users, each, start, end):
    """Rows (user, item, …), sorted by user."""
    rows = []
    for user in range(users):
        own = set()
        while len(own) < each:
            own.add(_draw(rng, slots, start, end, missing=len(own) % 2 == 1))
        rows += [(user, *outfit) for outfit in sorted(own)]
    return np.array(rows)


def _draw(rng, slots, start, end, known=frozenset(), missing=False):
    """A random outfit that is not in `known`."""
    while True:
        outfit = rng.integers(start, end, len(slots))
        for slot in range(1, len(slots)):
            if slots[slot] == slots[slot - 1] and missing:
                outfit[slot] = -1
        outfit = tuple(outfit.tolist())
        if outfit not in known:
            return outfit


def _hard(rng, table, user):
    """A positive outfit of another user."""
    others = table[table[:, 0] != user]
    return tuple(others[rng.integers(len(others)), 1:].tolist())


def _question(rng, row, candidates, start, end):
    """The row, and copies of it that differ in one slot."""
    slot = 1 + int(rng.integers(len(row) - 1))
    pool = [item for item in range(start, end) if item != row[slot]]
    question = row.tolist()
    for item in rng.choice(pool, candidates - 1, replace=False):
        other = row.copy()
        other[slot] = item
        question += other.tolist()
    return question


def small_demo(root: str | Path, *, users: int = 32, seed: int = 0) -> None:
    """Stands in for the demo set, which takes half a minute to draw."""
    if not Path(root).exists():
        write_polyvore_u(root, variant=str(users), users=users, image_size=None)
        (Path(root) / "DEMO").write_text(json.dumps({"users": users}))
