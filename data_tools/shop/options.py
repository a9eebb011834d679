"""How an import is to be made."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fhn_jax.data_tools.shop.splits import METHODS

from fhn_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Options:
    """How to import.

    Attributes:
      split: "random", of each user's likes; "time", the latest of all likes test;
        "leave-last-out", each user's last like tests. Where a table has a column split,
        that counts.
      val_share, test_share: of the likes.
      new_items: no item of the test split is trained on.
      min_likes: users with fewer are left out.
      repeats: "once", or "weights": a like that is repeated is so many train positives.
      negatives: of each positive of val and test; train positives have some where users
        disliked something.
      max_quarantine: the share of a table's rows that may be at fault.
      image_size: height and width that photos are stored with, in pixels.
      images: whether to take the photos.
      seed: of all that is drawn.
    """

    split: str = "random"
    val_share: float = 0.1
    test_share: float = 0.1
    new_items: bool = False
    min_likes: int = 3
    repeats: str = "once"
    negatives: int = 10
    max_quarantine: float = 0.1
    image_size: int = 291
    images: bool = True
    seed: int = 0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Options":
        """Those of an import, as it kept them; keys of other versions are left out."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})

    def __post_init__(self):
        """Raises ValueError for what cannot be."""
        if self.split not in METHODS:
            raise InputError(f"split={self.split!r}; expected one of {METHODS}")
        if self.repeats not in ("once", "weights"):
            raise InputError(f"repeats={self.repeats!r}; expected once or weights")
        val, test = self.val_share, self.test_share
        if not (0 < test < 1 and 0 <= val and val + test < 1):
            raise InputError(
                f"val_share={val} and test_share={test}; expected shares that leave "
                "some likes to train on, and some to test"
            )
        for name, least in (("negatives", 1), ("min_likes", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(
                    f"{name}={getattr(self, name)}; expected at least {least}"
                )
        if not 16 <= self.image_size <= 4096:
            raise InputError(f"image_size={self.image_size}; expected 16 to 4096")
        if not 0 <= self.max_quarantine <= 1:
            raise InputError(f"max_quarantine={self.max_quarantine}; expected 0 to 1")
