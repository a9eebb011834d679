"""Safetensors files of known formats whose bytes depend on nothing but their contents."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from fhn_jax.codes.checks import check_array, expect
from fhn_jax.errors import InputError, MissingFileError

VERSION = 1
# Key of the metadata.
DIGEST = "sha256"
REMEDY = "make it again with the extract-features action"

_DTYPES = {"uint8": "U8", "float16": "F16", "float32": "F32"}


def serialize(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with its own checksum; equal contents give equal bytes.

    The safetensors package writes metadata in an order that changes from run to run,
    so equal codes would have unequal checksums.
    """
    return b"".join(_signed_parts(tensors, metadata))


def write(
    path: str | os.PathLike,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    """Writes the file of `serialize`, tensor by tensor: none is copied."""
    with open(path, "wb") as file:
        for part in _signed_parts(tensors, metadata):
            file.write(part)


def digest(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """Hexadecimal SHA-256 of a file of these contents that has no checksum in it."""
    found = hashlib.sha256()
    for part in _parts(tensors, metadata):
        found.update(part)
    return found.hexdigest()


def _signed_parts(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> Iterator[Any]:
    """A safetensors file with its own checksum, in pieces."""
    return _parts(tensors, {**metadata, DIGEST: digest(tensors, metadata)})


def _parts(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> Iterator[Any]:
    """A safetensors file: its header, then its tensors."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    blobs, end = [], 0
    # Wide types first: every tensor then starts at a multiple of its item size.
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):
        tensor = tensors[name]
        little_endian = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
        blobs.append(np.ascontiguousarray(little_endian))
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _DTYPES[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    yield from blobs


def read(
    path: str | os.PathLike,
    expected: str,
    remedy: str = REMEDY,
    *,
    mapped: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of a file of the format `expected`, its checksum compared.

    Files of other programs and of old versions have none.

    Args:
      remedy: what to do if it cannot be used.
      mapped: whether tensors are parts of the file, mapped into memory, which may be
        larger than that. Who writes the file anew must not write into the old one.
    Raises:
      FileNotFoundError: no such file.
      ValueError: damaged, not a whole safetensors file, or of another format or version.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no such file, expected a {expected} artifact; {remedy}"
        )
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            found = metadata.get("format")
            version = metadata.get("version", "")
            if found == expected and version == str(VERSION):
                tensors = _map(path) if mapped else {}
                for key in file.keys() - tensors.keys():
                    tensors[key] = file.get_tensor(key)
                stated = metadata.pop(DIGEST, None)
                if stated is None or digest(tensors, metadata) == stated:
                    return tensors, metadata
                raise ValueError("its checksum is wrong, it is damaged")
    # The package raises nearly anything at types that numpy does not have.
    except Exception as error:
        with open(path, "rb") as file:
            start = file.read(8)
        raise InputError(
            f"{path}: not a whole safetensors file ({error}; its first bytes are "
            f"{start!r}), expected a {expected} artifact; {remedy}"
        ) from None
    if found != expected:
        raise InputError(f"{path}: format is {found!r}, expected {expected!r}")
    if re.fullmatch("[0-9]{1,9}", version) and int(version) > VERSION:
        remedy = "update fhn_jax"
    raise InputError(f"{path}: version is {version!r}, expected '{VERSION}'; {remedy}")


def _map(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a whole file, of the types that are written here."""
    dtypes = {code: np.dtype(name).newbyteorder("<") for name, code in _DTYPES.items()}
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        del header["__metadata__"]
        # An empty file cannot be mapped; one without data has some header.
        data = np.memmap(file, np.uint8, "r")[8 + length :]
    tensors = {}
    for key, about in header.items():
        if about["dtype"] in dtypes:
            part = data[slice(*about["data_offsets"])].view(dtypes[about["dtype"]])
            tensors[key] = np.asarray(part.reshape(about["shape"]))
    return tensors


def parse(metadata: Mapping[str, str], key: str) -> Any:
    """The JSON value of a key; lists, and lists in them, as tuples."""
    if key not in metadata:
        raise InputError(f"metadata {key} is missing")
    try:
        value = json.loads(metadata[key])
    except (ValueError, RecursionError):
        raise InputError(
            f"metadata {key} is {metadata[key][:60]!r}, expected JSON"
        ) from None
    if isinstance(value, list):
        return tuple(tuple(each) if isinstance(each, list) else each for each in value)
    return value


def expect_keys(metadata: Mapping[str, str], known: Iterable[str]) -> None:
    """Raises InputError about metadata that is not known, as a damaged key is not."""
    others = sorted(metadata.keys() - {"format", "version", *known})
    expect("metadata", not others, others[:5], "none besides the known keys")


def take(tensors: dict[str, np.ndarray], key: str) -> np.ndarray:
    """Removes a tensor and returns it."""
    if key not in tensors:
        raise InputError(f"tensor {key} is missing")
    return tensors.pop(key)


def expect_none_left(tensors: Mapping[str, np.ndarray]) -> None:
    """Raises InputError if there are tensors that nobody took."""
    expect("tensors", not tensors, sorted(tensors)[:5], "none besides the known ones")


def flat(
    kind: str, categories: tuple[str, ...], items: Mapping[str, tuple]
) -> dict[str, np.ndarray]:
    """Arrays per modality and category, by the name that each has in a file."""
    return {
        f"{kind}/{modality}/{category}": array
        for modality, arrays in items.items()
        for category, array in zip(categories, arrays, strict=True)
    }


def join_names(names: tuple[str, ...]) -> np.ndarray:
    """Names as UTF-8 bytes, a line each."""
    return np.frombuffer("\n".join(names).encode(), np.uint8)


def split_names(key: str, text: np.ndarray) -> tuple[str, ...]:
    """The names of `join_names`."""
    check_array(key, text, np.uint8, (None,))
    if not text.size:
        return ()
    try:
        return tuple(text.tobytes().decode().split("\n"))
    except UnicodeDecodeError as error:
        raise InputError(f"{key} is not UTF-8 ({error})") from None
