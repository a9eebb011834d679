"""A small site to test the page and the API on, and requests to it."""

import json

from polyvore_u import write_polyvore_u
from random_codes import codes_of
from starlette.testclient import TestClient

from fhn_jax.data.layout import read_catalogue
from fhn_jax.web.app import Settings

API = "/api/v1"
ORIGIN = "http://localhost"


def make_site(folder, *, titles=None, slots=("top", "bottom", "shoe"), **changes):
    """A run of random codes with its data; the settings to serve it.

    Args:
      titles: by category and number: {("top", 3): "…"}.
    """
    root = write_polyvore_u(folder / "data", slots=slots)
    catalogue = read_catalogue(root, "8")
    codes = codes_of(catalogue)
    codes.save(folder / "run" / "codes.safetensors")
    if titles:
        named = {
            codes.names[codes.categories.index(category)][item]: title
            for (category, item), title in titles.items()
        }
        (root / "titles.json").write_text(json.dumps(named))
    values = {"workdir": str(folder / "run"), "root": str(root), "variant": "8"}
    return Settings(**values | {"rate": 0.0} | changes)


def browser(app):
    """A client that keeps cookies and says where it comes from, as browsers do."""
    return TestClient(
        app, base_url=ORIGIN, headers={"origin": ORIGIN}, raise_server_exceptions=False
    )


def program(app, token=None):
    """A client without cookies that shows a token."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return TestClient(
        app, base_url=ORIGIN, headers=headers, raise_server_exceptions=False
    )


def ok(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    about = answer.json()
    assert about["status"] == status and about["title"] and about["detail"]
    return about["detail"]


def items_of(outfit):
    return {item["category"]: item["item"] for item in outfit["items"]}


def recommended(visitor, **query):
    query = {"k": 6, "explore": 0} | query
    return ok(visitor.get(f"{API}/recommendations", params=query))["outfits"]


def judge(visitor, liked=True, **what):
    return ok(visitor.post(f"{API}/feedback", json={"liked": liked, **what}), 201)


def compose(visitor, **request):
    return ok(visitor.post(f"{API}/compose", json=request))
