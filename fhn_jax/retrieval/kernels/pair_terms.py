"""Pair terms: sums of weights over the bits of two items' codes.

With byte b of items i and j written x[i, b] and y[j, b] and the table T[b, v], the term
is Σ_b T[b, x[i, b] ^ y[j, b]] for ±1 codes, and & in place of ^ for 0/1 codes. Where
codes are scaled, each modality's sum is multiplied by both factors and rounded.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float32, Float64, Int, Int32, UInt8

from fhn_jax.retrieval.kernels.jit import njit, njit_no_refcount

# By a thread.
_PAIRS_AT_ONCE = 2**20


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
    """The terms of pairs of items, in units.

    Args:
      ids_a, ids_b: row n pairs item ids_a[n] of `codes_a` with ids_b[n] of `codes_b`.
      table: for each byte position the sum for each value of the byte.
      differing: whether a byte says which bits differ (±1 codes) or which are both set
        (0/1 codes).
    """
    out = np.empty(len(ids_a), np.int32)
    scales = scale_factors(scales_a), scale_factors(scales_b)
    # Loops are compiled for each type that they are called with: this is one.
    a, b = np.ascontiguousarray(ids_a, np.int32), np.ascontiguousarray(ids_b, np.int32)

    def some(start: int) -> None:
        rows = slice(start, start + _PAIRS_AT_ONCE)
        _pairs(codes_a, codes_b, *scales, a[rows], b[rows], table, differing, out[rows])

    starts = range(0, len(out), _PAIRS_AT_ONCE)
    if len(starts) < 2:
        some(0)
    else:  # The loop runs without Python's lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(some, starts))
    return out


def pair_tables(
    code: UInt8[np.ndarray, " mw"], table: Int32[np.ndarray, "w 256"], differing: bool
) -> Int32[np.ndarray, "mw 256"]:
    """Tables with which `affinities` sums the pair terms of one item with any others.

    Args:
      code: of the item.
      table, differing: as for `pairs`.
    """
    values = np.arange(256)
    values = values ^ code[:, None] if differing else values & code[:, None]
    places = np.arange(len(code)) % len(table)
    return table[places[:, None], values]


def scale_factors(
    scales: Float32[np.ndarray, "n m"] | None,
) -> Float64[np.ndarray, "rows cols"]:
    """Scales as compiled loops take them; no rows if there are none."""
    return np.empty((0, 0)) if scales is None else scales.astype(np.float64)


@njit_no_refcount
def pair(codes_a, codes_b, scales_a, scales_b, a, b, table, differing):
    """One pair of `pairs`, for compiled loops; scales are those of `scale_factors`."""
    # Unsigned indices need no test for negative ones: two thirds of the time.
    width = np.uint64(len(table))
    one, other = codes_a[a], codes_b[b]
    total = np.int32(0)
    for modality in range(len(one) // len(table)):
        first = np.uint64(modality) * width
        part = np.int32(0)
        if differing:
            for byte in range(width):
                part += table[byte, one[first + byte] ^ other[first + byte]]
        else:
            for byte in range(width):
                part += table[byte, one[first + byte] & other[first + byte]]
        if len(scales_a):
            factor = scales_a[a, modality] * scales_b[b, modality]
            part = np.int32(np.rint(part * factor))
        total += part
    return total


@njit
def _pairs(codes_a, codes_b, scales_a, scales_b, ids_a, ids_b, table, differing, out):
    for n in range(len(out)):
        a, b = np.int64(ids_a[n]), np.int64(ids_b[n])  # the type of all who call `pair`
        out[n] = pair(codes_a, codes_b, scales_a, scales_b, a, b, table, differing)
