"""Ranked outfits as pictures: which ones, in what order, and where they lie."""

import csv
import os

import numpy as np
import pytest
from fhn_jax.data_tools import export_ranked as tool
from fhn_jax.data_tools.export_ranked import export_ranked, main
from PIL import Image
from runs import exit_code, settings

import fhn_jax
from fhn_jax.cli.run import Run
from fhn_jax.codes import Scorer
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError
from fhn_jax.files import write_json
from fhn_jax.reporting import contact_sheet
from tests.polyvore_u import write_polyvore_u
from tests.random_codes import codes_of, latents_of


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tiny"
    write_polyvore_u(folder)
    return write_polyvore_u(
        folder, variant="8v", slots=("top", "top", "bottom", "shoe")
    )


@pytest.fixture
def catalogue(root):
    return read_catalogue(root, "8")


@pytest.fixture
def workdir(tmp_path, catalogue):
    return write_workdir(tmp_path / "run", catalogue)


def write_workdir(workdir, catalogue, codes=None):
    """What a run leaves, as far as it is read here."""
    codes = codes or codes_of(catalogue)
    data = {"root": str(catalogue.root), "variant": catalogue.variant}
    write_json(workdir / "config.json", {"data": data})
    codes.save(workdir / "codes.safetensors")
    latents_of(codes).save(workdir / "latents.safetensors", codes)
    return workdir


def read_ranking(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def expected(catalogue, codes, user, split="test", kind="random", which="binary"):
    """(score, is it a negative, items) of a user's outfits, best first."""
    part = catalogue.splits[split]
    scorer = Scorer(codes, latents_of(codes))
    rows = []
    for table, liked in ((part.positives, 1), (part.negatives[kind], 0)):
        scores = scorer.score(which, table.users, table.items)
        rows += [
            (-score, liked, tuple(items))
            for owner, score, items in zip(
                table.users, scores, table.items.tolist(), strict=True
            )
            if owner == user
        ]
    return sorted(rows, key=lambda row: row[:2])


def test_each_user_has_a_folder_of_the_best_outfits(workdir, catalogue, tmp_path):
    assert export_ranked(workdir, tmp_path / "out", best=3) == list(range(8))
    assert sorted(os.listdir(tmp_path / "out")) == [f"user_{u}" for u in range(8)]
    files = ["001.jpg", "002.jpg", "003.jpg", "ranking.csv"]
    sizes = set()
    for user in range(8):
        folder = tmp_path / "out" / f"user_{user}"
        assert sorted(os.listdir(folder)) == files
        for name in files[:3]:
            with Image.open(folder / name) as picture:
                picture.load()
                sizes.add(picture.size)
    assert len(sizes) == 1


@pytest.mark.parametrize(
    ("split", "kind", "which"),
    [
        ("test", "random", "binary"),
        ("val", "hard", "asymmetric"),
        ("train", "random", "relaxed"),
    ],
)
def test_rankings_are_those_of_the_scores(
    workdir, catalogue, tmp_path, split, kind, which
):
    options = {"split": split, "negatives": kind, "score": which}
    export_ranked(workdir, tmp_path / "out", users="1,6", **options)
    assert sorted(os.listdir(tmp_path / "out")) == ["user_1", "user_6"]
    for user in (1, 6):
        rows = read_ranking(tmp_path / "out" / f"user_{user}" / "ranking.csv")
        want = expected(catalogue, codes_of(catalogue), user, split, kind, which)
        assert [row["rank"] for row in rows] == [str(i + 1) for i in range(len(want))]
        scores = [float(row["score"]) for row in rows]
        np.testing.assert_allclose(scores, [-score for score, *_ in want], rtol=1e-5)
        assert [row["liked"] for row in rows] == [str(liked) for _, liked, _ in want]
        names = {
            tuple(n[i] for n, i in zip(catalogue.names, items, strict=True))
            for _, _, items in want
        }
        assert {(r["top"], r["bottom"], r["shoe"]) for r in rows} == names


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({}, "root=None"),
        ({"data": []}, "root=None"),
        ({"data": {"root": 3, "variant": "8"}}, "root=3"),
        ({"data": {"root": "data"}}, "variant=None"),
        ({"data": {"root": "data", "variant": 8}}, "variant=8"),
    ],
)
def test_a_config_without_its_data_is_named_everywhere(workdir, tmp_path, config, key):
    write_json(workdir / "config.json", config)
    for use in (
        lambda: export_ranked(workdir, tmp_path / "out"),
        lambda: fhn_jax.evaluate(workdir),
        lambda: Run(workdir, config).catalogue(),
    ):
        with pytest.raises(InputError, match=f"config.json has data.{key}, expected"):
            use()
    assert Run(workdir, settings("data")).variant == "8"  # a config's own settings


def test_a_tie_goes_to_the_negative(tmp_path, catalogue):
    codes = codes_of(catalogue)
    flat = codes_of(
        catalogue,
        items={
            m: tuple(np.zeros_like(c) for c in arrays)
            for m, arrays in codes.items.items()
        },
    )
    workdir = write_workdir(tmp_path / "run", catalogue, flat)
    export_ranked(workdir, tmp_path / "out", users="0")
    rows = read_ranking(tmp_path / "out" / "user_0" / "ranking.csv")
    assert [row["liked"] for row in rows] == ["0"] * 6 + ["1"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sheet.jpg", "sheet.JPEG", "sheet.png"])
def test_a_sheet_is_one_picture(workdir, tmp_path, name):
    assert export_ranked(workdir, tmp_path / name) == [0, 1, 2, 4, 5, 7]
    with Image.open(tmp_path / name) as sheet:
        sheet.load()
        assert sheet.format == ("PNG" if name.endswith("png") else "JPEG")
        whole = sheet.size
    export_ranked(workdir, tmp_path / f"small {name}", users="0-2", best=4)
    with Image.open(tmp_path / f"small {name}") as sheet:
        assert sheet.width < whole[0] and sheet.height < whole[1]


def test_a_sheet_shows_all_there_are_or_the_first_that_fit(
    workdir, tmp_path, monkeypatch
):
    export_ranked(workdir, tmp_path / "all.png", users="3", best=10**9)
    with Image.open(tmp_path / "all.png") as sheet:
        width = sheet.width
    monkeypatch.setattr(contact_sheet, "MAX_SIDE", width - 1)
    export_ranked(workdir, tmp_path / "some.png", users="3", best=10**9)
    with Image.open(tmp_path / "some.png") as sheet:
        assert width - 200 < sheet.width < width


def test_a_sheet_shows_the_ranked_outfits_with_their_pictures(
    workdir, catalogue, tmp_path, monkeypatch
):
    drawn = {}
    draw = tool.contact_sheet
    monkeypatch.setattr(
        tool,
        "contact_sheet",
        lambda rows, **text: drawn.update(rows=rows, **text) or draw(rows, **text),
    )
    export_ranked(workdir, tmp_path / "sheet.png", users="3", best=5)
    want = expected(catalogue, codes_of(catalogue), 3)[:5]
    assert len(drawn["rows"]) == 1
    for rank, (outfit, (score, liked, _)) in enumerate(
        zip(drawn["rows"][0], want, strict=True), 1
    ):
        assert outfit.caption == f"{rank} · {-score:.2f}"
        assert outfit.highlighted == bool(liked)
        assert [len(line) for line in outfit.lines] == [1, 1, 1]
    hits = sum(liked for _, liked, _ in want)
    assert drawn["titles"] == [f"User 3: {hits} of the 5 best are liked, 1.2 by chance"]


def test_outfits_of_one_or_two_tops_are_shown_as_worn(root, tmp_path, monkeypatch):
    catalogue = read_catalogue(root, "8v")
    workdir = write_workdir(tmp_path / "run", catalogue)
    drawn = []
    draw = tool.contact_sheet
    monkeypatch.setattr(
        tool, "contact_sheet", lambda rows, **text: drawn.append(rows) or draw(rows)
    )
    export_ranked(workdir, tmp_path / "sheet.jpg", best=8)
    tops = {len(outfit.lines[0]) for row in drawn[0] for outfit in row}
    assert tops == {1, 2}
    export_ranked(workdir, tmp_path / "out", users="0")
    rows = read_ranking(tmp_path / "out" / "user_0" / "ranking.csv")
    assert len(rows) == 8


def test_data_that_was_moved_is_named(workdir, root, tmp_path):
    write_json(workdir / "config.json", {"data": {"root": "nowhere", "variant": "8"}})
    with pytest.raises(FileNotFoundError, match="there is no data at nowhere"):
        export_ranked(workdir, tmp_path / "out")
    export_ranked(workdir, tmp_path / "out", users="0", data_root=root)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("out.pdf", [], "out.pdf ends in '.pdf'; expected .png, .jpg, .jpeg for a"),
        ("out", ["--best", "0"], "best=0; expected at least one outfit a user"),
        ("out", ["--users", "8"], "'8' is out of range; expected ids from 0 to 7"),
        ("out.png", ["--data-root", "nowhere"], "there is no data at nowhere"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(
    workdir, tmp_path, capsys, target, options, message
):
    assert exit_code(main, [str(workdir), str(tmp_path / target), *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 2 and message in error
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("target", ["out", "out.png"])
def test_what_exists_is_left_alone(workdir, tmp_path, capsys, target):
    (tmp_path / target).write_text("mine")
    assert exit_code(main, [str(workdir), str(tmp_path / target)]) == 1
    assert f"{target} exists and is left as it is" in capsys.readouterr().err
    assert (tmp_path / target).read_text() == "mine"


def test_codes_of_other_data_are_refused(root, workdir, tmp_path, capsys):
    data = {"root": str(root), "variant": "8v"}
    write_json(workdir / "config.json", {"data": data})
    assert exit_code(main, [str(workdir), str(tmp_path / "out")]) == 1
    assert "the codes are of data set" in capsys.readouterr().err
    (workdir / "codes.safetensors").unlink()
    assert exit_code(main, [str(workdir), str(tmp_path / "out")]) == 1
    assert "codes.safetensors: no such file" in capsys.readouterr().err
    (workdir / "config.json").unlink()
    assert exit_code(main, [str(workdir), str(tmp_path / "out")]) == 1
    assert "config.json: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["out", "out.png"])
def test_missing_images_leave_nothing(tmp_path, capsys, target):
    root = write_polyvore_u(tmp_path / "data")
    workdir = write_workdir(tmp_path / "run", read_catalogue(root, "8"))
    for path in (root / "images" / "291x291").glob("shoe*"):
        path.unlink()
    assert exit_code(main, [str(workdir), str(tmp_path / target)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: image 'shoe") and error.count("\n") == 2
    assert sorted(os.listdir(tmp_path)) == ["data", "run"]


def test_splits_and_negatives_that_are_not_there_are_named(tmp_path, capsys):
    root = write_polyvore_u(tmp_path / "data", positives=(6, 0, 2))
    (root / "tuples_8" / "tuples_test_nega_hard").unlink()
    workdir = write_workdir(tmp_path / "run", read_catalogue(root, "8"))
    arguments = [str(workdir), str(tmp_path / "out")]
    assert exit_code(main, [*arguments, "--split", "val"]) == 1
    assert "no 'val' split in tuples_8; expected one of" in capsys.readouterr().err
    assert exit_code(main, [*arguments, "--negatives", "hard"]) == 1
    error = capsys.readouterr().err
    assert "has no tuples_test_nega_hard; it has random negatives" in error


def test_the_command_line_says_what_was_made(workdir, tmp_path, capsys):
    target = tmp_path / "sheet.jpg"
    assert exit_code(main, [str(workdir), str(target), "--users", "0,5"]) == 0
    assert capsys.readouterr().out == f"{target} shows the best outfits of 2 users\n"
