import collections
import contextlib
import functools
import itertools
import os
import re
import signal
import time
from unittest import mock

import jax
import jax.monitoring
import numpy as np
import pytest
from blocks import use_blocks
from polyvore_u import write_polyvore_u
from runs import (
    assert_equal_runs,
    best,
    flags,
    latest,
    metrics,
    settings,
    start,
    steps,
    train,
)

from fhn_jax import files
from fhn_jax.cli import verify
from fhn_jax.data.batches import TrainBatches
from fhn_jax.data.items import Free
from fhn_jax.errors import BusyError, InputError
from fhn_jax.training import experiment, inputs, loop
from fhn_jax.training.epochs import HostEpochs
from fhn_jax.training.loop import due
from fhn_jax.training.schedule import Schedule
from fhn_jax.training.step import Trainer
from fhn_jax.training.stopping import Interrupted
from fhn_jax.training.validation import Validation
from fhn_jax.training.writers import Writer

# 48 outfits in batches of 10: 5 steps an epoch, the last one padded. Lines are written
# in the middle of epochs, the rate falls, and there are moments and averages to lose.
STEPS = 5
LONG = {
    "train.epochs": 4,
    "train.batch_size": 10,
    "train.log_steps": 3,
    "train.average_decay": 0.9,
    "optimizer.name": "adamw",
    "optimizer.users": "rows",
    "optimizer.weight_decay": 0.01,
    "optimizer.rates.user": 0.05,
    "optimizer.rates.text": 0.01,
    "schedule.patience": 0,
    "schedule.cooldown": 0,
    "schedule.threshold": 0.5,
}
SHORT = LONG | {"train.epochs": 2}

# Stops a process just before batch 3 of epoch 2 (both from 0), with {wait}.
STOP = """
import os, time
from fhn_jax.models import fashion_hash_net
from fhn_jax.training.epochs import HostEpochs

whole_epoch = HostEpochs.advances

def advances(self, schedule, epoch, skip, beta):
    whole = whole_epoch(self, schedule, epoch, skip, beta)
    for step, advance in enumerate(whole, skip):
        if (epoch, step) == (2, 3):
            print("in the middle", flush=True)
            {wait}
        yield advance

HostEpochs.advances = advances
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny", image_size=None)


@pytest.fixture(scope="module")
def observed(tmp_path_factory, root):
    """A run of LONG that nobody stopped: workdir, traces of its step, signal handlers."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    step, traces = Trainer.one_step, []

    @functools.wraps(step)
    def counted(self, state, key, beta, rate, batch, inputs, tables):
        traces.append(batch)
        return step(self, state, key, beta, rate, batch, inputs, tables)

    handlers = [signal.getsignal(signal.SIGINT)]
    with mock.patch.object(Trainer, "one_step", counted):
        train(settings(root, LONG), workdir)
    handlers.append(signal.getsignal(signal.SIGINT))
    return workdir, traces, handlers


@pytest.fixture(scope="module")
def uninterrupted(observed):
    return observed[0]


@pytest.fixture(scope="module")
def short(tmp_path_factory, root):
    """A finished run of SHORT: its workdir and network."""
    workdir = tmp_path_factory.mktemp("short")
    return workdir, train(settings(root, SHORT), workdir)


def at_batch(monkeypatch, when, change):
    """Applies `change` to the batch `when` = (epoch, step), from 0."""
    epoch_of = TrainBatches.epoch

    def epoch(self, number, skip=0):
        for step, batch in enumerate(epoch_of(self, number, skip), skip):
            yield change(batch) if (number, step) == when else batch

    monkeypatch.setattr(TrainBatches, "epoch", epoch)


def before_step(monkeypatch, when, act):
    """Calls `act` before the step `when` = (epoch, step), from 0, is trained."""
    advances_of = HostEpochs.advances

    def advances(self, schedule, epoch, skip, beta):
        whole = advances_of(self, schedule, epoch, skip, beta)
        for step, advance in enumerate(whole, skip):
            if (epoch, step) == when:
                act()
            yield advance

    monkeypatch.setattr(HostEpochs, "advances", advances)


def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)


@contextlib.contextmanager
def compilations():
    """Counts what is found in jax's cache of compiled code, and what is not."""
    counts = collections.Counter()

    def listen(event, **_):
        if event.startswith("/jax/compilation_cache/cache_"):
            counts[event.removeprefix("/jax/compilation_cache/cache_")] += 1

    jax.monitoring.register_event_listener(listen)
    try:
        yield counts
    finally:
        jax.monitoring.unregister_event_listener(listen)


def validate_as(monkeypatch, *scores):
    """Validation gives these values of val/auc_binary, one after the other."""
    scores = iter(scores)

    def validate(self, model, beta):
        names = ("loss", "auc_relaxed", "auc_asymmetric")
        return {f"val/{name}": 0.5 for name in names} | {"val/auc_binary": next(scores)}

    monkeypatch.setattr(Validation, "__call__", validate)


def test_due_is_every_so_many_steps_and_after_the_last():
    assert [step for step in range(1, 9) if due(step, 3, last=8)] == [3, 6, 8]


@pytest.mark.slow
def test_the_run_of_the_resume_tests_has_something_to_lose(root, uninterrupted):
    arrays, host = latest(settings(root, LONG), uninterrupted)
    kinds = {name.split("/")[0] for name in arrays}
    assert kinds == {
        "step", "params", "opt_state", "average", "sums", "bad_steps", "rows"
    }  # fmt: skip
    assert host["schedule"]["scale"] < 1
    rates = [
        line["train/rate"] for line in metrics(uninterrupted) if "train/rate" in line
    ]
    assert len(set(rates)) > 1


@pytest.mark.slow
def test_killed_then_stopped_by_ctrl_c_a_run_goes_on_bit_for_bit(
    root, tmp_path, uninterrupted
):
    workdir, go_on = tmp_path / "run", tmp_path / "go_on"
    train_and = ["train", "--workdir", workdir, *flags(root, LONG)]
    process = start(train_and, patch=STOP.format(wait="time.sleep(600)"))
    assert process.stdout.readline() == "in the middle\n"
    # The checkpoint of the epoch before is written in the background.
    until = time.monotonic() + 60
    while steps(workdir)[-1:] != [2 * STEPS] and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert steps(workdir)[-1] == 2 * STEPS
    # What was done since is done again.
    assert metrics(workdir)[-1]["step"] == 12
    # Ctrl-C saves, and says so.
    patch = STOP.format(
        wait=f"while not os.path.exists({str(go_on)!r}): time.sleep(0.01)"
    )
    process = start(train_and, patch=patch)
    assert process.stdout.readline() == "in the middle\n"
    process.send_signal(signal.SIGINT)
    go_on.touch()
    started = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 30
    assert process.returncode == 130
    assert err.splitlines()[-2:] == [
        "stopping: saving the state first",
        "interrupted: stopped after step 14; run again to go on",
    ]
    assert steps(workdir)[-1] == 14
    train(settings(root, LONG), workdir)
    assert_equal_runs(settings(root, LONG), workdir, uninterrupted)


@pytest.mark.slow
def test_a_run_stopped_anywhere_goes_on_bit_for_bit(
    root, tmp_path, monkeypatch, uninterrupted
):
    config = settings(root, LONG)
    for when, number in (
        ((0, 0), signal.SIGINT),
        ((1, 2), signal.SIGTERM),
        ((2, STEPS - 1), signal.SIGINT),
    ):
        with monkeypatch.context() as patch:
            before_step(patch, when, functools.partial(interrupt, number))
            with pytest.raises(Interrupted, match="run again to go on"):
                train(config, tmp_path)
        assert steps(tmp_path)[-1] == when[0] * STEPS + when[1] + 1
    with compilations() as compiled:
        train(config, tmp_path)
    # What was compiled for the new run serves the resumed one.
    assert compiled["hits"] and not compiled["misses"]
    assert_equal_runs(config, tmp_path, uninterrupted)


@pytest.mark.slow
def test_a_run_stopped_after_an_epoch_without_validation_is_saved(
    root, tmp_path, monkeypatch
):
    config = settings(root, LONG | {"train.val_epochs": 4})
    before_step(monkeypatch, (1, STEPS - 1), interrupt)
    with pytest.raises(Interrupted, match="stopped after epoch 2"):
        train(config, tmp_path)
    assert steps(tmp_path) == [2 * STEPS]


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(root, tmp_path, monkeypatch):
    before_step(monkeypatch, (0, 1), lambda: (interrupt(), interrupt()))
    with pytest.raises(KeyboardInterrupt) as caught:
        train(settings(root, SHORT), tmp_path)
    assert not isinstance(caught.value, Interrupted)
    assert steps(tmp_path) == []


def test_signals_are_as_before_after_a_run(observed):
    before, after = observed[2]
    assert after is before


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(root, short, monkeypatch, capsys):
    workdir, first = short
    written = (workdir / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(experiment, "Writer", None)
    again = train(settings(root, SHORT), workdir)
    assert "is trained to the end already" in capsys.readouterr().err
    assert (again.step, again.beta) == (first.step, first.beta)
    np.testing.assert_array_equal(
        again.model.user.embedding[...], first.model.user.embedding[...]
    )
    assert (workdir / "metrics.jsonl").read_bytes() == written


def test_the_step_is_traced_once(observed):
    assert len(observed[1]) == 1


@pytest.mark.slow
def test_the_best_validated_epoch_is_chosen_after_a_resume_too_and_the_latest_kept(
    root, tmp_path, monkeypatch
):
    config = settings(root, LONG)
    validate_as(monkeypatch, 0.5, 0.9, 0.6, 0.7)
    with monkeypatch.context() as patch:
        before_step(patch, (2, 1), interrupt)
        with pytest.raises(Interrupted):
            train(config, tmp_path)
    trained = train(config, tmp_path)
    assert trained.step == 2 * STEPS
    assert steps(tmp_path) == [2 * STEPS, 4 * STEPS]
    with monkeypatch.context() as patch:
        validate_as(patch, 0.5, 0.9)
        two_epochs = train(settings(root, SHORT), tmp_path / "short")
    np.testing.assert_array_equal(
        trained.model.user.embedding[...], two_epochs.model.user.embedding[...]
    )


@pytest.mark.slow
def test_select_names_the_metric_of_the_best_epoch(root, tmp_path):
    select = "val/accuracy_relaxed"
    trained = train(settings(root, LONG | {"train.select": select}), tmp_path)
    scores = {
        line["step"]: line[select] for line in metrics(tmp_path) if select in line
    }
    assert len(scores) == 4
    assert scores[trained.step] == max(scores.values())


@pytest.mark.slow
def test_without_a_val_split_the_last_epoch_is_taken(tmp_path, capsys):
    root = write_polyvore_u(tmp_path / "data", image_size=None, positives=(6, 0, 2))
    config = settings(root, SHORT)
    trained = train(config, tmp_path / "run")
    assert trained.step == 2 * STEPS
    assert not any("val/loss" in line for line in metrics(tmp_path / "run"))
    said = capsys.readouterr().err
    assert re.search(
        r"epoch 2/2  \(there is no val split\)  \d+\.\d s an epoch, \d+ x cpu", said
    )
    assert best(config, tmp_path / "run").step == trained.step


@pytest.mark.slow
def test_nan_stops_the_run_and_names_metric_and_step(
    root, tmp_path, monkeypatch, uninterrupted
):
    config = settings(root, LONG)
    with monkeypatch.context() as patch:
        at_batch(
            patch, (2, 2), lambda b: b._replace(weights=b.weights * np.float32("nan"))
        )
        with pytest.raises(
            FloatingPointError, match=r"train/loss is not finite since step 13\b"
        ):
            train(config, tmp_path)
    assert steps(tmp_path)[-1] == 2 * STEPS
    # The last good state is a good one: from there the run ends as it should.
    train(config, tmp_path)
    assert_equal_runs(config, tmp_path, uninterrupted)


def test_a_user_table_larger_than_memory_is_refused(root, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "free_bytes", lambda root: Free(2**10, 0, True))
    text = (
        r"the table of \d+ users x 16 .* needs 0\.0 GiB .* 0\.0 GiB are free; .*"
        r"--config\.mesh\.model"
    )
    with pytest.raises(InputError, match=text):
        train(settings(root, SHORT), tmp_path)
    assert steps(tmp_path) == []


@pytest.mark.slow
def test_a_rate_far_too_high_is_an_error(root, tmp_path):
    config = settings(root, SHORT | {"optimizer.rates.text": 1e38})
    with pytest.raises(FloatingPointError, match=r"not finite (since|after) step \d+"):
        train(config, tmp_path)
    assert steps(tmp_path) == []


@pytest.mark.slow
def test_variables_that_blow_up_in_the_last_step_are_not_saved(tmp_path, monkeypatch):
    # The metrics of a step are taken before it changes the variables.
    root = write_polyvore_u(tmp_path / "data", image_size=None, positives=(6, 0, 2))
    rate = Schedule.rate
    monkeypatch.setattr(
        Schedule,
        "rate",
        lambda self, step: rate(self, step) if step < 9 else 3e38,
    )
    with pytest.raises(
        FloatingPointError, match=r"params/\S+ is not finite after step"
    ):
        train(settings(root, SHORT | {"optimizer.rates.user": 10.0}), tmp_path / "run")
    assert steps(tmp_path / "run") == [STEPS]


@pytest.mark.slow
def test_a_validation_metric_that_is_not_finite_stops_the_run(
    root, tmp_path, monkeypatch
):
    validate_as(monkeypatch, 0.5, float("nan"))
    with pytest.raises(FloatingPointError, match="val/auc_binary is nan at step 10"):
        train(settings(root, LONG), tmp_path)
    assert steps(tmp_path) == [STEPS]


@pytest.mark.slow
def test_a_workdir_of_other_data_is_refused(short, tmp_path):
    other = write_polyvore_u(tmp_path / "data", image_size=None, seed=1)
    moved = settings(other, SHORT)
    with pytest.raises(ValueError, match="trained on other data .* another --workdir"):
        best(moved, short[0])
    with pytest.raises(ValueError, match="trained on other data"):
        train(moved, short[0])


def test_a_workdir_in_use_is_refused_at_once(root, short, monkeypatch):
    workdir, trained = short
    monkeypatch.setattr(experiment, "load_inputs", lambda *_: pytest.fail("read"))
    run = experiment.Experiment(settings(root, SHORT), workdir)
    with files.lock(workdir, "training"):
        # Opening the checkpoints would remove what the other is about to save.
        reads = run.best, lambda: verify.main([str(workdir)])
        for use in (run.train, lambda: run.export(trained), *reads):
            with pytest.raises(BusyError, match=r"is in use: .*\(training\)"):
                use()


def test_a_workdir_stays_valid_when_its_data_moves(short, tmp_path):
    workdir, first = short
    moved = settings(write_polyvore_u(tmp_path / "data", image_size=None), SHORT)
    assert best(moved, workdir).step == first.step


@pytest.mark.slow
def test_lines_of_training_do_not_count_the_time_of_validation(
    root, tmp_path, monkeypatch
):
    clock = [0.0]

    def spend(seconds):
        clock[0] += seconds

    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    advances = HostEpochs.advances
    monkeypatch.setattr(
        HostEpochs,
        "advances",
        lambda *arguments: (spend(2) or step for step in advances(*arguments)),
    )
    validate = Validation.__call__
    monkeypatch.setattr(
        Validation, "__call__", lambda *arguments: spend(1000) or validate(*arguments)
    )
    written = []
    write = Writer.write
    monkeypatch.setattr(
        Writer,
        "write",
        lambda self, step, line: (
            written.append((step, line)) or write(self, step, line)
        ),
    )
    train(settings(root, SHORT), tmp_path)
    lines = [(step, line) for step, line in written if "train/seconds" in line]
    assert [step for step, _ in lines] == [3, 6, 9, 10]
    for (before, _), (step, line) in itertools.pairwise([(0, None), *lines]):
        assert line["train/seconds"] == 2 * (step - before)
        images = line["train/images_per_second"] * line["train/seconds"]
        assert 0 < images <= 3 * 20 * (step - before)


@pytest.mark.slow
def test_streamed_images_train_as_resident_ones_do(tmp_path, monkeypatch):
    # The images have the size that the network takes, so that no resizing differs.
    use_blocks(monkeypatch)
    root = write_polyvore_u(tmp_path / "data", image_size=32)
    runs = {}
    for cache in ("device", "none"):
        one_epoch = LONG | {"data.cache": cache, "train.epochs": 1}
        config = settings(root, one_epoch, config="t3")
        train(config, tmp_path / cache)
        runs[cache], _ = latest(config, tmp_path / cache)
    assert runs["device"].keys() == runs["none"].keys()
    for name, array in runs["device"].items():
        np.testing.assert_allclose(
            runs["none"][name], array, rtol=1e-4, atol=1e-6, err_msg=name
        )
    np.testing.assert_allclose(
        *([line["val/loss"] for line in metrics(tmp_path / cache) if "val/loss" in line]
          for cache in runs), rtol=1e-4
    )  # fmt: skip
