"""Copies of the visitors' database, and databases of copies."""

import sqlite3

import pytest
from web_site import make_site

from fhn_jax import files
from fhn_jax.codes import load
from fhn_jax.main import run
from fhn_jax.web import backup
from fhn_jax.web.state import State

CODES = "c" * 64


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/visitors.sqlite"


def with_one_visitor(url, codes=CODES):
    """An open state, the token of a visitor who liked something."""
    state = State(url, codes)
    token = state.create(None)
    with state.changing(state.visitor(token).id) as change:
        change.judge((1, 2, 3), True)
    return state, token


def test_a_copy_is_made_while_the_database_is_used_and_restored(url, tmp_path):
    state, token = with_one_visitor(url)
    copy, restored = tmp_path / "copy", tmp_path / "other" / "visitors.sqlite"
    with state.changing(state.visitor(token).id) as change:
        change.judge((4, 5, 6), True)
        # What is not committed is not in it.
        assert backup.back_up(url, copy) == 1
    assert [file.name for file in tmp_path.glob("*copy*")] == ["copy"]
    assert copy.stat().st_mode & 0o777 == 0o600
    state.close()
    restored.parent.mkdir()
    assert backup.restore(copy, f"sqlite:///{restored}", CODES) == 1
    assert [file.name for file in restored.parent.iterdir()] == ["visitors.sqlite"]
    assert restored.stat().st_mode & 0o777 == 0o600
    again = State(f"sqlite:///{restored}", CODES)
    judged = again.judgements(again.visitor(token).id)
    assert [one.items for one in judged] == [(1, 2, 3)]
    again.close()


def test_a_server_goes_on_with_the_database_that_is_restored(url, tmp_path):
    state, token = with_one_visitor(url)
    backup.back_up(url, tmp_path / "copy")
    for file in tmp_path.glob("visitors.sqlite*"):
        file.unlink()
    assert not state.is_up()
    backup.restore(tmp_path / "copy", url, CODES)
    assert state.is_up() and state.visitor(token) is not None
    state.close()


def test_what_is_there_is_not_overwritten(url, tmp_path):
    state, _ = with_one_visitor(url)
    copy = tmp_path / "copy"
    backup.back_up(url, copy)
    with pytest.raises(FileExistsError, match="copy exists and is left as it is"):
        backup.back_up(url, copy)
    with pytest.raises(FileExistsError, match="visitors.sqlite exists"):
        backup.restore(copy, url, CODES)
    state.close()
    (tmp_path / "visitors.sqlite").unlink()
    (tmp_path / "visitors.sqlite-wal").touch()
    with pytest.raises(FileExistsError, match="visitors.sqlite-wal exists"):
        backup.restore(copy, url, CODES)


def test_what_cannot_be_copied_is_said_and_leaves_nothing(url, tmp_path):
    with pytest.raises(FileNotFoundError, match="no database .*visitors.sqlite"):
        backup.back_up(url, tmp_path / "copy")
    state, _ = with_one_visitor(url)
    state.close()
    path = tmp_path / "visitors.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    (tmp_path / "damaged").write_bytes(data)
    path.unlink()
    with pytest.raises(OSError, match="damaged cannot be copied"):
        backup.restore(tmp_path / "damaged", url, CODES)
    with pytest.raises(ValueError, match="use pg_dump and pg_restore"):
        backup.back_up("postgresql+psycopg://host/name", tmp_path / "copy")
    assert [file.name for file in tmp_path.iterdir()] == ["damaged"]


def test_a_copy_of_other_codes_or_a_newer_version_is_refused(url, tmp_path):
    state, _ = with_one_visitor(url)
    copy, other = tmp_path / "copy", f"sqlite:///{tmp_path}/other.sqlite"
    backup.back_up(url, copy)
    state.close()
    with pytest.raises(ValueError, match="belong to other codes"):
        backup.restore(copy, other, "d" * 64)
    with sqlite3.connect(copy) as database:
        database.execute("UPDATE alembic_version SET version_num = '9'")
    database.close()
    with pytest.raises(ValueError, match="version 9, newer than this program"):
        backup.restore(copy, other, CODES)
    assert not (tmp_path / "other.sqlite").exists()


def test_the_commands_copy_the_database_of_a_workdir(tmp_path, capsys):
    settings = make_site(tmp_path / "site")
    workdir = tmp_path / "site" / "run"
    data = {"root": settings.root, "variant": settings.variant}
    files.write_json(workdir / "config.json", {"data": data})
    path = workdir / "visitors.sqlite"
    state, token = with_one_visitor(f"sqlite:///{path}", load(workdir).sha256())
    state.close()
    options = [f"--workdir={workdir}", f"--file={tmp_path / 'copy'}"]
    run(["back-up-visitors", *options])
    path.unlink()
    run(["restore-visitors", *options])
    assert "copy: 1 visitors restored" in capsys.readouterr().out
    again = State(f"sqlite:///{path}", load(workdir).sha256())
    assert again.visitor(token) is not None
    again.close()
    with pytest.raises(ValueError, match="--file: expected the path of the copy"):
        run(["back-up-visitors", f"--workdir={workdir}"])
