"""Affinities: sums of a user's weights over the bits of items, a byte at a time.

With byte b of item i written x[i, b] and the table T[u, b, x] that holds the sum of the
user's weights for value x of that byte, affinity[u, i] = Σ_b T[u, b, x[i, b]].
"""

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from fhn_jax.retrieval.kernels.jit import njit, njit_inline

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
    users, width = tables.shape[:2]
    out = np.empty((users, len(codes) + padding), np.int32)
    # No rows stand for no scales: a loop is compiled for one type of arguments.
    scales = np.array(np.empty((0, 0)) if scales is None else scales, np.float32)
    if width % 8:
        _sum_any_width(codes, scales, tables, out)
        return out
    # The tables of many users side by side: each lookup then serves all of them.
    many = users // _USERS * _USERS
    for first in range(0, many, _USERS):
        some = tables[first : first + _USERS].transpose(1, 2, 0).reshape(-1)
        _sum_for_many(codes, scales, some, width, out[first : first + _USERS])
    # Of fewer users two at a time: one in each half of 64 bits.
    words = codes.view(np.uint64)
    for first in range(many, users, 2):
        some = tables[first : first + 2].reshape(-1, width * 256).astype(np.int64)
        some[-1] <<= 32 * (len(some) - 1)
        both = some.sum(axis=0)
        _sum_for_two(words, scales, both, width // 8, out[first : first + 2])
    return out


@njit_inline
def _scaled(total, scales, item, modality):
    """A sum over the bits of a modality, times the factor of the item."""
    if not len(scales):
        return np.int64(total)
    return np.int64(np.rint(total * np.float64(scales[item, modality])))


@njit
def _sum_any_width(codes, scales, tables, out):
    users, width = tables.shape[:2]
    for item in range(len(codes)):
        for user in range(users):
            total = np.int64(0)
            for modality in range(codes.shape[1] // width):
                part = np.int64(0)
                for byte in range(width):
                    part += tables[user, byte, codes[item, modality * width + byte]]
                total += _scaled(part, scales, item, modality)
            out[user, item] = total


@njit
def _sum_for_two(words, scales, table, width, out):
    """For two users, or one, over codes as 64-bit words.

    Args:
      table: int64, the sums of the first user plus 2³² times those of the second.
    """
    # Unsigned indices need no test for negative ones.
    low = np.uint64(255)
    for item in range(len(words)):
        sums = np.int64(0)
        for modality in range(words.shape[1] // width):
            total = np.int64(0)
            for word in range(width):
                x = words[item, modality * width + word]
                at = np.uint64(word * 2048)
                a = table[at + (x & low)]
                b = table[at + np.uint64(256) + ((x >> np.uint64(8)) & low)]
                c = table[at + np.uint64(512) + ((x >> np.uint64(16)) & low)]
                d = table[at + np.uint64(768) + ((x >> np.uint64(24)) & low)]
                e = table[at + np.uint64(1024) + ((x >> np.uint64(32)) & low)]
                f = table[at + np.uint64(1280) + ((x >> np.uint64(40)) & low)]
                g = table[at + np.uint64(1536) + ((x >> np.uint64(48)) & low)]
                h = table[at + np.uint64(1792) + (x >> np.uint64(56))]
                total += ((a + b) + (c + d)) + ((e + f) + (g + h))
            if not len(scales):
                sums += total
                continue
            first = np.int64(np.int32(total))
            sums += _scaled(first, scales, item, modality)
            sums += _scaled((total - first) >> 32, scales, item, modality) << 32
        first = np.int64(np.int32(sums))
        out[0, item] = first
        if len(out) > 1:
            out[1, item] = (sums - first) >> 32


@njit
def _sum_for_many(codes, scales, table, width, out):
    """For `_USERS` users, whose tables are interleaved."""
    users = np.uint64(_USERS)
    n = len(codes)
    modalities = codes.shape[1] // width
    # A few items at a time, whose sums are transposed while they are in the cache.
    sums = np.empty((modalities, _ITEMS, _USERS), np.int32)
    for start in range(0, n, _ITEMS):
        stop = min(start + _ITEMS, n)
        for item in range(start, stop):
            for own in range(0, codes.shape[1], 8):
                byte = own % width
                # Without scales one sum serves all modalities.
                row = sums[own // width if len(scales) else 0, item - start]
                is_new = byte == 0 and (len(scales) > 0 or own == 0)
                at = np.uint64(byte * 256)
                a = (at + np.uint64(codes[item, own])) * users
                b = (at + np.uint64(256) + np.uint64(codes[item, own + 1])) * users
                c = (at + np.uint64(512) + np.uint64(codes[item, own + 2])) * users
                d = (at + np.uint64(768) + np.uint64(codes[item, own + 3])) * users
                e = (at + np.uint64(1024) + np.uint64(codes[item, own + 4])) * users
                f = (at + np.uint64(1280) + np.uint64(codes[item, own + 5])) * users
                g = (at + np.uint64(1536) + np.uint64(codes[item, own + 6])) * users
                h = (at + np.uint64(1792) + np.uint64(codes[item, own + 7])) * users
                for user in range(users):
                    part = (table[a + user] + table[b + user]) + (
                        table[c + user] + table[d + user]
                    )
                    part += (table[e + user] + table[f + user]) + (
                        table[g + user] + table[h + user]
                    )
                    row[user] = part if is_new else row[user] + part
        for user in range(users):
            for item in range(start, stop):
                total = np.int64(sums[0, item - start, user])
                if len(scales):
                    total = _scaled(total, scales, item, 0)
                    for modality in range(1, modalities):
                        part = sums[modality, item - start, user]
                        total += _scaled(part, scales, item, modality)
                out[user, item] = total
