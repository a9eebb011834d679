"""The page of a shop in a browser: looks of two to six pieces, titles and attributes."""

import pytest
from random_codes import codes_of
from shapes import SLOTS, write_shapes
from shops import EVIL, name_items
from test_browser import (
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


BOXES = """
return [...document.querySelectorAll("#cards .card")].map((card) => ({
  look: card.querySelector(".look").getBoundingClientRect().toJSON(),
  pieces: [...card.querySelectorAll(".piece")].map((p) => p.getBoundingClientRect().toJSON()),
  names: [...card.querySelectorAll(".names b")].map((name) => name.textContent),
}))
"""


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_pieces_of_each_shape_lie_beside_each_other_in_the_look(page, width, dark):
    screen(page.driver, width, 900, dark=dark)
    page.script(SHOW, [[SLOTS[slot] for slot in shape] for shape in SHAPES])
    page.wait(lambda: len(page.all("#cards .card:not(.ghost)")) == 2 * len(SHAPES))
    cards = page.script(BOXES)
    assert {len(card["pieces"]) for card in cards} == {2, 3, 4, 5, 6}
    for card in cards:
        look, pieces = card["look"], card["pieces"]
        assert len(card["names"]) == len(pieces)
        area = sum(box["width"] * box["height"] for box in pieces)
        assert area > 0.7 * look["width"] * look["height"]
        for number, a in enumerate(pieces):
            assert look["left"] <= a["left"] and a["right"] <= look["right"]
            assert look["top"] <= a["top"] and a["bottom"] <= look["bottom"] + 0.5
            for b in pieces[number + 1 :]:
                assert (
                    a["right"] <= b["left"] + 0.5
                    or b["right"] <= a["left"] + 0.5
                    or a["bottom"] <= b["top"] + 0.5
                    or b["bottom"] <= a["top"] + 0.5
                )
    assert page.script("return document.documentElement.scrollWidth") <= width


def test_the_form_of_conditions_decides_what_is_shown(page):
    shown = "[...document.querySelectorAll('#cards .piece[data-item]')]"

    def items():
        return page.script(f"return {shown}.map((piece) => +piece.dataset.item)")

    field = page.one("#filter [name=price]")
    field.send_keys("9\n")
    page.wait(lambda: items() and max(items()) <= 8)
    page.click("#filter [name=in_stock] + span")
    page.wait(lambda: items() and {item % 2 for item in items()} == {0})
    field.clear()
    field.send_keys("0\n")
    why = page.one("#empty-why")
    page.wait(
        lambda: why.is_displayed() and why.text.startswith("No outfit is left by")
    )
    assert "price<=0" in why.text


def test_looks_of_different_shapes_are_judged(page):
    page.click("#cards .card:has(.look-2) [data-act=like]")
    page.judged(1, 0)
    page.click("#cards .card:has(.look-4) [data-act=dislike]")
    page.judged(1, 1)
    page.click("#cards .card:has(.look-3) [data-act=why]")
    page.wait(lambda: page.one("#why").is_displayed())
    assert len(page.all("#why-rows tr")) == 6


def test_a_piece_shows_what_the_shop_says_of_it_as_text(page):
    def open_piece(number):
        page.click("#tab-wardrobe")
        opens = "fetch(document.body.dataset.api + '/item?id=bag-' + arguments[0])"
        # Waits until the facts of the piece before are gone.
        page.script(f"return {opens}.then((r) => r.json()).then(openMenu)", number)
        page.wait(lambda: page.one("#menu-about div").is_displayed())
        facts = dict(row.text.split("\n") for row in page.all("#menu-about div"))
        link = page.one("#menu-link")
        href = link.get_attribute("href") if link.is_displayed() else None
        page.click("#menu .close")
        return facts, href

    facts, link = open_piece(4)
    assert link == "https://shop.test/bag-4"
    shown = {name.lower(): value for name, value in facts.items()}
    assert shown["price"] == "4.50" and shown["in stock"] == "yes"
    assert shown["id"] == "bag-4" and shown["brand"].startswith(EVIL[:20])
    assert open_piece(2)[1] is None  # javascript: is no address
    assert page.all("img[src=x]") == []


def test_a_known_user_is_opened_by_the_shops_id(page):
    page.click("#tab-taste")
    page.one("#known input").send_keys("103")
    page.click("#known button")
    page.wait(lambda: "person 103 of the data" in page.lead())
