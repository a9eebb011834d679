"""Text files of any encoding and line ends, as the database reads them."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fhn_jax.data.csv_files import decoded


def as_utf8(connection: Any, path: Path, label: str) -> Path:
    """The file, or a copy if it is no UTF-8 or its lines end in several ways."""
    lines, note = decoded(path)
    if lines is None:
        return path
    copy = copy_lines(connection, path, lines)  # The database knows one end of lines.
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
