"""Reads what the encoders see of all items, to where the settings want it."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.images import (
    LmdbImages,
    channels,
    load_table,
    open_images,
    photo_reader,
    verify_images,
)
from fhn_jax.data.items import Free, ItemInputs, choose_cache
from fhn_jax.data.pixels import host_table
from fhn_jax.data.vectors import read_features, read_text_vectors
from fhn_jax.errors import InputError
from fhn_jax.models.fashion_hash_net import PRECOMPUTED
from fhn_jax.training import sharding
from fhn_jax.training.build import is_masked, make_mesh
from fhn_jax.training.rows import user_tables
from fhn_jax.training.settings import Settings

Progress = Callable[[str], Callable[[int, int], None]]


def load_inputs(
    config: Settings, catalogue: Catalogue, progress: Progress, *, part: bool = False
) -> ItemInputs:
    """Images or features and text of all items, checked before anything is trained.

    Args:
      config: `data` and `model.modalities` are used.
      catalogue: the items.
      progress: from a title to a function of the number done, and of all.
      part: the catalogue has some items of the data only, so that what is decoded is not
        kept in a file.
    Raises:
      FileNotFoundError, KeyError, ValueError: an image, feature or text vector is
        missing or of no use; names it.
    """
    names = catalogue.item_names()
    modalities, size = config.model.modalities, config.data.image_size
    tables, text, images = {}, None, None
    if "text" in modalities:
        text = read_text_vectors(config.data.root, catalogue, config.data.text)
    features = config.data.features
    instead = "visual" in modalities and config.model.backbone.name == PRECOMPUTED
    visual = "visual" in modalities and not instead
    masked = visual and is_masked(config)
    photo_reader(masked)  # Packages that are missing are named before all else.
    image_bytes = len(names) * channels(masked) * size**2 if visual else 0
    text_bytes = 0 if text is None else text.nbytes
    free = free_bytes(Path(config.data.root))
    cache, choice = choose_cache(config.data.cache, image_bytes, text_bytes, free)
    if config.data.cache == "auto" and sharding.is_first():
        print(choice, file=sys.stderr)
    if cache == "host" and part:
        cache = "none"
    pixels = None
    if features:
        reading = progress("reading features")
        found = read_features(config.data.root, features, catalogue, progress=reading)
        tables["visual" if instead else "features"] = _resident(config, found)
    if visual:
        images = open_images(Path(config.data.root))
        if isinstance(images, LmdbImages):
            images.check_file()
        how: Any = dict(
            masked=masked, progress=progress("decoding images"), notice=_say_once
        )
        # Masks take so long to find that they are kept where that is possible.
        if cache == "host" or (cache == "device" and masked and not part):
            kind = "_masked" if masked else ""
            path = Path(config.data.root) / "images" / f"decoded_{size}{kind}.npy"
            # The others find its file, unless each host has a disk of its own.
            with sharding.first_alone():
                try:
                    pixels = host_table(path, images, names, size, **how)
                except OSError:
                    # Another run that has just begun writes it, or it has no place; and
                    # memory will do.
                    if cache == "host":
                        raise
        if cache == "device":
            if pixels is None:
                decoded = load_table(images, names, size, **how)
            else:
                decoded = pixels.read(np.arange(len(names)))
            tables["visual"], pixels = _resident(config, decoded), None
        if cache == "none":
            own = names[jax.process_index() :: jax.process_count()]
            verify_images(
                images, own, progress=progress("checking images"), notice=_say
            )
        else:
            images = None
    if text is not None and cache == "device":
        tables["text"], text = _resident(config, text), None
    return ItemInputs(tables, text, images, names, size, pixels, masked)


def one_input(config: Settings, catalogue: Catalogue) -> ItemInputs:
    """Those of a single item: for the sizes of a network, where others encode."""
    first = next(c for c, names in enumerate(catalogue.names) if names)
    names = tuple(of[: int(c == first)] for c, of in enumerate(catalogue.names))
    one = dataclasses.replace(catalogue, names=names, num_users=0)
    return load_inputs(config, one, lambda title: lambda done, total: None, part=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _say_once(text: str) -> None:
    """What all processes would say."""
    if sharding.is_first():
        _say(text)


def _resident(config: Settings, table: np.ndarray) -> jax.Array:
    """A table on the device, or on every device of this process's part of the mesh."""
    mesh = make_mesh(config)
    if mesh is None:
        return jnp.asarray(table)
    return jax.device_put(table, sharding.everywhere(mesh.local_mesh))


def free_bytes(root: Path) -> Free:
    """Memory of the first device and disk of the data root that are free now.

    Of several processes the least of each, so that all choose alike.
    """
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    # Data that may not be written to have no room for a file of decoded images.
    writable = os.access(root / "images", os.W_OK)
    disk = shutil.disk_usage(root).free if writable else 0
    is_cpu = device.platform == "cpu"
    if "bytes_limit" in stats:
        memory, is_cpu = stats["bytes_limit"] - stats["bytes_in_use"], False
    else:
        memory = _available_memory()
    memory, disk = sharding.gather(np.array([memory, disk])).min(axis=0).tolist()
    return Free(memory, disk, is_cpu)


def check_table_fits(config: Settings, state: Any) -> None:
    """Refuses a user table that memory cannot hold, before it is drawn.

    Args:
      config: `mesh` and `data.root` are used.
      state: the shapes of a `TrainState`.
    Raises:
      InputError: says both sizes.
    """
    tables = [4 * table.size for table in user_tables(state)]
    # Drawing the table takes three times its size, before there is anything else.
    needed = max(sum(tables), 3 * tables[0]) // config.mesh.model
    free = free_bytes(Path(config.data.root))
    devices = len(jax.local_devices()) if free.is_cpu else 1
    each = free.device // min(devices, config.mesh.data * config.mesh.model)
    if needed > each:
        users, width = user_tables(state)[0].shape
        raise InputError(
            f"the table of {users:,} users x {width} with the optimizer's moments and the "
            f"average of it needs {needed / 2**30:,.1f} GiB of memory on each device, and "
            f"{each / 2**30:,.1f} GiB are free; spread it over more devices with "
            "--config.mesh.model, a divisor of model.bits, or use fewer model.bits"
        )


def _available_memory() -> int:
    """Memory of the host that programs could still get, caches of files included."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
