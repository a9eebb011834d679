"""Photos that a shop replaces: they are taken, and codes of their items made anew."""

import dataclasses

import catalogues
import numpy as np
import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from PIL import Image

from fhn_jax.codes import Codes
from fhn_jax.data.forgetting import forget_item
from fhn_jax.data.images import LmdbImages, is_version
from fhn_jax.data.item_table import PHOTOS_FILE
from fhn_jax.data.layout import read_catalogue
from fhn_jax.training.growth import new_items

pytest.importorskip("duckdb")


def draw(path, seed, **options):
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    Image.fromarray(pixels).resize((40, 40)).save(path, **options)


@pytest.fixture
def items(tmp_path):
    """A shop of 24 items with photos, imported as `data`."""
    rows = shops.items()
    (tmp_path / "shop" / "photos").mkdir(parents=True)
    for number, row in enumerate(rows):
        row["image"] = f"photos/{row['id']}.png"
        draw(tmp_path / "shop" / row["image"], number)
    shop = shops.write(tmp_path / "shop", items=rows, likes=shops.wide_likes())
    import_catalogue(shop, tmp_path / "data", image_size=32)
    return rows


def update(tmp_path, rows):
    shop = shops.write(tmp_path / "shop", items=rows)
    summary = import_catalogue(shop, tmp_path / "data", update=True)
    return read_catalogue(tmp_path / "data", "shop"), summary


def stored(tmp_path, name):
    return LmdbImages(tmp_path / "data" / "images" / "lmdb").read([name])[0]


@pytest.mark.slow
def test_replaced_photos_are_taken_under_a_name_of_their_own(tmp_path, items):
    before = read_catalogue(tmp_path / "data", "shop")
    # The same file with other bytes, another file, and one whose title changes too little
    # to be another piece: only both are refused.
    draw(tmp_path / "shop" / items[1]["image"], 100)
    items[2]["image"] = "photos/new.jpg"
    draw(tmp_path / "shop" / items[2]["image"], 101)
    (tmp_path / "shop" / items[3]["image"]).write_bytes(b"no photo")
    catalogue, summary = update(tmp_path, items)
    assert summary.changes["photos that are replaced"] == 2
    assert summary.changes["items that became other pieces"] == 0
    assert "2 photos that are replaced" in summary.text
    assert "1 new photos of known items are of no use, and the old ones" in summary.text
    names = [*before.names[0]]
    names[1:3] = "T-001~2", "T-002~2"
    assert catalogue.names == (tuple(names), *before.names[1:])
    images = LmdbImages(tmp_path / "data" / "images" / "lmdb")
    assert images.verified
    for name in ("T-001", "T-002"):
        assert stored(tmp_path, f"{name}~2") != stored(tmp_path, name)
    # Nothing is new the next time, and then the same photo may change again.
    again, summary = update(tmp_path, items)
    assert again.names == catalogue.names and not any(summary.changes.values())
    draw(tmp_path / "shop" / items[1]["image"], 102)
    again, _ = update(tmp_path, items)
    assert again.names[0][1] == "T-001~3"


@pytest.mark.parametrize("remembered", [True, False])
def test_a_photo_that_is_only_stored_anew_is_the_same(tmp_path, items, remembered):
    if not remembered:  # As in data of earlier versions.
        (tmp_path / "data" / PHOTOS_FILE).unlink()
    before = read_catalogue(tmp_path / "data", "shop")
    path = tmp_path / "shop" / items[0]["image"]
    Image.open(path).save(path.with_suffix(".jpg"), quality=90)
    items[0]["image"] = "photos/T-000.jpg"
    catalogue, summary = update(tmp_path, items)
    assert catalogue.names == before.names
    assert not any(summary.changes.values()) and "photos of known" not in summary.text


def test_a_deleted_item_leaves_none_of_its_photos(tmp_path, items):
    draw(tmp_path / "shop" / items[1]["image"], 100)
    catalogue, _ = update(tmp_path, items)
    photos = [stored(tmp_path, name) for name in ("T-001", "T-001~2")]
    root = tmp_path / "data"
    assert forget_item(root, catalogue, 0, 1, "T-001")["images"] == 2
    file = (root / "images" / "lmdb" / "data.mdb").read_bytes()
    assert not any(photo in file for photo in photos)
    images = LmdbImages(root / "images" / "lmdb")
    assert images.verified and not [n for n in images.names() if "T-001" in n]
    assert b"T-001" not in (root / PHOTOS_FILE).read_bytes()


def test_names_of_later_photos():
    assert is_version("a~2", "a") and is_version("a~10", "a~9")
    assert not is_version("a", "a") and not is_version("a~2", "a~2")
    assert not is_version("b~2", "a") and not is_version("a~2", "a~3")
    assert not is_version("~2", "") and not is_version("a~b", "a")


def test_items_of_replaced_photos_are_made_anew_however_many():
    before = catalogues.catalogue([(0, 0, 0)], (3, 2), slots=(0, 1))
    vectors = {
        "top": np.random.default_rng(0).normal(size=(3, 8)),
        "bottom": np.random.default_rng(1).normal(size=(2, 8)),
    }
    codes = dataclasses.replace(
        Codes.from_embeddings(vectors, users=vectors["top"][:1]), names=before.names
    )
    tops = tuple(f"{name}~2" for name in before.names[0])
    now = dataclasses.replace(before, names=(tops, before.names[1]))
    assert [found.tolist() for found in new_items(codes, now)] == [[0, 1, 2], []]
    others = dataclasses.replace(before, names=(("a", "b", "c"), before.names[1]))
    with pytest.raises(ValueError, match="of which 0 are the same"):
        new_items(codes, others)
