"""Files as shops' programs write them: they are read, or an error says what to do."""

import re
import tomllib

import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from fhn_jax.data_tools.shop.vocabulary import guess_slot

from fhn_jax.data.item_table import read_items
from fhn_jax.errors import InputError, MissingFileError

pytest.importorskip("duckdb")


@pytest.fixture
def shop(tmp_path):
    return shops.write(tmp_path / "shop", items=shops.items(), likes=shops.wide_likes())


def imported(shop):
    return import_catalogue(shop, shop.parent / "data")


def rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda old: b"\n\r\n" + old, ""),
        (lambda old: b"sep=;\r\n" + re.sub(rb",(?!\d)", b";", old), ""),
        (lambda old: old.replace(b"title", b'"title\nof the shop"', 1), ""),
        (lambda old: old.replace(b"\r\n", b"\n", 3), ""),
        (lambda old: old.replace(b"\r\n", b"\r"), ""),
        (lambda old: old.decode().encode("utf-16-le"), "items.csv: the file is UTF-16"),
        (
            lambda old: old.replace(b"\r\n", b",\r\n"),
            "items.csv: column 5 has no name, and is not read",
        ),
        (
            lambda old: b"," + old.replace(b"\r\n", b"\r\n7,").removesuffix(b"7,"),
            "items.csv: column 1 has no name, and is not read",
        ),
    ],
    ids="blank sep header mixed-ends cr utf16 trailing index".split(),
)
def test_what_programs_write_around_a_table_is_no_matter(shop, change, note):
    rewrite(shop / "items.csv", change)
    summary = imported(shop)
    assert summary.items == 24 and not summary.left_out
    assert (
        note and f"note: {note}" in summary.text
    ) or "note: items" not in summary.text
    assert read_items(shop.parent / "data").row(3)["price"] == 3.5


def test_files_are_found_however_their_names_are_spelled(shop):
    (shop / "items.csv").rename(shop / "Items.CSV")
    (shop / "likes.csv").rename(shop / "likes.Tsv")
    rewrite(shop / "likes.Tsv", lambda old: old.replace(b",", b"\t"))
    assert imported(shop).tables == {"Items.CSV": 24, "likes.Tsv": 24}


def test_the_lines_behind_a_quote_that_is_not_closed_are_all_counted(shop):
    def open_quote(old):
        lines = old.splitlines(keepends=True)
        return b"".join([*lines[:20], b'"' + lines[20], *lines[21:]])

    rewrite(shop / "likes.csv", open_quote)
    summary = import_catalogue(
        shop, shop.parent / "data", max_quarantine=0.5, min_likes=1
    )
    assert summary.tables["likes.csv"] == 24
    behind = {"it is behind a quote that is not closed": 5}
    assert summary.left_out == {"likes.csv": behind}
    left_out = shops.quarantine(shop.parent / "data")
    assert [each["row"] for each in left_out] == [21, 22, 23, 24, 25]


def test_a_line_that_is_too_long_is_called_that(shop):
    rewrite(
        shop / "items.csv", lambda old: old + b"X-1,Jeans," + b"x" * 2**21 + b",1\r\n"
    )
    assert imported(shop).left_out == {"items.csv": {"the line is too long": 1}}


def test_a_file_that_is_no_table_is_named(shop):
    (shop / "clicks.csv").write_text("user\n")
    (shop / "orders.xlsx").touch()
    assert "note: not read: clicks.csv, orders.xlsx; tables are" in imported(shop).text
    (shop / "likes.csv").rename(shop / "orders.txt")
    with pytest.raises(
        InputError, match="who likes what.*not read: clicks.csv, orders.t"
    ):
        import_catalogue(shop, shop.parent / "none")


def test_what_is_not_the_folder_of_the_tables_is_an_error(shop):
    outer = shop.parent
    with pytest.raises(MissingFileError, match="no table of items.*which has 'shop'"):
        import_catalogue(outer, outer / "data")
    (outer / "shop.zip").touch()
    with pytest.raises(InputError, match="is a file; expected the folder.*unpacked"):
        import_catalogue(outer / "shop.zip", outer / "data")
    (shop / "items.csv").rename(shop / "items.json")
    with pytest.raises(MissingFileError, match="which has 'items.json', 'likes.csv'"):
        import_catalogue(shop, outer / "data")


def test_errors_of_the_database_are_one_line(shop):
    (shop / "items.csv").unlink()
    (shop / "items.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="items.parquet is no Parquet file") as error:
        imported(shop)
    assert "\n" not in str(error.value) and "SELECT" not in str(error.value)


def test_the_plan_is_toml_whatever_categories_are_called(shop):
    odd = 'T-Shirts "a\\b"\n\x1b[31m é'
    items = shops.items()
    for row in items[:8]:
        row["category"] = odd
    text = imported(shops.write(shop, items=items)).text
    lines = text.split("categories:\n")[1].split("\nitems.csv")[0]
    assert tomllib.loads(lines)["slots"]["top"] == [odd]
    items = [row | {"category": " "} for row in items]
    with pytest.raises(InputError, match="items.csv: no row has a category"):
        import_catalogue(shops.write(shop, items=items), shop.parent / "none")


def test_vectors_of_other_formats_and_tables_of_other_kinds_are_named(shop):
    (shop / "vectors").mkdir()
    (shop / "vectors" / "clip.csv").touch()
    note = "note: not read: vectors/clip.csv; expected .npz or .parquet"
    assert note in imported(shop).text
    with pytest.raises(InputError, match="^items is a list; expected a path, a DataF"):
        import_catalogue({"items": shops.items()}, shop.parent / "none")


def test_tables_of_spreadsheets_are_to_be_saved_otherwise(tmp_path):
    shop = shops.write(tmp_path / "shop", items=shops.items(), likes=shops.wide_likes())
    (shop / "likes.csv").rename(shop / "likes.xlsx")
    with pytest.raises(
        InputError, match=r"likes.xlsx; .* and are .csv, .tsv, .*parquet"
    ):
        import_catalogue(shop, tmp_path / "data")
    (shop / "items.csv").rename(shop / "items.xlsx")
    with pytest.raises(MissingFileError, match="; save items.xlsx as CSV or Parquet"):
        import_catalogue(shop, tmp_path / "data")


@pytest.mark.parametrize("again", ["price", "Price"])
def test_a_column_that_comes_twice_is_named(tmp_path, again):
    shop = shops.write(tmp_path / "shop", items=shops.items(), likes=shops.wide_likes())
    text = (shop / "items.csv").read_text().replace("title", again, 1)
    (shop / "items.csv").write_text(text)
    with pytest.raises(InputError, match="with 'price' twice"):
        import_catalogue(shop, tmp_path / "data")


def test_a_column_of_catalogue_toml_that_is_not_there_is_said_once(tmp_path):
    shop = shops.write(tmp_path / "shop", items=shops.items(), likes=shops.wide_likes())
    (shop / "catalogue.toml").write_text('[columns.items]\nid = "sku"\n')
    expected = r"no column 'sku'.*name, as \[columns.items\] id of catalogue.toml says$"
    with pytest.raises(InputError, match=expected):
        import_catalogue(shop, tmp_path / "data")


@pytest.mark.parametrize("split", ["random", "leave-last-out", "time"])
def test_without_a_share_of_validation_there_is_none(tmp_path, split):
    likes = [
        row | {"time": f"2026-01-{1 + number:02}"}
        for number, row in enumerate(shops.wide_likes())
    ]
    shop = shops.write(tmp_path / "shop", items=shops.items(), likes=likes)
    options = {"split": split, "val_share": 0.0}
    splits = import_catalogue(shop, tmp_path / "data", **options).splits
    assert splits["val"] == 0 and sum(splits.values()) == 24 and splits["test"] >= 3


@pytest.mark.parametrize(
    ("category", "slot"),
    [
        ("Damen > Schuhe > Schuhpflege", None),
        ("Sneaker-Socken", None),
        ("Strumpfhosen", None),
        ("Shoe laces", None),
        ("Chaussettes", None),
        ("Damen > Schuhe > Neu", "shoe"),
        ("Pflegeleichte Hemden", "top"),
        ("Damen > Hosen", "bottom"),
    ],
)
def test_what_is_named_beside_a_garment_is_none(category, slot):
    assert guess_slot(category) == slot
