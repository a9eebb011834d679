"""Conditions, caps and what is left out: on the command line, in the API, on a cluster."""

import json
import re
import shutil

import numpy as np
import pytest
from random_codes import run_of
from runs import act
from shapes import write_shapes
from shops import EVIL, name_items
from test_page import Elements
from web_site import API, judge, ok, problem, program, recommended

from fhn_jax.data.catalogue import stored_outfits
from fhn_jax.data.item_names import read_names
from fhn_jax.data.item_table import rewrite_table
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError, UserError
from fhn_jax.recommender import Judged, Recommender, Rules, Where, Without
from fhn_jax.recommender.publishing import publish, published
from fhn_jax.web.app import Settings, create_app

pytest.importorskip("duckdb")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Data of a shop: the price of item i is i + .5, and the even ones are in stock."""
    root = write_shapes(tmp_path_factory.mktemp("shop") / "data")
    name_items(root, read_catalogue(root, "8"))
    return root


@pytest.fixture(scope="module")
def workdir(root):
    return run_of(root)


@pytest.fixture(scope="module")
def likes(root):
    """What each user likes, of the train split."""
    positives = read_catalogue(root, "8").splits["train"].positives
    found = {}
    for user, items in zip(positives.users, positives.items.tolist(), strict=True):
        found.setdefault(int(user), set()).add(tuple(items))
    return found


def answer(workdir, command, **options):
    act(command, workdir=workdir, **options)
    return json.loads((workdir / f"{command}.json").read_text(encoding="utf-8"))


def outfits_of(found):
    return [tuple(row["items"]) for row in found["outfits"]]


def there(outfit):
    return [item for item in outfit if item >= 0]


# --- the command line -------------------------------------------------------------


@pytest.mark.parametrize("command", ["search", "compose"])
def test_what_a_user_likes_is_left_out_unless_asked_for(workdir, likes, command):
    k = 500 if command == "search" else 50
    left = outfits_of(answer(workdir, command, user="#3", k=k))
    assert not likes[3] & set(left) and len(set(left)) == len(left)
    everything = answer(workdir, command, user="#3", k=k, include_seen=True)
    assert everything["include_seen"] is True
    if command == "search":
        assert set(outfits_of(everything)) == set(left) | likes[3]
    else:
        shown = [one for one in outfits_of(everything) if one not in likes[3]]
        assert left[: len(shown)] == shown


@pytest.mark.parametrize("command", ["search", "compose"])
def test_conditions_lists_and_caps_hold(workdir, command):
    found = answer(
        workdir,
        command,
        user="#1",
        k=40,
        where=("price<=20", "shoe:in_stock"),
        only="dress:#3,dress:#4,dress:#5",
        without="shoe-4,#top-1".replace("#top-1", "top-1"),
        at_most="item=2",
    )
    rows = outfits_of(found)
    assert rows and found["where"] == ["price<=20", "shoe:in_stock"]
    for outfit in rows:
        assert all(item < 20 for item in there(outfit))
        assert outfit[2] < 0 or (outfit[2] % 2 == 0 and outfit[2] != 4)
        assert outfit[3] in (-1, 3, 4, 5) and outfit[0] != 1
    columns = np.array(rows).T
    assert all(np.bincount(c[c >= 0], minlength=1).max() <= 2 for c in columns)


@pytest.mark.parametrize("command", ["search", "compose"])
def test_an_empty_answer_says_which_condition_emptied_it(workdir, command, capsys):
    found = answer(workdir, command, where=("price<=3", "price>30"))
    assert (found["outfits"], found["emptied_by"]) == ([], "price>30")
    assert "no outfit is left by: price>30" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [
        ({"where": ("prise<=3",)}, "did you mean 'price'"),
        ({"where": ("price<=cheap",)}, "price is a number"),
        ({"at_most": "brand"}, "--at-most: 'brand' is no limit"),
        ({"at_most": "brandd=1"}, "did you mean 'brand'"),
        ({"at_most": ("brand=2", "brand=3")}, "--at-most: 'brand' comes twice"),
        ({"at_most": "item=0"}, "at_most item is 0"),
        ({"without": "shoo-4"}, "--without: 'shoo-4' is no item"),
    ],
)
def test_bad_rules_are_named(workdir, options, message):
    with pytest.raises(UserError, match=message):
        answer(workdir, "search", **options)


@pytest.mark.slow
def test_attributes_are_set_while_others_have_them_open(workdir, root, tmp_path):
    server = Recommender.open(workdir, root, "8")
    changes = tmp_path / "stock.csv"
    changes.write_text("id,in_stock,price\nshoe-2,no,\nbag-4,false,99.5\n")
    in_stock = Rules(filters=[Where("in_stock")])
    nothing = Judged.nothing(len(server.slots))

    def sold(recommender):
        latents = recommender.start(None)
        found = recommender.recommend(latents, 60, judged=nothing, rules=in_stock)
        return {(s, i) for one in found for s, i in enumerate(one.items) if i >= 0}

    before = sold(server)
    assert before & {(2, 2), (5, 4)}
    act("set-attributes", workdir=workdir, changes=str(changes))
    assert not sold(server) & {(2, 2), (5, 4)}
    # Another server, and the command line, have them too.
    assert sold(Recommender.open(workdir, root, "8")) == sold(server)
    found = answer(workdir, "search", where=("bag:price>99",), k=500)
    assert {outfit[5] for outfit in outfits_of(found)} <= {-1, 4}
    changes.write_text("id,in_stock\nshoe-2,perhaps\n")
    with pytest.raises(
        InputError, match="in_stock is a boolean, and 'perhaps' is none"
    ):
        act("set-attributes", workdir=workdir, changes=str(changes))
    changes.write_text("id,in_stock\nshoe-2,yes\nshoe:#2,no\n")
    with pytest.raises(InputError, match="line 3: 'shoe:#2' comes twice"):
        act("set-attributes", workdir=workdir, changes=str(changes))
    changes.write_text("id,in_stock\nshoe-2,yes\nbag-4,yes\n")
    act("set-attributes", workdir=workdir, changes=str(changes))
    assert sold(server) == before


@pytest.mark.slow
def test_a_published_version_goes_by_the_same_rules(workdir, root, likes, tmp_path):
    run = shutil.copytree(workdir, tmp_path / "run")
    version = publish(run, run, root, "8")
    server = Recommender.open(version, version, "8")
    nothing = Judged.nothing(len(server.slots))

    def items(**options):
        latents = server.start(0)
        found = server.recommend(latents, 60, judged=nothing, user=0, **options)
        return {one.items for one in found}

    everything = Rules(include_seen=True)
    assert likes[0] & items(rules=everything) and not likes[0] & items()
    # What is sold out is so in the version that is served.
    assert any(outfit[2] == 2 for outfit in items(rules=everything))
    changes = tmp_path / "stock.csv"
    changes.write_text("id,in_stock\nshoe-2,no\n")
    act("set-attributes", workdir=run, changes=str(changes))
    in_stock = Rules(filters=[Where("in_stock")], include_seen=True)
    assert items(rules=in_stock)
    assert not any(outfit[2] == 2 for outfit in items(rules=in_stock))
    found = answer(run, "search", where=("in_stock",), k=500, include_seen=True)
    assert not any(outfit[2] == 2 for outfit in outfits_of(found))
    # And in the next version of the same items.
    following = publish(run, run, root, "8")
    kept = Recommender.open(following, following, "8").index.attributes.columns()
    assert not kept["in_stock"].meets("=", ["true"], "in_stock")[32 * 2 + 2]
    # And in one of an update, where the shop's file says nothing new of that very cell.
    changes.write_text("id,in_stock,price\nshoe-3,no,1\nshoe-4,no,1\n")
    act("set-attributes", workdir=run, changes=str(changes))
    root = shutil.copytree(root, tmp_path / "data")
    rewrite_table(root / "items.parquet", "price = 77", "id in ('shoe-2', 'shoe-3')")
    following = publish(run, run, root, "8")
    kept = Recommender.open(following, following, "8").index.attributes.values()
    shoes = [64 + k for k in (2, 3, 4)]
    assert [kept["in_stock"][k] for k in shoes] == [False] * 3
    assert kept["price"][shoes].tolist() == [77, 77, 1]
    # A compacted version has the same outfits by the same ids.
    index = Recommender.open(following, following, "8").index
    index.remove([0, 1])
    index.append(index.stored()[1][:3])
    act("compact", workdir=run)
    small = published(run).current
    assert small.name == "4"
    found = Recommender.open(small, small, "8").index
    assert len(list((small / "outfits").glob("segment-*"))) < len(
        list((following / "outfits").glob("segment-*"))
    )
    assert by_id(found) == by_id(index) and len(found) == len(index)


def by_id(index):
    ids, items = index.stored()
    return dict(zip(ids.tolist(), map(tuple, items.tolist()), strict=True))


# --- the API ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def app(workdir, root):
    app = create_app(
        Settings(workdir=str(workdir), root=str(root), variant="8", rate=0.0)
    )
    yield app
    app.state.service.close()


def visitor_of(app, **about):
    token = ok(program(app).post(f"{API}/visitors", json=about), 201)["token"]
    return program(app, token)


def numbers(app, outfit):
    slots = app.state.service.recommender.slots
    items = {piece["slot"]: piece["item"] for piece in outfit["items"]}
    return tuple(items.get(slot, -1) for slot in slots)


def test_the_api_takes_conditions_lists_and_caps(app):
    visitor = visitor_of(app)
    asked = {
        "where": ["price<=20", "shoe:in_stock"],
        "at_most": ["item=1"],
        "without": ["top:top-1", "shoe:#4"],
        "only": ["dress:dress-3", "dress:dress-5"],
    }
    for explore in (0, 0.5):
        shown = []
        for page in range(2):
            found = recommended(visitor, k=5, page=page, explore=explore, **asked)
            rows = np.array([numbers(app, outfit) for outfit in found])
            assert len(rows) > 1 and (rows < 20).all()
            assert not np.isin(rows[:, 0], [1]).any()
            assert set(rows[:, 2].tolist()) <= {-1, *range(0, 20, 2)} - {4}
            assert set(rows[:, 3].tolist()) <= {-1, 3, 5}
            for column in rows.T:
                items = column[column >= 0]
                assert len(set(items)) == len(items)
            shown += map(tuple, rows.tolist())
        assert explore or len(set(shown)) == len(shown)
    body = {"where": asked["where"], "without": {"shoe": [4]}, "at_most": {"item": 2}}
    made = ok(visitor.post(f"{API}/compose", json=body))
    rows = np.array([numbers(app, outfit) for outfit in made["outfits"]])
    assert made["greedy"] and (rows < 20).all()
    assert set(rows[:, 2].tolist()) <= {-1, *range(0, 20, 2)} - {4}


def test_outfits_of_a_category_have_a_piece_of_it(app):
    visitor = visitor_of(app)
    asked = {"k": 20, "category": ["dress"], "where": ["dress:in_stock"]}
    rows = np.array([numbers(app, one) for one in recommended(visitor, **asked)])
    assert len(rows) and (rows[:, 3] % 2 == 0).all() and (rows[:, [2, 5]] % 2).any()
    asked["category"] = ["dress", "top"]
    found = ok(visitor.get(f"{API}/recommendations", params=asked))
    assert found == {"outfits": [], "emptied_by": "with dress, top"}


@pytest.mark.slow
def test_the_api_leaves_out_what_is_liked_and_judged(app, likes):
    visitor = visitor_of(app, user="103")

    def all_of(**options):
        pages = [recommended(visitor, k=60, page=p, **options) for p in range(3)]
        return [numbers(app, one) for page in pages for one in page]

    first = all_of()
    assert not set(first) & likes[3]
    slots = app.state.service.recommender.slots
    items = {s: i for s, i in zip(slots, first[0], strict=True) if i >= 0}
    judge(visitor, items=items)
    assert first[0] not in all_of()
    assert {first[0], *likes[3]} <= set(all_of(include_seen=True))
    fixed = {s: i for s, i in zip(slots, first[0], strict=True) if i >= 0}
    asked = {"k": 24, "fixed": fixed, "templates": [list(fixed)]}
    assert ok(visitor.post(f"{API}/compose", json=asked))["outfits"] == []
    again = ok(visitor.post(f"{API}/compose", json=asked | {"include_seen": True}))
    assert [numbers(app, one) for one in again["outfits"]] == [first[0]]


def test_the_api_says_which_condition_emptied_an_answer(app):
    visitor = visitor_of(app)
    query = {"where": ["price<=3", "price>30"]}
    found = ok(visitor.get(f"{API}/recommendations", params=query))
    assert found == {"outfits": [], "emptied_by": "price>30"}
    found = ok(visitor.post(f"{API}/compose", json=query))
    assert (found["outfits"], found["emptied_by"]) == ([], "price>30")
    query = {"only": ["shoe:shoe-1", "bag:bag-1"], "without": ["shoe:#1", "bag:bag-1"]}
    found = ok(visitor.get(f"{API}/recommendations", params=query))
    assert found == {"outfits": [], "emptied_by": "without shoe:#1, bag:bag-1"}


@pytest.mark.parametrize(
    "query, status, text",
    [
        ({"where": ["prise<=3"]}, 422, "did you mean 'price'"),
        ({"where": ["<=3"]}, 422, "no condition"),
        ({"at_most": ["brand"]}, 422, "'brand' is no limit"),
        ({"at_most": ["brand=0"]}, 422, "at_most brand is 0"),
        ({"only": ["hat:1"]}, 404, "category 'hat' is unknown"),
        ({"category": ["dres"]}, 404, "did you mean 'dress'"),
        ({"wehre": ["price<=3"]}, 422, "no parameter; expected .* mean 'where'"),
        ({"without": ["shoe:no"]}, 404, "no item of the shop has the id 'no'"),
        ({"where": ["in_stock"] * 33}, 422, "where"),
    ],
)
def test_the_api_refuses_what_makes_no_sense(app, query, status, text):
    visitor = visitor_of(app)
    answer = visitor.get(f"{API}/recommendations", params=query)
    problem(answer, status)
    assert re.search(text, answer.text)


def test_sold_out_items_leave_pages_that_were_shown_already(app):
    visitor, recommender = visitor_of(app), app.state.service.recommender
    query = {"where": ["in_stock"], "k": 8}
    shown = recommended(visitor, **query)
    assert recommended(visitor, **query) == shown
    piece = shown[0]["items"][0]
    of_piece = {piece["category"]: {piece["item"]: False}}
    recommender.index.attributes.change({"in_stock": of_piece})
    left = recommended(visitor, **query)
    assert all(piece["id"] != one["id"] for o in left for one in o["items"])
    of_piece[piece["category"]][piece["item"]] = True
    recommender.index.attributes.change({"in_stock": of_piece})


def test_cards_show_what_conditions_go_by(app, root):
    visitor, recommender = visitor_of(app), app.state.service.recommender
    before = ok(visitor.get(f"{API}/items/shoe/3"))["attributes"]
    assert before == read_names(root, "8", recommender.codes).attributes(2, 3)
    changed = {"price": {"shoe": {3: 555.0}}, "brand": {"shoe": {3: None}}}
    recommender.index.attributes.change(changed)
    try:
        card = ok(visitor.get(f"{API}/items/shoe/3"))["attributes"]
        assert card == {k: v for k, v in before.items() if k != "brand"} | {
            "price": 555.0
        }
        query = {"category": "shoe", "limit": 4}
        listed = ok(visitor.get(f"{API}/items", params=query))["items"]
        assert listed[3]["attributes"] == {"price": 555.0}
        body = {"k": 1, "fixed": {"shoe": 3}, "where": ["shoe:price>500"]}
        (outfit,) = ok(visitor.post(f"{API}/compose", json=body))["outfits"]
        prices = {p["category"]: p["attributes"]["price"] for p in outfit["items"]}
        assert prices["shoe"] == 555.0
    finally:
        back = {"price": {"shoe": {3: 3.5}}, "brand": {"shoe": {3: EVIL}}}
        recommender.index.attributes.change(back)


def test_the_catalogue_lists_what_conditions_may_be_on(app):
    about = ok(program(app).get(f"{API}/catalogue"))["attributes"]
    prices = app.state.service.recommender.index.attributes.values()["price"]
    assert about["price"] == {
        "kind": "number",
        "values": None,
        "counts": None,
        "least": min(prices),
        "most": max(prices),
    }
    assert about["in_stock"]["kind"] == "boolean"
    assert about["brand"]["kind"] == "text" and len(about["brand"]["values"]) == 1
    counts = dict(
        zip(about["colour"]["values"], about["colour"]["counts"], strict=True)
    )
    names = app.state.service.recommender.names
    colours = names.columns()["colour"].tolist()
    assert counts == {colour: colours.count(colour) for colour in set(colours)}


def test_the_page_has_a_form_of_what_tells_items_apart(app):
    elements = Elements(program(app).get("/").text)
    named = [
        (a["data-name"], a["data-kind"])
        for _, a, _ in elements.found
        if "data-name" in a
    ]
    # All pieces have the same brand, and each another address.
    assert named == [("colour", "text"), ("price", "number"), ("in_stock", "boolean")]
    values = [a for a, _ in elements.named("input") if a.get("name") == "colour"]
    assert {a["value"] for a in values} == {"navy", "red", EVIL}
    fills = [a["fill"] for a, _ in elements.named("circle")]
    assert fills == ["#1f2b50", "#cc2936"]


def test_a_shop_without_attributes_has_a_form_of_shapes_alone(app, monkeypatch):
    monkeypatch.setattr(app.state.service.outfits, "attributes", dict)
    text = program(app).get("/").text
    assert 'name="of" value="dress"' in text and "data-name" not in text
    about = app.state.service.catalogue()
    about.templates = about.templates[:1]
    monkeypatch.setattr(app.state.service, "catalogue", lambda: about)
    assert 'id="filter"' not in program(app).get("/").text


def test_a_taste_is_told_in_the_words_of_the_shop(app):
    visitor = visitor_of(app)

    def groups():
        answer = ok(visitor.get(f"{API}/visitors/me/taste"))["groups"]
        return {
            group["name"]: {
                kind: [word["text"] for word in group[kind]]
                for kind in ("liked", "passed")
            }
            for group in answer
        }

    assert groups() == {}
    for item, liked in ((0, True), (3, True), (6, False), (1, False), (4, False)):
        judge(visitor, liked, item={"category": "top", "item": item})
    # Items 0, 3 and 6 are navy, 1 and 4 are red; of the brand there is but one.
    assert groups() == {"Colour": {"liked": ["navy"], "passed": ["red"]}}
    (group,) = ok(visitor.get(f"{API}/visitors/me/taste"))["groups"]
    assert group["liked"] == [
        {"text": "navy", "liked": 2, "passed": 1, "colour": "#1f2b50"}
    ]


# --- the bar ------------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_owned_nothing_sold_out_and_nothing_twice(workdir, root, likes):
    """Recommendations of all users, with conditions drawn at random."""
    recommender = Recommender.open(workdir, root, "8")
    rng = np.random.default_rng(0)
    values = recommender.names.columns()
    starts = np.cumsum([0, *recommender.codes.num_items])
    nothing = Judged.nothing(len(recommender.slots))
    count = 0
    for turn in range(16):
        user = turn % recommender.codes.num_users
        limit = float(rng.integers(5, 40))
        rules = Rules(
            filters=[
                Where("in_stock", f"price<={limit}"),
                Without({"shoe": rng.choice(20, 3, False)}),
            ],
            at_most=[{}, {"item": 3}][turn % 2],
        )
        shown = []
        for page in range(2):
            shown += recommender.recommend(
                recommender.start(user),
                12,
                judged=nothing,
                explore=0.0,
                page=page,
                user=user,
                rules=rules,
            )
        outfits = [one.items for one in shown]
        assert len(set(outfits)) == len(outfits)
        assert not set(outfits) & likes[user]
        for outfit in outfits:
            flat = [starts[s] + i for s, i in enumerate(outfit) if i >= 0]
            assert (
                values["in_stock"][flat].all()
                and (values["price"][flat] <= limit).all()
            )
        count += len(outfits)
    assert count > 100
    assert len(stored_outfits(read_catalogue(root, "8"))) > 50
