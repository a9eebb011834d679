"""Scores of outfits against the formula written out, and what is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fhn_jax.models.matching import Matching, category_pairs

BITS = 8
TOPS = (0, 0, 1, 2)


def draw(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def learned(matching, seed=3):
    """The weights, set to something else than 1."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name in ("lambda_user", "lambda_item", "alpha"):
        param = getattr(matching, name)
        if param is not None:
            weights[name] = rng.normal(size=param.shape).astype(np.float32)
            param[...] = jnp.asarray(weights[name])
    return weights


def by_hand(user, items, slots, lambda_user=1.0, lambda_item=1.0, alpha=1.0):
    """User term and item term of one outfit."""
    user_term = np.mean([lambda_user * user * x for x in items]) * alpha
    pairs = [
        lambda_item * items[j] * items[k]
        for j, k in itertools.combinations(range(len(slots)), 2)
        if slots[j] != slots[k]
    ]
    return user_term, np.mean(pairs)


@pytest.mark.parametrize("slots", [(0, 1), (0, 1, 2), TOPS, (0, 1, 2, 3)])
@pytest.mark.parametrize("hash_types", [0, 1, 2, 3])
def test_score_is_ten_times_user_term_plus_item_term(hash_types, slots):
    matching = Matching(BITS, slots, hash_types=hash_types)
    weights = learned(matching)
    users, items = draw(5, BITS), draw(5, len(slots), BITS)
    got = matching(jnp.asarray(users), jnp.asarray(items))
    want = [
        10 * sum(by_hand(user, outfit, slots, **weights))
        for user, outfit in zip(users, items, strict=True)
    ]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "hash_types, names",
    [(0, {"alpha"}), (1, {"lambda_user"}), (2, {"lambda_item"})]
    + [(3, {"lambda_user", "lambda_item"})],
)
def test_hash_types_say_what_is_learned_and_it_starts_at_one(hash_types, names):
    matching = Matching(BITS, (0, 1, 2), hash_types=hash_types)
    params = dict(nnx.to_flat_state(nnx.state(matching, nnx.Param)))
    assert {path[0] for path in params} == names
    assert all((param[...] == 1).all() for param in params.values())


def test_ablated_scores_are_twenty_times_the_other_term():
    user, items = draw(BITS), draw(3, BITS)
    user_term, item_term = by_hand(user, items, (0, 1, 2))

    def score(**ablation):
        matching = Matching(BITS, (0, 1, 2), **ablation)
        return float(matching(jnp.asarray(user), jnp.asarray(items)))

    only_user = pytest.approx(20 * user_term, rel=1e-5)
    assert score(zero_item_term=True) == only_user
    assert score(zero_user_term=True) == pytest.approx(20 * item_term, rel=1e-5)
    assert score(zero_item_term=True, zero_user_term=True) == only_user


def test_two_tops_are_not_compared_with_each_other():
    assert category_pairs(TOPS) == ((0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    # Only the product of the tops is not zero.
    items = np.zeros((4, BITS), np.float32)
    items[:2] = 1
    matching = Matching(BITS, TOPS, zero_user_term=True)
    assert float(matching(jnp.zeros(BITS), jnp.asarray(items))) == 0.0


def test_users_broadcast_against_candidates():
    matching = Matching(BITS, (0, 1, 2))
    users, items = draw(4, BITS), draw(4, 6, 3, BITS)
    got = matching(jnp.asarray(users[:, None]), jnp.asarray(items))
    assert got.shape == (4, 6)
    each = matching(
        jnp.asarray(np.repeat(users, 6, axis=0)),
        jnp.asarray(items.reshape(24, 3, BITS)),
    )
    np.testing.assert_allclose(got.ravel(), each, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_gradients_reach_users_items_and_all_weights():
    matching = Matching(BITS, (0, 1, 2), hash_types=3)
    graphdef, params = nnx.split(matching)

    def score(params, users, items):
        return nnx.merge(graphdef, params)(users, items).sum()

    gradients = jax.grad(score, argnums=(0, 1, 2))(
        params, jnp.asarray(draw(5, BITS)), jnp.asarray(draw(5, 3, BITS))
    )
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_outfits_of_one_category_have_only_a_user_term():
    items = jnp.ones((2, BITS))
    assert float(Matching(BITS, (0, 0))(jnp.ones(BITS), items)) == 10.0
    matching = Matching(BITS, (0, 0), zero_item_term=True)
    assert float(matching(jnp.ones(BITS), items)) == pytest.approx(20.0)


@pytest.mark.parametrize("templates", [(), ((0,),)])
def test_no_term_at_all_is_refused(templates):
    with pytest.raises(
        ValueError, match="zero_user_term=True leaves the item term, bu"
    ):
        Matching(BITS, (0,), templates, zero_user_term=True)
    # One template with a pair is enough.
    Matching(BITS, (0, 1), ((0,), (0, 1)), zero_user_term=True)


def test_unknown_hash_types_are_refused():
    with pytest.raises(ValueError, match="model.hash_types=4: expected 0, 1, 2 or 3"):
        Matching(BITS, (0, 1, 2), hash_types=4)
