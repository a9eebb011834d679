"""Settings and data that cannot be used are named before any training."""

import io
import json
import pickle
import sys

import numpy as np
import pytest
from fhn_jax.data_tools.build_lmdb import build_lmdb
from PIL import Image
from polyvore_u import edit_line, write_polyvore_u
from random_codes import codes_of
from runs import act, settings

from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import UserError
from fhn_jax.training.settings import config_values
from fhn_jax.training.workdir import claim_workdir, read_config


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture
def own_root(tmp_path):
    """Data that a test may damage."""
    return write_polyvore_u(tmp_path / "data", image_size=32, items=(16, 8, 8))


@pytest.fixture
def no_training(monkeypatch):
    """Fails a test that trains."""
    from fhn_jax.training.loop import Loop

    def fail(*_):
        pytest.fail("training has begun")

    monkeypatch.setattr(Loop, "run", fail)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, root):
    """A workdir with random codes, as if it were trained."""
    workdir = tmp_path_factory.mktemp("evaluated")
    config = settings(root)
    values = config_values(config)
    (workdir / "config.json").write_text(json.dumps(values), encoding="utf-8")
    codes_of(read_catalogue(root, "8")).save(workdir / "codes.safetensors")
    return workdir


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"seed": 2**32}, "seed=4294967296: expected 0 to 4294967295"),
        ({"seed": -1}, "seed=-1: expected 0 to 4294967295"),
        ({"model.bits": 12}, "model.bits=12: .* use a multiple of 8"),
        (
            {"train.batch_size": 49},
            "train.batch_size=49: expected 1 to 48, .*=48 or less",
        ),
        ({"train.negatives": "random_onlin"}, "'random_onlin'.* expected one of"),
        ({"train.select": "val/auc"}, "train.select='val/auc': expected one of"),
        (
            {"model.hash": "tanh"},
            "loss.binary_share=0.5, but .*'tanh' pass no gradient",
        ),
        (
            {"data.cache": "disk"},
            "data.cache='disk': expected one of auto, device, host, none",
        ),
        ({"data.variant": "9"}, r"tuples_9 is missing: .* has the variants \['8'\]"),
        ({"wandb.mode": "onlin"}, "config.wandb.mode='onlin': expected one of offline"),
        ({"model.matching.hash_types": 4}, "hash_types=4.* expected"),
        ({"model.backbone.name": "vgg"}, "model.backbone.name='vgg': expected one of"),
    ],
)
def test_a_wrong_setting_is_found_before_training(
    root, tmp_path, no_training, overrides, message
):
    config = settings(root, overrides, config="vse_t3")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        act("all", config, tmp_path / "run")


def test_a_run_that_never_trained_leaves_the_workdir_free(root, tmp_path, no_training):
    too_large = settings(root, {"train.batch_size": 49})
    with pytest.raises(ValueError, match="use --config.train.batch_size=48 or less"):
        act("train", too_large, tmp_path / "run")
    with pytest.raises(pytest.fail.Exception, match="training has begun"):
        act("train", settings(root, {"train.batch_size": 48}), tmp_path / "run")
    # Nor does one that was stopped before its first checkpoint.
    with pytest.raises(pytest.fail.Exception, match="training has begun"):
        act("train", settings(root, {"train.batch_size": 47}), tmp_path / "run")


def test_the_workdir_of_another_config_is_refused(root, tmp_path, no_training):
    workdir = tmp_path / "run"
    (workdir / "checkpoints" / "6").mkdir(parents=True)
    values = config_values(settings(root, {"model.bits": 32, "seed": 1}))
    (workdir / "config.json").write_text(json.dumps(values))
    for action in ("all", "train", "extract-features"):
        with pytest.raises(
            ValueError,
            match="another config: model.bits is 32 there and 16 here; seed is 1 there "
            "and 0 here. Use another --workdir",
        ):
            act(action, settings(root), workdir)
    assert json.loads((workdir / "config.json").read_text()) == values


def test_a_wrong_root_is_named_before_what_differs_in_the_config(root, tmp_path):
    workdir = tmp_path / "run"
    (workdir / "checkpoints" / "6").mkdir(parents=True)
    values = config_values(settings(root, {"model.bits": 32}))
    (workdir / "config.json").write_text(json.dumps(values))
    with pytest.raises(FileNotFoundError, match="there is no data at .*nowhere"):
        act("train", settings(tmp_path / "nowhere"), workdir)


def test_a_config_that_was_changed_by_hand_is_refused(root, tmp_path):
    workdir = tmp_path / "run"
    claim_workdir(config_values(settings(root)), workdir)
    assert read_config(workdir)["seed"] == 0
    path = workdir / "config.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match="config.json was changed by hand, or is dam"):
        read_config(workdir)


def test_features_of_a_run_that_was_not_trained_are_an_error(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished checkpoint; train first"):
        act("extract-features", settings(root), tmp_path)


def test_evaluation_without_codes_says_what_to_do(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"codes.safetensors.*extract-features"):
        act("evaluate-rank", settings(root), tmp_path)


def test_codes_of_another_data_set_are_refused(evaluated, tmp_path):
    other = write_polyvore_u(tmp_path / "other", image_size=None, seed=1)
    for action in ("evaluate-rank", "evaluate-accuracy", "fitb"):
        with pytest.raises(
            ValueError, match="the codes are of data set 'tiny'.*'other'"
        ):
            act(action, settings(other), evaluated)
    assert not (evaluated / "results.json").exists()


def test_an_image_missing_in_the_folder_is_named(own_root, tmp_path, no_training):
    (own_root / "images" / "291x291" / "shoe003.jpg").unlink()
    for cache in ("device", "none"):
        config = settings(own_root, {"data.cache": cache}, config="t3")
        with pytest.raises(KeyError, match="image 'shoe003.jpg' missing in .*291x291"):
            act("train", config, tmp_path / "run")


def test_an_image_missing_in_the_lmdb_is_named(own_root, tmp_path, no_training):
    folder = own_root / "images" / "291x291"
    (folder / "shoe003.jpg").rename(tmp_path / "shoe003.jpg")
    build_lmdb(folder, own_root / "images" / "lmdb")
    for cache in ("device", "none"):
        config = settings(own_root, {"data.cache": cache}, config="t3")
        with pytest.raises(
            KeyError, match="image 'shoe003.jpg' missing in .*lmdb .* rebuild it with"
        ):
            act("train", config, tmp_path / "run")


def cut_off(path):
    path.write_bytes(path.read_bytes()[:300])


def other_format(path):
    buffer = io.BytesIO()
    Image.new("L", (32, 32)).save(buffer, "GIF")
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize("cache", ["device", "none"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_off, "image 'top002.jpg' cannot be decoded .* complete JPEG, PNG or WebP"),
        (other_format, "image 'top002.jpg' cannot be decoded .* complete JPEG, PNG"),
    ],
)
def test_an_image_of_no_use_is_named(
    own_root, tmp_path, no_training, cache, damage, message
):
    damage(own_root / "images" / "291x291" / "top002.jpg")
    config = settings(own_root, {"data.cache": cache}, config="vse_t3")
    with pytest.raises(ValueError, match=message):
        act("all", config, tmp_path / "run")


def test_a_pickle_where_an_archive_is_expected_is_not_loaded(
    own_root, tmp_path, no_training
):
    path = own_root / "sentence_vector" / "semantic.npz"

    class Bomb:
        def __reduce__(self):
            return sys.exit, ("the pickle was loaded",)

    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(
        ValueError, match=r"semantic.npz is a pickle .* expected a numpy"
    ):
        act("train", settings(own_root), tmp_path / "run")


def test_a_text_vector_that_is_not_finite_is_named(own_root, tmp_path, no_training):
    path = own_root / "sentence_vector" / "semantic.npz"
    with np.load(path) as archive:
        names, vectors = archive["names"], archive["vectors"]
    vectors[5, 3] = np.nan
    np.savez(path, names=names, vectors=vectors)
    with pytest.raises(ValueError, match="item 'top005.jpg' has a NaN"):
        act("train", settings(own_root), tmp_path / "run")


def test_a_line_of_the_data_that_is_wrong_is_named(own_root, tmp_path, no_training):
    edit_line(own_root / "tuples_8" / "tuples_train_posi", 4, "0,99,1,1")
    with pytest.raises(
        ValueError, match="tuples_train_posi:4: item 99 is out of range"
    ):
        act("train", settings(own_root), tmp_path / "run")
