"""A network that goes on from another run's, on data that have grown since."""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fhn_jax.codes import Codes
from fhn_jax.models.fashion_hash_net import FashionHashNet
from fhn_jax.training.experiment import Experiment
from fhn_jax.training.settings import Settings


def warm_start(
    experiment: Experiment,
    config: Settings,
    workdir: Path,
    codes: Codes,
    kept: float = 1.0,
) -> FashionHashNet:
    """The best network of a run, with rows for the users who came after it.

    Known users keep their rows. New ones begin at the codes that were fitted to their
    likes; where users are mixtures of archetypes, at a random draw.

    Args:
      experiment: what is to be trained: of the same network, on the data as they are now.
      config, workdir: of the run to start from.
      codes: of all users.
      kept: the share of what was learned that the network begins with, but for its
        backbone; the rest is of a network at its start. One that keeps everything learns
        less of what is new than one that is trained from nothing.
    Raises:
      MissingFileError, InputError: as `Experiment.best`.
    Source: Ash and Adams, NeurIPS 2020, "On Warm-Starting Neural Network Training".
    """
    data = {"catalogue": experiment.catalogue, "inputs": experiment.inputs}
    before = Experiment(config, workdir, **data).best(grown=True).model
    model = experiment.new_model()
    table = np.array(model.user.embedding[...])
    known = np.asarray(before.user.embedding[...])
    if table.shape[1] == codes.bits and model.user.out is None:
        table[:] = codes.user_latents[: len(table)]
    table[: len(known)] = known
    variables, fresh = nnx.state(before), nnx.state(model)
    for state in (variables, fresh):
        del state["user"]["embedding"]
    _keep_part(variables, fresh, kept)
    nnx.update(model, variables)
    model.user.embedding[...] = jnp.asarray(kept * table)
    return model


def _keep_part(
    learned: MutableMapping[str, Any], start: Mapping[str, Any], kept: float
) -> None:
    """Brings variables nearer to those of a network at its start, in place."""
    for part in learned:
        if part != "backbone":
            learned[part] = jax.tree.map(
                lambda ours, theirs: kept * ours + (1 - kept) * theirs,
                *(learned[part], start[part]),
            )
