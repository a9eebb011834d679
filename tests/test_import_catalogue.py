"""A shop's own files become data that training reads."""

import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue

from fhn_jax.data.item_table import read_items, read_users
from fhn_jax.data.layout import read_catalogue


def test_a_shop_of_two_tables_is_imported(tmp_path):
    shop = shops.write(tmp_path / "shop", items=shops.items(), likes=shops.wide_likes())
    summary = import_catalogue(shop, tmp_path / "data")
    print(summary.text)
    catalogue = read_catalogue(tmp_path / "data", "shop")
    assert catalogue.categories == ("top", "bottom", "shoe")
    assert catalogue.num_users == 4 and catalogue.num_items == 24
    positives = {s: len(part.positives) for s, part in catalogue.splits.items()}
    assert positives == {"train": 16, "val": 4, "test": 4} == dict(summary.splits)
    assert catalogue.splits["test"].ratio("random") == 10
    table, users = read_items(tmp_path / "data"), read_users(tmp_path / "data")
    assert table is not None and users is not None
    assert users.names == ["user 0", "user 1", "user 2", "user 3"]
    assert table.row(table.ids.number("B-003")) == {
        **{"id": "B-003", "category": "bottom", "title": "Jeans no. 3"},
        "price": 3.5,
    }
