"""Scores in whole numbers against the scorer of the codes artifact."""

import numpy as np
import pytest
from random_codes import random_codes

from fhn_jax.codes import Scorer
from fhn_jax.retrieval import kernels
from fhn_jax.retrieval.items import ItemTables

CHANGES = [
    {},
    {"hash_types": 0},
    {"hash_types": 1},
    {"hash_types": 2},
    {"scaled": True},
    {"alphabet": "01"},
    {"alphabet": "01", "scaled": True},
    {"zero_item_term": True},
    {"zero_user_term": True},
    {"zero_item_term": True, "zero_user_term": True},
    {"modalities": ("text",)},
    {"slots": (0, 0, 1, 2)},
    {"bits": 128, "scaled": True, "slots": (2, 0, 1, 0)},
]


@pytest.fixture(params=["compiled", "numpy"])
def way(request, monkeypatch):
    """Runs a test both ways that the kernels have."""
    if request.param == "compiled" and kernels.numba is None:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(kernels, "COMPILED", request.param == "compiled")


def some_outfits(codes, count=300, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, codes.num_items[c], count) for c in codes.slots]).T


def units(tables, users, score, items):
    """Scores of outfits for each of several users, in units."""
    affinities = tables.affinities(tables.user_vectors(users, score))
    total = tables.compatibilities(items)[None]
    for slot, category in enumerate(tables.codes.slots):
        total = total + affinities[category][:, items[:, slot]]
    return total


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("score", ["binary", "asymmetric"])
def test_scores_are_those_of_the_artifact_within_the_stated_error(way, changes, score):
    codes = random_codes(**changes)
    tables = ItemTables.from_codes(codes)
    assert tables.error < 2e-3
    items = some_outfits(codes)
    got = tables.to_scores(units(tables, np.arange(2), score, items))
    for user in range(2):
        users = np.full(len(items), user)
        expected = Scorer(codes).score(score, users, items)
        assert np.abs(got[user] - expected).max() < tables.error
        assert np.abs(got[user] - expected).max() < 1e-4


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_compiled_and_numpy_loops_agree_bit_for_bit(changes, monkeypatch):
    if kernels.numba is None:
        pytest.skip("numba is not installed")
    tables = ItemTables.from_codes(random_codes(**changes))
    items = some_outfits(tables.codes)
    found = []
    for compiled in (True, False):
        monkeypatch.setattr(kernels, "COMPILED", compiled)
        found.append(units(tables, np.arange(6), "asymmetric", items))
    assert found[0].dtype == np.int32
    np.testing.assert_array_equal(*found)


def test_loops_compile_where_numba_always_counts_references(monkeypatch):
    if kernels.numba is None:
        pytest.skip("numba is not installed")

    def njit(**options):
        if "_nrt" in options:
            raise KeyError("Unrecognized options: _nrt")
        return lambda loop: (loop, options)

    def loop():
        pass

    monkeypatch.setattr(kernels.numba, "njit", njit)
    assert kernels._borrowing(loop) == (loop, {"cache": True, "nogil": True})


@pytest.mark.parametrize("alphabet", ["pm1", "01"])
@pytest.mark.parametrize("slots", [(0, 1, 2), (0, 0, 1, 2)])
def test_outfits_that_tie_on_paper_tie(way, alphabet, slots):
    codes = random_codes(
        hash_types=0, alpha=1.0, alphabet=alphabet, slots=slots, bits=24
    )
    tables = ItemTables.from_codes(codes)
    items = some_outfits(codes, 2000)
    got = units(tables, 1, "binary", items)[0]
    # λ = 1 and whole codes: float32 scores of the scorer are equal if and only if
    # they are on paper.
    scores = Scorer(codes).score("binary", np.full(len(items), 1), items)
    np.testing.assert_array_equal(
        np.unique(got, return_inverse=True)[1],
        np.unique(scores, return_inverse=True)[1],
    )
    assert len(np.unique(got)) < len(np.unique(items, axis=0))


def test_a_vector_scores_like_the_user_it_is_of():
    codes = random_codes()
    tables = ItemTables.from_codes(codes)
    for score in ("binary", "asymmetric"):
        by_id = tables.user_vectors(np.arange(6), score)
        np.testing.assert_array_equal(tables.user_vectors(4, score), by_id[4:5])
        given = codes.user_latents
        if score == "binary":
            given = codes.user_codes().astype(np.float32)
        np.testing.assert_array_equal(tables.user_vectors(given, score), by_id)
        np.testing.assert_array_equal(tables.user_vectors(given[4], score), by_id[4:5])


@pytest.mark.parametrize(
    ("alphabet", "binary"), [("pm1", [-1, 1, 1, 1]), ("01", [0, 0, 0, 1])]
)
def test_binary_score_of_a_vector_takes_its_signs(alphabet, binary):
    tables = ItemTables.from_codes(random_codes(alphabet=alphabet))
    vector = np.tile([-0.2, 0.0, 0.5, 0.6], 4)
    np.testing.assert_array_equal(
        tables.user_vectors(vector, "binary"),
        tables.user_vectors(np.tile(binary, 4).astype(float), "asymmetric"),
    )


def test_fingerprint_is_of_the_items_and_not_of_the_users():
    codes = random_codes(scaled=True)
    print_of = ItemTables.from_codes(codes).item_fingerprint
    other_users = random_codes(
        scaled=True, users=codes.users[:3], user_latents=codes.user_latents[:3]
    )
    assert ItemTables.from_codes(other_users).item_fingerprint == print_of
    items = {m: tuple(a.copy() for a in codes.items[m]) for m in codes.modalities}
    items["text"][2][0, 0] ^= 1
    others = [
        random_codes(scaled=True, items=items),
        random_codes(scaled=True, lambda_item=codes.lambda_item * 2),
        random_codes(scaled=True, slots=(0, 0, 1, 2)),
        random_codes(scaled=True, zero_user_term=True),
        random_codes(),
    ]
    prints = {ItemTables.from_codes(other).item_fingerprint for other in others}
    assert len(prints) == len(others) and print_of not in prints


@pytest.mark.parametrize(
    ("users", "score", "message"),
    [
        (6, "binary", "user 6 is not among the codes; expected 0 to 5"),
        (np.array([0, -1]), "binary", "user -1 is not among"),
        (0, "relaxed", "score is 'relaxed', expected one of"),
        (np.zeros((1, 1), np.int64), "binary", "expected one id or a list"),
        (np.zeros(8), "binary", r"are float64 \[1, 8\], expected floats \[16\]"),
        (np.zeros((1, 1, 16)), "binary", r"expected floats \[16\] or \[users, 16\]"),
        (np.full(16, np.nan), "binary", r"hold nan at \[0, 0\], expected finite"),
        (np.full(16, np.inf), "asymmetric", "hold inf"),
        (np.full(16, 1e5), "asymmetric", "do not fit the range of .* divide"),
        (np.full(16, 1e300), "asymmetric", "do not fit the range"),
    ],
)
def test_bad_users_are_named(users, score, message):
    tables = ItemTables.from_codes(random_codes())
    with pytest.raises(ValueError, match=message):
        tables.user_vectors(users, score)


def test_scores_of_large_weights_and_scales_fit():
    codes = random_codes(scaled=True)
    scales = {m: tuple(a * 90 for a in codes.item_scales[m]) for m in codes.modalities}
    codes = random_codes(
        scaled=True,
        item_scales=scales,
        lambda_user=codes.lambda_user * 1e6,
        lambda_item=-codes.lambda_item * 1e5,
    )
    tables = ItemTables.from_codes(codes)
    items = some_outfits(codes)
    got = tables.to_scores(units(tables, 2, "asymmetric", items))[0]
    expected = Scorer(codes).score("asymmetric", np.full(len(items), 2), items)
    np.testing.assert_allclose(got, expected, atol=tables.error)
    assert tables.error < 1e-3 * np.abs(expected).max()
