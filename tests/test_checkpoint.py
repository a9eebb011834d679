import re
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import steps

from fhn_jax.errors import RefusedError
from fhn_jax.training import pieces
from fhn_jax.training.checkpoint import (
    Checkpoints,
    DamagedCheckpointError,
    _examine,
    flatten,
)
from fhn_jax.training.step import METRICS, TrainState, zero_sums


def state_of(step, value=1.0, **params):
    """A state with variables [value, value + 1, …] and moments."""
    params = params or {
        "user": {"embedding": value + jnp.arange(6.0).reshape(2, 3)},
        "matching": {"alpha": jnp.asarray(value)},
    }
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        params=params,
        opt_state=({"count": jnp.asarray(step, jnp.int32)},),
        average=None,
        sums=zero_sums(),
        bad_steps={name: jnp.full((), -1, jnp.int32) for name in METRICS},
    )


def save(folder, scores, **options):
    """Saves a state a score, of steps 1, 2, …"""
    with Checkpoints(folder) as checkpoints:
        for step, score in enumerate(scores, 1):
            checkpoints.save(state_of(step, float(step)), {}, score, **options)


def test_arrays_are_named_by_their_path():
    assert flatten(state_of(3)).keys() == {
        "step",
        "params/user/embedding",
        "params/matching/alpha",
        "opt_state/0/count",
        *(f"sums/{name}" for name in zero_sums()),
        *(f"bad_steps/{name}" for name in METRICS),
    }


def test_a_restored_state_is_the_saved_one_bit_for_bit(tmp_path):
    awkward = jnp.array([0.1, -0.0, 1e-45, 3e38], jnp.float32)
    saved = state_of(7, user={"embedding": awkward})
    host = {"schedule": {"scale": 0.1, "best": None, "bad_epochs": 3}, "data": "ab"}
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(saved, host, 0.5)
    empty = state_of(0, user={"embedding": jnp.zeros(4)})
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        restored, restored_host = checkpoints.restore(empty, checkpoints.latest)
    assert restored_host == host
    for (name, array), expected in zip(
        flatten(restored).items(), flatten(saved).values(), strict=True
    ):
        assert array.dtype == expected.dtype, name
        assert np.asarray(array).tobytes() == np.asarray(expected).tobytes(), name


def test_a_new_folder_has_no_checkpoint(tmp_path):
    with Checkpoints(tmp_path / "new" / "checkpoints") as checkpoints:
        assert checkpoints.latest is None
        assert checkpoints.best is None


def test_no_room_for_a_checkpoint_is_said_before_it_is_written(tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=8)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state_of(1), {})
        monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
        for step in (1, 2):
            with pytest.raises(RefusedError, match=rf"checkpoint {step} needs .* MiB"):
                checkpoints.save(state_of(step), {})
        assert checkpoints.latest == 1


def test_a_checkpoint_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    large = {"embedding": jnp.array(np.random.default_rng(0).normal(size=(64, 999)))}
    save(tmp_path / "checkpoints", [0.5])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(RefusedError, match=str(tmp_path / "checkpoints")) as error:
        with Checkpoints(tmp_path / "checkpoints") as checkpoints:
            try:
                # A file may not be as large.
                resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, limits[1]))
                checkpoints.save(state_of(2, user=large), {})
                checkpoints.save(state_of(3, user=large), {})
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "those before it are kept" in str(error.value)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "lost", ["_CHECKPOINT_METADATA", "state", "state/_METADATA", "state/manifest.ocdbt"]
)
def test_one_that_was_being_removed_when_the_process_was_killed_does_no_harm(
    tmp_path, lost, capsys
):
    folder = tmp_path / "checkpoints"
    save(folder, [0.9, 0.5])
    shutil.copytree(folder / "2", tmp_path / "2")
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(state_of(3), {}, 0.6)
    shutil.move(tmp_path / "2", folder)
    gone = folder / "2" / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with Checkpoints(folder) as checkpoints:
        assert (checkpoints.best, checkpoints.latest) == (1, 3)
        assert f"{folder / '2'} is incomplete" in capsys.readouterr().err
        checkpoints.save(state_of(4), {}, 0.7)
    assert steps(tmp_path) == [1, 4]


def test_a_damaged_best_is_not_silently_another(tmp_path):
    save(tmp_path / "checkpoints", [0.9, 0.5])
    noted = tmp_path / "checkpoints" / "1" / "_CHECKPOINT_METADATA"
    noted.write_text(noted.read_text().replace("0.9", "0.1"))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        with pytest.raises(DamagedCheckpointError, match=r"checkpoints/1 is damaged"):
            assert checkpoints.best


def test_an_error_that_is_none_of_the_disk_is_not_said_to_be_one(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        with pytest.raises(ValueError, match="ours") as error:
            with checkpoints._writing():
                raise ValueError("ours")
    assert not isinstance(error.value, RefusedError)


@pytest.mark.parametrize(
    ("scores", "best", "kept"),
    [
        ([0.5, 0.9, 0.6, 0.7], 2, [2, 4]),
        ([0.5, 0.6, 0.9], 3, [3]),
        ([-0.5, -0.1, -0.6], 2, [2, 3]),
        ([0.9, 0.5, None], 1, [1, 3]),  # interrupted: saved without a score
        ([None, None, None], 3, [3]),  # without validation
        ([0.7, 0.7], 2, [2]),  # of equals the later
    ],
)
def test_the_best_and_the_latest_are_kept(tmp_path, scores, best, kept):
    save(tmp_path / "checkpoints", scores)
    assert steps(tmp_path) == kept
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.best == best
        assert checkpoints.latest == len(scores)
        state, _ = checkpoints.restore(state_of(0), checkpoints.best)
    assert float(state.params["matching"]["alpha"]) == best


def test_the_best_is_known_to_the_next_process(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, [0.9, 0.5])
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(state_of(3), {}, 0.6)
        checkpoints.save(state_of(4), {}, 0.7)
    assert steps(tmp_path) == [1, 4]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state_of(1, 1.0), {"a": 1})
        checkpoints.save(state_of(1, 5.0), {"a": 2})
        state, host = checkpoints.restore(state_of(0), 1)
    assert float(state.params["matching"]["alpha"]) == 5
    assert host == {"a": 2}


def test_a_save_of_the_same_step_that_is_killed_leaves_the_old_one(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, [0.5])
    (folder / "1").rename(folder / "1.replaced")
    (folder / "1.orbax-checkpoint-tmp").mkdir()
    with Checkpoints(folder) as checkpoints:
        state, _ = checkpoints.restore(state_of(0), checkpoints.latest)
        assert float(state.params["matching"]["alpha"]) == 1
        checkpoints.save(state_of(1, 5.0), {})
    assert [path.name for path in folder.iterdir()] == ["1"]


def flip(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data)


# Where orbax fails at a damaged file, its threads do so too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_no_flipped_bit_of_a_checkpoint_goes_unnoticed(tmp_path):
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    host = {"schedule": {"scale": 0.1}, "data": "ab"}
    with Checkpoints(whole) as checkpoints:
        checkpoints.save(state_of(1), host, 0.5)
    paths = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    rng, noticed = np.random.default_rng(0), 0
    for path in paths * 2:
        if not (whole / path).stat().st_size:
            continue
        shutil.copytree(whole, damaged)
        flip(damaged / path, rng)
        with Checkpoints(damaged) as checkpoints:
            try:
                state, found = checkpoints.restore(state_of(0), 1)
                assert checkpoints.best == 1
            except DamagedCheckpointError as error:
                noticed += 1
                assert f"checkpoint {damaged / '1'} is damaged: " in str(error)
            else:  # what changed means nothing, such as a time
                assert found == host, path
                for a, b in zip(
                    flatten(state).values(), flatten(state_of(1)).values(), strict=True
                ):
                    np.testing.assert_array_equal(a, b)
        shutil.rmtree(damaged)
    assert noticed >= len(paths) // 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_latest_checkpoint_gives_way_to_the_older(tmp_path, capsys):
    folder = tmp_path / "checkpoints"
    save(folder, [0.9, 0.5])
    for path in (folder / "2").rglob("*"):
        if path.is_file() and path.stat().st_size > 100:
            path.write_bytes(path.read_bytes()[:-50])
    checked = []
    with Checkpoints(folder) as checkpoints:
        state, _ = checkpoints.restore_latest(state_of(0), checked.append)
        assert int(state.step) == 1
        checkpoints.save(state_of(2, 2.0), {}, 0.95)
    err = capsys.readouterr().err
    assert f"warning: checkpoint {folder / '2'} is damaged: " in err
    assert f"it is kept as {folder / '2.damaged'}, and the run goes on from" in err
    assert steps(tmp_path) == [2]
    # The only one is not given up without a word.
    shutil.rmtree(folder / "2.damaged")
    (folder / "2" / "_CHECKPOINT_METADATA").write_text("[" * 10**5)
    with pytest.raises(DamagedCheckpointError, match="to start anew where there is"):
        Checkpoints(folder)


def test_checksums_do_not_depend_on_devices_and_notice_one_bit():
    values = jnp.arange(24, dtype=jnp.float32).reshape(4, 6)
    before = _examine({"a": values})
    swapped = values.at[0, 1].set(2).at[0, 2].set(1)
    for other in (values.at[3, 5].add(2e-6), swapped, values.reshape(6, 4)[::-1]):
        after = _examine({"a": other})
        assert after["a"][1] != before["a"][1]
    some = {"b": jnp.array([True, False]), "c": jnp.ones(3, jnp.bfloat16)}
    assert _examine(some).keys() == {"b", "c"}


def test_large_arrays_are_written_and_read_in_pieces(tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints"
    monkeypatch.setattr(pieces, "BYTES", 30)
    table = jnp.arange(21.0).reshape(7, 3)
    saved = state_of(1, user={"embedding": table})
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(saved, {"data": "ab"})
    stored = pieces.split(flatten(saved))
    assert [len(stored[f"params/user/embedding@{row}"]) for row in (0, 2, 4, 6)] == [
        *(2, 2, 2, 1)
    ]
    empty = state_of(0, user={"embedding": jnp.zeros((7, 3))})
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.verify() == [1]
        state, _ = checkpoints.restore(empty, 1)
        np.testing.assert_array_equal(state.params["user"]["embedding"], table)
        other = state_of(0, user={"embedding": jnp.zeros((6, 3))})
        with pytest.raises(ValueError, match=r"embedding has shape \(7, 3\), expected"):
            checkpoints.restore(other, 1)


def test_what_a_killed_save_left_is_no_checkpoint(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, [0.5])
    shutil.copytree(folder / "1", folder / "2.orbax-checkpoint-tmp")
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest == 1
        checkpoints.save(state_of(2, 2.0), {}, 0.6)
        state, _ = checkpoints.restore(state_of(0), checkpoints.best)
    assert float(state.params["matching"]["alpha"]) == 2
    assert steps(tmp_path) == [2]


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, [0.5])
    bad = state_of(2, user={"embedding": jnp.array([1.0, jnp.nan])})
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(
            FloatingPointError,
            match=r"params/user/embedding is not finite after step 2; the last good",
        ):
            checkpoints.save(bad, {}, 0.9)
    assert steps(tmp_path) == [1]


@pytest.mark.parametrize(
    ("params", "fault"),
    [
        (
            {"user": {"embedding": jnp.zeros((2, 4))}},
            "params/user/embedding has shape (2, 3), expected (2, 4)",
        ),
        ({"text": {"kernel": jnp.zeros(2)}}, "params/text/kernel missing"),
        ({"matching": {"alpha": jnp.zeros(())}}, "params/user/embedding unexpected"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, params, fault):
    folder = tmp_path / "checkpoints"
    save(folder, [0.5])
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(ValueError, match=re.escape(fault)) as caught:
            checkpoints.restore(state_of(0, **params), 1)
    assert str(folder / "1") in str(caught.value)
    assert "use those, or another --workdir" in str(caught.value)


def test_a_restored_state_may_be_donated(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, [0.5])
    with Checkpoints(folder) as checkpoints:
        first, _ = checkpoints.restore(state_of(0), 1)
        for array in flatten(first).values():
            array.delete()
        second, _ = checkpoints.restore(state_of(0), 1)
    assert float(second.params["matching"]["alpha"]) == 1


def test_a_state_may_be_overwritten_while_it_is_saved(tmp_path):
    table = {"user": {"embedding": jnp.ones((1000, 1000))}}
    overwrite = jax.jit(lambda x: -x, donate_argnums=0)
    empty = state_of(0, user={"embedding": jnp.zeros((1000, 1000))})
    with Checkpoints(tmp_path) as checkpoints:
        state = state_of(1, **table)
        checkpoints.save(state, {})
        overwrite(state.params["user"]["embedding"]).block_until_ready()
        restored, _ = checkpoints.restore(empty, 1)
    np.testing.assert_array_equal(restored.params["user"]["embedding"], 1.0)


def test_users_are_forgotten_in_checkpoints_of_old_versions(tmp_path):
    saved = flatten(state_of(5))
    with Checkpoints(tmp_path / "old") as checkpoints:
        noted = {"schedule": {"scale": 1.0}, "data": "ab"}  # The host values alone.
        checkpoints._checkpointer.save_async(5, saved, custom_metadata=noted).result()
    with Checkpoints(tmp_path / "old") as checkpoints:
        assert checkpoints.forget_users([1], "cd") == 1
        assert checkpoints.host(5) == {"schedule": {"scale": 1.0}, "data": "cd"}
        table = checkpoints.restore(state_of(0), 5)[0].params["user"]["embedding"]
    assert np.asarray(table[1]).tolist() == [0, 0, 0] and np.asarray(table[0]).all()


@pytest.mark.slow
def test_users_are_forgotten_with_a_checkpoint_that_was_set_aside(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, [0.5, 0.9, 0.4])
    with Checkpoints(folder) as checkpoints:
        aside = checkpoints._rename(3, ".damaged")
        assert checkpoints.forget_users([], "ab") == 1 and aside.is_dir()
        assert checkpoints.forget_users([1], None) == 2 and not aside.exists()
        assert checkpoints.best == 2
