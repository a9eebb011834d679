"""A look that the shop edits is not liked by those who liked what it was."""

import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue

from fhn_jax.data.forgetting import forget_item
from fhn_jax.data.item_table import LOOKS_FILE, read_table, read_users
from fhn_jax.data.layout import read_catalogue

pytest.importorskip("duckdb")


def look(name, *numbers):
    """A row of a table of outfits."""
    ids = {
        s: f"{s[0].upper()}-00{n}"
        for s, n in zip(shops.CATEGORIES, numbers, strict=True)
    }
    return {"outfit_id": name} | ids


LOOKS = [look(f"L{n}", n % 8, n // 8, n % 7) for n in range(20)]


def likes_of(*pairs):
    return [{"user": user, "outfit_id": f"L{n}"} for user, n in pairs]


LIKES = likes_of(*((f"u{user}", n) for user in range(3) for n in range(user, user + 8)))


def imported(tmp_path, looks, likes, *, update=True):
    """Who likes what in the data, as (user, items …), and the summary."""
    tables = dict(items=shops.items(), outfits=looks, likes=likes)
    shop, root = shops.write(tmp_path / "shop", **tables), tmp_path / "data"
    summary = import_catalogue(shop, root, update=update)
    users, catalogue = read_users(root), read_catalogue(root, "shop")
    liked = {
        (users[int(user)], *items)
        for part in catalogue.splits.values()
        for user, items in zip(
            part.positives.users, part.positives.items.tolist(), strict=True
        )
    }
    return liked, summary


@pytest.mark.slow
def test_an_edited_look_is_liked_by_who_likes_it_from_now_on(tmp_path):
    before, _ = imported(tmp_path, LOOKS, LIKES, update=False)
    assert ("u0", 1, 0, 1) in before and ("u1", 1, 0, 1) in before
    edited = [LOOKS[0], look("L1", 1, 0, 7), *LOOKS[2:]]
    after, summary = imported(tmp_path, edited, LIKES)
    assert after == before and summary.changes["new likes"] == 0
    assert (
        "1 outfits are of other pieces than before: 2 likes of them stay with the "
        "pieces that were liked" in summary.text
    )
    # Of somebody else it is a like of what it is today.
    likes = LIKES + likes_of(("u2", 1))
    for _ in range(2):
        after, _ = imported(tmp_path, edited, likes)
        assert after == before | {("u2", 1, 0, 7)}
    # Edited once more, each keeps what was liked.
    edited[1] = look("L1", 1, 0, 5)
    assert imported(tmp_path, edited, likes)[0] == after
    # What is disliked is what was liked.
    wrong = [row | {"value": ""} for row in likes[:-1]]
    wrong += [row | {"value": "-1"} for row in likes_of(("u2", 1), ("u0", 1))]
    gone = {("u2", 1, 0, 7), ("u0", 1, 0, 1)}
    assert imported(tmp_path, edited, wrong)[0] == after - gone


@pytest.mark.slow
def test_likes_that_wait_are_of_the_look_that_was_liked(tmp_path):
    first = LIKES + likes_of(("new", 1))
    before, _ = imported(tmp_path, LOOKS, first, update=False)
    edited = [LOOKS[0], look("L1", 1, 0, 7), *LOOKS[2:]]
    after, _ = imported(tmp_path, edited, first + likes_of(("new", 2), ("new", 3)))
    new = {("new", 1, 0, 1), ("new", 2, 0, 2), ("new", 3, 0, 3)}
    assert after == before | new


def test_looks_of_a_deleted_item_are_deleted(tmp_path):
    imported(tmp_path, LOOKS, LIKES, update=False)
    root = tmp_path / "data"
    looks = read_table(root / LOOKS_FILE, ("id", "items"))["items"]
    count = sum("T-001" in items for items in looks)
    catalogue = read_catalogue(root, "shop")
    assert forget_item(root, catalogue, 0, 1, "T-001")[LOOKS_FILE] == count == 3
