"""The shop's own ids and titles on the command line, in the API and on the page."""

import csv
import json
import pickle
import re

import numpy as np
import pytest
from random_codes import codes_of
from runs import act
from shapes import write_shapes
from shops import EVIL, name_items
from test_page import Elements
from web_site import API, compose, judge, ok, problem, program, recommended

from fhn_jax import files, main
from fhn_jax.cli.run import RunChoice
from fhn_jax.data.catalogue import stored_outfits
from fhn_jax.data.item_table import rewrite_table
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import UserError
from fhn_jax.reporting.page import Pictures
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.where import Where
from fhn_jax.web.app import Settings, create_app

pytest.importorskip("duckdb")


# A user of the data who was a visitor of the site.
SOMEBODY = "visitor-3-1790000000"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of random codes of a shop's items, with outfits of four shapes."""
    folder = tmp_path_factory.mktemp("shop")
    root = write_shapes(folder / "data", image_size=16)
    catalogue = read_catalogue(root, "8")
    name_items(root, catalogue)
    rewrite_table(root / "users.parquet", f"id = '{SOMEBODY}'", '"index" = 6')
    codes_of(catalogue).save(folder / "run" / "codes.safetensors")
    config = {"data": {"root": str(root), "variant": "8"}}
    files.write_json(folder / "run" / "config.json", config)
    return folder / "run"


def answer(workdir, command, **options):
    """What the command prints, and what its file then holds."""
    act(command, workdir=workdir, **options)
    name = "fit" if command == "cold-start" else command
    return json.loads((workdir / f"{name}.json").read_text(encoding="utf-8"))


# --- the command line -------------------------------------------------------------


@pytest.mark.parametrize("command", ["search", "compose"])
def test_answers_are_asked_and_given_in_the_shops_ids(workdir, command, capsys):
    fixed = {"fixed": "shoe-3"} if command == "compose" else {}
    shapes = {"templates": "shoe+dress+bag,top+bottom+shoe"}
    found = answer(workdir, command, user="103", k=9, **shapes, **fixed)
    assert (found["user"], found["user_id"]) == (3, "103")
    same = answer(workdir, command, user="#3", k=9, **shapes, **fixed)
    assert same["outfits"] == found["outfits"]
    assert found["outfits"]
    for row in found["outfits"]:
        there = np.flatnonzero(np.array(row["items"]) >= 0).tolist()
        assert there in ([0, 1, 2], [2, 3, 5])
        for slot, (item, own) in enumerate(zip(row["items"], row["ids"], strict=True)):
            category = ("top", "bottom", "shoe", "dress", "outerwear", "bag")[slot]
            assert own == (f"{category}-{item}" if item >= 0 else None)
            assert (row["names"][slot] is None) == (item < 0)
        if fixed:
            assert row["ids"][2] == "shoe-3"
    table = capsys.readouterr().out.splitlines()[1]
    first = found["outfits"][0]
    for own, title in zip(first["ids"], first["titles"], strict=True):
        assert (
            own is None or f"{own} {title or ''}".strip()[:40] in table or title == EVIL
        )
    assert "–" in table
    assert (workdir / f"{command}.png").is_file()


def rows_of(found):
    return [tuple(row["items"]) for row in found["outfits"]]


@pytest.mark.parametrize("command", ["search", "compose"])
def test_flags_that_are_lists_add_up_and_take_ids_with_commas(workdir, command):
    root = workdir.parent / "data"
    before = (root / "items.parquet").read_bytes()
    for old, new in (("shoe-6", "shoe,6"), ("dress-1", "6,dress")):
        rewrite_table(root / "items.parquet", f"id = '{new}'", f"id = '{old}'")
    try:
        flags = ["--without=shoe-4, shoe-8", "--without", "shoe,6", "--k=40"]
        flags += ["--only=dress:6,dress", "--only", "dress-3", "--at-most=item=2"]
        flags += ["--at-most=price=3", "--templates=bag", "--include-seen"]
        flags += ["--templates", "shoe+dress+bag"]
        main.run([command, f"--workdir={workdir}", *flags])
        found = json.loads((workdir / f"{command}.json").read_text())
        rows = np.array(rows_of(found))
        assert found["without"] == ["shoe-4, shoe-8", "shoe,6"]
        assert len(rows) and set(rows[:, 3].tolist()) <= {-1, 1, 3}
        assert not {4, 6, 8} & set(rows[:, 2].tolist())
        if command == "compose":
            flags = ["--fixed=shoe,6", "--fixed", "dress:6,dress"]
            main.run(["compose", f"--workdir={workdir}", *flags])
            found = json.loads((workdir / f"{command}.json").read_text())
            assert {o[2:4] for o in rows_of(found)} == {(6, 1)}
            likes = ["--likes=shoe,6", "--likes", "bag-1,bag-2"]
            main.run(["cold-start", "--fit", f"--workdir={workdir}", *likes])
            found = json.loads((workdir / "fit.json").read_text())["likes"]
            assert [max(row) for row in found] == [6, 1, 2]
    finally:
        (root / "items.parquet").write_bytes(before)


def test_a_title_cannot_colour_the_terminal(workdir, capsys):
    answer(workdir, "compose", fixed="shoe-2", k=2)
    out = capsys.readouterr().out
    assert "<img src=x" in out and "\x1b" not in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"user": "3"}, "--user: user '3' is not one of the 8 users; .* #0 to #7"),
        ({"user": "1O3"}, "did you mean '103'"),
        (
            {"fixed": "shoe:shoe-33"},
            "shoe 'shoe-33' is unknown; .*did you mean 'shoe-3",
        ),
        (
            {"fixed": "shoe-3,top-1", "without": "bag-1,shoe-3"},
            "--fixed asks for shoe 'shoe-3.*', which --without=bag-1,shoe-3 leaves out",
        ),
        ({"fixed": "shoe-3", "only": "shoe-4"}, "which --only=shoe-4 leaves out"),
        ({"fixed": "shoe:3"}, "expected an id of the shop, or #0 to #"),
        ({"fixed": "shoe:top-3"}, "'top-3' is an item of top, not of shoe"),
        ({"fixed": "shoes:#3"}, "'shoes:#3' is no item; .*; did you mean 'shoe'"),
        ({"templates": "shoe+dres+bag"}, "is no template .*did you mean 'shoe\\+dress"),
    ],
)
def test_what_is_unknown_is_named_with_the_nearest(workdir, options, message):
    for command in ("compose", "search"):
        with pytest.raises(UserError, match=message):
            answer(workdir, command, **options)


def test_what_leaves_no_outfit_is_named_by_the_shops_id(workdir, capsys):
    found = answer(workdir, "search", fixed=("top-1", "dress-2"))
    assert not found["outfits"] and found["emptied_by"] == "with top-1,dress-2"
    assert "no outfit is left by: with top-1,dress-2" in capsys.readouterr().out


def test_clicks_and_files_of_outfits_may_have_the_shops_ids(workdir, tmp_path):
    likes = "bag-3,#2,//shoe-1/dress-2//bag-1"
    found = answer(workdir, "cold-start", fit=True, likes=likes, k=3)
    assert found["likes"][0] == [-1, -1, -1, -1, -1, 3]
    assert found["likes"][2] == [-1, -1, 1, 2, -1, 1]
    assert len(found["outfits"][0]["ids"]) == 6
    table = tmp_path / "outfits.csv"
    header = "top,bottom,shoe,dress,outerwear,bag\n"
    table.write_text(header + "top-1,bottom-2,shoe-3,,,\n,,shoe-3,dress-2,-1,#4\n")
    found = answer(workdir, "search", outfits=str(table))
    rows = [[1, 2, 3, -1, -1, -1], [-1, -1, 3, 2, -1, 4]]
    assert sorted(row["items"] for row in found["outfits"]) == sorted(rows)
    table.write_text(header + "top-1,,shoe-3,,,\n")
    with pytest.raises(UserError, match="line 2: no outfit has just these slots"):
        answer(workdir, "search", outfits=str(table))


def test_ranked_pictures_are_of_the_users_that_the_shop_names(workdir, tmp_path):
    from fhn_jax.data_tools.export_ranked import export_ranked

    users = export_ranked(workdir, tmp_path / "out", users="103,#5", best=2)
    assert users == [3, 5]
    with open(tmp_path / "out" / "user_3" / "ranking.csv", encoding="utf-8") as file:
        header, first, *_ = csv.reader(file)
    own = [cell for cell in first[3:] if cell]
    assert header[3:5] == ["top", "bottom"] and own
    for cell in own:
        assert re.fullmatch(r"[a-z]+-\d+", cell), cell
    with pytest.raises(UserError, match="'10' is not one of the 8 users"):
        export_ranked(workdir, tmp_path / "other", users="10")


@pytest.mark.slow
def test_files_of_recommendations_have_the_shops_names(workdir, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    pytest.importorskip("ray", reason="ray is not installed")
    from fhn_jax.cli.recommending import _own_names
    from fhn_jax.cli.rules import Given
    from fhn_jax.integrations.ray import index_version
    from fhn_jax.integrations.recommending import _prepare

    run = RunChoice(workdir=workdir).open()
    codes, outfits = run.codes(), stored_outfits(run.catalogue())
    names = run.names(codes)
    OutfitIndex.build(tmp_path / "index", codes, outfits)
    seen = Given().seen(run, codes)
    attributes = Attributes.in_memory(codes, names.columns())
    rules = pickle.loads(
        pickle.dumps(([Where("price<=30.5")], {"item": 2}, seen, attributes))
    )
    own = _own_names(names)
    version = index_version(tmp_path / "index")
    path = tmp_path / "part.parquet"
    # The task itself: a cluster takes seconds to start, see test_cluster.py.
    shared = (tmp_path / "index", version, codes, 3, "asymmetric", own, rules)
    _prepare(shared)((2, 6), path)
    rows = parquet.read_table(path).to_pylist()
    assert [row["user_id"] for row in rows[::3]] == ["102", "103", "104", "105"]
    liked = run.catalogue().splits["train"].positives
    for row in rows:
        own = liked.items[liked.users == row["user"]].tolist()
        assert row["items"] not in own and max(row["items"]) <= 30
        items = list(enumerate(row["items"]))
        ids = [names.id(slot, i) if i >= 0 else None for slot, i in items]
        titles = [names.title(slot, i) if i >= 0 else None for slot, i in items]
        assert (row["item_ids"], row["titles"]) == (ids, titles)
    assert any(None in row["item_ids"] for row in rows)


def test_the_report_names_outfits_as_text(workdir, tmp_path):
    run = RunChoice(workdir=workdir).open()
    catalogue, names = run.catalogue(), run.names(run.codes())
    pictures = Pictures(tmp_path, catalogue, run.images(), names)
    outfit = np.array([-1, -1, 1, 2, -1, 4])
    titles = Elements(pictures.titles(outfit)).named("div")[1:]
    assert [text for _, text in titles] == [
        *("shoe-1", EVIL.replace("\x1b", " ")),
        "Linen bag no. 4",
    ]
    shown = Elements(pictures.outfit(outfit)).named("img")
    assert [a["alt"] for a, _ in shown] == [
        "shoe: shoe-1",
        f"dress: {EVIL}",
        "bag: Linen bag no. 4",
    ]
    assert pictures.names.user(3) == "103"


# --- the API and the page ---------------------------------------------------------


@pytest.fixture(scope="module")
def app(workdir):
    config = json.loads((workdir / "config.json").read_text())["data"]
    app = create_app(Settings(workdir=str(workdir), rate=0.0, **config))
    yield app
    app.state.service.close()


@pytest.fixture
def visitor(app):
    token = ok(program(app).post(f"{API}/visitors", json={}), 201)["token"]
    return program(app, token)


@pytest.mark.slow
def test_cards_have_ids_titles_and_attributes_as_the_shop_has_them(app, visitor):
    card = ok(visitor.get(f"{API}/item", params={"id": "shoe-4"}))
    assert (card["category"], card["item"], card["id"]) == ("shoe", 4, "shoe-4")
    assert card["title"] == "Linen shoe no. 4"
    assert card["attributes"] == {
        **{"price": 4.5, "in_stock": True, "brand": EVIL},
        "colour": "red",
        "url": "https://shop.test/shoe-4",
    }
    assert ok(visitor.get(f"{API}/item", params={"id": "shoe-1"}))["title"] == "shoe-1"
    problem(visitor.get(f"{API}/item", params={"id": "4"}), 404)
    assert ok(visitor.get(f"{API}/items/shoe/4")) == card
    problem(visitor.get(f"{API}/items/shoe/999"), 404)
    # What a list or an outfit shows is all that is sent with it.
    found = ok(visitor.get(f"{API}/items?category=shoe&q=SHOE-4"))["items"]
    assert found == [card | {"attributes": {"price": 4.5}}]
    for outfit in recommended(visitor, k=12):
        slots = [piece["slot"] for piece in outfit["items"]]
        assert slots == [piece["id"].split("-")[0] for piece in outfit["items"]]
        assert all(set(piece["attributes"]) == {"price"} for piece in outfit["items"])
    assert "https://shop.test" not in visitor.get("/").text


def test_requests_may_name_items_by_the_shops_ids(visitor):
    looks = compose(
        visitor, fixed={"shoe": "shoe-4"}, templates=[["top", "bottom", "shoe"]]
    )
    for outfit in looks["outfits"]:
        assert [p["slot"] for p in outfit["items"]] == ["top", "bottom", "shoe"]
        assert outfit["items"][2]["id"] == "shoe-4"
    candidates = compose(
        visitor, candidates={"shoe": ["shoe-1", 2]}, fixed={"bag": ["bag-3"]}
    )
    assert {p["item"] for o in candidates["outfits"] for p in o["items"][:1]} <= {1, 2}
    ids = {piece["slot"]: piece["id"] for piece in looks["outfits"][0]["items"]}
    numbers = {p["slot"]: p["item"] for p in looks["outfits"][0]["items"]}
    why = ok(visitor.post(f"{API}/explain", json={"items": ids}))
    assert why == ok(visitor.post(f"{API}/explain", json={"items": numbers}))
    judge(visitor, items=ids)
    judge(visitor, False, item={"category": "bag", "item": "bag-3"})
    stored = ok(visitor.get(f"{API}/visitors/me/everything"))["feedback"]
    assert [one["items"] for one in stored] == [{"bag": 3}, numbers]


@pytest.mark.parametrize(
    ("path", "request_", "status"),
    [
        ("feedback", {"items": {"bag": "no"}, "liked": True}, 404),
        ("feedback", {"items": {"bag": "shoe-1"}, "liked": True}, 404),
        ("feedback", {"item": {"category": "bag", "item": "3"}, "liked": True}, 404),
        ("feedback", {"items": {"bag": ""}, "liked": True}, 422),
        ("compose", {"fixed": {"shoe": "bag-1"}}, 404),
        ("compose", {"fixed": {"shoe": "w1"}}, 404),
        ("compose", {"templates": [["shoe"]]}, 422),
        ("visitors", {"user": "3"}, 404),
        ("visitors", {"user": SOMEBODY}, 404),
        ("visitors", {"user": 6}, 404),
    ],
)
def test_unknown_ids_are_refused(visitor, path, request_, status):
    problem(visitor.post(f"{API}/{path}", json=request_), status)


def test_a_known_user_is_opened_by_the_shops_id(app):
    about = ok(program(app).post(f"{API}/visitors", json={"user": "105"}), 201)
    assert (about["user"], about["user_id"]) == (5, "105")
    client = program(app, about["token"])
    assert "What person 105 of the data" in client.get("/").text
    assert ok(program(app).post(f"{API}/visitors", json={"user": 5}), 201)["user"] == 5


def test_the_page_shows_titles_and_prices_of_each_shape_and_no_markup_of_theirs(app):
    text = program(app).get("/").text
    outfits = app.state.service.outfits.start(None, 12).outfits
    elements = Elements(text)
    looks = [
        a["class"] for a, _ in elements.named("div") if "look-" in a.get("class", "")
    ]
    shown = [f"look look-{len(outfit.items)}" for outfit in outfits]
    assert looks[: len(shown)] == shown and len(set(shown)) > 1
    pieces = [a for a, _ in elements.named("button") if "data-item" in a]
    assert [(a["data-category"], a["data-item"]) for a in pieces] == [
        (piece.category, str(piece.item)) for one in outfits for piece in one.items
    ]
    titles = [name for _, name in elements.named("b")]
    assert titles[: len(outfits[0].items)] == [p.title for p in outfits[0].items]
    assert "<img src=x" not in text and 'href="javascript' not in text
    assert all("onerror" not in a for a, _ in elements.named("img"))
