"""Version 1: visitors, judgements, wardrobes and photos."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "1", None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "about",
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("codes", sa.String(64), nullable=False),
    )
    op.create_table(
        "visitors",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("token", sa.String(64), nullable=False, unique=True),
        sa.Column("known_user", sa.Integer),
        sa.Column("latents", sa.LargeBinary, nullable=False),
        sa.Column("changes", sa.Integer, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "judgements",
        sa.Column("id", sa.Integer, primary_key=True),
        _visitor(index=True),
        sa.Column("items", sa.String(200), nullable=False),
        sa.Column("liked", sa.Boolean, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "wardrobe",
        _visitor(primary_key=True),
        sa.Column("category", sa.Integer, primary_key=True),
        sa.Column("item", sa.Integer, primary_key=True),
    )
    op.create_table(
        "photos",
        sa.Column("id", sa.Integer, primary_key=True),
        _visitor(index=True),
        sa.Column("category", sa.Integer, nullable=False),
        sa.Column("title", sa.String(100), nullable=False),
        sa.Column("picture", sa.LargeBinary, nullable=False),
        sa.Column("code", sa.LargeBinary, nullable=False),
        sa.Column("scale", sa.Float, nullable=False),
        sqlite_autoincrement=True,
    )


def _visitor(**options) -> sa.Column:
    key = sa.ForeignKey("visitors.id", ondelete="CASCADE")
    return sa.Column("visitor", sa.Integer, key, nullable=False, **options)
