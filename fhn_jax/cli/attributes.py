"""The command that changes attributes of items while they are served."""

from pathlib import Path

from fhn_jax.cli import answers
from fhn_jax.cli.command import Command, Flag
from fhn_jax.cli.run import RunChoice
from fhn_jax.data.csv_files import plain_numbers, read_rows
from fhn_jax.errors import InputError


def set_attributes(choice: RunChoice, *, changes: str, index: str) -> None:
    """Gives items other attributes; servers have them from the next request on.

    Args:
      changes: a CSV file with the header `id,ATTRIBUTE,…` and a row for each item: what it
        is called, see `answers.parse_item`, and its values, empty where it has none.
      index: folder of the `OutfitIndex` that is served; if empty, that of the current
        version, or of the workdir if none is published.
    """
    from fhn_jax.codes import load
    from fhn_jax.data.item_names import read_names
    from fhn_jax.recommender.publishing import served
    from fhn_jax.recommender.stored import stored_index
    from fhn_jax.retrieval.outfit_index import OutfitIndex

    if not changes:
        raise InputError("--changes lacks: a CSV file with the header id,ATTRIBUTE,…")
    run = choice.open()
    workdir, root = served(run.workdir, run.root)
    codes = load(workdir)
    names = read_names(root, run.variant, codes)
    header, rows = read_rows(Path(changes), "attributes")
    if header[:1] != ["id"] or len(set(header)) < max(len(header), 2):
        raise InputError(
            f"{changes}, line 1: header is {','.join(header)[:160]!r}, expected id and "
            "attributes, each once, such as id,in_stock,price"
        )
    values: dict[str, dict[str, dict[int, str | None]]]
    values = {name: {} for name in header[1:]}
    for where, (own, *cells) in rows:
        category, item = answers.parse_item(own, names, where)
        if item in values[header[1]].get(category, {}):
            raise InputError(f"{where}: {own!r} comes twice; expected once")
        for name, cell in zip(header[1:], cells, strict=True):
            values[name].setdefault(category, {})[item] = cell or None
    if index:
        searched = OutfitIndex.open(index, codes)
    else:
        searched = stored_index(workdir, codes, root, run.variant, names)
    if searched.attributes is None:
        raise InputError(
            f"{searched.folder}: its items have no attributes; expected an items.parquet "
            "with attribute columns in the data root"
        )
    columns = searched.attributes.columns()
    for name, by_category in values.items():
        if name in columns and columns[name].kind == "number":
            values[name] = _as_numbers(by_category)
    searched.attributes.change(values)
    print(f"changed {', '.join(header[1:])} of {len(rows):,} items")


def _as_numbers(
    by_category: dict[str, dict[int, str | None]],
) -> dict[str, dict[int, str | None]]:
    """Category -> item -> its number, written with a point as the sign for decimals."""
    cells = [cell or "" for some in by_category.values() for cell in some.values()]
    plain = iter(plain_numbers(cells))
    return {
        category: {item: next(plain) or None for item in some}
        for category, some in by_category.items()
    }


COMMANDS = (
    Command(
        "set-attributes",
        "Change attributes of items, such as what is in stock, while they are served",
        set_attributes,
        (
            Flag("changes", "", "CSV file: id,ATTRIBUTE,… and a row for each item"),
            Flag("index", "", "Folder of the OutfitIndex that is served, if another"),
        ),
        extra="retrieval",
    ),
)
