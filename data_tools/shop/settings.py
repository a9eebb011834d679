"""catalogue.toml: what a shop calls things, and which outfits it has."""

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fhn_jax.errors import InputError, nearest

ATTRIBUTE_TYPES = ("number", "boolean", "text", "time")
# Tables that a shop may have, as files or as DataFrames.
TABLES = ("items", "outfits", "orders", "likes", "negatives", "questions")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What catalogue.toml says; nothing, where there is none.

    Attributes:
      slots: slot → the shop's categories; empty to guess them.
      templates: sets of slots that make an outfit; empty for those that occur.
      ignore: the shop's categories that are no garments, left out.
      columns: table → our name of a column → theirs.
      attributes: column → one of `ATTRIBUTE_TYPES`; others are read off the column.
      decimal: "," or ".", by which numbers such as 1.299 are read; "" to read it off their
        column.
    """

    slots: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    templates: tuple[tuple[str, ...], ...] = ()
    ignore: tuple[str, ...] = ()
    columns: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    decimal: str = ""


def read_settings(path: Path) -> Settings:
    """Reads catalogue.toml.

    Raises:
      ValueError: it is no TOML, or says something that is not expected.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: {error}; expected TOML in UTF-8") from None
    return parse_settings(values, str(path))


def parse_settings(values: Mapping[str, Any], where: str) -> Settings:
    """The settings of a decoded catalogue.toml; see `read_settings`."""
    _known(values, [field.name for field in dataclasses.fields(Settings)], where)
    slots = {
        name: _texts(some, f"{where}: slots.{name}")
        for name, some in _table(values, "slots", where).items()
    }
    for name in slots:
        # Slots become part of file names and of headers.
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or name == "user":
            raise InputError(
                f"{where}: the slot {name!r} is no name of a category; expected "
                "letters, digits, _ and -, such as 'top'"
            )
    several = sorted(
        each
        for each in {c for some in slots.values() for c in some}
        if sum(each in some for some in slots.values()) > 1
    )
    if several:
        raise InputError(
            f"{where}: the category {several[0]!r} is in several slots; expected one"
        )
    templates = []
    given = values.get("templates", [])
    if not isinstance(given, list | tuple):
        raise InputError(f"{where}: expected [[templates]] with slots = [...]")
    for number, template in enumerate(given, 1):
        place = f"{where}: template {number}"
        if not isinstance(template, Mapping):
            raise InputError(f"{place}: expected [[templates]] with slots = [...]")
        _known(template, ["slots"], place)
        some = _texts(template.get("slots", []), f"{place}: slots")
        for slot in some:
            if slots and slot not in slots:
                raise InputError(
                    f"{place}: there is no slot {slot!r}; expected some of "
                    f"{', '.join(slots)}{nearest(slot, slots)}"
                )
        if not some or len(set(some)) != len(some):
            raise InputError(f"{place}: {list(some)}; expected slots, each once")
        templates.append(some)
    columns = _table(values, "columns", where)
    _known(columns, TABLES, f"{where}: columns")
    for table in columns:
        for name, column in _table(columns, table, f"{where}: columns").items():
            if not isinstance(column, str):
                raise InputError(
                    f"{where}: columns.{table}.{name} is {column!r}; expected the name "
                    "of a column"
                )
    attributes = _table(values, "attributes", where)
    for name, kind in attributes.items():
        if kind not in ATTRIBUTE_TYPES:
            raise InputError(
                f"{where}: attributes.{name} is {kind!r}; expected one of "
                f"{', '.join(ATTRIBUTE_TYPES)}"
            )
    decimal = values.get("decimal", "")
    if decimal not in ("", ",", "."):
        raise InputError(f'{where}: decimal is {decimal!r}; expected "," or "."')
    return Settings(
        slots=slots,
        templates=tuple(templates),
        ignore=_texts(values.get("ignore", []), f"{where}: ignore"),
        columns={name: _table(columns, name, where) for name in columns},
        attributes=attributes,
        decimal=decimal,
    )


def _known(values: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    known = list(known)
    for name in values:
        if name not in known:
            raise InputError(
                f"{where}: {name!r} is unknown; expected some of {', '.join(known)}"
                f"{nearest(name, known)}"
            )


def _table(values: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    table = values.get(name, {})
    if not isinstance(table, Mapping):
        raise InputError(f"{where}: {name} is {table!r}; expected a table [{name}]")
    return table


def _texts(values: Any, where: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise InputError(f"{where} is {values!r}; expected a list of texts")
    return tuple(values)
