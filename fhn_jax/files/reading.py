"""Reading what may be damaged: text, JSON, and checksums."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fhn_jax.errors import InputError, MissingFileError

# A key of sealed JSON files.
SEAL = "sha256"


def read_text(path: str | os.PathLike, remedy: str) -> str:
    """The text of a UTF-8 file.

    Args:
      path: the file.
      remedy: what to do if it cannot be used.
    Raises:
      MissingFileError: there is no such file.
      InputError: it is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file; {remedy}") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}); {remedy}"
        ) from None


def read_json(path: str | os.PathLike, kind: type, remedy: str) -> Any:
    """The value in a JSON file.

    Args:
      path: the file.
      kind: what the value must be: `dict` or `list`; `object` for any.
      remedy: what to do if it cannot be used.
    Raises:
      MissingFileError: there is no such file.
      InputError: it is not UTF-8, not JSON, or holds another kind of value.
    """
    text = read_text(path, remedy)
    try:
        value = json.loads(text)
    # Deep nesting ends in the latter.
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); {remedy}") from None
    if not isinstance(value, kind):
        raise InputError(
            f"{path} holds a {type(value).__name__}, expected a {kind.__name__}; {remedy}"
        )
    return value


def read_sealed(path: str | os.PathLike, remedy: str) -> dict[str, Any]:
    """What `write_sealed` wrote; also a JSON object without a checksum.

    Raises:
      MissingFileError, InputError: as `read_json`; the checksum is wrong.
    """
    values = read_json(path, dict, remedy)
    # The checksum comes last. Damage of its name must not make it a value like others.
    last = next(reversed(values.values()), None)
    nameless = SEAL not in values and isinstance(last, str) and len(last) >= 32
    stated = values.pop(SEAL, None)
    if nameless or (stated is not None and stated != checksum_of(values)):
        raise InputError(
            f"{path} was changed by hand, or is damaged: its checksum is wrong; {remedy}"
        )
    return values


def checksum_of(values: Any) -> str:
    """Hexadecimal SHA-256 of a JSON value, however it is laid out."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def map_array(
    path: str | os.PathLike, mode: Literal["r", "r+", "c"], remedy: str
) -> np.memmap:
    """The array of an npy file, mapped into memory.

    Args:
      path: the file; it is there.
      mode: as of `numpy.memmap`.
      remedy: what to do if it cannot be used.
    Raises:
      InputError: it is not an npy file, is cut off, or holds objects.
    """
    try:
        array = np.load(path, mmap_mode=mode, allow_pickle=False)
    except OSError as error:
        error.filename = error.filename or str(path)  # mmap does not know it.
        raise
    # numpy parses the header as Python, and raises whatever that can raise.
    except Exception as error:
        raise InputError(f"{path}: not an npy file ({error}); {remedy}") from None
    if not isinstance(array, np.memmap):
        raise InputError(f"{path}: not an npy file but an archive; {remedy}")
    return array


def sha256_file(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
