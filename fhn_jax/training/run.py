"""The main job from Python: train a network, and encode every item with it."""

import os
from pathlib import Path

from fhn_jax.codes import Codes
from fhn_jax.data.layout import read_catalogue
from fhn_jax.training import build, compile_cache, loop, sharding
from fhn_jax.training.build import Progress
from fhn_jax.training.export import make_codes
from fhn_jax.training.settings import Settings
from fhn_jax.training.workdir import check_workdir


def _silent(title: str):
    return lambda done, total: None


def train_and_export(
    config: Settings, workdir: str | os.PathLike, progress: Progress = _silent
) -> Codes:
    """Trains, or goes on where a stopped run left off, and writes codes and latents.

    Args:
      config: all settings, with `data.root` and `data.variant`.
      workdir: see `loop.train`; gets codes.safetensors and latents.safetensors too.
      progress: from a title to a function of the number done, and of all.
    Raises:
      as `loop.train`.
    """
    workdir = Path(workdir)
    compile_cache.enable()
    build.check_config(config)
    check_workdir(build.config_values(config), workdir)
    catalogue = read_catalogue(Path(config.data.root), config.data.variant)
    build.make_batches(config, catalogue)  # Its checks come before items are read.
    inputs = build.load_inputs(config, catalogue, progress)
    trained = loop.train(config, workdir, catalogue, inputs)
    encoder = build.make_encoder(config, trained.model, inputs)
    latents = encoder(
        trained.model,
        build.all_items(catalogue),
        catalogue.offsets,
        progress("encoding items"),
    )
    codes, relaxed = make_codes(
        trained.model,
        latents,
        catalogue,
        beta=trained.beta,
        config_hash=build.config_hash(config),
    )
    if sharding.is_first():
        codes.save(workdir / "codes.safetensors")
        relaxed.save(workdir / "latents.safetensors", codes)
    return codes
