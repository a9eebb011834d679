"""What is refused before anything is done."""

import asyncio
import json
import logging

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from fhn_jax.web.guard import (
    MOST_BYTES,
    MOST_HEADER_BYTES,
    MOST_JSON_BYTES,
    UPLOAD,
    Guard,
)
from fhn_jax.web.limits import RateLimit
from fhn_jax.web.metrics import Metrics


async def answering(scope, receive, send):
    """Says how many bytes came."""
    count, more = 0, True
    while more:
        message = await receive()
        count += len(message.get("body", b""))
        more = message.get("more_body", False)
    await PlainTextResponse(str(count))(scope, receive, send)


def client(app=answering, *, hosts=("localhost",), rate=0.0, burst=1.0, **headers):
    guard = Guard(
        app, hosts=hosts, rate=rate, burst=burst, in_flight=9, metrics=Metrics()
    )
    return TestClient(guard, base_url="http://localhost", headers=headers)


def problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    about = answer.json()
    assert about["status"] == status and about["title"]
    return about["detail"]


def test_what_is_in_order_goes_through():
    answer = client().post("/", content=b"12345")
    assert answer.status_code == 200 and answer.text == "5"


def test_answers_have_headers_that_keep_a_page_safe():
    for answer in (client().get("/"), client(hosts=("other",)).get("/")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "*" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "[::"])
def test_other_names_are_refused(host):
    assert "does not answer to" in problem(
        client().get("/", headers={"host": host}), 421
    )


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "localhost:1"])
def test_its_own_name_is_answered_with_any_port(host):
    assert client().get("/", headers={"host": host}).status_code == 200


def test_any_name_is_answered_if_told_so():
    answer = client(hosts=("*",)).get("/", headers={"host": "shop.example"})
    assert answer.status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:9999"},
        {"origin": "null"},
        {"origin": "http://[::"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"cookie": "visitor=abc"},
        {"origin": "http://evil.example", "authorization": "Bearer x"},
    ],
)
def test_a_change_from_another_site_is_refused(method, headers):
    answer = client().request(method, "/", headers=headers)
    assert "from this server's own page" in problem(answer, 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://localhost", "cookie": "visitor=abc"},
        {"sec-fetch-site": "same-origin", "cookie": "visitor=abc"},
        {"authorization": "Bearer abc"},
        {},
    ],
)
def test_a_change_from_the_own_page_or_a_program_is_admitted(headers):
    assert client().post("/", headers=headers).status_code == 200


def test_reading_is_admitted_from_anywhere():
    headers = {"origin": "http://evil.example", "cookie": "visitor=abc"}
    assert client().get("/", headers=headers).status_code == 200


def test_a_body_that_is_said_to_be_too_large_is_refused():
    answer = client().post("/", content=b"x" * (MOST_JSON_BYTES + 1))
    assert f"at most {MOST_JSON_BYTES:,}" in problem(answer, 413)
    form = {"content-type": "multipart/form-data; boundary=x"}
    inside = client().post(UPLOAD, content=b"x" * (MOST_JSON_BYTES + 1), headers=form)
    assert inside.status_code == 200
    answer = client().post(UPLOAD, content=b"x" * (MOST_BYTES + 2**17), headers=form)
    problem(answer, 413)


@pytest.mark.parametrize("announced", [True, False])
def test_only_an_upload_may_be_as_large_as_a_form(announced):
    content = b"x" * (MOST_JSON_BYTES + 1)
    form, json = "multipart/form-data; boundary=x", "application/json"
    for path, kind in (("/api/v1/visitors", form), ("/", form), (UPLOAD, json)):
        answer = client().post(
            path,
            content=content if announced else iter([content]),
            headers={"content-type": kind},
        )
        assert f"at most {MOST_JSON_BYTES:,}" in problem(answer, 413), path


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("content-type", ("application/json", "multipart/form-data; boundary=x")),
        ("origin", ("http://evil.example", "http://localhost")),
        ("host", ("evil.example", "localhost")),
        ("sec-fetch-site", ("cross-site", "same-origin")),
    ],
)
def test_a_header_that_decides_comes_once(name, values):
    one = client()

    async def twice(scope, receive, send):
        """The guard, asked as a client does that sends a header twice."""
        others = [pair for pair in scope["headers"] if pair[0] != name.encode()]
        given = [(name.encode(), value.encode()) for value in values]
        await one.app(scope | {"headers": [*others, *given]}, receive, send)

    answer = TestClient(twice, base_url="http://localhost").post("/", content=b"12345")
    assert f"{name.title()} comes more than once" in problem(answer, 400)


def test_headers_have_a_size():
    half = "x" * (MOST_HEADER_BYTES // 2)
    one = client(a=half)
    assert one.get("/").status_code == 200
    for answer in (one.get("/", headers={"b": half}), one.get(f"/{half}?q=1")):
        assert f"at most {MOST_HEADER_BYTES:,}" in problem(answer, 431)


def test_the_upload_is_where_the_guard_looks_for_it(app):
    assert app.url_path_for("add_photo") == UPLOAD


def test_a_body_that_turns_out_too_large_is_refused():
    def pieces():
        for _ in range(MOST_JSON_BYTES // 1024 + 1):
            yield b"x" * 1024

    answer = client().post("/", content=pieces())  # no Content-Length
    assert "content-length" not in answer.request.headers
    assert "too many bytes" in problem(answer, 413)


@pytest.mark.parametrize("length", ["-1", "many", "1e3", ""])
def test_a_length_that_is_no_number_is_refused(length):
    answer = client().post("/", headers={"content-length": length})
    assert "is not a number" in problem(answer, 400)


def test_too_many_requests_are_told_when_to_come_again():
    limited = client(rate=0.5, burst=3.0)
    assert [limited.get("/").status_code for _ in range(3)] == [200] * 3
    answer = limited.get("/")
    assert "too many requests" in problem(answer, 429)
    assert answer.headers["retry-after"] == "2"


def test_pictures_count_for_less():
    limited = client(rate=0.001, burst=3.0)
    for number in range(30):
        answer = limited.get("/api/v1/items/top/3/thumbnail")
        assert answer.status_code == 200, number
    assert limited.get("/api/v1/items/top/3/thumbnail").status_code == 429


def test_a_bucket_fills_again_and_holds_no_more_than_its_size():
    limit = RateLimit(rate=2.0, burst=4.0)
    assert [limit.take("a", now=0.0) for _ in range(4)] == [0] * 4
    assert limit.take("a", now=0.0) == pytest.approx(0.5)
    assert limit.take("b", now=0.0) == 0  # another address
    assert limit.take("a", now=0.5) == 0
    assert limit.take("a", now=0.5) > 0
    assert [limit.take("a", now=1000.0) > 0 for _ in range(5)] == [False] * 4 + [True]


def test_a_body_is_too_large_whatever_the_app_makes_of_it():
    async def parsing(scope, receive, send):
        try:
            await answering(scope, receive, send)
        except Exception:
            await PlainTextResponse("cannot be parsed", 400)(scope, receive, send)

    def pieces():
        for _ in range(MOST_JSON_BYTES // 1024 + 1):
            yield b"x" * 1024

    answer = client(parsing).post("/", content=pieces())
    assert "too many bytes" in problem(answer, 413)
    assert answer.headers["connection"] == "close"


def test_an_address_has_a_number_of_requests_in_work():
    inside = []

    async def asking(scope, receive, send):
        if len(inside) < 9:
            inside.append(await asyncio.to_thread(one.get, "/"))
        await answering(scope, receive, send)

    one = client(asking)
    assert one.get("/").status_code == 200
    refused = [answer for answer in inside if answer.status_code != 200]
    assert "of this address are being answered" in problem(*refused, 429)
    assert refused[0].headers["retry-after"] == "1"


def test_the_head_of_a_response_is_that_of_the_response():
    get, head = client().get("/"), client().head("/")
    assert head.status_code == 200 and head.content == b""
    own = "x-request-id"
    assert {k: v for k, v in head.headers.items() if k != own} == {
        k: v for k, v in get.headers.items() if k != own
    }


@pytest.mark.parametrize("path", ["/health", "/ready", "/api/v1/ready"])
def test_a_probe_may_ask_by_address(path):
    here = {"host": "10.1.2.3:8000"}
    assert client().get(path, headers=here).status_code == 200
    assert client().head(path, headers=here).status_code == 200
    problem(client().post(path, headers=here), 421)
    problem(client().get(path + "/more", headers=here), 421)
    problem(client().get("/metrics", headers=here), 421)


def test_requests_have_ids_and_lines_in_the_log(caplog):
    async def failing(scope, receive, send):
        raise RuntimeError("secret of the machine")

    given = {"x-request-id": "abc-1"}
    with caplog.at_level(logging.INFO, "fhn_jax.access"):
        answer = client(failing).get("/a?q=private", headers=given)
        odd = client().get("/", headers={"x-request-id": "a\tb" * 90})
    assert "secret" not in answer.text and "the server failed" in problem(answer, 500)
    assert answer.headers["x-request-id"] == "abc-1"
    assert len(odd.headers["x-request-id"]) == 32
    error, first, second = caplog.records
    assert error.exc_info and "request abc-1" in error.getMessage()
    line = json.loads(first.getMessage())
    assert line.pop("at").endswith("Z") and line.pop("seconds") >= 0
    assert line == {
        "id": "abc-1",
        "client": "testclient",
        "method": "GET",
        "path": "/a",
        "status": 500,
        "bytes": len(answer.content),
    }
    assert json.loads(second.getMessage())["id"] == odd.headers["x-request-id"]


def test_requests_are_counted_by_route_and_status():
    metrics = Metrics()
    guard = Guard(
        answering,
        hosts=("localhost",),
        rate=0.0,
        burst=1.0,
        in_flight=9,
        metrics=metrics,
    )
    one = TestClient(guard, base_url="http://localhost")
    one.get("/anything/at/all")
    one.request("WEIRD", "/")
    one.get("/", headers={"host": "evil.example"})
    text = metrics.text().decode()
    assert 'method="GET",route="none",status="200"} 1.0' in text
    assert 'method="other",route="none",status="200"} 1.0' in text
    assert 'status="421"' in text and "anything" not in text
