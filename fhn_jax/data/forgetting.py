"""Deletes a user, or an item, from a data root for good; all others keep their numbers.

What is deleted leaves a tombstone: its number stays, under a name that says nothing. The
layout wants a train outfit of each user, so one of another user's stands for a deleted
one. Outfits of a deleted item keep its number, behind which there is nothing any more.
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from fhn_jax import files
from fhn_jax.data.catalogue import NEGATIVES, Catalogue, Outfits, Questions, Split
from fhn_jax.data.forgotten import note_forgotten
from fhn_jax.data.images import LmdbImages, is_version
from fhn_jax.data.item_table import (
    ITEMS_FILE,
    LOOKS_FILE,
    PHOTOS_FILE,
    USERS_FILE,
    VISITORS_FILE,
    WAITING_FILE,
    delete_rows,
    rewrite_table,
)
from fhn_jax.data.layout import read_catalogue, write_outfits, write_questions
from fhn_jax.data.pictures import blank
from fhn_jax.data.records import replace_record
from fhn_jax.data.tables import write_names
from fhn_jax.data.vector_files import FOLDER, load_vectors, write_vectors
from fhn_jax.errors import InputError

# Where something was → how much of it.
Receipt = dict[str, int]


def tombstone(kind: str, number: int) -> str:
    """What stands for a deleted item or user: no shop calls anything so."""
    return f"forgotten-{kind}-{number}"


def forget_likes(root: Path, variant: str, user: int) -> Receipt:
    """Deletes all outfits of a user from the tuples of a variant.

    Raises:
      InputError: a split has no other user's outfit.
    """
    catalogue = read_catalogue(root, variant)
    folder = root / f"tuples_{variant}"
    receipt: Receipt = {}
    for name, split in catalogue.splits.items():
        own = split.positives.users == user
        receipt[f"{folder.name}/tuples_{name}_posi"] = int(own.sum())
        if own.all():
            raise InputError(
                f"{folder}: only this user has outfits in the {name} split; delete "
                "the data, or import others first"
            )
    for name, asked in catalogue.fitb.items():
        receipt[f"{folder.name}/fill_in_blank_{name}"] = int(
            (asked.users == user).sum()
        )
    left = without_outfits(catalogue, lambda users, _: users == user, stand_ins=[user])
    names = catalogue.slot_names
    with _changed_folder(folder) as new:
        for name, split in left.splits.items():
            users, items = split.positives.users, split.positives.items
            write_outfits(new / f"tuples_{name}_posi", names, users, items[:, None])
            for kind, outfits in split.negatives.items():
                theirs = outfits.items.reshape(
                    len(users), split.ratio(kind), len(names)
                )
                path = new / f"tuples_{name}_{NEGATIVES[kind]}"
                write_outfits(path, names, users, theirs)
        for name in catalogue.fitb:
            path = new / f"fill_in_blank_{name}"
            if name in left.fitb:
                asked = left.fitb[name]
                write_questions(path, names, asked.users, asked.items)
            else:
                path.unlink()
    path = root / VISITORS_FILE
    if path.is_file():
        receipt[path.name] = delete_rows(path, f"c0 = {user}")
    return receipt


def without_outfits(
    catalogue: Catalogue,
    gone: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    stand_ins: Sequence[int],
) -> Catalogue:
    """A catalogue without some positives, with their negatives and questions.

    Args:
      gone: which positives go, from their users [n] and items [n, s].
      stand_ins: users all of whose outfits go: each gets one of another user to train on.
    Returns:
      the same without splits and questions of which nothing is left.
    """
    splits, fitb = {}, {}
    for name, split in catalogue.splits.items():
        own = gone(split.positives.users, split.positives.items)
        # The place of each outfit that stays; that of another for each stand-in.
        rows = np.flatnonzero(~own)
        users = split.positives.users[rows]
        if name == "train":
            rows = np.append(rows, np.repeat(rows[:1], len(stand_ins)))
            users = np.append(users, np.array(stand_ins, np.int32))
        if not len(rows):
            continue
        negatives = {}
        for kind, outfits in split.negatives.items():
            ratio, slots = split.ratio(kind), outfits.items.shape[1]
            theirs = outfits.items.reshape(len(own), ratio, slots)[rows]
            owners = np.repeat(users, ratio)
            negatives[kind] = Outfits(owners, theirs.reshape(-1, slots))
        positives = Outfits(users, split.positives.items[rows])
        splits[name] = Split(name, positives, negatives)
    for name, asked in catalogue.fitb.items():
        stays = ~gone(asked.users, asked.items[:, 0])
        if stays.any():
            fitb[name] = Questions(asked.users[stays], asked.items[stays])
    return dataclasses.replace(catalogue, splits=splits, fitb=fitb)


def forget_user_id(root: Path, own: str, user: int) -> Receipt:
    """Deletes the shop's id of a user, and notes that no import brings it back."""
    receipt = {}
    path = root / USERS_FILE
    if path.is_file():
        note_forgotten(root, "user", own)
        put = f"id = '{tombstone('user', user)}'"
        receipt[path.name] = rewrite_table(path, put, f'"index" = {user}')
    return receipt | forget_left_out(root, own)


def forget_left_out(root: Path, own: str) -> Receipt:
    """Deletes what an import left out of somebody whom the data do not have."""
    return _forget_quarantined(root, own) | forget_waiting(root, own)


def forget_waiting(root: Path, own: str) -> Receipt:
    """Deletes likes that wait for more, and looks, of a user or an item with this id."""
    receipt, quoted = {}, own.replace("'", "''")
    for name, where in (
        (WAITING_FILE, f"\"user\" = '{quoted}' OR '{quoted}' IN items"),
        (LOOKS_FILE, f"'{quoted}' IN items"),
    ):
        if own and (root / name).is_file():
            if count := delete_rows(root / name, where):
                receipt[name] = count
    return receipt


def forget_item(
    root: Path, catalogue: Catalogue, category: int, item: int, own: str
) -> Receipt:
    """Deletes an item's photo, vectors, id, title and attributes.

    It notes that no import brings it back.

    Args:
      catalogue: of a variant of the data.
      category, item: numbers.
      own: the shop's id of it.
    """
    note_forgotten(root, "item", own)
    slot, old = catalogue.categories[category], catalogue.names[category][item]
    new = tombstone(slot, item)
    receipt: Receipt = {}
    if photos := _forget_photo(root / "images", old, new, catalogue.item_names()):
        receipt["images"] = photos
    path = root / PHOTOS_FILE
    if path.is_file():
        quoted = old.replace("'", "''")
        receipt[path.name] = delete_rows(path, f"name = '{quoted}'")
    for path in sorted((root / FOLDER).glob("*.npz")):
        names, vectors = load_vectors(path)
        if old in names:
            row = names.index(old)
            names[row], vectors = new, np.array(vectors, np.float32)
            vectors[row] = 0
            about = json.loads(path.with_suffix(".json").read_text())
            of = {"model": about["model"], "source": about["source"]}
            write_vectors(root, path.stem, names, [vectors], **of)
            receipt[f"{FOLDER}/{path.name}"] = 1
    for folder in sorted(root.glob("tuples_*")):
        path = folder / f"image_list_{slot}"
        listed = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if old in listed:
            listed[listed.index(old)] = new
            write_names(path, listed)
            receipt[f"{folder.name}/{path.name}"] = 1
    receipt |= forget_left_out(root, own)
    path = root / ITEMS_FILE
    if path.is_file():
        where = f"category = '{slot}' AND \"index\" = {item}"
        receipt[path.name] = rewrite_table(path, f"id = '{new}'", where, erase=True)
    return receipt


def _forget_photo(images: Path, old: str, new: str, names: Sequence[str]) -> int:
    """Puts a blank photo in the place of one, in the LMDB and in the folders beside it.

    Args:
      names: of all items: what is none of them may be an earlier photo of this one.
    Returns:
      how many there were.
    """
    count = 0
    # What is made of photos: the decoded ones, and an LMDB that is not finished.
    for path in images.glob("decoded_*"):
        path.unlink()
    shutil.rmtree(images / "lmdb.partial", ignore_errors=True)
    others = {*names} - {old}
    for folder in images.glob("*/"):
        if (folder / "data.mdb").is_file():
            there = [n for n in LmdbImages(folder).names() if n not in others]
            gone = [n for n in there if n == old or is_version(old, n)]
            for number, name in enumerate(sorted(gone, key=lambda n: n != old)):
                stone = f"{new}.{number}" if number else new
                replace_record(folder, name, stone, blank())
                count += 1
        elif (folder / old).is_file():
            files.write_bytes(folder / new, blank())
            (folder / old).unlink()
            count += 1
    return count


def _forget_quarantined(root: Path, own: str) -> Receipt:
    """Deletes what an import left out of a user or an item."""
    path = root / "quarantine.jsonl"
    if not own or not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    stays = [line for line in lines if own not in _texts_of(line)]
    if len(stays) < len(lines):
        files.write_text(path, "".join(f"{line}\n" for line in stays))
    return {path.name: len(lines) - len(stays)}


def _texts_of(line: str) -> list[str]:
    """What a row of the quarantine is about: its ids."""
    row = json.loads(line)
    reason = str(row.get("reason", ""))
    return [str(row.get("what")), reason.partition(": ")[2]]


@contextlib.contextmanager
def _changed_folder(path: Path) -> Iterator[Path]:
    """A copy of a folder, of the same files, which takes its place on success."""
    with files.replaced_folder(path) as new:
        for each in path.iterdir():
            if each.is_file():
                # Files are replaced, never changed.
                files.link_or_copy(each, new / each.name)
        yield new
