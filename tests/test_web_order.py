"""In which order a request is looked at: its body comes last."""

import asyncio
import io
import json

import anyio.to_thread
import pytest
from PIL import Image
from web_site import API, problem, program

from fhn_jax.web.guard import MOST_JSON_BYTES


@pytest.fixture
def token(app):
    return program(app).post(f"{API}/visitors", json={}).json()["token"]


class Request:
    """A request, given to the application without a server between."""

    def __init__(self, app, path, token, kind="application/json"):
        self.app, self.sent = app, []
        headers = {
            "host": "localhost",
            "authorization": f"Bearer {token}",
            "content-type": kind,
            "content-length": "10",
        }
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": API + path,
            "raw_path": (API + path).encode(),
            "query_string": b"",
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
            "scheme": "http",
            "http_version": "1.1",
        }

    async def send(self, message):
        self.sent.append(message)

    async def handled(self, receive):
        """The status and the headers of the answer."""
        await self.app(self.scope, receive, self.send)
        start = self.sent[0]
        return start["status"], dict(start["headers"])


async def body_that_nobody_may_read():
    raise AssertionError("the body was read")


@pytest.mark.parametrize("path", ["/feedback", "/compose", "/wardrobe/photos"])
def test_the_body_of_somebody_unknown_is_not_read(app, path):
    request = Request(app, path, "unknown")
    status, headers = asyncio.run(request.handled(body_that_nobody_may_read))
    assert status == 401
    # What the client still sends is not waited for either.
    assert headers[b"connection"] == b"close"


def test_what_has_no_body_is_answered_in_one_thread(app, token, monkeypatch):
    started, run = [], anyio.to_thread.run_sync

    async def counted(function, *args, **options):
        started.append(function)
        return await run(function, *args, **options)

    monkeypatch.setattr(anyio.to_thread, "run_sync", counted)
    client = program(app, token)
    for path in ("visitors/me", "recommendations", "wardrobe"):
        started.clear()
        assert client.get(f"{API}/{path}").status_code == 200
        assert len(started) == 1


def test_a_visitor_has_one_upload_under_way(app, token):
    kind = "multipart/form-data; boundary=x"

    async def both():
        reading, go_on = asyncio.Event(), asyncio.Event()

        async def slow():
            reading.set()
            await go_on.wait()
            return {"type": "http.request", "body": b"--x--\r\n"}

        first = asyncio.create_task(
            Request(app, "/wardrobe/photos", token, kind).handled(slow)
        )
        await reading.wait()
        second = Request(app, "/wardrobe/photos", token, kind)
        refused = await second.handled(body_that_nobody_may_read)
        go_on.set()
        return (await first)[0], refused[0], json.loads(second.sent[1]["body"])

    first, second, about = asyncio.run(both())
    assert (first, second) == (422, 429)
    assert "a photo of yours is under way" in about["detail"]
    # And then the next one.
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    files = {"photo": file.getvalue()}
    answer = program(app, token).post(
        f"{API}/wardrobe/photos", data={"category": "top"}, files=files
    )
    assert "there is no encoder" in problem(answer, 404)


def test_a_body_in_pieces_has_the_same_limit(app, token):
    def pieces():
        yield b'{"liked": true, "items": {"'
        for _ in range(MOST_JSON_BYTES // 1024 + 1):
            yield b"x" * 1024

    answer = program(app, token).post(
        f"{API}/feedback",
        content=pieces(),
        headers={"content-type": "application/json"},
    )
    assert "too many bytes" in problem(answer, 413)
