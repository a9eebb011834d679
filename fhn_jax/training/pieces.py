"""Large arrays as pieces of some rows, so that a checkpoint of them takes little memory."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Arrays of more bytes are in pieces of so many at most, unless a row has more.
BYTES = 2**28
# Between the name of an array and the row that a piece begins with.
_ROW = "@"


def split(arrays: Mapping[str, jax.Array]) -> dict[str, Any]:
    """The arrays by name, large ones as pieces in memory of the host.

    On a CPU that is the memory where they are.
    """
    found: dict[str, Any] = {}
    for name, array in arrays.items():
        if array.nbytes <= BYTES:
            found[name] = array
            continue
        host = np.asarray(array)
        rows = max(1, BYTES // host[0].nbytes)
        for row in range(0, len(host), rows):
            found[f"{name}{_ROW}{row}"] = host[row : row + rows]
    return found


def whole(stored: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of arrays from those of what `split` made of them."""
    found = {}
    for name, about in stored.items():
        name, _, row = name.partition(_ROW)
        shape = tuple(about.shape)
        if row:
            before = found[name].shape[0] if name in found else 0
            shape = (before + shape[0], *shape[1:])
        found[name] = jax.ShapeDtypeStruct(shape, about.dtype)
    return found


def join(
    array: jax.ShapeDtypeStruct,
    stored: Mapping[str, Any],
    name: str,
    load: Callable[[str, jax.ShapeDtypeStruct], jax.Array],
) -> jax.Array:
    """An array that is stored in pieces, of which one at a time is loaded.

    Args:
      array: its shape, and where it is to lie.
      stored: the shapes of all that is stored.
      name: of the array.
      load: from the name of a piece, and its shape, to the piece.
    """
    found = jnp.zeros(array.shape, array.dtype, device=array.sharding)
    for piece, row in _pieces(stored, name):
        shape = tuple(stored[piece].shape)
        like = jax.ShapeDtypeStruct(shape, array.dtype, sharding=array.sharding)
        found = _put(found, load(piece, like), row)
    return found


def _pieces(stored: Mapping[str, Any], name: str) -> Iterator[tuple[str, int]]:
    for piece in stored:
        whose, _, row = piece.partition(_ROW)
        if whose == name:
            yield piece, int(row)


def _put_rows(array, piece, row):
    return jax.lax.dynamic_update_slice_in_dim(array, piece, row, 0)


_put = jax.jit(_put_rows, donate_argnums=0)
