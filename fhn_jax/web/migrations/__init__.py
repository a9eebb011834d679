"""From the tables of each version to those of the next, by Alembic.

A version is a module of `versions`. A new one names the one before it, and `VERSION`
becomes its name; `tables` says what it leads to.
"""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fhn_jax.errors import InputError

VERSION = "4"


def migrate(connection: Connection, shown: str) -> None:
    """Makes the tables those of this version, in the transaction that is under way.

    Args:
      connection: nobody else migrates meanwhile.
      shown: how errors name the database.
    Raises:
      InputError: tables of a newer version.
    """
    version = _version(connection)
    if version == VERSION:
        return
    if version is not None and not (
        version.isdecimal() and int(version) < int(VERSION)
    ):
        raise InputError(
            f"{shown} has tables of version {version}, newer than this program, which "
            f"knows those up to {VERSION}; update fhn_jax, or give another "
            "--database-url"
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    folder = str(Path(__file__).parent).replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.attributes["connection"] = connection
    if version is not None:
        command.stamp(config, version)
    command.upgrade(config, VERSION)


def _version(connection: Connection) -> str | None:
    """The version of the tables; None without any."""
    tables = sa.inspect(connection).get_table_names()
    if "alembic_version" in tables:
        kept = sa.table("alembic_version", sa.column("version_num"))
        return connection.execute(sa.select(kept)).scalar()
    if "about" in tables:
        # Version 1 said so itself.
        about = sa.table("about", sa.column("version"))
        found = connection.execute(sa.select(about)).scalar()
        return None if found is None else str(found)
    return None
