"""One import: from a shop's tables to a data root."""

import collections
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fhn_jax.data_tools.carry_vectors import carry_vectors
from fhn_jax.data_tools.embed_text import embed_text
from fhn_jax.data_tools.shop import draws, engine, items, photos, tables
from fhn_jax.data_tools.shop.settings import TABLES, Settings
from fhn_jax.data_tools.shop.sources import unread_tables
from fhn_jax.data_tools.shop.splits import (
    LEFT_OUT,
    METHODS,
    SPARED,
    SPLITS,
    Judgements,
    split_likes,
)
from fhn_jax.data_tools.shop.tuples import write_tuples

from fhn_jax.data.catalogue import template_masks
from fhn_jax.data.records import Progress
from fhn_jax.data.tables import write_names
from fhn_jax.errors import InputError
from fhn_jax.files import write_json

VARIANT = "shop"
# A reason without what it is about.
_KIND = "split_part(reason, ': ', 1)"
_REASONS_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Options:
    """How to import.

    Attributes:
      split: "random", of each user's likes; "time", the latest of all likes test;
        "leave-last-out", each user's last like tests. Where a table has a column split,
        that counts.
      val_share, test_share: of the likes.
      new_items: no item of the test split is trained on.
      min_likes: users with fewer are left out.
      repeats: "once", or "weights": a like that is repeated is so many train positives.
      negatives: of each positive of val and test; train positives have some where users
        disliked something.
      max_quarantine: the share of a table's rows that may be at fault.
      image_size: height and width that photos are stored with, in pixels.
      images: whether to take the photos.
      seed: of all that is drawn.
    """

    split: str = "random"
    val_share: float = 0.1
    test_share: float = 0.1
    new_items: bool = False
    min_likes: int = 3
    repeats: str = "once"
    negatives: int = 10
    max_quarantine: float = 0.1
    image_size: int = 291
    images: bool = True
    seed: int = 0

    def __post_init__(self):
        """Raises ValueError for what cannot be."""
        if self.split not in METHODS:
            raise InputError(f"split={self.split!r}; expected one of {METHODS}")
        if self.repeats not in ("once", "weights"):
            raise InputError(f"repeats={self.repeats!r}; expected once or weights")
        val, test = self.val_share, self.test_share
        if not (0 < test < 1 and 0 <= val and val + test < 1):
            raise InputError(
                f"val_share={val} and test_share={test}; expected shares that leave "
                "some likes to train on, and some to test"
            )
        for name, least in (("negatives", 1), ("min_likes", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(
                    f"{name}={getattr(self, name)}; expected at least {least}"
                )
        if not 16 <= self.image_size <= 4096:
            raise InputError(f"image_size={self.image_size}; expected 16 to 4096")
        if not 0 <= self.max_quarantine <= 1:
            raise InputError(f"max_quarantine={self.max_quarantine}; expected 0 to 1")


@dataclasses.dataclass(frozen=True)
class Summary:
    """What an import did, or would do.

    Attributes:
      tables: table → rows in it.
      left_out: table → reason → rows.
      slots: of the layout.
      templates: the sets of slots that outfits are of → likes.
      splits: split → positives.
      users, items: how many there are.
      text: all this for people.
    """

    tables: Mapping[str, int]
    left_out: Mapping[str, Mapping[str, int]]
    slots: tuple[str, ...]
    templates: Mapping[tuple[str, ...], int]
    splits: Mapping[str, int]
    users: int
    items: int
    text: str = ""


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
    ):
        """Prepares one.

        Args:
          connection: a database.
          found: the tables.
          settings, options: how.
          folder: of the shop, with photos and vectors, if there is one.
          left_out: a table of what was left out before.
        """
        self._connection, self._found = connection, found
        self._settings, self._options = settings, options
        self._folder, self._left_out = folder, left_out
        self._rng = np.random.default_rng(options.seed)

    def plan(self) -> Summary:
        """All but the files."""
        self._load()
        self._judge()
        return self._summary()

    def write(self, root: Path, images: Path, progress: Progress | None) -> Summary:
        """Writes the data root, all but the photos.

        Args:
          root: an empty folder.
          images: where the LMDB of the photos is made.
          progress: called with the number of photos done, and of all.
        """
        found = self._load()
        if found:
            size, source = self._options.image_size, self._loaded.sources["items"]
            photos.store_photos(self._connection, source, found, images, size, progress)
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
            weights=self._options.repeats == "weights",
            negatives=self._options.negatives,
            rng=self._rng,
        )
        for note in notes:
            connection.execute("INSERT INTO notes VALUES (?)", [note])
        tables.write_users(connection, self._numbers, root / "users.parquet")
        source, path = self._loaded.sources["items"], root / "items.parquet"
        items.write_items(connection, source, self._settings, slots, self._used, path)
        if source.has("title") and self._has_titles():
            embed_text(root)
        self._carry_vectors(root)
        connection.execute(
            "COPY (SELECT * EXCLUDE (fault) FROM left_out) TO "
            f"{engine.text(root / 'quarantine.jsonl')} (FORMAT json)"
        )
        summary = self._summary()
        write_json(root / "import.json", _as_json(summary, self._options))
        return summary

    def _load(self) -> dict[str, Path]:
        """Reads the tables; returns the photos that are there."""
        tables.begin(self._connection, self._left_out)
        if self._folder and (names := unread_tables(self._folder, self._found)):
            note = (
                f"not read: {', '.join(names)}; tables are called {', '.join(TABLES)}"
            )
            self._connection.execute("INSERT INTO notes VALUES (?)", [note])
        self._loaded = tables.load(self._connection, self._found, self._settings)
        if not self._options.images:
            return {}
        source = self._loaded.sources["items"]
        return photos.find_photos(self._connection, source, self._folder)

    def _judge(self) -> None:
        """Finds out who likes what, and in which split; notes what is left out."""
        connection, options = self._connection, self._options
        items.number_items(connection)
        given = any(
            source.has("split")
            for kind, source in self._loaded.sources.items()
            if kind in ("likes", "orders", "outfits")
        )
        tables.make_judgements(
            connection,
            self._loaded,
            self._settings,
            split="given" if given else options.split,
            min_likes=options.min_likes,
        )
        all_ = tables.fetch_judgements(connection, self._loaded.categories.slots)
        if not len(all_.users):
            raise InputError(f"no like is left; {self._reasons()}")
        if given:
            splits, reason = all_.splits, ""
        else:
            shares = options.val_share, options.test_share
            splits, reason = split_likes(
                all_, options.split, shares, options.new_items, self._rng
            )
        tables.leave_out_rows(connection, all_.take(splits == LEFT_OUT), reason)
        stays, self._numbers = tables.trainable(all_, splits)
        lost = all_.take(~stays & (splits != LEFT_OUT))
        tables.leave_out_rows(connection, lost, "the user has no like to train on")
        self._all, self._splits = all_.take(stays), splits[stays]
        for name in ("train", "test"):
            if not self._positives(name):
                why = self._reasons()
                if given:
                    why = "the column split names none; " + why
                elif options.split == "time":
                    why = "is one time that of all the last ones? " + why
                elif not options.new_items:
                    why = f"users with fewer than {SPARED} likes spare none; " + why
                raise InputError(f"no like is left for the {name} split; {why}")
        present = (self._all.items[self._all.liked] >= 0).any(axis=0)
        self._used = np.flatnonzero(present).tolist()
        self._leave_out_unused()

    def _positives(self, split: str) -> int:
        return int(((self._splits == SPLITS[split]) & self._all.liked).sum())

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
            if number not in self._used:
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
        for path in sorted(folder.iterdir()):
            if path.suffix not in (".npz", ".parquet"):
                note = f"not read: vectors/{path.name}; expected .npz or .parquet"
                self._connection.execute("INSERT INTO notes VALUES (?)", [note])
            else:
                _, others = carry_vectors(path, root, ids)
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

    def _reasons(self) -> str:
        rows = self._connection.execute(
            f"SELECT file, {_KIND} AS kind, count(*) AS n FROM left_out "
            "GROUP BY file, kind ORDER BY n DESC, file, kind LIMIT 5"
        ).fetchall()
        if not rows:
            return "import more likes, or allow fewer of each user with --min-likes"
        photos = any(reason.startswith("its photo") for _, reason, _ in rows)
        return "left out were " + "; ".join(
            [f"{count:,} rows of {file}: {reason}" for file, reason, count in rows]
            + ["--no-images goes without photos"] * photos
        )

    def _check_quarantine(self) -> None:
        """Raises ValueError where too many rows of a table are at fault."""
        share = self._options.max_quarantine
        for source in self._loaded.sources.values():
            faults = self._connection.execute(
                f"SELECT {_KIND} AS kind, count(*) AS n FROM left_out WHERE file = ? "
                "AND fault GROUP BY kind ORDER BY n DESC, kind",
                [source.label],
            ).fetchall()
            total = sum(count for _, count in faults)
            if total > share * source.rows:
                shown = "\n".join(f"  {count:,}: {why}" for why, count in faults[:10])
                raise InputError(
                    f"{total:,} of the {source.rows:,} rows of {source.label} cannot be "
                    f"used, more than {share:.0%}:\n{shown}\nnothing was written; mend "
                    "them, or allow more with --max-quarantine"
                )

    def _summary(self) -> Summary:
        slots = self._loaded.categories.slots
        masks = template_masks(self._all.items[self._all.liked])
        templates = {
            tuple(s for k, s in enumerate(slots) if mask >> k & 1): count
            for mask, count in sorted(collections.Counter(masks.tolist()).items())
        }
        left_out: dict[str, dict[str, int]] = {}
        for file, reason, count in self._connection.execute(
            f"SELECT file, {_KIND} AS kind, count(*) AS n FROM left_out "
            "GROUP BY file, kind ORDER BY file, n DESC, kind"
        ).fetchall():
            left_out.setdefault(file, {})[reason] = count
        (number,) = self._connection.execute(
            f"SELECT count(*) FROM numbered WHERE slot IN {self._in()}"
        ).fetchone()
        summary = Summary(
            tables={s.label: s.rows for s in self._loaded.sources.values()},
            left_out=left_out,
            slots=tuple(slots[k] for k in self._used),
            templates=templates,
            splits={split: self._positives(split) for split in SPLITS},
            users=int(self._numbers.max()) + 1,
            items=number,
        )
        return dataclasses.replace(summary, text=self._text(summary))

    def _text(self, summary: Summary) -> str:
        lines = []
        if self._loaded.categories.guessed:
            lines += ["catalogue.toml, as guessed from the names of the categories:"]
            toml = self._loaded.categories.as_toml().splitlines()
            lines += [f"  {line}" for line in toml]
        for source in self._loaded.sources.values():
            renamed = ", ".join(
                f"{our} = {their!r}"
                for our, their in source.columns.items()
                if our != their
            )
            lines.append(
                f"{source.label}: {source.rows:,} rows"
                + (f" (columns {renamed})" if renamed else "")
            )
            reasons = list(summary.left_out.get(source.label, {}).items())
            for reason, count in reasons[:_REASONS_SHOWN]:
                lines.append(f"  {count:>12,} left out: {reason}")
            if rest := sum(count for _, count in reasons[_REASONS_SHOWN:]):
                lines.append(f"  {rest:>12,} left out for other reasons")
        for (note,) in self._connection.execute("SELECT * FROM notes").fetchall():
            lines.append(f"note: {note}")
        lines.append(
            f"{summary.items:,} items of {', '.join(summary.slots)}; "
            f"{summary.users:,} users"
        )
        for template, count in summary.templates.items():
            lines.append(f"  {count:>12,} likes of {' + '.join(template)}")
        splits = ", ".join(f"{n:,} {s}" for s, n in summary.splits.items())
        lines.append(f"splits: {splits}")
        return "\n".join(lines)


def _as_json(summary: Summary, options: Options) -> dict[str, Any]:
    values = dataclasses.asdict(summary)
    values.pop("text")
    values["templates"] = [
        {"slots": list(template), "likes": count}
        for template, count in summary.templates.items()
    ]
    return values | {"options": dataclasses.asdict(options)}
