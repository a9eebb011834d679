"""What the items of a data set are called."""

import json
from pathlib import Path

from fhn_jax.errors import InputError


def read_titles(root: Path) -> dict[str, str]:
    """Titles of items by image name, from titles.json of a data root; {} without it.

    Raises:
      ValueError: it holds anything else.
    """
    path = root / "titles.json"
    if not path.is_file():
        return {}
    try:
        titles = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); mend or remove it") from None
    if not isinstance(titles, dict) or not all(
        isinstance(title, str) for title in titles.values()
    ):
        raise InputError(
            f"{path}: expected an object of image names and titles; mend or remove it"
        )
    return titles
