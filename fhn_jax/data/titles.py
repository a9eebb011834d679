"""What the items of a data set are called."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fhn_jax.data.item_table import ITEMS_FILE, read_items
from fhn_jax.errors import InputError
from fhn_jax.files import read_json


def read_titles(path: Path) -> dict[str, str]:
    """Titles of items by image name, from a file such as `ROOT/titles.json`.

    Returns:
      {} where there is no file.
    Raises:
      ValueError: it holds anything else.
    """
    if not path.is_file():
        return {}
    titles = read_json(path, object, "mend or remove it")
    if not isinstance(titles, dict) or not all(
        isinstance(title, str) for title in titles.values()
    ):
        raise InputError(
            f"{path}: expected an object of image names and titles; mend or remove it"
        )
    return titles


def find_titles(root: Path, names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What the items of a data root are called, by image name.

    The titles of items.parquet, and the shop's id of an item that has none; without that
    file, titles.json.

    Args:
      root: the data root.
      names: category → image names of its items.
    Raises:
      ValueError: a file is damaged, or items.parquet is of other items.
    """
    table = read_items(root)
    if table is None:
        return read_titles(root / "titles.json")
    titles = {}
    for number, category in enumerate(table.categories):
        first, last = table.offsets[number : number + 2]
        own = names.get(category, ())
        if len(own) != last - first:
            raise InputError(
                f"{root / ITEMS_FILE} has {last - first:,} items of the category "
                f"{category!r}, and the codes have {len(own):,}; expected those that the "
                "run was trained on; import the catalogue again, or train again"
            )
        for at, name in enumerate(own, first):
            titles[name] = table.titles[at] or table.ids[at]
    return titles
