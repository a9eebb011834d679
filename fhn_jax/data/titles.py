"""What the items of a data set are called."""

from pathlib import Path

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
