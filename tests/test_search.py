"""Search for stored outfits, against sorting all of them by the artifact's scores."""

import numpy as np
import pytest
from random_codes import clustered_codes, random_codes
from scale import SCALE

from fhn_jax.codes import Scorer
from fhn_jax.retrieval import blocks, kernels
from fhn_jax.retrieval.filters import ExcludeOutfits, MustContain, Only
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.kernels import block_search, jit
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.searcher import Searcher, arrange

NONE = np.empty(0, np.int64)


@pytest.fixture
def tiny_blocks(monkeypatch):
    """Blocks so small that a few outfits make many of all kinds."""
    monkeypatch.setattr(blocks, "_BLOCK", 3)
    monkeypatch.setattr(blocks, "_MIN_GROUP", 2)
    monkeypatch.setattr(block_search, "_FIRST_BLOCKS", 2)


def coarse_codes(rng, *, counts, slots=(0, 1, 2), **changes):
    """Codes of a few numbers that 32 bits hold exactly, so that many outfits tie."""
    bits = int(rng.choice([8, 16]))
    some = np.array([-1, 0, 0.5, 1], np.float32)
    codes = random_codes(
        int(rng.integers(1 << 30)),
        bits=bits,
        counts=counts,
        num_users=3,
        slots=slots,
        names=None,
        lambda_user=rng.choice(some, bits),
        lambda_item=rng.choice(some, bits),
        user_latents=rng.choice(some, (3, bits)),
        **changes,
    )
    if codes.item_scales is None:
        return codes
    scales = {
        m: tuple(rng.choice([0.25, 0.5, 1], n).astype(np.float16) for n in counts)
        for m in codes.modalities
    }
    return random_codes(
        **{name: getattr(codes, name) for name in codes.__dataclass_fields__}
        | {"item_scales": scales}
    )


def some_outfits(rng, codes, count):
    if min(codes.num_items) == 0:
        count = 0
    return np.stack(
        [rng.integers(0, max(codes.num_items[c], 1), count) for c in codes.slots],
        axis=1,
    )


def brute_force(codes, outfits, user, score, k, *, without=(), admits=None):
    """Ids and scores of the best, from a full sort."""
    scores = Scorer(codes).score(score, np.full(len(outfits), user), outfits)
    kept = [
        i
        for i in range(len(outfits))
        if i not in without and (admits is None or admits(outfits[i]))
    ]
    best = sorted(kept, key=lambda i: (-scores[i], i))[:k]
    return best, scores[best]


def random_filters(rng, codes, outfits):
    """Filters for `search`, and the same as arguments of `brute_force`."""
    exclude = rng.choice(len(outfits), len(outfits) // 3, replace=False).tolist()
    categories, must = {}, {}
    for name, count in zip(codes.categories, codes.num_items, strict=True):
        if rng.random() < 0.3:
            chosen = rng.choice(count, int(rng.integers(count + 1)), replace=False)
            categories[name] = chosen.tolist()
        if rng.random() < 0.3 and count:
            must[name] = int(rng.integers(count))

    def admits(outfit):
        by_name = {}
        for category, item in zip(codes.slots, outfit, strict=True):
            by_name.setdefault(codes.categories[category], set()).add(int(item))
        return all(
            by_name[name] <= set(items) for name, items in categories.items()
        ) and all(item in by_name[name] for name, item in must.items())

    return (
        {"filters": [ExcludeOutfits(exclude), Only(categories), MustContain(must)]},
        {"without": set(exclude), "admits": admits},
    )


def random_case(rng, number):
    """A searcher over two segments, its codes, outfits and removed outfits."""
    counts = tuple(int(n) for n in rng.integers(1, 7, 3))
    if number % 40 == 0:
        counts = (*counts[:2], 0)
    codes = coarse_codes(
        rng,
        counts=counts,
        slots=[(0, 1, 2), (0, 0, 1, 2)][number % 2],
        alphabet=["pm1", "01"][number // 2 % 2],
        scaled=number % 3 == 0,
        zero_item_term=number % 11 == 0,
        zero_user_term=number % 13 == 0,
    )
    tables = ItemTables.from_codes(codes)
    outfits = some_outfits(rng, codes, int(rng.integers(0, 60)))
    clusters = [1, 2, 4, None][int(rng.integers(4))]
    layout = blocks.Layout.make(tables.packed, clusters, number)
    ids = np.arange(len(outfits))
    split = int(rng.integers(len(outfits) + 1))
    segments = [
        arrange(tables, layout, outfits[part].astype(np.int32), ids[part])
        for part in (slice(split), slice(split, None))
        if len(ids[part])
    ]
    removed = np.flatnonzero(rng.random(len(outfits)) < 0.2)
    searcher = Searcher(tables, layout, segments, removed, len(outfits))
    return codes, outfits, removed, searcher


@pytest.mark.slow
def test_search_equals_brute_force_on_many_small_catalogues(tiny_blocks):
    cases = 500 * SCALE
    rng = np.random.default_rng(0)
    ties = 0
    for number in range(cases):
        codes, outfits, removed, searcher = random_case(rng, number)
        k = int(rng.choice([1, 3, 10, 100]))
        user = int(rng.integers(3))
        score = ["binary", "asymmetric"][number % 2]
        filters, same = {}, {"without": set()}
        if number % 3 == 2:
            filters, same = random_filters(rng, codes, outfits)
        same["without"] = same["without"] | set(removed.tolist())
        hits = searcher.search(user, k, score=score, **filters)
        ids, scores = brute_force(codes, outfits, user, score, k, **same)
        assert hits.outfits.tolist() == ids, number
        np.testing.assert_allclose(hits.scores, scores, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(hits.items, outfits[ids])
        ties += len(scores) - len(np.unique(scores))
    assert ties > cases / 2


@pytest.fixture
def codes():
    return random_codes(counts=(9, 8, 7), num_users=40, bits=64)


@pytest.fixture
def outfits(codes):
    return some_outfits(np.random.default_rng(0), codes, 3000)


@pytest.fixture
def index(tmp_path, codes, outfits):
    return OutfitIndex.build(tmp_path / "index", codes, outfits)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def assert_finds(index, codes, outfits, removed=(), k=50):
    """The index finds what is left of the outfits, for some users."""
    for user, score in ((0, "binary"), (5, "asymmetric")):
        hits = index.search(user, k, score=score)
        # Integers decide, since float32 scores of unequal outfits may be equal.
        tables = ItemTables.from_codes(codes)
        affinities = tables.affinities(tables.user_vectors(user, score))
        units = tables.compatibilities(outfits).astype(np.int64)
        for slot, category in enumerate(codes.slots):
            units += affinities[category][0][outfits[:, slot]]
        units[list(removed)] = -(2**40)
        order = np.lexsort((np.arange(len(units)), -units))
        expected = order[: min(k, len(outfits) - len(removed))]
        np.testing.assert_array_equal(hits.outfits, expected)
        np.testing.assert_array_equal(hits.items, outfits[expected])
        scorer = Scorer(codes).score(
            score, np.full(len(expected), user), outfits[expected]
        )
        np.testing.assert_allclose(hits.scores, scorer, atol=tables.error)


def test_an_index_finds_the_best_outfits_with_their_full_score(index, codes, outfits):
    assert_finds(index, codes, outfits)
    assert len(index) == 3000


def test_a_vector_finds_what_its_user_finds(index, codes):
    for score in ("binary", "asymmetric"):
        by_id = index.search(5, 20, score=score)
        by_vector = index.search(codes.user_latents[5], 20, score="asymmetric")
        if score == "asymmetric":
            np.testing.assert_array_equal(by_id.outfits, by_vector.outfits)
        signs = codes.user_codes()[5].astype(np.float32)
        by_signs = index.search(signs, 20, score=score)
        if score == "binary":
            np.testing.assert_array_equal(by_id.outfits, by_signs.outfits)


def test_a_batch_finds_what_each_user_finds_alone(index, codes):
    users = np.arange(40)
    seen = [ExcludeOutfits([user, user + 1]) for user in range(40)]
    for of_batch in (users, codes.user_latents):
        together = index.search_batch(of_batch, 7, filters=[[each] for each in seen])
        for user, hits in zip(users, together, strict=True):
            alone = index.search(int(user), 7, filters=seen[user])
            np.testing.assert_array_equal(hits.outfits, alone.outfits)
            np.testing.assert_array_equal(hits.scores, alone.scores)
            np.testing.assert_array_equal(hits.items, alone.items)
    assert index.search_batch(users[:0]) == []


def test_an_index_opens_for_other_users_of_the_same_items(index, tmp_path, codes):
    more = random_codes(
        **{name: getattr(codes, name) for name in codes.__dataclass_fields__}
        | {"users": codes.users[:1], "user_latents": codes.user_latents[:1]}
    )
    opened = OutfitIndex.open(tmp_path / "index", more)
    np.testing.assert_array_equal(opened.search(0).outfits, index.search(0).outfits)


def test_an_index_grows_shrinks_and_is_compacted(tmp_path, codes, outfits):
    folder = tmp_path / "index"
    index = OutfitIndex.build(folder, codes, outfits[:2000])
    assert index.append(outfits[2000:2001]) == range(2000, 2001)
    assert index.append(outfits[2001:]) == range(2001, 3000)
    assert index.append(outfits[:0]) == range(3000, 3000)
    assert_finds(index, codes, outfits)
    best = index.search(0, 5, score="binary").outfits
    removed = {*range(500, 1500), 2000, *best.tolist()}
    index.remove(sorted(removed))
    index.remove([])
    for each in (index, OutfitIndex.open(folder, codes)):
        assert_finds(each, codes, outfits, removed)
        assert len(each) == 3000 - len(removed)
    before = index.num_bytes
    index.compact()
    assert index.num_bytes < before
    assert sum(path.is_dir() for path in folder.iterdir()) == 2  # layout, one segment
    for each in (index, OutfitIndex.open(folder, codes)):
        each.verify()
        assert_finds(each, codes, outfits, removed)
    # Ids are never used again.
    assert index.append(outfits[:1]) == range(3000, 3001)
    with pytest.raises(ValueError, match="outfit 2000 has been removed already"):
        index.remove([2000])


def test_all_outfits_may_be_removed(tmp_path, codes, outfits):
    index = OutfitIndex.build(tmp_path / "index", codes, outfits[:10])
    index.remove(range(10))
    assert len(index.search(0)) == len(index) == 0
    index.compact()
    assert len(index.search(0)) == len(index) == 0
    assert index.append(outfits[:3]) == range(10, 13)
    assert sorted(index.search(0).outfits) == [10, 11, 12]


def test_an_index_may_be_empty_and_a_category_too(tmp_path):
    codes = random_codes(counts=(4, 0, 3))
    index = OutfitIndex.build(tmp_path / "index", codes, np.zeros((0, 3), int))
    hits = index.search(0)
    assert hits.items.shape == (0, 3) and len(hits) == 0
    assert hits.outfits.dtype == np.int64 and hits.scores.dtype == np.float64


def test_filters_admit_what_they_say(index, outfits):
    everything = index.search(3, 3000).outfits
    seen = ExcludeOutfits(everything[:10])
    np.testing.assert_array_equal(
        index.search(3, 5, filters=seen).outfits, everything[10:15]
    )

    def keep(condition):
        return [i for i in everything if condition(outfits[i])]

    hits = index.search(3, 3000, filters=MustContain({"bottom": 2, "shoe": [1]}))
    assert hits.outfits.tolist() == keep(lambda o: o[1] == 2 and o[2] == 1)
    hits = index.search(3, 3000, filters=Only({"top": [1, 2, 3], "shoe": [0]}))
    assert hits.outfits.tolist() == keep(lambda o: o[0] in (1, 2, 3) and o[2] == 0)
    assert len(index.search(3, filters=MustContain({"bottom": [1, 2]}))) == 0
    assert len(index.search(3, filters=Only({"bottom": []}))) == 0
    # No wish is no filter.
    hits = index.search(3, 5, filters=[MustContain({"top": []}), Only({})])
    np.testing.assert_array_equal(hits.outfits, everything[:5])


def test_what_is_excluded_by_its_items_costs_no_wider_search(
    index, outfits, monkeypatch
):
    widths = []
    empty = kernels.TopK.empty
    monkeypatch.setattr(kernels.TopK, "empty", lambda k: widths.append(k) or empty(k))
    best = index.search(3, 500)
    found = index.search(3, 10, filters=ExcludeOutfits(best.items[:490]))
    assert found.outfits.tolist() == best.outfits[490:].tolist()
    assert widths == [500, 10]


def test_either_top_may_be_the_one_that_must_be_there(tmp_path):
    codes = random_codes(counts=(6, 5, 4), slots=(0, 0, 1, 2))
    outfits = some_outfits(np.random.default_rng(2), codes, 500)
    index = OutfitIndex.build(tmp_path / "index", codes, outfits)
    everything = index.search(0, 500).outfits
    hits = index.search(0, 500, filters=MustContain({"top": [1, 4]}))
    expected = [i for i in everything if {1, 4} <= set(outfits[i, :2].tolist())]
    assert hits.outfits.tolist() == expected and expected
    hits = index.search(0, 500, filters=Only({"top": [1, 4]}))
    expected = [i for i in everything if set(outfits[i, :2].tolist()) <= {1, 4}]
    assert hits.outfits.tolist() == expected and expected


def test_categories_of_more_items_than_16_bits_number(tmp_path):
    rng = np.random.default_rng(0)
    codes = random_codes(counts=(70_000, 3, 66_000), bits=8, names=None)
    outfits = some_outfits(rng, codes, 2000)
    outfits[:4, 0] = [0, 65_535, 65_536, 69_999]
    index = OutfitIndex.build(tmp_path / "index", codes, outfits)
    assert_finds(index, codes, outfits, k=2000)


def test_most_blocks_of_clustered_codes_are_pruned(monkeypatch):
    codes = clustered_codes(counts=(200, 200, 200), styles=4)
    outfits = some_outfits(np.random.default_rng(0), codes, 30_000)
    tables = ItemTables.from_codes(codes)
    layout = blocks.Layout.make(tables.packed, 4, seed=0)
    segment = arrange(tables, layout, outfits.astype(np.int32), np.arange(len(outfits)))
    found, search_blocks = [], kernels.search_blocks

    def spied(blocks, affinities, bounds, filters, best, place):
        search_blocks(blocks, affinities, bounds, filters, best, place)
        found.append(best.counts[1])

    monkeypatch.setattr(kernels, "search_blocks", spied)
    pruned = Searcher(tables, layout, [segment], NONE, len(outfits))
    pruned.search_batch(np.arange(6), 10)
    num_blocks = len(segment.tops)
    assert num_blocks > 200
    assert 0 < np.mean(found) < 0.2 * num_blocks
    assert_finds(pruned, codes, outfits)
    # All outfits are asked for: nothing can be pruned.
    pruned.search(0, len(outfits))
    assert found[-1] == num_blocks


def test_clusters_hold_like_codes_together():
    rng = np.random.default_rng(0)
    styles = rng.integers(0, 256, (5, 16), dtype=np.uint8)
    style = rng.integers(0, 5, 400)
    noise = np.packbits(rng.random((400, 128)) < 0.05, axis=1)
    labels = blocks.cluster(styles[style] ^ noise, 5, seed=0)
    pairs = set(zip(style.tolist(), labels.tolist(), strict=True))
    assert len(pairs) == 5


def test_fewer_different_codes_than_clusters():
    packed = np.repeat(np.array([[1], [2]], np.uint8), 50, axis=0)
    assert len(np.unique(blocks.cluster(packed, 8, seed=0))) == 2


def test_an_outfit_takes_at_most_15_bytes(tmp_path):
    codes = random_codes(counts=(50, 40, 30))
    outfits = some_outfits(np.random.default_rng(0), codes, 20_000)
    index = OutfitIndex.build(tmp_path / "index", codes, outfits)
    assert index.num_bytes <= 15 * 20_000


def test_building_measures_how_to_cluster(index):
    assert set(index.trials) == {"256", "64", "24"}
    assert all(seconds > 0 for seconds in index.trials.values())


def test_loops_are_compiled_where_no_folder_can_keep_them(monkeypatch):
    compile_loop = jit.numba.njit

    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_loop(**options)

    monkeypatch.setattr(jit.numba, "njit", njit)
    loop = jit.njit(lambda number: number + 1)
    assert loop(1) == 2
