"""From a trained network to codes: every item is encoded exactly once."""

from collections.abc import Callable

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float32, Int32

from fhn_jax.codes import Codes, Latents, pack
from fhn_jax.data.batches import item_chunks
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.items import ItemInputs
from fhn_jax.errors import InputError, NotFiniteError
from fhn_jax.models.augment import normalise
from fhn_jax.models.fashion_hash_net import FashionHashNet
from fhn_jax.training import sharding

ItemLatents = dict[str, tuple[Float32[np.ndarray, "_n d"], ...]]


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
        progress: Callable[[int, int], None] | None = None,
    ) -> ItemLatents:
        """Latents of items, one row per id.

        Args:
          model: the network.
          items: ids to encode, per category.
          offsets: global id of each category's item 0.
          progress: called with the number of items done, and of all.
        Returns:
          modality → per category latents z.
        """
        variables, bits = nnx.state(model), model.bits
        chunks = [
            (category, ids)
            for category, wanted in enumerate(items)
            for ids in item_chunks(wanted + np.int32(offsets[category]), self.chunk)
        ]
        processes = jax.process_count()
        mine = chunks[jax.process_index() :: processes]
        total, done = sum(_real(ids) for _, ids in mine), 0
        turns = -(-len(chunks) // processes)
        found = {
            m: np.zeros((turns, self.chunk, bits), np.float32) for m in self.modalities
        }
        numbered = ((ids, (turn, *mine[turn])) for turn, (_, ids) in enumerate(mine))
        for (turn, category, ids), streamed in self.inputs.stream(numbered):
            rows = self._features(variables, ids, streamed, self.inputs.tables)
            for modality, z in self._latents(variables, rows, category).items():
                found[modality][turn] = z
            done += _real(ids)
            if progress is not None:
                progress(done, total)
        latents = {}
        for modality, own in found.items():
            every = sharding.gather(own)
            parts = [[np.zeros((0, bits), np.float32)] for _ in items]
            for i, (category, ids) in enumerate(chunks):
                turn, process = divmod(i, processes)
                parts[category].append(every[process, turn, : _real(ids)])
            latents[modality] = tuple(map(np.concatenate, parts))
        return latents


def all_items(catalogue: Catalogue) -> tuple[Int32[np.ndarray, "_n"], ...]:
    """Ids of all items, per category."""
    return tuple(np.arange(len(names), dtype=np.int32) for names in catalogue.names)


def _real(ids: Int32[np.ndarray, " n"]) -> int:
    """How many of the ids of a chunk are no padding."""
    return int((ids >= 0).sum())


def make_codes(
    model: FashionHashNet,
    latents: ItemLatents,
    catalogue: Catalogue,
    *,
    beta: float,
    config_hash: str,
) -> tuple[Codes, Latents]:
    """The codes artifact and the relaxed item codes of a network.

    Args:
      model: the network; users and matching weights come from it.
      latents: of all items, by id within their category.
      catalogue: names, slots and checksum of the data.
      beta: slope of the relaxation at the end of training.
      config_hash: of the run.
    Raises:
      FloatingPointError: a latent is not finite.
    """
    hash_ = model.hash
    users = model.user(jnp.arange(catalogue.num_users))
    on_device = {m: tuple(map(jnp.asarray, zs)) for m, zs in latents.items()}
    for name, z in [
        ("user", users),
        *((m, z) for m, zs in on_device.items() for z in zs),
    ]:
        if not jnp.isfinite(z).all():
            raise NotFiniteError(
                f"{name} latents are not finite; the model is broken: train again with "
                "lower config.optimizer.rates"
            )
    matching = model.matching
    ones = np.ones(model.bits, np.float32)
    codes = Codes(
        bits=model.bits,
        alphabet=hash_.alphabet,
        modalities=model.modalities,
        categories=catalogue.categories,
        slots=catalogue.slots,
        templates=catalogue.templates,
        hash_types=matching.hash_types,
        zero_item_term=matching.zero_item_term,
        zero_user_term=matching.zero_user_term,
        dataset=catalogue.dataset,
        dataset_checksum=catalogue.checksum,
        config_hash=config_hash,
        items={m: tuple(_packed(hash_, z) for z in zs) for m, zs in on_device.items()},
        item_scales=(
            {
                m: tuple(np.asarray(hash_.scale(z), np.float16) for z in zs)
                for m, zs in on_device.items()
            }
            if hash_.item_scale
            else None
        ),
        users=_packed(hash_, users),
        user_latents=np.asarray(hash_.relaxed(users, beta)),
        lambda_user=_weights(matching.lambda_user, ones),
        lambda_item=_weights(matching.lambda_item, ones),
        alpha=1.0 if matching.alpha is None else float(matching.alpha[...]),
        names=catalogue.names,
    )
    relaxed = {
        m: tuple(np.asarray(hash_.relaxed(z, beta)) for z in zs)
        for m, zs in on_device.items()
    }
    return codes, Latents(relaxed, codes.sha256())


def export_encoder(
    model: FashionHashNet,
    image_size: int,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> bytes:
    """The encoder of photos as a program that needs jax alone to run, on a CPU.

    It takes an image, uint8 [1, h, w, 3], and returns its code in each category: values
    of the alphabet, int8 [c, d], and scales, float32 [c] (1 where codes are not scaled).

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

    shape = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.uint8)
    exported = jax.export.export(jax.jit(encode), platforms=["cpu"])(shape)
    return bytes(exported.serialize())


def _packed(hash_, z: Array) -> np.ndarray:
    return pack(np.asarray(hash_.binary(z)))


def _weights(param, ones) -> np.ndarray:
    return ones if param is None else np.asarray(param[...])
