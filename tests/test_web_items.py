"""The API: composed outfits, explanations, items and their pictures."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image
from web_site import (
    API,
    compose,
    items_of,
    judge,
    make_site,
    ok,
    problem,
    program,
    recommended,
)

from fhn_jax.codes import Codes
from fhn_jax.retrieval.composer import Composer
from fhn_jax.web.app import create_app

EVIL = '<script>alert(1)</script>"&'


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return make_site(tmp_path_factory.mktemp("site"), titles={("top", 3): EVIL})


@pytest.fixture(scope="module")
def codes(settings):
    return Codes.load(f"{settings.workdir}/codes.safetensors")


@pytest.fixture
def visitor(app):
    """A new visitor, by token."""
    token = program(app).post(f"{API}/visitors", json={}).json()["token"]
    return program(app, token)


# --- composing ---------------------------------------------------------------------


def test_outfits_around_an_item_are_the_best_of_all(app, codes, visitor):
    found = compose(visitor, k=5, fixed={"shoe": 4})
    latents = app.state.service.recommender.start(None)
    best = Composer(codes).compose(latents, 5, fixed={"shoe": 4})
    assert [list(items_of(o).values()) for o in found["outfits"]] == best.items.tolist()
    assert [o["score"] for o in found["outfits"]] == best.scores.tolist()
    assert found["greedy"] is False
    assert compose(visitor, at_most={"item": 1})["greedy"] is True


def test_a_wardrobe_restricts_the_categories_that_it_has(visitor):
    for item in (1, 2):
        assert visitor.put(f"{API}/wardrobe/top/{item}").status_code == 204
    visitor.put(f"{API}/wardrobe/shoe/3")
    found = compose(visitor, k=12, wardrobe=True)["outfits"]
    assert {items_of(o)["top"] for o in found} == {1, 2}
    assert {items_of(o)["shoe"] for o in found} == {3}
    assert len({items_of(o)["bottom"] for o in found}) > 1
    assert visitor.delete(f"{API}/wardrobe/top/1").status_code == 204
    found = compose(visitor, k=12, wardrobe=True)["outfits"]
    assert {items_of(o)["top"] for o in found} == {2}
    kept = [
        (i["category"], i["item"]) for i in ok(visitor.get(f"{API}/wardrobe"))["items"]
    ]
    assert kept == [("top", 2), ("shoe", 3)]


def test_candidates_are_chosen_from(visitor):
    found = compose(visitor, k=12, candidates={"top": [5, 6]})["outfits"]
    assert {items_of(o)["top"] for o in found} == {5, 6}


def test_a_composed_outfit_can_be_judged_and_shows_it(visitor):
    (outfit,) = compose(visitor, k=1)["outfits"]
    assert outfit["id"] is None and outfit["feedback"] is None
    judge(visitor, False, items=items_of(outfit))
    again = compose(visitor, k=24, fixed={"top": items_of(outfit)["top"]})["outfits"]
    same = [o for o in again if items_of(o) == items_of(outfit)]
    assert [o["feedback"] for o in same] in ([], ["dislike"])


def test_the_shares_of_an_explanation_sum_to_the_score(visitor):
    for outfit in recommended(visitor):
        why = ok(visitor.post(f"{API}/explain", json={"items": items_of(outfit)}))
        shares = [i["share"] for i in why["items"]] + [p["share"] for p in why["pairs"]]
        assert sum(shares) == pytest.approx(outfit["score"], abs=1e-9)
        assert why["user_term"] + why["item_term"] == pytest.approx(why["score"])
        pairs = [(p["a"], p["b"]) for p in why["pairs"]]
        assert pairs == [("top", "bottom"), ("top", "shoe"), ("bottom", "shoe")]
        assert why["sentence"].endswith(".")


# --- items -------------------------------------------------------------------------


def test_items_are_found_by_words_of_their_titles(app, codes):
    client = program(app)
    page = ok(client.get(f"{API}/items?category=top&offset=2&limit=3"))
    assert page["total"] == codes.num_items[0]
    assert [item["item"] for item in page["items"]] == [2, 3, 4]
    found = ok(client.get(f"{API}/items", params={"category": "top", "q": "ALERT"}))
    assert [item["item"] for item in found["items"]] == [3]
    assert ok(client.get(f"{API}/items?category=top&q=xyz"))["total"] == 0
    assert ok(client.get(f"{API}/items?category=top&offset=999"))["items"] == []


def test_html_in_a_title_stays_text(app):
    answer = program(app).get(f"{API}/items?category=top&offset=3&limit=1")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["items"][0]["title"] == EVIL


@pytest.mark.parametrize(
    ("alphabet", "latents", "bits"),
    [("pm1", [-0.1, 0.0, 0.4], [0, 1, 1]), ("01", [0.4, 0.5, 0.6], [0, 0, 1])],
)
def test_the_bits_of_a_visitor_are_those_of_the_hash_layers(
    app, monkeypatch, alphabet, latents, bits
):
    recommender = app.state.service.recommender
    codes = dataclasses.replace(recommender.codes, alphabet=alphabet)
    monkeypatch.setattr(recommender, "codes", codes)
    assert recommender.bits(np.array(latents, np.float32)) == bits


def test_similar_items_share_the_most_bits(app, codes):
    found = ok(program(app).get(f"{API}/items/top/3/similar?k=60"))["items"]
    signs = np.concatenate([codes.to_numpy()[m][0] for m in codes.modalities], axis=1)
    share = (signs == signs[3]).mean(axis=1)
    order = sorted(set(range(len(share))) - {3}, key=lambda i: (-share[i], i))
    assert [item["item"] for item in found] == order
    assert [item["similarity"] for item in found] == pytest.approx(share[order])


PICTURES = ("image", "thumbnail")


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_are_kept_by_the_browser(app, kind):
    client = program(app)
    address = ok(client.get(f"{API}/items/top/3"))[kind]
    answer = client.get(address)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content[:2] == b"\xff\xd8"
    assert "immutable" in answer.headers["cache-control"]
    # Another server's version of it is not what is here.
    for other in (address[:-1] + "x", address.partition("?")[0]):
        found = client.get(other)
        assert found.headers["cache-control"] == "no-cache"
        assert found.headers["etag"] == answer.headers["etag"]
        assert found.content == answer.content
    tag = answer.headers["etag"]
    again = client.get(f"{API}/items/top/3/{kind}", headers={"if-none-match": tag})
    assert again.status_code == 304 and again.content == b""
    other = client.get(f"{API}/items/top/4/{kind}")
    assert other.headers["etag"] != tag


def test_data_without_pictures_are_served_without(tmp_path):
    settings = make_site(tmp_path)
    images = tmp_path / "data" / "images"
    images.rename(tmp_path / "elsewhere")
    client = program(create_app(settings))
    assert "no pictures" in problem(client.get(f"{API}/items/top/3/image"), 404)
    assert ok(client.get(f"{API}/items?category=top"))["items"]


def test_what_was_cut_out_is_shown_at_another_address(tmp_path, codes):
    settings = make_site(tmp_path)
    card = f"{API}/items/top/3"
    photos = program(create_app(settings))
    before = {kind: photos.get(f"{card}/{kind}").content for kind in PICTURES}
    address = ok(photos.get(card))["thumbnail"]
    cut_out = io.BytesIO()
    Image.new("RGB", (30, 40), (10, 90, 200)).save(cut_out, "JPEG")
    folder = tmp_path / "data" / "images" / "cutouts"
    folder.mkdir()
    (folder / codes.names[0][3]).write_bytes(cut_out.getvalue())
    client = program(create_app(settings))
    assert client.get(f"{card}/image").content == cut_out.getvalue()
    assert client.get(f"{card}/thumbnail").content != before["thumbnail"]
    assert ok(client.get(card))["thumbnail"] != address
    # An item without a cut-out has its photo.
    other = f"{API}/items/top/4/image"
    assert client.get(other).content == photos.get(other).content


def test_a_picture_that_is_missing_is_said(tmp_path, codes):
    settings = make_site(tmp_path)
    (image,) = (tmp_path / "data").rglob(codes.names[0][3])
    image.unlink()
    client = program(create_app(settings))
    for kind in PICTURES:
        text = problem(client.get(f"{API}/items/top/3/{kind}"), 404)
        assert "no picture of this item" in text
