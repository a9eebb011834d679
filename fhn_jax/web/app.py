"""The server of the page and the API."""

import contextlib
import dataclasses
import functools
import ipaddress
import json
import logging
import math
import os
import re
import resource
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import threadpoolctl
import uvicorn
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from fhn_jax.errors import InputError, UnavailableError
from fhn_jax.web import following, limits, page, routes
from fhn_jax.web.cards import API, Refused
from fhn_jax.web.connections import BoundedProtocol, Limits
from fhn_jax.web.following import Settings
from fhn_jax.web.guard import Guard
from fhn_jax.web.metrics import Metrics
from fhn_jax.web.state import Gone

_SETTINGS = "FHN_JAX_SERVE"
# How the paths of the server begin.
OWN_PATHS = ("/api", "/docs", "/health", "/metrics", "/ready", "/static")
# Seconds that requests in work have to finish when the server is stopped, and then the
# threads.
_GRACE_S = 5
# Requests that are answered at once. More threads would wait for Python's lock, each behind
# all others: some requests for seconds, and the loop that takes them for a tenth of one.
_THREADS = 16
# Visitors' photos that wait for the encoder have threads of their own; it refuses more.
_PHOTO_THREADS = 16


def create_app(
    settings: Settings, at_exit: Callable[[], None] = lambda: None
) -> FastAPI:
    """Makes the application; checks all files first.

    Args:
      settings: what to serve.
      at_exit: called when it is shut down, before anything is closed.
    Raises:
      FileNotFoundError, ValueError: no codes, index or data, damaged ones, or those of
        another run; or as `State`.
    """
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app):
        to_thread.current_default_thread_limiter().total_tokens = _THREADS
        service = app.state.service
        threading.Thread(target=service.prepare, daemon=True).start()
        service.state.keep_house()
        del service  # The thread below may replace it.
        ended = threading.Event()
        follow = functools.partial(following.follow, app, settings, ended)
        threading.Thread(target=follow, daemon=True).start()
        yield
        at_exit()
        ended.set()
        app.state.service.close()

    app = FastAPI(
        title="fhn_jax",
        summary="Outfits that learn from clicks",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        # Names of operations that stay when paths change.
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
    )
    app.state.service, app.state.metrics = following.make_service(settings), metrics
    app.state.service.state.impressions.on_loss = metrics.impressions_lost
    app.state.uploads = limits.InFlight(1)  # by visitor
    app.state.photo_threads = CapacityLimiter(_PHOTO_THREADS)
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
    app.add_middleware(
        Guard,
        hosts=settings.allowed_hosts,
        rate=settings.rate,
        burst=5 * settings.rate,
        in_flight=settings.connections,
        root_path=settings.root_path,
        metrics=metrics,
    )
    return app


def serve(settings: Settings, *, host: str, port: int, workers: int = 1) -> None:
    """Serves until it is stopped; a SIGTERM ends it within seconds, with status 0.

    Args:
      host, port: to listen on.
      workers: processes.
    Raises:
      ValueError: an impossible port or number of processes; and as `create_app`.
      OSError: the address cannot be listened on.
    """
    if not 0 <= port < 2**16 or workers < 1 or settings.connections < 1:
        raise InputError(
            f"--port={port} --workers={workers} --connections={settings.connections}: "
            "expected a port below 65536, and at least one process and connection"
        )
    if not 0 <= settings.rate < math.inf:
        raise InputError(
            f"--rate={settings.rate:g}: expected requests a second, or 0 for any number"
        )
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", settings.root_path):
        raise InputError(
            f"--root-path={settings.root_path}: expected a path such as /outfits, "
            "without a slash at its end"
        )
    if any(f"{settings.root_path}/".startswith(f"{own}/") for own in OWN_PATHS):
        raise InputError(
            f"--root-path={settings.root_path}: paths of the server itself begin like "
            f"that ({', '.join(OWN_PATHS)}), and it could not tell whether the proxy took "
            "it off; give another, such as /outfits"
        )
    limits.networks(settings.trusted_proxies)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "http": BoundedProtocol,
        "log_level": "warning",
        "access_log": False,  # The guard keeps one.
        "server_header": False,
        "proxy_headers": bool(settings.trusted_proxies),
        "forwarded_allow_ips": list(settings.trusted_proxies),
        "timeout_keep_alive": round(Limits.keep_alive_s),
        "timeout_graceful_shutdown": _GRACE_S,
        # While loops are compiled a process may not answer the others for long.
        "timeout_worker_healthcheck": 60,
    }
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # An address in use is reported before anything is made.
    with socket.create_server((host, port), family=family) as listening:
        if workers == 1:
            app = _prepared_app(settings)
            server = uvicorn.Server(uvicorn.Config(app, **options))
            _say(host, listening.getsockname()[1])
            server.run(sockets=[listening])
            return
    following.make_service(settings).close()  # Checks all files and makes the index.
    with tempfile.TemporaryDirectory(prefix="fhn_jax.metrics.") as folder:
        os.environ[_SETTINGS] = json.dumps(dataclasses.asdict(settings))
        # Where the processes count together; read when they import the package.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        _say(host, port)
        uvicorn.run(
            "fhn_jax.web.app:from_environment", factory=True, workers=workers, **options
        )


def from_environment() -> FastAPI:
    """The application of a worker process, with the settings that `serve` passed on."""
    values = json.loads(os.environ[_SETTINGS])
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return _prepared_app(Settings(**values))


def _prepared_app(settings: Settings) -> FastAPI:
    """The application, after what concerns the whole process."""
    # Requests share the cores; what one computes is too small to be spread over them.
    threadpoolctl.threadpool_limits(1, user_api="blas")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else 2**16
    files = max(soft, min(most, 2**16))
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    BoundedProtocol.limits = Limits(
        per_address=settings.connections,
        # Some files are not connections.
        total=min(Limits.total, files // 2),
        trusted=limits.networks(settings.trusted_proxies),
    )
    if settings.access_log:
        log = logging.getLogger("fhn_jax.access")
        log.addHandler(logging.StreamHandler(sys.stdout))
        log.setLevel(logging.INFO)
        log.propagate = False
    return create_app(settings, at_exit=_exit_soon)


def _exit_soon() -> None:
    """Ends the process in a few seconds, whatever its threads are doing."""
    timer = threading.Timer(_GRACE_S, os._exit, [0])
    timer.daemon = True
    timer.start()


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


def split(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def split_hosts(text: str, host: str) -> Sequence[str]:
    """The names of --allowed-hosts and the address that is listened on.

    Raises:
      InputError: one that no request is for: with a port, a scheme or a pattern.
    """
    names = split(text.lower())
    for name in names:
        if name != "*" and not _NAME.fullmatch(name) and not _is_ipv6(name):
            raise InputError(
                f"--allowed-hosts: no request is for {name!r}; expected names or addresses "
                "with commas between them, without scheme, port or path, such as "
                "shop.example (any port is answered), or * for every name"
            )
    return tuple(dict.fromkeys([*names, "localhost", "127.0.0.1", "::1", host]))


_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def _is_ipv6(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).version == 6
    except ValueError:
        return False
