"""Search over a Ray cluster, against the local index."""

import json
import socket
import sys
import tempfile
import threading
import time

import numpy as np
import pytest
from polyvore_u import write_polyvore_u
from random_codes import codes_of, outfits_of, random_codes, shop_codes
from runs import act, run

from fhn_jax import files
from fhn_jax.data.catalogue import stored_outfits
from fhn_jax.data.layout import read_catalogue
from fhn_jax.integrations import cluster, recommending
from fhn_jax.integrations.ray import ClusterIndex, open_index
from fhn_jax.retrieval.filters import ExcludeOutfits, MustContain, Only, Wardrobe
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.searcher import Searcher
from fhn_jax.retrieval.where import Where

ray = pytest.importorskip("ray", reason="ray is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

# Ray starts processes by a fork, of which JAX warns where it is loaded; they become
# another program at once.
pytestmark = [
    pytest.mark.slow,  # A cluster takes most of a minute to start.
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]

# Codes of few bits and weights of 1, so that many outfits tie.
CODES = random_codes(bits=8, counts=(30, 20, 10), num_users=40, hash_types=0, alpha=1.0)
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def nodes():
    """A Ray cluster on this machine: it, and those of its three nodes that may go."""
    from ray.cluster_utils import Cluster

    # Not below pytest's folder: the paths of sockets must be short.
    with (
        tempfile.TemporaryDirectory(prefix="ray") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = Cluster(
            initialize_head=True, head_node_args=NODE | {"include_dashboard": False}
        )
        try:
            others = [head.add_node(**NODE) for _ in range(2)]
            yield head, others
        finally:
            head.shutdown()


@pytest.fixture(scope="module")
def address(nodes):
    """The address of the cluster, to which this process is connected."""
    with cluster.connect(nodes[0].address):
        yield nodes[0].address


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """An index of two segments, with removed outfits."""
    rng = np.random.default_rng(0)
    outfits = np.stack([rng.integers(0, n, 3000) for n in CODES.num_items], axis=1)
    folder = tmp_path_factory.mktemp("index") / "outfits"
    prices = rng.integers(0, 100, sum(CODES.num_items))
    about = {"price": prices, "brand": rng.choice(["acme", "bolt"], len(prices))}
    index = OutfitIndex.build(folder, CODES, outfits[:2000], attributes=about)
    index.append(outfits[2000:])
    index.remove(rng.choice(3000, 200, replace=False))
    return folder, index


@pytest.fixture(scope="module")
def shared(address, local):
    """The same index in four shards on three nodes."""
    return ClusterIndex.open(local[0], CODES, shards=4)


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.outfits.tolist() == other.outfits.tolist()
        assert one.scores.tolist() == other.scores.tolist()
        assert one.items.tolist() == other.items.tolist()
        assert one.emptied_by == other.emptied_by


ARGUMENTS = [
    {"k": 10, "score": "binary"},
    {"k": 25},
    {"k": 4000, "score": "binary"},
    {"filters": MustContain({"shoe": 4}), "k": 300},
    {"filters": Only({"top": [1, 2, 3], "shoe": [0, 9]})},
    {"filters": Only({"top": []})},
    {"filters": [Wardrobe({"top": range(9), "bottom": range(9), "shoe": [0, 9]})]},
    {
        "filters": [[ExcludeOutfits(range(user, 3000, 7))] for user in range(40)],
        "k": 50,
    },
    {"filters": ExcludeOutfits([[3, 2, 1], [0, 19, 9]]), "k": 4000},
    {"filters": Where("price<=70", "shoe:brand!=bolt"), "k": 50},
    {"filters": Where("price<=90"), "at_most": {"item": 3, "brand": 9}, "k": 30},
]


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


WRONG = [
    ({"k": 0}, "k is 0, expected a whole number of at least 1"),
    ({"k": True}, "k is True, expected a whole number"),
    ({"user": 40}, "user 40 is not among the codes; expected 0 to 39"),
    ({"user": -1}, "user -1 is not among the codes"),
    ({"user": np.zeros(16)}, "expected floats"),
    ({"user": np.full(8, np.nan)}, "expected finite"),
    ({"user": np.full(8, 1e30)}, "do not fit the range"),
    ({"user": np.zeros((2, 8))}, "use search_batch for several users"),
    ({"score": "relaxed"}, "score is 'relaxed', expected one of"),
    (
        {"filters": ExcludeOutfits([3000])},
        "outfit 3000 is not in the index; expected 0 to 2999",
    ),
    (
        {"filters": MustContain({"hat": 1})},
        "category 'hat' is unknown; expected one of",
    ),
    (
        {"filters": Only({"shoe": [10]})},
        "shoe 10 is not among the codes; expected 0 to 9",
    ),
]


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


def test_an_index_that_another_node_lacks_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="every node needs the index at this"):
        open_index(tmp_path / "none", "", CODES)


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


# --- connecting -----------------------------------------------------------------------


@pytest.mark.parametrize("text", ["nowhere", "host:", ":1", "host:0", "ray://host:1x"])
def test_an_address_of_another_form_is_named(text):
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        with cluster.connect(text):
            pytest.fail("connected")


def test_an_address_where_nobody_answers_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            ConnectionError, match=f"no Ray cluster answers at {address}"
        ):
            with cluster.connect(address):
                pytest.fail("connected")


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


@pytest.mark.parametrize("package", ["ray", "pyarrow"])
def test_a_missing_package_is_named_with_its_pip_line(monkeypatch, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=package) as caught:
        recommending.recommend_all(tmp_path, CODES, tmp_path / "out")
    assert 'pip install "fhn_jax[cluster]"' in str(caught.value)


# --- the command line -----------------------------------------------------------------


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """What training leaves for recommendations."""
    folder = tmp_path_factory.mktemp("run")
    root = write_polyvore_u(folder / "tiny")
    codes_of(read_catalogue(root, "8")).save(folder / "codes.safetensors")
    files.write_json(
        folder / "config.json", {"data": {"root": str(root), "variant": "8"}}
    )
    return folder


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


def test_the_command_line_needs_no_cluster(workdir):
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        code, out, err = run(
            ["recommend-all", "--workdir", workdir, "--k", 2],
            env={"RAY_TMPDIR": folder},
        )
        assert code == 0, err
    assert len(rows_of(workdir / "recommendations")) == 16
    assert "8 users in 1 file" in out and f"wrote {workdir / 'recommendations'}" in out


def test_the_command_line_names_an_address_where_nobody_answers(workdir, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, err = run(
            ["recommend-all", "--workdir", workdir, "--out", tmp_path / "out"]
            + ["--ray-address", address]
        )
    assert code == 1
    assert f"error: no Ray cluster answers at {address}" in err
    assert not list(tmp_path.iterdir())
