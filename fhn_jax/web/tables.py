"""The tables of visitors, as the newest of `migrations` leaves them."""

import sqlalchemy as sa

metadata = sa.MetaData()


def _visitor(**options) -> sa.Column:
    key = sa.ForeignKey("visitors.id", ondelete="CASCADE")
    return sa.Column("visitor", key, nullable=False, **options)


about = sa.Table(
    "about",
    metadata,
    sa.Column("version", sa.Integer, nullable=False),
    # Checksum: what visitors judged is only meaningful with the codes it was shown by.
    sa.Column("codes", sa.String(64), nullable=False),
    # When a server last made sure that it can write.
    sa.Column("checked", sa.DateTime(timezone=True)),
)
visitors = sa.Table(
    "visitors",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("token", sa.String(64), nullable=False, unique=True),
    sa.Column("known_user", sa.Integer),
    sa.Column("changes", sa.Integer, nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    sa.Column("seen", sa.Date, nullable=False, server_default="1970-01-01", index=True),
    # A request of who was forgotten meanwhile is never taken for somebody else's.
    sqlite_autoincrement=True,
)
judgements = sa.Table(
    "judgements",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    _visitor(),
    sa.Column("items", sa.String(200), nullable=False),
    sa.Column("liked", sa.Boolean, nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Index("ix_judgements_items", "visitor", "items"),
    sqlite_autoincrement=True,  # Ids of undone judgements are not reused.
)
# Pages of outfits that visitors were shown.
impressions = sa.Table(
    "impressions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    _visitor(),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    # Of what ranked them: the number of a published version, and the codes' checksum.
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("codes", sa.String(64), nullable=False),
    # JSON, see `impressions`: one row a page.
    sa.Column("page", sa.Text, nullable=False),
    sa.Index("ix_impressions_visitor", "visitor", "id"),
)
wardrobe = sa.Table(
    "wardrobe",
    metadata,
    _visitor(primary_key=True),
    sa.Column("category", sa.Integer, primary_key=True),
    sa.Column("item", sa.Integer, primary_key=True),
)
photos = sa.Table(
    "photos",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    _visitor(index=True),
    sa.Column("category", sa.Integer, nullable=False),
    sa.Column("title", sa.String(100), nullable=False),
    sa.Column("picture", sa.LargeBinary, nullable=False),
    sa.Column("code", sa.LargeBinary, nullable=False),
    sa.Column("scale", sa.Float, nullable=False),
    sqlite_autoincrement=True,
)
# Answers to requests with an idempotency key, for when they are repeated.
answers = sa.Table(
    "answers",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    _visitor(),
    # Checksums of the key and of the request.
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("request", sa.String(64), nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.UniqueConstraint("visitor", "key"),
)
