"""What the database of visitors does not keep: twins, the absent, the deleted."""

import datetime
import sqlite3
import threading
import time

import numpy as np
import pytest

from fhn_jax.web import change as change_module
from fhn_jax.web import state as state_module
from fhn_jax.web.change import KeyReused
from fhn_jax.web.photos import Photo
from fhn_jax.web.state import State

CODES = "c" * 64
PICTURE = b"picture of a garment " * 1000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "visitors.sqlite"


@pytest.fixture
def state(path):
    state = State(f"sqlite:///{path}", CODES, keep_days=30)
    yield state
    state.close()


def visitor_of(state):
    return state.visitor(state.create(None)).id


def add_photo(state, visitor, picture=PICTURE, **limits):
    limits = {"most": 12, "most_bytes": 10**6} | limits
    photo = Photo(picture, np.zeros(16, np.uint8), 1.0)
    with state.changing(visitor) as change:
        return change.add_photo(0, "t", photo, **limits)


def rows(path, table):
    with sqlite3.connect(path) as database:
        return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def later(monkeypatch, days):
    """From now on it is so many days later."""
    day = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=days)
    for module in (state_module, change_module):
        monkeypatch.setattr(module, "today", lambda: day)


# --- judgements -------------------------------------------------------------------


def test_a_like_that_is_repeated_is_one_row(state, path):
    visitor = visitor_of(state)
    events = []
    for liked in (True, True, False, False, True):
        with state.changing(visitor) as change:
            events.append(change.judge((1, 2, 3), liked))
    first, again, second, _, third = events
    assert first == again and first < second < third
    assert rows(path, "judgements") == 3
    with state.changing(visitor) as change:
        assert change.judged(3).liked.tolist() == [True]
        assert change.visitor.changes == 3


def test_an_answer_is_kept_for_its_request_and_visitor(state):
    visitor, other = visitor_of(state), visitor_of(state)
    with state.changing(visitor) as change:
        assert change.answer_of("key", "like") is None
        change.keep_answer("key", "like", "done")
    with state.changing(visitor) as change:
        assert change.answer_of("key", "like") == "done"
        assert change.answer_of("key 2", "like") is None
        with pytest.raises(KeyReused):
            change.answer_of("key", "dislike")
    with state.changing(other) as change:
        assert change.answer_of("key", "dislike") is None


def test_only_so_many_answers_are_kept_and_for_a_day(state, path, monkeypatch):
    monkeypatch.setattr(change_module, "MOST_ANSWERS", 3)
    visitor = visitor_of(state)
    for number in range(5):
        with state.changing(visitor) as change:
            change.keep_answer(f"key {number}", "like", "done")
    with state.changing(visitor) as change:
        kept = [change.answer_of(f"key {number}", "like") for number in range(5)]
    assert kept == [None, None, "done", "done", "done"]
    monkeypatch.setattr(state_module, "_KEEP_ANSWERS", -datetime.timedelta(minutes=1))
    state.expire()
    assert rows(path, "answers") == 0


# --- visitors ---------------------------------------------------------------------


def test_who_stays_away_is_forgotten_with_everything(state, path, monkeypatch):
    monkeypatch.setattr(state_module, "_AT_ONCE", 2)
    tokens = [state.create(None) for _ in range(6)]
    for token in tokens:
        visitor = state.visitor(token).id
        add_photo(state, visitor)
        with state.changing(visitor) as change:
            change.judge((1, 2, 3), True)
    later(monkeypatch, 20)
    assert state.visitor(tokens[0]).seen < state.visitor(tokens[0]).seen
    later(monkeypatch, 30)
    assert state.expire() == 0
    later(monkeypatch, 31)
    assert state.expire() == 5
    assert [state.visitor(token) is not None for token in tokens] == [True] + 5 * [
        False
    ]
    assert rows(path, "judgements") == rows(path, "photos") == 1


def test_visitors_are_kept_for_ever_on_request(path, monkeypatch):
    state = State(f"sqlite:///{path}", CODES)
    token = state.create(None)
    later(monkeypatch, 10_000)
    assert state.expire() == 0 and state.visitor(token) is not None
    state.close()
    with pytest.raises(ValueError, match="--keep-days=-1: expected days, or 0"):
        State(f"sqlite:///{path}", CODES, keep_days=-1)


def test_who_comes_while_nothing_can_be_written_is_let_in(state, path, monkeypatch):
    token = state.create(None)
    later(monkeypatch, 1)
    monkeypatch.setattr("fhn_jax.web.database._LOCK_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert state.visitor(token) is not None
    other.close()


# --- photos -----------------------------------------------------------------------


def test_photos_are_counted_in_bytes(state):
    visitor = visitor_of(state)
    assert add_photo(state, visitor, b"x" * 600, most_bytes=1000) is not None
    assert add_photo(state, visitor, b"x" * 401, most_bytes=1000) is None
    assert add_photo(state, visitor, b"x" * 400, most_bytes=1000) is not None


@pytest.mark.parametrize("how", ["remove", "forget", "expire"])
def test_a_photo_that_is_deleted_is_in_no_file(state, path, how, monkeypatch):
    visitor = visitor_of(state)
    photo = add_photo(state, visitor)

    def is_somewhere():
        files = path.parent.glob("visitors.sqlite*")
        return any(b"picture of a garment" in file.read_bytes() for file in files)

    assert is_somewhere()
    if how == "remove":
        with state.changing(visitor) as change:
            assert change.remove_photo(photo)
    elif how == "forget":
        state.forget(visitor)
    else:
        later(monkeypatch, 31)
        assert state.expire() == 1
    assert not is_somewhere()


@pytest.mark.parametrize("how", ["undo", "reset"])
def test_a_judgement_that_is_taken_back_is_in_no_file(state, path, how):
    visitor = visitor_of(state)

    def is_somewhere(text=b"111/222/333"):
        files = path.parent.glob("visitors.sqlite*")
        return any(text in file.read_bytes() for file in files)

    with state.changing(visitor) as change:
        change.judge((111, 222, 333), True)
        change.keep_answer("key", "undo", "outfit of before")
    assert is_somewhere()
    with state.changing(visitor) as change:
        getattr(change, how)()
    assert not is_somewhere()
    with state.changing(visitor) as change:
        change.reset()
    assert not is_somewhere(b"outfit of before") and rows(path, "answers") == 0


def test_one_thread_waits_to_remove_what_was_deleted(state, path, monkeypatch):
    monkeypatch.setattr("fhn_jax.web.database._PAUSE_S", 0.01)
    visitor = visitor_of(state)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM visitors").fetchall()
    before = threading.active_count()
    for number in range(5):
        with state.changing(visitor) as change:
            change.judge((number, 2, 3), True)
            change.undo()
    assert threading.active_count() <= before + 1
    reader.close()
    deadline = time.monotonic() + 60
    while state._database._wiping and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not path.with_name("visitors.sqlite-wal").stat().st_size


@pytest.mark.slow
def test_a_deleted_photo_goes_as_soon_as_nobody_reads_it(state, path, monkeypatch):
    monkeypatch.setattr("fhn_jax.web.database._PAUSE_S", 0.01)
    visitor = visitor_of(state)
    photo = add_photo(state, visitor)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM photos").fetchall()
    with state.changing(visitor) as change:
        change.remove_photo(photo)
    wal = path.with_name("visitors.sqlite-wal")
    assert wal.stat().st_size
    reader.close()
    for _ in range(2000):
        if not wal.stat().st_size:
            break
        with state.changing(visitor) as change:
            change.judged(3)
    assert not wal.stat().st_size
