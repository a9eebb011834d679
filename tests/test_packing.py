"""Codes as packed bits."""

import numpy as np
import pytest

from fhn_jax.codes import pack, unpack


def test_first_entry_is_the_lowest_bit():
    code = -np.ones(16, np.int8)
    code[0] = code[9] = 1
    np.testing.assert_array_equal(pack(code), np.array([1, 2], np.uint8))


@pytest.mark.parametrize("alphabet", ["pm1", "01"])
@pytest.mark.parametrize("shape", [(8,), (5, 24), (2, 3, 128), (0, 8)])
def test_unpack_undoes_pack(alphabet, shape):
    rng = np.random.default_rng(0)
    code = rng.integers(0, 2, shape).astype(np.int8)
    if alphabet == "pm1":
        code = 2 * code - 1
    packed = pack(code)
    assert packed.dtype == np.uint8 and packed.shape == (*shape[:-1], shape[-1] // 8)
    back = unpack(packed, shape[-1], alphabet)
    assert back.dtype == np.int8
    np.testing.assert_array_equal(back, code)


def test_pack_accepts_float_codes():
    np.testing.assert_array_equal(pack(np.ones((1, 8), np.float32)), [[255]])


def test_pack_rejects_a_length_that_is_not_a_multiple_of_8():
    with pytest.raises(ValueError, match="bits is 12, expected a positive multiple"):
        pack(np.ones(12))


@pytest.mark.parametrize("entries", [[-1, 0, 1, 1], [0.5, 1, 1, 1], [2, 0, 1, 1]])
def test_pack_rejects_entries_of_no_alphabet(entries):
    with pytest.raises(ValueError, match="binarise them first"):
        pack(np.array(entries * 2))


def test_unpack_rejects_another_number_of_bits():
    with pytest.raises(ValueError, match="hold 16 bits; expected bits=24"):
        unpack(np.zeros((3, 2), np.uint8), 24)
