"""The files of an index: how its layout and its segments are written and read."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fhn_jax import files
from fhn_jax.errors import InputError
from fhn_jax.files import ArrayChange, ArrayFolder
from fhn_jax.retrieval import blocks, kernels, searcher
from fhn_jax.retrieval.items import ItemTables

FORMAT = files.ArrayFormat(
    name="fhn_jax.outfits",
    version=2,
    noun="an index of outfits",
    remedy="build it again with OutfitIndex.build",
    metadata={
        "codes": str,
        "coarse_ranges": int,
        "segments": list,
        "removed": str | None,
        "outfits": int,
        "live": int,
        "changes": int,
    },
)

_DTYPES = {
    "items": np.uint16,
    "compatibilities": np.int32,
    "outfits": np.uint32,
    "starts": np.int64,
    "tops": np.int32,
    "ranges": np.int32,
}
# Checked when an index is opened; the others are mapped, and checked by the first search.
_SMALL = ("starts", "tops", "ranges")


def require_room(folder: str | os.PathLike, tables: ItemTables, count: int) -> None:
    """Refuses outfits that the disk cannot hold, before they are put into blocks.

    Raises:
      RefusedError: says both sizes.
    """
    # The bounds of blocks come to this, a percent or two.
    slots = min(len(template.slots) for template in tables.templates)
    sizes = {"items": slots, "compatibilities": 1, "outfits": 1}
    each = sum(n * np.dtype(_DTYPES[name]).itemsize for name, n in sizes.items())
    files.require_room(folder, count * each, f"an index of {count:,} outfits")


def add_layout(change: ArrayChange, layout: blocks.Layout, name: str) -> None:
    """Writes a layout into a folder of this name."""
    change.metadata["layout"] = name
    change.metadata["coarse_ranges"] = layout.num_coarse
    change.add(f"{name}/order.npy", layout.order)
    change.add(f"{name}/ranges.npy", layout.range_starts)


def ranges_of(metadata: Mapping[str, Any], segment: str) -> str:
    """The file with the ranges of a segment; that of `grow`, if there was one since."""
    return metadata.get("ranges", {}).get(segment, f"{segment}/ranges.npy")


def add_segments(change: ArrayChange, segments: Sequence[kernels.Blocks]) -> None:
    """Writes the arrays of segments, named by the number of the change."""
    for number, segment in enumerate(segments):
        name = f"segment-{change.metadata['changes']}"
        if number:
            name += f"-{number}"
        for key in _DTYPES:
            change.add(f"{name}/{key}.npy", getattr(segment, key))
        change.metadata["segments"] = [*change.metadata["segments"], name]


def read_layout(folder: ArrayFolder, tables: ItemTables) -> blocks.Layout:
    name = folder.metadata.get("layout", "layout")
    order = folder.map(f"{name}/order.npy", np.int32, verify=True)
    ranges = folder.map(f"{name}/ranges.npy", np.int64, verify=True)
    layout = blocks.Layout(
        order=order,
        category_starts=np.concatenate([[0], np.cumsum(tables.codes.num_items)]),
        range_starts=ranges,
        num_coarse=folder.metadata["coarse_ranges"],
    )
    starts = layout.category_starts
    sizes = np.repeat(np.diff(starts), np.diff(starts))
    _expect(
        folder.path / name,
        order.shape == sizes.shape
        and ((order >= 0) & (order < sizes)).all()
        and 0 <= layout.num_coarse < max(ranges.size, 1)
        and ((ranges[:-1] >= 0) & (ranges[:-1] < max(len(order), 1))).all()
        and ranges[-1] == len(order),
    )
    return layout


def read_segment(
    folder: ArrayFolder, name: str, tables: ItemTables, layout: blocks.Layout
) -> kernels.Blocks:
    files_of = {key: f"{name}/{key}.npy" for key in _DTYPES}
    files_of["ranges"] = ranges_of(folder.metadata, name)
    arrays = {
        key: folder.map(
            *(files_of[key], dtype), verify=key in _SMALL, scattered=key not in _SMALL
        )
        for key, dtype in _DTYPES.items()
    }
    ranges, tops = arrays["ranges"], arrays["tops"]
    _expect(folder.path / name, ranges.ndim == 2 and tops.shape == ranges.shape[:1])
    segment = kernels.Blocks(
        **arrays,
        **blocks.groups_of(ranges, tops),
        range_starts=layout.range_starts,
    )
    count, starts = len(segment.outfits), segment.starts
    # Compiled loops do not check indices.
    _expect(
        folder.path / name,
        segment.items.shape == (count, ranges.shape[1])
        and segment.compatibilities.shape == segment.outfits.shape == (count,)
        and len(ranges) == len(starts) - 1
        and starts[0] == 0
        and starts[-1] == count
        and (np.diff(starts) > 0).all()
        and ((ranges >= 0) & (ranges < len(layout.range_starts) - 1)).all()
        and searcher.template_of(tables, layout, segment) >= 0,
    )
    return segment


def _expect(path: Path, holds: bool | np.bool_) -> None:
    if not holds:
        raise InputError(f"{path}: its arrays do not fit each other; {FORMAT.remedy}")
