"""Search beyond one machine: an index shared out over the nodes of a Ray cluster.

    with cluster.connect("10.0.0.7:6379"):  # without an address: this machine alone
        index = ClusterIndex.open("outfits", codes)
        index.search(user=3, k=10)
        cluster.recommend_all("outfits", codes, "recommendations", k=10)

Every node maps the files of the index, so it must have them at the same path: on storage
that all nodes share, or as copies. What the nodes answer is what `OutfitIndex` answers.
A billion outfits are 15 GB, so most never need more than that.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fhn_jax import files
from fhn_jax.codes import Codes
from fhn_jax.errors import (
    InputError,
    MissingFileError,
    MissingPackageError,
    UnreachableError,
    UserTimeoutError,
)
from fhn_jax.retrieval.arguments import user_codes
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.filters import Filters, Seen, bound, listed
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.outfit_search import Hits, OutfitSearch
from fhn_jax.retrieval.searcher import Searcher

# Users in a file of recommendations, which is one task.
_USERS_PER_FILE = 1024
# Seconds in which the head of a cluster must accept a connection.
_HEAD_TIMEOUT_S = 5
# Ray gives its processes half a minute to start, which a busy machine may not give them.
_STARTS = 4


@contextlib.contextmanager
def connect(address: str = "") -> Iterator[None]:
    """Joins a Ray cluster, and leaves it at the end.

    A process that is connected already stays so, at the end too.

    Args:
      address: of the head, as `ray start --head` prints it, such as 10.0.0.7:6379. If
        empty, `ray.init()` decides: the cluster of RAY_ADDRESS, one that runs on this
        machine, or a new one on this machine, which ends with the context.
    Raises:
      ModuleNotFoundError: ray is not installed.
      ValueError: an address of another form; or the process is connected to another.
      ConnectionError: nobody answers at the address, or Ray does not start.
    """
    ray = _ray()
    if address:
        _check_address(address)
    if ray.is_initialized():
        current = ray.get_runtime_context().gcs_address
        if address not in ("", current):
            raise InputError(
                f"this process is connected to the Ray cluster {current}, not to "
                f"{address}; leave it first with ray.shutdown()"
            )
        yield
        return
    _start(ray, address or os.environ.get("RAY_ADDRESS", ""))
    try:
        yield
    finally:
        ray.shutdown()


def _start(ray: Any, address: str) -> None:
    """Joins the cluster at an address, or starts one on this machine.

    Raises:
      UnreachableError: it does not start, or cannot be joined.
    """
    # Ray reads them when it starts: it reports how it is used, and waits 30 s.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "120")
    options: dict[str, Any] = {} if address else {"include_dashboard": False}
    tries = 1 if address else _STARTS
    for left in reversed(range(tries)):
        try:
            ray.init(
                address or None,
                logging_level=logging.WARNING,
                log_to_driver=False,
                **options,
            )
            return
        # Whatever stops one of its processes; it also ends the program.
        except (Exception, SystemExit) as error:
            ray.shutdown()
            if left and not isinstance(error, ValueError | TypeError):
                continue
            reason = " ".join(str(error).split())[:300]
        if address:
            raise UnreachableError(
                f"the Ray cluster at {address} cannot be joined ({reason}); look with "
                "`ray status` whether it runs, and with the same version of Ray"
            )
        raise UnreachableError(
            f"Ray does not start on this machine ({reason}); try again when the machine "
            "is less busy and has room in memory and in /tmp/ray, or start a cluster "
            "with `ray start --head` and give its address"
        )


def _check_address(address: str) -> None:
    """Raises unless something listens there: Ray itself would wait, then exit."""
    host, _, port = address.rpartition(":")
    known = re.fullmatch("[0-9]{1,5}", port)
    if not host or not known or not 0 < int(port) < 2**16:
        raise InputError(
            f"the Ray address is {address!r}, expected HOST:PORT as `ray start --head` "
            "prints it, such as 10.0.0.7:6379"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _HEAD_TIMEOUT_S).close()
    except OSError as error:
        raise UnreachableError(
            f"no Ray cluster answers at {address} ({error}); start one with `ray start "
            "--head`, or leave the address out to use this machine alone"
        ) from None


class ClusterIndex(OutfitSearch):
    """An `OutfitIndex` whose outfits are shared out over Ray actors.

    Each actor searches its part; the best of all parts are the answer. An actor that
    ends, or whose node does, is started again on a node that is left, and asked again.

    Like an `OutfitIndex` that is open, it shows what was there when it was opened, and
    attributes as they are in the folder of each node. An actor that has to start again
    after the index was changed refuses to: an InputError. If not all answer in time, that
    is a UserTimeoutError.

    Make one with `open`.
    """

    def __init__(
        self,
        index: OutfitIndex,
        codes: Codes,
        items: Any,
        shards: Sequence[Any],
        seconds: float,
    ):
        """Use `open`."""
        super().__init__(codes, index.attributes)
        self._is_with_attributes = index.attributes is not None
        self._size = len(index)
        self._items = items  # a reference that keeps the codes in Ray's store
        self._shards = shards
        self._seconds = seconds

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike,
        codes: Codes,
        *,
        shards: int | None = None,
        seconds: float = 120.0,
    ) -> "ClusterIndex":
        """Opens an index on all nodes of the connected cluster, see `connect`.

        Args:
          folder: of the index, the same on every node.
          codes: the codes that the index was built from, see `OutfitIndex.open`.
          shards: parts of the index; by default one for each processor of the cluster.
          seconds: how long an answer may take, the restart of actors included.
        Raises:
          FileNotFoundError: no index in this folder, here or on another node; or a file
            of it is missing.
          ValueError: a damaged index, one of other codes, or shards < 1.
          ModuleNotFoundError: ray is not installed.
          TimeoutError: the actors do not start in time.
        """
        ray = _ray()
        folder = Path(folder).resolve()
        index = OutfitIndex.open(folder, codes)
        if shards is None:
            shards = max(int(ray.cluster_resources().get("CPU", 1)), 1)
        if shards < 1:
            raise InputError(f"shards is {shards}, expected at least 1")
        # Shards are given users as vectors, so they need neither their table nor names.
        no_users = {"users": codes.users[:0], "user_latents": codes.user_latents[:0]}
        items = ray.put(dataclasses.replace(codes, names=None, **no_users))
        actor = ray.remote(_Shard).options(
            max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD"
        )
        # As an argument by itself Ray would replace the reference by its value, and not
        # keep the value for an actor that starts again; in a list it stays a reference.
        source = (folder, _version(folder), [items])
        actors = [actor.remote(source, number, shards) for number in range(shards)]
        cluster = cls(index, codes, items, actors, seconds)
        cluster._ask("load")
        return cluster

    def __len__(self) -> int:
        """How many outfits can be found."""
        return self._size

    @property
    def nodes(self) -> list[str]:
        """The Ray node of each shard, by its id."""
        return self._ask("node")

    def find(self, users, k, score, filters, templates) -> list[Hits]:
        vectors = user_codes(self._codes, users, score)
        if not self._is_with_attributes:  # Else shards have those of the index.
            filters = bound(filters, self.attributes)
        answers = self._ask("find", vectors, k, filters, templates)
        return [_merge(parts, k) for parts in zip(*answers, strict=True)]

    def _ask(self, method: str, *arguments: Any) -> list[Any]:
        """The answers of all shards."""
        ray = _ray()
        calls = [getattr(shard, method).remote(*arguments) for shard in self._shards]
        try:
            return ray.get(calls, timeout=self._seconds)
        except ray.exceptions.RayTaskError as error:
            # The error that the local index raises, without Ray's traceback.
            raise error.cause from None
        except ray.exceptions.GetTimeoutError:
            raise UserTimeoutError(
                f"not all of {len(self._shards)} shards answered within "
                f"{self._seconds:g} s; look with `ray status` whether the cluster has "
                "nodes left"
            ) from None


class _Shard:
    """A part of an index, in a process of its own."""

    def __init__(self, source: tuple[Path, str, list[Any]], number: int, count: int):
        self._source = source
        self._part = (number, count)

    # Opened at the first call, so that the caller gets what is raised.
    @functools.cached_property
    def _searcher(self) -> Searcher:
        folder, version, (items,) = self._source
        return _open(folder, version, _ray().get(items)).part(*self._part)

    def load(self) -> None:
        """Opens the part."""
        _ = self._searcher

    def node(self) -> str:
        """Id of the node that this runs on."""
        return _ray().get_runtime_context().get_node_id()

    def find(self, vectors, k, filters, templates) -> list[Hits]:
        """The best of the part; `vectors` are as the score takes them."""
        return self._searcher.find(vectors, k, "asymmetric", filters, templates)


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

    The folder `out` appears when all is there, with files part-00000.parquet, … of a
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
    ray = _ray()
    _parquet()
    folder, out = Path(folder).resolve(), Path(out).resolve()
    index = OutfitIndex.open(folder, codes)
    version = _version(folder)
    # A search for no users: wrong arguments are refused before there are tasks.
    rules = (filters, at_most, seen, attributes)
    _recommended(index, np.arange(0), k, score, rules)
    if not codes.num_users or users_each < 1:
        raise InputError(
            f"{codes.num_users} users, {users_each} in a file: expected at least 1"
        )
    task, shared = ray.remote(_recommend), ray.put((codes, own, rules))
    starts = range(0, codes.num_users, users_each)
    with files.new_folder(out) as new:
        paths = [new / f"part-{n:05}.parquet" for n in range(len(starts))]
        pending = [
            task.remote(folder, version, shared, start, users_each, k, score, path)
            for start, path in zip(starts, paths, strict=True)
        ]
        try:
            while pending:
                done, pending = ray.wait(pending)
                ray.get(done)
                if progress is not None:
                    progress(len(paths) - len(pending), len(paths))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        finally:
            # No task may write into a folder that is about to be removed.
            for call in pending:
                ray.cancel(call)
            if pending:
                ray.wait(pending, num_returns=len(pending))
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise MissingFileError(
                f"{missing[0]} was written, and is not in {out.parent} of this machine; "
                "choose a folder on storage that all nodes share"
            )
    return len(paths)


def _by_slot(names, slots, items) -> np.ndarray:
    """Names of items, None for an item of -1."""
    # The last of a category stands for none.
    known = [np.array([*some, None], object) for some in names]
    found = [known[category][items[:, slot]] for slot, category in enumerate(slots)]
    return np.stack(found, axis=1)


def _recommend(folder, version, shared, start, users_each, k, score, path) -> None:
    """Writes the file of some users: a task."""
    pyarrow, parquet = _parquet()
    codes, own, rules = shared
    # The driver has verified it, and this is one of many tasks.
    index = _open(folder, version, codes, verify=False)
    users = np.arange(start, min(start + users_each, codes.num_users))
    hits = _recommended(index, users, k, score, rules)
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
    with files.atomic_path(path) as temporary:
        parquet.write_table(table, temporary)


def _recommended(index, users, k, score, rules) -> list[Hits]:
    """The answers for some users."""
    filters, at_most, seen, attributes = rules
    if index.attributes is None:
        index.attributes = attributes
    each: Any = filters
    if seen is not None:
        each = [[*seen.without(user), *listed(filters)] for user in users.tolist()]
    return index.search_batch(users, k, score=score, filters=each, at_most=at_most)


def _open(
    folder: Path, version: str, codes: Codes, *, verify: bool = True
) -> OutfitIndex:
    """The index as it was when the driver opened it, on another node."""
    try:
        index = OutfitIndex.open(folder, codes, verify=verify)
    except FileNotFoundError as error:
        raise MissingFileError(
            f"{error} (on {socket.gethostname()}; every node needs the index at this "
            "path)"
        ) from None
    # Manifests number the changes: the same manifest is the same index.
    if _version(folder) != version:
        raise InputError(
            f"{folder} has been changed since it was opened; open it again"
        )
    return index


def _version(folder: Path) -> str:
    return files.sha256_file(folder / "manifest.json")


def _merge(parts: Sequence[Hits], k: int) -> Hits:
    """The best of the parts' best, by the same rule: of equal scores the lower id."""
    outfits = np.concatenate([part.outfits for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    items = np.concatenate([part.items for part in parts])
    order = np.lexsort((outfits, -scores))[:k]
    return Hits(outfits[order], scores[order], items[order])


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingPackageError(
            'a cluster needs the package ray: pip install "fhn_jax[cluster]"'
        ) from None
    return ray


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise MissingPackageError(
            'Parquet files need the package pyarrow: pip install "fhn_jax[cluster]"'
        ) from None
    return pyarrow, parquet
