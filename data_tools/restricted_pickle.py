"""The one place that unpickles: names in a pickle are looked up in a table, or refused.

A pickle is a program that the reader runs. Here it has nothing to call but what the
table gives it, and nothing is imported. The converters of files that only exist as
pickles put stand-ins of their own into the table.
"""

import io
import pickle
from collections.abc import Mapping
from typing import Any

from fhn_jax.errors import InputError


class Refused(InputError):
    """The pickle asks for something that is not given to it."""


class Unpickler(pickle.Unpickler):
    """Reads a pickle with the names of a table.

    Args:
      file: opened for reading bytes.
      names: (module, name) → what the pickle gets for it.
      expected: what such a pickle should hold, for errors.
      options: of `pickle.Unpickler`.
    Raises:
      Refused: from `load`: another name, or an object outside of the pickle.
    """

    def __init__(
        self,
        file: io.BufferedIOBase,
        names: Mapping[tuple[str, str], Any],
        expected: str,
        **options: str,
    ):
        super().__init__(file, **options)
        self._names, self._expected = names, expected

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[module, name]
        except KeyError:
            raise Refused(
                f"the pickle names {module}.{name}, which is refused and was not run; "
                f"expected only {self._expected}; do not trust this file, get it from "
                "its source again"
            ) from None

    def persistent_load(self, identifier: Any) -> Any:
        raise Refused(f"the pickle refers to the outside object {identifier!r}")
