"""The commands that copy the database of visitors, and make one of a copy."""

from fhn_jax.cli.command import DATABASE_URL, Command, Flag
from fhn_jax.cli.run import RunChoice
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


def _in_workdir(choice: RunChoice) -> str:
    from fhn_jax.web.following import database_of

    return database_of(choice.open().workdir)


def _given(file: str) -> str:
    if not file:
        raise InputError("--file: expected the path of the copy")
    return file


_FILE = Flag("file", "", "The copy: a file of SQLite")

COMMANDS = (
    Command(
        "back-up-visitors",
        "Copy the visitors' database, also while it is used",
        back_up_visitors,
        (_FILE, DATABASE_URL),
        extra="web",
    ),
    Command(
        "restore-visitors",
        "Make the visitors' database of a copy",
        restore_visitors,
        (_FILE, DATABASE_URL),
        extra="web",
    ),
)
