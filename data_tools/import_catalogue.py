"""Imports a shop's own files: catalogue, outfits or orders, likes and photos.

    fhn-jax import-catalogue shop data/shop --dry-run
    fhn-jax import-catalogue shop data/shop

`shop` holds tables as .csv, .jsonl or .parquet: items (id, category; title, image and any
attributes), likes (user, and item_id or outfit_id; value 1 or -1, time), and if there are
any outfits or orders (a column for each slot, or a row for each item). catalogue.toml says
which category belongs to which slot; without it, the common names are known. What cannot
be used is left out, counted, and listed with its reason in quarantine.jsonl.
"""

import collections
import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fhn_jax.data_tools.shop import draws, engine, items, sources, tables
from fhn_jax.data_tools.shop.settings import Settings, parse_settings, read_settings
from fhn_jax.data_tools.shop.splits import (
    LEFT_OUT,
    METHODS,
    TEST,
    TRAIN,
    VAL,
    split_likes,
)

from fhn_jax.data.tables import write_names
from fhn_jax.errors import InputError
from fhn_jax.files import new_folder, write_json
from fhn_jax.program import Arguments, run_program

VARIANT = "shop"
NEGATIVES = 10
MIN_LIKES = 3
MAX_QUARANTINE = 0.1
_SPLITS = {"train": TRAIN, "val": VAL, "test": TEST}


@dataclasses.dataclass(frozen=True)
class Summary:
    """What an import did, or would do.

    Attributes:
      text: the same for people.
      tables: table → rows in it.
      left_out: table → reason → rows.
      slots: of the layout.
      templates: sets of slots that outfits are of → positives.
      splits: split → positives.
      users, items: how many there are.
    """

    text: str
    tables: Mapping[str, int]
    left_out: Mapping[str, Mapping[str, int]]
    slots: tuple[str, ...]
    templates: Mapping[tuple[str, ...], int]
    splits: Mapping[str, int]
    users: int
    items: int


def import_catalogue(
    shop: str | os.PathLike | Mapping[str, Any],
    root: str | os.PathLike,
    *,
    split: str = "random",
    val_share: float = 0.1,
    test_share: float = 0.1,
    new_items: bool = False,
    min_likes: int = MIN_LIKES,
    repeats: str = "once",
    negatives: int = NEGATIVES,
    max_quarantine: float = MAX_QUARANTINE,
    seed: int = 0,
    dry_run: bool = False,
) -> Summary:
    """Writes a data root from a shop's tables, whole or not at all.

    Args:
      shop: the folder; or the tables by name ("items", "outfits", "orders", "likes"), each
        a file, a DataFrame or an Arrow table, and perhaps "catalogue", what catalogue.toml
        would say.
      root: the data root to make.
      split: "random", "time" or "leave-last-out"; where the tables have a column split,
        that counts.
      val_share, test_share: of the likes.
      new_items: no item of the test split is trained on.
      min_likes: users with fewer are left out.
      repeats: "once", or "weights": a like that is repeated is so many train positives.
      negatives: of each positive of val and test.
      max_quarantine: the share of a table's rows that may be at fault.
      seed: of all that is drawn.
      dry_run: only says what would be done.
    Raises:
      FileNotFoundError: there is no such folder or no table of items.
      FileExistsError: there is something at `root`.
      ValueError: a table or setting cannot be used, or too many rows cannot.

    >>> import_catalogue("no_such_folder", "data/shop")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    fhn_jax.errors.MissingFileError: there is no folder no_such_folder; ...
    """
    _check(split, val_share, test_share, negatives, max_quarantine, repeats)
    root = Path(root)
    found = sources.find_tables(shop)
    settings = _settings(shop)
    options = dict(
        split=split,
        shares=(val_share, test_share),
        new_items=new_items,
        min_likes=min_likes,
        repeats=repeats,
        negatives=negatives,
        max_quarantine=max_quarantine,
        seed=seed,
    )
    if dry_run:
        with tempfile.TemporaryDirectory() as folder:
            with engine.database(Path(folder)) as connection:
                return _Import(connection, found, settings, options).plan()
    with new_folder(root) as folder:
        work = folder / "import.tmp"
        work.mkdir()
        with engine.database(work) as connection:
            summary = _Import(connection, found, settings, options).write(folder)
        _remove(work)
    return summary


class _Import:
    """One import, from tables to files."""

    def __init__(
        self,
        connection: Any,
        found: Mapping[str, Any],
        settings: Settings,
        options: Mapping[str, Any],
    ):
        self._connection, self._found = connection, found
        self._settings, self._options = settings, options
        self._rng = np.random.default_rng(options["seed"])

    def plan(self) -> Summary:
        """All but the files."""
        self._judge()
        return self._summary()

    def write(self, folder: Path) -> Summary:
        """Writes the data root."""
        self._judge()
        self._check_quarantine()
        connection, slots = self._connection, self._loaded.categories.slots
        tuples = folder / f"tuples_{VARIANT}"
        tuples.mkdir()
        for number in self._used:
            names = connection.execute(
                "SELECT name FROM numbered WHERE slot = ? ORDER BY number", [number]
            ).fetchnumpy()["name"]
            write_names(tuples / f"image_list_{slots[number]}", names.tolist())
        self._write_tuples(tuples)
        tables.write_users(connection, self._numbers, folder / "users.parquet")
        source = self._loaded.sources["items"]
        path = folder / "items.parquet"
        items.write_items(connection, source, self._settings, slots, self._used, path)
        connection.execute(
            "COPY (SELECT * FROM left_out) TO "
            f"{engine.text(folder / 'quarantine.jsonl')} (FORMAT json)"
        )
        summary = self._summary()
        write_json(folder / "import.json", _as_json(summary))
        return summary

    def _judge(self) -> None:
        connection, options = self._connection, self._options
        tables.begin(connection)
        self._loaded = tables.load(connection, self._found, self._settings)
        items.number_items(connection)
        given = any(
            source.has("split")
            for kind, source in self._loaded.sources.items()
            if kind in ("likes", "orders", "outfits")
        )
        method = "given" if given else options["split"]
        self._templates = tables.make_judgements(
            connection,
            self._loaded,
            self._settings,
            split=method,
            min_likes=options["min_likes"],
        )
        slots = self._loaded.categories.slots
        all_ = tables.fetch_judgements(connection, slots)
        if not len(all_.users):
            raise InputError(f"no like is left; {self._reasons()}")
        if given:
            splits, reason = all_.splits, ""
        else:
            splits, reason = split_likes(
                all_,
                method,
                options["shares"],
                options["new_items"],
                self._rng,
            )
        tables.leave_out_rows(connection, all_.take(splits == LEFT_OUT), reason)
        stays, self._numbers = tables.trainable(all_, splits)
        lost = all_.take(~stays & (splits != LEFT_OUT))
        tables.leave_out_rows(connection, lost, "the user has no like to train on")
        self._all, self._splits = all_.take(stays), splits[stays]
        for name in ("train", "test"):
            if not self._positives(name).any():
                raise InputError(
                    f"no like is left for the {name} split; {self._reasons()}"
                )
        present = (self._all.items[self._all.liked] >= 0).any(axis=0)
        self._used = np.flatnonzero(present).tolist()
        self._leave_out_unused()

    def _positives(self, split: str) -> np.ndarray:
        return (self._splits == _SPLITS[split]) & self._all.liked

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

    def _write_tuples(self, folder: Path) -> None:
        connection, all_ = self._connection, self._all
        slots = self._loaded.categories.slots
        names = [slots[k] for k in self._used]
        users = self._numbers[all_.users]
        rows = all_.items[:, self._used]
        sizes = [
            count
            for (count,) in connection.execute(
                f"SELECT count(*) FROM numbered WHERE slot IN "
                f"({', '.join(map(str, self._used))}) GROUP BY slot ORDER BY slot"
            ).fetchall()
        ]
        taken = draws.Taken(users[all_.liked], rows[all_.liked], sizes)
        for split in _SPLITS:
            which = np.flatnonzero(self._positives(split))
            if not len(which):
                continue
            if split == "train" and self._options["repeats"] == "weights":
                which = np.repeat(which, all_.counts[which])
            owners, positives = users[which], rows[which]
            self._write(
                folder / f"tuples_{split}_posi", names, owners, positives[:, None]
            )
            no = np.flatnonzero((self._splits == _SPLITS[split]) & ~all_.liked)
            if split == "train" and not len(no):
                continue  # They are drawn anew in each epoch.
            count = self._options["negatives"]
            drawn = draws.random_negatives(owners, positives, count, taken, self._rng)
            draws.put_dislikes(drawn, owners, (users[no], rows[no]))
            self._write(folder / f"tuples_{split}_nega", names, owners, drawn)
            if split == "train":
                continue
            hard = draws.hard_negatives(owners, positives, count, taken, self._rng)
            if hard is not None:
                self._write(folder / f"tuples_{split}_nega_hard", names, owners, hard)
            asked, candidates = draws.questions(owners, positives, taken, self._rng)
            if len(asked):
                path = folder / f"fill_in_blank_{split}"
                self._write(path, names, owners[asked], candidates, side_by_side=True)

    def _write(
        self,
        path: Path,
        names: Sequence[str],
        users: np.ndarray,
        rows: np.ndarray,
        *,
        side_by_side: bool = False,
    ) -> None:
        several = rows.shape[1]
        header = ",".join(("user", *names) * (several if side_by_side else 1))
        if side_by_side:
            columns = {}
            for number in range(several):
                columns[f"u{number}"] = users
                for k in range(len(names)):
                    columns[f"c{number}_{k}"] = np.ascontiguousarray(rows[:, number, k])
        else:
            columns = {"user": np.repeat(users, several)}
            for k in range(len(names)):
                columns[f"c{k}"] = np.ascontiguousarray(rows[:, :, k]).ravel()
        engine.write_csv(self._connection, path, header, columns)

    def _reasons(self) -> str:
        rows = self._connection.execute(
            "SELECT file, reason, count(*) AS n FROM left_out GROUP BY file, reason "
            "ORDER BY n DESC LIMIT 5"
        ).fetchall()
        return "left out were " + "; ".join(
            f"{count:,} rows of {file}: {reason}" for file, reason, count in rows
        )

    def _check_quarantine(self) -> None:
        share = self._options["max_quarantine"]
        for source in self._loaded.sources.values():
            faults = self._connection.execute(
                "SELECT reason, count(*) AS n FROM left_out WHERE file = ? AND fault "
                "GROUP BY reason ORDER BY n DESC",
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
        weights = 1 << np.arange(len(slots))
        masks = (self._all.items[self._all.liked] >= 0) @ weights
        templates = {
            tuple(s for k, s in enumerate(slots) if mask >> k & 1): count
            for mask, count in sorted(collections.Counter(masks.tolist()).items())
        }
        left_out: dict[str, dict[str, int]] = {}
        for file, reason, count in self._connection.execute(
            "SELECT file, reason, count(*) AS n FROM left_out GROUP BY file, reason "
            "ORDER BY file, n DESC, reason"
        ).fetchall():
            left_out.setdefault(file, {})[reason] = count
        number = self._connection.execute(
            f"SELECT count(*) FROM numbered WHERE slot IN "
            f"({', '.join(map(str, self._used))})"
        ).fetchone()
        summary = Summary(
            text="",
            tables={s.label: s.rows for s in self._loaded.sources.values()},
            left_out=left_out,
            slots=tuple(slots[k] for k in self._used),
            templates=templates,
            splits={s: int(self._positives(s).sum()) for s in _SPLITS},
            users=int(self._numbers.max()) + 1,
            items=number[0],
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
            for reason, count in summary.left_out.get(source.label, {}).items():
                lines.append(f"  {count:>12,} left out: {reason}")
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


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax import-catalogue", __doc__)
    parser.add_argument("shop", metavar="SHOP", help="folder with the shop's tables")
    parser.add_argument("root", metavar="ROOT", help="data root to make")
    parser.add_argument("--split", choices=METHODS, default="random")
    _number(parser, "val-share", float, 0.1, "of the likes")
    _number(parser, "test-share", float, 0.1, "of the likes")
    parser.add_argument(
        "--new-items",
        action="store_true",
        help="no item of the test split is trained on",
    )
    _number(parser, "min-likes", int, MIN_LIKES, "users with fewer are left out")
    parser.add_argument(
        "--repeats",
        choices=("once", "weights"),
        default="once",
        help="a repeated like counts once, or as often in training",
    )
    _number(parser, "negatives", int, NEGATIVES, "of each positive of val and test")
    _number(
        parser,
        "max-quarantine",
        float,
        MAX_QUARANTINE,
        "share of rows that may be faulty",
    )
    _number(parser, "seed", int, 0, "of all that is drawn")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done; write nothing"
    )
    options = parser.parse_args(arguments)
    summary = import_catalogue(**vars(options))
    print(summary.text)
    if options.dry_run:
        print("nothing was written; without --dry-run it will be")
    else:
        print(
            f"{options.root} holds the data; what was left out: quarantine.jsonl in it"
        )


def _number(
    parser: Arguments, flag: str, kind: Callable, default: float, about: str
) -> None:
    parser.add_argument(
        f"--{flag}", type=kind, default=default, help=f"{about} (default: %(default)s)"
    )


def _settings(shop: str | os.PathLike | Mapping[str, Any]) -> Settings:
    if isinstance(shop, Mapping):
        return parse_settings(shop.get("catalogue") or {}, "catalogue")
    path = Path(shop) / "catalogue.toml"
    return read_settings(path) if path.is_file() else Settings()


def _check(
    split: str,
    val_share: float,
    test_share: float,
    negatives: int,
    max_quarantine: float,
    repeats: str,
) -> None:
    if split not in METHODS:
        raise InputError(f"split={split!r}; expected one of {', '.join(METHODS)}")
    if repeats not in ("once", "weights"):
        raise InputError(f"repeats={repeats!r}; expected once or weights")
    if not (0 < test_share < 1 and 0 <= val_share and val_share + test_share < 1):
        raise InputError(
            f"val_share={val_share} and test_share={test_share}; expected shares that "
            "leave some to train on, and some to test"
        )
    if negatives < 1:
        raise InputError(f"negatives={negatives}; expected at least 1")
    if not 0 <= max_quarantine <= 1:
        raise InputError(f"max_quarantine={max_quarantine}; expected 0 to 1")


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def _as_json(summary: Summary) -> dict[str, Any]:
    values = dataclasses.asdict(summary)
    values.pop("text")
    values["templates"] = [
        {"slots": list(template), "likes": count}
        for template, count in summary.templates.items()
    ]
    return values


if __name__ == "__main__":
    run_program(main)
