"""What came after training gets codes, what is known stays, what must go goes."""

import functools
import json
import shutil

import fhn_jax.data_tools.import_catalogue as import_catalogue_module
import numpy as np
import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from runs import act, choose, settings, train

from benchmarks.reliability.interruptions import is_litter
from fhn_jax.cli import on_cluster, refreshing
from fhn_jax.cli.refreshed import RefreshState
from fhn_jax.cli.training import update_codes
from fhn_jax.codes import Codes, Latents
from fhn_jax.data.item_table import read_items, read_users
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.vector_files import load_vectors
from fhn_jax.evaluation.evaluators import load_codes
from fhn_jax.files import Versions
from fhn_jax.integrations import tasks
from fhn_jax.new_users import BprFit, no_clicks
from fhn_jax.recommender import Recommender
from fhn_jax.recommender.publishing import published
from fhn_jax.recommender.suggestions import Judged
from fhn_jax.reporting import refreshes as reporting_refreshes
from fhn_jax.reporting.refreshes import read_records
from fhn_jax.retrieval.composer import Composer
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.training.experiment import Experiment
from fhn_jax.web import photos
from fhn_jax.web.following import database_of
from fhn_jax.web.photos import read_encoder
from fhn_jax.web.state import State

pytest.importorskip("duckdb")
pytestmark = pytest.mark.slow
NEW = {"id": "T-900", "category": "T-Shirts", "title": "A linen shirt", "price": "9"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A shop, its data and a run of them, in `shop`, `data` and `run` of a folder."""
    folder = tmp_path_factory.mktemp("growth")
    shops.write(folder / "shop", items=shops.items(), likes=shops.wide_likes())
    import_catalogue(folder / "shop", folder / "data")
    config = config_of(folder)
    train(config, folder / "run")
    act("extract-features", config, folder / "run")
    return folder


def config_of(folder):
    overrides = {
        "data.text": "title",
        "train.epochs": 2,
        "schedule.warmup_steps": 4,
    }
    return settings(folder / "data", overrides, variant="shop")


@pytest.fixture
def place(trained, tmp_path):
    """A copy of `trained` to change."""
    return shutil.copytree(trained, tmp_path / "place")


def update(place, **tables):
    shops.write(place / "shop", **tables)
    import_catalogue(place / "shop", place / "data", update=True)


def grown(place):
    act("extract-features", config_of(place), place / "run", update=True)
    return load_codes(place / "run")


def test_known_codes_stay_to_the_bit_and_new_items_and_users_get_theirs(place):
    old, old_latents = load_codes(place / "run")
    likes = [
        {"user": "new", "top": f"T-00{k}", "bottom": f"B-00{k}", "shoe": f"S-00{k}"}
        for k in range(6)
    ]
    update(place, items=[NEW, *shops.items()], likes=likes)
    with pytest.raises(ValueError, match="extract-features --update"):
        act("extract-features", config_of(place), place / "run")
    codes, latents = grown(place)
    assert codes.num_items == (9, 8, 8) and codes.num_users == 5
    for table, known in zip(codes.items["text"], old.items["text"], strict=True):
        assert np.array_equal(table[: len(known)], known)
    for table, known in zip(
        latents.items["text"], old_latents.items["text"], strict=True
    ):
        assert np.array_equal(table[: len(known)], known)
    assert codes.identity == old.identity != codes.sha256()
    assert np.array_equal(codes.users[:4], old.users)
    assert np.array_equal(codes.user_latents[:4], old.user_latents)
    # The new one is what the network makes of it: of the same text, the same code.
    alike = [dict(NEW, id="T-901"), NEW, *shops.items()]
    update(place, items=alike)
    again, _ = grown(place)
    assert again.identity == old.identity
    assert np.array_equal(again.items["text"][0][9], codes.items["text"][0][8])
    assert again.items["text"][0][8].any()
    # The new user is the one that `fit` learns of the same train likes.
    catalogue = read_catalogue(place / "data", "shop")
    train = catalogue.splits["train"].positives
    theirs = train.items[train.users == 4]
    own = type(train)(np.zeros(len(theirs), np.int32), theirs)
    fitted = BprFit(old_of(codes, 4)).fit(own, no_clicks(codes), 1)
    assert np.array_equal(fitted.latents[0], codes.user_latents[4])
    act("evaluate-accuracy", config_of(place), place / "run")


def test_codes_made_in_parts_are_those_made_at_once(place, monkeypatch):
    pytest.importorskip("ray")
    # As the tasks of a cluster make them, see test_cluster.py, and in this process.
    made = functools.partial(tasks.made_parts, gpus=False)
    monkeypatch.setattr(
        on_cluster, "made_parts", lambda *given, **_: made(*given, cluster=False)
    )
    shutil.copytree(place / "run", place / "other")
    other = choose(config_of(place), place / "other").open()
    update(place, items=[NEW, *shops.items()])
    update_codes(other, on_cluster.encode_items(other.workdir))
    codes, latents = grown(place)
    found, of_found = load_codes(other.workdir)
    assert found.sha256() == codes.sha256()
    for table, expected in zip(
        of_found.items["text"], latents.items["text"], strict=True
    ):
        assert table.tobytes() == expected.tobytes()
    assert not list(other.workdir.glob(".*.parts"))


def old_of(codes, users):
    """The codes with the first users alone."""
    import dataclasses

    latents = codes.user_latents[:users]
    return dataclasses.replace(codes, users=codes.users[:users], user_latents=latents)


def test_nothing_new_changes_no_code(place):
    before = Codes.load(place / "run" / "codes.safetensors").sha256()
    assert grown(place)[0].sha256() == before


def test_only_an_update_of_the_same_data_is_taken(place):
    shutil.rmtree(place / "data")
    few = shops.items(each=7)
    likes = shops.wide_likes(sizes=7)
    import_catalogue(shops.write(place / "few", items=few, likes=likes), place / "data")
    before = (place / "run" / "codes.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"8 items of 'top', and .* 7, .* --update"):
        grown(place)
    assert (place / "run" / "codes.safetensors").read_bytes() == before


def test_what_is_sold_out_is_never_recommended_and_comes_back(place):
    """The index follows: no build, and the ids of what stays stay."""
    first = Recommender.open(place / "run", place / "data", "shop")
    stored = first.index.stored()
    top = int(stored[1][0, 0])
    other = (top + 1) % 8
    update(place, items=[r for r in shops.items() if r["id"] != f"T-{top:03}"])
    recommender = Recommender.open(place / "run", place / "data", "shop")
    gone = stored[1][:, 0] == top
    assert gone.any() and len(recommender.index) == (~gone).sum()
    assert {*recommender.index.stored()[0]} == {*stored[0][~gone]}
    for user in range(4):
        start, nothing = recommender.start(user), Judged.nothing(3)
        shown = recommender.recommend(start, 50, judged=nothing)
        shown += recommender.compose(start, 50, fixed={}).outfits
        assert shown and all(suggestion.items[0] != top for suggestion in shown)
    alike = recommender.similar(0, other, 20)
    assert {item for item, _ in alike} == {*range(8)} - {top, other}
    # What somebody owns may be worn.
    assert recommender.compose(start, 5, fixed={"top": top}).outfits[0].items[0] == top
    mine = {"top": [top], "bottom": [0, 1]}
    worn = recommender.compose(start, 5, fixed={}, candidates=mine, owned=True).outfits
    assert worn and {suggestion.items[0] for suggestion in worn} == {top}
    assert not recommender.compose(start, 5, fixed={}, candidates=mine).outfits
    update(place, items=shops.items())
    again = Recommender.open(place / "run", place / "data", "shop")
    assert len(again.index) == len(stored[0])


def test_new_items_come_into_the_index_without_a_build(place, monkeypatch):
    Recommender.open(place / "run", place / "data", "shop")
    likes = [
        {"user": "user 1", "top": "T-900", "bottom": f"B-00{k}", "shoe": "S-000"}
        for k in range(4)
    ]
    update(place, items=[NEW, *shops.items()], likes=likes)
    grown(place)

    def build(*_, **__):
        raise AssertionError("built anew")

    monkeypatch.setattr(OutfitIndex, "build", build)
    recommender = Recommender.open(place / "run", place / "data", "shop")
    items = recommender.index.stored()[1]
    assert (items[:, 0] == 8).sum() == 4
    assert recommender.names.item("T-900") == (0, 8)
    found = recommender.recommend(recommender.start(1), 50, judged=Judged.nothing(3))
    assert 8 in {suggestion.items[0] for suggestion in found}


def refreshed_config(place):
    config = config_of(place).copy_and_resolve_references()
    config.train.epochs, config.schedule.warmup_steps = 1, 2
    return config.lock()


def like_as_visitor(state, outfits, user=None):
    """A new visitor who likes some outfits; its number."""
    visitor = state.visitor(state.create(user)).id
    with state.changing(visitor) as change:
        for items in outfits:
            change.judge(items, True)
    return visitor


def encode(workdir, program=b"trained"):
    """An encoder of photos, of which only the name is right."""
    codes = Codes.load(workdir / "codes.safetensors")
    photos.save_encoder(workdir / photos.FILE, program, codes, 32)


def refresh(place, **options):
    act("refresh", config_of(place), place / "run", **options)


def test_a_refresh_takes_todays_tables_to_a_version(place, monkeypatch):
    likes = [
        {"user": user, "top": "T-900", "bottom": f"B-00{k}", "shoe": "S-000"}
        for user in ("user 1", "new")
        for k in range(4)
    ]
    shop = shops.write(place / "shop", items=[NEW, *shops.items()], likes=likes)
    encode(place / "run", b"first")
    monkeypatch.setattr(refreshing, "write_encoder", lambda run: encode(run.workdir))
    # Without training, then with; the second is interrupted before it publishes.
    state = State(database_of(place / "run"), load_codes(place / "run")[0].identity)
    visitor = like_as_visitor(state, [(7, k, 7) for k in range(5)])
    like_as_visitor(state, [(0, 7, 7)], user=2)
    refresh(place, shop=str(shop), epochs=0, events=True)
    versions = published(place / "run")
    first = Codes.load(versions.current / "codes.safetensors")
    assert versions.current.name == "1" and first.num_items == (9, 8, 8)
    assert read_encoder(versions.current / photos.FILE).program == b"first"
    assert first.num_users == 6 and first.users[5].any()
    likes = read_catalogue(versions.current, "shop").splits["train"].positives
    assert [2, 0, 7, 7] in np.column_stack([likes.users, likes.items]).tolist()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    trained_on = []
    real = refreshing.warm_start_of

    def counted(*arguments):
        trained_on.append(1)
        return real(*arguments)

    monkeypatch.setattr(refreshing, "warm_start_of", counted)
    with monkeypatch.context() as patch:
        patch.setattr(refreshing, "publish_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            refresh(place, shop=str(shop), epochs=1, fall="0.9")
    assert versions.current.name == "1"
    refresh(place, shop=str(shop), epochs=1, fall="0.9")
    assert versions.current.name == "2" and trained_on == [1]
    second = Codes.load(versions.current / "codes.safetensors")
    assert second.identity == first.identity and second.num_users == 6
    assert second.sha256() != first.sha256()
    # Rates that took half of this run to rise would have hardly trained.
    config = json.loads((place / "run/refreshes/1/config.json").read_text())
    assert (config["train"]["epochs"], config["schedule"]["warmup_steps"]) == (1, 2)
    # Photos of visitors are encoded by the network of the codes.
    encoder = read_encoder(versions.current / photos.FILE)
    assert (encoder.program, encoder.run) == (b"trained", second.config_hash)
    # What falls is not published; the data are, without the visitor who has gone.
    state.forget(visitor)
    state.close()
    with monkeypatch.context() as patch:
        scores = iter([0.9, 0.5])
        patch.setattr(refreshing, "_score", lambda *_: next(scores))
        with pytest.raises(SystemExit) as ended:
            refresh(place, events=True, epochs=1, fall="0.1")
    assert ended.value.code == 2 and versions.current.name == "3"
    third = Codes.load(versions.current / "codes.safetensors")
    assert np.array_equal(third.users[:5], second.users[:5])
    assert second.users[5].any() and not third.users[5].any()
    assert read_users(versions.current)[5] == "forgotten-user-5"
    assert [p.name for p in (place / "run" / "refreshes").glob("[0-9]*")] == ["1"]
    with pytest.raises(ValueError, match="--epochs=-1: expected 0 or more"):
        refresh(place, epochs=-1)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        refresh(place, shop=str(place / "none"), epochs=0)
    (place / "run" / "visitors.sqlite").unlink()
    elsewhere = f"sqlite:///{place}/other.sqlite"
    for options in ({}, {"database_url": elsewhere}):
        with pytest.raises(FileNotFoundError, match="would all be taken as deleted"):
            refresh(place, events=True, **options)
        with pytest.raises(FileNotFoundError, match="there is no database of visitors"):
            act(
                *("export-events", config_of(place), place / "run"),
                **{"folder": str(place / "events"), **options},
            )
    assert not list(place.rglob("*.sqlite"))
    plain, trained, fell, failed, *_ = read_records(place / "run")["refreshes"]
    assert plain["changes"]["new users"] == 2
    assert plain["changes"]["likes of visitors"] == 6
    assert fell["changes"] == {"likes that visitors took back": 5}
    assert plain["changes"]["new items"] == 1 and plain["version"] == 1
    assert trained["is_good"] and trained["before"] > 0.2 and trained["curves"]
    assert (fell["before"], fell["after"], fell["is_good"]) == (0.9, 0.5, False)
    assert failed["outcome"].startswith("failed: there is no folder")
    assert failed["version"] == 3 and (place / "run" / "refreshes.html").is_file()
    # Who is deleted is in no version and no run any more.
    assert third.users[4].any()
    forget(place, user="new", receipt=str(place / "receipt.json"))
    deleted = json.loads((place / "receipt.json").read_text())["deleted"]
    assert deleted["published"] == 3 and deleted["refreshes/1/codes.safetensors"] == 1
    assert versions.numbers == [4]
    for folder in (versions.current, place / "run", place / "run/refreshes/1"):
        left = Codes.load(folder / "codes.safetensors")
        assert not left.users[4].any() and not left.user_latents[4].any(), folder
    best = Experiment(refreshed_config(place), place / "run/refreshes/1").best()
    table = np.asarray(best.model.user.embedding[...])
    assert not table[4:].any() and table[:4].any(axis=1).all()


def test_a_refresh_that_is_interrupted_anywhere_is_finished_by_the_next(
    place, monkeypatch
):
    shop = str(shops.write(place / "shop", items=[NEW, *shops.items()]))
    refresh(place, epochs=0)
    versions = published(place / "run")
    old = Codes.load(versions.current / "codes.safetensors")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    seen = []
    for owner, name in (
        (import_catalogue_module, "replaced_folder"),
        (refreshing, "update_codes"),
        (Latents, "save_with"),
        (refreshing, "publish_run"),
        (Composer, "kept"),
        (Versions, "_point_to"),
        (Versions, "_prune"),
        (RefreshState, "write"),
        (refreshing, "remove_unused_runs"),
        (reporting_refreshes, "note"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                refresh(place, shop=shop, epochs=0)
        found = Recommender.open(versions.current, versions.current, "shop").codes
        seen.append(found.num_items)
        assert found.sha256() == old.sha256() or found.num_items == (9, 8, 8)
    assert seen == [(8, 8, 8)] * 6 + [(9, 8, 8)] * 4
    refresh(place, shop=shop, epochs=0)
    new = Codes.load(versions.current / "codes.safetensors")
    assert new.sha256() == found.sha256()
    assert not [path for path in place.rglob("*") if is_litter(path)]


# Deleting for good.


def forget(place, **options):
    act("forget", config_of(place), place / "run", **options)


def test_a_user_is_deleted_from_everything(place, capsys):
    before, _ = load_codes(place / "run")
    old = read_catalogue(place / "data", "shop")
    act("search", config_of(place), place / "run", user="user 1")
    state = State(database_of(place / "run"), before.identity)
    for user in (1, 2, None):
        like_as_visitor(state, [(0, 7, 7)], user=user)
    forget(place, user="user 1", receipt=str(place / "receipt.json"))
    receipt = json.loads((place / "receipt.json").read_text())
    assert receipt["user"] == "user 1" and '"deleted"' in capsys.readouterr().out
    deleted = receipt["deleted"]
    assert deleted["tuples_shop/tuples_train_posi"] == 4 == deleted["users.parquet"] * 4
    assert deleted["codes.safetensors"] == deleted["search.json"] == 1
    assert deleted["visitors"] == 1
    assert [event.user for event in state.events()] == [2, None]
    state.close()
    assert deleted["checkpoints"] == 2 or deleted["checkpoints"] == 1
    users = read_users(place / "data")
    assert users.names == ["user 0", "forgotten-user-1", "user 2", "user 3"]
    codes, latents = load_codes(place / "run")
    assert not codes.users[1].any() and not codes.user_latents[1].any()
    others = [0, 2, 3]
    assert np.array_equal(codes.user_latents[others], before.user_latents[others])
    assert latents is not None and codes.identity == before.identity
    now = read_catalogue(place / "data", "shop")
    for split, part in now.splits.items():
        theirs = old.splits[split].positives
        mine = {tuple(row) for row in theirs.items[theirs.users == 1].tolist()}
        left = part.positives
        assert not mine & {tuple(r) for r in left.items[left.users == 1].tolist()}
        assert np.array_equal(
            left.items[left.users != 1], theirs.items[theirs.users != 1]
        )
    # The network has nothing of the user, and is the network of these data.
    model = Experiment(config_of(place), place / "run").best().model
    table = np.asarray(model.user.embedding[...])
    assert not table[1].any() and table[[0, 2, 3]].any(axis=1).all()
    for path in [*place.joinpath("data").rglob("*"), *place.joinpath("run").rglob("*")]:
        assert not path.is_file() or b"user 1" not in path.read_bytes(), path
    act("evaluate-accuracy", config_of(place), place / "run")


def test_an_item_is_deleted_from_everything(place):
    Recommender.open(place / "run", place / "data", "shop")
    act("publish", config_of(place), place / "run")
    before, _ = load_codes(place / "run")
    forget(place, item="T-002")
    table = read_items(place / "data")
    row = table.ids.number("forgotten-top-2")
    assert row == 2 and table.titles[2] is None and table.removed[2]
    assert table.row(row) == {"id": "forgotten-top-2", "category": "top"}
    catalogue = read_catalogue(place / "data", "shop")
    assert catalogue.names[0][2] == "forgotten-top-2"
    names, vectors = load_vectors(place / "data" / "vectors" / "title.npz")
    assert not np.asarray(vectors)[names.index("forgotten-top-2")].any()
    codes, latents = load_codes(place / "run")
    assert not codes.items["text"][0][2].any() and not latents.items["text"][0][2].any()
    left = [0, 1, *range(3, 8)]
    assert np.array_equal(codes.items["text"][0][left], before.items["text"][0][left])
    assert not (place / "run" / "outfits").exists()
    for path in [*place.joinpath("data").rglob("*"), *place.joinpath("run").rglob("*")]:
        content = path.read_bytes() if path.is_file() else b""
        assert b"T-002" not in content and b"no. 2" not in content, path
    recommender = Recommender.open(place / "run", place / "data", "shop")
    assert 2 not in recommender.index.stored()[1][:, 0]
    # Again, it changes nothing.
    sha = codes.sha256()
    forget(place, item="top:#2")
    assert load_codes(place / "run")[0].sha256() == sha


def test_who_has_too_few_likes_yet_is_deleted(place):
    update(place, likes=[dict(shops.wide_likes()[0], user="user 9")])
    forget(place, user="user 9", receipt=str(place / "receipt.json"))
    deleted = json.loads((place / "receipt.json").read_text())["deleted"]
    assert deleted == {"quarantine.jsonl": 1, "waiting.parquet": 1}
    assert b"user 9" not in (place / "data" / "waiting.parquet").read_bytes()


def test_who_is_unknown_cannot_be_deleted(place):
    for wrong, message in [
        ({"user": "user 9"}, "user 'user 9' is not one of the 4 users"),
        ({"item": "X-1"}, "'X-1' is no item; expected"),
        ({"user": "user 1", "item": "T-001"}, "give one of --user and --item"),
        ({}, "give one of"),
    ]:
        with pytest.raises(ValueError, match=message):
            forget(place, **wrong)
