"""Whom and what was deleted for good is not brought back by the shop's files."""

import json

import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from runs import act

from fhn_jax import files
from fhn_jax.data import forgetting, forgotten
from fhn_jax.data.item_table import read_items, read_users
from fhn_jax.data.layout import read_catalogue

pytest.importorskip("duckdb")


@pytest.fixture
def root(tmp_path):
    """A shop whose likes are of outfits, imported, and a user and an item deleted."""
    outfits, likes = [], []
    for number, row in enumerate(shops.wide_likes()):
        outfit = {"outfit_id": f"O-{number}"}
        outfits += [outfit | {"item_id": row[s]} for s in shops.CATEGORIES]
        likes.append({"user": row["user"]} | outfit)
    tables = {"items": shops.items(), "outfits": outfits, "likes": likes}
    root = tmp_path / "data"
    import_catalogue(shops.write(tmp_path / "shop", **tables), root)
    for _ in range(2):  # Again, nothing more is deleted.
        forgetting.forget_likes(root, "shop", 1)
        forgetting.forget_user_id(root, read_users(root)[1], 1)
        own = read_items(root).ids[2]
        forgetting.forget_item(root, read_catalogue(root, "shop"), 0, 2, own)
    return root


def texts(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_an_update_leaves_out_who_and_what_was_deleted(root, tmp_path):
    likes = (tmp_path / "shop/likes.csv").read_text().count("user 1,")
    assert likes == 6
    summary = import_catalogue(tmp_path / "shop", root, update=True)
    assert "rows are of users and items that were deleted for good" in summary.text
    assert summary.changes["new users"] == summary.changes["new items"] == 0
    assert read_users(root).names[1] == "forgotten-user-1"
    assert read_items(root).ids[2] == "forgotten-top-2"
    for path, content in texts(root).items():
        assert b"user 1" not in content and b"T-002" not in content, path
    # No outfit has shrunk to what is left of it.
    catalogue = read_catalogue(root, "shop")
    assert catalogue.templates == ((0, 1, 2),)
    marks = json.loads((root / forgotten.FILE).read_text())
    assert len(marks["user"]) == len(marks["item"]) == 1


def test_one_of_them_can_be_allowed_again(root, tmp_path, capsys):
    run = tmp_path / "run"
    config = {"data": {"root": str(root), "variant": "shop"}}
    files.write_json(run / "config.json", config)
    for wrong in ({"user": "user 2"}, {"item": "user 1"}):
        with pytest.raises(ValueError, match="was not deleted from"):
            act("forget", workdir=run, allow=True, **wrong)
    act("forget", workdir=run, allow=True, user="user 1")
    assert "takes 'user 1' again" in capsys.readouterr().out
    import_catalogue(tmp_path / "shop", root, update=True)
    assert read_users(root).names[4:] == ["user 1"]
    assert (
        read_items(root).ids[2] == "forgotten-top-2" and len(read_items(root).ids) == 24
    )
    path = root / forgotten.FILE
    path.write_text(path.read_text().replace('"user"', '"users"'))
    with pytest.raises(ValueError, match="delete again whom and what"):
        import_catalogue(tmp_path / "shop", root, update=True)
