"""Attacks what is written and read: damaged files, killed writers, failing disks.

    python -m benchmarks.reliability --cases 5000 --kills 60

Prints a table, and ends with 1 if a promise of docs/reliability.md was broken:

  damage  a file of each kind is damaged in one place (an LMDB in a value): what is then
          read is what was written, or a `UserError` names the file
  kill    a writer is killed (SIGKILL) at a random moment: what is there is the old or the
          new, and nothing else is left after the next writer
  fault   each fsync, rename and reservation of a writer fails once, with ENOSPC and EIO:
          the same, and the error names a file
"""

import argparse
import errno
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from fhn_jax import files
from fhn_jax.codes import Codes, Latents
from fhn_jax.errors import UserError
from fhn_jax.retrieval.outfit_index import OutfitIndex

CALLS = ("fsync", "replace", "rename", "posix_fallocate")


def make_codes(seed: int) -> Codes:
    """Small codes."""
    rng = np.random.default_rng(seed)
    vectors = {name: rng.normal(size=(40, 32)) for name in ("top", "shoe")}
    return Codes.from_embeddings(vectors, users=rng.normal(size=(5, 32)), scaled=True)


CODES = make_codes(0)
OUTFITS = np.random.default_rng(1).integers(40, size=(600, 2))


def latents_of(codes: Codes) -> Latents:
    """Relaxed codes of small codes."""
    rng = np.random.default_rng(2)
    arrays = tuple(rng.normal(size=(40, 32)).astype(np.float32) for _ in range(2))
    return Latents({"visual": arrays}, codes.sha256())


# What is written and read back, as something that can be compared.


def write_codes(folder: Path, seed: int = 0) -> None:
    """Codes and latents."""
    codes = make_codes(seed)
    latents_of(codes).save_with(folder, codes)


def read_codes(folder: Path) -> object:
    """What codes and latents hold."""
    codes = Codes.load(folder / "codes.safetensors")
    latents = Latents.load(folder / "latents.safetensors", codes)
    return codes.sha256(), [a.tobytes() for a in latents.items["visual"]]


def write_index(folder: Path, seed: int = 0) -> None:
    """An index: built, or appended to and compacted."""
    if not (folder / "index").exists():
        OutfitIndex.build(folder / "index", CODES, OUTFITS[:500])
        return
    index = OutfitIndex.open(folder / "index", CODES)
    if len(index) < len(OUTFITS):
        index.append(OUTFITS[len(index) :])
    index.compact()


def read_index(folder: Path) -> object:
    """What searches of an index find."""
    index = OutfitIndex.open(folder / "index", CODES)
    hits = index.search_batch(np.arange(5), len(OUTFITS))
    return len(index), [(h.outfits.tolist(), h.items.tolist()) for h in hits]


def write_sealed(folder: Path, seed: int = 0) -> None:
    """A sealed JSON file."""
    files.write_sealed(folder / "config.json", {"seed": seed, "a": [0.5] * 20})


def read_sealed(folder: Path) -> object:
    """What is in it."""
    return files.read_sealed(folder / "config.json", "make it again")


def write_lmdb(folder: Path, seed: int = 0) -> None:
    """An LMDB of images."""
    from fhn_jax.data_tools.build_lmdb import build_lmdb
    from PIL import Image

    images = folder / "source"
    if not images.exists():
        with files.new_folder(images) as new:
            rng = np.random.default_rng(0)
            for number in range(60):
                picture = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(picture).save(new / f"{number}.png")
    build_lmdb(images, folder / "lmdb")


def read_lmdb(folder: Path) -> object:
    """Its values."""
    from fhn_jax.data.images import LmdbImages

    return LmdbImages(folder / "lmdb").read([f"{number}.png" for number in range(60)])


KINDS: dict[str, tuple[Callable, Callable, str]] = {
    "codes": (write_codes, read_codes, "*.safetensors"),
    "index": (write_index, read_index, "index/**/*"),
    "sealed JSON": (write_sealed, read_sealed, "config.json"),
    "LMDB": (write_lmdb, read_lmdb, "lmdb/data.mdb"),
}


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


def damage(kind: str, cases: int, seed: int) -> list[str]:
    """Broken promises about damaged files of a kind."""
    write, read, pattern = KINDS[kind]
    rng, faults = random.Random(seed), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        whole = read(folder)
        paths = sorted(p for p in folder.glob(pattern) if p.is_file())
        for _ in range(cases):
            path = rng.choice(paths)
            data = path.read_bytes()
            path.unlink()  # a new inode, as of a file that was copied
            if kind == "LMDB":
                # In a value: damage of the tree between them can crash LMDB itself.
                value = rng.choice(whole)
                path.write_bytes(data.replace(value, flipped(value, rng)))
            else:
                path.write_bytes(damaged(data, rng))
            try:
                if read(folder) != whole:
                    faults.append(f"silent: {path.name}")
            except UserError as error:
                if not any(p in str(error) for p in (path.name, path.parent.name)):
                    faults.append(f"not named: {path.name}: {error}")
            except Exception as error:
                faults.append(f"{type(error).__name__}: {path.name}: {error}")
            path.unlink()
            path.write_bytes(data)
    return faults


def litter(folder: Path) -> list[str]:
    """Temporaries and locks that are left."""
    return [str(p) for p in folder.rglob(".*") if p.name.endswith((".tmp", ".lock"))]


def is_sound(kind: str, folder: Path) -> str | None:
    """What is wrong with what a writer left, after the next writer; None: nothing."""
    write, read, _ = KINDS[kind]
    try:
        write(folder)
        read(folder)
    except UserError as error:
        return f"the next writer: {error}"
    left = litter(folder)
    return f"litter: {left}" if left else None


def kill(kind: str, kills: int, seed: int) -> list[str]:
    """Broken promises after writers were killed."""
    rng, faults = random.Random(seed), []
    program = f"from benchmarks import reliability as r; r.rewrite({kind!r})"
    for _ in range(kills):
        # A process sweeps a folder once, so each kill has a folder of its own.
        with tempfile.TemporaryDirectory() as name:
            process = subprocess.Popen(
                [sys.executable, "-c", program, name], stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.3))
            process.kill()
            process.wait()
            process.stdout.close()
            fault = is_sound(kind, Path(name))
            if fault:
                faults.append(f"{kind}: {fault}")
    return faults


def rewrite(kind: str) -> None:
    """Writes again and again, until it is killed."""
    folder = Path(sys.argv[1])
    print("ready", flush=True)
    for seed in range(10**6):
        KINDS[kind][0](folder, seed)
        if seed % 2:
            for path in ("index", "lmdb"):
                shutil.rmtree(folder / path, ignore_errors=True)


def fault(kind: str) -> tuple[int, list[str]]:
    """How many calls of a writer failed once, and the promises that this broke."""
    write, read, _ = KINDS[kind]
    count, faults = 0, []
    for call in CALLS:
        for code in (errno.ENOSPC, errno.EIO):
            number, failed = 0, True
            while failed:
                failed = False
                with tempfile.TemporaryDirectory() as name:
                    folder = Path(name)
                    with failing(call, number, code) as failures:
                        try:
                            write(folder)
                            write(folder, 1)
                        except OSError as error:
                            if error.errno == code and not error.filename:
                                faults.append(f"{kind}: {call} {number}: no file name")
                    if failures:
                        failed, count = True, count + 1
                        wrong = is_sound(kind, folder)
                        if wrong:
                            faults.append(f"{kind}: {call} {number}: {wrong}")
                number += 1
    return count, faults


class failing:
    """Lets the n-th call of a function of `os` fail; yields the failures."""

    def __init__(self, call: str, number: int, code: int):
        self.failures: list[str] = []
        self._calls, self._number, self._code = 0, number, code
        self._real, self._renames = getattr(os, call), call in ("rename", "replace")
        self._patch = mock.patch.object(os, call, self._call)

    def _call(self, *args, **kwargs):
        self._calls += 1
        if self._calls == self._number + 1:
            self.failures.append(str(args))
            # As the operating system: it knows the names of a rename alone.
            names = (args[0], None, args[1]) if self._renames else ()
            raise OSError(self._code, os.strerror(self._code), *names)
        return self._real(*args, **kwargs)

    def __enter__(self) -> list[str]:
        self._patch.__enter__()
        return self.failures

    def __exit__(self, *error):
        return self._patch.__exit__(*error)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=400, help="damaged files, of all")
    parser.add_argument("--kills", type=int, default=8, help="of all kinds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    broken = []
    for kind in KINDS:
        cases, kills = options.cases // len(KINDS), options.kills // len(KINDS)
        found = damage(kind, cases, options.seed)
        by_kill = kill(kind, kills, options.seed)
        count, by_fault = fault(kind)
        print(
            f"| {kind} | {cases} | {len(found)} | {kills} | {len(by_kill)} | {count} | "
            f"{len(by_fault)} |",
            flush=True,
        )
        broken += found + by_kill + by_fault
    for each in broken[:40]:
        print(each, file=sys.stderr)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
