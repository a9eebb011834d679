"""Likes and dislikes: what is right about them.

Clicks are `Outfits`: users are numbered from 0, and an item may be -1 for a slot that
was not part of the click, so a single liked item is a click too.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from fhn_jax.codes import Codes
from fhn_jax.data.catalogue import Outfits
from fhn_jax.data.negatives import outfit_keys
from fhn_jax.errors import InputError


def no_clicks(codes: Codes) -> Outfits:
    """Clicks of nobody."""
    return Outfits(np.zeros(0, np.int32), np.zeros((0, len(codes.slots)), np.int32))


def per_user(codes: Codes, name: str, outfits: Sequence[Any]) -> Outfits:
    """Clicks from a list of outfits for each user.

    Args:
      name: of the list, for errors.
      outfits: for each user the outfits, an item id for every slot or -1.
    Raises:
      InputError: other numbers than that.
    """
    slots = len(codes.slots)
    tables = []
    for user, of in enumerate(outfits):
        try:
            tables.append(np.asarray(of))
        except ValueError:
            raise InputError(
                f"{name} of user {user} are outfits of different lengths, expected "
                f"{slots} whole numbers each, -1 for a slot that does not count"
            ) from None
    for user, table in enumerate(tables):
        if table.size and (table.ndim != 2 or table.dtype.kind not in "iu"):
            raise InputError(
                f"{name} of user {user} are {table.dtype} {list(table.shape)}, expected "
                f"whole numbers [outfits, {slots}]"
            )
    tables = [
        table.reshape(-1, table.shape[-1] if table.size else slots) for table in tables
    ]
    for user, table in enumerate(tables):
        # Before they are made 32-bit: 2**32 would become item 0.
        if table.size and not -1 <= table.min() <= table.max() < 2**31:
            raise InputError(
                f"{name} of user {user} hold items {table.min()} to {table.max()}; "
                f"expected 0 to {max(codes.num_items) - 1}, or -1 for none"
            )
    users = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    tables = [table.astype(np.int64) for table in tables]
    try:
        items = np.concatenate([np.zeros((0, slots), np.int64), *tables])
    except ValueError:
        widths = sorted({table.shape[1] for table in tables})
        raise InputError(
            f"{name} have outfits of {widths} items, expected {slots}: one for each of "
            f"the slots {[codes.categories[c] for c in codes.slots]}, or -1"
        ) from None
    return Outfits(users.astype(np.int32), items.astype(np.int32))


def have_clicks(clicks: Outfits, num_users: int) -> Bool[np.ndarray, " u"]:
    """Which users have any of these clicks."""
    return np.bincount(clicks.users, minlength=num_users) > 0


def joined(first: Outfits, second: Outfits) -> Outfits:
    """The clicks of both tables."""
    return Outfits(
        np.concatenate([first.users, second.users]),
        np.concatenate([first.items, second.items]),
    )


def of_users(clicks: Outfits, users: Int[np.ndarray, " u"]) -> Outfits:
    """The clicks of some users, renumbered from 0."""
    mine = np.isin(clicks.users, users)
    return Outfits(
        np.searchsorted(users, clicks.users[mine]).astype(np.int32), clicks.items[mine]
    )


def check_clicks(codes: Codes, name: str, clicks: Outfits, num_users: int) -> None:
    """Raises InputError, naming the first row of an unknown user or item.

    Args:
      name: of the table, for the message.
    """
    expected = (len(clicks.users), len(codes.slots))
    if clicks.items.shape != expected:
        raise InputError(
            f"{name} have items {clicks.items.shape}, expected {expected}: one item "
            f"for each of the slots {[codes.categories[c] for c in codes.slots]}"
        )
    columns = [("user", clicks.users, 0, num_users)]
    columns += [
        (codes.categories[c], clicks.items[:, slot], -1, codes.num_items[c])
        for slot, c in enumerate(codes.slots)
    ]
    for what, ids, low, end in columns:
        wrong = np.flatnonzero((ids < low) | (ids >= end))
        if wrong.size:
            none = ", or -1 for none" if low < 0 else ""
            raise InputError(
                f"{name}, row {wrong[0]}: {what} {ids[wrong[0]]} is unknown; expected "
                f"0 to {end - 1}{none}"
            )
    empty = np.flatnonzero((clicks.items < 0).all(axis=1))
    if empty.size:
        raise InputError(f"{name}, row {empty[0]}: no item; expected at least one")


def check_both(codes: Codes, likes: Outfits, dislikes: Outfits, num_users: int) -> None:
    """`check_clicks` of both tables, and that no user both likes and dislikes one."""
    for name, clicks in (("likes", likes), ("dislikes", dislikes)):
        check_clicks(codes, name, clicks, num_users)
    _check_consistent(codes, likes, dislikes)


def _check_consistent(codes: Codes, likes: Outfits, dislikes: Outfits) -> None:
    keys = []
    for clicks in (likes, dislikes):
        table = np.column_stack([clicks.users, clicks.items + 1])
        sizes = [codes.num_items[c] + 1 for c in codes.slots]
        keys.append(outfit_keys(table, [2**31, *sizes]))
    both = np.flatnonzero(np.isin(keys[0], keys[1]))
    if both.size:
        row = both[0]
        raise InputError(
            f"user {likes.users[row]} both likes and dislikes outfit "
            f"{likes.items[row].tolist()}; keep the click that holds"
        )
