"""The objective, and the training step as one pure, traced function."""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fhn_jax.data.batches import TrainBatches
from fhn_jax.data.negatives import NegativeSampler
from fhn_jax.models.augment import Augmentation, normalise
from fhn_jax.models.fashion_hash_net import FashionHashNet, Shape
from fhn_jax.models.hashing import Hash
from fhn_jax.training.epochs import DeviceEpochs
from fhn_jax.training.objective import Objective, bpr_loss, softmax_loss, vse_loss
from fhn_jax.training.rows import skipped_step
from fhn_jax.training.step import (
    GROUPS,
    METRICS,
    Trainer,
    group_of,
    make_optimizer,
    pop_metrics,
)
from tests.catalogues import catalogue, random_positives

SIZES = (9, 7, 6)
TEXT_DIM, IMAGE_SIZE = 6, 16
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)
RATES = dict.fromkeys(GROUPS, 0.1)
SGD = dict(momentum=0.0)


# The objective


def test_rank_loss_takes_the_positive_first():
    scores = jnp.array([[1.0, 0.0, 3.0]])
    positive, negative = scores[:, 0], scores[:, 1:]
    np.testing.assert_array_equal(
        Objective().rank_loss(scores), bpr_loss(positive, negative)
    )
    np.testing.assert_array_equal(
        Objective(rank="softmax", sharpness=2.0).rank_loss(scores),
        softmax_loss(positive, negative, 2.0),
    )


@pytest.mark.parametrize(
    "settings, text",
    [
        (dict(rank="hinge"), "loss.rank='hinge': expected one of bpr, softmax"),
        (dict(binary_share=1.5), "loss.binary_share=1.5: expected 0 to 1"),
        (dict(sharpness=0.0), "loss.sharpness=0.0: expected above 0"),
        (dict(vse_weight=-1.0), "loss.vse_weight=-1.0: expected at least 0"),
        (dict(margin=-0.1), "loss.margin=-0.1: expected at least 0"),
        (dict(margin=float("nan")), "loss.margin=nan: expected at least 0"),
    ],
)
def test_objectives_out_of_range_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        Objective(**settings)


# The step


class MeanColour(nnx.Module):
    """An image network that compiles fast."""

    num_features, min_size = 4, 1

    def __init__(self, *, rngs):
        self.linear = nnx.Linear(3, self.num_features, rngs=rngs)

    def __call__(self, images):
        # Of the left half, so that mirroring makes a difference.
        return self.linear(images[:, :, : images.shape[2] // 2].mean(axis=(1, 2)))


class Setting:
    """A trainer on a small data set, and what its step takes."""

    def __init__(
        self,
        *,
        modalities=("text",),
        hash="ste",
        optimizer=None,
        objective=None,
        dropout=0.0,
        average_decay=0.0,
        ratio=2,
        batch_size=8,
        augmentation=None,
        multiple=1,
        compute_dtype="float32",
        users=4,
        count=None,
        **options,
    ):
        self.data = catalogue(random_positives(users, 5, SIZES), SIZES)
        sampler = NegativeSampler(self.data, "random_online", ratio=ratio)
        self.batches = TrainBatches(self.data, sampler, batch_size, 0, multiple)
        head = dict(hidden=5, input_dropout=0.0, dropout=dropout, stddev=0.5)
        shape = Shape(
            num_users=count or users,
            slots=self.data.slots,
            text_dim=TEXT_DIM,
            image_size=IMAGE_SIZE,
        )
        with mock.patch(
            "fhn_jax.models.fashion_hash_net.make_backbone",
            lambda name, rngs: MeanColour(rngs=rngs),
        ):
            self.model = FashionHashNet(
                shape,
                modalities=modalities,
                bits=8,
                hash=Hash(hash),
                backbone=dict(name="mean colour"),
                visual_head=head,
                text_head=head,
                single=False,
                user=dict(stddev=0.5),
                matching=dict(hash_types=3),
                rngs=nnx.Rngs(0),
            )
        self.objective = objective or Objective(binary_share=0.5)
        self.trainer = Trainer(
            self.model,
            optimizer or make_optimizer("sgd", RATES, **SGD),
            self.objective,
            segments=self.batches.segments,
            slots=self.data.slots,
            augmentation=augmentation or Augmentation(flip=False),
            mean=MEAN,
            std=STD,
            average_decay=average_decay,
            compute_dtype=compute_dtype,
            **options,
        )
        rng = np.random.default_rng(0)
        n = self.data.num_items
        text = rng.normal(size=(n, TEXT_DIM)).astype(np.float32)
        images = rng.integers(0, 256, (n, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        tables = {"text": jnp.asarray(text), "visual": jnp.asarray(images)}
        self.tables = {modality: tables[modality] for modality in modalities}

    def batch(self, index=0, epoch=0):
        return list(self.batches.epoch(epoch))[index]

    def step(
        self, state, batch, *, beta=1.0, rate=1.0, inputs=None, tables=None, key=7
    ):
        return self.trainer.step(
            state,
            jax.random.key(key),
            np.float32(beta),
            np.float32(rate),
            batch,
            inputs or {},
            self.tables if tables is None else tables,
        )

    def forward(self, batch, beta=1.0):
        """Latents and scores of a batch, computed directly."""
        rows = {m: x[jnp.maximum(batch.items, 0)] for m, x in self.tables.items()}
        if "visual" in rows:
            rows["visual"] = normalise(rows["visual"], MEAN, STD)
        graphdef, variables = nnx.split(self.model)

        def call(variables, batch, rows):
            model = nnx.merge(graphdef, variables)
            latents = model.item_latents(rows, self.batches.segments)
            slots = self.data.slots
            return latents, *model.scores(
                batch.users, latents, batch.outfits, slots, beta
            )

        return jax.jit(call)(variables, batch, rows)


@pytest.fixture(scope="module")
def setting():
    return Setting()


@pytest.fixture(scope="module")
def both():
    objective = Objective(binary_share=0.25, vse_weight=0.3, margin=0.2)
    return Setting(modalities=("visual", "text"), hash="tanh", objective=objective)


def values(state_or_params):
    """All arrays, as numpy."""
    return [np.array(x) for x in jax.tree.leaves(state_or_params)]


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, values(a), values(b))


def right(scores):
    return (scores[:, :1] > scores[:, 1:]).mean(axis=1)


def test_all_variables_are_in_a_group(both):
    params = nnx.state(both.model, nnx.Param)
    groups = {group_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    assert groups == set(GROUPS)


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 2])
def test_metrics_are_those_of_the_formulas_over_real_rows(both, index):
    beta = 1.5
    batch = both.batch(index)
    real = batch.weights > 0
    assert real.all() == (index == 0)  # the last batch is padded
    latents, relaxed, binary = both.forward(batch, beta)
    rank, binary_rank = bpr_rows = [
        np.asarray(both.objective.rank_loss(scores))[real]
        for scores in (relaxed, binary)
    ]
    assert all(len(rows) == real.sum() for rows in bpr_rows)
    codes = [
        np.tanh(beta * np.concatenate(latents[m]))[batch.paired]
        for m in ("visual", "text")
    ]
    vse = float(vse_loss(*map(jnp.asarray, codes), 0.2).mean())
    want = dict(
        loss=0.75 * rank.mean() + 0.25 * binary_rank.mean() + 0.3 * vse,
        rank_loss=rank.mean(),
        binary_loss=binary_rank.mean(),
        vse_loss=vse,
        accuracy_relaxed=right(np.asarray(relaxed)[real]).mean(),
        accuracy_binary=right(np.asarray(binary)[real]).mean(),
    )
    state = both.step(both.trainer.init(), batch, beta=beta)
    _, means = pop_metrics(state)
    assert set(means) == set(METRICS)
    assert means == pytest.approx(want, rel=1e-4, abs=1e-6)


def test_means_weigh_rows_equally_and_start_again_when_taken(setting):
    state = setting.trainer.init()
    batches = list(setting.batches.epoch(0))
    frozen = dict(rate=0.0)
    each = []
    for batch in batches:
        state, means = pop_metrics(setting.step(state, batch, **frozen))
        each.append((batch.weights.sum(), means["loss"]))
    assert [rows for rows, _ in each] == [8, 8, 4]
    for batch in batches:
        state = setting.step(state, batch, **frozen)
    state, means = pop_metrics(state)
    want = sum(rows * loss for rows, loss in each) / 20
    assert means["loss"] == pytest.approx(want, rel=1e-5)
    assert set(pop_metrics(state)[1].values()) == {0.0}


def test_padding_rows_change_nothing(setting):
    batch = setting.batch(2)
    other = batch._replace(
        users=np.where(batch.weights > 0, batch.users, 3).astype(np.int32),
        outfits=np.where(batch.weights[:, None, None] > 0, batch.outfits, 0),
    )
    assert not np.array_equal(batch.outfits, other.outfits)
    first = setting.step(setting.trainer.init(), batch)
    second = setting.step(setting.trainer.init(), other)
    for a, b in zip(values(first.params), values(second.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_the_schedule_scales_all_updates(setting):
    start = values(setting.trainer.init().params)
    batch = setting.batch()
    whole = values(setting.step(setting.trainer.init(), batch, rate=1.0).params)
    half = values(setting.step(setting.trainer.init(), batch, rate=0.5).params)
    for a, b, c in zip(start, whole, half, strict=True):
        np.testing.assert_allclose(c - a, (b - a) / 2, rtol=1e-3, atol=1e-7)
        assert np.any(a != b)


@pytest.mark.slow
def test_streamed_inputs_and_resident_tables_give_the_same_step(both):
    batch = both.batch(2)
    rows = {
        m: np.asarray(x)[np.maximum(batch.items, 0)] for m, x in both.tables.items()
    }
    resident = both.step(both.trainer.init(), batch)
    streamed = both.step(both.trainer.init(), batch, inputs=rows, tables={})
    for a, b in zip(values(resident.params), values(streamed.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_what_is_in_padding_rows_of_streamed_inputs_does_not_matter(both):
    batch = both.batch(2)
    padding = batch.items < 0
    assert padding.any()
    rows = {
        m: np.asarray(x)[np.maximum(batch.items, 0)] for m, x in both.tables.items()
    }
    others = {m: x.copy() for m, x in rows.items()}
    others["text"][padding] = 5.0
    others["visual"][padding] = 255
    first = both.step(both.trainer.init(), batch, inputs=rows, tables={})
    second = both.step(both.trainer.init(), batch, inputs=others, tables={})
    for a, b in zip(values(first.params), values(second.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_steps_lower_the_loss(setting):
    state = setting.trainer.init()
    losses = []
    for epoch in range(15):
        for batch in setting.batches.epoch(epoch):
            state = setting.step(state, batch)
        state, means = pop_metrics(state)
        losses.append(means["loss"])
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])


@dataclasses.dataclass(frozen=True)
class Counting(Objective):
    """Counts how often Python sees the ranking loss, which is once a trace."""

    calls: list = dataclasses.field(default_factory=list)

    def rank_loss(self, scores):
        self.calls.append(scores.shape)
        return super().rank_loss(scores)


def test_the_step_is_traced_once_over_steps_and_epochs():
    objective = Counting(binary_share=0.5)
    setting = Setting(objective=objective, average_decay=0.9)
    state = setting.trainer.init()
    for epoch in range(3):
        for batch in setting.batches.epoch(epoch):
            rate, beta = 0.5**epoch, (1 + epoch) ** 0.5
            state = setting.step(state, batch, beta=beta, rate=rate, key=epoch)
        state, _ = pop_metrics(state)
    assert int(state.step) == 3 * setting.batches.steps
    assert len(objective.calls) == 2  # relaxed and binary scores of one trace


def test_the_state_is_donated_and_the_network_is_not(setting):
    state = setting.trainer.init()
    leaves = jax.tree.leaves((state.params, state.sums))
    before = values(nnx.state(setting.model))
    setting.step(state, setting.batch())
    assert all(leaf.is_deleted() for leaf in leaves)
    assert_equal(before, nnx.state(setting.model))
    assert_equal(before, setting.trainer.init().params)


def test_a_state_that_takes_the_network_s_variables_has_no_copy_of_them():
    setting = Setting(modalities=("text",))
    kept, taken = setting.trainer.init(), setting.trainer.init(take=True)
    assert_equal(kept.params, taken.params)
    variables = jax.tree.leaves(nnx.state(setting.model, nnx.Param))
    one = setting.step(kept, setting.batch())
    assert not any(leaf.is_deleted() for leaf in variables)
    other = setting.step(taken, setting.batch())
    assert all(leaf.is_deleted() for leaf in variables)
    assert_equal(one, other)


def test_a_state_as_of_another_step_has_no_array_twice():
    """A step takes the memory of each."""
    skipped = skipped_step("sgd", RATES["user"], **SGD)
    trainer = Setting(skipped=skipped).trainer
    leaves = jax.tree.leaves(trainer.at_step(trainer.init(), 3))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


@pytest.mark.slow
def test_nothing_as_large_as_the_user_table_is_copied_in_a_step_of_rows():
    """Neither in a step, nor in many of them in a loop of the device."""
    skipped = skipped_step("adam", 0.1)
    adam = make_optimizer("adam", RATES)
    setting = Setting(optimizer=adam, skipped=skipped, average_decay=0.9, count=10**6)
    state = setting.trainer.shapes()
    table = state.params["user"]["embedding"]
    assert table.shape == (10**6, 8)
    step = setting.trainer.step.lower(
        state, jax.random.key(0), np.float32(1), np.float32(1), setting.batch(), {},
        setting.tables,
    )  # fmt: skip
    epochs = DeviceEpochs(
        setting.trainer, setting.batches, setting.tables, jax.random.key(0), most=2
    )
    rows, weights = setting.batches.order(0)
    loop = epochs._run.lower(
        state, np.float32(1), np.ones(len(rows), np.float32), rows, weights,
        np.int32(0), np.int32(2), epochs._resident,
    )  # fmt: skip
    for lowered in (step, loop):
        memory = lowered.compile().memory_analysis()
        # The table, two moments, the average; and one number a user.
        assert memory.alias_size_in_bytes > 10**6 * (4 * 8 * 4 + 4)
        # Neither is there twice; the products of steps are.
        assert memory.temp_size_in_bytes < 2 * 10**6


@pytest.mark.slow
def test_a_step_is_a_function_of_its_arguments():
    setting = Setting(
        modalities=("visual", "text"),
        dropout=0.5,
        augmentation=Augmentation(flip=True),
    )
    batch = setting.batch()
    trainer = setting.trainer
    first = setting.step(trainer.init(), batch)
    again = setting.step(trainer.init(), batch)
    assert_equal(first, again)
    loss = float(first.sums["loss"])
    # Another step, or another run's key, has other dropout and augmentation.
    later = trainer.init()._replace(step=jnp.int32(1))
    assert float(setting.step(later, batch).sums["loss"]) != loss
    assert float(setting.step(trainer.init(), batch, key=8).sums["loss"]) != loss


def test_the_average_follows_the_variables_ever_more_slowly():
    setting = Setting(average_decay=0.3)
    trainer = setting.trainer
    state = trainer.init()
    average = values(state.params)
    assert_equal(state.average, average)
    # min(0.3, (1 + t) / (10 + t)) after t steps
    for batch, decay in zip(setting.batches.epoch(0), [0.1, 2 / 11, 0.25], strict=True):
        state = setting.step(state, batch)
        average = [
            decay * a + (1 - decay) * p
            for a, p in zip(average, values(state.params), strict=True)
        ]
    state = setting.step(state, setting.batch())
    average = [
        0.3 * a + 0.7 * p for a, p in zip(average, values(state.params), strict=True)
    ]
    for got, want in zip(values(state.average), average, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    assert_equal(nnx.state(trainer.model(state)), state.average)


def test_without_an_average_the_network_is_of_the_variables_themselves(setting):
    state = setting.step(setting.trainer.init(), setting.batch())
    assert state.average is None
    assert_equal(nnx.state(setting.trainer.model(state)), state.params)


def test_what_is_not_finite_is_named_with_its_first_step(setting):
    state = setting.trainer.init()
    batch = setting.batch()
    rows = np.asarray(setting.tables["text"])[np.maximum(batch.items, 0)]
    broken = rows.copy()
    broken[0, 0] = np.nan
    for step in range(1, 6):
        inputs = {"text": broken if step == 3 else rows}
        state = setting.step(state, batch, inputs=inputs, tables={})
    with pytest.raises(
        FloatingPointError, match="train/loss is not finite since step 3"
    ):
        pop_metrics(state)
    steps = {name: int(step) for name, step in state.bad_steps.items()}
    assert steps["rank_loss"] == 3
    assert steps["accuracy_relaxed"] == -1  # a share, finite whatever the scores


def test_the_metric_that_broke_first_is_named(setting):
    steps = {name: jnp.int32(-1) for name in METRICS}
    steps |= {"loss": jnp.int32(7), "vse_loss": jnp.int32(5)}
    state = setting.trainer.init()._replace(bad_steps=steps)
    with pytest.raises(FloatingPointError, match="train/vse_loss is not .* step 5"):
        pop_metrics(state)


@pytest.mark.slow
def test_bfloat16_computes_nearly_the_same_and_keeps_float32_variables():
    exact, rounded = (
        Setting(modalities=("visual", "text"), compute_dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    means = []
    for setting in (exact, rounded):
        state = setting.step(setting.trainer.init(), setting.batch())
        assert {x.dtype for x in jax.tree.leaves(state.params)} == {
            jnp.dtype("float32")
        }
        means.append(pop_metrics(state)[1])
    assert means[0]["loss"] != means[1]["loss"]
    assert means[1]["loss"] == pytest.approx(means[0]["loss"], rel=0.02)
