"""What is refused before anything is done."""

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from fhn_jax.web.guard import MOST_BYTES, MOST_JSON_BYTES, Guard, RateLimit
from fhn_jax.web.metrics import Metrics


async def answering(scope, receive, send):
    """Says how many bytes came."""
    count, more = 0, True
    while more:
        message = await receive()
        count += len(message.get("body", b""))
        more = message.get("more_body", False)
    await PlainTextResponse(str(count))(scope, receive, send)


def client(*, hosts=("localhost",), rate=0.0, burst=1.0, **headers):
    guard = Guard(answering, hosts=hosts, rate=rate, burst=burst, metrics=Metrics())
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
    inside = client().post("/", content=b"x" * (MOST_JSON_BYTES + 1), headers=form)
    assert inside.status_code == 200
    answer = client().post("/", content=b"x" * (MOST_BYTES + 2**17), headers=form)
    problem(answer, 413)


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


def test_requests_are_counted_by_route_and_status():
    metrics = Metrics()
    guard = Guard(answering, hosts=("localhost",), rate=0.0, burst=1.0, metrics=metrics)
    one = TestClient(guard, base_url="http://localhost")
    one.get("/anything/at/all")
    one.request("WEIRD", "/")
    one.get("/", headers={"host": "evil.example"})
    text = metrics.text().decode()
    assert 'method="GET",route="none",status="200"} 1.0' in text
    assert 'method="other",route="none",status="200"} 1.0' in text
    assert 'status="421"' in text and "anything" not in text
