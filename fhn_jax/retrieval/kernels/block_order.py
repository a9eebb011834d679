"""The order in which outfits are stored."""

import numpy as np
from jaxtyping import Int32, Int64

from fhn_jax.retrieval.kernels.jit import njit, njit_no_refcount


def order_by_group(
    groups: Int32[np.ndarray, " n"], starts: Int64[np.ndarray, " g"]
) -> Int64[np.ndarray, " n"]:
    """Rows by their group, and within one as they come.

    Args:
      groups: of each row.
      starts: how many rows are of the groups before each.
    """
    order = np.empty(len(groups), np.int64)
    _by_group(groups, starts.copy(), order)
    return order


def order_in_groups(
    ends: Int64[np.ndarray, " g"], values: Int32[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """Rows by falling values within each group, and then as they come.

    Args:
      ends: the row after the last of each group.
      values: of each row; at most 2**32 rows.
    """
    keys = np.empty(len(values), np.uint64)
    _in_groups(ends, values, keys)
    keys &= np.uint64(2**32 - 1)
    return keys.view(np.int64)


@njit_no_refcount
def _by_group(groups, ends, order):
    """`ends`: where each group starts; becomes where it ends."""
    for row in range(len(groups)):
        group = groups[row]
        order[ends[group]] = row
        ends[group] += 1


@njit
def _in_groups(ends, values, keys):
    """`keys`: filled; how far a value is below the largest possible, then the row."""
    for row in range(len(values)):
        fall = np.uint64(np.int64(2**31 - 1) - values[row])
        keys[row] = (fall << np.uint64(32)) | np.uint64(row)
    start = 0
    for end in ends:
        keys[start:end].sort()
        start = end
