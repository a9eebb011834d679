"""From a config to the parts of a run: data, network, trainer."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from fhn_jax.data.batches import TrainBatches
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.images import load_table, open_images, verify_images
from fhn_jax.data.items import Free, ItemInputs, choose_cache
from fhn_jax.data.negatives import NegativeSampler
from fhn_jax.data.pixels import host_table
from fhn_jax.data.vectors import read_features, read_text_vectors
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.files import sha256_file
from fhn_jax.models.augment import Augmentation
from fhn_jax.models.backbones import PRETRAINED
from fhn_jax.models.backbones.weights import load_pretrained, remedy
from fhn_jax.models.fashion_hash_net import (
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
from fhn_jax.training.schedule import Schedule
from fhn_jax.training.settings import Settings
from fhn_jax.training.step import Trainer, make_optimizer
from fhn_jax.training.validation import SCORES

WEIGHTS = Path("data/weights")
Progress = Callable[[str], Callable[[int, int], None]]


def config_values(config: Settings) -> dict[str, Any]:
    """A config as JSON values."""
    return json.loads(config.to_json_best_effort())


def config_hash(config: Settings) -> str:
    """Checksum of what decides a run's result; not where it is logged."""
    values = config_values(config)
    for key in ("wandb", "demo"):
        values.pop(key, None)
    # Data and pretrained weights have checksums of their own.
    values["data"].pop("root")
    values["model"]["backbone"].pop("weights")
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def load_inputs(
    config: Settings, catalogue: Catalogue, progress: Progress
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
    features = config.data.features
    visual = "visual" in modalities and not features
    image_bytes = len(names) * 3 * size**2 if visual else 0
    text_bytes = 0 if text is None else text.nbytes
    free = free_bytes(Path(config.data.root))
    cache, choice = choose_cache(config.data.cache, image_bytes, text_bytes, free)
    if config.data.cache == "auto" and sharding.is_first():
        print(choice, file=sys.stderr)
    pixels = None
    if features:
        reading = progress("reading features")
        found = read_features(config.data.root, features, catalogue, progress=reading)
        tables["visual"] = _resident(config, found)
    elif visual:
        images = open_images(Path(config.data.root))
        if cache == "device":
            decoded = load_table(
                images, names, size, progress=progress("decoding images")
            )
            tables["visual"], images = _resident(config, decoded), None
        elif cache == "host":
            # The others find its file, unless each host has a disk of its own.
            with sharding.first_alone():
                pixels = host_table(
                    Path(config.data.root) / "images" / f"decoded_{size}.npy",
                    images,
                    names,
                    size,
                    progress=progress("decoding images"),
                    notice=lambda text: print(text, file=sys.stderr),
                )
            images = None
        else:
            own = names[jax.process_index() :: jax.process_count()]
            verify_images(images, own, progress=progress("checking images"))
    if text is not None and cache == "device":
        tables["text"], text = _resident(config, text), None
    return ItemInputs(tables, text, images, names, size, pixels)


def _resident(config: Settings, table: np.ndarray) -> jax.Array:
    """A table on the device, or on every device of this process's part of the mesh."""
    mesh = make_mesh(config)
    if mesh is None:
        return jnp.asarray(table)
    return jax.device_put(table, sharding.everywhere(mesh.local_mesh))


def free_bytes(root: Path) -> Free:
    """Memory of the first device and disk of the data root that are free now.

    Of several processes the least of each, so that all choose alike.
    """
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    # Data that may not be written to have no room for a file of decoded images.
    writable = os.access(root / "images", os.W_OK)
    disk = shutil.disk_usage(root).free if writable else 0
    is_cpu = device.platform == "cpu"
    if "bytes_limit" in stats:
        memory, is_cpu = stats["bytes_limit"] - stats["bytes_in_use"], False
    else:
        memory = _available_memory()
    memory, disk = sharding.gather(np.array([memory, disk])).min(axis=0).tolist()
    return Free(memory, disk, is_cpu)


def _available_memory() -> int:
    """Memory of the host that programs could still get, caches of files included."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def make_model(
    config: Settings, catalogue: Catalogue, text_dim: int, feature_dim: int = 0
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
        backbone=_network(model.backbone),
        frozen_backbone=not model.backbone.trainable,
        visual_head=model.visual_head.to_dict(),
        text_head=model.text_head.to_dict(),
        single=model.single,
        user=model.user.to_dict(),
        matching=model.matching.to_dict(),
        rngs=nnx.Rngs(params=config.seed),
    )


def _network(backbone: Settings) -> dict[str, Any]:
    """Name and options of the image network, without how it starts and is trained."""
    other = ("trainable", "weights", "weights_sha256")
    return {key: value for key, value in backbone.items() if key not in other}


def weights_path(name: str) -> Path:
    """The file of pretrained weights, named by the registry or by its path."""
    return WEIGHTS / f"{name}.safetensors" if name in PRETRAINED else Path(name)


def note_weights(config: Settings) -> None:
    """Notes the checksum of the pretrained weights in `model.backbone.weights_sha256`.

    Raises:
      FileNotFoundError: the file is not there; says where to get it.
      ValueError: it is another file than that noted before, or does not suit the
        config.
    """
    backbone = config.model.backbone
    name = backbone.weights
    if not name:
        return
    path = weights_path(name)
    known = PRETRAINED.get(name)
    if known is not None:
        for key, wanted, got in (
            ("model.backbone.name", known.network, backbone.name),
            ("model.backbone.norm", known.norm, backbone.to_dict().get("norm", "")),
            ("data.mean", known.mean, tuple(config.data.mean)),
            ("data.std", known.std, tuple(config.data.std)),
        ):
            if wanted != got:
                raise InputError(
                    f"model.backbone.weights={name!r} was trained with {key}="
                    f"{wanted!r}, got {got!r}; set that, or give other weights"
                )
    if not path.is_file():
        where = (
            remedy(name, str(path))
            if known is not None
            else f"expected a file, or one of {', '.join(PRETRAINED)}"
        )
        raise MissingFileError(
            f"model.backbone.weights={name!r}: there is no {path}; {where}"
        )
    found = sha256_file(path)
    if backbone.weights_sha256 not in ("", found):
        raise InputError(
            f"{path} has the checksum {found[:12]}, expected "
            f"{backbone.weights_sha256[:12]} (model.backbone.weights_sha256); give the "
            "file of the first start, or another --workdir"
        )
    backbone.weights_sha256 = found


def load_weights(config: Settings, model: FashionHashNet) -> None:
    """Sets the image network to the pretrained weights, where there are any.

    Raises:
      ValueError: they are of another network, or not those that the registry names.
    """
    name = config.model.backbone.weights
    if not name or model.backbone is None:
        return
    path = weights_path(name)
    metadata = load_pretrained(model.backbone, config.model.backbone.name, str(path))
    known = PRETRAINED[name].sha256 if name in PRETRAINED else None
    source = metadata.get("source_sha256", known or "")
    if known is not None and not source.startswith(known):
        raise InputError(
            f"{path} was converted from a file of checksum {source[:12]}, expected "
            f"{known}…; {remedy(name, str(path))}"
        )


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


def make_batches(config: Settings, catalogue: Catalogue) -> TrainBatches:
    """The training batches."""
    sampler = NegativeSampler(
        catalogue,
        config.train.negatives,
        ratio=config.train.ratio,
        hard_share=config.train.hard_share,
        hard_schedule=config.train.hard_schedule,
        epochs=config.train.epochs,
        seed=config.seed,
    )
    return TrainBatches(
        catalogue,
        sampler,
        config.train.batch_size,
        config.seed,
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
    settings = config.optimizer.to_dict()
    if not config.model.backbone.trainable:
        settings["rates"]["backbone"] = 0.0
    return make_optimizer(**settings)


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
    config: Settings, trainer: Trainer, batches: TrainBatches, inputs: ItemInputs
) -> HostEpochs | DeviceEpochs:
    """What runs the steps, led by the host or by the device."""
    key = jax.random.key(config.seed)
    if config.train.sampler == "host":
        return HostEpochs(trainer, batches, inputs.stream, inputs.tables, key)
    return DeviceEpochs(trainer, batches, inputs.tables, key, config.train.log_steps)


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
    make_hash(config)
    make_objective(config)
    make_schedule(config, 1)
    make_update_rule(config)
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
