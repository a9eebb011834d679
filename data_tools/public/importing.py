"""What the importers of public data sets share: a reader makes a shop's tables of a set."""

import dataclasses
import itertools
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fhn_jax.data_tools.import_catalogue import (
    add_options,
    import_catalogue,
    run_import,
)
from fhn_jax.data_tools.shop.options import Options
from fhn_jax.data_tools.shop.summary import Summary

from fhn_jax.data.records import Progress
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.files import new_folder, read_text, refuse_existing, temporary_folder
from fhn_jax.program import Arguments

_SHOWN = 80


class LeftOut:
    """What a reader leaves out of a set's files, for quarantine.jsonl."""

    def __init__(self):
        """Begins with nothing."""
        self._rows: list[tuple[str, int, str, str]] = []

    def add(self, file: str, row: int, what: object, reason: str) -> None:
        """Notes a row, or a file if `row` is 0."""
        self._rows.append((file, row, str(what)[:_SHOWN], reason))

    def check(self, file: str, total: int, share: float) -> None:
        """Raises ValueError if more than a share of a file's rows were noted."""
        reasons = [reason for name, _, _, reason in self._rows if name == file]
        if len(reasons) > share * total:
            most = max(set(reasons), key=reasons.count)
            raise InputError(
                f"{len(reasons):,} of the {total:,} rows of {file} cannot be used, more "
                f"than {share:.0%}, most because: {most}; is it the set's own file, and "
                "whole? Otherwise allow more with --max-quarantine"
            )

    def table(self) -> dict[str, np.ndarray] | None:
        """All of it, as the importer takes it."""
        if not self._rows:
            return None
        file, row, what, reason = zip(*self._rows, strict=True)
        texts = {"file": file, "what": what, "reason": reason}
        columns = {name: np.array(values, object) for name, values in texts.items()}
        return columns | {"row": np.array(row, np.int64)}


@dataclasses.dataclass(frozen=True)
class Task:
    """One import of a public set, for its reader.

    Attributes:
      source: the folder of the set.
      work: an empty folder for tables that a reader makes.
      left_out: for what it leaves out.
      max_quarantine: the share of a file's rows that it may leave out for faults.
      catalogue: what catalogue.toml would say, if the user says it.
    """

    source: Path
    work: Path
    left_out: LeftOut
    max_quarantine: float
    catalogue: Mapping[str, Any] | None

    def find(self, *names: str) -> list[Path]:
        """Files of the set; raises MissingFileError if one is not there."""
        paths = [self.source / name for name in names]
        for path in paths:
            if not path.is_file():
                raise MissingFileError(
                    f"{path} is missing; expected {', '.join(names)} in it, as the "
                    "authors publish them (docs/data-sets.md)"
                )
        return paths


def import_set(
    read: Callable[[Task], Mapping[str, Any]],
    source: str | Path,
    root: str | Path,
    *,
    add: Callable[[Task, Path], str] | None = None,
    catalogue: str | Path | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Summary:
    """Makes a data root of a public set; see `import_catalogue`.

    Args:
      read: makes the tables of the set.
      source: its folder.
      root: the data root to make.
      add: adds to the data root what the importer knows nothing of; returns what must be
        said about it.
      catalogue: a catalogue.toml, instead of the reader's own.
      dry_run, progress, **options: as of `import_catalogue`.
    Raises:
      FileNotFoundError: there is no such folder, or a file of the set is missing.
      ValueError: a file is none of the set's, or too much of it is of no use.
    """
    source, root = Path(source), Path(root)
    if not source.is_dir():
        raise MissingFileError(
            f"there is no folder {source}; docs/data-sets.md says where to get the set"
        )
    refuse_existing(root)
    given = None if catalogue is None else _read_catalogue(Path(catalogue))
    share, left_out = Options(**options).max_quarantine, LeftOut()
    with temporary_folder(root) as work:
        task = Task(source, work, left_out, share, given)
        shop = {"folder": source, **read(task)}
        if left_out.table() is not None:
            shop["left_out"] = left_out.table()
        if add is None or dry_run:
            summary = import_catalogue(
                shop, root, dry_run=dry_run, progress=progress, **options
            )
            return dataclasses.replace(summary, text=_text(summary))
        with new_folder(root) as new:
            made = new / "import"
            summary = import_catalogue(shop, made, progress=progress, **options)
            text = f"{_text(summary)}\n{add(task, made)}"
            for path in made.iterdir():
                path.rename(new / path.name)
            made.rmdir()
    return dataclasses.replace(summary, text=text)


def main_of(
    importer: Callable[..., Summary],
    name: str,
    about: str | None,
    arguments: Sequence[str] | None,
    *,
    flags: Callable[[Arguments], object] | None = None,
    **defaults: Any,
) -> None:
    """The command line of an importer.

    Args:
      importer: takes `source`, `root`, and the flags by name.
      name: of the command.
      about: its documentation.
      arguments: of the command line.
      flags: adds flags of its own.
      **defaults: other defaults of the flags.
    """
    parser = Arguments(f"fhn-jax {name}", about)
    parser.add_argument("source", metavar="SOURCE", help="folder of the data set")
    parser.add_argument("root", metavar="ROOT", help="data root to make")
    parser.add_argument(
        "--catalogue",
        metavar="FILE",
        help="a catalogue.toml with other slots, templates or ignored categories",
    )
    if flags is not None:
        flags(parser)
    add_options(parser)
    parser.set_defaults(**defaults)
    run_import(importer, vars(parser.parse_args(arguments)))


def templates(
    cores: Sequence[tuple[str, ...]], extras: Sequence[str]
) -> list[dict[str, list[str]]]:
    """Sets of slots: each core with each choice of extras, if they are two or more.

    >>> [each["slots"] for each in templates([("dress",)], ["shoe", "bag"])]
    [['dress', 'shoe'], ['dress', 'bag'], ['dress', 'shoe', 'bag']]
    """
    found = []
    for core in cores:
        for count in range(len(extras) + 1):
            for some in itertools.combinations(extras, count):
                if len(core) + len(some) > 1:
                    found.append({"slots": [*core, *some]})
    return found


def _read_catalogue(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(read_text(path, "expected a catalogue.toml"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: {error}; expected TOML") from None


def _text(summary: Summary) -> str:
    """The summary, after what the reader left out."""
    lines = []
    for file, reasons in summary.left_out.items():
        if file not in summary.tables:
            lines.append(f"{file}:")
            lines += [f"  {n:>12,} left out: {why}" for why, n in reasons.items()]
    return "\n".join([*lines, summary.text])
