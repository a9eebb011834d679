"""Checks of what callers hand to retrieval: counts, users, items and outfits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32, Int64, Shaped

from fhn_jax.codes import Codes, check_templates, unpack
from fhn_jax.errors import InputError

SCORES = ("asymmetric", "binary")
# Outfits of an answer that are composed: all there are may be more than memory holds.
_MOST = 10**6


def check_count(name: str, value: Any) -> None:
    """Raises InputError unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} is {value!r}, expected a whole number of at least 1")


def check_most(count: int) -> None:
    """Raises InputError if so many composed outfits are more than an answer may hold."""
    if count > _MOST:
        raise InputError(
            f"{count:,} outfits are too many to compose; expected a k of at most "
            f"{_MOST:,}, or fewer items to choose from"
        )


def one_user(user: int | np.integer | Shaped[np.ndarray, "..."]) -> np.ndarray:
    """One user, an id or a code as floats [d], as a batch of one.

    Raises:
      InputError: several users.
    """
    array = np.asarray(user)
    if array.ndim > 1 or (array.ndim == 1 and array.dtype.kind != "f"):
        raise InputError(
            f"user is an array of shape {array.shape}, expected an id or one vector of "
            "floats; use search_batch for several users"
        )
    return array[None]


def user_codes(
    codes: Codes, users: int | Shaped[np.ndarray, "..."], score: str = "asymmetric"
) -> Float64[np.ndarray, "u d"]:
    """The codes of users, real or of ±1 or 0/1, as a score takes them.

    Args:
      users: an id or ids [u], or user codes as floats, [d] or [u, d].
      score: "asymmetric" (the real user code) or "binary" (its signs).
    Raises:
      InputError: an unknown score or user, or a vector of another length or not finite.
    """
    if score not in SCORES:
        raise InputError(f"score is {score!r}, expected one of {SCORES}")
    users = np.asarray(users)
    if users.dtype.kind in "iu":
        return _stored_users(codes, np.atleast_1d(users), score)
    return _given_users(codes, np.atleast_2d(users), score)


def _stored_users(codes: Codes, users, score: str) -> Float64[np.ndarray, "u d"]:
    if users.ndim != 1:
        raise InputError(f"user ids are {users.shape}, expected one id or a list")
    wrong = users[(users < 0) | (users >= codes.num_users)]
    if wrong.size:
        raise InputError(
            f"user {wrong[0]} is not among the codes; expected 0 to "
            f"{codes.num_users - 1}"
        )
    if score == "binary":
        packed = codes.users[users]
        return unpack(packed, codes.bits, codes.alphabet).astype(np.float64)
    return codes.user_latents[users].astype(np.float64)


def _given_users(codes: Codes, users, score: str) -> Float64[np.ndarray, "u d"]:
    d = codes.bits
    if users.dtype.kind != "f" or users.ndim != 2 or users.shape[1] != d:
        raise InputError(
            f"user vectors are {users.dtype} {list(users.shape)}, expected floats "
            f"[{d}] or [users, {d}], or whole numbers for ids"
        )
    finite = np.isfinite(users)
    if not finite.all():
        where = np.argwhere(~finite)[0].tolist()
        raise InputError(
            f"user vectors hold {users[tuple(where)]} at {where}, expected finite "
            "values"
        )
    users = users.astype(np.float64)
    if score == "asymmetric":
        return users
    # The rule of the hash layers: sign(0) = +1, and 1[h >= .5] for 0/1 codes.
    if codes.alphabet == "pm1":
        return np.where(users >= 0, 1.0, -1.0)
    return np.where(users >= 0.5, 1.0, 0.0)


def item_ids(codes: Codes, name: str, items: Any) -> Int64[np.ndarray, " n"]:
    """Ids of items of the category `name`, from one id or several.

    Raises:
      InputError: an unknown category or item, or no whole numbers.
    """
    if name not in codes.categories:
        raise InputError(
            f"category {name!r} is unknown; expected one of {codes.categories}"
        )
    ids = _whole_numbers(f"items of {name}", np.atleast_1d(np.asarray(items)))
    count = codes.num_items[codes.categories.index(name)]
    wrong = ids[(ids < 0) | (ids >= count)]
    if wrong.size:
        raise InputError(
            f"{name} {wrong[0]} is not among the codes; expected 0 to {count - 1}"
        )
    return ids


def outfit_ids(outfits: Any, count: int | None = None) -> Int64[np.ndarray, " n"]:
    """Ids of stored outfits.

    Args:
      count: ids are below this, where it is known.
    Raises:
      InputError: an unknown id, or no whole numbers.
    """
    ids = _whole_numbers("outfits", np.asarray(outfits))
    unknown = ids < 0 if count is None else (ids < 0) | (ids >= count)
    wrong = ids[unknown]
    if wrong.size:
        expected = "at least 0" if count is None else f"0 to {count - 1}"
        raise InputError(f"outfit {wrong[0]} is not in the index; expected {expected}")
    return ids


def _whole_numbers(what: str, ids: np.ndarray) -> Int64[np.ndarray, " n"]:
    if ids.size == 0:
        return np.empty(0, np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InputError(
            f"{what} are {ids.dtype} {list(ids.shape)}, expected a list of ids"
        )
    if ids.max() > np.iinfo(np.int64).max:
        raise InputError(f"{what} hold the id {ids.max()}, expected less than 2**63")
    return ids.astype(np.int64)


def check_outfits(
    codes: Codes, outfits: Shaped[np.ndarray, "..."]
) -> Int32[np.ndarray, "n s"]:
    """Outfits whose item ids are all in range.

    Args:
      outfits: an item id for each slot; -1 where the outfit's template has none.
    Raises:
      InputError: another number of slots, an id out of range, or slots that are no
        template.
    """
    slots = codes.slots
    if (
        outfits.ndim != 2
        or outfits.shape[1] != len(slots)
        or outfits.dtype.kind not in "iu"
    ):
        raise InputError(
            f"outfits are {outfits.dtype} {list(outfits.shape)}, expected whole numbers "
            f"[n, {len(slots)}]: an item id for each slot "
            f"{tuple(codes.categories[c] for c in slots)}"
        )
    lowest, none = (0, "") if len(codes.templates) == 1 else (-1, ", or -1 for none")
    for slot, category in enumerate(slots):
        ids, count = outfits[:, slot], codes.num_items[category]
        wrong = np.flatnonzero((ids < lowest) | (ids >= count))
        if wrong.size:
            raise InputError(
                f"outfit {wrong[0]}: {codes.categories[category]} (slot {slot}) "
                f"{ids[wrong[0]]} is not among the codes; expected 0 to "
                f"{count - 1}{none}"
            )
    items = outfits.astype(np.int32)
    check_templates(codes, items)
    return items


def template_numbers(
    codes: Codes, templates: Sequence[Sequence[str]] | None
) -> list[int]:
    """The numbers of some templates, rising.

    Args:
      templates: the categories of each, in any order; None for all.
    Raises:
      InputError: the codes have no such template.
    """
    if templates is None:
        return list(range(len(codes.templates)))
    known = {tuple(sorted(t)): n for n, t in enumerate(codes.template_names)}
    numbers = {known.get(tuple(sorted(map(str, each))), -1) for each in templates}
    if min(numbers, default=-1) < 0:
        raise InputError(
            f"templates is {templates!r}, expected some of {codes.template_names}"
        )
    return sorted(numbers)
