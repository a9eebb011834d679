"""Attacks what is written and read: damaged files, killed writers, failing disks, fuzz.

    python -m benchmarks.reliability --cases 5000 --kills 240 --fuzz 1000000 --crowds 8
    python -m benchmarks.reliability --kinds index,import --kills 100

Prints tables, and ends with 1 if a promise of docs/reliability.md was broken:

  damage  a file of each kind is damaged in one place (an LMDB in a value): what is then
          read is what was written, or a `UserError` names the file
  kill    a writer is killed (SIGKILL), at a random moment or before a random call of the
          operating system: what is there is the old or the new, the next writer ends
          where an undisturbed one does, bit for bit, and nothing else is left. A run is
          trained, exported, evaluated and reported, a site refreshed
  fault   each fsync, rename, reservation, mkdir, open and mmap of a writer fails once,
          with ENOSPC and EIO: the same, and the error names a file. Of writers that take
          long, every tenth or twelfth call
  full    the same on file systems (tmpfs) that are too small, of so many sizes; as root
  crowd   so many processes do the same at once: serial results, or clear losers
  fuzz    what is read is changed at random: only errors with a type come
"""

import argparse
import sys
import time

from benchmarks.reliability import processes

# Shares of the kills, by what a writer takes.
_KILLS = {
    "codes": 0.16,
    "index": 0.16,
    "sealed JSON": 0.16,
    "LMDB": 0.16,
    "checkpoints": 0.12,
    "import": 0.16,
    "report": 0.03,
    "run": 0.05,
    "refresh": 0.05,
}
# Of those that take long: each so-many-th call fails, and so many disks are too small.
_EVERY = {"checkpoints": 12, "import": 12, "report": 12, "index": 10, "refresh": 40}
_SIZES = {"report": 2, "checkpoints": 3, "import": 6, "refresh": 2}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=400, help="damaged files, of all")
    parser.add_argument("--kills", type=int, default=40, help="of all kinds")
    parser.add_argument("--fuzz", type=int, default=20000, help="of all that is read")
    parser.add_argument("--crowds", type=int, default=4, help="processes; 0 for none")
    parser.add_argument("--kinds", default=",".join(_KILLS), help="of what is written")
    parser.add_argument("--no-faults", dest="faults", action="store_false")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    processes.prepare()
    from benchmarks.reliability.writers import clean, scratch

    scratch()
    try:
        broken = _written(options) + _crowds(options) + _read(options)
    finally:
        clean()
    print(*broken[:60], sep="\n", file=sys.stderr)
    sys.exit(1 if broken else 0)


def _row(*cells: object) -> None:
    shown = (f"{each:,}" if isinstance(each, int) else str(each) for each in cells)
    print(f"| {' | '.join(shown)} |", flush=True)


def _header(*cells: str) -> None:
    _row(*cells)
    print("|---" * len(cells) + "|")


def _written(options: argparse.Namespace) -> list[str]:
    """Damage, kills, faults and full disks."""
    from benchmarks.reliability.damage import damage
    from benchmarks.reliability.interruptions import fault, full, kill, no_mounts
    from benchmarks.reliability.writers import KINDS

    broken, why = [], no_mounts()
    if why:
        print(f"no file system is mounted: {why}", file=sys.stderr)
    damageable = [name for name in KINDS if KINDS[name].damaged]
    attacks = ("damaged", "kills", "failed calls", "full disks")
    _header("", *(cell for each in attacks for cell in (each, "broken")), "s")
    for name in filter(None, options.kinds.split(",")):
        begun, row = time.monotonic(), []
        cases = options.cases // len(damageable) if name in damageable else 0
        kills = round(options.kills * _KILLS[name])
        every = _EVERY.get(name, 1) if options.faults and name != "run" else 0
        sizes = _SIZES.get(name, 12) if every and not why else 0
        for count, found in (
            (cases, damage(name, cases, options.seed) if cases else []),
            (kills, kill(name, kills, options.seed) if kills else []),
            fault(name, every) if every else (0, []),
            full(name, sizes) if sizes else (0, []),
        ):
            row += [count, len(found)]
            broken += found
        _row(name, *row, round(time.monotonic() - begun))
    return broken


def _crowds(options: argparse.Namespace) -> list[str]:
    """Several processes at once."""
    from benchmarks.reliability.crowds import CROWDED, crowd

    broken = []
    if options.crowds:
        _header("", "processes at once", "broken", "s")
    for name in CROWDED if options.crowds else ():
        begun = time.monotonic()
        found = crowd(name, options.crowds)
        _row(name, options.crowds, len(found), round(time.monotonic() - begun))
        broken += found
    return broken


def _read(options: argparse.Namespace) -> list[str]:
    """Fuzz."""
    if not options.fuzz:
        return []
    from benchmarks.reliability.fuzz import PARSERS, fuzz

    broken, total = [], 0
    _header("", "fuzzed", "untyped errors", "cases/s")
    for name, (_, share) in PARSERS.items():
        cases = round(options.fuzz * share)
        rate, found = fuzz(name, cases, options.seed)
        _row(name, cases, len(found), round(rate))
        broken, total = broken + found, total + cases
    _row("all", total, len(broken), "")
    return broken


if __name__ == "__main__":
    main()
