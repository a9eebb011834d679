"""Several processes at once on one thing: serial results, or one winner and clear losers."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability.interruptions import fingerprint, is_litter, undisturbed
from benchmarks.reliability.processes import ask, context, start
from benchmarks.reliability.writers import KINDS, make_codes
from fhn_jax.errors import BusyError, ExistingFileError, UserError
from fhn_jax.retrieval.outfit_index import OutfitIndex

# Changes of each process.
_CHANGES = 3


def crowd(name: str, size: int) -> list[str]:
    """Broken promises after so many processes did the same at once."""
    with tempfile.TemporaryDirectory() as root:
        if name in _CHANGED:
            prepare, change, count = _CHANGED[name]
            ask(prepare, root)
            answers = _together(change, root, size)
            wrong = [str(answer) for answer in answers if answer != _CHANGES]
            found = None if wrong else ask(count, root, size)
            if found not in (None, [_CHANGES] * size):
                wrong.append(f"{found} changes, expected {_CHANGES} of each")
        else:
            answers = _together(_write, name, size, root)
            wrong = [str(a) for a in answers if a not in ("won", "lost")]
            if "won" not in answers:
                wrong.append(f"nobody won: {answers}")
            state = ask(_state, name, root)
            if state != undisturbed(name)[0][-1]:
                wrong.append("not what one process alone leaves")
        wrong += [f"litter: {p}" for p in Path(root).rglob("*") if is_litter(p)]
    return [f"{name}, {size} at once: {each}" for each in wrong]


def _together(function: Callable, first: Any, size: int, *rest: Any) -> list[Any]:
    """What a function returns in so many processes that begin at one moment."""
    barrier, answers = context.Barrier(size), context.SimpleQueue()
    started = [
        start(_report, barrier, answers, function, first, number, *rest)
        for number in range(size)
    ]
    for process in started:
        process.join()
    missing = [f"ended with {p.exitcode}" for p in started if p.exitcode]
    return [answers.get() for _ in range(size - len(missing))] + missing


def _report(barrier: Any, answers: Any, function: Callable, *arguments: Any) -> None:
    barrier.wait()
    try:
        answers.put(function(*arguments))
    except Exception as error:
        answers.put(f"{type(error).__name__}: {error}")


def _write(name: str, number: int, root: str) -> str:
    kind = KINDS[name]
    try:
        for step in range(kind.steps):
            kind.write(Path(root), step)
    except (BusyError, ExistingFileError):
        return "lost"
    return "won"


def _state(name: str, root: str) -> str | None:
    return fingerprint(KINDS[name].read(Path(root)))


def _until_free(change: Callable[[], Any]) -> None:
    """As a user who is told that another is at work: tries again."""
    until = time.monotonic() + 120
    while True:
        try:
            change()
            return
        except UserError as error:
            outdated = "open it again" in str(error)
            if (
                not (outdated or isinstance(error, BusyError))
                or time.monotonic() > until
            ):
                raise
            time.sleep(0.01)


# Outfits of each process, appended to an index one by one.


def _build(root: str) -> None:
    outfits = np.full((10, 2), 39)
    OutfitIndex.build(f"{root}/index", make_codes(0), outfits)


def _append(root: str, number: int) -> int:
    own = np.array([[number, number]])
    for _ in range(_CHANGES):
        _until_free(
            lambda: OutfitIndex.open(f"{root}/index", make_codes(0)).append(own)
        )
    return _CHANGES


def _appended(root: str, size: int) -> list[int]:
    index = OutfitIndex.open(f"{root}/index", make_codes(0))
    items = index.search(0, 1000).items
    return [int((items == number).all(axis=1).sum()) for number in range(size)]


# Likes of visitors, one of each process, in one database.


def _create(root: str) -> None:
    """Nothing: the first of them creates it."""


def _like(root: str, number: int) -> int:
    from fhn_jax.web.state import State

    state = State(f"sqlite:///{root}/visitors.sqlite", "c" * 64)
    token = state.create(None)
    visitor = state.visitor(token).id
    for place in range(_CHANGES):
        with state.changing(visitor) as change:
            change.judge((number, place), True)
    (Path(root) / f"token-{number}").write_text(token)
    state.close()
    return _CHANGES


def _likes(root: str, size: int) -> list[int]:
    from fhn_jax.web.state import State

    state = State(f"sqlite:///{root}/visitors.sqlite", "c" * 64)
    tokens = [(Path(root) / f"token-{number}").read_text() for number in range(size)]
    found = [
        {one.items for one in state.all_judgements(state.visitor(token).id)}
        for token in tokens
    ]
    state.close()
    return [
        len([items for items in own if items[0] == number])
        for number, own in enumerate(found)
    ]


_CHANGED: dict[str, tuple[Callable, Callable, Callable]] = {
    "index": (_build, _append, _appended),
    "database": (_create, _like, _likes),
}
# What is done by several at once; a run takes seconds.
CROWDED = ("index", "database", "LMDB", "sealed JSON", "import", "report", "run")
