"""What a run has stored for its recommender: outfits, attributes, what users like."""

import contextlib
import os
from pathlib import Path

from fhn_jax.codes import Codes
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.item_names import ItemNames
from fhn_jax.data.item_table import ITEMS_FILE
from fhn_jax.errors import UserError
from fhn_jax.evaluation.evaluators import check_same_data
from fhn_jax.files import sha256_file
from fhn_jax.recommender.data_index import INDEX, index_of_data
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.filters import Seen
from fhn_jax.retrieval.outfit_index import ATTRIBUTES, OutfitIndex


def stored_index(
    workdir: Path,
    codes: Codes,
    root: str | os.PathLike,
    variant: str,
    names: ItemNames,
) -> OutfitIndex:
    """The index of a data set's outfits in a workdir, with the items' attributes.

    Its attributes are those of items.parquet, and what has been changed since.
    """
    index = index_of_data(workdir / INDEX, codes, root, variant, names)
    if names.table is not None:
        source = sha256_file(Path(root) / ITEMS_FILE)
        if index.attributes is None or index.attributes.source != source:
            index.set_attributes(names.columns(), source)
    return index


def kept_attributes(
    workdir: Path, codes: Codes, root: str | os.PathLike, names: ItemNames
) -> Attributes | None:
    """The attributes of a run's items, with what has been changed; None without any."""
    if names.table is None or not names.table.attributes:
        return None
    with contextlib.suppress(UserError):
        kept = Attributes.open(workdir / INDEX / ATTRIBUTES, codes)
        if kept.source == sha256_file(Path(root) / ITEMS_FILE):
            return kept
    return Attributes.in_memory(codes, names.columns())


def owned_outfits(codes: Codes, catalogue: Catalogue) -> Seen:
    """What the known users like, as far as it was trained on.

    Raises:
      InputError: the codes are of other data.
    """
    check_same_data(codes, catalogue)
    likes = catalogue.splits["train"].positives
    return Seen.of(likes.users, likes.items, codes.num_users)
