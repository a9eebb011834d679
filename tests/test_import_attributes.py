"""Attributes of a shop's items: their types, and numbers as each cell has them."""

import datetime
import json

import numpy as np
import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from fhn_jax.data_tools.shop import attributes

from fhn_jax.data.item_table import read_items
from fhn_jax.errors import InputError
from fhn_jax.retrieval import columns
from fhn_jax.retrieval.columns import Column

pytest.importorskip("duckdb")


def imported(tmp_path, values, toml="", *, update=False):
    """The attribute `price` of items with these values in turn, and the summary."""
    rows = shops.items()
    for number, row in enumerate(rows):
        row["price"] = values[number % len(values)]
    shop = shops.write(tmp_path / "shop", items=rows, likes=shops.wide_likes())
    if toml:
        (shop / "catalogue.toml").write_text(toml)
    summary = import_catalogue(shop, tmp_path / "data", update=update)
    table = read_items(tmp_path / "data")
    return table.attributes["price"][: len(values)].tolist(), summary.text


@pytest.mark.parametrize("toml", ["", '[attributes]\nprice = "number"\n'])
def test_each_cell_has_its_own_decimal_sign_and_mixed_ones_are_said(tmp_path, toml):
    values = ["19.90", "19.90", "24,95", "1.299,00"]
    found, text = imported(tmp_path, values, toml)
    assert found == [19.9, 19.9, 24.95, 1299.0]
    assert (
        "items.csv: 12 values of price have a decimal comma, such as '24,95', and 12 a "
        "point, such as '19.90'; each is read as it is written" in text
    )


@pytest.mark.parametrize(
    ("values", "expected", "said"),
    [
        # Beside hundreds, thousands have their sign.
        (["1.299", "899"], [1299, 899], "such as '1.299', which is read as 1299, as"),
        (["1,299", "899"], [1299, 899], "such as '1,299', which is read as 1299, as"),
        (["1.299", "8"], [1.299, 8], "is read as 1.299, since nothing tells; say deci"),
        (["1.299", "899", "19,90"], [1299, 899, 19.9], None),
        (["1.299", "899", "19.90"], [1.299, 899, 19.9], None),
        (["1.299.000", "1.299"], [1299000, 1299], None),
        (["0.125", "1.299"], [0.125, 1.299], None),
        (["1'299.50", "1 299"], [1299.5, 1299], None),
        (["5e-05", "0.5"], [5e-05, 0.5], None),
        (["1.299", "1,5", "2,5", "1.5"], [1299, 1.5, 2.5, 1.5], "1299, as most others"),
    ],
)
def test_what_may_be_either_is_read_as_its_column_is(tmp_path, values, expected, said):
    found, text = imported(tmp_path, values)
    assert found == expected
    assert said in text if said else "note" not in text


def test_the_decimal_sign_may_be_said(tmp_path):
    for sign, expected in ((",", 1299), (".", 1.299)):
        toml = f'decimal = "{sign}"\n'
        found, text = imported(tmp_path / sign, ["1.299", "8"], toml)
        assert found == [expected, 8] and "note" not in text
    with pytest.raises(InputError, match='decimal is \';\'; expected "," or "."'):
        imported(tmp_path / ";", ["1"], 'decimal = ";"\n')


@pytest.mark.slow
def test_an_update_reads_numbers_as_before(tmp_path):
    assert imported(tmp_path, ["1.299,50", "249"])[0] == [1299.5, 249]
    # Without any sign, and then with the same cell alone.
    assert imported(tmp_path, ["20", "249"], update=True)[0] == [20, 249]
    found, text = imported(tmp_path, ["1.299", "2"], update=True)
    assert found == [1299, 2] and "note" not in text
    assert json.loads((tmp_path / "data" / "import.json").read_text())["decimals"] == {
        "price": ","
    }
    assert imported(tmp_path, ["1.299", "2.50"], update=True)[0] == [1.299, 2.5]


@pytest.mark.parametrize("of", ["parquet", "jsonl"])
def test_numbers_of_a_program_have_a_point(tmp_path, of):
    shop = shops.write(tmp_path / "shop", likes=shops.wide_likes())
    values = [1.299, 899.0, 1e16]
    rows = [
        row | {"price": values[number % 3]} for number, row in enumerate(shops.items())
    ]
    if of == "jsonl":
        (shop / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        arrow, parquet = pytest.importorskip("pyarrow"), "pyarrow.parquet"
        table = arrow.Table.from_pylist(rows)
        pytest.importorskip(parquet).write_table(table, shop / "items.parquet")
    summary = import_catalogue(shop, tmp_path / "data")
    table = read_items(tmp_path / "data")
    assert table.attributes["price"][:3].tolist() == values
    assert "note" not in summary.text


@pytest.mark.parametrize(
    ("values", "expected", "said"),
    [
        (["19,90 €", "1.299,00 €"], [19.9, 1299.0], "number, such as '19.9'"),
        (["CHF 12.50", "$ 3"], [12.5, 3.0], "number, such as '12.5'"),
        (["19,-", "5.-"], [19.0, 5.0], "number, such as '19.0'"),
        (
            ["19,90", "on request", "8"],
            ["19,90", "on request", "8"],
            "text, such as '19,90': it looks like numbers; 8 of 24 values are none; "
            'attributes.price = "number" in catalogue.toml takes them',
        ),
        (
            ["0", "1"],
            [0.0, 1.0],
            "number, such as '0.0': 0 and 1 alone; attributes.price = \"boolean\" in",
        ),
        (["007", "12"], ["007", "12"], "text, such as '007'"),
        (["ja", "nein"], [True, False], "boolean, such as 'true'"),
        (["", ""], [None, None], "text, none given"),
    ],
)
def test_the_type_of_each_attribute_is_said(tmp_path, values, expected, said):
    found, text = imported(tmp_path, values)
    assert found == expected and f"\n    price: {said}" in text


@pytest.mark.parametrize(
    "values",
    [
        ["2026-11-01", "2026-11-24 10:30"],
        ["01.11.2026", "24.11.2026 10:30"],
        ["11/1/2026", "11/24/2026 10:30"],
        ["2026-11-01T01:00+01:00", "2026-11-24T10:30Z"],
    ],
)
def test_dates_are_times_that_conditions_compare(tmp_path, values):
    found, text = imported(tmp_path, values)
    assert found == [
        datetime.datetime(2026, 11, 1),
        datetime.datetime(2026, 11, 24, 10, 30),
    ]
    assert "price: time, such as '2026-11-01 00:00:00'" in text
    column = Column.of(np.array(found, object))
    assert column.meets(">=", ["2026-11-02"], "price").tolist() == [False, True]
    # They stay times in an update.
    with pytest.raises(InputError, match="row 1: price is 'soon', expected a time"):
        imported(tmp_path, ["soon", *values], update=True)
    assert imported(tmp_path, values, update=True)[0] == found


def test_times_of_a_program_are_times(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), "pyarrow.parquet"
    shop = shops.write(tmp_path / "shop", likes=shops.wide_likes())
    moment = datetime.datetime(2026, 11, 1, 12, tzinfo=datetime.UTC)
    more = {
        "day": moment.date(),
        "arrived": moment,
        "here": moment.replace(tzinfo=None),
    }
    table = arrow.Table.from_pylist([row | more for row in shops.items()])
    pytest.importorskip(parquet).write_table(table, shop / "items.parquet")
    import_catalogue(shop, tmp_path / "data")
    about = read_items(tmp_path / "data").row(0)
    assert about["day"] == "2026-11-01T00:00:00"
    assert about["arrived"] == about["here"] == "2026-11-01T12:00:00"


def test_attributes_may_be_called_as_one_likes(tmp_path):
    rows = [
        {"id": row["id"], "category": row["category"], "Preis": "1,5", "Marke": "A"}
        for row in shops.items()
    ]
    shop = shops.write(tmp_path / "shop", items=rows, likes=shops.wide_likes())
    toml = shop / "catalogue.toml"
    toml.write_text('[columns.items]\nprice = "Preis"\nbrand = "Marke"\n')
    summary = import_catalogue(shop, tmp_path / "data")
    about = read_items(tmp_path / "data").row(0)
    assert (about["price"], about["brand"]) == (1.5, "A") and "Preis" not in about
    assert "price = 'Preis'" in summary.text
    for name, why in (
        ("titel", "titel is unknown.*did you mean 'title'"),
        ("removed", "an attribute cannot be called 'removed'"),
    ):
        toml.write_text(f'[columns.items]\n{name} = "Preis"\n')
        with pytest.raises(InputError, match=why):
            import_catalogue(shop, tmp_path / "other")


def test_what_is_true_is_the_same_for_imports_and_conditions():
    assert (attributes.TRUE, attributes.FALSE) == (columns.TRUE, columns.FALSE)
