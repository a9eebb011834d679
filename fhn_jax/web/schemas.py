"""Requests and responses of the API, as JSON."""

import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

_Id = Annotated[StrictInt, Field(ge=0, lt=2**31)]
# A shop's own id, where its catalogue was imported: text, even one that is a number.
_ShopId = Annotated[str, Field(min_length=1, max_length=200)]
_Item = _Id | _ShopId
_Name = Annotated[str, Field(max_length=100)]

# A condition on items: see `fhn_jax.retrieval.where.Where`.
Condition = Annotated[str, Field(min_length=1, max_length=300)]
_AtMost = dict[_Name, Annotated[StrictInt, Field(ge=1, le=1000)]]
_AT_MOST = Field(
    {},
    max_length=16,
    description="Attribute, or item → in how many outfits the same value of it may be; "
    "fixed items do not count",
)

_OUTFIT = {"top": 1, "bottom": 2, "shoe": 3}


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": list(examples)})


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewVisitor(_Request):
    """Who is there."""

    model_config = _examples({}, {"user": 3})

    user: _Id | _ShopId | None = Field(
        None, description="A known user (number, or the shop's id as text), or nobody"
    )


class ItemKey(_Request):
    """An item."""

    category: _Name
    item: _Item = Field(description="Its number, or the shop's id as text")


class Judgement(_Request):
    """A like or dislike of an outfit or of one item; exactly one of them."""

    model_config = _examples(
        {"items": _OUTFIT, "liked": True},
        {"item": {"category": "shoe", "item": 4}, "liked": False},
    )

    items: dict[_Name, _Item] | None = Field(
        None,
        max_length=16,
        description="An outfit: slot → item (number, or the shop's id as text), for all "
        "slots of a template",
    )
    item: ItemKey | None = Field(None, description="One item alone")
    liked: StrictBool


class Outfit(_Request):
    """An outfit by its items."""

    model_config = _examples({"items": _OUTFIT})

    items: dict[_Name, _Item] = Field(
        max_length=16, description="Slot → item: number, or the shop's id as text"
    )


class Composition(_Request):
    """What to make outfits of."""

    model_config = _examples(
        {"k": 3, "fixed": {"shoe": 4}}, {"wardrobe": True, "at_most": {"item": 2}}
    )

    k: Annotated[StrictInt, Field(ge=1, le=24)] = 6
    fixed: dict[_Name, _Item | Annotated[list[_Item], Field(max_length=4)]] = Field(
        {},
        max_length=16,
        description="Category → item (or items) in each outfit: numbers, or the shop's "
        "ids as text; a photo is w and its number, also where an id of the shop is that",
    )
    wardrobe: StrictBool = Field(
        False, description="Only of the wardrobe, in categories of which it has any"
    )
    candidates: (
        dict[_Name, Annotated[list[_Item], Field(min_length=1, max_length=1000)]] | None
    ) = Field(None, max_length=16, description="Category → items to choose from")
    templates: (
        Annotated[
            list[Annotated[list[_Name], Field(min_length=1, max_length=16)]],
            Field(min_length=1, max_length=100),
        ]
        | None
    ) = Field(
        None, description="Shapes of outfits, each by its categories; all without"
    )
    at_most: _AtMost = _AT_MOST
    where: list[Condition] = Field(
        [],
        max_length=32,
        description="Conditions that all items meet, fixed ones aside: price<=80, "
        "season in {summer,winter}, in_stock, shoe:brand!=X",
    )
    without: dict[_Name, Annotated[list[_Item], Field(max_length=1000)]] = Field(
        {}, max_length=16, description="Category → items that no outfit has"
    )
    include_seen: StrictBool = Field(
        False, description="Also what you judged, and what a known user likes"
    )


class ItemCard(BaseModel):
    """An item to show."""

    category: str
    item: int | str = Field(description="A number, or w and a number for a photo")
    id: str | None = Field(description="The shop's own id, where there is one")
    title: str
    image: str
    thumbnail: str
    gone: bool = Field(
        description="Whether the shop has it no more: it is never recommended"
    )
    attributes: dict[str, str | bool | int | float] = Field(
        description="What the shop says of it: price, brand, colour, url, …; in lists "
        "and outfits price and currency alone"
    )


class Piece(ItemCard):
    """An item of an outfit."""

    slot: str = Field(description="Its place; the category, numbered where it repeats")


class OutfitCard(BaseModel):
    """An outfit to show."""

    id: int | None = Field(description="Of a stored outfit, where it was found as one")
    items: list[Piece] = Field(description="In the order of the slots")
    score: float
    explored: bool = Field(description="Shown to learn from, not as one of the best")
    feedback: Literal["like", "dislike"] | None


class Visitor(BaseModel):
    """What is known of a visitor."""

    user: int | None
    user_id: str | None = Field(description="The shop's id of this user")
    likes: int
    dislikes: int
    bits: list[int] = Field(description="The binary user code, 0 and 1")
    created: datetime.datetime


class VisitorWithToken(Visitor):
    """A new visitor, and what to show from now on to be recognised."""

    token: str


class JudgementCard(BaseModel):
    """A judgement to show: of an outfit, or of an item."""

    event: int
    liked: bool
    outfit: OutfitCard | None = Field(
        description="Neither this nor an item where the catalogue has it no more"
    )
    item: ItemCard | None
    at: datetime.datetime


class Counts(BaseModel):
    """How much was judged."""

    likes: int
    dislikes: int


class Judged(Counts):
    """What a judgement led to."""

    event: int


class Undone(Counts):
    """What was taken back."""

    undone: JudgementCard | None


class History(BaseModel):
    """Judgements, the newest first."""

    feedback: list[JudgementCard]


class TasteWord(BaseModel):
    """A colour, a style or a brand."""

    text: str
    liked: int = Field(description="Items of it that were liked")
    passed: int
    colour: str | None = Field(description="As #rrggbb, where it names one")


class TasteGroup(BaseModel):
    """Words of one kind."""

    name: str
    liked: list[TasteWord] = Field(description="More often liked than not")
    passed: list[TasteWord] = Field(description="More often passed on than liked")


class TasteInWords(BaseModel):
    """A taste, in words of the shop: of attributes, else of titles."""

    groups: list[TasteGroup]


class StoredJudgement(BaseModel):
    """A judgement as it is stored, superseded or not."""

    event: int
    liked: bool
    items: dict[str, int] = Field(description="Slot → item")
    at: datetime.datetime


class StoredPhoto(BaseModel):
    """A photo as it is stored."""

    id: int
    category: str
    title: str
    jpeg: str = Field(description="In base64")
    code: str = Field(description="Packed bits, hexadecimal")


class ShownOutfit(BaseModel):
    """An outfit of a page that was shown."""

    items: dict[str, int | str] = Field(description="Slot → item; w3 is photo 3")
    score: float
    explored: bool


class StoredImpression(BaseModel):
    """A page of outfits that was shown."""

    at: datetime.datetime
    version: int = Field(description="Of what ranked them; 0 where none is published")
    codes: str = Field(description="Checksum of the codes that ranked them")
    way: str = Field(description="What showed them: recommend, start or compose")
    asked: dict[str, float] = Field(description="How many were asked for, and so on")
    outfits: list[ShownOutfit] = Field(description="In the order of the page")


class StoredAnswer(BaseModel):
    """The answer to a request with an `Idempotency-Key`, kept for a day."""

    at: datetime.datetime
    answer: dict[str, Any]


class Everything(BaseModel):
    """All that is stored of a visitor."""

    about: Visitor
    seen: datetime.date = Field(description="Day of the last visit, UTC")
    feedback: list[StoredJudgement] = Field(description="The newest first")
    impressions: list[StoredImpression] = Field(
        description="Pages that were shown, the newest first"
    )
    answers: list[StoredAnswer] = Field(
        description="To be repeated to who repeats a request, the newest first"
    )
    wardrobe: list[ItemKey]
    photos: list[StoredPhoto]


class Outfits(BaseModel):
    """Outfits, in the order to show them."""

    outfits: list[OutfitCard]
    emptied_by: str | None = Field(
        None, description="The condition that leaves none, where there are none"
    )


class Compositions(Outfits):
    """Outfits that were made."""

    greedy: bool = Field(description="Chosen one after the other, for diversity")


class Items(BaseModel):
    """A page of items."""

    items: list[ItemCard]
    total: int


class SimilarItem(ItemCard):
    """An item, and how similar it is."""

    similarity: float = Field(description="Share of equal bits")


class SimilarItems(BaseModel):
    """Items, the most similar first."""

    items: list[SimilarItem]


class Wardrobe(BaseModel):
    """The items that a visitor has."""

    items: list[ItemCard]
    photos: bool = Field(description="Whether photos can be uploaded")
    limit: int


class ItemReason(ItemCard):
    """An item, and what it adds to the score."""

    share: float


class PairReason(BaseModel):
    """Two slots, and what their items together add to the score."""

    a: str
    b: str
    share: float


class Reasons(BaseModel):
    """What a score is made of: all shares sum to it."""

    score: float
    user_term: float = Field(description="How the items fit the visitor")
    item_term: float = Field(description="How they go together")
    items: list[ItemReason]
    pairs: list[PairReason]
    sentence: str


class Attribute(BaseModel):
    """An attribute of items."""

    kind: Literal["number", "boolean", "text", "time"]
    values: list[str] | None = Field(description="Of a text, where there are few")
    counts: list[int] | None = Field(description="Of items, for each of the values")
    least: float | None = Field(description="Of numbers")
    most: float | None


class Catalogue(BaseModel):
    """What there is to recommend."""

    dataset: str
    slots: list[str]
    templates: list[list[str]] = Field(description="Categories of each shape of outfit")
    categories: dict[str, int] = Field(description="Category → number of items")
    outfits: int
    bits: int
    users: int = Field(description="Known users that may be opened")
    photos: bool
    demo: bool = Field(description="Whether garments are drawn and users simulated")
    attributes: dict[str, Attribute] = Field(
        description="What conditions may be on, by name"
    )


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[str] = []


class Health(BaseModel):
    """Whether the server works."""

    status: Literal["ok"]
