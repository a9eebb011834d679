"""A running server takes up the current version, whatever else fails for a while."""

import sqlite3
import threading
from pathlib import Path

import pytest
from fhn_jax.data_tools.build_lmdb import build_lmdb
from test_publishing import other_users, publish_site, site, until  # noqa: F401
from web_site import API, browser, ok, problem

from fhn_jax.recommender.publishing import publish, published
from fhn_jax.web import database, photos
from fhn_jax.web.app import create_app
from fhn_jax.web.photos import PhotoEncoder


class SlowEncoder(PhotoEncoder):
    """An encoder of photos that is up when it was asked often enough."""

    made: list = []
    slow = 5

    def __init__(self, path, codes):
        self.asked, self.is_closed = 0, False
        self.made.append(self)

    def is_up(self):
        self.asked += 1
        return self.asked > self.slow

    def close(self):
        self.is_closed = True


@pytest.fixture
def encoders(site, monkeypatch):  # noqa: F811
    """The encoders that a server makes of the versions of a run that has one."""
    monkeypatch.setattr(photos, "PhotoEncoder", SlowEncoder)
    monkeypatch.setattr(SlowEncoder, "made", [])
    Path(site.workdir, photos.FILE).write_text("")
    return SlowEncoder.made


def publish_with_encoder(site):  # noqa: F811
    return publish(
        *(site.workdir, site.workdir, site.root, site.variant), [photos.FILE]
    )


def eventually(holds):
    """Waits until something holds."""
    pause = threading.Event()
    for _ in range(3000):
        if holds():
            return
        pause.wait(0.02)
    raise AssertionError("it never holds")


def logged(caplog, text):
    """Waits until it is logged."""
    eventually(lambda: text in caplog.text)


def stays(value):
    """Whether it is the same after a while, in which the server has looked again."""
    before = value()
    threading.Event().wait(0.2)
    return value() == before


def behind(visitor):
    """For how many seconds another version than the served one was current."""
    text = visitor.get("/metrics").text
    (line,) = [x for x in text.splitlines() if x.startswith("fhn_behind_seconds_total")]
    return float(line.split()[1])


@pytest.mark.slow
def test_a_version_is_taken_up_when_its_encoder_of_photos_is_up(site, encoders):  # noqa: F811
    app = create_app(site)
    with browser(app):
        publish_with_encoder(site)
        until(app, 2)
        (new,) = encoders  # Nobody is answered by one that is not up.
        assert new.asked > SlowEncoder.slow and not new.is_closed
        # It ends with its version, which nothing keeps.
        publish_with_encoder(site)
        until(app, 3)
        eventually(lambda: new.is_closed)


@pytest.mark.slow
def test_a_version_that_waits_is_given_up_when_another_is_current(
    site,  # noqa: F811
    encoders,
    monkeypatch,
    caplog,
):
    monkeypatch.setattr(SlowEncoder, "slow", 10**9)
    app = create_app(site)
    with browser(app) as visitor:
        publish_with_encoder(site)
        logged(caplog, "2 cannot be served yet, and is tried again: the encoder of")
        assert app.state.service.version == 1 and behind(visitor) > 0
        monkeypatch.setattr(SlowEncoder, "slow", 0)
        assert published(site.workdir).rollback() == 1
        publish_with_encoder(site)
        until(app, 3)
        waited, new = encoders
        assert waited.is_closed and not new.is_closed
        assert caplog.text.count("2 cannot be served yet") == 1


@pytest.mark.slow
def test_a_version_is_taken_up_when_the_database_answers_again(
    site,  # noqa: F811
    monkeypatch,
    caplog,
):
    monkeypatch.setattr(database, "_LOCK_S", 0.2)
    app = create_app(site)
    with browser(app) as visitor:
        other = sqlite3.connect(f"{site.workdir}/visitors.sqlite")
        other.execute("BEGIN IMMEDIATE")
        publish_site(site, other_users)
        logged(caplog, "2 cannot be served yet, and is tried again: the database does")
        assert app.state.service.version == 1 and behind(visitor) > 0
        other.rollback()
        other.close()
        until(app, 2)


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, "x"])
def test_following_goes_on_when_the_link_can_be_read_again(site, content, caplog):  # noqa: F811
    publish_site(site, other_users)
    app = create_app(site)
    link = published(site.workdir).folder / "current"
    with browser(app) as visitor:
        link.unlink()
        if content is None:
            link.write_text("")  # No link at all.
        else:
            link.symlink_to(content)
        logged(caplog, "the current version cannot be found")
        before = behind(visitor)
        eventually(lambda: behind(visitor) > before)
        # The version before goes on.
        eventually(lambda: visitor.get(f"{API}/ready").status_code == 200)
        link.unlink()
        link.symlink_to("1")
        until(app, 1)
        # It is said once, not at each look.
        assert caplog.text.count("the current version cannot be found") == 1
        eventually(lambda: stays(lambda: behind(visitor)))


@pytest.mark.slow
def test_a_fault_of_the_version_itself_is_final(site, caplog):  # noqa: F811
    app = create_app(site)
    with browser(app) as visitor:
        with published(site.workdir).publish() as new:
            (new / "codes.safetensors").write_text("nothing")
        logged(caplog, "2 cannot be served; the version before goes on")
        seconds = behind(visitor)
        eventually(lambda: behind(visitor) > seconds + 0.2)
        assert caplog.text.count("cannot be served") == 1


@pytest.mark.parametrize("is_lmdb", [False, True])
def test_a_version_that_is_removed_answers_until_another_is_taken_up(site, is_lmdb):  # noqa: F811
    images = Path(site.root, "images")
    if is_lmdb:
        build_lmdb(images / "291x291", images / "lmdb")
    publish_site(site)
    app = create_app(site)  # It follows nothing, and goes on with this one.
    try:
        visitor = browser(app)
        ok(visitor.post(f"{API}/visitors", json={}), 201)
        publish_site(site)
        assert published(site.workdir).remove_older() == 2
        ok(visitor.get(f"{API}/recommendations?k=4"))
        ok(visitor.post(f"{API}/compose", json={"fixed": {"top": 1}}))
        ok(visitor.get(f"{API}/items?category=top&q=a"))
        ok(visitor.get(f"{API}/items/top/3"))
        ok(visitor.get(f"{API}/items/top/3/similar"))
        for kind in ("image", "thumbnail"):
            assert visitor.get(f"{API}/items/top/3/{kind}").status_code == 200
    finally:
        app.state.service.close()


def test_pictures_that_are_gone_are_told_to_come_later(site, tmp_path):  # noqa: F811
    app = create_app(site)
    try:
        Path(site.root, "images", "291x291").rename(tmp_path / "elsewhere")
        answer = browser(app).get(f"{API}/items/top/3/image")
        assert "the pictures are not there now" in problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0
    finally:
        app.state.service.close()
