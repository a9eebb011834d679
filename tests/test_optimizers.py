"""Optimisers with a learning rate for each group of variables."""

import jax
import jax.numpy as jnp
import pytest

from fhn_jax.training.step import GROUPS, group_of, make_optimizer

RATES = dict.fromkeys(GROUPS, 0.1)
SGD = dict(momentum=0.0)
TOY = {
    "user": {"embedding": jnp.ones(3)},
    "backbone": {"stem": {"kernel": jnp.ones(5)}},
    "heads": {"visual": {0: jnp.ones(7)}, "text": {0: jnp.ones(11)}},
    "matching": {"lambda_user": jnp.ones(13)},
}


def one_update(optimizer, gradient=1.0):
    """The first update of variables that are all 1, by group; and the moments."""
    gradients = jax.tree.map(lambda x: jnp.full_like(x, gradient), TOY)
    state = optimizer.init(TOY)
    updates, _ = optimizer.update(gradients, state, TOY)
    by_group = {}
    for path, update in jax.tree_util.tree_flatten_with_path(updates)[0]:
        by_group[group_of(path)] = float(update[0])
    moments = sum(x.size for x in jax.tree.leaves(state) if x.ndim)
    return by_group, moments


def test_each_group_has_a_rate_of_its_own():
    rates = {group: 2.0**-i for i, group in enumerate(GROUPS)}
    updates, _ = one_update(make_optimizer("sgd", rates, **SGD))
    assert updates == {group: -rate for group, rate in rates.items()}


@pytest.mark.parametrize(
    "name, momentum, moments", [("sgd", 0.0, 0), ("sgd", 0.9, 1), ("adam", 0.9, 2)]
)
def test_a_group_of_rate_zero_is_frozen_and_keeps_no_moments(name, momentum, moments):
    rates = RATES | {"backbone": 0.0, "text": 0.0}
    optimizer = make_optimizer(name, rates, weight_decay=0.1, momentum=momentum)
    updates, size = one_update(optimizer)
    assert updates["backbone"] == updates["text"] == 0.0
    assert updates["user"] != 0.0
    assert size == moments * (3 + 7 + 13)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamax"])
def test_weight_decay_is_added_to_the_gradient(name):
    decayed = make_optimizer(name, RATES, weight_decay=0.5, **SGD)
    plain = make_optimizer(name, RATES, **SGD)
    got, _ = one_update(decayed, gradient=0.25)
    want, _ = one_update(plain, gradient=0.25 + 0.5)
    assert got == pytest.approx(want)


def test_weight_decay_of_adamw_is_decoupled():
    got, _ = one_update(make_optimizer("adamw", RATES, weight_decay=0.5))
    assert got["user"] == pytest.approx(-0.1 * (1.0 + 0.5), rel=1e-5)


def test_unknown_optimizer_is_refused():
    text = "optimizer.name='rmsprop': expected one of sgd, adam, adamw, adamax, adagrad"
    with pytest.raises(ValueError, match=text):
        make_optimizer("rmsprop", RATES)


@pytest.mark.parametrize("rates", [dict(user=1.0), RATES | dict(head=1.0)])
def test_rates_of_other_groups_are_refused(rates):
    text = r"optimizer.rates has \[.*\], expected \['backbone', 'matching', 'text', 'us"
    with pytest.raises(ValueError, match=text):
        make_optimizer("sgd", rates)
