"""Users who came after a run was trained, with codes of their own beside the others'."""

import dataclasses

import numpy as np

from fhn_jax.codes import Codes
from fhn_jax.data.catalogue import Catalogue, Outfits
from fhn_jax.new_users.bpr import BprFit


def join_users(codes: Codes, catalogue: Catalogue) -> Codes:
    """The codes with the users that they lack, fitted to their likes; the others stay.

    Args:
      codes: of all items of the catalogue, and of its first users.
      catalogue: the data.
    """
    first, count = codes.num_users, catalogue.num_users - codes.num_users
    if not count:
        return codes
    train = catalogue.splits["train"].positives
    own = train.users >= first
    likes = Outfits(train.users[own] - np.int32(first), train.items[own])
    nothing = Outfits(likes.users[:0], likes.items[:0])
    joined = BprFit(codes).fit(likes, nothing, count).into(codes)
    return dataclasses.replace(
        codes,
        users=np.concatenate([codes.users, joined.users]),
        user_latents=np.concatenate([codes.user_latents, joined.user_latents]),
    )
