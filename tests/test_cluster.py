"""Search over a Ray cluster, against the local index."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fhn_jax.data_tools import embed_text
from polyvore_u import write_polyvore_u
from random_codes import codes_of, outfits_of, random_codes, shop_codes
from ray_cluster import (
    ARGUMENTS,
    CODES,
    NODE,
    WRONG,
    assert_same,
    started,
    write_index,
    write_run,
)
from runs import act, settings

from fhn_jax import files
from fhn_jax.cli import on_cluster
from fhn_jax.data.catalogue import stored_outfits
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import UnavailableError
from fhn_jax.evaluation.evaluators import evaluate
from fhn_jax.integrations import cluster, recommending
from fhn_jax.integrations.ray import ClusterIndex
from fhn_jax.integrations.scoring import ClusterScorer
from fhn_jax.recommender.suggestions import Judged
from fhn_jax.retrieval.filters import MustContain, Only
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.searcher import Searcher
from fhn_jax.training.experiment import Experiment, Trained
from fhn_jax.web.following import Settings, make_service

ray = pytest.importorskip("ray", reason="ray is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

# Ray starts processes by a fork, of which JAX warns where it is loaded; they become
# another program at once.
pytestmark = [
    pytest.mark.slow,  # A cluster takes most of a minute to start.
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]


@pytest.fixture(scope="module")
def nodes():
    with started() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def address(nodes):
    """The address of the cluster, to which this process is connected."""
    with cluster.connect(nodes[0].address):
        yield nodes[0].address


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """An index of two segments, with removed outfits."""
    return write_index(tmp_path_factory.mktemp("index") / "outfits")


@pytest.fixture(scope="module")
def shared(address, local):
    """The same index in four shards on three nodes."""
    return ClusterIndex.open(local[0], CODES, shards=4)


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_the_answers_are_those_of_the_local_index(shared, local, arguments):
    _, index = local
    users = np.arange(CODES.num_users)
    expected = index.search_batch(users, **arguments)
    assert_same(shared.search_batch(users, **arguments), expected)
    assert len(shared) == len(index)


def test_outfits_of_several_templates_are_those_of_the_local_index(address, tmp_path):
    codes = shop_codes()
    outfits = outfits_of(np.random.default_rng(0), codes, 300)
    index = OutfitIndex.build(tmp_path / "index", codes, outfits)
    shared = ClusterIndex.open(tmp_path / "index", codes, shards=2)
    for arguments in (
        {"k": 300},
        {"templates": [("dress", "shoe"), ("bag",)], "k": 50},
        {"filters": MustContain({"shoe": 2}), "k": 50},
    ):
        users = np.arange(codes.num_users)
        expected = index.search_batch(users, **arguments)
        assert_same(shared.search_batch(users, **arguments), expected)


def test_many_outfits_tie_and_the_lower_id_wins(shared):
    hits = shared.search(3, 500, score="binary")
    assert len(np.unique(hits.scores)) < 100
    assert np.array_equal(np.lexsort((hits.outfits, -hits.scores)), np.arange(500))


@pytest.mark.parametrize("score", ["binary", "asymmetric"])
def test_a_user_vector_is_as_good_as_an_id(shared, local, score):
    vector = np.linspace(-1, 1, CODES.bits)
    expected = local[1].search(vector, 20, score=score)
    assert_same([shared.search(vector, 20, score=score)], [expected])
    by_id = shared.search(7, 20, score="asymmetric")
    assert_same([shared.search(CODES.user_latents[7], 20)], [by_id])


@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_parts_hold_each_outfit_once(local, count):
    parts = [local[1].part(number, count) for number in range(count)]
    found = np.concatenate([part.search(0, 4000).outfits for part in parts])
    everything = local[1].search(0, 4000).outfits
    assert np.sort(found).tolist() == np.sort(everything).tolist()


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_arguments_get_the_errors_of_the_local_index(
    shared, local, arguments, message
):
    errors = []
    for index in (local[1], shared):
        with pytest.raises(ValueError, match=message) as caught:
            index.search(**{"user": 0} | arguments)
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]


def test_an_index_that_cannot_be_opened_is_named(address, local, tmp_path):
    with pytest.raises(ValueError, match="is an index of other codes"):
        ClusterIndex.open(local[0], random_codes(1, bits=8, counts=(30, 20, 10)))
    with pytest.raises(FileNotFoundError, match="expected an index of outfits"):
        ClusterIndex.open(tmp_path, CODES)
    with pytest.raises(ValueError, match="shards is 0, expected at least 1"):
        ClusterIndex.open(local[0], CODES, shards=0)


def test_an_index_without_outfits_has_no_hits(address, tmp_path):
    OutfitIndex.build(tmp_path / "none", CODES, np.zeros((0, 3), int))
    found = ClusterIndex.open(tmp_path / "none", CODES, shards=2)
    assert len(found.search(0)) == 0


def test_a_shard_that_starts_again_refuses_a_changed_index(address, tmp_path):
    folder = tmp_path / "outfits"
    index = OutfitIndex.build(folder, CODES, np.zeros((20, 3), int))
    shared = ClusterIndex.open(folder, CODES, shards=2)
    index.remove([0])
    # Those that have it open go on showing what they showed.
    assert shared.search(0, 1).outfits.tolist() == [0]
    ray.kill(shared._shards[0], no_restart=False)
    with pytest.raises(ValueError, match="has been changed since it was opened"):
        for _ in range(600):  # Ray kills in the background.
            assert shared.search(0, 1).outfits.tolist() == [0]
            time.sleep(0.1)
    assert ClusterIndex.open(folder, CODES).search(0, 1).outfits.tolist() == [1]


# --- recommendations for all ----------------------------------------------------------


def rows_of(folder):
    return parquet.read_table(folder).to_pylist()


def test_recommendations_of_all_users_are_those_of_the_local_index(
    address, local, tmp_path
):
    folder, index = local
    seen = []
    count = recommending.recommend_all(
        folder,
        CODES,
        tmp_path / "out",
        5,
        users_each=16,
        progress=lambda done, of: seen.append((done, of)),
    )
    names = [f"part-{n:05}.parquet" for n in range(3)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert count == 3 and seen[-1] == (3, 3)
    hits = index.search_batch(np.arange(40), 5)
    expected = [
        {"user": user, "rank": rank, "outfit": outfit, "items": items, "score": score}
        for user, best in enumerate(hits)
        for rank, outfit, items, score in zip(
            range(1, 6),
            best.outfits.tolist(),
            best.items.tolist(),
            best.scores.tolist(),
            strict=True,
        )
    ]
    assert rows_of(tmp_path / "out") == expected
    about = parquet.read_schema(tmp_path / "out" / names[0]).metadata
    assert about[b"codes_sha256"].decode() == CODES.sha256()
    assert json.loads(about[b"slots"]) == ["top", "bottom", "shoe"]
    assert about[b"score"] == b"asymmetric"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"k": 0}, ValueError, "k is 0"),
        ({"score": "relaxed"}, ValueError, "score is 'relaxed'"),
        ({"users_each": 0}, ValueError, "40 users, 0 in a file: expected at least 1"),
        ({"folder": "none"}, FileNotFoundError, "expected an index of outfits"),
        ({"codes": random_codes(1)}, ValueError, "is an index of other codes"),
        ({"out": "."}, FileExistsError, "exists and is left as it is"),
    ],
)
def test_wrong_recommendations_are_refused_and_leave_nothing(
    address, local, tmp_path, monkeypatch, changes, error, message
):
    monkeypatch.chdir(tmp_path)
    arguments = {"folder": local[0], "codes": CODES, "out": "out"} | changes
    with pytest.raises(error, match=message):
        recommending.recommend_all(**arguments)
    assert not list(tmp_path.iterdir())


def test_a_task_that_fails_leaves_no_folder(address, local, tmp_path, monkeypatch):
    # As if the index were changed when the tasks have been sent.
    monkeypatch.setattr(recommending, "index_version", lambda folder: "of another time")
    with pytest.raises(ValueError, match="has been changed since it was opened"):
        recommending.recommend_all(local[0], CODES, tmp_path / "out", users_each=4)
    assert not list(tmp_path.iterdir())


# --- a node that goes -----------------------------------------------------------------


def test_a_node_that_goes_in_the_middle_changes_no_answer(shared, local, nodes):
    head, others = nodes
    gone = next(node for node in others if node.node_id in shared.nodes)
    users = np.arange(CODES.num_users)
    expected = local[1].search_batch(users, 25)
    answers, enough = [], threading.Event()

    def search():
        while not enough.is_set():
            answers.append(shared.search_batch(users, 25))

    searching = threading.Thread(target=search)
    searching.start()
    try:
        while not answers:
            enough.wait(0.01)
        head.remove_node(gone, allow_graceful=False)
        # Its processes outlive it for a moment, and go on answering.
        deadline = time.monotonic() + 60
        while gone.node_id in shared.nodes:
            assert time.monotonic() < deadline
            enough.wait(0.1)
        after = len(answers) + 2
        while len(answers) < after and searching.is_alive():
            enough.wait(0.01)
    finally:
        enough.set()
        searching.join()
    assert len(answers) >= after
    for answer in answers:
        assert_same(answer, expected)


# --- parts by tasks ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A network and images, which are encoded in 12 parts."""
    folder = tmp_path_factory.mktemp("untrained")
    root = write_polyvore_u(folder / "tiny", image_size=16)
    values = {"data.encode_batch": 8, "model.modalities": ("visual",)}
    config = settings(root, values, config="vse_t3")
    experiment = Experiment(config, folder / "run")
    (folder / "run").mkdir()
    return experiment, Trained(experiment.new_model(), 1.0, 0)


@pytest.fixture
def encode(untrained, monkeypatch):
    """Encodes the items on the cluster; calls a function with how many are done."""
    experiment, trained = untrained
    monkeypatch.setattr(on_cluster, "_ITEMS_EACH", 8)
    elsewhere = on_cluster.encode_items(experiment.workdir)

    def encode(note):
        monkeypatch.setattr(experiment, "progress", lambda title: note)
        return experiment.encode(trained, elsewhere)

    return encode


def test_items_are_encoded_to_the_bit_while_a_node_goes(
    address, nodes, untrained, encode
):
    gone, seen = nodes[0].add_node(**NODE), []

    def note(done, total):
        seen.append((done, total))
        if len(seen) == 2:
            nodes[0].remove_node(gone, allow_graceful=False)

    codes, latents = encode(note)
    assert seen == [(n, 12) for n in range(1, 13)]
    expected, of_expected = untrained[0].encode(untrained[1])
    assert codes.sha256() == expected.sha256()
    tables = (np.concatenate(of.items["visual"]) for of in (latents, of_expected))
    assert len({table.tobytes() for table in tables}) == 1
    assert not list(untrained[0].workdir.iterdir())


def test_what_was_encoded_before_an_interruption_is_kept(address, encode):
    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(stop)
    seen = []
    encode(lambda done, total: seen.append(done))
    assert seen == list(range(5, 13))


def test_a_killed_driver_is_taken_over_from_by_the_next(address, local, tmp_path):
    program = f"""
import os, signal
from ray_cluster import CODES
from fhn_jax.integrations import cluster, recommending
from fhn_jax.retrieval.filters import Only
def progress(done, of):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
with cluster.connect({address!r}):
    recommending.recommend_all({str(local[0])!r}, CODES, {str(tmp_path / "out")!r}, 5,
        users_each=4, progress=progress, filters=Only({{"shoe": [1, 2]}}))
"""
    path = {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | path)
    assert done.returncode == -signal.SIGKILL
    seen, arguments = [], {"users_each": 4, "filters": Only({"shoe": [1, 2]})}
    for out in ("out", "other"):
        recommending.recommend_all(
            *(local[0], CODES, tmp_path / out, 5),
            progress=lambda done, of: seen.append(done),
            **arguments,
        )
    assert seen == [*range(3, 11), *range(1, 11)]
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


def test_vectors_of_texts_are_those_of_one_process(address, workdir, monkeypatch):
    root = workdir / "tiny"
    monkeypatch.setattr(embed_text, "_AT_ONCE", 16)
    titles = {name: f"Item {name}" for name in read_catalogue(root, "8").item_names()}
    files.write_json(root / "titles.json", titles)
    here = embed_text.embed_text(root, "here")
    there = embed_text.embed_text(root, "there", ray_address=address)
    assert here.read_bytes() == there.read_bytes()
    assert not list(here.parent.glob(".*"))


def test_scores_are_those_of_one_process(address, workdir, tmp_path):
    catalogue = read_catalogue(workdir / "tiny", "8")
    codes = codes_of(catalogue)
    shared = ClusterScorer(codes, tmp_path / "parts", each=100)
    rank = {"split": "test", "action": "evaluate-rank"}
    found = evaluate(codes, catalogue, scorer=shared, **rank)
    assert found == evaluate(codes, catalogue, **rank)
    assert not list(tmp_path.iterdir())


# --- connecting -----------------------------------------------------------------------


def test_a_connected_process_keeps_its_cluster(address):
    with cluster.connect():
        assert ray.is_initialized()
    with cluster.connect(address):
        assert ray.is_initialized()
    assert ray.is_initialized()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            ValueError, match=f"is connected to the Ray cluster {address}"
        ):
            with cluster.connect(f"127.0.0.1:{port}"):
                pytest.fail("connected")


# --- the command line -----------------------------------------------------------------


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


def test_the_action_recommends_the_outfits_of_the_data(
    address, workdir, tmp_path, capsys
):
    out = tmp_path / "out"
    act(
        *("recommend-all", None, workdir),
        k=3,
        out=str(out),
        ray_address=address,
        include_seen=True,
    )
    catalogue = read_catalogue(workdir / "tiny", "8")
    outfits = stored_outfits(catalogue)
    searcher = Searcher.in_memory(codes_of(catalogue), outfits)
    found = rows_of(out)
    for user in range(8):
        mine = [row["outfit"] for row in found if row["user"] == user]
        assert mine == searcher.search(user, 3).outfits.tolist()
    assert len(found) == 24
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert f"8 users in 1 file\nwrote {out}\n" in capsys.readouterr().out


def test_the_action_recommends_the_outfits_of_an_index(address, workdir, tmp_path):
    catalogue = read_catalogue(workdir / "tiny", "8")
    outfits = stored_outfits(catalogue)[:1]
    OutfitIndex.build(tmp_path / "index", codes_of(catalogue), outfits)
    act(
        "recommend-all",
        workdir=workdir,
        index=str(tmp_path / "index"),
        out=str(tmp_path / "out"),
        include_seen=True,
    )
    assert [row["outfit"] for row in rows_of(tmp_path / "out")] == [0] * 8
    with pytest.raises(FileExistsError, match="out exists and is left as it is"):
        act("recommend-all", workdir=workdir, out=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="give one of them"):
        act("recommend-all", workdir=workdir, index="index", outfits="outfits.csv")


def test_search_asks_a_cluster_about_an_index(address, workdir, tmp_path, capsys):
    catalogue = read_catalogue(workdir / "tiny", "8")
    outfits = stored_outfits(catalogue)
    OutfitIndex.build(tmp_path / "index", codes_of(catalogue), outfits)
    where = {"index": str(tmp_path / "index"), "ray_address": address}
    found = []
    for options in ({}, {"index": where["index"]}, where):
        act("search", workdir=workdir, user="3", k=4, **options)
        found.append(json.loads((workdir / "search.json").read_text()))
    assert found[0] == found[1] == found[2] and len(found[0]["outfits"]) == 4
    with pytest.raises(ValueError, match="needs --index, the folder of an OutfitIndex"):
        act("search", workdir=workdir, ray_address=address)
    with pytest.raises(ValueError, match="give one of them"):
        act("search", workdir=workdir, index=where["index"], outfits="outfits.csv")


def test_a_server_that_lacks_a_shard_says_so(address, workdir, tmp_path, monkeypatch):
    root, index = workdir / "tiny", tmp_path / "index"
    codes = codes_of(read_catalogue(root, "8"))
    OutfitIndex.build(index, codes, stored_outfits(read_catalogue(root, "8")))
    about = {"workdir": str(workdir), "root": str(root), "variant": "8"}
    with pytest.raises(ValueError, match="needs --index, the folder of an OutfitIndex"):
        make_service(Settings(**about, ray_address=address))
    url = f"sqlite:///{tmp_path / 'visitors'}"
    about |= {"index": str(index), "database_url": url}
    monkeypatch.setattr("fhn_jax.recommender.recommender._SHARDS_S", 60.0)
    services = [make_service(Settings(**about, ray_address=a)) for a in (address, "")]
    nothing, answers = Judged.nothing(3), []
    for service in services:
        code = service.recommender.start(3)
        answers.append(service.recommender.recommend(code, 4, judged=nothing))
        service._missing = None
        service.check()
    assert answers[0] == answers[1]
    shared = services[0].recommender.index
    shared.seconds = 1e-9
    with pytest.raises(UnavailableError, match="shards did not answer within"):
        services[0].check()
    shared.seconds = 60.0
    ray.kill(shared._shards[0])
    with pytest.raises(UnavailableError, match="the Ray cluster does not answer"):
        for _ in range(600):  # Ray kills in the background.
            services[0].check()
            time.sleep(0.1)
    [service.close() for service in services]
