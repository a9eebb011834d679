"""The codes artifact: every item and user as packed bits, and the scores they give.

One safetensors file holds all that evaluation, search and the web page need; nothing
here needs an accelerator or an image. Bits are packed in little bit order (bit 0 of
byte 0 is the first entry of the code), 1 stands for +1 (or for 1 in the "01" alphabet).
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from jaxtyping import Float, Float32, Float64, Int, Int8, Num, UInt8

from fhn_jax import files
from fhn_jax.errors import InputError, MissingFileError

FORMAT = "fhn_jax.codes"
LATENTS_FORMAT = "fhn_jax.latents"
VERSION = 1
ALPHABETS = ("pm1", "01")
MODALITIES = ("visual", "text")
SCORES = ("binary", "asymmetric", "relaxed")

_METADATA = (
    "bits",
    "alphabet",
    "modalities",
    "categories",
    "slots",
    "hash_types",
    "zero_item_term",
    "zero_user_term",
    "dataset",
    "dataset_checksum",
    "config_hash",
)
_SAFETENSORS_DTYPES = {"uint8": "U8", "float16": "F16", "float32": "F32"}
# Outfits scored at a time: their unpacked codes then fit the processor's cache.
_CHUNK = 256
_REMEDY = "make it again with the extract-features action"


def pack(codes: Num[np.ndarray, "*n d"]) -> UInt8[np.ndarray, "*n w"]:
    """Packs ±1 or 0/1 codes, eight entries to a byte in little bit order.

    Args:
      codes: entries all in {-1, 1} or all in {0, 1}; `d` a multiple of 8.
    Returns:
      bytes, w = d / 8; a set bit is +1 (or 1).
    Raises:
      ValueError: another length, or entries of neither alphabet.

    >>> pack(np.array([1, -1, -1, -1, -1, -1, -1, 1]))
    array([129], dtype=uint8)
    """
    _check_bits(codes.shape[-1])
    is_set = codes > 0
    if not any(np.array_equal(codes, np.where(is_set, 1, low)) for low in (-1, 0)):
        raise InputError(
            f"codes hold {np.unique(codes)[:5].tolist()}; expected entries that are "
            "all in {-1, 1} or all in {0, 1}; binarise them first"
        )
    return np.packbits(is_set, axis=-1, bitorder="little")


def unpack(
    packed: UInt8[np.ndarray, "*n w"], bits: int, alphabet: str = "pm1"
) -> Int8[np.ndarray, "*n d"]:
    """Unpacks codes to -1/+1 (alphabet "pm1") or to 0/1 (alphabet "01").

    Raises:
      ValueError: `bits` is not 8 times the number of bytes, or an unknown alphabet.

    >>> unpack(np.array([129], np.uint8), 8)
    array([ 1, -1, -1, -1, -1, -1, -1,  1], dtype=int8)
    """
    _check_bits(bits)
    _expect("alphabet", alphabet in ALPHABETS, alphabet, f"one of {ALPHABETS}")
    if packed.shape[-1] * 8 != bits:
        raise InputError(
            f"packed codes of shape {packed.shape} hold {packed.shape[-1] * 8} bits; "
            f"expected bits={bits}"
        )
    codes = np.unpackbits(packed, axis=-1, bitorder="little").view(np.int8)
    return 2 * codes - 1 if alphabet == "pm1" else codes


@dataclass(frozen=True, eq=False)
class Codes:
    """Everything a trained model says about its items and users, checked when made.

    Shapes: n items of one category, u users, d bits, w = d / 8 bytes.

    Attributes:
      bits: d, a multiple of 8.
      alphabet: "pm1" (codes are ±1) or "01".
      modalities: of ("visual", "text"), in this order.
      categories: names of the item categories, such as ("top", "bottom", "shoe").
      slots: the category of each slot of an outfit, such as (0, 1, 2).
      hash_types: which matching weights were learned, 0 to 3.
      zero_item_term, zero_user_term: ablations, see `outfit_scores`.
      dataset, dataset_checksum, config_hash: what the codes were made of.
      items: modality -> packed codes per category, uint8 [n, w].
      item_scales: modality -> factor of each item's code per category, float16 [n];
        None if the codes are not scaled.
      users: packed user codes, uint8 [u, w].
      user_latents: relaxed user codes, float32 [u, d].
      lambda_user, lambda_item: matching weights, float32 [d]; 1 where not learned.
      alpha: factor of the user term; 1 unless `hash_types` is 0.
      names: item names per category, unique in it; None if not kept.
    Raises:
      ValueError: a field is not as said here; names the field, what it is and what was
        expected.
    """

    bits: int
    alphabet: str
    modalities: tuple[str, ...]
    categories: tuple[str, ...]
    slots: tuple[int, ...]
    hash_types: int
    zero_item_term: bool
    zero_user_term: bool
    dataset: str
    dataset_checksum: str
    config_hash: str
    # Shapes and types are checked below, in words that help whoever made the file.
    items: Mapping[str, tuple[np.ndarray, ...]]
    item_scales: Mapping[str, tuple[np.ndarray, ...]] | None
    users: np.ndarray
    user_latents: np.ndarray
    lambda_user: np.ndarray
    lambda_item: np.ndarray
    alpha: float = 1.0
    names: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self):
        _check_scalars({key: getattr(self, key) for key in _METADATA})
        d, width, categories = self.bits, self.bits // 8, self.categories
        counts = _check_per_category(self, "items", self.items, np.uint8, (width,))
        if self.item_scales is not None:
            scales = self.item_scales
            _check_per_category(self, "item_scales", scales, np.float16, (), counts)
        _check_array("users", self.users, np.uint8, (None, width))
        count = len(self.users)
        _check_array("user_latents", self.user_latents, np.float32, (count, d))
        _check_array("lambda_user", self.lambda_user, np.float32, (d,))
        _check_array("lambda_item", self.lambda_item, np.float32, (d,))
        # Rounded as in the file, so that saved codes give the same scores.
        object.__setattr__(self, "alpha", float(np.float32(self.alpha)))
        _check_unlearned(self)
        if self.names is not None:
            _expect(
                "names",
                tuple(len(names) for names in self.names) == counts,
                tuple(len(names) for names in self.names),
                f"one name an item: {counts} in {categories}",
            )
            for category, names in zip(categories, self.names, strict=True):
                _check_names(f"names/{category}", names)

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.users)

    @property
    def num_items(self) -> tuple[int, ...]:
        """Number of items of each category."""
        return tuple(len(codes) for codes in self.items[self.modalities[0]])

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the file that `save` writes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The artifact as a safetensors file; equal codes give equal bytes."""
        metadata = {"format": FORMAT, "version": str(VERSION)}
        metadata |= {key: json.dumps(getattr(self, key)) for key in _METADATA}
        tensors = {
            "users/codes": self.users,
            "users/latents": self.user_latents,
            "lambda_user": self.lambda_user,
            "lambda_item": self.lambda_item,
            "alpha": np.array([self.alpha], np.float32),
        }
        tensors |= _flat("items", self.categories, self.items)
        if self.item_scales is not None:
            tensors |= _flat("scales", self.categories, self.item_scales)
        if self.names is not None:
            for category, names in zip(self.categories, self.names, strict=True):
                text = "\n".join(names).encode()
                tensors[f"names/{category}"] = np.frombuffer(text, np.uint8)
        return _serialize(tensors, metadata)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the artifact, whole or not at all."""
        with files.atomic_path(path) as temporary:
            temporary.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Codes":
        """Reads and checks an artifact.

        Raises:
          FileNotFoundError: no such file.
          ValueError: not a codes artifact of this version, damaged, or inconsistent;
            names the file and the key.
        """
        tensors, metadata = _read(path, FORMAT)
        try:
            scalars = {key: _parse(metadata, key) for key in _METADATA}
            _check_scalars(scalars)
            modalities, categories = scalars["modalities"], scalars["categories"]
            per_item = {
                kind: {
                    modality: tuple(
                        _take(tensors, f"{kind}/{modality}/{category}")
                        for category in categories
                    )
                    for modality in modalities
                }
                for kind in ("items", "scales")
                if kind == "items" or any(key.startswith("scales/") for key in tensors)
            }
            names = None
            if any(key.startswith("names/") for key in tensors):
                names = tuple(
                    _split_names(_take(tensors, f"names/{category}"), category)
                    for category in categories
                )
            alpha = _take(tensors, "alpha")
            _check_array("alpha", alpha, np.float32, (1,))
            codes = cls(
                **scalars,
                items=per_item["items"],
                item_scales=per_item.get("scales"),
                users=_take(tensors, "users/codes"),
                user_latents=_take(tensors, "users/latents"),
                lambda_user=_take(tensors, "lambda_user"),
                lambda_item=_take(tensors, "lambda_item"),
                alpha=float(alpha[0]),
                names=names,
            )
            _expect_none_left(tensors)
        except ValueError as error:
            raise InputError(f"{path}: {error}; {_REMEDY}") from None
        return codes

    def user_codes(self) -> Int8[np.ndarray, "u d"]:
        """All user codes, ±1 or 0/1."""
        return unpack(self.users, self.bits, self.alphabet)

    def to_numpy(self) -> dict[str, tuple[np.ndarray, ...]]:
        """Item codes as ±1 or 0/1 int8 [n, d]: modality -> array per category."""
        return {
            modality: tuple(unpack(c, self.bits, self.alphabet) for c in categories)
            for modality, categories in self.items.items()
        }

    def item_codes(self, modality: str) -> list[np.ndarray]:
        """Item codes times their scales, float32 [n, d] per category.

        These are the item vectors of the binary and the asymmetric score.
        """
        return [
            self.item_vectors(modality, category, np.arange(count))
            for category, count in enumerate(self.num_items)
        ]

    def item_vectors(
        self, modality: str, category: int, ids: Int[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "n d"]:
        """Codes times scales of some items of one category (exact in float32)."""
        packed = self.items[modality][category][ids]
        vectors = unpack(packed, self.bits, self.alphabet).astype(np.float32)
        if self.item_scales is not None:
            vectors *= self.item_scales[modality][category][ids, None]
        return vectors


@dataclass(frozen=True, eq=False)
class Latents:
    """Relaxed item codes, which only the relaxed score needs.

    Attributes:
      items: modality -> relaxed codes per category, float32 [n, d], not scaled.
      codes_sha256: checksum of the codes they belong to.
    Raises:
      ValueError: not float32 matrices of finite values.
    """

    items: Mapping[str, tuple[np.ndarray, ...]]
    codes_sha256: str

    def __post_init__(self):
        for modality, categories in self.items.items():
            for number, latents in enumerate(categories):
                key = f"latents/{modality}/{number}"
                _check_array(key, latents, np.float32, (None, None))

    def save(self, path: str | os.PathLike, codes: Codes) -> None:
        """Writes the latents of `codes`, whole or not at all.

        Raises:
          ValueError: they are not those of `codes`.
        """
        self.check(codes)
        tensors = _flat("latents", codes.categories, self.items)
        metadata = {"format": LATENTS_FORMAT, "version": str(VERSION)}
        metadata["codes_sha256"] = self.codes_sha256
        with files.atomic_path(path) as temporary:
            temporary.write_bytes(_serialize(tensors, metadata))

    @classmethod
    def load(cls, path: str | os.PathLike, codes: Codes) -> "Latents":
        """Reads the latents of `codes`.

        Raises:
          FileNotFoundError: no such file.
          ValueError: another format, damaged, or latents of other codes.
        """
        tensors, metadata = _read(path, LATENTS_FORMAT)
        try:
            items = {
                modality: tuple(
                    _take(tensors, f"latents/{modality}/{category}")
                    for category in codes.categories
                )
                for modality in codes.modalities
            }
            latents = cls(items, metadata.get("codes_sha256", ""))
            latents.check(codes)
            _expect_none_left(tensors)
        except ValueError as error:
            raise InputError(f"{path}: {error}; {_REMEDY}") from None
        return latents

    def check(self, codes: Codes) -> None:
        """Raises ValueError unless these latents belong to `codes`."""
        expected = codes.sha256()
        _expect(
            "codes_sha256",
            self.codes_sha256 == expected,
            self.codes_sha256,
            f"{expected}, the checksum of the codes",
        )
        _check_per_category(
            codes, "latents", self.items, np.float32, (codes.bits,), codes.num_items
        )


def outfit_scores(
    users: Num[np.ndarray, "n d"],
    items: Sequence[Sequence[Num[np.ndarray, "n d"]]],
    slots: tuple[int, ...],
    lambda_user: Float[np.ndarray, " d"],
    lambda_item: Float[np.ndarray, " d"],
    alpha: float = 1.0,
    zero_item_term: bool = False,
    zero_user_term: bool = False,
) -> Float64[np.ndarray, " n"]:
    """Scores outfits, each for one user, from dense codes.

    10 · (user term + item term), mean over modalities. User term: α · mean over items
    and bits of λᵘ u x. Item term: mean over bits and over pairs of items of different
    categories of λⁱ x x'. `zero_item_term` gives 20 · user term; `zero_user_term` gives
    20 · item term; if both are set the former holds.

    Ties: both terms are brought to one denominator and divided once. With λ = 1 and
    codes of ±1 or 0/1 every numerator is a whole number, so scores that are equal on
    paper are equal here, whatever the order of bits, slots or outfits. With learned λ
    the sums are exact in float64 as long as the weights' magnitudes differ by less
    than about 2**20. Real codes are summed in one fixed order, so the same outfit
    always gets the same score.

    Args:
      users: the code of the user of each outfit.
      items: per modality and slot the codes of the outfits' items.
      slots: category of each slot.
    Returns:
      scores, about -20 to 20 for λ = 1.
    Source: Lu et al. 2019.
    """
    n, d = users.shape
    s = len(slots)
    num_pairs = sum(a != b for j, a in enumerate(slots) for b in slots[:j])
    user_sum = np.zeros(n)
    item_sum = np.zeros(n)
    for modality in items:
        # Grouping by category leaves out pairs within one, such as the two tops.
        total = np.zeros((n, d))
        pairs = np.zeros((n, d))
        for category in sorted(set(slots)):
            group = np.zeros((n, d))
            for slot_category, codes in zip(slots, modality, strict=True):
                if slot_category == category:
                    group += codes
            pairs += total * group
            total += group
        # einsum treats each row alike; a BLAS product may round rows differently.
        user_sum += np.einsum("nd,nd,d->n", users, total, lambda_user, dtype=np.float64)
        item_sum += np.einsum("nd,d->n", pairs, lambda_item, dtype=np.float64)
    user_weight, item_weight = 1, 1
    if zero_item_term:
        user_weight, item_weight = 2, 0
    elif zero_user_term:
        user_weight, item_weight = 0, 2
    num_pairs = max(num_pairs, 1)  # one category: the item sum is 0
    numerator = user_weight * alpha * num_pairs * user_sum + item_weight * s * item_sum
    return 10 * numerator / (s * num_pairs * d * len(items))


class Scorer:
    """Scores outfits from a codes artifact.

    Args:
      codes: the artifact.
      latents: relaxed item codes, needed for the relaxed score only.
    Raises:
      ValueError: `latents` are those of other codes.
    """

    def __init__(self, codes: Codes, latents: Latents | None = None):
        if latents is not None:
            latents.check(codes)
        self._codes = codes
        self._latents = latents

    @property
    def which(self) -> tuple[str, ...]:
        """The scores that can be computed: of "binary", "asymmetric", "relaxed"."""
        return SCORES if self._latents is not None else SCORES[:2]

    def score(
        self, which: str, users: Int[np.ndarray, " n"], items: Int[np.ndarray, "n s"]
    ) -> Float32[np.ndarray, " n"]:
        """Scores outfits, a block at a time, so memory does not grow with their number.

        For the tie rule see `outfit_scores`.

        Args:
          which: "binary" (user and item bits), "asymmetric" (real user, item bits) or
            "relaxed" (both real).
          users: user of each outfit.
          items: items of each outfit: ids within the category of the slot.
        Raises:
          ValueError: an unknown score, an id out of range, or no latents for "relaxed".
        """
        codes = self._codes
        _expect("score", which in SCORES, which, f"one of {SCORES}")
        if which not in self.which:
            raise InputError(
                "the relaxed score needs latents.safetensors beside the codes; "
                "extract-features writes it"
            )
        _check_ids(codes, users, items)
        user_vectors = self._binary_users if which == "binary" else self._real_users
        item_vectors = self._real_items if which == "relaxed" else codes.item_vectors
        scores = np.empty(len(users), np.float32)
        for start in range(0, len(users), _CHUNK):
            block = slice(start, start + _CHUNK)
            scores[block] = self._score_block(
                user_vectors(users[block]), items[block], item_vectors
            )
        return scores

    def _score_block(
        self,
        user_vectors: Num[np.ndarray, "n d"],
        items: Int[np.ndarray, "n s"],
        item_vectors: Callable,
    ) -> Float64[np.ndarray, " n"]:
        codes = self._codes
        gathered = [
            [
                item_vectors(modality, category, items[:, slot])
                for slot, category in enumerate(codes.slots)
            ]
            for modality in codes.modalities
        ]
        return outfit_scores(
            user_vectors,
            gathered,
            codes.slots,
            codes.lambda_user,
            codes.lambda_item,
            codes.alpha,
            codes.zero_item_term,
            codes.zero_user_term,
        )

    def _binary_users(self, users: Int[np.ndarray, " n"]) -> Int8[np.ndarray, "n d"]:
        codes = self._codes
        return unpack(codes.users[users], codes.bits, codes.alphabet)

    def _real_users(self, users: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
        return self._codes.user_latents[users]

    def _real_items(
        self, modality: str, category: int, ids: Int[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "n d"]:
        return self._latents.items[modality][category][ids]


def _expect(key: str, holds: bool, got: Any, expected: str) -> None:
    if not holds:
        raise InputError(f"{key} is {got!r}, expected {expected}")


def _check_bits(bits: Any) -> None:
    valid = isinstance(bits, int) and bits >= 8 and bits % 8 == 0
    _expect("bits", valid, bits, "a positive multiple of 8")


def _check_scalars(values: Mapping[str, Any]) -> None:
    _check_bits(values["bits"])
    alphabet = values["alphabet"]
    _expect("alphabet", alphabet in ALPHABETS, alphabet, f"one of {ALPHABETS}")
    modalities = values["modalities"]
    _expect(
        "modalities",
        modalities in (MODALITIES, MODALITIES[:1], MODALITIES[1:]),
        modalities,
        f"a non-empty part of {MODALITIES}, in this order",
    )
    categories = values["categories"]
    _expect(
        "categories",
        isinstance(categories, tuple)
        and all(_is_text(c) and c and "/" not in c for c in categories)
        and 0 < len(set(categories)) == len(categories),
        categories,
        "different printable names without a slash",
    )
    slots = values["slots"]
    _expect(
        "slots",
        isinstance(slots, tuple)
        and all(type(slot) is int for slot in slots)
        and set(slots) == set(range(len(categories))),
        slots,
        f"numbers of categories, each of {categories} at least once",
    )
    types = values["hash_types"]
    _expect("hash_types", types in (0, 1, 2, 3), types, "0, 1, 2 or 3")
    for key in ("zero_item_term", "zero_user_term"):
        _expect(key, isinstance(values[key], bool), values[key], "true or false")
    for key in ("dataset", "dataset_checksum", "config_hash"):
        _expect(key, _is_text(values[key]), values[key], "a printable string")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _check_unlearned(codes: Codes) -> None:
    _expect("alpha", bool(np.isfinite(codes.alpha)), codes.alpha, "a finite number")
    learned = {"alpha": (0,), "lambda_user": (1, 3), "lambda_item": (2, 3)}
    types = codes.hash_types
    for key in learned:
        values = np.atleast_1d(getattr(codes, key))
        others = values[values != 1]
        if others.size and types not in learned[key]:
            raise InputError(
                f"{key} holds {others[0]}, expected 1: hash_types={types} does not "
                "learn it"
            )


def _check_array(
    key: str, array: Any, dtype: type, shape: tuple[int | None, ...]
) -> None:
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
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0].tolist()
        raise InputError(
            f"{key} holds {array[tuple(where)]} at {where}, expected finite values"
        )


def _check_per_category(
    codes: Codes,
    key: str,
    items: Mapping[str, tuple],
    dtype: type,
    tail: tuple[int, ...],
    counts: tuple[int, ...] | None = None,
) -> tuple[int, ...]:
    """Checks modality -> array per category; returns the numbers of items."""
    _expect(
        key,
        set(items) == set(codes.modalities),
        tuple(items),
        f"the modalities {codes.modalities}",
    )
    for modality in codes.modalities:
        arrays = items[modality]
        _expect(
            f"{key}/{modality}",
            len(arrays) == len(codes.categories),
            f"{len(arrays)} arrays",
            f"one for each of {codes.categories}",
        )
        for number, (category, array) in enumerate(
            zip(codes.categories, arrays, strict=True)
        ):
            rows = None if counts is None else counts[number]
            _check_array(f"{key}/{modality}/{category}", array, dtype, (rows, *tail))
        counts = tuple(len(array) for array in arrays)
    return counts


def _check_names(key: str, names: tuple[str, ...]) -> None:
    seen = set()
    for number, name in enumerate(names):
        valid = isinstance(name, str) and name != "" and "\n" not in name
        _expect(f"{key}[{number}]", valid, name, "a non-empty name on one line")
        _expect(f"{key}[{number}]", name not in seen, name, "a name used once")
        seen.add(name)


def _check_ids(
    codes: Codes, users: Int[np.ndarray, " n"], items: Int[np.ndarray, "n s"]
) -> None:
    _expect(
        "items.shape",
        items.shape == (len(users), len(codes.slots)),
        items.shape,
        f"{(len(users), len(codes.slots))}: one outfit a user, one item a slot",
    )
    _check_range("user", users, codes.num_users)
    for slot, category in enumerate(codes.slots):
        name = f"{codes.categories[category]} (slot {slot})"
        _check_range(name, items[:, slot], codes.num_items[category])


def _check_range(name: str, ids: Int[np.ndarray, " n"], count: int) -> None:
    wrong = np.flatnonzero((ids < 0) | (ids >= count))
    if wrong.size:
        raise InputError(
            f"row {wrong[0]}: {name} {ids[wrong[0]]} is not among the codes; "
            f"expected 0 to {count - 1}"
        )


def _flat(
    kind: str, categories: tuple[str, ...], items: Mapping[str, tuple]
) -> dict[str, np.ndarray]:
    return {
        f"{kind}/{modality}/{category}": array
        for modality, arrays in items.items()
        for category, array in zip(categories, arrays, strict=True)
    }


def _serialize(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file whose bytes depend on nothing but its contents.

    The safetensors package writes metadata in an order that changes from run to run,
    so equal codes would have unequal checksums.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    blobs, end = [], 0
    # Wide types first: every tensor then starts at a multiple of its item size.
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):
        tensor = tensors[name]
        little_endian = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
        blobs.append(little_endian.tobytes())
        start, end = end, end + len(blobs[-1])
        header[name] = {
            "dtype": _SAFETENSORS_DTYPES[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *blobs])


def _read(
    path: str | os.PathLike, expected: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no such file, expected a {expected} artifact; {_REMEDY}"
        )
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            found = metadata.get("format")
            version = metadata.get("version", "")
            if found == expected and version == str(VERSION):
                return {key: file.get_tensor(key) for key in file.keys()}, metadata
    # The package raises nearly anything at types that numpy does not have.
    except Exception as error:
        with open(path, "rb") as file:
            start = file.read(8)
        raise InputError(
            f"{path}: not a whole safetensors file ({error}; its first bytes are "
            f"{start!r}), expected a {expected} artifact; {_REMEDY}"
        ) from None
    if found != expected:
        raise InputError(f"{path}: format is {found!r}, expected {expected!r}")
    remedy = _REMEDY
    if version.isdigit() and int(version) > VERSION:
        remedy = "update fhn_jax"
    raise InputError(f"{path}: version is {version!r}, expected '{VERSION}'; {remedy}")


def _parse(metadata: Mapping[str, str], key: str) -> Any:
    if key not in metadata:
        raise InputError(f"metadata {key} is missing")
    try:
        value = json.loads(metadata[key])
    except (ValueError, RecursionError):
        raise InputError(
            f"metadata {key} is {metadata[key][:60]!r}, expected JSON"
        ) from None
    return tuple(value) if isinstance(value, list) else value


def _take(tensors: dict[str, np.ndarray], key: str) -> np.ndarray:
    if key not in tensors:
        raise InputError(f"tensor {key} is missing")
    return tensors.pop(key)


def _expect_none_left(tensors: Mapping[str, np.ndarray]) -> None:
    _expect("tensors", not tensors, sorted(tensors)[:5], "none besides the known ones")


def _split_names(text: np.ndarray, category: str) -> tuple[str, ...]:
    key = f"names/{category}"
    _check_array(key, text, np.uint8, (None,))
    if not text.size:
        return ()
    try:
        return tuple(text.tobytes().decode().split("\n"))
    except UnicodeDecodeError as error:
        raise InputError(f"{key} is not UTF-8 ({error})") from None
