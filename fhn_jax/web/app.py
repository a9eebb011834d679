"""The server of the page and the API."""

import contextlib
import dataclasses
import json
import logging
import os
import socket
import threading
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from fhn_jax.data.images import open_images
from fhn_jax.errors import InputError, UnavailableError
from fhn_jax.recommender import Recommender
from fhn_jax.web import page, photos, routes
from fhn_jax.web.cards import API, Refused
from fhn_jax.web.guard import Guard
from fhn_jax.web.metrics import Metrics
from fhn_jax.web.service import Service
from fhn_jax.web.state import Gone, State

_SETTINGS = "FHN_JAX_SERVE"
_log = logging.getLogger("fhn_jax.web")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to serve, and to whom.

    Attributes:
      workdir: of the run; its codes.safetensors is served.
      root, variant: of the data: images, titles, and the outfits if there is no index.
      index: folder of an `OutfitIndex`; "" for one of the data's outfits, which is made
        in the workdir.
      database_url: see `State`; "" for visitors.sqlite in the workdir.
      allowed_hosts: names that the server answers to.
      rate: requests a second of one address; 0 for any number.
      known_users: whether anybody may open a known user.
    """

    workdir: str
    root: str
    variant: str
    index: str = ""
    database_url: str = ""
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    rate: float = 20.0
    known_users: bool = True


def create_app(settings: Settings) -> FastAPI:
    """Makes the application; checks all files first.

    Raises:
      FileNotFoundError, ValueError: no codes, index or data, damaged ones, or those of
        another run; or as `State`.
    """
    service = make_service(settings)
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app):
        threading.Thread(target=service.prepare, daemon=True).start()
        yield
        service.close()

    app = FastAPI(
        title="fhn_jax",
        summary="Outfits that learn from clicks",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        lifespan=lifespan,
    )
    app.state.service, app.state.metrics = service, metrics
    app.include_router(routes.router)
    app.include_router(page.router)
    app.add_api_route("/health", routes.health, include_in_schema=False)
    app.add_api_route("/ready", routes.ready, include_in_schema=False)

    @app.get("/metrics", include_in_schema=False)
    def prometheus() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(Gone, _gone)
    app.add_exception_handler(UnavailableError, _unavailable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(
        Guard,
        hosts=settings.allowed_hosts,
        rate=settings.rate,
        burst=5 * settings.rate,
        metrics=metrics,
    )
    return app


def make_service(settings: Settings) -> Service:
    """The service of a run, without a server; raises as `create_app`."""
    workdir, root = Path(settings.workdir), Path(settings.root)
    recommender = Recommender.open(
        workdir, root, settings.variant, index=settings.index or None
    )
    codes = recommender.codes
    url = settings.database_url
    url = url or f"sqlite:///{(workdir / 'visitors.sqlite').absolute()}"
    encoder = None
    if (workdir / photos.FILE).is_file():
        encoder = photos.PhotoEncoder(workdir / photos.FILE, codes)
    return Service(
        recommender,
        State(url, codes.sha256()),
        open_images(root) if (root / "images").is_dir() else None,
        encoder,
        outfits=len(recommender.index),
        known_users=settings.known_users,
    )


def serve(settings: Settings, *, host: str, port: int, workers: int = 1) -> None:
    """Serves until it is stopped.

    Args:
      host, port: to listen on.
      workers: processes.
    Raises:
      ValueError: an impossible port or number of processes; and as `create_app`.
      OSError: the address cannot be listened on.
    """
    if not 0 <= port < 2**16 or workers < 1:
        raise InputError(
            f"--port={port} --workers={workers}: expected a port below 65536 and at "
            "least one process"
        )
    options = {
        "host": host,
        "port": port,
        "log_level": "warning",
        "server_header": False,
        # Trust the forwarding headers of a proxy on this machine.
        "proxy_headers": True,
        "forwarded_allow_ips": "127.0.0.1",
        "timeout_keep_alive": 30,
        "limit_concurrency": 1000,
    }
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # An address in use is reported before anything is made.
    with socket.create_server((host, port), family=family) as listening:
        if workers == 1:
            server = uvicorn.Server(uvicorn.Config(create_app(settings), **options))
            _say(host, listening.getsockname()[1])
            server.run(sockets=[listening])
            return
    make_service(settings).close()  # Checks all files and makes the index.
    os.environ[_SETTINGS] = json.dumps(dataclasses.asdict(settings))
    _say(host, port)
    uvicorn.run(
        "fhn_jax.web.app:from_environment", factory=True, workers=workers, **options
    )


def from_environment() -> FastAPI:
    """The application of a worker process, with the settings that `serve` passed on."""
    values = json.loads(os.environ[_SETTINGS])
    values["allowed_hosts"] = tuple(values["allowed_hosts"])
    return create_app(Settings(**values))


def _say(host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    print(f"serving at http://{shown}:{port}/ (Ctrl-C ends)", flush=True)


def _refused(request: Request, error: Any) -> Response:
    return routes.problem(error.status, HTTPStatus(error.status).phrase, error.detail)


def _gone(request: Request, error: Any) -> Response:
    return routes.problem(401, HTTPStatus(401).phrase, str(error))


def _unavailable(request: Request, error: Any) -> Response:
    return routes.problem(
        503,
        HTTPStatus(503).phrase,
        str(error),
        headers={"Retry-After": str(error.retry_s)},
    )


def _invalid(request: Request, error: Any) -> Response:
    errors = [
        f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"[:300]
        for one in error.errors()[:20]
    ]
    return routes.problem(
        422,
        HTTPStatus(422).phrase,
        f"the request is not as expected: {errors[0] if errors else 'see errors'}",
        errors,
    )


def _http(request: Request, error: Any) -> Response:
    return routes.problem(
        error.status_code,
        HTTPStatus(error.status_code).phrase,
        str(error.detail),
        headers=error.headers,
    )


def _failed(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return routes.problem(
        500, "Internal Server Error", "the server failed; its log says more"
    )


def split_hosts(text: str, host: str) -> Sequence[str]:
    """The names of --allowed-hosts and the address that is listened on."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    return tuple(dict.fromkeys([*names, "localhost", "127.0.0.1", "::1", host]))
