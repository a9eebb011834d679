"""The demo set: complete, reproducible, and built as its documentation says."""

import json

import numpy as np
import pytest
from fhn_jax.data_tools import make_demo as demo
from fhn_jax.data_tools.demo.cloth import Cloth
from fhn_jax.data_tools.demo.garments import DRAW, render
from fhn_jax.data_tools.demo.outlines import SIZE, curve, spline, symmetric
from fhn_jax.data_tools.demo.taste import World, auc
from fhn_jax.data_tools.demo.wardrobe import (
    CATEGORIES,
    KINDS,
    attributes,
    lab,
    make_items,
)
from PIL import Image

from fhn_jax.cli.verify import main as verify
from fhn_jax.errors import InputError, UserError

# The set is drawn, which takes longer than all else.
pytestmark = pytest.mark.slow

USERS = 6
ITEMS = {"top": (20, 12, 14), "bottom": (18, 12, 13), "shoe": (15, 11, 12)}
POSITIVES = (12, 7, 8)
SMALL = {"users": USERS, "items": ITEMS, "positives": POSITIVES, "workers": 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "set"
    demo.make_demo(root, **SMALL)
    return root


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves the pictures out, which take nearly all of the time."""
    monkeypatch.setattr(demo, "_write_image", lambda item, path: None)


def read(root, name):
    path = root / f"tuples_{USERS}" / name
    return np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int64, ndmin=2)


def header(root, name):
    return (root / f"tuples_{USERS}" / name).read_text().split("\n", 1)[0]


def content(root):
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def outfits(rows):
    return [tuple(row) for row in rows[:, 1:].tolist()]


# ------------------------------------------------------------------ layout


def test_layout_is_complete(root):
    count = sum(map(sum, ITEMS.values()))
    found = {path for path in content(root) if not path.startswith("images/")}
    tuples = {
        f"tuples_{USERS}/tuples_{split}_{kind}"
        for split in demo.SPLITS
        for kind in ("posi", "nega", "nega_hard")
    }
    lists = {f"tuples_{USERS}/image_list_{category}" for category in CATEGORIES}
    questions = {f"tuples_{USERS}/fill_in_blank_{split}" for split in ("val", "test")}
    other = {"DEMO", "titles.json", "sentence_vector/semantic.npz"}
    assert found == tuples | lists | questions | other
    assert len(list((root / "images" / "291x291").iterdir())) == count


def test_row_counts_and_headers(root):
    for split, count in zip(demo.SPLITS, POSITIVES, strict=True):
        rows = USERS * count
        assert read(root, f"tuples_{split}_posi").shape == (rows, 4)
        assert read(root, f"tuples_{split}_nega").shape == (10 * rows, 4)
        assert read(root, f"tuples_{split}_nega_hard").shape == (10 * rows, 4)
        assert header(root, f"tuples_{split}_nega") == "user,top,bottom,shoe"
    assert read(root, "fill_in_blank_test").shape == (USERS * POSITIVES[2], 16)
    assert header(root, "fill_in_blank_test") == ",".join(["user,top,bottom,shoe"] * 4)


def test_marker_says_how_the_set_was_made(root):
    marker = json.loads((root / "DEMO").read_text())
    assert marker["version"] == demo.VERSION
    assert (marker["seed"], marker["users"], marker["variant"]) == (0, USERS, "6")
    assert marker["counts"]["items"] == sum(map(sum, ITEMS.values()))
    assert marker["counts"]["positives"] == {"train": 72, "val": 42, "test": 48}
    assert set(marker["ceilings"]) == {"auc_random", "auc_hard", "fitb"}
    assert marker["ceilings"]["auc_random"] > 0.9


def test_a_damaged_marker_is_noticed(root, tmp_path):
    text = (root / "DEMO").read_text()
    assert '"users": 6' in text
    (tmp_path / "DEMO").write_text(text.replace('"users": 6', '"users": 7'))
    with pytest.raises(UserError, match="DEMO was changed by hand, or is damaged"):
        verify([str(tmp_path)])
    with pytest.raises(FileExistsError, match="not a demo set"):
        demo.make_demo(tmp_path, **SMALL)


def test_image_lists_titles_and_vectors_name_the_same_items(root):
    listed = [
        name
        for category in CATEGORIES
        for name in (root / f"tuples_{USERS}" / f"image_list_{category}")
        .read_text()
        .splitlines()
    ]
    titles = json.loads((root / "titles.json").read_text(encoding="utf-8"))
    with np.load(root / "sentence_vector" / "semantic.npz", allow_pickle=False) as file:
        names, vectors = file["names"], file["vectors"]
    pictures = {path.name for path in (root / "images" / "291x291").iterdir()}
    assert listed == list(titles) == names.tolist()
    assert set(listed) == pictures and len(listed) == len(pictures)
    assert vectors.dtype == np.float32 and vectors.shape == (len(listed), 2400)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_pictures_are_rgb_jpegs_of_291_pixels(root):
    for path in (root / "images" / "291x291").iterdir():
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (291, 291))


# ------------------------------------------------------------------ outfits


def test_splits_share_no_item(root):
    used = {}
    for split in demo.SPLITS:
        rows = np.concatenate(
            [
                read(root, f"tuples_{split}_{kind}")
                for kind in ("posi", "nega", "nega_hard")
            ]
        )
        used[split] = [set(rows[:, 1 + slot].tolist()) for slot in range(3)]
    for slot, category in enumerate(CATEGORIES):
        train, val, test = (used[split][slot] for split in demo.SPLITS)
        assert not (train & val or train & test or val & test)
        assert max(train | val | test) < sum(ITEMS[category])


def test_positives_are_grouped_by_user_and_differ(root):
    for split, count in zip(demo.SPLITS, POSITIVES, strict=True):
        rows = read(root, f"tuples_{split}_posi")
        assert rows[:, 0].tolist() == np.repeat(np.arange(USERS), count).tolist()
        assert len({tuple(row) for row in rows.tolist()}) == len(rows)


def test_negatives_follow_their_positive_and_keep_its_user(root):
    for split in demo.SPLITS:
        users = read(root, f"tuples_{split}_posi")[:, 0]
        for kind in ("nega", "nega_hard"):
            rows = read(root, f"tuples_{split}_{kind}")
            assert rows[:, 0].tolist() == np.repeat(users, 10).tolist()


def test_random_negatives_are_nobodys_positives_but_use_their_items(root):
    for split in demo.SPLITS:
        positives = read(root, f"tuples_{split}_posi")
        negatives = read(root, f"tuples_{split}_nega")
        assert not set(outfits(positives)) & set(outfits(negatives))
        for slot in (1, 2, 3):
            assert set(negatives[:, slot]) <= set(positives[:, slot])


def test_hard_negatives_are_other_users_positives_and_never_own(root):
    for split in demo.SPLITS:
        positives = read(root, f"tuples_{split}_posi")
        owners = {}
        for user, outfit in zip(positives[:, 0], outfits(positives), strict=True):
            owners.setdefault(outfit, set()).add(int(user))
        negatives = read(root, f"tuples_{split}_nega_hard")
        for user, outfit in zip(negatives[:, 0], outfits(negatives), strict=True):
            assert outfit in owners and int(user) not in owners[outfit]


@pytest.mark.parametrize("split", ["val", "test"])
def test_questions_differ_in_one_slot_and_the_answer_is_the_positive(root, split):
    positives = read(root, f"tuples_{split}_posi")
    everyones = set(outfits(positives))
    questions = read(root, f"fill_in_blank_{split}").reshape(-1, 4, 4)
    assert questions[:, 0].tolist() == positives.tolist()
    for question in questions:
        assert len(set(question[:, 0])) == 1
        varied = [len(set(question[:, slot])) for slot in (1, 2, 3)]
        assert sorted(varied) == [1, 1, 4]
        assert not everyones & set(outfits(question[1:]))


# ---------------------------------------------------------- reproducibility


@pytest.mark.slow
def test_same_seed_gives_same_bytes_with_any_number_of_workers(root, tmp_path):
    demo.make_demo(tmp_path / "again", **{**SMALL, "workers": 2})
    assert content(tmp_path / "again") == content(root)


def test_other_seed_gives_other_outfits(root, tmp_path, undrawn):
    demo.make_demo(tmp_path / "other", seed=1, **SMALL)
    name = "tuples_train_posi"
    assert read(tmp_path / "other", name).tolist() != read(root, name).tolist()


def test_nothing_happens_if_the_set_is_there(root, monkeypatch):
    monkeypatch.setattr(demo, "_write", None)  # calling it would fail
    before = content(root)
    demo.make_demo(root, **SMALL)
    assert content(root) == before


# ------------------------------------------------------------------- errors


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(FileExistsError, match="is not a demo set.*another folder"):
        demo.make_demo(tmp_path / "mine", **SMALL)
    assert content(tmp_path) == {"mine/thesis.txt": b"all of it"}


def test_other_demo_set_is_left_alone(root):
    before = content(root)
    with pytest.raises(FileExistsError, match=r"seed=0 \(wanted 7\)"):
        demo.make_demo(root, seed=7, **SMALL)
    assert content(root) == before


@pytest.mark.parametrize("broken", ["_write_images", "_write_outfits"])
def test_failure_leaves_nothing_behind(tmp_path, monkeypatch, undrawn, broken):
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(demo, broken, fail)
    with pytest.raises(OSError, match="disk full"):
        demo.make_demo(tmp_path / "new", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": 1}, "users=1: .* at least 2 users"),
        ({"seed": -1}, "seed=-1 must not be negative"),
        ({"positives": (5, 5)}, r"positives=\[5, 5\]: expected 3 numbers"),
        ({"positives": (5, 0, 5)}, "expected at least 1 in every split"),
        ({"items": {**ITEMS, "shoe": (9, 3, 9)}}, r"shoe=\[9, 3, 9\].* at least 8"),
        ({"positives": (9999, 5, 5)}, "use more items or fewer positives"),
        (
            {"users": 90, "items": dict.fromkeys(ITEMS, (9, 9, 9))},
            "too few .* use more items",
        ),
    ],
)
def test_impossible_numbers_are_named(tmp_path, undrawn, change, message):
    with pytest.raises(ValueError, match=message):
        demo.make_demo(tmp_path / "new", **{**SMALL, **change})
    assert list(tmp_path.iterdir()) == []


def test_command_line_reports_ceilings_and_errors(
    tmp_path, monkeypatch, capsys, undrawn
):
    monkeypatch.setattr(
        demo,
        "make_demo",
        lambda root, **_: (root / "DEMO").write_text(
            json.dumps({"counts": {"items": 3}, "ceilings": {"fitb": 0.8}})
        ),
    )
    demo.main([str(tmp_path)])
    assert "{'fitb': 0.8}" in capsys.readouterr().out
    monkeypatch.undo()
    with pytest.raises(InputError, match="users=0"):
        demo.main([str(tmp_path / "x"), "--users", "0"])


# -------------------------------------------------------- users and their taste


def tiny_world():
    taste = (np.array([[1.0, 2.0]]), np.array([[10.0, 20.0]]), np.array([[0.0, 5.0]]))
    fit = {
        (0, 1): np.array([[0.0, 0.5], [0.25, 0.0]]),
        (0, 2): np.zeros((2, 2)),
        (1, 2): np.array([[0.0, 0.0], [0.0, -3.0]]),
    }
    return World(taste=taste, fit=fit)


def test_utility_is_taste_of_the_items_plus_fit_of_the_pairs():
    items = np.array([[1, 0, 0], [1, 1, 1]])
    value = tiny_world().utility(np.zeros(2, dtype=np.int64), items)
    assert value.tolist() == [2 + 10 + 0 + 0.25, 2 + 20 + 5 - 3]


def test_ceiling_auc_counts_ties_one_half():
    positives = np.array([[1, 0, 0]])  # utility 12.25
    negatives = np.array([[[1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 0, 1]]])  # 11, 24, 16
    value = auc(tiny_world(), np.zeros(1, dtype=np.int64), positives, negatives)
    assert value == (0.5 + 1 + 0 + 0) / 4


def test_lab_of_known_colours():
    colours = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.2]]
    np.testing.assert_allclose(lab(colours), expected, atol=0.1)


def test_attributes_are_finite_and_of_unit_size():
    for category in CATEGORIES:
        values = attributes(make_items(category, 60, seed=3))
        assert np.isfinite(values).all() and np.abs(values).max() < 4


# ------------------------------------------------------------ titles, drawings


def test_items_of_a_category_differ_and_have_all_kinds_equally_often():
    items = make_items("top", 90, seed=0)
    kinds = [item.kind for item in items]
    assert {kinds.count(kind) for kind in set(kinds)} == {10}
    assert len({(item.title, item.accent) for item in items}) == 90


def test_titles_name_colours_pattern_and_kind():
    for item in make_items("bottom", 60, seed=0):
        assert item.title.startswith(item.colour) and item.title.endswith(item.kind)
        patterned = item.cloth.pattern != "plain"
        assert (f" and {item.accent} " in item.title) == patterned


def test_text_vectors_of_like_titles_are_near():
    one, two, other = map(
        demo.text_vector, ("navy cotton t-shirt", "navy linen t-shirt", "red pumps")
    )
    assert one @ two > 0.5 > 0.2 > abs(one @ other)


@pytest.mark.parametrize("kind", list(DRAW))
def test_every_kind_stands_free_on_white_in_its_colour(kind):
    assert set(DRAW) == set(KINDS)
    cloth = Cloth((0.70, 0.15, 0.20), (0.70, 0.15, 0.20))
    pixels = np.asarray(render(kind, cloth, (0, 1)), dtype=np.float64) / 255
    assert pixels.shape == (SIZE, SIZE, 3)
    frame = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert frame.min() > 0.7  # at most a shadow
    red = pixels[..., 0] - pixels[..., 1:].max(axis=-1) > 0.15
    assert 0.08 < red.mean() < 0.6


def test_patterns_show_in_the_picture():
    base, accent = (0.9, 0.9, 0.9), (0.1, 0.1, 0.3)
    plain = np.asarray(render("t-shirt", Cloth(base, accent), (0,)), dtype=np.float64)
    middle = (slice(120, 200), slice(110, 180))
    for pattern in ("striped", "pinstriped", "checked", "plaid", "dotted", "floral"):
        cloth = Cloth(base, accent, pattern)
        image = np.asarray(render("t-shirt", cloth, (0,)), dtype=np.float64)
        assert image[middle].std() > 3 * plain[middle].std()


def test_cloth_rejects_unknown_patterns_and_weaves():
    with pytest.raises(ValueError, match="pattern='paisley': expected one of"):
        Cloth((0, 0, 0), (1, 1, 1), "paisley")
    with pytest.raises(ValueError, match="weave='lace': expected one of"):
        Cloth((0, 0, 0), (1, 1, 1), weave="lace")


def test_spline_passes_through_its_points_and_keeps_straight_lines_straight():
    points = [(0, 0), (3, 4), (10, 4), (11, -2)]
    line = spline(*points, steps=5)
    np.testing.assert_allclose(line[::5], points, atol=1e-12)
    straight = curve("0,0 1,2 4,8")
    np.testing.assert_allclose(straight[:, 1], 2 * straight[:, 0], atol=1e-12)


def test_symmetric_outlines_are_closed_over_the_centre_line():
    outline = symmetric(np.array([(50.0, 10.0), (70.0, 20.0), (50.0, 30.0)]))
    assert outline[:, 0].tolist() == [50, 70, 50, 50, 30, 50]
    assert outline[:, 1].tolist() == [10, 20, 30, 30, 20, 10]


@pytest.mark.slow
def test_default_set_is_small_and_hard_enough(tmp_path):
    demo.make_demo(tmp_path / "demo")
    size = sum(len(data) for data in content(tmp_path / "demo").values())
    assert size < 20e6
    ceilings = json.loads((tmp_path / "demo" / "DEMO").read_text())["ceilings"]
    assert ceilings["auc_random"] > 0.98 and ceilings["fitb"] > 0.78
