"""Pretrained weights of the image network: which file, and what it must be."""

import importlib.metadata
from pathlib import Path

from flax import nnx

from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.files import sha256_file
from fhn_jax.models.backbones import PRETRAINED
from fhn_jax.models.backbones.weights import load_pretrained, remedy, set_pretrained
from fhn_jax.models.fashion_hash_net import FashionHashNet
from fhn_jax.training.settings import Settings

WEIGHTS = Path("data/weights")


def weights_path(name: str) -> Path:
    """The file of pretrained weights, named by the registry or by its path."""
    known = PRETRAINED.get(name)
    if known is None:
        return Path(name)
    if known.package is None:
        return WEIGHTS / f"{name}.safetensors"
    distribution, file = known.package
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return Path(file)
    return Path(str(found.locate_file(file)))


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
    found = sha256_file(check_file(name))
    if backbone.weights_sha256 not in ("", found):
        raise InputError(
            f"{path} has the checksum {found[:12]}, expected "
            f"{backbone.weights_sha256[:12]} (model.backbone.weights_sha256); give the "
            "file of the first start, or another --workdir"
        )
    backbone.weights_sha256 = found


def check_file(name: str) -> Path:
    """The file of pretrained weights; raises FileNotFoundError if it is not there."""
    path = weights_path(name)
    if not path.is_file():
        where = (
            remedy(name, str(path))
            if name in PRETRAINED
            else f"expected a file, or one of {', '.join(PRETRAINED)}"
        )
        raise MissingFileError(
            f"model.backbone.weights={name!r}: there is no {path}; {where}"
        )
    return path


def load_weights(config: Settings, model: FashionHashNet) -> None:
    """Sets the image network to the pretrained weights, where there are any.

    Raises:
      ValueError: see `set_weights`.
    """
    name = config.model.backbone.weights
    if name and model.backbone is not None:
        set_weights(model.backbone, config.model.backbone.name, name)


def set_weights(backbone: nnx.Module, network: str, name: str) -> None:
    """Sets an image network to pretrained weights.

    Args:
      backbone: from `make_backbone`.
      network: its name.
      name: of the weights in the registry, or the path of a file.
    Raises:
      ValueError: they are of another network, or not those that the registry names.
    """
    path = weights_path(name)
    known = PRETRAINED[name].sha256 if name in PRETRAINED else None
    if name in PRETRAINED and PRETRAINED[name].package is not None:
        # PyTorch's own file, whose tensors are read without running what is in it.
        from fhn_jax.data_tools import (  # pyright: ignore[reportMissingImports]
            convert_weights,
        )

        source = sha256_file(path)
        set_pretrained(backbone, network, convert_weights.load_weights(path))
    else:
        metadata = load_pretrained(backbone, network, str(path))
        source = metadata.get("source_sha256", known or "")
    if known is not None and not source.startswith(known):
        raise InputError(
            f"{path} is, or comes from, a file of checksum {source[:12]}, expected "
            f"{known}…; {remedy(name, str(path))}"
        )
