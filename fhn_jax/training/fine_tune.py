"""New users by training: a trained network with a new user embedding, all else frozen.

The way of the reference; `fhn_jax.new_users` does without training.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import nnx
from ml_collections import ConfigDict

from fhn_jax.errors import InputError
from fhn_jax.training.experiment import Experiment, Trained
from fhn_jax.training.settings import Settings, config_values
from fhn_jax.training.workdir import differences, read_config

# Settings of the data that item codes depend on.
_DATA = ("text", "features", "image_size", "mean", "std")


def restore_base(experiment: Experiment) -> Trained:
    """The network of the base run, with freshly drawn users of the experiment.

    Args:
      experiment: a cold start; `cold_start.base` is the workdir of the base run.
    Raises:
      FileNotFoundError: no trained run, or its data is gone.
      ValueError: another network than that of the base run, or learning rates that are
        not 0 for what is to be frozen.
    """
    base = Path(experiment.config.cold_start.base)
    theirs: Any = ConfigDict(read_config(base))
    check_same_network(experiment.config, theirs)
    # The data may have grown since; the users are not taken from there.
    trained = Experiment(theirs, base, inputs=experiment.inputs).best(grown=True)
    model = experiment.new_model()
    variables = nnx.state(trained.model)
    del variables["user"]
    nnx.update(model, variables)
    return trained._replace(model=model)


def check_same_network(config: Settings, theirs: Settings) -> None:
    """Raises ValueError unless both configs make the same item codes.

    Args:
      config: of the cold start.
      theirs: of the base run.
    """
    base = config.cold_start.base
    ours, others = config_values(config), config_values(theirs)
    differing = [
        f"{key} is {there!r} there and {here!r} here"
        for key, there, here in differences(_of_items(others), _of_items(ours))
    ]
    if differing:
        raise InputError(
            f"the base run {base} has another network: {'; '.join(differing[:5])}"
            f"{'; …' if len(differing) > 5 else ''}. Give the arguments of the base "
            "run to configs/cold_start.py, or another base=…"
        )
    rates = config.optimizer.rates
    moving = [name for name in rates if name != "user" and rates[name]]
    if moving:
        raise InputError(
            f"optimizer.rates of {', '.join(moving)} are not 0; a cold start trains "
            "new users alone"
        )


def _of_items(values):
    """The settings that item codes depend on."""
    sections = {name: values.get(name) for name in ("model", "data")}
    for name, section in sections.items():
        if not isinstance(section, Mapping):
            raise InputError(
                f"the settings have {name}={section!r}, expected settings by name; "
                "train the base run again, or give its --config"
            )
    model = {key: value for key, value in sections["model"].items() if key != "user"}
    data = {key: sections["data"].get(key) for key in _DATA}
    return {"model": model, "data": data}
