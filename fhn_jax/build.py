"""From a config to the parts of a run: data, network, trainer."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ml_collections import ConfigDict

from fhn_jax.data.batches import TrainBatches
from fhn_jax.data.features import read_features
from fhn_jax.data.images import load_table, open_images, verify_images
from fhn_jax.data.items import ItemInputs, choose_cache
from fhn_jax.data.negatives import NegativeSampler
from fhn_jax.data.schema import Catalogue, read_text_vectors
from fhn_jax.export import ItemEncoder
from fhn_jax.models.augment import Augmentation
from fhn_jax.models.fashion_hash_net import (
    FashionHashNet,
    Shape,
    check_bits,
    check_features,
    check_modalities,
)
from fhn_jax.models.hashing import Hash
from fhn_jax.schedule import Schedule
from fhn_jax.train_state import Objective, Trainer, make_optimizer
from fhn_jax.validation import SCORES

Progress = Callable[[str], Callable[[int, int], None]]


def config_values(config: ConfigDict) -> dict[str, Any]:
    """A config as JSON values."""
    return json.loads(config.to_json_best_effort())


def config_hash(config: ConfigDict) -> str:
    """Checksum of what decides a run's result; not where it is logged."""
    values = config_values(config)
    for key in ("wandb", "demo"):
        values.pop(key, None)
    values["data"].pop("root")  # The data has a checksum of its own.
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def load_inputs(
    config: ConfigDict, catalogue: Catalogue, progress: Progress
) -> ItemInputs:
    """Images or features and text of all items, checked before anything is trained.

    Args:
      config: `data` and `model.modalities` are used.
      catalogue: the items.
      progress: from a title to a function of the number done, and of all.
    Raises:
      FileNotFoundError, KeyError, ValueError: an image, feature or text vector is
        missing or of no use; names it.
    """
    names = catalogue.item_names()
    modalities, size = config.model.modalities, config.data.image_size
    tables, text, images = {}, None, None
    if "text" in modalities:
        text = read_text_vectors(Path(config.data.root), catalogue)
    text_dim = 0 if text is None else text.shape[1]
    features = config.data.features
    pixels = size if "visual" in modalities and not features else 0
    cache = choose_cache(config.data.cache, catalogue, pixels, text_dim)
    if features:
        reading = progress("reading features")
        found = read_features(config.data.root, features, catalogue, progress=reading)
        tables["visual"] = jnp.asarray(found)
    elif "visual" in modalities:
        images = open_images(Path(config.data.root))
        if cache == "device":
            decoded = load_table(
                images, names, size, progress=progress("decoding images")
            )
            tables["visual"], images = jnp.asarray(decoded), None
        else:
            verify_images(images, names, progress=progress("checking images"))
    if text is not None and cache == "device":
        tables["text"], text = jnp.asarray(text), None
    return ItemInputs(tables, text, images, names, size)


def make_model(
    config: ConfigDict, catalogue: Catalogue, text_dim: int, feature_dim: int = 0
) -> FashionHashNet:
    """The network at its start; a function of the config and its seed.

    Args:
      text_dim, feature_dim: see `input_dims`.
    """
    model = config.model
    has_images = "visual" in model.modalities and not feature_dim
    shape = Shape(
        num_users=catalogue.num_users,
        slots=catalogue.slots,
        text_dim=text_dim,
        image_size=config.data.image_size if has_images else 0,
        feature_dim=feature_dim,
    )
    return FashionHashNet(
        shape,
        modalities=tuple(model.modalities),
        bits=model.bits,
        hash=make_hash(config),
        backbone=model.backbone.to_dict(),
        visual_head=model.visual_head.to_dict(),
        text_head=model.text_head.to_dict(),
        single=model.single,
        user=model.user.to_dict(),
        matching=model.matching.to_dict(),
        rngs=nnx.Rngs(params=config.seed),
    )


def make_hash(config: ConfigDict) -> Hash:
    """The hash layer."""
    model = config.model
    return Hash(model.hash, model.ste_gradient, model.item_scale)


def make_objective(config: ConfigDict) -> Objective:
    """What training minimises.

    Raises:
      ValueError: a binary share where the hash layer passes no gradient.
    """
    objective = Objective(**config.loss.to_dict())
    if objective.binary_share and not make_hash(config).trains_binary:
        raise ValueError(
            f"loss.binary_share={objective.binary_share}, but the binary codes of "
            f"model.hash={config.model.hash!r} pass no gradient; use 0, or hash='ste'"
        )
    return objective


def make_batches(config: ConfigDict, catalogue: Catalogue) -> TrainBatches:
    """The training batches."""
    sampler = NegativeSampler(
        catalogue,
        config.train.negatives,
        ratio=config.train.ratio,
        hard_share=config.train.hard_share,
        hard_schedule=config.train.hard_schedule,
        swap_share=config.train.swap_share,
        epochs=config.train.epochs,
        seed=config.seed,
    )
    return TrainBatches(catalogue, sampler, config.train.batch_size, config.seed)


def make_schedule(config: ConfigDict, steps_per_epoch: int) -> Schedule:
    """The learning-rate schedule."""
    return Schedule(
        total_steps=config.train.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        **config.schedule.to_dict(),
    )


def make_update_rule(config: ConfigDict) -> optax.GradientTransformation:
    """The optimiser, with its rates."""
    return make_optimizer(**config.optimizer.to_dict())


def make_trainer(
    config: ConfigDict, model: FashionHashNet, batches: TrainBatches
) -> Trainer:
    """The training step of a network."""
    return Trainer(
        model,
        make_update_rule(config),
        make_objective(config),
        segments=batches.segments,
        slots=batches.slots,
        augmentation=Augmentation(**config.data.augment.to_dict()),
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
        average_decay=config.train.average_decay,
    )


def make_encoder(
    config: ConfigDict, model: FashionHashNet, inputs: ItemInputs
) -> ItemEncoder:
    """The encoder for validation and export."""
    return ItemEncoder(
        model,
        inputs,
        chunk=config.data.encode_batch,
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
    )


def check_config(config: ConfigDict) -> None:
    """Finds mistakes in a config that need no data to be seen.

    Raises:
      ValueError: says key, value, what was expected.
    """
    check_bits(config.model.bits)
    make_hash(config)
    make_objective(config)
    make_schedule(config, 1)
    make_update_rule(config)
    any_data = Shape(
        1, (0,), text_dim=1, image_size=1, feature_dim=int(bool(config.data.features))
    )
    check_modalities(tuple(config.model.modalities), any_data)
    check_features(tuple(config.model.modalities), config.model.backbone.name, any_data)
    counts = {
        "data": ("image_size", "encode_batch"),
        "train": ("epochs", "batch_size", "log_steps", "val_epochs"),
    }
    for section, keys in counts.items():
        for key in keys:
            if config[section][key] < 1:
                raise ValueError(
                    f"{section}.{key}={config[section][key]}: expected at least 1"
                )
    if config.train.select not in SCORES:
        raise ValueError(
            f"train.select={config.train.select!r}: expected one of {', '.join(SCORES)}"
        )
    if not 0 <= config.train.average_decay < 1:
        raise ValueError(
            f"train.average_decay={config.train.average_decay}: expected 0 to below 1"
        )


def input_dims(inputs: ItemInputs) -> dict[str, int]:
    """Lengths of text vectors and of precomputed features, each 0 without them."""
    text = inputs.tables.get("text", inputs.text)
    visual = inputs.tables.get("visual")
    return {
        "text_dim": 0 if text is None else text.shape[1],
        "feature_dim": 0 if visual is None or visual.ndim > 2 else visual.shape[1],
    }


def all_items(catalogue: Catalogue) -> tuple[np.ndarray, ...]:
    """Ids of all items, per category."""
    return tuple(np.arange(len(names), dtype=np.int32) for names in catalogue.names)
