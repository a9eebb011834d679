"""Negatives and batches of outfits of several shapes, of the host and of the device."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shapes import TEMPLATES, write_shapes

from fhn_jax.data.batches import TrainBatches
from fhn_jax.data.catalogue import Outfits, template_masks
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.negatives import NegativeSampler
from fhn_jax.errors import InputError
from fhn_jax.training.epochs import DeviceSampler, make_batch

KINDS = ("random_online", "hard_online", "random_fixed", "hard_fixed")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return read_catalogue(write_shapes(tmp_path_factory.mktemp("shapes") / "data"), "8")


def only(data, keep):
    """The same with some of the training outfits, without stored negatives."""
    train = data.splits["train"]
    positives = Outfits(train.positives.users[keep], train.positives.items[keep])
    part = dataclasses.replace(train, positives=positives, negatives={})
    return dataclasses.replace(data, splits={"train": part})


def mask_of(template):
    return sum(1 << slot for slot in template)


def draws(data, kind, many=4, **options):
    """Draws of host and device for all positives: [many, n, k, s] each."""
    host = NegativeSampler(data, kind, **options)
    device = DeviceSampler(host)
    rows = jnp.arange(len(host.positives))

    def draw(key, epoch):
        return device.draw(key, device.tables, rows, epoch)

    keys = jax.random.split(jax.random.key(0), many)
    items, fits = jax.jit(jax.vmap(draw))(keys, jnp.arange(many))
    assert fits.all()
    return np.stack([host.draw(epoch) for epoch in range(many)]), np.asarray(items)


# Draws on the device take seconds to compile.
SLOW = pytest.mark.slow


@pytest.fixture(
    scope="module",
    params=[
        *((kind, "host") for kind in KINDS),
        *(pytest.param((kind, "device"), marks=SLOW) for kind in KINDS[:2]),
        *((kind, "device") for kind in KINDS[2:]),
    ],
    ids="-".join,
)
def drawn(request, data):
    """The kind of negatives, and some epochs of them."""
    kind, where = request.param
    options = {"ratio": 3, "hard_share": 1.0}
    if where == "host":
        sampler = NegativeSampler(data, kind, **options)
        return kind, np.stack([sampler.draw(epoch) for epoch in range(4)])
    return kind, draws(data, kind, **options)[1]


@pytest.mark.slow
def test_negatives_keep_the_template_of_their_positive(data, drawn):
    positives = data.splits["train"].positives
    found = template_masks(drawn[1])
    want = np.broadcast_to(template_masks(positives.items)[:, None], found.shape)
    np.testing.assert_array_equal(found, want)


def test_negatives_are_of_the_training_items_and_never_a_positive(data, drawn):
    kind, items = drawn
    positives = data.splits["train"].positives
    rows = list(zip(positives.users.tolist(), positives.items.tolist(), strict=True))
    known = {tuple(outfit) for _, outfit in rows}
    for slot, ids in enumerate(data.split_items("train")):
        found = np.unique(items[..., slot])
        # Fixed ones may be items of no positive.
        among = range(16) if kind == "random_fixed" else ids.tolist()
        assert set(found[found >= 0].tolist()) <= set(among)
    for row, (user, outfit) in enumerate(rows):
        own = {tuple(other) for who, other in rows if who == user}
        got = {tuple(x) for x in items[:, row].reshape(-1, 6).tolist()}
        assert not got & own
        if kind.startswith("hard"):
            assert got <= known
        elif sum(item >= 0 for item in outfit) > 1:
            assert not got & known


def test_fixed_negatives_are_those_of_the_files(data, drawn):
    kind, items = drawn
    if kind.endswith("_fixed"):
        stored = data.splits["train"].negatives[kind.removesuffix("_fixed")].items
        np.testing.assert_array_equal(items[0].reshape(-1, 6), stored)


@SLOW
def test_a_template_of_one_user_has_random_negatives_in_place_of_hard_ones(data):
    positives = data.splits["train"].positives
    masks = template_masks(positives.items)
    lone = (masks == mask_of(TEMPLATES[2])) & (positives.users > 0)
    data = only(data, ~lone)
    positives = data.splits["train"].positives
    known = {tuple(items) for items in positives.items.tolist()}
    mine = template_masks(positives.items) == mask_of(TEMPLATES[2])
    assert mine.sum() == 2
    for items in draws(data, "hard_online", ratio=2, hard_share=1.0):
        lone = items[:, mine].reshape(-1, 6)
        assert (template_masks(lone) == mask_of(TEMPLATES[2])).all()
        assert not known & {tuple(row) for row in lone.tolist()}
        others = items[:, ~mine].reshape(-1, 6)
        assert {tuple(row) for row in others.tolist()} <= known


@SLOW
def test_likes_of_single_items_alone_have_negatives(data):
    masks = template_masks(data.splits["train"].positives.items)
    data = only(data, masks == mask_of(TEMPLATES[3]))
    positives = data.splits["train"].positives
    for items in draws(data, "random_online", ratio=4):
        assert (items[..., :5] == -1).all()
        for row, user in enumerate(positives.users):
            own = positives.items[positives.users == user, 5]
            assert not np.isin(items[:, row, :, 5], own).any()


def test_a_user_who_likes_everything_leaves_no_negative(data):
    masks = template_masks(data.splits["train"].positives.items)
    rows = masks == mask_of(TEMPLATES[3])
    data = only(data, rows & (data.splits["train"].positives.users == 1))
    with pytest.raises(InputError, match="user 1 likes every bag of the training"):
        NegativeSampler(data, "random_online")


# Batches


@pytest.fixture(scope="module")
def batches(data):
    sampler = NegativeSampler(data, "random_online", ratio=2)
    return TrainBatches(data, sampler, 12, 0)


def test_batches_list_the_items_that_are_there(data, batches):
    negatives = batches.sampler.draw(1)
    order, _ = batches.order(1)
    starts = np.cumsum([0, *batches.segments[:-1]])
    for step, batch in enumerate(batches.epoch(1)):
        absent = batch.outfits < 0
        ids = batch.items[np.where(absent, 0, batch.outfits + starts)]
        rows = order[step]
        positives = data.splits["train"].positives.items[rows, None]
        want = np.concatenate([positives, negatives[rows]], axis=1)
        np.testing.assert_array_equal(np.where(absent, -1, ids), data.global_ids(want))
        used = data.global_ids(want)
        there = batch.items[batch.items >= 0]
        assert sorted(there) == np.unique(used[used >= 0]).tolist()
        np.testing.assert_array_equal(batch.paired, batch.items >= 0)


def test_a_batch_made_on_the_device_is_the_hosts(batches):
    order, weights = batches.order(1)
    negatives = batches.sampler.draw(1)
    positives = batches.sampler.positives

    @jax.jit
    def make(users, outfits, weights):
        return make_batch(
            users,
            outfits,
            weights,
            segments=batches.segments,
            slots=batches.slots,
            offsets=batches.offsets,
        )

    for step, want in enumerate(batches.epoch(1)):
        rows = order[step]
        outfits = np.concatenate([positives.items[rows, None], negatives[rows]], axis=1)
        got = make(*map(jnp.asarray, (positives.users[rows], outfits, weights[step])))
        for name, array in want._asdict().items():
            np.testing.assert_array_equal(getattr(got, name), array, err_msg=name)


def test_segments_hold_no_more_than_the_outfits_that_have_the_slot(data):
    # Outerwear is in a quarter of the outfits, shoes in three quarters.
    keep = data.splits["train"].positives.users < 2
    few = only(data, keep)
    sampler = NegativeSampler(few, "random_online", ratio=1)
    segments = TrainBatches(few, sampler, 16, 0).segments
    used = [len(ids) for ids in few.split_items("train")]
    assert segments == tuple(np.minimum([16, 16, 24, 8, 8, 16], used))
