"""Nearly equal pictures are found, all of them, by their hashes."""

import itertools

import numpy as np
from PIL import Image

from fhn_jax.data.near_equal import MAX_BITS, near_equal, picture_hash


def by_comparing_all(hashes, colours):
    """Pairs as the definition says."""
    return [
        [i, j]
        for i, j in itertools.combinations(range(len(hashes)), 2)
        if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= 4
        and (np.abs(colours[i].astype(int) - colours[j]) <= 8).mean() >= 0.9
    ]


def test_all_pairs_are_found():
    rng = np.random.default_rng(0)
    # Six families, whose members differ in up to 8 bits and 12 levels.
    families = rng.integers(0, 2**63, 6).astype(np.uint64)
    hashes = families[rng.integers(6, size=150)]
    for _ in range(4):
        flipped = np.uint64(1) << rng.integers(0, 64, 150).astype(np.uint64)
        hashes ^= np.where(rng.random(150) < 0.7, flipped, np.uint64(0))
    colours = (100 + rng.integers(0, 13, (150, 1)) + np.zeros((1, 12))).astype(np.uint8)
    alike, pairs = near_equal(hashes, colours)
    expected = by_comparing_all(hashes, colours)
    assert 100 < len(expected) < 3000 and pairs.tolist() == expected
    assert np.flatnonzero(alike).tolist() == np.unique(expected).tolist()


def test_pictures_that_are_alone_have_no_pair():
    nothing = np.zeros((1, 12), np.uint8)
    alike, pairs = near_equal(np.zeros(1, np.uint64), nothing)
    assert not alike.any() and pairs.shape == (0, 2)


def test_garments_of_two_colours_on_white_are_no_pair():
    one, other = np.full((2, 100, 100, 3), 255, np.uint8)
    # A sixth of the picture, so that the mean of all colours hardly differs.
    one[20:80, 35:65], other[20:80, 35:65] = (150, 60, 60), (115, 75, 75)
    hashes, colours = zip(*map(picture_hash, (one, other)), strict=True)
    assert hashes[0] == hashes[1]
    alike, _ = near_equal(np.array(hashes), np.array(colours))
    assert not alike.any()


def test_a_hash_outlasts_another_size_and_not_another_colour():
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8))
    picture = coarse.resize((120, 120), Image.Resampling.BICUBIC)
    bits, colours = picture_hash(np.asarray(picture))
    other, like = picture_hash(np.asarray(picture.resize((200, 200))))
    assert (int(bits) ^ int(other)).bit_count() <= MAX_BITS
    assert np.abs(colours.astype(int) - like).mean() < 2
    _, darker = picture_hash(np.asarray(picture) // 2)
    assert np.abs(colours.astype(int) - darker).mean() > 20
