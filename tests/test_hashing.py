"""The hash layer: codes, gradients, scales, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fhn_jax.models.hashing import HASHES, Hash, sign, sign_tanh, tanh_scale

Z = jnp.array([-3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 3.0])
SIGNS = [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def gradient(code, z=Z):
    return jax.grad(lambda z: code(z).sum())(z)


@pytest.mark.parametrize("function", [sign, sign_tanh])
def test_sign_of_zero_is_plus_one(function):
    assert function(Z).tolist() == SIGNS


def test_sign_passes_the_gradient_of_a_clipped_identity():
    assert gradient(sign).tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]


def test_sign_tanh_passes_the_gradient_of_tanh():
    want = 1 - np.tanh(np.asarray(Z, np.float64)) ** 2
    np.testing.assert_allclose(gradient(sign_tanh), want, rtol=1e-4)


@pytest.mark.parametrize("function", [sign, sign_tanh])
def test_sign_keeps_the_dtype(function):
    assert function(Z.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_tanh_scale_grows_with_the_root_of_the_epoch():
    assert [tanh_scale(e, 1.0) for e in (0, 3, 8)] == [1.0, 2.0, 3.0]
    assert tanh_scale(7, 0.0) == 1.0


@pytest.mark.parametrize(
    "kind, relaxed",
    [
        ("ste", np.clip(Z, -1, 1)),
        ("tanh", np.tanh(2.5 * Z)),
        ("binary01", (np.tanh(2.5 * Z) + 1) / 2),
        ("none", Z),
    ],
)
def test_relaxed_code(kind, relaxed):
    np.testing.assert_allclose(Hash(kind).relaxed(Z, 2.5), relaxed, rtol=1e-4)


@pytest.mark.parametrize("kind", HASHES)
def test_binary_code_has_the_two_values_of_the_alphabet(kind):
    layer = Hash(kind)
    codes = layer.binary(Z).tolist()
    if layer.alphabet == "01":
        assert codes == [max(code, 0.0) for code in SIGNS]
    else:
        assert codes == SIGNS
    assert layer.alphabet == ("01" if kind == "binary01" else "pm1")


@pytest.mark.parametrize("kind", HASHES)
def test_only_ste_passes_a_gradient_through_the_bits(kind):
    layer = Hash(kind)
    assert (
        bool(np.any(gradient(layer.binary))) == layer.trains_binary == (kind == "ste")
    )


@pytest.mark.parametrize("name, function", [("clip", sign), ("tanh", sign_tanh)])
def test_ste_gradient_names_the_backward_of_the_bits(name, function):
    layer = Hash("ste", ste_gradient=name)
    np.testing.assert_array_equal(gradient(layer.binary), gradient(function))


def test_scale_is_the_mean_size_of_tanh_by_item():
    z = jnp.array([[[0.5, -2.0], [0.0, 0.0]]])
    want = [[(np.tanh(0.5) + np.tanh(2.0)) / 2, 0.0]]
    np.testing.assert_allclose(Hash("ste").scale(z), want, rtol=1e-6)


def test_item_code_is_the_binary_code_unless_scaled():
    z = jnp.array([[0.5, -2.0]])
    np.testing.assert_array_equal(Hash("ste").item(z), [[1.0, -1.0]])
    scale = (np.tanh(0.5) + np.tanh(2.0)) / 2
    for kind in ("ste", "tanh", "none"):
        got = Hash(kind, item_scale=True).item(z)
        np.testing.assert_allclose(got, [[scale, -scale]], rtol=1e-6)


def test_gradient_passes_through_bits_and_scale_of_ste():
    z = jnp.array([[0.5, -2.0]])
    layer = Hash("ste", item_scale=True)
    # d/dz_0 of s·b_0 = s·1 + b_0 · tanh'(0.5)/2; the bit of z_1 is out of reach.
    scale = (np.tanh(0.5) + np.tanh(2.0)) / 2
    slopes = 1 - np.tanh([0.5, 2.0]) ** 2
    got = jax.grad(lambda z: layer.item(z)[0, 0])(z)
    np.testing.assert_allclose(
        got, [[scale + slopes[0] / 2, -slopes[1] / 2]], rtol=1e-6
    )


@pytest.mark.parametrize("kind", ["tanh", "none"])
def test_no_gradient_passes_through_the_scale_of_the_other_kinds(kind):
    layer = Hash(kind, item_scale=True)
    assert not np.any(gradient(layer.item, Z.reshape(2, 4)))


@pytest.mark.parametrize(
    "settings, text",
    [
        (
            dict(kind="sign"),
            "model.hash='sign': expected one of ste, tanh, binary01, no",
        ),
        (
            dict(ste_gradient="relu"),
            "model.ste_gradient='relu': expected one of clip, tanh",
        ),
        (
            dict(kind="binary01", item_scale=True),
            "model.item_scale=True needs ±1 codes",
        ),
    ],
)
def test_impossible_settings_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        Hash(**settings)
