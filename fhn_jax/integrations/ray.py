"""Search beyond one machine: an index shared out over the nodes of a Ray cluster.

    with connect("10.0.0.7:6379"):  # without an address: this machine alone
        index = ClusterIndex.open("outfits", codes)
        index.search(user=3, k=10)

Every node maps the files of the index, so it must have them at the same path: on storage
that all nodes share, or as copies. What the nodes answer is what `OutfitIndex` answers.
A billion outfits are 14.2 GB, so most never need more than that.
"""

import dataclasses
import functools
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fhn_jax import files
from fhn_jax.codes import Codes
from fhn_jax.errors import (
    InputError,
    MissingFileError,
    UnavailableError,
)
from fhn_jax.integrations.cluster import ray_module
from fhn_jax.retrieval.arguments import user_codes
from fhn_jax.retrieval.filters import bound
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.outfit_search import Hits, OutfitSearch
from fhn_jax.retrieval.searcher import Searcher


class ClusterIndex(OutfitSearch):
    """An `OutfitIndex` whose outfits are shared out over Ray actors.

    Each actor searches its part; the best of all parts are the answer. An actor that
    ends, or whose node does, is started again on a node that is left, and asked again.

    Like an `OutfitIndex` that is open, it shows what was there when it was opened, and
    attributes as they are in the folder of each node. An actor that has to start again
    after the index was changed refuses to: an InputError. If not all answer in time, that
    is an UnavailableError.

    Make one with `open`.

    Attributes:
      seconds: how long an answer may take, the restart of actors included.
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
        self.seconds = seconds

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
          ConnectionError: the actors do not start in time.
        """
        ray = ray_module()
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
        source = (folder, index_version(folder), [items])
        actors = [actor.remote(source, number, shards) for number in range(shards)]
        cluster = cls(index, codes, items, actors, seconds)
        cluster.check()
        return cluster

    def __len__(self) -> int:
        """How many outfits can be found."""
        return self._size

    @property
    def nodes(self) -> list[str]:
        """The Ray node of each shard, by its id."""
        return self._ask("node")

    def check(self) -> None:
        nobody = np.zeros((1, self._codes.bits), np.float32)
        self._ask("find", user_codes(self._codes, nobody, "asymmetric"), 1, (), None)

    def find(self, users, k, score, filters, templates) -> list[Hits]:
        vectors = user_codes(self._codes, users, score)
        if not self._is_with_attributes:  # Else shards have those of the index.
            filters = bound(filters, self.attributes)
        answers = self._ask("find", vectors, k, filters, templates)
        return [_merge(parts, k) for parts in zip(*answers, strict=True)]

    def _ask(self, method: str, *arguments: Any) -> list[Any]:
        """The answers of all shards."""
        ray = ray_module()
        calls = [getattr(shard, method).remote(*arguments) for shard in self._shards]
        try:
            return ray.get(calls, timeout=self.seconds)
        except ray.exceptions.RayTaskError as error:
            # The error that the local index raises, without Ray's traceback.
            raise error.cause from None
        except ray.exceptions.GetTimeoutError:
            done, late = ray.wait(calls, num_returns=len(calls), timeout=0)
            for call in late:  # Nobody waits for them any more.
                ray.cancel(call)
            raise UnavailableError(
                f"{len(late)} of {len(calls)} shards did not answer within "
                f"{self.seconds:g} s; look with `ray status` whether the cluster has "
                "nodes left"
            ) from None
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:300]
            raise UnavailableError(
                f"the Ray cluster does not answer ({reason}); look with `ray status` "
                "whether it runs"
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
        return open_index(folder, version, ray_module().get(items)).part(*self._part)

    def node(self) -> str:
        """Id of the node that this runs on."""
        return ray_module().get_runtime_context().get_node_id()

    def find(self, vectors, k, filters, templates) -> list[Hits]:
        """The best of the part; `vectors` are as the score takes them."""
        return self._searcher.find(vectors, k, "asymmetric", filters, templates)


def open_index(
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
    if index_version(folder) != version:
        raise InputError(
            f"{folder} has been changed since it was opened; open it again"
        )
    return index


def index_version(folder: Path) -> str:
    """What tells an index from what it was before a change."""
    return files.sha256_file(folder / "manifest.json")


def _merge(parts: Sequence[Hits], k: int) -> Hits:
    """The best of the parts' best, by the same rule: of equal scores the lower id."""
    outfits = np.concatenate([part.outfits for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    items = np.concatenate([part.items for part in parts])
    order = np.lexsort((outfits, -scores))[:k]
    return Hits(outfits[order], scores[order], items[order])
