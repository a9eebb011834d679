"""A shop's own files become data that training reads."""

import itertools
import json
import math

import numpy as np
import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue, main

from fhn_jax.data.item_table import read_items, read_users
from fhn_jax.data.layout import read_catalogue

duckdb = pytest.importorskip("duckdb")
FULL = {
    "top": "T-Shirts",
    "bottom": "Jeans",
    "shoe": "Sneaker",
    "dress": "Dresses",
    "outerwear": "Coats",
}


def outfit_rows(count, slots, start=0, each=8):
    """Rows of a table of outfits; all of them differ."""
    rows = []
    for number in range(start, start + count):
        row = {"outfit_id": f"look {number}"}
        for place, slot in enumerate(slots):
            row[slot] = (
                f"{slot[0].upper()}-{(number // each * place + number) % each:03}"
            )
        rows.append(row)
    return rows


def likes_of(outfits, users=4):
    """Rows of likes: each outfit is liked by one user in turn."""
    return [
        {"user": f"u{number % users}", "outfit_id": row["outfit_id"]}
        for number, row in enumerate(outfits)
    ]


def imported(tmp_path, name="data", tables=None, **options):
    """The catalogue and the summary of an import."""
    shop = shops.write(tmp_path / "shop", **tables) if tables else tmp_path / "shop"
    summary = import_catalogue(shop, tmp_path / name, **options)
    return read_catalogue(tmp_path / name, "shop"), summary


def liked(catalogue, root):
    """All positives as the shop would say them: (user, ids of items)."""
    table, users = read_items(root), read_users(root)
    return {
        (users[user], *(table.ids[item] for item in items if item >= 0))
        for part in catalogue.splits.values()
        for user, items in zip(
            part.positives.users.tolist(),
            catalogue.global_ids(part.positives.items).tolist(),
            strict=True,
        )
    }


def test_a_shop_of_two_tables_is_imported(tmp_path):
    tables = dict(items=shops.items(), likes=shops.wide_likes())
    catalogue, summary = imported(tmp_path, tables=tables)
    assert catalogue.categories == ("top", "bottom", "shoe")
    assert catalogue.num_users == 4 and catalogue.num_items == 24
    positives = {s: len(part.positives) for s, part in catalogue.splits.items()}
    assert positives == {"train": 16, "val": 4, "test": 4} == dict(summary.splits)
    assert catalogue.splits["test"].ratio("random") == 10
    assert catalogue.splits["test"].ratio("hard") == 10
    table, users = read_items(tmp_path / "data"), read_users(tmp_path / "data")
    assert users.names == ["user 0", "user 1", "user 2", "user 3"]
    assert table.row(table.ids.number("B-003")) == {
        **{"id": "B-003", "category": "bottom", "title": "Jeans no. 3"},
        "price": 3.5,
    }
    assert liked(catalogue, tmp_path / "data") == {
        tuple(row.values()) for row in tables["likes"]
    }
    assert (tmp_path / "data" / "vectors" / "title.npz").is_file()


def test_negatives_are_nobodys_positives_and_hard_ones_another_users(tmp_path):
    tables = dict(items=shops.items(), likes=shops.wide_likes())
    catalogue, _ = imported(tmp_path, tables=tables)
    everybody = {
        (user, *items)
        for part in catalogue.splits.values()
        for user, items in zip(
            part.positives.users.tolist(), part.positives.items.tolist(), strict=True
        )
    }
    outfits = {row[1:] for row in everybody}
    for name in ("val", "test"):
        negatives = catalogue.splits[name].negatives
        assert not {tuple(row) for row in negatives["random"].items.tolist()} & outfits
        hard = negatives["hard"]
        rows = zip(hard.users.tolist(), hard.items.tolist(), strict=True)
        for user, items in rows:
            assert tuple(items) in outfits and (user, *items) not in everybody


def test_no_wrong_answer_is_anybodys_positive(tmp_path):
    # 125 outfits are possible, and half of them are liked.
    outfits = itertools.product(range(5), repeat=3)
    likes = [
        dict(user=f"u{n % 3}", top=f"T-{a:03}", bottom=f"B-{b:03}", shoe=f"S-{c:03}")
        for n, (a, b, c) in enumerate(outfits)
        if n % 2
    ]
    tables = dict(items=shops.items(each=5), likes=likes)
    catalogue, _ = imported(tmp_path, tables=tables)
    positives = {
        tuple(row)
        for part in catalogue.splits.values()
        for row in part.positives.items.tolist()
    }
    questions = catalogue.fitb["test"].items
    assert len(questions) >= 3
    for answer, *wrong in questions.tolist():
        assert tuple(answer) in positives
        assert not {tuple(row) for row in wrong} & positives


def test_outfits_of_several_shapes_keep_their_templates(tmp_path):
    outfits = outfit_rows(24, ("top", "bottom", "shoe"))
    outfits += [
        {
            "outfit_id": f"d{n}",
            "dress": f"D-{n % 8:03}",
            "shoe": f"S-{(n + n // 8) % 8:03}",
        }
        for n in range(24)
    ]
    columns = ("outfit_id", *FULL)
    outfits = [{c: row.get(c, "") for c in columns} for row in outfits]
    items = shops.items(categories=FULL)
    tables = dict(items=items, outfits=outfits, likes=likes_of(outfits))
    catalogue, summary = imported(tmp_path, tables=tables)
    # No outfit has a coat: the slot is left, and said so.
    assert catalogue.categories == ("top", "bottom", "shoe", "dress")
    reasons = summary.left_out["items.csv"]
    assert reasons == {
        "no outfit that anybody likes has an item of its slot, outerwear": 8
    }
    assert summary.templates == {("top", "bottom", "shoe"): 24, ("shoe", "dress"): 24}
    for part in catalogue.splits.values():
        for negatives in part.negatives.values():
            ratio = len(negatives) // len(part.positives)
            same = np.repeat(part.positives.items >= 0, ratio, axis=0)
            np.testing.assert_array_equal(negatives.items >= 0, same)


def test_outfits_in_long_form_are_those_in_wide_form(tmp_path):
    wide = outfit_rows(24, ("top", "bottom", "shoe"))
    long = [
        {"outfit_id": row["outfit_id"], "item_id": row[slot]}
        for slot in ("shoe", "top", "bottom")
        for row in wide
    ]
    tables = dict(items=shops.items(), likes=likes_of(wide))
    first, _ = imported(tmp_path / "1", tables=tables | {"outfits": wide})
    second, _ = imported(tmp_path / "2", tables=tables | {"outfits": long})
    assert first.checksum == second.checksum


def test_orders_are_outfits_where_they_fill_a_template(tmp_path):
    orders = []
    for row in outfit_rows(12, ("top", "bottom", "shoe")):
        order = int(row["outfit_id"].split()[1])
        bought = [row["top"], row["bottom"], row["shoe"], "A-001"]
        if order % 3 == 1:
            bought = bought[:2]
        if order % 3 == 2:
            bought += ["T-007", "D-001"]  # a second top, but a dress and a shoe
        orders += [
            {"order_id": order, "customer": f"c{order % 2}", "sku": item}
            for item in bought
        ]
    items = shops.items(categories=FULL | {"accessory": "Hats"})
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "catalogue.toml").write_text(
        '[[templates]]\nslots = ["dress", "shoe"]\n'
        '[[templates]]\nslots = ["top", "bottom", "shoe"]\n'
    )
    tables = dict(items=items, orders=orders)
    catalogue, summary = imported(tmp_path, tables=tables, min_likes=1, test_share=0.4)
    assert summary.left_out["orders.csv"] == {"the order fills no template": 4}
    assert summary.templates == {("top", "bottom", "shoe"): 4, ("shoe", "dress"): 2}
    assert ("c0", "S-002", "D-001") in liked(catalogue, tmp_path / "data")


def test_likes_of_single_items_are_templates_of_one_slot(tmp_path):
    items = shops.items(each=20)
    likes = [
        {"user_id": f"{user}", "item_id": item["id"]}
        for user in range(5)
        for item in items[user::5]
    ]
    catalogue, summary = imported(tmp_path, tables=dict(items=items, likes=likes))
    assert catalogue.templates == ((0,), (1,), (2,))
    assert sum(summary.templates.values()) == 60
    test = catalogue.splits["test"]
    own = {
        (user, *row)
        for part in catalogue.splits.values()
        for user, row in zip(
            part.positives.users.tolist(), part.positives.items.tolist(), strict=True
        )
    }
    negatives = test.negatives["random"]
    drawn = zip(negatives.users.tolist(), negatives.items.tolist(), strict=True)
    assert not own & {(user, *row) for user, row in drawn}


def test_every_format_says_the_same(tmp_path):
    tables = dict(items=shops.items(), likes=shops.wide_likes())
    first, _ = imported(tmp_path, "csv", tables)
    other = tmp_path / "other"
    other.mkdir()
    for name, rows in tables.items():
        lines = "\n".join(json.dumps(row) for row in rows)
        (other / f"{name}.jsonl").write_text(lines)
    import_catalogue(other, tmp_path / "json")
    assert read_catalogue(tmp_path / "json", "shop").checksum == first.checksum
    for name in tables:
        source = tmp_path / "shop" / f"{name}.csv"
        duckdb.connect().execute(
            f"COPY (SELECT * FROM '{source}') TO '{other / name}.parquet'"
        )
        (other / f"{name}.jsonl").unlink()
    import_catalogue(other, tmp_path / "parquet")
    assert read_catalogue(tmp_path / "parquet", "shop").checksum == first.checksum


@pytest.mark.slow
def test_tables_in_memory_say_the_same(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    tables = dict(items=shops.items(), likes=shops.wide_likes())
    first, _ = imported(tmp_path, "csv", tables)
    arrow = {name: pyarrow.Table.from_pylist(rows) for name, rows in tables.items()}
    import_catalogue(arrow, tmp_path / "arrow")
    assert read_catalogue(tmp_path / "arrow", "shop").checksum == first.checksum
    toml = {"slots": {"top": ["T-Shirts"], "shoe": ["Sneaker"], "bottom": ["Jeans"]}}
    import_catalogue(arrow | {"catalogue": toml}, tmp_path / "ordered")
    ordered = read_catalogue(tmp_path / "ordered", "shop")
    assert ordered.categories == ("top", "shoe", "bottom")


def test_dislikes_are_the_first_negatives_of_their_user(tmp_path):
    likes = [row | {"value": 1} for row in shops.wide_likes(users=3, each=10)]
    for row in likes[6::10] + likes[7::10] + likes[8::10] + likes[9::10]:
        row["value"] = -1
    tables = dict(items=shops.items(), likes=likes)
    catalogue, summary = imported(tmp_path, tables=tables)
    no = {tuple(row.values())[:4] for row in likes if row["value"] == -1}
    assert "dislikes are" in summary.text
    assert not no & liked(catalogue, tmp_path / "data")
    table, users = read_items(tmp_path / "data"), read_users(tmp_path / "data")
    found = set()
    for name in ("train", "val", "test"):
        part = catalogue.splits[name]
        ratio = part.ratio("random")
        first = catalogue.global_ids(part.negatives["random"].items[::ratio])
        own = zip(part.positives.users.tolist(), first.tolist(), strict=True)
        said = {(users[u], *(table.ids[i] for i in row)) for u, row in own}
        assert said <= no
        found |= said
    assert len(found) >= 6


@pytest.mark.slow
def test_repeats_count_once_or_as_weights(tmp_path):
    likes = shops.wide_likes()
    likes += likes[:1] * 2
    tables = dict(items=shops.items(), likes=likes)
    _, once = imported(tmp_path, "once", tables)
    assert sum(once.splits.values()) == 24
    assert "2 likes repeat one of the same user" in once.text
    found = set()
    for seed in range(3):  # where the like is not trained on, its weight is lost
        weighed, _ = imported(tmp_path, f"{seed}", repeats="weights", seed=seed)
        found.add(len(weighed.splits["train"].positives))
    assert found == {18} or found == {16, 18}


def test_a_column_split_is_followed(tmp_path):
    likes = shops.wide_likes()
    for number, row in enumerate(likes):
        row["split"] = ("train", "train", "train", "valid", "test", "test")[number % 6]
    catalogue, summary = imported(
        tmp_path, tables=dict(items=shops.items(), likes=likes)
    )
    assert summary.splits == {"train": 12, "val": 4, "test": 8}
    tested = catalogue.splits["test"].positives
    table = read_items(tmp_path / "data")
    ids = [[table.ids[i] for i in row] for row in catalogue.global_ids(tested.items)]
    assert ids == [
        [row[slot] for slot in ("top", "bottom", "shoe")]
        for row in likes
        if row["split"] == "test"
    ]


def timed_likes():
    """Likes with times: user k's are k hours apart from 2024 on, the latest first."""
    likes = shops.wide_likes(users=4, each=10)
    for number, row in enumerate(likes):
        hour = (10 - number % 10) * (1 + number // 10)
        row["time"] = f"2024-01-{1 + hour // 24:02}T{hour % 24:02}:00:00"
    return likes


def test_the_last_like_of_each_user_tests(tmp_path):
    likes = timed_likes()
    tables = dict(items=shops.items(), likes=likes)
    catalogue, _ = imported(tmp_path, tables=tables, split="leave-last-out")
    table = read_items(tmp_path / "data")
    for name, place in (("test", 0), ("val", 1)):
        part = catalogue.splits[name].positives
        assert part.users.tolist() == [0, 1, 2, 3]
        tops = [table.ids[i] for i in catalogue.global_ids(part.items)[:, 0]]
        assert tops == [row["top"] for row in likes[place::10]]


def test_a_moment_parts_what_trains_from_what_tests(tmp_path):
    likes = timed_likes()
    tables = dict(items=shops.items(), likes=likes)
    catalogue, _ = imported(tmp_path, tables=tables, split="time", test_share=0.2)
    times = {
        tuple(row[slot] for slot in ("top", "bottom", "shoe")): row["time"]
        for row in likes
    }
    table = read_items(tmp_path / "data")
    found = {}
    for name, part in catalogue.splits.items():
        ids = catalogue.global_ids(part.positives.items).tolist()
        found[name] = [times[tuple(table.ids[i] for i in row)] for row in ids]
    assert max(found["train"]) < min(found["val"])
    assert max(found["val"]) < min(found["test"])
    assert math.isclose(len(found["test"]), 8, abs_tol=2)


def test_items_of_the_test_are_new_where_asked(tmp_path):
    likes = shops.wide_likes(users=6, each=40, sizes=12)
    tables = dict(items=shops.items(each=12), likes=likes)
    catalogue, summary = imported(
        tmp_path, tables=tables, new_items=True, test_share=0.3, negatives=2
    )
    for trained, tested in zip(
        *(catalogue.split_items(name) for name in ("train", "test")), strict=True
    ):
        assert not set(trained.tolist()) & set(tested.tolist())
    reason = "some of its items are new in the test split, others are not"
    assert summary.left_out["likes.csv"][reason] > 0


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path, capsys):
    items = shops.items() + [{"id": "g", "category": "Gift", "title": "", "price": ""}]
    shop = shops.write(tmp_path / "shop", items=items, likes=shops.wide_likes())
    main([str(shop), str(tmp_path / "data"), "--dry-run"])
    said = capsys.readouterr().out
    assert 'ignore = ["Gift"]' in said and 'top = ["T-Shirts"]' in said
    assert "24 likes of top + bottom + shoe" in said
    assert "16 train, 4 val, 4 test" in said
    assert "1 left out: category 'Gift' has no slot" in said
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_files(tmp_path):
    tables = dict(items=shops.items(), likes=shops.wide_likes())
    first, _ = imported(tmp_path, "1", tables)
    assert imported(tmp_path, "2")[0].checksum == first.checksum
    assert imported(tmp_path, "3", seed=1)[0].checksum != first.checksum


def test_ids_may_be_anything_that_has_a_name(tmp_path):
    items, likes = shops.items(), shops.wide_likes()
    strange = {"T-000": "a/b", "T-001": "0017", "T-002": "..", "T-003": "é" * 150}
    for row in items:
        row["id"] = strange.get(row["id"], row["id"])
    for row in likes:
        row["top"] = strange.get(row["top"], row["top"])
    catalogue, _ = imported(tmp_path, tables=dict(items=items, likes=likes))
    table = read_items(tmp_path / "data")
    assert list(table.ids.names[:5]) == [*strange.values(), "T-004"]
    assert catalogue.names[0][:3] == ("a%2Fb", "0017", "%" + catalogue.names[0][2][1:])


def test_a_shop_exported_with_its_splits_comes_back_the_same(tmp_path):
    tables = dict(items=shops.items(each=20), likes=shops.wide_likes(each=12, sizes=20))
    first, _ = imported(tmp_path, "data", tables, negatives=3)
    shops.export(tmp_path / "data", "shop", tmp_path / "exported")
    import_catalogue(tmp_path / "exported", tmp_path / "again", seed=5, images=False)
    again = tmp_path / "again" / "tuples_shop"
    files = sorted(path.name for path in (tmp_path / "data" / "tuples_shop").iterdir())
    assert sorted(path.name for path in again.iterdir()) == files
    assert "fill_in_blank_test" in files and "tuples_val_nega_hard" in files
    assert read_catalogue(tmp_path / "again", "shop").checksum == first.checksum
