"""Outfits in a Qdrant collection: in memory, in a folder or on a server."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Shaped

from fhn_jax.codes import Codes
from fhn_jax.errors import (
    ExistingFileError,
    InputError,
    MissingFileError,
    MissingPackageError,
)
from fhn_jax.integrations.vectors import outfit_vectors, query_vectors
from fhn_jax.retrieval.arguments import (
    check_count,
    check_outfits,
    outfit_ids,
    template_numbers,
)
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.filters import Conditions, OneOrEach, resolve_each
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.outfit_search import (
    Hits,
    OutfitSearch,
    Templates,
    best_without,
)

# Outfits in a request to the database: some MB.
_BATCH = 1000
# Where the payload has the number of the template.
_TEMPLATE = "template"


class OutfitCollection(OutfitSearch):
    """Outfits in a Qdrant collection, searched as an `OutfitIndex` is.

    A point is an outfit: its id, its vector and, as payload, `items` and `names`: ids
    and names of its items, by category; and `template`, its number, where there are
    several. Scores are those of `fhn_jax.codes.Scorer` to the precision of float32; which
    of several outfits with the k-th best score are found is up to Qdrant.

    Make one with `create`, or `open` one that was made.

        client = QdrantClient("http://localhost:6333")  # or ":memory:"
        outfits = OutfitCollection.create(client, "outfits", codes, stored)
        outfits.search(user=3, k=10, filters=MustContain({"shoe": 4}))
    """

    def __init__(
        self,
        client: Any,
        name: str,
        codes: Codes,
        attributes: Attributes | None = None,
    ):
        """Use `create` or `open`."""
        super().__init__(codes, attributes)
        self._client = client
        self._name = name

    @classmethod
    def create(
        cls,
        client: Any,
        name: str,
        codes: Codes,
        outfits: Shaped[np.ndarray, "..."],
        *,
        batch: int = _BATCH,
        attributes: Attributes | None = None,
    ) -> "OutfitCollection":
        """Makes a collection of some outfits, whole or not at all.

        Args:
          client: a `qdrant_client.QdrantClient`.
          name: of the collection.
          codes: of the items.
          outfits: an item id for each slot, -1 where an outfit's template has none;
            ids are the rows.
          batch: outfits in a request.
          attributes: of the items, for filters; no part of the collection.
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
        collection = cls(client, name, codes, attributes)
        try:
            keys = [_key(category) for category in codes.categories]
            if len(codes.templates) > 1:
                keys.append(_TEMPLATE)
            for key in keys:
                # In memory there are no such indexes, as the client warns.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    client.create_payload_index(
                        name, key, models.PayloadSchemaType.INTEGER
                    )
            for start in range(0, len(items), batch):
                ids = range(start, min(start + batch, len(items)))
                collection.upsert(ids, items[start : start + batch])
        except BaseException:
            client.delete_collection(name)
            raise
        return collection

    @classmethod
    def open(
        cls,
        client: Any,
        name: str,
        codes: Codes,
        *,
        attributes: Attributes | None = None,
    ) -> "OutfitCollection":
        """Opens a collection that `create` made.

        Users are no part of it, so codes with other or more users of the same items
        may open it; `attributes` are, as for `create`, for filters.

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
        return cls(client, name, codes, attributes)

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
        numbers = outfit_ids(ids).tolist()
        items = check_outfits(self._codes, outfits)
        if len(numbers) != len(items):
            raise InputError(f"{len(numbers)} ids for {len(items)} outfits")
        if numbers:
            self._client.upsert(
                self._name,
                points=_models().Batch(
                    ids=numbers,
                    vectors=outfit_vectors(self._codes, items).tolist(),
                    payloads=[self._payload(row) for row in items.tolist()],
                ),
                wait=True,
            )

    def _payload(self, items: Sequence[int]) -> dict[str, Any]:
        """What is stored beside the vector of an outfit."""
        codes = self._codes
        by_category = {name: [] for name in codes.categories}
        for category, item in zip(codes.slots, items, strict=True):
            if item >= 0:
                by_category[codes.categories[category]].append(item)
        payload: dict[str, Any] = {"items": by_category}
        if len(codes.templates) > 1:
            slots = tuple(slot for slot, item in enumerate(items) if item >= 0)
            payload[_TEMPLATE] = codes.templates.index(slots)
        if codes.names is not None:
            payload["names"] = {
                category: [names[item] for item in by_category[category]]
                for category, names in zip(codes.categories, codes.names, strict=True)
            }
        return payload

    def find(
        self,
        users: Shaped[np.ndarray, "u ..."],
        k: int,
        score: str,
        filters: OneOrEach,
        templates: Templates,
        exact: bool = True,
    ) -> list[Hits]:
        """The k best outfits for each user, see `OutfitSearch`.

        Args:
          filters: as for `OutfitSearch.search_batch`; to exclude an id that no outfit
            has changes nothing.
          exact: compare all outfits; else Qdrant uses its graph, which is faster and
            may miss some.
        """
        queries = query_vectors(self._codes, users, score)
        conditions = resolve_each(filters, self._codes, len(queries), self.attributes)
        wanted = template_numbers(self._codes, templates)

        def find_each(some: slice, count: int) -> list[Hits]:
            return self._query(queries[some], conditions[some], wanted, count, exact)

        answers = find_each(slice(None), int(k))
        for user, each in enumerate(conditions):
            if each.excluded_items is not None:

                def find(count: int, user: int = user) -> Hits:
                    return find_each(slice(user, user + 1), count)[0]

                answers[user] = best_without(
                    each.excluded_items, self._codes.slots, int(k), find
                )
        return answers

    def _query(
        self,
        queries: Float32[np.ndarray, "u e"],
        conditions: Sequence[Conditions],
        templates: Sequence[int],
        k: int,
        exact: bool,
    ) -> list[Hits]:
        """The k best outfits for each query, those excluded by items included."""
        models = _models()
        if k > _BATCH:  # A server makes room for as many as it is asked for.
            k = min(k, max(len(self), 1))
        requests = [
            models.QueryRequest(
                query=query.tolist(),
                filter=self._filter(each, templates),
                params=models.SearchParams(exact=exact),
                limit=k,
                with_payload=["items"],
            )
            for query, each in zip(queries, conditions, strict=True)
        ]
        if not requests:
            return []
        with warnings.catch_warnings():
            # In memory the search is exact whatever is asked, as the client warns.
            warnings.filterwarnings("ignore", "Local mode performs exact")
            answers = self._client.query_batch_points(self._name, requests)
        return [self._hits(answer.points) for answer in answers]

    def _filter(self, conditions: Conditions, templates: Sequence[int]) -> Any:
        """Conditions as a filter of Qdrant, but for outfits excluded by items."""
        models, names = _models(), self._codes.categories
        must = [
            models.FieldCondition(key=_key(names[c]), match=models.MatchValue(value=i))
            for c, items in conditions.required.items()
            for i in items.tolist()
        ]
        slots, all_ = np.array(self._codes.slots), self._codes.templates
        wanted = conditions.required.keys()
        templates = [n for n in templates if wanted <= {*slots[list(all_[n])].tolist()}]
        if len(templates) < len(all_):
            of_these = models.MatchAny(any=list(templates))
            must.append(models.FieldCondition(key=_TEMPLATE, match=of_these))
        must_not = [
            models.FieldCondition(
                key=_key(names[c]),
                match=models.MatchExcept(**{"except": np.flatnonzero(mask).tolist()}),
            )
            for c, mask in conditions.allowed.items()
        ]
        excluded = models.HasIdCondition(has_id=conditions.excluded_ids.tolist())
        return models.Filter(must=must, must_not=[*must_not, excluded])

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
            yield next(left[self._codes.categories[category]], -1)


def _key(category: str) -> str:
    """Where the payload has the items of a category; quoted, as it may hold dots."""
    return f'items."{category}"'


def _models():
    try:
        from qdrant_client import models
    except ModuleNotFoundError:
        raise MissingPackageError(
            "a collection in Qdrant needs the package qdrant-client: "
            'pip install "fhn_jax[qdrant]"'
        ) from None
    return models
