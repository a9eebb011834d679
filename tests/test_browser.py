"""The page in a browser: Chromium, driven by Selenium."""

import contextlib
import io
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import uvicorn
from PIL import Image
from web_site import make_site

from fhn_jax.web.app import create_app
from fhn_jax.web.photos import Photo

selenium = pytest.importorskip("selenium")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
    ),
]
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
EVIL = "<b id=evil>bold</b>"
WAIT = 15


def wait_until_ready(address):
    """The first server of a machine compiles its loops."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{address}/ready", timeout=60):
                return
        except urllib.error.HTTPError as error:
            assert error.code == 503, error
            time.sleep(0.5)
    pytest.fail("the server is not ready after 300 seconds")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address of a server, and its program."""
    titles = {("top", item): f"{EVIL} {item}" for item in range(0, 32, 2)}
    app = create_app(make_site(tmp_path_factory.mktemp("site"), titles=titles))
    with serving(app) as address:
        yield address, app


@contextlib.contextmanager
def serving(app):
    """The address of a server of the program."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    wait_until_ready(address)
    yield address
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in OPTIONS.split():
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
    )
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Page:
    """What a visitor does."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address

    def open(self, path="/"):
        self.driver.get("about:blank")
        self.driver.get(self.address + path)
        self.wait(lambda: self.script("return document.body.dataset.ready") == "1")

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait(self, condition):
        return WebDriverWait(self.driver, WAIT, 0.05).until(lambda _: condition())

    def click(self, selector):
        element = self.one(selector)
        self.script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def press(self, key):
        webdriver.ActionChains(self.driver).send_keys(key).perform()

    def outfits(self, of="#cards"):
        """The items of the cards."""
        return self.script(
            "return [...document.querySelectorAll(arguments[0])].map(card => "
            "[...card.querySelectorAll('.piece')].map(p => p.dataset.item).join('/'))",
            f"{of} .card:not(.ghost)",
        )

    def lead(self):
        return self.one("#lead").text

    def judged(self, likes, passed):
        text = f"Learned from {likes} liked and {passed} passed."
        self.wait(lambda: self.lead() == text)
        self.settled()

    def settled(self):
        self.wait(lambda: not self.all(".card.leaves, .card.arrives, .card[data-busy]"))


@pytest.fixture
def page(chromium, site):
    """The page for somebody new, on a screen; nothing may go wrong in the console."""
    chromium.execute_cdp_cmd("Network.enable", {})
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    screen(chromium, 1280, 900)
    page = Page(chromium, site[0])
    page.open()
    chromium.get_log("browser")
    chromium.get_log("performance")
    yield page
    assert [entry["message"] for entry in chromium.get_log("browser")] == []


def screen(driver, width, height, *, dark=False):
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 500,
        },
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def test_outfits_are_there_with_pictures(page):
    assert len(page.outfits()) == 12
    page.wait(
        lambda: page.script(
            "return [...document.querySelectorAll('#cards .card img')].every("
            "i => i.complete && i.naturalWidth > 0)"
        )
    )


def test_a_like_teaches_and_another_outfit_takes_its_place(page):
    before = page.outfits()
    page.click("#cards .card:nth-child(2) .like")
    page.judged(1, 0)
    after = page.outfits()
    assert len(after) == 12 and before[1] not in after
    assert after[0] == before[0]  # what is looked at stays
    page.click("#cards .card:nth-child(1) .dislike")
    page.judged(1, 1)
    assert before[0] not in page.outfits()


def test_after_three_picks_all_outfits_are_for_this_taste(page):
    looks = page.outfits()
    for picks in (1, 2, 3):
        assert page.outfits()[picks - 1] == looks[picks - 1]
        page.click(f"#cards .card:nth-child({picks}) .like")
        page.judged(picks, 0)
    page.wait(lambda: not set(looks[:3]) & set(page.outfits()))
    after = page.outfits()
    assert page.script("return document.activeElement.className") == "card"
    page.open()
    assert page.outfits() == after


def test_the_keyboard_does_all_of_it(page):
    before = page.outfits()
    page.press(Keys.ARROW_RIGHT)
    focused = "return document.activeElement.getAttribute('aria-label')"
    first = page.script(focused)
    page.press(Keys.ARROW_RIGHT)
    assert page.script(focused) != first
    page.press("l")
    page.judged(1, 0)
    assert before[1] not in page.outfits()
    # The focus is on the outfit that took its place.
    place = "const c = document.activeElement; return [...c.parentElement.children]"
    assert page.script(f"{place}.indexOf(c)") == 1
    page.press(Keys.ARROW_LEFT)
    page.press("d")
    page.judged(1, 1)
    page.press(Keys.ARROW_DOWN)
    assert page.script(f"{place}.indexOf(c)") > 1
    page.press("w")
    page.wait(lambda: page.one("#why").is_displayed())
    page.press(Keys.ESCAPE)
    page.wait(lambda: not page.one("#why").is_displayed())
    page.press("u")
    page.judged(1, 0)
    page.press("?")
    page.wait(lambda: page.one("#keys").is_displayed())
    page.press(Keys.ESCAPE)


def test_undo_brings_the_outfit_back(page):
    before = page.outfits()
    assert not page.one("#undo").is_enabled()
    page.click("#cards .card:nth-child(1) .like")
    page.judged(1, 0)
    page.click("#undo")
    page.wait(lambda: not page.one("#undo").is_enabled())
    page.wait(lambda: page.outfits()[:1] == before[:1])


def test_clicks_in_quick_succession_all_count(page):
    page.script(
        "for (const b of [...document.querySelectorAll('#cards .like')].slice(0, 5))"
        " b.click()"
    )
    page.judged(5, 0)
    assert len(page.outfits()) == 12
    assert len(set(page.outfits())) == 12


def test_a_look_is_completed_around_a_piece(page):
    piece = page.one("#cards .card:nth-child(1) .piece[data-category=shoe]")
    item = piece.get_attribute("data-item")
    page.script("arguments[0].click()", piece)
    page.wait(lambda: page.one("#menu").is_displayed())
    page.click("#menu [data-do=complete]")
    page.wait(lambda: page.outfits("#panel-cards"))
    outfits = page.outfits("#panel-cards")
    assert len(outfits) == 8 and {o.split("/")[2] for o in outfits} == {item}
    page.click("#panel-cards .card:nth-child(1) .like")
    page.judged(1, 0)
    page.click("#panel .close")
    page.wait(lambda: not page.one("#panel").is_displayed())


def test_more_like_a_piece(page):
    page.script("document.querySelector('#cards .piece').click()")
    page.wait(lambda: page.one("#menu").is_displayed())
    page.click("#menu [data-do=similar]")
    page.wait(lambda: len(page.all("#panel-things .thing")) == 12)


def test_a_wardrobe_makes_outfits_of_its_own_items(page):
    page.click("#tab-wardrobe")
    page.wait(lambda: page.all("#things .thing"))
    assert not page.one("#compose-wardrobe").is_enabled()
    chosen = {}
    for category, count in (("top", 2), ("bottom", 1), ("shoe", 2)):
        page.script(
            "document.querySelector(`#browse input[value=${arguments[0]}]`).click()",
            category,
        )
        mine = f"#things .thing[data-key^={category}]"
        page.wait(lambda mine=mine: page.all(mine))
        things = [t.get_attribute("data-key") for t in page.all(mine)[:count]]
        for key in things:
            have = len(page.all("#worn .thing"))
            page.click(f"#things .thing[data-key='{key}'] button")
            page.wait(lambda have=have: len(page.all("#worn .thing")) == have + 1)
        chosen[category] = {key.split("/")[1] for key in things}
    page.click("#compose-wardrobe")
    page.wait(lambda: page.outfits("#panel-cards"))
    outfits = [o.split("/") for o in page.outfits("#panel-cards")]
    assert len(outfits) == 4
    for place, category in enumerate(("top", "bottom", "shoe")):
        assert {o[place] for o in outfits} <= chosen[category]
    page.click("#panel .close")
    page.click("#worn .thing button")
    page.wait(lambda: len(page.all("#worn .thing")) == 4)
    page.open("/#wardrobe")
    page.wait(lambda: len(page.all("#worn .thing")) == 4)


def test_a_photo_is_uploaded_composed_with_and_deleted(
    page, site, tmp_path, monkeypatch
):
    picture = io.BytesIO()
    Image.new("RGB", (60, 60), "teal").save(picture, "JPEG")
    (tmp_path / "mine.jpg").write_bytes(picture.getvalue())

    class Encoder:
        def encode(self, data, category):
            return Photo(data, np.full(2, 0b1010, np.uint8), 1.0)

    monkeypatch.setattr(site[1].state.service.wardrobe, "_encoder", Encoder())
    page.click("#tab-wardrobe")
    page.wait(lambda: page.one("#upload").is_displayed())
    page.one("#upload input[type=file]").send_keys(str(tmp_path / "mine.jpg"))
    page.one("#upload input[name=title]").send_keys(EVIL)
    page.click("#upload button")
    page.wait(lambda: len(page.all("#worn .thing")) == 1)
    assert page.one("#worn .thing").text == EVIL
    page.click("#compose-wardrobe")
    page.wait(lambda: page.outfits("#panel-cards"))
    assert all(o.split("/")[0].startswith("w") for o in page.outfits("#panel-cards"))
    # Such an outfit says nothing of the catalogue, so it cannot be judged.
    assert not page.one("#panel-cards .actions").is_displayed()
    page.click("#panel-cards .piece")
    page.wait(lambda: page.one("#menu").is_displayed())
    shown = [b for b in page.all("#menu [data-do]") if b.is_displayed()]
    assert [b.get_attribute("data-do") for b in shown] == ["complete"]
    page.click("#menu [data-do=complete]")
    page.wait(lambda: not page.one("#menu").is_displayed())
    page.wait(lambda: len(page.outfits("#panel-cards")) == 8)
    page.click("#panel .close")
    page.click("#worn .thing button")
    page.wait(lambda: page.all("#worn .thing") == [])


def test_when_all_is_judged_the_page_says_so(page, site, monkeypatch):
    recommender = site[1].state.service.recommender
    monkeypatch.setattr(recommender, "recommend", lambda *_, **__: [])
    assert not page.one("#empty").is_displayed()
    page.script("window.scrollTo(0, 0)")
    page.click("#fresh")
    page.wait(lambda: page.one("#empty").is_displayed())
    assert page.outfits() == []


def test_pieces_are_searched_by_words(page):
    page.click("#tab-wardrobe")
    page.wait(lambda: page.all("#things .thing"))
    page.one("#browse input[type=search]").send_keys("evil 4")
    page.wait(lambda: 0 < len(page.all("#things .thing")) < 10)
    page.one("#browse input[type=search]").send_keys(" nothing")
    page.wait(lambda: page.one("#things-empty").is_displayed())


def test_why_shows_shares_that_sum_to_the_score(page):
    score = float(page.one("#cards .card").get_attribute("data-score"))
    page.click("#cards .card .why")
    page.wait(lambda: page.one("#why").is_displayed())
    shares = page.script(
        "return [...document.querySelectorAll('#why-rows tr')].map("
        "r => Number(r.dataset.share))"
    )
    assert len(shares) == 6
    assert sum(shares) == pytest.approx(score, abs=1e-6)
    shown = page.one("#why-score").text.replace("−", "-")
    assert float(shown) == pytest.approx(score, abs=0.0051)


def test_the_taste_shows_what_was_liked_and_the_code(page):
    page.click("#cards .card:nth-child(1) .like")
    page.judged(1, 0)
    page.click("#cards .card:nth-child(2) .dislike")
    page.judged(1, 1)
    page.click("#tab-taste")
    page.wait(lambda: len(page.all("#liked li")) == 1)
    assert len(page.all("#liked img")) == 3 and len(page.all("#disliked li")) == 1
    assert not page.one("#code").is_displayed()
    page.click("#how summary")
    assert len(page.all("#code rect")) == 16 and page.one("#code").is_displayed()
    page.click("#reset")
    page.wait(lambda: page.all("#liked li") == [])


def test_a_known_person_can_be_opened(page):
    page.click("#tab-taste")
    field = page.wait(lambda: page.one("#known input"))
    field.clear()
    field.send_keys("3")
    page.click("#known button")
    page.wait(lambda: "person 3" in page.lead())


def test_a_reload_and_a_restart_of_the_browser_s_page_lose_nothing(page):
    page.click("#cards .card:nth-child(3) .like")
    page.judged(1, 0)
    page.open()
    assert "1 liked" in page.lead() and page.one("#undo").is_enabled()


def test_html_in_a_title_is_text(page):
    assert page.all("#evil") == []
    page.click("#tab-wardrobe")
    page.wait(lambda: page.all("#things .thing"))
    texts = [thing.text for thing in page.all("#things .thing")[:3]]
    assert any(text.startswith(EVIL) for text in texts)
    assert page.all("#evil") == []


def test_an_error_is_shown_and_can_be_tried_again(page, site, monkeypatch):
    recommender = site[1].state.service.recommender
    working = recommender.compose

    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(recommender, "compose", fail)
    page.script("document.querySelector('#cards .piece').click()")
    page.wait(lambda: page.one("#menu").is_displayed())
    page.click("#menu [data-do=complete]")
    page.wait(lambda: page.one("#banner").is_displayed())
    assert "server failed" in page.one("#banner").text
    (entry,) = page.driver.get_log("browser")  # the browser notes the 500
    assert "500" in entry["message"]
    monkeypatch.setattr(recommender, "compose", working)
    page.click("#banner button")
    page.wait(lambda: page.outfits("#panel-cards"))
    assert not page.one("#banner").is_displayed()


def test_a_server_that_is_gone_is_said(page):
    page.driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    try:
        page.click("#cards .card:nth-child(1) .like")
        page.wait(lambda: page.one("#banner").is_displayed())
        assert "cannot be reached" in page.one("#banner").text
    finally:
        page.driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {
                "offline": False,
                "latency": 0,
                "downloadThroughput": -1,
                "uploadThroughput": -1,
            },
        )
    assert "ERR_INTERNET_DISCONNECTED" in page.driver.get_log("browser")[0]["message"]
    page.click("#banner button")
    page.judged(1, 0)


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
@pytest.mark.parametrize("tab", ["outfits", "wardrobe", "taste"])
def test_nothing_is_wider_than_the_screen(page, width, tab):
    screen(page.driver, width, 800)
    page.open("/" if tab == "outfits" else f"/#{tab}")
    page.settled()
    wide = "return document.documentElement.scrollWidth"
    assert page.script(wide) <= width
    for button in page.all("#cards .round"):
        if button.is_displayed():
            assert button.size["width"] >= 44 and button.size["height"] >= 44


def test_dark_is_dark(page):
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = page.script(ground)
    screen(page.driver, 1280, 900, dark=True)
    dark = page.script(ground)
    assert light == "rgb(255, 255, 255)" and dark == "rgb(19, 19, 18)"


def test_nothing_is_asked_of_another_host(page, site):
    import json

    page.open()
    time.sleep(0.5)
    addresses = [
        message["params"]["request"]["url"]
        for entry in page.driver.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    ]
    assert len(addresses) > 10
    assert all(a.startswith((site[0], "about:", "data:")) for a in addresses)
