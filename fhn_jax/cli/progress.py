"""How far a command has come, and what it has written."""

import sys
from collections.abc import Callable
from pathlib import Path


def progress(title: str) -> Callable[[int, int], None]:
    """A progress bar: from a title to a function of the number done, and of all.

    Where there is no terminal, a plain line at each tenth.
    """
    from tqdm import tqdm

    bar, tenth = None, -1

    def update(done: int, total: int) -> None:
        nonlocal bar, tenth
        if bar is None:
            bar = tqdm(
                desc=title,
                total=total,
                unit="item",
                disable=not sys.stderr.isatty(),
            )
        bar.update(done - bar.n)
        if bar.disable and done * 10 // max(total, 1) > tenth:
            tenth = done * 10 // max(total, 1)
            print(f"{title}: {done:,} of {total:,}", file=sys.stderr)
        if done == total:
            bar.close()

    return update


def say_written(*paths: Path) -> None:
    """Prints a line for each file or folder that a command has written."""
    for path in paths:
        print(f"wrote {path}")
