"""The page: one HTML document with the first outfits in it, and its static files."""

import functools
import gzip
import hashlib
import importlib.metadata
import mimetypes
import re
from importlib import resources

import jinja2
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from fhn_jax.web.admission import TheService, token_of
from fhn_jax.web.cards import API
from fhn_jax.web.facets import facets
from fhn_jax.web.routes import kept_response, problem

# Outfits in the first document.
_OUTFITS = 12
_STATIC = resources.files("fhn_jax.web") / "static"
_NAMES = frozenset(path.name for path in _STATIC.iterdir())
# In the order in which they need each other.
SCRIPTS = ("api.js", "cards.js", "judging.js", "pieces.js", "taste.js", "page.js")
# Of Swagger UI, which a package brings.
_SWAGGER_NAMES = frozenset({"swagger-ui.css", "swagger-ui-bundle.js"})


@functools.cache
def _file(name: str) -> tuple[bytes, bytes] | None:
    """A file, and the same compressed; None if there is none of this name."""
    if name in _NAMES:
        data = (_STATIC / name).read_bytes()
    elif name in _SWAGGER_NAMES:
        data = (resources.files("fastapi_offline") / "static" / name).read_bytes()
    else:
        return None
    return data, gzip.compress(data, mtime=0)


_VERSION = hashlib.sha256(
    b"".join((_STATIC / name).read_bytes() for name in sorted(_NAMES))
).hexdigest()[:12]
_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("fhn_jax.web"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

router = APIRouter(include_in_schema=False)


@router.get("/")
def index(request: Request, service: TheService) -> HTMLResponse:
    """The page, for a visitor or for somebody new.

    Somebody new becomes a visitor with the first click, so that those who only look
    leave no trace.
    """
    token = token_of(request)
    visitor = service.state.visitor(token) if token else None
    is_new = service.visitors.is_new(visitor)
    if is_new:
        outfits = service.outfits.start(visitor, _OUTFITS)
    else:
        outfits = service.outfits.recommend(visitor, _OUTFITS, 0.2)
    catalogue = service.catalogue()
    return _document(
        request,
        "index.html",
        about=None if visitor is None else service.visitors.about(visitor),
        catalogue=catalogue,
        facets=facets(catalogue),
        k=_OUTFITS,
        lead=service.visitors.lead(visitor),
        is_new=is_new,
        outfits=outfits.outfits,
        scripts=SCRIPTS,
        user_ids=service.recommender.names.users is not None,
    )


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """The description of the API, to try it out."""
    return _document(request, "docs.html", swagger=_swagger_version())


@functools.cache
def _swagger_version() -> str:
    return importlib.metadata.version("fastapi-offline")


def _document(request: Request, template: str, **values: object) -> HTMLResponse:
    text = _environment.get_template(template).render(
        api=API, root=request.scope.get("root_path", ""), version=_VERSION, **values
    )
    return HTMLResponse(text)


@router.get("/static/{name}")
def static(request: Request, name: str) -> Response:
    """A file of the page; its address changes when any of them does."""
    found = _file(name)
    if found is None:
        return problem(404, "Not Found", "there is no such file")
    data, compressed = found
    kind, headers = mimetypes.guess_type(name)[0], {"Vary": "Accept-Encoding"}
    if _GZIP.search(request.headers.get("accept-encoding", "")):
        data = compressed
        headers["Content-Encoding"] = "gzip"
    version = _VERSION if name in _NAMES else _swagger_version()
    return kept_response(request, version, data, kind, **headers)


_GZIP = re.compile(r"(?:^|[\s,])gzip(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))")
