"""Weighted Hamming similarity of packed codes: XOR, and one table look-up a byte.

For codes of ±1, a and b of d bits with weights λ, the similarity Σ_d λ_d a_d b_d adds a
weight where the bits agree and subtracts it where they differ. All that a byte of
`a ^ b` contributes is one of 256 sums, which are computed once for each place: a
similarity then costs d / 8 look-ups and no multiplication.

Codes are packed as in the codes artifact, in little bit order (see `fhn_jax.codes`).
The PyTorch release has the first entry of a code in the most significant bit;
`reverse_bits` turns one order into the other.
"""

import numpy as np
from jaxtyping import Float, Float64, UInt8

# [v, j]: bit j of the byte v, lowest first.
_BITS = np.unpackbits(
    np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"
)
# Each byte with its bits in reverse.
_REVERSED = np.packbits(_BITS, axis=1)[:, 0]


def lookup_tables(weights: Float[np.ndarray, " d"]) -> Float64[np.ndarray, "w 256"]:
    """What each value of each byte of `a ^ b` contributes to the similarity.

    Args:
      weights: λ of each bit; `d` a multiple of 8. Ones give d - 2 · Hamming distance.
    Returns:
      w = d / 8 tables; entry [k, v] is the sum over the bits j of the byte v of
      weights[8k + j] where the bit is 0, and of -weights[8k + j] where it is 1.
    Raises:
      ValueError: another length, or a weight that is not finite.

    >>> lookup_tables(np.array([4.0, 2, 1, 1, 1, 1, 1, 1]))[0, :3].tolist()
    [12.0, 4.0, 8.0]
    """
    if not len(weights) or len(weights) % 8:
        # DIFFERS: the reference drops the bits after the last whole byte.
        raise ValueError(
            f"{len(weights)} weights; expected a positive multiple of 8, one a bit"
        )
    if not np.isfinite(weights).all():
        bit = int(np.argmin(np.isfinite(weights)))
        raise ValueError(f"weight {bit} is {weights[bit]}; expected a finite number")
    signs = 1.0 - 2.0 * _BITS
    return np.einsum("vj,wj->wv", signs, weights.reshape(-1, 8), dtype=np.float64)


def weighted_similarity(
    tables: Float64[np.ndarray, "w 256"],
    a: UInt8[np.ndarray, "n _"],
    b: UInt8[np.ndarray, "m _"],
) -> Float64[np.ndarray, "n m"]:
    """Σ_d λ_d a_d b_d of every a with every b.

    Exact up to the rounding of float64 sums; exact without any for weights of one (or
    any whole numbers), so that ties are ties.

    Args:
      tables: of the weights, see `lookup_tables`.
      a, b: codes of ±1, packed in the bit order of the weights, w bytes each.
    Raises:
      ValueError: codes and tables of different lengths.

    >>> a, b = np.array([[0b1111]], np.uint8), np.array([[0b1110], [0]], np.uint8)
    >>> weighted_similarity(lookup_tables(np.ones(8)), a, b)
    array([[6., 0.]])
    """
    width = len(tables)
    for name, codes in (("a", a), ("b", b)):
        if codes.shape[1] != width:
            raise ValueError(
                f"the codes {name} have {codes.shape[1]} bytes; expected {width}, as "
                "many as the tables of the weights"
            )
    similarity = np.zeros((len(a), len(b)))
    for table, of_a, of_b in zip(tables, a.T, b.T, strict=True):
        similarity += table[of_a[:, None] ^ of_b]
    return similarity


def reverse_bits(packed: UInt8[np.ndarray, "*n w"]) -> UInt8[np.ndarray, "*n w"]:
    """Codes in the other bit order: ours to the release's, and the release's to ours.

    Bits are reversed within each byte; the bytes stay in place.

    >>> reverse_bits(np.array([1, 0b11010000], np.uint8)).tolist()
    [128, 11]
    """
    return _REVERSED[packed]
