"""The page as the server sends it; what it does in a browser is in test_browser.py."""

import re
from html.parser import HTMLParser
from importlib import resources

import pytest
from web_site import browser, make_site, program

from fhn_jax.web.app import create_app
from fhn_jax.web.page import SCRIPTS

EVIL = '<img src=x onerror="alert(1)">\'"&'
API = "/api/v1"


VOID = ("circle", "img", "input", "link", "meta", "path", "rect", "use")


class Elements(HTMLParser):
    """All elements of a document: (tag, attributes, all text within)."""

    def __init__(self, text):
        super().__init__()
        self.found, self._open = [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.found.append([tag, dict(attributes), ""])
        if tag not in VOID:
            self._open.append(self.found[-1])

    def handle_startendtag(self, tag, attributes):
        self.found.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for element in self._open:
            element[2] += data

    def named(self, tag):
        return [
            (attributes, text) for name, attributes, text in self.found if name == tag
        ]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    titles = {("top", item): f"{EVIL} {item}" for item in range(32)}
    for item in range(8):
        called = "Red leather boots" if item % 2 else "Navy canvas sneakers"
        titles["shoe", item] = called
    app = create_app(make_site(tmp_path_factory.mktemp("site"), titles=titles))
    yield app
    app.state.service.state.close()


@pytest.fixture(scope="module")
def page(app):
    answer = program(app).get("/")
    assert answer.status_code == 200
    return answer


def test_the_first_outfits_are_in_the_document(app, page):
    service = app.state.service
    expected = service.outfits.start(None, 12).outfits
    cards = [a for a, _ in Elements(page.text).named("li") if a.get("class") == "card"]
    shown = [a["aria-label"] for a in cards if "data-score" in a and a["aria-label"]]
    assert shown == [", ".join(i.title for i in outfit.items) for outfit in expected]


def test_somebody_new_is_shown_looks_to_pick_from_until_the_first_click(app, page):
    assert 'data-new="1"' in page.text and "Pick three looks you like" in page.text
    client = browser(app)
    client.post(f"{API}/visitors", json={})
    first = client.get(f"{API}/start").json()["outfits"]
    items = {item["category"]: item["item"] for item in first[0]["items"]}
    client.post(f"{API}/feedback", json={"items": items, "liked": True})
    # Those that are left stay in their order.
    assert client.get(f"{API}/start").json()["outfits"][:11] == first[1:]
    assert 'data-new="0"' in client.get("/").text


def test_whoever_only_looks_leaves_no_trace(app):
    client = browser(app)
    answer = client.get("/")
    assert "set-cookie" not in answer.headers
    assert 'data-visitor="0"' in answer.text


def test_a_visitor_finds_what_was_learned(app):
    client = browser(app)
    client.post(f"{API}/visitors", json={})
    outfit = client.get(f"{API}/recommendations").json()["outfits"][0]
    items = {item["category"]: item["item"] for item in outfit["items"]}
    client.post(f"{API}/feedback", json={"items": items, "liked": True})
    text = client.get("/").text
    assert "Learned from 1 liked and 0 passed." in text
    assert 'data-visitor="1"' in text
    client.post(f"{API}/reset")
    client.post(f"{API}/visitors", json={"user": 3})
    assert "What person 3 of the data would be shown." in client.get("/").text


def test_a_demo_says_that_it_is_one(app, page, monkeypatch):
    assert "simulated" not in page.text
    monkeypatch.setattr(app.state.service, "_is_demo", True)
    (line,) = [t for _, t in Elements(program(app).get("/").text).named("footer")]
    assert "garments are drawn" in line and "users are simulated" in line


def test_without_attributes_a_taste_is_told_in_words_of_titles(app):
    client = browser(app)
    client.post(f"{API}/visitors", json={})
    for item, liked in ((0, True), (2, True), (1, False), (3, True)):
        shoe = {"category": "shoe", "item": item}
        client.post(f"{API}/feedback", json={"item": shoe, "liked": liked})
    colours, styles = client.get(f"{API}/visitors/me/taste").json()["groups"]
    assert colours["name"] == "Colours" and styles["name"] == "Styles"
    (navy,) = colours["liked"]
    assert navy == {"text": "navy", "liked": 2, "passed": 0, "colour": "#1f2b50"}
    assert [word["text"] for word in styles["liked"]] == ["canvas", "sneakers"]


def test_an_old_cookie_is_somebody_new(app):
    client = browser(app)
    client.cookies.set("visitor", "of another time")
    assert client.get("/").status_code == 200


def test_html_in_titles_is_escaped(page):
    assert "<img src=x" not in page.text
    elements = Elements(page.text)
    assert all("onerror" not in attributes for attributes, _ in elements.named("img"))
    titles = [a["alt"] for a, _ in elements.named("img") if "onerror" in a["alt"]]
    assert titles and all(title.startswith(EVIL) for title in titles)


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(page):
    elements = Elements(page.text)
    assert elements.named("style") == []
    for attributes, text in elements.named("script"):
        assert attributes["src"].startswith("/static/") and not text.strip()
    for _, attributes, _ in elements.found:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "action"):
            address = attributes.get(name, "")
            assert address[:1] in ("", "/", "#") and not address.startswith("//")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "style-src 'self'" in policy


def test_pictures_have_a_text_and_controls_a_name(page):
    # What is in templates gets its texts when it is shown.
    text = re.sub("<template.*?</template>", "", page.text, flags=re.S)
    elements = Elements(text)
    assert all("alt" in attributes for attributes, _ in elements.named("img"))
    for attributes, text in elements.named("button"):
        assert text.strip() or "aria-label" in attributes, attributes
    ids = [
        attributes["id"] for _, attributes, _ in elements.found if "id" in attributes
    ]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in elements.found:
        for name in ("aria-labelledby", "aria-controls"):
            assert attributes.get(name, ids[0]) in ids


def test_files_are_kept_as_long_as_they_do_not_change(app, page):
    addresses = re.findall(r'"(/static/[^"]+)"', page.text)
    assert len(addresses) == 2 + len(SCRIPTS)
    for address in addresses:
        answer = program(app).get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        # What a server of another version of the page has is not to be kept as this one.
        for other in (address[:-1] + "x", address.partition("?")[0]):
            found = program(app).get(other)
            assert found.headers["cache-control"] == "no-cache"
            assert found.headers["etag"] == answer.headers["etag"]
    kinds = [program(app).get(a).headers["content-type"] for a in addresses]
    assert [kind.split(";")[0] for kind in kinds] == [
        "image/svg+xml",
        "text/css",
        *["text/javascript"] * len(SCRIPTS),
    ]


@pytest.mark.parametrize(
    "name", ["nothing.js", "..%2fpage.py", "%2e%2e/app.py", "..\\page.py", ""]
)
def test_no_other_file_is_served(app, name):
    assert program(app).get(f"/static/{name}").status_code == 404


# --- colours ----------------------------------------------------------------------


def themes():
    """The colours of page.css, light and dark."""
    css = (resources.files("fhn_jax.web") / "static" / "page.css").read_text()
    parts = re.findall(r":root \{(.*?)\}", css, re.S)
    assert len(parts) == 2
    return [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", part)) for part in parts]


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """As WCAG 2.2 defines it."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(theme):
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for text, ground in [
        *(
            (text, ground)
            for text in ("ink", "muted")
            for ground in ("paper", "surface")
        ),
        *(("accent", ground) for ground in ("paper", "surface")),
        ("muted", "soft"),
        ("ink", "soft"),
        ("paper", "ink"),
    ]:
        assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
    for line in ("control", "accent", "good", "bad"):
        assert contrast(theme[line], theme["surface"]) >= 3, line
    assert contrast("#a3213c", theme["photo"]) >= 3
