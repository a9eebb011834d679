"""Learning-rate schedules: factors by step, and what a plateau remembers."""

import json

import pytest

from fhn_jax.training.schedule import Schedule


def make(name, **settings):
    return Schedule(name, **(dict(total_steps=100, steps_per_epoch=10) | settings))


def feed(schedule, losses):
    """The factor after each validation loss."""
    factors = []
    for loss in losses:
        schedule.end_epoch(loss)
        factors.append(schedule.rate(50))
    return factors


def test_constant_stays_one():
    schedule = make("constant")
    assert feed(schedule, [1.0] * 30) == [1.0] * 30
    assert {schedule.rate(step) for step in range(100)} == {1.0}


def test_step_falls_every_so_many_epochs():
    schedule = make("step", every=2, factor=0.1)
    got = [schedule.rate(step) for step in (0, 19, 20, 39, 40)]
    assert got == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01])


def test_cosine_falls_from_one_to_zero():
    schedule = make("cosine")
    got = [schedule.rate(step) for step in (0, 25, 50, 100)]
    assert got == pytest.approx([1.0, (1 + 0.5**0.5) / 2, 0.5, 0.0])


@pytest.mark.parametrize("name", ["constant", "plateau", "step", "cosine"])
def test_all_rise_linearly_at_first(name):
    plain, warm = make(name), make(name, warmup_steps=4)
    ratios = [warm.rate(step) / plain.rate(step) for step in range(6)]
    assert ratios == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


def test_plateau_falls_after_more_than_patience_epochs_without_gain():
    schedule = make("plateau", patience=2, cooldown=0)
    # The first is the best; the next three are bad.
    assert feed(schedule, [1.0] * 4) == [1.0, 1.0, 1.0, 0.5]
    assert feed(schedule, [1.0] * 3) == [0.5, 0.5, 0.25]


def test_plateau_counts_a_gain_only_beyond_the_threshold():
    def cut(losses):
        return feed(make("plateau", patience=1, threshold=0.1), losses)[-1] < 1

    assert cut([1.0, 0.95, 0.91])
    assert not cut([1.0, 0.95, 0.89])
    # Relative to the best, which small gains do not move.
    assert cut([1.0, 0.96, 0.92])


def test_plateau_does_not_count_while_it_cools_down():
    schedule = make("plateau", patience=1, cooldown=3)
    factors = feed(schedule, [1.0] * 8)
    # Cut after 1 + 2 epochs; then 3 do not count; then 2 bad ones.
    assert factors == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_plateau_never_falls_while_the_loss_falls():
    losses = [0.9**epoch for epoch in range(60)]
    assert set(feed(make("plateau"), losses)) == {1.0}


def test_a_plateau_goes_on_from_its_memory():
    losses = [1.0, 0.7, 0.71, 0.72, 0.9, 0.6, 0.61, 0.62, 0.63, 0.64]
    whole = feed(make("plateau", patience=1, cooldown=1), losses)
    for split in range(len(losses)):
        first = make("plateau", patience=1, cooldown=1)
        factors = feed(first, losses[:split])
        # As a checkpoint stores it.
        memory = json.loads(json.dumps(first.memory()))
        second = make("plateau", patience=1, cooldown=1)
        second.recall(memory)
        assert factors + feed(second, losses[split:]) == whole
    assert len(set(whole)) > 1


@pytest.mark.parametrize(
    "name, settings, text",
    [
        (
            "linear",
            {},
            "schedule.name='linear': expected one of constant, plateau, ste",
        ),
        ("step", dict(factor=1.0), "schedule.factor=1.0: expected above 0, below 1"),
        ("step", dict(factor=0.0), "schedule.factor=0.0: expected above 0, below 1"),
        ("step", dict(every=0), "schedule.every=0: expected at least 1"),
        ("plateau", dict(threshold=1.0), "threshold=1.0: expected 0 to below 1"),
        ("plateau", dict(patience=-1), "schedule.patience=-1: expected at least 0"),
        ("plateau", dict(cooldown=-1), "schedule.cooldown=-1: expected at least 0"),
        ("cosine", dict(warmup_steps=-1), "warmup_steps=-1: expected at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(name, settings, text):
    with pytest.raises(ValueError, match=text):
        make(name, **settings)
