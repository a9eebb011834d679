"""A network that goes on from another run's, on data that have grown since."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from fhn_jax.codes import Codes
from fhn_jax.models.fashion_hash_net import FashionHashNet
from fhn_jax.training.experiment import Experiment
from fhn_jax.training.settings import Settings


def warm_start(
    experiment: Experiment, config: Settings, workdir: Path, codes: Codes
) -> FashionHashNet:
    """The best network of a run, with rows for the users who came after it.

    Known users keep their rows. New ones begin at the codes that were fitted to their
    likes; where users are mixtures of archetypes, at a random draw.

    Args:
      experiment: what is to be trained: of the same network, on the data as they are now.
      config, workdir: of the run to start from.
      codes: of all users.
    Raises:
      MissingFileError, InputError: as `Experiment.best`.
    """
    data = {"catalogue": experiment.catalogue, "inputs": experiment.inputs}
    before = Experiment(config, workdir, **data).best(grown=True).model
    model = experiment.new_model()
    table = np.array(model.user.embedding[...])
    known = np.asarray(before.user.embedding[...])
    if table.shape[1] == codes.bits and model.user.out is None:
        table[:] = codes.user_latents[: len(table)]
    table[: len(known)] = known
    variables = nnx.state(before)
    del variables["user"]["embedding"]
    nnx.update(model, variables)
    model.user.embedding[...] = jnp.asarray(table)
    return model
