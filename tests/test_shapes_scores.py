"""Scores of outfits of several shapes against the definition, written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from shapes import TEMPLATES, by_definition, outfits_of_all_templates

from fhn_jax.models.fashion_hash_net import FashionHashNet, Shape
from fhn_jax.models.hashing import Hash
from fhn_jax.models.matching import Matching

BITS = 16
SLOTS = tuple(range(6))


@pytest.mark.parametrize("hash_types", [0, 1, 2, 3])
def test_scores_are_means_over_what_an_outfit_has(hash_types):
    rng = np.random.default_rng(hash_types)
    matching = Matching(BITS, SLOTS, TEMPLATES, hash_types=hash_types)
    weights = {}
    for name in ("lambda_user", "lambda_item", "alpha"):
        if getattr(matching, name) is not None:
            shape = getattr(matching, name).shape
            weights[name] = rng.normal(size=shape).astype(np.float32)
            getattr(matching, name)[...] = jnp.asarray(weights[name])
    outfits = outfits_of_all_templates(rng, 5, [1] * 6)
    users = rng.normal(size=(len(outfits), BITS)).astype(np.float32)
    codes = rng.normal(size=(*outfits.shape, BITS)).astype(np.float32)
    got = matching(*map(jnp.asarray, (users, codes, outfits >= 0)))
    want = [
        by_definition(user, {s: of[s] for s in SLOTS if row[s] >= 0}, **weights)
        for user, of, row in zip(users, codes, outfits, strict=True)
    ]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_absent_items_have_no_gradient_whatever_they_hold():
    matching = Matching(BITS, SLOTS, TEMPLATES)
    rng = np.random.default_rng(0)
    items = rng.normal(size=(4, 6, BITS)).astype(np.float32)
    present = outfits_of_all_templates(rng, 1, [1] * 6) >= 0
    items[~present] = np.inf
    users = jnp.ones((4, BITS))
    gradient = jax.grad(
        lambda items: matching(users, items, jnp.asarray(present)).sum()
    )
    found = np.asarray(gradient(jnp.asarray(items)))
    assert not found[~present].any()
    assert found[present].all()


@pytest.mark.slow
@pytest.mark.parametrize("hash_", ["ste", "binary01"])
def test_a_network_scores_as_defined(hash_):
    model = FashionHashNet(
        Shape(3, SLOTS, text_dim=5, feature_dim=7, templates=TEMPLATES),
        modalities=("visual", "text"),
        bits=BITS,
        hash=Hash(hash_),
        backbone={"name": "precomputed"},
        visual_head=dict(hidden=0, input_dropout=0.0, dropout=0.0, stddev=0.0),
        text_head=dict(hidden=6, input_dropout=0.0, dropout=0.0, stddev=0.0),
        single=False,
        user=dict(share_user=False, stddev=1.0),
        matching=dict(hash_types=3),
        rngs=nnx.Rngs(0),
    )
    rng = np.random.default_rng(1)
    # The dresses are none: their category cannot be gathered from.
    sizes = (3, 2, 4, 0, 2, 5)
    rows = outfits_of_all_templates(rng, 4, [max(size, 1) for size in sizes])
    rows = rows[rows[:, 3] < 0]
    inputs = {
        "visual": jnp.asarray(rng.normal(size=(sum(sizes), 7)), jnp.float32),
        "text": jnp.asarray(rng.normal(size=(sum(sizes), 5)), jnp.float32),
    }
    latents = model.item_latents(inputs, sizes)
    users = np.arange(len(rows)) % 3
    relaxed, binary = model.scores(
        jnp.asarray(users), latents, jnp.asarray(rows[:, None]), SLOTS, 1.5
    )
    for got, user_code, item_code in (
        (relaxed, lambda z: model.hash.relaxed(z, 1.5), None),
        (binary, model.hash.binary, model.hash.item),
    ):
        item_code = item_code or user_code
        of_user = np.asarray(user_code(model.user(jnp.arange(3))))
        want = np.zeros(len(rows))
        for parts in latents.values():
            codes = [np.asarray(item_code(part)) for part in parts]
            want += [
                by_definition(
                    of_user[user], {s: codes[s][i] for s, i in enumerate(row) if i >= 0}
                )
                for user, row in zip(users, rows.tolist(), strict=True)
            ]
        np.testing.assert_allclose(got[:, 0], want / 2, rtol=1e-4, atol=1e-4)
