"""The index of a data set's own outfits: built once, then kept up to date."""

import contextlib
import os
import shutil
import time
from pathlib import Path

from fhn_jax.codes import Codes
from fhn_jax.data.catalogue import stored_outfits
from fhn_jax.data.item_names import ItemNames
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import BusyError, InputError
from fhn_jax.evaluation.evaluators import check_same_data
from fhn_jax.files import checksum_of, lock
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.updating import update_index

# In the workdir of a run.
INDEX = "outfits"
# Seconds to wait for another process that builds the index, before it is an error.
_LONGEST_BUILD = 600


def index_of_data(
    folder: Path,
    codes: Codes,
    root: str | os.PathLike,
    variant: str,
    names: ItemNames,
) -> OutfitIndex:
    """The index of a data set's outfits, without those of which the shop lacks an item.

    It is built if there is none that can be used, and else brought up to date.

    Args:
      names: of the data.
    """
    # None yet, or a damaged one, or one of the codes before the last training.
    useless = (FileNotFoundError, ValueError)
    about = _about(codes, names)
    with contextlib.suppress(*useless):
        return _verified(folder, codes, about)
    catalogue = read_catalogue(root, variant)
    check_same_data(codes, catalogue)
    stored = stored_outfits(catalogue)
    stored = stored[names.are_available(codes.slots, stored)]
    last = time.monotonic() + _LONGEST_BUILD
    while True:
        try:
            # Not the lock of the folder, which `build` takes.
            with lock(folder.with_name(f"{folder.name}.kept"), "building the index"):
                with contextlib.suppress(*useless):
                    return _verified(folder, codes, about)  # Another was faster.
                with contextlib.suppress(*useless):
                    index = OutfitIndex.open_grown(folder, codes)
                    index.verify()
                    update_index(index, stored, about)
                    return index
                shutil.rmtree(folder, ignore_errors=True)
                return OutfitIndex.build(folder, codes, stored, about=about)
        except BusyError:
            if time.monotonic() > last:
                raise
        time.sleep(0.2)


def _about(codes: Codes, names: ItemNames) -> str:
    """What an index of the data's outfits was made of."""
    there = {name: ids.tolist() for name, ids in names.available.items()}
    return f"{codes.dataset_checksum} {checksum_of(there)}"


def _verified(folder: Path, codes: Codes, about: str) -> OutfitIndex:
    index = OutfitIndex.open(folder, codes)
    if index.about != about:
        raise InputError(f"{folder} is of other data")
    index.verify()
    return index
