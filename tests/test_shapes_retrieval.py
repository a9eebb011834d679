"""Search and composition of outfits of several shapes, against all of them sorted."""

import itertools

import numpy as np
import pytest
from random_codes import SHOP, made_codes, outfits_of, random_codes, shop_codes
from scale import SCALE

from fhn_jax.codes import Scorer, by_slots
from fhn_jax.retrieval import blocks
from fhn_jax.retrieval.composer import Composer
from fhn_jax.retrieval.filters import (
    ExcludeOutfits,
    HasCategory,
    MustContain,
    Only,
    Wardrobe,
)
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.searcher import Searcher, arrange_each

NONE = np.empty(0, np.int64)


def some_templates(rng):
    """Four templates of six slots, each slot in one of them; some of one slot or two."""
    while True:
        sizes = [1, 2, *rng.integers(1, 7, 2)]
        some = {tuple(sorted(rng.permutation(6)[:n].tolist())) for n in sizes}
        if len(some) == 4 and len(set().union(*some)) == 6:
            return tuple(sorted(some))


def some_codes(rng, most=4):
    counts = rng.integers(1, most + 1, 6)
    templates = some_templates(rng)
    return made_codes(rng, tuple(range(6)), SHOP, counts, templates=templates)


def units_of(tables, user, score, items):
    """Scores of outfits in units, row by row, near those of the artifact."""
    affinities = tables.affinities(tables.user_vectors(user, score))
    units = np.zeros(len(items), np.int64)
    numbers = {each.slots: n for n, each in enumerate(tables.templates)}
    for slots, rows in by_slots(items):
        number = numbers[slots]
        own = sum(affinities[s][0, items[rows, s]].astype(np.int64) for s in slots)
        units[rows] = own * tables.templates[number].per_item
        units[rows] += tables.compatibilities(items[rows][:, list(slots)], number)
    scores = Scorer(tables.codes).score(score, np.full(len(items), user), items)
    np.testing.assert_allclose(
        tables.to_scores(units), scores, rtol=1e-6, atol=tables.error + 1e-6
    )
    return units


def every_outfit(codes):
    """All outfits of all templates, in the order of templates and ids."""
    rows = [
        [dict(zip(each, ids, strict=True)).get(s, -1) for s in range(len(codes.slots))]
        for each in codes.templates
        for ids in itertools.product(*(range(codes.num_items[s]) for s in each))
    ]
    return np.array(rows)


def some_filters(rng, codes, outfits, held=(), chance=0.2):
    """Filters, and whether an outfit meets them; of slots and items `held` it does."""
    filters, tests = [], []
    for slot, name in enumerate(codes.categories):
        if rng.random() < chance:
            ids = np.flatnonzero(rng.random(codes.num_items[slot]) < 0.7)
            filters.append(Only({name: ids}))
            may = {(slot, i) for i in (-1, *ids.tolist())} | set(held)
            tests.append(lambda o, slot=slot, may=may: (slot, int(o[slot])) in may)
    if rng.random() < chance:
        slot = int(rng.integers(6))
        item = int(rng.integers(codes.num_items[slot]))
        filters.append(MustContain({codes.categories[slot]: item}))
        tests.append(lambda o: o[slot] == item)
    if rng.random() < chance:
        there = int(rng.integers(6))
        filters.append(HasCategory([codes.categories[there]]))
        tests.append(lambda o: o[there] >= 0)
    if rng.random() < 2 * chance and len(outfits):
        gone = outfits[rng.integers(len(outfits), size=5)]
        filters.append(ExcludeOutfits(gone))
        tests.append(lambda o: o.tolist() not in gone.tolist())
    return filters, lambda outfit: all(test(outfit) for test in tests)


def chosen_templates(rng, codes):
    """Some templates by name, or None for all; and their slots."""
    if rng.random() < 0.6:
        return None, codes.templates
    some = rng.permutation(4)[: rng.integers(1, 4)]
    names = [rng.permutation(codes.template_names[n]).tolist() for n in some]
    return names, [codes.templates[n] for n in some]


def slots_of(outfit):
    return tuple(np.flatnonzero(outfit >= 0).tolist())


@pytest.mark.slow
def test_search_of_four_templates_equals_a_full_sort(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", 3)
    monkeypatch.setattr(blocks, "_MIN_GROUP", 2)
    rng = np.random.default_rng(0)
    ties = 0
    for number in range(20 * SCALE):
        codes = some_codes(rng, most=6)
        tables = ItemTables.from_codes(codes)
        outfits = outfits_of(rng, codes, int(rng.integers(1, 80)))
        clusters = [1, 2, None][int(rng.integers(3))]
        layout = blocks.Layout.make(tables.packed, clusters, number)
        ids, split = np.arange(len(outfits)), int(rng.integers(len(outfits) + 1))
        segments = [
            segment
            for part in (slice(split), slice(split, None))
            for segment in arrange_each(
                tables, layout, outfits[part].astype(np.int32), ids[part]
            )
        ]
        removed = np.flatnonzero(rng.random(len(outfits)) < 0.2)
        searcher = Searcher(tables, layout, segments, removed, len(outfits))
        filters, admits = some_filters(rng, codes, outfits)
        names, templates = chosen_templates(rng, codes)
        seen = rng.integers(len(outfits), size=2).tolist() if number % 3 == 0 else []
        score = ("asymmetric", "binary")[number % 2]
        k = int(rng.choice([1, 3, 10, 100]))
        hits = searcher.search(
            number % 2,
            k,
            score=score,
            filters=[*filters, ExcludeOutfits(seen)],
            templates=names,
        )
        units = units_of(tables, number % 2, score, outfits)
        left = [
            i
            for i in np.lexsort((ids, -units)).tolist()
            if i not in {*removed.tolist(), *seen}
            and slots_of(outfits[i]) in templates
            and admits(outfits[i])
        ]
        assert hits.outfits.tolist() == left[:k], number
        np.testing.assert_array_equal(hits.scores, tables.to_scores(units[left[:k]]))
        np.testing.assert_array_equal(hits.items, outfits[left[:k]])
        ties += len(hits.scores) - len(np.unique(hits.scores))
    assert ties > 20


@pytest.mark.slow
def test_composition_of_four_templates_equals_a_full_sort():
    rng = np.random.default_rng(0)
    ties = refused = 0
    for number in range(25 * SCALE):
        codes = some_codes(rng)
        tables = ItemTables.from_codes(codes)
        outfits = every_outfit(codes)
        score = ("asymmetric", "binary")[number % 2]
        units = units_of(tables, number % 2, score, outfits)
        fixed, held = {}, set()
        if rng.random() < 0.4:
            slot = int(rng.integers(6))
            item = int(rng.integers(codes.num_items[slot]))
            fixed, held = {codes.categories[slot]: item}, {(slot, item)}
        filters, admits = some_filters(rng, codes, outfits, held)
        names, templates = chosen_templates(rng, codes)
        order = np.argsort(-units, kind="stable")
        left = [
            i
            for i in order.tolist()
            if slots_of(outfits[i]) in templates
            and admits(outfits[i])
            and all(outfits[i, slot] == item for slot, item in held)
        ]
        k = int(rng.choice([1, 3, 10, 3000]))
        options = {"score": score, "filters": filters, "templates": names}
        try:
            got = Composer(tables).compose(number % 2, k, fixed=fixed, **options)
        except ValueError:
            assert not left
            refused += 1
            continue
        np.testing.assert_array_equal(got.items, outfits[left[:k]])
        np.testing.assert_array_equal(got.scores, tables.to_scores(units[left[:k]]))
        ties += len(got) - len(np.unique(got.scores))
    assert ties > 25 and refused < 15 * SCALE


@pytest.fixture(scope="module")
def codes():
    return shop_codes(counts=(9, 8, 7, 6, 5, 12), bits=64)


@pytest.fixture(scope="module")
def outfits(codes):
    return outfits_of(np.random.default_rng(0), codes, 2000)


def assert_finds(index, codes, outfits, removed=(), k=100):
    tables = ItemTables.from_codes(codes)
    for user, score in ((0, "binary"), (5, "asymmetric")):
        units = units_of(tables, user, score, outfits)
        units[list(removed)] = -(2**40)
        expected = np.lexsort((np.arange(len(units)), -units))[:k]
        hits = index.search(user, k, score=score)
        np.testing.assert_array_equal(hits.outfits, expected)
        np.testing.assert_array_equal(hits.items, outfits[expected])


@pytest.mark.slow
def test_an_index_of_several_templates_grows_shrinks_and_is_compacted(
    tmp_path, codes, outfits
):
    folder = tmp_path / "index"
    index = OutfitIndex.build(folder, codes, outfits[:1200])
    assert index.append(outfits[1200:1201]) == range(1200, 1201)
    assert index.append(outfits[1201:]) == range(1201, 2000)
    assert_finds(index, codes, outfits)
    removed = {*range(300, 900), 1200, *index.search(0, 5).outfits.tolist()}
    index.remove(sorted(removed))
    assert_finds(OutfitIndex.open(folder, codes), codes, outfits, removed)
    index.compact()
    assert sum(path.is_dir() for path in folder.iterdir()) == 5  # layout, templates
    for each in (index, OutfitIndex.open(folder, codes)):
        each.verify()
        assert_finds(each, codes, outfits, removed)
        assert len(each) == 2000 - len(removed)
    parts = [index.part(number, 3).search(0, 50) for number in range(3)]
    ids = np.concatenate([part.outfits for part in parts])
    assert set(index.search(0, 50).outfits) <= set(ids)


def test_an_index_of_other_templates_of_the_same_items_is_refused(
    tmp_path, codes, outfits
):
    OutfitIndex.build(tmp_path / "index", codes, outfits)
    fields = {name: getattr(codes, name) for name in codes.__dataclass_fields__}
    other = random_codes(**fields | {"templates": ((0, 1, 2, 4), (2, 3), (5,))})
    with pytest.raises(ValueError, match="is an index of other codes"):
        OutfitIndex.open(tmp_path / "index", other)


def test_rows_of_no_template_and_unknown_templates_are_refused(codes, outfits):
    wrong = outfits.copy()
    wrong[7] = [0, 1, -1, -1, -1, -1]
    with pytest.raises(ValueError, match="outfit 7 has items .* expected a template"):
        Searcher.in_memory(codes, wrong)
    wrong[7, 0] = -2
    with pytest.raises(ValueError, match="outfit 7: top .* to 8, or -1 for none"):
        Searcher.in_memory(codes, wrong)
    searcher = Searcher.in_memory(codes, outfits)
    for find in (searcher.search, Composer(codes).compose):
        for templates in ([("top", "shoe")], ["bag"], []):
            with pytest.raises(ValueError, match="templates is .* expected some of"):
                find(0, templates=templates)


def test_a_wardrobe_without_dresses_makes_outfits_without(codes):
    composer = Composer(codes)
    wardrobe = {"top": [3], "bottom": [0, 7], "shoe": [4, 5]}
    got = composer.compose(0, 50, filters=Wardrobe(wardrobe))
    assert len(got) == 4
    assert (got.items[:, :3] >= 0).all() and (got.items[:, 3:] == -1).all()
    with pytest.raises(ValueError, match="there is no bottom to choose from"):
        composer.compose(0, filters=Wardrobe({"top": [3]}))


def test_fixed_items_decide_on_the_templates(codes):
    composer = Composer(codes)
    with_dress = composer.compose(0, 20, fixed={"dress": 2})
    assert (with_dress.items[:, 3] == 2).all() and len(with_dress) == 7
    assert (with_dress.items[:, [0, 1, 4, 5]] == -1).all()
    with pytest.raises(ValueError, match=r"no template has all of \['top', 'dress'\]"):
        composer.compose(0, fixed={"dress": 2, "top": 1})
    with pytest.raises(
        ValueError, match="2 items are fixed in dress, expected at most 1"
    ):
        composer.compose(0, fixed={"dress": [2, 3]})
    with pytest.raises(ValueError, match="2 items are fixed in dress"):
        composer.compose(0, filters=MustContain({"dress": [2, 3]}))


def test_diversity_counts_items_over_all_templates(codes):
    got = Composer(codes).compose(1, 30, at_most={"item": 2})
    assert got.is_greedy and len({slots_of(items) for items in got.items}) > 1
    for column in got.items.T:
        assert np.unique(column[column >= 0], return_counts=True)[1].max() <= 2
    assert (np.diff(got.scores) <= 0).all()


@pytest.mark.parametrize(
    "slots", [(0, 1, 2, 3, 4), (0, 1, 2, 3, 4, 5), (0, 0, 1, 2, 3)]
)
def test_one_template_of_five_or_six_slots_is_composed_exactly(slots):
    names = SHOP[: max(slots) + 1]
    counts = tuple(range(6, 6 - len(names), -1))
    codes = random_codes(counts=counts, categories=names, slots=slots, bits=8)
    tables = ItemTables.from_codes(codes)
    every = np.array(list(itertools.product(*(range(counts[c]) for c in slots))))
    if len(set(slots)) < len(slots):
        every = every[every[:, 0] <= every[:, 1]]
    units = tables.compatibilities(every).astype(np.int64)
    affinities = tables.affinities(tables.user_vectors(0))
    for slot, category in enumerate(slots):
        units += affinities[category][0, every[:, slot]]
    best = np.argsort(-units, kind="stable")[:20]
    got = Composer(tables).compose(0, 20)
    np.testing.assert_array_equal(got.items, every[best])
    np.testing.assert_array_equal(got.scores, tables.to_scores(units[best]))
