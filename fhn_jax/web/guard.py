"""Checks before every request: host, origin, size and rate."""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from fhn_jax.web.metrics import Metrics

MOST_BYTES = 10 * 2**20  # of an upload
MOST_JSON_BYTES = 64 * 2**10
_SAFE = ("GET", "HEAD", "OPTIONS")
# Addresses that are remembered for the rate limit.
_MOST_ADDRESSES = 100_000
# How much cheaper a picture is than anything else.
_PICTURE_COST = 0.1
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: "
        "blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI middleware: hosts, origins, sizes and rates; security headers; metrics.

    Args:
      app: handles the requests that are admitted.
      hosts: names that the server answers to, against DNS rebinding; "*" for any.
      rate: requests a second of one address, on average; 0 for any number.
      burst: requests that may come at once.
      metrics: record every request.
    """

    def __init__(
        self,
        app,
        *,
        hosts: Sequence[str],
        rate: float,
        burst: float,
        metrics: Metrics,
    ):
        self._app, self._hosts, self._metrics = app, frozenset(hosts), metrics
        self._limit = RateLimit(rate, burst) if rate else None

    async def __call__(self, scope, receive, send) -> None:
        """Handles a request (the ASGI interface)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def guarded_send(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                names = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in _HEADERS.items()
                        if name.lower().encode() not in names
                    ),
                ]
                if b"cache-control" not in names:
                    # Responses are private to a visitor.
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        try:
            headers = _headers(scope)
            refused = self._refusal(scope, headers)
            if refused is not None:
                await _answer(guarded_send, *refused)
                return
            limited = _Body(receive, _most_bytes(headers))
            try:
                await self._app(scope, limited, guarded_send)
            except _TooLarge:
                await _answer(guarded_send, *_too_large(limited.most))
        finally:
            route = getattr(scope.get("route"), "path", "none")
            seconds = time.perf_counter() - started
            self._metrics.request(scope["method"], route, status, seconds)

    def _refusal(self, scope, headers):
        """The status, detail and headers of an error, or None."""
        host = headers.get("host", "")
        if "*" not in self._hosts and _name(host) not in self._hosts:
            return (
                HTTPStatus.MISDIRECTED_REQUEST,
                f"this server does not answer to the name {_name(host)[:60]!r}; add it "
                "to --allowed-hosts",
                {},
            )
        if scope["method"] not in _SAFE and not _same_origin(headers):
            return (
                HTTPStatus.FORBIDDEN,
                "a change must come from this server's own page, or show a bearer "
                "token instead of a cookie",
                {},
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return HTTPStatus.BAD_REQUEST, "Content-Length is not a number", {}
        if int(length) > _most_bytes(headers):
            return _too_large(_most_bytes(headers))
        if self._limit is not None:
            address = (scope.get("client") or ("",))[0]
            picture = scope["path"].endswith(("/image", "/thumbnail"))
            wait = self._limit.take(address, _PICTURE_COST if picture else 1.0)
            if wait > 0:
                seconds = str(max(1, round(wait)))
                return (
                    HTTPStatus.TOO_MANY_REQUESTS,
                    f"too many requests; try again in {seconds} s",
                    {"Retry-After": seconds},
                )
        return None


class RateLimit:
    """A bucket of requests for each address, which fills again at a steady rate.

    Args:
      rate: a second.
      burst: what a bucket holds.
    """

    def __init__(self, rate: float, burst: float):
        self._rate, self._burst = rate, max(burst, 1.0)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, address: str, cost: float = 1.0, now: float | None = None) -> float:
        """Takes a request out of a bucket.

        Args:
          cost: how many requests it counts for.
          now: seconds of a steady clock.
        Returns:
          0, or seconds to wait if there is none left.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            left, before = self._buckets.pop(address, (self._burst, now))
            left = min(self._burst, left + (now - before) * self._rate)
            admitted = left >= cost
            self._buckets[address] = (left - cost if admitted else left, now)
            if len(self._buckets) > _MOST_ADDRESSES:
                self._buckets.popitem(last=False)
        return 0.0 if admitted else (cost - left) / self._rate


class _TooLarge(Exception):
    pass


class _Body:
    """Counts the bytes of a body, whatever its Content-Length says."""

    def __init__(self, receive, most: int):
        self._receive, self.most, self._count = receive, most, 0

    async def __call__(self):
        message = await self._receive()
        self._count += len(message.get("body", b""))
        if self._count > self.most:
            raise _TooLarge
        return message


def _headers(scope) -> dict[str, str]:
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
    }


def _most_bytes(headers) -> int:
    is_form = headers.get("content-type", "").startswith("multipart/form-data")
    # A form is a little more than the file in it.
    return MOST_BYTES + 64 * 2**10 if is_form else MOST_JSON_BYTES


def _too_large(most: int):
    return (
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body has too many bytes; expected at most {most:,}",
        {},
    )


def _name(host: str) -> str:
    """A host without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _same_origin(headers) -> bool:
    """Whether a change comes from our own page, or from no page at all.

    Browsers tell where a request comes from. A client that does not is a program, which
    must send its token itself: a cookie could be sent without its intent.
    """
    origin = headers.get("origin")
    if origin is not None:
        try:
            return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
        except ValueError:
            return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    return "cookie" not in headers


async def _answer(send, status: HTTPStatus, detail: str, more) -> None:
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "errors": [],
    }
    data = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(data)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in more.items()),
    ]
    await send(
        {"type": "http.response.start", "status": status.value, "headers": headers}
    )
    await send({"type": "http.response.body", "body": data})
