"""Scores in whole numbers against the scorer of the codes artifact."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from random_codes import random_codes

from fhn_jax.codes import Scorer, unpack
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.kernels import jit

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
def test_scores_are_those_of_the_artifact_within_the_stated_error(changes, score):
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
@pytest.mark.parametrize("users", [1, 40])
def test_units_are_the_exact_integers_of_the_formula(changes, users):
    tables = ItemTables.from_codes(random_codes(num_users=users, **changes))
    codes = tables.codes
    items = some_outfits(codes)
    vectors = tables.user_vectors(np.arange(users)).astype(np.int64)
    total = np.zeros((users, len(items)), np.int64)
    for m, modality in enumerate(codes.modalities):
        bits = [
            unpack(packed, codes.bits, codes.alphabet)
            for packed in codes.items[modality]
        ]
        for slot, category in enumerate(codes.slots):
            part = vectors @ bits[category][items[:, slot]].astype(np.int64).T
            if tables.scales is not None:
                factor = tables.scales[category][items[:, slot], m].astype(np.float64)
                part = np.rint(part * factor).astype(np.int64)
            total += part
        for j, k in tables.templates[0].form.pairs:
            a, b = codes.slots[j], codes.slots[k]
            products = bits[a][items[:, j]] * bits[b][items[:, k]]
            part = products.astype(np.int64) @ tables.item_weights.astype(np.int64)
            if tables.scales is not None:
                factor = tables.scales[a][items[:, j], m].astype(np.float64)
                factor *= tables.scales[b][items[:, k], m]
                part = np.rint(part * factor).astype(np.int64)
            total += part
    got = units(tables, np.arange(users), "asymmetric", items)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, total)


def test_kernels_compile_where_numba_always_counts_references(monkeypatch):
    def njit(**options):
        if "_nrt" in options:
            raise KeyError("Unrecognized options: _nrt")
        cache = SimpleNamespace(_cache_file=SimpleNamespace(_source_stamp="file"))
        return lambda loop: SimpleNamespace(loop=loop, options=options, _cache=cache)

    def loop():
        pass

    monkeypatch.setattr(jit.numba, "njit", njit)
    compiled = jit.njit_no_refcount(loop)
    assert compiled.loop == loop
    assert compiled.options == {"cache": True, "nogil": True}
    assert compiled._cache._cache_file._source_stamp == ("file", jit._digest())


def test_kernels_are_not_kept_where_a_stale_one_might_be_taken(monkeypatch):
    monkeypatch.setattr(
        jit.numba, "njit", lambda **options: lambda loop: (loop, options)
    )
    assert jit.njit(len) == (len, {"nogil": True})


def test_without_numba_the_error_names_the_extra():
    program = """
import sys
sys.modules["numba"] = None
from random_codes import random_codes
from fhn_jax.errors import MissingPackageError
from fhn_jax.retrieval import outfit_index, composer
from fhn_jax.retrieval.items import ItemTables
try:
    ItemTables.from_codes(random_codes())
except MissingPackageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'pip install "fhn_jax[retrieval]"' in done.stdout


@pytest.mark.parametrize("alphabet", ["pm1", "01"])
@pytest.mark.parametrize("slots", [(0, 1, 2), (0, 0, 1, 2)])
def test_outfits_that_tie_on_paper_tie(alphabet, slots):
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
    ("alphabet", "binary"), [("pm1", [-1, 1, 1, 1]), ("01", [0, 0, 1, 1])]
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
