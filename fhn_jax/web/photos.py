"""Photos of a visitor's own garments, and the process that encodes them.

The encoder is the network's, as `export-encoder` writes it beside the codes. A photo has
no text: where codes have a text part, its visual code stands in for it, which training
brought near to it.
"""

import dataclasses
import io
import logging
import math
import multiprocessing
import os
import resource
import signal
import struct
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fhn_jax import files
from fhn_jax.codes import Codes, checks, pack, tensor_file
from fhn_jax.data.images import photo_reader
from fhn_jax.data.pictures import fitted, garment_photo
from fhn_jax.errors import InputError, UnavailableError
from fhn_jax.recommender import ExternalItem

FORMAT = "fhn_jax.encoder"
FILE = "encoder.safetensors"
_REMEDY = "write it anew with `fhn-jax export-encoder`"
# Of the picture that is kept, in pixels.
PICTURE_PX = 291
# A photo waits no longer for its turn, and takes no longer then.
_SECONDS = 30
# Processor time for one photo; the largest that is admitted takes a third of it.
_CPU_SECONDS = 10
# Photos that are encoded or wait for it.
_MOST_WAITING = 8
_DYING_SECONDS = 5
# What the process says when it has loaded the network.
_READY = b"ready"
# Of a code and of a category, as they go through the pipe.
_SCALE, _CATEGORY = struct.Struct("<d"), struct.Struct("<i")
# Bytes of an answer: many times those of a picture and its code.
_MOST_ANSWER = 2**20
# How much the server's own threads come before the encoder's.
_NICE = 10
_FAILED = (
    "the photo cannot be used: its decoder failed; save it again in another program"
)
_log = logging.getLogger("fhn_jax.web")


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
    path: str | os.PathLike,
    program: bytes,
    codes: Codes,
    image_size: int,
    *,
    masked: bool = False,
) -> None:
    """Writes an encoder, whole or not at all.

    Args:
      program: from `fhn_jax.training.export.export_encoder`.
      codes: of the same network.
      image_size: height and width of the images that it takes.
      masked: whether it takes the garment's mask as a fourth channel.
    """
    metadata = {
        "format": FORMAT,
        "version": str(tensor_file.VERSION),
        "config_hash": codes.config_hash,
        "image_size": str(image_size),
        "masked": str(int(masked)),
    }
    tensors = {"program": np.frombuffer(program, np.uint8)}
    with files.atomic_path(path) as temporary:
        temporary.write_bytes(tensor_file.serialize(tensors, metadata))


class PhotoEncoder:
    """Encodes photos in a process of its own.

    Hostile bytes are decoded there, too, and what comes back is not trusted: it is read as
    bytes, never unpickled. The process has a lower priority than the
    server, encodes one photo at a time and has a limit on the processor time of each.
    If it dies, `is_up` or the next photo starts another one.

    Args:
      path: of the encoder.
      codes: that the photos are to be used with.
    Raises:
      ValueError: not an encoder, or one of another run.
      ModuleNotFoundError: it takes masks, and OpenCV is not installed.
    """

    def __init__(self, path: Path, codes: Codes):
        encoder = read_encoder(path)
        if encoder.run != codes.config_hash:
            raise InputError(
                f"{path} belongs to the run {encoder.run}, the codes to "
                f"{codes.config_hash}; run `export-encoder` for this workdir again"
            )
        photo_reader(encoder.masked)  # What is not installed is named now.
        self._path = path
        self._width = next(iter(codes.items.values()))[0].shape[1]
        self._places = threading.BoundedSemaphore(_MOST_WAITING)
        # Whose turn it is to use the process.
        self._turn = threading.Lock()
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._loaded = self._closed = False

    def is_up(self) -> bool:
        """Whether a photo could be encoded now; starts the process if it is not there."""
        if not self._turn.acquire(blocking=False):
            return self._loaded  # It is encoding a photo, or another caller asks.
        try:
            return self._started()
        finally:
            self._turn.release()

    def encode(self, data: bytes, category: int) -> Photo:
        """The code of a photo.

        Args:
          data: an encoded JPEG, PNG or WebP.
          category: number of the category it is of.
        Raises:
          ValueError: another format, too large, or it takes too long.
          UnavailableError: too many photos are waiting, or the process is not up.
        """
        if not self._places.acquire(blocking=False):
            raise UnavailableError("too many photos are being read; try again later")
        try:
            if not self._turn.acquire(timeout=_SECONDS):
                raise UnavailableError("photos take long at present; try again later")
            try:
                return self._encode_apart(data, category)
            finally:
                self._turn.release()
        finally:
            self._places.release()

    def _encode_apart(self, data: bytes, category: int) -> Photo:
        if not self._started():
            raise UnavailableError("the encoder of photos is starting; try again soon")
        assert self._pipe is not None
        try:
            self._pipe.send_bytes(_CATEGORY.pack(category) + data)
            if not self._pipe.poll(_SECONDS):
                self._stop()
                raise InputError("the photo takes too long; try a smaller one")
            answer = self._pipe.recv_bytes(_MOST_ANSWER)
        except (EOFError, OSError):
            raise self._death() from None
        try:
            found = _from_bytes(answer, self._width)
        except ValueError:
            self._stop()  # It is no longer ours.
            raise InputError(_FAILED) from None
        if isinstance(found, str):
            raise InputError(found)
        return found

    def _started(self) -> bool:
        """Whether the process has loaded the network; starts it if there is none."""
        if self._closed:
            return False
        if self._process is None or not self._process.is_alive():
            self._stop()
            context = multiprocessing.get_context("spawn")
            self._pipe, its_pipe = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(its_pipe, self._path), daemon=True
            )
            self._process.start()
            its_pipe.close()
        if not self._loaded:
            assert self._pipe is not None
            try:
                if self._pipe.poll():
                    self._loaded = self._pipe.recv_bytes(len(_READY)) == _READY
            except (EOFError, OSError):
                pass  # It died; the next caller starts another one.
        return self._loaded

    def _death(self) -> Exception:
        """Why the process died while it encoded a photo; starts another one."""
        code = None
        if self._process is not None:
            self._process.join(_DYING_SECONDS)
            code = self._process.exitcode
        self._stop()
        self._started()
        if code == -signal.SIGXCPU:
            return InputError("the photo takes too long; try a smaller one")
        if code in (None, -signal.SIGKILL, -signal.SIGTERM):
            # Somebody else's doing, or a lack of memory.
            return UnavailableError("the encoder of photos stopped; try again soon")
        return InputError(_FAILED)

    def close(self) -> None:
        """Stops the process, whatever it does."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()  # Whoever waits for it now has the turn no longer.
        with self._turn:
            self._stop()

    def _stop(self) -> None:
        self._loaded = False
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join(_DYING_SECONDS)
            if not self._closed:
                code = process.exitcode
                _log.warning("the encoder of photos ended, exit code %s", code)
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Encoder:
    """What an encoder's file holds.

    Attributes:
      program: for `jax.export.deserialize`.
      image_size: height and width of the images that it takes.
      masked: whether it takes the garment's mask as a fourth channel.
      run: checksum of the config of the run it belongs to.
    """

    program: bytes
    image_size: int
    masked: bool
    run: str


def read_encoder(path: Path) -> _Encoder:
    """Reads what `save_encoder` wrote, its checksum compared.

    Raises:
      MissingFileError: no such file.
      InputError: damaged, or something else.
    """
    tensors, metadata = tensor_file.read(path, FORMAT, _REMEDY)
    try:
        tensor_file.expect_keys(metadata, ("config_hash", "image_size", "masked"))
        program = tensor_file.take(tensors, "program")
        size = tensor_file.parse(metadata, "image_size")
        checks.expect(
            "image_size", type(size) is int and 0 < size < 2**15, size, "a size"
        )
        # Those of before masks do not say it.
        masked = metadata.get("masked", "0")
        checks.expect("masked", masked in ("0", "1"), masked, "0 or 1")
        checks.check_array("program", program, np.uint8, (None,))
    except InputError as error:
        raise InputError(f"{path}: {error}; {_REMEDY}") from None
    return _Encoder(
        program.tobytes(), size, masked == "1", metadata.get("config_hash", "")
    )


def load_program(
    path: Path,
) -> tuple[Callable[[Any], Any], Callable[[UInt8[np.ndarray, "_ _ 3"]], np.ndarray]]:
    """The program that `save_encoder` wrote, and how it wants the pixels of a photo.

    It takes and returns what `fhn_jax.training.export.export_encoder` says.
    """
    import jax.export

    encoder = read_encoder(path)
    program = jax.export.deserialize(bytearray(encoder.program))
    size = encoder.image_size
    if not encoder.masked:
        return program.call, lambda pixels: fitted(pixels, size)
    from fhn_jax.data.masks import masked

    return program.call, lambda pixels: masked(pixels, size)[0]


def _serve(pipe: Connection, path: Path) -> None:
    """Encodes what comes through a pipe until it is closed: the process's program."""
    # Ctrl-C is for the server, which then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICE)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    function, view = load_program(path)
    function(view(np.zeros((1, 1, 3), np.uint8))[None])  # compiles it
    pipe.send_bytes(_READY)
    while True:
        try:
            asked = pipe.recv_bytes()
        except EOFError:
            return
        (category,) = _CATEGORY.unpack_from(asked)
        _limit_cpu(_CPU_SECONDS)
        try:
            found = _encode(function, view, asked[_CATEGORY.size :], category)
        except ValueError as error:
            found = str(error)
        pipe.send_bytes(_to_bytes(found))


def _to_bytes(found: Photo | str) -> bytes:
    """A photo, or what is wrong with it, for a pipe."""
    if isinstance(found, str):
        return b"\0" + found.encode()
    return b"\1" + _SCALE.pack(found.scale) + found.code.tobytes() + found.picture


def _from_bytes(data: bytes, width: int) -> Photo | str:
    """What `_to_bytes` was given.

    Args:
      width: bytes of a code.
    Raises:
      ValueError: it was given nothing of the kind.
    """
    kind, rest = data[:1], data[1:]
    if kind == b"\0":
        return rest.decode()
    picture = _SCALE.size + width
    if kind != b"\1" or len(rest) <= picture:
        raise InputError(f"got {len(data)} bytes, expected a photo or a text")
    (scale,) = _SCALE.unpack_from(rest)
    if not math.isfinite(scale):
        raise InputError(f"got a scale of {scale}, expected a finite one")
    code = np.frombuffer(rest, np.uint8, width, _SCALE.size)
    return Photo(rest[picture:], code, scale)


def _limit_cpu(seconds: int) -> None:
    """Ends this process with SIGXCPU after so many more seconds of processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(used.ru_utime + used.ru_stime) + 1 + seconds
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _encode(function: Any, view: Any, data: bytes, category: int) -> Photo:
    """What is kept of an image."""
    # As the items were read that the network was trained on.
    pixels = garment_photo(data, "photo").pixels
    signs, scales = (np.asarray(each) for each in function(view(pixels)[None]))
    number = min(category, len(signs) - 1)  # one head may serve all categories
    kept = io.BytesIO()
    picture = Image.fromarray(fitted(pixels, PICTURE_PX))
    picture.save(kept, "JPEG", quality=90)
    return Photo(kept.getvalue(), pack(signs[number]), float(scales[number]))
