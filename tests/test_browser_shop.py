"""The page of a shop in a browser: looks of two to six pieces, titles and attributes."""

import itertools

import pytest
from random_codes import codes_of
from shapes import SLOTS, write_shapes
from shops import EVIL, name_items
from test_browser import (
    Keys,
    Page,
    chromium,  # noqa: F401
    pytestmark,  # noqa: F401
    screen,
    serving,
)

from fhn_jax.data.layout import read_catalogue
from fhn_jax.web.app import Settings, create_app

pytest.importorskip("duckdb")


SHAPES = ((2, 3), (0, 1, 2), (0, 1, 2, 4), (0, 1, 2, 4, 5), (0, 1, 2, 3, 4, 5))
# Two looks of each shape, in place of the first page.
SHOW = """
enter().then(() => Promise.all(arguments[0].map((slots) =>
  call("POST", "/compose", { k: 2, templates: [slots] })
))).then((all) =>
  show($("cards"), all.flatMap(({ outfits }) => outfits.map(makeCard))))
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    root = write_shapes(
        folder / "data", templates=SHAPES, positives=(10, 5, 5), image_size=16
    )
    catalogue = read_catalogue(root, "8")
    name_items(root, catalogue)
    codes_of(catalogue).save(folder / "run" / "codes.safetensors")
    run = {"workdir": str(folder / "run"), "root": str(root), "variant": "8"}
    with serving(create_app(Settings(**run, rate=0.0))) as address:
        yield address


@pytest.fixture
def page(chromium, address):  # noqa: F811
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    screen(chromium, 1280, 900)
    page = Page(chromium, address)
    page.open()
    chromium.get_log("browser")
    yield page
    assert [entry["message"] for entry in chromium.get_log("browser")] == []


# Of each card its tiles, and of all that is no part of a tile what lies over one.
BOXES = """
const box = (one) => one.getBoundingClientRect().toJSON();
return [...document.querySelectorAll("#cards .card")].map((card) => {
  const tiles = [...card.querySelectorAll(".tile")];
  const others = [...card.querySelectorAll("*")].filter(
    (one) => !tiles.some((tile) => tile.contains(one) || one.contains(tile)));
  return {
    look: box(card.querySelector(".look")),
    tiles: tiles.map(box),
    photos: tiles.map((tile) => box(tile.querySelector("img"))),
    others: others.map(box),
    names: [...card.querySelectorAll(".name b")].map((name) => name.textContent),
  };
});
"""


def overlap(a, b):
    wide = min(a["right"], b["right"]) - max(a["left"], b["left"])
    tall = min(a["bottom"], b["bottom"]) - max(a["top"], b["top"])
    return wide > 0.5 and tall > 0.5


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_pieces_of_each_shape_lie_side_by_side_in_equal_tiles(page, width, dark):
    screen(page.driver, width, 900, dark=dark)
    page.script(SHOW, [[SLOTS[slot] for slot in shape] for shape in SHAPES])
    page.wait(lambda: len(page.all("#cards .card:not(.ghost)")) == 2 * len(SHAPES))
    cards = page.script(BOXES)
    assert {len(card["tiles"]) for card in cards} == {2, 3, 4, 5, 6}
    for card in cards:
        look, tiles = card["look"], card["tiles"]
        assert len(card["names"]) == len(tiles)
        assert card["photos"] == tiles
        first = tiles[0]
        assert first["height"] == pytest.approx(first["width"] * 4 / 3, abs=0.5)
        rows = {}
        for number, tile in enumerate(tiles):
            for side in ("width", "height"):
                assert tile[side] == pytest.approx(first[side], abs=0.5)
            assert look["left"] <= tile["left"] and tile["right"] <= look["right"] + 0.5
            assert look["top"] <= tile["top"] and tile["bottom"] <= look["bottom"] + 0.5
            assert not any(overlap(tile, other) for other in tiles[number + 1 :])
            # Nothing lies over a garment.
            assert not any(overlap(tile, other) for other in card["others"])
            rows.setdefault(round(tile["top"]), []).append(tile)
        gaps = {
            round(b["left"] - a["right"])
            for row in rows.values()
            for a, b in itertools.pairwise(sorted(row, key=lambda tile: tile["left"]))
        }
        assert len(gaps) == 1 and gaps < {2, 3, 4, 5, 6}
    assert page.script("return document.documentElement.scrollWidth") <= width


def test_the_form_of_conditions_decides_what_is_shown(page):
    def items(of=""):
        shown = (
            "[...document.querySelectorAll(`#cards .piece[data-item]${arguments[0]}`)]"
        )
        return page.script(f"return {shown}.map((piece) => +piece.dataset.item)", of)

    def open_facet(name):
        page.click(f"#filter .facet:has([name={name}]) summary")

    open_facet("price")
    field = page.one("#filter [name=price][data-operator='<=']")
    field.send_keys("9\n")
    page.wait(lambda: items() and max(items()) <= 8)
    page.click("#filter [name=in_stock] + span")
    page.wait(lambda: items() and {item % 2 for item in items()} == {0})
    page.click("#clear")
    page.wait(lambda: {item % 2 for item in items()} == {0, 1})
    assert not page.one("#clear").is_displayed()
    # Items are navy, red and another colour in turn; the keyboard opens and closes lists.
    page.script(
        "document.querySelector('#filter .facet:has([name=colour]) summary').focus()"
    )
    for key in (Keys.ENTER, Keys.TAB, Keys.TAB, Keys.SPACE, Keys.TAB, Keys.SPACE):
        page.press(key)
    page.wait(lambda: items() and {item % 3 for item in items()} == {0, 1})
    page.press(Keys.ESCAPE)
    assert not page.all("#filter .facet[open]")
    assert "Colour\n(2)" in page.one("#filter").text
    page.click("#clear")
    page.wait(lambda: {item % 3 for item in items()} == {0, 1, 2})
    # Of one category alone: outfits that have a piece of it.
    open_facet("of")
    page.click("#filter [name=of][value=dress]")
    looks, dressed = "#cards .card:not(.ghost)", ":has([data-category=dress])"
    page.wait(lambda: page.all(looks) and not page.all(f"{looks}:not({dressed})"))
    assert page.one("#clear").is_displayed()
    page.click("#filter [name=of][value=shoe]")
    open_facet("price")
    field.send_keys("9\n")
    shoes = "[data-category=shoe]"
    page.wait(lambda: items(shoes) and max(items(shoes)) <= 8)
    assert max(items()) > 8
    open_facet("of")
    page.click("#filter [name=of][value='']")
    open_facet("price")
    field.clear()
    field.send_keys("0\n")
    why = page.one("#empty-why")
    page.wait(
        lambda: why.is_displayed() and why.text.startswith("No outfit is left by")
    )
    assert "price up to 0" in why.text


def test_values_of_any_characters_can_be_chosen(page):
    # Items are navy, red and EVIL in turn; EVIL has quotes of both kinds.
    page.click("#filter .facet:has([name=colour]) summary")
    shown = "[...document.querySelectorAll('#cards .piece[data-item]')]"

    def colours():
        items = page.script(f"return {shown}.map((piece) => +piece.dataset.item)")
        return {item % 3 for item in items}

    boxes = {box.get_attribute("value"): box for box in page.all("[name=colour]")}
    boxes[EVIL].click()
    page.wait(lambda: colours() == {2})
    boxes["navy"].click()
    page.wait(lambda: colours() == {0, 2})
    said = page.script(
        "return [conditionsOf(arguments[0])].flat().map(inWords)",
        page.one("#filter [data-name=colour]"),
    )
    assert sorted(said[0].removeprefix("colour ").split(",")) == sorted([EVIL, "navy"])


def test_looks_of_different_shapes_are_judged(page):
    page.click("#cards .card:has(.look-2) [data-act=like]")
    page.judged(1, 0)
    # The taste is told in the colours of the shop: those of what was liked.
    page.click("#tab-taste")
    page.wait(lambda: page.all("#words .yes li"))
    liked = {row.text.lower()[:9] for row in page.all("#words .yes li")}
    numbers = (
        "fetch(`${document.body.dataset.api}/visitors/me/feedback`).then("
        "(r) => r.json()).then(({ feedback }) => feedback[0].outfit.items.map((i) => i.item))"
    )
    colours = ("navy", "red", EVIL[:9])
    assert liked == {colours[i % 3] for i in page.script(f"return {numbers}")}
    page.click("#tab-outfits")
    page.click("#cards .card:has(.look-4) [data-act=dislike]")
    page.judged(1, 1)
    page.click("#cards .card:has(.look-3) [data-act=why]")
    page.wait(lambda: page.one("#why").is_displayed())
    assert len(page.all("#why-rows tr")) == 6


def test_a_piece_shows_what_the_shop_says_of_it_as_text(page):
    def open_piece(number):
        page.click("#tab-wardrobe")
        opens = "fetch(document.body.dataset.api + '/item?id=bag-' + arguments[0])"
        page.script(f"return {opens}.then((r) => r.json()).then(openMenu)", number)
        page.wait(lambda: page.one("#menu").is_displayed())
        facts = dict(row.text.split("\n") for row in page.all("#menu-about div"))
        link = page.one("#menu-link")
        href = link.get_attribute("href") if link.is_displayed() else None
        price, brand = (page.one(f"#menu-{name}").text for name in ("price", "brand"))
        page.click("#menu .close")
        return facts, href, price, brand

    facts, link, price, brand = open_piece(4)
    assert link == "https://shop.test/bag-4"
    assert page.one("#menu-link").get_attribute("rel") == "noopener noreferrer"
    shown = {name.lower(): value for name, value in facts.items()}
    # The shop names no currency.
    assert price == "4.50" and shown["in stock"] == "yes"
    assert shown["id"] == "bag-4" and brand.startswith(EVIL[:20])
    assert open_piece(2)[1] is None  # javascript: is no address
    assert page.all("img[src=x]") == []


def test_a_known_user_is_opened_by_the_shops_id(page):
    page.click("#tab-taste")
    room = page.script(
        "const field = document.querySelector('#known input'), of = getComputedStyle(field);"
        "const drawn = document.createElement('canvas').getContext('2d');"
        "drawn.font = of.font;"
        "return field.clientWidth - parseFloat(of.paddingLeft) - parseFloat(of.paddingRight)"
        " - drawn.measureText(field.placeholder).width"
    )
    assert room >= 0  # for what is asked for
    page.one("#known input").send_keys("103")
    page.click("#known button")
    page.wait(lambda: "person 103 of the data" in page.lead())
