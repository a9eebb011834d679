"""The whole network: images, text and users to codes, and codes to scores."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from fhn_jax.errors import InputError
from fhn_jax.models.backbones import make_backbone
from fhn_jax.models.hashing import Hash
from fhn_jax.models.heads import Head, UserEncoder
from fhn_jax.models.matching import Matching

MODALITIES = ("visual", "features", "text")
PRECOMPUTED = "precomputed"


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the data decide about a network.

    Attributes:
      num_users: number of users.
      slots: the category index of each slot of an outfit.
      text_dim: length of a text vector, 0 without text.
      image_size: pixels of a side, 0 without images.
      feature_dim: length of precomputed features, which stand beside images or in for
        them; 0 without.
      templates: the sets of slots that outfits fill; () is one of all slots.
    """

    num_users: int
    slots: tuple[int, ...]
    text_dim: int = 0
    image_size: int = 0
    feature_dim: int = 0
    templates: tuple[tuple[int, ...], ...] = ()

    @property
    def num_categories(self) -> int:
        return max(self.slots) + 1

    @property
    def has_absent(self) -> bool:
        """Whether there are outfits that leave a slot empty."""
        return any(len(template) < len(self.slots) for template in self.templates)

    @property
    def has_one_item(self) -> bool:
        """Whether every outfit is a single item."""
        return bool(self.templates) and max(map(len, self.templates)) == 1


class FashionHashNet(nnx.Module):
    """Fashion Hash Net.

    A user, and each item by each modality, get a latent vector z; the hash layer turns
    z into a relaxed and a binary code; `Matching` scores outfits of codes. One user
    code and one set of matching weights serve all modalities; the score of an outfit is
    the mean over modalities.

    Args:
      shape: what the data decide.
      modalities: of `MODALITIES`.
      bits: length D of a code, a multiple of 8.
      hash: the hash layer.
      backbone: name and options of the image network, see `make_backbone`; the name
        `PRECOMPUTED` is none: precomputed features are the visual inputs, and there is
        no modality "features".
      frozen_backbone: no gradient goes into the image network.
      visual_head, text_head: dict(hidden, input_dropout, dropout, stddev, gain); features
        have a visual head; visual hidden 0 takes half of its inputs.
      single: one head for all categories instead of one each.
      user: dict(share_user, stddev), see `UserEncoder`.
      matching: dict(hash_types, zero_item_term, zero_user_term), see `Matching`.
    Raises:
      ValueError: bits no multiple of 8, a modality unknown or without data.
    Source: Lu et al., CVPR 2019.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        modalities: tuple[str, ...],
        bits: int,
        hash: Hash,
        backbone: dict[str, Any],
        visual_head: dict[str, Any],
        text_head: dict[str, Any],
        single: bool,
        user: dict[str, Any],
        matching: dict[str, Any],
        frozen_backbone: bool = False,
        rngs: nnx.Rngs,
    ):
        check_bits(bits)
        check_modalities(modalities, shape)
        check_features(modalities, backbone["name"], shape)
        self.modalities = tuple(m for m in MODALITIES if m in modalities)
        self.bits = bits
        self.hash = hash
        self.single = single
        self.frozen_backbone = frozen_backbone
        seen = "visual" in self.modalities and backbone["name"] != PRECOMPUTED
        self.backbone = make_backbone(**backbone, rngs=rngs) if seen else None
        self.heads = nnx.Dict()
        for modality in self.modalities:
            options = dict(text_head if modality == "text" else visual_head)
            inputs = shape.text_dim if modality == "text" else shape.feature_dim
            if modality == "visual" and self.backbone is not None:
                inputs = self.backbone.num_features
                check_image_size(shape.image_size, self.backbone, backbone["name"])
            options["hidden"] = options["hidden"] or inputs // 2
            count = 1 if single else shape.num_categories
            self.heads[modality] = nnx.List(
                [Head(inputs, bits=bits, **options, rngs=rngs) for _ in range(count)]
            )
        self.user = UserEncoder(shape.num_users, bits, **user, rngs=rngs)
        self.matching = Matching(bits, shape.slots, shape.templates, **matching)
        self.has_absent, self.has_one_item = shape.has_absent, shape.has_one_item

    @property
    def masked(self) -> bool:
        """Whether images come with the mask of the garment, as a fourth channel."""
        return getattr(self.backbone, "masked", False)

    def features(self, images: Float[Array, "n h w c"]) -> Float[Array, "n f"]:
        """Backbone features of normalised images of any category; see `masked`."""
        if self.backbone is None:
            raise ValueError("a network of text or of features takes no images")
        x = self.backbone(images)
        return jax.lax.stop_gradient(x) if self.frozen_backbone else x

    def head(self, modality: str, category: int) -> Head:
        """The head of a category."""
        return self.heads[modality][0 if self.single else category]

    def item_latents(
        self,
        inputs: dict[str, Float[Array, "n *f"]],
        segments: tuple[int, ...],
        rngs: nnx.Rngs | None = None,
    ) -> dict[str, tuple[Float[Array, "_ d"], ...]]:
        """Latents of items of all categories, the backbone called once on all images.

        Args:
          inputs: "visual": normalised images, or features where there is no backbone,
            "features": features beside images, "text": text vectors; a row an item,
            items of category 0 first.
          segments: how many rows belong to each category.
          rngs: for dropout; none switches it off.
        Returns:
          modality → per category latents.
        """
        latents = {}
        bounds = [sum(segments[:i]) for i in range(1, len(segments))]
        for modality in self.modalities:
            x = inputs[modality]
            if modality == "visual" and self.backbone is not None:
                x = self.features(x)
            latents[modality] = tuple(
                self.head(modality, category)(part, rngs)
                for category, part in enumerate(jnp.split(x, bounds))
            )
        return latents

    def scores(
        self,
        users: Int[Array, " b"],
        latents: dict[str, tuple[Float[Array, "_ d"], ...]],
        outfits: Int[Array, "b c s"],
        slots: tuple[int, ...],
        beta: float | Float[Array, ""] = 1.0,
    ) -> tuple[Float[Array, "b c"], Float[Array, "b c"]]:
        """Relaxed and binary scores of candidate outfits, the mean over modalities.

        Args:
          users: user ids.
          latents: from `item_latents`.
          outfits: rows of the latents of each slot's category, -1 where there is none.
          slots: the category index of each slot.
          beta: slope of the relaxation (`tanh`, `binary01`).
        """
        z = self.user(users)[:, None, :]
        relaxed = self.match(
            self.hash.relaxed(z, beta),
            latents,
            outfits,
            slots,
            lambda part: self.hash.relaxed(part, beta),
        )
        binary = self.match(
            self.hash.binary(z), latents, outfits, slots, self.hash.item
        )
        return relaxed, binary

    def match(
        self,
        users: Float[Array, "*#b d"],
        latents: dict[str, tuple[Float[Array, "_ d"], ...]],
        outfits: Int[Array, "*#b s"],
        slots: tuple[int, ...],
        code: Callable[[Array], Array],
    ) -> Float[Array, "*#b"]:
        """Scores of outfits for user codes, the mean over modalities.

        Args:
          users: codes; leading axes broadcast against those of `outfits`.
          latents: of items, by modality and category.
          outfits: rows of the latents of each slot's category, -1 where there is none.
          slots: the category index of each slot.
          code: from latents of items to their codes.
        """
        total: Any = 0.0
        for by_category in latents.values():
            codes = [code(part) for part in by_category]
            total += self.matching(users, *self._of_outfits(codes, outfits, slots))
        return total / len(latents)

    def _of_outfits(self, parts, outfits, slots):
        """Rows of the items of outfits [*b, s, d], and in which slots there is one."""
        if self.has_one_item:  # Rows of the other slots would be read for nothing.
            starts = np.cumsum([0, *(len(part) for part in parts)])
            where: Any = sum(
                jnp.where(outfits[..., s] >= 0, outfits[..., s] + int(starts[c]), 0)
                for s, c in enumerate(slots)
            )
            return jnp.concatenate(parts)[where][..., None, :], None
        items = jnp.stack(
            [_rows(parts[c], outfits[..., s]) for s, c in enumerate(slots)], axis=-2
        )
        # Data without absent items pay for no mask.
        return items, outfits >= 0 if self.has_absent else None


def _rows(codes: Float[Array, "n d"], rows: Int[Array, "*b"]) -> Float[Array, "*b d"]:
    """Some rows; nothing but absent ones can be asked of a category without items."""
    if not len(codes):
        return jnp.zeros((*rows.shape, codes.shape[1]), codes.dtype)
    return codes[rows]


def check_bits(bits: int) -> None:
    """Raises ValueError unless a code of `bits` fills whole bytes."""
    if bits < 8 or bits % 8:
        raise InputError(
            f"model.bits={bits}: codes are stored in whole bytes; use a multiple of 8, "
            f"e.g. {max(8, round(bits / 8) * 8)}"
        )


def check_modalities(modalities: tuple[str, ...], shape: Shape) -> None:
    """Raises ValueError unless `modalities` are known and have data."""
    unknown = [m for m in modalities if m not in MODALITIES]
    if unknown or not modalities:
        raise InputError(
            f"model.modalities={modalities}: expected one or more of {MODALITIES}"
        )
    if "text" in modalities and not shape.text_dim:
        raise InputError("model.modalities has 'text', but there are no text vectors")
    if "visual" in modalities and not (shape.image_size or shape.feature_dim):
        raise InputError("model.modalities has 'visual', but there are no images")


def check_features(modalities: tuple[str, ...], backbone: str, shape: Shape) -> None:
    """Raises ValueError unless precomputed features are there if and only if used."""
    instead = "visual" in modalities and backbone == PRECOMPUTED
    beside = "features" in modalities
    if instead and beside:
        raise InputError(
            f"model.backbone.name={PRECOMPUTED!r} takes features instead of images, and "
            "the modality 'features' beside them: use one of the two"
        )
    if (instead or beside) and not shape.feature_dim:
        what = (
            "the modality 'features'"
            if beside
            else f"model.backbone.name={PRECOMPUTED!r}"
        )
        raise InputError(
            f"{what} needs data.features, the name of precomputed features"
        )
    if shape.feature_dim and not (instead or beside):
        raise InputError(
            "data.features needs the modality 'features', or 'visual' and "
            f"model.backbone.name={PRECOMPUTED!r}; got {modalities} and {backbone!r}"
        )


def check_image_size(image_size: int, backbone: Any, name: str) -> None:
    """Raises ValueError unless images are large enough for the backbone."""
    if image_size < backbone.min_size:
        raise InputError(
            f"data.image_size={image_size} is too small for backbone {name!r}, which "
            f"needs at least {backbone.min_size} pixels"
        )
