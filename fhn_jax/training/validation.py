"""Validation during training, on the fixed negatives of the data."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float32

from fhn_jax.data.catalogue import Catalogue, Outfits, items_by_category
from fhn_jax.evaluation import metrics
from fhn_jax.evaluation.evaluators import scores_by_user
from fhn_jax.models.fashion_hash_net import FashionHashNet
from fhn_jax.training import sharding
from fhn_jax.training.export import ItemEncoder, ItemLatents
from fhn_jax.training.objective import Objective

# What the best checkpoint can be chosen by: higher is better.
SCORES = (
    "val/auc_binary",
    "val/auc_relaxed",
    "val/auc_asymmetric",
    "val/accuracy_binary",
    "val/accuracy_relaxed",
)
_CHUNK = 4096
_SATURATED = 0.99


class Validation:
    """Measures a network on a split: each of its items is encoded once.

    Args:
      catalogue: the data.
      encoder: of items.
      objective: whose ranking loss is reported.
      split: its positives, with its fixed random negatives.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        encoder: ItemEncoder,
        objective: Objective,
        split: str = "val",
    ):
        self.encoder, self.objective = encoder, objective
        self.slots, self.offsets = catalogue.slots, catalogue.offsets
        self.part = part = catalogue.splits[split]
        self.positives, self.negatives = part.positives, part.negatives["random"]
        self.items = items_by_category(
            np.concatenate([self.positives.items, self.negatives.items]), self.slots
        )
        # On the device once, not at each validation.
        self._chunks = {
            "positives": list(self._make_chunks(self.positives)),
            "negatives": list(self._make_chunks(self.negatives)),
        }
        self._score = jax.jit(self._score_chunk, static_argnums=0)

    def __call__(self, model: FashionHashNet, beta: float) -> dict[str, float]:
        """Metrics by name: losses, pair accuracy, AUC, bit statistics.

        Args:
          model: the network.
          beta: slope of the relaxation.
        """
        latents = self.encoder(model, self.items, self.offsets)
        graphdef, variables = nnx.split(model)
        positive = self._scores(graphdef, variables, latents, "positives", beta)
        negative = self._scores(graphdef, variables, latents, "negatives", beta)
        result = {}
        for which in ("relaxed", "binary", "asymmetric"):
            result[f"val/auc_{which}"] = self._auc(positive[which], negative[which])
        candidates = {
            which: np.column_stack(
                [positive[which], negative[which].reshape(len(self.positives), -1)]
            )
            for which in ("relaxed", "binary")
        }
        rank_loss, binary_loss = (
            float(self.objective.rank_loss(jnp.asarray(scores)).mean())
            for scores in candidates.values()
        )
        share = self.objective.binary_share
        for which, scores in candidates.items():
            right = scores[:, :1] > scores[:, 1:]
            result[f"val/accuracy_{which}"] = float(right.mean())
        result |= {
            "val/loss": (1 - share) * rank_loss + share * binary_loss,
            "val/rank_loss": rank_loss,
            "val/binary_loss": binary_loss,
            "val/gap": result["val/auc_relaxed"] - result["val/auc_binary"],
            **bit_statistics(model, latents, beta),
        }
        # Rates depend on them: all processes go by the first one's, to the last bit.
        values = sharding.gather(np.array(list(result.values())))[0]
        return dict(zip(result, values.tolist(), strict=True))

    def _scores(self, graphdef, variables, latents, which_outfits, beta):
        parts: dict[str, list] = {}
        for users, rows, real in self._chunks[which_outfits]:
            scores = self._score(
                graphdef, variables, latents, users, rows, np.float32(beta)
            )
            for which, values in scores.items():
                parts.setdefault(which, []).append(np.asarray(values)[:real])
        return {which: np.concatenate(values) for which, values in parts.items()}

    def _make_chunks(self, outfits: Outfits) -> Iterator[tuple]:
        """Users and rows of the encoded items, padded to one size, never dropped."""
        rows = np.stack(
            [
                np.searchsorted(self.items[category], outfits.items[:, slot])
                for slot, category in enumerate(self.slots)
            ],
            axis=1,
        ).astype(np.int32)
        rows[outfits.items < 0] = -1
        for start in range(0, len(outfits), _CHUNK):
            users = outfits.users[start : start + _CHUNK]
            pad = _CHUNK - len(users)
            yield (
                jnp.asarray(np.pad(users, (0, pad))),
                jnp.asarray(np.pad(rows[start : start + _CHUNK], ((0, pad), (0, 0)))),
                len(users),
            )

    def _score_chunk(self, graphdef, variables, latents, users, rows, beta):
        model = nnx.merge(graphdef, variables, copy=True)
        hash_ = model.hash
        z = model.user(users)
        codes = {
            "relaxed": (hash_.relaxed(z, beta), lambda part: hash_.relaxed(part, beta)),
            "binary": (hash_.binary(z), hash_.item),
            "asymmetric": (hash_.relaxed(z, beta), hash_.item),
        }
        return {
            which: model.match(user, latents, rows, self.slots, code)
            for which, (user, code) in codes.items()
        }

    def _auc(self, positive, negative) -> float:
        """Mean over the users that have positives."""
        by_user = scores_by_user(self.part, "random", positive, negative)
        return float(np.mean([metrics.auc(*scores) for scores in by_user.values()]))


def bit_statistics(
    model: FashionHashNet, latents: ItemLatents, beta: float
) -> dict[str, float]:
    """How well the bits are used, over items of all categories and modalities.

    Returns:
      "val/bit_balance": mean over bits of |mean code| in ±1, 0 is balanced;
      "val/saturated": share of relaxed code values above .99 in size, of 0/1 codes
      within .005 of an end.
    """
    balance, saturated = [], []
    for by_category in latents.values():
        z: Float32[np.ndarray, "n d"] = np.concatenate(by_category)
        balance.append(np.abs(np.where(z >= 0, 1.0, -1.0).mean(axis=0)).mean())
        relaxed = np.asarray(model.hash.relaxed(jnp.asarray(z), beta))
        if model.hash.alphabet == "01":
            relaxed = 2 * relaxed - 1
        saturated.append((np.abs(relaxed) > _SATURATED).mean())
    return {
        "val/bit_balance": float(np.mean(balance)),
        "val/saturated": float(np.mean(saturated)),
    }
