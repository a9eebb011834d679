"""Items and outfits as vectors, against the artifact's scores; and in Qdrant."""

import sys

import numpy as np
import pytest
from random_codes import outfits_of, random_codes, shop_codes

from fhn_jax.codes import Codes, Scorer
from fhn_jax.integrations.qdrant import OutfitCollection
from fhn_jax.integrations.vectors import item_vectors, outfit_vectors, query_vectors
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.filters import (
    ExcludeOutfits,
    HasCategory,
    MustContain,
    Only,
    Wardrobe,
)
from fhn_jax.retrieval.searcher import Searcher
from fhn_jax.retrieval.where import Where

# Float32 sums of up to some hundred numbers, of scores up to about 20.
TOLERANCE = {"rtol": 1e-6, "atol": 2e-5}
CODES = random_codes(scaled=True, counts=(9, 7, 5), num_users=6)
KINDS = {
    "learned weights": {},
    "scaled": {"scaled": True},
    "0/1": {"alphabet": "01"},
    "0/1 scaled": {"alphabet": "01", "scaled": True},
    "alpha": {"hash_types": 0},
    "user weights": {"hash_types": 1},
    "item weights": {"hash_types": 2},
    "negative weights": {
        "lambda_user": np.linspace(-2, 1, 16, dtype=np.float32),
        "lambda_item": np.linspace(1, -3, 16, dtype=np.float32),
    },
    "one modality": {"modalities": ("text",)},
    "four slots": {"slots": (0, 0, 1, 2), "scaled": True},
    "no item term": {"zero_item_term": True},
    "no user term": {"zero_user_term": True},
    "neither term": {"zero_item_term": True, "zero_user_term": True},
    "128 bits": {"bits": 128},
    "templates": shop_codes(),
    "templates, scaled": shop_codes(scaled=True, zero_user_term=True),
}


def some_outfits(codes, count=60, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [codes.num_items[category] for category in codes.slots]
    return np.stack([rng.integers(0, n, count) for n in sizes], axis=1)


@pytest.mark.parametrize("score", ["binary", "asymmetric"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_inner_product_is_the_score(kind, score, monkeypatch):
    monkeypatch.setattr("fhn_jax.codes.scoring._BLOCK", 7)
    codes = KINDS[kind]
    if not isinstance(codes, Codes):
        codes = random_codes(**codes)
    outfits = outfits_of(np.random.default_rng(0), codes, 60)
    users = np.arange(codes.num_users)
    found = query_vectors(codes, users, score) @ outfit_vectors(codes, outfits).T
    scorer = Scorer(codes)
    for user in users:
        expected = scorer.score(score, np.full(len(outfits), user), outfits)
        np.testing.assert_allclose(found[user], expected, **TOLERANCE)


def test_an_items_inner_product_is_what_it_adds():
    outfits = some_outfits(CODES)
    query = query_vectors(CODES, 3)
    added = sum(
        item_vectors(CODES, name, outfits[:, slot]) @ query[0]
        for slot, name in enumerate(CODES.categories)
    )
    stored = outfit_vectors(CODES, outfits)
    whole = stored @ query[0]
    np.testing.assert_allclose(added, whole - stored[:, -1], **TOLERANCE)


def test_a_user_vector_is_as_good_as_an_id():
    by_id = query_vectors(CODES, np.array([4, 2]))
    assert np.array_equal(query_vectors(CODES, CODES.user_latents[[4, 2]]), by_id)
    signs = np.where(CODES.user_latents[4] >= 0, 1.0, -1.0)
    binary = query_vectors(CODES, CODES.user_latents[4], "binary")
    assert np.array_equal(query_vectors(CODES, signs), binary)


@pytest.mark.parametrize(
    ("users", "score", "message"),
    [
        (6, "binary", "user 6 is not among the codes; expected 0 to 5"),
        (-1, "asymmetric", "user -1 is not among the codes"),
        (0, "relaxed", "score is 'relaxed', expected one of"),
        (np.zeros(8), "asymmetric", "expected floats"),
        (np.full(16, np.inf), "asymmetric", "expected finite"),
        (np.full(16, 1e300), "asymmetric", "user vector 0 does not fit into float32"),
    ],
)
def test_wrong_users_are_named(users, score, message):
    with pytest.raises(ValueError, match=message):
        query_vectors(CODES, users, score)


def test_wrong_items_and_outfits_are_named():
    with pytest.raises(ValueError, match="category 'hat' is unknown"):
        item_vectors(CODES, "hat", [0])
    with pytest.raises(ValueError, match="shoe 5 is not among the codes; .* 0 to 4"):
        item_vectors(CODES, "shoe", [0, 5])
    with pytest.raises(
        ValueError, match="outfit 1: bottom .* 7 is not among the codes"
    ):
        outfit_vectors(CODES, np.array([[0, 0, 0], [0, 7, 0]]))


# --- Qdrant ---------------------------------------------------------------------------


@pytest.fixture
def client():
    qdrant = pytest.importorskip(
        "qdrant_client", reason="qdrant-client is not installed"
    )
    client = qdrant.QdrantClient(":memory:")
    yield client
    client.close()


@pytest.fixture(params=["three slots", "four slots"])
def codes(request):
    if request.param == "three slots":
        return CODES
    # Names of categories may be anything printable.
    names = ("top.wear", "bottom [x]", "shoe")
    slots = (0, 0, 1, 2)
    return random_codes(categories=names, slots=slots, counts=(4, 4, 3), scaled=True)


@pytest.mark.slow
@pytest.mark.parametrize("score", ["binary", "asymmetric"])
def test_the_best_are_those_of_the_index(client, codes, score):
    outfits = some_outfits(codes, 100)
    prices = np.arange(sum(codes.num_items))
    about = Attributes.in_memory(codes, {"price": prices})
    found = OutfitCollection.create(
        client, "outfits", codes, outfits, batch=7, attributes=about
    )
    assert len(found) == 100
    searcher = Searcher.in_memory(codes, outfits, about)
    top, bottom, shoe = codes.categories
    seen = [[ExcludeOutfits(range(user, 100, 3))] for user in range(6)]
    for filters in (
        [],
        seen,
        MustContain({shoe: 2, top: [1]}),
        MustContain({top: [1, 3]}),
        Only({top: [0, 1, 2], bottom: [0, 1, 3]}),
        Only({shoe: []}),
        Wardrobe({top: [0, 1, 2], bottom: [0, 1], shoe: [2, 0]}),
        ExcludeOutfits(outfits[:50]),
        Where("price>1", f"{shoe}:price<={prices[-2]}"),
        [[Only({top: [0, 1, 2]}), MustContain({top: 1}), *each] for each in seen],
    ):
        users = np.arange(6)
        ours = found.search_batch(users, 100, score=score, filters=filters)
        theirs = searcher.search_batch(users, 100, score=score, filters=filters)
        for one, other in zip(ours, theirs, strict=True):
            assert sorted(one.outfits) == sorted(other.outfits)
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)
            # Alike but for the order of outfits whose scores are nearly equal.
            scores = dict(zip(other.outfits, other.scores, strict=True))
            in_order = [scores[outfit] for outfit in one.outfits]
            np.testing.assert_allclose(in_order, other.scores, atol=1e-3)
            assert one.items.tolist() == outfits[one.outfits].tolist()
    best = found.search(3, 5, score=score)
    assert len(best) == 5
    assert len(found.search_batch(np.arange(0), 5)) == 0


def test_a_k_beyond_the_catalogue_asks_the_server_for_what_there_is(
    client, monkeypatch
):
    outfits = some_outfits(CODES, 20)
    found = OutfitCollection.create(client, "outfits", CODES, outfits)
    limits = []
    query = client.query_batch_points

    def noting(name, requests):
        limits.extend(request.limit for request in requests)
        return query(name, requests)

    monkeypatch.setattr(client, "query_batch_points", noting)
    assert len(found.search(1, 10**30)) == 20
    assert limits == [20]
    some = found.search(1, 10**30, filters=ExcludeOutfits(outfits[:1]))
    assert 0 < len(some) < 20 and max(limits) == 20


def test_outfits_of_several_templates_are_those_of_the_index(client):
    codes = shop_codes(scaled=True)
    outfits = outfits_of(np.random.default_rng(0), codes, 100)
    OutfitCollection.create(client, "outfits", codes, outfits)
    found = OutfitCollection.open(client, "outfits", codes)
    searcher = Searcher.in_memory(codes, outfits)
    for arguments in (
        {},
        {"templates": [("shoe", "dress"), ("bag",)]},
        {"filters": Only({"top": [0, 1, 2], "outerwear": []})},
        {"filters": Wardrobe({"dress": [1, 2], "shoe": [0, 1]})},
        {"filters": HasCategory(["outerwear"])},
        {"filters": [MustContain({"shoe": 2}), ExcludeOutfits(outfits[:50])]},
    ):
        ours, theirs = (each.search(3, 100, **arguments) for each in (found, searcher))
        assert sorted(ours.outfits) == sorted(theirs.outfits)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-3)
        np.testing.assert_array_equal(ours.items, outfits[ours.outfits])
        assert len(ours)


def test_equal_scores_are_ordered_by_id(client):
    outfits = np.tile(some_outfits(CODES, 4), (5, 1))
    found = OutfitCollection.create(client, "outfits", CODES, outfits)
    hits = found.search(1, 20)
    assert np.array_equal(np.lexsort((hits.outfits, -hits.scores)), np.arange(20))
    assert len(np.unique(hits.scores)) == 4


def test_a_point_says_what_it_is(client):
    outfits = some_outfits(CODES, 3)
    found = OutfitCollection.create(client, "outfits", CODES, outfits)
    (point,) = client.retrieve("outfits", [1])
    assert point.payload == {
        "items": {
            name: [int(outfits[1, slot])] for slot, name in enumerate(CODES.categories)
        },
        "names": {
            name: [CODES.names[slot][outfits[1, slot]]]
            for slot, name in enumerate(CODES.categories)
        },
    }
    found.upsert([1, 9], outfits[:2])
    assert len(found) == 4
    (point,) = client.retrieve("outfits", [1])
    assert point.payload["items"]["top"] == [outfits[0, 0]]


def test_new_users_of_the_same_items_may_open_it(client):
    outfits = some_outfits(CODES)
    OutfitCollection.create(client, "outfits", CODES, outfits)
    others = random_codes(
        **{name: getattr(CODES, name) for name in CODES.__dataclass_fields__}
        | {"users": CODES.users[:2], "user_latents": -CODES.user_latents[:2]}
    )
    hits = OutfitCollection.open(client, "outfits", others).search(1, 3)
    expected = Searcher.in_memory(others, outfits).search(1, 3)
    np.testing.assert_allclose(hits.scores, expected.scores, atol=1e-3)


def test_a_collection_that_is_not_there_or_of_other_codes_is_named(client):
    outfits = some_outfits(CODES, 3)
    OutfitCollection.create(client, "outfits", CODES, outfits)
    with pytest.raises(FileExistsError, match="collection 'outfits' exists"):
        OutfitCollection.create(client, "outfits", CODES, outfits)
    with pytest.raises(FileNotFoundError, match="there is no collection 'others'"):
        OutfitCollection.open(client, "others", CODES)
    for others in (random_codes(bits=32), random_codes(1)):
        with pytest.raises(
            ValueError, match="'outfits' is a collection of other codes"
        ):
            OutfitCollection.open(client, "outfits", others)
    from qdrant_client import models

    dot = models.VectorParams(size=17, distance=models.Distance.DOT)
    client.create_collection("foreign", vectors_config=dot)
    with pytest.raises(ValueError, match="'foreign' .* other codes.*checksum none"):
        OutfitCollection.open(client, "foreign", CODES)


def test_a_collection_appears_whole_or_not_at_all(client, monkeypatch):
    full = OutfitCollection.upsert

    def break_off(self, ids, outfits):
        if ids[0] > 0:
            raise ConnectionError("the server went away")
        full(self, ids, outfits)

    monkeypatch.setattr(OutfitCollection, "upsert", break_off)
    with pytest.raises(ConnectionError):
        OutfitCollection.create(client, "outfits", CODES, some_outfits(CODES), batch=9)
    assert not client.collection_exists("outfits")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k is 0, expected a whole number of at least 1"),
        ({"user": 6}, "user 6 is not among the codes; expected 0 to 5"),
        ({"user": np.zeros((2, 16))}, "use search_batch for several users"),
        ({"score": "relaxed"}, "score is 'relaxed'"),
        ({"filters": ExcludeOutfits([-1])}, "outfit -1 is not in .* at least 0"),
        ({"filters": ExcludeOutfits(np.array([0.5]))}, "expected a list of ids"),
        (
            {"filters": MustContain({"hat": 1})},
            "category 'hat' is unknown; expected one of",
        ),
        (
            {"filters": MustContain({"shoe": 5})},
            "shoe 5 is not among the codes; .* 0 to 4",
        ),
        ({"filters": Only({"shoe": [-1]})}, "shoe -1 is not among the codes"),
    ],
)
def test_wrong_arguments_of_a_search_are_named(client, arguments, message):
    found = OutfitCollection.create(client, "outfits", CODES, some_outfits(CODES, 3))
    with pytest.raises(ValueError, match=message):
        found.search(**{"user": 0} | arguments)


def test_wrong_outfits_are_refused_before_anything_is_stored(client):
    for outfits, options, message in (
        (np.array([[0, 0, 9]]), {}, "shoe .* 9 is not among the codes"),
        (np.zeros((2, 2), int), {}, r"expected whole numbers \[n, 3\]"),
        (np.zeros((2, 3), int), {"batch": 0}, "batch is 0, expected a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            OutfitCollection.create(client, "outfits", CODES, outfits, **options)
        assert not client.collection_exists("outfits")
    found = OutfitCollection.create(client, "outfits", CODES, some_outfits(CODES, 3))
    with pytest.raises(ValueError, match="2 ids for 1 outfits"):
        found.upsert([0, 1], np.zeros((1, 3), int))
    with pytest.raises(ValueError, match="1 sequences of filters, .* 2 users"):
        found.search_batch(np.arange(2), filters=[[]])


def test_a_missing_package_is_named_with_its_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    for make in (
        lambda: OutfitCollection.open(None, "outfits", CODES),
        lambda: OutfitCollection.create(None, "outfits", CODES, some_outfits(CODES)),
    ):
        with pytest.raises(ModuleNotFoundError, match="fhn_jax.qdrant"):
            make()
