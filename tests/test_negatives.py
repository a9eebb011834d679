"""The sampler of negatives: what it draws, how often, and what it refuses."""

import itertools

import numpy as np
import pytest

from fhn_jax.data.negatives import NegativeSampler, outfit_keys
from tests.catalogues import catalogue, random_positives

SIZES = (12, 10, 8)
TWO_TOPS = (0, 0, 1, 2)


@pytest.fixture(scope="module")
def crowded():
    """27 possible outfits, 12 of them positives."""
    return catalogue(random_positives(4, 3, (3, 3, 3)), (3, 3, 3))


@pytest.fixture(scope="module")
def roomy():
    """Of 12, 10 and 8 items; the last of each category is in no training outfit."""
    used = tuple(size - 1 for size in SIZES)
    return catalogue(random_positives(6, 20, used), SIZES)


def tuples(items):
    """The outfits of an array of items, as tuples."""
    return [tuple(row) for row in items.reshape(-1, items.shape[-1]).tolist()]


# Keys


def test_keys_are_equal_for_equal_outfits_alone():
    every = np.array(list(itertools.product(range(4), range(3), range(5))))
    keys = outfit_keys(every, [4, 3, 5])
    assert len(np.unique(keys)) == len(every)
    np.testing.assert_array_equal(keys, outfit_keys(every.copy(), [4, 3, 5]))


def test_keys_of_more_outfits_than_fit_64_bits_still_tell_them_apart():
    # 2**80 combinations; powers of two would wrap around to nothing.
    sizes = [2**16] * 5
    rng = np.random.default_rng(0)
    items = np.unique(rng.integers(0, sizes, (50_000, 5)), axis=0)
    assert len(np.unique(outfit_keys(items, sizes))) == len(items)
    # Neighbours in any one slot differ too.
    for slot in range(5):
        other = items[:100].copy()
        other[:, slot] = (other[:, slot] + 1) % sizes[slot]
        assert (outfit_keys(other, sizes) != outfit_keys(items[:100], sizes)).all()


# Drawn while training


@pytest.mark.parametrize("kind", ["random_online", "hard_online"])
def test_draws_are_a_function_of_seed_and_epoch(roomy, kind):
    def draw(seed, epoch):
        return NegativeSampler(roomy, kind, ratio=2, seed=seed).draw(epoch)

    np.testing.assert_array_equal(draw(1, 3), draw(1, 3))
    assert not np.array_equal(draw(1, 3), draw(1, 4))
    assert not np.array_equal(draw(1, 3), draw(2, 3))


def test_epochs_can_be_drawn_in_any_order(roomy):
    sampler = NegativeSampler(roomy, "hard_online", seed=1)
    later = sampler.draw(5)
    sampler.draw(0)
    np.testing.assert_array_equal(sampler.draw(5), later)


@pytest.mark.parametrize("kind", ["random_online", "hard_online"])
def test_draws_have_a_row_for_each_positive(roomy, kind):
    drawn = NegativeSampler(roomy, kind, ratio=5).draw(0)
    assert drawn.shape == (120, 5, 3)
    assert drawn.dtype == np.int32


def test_random_negatives_are_nobodys_positive(crowded):
    positives = set(tuples(crowded.splits["train"].positives.items))
    sampler = NegativeSampler(crowded, "random_online", ratio=50)
    for epoch in range(3):
        assert positives.isdisjoint(tuples(sampler.draw(epoch)))


def test_random_negatives_take_the_training_items_about_equally_often(roomy):
    drawn = NegativeSampler(roomy, "random_online", ratio=100).draw(0).reshape(-1, 3)
    for slot, size in enumerate(SIZES):
        counts = np.bincount(drawn[:, slot], minlength=size)
        assert counts[-1] == 0  # in no training positive
        expected = len(drawn) / (size - 1)
        # Positives are left out, which moves the counts by up to a few per cent.
        np.testing.assert_allclose(counts[:-1], expected, rtol=0.25)
        assert counts[:-1].min() > 0


def test_slots_are_drawn_independently(roomy):
    drawn = NegativeSampler(roomy, "random_online", ratio=100).draw(0).reshape(-1, 3)
    correlations = np.corrcoef(drawn.T)[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < 0.08


def test_positives_with_one_top_have_random_negatives_with_one_top():
    rows = [(0, 0, 0, 1, 1), (0, 1, 2, 0, 0), (1, 3, 3, 2, 2), (1, 2, 0, 1, 2)]
    data = catalogue(rows, (9, 3, 3), slots=TWO_TOPS)
    drawn = NegativeSampler(data, "random_online", ratio=200).draw(0)
    one_top = (drawn[..., 0] == drawn[..., 1]).mean(axis=1)
    np.testing.assert_array_equal(one_top[[0, 2]], 1.0)
    assert (one_top[[1, 3]] < 0.5).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_hard_share_is_the_share_of_positives_of_others(roomy, share):
    sampler = NegativeSampler(roomy, "hard_online", ratio=50, hard_share=share)
    positives = set(tuples(roomy.splits["train"].positives.items))
    drawn = sampler.draw(0)
    hard = np.mean([outfit in positives for outfit in tuples(drawn)])
    assert hard == pytest.approx(share, abs=0.03 * (0 < share < 1))


def test_hard_negatives_are_never_the_users_own(crowded):
    train = crowded.splits["train"].positives
    rows = list(zip(train.users.tolist(), tuples(train.items), strict=True))
    shared = {outfit for user, outfit in rows if any(
        other == outfit and owner != user for owner, other in rows
    )}  # fmt: skip
    assert shared, "the test needs an outfit of two users"
    drawn = NegativeSampler(crowded, "hard_online", ratio=40, hard_share=1.0).draw(0)
    for (user, _), negatives in zip(rows, drawn, strict=True):
        own = {outfit for owner, outfit in rows if owner == user}
        assert own.isdisjoint(tuples(negatives))


def test_users_for_whom_all_outfits_are_their_own_get_random_negatives():
    rows = [(0, 0, 0), (0, 1, 1), (1, 0, 0), (2, 1, 1)]
    data = catalogue(rows, (2, 2), slots=(0, 1))
    drawn = NegativeSampler(data, "hard_online", ratio=20, hard_share=1.0).draw(0)
    assert set(tuples(drawn[:2])) == {(0, 1), (1, 0)}
    assert set(tuples(drawn[2])) == {(1, 1)}
    assert set(tuples(drawn[3])) == {(0, 0)}


@pytest.mark.parametrize("epoch, share", [(0, 0.0), (1, 0.4), (3, 0.8 * 0.75**0.5)])
def test_the_sqrt_schedule_raises_the_hard_share(roomy, epoch, share):
    sampler = NegativeSampler(
        roomy, "hard_online", ratio=60, hard_share=0.8, hard_schedule="sqrt", epochs=4
    )
    assert sampler.hard_share_of(epoch) == pytest.approx(share)
    positives = set(tuples(roomy.splits["train"].positives.items))
    hard = np.mean([outfit in positives for outfit in tuples(sampler.draw(epoch))])
    assert hard == pytest.approx(share, abs=0.03)


def test_scheduled_hard_negatives_are_never_the_users_own(crowded):
    sampler = NegativeSampler(
        crowded, "hard_online", ratio=40, hard_share=1.0, hard_schedule="sqrt", epochs=3
    )
    train = crowded.splits["train"].positives
    own = {(u, o) for u, o in zip(train.users, tuples(train.items), strict=True)}
    for epoch in range(3):
        users = np.repeat(train.users, 40)
        assert own.isdisjoint(zip(users, tuples(sampler.draw(epoch)), strict=True))


# From the files


@pytest.fixture(scope="module")
def stored():
    """Two positives with three random and two hard negatives each."""
    positives = [(0, 0, 0, 0), (1, 1, 1, 1)]
    random = [(user, 2, 2, k) for user in range(2) for k in range(2, 5)]
    hard = [(0, 1, 1, 1)] * 2 + [(1, 0, 0, 0)] * 2
    negatives = {"random": random, "hard": hard}
    return catalogue(positives, (6, 6, 6), negatives=negatives)


def test_fixed_negatives_take_turns_by_epoch(stored):
    sampler = NegativeSampler(stored, "random_fixed", ratio=2)
    shoes = [sampler.draw(epoch)[:, :, 2].tolist() for epoch in range(3)]
    assert shoes == [[[2, 3]] * 2, [[4, 2]] * 2, [[3, 4]] * 2]
    assert sampler.draw(0).dtype == np.int32


def test_hard_fixed_reads_the_hard_file(stored):
    drawn = NegativeSampler(stored, "hard_fixed", ratio=2).draw(0)
    assert drawn.tolist() == [[[1, 1, 1]] * 2, [[0, 0, 0]] * 2]


def test_used_items_are_those_of_positives_and_of_fixed_negatives(stored, roomy):
    sampler = NegativeSampler(stored, "random_fixed")
    used = [ids.tolist() for ids in sampler.used_items]
    assert used == [[0, 1, 2], [0, 1, 2], [0, 1, 2, 3, 4]]
    sampler = NegativeSampler(roomy, "random_online")
    for ids, size in zip(sampler.used_items, SIZES, strict=True):
        assert ids.tolist() == list(range(size - 1))


# What is refused


def assert_refused(data, kind, text, **settings):
    with pytest.raises(ValueError, match=text):
        NegativeSampler(data, kind, **settings)


def test_unknown_kind_is_refused(roomy):
    text = "train.negatives='random': expected one of random_online, random_fixed, hard"
    assert_refused(roomy, "random", text)


def test_ratio_below_one_is_refused(roomy):
    assert_refused(roomy, "random_online", "train.ratio=0: expected at le", ratio=0)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_share_out_of_range_is_refused(roomy, share):
    text = f"train.hard_share={share}: expected 0 to 1"
    assert_refused(roomy, "hard_online", text, hard_share=share)


def test_unknown_schedule_is_refused(roomy):
    text = "train.hard_schedule='linear': expected one of constant, sqrt"
    assert_refused(roomy, "hard_online", text, hard_schedule="linear")


@pytest.mark.parametrize(
    "kind, file",
    [("random_fixed", "tuples_train_nega"), ("hard_fixed", "tuples_train_nega_hard")],
)
def test_fixed_negatives_without_their_file_are_refused(roomy, kind, file):
    assert_refused(roomy, kind, f"{kind}.*needs the file {file} in tuples_8; it is not")


@pytest.mark.parametrize(
    "kind, file, count",
    [("random_fixed", "nega", 3), ("hard_fixed", "nega_hard", 2)],
)
def test_more_negatives_than_the_file_has_are_refused(stored, kind, file, count):
    text = f"train.ratio=4, but tuples_train_{file} holds {count} negatives a positive"
    assert_refused(stored, kind, text, ratio=4)


def test_positives_that_leave_no_negative_are_refused():
    every = [(0, *outfit) for outfit in itertools.product(range(2), range(3))]
    data = catalogue(every, (2, 3), slots=(0, 1))
    assert_refused(data, "random_online", "every combination .* is a positive")


def test_positives_that_leave_nearly_no_negative_are_refused():
    every = [(0, *outfit) for outfit in itertools.product(range(30), range(30))]
    data = catalogue(every[:-1], (30, 30), slots=(0, 1))
    sampler = NegativeSampler(data, "random_online")
    with pytest.raises(ValueError, match="in 100 draws.*'random_fixed'"):
        sampler.draw(0)


def test_hard_negatives_of_a_single_user_are_refused():
    data = catalogue([(0, 0, 0), (0, 1, 1)], (2, 2), slots=(0, 1))
    assert_refused(data, "hard_online", "'hard_online' needs at least two users")
