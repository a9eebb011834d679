"""Likes that a shop's tables of today take back, in data that are there."""

import numpy as np
import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from fhn_jax.data_tools.shop.visitors import VisitorLikes, take_visitors

from fhn_jax.data.item_table import VISITORS_FILE, read_table
from fhn_jax.data.layout import read_catalogue

pytest.importorskip("duckdb")


def imported(tmp_path, likes, name="data", update=False):
    """The positives by split as rows (user, items …), and the summary."""
    shop = shops.write(tmp_path / "shop", items=shops.items(), likes=likes)
    summary = import_catalogue(shop, tmp_path / name, update=update)
    catalogue = read_catalogue(tmp_path / name, "shop")
    positives = {
        split: [
            (int(user), *items)
            for user, items in zip(
                part.positives.users, part.positives.items.tolist(), strict=True
            )
        ]
        for split, part in catalogue.splits.items()
    }
    return positives, summary


def judged(rows, value, day):
    return [row | {"value": value, "time": f"2026-01-{day:02}"} for row in rows]


def numbers(row):
    return tuple(int(row[slot][2:]) for slot in shops.CATEGORIES)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_a_like_that_is_disliked_today_is_gone(tmp_path, whole):
    likes = judged(shops.wide_likes(), 1, 1)
    before, _ = imported(tmp_path, likes)
    # Of user 0 two go; of user 1 all, who likes another outfit today.
    wrong = [*likes[:2], *likes[6:12]]
    others = [
        {"user": "user 1", "top": "T-007", "bottom": "B-007", "shoe": f"S-00{k}"}
        for k in range(3)
    ]
    today = judged(wrong, -1, 2) + judged(others, 1, 2)
    after, summary = imported(tmp_path, likes * whole + today, update=True)
    gone = {(int(row["user"][5:]), *numbers(row)) for row in wrong}
    for split, rows in before.items():
        kept = [row for row in rows if row not in gone]
        assert after[split][: len(kept)] == kept
        assert after[split][len(kept) :] in [[(1, 7, 7, k)] for k in range(3)]
    assert summary.changes["likes that are taken back"] == 8
    assert "8 likes that are taken back" in summary.text
    # As a fresh import has them, whatever their splits.
    fresh, _ = imported(tmp_path, likes + today, "fresh")
    assert sorted(sum(fresh.values(), [])) == sorted(sum(after.values(), []))
    # Nobody likes, and has as a negative, the same.
    catalogue = read_catalogue(tmp_path / "data", "shop")
    everybody = {row for rows in after.values() for row in rows}
    for part in catalogue.splits.values():
        for outfits in part.negatives.values():
            pairs = zip(outfits.users.tolist(), outfits.items.tolist(), strict=True)
            assert not {(user, *items) for user, items in pairs} & everybody
    again, summary = imported(tmp_path, likes * whole + today, update=True)
    assert again == after and not any(summary.changes.values())


def test_who_dislikes_all_keeps_it_until_there_is_a_like(tmp_path):
    likes = judged(shops.wide_likes(), 1, 1)
    before, _ = imported(tmp_path, likes)
    after, summary = imported(tmp_path, judged(likes[:6], -1, 2), update=True)
    assert after == before
    assert "1 users dislike all that they are trained on" in summary.text


@pytest.mark.slow
def test_what_a_visitor_likes_and_the_shop_does_not_is_noted_once(tmp_path):
    likes = judged(shops.wide_likes(), 1, 1)
    imported(tmp_path, likes)
    outfit = [7, 7, 7]
    row = {"user": "user 0", "top": "T-007", "bottom": "B-007", "shoe": "S-007"}
    theirs = VisitorLikes(["user 0"], np.array([outfit], np.int32), *np.ones((2, 1)))
    theirs = theirs._replace(liked=np.ones(1, bool))
    for _ in range(3):
        take_visitors(tmp_path / "data", theirs, lambda users: None)
        after, _ = imported(tmp_path, judged([row], -1, 2), update=True)
        assert not any((0, *outfit) in rows for rows in after.values())
    take_visitors(tmp_path / "data", theirs, lambda users: None)
    noted = read_table(tmp_path / "data" / VISITORS_FILE, ())
    assert all(len(column) <= 2 for column in noted.values())
