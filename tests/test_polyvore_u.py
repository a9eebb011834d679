"""The builder of tensorflow_datasets: every file a split, every field as in the data."""

import numpy as np
import pytest
from PIL import Image

from fhn_jax.data.images import open_images
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.pictures import decode
from fhn_jax.data.vectors import read_text_vectors
from tests.polyvore_u import write_polyvore_u

# Tensorflow takes seconds to import.
pytestmark = pytest.mark.slow
VARIABLE = ("top", "top", "bottom", "shoe")


@pytest.fixture(scope="module")
def tfds():
    """The package, with the builder registered."""
    package = pytest.importorskip("tensorflow_datasets")
    import fhn_jax.data_tools.polyvore_u  # noqa: F401

    return package


def where(tfds, root):
    """Arguments that build from the data in `root`, offline."""
    config = tfds.download.DownloadConfig(manual_dir=root, try_download_gcs=False)
    return {"download_and_prepare_kwargs": {"download_config": config}}


def config(**options):
    """The small data set's own config."""
    from fhn_jax.data_tools.polyvore_u import PolyvoreUConfig

    sizes = {"image_size": 32, "text_dim": 24}
    return PolyvoreUConfig(**{"name": "mine", "variant": "8v"} | sizes | options)


@pytest.fixture(scope="module")
def root_630(tmp_path_factory):
    """A tiny set with the name and the image and text sizes of the real one."""
    return write_polyvore_u(
        tmp_path_factory.mktemp("data") / "tiny",
        variant="630",
        users=3,
        image_size=291,
        text_dim=2400,
        positives=(2, 1, 1),
        ratio=2,
    )


@pytest.fixture(scope="module")
def built_630(tfds, root_630, tmp_path_factory):
    """Variant 630 as TFRecord, by the line that users write."""
    folder = str(tmp_path_factory.mktemp("tfds"))
    return tfds.load("polyvore_u/630", data_dir=folder, **where(tfds, root_630))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A set with one or two tops, without a validation split."""
    return write_polyvore_u(
        tmp_path_factory.mktemp("data") / "tiny",
        variant="8v",
        users=3,
        slots=VARIABLE,
        positives=(3, 0, 2),
    )


def build(tfds, root, folder, **options):
    """The small set as ArrayRecord, read by index."""
    return tfds.data_source(
        "polyvore_u",
        data_dir=str(folder),
        builder_kwargs={"config": config(**options), "file_format": "array_record"},
        **where(tfds, root),
    )


@pytest.fixture(scope="module")
def built(tfds, root, tmp_path_factory):
    return build(tfds, root, tmp_path_factory.mktemp("tfds"))


def outfits(examples):
    """(user, label, group, item ids) of examples, sorted."""
    return sorted(
        (
            int(example["user"]),
            int(example["label"]),
            int(example["group"]),
            tuple(np.asarray(example["items"]["id"]).tolist()),
        )
        for example in examples
    )


def expected(table, label, ratio=1):
    """The same of a table of the layout, `ratio` rows to a group."""
    rows = zip(table.users.tolist(), table.items.tolist(), strict=True)
    return sorted(
        (user, label, number // ratio, tuple(items))
        for number, (user, items) in enumerate(rows)
    )


def check_splits(built, catalogue):
    """Each file of the layout is a split, and nothing else is."""
    names = set()
    for name, split in catalogue.splits.items():
        assert outfits(built[name]) == expected(split.positives, 1)
        names.add(name)
        for kind, suffix in (("random", ""), ("hard", "hard_")):
            part = f"{name}_{suffix}negatives"
            want = expected(split.negatives[kind], 0, split.ratio(kind))
            assert outfits(built[part]) == want
            names.add(part)
    assert set(built) == names | {"fitb_test"}


def test_tfds_load_reads_every_file_of_630(built_630, root_630):
    examples = {
        name: list(dataset.as_numpy_iterator()) for name, dataset in built_630.items()
    }
    check_splits(examples, read_catalogue(root_630, "630"))


def test_tfds_array_record_reads_every_file_by_index(built, root):
    assert len(built["train"]) == 9
    check_splits(built, read_catalogue(root, "8v"))


def test_tfds_questions_have_one_right_candidate_each(built, root):
    questions = read_catalogue(root, "8v").fitb["test"]
    found = outfits(built["fitb_test"])
    assert len(found) == 4 * len(questions)
    for number, (user, items) in enumerate(
        zip(questions.users, questions.items.tolist(), strict=True)
    ):
        candidates = [row for row in found if row[2] == number]
        assert {row[0] for row in candidates} == {user}
        assert [row[3] for row in candidates if row[1]] == [tuple(items[0])]
        wrong = sorted(row[3] for row in candidates if not row[1])
        assert wrong == sorted(map(tuple, items[1:]))


@pytest.mark.parametrize("fixture", ["tfrecord", "array_record"])
def test_tfds_items_have_their_name_category_image_and_text(fixture, request):
    if fixture == "tfrecord":
        built, root = map(request.getfixturevalue, ("built_630", "root_630"))
        catalogue = read_catalogue(root, "630")
        examples = built["test"].as_numpy_iterator()
    else:
        built, root = map(request.getfixturevalue, ("built", "root"))
        catalogue = read_catalogue(root, "8v")
        examples = built["test"]
    images, text = open_images(root), read_text_vectors(root, catalogue)
    count = 0
    for example in examples:
        items = example["items"]
        rows = catalogue.global_ids(np.asarray(items["id"]))
        for slot, row in enumerate(rows):
            name = catalogue.item_names()[row]
            assert items["name"][slot] == name.encode()
            assert items["category"][slot] == catalogue.slot_names[slot].encode()
            np.testing.assert_array_equal(items["text"][slot], text[row])
            # Decoders of JPEG may differ by a level or two.
            want = decode(images.read([name])[0], name).astype(int)
            assert items["image"][slot].shape == want.shape
            assert np.abs(items["image"][slot].astype(int) - want).max() <= 3
            count += 1
    assert count == len(catalogue.slots) * len(catalogue.splits["test"].positives)


def test_tfds_outfits_can_be_batched(built_630):
    batch = next(iter(built_630["train"].batch(4)))
    assert batch["items"]["image"].shape == (4, 3, 291, 291, 3)
    assert batch["items"]["text"].shape == (4, 3, 2400)


def test_tfds_fewer_negatives_without_images_or_text(tfds, root, tmp_path):
    options = {"image_size": None, "text_dim": None, "negatives": 2}
    built = build(tfds, root, tmp_path, **options)
    assert set(built["test"][0]["items"]) == {"category", "name", "id"}
    split = read_catalogue(root, "8v").splits["test"]
    for kind, part in (("random", "negatives"), ("hard", "hard_negatives")):
        table = split.negatives[kind].items.reshape(len(split.positives), 3, -1)
        rows = zip(split.positives.users.tolist(), table[:, :2].tolist(), strict=True)
        want = sorted(
            (user, 0, group, tuple(items))
            for group, (user, several) in enumerate(rows)
            for items in several
        )
        assert outfits(built[f"test_{part}"]) == want


def test_tfds_configs_are_those_of_the_paper(tfds):
    builder = tfds.builder_cls("polyvore_u")
    assert list(builder.builder_configs) == ["630", "519", "53", "32"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_dim": 25}, "vectors of length 24; expected text_dim=25"),
        ({"image_size": 31}, "is 32x32; expected 31x31"),
        ({"negatives": 4}, "negatives=4; the random negatives .* expected 1 to 3"),
        ({"negatives": 0}, "negatives=0; the random negatives"),
        ({"variant": "9"}, r"has the variants \['8v'\]"),
    ],
)
def test_tfds_what_does_not_fit_is_an_error(tfds, root, tmp_path, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build(tfds, root, tmp_path, **options)
    assert not list(tmp_path.glob("polyvore_u/*/1.0.0"))


def test_tfds_an_image_that_is_none_is_an_error(tfds, tmp_path):
    root = write_polyvore_u(tmp_path / "data", variant="8v", users=2, text_dim=24)
    for path in (root / "images" / "291x291").glob("top*"):
        Image.new("L", (32, 32)).save(path, "GIF")
    with pytest.raises(ValueError, match="expected a complete JPEG, PNG or WebP file"):
        build(tfds, root, tmp_path / "tfds")
