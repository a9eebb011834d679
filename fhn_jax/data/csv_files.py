"""CSV files as shops have them: of any encoding, with commas, semicolons, tabs or bars.

An import and all commands that read a shop's files go by this.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fhn_jax.errors import InputError, MissingFileError

_DELIMITERS = ",;\t|"
_CHUNK = 2**22
# Numbers whose decimal sign D is sure, with T between thousands.
SURE = r"-?(\d{1,3}(T\d{3})+D\d+|\d{1,3}(T\d{3}){2,}|\d*D(\d{1,2}|\d{4,})|(0\d*|\d{4,})D\d{3})"
_OTHER = {",": ".", ".": ","}


def is_before_header(line: str) -> bool:
    """Whether a line is blank, or names the delimiter, as Excel does before a header."""
    return not line.strip() or re.match("sep=.\\s*$", line) is not None


def delimiter_of(header: str) -> str:
    """What most likely stands between the columns of a header."""
    counts = {each: header.count(each) for each in _DELIMITERS}
    return max(counts, key=lambda each: counts[each])


def read_rows(path: Path, what: str) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Reads a CSV file; blank lines are left out, and cells are without spaces around.

    Args:
      what: the file should hold, for errors.
    Returns:
      its header; and of each row where it is, for errors, and its cells.
    Raises:
      MissingFileError: there is no such file.
      InputError: a row of more or fewer cells than the header; names the line.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; expected a CSV file of {what}")
    recoded, _ = decoded(path)
    if recoded is None:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = file.readlines()
    else:
        lines = [line.removeprefix("\ufeff") for line in recoded]
    start = next(
        (n for n, t in enumerate(lines) if not is_before_header(t)), len(lines)
    )
    delimiter = delimiter_of(lines[start]) if start < len(lines) else ","
    reader = csv.reader(lines[start:], delimiter=delimiter)

    def where() -> str:
        return f"{path}, line {start + reader.line_num}"

    try:
        header = [cell.strip() for cell in next(reader, [])]
        rows = [(where(), [cell.strip() for cell in row]) for row in reader if row]
    except csv.Error as error:
        raise InputError(f"{where()}: {error}; expected a CSV file of {what}") from None
    for place, row in rows:
        if len(row) != len(header):
            raise InputError(f"{place}: {len(row)} cells, expected {len(header)}")
    return header, rows


def plain_numbers(cells: Sequence[str]) -> list[str]:
    """The numbers of a column as Python writes them: "5,50" and "1.234,50" with a point.

    What may be either, such as "1,299", goes by the others of the column; where they do
    not tell, it stays as it is. So does what is no number.

    >>> plain_numbers(["5,50", "1.299", "x"]), plain_numbers(["1,299", "7.5"])
    (['5.50', '1299', 'x'], ['1299', '7.5'])
    """
    plain = [re.sub(r"\s", "", cell) for cell in cells]
    signs = {
        sign: re.compile(
            SURE.replace("T", rf"\{_OTHER[sign]}").replace("D", rf"\{sign}")
        )
        for sign in _OTHER
    }
    own = [
        [sign for sign, sure in signs.items() if sure.fullmatch(cell)] for cell in plain
    ]
    seen = {sign for some in own for sign in some}
    found = []
    for given, cell, some in zip(cells, plain, own, strict=True):
        (sign,) = some or (seen if len(seen) == 1 else {""})
        if not sign or not re.fullmatch(r"-?[\d.,]+", cell):
            found.append(given)
        else:
            found.append(cell.replace(_OTHER[sign], "").replace(sign, "."))
    return found


def decoded(path: Path) -> tuple[Iterator[str] | None, str]:
    """The lines of a file that is no UTF-8, or whose lines end in several ways.

    Spreadsheets write Windows-1252 and UTF-16, and files of several hands mix encodings:
    a line that is no UTF-8 is read as Windows-1252.

    Returns:
      the lines, None for a file that can be read as it is; and what must be said.
    """
    if encoding := _utf16(path):
        return _lines_of_utf16(path, encoding), "the file is UTF-16"
    if (ends := _line_ends(path)) is None:
        note = "lines that are no UTF-8 were read as Windows-1252"
        return _lines_of_any(path), note
    return (None if len(ends) < 2 else _lines_of_any(path)), ""


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
