"""Bad input to an index of outfits, damaged files, and changes that fail."""

import itertools
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from random_codes import random_codes

from fhn_jax import files
from fhn_jax.errors import BusyError, RefusedError
from fhn_jax.retrieval import index_files, outfit_index, searcher
from fhn_jax.retrieval.filters import ExcludeOutfits, MustContain, Only
from fhn_jax.retrieval.outfit_index import OutfitIndex
from tests.test_search import assert_finds, contents, some_outfits


@pytest.fixture
def codes():
    return random_codes(counts=(9, 8, 7), num_users=40, bits=64)


@pytest.fixture
def outfits(codes):
    return some_outfits(np.random.default_rng(0), codes, 3000)


@pytest.fixture
def index(tmp_path, codes, outfits):
    return OutfitIndex.build(tmp_path / "index", codes, outfits)


# Bad input. No failed call changes the index.


def test_outfits_beyond_the_free_disk_are_refused_before_they_are_arranged(
    tmp_path, codes, outfits, index, monkeypatch
):
    before = contents(index.folder)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: SimpleNamespace(free=14 * 3000 - 1)
    )
    for name in ("choose_layout", "arrange_each"):
        monkeypatch.setattr(searcher, name, None)
    large = (
        "an index of 3,000 outfits needs 0.04 MiB, and 0.04 MiB of the disk are free"
    )
    for make in (
        lambda: OutfitIndex.build(tmp_path / "new" / "index", codes, outfits),
        lambda: index.append(outfits),
        index.compact,
    ):
        with pytest.raises(RefusedError, match=large):
            make()
    assert not (tmp_path / "new").exists() and contents(index.folder) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"user": 40}, "user 40 is not among the codes; expected 0 to 39"),
        ({"user": -1}, "user -1 is not among"),
        ({"user": np.full(64, np.nan)}, "hold nan"),
        ({"user": np.zeros(16)}, r"expected floats \[64\]"),
        ({"user": np.zeros((2, 64))}, "use search_batch for several users"),
        ({"user": np.arange(2)}, "use search_batch for several users"),
        ({"k": 0}, "k is 0, expected a whole number of at least 1"),
        ({"k": -3}, "k is -3"),
        ({"k": True}, "k is True"),
        ({"score": "relaxed"}, "score is 'relaxed', expected one of"),
        (
            {"filters": ExcludeOutfits([3000])},
            "outfit 3000 is not in the index; expected 0 to 2999",
        ),
        ({"filters": ExcludeOutfits([-1])}, "outfit -1 is not in"),
        ({"filters": ExcludeOutfits(np.array([0.5]))}, "expected a list of ids"),
        (
            {"filters": MustContain({"hat": 1})},
            "category 'hat' is unknown; expected one of",
        ),
        (
            {"filters": MustContain({"shoe": 7})},
            "shoe 7 is not among the codes; .* 0 to 6",
        ),
        ({"filters": Only({"top": [0, -1]})}, "top -1 is not among"),
        ({"filters": Only({"top": np.array([0.5])})}, "items of top are float64"),
    ],
)
def test_bad_queries_are_named(index, arguments, message):
    with pytest.raises(ValueError, match=message):
        index.search(**{"user": 0} | arguments)


def test_a_batch_needs_filters_for_each_user_or_for_all(index):
    with pytest.raises(ValueError, match="1 sequences of filters, expected .* 2 users"):
        index.search_batch(np.arange(2), filters=[[ExcludeOutfits([1])]])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([[0, 8, 0]], r"outfit 0: bottom \(slot 1\) 8 is not among .* 0 to 7"),
        ([[0, 0, 0], [-1, 0, 0]], r"outfit 1: top \(slot 0\) -1 is not"),
        ([[0, 0]], r"are int64 \[1, 2\], expected whole numbers \[n, 3\]"),
        ([[0.0, 0, 0]], "are float64"),
    ],
)
def test_bad_outfits_are_named(index, tmp_path, codes, wrong, message):
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=message):
        index.append(np.array(wrong))
    with pytest.raises(ValueError, match=message):
        OutfitIndex.build(tmp_path / "other", codes, np.array(wrong))
    assert contents(tmp_path) == before


def test_outfits_that_cannot_be_removed_are_named(index, tmp_path):
    index.remove([4])
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="outfit 3000 is not in"):
        index.remove([1, 3000])
    with pytest.raises(ValueError, match="outfit 4 has been removed already"):
        index.remove([1, 4])
    assert contents(tmp_path) == before
    assert len(index) == 2999


def test_an_index_is_not_overwritten(index, tmp_path, codes, outfits):
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="exists and is left as it is"):
        OutfitIndex.build(tmp_path / "index", codes, outfits)
    assert contents(tmp_path) == before


def test_an_index_of_other_codes_is_refused(index, tmp_path):
    other = random_codes(1, counts=(9, 8, 7), num_users=40, bits=64)
    with pytest.raises(ValueError, match="is an index of other codes"):
        OutfitIndex.open(tmp_path / "index", other)


def test_no_index_is_an_error(tmp_path, codes):
    with pytest.raises(FileNotFoundError, match="expected an index of outfits"):
        OutfitIndex.open(tmp_path, codes)


def files_of_an_index():
    arrays = ("items", "compatibilities", "outfits", "starts", "ranges")
    segment = [f"segment-1/{name}.npy" for name in arrays]
    return ["manifest.json", "layout/order.npy", "layout/ranges.npy", *segment]


@pytest.mark.parametrize("name", files_of_an_index())
def test_a_cut_off_or_missing_file_is_noticed_on_opening(index, tmp_path, codes, name):
    path = tmp_path / "index" / name
    content = path.read_bytes()
    for kept in (len(content) - 2, 20, 0):
        path.write_bytes(content[:kept])
        with pytest.raises(ValueError, match="build it again|not JSON|format is"):
            OutfitIndex.open(tmp_path / "index", codes)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="build it again"):
        OutfitIndex.open(tmp_path / "index", codes)


@pytest.mark.parametrize("name", files_of_an_index())
def test_a_changed_byte_is_noticed(index, tmp_path, codes, name):
    path = tmp_path / "index" / name
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged|not JSON"):
        OutfitIndex.open(tmp_path / "index", codes).verify()


def test_damaged_outfits_that_were_not_verified_are_no_crash(index, tmp_path, codes):
    for name in ("items", "compatibilities", "outfits"):
        path = tmp_path / "index" / f"segment-1/{name}.npy"
        content = bytearray(path.read_bytes())
        content[128:] = b"\xff" * (len(content) - 128)
        path.write_bytes(content)
    with pytest.raises(ValueError, match="no such items: the index is damaged"):
        OutfitIndex.open(tmp_path / "index", codes, verify=False).search(0, 10)


@pytest.mark.parametrize("name", ["items", "compatibilities", "outfits"])
def test_the_first_search_notices_a_changed_byte(index, tmp_path, codes, outfits, name):
    path = tmp_path / "index" / f"segment-1/{name}.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    opened = OutfitIndex.open(tmp_path / "index", codes)
    for use in (lambda: opened.search(0, 3), opened.compact, lambda: opened.part(0, 2)):
        with pytest.raises(ValueError, match=f"{name}.npy: its checksum is wrong"):
            use()


def test_outfits_are_verified_once(index, tmp_path, codes, outfits, monkeypatch):
    opened = OutfitIndex.open(tmp_path / "index", codes)
    opened.search(0, 3)
    compared = []
    compare = files.ArrayFolder._compare
    monkeypatch.setattr(
        files.ArrayFolder,
        "_compare",
        lambda self, name, found: compared.append(name) or compare(self, name, found),
    )
    opened.search(1, 3)
    assert compared == []
    opened.append(outfits[:9])
    opened.search(1, 3)
    assert {name.partition("/")[0] for name in compared} == {"segment-2"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format is 'other', expected 'fhn_jax.outfits'"),
        ({"version": 9}, "version is 9, expected 2"),
        ({"outfits": 2}, "its checksum is wrong"),
    ],
)
def test_a_manifest_of_another_kind_is_named(index, tmp_path, codes, change, message):
    path = tmp_path / "index" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8")) | change
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        OutfitIndex.open(tmp_path / "index", codes)


def forge(folder, name, array):
    """Puts another array into an index, with right checksums."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["checksum"]
    np.save(folder / name, array)
    manifest["files"][name] = {
        "bytes": (folder / name).stat().st_size,
        "sha256": files.sha256_file(folder / name),
    }
    files.arrays._write_manifest(folder, manifest)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("layout/order.npy", lambda a: a + 1),
        ("layout/order.npy", lambda a: a[:-1]),
        ("layout/ranges.npy", lambda a: a - 1),
        ("layout/ranges.npy", lambda a: np.append(a, a[-1])),
        ("segment-1/items.npy", lambda a: a[:-1]),
        ("segment-1/items.npy", lambda a: a[:, :2]),
        ("segment-1/compatibilities.npy", lambda a: a[:-1]),
        ("segment-1/outfits.npy", lambda a: a[:-1]),
        ("segment-1/starts.npy", lambda a: a * 2),
        ("segment-1/starts.npy", lambda a: np.where(a == 0, 1, a)),
        ("segment-1/ranges.npy", lambda a: a + 2**20),
        ("segment-1/ranges.npy", lambda a: -1 - a),
        ("segment-1/ranges.npy", lambda a: a[:-1]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(index, tmp_path, codes, name, change):
    folder = tmp_path / "index"
    forge(folder, name, change(np.load(folder / name)))
    with pytest.raises(ValueError, match="do not fit each other; build it again"):
        OutfitIndex.open(folder, codes)


def test_an_array_of_another_type_is_refused(index, tmp_path, codes):
    folder = tmp_path / "index"
    forge(folder, "segment-1/ranges.npy", np.zeros((1, 3)))
    with pytest.raises(ValueError, match="holds float64, expected int32"):
        OutfitIndex.open(folder, codes)


def test_a_manifest_names_no_files_outside(index, tmp_path, codes):
    np.save(tmp_path / "other.npy", np.zeros(1))
    forge(tmp_path / "index", "../other.npy", np.zeros(1))
    with pytest.raises(ValueError, match="names '../other.npy', no file of an index"):
        OutfitIndex.open(tmp_path / "index", codes)
    with pytest.raises(ValueError, match="names '../other.npy'"):
        index.remove([1])
    assert (tmp_path / "other.npy").exists()


def test_too_many_outfits_are_refused(index, codes, outfits, tmp_path, monkeypatch):
    monkeypatch.setattr(outfit_index, "_MAX_OUTFITS", 3001)
    index.append(outfits[:1])
    with pytest.raises(ValueError, match="3,002 outfits, expected 3,001 at most"):
        index.append(outfits[:1])
    monkeypatch.setattr(outfit_index, "_MAX_OUTFITS", 2999)
    with pytest.raises(ValueError, match="3,000 outfits, expected 2,999 at most"):
        OutfitIndex.build(tmp_path / "other", codes, outfits)


@pytest.mark.parametrize("fails", ["write_json", "ArrayChange.add"])
@pytest.mark.parametrize("change", ["append", "remove", "compact"])
def test_a_failed_change_leaves_the_old_index(
    index, tmp_path, codes, outfits, monkeypatch, fails, change
):
    index.append(outfits[:200])
    index.remove([5])
    before = contents(tmp_path)
    target, _, method = fails.partition(".")
    owner = getattr(files, target) if method else files.arrays
    name = method or target
    real, calls = getattr(owner, name), itertools.count()

    def full(*args, **kwargs):
        if not method or next(calls) >= (change != "remove"):
            raise OSError("no space left on device")
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, full)
    actions = {
        "append": lambda: index.append(outfits[:5]),
        "remove": lambda: index.remove([7]),
        "compact": index.compact,
    }
    with pytest.raises(OSError, match="no space left"):
        actions[change]()
    assert contents(tmp_path) == before
    monkeypatch.undo()
    np.testing.assert_array_equal(
        index.search(0).outfits,
        OutfitIndex.open(tmp_path / "index", codes).search(0).outfits,
    )


def test_a_failed_build_leaves_nothing(tmp_path, codes, outfits, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(files.arrays, "write_json", full)
    with pytest.raises(OSError, match="no space left"):
        OutfitIndex.build(tmp_path / "new" / "index", codes, outfits)
    assert not any((tmp_path / "new").iterdir())


def test_two_who_change_an_index_do_not_undo_each_other(
    index, tmp_path, codes, outfits
):
    other = OutfitIndex.open(tmp_path / "index", codes)
    other.append(outfits[:5])
    with pytest.raises(ValueError, match="changed since it was opened; open it again"):
        index.append(outfits[:7])
    # What was opened before still finds what it found.
    assert_finds(index, codes, outfits)
    assert len(OutfitIndex.open(tmp_path / "index", codes)) == 3005


def test_an_index_that_is_changed_while_it_is_opened_is_opened_again(
    index, tmp_path, codes, outfits, monkeypatch
):
    """Between the manifest and the files that it names comes a `compact`."""
    index.append(outfits[:5])
    read, calls = index_files.read_layout, itertools.count()

    def late(folder, tables):
        if next(calls) == 0:
            index.compact()
        return read(folder, tables)

    whole = np.concatenate([outfits, outfits[:5]])
    monkeypatch.setattr(index_files, "read_layout", late)
    opened = OutfitIndex.open(tmp_path / "index", codes)
    assert len(opened._segments) == 1
    assert_finds(opened, codes, whole)


def test_appends_at_once_have_one_loser_and_no_mixed_rows(
    index, tmp_path, codes, outfits
):
    other = OutfitIndex.open(tmp_path / "index", codes)
    add = index_files.add_segments

    def slow(change, segment):
        with pytest.raises(BusyError, match="index is in use"):
            other.append(outfits[:7])
        add(change, segment)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_files, "add_segments", slow)
        index.append(outfits[:5])
    assert_finds(index, codes, np.concatenate([outfits, outfits[:5]]))


def test_an_open_index_outlives_its_files(index, tmp_path, codes, outfits):
    shutil.rmtree(tmp_path / "index")
    assert_finds(index, codes, outfits)


@pytest.mark.parametrize("then", ["search", "stored", "compact", "part"])
def test_an_index_goes_on_after_several_removals(index, then):
    for outfit in (0, 1):
        index.remove([outfit])
    call = {
        "search": lambda: index.search(0, 3),
        "stored": index.stored,
        "compact": index.compact,
        "part": lambda: index.part(0, 2),
    }[then]
    call()
    assert not {0, 1} & set(index.stored()[0])
