"""What the server remembers, in SQLite and in PostgreSQL."""

import sqlite3
import threading

import pytest

from fhn_jax.errors import UnreachableError
from fhn_jax.web.state import Gone, State

CODES = "c" * 64


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'visitors.sqlite'}"
    return request.getfixturevalue("postgres").url


@pytest.fixture
def state(url):
    state = State(url, CODES)
    yield state
    state.close()


def visitor_of(state):
    return state.visitor(state.create(None))


def judge(state, visitor, items, liked):
    with state.changing(visitor.id) as change:
        return change.judge(items, liked)


def likes(state, visitor):
    return [(one.items, one.liked) for one in state.judgements(visitor.id)]


def test_a_visitor_is_found_by_the_token_alone(state):
    token = state.create(3)
    visitor = state.visitor(token)
    assert visitor.user == 3 and visitor.changes == 0
    assert visitor.created.tzinfo is not None
    assert state.visitor(token[:-1]) is None and state.visitor("") is None
    assert len(token) >= 40 and token != state.create(3)


def test_the_database_does_not_hold_tokens(tmp_path):
    path = tmp_path / "visitors.sqlite"
    state = State(f"sqlite:///{path}", CODES)
    token = state.create(None)
    state.close()
    assert token.encode() not in path.read_bytes()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_restart_loses_nothing(url):
    first = State(url, CODES)
    token = first.create(None)
    visitor = first.visitor(token)
    judge(first, visitor, (1, 2, 3), True)
    judge(first, visitor, (-1, 4, -1), False)
    with first.changing(visitor.id) as change:
        assert change.add_item(1, 5, most=10)
    first.close()
    second = State(url, CODES)
    again = second.visitor(token)
    assert again.changes == 2
    newest, oldest = second.judgements(again.id)
    assert (newest.items, newest.liked) == ((-1, 4, -1), False)
    assert (oldest.items, oldest.liked) == ((1, 2, 3), True)
    assert second.wardrobe(again.id) == [(1, 5)]
    second.close()


def test_judged_again_the_last_one_counts_and_undo_brings_the_first_back(state):
    visitor = visitor_of(state)
    judge(state, visitor, (1, 2, 3), True)
    judge(state, visitor, (4, 5, 6), True)
    judge(state, visitor, (1, 2, 3), False)
    assert likes(state, visitor) == [((1, 2, 3), False), ((4, 5, 6), True)]
    with state.changing(visitor.id) as change:
        assert change.count() == 3
        assert change.undo().items == (1, 2, 3)
    assert likes(state, visitor) == [((4, 5, 6), True), ((1, 2, 3), True)]
    with state.changing(visitor.id) as change:
        change.reset()
        assert change.undo() is None
    assert likes(state, visitor) == []


def test_an_event_that_was_undone_does_not_come_back(state):
    visitor = visitor_of(state)
    first = judge(state, visitor, (1, 2, 3), True)
    with state.changing(visitor.id) as change:
        change.undo()
    assert judge(state, visitor, (1, 2, 3), True) > first


def test_visitors_do_not_see_each_other(state):
    one, other = visitor_of(state), visitor_of(state)
    judge(state, one, (1, 2, 3), True)
    with state.changing(one.id) as change:
        change.add_item(0, 1, most=10)
    assert likes(state, other) == [] and state.wardrobe(other.id) == []
    with state.changing(other.id) as change:
        assert change.undo() is None
        assert not change.remove_item(0, 1)
        change.reset()
    assert likes(state, one) == [((1, 2, 3), True)]


def test_who_is_forgotten_leaves_nothing(state):
    token = state.create(None)
    visitor = state.visitor(token)
    judge(state, visitor, (1, 2, 3), True)
    state.forget(visitor.id)
    assert state.visitor(token) is None and state.judgements(visitor.id) == []
    with pytest.raises(Gone, match="was removed"):
        with state.changing(visitor.id):
            pytest.fail("changed")


def test_nobody_gets_the_number_of_who_is_forgotten(state):
    first = visitor_of(state)
    state.forget(first.id)
    assert visitor_of(state).id > first.id


def test_a_change_that_fails_changes_nothing(state):
    visitor = visitor_of(state)
    with pytest.raises(KeyError):
        with state.changing(visitor.id) as change:
            change.judge((1, 2, 3), True)
            raise KeyError
    assert likes(state, visitor) == []
    with state.changing(visitor.id) as change:
        assert change.visitor.changes == 0


def test_a_wardrobe_holds_so_many_and_an_item_once(state):
    visitor = visitor_of(state)
    with state.changing(visitor.id) as change:
        assert change.add_item(0, 1, most=2) and change.add_item(0, 1, most=2)
        assert change.add_item(1, 1, most=2) and not change.add_item(2, 1, most=2)
        assert change.remove_item(0, 1) and not change.remove_item(0, 1)
    assert state.wardrobe(visitor.id) == [(1, 1)]


def test_changes_at_the_same_time_are_all_kept(state):
    visitor, counts = visitor_of(state), []

    def change_some(first):
        for number in range(first, first + 10):
            with state.changing(visitor.id) as change:
                change.judge((number, 0, 0), True)
                counts.append(len(change.judged(3)))

    threads = [threading.Thread(target=change_some, args=(10 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(state.judgements(visitor.id)) == 40
    assert sorted(counts) == [*range(1, 41)]  # each saw all before it
    with state.changing(visitor.id) as change:
        assert change.visitor.changes == 40


def test_visitors_of_other_codes_are_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 'visitors.sqlite'}"
    State(url, CODES).close()
    with pytest.raises(
        ValueError, match="belong to other codes .cccccccccccc, not ddd"
    ):
        State(url, "d" * 64)
    with sqlite3.connect(tmp_path / "visitors.sqlite") as database:
        database.execute("UPDATE alembic_version SET version_num = '9'")
    with pytest.raises(ValueError, match="tables of version 9, newer than this progr"):
        State(url, CODES)


@pytest.mark.parametrize("url", ["", "visitors.sqlite", "mysql://a/b", "sqlite"])
def test_what_is_no_url_of_a_database_is_refused(url):
    with pytest.raises(ValueError, match="--database-url: expected a URL such as"):
        State(url, CODES)


def test_a_password_is_not_shown():
    pytest.importorskip("psycopg")
    with pytest.raises(UnreachableError, match=r"fhn:\*\*\*@127.0.0.1") as caught:
        State("postgresql+psycopg://fhn:secret@127.0.0.1:1/name", CODES)
    assert "secret" not in str(caught.value)
