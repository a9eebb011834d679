"""Photos of a visitor's own garments, and the process that encodes them.

The encoder is the network's, as `export-encoder` writes it beside the codes. A photo has
no text: where codes have a text part, its visual code stands in for it, which training
brought near to it.
"""

import concurrent.futures
import dataclasses
import io
import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fhn_jax import files
from fhn_jax.codes import Codes, pack
from fhn_jax.data.images import garment_photo
from fhn_jax.errors import InputError, UserTimeoutError
from fhn_jax.recommender import ExternalItem

FORMAT = "fhn_jax.encoder"
FILE = "encoder.safetensors"
# Of the picture that is kept, in pixels.
PICTURE_PX = 291
_SECONDS = 30


@dataclasses.dataclass(frozen=True, eq=False)
class Photo:
    """An encoded photo.

    Attributes:
      picture: a JPEG of 291x291 pixels, without metadata of the camera.
      code: packed visual code, uint8 [w].
      scale: of the code; 1 where codes are not scaled.
    """

    picture: bytes
    code: UInt8[np.ndarray, " w"]
    scale: float

    def item(self, codes: Codes) -> ExternalItem:
        """The photo as an item to compose with."""
        modalities = len(codes.modalities)
        return ExternalItem(
            np.tile(self.code, (modalities, 1)),
            np.full(modalities, self.scale, np.float32),
        )


def save_encoder(
    path: str | os.PathLike, program: bytes, codes: Codes, image_size: int
) -> None:
    """Writes an encoder, whole or not at all.

    Args:
      program: from `fhn_jax.training.export.export_encoder`.
      codes: of the same network.
      image_size: height and width of the images that it takes.
    """
    metadata = {
        "format": FORMAT,
        "config_hash": codes.config_hash,
        "image_size": str(image_size),
    }
    with files.atomic_path(path) as temporary:
        tensors = {"program": np.frombuffer(program, np.uint8)}
        save_file(tensors, temporary, metadata)


class PhotoEncoder:
    """Encodes photos in a process of its own, which is started when it is needed.

    Hostile bytes are decoded there, too; if the process dies, the next photo starts
    another one.

    Args:
      path: of the encoder.
      codes: that the photos are to be used with.
    Raises:
      ValueError: not an encoder, or one of another run.
    """

    def __init__(self, path: Path, codes: Codes):
        metadata = _metadata(path)
        if metadata.get("config_hash") != codes.config_hash:
            raise InputError(
                f"{path} belongs to the run {metadata.get('config_hash')}, the codes to "
                f"{codes.config_hash}; run `export-encoder` for this workdir again"
            )
        self._path, self._codes = path, codes
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        # One photo at a time, so that only the photo that kills the process fails.
        self._turn = threading.Lock()

    def encode(self, data: bytes, category: int) -> Photo:
        """The code of a photo.

        Args:
          data: an encoded JPEG, PNG or WebP.
          category: number of the category it is of.
        Raises:
          ValueError: another format, or too large.
          TimeoutError: it takes too long.
        """
        if not self._turn.acquire(timeout=_SECONDS):
            raise UserTimeoutError("too many photos are being read; try again later")
        try:
            return self._encode_apart(data, category)
        finally:
            self._turn.release()

    def _encode_apart(self, data: bytes, category: int) -> Photo:
        if self._pool is None:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_load,
                initargs=(self._path,),
            )
        reading = self._pool.submit(_encode, data, category)
        try:
            picture, code, scale = reading.result(_SECONDS)
        except concurrent.futures.process.BrokenProcessPool:
            self.close()
            raise InputError(
                "the photo cannot be used: its decoder failed; save it again in another "
                "program"
            ) from None
        except TimeoutError:
            self.close()
            raise UserTimeoutError(
                "the photo takes too long; try a smaller one"
            ) from None
        return Photo(picture, code, scale)

    def close(self) -> None:
        """Stops the process."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise InputError(
            f"{path} is not an encoder ({error}); write it anew with `python -m "
            "fhn_jax.main export-encoder`"
        ) from None
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{path} has the format {metadata.get('format')!r}, expected {FORMAT!r}; "
            "write it anew with `fhn-jax export-encoder`"
        )
    return metadata


# What the process holds: (function of an image, image size).
_loaded: tuple[Any, int] | None = None


def _load(path: Path) -> None:
    global _loaded
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax.export

    size = int(_metadata(path)["image_size"])
    with safe_open(path, framework="numpy") as file:
        program = file.get_tensor("program").tobytes()
    _loaded = jax.export.deserialize(bytearray(program)).call, size


def _encode(data: bytes, category: int) -> tuple[bytes, np.ndarray, float]:
    assert _loaded is not None  # `_load` has run before anything else
    function, size = _loaded
    picture = garment_photo(data, PICTURE_PX)
    # As `fhn_jax.data.images.decode` resizes what the network was trained on.
    image = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))[None]
    signs, scales = (np.asarray(each) for each in function(image))
    number = min(category, len(signs) - 1)  # one head may serve all categories
    kept = io.BytesIO()
    picture.save(kept, "JPEG", quality=90)
    return kept.getvalue(), pack(signs[number]), float(scales[number])
