"""Likes of the visitors of a shop's site, taken into its data, and out of them again.

A table beside the data, `visitors.parquet`, says which outfits of the splits are there
because a visitor liked them. So what visitors take back, or delete with all they have, is
no longer in the data when their likes are taken anew.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fhn_jax.data_tools.shop import engine, tables
from fhn_jax.data_tools.shop.before import Before, are_new, read_before
from fhn_jax.data_tools.shop.importing import VARIANT
from fhn_jax.data_tools.shop.options import Options
from fhn_jax.data_tools.shop.splits import Judgements, split_likes
from fhn_jax.data_tools.shop.tuples import write_tuples
from jaxtyping import Bool, Float64, Int, Int32, UInt64

from fhn_jax.data.catalogue import Catalogue, template_masks
from fhn_jax.data.forgetting import tombstone, without_outfits
from fhn_jax.data.item_table import USERS_FILE, VISITORS_FILE
from fhn_jax.data.negatives import outfit_keys
from fhn_jax.files import link_or_copy, replaced_folder


class VisitorLikes(NamedTuple):
    """What visitors judged, in the order in which they did; judged again, the last counts.

    Attributes:
      names: the shop's id of the user whom a visitor was opened as; else a name of the
        visitor's own.
      items: numbers of the data, -1 in slots that an outfit has not.
      liked: or disliked.
      times: Unix seconds.
    """

    names: Sequence[str]
    items: Int32[np.ndarray, "n s"]
    liked: Bool[np.ndarray, " n"]
    times: Float64[np.ndarray, " n"]


def take_visitors(
    root: Path, likes: VisitorLikes, forget: Callable[[Sequence[int]], None]
) -> Mapping[str, int]:
    """Makes the likes of visitors in a data root these, whole or not at all.

    Likes that are there keep their split. Visitors with too few likes are left out. Who has
    no like to train on any more leaves a tombstone, see `fhn_jax.data.forgetting`.

    Args:
      root: of data that an import made.
      likes: of all visitors, as they are now.
      forget: called with the numbers of users who leave a tombstone, before the data are
        changed: after an interruption, they are found again.
    Returns:
      what → how many.
    Raises:
      MissingFileError, InputError: as `read_before`.
    """
    with tempfile.TemporaryDirectory(dir=root.parent) as work:
        with engine.database(Path(work)) as connection:
            before = read_before(connection, root, VARIANT)
            plan = _Plan(connection, before, likes)
            if plan.changes_nothing:
                return plan.counts
            if plan.gone:
                forget(plan.gone)
            with replaced_folder(root) as new:
                plan.write(new)
            return plan.counts


class _Plan:
    """What is to be changed."""

    def __init__(self, connection: Any, before: Before, likes: VisitorLikes):
        self._connection, self._root = connection, before.root
        catalogue, users = before.catalogue, before.users
        options = Options.of(before.options)
        self._options = options
        likes = _last_words(likes, before.masks)
        self._sizes = [
            *(catalogue.num_users, *(len(catalogue.names[k]) for k in catalogue.slots))
        ]
        # What the data have of visitors, and no visitor likes any more.
        there = self._read()
        known = np.array([_number(users, name) for name in likes.names], np.int32)
        ours = self._keys(known, likes.items)[likes.liked & (known >= 0)]
        stays = np.isin(self._keys(there[:, 0], there[:, 1:]), ours)
        self._kept, lost = there[stays], there[~stays]
        self.gone = self._untrained(catalogue, lost)
        # Who is gone and likes something again is somebody new.
        known[np.isin(known, self.gone)] = -1
        self._kept = self._kept[~np.isin(self._kept[:, 0], self.gone)]
        lost_keys = self._keys(lost[:, 0], lost[:, 1:])

        def is_lost(owners: np.ndarray, items: np.ndarray) -> np.ndarray:
            withdrawn = np.isin(self._keys(owners, items), lost_keys)
            return withdrawn | np.isin(owners, self.gone)

        self._catalogue = without_outfits(catalogue, is_lost, stand_ins=self.gone)
        before = dataclasses.replace(before, catalogue=self._catalogue)
        self._new(before, likes, known)
        self.changes_nothing = not len(lost) and not self._all.liked.any()
        self.counts = {
            "new users": int((self._numbers >= len(users)).sum()),
            "likes of visitors": int(self._all.liked.sum()),
            "likes that visitors took back": len(lost),
            "visitors with too few likes": self._few,
        }
        self._first = len(users)

    def _keys(
        self, users: Int[np.ndarray, " n"], items: Int[np.ndarray, "n s"]
    ) -> UInt64[np.ndarray, " n"]:
        return outfit_keys(np.column_stack([users, items]), self._sizes)

    def _read(self) -> Int32[np.ndarray, "n s"]:
        """The table of what is there: the user, and the items."""
        path = self._root / VISITORS_FILE
        if not path.is_file():
            return np.zeros((0, len(self._sizes)), np.int32)
        with engine.reading(str(path), "Parquet file"):
            found = self._connection.execute(
                f"FROM read_parquet({engine.text(path)})"
            ).fetchnumpy()
        # What the shop's tables took out, and a visitor still likes, was put in again.
        return np.unique(np.stack([*found.values()], axis=1), axis=0).astype(np.int32)

    def _untrained(
        self, catalogue: Catalogue, lost: Int32[np.ndarray, "n s"]
    ) -> list[int]:
        """The users of lost likes who have no other like to train on."""
        train = catalogue.splits["train"].positives
        rest = ~np.isin(
            self._keys(train.users, train.items), self._keys(lost[:, 0], lost[:, 1:])
        )
        return np.setdiff1d(lost[:, 0], train.users[rest]).tolist()

    def _new(
        self, before: Before, likes: VisitorLikes, known: Int32[np.ndarray, " n"]
    ) -> None:
        """Finds what the data have not, and its splits."""
        options, count = self._options, len(likes.names)
        ids = [*dict.fromkeys(likes.names)]
        place = {name: number for number, name in enumerate(ids)}
        own = np.array([place[name] for name in likes.names], np.int32)
        numbers = np.full(len(ids), -1, np.int32)
        numbers[own] = known
        enough = np.bincount(own[likes.liked], minlength=len(ids)) >= options.min_likes
        self._few = int((~enough & (numbers < 0)).sum())
        enough |= numbers >= 0
        all_ = Judgements(
            users=own,
            items=likes.items,
            liked=likes.liked,
            times=likes.times,
            counts=np.ones(count, np.int32),
            splits=np.full(count, -1, np.int8),
            file=np.zeros(count, np.int8),
            row=np.arange(count),
        )
        all_ = all_.take(enough[own] & are_new(before, all_, numbers))
        splits = np.zeros(len(all_.users), np.int8)
        seed = [options.seed, len(before.users), count]
        self._rng = np.random.default_rng(seed)
        if all_.liked.any():
            shares = options.val_share, options.test_share
            splits, _ = split_likes(all_, options.split, shares, False, self._rng)
        stays, self._numbers = tables.trainable(
            all_, splits, numbers, first=len(before.users)
        )
        self._all, self._splits, self._ids = all_.take(stays), splits[stays], ids

    def write(self, root: Path) -> None:
        """Writes the data root anew, into an empty folder."""
        made = (f"tuples_{VARIANT}", USERS_FILE, VISITORS_FILE)
        for path in self._root.iterdir():
            if path.is_dir() and path.name != made[0]:
                _link_all(path, root / path.name)
            elif path.name not in made:
                link_or_copy(path, root / path.name)
        folder = root / made[0]
        folder.mkdir()
        for path in (self._root / made[0]).glob("image_list_*"):
            link_or_copy(path, folder / path.name)
        owners = self._numbers[self._all.users]
        write_tuples(
            self._connection,
            folder,
            self._catalogue.slot_names,
            self._all._replace(users=owners),
            self._splits,
            {},
            self._catalogue,
            weights=self._options.repeats == "weights",
            negatives=self._options.negatives,
            rng=self._rng,
        )
        self._write_users(root / USERS_FILE)
        liked = self._all.liked
        new = np.column_stack([owners[liked], self._all.items[liked]])
        rows = np.concatenate([self._kept, new]).astype(np.int32)
        columns = {f"c{k}": column.copy() for k, column in enumerate(rows.T)}
        self._connection.register("liked_by_visitors", columns)
        self._connection.execute(
            f"COPY liked_by_visitors TO {engine.text(root / VISITORS_FILE)} "
            "(FORMAT parquet)"
        )

    def _write_users(self, path: Path) -> None:
        for number in self.gone:
            self._connection.execute(
                "UPDATE before_users SET id = ? WHERE number = ?",
                [tombstone("user", number), number],
            )
        self._connection.execute(
            "CREATE TABLE user_numbers (id VARCHAR, number INTEGER)"
        )
        if self._ids:
            rows = [(name, number) for number, name in enumerate(self._ids)]
            self._connection.executemany("INSERT INTO user_numbers VALUES (?, ?)", rows)
        tables.write_users(self._connection, self._numbers, path, self._first)


def _last_words(likes: VisitorLikes, masks: Sequence[int]) -> VisitorLikes:
    """The last judgement of each outfit by each, of outfits of the data's templates."""
    said = {
        (name, tuple(items)): number
        for number, (name, items) in enumerate(
            zip(likes.names, likes.items.tolist(), strict=True)
        )
    }
    last = np.array(sorted(said.values()), np.int64)
    last = last[np.isin(template_masks(likes.items[last]), masks)]
    names = [likes.names[k] for k in last]
    return VisitorLikes(names, likes.items[last], likes.liked[last], likes.times[last])


def _number(users: Any, name: str) -> int:
    return users.number(name) if name in users else -1


def _link_all(source: Path, target: Path) -> None:
    """A folder of the same files, without locks of LMDB, which belong to one place."""
    target.mkdir()
    for path in source.iterdir():
        if path.is_dir() and not path.is_symlink():
            _link_all(path, target / path.name)
        elif path.name != "lock.mdb":
            link_or_copy(path, target / path.name)
