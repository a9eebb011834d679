"""The page: one HTML document with the first outfits in it, and its static files."""

import hashlib
import mimetypes
from importlib import resources

import jinja2
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from fhn_jax.web.cards import API
from fhn_jax.web.routes import TheService, problem, token_of

# Outfits in the first document.
_OUTFITS = 12
_FILES = {
    path.name: path.read_bytes()
    for path in (resources.files("fhn_jax.web") / "static").iterdir()
}
_VERSION = hashlib.sha256(b"".join(_FILES[name] for name in sorted(_FILES))).hexdigest()
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
    text = _environment.get_template("index.html").render(
        about=None if visitor is None else service.visitors.about(visitor),
        api=API,
        catalogue=service.catalogue(),
        k=_OUTFITS,
        lead=service.visitors.lead(visitor),
        outfits=service.outfits.recommend(visitor, _OUTFITS, 0.2).outfits,
        slots=service.recommender.slots,
        version=_VERSION[:12],
    )
    return HTMLResponse(text)


@router.get("/static/{name}")
def static(name: str) -> Response:
    """A file of the page; its address changes when any of them does."""
    data = _FILES.get(name)
    if data is None:
        return problem(404, "Not Found", "there is no such file")
    return Response(
        data,
        media_type=mimetypes.guess_type(name)[0],
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )
