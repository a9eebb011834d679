"""What holds of every artifact, checked in words that help whoever made it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from fhn_jax.errors import InputError

ALPHABETS = ("pm1", "01")
MODALITIES = ("visual", "features", "text")
# The largest magnitude of float32 values: from there on adding 1 to a number changes
# nothing, so a score would be that number. Relaxed codes and weights are near 1.
LARGEST = 2.0**24
# The largest scale of an item: scales are relative to the mean over the items, or means
# of values in [0, 1]. Float16 goes on to 65,504.
LARGEST_SCALE = 2.0**10
# Values that are looked at in one piece.
_PIECE = 2**18
# Which values of hash_types learn each of the matching weights.
_LEARNED_BY = {"alpha": (0,), "lambda_user": (1, 3), "lambda_item": (2, 3)}


def expect(key: str, holds: bool, got: Any, expected: str) -> None:
    """Raises InputError naming `key`, what it is and what was expected."""
    if not holds:
        raise InputError(f"{key} is {got!r}, expected {expected}")


def check_bits(bits: Any) -> None:
    """Raises InputError unless codes of so many bits can be packed."""
    valid = isinstance(bits, int) and bits >= 8 and bits % 8 == 0
    expect("bits", valid, bits, "a positive multiple of 8")


def check_scalars(values: Mapping[str, Any]) -> None:
    """Checks the fields of `Codes` that are not arrays."""
    check_bits(values["bits"])
    alphabet = values["alphabet"]
    expect("alphabet", alphabet in ALPHABETS, alphabet, f"one of {ALPHABETS}")
    modalities = values["modalities"]
    expect(
        "modalities",
        isinstance(modalities, tuple)
        and 0 < len(modalities)
        and modalities == tuple(m for m in MODALITIES if m in modalities),
        modalities,
        f"a non-empty part of {MODALITIES}, in this order",
    )
    categories = values["categories"]
    expect(
        "categories",
        isinstance(categories, tuple)
        and all(_is_text(c) and c and "/" not in c for c in categories)
        and 0 < len(set(categories)) == len(categories),
        categories,
        "different printable names without a slash",
    )
    slots = values["slots"]
    expect(
        "slots",
        isinstance(slots, tuple)
        and all(type(slot) is int for slot in slots)
        and set(slots) == set(range(len(categories))),
        slots,
        f"numbers of categories, each of {categories} at least once",
    )
    if values["templates"] != ():
        _check_templates(values["templates"], slots)
    types = values["hash_types"]
    is_one = type(types) is int and types in (0, 1, 2, 3)  # True and 1.0 are not.
    expect("hash_types", is_one, types, "0, 1, 2 or 3")
    for key in ("zero_item_term", "zero_user_term"):
        expect(key, isinstance(values[key], bool), values[key], "true or false")
    for key in ("dataset", "dataset_checksum", "config_hash", "lineage"):
        expect(key, _is_text(values[key]), values[key], "a printable string")


def _check_templates(templates: Any, slots: tuple[int, ...]) -> None:
    every = tuple(range(len(slots)))
    listed = (
        isinstance(templates, tuple)
        and all(isinstance(each, tuple) for each in templates)
        and all(type(slot) is int for each in templates for slot in each)
    )
    expect(
        "templates",
        listed
        and all(each and list(each) == sorted(set(each)) for each in templates)
        and list(templates) == sorted(set(templates))
        and sorted({slot for each in templates for slot in each}) == list(every),
        templates,
        f"different sets of the slots {every}, sorted, and each slot in one at least",
    )
    expect(
        "templates",
        templates == (every,) or len(set(slots)) == len(slots),
        templates,
        f"all slots together, {(every,)}, as two are of one category",
    )


def template_of(names: Sequence[str], slots: Sequence[str]) -> tuple[int, ...]:
    """The numbers of the slots of a template.

    Args:
      names: of its categories, in any order.
      slots: the category of each slot, no two alike.
    Raises:
      InputError: not a list of some of these categories, each once.
    """
    listed = not isinstance(names, str) and all(isinstance(name, str) for name in names)
    fits = listed and len(set(names)) == len(names) and set(names) <= set(slots)
    expect("template", fits, names, f"a list of some of {tuple(slots)}, each once")
    return tuple(sorted(slots.index(name) for name in names))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def check_unlearned(hash_types: int, weights: Mapping[str, Any]) -> None:
    """Checks that matching weights are 1 where `hash_types` does not learn them.

    Args:
      weights: "alpha", "lambda_user" and "lambda_item".
    """
    alpha = weights["alpha"]
    expect("alpha", bool(np.isfinite(alpha)), alpha, "a finite number")
    for key, learned_by in _LEARNED_BY.items():
        values = np.atleast_1d(weights[key])
        others = values[values != 1]
        if others.size and hash_types not in learned_by:
            raise InputError(
                f"{key} holds {others[0]}, expected 1: hash_types={hash_types} does "
                "not learn it"
            )


def check_array(
    key: str, array: Any, dtype: type, shape: tuple[int | None, ...]
) -> None:
    """Checks type, shape (None: any length) and that all values are finite."""
    wanted = (
        f"{np.dtype(dtype)} [{', '.join('?' if n is None else str(n) for n in shape)}]"
    )
    if not isinstance(array, np.ndarray):
        raise InputError(f"{key} is a {type(array).__name__}, expected {wanted}")
    fits = len(array.shape) == len(shape) and all(
        want is None or got == want
        for got, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise InputError(
            f"{key} is {array.dtype} {list(array.shape)}, expected {wanted}"
        )
    if array.dtype.kind == "f":
        where = _first(array, lambda piece: ~np.isfinite(piece))
        if where is not None:
            raise InputError(
                f"{key} holds {array[tuple(where)]} at {where}, expected finite values"
            )
    if array.dtype == np.float32:
        check_magnitude(key, array, LARGEST)


def check_magnitude(key: str, array: np.ndarray, largest: float) -> None:
    """Raises InputError about a value that is finite but beyond all reason."""
    where = _first(array, lambda piece: np.abs(piece) > largest)
    if where is not None:
        raise InputError(
            f"{key} holds {array[tuple(where)]:.6g} at {where}, expected magnitudes up "
            f"to {largest:,.0f}"
        )


def _first(
    array: np.ndarray, is_wrong: Callable[[np.ndarray], np.ndarray]
) -> list[int] | None:
    """Where an array holds the first wrong value; None if nowhere.

    It is looked at in pieces: an array may be larger than the memory, and then is a
    mapped file.
    """
    rows = max(1, _PIECE // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), rows):
        wrong = is_wrong(array[start : start + rows])
        if wrong.any():
            row, *rest = np.argwhere(wrong)[0].tolist()
            return [start + row, *rest]
    return None


def check_scales(scales: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Raises InputError about a factor of an item's code that cannot be a mean."""
    for modality, arrays in scales.items():
        for number, array in enumerate(arrays):
            key = f"item_scales/{modality}/{number}"
            check_magnitude(key, array, LARGEST_SCALE)
            lowest = float(array.min(initial=0))
            expect(key, lowest >= 0, lowest, "0 or more everywhere")


def check_per_category(
    key: str,
    items: Mapping[str, Sequence[np.ndarray]],
    modalities: tuple[str, ...],
    categories: tuple[str, ...],
    dtype: type,
    tail: tuple[int, ...],
    counts: tuple[int, ...] | None = None,
) -> tuple[int, ...]:
    """Checks modality -> array per category; returns the numbers of items.

    Args:
      tail: lengths of all axes but the first.
      counts: numbers of items; by default those of the first modality.
    """
    expect(
        key, set(items) == set(modalities), tuple(items), f"the modalities {modalities}"
    )
    for modality in modalities:
        arrays = items[modality]
        expect(
            f"{key}/{modality}",
            len(arrays) == len(categories),
            f"{len(arrays)} arrays",
            f"one for each of {categories}",
        )
        rows = (None,) * len(categories) if counts is None else counts
        for category, array, count in zip(categories, arrays, rows, strict=True):
            check_array(f"{key}/{modality}/{category}", array, dtype, (count, *tail))
        counts = tuple(len(array) for array in arrays)
    assert counts is not None, "check_scalars lets no empty modalities pass"
    return counts


def check_names(
    names: tuple[tuple[str, ...], ...],
    categories: tuple[str, ...],
    counts: tuple[int, ...],
) -> None:
    """Checks item names per category: as many as items, unique, on one line each."""
    got = tuple(len(of_category) for of_category in names)
    expect("names", got == counts, got, f"one name an item: {counts} in {categories}")
    for category, of_category in zip(categories, names, strict=True):
        seen = set()
        for number, name in enumerate(of_category):
            valid = isinstance(name, str) and name != "" and "\n" not in name
            if (
                not valid or name in seen
            ):  # There may be millions, nearly all of them right.
                key = f"names/{category}[{number}]"
                expect(key, valid, name, "a non-empty name on one line")
                expect(key, False, name, "a name used once")
            seen.add(name)


def weight_of_bits(weight: Any, bits: int) -> Float32[np.ndarray, " d"]:
    """A matching weight, one for all bits or one for each.

    Raises:
      InputError: another number of them, or no numbers.
    """
    try:
        return np.broadcast_to(weight, bits).astype(np.float32)
    except (TypeError, ValueError):
        shape = list(np.shape(weight))
        raise InputError(
            f"weights are {shape}, expected a number or [{bits}]"
        ) from None


def check_embeddings(items: Mapping[str, np.ndarray], users: np.ndarray | None) -> None:
    """Checks vectors of items, by category, and of users: floats of one length."""
    expect("items", len(items) > 0, items, "vectors of at least one category")
    bits = None
    vectors = {f"items[{category!r}]": of for category, of in items.items()}
    if users is not None:
        vectors["users"] = users
    for key, array in vectors.items():
        is_table = isinstance(array, np.ndarray) and array.ndim == 2
        if not is_table or array.dtype.kind != "f":
            got = f"{getattr(array, 'dtype', type(array).__name__)}"
            got += f" {list(getattr(array, 'shape', ()))}"
            raise InputError(f"{key} is {got}, expected floats [number, length]")
        bits = array.shape[1] if bits is None else bits
        check_array(key, array, array.dtype.type, (None, bits))
        largest = max(array.max(initial=0), -array.min(initial=0))
        if largest > np.finfo(np.float32).max:
            raise InputError(
                f"{key} holds {largest:.3g}, expected values that 32 bits can hold: at "
                "most 3.4e+38 in size"
            )
    if bits is None or bits < 8 or bits % 8:
        raise InputError(
            f"vectors have {bits} entries, expected a multiple of 8; append columns of "
            "zeros, which add the same to all scores of codes that are not scaled"
        )


def check_range(
    name: str, ids: Int[np.ndarray, " n"], count: int, absent: int | None = None
) -> None:
    """Raises InputError naming the first row whose id is not 0 to count - 1.

    Args:
      absent: is admitted too, for no item.
    """
    wrong = np.flatnonzero(((ids < 0) | (ids >= count)) & (ids != absent))
    if wrong.size:
        none = "" if absent is None else f", or {absent} for none"
        raise InputError(
            f"row {wrong[0]}: {name} {ids[wrong[0]]} is not among the codes; "
            f"expected 0 to {count - 1}{none}"
        )
