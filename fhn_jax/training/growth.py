"""Codes of data that have grown since a run was trained: what is known stays to the bit.

New items are encoded by the run's network; nothing is trained. New users follow, see
`fhn_jax.new_users.join_users`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from fhn_jax.codes import Codes, Latents
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.images import is_version
from fhn_jax.errors import InputError
from fhn_jax.training import build
from fhn_jax.training.experiment import Encode, Experiment
from fhn_jax.training.export import all_items, make_codes
from fhn_jax.training.inputs import Progress, load_inputs, one_input
from fhn_jax.training.settings import Settings, config_hash


def grow(
    config: Settings,
    workdir: Path,
    codes: Codes,
    latents: Latents | None,
    catalogue: Catalogue,
    progress: Progress,
    elsewhere: Encode | None = None,
) -> tuple[Codes, Latents | None]:
    """Codes of all items of the data: those that are known, and new ones encoded.

    Args:
      config, workdir: of the run that the codes are of.
      codes, latents: what is known.
      catalogue: the data, as an update left them.
      progress: from a title to a function of the number done, and of all.
      elsewhere: what encodes, in the place of this process.
    Returns:
      codes with the users that they had, and latents where there were some.
    Raises:
      InputError: the codes are of other settings, or the data are not those of the codes
        and more.
      FloatingPointError: a latent is not finite.
    """
    if codes.config_hash != config_hash(config):
        raise InputError(
            f"the codes in {workdir} were made with other settings (hash "
            f"{codes.config_hash[:12]}) than its config.json says "
            f"({config_hash(config)[:12]}); extract all features anew, without --update"
        )
    lineage = codes.identity
    items = new_items(codes, catalogue)
    if any(map(len, items)):
        codes, latents = _encode(
            *(config, workdir, codes, latents, catalogue, items, progress, elsewhere)
        )
    codes = dataclasses.replace(
        codes,
        templates=catalogue.templates,
        dataset=catalogue.dataset,
        dataset_checksum=catalogue.checksum,
        lineage=lineage,
    )
    return codes, latents and Latents(latents.items, codes.sha256())


def new_items(
    codes: Codes, catalogue: Catalogue
) -> tuple[Int32[np.ndarray, "_n"], ...]:
    """Ids of the items that codes lack, per category: new ones, and renamed ones.

    An item is renamed when its photo is replaced, or it became another piece.

    Raises:
      InputError: the catalogue is not that of the codes and more.
    """
    ours = (codes.categories, codes.slots)
    if ours != (catalogue.categories, catalogue.slots) or codes.names is None:
        raise InputError(
            f"the codes are of {'/'.join(codes.categories)} and the data in "
            f"{catalogue.root} of {'/'.join(catalogue.categories)}; train on these data"
        )
    found = []
    for category, known, now in zip(
        codes.categories, codes.names, catalogue.names, strict=True
    ):
        pairs = [*enumerate(zip(known, now, strict=False))]
        differ = [i for i, (then, name) in pairs if name != then]
        others = sum(
            name != then and not is_version(name, then) for _, (then, name) in pairs
        )
        if len(now) < len(known) or 2 * others > len(known):
            raise InputError(
                f"the codes have {len(known):,} items of {category!r}, and the data in "
                f"{catalogue.root} {len(now):,}, of which {len(known) - others:,} "
                "are the same; expected the data of the codes, updated with "
                "`fhn-jax import-catalogue --update`"
            )
        found.append(np.array([*differ, *range(len(known), len(now))], np.int32))
    if catalogue.num_users < codes.num_users:
        raise InputError(
            f"the codes have {codes.num_users:,} users, and the data in "
            f"{catalogue.root} {catalogue.num_users:,}; expected at least as many"
        )
    return tuple(found)


def _encode(
    config: Settings,
    workdir: Path,
    codes: Codes,
    latents: Latents | None,
    catalogue: Catalogue,
    items: tuple[Int32[np.ndarray, "_n"], ...],
    progress: Progress,
    elsewhere: Encode | None,
) -> tuple[Codes, Latents | None]:
    """The codes and latents, with those of some items by the run's network.

    Args:
      items: their ids by category.
    """
    names = tuple(
        tuple(of[i] for i in some.tolist())
        for of, some in zip(catalogue.names, items, strict=True)
    )
    part = dataclasses.replace(catalogue, names=names, num_users=0)
    if elsewhere is None:
        inputs = load_inputs(config, part, progress, part=True)
    else:
        inputs = one_input(config, part)
    experiment = Experiment(config, workdir, catalogue=catalogue, inputs=inputs)
    trained = experiment.best(grown=True)
    title = progress("encoding new items")
    if elsewhere is not None:
        chunks = elsewhere(config, part, trained.model, title)
    else:
        encoder = build.make_encoder(config, trained.model, inputs)
        chunks = encoder.stream(trained.model, all_items(part), part.offsets, title)
    new, relaxed = make_codes(
        trained.model, chunks, part, beta=trained.beta, config_hash=codes.config_hash
    )
    scales = (
        codes.item_scales
        and new.item_scales
        and _merged(codes.item_scales, new.item_scales, items, catalogue)
    )
    merged = dataclasses.replace(
        codes,
        items=_merged(codes.items, new.items, items, catalogue),
        item_scales=scales,
        names=catalogue.names,
    )
    if latents is not None:
        tables = _merged(latents.items, relaxed.items, items, catalogue)
        latents = Latents(tables, merged.sha256())
    return merged, latents


def _merged(
    old: Mapping[str, tuple[np.ndarray, ...]],
    new: Mapping[str, tuple[np.ndarray, ...]],
    items: tuple[Int32[np.ndarray, "_n"], ...],
    catalogue: Catalogue,
) -> dict[str, tuple[np.ndarray, ...]]:
    """Arrays by category: rows of `new` where `items` are, else those of `old`."""
    found = {}
    for modality, tables in old.items():
        merged = []
        for category, table in enumerate(tables):
            count = len(catalogue.names[category])
            whole = np.zeros((count, *table.shape[1:]), table.dtype)
            whole[: len(table)] = table
            whole[items[category]] = new[modality][category]
            merged.append(whole)
        found[modality] = tuple(merged)
    return found
