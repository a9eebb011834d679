"""Codes as bits: eight entries to a byte, in little bit order.

Bit 0 of byte 0 is the first entry of the code; a set bit stands for +1 (or for 1 in the
"01" alphabet).
"""

import numpy as np
from jaxtyping import Int8, Num, UInt8

from fhn_jax.codes.checks import ALPHABETS, check_bits, expect
from fhn_jax.errors import InputError


def pack(codes: Num[np.ndarray, "*n d"]) -> UInt8[np.ndarray, "*n w"]:
    """Packs ±1 or 0/1 codes, eight entries to a byte in little bit order.

    Args:
      codes: entries all in {-1, 1} or all in {0, 1}; `d` a multiple of 8.
    Returns:
      bytes, w = d / 8; a set bit is +1 (or 1).
    Raises:
      ValueError: another length, or entries of neither alphabet.

    >>> pack(np.array([1, -1, -1, -1, -1, -1, -1, 1]))
    array([129], dtype=uint8)
    """
    check_bits(codes.shape[-1])
    is_set = codes > 0
    if not any(np.array_equal(codes, np.where(is_set, 1, low)) for low in (-1, 0)):
        raise InputError(
            f"codes hold {np.unique(codes)[:5].tolist()}; expected entries that are "
            "all in {-1, 1} or all in {0, 1}; binarise them first"
        )
    return np.packbits(is_set, axis=-1, bitorder="little")


def unpack(
    packed: UInt8[np.ndarray, "*n w"], bits: int, alphabet: str = "pm1"
) -> Int8[np.ndarray, "*n d"]:
    """Unpacks codes to -1/+1 (alphabet "pm1") or to 0/1 (alphabet "01").

    Raises:
      ValueError: `bits` is not 8 times the number of bytes, or an unknown alphabet.

    >>> unpack(np.array([129], np.uint8), 8)
    array([ 1, -1, -1, -1, -1, -1, -1,  1], dtype=int8)
    """
    check_bits(bits)
    expect("alphabet", alphabet in ALPHABETS, alphabet, f"one of {ALPHABETS}")
    if packed.shape[-1] * 8 != bits:
        raise InputError(
            f"packed codes of shape {packed.shape} hold {packed.shape[-1] * 8} bits; "
            f"expected bits={bits}"
        )
    codes = np.unpackbits(packed, axis=-1, bitorder="little").view(np.int8)
    return 2 * codes - 1 if alphabet == "pm1" else codes
