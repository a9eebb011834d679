"""The recommender: search, composition, learning and explanations for a visitor."""

import dataclasses
import functools
import itertools
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from fhn_jax.codes import Codes, load
from fhn_jax.data.catalogue import Outfits
from fhn_jax.data.item_names import ItemNames, read_names
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError, UserError
from fhn_jax.new_users import BprFit, Posterior, no_clicks
from fhn_jax.recommender.first_looks import first_looks
from fhn_jax.recommender.pages import capped_page, free_pages
from fhn_jax.recommender.reasons import explain
from fhn_jax.recommender.stored import owned_outfits, stored_index
from fhn_jax.recommender.suggestions import (
    NO_RULES,
    Composed,
    Judged,
    Reasons,
    Rules,
    Suggestion,
    interleave,
    limit,
    slot_names,
)
from fhn_jax.retrieval.attributes import Attributes
from fhn_jax.retrieval.composer import Composer, ExternalItem, FixedItems
from fhn_jax.retrieval.filters import Filter, Only, Seen, rows_of
from fhn_jax.retrieval.items import ItemTables
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.retrieval.outfit_search import OutfitSearch

_log = logging.getLogger("fhn_jax.recommender")
# Only so many of the newest judgements shape the code, so that learning stays fast.
_MOST_CLICKS = 300
# Of the standard deviation of what is known of a visitor, when a code is drawn from it.
DRAWN = 0.25
_LONGEST_TITLE = 200
# In which the shards of a cluster must answer.
_SHARDS_S = 5.0


class Recommender:
    """Recommends, composes, compares and learns; the same for all visitors.

    It keeps nothing about a visitor: what was judged so far is an argument. `open` takes
    all there is in the workdir of a run.

    Args:
      codes: of items and known users.
      index: the stored outfits.
      names: ids, titles and attributes of the items, ids of the users.
      keep: folder to keep in what composing needs, for the next start.
      owned: what known users like, read when it is needed; nothing by default.
    Attributes:
      codes, index, names: as given.
      slots: a name for each slot of an outfit.

    >>> rng = np.random.default_rng(0)
    >>> items = {name: rng.normal(size=(50, 64)) for name in ("top", "shoe")}
    >>> codes = Codes.from_embeddings(items)
    >>> outfits = rng.integers(50, size=(200, 2))
    >>> from fhn_jax.retrieval.searcher import Searcher
    >>> recommender = Recommender(codes, Searcher.in_memory(codes, outfits))
    >>> stranger = recommender.start(None)
    >>> nothing = Judged.nothing(len(recommender.slots))
    >>> best = recommender.recommend(stranger, 3, judged=nothing)
    >>> judged = Judged(np.array([best[2].items], np.int32), np.array([True]))
    >>> visitor = recommender.learn(None, judged)
    >>> before, after = (
    ...     recommender.scores(code, [best[2].items])[0] for code in (stranger, visitor)
    ... )
    >>> after > before
    True
    >>> best[2].items in [s.items for s in recommender.recommend(visitor, 3, judged=judged)]
    False
    """

    def __init__(
        self,
        codes: Codes,
        index: OutfitSearch,
        names: ItemNames | None = None,
        keep: Path | None = None,
        owned: Callable[[], Seen] | None = None,
    ):
        self.codes, self.index, self._read_owned = codes, index, owned
        self.names = names or ItemNames(codes.categories, codes.num_items, codes.names)
        if index.attributes is None and (columns := self.names.columns()):
            index.attributes = Attributes.in_memory(codes, columns)
        self.slots = slot_names(codes)
        self._tables, self._keep = ItemTables.from_codes(codes), keep
        self._learner = BprFit(codes)
        self._stranger = self._learner.fit(no_clicks(codes), no_clicks(codes), 1)
        self._making = threading.Lock()

    @classmethod
    def open(
        cls,
        workdir: str | os.PathLike,
        root: str | os.PathLike,
        variant: str,
        *,
        index: str | os.PathLike | None = None,
        ray_address: str = "",
    ) -> "Recommender":
        """The recommender of a run.

        Args:
          workdir: of the run; keeps what is made for the next start.
          root, variant: of the data: names, and the outfits if there is no index.
          index: folder of an `OutfitIndex`; by default of the data's outfits, in the
            workdir, where it is built if it is missing, damaged or of other codes.
          ray_address: of the head of a Ray cluster that shares the index; if empty, this
            process searches.
        Raises:
          ConnectionError: no cluster answers at the address.
          FileNotFoundError, ValueError: no codes, index or data, damaged ones, or those
            of another run.
        """
        codes = load(workdir)
        names = read_names(root, variant, codes)
        if index is not None and ray_address:
            from fhn_jax.integrations.cluster import join
            from fhn_jax.integrations.ray import ClusterIndex

            join(ray_address)
            outfits = ClusterIndex.open(index, codes)
            outfits.seconds = _SHARDS_S  # Those who wait are people.
        elif index is not None:
            outfits = OutfitIndex.open(index, codes)
        else:
            outfits = stored_index(Path(workdir), codes, root, variant, names)
        return cls(
            *(codes, outfits, names, Path(workdir) / "composing"),
            owned=lambda: owned_outfits(codes, read_catalogue(root, variant)),
        )

    def __repr__(self) -> str:
        return f"Recommender({self.index!r}; {self.codes!r})"

    def warm_up(self) -> None:
        """Loads what the first request would wait for."""
        self.recommend(self.start(None), 1, judged=Judged.nothing(len(self.slots)))
        first = np.zeros((1, len(self.slots)), np.int32)
        self.learn(None, Judged(first, np.array([True])))
        self.looks(1, judged=Judged.nothing(len(self.slots)))

    def title(self, category: int, item: int) -> str:
        """What an item is called."""
        title = self.names.title(category, item) or self.names.id(category, item)
        if title:
            return title[:_LONGEST_TITLE]
        return f"{self.codes.categories[category].capitalize()} {item}"

    # --- user codes -------------------------------------------------------------------

    def start(self, user: int | None) -> Float32[np.ndarray, " d"]:
        """The code of a known user, or of somebody of whom nothing is known.

        Raises:
          ValueError: there is no such user.
        """
        if user is None:
            return self._stranger.latents[0]
        if not 0 <= user < self.codes.num_users:
            raise InputError(
                f"user {user} is not known; expected 0 to {self.codes.num_users - 1}"
            )
        return self.codes.user_latents[user]

    def learn(self, user: int | None, judged: Judged) -> Float32[np.ndarray, " d"]:
        """The code that follows from judgements.

        Args:
          user: the known user that the visitor was opened as, from whose code learning
            starts.
          judged: the oldest of many are left out.
        """
        return self.posterior(user, judged).mean

    def posterior(self, user: int | None, judged: Judged) -> Posterior:
        """What judgements say of the code, and how surely, see `BprFit.posterior`.

        Args:
          user, judged: as `learn`.
        """
        items, liked = judged.items[:_MOST_CLICKS], judged.liked[:_MOST_CLICKS]
        likes, dislikes = (
            Outfits(np.zeros(len(some), np.int32), some)
            for some in (items[liked], items[~liked])
        )
        around = None if user is None else self.start(user)
        return self._learner.posterior(likes, dislikes, around)

    def bits(self, latents: Float32[np.ndarray, " d"]) -> list[int]:
        """The binary code of a visitor, as 0 and 1."""
        # As the hash layers have it: the sign of 0 is +1, 0.5 is not yet a 1.
        ones = latents > 0.5 if self.codes.alphabet == "01" else latents >= 0
        return ones.astype(int).tolist()

    # --- outfits ----------------------------------------------------------------------

    def seen(self, user: int | None, judged: Judged) -> list[Filter]:
        """What leaves out what was judged, and what a known user likes.

        Args:
          user: the known user that the visitor was opened as.
        """
        filters = judged.others(self.codes.templates)
        if user is None or self._read_owned is None:
            return filters
        return [*filters, *self._owned.without(user)]

    @functools.cached_property
    def _owned(self) -> Seen:
        assert self._read_owned is not None
        try:
            return self._read_owned()
        except UserError as error:  # The data are gone, or others.
            _log.warning("what known users like is not left out: %s", error)
            slots = np.empty((0, len(self.codes.slots)), np.int32)
            return Seen.of(np.empty(0, np.int32), slots, self.codes.num_users)

    def recommend(
        self,
        latents: Float32[np.ndarray, " d"],
        k: int,
        *,
        judged: Judged,
        explore: float = 0.0,
        seed: int = 0,
        page: int = 0,
        user: int | None = None,
        rules: Rules = NO_RULES,
        posterior: Posterior | None = None,
    ) -> list[Suggestion]:
        """Stored outfits that were not judged yet, in the order to show them.

        Most are the best for the visitor, but that no item is in more of them than
        `limit` says, as far as there are others; `rules` may have other caps, which
        hold without exception. The share `explore` is the best for a code drawn from
        `posterior` (Thompson sampling): the more was judged, the closer it is to the
        visitor's, and the fewer of these outfits are others than the best.

        Args:
          latents: the visitor's code.
          k: how many; there are fewer if the index has no more.
          judged: are left out, unless the rules include them.
          explore: 0 to 1; without a posterior nothing explores.
          seed: of the draw: equal arguments give equal outfits.
          page: 0 for the best, 1 for the best after those, and so on; what explores is
            drawn anew.
          user: the known user that the visitor was opened as: what they like is left out
            as well.
          rules: what outfits must be besides.
          posterior: of the visitor.
        Raises:
          InputError: unknown attributes, items or categories in the rules.
        """
        users = [latents]
        explores = round(explore * k) if posterior else 0
        if posterior and explores:
            rng = np.random.default_rng([seed, page])
            users.append(posterior.draw(rng, DRAWN))
        filters, counts = self.filters(user, judged, rules), (k - explores, explores)
        if rules.at_most:
            best, others = capped_page(
                *(self.index, self.codes, users, counts, page, filters, rules.at_most)
            )
        else:
            most = limit(k, len(judged))
            ((best, others),) = free_pages(
                *(self.index, users, counts, page, filters, most)
            )
        return interleave(best, self._rescored(others, latents))

    def looks(self, k: int, *, judged: Judged) -> list[Suggestion]:
        """Stored outfits for somebody new to choose from, see `first_looks`.

        Args:
          judged: are left out.
        """
        known = set(map(tuple, judged.items.tolist()))
        return [look for look in self._looks if look.items not in known][:k]

    @functools.cached_property
    def _looks(self) -> list[Suggestion]:
        stranger = self.posterior(None, Judged.nothing(len(self.slots)))
        known, left = self.codes.user_latents, self._available
        about = known, stranger, self.index, self.scores, left
        categories = [self.codes.categories[c] for c in self.codes.slots]
        several = [
            [categories[slot] for slot in each]
            for each in self.codes.templates
            if len(each) > 1
        ]
        # A piece alone is no look, unless there are no others.
        return (first_looks(*about, several) if several else []) or first_looks(*about)

    def filters(
        self, user: int | None, judged: Judged, rules: Rules = NO_RULES
    ) -> list[Filter]:
        """What outfits must be that are recommended, see `recommend`."""
        seen = [] if rules.include_seen else self.seen(user, judged)
        return [*self._available, *seen, *rules.filters]

    @functools.cached_property
    def _available(self) -> list[Filter]:
        """What leaves out items that the shop has no more."""
        return [Only(self.names.available)] if self.names.available else []

    def why_empty(
        self,
        latents: Float32[np.ndarray, " d"],
        *,
        judged: Judged,
        user: int | None = None,
        rules: Rules = NO_RULES,
    ) -> str | None:
        """What leaves no outfit to recommend; None if there are some, or none at all."""
        filters = self.filters(user, judged, rules)
        code = latents.astype(np.float64)
        return self.index.search(code, 1, filters=filters).emptied_by

    def compose(
        self,
        latents: Float32[np.ndarray, " d"],
        k: int,
        *,
        fixed: Mapping[str, FixedItems],
        candidates: Mapping[str, list[int]] | None = None,
        templates: Sequence[Sequence[str]] | None = None,
        rules: Rules = NO_RULES,
        owned: bool = False,
    ) -> Composed:
        """The best outfits of any items, see `Composer.compose`.

        Args:
          owned: the candidates are the visitor's, whether the shop has them or not.
        """
        own = (owned and candidates) or ()
        left = {n: some for n, some in self.names.available.items() if n not in own}
        lists = [Only(some) for some in (candidates, left) if some]
        found = self._composer.compose(
            latents,
            k,
            fixed=fixed,
            filters=[*lists, *rules.filters],
            at_most=rules.at_most,
            templates=templates,
        )
        outfits = [
            Suggestion(tuple(items), float(score))
            for items, score in zip(found.items.tolist(), found.scores, strict=True)
        ]
        return Composed(outfits, found.is_greedy, found.emptied_by)

    def compose_with_photos(
        self,
        latents: Float32[np.ndarray, " d"],
        k: int,
        *,
        fixed: Mapping[str, list[int]],
        candidates: Mapping[str, list[int]],
        photos: Mapping[str, Sequence[tuple[int, ExternalItem]]],
        templates: Sequence[Sequence[str]] | None = None,
        rules: Rules = NO_RULES,
        owned: bool = False,
    ) -> Composed:
        """The best outfits of a wardrobe that has photos in it; exactly.

        Each way to put at most one photo into every category is composed by itself, and
        the best of all are the answer.

        Args:
          candidates: category -> items to choose from; without an entry all, unless
            there are photos of it. An empty entry fixes the category's photo.
          photos: category -> ids and codes.
          templates, owned: as `compose`.
          rules: with caps only where every photo is fixed; photos meet all conditions.
        Returns:
          outfits in which the item of a photo is -1 - id.
        Raises:
          ValueError: at_most with photos to choose from; or as `Composer.compose`.
        """
        names = [name for name in photos if name not in fixed]
        choices = [
            {n: photo for n, photo in zip(names, choice, strict=True) if photo}
            for choice in itertools.product(*([None, *photos[name]] for name in names))
        ]
        # Without those that leave out a category of which there are photos alone.
        choices = [
            worn
            for worn in choices
            if all(n in worn or candidates.get(n) for n in names)
        ]
        if rules.at_most and len(choices) > 1:
            raise InputError(
                "at_most cannot be combined with photos to choose from; leave it out, "
                "or fix a photo"
            )
        found: list[Suggestion] = []
        emptied_by = None
        for worn in choices:
            composed = self.compose(
                latents,
                k,
                fixed={**fixed, **{name: item for name, (_, item) in worn.items()}},
                candidates={n: c for n, c in candidates.items() if n not in worn},
                templates=templates,
                rules=rules,
                owned=owned,
            )
            emptied_by = emptied_by or composed.emptied_by
            ids = {self.codes.categories.index(n): ~i for n, (i, _) in worn.items()}
            for outfit in composed.outfits:
                items = tuple(
                    ids[c] if i >= self.codes.num_items[c] else i
                    for c, i in zip(self.codes.slots, outfit.items, strict=True)
                )
                found.append(dataclasses.replace(outfit, items=items))
        found.sort(key=lambda outfit: (-outfit.score, outfit.items))
        by = None if found else emptied_by
        return Composed(found[:k], bool(rules.at_most), by)

    def prepare_composing(self) -> None:
        """Makes and loads what the first `compose` would wait for."""
        counts = self.codes.num_items
        if all(counts):
            self._composer.compose(self._stranger.latents[0], 1)

    @property
    def _composer(self) -> Composer:
        with self._making:
            return self._made_composer

    @functools.cached_property
    def _made_composer(self) -> Composer:
        if self._keep is None:
            return Composer(self._tables, attributes=self.index.attributes)
        return Composer.kept(self._keep, self._tables, self.index.attributes)

    def similar(self, category: int, item: int, k: int) -> list[tuple[int, float]]:
        """Items of the same category with the most equal bits, and the share of them.

        Of equal ones the lower ids come first.
        """
        packed = self._tables.packed[category]
        differ = np.bitwise_count(packed ^ packed[item]).sum(axis=1, dtype=np.int64)
        differ[item] = np.iinfo(np.int64).max
        there = self.names.available.get(self.codes.categories[category])
        some = np.arange(len(differ)) if there is None else there
        some = some[some != item]
        order = some[np.lexsort((some, differ[some]))[:k]]
        total = 8 * packed.shape[1]
        return [(int(i), 1 - int(differ[i]) / total) for i in order]

    def explain(
        self, latents: Float32[np.ndarray, " d"], items: Sequence[int]
    ) -> Reasons:
        """Which items and which pairs give an outfit its score; exactly."""
        return explain(self._tables, self.codes.slots, latents, items)

    def scores(
        self, latents: Float32[np.ndarray, " d"], outfits: Sequence[Sequence[int]]
    ) -> list[float]:
        """The scores of outfits, each an item for every slot or -1 for none."""
        items = np.array(outfits, np.int64).reshape(-1, len(self.slots))
        tables = self._tables
        weights = tables.user_vectors(latents.astype(np.float64))
        units = np.zeros(len(items), np.int64)
        for number, template in enumerate(tables.templates):
            own = rows_of(items, template.slots)
            some = items[own][:, list(template.slots)]
            units[own] = tables.compatibilities(some, number)
            for category, ids in zip(template.form.slots, some.T, strict=True):
                affinities = tables.affinities_of(category, ids, weights)[0]
                units[own] += template.per_item * affinities.astype(np.int64)
        return tables.to_scores(units).tolist()

    def _rescored(
        self, others: Sequence[Suggestion], latents: Float32[np.ndarray, " d"]
    ) -> list[Suggestion]:
        """The same with the visitor's score."""
        scores = self.scores(latents, [other.items for other in others])
        return [
            dataclasses.replace(other, score=score)
            for other, score in zip(others, scores, strict=True)
        ]
