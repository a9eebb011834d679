"""A data set in the layout, exported as a shop's files and imported, comes back the same.

Training and evaluation read nothing but these files, so their results are equal too.
"""

import shutil

import numpy as np
import pytest
import shops
from fhn_jax.data_tools.import_catalogue import import_catalogue
from tutorial_shop import DATA, VARIANT

from fhn_jax.data.images import open_images
from fhn_jax.data.vector_files import load_vectors

pytest.importorskip("duckdb")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA.name}"),
]


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """The data set, after its way through a shop's folder."""
    folder = tmp_path_factory.mktemp("round_trip")
    shop = shops.export(DATA, VARIANT.removeprefix("tuples_"), folder / "shop")
    shutil.copytree(DATA / "images" / "291x291", shop / "photos")
    shutil.copytree(DATA / "sentence_vector", shop / "vectors")
    import_catalogue(shop, folder / "again")
    return folder / "again"


def test_every_file_of_tuples_comes_back_byte_for_byte(again):
    ours = {p.name: p.read_bytes() for p in (again / "tuples_shop").iterdir()}
    theirs = {p.name: p.read_bytes() for p in (DATA / VARIANT).iterdir()}
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_every_photo_comes_back_byte_for_byte(again):
    images = open_images(again)
    paths = list((DATA / "images" / "291x291").iterdir())
    read = images.read([path.name for path in paths])
    assert read == [path.read_bytes() for path in paths]


def test_every_vector_comes_back(again):
    names, vectors = load_vectors(again / "vectors" / "semantic.npz")
    theirs, expected = load_vectors(DATA / "sentence_vector" / "semantic.npz")
    row = {name: number for number, name in enumerate(theirs)}
    assert sorted(names) == sorted(theirs)
    np.testing.assert_array_equal(vectors, expected[[row[name] for name in names]])
