import jax.numpy as jnp
import numpy as np
import pytest
from polyvore_u import write_polyvore_u
from runs import chunks_of, load, settings

from fhn_jax.evaluation.evaluators import evaluate
from fhn_jax.training import build, validation
from fhn_jax.training.export import ItemEncoder, make_codes
from fhn_jax.training.validation import SCORES, Validation, bit_statistics

BITS = 16


class GivenLatents(ItemEncoder):
    """Stands in for the encoder: looks latents up, and notes for which items."""

    def __init__(self, latents):
        self.latents, self.asked = latents, []

    def __call__(self, model, items, offsets):
        self.asked.append(items)
        return {
            modality: tuple(z[ids] for z, ids in zip(by_category, items, strict=True))
            for modality, by_category in self.latents.items()
        }


class Case:
    """A network with drawn users and weights, drawn latents, and their validation."""

    def __init__(self, root, overrides=None):
        config = settings(root, overrides)
        self.catalogue, inputs = load(config)
        rng = np.random.default_rng(5)
        self.model = build.make_model(config, self.catalogue, 24)
        for weights in (
            self.model.user.embedding,
            self.model.matching.lambda_user,
            self.model.matching.lambda_item,
        ):
            drawn = rng.normal(0.3, 1, weights.shape).astype(np.float32)
            weights[...] = jnp.asarray(drawn)
        self.latents = {
            "text": tuple(
                rng.normal(size=(len(names), BITS)).astype(np.float32)
                for names in self.catalogue.names
            )
        }
        self.encoder = GivenLatents(self.latents)
        self.objective = build.make_objective(config)
        self.validation = Validation(self.catalogue, self.encoder, self.objective)

    def evaluate(self, beta=1.0):
        """What evaluation from exported codes says of the same split."""
        codes, relaxed = make_codes(
            self.model,
            chunks_of(self.latents),
            self.catalogue,
            beta=beta,
            config_hash="c" * 12,
        )
        return evaluate(codes, self.catalogue, "val", relaxed)["scores"]


@pytest.fixture(
    scope="module", params=[("top", "bottom", "shoe"), ("top", "top", "shoe")]
)
def root(request, tmp_path_factory):
    return write_polyvore_u(
        tmp_path_factory.mktemp("data") / "tiny", image_size=None, slots=request.param
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chunk", "overrides"),
    [(4096, {}), (5, {"model.hash": "tanh", "loss.binary_share": 0.0})],
)
def test_validation_agrees_with_evaluation_from_codes(
    root, overrides, chunk, monkeypatch
):
    monkeypatch.setattr(validation, "_CHUNK", chunk)
    case = Case(root, overrides)
    measured, expected = case.validation(case.model, 2.0), case.evaluate(2.0)
    for which in ("relaxed", "binary", "asymmetric"):
        assert measured[f"val/auc_{which}"] == pytest.approx(
            expected[which]["auc"], abs=1e-6
        )
    for which in ("relaxed", "binary"):
        assert measured[f"val/accuracy_{which}"] == pytest.approx(
            expected[which]["pair_accuracy"], abs=1e-6
        )
    gap = expected["relaxed"]["auc"] - expected["binary"]["auc"]
    assert measured["val/gap"] == pytest.approx(gap, abs=1e-6)


def test_each_item_of_the_split_is_encoded_once(root):
    case = Case(root)
    case.validation(case.model, 1.0)
    (asked,) = case.encoder.asked
    val = case.catalogue.splits["val"]
    for category, ids in enumerate(asked):
        slots = [s for s, c in enumerate(case.catalogue.slots) if c == category]
        used = {
            int(item)
            for outfits in (val.positives, val.negatives["random"])
            for item in outfits.items[:, slots].ravel()
        }
        assert ids.tolist() == sorted(used)


def test_the_loss_is_that_of_the_objective_on_the_fixed_negatives(root):
    case = Case(root, {"loss.binary_share": 0.25})
    measured = case.validation(case.model, 1.0)
    val, slots = case.catalogue.splits["val"], case.catalogue.slots
    user = np.asarray(case.model.user.embedding[...])
    lambda_user = np.asarray(case.model.matching.lambda_user[...])
    lambda_item = np.asarray(case.model.matching.lambda_item[...])

    def score(outfits, row, code):
        u = code(user[outfits.users[row]])
        x = [
            code(case.latents["text"][c][outfits.items[row, s]])
            for s, c in enumerate(slots)
        ]
        pairs = [
            x[j] * x[k]
            for j in range(len(slots))
            for k in range(j)
            if slots[j] != slots[k]
        ]
        user_term = np.mean([(lambda_user * u * item).mean() for item in x])
        item_term = np.mean([(lambda_item * pair).mean() for pair in pairs])
        return 10 * (user_term + item_term)

    def loss(code):
        ratio = val.ratio("random")
        return np.mean(
            [
                np.log1p(
                    np.exp(
                        score(val.negatives["random"], ratio * row + k, code)
                        - score(val.positives, row, code)
                    )
                )
                for row in range(len(val.positives))
                for k in range(ratio)
            ]
        )

    relaxed = loss(lambda z: np.clip(z, -1, 1))
    binary = loss(lambda z: np.where(z >= 0, 1, -1))
    assert measured["val/rank_loss"] == pytest.approx(relaxed, rel=1e-4)
    assert measured["val/binary_loss"] == pytest.approx(binary, rel=1e-4)
    assert measured["val/loss"] == pytest.approx(
        0.75 * relaxed + 0.25 * binary, rel=1e-4
    )


def test_every_score_to_select_by_is_measured(root):
    case = Case(root)
    assert set(SCORES) <= case.validation(case.model, 1.0).keys()


def test_bit_statistics_by_hand(root):
    case = Case(root)
    z = np.full((4, BITS), 2.0, np.float32)
    z[:2, 0] = -0.5  # bit 0 is balanced
    z[0, 1] = -2.0  # bit 1: three of four; the others: always 1
    latents = {"text": (z[:1], z[1:])}
    measured = bit_statistics(case.model, latents, 1.0)
    assert measured["val/bit_balance"] == pytest.approx((0 + 0.5 + (BITS - 2)) / BITS)
    assert measured["val/saturated"] == pytest.approx(1 - 2 / (4 * BITS))


def test_bits_of_01_codes_saturate_at_both_ends(root):
    case = Case(root, {"model.hash": "binary01", "loss.binary_share": 0.0})
    z = np.zeros((1, BITS), np.float32)
    z[0, :3] = (-9, 9, 1)
    measured = bit_statistics(case.model, {"text": (z,)}, 1.0)
    assert measured["val/saturated"] == pytest.approx(2 / BITS)
