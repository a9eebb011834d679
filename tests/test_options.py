"""Every option of the reference trains: the loss is finite and falls."""

import itertools

import jax
import numpy as np
import pytest
from blocks import use_blocks
from polyvore_u import write_polyvore_u
from runs import load, settings

from fhn_jax.models.hashing import HASHES, tanh_scale
from fhn_jax.training import build
from fhn_jax.training.schedule import SCHEDULES
from fhn_jax.training.step import OPTIMIZERS, pop_metrics

EPOCHS = 24
TEXT_DIM = 24
# Starts and rates at which 48 outfits are learned in some epochs.
FAST = {
    "train.epochs": EPOCHS,
    "model.text_head.stddev": 0.0,
    "model.visual_head.stddev": 0.0,
    "model.text_head.dropout": 0.0,
    "model.visual_head.dropout": 0.0,
    "model.visual_head.input_dropout": 0.0,
    "model.user.stddev": 0.5,
    "optimizer.name": "adam",
    **{f"optimizer.rates.{group}": 0.01 for group in ("backbone", "visual", "text")},
    "optimizer.rates.user": 0.05,
    "optimizer.rates.matching": 0.05,
}
SGD = {"optimizer.rates.user": 5.0, "optimizer.rates.text": 0.05}
# Of what is chosen by name, one of each kind in a run, until all have had their turn.
CHOICES = itertools.zip_longest(
    [("hash_types", i, {"model.matching.hash_types": i}) for i in range(4)],
    [("hash", name, {"model.hash": name}) for name in sorted(HASHES)],
    [
        ("optimizer", name, {"optimizer.name": name} | (SGD if name == "sgd" else {}))
        for name in sorted(OPTIMIZERS)
    ],
    [
        ("schedule", name, {"schedule.name": name, "schedule.every": 10})
        for name in sorted(SCHEDULES)
    ],
)
OPTIONS = {
    **{
        ",".join(f"{kind}={name}" for kind, name, _ in filter(None, chosen)): {
            key: value
            for _, _, values in filter(None, chosen)
            for key, value in values.items()
        }
        for chosen in CHOICES
    },
    "single,several negatives": {"model.single": True, "train.ratio": 4},
    "share_user": {"model.user.share_user": True, "optimizer.rates.user": 0.2},
    "zero_item_term": {"model.matching.zero_item_term": True},
    "zero_user_term": {"model.matching.zero_user_term": True},
    "bits=8": {"model.bits": 8},
    "bits=512": {"model.bits": 512},
    "softmax": {"loss.rank": "softmax", "train.ratio": 4},
}
SEEN = {
    "visual": ("t3", {}),
    "frozen backbone": ("t3", {"model.backbone.trainable": False}),
    "margin=0": ("vse_t3", {"loss.margin": 0.0, "loss.vse_weight": 0.5}),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny")


def run(config):
    """Means of the metrics of each epoch, the variables before and after, the state."""
    build.check_config(config)
    catalogue, inputs = load(config)
    text_dim = TEXT_DIM if "text" in config.model.modalities else 0
    model = build.make_model(config, catalogue, text_dim)
    batches = build.make_batches(config, catalogue)
    trainer = build.make_trainer(config, model, batches)
    schedule = build.make_schedule(config, batches.steps)
    state = trainer.init()
    before = jax.device_get(state.params)
    epochs, step = [], 0
    for epoch in range(EPOCHS):
        beta = np.float32(tanh_scale(epoch, config.model.tanh_gamma))
        for batch in batches.epoch(epoch):
            rate = np.float32(schedule.rate(step))
            state = trainer.step(
                state, jax.random.key(0), beta, rate, batch, {}, inputs.tables
            )
            step += 1
        state, means = pop_metrics(state)
        schedule.end_epoch(means["loss"])
        epochs.append(means)
    return epochs, before, state


def assert_trains(epochs):
    values = [means["loss"] for means in epochs]
    assert np.isfinite(values).all()
    # Means over epochs, because the negatives are drawn anew in each.
    assert np.mean(values[-6:]) < 0.9 * np.mean(values[:3]), values


def options(values):
    values = FAST | values
    # The share of the binary codes in the loss needs a hash layer that passes gradients.
    if values.get("model.hash", "ste") != "ste":
        values["loss.binary_share"] = 0.0
    return values


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_option_trains(root, name):
    epochs, _, _ = run(settings(root, options(OPTIONS[name])))
    assert_trains(epochs)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEN)
def test_what_is_seen_trains(root, name, monkeypatch):
    config, values = SEEN[name]
    if name != "visual":  # Of the others, any network of images will do.
        use_blocks(monkeypatch)
    epochs, before, state = run(settings(root, options(values), config=config))
    assert_trains(epochs)
    if name == "margin=0":
        # The codes start near 0, where nothing is below a margin of 0; the hinge then
        # takes part, and stays small.
        assert all(0 < means["vse_loss"] < 0.1 for means in epochs)
    after = jax.device_get(state.params)
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(
            jax.tree.leaves(before["backbone"]),
            jax.tree.leaves(after["backbone"]),
            strict=True,
        )
    ]
    assert all(moved) if name != "frozen backbone" else not any(moved)


@pytest.mark.slow
def test_a_frozen_backbone_has_no_gradient_and_no_moments(root):
    def sizes(trainable):
        values = {"model.backbone.trainable": trainable, "optimizer.name": "adam"}
        config = settings(root, values, config="t3")
        catalogue, _ = load(config)
        model = build.make_model(config, catalogue, 0)
        state = build.make_trainer(
            config, model, build.make_batches(config, catalogue)
        ).init()
        images = np.ones((2, 32, 32, 3), np.float32)

        def total(images):
            return model.features(images).sum()

        gradient = jax.jit(jax.grad(total))(images)
        count = sum(x.size for x in jax.tree.leaves(state.params["backbone"]))
        moments = sum(x.size for x in jax.tree.leaves(state.opt_state))
        return count, moments, float(np.abs(gradient).max())

    count, moments, gradient = sizes(True)
    _, fewer, none = sizes(False)
    assert gradient > 0
    assert none == 0
    # Two moments each; the counter of Adam's steps of that group goes as well.
    assert moments - fewer == 2 * count + 1
