"""A shop's ids, titles and attributes, as they are read back."""

import numpy as np
import pytest

from fhn_jax.data.item_table import read_items, read_users
from fhn_jax.data.titles import find_titles
from fhn_jax.errors import InputError

duckdb = pytest.importorskip("duckdb")

ROWS = """
  ('top', 0, 'sku-9', 'Red shirt', 9.5, true, 'Ö'),
  ('top', 1, '7', NULL, NULL, NULL, NULL),
  ('shoe', 0, 'a/b', 'Boot', 80, false, '=CMD()')
"""
COLUMNS = 'category, "index", id, title, price, in_stock, brand'


def write(path, rows=ROWS, columns=COLUMNS):
    values = f"select * from (values {rows}) t({columns})"
    duckdb.connect().execute(f"copy ({values}) to '{path}' (format parquet)")
    return path.parent


def test_ids_and_numbers_lead_to_each_other(tmp_path):
    table = read_items(write(tmp_path / "items.parquet"))
    assert table is not None and len(table) == 3
    assert table.categories == ("top", "shoe") and table.offsets == (0, 2, 3)
    assert [table.ids.number(table.ids[i]) for i in range(3)] == [0, 1, 2]
    assert table.ids.numbers(["a/b", "7"]).tolist() == [2, 1]
    assert "7" in table.ids and "8" not in table.ids


def test_titles_and_attributes_are_those_of_the_item(tmp_path):
    table = read_items(write(tmp_path / "items.parquet"))
    assert table is not None
    assert list(table.titles) == ["Red shirt", None, "Boot"]
    np.testing.assert_array_equal(table.attributes["price"], [9.5, np.nan, 80])
    assert table.attributes["in_stock"].tolist() == [True, None, False]
    assert table.row(1) == {"id": "7", "category": "top"}
    assert table.row(2) == {
        **{"id": "a/b", "category": "shoe", "title": "Boot"},
        **{"price": 80.0, "in_stock": False, "brand": "=CMD()"},
    }


def test_users_have_their_ids(tmp_path):
    write(tmp_path / "users.parquet", "(0, 'anna'), (1, '0017')", '"index", id')
    users = read_users(tmp_path)
    assert users is not None and list(users.names) == ["anna", "0017"]
    with pytest.raises(KeyError, match="user 'ana' is not one .* did you mean 'anna'"):
        users.number("ana")


def test_titles_are_found_by_image_name_and_an_item_without_has_its_id(tmp_path):
    root = write(tmp_path / "items.parquet")
    names = {"top": ("t0", "t1"), "shoe": ("s0",)}
    titles = {"t0": "Red shirt", "t1": "7", "s0": "Boot"}
    assert find_titles(root, names) == titles
    with pytest.raises(InputError, match="2 items of the category 'top', .* have 1"):
        find_titles(root, names | {"top": ("t0",)})


def test_data_of_no_shop_have_no_table(tmp_path):
    assert read_items(tmp_path) is None and read_users(tmp_path) is None


@pytest.mark.parametrize(
    ("rows", "columns", "text"),
    [
        ("('top', 0, 'a'), ('top', 0, 'b')", 'category, "index", id', "no column"),
        ("('top', 1, 'a', '')", 'category, "index", id, title', "count the items"),
        (
            "('top', 0, 'a', ''), ('top', 1, 'a', '')",
            'category, "index", id, title',
            "each once",
        ),
    ],
)
def test_a_table_that_is_not_right_is_an_error(tmp_path, rows, columns, text):
    write(tmp_path / "items.parquet", rows, columns)
    with pytest.raises(InputError, match=text):
        read_items(tmp_path)


def test_a_damaged_file_is_an_error(tmp_path):
    (tmp_path / "items.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match="no Parquet file"):
        read_items(tmp_path)
