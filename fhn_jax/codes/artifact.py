"""The codes artifact: every item and user as packed bits, and the scores they give.

One safetensors file holds all that evaluation, search and the web page need; nothing
here needs an accelerator or an image. Bits are packed in little bit order (bit 0 of
byte 0 is the first entry of the code), 1 stands for +1 (or for 1 in the "01" alphabet).
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int, Int8, UInt8

from fhn_jax import files
from fhn_jax.codes import checks, tensor_file
from fhn_jax.codes.packing import pack, unpack
from fhn_jax.errors import InputError

# In the workdir of a run.
FILE = "codes.safetensors"
FORMAT = "fhn_jax.codes"

_METADATA = (
    "bits",
    "alphabet",
    "modalities",
    "categories",
    "slots",
    "templates",
    "hash_types",
    "zero_item_term",
    "zero_user_term",
    "dataset",
    "dataset_checksum",
    "config_hash",
    "lineage",
)


# Stands for weights that are all 1, of a length that is not known yet.
_ONES = np.ones(0, np.float32)


@dataclass(frozen=True, eq=False, kw_only=True)
class Codes:
    """Everything a trained model says about its items and users, checked when made.

    `fhn_jax.load` reads the codes of a run, and `from_embeddings` makes codes of vectors
    from elsewhere.

    Shapes: n items of one category, u users, d bits, w = d / 8 bytes.

    Attributes:
      bits: d, a multiple of 8.
      modalities: of `MODALITIES`, in that order.
      categories: names of the item categories, such as ("top", "bottom", "shoe").
      items: modality -> packed codes per category, uint8 [n, w].
      users: packed user codes, uint8 [u, w].
      user_latents: relaxed user codes, float32 [u, d].
      item_scales: modality -> factor of each item's code per category, float16 [n];
        None if the codes are not scaled.
      slots: the category of each slot of an outfit; by default one of each category, in
        order.
      templates: which slots make an outfit, by number, sorted; by default all together.
        A row of items has -1 where its template has no such slot.
      alphabet: "pm1" (codes are ±1) or "01".
      hash_types: which matching weights were learned, 0 to 3.
      lambda_user, lambda_item: matching weights, float32 [d]; 1 where not learned.
      alpha: factor of the user term; 1 unless `hash_types` is 0.
      zero_item_term, zero_user_term: ablations, see `ScoreForm`.
      names: item names per category, unique in it; None if not kept.
      dataset, dataset_checksum, config_hash: what the codes were made of.
      lineage: of codes that grew out of others, whose items and users they have by the
        same numbers: the `identity` of these; "" of the first.
    Raises:
      ValueError: a field is not as said here; names the field, what it is and what was
        expected.

    >>> rng = np.random.default_rng(0)
    >>> codes = Codes(
    ...     bits=16,
    ...     modalities=("visual",),
    ...     categories=("top", "shoe"),
    ...     items={"visual": (pack(rng.choice([-1, 1], (5, 16))),) * 2},
    ...     users=pack(rng.choice([-1, 1], (3, 16))),
    ...     user_latents=rng.normal(size=(3, 16)).astype(np.float32),
    ... )
    >>> codes
    Codes(16 bits, visual, 10 items in top/shoe, 3 users)
    >>> len(codes), codes.num_items, codes.slots
    (10, (5, 5), (0, 1))
    """

    bits: int
    modalities: tuple[str, ...]
    categories: tuple[str, ...]
    # Shapes and types are checked below, in words that help whoever made the file.
    items: Mapping[str, tuple[np.ndarray, ...]]
    users: np.ndarray
    user_latents: np.ndarray
    item_scales: Mapping[str, tuple[np.ndarray, ...]] | None = None
    slots: tuple[int, ...] = ()
    templates: tuple[tuple[int, ...], ...] = ()
    alphabet: str = "pm1"
    hash_types: int = 0
    lambda_user: np.ndarray = field(default_factory=lambda: _ONES)
    lambda_item: np.ndarray = field(default_factory=lambda: _ONES)
    alpha: float = 1.0
    zero_item_term: bool = False
    zero_user_term: bool = False
    names: tuple[tuple[str, ...], ...] | None = None
    dataset: str = ""
    dataset_checksum: str = ""
    config_hash: str = ""
    lineage: str = ""

    def __post_init__(self):
        if self.slots == ():
            object.__setattr__(self, "slots", tuple(range(len(self.categories))))
        if self.templates == ():
            object.__setattr__(self, "templates", (tuple(range(len(self.slots))),))
        checks.check_scalars({key: getattr(self, key) for key in _METADATA})
        d, width = self.bits, self.bits // 8
        for key in ("lambda_user", "lambda_item"):
            if getattr(self, key) is _ONES:
                object.__setattr__(self, key, np.ones(d, np.float32))
        of = (self.modalities, self.categories)
        counts = checks.check_per_category("items", self.items, *of, np.uint8, (width,))
        if self.item_scales is not None:
            checks.check_per_category(
                "item_scales", self.item_scales, *of, np.float16, (), counts
            )
            checks.check_scales(self.item_scales)
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

    def __repr__(self) -> str:
        return (
            f"Codes({self.bits} bits, {'+'.join(self.modalities)}, {len(self):,} items "
            f"in {'/'.join(self.categories)}, {self.num_users:,} users)"
        )

    def __len__(self) -> int:
        """Number of items, of all categories."""
        return sum(self.num_items)

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.users)

    @property
    def num_items(self) -> tuple[int, ...]:
        """Number of items of each category."""
        return tuple(len(codes) for codes in self.items[self.modalities[0]])

    @property
    def template_names(self) -> tuple[tuple[str, ...], ...]:
        """The categories of each template's slots."""
        return tuple(
            tuple(self.categories[self.slots[slot]] for slot in each)
            for each in self.templates
        )

    @classmethod
    def from_embeddings(
        cls,
        items: Mapping[str, np.ndarray],
        users: np.ndarray | None = None,
        weights: tuple[np.ndarray | float, np.ndarray | float] | None = None,
        *,
        scaled: bool = False,
        centre: bool = True,
        names: Mapping[str, Sequence[str]] | None = None,
        templates: Sequence[Sequence[str]] = (),
    ) -> "Codes":
        """Codes of vectors from elsewhere, such as CLIP embeddings of the images.

        Each bit of an item is the sign of an entry of its vector less the mean over its
        category: embeddings point in nearly one direction, and uncentred most bits would
        be the same for all items. An item's personal score is then high for users whose
        vectors point its way, and items go together that differ from the mean of their
        categories alike.

        Users are vectors of the same space, such as the mean of the items that somebody
        likes. The mean of the categories' means is taken from them too, and each is
        divided by its mean magnitude, so that taste and compatibility count alike in an
        outfit; `weights` changes that.

        Args:
          items: category -> vectors, [n, d].
          users: [u, d]; none by default: user vectors can be given to search and
            compose later, and `fhn_jax.fit_users` learns users from likes.
          weights: of the user term and of the item term (λᵘ, λⁱ), a number or one for
            each bit; 1 by default.
          scaled: whether to keep each item's mean magnitude, relative to that of all, as
            the factor of its code: closer to the vectors, 2 bytes an item more. Appended
            zeros then count in the item term.
          centre: whether to take means away; False for vectors that were trained for
            their inner products with the users'.
          names: category -> item names, of every category.
          templates: the categories of which an outfit has one item each, such as
            [("top", "bottom", "shoe"), ("dress", "shoe")]; by default all together.
        Raises:
          ValueError: no items; a template or names of unknown categories; weights of
            another length; vectors that differ in length or are not finite; a length that
            is not a multiple of 8 (append columns of zeros, which add the same to all
            scores of codes that are not scaled).
        Source: signs of centred vectors keep their angles, see Charikar 2002, "Similarity
          estimation techniques from rounding algorithms"; with one factor an item they
          are the nearest such code, see Rastegari et al. 2016, "XNOR-Net".

        >>> rng = np.random.default_rng(0)
        >>> vectors = {name: rng.normal(size=(50, 64)) for name in ("top", "shoe")}
        >>> Codes.from_embeddings(vectors, users=rng.normal(size=(4, 64)))
        Codes(64 bits, visual, 100 items in top/shoe, 4 users)
        """
        checks.check_embeddings(items, users)
        bits = next(iter(items.values())).shape[1]
        vectors = {name: of.astype(np.float32) for name, of in items.items()}
        means = [
            of.mean(axis=0, dtype=np.float64) if centre and len(of) else np.zeros(bits)
            for of in vectors.values()
        ]
        centred = [
            of - mean.astype(np.float32)
            for of, mean in zip(vectors.values(), means, strict=True)
        ]
        latents = np.zeros((0, bits))
        if users is not None:
            there = [
                mean
                for mean, of in zip(means, vectors.values(), strict=True)
                if len(of)
            ]
            latents = users - (np.mean(there, axis=0) if there else 0.0)
        # Columns of zeros, appended to fill bytes, change nothing.
        filled = np.maximum(np.count_nonzero(latents, axis=1, keepdims=True), 1)
        size = np.abs(latents).sum(axis=1, keepdims=True) / filled
        latents = latents / np.where(size > 0, size, 1)
        scales = None
        if scaled:
            sizes = [np.abs(of).mean(axis=1) for of in centred]
            unit = np.concatenate(sizes).mean() or 1.0
            scales = {"visual": tuple((s / unit).astype(np.float16) for s in sizes)}
        lambda_user, lambda_item = (
            checks.weight_of_bits(weight, bits)
            for weight in ((1, 1) if weights is None else weights)
        )
        of_items = None
        if names is not None:
            known = f"item names of {list(items)}"
            checks.expect("names", set(names) == set(items), list(names), known)
            of_items = tuple(tuple(names[category]) for category in items)
        return cls(
            bits=bits,
            modalities=("visual",),
            categories=tuple(items),
            items={"visual": tuple(_signs(of) for of in centred)},
            users=_signs(latents),
            user_latents=latents.astype(np.float32),
            item_scales=scales,
            hash_types=0 if weights is None else 3,
            lambda_user=lambda_user,
            lambda_item=lambda_item,
            names=of_items,
            templates=tuple(
                sorted({checks.template_of(each, tuple(items)) for each in templates})
            ),
            dataset="embeddings",
        )

    def first_items(self, counts: Sequence[int]) -> "Codes":
        """The same with the first items of each category alone.

        Args:
          counts: how many of each; at most those that there are.
        """

        def cut(tables: Mapping[str, tuple[np.ndarray, ...]]):
            return {
                modality: tuple(t[:n] for t, n in zip(of, counts, strict=True))
                for modality, of in tables.items()
            }

        names = self.names and tuple(
            of[:count] for of, count in zip(self.names, counts, strict=True)
        )
        return replace(
            self,
            items=cut(self.items),
            item_scales=self.item_scales and cut(self.item_scales),
            names=names,
        )

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the artifact, which `save` writes into it."""
        return tensor_file.digest(*self._contents())

    def without_users(self, gone: Sequence[int]) -> "Codes":
        """The same with nothing of some users, whose numbers stay."""
        users, latents = self.users.copy(), self.user_latents.copy()
        users[[*gone]], latents[[*gone]] = 0, 0
        return replace(self, users=users, user_latents=latents, lineage=self.identity)

    def without_item(self, category: int, item: int, name: str) -> "Codes":
        """The same with nothing of an item, whose number stays.

        Args:
          name: that it has then.
        """
        names = self.names
        if names is not None:
            own = (*names[category][:item], name, *names[category][item + 1 :])
            names = (*names[:category], own, *names[category + 1 :])
        scales = self.item_scales
        return replace(
            self,
            items=erased(self.items, category, item),
            item_scales=scales and erased(scales, category, item),
            names=names,
            lineage=self.identity,
        )

    @property
    def identity(self) -> str:
        """What stays when items and users are added, or codes made anew for them.

        Whatever refers to items by number, such as what visitors judged, goes with it.
        """
        return self.lineage or self.sha256()

    def to_bytes(self) -> bytes:
        """The artifact as a safetensors file; equal codes give equal bytes."""
        return tensor_file.serialize(*self._contents())

    def write(self, path: str | os.PathLike) -> None:
        """Writes the artifact to a file that others do not see yet; see `save`."""
        tensor_file.write(path, *self._contents())

    def _contents(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Tensors and metadata of the file."""
        metadata = {"format": FORMAT, "version": str(tensor_file.VERSION)}
        metadata |= {key: json.dumps(getattr(self, key)) for key in _METADATA}
        if len(self.templates) == 1:
            del metadata["templates"]
        if not self.lineage:
            del metadata["lineage"]
        tensors = {
            "users/codes": self.users,
            "users/latents": self.user_latents,
            "lambda_user": self.lambda_user,
            "lambda_item": self.lambda_item,
            "alpha": np.array([self.alpha], np.float32),
        }
        tensors |= tensor_file.flat("items", self.categories, self.items)
        if self.item_scales is not None:
            tensors |= tensor_file.flat("scales", self.categories, self.item_scales)
        if self.names is not None:
            for category, names in zip(self.categories, self.names, strict=True):
                tensors[f"names/{category}"] = tensor_file.join_names(names)
        return tensors, metadata

    def save(self, path: str | os.PathLike) -> None:
        """Writes the artifact, whole or not at all."""
        with files.atomic_path(path) as temporary:
            self.write(temporary)

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
            tensor_file.expect_keys(metadata, _METADATA)
            # Files of one template do not name it, and the first codes no lineage.
            metadata.setdefault("templates", "[]")
            metadata.setdefault("lineage", '""')
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


def erased(
    tables: Mapping[str, tuple[np.ndarray, ...]], category: int, item: int
) -> dict[str, tuple[np.ndarray, ...]]:
    """Arrays by category, with zeros where an item is."""
    found = {}
    for modality, of in tables.items():
        table = of[category].copy()
        table[item] = 0
        found[modality] = (*of[:category], table, *of[category + 1 :])
    return found


def load(path: str | os.PathLike) -> Codes:
    """The codes of a run.

    Args:
      path: workdir of the run, or the file of the codes itself.
    Raises:
      FileNotFoundError, ValueError: as `Codes.load`.

    >>> import tempfile
    >>> ones = np.ones((2, 8))
    >>> with tempfile.TemporaryDirectory() as workdir:
    ...     codes = Codes.from_embeddings({"top": ones, "shoe": ones})
    ...     codes.save(f"{workdir}/codes.safetensors")
    ...     load(workdir)
    Codes(8 bits, visual, 4 items in top/shoe, 0 users)
    """
    path = Path(path)
    return Codes.load(path / FILE if path.is_dir() else path)


def _signs(vectors: Float[np.ndarray, "n d"]) -> UInt8[np.ndarray, "n w"]:
    """Packed codes; the sign of 0 is +1, as the hash layers decide."""
    return pack(np.where(vectors >= 0, 1, -1))
