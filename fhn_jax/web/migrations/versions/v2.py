"""Version 2: when visitors were seen last, and answers to repeated requests.

What was learned is no longer stored: it follows from the judgements.
"""

import datetime

import sqlalchemy as sa
from alembic import op

revision, down_revision = "2", "1"


def upgrade() -> None:
    """Changes the tables of version 1."""
    op.add_column("about", sa.Column("checked", sa.DateTime(timezone=True)))
    # Programs of version 1 look here.
    op.execute("UPDATE about SET version = 2")
    op.drop_column("visitors", "latents")
    # Only a constant can be the default of a new column in SQLite.
    seen = sa.Column("seen", sa.Date, nullable=False, server_default="1970-01-01")
    op.add_column("visitors", seen)
    # When they came last is not known: they stay as if it were today.
    today = datetime.datetime.now(datetime.UTC).date()
    op.execute(
        sa.table("visitors", sa.column("seen", sa.Date)).update().values(seen=today)
    )
    op.create_index("ix_visitors_seen", "visitors", ["seen"])
    op.create_index("ix_judgements_items", "judgements", ["visitor", "items"])
    op.drop_index("ix_judgements_visitor", "judgements")
    op.create_table(
        "answers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "visitor",
            sa.Integer,
            sa.ForeignKey("visitors.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, index=True),
        sa.UniqueConstraint("visitor", "key"),
    )
