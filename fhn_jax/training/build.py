"""From a section of the settings to the part of a run that it describes."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from fhn_jax.data.batches import TrainBatches
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.items import ItemInputs
from fhn_jax.data.negatives import NegativeSampler
from fhn_jax.errors import InputError
from fhn_jax.models.augment import Augmentation
from fhn_jax.models.fashion_hash_net import (
    PRECOMPUTED,
    FashionHashNet,
    Shape,
    check_bits,
    check_features,
    check_modalities,
)
from fhn_jax.models.hashing import Hash
from fhn_jax.training import sharding
from fhn_jax.training.epochs import DeviceEpochs, HostEpochs
from fhn_jax.training.export import ItemEncoder
from fhn_jax.training.objective import Objective
from fhn_jax.training.rows import Skipped, by_rows, skipped_step
from fhn_jax.training.schedule import Schedule
from fhn_jax.training.settings import Settings
from fhn_jax.training.step import Trainer, make_optimizer
from fhn_jax.training.teacher import Teacher
from fhn_jax.training.validation import SCORES


def make_model(
    config: Settings, catalogue: Catalogue, text_dim: int, feature_dim: int = 0
) -> FashionHashNet:
    """The network at its start; a function of the config and its seed.

    Args:
      text_dim, feature_dim: see `ItemInputs.dims`.
    """
    model = config.model
    has_images = "visual" in model.modalities and model.backbone.name != PRECOMPUTED
    shape = Shape(
        num_users=catalogue.num_users,
        slots=catalogue.slots,
        templates=catalogue.templates,
        text_dim=text_dim,
        image_size=config.data.image_size if has_images else 0,
        feature_dim=feature_dim,
    )
    return FashionHashNet(
        shape,
        modalities=tuple(model.modalities),
        bits=model.bits,
        hash=make_hash(config),
        backbone=_network(model.backbone),
        frozen_backbone=not model.backbone.trainable,
        visual_head=model.visual_head.to_dict(),
        text_head=model.text_head.to_dict(),
        single=model.single,
        user=model.user.to_dict(),
        matching=model.matching.to_dict(),
        rngs=nnx.Rngs(params=config.seed),
    )


def is_masked(config: Settings) -> bool:
    """Whether the image network takes photos with the mask of the garment."""
    return bool(config.model.backbone.get("masked", False))


def _network(backbone: Settings) -> dict[str, Any]:
    """Name and options of the image network, without how it starts and is trained."""
    other = ("trainable", "weights", "weights_sha256")
    return {key: value for key, value in backbone.items() if key not in other}


def make_hash(config: Settings) -> Hash:
    """The hash layer."""
    model = config.model
    return Hash(model.hash, model.ste_gradient, model.item_scale)


def make_objective(config: Settings) -> Objective:
    """What training minimises.

    Raises:
      ValueError: a binary share where the hash layer passes no gradient.
    """
    objective = Objective(**config.loss.to_dict())
    if objective.binary_share and not make_hash(config).trains_binary:
        raise InputError(
            f"loss.binary_share={objective.binary_share}, but the binary codes of "
            f"model.hash={config.model.hash!r} pass no gradient; use 0, or hash='ste'"
        )
    return objective


def make_batches(
    config: Settings, catalogue: Catalogue, seed: int | None = None
) -> TrainBatches:
    """The training batches.

    Args:
      seed: of their order and negatives; by default the config's.
    """
    own = config.seed if seed is None else seed
    sampler = NegativeSampler(
        catalogue,
        config.train.negatives,
        ratio=config.train.ratio,
        hard_share=config.train.hard_share,
        hard_schedule=config.train.hard_schedule,
        epochs=config.train.epochs,
        seed=own,
    )
    return TrainBatches(
        catalogue,
        sampler,
        config.train.batch_size,
        own,
        multiple=config.mesh.data,
    )


def make_schedule(config: Settings, steps_per_epoch: int) -> Schedule:
    """The learning-rate schedule."""
    return Schedule(
        total_steps=config.train.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        **config.schedule.to_dict(),
    )


def make_update_rule(config: Settings) -> optax.GradientTransformation:
    """The optimiser, with its rates."""
    settings = _optimizer(config)
    settings.pop("users", None)
    return make_optimizer(**settings)


def make_skipped(config: Settings) -> Skipped | None:
    """What a step does to users who are not in it; None to pass over all users.

    Raises:
      ValueError: unknown `optimizer.users`.
    """
    settings = _optimizer(config)
    # Runs of version 0.3 know no other.
    if not by_rows(settings.pop("users", "dense"), settings["name"]):
        return None
    settings.pop("eps")
    return skipped_step(rate=settings.pop("rates")["user"], **settings)


def _optimizer(config: Settings) -> dict[str, Any]:
    settings = config.optimizer.to_dict()
    if not config.model.backbone.trainable:
        settings["rates"]["backbone"] = 0.0
    return settings


def make_trainer(
    config: Settings, model: FashionHashNet, batches: TrainBatches
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
        compute_dtype=compute_dtype(config),
        mesh=make_mesh(config),
        skipped=make_skipped(config),
    )


def compute_dtype(config: Settings) -> str:
    """The type of the encoders' arithmetic in training; "auto" is the device's."""
    dtype = config.train.compute_dtype
    if dtype != "auto":
        return dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def make_mesh(config: Settings) -> Mesh | None:
    """The mesh of devices; None for one.

    Raises:
      ValueError: not so many devices, or a batch that they cannot share; with several
        processes, not all of their devices.
    """
    if config.mesh.data * config.mesh.model == 1 and jax.process_count() == 1:
        return None
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.model)
    sharding.check_batch_size(config.train.batch_size, mesh)
    return mesh


def make_epochs(
    config: Settings,
    trainer: Trainer,
    batches: TrainBatches,
    inputs: ItemInputs,
    teacher: Teacher | None = None,
) -> HostEpochs | DeviceEpochs:
    """What runs the steps, led by the host or by the device.

    Args:
      teacher: to learn from in the place of the likes.
    """
    key = jax.random.key(config.seed)
    tables: dict[str, Any] = dict(inputs.tables)
    if teacher is not None:
        tables["teacher"] = jax.tree.map(jnp.asarray, teacher)
    if config.train.sampler == "host":
        return HostEpochs(trainer, batches, inputs.stream, tables, key)
    return DeviceEpochs(trainer, batches, tables, key, config.train.log_steps)


def make_encoder(
    config: Settings, model: FashionHashNet, inputs: ItemInputs
) -> ItemEncoder:
    """The encoder for validation and export."""
    return ItemEncoder(
        model,
        inputs,
        chunk=config.data.encode_batch,
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
    )


def check_config(config: Settings) -> None:
    """Finds mistakes in a config that need no data to be seen.

    Raises:
      ValueError: says key, value, what was expected.
    """
    check_bits(config.model.bits)
    if not 0 <= config.seed < 2**32:  # jax takes no more bits, and would drop others
        raise InputError(f"seed={config.seed}: expected 0 to {2**32 - 1}")
    make_hash(config)
    make_objective(config)
    make_schedule(config, 1)
    make_update_rule(config)
    make_skipped(config)
    backbone = config.model.backbone.to_dict()
    if backbone.get("norm") == "frozen_batch" and not backbone["weights"]:
        raise InputError(
            "model.backbone.norm='frozen_batch' is for the statistics of pretrained "
            "weights; give model.backbone.weights, or norm='group'"
        )
    any_data = Shape(
        1, (0,), text_dim=1, image_size=1, feature_dim=int(bool(config.data.features))
    )
    check_modalities(tuple(config.model.modalities), any_data)
    check_features(tuple(config.model.modalities), config.model.backbone.name, any_data)
    counts = {
        "data": ("image_size", "encode_batch"),
        "train": ("epochs", "batch_size", "log_steps", "val_epochs"),
        "mesh": ("data", "model"),
    }
    for section, keys in counts.items():
        for key in keys:
            if config[section][key] < 1:
                raise InputError(
                    f"{section}.{key}={config[section][key]}: expected at least 1"
                )
    if config.train.select not in SCORES:
        raise InputError(
            f"train.select={config.train.select!r}: expected one of {', '.join(SCORES)}"
        )
    if config.train.sampler not in ("host", "device"):
        raise InputError(
            f"train.sampler={config.train.sampler!r}: expected 'host' or 'device'"
        )
    if config.train.compute_dtype not in ("auto", "float32", "bfloat16"):
        raise InputError(
            f"train.compute_dtype={config.train.compute_dtype!r}: expected 'auto', "
            "'float32' or 'bfloat16'"
        )
    make_mesh(config)
    if not 0 <= config.train.average_decay < 1:
        raise InputError(
            f"train.average_decay={config.train.average_decay}: expected 0 to below 1"
        )
