"""Training batches: every outfit and every distinct item once, padding, resuming."""

import jax
import numpy as np
import pytest

from fhn_jax.data import batches as batches_module
from fhn_jax.data.batches import TrainBatches
from fhn_jax.data.negatives import NegativeSampler
from tests.catalogues import catalogue, random_positives

TWO_TOPS = (0, 0, 1, 2)
SIZES = (12, 10, 8)


def make(slots=(0, 1, 2), batch_size=7, ratio=2, seed=0, sizes=SIZES):
    data = catalogue(random_positives(4, 5, sizes, slots), sizes, slots=slots)
    sampler = NegativeSampler(data, "random_online", ratio=ratio, seed=seed)
    return data, TrainBatches(data, sampler, batch_size, seed)


def candidates(data, batch, segments):
    """Outfits as item ids within their category, read back through `batch.items`."""
    starts = np.concatenate([[0], np.cumsum(segments)])
    result = np.empty_like(batch.outfits)
    for slot, category in enumerate(data.slots):
        ids = batch.items[starts[category] + batch.outfits[..., slot]]
        result[..., slot] = ids - data.offsets[category]
    return result


@pytest.mark.parametrize("slots", [(0, 1, 2), TWO_TOPS])
def test_an_epoch_has_each_positive_once_with_its_negatives(slots):
    data, batches = make(slots)
    positives = data.splits["train"].positives
    negatives = batches.sampler.draw(3)
    want = {
        (int(user), tuple(items), tuple(map(tuple, drawn.tolist())))
        for user, items, drawn in zip(
            positives.users, positives.items.tolist(), negatives, strict=True
        )
    }
    got = []
    for batch in batches.epoch(3):
        rows = candidates(data, batch, batches.segments).tolist()
        for user, (first, *others), weight in zip(
            batch.users, rows, batch.weights, strict=True
        ):
            if weight:
                got.append((int(user), tuple(first), tuple(map(tuple, others))))
    assert len(got) == len(positives)
    assert set(got) == want


@pytest.mark.parametrize("slots", [(0, 1, 2), TWO_TOPS])
def test_each_distinct_item_is_listed_once_in_its_segment(slots):
    data, batches = make(slots)
    for batch in batches.epoch(0):
        outfits = candidates(data, batch, batches.segments)
        ends = np.cumsum(batches.segments)
        for category, segment in enumerate(np.split(batch.items, ends[:-1])):
            mine = outfits[..., np.array(slots) == category]
            want = np.unique(mine) + data.offsets[category]
            np.testing.assert_array_equal(segment[: len(want)], want)
            np.testing.assert_array_equal(segment[len(want) :], -1)


def test_the_last_batch_is_padded_with_rows_of_no_weight():
    _, batches = make(batch_size=7)
    assert batches.steps == 3  # 20 positives
    *full, last = batches.epoch(0)
    assert all((batch.weights == 1).all() for batch in full)
    assert last.weights.tolist() == [1] * 6 + [0]
    # Padding repeats rows of the batch, so it adds no item.
    assert last.users[6] == last.users[0]
    np.testing.assert_array_equal(last.outfits[6], last.outfits[0])


def test_all_batches_have_the_same_shapes_and_dtypes():
    _, batches = make(TWO_TOPS, batch_size=8)
    shapes = {
        tuple((x.shape, x.dtype.name) for x in batch)
        for epoch in range(3)
        for batch in batches.epoch(epoch)
    }
    n = sum(batches.segments)
    assert shapes == {
        (
            ((8,), "int32"),
            ((8, 3, 4), "int32"),
            ((8,), "float32"),
            ((n,), "int32"),
            ((n,), "bool"),
        )
    }


def test_segments_hold_what_a_batch_can_have_and_no_more_than_there_is():
    _, batches = make(TWO_TOPS, batch_size=1, ratio=1, sizes=(50, 3, 40))
    # 1 positive and 1 negative: up to 4 tops, 2 bottoms and 2 shoes.
    assert batches.segments == (4, 2, 2)
    data, batches = make(batch_size=20, ratio=9)
    used = [len(ids) for ids in data.split_items("train")]
    assert batches.segments == tuple(used)


@pytest.mark.parametrize("skip", [0, 1, 2, 3])
def test_an_epoch_goes_on_where_it_was_left(skip):
    _, batches = make()
    want = list(batches.epoch(4))[skip:]
    got = list(batches.epoch(4, skip))
    assert len(got) == len(want) == 3 - skip
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_the_order_is_a_function_of_seed_and_epoch():
    def users(seed, epoch):
        _, batches = make(seed=seed)
        return np.concatenate([batch.users for batch in batches.epoch(epoch)]).tolist()

    assert users(0, 1) == users(0, 1)
    assert users(0, 1) != users(0, 2)
    assert users(0, 1) != users(1, 1)


def test_all_items_are_paired_but_padding():
    _, batches = make()
    for batch in batches.epoch(0):
        np.testing.assert_array_equal(batch.paired, batch.items >= 0)


def test_items_that_are_only_first_tops_are_not_paired():
    data, batches = make(TWO_TOPS, ratio=1, batch_size=2, sizes=(40, 10, 8))
    left_out = 0
    for batch in batches.epoch(0):
        tops = candidates(data, batch, batches.segments)[..., :2]
        for item, paired in zip(batch.items, batch.paired, strict=True):
            if item < 0:
                assert not paired
            elif item < 40:
                assert paired == (item in tops[..., 1])
                left_out += not paired
            else:
                assert paired
    assert left_out


def test_fixed_negatives_may_hold_items_of_no_positive():
    positives = [(0, 0, 0, 0), (1, 0, 0, 1)]
    negatives = [(user, item, 1, 1) for user in range(2) for item in range(1, 4)]
    data = catalogue(positives, (4, 2, 2), negatives={"random": negatives})
    sampler = NegativeSampler(data, "random_fixed", ratio=3)
    batches = TrainBatches(data, sampler, 2, 0)
    assert batches.segments == (4, 2, 2)
    (batch,) = batches.epoch(0)
    tops = candidates(data, batch, batches.segments)[:, 1:, 0]
    assert tops.tolist() == [[1, 2, 3]] * 2


@pytest.mark.parametrize("batch_size", [0, 21])
def test_batches_larger_than_the_data_or_empty_are_refused(batch_size):
    text = (
        f"train.batch_size={batch_size}: expected 1 to 20, the training outfits of "
        "tuples_8; use --config.train.batch_size=20 or less"
    )
    with pytest.raises(ValueError, match=text):
        make(batch_size=batch_size)


def test_segments_of_likes_hold_what_batches_have_and_not_what_they_could(monkeypatch):
    sizes = (900, 800, 700)
    rng = np.random.default_rng(0)
    likes = np.full((3000, 4), -1)
    likes[:, 0] = np.arange(3000) // 30
    category = rng.integers(3, size=3000)
    likes[np.arange(3000), 1 + category] = rng.integers(700, size=3000)
    data = catalogue(likes, sizes)
    sampler = NegativeSampler(data, "random_online")
    segments = TrainBatches(data, sampler, 256, 0).segments
    # A third of 256 likes and as many negatives; far less than twice 256.
    assert all(180 < size < 320 for size in segments)
    # An order with a batch of more than that is drawn again.
    monkeypatch.setattr(batches_module, "_most", lambda *_: 102)
    batches = TrainBatches(data, sampler, 256, 0)
    rows, weights = batches.order(3)
    first = np.random.default_rng((0, 1, 3)).permutation(3000)
    assert (rows[weights > 0] != first).any()
    assert sorted(rows[weights > 0]) == list(range(3000))
    of = category[rows]
    assert all((((of == c) & (weights > 0)).sum(1) <= 102).all() for c in range(3))
