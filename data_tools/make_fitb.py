"""Makes fill-in-the-blank questions of the outfits of a split.

    fhn-jax make-fitb data/polyvore 630 --split val

Each positive becomes a question: the outfit itself, which is the answer, and copies
with another item of the same category in one slot. The other items are drawn from those
of the split's positives, so that none gives itself away by being new; none makes an
outfit that is a positive of anybody (a single item: of the same user), or one that has
the same item twice. Outfits without an item of the category asked for are left out.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

import numpy as np
from jaxtyping import Int

from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.tables import read_table, write_table
from fhn_jax.errors import InputError
from fhn_jax.files import refuse_existing
from fhn_jax.program import Arguments, run_program

SPLITS = ("val", "test")
CANDIDATES = 4
RANDOM = "random"  # in place of a category: one is drawn for each question


def make_fitb(
    root: str | Path,
    variant: str,
    *,
    split: str = "test",
    candidates: int = CANDIDATES,
    category: str = RANDOM,
    seed: int = 0,
) -> int:
    """Writes `fill_in_blank_<split>` of a variant.

    Args:
      root: the data root.
      variant: reads and writes in `tuples_<variant>`.
      split: "val" or "test", whose positives become questions, in their order.
      candidates: outfits of a question, the answer included.
      category: whose items are to be found, or "random": one that the outfit has. Of the
        slots of a category, one that is not empty is drawn.
      seed: of all that is drawn.
    Returns:
      the number of questions.
    Raises:
      FileNotFoundError: there is no such variant.
      FileExistsError: there are questions already.
      ValueError: the variant is not right, an unknown split or category, fewer than two
        candidates, or too few items for so many.
    """
    if split not in SPLITS:
        raise InputError(f"split={split!r}; expected one of {', '.join(SPLITS)}")
    if candidates < 2:
        raise InputError(f"candidates={candidates}; expected at least 2")
    if seed < 0:
        raise InputError(f"seed={seed}; expected a number from 0")
    folder = Path(root) / f"tuples_{variant}"
    target = folder / f"fill_in_blank_{split}"
    refuse_existing(target)
    catalogue = read_catalogue(root, variant)
    if split not in catalogue.splits:
        raise InputError(f"{folder} has no {split} split; expected tuples_{split}_posi")
    if category not in (RANDOM, *catalogue.categories):
        raise InputError(
            f"category={category!r}; expected {RANDOM!r} or one of "
            f"{', '.join(catalogue.categories)}"
        )
    blanks = catalogue.categories if category == RANDOM else (category,)
    header, table = read_table(folder / f"tuples_{split}_posi")
    pools = _pools(catalogue, folder, split, blanks, candidates)
    questions = _questions(catalogue, split, table, pools, candidates, seed)
    write_table(target, ",".join([header] * candidates), questions)
    return len(questions)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax make-fitb", __doc__)
    parser.add_argument("root", metavar="ROOT", help="data root, with tuples_VARIANT")
    parser.add_argument("variant", metavar="VARIANT", help="that gets the questions")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument(
        "--candidates", type=int, default=CANDIDATES, help="default: %(default)s"
    )
    parser.add_argument(
        "--category",
        default=RANDOM,
        help="whose items are asked for; default: a random one for each question",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)
    count = make_fitb(**vars(options))
    print(
        f"{options.root}/tuples_{options.variant}/fill_in_blank_{options.split} holds "
        f"{count:,} questions of {options.candidates} candidates"
    )


def _pools(
    catalogue: Catalogue,
    folder: Path,
    split: str,
    blanks: Sequence[str],
    candidates: int,
) -> dict[int, Int[np.ndarray, " _"]]:
    """Category → the items that are drawn from; enough of them for a question."""
    used = catalogue.split_items(split)
    pools = {}
    for name in blanks:
        number = catalogue.categories.index(name)
        pools[number] = used[number]
        if len(pools[number]) < candidates:
            raise InputError(
                f"{folder}/tuples_{split}_posi has {len(pools[number])} different items "
                f"of category {name!r}, fewer than the {candidates} candidates of a "
                "question; ask with fewer candidates, or for another category"
            )
    return pools


def _questions(
    catalogue: Catalogue,
    split: str,
    table: Int[np.ndarray, "n _"],
    pools: Mapping[int, Int[np.ndarray, " _"]],
    candidates: int,
    seed: int,
) -> Int[np.ndarray, "_n _"]:
    """Rows (user, item, …) of the candidates of each question, side by side.

    Args:
      table: rows (user, item, …) of the positives, -1 for an empty slot.
    """
    slots = np.array(catalogue.slots)
    rng = np.random.default_rng(seed)
    known = {_worn(*row, slots=slots) for row in table.tolist()}
    questions = []
    for number, (user, *row) in enumerate(table.tolist()):
        filled = {category: np.array(row) >= 0 for category in pools}
        filled = {c: np.flatnonzero(f & (slots == c)) for c, f in filled.items()}
        blanks = [category for category in pools if len(filled[category])]
        if not blanks:
            continue
        blank = int(rng.choice(blanks))
        slot = int(rng.choice(filled[blank]))
        wrong = _wrong_items(rng, user, row, slot, slots, pools[blank], known)
        chosen = list(itertools.islice(wrong, candidates - 1))
        if len(chosen) < candidates - 1:
            raise InputError(
                f"line {number + 2} of tuples_{split}_posi: only {len(chosen)} other "
                f"items of category {catalogue.categories[blank]!r} make an outfit that "
                f"nobody has, fewer than a question of {candidates} candidates needs; "
                "ask with fewer candidates, or for another category"
            )
        question = np.repeat(table[number : number + 1], candidates, axis=0)
        question[1:, slot + 1] = chosen
        questions.append(question.ravel())
    return np.stack(questions)


def _wrong_items(
    rng: np.random.Generator,
    user: int,
    row: list[int],
    slot: int,
    slots: Int[np.ndarray, " s"],
    pool: Int[np.ndarray, " p"],
    known: Set[tuple[int, frozenset]],
) -> Iterator[int]:
    """Items for a slot in random order, each once, that make an outfit nobody has."""
    others = {i for s, i in enumerate(row) if slots[s] == slots[slot] and s != slot}
    tried = set(others)
    # A few draws nearly always do; shuffling the whole pool is slow, and comes last.
    for draw in (lambda: rng.choice(pool, 32), lambda: rng.permutation(pool)):
        for item in draw().tolist():
            if item in tried:
                continue
            tried.add(item)
            other = [*row[:slot], item, *row[slot + 1 :]]
            if _worn(user, *other, slots=slots) not in known:
                yield item


def _worn(user: int, *row: int, slots: Int[np.ndarray, " s"]) -> tuple[int, frozenset]:
    """An outfit as a set of (category, item): two tops have no order.

    With its user where it is a single item, which is nearly always somebody's; else
    with -1.
    """
    pairs = zip(slots.tolist(), row, strict=True)
    worn = frozenset(pair for pair in pairs if pair[1] >= 0)
    return (user if len(worn) == 1 else -1), worn


if __name__ == "__main__":
    run_program(main)
