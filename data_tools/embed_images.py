"""Makes features of all images with a pretrained network, or without one.

    fhn-jax embed-images data/shop
    fhn-jax embed-images data/shop --model garment
    fhn-jax embed-images data/shop --name siglip \
        --model open_clip:hf-hub:Marqo/marqo-fashionSigLIP

Writes ROOT/vectors/NAME.npz, and beside it NAME.json: which network made them of what. A
config reads them with `features=NAME`. One batch of images is in memory at a time; what
was made before an interruption is kept, and the same command goes on from there. With
--ray-address the nodes of a Ray cluster make them, which all see ROOT at the same path.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from fhn_jax.data_tools.embedding import RAY_ADDRESS, embed
from fhn_jax.data_tools.image_models import make_image_model
from fhn_jax.data_tools.item_lists import item_names

from fhn_jax.data.images import load_table, open_images
from fhn_jax.data.records import Progress
from fhn_jax.errors import InputError
from fhn_jax.program import Arguments, run_program

# In a part of the features, which is what an interruption costs.
_BATCHES = 4


def embed_images(
    root: str | os.PathLike,
    name: str | None = None,
    model: str = "efficientnet_lite0",
    *,
    batch: int = 64,
    progress: Progress | None = None,
    ray_address: str = "",
) -> Path:
    """Writes features of every image to `ROOT/vectors/NAME.npz`.

    Args:
      root: the data root.
      name: of the vectors; that of the model by default, as far as it can be a file's.
      model: see `make_image_model`.
      batch: images at a time.
      progress: called with the number of images done, and of all.
      ray_address: of the head of a Ray cluster; this process makes them if empty.
    Returns:
      the npz file.
    Raises:
      FileNotFoundError: there are no images or lists of items, or no such model.
      KeyError: an image is missing.
      ModuleNotFoundError: the library of the model is not installed.
      ValueError: an image is damaged, or the model is unknown.
      BusyError: another process makes the same vectors.
      ConnectionError: no cluster answers at the address.
    """
    if batch < 1:
        raise InputError(f"batch={batch}: expected at least 1")
    names = item_names(root)
    images = open_images(Path(root))
    name = name or model.replace("/", "_").replace(":", "_")
    return embed(
        *(root, name, names, _prepare, (Path(root).resolve(), model, batch)),
        *(names, _BATCHES * batch, progress),
        model=model,
        source=f"images of {images.path.name}",
        ray_address=ray_address,
    )


def _prepare(shared: tuple[Path, str, int]) -> Callable[[Sequence[str]], np.ndarray]:
    """What makes the features of some images, in a process of its own."""
    root, model, batch = shared
    images, network = open_images(root), make_image_model(model)

    def features(names: Sequence[str]) -> np.ndarray:
        found = []
        for start in range(0, len(names), batch):
            some = names[start : start + batch]
            pixels = load_table(images, some, network.size)
            # One shape, which is compiled once.
            padded = np.zeros((batch, *pixels.shape[1:]), np.uint8)
            padded[: len(some)] = pixels
            found.append(network.features(padded)[: len(some)])
        return np.concatenate(found)

    return features


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax embed-images", __doc__)
    parser.add_argument("root", metavar="ROOT", help="the data root")
    parser.add_argument("--name", help="of the vectors; default: the model's")
    parser.add_argument(
        "--model",
        default="efficientnet_lite0",
        help="garment, one of our pretrained networks, timm:MODEL, open_clip:MODEL or "
        "transformers:MODEL; default: %(default)s",
    )
    parser.add_argument(
        "--batch", type=int, default=64, help="images at a time; default: %(default)s"
    )
    parser.add_argument(*RAY_ADDRESS[0], **RAY_ADDRESS[1])
    options = parser.parse_args(arguments)

    def progress(done: int, total: int) -> None:
        print(f"\r{done:,} of {total:,} images", end="", flush=True)

    path = embed_images(
        options.root,
        options.name,
        options.model,
        batch=options.batch,
        progress=progress,
        ray_address=options.ray_address,
    )
    print(f"\n{path}: use it with --config t3:features={path.stem}")


if __name__ == "__main__":
    run_program(main)
