"""The network's work as tasks of the connected Ray cluster."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fhn_jax.cli.command import Flag
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.integrations.tasks import Write, made_parts, save_array

RAY_ADDRESS = Flag("ray-address", "", "HOST:PORT of a Ray cluster that encodes items")
# In a part, which a kill costs; as many whole batches as fit.
_ITEMS_EACH = 2048


def encode_items(workdir: Path) -> Callable[..., Iterator[Any]]:
    """An `Encode` whose parts lie in a workdir that all nodes see."""
    return functools.partial(_encode, (workdir / ".codes.parts").resolve())


def _encode(folder, config, items: Catalogue, model, progress) -> Iterator[Any]:
    """The chunks that this process would make, to the bit."""
    from flax import nnx

    from fhn_jax.integrations.cluster import ray_module

    size = config.data.encode_batch
    each = size * max(_ITEMS_EACH // size, 1)
    chunks = [
        (category, start, min(start + each, len(names)))
        for category, names in enumerate(items.names)
        for start in range(0, len(names), each)
    ]
    # Neither users nor outfits: they can be much larger than the network.
    model = nnx.merge(*nnx.split(model))
    model.user.embedding = nnx.Param(model.user.embedding[:1])
    items = dataclasses.replace(items, num_users=0, splits={}, fitb={})
    shared = ray_module().cloudpickle.dumps((config, items, model))
    about = {"network_and_items_sha256": hashlib.sha256(shared).hexdigest()}
    with made_parts(
        *(folder, about, ".npy", _prepare, (config, items, model), chunks, progress),
        cluster=True,
        gpus=True,
    ) as paths:
        for (category, start, stop), path in zip(chunks, paths, strict=True):
            latents = np.load(path)
            # Batch by batch as they were encoded: so is what is computed of them.
            for a in range(start, stop, size):
                of_batch = latents[:, a - start : a - start + size]
                rows = slice(a, min(a + size, stop))
                yield category, rows, dict(zip(model.modalities, of_batch, strict=True))


def _prepare(shared: tuple) -> Write:
    """What writes the latents of some items of a category, float32 [m, n, d]."""
    from fhn_jax.training import build, compile_cache
    from fhn_jax.training.export import all_items
    from fhn_jax.training.inputs import load_inputs

    compile_cache.enable()
    config, items, model = shared
    # Images of a part alone are read, batch by batch: one shape, which is compiled once.
    config = config.copy_and_resolve_references()
    config.data.cache = "none"
    encoder: Any = None

    def write(chunk: tuple[int, int, int], path: Path) -> None:
        nonlocal encoder
        category, start, stop = chunk
        some = [() for _ in items.names]
        some[category] = items.names[category][start:stop]
        part = dataclasses.replace(items, names=tuple(some))
        inputs = load_inputs(
            config, part, lambda title: lambda done, total: None, part=True
        )
        if encoder is None:
            encoder = build.make_encoder(config, model, inputs)
        encoder.inputs = inputs
        latents = encoder(model, all_items(part), part.offsets)
        save_array(path, np.stack([latents[m][category] for m in model.modalities]))

    return write
