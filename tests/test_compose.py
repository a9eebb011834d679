"""Composed outfits against all outfits, scored and sorted one by one."""

import itertools

import numpy as np
import pytest
from random_codes import clustered_codes, made_codes, random_codes
from scale import SCALE

from fhn_jax.errors import InputError, UserError
from fhn_jax.retrieval.composer import Composer, ExternalItem
from fhn_jax.retrieval.filters import ExcludeOutfits, MustContain, Only, Wardrobe
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.kernels import compose_edges
from fhn_jax.retrieval.pair_bounds import PairBounds


def all_outfits(tables, user, score="asymmetric"):
    """Every outfit and its score in units, best first, ties by ids."""
    codes = tables.codes
    ranges = [range(codes.num_items[c]) for c in codes.slots]
    outfits = np.array(list(itertools.product(*ranges)), np.int64)
    outfits = outfits.reshape(-1, len(codes.slots))
    for j, k in itertools.combinations(range(len(codes.slots)), 2):
        if codes.slots[j] == codes.slots[k]:
            outfits = outfits[outfits[:, j] <= outfits[:, k]]
    units = tables.compatibilities(outfits).astype(np.int64)
    affinities = tables.affinities(tables.user_vectors(user, score))
    for slot, category in enumerate(codes.slots):
        units += affinities[category][0, outfits[:, slot]]
    order = np.lexsort((*outfits.T[::-1], -units))
    return outfits[order], units[order]


def check(composer, tables, user, k, keep=None, score="asymmetric", **options):
    """Asserts that the k best are those of all outfits for which `keep` holds.

    Returns:
      their scores.
    """
    outfits, units = all_outfits(tables, user, score)
    if keep is not None:
        kept = np.array([keep(outfit) for outfit in outfits.tolist()], bool)
        outfits, units = outfits[kept], units[kept]
    got = composer.compose(user, k, score=score, **options)
    np.testing.assert_array_equal(got.items, outfits[:k])
    np.testing.assert_array_equal(got.scores, tables.to_scores(units[:k]))
    assert not got.is_greedy
    return got.scores


SLOTS = [(0, 1, 2), (0, 1), (0, 0, 1, 2), (0, 1, 2, 3), (0, 1, 0), (0, 0, 1, 1)]


def some_codes(rng):
    """A small catalogue, most often one with many ties."""
    slots = SLOTS[rng.choice(len(SLOTS), p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])]
    names = ("top", "bottom", "shoe", "bag")[: max(slots) + 1]
    most = 9 if len(slots) < 4 else 6
    counts = rng.integers(1, most, len(names))
    if rng.random() < 0.05:
        counts[rng.integers(len(names))] = 0
    return made_codes(rng, slots, names, counts)


def some_options(rng, codes):
    """A restriction of outfits: (options, whether an outfit meets it)."""
    options, tests = {}, []
    of_slot = [codes.categories[c] for c in codes.slots]
    for number, name in enumerate(codes.categories):
        count = codes.num_items[number]
        if count == 0:
            continue
        slots = [slot for slot, other in enumerate(of_slot) if other == name]
        if rng.random() < 0.3:
            size = rng.integers(1, len(slots) + 1)
            ids = sorted(rng.integers(0, count, size).tolist())
            options.setdefault("fixed", {})[name] = ids

            def has(outfit, slots=slots, ids=ids):
                left = [outfit[slot] for slot in slots]
                return all(i in left and left.remove(i) is None for i in ids)

            tests.append(has)
        elif rng.random() < 0.3:
            ids = np.flatnonzero(rng.random(count) < 0.6)
            if len(ids):
                options.setdefault("filters", []).append(Only({name: ids}))

                def within(outfit, slots=slots, ids=ids):
                    return np.isin([outfit[slot] for slot in slots], ids).all()

                tests.append(within)
    if rng.random() < 0.2 and min(codes.num_items[c] for c in codes.slots):
        rows = np.array(
            [[rng.integers(codes.num_items[c]) for c in codes.slots] for _ in range(5)]
        )
        options.setdefault("filters", []).append(ExcludeOutfits(rows))
        out = {in_order(codes.slots, row) for row in rows.tolist()}
        tests.append(lambda outfit: tuple(outfit) not in out)
    return options, lambda outfit: all(test(outfit) for test in tests)


def in_order(slots, outfit):
    left = {
        c: sorted(i for s, i in zip(slots, outfit, strict=True) if s == c)
        for c in slots
    }
    return tuple(left[c].pop(0) for c in slots)


@pytest.mark.slow
def test_many_small_catalogues_are_composed_exactly():
    cases = 500 * SCALE
    rng = np.random.default_rng(0)
    ties = empty = 0
    for number in range(cases):
        tables = ItemTables.from_codes(some_codes(rng))
        options, keep = some_options(rng, tables.codes)
        k = int(rng.choice([1, 3, 10, 2000]))
        score = ("asymmetric", "binary")[rng.integers(2)]
        composer = Composer(tables)
        scores = check(composer, tables, number % 2, k, keep, score=score, **options)
        ties += len(scores) - len(np.unique(scores))
        empty += 0 in tables.codes.num_items
    assert ties > 2 * cases and empty > cases / 40


def catalogue(seed=0, counts=(30, 20, 25), **changes):
    """A catalogue and its composer."""
    tables = ItemTables.from_codes(random_codes(seed, counts=counts, **changes))
    return tables, Composer(tables)


def test_many_items_in_few_clusters_are_composed_exactly(monkeypatch):
    monkeypatch.setattr("fhn_jax.retrieval.pair_bounds._NUM_CLUSTERS", 4)
    for scaled in (False, True):
        tables, composer = catalogue(scaled=scaled, bits=128)
        check(composer, tables, 1, 10)
        check(composer, tables, 2, 5, lambda o: o[2] == 7, fixed={"shoe": 7})


@pytest.mark.parametrize(
    ("slots", "fixed", "shares"),
    [
        ((0, 1, 2), {}, (0.05, 0.06, 0.01)),
        ((0, 1, 2), {"shoe": 3}, (0.15, 0.01, 0.01)),
        ((0, 0, 1, 2), {}, (0.05, 0.13, 0.02)),
    ],
)
def test_most_pairs_of_clustered_codes_are_pruned(monkeypatch, slots, fixed, shares):
    styles, count = 16, 160
    monkeypatch.setattr("fhn_jax.retrieval.pair_bounds._NUM_CLUSTERS", styles)
    codes = clustered_codes(counts=(count,) * 3, styles=styles, slots=slots)
    composer = Composer(codes)
    found, compose = [], compose_edges.compose
    monkeypatch.setattr(
        compose_edges, "compose", lambda *args: found.append(compose(*args))
    )
    for user in range(6):
        composer.compose(user, 10, fixed=fixed)
    cluster_pairs, scans, pair_terms = np.mean(found, axis=0)
    num_pairs = 1 if fixed else 3
    assert 0 < cluster_pairs < shares[0] * num_pairs * styles**2
    assert scans < shares[1] * num_pairs * styles**2
    assert 0 < pair_terms < shares[2] * num_pairs * count**2


def test_outfits_that_all_tie_come_in_the_order_of_their_ids():
    counts = (300, 300, 300)
    tables, composer = catalogue(
        counts=counts,
        bits=8,
        lambda_user=np.zeros(8, np.float32),
        lambda_item=np.zeros(8, np.float32),
    )
    got = composer.compose(0, 4)
    assert got.items.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3]]
    assert not got.scores.any()


def test_a_user_given_as_a_vector_is_the_stored_user():
    tables, composer = catalogue()
    one = composer.compose(3, 5)
    other = composer.compose(tables.codes.user_latents[3], 5)
    np.testing.assert_array_equal(one.items, other.items)


def test_a_wardrobe_is_all_there_is_to_choose_from():
    tables, composer = catalogue()
    wardrobe = {"top": [3, 5, 9], "bottom": [0, 7], "shoe": [4, 11]}

    def within(outfit):
        return all(i in ids for i, ids in zip(outfit, wardrobe.values(), strict=True))

    check(composer, tables, 0, 20, within, filters=Wardrobe(wardrobe))
    part = {name: wardrobe[name] for name in ("top", "bottom")}
    got = composer.compose(0, 3, filters=Wardrobe(part), fixed={"shoe": 2})
    assert set(got.items[:, 2]) == {2}


def test_bounds_are_kept_and_made_anew_if_they_are_not_right(tmp_path, monkeypatch):
    tables, composer = catalogue()
    expected = composer.compose(3, 20)
    made, build = [], PairBounds.build.__func__

    def counted(cls, *arguments):
        made.append(1)
        return build(cls, *arguments)

    monkeypatch.setattr(PairBounds, "build", classmethod(counted))

    def kept(builds):
        found = Composer.kept(tmp_path / "kept", tables).compose(3, 20)
        np.testing.assert_array_equal(found.items, expected.items)
        np.testing.assert_array_equal(found.scores, expected.scores)
        assert len(made) == builds

    kept(1)
    kept(1)  # mapped
    path = tmp_path / "kept" / "items.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match="items.npy: its checksum is wrong"):
        PairBounds.open(tmp_path / "kept", tables)
    kept(2)
    (tmp_path / "kept" / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="manifest.json: not JSON"):
        PairBounds.open(tmp_path / "kept", tables)
    kept(3)
    (tmp_path / "kept" / "pairs.npy").unlink()
    kept(4)
    other = ItemTables.from_codes(random_codes(9))
    with pytest.raises(ValueError, match="of other codes"):
        PairBounds.open(tmp_path / "kept", other)
    kept(4)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("slots", [(0, 1, 2), (0, 0, 1, 2)])
def test_an_external_item_is_as_good_as_an_item_of_the_catalogue(scaled, slots):
    whole = random_codes(3, counts=(8, 7, 6), scaled=scaled, slots=slots)
    kept = (6, 5, 4)
    cut = random_codes(
        3,
        counts=kept,
        scaled=scaled,
        slots=slots,
        items={m: tuple(c[:n] for c, n in zip(cs, kept, strict=True))
               for m, cs in whole.items.items()},
        item_scales=scaled and {
            m: tuple(c[:n] for c, n in zip(cs, kept, strict=True))
            for m, cs in whole.item_scales.items()
        } or None,
        users=whole.users,
        user_latents=whole.user_latents,
        lambda_user=whole.lambda_user,
        lambda_item=whole.lambda_item,
    )  # fmt: skip

    def external(category, item):
        scales = [
            whole.item_scales[m][category][item] if scaled else 1
            for m in whole.modalities
        ]
        codes = np.stack([whole.items[m][category][item] for m in whole.modalities])
        return ExternalItem(codes, np.array(scales, np.float32))

    composer = Composer(cut)
    everything = Composer(whole)
    free = {
        name: range(n) for name, n in zip(("top", "bottom", "shoe"), kept, strict=True)
    }
    for fixed, ids in (
        ({"shoe": [external(2, 4)]}, {"shoe": 4}),
        ({"top": 2, "bottom": external(1, 5)}, {"top": 2, "bottom": 5}),
        (
            {"top": external(0, 6), "bottom": external(1, 5), "shoe": external(2, 4)},
            {"top": 6, "bottom": 5, "shoe": 4},
        ),
    ):
        got = composer.compose(1, 30, fixed=fixed)
        expected = everything.compose(1, 30, fixed=ids, filters=Only(free))
        np.testing.assert_array_equal(got.items, expected.items)
        np.testing.assert_array_equal(got.scores, expected.scores)


def test_an_external_item_of_other_bits_or_one_too_many_is_refused():
    _, composer = catalogue()
    right = ExternalItem(np.zeros((2, 2), np.uint8), np.ones(2, np.float32))
    wrong = ExternalItem(np.zeros((2, 9), np.uint8), np.ones(2, np.float32))
    with pytest.raises(ValueError, match=r"codes of shape \(2, 9\)"):
        composer.compose(0, fixed={"top": wrong})
    with pytest.raises(ValueError, match="category 'hat' is unknown"):
        composer.compose(0, fixed={"hat": right})
    composer.compose(0, fixed={"top": [right]})
    with pytest.raises(ValueError, match="2 items are fixed in top, expected at most"):
        composer.compose(0, fixed={"top": [1, right]})


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_diversity_takes_the_best_that_the_limit_allows_one_by_one(limit):
    tables, composer = catalogue(counts=(6, 5, 4))
    uses, expected = {}, []
    for outfit in all_outfits(tables, 2)[0].tolist():
        keys = list(enumerate(outfit))
        if len(expected) < 12 and all(uses.get(key, 0) < limit for key in keys):
            expected.append(outfit)
            uses |= {key: uses.get(key, 0) + 1 for key in keys}
    got = composer.compose(2, 12, at_most={"item": limit})
    assert got.items.tolist() == expected
    assert got.is_greedy


def test_diversity_does_not_count_fixed_items():
    _, composer = catalogue(counts=(6, 5, 4))
    got = composer.compose(0, 4, fixed={"shoe": 1}, at_most={"item": 1})
    assert set(got.items[:, 2]) == {1}
    assert len(set(got.items[:, 0])) == len(set(got.items[:, 1])) == len(got) == 4


def test_more_outfits_than_memory_holds_are_refused():
    composer = Composer(random_codes(bits=8, counts=(200, 100, 60), num_users=1))
    with pytest.raises(UserError, match="1,200,000 outfits are too many to compose"):
        composer.compose(0, 10**12)
    assert len(composer.compose(0, 10**12, fixed={"top": 3, "shoe": 1})) == 100


def test_all_items_fixed_leave_one_outfit():
    tables, composer = catalogue()
    fixed = {"top": 3, "bottom": 2, "shoe": 1}
    check(composer, tables, 0, 10, lambda o: o == [3, 2, 1], fixed=fixed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0, expected a whole number of at least 1"),
        ({"at_most": {"item": 0}}, "at_most item is 0, expected"),
        ({"user": 99}, "user 99 is not among the codes; expected 0 to 5"),
        ({"user": -1}, "user -1 is not among"),
        ({"user": np.array([0, 1])}, "user is an array of shape"),
        ({"user": np.full(16, np.nan)}, "user vectors hold nan at"),
        ({"user": np.zeros(8)}, r"expected floats \[16\]"),
        ({"score": "relaxed"}, "score is 'relaxed'"),
        ({"fixed": {"hat": 0}}, "category 'hat' is unknown; expected one of"),
        ({"fixed": {"shoe": 25}}, "shoe 25 is not among the codes; expected 0 to 24"),
        ({"fixed": {"shoe": -1}}, "shoe -1 is not among"),
        ({"fixed": {"shoe": [1, 2]}}, "2 items are fixed in shoe, expected at most 1"),
        ({"filters": Only({"top": [30]})}, "top 30 is not among"),
        ({"filters": Only({"top": []})}, "there is no top to choose from"),
        (
            {"filters": Wardrobe({"top": [1], "shoe": [1]})},
            "there is no bottom to choose from",
        ),
        (
            {"filters": Wardrobe({"top": [1], "bottom": [1], "shoe": []})},
            "there is no shoe to choose from",
        ),
        (
            {"filters": MustContain({"shoe": [1, 2]})},
            "2 items are fixed in shoe, expected at most 1",
        ),
        ({"filters": ExcludeOutfits([3])}, r"excluded by id.*items of each, \[n, 3\]"),
        ({"filters": ExcludeOutfits([[0, 0]])}, r"expected whole numbers \[n, 3\]"),
        ({"filters": ExcludeOutfits([[0, 20, 0]])}, "bottom .* 20 is not among"),
    ],
    ids=str,
)
def test_bad_requests_are_rejected(options, message):
    _, composer = catalogue()
    with pytest.raises(ValueError, match=message):
        composer.compose(**({"user": 0, "k": 3} | options))


def test_a_factor_above_those_of_all_items_counts_as_the_largest():
    codes = random_codes(counts=(5, 5, 5), bits=64, scaled=True)
    composer = Composer(codes)
    largest = composer._tables.largest_scale
    width = (len(codes.modalities), codes.bits // 8)
    code = np.random.default_rng(0).integers(0, 256, width, dtype=np.uint8)
    found = [
        composer.compose(0, k=5, fixed={codes.categories[0]: ExternalItem(code, scale)})
        for scale in (
            np.full(width[0], largest, np.float32),
            np.full(width[0], 1e6, np.float32),
        )
    ]
    np.testing.assert_array_equal(found[0].scores, found[1].scores)
    for wrong in (np.nan, np.inf, -1):
        item = ExternalItem(code, np.full(width[0], wrong, np.float32))
        with pytest.raises(InputError, match="finite ones, 0 or more"):
            composer.compose(0, k=5, fixed={codes.categories[0]: item})
