"""Converts weights saved by PyTorch to safetensors, running nothing in the file.

    fhn-jax convert-weights resnet50-0676ba61.pth

A .pth or .net file is a pickle beside the raw bytes of its tensors. The pickle is read
with stand-ins for tensors (see `restricted_pickle`), which are cut from the bytes here,
after their shapes, strides and types are checked; PyTorch is not needed. Both layouts
are read: the zip archive, and that of PyTorch before 1.6.
"""

import errno
import io
import math
import os
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fhn_jax.data_tools.restricted_pickle import Refused, Unpickler
from safetensors.numpy import save_file

from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.files import atomic_path, sha256_file
from fhn_jax.program import Arguments, run_program

# What a checkpoint of a training run keeps its weights under.
_WRAPPERS = ("state_dict", "model")
_EXPECTED = "dicts and tensors"
# The first two objects of a file in the old layout.
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001


def load_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, in the order of the file.

    A dict that holds the state dict as "state_dict" or "model" is seen through, and the
    prefix "module." that data parallel training puts before all names is taken off.

    Args:
      path: written by `torch.save`.
    Raises:
      ValueError: the pickle calls for anything but dicts and tensors, the file is
        damaged, or what it holds is no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no such file; expected weights as torch.save writes them"
        )
    try:
        found = _read(path)
    except Refused as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # A damaged pickle raises nearly anything.
        # A seek to before the file is damage too; of the disk is what names the file.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}: {error}); expected weights "
            "as torch.save writes them; download the file again"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not found:
        what = "an empty dict" if found == {} else f"a {type(found).__name__}"
        raise InputError(f"{path} holds {what}; expected tensors by name, a state dict")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise InputError(
                f"{path}: {name!r} is a {type(value).__name__}; expected a state dict, "
                "which holds tensors by name: save model.state_dict()"
            )
    prefix = "module." if all(name.startswith("module.") for name in found) else ""
    return {name.removeprefix(prefix): value for name, value in found.items()}


def convert(source: str | os.PathLike, target: str | os.PathLike) -> int:
    """Writes the safetensors file for a state dict, whole or not at all.

    Its metadata has the checksum of the source, "source_sha256", by which
    `fhn_jax.models.backbones.weights` knows published weights.

    Args:
      source: see `load_weights`.
      target: replaced if it exists.
    Returns:
      number of tensors.
    """
    weights = load_weights(source)
    metadata = {"source": Path(source).name, "source_sha256": sha256_file(source)}
    with atomic_path(target) as temporary:
        save_file(weights, temporary, metadata)
    return len(weights)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax convert-weights", __doc__)
    parser.add_argument("weights", metavar="PTH", help="written by torch.save")
    parser.add_argument(
        "safetensors",
        metavar="SAFETENSORS",
        nargs="?",
        help="written; default: beside the source, ending in .safetensors",
    )
    options = parser.parse_args(arguments)
    target = options.safetensors or Path(options.weights).with_suffix(".safetensors")
    count = convert(options.weights, target)
    print(f"{target} holds {count:,} tensors")


class _Dict(dict):
    """Stands in for OrderedDict; what a module notes beside its weights is dropped."""

    def __setstate__(self, state: Any) -> None:
        """Takes nothing."""


class _Storage:
    """The numbers that tensors are cut from; the old layout has them after the pickle.

    Attributes:
      dtype: of the numbers.
      count: how many.
      values: the numbers, once they are read.
    """

    def __init__(self, dtype: Any, count: Any):
        if not isinstance(dtype, np.dtype) or not isinstance(count, int) or count < 0:
            raise Refused(f"a storage of {count!r} numbers of the type {dtype!r}")
        self.dtype, self.count = dtype, count
        self.values: np.ndarray | None = None

    @property
    def num_bytes(self) -> int:
        return self.count * self.dtype.itemsize

    def fill(self, raw: bytes, swap: bool = False) -> None:
        """Takes the numbers from their bytes, which are as many as announced."""
        if len(raw) != self.num_bytes:
            raise Refused(
                f"a storage of {self.count} numbers of type {self.dtype} in {len(raw)} "
                f"bytes; expected {self.num_bytes}"
            )
        values = np.frombuffer(raw, self.dtype)
        self.values = values.byteswap() if swap else values


class _Tensor:
    """Stands in for a tensor until the numbers of its storage are there."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any):
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not all(
            type(n) is int and n >= 0 for n in numbers
        ):
            raise Refused(f"a tensor of shape {shape!r}, strides {strides!r}")
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        size = math.prod(shape)
        # No tensor is larger than what it is cut from: a stride of 0 costs no bytes.
        if size and (last >= storage.count or size > storage.count):
            raise Refused(
                f"a tensor of shape {shape} and strides {strides} from {offset} in a "
                f"storage of {storage.count} numbers"
            )
        self.storage, self.offset = storage, offset
        self.shape, self.strides = shape, strides

    def array(self) -> np.ndarray:
        """The tensor, a copy in row-major order."""
        storage = self.storage
        view = np.lib.stride_tricks.as_strided(
            storage.values[self.offset :],
            self.shape,
            [stride * storage.dtype.itemsize for stride in self.strides],
            writeable=False,
        )
        return np.array(view, order="C")


def _parameter(tensor: Any, *_: Any) -> Any:
    """Stands in for the functions that make a parameter of a tensor."""
    return tensor


_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
# All that a state dict may name, and what it gets.
_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch", "Size"): tuple,
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}


class _TensorUnpickler(Unpickler):
    """Notes the storages that a pickle refers to.

    Attributes:
      storages: by the name that the pickle has for them.
    """

    def __init__(self, file: io.BufferedIOBase):
        super().__init__(file, _GLOBALS, _EXPECTED, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def persistent_load(self, identifier: Any) -> _Storage:
        # (…, type, name, device, count), and in the old layout a view of it.
        if not isinstance(identifier, tuple) or identifier[:1] != ("storage",):
            return super().persistent_load(identifier)
        _, dtype, name, _device, count, *view = identifier
        if view not in ([], [None]) or not isinstance(name, str):
            raise Refused(f"the storage {identifier!r}, of which only a part is used")
        storage = self.storages.setdefault(name, _Storage(dtype, count))
        if (storage.dtype, storage.count) != (dtype, count):
            raise Refused(f"the storage {name!r} in two sizes or types")
        return storage


def _read(path: Path) -> Any:
    """What a file holds, its tensors as arrays."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _arrays(_read_zip(archive))
    with open(path, "rb") as file:
        return _arrays(_read_old(file))


def _read_zip(archive: zipfile.ZipFile) -> Any:
    entries = {entry.filename: entry for entry in archive.infolist()}
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise Refused("a zip archive without data.pkl; expected one of torch.save")

    def read(name: str) -> bytes:
        # Never compressed by torch: what is read is no larger than the file.
        if name not in entries or entries[name].compress_type != zipfile.ZIP_STORED:
            raise Refused(f"{name} is missing in the archive, or compressed")
        return archive.read(name)

    folder = pickles[0].removesuffix("data.pkl")
    unpickler = _TensorUnpickler(io.BytesIO(read(pickles[0])))
    found = unpickler.load()
    order = f"{folder}byteorder"
    swap = order in entries and read(order).strip() == b"big"
    for name, storage in unpickler.storages.items():
        storage.fill(read(f"{folder}data/{name}"), swap)
    return found


def _read_old(file: io.BufferedIOBase) -> Any:
    """The layout before PyTorch 1.6: five pickles, then the storages in a row."""

    def plain() -> Any:
        return Unpickler(file, {}, "plain values").load()

    if plain() != _MAGIC or plain() != _VERSION:
        raise Refused("no file of torch.save")
    swap = not plain().get("little_endian", True)
    unpickler = _TensorUnpickler(file)
    found = unpickler.load()
    for name in plain():
        storage = unpickler.storages[name]
        (count,) = struct.unpack(">q" if swap else "<q", file.read(8))
        if count != storage.count:
            raise Refused(f"a storage of {count} numbers; expected {storage.count}")
        storage.fill(file.read(storage.num_bytes), swap)
    return found


def _arrays(value: Any) -> Any:
    """The value with arrays in the place of tensors, in dicts of any depth."""
    if isinstance(value, _Tensor):
        if value.storage.values is None:
            raise Refused("a tensor whose numbers are missing in the file")
        return value.array()
    if isinstance(value, dict):
        return {key: _arrays(part) for key, part in value.items()}
    return value


if __name__ == "__main__":
    run_program(main)
