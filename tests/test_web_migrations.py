"""Databases of earlier versions are opened, and those of later ones refused."""

import hashlib
import sqlite3

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from fhn_jax.errors import UnreachableError
from fhn_jax.web import migrations, tables
from fhn_jax.web.state import State

CODES = "c" * 64
TOKEN = "token of a visitor"
# As the first release wrote it.
VERSION_1 = f"""
CREATE TABLE about (version INTEGER NOT NULL, codes VARCHAR(64) NOT NULL);
INSERT INTO about VALUES (1, '{CODES}');
CREATE TABLE visitors (
    id INTEGER NOT NULL, token VARCHAR(64) NOT NULL, known_user INTEGER,
    latents BLOB NOT NULL, changes INTEGER NOT NULL, created DATETIME NOT NULL,
    PRIMARY KEY (id), UNIQUE (token)
);
INSERT INTO visitors VALUES (
    1, '{hashlib.sha256(TOKEN.encode()).hexdigest()}', 3, x'0000803f', 2,
    '2026-01-02 03:04:05.000000'
);
CREATE TABLE judgements (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, visitor INTEGER NOT NULL,
    items VARCHAR(200) NOT NULL, liked BOOLEAN NOT NULL, at DATETIME NOT NULL,
    FOREIGN KEY(visitor) REFERENCES visitors (id) ON DELETE CASCADE
);
INSERT INTO judgements VALUES (7, 1, '1/2/3', 1, '2026-01-02 03:04:06.000000');
INSERT INTO judgements VALUES (8, 1, '-1/4/-1', 0, '2026-01-02 03:04:07.000000');
CREATE TABLE wardrobe (
    visitor INTEGER NOT NULL, category INTEGER NOT NULL, item INTEGER NOT NULL,
    PRIMARY KEY (visitor, category, item),
    FOREIGN KEY(visitor) REFERENCES visitors (id) ON DELETE CASCADE
);
INSERT INTO wardrobe VALUES (1, 1, 5);
CREATE TABLE photos (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, visitor INTEGER NOT NULL,
    category INTEGER NOT NULL, title VARCHAR(100) NOT NULL, picture BLOB NOT NULL,
    code BLOB NOT NULL, scale FLOAT NOT NULL,
    FOREIGN KEY(visitor) REFERENCES visitors (id) ON DELETE CASCADE
);
INSERT INTO photos VALUES (4, 1, 0, 'My top', x'aabb', x'0102', 1.5);
CREATE INDEX ix_judgements_visitor ON judgements (visitor);
CREATE INDEX ix_photos_visitor ON photos (visitor);
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "visitors.sqlite"
    with sqlite3.connect(path) as database:
        database.executescript(VERSION_1)
    database.close()
    return path


def test_a_database_of_version_1_is_migrated_and_keeps_everything(path):
    for _ in range(2):  # The second finds nothing to do.
        state = State(f"sqlite:///{path}", CODES)
        visitor = state.visitor(TOKEN)
        assert (visitor.user, visitor.changes) == (3, 2)
        judged = [(one.event, one.items) for one in state.judgements(visitor.id)]
        assert judged == [(8, (-1, 4, -1)), (7, (1, 2, 3))]
        assert state.wardrobe(visitor.id) == [(1, 5)]
        (photo,) = state.photos(visitor.id)
        assert (photo.id, photo.photo.picture) == (4, b"\xaa\xbb")
        state.close()
    # It is not known when visitors came last, so that counts from now on.
    state = State(f"sqlite:///{path}", CODES, keep_days=1)
    assert state.expire() == 0 and state.visitor(TOKEN) is not None
    # What an earlier program asks.
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT version FROM about").fetchone() == (4,)
    state.close()


def test_numbers_of_who_is_forgotten_are_not_given_again_after_a_migration(path):
    state = State(f"sqlite:///{path}", CODES)
    old = state.visitor(TOKEN)
    with sqlite3.connect(path) as database:
        (made,) = database.execute(
            "SELECT sql FROM sqlite_schema WHERE name = 'visitors'"
        ).fetchone()
        assert "AUTOINCREMENT" in made
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    state.forget(old.id)  # Foreign keys hold, also on the connection that migrated.
    with sqlite3.connect(path) as database:
        for table in ("judgements", "wardrobe", "photos"):
            assert database.execute(f"SELECT * FROM {table}").fetchall() == []
    assert state.visitor(state.create(None)).id > old.id
    state.close()


def test_a_migration_that_fails_changes_nothing(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE answers (in_the_way)")
    before = list(database.iterdump())
    with pytest.raises(UnreachableError, match="answers already exists"):
        State(f"sqlite:///{path}", CODES)
    assert list(sqlite3.connect(path).iterdump()) == before


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_migrations_lead_to_the_tables_of_the_program(kind, tmp_path, request):
    url = f"sqlite:///{tmp_path / 'new.sqlite'}"
    if kind == "postgresql":
        url = request.getfixturevalue("postgres").url
    state = State(url, CODES)
    with state._database.reading() as connection:
        found = compare_metadata(
            MigrationContext.configure(connection), tables.metadata
        )
    assert found == []
    state.close()


def test_the_last_migration_is_that_of_the_program():
    script = ScriptDirectory(migrations.__path__[0])
    assert script.get_heads() == [migrations.VERSION]


def test_a_table_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "visitors.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE other (a)")
    State(f"sqlite:///{path}", CODES).close()
    engine = sa.create_engine(f"sqlite:///{path}")
    assert "other" in sa.inspect(engine).get_table_names()
    engine.dispose()
