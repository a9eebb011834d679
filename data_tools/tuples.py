"""What the tools that make or select outfits share: tables as they are, and user ids.

`fhn_jax.data.layout` reads and checks a data set; the tables here are those of files
that it has found right, in their own terms (-1 is a missing second top).
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from fhn_jax.errors import InputError
from fhn_jax.files import atomic_path


def read_table(path: str | os.PathLike) -> tuple[str, Int[np.ndarray, "n c"]]:
    """The header and the rows of a CSV file of integers."""
    header, _, body = Path(path).read_bytes().partition(b"\n")
    table = np.loadtxt(io.BytesIO(body), np.int64, delimiter=",", ndmin=2)
    return header.decode().removesuffix("\r"), table


def write_table(
    path: str | os.PathLike, header: str, rows: Int[np.ndarray, "n c"]
) -> None:
    """Writes a CSV file of integers, whole or not at all."""
    with atomic_path(path) as temporary:
        np.savetxt(temporary, rows, "%d", ",", header=header, comments="")


def parse_users(text: str, num_users: int) -> Sequence[int]:
    """User ids from text such as "0-31,40", sorted, each once.

    Raises:
      ValueError: something else, or an id that is out of range.

    >>> parse_users("4,0-2", 5)
    [0, 1, 2, 4]
    """
    users: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise InputError(
                f"users {text[:80]!r}: {part!r} is neither an id nor a range of ids; "
                "expected ids and ranges such as 0-31,40"
            )
        start, end = int(first), int(last or first)
        if not start <= end < num_users:
            raise InputError(
                f"users {text[:80]!r}: {part!r} is out of range; expected ids from 0 "
                f"to {num_users - 1}, ranges from the lower one to the higher one"
            )
        users.update(range(start, end + 1))
    return sorted(users)
