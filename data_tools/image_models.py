"""Models that make features of images, by name.

`GARMENT` is no network: it measures the garment alone, see `data_tools/garment.py`. Those
of `fhn_jax.models.backbones.PRETRAINED` are ours. Others are named LIBRARY:MODEL, run in
PyTorch, and are installed with `pip install "fhn_jax[embed]"`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fhn_jax.data_tools.text_models import loading
from flax import nnx
from jaxtyping import Float32, UInt8

from fhn_jax.errors import InputError, nearest
from fhn_jax.models.augment import normalise
from fhn_jax.models.backbones import PRETRAINED, make_backbone
from fhn_jax.training.pretrained import check_file, set_weights

GARMENT = "garment"
# Pixels of a side that images are decoded to for networks which resize them again.
_SIDE = 384


@dataclasses.dataclass(frozen=True)
class ImageModel:
    """A network from images to features.

    Attributes:
      size: pixels of a side of the images.
      features: from uint8 [n, size, size, 3] to float32 [n, f].
    """

    size: int
    features: Callable[[np.ndarray], np.ndarray]


def make_image_model(name: str) -> ImageModel:
    """The network of a name.

    Args:
      name: `GARMENT`, one of `PRETRAINED`, or "timm:MODEL", "open_clip:MODEL" (perhaps
        with a tag of its weights, "ViT-B-32@laion2b_s34b_b79k") or "transformers:MODEL".
    Raises:
      FileNotFoundError: there is no such model, or its weights are not here.
      ModuleNotFoundError: its library is not installed.
      ValueError: the name is none of these.
    """
    if name in PRETRAINED:
        return _ours(name)
    if name == GARMENT:
        with loading(name, extra="garment"):
            from fhn_jax.data_tools import garment
        return ImageModel(garment.SIZE, garment.features)
    library, _, model = name.partition(":")
    if library not in _LIBRARIES or not model:
        known = (GARMENT, *PRETRAINED, *_LIBRARIES)
        raise InputError(
            f"model {name!r}: expected {', '.join((GARMENT, *PRETRAINED))}, or "
            f"{', '.join(_LIBRARIES)} with a model, such as open_clip:hf-hub:Marqo/"
            f"marqo-fashionSigLIP{nearest(library, known)}"
        )
    with loading(name, extra="embed"):
        return ImageModel(_SIDE, _LIBRARIES[library](model))


def _ours(name: str) -> ImageModel:
    known = PRETRAINED[name]
    check_file(name)
    options = {"norm": known.norm} if known.norm else {}
    # Its start is not drawn: the weights replace it.
    network = nnx.eval_shape(
        lambda: make_backbone(known.network, rngs=nnx.Rngs(0), **options)
    )
    set_weights(network, known.network, name)
    graphdef, variables = nnx.split(network)

    @jax.jit
    def features(variables, pixels):
        images = normalise(pixels, known.mean, known.std)
        return nnx.merge(graphdef, variables)(images)

    return ImageModel(
        known.image_size,
        lambda pixels: np.asarray(features(variables, jnp.asarray(pixels))),
    )


def _timm(model: str) -> Callable[[np.ndarray], np.ndarray]:
    import timm

    network = timm.create_model(model, pretrained=True, num_classes=0).eval()
    settings = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**settings, is_training=False)
    return _in_pytorch(network, transform)


def _open_clip(model: str) -> Callable[[np.ndarray], np.ndarray]:
    import open_clip

    name, _, tag = model.partition("@")
    network, _, transform = open_clip.create_model_and_transforms(
        name, pretrained=tag or None
    )
    return _in_pytorch(network.eval().encode_image, transform)


def _in_pytorch(
    network: Callable[[Any], Any], transform: Callable[[Any], Any]
) -> Callable[[np.ndarray], np.ndarray]:
    import torch
    from PIL import Image

    def features(pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n f"]:
        with torch.no_grad():
            batch = torch.stack([transform(Image.fromarray(each)) for each in pixels])
            return np.asarray(network(batch), np.float32)

    return features


def _transformers(model: str) -> Callable[[np.ndarray], np.ndarray]:
    import torch
    import transformers

    prepare = transformers.AutoImageProcessor.from_pretrained(model)
    # Weights may be pickles, which run code; the code of a model does anyhow.
    network = transformers.AutoModel.from_pretrained(
        model, use_safetensors=True, trust_remote_code=False
    ).eval()

    def features(pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n f"]:
        inputs = prepare(images=list(pixels), return_tensors="pt")
        with torch.no_grad():
            if hasattr(network, "get_image_features"):  # of text and images
                found = network.get_image_features(**inputs)
            else:
                found = network(**inputs)
        found = getattr(found, "pooler_output", found)
        return np.asarray(found, np.float32).reshape(len(pixels), -1)

    return features


# By the name before the colon.
_LIBRARIES = {"timm": _timm, "open_clip": _open_clip, "transformers": _transformers}
