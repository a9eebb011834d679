"""A file that records are appended to while others read it."""

import json
import os
import zlib
from pathlib import Path
from typing import Any

from fhn_jax.errors import InputError
from fhn_jax.files.writing import sync_folder


def append_record(path: Path, record: Any, end: int) -> int:
    """Appends a record, which is on the disk when this returns.

    One process appends at a time.

    Args:
      record: as JSON has it.
      end: where the last whole record ends, see `read_records`; what a crash has left
        after it is overwritten.
    Returns:
      where this one ends.
    Raises:
      ValueError: it holds a NaN or an infinity, which JSON cannot say.
    """
    text = json.dumps(record, allow_nan=False, separators=(",", ":")).encode()
    line = b"%08x %b\n" % (zlib.crc32(text), text)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        if os.fstat(handle).st_size != end:
            os.ftruncate(handle, end)
        written = 0
        while written < len(line):
            written += os.pwrite(handle, line[written:], end + written)
        os.fdatasync(handle)
    finally:
        os.close(handle)
    if end == 0:
        sync_folder(path.parent)
    return end + len(line)


def read_records(path: Path, start: int = 0) -> tuple[list[Any], int]:
    """The whole records from some place on, and where the last of them ends.

    What follows is a record that is being appended, or that a crash has left unfinished.

    Raises:
      InputError: a record is damaged.
    """
    try:
        with open(path, "rb") as file:
            file.seek(start)
            text = file.read()
    except FileNotFoundError:
        return [], start
    end = text.rfind(b"\n") + 1
    records = []
    for line in text[:end].split(b"\n")[:-1]:
        checksum, _, record = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(record):
            raise InputError(
                f"{path}, after byte {start}: a record is damaged; its checksum is wrong"
            )
        records.append(json.loads(record))
    return records, start + end
