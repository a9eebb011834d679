"""The codes artifact: every item and user as packed bits, and the scores they give.

One safetensors file holds all that evaluation, search and the web page need; nothing
here needs an accelerator or an image. Bits are packed in little bit order (bit 0 of
byte 0 is the first entry of the code), 1 stands for +1 (or for 1 in the "01" alphabet).
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int8

from fhn_jax import files
from fhn_jax.codes import checks, tensor_file
from fhn_jax.codes.packing import unpack
from fhn_jax.errors import InputError

FORMAT = "fhn_jax.codes"
LATENTS_FORMAT = "fhn_jax.latents"

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
      zero_item_term, zero_user_term: ablations, see `ScoreForm`.
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
        checks.check_scalars({key: getattr(self, key) for key in _METADATA})
        d, width = self.bits, self.bits // 8
        of = (self.modalities, self.categories)
        counts = checks.check_per_category("items", self.items, *of, np.uint8, (width,))
        if self.item_scales is not None:
            checks.check_per_category(
                "item_scales", self.item_scales, *of, np.float16, (), counts
            )
        checks.check_array("users", self.users, np.uint8, (None, width))
        count = len(self.users)
        checks.check_array("user_latents", self.user_latents, np.float32, (count, d))
        checks.check_array("lambda_user", self.lambda_user, np.float32, (d,))
        checks.check_array("lambda_item", self.lambda_item, np.float32, (d,))
        # Rounded as in the file, so that saved codes give the same scores.
        object.__setattr__(self, "alpha", float(np.float32(self.alpha)))
        weights = {k: getattr(self, k) for k in ("alpha", "lambda_user", "lambda_item")}
        checks.check_unlearned(self.hash_types, weights)
        if self.names is not None:
            checks.check_names(self.names, self.categories, counts)

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
        metadata = {"format": FORMAT, "version": str(tensor_file.VERSION)}
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
                tensors[f"names/{category}"] = tensor_file.join_names(names)
        return tensor_file.serialize(tensors, metadata)

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
        tensors, metadata = tensor_file.read(path, FORMAT)
        try:
            scalars = {key: tensor_file.parse(metadata, key) for key in _METADATA}
            checks.check_scalars(scalars)
            modalities, categories = scalars["modalities"], scalars["categories"]
            per_item = {
                kind: {
                    modality: tuple(
                        tensor_file.take(tensors, f"{kind}/{modality}/{category}")
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
                    tensor_file.split_names(key, tensor_file.take(tensors, key))
                    for key in (f"names/{category}" for category in categories)
                )
            alpha = tensor_file.take(tensors, "alpha")
            checks.check_array("alpha", alpha, np.float32, (1,))
            codes = cls(
                **scalars,
                items=per_item["items"],
                item_scales=per_item.get("scales"),
                users=tensor_file.take(tensors, "users/codes"),
                user_latents=tensor_file.take(tensors, "users/latents"),
                lambda_user=tensor_file.take(tensors, "lambda_user"),
                lambda_item=tensor_file.take(tensors, "lambda_item"),
                alpha=float(alpha[0]),
                names=names,
            )
            tensor_file.expect_none_left(tensors)
        except InputError as error:
            raise InputError(f"{path}: {error}; {tensor_file.REMEDY}") from None
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
                checks.check_array(key, latents, np.float32, (None, None))

    def save(self, path: str | os.PathLike, codes: Codes) -> None:
        """Writes the latents of `codes`, whole or not at all.

        Raises:
          ValueError: they are not those of `codes`.
        """
        self.check(codes)
        tensors = _flat("latents", codes.categories, self.items)
        metadata = {"format": LATENTS_FORMAT, "version": str(tensor_file.VERSION)}
        metadata["codes_sha256"] = self.codes_sha256
        with files.atomic_path(path) as temporary:
            temporary.write_bytes(tensor_file.serialize(tensors, metadata))

    @classmethod
    def load(cls, path: str | os.PathLike, codes: Codes) -> "Latents":
        """Reads the latents of `codes`.

        Raises:
          FileNotFoundError: no such file.
          ValueError: another format, damaged, or latents of other codes.
        """
        tensors, metadata = tensor_file.read(path, LATENTS_FORMAT)
        try:
            items = {
                modality: tuple(
                    tensor_file.take(tensors, f"latents/{modality}/{category}")
                    for category in codes.categories
                )
                for modality in codes.modalities
            }
            latents = cls(items, metadata.get("codes_sha256", ""))
            latents.check(codes)
            tensor_file.expect_none_left(tensors)
        except InputError as error:
            raise InputError(f"{path}: {error}; {tensor_file.REMEDY}") from None
        return latents

    def check(self, codes: Codes) -> None:
        """Raises ValueError unless these latents belong to `codes`."""
        expected = codes.sha256()
        checks.expect(
            "codes_sha256",
            self.codes_sha256 == expected,
            self.codes_sha256,
            f"{expected}, the checksum of the codes",
        )
        checks.check_per_category(
            "latents",
            self.items,
            codes.modalities,
            codes.categories,
            np.float32,
            (codes.bits,),
            codes.num_items,
        )

    def item_vectors(
        self, modality: str, category: int, ids: Int[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "n d"]:
        """Relaxed codes of some items of one category."""
        return self.items[modality][category][ids]


def _flat(
    kind: str, categories: tuple[str, ...], items: Mapping[str, tuple]
) -> dict[str, np.ndarray]:
    return {
        f"{kind}/{modality}/{category}": array
        for modality, arrays in items.items()
        for category, array in zip(categories, arrays, strict=True)
    }
