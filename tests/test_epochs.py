"""Epochs on the device: the same batches as the host's, and negatives drawn alike."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from polyvore_u import write_polyvore_u
from runs import (
    assert_equal_runs,
    assert_like_runs,
    settings,
    train,
    train_until,
)

from fhn_jax.data.batches import TrainBatches
from fhn_jax.data.negatives import NegativeSampler
from fhn_jax.training.epochs import DeviceSampler, contains, make_batch, sorted_rows
from tests.catalogues import catalogue, random_positives

SIZES = (5, 4, 3)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny", image_size=None)


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 65])
def test_contains_is_exact(rows):
    rng = np.random.default_rng(rows)
    table = sorted_rows(rng.integers(0, 5, (rows, 3)))
    every = np.array(list(itertools.product(range(-1, 6), repeat=3)), np.int32)
    known = {tuple(row) for row in table.tolist()}
    got = jax.jit(contains)(jnp.asarray(table), jnp.asarray(every))
    assert got.tolist() == [tuple(row) in known for row in every.tolist()]


def drawn(data, kind, many=400, **options):
    """Draws of host and device for the same positives: [many, n, k, s] each."""
    host = NegativeSampler(data, kind, **options)
    device = DeviceSampler(host)
    rows = jnp.arange(len(host.positives))

    def draw(key):
        return device.draw(key, device.tables, rows, jnp.int32(0))

    items, fits = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), many))
    assert fits.all()
    return np.stack([host.draw(epoch) for epoch in range(many)]), np.array(items)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random_online", "hard_online"])
def test_the_device_draws_with_the_distribution_of_the_host(kind):
    data = catalogue(random_positives(3, 4, SIZES), SIZES)
    ours, theirs = drawn(data, kind, ratio=2, hard_share=0.5)[::-1]
    strides = np.array([12, 3, 1])
    for positive in range(ours.shape[1]):
        counts = [
            np.bincount((x[:, positive] @ strides).ravel(), minlength=60)
            for x in (ours, theirs)
        ]
        # What one may not draw, the other does not either; the rest is equal to within
        # five standard deviations of the difference of two counts.
        assert (counts[0][counts[1] == 0] < 12).all()
        assert (counts[1][counts[0] == 0] < 12).all()
        spread = np.sqrt(np.maximum(sum(counts), 1))
        assert (np.abs(counts[0] - counts[1]) < 5 * spread).all(), positive


@pytest.mark.slow
def test_negatives_of_the_device_are_nobodys_and_hard_ones_another_users():
    data = catalogue(random_positives(3, 4, SIZES), SIZES)
    positives = data.splits["train"].positives
    known = {tuple(row) for row in positives.items.tolist()}
    _, random = drawn(data, "random_online", many=50, ratio=3)
    assert not known & {tuple(row) for row in random.reshape(-1, 3).tolist()}
    _, hard = drawn(data, "hard_online", many=50, ratio=3, hard_share=1.0)
    for row, user in enumerate(positives.users):
        own = {tuple(x) for x in positives.items[positives.users == user].tolist()}
        got = {tuple(x) for x in hard[:, row].reshape(-1, 3).tolist()}
        assert got <= known - own and len(got) > 1


@pytest.mark.slow
def test_an_outfit_with_one_top_gets_negatives_with_one_top():
    rows = [(0, 0, 0, 0, 0), (0, 1, 2, 1, 1), (1, 3, 3, 2, 2), (1, 2, 1, 0, 1)]
    data = catalogue(rows, (6, 4, 4), slots=(0, 0, 1, 2))
    _, items = drawn(data, "random_online", many=100, ratio=2)
    same = items[..., 0] == items[..., 1]
    assert same[:, [0, 2]].all() and not same[:, [1, 3]].all()


@pytest.mark.slow
def test_nothing_to_draw_is_noticed():
    every = [(0, *row) for row in itertools.product(range(2), repeat=3)]
    data = catalogue(every[:-1], (2, 2, 2))
    device = DeviceSampler(NegativeSampler(data, "random_online"))
    full = dict(device.tables)
    # Known for everybody, as user -1.
    full["known"] = jnp.asarray(sorted_rows(np.array(every) - np.eye(4, dtype=int)[0]))
    draw = jax.jit(device.draw)
    rows = jnp.arange(3)
    assert draw(jax.random.key(0), device.tables, rows, jnp.int32(0))[1]
    assert not draw(jax.random.key(0), full, rows, jnp.int32(0))[1]


@pytest.mark.slow
@pytest.mark.parametrize("slots", [(0, 1, 2), (0, 0, 1, 2)])
def test_a_batch_made_on_the_device_is_the_hosts(slots):
    rows = random_positives(4, 5, SIZES, slots=slots)
    data = catalogue(rows, SIZES, slots=slots)
    batches = TrainBatches(data, NegativeSampler(data, "random_online"), 6, 0)
    order, weights = batches.order(1)
    negatives = batches.sampler.draw(1)
    for step, want in enumerate(batches.epoch(1)):
        positives = batches.positives.items[order[step], None]
        drawn = negatives[order[step]]
        drawn[weights[step] == 0] = 0  # What is drawn for padding is not in the batch.
        got = make_batch(
            jnp.asarray(batches.positives.users[order[step]]),
            jnp.asarray(np.concatenate([positives, drawn], axis=1)),
            jnp.asarray(weights[step]),
            segments=batches.segments,
            slots=batches.slots,
            offsets=batches.offsets,
        )
        for name, array in want._asdict().items():
            np.testing.assert_array_equal(getattr(got, name), array, err_msg=name)


# Runs

DEVICE = {
    "train.sampler": "device",
    "train.epochs": 3,
    "train.batch_size": 10,
    "train.log_steps": 3,
    "train.average_decay": 0.9,
    "optimizer.name": "adamw",
    "optimizer.rates.user": 0.05,
}


@pytest.mark.slow
def test_fixed_negatives_train_alike_on_host_and_device(root, tmp_path):
    for sampler in ("host", "device"):
        changes = {"train.sampler": sampler, "train.negatives": "random_fixed"}
        config = settings(root, DEVICE | changes)
        train(config, tmp_path / sampler)
    assert_like_runs(tmp_path / "device", tmp_path / "host")


@pytest.mark.slow
def test_a_run_on_the_device_resumes_bit_for_bit(root, tmp_path, monkeypatch):
    config = settings(root, DEVICE)
    train(config, tmp_path / "whole")
    train_until(config, tmp_path / "stopped", 9, "step 9", monkeypatch)
    train(config, tmp_path / "stopped")
    assert_equal_runs(config, tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_named_with_the_step_of_the_host(root, tmp_path):
    texts = []
    for sampler in ("host", "device"):
        changes = {"train.sampler": sampler, "train.negatives": "random_fixed"}
        changes["optimizer.rates.user"] = 1e38
        with pytest.raises(FloatingPointError) as caught:
            train(settings(root, DEVICE | changes), tmp_path / sampler)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert re.match(r"train/\w+ is not finite since step [1-9]", texts[0])


def test_items_that_are_not_on_the_device_are_refused(root, tmp_path):
    config = settings(root, DEVICE | {"data.cache": "none"})
    with pytest.raises(ValueError, match="text are not there; use .*cache=device"):
        train(config, tmp_path / "run")
