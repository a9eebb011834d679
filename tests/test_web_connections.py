"""Clients that are slow, silent or many: what they cost the others."""

import asyncio
import contextlib
import socket
import threading

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from fhn_jax.errors import InputError
from fhn_jax.web import guard
from fhn_jax.web.connections import BoundedProtocol, Limits
from fhn_jax.web.guard import Guard
from fhn_jax.web.limits import InFlight, is_in, networks
from fhn_jax.web.metrics import Metrics

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
NEVER = 3600.0


class App:
    """Answers at once, or at /wait when it is told to."""

    def __init__(self):
        self.go_on = threading.Event()
        self.waiting = threading.Semaphore(0)

    async def __call__(self, scope, receive, send):
        more = True
        while more:
            more = (await receive()).get("more_body", False)
        if scope["path"] == "/wait":
            self.waiting.release()
            await asyncio.to_thread(self.go_on.wait)
        await PlainTextResponse("answer")(scope, receive, send)


@contextlib.contextmanager
def serving(**limits):
    """A server with some limits in a thread: its app, and a function to connect."""
    values = {"header_s": NEVER, "keep_alive_s": NEVER} | limits

    class Protocol(BoundedProtocol):
        limits = Limits(**values)
        _all, _by_address = {}, {}

    app = App()
    around = Guard(
        app, hosts=("localhost",), rate=0.0, burst=1.0, in_flight=99, metrics=Metrics()
    )
    config = uvicorn.Config(
        around, http=Protocol, log_level="error", lifespan="off", ws="none"
    )
    server = uvicorn.Server(config)
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()

        def connect(sent=b"", source="127.0.0.1"):
            client = socket.create_connection(
                listening.getsockname(), timeout=30, source_address=(source, 0)
            )
            stack.enter_context(client)
            client.sendall(sent)
            return client

        try:
            yield app, connect
        finally:
            app.go_on.set()
            server.should_exit = server.force_exit = True
            thread.join()


def answer(client):
    """The status of the next response; None if the connection was closed."""
    with contextlib.suppress(ConnectionError):
        data = client.recv(4096)
        return int(data.split()[1]) if data else None
    return None


@pytest.mark.parametrize("sent", [b"", REQUEST[:20]])
def test_a_request_that_does_not_come_is_not_waited_for(sent):
    with serving(header_s=0.1) as (_, connect):
        assert answer(connect(sent)) is None


@pytest.mark.parametrize("more", [b"", REQUEST[:20]])
def test_after_a_response_the_next_request_is_not_waited_for_either(more):
    with serving(keep_alive_s=0.1) as (_, connect):
        client = connect(REQUEST)
        assert answer(client) == 200
        client.sendall(more)
        assert answer(client) is None


def test_a_connection_that_is_used_stays_open():
    with serving() as (_, connect):
        client = connect()
        for _ in range(3):
            client.sendall(REQUEST)
            assert answer(client) == 200


def test_a_body_that_does_not_come_is_an_error(monkeypatch):
    monkeypatch.setattr(guard, "JSON_S", 0.1)
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345"
    with serving() as (_, connect):
        client = connect(head)
        assert answer(client) == 408
        assert answer(client) is None


@pytest.mark.parametrize("pieces", [1, 70])
def test_headers_that_are_too_large_are_an_error_in_one_piece_or_many(pieces):
    sent = REQUEST[:-2] + b"X: " + b"x" * 70_000 + b"\r\n\r\n"
    size = -(-len(sent) // pieces)
    with serving() as (_, connect):
        client = connect()
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(sent), size):
                client.sendall(sent[start : start + size])
        # None: what was sent after the refusal made the system drop it.
        assert answer(client) in (400, 431, None)


def test_a_new_connection_takes_the_place_of_the_one_that_is_silent_longest():
    with serving(per_address=3) as (_, connect):
        silent, half, used = connect(), connect(REQUEST[:20]), connect(REQUEST)
        assert answer(used) == 200
        assert answer(connect(REQUEST)) == 200
        assert answer(silent) is None
        assert answer(connect(REQUEST)) == 200
        assert answer(half) is None
        used.sendall(REQUEST)
        assert answer(used) == 200


def test_a_connection_that_waits_for_the_server_is_not_closed():
    with serving(per_address=2) as (app, connect):
        at_work = [connect(REQUEST.replace(b"/ ", b"/wait ", 1)) for _ in range(2)]
        for _ in at_work:
            assert app.waiting.acquire(timeout=30)
        assert answer(connect(REQUEST)) is None
        assert answer(connect(REQUEST, source="127.0.0.2")) == 200
        app.go_on.set()
        assert [answer(client) for client in at_work] == [200, 200]


def test_half_a_body_keeps_nobody_out():
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345"
    with serving(per_address=2) as (_, connect):
        first, _ = connect(head), connect(head)
        assert answer(connect(REQUEST)) == 200
        assert answer(first) is None


def test_all_addresses_together_have_a_limit():
    with serving(total=2) as (_, connect):
        silent = connect(source="127.0.0.2")
        others = [connect(REQUEST), connect(REQUEST, source="127.0.0.3")]
        assert [answer(each) for each in others] == [200, 200]
        assert answer(silent) is None


def test_a_trusted_proxy_has_as_many_connections_as_it_needs():
    with serving(per_address=1, trusted=networks(["127.0.0.0/8"])) as (_, connect):
        clients = [connect() for _ in range(5)]
        for client in clients:
            client.sendall(REQUEST)
        assert [answer(client) for client in clients] == [200] * 5


def test_networks_are_recognised():
    some = networks(["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"])
    inside = "10.1.2.3", "2001:db8:1::1", "192.0.2.1", "::ffff:10.0.0.1"
    assert [is_in(each, some) for each in inside] == [True] * 4
    outside = "11.1.2.3", "2001:db9::1", "192.0.2.2", "", "proxy"
    assert [is_in(each, some) for each in outside] == [False] * 5
    with pytest.raises(InputError, match="--trusted-proxies: 'proxy' does not"):
        networks(["proxy"])


def test_each_key_has_a_number_of_things_going_on():
    uploads = InFlight(2)
    assert [uploads.begin("a") for _ in range(3)] == [True, True, False]
    assert uploads.begin("b")
    uploads.end("a")
    assert uploads.begin("a")
