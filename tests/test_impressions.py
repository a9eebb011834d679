"""What visitors were shown is stored beside what they judge, and never in the way."""

import sqlite3
import time

import pytest
from web_site import (
    API,
    browser,
    compose,
    items_of,
    judge,
    make_site,
    ok,
    program,
    recommended,
)

from fhn_jax.recommender import Suggestion
from fhn_jax.web import impressions
from fhn_jax.web.app import create_app
from fhn_jax.web.impressions import Model
from fhn_jax.web.state import State

MODEL = Model(0, "c" * 64)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return create_app(make_site(tmp_path_factory.mktemp("site")))


@pytest.fixture
def visitor(app):
    return program(app, ok(program(app).post(f"{API}/visitors", json={}), 201)["token"])


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(impressions, "_EVERY_S", 0)


def stored(visitor, count):
    """All pages that are stored of a visitor, the newest first, once there are so many."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = ok(visitor.get(f"{API}/visitors/me/everything"))["impressions"]
        if len(found) >= count:
            break
    assert len(found) == count
    return found


def show(state, visitor, number=0):
    state.impressions.add(
        visitor, "recommend", {"k": 1}, [Suggestion((number, 2, 3), 0.5)], MODEL
    )


def new_visitor(state):
    return state.visitor(state.create(None))


def test_what_a_visitor_is_shown_is_stored(app, visitor):
    of_others = app.state.service.state.impressions.all()
    started = ok(visitor.get(f"{API}/start", params={"k": 3}))["outfits"]
    first = recommended(visitor, explore=0.5)
    assert recommended(visitor, explore=0.5) == first  # The same page again.
    filtered = recommended(visitor, at_most="item=1")
    made = compose(visitor, k=2)["outfits"]
    judge(visitor, items=items_of(first[0]))
    after = recommended(visitor)
    shown = [after, made, filtered, first, started]
    for page, outfits in zip(stored(visitor, 5), shown, strict=True):
        assert page["codes"] == app.state.service.recommender.codes.sha256()
        assert page["version"] == 0
        assert [
            (one["items"], one["score"], one["explored"]) for one in page["outfits"]
        ] == [
            (items_of(one), pytest.approx(one["score"], abs=1e-5), one["explored"])
            for one in outfits
        ]
    asked = [(page["way"], page["asked"]) for page in stored(visitor, 5)[1:]]
    assert asked == [
        ("compose", {"k": 2}),
        ("recommend", {"k": 6, "explore": 0, "page": 0, "free": 0}),
        ("recommend", {"k": 6, "explore": 0.5, "page": 0, "free": 1}),
        ("start", {"k": 3}),
    ]
    # Who has left no trace leaves none by looking, and who goes takes all of it.
    state, before = app.state.service.state, len(of_others) + 5
    stored(visitor, 5)
    ok_page = browser(app).get("/")
    assert ok_page.status_code == 200 and len(state.impressions.all()) == before
    ok(visitor.delete(f"{API}/visitors/me"), 204)
    assert state.impressions.all() == of_others


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_only_the_newest_pages_of_a_visitor_are_kept(
    kind, tmp_path, request, monkeypatch
):
    monkeypatch.setattr(impressions, "_MOST_KEPT", 3)
    url = f"sqlite:///{tmp_path / 'visitors.sqlite'}"
    if kind == "postgresql":
        url = request.getfixturevalue("postgres").url
    state = State(url, MODEL.codes)
    visitor, other, gone = (new_visitor(state) for _ in range(3))
    show(state, other)
    state.forget(gone.id)
    again = new_visitor(state)  # With the number of who is gone, in SQLite.
    for number in range(5):
        show(state, gone)
        show(state, visitor, number)
    state.close()
    state = State(url, MODEL.codes)
    (kept,) = state.impressions.of(other.id)
    assert (kept.way, kept.asked, kept.model) == ("recommend", {"k": 1}, MODEL)
    assert kept.outfits == [Suggestion((0, 2, 3), 0.5)]
    pages = state.impressions.of(visitor.id)
    assert [page.outfits[0].items[0] for page in pages] == [4, 3, 2]
    assert kept.visitor != pages[0].visitor
    assert state.impressions.of(again.id) == []
    assert len(state.impressions.all()) == 4
    state.close()


@pytest.mark.parametrize(("count", "left"), [(20, 20), (23, 18)])
def test_of_a_visitor_with_too_many_pages_a_tenth_more_goes(
    tmp_path, monkeypatch, count, left
):
    """So that it is seldom: whether there are too many is asked of all at once."""
    monkeypatch.setattr(impressions, "_MOST_KEPT", 20)
    url = f"sqlite:///{tmp_path / 'visitors.sqlite'}"
    state = State(url, MODEL.codes)
    visitor, other = new_visitor(state), new_visitor(state)
    with state._database.writing():  # The last pages are written together.
        show(state, other)
        for number in range(count):
            show(state, visitor, number)
    state.close()
    state = State(url, MODEL.codes)
    pages = [page.outfits[0].items[0] for page in state.impressions.of(visitor.id)]
    assert pages == [*reversed(range(count))][:left]
    assert len(state.impressions.of(other.id)) == 1
    state.close()


def test_a_page_that_cannot_be_stored_is_counted_and_shown_all_the_same(
    app, visitor, monkeypatch
):
    def lost():
        lines = program(app).get("/metrics").text.splitlines()
        return sum(
            float(line.split()[1])
            for line in lines
            if line.startswith("fhn_impressions_lost_total")
        )

    assert lost() == 0
    store = app.state.service.state.impressions
    monkeypatch.setattr(impressions, "_MOST_WAITING", 0)  # Too many wait.
    assert recommended(visitor) and lost() == 1
    monkeypatch.undo()
    path = app.state.service.state._database.path
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE impressions RENAME TO others")
    assert recommended(visitor, k=5)
    deadline = time.monotonic() + 30
    while lost() < 2 and time.monotonic() < deadline:
        pass
    assert lost() == 2
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE others RENAME TO impressions")
    recommended(visitor, k=4)
    assert len(stored(visitor, 1)[0]["outfits"]) == 4
    assert store is app.state.service.state.impressions
