"""The command line answers as the servers do: by the version that is published."""

import dataclasses
import json

import numpy as np
import pytest
from random_codes import run_of
from runs import act
from shapes import write_shapes
from shops import name_items

from fhn_jax import files
from fhn_jax.codes import Codes
from fhn_jax.data.layout import read_catalogue
from fhn_jax.recommender.publishing import publish

pytest.importorskip("duckdb")


@pytest.fixture
def root(tmp_path):
    """Data of a shop: the price of item i is i + .5, and the even ones are in stock."""
    root = write_shapes(tmp_path / "data")
    name_items(root, read_catalogue(root, "8"))
    return root


@pytest.fixture
def workdir(root):
    """A run of random codes."""
    return run_of(root)


def train_on(workdir):
    """Codes of other users, as those of a refresh, with settings."""
    codes = Codes.load(workdir / "codes.safetensors")
    latents = np.random.default_rng(5).normal(size=codes.user_latents.shape)
    folder = workdir / "refreshes/1"
    changed = dataclasses.replace(codes, user_latents=latents.astype(np.float32))
    changed.save(folder / "codes.safetensors")
    files.write_json(
        folder / "config.json", json.loads((workdir / "config.json").read_text())
    )
    return folder


def answer(workdir, command, **options):
    act(command, workdir=workdir, **options)
    name = "fit" if command == "cold-start" else command
    return json.loads((workdir / f"{name}.json").read_text())["outfits"]


ASKED = {
    "search": {"user": "102", "k": 20},
    "compose": {"user": "102", "k": 20},
    "cold-start": {"fit": True, "likes": "shoe-3,bag-1", "k": 20},
}


@pytest.mark.parametrize("command", ASKED)
def test_commands_answer_by_the_version_that_is_served(workdir, root, command, capsys):
    own = answer(workdir, command, **ASKED[command])
    assert "answers" not in capsys.readouterr().out
    new = train_on(workdir)
    trained = answer(new, command, **ASKED[command])
    publish(workdir, new, root, "8")
    # What the data become afterwards is not served yet.
    (root / "items.parquet").unlink()
    served = answer(workdir, command, **ASKED[command])
    assert served == trained and (command == "cold-start" or served != own)
    assert f"version 1 answers, the published one of {workdir}" in (
        capsys.readouterr().out
    )
    assert not (workdir / "published/1" / f"{command}.json").exists()
