"""Photos and vectors of a shop, as an import stores them."""

import io
import json

import numpy as np
import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from PIL import Image

from fhn_jax.data.forgetting import forget_item
from fhn_jax.data.images import LmdbImages
from fhn_jax.data.item_table import read_items
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.pictures import decode
from fhn_jax.data.vectors import read_text_vectors
from fhn_jax.errors import InputError

duckdb = pytest.importorskip("duckdb")


def photo(width, height, kind="JPEG", turned=False, left=(200, 20, 20)):
    """A blue photo whose left part is of another colour."""
    pixels = np.full((height, width, 3), (20, 20, 200), np.uint8)
    pixels[:, : width // 4] = left
    buffer = io.BytesIO()
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    Image.fromarray(pixels).save(buffer, kind, quality=95, exif=exif)
    return buffer.getvalue()


@pytest.fixture
def shop(tmp_path):
    """A shop with a photo of each item, in folders of their own."""
    tables = dict(items=shops.items(), likes=shops.wide_likes())
    for number, row in enumerate(tables["items"]):
        row["photo"] = f"photos/{number % 3}/{row['id']}.jpg"
        path = tmp_path / "shop" / row["photo"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(48, 48, left=(number, 20, 20)))
    return shops.write(tmp_path / "shop", **tables)


def stored(root):
    return LmdbImages(root / "images" / "lmdb")


def test_nothing_of_a_deleted_photo_is_left_in_the_file(tmp_path, shop):
    secret = photo(48, 48, left=(250, 250, 20))
    (shop / "photos" / "1" / "T-001.jpg").write_bytes(secret)
    import_catalogue(shop, tmp_path / "data")
    root = tmp_path / "data"
    file = root / "images" / "lmdb" / "data.mdb"
    before = read_catalogue(root, "shop")
    others = [name for name in before.item_names() if name != "T-001"]
    kept = stored(root).read(others)
    assert secret in file.read_bytes() and b"T-001" in file.read_bytes()
    receipt = forget_item(root, before, 0, 1, "T-001")
    assert receipt["images"] == 1
    assert secret not in file.read_bytes() and b"T-001" not in file.read_bytes()
    images, after = stored(root), read_catalogue(root, "shop")
    assert images.verified and len(images) == 24
    assert images.read(others) == kept
    # What stands in its place is a picture, so that all that read photos go on.
    (stone,) = set(after.item_names()) - set(others)
    assert decode(images.read([stone])[0], stone).min() == 255


def test_photos_that_are_right_are_stored_as_they_are(tmp_path, shop):
    import_catalogue(shop, tmp_path / "data")
    images = stored(tmp_path / "data")
    assert images.verified and len(images) == 24
    catalogue = read_catalogue(tmp_path / "data", "shop")
    assert not images.missing(catalogue.item_names())
    original = (shop / "photos" / "1" / "T-001.jpg").read_bytes()
    assert images.read(["T-001"]) == [original]
    assert not list(tmp_path.glob("*partial*"))


def test_other_photos_are_turned_and_made_to_fit_and_the_files_stay(tmp_path, shop):
    originals = {
        "photos/0/T-000.jpg": photo(64, 48, turned=True),
        "photos/1/T-001.jpg": photo(400, 400, "PNG"),
        "photos/2/T-002.jpg": photo(40, 40, "WEBP"),
    }
    for name, data in originals.items():
        (shop / name).write_bytes(data)
    import_catalogue(shop, tmp_path / "data", image_size=50)
    images = stored(tmp_path / "data")
    turned, large, small = (
        decode(data, "x") for data in images.read(["T-000", "T-001", "T-002"])
    )
    assert turned.shape == large.shape == (50, 50, 3) and small.shape == (40, 40, 3)
    # What was left is on top now, between white sides.
    assert turned[2, 25, 0] > 150 > turned[48, 25, 0] and turned[25, 1].min() > 240
    assert large[25, 3, 0] > 150 > large[25, 46, 0]
    for name, data in originals.items():
        assert (shop / name).read_bytes() == data


def test_items_whose_photo_is_of_no_use_are_left_out_with_the_reason(tmp_path, shop):
    (shop / "photos" / "0" / "T-000.jpg").write_bytes(b"GIF89a nothing")
    (shop / "photos" / "1" / "T-001.jpg").unlink()
    lines = (shop / "items.csv").read_text().replace("photos/2/T-002.jpg", "../x.jpg")
    (shop / "items.csv").write_text(lines.replace("photos/0/T-003", "https://a.b/c"))
    summary = import_catalogue(shop, tmp_path / "data", max_quarantine=0.3, min_likes=1)
    assert summary.left_out["items.csv"] == {
        "its photo is a web address; download it first": 1,
        "its photo is missing": 1,
        "its photo is of no use": 1,
        "its photo is outside of the shop's folder": 1,
    }
    assert "an item was left out" in summary.left_out["likes.csv"]
    (reason,) = [
        each["reason"]
        for each in shops.quarantine(tmp_path / "data")
        if each["what"] == "T-000"
    ]
    assert "cannot be decoded" in reason
    table = read_items(tmp_path / "data")
    assert len(table) == 20 and "T-000" not in table.ids
    assert len(stored(tmp_path / "data")) == 20


def test_photos_that_are_done_are_not_done_again(tmp_path, shop, monkeypatch):
    from fhn_jax.data_tools import build_lmdb as tool

    for number in range(3):
        (shop / "photos" / f"{number}" / f"T-{number:03}.jpg").write_bytes(
            photo(90, 70)
        )
    done, prepare = [], tool.for_training
    monkeypatch.setattr(tool, "_IMAGES_AT_ONCE", 8)

    def failing(data, name, size):
        if name.startswith("T") and len(done) == 23:
            raise OSError(28, "No space left on device")
        done.append(name)
        return prepare(data, name, size)

    monkeypatch.setattr(tool, "for_training", failing)
    with pytest.raises(OSError, match="No space left"):
        import_catalogue(shop, tmp_path / "data", image_size=64)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("data.images.partial", "shop")
    ]
    first = set(done[:16])
    done.clear()
    import_catalogue(shop, tmp_path / "data", image_size=64)
    assert not first & set(done) and len(done) == 8
    assert len(stored(tmp_path / "data")) == 24
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "shop"]


def test_photos_may_be_called_as_the_items(tmp_path):
    tables = dict(items=shops.items(), likes=shops.wide_likes())
    shop = shops.write(tmp_path / "shop", **tables)
    (shop / "images").mkdir()
    for row in tables["items"]:
        (shop / "images" / f"{row['id']}.png").write_bytes(photo(32, 32, "PNG"))
    import_catalogue(shop, tmp_path / "data")
    assert len(stored(tmp_path / "data")) == 24


def test_own_vectors_are_taken_over_by_the_shops_ids(tmp_path):
    items = [row | {"id": f"a/{row['id']}"} for row in shops.items()]
    likes = shops.wide_likes()
    likes = [
        {k: v if k == "user" else f"a/{v}" for k, v in row.items()} for row in likes
    ]
    shop = shops.write(tmp_path / "shop", items=items, likes=likes)
    (shop / "vectors").mkdir()
    ids = np.array([row["id"] for row in items][::-1] + ["other"])
    rows = np.arange(len(ids) * 3, dtype=np.float32).reshape(-1, 3)
    np.savez(shop / "vectors" / "clip.npz", names=ids, vectors=rows)
    summary = import_catalogue(shop, tmp_path / "data")
    assert "clip.npz: 1 vectors are of no item that is left" in summary.text
    catalogue = read_catalogue(tmp_path / "data", "shop")
    found = read_text_vectors(tmp_path / "data", catalogue, "clip")
    np.testing.assert_array_equal(found, rows[-2::-1])
    about = json.loads((tmp_path / "data" / "vectors" / "clip.json").read_text())
    assert about["source"] == "clip.npz"
    title = read_text_vectors(tmp_path / "data", catalogue, "title")
    assert title.shape[0] == 24
    np.savez(shop / "vectors" / "clip.npz", names=ids[3:], vectors=rows[3:])
    with pytest.raises(InputError, match="3 of 24 items have no vector"):
        import_catalogue(shop, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_photos_are_found_by_ids_and_by_the_paths_of_windows(tmp_path, shop):
    tables = dict(items=shops.items(), likes=shops.wide_likes())
    for number, row in enumerate(tables["items"]):
        row["image"] = f"photos\\{number % 3}\\{row['id']}.jpg"
    shops.write(shop, **tables)
    assert import_catalogue(shop, tmp_path / "windows").items == 24

    flat = shops.write(tmp_path / "flat", items=shops.items(), likes=tables["likes"])
    (flat / "images").mkdir()
    for path in shop.glob("photos/*/*.jpg"):
        path.rename(flat / "images" / path.with_suffix(".JpEG").name)
    (flat / "images" / "T-003.JpEG").rename(flat / "images" / "T-003.gif")
    summary = import_catalogue(flat, tmp_path / "flat data")
    reasons = {"its photo is a .gif; expected .jpg, .jpeg, .png, .webp": 1}
    assert summary.left_out["items.csv"] == reasons


def test_without_any_photo_the_way_without_is_said(tmp_path):
    items = [row | {"image": "https://shop.test/a.jpg"} for row in shops.items()]
    shop = shops.write(tmp_path / "shop", items=items, likes=shops.wide_likes())
    with pytest.raises(InputError, match="web address.*--no-images goes without"):
        import_catalogue(shop, tmp_path / "data")
