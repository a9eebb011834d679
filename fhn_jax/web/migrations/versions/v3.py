"""Version 3: what visitors were shown."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "3", "2"


def upgrade() -> None:
    """Adds a table to those of version 2."""
    # Programs of version 1 look here.
    op.execute("UPDATE about SET version = 3")
    op.create_table(
        "impressions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "visitor",
            sa.Integer,
            sa.ForeignKey("visitors.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("codes", sa.String(64), nullable=False),
        sa.Column("page", sa.Text, nullable=False),
    )
    op.create_index("ix_impressions_visitor", "impressions", ["visitor", "id"])
