"""Encoders, backbones and the whole network: shapes, structure, starts, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fhn_jax.models.backbones import make_backbone
from fhn_jax.models.backbones.alexnet import AlexNet, pad_to, patches
from fhn_jax.models.backbones.resnet import DEPTHS, Block, Tiny, perceptual
from fhn_jax.models.fashion_hash_net import (
    FashionHashNet,
    Shape,
    check_bits,
    check_modalities,
)
from fhn_jax.models.hashing import Hash
from fhn_jax.models.heads import Head, UserEncoder
from fhn_jax.models.reference_names import from_reference, load_reference

HEAD = dict(hidden=6, input_dropout=0.0, dropout=0.0, stddev=0.5)


def draw(*shape):
    values = np.random.default_rng(sum(shape)).normal(size=shape)
    return jnp.asarray(values.astype(np.float32))


def features_shape(name, size):
    """The shape of the features of two images, without computing them."""
    network = nnx.eval_shape(lambda: make_backbone(name, rngs=nnx.Rngs(0)))
    graphdef, variables = nnx.split(network)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    shape = jax.eval_shape(lambda v, x: nnx.merge(graphdef, v)(x), variables, images)
    return shape.shape, network


# Parts of the backbones


def test_patches_times_a_kernel_is_a_convolution():
    x, kernel = draw(2, 8, 7, 3), draw(3, 3, 3, 5)
    want = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    got = patches(x, 3) @ kernel.reshape(-1, 5)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_small_maps_are_centred_in_zeros_and_large_ones_stay():
    x = jnp.ones((1, 1, 4, 1))
    assert pad_to(x, 3)[0, :, :, 0].tolist() == [[0] * 4, [1] * 4, [0] * 4]
    np.testing.assert_array_equal(pad_to(x, 1), x)


@pytest.mark.parametrize("size", [63, 222, 223, 291])
def test_alexnet_takes_images_from_63_pixels(size):
    shape, network = features_shape("alexnet", size)
    assert shape == (2, network.num_features) == (2, 4096)


def test_alexnet_refuses_smaller_images():
    with pytest.raises(
        ValueError, match="at least 63 pixels, got 62x62; set data.imag"
    ):
        features_shape("alexnet", AlexNet.min_size - 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", DEPTHS)
def test_resnets_take_images_from_32_pixels(name):
    _, bottleneck = DEPTHS[name]
    shape, network = features_shape(name, network_size := 32)
    assert network.min_size == network_size
    assert shape == (2, network.num_features) == (2, 2048 if bottleneck else 512)


@pytest.mark.slow
@pytest.mark.parametrize("bottleneck", [False, True])
def test_a_new_block_is_the_identity(bottleneck):
    block = Block(16, 4 if bottleneck else 16, bottleneck=bottleneck, groups=2,
                  rngs=nnx.Rngs(0))  # fmt: skip
    x = jnp.abs(draw(1, 4, 4, 16))
    np.testing.assert_array_equal(block(x), x)


@pytest.mark.slow
def test_convolutions_of_blocks_start_with_hes_deviation_of_the_fan_out():
    kernel = Block(64, 32, rngs=nnx.Rngs(0)).convolutions[0].kernel[...]
    assert kernel.shape == (3, 3, 64, 32)
    assert np.std(kernel) == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.03)
    assert np.mean(kernel) == pytest.approx(0, abs=0.003)


@pytest.mark.slow
@pytest.mark.parametrize(
    "colour, lab",
    [
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),
        ((0.0, 1.0, 0.0), (87.73, -86.18, 83.18)),
        ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
    ],
)
def test_perceptual_colours_are_those_of_cielab(colour, lab):
    got = perceptual(jnp.array(colour).reshape(1, 1, 1, 3))[0, 0, 0]
    np.testing.assert_allclose(100 * got[:3], lab, atol=0.3)
    assert 100 * got[3] == pytest.approx(np.hypot(lab[1], lab[2]), abs=0.3)


@pytest.mark.slow
def test_tiny_takes_images_from_16_pixels():
    network = Tiny(width=8, shapes=5, rngs=nnx.Rngs(0))
    graphdef, variables = nnx.split(network)
    images = jnp.abs(draw(2, Tiny.min_size, Tiny.min_size, 3))
    features = jax.jit(lambda v, x: nnx.merge(graphdef, v)(x))(variables, images)
    assert features.shape == (2, network.num_features)
    assert np.isfinite(features).all()


def test_unknown_backbone_is_refused():
    text = "model.backbone.name='vgg': expected one of alexnet, resnet18, .*, tiny"
    with pytest.raises(ValueError, match=text):
        make_backbone("vgg", rngs=nnx.Rngs(0))


# Encoders


def make_head(**settings):
    return Head(7, bits=8, **(HEAD | settings), rngs=nnx.Rngs(0))


def test_head_is_linear_relu_linear_without_bias():
    head = make_head()
    x = draw(5, 7)
    hidden = np.maximum(x @ head.hidden.kernel[...] + head.hidden.bias[...][None], 0)
    np.testing.assert_allclose(head(x), hidden @ head.out.kernel[...], rtol=1e-5)
    assert head.out.bias is None
    assert not np.any(head.hidden.bias[...])


def test_dropout_is_on_only_with_rngs():
    head = make_head(input_dropout=0.5, dropout=0.5)
    x = draw(5, 7)
    np.testing.assert_array_equal(head(x), head(x))
    dropped = head(x, nnx.Rngs(dropout=1))
    assert not np.allclose(dropped, head(x))
    np.testing.assert_array_equal(dropped, head(x, nnx.Rngs(dropout=1)))
    assert not np.allclose(dropped, head(x, nnx.Rngs(dropout=2)))


@pytest.mark.parametrize("name", ["input_dropout", "dropout"])
def test_dropout_keeps_the_mean(name):
    head = make_head(**{name: 0.5})
    # All positive, so that ReLU is linear.
    head.hidden.kernel[...] = jnp.abs(head.hidden.kernel[...])
    x = jnp.ones((4000, 7))
    dropped = head(x, nnx.Rngs(dropout=1))
    np.testing.assert_allclose(dropped.mean(0), head(x)[0], atol=0.25)
    assert dropped.std(0).min() > 0.1


def test_weights_start_with_the_deviation_asked_for():
    head = Head(200, 300, 64, input_dropout=0.0, dropout=0.0, rngs=nnx.Rngs(0))
    assert np.std(head.hidden.kernel[...]) == pytest.approx(0.01, rel=0.05)
    assert np.std(head.out.kernel[...]) == pytest.approx(0.01, rel=0.05)
    head = Head(
        200, 300, 64, input_dropout=0.0, dropout=0.0, stddev=0.0, rngs=nnx.Rngs(0)
    )
    assert np.std(head.hidden.kernel[...]) == pytest.approx((2 / 200) ** 0.5, rel=0.05)
    assert np.std(head.out.kernel[...]) == pytest.approx((1 / 300) ** 0.5, rel=0.05)


@pytest.mark.parametrize("stddev", [0.01, 0.0])
def test_the_gain_is_that_of_the_hidden_layer_alone(stddev):
    one, eight = (make_head(stddev=stddev, gain=gain) for gain in (1.0, 8.0))
    np.testing.assert_allclose(
        eight.hidden.kernel[...], 8 * one.hidden.kernel[...], rtol=1e-6
    )
    np.testing.assert_array_equal(eight.out.kernel[...], one.out.kernel[...])


@pytest.mark.slow
def test_user_latents_are_rows_of_the_embedding():
    encoder = UserEncoder(9, 16, rngs=nnx.Rngs(0))
    got = encoder(jnp.array([3, 0, 3]))
    np.testing.assert_array_equal(got, encoder.embedding[...][np.array([3, 0, 3])])


def test_shared_users_are_mixtures_of_archetypes():
    encoder = UserEncoder(9, 16, share_user=True, stddev=1.0, rngs=nnx.Rngs(0))
    z = np.asarray(encoder.embedding[...], np.float64)[[3, 0]]
    shares = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert shares.shape == (2, 128)
    np.testing.assert_allclose(
        encoder(jnp.array([3, 0])), shares @ encoder.out.kernel[...], rtol=1e-4
    )


# The whole network


def make_net(slots=(0, 1, 2), **settings):
    settings = (
        dict(
            modalities=("text",),
            bits=8,
            hash=Hash("tanh"),
            backbone=dict(name="tiny", width=8),
            visual_head=HEAD,
            text_head=HEAD,
            single=False,
            user=dict(stddev=0.5),
            matching={},
        )
        | settings
    )
    shape = settings.pop("shape", Shape(4, slots, text_dim=7, image_size=16))
    return FashionHashNet(shape, **settings, rngs=nnx.Rngs(0))


def test_each_category_has_a_head_of_its_own():
    net = make_net()
    rows = draw(9, 7)
    latents = net.item_latents({"text": rows}, (4, 3, 2))["text"]
    assert len(net.heads["text"]) == 3
    for category, part in enumerate([rows[:4], rows[4:7], rows[7:]]):
        want = net.heads["text"][category](part)
        np.testing.assert_array_equal(latents[category], want)


def test_a_single_head_serves_all_categories():
    net = make_net(single=True)
    rows = draw(9, 7)
    latents = net.item_latents({"text": rows}, (4, 3, 2))["text"]
    assert len(net.heads["text"]) == 1
    np.testing.assert_allclose(
        np.concatenate(latents), net.heads["text"][0](rows), rtol=1e-5, atol=1e-6
    )


def test_two_tops_share_a_category():
    assert Shape(4, (0, 0, 1, 2)).num_categories == 3
    assert len(make_net(slots=(0, 0, 1, 2)).heads["text"]) == 3


@pytest.mark.slow
def test_hidden_zero_takes_half_of_the_features():
    net = make_net(text_head=HEAD | dict(hidden=0))
    assert net.heads["text"][0].hidden.kernel.shape == (7, 3)


@pytest.mark.slow
def test_single_items_score_as_outfits_with_empty_slots():
    slots = (0, 1, 1)
    outfits = jnp.array([[[3, -1, -1], [-1, 2, -1]], [[-1, -1, 4], [0, -1, -1]]])
    latents = {"text": (draw(4, 8), draw(5, 8))}
    scores = []
    for templates in (((0,), (1,), (2,)), ((0,), (1,), (2,), (0, 1))):
        shape = Shape(4, slots, text_dim=7, templates=templates)
        net = make_net(slots, shape=shape, matching=dict(hash_types=3))
        assert net.has_one_item == (len(templates) == 3)
        scores.append(net.scores(jnp.array([1, 3]), latents, outfits, slots))
    for one, other in zip(*scores, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.slow
def test_scores_are_the_mean_over_modalities():
    net = make_net(modalities=("text", "visual"))
    assert net.modalities == ("visual", "text")
    rng = np.random.default_rng(0)
    latents = {
        m: tuple(jnp.asarray(rng.normal(size=(5, 8)), jnp.float32) for _ in range(3))
        for m in net.modalities
    }
    users = jnp.array([1, 3])
    outfits = jnp.asarray(rng.integers(5, size=(2, 4, 3)))
    both = net.scores(users, latents, outfits, (0, 1, 2))
    each = [net.scores(users, {m: latents[m]}, outfits, (0, 1, 2)) for m in latents]
    for which in range(2):
        assert both[which].shape == (2, 4)
        mean = (each[0][which] + each[1][which]) / 2
        np.testing.assert_allclose(both[which], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_scores_take_relaxed_or_binary_codes_of_user_and_items():
    net = make_net(hash=Hash("tanh", item_scale=True))
    latents = {"text": tuple(draw(5, 8) * (1 + c) for c in range(3))}
    outfits = jnp.array([[[4, 0, 2]]])
    relaxed, binary = net.scores(jnp.array([2]), latents, outfits, (0, 1, 2), 1.5)
    z = net.user(jnp.array([2]))[0]
    items = jnp.stack([latents["text"][c][i] for c, i in enumerate([4, 0, 2])])
    want = net.matching(jnp.tanh(1.5 * z), jnp.tanh(1.5 * items))
    np.testing.assert_allclose(relaxed[0, 0], want, rtol=1e-5)
    scales = jnp.abs(jnp.tanh(items)).mean(axis=1, keepdims=True)
    want = net.matching(jnp.sign(z), scales * jnp.sign(items))
    np.testing.assert_allclose(binary[0, 0], want, rtol=1e-5)


@pytest.mark.parametrize("bits, multiple", [(12, 16), (4, 8), (0, 8), (130, 128)])
def test_bits_that_fill_no_bytes_are_refused(bits, multiple):
    text = f"model.bits={bits}: codes are stored in whole bytes.* e.g. {multiple}"
    with pytest.raises(ValueError, match=text):
        check_bits(bits)


@pytest.mark.parametrize(
    "modalities, shape, text",
    [
        ((), Shape(4, (0, 1), 7, 16), r"model.modalities=\(\): expected one or more"),
        (("audio",), Shape(4, (0, 1), 7, 16), r"'audio',\): expected one or more of"),
        (("text",), Shape(4, (0, 1), 0, 16), "has 'text', but there are no text vect"),
        (("visual",), Shape(4, (0, 1), 7, 0), "has 'visual', but there are no images"),
    ],
)
def test_modalities_without_data_are_refused(modalities, shape, text):
    with pytest.raises(ValueError, match=text):
        check_modalities(modalities, shape)


def test_images_too_small_for_the_backbone_are_refused():
    text = (
        "data.image_size=15 is too small for backbone 'tiny', which needs at least 16"
    )
    with pytest.raises(ValueError, match=text):
        make_net(modalities=("visual",), shape=Shape(4, (0, 1, 2), 7, 15))


# Names of the reference


def reference_weights():
    weights = {"core.0.weight": np.ones((1, 8)), "core.1.weight": np.ones((1, 8))}
    weights["user_embedding.encoder.weight"] = np.arange(32.0).reshape(8, 4)
    for category in range(3):
        prefix = f"encoder_t.{category}.encoder"
        weights[f"{prefix}.0.weight"] = np.ones((6, 7))
        weights[f"{prefix}.0.bias"] = np.ones(6)
        weights[f"{prefix}.3.weight"] = np.ones((8, 6))
        weights[f"{prefix}.scale"] = np.ones(1)  # the slope of tanh, no weight here
    return weights


def test_weights_of_the_reference_fill_the_whole_network():
    net = make_net()
    load_reference(net, reference_weights())
    np.testing.assert_array_equal(net.user(jnp.array([1])), [np.arange(1.0, 32, 4)])
    assert (net.heads["text"][2].out.kernel[...] == 1).all()


@pytest.mark.parametrize(
    "change, text",
    [
        (
            lambda w: w.pop("encoder_t.1.encoder.0.bias"),
            "another network: heads.text.1.hidden.bias missing$",
        ),
        (
            lambda w: w.update({"encoder_t.3.encoder.0.bias": np.ones(6)}),
            "another network: heads.text.3.hidden.bias unexpected$",
        ),
        (
            lambda w: w.update({"core.0.weight": np.ones((1, 16))}),
            r"network: matching.lambda_user has shape \(16,\), expected \(8,\)$",
        ),
    ],
)
def test_weights_of_another_network_are_refused(change, text):
    weights = reference_weights()
    change(weights)
    with pytest.raises(ValueError, match=text):
        load_reference(make_net(), weights)


@pytest.mark.parametrize(
    "name",
    [
        "head.weight",
        "core.weight",
        "encoder_t.0.encoder.2",
        "features.layer1.0.bn1.bias",
    ]
    + [
        "features.conv7.weight",
        "features.features.1.bias",
        "features.classifier.6.bias",
    ],
)
def test_unknown_names_are_refused(name):
    with pytest.raises(KeyError, match="is no weight of"):
        from_reference({name: np.ones(3)})
