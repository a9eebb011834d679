"""One step, on one device and on several virtual ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from polyvore_u import write_polyvore_u
from runs import settings
from runs import steps as steps_of

from fhn_jax.models.heads import UserEncoder
from fhn_jax.training import build, sharding

REPOSITORY = Path(__file__).parents[1]

# Trains a few steps on each data x model mesh, with either sampler, and prints the loss,
# a checksum of each variable, and how many columns of the user table and its moments
# each device holds.
STEPS = """
import itertools, json, sys
import jax
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np
from flax import nnx
from tests.test_train_state import Setting, RATES
from fhn_jax.training import sharding
from fhn_jax.training.epochs import DeviceEpochs, HostEpochs
from fhn_jax.training.rows import skipped_step
from fhn_jax.training.schedule import Schedule
from fhn_jax.training.objective import Objective
from fhn_jax.training.step import Trainer, make_optimizer, pop_metrics

setting = Setting(
    modalities=("visual", "text"), optimizer=make_optimizer("adam", RATES),
    objective=Objective(binary_share=0.5, vse_weight=0.3), ratio=1, multiple=8,
    average_decay=0.9,
)
one = setting.trainer
key, schedule = jax.random.key(0), Schedule("constant", 100, 100)

def stream(batches):
    for items, batch in batches:
        yield batch, {m: np.asarray(t)[np.maximum(items, 0)]
                      for m, t in setting.tables.items()}

def train(sampler, data, model):
    mesh = sharding.make_mesh(data, model) if data * model > 1 else None
    # The device's sampler has steps of rows.
    skipped = skipped_step("adam", RATES["user"]) if sampler == "device" else None
    trainer = Trainer(
        setting.model, one.optimizer, one.objective, segments=one.segments,
        slots=one.slots, augmentation=one.augmentation, mean=one.mean, std=one.std,
        average_decay=one.average_decay, mesh=mesh, skipped=skipped,
    )
    state = trainer.init()
    if sampler == "device":
        epochs = DeviceEpochs(trainer, setting.batches, setting.tables, key, most=3)
    else:
        epochs = HostEpochs(trainer, setting.batches, stream, {}, key)
    for advance, _ in epochs.advances(schedule, 0, 0, 1.0):
        state, _ = advance(state)
    state = trainer.settle(state)
    shards = {}
    variables = jax.tree_util.tree_flatten_with_path(
        state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
    )[0]
    for path, variable in variables:
        if (isinstance(variable, nnx.Variable)
                and "mesh_axes" in variable.get_metadata()):
            for x in jax.tree.leaves(variable):
                name = jax.tree_util.keystr(path)
                shards[name] = x.addressable_shards[0].data.shape
    _, means = pop_metrics(state)
    params = [
        np.asarray(x).ravel()[:4096].tolist() for x in jax.tree.leaves(state.params)
    ]
    return {"means": means, "params": params, "shards": shards}

cases = itertools.product(["host", "device"], [(1, 1), (8, 1), (4, 2)])
print(json.dumps([
    [sampler, *mesh, train(sampler, *mesh)] for sampler, mesh in cases
]))
"""

# Trains on a mesh of four devices, and starts the finished run again.
TWICE = """
import sys
from pathlib import Path
import jax
jax.config.update("jax_num_cpu_devices", 4)
from tests.runs import settings, train

root, workdir = sys.argv[1:]
for sampler in ("host", "device"):
    values = {
        "mesh.data": 2, "mesh.model": 2, "train.epochs": 1, "train.sampler": sampler,
        "data.cache": "device",
    }
    for _ in range(2):
        train(settings(root, values), Path(workdir) / sampler)
        print(sampler, file=sys.stderr)
"""


def run(program, *arguments):
    """Output and errors of a program in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def trained():
    """(sampler, data, model) → what `STEPS` says of it."""
    out, _ = run(STEPS)
    return {
        (sampler, data, model): said
        for sampler, data, model, said in json.loads(out.splitlines()[-1])
    }


@pytest.mark.slow
@pytest.mark.parametrize(("data", "model"), [(8, 1), (4, 2)])
@pytest.mark.parametrize("sampler", ["host", "device"])
def test_several_devices_train_as_one(trained, sampler, data, model):
    one, several = trained[sampler, 1, 1], trained[sampler, data, model]
    assert several["means"] == pytest.approx(one["means"], rel=1e-5, abs=1e-5)
    for ours, theirs in zip(several["params"], one["params"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    # The table itself, its average and both moments of Adam.
    assert len(several["shards"]) == 4
    assert {tuple(x) for x in several["shards"].values()} == {(4, 8 // model)}


def test_a_batch_that_does_not_divide_names_the_next_size():
    mesh = jax.sharding.AbstractMesh((8, 1), (sharding.DATA, sharding.MODEL))
    sharding.check_batch_size(104, mesh)
    text = r"batch_size=100 must be divisible by the 8 devices .*batch_size=104"
    with pytest.raises(ValueError, match=text):
        sharding.check_batch_size(100, mesh)


@pytest.mark.parametrize(("data", "model"), [(64, 1), (0, 1)])
def test_a_mesh_of_more_devices_than_there_are_is_refused(data, model):
    with pytest.raises(ValueError, match=f"mesh.data={data} x mesh.model=1: expected"):
        sharding.make_mesh(data, model)


@pytest.mark.parametrize(
    ("data", "model", "text"),
    [
        (3, 1, "2 processes have 6 devices, and the mesh must have them all"),
        (1, 2, "use --config.mesh.data=3"),
        (3, 2, "mesh.model=2 does not divide the 3 devices of a process"),
    ],
)
def test_a_mesh_that_processes_cannot_share_is_refused(monkeypatch, data, model, text):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match=text):
        sharding.make_mesh(data, model, devices=jax.devices() * 6)


def test_a_model_axis_that_does_not_divide_the_bits_is_refused():
    mesh = jax.sharding.AbstractMesh((1, 3), (sharding.DATA, sharding.MODEL))
    table = nnx.state(UserEncoder(5, 8, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="mesh.model=3 does not divide the 8 columns"):
        sharding.of_state(mesh, table)


@pytest.mark.slow
def test_a_run_on_a_mesh_is_saved_and_restored(tmp_path):
    root = write_polyvore_u(tmp_path / "data", image_size=None)
    _, err = run(TWICE, root, tmp_path)
    for sampler in ("host", "device"):
        assert steps_of(tmp_path / sampler) == [6]
        first, again = err.split(f"{sampler}\n")[:2]
        assert "epoch 1/1" in first and "is trained to the end" not in first
        assert "is trained to the end already" in again
        err = err.split(f"{sampler}\n")[2]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"mesh.data": 0}, "mesh.data=0: expected at least 1"),
        ({"mesh.data": 512}, "mesh.data=512 x mesh.model=1: expected"),
        ({"train.sampler": "tpu"}, "'tpu': expected 'host' or 'device'"),
        ({"train.compute_dtype": "half"}, "'half': expected 'auto', 'float32' or"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, values, text):
    with pytest.raises(ValueError, match=text):
        build.check_config(settings(tmp_path, values))
