"""Converts the text vectors of Polyvore-U from a pickle to an npz archive.

    fhn-jax convert-semantic ROOT/sentence_vector/semantic.pkl

A pickle is a program that the reader runs. This one is run with nothing to call but
stand-ins for lists, dicts and numpy arrays: an array is rebuilt here, from its checked
shape and raw bytes, and not by numpy. Any other name in the pickle is an error, raised
before it is looked up.
"""

import collections
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fhn_jax.data_tools.restricted_pickle import Refused, Unpickler

from fhn_jax.data.catalogue import name_fault
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.files import atomic_path
from fhn_jax.program import Arguments, run_program


def load_vectors(path: str | os.PathLike) -> tuple[list[str], np.ndarray]:
    """Reads {image file name: vector} from a pickle, running nothing in it.

    Pickles of Python 2 and 3 and of any numpy version are read; names may be str or
    UTF-8 bytes, vectors arrays or lists of numbers.

    Args:
      path: the pickle.
    Returns:
      names, and vectors float32 [m, t] in the same order.
    Raises:
      ValueError: the pickle calls for anything but lists, dicts and arrays, is cut
        off, or is no such dict; names repeat; lengths differ; values are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no such file; expected a pickle of text vectors"
        )
    try:
        with open(path, "rb") as file:
            # bytes: strings of Python 2 are either text or raw memory of an array.
            table = Unpickler(
                file,
                _GLOBALS,
                "dicts, lists and numpy arrays of numbers",
                encoding="bytes",
            ).load()
    except Refused as error:
        raise InputError(f"{path}: {error}") from None
    except OSError:
        raise
    except Exception as error:  # A damaged pickle raises nearly anything.
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}: {error}); expected a "
            "pickle of {name: vector}; download it again"
        ) from error
    if not isinstance(table, dict) or not table:
        what = "an empty dict" if table == {} else f"a {type(table).__name__}"
        raise InputError(f"{path} holds {what}; expected a dict {{name: vector}}")
    names = [_name(path, key) for key in table]
    if len(set(names)) != len(names):
        twice = collections.Counter(names).most_common(1)[0][0]
        raise InputError(f"{path}: the name {twice!r} occurs twice; drop one")
    first = _vector(path, names[0], next(iter(table.values())))
    vectors = np.empty((len(names), len(first)), np.float32)
    for row, (name, value) in enumerate(zip(names, table.values(), strict=True)):
        vector = _vector(path, name, value)
        if len(vector) != len(first):
            raise InputError(
                f"{path}: the vector of {name!r} has {len(vector)} values; expected "
                f"{len(first)}, as that of {names[0]!r}; mend or drop it"
            )
        vectors[row] = vector
    return names, vectors


def convert(source: str | os.PathLike, target: str | os.PathLike) -> tuple[int, int]:
    """Writes the npz archive for a pickle, whole or not at all.

    Args:
      source: the pickle, see `load_vectors`.
      target: the archive, replaced if it exists.
    Returns:
      number of vectors, and their length.
    """
    names, vectors = load_vectors(source)
    with atomic_path(target) as temporary, open(temporary, "wb") as file:
        np.savez(file, names=np.array(names), vectors=vectors)
    return vectors.shape


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax convert-semantic", __doc__)
    parser.add_argument("pickle", metavar="PICKLE", help="usually semantic.pkl")
    parser.add_argument(
        "npz",
        metavar="NPZ",
        nargs="?",
        help="written; default: beside the pickle, ending in .npz",
    )
    options = parser.parse_args(arguments)
    target = options.npz or Path(options.pickle).with_suffix(".npz")
    count, length = convert(options.pickle, target)
    print(f"{target} holds {count:,} vectors of length {length:,}")


class _Dtype:
    """Stands in for numpy.dtype: plain numbers only."""

    def __init__(self, code: str | bytes, *_flags: Any):
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(code, str) or code not in _NUMBERS:
            raise Refused(
                f"an array of type {code!r}; expected numbers, one of {_NUMBERS}"
            )
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        # (version, byte order, …): the rest describes types that are not allowed.
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise Refused(f"an array with the byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands in for numpy.ndarray: takes shape, type and bytes, and checks them."""

    values: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, fortran, raw = state
        if isinstance(raw, str):  # Python 2, when it was unpickled and pickled again.
            raw = raw.encode("latin1")
        self.values = _rebuilt(raw, dtype, shape, "F" if fortran else "C")


def _rebuilt(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array over raw bytes, which are as many as its shape says."""
    if not isinstance(raw, (bytes, bytearray)) or not isinstance(dtype, _Dtype):
        raise Refused("an array without raw bytes or type")
    if not isinstance(shape, tuple) or not all(
        isinstance(n, int) and n >= 0 for n in shape
    ):
        raise Refused(f"an array of the shape {shape!r}")
    if math.prod(shape) * dtype.dtype.itemsize != len(raw):
        raise Refused(
            f"an array of the shape {shape} and type {dtype.dtype} in {len(raw)} bytes"
        )
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _reconstruct(subtype: Any, _shape: Any, _code: Any) -> _Array:
    """Stands in for numpy's function of this name, which makes an empty array."""
    if subtype is not _Array:
        raise Refused(f"an array of the class {subtype!r}; expected numpy.ndarray")
    return _Array()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Stands in for numpy's `_frombuffer` (pickle protocol 5)."""
    array = _Array()
    array.values = _rebuilt(raw, dtype, shape, "F" if order == "F" else "C")
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    """Stands in for `_codecs.encode`: bytes in the protocols of Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise Refused(f"text in the encoding {encoding!r}")
    return text.encode("latin1")


# Type codes of numpy that pickles have for numbers.
_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
# All that a pickle may name, and what it gets. numpy.core became numpy._core in
# numpy 2, and __builtin__ is of Python 2.
_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): dict,
    **{
        (f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct
        for core in ("core", "_core")
    },
    **{
        (f"numpy.{core}.numeric", "_frombuffer"): _from_buffer
        for core in ("core", "_core")
    },
    **{
        (module, kind.__name__): kind
        for module in ("builtins", "__builtin__")
        for kind in (dict, list, tuple)
    },
}


def _name(path: Path, key: Any) -> str:
    """The name of an image from a key of the dict."""
    try:
        name = key.decode("utf-8") if isinstance(key, bytes) else key
    except UnicodeDecodeError:
        name = None
    if not isinstance(name, str) or name_fault(name):
        raise InputError(
            f"{path}: {key!r} is no image file name; expected names such as those of "
            "image_list_*"
        )
    return name


def _vector(path: Path, name: str, value: Any) -> np.ndarray:
    """A vector of finite float32 from a value of the dict."""
    numbers = value.values if isinstance(value, _Array) else value
    with np.errstate(over="ignore"):
        try:
            vector = np.asarray(numbers, np.float32)
        except (TypeError, ValueError):
            vector = np.empty((0, 0), np.float32)
    if vector.ndim != 1 or not len(vector):
        raise InputError(
            f"{path}: the value of {name!r} is no vector of numbers (shape "
            f"{np.shape(vector)}); expected an array of one dimension"
        )
    if not np.isfinite(vector).all():
        raise InputError(
            f"{path}: the vector of {name!r} has a NaN or an infinity; mend or drop it"
        )
    return vector


if __name__ == "__main__":
    run_program(main)
