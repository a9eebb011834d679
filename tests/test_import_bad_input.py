"""What is wrong with a shop's files is counted, named, or an error; never dropped."""

import json
import subprocess
import sys
import time

import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue

from fhn_jax.data.item_table import read_items
from fhn_jax.errors import ExistingFileError, InputError, MissingFileError

pytest.importorskip("duckdb")


@pytest.fixture
def tables():
    return dict(items=shops.items(), likes=shops.wide_likes())


def imported(tmp_path, tables, **options):
    shop = shops.write(tmp_path / "shop", **tables)
    return import_catalogue(shop, tmp_path / "data", **options)


def left_out(tmp_path):
    return [
        (each["file"], each["row"], each["what"], each["reason"])
        for each in shops.quarantine(tmp_path / "data")
    ]


def test_an_item_whose_id_came_before_is_left_out(tmp_path, tables):
    tables["items"].append(tables["items"][3] | {"title": "again"})
    imported(tmp_path, tables)
    assert left_out(tmp_path) == [
        ("items.csv", 25, "T-003", "the id is that of an earlier item")
    ]
    table = read_items(tmp_path / "data")
    assert table.titles[3] == "T-Shirts no. 3" and len(table) == 24


def test_items_without_id_or_category_are_left_out(tmp_path, tables):
    more = dict(title="", price="")
    tables["items"] += [
        {"id": "", "category": "Jeans"} | more,
        {"id": "x", "category": ""} | more,
    ]
    imported(tmp_path, tables)
    assert left_out(tmp_path) == [
        ("items.csv", 25, None, "no id"),
        ("items.csv", 26, "x", "no category"),
    ]


def test_unknown_categories_are_counted_with_the_nearest_known(tmp_path, tables):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "catalogue.toml").write_text(
        'ignore = ["Voucher"]\n[slots]\ntop = ["T-Shirts"]\nbottom = ["Jeans"]\n'
        'shoe = ["sneaker"]\n'
    )
    for number, category in enumerate(("Jeasn", "Voucher")):
        row = {"id": f"x{number}", "category": category, "title": "", "price": ""}
        tables["items"].append(row)
    summary = imported(tmp_path, tables)
    assert summary.left_out == {
        "items.csv": {
            "category 'Jeasn' has no slot; did you mean 'Jeans'?": 1,
            "category 'Voucher' is ignored, as catalogue.toml says": 1,
        }
    }


def test_outfits_must_fill_a_template_with_one_item_a_slot(tmp_path):
    tables = dict(items=shops.items())
    good = [
        {"outfit_id": f"{n}", "item_id": item}
        for n in range(30)
        for item in (f"T-{n % 8:03}", f"B-{n // 8:03}", f"S-{n % 7:03}")
    ]
    wrong = {
        "lacks": ["T-001", "B-001"],
        "two": ["T-001", "T-002", "B-001", "S-001"],
        "unknown": ["T-001", "B-001", "S-999"],
    }
    tables["outfits"] = good + [
        {"outfit_id": name, "item_id": item}
        for name, some in wrong.items()
        for item in some
    ]
    tables["likes"] = [
        {"user": f"u{n % 3}", "outfit_id": outfit}
        for n, outfit in enumerate((*range(30), *wrong, "nothing"))
    ]
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "catalogue.toml").write_text(
        '[[templates]]\nslots = ["top", "bottom", "shoe"]\n'
    )
    summary = imported(tmp_path, tables)
    assert left_out(tmp_path) == [
        ("outfits.csv", 91, "lacks", "lacks shoe to be an outfit"),
        ("outfits.csv", 93, "two", "two items of a slot"),
        ("outfits.csv", 97, "unknown", "an item is unknown: S-999"),
        ("likes.csv", 31, "u0", "the outfit was left out: lacks"),
        ("likes.csv", 32, "u1", "the outfit was left out: two"),
        ("likes.csv", 33, "u2", "the outfit was left out: unknown"),
        ("likes.csv", 34, "u0", "the outfit is unknown: nothing"),
    ]
    assert summary.left_out["likes.csv"]["the outfit was left out"] == 3


def test_an_item_in_the_column_of_another_slot_is_left_out(tmp_path, tables):
    row = tables["likes"][5]
    row["top"], row["shoe"] = row["shoe"], row["top"]
    imported(tmp_path, tables)
    ((file, number, user, reason),) = left_out(tmp_path)
    assert (file, number, user) == ("likes.csv", 6, "user 0")
    assert reason.startswith("an item is of another slot: ")


def test_users_with_few_likes_are_left_out_and_counted(tmp_path, tables):
    tables["likes"] += [
        {"user": "rare"} | dict(top="T-000", bottom="B-000", shoe="S-007")
    ]
    summary = imported(tmp_path, tables)
    assert summary.users == 4
    reasons = {"the user has fewer than 3 likes": 1}
    assert summary.left_out == {"likes.csv": reasons}


def test_values_that_are_neither_like_nor_dislike_are_left_out(tmp_path, tables):
    for row in tables["likes"]:
        row["value"] = "1,0"
    tables["likes"][4]["value"] = "5"
    imported(tmp_path, tables)
    assert left_out(tmp_path) == [
        ("likes.csv", 5, "user 0", "the value is neither 1 nor -1: 5")
    ]


def test_lines_of_mixed_encodings_are_read(tmp_path, tables):
    tables["items"][0]["title"], tables["items"][1]["title"] = "Grün", "Größe 50 €"
    shop = shops.write(tmp_path / "shop", **tables)
    lines = (shop / "items.csv").read_text(encoding="utf-8").split("\n")
    encoded = [line.encode("utf-8") for line in lines]
    encoded[2] = lines[2].encode("cp1252")
    (shop / "items.csv").write_bytes(b"\n".join(encoded))
    summary = import_catalogue(shop, tmp_path / "data")
    assert (
        "items.csv: lines that are no UTF-8 were read as Windows-1252" in summary.text
    )
    table = read_items(tmp_path / "data")
    assert list(table.titles[:2]) == ["Grün", "Größe 50 €"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_spreadsheets_write_is_read(tmp_path, tables, encoding):
    tables["items"][0]["title"] = "=CMD|' /C calc'!A0"
    shop = shops.write(tmp_path / "shop", encoding, **tables)
    for name in tables:
        path = shop / f"{name}.csv"
        text = path.read_text(encoding=encoding)
        # Commas within a cell have it quoted; the others become semicolons.
        text = text.replace(",", ";").replace('";', '",')
        path.write_text(text.replace(';50"', ',50"'), encoding=encoding)
    import_catalogue(shop, tmp_path / "data")
    table = read_items(tmp_path / "data")
    assert table.titles[0] == "=CMD|' /C calc'!A0"
    assert table.attributes["price"].tolist() == [*(n + 0.5 for n in range(8))] * 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1.234,50", "12,00"], [1234.5, 12.0]),
        (["1,234.50", "12.00"], [1234.5, 12.0]),
        (["1.234", "12"], [1.234, 12.0]),
        (["007", "12"], ["007", "12"]),
        (["yes", "No"], [True, False]),
        (["12,5", "n/a"], ["12,5", "n/a"]),
    ],
)
def test_attributes_have_the_type_of_all_their_values(
    tmp_path, tables, values, expected
):
    for number, row in enumerate(tables["items"]):
        row["price"] = values[number % 2]
    imported(tmp_path, tables)
    table = read_items(tmp_path / "data")
    assert table.attributes["price"][:2].tolist() == expected


def test_values_that_are_not_of_the_declared_type_are_counted(tmp_path, tables):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "catalogue.toml").write_text(
        '[attributes]\nprice = "number"\n'
    )
    tables["items"][0]["price"] = "on request"
    summary = imported(tmp_path, tables)
    assert "items.csv: 1 values of price are no number and left empty" in summary.text
    assert read_items(tmp_path / "data").attributes["price"][1] == 1.5


def test_lines_that_do_not_fit_are_left_out(tmp_path, tables):
    shop = shops.write(tmp_path / "shop", **tables)
    with open(shop / "likes.csv", "a") as file:
        file.write("user 1,T-001\r\n")
    import_catalogue(shop, tmp_path / "data")
    assert left_out(tmp_path) == [
        ("likes.csv", 26, "user 1,T-001", "the line does not fit the header")
    ]


def test_lines_that_are_no_json_are_left_out(tmp_path, tables):
    shop = shops.write(tmp_path / "shop", items=tables["items"])
    lines = [json.dumps(row) for row in tables["likes"]]
    (shop / "likes.jsonl").write_text("\n".join([*lines, '{"user": ', "[1]"]))
    import_catalogue(shop, tmp_path / "data")
    assert left_out(tmp_path) == [
        ("likes.jsonl", 25, '{"user": ', "the line is no JSON object"),
        ("likes.jsonl", 26, "[1]", "the line is no JSON object"),
    ]


def test_a_wrong_column_name_is_an_error_that_suggests_the_nearest(tmp_path, tables):
    tables["items"] = [
        {"id": row["id"], "categry": row["category"]} for row in tables["items"]
    ]
    with pytest.raises(
        InputError, match=r"items.csv has no column 'category'.*mean 'categry'"
    ):
        imported(tmp_path, tables)


def test_columns_may_be_named_in_the_toml(tmp_path, tables):
    tables["items"] = [
        {"code": row["id"], "id": number, "kind of": row["category"]}
        for number, row in enumerate(tables["items"])
    ]
    (tmp_path / "shop").mkdir()
    toml = tmp_path / "shop" / "catalogue.toml"
    toml.write_text('[columns.items]\nid = "code"\ncategory = "kind of"\n')
    imported(tmp_path, tables)
    table = read_items(tmp_path / "data")
    assert table.row(1) == {"id": "T-001", "category": "top", "id_": 1.0}
    toml.write_text('[columns.items]\nid = "cod"\n')
    with pytest.raises(InputError, match="no column 'cod', .*did you mean 'code'"):
        import_catalogue(tmp_path / "shop", tmp_path / "other")


def test_likes_of_another_catalogue_are_an_error(tmp_path, tables):
    for row in tables["likes"]:
        row["top"], row["shoe"] = "x" + row["top"], "x" + row["shoe"]
    with pytest.raises(InputError, match="48 of 72 items are unk.*'xS-00.* row 1"):
        imported(tmp_path, tables, max_quarantine=1.0)
    assert not (tmp_path / "data").exists()


def test_too_much_that_is_wrong_is_an_error(tmp_path, tables):
    for row in tables["likes"][::4]:
        row["user"] = ""
    with pytest.raises(
        InputError, match="6 of the 24 rows of likes.csv.*\n  6: no user"
    ):
        imported(tmp_path, tables)
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]
    assert imported(tmp_path, tables, max_quarantine=0.3).users == 4


def test_times_of_the_future_and_missing_ones_are_left_out_of_a_split_by_time(
    tmp_path, tables
):
    for number, row in enumerate(tables["likes"]):
        row["time"] = 1_700_000_000 + number % 6
    tables["likes"][3]["time"] = time.time() + 10 * 86_400
    tables["likes"][4]["time"] = "yesterday"
    imported(tmp_path, tables, split="time", test_share=0.2)
    assert left_out(tmp_path) == [
        ("likes.csv", 4, "user 0", "the time is in the future"),
        ("likes.csv", 5, "user 0", "no time, or none that can be read"),
    ]


def test_a_split_by_time_without_times_is_an_error(tmp_path, tables):
    with pytest.raises(InputError, match="have no column time"):
        imported(tmp_path, tables, split="time")


def test_what_is_there_is_not_replaced(tmp_path, tables):
    (tmp_path / "data").mkdir()
    with pytest.raises(ExistingFileError, match="exists and is left as it is"):
        imported(tmp_path, tables)


def test_a_folder_without_tables_is_an_error(tmp_path):
    with pytest.raises(MissingFileError, match="no folder"):
        import_catalogue(tmp_path / "none", tmp_path / "data")
    (tmp_path / "item.csv").touch()
    with pytest.raises(MissingFileError, match="did you mean 'item.csv'"):
        import_catalogue(tmp_path, tmp_path / "data")


def test_two_files_of_one_table_are_an_error(tmp_path, tables):
    shop = shops.write(tmp_path / "shop", **tables)
    (shop / "items.jsonl").touch()
    with pytest.raises(ExistingFileError, match="items.csv and items.jsonl"):
        import_catalogue(shop, tmp_path / "data")


@pytest.mark.parametrize(
    ("toml", "match"),
    [
        ("[slot]\n", "'slot' is unknown.*did you mean 'slots'"),
        ('[slots]\n"a b" = []\n', "'a b' is no name of a category"),
        ('[slots]\ntop = ["x"]\nshoe = ["x"]\n', "'x' is in several slots"),
        (
            '[slots]\ntop = ["x"]\n[[templates]]\nslots = ["tops"]\n',
            "no slot 'tops'.*did you mean 'top'",
        ),
        ('[attributes]\nprice = "money"\n', "expected one of number, boolean, text"),
        ("[slots\n", "expected TOML"),
    ],
)
def test_a_wrong_toml_is_an_error(tmp_path, tables, toml, match):
    shop = shops.write(tmp_path / "shop", **tables)
    (shop / "catalogue.toml").write_text(toml)
    with pytest.raises(InputError, match=match):
        import_catalogue(shop, tmp_path / "data")


@pytest.mark.parametrize(
    ("change", "options", "match"),
    [
        ({"split": "train"}, {}, "test split; the column split names none"),
        ({"split": "all"}, {}, "rows of likes.csv: no split of train, val, test"),
        ({"time": 9}, {"split": "time"}, "is one time that of all the last ones"),
        ({}, {"min_likes": 1}, "users with fewer than 3 likes spare none"),
    ],
)
def test_why_nothing_is_left_to_test_is_said(tmp_path, tables, change, options, match):
    likes = [row | change for row in tables["likes"]]
    if not change:
        likes = [row | {"user": number // 2} for number, row in enumerate(likes)]
    with pytest.raises(InputError, match=match):
        imported(tmp_path, tables | {"likes": likes}, **options)


def test_templates_of_slots_that_are_not_there_are_said(tmp_path, tables):
    shop = shops.write(tmp_path / "shop", **tables)
    usual = '[[templates]]\nslots = ["top", "bottom", "shoe"]\n'
    toml = shop / "catalogue.toml"
    toml.write_text(usual + '[[templates]]\nslots = ["top", "bag"]\n')
    note = "note: no item is of the slot bag, so none makes top + bag"
    assert note in import_catalogue(shop, tmp_path / "data").text
    toml.write_text(usual + '[[templates]]\nslots = ["top", "shoes"]\n')
    with pytest.raises(InputError, match="has the slot 'shoes'.*did you mean 'shoe'"):
        import_catalogue(shop, tmp_path / "other")


@pytest.mark.parametrize("limit", [2**9, 2**14])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, tables, limit):
    shop = shops.write(tmp_path / "shop", **tables)
    program = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "from fhn_jax.main import main\n"
        f"main(['import-catalogue', {str(shop)!r}, {str(tmp_path / 'data')!r}])"
    )
    done = subprocess.run(
        # -B: Python would leave half of a compiled module.
        [sys.executable, "-B", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "error: " in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def in_long_form(likes, key="outfit_id"):
    """Rows of a table with one for each item of likes in wide form."""
    return [
        {key: f"o{number}", "item_id": row[slot], "user": row["user"]}
        for number, row in enumerate(likes)
        for slot in shops.CATEGORIES
    ]


@pytest.mark.slow
def test_rows_without_an_item_are_counted_whatever_the_table(tmp_path, tables):
    likes = tables.pop("likes")
    slots = list(shops.CATEGORIES) * 8
    single = [
        {"user": row["user"], "item_id": row[slot]}
        for row, slot in zip(likes, slots, strict=True)
    ]
    single[2]["item_id"] = ""
    imported(tmp_path / "single", tables | {"likes": single})
    assert left_out(tmp_path / "single") == [("likes.csv", 3, "user 0", "no item")]

    wide = [row | {"outfit_id": number} for number, row in enumerate(likes)]
    wide[1] |= dict.fromkeys(shops.CATEGORIES, "")
    imported(tmp_path / "wide", tables | {"outfits": wide})
    assert left_out(tmp_path / "wide") == [("outfits.csv", 2, "1", "no item")]

    # An outfit that lacks one is not an outfit of the others.
    long = in_long_form(likes)
    long[0]["item_id"] = long[3]["item_id"] = long[4]["item_id"] = ""
    imported(tmp_path / "long", tables | {"outfits": long})
    assert left_out(tmp_path / "long") == [
        ("outfits.csv", 1, "o0", "no item"),
        ("outfits.csv", 4, "o1", "no item"),
    ]


def test_orders_of_nothing_are_counted_and_what_is_left_of_others_is_said(
    tmp_path, tables
):
    likes = tables.pop("likes")
    rows = in_long_form(likes, "order_id")
    for row in rows[3:6]:
        row["item_id"] = ""
    gift = {"order_id": "o3", "item_id": "gift card", "user": "user 0"}
    summary = imported(tmp_path, tables | {"orders": [*rows, gift]})
    assert left_out(tmp_path) == [
        ("orders.csv", 4, "o1", "the order fills no template")
    ]
    assert "1 pieces of orders are left: an item is unknown" in summary.text


def test_an_outfit_or_order_is_of_the_user_that_one_of_its_rows_names(tmp_path, tables):
    likes = tables.pop("likes")
    rows = in_long_form(likes, "order_id")
    for row in rows[::3]:
        row["user"] = ""
    rows[4]["user"] = "another"
    summary = imported(tmp_path, tables | {"orders": rows})
    assert left_out(tmp_path) == [("orders.csv", 4, None, "it is of several users")]
    assert sum(summary.splits.values()) == len(likes) - 1 and summary.users == 4


def test_rows_of_likes_name_an_outfit_or_an_item(tmp_path, tables):
    outfits = [
        {"outfit_id": number} | {slot: row[slot] for slot in shops.CATEGORIES}
        for number, row in enumerate(tables["likes"])
    ]
    likes = [
        {"user": row["user"], "outfit_id": number, "item_id": ""}
        for number, row in enumerate(tables["likes"])
    ]
    likes += [{"user": "user 0", "outfit_id": "", "item_id": "B-001"}]
    likes += [{"user": "user 0", "outfit_id": "", "item_id": ""}]
    likes += [{"user": "user 0", "outfit_id": 0, "item_id": "B-001"}]
    summary = imported(tmp_path, tables | {"outfits": outfits, "likes": likes})
    assert summary.templates == {("top", "bottom", "shoe"): 24, ("bottom",): 1}
    assert left_out(tmp_path) == [
        ("likes.csv", 26, "user 0", "no item"),
        ("likes.csv", 27, "user 0", "it names several of outfit_id, item_id"),
    ]


def test_a_column_that_names_no_table_is_said_to_be_of_no_use(tmp_path, tables):
    for number, row in enumerate(tables["likes"]):
        row["order_id"] = number
    summary = imported(tmp_path, tables)
    assert sum(summary.splits.values()) == 24
    assert "likes.csv: the column order_id says nothing: there is no" in summary.text
    likes = [{"user": 1, "outfit_id": 2}]
    with pytest.raises(
        InputError, match="outfit_id says nothing: there is no such table"
    ):
        imported(tmp_path / "2", tables | {"likes": likes})


def test_unknown_ids_are_shown_beside_known_ones(tmp_path, tables):
    likes = [row | {"top": row["top"].lower()} for row in tables["likes"]]
    likes = [row | {"bottom": row["bottom"].lower()} for row in likes]
    with pytest.raises(InputError, match="such as 'b-000'.*of items, such as 'B-000'"):
        imported(tmp_path, tables | {"likes": likes})


def test_an_order_of_several_users_makes_no_like_and_the_reason_is_said(
    tmp_path, tables
):
    rows = in_long_form(tables.pop("likes"), "order_id")
    for row in rows:
        row["order_id"] = "o"
    with pytest.raises(
        InputError, match="no like is left.*the order fills no template"
    ):
        imported(tmp_path, tables | {"orders": rows})
