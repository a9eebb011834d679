"""An index takes up items that came after it, and finds what one built anew finds."""

import dataclasses

import numpy as np
import pytest
from random_codes import random_codes

from fhn_jax.errors import InputError
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.updating import update_index
from tests.test_search import assert_finds, brute_force, some_outfits, tiny_blocks

__all__ = ["tiny_blocks"]


@pytest.mark.slow
@pytest.mark.parametrize("scaled", [False, True])
def test_a_grown_index_finds_what_brute_force_finds(tmp_path, tiny_blocks, scaled):
    rng = np.random.default_rng(3)
    for number, counts in enumerate([(9, 8, 7), (9, 8, 0)]):
        many = tuple(n + int(rng.integers(1, 20)) for n in counts)
        codes = random_codes(number, counts=many, bits=64, scaled=scaled)
        known = codes.first_items(counts)
        old = some_outfits(rng, known, 200)
        folder = tmp_path / str(number)
        index = OutfitIndex.build(folder, known, old)
        reader = OutfitIndex.open(folder, known)
        index.grow(codes)
        assert_finds(index, codes, old)
        new = some_outfits(rng, codes, 300)
        assert index.append(new) == range(len(old), len(old) + 300)
        index.remove([0, 5] if len(old) else [1])
        removed = {0, 5} if len(old) else {1}
        every = np.concatenate([old, new])
        for shown in (index, OutfitIndex.open(folder, codes)):
            assert_finds(shown, codes, every, removed)
        index.compact()
        index.verify()
        assert_finds(OutfitIndex.open(folder, codes), codes, every, removed)
        # Who had it open goes on with what there was.
        if len(old):
            best, _ = brute_force(known, old, 1, "asymmetric", 5)
            assert reader.search(1, 5).outfits.tolist() == best
        with pytest.raises(ValueError, match="an index of other codes"):
            OutfitIndex.open(folder, known)


def test_what_is_stored_stays_on_the_disk(tmp_path):
    codes = random_codes(counts=(400, 300, 200), bits=64)
    known = codes.first_items((300, 200, 100))
    outfits = some_outfits(np.random.default_rng(0), known, 20_000)
    index = OutfitIndex.build(tmp_path / "index", known, outfits)
    files = sorted((tmp_path / "index").glob("segment-*/[!r]*.npy"))
    before = [(path, path.stat().st_mtime_ns) for path in files]
    index.grow(codes)
    assert [(path, path.stat().st_mtime_ns) for path in files] == before


def test_only_more_items_are_taken(tmp_path):
    codes = random_codes(counts=(9, 8, 7), bits=64)
    known = codes.first_items((9, 8, 5))
    outfits = some_outfits(np.random.default_rng(0), known, 50)
    index = OutfitIndex.build(tmp_path / "index", known, outfits)
    others = random_codes(1, counts=(9, 8, 7), bits=64)
    more = dataclasses.replace(codes, templates=((0, 1), (0, 1, 2)))
    for wrong in (codes.first_items((9, 7, 7)), others, more):
        with pytest.raises(ValueError, match="build it again"):
            index.grow(wrong)
    assert_finds(OutfitIndex.open(tmp_path / "index", known), known, outfits)


def test_an_updated_index_has_the_outfits_that_are_wanted(tmp_path):
    codes = random_codes(counts=(9, 8, 7), bits=64)
    known = codes.first_items((9, 8, 5))
    rng = np.random.default_rng(0)
    old = np.unique(some_outfits(rng, known, 60), axis=0)
    index = OutfitIndex.build(tmp_path / "index", known, old)
    wanted = np.unique(np.concatenate([old[10:], some_outfits(rng, codes, 30)]), axis=0)
    index = OutfitIndex.open_grown(tmp_path / "index", codes)
    done = update_index(index, wanted)
    assert done == (len(wanted) - len(old) + 10, 10) and len(index) == len(wanted)
    assert update_index(index, wanted) == (0, 0)
    ids, items = index.stored()
    assert {*map(tuple, items.tolist())} == {*map(tuple, wanted.tolist())}
    stayed = ids < len(old)
    assert {*map(tuple, items[stayed].tolist())} == {
        *map(tuple, old[ids[stayed]].tolist())
    }
    # What was sold out and comes back gets a new id.
    assert update_index(index, np.concatenate([wanted, old[:1]])) == (1, 0)


def test_an_index_that_fails_to_grow_keeps_its_attributes(tmp_path):
    codes = random_codes(counts=(9, 8, 7), bits=64)
    known = codes.first_items((9, 8, 5))
    outfits = some_outfits(np.random.default_rng(0), known, 50)
    prices = {"price": list(range(22))}
    OutfitIndex.build(tmp_path / "index", known, outfits, attributes=prices)
    first, second = (OutfitIndex.open(tmp_path / "index", known) for _ in range(2))
    first.append(outfits[:3])
    with pytest.raises(InputError, match="has been changed since"):
        second.grow(codes)
    kept = OutfitIndex.open(tmp_path / "index", known).attributes
    assert list(kept.values()["price"]) == prices["price"]
    assert second.attributes is not None


def test_the_last_who_sets_attributes_has_set_them(tmp_path):
    codes = random_codes(counts=(9, 8, 7), bits=64)
    outfits = some_outfits(np.random.default_rng(0), codes, 50)
    OutfitIndex.build(tmp_path / "index", codes, outfits)
    first, second = (OutfitIndex.open(tmp_path / "index", codes) for _ in range(2))
    first.set_attributes({"price": [1] * 24})
    second.set_attributes({"price": [2] * 24, "brand": ["x"] * 24})
    for shown in (second, OutfitIndex.open(tmp_path / "index", codes)):
        values = {name: list(of) for name, of in shown.attributes.values().items()}
        assert values == {"price": [2] * 24, "brand": ["x"] * 24}


def test_an_update_takes_no_number_beyond_32_bits_for_an_item(tmp_path):
    codes = random_codes(counts=(9, 8, 7), bits=64)
    outfits = np.array([[0, 0, 0], [1, 1, 1]])
    index = OutfitIndex.build(tmp_path / "index", codes, outfits)
    with pytest.raises(InputError, match="4294967296 is not among the codes"):
        update_index(index, np.array([[2**32, 0, 0], [2, 2, 2]]))
    assert len(index) == 2
