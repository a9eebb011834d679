"""The API: what it answers, what it learns, and what it refuses."""

import concurrent.futures
import dataclasses
import json

import numpy as np
import pytest
from web_site import ORIGIN, browser, make_site, program

from fhn_jax.codes import Codes, Scorer
from fhn_jax.retrieval.composer import Composer
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.web import service as service_module
from fhn_jax.web.app import Settings, create_app, split_hosts

API = "/api/v1"
EVIL = '<script>alert(1)</script>"&'


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return make_site(tmp_path_factory.mktemp("site"), titles={("top", 3): EVIL})


@pytest.fixture(scope="module")
def app(settings):
    app = create_app(settings)
    yield app
    app.state.service.state.close()


@pytest.fixture(scope="module")
def codes(settings):
    return Codes.load(f"{settings.workdir}/codes.safetensors")


@pytest.fixture
def visitor(app):
    """A new visitor, by token."""
    token = program(app).post(f"{API}/visitors", json={}).json()["token"]
    return program(app, token)


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


# --- visitors ---------------------------------------------------------------------


def test_the_catalogue_says_what_there_is(app, codes):
    about = ok(program(app).get(f"{API}/catalogue"))
    assert about["slots"] == ["top", "bottom", "shoe"]
    assert about["categories"] == {
        name: count
        for name, count in zip(codes.categories, codes.num_items, strict=True)
    }
    assert about["bits"] == 16 and about["users"] == 8 and about["outfits"] == 80


def test_a_browser_is_recognised_by_its_cookie(app):
    client = browser(app)
    answer = client.post(f"{API}/visitors", json={})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/" in cookie
    assert "Secure" not in cookie
    assert ok(client.get(f"{API}/visitors/me"))["likes"] == 0
    assert ok(answer, 201)["token"] in cookie


def test_the_cookie_is_secure_behind_https(app):
    client = browser(app)
    client.base_url = "https://localhost"
    client.headers["origin"] = "https://localhost"
    assert "Secure" in client.post(f"{API}/visitors", json={}).headers["set-cookie"]


@pytest.mark.parametrize("token", [None, "", "x", "a" * 5000, "Bearer x"])
def test_without_a_token_that_is_known_there_is_no_visitor(app, token):
    for path in ("visitors/me", "recommendations", "wardrobe", "visitors/me/feedback"):
        text = problem(program(app, token).get(f"{API}/{path}"), 401)
        assert "POST /api/v1/visitors" in text
    for path in ("undo", "reset"):
        problem(program(app, token).post(f"{API}/{path}"), 401)


def test_a_known_user_is_shown_what_fits_that_user(app, codes, settings):
    token = ok(program(app).post(f"{API}/visitors", json={"user": 5}), 201)["token"]
    client = program(app, token)
    assert ok(client.get(f"{API}/visitors/me"))["user"] == 5
    index = OutfitIndex.open(f"{settings.workdir}/outfits", codes)
    best = index.search(5, 1)
    (first,) = recommended(client, k=1)
    assert first["id"] == best.outfits[0] and first["score"] == best.scores[0]


def test_unknown_users_are_refused(app, settings):
    text = problem(program(app).post(f"{API}/visitors", json={"user": 8}), 404)
    assert "user 8 is not known; expected 0 to 7" in text
    closed = create_app(Settings(**vars(settings) | {"known_users": False}))
    text = problem(program(closed).post(f"{API}/visitors", json={"user": 1}), 403)
    assert "cannot be opened" in text
    assert ok(program(closed).get(f"{API}/catalogue"))["users"] == 0


def test_who_leaves_is_forgotten(app, visitor):
    judge(visitor, items={"top": 0, "bottom": 0, "shoe": 0})
    assert visitor.delete(f"{API}/visitors/me").status_code == 204
    problem(visitor.get(f"{API}/visitors/me"), 401)


# --- recommendations and feedback -------------------------------------------------


def test_a_stranger_is_shown_scores_of_the_codes(visitor, codes, app):
    found = recommended(visitor, k=5)
    latents = app.state.service.recommender.start(None)
    alone = dataclasses.replace(
        codes, users=codes.users[:1], user_latents=latents[None].astype(np.float32)
    )
    items = np.array([list(items_of(outfit).values()) for outfit in found])
    scores = Scorer(alone).score("asymmetric", np.zeros(len(items), int), items)
    assert [outfit["score"] for outfit in found] == pytest.approx(scores, abs=1e-3)
    assert all(not outfit["explored"] for outfit in found)


def test_what_was_judged_is_not_shown_again(visitor):
    seen = set()
    for number in range(6):
        outfits = recommended(visitor, k=4)
        ids = {outfit["id"] for outfit in outfits}
        assert len(ids) == 4 and not ids & seen
        judge(visitor, number % 2 == 0, items=items_of(outfits[0]))
        seen.add(outfits[0]["id"])
    me = ok(visitor.get(f"{API}/visitors/me"))
    assert (me["likes"], me["dislikes"]) == (3, 3)


def test_all_outfits_can_be_judged_and_then_there_are_none(app):
    token = ok(program(app).post(f"{API}/visitors", json={}), 201)["token"]
    client = program(app, token)
    for _ in range(40):
        outfits = recommended(client, k=60, explore=0.5)
        for outfit in outfits:
            judge(client, False, items=items_of(outfit))
        if not outfits:
            break
    assert recommended(client, k=60) == []
    assert ok(client.get(f"{API}/visitors/me"))["dislikes"] == 80


def test_a_like_raises_what_was_liked_and_a_dislike_lowers_it(visitor):
    outfit = recommended(visitor)[3]
    items = items_of(outfit)

    def score():
        return ok(visitor.post(f"{API}/explain", json={"items": items}))["score"]

    before = score()
    judge(visitor, True, items=items)
    liked = score()
    judge(visitor, False, items=items)
    assert liked > before > score()


def test_one_item_alone_can_be_judged(visitor):
    items = items_of(recommended(visitor)[0])

    def share():
        why = ok(visitor.post(f"{API}/explain", json={"items": items}))
        return why["items"][2]["share"]

    before = share()
    judge(visitor, True, item={"category": "shoe", "item": items["shoe"]})
    assert share() > before
    (one,) = ok(visitor.get(f"{API}/visitors/me/feedback"))["feedback"]
    assert one["outfit"] is None and one["item"]["item"] == items["shoe"]


def test_a_reload_shows_the_same_and_a_click_something_else(visitor):
    query = {"explore": 0.5, "k": 8}
    first = recommended(visitor, **query)
    assert recommended(visitor, **query) == first
    assert sum(outfit["explored"] for outfit in first) == 4
    judge(visitor, items=items_of(first[0]))
    assert recommended(visitor, **query) != first


def test_pages_go_on_with_other_outfits(visitor):
    pages = [recommended(visitor, page=page) for page in range(3)]
    ids = [outfit["id"] for page in pages for outfit in page]
    assert len(set(ids)) == 18


def test_no_item_fills_the_page(visitor):
    outfits = recommended(visitor, k=12)
    for place in range(3):
        items = [outfit["items"][place]["item"] for outfit in outfits]
        assert max(map(items.count, items)) <= 3


def test_undo_takes_the_last_one_back(visitor):
    one, other = recommended(visitor)[:2]
    judge(visitor, True, items=items_of(one))
    before = recommended(visitor)
    judge(visitor, False, items=items_of(one))  # thought better of it
    judge(visitor, True, items=items_of(other))
    undone = ok(visitor.post(f"{API}/undo"))
    assert items_of(undone["undone"]["outfit"]) == items_of(other)
    assert (undone["likes"], undone["dislikes"]) == (0, 1)
    undone = ok(visitor.post(f"{API}/undo"))
    assert (undone["likes"], undone["dislikes"]) == (1, 0)
    assert recommended(visitor) == before  # learned back to the last digit
    ok(visitor.post(f"{API}/undo"))
    assert ok(visitor.post(f"{API}/undo"))["undone"] is None


def test_reset_starts_over(visitor):
    before = recommended(visitor)
    judge(visitor, items=items_of(before[0]))
    assert ok(visitor.post(f"{API}/reset")) == {"likes": 0, "dislikes": 0}
    assert recommended(visitor) == before
    assert ok(visitor.get(f"{API}/visitors/me/feedback"))["feedback"] == []


def test_history_has_the_newest_first(visitor):
    outfits = recommended(visitor)[:3]
    for liked, outfit in zip((True, False, True), outfits, strict=True):
        judge(visitor, liked, items=items_of(outfit))
    found = ok(visitor.get(f"{API}/visitors/me/feedback", params={"limit": 2}))
    assert [items_of(one["outfit"]) for one in found["feedback"]] == [
        items_of(outfits[2]),
        items_of(outfits[1]),
    ]
    assert [one["liked"] for one in found["feedback"]] == [True, False]
    assert found["feedback"][1]["outfit"]["feedback"] == "dislike"


def test_visitors_do_not_see_or_change_each_other(app, visitor):
    token = ok(program(app).post(f"{API}/visitors", json={}), 201)["token"]
    other = program(app, token)
    before = recommended(other)
    judge(visitor, items=items_of(before[0]))
    visitor.put(f"{API}/wardrobe/top/1")
    assert recommended(other) == before
    assert ok(other.get(f"{API}/wardrobe"))["items"] == []
    assert ok(other.post(f"{API}/undo"))["undone"] is None
    other.delete(f"{API}/visitors/me")
    assert ok(visitor.get(f"{API}/visitors/me"))["likes"] == 1


def test_clicks_at_the_same_time_are_all_learned(app, visitor):
    outfits = recommended(visitor, k=24)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda outfit: judge(visitor, items=items_of(outfit)), outfits)
        )
    assert len({answer["event"] for answer in answers}) == 24
    me = ok(visitor.get(f"{API}/visitors/me"))
    assert me["likes"] == 24
    service = app.state.service
    token = visitor.headers["authorization"].split()[1]
    stored = service.state.visitor(token)
    learned = service.recommender.learn(None, service.state.judgements(stored.id))
    assert stored.latents.tolist() == learned.tolist()


def test_a_restart_shows_the_same(settings, app, visitor):
    judge(visitor, items=items_of(recommended(visitor)[0]))
    before = recommended(visitor, explore=0.5)
    again = program(create_app(settings), visitor.headers["authorization"].split()[1])
    assert recommended(again, explore=0.5) == before


def test_a_visitor_can_only_fill_so_much(visitor, monkeypatch):
    monkeypatch.setattr(service_module, "MOST_JUDGEMENTS", 2)
    outfits = recommended(visitor)
    for outfit in outfits[:2]:
        judge(visitor, items=items_of(outfit))
    request = {"items": items_of(outfits[2]), "liked": True}
    text = problem(visitor.post(f"{API}/feedback", json=request), 409)
    assert "2 judgements are kept" in text
    monkeypatch.setattr(service_module, "MOST_IN_WARDROBE", 1)
    assert visitor.put(f"{API}/wardrobe/top/1").status_code == 204
    assert "wardrobe is full" in problem(visitor.put(f"{API}/wardrobe/top/2"), 409)


# --- composing --------------------------------------------------------------------


def compose(visitor, **request):
    return ok(visitor.post(f"{API}/compose", json=request))


def test_outfits_around_an_item_are_the_best_of_all(app, codes, visitor):
    found = compose(visitor, k=5, fixed={"shoe": 4})
    latents = app.state.service.recommender.start(None)
    best = Composer(ItemTables.from_codes(codes)).compose(latents, 5, fixed={"shoe": 4})
    assert [list(items_of(o).values()) for o in found["outfits"]] == best.items.tolist()
    assert [o["score"] for o in found["outfits"]] == best.scores.tolist()
    assert found["greedy"] is False
    assert compose(visitor, diversity=1)["greedy"] is True


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


# --- items ------------------------------------------------------------------------


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


@pytest.mark.parametrize("kind", ["image", "thumbnail"])
def test_pictures_are_kept_by_the_browser(app, kind):
    client = program(app)
    answer = client.get(f"{API}/items/top/3/{kind}")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content[:2] == b"\xff\xd8"
    assert "immutable" in answer.headers["cache-control"]
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


def test_a_picture_that_is_missing_is_said(tmp_path, codes):
    settings = make_site(tmp_path)
    (image,) = (tmp_path / "data").rglob(codes.names[0][3])
    image.unlink()
    client = program(create_app(settings))
    for kind in ("image", "thumbnail"):
        text = problem(client.get(f"{API}/items/top/3/{kind}"), 404)
        assert "no picture of this item" in text


# --- bad requests -----------------------------------------------------------------

OUTFIT = {"top": 1, "bottom": 2, "shoe": 3}
BAD = [
    ("POST", "feedback", {"items": OUTFIT}, 422, "liked"),
    ("POST", "feedback", {"liked": True}, 422, "give either items"),
    (
        "POST",
        "feedback",
        {"liked": True, "items": OUTFIT, "item": {"category": "top", "item": 1}},
        422,
        "give either items",
    ),
    ("POST", "feedback", {"liked": "yes", "items": OUTFIT}, 422, "liked"),
    ("POST", "feedback", {"liked": 1, "items": OUTFIT}, 422, "liked"),
    ("POST", "feedback", {"liked": True, "items": OUTFIT, "x": 1}, 422, "x"),
    (
        "POST",
        "feedback",
        {"liked": True, "items": {"top": 1}},
        422,
        "slots top, bottom",
    ),
    ("POST", "feedback", {"liked": True, "items": OUTFIT | {"hat": 1}}, 422, "slots"),
    ("POST", "feedback", {"liked": True, "items": OUTFIT | {"top": 99}}, 404, "top 99"),
    ("POST", "feedback", {"liked": True, "items": OUTFIT | {"top": -1}}, 422, "top"),
    ("POST", "feedback", {"liked": True, "items": OUTFIT | {"top": 1.5}}, 422, "top"),
    ("POST", "feedback", {"liked": True, "items": OUTFIT | {"top": 2**70}}, 422, "top"),
    (
        "POST",
        "feedback",
        {"liked": True, "item": {"category": "hat", "item": 1}},
        404,
        "category 'hat' is unknown; expected one of top, bottom, shoe",
    ),
    ("POST", "feedback", [1, 2], 422, "body"),
    ("POST", "visitors", {"user": "3"}, 422, "user"),
    ("POST", "visitors", {"user": -1}, 422, "user"),
    ("POST", "explain", {"items": {}}, 422, "slots"),
    ("POST", "compose", {"k": 0}, 422, "k"),
    ("POST", "compose", {"k": 10**9}, 422, "k"),
    ("POST", "compose", {"fixed": {"hat": 1}}, 422, "category 'hat' is unknown"),
    ("POST", "compose", {"fixed": {"top": 99}}, 422, "top 99 is not among"),
    ("POST", "compose", {"fixed": {"top": [1, 2]}}, 422, "2 items are fixed in top"),
    ("POST", "compose", {"candidates": {"top": []}}, 422, "candidates"),
    ("POST", "compose", {"candidates": {"top": [1] * 2000}}, 422, "candidates"),
    ("POST", "compose", {"diversity": 0}, 422, "diversity"),
    ("POST", "compose", {"wardrobe": True}, 409, "the wardrobe is empty"),
    ("POST", "compose", {"wardrobe": True, "candidates": {"top": [1]}}, 422, "both"),
    ("GET", "recommendations?k=0", None, 422, "k"),
    ("GET", "recommendations?k=1000000", None, 422, "k"),
    ("GET", "recommendations?k=many", None, 422, "k"),
    ("GET", "recommendations?explore=2", None, 422, "explore"),
    ("GET", "recommendations?explore=nan", None, 422, "explore"),
    ("GET", "recommendations?page=-1", None, 422, "page"),
    ("GET", "items", None, 422, "category"),
    ("GET", "items?category=hat", None, 404, "category 'hat' is unknown"),
    ("GET", "items?category=top&limit=9999", None, 422, "limit"),
    ("GET", "items/top/99/similar", None, 404, "top 99 is unknown; expected 0 to"),
    ("GET", "items/top/99/image", None, 404, "top 99 is unknown"),
    ("GET", "items/top/-1/image", None, 422, "item"),
    ("GET", "items/top/%2e%2e%2f%2e%2e%2fetc%2fpasswd/image", None, 404, "Not Found"),
    ("GET", "items/..%2f..%2fetc/1/image", None, 404, "Not Found"),
    ("GET", "items/%3Cb%3E/1/image", None, 404, "category '<b>' is unknown"),
    ("PUT", "wardrobe/top/99", None, 404, "top 99 is unknown"),
    ("PUT", "wardrobe/hat/1", None, 404, "category 'hat' is unknown"),
    ("DELETE", "wardrobe/top/1", None, 404, "top 1 is not in the wardrobe"),
    ("GET", "nothing", None, 404, "Not Found"),
    ("POST", "catalogue", {}, 405, "Method Not Allowed"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "text"), BAD)
def test_bad_requests_are_refused_and_change_nothing(
    visitor, method, path, body, status, text
):
    answer = visitor.request(method, f"{API}/{path}", json=body)
    assert text in problem(answer, status)
    me = ok(visitor.get(f"{API}/visitors/me"))
    assert (me["likes"], me["dislikes"]) == (0, 0)
    assert ok(visitor.get(f"{API}/wardrobe"))["items"] == []


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"\xff\xfe", 422),
        (b"[" * 10000, 400),
        (b'{"liked": NaN}', 422),
        (b"nul", 422),
    ],
)
def test_a_body_that_is_no_json_is_refused(visitor, content, status):
    headers = {"content-type": "application/json"}
    answer = visitor.post(f"{API}/feedback", content=content, headers=headers)
    problem(answer, status)


def test_a_click_on_another_site_does_nothing(app):
    client = browser(app)
    ok(client.post(f"{API}/visitors", json={}), 201)
    client.headers["origin"] = "http://evil.example"
    request = {"items": OUTFIT, "liked": True}
    problem(client.post(f"{API}/feedback", json=request), 403)
    form = client.post(
        f"{API}/feedback", data={"liked": "true"}, headers={"origin": "null"}
    )
    problem(form, 403)
    client.headers["origin"] = ORIGIN
    assert ok(client.get(f"{API}/visitors/me"))["likes"] == 0


def test_an_error_of_ours_is_said_without_its_inside(app, visitor, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("secret of the machine")

    monkeypatch.setattr(app.state.service.recommender, "recommend", fail)
    answer = visitor.get(f"{API}/recommendations")
    assert "the server failed" in problem(answer, 500)
    assert "secret" not in answer.text
    assert "secret of the machine" in caplog.text


def test_a_database_that_is_gone_is_not_ready(app, monkeypatch):
    client = program(app)
    assert (
        ok(client.get("/ready")) == ok(client.get(f"{API}/ready")) == {"status": "ok"}
    )
    engine = app.state.service.state._engine

    def gone(*_):
        from sqlalchemy.exc import OperationalError

        raise OperationalError("select", {}, Exception("gone"))

    monkeypatch.setattr(type(engine), "connect", gone)
    assert "database does not answer" in problem(client.get("/ready"), 503)
    assert ok(client.get("/health")) == {"status": "ok"}


# --- the program ------------------------------------------------------------------


def test_the_api_describes_itself(app):
    about = ok(program(app).get(f"{API}/openapi.json"))
    paths = set(about["paths"])
    assert {f"{API}/feedback", f"{API}/recommendations", f"{API}/compose"} <= paths
    assert all(path.startswith(API) for path in paths)
    for path, methods in about["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (path, method)
    assert program(app).get("/docs").status_code == 404  # it would load from elsewhere


def test_metrics_count_requests_and_judgements(settings):
    app = create_app(settings)
    client = browser(app)
    ok(client.post(f"{API}/visitors", json={}), 201)
    judge(client, True, items=OUTFIT)
    text = client.get("/metrics").text
    assert 'fhn_judgements_total{liked="true"} 1.0' in text
    route = f'route="{API}/feedback",status="201"'
    assert f'fhn_request_seconds_count{{method="POST",{route}}} 1.0' in text


def test_outfits_with_two_tops_have_a_name_for_each_slot(tmp_path):
    settings = make_site(tmp_path, slots=("top", "top", "bottom", "shoe"))
    app = create_app(settings)
    token = ok(program(app).post(f"{API}/visitors", json={}), 201)["token"]
    client = program(app, token)
    slots = ok(client.get(f"{API}/catalogue"))["slots"]
    assert slots == ["top", "top2", "bottom", "shoe"]
    outfit = recommended(client)[0]
    items = {
        slot: item["item"] for slot, item in zip(slots, outfit["items"], strict=True)
    }
    judge(client, True, items=items)
    assert outfit["id"] not in {o["id"] for o in recommended(client, k=20)}
    why = ok(client.post(f"{API}/explain", json={"items": items}))
    assert len(why["pairs"]) == 5
    found = compose(client, k=3, fixed={"top": [1, 2]})["outfits"]
    assert all([i["item"] for i in o["items"][:2]] == [1, 2] for o in found)


def test_what_is_wrong_is_said_at_the_start(tmp_path, settings):
    with pytest.raises(FileNotFoundError, match="codes.safetensors"):
        create_app(Settings(**vars(settings) | {"workdir": str(tmp_path)}))
    with pytest.raises(FileNotFoundError, match="expected an index of outfits"):
        create_app(Settings(**vars(settings) | {"index": str(tmp_path)}))
    broken = make_site(tmp_path / "site", titles={("top", 3): "t"})
    (tmp_path / "site" / "data" / "titles.json").write_text("{")
    with pytest.raises(ValueError, match="titles.json: not JSON"):
        create_app(broken)
    (tmp_path / "site" / "data" / "titles.json").write_text(json.dumps(["a"]))
    with pytest.raises(ValueError, match="expected an object of image names"):
        create_app(broken)


def test_an_index_that_the_server_made_is_made_anew_for_new_codes(tmp_path):
    settings = make_site(tmp_path)
    create_app(settings).state.service.close()
    path = tmp_path / "run" / "codes.safetensors"
    codes = Codes.load(path)
    items = {m: tuple(c[::-1] for c in cs) for m, cs in codes.items.items()}
    new = dataclasses.replace(codes, items=items)
    new.save(path)
    with pytest.raises(ValueError, match="belong to other codes"):
        create_app(settings)
    url = f"sqlite:///{tmp_path / 'others.sqlite'}"
    app = create_app(dataclasses.replace(settings, database_url=url))
    token = ok(program(app).post(f"{API}/visitors", json={"user": 2}), 201)["token"]
    (best,) = recommended(program(app, token), k=1)
    index = OutfitIndex.open(tmp_path / "run" / "outfits", new)
    assert best["id"] == index.search(2, 1).outfits[0]


def test_hosts_are_those_that_were_given_and_this_machine():
    assert split_hosts("Shop.example, b.example", "0.0.0.0") == (
        "shop.example",
        "b.example",
        "localhost",
        "127.0.0.1",
        "::1",
        "0.0.0.0",
    )
