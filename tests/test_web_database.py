"""The database of visitors under many writers, and when it fails."""

import contextlib
import random
import resource
import sqlite3
import threading
import time

import pytest
import sqlalchemy as sa

from fhn_jax.errors import UnavailableError, UnreachableError
from fhn_jax.web import database, engines
from fhn_jax.web.state import State

CODES = "c" * 64


@pytest.fixture
def path(tmp_path):
    return tmp_path / "visitors.sqlite"


@pytest.fixture
def state(path):
    state = State(f"sqlite:///{path}", CODES)
    yield state
    state.close()


def visitor_of(state):
    return state.visitor(state.create(None)).id


def judge(state, visitor, top=1):
    with state.changing(visitor) as change:
        return change.judge((top, 2, 3), True)


@contextlib.contextmanager
def other_writer(path, kind="IMMEDIATE"):
    """Another process that keeps the file locked."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(f"BEGIN {kind}")
    yield
    other.rollback()
    other.close()


def together(*works):
    """Does all at the same time; the errors."""
    errors = []

    def one(work):
        try:
            work()
        except Exception as error:  # of whatever kind
            errors.append(error)

    threads = [threading.Thread(target=one, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    return threads, errors


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- many writers -----------------------------------------------------------------


def test_changes_that_wait_share_a_transaction(state, path):
    visitors = [visitor_of(state) for _ in range(5)]
    commits = []
    engine = state._database._engine
    sa.event.listen(engine, "commit", lambda connection: commits.append(1))
    works = [
        lambda v=v, top=top: judge(state, v, top) for v in visitors for top in range(12)
    ]
    with other_writer(path):
        threads, errors = together(*works)
        wait_for(lambda: state._database._waiting == len(works) - 1)
    for thread in threads:
        thread.join()
    assert errors == [] and len(commits) <= 3
    for visitor in visitors:
        assert len(state.judgements(visitor)) == 12


def test_of_changes_that_share_a_transaction_one_that_fails_is_undone_alone(
    state, path
):
    visitor = visitor_of(state)

    def fail():
        with state.changing(visitor) as change:
            change.judge((99, 2, 3), True)
            raise KeyError

    works = [lambda top=top: judge(state, visitor, top) for top in range(6)]
    with other_writer(path):
        threads, errors = together(*works[:3], fail, *works[3:])
        wait_for(lambda: state._database._waiting == 6)
    for thread in threads:
        thread.join()
    assert [type(error) for error in errors] == [KeyError]
    assert sorted(one.items[0] for one in state.judgements(visitor)) == [*range(6)]


def test_a_lock_that_is_never_released_is_a_fault_like_any_other(
    state, path, monkeypatch
):
    monkeypatch.setattr(database, "_LOCK_S", 0.1)
    visitor, drawn = visitor_of(state), random.getstate()
    with other_writer(path):
        with pytest.raises(UnavailableError):
            judge(state, visitor)
        assert random.getstate() == drawn  # A wait draws nothing of the program's.
        assert state.judgements(visitor) == []
    judge(state, visitor)


@pytest.mark.parametrize("kind", ["IMMEDIATE", "EXCLUSIVE"])
def test_servers_that_start_together_wait_for_each_other(path, kind, monkeypatch):
    # Who makes the tables, on a busy machine, takes longer than a change may.
    monkeypatch.setattr(database, "_LOCK_S", 0.02)
    url, states = f"sqlite:///{path}", []
    with other_writer(path, kind):
        threads, errors = together(
            *[lambda: states.append(State(url, CODES)) for _ in range(6)]
        )
        # They meet the lock, whatever they do first.
        for thread in threads:
            thread.join(0.05)
    for thread in threads:
        thread.join()
    assert errors == [] and len(states) == 6
    for state in states:
        judge(state, visitor_of(state))
        state.close()


# --- faults -----------------------------------------------------------------------


@contextlib.contextmanager
def full_disk(state):
    """No file of this process can grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def full_file(state):
    """SQLite says that the disk is full."""
    engine = state._database._engine

    def limit(connection):
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        connection.exec_driver_sql("CREATE TABLE more AS SELECT zeroblob(100000)")

    sa.event.listen(engine, "begin", limit)
    yield
    sa.event.remove(engine, "begin", limit)
    engine.dispose()


@contextlib.contextmanager
def read_only(state):
    engine = state._database._engine

    def forbid(connection):
        connection.exec_driver_sql("PRAGMA query_only = 1")

    sa.event.listen(engine, "begin", forbid)
    yield
    sa.event.remove(engine, "begin", forbid)
    engine.dispose()


@pytest.mark.parametrize("fault", [full_disk, full_file, read_only])
def test_a_file_that_cannot_be_written_is_said_once(state, fault, caplog):
    visitor = visitor_of(state)
    judge(state, visitor)
    with fault(state):
        for _ in range(5):
            with pytest.raises(UnavailableError, match="cannot be used now"):
                judge(state, visitor, 2)
            assert not state.is_up()
        if fault is not full_file:
            assert len(state.judgements(visitor)) == 1
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and "cannot write: " in said[0] and "INSERT" not in said[0]
    judge(state, visitor, 3)
    assert state.is_up()
    assert [one.items[0] for one in state.judgements(visitor)] == [3, 1]
    assert "can write again" in caplog.records[-1].getMessage()


def test_a_fault_fails_all_changes_of_a_transaction(state, path):
    visitor = visitor_of(state)
    works = [lambda top=top: judge(state, visitor, top) for top in range(8)]
    with other_writer(path):
        threads, errors = together(*works)
        wait_for(lambda: state._database._waiting == 7)
        full = full_disk(state)
        full.__enter__()
    for thread in threads:
        thread.join()
    full.__exit__(None, None, None)
    assert [type(error) for error in errors] == 8 * [database.DatabaseUnavailableError]
    assert state.judgements(visitor) == []


def test_a_file_that_is_removed_is_not_replaced_by_an_empty_one(state, path):
    visitor = visitor_of(state)
    judge(state, visitor)
    away = path.rename(path.with_suffix(".away"))
    for _ in range(2):
        with pytest.raises(UnavailableError):
            judge(state, visitor)
        with pytest.raises(UnavailableError):
            state.judgements(visitor)
    assert not state.is_up() and not path.exists()
    away.rename(path)
    judge(state, visitor, 2)
    assert len(state.judgements(visitor)) == 2


def test_a_file_that_is_damaged_while_serving_is_a_fault(state, path):
    visitor = visitor_of(state)
    state.close()  # All is in the file now.
    whole = path.read_bytes()
    path.write_bytes(b"\xff" * len(whole))
    with pytest.raises(UnavailableError):
        state.judgements(visitor)
    assert not state.is_up()
    path.write_bytes(whole)
    judge(state, visitor)


def test_a_database_that_cannot_be_used_is_said_at_the_start(path):
    path.write_bytes(b"\xff" * 8192)
    with pytest.raises(UnreachableError, match="visitors: file is not a database"):
        State(f"sqlite:///{path}", CODES)
    with pytest.raises(FileNotFoundError, match="there is no folder .*; make it"):
        State(f"sqlite:///{path.parent}/none/visitors.sqlite", CODES)


def test_nobody_else_can_read_the_file(path):
    path.touch(0o644)
    path.chmod(0o644)
    state = State(f"sqlite:///{path}", CODES)
    judge(state, visitor_of(state))
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    names = [f"visitors.sqlite{end}" for end in ("", "-shm", "-wal")]
    assert modes == dict.fromkeys(names, 0o600)
    state.close()


@pytest.mark.slow
def test_postgres_that_hangs_is_given_up_and_found_again(postgres, monkeypatch, caplog):
    monkeypatch.setattr(engines, "STATEMENT_S", 0)
    monkeypatch.setattr(engines, "CONNECT_S", 2)
    monkeypatch.setattr(database, "_PAUSE_S", 0.2)
    state = State(postgres.url, CODES)
    visitor = visitor_of(state)
    judge(state, visitor)
    postgres.hang()
    try:
        with pytest.raises(UnavailableError):
            judge(state, visitor)
        # Others do not wait for it in vain.
        started = time.monotonic()
        with pytest.raises(UnavailableError):
            state.judgements(visitor)
        assert time.monotonic() - started < 0.2
    finally:
        postgres.go_on()
    wait_for(state.is_up)
    judge(state, visitor, 2)
    assert [one.items[0] for one in state.judgements(visitor)] == [2, 1]
    state.close()


@pytest.mark.slow
def test_postgres_that_restarts_is_found_again(postgres):
    state = State(postgres.url, CODES)
    visitor = visitor_of(state)
    postgres.stop()
    try:
        with pytest.raises(UnavailableError):
            judge(state, visitor)
        assert not state.is_up()
    finally:
        postgres.start()
    wait_for(state.is_up)
    judge(state, visitor)
    state.close()
