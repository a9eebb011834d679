"""What any recommender should beat: popularity, neighbours, and a linear model.

Each gives every item a value for a user; an outfit is worth the mean of its items. So
they know no compatibility, and rank outfits of any template.

`popularity`   how many users like a training outfit with the item; the same for all
`neighbours`   cosine of the item's vector and the mean of those that the user likes, of
               the item's category
`linear`       ridge regression of a user's training outfits, liked and not, on the
               vectors, one for each category
`als`          matrix factorisation of who likes which item, by the package implicit; it
               knows ids alone, so a new item is worth nothing
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float32, Float64, Int

from fhn_jax.data.catalogue import Catalogue, Outfits

# Users are served so many at a time.
_AT_ONCE = 64
_RIDGE = 10.0
# Vectors are reduced to so many principal components, found from so many items.
_WIDTH, _SAMPLE = 256, 10_000
_FACTORS = 64

# users [b] → values of all items [b, n] by global id
Values = Callable[[Int[np.ndarray, " b"]], Float32[np.ndarray, "b n"]]


def baselines(
    catalogue: Catalogue, vectors: Float32[np.ndarray, "n f"] | None, seed: int = 0
) -> dict[str, Values]:
    """All that can be computed, by name; learned from the train split.

    Args:
      catalogue: the data.
      vectors: of all items, rows by global id; None leaves out those that need them.
      seed: of what is drawn.
    """
    found = {"popularity": _popularity(catalogue)}
    if vectors is not None:
        standard = _standard(vectors, seed)
        found["neighbours"] = _neighbours(catalogue, standard)
        found["linear"] = _linear(catalogue, standard, seed)
    factors = _als(catalogue, seed)
    if factors is not None:
        found["als"] = factors
    return found


def outfit_scores(
    values: Values,
    catalogue: Catalogue,
    users: Int[np.ndarray, " n"],
    items: Int[np.ndarray, "n s"],
) -> Float64[np.ndarray, " n"]:
    """What outfits are worth to their users: the mean of their items.

    Args:
      items: ids within the category of the slot, -1 where an outfit has none.
    """
    of_outfits = catalogue.global_ids(items)
    scores = np.empty(len(users))
    order = np.argsort(users, kind="stable")
    each, starts = np.unique(users[order], return_index=True)
    rows = np.split(order, starts[1:])
    for start in range(0, len(each), _AT_ONCE):
        some = each[start : start + _AT_ONCE]
        for worth, of_user in zip(values(some), rows[start:], strict=False):
            scores[of_user] = mean_of_items(worth, of_outfits[of_user])
    return scores


def mean_of_items(
    worth: Float32[np.ndarray, " n"], outfits: Int[np.ndarray, "m s"]
) -> Float64[np.ndarray, " m"]:
    """The mean of the items' values; the items are global ids, -1 for none."""
    there = outfits >= 0
    values = np.where(there, worth[outfits], 0.0)
    return values.sum(axis=1, dtype=np.float64) / there.sum(axis=1)


def liked_items(
    catalogue: Catalogue,
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """Users, and global ids of items of their training positives; each pair once."""
    train = catalogue.splits["train"].positives
    items = catalogue.global_ids(train.items)
    pairs = [
        train.users.astype(np.int64)[column >= 0] * catalogue.num_items
        + column[column >= 0]
        for column in items.T
    ]
    return np.divmod(np.unique(np.concatenate(pairs)), catalogue.num_items)


def popularity(catalogue: Catalogue) -> Float64[np.ndarray, " n"]:
    """Of each item the share of users who like a training outfit with it."""
    return _likes(catalogue) / catalogue.num_users


def _likes(catalogue: Catalogue) -> Int[np.ndarray, " n"]:
    """Of each item the number of users who like a training outfit with it."""
    return np.bincount(liked_items(catalogue)[1], minlength=catalogue.num_items)


def _popularity(catalogue: Catalogue) -> Values:
    # Whole numbers, so that outfits whose items have as many likes tie.
    worth = _likes(catalogue).astype(np.float32)
    return lambda users: np.broadcast_to(worth, (len(users), len(worth)))


def _standard(
    vectors: Float32[np.ndarray, "n f"], seed: int
) -> Float32[np.ndarray, "n c"]:
    """Principal components of the vectors, without their mean, of length 1."""
    centred = vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    if centred.shape[1] > _WIDTH:
        rng = np.random.default_rng(seed)
        count = min(len(centred), _SAMPLE)
        some = centred[rng.choice(len(centred), count, replace=False)]
        centred = centred @ np.linalg.eigh(some.T @ some)[1][:, -_WIDTH:]
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(length > 0, length, 1)


def _by_user(outfits: Outfits, num_users: int) -> list[Int[np.ndarray, " _"]]:
    """Rows of each user."""
    order = np.argsort(outfits.users, kind="stable")
    edges = np.searchsorted(outfits.users[order], np.arange(1, num_users))
    return np.split(order, edges)


def _neighbours(catalogue: Catalogue, vectors: Float32[np.ndarray, "n f"]) -> Values:
    train = catalogue.splits["train"].positives
    items, rows = (
        catalogue.global_ids(train.items),
        _by_user(train, catalogue.num_users),
    )

    def values(users):
        worth = np.zeros((len(users), len(vectors)), np.float32)
        for place, user in enumerate(users):
            mine = items[rows[user]]
            mine = mine[mine >= 0]
            for first, last in _categories(catalogue):
                liked = mine[(mine >= first) & (mine < last)]
                if len(liked):
                    mean = vectors[liked].mean(axis=0)
                    length = np.linalg.norm(mean) or 1
                    worth[place, first:last] = vectors[first:last] @ (mean / length)
        return worth

    return values


def _linear(
    catalogue: Catalogue, vectors: Float32[np.ndarray, "n f"], seed: int
) -> Values:
    """Ridge regression of ±1 on the sum of an outfit's vectors, category by category.

    Where the train split has no negatives, as many outfits of items drawn from the
    training positives stand in.
    """
    split = catalogue.splits["train"]
    liked = split.positives
    disliked = split.negatives.get("random") or _drawn(liked, seed)
    rows = [_by_user(part, catalogue.num_users) for part in (liked, disliked)]
    items = [catalogue.global_ids(part.items) for part in (liked, disliked)]
    ranges = _categories(catalogue)
    width = vectors.shape[1]

    def features(outfits):
        columns = np.zeros((len(outfits), len(ranges), width), np.float32)
        for number, (first, last) in enumerate(ranges):
            for column in outfits.T:
                there = (column >= first) & (column < last)
                columns[there, number] += vectors[column[there]]
        return columns.reshape(len(outfits), -1)

    def values(users):
        worth = np.empty((len(users), len(vectors)), np.float32)
        for place, user in enumerate(users):
            x = np.concatenate(
                [features(i[r[user]]) for i, r in zip(items, rows, strict=True)]
            )
            y = np.repeat([1.0, -1.0], [len(r[user]) for r in rows])
            weights = np.where(y > 0, (y < 0).sum() / max((y > 0).sum(), 1), 1.0)
            weights = weights.astype(np.float32)
            y = y.astype(np.float32)
            # In the dual form, which is as large as the user's outfits are many.
            gram = x @ x.T + _RIDGE * np.diag(1 / np.maximum(weights, 1e-6))
            solved = x.T @ np.linalg.solve(gram, y - np.average(y, weights=weights))
            for number, (first, last) in enumerate(ranges):
                part = solved[number * width : (number + 1) * width]
                worth[place, first:last] = vectors[first:last] @ part
        return worth

    return values


def _drawn(liked: Outfits, seed: int) -> Outfits:
    """Outfits of items drawn from those of others, of the same templates and users."""
    rng = np.random.default_rng(seed)
    items = liked.items.copy()
    for column in items.T:
        there = np.flatnonzero(column >= 0)
        column[there] = column[rng.permutation(there)]
    return Outfits(liked.users, items)


def _als(catalogue: Catalogue, seed: int) -> Values | None:
    """Factors of the items that users like; None unless implicit is installed."""
    try:
        from implicit.als import (  # pyright: ignore[reportMissingImports]
            AlternatingLeastSquares,
        )
        from scipy.sparse import csr_matrix
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        return None
    pairs = liked_items(catalogue)
    likes = csr_matrix(
        (np.ones(len(pairs[0]), np.float32), pairs),
        shape=(catalogue.num_users, catalogue.num_items),
    )
    with threadpool_limits(1, "blas"):  # It warns otherwise, already when it is made.
        model = AlternatingLeastSquares(
            factors=_FACTORS, random_state=seed, use_gpu=False, num_threads=1
        )
        model.fit(likes, show_progress=False)
    users, items = np.asarray(model.user_factors), np.asarray(model.item_factors)
    return lambda some: (users[some] @ items.T).astype(np.float32)


def _categories(catalogue: Catalogue) -> list[tuple[int, int]]:
    return list(zip(catalogue.offsets, catalogue.offsets[1:], strict=False))


def describe(found: Mapping[str, Values]) -> str:
    """Which baselines are left out, and what they need; "" if none is."""
    absent = []
    if "linear" not in found:
        absent.append("neighbours and linear need vectors of text or images")
    if "als" not in found:
        absent.append("als needs the package implicit")
    return "; ".join(absent)
