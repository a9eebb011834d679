"""What happens around every request: checks before it, headers and records after it."""

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

from fhn_jax.web.limits import InFlight, RateLimit, address_key
from fhn_jax.web.metrics import Metrics

MOST_BYTES = 10 * 2**20  # of an upload
MOST_JSON_BYTES = 64 * 2**10
MOST_HEADER_BYTES = 16 * 2**10  # with the request line
# Where a body may be a form.
UPLOAD = "/api/v1/wardrobe/photos"
# Seconds until the whole body has come; an upload by telephone takes a while.
UPLOAD_S = 120.0
JSON_S = 20.0
_SAFE = ("GET", "HEAD", "OPTIONS")
# Probes ask by address, and nothing private is said there.
_PROBES = re.compile(r"(/api/v1)?/(health|ready)")
# How much cheaper a picture is than anything else.
_PICTURE_COST = 0.1
# Headers that say what is decided here; a second one could say something else to others.
_ONCE = tuple(
    b"authorization content-length content-type host origin sec-fetch-site".split()
)
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
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
_log = logging.getLogger("fhn_jax.web")
_access = logging.getLogger("fhn_jax.access")


class _Refusal(NamedTuple):
    status: HTTPStatus
    detail: str
    headers: Mapping[str, str] = {}


class _Bounds(NamedTuple):
    """Of a body: bytes, and seconds until it has come."""

    size: int
    seconds: float


class Guard:
    """ASGI middleware around every request.

    It checks host, origin, rate, and size and time of the body; adds security headers
    and a request id; answers HEAD as GET without the body; and records what happened.

    Args:
      app: handles the requests that are admitted.
      hosts: names that the server answers to, against DNS rebinding; "*" for any.
      rate: requests a second of one address, on average; 0 for any number.
      burst: requests that may come at once.
      in_flight: requests of one address that may be answered at the same time.
      metrics: record every request.
      root_path: what a proxy puts before all paths, and may take off again.
    """

    def __init__(
        self,
        app,
        *,
        hosts: Sequence[str],
        rate: float,
        burst: float,
        in_flight: int,
        metrics: Metrics,
        root_path: str = "",
    ):
        self._app, self._hosts, self._metrics = app, frozenset(hosts), metrics
        self._root = root_path
        self._limit = RateLimit(rate, burst) if rate else None
        self._in_flight = InFlight(in_flight)

    async def __call__(self, scope, receive, send) -> None:
        """Handles a request (the ASGI interface)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        method, headers = scope["method"], _headers(scope)
        # uvicorn keeps the scope that it made, and with it the method.
        scope = scope | {
            "method": "GET" if method == "HEAD" else method,
            "request_id": _request_id(headers),
            "root_path": self._root,
        }
        # The path alone is redirected to the page below it.
        if not f"{scope['path']}/".startswith(f"{self._root}/"):
            scope["path"] = self._root + scope["path"]
        body = _Body(receive, headers, self._bounds(scope, headers))
        answer = _Answer(send, body, scope["request_id"], with_body=method != "HEAD")
        address = address_key((scope.get("client") or ("",))[0])
        counted = self._in_flight.begin(address)
        try:
            refusal = _TOO_MANY if not counted else None
            refusal = refusal or self._refusal(scope, headers, address)
            if refusal is None:
                refusal = await self._handle(scope, body, answer)
            if refusal is not None:
                await answer.refuse(refusal)
        finally:
            if counted:
                self._in_flight.end(address)
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.request(method, route, answer.status, seconds)
            _access.info(
                "%s",
                _Line(
                    id=scope["request_id"],
                    client=(scope.get("client") or ("",))[0],
                    method=method,
                    path=scope["path"],
                    status=answer.status,
                    bytes=answer.count,
                    seconds=round(seconds, 4),
                ),
            )

    async def _handle(self, scope, body, answer) -> _Refusal | None:
        try:
            await self._app(scope, body, answer)
        except asyncio.CancelledError:
            return _STOPPING  # and the request took too long to wait for it
        except Exception:
            # What a body that was cut off led to is no fault of ours.
            if body.refusal is None:
                _log.exception(
                    "%s %s failed, request %s",
                    scope["method"],
                    scope["path"],
                    scope["request_id"],
                )
                return _FAILED
        return body.refusal

    def _refusal(self, scope, headers, address: str) -> _Refusal | None:
        if (refusal := _bad_headers(scope)) is not None:
            return refusal
        path = scope["path"].removeprefix(self._root)
        probe = scope["method"] == "GET" and _PROBES.fullmatch(path)
        host = headers.get("host", "")
        if not probe and "*" not in self._hosts and _name(host) not in self._hosts:
            return _Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"this server does not answer to the name {_name(host)[:60]!r}; add it "
                "to --allowed-hosts",
            )
        if scope["method"] not in _SAFE and not _same_origin(headers):
            return _Refusal(
                HTTPStatus.FORBIDDEN,
                "a change must come from this server's own page, or show a bearer "
                "token instead of a cookie",
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return _Refusal(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
        if int(length) > (most := self._bounds(scope, headers).size):
            return _too_large(most)
        if self._limit is not None:
            picture = path.endswith(("/image", "/thumbnail"))
            wait = self._limit.take(address, _PICTURE_COST if picture else 1.0)
            if wait > 0:
                seconds = str(max(1, round(wait)))
                return _Refusal(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    f"too many requests; try again in {seconds} s",
                    {"Retry-After": seconds},
                )
        return None

    def _bounds(self, scope, headers: Mapping[str, str]) -> "_Bounds":
        kind = headers.get("content-type", "")
        is_upload = scope["path"].removeprefix(self._root) == UPLOAD
        if is_upload and kind.startswith("multipart/form-data"):
            # A form is a little more than the file in it.
            return _Bounds(MOST_BYTES + 64 * 2**10, UPLOAD_S)
        return _Bounds(MOST_JSON_BYTES, JSON_S)


_TOO_MANY = _Refusal(
    HTTPStatus.TOO_MANY_REQUESTS,
    "too many requests of this address are being answered; try again in 1 s",
    {"Retry-After": "1"},
)
_STOPPING = _Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, "the server is being stopped", {"Retry-After": "5"}
)
_FAILED = _Refusal(
    HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says more"
)


class _Line(dict):
    """A line of the access log, which is made only if it is kept."""

    def __str__(self) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return json.dumps({"at": at, **self})


class _Body:
    """Bounds size and time of a body, whatever its Content-Length says.

    Attributes:
      refusal: of a body that was too large or too slow.
      unread: whether some of the body has not come yet.
    """

    def __init__(self, receive, headers: Mapping[str, str], bounds: _Bounds):
        self._receive, self._bounds = receive, bounds
        self._until: float | None = None
        self._count = 0
        self.refusal: _Refusal | None = None
        length = headers.get("content-length", "0")
        self.unread = "transfer-encoding" in headers or length != "0"

    async def __call__(self):
        if not self.unread:
            return await self._receive()
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + self._bounds.seconds
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self.refusal = _Refusal(
                HTTPStatus.REQUEST_TIMEOUT,
                f"the body did not come within {self._bounds.seconds:g} s",
            )
            raise
        self._count += len(message.get("body", b""))
        if self._count > self._bounds.size:
            self.refusal = _too_large(self._bounds.size)
            raise _TooLarge
        self.unread = message.get("more_body", False)
        return message


class _TooLarge(Exception):
    pass


class _Answer:
    """Sends a response with our headers, unless the body was refused meanwhile.

    Attributes:
      status: of the response.
      count: bytes of its body.
    """

    def __init__(self, send, body: _Body, request_id: str, *, with_body: bool):
        self._send, self._body, self._id = send, body, request_id
        self._with_body = with_body
        self._begun = False
        self.status, self.count = 500, 0

    async def __call__(self, message) -> None:
        # What the app makes of a body that was cut off is of no interest.
        if self._body.refusal is None or self._begun:
            await self._pass(message)

    async def refuse(self, refusal: _Refusal) -> None:
        """Sends an error, unless a response has begun."""
        if self._begun:
            return
        status = refusal.status
        about = {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "detail": refusal.detail,
            "errors": [],
        }
        data = json.dumps(about).encode()
        headers = {
            "Content-Type": "application/problem+json",
            "Content-Length": str(len(data)),
            **refusal.headers,
        }
        await self._pass(
            {
                "type": "http.response.start",
                "status": status.value,
                "headers": [_raw(*pair) for pair in headers.items()],
            }
        )
        await self._pass({"type": "http.response.body", "body": data})

    async def _pass(self, message) -> None:
        if message["type"] == "http.response.start":
            self._begun, self.status = True, message["status"]
            names = {name for name, _ in message["headers"]}
            added = {**_HEADERS, "Cache-Control": "no-store", "X-Request-ID": self._id}
            if self._body.unread:
                # Nobody will read the rest of it.
                added["Connection"] = "close"
            message["headers"] = [
                *message["headers"],
                *(
                    _raw(name, value)
                    for name, value in added.items()
                    if name.lower().encode() not in names
                ),
            ]
        elif message["type"] == "http.response.body":
            if not self._with_body:
                message = message | {"body": b""}
            self.count += len(message.get("body", b""))
        await self._send(message)


def _raw(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode(), value.encode()


def _request_id(headers: Mapping[str, str]) -> str:
    """The id that a proxy gave to a request, or a new one."""
    given = headers.get("x-request-id", "")
    return given if _ID.fullmatch(given) else uuid.uuid4().hex


def _headers(scope) -> dict[str, str]:
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
    }


def _bad_headers(scope) -> _Refusal | None:
    """Why the headers of a request are refused: too many bytes, or one comes twice."""
    # h11 bounds only those that come in pieces.
    size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    if size > MOST_HEADER_BYTES:
        return _Refusal(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the address and the headers have {size:,} bytes; expected at most "
            f"{MOST_HEADER_BYTES:,}",
        )
    names = [name for name, _ in scope["headers"] if name in _ONCE]
    for name in _ONCE:
        if names.count(name) > 1:
            return _Refusal(
                HTTPStatus.BAD_REQUEST,
                f"the header {name.decode().title()} comes more than once",
            )
    return None


def _too_large(most: int) -> _Refusal:
    return _Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body has too many bytes; expected at most {most:,}",
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
