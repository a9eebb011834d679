"""Writers are killed, their calls of the operating system fail, their disk is full.

What is there then must be what was there before one of the steps or after it; the next
writer gets to where an undisturbed one does, and leaves nothing else.
"""

import errno
import functools
import hashlib
import mmap
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.reliability.processes import CrashError, ask, start
from benchmarks.reliability.writers import KINDS
from fhn_jax.errors import UserError

# What fails once, each time that it is called.
CALLS: dict[str, tuple[Any, str]] = {
    name: (os, name)
    for name in ("fsync", "replace", "rename", "posix_fallocate", "mkdir", "open")
} | {"mmap": (mmap, "mmap")}
# Calls of Python before which a writer may be killed, beside any other moment.
_EVENTS = {"open", "fcntl.flock", "mmap.__new__"}
_EVENTS |= {f"os.{name}" for name in ("rename", "remove", "mkdir", "rmdir", "truncate")}
_SPARE = "size=256m"


def fingerprint(state: Any) -> str | None:
    """Of what was read; None for nothing."""
    return None if state is None else hashlib.sha256(repr(state).encode()).hexdigest()


@functools.cache
def undisturbed(name: str) -> tuple[list[str | None], int, float]:
    """The states that a writer goes through, its calls, and its seconds."""
    with tempfile.TemporaryDirectory() as root:
        states = ask(_states, name, root)
    with tempfile.TemporaryDirectory() as root:
        begun = time.monotonic()
        calls = ask(live, name, root)
        return states, calls, time.monotonic() - begun


def _states(name: str, root: str) -> list[str | None]:
    return [fingerprint(state) for state in KINDS[name].states(Path(root))]


def live(name: str, root: str, last: int = -1) -> int:
    """Writes all steps, or is killed before a call of this number; how many there are."""
    calls = 0

    def count(event: str, arguments: tuple) -> None:
        nonlocal calls
        if event in _EVENTS and (
            event == "fcntl.flock" or any(root in str(a) for a in arguments)
        ):
            if calls == last:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1

    sys.addaudithook(count)
    for step in range(KINDS[name].steps):
        KINDS[name].write(Path(root), step)
    return calls


def is_sound(name: str, root: str, states: list[str | None]) -> str | None:
    """What is wrong with what a writer left, and after the next writer."""
    kind, folder = KINDS[name], Path(root)
    try:
        # A run has too many states to list; it is compared at its end.
        if name != "run" and fingerprint(kind.state(folder)) not in states:
            return "neither old nor new"
        if fingerprint(kind.finish(folder)) != states[-1]:
            return "the next writer ends elsewhere"
    except Exception as error:
        return f"the next writer: {type(error).__name__}: {error}"
    left = [str(p) for p in folder.rglob("*") if is_litter(p)]
    return f"litter: {left}" if left else None


def is_litter(path: Path) -> bool:
    hidden = path.name.startswith(".") and path.name.endswith((".tmp", ".lock"))
    return hidden or "orbax-checkpoint-tmp" in path.name or path.suffix == ".replaced"


def _sound(name: str, root: str, states: list[str | None]) -> str | None:
    """`is_sound`, in a process of its own: one sweeps a folder once."""
    try:
        return ask(is_sound, name, root, states)
    except CrashError as error:
        return f"the next writer {error}"


def kill(name: str, kills: int, seed: int) -> list[str]:
    """Broken promises after writers were killed so often.

    Half of them before a call of the operating system, the others at any moment. A run is
    killed again and again until it ends by itself.
    """
    rng, faults, done = random.Random(seed), [], 0
    states, calls, seconds = undisturbed(name)
    while done < kills:
        with tempfile.TemporaryDirectory() as root:
            again = True
            while again:
                last = rng.randrange(calls) if rng.random() < 0.5 else -1
                process = start(live, name, root, last)
                if last < 0:
                    process.join(rng.uniform(0, seconds))
                    process.kill()
                process.join()
                killed = process.exitcode == -signal.SIGKILL
                if not killed and process.exitcode:
                    faults.append(f"{name}: ended with {process.exitcode}")
                done += killed
                again = killed and name == "run" and done < kills
            fault = _sound(name, root, states)
            if fault:
                faults.append(f"{name}: {fault}")
    return faults


class failing:
    """Lets the n-th call of a function fail; yields the failures."""

    def __init__(self, call: str, number: int, code: int):
        self.failures: list[str] = []
        self._calls, self._number, self._code = 0, number, code
        module, attribute = CALLS[call]
        self._real = getattr(module, attribute)
        # As the operating system, which is given their names.
        self._named = {"rename": 2, "replace": 2, "mkdir": 1, "open": 1}.get(call, 0)
        self._patch = mock.patch.object(module, attribute, self._call)

    def _call(self, *args, **kwargs):
        self._calls += 1
        if self._calls == self._number + 1:
            self.failures.append(str(args))
            names = {0: (), 1: args[:1], 2: (args[0], None, *args[1:2])}[self._named]
            raise OSError(self._code, os.strerror(self._code), *names)
        return self._real(*args, **kwargs)

    def __enter__(self) -> list[str]:
        self._patch.__enter__()
        return self.failures

    def __exit__(self, *error):
        return self._patch.__exit__(*error)


def fail(name: str, root: str, call: str, number: int, code: int) -> Any:
    """Writes while a call fails once: whether it did, and what is wrong with the error."""
    with failing(call, number, code) as failures:
        wrong = _attempt(name, root)
    return bool(failures), wrong


def _attempt(name: str, root: str) -> str | None:
    """Writes all steps; what is wrong with the error that ends it."""
    try:
        live(name, root)
    except UserError:
        return None
    except OSError as error:
        return None if error.filename else f"no file name: {error!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def fault(name: str, every: int = 1) -> tuple[int, list[str]]:
    """How many calls of a writer failed once, and the promises that this broke.

    Args:
      every: only each so-many-th call of a function fails.
    """
    count, faults = 0, []
    states = undisturbed(name)[0]
    for call in CALLS:
        number, failed = 0, True
        while failed:
            for code in (errno.ENOSPC, errno.EIO):
                with tempfile.TemporaryDirectory() as root:
                    try:
                        failed, wrong = ask(fail, name, root, call, number, code)
                    except CrashError as error:
                        wrong = str(error)
                    wrong = wrong or (failed and _sound(name, root, states))
                    count += failed
                    if wrong:
                        faults.append(f"{name}: {call} {number}: {wrong}")
            number += every
    return count, faults


def no_mounts() -> str | None:
    """Why no file system can be mounted here; None where one can."""
    if os.geteuid():
        return "only root may mount"
    with tempfile.TemporaryDirectory() as folder:
        done = _mount(folder, "size=64k")
        if done.returncode:
            return done.stderr.strip()
        subprocess.run(["umount", folder], check=True)
    return None


def _mount(folder: str, options: str) -> subprocess.CompletedProcess:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def full(name: str, sizes: int) -> tuple[int, list[str]]:
    """How many disks of different sizes were full, and the promises that this broke."""
    states = undisturbed(name)[0]
    with tempfile.TemporaryDirectory() as root:
        needed = ask(_bytes, name, root)
    count, faults = 0, []
    for size in _spread(needed, sizes):
        with tempfile.TemporaryDirectory() as root:
            assert not _mount(root, f"size={size}").returncode
            try:
                wrong = _full_at(name, root, states)
                count += 1
                if wrong:
                    faults.append(f"{name}: a disk of {size} bytes: {wrong}")
            finally:
                subprocess.run(["umount", root], check=True)
    return count, faults


def _full_at(name: str, root: str, states: list[str | None]) -> str | None:
    try:
        wrong = ask(_attempt, name, root)
    except CrashError as error:
        wrong = str(error)
    subprocess.run(["mount", "-o", f"remount,{_SPARE}", root], check=True)
    return wrong or _sound(name, root, states)


def _bytes(name: str, root: str) -> int:
    """What all that is written takes, temporaries left out."""
    KINDS[name].finish(Path(root))
    return sum(p.stat().st_blocks * 512 for p in Path(root).rglob("*") if p.is_file())


def _spread(needed: int, sizes: int) -> Iterator[int]:
    """Sizes of disks in pages, up to twice what is needed."""
    for number in range(1, sizes + 1):
        yield max(1, round(2 * needed * number / sizes / 4096)) * 4096
