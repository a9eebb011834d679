"""Makes text vectors of all items from their titles.

    fhn-jax embed-text data/shop
    fhn-jax embed-text data/shop --columns title brand colour
    fhn-jax embed-text data/shop --name potion --model model2vec:minishlab/potion-base-8M

Writes ROOT/vectors/NAME.npz, and beside it NAME.json: which model made them of what. A
config reads them with `data.text=NAME`. What was made before an interruption is kept;
with --ray-address the nodes of a Ray cluster make them.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fhn_jax.data_tools.embedding import RAY_ADDRESS, embed
from fhn_jax.data_tools.item_lists import item_names, read_lists
from fhn_jax.data_tools.text_models import make_text_model

from fhn_jax.data.item_table import ITEMS_FILE, read_items
from fhn_jax.data.titles import read_titles
from fhn_jax.errors import InputError, MissingFileError, nearest
from fhn_jax.files import read_text
from fhn_jax.program import Arguments, run_program

_AT_ONCE = 4096


def embed_text(
    root: str | os.PathLike,
    name: str = "title",
    model: str = "hashed",
    columns: Sequence[str] = ("title",),
    *,
    titles: str | os.PathLike | None = None,
    ray_address: str = "",
) -> Path:
    """Writes a text vector of every item to `ROOT/vectors/NAME.npz`.

    The texts are read from `titles`, else from `items.parquet`, else from `titles.json`
    of the root. An item without a text gets the model's vector of an empty one.

    Args:
      root: the data root.
      name: of the vectors.
      model: see `make_text_model`.
      columns: whose texts are put together, where the texts are in a table.
      titles: a CSV file with a column `name` of image file names, or a JSON object of
        image names and titles.
      ray_address: of the head of a Ray cluster; this process makes them if empty.
    Returns:
      the npz file.
    Raises:
      FileNotFoundError: there are no titles, or no lists of items.
      ModuleNotFoundError: the library of the model is not installed.
      ValueError: a column or model is unknown, or no item has a text.
      BusyError: another process makes the same vectors.
      ConnectionError: no cluster answers at the address.
    """
    root = Path(root)
    names = item_names(root)
    source, texts = _find_texts(root, columns, titles)
    known = [texts.get(each, "") for each in names]
    if not any(known):
        raise InputError(
            f"{source}: no item of {root} has a text in {', '.join(columns)}; expected "
            "titles by the image names of image_list_*"
        )
    return embed(
        *(root, name, names, make_text_model, model, known, _AT_ONCE),
        model=model,
        source=f"{', '.join(columns)} of {source.name}",
        ray_address=ray_address,
    )


def _find_texts(
    root: Path,
    columns: Sequence[str],
    titles: str | os.PathLike | None,
) -> tuple[Path, Mapping[str, str]]:
    """The file that the texts are from, and the text of each image name."""
    if titles is not None:
        path = Path(titles)
        found = _read_csv(path) if path.suffix == ".csv" else {}
        if path.suffix == ".json":
            found = {"title": read_titles(path)}
        elif path.suffix != ".csv":
            raise InputError(f"{path}: expected titles in a .csv or a .json file")
    elif (root / ITEMS_FILE).is_file():
        path, found = root / ITEMS_FILE, _read_items(root, columns)
    elif (root / "titles.json").is_file():
        path = root / "titles.json"
        found = {"title": read_titles(path)}
    else:
        raise MissingFileError(
            f"{root} has no {ITEMS_FILE} and no titles.json; give the titles with "
            "--titles FILE: a CSV file with the columns name and title, or a JSON "
            "object of image names and titles"
        )
    texts: dict[str, str] = {}
    for column in columns:
        if column not in found:
            raise InputError(
                f"{path} has no column {column!r}, only {', '.join(found)}"
                f"{nearest(column, found)}"
            )
        for name, value in found[column].items():
            texts[name] = f"{texts[name]} {value}" if name in texts else value
    return path, texts


def _read_items(root: Path, columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """Column of items.parquet → image name → text, empty for those not asked for."""
    table = read_items(root)
    assert table is not None
    names = [""] * len(table)
    for category, listed in read_lists(root):
        if category not in table.categories:
            raise InputError(
                f"{root / ITEMS_FILE} has no item of the category {category!r}, and "
                f"image_list_{category} has {len(listed):,}; import the catalogue again"
            )
        first, last = table.offsets[table.categories.index(category) :][:2]
        if last - first != len(listed):
            raise InputError(
                f"{root / ITEMS_FILE} has {last - first:,} items of the category "
                f"{category!r}, and image_list_{category} has {len(listed):,}; import "
                "the catalogue again"
            )
        names[first:last] = listed
    return {
        column: {
            name: str(value)
            for name, value in zip(names, values, strict=True)
            if column in columns and value is not None and value == value
        }
        for column, values in {"title": table.titles, **table.attributes}.items()
    }


def _read_csv(path: Path) -> dict[str, dict[str, str]]:
    """Column → image name → text."""
    text = read_text(path, "expected a CSV file with a column `name`")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    fields = rows.fieldnames or ()
    if "name" not in fields:
        raise InputError(
            f"{path}: the columns are {', '.join(fields) or 'none'}; expected `name`, "
            f"the image file name of an item, and others{nearest('name', fields)}"
        )
    found: dict[str, dict[str, str]] = {each: {} for each in fields if each != "name"}
    for row in rows:
        if None in row or None in row.values():
            raise InputError(
                f"{path}:{rows.line_num}: expected {len(fields)} columns, as in the "
                "header"
            )
        name = row.pop("name")
        for column, value in row.items():
            if name in found[column]:
                raise InputError(
                    f"{path}:{rows.line_num}: the name {name!r} occurs twice; drop one"
                )
            found[column][name] = value
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax embed-text", __doc__)
    parser.add_argument("root", metavar="ROOT", help="the data root")
    parser.add_argument(
        "--name", default="title", help="of the vectors; default: %(default)s"
    )
    parser.add_argument(
        "--model",
        default="hashed",
        help="hashed, hashed:WIDTH, model2vec:MODEL or sentence-transformers:MODEL; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        default=["title"],
        help="of items.parquet or of the CSV file; default: title",
    )
    parser.add_argument(
        "--titles", metavar="FILE", help="a CSV or JSON file with the texts"
    )
    parser.add_argument(*RAY_ADDRESS[0], **RAY_ADDRESS[1])
    options = parser.parse_args(arguments)
    path = embed_text(
        options.root,
        options.name,
        options.model,
        options.columns,
        titles=options.titles,
        ray_address=options.ray_address,
    )
    print(f"{path}: use it with --config.data.text={options.name}")


if __name__ == "__main__":
    run_program(main)
