"""The converter of pickled text vectors: what it reads, and that it runs nothing."""

import collections
import io
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest
from fhn_jax.data_tools.convert_semantic import convert, load_vectors, main
from runs import exit_code

from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.vectors import read_text_vectors
from tests.polyvore_u import write_polyvore_u

VECTORS = {
    "a.jpg": np.array([1.5, -2, 3], np.float32),
    "b.jpg": np.array([0, 1e-20, 7], np.float32),
}


@pytest.fixture
def source(tmp_path):
    return tmp_path / "semantic.pkl"


def assert_reads(source, expected=VECTORS):
    names, vectors = load_vectors(source)
    assert names == list(expected)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.stack(list(expected.values())))


def python2_pickle(values, *, key=b"a.jpg", order=b"<", unicode_key=False):
    """{key: array} as Python 2 with numpy 1 wrote it, by hand (protocol 2)."""
    raw = struct.pack(order.decode() + f"{len(values)}f", *values)

    def text(data):
        return b"U" + bytes([len(data)]) + data

    key = b"X" + struct.pack("<I", len(key)) + key if unicode_key else text(key)
    return (
        b"\x80\x02}"
        + key
        + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01K"
        + bytes([len(values)])
        + b"\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        + b"(K\x03"
        + text(order)
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + text(raw)
        + b"tbs."
    )


# What is read


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_python_3_in_every_protocol(source, protocol):
    source.write_bytes(pickle.dumps(VECTORS, protocol))
    assert_reads(source)


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_pickles_of_numpy_1_and_2(source, core):
    content = pickle.dumps(VECTORS, 2)
    assert b"numpy._core.multiarray" in content
    source.write_bytes(content.replace(b"numpy._core.", core + b"."))
    assert_reads(source)


@pytest.mark.parametrize("order", [b"<", b">"])
@pytest.mark.parametrize("unicode_key", [False, True])
def test_pickles_of_python_2(source, order, unicode_key):
    content = python2_pickle([1.0, -0.5], order=order, unicode_key=unicode_key)
    pickletools.dis(content, out=io.StringIO())
    source.write_bytes(content)
    assert_reads(source, {"a.jpg": np.array([1, -0.5], np.float32)})


def test_names_may_be_bytes_in_utf_8(source):
    source.write_bytes(pickle.dumps({"rød.jpg".encode(): VECTORS["a.jpg"]}))
    assert_reads(source, {"rød.jpg": VECTORS["a.jpg"]})
    source.write_bytes(python2_pickle([1.0], key="rød.jpg".encode()))
    assert load_vectors(source)[0] == ["rød.jpg"]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "i8", "u1"])
def test_numbers_of_any_type_become_float32(source, dtype):
    values = np.array([1, 2, 100], dtype)
    source.write_bytes(pickle.dumps({"a.jpg": values}))
    assert_reads(source, {"a.jpg": values.astype(np.float32)})


def test_vectors_may_be_lists(source):
    source.write_bytes(pickle.dumps({"a.jpg": [1, 2.5, -3]}))
    assert_reads(source, {"a.jpg": np.array([1, 2.5, -3], np.float32)})


def test_dict_may_be_ordered(source):
    source.write_bytes(pickle.dumps(collections.OrderedDict(VECTORS)))
    assert_reads(source)


def test_arrays_in_fortran_order_or_sliced(source):
    values = {"a.jpg": np.arange(12.0).reshape(3, 4).T[1], "b.jpg": np.arange(6.0)[::2]}
    source.write_bytes(pickle.dumps(values, 5))
    assert_reads(source, values)


def test_archive_is_what_training_reads(tmp_path):
    root = write_polyvore_u(tmp_path, image_size=None)
    archive = root / "sentence_vector/semantic.npz"
    with np.load(archive) as arrays:
        table = dict(zip(arrays["names"].tolist(), arrays["vectors"], strict=True))
    archive.unlink()
    archive.with_suffix(".pkl").write_bytes(pickle.dumps(table))
    assert exit_code(main, [str(archive.with_suffix(".pkl"))]) == 0
    np.testing.assert_array_equal(
        read_text_vectors(root, read_catalogue(root, "8")), list(table.values())
    )


# What is refused, without being run


class Call:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_malicious_pickle_is_refused_and_not_run(source, tmp_path, protocol):
    mark = tmp_path / "was_run"
    content = pickle.dumps({"a.jpg": Call(os.system, f"touch {mark}")}, protocol)
    source.write_bytes(content)
    with pytest.raises(ValueError, match=r"names (posix|nt)\.system, which is refused"):
        load_vectors(source)
    assert not mark.exists()
    # The pickle does what it was made for, where nobody looks.
    pickle.loads(content)
    assert mark.exists()


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (eval, ("1",), "builtins.eval"),
        (getattr, ("a", "upper"), "builtins.getattr"),
        (bytearray, (10,), "builtins.bytearray"),
        (np.load, ("x.npy",), "numpy.load"),
        (np.frombuffer, (b"1",), "numpy.frombuffer"),
        (dict.fromkeys, ("a",), "builtins.getattr"),
        (collections.Counter, (), "collections.Counter"),
    ],
)
def test_any_other_name_is_refused(source, function, arguments, name):
    source.write_bytes(pickle.dumps({"a.jpg": Call(function, *arguments)}, 2))
    with pytest.raises(ValueError, match="is refused and was not run") as caught:
        load_vectors(source)
    assert name.split(".")[1] in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        # Names with a dot, which lead from an allowed object to others.
        b"\x80\x04\x8c\x08builtins\x8c\x0ddict.fromkeys\x93.",
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        # The short-hands for instances, and a name by number.
        b"(ios\nsystem\n.",
        b"(cos\nsystem\no.",
        b"cos\nsystem\n)\x81.",
    ],
)
def test_other_ways_to_a_name_are_refused(source, content):
    source.write_bytes(content)
    with pytest.raises(ValueError, match="is refused and was not run"):
        load_vectors(source)


def test_object_outside_of_the_pickle_is_refused(source):
    source.write_bytes(b"Pfile\n.")
    with pytest.raises(ValueError, match="outside object"):
        load_vectors(source)


def test_array_of_objects_is_refused(source):
    source.write_bytes(pickle.dumps({"a.jpg": np.array([1, None], object)}, 2))
    with pytest.raises(ValueError, match="array of type 'O8'; expected numbers"):
        load_vectors(source)


def test_array_whose_shape_belies_its_bytes_is_refused(source):
    content = python2_pickle([1.0, 2.0])
    assert content.count(b"(K\x01K\x02\x85") == 1
    source.write_bytes(content.replace(b"(K\x01K\x02\x85", b"(K\x01K\x63\x85"))
    with pytest.raises(ValueError, match=r"shape \(99,\) and type float32 in 8 bytes"):
        load_vectors(source)


def test_array_of_another_class_is_refused(source):
    content = python2_pickle([1.0]).replace(
        b"cnumpy\nndarray\n", b"c__builtin__\ndict\n"
    )
    source.write_bytes(content)
    with pytest.raises(ValueError, match="expected numpy.ndarray"):
        load_vectors(source)


# Bad input


def assert_refused(source, value, *parts):
    source.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value))
    with pytest.raises(ValueError) as caught:
        load_vectors(source)
    for part in (str(source), *parts):
        assert part in str(caught.value), (part, str(caught.value))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello", b"\x80\x05"])
def test_file_that_is_no_pickle_is_refused(source, content):
    assert_refused(source, content, "cannot be read", "download it again")


def test_cut_off_pickle_is_refused(source):
    content = pickle.dumps(VECTORS)
    for length in range(len(content)):
        assert_refused(source, content[:length])


def test_something_else_than_a_dict_of_vectors_is_refused(source):
    assert_refused(source, [1, 2], "holds a list; expected a dict")
    assert_refused(source, {}, "holds an empty dict")
    assert_refused(source, {"a.jpg": 1.0}, "'a.jpg' is no vector of numbers")
    assert_refused(source, {"a.jpg": []}, "'a.jpg' is no vector of numbers")
    assert_refused(source, {"a.jpg": None}, "'a.jpg' is no vector of numbers")
    assert_refused(source, {"a.jpg": np.ones((2, 2))}, "'a.jpg' is no vector")
    assert_refused(source, {"a.jpg": [np.ones(2), 1]}, "'a.jpg' is no vector")


@pytest.mark.parametrize("key", [1, None, "../a.jpg", b"\xff.jpg", "a\0"])
def test_key_that_is_no_image_name_is_refused(source, key):
    assert_refused(source, {key: [1.0]}, "is no image file name")


def test_same_name_as_text_and_bytes_is_refused(source):
    table = {"b.jpg": [1.0], "a.jpg": [1.0], b"a.jpg": [2.0]}
    assert_refused(source, table, "'a.jpg' occurs twice")


def test_vectors_of_other_lengths_are_refused(source):
    table = {"a.jpg": np.ones(3), "b.jpg": np.ones(4)}
    assert_refused(
        source, table, "'b.jpg' has 4 values; expected 3, as that of 'a.jpg'"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_no_finite_float32_are_refused(source, value):
    assert_refused(source, {"a.jpg": [1.0, value]}, "'a.jpg' has a NaN or an infinity")


# The command


def test_command_writes_beside_the_pickle_or_where_it_is_told(source, capsys):
    source.write_bytes(pickle.dumps(VECTORS))
    assert exit_code(main, [str(source)]) == 0
    assert capsys.readouterr().out == (
        f"{source.with_suffix('.npz')} holds 2 vectors of length 3\n"
    )
    other = source.parent / "new" / "text.npz"
    assert exit_code(main, [str(source), str(other)]) == 0
    with np.load(other, allow_pickle=False) as arrays:
        assert arrays["names"].tolist() == ["a.jpg", "b.jpg"]
        assert arrays["vectors"].dtype == np.float32


def test_failed_conversion_leaves_the_old_archive_and_nothing_else(source, capsys):
    source.write_bytes(pickle.dumps(VECTORS))
    target = source.with_suffix(".npz")
    assert convert(source, target) == (2, 3)
    before = target.read_bytes()
    source.write_bytes(pickle.dumps({"a.jpg": [np.nan]}))
    assert exit_code(main, [str(source)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {source}: the vector of 'a.jpg'")
    assert target.read_bytes() == before
    assert sorted(os.listdir(source.parent)) == ["semantic.npz", "semantic.pkl"]


def test_missing_pickle_is_an_error(source, capsys):
    assert exit_code(main, [str(source)]) == 1
    assert "semantic.pkl" in capsys.readouterr().err
