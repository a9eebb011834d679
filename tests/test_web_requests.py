"""The API: requests that are refused, and failures of the server."""

import pytest
from web_site import API, ORIGIN, browser, ok, problem, program

from fhn_jax.web.app import create_app


@pytest.fixture
def visitor(app):
    """A new visitor, by token."""
    token = program(app).post(f"{API}/visitors", json={}).json()["token"]
    return program(app, token)


OUTFIT = {"top": 1, "bottom": 2, "shoe": 3}
BAD = [
    ("POST", "feedback", {"items": OUTFIT}, 422, "liked"),
    ("POST", "feedback", {"liked": True}, 422, "give either items"),
    (
        "POST",
        "feedback",
        {"liked": True, "items": OUTFIT, "item": {"category": "top", "item": 1}},
        422,
        "give either items",
    ),
    ("POST", "feedback", {"liked": "yes", "items": OUTFIT}, 422, "liked"),
    ("POST", "feedback", {"liked": 1, "items": OUTFIT}, 422, "liked"),
    ("POST", "feedback", {"liked": True, "items": OUTFIT, "x": 1}, 422, "x"),
    (
        "POST",
        "feedback",
        {"liked": True, "items": {"top": 1}},
        422,
        "slots top, bottom",
    ),
    ("POST", "feedback", {"liked": True, "items": OUTFIT | {"hat": 1}}, 422, "slots"),
    ("POST", "feedback", {"liked": True, "items": OUTFIT | {"top": 99}}, 404, "top 99"),
    ("POST", "feedback", {"liked": True, "items": OUTFIT | {"top": -1}}, 422, "top"),
    ("POST", "feedback", {"liked": True, "items": OUTFIT | {"top": 1.5}}, 422, "top"),
    ("POST", "feedback", {"liked": True, "items": OUTFIT | {"top": 2**70}}, 422, "top"),
    (
        "POST",
        "feedback",
        {"liked": True, "item": {"category": "hat", "item": 1}},
        404,
        "category 'hat' is unknown; expected one of top, bottom, shoe",
    ),
    ("POST", "feedback", [1, 2], 422, "body"),
    ("POST", "visitors", {"user": "3"}, 404, "'3' is not known to the shop"),
    ("POST", "visitors", {"user": ["3"]}, 422, "user"),
    ("POST", "visitors", {"user": -1}, 422, "user"),
    ("POST", "explain", {"items": {}}, 422, "slots"),
    ("POST", "compose", {"k": 0}, 422, "k"),
    ("POST", "compose", {"k": 10**9}, 422, "k"),
    ("POST", "compose", {"fixed": {"hat": 1}}, 422, "category 'hat' is unknown"),
    ("POST", "compose", {"fixed": {"top": 99}}, 422, "top 99 is not among"),
    ("POST", "compose", {"fixed": {"top": [1, 2]}}, 422, "2 items are fixed in top"),
    ("POST", "compose", {"candidates": {"top": []}}, 422, "candidates"),
    ("POST", "compose", {"candidates": {"top": [1] * 2000}}, 422, "candidates"),
    ("POST", "compose", {"at_most": {"item": 0}}, 422, "at_most"),
    ("POST", "compose", {"wardrobe": True}, 409, "the wardrobe is empty"),
    ("POST", "compose", {"wardrobe": True, "candidates": {"top": [1]}}, 422, "both"),
    ("GET", "recommendations?k=0", None, 422, "k"),
    ("GET", "recommendations?k=1000000", None, 422, "k"),
    ("GET", "recommendations?k=many", None, 422, "k"),
    ("GET", "recommendations?explore=2", None, 422, "explore"),
    ("GET", "recommendations?explore=nan", None, 422, "explore"),
    ("GET", "recommendations?page=-1", None, 422, "page"),
    ("GET", "items", None, 422, "category"),
    ("GET", "items?category=hat", None, 404, "category 'hat' is unknown"),
    ("GET", "items?category=top&limit=9999", None, 422, "limit"),
    ("GET", "items/top/99/similar", None, 404, "top 99 is unknown; expected 0 to"),
    ("GET", "items/top/99/image", None, 404, "top 99 is unknown"),
    ("GET", "items/top/-1/image", None, 422, "item"),
    ("GET", "items/top/%2e%2e%2f%2e%2e%2fetc%2fpasswd/image", None, 404, "Not Found"),
    ("GET", "items/..%2f..%2fetc/1/image", None, 404, "Not Found"),
    ("GET", "items/%3Cb%3E/1/image", None, 404, "category '<b>' is unknown"),
    ("PUT", "wardrobe/top/99", None, 404, "top 99 is unknown"),
    ("PUT", "wardrobe/hat/1", None, 404, "category 'hat' is unknown"),
    ("DELETE", "wardrobe/top/1", None, 404, "top 1 is not in the wardrobe"),
    ("GET", "nothing", None, 404, "Not Found"),
    ("POST", "catalogue", {}, 405, "Method Not Allowed"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "text"), BAD)
def test_bad_requests_are_refused_and_change_nothing(
    visitor, method, path, body, status, text
):
    answer = visitor.request(method, f"{API}/{path}", json=body)
    assert text in problem(answer, status)
    me = ok(visitor.get(f"{API}/visitors/me"))
    assert (me["likes"], me["dislikes"]) == (0, 0)
    assert ok(visitor.get(f"{API}/wardrobe"))["items"] == []


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"\xff\xfe", 422),
        (b"[" * 10000, 400),
        (b'{"liked": NaN}', 422),
        (b"nul", 422),
    ],
)
def test_a_body_that_is_no_json_is_refused(visitor, content, status):
    headers = {"content-type": "application/json"}
    answer = visitor.post(f"{API}/feedback", content=content, headers=headers)
    problem(answer, status)


def test_a_click_on_another_site_does_nothing(app):
    client = browser(app)
    ok(client.post(f"{API}/visitors", json={}), 201)
    client.headers["origin"] = "http://evil.example"
    request = {"items": OUTFIT, "liked": True}
    problem(client.post(f"{API}/feedback", json=request), 403)
    form = client.post(
        f"{API}/feedback", data={"liked": "true"}, headers={"origin": "null"}
    )
    problem(form, 403)
    client.headers["origin"] = ORIGIN
    assert ok(client.get(f"{API}/visitors/me"))["likes"] == 0


def test_an_error_of_ours_is_said_without_its_inside(app, visitor, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("secret of the machine")

    monkeypatch.setattr(app.state.service.recommender, "recommend", fail)
    answer = visitor.get(f"{API}/recommendations")
    assert "the server failed" in problem(answer, 500)
    assert "secret" not in answer.text
    assert "secret of the machine" in caplog.text


@pytest.mark.slow
def test_a_server_is_ready_when_searching_and_composing_were_tried(
    settings, monkeypatch, caplog
):
    # Without its lifespan nothing is tried unless the test does.
    app = create_app(settings)
    client, service = program(app), app.state.service
    text = problem(client.get("/ready"), 503)
    assert "search and composition are being tried" in text
    tried = []
    composing = service.recommender.prepare_composing

    def fail():
        tried.append(problem(client.get("/ready"), 503))
        raise RuntimeError("no compiler")

    monkeypatch.setattr(service.recommender, "prepare_composing", fail)
    service.prepare()
    assert tried == [text] and "no compiler" in caplog.text
    assert "recommending fails" in problem(client.get("/ready"), 503)
    monkeypatch.setattr(service.recommender, "prepare_composing", composing)
    service.prepare()
    assert ok(client.get("/ready")) == {"status": "ok"}
    service.close()


@pytest.mark.slow
def test_a_database_that_is_gone_is_not_ready(app, monkeypatch):
    client = program(app)
    app.state.service.prepare()
    assert (
        ok(client.get("/ready")) == ok(client.get(f"{API}/ready")) == {"status": "ok"}
    )
    engine = app.state.service.state._database._engine

    def gone(*_):
        from sqlalchemy.exc import OperationalError

        raise OperationalError("select", {}, Exception("gone"))

    monkeypatch.setattr(type(engine), "connect", gone)
    assert "database does not answer" in problem(client.get("/ready"), 503)
    assert ok(client.get("/health")) == {"status": "ok"}


@pytest.mark.slow
def test_a_database_that_fails_is_503_until_it_works_again(app, visitor, caplog):
    app.state.service.prepare()
    path = app.state.service.state._database.path
    away = path.rename(path.with_suffix(".away"))
    caplog.clear()
    for _ in range(3):
        answer = visitor.get(f"{API}/recommendations")
        assert "database cannot be used" in problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0
        assert str(path) not in answer.text
    assert len(caplog.records) == 1 and "Traceback" not in caplog.text
    problem(visitor.get("/ready"), 503)
    away.rename(path)
    ok(visitor.get("/ready"))
    ok(visitor.get(f"{API}/recommendations"))
