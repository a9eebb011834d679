"""What the items of a data set are called."""

from pathlib import Path

from fhn_jax.errors import InputError
from fhn_jax.files import read_json


def read_titles(root: Path) -> dict[str, str]:
    """Titles of items by image name, from titles.json of a data root; {} without it.

    Raises:
      ValueError: it holds anything else.
    """
    path = root / "titles.json"
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
