"""Inner loops of retrieval: compiled where numba is installed, numpy where it is not.

Everything here is whole numbers (or products of them that float64 holds exactly), so
both ways give the same answers, bit for bit. What other modules call takes arrays and
picks the way; what carries `_jit` is a loop that compiled loops may call.
"""

import typing

import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8

try:
    import numba
except ModuleNotFoundError:
    numba = None

# Whether to run the compiled loops. `pip install "fhn_jax[retrieval]"` brings them.
COMPILED = numba is not None


def _jit(loop):
    """Compiles `loop` at its first call and keeps the result beside the source.

    The loops carry `no_type_check`, since a loop wrapped by a checker of annotations
    cannot be compiled. Without numba the loop stays as it is, and is not called.
    """
    return loop if numba is None else numba.njit(cache=True, nogil=True)(loop)


def affinities(
    codes: UInt8[np.ndarray, "n mw"],
    scales: Float32[np.ndarray, "n m"] | None,
    tables: Int32[np.ndarray, "u w 256"],
) -> Int32[np.ndarray, "u n"]:
    """Sums a user's weights over the bits of each item, a byte at a time.

    Args:
      codes: packed codes, the bytes of m modalities side by side.
      scales: factor of each item's code by modality; None for 1.
      tables: for each user and place of a byte the sum for each of its values; one set
        serves every modality.
    """
    run = _affinities_compiled if COMPILED else _affinities_numpy
    return run(codes, scales, tables)


def _affinities_numpy(codes, scales, tables):
    width = tables.shape[1]
    total = np.zeros((len(tables), len(codes)), np.int32)
    for first in range(0, codes.shape[1], width):
        part = np.zeros_like(total)
        for byte in range(width):
            part += tables[:, byte][:, codes[:, first + byte]]
        if scales is not None:
            factor = scales[:, first // width].astype(np.float64)
            part = np.rint(part * factor).astype(np.int32)
        total += part
    return total


def _affinities_compiled(codes, scales, tables):
    out = np.empty((len(tables), len(codes)), np.int32)
    for row, table in zip(out, tables, strict=True):
        if scales is None:
            _affinities_loop(codes, table, row)
        else:
            _scaled_affinities_loop(codes, scales.astype(np.float64), table, row)
    return out


@_jit
@typing.no_type_check
def _affinities_loop(codes, table, out):
    n, bytes_ = codes.shape
    width = len(table)
    for item in range(n):
        total = np.int32(0)
        for first in range(0, bytes_, width):
            for byte in range(width):
                total += table[byte, codes[item, first + byte]]
        out[item] = total


@_jit
@typing.no_type_check
def _scaled_affinities_loop(codes, scales, table, out):
    n, bytes_ = codes.shape
    width = len(table)
    for item in range(n):
        total = np.int32(0)
        for modality in range(bytes_ // width):
            part = np.int32(0)
            for byte in range(width):
                part += table[byte, codes[item, modality * width + byte]]
            total += np.int32(np.rint(part * scales[item, modality]))
        out[item] = total


def pairs(
    codes_a: UInt8[np.ndarray, "a mw"],
    codes_b: UInt8[np.ndarray, "b mw"],
    scales_a: Float32[np.ndarray, "a m"] | None,
    scales_b: Float32[np.ndarray, "b m"] | None,
    ids_a: Int[np.ndarray, " n"],
    ids_b: Int[np.ndarray, " n"],
    table: Int32[np.ndarray, "w 256"],
    differing: bool,
) -> Int32[np.ndarray, " n"]:
    """Sums weights over the bits of pairs of items.

    Args:
      ids_a, ids_b: row n pairs item ids_a[n] of `codes_a` with ids_b[n] of `codes_b`.
      table: for each place of a byte the sum for each of its values.
      differing: whether a byte says which bits differ (±1 codes) or which are both set
        (0/1 codes).
    """
    if not COMPILED:
        return _pairs_numpy(
            codes_a, codes_b, scales_a, scales_b, ids_a, ids_b, table, differing
        )
    out = np.empty(len(ids_a), np.int32)
    _pairs_loop(
        codes_a,
        codes_b,
        _factors(scales_a),
        _factors(scales_b),
        ids_a,
        ids_b,
        table,
        differing,
        out,
    )
    return out


def _factors(scales):
    """Scales as a compiled loop takes them; no rows for none."""
    return np.empty((0, 0)) if scales is None else scales.astype(np.float64)


def _pairs_numpy(codes_a, codes_b, scales_a, scales_b, ids_a, ids_b, table, differing):
    width = len(table)
    combine = np.bitwise_xor if differing else np.bitwise_and
    total = np.zeros(len(ids_a), np.int32)
    for first in range(0, codes_a.shape[1], width):
        part = np.zeros_like(total)
        for byte in range(first, first + width):
            values = combine(codes_a[ids_a, byte], codes_b[ids_b, byte])
            part += table[byte - first][values]
        if scales_a is not None:
            modality = first // width
            factor = scales_a[ids_a, modality].astype(np.float64)
            factor *= scales_b[ids_b, modality]
            part = np.rint(part * factor).astype(np.int32)
        total += part
    return total


@_jit
@typing.no_type_check
def pair(codes_a, codes_b, scales_a, scales_b, a, b, table, differing):
    """One pair of `pairs`, for compiled loops; scales as `_factors` gives them."""
    width = len(table)
    total = np.int32(0)
    for modality in range(codes_a.shape[1] // width):
        part = np.int32(0)
        for byte in range(width):
            x = codes_a[a, modality * width + byte]
            y = codes_b[b, modality * width + byte]
            part += table[byte, x ^ y] if differing else table[byte, x & y]
        if len(scales_a):
            factor = scales_a[a, modality] * scales_b[b, modality]
            part = np.int32(np.rint(part * factor))
        total += part
    return total


@_jit
@typing.no_type_check
def _pairs_loop(
    codes_a, codes_b, scales_a, scales_b, ids_a, ids_b, table, differing, out
):
    for n in range(len(out)):
        out[n] = pair(
            codes_a, codes_b, scales_a, scales_b, ids_a[n], ids_b[n], table, differing
        )
