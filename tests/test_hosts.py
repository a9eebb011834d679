"""Several processes, of one CPU device each here, that train and export as one."""

import re
import shutil
import socket

import numpy as np
import pytest
from blocks import WITH_BLOCKS
from polyvore_u import write_polyvore_u
from runs import (
    assert_equal_runs,
    flags,
    latest,
    metrics,
    run,
    settings,
    start,
)

from fhn_jax import main
from fhn_jax.training import sharding

# 48 outfits in batches of 10: 5 steps an epoch, the last one padded.
VALUES = {
    "mesh.data": 2,
    "train.epochs": 3,
    "train.batch_size": 10,
    "train.log_steps": 3,
    "optimizer.name": "adamw",
    "optimizer.rates.user": 0.05,
    "optimizer.rates.text": 0.01,
}
ONE_PROCESS = "import jax; jax.config.update('jax_num_cpu_devices', 2)"
# Before a step of an epoch (both from 0), process 1 does something.
BEFORE_STEP = """
import os, signal, sys
from fhn_jax.training.epochs import HostEpochs

whole_epoch = HostEpochs.advances

def advances(self, schedule, epoch, skip, beta):
    whole = whole_epoch(self, schedule, epoch, skip, beta)
    for step, advance in enumerate(whole, skip):
        if "--process-id=1" in sys.argv and (epoch, step) == {when}:
            os.kill(os.getpid(), signal.{signal})
        yield advance

HostEpochs.advances = advances
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny", image_size=None)


def free_port():
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


def run_two(arguments, *, patch="", counts=(2, 2), waits=True):
    """The exit code, stdout and stderr of each of two processes.

    Args:
      patch: see `runs.start`.
      counts: what each of them takes for the number of processes.
      waits: for both to end; else process 0 is killed when process 1 has ended.
    """
    port = free_port()
    processes = [
        start(
            [
                *arguments,
                f"--coordinator=127.0.0.1:{port}",
                f"--processes={count}",
                f"--process-id={i}",
            ],
            patch=patch,
        )
        for i, count in enumerate(counts)
    ]
    try:
        last = processes[1].communicate(timeout=150)
        if not waits:
            processes[0].kill()
        ended = [processes[0].communicate(timeout=150), last]
    finally:
        for process in processes:
            process.kill()  # Their SIGTERM is the runtime's.
    return [(p.returncode, *texts) for p, texts in zip(processes, ended, strict=True)]


@pytest.fixture(scope="module")
def by_two(tmp_path_factory, root):
    """The main job by two processes: (workdir, what each of them said)."""
    workdir = tmp_path_factory.mktemp("two")
    said = run_two(["all", *flags(root, VALUES), f"--workdir={workdir}"])
    assert [code for code, _, _ in said] == [0, 0], said
    return workdir, said


@pytest.fixture(scope="module")
def by_one(tmp_path_factory, root):
    """The main job by one process with two devices."""
    workdir = tmp_path_factory.mktemp("one")
    arguments = ["all", *flags(root, VALUES), f"--workdir={workdir}"]
    code, _, err = run(arguments, patch=ONE_PROCESS)
    assert code == 0, err
    return workdir


@pytest.fixture(scope="module")
def config(root):
    """To read checkpoints with: this process has one device."""
    return settings(root, VALUES | {"mesh.data": 1})


@pytest.mark.slow
def test_two_processes_train_as_one(by_one, by_two, config):
    ours, theirs = metrics(by_two[0]), metrics(by_one)
    assert len(ours) == len(theirs) == 8
    for two, one in zip(ours, theirs, strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-5)
    two, one = (latest(config, workdir)[0] for workdir in (by_two[0], by_one))
    assert two.keys() == one.keys()
    for name, array in two.items():
        np.testing.assert_allclose(array, one[name], 1e-5, 1e-5, err_msg=name)


@pytest.mark.slow
def test_two_processes_draw_on_their_devices_as_one(root, tmp_path):
    values = VALUES | {"train.sampler": "device", "data.cache": "device"}
    arguments = ["train", *flags(root, values | {"train.epochs": 2})]
    said = run_two([*arguments, f"--workdir={tmp_path / 'two'}"])
    assert [code for code, _, _ in said] == [0, 0], said
    code, _, err = run([*arguments, f"--workdir={tmp_path / 'one'}"], patch=ONE_PROCESS)
    assert code == 0, err
    ours, theirs = metrics(tmp_path / "two"), metrics(tmp_path / "one")
    assert len(ours) == len(theirs) > 2
    for two, one in zip(ours, theirs, strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-5)


@pytest.mark.slow
def test_items_encoded_by_two_processes_are_those_of_one(by_two, root, tmp_path):
    done = by_two[0]
    copy = shutil.copytree(done, tmp_path / "copy")
    names = ("codes.safetensors", "latents.safetensors")
    for name in names:
        (copy / name).unlink()
    arguments = ["extract-features", *flags(root, VALUES), f"--workdir={copy}"]
    code, _, err = run(arguments, patch=ONE_PROCESS)
    assert code == 0, err
    for name in names:
        assert (copy / name).read_bytes() == (done / name).read_bytes(), name


@pytest.mark.slow
def test_the_first_process_alone_speaks_and_writes(by_two, by_one):
    workdir, ((_, out, err), (_, other_out, other_err)) = by_two
    assert "report/index.html" in out and "epoch 3/3" in err
    assert err.startswith("waiting for all 2 processes, 300 seconds at most")
    assert "encoding items: 48 of 48" in err  # Of 96: the other one has the rest.
    assert [x for x in other_out.splitlines() if not x.startswith("[Gloo]")] == []
    assert other_err == ""
    names = {path.name for path in by_one.iterdir()}
    assert {path.name for path in workdir.iterdir()} == names
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == 8


@pytest.mark.slow
def test_stopped_then_killed_two_processes_go_on_bit_for_bit(
    by_two, root, tmp_path, config
):
    arguments = ["train", *flags(root, VALUES), f"--workdir={tmp_path}"]
    stop = BEFORE_STEP.format(when=(0, 2), signal="SIGTERM")
    stopped = run_two(arguments, patch=stop)
    assert [code for code, _, _ in stopped] == [130, 130], stopped
    texts = [re.findall("stopped after step [0-9]+", err) for _, _, err in stopped]
    assert texts[0] == texts[1] and len(texts[0]) == 1
    kill = BEFORE_STEP.format(when=(2, 3), signal="SIGKILL")
    (survivor, _, err), (killed, _, _) = run_two(arguments, patch=kill)
    assert (survivor, killed) == (1, -9), err
    assert [code for code, _, _ in run_two(arguments)] == [0, 0]
    assert_equal_runs(config, tmp_path, by_two[0])


@pytest.mark.slow
def test_images_streamed_to_two_processes_train_as_on_one(tmp_path):
    root = write_polyvore_u(tmp_path / "data", image_size=32)
    values = {"mesh.data": 2, "train.epochs": 1, "data.cache": "host"}
    arguments = ["train", *flags(root, values, config="vse_t3")]
    workdirs = [f"--workdir={tmp_path / name}" for name in ("two", "one")]
    said = run_two([*arguments, workdirs[0]], patch=WITH_BLOCKS)
    assert [code for code, _, _ in said] == [0, 0], said
    assert "decoding images: " in said[0][2] and said[1][2] == ""
    code, _, err = run([*arguments, workdirs[1]], patch=ONE_PROCESS + WITH_BLOCKS)
    assert code == 0, err
    both = (metrics(tmp_path / name) for name in ("two", "one"))
    for two, one in zip(*both, strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-5)


@pytest.mark.slow
def test_a_mesh_that_leaves_a_process_out_is_refused(root, tmp_path):
    values = VALUES | {"mesh.data": 1}
    said = run_two(["train", *flags(root, values), f"--workdir={tmp_path}"])
    for code, _, err in said:
        assert code == 1
        assert "2 processes have 2 devices" in err and "--config.mesh.data=2" in err


@pytest.mark.slow
def test_processes_started_with_different_numbers_are_refused(root, tmp_path):
    arguments = ["train", *flags(root, VALUES), f"--workdir={tmp_path}"]
    _, (code, _, err) = run_two(arguments, counts=(2, 3), waits=False)
    assert code == 1
    assert "--processes=3, but process 0 at" in err and "--processes=2" in err


@pytest.mark.slow
def test_distributed_without_a_cluster_says_what_to_give(root, tmp_path):
    arguments = ["train", *flags(root, VALUES), f"--workdir={tmp_path}"]
    code, _, err = run([*arguments, "--distributed"])
    assert code == 1
    assert "give --coordinator=HOST:PORT, --processes=N and --process-id" in err


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (("10.0.0.1:1234", 2, 2), "--process-id=2: expected 0 to 1"),
        (("10.0.0.1:1234", 2, -1), "--process-id=-1: expected 0 to 1"),
        (("10.0.0.1", 2, 0), "--coordinator='10.0.0.1': expected HOST:PORT"),
        (("10.0.0.1:99999", 2, 0), "expected HOST:PORT of process 0"),
    ],
)
def test_a_place_among_processes_that_cannot_be_is_refused(where, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        with sharding.multi_host(*where):
            pytest.fail("joined")


def test_a_command_of_one_process_refuses_others():
    with pytest.raises(ValueError, match="search does not take --processes"):
        main.run(["search", "--processes=2"])


def test_one_process_has_all_rows_and_gathers_its_own_values():
    assert sharding.own_rows(None, 3).tolist() == [0, 1, 2]
    mesh = sharding.make_mesh(1)
    assert sharding.own_rows(mesh, 3).tolist() == [0, 1, 2]
    values = np.array([1 / 3, 2**60 + 1])
    np.testing.assert_array_equal(sharding.gather(values), values[None])
