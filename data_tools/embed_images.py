"""Makes features of all images with a pretrained network.

    fhn-jax embed-images data/shop
    fhn-jax embed-images data/shop --name siglip \
        --model open_clip:hf-hub:Marqo/marqo-fashionSigLIP

Writes ROOT/vectors/NAME.npz, and beside it NAME.json: which network made them of what. A
config reads them with `features=NAME`. One batch of images is in memory at a time; what
was made before an interruption is kept, and the same command goes on from there.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from fhn_jax.data_tools.image_models import make_image_model
from fhn_jax.data_tools.item_lists import item_names

from fhn_jax.data.images import load_table, open_images
from fhn_jax.data.records import Progress
from fhn_jax.data.vector_files import vectors_path, write_vectors
from fhn_jax.errors import InputError
from fhn_jax.files import lock, read_json, write_json
from fhn_jax.program import Arguments, run_program


def embed_images(
    root: str | os.PathLike,
    name: str | None = None,
    model: str = "efficientnet_lite0",
    *,
    batch: int = 64,
    progress: Progress | None = None,
) -> Path:
    """Writes features of every image to `ROOT/vectors/NAME.npz`.

    Args:
      root: the data root.
      name: of the vectors; that of the model by default, as far as it can be a file's.
      model: see `make_image_model`.
      batch: images at a time.
      progress: called with the number of images done, and of all.
    Returns:
      the npz file.
    Raises:
      FileNotFoundError: there are no images or lists of items, or no such model.
      KeyError: an image is missing.
      ModuleNotFoundError: the library of the model is not installed.
      ValueError: an image is damaged, or the model is unknown.
      BusyError: another process makes the same vectors.
    """
    if batch < 1:
        raise InputError(f"batch={batch}: expected at least 1")
    names = item_names(root)
    path = vectors_path(root, name or model.replace("/", "_").replace(":", "_"))
    part = path.with_name(f".{path.stem}.part")
    images = open_images(Path(root))
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path, "making the vectors"):
        network = make_image_model(model)

        def features(some: Sequence[str]) -> np.ndarray:
            pixels = load_table(images, some, network.size)
            # One shape, which is compiled once.
            padded = np.zeros((batch, *pixels.shape[1:]), np.uint8)
            padded[: len(some)] = pixels
            return network.features(padded)[: len(some)]

        _make(part, names, model, batch, features, progress)
        rows = np.memmap(part / "rows", "<f4", "r").reshape(len(names), -1)
        written = write_vectors(
            root,
            path.stem,
            names,
            (rows[i : i + 4096] for i in range(0, len(names), 4096)),
            model=model,
            source=f"images of {images.path.name}",
        )
        shutil.rmtree(part)
    return written


def _make(
    part: Path,
    names: Sequence[str],
    model: str,
    batch: int,
    features: Callable[[Sequence[str]], np.ndarray],
    progress: Progress | None,
) -> None:
    """Makes what is missing in the file `rows` of a folder, in the order of the names."""
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    about = {"model": model, "names": digest}
    done, width = 0, 0
    if part.is_dir() and (part / "about.json").is_file():
        found = read_json(part / "about.json", dict, f"remove {part}")
        width = found.pop("width", 0)
        if found == about and width:
            done = (part / "rows").stat().st_size // (4 * width)
    if not done:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
    with open(part / "rows", "ab") as file:
        file.truncate(done * width * 4)
        for some in _batches(names, done, batch):
            rows = np.ascontiguousarray(features(some), "<f4")
            if not width:
                width = rows.shape[1]
                write_json(part / "about.json", about | {"width": width})
            file.write(rows.data)
            done += len(some)
            if progress is not None:
                progress(done, len(names))


def _batches(names: Sequence[str], start: int, batch: int) -> Iterator[Sequence[str]]:
    for first in range(start, len(names), batch):
        yield names[first : first + batch]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax embed-images", __doc__)
    parser.add_argument("root", metavar="ROOT", help="the data root")
    parser.add_argument("--name", help="of the vectors; default: the model's")
    parser.add_argument(
        "--model",
        default="efficientnet_lite0",
        help="one of our pretrained networks, timm:MODEL, open_clip:MODEL or "
        "transformers:MODEL; default: %(default)s",
    )
    parser.add_argument(
        "--batch", type=int, default=64, help="images at a time; default: %(default)s"
    )
    options = parser.parse_args(arguments)

    def progress(done: int, total: int) -> None:
        print(f"\r{done:,} of {total:,} images", end="", flush=True)

    path = embed_images(
        options.root,
        options.name,
        options.model,
        batch=options.batch,
        progress=progress,
    )
    print(f"\n{path}: use it with --config t3:features={path.stem}")


if __name__ == "__main__":
    run_program(main)
