"""The reader of text vectors: what it returns, and each bad input."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.vectors import read_text_vectors
from fhn_jax.errors import UserError
from tests.polyvore_u import write_polyvore_u


@pytest.fixture
def root(tmp_path):
    return write_polyvore_u(tmp_path / "data", image_size=None)


def save(root, **arrays):
    np.savez(root / "sentence_vector/semantic.npz", **arrays)


def saved(root):
    with np.load(root / "sentence_vector/semantic.npz") as archive:
        return archive["names"], archive["vectors"]


def assert_text_refused(root, *parts, error=ValueError):
    catalogue = read_catalogue(root, "8")
    with pytest.raises(error) as caught:
        read_text_vectors(root, catalogue)
    for part in (*parts, "semantic.npz"):
        assert part in str(caught.value), (part, str(caught.value))


def test_text_vectors_follow_the_global_ids(root):
    names, vectors = saved(root)
    catalogue = read_catalogue(root, "8")
    np.testing.assert_array_equal(read_text_vectors(root, catalogue), vectors)
    order = np.random.default_rng(0).permutation(len(names))
    others = np.array(["another.jpg", "one more.jpg"])
    save(
        root,
        names=np.concatenate([others, names[order]]),
        vectors=np.concatenate([np.ones((2, 24)), vectors[order].astype(float)]),
    )
    found = read_text_vectors(root, catalogue)
    np.testing.assert_array_equal(found, vectors)
    assert found.dtype == np.float32


def test_missing_text_vectors_say_what_is_expected(root):
    (root / "sentence_vector/semantic.npz").unlink()
    assert_text_refused(root, "is missing", "`vectors` (m, t)", error=FileNotFoundError)


def test_pickle_without_npz_says_how_to_convert_it(root):
    path = root / "sentence_vector/semantic.npz"
    path.rename(path.with_suffix(".pkl"))
    parts = ["python -m data_tools.convert_semantic", "semantic.pkl", "runs code"]
    assert_text_refused(root, *parts, error=FileNotFoundError)


def test_pickle_named_npz_is_refused(root):
    path = root / "sentence_vector/semantic.npz"
    path.write_bytes(pickle.dumps({"a.jpg": [1.0]}))
    assert_text_refused(root, "is a pickle", "data_tools.convert_semantic")


def test_pickled_objects_in_the_npz_are_refused(root):
    names, vectors = saved(root)
    save(root, names=names, vectors=np.array([*vectors, None], object)[:-1])
    assert_text_refused(root, "'vectors' holds pickled objects", "convert_semantic")


def test_cut_off_npz_is_refused(root):
    path = root / "sentence_vector/semantic.npz"
    path.write_bytes(path.read_bytes()[:-3000])
    assert_text_refused(root, "cut off or damaged", "again")


def test_damaged_npz_is_refused(root):
    path = root / "sentence_vector/semantic.npz"
    content = bytearray(path.read_bytes())
    content[-5000] ^= 255
    path.write_bytes(content)
    assert_text_refused(root, "cut off or damaged", "again")


def member(array_header, body=b"", compressed=zipfile.ZIP_DEFLATED):
    """The bytes of an archive whose vectors have a header of their own."""
    head = f"{array_header}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + body
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compressed) as archive:
        archive.writestr("vectors.npy", npy)
        with archive.open("names.npy", "w") as file:
            np.lib.format.write_array(file, np.array(["a.jpg"]))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            member({"descr": "<f4", "fortran_order": False, "shape": (10**12, 9)}),
            "takes",
        ),
        (member({"descr": "<f4", "fortran_order": False, "shape": (1, -9)}), "damaged"),
        (member("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 9"), "damaged"),
        (member("((((((((" * 200), "damaged"),
        (member({"descr": "|O", "fortran_order": False, "shape": (9,)}), "pickled"),
        (member({"descr": "<f9", "fortran_order": False, "shape": (9,)}), "damaged"),
    ],
)
def test_npz_bombs_are_refused_before_there_is_room_for_them(root, data, message):
    (root / "sentence_vector/semantic.npz").write_bytes(data)
    assert_text_refused(root, message)


def test_no_flipped_bit_of_an_npz_is_another_error_or_another_vector(root):
    path = root / "sentence_vector/semantic.npz"
    data, catalogue = path.read_bytes(), read_catalogue(root, "8")
    whole, rng = read_text_vectors(root, catalogue), np.random.default_rng(0)
    places = [*rng.choice(len(data), 150), *range(len(data) - 200, len(data), 3)]
    for place in [*places, *range(0, 300, 5)]:
        changed = bytearray(data)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            found = read_text_vectors(root, catalogue)
        except UserError as error:
            assert str(path) in str(error)
        else:
            np.testing.assert_array_equal(found, whole)


def test_npz_without_the_arrays_is_refused(root):
    save(root, features=np.ones((2, 2)))
    assert_text_refused(root, "no array 'names', only ['features']")


def test_items_without_text_vector_are_counted_and_named(root):
    names, vectors = saved(root)
    save(root, names=names[7:], vectors=vectors[7:])
    assert_text_refused(
        root,
        "7 of 96 items have no text vector: 'top000.jpg', 'top001.jpg', 'top002.jpg', "
        "'top003.jpg', 'top004.jpg', …",
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_value_that_is_not_finite_names_the_item(root, value):
    names, vectors = saved(root)
    vectors[40, 3] = value
    save(root, names=names, vectors=vectors)
    assert_text_refused(root, "the vector of item 'bottom008.jpg' has a NaN")


def test_double_that_is_no_float32_is_refused(root):
    names, vectors = saved(root)
    vectors = vectors.astype(float)
    vectors[0, 0] = 1e300
    save(root, names=names, vectors=vectors)
    assert_text_refused(
        root, "the vector of item 'top000.jpg' has a NaN or an infinity"
    )


def test_text_arrays_of_other_shapes_and_kinds_are_refused(root):
    names, vectors = saved(root)
    save(root, names=names, vectors=vectors[:-1])
    assert_text_refused(root, "96 names and 95 vectors")
    save(root, names=names, vectors=vectors.reshape(96, 4, 6))
    assert_text_refused(
        root, "`vectors` is float32 (96, 4, 6); expected float32 (m, t)"
    )
    save(root, names=names, vectors=np.ones((96, 0)))
    assert_text_refused(root, "`vectors` is float64 (96, 0)")
    save(root, names=names, vectors=np.ones((96, 4), int))
    assert_text_refused(root, "`vectors` is int64 (96, 4)")
    save(root, names=names.astype("S"), vectors=vectors)
    assert_text_refused(root, "`names` is |S13 (96,); expected unicode (m,)")


def test_text_name_that_occurs_twice_is_refused(root):
    names, vectors = saved(root)
    names[5] = names[4]
    save(root, names=names, vectors=vectors)
    assert_text_refused(root, "the name 'top004.jpg' occurs twice")
