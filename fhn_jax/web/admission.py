"""Who sends a request, and in which thread it is answered."""

import functools
import inspect
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request, Response, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import APIKeyCookie, HTTPBearer

from fhn_jax.errors import nearest
from fhn_jax.web.cards import Refused
from fhn_jax.web.limits import InFlight
from fhn_jax.web.service import Service
from fhn_jax.web.state import Visitor

COOKIE = "visitor"
# The endpoint of which a visitor has one request under way.
_UPLOAD = "add_photo"


async def service_of(request: Request) -> Service:
    """The service of the application."""
    return request.app.state.service


def token_of(request: Request) -> str:
    """The token of a request: from the bearer header, else from the cookie."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    return request.cookies.get(COOKIE, "")


TheService = Annotated[Service, Depends(service_of)]


_BY_TOKEN = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="The token that POST /visitors returns, for programs",
)
_BY_COOKIE = APIKeyCookie(
    name=COOKIE,
    auto_error=False,
    scheme_name="cookie",
    description="The same token, which browsers keep",
)


class Token(str):
    """Of a visitor who is found in the thread that answers, see `VisitorFirst`."""


async def visitor_of(
    request: Request,
    _token: Annotated[object, Security(_BY_TOKEN)],
    _cookie: Annotated[object, Security(_BY_COOKIE)],
) -> Visitor | Token:
    """The visitor of a request, or the token, see `VisitorFirst`."""
    return request.state.visitor


TheVisitor = Annotated[Visitor, Depends(visitor_of)]


class VisitorFirst(APIRoute):
    """Finds the visitor before the body is read: nobody else's bodies are.

    The visitor is found again in the thread that answers, as a body can take long to
    come. Where there is none, only there: to hand a request to another one takes
    longer. A visitor has one upload under way. Answers are written in the thread that
    made them: FastAPI would check them again and write them in another, a third of a
    request's time.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any):
        parameters = inspect.signature(endpoint).parameters
        is_coroutine = inspect.iscoroutinefunction(endpoint)
        # Headers that an endpoint sets are FastAPI's to add.
        self._writes = "response" not in parameters and not is_coroutine
        if self._writes:
            endpoint = _writing(endpoint, options.get("status_code") or 200)
        super().__init__(path, endpoint, **options)

    def get_route_handler(self):
        """The handler of requests (FastAPI's interface)."""
        handle = super().get_route_handler()
        if all(each.call is not visitor_of for each in self.dependant.dependencies):
            return handle
        known = {each.alias for each in self.dependant.query_params}

        async def admitted(request: Request) -> Response:
            find, token = request.app.state.service.visitors.find, token_of(request)
            # A condition with a slip of the pen would not be one.
            strange = request.query_params.keys() - known if known else ()
            if self._writes and self.body_field is None and not strange:
                request.state.visitor = Token(token)
                try:
                    return await handle(request)
                except RequestValidationError:
                    await run_in_threadpool(
                        find, token
                    )  # Strangers are told that first.
                    raise
            visitor = await run_in_threadpool(find, token)
            # Who is gone when the body has come is found no more.
            request.state.visitor = Token(token) if self._writes else visitor
            for name in strange:
                raise Refused(
                    HTTPStatus.UNPROCESSABLE_ENTITY,
                    f"{name[:40]!r} is no parameter; expected {', '.join(sorted(known))}"
                    f"{nearest(name[:40], known)}",
                )
            if self.name != _UPLOAD:
                return await handle(request)
            uploads: InFlight = request.app.state.uploads
            if not uploads.begin(visitor.id):
                raise Refused(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "a photo of yours is under way; wait until it has come",
                )
            try:
                return await handle(request)
            finally:
                uploads.end(visitor.id)

        return admitted


def _writing(endpoint: Callable[..., Any], status: int) -> Callable[..., Any]:
    """The endpoint, with the response of the model that it returns."""

    @functools.wraps(endpoint)
    def answer(*args: Any, **values: Any) -> Any:
        if isinstance(token := values.get("visitor"), Token):
            values["visitor"] = values["service"].visitors.find(token)
        found = endpoint(*args, **values)
        if found is None or isinstance(found, Response):
            return found
        data = found.model_dump_json()
        return Response(data, status, media_type="application/json")

    return answer
