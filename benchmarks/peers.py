"""Exact search for stored outfits beside approximate indexes of their vectors.

    python benchmarks/peers.py --outfits 300k --json peers.json
    python benchmarks/peers.py --outfits 1M --kinds clustered --peers ours usearch
    python benchmarks/peers_chart.py peers.svg peers.json

Codes and outfits are those of benchmarks/retrieval.py, the vectors those that
`fhn_jax.integrations.vectors` makes for a database: an inner product is a score. A peer's
own knob is turned until its 10 best for 64 users have the recall that --recall asks for,
against our exact answer; an outfit that scores as high as the tenth is a right one.

  faiss-hnsw   M 16, efConstruction 128; efSearch
  faiss-ivf    4 √n lists; nprobe
  usearch      connectivity 16, expansion_add 128; expansion_search
  qdrant       its local client within the process, which compares all vectors

The filter keeps the 1 % of the outfits that have no item of a price of 22 or more; recall
is that among them, for the middle one of --recall. Each peer has a process and one core
of its own. Memory is what that process holds more once it has built its index and
searched.
"""

import abc
import ctypes
import dataclasses
import importlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

try:
    from benchmarks import harness, retrieval
except ModuleNotFoundError:  # as `python benchmarks/peers.py`
    import harness
    import retrieval

from fhn_jax.codes import Codes
from fhn_jax.integrations.vectors import outfit_vectors, query_vectors
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.where import Where

SIZES = {"1k": 10**3, "100k": 10**5, "300k": 3 * 10**5, **retrieval.SIZES}
K, USERS, PRICE = 10, 64, 22
CONNECTIVITY, EXPANSION = 16, 128
# A knob is not turned further once a query takes so long, and no more users are asked
# once they took so long together.
SLOWEST_MS, LONGEST_S = 50, 10
QDRANT_BATCH = 1000


@dataclasses.dataclass(frozen=True)
class Case:
    """What is searched: as plain values, for processes of their own.

    Attributes:
      kind, path: of the codes, see `retrieval.make_codes`.
      count: of outfits.
      folder: with vectors.npy, and room for an index.
    """

    kind: str
    path: Path | None
    count: int
    folder: Path

    @cached_property
    def codes(self) -> Codes:
        return retrieval.make_codes(self.kind, self.path)

    @cached_property
    def outfits(self) -> np.ndarray:
        return retrieval.make_outfits(self.codes, self.count)

    @cached_property
    def users(self) -> np.ndarray:
        return np.arange(USERS) % self.codes.num_users

    @cached_property
    def queries(self) -> np.ndarray:
        return query_vectors(self.codes, self.users)

    @cached_property
    def vectors(self) -> np.ndarray:
        return np.load(self.folder / "vectors.npy")

    @cached_property
    def prices(self) -> np.ndarray:
        """The highest price among the items of each outfit."""
        starts = np.concatenate([[0], np.cumsum(self.codes.num_items)])
        items = self.outfits + starts[list(self.codes.slots)]
        return retrieval.prices(self.codes)["price"][items].max(axis=1)


class Peer(abc.ABC):
    """A way to search.

    Attributes:
      module: that is imported.
      knob: what is turned for recall; none for exact ways.
      first: its first value.
      can_filter: whether `search` takes a price.
    """

    module, knob, first, can_filter = "", "", 1, True

    def __init__(self, case: Case):
        """Takes what it is built from."""
        self.case = case

    @property
    def last(self) -> int:
        """The last value of the knob."""
        return self.case.count

    @abc.abstractmethod
    def build(self) -> None:
        """Makes the index of the vectors."""

    @abc.abstractmethod
    def search(self, rows: Sequence[int], knob: int, price: int | None) -> Any:
        """The ids of the 10 best for some of the users, -1 where there are fewer.

        Args:
          price: that no item of the outfits reaches.
        """


class Ours(Peer):
    module = "numba"

    def __init__(self, case: Case):
        super().__init__(case)
        # Compiles.
        warm = OutfitIndex.build(
            case.folder / "warm",
            case.codes,
            case.outfits[:1000],
            attributes=retrieval.prices(case.codes),
        )
        warm.search_batch(case.users[:33], K, filters=Where(f"price<{PRICE}"))
        warm.search_batch(case.users[:33], K)

    def build(self) -> None:
        case = self.case
        self._index = OutfitIndex.build(
            case.folder / "index",
            case.codes,
            case.outfits,
            attributes=retrieval.prices(case.codes),
        )

    def least(self, price: int | None) -> list[float]:
        """The tenth best score for each user."""
        found = self._hits(range(USERS), price)
        return [hits.scores[-1] if len(hits) == K else -np.inf for hits in found]

    def search(self, rows, knob, price):
        del knob
        return [hits.outfits for hits in self._hits(rows, price)]

    def _hits(self, rows, price) -> list:
        filters = () if price is None else Where(f"price<{price}")
        return self._index.search_batch(self.case.users[rows], K, filters=filters)


class _Faiss(Peer):
    module = "faiss"

    def __init__(self, case: Case):
        super().__init__(case)
        self._faiss = importlib.import_module("faiss")
        self._faiss.omp_set_num_threads(1)
        self._width, self._inner = (
            case.vectors.shape[1],
            self._faiss.METRIC_INNER_PRODUCT,
        )

    def search(self, rows, knob, price):
        sel = None
        if price is not None:
            mask = np.packbits(self.case.prices < price, bitorder="little")
            sel = self._faiss.IDSelectorBitmap(mask)
        parameters = self._parameters(knob, sel)
        return self._index.search(self.case.queries[rows], K, params=parameters)[1]


class FaissHnsw(_Faiss):
    knob, first = "efSearch", K

    def build(self) -> None:
        index = self._faiss.IndexHNSWFlat(self._width, CONNECTIVITY, self._inner)
        index.hnsw.efConstruction = EXPANSION
        index.add(self.case.vectors)
        self._index = index

    def _parameters(self, knob, sel):
        return self._faiss.SearchParametersHNSW(efSearch=knob, sel=sel)


class FaissIvf(_Faiss):
    knob = "nprobe"

    @property
    def last(self) -> int:
        return 4 * int(self.case.count**0.5)

    def build(self) -> None:
        quantizer = self._faiss.IndexFlatIP(self._width)
        index = self._faiss.IndexIVFFlat(quantizer, self._width, self.last, self._inner)
        index.cp.max_points_per_centroid = 64
        index.train(self.case.vectors)
        index.add(self.case.vectors)
        self._quantizer, self._index = quantizer, index

    def _parameters(self, knob, sel):
        return self._faiss.SearchParametersIVF(nprobe=knob, sel=sel)


class Usearch(Peer):
    # Its predicates are those of C++: the Python package has none.
    module, knob, first, can_filter = "usearch", "expansion_search", K, False

    def build(self) -> None:
        make = importlib.import_module("usearch.index").Index
        vectors = self.case.vectors
        self._index = make(
            ndim=vectors.shape[1],
            metric="ip",
            dtype="f32",
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION,
        )
        self._index.add(np.arange(len(vectors)), vectors, threads=1)

    def search(self, rows, knob, price):
        del price
        self._index.expansion_search = knob
        found = self._index.search(self.case.queries[rows], K, threads=1)
        # For one user there is no axis of users.
        return np.asarray(found.keys, np.int64).reshape(len(rows), -1)


class Qdrant(Peer):
    module = "qdrant_client"

    def build(self) -> None:
        qdrant = importlib.import_module("qdrant_client")
        self._models = models = qdrant.models
        self._client = qdrant.QdrantClient(":memory:")
        vectors, prices = self.case.vectors, self.case.prices.tolist()
        size = vectors.shape[1]
        parameters = models.VectorParams(size=size, distance=models.Distance.DOT)
        self._client.create_collection("outfits", vectors_config=parameters)
        for start in range(0, len(vectors), QDRANT_BATCH):
            ids = list(range(start, min(start + QDRANT_BATCH, len(vectors))))
            batch = models.Batch(
                ids=ids,
                vectors=vectors[start : start + QDRANT_BATCH].tolist(),
                payloads=[{"price": prices[number]} for number in ids],
            )
            with warnings.catch_warnings():  # It is not meant for so many.
                warnings.simplefilter("ignore")
                self._client.upsert("outfits", batch)

    def search(self, rows, knob, price):
        del knob
        models, kept = self._models, None
        if price is not None:
            below = models.Range(lt=price)
            kept = models.Filter(must=[models.FieldCondition(key="price", range=below)])
        requests = [
            models.QueryRequest(query=query.tolist(), limit=K, filter=kept)
            for query in self.case.queries[rows]
        ]
        answers = self._client.query_batch_points("outfits", requests)
        return [[point.id for point in answer.points] for answer in answers]


PEERS: dict[str, type[Peer]] = {
    "ours": Ours,
    "faiss-hnsw": FaissHnsw,
    "faiss-ivf": FaissIvf,
    "usearch": Usearch,
    "qdrant": Qdrant,
}


@dataclasses.dataclass(frozen=True)
class Tried:
    """A value of a knob: recall, and milliseconds of each query, by clock and by CPU."""

    knob: int
    recall: float
    wall: tuple[float, ...]
    cpu: tuple[float, ...]


def try_knob(
    search: Callable[[Sequence[int]], Any],
    knob: int,
    right: Callable[[int, Any], int],
) -> Tried:
    """Asks for one user after the other.

    Args:
      search: for some users.
      right: how many ids are among the best for a user.
    """
    search([0])
    wall, cpu, found = [], [], 0
    for user in range(USERS):
        start, cpu_start = time.perf_counter(), time.process_time()
        ids = search([user])
        wall.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - cpu_start))
        found += right(user, ids[0])
        if sum(wall) > 1000 * LONGEST_S:
            break
    return Tried(knob, found / (K * len(wall)), tuple(wall), tuple(cpu))


def tune(
    attempt: Callable[[int], Tried], recalls: Sequence[float], first: int, last: int
) -> tuple[dict[float, Tried], Tried]:
    """The least value of a knob for each recall, to a quarter; and the largest tried.

    There is none for a recall that is not reached.
    """
    tried: dict[int, Tried] = {}

    def at(knob: int) -> Tried:
        if knob not in tried:
            tried[knob] = attempt(knob)
        return tried[knob]

    found = {}
    for recall in sorted(recalls):
        low, knob = 0, first
        while at(knob).recall < recall:
            if knob >= last or float(np.median(at(knob).cpu)) > SLOWEST_MS:
                return found, at(knob)
            low, knob = knob, min(2 * knob, last)
        while low and knob - low > max(1, low // 4):
            middle = (low + knob) // 2
            if at(middle).recall < recall:
                low = middle
            else:
                knob = middle
        found[recall] = at(knob)
    return found, tried[max(tried)]


def measure(name: str, case: Case, recalls: Sequence[float]) -> list[tuple]:
    """Builds and searches with one peer: metric, unit and values of each row."""
    peer = PEERS[name](case)
    if peer.knob:
        _ = case.vectors, case.queries, case.prices
    before = _resident()
    built = harness.timed(peer.build, 1, warmup=0)
    rows = [("build, wall", "s", built.wall), ("build, cpu", "s", built.cpu)]
    peer.search([0], peer.first, None)
    rows.append(("memory", "MiB", (_resident() - before,)))
    if isinstance(peer, Ours):
        np.save(case.folder / "least.npy", [peer.least(p) for p in (None, PRICE)])
    least = np.load(case.folder / "least.npy")
    for price, worst in zip((None, PRICE), least, strict=True):
        if price is not None and not peer.can_filter:
            print(f"  {name}: without a filter, which its Python package has not")
            continue

        def right(user: int, ids: Any, worst=worst) -> int:
            ids = np.unique(ids)
            vectors = case.vectors[ids[ids >= 0]].astype(np.float64)
            scores = vectors @ case.queries[user].astype(np.float64)
            return int((scores >= worst[user] - 1e-4).sum())

        def attempt(knob: int, price=price, right=right) -> Tried:
            return try_knob(lambda rows: peer.search(rows, knob, price), knob, right)

        what, wanted = "all", sorted(recalls)
        if price is not None:
            what, wanted = "filter", wanted[len(wanted) // 2 :][:1]
        if peer.knob:
            found, most = tune(attempt, wanted, peer.first, peer.last)
            for recall in sorted(set(wanted) - set(found)):
                print(
                    f"  {name}, {what}: recall {recall} is not reached: {most.recall:.3f}"
                    f" at {peer.knob} {most.knob}, {np.median(most.cpu):.0f} CPU-ms"
                )
        else:
            found = {1.0: attempt(1)}
        for recall, tried in found.items():
            to = f"{what} {recall:g}"
            rows.append((f"{to}: recall", "", (tried.recall,)))
            if peer.knob:
                rows.append((f"{to}: {peer.knob}", "", (tried.knob,)))
            rows.append((f"{to}: one user, wall", "ms", tried.wall))
            rows.append((f"{to}: one user, cpu", "ms", tried.cpu))
            if sum(tried.wall) > 1000 * LONGEST_S:
                continue
            knob = tried.knob
            many = harness.timed(
                lambda knob=knob, price=price: peer.search(range(USERS), knob, price), 3
            )
            for clock in ("wall", "cpu"):
                values = tuple(1000 * t for t in getattr(many, clock))
                rows.append((f"{to}: {USERS} users, {clock}", "ms", values))
    return rows


def _resident() -> float:
    """MiB that this process holds now; on Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return harness.resident_mebibytes()


def compare(
    kind: str,
    path: Path | None,
    name: str,
    peers: Sequence[str],
    recalls: Sequence[float],
) -> list[harness.Row]:
    """All rows of one kind of codes and number of outfits."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        case = Case(kind, path, SIZES[name], Path(folder))
        np.save(case.folder / "vectors.npy", outfit_vectors(case.codes, case.outfits))
        # Without what `case` has computed, which the processes would be sent.
        plain = dataclasses.replace(case)
        for peer in ("ours", *(each for each in peers if each != "ours")):
            try:
                importlib.import_module(PEERS[peer].module)
            except ModuleNotFoundError as error:
                print(f"{kind}, {name}: without {peer}: {error} (bench extra)")
                continue
            start = time.perf_counter()
            found = harness.apart(measure, peer, plain, recalls)
            print(f"{kind}, {name}: {peer} in {time.perf_counter() - start:.0f} s")
            case_name = f"{kind}/{name}/{peer}"
            rows += [harness.Row(case_name, *row) for row in found]
    return rows


def main() -> None:
    """Measures what the command line asks for."""
    parser = harness.parser(__doc__)
    parser.add_argument("--outfits", nargs="+", choices=SIZES, default=["300k"])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--recall", nargs="+", type=float, default=[0.9, 0.95, 0.99])
    arguments, kinds = retrieval.parse(parser)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows: list[harness.Row] = []
    for kind in kinds:
        for name in arguments.outfits:
            rows += compare(
                *(kind, arguments.codes, name, arguments.peers, arguments.recall)
            )
    harness.report(rows, arguments.json)


if __name__ == "__main__":
    main()
