"""Files are damaged in one place, and read."""

import random
import tempfile
from pathlib import Path

from benchmarks.reliability.writers import KINDS
from fhn_jax.errors import UserError


def damage(name: str, cases: int, seed: int) -> list[str]:
    """Broken promises about damaged files of a kind."""
    kind = KINDS[name]
    rng, faults = random.Random(seed), []
    assert kind.damaged is not None
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        whole = kind.finish(folder)
        paths = sorted(p for p in folder.glob(kind.damaged) if p.is_file())
        for _ in range(cases):
            path = rng.choice(paths)
            data = path.read_bytes()
            path.unlink()  # a new inode, as of a file that was copied
            if name == "LMDB":
                # In a value: damage of the tree between them can crash LMDB itself.
                value = rng.choice(whole)
                path.write_bytes(data.replace(value, flipped(value, rng)))
            else:
                path.write_bytes(damaged(data, rng))
            try:
                if kind.read(folder) != whole:
                    faults.append(f"silent: {path.name}")
            except UserError as error:
                if not any(p in str(error) for p in (path.name, path.parent.name)):
                    faults.append(f"not named: {path.name}: {error}")
            except Exception as error:
                faults.append(f"{type(error).__name__}: {path.name}: {error}")
            path.unlink()
            path.write_bytes(data)
    return faults


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A file with one bit, a few bytes or its end changed."""
    place = rng.randrange(len(data))
    how = rng.randrange(4)
    if how == 0:
        return data[:place]
    if how == 1:
        return data[:place] + rng.randbytes(8) + data[place + 8 :]
    return flipped(data, rng)


def flipped(data: bytes, rng: random.Random) -> bytes:
    """The same with one bit flipped."""
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)
