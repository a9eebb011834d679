"""Likes of new users wait until there are enough of them."""

import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from fhn_jax.data_tools.shop import waiting

from fhn_jax.data.forgetting import forget_item, forget_left_out
from fhn_jax.data.item_table import WAITING_FILE, read_items, read_table, read_users
from fhn_jax.data.layout import read_catalogue

pytest.importorskip("duckdb")


def daily(user, *numbers, **more):
    """Rows of likes of a user, of pieces of these numbers."""
    return [
        {"user": user, **{s: f"{s[0].upper()}-00{n}" for s in shops.CATEGORIES}} | more
        for n in numbers
    ]


@pytest.fixture
def update(tmp_path):
    """Imports a shop, and returns what takes rows of likes into it."""
    tables = dict(items=shops.items(), likes=shops.wide_likes() + daily("early", 7))
    import_catalogue(shops.write(tmp_path / "shop", **tables), tmp_path / "data")

    def take(likes, **options):
        shop = shops.write(tmp_path / "shop", items=shops.items(), likes=likes)
        return import_catalogue(shop, tmp_path / "data", update=True, **options)

    return take


def liked(root, user):
    """The outfits that a user likes in the data, by the first of the items' numbers."""
    number, catalogue = read_users(root).number(user), read_catalogue(root, "shop")
    table = read_items(root)
    return sorted(
        int(table.ids[int(row[0])][2:])
        for part in catalogue.splits.values()
        for own, row in zip(part.positives.users, part.positives.items, strict=True)
        if own == number
    )


def waits(root):
    table = read_table(root / WAITING_FILE, ("user", "items"))
    return [
        (user, int(items[0][2:]))
        for user, items in zip(table["user"], table["items"], strict=True)
    ]


@pytest.mark.slow
def test_two_likes_a_day_become_a_user_on_the_second_day(tmp_path, update):
    root = tmp_path / "data"
    assert waits(root) == [("early", 7)]
    summary = update(daily("new", 1, 2))
    assert summary.changes["new users"] == 0
    note = "3 likes and dislikes of 2 users wait until there are 3 likes of each"
    assert note in summary.text and waits(root) == [
        ("early", 7),
        ("new", 1),
        ("new", 2),
    ]
    # What is told again counts once.
    assert update(daily("new", 1, 2)).changes["new users"] == 0
    summary = update(daily("new", 3))
    assert summary.changes["new users"] == 1 and summary.changes["new likes"] == 3
    assert liked(root, "new") == [1, 2, 3] and waits(root) == [("early", 7)]
    summary = update(daily("early", 5, 6))
    assert summary.changes["new users"] == 1 and liked(root, "early") == [5, 6, 7]
    assert waits(root) == [] and "wait" not in summary.text


@pytest.mark.slow
def test_the_last_word_counts_among_those_that_wait(tmp_path, update):
    update(daily("new", 1, 2, value="1", time="2026-01-01"))
    update(daily("new", 1, value="-1", time="2026-01-02"))
    summary = update(daily("new", 3, 4, value="1", time="2026-01-03"))
    assert summary.changes["new users"] == 1
    assert liked(tmp_path / "data", "new") == [2, 3, 4]


def test_a_dry_run_keeps_what_waits_as_it_is(tmp_path, update):
    update(daily("new", 1, 2), dry_run=True)
    assert waits(tmp_path / "data") == [("early", 7)]


def test_not_all_wait_forever(tmp_path, update, monkeypatch):
    monkeypatch.setattr(waiting, "_MOST", 2)
    update(daily("new", 1, 2))
    assert waits(tmp_path / "data") == [("new", 1), ("new", 2)]


@pytest.mark.slow
def test_what_waits_is_deleted_with_its_user_or_item(tmp_path, update):
    root = tmp_path / "data"
    update(daily("new", 1, 2) + daily("it's", 3))
    assert forget_left_out(root, "it's")[WAITING_FILE] == 1
    assert forget_left_out(root, "nobody").get(WAITING_FILE) is None
    catalogue = read_catalogue(root, "shop")
    assert forget_item(root, catalogue, 0, 1, "T-001")[WAITING_FILE] == 1
    assert waits(root) == [("early", 7), ("new", 2)]
    assert b"it's" not in (root / WAITING_FILE).read_bytes()
