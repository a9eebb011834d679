"""The search and compose actions of the command line, on codes of a small data set."""

import json

import numpy as np
import pytest
from PIL import Image
from polyvore_u import write_polyvore_u
from random_codes import codes_of, names_of
from runs import act, run

from fhn_jax import files
from fhn_jax.cli import answers
from fhn_jax.data.catalogue import stored_outfits
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import MissingFileError, UserError
from fhn_jax.recommender import Recommender
from fhn_jax.retrieval.composer import Composer
from fhn_jax.retrieval.outfit_index import OutfitIndex


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture
def codes(root):
    return codes_of(read_catalogue(root, "8"))


@pytest.fixture
def workdir(tmp_path, root, codes):
    """What training leaves for a search."""
    codes.save(tmp_path / "run" / "codes.safetensors")
    config = {"data": {"root": str(root), "variant": "8"}}
    files.write_json(tmp_path / "run" / "config.json", config)
    return tmp_path / "run"


def search(workdir, **options):
    """What search.json then holds."""
    act("search", workdir=workdir, **options)
    return json.loads((workdir / "search.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_search_writes_a_table_json_and_pictures(workdir, root, codes, tmp_path):
    code, out, err = run(["search", "--workdir", workdir, "--user", 3, "--k", 4])
    assert code == 0, err
    found = json.loads((workdir / "search.json").read_text(encoding="utf-8"))
    outfits = stored_outfits(read_catalogue(root, "8"))
    index = OutfitIndex.build(tmp_path / "index", codes, outfits)
    hits = index.search(3, 4)
    assert [row["id"] for row in found["outfits"]] == hits.outfits.tolist()
    assert [row["score"] for row in found["outfits"]] == hits.scores.tolist()
    assert [row["items"] for row in found["outfits"]] == hits.items.tolist()
    lines = out.splitlines()
    assert lines[0].split() == ["rank", "outfit", "score", "top", "bottom", "shoe"]
    best = found["outfits"][0]
    assert lines[1].split() == [
        "1",
        str(best["id"]),
        f"{best['score']:.4f}",
        *best["names"],
    ]
    assert lines[5:] == [
        f"wrote {workdir / name}" for name in ("search.json", "search.png")
    ]
    with Image.open(workdir / "search.png") as sheet:
        assert sheet.width > sheet.height > 100


def test_search_of_outfits_in_a_file_with_fixed_items(workdir, codes, tmp_path, capsys):
    names = codes.names
    table = tmp_path / "outfits.csv"
    table.write_text(f"top,bottom,shoe\n0,1,2\n{names[0][1]},0,{names[2][2]}\n2,2,1\n")
    found = search(workdir, outfits=str(table), fixed=f"shoe:{names[2][2]}")
    assert {row["id"] for row in found["outfits"]} == {0, 1}
    assert {row["items"][2] for row in found["outfits"]} == {2}
    assert (workdir / "search.png").exists()
    capsys.readouterr()
    # Nothing found is an answer, without the pictures of another one.
    assert search(workdir, outfits=str(table), fixed="shoe:0")["outfits"] == []
    table, emptied, written = capsys.readouterr().out.splitlines()
    assert table.startswith("rank ")
    assert emptied == "no outfit is left by: with shoe:0"
    assert written == f"wrote {workdir / 'search.json'}"
    assert not (workdir / "search.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"user": "8"}, "user 8 is not among the codes; expected 0 to 7"),
        ({"k": 0}, "k is 0, expected a whole number of at least 1"),
        ({"fixed": "hat:1"}, "--fixed: 'hat:1' is no item; expected a category"),
        ({"fixed": "shoe:x"}, "--fixed: shoe 'x' is unknown; expected an id of 0"),
        ({"outfits": "none.csv"}, "none.csv: no such file; expected a CSV file"),
    ],
)
def test_bad_arguments_are_named(workdir, arguments, message):
    with pytest.raises(UserError, match=message):
        search(workdir, **arguments)
    assert not (workdir / "search.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: header is '', expected 'top,bottom,shoe'"),
        ("shoe,top,bottom\n", "line 1: header is 'shoe,top,bottom'"),
        ("top,bottom,shoe\n", "holds no outfits"),
        ("top,bottom,shoe\n1,1\n", "line 2: 2 cells, expected 3"),
        ("top,bottom,shoe\n1,1,1\n1,99,1\n", "line 3: bottom '99' is unknown; .* 0 to"),
    ],
)
def test_bad_files_of_outfits_are_named(tmp_path, codes, text, message):
    path = tmp_path / "outfits.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        answers.read_outfits(path, codes, names_of(codes))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'top,bottom,shoe\n"' + b"1" * 200_000, "line 2: field larger than"),
        (b"top,bottom,shoe\n1,\xff,1\n", "line 2: bottom '\u00ff' is unknown"),
    ],
)
def test_files_that_are_no_csv_are_named(tmp_path, codes, data, message):
    path = tmp_path / "outfits.csv"
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"outfits.csv.*{message}"):
        answers.read_outfits(path, codes, names_of(codes))


def test_items_are_given_by_id_or_name(codes):
    name = codes.names[0][3]
    texts = [f"top:{name}, shoe:0", "top:1"]
    items = answers.parse_items(texts, names_of(codes), "--fixed")
    assert items == {"top": [3, 1], "shoe": [0]}
    assert answers.parse_items("", names_of(codes), "--fixed") == {}


def test_stored_outfits_are_all_positives_once(root):
    catalogue = read_catalogue(root, "8")
    outfits = stored_outfits(catalogue)
    rows = {tuple(row) for row in outfits.tolist()}
    assert len(rows) == len(outfits)
    assert rows == {
        tuple(row)
        for part in catalogue.splits.values()
        for row in part.positives.items.tolist()
    }
    assert outfits.dtype.kind == "i" and np.all(outfits >= 0)


@pytest.mark.slow
def test_compose_writes_a_table_json_and_pictures(workdir, codes):
    command = ["compose", "--workdir", workdir, "--user", 3, "--k", 4]
    code, out, err = run([*command, "--fixed", "shoe:1"])
    assert code == 0, err
    found = json.loads((workdir / "compose.json").read_text(encoding="utf-8"))
    composer = Composer(codes)
    expected = composer.compose(3, 4, fixed={"shoe": 1})
    assert [row["items"] for row in found["outfits"]] == expected.items.tolist()
    assert [row["score"] for row in found["outfits"]] == expected.scores.tolist()
    assert {row["items"][2] for row in found["outfits"]} == {1}
    best = found["outfits"][0]
    names = [codes.names[c][i] for c, i in enumerate(best["items"])]
    assert best["names"] == names
    lines = out.splitlines()
    assert lines[0].split() == ["rank", "outfit", "score", "top", "bottom", "shoe"]
    assert lines[1].split() == ["1", "new", f"{best['score']:.4f}", *names]
    with Image.open(workdir / "compose.png") as picture:
        assert picture.format == "PNG"


@pytest.mark.slow
def test_a_k_beyond_the_catalogue_gives_what_there_is_and_the_first_pictures(workdir):
    act("compose", workdir=workdir, k=10**30, fixed="shoe:1,top:2")
    found = json.loads((workdir / "compose.json").read_text(encoding="utf-8"))
    assert len(found["outfits"]) == 32
    act("compose", workdir=workdir, k=10**30, fixed="shoe:1")
    found = json.loads((workdir / "compose.json").read_text(encoding="utf-8"))
    assert len(found["outfits"]) == 32 * 32
    with Image.open(workdir / "compose.png") as picture:
        assert 9_000 < picture.height < 12_000  # 20 rows
    for command in ("search", "cold-start"):
        others = {"fit": True, "likes": "1"} if command == "cold-start" else {}
        act(command, workdir=workdir, k=10**30, **others)
    assert (workdir / "search.png").exists() and (workdir / "fit.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--user", 99], "user 99 is not among the codes; expected 0 to"),
        (["--k", 0], "k is 0, expected a whole number of at least 1"),
        (["--fixed", "shoe:999"], "--fixed: shoe '999' is unknown"),
    ],
)
def test_compose_says_what_is_wrong_and_writes_nothing(workdir, flags, message):
    code, _, err = run(["compose", "--workdir", workdir, *flags])
    assert code == 1
    assert message in err
    assert not (workdir / "compose.json").exists()


def test_an_index_that_another_process_has_just_built_is_left(
    workdir, root, monkeypatch
):
    def late(folder, *arguments, **options):
        # Nothing was there; before that is acted upon, another server builds it.
        monkeypatch.undo()
        Recommender.open(workdir, root, "8")
        monkeypatch.setattr(OutfitIndex, "build", again)
        raise MissingFileError(f"{folder}: no index")

    def again(*_, **__):
        pytest.fail("the index is built again")

    monkeypatch.setattr(OutfitIndex, "open", late)
    assert len(Recommender.open(workdir, root, "8").index) > 0
