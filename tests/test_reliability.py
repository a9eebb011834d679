"""Bounded forms of `benchmarks/reliability.py`."""

import pytest

from benchmarks import reliability


@pytest.mark.parametrize("kind", reliability.KINDS)
def test_no_damage_goes_unnoticed_or_unnamed(kind):
    assert reliability.damage(kind, 60, seed=1) == []


@pytest.mark.parametrize("kind", ["codes", "sealed JSON"])
def test_a_writer_whose_disk_fails_leaves_old_or_new(kind):
    count, broken = reliability.fault(kind)
    assert count and broken == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["index", "LMDB"])
def test_a_writer_of_folders_whose_disk_fails_leaves_old_or_new(kind):
    count, broken = reliability.fault(kind)
    assert count and broken == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", reliability.KINDS)
def test_a_killed_writer_leaves_old_or_new_and_no_litter(kind):
    assert reliability.kill(kind, 3, seed=1) == []
