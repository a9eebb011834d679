"""Likes of visitors are likes of the data as long as the visitors want."""

import numpy as np
import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from fhn_jax.data_tools.shop.visitors import VisitorLikes, take_visitors

from fhn_jax.data.forgetting import forget_likes
from fhn_jax.data.item_table import read_users
from fhn_jax.data.layout import read_catalogue

pytest.importorskip("duckdb")


@pytest.fixture
def root(tmp_path):
    shop = shops.write(
        tmp_path / "shop", items=shops.items(), likes=shops.wide_likes(each=12)
    )
    import_catalogue(shop, tmp_path / "data")
    return tmp_path / "data"


def rows(root):
    """Split → set of user and items; the stand-ins of deleted users are left out."""
    catalogue, users = read_catalogue(root, "shop"), read_users(root)
    return {
        name: {
            (users[user], *items)
            for user, items in zip(
                split.positives.users.tolist(),
                split.positives.items.tolist(),
                strict=True,
            )
            if not users[user].startswith("forgotten-")
        }
        for name, split in catalogue.splits.items()
    }


def outfits_of_nobody(root, count):
    taken = {row[1:] for split in rows(root).values() for row in split}
    every = [(t, b, s) for t in range(8) for b in range(8) for s in range(8)]
    return [outfit for outfit in every if outfit not in taken][:count]


def take(root, *judged):
    """Takes (name, outfit, liked); the counts, and the users who are forgotten."""
    gone = []
    likes = VisitorLikes(
        [name for name, *_ in judged],
        np.array([items for _, items, _ in judged], np.int32).reshape(-1, 3),
        np.array([liked for *_, liked in judged], bool),
        np.arange(len(judged), dtype=np.float64),
    )
    return take_visitors(root, likes, gone.extend), gone


@pytest.mark.slow
def test_likes_of_visitors_come_once_and_go_with_them(root):
    shop = rows(root)
    outfits = outfits_of_nobody(root, 20)
    ann = [("visitor-1-1", outfit, True) for outfit in outfits[:6]]
    few = [("visitor-2-1", outfit, True) for outfit in outfits[6:8]]
    known = [("user 1", outfits[9], True), ("user 1", outfits[10], False)]
    mine = [(name, *outfit) for name, outfit, liked in ann + known if liked]
    counts, gone = take(root, *ann, *few, *known)
    assert counts == {
        "new users": 1,
        "likes of visitors": 7,
        "likes that visitors took back": 0,
        "visitors with too few likes": 1,
    }
    first = rows(root)
    assert {row for name in first for row in first[name] - shop[name]} == {*mine}
    assert all(shop[name] <= first[name] for name in shop)
    # Where somebody disliked something, it is a negative of the like.
    train = read_catalogue(root, "shop").splits["train"]
    random = train.negatives["random"]
    assert (random.items[random.users == 1] == outfits[10]).all(axis=1).any()
    # Again, and after an update of the shop's tables, nothing changes.
    import_catalogue(root.parent / "shop", root, update=True)
    before = read_catalogue(root, "shop").checksum
    assert take(root, *ann, *few, *known)[0]["likes of visitors"] == 0
    assert read_catalogue(root, "shop").checksum == before
    # What is taken back, or disliked now, is gone; the rest keeps its split.
    ann[0] = ("visitor-1-1", outfits[0], False)
    counts, gone = take(root, *ann, *few, known[1])
    assert counts["likes that visitors took back"] == 2 and not gone
    left = rows(root)
    back = {("visitor-1-1", *outfits[0]), ("user 1", *outfits[9])}
    assert left == {name: first[name] - back for name in first}
    # Who has gone leaves a number, and who comes then gets another one.
    bob = [("visitor-3-1", outfit, True) for outfit in outfits[10:14]]
    counts, gone = take(root, *bob)
    assert gone == [4] and counts["new users"] == 1
    users = read_users(root)
    assert [users[k] for k in (4, 5)] == ["forgotten-user-4", "visitor-3-1"]
    assert "visitor-1-1" not in (root / "users.parquet").read_bytes().decode("latin1")
    assert forget_likes(root, "shop", 5)["visitors.parquet"] == 4
    take(root)
    catalogue = read_catalogue(root, "shop")
    split = catalogue.splits["train"].positives
    assert (np.bincount(split.users)[4:] == 1).all()
    assert {
        name: left_ - {x for x in left_ if x[0] == users[5]}
        for name, left_ in rows(root).items()
    } == shop


def test_who_likes_again_after_all_was_taken_back_is_somebody_new(root):
    outfits = outfits_of_nobody(root, 20)
    some = [("visitor-1-1", outfit, True) for outfit in outfits[:4]]
    others = [("visitor-1-1", outfit, True) for outfit in outfits[5:9]]
    take(root, *some)
    counts, gone = take(root, *others)
    assert gone == [4] and counts["new users"] == 1
    assert [*read_users(root)][4:] == ["forgotten-user-4", "visitor-1-1"]
