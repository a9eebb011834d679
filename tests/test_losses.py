"""Ranking and visual-semantic losses against the formulas written out."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from fhn_jax.training.objective import bpr_loss, softmax_loss, vse_loss

POSITIVE = jnp.array([1.0, -0.5])
NEGATIVE = jnp.array([[0.0, 3.0], [-0.5, -2.0]])


def draw(seed, *shape):
    values = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(values.astype(np.float32))


def test_bpr_loss_is_the_mean_softplus_over_the_negatives():
    want = [
        (np.log1p(np.exp(-1.0)) + np.log1p(np.exp(2.0))) / 2,
        (np.log(2.0) + np.log1p(np.exp(-1.5))) / 2,
    ]
    np.testing.assert_allclose(bpr_loss(POSITIVE, NEGATIVE), want, rtol=1e-6)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
def test_softmax_loss_sums_over_the_negatives(sharpness):
    margins = np.array([[-1.0, 2.0], [0.0, -1.5]])
    want = np.log(1 + np.exp(sharpness * margins).sum(axis=1)) / sharpness**2
    got = softmax_loss(POSITIVE, NEGATIVE, sharpness)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_softmax_loss_of_one_negative_is_bpr_loss():
    one = NEGATIVE[:, :1]
    np.testing.assert_allclose(
        softmax_loss(POSITIVE, one), bpr_loss(POSITIVE, one), rtol=1e-6
    )


@pytest.mark.parametrize("loss", [bpr_loss, softmax_loss])
def test_rank_losses_are_finite_for_huge_scores(loss):
    got = loss(jnp.array([-1e4, 1e4]), jnp.array([[1e4], [-1e4]]))
    np.testing.assert_allclose(got, [2e4, 0.0])


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 4.0])
def test_curvature_of_softmax_loss_at_a_tie_does_not_depend_on_sharpness(sharpness):
    def loss(score):
        return softmax_loss(score[None], jnp.zeros((1, 1)), sharpness)[0]

    assert jax.jit(jax.hessian(loss))(jnp.float32(0.0)) == pytest.approx(0.25)


def test_the_sharper_the_more_of_the_gradient_goes_to_the_hardest_negative():
    def share(sharpness):
        def loss(negative):
            return softmax_loss(jnp.zeros(1), negative, sharpness)[0]

        easy_and_hard = jax.jit(jax.grad(loss))(jnp.array([[-0.5, 0.5]]))[0]
        return easy_and_hard[1] / easy_and_hard.sum()

    assert share(1.0) == pytest.approx(1 / (1 + np.exp(-1.0)), rel=1e-5)
    assert share(3.0) == pytest.approx(1 / (1 + np.exp(-3.0)), rel=1e-5)


@pytest.fixture
def no_type_checks():
    """As in a plain run, without the checks of the annotations."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("loss", [bpr_loss, softmax_loss])
def test_unpaired_scores_are_refused(loss, no_type_checks):
    with pytest.raises(ValueError, match=r"\(3,\).*\(2, 2\) must be paired"):
        loss(jnp.zeros(3), NEGATIVE)


def vse_by_hand(visual, text, margin):
    n, d = visual.shape
    s = np.asarray(visual, np.float64) @ np.asarray(text, np.float64).T / d
    losses = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        hinges = [max(0, margin - s[i, i] + s[i, j]) for j in others]
        hinges += [max(0, margin - s[i, i] + s[j, i]) for j in others]
        losses.append(sum(hinges) / (n - 1))
    return losses


def test_vse_loss_compares_each_item_with_all_others_both_ways():
    visual, text = draw(0, 6, 5), draw(1, 6, 5)
    want = vse_by_hand(visual, text, 0.2)
    np.testing.assert_allclose(vse_loss(visual, text, 0.2), want, rtol=1e-4, atol=1e-6)


def test_vse_loss_of_well_matched_items_is_zero():
    codes = 4 * jnp.eye(4)
    np.testing.assert_allclose(vse_loss(codes, codes, 0.1), np.zeros(4), atol=1e-7)


def test_vse_loss_is_that_of_the_unmasked_rows_alone():
    visual, text = draw(2, 6, 5), draw(3, 6, 5)
    mask = np.array([True, False, True, True, False, True])
    got = vse_loss(visual, text, 0.1, jnp.asarray(mask))
    np.testing.assert_allclose(
        got[mask], vse_loss(visual[mask], text[mask], 0.1), rtol=1e-5, atol=1e-6
    )
    assert not np.any(got[~mask])


def test_masked_rows_have_no_gradient():
    mask = jnp.array([True, True, False])
    gradient = jax.grad(lambda v: vse_loss(v, draw(5, 3, 4), 5.0, mask).sum())
    got = jax.jit(gradient)(draw(4, 3, 4))
    assert np.any(got[:2]) and not np.any(got[2])


@pytest.mark.parametrize("mask", [None, jnp.array([True])])
def test_vse_loss_of_one_item_is_zero(mask):
    one = jnp.ones((1, 4))
    np.testing.assert_allclose(vse_loss(one, one, 0.1, mask), [0.0], atol=1e-7)


def test_unpaired_codes_are_refused(no_type_checks):
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(2, 4\) must be paired"):
        vse_loss(draw(0, 3, 4), draw(1, 2, 4), 0.1)
