"""Which items a data root has: the names in its lists of images."""

import itertools
import os
from pathlib import Path

from fhn_jax.data.tables import first_line, parse_names
from fhn_jax.errors import MissingFileError


def read_lists(root: str | os.PathLike) -> list[tuple[str, tuple[str, ...]]]:
    """The categories of all variants, in their order, and their names by item id.

    Raises:
      FileNotFoundError: there are no lists.
      ValueError: a list is damaged.
    """
    tables = sorted(Path(root).glob("tuples_*/tuples_train_posi"))
    if not tables:
        raise MissingFileError(
            f"{root} has no tuples_VARIANT/tuples_train_posi; expected a data root in "
            "the Polyvore-U layout, as make-demo or import-catalogue writes it"
        )
    lists = []
    for table in tables:
        _, *slots = first_line(table, table.read_bytes()).split(",")
        for category in dict.fromkeys(slots):
            path = table.with_name(f"image_list_{category}")
            if not path.is_file():
                raise MissingFileError(
                    f"{path} is missing; expected one for each category in {table}"
                )
            lists.append((category, parse_names(path, path.read_bytes())))
    return lists


def item_names(root: str | os.PathLike) -> tuple[str, ...]:
    """The image names of all items, each once; raises as `read_lists`."""
    lists = (names for _, names in read_lists(root))
    return tuple(dict.fromkeys(itertools.chain.from_iterable(lists)))
