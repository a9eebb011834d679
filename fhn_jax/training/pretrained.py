"""Pretrained weights of the image network: which file, and what it must be."""

from pathlib import Path

from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.files import sha256_file
from fhn_jax.models.backbones import PRETRAINED
from fhn_jax.models.backbones.weights import load_pretrained, remedy
from fhn_jax.models.fashion_hash_net import FashionHashNet
from fhn_jax.training.settings import Settings

WEIGHTS = Path("data/weights")


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
