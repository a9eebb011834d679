"""Bounded forms of `python -m benchmarks.reliability`."""

import pytest

from benchmarks.reliability import processes
from benchmarks.reliability.crowds import crowd
from benchmarks.reliability.damage import damage
from benchmarks.reliability.fuzz import PARSERS, fuzz
from benchmarks.reliability.interruptions import fault, full, kill, no_mounts
from benchmarks.reliability.writers import KINDS, clean, scratch


@pytest.fixture(scope="module", autouse=True)
def _scratch():
    processes.prepare()
    scratch()
    yield
    clean()


@pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name].damaged])
def test_no_damage_goes_unnoticed_or_unnamed(name):
    assert damage(name, 60, seed=1) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "every"), [("codes", 3), ("sealed JSON", 3), ("index", 40), ("import", 40)]
)
def test_a_writer_whose_calls_fail_leaves_old_or_new(name, every):
    count, broken = fault(name, every)
    assert count and broken == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kills"),
    [("codes", 3), ("index", 2), ("LMDB", 2), ("import", 1)],
)
def test_a_killed_writer_leaves_old_or_new_and_no_litter(name, kills):
    assert kill(name, kills, seed=1) == []


@pytest.mark.slow
@pytest.mark.skipif(no_mounts() is not None, reason=f"no file system: {no_mounts()}")
@pytest.mark.parametrize("name", ["codes", "LMDB"])
def test_a_full_disk_is_an_error_and_leaves_old_or_new(name):
    count, broken = full(name, 3)
    assert count == 3 and broken == []


@pytest.mark.parametrize("name", sorted(PARSERS.keys() - {"--config"}))
def test_what_is_read_ends_well_or_with_a_typed_error(name):
    _, found = fuzz(name, max(40, round(6000 * PARSERS[name][1])), seed=1)
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("index", 3), ("database", 6), ("LMDB", 3)])
def test_several_at_once_are_serial_or_lose_clearly(name, size):
    assert crowd(name, size) == []


@pytest.mark.slow
def test_a_run_that_is_killed_or_started_twice_ends_as_one_left_alone():
    assert kill("run", 1, seed=1) == []
    assert crowd("run", 2) == []
