"""The API: visitors, what they are shown, what is learned, and the server."""

import concurrent.futures
import dataclasses
import json
from http import HTTPStatus

import numpy as np
import pytest
from web_site import (
    API,
    browser,
    compose,
    items_of,
    judge,
    make_site,
    ok,
    problem,
    program,
    recommended,
)

from fhn_jax.codes import Codes, Scorer
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.web import visitors, wardrobe
from fhn_jax.web.app import Settings, create_app, split_hosts
from fhn_jax.web.cards import Refused


@pytest.fixture(scope="module")
def codes(settings):
    return Codes.load(f"{settings.workdir}/codes.safetensors")


@pytest.fixture
def visitor(app):
    """A new visitor, by token."""
    token = program(app).post(f"{API}/visitors", json={}).json()["token"]
    return program(app, token)


# --- visitors ----------------------------------------------------------------------


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
    # Strangers are not told what else is wrong.
    for query in ("k=0", "colour=red"):
        text = problem(program(app, token).get(f"{API}/recommendations?{query}"), 401)
        assert "POST /api/v1/visitors" in text


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


# --- recommendations and feedback --------------------------------------------------


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


@pytest.mark.slow
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
    explored = [
        sum(outfit["explored"] for outfit in recommended(visitor, page=page, **query))
        for page in range(5)
    ]
    assert 0 < sum(explored) and max(explored) <= 4
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


def test_a_first_page_shows_each_piece_once(app, visitor):
    """Nor do the looks to start with, of which every prefix tells most."""
    every = [ok(visitor.get(f"{API}/start?k={k}"))["outfits"] for k in (8, 4)]
    assert every[0][:4] == every[1]
    for outfits in (recommended(visitor, k=8, explore=0.25), every[0]):
        pieces = [(i["category"], i["item"]) for o in outfits for i in o["items"]]
        assert len(outfits) == 8 and len(set(pieces)) == 24


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
    learned = service.recommender.learn(None, service.state.judged(stored.id, 3))
    assert me["bits"] == service.recommender.bits(learned)


def test_a_request_that_comes_again_with_its_key_changes_nothing(visitor):
    outfit, other = map(items_of, recommended(visitor)[:2])
    like = {"items": outfit, "liked": True}
    keyed = {"headers": {"Idempotency-Key": "like 1"}}
    first = visitor.post(f"{API}/feedback", json=like, **keyed)
    judge(visitor, items=outfit, liked=False)
    again = visitor.post(f"{API}/feedback", json=like, **keyed)
    assert ok(again, 201) == ok(first, 201) and first.json()["likes"] == 1
    assert ok(visitor.get(f"{API}/visitors/me"))["dislikes"] == 1
    text = problem(
        visitor.post(f"{API}/feedback", json=like | {"items": other}, **keyed), 422
    )
    assert "key came with another request" in text
    undo = {"headers": {"Idempotency-Key": "undo 1"}}
    undone = [ok(visitor.post(f"{API}/undo", **undo)) for _ in range(2)]
    assert undone[0] == undone[1] and undone[0]["likes"] == 1


@pytest.mark.slow
def test_a_key_is_remembered_after_a_day_of_others(visitor):
    for shoe in range(3):
        judge(visitor, items={"top": 1, "bottom": 2, "shoe": shoe})
    undo = {"headers": {"Idempotency-Key": "undo"}}
    first = ok(visitor.post(f"{API}/undo", **undo))
    like = {"items": {"top": 1, "bottom": 2, "shoe": 3}, "liked": True}
    for number in range(101):
        key = {"Idempotency-Key": f"like {number}"}
        ok(visitor.post(f"{API}/feedback", json=like, headers=key), 201)
    assert ok(visitor.post(f"{API}/undo", **undo)) == first
    assert ok(visitor.get(f"{API}/visitors/me"))["likes"] == 3


def test_a_request_is_the_same_in_whatever_order_it_is_written(visitor):
    key = {"Idempotency-Key": "like"}
    like = {"items": {"top": 1, "bottom": 2, "shoe": 3}, "liked": True}
    first = ok(visitor.post(f"{API}/feedback", json=like, headers=key), 201)
    like = {"liked": True, "items": {"shoe": 3, "bottom": 2, "top": 1}}
    assert ok(visitor.post(f"{API}/feedback", json=like, headers=key), 201) == first


@pytest.mark.parametrize("items", [(999, 2, 3), (-1, 999, -1)])
def test_what_only_a_later_version_has_is_taken_back_without_a_card(
    app, visitor, items
):
    judge(visitor, False, items={"top": 1, "bottom": 2, "shoe": 3})
    state = app.state.service.state
    stored = state.visitor(visitor.headers["authorization"].split()[1])
    with state.changing(stored.id) as change:
        event = change.judge(items, True)
    judged = judge(visitor, item={"category": "shoe", "item": 2})
    me = ok(visitor.get(f"{API}/visitors/me"))
    for each in (judged, me):
        assert (each["likes"], each["dislikes"]) == (1, 1)
    ok(visitor.post(f"{API}/undo"))
    undone = ok(visitor.post(f"{API}/undo"))
    assert undone["undone"]["event"] == event and undone["undone"]["liked"]
    assert undone["undone"]["outfit"] is None is undone["undone"]["item"]
    assert (undone["likes"], undone["dislikes"]) == (0, 1)


def test_a_like_that_comes_again_is_answered_though_its_items_are_gone(
    app, visitor, monkeypatch
):
    def unknown(items):
        raise Refused(HTTPStatus.NOT_FOUND, "top 1 is unknown")

    keyed = {"headers": {"Idempotency-Key": "like 1"}}
    like = {"items": {"top": 1, "bottom": 2, "shoe": 3}, "liked": True}
    first = ok(visitor.post(f"{API}/feedback", json=like, **keyed), 201)
    monkeypatch.setattr(app.state.service.visitors._cards, "outfit", unknown)
    assert ok(visitor.post(f"{API}/feedback", json=like, **keyed), 201) == first
    problem(visitor.post(f"{API}/feedback", json=like), 404)


def test_everything_that_is_stored_can_be_had_and_removed(app, visitor):
    first, second = map(items_of, recommended(visitor)[:2])
    judge(visitor, items=first)
    judge(visitor, items=first, liked=False)
    judge(visitor, item={"category": "shoe", "item": 2})
    visitor.put(f"{API}/wardrobe/top/1")
    everything = ok(visitor.get(f"{API}/visitors/me/everything"))
    assert everything["about"] == ok(visitor.get(f"{API}/visitors/me"))
    assert [(one["items"], one["liked"]) for one in everything["feedback"]] == [
        ({"shoe": 2}, True),
        (first, False),
        (first, True),
    ]
    assert everything["wardrobe"] == [{"category": "top", "item": 1}]
    assert everything["photos"] == everything["answers"] == []
    undo = {"headers": {"Idempotency-Key": "undo"}}
    undone = ok(visitor.post(f"{API}/undo", **undo))
    (kept,) = ok(visitor.get(f"{API}/visitors/me/everything"))["answers"]
    assert kept["answer"] == undone
    assert visitor.delete(f"{API}/visitors/me").status_code == 204
    problem(visitor.get(f"{API}/visitors/me/everything"), 401)


def test_a_restart_shows_the_same(settings, app, visitor):
    judge(visitor, items=items_of(recommended(visitor)[0]))
    before = recommended(visitor, explore=0.5)
    again = program(create_app(settings), visitor.headers["authorization"].split()[1])
    assert recommended(again, explore=0.5) == before


def test_a_visitor_can_only_fill_so_much(visitor, monkeypatch):
    monkeypatch.setattr(visitors, "MOST_JUDGEMENTS", 2)
    outfits = recommended(visitor)
    for outfit in outfits[:2]:
        judge(visitor, items=items_of(outfit))
    request = {"items": items_of(outfits[2]), "liked": True}
    text = problem(visitor.post(f"{API}/feedback", json=request), 409)
    assert "2 judgements are kept" in text
    monkeypatch.setattr(wardrobe, "MOST_IN_WARDROBE", 1)
    assert visitor.put(f"{API}/wardrobe/top/1").status_code == 204
    assert "wardrobe is full" in problem(visitor.put(f"{API}/wardrobe/top/2"), 409)


# --- the program -------------------------------------------------------------------


def test_the_api_describes_itself(app):
    about = ok(program(app).get(f"{API}/openapi.json"))
    paths = set(about["paths"])
    assert {f"{API}/feedback", f"{API}/recommendations", f"{API}/compose"} <= paths
    assert all(path.startswith(API) for path in paths)
    for path, methods in about["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (path, method)


def test_metrics_count_requests_and_judgements(settings):
    app = create_app(settings)
    client = browser(app)
    ok(client.post(f"{API}/visitors", json={}), 201)
    client.headers["idempotency-key"] = "like"
    for _ in range(2):  # The second is no judgement.
        judge(client, True, items={"top": 1, "bottom": 2, "shoe": 3})
    text = client.get("/metrics").text
    assert 'fhn_judgements_total{liked="true"} 1.0' in text
    route = f'route="{API}/feedback",status="201"'
    assert f'fhn_request_seconds_count{{method="POST",{route}}} 2.0' in text


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


@pytest.mark.slow
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
