"""Published versions: all that a server needs of a run and its data, in one folder.

A version is both the workdir and the data root of a `Recommender`, and stays what it is
whatever becomes of the run and of the data.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fhn_jax.codes import Codes, load
from fhn_jax.codes.artifact import FILE as CODES
from fhn_jax.data.item_names import ItemNames, read_names
from fhn_jax.data.item_table import ITEMS_FILE, USERS_FILE
from fhn_jax.errors import MissingFileError
from fhn_jax.files import Versions, link_or_copy
from fhn_jax.recommender.data_index import INDEX
from fhn_jax.recommender.stored import stored_index
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.columns import Column
from fhn_jax.retrieval.composer import Composer
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.outfit_index import ATTRIBUTES, OutfitIndex

# In the workdir of a run.
FOLDER = "published"
COMPOSING = "composing"
# Of the data root: what items and users are called.
_NAMES = (ITEMS_FILE, USERS_FILE, "titles.json", "DEMO")


def published(workdir: str | os.PathLike) -> Versions:
    """The published versions of a run."""
    return Versions(Path(workdir) / FOLDER)


def served(workdir: str | os.PathLike, root: str | os.PathLike) -> tuple[Path, Path]:
    """Where what is served of a run and its data is: in the current version, if any.

    Returns:
      the workdir and the data root.
    """
    version = published(workdir).current
    return (Path(workdir), Path(root)) if version is None else (version, version)


def publish(
    site: str | os.PathLike,
    workdir: str | os.PathLike,
    root: str | os.PathLike,
    variant: str,
    files: Sequence[str] = (),
) -> Path:
    """Publishes what a run and its data are now.

    The index of the version before is taken up, see `index_of_data`. Images and outfits are
    not copied: they are links to the files that are there now, which are never changed.
    Attributes that were changed where they are served stay so, until the data say otherwise
    of that very one.

    Args:
      site: the workdir whose versions these are.
      workdir: of the run.
      root, variant: of the data.
      files: of the workdir that belong to the codes, if they are there.
    Returns:
      the folder of the new version.
    Raises:
      FileNotFoundError, ValueError: no codes, or damaged ones, or those of other data; the
        current version stays.
      BusyError: another process publishes.
    """
    workdir, root = Path(workdir), Path(root)
    versions = published(site)
    before = versions.current
    with versions.publish() as new:
        for name in (CODES, *files):
            if (workdir / name).is_file():
                shutil.copyfile(workdir / name, new / name)
        for name in _NAMES:
            if (root / name).is_file():
                shutil.copyfile(root / name, new / name)
        tuples = f"tuples_{variant}"
        if (root / tuples).is_dir():
            shutil.copytree(root / tuples, new / tuples, copy_function=link_or_copy)
        _link_images(root / "images", new / "images")
        codes = load(new)
        names = read_names(new, variant, codes)
        for name in (INDEX, COMPOSING):
            if before is not None and (before / name).is_dir():
                shutil.copytree(before / name, new / name, copy_function=_take_up)
        index = stored_index(new, codes, root, variant, names)
        if before is not None and index.attributes is not None:
            by_hand = _changed_by_hand(before, variant, codes, names)
            if by_hand:
                index.attributes.change(by_hand)
        if all(codes.num_items):
            Composer.kept(new / COMPOSING, ItemTables.from_codes(codes))
    found = versions.current
    assert found is not None
    return found


def compact(site: str | os.PathLike) -> Path:
    """Publishes the current version again, with a compacted index.

    Args:
      site: the workdir whose versions these are.
    Returns:
      the folder of the new version.
    Raises:
      FileNotFoundError: there is no version.
      BusyError: another process publishes.
    """
    versions = published(site)
    before = versions.current
    if before is None:
        raise MissingFileError(f"{versions.folder} has no versions; publish one")
    with versions.publish() as new:
        shutil.copytree(
            *(before, new),
            symlinks=True,
            ignore=lambda folder, _: [INDEX] if Path(folder) == before else [],
            copy_function=link_or_copy,
            dirs_exist_ok=True,
        )
        shutil.copytree(before / INDEX, new / INDEX, copy_function=_take_up)
        OutfitIndex.open(new / INDEX, load(new)).compact()
    found = versions.current
    assert found is not None
    return found


def _changed_by_hand(
    before: Path, variant: str, codes: Codes, names: ItemNames
) -> dict[str, dict[str, dict[int, Any]]]:
    """The attributes that a version has of its own, and of which the data say nothing new.

    Args:
      before: the version.
      codes, names: of the data as they are now.
    """
    then = load(before)
    said = Attributes.in_memory(then, read_names(before, variant, then).columns())
    now = Attributes.in_memory(codes, names.columns()).columns()
    try:
        served = Attributes.open(before / INDEX / ATTRIBUTES, then).columns()
    except (FileNotFoundError, ValueError):
        # There are none, or they are damaged: the index was made anew from the data.
        return {}
    found: dict[str, dict[str, dict[int, Any]]] = {}
    for name, column in said.columns().items():
        if name not in served or name not in now:
            continue
        mine, theirs, new = map(_plain, (served[name], column, now[name]))
        first = 0
        for category, count, start in zip(
            *(then.categories, then.num_items, np.cumsum([0, *codes.num_items])),
            strict=False,
        ):
            rows, of_today = slice(first, first + count), slice(start, start + count)
            own = (mine[rows] != theirs[rows]) & (theirs[rows] == new[of_today])
            changed = {int(k): mine[first + k] for k in np.flatnonzero(own)}
            if changed:
                found.setdefault(name, {})[category] = changed
            first += count
    return found


def _plain(column: Column) -> np.ndarray:
    """The values of a column, None where there is none."""
    values = np.asarray(column.plain()).tolist()
    return np.array([None if value != value else value for value in values], object)


def _link_images(source: Path, target: Path) -> None:
    """The images of a data root: its LMDB, or a link to a folder of files."""
    if (source / "lmdb").is_dir():
        shutil.copytree(
            *(source / "lmdb", target / "lmdb"),
            ignore=shutil.ignore_patterns("lock.mdb"),
            copy_function=link_or_copy,
        )
    elif source.is_dir():
        target.symlink_to(source.resolve(), target_is_directory=True)


def _take_up(source: str, target: str) -> None:
    """A file of an index: its arrays are never changed, its manifest and journal are."""
    if Path(source).suffix == ".npy":
        link_or_copy(source, target)
    else:
        shutil.copyfile(source, target)
