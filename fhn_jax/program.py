"""What all programs share: their arguments, and how their errors are shown."""

import argparse
import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from fhn_jax.errors import InputError, RefusedError, UserError, nearest

# What the operating system refuses for a reason that the user can mend.
_REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENAMETOOLONG),
    *(errno.EMFILE, errno.ENFILE, errno.ESTALE),
    # A file in the place of a folder, and the other way round.
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.EADDRINUSE, errno.EADDRNOTAVAIL),
}


def run_program(
    main: Callable[[list[str]], None], argv: Sequence[str] | None = None
) -> None:
    """Runs a program; a `UserError` ends it in one line, and with exit code 1.

    Args:
      main: called with the arguments, but for `--debug`, which shows the traceback.
      argv: the arguments; those of the process by default.

    Exit codes: 1 for an error, 130 for Ctrl-C, 143 for SIGTERM.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        with _termination(), _refusals():
            main([argument for argument in given if argument != "--debug"])
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has stopped, as `head` does; nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except UserError as error:
        if "--debug" in given:
            raise
        sys.exit(f"error: {error}\n(--debug shows where in the code)")
    except KeyboardInterrupt as interrupt:
        text = str(interrupt) or "run the same command again to go on"
        print(f"interrupted: {text}", file=sys.stderr)
        sys.exit(130)
    except Terminated as end:
        print("terminated: run the same command again to go on", file=sys.stderr)
        sys.exit(end.code)


class Terminated(SystemExit):
    """SIGTERM, which by itself would end the process without a cleanup."""


@contextlib.contextmanager
def _termination() -> Iterator[None]:
    """Makes an exception of SIGTERM, so that temporaries go and locks are let go.

    The second one ends the process at once. The training loop, the server and the
    runtime of several processes have handlers of their own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own = os.getpid()

    def end(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != own:  # a fork, which has nothing to clean up
            os.kill(os.getpid(), signal.SIGTERM)
            return
        raise Terminated(128 + number)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous or signal.SIG_DFL)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Makes a `RefusedError` of a full disk, a missing permission and the like."""
    try:
        yield
    except (UserError, BrokenPipeError):
        raise
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        raise RefusedError(f"{where}{error.strerror}") from error


class _Once(argparse.Action):
    """Takes the value of a flag that has one: the last of several would silently win."""

    def __call__(self, parser, namespace, values, option_string=None):
        if isinstance(parser, Arguments) and option_string is not None:
            if self.dest in parser.given:
                parser.error(f"{option_string} is given twice; expected once")
            parser.given.add(self.dest)
        setattr(namespace, self.dest, values)


class Arguments(argparse.ArgumentParser):
    """An argument parser whose errors are `InputError`s and suggest the nearest flag.

    Flags cannot be abbreviated: a flag that is added later must not change what an
    old command means.
    """

    def __init__(self, prog: str, description: str | None):
        """Makes a parser without arguments.

        Args:
          prog: the command, such as "fhn-jax search".
          description: its first line is shown.
        """
        super().__init__(
            prog=prog,
            description=(description or "").partition("\n")[0],
            allow_abbrev=False,
        )
        # What `add_argument` takes without an action.
        self.register("action", None, _Once)
        self.register("action", "store", _Once)
        self.given: set[str] = set()

    @property
    def flags(self) -> dict[str, bool]:
        """All flags, with their dashes → whether a value follows."""
        actions = self._option_string_actions
        return {flag: action.nargs != 0 for flag, action in actions.items()}

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """As in `argparse`, but that a value must not be given twice."""
        self.given = set()
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """As in `argparse`; raises InputError where that would end the program."""
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            self.refuse(rest[0])
        return options

    def refuse(self, argument: str) -> NoReturn:
        """Raises InputError about an argument that is not expected."""
        name = argument.partition("=")[0]
        if not name.startswith("-"):
            self.error(f"unexpected argument {argument!r}")
        raise InputError(
            f"flag {name} is unknown; {self.prog} --help lists the flags"
            f"{nearest(name, self.flags)}"
        )

    def error(self, message: str) -> NoReturn:
        """Raises InputError; says where the arguments are explained."""
        raise InputError(f"{message}; see {self.prog} --help")
