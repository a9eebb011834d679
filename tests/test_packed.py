"""Weighted Hamming similarity of packed codes, against the formula and the release."""

import re

import numpy as np
import pytest

from fhn_jax.codes import pack
from fhn_jax.packed import lookup_tables, reverse_bits, weighted_similarity
from tests.golden_weights import load


def some_codes(seed, shape):
    return np.random.default_rng(seed).choice(np.array([-1, 1]), shape)


@pytest.mark.parametrize("bits", [8, 24, 128])
def test_similarity_is_the_weighted_sum_of_products(bits):
    a, b = some_codes(0, (7, bits)), some_codes(1, (4, bits))
    weights = np.random.default_rng(2).normal(1, 0.5, bits)
    want = [[sum(weights * x * y) for y in b] for x in a]
    got = weighted_similarity(lookup_tables(weights), pack(a), pack(b))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_with_whole_weights_similarities_are_exact():
    a, b = some_codes(0, (60, 128)), some_codes(1, (50, 128))
    weights = np.random.default_rng(2).integers(-3, 4, 128)
    got = weighted_similarity(lookup_tables(weights * 1.0), pack(a), pack(b))
    np.testing.assert_array_equal(got, (a * weights) @ b.T)


def test_weights_in_float32_lose_nothing():
    weights = np.random.default_rng(0).normal(size=16).astype(np.float32)
    tables = lookup_tables(weights)
    np.testing.assert_array_equal(tables, lookup_tables(weights.astype(np.float64)))


def test_no_codes_give_no_similarities():
    none = np.zeros((0, 2), np.uint8)
    some = np.zeros((3, 2), np.uint8)
    assert weighted_similarity(lookup_tables(np.ones(16)), none, some).shape == (0, 3)


@pytest.mark.parametrize("bits", [16, 64, 128])
def test_golden_packed_codes_tables_and_similarities(bits):
    golden = load(f"packed_bits_{bits}")
    a, b = (reverse_bits(pack(golden[name])) for name in "ab")
    np.testing.assert_array_equal(a, golden["packed_a"])
    np.testing.assert_array_equal(b, golden["packed_b"])
    np.testing.assert_array_equal(reverse_bits(a), pack(golden["a"]))
    tables = lookup_tables(golden["weights"])
    every = reverse_bits(np.arange(256, dtype=np.uint8))
    np.testing.assert_allclose(tables[:, every], golden["table"], rtol=0, atol=1e-13)
    # In our order with our tables, and in the release's with the release's.
    ours = weighted_similarity(tables, pack(golden["a"]), pack(golden["b"]))
    theirs = weighted_similarity(golden["table"], a, b)
    np.testing.assert_allclose(ours, golden["sim"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(theirs, golden["sim"], rtol=0, atol=1e-12)


def test_reversing_twice_changes_nothing():
    every = np.arange(256, dtype=np.uint8)
    once = reverse_bits(every)
    assert sorted(once.tolist()) == every.tolist() and (once != every).any()
    np.testing.assert_array_equal(reverse_bits(once), every)


@pytest.mark.parametrize("count", [0, 4, 12])
def test_a_tail_shorter_than_a_byte_is_refused(count):
    with pytest.raises(ValueError, match=f"{count} weights; expected a positive mult"):
        lookup_tables(np.ones(count))


def test_a_weight_that_is_not_finite_is_named():
    weights = np.ones(16)
    weights[9] = np.nan
    with pytest.raises(ValueError, match="weight 9 is nan"):
        lookup_tables(weights)


def test_codes_of_another_length_are_refused():
    tables = lookup_tables(np.ones(16))
    two, three = np.zeros((1, 2), np.uint8), np.zeros((1, 3), np.uint8)
    with pytest.raises(ValueError, match="the codes b have 3 bytes; expected 2"):
        weighted_similarity(tables, two, three)
    message = re.escape("the codes a have 3 bytes; expected 2")
    with pytest.raises(ValueError, match=message):
        weighted_similarity(tables, three, two)
