"""Published versions: all that a server needs of a run and its data, in one folder.

A version is both the workdir and the data root of a `Recommender`, and stays what it is
whatever becomes of the run and of the data, but for what the shop says of its items.
"""

import logging
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
from fhn_jax.files import (
    Versions,
    atomic_path,
    link_or_copy,
    read_sealed,
    sha256_file,
    write_sealed,
)
from fhn_jax.recommender.data_index import INDEX
from fhn_jax.recommender.stored import stored_index
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.columns import Column
from fhn_jax.retrieval.composer import Composer
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.outfit_index import ATTRIBUTES, OutfitIndex

_log = logging.getLogger("fhn_jax.recommender")
# In the workdir of a run.
FOLDER = "published"
COMPOSING = "composing"
# In a version: the workdir of the run whose codes it has, from that of the first one.
_RUN = "run.json"
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
        write_sealed(new / _RUN, {"run": os.path.relpath(workdir, site)})
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


def run_of(version: Path) -> str | None:
    """The run whose codes a version has: its workdir, from that of the first one.

    None if an older release published the version, which did not note it.
    """
    path = version / _RUN
    if not path.is_file():
        return None
    return read_sealed(path, "publish again")["run"]


def rollback(site: str | os.PathLike, variant: str) -> int:
    """Makes the version before the current one current: its codes and its outfits.

    What the shop says of its items stays as it is served now: what it has no more, and
    attributes such as what is in stock, those that were changed where they are served
    included; unless that version is damaged.

    Args:
      site: the workdir whose versions these are.
      variant: of the data.
    Returns:
      the number of the version.
    Raises:
      InputError: there is no version before the current one.
      BusyError: another process publishes.
    """
    return published(site).rollback(
        lambda older, current: _keep_items(older, current, variant)
    )


def _keep_items(older: Path, current: Path, variant: str) -> None:
    """Says of the items of an older version what is said in the current one."""
    both = (older, current)
    if not all((v / name).is_file() for v in both for name in (CODES, ITEMS_FILE)):
        return
    codes = load(older)
    try:
        now = load(current)
        read_names(current, variant, now)
    except (FileNotFoundError, ValueError) as error:
        _log.warning("what is in stock is that of %s: %s", older, error)
        return
    if codes.identity != now.identity:
        return  # They are other items.
    with atomic_path(older / ITEMS_FILE) as temporary:
        shutil.copyfile(current / ITEMS_FILE, temporary)
    names = read_names(older, variant, codes)
    index = stored_index(older, codes, older, variant, names)
    try:
        served = Attributes.open(current / INDEX / ATTRIBUTES, now).values()
    except (FileNotFoundError, ValueError) as error:
        _log.warning("attributes are those of the table of items: %s", error)
        return
    places = np.concatenate(
        [
            first + np.arange(count)
            for first, count in zip(
                np.cumsum([0, *now.num_items]), codes.num_items, strict=False
            )
        ]
    )
    index.set_attributes(
        {
            name: values[places]
            if isinstance(values, np.ndarray)
            else [values[place] for place in places]
            for name, values in served.items()
        },
        sha256_file(older / ITEMS_FILE),
    )


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
        for category, count, ours, start in zip(
            *(then.categories, then.num_items, codes.num_items),
            np.cumsum([0, *codes.num_items]),
            strict=False,
        ):
            both = min(count, ours)  # After a rollback there may be fewer than then.
            rows, of_today = slice(first, first + both), slice(start, start + both)
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
