"""The files of a variant as tables: CSV files of integers, and lists of image names.

A fault is an error that names the file and line, what was found, what was expected and
the remedy.
"""

import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from fhn_jax.data.catalogue import name_fault
from fhn_jax.errors import InputError
from fhn_jax.files import atomic_path, write_text

DOWNLOAD = "download or copy this file again"
# Some editors and spreadsheets begin a file with it.
_BOM = b"\xef\xbb\xbf"


def first_line(path: Path, content: bytes) -> str:
    """The first line of a CSV file that is not empty."""
    content = content.removeprefix(_BOM)
    if not content:
        raise InputError(f"{path} is empty; {DOWNLOAD}")
    line = content.partition(b"\n")[0].removesuffix(b"\r")
    return line.decode("utf-8", "backslashreplace")


def quoted(line: str) -> str:
    """A line for an error text: quoted, and not the whole of a wrong file."""
    return repr(line if len(line) <= 160 else line[:159] + "…")


def parse_names(path: Path, content: bytes) -> tuple[str, ...]:
    """The image names of a category: valid, and each once."""
    content = content.removeprefix(_BOM)
    if not content:
        raise InputError(f"{path} is empty; expected one name a line; {DOWNLOAD}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 text ({error.reason}); expected one image file "
            f"name a line; {DOWNLOAD}"
        ) from None
    # Not splitlines(), which also splits at characters that are part of a name.
    names = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    for line, name in enumerate(names, 1):
        fault = name_fault(name)
        if fault:
            raise InputError(
                f"{path}:{line}: the name {name[:80]!r} {fault}; expected the name of "
                "an image file, without folder; mend the line"
            )
    if len(set(names)) != len(names):
        first = {name: line for line, name in reversed(list(enumerate(names)))}
        twice = next(line for line, name in enumerate(names) if first[name] != line)
        raise InputError(
            f"{path}:{twice + 1}: the name {names[twice]!r} is already in line "
            f"{first[names[twice]] + 1}; expected each item once; mend the list "
            f"(item ids are line numbers) or {DOWNLOAD}"
        )
    return tuple(names)


def parse_table(
    path: Path, content: bytes, header: Sequence[str]
) -> Int[np.ndarray, "n c"]:
    """The rows of a CSV file of integers that has exactly this header."""
    line = first_line(path, content)
    expected = ",".join(header)
    if line != expected:
        raise InputError(
            f"{path}:1: the header is {quoted(line)}; expected {expected!r}, as in "
            f"tuples_train_posi; {DOWNLOAD}"
        )
    body = content[content.find(b"\n") + 1 :] if b"\n" in content else b""
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n")
    if not body:
        raise InputError(f"{path} has a header and no rows; {DOWNLOAD}")
    # What is left without digits shows wrong columns and characters in one
    # comparison, a hundred times faster than a loop over the lines.
    rows = body.count(b"\n")
    separators = b"," * (len(header) - 1) + b"\n"
    if body.translate(None, b"-0123456789") != separators * rows:
        raise InputError(_table_fault(path, body, len(header)))
    try:
        table = np.loadtxt(
            io.BytesIO(body), np.int64, comments=None, delimiter=",", ndmin=2
        )
    except ValueError:
        raise InputError(_table_fault(path, body, len(header))) from None
    # Ids are kept in 32 bits, where -2**32 would become 0.
    limits = np.iinfo(np.int32)
    bad = (table < limits.min) | (table > limits.max)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"{path}:{row + 2}: the id {table[row, column]} in column {column + 1} "
            f"({header[column]}) is out of range; expected 0 to 2**31 - 1; {DOWNLOAD}"
        )
    return table


def _table_fault(path: Path, body: bytes, columns: int) -> str:
    """What is wrong in the first wrong line of a CSV file of integers."""
    lines = body.decode("utf-8", "backslashreplace").split("\n")
    for number, line in enumerate(lines[:-1] if not lines[-1] else lines, 2):
        fields = line.split(",")
        where = f"{path}:{number}: {quoted(line)}"
        if len(fields) != columns:
            cut = " (the file is cut off there)" if number - 1 == len(lines) else ""
            return (
                f"{where} has {len(fields)} columns{cut}; expected {columns}; "
                f"{DOWNLOAD}"
            )
        for field in fields:
            if not re.fullmatch(r"-?[0-9]{1,18}", field):
                return f"{where}: {field[:40]!r} is no integer id; {DOWNLOAD}"
    return (
        f"{path}:{len(lines) + 1}: the last line {quoted(lines[-1])} has no line end: "
        f"the file may be cut off there; {DOWNLOAD}, or end it with a newline if it "
        "is complete"
    )


def read_table(path: str | os.PathLike) -> tuple[str, Int[np.ndarray, "n c"]]:
    """The header and rows of a file that `parse_table` has found right, as they are."""
    header, _, body = Path(path).read_bytes().removeprefix(_BOM).partition(b"\n")
    table = np.loadtxt(io.BytesIO(body), np.int64, delimiter=",", ndmin=2)
    return header.decode().removesuffix("\r"), table


def write_table(
    path: str | os.PathLike, header: str, rows: Int[np.ndarray, "n c"]
) -> None:
    """Writes a CSV file of integers, whole or not at all."""
    with atomic_path(path) as temporary:
        np.savetxt(temporary, rows, "%d", ",", header=header, comments="")


def write_names(path: str | os.PathLike, names: Iterable[str]) -> None:
    """Writes a list of image names, one per line, whole or not at all."""
    write_text(path, "".join(f"{name}\n" for name in names))
