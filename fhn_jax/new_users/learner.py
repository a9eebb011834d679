"""What learners of new users share, and the users that they give."""

import abc
import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int8

from fhn_jax.codes import Codes, pack
from fhn_jax.data.catalogue import Catalogue, Outfits
from fhn_jax.errors import InputError
from fhn_jax.new_users.clicks import check_both, check_clicks, joined, of_users


@dataclasses.dataclass(frozen=True, eq=False)
class NewUsers:
    """Learned users, and the clicks they were learned from.

    Attributes:
      latents: real user codes, for the asymmetric score.
      bits: binary user codes, in the alphabet of the item codes.
      likes, dislikes: all clicks so far.
    """

    latents: Float32[np.ndarray, "u d"]
    bits: Int8[np.ndarray, "u d"]
    likes: Outfits
    dislikes: Outfits

    def __len__(self) -> int:
        return len(self.latents)

    def __repr__(self) -> str:
        users, bits = self.latents.shape
        return (
            f"NewUsers({users:,} users of {bits} bits, {len(self.likes):,} likes, "
            f"{len(self.dislikes):,} dislikes)"
        )

    def into(self, codes: Codes, catalogue: Catalogue | None = None) -> Codes:
        """`codes` with these users instead of its own.

        Args:
          codes: whose items the users were learned on.
          catalogue: data of the new users, so that `evaluate` takes the result.
        Raises:
          ValueError: the items of `catalogue` are not those of `codes`.
        """
        changes: dict[str, Any] = {
            "users": pack(self.bits),
            "user_latents": self.latents,
        }
        if catalogue is not None:
            check_same_items(codes, catalogue)
            changes["dataset"] = catalogue.dataset
            changes["dataset_checksum"] = catalogue.checksum
        return dataclasses.replace(codes, **changes)


def check_same_items(codes: Codes, catalogue: Catalogue) -> None:
    """Raises ValueError unless codes and catalogue number the same items alike."""
    if codes.slots != catalogue.slots or codes.categories != catalogue.categories:
        raise InputError(
            f"the codes have slots {codes.slots} of {codes.categories}, the data in "
            f"{catalogue.root} has {catalogue.slots} of {catalogue.categories}; use "
            "the codes of a run on such outfits"
        )
    for template in catalogue.templates:
        if template not in codes.templates:
            raise InputError(
                f"the data in {catalogue.root} has outfits of "
                f"{catalogue.template_name(template)}, the codes have those of "
                f"{' or '.join(map('+'.join, codes.template_names))} alone; use the codes "
                "of a run on such outfits"
            )
    for category, ours, theirs in zip(
        codes.categories, codes.names or (), catalogue.names, strict=False
    ):
        if ours != theirs:
            raise InputError(
                f"the codes have {len(ours)} items of category {category!r}, and "
                f"tuples_{catalogue.variant} in {catalogue.root} lists {len(theirs)} "
                "others or in another order; encode them with the cold-start action"
            )
    if codes.names is None:
        sizes = tuple(map(len, catalogue.names))
        if codes.num_items != sizes:
            raise InputError(
                f"the codes have {codes.num_items} items of {codes.categories}, and "
                f"tuples_{catalogue.variant} in {catalogue.root} lists {sizes}; encode "
                "them with the cold-start action"
            )


class Learner(abc.ABC):
    """What the learners share: checks, and clicks that add up."""

    def __init__(self, codes: Codes):
        self.codes = codes
        for category, count in zip(codes.categories, codes.num_items, strict=True):
            if not count:
                raise InputError(
                    f"the codes have no items of category {category!r}; there is "
                    "nothing to learn a user from"
                )

    def fit(
        self, likes: Outfits, dislikes: Outfits, num_users: int | None = None
    ) -> NewUsers:
        """Codes of new users.

        Args:
          likes, dislikes: clicks; an item of -1 is a slot that was not shown.
          num_users: users are 0 to num_users - 1; by default up to the last one with
            a click. A user without clicks gets what is best for an unknown one.
        Raises:
          ValueError: a user or item out of range, a click on no item, or an outfit
            that a user both likes and dislikes; says where.
        """
        if num_users is None:
            users = np.concatenate([likes.users, dislikes.users])
            num_users = int(users.max(initial=-1)) + 1
        check_both(self.codes, likes, dislikes, num_users)
        latents, bits = self._learn(likes, dislikes, num_users)
        return NewUsers(
            latents.astype(np.float32), bits.astype(np.int8), likes, dislikes
        )

    def update(self, users: NewUsers, likes: Outfits, dislikes: Outfits) -> NewUsers:
        """Codes after some more clicks: those that `fit` gives from all clicks.

        Only users that clicked are learned again.

        Args:
          users: from `fit` or `update`.
          likes, dislikes: the new clicks.
        Raises:
          ValueError: as `fit`.
        """
        for name, clicks in (("likes", likes), ("dislikes", dislikes)):
            check_clicks(self.codes, name, clicks, len(users))
        all_likes = joined(users.likes, likes)
        all_dislikes = joined(users.dislikes, dislikes)
        # Here, where users have the numbers that their caller knows.
        check_both(self.codes, all_likes, all_dislikes, len(users))
        changed = np.unique(np.concatenate([likes.users, dislikes.users]))
        learned = self.fit(
            of_users(all_likes, changed), of_users(all_dislikes, changed)
        )
        latents, bits = users.latents.copy(), users.bits.copy()
        latents[changed], bits[changed] = learned.latents, learned.bits
        return NewUsers(latents, bits, all_likes, all_dislikes)

    @abc.abstractmethod
    def _learn(
        self, likes: Outfits, dislikes: Outfits, num_users: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Real and binary codes from clicks that are right."""


class RandomCode(Learner):
    """Random bits for every user, whatever they like.

    Args:
      codes: of the items.
      seed: of the bits.
    """

    def __init__(self, codes: Codes, *, seed: int = 0):
        super().__init__(codes)
        self.seed = seed

    def update(self, users: NewUsers, likes: Outfits, dislikes: Outfits) -> NewUsers:
        """The clicks are noted; the codes stay."""
        now = super().update(users, likes, dislikes)
        return NewUsers(users.latents, users.bits, now.likes, now.dislikes)

    def _learn(self, likes, dislikes, num_users):
        rng = np.random.default_rng(self.seed)
        signs = rng.choice([-1.0, 1.0], (num_users, self.codes.bits))
        return both_codes(self.codes, signs)


def both_codes(
    codes: Codes, signs: Float[np.ndarray, "u d"]
) -> tuple[np.ndarray, np.ndarray]:
    """Real and binary codes from values whose sign is the bit.

    The real code has the same signs and a mean magnitude of 1, as the bits have.
    """
    size = np.abs(signs).mean(axis=1, keepdims=True)
    latents = signs / np.where(size > 0, size, 1)
    bits = np.where(signs >= 0, 1.0, -1.0)
    if codes.alphabet == "01":
        return (latents + 1) / 2, (bits + 1) / 2
    return latents, bits
