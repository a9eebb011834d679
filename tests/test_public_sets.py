"""Public data sets, as their authors publish them, become data that training reads."""

import gzip
import json

import numpy as np
import public_sets
import pytest
import shops
from fhn_jax.data_tools.import_iqon3000 import import_iqon3000
from fhn_jax.data_tools.import_pog import import_pog
from fhn_jax.data_tools.import_polyvore_outfits import import_polyvore_outfits
from fhn_jax.data_tools.import_shift15m import import_shift15m

from fhn_jax.data.item_table import read_items, read_users
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.vector_files import load_vectors
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.main import main


def test_outfits_of_iqon3000_are_those_of_their_makers(tmp_path):
    source = public_sets.iqon3000(tmp_path / "IQON3000")
    (source / "100" / "9001" / "9001.json").write_text("{", encoding="utf-8")
    (source / "readme.txt").write_text("", encoding="utf-8")
    summary = import_iqon3000(source, tmp_path / "data", negatives=2)
    print(summary.text)
    catalogue = read_catalogue(tmp_path / "data", "shop")
    assert catalogue.categories == ("top", "bottom", "shoe", "bag")
    assert catalogue.num_users == 3
    positives = {s: len(part.positives) for s, part in catalogue.splits.items()}
    assert sum(positives.values()) == 17 and positives == dict(summary.splits)
    table = read_items(tmp_path / "data")
    assert table is not None
    row = table.row(0)
    assert row["title"] == f"item {row['id']}" and row["colour"] == "ホワイト系"
    left = {
        (r["file"], r["what"], r["reason"]) for r in shops.quarantine(tmp_path / "data")
    }
    reason = "the file is no JSON object in UTF-8"
    assert ("OUTFIT.json", "100/9001", reason) in left
    assert ("USER", "readme.txt", "no folder of a user") in left
    assert {w for _, w, r in left if "ignored" in r} == {"7001", "7002"}
    assert f"1 left out: {reason}" in summary.text


def test_outfits_and_features_of_shift15m_are_read(tmp_path):
    source = public_sets.shift15m(tmp_path / "shift15m")
    rows = json.loads((source / "iqon_outfits.json").read_text(encoding="utf-8"))
    broken = rows[0] | {"set_id": "99", "items": []}
    text = json.dumps([*rows, broken, rows[1]], indent=1)
    (source / "iqon_outfits.json").write_text(text, encoding="utf-8")
    items = sorted({piece["item_id"] for row in rows for piece in row["items"][:4]})
    lost, bomb, damaged = items[:3]
    (source / "features" / f"{lost}.json.gz").unlink()
    public_sets.write_feature(source, bomb, "[" + "0," * 2**20 + "0]")
    (source / "features" / f"{damaged}.json.gz").write_bytes(b"\x1f\x8b\x08")
    summary = import_shift15m(
        source,
        tmp_path / "data",
        negatives=2,
        split="leave-last-out",
        max_quarantine=0.2,
    )
    print(summary.text)
    catalogue = read_catalogue(tmp_path / "data", "shop")
    assert catalogue.categories == ("outerwear", "top", "bottom", "shoe")
    assert dict(summary.splits) == {"train": 12, "val": 3, "test": 3}
    table = read_items(tmp_path / "data")
    names, vectors = load_vectors(tmp_path / "data" / "vectors" / "vgg.npz")
    assert table is not None and vectors.shape == (len(items), 4096)
    assert sorted(names) == items and len(table) == len(items)
    last = names.index(items[-1])
    with gzip.open(source / "features" / f"{items[-1]}.json.gz") as file:
        np.testing.assert_array_equal(vectors[last], np.float32(json.load(file)))
    zeros = {names[row] for row in np.flatnonzero(~vectors.any(axis=1))}
    assert zeros == {lost, bomb, damaged}
    left = {r["what"]: r["reason"] for r in shops.quarantine(tmp_path / "data")}
    assert left[lost] == "there is no file" and left[damaged] == "the file is damaged"
    assert left["99"] == "no items" and "earlier outfit" in left["1"]
    assert "more than" in left[bomb]
    row = table.row(table.ids.number(items[-1]))
    assert row["subcategory"] == "13001" or row["subcategory"] == 13001


def test_a_damaged_file_is_told(tmp_path):
    source = public_sets.shift15m(tmp_path / "shift15m", width=1)
    path = source / "iqon_outfits.json"
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(InputError, match="iqon_outfits.json is no whole file"):
        import_shift15m(source, tmp_path / "data")
    path.unlink()
    with pytest.raises(MissingFileError, match="iqon_outfits.json is missing"):
        import_shift15m(source, tmp_path / "data")
    with pytest.raises(MissingFileError, match="has no outfit; expected USER/OUTFIT"):
        import_iqon3000(source, tmp_path / "data")
    with pytest.raises(MissingFileError, match="there is no folder"):
        import_iqon3000(source / "nowhere", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_slots_of_pog_are_what_titles_say(tmp_path):
    source = public_sets.pog(tmp_path / "pog")
    with open(source / "user_data.txt", "a", encoding="utf-8") as file:
        file.write("u9,i00,o1\nu9,i00\n")
    summary = import_pog(source, tmp_path / "data", negatives=2, min_likes=5)
    print(summary.text)
    catalogue = read_catalogue(tmp_path / "data", "shop")
    assert catalogue.categories == ("top", "bottom", "shoe")
    assert catalogue.num_users == 4 and sum(summary.splits.values()) == 32
    table = read_items(tmp_path / "data")
    assert table is not None
    row = table.row(table.ids.number("i13"))
    assert row["title"] == "牛仔裤, 3" and row["pic_url"] == "//example.com/1.jpg"
    left = {r["what"]: r["reason"] for r in shops.quarantine(tmp_path / "data")}
    assert left["u9,i00"] == "the line lacks fields, or has more"
    assert left["1 clicks of 1 users"] == "the user clicked fewer than 5 outfits"
    assert "ignored" in left["i30"]


def test_a_catalogue_of_ones_own_counts_more(tmp_path):
    source = public_sets.pog(tmp_path / "pog")
    own = tmp_path / "catalogue.toml"
    own.write_text(
        '[slots]\ntop = ["c0"]\nearring = ["c3"]\n[[templates]]\n'
        'slots = ["top", "earring"]\n',
        encoding="utf-8",
    )
    options = {"catalogue": own, "dry_run": True, "max_quarantine": 0.6}
    summary = import_pog(source, tmp_path / "data", min_likes=5, **options)
    assert summary.slots == ("top", "earring") and not (tmp_path / "data").exists()
    with pytest.raises(InputError, match="none of 4 users clicked 100 outfits"):
        import_pog(source, tmp_path / "data", min_likes=100)


def test_polyvore_outfits_keep_their_splits_negatives_and_questions(tmp_path):
    source = public_sets.polyvore_outfits(tmp_path / "polyvore_outfits")
    summary = import_polyvore_outfits(source, tmp_path / "data")
    print(summary.text)
    catalogue = read_catalogue(tmp_path / "data", "shop")
    assert catalogue.categories == ("top", "bottom", "shoe", "jewellery")
    assert catalogue.num_users == 1
    users = read_users(tmp_path / "data")
    assert users is not None and list(users.names) == ["everybody"]
    table = read_items(tmp_path / "data")
    assert table is not None

    def ids(outfit):
        offsets = table.offsets[:-1]
        return [table.ids.names[o + i] for o, i in zip(offsets, outfit, strict=True)]

    nondisjoint = source / "nondisjoint"
    outfits = json.loads((nondisjoint / "test.json").read_text(encoding="utf-8"))
    names = {
        f"{outfit['set_id']}_{piece['index']}": piece["item_id"]
        for outfit in outfits
        for piece in outfit["items"]
    }
    test = catalogue.splits["test"]
    first = [piece["item_id"] for piece in outfits[0]["items"]]
    assert ids(test.positives.items[0]) == first[:4]
    lines = (nondisjoint / "compatibility_test.txt").read_text("utf-8").splitlines()
    wrong = [names[name] for name in lines[1].split()[1:]]
    assert ids(test.negatives["random"].items[0]) == wrong[:4]
    text = (nondisjoint / "fill_in_blank_test.json").read_text(encoding="utf-8")
    answers = json.loads(text)[0]["answers"]
    bottoms = [ids(outfit)[1] for outfit in catalogue.fitb["test"].items[0]]
    assert bottoms == [names[answers[n]] for n in (2, 0, 1, 3)]
    assert len(test.positives) == len(catalogue.fitb["test"]) == len(outfits)
    reason = "an item of the outfit, which has another jewellery"
    left = shops.quarantine(tmp_path / "data")
    assert [r["what"] for r in left if r["reason"] == reason].count(first[4]) >= 1


@pytest.mark.slow
def test_a_public_set_is_trained(tmp_path):
    source = public_sets.polyvore_outfits(tmp_path / "polyvore_outfits")
    root, run = tmp_path / "data", tmp_path / "run"
    main(["import-polyvore-outfits", str(source), str(root)])
    settings = [f"data.root={root}", "model.matching.zero_user_term=True"]
    settings += ["train.epochs=1", "model.bits=16", "wandb.mode=disabled"]
    flags = [f"--config.{setting}" for setting in settings]
    main(["train", "--config", "shop:smoke", *flags, "--workdir", str(run)])
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    rows = map(json.loads, lines)
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert losses and np.isfinite(losses).all()
    assert (
        json.loads((run / "config.json").read_text("utf-8"))["data"]["text"] == "title"
    )
