"""A shop's tables of today are taken into data that are there."""

import hashlib

import numpy as np
import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from fhn_jax.data_tools.shop import importing
from PIL import Image

from fhn_jax.data.images import open_images
from fhn_jax.data.item_table import read_items, read_users
from fhn_jax.data.layout import read_catalogue

pytest.importorskip("duckdb")


def digests(root):
    """What is in each file of a folder."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def rows_of(root, name):
    """The lines of a table of tuples."""
    return (root / "tuples_shop" / name).read_text().splitlines()


@pytest.fixture
def shop(tmp_path):
    """A shop of 24 items and 4 users, imported as `data`."""
    tables = dict(items=shops.items(), likes=shops.wide_likes())
    import_catalogue(shops.write(tmp_path / "shop", **tables), tmp_path / "data")
    return tables


def update(tmp_path, tables, **options):
    """The catalogue, the table of items and the summary after an update."""
    shop = shops.write(tmp_path / "today", **tables)
    summary = import_catalogue(shop, tmp_path / "data", update=True, **options)
    root = tmp_path / "data"
    return read_catalogue(root, "shop"), read_items(root), summary


def test_known_items_and_users_keep_their_numbers(tmp_path, shop):
    before = read_catalogue(tmp_path / "data", "shop")
    old = read_items(tmp_path / "data")
    kept = {n: rows_of(tmp_path / "data", n) for n in ("tuples_test_nega",)}
    # A new first row, one sold out, another price; likes since, of two users.
    new = {"id": "T-900", "category": "T-Shirts", "title": "New", "price": "9,00"}
    items = [new, *(r for r in reversed(shop["items"]) if r["id"] != "B-003")]
    items[-1] = items[-1] | {"price": "1.234,00"}
    likes = [
        {"user": user, "top": "T-900", "bottom": f"B-00{k}", "shoe": f"S-00{k}"}
        for user in ("user 2", "a new user")
        for k in (0, 1, 2, 4, 5)
    ]
    catalogue, table, summary = update(tmp_path, dict(items=items, likes=likes))
    assert [len(names) for names in catalogue.names] == [9, 8, 8]
    for now, then in zip(catalogue.names, before.names, strict=True):
        assert now[: len(then)] == then
    assert catalogue.names[0][8] == "T-900"
    removed = [table.ids[i] for i in np.flatnonzero(table.removed).tolist()]
    assert removed == ["B-003"]
    assert table.row(table.ids.number("B-003"))["title"] == "Jeans no. 3"
    assert table.row(table.ids.number("T-000"))["price"] == 1234
    assert not old.removed.any() and "removed" not in table.attributes
    users = read_users(tmp_path / "data").names
    assert users == [f"user {k}" for k in range(4)] + ["a new user"]
    for split, part in before.splits.items():
        now = catalogue.splits[split].positives
        count = len(part.positives)
        assert np.array_equal(now.users[:count], part.positives.users)
        assert np.array_equal(now.items[:count], part.positives.items)
    # Of five new likes of a user, one chooses the model and one tests it, as before.
    assert {s: len(p.positives) for s, p in catalogue.splits.items()} == {
        **{"train": 22, "val": 6, "test": 6}
    }
    for name, rows in kept.items():
        assert rows_of(tmp_path / "data", name)[: len(rows)] == rows
    assert summary.changes == {
        **{"new items": 1, "items that are removed": 1, "new users": 1},
        **{"items that became other pieces": 0, "new likes": 10, "new templates": 0},
        **{"photos that are replaced": 0, "likes that are taken back": 0},
    }
    assert "1 new items" in summary.text


def test_likes_that_are_there_count_once_and_are_no_negatives(tmp_path, shop):
    before = read_catalogue(tmp_path / "data", "shop")
    negative = before.splits["test"].negatives["random"]
    user, items = int(negative.users[0]), negative.items[0].tolist()
    wanted = [f"{'TBS'[k]}-{item:03}" for k, item in enumerate(items)]
    likes = [
        *shop["likes"],
        {"user": f"user {user}", **dict(zip(shops.CATEGORIES, wanted, strict=True))},
    ]
    catalogue, _, summary = update(tmp_path, shop | {"likes": likes})
    assert summary.changes["new likes"] == 1
    liked = {
        (int(u), *row)
        for part in catalogue.splits.values()
        for u, row in zip(
            part.positives.users, part.positives.items.tolist(), strict=True
        )
    }
    assert (user, *items) in liked and len(liked) == 25
    for part in catalogue.splits.values():
        for outfits in part.negatives.values():
            rows = zip(outfits.users, outfits.items.tolist(), strict=True)
            assert not {(int(u), *row) for u, row in rows} & liked


@pytest.mark.slow
def test_an_update_that_changes_nothing_changes_no_tuples(tmp_path, shop):
    before = digests(tmp_path / "data" / "tuples_shop")
    _, table, summary = update(tmp_path, shop)
    assert digests(tmp_path / "data" / "tuples_shop") == before
    assert not any(summary.changes.values()) and not table.removed.any()
    # Without any likes, too; and what was sold out comes back.
    few = [row for row in shop["items"] if row["id"] != "S-000"]
    _, table, _ = update(tmp_path, {"items": few})
    (tmp_path / "today" / "likes.csv").unlink()
    assert table.removed.sum() == 1
    _, table, _ = update(tmp_path, {"items": shop["items"]})
    assert not table.removed.any()
    assert digests(tmp_path / "data" / "tuples_shop") == before


def test_templates_may_grow_and_slots_may_not(tmp_path, shop):
    pairs = [
        {"user": "user 1", "top": f"T-00{k}", "bottom": f"B-00{k}", "shoe": ""}
        for k in range(6)
    ]
    coat = {"id": "C-1", "category": "Coats", "title": "Coat", "price": "80"}
    tables = {"items": [*shop["items"], coat], "likes": pairs}
    catalogue, table, summary = update(tmp_path, tables)
    assert catalogue.templates == ((0, 1), (0, 1, 2))
    assert summary.changes["new templates"] == 1
    assert catalogue.categories == ("top", "bottom", "shoe") and "C-1" not in table.ids
    (left,) = shops.quarantine(tmp_path / "data")
    assert left["what"] == "C-1" and "slot is new: outerwear" in left["reason"]


def test_an_attribute_of_another_type_is_named_with_its_row(tmp_path, shop):
    items = [dict(row) for row in shop["items"]]
    items[4]["price"] = "cheap"
    before = digests(tmp_path / "data")
    with pytest.raises(ValueError, match=r"items.csv, row 5: price is 'cheap', exp"):
        update(tmp_path, {"items": items})
    with pytest.raises(ValueError, match="negatives=3: .* imported with 10"):
        update(tmp_path, shop, negatives=3)
    assert digests(tmp_path / "data") == before


@pytest.mark.slow
def test_a_table_that_lacks_most_items_is_taken_by_force_alone(tmp_path, shop):
    half, less = shop["items"][:12], shop["items"][:11]
    before = digests(tmp_path / "data")
    with pytest.raises(ValueError, match=r"items.csv lacks 13 of the 24 .* cut off"):
        update(tmp_path, {"items": less})
    assert digests(tmp_path / "data") == before
    _, table, summary = update(tmp_path, {"items": half})
    assert summary.changes["items that are removed"] == 12
    _, _, summary = update(tmp_path, {"items": half})
    assert summary.changes["items that are removed"] == 0
    # Those that had gone before do not count.
    priceless = [{"id": r["id"], "category": r["category"]} for r in shop["items"][:6]]
    _, table, summary = update(tmp_path, {"items": priceless})
    assert "items.csv has no price any more: it stays as it was" in summary.text
    assert table.removed.sum() == 18
    _, table, _ = update(tmp_path, {"items": shop["items"][:1]}, force=True)
    assert table.removed.sum() == 23


def test_only_an_import_can_be_updated(tmp_path):
    shops.write(tmp_path / "today", items=shops.items(), likes=shops.wide_likes())
    with pytest.raises(FileNotFoundError, match="no data root .* import it first"):
        import_catalogue(tmp_path / "today", tmp_path / "data", update=True)
    with pytest.raises(ValueError, match="give it with --update"):
        import_catalogue(tmp_path / "today", tmp_path / "data", force=True)


def photograph(shop, rows):
    """Adds a photo to each row of items."""
    (shop / "photos").mkdir(parents=True, exist_ok=True)
    for row in rows:
        path = shop / "photos" / f"{row['id']}.png"
        if not path.exists():
            shade = int(hashlib.sha256(row["id"].encode()).hexdigest()[:2], 16)
            Image.new("RGB", (24, 24), (shade, 255 - shade, 90)).save(path)
        row["image"] = f"photos/{path.name}"


@pytest.fixture
def shop_with_photos(tmp_path):
    """A shop as `shop`, with photos."""
    tables = dict(items=shops.items(), likes=shops.wide_likes())
    photograph(tmp_path / "today", tables["items"])
    shops.write(tmp_path / "today", **tables)
    import_catalogue(tmp_path / "today", tmp_path / "data", image_size=16)
    return tables


@pytest.mark.slow
def test_an_id_goes_on_meaning_the_same_piece(tmp_path, shop_with_photos):
    items = [dict(row) for row in shop_with_photos["items"]]
    items[2]["title"] = "T-Shirt no. 2, spelled well"
    _, table, _ = update(tmp_path, {"items": items})
    assert table.titles[2] == items[2]["title"]
    items[2]["title"] = "Boots"
    Image.new("RGB", (24, 24), "pink").save(tmp_path / "today" / items[2]["image"])
    before = digests(tmp_path / "data")
    with pytest.raises(ValueError, match="row 3: 'T-002' was .* and is 'Boots' now"):
        update(tmp_path, {"items": items})
    assert digests(tmp_path / "data") == before
    catalogue, table, summary = update(tmp_path, {"items": items}, force=True)
    # A name of its own tells that its code is to be made anew.
    assert catalogue.names[0][2] == "T-002~2" and table.ids[2] == "T-002"
    assert summary.changes["items that became other pieces"] == 1
    store = open_images(tmp_path / "data")
    assert store.verified and store.read(["T-002~2"]) != store.read(["T-002"])


@pytest.mark.slow
@pytest.mark.parametrize("step", ["store_photos", "write_tuples", "carry_over"])
def test_an_interrupted_update_leaves_the_old_data_and_goes_on(
    tmp_path, shop_with_photos, monkeypatch, step
):
    new = {"id": "T-900", "category": "T-Shirts", "title": "New", "price": "9"}
    tables = {"items": [*shop_with_photos["items"], new]}
    photograph(tmp_path / "today", tables["items"])
    before = digests(tmp_path / "data")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    owner = importing.photos if step == "store_photos" else importing
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            update(tmp_path, tables)
    assert digests(tmp_path / "data") == before
    catalogue, _, _ = update(tmp_path, tables)
    store = open_images(tmp_path / "data")
    assert not store.missing(catalogue.item_names()) and store.verified
    assert len(store) == 25
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".*.tmp"))


def test_who_reads_during_an_update_reads_one_version(tmp_path, shop, monkeypatch):
    from fhn_jax.data import layout

    real, swapped = layout.parse_names, []

    def swap_first(*arguments):
        if not swapped:
            swapped.append(1)
            new = {"id": "T-900", "category": "T-Shirts", "title": "N", "price": "9"}
            update(tmp_path, {"items": [*shop["items"], new]})
            swapped.append(read_catalogue(tmp_path / "data", "shop"))
        return real(*arguments)

    monkeypatch.setattr(layout, "parse_names", swap_first)
    found = read_catalogue(tmp_path / "data", "shop")
    assert found.checksum == swapped[1].checksum and found.num_items == 25
