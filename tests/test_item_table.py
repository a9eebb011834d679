"""A shop's ids, titles and attributes, as they are read back."""

from types import SimpleNamespace

import numpy as np
import pytest
from fhn_jax.data_tools.split_users import parse_users

from fhn_jax.data.item_names import read_names, read_user_ids
from fhn_jax.data.item_table import read_items, read_users
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


def shop_names(root, **changes):
    """Names of the shop's items for codes of these."""
    fields = {
        "categories": ("top", "shoe"),
        "num_items": (2, 1),
        "num_users": 2,
        "names": (("t0", "t1"), ("s0",)),
    }
    return read_names(root, "shop", SimpleNamespace(**fields | changes))


def test_items_are_found_by_the_shops_ids_and_numbers_by_their_sign(tmp_path):
    names = shop_names(write(tmp_path / "items.parquet"))
    assert names.find("top", "sku-9", "here") == 0
    assert names.find("top", "7", "here") == 1  # an id that looks like a number
    assert names.find("top", "#0", "here") == 0
    assert names.item("a/b") == (1, 0) and names.item("x") is None
    assert [names.id(0, 1), names.title(0, 1), names.label(1, 0)] == [
        "7",
        None,
        "a/b Boot",
    ]
    assert names.called((0, 1), (1, 0)) == ["7", "Boot"]
    assert names.attributes(1, 0) == {
        "price": 80.0,
        "in_stock": False,
        "brand": "=CMD()",
    }
    for text, message in [
        ("0", "here: top '0' is unknown; expected an id of the shop, or #0 to #1"),
        ("sku9", "did you mean 'sku-9'"),
        ("a/b", "'a/b' is an item of shoe, not of top"),
        ("#2", "top '#2' is unknown"),
    ]:
        with pytest.raises(InputError, match=message):
            names.find("top", text, "here")


def test_a_table_of_other_items_is_an_error(tmp_path):
    write(tmp_path / "items.parquet")
    with pytest.raises(InputError, match="2 items of the category 'top', .* have 3"):
        shop_names(tmp_path, num_items=(3, 1))
    # Items that came after the codes are none of them.
    assert shop_names(tmp_path, num_items=(1, 1)).id(0, 0) == "sku-9"
    write(tmp_path / "users.parquet", "(0, 'anna')", '"index", id')
    with pytest.raises(InputError, match="users.parquet has 1 users, .* have 2"):
        shop_names(tmp_path)


def test_users_are_found_by_the_shops_ids(tmp_path):
    names = shop_names(write(tmp_path / "items.parquet"))
    assert names.find_user("1", "--user") == names.find_user("#1", "--user") == 1
    with pytest.raises(InputError, match="--user: 'anna' is no user; expected a numb"):
        names.find_user("anna", "--user")
    write(tmp_path / "users.parquet", "(0, 'anna'), (1, '0017')", '"index", id')
    names = shop_names(tmp_path)
    assert names.find_user("0017", "--user") == names.find_user("#1", "--user") == 1
    assert names.user(1) == "0017"
    with pytest.raises(InputError, match="user '1' is not one .* or #0 to #1"):
        names.find_user("1", "--user")
    assert parse_users("0017,#0-1", 2, names.users) == [0, 1]
    with pytest.raises(InputError, match="'ana' is not one .* did you mean 'anna'"):
        parse_users("ana", 2, names.users)


def test_users_of_a_part_keep_their_ids(tmp_path):
    write(tmp_path / "users.parquet", "(0, 'anna'), (1, '0017')", '"index", id')
    (tmp_path / "tuples_part").mkdir()
    (tmp_path / "tuples_part" / "users").write_text("user,original_user\n0,1\n")
    found = read_user_ids(tmp_path, "part")
    assert found is not None and list(found.names) == ["0017"]


def test_attributes_are_as_json_has_them(tmp_path):
    rows = "('top', 0, 'a', NULL, DATE '2026-02-03', [1, 2], 'inf'::double)"
    columns = 'category, "index", id, title, since, sizes, price'
    table = read_items(write(tmp_path / "items.parquet", rows, columns))
    assert table is not None
    row = table.row(0)
    assert row["since"].startswith("2026-02-03") and row["sizes"] == "[1 2]"
    assert "price" not in row and "title" not in row


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
