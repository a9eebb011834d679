"""Makes a variant with some of the users, or with a share of their training outfits.

    fhn-jax split-users data/polyvore 630 base --random-users 500
    fhn-jax split-users data/polyvore 630 new --random-users 500 --rest
    fhn-jax split-users data/polyvore 630 few --share 0.05 --negatives 2
    fhn-jax split-users data/polyvore 630 guests --users 500-629 --at-most 10

The first two make the sets of a cold-start study: known users, and new ones. Users are
numbered anew without gaps, in their old order; `users` in the folder says who they
were. Items keep their ids, and the image lists are copied, so that the items of a model
of the one set are those of the other. The hard negatives of the known users may be
outfits of new ones; train.negatives="hard_online" draws from the known users alone.

The third keeps a share of each user's training outfits, a positive with all its
negatives or the first few of them; validation, test and questions stay whole. The fourth
takes new users with ten outfits each, as a cold start has them. Which
outfits are kept depends on the seed and the user alone, and those of a smaller share
are among those of a larger one.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from fhn_jax.data.catalogue import NEGATIVES, SPLITS, Catalogue, name_fault
from fhn_jax.data.item_names import MOST_COMPARED, read_user_ids
from fhn_jax.data.item_table import Ids
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.tables import read_table, write_table
from fhn_jax.errors import InputError, nearest
from fhn_jax.files import new_folder, refuse_existing
from fhn_jax.program import Arguments, run_program


def split_users(
    root: str | Path,
    variant: str,
    new_variant: str,
    *,
    users: str | None = None,
    random_users: int | None = None,
    rest: bool = False,
    share: float = 1.0,
    at_most: int | None = None,
    negatives: int | None = None,
    seed: int = 0,
) -> Catalogue:
    """Writes `tuples_<new_variant>` beside the variant that it is made of.

    Args:
      root: the data root.
      variant: reads `tuples_<variant>`, which must be right.
      new_variant: writes `tuples_<new_variant>`, which must not exist.
      users: the users to take, such as "0-31,40". None: all.
      random_users: the number of users to draw, in place of `users`.
      rest: take the users that would not have been taken.
      share: of each user's training positives that is kept, rounded, at least one.
      at_most: of each user's training positives, no more than this are kept.
      negatives: the first so many of each training positive are kept. None: all.
      seed: of the users and positives that are drawn.
    Returns:
      the new variant, as read back.
    Raises:
      FileNotFoundError: there is no such variant.
      FileExistsError: there is something where the new one should be.
      ValueError: the variant is not right, no or unknown users, a share that is not in
        (0, 1], a limit below one, more negatives than there are, or no test outfit of
        the users taken.
    """
    root = Path(root)
    fault = name_fault(new_variant)
    if fault:
        raise InputError(
            f"new variant {new_variant!r} {fault}; expected VARIANT of a folder "
            "tuples_VARIANT, such as 'base'"
        )
    if not 0 < share <= 1:
        raise InputError(f"share={share}; expected more than 0, and at most 1")
    for name, value in (("at_most", at_most), ("negatives", negatives)):
        if value is not None and value < 1:
            raise InputError(f"{name}={value}; expected at least 1")
    if seed < 0:
        raise InputError(f"seed={seed}; expected a number from 0")
    source, target = root / f"tuples_{variant}", root / f"tuples_{new_variant}"
    refuse_existing(target)
    # Before the new folder: it would make the root, and with it data that are not there.
    catalogue = read_catalogue(root, variant)
    _check_negatives(catalogue, negatives)
    with new_folder(target) as folder:
        own = read_user_ids(root, variant)
        taken = _choose(catalogue.num_users, users, random_users, rest, seed, own)
        for category in catalogue.categories:
            shutil.copyfile(
                source / f"image_list_{category}", folder / f"image_list_{category}"
            )
        write_table(
            folder / "users",
            "user,original_user",
            np.column_stack([np.arange(len(taken)), taken]),
        )
        for split in SPLITS:
            if split not in catalogue.splits:
                continue
            owners = catalogue.splits[split].positives.users
            rows = np.flatnonzero(np.isin(owners, taken))
            if split == "train":
                rows = _share(owners, taken, share, at_most, seed)
            if not len(rows):
                # A split of nobody is one that the new variant does not have.
                if split == "test":
                    raise InputError(
                        f"none of the {len(taken):,} users has an outfit in {source}/"
                        "tuples_test_posi; take others"
                    )
                continue
            kept = negatives if split == "train" else None
            _copy_split(catalogue, split, source, folder, rows, taken, kept)
        for split in catalogue.fitb:
            _copy_questions(source, folder, f"fill_in_blank_{split}", taken)
    return read_catalogue(root, new_variant)


def parse_users(text: str, num_users: int, own: Ids | None = None) -> Sequence[int]:
    """Numbers of users from text such as "0-31,40", sorted, each once.

    Args:
      own: the shop's ids of the users: "anna,ben" are then meant, and "#0-31" by number.
    Raises:
      ValueError: something else, or a number that is out of range.

    >>> parse_users("4,0-2", 5)
    [0, 1, 2, 4]
    """
    users: set[int] = set()
    for part in text.split(","):
        if own is not None and part.strip() in own:
            users.add(own.number(part.strip()))
            continue
        sign = "#?" if own is None else "#"
        found = re.fullmatch(rf"\s*{sign}([0-9]{{1,18}})(?:-([0-9]{{1,18}}))?\s*", part)
        if found is None and own is not None:
            known = own.names if len(own) <= MOST_COMPARED else ()
            raise InputError(
                f"users {text[:80]!r}: {part!r} is not one of the {len(own):,} users; "
                f"expected ids of the shop, or numbers such as #0-31"
                f"{nearest(part.strip(), known)}"
            )
        if found is None:
            raise InputError(
                f"users {text[:80]!r}: {part!r} is neither an id nor a range of ids; "
                "expected ids and ranges such as 0-31,40"
            )
        start, end = int(found[1]), int(found[2] or found[1])
        if not start <= end < num_users:
            raise InputError(
                f"users {text[:80]!r}: {part!r} is out of range; expected ids from 0 "
                f"to {num_users - 1}, ranges from the lower one to the higher one"
            )
        users.update(range(start, end + 1))
    return sorted(users)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax split-users", __doc__)
    parser.add_argument("root", metavar="ROOT", help="data root, with tuples_VARIANT")
    parser.add_argument("variant", metavar="VARIANT", help="that is read")
    parser.add_argument("new_variant", metavar="NEW", help="that is written")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--users", help="take these, such as 0-31,40; default: all")
    who.add_argument("--random-users", type=int, metavar="N", help="take so many")
    parser.add_argument(
        "--rest", action="store_true", help="take the users that are not among these"
    )
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="of each user's training outfits to keep, at least one; default: all",
    )
    parser.add_argument(
        "--at-most", type=int, metavar="N", help="training outfits of a user to keep"
    )
    parser.add_argument(
        "--negatives", type=int, metavar="K", help="to keep of each training outfit"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)
    made = split_users(**vars(options))
    counts = ", ".join(
        f"{len(split.positives):,} {name}" for name, split in made.splits.items()
    )
    print(
        f"{made.root}/tuples_{made.variant} has {made.num_users:,} users; positives: "
        f"{counts}"
    )


def _check_negatives(catalogue: Catalogue, negatives: int | None) -> None:
    train = catalogue.splits["train"]
    for kind in train.negatives:
        if negatives is not None and negatives > train.ratio(kind):
            raise InputError(
                f"negatives={negatives}; tuples_train_{NEGATIVES[kind]} of "
                f"{catalogue.root}/tuples_{catalogue.variant} holds "
                f"{train.ratio(kind)} of each positive; expected at most as many"
            )


def _choose(
    num_users: int,
    users: str | None,
    random_users: int | None,
    rest: bool,
    seed: int,
    own: Ids | None,
) -> Int[np.ndarray, " u"]:
    """Ids of the users to take, sorted."""
    every = np.arange(num_users)
    if users is not None and random_users is not None:
        raise InputError("users and random_users are both given; expected one of them")
    taken = every
    if users is not None:
        taken = np.array(parse_users(users, num_users, own))
    elif random_users is not None:
        if not 1 <= random_users <= num_users:
            raise InputError(
                f"random_users={random_users}; expected 1 to {num_users}, the number of "
                "users that there are"
            )
        draws = np.random.default_rng(seed)
        taken = np.sort(draws.choice(every, random_users, replace=False))
    if rest:
        taken = np.setdiff1d(every, taken)
        if not len(taken):
            raise InputError(
                f"the rest of all {num_users} users is nobody; take fewer users"
            )
    return taken


def _share(
    owners: Int[np.ndarray, " n"],
    taken: Int[np.ndarray, " u"],
    share: float,
    at_most: int | None,
    seed: int,
) -> Int[np.ndarray, " m"]:
    """Rows of the training positives to keep, sorted."""
    kept = []
    for user in taken:
        rows = np.flatnonzero(owners == user)
        count = max(1, round(share * len(rows)))
        if at_most is not None:
            count = min(count, at_most)
        kept.append(np.random.default_rng((seed, user)).permutation(rows)[:count])
    return np.sort(np.concatenate(kept))


def _copy_split(
    catalogue: Catalogue,
    split: str,
    source: Path,
    folder: Path,
    rows: Int[np.ndarray, " m"],
    taken: Int[np.ndarray, " u"],
    negatives: int | None,
) -> None:
    """Writes the positives in `rows`, and the negatives that belong to them."""
    _copy_rows(source, folder, f"tuples_{split}_posi", rows, taken)
    for kind in catalogue.splits[split].negatives:
        ratio = catalogue.splits[split].ratio(kind)
        theirs = rows[:, None] * ratio + np.arange(negatives or ratio)
        name = f"tuples_{split}_{NEGATIVES[kind]}"
        _copy_rows(source, folder, name, theirs.reshape(-1), taken)


def _copy_rows(
    source: Path,
    folder: Path,
    name: str,
    rows: Int[np.ndarray, " m"],
    taken: Int[np.ndarray, " u"],
) -> None:
    """Writes some rows of a table, with the users' new numbers."""
    header, table = read_table(source / name)
    table = table[rows]
    # A header repeats `user` for each candidate of a question.
    columns = [i for i, field in enumerate(header.split(",")) if field == "user"]
    table[:, columns] = np.searchsorted(taken, table[:, columns])
    write_table(folder / name, header, table)


def _copy_questions(
    source: Path, folder: Path, name: str, taken: Int[np.ndarray, " u"]
) -> None:
    """Writes the questions of the users taken; without any there is no file."""
    _, table = read_table(source / name)
    rows = np.flatnonzero(np.isin(table[:, 0], taken))
    if len(rows):
        _copy_rows(source, folder, name, rows, taken)


if __name__ == "__main__":
    run_program(main)
