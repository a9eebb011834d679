"""CSV files of a shop are read by all commands as an import reads them."""

import json

import numpy as np
import pytest
from random_codes import run_of
from runs import act
from shapes import SLOTS, write_shapes
from shops import name_items

from fhn_jax.data.csv_files import plain_numbers, read_rows
from fhn_jax.data.layout import read_catalogue
from fhn_jax.recommender import Recommender

pytest.importorskip("duckdb")


@pytest.fixture
def workdir(tmp_path):
    """A run of random codes of a shop's items."""
    root = write_shapes(tmp_path / "data")
    name_items(root, read_catalogue(root, "8"))
    return run_of(root)


@pytest.mark.parametrize(
    "data",
    [
        "id,price\r\nB\u00e4,5\r\n".encode(),
        "\ufeffid;price\nB\u00e4;5\n".encode(),
        "sep=;\r\n\r\nid;price\r\nB\u00e4;5\r\n\r\n".encode("cp1252"),
        "id\tprice\r B\u00e4 \t 5\r".encode("utf-16"),
        'id|price\n"B\u00e4"|"5"'.encode("utf-16-le"),
    ],
)
def test_any_encoding_delimiter_and_start_is_read(tmp_path, data):
    path = tmp_path / "some.csv"
    path.write_bytes(data)
    header, rows = read_rows(path, "prices")
    assert header == ["id", "price"] and [row for _, row in rows] == [["B\u00e4", "5"]]
    line = 1 + data.decode("latin-1").count("sep=") * 2 + 1
    assert rows[0][0] == f"{path}, line {line}"


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["5,50", "12", ""], ["5.50", "12", ""]),
        (["5.50", "12", "-3.0"], ["5.50", "12", "-3.0"]),
        (["1.234,50", "1.299"], ["1234.50", "1299"]),
        (["1,234.50", "1,299"], ["1234.50", "1299"]),
        (["1 234,5", "7,25", "8.25"], ["1234.5", "7.25", "8.25"]),
        # Nothing tells what these are.
        (["1,299", "3"], ["1,299", "3"]),
        (["1.299", "3"], ["1.299", "3"]),
        (["cheap, 5,5", "1e3", "5,5"], ["cheap, 5,5", "1e3", "5.5"]),
    ],
)
def test_numbers_are_read_by_their_own_sign_for_decimals(cells, expected):
    assert plain_numbers(cells) == expected


@pytest.mark.slow
def test_attributes_are_set_from_a_file_of_a_spreadsheet(workdir):
    path = workdir.parent / "stock.csv"
    path.write_bytes(b"id;price;in_stock\r\nshoe-3;5,50;nein\r\nshoe-5;;ja\r\n")
    act("set-attributes", workdir=workdir, changes=str(path))
    found = Recommender.open(workdir, workdir.parent / "data", "8").index.attributes
    values = found.values()
    shoes = [2 * 32 + item for item in (3, 5)]
    assert np.array_equal(values["price"][shoes], [5.5, np.nan], equal_nan=True)
    assert [values["in_stock"][item] for item in shoes] == [False, True]


def test_outfits_and_likes_are_read_from_files_of_a_spreadsheet(workdir):
    path = workdir.parent / "outfits.csv"
    header = f"outfit_id;{';'.join(SLOTS)}\n"
    path.write_text(f"{header}look-1;top-1;bottom-2;shoe-3;;;\nx;;;;;;bag-7\n")
    act("search", workdir=workdir, outfits=str(path), k=5)
    found = json.loads((workdir / "search.json").read_text())["outfits"]
    rows = [[1, 2, 3, -1, -1, -1], [-1] * 5 + [7]]
    assert sorted(row["items"] for row in found) == sorted(rows)
    path.write_text(f"{';'.join(SLOTS)}\n;;shoe-3;;;\n")
    act("cold-start", workdir=workdir, fit=True, likes=str(path), k=5)
    likes = json.loads((workdir / "fit.json").read_text())["likes"]
    assert likes == [[-1, -1, 3, -1, -1, -1]]
