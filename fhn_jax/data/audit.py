"""What is odd about the outfits of a data set, though all of its files are right."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt64

from fhn_jax.data.catalogue import Catalogue, Outfits
from fhn_jax.data.negatives import outfit_keys

# What each count means, for people; {split} is the split that is evaluated on.
_MEANINGS = {
    "users_without_outfits": "users have no {split} outfit; means are over the others",
    "train_overlaps": "{split} outfits are training outfits of the same user",
    "false_negatives": "{split} negatives are outfits that the same user likes",
    "duplicates": "outfits are listed again for the same user in the same split",
}


def audit(catalogue: Catalogue, split: str = "test") -> dict[str, Any]:
    """Counts what makes figures of a split better or worse than they should be.

    Returns:
      "users_without_outfits": users without a positive in the split;
      "train_overlaps": positives of the split that are train positives of their user;
      "false_negatives": negatives of the split, of all kinds, that are positives of
      their user in any split; "duplicates": positives of all splits that repeat an
      earlier one of their user in the same split. Where there are several templates,
      "by_template" has the same for the outfits of each, by its name, and "positives",
      their number in each split.
    """
    counts: dict[str, Any] = _counts(catalogue, split)
    if len(catalogue.templates) > 1:
        counts["by_template"] = {}
        for template in catalogue.templates:
            of_template = catalogue.of_template(template)
            positives = {
                name: len(part.positives) for name, part in of_template.splits.items()
            }
            counts["by_template"][catalogue.template_name(template)] = {
                "positives": positives,
                **_counts(of_template, split),
            }
    return counts


def _counts(catalogue: Catalogue, split: str) -> dict[str, int]:
    part = catalogue.splits[split]
    positives = {
        name: _keys(catalogue, each.positives)
        for name, each in catalogue.splits.items()
    }
    liked = np.concatenate(list(positives.values()))
    trained = positives["train"] if split != "train" else []
    return {
        "users_without_outfits": catalogue.num_users
        - len(np.unique(part.positives.users)),
        "train_overlaps": int(np.isin(positives[split], trained).sum()),
        "false_negatives": sum(
            int(np.isin(_keys(catalogue, negatives), liked).sum())
            for negatives in part.negatives.values()
        ),
        "duplicates": sum(
            len(keys) - len(np.unique(keys)) for keys in positives.values()
        ),
    }


def describe(counts: Mapping[str, Any], split: str = "test") -> str:
    """The counts of `audit` that are not 0, in a line; "" if there are none.

    >>> describe({"users_without_outfits": 0, "duplicates": 3})
    '3 outfits are listed again for the same user in the same split'
    """
    return "; ".join(
        f"{counts[name]:,} {meaning.format(split=split)}"
        for name, meaning in _MEANINGS.items()
        if counts.get(name)
    )


def _keys(catalogue: Catalogue, outfits: Outfits) -> UInt64[np.ndarray, " n"]:
    """One integer for a user and an outfit, whatever the order of two tops."""
    items = outfits.items.copy()
    for category in set(catalogue.slots):
        same = [slot for slot, other in enumerate(catalogue.slots) if other == category]
        items[:, same] = np.sort(items[:, same], axis=1)
    sizes = [len(catalogue.names[category]) for category in catalogue.slots]
    table = np.column_stack([outfits.users, items])
    return outfit_keys(table, [catalogue.num_users, *sizes])
