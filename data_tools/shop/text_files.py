"""Text files of any encoding and line ends, as the database reads them."""

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_CHUNK = 2**22


def as_utf8(connection: Any, path: Path, label: str) -> Path:
    """The file, or a copy if it is no UTF-8 or its lines end in several ways.

    Spreadsheets write Windows-1252 and UTF-16, and files of several hands mix encodings:
    a line that is no UTF-8 is read as Windows-1252.
    """
    if encoding := _utf16(path):
        lines, note = _lines_of_utf16(path, encoding), "the file is UTF-16"
    elif (ends := _line_ends(path)) is None:
        lines = _lines_of_any(path)
        note = "lines that are no UTF-8 were read as Windows-1252"
    elif len(ends) < 2:
        return path
    else:  # The database knows one at a time.
        lines, note = _lines_of_any(path), ""
    copy = copy_lines(connection, path, lines)
    if note:
        connection.execute("INSERT INTO notes VALUES (?)", [f"{label}: {note}"])
    return copy


def copy_lines(connection: Any, path: Path, lines: Iterable[str]) -> Path:
    """Lines in a file of the database's own, all with the same ending."""
    folder = Path(
        connection.execute("SELECT current_setting('temp_directory')").fetchone()[0]
    )
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"{path.stem}.copy{path.suffix}"
    with open(copy, "w", encoding="utf-8", newline="") as file:
        file.writelines(re.sub("\r\n?", "\n", line) for line in lines)
    return copy


def _utf16(path: Path) -> str | None:
    """Which UTF-16 a file is: by its mark, or by the zeros beside letters of ASCII."""
    with open(path, "rb") as file:
        start = file.read(4)
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    zeros = [byte == 0 for byte in start]
    names = {"utf-16-le": [False, True] * 2, "utf-16-be": [True, False] * 2}
    return next((name for name in names if names[name] == zeros), None)


def _line_ends(path: Path) -> set[str] | None:
    """How the lines of a file end; None if it is no UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    decoder = io.IncrementalNewlineDecoder(decoder, translate=False)
    with open(path, "rb") as file:
        try:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return None
    ends = decoder.newlines or ()
    return {ends} if isinstance(ends, str) else set(ends)


def _lines_of_utf16(path: Path, encoding: str) -> Iterator[str]:
    with open(path, encoding=encoding, newline="", errors="replace") as file:
        yield from file


def _lines_of_any(path: Path) -> Iterator[str]:
    with open(path, "rb") as file:
        for line in file:
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                yield line.decode("cp1252", errors="replace")
