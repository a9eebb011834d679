"""Vectors of a shop's own, keyed by its ids, become `ROOT/vectors/NAME.npz`.

A source is an npz with `names` (unicode, the shop's ids) and `vectors`, or a Parquet file
with a column `id` and either one column of lists of numbers or a column a number.
"""

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from fhn_jax.data.vector_files import load_vectors, vectors_path, write_vectors
from fhn_jax.errors import InputError, MissingPackageError

_AT_ONCE = 4096


def carry_vectors(
    source: str | os.PathLike,
    root: str | os.PathLike,
    ids: Mapping[str, str],
    name: str | None = None,
    *,
    before: Path | None = None,
) -> tuple[Path, int]:
    """Writes the vectors of items from a file of the shop's.

    Args:
      source: an npz or Parquet file, see above.
      root: the data root.
      ids: the shop's id of each item → its image file name.
      name: of the vectors; that of the source by default.
      before: a data root with vectors of this name, for items that the source lacks.
    Returns:
      the npz file, and how many vectors were of no item and are left out.
    Raises:
      ModuleNotFoundError: a Parquet file, and pyarrow is not installed.
      ValueError: the source is damaged or of another form, an id occurs twice, a vector
        is not finite, or items have none; names up to five.
    """
    source = Path(source)
    if source.suffix == ".npz":
        found, vectors = load_vectors(source)
        chunks: Iterator[np.ndarray] = (
            vectors[start : start + _AT_ONCE]
            for start in range(0, len(vectors), _AT_ONCE)
        )
    elif source.suffix == ".parquet":
        found, chunks = _read_parquet(source)
    else:
        raise InputError(f"{source}: expected vectors in a .npz or a .parquet file")
    known = None if before is None else vectors_path(before, name or source.stem)
    if known is not None and known.is_file():
        found, chunks = _with_known(found, chunks, known, ids)
    wanted = np.array([each in ids for each in found], bool)
    names = [ids[each] for each in found if each in ids]
    if len(set(names)) != len(names):
        seen: set[str] = set()
        twice = next(x for x in found if x in ids and (x in seen or seen.add(x)))
        raise InputError(f"{source}: the id {twice!r} occurs twice; drop one")
    if len(names) < len(ids):
        there = set(found)
        missing = [each for each in ids if each not in there]
        raise InputError(
            f"{source}: {len(missing):,} of {len(ids):,} items have no vector: "
            f"{', '.join(map(repr, missing[:5]))}{', …' if len(missing) > 5 else ''}; "
            "add theirs, or leave this file out"
        )
    path = write_vectors(
        root,
        name or source.stem,
        names,
        _selected(chunks, wanted),
        model="the shop's own",
        source=source.name,
    )
    return path, len(found) - len(names)


def _with_known(
    found: list[str], chunks: Iterator[np.ndarray], known: Path, ids: Mapping[str, str]
) -> tuple[list[str], Iterator[np.ndarray]]:
    """The ids and vectors of a source, and those that are known of the other items."""
    names, vectors = load_vectors(known)
    rows = {name: row for row, name in enumerate(names)}
    lacking = ids.keys() - set(found)
    others = [own for own in ids if own in lacking and ids[own] in rows]
    more = vectors[[rows[ids[own]] for own in others]]
    return [*found, *others], itertools.chain(chunks, [more])


def _selected(
    chunks: Iterator[np.ndarray], wanted: np.ndarray
) -> Iterator[Float32[np.ndarray, "_k _f"]]:
    start = 0
    for rows in chunks:
        chosen = rows[wanted[start : start + len(rows)]]
        start += len(rows)
        if len(chosen):
            with np.errstate(over="ignore"):
                yield chosen.astype(np.float32, copy=False)


def _read_parquet(source: Path) -> tuple[list[str], Iterator[np.ndarray]]:
    """The ids, and the vectors some at a time."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{source} needs the package pyarrow: pip install pyarrow"
        ) from error
    expected = "expected a column `id` and one column of lists of numbers, or a column a number"
    try:
        file = parquet.ParquetFile(source)
        schema: Any = file.schema_arrow
        if "id" not in schema.names or len(schema.names) < 2:
            raise InputError(
                f"{source} has the columns {', '.join(schema.names)}; {expected}"
            )
        ids = [str(each) for each in file.read(["id"]).column("id").to_pylist()]
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(
            f"{source} is no Parquet file, or is damaged ({error})"
        ) from None

    types = pyarrow.types
    columns = [each for each in schema.names if each != "id"]
    lists = [
        each
        for each in columns
        if types.is_list(schema.field(each).type)
        or types.is_large_list(schema.field(each).type)
        or types.is_fixed_size_list(schema.field(each).type)
    ]
    if lists and len(lists) < len(columns) or len(lists) > 1:
        raise InputError(f"{source} has the columns {', '.join(columns)}; {expected}")

    def chunks() -> Iterator[np.ndarray]:
        for batch in file.iter_batches(_AT_ONCE, columns=columns):
            if not lists:
                yield _numbers(source, [batch.column(each) for each in columns]).T
                continue
            column = batch.column(lists[0])
            flat = _numbers(source, [column.flatten()])[0]
            if column.null_count or len(flat) % len(column):
                raise InputError(f"{source}: vectors are of unequal widths; {expected}")
            yield flat.reshape(len(column), -1)

    return ids, chunks()


def _numbers(source: Path, columns: list[Any]) -> np.ndarray:
    try:
        return np.stack([np.asarray(each, np.float64) for each in columns])
    except (TypeError, ValueError):
        raise InputError(f"{source}: a vector holds what is no number") from None
