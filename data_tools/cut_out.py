"""Cuts the garments out of photos, for the page and the report to show on white.

    fhn-jax cut-out data/shop

Writes ROOT/images/cutouts, a JPEG for each photo in which a garment stands out from what it
lies or hangs on; where there is none, or the garment is on white already, the photo is
shown as it is. The same command again makes what is new, and what has another photo now;
to go back to the photos, remove the folder.
"""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fhn_jax.data_tools.item_lists import item_names
from PIL import Image

from fhn_jax import files
from fhn_jax.data.images import CUTOUTS, ImageStore, open_images
from fhn_jax.data.pictures import decode
from fhn_jax.data.records import Progress
from fhn_jax.errors import InputError, MissingPackageError
from fhn_jax.program import Arguments, run_program

_AT_ONCE = 64


def cut_out(
    root: str | os.PathLike, *, progress: Progress | None = None
) -> dict[str, int]:
    """Writes the cut-outs of a data root's photos.

    Args:
      root: the data root.
      progress: called with the number of photos done, and of all.
    Returns:
      how many are "cut out", "on white already", "without a garment" and "as they were".
    Raises:
      FileNotFoundError: there are no images or lists of items.
      KeyError: an image is missing.
      ModuleNotFoundError: OpenCV is not installed.
      ValueError: an image is damaged.
      BusyError: another process cuts out the same photos.
    """
    try:
        from fhn_jax.data_tools import garment
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f'cut-out needs the package {error.name}: pip install "fhn_jax[garment]"'
        ) from None
    names, images = item_names(root), open_images(Path(root))
    folder = Path(root) / "images" / CUTOUTS
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{folder} is no folder, as cut-outs need; remove it")
    counts = Counter()
    with files.lock(folder, "cutting out garments"):
        folder.mkdir(exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(names), _AT_ONCE):
                some = names[start : start + _AT_ONCE]
                made = pool.map(lambda n: _make(garment, folder, images, n), some)
                counts.update(made)
                if progress is not None:
                    progress(start + len(some), len(names))
    return dict(counts)


def _make(garment: Any, folder: Path, images: ImageStore, name: str) -> str:
    data = images.read([name])[0]
    digest, path = hashlib.sha256(data).hexdigest(), folder / name
    if path.is_file() and not path.is_symlink() and _digest_of(path) == digest:
        return "as they were"
    pixels = decode(data, name)
    if garment.is_on_white(pixels):
        path.unlink(missing_ok=True)
        return "on white already"
    made = garment.on_white(pixels)
    if made is None:
        path.unlink(missing_ok=True)
        return "without a garment"
    encoded = io.BytesIO()
    Image.fromarray(made).save(encoded, "JPEG", quality=90, comment=digest)
    files.write_bytes(path, encoded.getvalue())
    return "cut out"


def _digest_of(path: Path) -> str:
    """The checksum of the photo that a cut-out was made of; "" of another file."""
    try:
        with Image.open(path) as made:
            return made.info.get("comment", b"").decode("ascii", "replace")
    except (OSError, ValueError):
        return ""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax cut-out", __doc__)
    parser.add_argument("root", metavar="ROOT", help="the data root")
    options = parser.parse_args(arguments)

    def progress(done: int, total: int) -> None:
        print(f"\r{done:,} of {total:,} photos", end="", flush=True)

    counts = cut_out(options.root, progress=progress)
    said = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
    print(f"\nphotos: {said or 'none'}")
    print(f"wrote {Path(options.root) / 'images' / CUTOUTS}")


if __name__ == "__main__":
    run_program(main)
