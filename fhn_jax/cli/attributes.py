"""The command that changes attributes of items while they are served."""

from pathlib import Path

from fhn_jax.cli import answers
from fhn_jax.cli.command import Command, Flag
from fhn_jax.cli.run import RunChoice
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
    header, rows = answers.read_csv(Path(changes), "attributes", None)
    if header[:1] != ["id"] or len(set(header)) < max(len(header), 2):
        raise InputError(
            f"{changes}, line 1: header is {','.join(header)[:160]!r}, expected id and "
            "attributes, each once, such as id,in_stock,price"
        )
    values: dict[str, dict[str, dict[int, str | None]]]
    values = {name: {} for name in header[1:]}
    for where, (own, *cells) in rows:
        category, item = answers.parse_item(own.strip(), names, where)
        if item in values[header[1]].get(category, {}):
            raise InputError(f"{where}: {own.strip()!r} comes twice; expected once")
        for name, cell in zip(header[1:], cells, strict=True):
            values[name].setdefault(category, {})[item] = cell.strip() or None
    if index:
        searched = OutfitIndex.open(index, codes)
    else:
        searched = stored_index(workdir, codes, root, run.variant, names)
    if searched.attributes is None:
        raise InputError(
            f"{searched.folder}: its items have no attributes; expected an items.parquet "
            "with attribute columns in the data root"
        )
    searched.attributes.change(values)
    print(f"changed {', '.join(header[1:])} of {len(rows):,} items")


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
