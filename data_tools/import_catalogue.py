"""Imports a shop's own files: catalogue, outfits or orders, likes and photos.

    fhn-jax import-catalogue shop data/shop --dry-run
    fhn-jax import-catalogue shop data/shop
    fhn-jax import-catalogue shop data/shop --update

`shop` holds tables as .csv, .jsonl or .parquet: items (id, category; title, image and any
attributes), likes (user, and item_id or outfit_id; value 1 or -1, time), and if there are
any outfits or orders (a column for each slot, or a row for each item). catalogue.toml says
which category belongs to which slot; without it, the common names are known. What cannot
be used is left out, counted, and listed with its reason in quarantine.jsonl.

--update takes the shop's tables of today into data that are there: known items and users
keep their numbers, items that are no longer in the table are marked as removed, and new
likes are split as those before. Likes that are there may come again, or be left out.
"""

import argparse
import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fhn_jax.data_tools.build_lmdb import progress_bar
from fhn_jax.data_tools.shop import engine, sources
from fhn_jax.data_tools.shop.before import Before, read_before
from fhn_jax.data_tools.shop.importing import VARIANT, Import
from fhn_jax.data_tools.shop.options import Options
from fhn_jax.data_tools.shop.settings import Settings, parse_settings, read_settings
from fhn_jax.data_tools.shop.splits import METHODS
from fhn_jax.data_tools.shop.summary import Summary

from fhn_jax.data.records import Progress
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.files import new_folder, refuse_existing, replaced_folder
from fhn_jax.program import Arguments, run_program

_DEFAULTS = Options()


def import_catalogue(
    shop: str | os.PathLike | Mapping[str, Any],
    root: str | os.PathLike,
    *,
    dry_run: bool = False,
    update: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Summary:
    """Writes a data root from a shop's tables, whole or not at all.

    The outfits are in `tuples_shop`, the photos in `images/lmdb`, vectors of the titles in
    `vectors/title.npz`, the shop's ids, titles and attributes in `items.parquet` and
    `users.parquet`, and what was left out in `quarantine.jsonl`.

    Args:
      shop: the folder; or the tables by name ("items", "outfits", "orders", "likes"), each
        a file, a DataFrame or an Arrow table, and perhaps "catalogue", what catalogue.toml
        would say, "folder", which paths of photos start from, and "left_out", a table of
        what was left out before (file, row, what, reason).
      root: the data root to make.
      dry_run: only says what would be done, and refuses what would be refused; photos are
        read, and not stored.
      update: whether to take the tables into the data at `root`, which are there: it is
        swapped for another folder when all is done, so readers see the one or the other.
        Known items and users keep their numbers.
      force: whether known items may become other pieces, or most of them be gone, in an
        update.
      progress: called with the number of photos done, and of all.
      **options: the fields of `Options`, such as `split="time"`.
    Raises:
      FileNotFoundError: there is no such folder or no table of items.
      FileExistsError: there is something at `root`.
      ValueError: a table or setting cannot be used, or too many rows cannot; or in an
        update, an id means another piece, or an attribute is of another type.
      RefusedError: writing failed; the disk may be full. Photos that are done are kept
        beside `root`, and the same call goes on from there.

    >>> import_catalogue("no_such_folder", "data/shop")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    fhn_jax.errors.MissingFileError: there is no folder no_such_folder; ...
    """
    root = Path(root)
    found = sources.find_tables(shop)
    settings = _settings(shop)
    place = shop.get("folder") if isinstance(shop, Mapping) else shop
    folder = None if place is None else Path(place)
    left_out = shop.get("left_out") if isinstance(shop, Mapping) else None

    if force and not update:
        raise InputError("force (--force) is about an update; give it with --update")

    def open_import(connection: Any) -> Import:
        before, chosen = None, Options(**options)
        if update:
            _check_updatable(found, settings)
            before = read_before(connection, root, VARIANT)
            chosen = _options_of(before, options)
        return Import(
            connection, found, settings, chosen, folder, left_out, before, force
        )

    if update and not root.is_dir():
        raise MissingFileError(
            f"there is no data root {root} to update; import it first"
        )
    if dry_run:
        if not update:
            refuse_existing(root)
        with tempfile.TemporaryDirectory() as work:
            new = Path(work) / "data"
            new.mkdir()
            with engine.database(Path(work)) as connection:
                return open_import(connection).write(new, None, progress)
    made = replaced_folder(root) if update else new_folder(root)
    with made as new, tempfile.TemporaryDirectory(dir=new.parent) as work:
        with engine.database(Path(work)) as connection:
            photos = root.with_name(f"{root.name}.images.partial")
            summary = open_import(connection).write(new, photos, progress)
        if photos.is_dir():  # Last: should anything fail, they are kept.
            (new / "images").mkdir()
            photos.rename(new / "images" / "lmdb")
    return summary


def _check_updatable(found: Mapping[str, Any], settings: Settings) -> None:
    """Raises InputError about tables that only a whole import can take."""
    for kind in ("negatives", "questions"):
        if kind in found:
            raise InputError(
                f"an update takes no table of {kind}: they belong to the likes of one "
                "import; leave it out, or import anew"
            )


def _options_of(before: Before, given: Mapping[str, Any]) -> Options:
    """The options of the first import; raises InputError if others are given."""
    options = dataclasses.asdict(Options.of(before.options))
    for key, value in given.items():
        if key != "max_quarantine" and key in options and options[key] != value:
            raise InputError(
                f"{key}={value!r}: {before.root} was imported with {options[key]!r}, "
                "which an update keeps; leave it out, or import anew"
            )
    return Options(**options | dict(given))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax import-catalogue", __doc__)
    parser.add_argument("shop", metavar="SHOP", help="folder with the shop's tables")
    parser.add_argument("root", metavar="ROOT", help="data root to make, or to update")
    parser.add_argument(
        "--update", action="store_true", help="take the tables into the data at ROOT"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="known items may become other pieces, or most be gone",
    )
    add_options(parser)
    options = vars(parser.parse_args(arguments))
    run_import(import_catalogue, options)


def add_options(parser: Arguments) -> None:
    """Adds the flags for what all imports can be told."""
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done; write nothing"
    )
    parser.add_argument(
        "--split",
        choices=METHODS,
        default=argparse.SUPPRESS,
        help="which likes test: some of each user's, the latest of all, or each user's "
        "last; a column split of the tables counts more "
        f"(default: {_DEFAULTS.split})",
    )
    _number(parser, "--val-share", "share of the likes that choose the model")
    _number(parser, "--test-share", "share of the likes that test it")
    parser.add_argument(
        "--new-items",
        action="store_true",
        default=argparse.SUPPRESS,
        help="no item of the test is trained on",
    )
    _number(parser, "--min-likes", "users with fewer are left out")
    parser.add_argument(
        "--repeats",
        choices=("once", "weights"),
        default=argparse.SUPPRESS,
        help="a repeated like counts once, or as often in training",
    )
    _number(parser, "--negatives", "of each positive of val and test")
    _number(parser, "--image-size", "photos are scaled to, in pixels")
    parser.add_argument(
        "--no-images",
        dest="images",
        action="store_false",
        default=argparse.SUPPRESS,
        help="go without photos",
    )
    _number(parser, "--max-quarantine", "share of a table's rows that may be at fault")
    _number(parser, "--seed", "of all that is drawn")


def run_import(importer: Callable[..., Summary], options: Mapping[str, Any]) -> None:
    """Runs `import_catalogue`, or what calls it, as a command."""
    with progress_bar("photos") as progress:
        summary = importer(**options, progress=progress)
    print(summary.text)
    if options["dry_run"]:
        print("nothing was written; without --dry-run it will be")
    else:
        print(
            f"{options['root']} holds the data, and quarantine.jsonl what is not in it"
        )


def _number(parser: Arguments, flag: str, about: str) -> None:
    default = getattr(_DEFAULTS, flag[2:].replace("-", "_"))
    kind: Callable = type(default)
    parser.add_argument(
        flag,
        type=kind,
        default=argparse.SUPPRESS,
        help=f"{about} (default: {default})",
    )


def _settings(shop: str | os.PathLike | Mapping[str, Any]) -> Settings:
    if isinstance(shop, Mapping):
        return parse_settings(shop.get("catalogue") or {}, "catalogue")
    path = Path(shop) / "catalogue.toml"
    return read_settings(path) if path.is_file() else Settings()


if __name__ == "__main__":
    run_program(main)
