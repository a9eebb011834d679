"""Version 4: SQLite gives the number of a forgotten visitor to nobody else."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "4", "3"

_COLUMNS = "id, token, known_user, changes, created, seen"


def upgrade() -> None:
    """Makes the visitors of version 3 anew in SQLite; PostgreSQL has numbers of old."""
    # Programs of version 1 look here.
    op.execute("UPDATE about SET version = 4")
    if op.get_bind().dialect.name != "sqlite":
        return
    op.create_table(
        "new_visitors",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("token", sa.String(64), nullable=False, unique=True),
        sa.Column("known_user", sa.Integer),
        sa.Column("changes", sa.Integer, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen", sa.Date, nullable=False, server_default="1970-01-01"),
        sqlite_autoincrement=True,
    )
    op.execute(f"INSERT INTO new_visitors ({_COLUMNS}) SELECT {_COLUMNS} FROM visitors")
    # Foreign keys are off, see `Database.preparing`: nobody's rows go along.
    op.drop_table("visitors")
    op.rename_table("new_visitors", "visitors")
    op.create_index("ix_visitors_seen", "visitors", ["seen"])
