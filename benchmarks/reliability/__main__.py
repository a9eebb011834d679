"""Attacks what is written and read: damaged files, killed writers, failing disks.

    python -m benchmarks.reliability --cases 5000 --kills 240
    python -m benchmarks.reliability --kinds index,import --kills 100

Prints a table, and ends with 1 if a promise of docs/reliability.md was broken:

  damage  a file of each kind is damaged in one place (an LMDB in a value): what is then
          read is what was written, or a `UserError` names the file
  kill    a writer is killed (SIGKILL), at a random moment or before a random call of the
          operating system: what is there is the old or the new, the next writer ends
          where an undisturbed one does, bit for bit, and nothing else is left. A run is
          trained, exported, evaluated and reported
  fault   each fsync, rename, reservation, mkdir, open and mmap of a writer fails once,
          with ENOSPC and EIO: the same, and the error names a file
  full    the same on file systems (tmpfs) that are too small, of so many sizes; as root
"""

import argparse
import sys
import time

from benchmarks.reliability import processes

# Shares of the kills and of the sizes of disks; a run takes seconds, an index a tenth.
_KILLS = {
    "codes": 0.12,
    "index": 0.18,
    "sealed JSON": 0.08,
    "LMDB": 0.16,
    "checkpoints": 0.16,
    "import": 0.18,
    "report": 0.04,
    "run": 0.08,
}
# Of those that take seconds: each so-many-th call fails, and so many disks are too small.
_EVERY = {"checkpoints": 12, "import": 12, "report": 12, "index": 10}
_SIZES = {"report": 2, "run": 0, "checkpoints": 6, "import": 8}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=400, help="damaged files, of all")
    parser.add_argument("--kills", type=int, default=40, help="of all kinds")
    parser.add_argument("--kinds", default=",".join(_KILLS), help="of what is written")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    processes.prepare()
    from benchmarks.reliability.damage import damage
    from benchmarks.reliability.interruptions import fault, full, kill, no_mounts
    from benchmarks.reliability.writers import KINDS, clean, scratch

    scratch()
    why = no_mounts()
    if why:
        print(f"no file system is mounted: {why}", file=sys.stderr)
    broken, damageable = [], [name for name in KINDS if KINDS[name].damaged]
    print("| | damaged | unnoticed | kills | broken | failed calls | broken ", end="")
    print("| full disks | broken | s |\n|---|---|---|---|---|---|---|---|---|---|")
    try:
        for name in options.kinds.split(","):
            begun, found, row = time.monotonic(), [], []
            cases = options.cases // len(damageable) if name in damageable else 0
            found = damage(name, cases, options.seed) if cases else []
            row += [cases, len(found)]
            broken += found
            kills = round(options.kills * _KILLS[name])
            found = kill(name, kills, options.seed)
            row += [kills, len(found)]
            broken += found
            for attack, size in (
                (fault, _EVERY.get(name, 1)),
                (full, _SIZES.get(name, 12)),
            ):
                skipped = name == "run" or (attack is full and why)
                count, found = (0, []) if skipped else attack(name, size)
                row += [count, len(found)]
                broken += found
            row += [round(time.monotonic() - begun)]
            print(f"| {name} | {' | '.join(f'{n:,}' for n in row)} |", flush=True)
    finally:
        clean()
    print(*broken[:60], sep="\n", file=sys.stderr)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
