"""How much there is of a data set, without reading all of it."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

from fhn_jax.data.images import CUTOUTS
from fhn_jax.data.layout import variant_folder
from fhn_jax.data.vector_files import FOLDER
from fhn_jax.errors import MissingFileError

_CHUNK = 2**20
# What vectors of texts are made of, as their JSON file says.
_TEXTS = ("items.parquet", "titles.json", ".csv")


def data_facts(root: Path, variant: str) -> dict[str, Any]:
    """What settings can be chosen by.

    Args:
      root: the data root.
      variant: of the outfits.
    Returns:
      `items` and `likes`, the train positives, as numbers; `photos`, whether there are
      any; `cut_outs`, whether garments were cut out of them; `text` and `features`, the
      names of vectors of texts and of others; `disliked`, whether there are train
      negatives.
    Raises:
      FileNotFoundError: there are no such data.
    """
    folder = variant_folder(root, variant)
    positives = folder / "tuples_train_posi"
    if not positives.is_file():
        raise MissingFileError(f"{positives} is missing; import or download it again")
    vectors: dict[str, list[str]] = {"text": [], "features": []}
    for path in sorted((root / FOLDER).glob("*.npz")):
        vectors["text" if _is_of_text(path) else "features"].append(path.stem)
    images = root / "images"
    return {
        "items": sum(map(_lines, folder.glob("image_list_*"))),
        "likes": _lines(positives) - 1,
        "photos": images.is_dir() and bool(os.listdir(images)),
        "cut_outs": (images / CUTOUTS).is_dir(),
        "disliked": (folder / "tuples_train_nega").is_file(),
        **vectors,
    }


def _is_of_text(path: Path) -> bool:
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return (
            str(about["source"]).endswith(_TEXTS) and about["model"] != "the shop's own"
        )
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _lines(path: Path) -> int:
    with open(path, "rb") as file:
        chunks = itertools.takewhile(bool, iter(lambda: file.read(_CHUNK), b""))
        return sum(chunk.count(b"\n") for chunk in chunks)
