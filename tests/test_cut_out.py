"""Garments cut out of their photos: what is made, what is left, who sees it."""

import io
import shutil
import sys

import numpy as np
import pytest
from fhn_jax.data_tools import cut_out as program
from fhn_jax.data_tools.cut_out import cut_out
from photos_of_garments import photo_of_a_garment
from PIL import Image
from polyvore_u import write_polyvore_u

from fhn_jax.cli.run import Run
from fhn_jax.data import forgetting
from fhn_jax.data.images import (
    CUTOUTS,
    CutOuts,
    FolderImages,
    open_images,
    shown_images,
)
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.pictures import decode
from fhn_jax.errors import BusyError, InputError, MissingPackageError
from fhn_jax.files import lock

GROUND, BLUE, RED = (190, 170, 150), (40, 60, 140), (150, 40, 40)


def encoded(pixels):
    """A JPEG."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=95)
    return data.getvalue()


@pytest.fixture
def root(tmp_path):
    """Data whose photos are grey squares, but for the first tops'."""
    pytest.importorskip("cv2")
    root = write_polyvore_u(tmp_path / "data", image_size=48)
    photos = root / "images" / "291x291"
    for path in photos.iterdir():
        path.write_bytes(encoded(np.full((48, 48, 3), 120, np.uint8)))
    photo, inside = photo_of_a_garment(GROUND, BLUE, 240)
    (photos / "top000.jpg").write_bytes(encoded(photo))
    drawn = np.where(inside[..., None], photo, 255).astype(np.uint8)
    (photos / "top001.jpg").write_bytes(encoded(drawn))
    bars = np.full((240, 300, 3), 255, np.uint8)
    bars[:, 30:270] = photo
    (photos / "top002.jpg").write_bytes(encoded(bars))
    return root


def test_what_stands_out_is_cut_out_and_the_rest_is_shown_as_it_is(root):
    count = sum(1 for _ in (root / "images" / "291x291").iterdir())
    done = []
    counts = cut_out(root, progress=lambda *now: done.append(now))
    nothing = count - 3
    assert counts == {"cut out": 2, "on white already": 1, "without a garment": nothing}
    assert done[-1] == (count, count)
    folder = root / "images" / CUTOUTS
    assert {p.name for p in folder.iterdir()} == {"top000.jpg", "top002.jpg"}
    images = shown_images(root)
    photo, inside = photo_of_a_garment(GROUND, BLUE, 240)
    for name, left in (("top000.jpg", 0), ("top002.jpg", 30)):
        made = decode(images.read([name])[0], name)[:, left : left + 240].astype(int)
        away = np.hypot(*(np.mgrid[:240, :240] / 240 - 0.5)) > 0.4
        assert made[away].min() > 245
        core = np.hypot(*(np.mgrid[:240, :240] / 240 - 0.5)) < 0.15
        assert np.abs(made - photo)[core].mean() < 8
        # The edge is where it was, to a pixel or two.
        assert ((made.min(axis=2) < 200) == inside).mean() > 0.98
    for name in ("top001.jpg", "shoe003.jpg"):
        assert images.read([name]) == open_images(root).read([name])


@pytest.mark.slow
def test_only_what_is_new_or_changed_is_made_again(root):
    cut_out(root)
    folder, photos = root / "images" / CUTOUTS, root / "images" / "291x291"
    before = (folder / "top000.jpg").stat().st_mtime_ns
    changed = encoded(photo_of_a_garment(GROUND, RED, 240)[0])
    (photos / "top002.jpg").write_bytes(changed)
    counts = cut_out(root)
    assert (counts["as they were"], counts["cut out"]) == (1, 1)
    assert (folder / "top000.jpg").stat().st_mtime_ns == before
    red = decode((folder / "top002.jpg").read_bytes(), "")[120, 120]
    assert red[0] > red[2] + 60
    # A photo in which nothing stands out any more has no cut-out any more.
    (photos / "top002.jpg").write_bytes(encoded(np.full((48, 48, 3), 90, np.uint8)))
    assert cut_out(root)["as they were"] == 1
    assert not (folder / "top002.jpg").exists()
    # What is no cut-out of ours is made anew.
    (folder / "top000.jpg").write_bytes(b"no picture")
    assert cut_out(root)["cut out"] == 1


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((1, 1, 3), 40, np.uint8),
        np.full((3, 900, 3), 40, np.uint8),
        np.full((40, 40, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8),
    ],
    ids=["dot", "line", "white", "noise"],
)
def test_odd_photos_are_shown_as_they_are(root, pixels):
    photos = root / "images" / "291x291"
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    (photos / "top000.jpg").write_bytes(data.getvalue())
    cut_out(root)
    shown = shown_images(root).read(["top000.jpg"])[0]
    assert shown == data.getvalue()


def test_two_garments_in_one_photo_are_both_kept(root):
    half, inside = photo_of_a_garment(GROUND, BLUE, 160)
    two = np.concatenate([half, half], axis=1)
    (root / "images" / "291x291" / "top000.jpg").write_bytes(encoded(two))
    cut_out(root)
    shown = decode(shown_images(root).read(["top000.jpg"])[0], "").min(axis=2)
    for part in (shown[:, :160], shown[:, 160:]):
        assert (part[inside] < 200).mean() > 0.9


def test_nothing_is_trained_on_cut_outs(root):
    cut_out(root)
    (root / "images" / "291x291").rename(root / "images" / "photos")
    # The only folder of photos, whatever else is beside it.
    assert open_images(root).path.name == "photos"
    assert not isinstance(open_images(root), CutOuts)


def test_pictures_have_other_addresses_after_new_cut_outs(root):
    assert shown_images(root).path.name == "291x291"
    cut_out(root)
    first = shown_images(root).version
    (root / "images" / CUTOUTS / "top001.jpg").write_bytes(b"")
    assert shown_images(root).version != first
    assert shown_images(root / "tuples_8") is None
    run = Run(root, {"data": {"root": str(root), "variant": "8"}})
    assert isinstance(run.images(), CutOuts)


def test_a_folder_that_is_removed_meanwhile_leaves_the_photos(root):
    cut_out(root)
    images = shown_images(root)
    shutil.rmtree(root / "images" / CUTOUTS)
    photo = open_images(root).read(["top000.jpg"])
    assert images.read(["top000.jpg"]) == photo


def test_a_photo_without_cut_out_is_found_without_listing_the_folder(root, monkeypatch):
    cut_out(root)
    images = shown_images(root)
    monkeypatch.setattr(FolderImages, "_names", lambda self: pytest.fail("listed"))
    assert images.read(["top001.jpg"])


def test_a_link_in_the_place_of_a_cut_out_is_replaced(root, tmp_path):
    cut_out(root)
    made = root / "images" / CUTOUTS / "top000.jpg"
    made.rename(tmp_path / "elsewhere.jpg")
    made.symlink_to(tmp_path / "elsewhere.jpg")
    cut_out(root)
    assert not made.is_symlink()
    assert shown_images(root).read(["top000.jpg"])


def test_a_deleted_item_has_no_cut_out(root):
    cut_out(root)
    catalogue = read_catalogue(root, "8")
    forgetting.forget_item(root, catalogue, 0, 0, "")
    folder = root / "images" / CUTOUTS
    assert not (folder / "top000.jpg").exists()
    assert (folder / "top002.jpg").exists()


def test_one_process_cuts_out_at_a_time(root):
    (root / "images" / CUTOUTS).mkdir()
    with (
        lock(root / "images" / CUTOUTS, "cutting out garments"),
        pytest.raises(BusyError, match="cutting out garments"),
    ):
        cut_out(root)


def test_a_damaged_photo_is_named(root):
    (root / "images" / "291x291" / "top004.jpg").write_bytes(b"\xff\xd8 no")
    with pytest.raises(InputError, match=r"top004\.jpg"):
        cut_out(root)


def test_what_stands_in_the_folders_place_is_named(root):
    (root / "images" / CUTOUTS).symlink_to("nowhere")
    with pytest.raises(InputError, match="cutouts is no folder"):
        cut_out(root)


def test_the_command_says_how_many(root, capsys):
    program.main([str(root)])
    out = capsys.readouterr().out
    assert "2 cut out, 1 on white already" in out
    assert f"wrote {root / 'images' / CUTOUTS}" in out


def test_without_opencv_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    for name in [n for n in sys.modules if n.endswith("data_tools.garment")]:
        monkeypatch.delitem(sys.modules, name)
    import fhn_jax.data_tools

    monkeypatch.delattr(fhn_jax.data_tools, "garment", raising=False)
    with pytest.raises(MissingPackageError, match=r"fhn_jax\[garment\]"):
        cut_out(tmp_path)
