"""Steps that pass over the rows of their users alone, against those over the whole table."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fhn_jax.data.batches import Batch
from fhn_jax.errors import InputError
from fhn_jax.training import rows
from fhn_jax.training.rows import RowUpdates, skipped_step
from fhn_jax.training.step import GROUPS, make_optimizer
from tests.test_train_state import values

USERS, BITS, STEPS = 40, 3, 200
B1, B2 = 0.9, 0.99


class State(NamedTuple):
    """What row-wise updates know of a training state."""

    step: Any
    params: Any
    opt_state: Any
    average: Any
    rows: Any = None


def start(optimizer, averaged):
    key = jax.random.key(0)
    params = {"user": {"embedding": jax.random.normal(key, (USERS, BITS))}}
    average = jax.tree.map(jnp.array, params) if averaged else None
    return State(jnp.int32(0), params, optimizer.init(params), average)


def update(optimizer, state, gradient, rate, decay):
    """A step over all rows that the state has."""
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(
        state.params, jax.tree.map(lambda u: rate * u, updates)
    )
    average = state.average and jax.tree.map(
        lambda a, p: decay * a + (1 - decay) * p, state.average, params
    )
    return State(state.step + 1, params, opt_state, average, state.rows)


def gradient_of(params, batch, pull):
    def loss(params):
        z = params["user"]["embedding"][batch.users]
        return (batch.weights[:, None] * (jnp.cos(z) + pull * z)).sum()

    return jax.grad(loss)(params)


def course(seed=1):
    """Batches with users who come twice and padding, gradients, changing rates."""
    rng = np.random.default_rng(seed)
    # Some users are rare, and some never come.
    users = (USERS * rng.random((STEPS, 4)) ** 4 * 0.9).astype(np.int32)
    weights = (rng.random(users.shape) < 0.8).astype(np.float32)
    pulls = rng.normal(size=(*users.shape, BITS)).astype(np.float32)
    step = np.arange(STEPS, dtype=np.float32)
    decays = np.minimum(0.95, (1 + step) / (10 + step))
    nothing = np.zeros(STEPS)
    batches = Batch(users, nothing, weights, nothing, nothing)
    return batches, pulls, 0.5 + np.sin(step / 7) / 3, decays


def run(name, averaged, *, by_rows, **options):
    """The state after 200 steps, and its `RowUpdates` if it has some."""
    rates = dict.fromkeys(GROUPS, 0.1)
    optimizer = make_optimizer(name, rates, **options)
    state, update_rows = start(optimizer, averaged), None
    if by_rows:
        update_rows = RowUpdates(skipped_step(name, 0.1, **options), averaged)
        state = state._replace(rows=update_rows.start(state))

    def step(state, now):
        batch, pull, rate, decay = now
        if not by_rows:
            gradient = gradient_of(state.params, batch, pull)
            return update(optimizer, state, gradient, rate, decay), None
        own, batch, users = update_rows.take(state, batch, lambda x: x)
        gradient = gradient_of(own.params, batch, pull)
        after = update(optimizer, own, gradient, rate, decay)
        return update_rows.put(state, after, users, rate, decay), None

    state, _ = jax.jit(lambda: jax.lax.scan(step, state, course()))()
    return state, update_rows


def tables(state):
    return values((state.params, state.opt_state, state.average))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "averaged", "options"),
    [
        ("sgd", True, dict(momentum=0.9, weight_decay=0.03)),
        ("sgd", False, dict(momentum=0.9, weight_decay=0.0)),
        ("sgd", True, dict(momentum=0.0, weight_decay=0.03)),
        ("adagrad", True, {}),
    ],
)
def test_rows_are_those_of_the_whole_table(monkeypatch, name, averaged, options):
    monkeypatch.setattr(rows, "BLOCK", 8)  # All are caught up on the way.
    monkeypatch.setattr(rows, "_CHUNK", 7)
    want, _ = run(name, averaged, by_rows=False, **options)
    got, update_rows = run(name, averaged, by_rows=True, **options)
    assert int(got.rows.start) == 192
    settled = jax.jit(update_rows.settle)(got)
    assert int(settled.rows.start) == STEPS
    for a, b in zip(tables(settled), tables(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    behind = np.abs(tables(got)[0] - tables(want)[0]).max()
    assert (behind > 1e-4) == (name == "sgd")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "adamw", "adamax"])
def test_moments_of_skipped_steps_decay_and_their_rows_stay(monkeypatch, name):
    monkeypatch.setattr(rows, "BLOCK", 8)
    options = dict(b1=B1, b2=B2, weight_decay=0.03 * (name == "adamw"))
    optimizer = make_optimizer(name, dict.fromkeys(GROUPS, 0.1), **options)
    state = start(optimizer, averaged=False)

    # Over the whole table, but that rows without a gradient take their weights back.
    def step(state, now):
        batch, pull, rate, decay = now
        gradient = gradient_of(state.params, batch, pull)
        after = update(optimizer, state, gradient, rate, decay)
        own = jnp.zeros(USERS, bool).at[batch.users].max(batch.weights > 0)[:, None]
        kept = 1 - 0.1 * rate * options["weight_decay"]
        params = jax.tree.map(
            lambda old, new: jnp.where(own, new, kept * old), state.params, after.params
        )
        return after._replace(params=params), None

    want, _ = jax.jit(lambda: jax.lax.scan(step, state, course()))()
    got, update_rows = run(name, False, by_rows=True, **options)
    got = jax.jit(update_rows.settle)(got)
    for a, b in zip(tables(got), tables(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_moments_that_are_not_those_of_the_optimizer_are_refused():
    optimizer = make_optimizer("adam", dict.fromkeys(GROUPS, 0.1))
    updates = RowUpdates(skipped_step("sgd", 0.1), averaged=False)
    text = "keep 2 tables as large as that of the users, .* told of 1; .* leave `skipped` out"
    with pytest.raises(InputError, match=text):
        updates.start(start(optimizer, averaged=False))
