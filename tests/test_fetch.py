"""Polyvore-U is fetched from the hub; here from a server that speaks its protocol."""

import importlib
import json

import hub_server
import numpy as np
import pytest
from fhn_jax.data_tools.fetch import REPOSITORY, fetch_polyvore_u
from fhn_jax.data_tools.public.polyvore_u import write_variant
from polyvore_u import write_polyvore_u

from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError, UnreachableError

SPLITS = {"train": "train", "valid": "val", "test": "test"}
DATA = "polyvore-u/features/resnet34/data.mdb"
KINDS = {"pos": "posi", "neg": "nega"}


def as_published(folder, slots):
    """The files of a variant as on the hub: items.json, train_pos, … by name."""
    names = [f"image_list_{category}" for category in ("top", "bottom", "shoe")]
    lists = [(folder / name).read_text("utf-8").split() for name in names]
    files = {"items.json": json.dumps(lists).encode()}
    for theirs, split in SPLITS.items():
        for short, ending in KINDS.items():
            rows = np.loadtxt(
                folder / f"tuples_{split}_{ending}", int, delimiter=",", skiprows=1
            )
            files[f"{theirs}_{short}"] = converted(rows, slots)
    rows = np.loadtxt(folder / "fill_in_blank_test", int, delimiter=",", skiprows=1)
    files["test_fitb"] = converted(rows.reshape(4 * len(rows), -1), slots)
    return files


def converted(rows, slots):
    """Rows of outfits as on the hub: user, size, items and categories, without a header."""
    kinds = [("top", "bottom", "shoe").index(slot) for slot in slots]
    lines = []
    for user, *items in rows.tolist():
        there = [(i, k) for i, k in zip(items, kinds, strict=True) if i >= 0]
        rest = [-1] * (len(items) - len(there))
        numbers = [i for i, _ in there] + rest + [k for _, k in there] + rest
        lines.append(",".join(map(str, [user, len(there), *numbers])))
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Two variants in the layout of training, and all as published: path → bytes."""
    root = tmp_path_factory.mktemp("original")
    files = {"README.md": b"# data"}
    for variant, slots in (
        ("630", ("top", "bottom", "shoe")),
        ("519", ("top", "top", "bottom", "shoe")),
    ):
        write_polyvore_u(root, variant=variant, slots=slots, image_size=None)
        for name, data in as_published(root / f"tuples_{variant}", slots).items():
            files[f"polyvore-u/original/tuples_{variant}/{name}"] = data
    files[DATA] = bytes(range(256)) * 1024
    files["polyvore-u/features/resnet34/lock.mdb"] = b"\0" * 64
    files["maryland-polyvore/original/items.json"] = b"[]"
    return root, files


@pytest.fixture
def hub(release, monkeypatch):
    with hub_server.serve(hub_server.Hub(REPOSITORY, release[1])) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield hub


def test_what_is_fetched_is_the_data_that_was_published(hub, release, tmp_path):
    fetch_polyvore_u(tmp_path)
    for variant in ("630", "519"):
        was = read_catalogue(release[0], variant)
        now = read_catalogue(tmp_path, variant)
        assert now.slots == was.slots
        assert list(now.item_names()) == list(was.item_names())
        for name, part in was.splits.items():
            same = now.splits[name]
            np.testing.assert_array_equal(same.positives.items, part.positives.items)
            np.testing.assert_array_equal(same.positives.users, part.positives.users)
            wrong = same.negatives["random"].items
            np.testing.assert_array_equal(wrong, part.negatives["random"].items)
        np.testing.assert_array_equal(now.fitb["test"].items, was.fitb["test"].items)
    data = (tmp_path / "features" / "resnet34" / "data.mdb").read_bytes()
    assert data == hub.files[DATA]
    record = json.loads((tmp_path / "hub.json").read_text(encoding="utf-8"))
    assert record["revision"] == hub.commit and len(record["files"]) == 18
    assert not any("maryland" in path or "README" in path for _, path, _ in hub.asked)


@pytest.fixture
def small_pieces(monkeypatch):
    """The library writes pieces of ten megabytes, and waits before it tries again."""
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**14)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)


def test_a_broken_connection_is_gone_on_with(hub, tmp_path, small_pieces):
    hub.fail_after = 100_000
    fetch_polyvore_u(tmp_path, variants=["630"])
    ranges = [
        asked for _, path, asked in hub.asked if path.endswith("data.mdb") and asked
    ]
    assert ranges == ["bytes=98304-", "bytes=196608-"]
    data = (tmp_path / "features" / "resnet34" / "data.mdb").read_bytes()
    assert data == hub.files[DATA]


def test_a_fetch_that_failed_goes_on_with_what_is_missing(hub, tmp_path, small_pieces):
    hub.fail_after = 5_000  # Less than a piece: nothing of the large file arrives.
    with pytest.raises(UnreachableError, match="run this again to go on"):
        fetch_polyvore_u(tmp_path, variants=["630"])
    assert not (tmp_path / "tuples_630").exists()
    hub.fail_after, hub.asked = None, []
    fetch_polyvore_u(tmp_path, variants=["630"])
    got = {path.rpartition("/")[2] for kind, path, _ in hub.asked if kind == "GET"}
    assert "data.mdb" in got and "items.json" not in got and "train_pos" not in got


def test_files_that_differ_from_the_first_are_an_error(hub, tmp_path):
    fetch_polyvore_u(tmp_path, variants=["630"], features=False)
    before = (tmp_path / "tuples_630" / "tuples_train_posi").read_bytes()
    first, name = hub.commit, "polyvore-u/original/tuples_630/train_pos"
    hub.commit = "b" * 40
    # What is there is not asked for again, whatever is newest on the hub by now.
    hub.asked = []
    fetch_polyvore_u(tmp_path, variants=["630"], features=False)
    assert hub.asked == []
    hub.files[name] = hub.files[name].replace(b"0,3,", b"1,3,", 1)
    with pytest.raises(
        InputError, match="1 files are not what was fetched first.*train_pos"
    ):
        fetch_polyvore_u(tmp_path, variants=["630"], features=False, revision="main")
    assert (tmp_path / "tuples_630" / "tuples_train_posi").read_bytes() == before
    record = json.loads((tmp_path / "hub.json").read_text(encoding="utf-8"))
    assert record["revision"] == first


def test_a_hub_that_has_no_such_revision_is_told(hub, tmp_path):
    root = tmp_path / "polyvore"
    for revision in ("c" * 40, "no_such_branch"):
        with pytest.raises(UnreachableError, match="cannot be fetched from the hub"):
            fetch_polyvore_u(root, revision=revision)
        # Were it there, training would take it for the data, and not draw the demo.
        assert not root.exists()
    with pytest.raises(InputError, match="is not on the hub; expected 630, 519"):
        fetch_polyvore_u(tmp_path, variants=["53"])


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("train_pos", b"0,3,99,0,0,0,1,2\n", "top 99; expected 0 to 31"),
        ("train_pos", b"0,3,1,0\n", "no table of outfits"),
        ("train_pos", b"0,2,1,0,-1,0,1,-1\n", "lacks a top, bottom or shoe"),
        ("train_pos", b"0,3,1,0,0,0,1,1\n", "two bottom items"),
        ("test_fitb", b"0,3,1,0,0,0,1,2\n", "expected 4 for each question"),
        ("items.json", b'[["../x.jpg"], [], []]', "items.json: the top '../x.jpg'"),
    ],
)
def test_a_variant_that_is_not_as_expected_is_told(
    release, tmp_path, name, data, message
):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    prefix = "polyvore-u/original/tuples_630/"
    for path, content in release[1].items():
        if path.startswith(prefix):
            (source / path.removeprefix(prefix)).write_bytes(content)
    (source / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        write_variant(source, target)
