"""What visitors were shown and judged leaves the database, and comes back as likes."""

import dataclasses
import shutil
import time

import numpy as np
import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from random_codes import codes_of
from runs import act
from web_site import API, browser, items_of, judge, make_site, ok, recommended

from fhn_jax import files
from fhn_jax.codes import Codes
from fhn_jax.data.forgetting import forget_user_id
from fhn_jax.data.item_table import read_table
from fhn_jax.data.layout import read_catalogue
from fhn_jax.main import main
from fhn_jax.program import run_program
from fhn_jax.web.app import Settings, create_app
from fhn_jax.web.following import database_of
from fhn_jax.web.state import State

SLOTS = ["top", "bottom", "shoe"]


def make_shop_site(folder, mark=""):
    """A run of random codes on an imported shop: its tables, and how to serve it.

    Args:
      mark: before all ids of items.
    """
    items = [{**row, "id": mark + row["id"]} for row in shops.items()]
    likes = [
        {k: v if k == "user" else mark + v for k, v in row.items()}
        for row in shops.wide_likes()
    ]
    tables = {"items": items, "likes": likes}
    shop = shops.write(folder / "shop", **tables)
    import_catalogue(shop, folder / "data")
    root, run = str(folder / "data"), folder / "run"
    codes_of(read_catalogue(root, "shop")).save(run / "codes.safetensors")
    about = {"data": {"root": root, "variant": "shop"}}
    files.write_sealed(run / "config.json", about)
    return tables, Settings(workdir=str(run), root=root, variant="shop", rate=0.0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A site of which two visitors judged; the folder of its events, what was shown."""
    folder = tmp_path_factory.mktemp("events")
    tables, site = make_shop_site(folder)
    with browser(create_app(site)) as visitor:
        ok(visitor.post(f"{API}/visitors", json={"user": "user 1"}), 201)
        first = recommended(visitor, explore=0.5)
        judge(visitor, items=items_of(first[0]))
        judge(visitor, item={"category": "top", "item": 0})
        again = recommended(visitor)
        judge(visitor, False, items=items_of(first[3]))
        judge(visitor, items=items_of(again[1]))
        judge(visitor, False, items=items_of(again[1]))
        ok(visitor.post(f"{API}/visitors", json={}), 201)
        start = ok(visitor.get(f"{API}/start", params={"k": 4}))["outfits"]
        for look in start:
            judge(visitor, items=items_of(look))
    act("export-events", workdir=site.workdir, folder=str(folder / "events"))
    return folder, site, tables, [first, again, start]


def ids_of(outfits):
    return [[item["id"] for item in outfit["items"]] for outfit in outfits]


def read(folder, name):
    return read_table(folder / "events" / f"{name}.parquet", ["time"])


def items_in(table, rows=slice(None)):
    return np.stack([table[slot][rows] for slot in SLOTS], axis=1).tolist()


def test_exported_tables_are_private(exported):
    tables = sorted((exported[0] / "events").iterdir())
    assert len(tables) == 3
    assert {path.stat().st_mode & 0o777 for path in tables} == {0o600}


def test_a_file_in_the_place_of_the_folder_is_refused(exported, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder, message in [("file", "is a file; expected a folder"), ("file/x", "")]:
        command = ["export-events", f"--workdir={exported[1].workdir}"]
        with pytest.raises(SystemExit) as ended:
            main([*command, f"--folder={tmp_path / folder}"])
        assert str(ended.value).startswith("error: ") and message in str(ended.value)
    with pytest.raises(SystemExit, match="error: .*file: File exists"):
        run_program(lambda _: files.write_json(tmp_path / "file" / "x.json", {}), [])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_what_was_shown_and_judged_is_exported(exported):
    folder, site, _, (first, again, start) = exported
    table = read(folder, "impressions")
    assert [*table] == [
        *("impression", "visitor", "user", "time", "version", "codes", "way"),
        *("k", "explore", "page", "free", "position", "score", "explored"),
        *(*SLOTS, "liked"),
    ]
    assert items_in(table) == ids_of([*first, *again, *start])
    pages = np.repeat([0, 1, 2], [6, 6, 4])
    assert table["impression"].tolist() == pages.tolist()
    assert table["position"].tolist() == [*range(6), *range(6), *range(4)]
    assert table["user"].tolist() == ["user 1"] * 12 + [None] * 4
    assert len(set(table["visitor"])) == 2
    assert table["explored"].tolist() == [o["explored"] for o in first + again + start]
    scores = [outfit["score"] for outfit in [*first, *again, *start]]
    np.testing.assert_allclose(table["score"], scores, atol=1e-5)
    assert set(table["version"]) == {0} and len(set(table["codes"])) == 1
    assert table["way"].tolist() == ["recommend"] * 12 + ["start"] * 4
    np.testing.assert_equal(table["explore"], [0.5] * 6 + [0.0] * 6 + [np.nan] * 4)
    # A judgement is of the last page before it with its outfit; the last one counts.
    expected = [None] * 12 + [True] * 4
    expected[0], expected[7] = True, False
    outfits = ids_of([*first, *again])
    last = max(row for row in range(12) if outfits[row] == outfits[3])
    expected[last] = False
    assert table["liked"].tolist() == expected
    judged = read(folder, "judgements")
    assert len(judged["liked"]) == 9
    assert [judged[slot][1] for slot in SLOTS] == ["T-000", None, None]


@pytest.mark.slow
def test_likes_of_visitors_become_likes_of_the_data(exported, tmp_path):
    folder, site, tables, (first, _, start) = exported
    likes = folder / "events" / "likes.parquet"
    assert read(folder, "likes")["value"].tolist() == [1, -1, 1, -1, 1, 1, 1, 1]
    data = tmp_path / "data"
    import_catalogue(shops.write(tmp_path / "shop", **tables), data)
    before = read_catalogue(data, "shop")
    today = {"items": tmp_path / "shop" / "items.csv", "likes": likes}
    import_catalogue(today, data, update=True)
    after = read_catalogue(data, "shop")
    # One visitor is a user of the shop, and the other is new.
    assert after.num_users == before.num_users + 1
    looks = {tuple(items_of(look).values()) for look in start}
    assert likes_of(after, before.num_users) == looks
    liked = tuple(items_of(first[0]).values())
    assert likes_of(after, 1) == likes_of(before, 1) | {liked}


def likes_of(catalogue, user):
    """The outfits that a user likes, in all splits."""
    positives = [split.positives for split in catalogue.splits.values()]
    rows = [each.items[each.users == user].tolist() for each in positives]
    return {tuple(items) for items in sum(rows, [])}


@pytest.mark.slow
def test_events_of_another_catalogue_are_refused(exported, tmp_path):
    folder, site, _, _ = exported
    other = [{**row, "id": f"9{row['id']}"} for row in shops.items()]
    likes = [
        {k: v if k == "user" else f"9{v}" for k, v in row.items()}
        for row in shops.wide_likes()
    ]
    shop = shops.write(tmp_path / "shop", items=other, likes=likes)
    import_catalogue(shop, tmp_path / "data")
    (shop / "likes.csv").unlink()
    source = folder / "events" / "likes.parquet"
    (shop / "likes.parquet").write_bytes(source.read_bytes())
    with pytest.raises(
        ValueError, match="does it belong to another catalogue.*such as"
    ):
        import_catalogue(shop, tmp_path / "data", update=True)
    run = tmp_path / "run"
    root = str(tmp_path / "data")
    codes_of(read_catalogue(root, "shop")).save(run / "codes.safetensors")
    about = {"data": {"root": root, "variant": "shop"}}
    files.write_sealed(run / "config.json", about)
    text = (
        "judgements.parquet, row 1: top .* is unknown; .*mean '9T-.*another catalogue"
    )
    with pytest.raises(ValueError, match=text):
        act("off-policy", workdir=run, folder=str(folder / "events"))
    with pytest.raises(FileNotFoundError, match="export-events"):
        act("off-policy", workdir=site.workdir, folder=str(tmp_path))


def test_nothing_is_exported_of_who_is_deleted(exported, tmp_path):
    folder, _, _, _ = exported
    shutil.copytree(folder / "run", tmp_path / "run")
    root = shutil.copytree(folder / "data", tmp_path / "data")
    about = {"data": {"root": str(root), "variant": "shop"}}
    files.write_sealed(tmp_path / "run" / "config.json", about)
    forget_user_id(root, "user 1", 1)
    act("export-events", workdir=tmp_path / "run", folder=str(tmp_path / "events"))
    assert len(read(tmp_path, "likes")["value"]) == 4
    for name in ("judgements", "impressions"):
        assert [*read(tmp_path, name)["user"]] == [None] * 4


def test_slots_of_one_category_have_columns_of_their_own(tmp_path, monkeypatch):
    site = make_site(tmp_path, slots=("top", "top", "bottom", "shoe"))
    about = {"data": {"root": site.root, "variant": site.variant}}
    files.write_sealed(f"{site.workdir}/config.json", about)
    codes = Codes.load(f"{site.workdir}/codes.safetensors")
    state = State(database_of(tmp_path / "run"), codes.identity)
    with state.changing(state.visitor(state.create(None)).id) as change:
        change.judge((1, 2, 3, 4), True)
    state.close()
    monkeypatch.setenv("TZ", "Asia/Tokyo")  # Times are those of UTC.
    time.tzset()
    try:
        act("export-events", workdir=site.workdir, folder=str(tmp_path / "events"))
    finally:
        monkeypatch.undo()
        time.tzset()
    likes = read(tmp_path, "likes")
    assert [*likes] == ["user", "top", "top2", "bottom", "shoe", "value", "time"]
    assert [likes["top"][0], likes["top2"][0]] == [codes.names[0][i] for i in (1, 2)]
    assert abs(likes["time"][0] - time.time()) < 3600


def test_off_policy_tells_what_it_can_and_cannot_use(exported, capsys):
    folder, site, _, _ = exported

    def said():
        act("off-policy", workdir=site.workdir, folder=str(folder / "events"))
        return capsys.readouterr().out

    text = said()
    # The first looks are no recommendations.
    assert (
        "2 pages were recommended without conditions and judged; 0 of versions" in text
    )
    assert "nothing can be concluded: what was judged of what this run" in text
    path = f"{site.workdir}/codes.safetensors"
    codes = Codes.load(path)
    latents = np.flip(codes.user_latents, axis=0)
    dataclasses.replace(codes, user_latents=latents).save(path)
    assert "; 2 of versions that are gone and 0 that cannot be made again" in said()
    codes.save(path)
