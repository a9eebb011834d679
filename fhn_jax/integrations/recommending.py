"""The best outfits of every user, by tasks of Ray."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fhn_jax import files
from fhn_jax.codes import Codes
from fhn_jax.errors import InputError, MissingPackageError
from fhn_jax.integrations.cluster import ray_module
from fhn_jax.integrations.ray import index_version, open_index
from fhn_jax.integrations.tasks import Write, made_parts
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.filters import Filters, Seen, listed
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.outfit_search import Hits

# Users in a file of recommendations, which is one task.
_USERS_PER_FILE = 1024


@dataclasses.dataclass(frozen=True)
class OwnNames:
    """What a shop calls its users and items.

    Attributes:
      users: id of each; None if it has none.
      ids, titles: of each category's items.
    """

    users: Sequence[str] | None
    ids: Sequence[Sequence[str | None]]
    titles: Sequence[Sequence[str | None]]


def recommend_all(
    folder: str | os.PathLike,
    codes: Codes,
    out: str | os.PathLike,
    k: int = 10,
    *,
    score: str = "asymmetric",
    users_each: int = _USERS_PER_FILE,
    progress: Callable[[int, int], None] | None = None,
    own: OwnNames | None = None,
    filters: Filters = (),
    at_most: Mapping[str, int] | None = None,
    seen: Seen | None = None,
    attributes: Attributes | None = None,
) -> int:
    """Writes the k best outfits of every user, computed on the connected Ray cluster.

    The folder `out` appears when all is there; what is there when this is interrupted
    is not made again by the next call with the same arguments. It has files part-00000.parquet, … of a
    row for each outfit: `user`, `rank` from 1, `outfit` (id), `items` (ids in the order
    of the slots, -1 where its template has none) and `score`; by user, then rank. With
    `own` also `user_id`, and in the order of the slots, null for none, `item_ids` and
    `titles`. Metadata of the schema are the checksum of the codes, the slots and the
    kind of score.

    Args:
      folder: of an `OutfitIndex`, the same on every node.
      codes: whose users they are; the index is of these items.
      out: a new folder on storage that all nodes share.
      k, score: as for `OutfitIndex.search`.
      users_each: in a file, which one task writes.
      progress: is called with the number of files written, and of all.
      own: ids and titles of a shop.
      filters, at_most: as for `OutfitIndex.search`, for all users.
      seen: what is left out for each user.
      attributes: of the items, where the index has none.
    Returns:
      the number of files.
    Raises:
      ModuleNotFoundError: ray or pyarrow is not installed.
      FileExistsError: there is something at `out`.
      FileNotFoundError, ValueError: as `ClusterIndex.open` and `OutfitIndex.search`; no
        users; users_each < 1; or another node does not share the storage.
    """
    ray = ray_module()
    _parquet()
    folder, out = Path(folder).resolve(), Path(out).resolve()
    files.refuse_existing(out)
    index = OutfitIndex.open(folder, codes)
    version = index_version(folder)
    # A search for no users: wrong arguments are refused before there are tasks.
    rules = (filters, at_most, seen, attributes)
    _recommended(index, np.arange(0), k, score, rules)
    if not codes.num_users or users_each < 1:
        raise InputError(
            f"{codes.num_users} users, {users_each} in a file: expected at least 1"
        )
    starts = range(0, codes.num_users, users_each)
    chunks = [(start, min(start + users_each, codes.num_users)) for start in starts]
    asked = ray.cloudpickle.dumps((version, k, score, own, rules))
    about = {
        "codes_sha256": codes.sha256(),
        "asked_sha256": hashlib.sha256(asked).hexdigest(),
        "users_each": users_each,
    }
    parts = made_parts(
        *(out.with_name(f".{out.name}.parts"), about, ".parquet"),
        *(_prepare, (folder, version, codes, k, score, own, rules), chunks, progress),
        cluster=True,
    )
    with parts as paths, files.new_folder(out) as new:
        for path in paths:
            path.rename(new / path.name)
    return len(paths)


def _by_slot(names, slots, items) -> np.ndarray:
    """Names of items, None for an item of -1."""
    # The last of a category stands for none.
    known = [np.array([*some, None], object) for some in names]
    found = [known[category][items[:, slot]] for slot, category in enumerate(slots)]
    return np.stack(found, axis=1)


def _prepare(shared) -> Write:
    """What writes the file of some users, in a process of a task."""
    folder, version, codes, k, score, own, rules = shared
    # The driver has verified it, and this is one of many processes.
    index = open_index(folder, version, codes, verify=False)

    def write(users: tuple[int, int], path: Path) -> None:
        some = np.arange(*users)
        hits = _recommended(index, some, k, score, rules)
        _write_table(path, codes, own, score, some, hits)

    return write


def _write_table(path, codes, own, score, users, hits) -> None:
    """Writes the answers for some users as a Parquet file."""
    pyarrow, parquet = _parquet()
    counts = [len(each) for each in hits]
    items = np.concatenate([each.items for each in hits])
    slots = [codes.categories[category] for category in codes.slots]

    def listed(values, kind=None):
        cells = pyarrow.array(values.ravel(), kind)
        return pyarrow.FixedSizeListArray.from_arrays(cells, len(slots))

    columns = {
        "user": np.repeat(users, counts),
        "rank": np.concatenate([np.arange(1, n + 1, dtype=np.int32) for n in counts]),
        "outfit": np.concatenate([each.outfits for each in hits]),
        "items": listed(items),
        "score": np.concatenate([each.scores for each in hits]),
    }
    if own is not None:
        text = pyarrow.string()
        if own.users is not None:
            names = np.array(own.users, object)[columns["user"]]
            columns["user_id"] = pyarrow.array(names, text)
        columns["item_ids"] = listed(_by_slot(own.ids, codes.slots, items), text)
        columns["titles"] = listed(_by_slot(own.titles, codes.slots, items), text)
    about = {"codes_sha256": codes.sha256(), "slots": json.dumps(slots), "score": score}
    table = pyarrow.table(columns, metadata=about)
    parquet.write_table(table, path)


def _recommended(index, users, k, score, rules) -> list[Hits]:
    """The answers for some users."""
    filters, at_most, seen, attributes = rules
    if index.attributes is None:
        index.attributes = attributes
    each: Any = filters
    if seen is not None:
        each = [[*seen.without(user), *listed(filters)] for user in users.tolist()]
    return index.search_batch(users, k, score=score, filters=each, at_most=at_most)


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise MissingPackageError(
            'Parquet files need the package pyarrow: pip install "fhn_jax[cluster]"'
        ) from None
    return pyarrow, parquet
