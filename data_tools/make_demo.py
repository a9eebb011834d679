"""Makes the demo set: drawn garments and simulated users in the Polyvore-U layout.

    fhn-jax make-demo data/demo

Tops, bottoms and shoes are drawn, each with a title; users with different tastes choose
outfits of them. A program that learns the tastes from the pictures or the titles finds
the outfits a user chose among those of new items. Nobody wears any of this: the set shows
that a pipeline works, and nothing about people.

The folder is the layout that the reader expects, with every file in it, and two more:
`titles.json` (image file name -> title) and `DEMO`, which marks the set, says how it was
made and how well the true utility itself scores (no model can do better).
"""

import concurrent.futures
import hashlib
import json
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from fhn_jax.data_tools.demo.outlines import SIZE
from fhn_jax.data_tools.demo.taste import World, auc, choose_outfits, make_world
from fhn_jax.data_tools.demo.wardrobe import CATEGORIES, Item, make_items
from jaxtyping import Float, Int

from fhn_jax.data.layout import write_outfits, write_questions
from fhn_jax.data.tables import write_names
from fhn_jax.errors import ExistingFileError, InputError
from fhn_jax.files import new_folder, read_sealed, write_sealed
from fhn_jax.program import Arguments, run_program

VERSION = 1  # of the generator: the same version and parameters give the same bytes
SPLITS = ("train", "val", "test")
ITEMS = {"top": (320, 60, 100), "bottom": (240, 45, 80), "shoe": (160, 35, 60)}
POSITIVES = (100, 15, 30)
RATIO = 10  # negatives per positive
CANDIDATES = 4
AMONG = 400  # random outfits behind each choice
TEXT_SIZE = 2400
JPEG_QUALITY = 85


def make_demo(
    root: str | os.PathLike,
    *,
    users: int = 32,
    seed: int = 0,
    items: Mapping[str, Sequence[int]] = ITEMS,
    positives: Sequence[int] = POSITIVES,
    workers: int | None = None,
) -> None:
    """Writes the demo set into `root`, whole or not at all.

    Does nothing if `root` already holds the demo set of the same parameters.

    Args:
      root: folder that does not exist yet; its parents are created.
      users: how many, at least 2.
      seed: the same seed gives the same bytes.
      items: category -> number of items for train, val and test.
      positives: outfits per user for train, val and test.
      workers: processes that draw; None: one per core, at most 8; 1: none but this one.
    Raises:
      FileExistsError: `root` exists and is not this demo set.
      ValueError: a number is too small, or there are too few items for so many outfits.
    """
    root = Path(root)
    parameters = {
        "version": VERSION,
        "seed": int(seed),
        "users": int(users),
        "items": {
            category: [int(n) for n in items[category]] for category in CATEGORIES
        },
        "positives": [int(n) for n in positives],
    }
    _check(parameters)
    if _is_same(root, parameters):
        return
    with new_folder(root) as folder:
        _write(folder, parameters, workers)


def _check(parameters: Mapping) -> None:
    users = parameters["users"]
    if users < 2:
        raise InputError(
            f"users={users}: hard negatives are other users' outfits, so there must be at "
            "least 2 users"
        )
    if parameters["seed"] < 0:
        raise InputError(f"seed={parameters['seed']} must not be negative")
    counts = {**parameters["items"], "positives": parameters["positives"]}
    for name, values in counts.items():
        if len(values) != len(SPLITS):
            raise InputError(
                f"{name}={values}: expected {len(SPLITS)} numbers, for train, val and test"
            )
        least = 1 if name == "positives" else 2 * CANDIDATES
        if min(values) < least:
            raise InputError(
                f"{name}={values}: expected at least {least} in every split"
            )


def _is_same(root: Path, parameters: Mapping) -> bool:
    """Whether `root` is this demo set; an error if it is something else."""
    if not os.path.lexists(root):
        return False
    remedy = "choose another folder, or remove this one if nobody needs it"
    try:
        found = read_sealed(root / "DEMO", remedy)
        same = {name: found[name] for name in parameters} == parameters
    except (OSError, InputError, KeyError):
        raise ExistingFileError(
            f"{root} exists and is not a demo set (no valid DEMO file in it); {remedy}"
        ) from None
    if not same:
        difference = ", ".join(
            f"{name}={found[name]} (wanted {parameters[name]})"
            for name in parameters
            if found[name] != parameters[name]
        )
        raise ExistingFileError(f"{root} is another demo set: {difference}; {remedy}")
    return True


def _write(root: Path, parameters: Mapping, workers: int | None) -> None:
    seed, users = parameters["seed"], parameters["users"]
    counts = parameters["items"]
    items = {c: make_items(c, sum(counts[c]), seed) for c in CATEGORIES}
    names = {
        category: [
            f"{category}-{number:04d}.jpg" for number in range(len(items[category]))
        ]
        for category in CATEGORIES
    }
    _write_images(root / "images" / f"{SIZE}x{SIZE}", items, names, workers)
    titles = {
        name: item.title
        for category in CATEGORIES
        for name, item in zip(names[category], items[category], strict=True)
    }
    _write_json(root / "titles.json", titles)
    text = root / "sentence_vector"
    text.mkdir()
    vectors = np.stack([text_vector(title) for title in titles.values()])
    np.savez_compressed(
        text / "semantic.npz", names=np.array(list(titles)), vectors=vectors
    )

    world = make_world(items, users, seed)
    folder = root / f"tuples_{users}"
    folder.mkdir()
    for category in CATEGORIES:
        write_names(folder / f"image_list_{category}", names[category])
    ceilings = _write_outfits(folder, world, parameters)
    summary = {
        **parameters,
        "note": "drawn garments and simulated users; made by data_tools/make_demo.py",
        "variant": str(users),
        "counts": {
            "items": len(titles),
            "positives": dict(
                zip(SPLITS, (users * n for n in parameters["positives"]), strict=True)
            ),
            "negatives_per_positive": RATIO,
        },
        "ceilings": ceilings,
    }
    write_sealed(root / "DEMO", summary)


def _write_json(path: Path, value: Mapping) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


# ------------------------------------------------------------------ images


def _write_images(
    folder: Path,
    items: Mapping[str, Sequence[Item]],
    names: Mapping[str, Sequence[str]],
    workers: int | None,
) -> None:
    folder.mkdir(parents=True)
    every = [item for category in CATEGORIES for item in items[category]]
    paths = [folder / name for category in CATEGORIES for name in names[category]]
    if workers is None:
        workers = min(os.cpu_count() or 1, 8)
    if workers <= 1:
        for item, path in zip(every, paths, strict=True):
            _write_image(item, path)
        return
    # Drawing holds Python's lock, so threads would not help. Not forked: the caller may
    # have threads of its own (JAX does).
    with concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        for _ in pool.map(_write_image, every, paths, chunksize=16):
            pass


def _write_image(item: Item, path: Path) -> None:
    item.image().save(path, "JPEG", quality=JPEG_QUALITY)


# -------------------------------------------------------------------- text


def text_vector(title: str) -> Float[np.ndarray, " t"]:
    """Signed hashed bag of the words and their character 3-grams, float32, unit length.

    >>> a, b, c = map(text_vector, ["red shirt", "red shirts", "blue jeans"])
    >>> bool(a @ b > 0.5 > 0.2 > a @ c)
    True
    """
    vector = np.zeros(TEXT_SIZE, dtype=np.float64)
    for word in title.lower().split():
        padded = f"<{word}>"
        grams = [padded[k : k + 3] for k in range(len(padded) - 2)]
        weights = [(word, 1.0)] + [(f"#{gram}", len(grams) ** -0.5) for gram in grams]
        for token, weight in weights:
            digest = hashlib.blake2b(token.encode("utf-8"), digest_size=8).digest()
            number = int.from_bytes(digest, "little")
            vector[(number >> 1) % TEXT_SIZE] += weight if number & 1 else -weight
    return (vector / np.linalg.norm(vector)).astype(np.float32)


# ----------------------------------------------------------------- outfits


def _write_outfits(folder: Path, world: World, parameters: Mapping) -> dict[str, float]:
    """Writes positives, negatives and questions; returns the ceilings on test."""
    ceilings = {}
    first = dict.fromkeys(CATEGORIES, 0)
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng([parameters["seed"], 4, number])
        pools = []
        for category in CATEGORIES:
            size = parameters["items"][category][number]
            pools.append(np.arange(first[category], first[category] + size))
            first[category] += size
        count = parameters["positives"][number]
        chosen = choose_outfits(world, pools, count, AMONG, rng)
        users = np.repeat(np.arange(world.num_users), count)
        positives = chosen.reshape(-1, len(CATEGORIES))
        taken = {tuple(outfit) for outfit in positives.tolist()}
        # Negatives come from what positives use: an item that nobody ever chose would
        # give itself away.
        used = [np.unique(positives[:, slot]) for slot in range(len(CATEGORIES))]
        _check_pools(split, used, taken)
        random = _random_negatives(used, taken, len(positives), rng)
        hard = _hard_negatives(chosen, rng)
        every = {"posi": positives[:, None], "nega": random, "nega_hard": hard}
        for ending, outfits in every.items():
            path = folder / f"tuples_{split}_{ending}"
            write_outfits(path, CATEGORIES, users, outfits)
        if split == "train":
            continue
        questions = _questions(positives, used, taken, rng)
        path = folder / f"fill_in_blank_{split}"
        write_questions(path, CATEGORIES, users, questions)
        if split == "test":
            ceilings["auc_random"] = auc(world, users, positives, random)
            ceilings["auc_hard"] = auc(world, users, positives, hard)
            every = np.broadcast_to(users[:, None], questions.shape[:2])
            value = world.utility(every, questions)
            right = value[:, 0] > value[:, 1:].max(axis=1)
            ceilings["fitb"] = float(right.mean())
    return {name: round(value, 4) for name, value in ceilings.items()}


def _check_pools(
    split: str, used: Sequence[Int[np.ndarray, " _"]], taken: set[tuple[int, ...]]
) -> None:
    """Raises ValueError where it would be hard to find outfits nobody has."""
    sizes = [len(ids) for ids in used]
    if min(sizes) < 2 * CANDIDATES or np.prod(sizes, dtype=float) < 2 * len(taken):
        raise InputError(
            f"the {split} positives are {len(taken)} different outfits of {sizes} items "
            f"({', '.join(CATEGORIES)}), too few items for negatives; use more items"
        )


def _random_negatives(
    used: Sequence[Int[np.ndarray, " _"]],
    taken: set[tuple[int, ...]],
    count: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "m k s"]:
    """`RATIO` outfits per positive, every item drawn on its own, none anyone's positive."""
    rows = np.stack([rng.choice(ids, (count, RATIO)) for ids in used], axis=-1)
    for index in np.ndindex(count, RATIO):
        while tuple(rows[index].tolist()) in taken:
            rows[index] = [rng.choice(ids) for ids in used]
    return rows


def _hard_negatives(
    chosen: Int[np.ndarray, "u n s"], rng: np.random.Generator
) -> Int[np.ndarray, "m k s"]:
    """`RATIO` other users' positives per positive, none that the user has too."""
    users, count, slots = chosen.shape
    rows = np.empty((users, count, RATIO, slots), dtype=chosen.dtype)
    for user in range(users):
        own = {tuple(outfit) for outfit in chosen[user].tolist()}
        others = np.delete(chosen, user, axis=0).reshape(-1, slots)
        free = np.array([tuple(outfit) not in own for outfit in others.tolist()])
        others = others[free]
        if not len(others):
            raise InputError(
                f"user {user} has all outfits of the other users, so there are no hard "
                "negatives; use more users or items"
            )
        rows[user] = others[rng.integers(0, len(others), (count, RATIO))]
    return rows.reshape(-1, RATIO, slots)


def _questions(
    positives: Int[np.ndarray, "n s"],
    used: Sequence[Int[np.ndarray, " _"]],
    taken: set[tuple[int, ...]],
    rng: np.random.Generator,
) -> Int[np.ndarray, "n c s"]:
    """Every positive and three copies with another item in one random slot."""
    rows = np.repeat(positives[:, None], CANDIDATES, axis=1)
    slots = rng.integers(0, len(used), len(positives))
    for row, slot in enumerate(slots):
        outfit = positives[row].tolist()
        wrong: list[int] = []
        for item in rng.permutation(used[slot]).tolist():
            if (*outfit[:slot], item, *outfit[slot + 1 :]) not in taken:
                wrong.append(item)
            if len(wrong) == CANDIDATES - 1:
                break
        else:
            raise InputError(
                f"too few {CATEGORIES[slot]} items for fill-in-the-blank questions; use "
                "more items or fewer positives"
            )
        rows[row, 1:, slot] = wrong
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax make-demo", __doc__)
    parser.add_argument("out", type=Path, help="folder to make; must not exist yet")
    parser.add_argument("--users", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--workers", type=int, help="processes that draw; default: one per core"
    )
    options = parser.parse_args(arguments)
    make_demo(
        options.out, users=options.users, seed=options.seed, workers=options.workers
    )
    summary = read_sealed(options.out / "DEMO", "make the demo again")
    print(f"{options.out}: {summary['counts']}, ceilings on test {summary['ceilings']}")


if __name__ == "__main__":
    run_program(main)
