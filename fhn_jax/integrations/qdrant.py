"""Items and outfits as vectors for a vector database, which then finds the best.

The score of an outfit is a sum over its items, weighted by the user's code, and a number
that no user changes: its compatibility. So with e = bits + 1 dimensions,

  outfit  the sum of its items' codes, over both modalities   | its compatibility
  item    its codes, summed over both modalities              | 0
  query   the user's code times λᵘ and the constant factors   | 1

the inner product of a query and an outfit *is* the score, and that of a query and an
item is what the item adds for this user. What a database stores does not depend on the
users: new users, and what they learn, change queries only.

`OutfitCollection` keeps outfits in Qdrant; in memory, in a folder or on a server, as the
client was made. Other databases take the same vectors, with the inner product ("dot",
"ip") as their measure and in float32, without normalising.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Shaped

from fhn_jax.codes import Codes, ScoreForm, outfit_scores
from fhn_jax.errors import (
    ExistingFileError,
    InputError,
    MissingFileError,
    MissingPackageError,
)
from fhn_jax.retrieval.items import ItemTables, check_count, item_ids, user_codes
from fhn_jax.retrieval.searcher import Hits, Searcher, check_outfits

# Outfits whose codes are unpacked at a time.
_CHUNK = 4096
# Outfits in a request to the database: some MB.
_BATCH = 1000


def query_vectors(
    codes: Codes, users: int | Shaped[np.ndarray, "..."], score: str = "asymmetric"
) -> Float32[np.ndarray, "u e"]:
    """Users as vectors, see the docstring of this module.

    Args:
      codes: the artifact.
      users, score: as for `user_codes`.
    Raises:
      ValueError: as `user_codes`; or a vector too large for float32.
    """
    values = user_codes(codes, users, score)
    factor = 10 * codes.alpha
    if codes.zero_item_term:
        factor *= 2
    elif codes.zero_user_term:
        factor = 0
    factor /= len(codes.slots) * codes.bits * len(codes.modalities)
    weighted = values * codes.lambda_user.astype(np.float64) * factor
    wrong = np.flatnonzero(np.abs(weighted).max(axis=1) > np.finfo(np.float32).max)
    if wrong.size:
        raise InputError(
            f"user vector {wrong[0]} does not fit into float32; divide the vector by a "
            "number"
        )
    ones = np.ones((len(values), 1))
    return np.concatenate([weighted, ones], axis=1).astype(np.float32)


def item_vectors(codes: Codes, category: str, items: Any) -> Float32[np.ndarray, "n e"]:
    """Items of one category as vectors, see the docstring of this module.

    Args:
      codes: the artifact.
      category: its name.
      items: their ids.
    Raises:
      ValueError: an unknown category or item.
    """
    ids = item_ids(codes, category, items)
    number = codes.categories.index(category)
    vectors = np.zeros((len(ids), codes.bits + 1), np.float32)
    for modality in codes.modalities:
        vectors[:, :-1] += codes.item_vectors(modality, number, ids)
    return vectors


def outfit_vectors(
    codes: Codes, outfits: Shaped[np.ndarray, "..."]
) -> Float32[np.ndarray, "n e"]:
    """Outfits as vectors, see the docstring of this module.

    Args:
      codes: the artifact.
      outfits: an item id for each slot.
    Raises:
      ValueError: an item id out of range, or another number of slots.
    """
    items = check_outfits(codes, outfits)
    vectors = np.empty((len(items), codes.bits + 1), np.float32)
    for start in range(0, len(items), _CHUNK):
        block = items[start : start + _CHUNK]
        gathered = [
            [
                codes.item_vectors(modality, category, block[:, slot])
                for slot, category in enumerate(codes.slots)
            ]
            for modality in codes.modalities
        ]
        rows = vectors[start : start + len(block)]
        rows[:, :-1] = sum(map(sum, gathered))
        # The score for a user of zeros.
        rows[:, -1] = outfit_scores(
            ScoreForm.of(codes),
            np.zeros((len(block), codes.bits), np.int8),
            gathered,
            codes.lambda_user,
            codes.lambda_item,
        )
    return vectors


class OutfitCollection:
    """Outfits in a Qdrant collection, searched as an `OutfitIndex` is.

    A point is an outfit: its id, its vector and, as payload, `items` and `names`: ids
    and names of its items, by category. Scores are those of `fhn_jax.codes.Scorer` to
    the precision of float32; which of several outfits with the k-th best score are found
    is up to Qdrant.

    Make one with `create`, or `open` one that was made.

        client = QdrantClient("http://localhost:6333")  # or ":memory:"
        outfits = OutfitCollection.create(client, "outfits", codes, stored)
        outfits.search(user=3, k=10, must_contain={"shoe": 4})
    """

    def __init__(self, client: Any, name: str, codes: Codes):
        """Use `create` or `open`."""
        self._client = client
        self._name = name
        self._codes = codes

    @classmethod
    def create(
        cls,
        client: Any,
        name: str,
        codes: Codes,
        outfits: Shaped[np.ndarray, "..."],
        *,
        batch: int = _BATCH,
    ) -> "OutfitCollection":
        """Makes a collection of some outfits, whole or not at all.

        Args:
          client: a `qdrant_client.QdrantClient`.
          name: of the collection.
          codes: of the items.
          outfits: an item id for each slot; ids are the rows.
          batch: outfits in a request.
        Raises:
          FileExistsError: there is such a collection.
          ValueError: an item id out of range, or another number of slots; batch < 1.
          ModuleNotFoundError: qdrant-client is not installed.
        """
        models = _models()
        check_count("batch", batch)
        items = check_outfits(codes, outfits)
        if client.collection_exists(name):
            raise ExistingFileError(
                f"collection {name!r} exists and is left as it is; delete it, or choose "
                "another name"
            )
        client.create_collection(
            name,
            vectors_config=models.VectorParams(
                size=codes.bits + 1, distance=models.Distance.DOT
            ),
            metadata={"codes": ItemTables.from_codes(codes).item_fingerprint},
        )
        collection = cls(client, name, codes)
        try:
            for category in codes.categories:
                # In memory there are no such indexes, as the client warns.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    client.create_payload_index(
                        name, _key(category), models.PayloadSchemaType.INTEGER
                    )
            for start in range(0, len(items), batch):
                ids = range(start, min(start + batch, len(items)))
                collection.upsert(ids, items[start : start + batch])
        except BaseException:
            client.delete_collection(name)
            raise
        return collection

    @classmethod
    def open(cls, client: Any, name: str, codes: Codes) -> "OutfitCollection":
        """Opens a collection that `create` made.

        Users are no part of it, so codes with other or more users of the same items
        may open it.

        Raises:
          FileNotFoundError: there is no such collection.
          ValueError: a collection of something else, or of other codes.
          ModuleNotFoundError: qdrant-client is not installed.
        """
        _models()
        if not client.collection_exists(name):
            raise MissingFileError(
                f"there is no collection {name!r}; make it with OutfitCollection.create"
            )
        about = client.get_collection(name).config.metadata or {}
        expected = ItemTables.from_codes(codes).item_fingerprint
        found = about.get("codes", "none")
        if found != expected:
            raise InputError(
                f"{name!r} is a collection of other codes: of items, pair weights or "
                f"slots with checksum {found[:12]}, not {expected[:12]}; open it with "
                "the codes it was made from, or make another with "
                "OutfitCollection.create"
            )
        return cls(client, name, codes)

    def __len__(self) -> int:
        """How many outfits there are."""
        return self._client.count(self._name, exact=True).count

    def upsert(
        self,
        ids: Sequence[int] | Int[np.ndarray, " n"],
        outfits: Shaped[np.ndarray, "..."],
    ) -> None:
        """Adds outfits, or replaces those that have these ids.

        Args:
          ids: of the outfits, at least 0.
          outfits: an item id for each slot; a request is made of all of them.
        Raises:
          ValueError: an item id out of range, another number of slots or ids, or a
            negative id.
        """
        ids = _check_ids(ids)
        items = check_outfits(self._codes, outfits)
        if len(ids) != len(items):
            raise InputError(f"{len(ids)} ids for {len(items)} outfits")
        if len(ids):
            self._client.upsert(
                self._name,
                points=_models().Batch(
                    ids=ids,
                    vectors=outfit_vectors(self._codes, items).tolist(),
                    payloads=[self._payload(row) for row in items.tolist()],
                ),
                wait=True,
            )

    def _payload(self, items: Sequence[int]) -> dict[str, dict[str, list]]:
        """What is stored beside the vector of an outfit."""
        codes = self._codes
        by_category = {name: [] for name in codes.categories}
        for category, item in zip(codes.slots, items, strict=True):
            by_category[codes.categories[category]].append(item)
        payload = {"items": by_category}
        if codes.names is not None:
            payload["names"] = {
                category: [names[item] for item in by_category[category]]
                for category, names in zip(codes.categories, codes.names, strict=True)
            }
        return payload

    # It asks `search_batch` about one user.
    search = Searcher.search

    def search_batch(
        self,
        users: Shaped[np.ndarray, "u ..."],
        k: int = 10,
        *,
        score: str = "asymmetric",
        exclude: Sequence[Sequence[int] | Shaped[np.ndarray, "..."]] | None = None,
        must_contain: Mapping[str, Any] | None = None,
        categories: Mapping[str, Any] | None = None,
        exact: bool = True,
    ) -> list[Hits]:
        """The k best outfits for each of several users: as `Searcher.search_batch`.

        Args:
          users, k, score, must_contain, categories: as for `Searcher.search_batch`.
          exclude: for each user the outfits to leave out; unknown ids leave out none.
          exact: compare all outfits; else Qdrant uses its graph, which is faster and
            may miss some.
        Raises:
          ValueError: as `Searcher.search_batch`.
        """
        models = _models()
        check_count("k", k)
        queries = query_vectors(self._codes, users, score)
        if exclude is None:
            exclude = [()] * len(queries)
        if len(exclude) != len(queries):
            raise InputError(
                f"exclude has {len(exclude)} lists of outfits, expected one for each of "
                f"{len(queries)} users"
            )
        must, must_not = self._conditions(must_contain or {}, categories or {})
        requests = [
            models.QueryRequest(
                query=query.tolist(),
                filter=models.Filter(
                    must=must,
                    must_not=[
                        *must_not,
                        models.HasIdCondition(has_id=_check_ids(outfits)),
                    ],
                ),
                params=models.SearchParams(exact=exact),
                limit=int(k),
                with_payload=["items"],
            )
            for query, outfits in zip(queries, exclude, strict=True)
        ]
        if not requests:
            return []
        with warnings.catch_warnings():
            # In memory the search is exact whatever is asked, as the client warns.
            warnings.filterwarnings("ignore", "Local mode performs exact")
            answers = self._client.query_batch_points(self._name, requests)
        return [self._hits(answer.points) for answer in answers]

    def _conditions(self, must_contain, categories) -> tuple[list[Any], list[Any]]:
        """What an outfit must and must not be."""
        models, codes = _models(), self._codes
        must = [
            models.FieldCondition(
                key=_key(name), match=models.MatchValue(value=int(item))
            )
            for name, items in must_contain.items()
            for item in item_ids(codes, name, items)
        ]
        must_not = [
            models.FieldCondition(
                key=_key(name),
                match=models.MatchExcept(
                    **{"except": item_ids(codes, name, items).tolist()}
                ),
            )
            for name, items in categories.items()
        ]
        return must, must_not

    def _hits(self, points: Sequence[Any]) -> Hits:
        """Found points, of equal scores the lower id first."""
        codes = self._codes
        ids = np.array([point.id for point in points], np.int64)
        scores = np.array([point.score for point in points], np.float64)
        items = np.empty((len(points), len(codes.slots)), np.int32)
        for row, point in zip(items, points, strict=True):
            row[:] = list(self._in_slots(point.payload["items"]))
        order = np.lexsort((ids, -scores))
        return Hits(ids[order], scores[order], items[order])

    def _in_slots(self, items: Mapping[str, Sequence[int]]) -> Iterator[int]:
        left = {name: iter(ids) for name, ids in items.items()}
        for category in self._codes.slots:
            yield next(left[self._codes.categories[category]])


def _key(category: str) -> str:
    """Where the payload has the items of a category; quoted, as it may hold dots."""
    return f'items."{category}"'


def _check_ids(outfits) -> list[int]:
    ids = np.asarray(outfits)
    if ids.size == 0:
        return []
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InputError(
            f"outfits are {ids.dtype} {list(ids.shape)}, expected a list of ids"
        )
    if ids.min() < 0:
        raise InputError(f"outfit {ids.min()} is no id; expected at least 0")
    return ids.tolist()


def _models():
    try:
        from qdrant_client import models
    except ModuleNotFoundError:
        raise MissingPackageError(
            "a collection in Qdrant needs the package qdrant-client: "
            'pip install "fhn_jax[qdrant]"'
        ) from None
    return models
