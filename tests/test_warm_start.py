"""A network goes on from most of what another run has learned."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from fhn_jax.evaluation.evaluators import load_codes
from fhn_jax.training.experiment import Experiment
from fhn_jax.training.warm_start import _keep_part, warm_start
from tests.test_growth import config_of, place, trained

__all__ = ["place", "trained"]
pytestmark = pytest.mark.slow


def test_a_network_goes_on_from_most_of_what_was_learned(place):
    config, codes = config_of(place), load_codes(place / "run")[0]
    experiment = Experiment(config, place / "next")
    learned = nnx.state(Experiment(config, place / "run").best().model)
    start = nnx.state(experiment.new_model())
    whole, most = (
        nnx.state(warm_start(experiment, config, place / "run", codes, kept))
        for kept in (1.0, 0.75)
    )
    same = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    jax.tree.map(same, whole, learned)
    for part in ("heads", "matching"):
        between = jax.tree.map(
            lambda ours, theirs: 0.75 * ours + 0.25 * theirs,
            *(learned[part], start[part]),
        )
        jax.tree.map(same, most[part], between)
    table = learned["user"]["embedding"][...]
    same(most["user"]["embedding"][...], 0.75 * table)
    # What sees photos stays as it is.
    parts = {"backbone": np.ones(2), "heads": np.ones(2)}
    _keep_part(parts, {"backbone": np.zeros(2), "heads": np.zeros(2)}, 0.75)
    assert {name: of.tolist() for name, of in parts.items()} == {
        "backbone": [1, 1],
        "heads": [0.75, 0.75],
    }
