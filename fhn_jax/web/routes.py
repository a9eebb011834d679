"""The API: thin routes over `Service`."""

import hashlib
from collections.abc import Sequence
from typing import Annotated

from anyio import to_thread
from fastapi import (
    APIRouter,
    File,
    Form,
    Header,
    Path,
    Query,
    Request,
    Response,
)
from fastapi.responses import JSONResponse

from fhn_jax.web import schemas
from fhn_jax.web.admission import COOKIE, TheService, TheVisitor, VisitorFirst
from fhn_jax.web.cards import API
from fhn_jax.web.change import MOST_ANSWERS
from fhn_jax.web.rules import Asked

_COOKIE_SECONDS = 400 * 24 * 3600  # as long as browsers keep one

router = APIRouter(prefix=API, route_class=VisitorFirst)
_Category = Annotated[str, Path(max_length=100)]
_Item = Annotated[int, Path(ge=0, lt=2**31)]
_Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="Chosen by the client; a request that comes again within a day is "
        "answered as it was first, and changes nothing; of a visitor the newest "
        f"{MOST_ANSWERS:,} keys are kept",
    ),
]


def problems(*statuses: int) -> dict:
    """The error responses of a route in OpenAPI: some, and those that any may have."""
    content = {
        "application/problem+json": {"schema": schemas.Problem.model_json_schema()}
    }
    return {
        status: {"description": "See `detail`", "content": content}
        for status in (*statuses, 400, 413, 421, 422, 429, 431, 503)
    }


_MINE = problems(401, 403)
# Probes ask for nothing, and under any name.
_PROBE = {k: v for k, v in problems().items() if k not in (421, 422)}


def set_cookie(request: Request, response: Response, token: str) -> None:
    """Makes the browser send the token with every request."""
    response.set_cookie(
        COOKIE,
        token,
        max_age=_COOKIE_SECONDS,
        path=request.scope.get("root_path") or "/",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )


@router.get("/catalogue", responses=problems())
def catalogue(service: TheService) -> schemas.Catalogue:
    """What there is to recommend."""
    return service.catalogue()


@router.post("/visitors", status_code=201, responses=problems(403, 404, 408))
def new_visitor(
    request: Request, response: Response, service: TheService, who: schemas.NewVisitor
) -> schemas.VisitorWithToken:
    """A new visitor, or a visitor that starts as a known user."""
    token = service.visitors.create(who.user)
    set_cookie(request, response, token)
    about = service.visitors.about(service.visitors.find(token))
    return schemas.VisitorWithToken(token=token, **about.model_dump())


@router.get("/visitors/me", responses=_MINE)
def me(service: TheService, visitor: TheVisitor) -> schemas.Visitor:
    """What is known of you."""
    return service.visitors.about(visitor)


@router.delete("/visitors/me", status_code=204, responses=_MINE)
def forget(
    request: Request, response: Response, service: TheService, visitor: TheVisitor
) -> None:
    """Forgets you and all that you judged."""
    service.state.forget(visitor.id)
    response.delete_cookie(COOKIE, path=request.scope.get("root_path") or "/")


@router.get("/visitors/me/everything", responses=_MINE)
def everything(service: TheService, visitor: TheVisitor) -> schemas.Everything:
    """All that is stored of you, photos included."""
    return service.visitors.everything(visitor)


@router.get("/visitors/me/feedback", responses=_MINE)
def history(
    service: TheService,
    visitor: TheVisitor,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> schemas.History:
    """What you judged, the newest first."""
    return service.visitors.history(visitor, limit)


@router.get("/visitors/me/taste", responses=_MINE)
def taste(service: TheService, visitor: TheVisitor) -> schemas.TasteInWords:
    """The colours, styles and brands of what you liked and passed on."""
    return service.outfits.taste(visitor)


@router.get("/start", responses=_MINE)
def start(
    service: TheService,
    visitor: TheVisitor,
    k: Annotated[int, Query(ge=1, le=24)] = 12,
) -> schemas.Outfits:
    """Looks for somebody new to like a few of: those that tell tastes apart best.

    They are the same for everybody, without what you have judged.
    """
    return service.outfits.start(visitor, k)


_Where = Annotated[Sequence[schemas.Condition], Query(max_length=32)]
_AtMost = Annotated[Sequence[schemas.Condition], Query(max_length=16)]
_Listed = Annotated[Sequence[schemas.Condition], Query(max_length=1000)]


@router.get("/recommendations", responses=problems(401, 403, 404))
def recommendations(
    service: TheService,
    visitor: TheVisitor,
    k: Annotated[int, Query(ge=1, le=60)] = 12,
    explore: Annotated[float, Query(ge=0, le=1)] = 0.2,
    page: Annotated[int, Query(ge=0, le=20)] = 0,
    where: _Where = (),
    at_most: _AtMost = (),
    only: _Listed = (),
    without: _Listed = (),
    category: _AtMost = (),
    include_seen: bool = False,
) -> schemas.Outfits:
    """Outfits for you that you have not judged; some are there to learn from.

    `where` are conditions that all items meet: price<=80, season in {summer,winter},
    in_stock, shoe:brand!=X. `at_most` is brand=2: no brand is in more than two outfits;
    `item=1`, no item is twice. `only` and `without` are items, as CATEGORY:ITEM (a number,
    or the shop's id): the only ones of their categories, and those that no outfit has.
    `category` are categories of which each outfit has an item.
    """
    lists = (tuple(each) for each in (where, at_most, only, without, category))
    asked = Asked(*lists, include_seen=include_seen)
    return service.outfits.recommend(visitor, k, explore, page, asked)


@router.post("/feedback", status_code=201, responses=problems(401, 403, 404, 408, 409))
def feedback(
    request: Request,
    service: TheService,
    visitor: TheVisitor,
    judgement: schemas.Judgement,
    key: _Key = None,
) -> schemas.Judged:
    """Likes or dislikes an outfit, or an item; judged again, the last one counts."""
    judged, is_new = service.visitors.judge(visitor, judgement, key)
    if is_new:
        request.app.state.metrics.judged(judgement.liked)
    return judged


@router.post("/undo", responses=_MINE)
def undo(service: TheService, visitor: TheVisitor, key: _Key = None) -> schemas.Undone:
    """Takes the last judgement back."""
    return service.visitors.undo(visitor, key)


@router.post("/reset", responses=_MINE)
def reset(service: TheService, visitor: TheVisitor) -> schemas.Counts:
    """Takes all judgements back, and forgets the keys of requests."""
    return service.visitors.reset(visitor)


@router.post("/compose", responses=problems(401, 403, 404, 408, 409))
def compose(
    service: TheService, visitor: TheVisitor, composition: schemas.Composition
) -> schemas.Compositions:
    """The best of all outfits around some items, or of the wardrobe."""
    return service.outfits.compose(visitor, composition)


@router.post("/explain", responses=problems(401, 403, 404, 408))
def explain(
    service: TheService, visitor: TheVisitor, outfit: schemas.Outfit
) -> schemas.Reasons:
    """Which items and pairs give an outfit its score."""
    return service.outfits.explain(visitor, outfit)


@router.get("/items", responses=problems(404))
def items(
    service: TheService,
    category: Annotated[str, Query(max_length=100)],
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 60,
    q: Annotated[str, Query(max_length=100)] = "",
) -> schemas.Items:
    """Items of a category, or those whose titles contain all words of `q`."""
    return service.items.search(category, offset, limit, q)


@router.get("/item", responses=problems(404))
def item(
    service: TheService,
    id: Annotated[str, Query(min_length=1, max_length=200)],
) -> schemas.ItemCard:
    """The item of a shop's id, with the number that addresses have."""
    return service.items.by_id(id)


@router.get("/items/{category}/{item}", responses=problems(404))
def item_of_number(
    service: TheService, category: _Category, item: _Item
) -> schemas.ItemCard:
    """An item, with all that the shop says of it."""
    return service.items.one(category, item)


@router.get("/items/{category}/{item}/similar", responses=problems(404))
def similar(
    service: TheService,
    category: _Category,
    item: _Item,
    k: Annotated[int, Query(ge=1, le=60)] = 8,
) -> schemas.SimilarItems:
    """Items of the same category with the most equal bits."""
    return service.items.similar(category, item, k)


_PICTURE = {
    200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "Not modified"},
}


@router.get(
    "/items/{category}/{item}/image",
    response_class=Response,
    responses=_PICTURE | problems(404),
)
def image(
    request: Request, service: TheService, category: _Category, item: _Item
) -> Response:
    """The picture of an item."""
    version = service.items.image_version
    return kept_response(request, version, *service.items.image(category, item))


@router.get(
    "/items/{category}/{item}/thumbnail",
    response_class=Response,
    responses=_PICTURE | problems(404),
)
def thumbnail(
    request: Request, service: TheService, category: _Category, item: _Item
) -> Response:
    """A tile of an item: 300x400 pixels that show all of its picture."""
    version = service.items.tile_version
    return kept_response(request, version, *service.items.thumbnail(category, item))


def kept_response(
    request: Request, version: str, data: bytes, media_type: str | None, **headers: str
) -> Response:
    """What need not be sent again, and is kept for ever under its version's address.

    Servers of two versions answer while one takes the other's place: what an address with
    the version of another gets here is not to be kept as that one's.

    Args:
      version: of what is served, as `v` in addresses.
    """
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    is_own = request.query_params.get("v") == version
    keep = "public, max-age=31536000, immutable" if is_own else "no-cache"
    headers |= {"ETag": tag, "Cache-Control": keep}
    known = request.headers.get("if-none-match", "")
    if tag in known or known.strip() == "*":
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=media_type, headers=headers)


@router.get("/wardrobe", responses=_MINE)
def wardrobe(service: TheService, visitor: TheVisitor) -> schemas.Wardrobe:
    """The items in your wardrobe."""
    return service.wardrobe.show(visitor)


@router.post(
    "/wardrobe/photos", status_code=201, responses=problems(401, 403, 404, 408, 409)
)
async def add_photo(
    request: Request,
    service: TheService,
    visitor: TheVisitor,
    category: Annotated[str, Form(max_length=100)],
    photo: Annotated[bytes, File(description="JPEG, PNG or WebP")],
    title: Annotated[str, Form(max_length=100)] = "",
) -> schemas.ItemCard:
    """Puts a photo of a garment of yours into the wardrobe."""
    # It waits for another process, which should not keep others from being answered.
    return await to_thread.run_sync(
        *(service.wardrobe.add_photo, visitor, category, title, photo),
        limiter=request.app.state.photo_threads,
    )


@router.get(
    "/wardrobe/photos/{number}",
    response_class=Response,
    responses={200: _PICTURE[200]} | problems(401, 403, 404),
)
def picture(
    service: TheService, visitor: TheVisitor, number: _Item, tile: bool = False
) -> Response:
    """A photo of yours, as it is kept or as a tile of the page."""
    data = service.wardrobe.photo(visitor, number, as_tile=tile)
    return Response(data, media_type="image/jpeg")


@router.delete(
    "/wardrobe/photos/{number}", status_code=204, responses=problems(401, 403, 404)
)
def remove_photo(service: TheService, visitor: TheVisitor, number: _Item) -> None:
    """Deletes a photo of yours."""
    service.wardrobe.remove_photo(visitor, number)


@router.put(
    "/wardrobe/{category}/{item}",
    status_code=204,
    responses=problems(401, 403, 404, 409),
)
def add_item(
    service: TheService, visitor: TheVisitor, category: _Category, item: _Item
) -> None:
    """Puts an item into the wardrobe."""
    service.wardrobe.add(visitor, category, item)


@router.delete(
    "/wardrobe/{category}/{item}", status_code=204, responses=problems(401, 403, 404)
)
def remove_item(
    service: TheService, visitor: TheVisitor, category: _Category, item: _Item
) -> None:
    """Takes an item out of the wardrobe."""
    service.wardrobe.remove(visitor, category, item)


@router.get("/health", tags=["operation"], responses=_PROBE)
async def health() -> schemas.Health:
    """Whether the server runs."""
    return schemas.Health(status="ok")


@router.get("/ready", tags=["operation"], responses=_PROBE)
def ready(service: TheService) -> schemas.Health:
    """Whether the server can answer: search, composition, photos and the database."""
    service.check()
    return schemas.Health(status="ok")


def problem(status: int, title: str, detail: str, errors=(), headers=None) -> Response:
    """An error response in the format of RFC 9457."""
    about = schemas.Problem(
        title=title, status=status, detail=detail, errors=list(errors)
    )
    return JSONResponse(
        about.model_dump(),
        status_code=status,
        media_type="application/problem+json",
        headers=headers,
    )
