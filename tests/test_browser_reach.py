"""The page in a browser: what somebody new, or somebody with a keyboard, can reach."""

# ruff: noqa: F811 (fixtures are arguments of the same name)

import contextlib

import pytest
from test_browser import (
    Keys,
    chromium,  # noqa: F401
    page,  # noqa: F401
    pytestmark,  # noqa: F401
    screen,
    site,  # noqa: F401
)

LIKES = (
    "return fetch(document.body.dataset.api + '/visitors/me').then((answer) =>"
    " answer.json()).then(({ likes }) => likes)"
)


@pytest.fixture
def made(site, monkeypatch):
    """The visitors that a test makes, as a list of users."""
    visitors, found = site[1].state.service.visitors, []
    create = visitors.create
    monkeypatch.setattr(
        visitors, "create", lambda user: found.append(user) or create(user)
    )
    return found


@pytest.mark.parametrize("tab", ["wardrobe", "taste"])
def test_a_tab_that_is_opened_first_makes_one_visitor(page, made, tab):
    page.click(f"#tab-{tab}")
    shown = {"wardrobe": "#things .thing", "taste": "#code rect"}[tab]
    page.wait(lambda: page.all(shown))
    assert made == [None]


def test_a_first_like_is_kept_whatever_is_opened_at_once(page, made):
    page.script(
        "document.querySelector('#cards .like').click();"
        "document.getElementById('tab-taste').click()"
    )
    page.wait(lambda: len(page.all("#liked li")) == 1)
    assert made == [None] and page.script(LIKES) == 1
    page.click("#tab-outfits")
    page.judged(1, 0)


def test_who_is_forgotten_becomes_one_visitor_again(page, made):
    page.click("#tab-taste")
    page.wait(lambda: page.all("#code rect"))
    page.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    page.script("return loadTaste()")
    assert made == [None, None]
    # The browser notes each question of nobody.
    assert all("401" in entry["message"] for entry in page.driver.get_log("browser"))


def test_pieces_are_looked_at_by_nobody(page, made):
    page.script("document.querySelector('#cards .piece').click()")
    page.wait(lambda: page.one("#menu").is_displayed())
    page.click("#menu [data-do=similar]")
    page.wait(lambda: page.all("#panel-things .thing"))
    assert made == []


@contextlib.contextmanager
def without_network(page):
    """Nothing reaches the server; the browser notes it."""

    def emulate(offline):
        speed = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        page.driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions", {"offline": offline, **speed}
        )

    emulate(True)
    try:
        yield
    finally:
        emulate(False)
    noted = [entry["message"] for entry in page.driver.get_log("browser")]
    assert noted and all("ERR_INTERNET_DISCONNECTED" in text for text in noted)


def test_over_a_dialog_an_error_can_be_tried_again_and_what_is_said_is_heard(page):
    def place(name):
        return page.script(
            "return document.getElementById(arguments[0]).parentElement.id", name
        )

    def open_menu():
        page.click("#panel-cards .piece")
        page.wait(lambda: page.one("#menu").is_displayed())

    page.script("document.querySelector('#cards .piece').click()")
    page.wait(lambda: page.one("#menu").is_displayed())
    page.click("#menu [data-do=complete]")
    page.wait(lambda: page.outfits("#panel-cards"))
    with without_network(page):
        page.click("#panel-cards .like")
        page.wait(lambda: page.one("#banner").is_displayed())
    page.click("#banner button")  # refused by the driver if something lies over it
    page.wait(lambda: not page.one("#banner").is_displayed())
    page.wait(lambda: page.one("#toast").text == "Liked. 1 like so far.")
    assert place("toast") == place("banner") == "panel"
    # A piece is shown over the panel, even if nothing more can be had of it.
    with without_network(page):
        open_menu()
    assert page.one("#banner").is_displayed() and place("banner") == "menu"
    page.click("#banner button")
    page.wait(lambda: not page.one("#banner").is_displayed())
    page.click("#menu .close")
    page.wait(lambda: place("toast") == "panel")
    page.click("#panel .close")
    page.wait(lambda: place("toast") == place("banner") == "")


def test_the_focus_goes_to_what_takes_the_place_of_a_piece(page):
    page.click("#tab-wardrobe")
    for count in (1, 2, 3):
        page.wait(lambda: page.all("#things .thing"))
        page.click(f"#things .thing:nth-child({count}) button")
        page.wait(lambda count=count: len(page.all("#worn .thing")) == count)
    place = (
        "const worn = document.getElementById('worn').children;"
        "return [...worn].indexOf(document.activeElement.parentElement)"
    )
    page.script("document.querySelector('#worn .thing:nth-child(2) button').focus()")
    for left, focused in ((2, 1), (1, 0)):
        page.press(Keys.ENTER)
        page.wait(lambda left=left: len(page.all("#worn .thing")) == left)
        assert page.script(place) == focused
    page.press(Keys.ENTER)
    page.wait(lambda: page.all("#worn .thing") == [])
    assert page.script("return document.activeElement.id") == "worn-empty"


def test_letters_are_keys_at_an_outfit_alone_and_count_once(page):
    for number in (1, 2):
        page.click(f"#cards .card:nth-child({number}) .like")
        page.judged(number, 0)
    outfits = page.outfits()
    page.script("document.getElementById('tab-outfits').focus()")
    for key in "ldwur?":
        page.press(key)
    page.script("document.activeElement.blur()")
    for key in "ldwur?":
        page.press(key)
    assert not page.all("dialog[open]") and page.outfits() == outfits
    page.press(Keys.ARROW_RIGHT)
    held = "new KeyboardEvent('keydown', {key: 'u', repeat: true, bubbles: true})"
    page.script(f"document.activeElement.dispatchEvent({held})")
    page.press("u")
    page.judged(1, 0)
    # What was taken back has the focus, so that it can be judged again.
    first = "return document.activeElement === document.querySelector('#cards .card')"
    page.wait(lambda: page.script(first))
    page.press("r")
    page.wait(lambda: page.one("#toast").text == "Here are others.")
    assert page.script(first)
    page.press("?")
    page.wait(lambda: page.one("#keys").is_displayed())


def test_outfits_are_items_of_a_list(page):
    page.click("#fresh")
    page.wait(lambda: page.one("#toast").text == "Here are others.")
    for card in page.all("#cards > *"):
        assert card.aria_role == "listitem" and card.accessible_name


@pytest.mark.parametrize("width", [700, 1280])
def test_looks_of_a_last_row_are_as_large_as_the_others(page, width):
    screen(page.driver, width, 900)
    page.script("complete({ fixed: { shoe: 1 }, k: 7 }, 'Looks')")
    page.wait(lambda: len(page.outfits("#panel-cards")) == 7)
    widths = [card.size["width"] for card in page.all("#panel-cards .card")]
    assert max(widths) - min(widths) <= 2


def test_a_message_takes_a_second_line_only_if_it_has_to(page):
    screen(page.driver, 390, 844)
    heights = []
    for text in ("Liked.", "Passed. Others take its place."):
        page.script("say(arguments[0])", text)
        heights.append(page.one("#toast").size["height"])
    assert heights[0] == heights[1]
