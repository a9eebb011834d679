"""Precomputed features: how they are read, what is refused, and runs without images."""

import dataclasses
import json
import pickle
import shutil

import numpy as np
import pytest
from polyvore_u import read_lines, write_features, write_lmdb, write_polyvore_u
from runs import act, best, choose, load, metrics, settings, train

from fhn_jax.codes import Codes, Scorer
from fhn_jax.data.images import LmdbImages
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.vectors import read_features
from fhn_jax.training import build, inputs
from fhn_jax.training.experiment import Experiment
from fhn_jax.training.step import GROUPS

THREE = ("top", "bottom", "shoe")
TWO_TOPS = ("top", "top", "bottom", "shoe")
ARG = "smoke,features=resnet34"


@pytest.fixture
def root(tmp_path):
    """Tuples and nothing else: no images, no text."""
    root = write_polyvore_u(tmp_path / "data", image_size=None)
    shutil.rmtree(root / "sentence_vector")
    return root


def read(root, name="resnet34", **options):
    return read_features(root, name, read_catalogue(root, "8"), **options)


def damage(root, change):
    """Writes features anew, after `change` of {name: bytes of its row}."""
    rows = {name: row.tobytes() for name, row in write_features(root).items()}
    shutil.rmtree(root / "features")
    change(rows)
    write_lmdb(
        root / "features" / "resnet34",
        {name.encode(): value for name, value in rows.items()},
    )


def assert_refused(root, *parts, name="resnet34", error=ValueError):
    with pytest.raises(error) as caught:
        read(root, name)
    for part in parts:
        assert part in str(caught.value)


# Reading


@pytest.mark.parametrize("npz", [False, True])
@pytest.mark.parametrize("width", [1, 512, 768])
def test_features_of_any_width_come_in_the_order_of_the_items(root, width, npz):
    vectors = write_features(root, width=width, npz=npz)
    names = read_catalogue(root, "8").item_names()
    table = read(root)
    assert (table.shape, table.dtype) == ((96, width), np.float32)
    np.testing.assert_array_equal(table, [vectors[name] for name in names])


def test_rows_of_names_that_are_no_items_are_left_out(root):
    # Of any length: nobody looks at them.
    damage(root, lambda rows: rows.update({"a.jpg": b"x", "zzz.jpg": b""}))
    assert read(root).shape == (96, 48)


def test_the_lmdb_is_read_where_an_npz_is_there_too(root):
    write_features(root, width=3, npz=True)
    write_features(root, width=5)
    assert read(root).shape == (96, 5)


def test_progress_is_told_to_the_end(root):
    write_features(root)
    told = []
    read(root, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (96, 96)


# What is refused


@pytest.mark.parametrize("others", [[], ["clip", "vgg.npz"]])
def test_features_that_are_not_there_say_where_they_are_looked_for(root, others):
    for other in others:
        (root / "features" / other).mkdir(parents=True)
    assert_refused(
        root,
        f"no features 'resnet34': expected {root}/vectors/resnet34.npz with arrays",
        f"or {root}/features/resnet34/data.mdb, an LMDB",
        f"there is {'clip, vgg' if others else 'nothing'} in {root};",
        error=FileNotFoundError,
    )


@pytest.mark.parametrize("name", ["../resnet34", "a/b", "..", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(root, name):
    write_features(root)
    assert_refused(root, f"data.features={name!r} ", "expected the name of", name=name)


def test_a_folder_without_an_lmdb_is_refused(root):
    (root / "features" / "resnet34").mkdir(parents=True)
    assert_refused(root, "holds no data.mdb", "float32", error=FileNotFoundError)


def test_a_file_that_is_no_lmdb_is_refused(root):
    write_features(root)
    (root / "features/resnet34/data.mdb").write_bytes(b"hello" * 5000)
    assert_refused(root, "is no LMDB", "download it again, or use an LMDB of one float")


@pytest.mark.parametrize(
    ("gone", "shown"),
    [(1, "'shoe000.jpg'; "), (7, "'shoe004.jpg', …; ")],
)
def test_missing_items_are_counted_and_five_are_named(root, gone, shown):
    names = read_lines(root / "tuples_8" / "image_list_shoe")[:gone]
    damage(root, lambda rows: [rows.pop(name) for name in names])
    assert_refused(
        root,
        f"resnet34: {gone} of 96 items have no feature row: 'shoe000.jpg'",
        shown,
        "the first key there is b'bottom000.jpg'",
    )


def test_missing_items_of_an_npz_are_counted_and_named(root):
    vectors = write_features(root)
    shutil.rmtree(root / "features" / "resnet34")
    names = [name for name in vectors if name not in ("top003.jpg", "top001.jpg")]
    np.savez(
        root / "features/resnet34.npz",
        names=np.array(names),
        vectors=np.stack([vectors[name] for name in names]),
    )
    assert_refused(
        root, "2 of 96 items have no feature row: 'top001.jpg', 'top003.jpg'; "
    )


@pytest.mark.parametrize("name", ["top000.jpg", "shoe031.jpg"])
@pytest.mark.parametrize("size", [0, 3, 4 * 48 + 2])
def test_bytes_that_are_no_row_are_refused(root, name, size):
    damage(root, lambda rows: rows.update({name: bytes(size)}))
    assert_refused(root, f"item {name!r} has {size} bytes; expected the raw bytes of")


def test_rows_of_unequal_widths_are_refused(root):
    damage(root, lambda rows: rows.update({"shoe001.jpg": bytes(4 * 1_000)}))
    assert_refused(
        root, "row of item 'shoe001.jpg' has 1,000 numbers, that of 'top000.jpg' has 48"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("npz", [False, True])
def test_rows_that_are_not_finite_are_refused(root, value, npz):
    vectors = write_features(root)
    shutil.rmtree(root / "features")
    vectors["bottom009.jpg"][7] = value
    if npz:
        (root / "features").mkdir()
        np.savez(
            root / "features/resnet34.npz",
            names=np.array(list(vectors)),
            vectors=np.stack(list(vectors.values())),
        )
    else:
        rows = {name.encode(): row.tobytes() for name, row in vectors.items()}
        write_lmdb(root / "features" / "resnet34", rows)
    assert_refused(root, "vector of item 'bottom009.jpg' has a NaN or an infinity")


def test_arrays_pickled_into_an_lmdb_are_refused_and_not_loaded(root):
    row = np.zeros(48, np.float32)
    damage(root, lambda rows: rows.update({"top000.jpg": pickle.dumps(row)}))
    assert_refused(root, "item 'top000.jpg' is a pickled or saved numpy array", "<f4")


def test_pickled_objects_in_an_npz_are_refused(root):
    vectors = write_features(root, npz=True)
    np.savez(
        root / "features/resnet34.npz",
        names=np.array(list(vectors)),
        vectors=np.array([[object()]] * len(vectors)),
    )
    assert_refused(root, "'vectors' holds pickled objects", "numpy.savez")


def test_features_need_the_precomputed_backbone_and_the_other_way_round(root):
    config = settings(root, config="t3", arg=ARG)
    config.model.backbone.name = "tiny"
    with pytest.raises(ValueError, match="data.features needs .*'precomputed'.*'tiny'"):
        build.check_config(config)
    config = settings(root, {"data.features": ""}, config="t3", arg=ARG)
    with pytest.raises(ValueError, match="'precomputed' needs data.features"):
        build.check_config(config)
    with pytest.raises(ValueError, match=r"data.features needs .*got \('text',\)"):
        build.check_config(settings(root, config="text_t3", arg=ARG))
    config = settings(root, {"data.features": ""}, config="t3", arg="beside=resnet34")
    with pytest.raises(ValueError, match="modality 'features' needs data.features"):
        build.check_config(config)
    config.model.backbone.name = "precomputed"
    with pytest.raises(ValueError, match="'precomputed' takes features instead"):
        build.check_config(config)


def test_features_named_by_the_user_are_not_replaced_by_the_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = settings("", config="t3", variant="", arg=ARG)
    config = choose(config).open().config
    assert (config.data.root, config.data.variant) == ("data/polyvore", "630")


# Runs


def assert_learned(workdir):
    losses = [line["train/loss"] for line in metrics(workdir) if "train/loss" in line]
    assert np.isfinite(losses).all()
    epoch = len(losses) // LEARN["train.epochs"]
    assert np.mean(losses[-epoch:]) < 0.8 * np.mean(losses[:epoch])


@pytest.fixture
def no_images(monkeypatch):
    def fail(*_):
        pytest.fail("images are read")

    monkeypatch.setattr(LmdbImages, "__init__", fail)
    monkeypatch.setattr(inputs, "open_images", fail)


# The positives are random outfits, and a small network learns them by heart.
LEARN = {
    "train.epochs": 8,
    "optimizer.name": "adam",
    "optimizer.rates": dict.fromkeys(GROUPS, 0.02),
    **{
        f"model.{head}.{key}": 0.0
        for head in ("visual_head", "text_head")
        for key in ("stddev", "input_dropout", "dropout")
    },
}


@pytest.mark.slow
def test_tuples_and_features_are_all_that_the_main_job_needs(tmp_path, no_images):
    root = write_polyvore_u(tmp_path / "data", image_size=None, slots=TWO_TOPS)
    shutil.rmtree(root / "sentence_vector")
    vectors = write_features(root, width=40)
    workdir = tmp_path / "run"
    act("all", settings(root, LEARN, config="t3", arg=ARG), workdir)
    assert_learned(workdir)
    found = json.loads((workdir / "results.json").read_text())
    assert {"auc", "ndcg", "pair_accuracy", "fitb"} <= found["scores"]["binary"].keys()
    assert found["hard"].keys() == found["scores"].keys()
    codes = Codes.load(workdir / "codes.safetensors")
    assert codes.modalities == ("visual",)
    assert codes.num_items == (32, 32, 32)
    assert len(codes.slots) == 4
    # The page shows names in place of pictures.
    page = (workdir / "report" / "index.html").read_text()
    assert any(name in page for name in vectors)
    assert 'src="item' not in page


@pytest.mark.slow
def test_features_are_resident_beside_text_that_is_streamed(tmp_path):
    root = write_polyvore_u(tmp_path / "both", image_size=None, text_dim=10)
    write_features(root, width=7)
    config = settings(root, LEARN | {"data.cache": "none"}, config="vse_t3", arg=ARG)
    _, inputs = load(config)
    assert inputs.dims == {"text_dim": 10, "feature_dim": 7}
    assert inputs.tables.keys() == {"visual"}
    trained = train(config, tmp_path / "run")
    assert_learned(tmp_path / "run")
    assert trained.model.backbone is None
    kernels = trained.model.heads
    assert kernels["visual"][0].hidden.kernel.shape[0] == 7
    assert kernels["text"][0].hidden.kernel.shape[0] == 10


@pytest.mark.slow
def test_features_beside_images_and_text_are_a_third_code(tmp_path):
    root = write_polyvore_u(tmp_path / "data", text_dim=10)
    write_features(root, width=7)
    config = settings(root, config="vse_t3", arg="smoke,beside=resnet34")
    act("all", config, tmp_path / "run")
    codes = Codes.load(tmp_path / "run" / "codes.safetensors")
    assert codes.modalities == ("visual", "features", "text")
    _, inputs = load(config)
    assert inputs.dims == {"text_dim": 10, "feature_dim": 7}
    # Each modality has a third of the score.
    users, outfits = np.zeros(4, np.int32), np.arange(12, dtype=np.int32).reshape(4, 3)
    each = [
        dataclasses.replace(
            codes,
            modalities=(modality,),
            items={modality: codes.items[modality]},
            item_scales=codes.item_scales and {modality: codes.item_scales[modality]},
        )
        for modality in codes.modalities
    ]
    whole, *parts = (
        Scorer(of).score("asymmetric", users, outfits) for of in (codes, *each)
    )
    np.testing.assert_allclose(whole, np.mean(parts, axis=0), rtol=1e-5, atol=1e-5)
    experiment = Experiment(config, tmp_path / "run")
    at_first, trained = experiment.new_model(), experiment.best().model
    kernels = [of.heads["features"][0].hidden.kernel for of in (at_first, trained)]
    assert kernels[1].shape[0] == 7
    assert not np.allclose(
        *kernels
    )  # They are learned with the rate of the visual head.
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "features, items" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slots", "options"),
    [
        (TWO_TOPS, dict(negatives="hard_online", hard_share=1.0, hard_schedule="sqrt")),
        (TWO_TOPS, dict(negatives="random_online", ratio=3)),
        (THREE, dict(negatives="random_fixed", ratio=2)),
        (TWO_TOPS, dict(negatives="hard_fixed", ratio=2)),
    ],
    ids=["hard_online", "random_online", "random_fixed", "hard_fixed"],
)
def test_every_kind_of_negatives_trains(tmp_path, slots, options):
    root = write_polyvore_u(tmp_path / "data", image_size=None, slots=slots)
    write_features(root)
    overrides = {f"train.{key}": value for key, value in options.items()}
    train(settings(root, LEARN | overrides, config="t3", arg=ARG), tmp_path / "run")
    assert_learned(tmp_path / "run")


@pytest.mark.slow
def test_a_run_does_not_go_on_with_features_of_another_width(root, tmp_path):
    write_features(root, width=48)
    config = settings(root, config="t3", arg=ARG)
    train(config, tmp_path / "run")
    shutil.rmtree(root / "features")
    write_features(root, width=64)
    with pytest.raises(
        ValueError,
        match=r"heads/visual/0/hidden/kernel/value has shape \(48, 16\), expected \(64, 16\)"
        ".* vectors of another width",
    ):
        best(config, tmp_path / "run")
