"""Likes and dislikes: what is right about them.

Clicks are `Outfits`: users are numbered from 0, and an item may be -1 for a slot that
was not part of the click, so a single liked item is a click too.
"""

import numpy as np
from jaxtyping import Bool, Int

from fhn_jax.codes import Codes
from fhn_jax.data.catalogue import Outfits
from fhn_jax.data.negatives import outfit_keys
from fhn_jax.errors import InputError


def no_clicks(codes: Codes) -> Outfits:
    """Clicks of nobody."""
    return Outfits(np.zeros(0, np.int32), np.zeros((0, len(codes.slots)), np.int32))


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
