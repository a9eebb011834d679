"""Affinities: sums of a user's weights over the bits of items, a byte at a time.

With byte b of item i written x[i, b] and the table T[u, b, x] that holds the sum of the
user's weights for value x of that byte, affinity[u, i] = Σ_b T[u, b, x[i, b]].
"""

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from fhn_jax.retrieval.kernels.jit import njit

# Users whose affinities are summed at the same time: two cache lines of int32.
_USERS = 32
_ITEMS = 64


def affinities(
    codes: UInt8[np.ndarray, "n mw"],
    scales: Float32[np.ndarray, "n m"] | None,
    tables: Int32[np.ndarray, "u w 256"],
    padding: int = 0,
) -> Int32[np.ndarray, "u padded"]:
    """What each item adds to the score of an outfit for each user, in units.

    Args:
      codes: packed codes, the bytes of m modalities side by side.
      scales: factor of each item's code by modality; None for 1.
      tables: for each user and byte position the sum for each of its values; one set
        serves every modality.
      padding: how many columns of arbitrary values follow those of the items.
    """
    n, width = len(codes), tables.shape[1]
    out = np.empty((len(tables), n + padding), np.int32)
    if scales is None:
        _sum_bytes(codes, tables, out)
        return out
    part = np.empty((len(tables), n), np.int32)
    out[:, :n] = 0
    for modality, factors in enumerate(scales.T.astype(np.float64)):
        first = modality * width
        _sum_bytes(np.ascontiguousarray(codes[:, first : first + width]), tables, part)
        out[:, :n] += np.rint(part * factors).astype(np.int32)
    return out


def _sum_bytes(codes, tables, out):
    users, width = tables.shape[:2]
    if width % 8:
        _sum_any_width(codes, tables, out)
        return
    # The tables of many users side by side: each lookup then serves all of them.
    many = users // _USERS * _USERS
    for first in range(0, many, _USERS):
        some = tables[first : first + _USERS].transpose(1, 2, 0).reshape(-1)
        _sum_for_many(codes, some, width, out[first : first + _USERS])
    # Of fewer users two at a time: one in each half of 64 bits.
    words = codes.view(np.uint64)
    for first in range(many, users, 2):
        some = tables[first : first + 2].reshape(-1, width * 256).astype(np.int64)
        some[-1] <<= 32 * (len(some) - 1)
        _sum_for_two(words, some.sum(axis=0), width // 8, out[first : first + 2])


@njit
def _sum_any_width(codes, tables, out):
    users, width = tables.shape[:2]
    for item in range(len(codes)):
        for user in range(users):
            total = np.int32(0)
            for byte in range(codes.shape[1]):
                total += tables[user, byte % width, codes[item, byte]]
            out[user, item] = total


@njit
def _sum_for_two(words, table, width, out):
    """For two users, or one, over codes as 64-bit words.

    Args:
      table: int64, the sums of the first user plus 2³² times those of the second.
    """
    # Unsigned indices need no test for negative ones.
    low = np.uint64(255)
    for item in range(len(words)):
        total = np.int64(0)
        for word in range(words.shape[1]):
            x = words[item, word]
            at = np.uint64((word % width) * 2048)
            a = table[at + (x & low)]
            b = table[at + np.uint64(256) + ((x >> np.uint64(8)) & low)]
            c = table[at + np.uint64(512) + ((x >> np.uint64(16)) & low)]
            d = table[at + np.uint64(768) + ((x >> np.uint64(24)) & low)]
            e = table[at + np.uint64(1024) + ((x >> np.uint64(32)) & low)]
            f = table[at + np.uint64(1280) + ((x >> np.uint64(40)) & low)]
            g = table[at + np.uint64(1536) + ((x >> np.uint64(48)) & low)]
            h = table[at + np.uint64(1792) + (x >> np.uint64(56))]
            total += ((a + b) + (c + d)) + ((e + f) + (g + h))
        first = np.int32(total)
        out[0, item] = first
        if len(out) > 1:
            out[1, item] = np.int32((total - first) >> 32)


@njit
def _sum_for_many(codes, table, width, out):
    """For `_USERS` users, whose tables are interleaved."""
    users = np.uint64(_USERS)
    n, bytes_ = codes.shape
    # A few items at a time, whose sums are transposed while they are in the cache.
    sums = np.empty((_ITEMS, _USERS), np.int32)
    for start in range(0, n, _ITEMS):
        stop = min(start + _ITEMS, n)
        for item in range(start, stop):
            row = sums[item - start]
            for byte in range(0, bytes_, 8):
                at = np.uint64((byte % width) * 256)
                a = (at + np.uint64(codes[item, byte])) * users
                b = (at + np.uint64(256) + np.uint64(codes[item, byte + 1])) * users
                c = (at + np.uint64(512) + np.uint64(codes[item, byte + 2])) * users
                d = (at + np.uint64(768) + np.uint64(codes[item, byte + 3])) * users
                e = (at + np.uint64(1024) + np.uint64(codes[item, byte + 4])) * users
                f = (at + np.uint64(1280) + np.uint64(codes[item, byte + 5])) * users
                g = (at + np.uint64(1536) + np.uint64(codes[item, byte + 6])) * users
                h = (at + np.uint64(1792) + np.uint64(codes[item, byte + 7])) * users
                for user in range(users):
                    part = (table[a + user] + table[b + user]) + (
                        table[c + user] + table[d + user]
                    )
                    part += (table[e + user] + table[f + user]) + (
                        table[g + user] + table[h + user]
                    )
                    row[user] = part if byte == 0 else row[user] + part
        for user in range(_USERS):
            for item in range(start, stop):
                out[user, item] = sums[item - start, user]
