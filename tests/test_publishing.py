"""Versions are published, taken up by a running server, and gone back to."""

import dataclasses
import threading

import numpy as np
import pytest
from web_site import API, browser, items_of, make_site, ok, recommended

from fhn_jax import files
from fhn_jax.codes import Codes
from fhn_jax.recommender.publishing import publish, published
from fhn_jax.web import following
from fhn_jax.web.app import create_app


def test_versions_are_numbered_and_current_is_swapped(tmp_path):
    versions = files.Versions(tmp_path / "published")
    assert versions.current is None and versions.numbers == []
    with pytest.raises(ValueError, match="no version before the current one"):
        versions.rollback()
    for number in range(1, 9):
        with versions.publish() as new:
            (new / "text").write_text(str(number))
    assert versions.numbers == [4, 5, 6, 7, 8]
    assert (versions.current / "text").read_text() == "8"
    with pytest.raises(KeyError), versions.publish() as new:
        raise KeyError
    assert versions.numbers[-1] == 8 and versions.current.name == "8"
    assert versions.rollback() == 7 and versions.rollback() == 6
    with versions.publish() as new:
        (new / "text").write_text("9")
    assert versions.current.name == "9" and versions.rollback() == 8
    # A link that is being replaced is never absent.
    gone = []
    stop = threading.Event()

    def look():
        while not stop.is_set():
            if versions.current is None or not (versions.current / "text").is_file():
                gone.append(1)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(20):
        versions._point_to(7)
        versions._point_to(8)
    stop.set()
    thread.join()
    assert not gone


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A run of random codes, published once, and how to serve it."""
    monkeypatch.setattr(following, "_LOOK_S", 0.02)
    settings = make_site(tmp_path)
    publish_site(settings)
    return settings


def publish_site(settings, change=None):
    """Publishes the run, with changed codes."""
    path = f"{settings.workdir}/codes.safetensors"
    if change is not None:
        codes = Codes.load(path)
        dataclasses.replace(codes, lineage=codes.identity, **change(codes)).save(path)
    workdir = settings.workdir
    return publish(workdir, workdir, settings.root, settings.variant)


def other_users(codes):
    """Other users of the same items."""
    rng = np.random.default_rng(codes.user_latents.size)
    latents = rng.permutation(codes.user_latents)
    return {"user_latents": latents}


def until(app, version):
    """Waits until the server has taken up a version."""
    deadline = threading.Event()
    for _ in range(3000):
        if app.state.service.version == version:
            return
        deadline.wait(0.02)
    raise AssertionError(f"version {app.state.service.version} is served")


@pytest.mark.slow
def test_a_running_server_takes_up_versions_and_loses_no_request(site):
    app = create_app(site)
    failed, asked, stop = [], [], threading.Event()

    with browser(app) as visitor:
        ok(visitor.post(f"{API}/visitors", json={}), 201)
        first = recommended(visitor)
        liked = {"liked": True, "items": items_of(first[0])}

        def ask(again):
            while not stop.is_set():
                answers = [
                    visitor.get(f"{API}/recommendations", params={"k": 4}),
                    again(),
                ]
                asked.append(1)
                failed.extend(
                    a.text for a in answers if a.status_code not in (200, 201)
                )

        requests = (
            lambda: visitor.post(f"{API}/feedback", json=liked),
            lambda: visitor.get(f"{API}/visitors/me/feedback"),
        )
        threads = [threading.Thread(target=ask, args=(each,)) for each in requests]
        for thread in threads:
            thread.start()
        for version in (2, 3):
            publish_site(site, other_users)
            until(app, version)
        assert published(site.workdir).rollback() == 2
        until(app, 2)
        stop.set()
        for thread in threads:
            thread.join()
        assert asked and not failed
        # What was judged before counts in every version.
        history = ok(visitor.get(f"{API}/visitors/me/feedback"))["feedback"]
        assert len(history) == 1 and history[0]["liked"]


@pytest.mark.slow
def test_a_version_that_does_not_load_is_left_alone(site):
    app = create_app(site)
    with browser(app) as visitor:
        ok(visitor.post(f"{API}/visitors", json={}), 201)
        bad = publish_site(site, other_users)
        until(app, 2)
        with published(site.workdir).publish() as new:
            (new / "codes.safetensors").write_text("nothing")
        others = threading.Event()
        others.wait(0.2)
        ok(visitor.get(f"{API}/recommendations", params={"k": 2}))
        assert app.state.service.version == 2 and bad.name == "2"
        # A server that starts says how to go back.
        with pytest.raises(ValueError, match="or go back with `fhn-jax rollback"):
            create_app(site)
        publish_site(site, other_users)
        until(app, 4)


def test_what_is_published_stays_what_it_is(site, tmp_path):
    before = (published(site.workdir).current / "codes.safetensors").read_bytes()
    publish_site(site, other_users)
    first = published(site.workdir).folder / "1"
    assert (first / "codes.safetensors").read_bytes() == before
    # Bad data change nothing.
    (tmp_path / "run" / "codes.safetensors").write_text("nothing")
    with pytest.raises(ValueError, match="codes.safetensors"):
        publish_site(site)
    assert published(site.workdir).current.name == "2"
    with pytest.raises(ValueError, match="published versions, each with an index"):
        create_app(dataclasses.replace(site, index=str(tmp_path)))
