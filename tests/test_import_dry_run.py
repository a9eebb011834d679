"""A dry run says what the import would, and refuses what it would refuse."""

import hashlib

import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from PIL import Image

from fhn_jax.errors import ExistingFileError, UserError

pytest.importorskip("duckdb")


@pytest.fixture
def tables(tmp_path):
    """Tables of a shop, with a photo of each item."""
    (tmp_path / "shop").mkdir()
    rows = shops.items()
    for number, row in enumerate(rows):
        row["image"] = f"{row['id']}.png"
        picture = Image.new("RGB", (20, 20), (number, 90, 90))
        picture.save(tmp_path / "shop" / row["image"])
    return dict(items=rows, likes=shops.wide_likes())


def files(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def both(tmp_path, tables, **options):
    """What a dry run says or raises; the import says or raises the same."""
    shop, found = shops.write(tmp_path / "shop", **tables), []
    for dry_run in (True, False):
        before = files(tmp_path)
        try:
            said = import_catalogue(shop, tmp_path / "data", dry_run=dry_run, **options)
            found.append(said.text)
        except UserError as error:
            found.append(repr(error))
        assert files(tmp_path) == before or not dry_run
    assert found[0] == found[1]
    return found[0]


def without_users(tables):
    for row in tables["likes"][::4]:
        row["user"] = ""


def without_photos(tables):
    for row in tables["items"][::4]:
        row["image"] = f"none {row['id']}.png"


def with_a_split_of_nobody(tables):
    for row in tables["likes"]:
        row["split"] = "val"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tables: None, "16 train, 4 val, 4 test"),
        (without_users, "6 of the 24 rows of likes.csv cannot be used"),
        (without_users, "likes.csv, row 17: no user"),
        (without_photos, "6 of the 24 rows of items.csv cannot be used"),
        (without_photos, "items.csv, row 5 (T-004): its photo is missing: none T-004"),
        (with_a_split_of_nobody, "no like is left for the train split"),
    ],
)
def test_it_says_what_the_import_says(tmp_path, tables, change, said):
    change(tables)
    assert said in both(tmp_path, tables)


def test_photos_that_cannot_be_read_are_found(tmp_path, tables):
    for row in tables["items"][:2]:
        (tmp_path / "shop" / row["image"]).write_bytes(b"GIF89a nothing")
    said = both(tmp_path, tables, min_likes=1)
    assert "2 left out: its photo is of no use" in said
    for row in tables["items"][:5]:
        (tmp_path / "shop" / row["image"]).write_bytes(b"GIF89a nothing")
    with pytest.raises(UserError, match="5 of the 24 rows of items.csv"):
        import_catalogue(tmp_path / "shop", tmp_path / "again", dry_run=True)


@pytest.mark.slow
def test_an_update_is_tried_too(tmp_path, tables):
    with pytest.raises(UserError, match="no data root .* import it first"):
        import_catalogue(
            shops.write(tmp_path / "shop", **tables),
            *[tmp_path / "data"],
            dry_run=True,
            update=True,
        )
    both(tmp_path, tables)
    with pytest.raises(ExistingFileError, match="exists and is left as it is"):
        import_catalogue(tmp_path / "shop", tmp_path / "data", dry_run=True)
    items = [*tables["items"], tables["items"][0] | {"id": "T-900"}]
    said = both(tmp_path, {"items": items}, update=True)
    assert "1 new items" in said
    items[3] |= {"price": "cheap"}
    assert "row 4: price is 'cheap'" in both(tmp_path, {"items": items}, update=True)
