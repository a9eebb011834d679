"""Filters by attributes, caps and what is left out, against reading the whole ranking."""

import itertools

import numpy as np
import pytest
from random_codes import outfits_of, random_codes, shop_codes
from scale import SCALE

from fhn_jax.codes import Scorer
from fhn_jax.errors import InputError
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.composer import Composer
from fhn_jax.retrieval.filters import (
    ExcludeOutfits,
    MustContain,
    Only,
    Seen,
    Without,
)
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.searcher import Searcher
from fhn_jax.retrieval.where import Where

BRANDS = ("acme", "bolt", "crane", None)
SEASONS = ("summer", "winter")


def made_attributes(rng, codes):
    count = sum(codes.num_items)
    return {
        "price": [
            None if rng.random() < 0.1 else int(rng.integers(5, 100)) + 0.99
            for _ in range(count)
        ],
        "in_stock": rng.random(count) < 0.7,
        "brand": rng.choice(np.array(BRANDS, object), count).tolist(),
        "season": rng.choice(SEASONS, count).tolist(),
    }


def rows_of_items(codes, values):
    """The attributes of each item, by category and id."""
    starts = np.cumsum([0, *codes.num_items])
    return {
        (c, i): {name: of[starts[c] + i] for name, of in values.items()}
        for c, count in enumerate(codes.num_items)
        for i in range(count)
    }


def has(item):
    return item["price"] is not None


# What is asked, and the same as a function of category and attributes.
CONDITIONS = (
    ("price<=60.99", lambda c, a: has(a) and a["price"] <= 60.99),
    ("price > 20", lambda c, a: has(a) and a["price"] > 20),
    ("in_stock", lambda c, a: bool(a["in_stock"])),
    ("not in_stock", lambda c, a: not a["in_stock"]),
    ("brand=acme", lambda c, a: a["brand"] == "acme"),
    ("brand!=bolt", lambda c, a: a["brand"] != "bolt"),
    ("brand in {acme, 'crane'}", lambda c, a: a["brand"] in ("acme", "crane")),
    ("season not in {winter}", lambda c, a: a["season"] != "winter"),
    ("shoe:price<50", lambda c, a: c != "shoe" or (has(a) and a["price"] < 50)),
    ("shoe:brand in {acme}", lambda c, a: c != "shoe" or a["brand"] == "acme"),
)


def ranking(codes, outfits, user):
    """Ids of all outfits, the best first; of equal scores the lower id."""
    scores = Scorer(codes).score("asymmetric", np.full(len(outfits), user), outfits)
    return sorted(range(len(outfits)), key=lambda i: (-scores[i], i))


def pieces(codes, outfit):
    return {(c, i) for c, i in zip(codes.slots, outfit.tolist(), strict=True) if i >= 0}


def read_on(codes, outfits, order, items, k, at_most, held=()):
    """The rule of caps, word for word."""
    taken, counts = [], {}
    for number in order:
        own = pieces(codes, outfits[number]) - set(held)
        values = {
            (name, piece if name == "item" else items[piece][name])
            for name in at_most
            for piece in own
            if name == "item" or items[piece][name] is not None
        }
        if len(taken) < k and all(counts.get(v, 0) < at_most[v[0]] for v in values):
            taken.append(number)
            for value in values:
                counts[value] = counts.get(value, 0) + 1
    return taken


@pytest.fixture(scope="module")
def shop():
    """Codes of several shapes with ties, stored outfits, attributes, and an index."""
    rng = np.random.default_rng(3)
    codes = shop_codes(3, counts=(9, 8, 7, 6, 5, 4), bits=8)
    outfits = np.unique(outfits_of(rng, codes, 400), axis=0)
    rng.shuffle(outfits)
    return codes, outfits, made_attributes(rng, codes)


@pytest.mark.slow
def test_search_with_conditions_and_caps_equals_reading_the_whole_ranking(shop):
    codes, outfits, values = shop
    rng = np.random.default_rng(0)
    items = rows_of_items(codes, values)
    attributes = Attributes.in_memory(codes, values)
    searcher = Searcher.in_memory(codes, outfits, attributes)
    answered = 0
    for _ in range(60):
        some = [
            CONDITIONS[n] for n in rng.choice(len(CONDITIONS), rng.integers(3), False)
        ]
        seen = outfits[rng.choice(len(outfits), 30, False)]
        caps = {
            n: int(rng.integers(1, 4)) for n in ("item", "brand", "season", "price")
        }
        at_most = {n: caps[n] for n in rng.choice([*caps], rng.integers(3), False)}
        user, k = int(rng.integers(6)), int(rng.choice([1, 5, 40]))
        gone = set(map(tuple, seen.tolist()))
        order = [
            n
            for n in ranking(codes, outfits, user)
            if tuple(outfits[n].tolist()) not in gone
            and all(
                test(codes.categories[c], items[c, i])
                for _, test in some
                for c, i in pieces(codes, outfits[n])
            )
        ]
        expected = read_on(codes, outfits, order, items, k, at_most)
        filters = [Where(*(text for text, _ in some)), ExcludeOutfits(seen)]
        got = searcher.search(user, k, filters=filters, at_most=at_most)
        assert got.outfits.tolist() == expected
        assert (outfits[got.outfits] == got.items).all()
        answered += bool(expected)
    assert answered > 30


def all_rows(codes):
    """Every outfit there can be, in the order of templates and ids."""
    for template in codes.templates:
        counts = [codes.num_items[codes.slots[slot]] for slot in template]
        for items in itertools.product(*map(range, counts)):
            row = np.full(len(codes.slots), -1)
            row[list(template)] = items
            yield row


def test_composing_with_conditions_and_caps_equals_reading_the_whole_ranking():
    rng = np.random.default_rng(1)
    codes = shop_codes(5, counts=(5, 4, 4, 5, 3, 4), bits=8)
    values = made_attributes(rng, codes)
    items = rows_of_items(codes, values)
    rows = np.array([*all_rows(codes)])
    composer = Composer(codes, attributes=Attributes.in_memory(codes, values))
    lengths = set()
    for _ in range(40):
        some = [
            CONDITIONS[n] for n in rng.choice(len(CONDITIONS), rng.integers(3), False)
        ]
        caps = {
            n: int(rng.integers(1, 4)) for n in ("item", "brand", "season", "price")
        }
        at_most = {n: caps[n] for n in rng.choice([*caps], rng.integers(3), False)}
        user, k = int(rng.integers(6)), int(rng.choice([1, 5, 30]))
        order = [
            n
            for n in ranking(codes, rows, user)
            if all(
                test(codes.categories[c], items[c, i])
                for _, test in some
                for c, i in pieces(codes, rows[n])
            )
        ]
        expected = read_on(codes, rows, order, items, k, at_most)
        filters = Where(*(text for text, _ in some))
        got = composer.compose(user, k, filters=filters, at_most=at_most)
        assert got.items.tolist() == rows[expected].tolist()
        assert got.is_greedy == bool(at_most)
        lengths.add(len(got))
    assert len(lengths) > 5


def test_composing_says_which_condition_leaves_nothing(shop):
    codes, _, values = shop
    composer = Composer(codes, attributes=Attributes.in_memory(codes, values))
    filters = [Where("price<30", "price>=30"), Only({"top": [1]})]
    got = composer.compose(0, 3, filters=filters)
    assert (len(got), got.emptied_by) == (0, "price>=30")
    held = [MustContain({"dress": 1}), Where("dress:price<0")]
    assert composer.compose(0, 3, filters=held).emptied_by == "dress:price<0"
    against = [MustContain({"dress": 1}), Only({"dress": [2]}), Where("price>0")]
    assert composer.compose(0, 3, filters=against).emptied_by == "only dress 2"
    with pytest.raises(InputError, match="did you mean 'price'"):
        composer.compose(0, 3, filters=[Where("price<0"), Where("prise<0")])
    nothing = [Only(dict.fromkeys(codes.categories, [])), Where("price<0")]
    with pytest.raises(InputError, match="there is no top to choose from"):
        composer.compose(0, 3, filters=nothing)


def test_a_batch_of_users_gets_what_each_alone_gets(shop, tmp_path):
    codes, outfits, values = shop
    index = OutfitIndex.build(tmp_path / "index", codes, outfits, attributes=values)
    users = np.arange(6)
    filters = [
        [Where("price<=70"), ExcludeOutfits(outfits[user : user + 20])]
        for user in users
    ]
    at_most = {"brand": 3, "item": 1}
    together = index.search_batch(users, 8, filters=filters, at_most=at_most)
    for user, hits in enumerate(together):
        alone = index.search(user, 8, filters=filters[user], at_most=at_most)
        assert hits.outfits.tolist() == alone.outfits.tolist()
        assert len(hits)


def test_items_that_all_results_have_do_not_count(shop):
    codes, outfits, values = shop
    searcher = Searcher.in_memory(codes, outfits, Attributes.in_memory(codes, values))
    shoe = int(outfits[outfits[:, 2] >= 0][0, 2])
    order = [n for n in ranking(codes, outfits, 1) if outfits[n, 2] == shoe]
    at_most = {"item": 1, "brand": 2}
    expected = read_on(
        *(codes, outfits, order, rows_of_items(codes, values), 20, at_most),
        held=[(2, shoe)],
    )
    got = searcher.search(1, 20, filters=MustContain({"shoe": shoe}), at_most=at_most)
    assert got.outfits.tolist() == expected
    assert len(expected) > 1


def test_allow_and_deny_lists(shop):
    codes, outfits, _ = shop
    searcher = Searcher.in_memory(codes, outfits)
    filters = [Without({"shoe": [0, 3]}), Only({"top": [1, 2, 5]})]
    expected = [
        n
        for n in ranking(codes, outfits, 2)
        if outfits[n, 2] not in (0, 3) and outfits[n, 0] in (-1, 1, 2, 5)
    ]
    assert searcher.search(2, 999, filters=filters).outfits.tolist() == expected


def test_an_empty_answer_names_the_filter_that_emptied_it(shop):
    codes, outfits, values = shop
    searcher = Searcher.in_memory(codes, outfits, Attributes.in_memory(codes, values))
    cheap_and_dear = Where("price<=30", "in_stock", "price>90")
    hits = searcher.search(0, 3, filters=[Only({"top": range(9)}), cheap_and_dear])
    assert (len(hits), hits.emptied_by) == (0, "price>90")
    assert searcher.search(0, 3, filters=Where("price<1")).emptied_by == "price<1"
    everything = ExcludeOutfits(np.arange(len(outfits)))
    by = searcher.search(0, 3, filters=everything).emptied_by
    assert by == f"without {len(outfits)} outfits"
    assert searcher.search(0, 3, filters=Where("in_stock")).emptied_by is None
    capped = searcher.search_batch(
        np.arange(2), filters=[[], [Where("price<1")]], at_most={"item": 1}
    )
    assert [each.emptied_by for each in capped] == [None, "price<1"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("prise<=80", "no attribute 'prise'.*did you mean 'price'"),
        ("shoes:price<=80", "'shoes', which is no category.*did you mean 'shoe'"),
        ("shoe:prise<=80", "no attribute 'prise'.*did you mean 'price'"),
        ("price<=cheap", "price is a number, and 'cheap' is none"),
        ("brand<=acme", "brand is a text, which <= does not compare"),
        ("in_stock=perhaps", "in_stock is a boolean, and 'perhaps' is none"),
        ("brand=akme", "no item has brand 'akme'.*did you mean 'acme'"),
        ("price", "price is a number, and 'true' is none"),
        ("season in summer", "no condition"),
        ("season in {summer,,winter}", "no condition"),
        ("<=80", "no condition"),
        ("price<=", "no condition"),
        ("", "no condition"),
    ],
)
def test_conditions_that_make_no_sense_say_why(shop, text, message):
    codes, outfits, values = shop
    searcher = Searcher.in_memory(codes, outfits, Attributes.in_memory(codes, values))
    with pytest.raises(InputError, match=message):
        searcher.search(0, filters=Where(text))


def test_nothing_seen_nothing_sold_out_and_nothing_twice_for_any_user():
    """The bar: with TEST_SCALE=17, 100,000 answers of 1,020 users."""
    rng = np.random.default_rng(4)
    users, k = 60 * SCALE, 100
    codes = random_codes(4, counts=(150, 120, 100), num_users=users)
    outfits = np.unique(rng.integers(0, 100, (60_000, 3)), axis=0)
    attributes = Attributes.in_memory(codes, made_attributes(rng, codes))
    values = attributes.values()
    searcher = Searcher.in_memory(codes, outfits, attributes)
    who = rng.integers(users, size=50 * users)
    owned = rng.integers(len(outfits), size=len(who))
    seen = Seen.of(who, outfits[owned], users)
    limits = rng.integers(50, 105, users)
    brands = rng.choice(BRANDS[:3], users)
    filters = [
        [
            *seen.without(user),
            Where("in_stock", f"price<={limits[user]}", f"shoe:brand!={brands[user]}"),
        ]
        for user in range(users)
    ]
    count = 0
    for at_most in ({}, {"item": 12}):
        some = rng.choice(users, users // 2, False)
        of_some = [filters[user] for user in some]
        found = searcher.search_batch(some, k, filters=of_some, at_most=at_most)
        for user, hits in zip(some, found, strict=True):
            items = hits.items + np.array([0, 150, 270])
            assert len(np.unique(hits.items, axis=0)) == len(hits)
            assert not np.isin(hits.outfits, owned[who == user]).any()
            assert np.array(values["in_stock"])[items].all()
            assert (np.array(values["price"], float)[items] <= limits[user]).all()
            assert not (np.array(values["brand"])[items[:, 2]] == brands[user]).any()
            if at_most and len(hits):
                assert np.bincount(items.ravel()).max() <= 12
            count += len(hits)
    assert count > 0.9 * k * users
