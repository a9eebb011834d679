"""Scores and bits against those computed by the reference."""

from pathlib import Path

import numpy as np
import pytest

from fhn_jax.codes import Latents, ScoreForm, Scorer, outfit_scores, pack
from tests.random_codes import random_codes

GOLDEN = Path(__file__).parent / "golden"
SLOTS = {3: (0, 1, 2), 4: (0, 0, 1, 2)}
ABLATIONS = {"none": {}, "zi": {"zero_item_term": True}, "zu": {"zero_user_term": True}}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "scores.npz", allow_pickle=False) as file:
        return dict(file)


def weights(golden, hash_types):
    ones = np.ones(128, np.float32)
    return {
        "lambda_user": golden["w_u"][0] if hash_types in (1, 3) else ones,
        "lambda_item": golden["w_i"][0] if hash_types in (2, 3) else ones,
        "alpha": float(golden["w_s"][0]) if hash_types == 0 else 1.0,
    }


def expected(golden, kind, hash_types, n, b, ablation):
    # DIFFERS: the reference multiplies user products by the item weights in type 2.
    intended = "intended_" if hash_types == 2 else ""
    return golden[f"{intended}{kind}_ht{hash_types}_n{n}_b{b}_{ablation}"][:, 0]


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("b", [0, 1])
@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize("hash_types", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["relaxed", "binary"])
def test_outfit_scores_agree(golden, kind, hash_types, n, b, ablation):
    prefix = "code_" if kind == "binary" else ""
    items = golden[f"{prefix}items_n{n}_b{b}"]
    got = outfit_scores(
        ScoreForm(SLOTS[n], bits=128, **ABLATIONS[ablation]),
        golden[f"{prefix}user_n{n}_b{b}"],
        [[items[:, slot] for slot in range(n)]],
        **weights(golden, hash_types),
    )
    want = expected(golden, kind, hash_types, n, b, ablation)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("b", [0, 1])
@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize("hash_types", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["relaxed", "binary"])
def test_scores_from_the_artifact_agree(golden, kind, hash_types, n, b):
    # DIFFERS: sign(0) is +1 here and 0 in the reference; only row 0 has such entries.
    rows = slice(1, None)
    users = golden[f"user_n{n}_b{b}"][rows]
    items = golden[f"items_n{n}_b{b}"][rows]
    slots = SLOTS[n]
    threshold = 0.5 if b else 0.0
    # The items of a category one slot after the other; outfit r has r + slot · rows.
    latents = tuple(
        np.concatenate([items[:, slot] for slot in range(n) if slots[slot] == category])
        for category in range(3)
    )
    count = len(users)
    ids = np.arange(count)
    outfits = np.stack([ids + count * (n == 4 and slot == 1) for slot in range(n)], 1)
    codes = random_codes(
        bits=128,
        modalities=("visual",),
        counts=tuple(len(x) for x in latents),
        alphabet="01" if b else "pm1",
        slots=slots,
        hash_types=hash_types,
        items={"visual": tuple(pack((x > threshold).astype(int)) for x in latents)},
        users=pack((users > threshold).astype(int)),
        user_latents=users,
        **weights(golden, hash_types),
    )
    scorer = Scorer(codes, Latents({"visual": latents}, codes.sha256()))
    got = scorer.score(kind, ids, outfits)
    want = expected(golden, kind, hash_types, n, b, "none")[rows]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bits", [16, 64, 128])
def test_packed_bits_agree_but_for_the_order_in_a_byte(bits):
    with np.load(GOLDEN / f"packed_bits_{bits}.npz", allow_pickle=False) as golden:
        for name in "ab":
            # DIFFERS: little bit order; the reference has the first entry on top.
            turned = golden[name].reshape(5, -1, 8)[:, :, ::-1].reshape(5, -1)
            np.testing.assert_array_equal(pack(turned), golden[f"packed_{name}"])


@pytest.mark.parametrize("bits", [16, 64, 128])
def test_user_term_is_the_weighted_similarity(bits):
    with np.load(GOLDEN / f"packed_bits_{bits}.npz", allow_pickle=False) as golden:
        a = np.repeat(golden["a"], 5, axis=0)
        b = np.tile(golden["b"], (5, 1))
        form = ScoreForm((0,), bits)
        scores = outfit_scores(form, a, [[b]], golden["weights"], np.ones(bits))
        similarity = scores.reshape(5, 5) * bits / 10
        np.testing.assert_allclose(similarity, golden["sim"], rtol=1e-12, atol=1e-9)
