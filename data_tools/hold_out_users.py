"""Parts the users of a data set into known ones and new ones with few clicks.

    python -m data_tools.hold_out_users ROOT 40 OUT --new 8 --likes 10 --dislikes 20

OUT gets two variants with the same items: the first users, whole, to train on; and the
last ones, renumbered from 0, who have so many training outfits, for the cold-start
action. Images, features and text vectors are linked, not copied.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fhn_jax.data.schema import NEGATIVES, SPLITS, Catalogue, read_catalogue
from fhn_jax.files import new_folder, write_text


def hold_out_users(
    root: str | os.PathLike,
    variant: str,
    out: str | os.PathLike,
    *,
    new: int,
    likes: int,
    dislikes: int,
    seed: int = 0,
) -> tuple[str, str]:
    """Writes the variants of the known and of the new users.

    The known users' variant has no hard negatives for training: they would be outfits
    of new users, too. (`train.negatives="hard_online"` draws them from its own users.)

    Args:
      root: a data root.
      variant: of all users.
      out: a data root to make.
      new: how many users, the last ones, are new.
      likes: training positives that each new user keeps, drawn at random.
      dislikes: random training negatives that each keeps, a multiple of `likes`: as
        many of each positive.
      seed: of the draw.
    Returns:
      names of the two variants: the numbers of known and of new users.
    Raises:
      FileExistsError: `out` is there already.
      ValueError: no user would be left on one side; a new user has too few outfits.
    """
    root, out = Path(root), Path(out)
    catalogue = read_catalogue(root, variant)
    known = catalogue.num_users - new
    if new < 1 or known < 1 or new == known:
        raise ValueError(
            f"new={new} of {catalogue.num_users} users: expected 1 to "
            f"{catalogue.num_users - 1}, and not half of them (variants are named "
            "after their numbers of users)"
        )
    kept = _keep(catalogue, known, likes, dislikes, seed)
    variants = str(known), str(new)
    with new_folder(out) as made:
        for name in ("images", "features", "sentence_vector"):
            if (root / name).exists():
                (made / name).symlink_to((root / name).resolve())
        source = root / f"tuples_{variant}"
        for folder in variants:
            for category in catalogue.categories:
                name = f"image_list_{category}"
                text = (source / name).read_text(encoding="utf-8")
                write_text(made / f"tuples_{folder}" / name, text)
        for path, lines in _tables(source):
            users = np.array([int(line.partition(",")[0]) for line in lines[1:]])
            if path.name != "tuples_train_nega_hard":
                mine = np.flatnonzero(users < known)
                _write(made / f"tuples_{variants[0]}" / path.name, lines, mine, 0)
            mine = np.flatnonzero(users >= known)
            if path.name == "tuples_train_posi":
                mine = kept
            elif path.name.startswith("tuples_train_nega"):
                kind = path.name.removeprefix("tuples_train_")
                ratio = catalogue.splits["train"].ratio(
                    next(k for k, ending in NEGATIVES.items() if ending == kind)
                )
                each = min(dislikes // likes, ratio)
                mine = (kept[:, None] * ratio + np.arange(each)).ravel()
            _write(made / f"tuples_{variants[1]}" / path.name, lines, mine, known)
    return variants


def _keep(catalogue: Catalogue, known: int, likes: int, dislikes: int, seed: int):
    """Rows of the training positives that the new users keep."""
    train = catalogue.splits["train"]
    ratio = train.ratio("random")
    if likes < 1 or dislikes % likes or not likes <= dislikes <= likes * ratio:
        raise ValueError(
            f"likes={likes}, dislikes={dislikes}: expected dislikes that are 1 to "
            f"{ratio} times the likes, as many as the data has for each positive"
        )
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(known, catalogue.num_users):
        own = np.flatnonzero(train.positives.users == user)
        if len(own) < likes:
            raise ValueError(
                f"user {user} has {len(own)} training outfits; likes={likes} is too "
                "many"
            )
        rows.append(np.sort(rng.choice(own, likes, replace=False)))
    return np.concatenate(rows)


def _tables(folder: Path):
    """The CSV files of a variant, as lines."""
    names = [f"tuples_{s}_posi" for s in SPLITS]
    names += [f"tuples_{s}_{ending}" for s in SPLITS for ending in NEGATIVES.values()]
    names += [f"fill_in_blank_{s}" for s in SPLITS]
    for name in names:
        path = folder / name
        if path.is_file():
            yield path, path.read_text(encoding="utf-8").split()


def _write(path: Path, lines: list[str], rows: np.ndarray, shift: int) -> None:
    """Writes the header and some rows, all users in them renumbered."""
    columns = lines[0].split(",")
    table = [list(map(int, lines[1 + row].split(","))) for row in rows]
    for row in table:
        for column, name in enumerate(columns):
            row[column] -= shift * (name == "user")
    text = [lines[0], *(",".join(map(str, row)) for row in table)]
    write_text(path, "\n".join(text) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this file; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.hold_out_users",
        description="Part users into known ones and new ones with few clicks.",
    )
    parser.add_argument("root", type=Path, help="data root")
    parser.add_argument("variant", help="reads tuples_VARIANT")
    parser.add_argument("out", type=Path, help="data root to make")
    parser.add_argument("--new", type=int, required=True, help="number of new users")
    parser.add_argument("--likes", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--dislikes", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = vars(parser.parse_args(arguments))
    try:
        known, new = hold_out_users(**options)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{options['out']}: tuples_{known} (known users), tuples_{new} (new users)")


if __name__ == "__main__":
    main()
