"""The commands that copy the database of visitors, and make one of a copy."""

from typing import Any

from fhn_jax.cli.command import Command, Flag
from fhn_jax.cli.run import RunChoice
from fhn_jax.data.item_names import ItemNames
from fhn_jax.errors import InputError


def back_up_visitors(choice: RunChoice, *, file: str, database_url: str) -> None:
    """Copies the database, which servers may be using.

    Args:
      choice: the run whose visitors they are.
      file: to write.
      database_url: of another database than that of the workdir.
    """
    from fhn_jax.web import backup

    url = database_url or _in_workdir(choice)
    count = backup.back_up(url, _given(file))
    print(f"{file}: {count:,} visitors")


def restore_visitors(choice: RunChoice, *, file: str, database_url: str) -> None:
    """Makes the database of a copy; there may be none yet.

    Args:
      choice: the run whose visitors they are.
      file: the copy.
      database_url: of another database than that of the workdir.
    """
    from fhn_jax.web import backup

    url = database_url or _in_workdir(choice)
    count = backup.restore(_given(file), url, choice.open().codes().identity)
    print(f"{file}: {count:,} visitors restored")


def export_events(choice: RunChoice, *, file: str, database_url: str) -> None:
    """Writes what visitors judged as a table of likes, which `import-catalogue` reads.

    Args:
      choice: the run whose visitors they are.
      file: to write.
      database_url: of another database than that of the workdir.
    """
    from fhn_jax.data.item_table import write_table
    from fhn_jax.web.state import State

    run = choice.open()
    codes = run.codes()
    names = run.names(codes)
    state = State(database_url or _in_workdir(choice), codes.identity)
    try:
        events = state.events()
    finally:
        state.close()
    slots = [codes.categories[category] for category in codes.slots]
    # An item alone is no outfit of any template.
    outfits = [each for each in events if sum(item >= 0 for item in each.items) > 1]
    columns: dict[str, list[Any]] = {
        "user": [
            each.visitor if each.user is None else names.user(each.user)
            for each in outfits
        ]
    }
    for slot, category in enumerate(codes.slots):
        columns[slots[slot]] = [
            None if each.items[slot] < 0 else _called(names, category, each.items[slot])
            for each in outfits
        ]
    columns["value"] = [1 if each.liked else -1 for each in outfits]
    columns["time"] = [each.at.timestamp() for each in outfits]
    write_table(_given(file), columns)
    alone = len(events) - len(outfits)
    print(
        f"{file}: {len(outfits):,} likes and dislikes; {alone:,} of single items are not"
    )


def _called(names: ItemNames, category: int, item: int) -> str:
    """The shop's id of an item, else the name of its image."""
    own = names.id(category, item)
    return names.label(category, item) if own is None else own


def _in_workdir(choice: RunChoice) -> str:
    from fhn_jax.web.following import database_of

    return database_of(choice.open().workdir)


def _given(file: str) -> str:
    if not file:
        raise InputError("--file: expected the path of the copy")
    return file


_FILE = Flag("file", "", "The copy: a file of SQLite")
_URL = Flag("database-url", "", "Of visitors; SQLite in the workdir if empty")

COMMANDS = (
    Command(
        "export-events",
        "Write what visitors like and dislike as a table of likes, in Parquet",
        export_events,
        (Flag("file", "", "The table, such as likes.parquet"), _URL),
        extra="web,shop",
    ),
    Command(
        "back-up-visitors",
        "Copy the visitors' database, also while it is used",
        back_up_visitors,
        (_FILE, _URL),
        extra="web",
    ),
    Command(
        "restore-visitors",
        "Make the visitors' database of a copy",
        restore_visitors,
        (_FILE, _URL),
        extra="web",
    ),
)
