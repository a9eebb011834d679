"""From a trained network to codes: every item is encoded exactly once."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float32, Int32, UInt8

from fhn_jax import files
from fhn_jax.codes import Codes, Latents, pack
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.images import channels
from fhn_jax.data.items import ItemInputs
from fhn_jax.errors import InputError, NotFiniteError
from fhn_jax.models.augment import normalise
from fhn_jax.models.fashion_hash_net import FashionHashNet
from fhn_jax.training import sharding

# Modality → per category latents.
ItemLatents = dict[str, tuple[Float32[np.ndarray, "_n d"], ...]]
# A category, which of its items, and modality → their latents.
LatentChunk = tuple[int, slice, dict[str, Float32[np.ndarray, "_n d"]]]
# Bytes of relaxed codes that are kept in memory, if a file can take more.
_IN_MEMORY = 2**30
# Users that are encoded at once.
_USERS = 2**16


class ItemEncoder:
    """Encodes items in chunks of one size, compiled once for all calls.

    Several processes take turns at the chunks, and all get the latents of all items.

    Args:
      model: a network of the structure to encode with; its values are not used.
      inputs: images and text of all items.
      chunk: items in a chunk; the last of a category is padded.
      mean, std: of pixels, for normalisation.
    """

    def __init__(
        self,
        model: FashionHashNet,
        inputs: ItemInputs,
        *,
        chunk: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ):
        self.inputs, self.chunk = inputs, chunk
        self.modalities = model.modalities
        graphdef, _ = nnx.split(model)

        # Codes are cut by sign: bits near zero should not depend on the machine.
        @jax.default_matmul_precision("highest")
        def features(variables, ids, streamed, tables):
            """Inputs of the heads: backbone features, text vectors."""
            model = nnx.merge(graphdef, variables, copy=True)
            rows = {m: table[jnp.maximum(ids, 0)] for m, table in tables.items()}
            rows |= streamed
            if model.backbone is not None:
                rows["visual"] = model.features(normalise(rows["visual"], mean, std))
            return rows

        def latents(variables, rows, category):
            model = nnx.merge(graphdef, variables, copy=True)
            return {m: model.head(m, category)(rows[m]) for m in model.modalities}

        # Two functions, so that the backbone is compiled for one shape only.
        self._features = jax.jit(features)
        self._latents = jax.jit(latents, static_argnums=2)

    def __call__(
        self,
        model: FashionHashNet,
        items: tuple[Int32[np.ndarray, "_n"], ...],
        offsets: tuple[int, ...],
    ) -> ItemLatents:
        """Latents of items, one row per id.

        Args:
          model: the network.
          items: ids to encode, per category.
          offsets: global id of each category's item 0.
        Returns:
          modality → per category latents z.
        """
        latents = {
            m: tuple(np.empty((len(ids), model.bits), np.float32) for ids in items)
            for m in self.modalities
        }
        for category, rows, of_chunk in self.stream(model, items, offsets):
            for modality, z in of_chunk.items():
                latents[modality][category][rows] = z
        return latents

    def stream(
        self,
        model: FashionHashNet,
        items: tuple[Int32[np.ndarray, "_n"], ...],
        offsets: tuple[int, ...],
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[LatentChunk]:
        """The same, chunk by chunk: memory does not grow with the number of items.

        Args:
          model, items, offsets: as above.
          progress: called with how many of this process's items are done, and of all.
        Yields:
          the chunks of all processes, in the order of `items`.
        """
        size, processes, me = self.chunk, jax.process_count(), jax.process_index()
        chunks = [
            (category, slice(start, min(start + size, len(wanted))))
            for category, wanted in enumerate(items)
            for start in range(0, len(wanted), size)
        ]
        mine = chunks[me::processes]
        total, done = sum(rows.stop - rows.start for _, rows in mine), 0

        def batches():
            for category, rows in mine:
                ids = items[category][rows] + np.int32(offsets[category])
                ids = np.pad(ids, (0, size - len(ids)), constant_values=-1)
                yield ids, (ids, category, rows)

        variables, streamed = nnx.state(model), self.inputs.stream(batches())
        # A process without a chunk in the last turn takes part in it all the same.
        own = np.zeros((len(self.modalities), size, model.bits), np.float32)
        for turn in range(0, len(chunks), processes):
            if turn + me < len(chunks):
                (ids, category, rows), inputs = next(streamed)
                features = self._features(variables, ids, inputs, self.inputs.tables)
                z = self._latents(variables, features, category)
                own = np.stack([z[m] for m in self.modalities])
                done += rows.stop - rows.start
                if progress is not None:
                    progress(done, total)
            every = sharding.gather(own)
            for process, (category, rows) in enumerate(chunks[turn : turn + processes]):
                real = every[process, :, : rows.stop - rows.start]
                yield category, rows, dict(zip(self.modalities, real, strict=True))


def all_items(catalogue: Catalogue) -> tuple[Int32[np.ndarray, "_n"], ...]:
    """Ids of all items, per category."""
    return tuple(np.arange(len(names), dtype=np.int32) for names in catalogue.names)


def make_codes(
    model: FashionHashNet,
    chunks: Iterable[LatentChunk],
    catalogue: Catalogue,
    *,
    beta: float,
    config_hash: str,
    scratch: Path | None = None,
) -> tuple[Codes, Latents]:
    """The codes artifact and the relaxed item codes of a network.

    Args:
      model: the network; users and matching weights come from it.
      chunks: latents of all items, as `ItemEncoder.stream` yields them.
      catalogue: names, slots and checksum of the data.
      beta: slope of the relaxation at the end of training.
      config_hash: of the run.
      scratch: beside this file relaxed codes larger than a GiB are kept on the disk, in
        a file without a name; by default they are in memory.
    Raises:
      FloatingPointError: a latent is not finite.
      OSError: there is no room on the disk.
    """
    hash_, modalities, offsets = model.hash, model.modalities, catalogue.offsets
    users, user_latents = _users(model, catalogue.num_users, beta, scratch)
    rows = len(modalities), catalogue.num_items
    packed = np.zeros((*rows, model.bits // 8), np.uint8)
    scales = np.zeros(rows, np.float16)
    relaxed = _zeros((*rows, model.bits), scratch)
    for category, part, latents in chunks:
        start = offsets[category]
        at = slice(start + part.start, start + part.stop)
        for number, modality in enumerate(modalities):
            z = jnp.asarray(latents[modality])
            _check_finite(modality, z)
            packed[number, at] = _packed(hash_, z)
            relaxed[number, at] = hash_.relaxed(z, beta)
            if hash_.item_scale:
                scales[number, at] = np.asarray(hash_.scale(z), np.float16)

    def by_category(table: np.ndarray) -> dict[str, tuple[np.ndarray, ...]]:
        return {
            modality: tuple(of_all[a:b] for a, b in itertools.pairwise(offsets))
            for modality, of_all in zip(modalities, table, strict=True)
        }

    matching = model.matching
    ones = np.ones(model.bits, np.float32)
    codes = Codes(
        bits=model.bits,
        alphabet=hash_.alphabet,
        modalities=modalities,
        categories=catalogue.categories,
        slots=catalogue.slots,
        templates=catalogue.templates,
        hash_types=matching.hash_types,
        zero_item_term=matching.zero_item_term,
        zero_user_term=matching.zero_user_term,
        dataset=catalogue.dataset,
        dataset_checksum=catalogue.checksum,
        config_hash=config_hash,
        items=by_category(packed),
        item_scales=by_category(scales) if hash_.item_scale else None,
        users=users,
        user_latents=user_latents,
        lambda_user=_weights(matching.lambda_user, ones),
        lambda_item=_weights(matching.lambda_item, ones),
        alpha=1.0 if matching.alpha is None else float(matching.alpha[...]),
        names=catalogue.names,
    )
    return codes, Latents(by_category(relaxed), codes.sha256())


def _users(
    model: FashionHashNet, count: int, beta: float, scratch: Path | None
) -> tuple[UInt8[np.ndarray, "n w"], Float32[np.ndarray, "n d"]]:
    """The packed and the relaxed codes of users, made a chunk at a time."""
    packed = np.zeros((count, model.bits // 8), np.uint8)
    relaxed = _zeros((count, model.bits), scratch)
    for start in range(0, count, _USERS):
        z = model.user(jnp.arange(start, min(start + _USERS, count)))
        _check_finite("user", z)
        packed[start : start + _USERS] = _packed(model.hash, z)
        relaxed[start : start + _USERS] = model.hash.relaxed(z, beta)
    return packed, relaxed


def _zeros(shape: tuple[int, ...], scratch: Path | None) -> np.ndarray:
    """Room for relaxed codes, beside a file if it is much."""
    if scratch is None or 4 * math.prod(shape) <= _IN_MEMORY:
        return np.zeros(shape, np.float32)
    return files.unnamed_array(scratch, shape, np.float32)


def export_encoder(
    model: FashionHashNet,
    image_size: int,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> bytes:
    """The encoder of photos as a program that needs jax alone to run, on a CPU.

    It takes an image, uint8 [1, h, w, 3], or 4 channels with the mask of its garment for
    a masked network, and returns its code in each category: values of the alphabet,
    int8 [c, d], and scales, float32 [c] (1 where codes are not scaled).

    Args:
      model: the network, with a backbone.
      image_size: h and w, in pixels.
      mean, std: of pixels, for normalisation.
    Raises:
      ValueError: the network sees no images.
    """
    if model.backbone is None:
        raise InputError(
            "this network encodes no images: it was trained on text or on features; "
            "photos need one with a backbone, such as of configs/vse_t3.py"
        )
    hash_, categories = model.hash, len(model.heads["visual"])

    @jax.default_matmul_precision("highest")
    def encode(image):
        features = model.features(normalise(image, mean, std))
        heads = [model.head("visual", category) for category in range(categories)]
        z = jnp.concatenate([head(features) for head in heads])
        scale = hash_.scale(z) if hash_.item_scale else jnp.ones(len(z), z.dtype)
        return hash_.binary(z).astype(jnp.int8), scale.astype(jnp.float32)

    shape = (1, image_size, image_size, channels(model.masked))
    exported = jax.export.export(jax.jit(encode), platforms=["cpu"])(
        jax.ShapeDtypeStruct(shape, jnp.uint8)
    )
    return bytes(exported.serialize())


def _check_finite(name: str, z: Array) -> None:
    if not jnp.isfinite(z).all():
        raise NotFiniteError(
            f"{name} latents are not finite; the model is broken: train again with "
            "lower config.optimizer.rates"
        )


def _packed(hash_, z: Array) -> np.ndarray:
    return pack(np.asarray(hash_.binary(z)))


def _weights(param, ones) -> np.ndarray:
    return ones if param is None else np.asarray(param[...])
