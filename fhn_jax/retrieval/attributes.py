"""What a shop says of its items, in columns that can be changed while they are read.

Attributes are an `fhn_jax.files.ArrayFolder`, by default `attributes/` in the folder of
an index: an array for each attribute, of all items, one category after the other; and
what has changed since, a record for each change in a file that is appended to. Long ones
are made arrays again, which replaces the manifest in one step. So a reader has all of a
change or nothing of it. Readers look for changes each time they need the attributes, and
keep what they have begun with.
"""

import math
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, Shaped

from fhn_jax import files
from fhn_jax.codes import Codes
from fhn_jax.errors import InputError, UserError, nearest
from fhn_jax.files import ArrayChange, ArrayFolder
from fhn_jax.retrieval.arguments import item_ids
from fhn_jax.retrieval.columns import Column

FORMAT = files.ArrayFormat(
    name="fhn_jax.attributes",
    version=1,
    noun="attributes of items",
    remedy="make it again with Attributes.create",
    metadata={"items": dict, "source": str, "changes": int, "columns": dict},
)

# Attribute -> values of all items, one category after the other.
Values = Mapping[str, Sequence[Any] | Shaped[np.ndarray, " n"]]
# Changes are made arrays when they have so many bytes, or are of so many items.
_LONGEST_JOURNAL = 2**20
_MOST_ITEMS = 10_000

# Attribute -> category -> item -> value.
Changes = Mapping[str, Mapping[str, Mapping[int, Any]]]


class Attributes:
    """Attributes of the items of some codes: in memory, or in a folder.

    >>> rng = np.random.default_rng(0)
    >>> vectors = {name: rng.normal(size=(2, 64)) for name in ("top", "shoe")}
    >>> codes = Codes.from_embeddings(vectors)
    >>> attributes = Attributes.in_memory(codes, {"price": [20, 90, None, 75]})
    >>> attributes.columns()["price"].meets("<=", ["80"], "price")
    array([ True, False, False,  True])
    >>> attributes.change({"price": {"top": {1: 60}}})
    >>> attributes.columns()["price"].meets("<=", ["80"], "price")
    array([ True,  True, False,  True])
    """

    def __init__(
        self,
        codes: Codes,
        columns: Mapping[str, Column],
        folder: ArrayFolder | None = None,
        state: tuple[int, int, int] | None = None,
    ):
        """Use `in_memory`, `create` or `open`."""
        self._codes = codes
        # Replaced as a whole: readers in other threads have the old or the new.
        self._now = _Now(dict(columns), folder, state)
        self.columns()

    @classmethod
    def in_memory(cls, codes: Codes, values: Values) -> "Attributes":
        """Attributes of the items of some codes.

        Raises:
          InputError: values for more or fewer items than the codes have.
        """
        return cls(codes, _columns(codes, values))

    @classmethod
    def create(
        cls, folder: str | os.PathLike, codes: Codes, values: Values, source: str = ""
    ) -> "Attributes":
        """Writes attributes into a new folder.

        Args:
          source: what they were made from, such as the checksum of a file; see `source`.
        Raises:
          FileExistsError: the folder is there.
          InputError: as `in_memory`.
        """
        columns = _columns(codes, values)
        with ArrayFolder.create(folder, FORMAT) as new:
            new.metadata = {
                "items": _items(codes),
                "source": source,
                "changes": 0,
                "columns": {},
            }
            for number, (name, column) in enumerate(columns.items()):
                _add(new, number, name, column)
        return cls.open(folder, codes)

    @classmethod
    def open(cls, folder: str | os.PathLike, codes: Codes) -> "Attributes":
        """Opens the attributes of a folder.

        Raises:
          FileNotFoundError: there are none.
          InputError: they are damaged, or of other items.
        """
        state = _state(Path(folder))
        opened, columns = _open(Path(folder))
        if not _is_of(opened, codes):
            raise InputError(
                f"{folder} has attributes of other items: {opened.metadata['items']}, "
                f"not {_items(codes)}; {FORMAT.remedy}"
            )
        return cls(codes, columns, opened, state)

    def __repr__(self) -> str:
        return f"Attributes({dict(self.columns())})"

    @property
    def source(self) -> str:
        """What they were made from, as given to `create`; "" in memory."""
        folder = self._now.folder
        return "" if folder is None else folder.metadata["source"]

    @property
    def version(self) -> Hashable:
        """What is another one after each change."""
        self.columns()
        return self._now.state, self._now.end

    def columns(self) -> Mapping[str, Column]:
        """The attributes as they are now, those of a folder as it is now.

        Raises:
          InputError: the folder has been changed, and is damaged.
        """
        while (folder := self._now.folder) is not None:
            now, state = self._now, _state(folder.path)
            if state in (None, now.of_others):
                break
            if state != now.state:
                opened, columns = _open(folder.path)
                if not _is_of(opened, self._codes):
                    # Those of other codes, which others serve; nor is the journal ours.
                    self._now = now._replace(of_others=state)
                    break
                now = _Now(columns, opened, state)
            try:
                now = _follow(now, self._codes)
            except UserError:
                if _state(folder.path) == state:
                    raise
            else:
                # The journal is that of the manifest if this is the same as before.
                if _state(folder.path) == state:
                    self._now = now
                    break
        return self._now.columns

    def values(self) -> dict[str, Any]:
        """The attributes as they were given, None where there is none."""
        return {name: column.plain() for name, column in self.columns().items()}

    def of(self, category: int, item: int) -> dict[str, Any]:
        """All attributes of an item as JSON has them, None where it has none."""
        place = sum(self._codes.num_items[:category]) + item
        return {name: column.at(place) for name, column in self.columns().items()}

    def change(self, changes: Changes) -> None:
        """Gives some items other values: all of them, or on an error none.

        Args:
          changes: attribute -> category -> item -> value, None for none.
        Raises:
          InputError: an unknown attribute, category or item, or a value of another kind;
            the folder was made anew for other items.
          BusyError: another process is changing them.
        """
        folder = self._own_folder()
        many = sum(len(v) for of in changes.values() for v in of.values())
        if folder is None:
            new = _changed(self._codes, self._now.columns, changes)
            self._now = _Now(new, end=self._now.end + 1)
        elif self._now.end > _LONGEST_JOURNAL or many > _MOST_ITEMS:
            self._write(folder, lambda: _changed(self._codes, self.columns(), changes))
        else:
            with files.lock(folder.path, "changing it"):
                self._own_folder()
                now = self._now
                columns = _changed(self._codes, now.columns, changes)
                end = files.append_record(now.journal, _plain(changes), now.end)
                self._now = now._replace(columns=columns, end=end)

    def replace(self, values: Values, source: str = "") -> None:
        """Gives all items other attributes.

        Args and Raises: as `create`; BusyError: another process is changing them.
        """
        columns, folder = _columns(self._codes, values), self._own_folder()
        if folder is None:
            self._now = _Now(columns, end=self._now.end + 1)
        else:
            self._write(folder, lambda: columns, {"source": source})

    def _own_folder(self) -> ArrayFolder | None:
        """The folder as it is now; None in memory."""
        self.columns()
        now = self._now
        if now.folder is not None and now.of_others is not None:
            raise InputError(
                f"{now.folder.path} has attributes of other items now; open it with the "
                "codes that they are of"
            )
        return now.folder

    def _write(
        self,
        folder: ArrayFolder,
        make: Callable[[], Mapping[str, Column]],
        about: Mapping[str, Any] = {},
    ) -> None:
        """Writes all columns as arrays, made when nobody else can change them."""
        journal = self._now.journal
        with folder.change() as change:
            columns = make()
            for old in change.metadata["columns"].values():
                for name in _files(old):
                    change.drop(name)
            number = change.metadata["changes"] + 1
            change.metadata |= {"columns": {}, "changes": number, **about}
            for number, (name, column) in enumerate(columns.items()):
                _add(change, number, name, column)
        journal.unlink(missing_ok=True)
        # Of no state that is known: somebody may have changed it again since.
        self._now = _Now(columns, folder)


class _Now(NamedTuple):
    """Attributes at some time.

    Attributes:
      columns: by name.
      folder: None in memory.
      state: of its manifest when it was read; None makes it be read again.
      of_others: state of a later manifest that is of other items.
      end: of the last change that they have, in the journal; in memory their number.
    """

    columns: Mapping[str, Column]
    folder: ArrayFolder | None = None
    state: tuple[int, int, int] | None = None
    of_others: tuple[int, int, int] | None = None
    end: int = 0

    @property
    def journal(self) -> Path:
        assert self.folder is not None
        return _journal(self.folder)


def verify(path: Path) -> int:
    """Reads all attributes and changes of a folder, and compares checksums.

    Returns:
      how many changes there are.
    Raises:
      InputError: a file is damaged.
      MissingFileError: a file is missing.
    """
    folder = ArrayFolder.open(path, FORMAT)
    folder.verify()
    return len(files.read_records(_journal(folder))[0])


def _journal(folder: ArrayFolder) -> Path:
    return folder.path / f"changes-{folder.metadata['changes']}"


def _follow(now: _Now, codes: Codes) -> _Now:
    """With what the journal has beyond them."""
    try:
        size = os.stat(now.journal).st_size
    except FileNotFoundError:
        return now
    if size == now.end:
        return now
    records, end = files.read_records(now.journal, now.end)
    columns = now.columns
    for changes in records:
        columns = _changed(codes, columns, _numbered(changes))
    return now._replace(columns=columns, end=end)


def _changed(
    codes: Codes, columns: Mapping[str, Column], changes: Changes
) -> dict[str, Column]:
    new = dict(columns)
    for name, by_category in changes.items():
        if name not in new:
            raise unknown_attribute(name, new)
        new[name] = new[name].changed(*_places(codes, by_category), name)
    return new


def _places(
    codes: Codes, by_category: Mapping[str, Mapping[int, Any]]
) -> tuple[Int64[np.ndarray, " n"], list[Any]]:
    """Where in a column items are, and their values."""
    places, values = [np.empty(0, np.int64)], []
    starts = np.cumsum([0, *codes.num_items])
    for category, some in by_category.items():
        ids = item_ids(codes, category, list(some))
        places.append(starts[codes.categories.index(category)] + ids)
        values += some.values()
    return np.concatenate(places), values


def _plain(changes: Changes) -> dict[str, Any]:
    """Changes as JSON has them."""
    return {
        name: {
            category: {str(item): _json(value) for item, value in some.items()}
            for category, some in by_category.items()
        }
        for name, by_category in changes.items()
    }


def _numbered(changes: Any) -> Changes:
    """Changes as JSON has them, but the items as numbers."""
    return {
        name: {
            category: {int(item): value for item, value in some.items()}
            for category, some in by_category.items()
        }
        for name, by_category in changes.items()
    }


def _json(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    is_plain = value is None or isinstance(value, bool | int | float | str)
    return value if is_plain else str(value)


def unknown_attribute(name: str, known: Mapping[str, Any]) -> InputError:
    """The error about an attribute that there is not."""
    return InputError(
        f"items have no attribute {name[:80]!r}; expected one of {sorted(known)}"
        f"{nearest(name[:80], known)}"
    )


def _items(codes: Codes) -> dict[str, int]:
    return dict(zip(codes.categories, codes.num_items, strict=True))


def _is_of(folder: ArrayFolder, codes: Codes) -> bool:
    # Categories in order: JSON keeps that of a dict.
    return list(folder.metadata["items"].items()) == list(_items(codes).items())


def _columns(codes: Codes, values: Values) -> dict[str, Column]:
    total = sum(codes.num_items)
    for name, of_items in values.items():
        if len(of_items) != total:
            raise InputError(
                f"{len(of_items):,} values of {name} for {total:,} items; expected one "
                "for each, None where there is none"
            )
    return {name: Column.of(of_items) for name, of_items in values.items()}


def _state(folder: Path) -> tuple[int, int, int] | None:
    """What tells one manifest from the next; None if there is none."""
    try:
        found = os.stat(folder / "manifest.json")
    except FileNotFoundError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _files(about: Mapping[str, Any]) -> list[str]:
    return [about[key] for key in ("values", "texts", "ends") if key in about]


def _add(change: ArrayChange, number: int, name: str, column: Column) -> None:
    """Writes a column. Texts are one run of UTF-8, and where each ends."""
    prefix = f"{change.metadata['changes']}-{number}"
    about = {
        "kind": column.kind,
        "type": column.values.dtype.str,
        "values": change.add(f"{prefix}-values.npy", column.values),
    }
    if column.kind == "text":
        texts = [text.encode(errors="surrogatepass") for text in column.texts]
        run = np.frombuffer(b"".join(texts), np.uint8)
        about["texts"] = change.add(f"{prefix}-texts.npy", run)
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        about["ends"] = change.add(f"{prefix}-ends.npy", ends)
    change.metadata["columns"] = change.metadata["columns"] | {name: about}


def _open(path: Path) -> tuple[ArrayFolder, dict[str, Column]]:
    while True:
        folder = ArrayFolder.open(path, FORMAT)
        try:
            columns = folder.metadata["columns"].items()
            return folder, {name: _map(folder, about) for name, about in columns}
        except UserError:
            # Another process may have removed what this manifest names.
            if not folder.is_outdated():
                raise


def _map(folder: ArrayFolder, about: Mapping[str, Any]) -> Column:
    kind, texts = about["kind"], {}
    values = folder.map(about["values"], np.dtype(about["type"]), verify=True)
    if kind == "text":
        run = folder.map(about["texts"], np.uint8, verify=True).tobytes()
        ends = folder.map(about["ends"], np.int64, verify=True).tolist()
        texts = {
            run[start:end].decode(errors="surrogatepass"): number
            for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
        }
    return Column(kind, values, texts)
