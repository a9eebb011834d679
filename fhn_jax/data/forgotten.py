"""Whom and what a shop has deleted for good, so that its files do not bring it back.

`forgotten.json` in a data root has no ids, but salted digests of them: who has it can try
whether an id is among them, and cannot read which are.
"""

import hashlib
import os
import re
import secrets
from pathlib import Path
from typing import Literal

from fhn_jax import files

FILE = "forgotten.json"
Kind = Literal["user", "item"]
# What stands for a deleted item or user, see `forgetting.tombstone`.
_TOMBSTONE = re.compile(r"forgotten-.+-\d+")
_REMEDY = "delete again whom and what is to stay deleted"


def read_forgotten(root: str | os.PathLike) -> dict[str, list[str]]:
    """What `forgotten.json` holds: digests by kind.

    Raises:
      InputError: the file is damaged.
    """
    return _read(Path(root))[1]


def salt_of(root: str | os.PathLike) -> str:
    """What a digest is made of beside the id, see `digest`; "" where there are none."""
    return _read(Path(root))[0]


def digest(salt: str, own: str) -> str:
    """The digest of a shop's id: SHA-256 of the salt and the id."""
    return hashlib.sha256(f"{salt}{own}".encode()).hexdigest()


def note_forgotten(root: Path, kind: Kind, own: str) -> None:
    """Notes that the user or item of a shop's id is deleted; again, nothing changes."""
    if not own or _TOMBSTONE.fullmatch(own):
        return
    salt, found = _read(root)
    salt = salt or secrets.token_hex(16)
    found[kind] = sorted({*found[kind], digest(salt, own)})
    files.write_sealed(root / FILE, {"salt": salt, **found})


def allow_again(root: Path, kind: Kind, own: str) -> bool:
    """Lets an import take a user or item again; whether it was deleted."""
    salt, found = _read(root)
    mark = digest(salt, own)
    if mark not in found[kind]:
        return False
    found[kind].remove(mark)
    files.write_sealed(root / FILE, {"salt": salt, **found})
    return True


def _read(root: Path) -> tuple[str, dict[str, list[str]]]:
    if not (root / FILE).is_file():
        return "", {"user": [], "item": []}
    values = files.read_sealed(root / FILE, _REMEDY)
    return values["salt"], {kind: list(values[kind]) for kind in ("user", "item")}
