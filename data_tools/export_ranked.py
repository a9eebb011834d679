"""Shows the outfits that a run ranks best for each user, as pictures.

    fhn-jax export-ranked runs/vse_t3 ranked.jpg --users 0-5
    fhn-jax export-ranked runs/vse_t3 ranked

The first makes a contact sheet, a row for each user. The second makes a folder for each
user, with a picture of each of the best outfits, and `ranking.csv`, the ranks of all
outfits. Ranked are the outfits of a split that the user likes among the negatives that
go with them; liked ones have a green frame and a tick.

Nothing is computed but scores: a workdir with config.json and codes.safetensors, the
tuples and the images of the data set are all that is read.
"""

import csv
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fhn_jax.data_tools.split_users import parse_users
from jaxtyping import Bool, Float32, Int32
from PIL import Image

from fhn_jax.codes import SCORES, Scorer
from fhn_jax.data.catalogue import NEGATIVES, SPLITS, Catalogue
from fhn_jax.data.images import ImageStore, shown_images, thumbnail
from fhn_jax.data.item_names import ItemNames, read_names
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError
from fhn_jax.evaluation.evaluators import check_same_data, load_codes, ranked_outfits
from fhn_jax.files import atomic_path, new_folder, refuse_existing
from fhn_jax.program import Arguments, run_program
from fhn_jax.reporting.contact_sheet import (
    ITEM_PX,
    OutfitPicture,
    contact_sheet,
    most_outfits,
    picture_of,
)
from fhn_jax.training.workdir import data_of, read_config

SHEET_SUFFIXES = (".png", ".jpg", ".jpeg")
SHEET_USERS = 6  # of a sheet, if the user does not say whose outfits to show
BEST = 8

_OTHERS = {"random": "random ones", "hard": "those of other users"}


@dataclass(frozen=True, eq=False)
class Ranking:
    """The outfits of a user, best first.

    Attributes:
      user: the user's id.
      items: item ids within the category of the slot.
      liked: whether an outfit is one of the user's own.
      scores: of the outfits.
    """

    user: int
    items: Int32[np.ndarray, "m s"]
    liked: Bool[np.ndarray, " m"]
    scores: Float32[np.ndarray, " m"]


def export_ranked(
    workdir: str | Path,
    target: str | Path,
    *,
    users: str | None = None,
    best: int = BEST,
    split: str = "test",
    negatives: str = "random",
    score: str = "binary",
    data_root: str | Path | None = None,
) -> list[int]:
    """Makes a contact sheet (`target` ends in .png, .jpg or .jpeg), or user folders.

    Args:
      workdir: of a run, with codes of its data.
      target: the file or folder to make.
      users: numbers such as "0-5,9"; of a shop, its ids "anna,ben" or "#0-5". None: all users for folders, and for a sheet a few
        that are spread evenly over all.
      best: outfits of each user that are shown; all if there are fewer, and in a sheet
        no more than fit beside each other.
      split: whose outfits are ranked.
      negatives: "random" or "hard".
      score: "binary", "asymmetric" or "relaxed".
      data_root: where the data set lies now; None: where it lay when the run was made.
    Returns:
      ids of the users shown.
    Raises:
      FileNotFoundError: no codes, no data, or no images in it.
      FileExistsError: `target` exists.
      KeyError: an image is missing.
      ValueError: another suffix, codes of another data set, a split, negatives, a
        score or users that are not there, or a sheet too large to be drawn.
    """
    target = Path(target)
    if target.suffix and target.suffix.lower() not in SHEET_SUFFIXES:
        raise InputError(
            f"{target} ends in {target.suffix!r}; expected {', '.join(SHEET_SUFFIXES)} "
            "for a contact sheet, or no ending for folders"
        )
    refuse_existing(target)
    if best < 1:
        raise InputError(f"best={best}; expected at least one outfit a user")
    root, variant = data_of(read_config(Path(workdir)), Path(workdir))
    catalogue = read_catalogue(data_root or root, variant)
    codes, latents = load_codes(Path(workdir))
    check_same_data(codes, catalogue)
    images = shown_images(catalogue.root)
    names = read_names(catalogue.root, catalogue.variant, codes)
    is_sheet = bool(target.suffix)
    if users is not None:
        shown = parse_users(users, catalogue.num_users, names.users)
    else:
        part = catalogue.splits.get(split)
        shown = [] if part is None else np.unique(part.positives.users).tolist()
        if is_sheet:
            count = min(SHEET_USERS, len(shown))
            rows = np.linspace(0, len(shown) - 1, count).astype(int)
            shown = [shown[row] for row in rows]
    scorer = Scorer(codes, latents)
    rankings = _rankings(catalogue, scorer, split, negatives, score, shown)
    pictures = _Pictures(catalogue, names, images)
    if is_sheet:
        labels = len(catalogue.slots) if names.table or names.titles else 0
        most = most_outfits(len(shown), catalogue.slots, labels)
        best = max(1, min(best, most))
        note = (
            f"Of each user's own {split} outfits and {_OTHERS[negatives]}, the {best} "
            f"with the highest {score} score. Below each: rank and score. Green: the "
            "user's own."
        )
        _write_sheet(target, rankings, best, pictures, note)
    else:
        _write_folders(target, rankings, best, pictures)
    return list(shown)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax export-ranked", __doc__)
    parser.add_argument("workdir", metavar="WORKDIR", help="of a run, with its codes")
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="a sheet (.png, .jpg), or else a folder to make",
    )
    parser.add_argument(
        "--users",
        help=f"such as 0-5,9, or a shop's ids anna,ben; default: {SHEET_USERS} for a sheet, else all",
    )
    parser.add_argument(
        "--best", type=int, default=BEST, help="outfits a user; default: %(default)s"
    )
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--negatives", choices=tuple(NEGATIVES), default="random")
    parser.add_argument("--score", choices=SCORES, default="binary")
    parser.add_argument(
        "--data-root", help="where the data set is now; default: as in config.json"
    )
    options = parser.parse_args(arguments)
    users = export_ranked(**vars(options))
    print(f"{options.target} shows the best outfits of {len(users):,} users")


def _rankings(
    catalogue: Catalogue,
    scorer: Scorer,
    split: str,
    negatives: str,
    score: str,
    users: Sequence[int],
) -> Iterator[Ranking]:
    if split not in catalogue.splits:
        raise InputError(
            f"{catalogue.root}: no {split!r} split in tuples_{catalogue.variant}; "
            f"expected one of {', '.join(catalogue.splits)}"
        )
    part = catalogue.splits[split]
    if negatives not in part.negatives:
        raise InputError(
            f"{catalogue.root}: tuples_{catalogue.variant} has no "
            f"tuples_{split}_{NEGATIVES[negatives]}; it has "
            f"{' and '.join(part.negatives) or 'no'} negatives of this split"
        )
    tables = part.positives, part.negatives[negatives]
    scores = [scorer.score(score, table.users, table.items) for table in tables]
    without = sorted(set(users) - set(tables[0].users.tolist()))
    if without:
        raise InputError(
            f"{len(without):,} users have no outfit in the {split} split, first user "
            f"{without[0]}; choose others with --users"
        )
    for user in users:
        yield Ranking(user, *ranked_outfits(user, *tables, *scores))


class _Pictures:
    """Pictures of outfits; that of an item is read once."""

    def __init__(self, catalogue: Catalogue, names: ItemNames, images: ImageStore):
        self.catalogue, self.names = catalogue, names
        self._item = functools.lru_cache(maxsize=4096)(
            lambda name: thumbnail(images, name, ITEM_PX)
        )

    def best(self, ranking: Ranking, count: int) -> list[OutfitPicture]:
        """The best outfits of a user."""
        return [
            picture_of(
                self.catalogue.slots,
                row,
                self._picture,
                caption=f"{rank} · {score:.2f}",
                highlighted=bool(liked),
                labels=self.names.called(self.catalogue.slots, row),
            )
            for rank, row, liked, score in zip(
                range(1, min(count, len(ranking.items)) + 1),
                ranking.items.tolist(),
                ranking.liked,
                ranking.scores,
                strict=False,
            )
        ]

    def _picture(self, category: int, item: int) -> Image.Image:
        return self._item(self.catalogue.names[category][item])


def _write_sheet(
    target: Path,
    rankings: Iterator[Ranking],
    best: int,
    pictures: _Pictures,
    note: str,
) -> None:
    rows, titles = [], []
    for ranking in rankings:
        rows.append(pictures.best(ranking, best))
        hits, count = int(ranking.liked[:best].sum()), len(rows[-1])
        chance = count * ranking.liked.mean()
        titles.append(
            f"User {pictures.names.user(ranking.user)}: {hits} of the {count} best are liked, "
            f"{chance:.1f} by chance"
        )
    dataset = pictures.catalogue.dataset
    heading = f"Ranked best by the codes of {dataset}"
    if dataset == "demo":
        heading += ": drawn garments, simulated users"
    sheet = contact_sheet(rows, titles=titles, heading=heading, note=note)
    with atomic_path(target) as temporary:
        _save(sheet, temporary, target.suffix.lower())


def _write_folders(
    target: Path, rankings: Iterator[Ranking], best: int, pictures: _Pictures
) -> None:
    catalogue = pictures.catalogue
    digits = len(str(catalogue.num_users - 1))
    with new_folder(target) as folder:
        for ranking in rankings:
            mine = folder / f"user_{ranking.user:0{digits}d}"
            mine.mkdir()
            for rank, outfit in enumerate(pictures.best(ranking, best), 1):
                _save(contact_sheet([[outfit]]), mine / f"{rank:03d}.jpg", ".jpg")
            with open(mine / "ranking.csv", "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                _write_ranking(writer, ranking, catalogue, pictures.names)


def _write_ranking(
    writer, ranking: Ranking, catalogue: Catalogue, own: ItemNames
) -> None:
    writer.writerow(("rank", "liked", "score", *catalogue.slot_names))
    for rank, (items, liked, score) in enumerate(
        zip(ranking.items, ranking.liked, ranking.scores, strict=True), 1
    ):
        names = [
            (own.id(category, item) or catalogue.names[category][item])
            if item >= 0
            else ""
            for category, item in zip(catalogue.slots, items.tolist(), strict=True)
        ]
        writer.writerow((rank, int(liked), f"{score:.6g}", *names))


def _save(picture: Image.Image, path: Path, suffix: str) -> None:
    if suffix == ".png":
        picture.save(path, "PNG")
    else:
        picture.save(path, "JPEG", quality=88, optimize=True)


if __name__ == "__main__":
    run_program(main)
