r"""Converts a network trained with the reference to a workdir that evaluates.

    fhn-jax convert-reference-checkpoint MODEL.net \
        --config configs/vse_t3.py:hash=tanh --root data/polyvore --variant 630 \
        --workdir runs/reference

A .net file is a state dict saved by PyTorch, read as in `convert_weights`. Afterwards
extract-features, evaluate-rank and the other actions take the --workdir. A network of
hash_types 2, which the reference scores by user terms alone, becomes one of type 1.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from fhn_jax.data_tools.convert_weights import load_weights
from flax import nnx
from ml_collections import ConfigDict

from fhn_jax import files
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.layout import read_catalogue
from fhn_jax.data.vectors import read_text_vectors
from fhn_jax.errors import ExistingFileError, InputError
from fhn_jax.models.reference_names import load_reference
from fhn_jax.program import Arguments, run_program
from fhn_jax.training import build, configs
from fhn_jax.training.checkpoint import Checkpoints
from fhn_jax.training.settings import config_values
from fhn_jax.training.workdir import claim_workdir, is_trained

_SCALE = ".scale"


def read_config(
    config: str, root: str, variant: str, values: Sequence[str] = ()
) -> ConfigDict:
    """The settings that a network was trained with.

    Args:
      config: a file or a name, and an argument: "configs/t3.py:hash=tanh".
      root, variant: of the data.
      values: single settings, "model.single=true"; the value is JSON.
    Raises:
      MissingFileError: there is no such config.
      InputError: an unknown setting, one without a value, or of another type.
    """
    settings = configs.load(config)
    if "demo" in settings:
        with settings.unlocked():
            del settings.demo
    for value in values:
        key, given, text = value.partition("=")
        try:
            settings.update_from_flattened_dict({key: json.loads(text)})
        except KeyError as error:
            raise InputError(f"--set {value}: {error.args[0]}") from None
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"--set {value}: expected key=JSON, such as model.single=true ({error})"
            ) from None
    settings.data.update(root=root, variant=variant)
    return settings


def epoch_of(scale: float, gamma: float) -> int:
    """The epoch, from 0, in which the slope of tanh was `scale` = sqrt(1 + γ·epoch).

    Raises:
      ValueError: in none.
    """
    epoch = (scale**2 - 1) / gamma if gamma else 0.0
    if not (np.isfinite(epoch) and epoch > -0.5) or not np.isclose(
        scale, (1 + gamma * round(epoch)) ** 0.5, rtol=1e-5
    ):
        raise InputError(
            f"the slope of tanh is {scale:g}, which is sqrt(1 + γ·epoch) in no epoch "
            f"with config.model.tanh_gamma={gamma:g}; give that of the training: "
            f"--set model.tanh_gamma=…, 0 for a slope of 1, {scale**2 - 1:g} for one "
            "that is this in the second epoch"
        )
    return round(epoch)


def scale_of(weights: Mapping[str, np.ndarray]) -> float:
    """The slope of tanh, which the reference saves with each encoder; 1 if it is not.

    Raises:
      ValueError: the encoders have different ones.
    """
    scales = {
        float(scale)
        for name, value in weights.items()
        if name.endswith(_SCALE)
        for scale in value.ravel()
    }
    if len(scales) > 1:
        raise InputError(
            f"the encoders have the slopes {sorted(scales)} of tanh; expected one"
        )
    return scales.pop() if scales else 1.0


def without_type_2(
    weights: Mapping[str, np.ndarray], config: ConfigDict
) -> tuple[dict[str, np.ndarray], ConfigDict]:
    """The network of hash types 1 that scores as the reference does with types 2.

    DIFFERS: there the weights λ of pairs of items weigh products of user and items once
    more, with 1 the first time. That is 20 times our user term with (1 + λ) / 2; with
    its ablations, 20 times one of the two.
    """
    config = config.copy_and_resolve_references()
    matching, name = config.model.matching, "core.weight"
    changed = dict(weights)
    if name in weights:
        if matching.zero_item_term:
            changed[name] = np.ones_like(weights[name])
        elif not matching.zero_user_term:
            changed[name] = (1 + weights[name]) / 2
    matching.update(hash_types=1, zero_item_term=True, zero_user_term=False)
    return changed, config


def convert(
    weights: Mapping[str, np.ndarray],
    config: ConfigDict,
    workdir: str | os.PathLike,
    catalogue: Catalogue,
) -> int:
    """Writes config.json and a checkpoint of the weights.

    Args:
      weights: by the reference's names.
      config: how the network was trained; of hash types 2, see `without_type_2`.
      workdir: without a checkpoint.
      catalogue: the data it was trained on.
    Returns:
      the step of the checkpoint.
    Raises:
      FileExistsError: the workdir holds a checkpoint.
      KeyError, ValueError: the weights are not of this config or data; names them.
    """
    workdir = Path(workdir)
    if is_trained(workdir):
        raise ExistingFileError(f"{workdir} holds a checkpoint; give another --workdir")
    build.check_config(config)
    if config.model.matching.hash_types == 2:
        weights, config = without_type_2(weights, config)
    text_dim = 0
    if "text" in config.model.modalities:
        text = read_text_vectors(config.data.root, catalogue, config.data.text)
        text_dim = text.shape[1]
    # Without values, which the weights replace: drawing them is slow.
    model = nnx.eval_shape(lambda: build.make_model(config, catalogue, text_dim))
    load_reference(model, weights, hash_types=config.model.matching.hash_types)
    batches = build.make_batches(config, catalogue)
    # The last step of the epoch, so that evaluation takes the slope of that epoch.
    epoch = epoch_of(scale_of(weights), config.model.tanh_gamma)
    step = (epoch + 1) * batches.steps
    trainer = build.make_trainer(config, model, batches)
    state = trainer.at_step(trainer.init(), step)
    schedule = build.make_schedule(config, batches.steps)
    host = {"schedule": schedule.memory(), "data": catalogue.train_checksum}
    with files.lock(workdir, "converting"):
        claim_workdir(config_values(config), workdir)
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            checkpoints.save(state, host)
    return step


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax convert-reference-checkpoint", __doc__)
    parser.add_argument("net", metavar="NET", help="written by the reference")
    parser.add_argument("--config", required=True, help="such as configs/t3.py:bits=64")
    parser.add_argument("--root", required=True, help="folder of the data")
    parser.add_argument("--variant", required=True, help="reads tuples_<variant>")
    parser.add_argument("--workdir", required=True, help="written")
    parser.add_argument(
        "--set",
        metavar="KEY=JSON",
        action="append",
        default=[],
        help="a single setting, such as model.single=true",
    )
    options = parser.parse_args(arguments)
    config = read_config(options.config, options.root, options.variant, options.set)
    catalogue = read_catalogue(Path(options.root), options.variant)
    weights = load_weights(options.net)
    step = convert(weights, config, options.workdir, catalogue)
    print(
        f"{options.workdir} holds the network as of step {step:,}; go on with: "
        f"python -m fhn_jax.main extract-features --workdir {options.workdir}"
    )


if __name__ == "__main__":
    run_program(main)
