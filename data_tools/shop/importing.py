"""One import: from a shop's tables to a data root."""

import collections
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fhn_jax.data_tools.carry_vectors import carry_vectors
from fhn_jax.data_tools.embed_text import embed_text
from fhn_jax.data_tools.shop import (
    attributes,
    draws,
    engine,
    items,
    photos,
    replaced,
    tables,
)
from fhn_jax.data_tools.shop.before import (
    Before,
    are_new,
    carry_over,
    check_whole,
    known_users,
    leave_out_moved,
    without_disliked,
)
from fhn_jax.data_tools.shop.looks import write_looks
from fhn_jax.data_tools.shop.options import Options
from fhn_jax.data_tools.shop.settings import TABLES, Settings
from fhn_jax.data_tools.shop.sources import FORMATS, unread_tables
from fhn_jax.data_tools.shop.splits import (
    LEFT_OUT,
    SPARED,
    SPLITS,
    Judgements,
    split_likes,
)
from fhn_jax.data_tools.shop.summary import (
    KIND,
    Summary,
    as_json,
    left_out_of,
    reasons,
    rows_left_out,
    text_of,
)
from fhn_jax.data_tools.shop.tuples import write_tuples
from fhn_jax.data_tools.shop.waiting import write_waiting

from fhn_jax.data.catalogue import template_masks
from fhn_jax.data.records import Progress
from fhn_jax.data.tables import write_names
from fhn_jax.data.vector_files import vectors_path
from fhn_jax.errors import InputError
from fhn_jax.files import write_json

VARIANT = "shop"


class Import:
    """One import, from tables to files."""

    def __init__(
        self,
        connection: Any,
        found: Mapping[str, Any],
        settings: Settings,
        options: Options,
        folder: Path | None,
        left_out: Any = None,
        before: Before | None = None,
        force: bool = False,
    ):
        """Prepares one.

        Args:
          connection: a database.
          found: the tables.
          settings, options: how.
          folder: of the shop, with photos and vectors, if there is one.
          left_out: a table of what was left out before.
          before: the data that are updated, if any.
          force: whether known items may become other pieces, or most of them be gone.
        """
        self._connection, self._found = connection, found
        self._settings, self._options = settings, options
        self._folder, self._left_out = folder, left_out
        self._before, self._force = before, force
        self._replaced = replaced.Replaced({}, {})
        self._first_user = 0 if before is None else len(before.users)
        # Every update draws anew, and the same one alike.
        there = [] if before is None else [before.catalogue.num_items, self._first_user]
        self._rng = np.random.default_rng([options.seed, *there])

    def write(
        self, root: Path, images: Path | None, progress: Progress | None
    ) -> Summary:
        """Writes the data root, all but the photos.

        Args:
          root: an empty folder.
          images: where the LMDB of the photos is made; None to try only whether it all
            works: photos are read and not stored, and what costs much and cannot be at
            fault is left out.
          progress: called with the number of photos done, and of all.
        """
        found = self._load()
        known = self._before and self._before.images
        if found or known:
            source = self._loaded.sources["items"]
            size = self._options.image_size
            photos.store_photos(
                *(self._connection, source, found, images, size, progress), known
            )
        if images is not None and (found or known):
            digests = replaced.digests_of(found) | dict(self._replaced.digests)
            replaced.write_digests(root, digests)
        self._judge()
        self._check_quarantine()
        connection, slots = self._connection, self._loaded.categories.slots
        folder = root / f"tuples_{VARIANT}"
        folder.mkdir()
        for number in self._used:
            names = connection.execute(
                "SELECT name FROM numbered WHERE slot = ? ORDER BY number", [number]
            ).fetchnumpy()["name"]
            write_names(folder / f"image_list_{slots[number]}", names.tolist())
        notes = write_tuples(
            connection,
            folder,
            [slots[k] for k in self._used],
            self._all._replace(
                users=self._numbers[self._all.users], items=self._items(self._all)
            ),
            self._splits,
            self._given(),
            self._before and self._before.catalogue,
            weights=self._options.repeats == "weights",
            negatives=self._options.negatives,
            rng=self._rng,
        )
        for note in notes:
            connection.execute("INSERT INTO notes VALUES (?)", [note])
        if self._waits:
            write_waiting(connection, root, slots)
        if "outfits" in self._loaded.sources:
            write_looks(connection, root)
        users = root / "users.parquet"
        tables.write_users(connection, self._numbers, users, self._first_user)
        source, path = self._loaded.sources["items"], root / "items.parquet"
        kinds = self._before and self._before.kinds
        items.write_items(
            *(connection, source, self._attributes, slots, self._used, path), kinds
        )
        if source.has("title") and self._has_titles():
            if images is None:
                vectors_path(root, "title").parent.mkdir()
                vectors_path(root, "title").touch()
            else:
                embed_text(root)
        self._carry_vectors(root)
        if self._before is not None:
            notes = carry_over(self._before, root, only_said=images is None)
            for note in notes:
                connection.execute("INSERT INTO notes VALUES (?)", [note])
        connection.execute(
            "COPY (SELECT * EXCLUDE (fault) FROM left_out) TO "
            f"{engine.text(root / 'quarantine.jsonl')} (FORMAT json)"
        )
        summary = self._summary()
        decimals = dict(self._before.decimals) if self._before else {}
        decimals |= {n: a.decimal for n, a in self._attributes.items() if a.decimal}
        about = as_json(summary, self._options) | {"decimals": decimals}
        write_json(root / "import.json", about)
        return summary

    def _load(self) -> dict[str, Path]:
        """Reads the tables; returns the photos that are there."""
        tables.begin(self._connection, self._left_out)
        connection, before = self._connection, self._before
        if self._folder and (names := unread_tables(self._folder, self._found)):
            note = (
                f"not read: {', '.join(names)}; tables are called {', '.join(TABLES)}, "
                f"and are {', '.join(FORMATS)}"
            )
            connection.execute("INSERT INTO notes VALUES (?)", [note])
        self._loaded = tables.load(connection, self._found, self._settings, before)
        source = self._loaded.sources["items"]
        if before is None:
            if not self._options.images:
                return {}
            return photos.find_photos(connection, source, self._folder)
        leave_out_moved(connection, source, before, self._loaded.categories)
        check_whole(connection, source, before, force=self._force)
        for column in sorted(before.kinds.keys() - source.columns.keys()):
            note = f"{source.label} has no {column} any more: it stays as it was"
            connection.execute("INSERT INTO notes VALUES (?)", [note])
        if before.images is None:
            return {}
        # A photo that is there need not be found again.
        found = photos.find_photos(connection, source, self._folder, before.names)
        size, force = self._options.image_size, self._force
        self._replaced = replaced.replace_photos(
            *(connection, source, before, found, size), force=force
        )
        return dict(self._replaced.photos)

    def _judge(self) -> None:
        """Finds out who likes what, and in which split; notes what is left out."""
        connection, options = self._connection, self._options
        before = self._before
        self._attributes = attributes.find_attributes(
            connection,
            self._loaded.sources["items"],
            self._settings,
            before and before.kinds,
            before.decimals if before else {},
        )
        items.number_items(connection, before=before is not None)
        given = any(
            source.has("split")
            for kind, source in self._loaded.sources.items()
            if kind in ("likes", "orders", "outfits")
        )
        self._waits = not given and options.min_likes > 1
        tables.make_judgements(
            connection,
            self._loaded,
            self._settings,
            split="given" if given else options.split,
            min_likes=options.min_likes,
            before=before,
        )
        all_ = tables.fetch_judgements(connection, self._loaded.categories.slots)
        if before is None:
            known = np.full(int(all_.users.max(initial=-1)) + 1, -1, np.int32)
        else:
            known = known_users(connection)
            # The last word counts, also where the data have the first.
            self._before = without_disliked(before, all_, known)
            all_ = all_.take(are_new(self._before, all_, known))
        if not len(all_.users) and before is None:
            raise InputError(f"no like is left; {reasons(self._connection)}")
        if given or not all_.liked.any():
            splits, reason = np.maximum(all_.splits, 0), ""
        else:
            shares = options.val_share, options.test_share
            splits, reason = split_likes(
                all_, options.split, shares, options.new_items, self._rng
            )
        tables.leave_out_rows(connection, all_.take(splits == LEFT_OUT), reason)
        stays, self._numbers = tables.trainable(all_, splits, known, self._first_user)
        lost = all_.take(~stays & (splits != LEFT_OUT))
        tables.leave_out_rows(connection, lost, "the user has no like to train on")
        self._all, self._splits = all_.take(stays), splits[stays]
        if before is not None:
            self._keep_trained(before, known)
        for name in ("train", "test"):
            if before is None and not self._positives(name):
                why = reasons(self._connection)
                if given:
                    why = "the column split names none; " + why
                elif options.split == "time":
                    why = "is one time that of all the last ones? " + why
                elif not options.new_items:
                    why = f"users with fewer than {SPARED} likes spare none; " + why
                raise InputError(f"no like is left for the {name} split; {why}")
        present = (self._all.items[self._all.liked] >= 0).any(axis=0)
        self._used = np.flatnonzero(present).tolist()
        if before is not None:
            self._used = [*range(len(before.catalogue.slots))]
        self._leave_out_unused()

    def _keep_trained(self, before: Before, known: np.ndarray) -> None:
        """Takes back the dislikes that leave their user no like to train on.

        Args:
          before: the data, as they are.
          known: number of each user, -1 for new ones.
        """
        assert self._before is not None
        there = before.catalogue.splits["train"].positives.users
        left = self._before.catalogue.splits.get("train")
        new = self._all.users[self._all.liked & (self._splits == SPLITS["train"])]
        trained = [known[new], *([left.positives.users] if left else ())]
        untrained = np.setdiff1d(there, np.concatenate(trained))
        if len(untrained):
            stays = self._all.liked | ~np.isin(known[self._all.users], untrained)
            self._all, self._splits = self._all.take(stays), self._splits[stays]
            self._before = without_disliked(before, self._all, known)
            note = (
                f"{len(untrained):,} users dislike all that they are trained on: their "
                "likes stay until they like something else"
            )
            self._connection.execute("INSERT INTO notes VALUES (?)", [note])
        counts = [
            sum(len(split.positives) for split in each.catalogue.splits.values())
            for each in (before, self._before)
        ]
        self._taken_back = counts[0] - counts[1]

    def _positives(self, split: str) -> int:
        there = self._before and self._before.catalogue.splits.get(split)
        new = int(((self._splits == SPLITS[split]) & self._all.liked).sum())
        return new + (len(there.positives) if there else 0)

    def _items(self, some: Judgements) -> np.ndarray:
        """Item numbers of the slots that the layout has."""
        return np.ascontiguousarray(some.items[:, self._used])

    def _given(self) -> dict[str, draws.Given]:
        """Negatives and questions that the shop gives."""
        found = {}
        for kind in ("negatives", "questions"):
            if kind in self._loaded.sources:
                found[kind] = tables.fetch_given(
                    self._connection,
                    self._loaded.sources[kind],
                    self._loaded.categories.slots,
                    self._used,
                    self._numbers,
                )
        return found

    def _leave_out_unused(self) -> None:
        """Notes the items of slots that no outfit has."""
        source, slots = self._loaded.sources["items"], self._loaded.categories.slots
        for number, slot in enumerate(slots):
            if number not in self._used and self._before is None:
                reason = f"no outfit that anybody likes has an item of its slot, {slot}"
                self._connection.execute(
                    f"INSERT INTO left_out SELECT {engine.text(source.label)}, row, id, "
                    f"{engine.text(reason)}, false FROM numbered WHERE slot = {number}"
                )

    def _carry_vectors(self, root: Path) -> None:
        """Takes over the shop's own vectors, under the names of the layout."""
        folder = None if self._folder is None else self._folder / "vectors"
        if folder is None or not folder.is_dir():
            return
        found = self._connection.execute(
            f"SELECT id, name FROM numbered WHERE slot IN {self._in()} "
            "ORDER BY slot, number"
        ).fetchnumpy()
        ids = dict(zip(found["id"].tolist(), found["name"].tolist(), strict=True))
        there = None if self._before is None else self._before.root
        for path in sorted(folder.iterdir()):
            if path.suffix not in (".npz", ".parquet"):
                note = f"not read: vectors/{path.name}; expected .npz or .parquet"
                self._connection.execute("INSERT INTO notes VALUES (?)", [note])
            else:
                _, others = carry_vectors(path, root, ids, before=there)
                if others:
                    note = (
                        f"{path.name}: {others:,} vectors are of no item that is left"
                    )
                    self._connection.execute("INSERT INTO notes VALUES (?)", [note])

    def _has_titles(self) -> bool:
        (count,) = self._connection.execute(
            f"SELECT count(g.title) FROM good_items g WHERE slot IN {self._in()}"
        ).fetchone()
        return count > 0

    def _in(self) -> str:
        return f"({', '.join(map(str, self._used))})"

    def _check_quarantine(self) -> None:
        """Raises ValueError where too many rows of a table are at fault."""
        share = self._options.max_quarantine
        for source in self._loaded.sources.values():
            faults = self._connection.execute(
                f"SELECT {KIND} AS kind, count(*) AS n FROM left_out WHERE file = ? "
                "AND fault GROUP BY kind ORDER BY n DESC, kind",
                [source.label],
            ).fetchall()
            total = sum(count for _, count in faults)
            if total > share * source.rows:
                shown = "\n".join(f"  {count:,}: {why}" for why, count in faults[:10])
                shown += "\nthe first of them are:"
                shown += rows_left_out(self._connection, source.label, faults=True)
                raise InputError(
                    f"{total:,} of the {source.rows:,} rows of {source.label} cannot be "
                    f"used, more than {share:.0%}:\n{shown}\nnothing was written; mend "
                    "them, or allow more with --max-quarantine"
                )

    def _summary(self) -> Summary:
        slots = self._loaded.categories.slots
        before = self._before
        rows = self._all.items[self._all.liked]
        if before is not None:
            gap = [(0, 0), (0, rows.shape[1] - len(before.catalogue.slots))]
            known = [
                np.pad(split.positives.items, gap, constant_values=-1)
                for split in before.catalogue.splits.values()
            ]
            rows = np.concatenate([*known, rows])
        masks = template_masks(rows)
        templates = {
            tuple(s for k, s in enumerate(slots) if mask >> k & 1): count
            for mask, count in sorted(collections.Counter(masks.tolist()).items())
        }
        (number,) = self._connection.execute(
            f"SELECT count(*) FROM numbered WHERE slot IN {self._in()}"
        ).fetchone()
        summary = Summary(
            tables={s.label: s.rows for s in self._loaded.sources.values()},
            left_out=left_out_of(self._connection),
            slots=tuple(slots[k] for k in self._used),
            templates=templates,
            splits={split: self._positives(split) for split in SPLITS},
            users=max(int(self._numbers.max(initial=-1)) + 1, self._first_user),
            items=number,
            changes=self._changes(set(masks.tolist())),
            attributes={name: a.about for name, a in self._attributes.items()},
        )
        return dataclasses.replace(
            summary, text=text_of(summary, self._loaded, self._connection)
        )

    def _changes(self, masks: set[int]) -> dict[str, int]:
        """What an update changes; nothing of an import."""
        if self._before is None:
            return {}
        new, removed = self._connection.execute(
            f"""
            SELECT count(*) FILTER (b.id IS NULL),
              count(*) FILTER (n.row IS NULL AND NOT b.was_removed)
            FROM numbered n LEFT JOIN before_items b ON n.id = b.id
              WHERE n.slot IN {self._in()}
            """
        ).fetchone()
        return {
            "new items": new,
            "items that are removed": removed,
            "items that became other pieces": self._replaced.others,
            "photos that are replaced": self._replaced.count,
            "new users": int((self._numbers >= self._first_user).sum()),
            "new likes": int(self._all.liked.sum()),
            "likes that are taken back": self._taken_back,
            "new templates": len(masks - {*self._before.masks}),
        }
