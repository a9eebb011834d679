"""Errors that a user can cause and mend.

The command line shows a `UserError` as one line and lets everything else end in a
traceback: that is a bug of ours. Each kind is also the built-in exception that a caller
from Python expects, so `except FileNotFoundError` goes on working.

Every text says what is wrong, where, what was found, what was expected and the remedy.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something that a user can cause and mend."""


class InputError(UserError, ValueError):
    """A value, a file's content or a combination of settings that cannot be used."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that is not there."""


class ExistingFileError(UserError, FileExistsError):
    """A file or folder that is in the way; it is left as it is."""


class MissingKeyError(UserError, KeyError):
    """A name that is not in a table, such as an image that is not in its store."""

    # KeyError shows the repr of its argument.
    __str__ = Exception.__str__


class MissingPackageError(UserError, ModuleNotFoundError):
    """A package that is needed for this and not installed."""


class NotFiniteError(UserError, FloatingPointError):
    """A number that became infinite or NaN in training."""


class BusyError(UserError, BlockingIOError):
    """A file or folder that another process is at work on."""


class UnreachableError(UserError, ConnectionError):
    """A server or cluster that cannot be reached."""


class UnavailableError(UserError, ConnectionError):
    """Something that does not work now, and probably does in a few seconds.

    Attributes:
      retry_s: in how many.
    """

    def __init__(self, text: str, retry_s: int = 5):
        super().__init__(text)
        self.retry_s = retry_s


class RefusedError(UserError, OSError):
    """What the operating system refuses: no permission, a full disk, a port in use."""


def nearest(name: str, known: Iterable[str]) -> str:
    """What to add to the error about an unknown name: the nearest that is known.

    >>> nearest("serach", ["search", "serve"])
    "; did you mean 'search'?"
    >>> nearest("dance", ["search", "serve"])
    ''
    """
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
