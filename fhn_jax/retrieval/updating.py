"""An index that follows a catalogue: new items, new outfits, outfits that are gone."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from fhn_jax.retrieval.blocks import row_keys
from fhn_jax.retrieval.outfit_index import OutfitIndex


class Updated(NamedTuple):
    """What an update did: how many outfits it added, and how many it removed."""

    added: int
    removed: int


def update_index(
    index: OutfitIndex, outfits: Int[np.ndarray, "n s"], about: str = ""
) -> Updated:
    """Makes the outfits that can be found these: in seconds, without a build.

    Outfits that stay keep their ids. A repeated call does nothing more, so that one that
    was interrupted may be made again.

    Args:
      outfits: each once.
      about: what they are of, see `OutfitIndex.about`.
    Raises:
      InputError: as `OutfitIndex.append`.
    """
    ids, items = index.stored()
    outfits = index.checked(outfits)
    rows = np.concatenate([items, outfits])
    keys = row_keys(rows)
    ours, wanted = keys[: len(items)], keys[len(items) :]
    gone = ids[~np.isin(ours, wanted)]
    new = outfits[~np.isin(wanted, ours)]
    if gone.size:
        index.remove(gone)
    index.append(new)
    if index.about != about:
        index.about = about
    return Updated(len(new), len(gone))
