"""The names that `fhn_jax` offers, and codes made of vectors from elsewhere."""

import doctest
import subprocess
import sys

import numpy as np
import pytest
from random_codes import random_codes

import fhn_jax
from fhn_jax.codes import Codes, Scorer
from fhn_jax.new_users import BprFit


@pytest.mark.parametrize("name", fhn_jax.__all__)
def test_every_public_name_is_there_and_listed(name):
    assert getattr(fhn_jax, name) is not None
    assert name in dir(fhn_jax)


@pytest.mark.parametrize("name", sorted(set(fhn_jax.__all__) - {"__version__"}))
def test_every_public_name_has_an_example(name):
    found = doctest.DocTestFinder(recurse=False).find(getattr(fhn_jax, name), name)
    assert any(test.examples for test in found)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'fhn_jax' has no attribute 'Code'"):
        fhn_jax.Code  # noqa: B018


def test_importing_the_package_is_quick_and_loads_no_dependency():
    program = (
        "import sys, time; start = time.perf_counter(); import fhn_jax;"
        "print(time.perf_counter() - start); print(*sys.modules)"
    )
    seconds = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        first, modules = done.stdout.splitlines()
        seconds.append(float(first))
        assert not {"numpy", "jax", "numba", "safetensors"} & set(modules.split())
    assert min(seconds) < 0.2


def test_load_takes_a_workdir_or_a_file(tmp_path):
    codes = random_codes()
    codes.save(tmp_path / "codes.safetensors")
    for path in (tmp_path, tmp_path / "codes.safetensors", str(tmp_path)):
        assert fhn_jax.load(path).sha256() == codes.sha256()
    with pytest.raises(FileNotFoundError, match="other"):
        fhn_jax.load(tmp_path / "other")


def test_evaluate_needs_to_know_the_data():
    with pytest.raises(ValueError, match="no catalogue"):
        fhn_jax.evaluate(random_codes())


# --- codes of embeddings ----------------------------------------------------------


def embeddings(seed=0, bits=64):
    """Vectors in a cone, as those of image encoders are, and liked means."""
    rng = np.random.default_rng(seed)
    cone = 3 * rng.normal(size=bits)
    items = {
        name: cone + rng.normal(size=bits) + rng.normal(size=(n, bits))
        for name, n in (("top", 40), ("bottom", 30), ("shoe", 20))
    }
    users = np.stack(
        [np.mean([v[u] for v in items.values()], axis=0) for u in range(5)]
    )
    return items, users


def test_bits_of_embeddings_are_signs_of_what_differs_from_the_category():
    items, users = embeddings()
    codes = Codes.from_embeddings(items, users=users)
    assert codes.categories == ("top", "bottom", "shoe") and codes.slots == (0, 1, 2)
    means = [vectors.mean(axis=0) for vectors in items.values()]
    for got, vectors, mean in zip(
        codes.to_numpy()["visual"], items.values(), means, strict=True
    ):
        np.testing.assert_array_equal(got, np.where(vectors >= mean, 1, -1))
    away = users - np.mean(means, axis=0)
    np.testing.assert_array_equal(codes.user_codes(), np.where(away >= 0, 1, -1))
    away /= np.abs(away).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(codes.user_latents, away, rtol=1e-5)
    assert codes.item_scales is None
    assert (codes.lambda_user == 1).all() and (codes.lambda_item == 1).all()


def test_each_user_of_embeddings_likes_what_they_are_made_of():
    items, users = embeddings()
    codes = Codes.from_embeddings(items, users=users)
    own = np.repeat(np.arange(5)[:, None], 3, axis=1)
    outfits = np.stack([np.arange(20)] * 3, axis=1)
    for user in range(5):
        scores = Scorer(codes).score("asymmetric", np.full(20, user), outfits)
        assert scores.argmax() == own[user, 0]


def test_uncentred_embeddings_are_taken_as_they_are():
    items, users = embeddings()
    codes = Codes.from_embeddings(items, users=users, centre=False)
    for got, vectors in zip(codes.to_numpy()["visual"], items.values(), strict=True):
        np.testing.assert_array_equal(got, np.where(vectors >= 0, 1, -1))
    size = np.abs(users).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(codes.user_latents, users / size, rtol=1e-5)


def test_the_sign_of_an_entry_at_the_mean_is_1():
    codes = Codes.from_embeddings({"top": np.ones((3, 8)), "shoe": np.ones((1, 8))})
    assert (codes.to_numpy()["visual"][0] == 1).all()


def test_scales_of_embeddings_are_mean_magnitudes_of_mean_1():
    items, _ = embeddings()
    codes = Codes.from_embeddings(items, scaled=True)
    sizes = [np.abs(v - v.mean(axis=0)).mean(axis=1) for v in items.values()]
    unit = np.concatenate(sizes).mean()
    for got, size in zip(codes.item_scales["visual"], sizes, strict=True):
        np.testing.assert_allclose(got, size / unit, rtol=1e-3)
    assert codes.num_users == 0 and codes.user_latents.shape == (0, 64)


def test_weights_of_embeddings_are_numbers_or_one_for_each_bit():
    items, users = embeddings()
    codes = Codes.from_embeddings(items, users, weights=(2.0, np.arange(64) / 8))
    assert codes.hash_types == 3
    np.testing.assert_array_equal(codes.lambda_user, np.full(64, 2, np.float32))
    np.testing.assert_array_equal(codes.lambda_item, np.arange(64) / 8)


def test_codes_of_embeddings_can_be_saved_and_named(tmp_path):
    items, _ = embeddings()
    names = {c: [f"{c}{i}" for i in range(len(v))] for c, v in items.items()}
    codes = Codes.from_embeddings(items, names=names)
    codes.save(tmp_path / "codes.safetensors")
    loaded = fhn_jax.load(tmp_path)
    assert loaded.names[1][:2] == ("bottom0", "bottom1")
    assert loaded.sha256() == codes.sha256()


@pytest.mark.parametrize(
    ("items", "users", "message"),
    [
        ({}, None, "items is {}, expected vectors of at least one"),
        ({"a": np.ones((2, 12))}, None, "12 entries, expected a multiple of 8"),
        ({"a": np.ones((2, 0))}, None, "0 entries, expected a multiple of 8"),
        ({"a": np.ones((2, 8), int)}, None, r"items\['a'\] is int64 \[2, 8\]"),
        ({"a": np.ones(8)}, None, r"items\['a'\] is float64 \[8\], expected floats"),
        ({"a": np.full((2, 8), np.nan)}, None, r"items\['a'\] holds nan at \[0, 0\]"),
        ({"a": np.ones((2, 8)), "b": np.ones((2, 16))}, None, r"\[\?, 8\]"),
        ({"a": np.ones((2, 8))}, np.ones((3, 16)), r"users is float64 \[3, 16\]"),
    ],
)
def test_embeddings_that_cannot_be_used_are_named(items, users, message):
    with pytest.raises(ValueError, match=message):
        Codes.from_embeddings(items, users=users)


def test_columns_of_zeros_leave_the_order_of_outfits_as_it_is():
    items, users = embeddings()
    padded = {name: np.pad(v, ((0, 0), (0, 8))) for name, v in items.items()}
    wide = Codes.from_embeddings(padded, users=np.pad(users, ((0, 0), (0, 8))))
    outfits = np.random.default_rng(0).integers(20, size=(300, 3))
    ours, theirs = (
        Scorer(codes).score("asymmetric", np.zeros(300, int), outfits)
        for codes in (Codes.from_embeddings(items, users=users), wide)
    )
    slope, offset = np.polyfit(ours, theirs, 1)
    np.testing.assert_allclose(slope * ours + offset, theirs, atol=1e-5)
    assert slope > 0


# --- users from likes -------------------------------------------------------------


def test_fit_users_is_the_fit_of_the_same_clicks():
    codes = random_codes(counts=(30, 20, 10))
    users = fhn_jax.fit_users(
        codes,
        likes=[[(1, 2, 3), (4, -1, -1)], [], np.array([[5, 6, 7]])],
        dislikes=[[], [(7, 7, 7)]],
        strength=0.5,
    )
    from catalogues import outfits

    likes = outfits([(0, 1, 2, 3), (0, 4, -1, -1), (2, 5, 6, 7)])
    want = BprFit(codes, strength=0.5).fit(likes, outfits([(1, 7, 7, 7)]), 3)
    np.testing.assert_array_equal(users.latents, want.latents)
    np.testing.assert_array_equal(users.bits, want.bits)
    assert repr(users) == "NewUsers(3 users of 16 bits, 3 likes, 1 dislikes)"


@pytest.mark.parametrize(
    ("likes", "message"),
    [
        ([[(1, 2)]], r"likes have outfits of \[2\] items, expected 3"),
        ([[(1, 2, 3)], [(1.5, 2, 3)]], r"likes of user 1 are float64 \[1, 3\]"),
        ([(1, 2, 3)], r"likes of user 0 are int64 \[3\], expected whole"),
        ([[(1, 99, 3)]], "likes, row 0: bottom 99 is unknown"),
    ],
)
def test_likes_that_cannot_be_used_are_named(likes, message):
    with pytest.raises(ValueError, match=message):
        fhn_jax.fit_users(random_codes(), likes)


# --- what things say about themselves ---------------------------------------------


def test_representations_say_what_a_thing_is():
    codes = random_codes(bits=128, counts=(1000, 500, 5), num_users=40, names=None)
    assert repr(codes) == (
        "Codes(128 bits, visual+text, 1,505 items in top/bottom/shoe, 40 users)"
    )
    assert len(codes) == 1505
    assert repr(Scorer(codes)) == f"Scorer(binary, asymmetric; {codes!r})"
