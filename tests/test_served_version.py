"""The command line answers as the servers do: by the version that is published."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from random_codes import names_of, run_of
from runs import act
from shapes import write_shapes
from shops import name_items
from web_site import API, ok, program

from fhn_jax import files
from fhn_jax.cli.refreshed import RefreshState, remove_unused_runs, served_run
from fhn_jax.cli.run import RunChoice
from fhn_jax.codes import Codes
from fhn_jax.codes.artifact import FILE as CODES
from fhn_jax.data.item_names import read_names
from fhn_jax.data.item_table import rewrite_table
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError
from fhn_jax.recommender import Recommender
from fhn_jax.recommender.publishing import publish, published
from fhn_jax.retrieval.composer import Composer
from fhn_jax.retrieval.filters import Only
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.web.app import Settings, create_app

pytest.importorskip("duckdb")


@pytest.fixture
def root(tmp_path):
    """Data of a shop: the price of item i is i + .5, and the even ones are in stock."""
    root = write_shapes(tmp_path / "data")
    name_items(root, read_catalogue(root, "8"))
    return root


@pytest.fixture
def workdir(root):
    """A run of random codes."""
    return run_of(root)


def train_on(workdir):
    """Codes of other users, as those of a refresh, with settings."""
    codes = Codes.load(workdir / "codes.safetensors")
    latents = np.random.default_rng(5).normal(size=codes.user_latents.shape)
    folder = workdir / "refreshes/1"
    latents = latents.astype(np.float32)
    lineage = codes.identity
    changed = dataclasses.replace(codes, user_latents=latents, lineage=lineage)
    changed.save(folder / "codes.safetensors")
    files.write_json(
        folder / "config.json", json.loads((workdir / "config.json").read_text())
    )
    return folder


def answer(workdir, command, **options):
    act(command, workdir=workdir, **options)
    name = "fit" if command == "cold-start" else command
    return json.loads((workdir / f"{name}.json").read_text())["outfits"]


ASKED = {
    "search": {"user": "102", "k": 20},
    "compose": {"user": "102", "k": 20},
    "cold-start": {"fit": True, "likes": "shoe-3,bag-1", "k": 20},
}


@pytest.mark.slow
@pytest.mark.parametrize("command", ASKED)
def test_commands_answer_by_the_version_that_is_served(workdir, root, command, capsys):
    own = answer(workdir, command, **ASKED[command])
    assert "answers" not in capsys.readouterr().out
    new = train_on(workdir)
    trained = answer(new, command, **ASKED[command])
    publish(workdir, new, root, "8")
    # What the data become afterwards is not served yet.
    (root / "items.parquet").unlink()
    served = answer(workdir, command, **ASKED[command])
    assert served == trained and (command == "cold-start" or served != own)
    assert f"version 1 answers, the published one of {workdir}" in (
        capsys.readouterr().out
    )
    assert not (workdir / "published/1" / f"{command}.json").exists()


@pytest.mark.slow
def test_going_back_takes_back_the_codes_and_not_the_stock(workdir, root):
    first = publish(workdir, workdir, root, "8")
    changes = root.parent / "stock.csv"
    changes.write_text("id,in_stock\nshoe-2,no\n")
    # What is changed, taken back and gone since stays so.
    act("set-attributes", workdir=workdir, changes=str(changes))
    new = train_on(workdir)
    publish(workdir, new, root, "8")
    changes.write_text("id,in_stock,price\nshoe-2,yes,\nshoe-4,no,7\n")
    act("set-attributes", workdir=workdir, changes=str(changes))
    rewrite_table(root / "items.parquet", "id = id", "id = 'shoe-3'", erase=True)
    publish(workdir, new, root, "8")

    def check(version, run):
        recommender = Recommender.open(version, version, "8")
        assert recommender.codes.sha256() == Codes.load(run / CODES).sha256()
        assert 3 not in recommender.index.stored()[1][:, 2]
        assert 3 not in recommender.names.available["shoe"]
        served = recommender.index.attributes.values()
        shoes = [32 * 2 + item for item in (2, 3, 4, 6)]
        assert [served["in_stock"][item] for item in shoes] == [True, None, False, True]
        assert np.array_equal(
            served["price"][shoes], [np.nan, np.nan, 7, 6.5], equal_nan=True
        )

    for number, run in ((2, new), (1, workdir)):
        act("rollback", workdir=workdir)
        version = published(workdir).current
        assert version is not None and int(version.name) == number
        check(version, run)
        found = answer(workdir, "search", k=500, where=("in_stock",))
        assert not {row["items"][2] for row in found} & {3, 4}
    assert version == first
    # And in the next version, though the table says otherwise.
    check(publish(workdir, workdir, root, "8"), workdir)


def test_nobody_goes_back_to_a_version_that_cannot_be_told_of_the_stock(
    workdir, root, monkeypatch
):
    publish(workdir, workdir, root, "8")
    second = publish(workdir, workdir, root, "8")

    def refuse(*_):
        raise InputError("the disk is strange")

    monkeypatch.setattr(OutfitIndex, "set_attributes", refuse)
    with pytest.raises(InputError, match="the disk is strange"):
        act("rollback", workdir=workdir)
    assert published(workdir).current == second


@pytest.mark.slow
def test_one_can_go_back_from_a_version_that_is_damaged(workdir, root, caplog):
    first = publish(workdir, workdir, root, "8")
    for name in (CODES, "items.parquet"):
        bad = publish(workdir, workdir, root, "8")
        (bad / name).write_text("nothing")
        act("rollback", workdir=workdir)
        assert published(workdir).current == first
        assert name in caplog.text
        Recommender.open(first, first, "8")
        shutil.rmtree(bad)


@pytest.mark.slow
def test_what_goes_on_after_going_back_is_the_network_that_is_served(workdir, root):
    act("publish", workdir=workdir)
    new = train_on(workdir)
    publish(workdir, new, root, "8")
    RefreshState(last="refreshes/1", number=1).write(workdir)
    run = RunChoice(workdir=workdir).open()
    assert served_run(run).workdir == new
    act("rollback", workdir=workdir)
    assert served_run(run).workdir == workdir
    # It can be gone forward from, and back to: its run is kept as long as a version is.
    remove_unused_runs(workdir, RefreshState.read(workdir))
    assert new.is_dir()
    published(workdir).remove_older()
    shutil.rmtree(published(workdir).folder / "2", ignore_errors=True)
    remove_unused_runs(workdir, RefreshState.read(workdir))
    assert not new.is_dir()


@pytest.mark.slow
def test_what_the_shop_has_no_more_is_left_out_and_marked(workdir, root):
    def shoes(found):
        return {row["items"][2] for row in found}

    asked = {"fit": True, "likes": "shoe-3", "k": 500}
    before = shoes(answer(workdir, "cold-start", **asked))
    gone = max(before)
    where = f"id = 'shoe-{gone}'"
    rewrite_table(root / "items.parquet", "id = id", where, erase=True)
    left = answer(workdir, "cold-start", **asked)
    assert shoes(left) == before - {gone}
    # Outfits have the numbers that a search shows.
    search = answer(workdir, "search", k=500, include_seen=True)
    numbers = {tuple(row["items"]): row["id"] for row in search}
    assert all(numbers[tuple(row["items"])] == row["id"] for row in left)
    # From Python, with what is still there, or where nothing is gone.
    codes = Codes.load(workdir / CODES)
    composer = Composer(codes)
    for names in (read_names(root, "8", codes), names_of(codes)):
        there = names.available.get("shoe", range(32))
        found = composer.compose(0, 2000, filters=[Only(names.available)])
        assert {*found.items[:, 2].tolist()} - {-1} <= {*there}
    app = create_app(Settings(workdir=str(workdir), root=str(root), variant="8"))
    try:
        client = program(app)
        assert ok(client.get(f"{API}/item", params={"id": f"shoe-{gone}"}))["gone"]
        query = {"category": "shoe", "limit": 32}
        listed = ok(client.get(f"{API}/items", params=query))["items"]
        assert [card["item"] for card in listed if card["gone"]] == [gone]
    finally:
        app.state.service.close()
