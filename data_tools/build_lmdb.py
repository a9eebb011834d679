"""Builds an LMDB of images from a folder of image files.

    fhn-jax build-lmdb ROOT/images/291x291 ROOT/images/lmdb

Every image is decoded to make sure that it can be used; its bytes are stored as they
are, with the file name as key. The work is done in LMDB_FOLDER.partial, which becomes
LMDB_FOLDER only when every image is in it: a killed run leaves no LMDB that looks
complete, and the next run continues where it ended.
"""

import contextlib
import functools
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import tqdm

from fhn_jax import files
from fhn_jax.data.catalogue import name_fault
from fhn_jax.data.images import (
    VERIFIED_KEY,
    FolderImages,
    LmdbImages,
    Notice,
    tell_changes,
)
from fhn_jax.data.pictures import Changes, UnsuitableImage, decode, for_training
from fhn_jax.data.records import (
    CHECKSUMS_KEY,
    Progress,
    check_whole,
    checksum,
    checksum_key,
    note_file,
)
from fhn_jax.errors import InputError, MissingFileError, RefusedError
from fhn_jax.program import Arguments, run_program

# Images that are read, checked and committed together.
_IMAGES_AT_ONCE = 256
# Room that an LMDB starts with, in bytes; it doubles when it is full.
_FIRST_MAP_SIZE = 64 * 2**20
_FAULTS_SHOWN = 20


def build_lmdb(
    images: str | os.PathLike,
    target: str | os.PathLike,
    *,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> int:
    """Builds the LMDB, or continues to. One that is complete already is left alone.

    Args:
      images: the folder of image files; hidden files and folders in it are ignored.
      target: the folder of the LMDB.
      progress: called with the number of images done, and of all.
      notice: told what reading changes about the images that are new in it.
    Returns:
      the number of images.
    Raises:
      FileNotFoundError: there are no images.
      ValueError: images are of no use (names up to 20), or `target` is something else.
      BusyError: another process builds it.
      RefusedError: writing failed; the disk may be full.
    """
    source, target = FolderImages(images), Path(target)
    names = _image_names(source.path)
    with files.lock(target, "building it"):
        if os.path.lexists(target):
            _check_complete(target, names, source.path)
        else:
            _build(source, names, target, progress, notice)
    return len(names)


def store_images(
    images: Mapping[str, Path],
    target: Path,
    size: int,
    *,
    known: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Builds an LMDB of images from anywhere, upright and no larger than is trained on.

    What is stored stays where an error ends it, and the next call goes on from there.

    Args:
      images: name, which becomes the key → file.
      target: the folder of the LMDB; there is nothing yet but what an earlier call of
        this function left.
      size: height and width, in pixels; see `pictures.for_training`.
      known: an LMDB whose images are in it as well, as they are; by other names.
      progress: called with the number of images done, and of all.
    Returns:
      name → what is wrong, of the images that are of no use.
    Raises:
      BusyError: another process builds it.
      RefusedError: writing failed; the disk may be full.
    """
    read = functools.partial(_read, images)
    prepare = functools.partial(for_training, size=size)
    with files.lock(target, "building it"):
        there: list[str] = []
        if known is not None:
            there = LmdbImages(known).names()
            if not target.exists():
                with files.temporary_folder(target) as private:
                    copy = private / "new"
                    copy.mkdir()
                    shutil.copyfile(known / "data.mdb", copy / "data.mdb")
                    copy.rename(target)
        target.mkdir(parents=True, exist_ok=True)
        return _fill(target, sorted(images), read, prepare, progress, known=there)


def image_faults(
    images: Mapping[str, Path], size: int, progress: Progress | None = None
) -> dict[str, str]:
    """What is wrong with images, as `store_images` returns it, storing nothing."""

    def fault(name: str) -> str | None:
        try:
            for_training(_read(images, name), name, size=size)
        except UnsuitableImage as error:
            return str(error)
        return None

    names, faults = sorted(images), {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(names), _IMAGES_AT_ONCE):
            some = names[start : start + _IMAGES_AT_ONCE]
            found = zip(some, pool.map(fault, some), strict=True)
            faults |= {name: why for name, why in found if why is not None}
            if progress is not None:
                progress(start + len(some), len(names))
    return faults


def _read(images: Mapping[str, Path], name: str) -> bytes:
    try:
        return images[name].read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise UnsuitableImage("there is no such image file") from None


def _build(
    source: FolderImages,
    names: Sequence[str],
    target: Path,
    progress: Progress | None,
    notice: Notice | None,
) -> None:
    partial = target.with_name(f"{target.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    changes = Changes()

    def read(name: str) -> bytes:
        return source.read([name])[0]

    def prepare(data: bytes, name: str) -> bytes:
        decode(data, name, changes=changes)
        return data

    faults = _fill(partial, names, read, prepare, progress, whole=True)
    tell_changes(changes, source.path, notice)
    if faults:
        raise InputError(_fault_text([*faults.values()], len(names), source.path))
    partial.rename(target)
    files.sync_folder(target.parent)


def _fill(
    folder: Path,
    names: Sequence[str],
    read: Callable[[str], bytes],
    prepare: Callable[[bytes, str], bytes],
    progress: Progress | None,
    *,
    whole: bool = False,
    known: Sequence[str] = (),
) -> dict[str, str]:
    """Makes an LMDB of the images in its folder; returns what is wrong with the others.

    Args:
      known: names of other images that are in it.
      whole: whether one that is wrong leaves the LMDB incomplete.
    """
    if (folder / "data.mdb").exists():
        check_whole(folder, "remove the folder to start anew")
    try:
        # LMDB's own lock is a sparse file in memory: on a full disk it kills the process.
        with lmdb.open(
            str(folder), map_size=_FIRST_MAP_SIZE, lock=False
        ) as environment:
            _forget_others(environment, [*names, *known])
            faults = _copy(names, read, prepare, environment, progress)
            if not faults or not whole:
                good = [*known, *(name for name in names if name not in faults)]
                _forget_others(environment, good, True)
                count = b"%d" % len(good)
                _put(environment, [(VERIFIED_KEY, count), (CHECKSUMS_KEY, count)])
    except lmdb.Error as error:
        raise RefusedError(
            f"writing {folder} failed: {error}; is the disk full? Run this again to "
            "continue, or remove the folder to start anew"
        ) from error
    (folder / "lock.mdb").unlink(missing_ok=True)
    if not faults or not whole:
        note_file(folder)
    files.sync_folder(folder)
    return faults


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax build-lmdb", __doc__)
    parser.add_argument(
        "images", metavar="IMAGES_FOLDER", help="folder with one file for each item"
    )
    parser.add_argument("lmdb", metavar="LMDB_FOLDER", help="usually ROOT/images/lmdb")
    options = parser.parse_args(arguments)
    with progress_bar("build_lmdb") as progress:
        count = build_lmdb(
            options.images,
            options.lmdb,
            progress=progress,
            notice=lambda text: print(text, file=sys.stderr),
        )
    print(f"{options.lmdb} holds {count:,} images, all verified")


def _image_names(folder: Path) -> list[str]:
    """Names of the image files, in the order of LMDB keys."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    names = sorted(
        (entry.name for entry in visible if not entry.is_dir()), key=os.fsencode
    )
    if not names:
        folders = sorted(entry.name for entry in visible)[:5]
        hint = f"; did you mean one of its folders, {folders}?" if folders else ""
        raise MissingFileError(f"there are no images in {folder}{hint}")
    for name in names:
        if name_fault(name):
            raise InputError(
                f"the file name {name!r} in {folder} {name_fault(name)}; rename it, "
                "here and in the image list"
            )
    return names


def _check_complete(target: Path, names: Sequence[str], images: Path) -> None:
    """Makes sure that an existing target is the LMDB that would be built."""
    remedy = "remove it to build it anew, or build to another folder"
    if not target.is_dir():
        raise InputError(f"{target} exists and is no folder; {remedy}")
    there = LmdbImages(target)
    if not there.verified:
        raise InputError(
            f"{target} is an LMDB that was not built and verified by this tool; "
            f"{remedy}"
        )
    missing = there.missing(names)
    if missing or len(there) != len(names):
        raise InputError(
            f"{target} holds {len(there):,} images, and {images} has {len(names):,}, "
            f"of which {len(missing):,} are not in it; {remedy}"
        )


def _source_key(key: bytes) -> bytes:
    """Where the checksum of what an image was made of is, until the LMDB is complete."""
    return b"\0\0" + key


def _forget_others(
    environment: lmdb.Environment, names: Sequence[str], complete: bool = False
) -> None:
    """Drops what an earlier run stored and is no longer wanted."""
    keys = [name.encode() for name in names]
    known = {*keys, *map(checksum_key, keys)}
    if not complete:
        known |= set(map(_source_key, keys))
    with environment.begin() as transaction, transaction.cursor() as cursor:
        others = [key for key in cursor.iternext(values=False) if key not in known]
    if others:
        with environment.begin(write=True) as transaction:
            for key in others:
                transaction.delete(key)


def _copy(
    names: Sequence[str],
    read: Callable[[str], bytes],
    prepare: Callable[[bytes, str], bytes],
    environment: lmdb.Environment,
    progress: Progress | None,
) -> dict[str, str]:
    """Stores all good images; returns what is wrong with the others."""
    faults = {}

    def stored(name: str) -> list[tuple[bytes, bytes]] | str:
        """What is to be stored of an image: nothing, if it is there already."""
        key = name.encode()
        try:
            data = read(name)
            of = checksum(data)
            with environment.begin() as transaction:
                value = transaction.get(key)
                same = transaction.get(_source_key(key)) == of and value is not None
                # What is stored was decoded before: it needs no second look.
                if same and transaction.get(checksum_key(key)) == checksum(value):
                    return []
            value = prepare(data, name)
        except UnsuitableImage as error:
            return str(error)
        sums = [(checksum_key(key), checksum(value)), (_source_key(key), of)]
        return [(key, value), *sums]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(names), _IMAGES_AT_ONCE):
            some = names[start : start + _IMAGES_AT_ONCE]
            pairs = []
            for name, found in zip(some, pool.map(stored, some), strict=True):
                if isinstance(found, str):
                    faults[name] = found
                else:
                    pairs += found
            _put(environment, pairs)
            if progress is not None:
                progress(start + len(some), len(names))
    return faults


def _put(environment: lmdb.Environment, pairs: Sequence[tuple[bytes, bytes]]) -> None:
    """Stores pairs of key and value in one commit, making room for them."""
    while pairs:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in pairs:
                    transaction.put(key, value)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])


def _fault_text(faults: Sequence[str], count: int, images: Path) -> str:
    shown = "\n".join(f"  {fault}" for fault in faults[:_FAULTS_SHOWN])
    rest = len(faults) - _FAULTS_SHOWN
    return (
        f"{len(faults):,} of {count:,} images in {images} are of no use:\n{shown}\n"
        + (f"  and {rest:,} more\n" if rest > 0 else "")
        + "no LMDB was made; the good images are kept, run this again to continue"
    )


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Shows how many images are done: a bar on a terminal, else a line every few seconds."""
    if sys.stderr.isatty():
        with tqdm.tqdm(unit=" images", desc=title) as bar:

            def advance(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            yield advance
        return
    last = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= 5:
            last = time.monotonic()
            print(f"{title}: {done:,} of {total:,} images", file=sys.stderr, flush=True)

    yield line


if __name__ == "__main__":
    run_program(main)
