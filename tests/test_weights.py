"""Pretrained weights: state dicts with the names of torchvision and timm become ours."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fhn_jax.configs import t3
from fhn_jax.data_tools import convert_weights
from flax import nnx
from safetensors.numpy import save_file

from fhn_jax.models.backbones import (
    BACKBONES,
    PRETRAINED,
    make_backbone,
    weights,
)
from fhn_jax.models.backbones.alexnet import patches
from fhn_jax.models.backbones.resnet import DEPTHS, FrozenBatchNorm, ResNet
from fhn_jax.models.backbones.weights import (
    load_pretrained,
    read_weights,
    set_pretrained,
)
from fhn_jax.training import build, pretrained
from fhn_jax.training.settings import config_hash
from tests.catalogues import catalogue
from tests.polyvore_u import write_polyvore_u
from tests.runs import settings, train
from tests.torch_files import write_torch

EPSILON = ResNet.epsilon


def alexnet_shapes():
    """Names and shapes of torchvision's AlexNet."""
    shapes = {}
    for layer, shape in [
        (0, (64, 3, 11, 11)), (3, (192, 64, 5, 5)), (6, (384, 192, 3, 3)),
        (8, (256, 384, 3, 3)), (10, (256, 256, 3, 3)),
    ]:  # fmt: skip
        shapes[f"features.{layer}.weight"] = shape
        shapes[f"features.{layer}.bias"] = shape[:1]
    for layer, shape in [(1, (4096, 9216)), (4, (4096, 4096)), (6, (1000, 4096))]:
        shapes[f"classifier.{layer}.weight"] = shape
        shapes[f"classifier.{layer}.bias"] = shape[:1]
    return shapes


def resnet_shapes(name, batch_norm=True):
    """Names and shapes of a ResNet of torchvision, or of timm with group norms."""
    depths, bottleneck = DEPTHS[name]
    shapes = {"conv1.weight": (64, 3, 7, 7)}

    def norm(name, features):
        leaves = ("weight", "bias", *(("running_mean", "running_var") * batch_norm))
        shapes.update({f"{name}.{leaf}": (features,) for leaf in leaves})
        if batch_norm:
            shapes[f"{name}.num_batches_tracked"] = ()

    norm("bn1", 64)
    channels = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        out = width * 4 if bottleneck else width
        for i in range(depth):
            block = f"layer{stage + 1}.{i}"
            kernels = [(1, width), (3, width), (1, out)] if bottleneck else (
                [(3, width), (3, width)]
            )  # fmt: skip
            inputs = channels
            for j, (kernel, features) in enumerate(kernels, 1):
                shapes[f"{block}.conv{j}.weight"] = (features, inputs, kernel, kernel)
                norm(f"{block}.bn{j}", features)
                inputs = features
            if i == 0 and (stage > 0 or bottleneck):
                shapes[f"{block}.downsample.0.weight"] = (out, channels, 1, 1)
                norm(f"{block}.downsample.1", out)
            channels = out
    return shapes | {"fc.weight": (1000, channels), "fc.bias": (1000,)}


def draw(shapes):
    """A state dict of small random numbers; variances are positive."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = np.array(7, np.int64)
            continue
        x = rng.standard_normal(shape, np.float32)
        if len(shape) > 1:
            x *= np.float32(np.sqrt(2 / np.prod(shape[1:])))
        elif name.endswith(("running_var", "weight")):
            x = 1 + np.abs(x) / 4
        else:
            x *= np.float32(0.1)
        tensors[name] = x
    return tensors


def empty(name, **options):
    """A network of shapes alone, to be filled."""
    return nnx.eval_shape(lambda: make_backbone(name, rngs=nnx.Rngs(0), **options))


def convolve(x, kernel, stride, padding):
    """A convolution in the layout of PyTorch: images NCHW, kernels OIHW."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2,
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )  # fmt: skip


def batch_norm(x, tensors, name):
    """BatchNorm outside of training, by its definition, in float64."""
    weight, bias, mean, variance = (
        np.asarray(tensors[f"{name}.{leaf}"], np.float64).reshape(1, -1, 1, 1)
        for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    x = np.asarray(x, np.float64)
    return np.asarray(
        (x - mean) / np.sqrt(variance + EPSILON) * weight + bias, np.float32
    )


def relu(x):
    return np.maximum(x, 0)


def max_pool(x):
    return np.asarray(
        jax.lax.reduce_window(
            jnp.asarray(x), -jnp.inf, jax.lax.max, (1, 1, 3, 3), (1, 1, 2, 2),
            [(0, 0), (0, 0), (1, 1), (1, 1)],
        )
    )  # fmt: skip


def resnet_features(x, tensors):
    """A ResNet with BatchNorm, written out with the names of torchvision."""
    x = convolve(x, tensors["conv1.weight"], 2, 3)
    x = max_pool(relu(batch_norm(x, tensors, "bn1")))
    blocks = sorted(
        {
            tuple(map(int, name[5:].split(".")[:2]))
            for name in tensors
            if "layer" in name
        }
    )
    for stage, i in blocks:
        block, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
        # The stride is on the first convolution of 3x3.
        strides = (1, stride, 1) if f"{block}.conv3.weight" in tensors else (stride, 1)
        y = x
        for j, step in enumerate(strides, 1):
            kernel = tensors[f"{block}.conv{j}.weight"]
            y = convolve(y, kernel, step, kernel.shape[-1] // 2)
            y = batch_norm(y, tensors, f"{block}.bn{j}")
            y = relu(y) if j < len(strides) else y
        if f"{block}.downsample.0.weight" in tensors:
            x = convolve(x, tensors[f"{block}.downsample.0.weight"], stride, 0)
            x = batch_norm(x, tensors, f"{block}.downsample.1")
        x = relu(x + y)
    return x.mean(axis=(2, 3))


@pytest.fixture(scope="module")
def resnet18():
    return draw(resnet_shapes("resnet18"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_a_batch_norm_network_of_torchvision_gives_its_features(name):
    tensors = draw(resnet_shapes(name))
    network = empty(name, norm="frozen_batch")
    set_pretrained(network, name, tensors)
    x = np.random.default_rng(1).standard_normal((2, 3, 40, 40), np.float32)
    graphdef, variables = nnx.split(network)
    got = jax.jit(lambda v, x: nnx.merge(graphdef, v)(x))(
        variables, jnp.asarray(x.transpose(0, 2, 3, 1))
    )
    want = resnet_features(x, tensors)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())


def test_folding_is_the_batch_norm_outside_of_training():
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = draw({f"bn1.{leaf}": (5,) for leaf in names})
    norm = FrozenBatchNorm(5, zero=False)
    folded = weights.folded("bn1", tensors, EPSILON)
    norm.scale[...], norm.bias[...] = folded["bn1.weight"], folded["bn1.bias"]
    x = np.random.default_rng(1).standard_normal((2, 3, 4, 5), np.float32)
    want = batch_norm(x.transpose(0, 3, 1, 2), tensors, "bn1").transpose(0, 2, 3, 1)
    np.testing.assert_allclose(norm(jnp.asarray(x)), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("resnet18", "frozen_batch"),
        ("resnet34", "group"),
        ("resnet50", "frozen_batch"),
        ("resnet50", "group"),
        pytest.param("resnet101", "group", marks=pytest.mark.slow),
        pytest.param("resnet152", "frozen_batch", marks=pytest.mark.slow),
    ],
)
def test_each_tensor_of_a_resnet_arrives_once(name, norm):
    shapes = resnet_shapes(name, batch_norm=norm == "frozen_batch")
    # A number of its own for each tensor; the norms are folded, which ones undo.
    fill = {"running_mean": 0.0, "running_var": 1 - EPSILON, "num_batches_tracked": 0}
    tensors = {
        name: np.full(shape, fill.get(name.rpartition(".")[2], i), np.float32)
        for i, (name, shape) in enumerate(shapes.items())
    }
    network = empty(name, norm=norm)
    set_pretrained(network, name, tensors)
    found = sorted(float(x.flat[0]) for x in map(np.asarray, jax.tree.leaves(
        nnx.state(network, nnx.Param))))  # fmt: skip
    want = sorted(
        float(i) for i, name in enumerate(shapes)
        if name.endswith(("weight", "bias")) and not name.startswith("fc.")
    )  # fmt: skip
    np.testing.assert_allclose(found, want, rtol=1e-6)
    assert network.blocks[0].convolutions[1].kernel[0, 0, 0, 0] == (
        list(shapes).index("layer1.0.conv2.weight")
    )
    second_stage = network.blocks[DEPTHS[name][0][0]]
    assert second_stage.shortcut.kernel[0, 0, 0, 0] == (
        list(shapes).index("layer2.0.downsample.0.weight")
    )


@pytest.mark.slow
def test_alexnet_of_torchvision_arrives():
    tensors = draw(alexnet_shapes())
    network = empty("alexnet")
    set_pretrained(network, "alexnet", tensors)
    # Its linear layers see the last map as channels, rows, columns; ours are applied to
    # patches of it.
    maps = np.random.default_rng(1).standard_normal((2, 6, 6, 256), np.float32)
    want = maps.transpose(0, 3, 1, 2).reshape(2, -1)
    for layer in (1, 4):
        kernel, bias = (
            tensors[f"classifier.{layer}.{leaf}"] for leaf in ("weight", "bias")
        )
        want = relu(want @ kernel.T + bias)
    got = relu(network.fc7(relu(network.fc6(patches(jnp.asarray(maps), 6)))))
    np.testing.assert_allclose(got[:, 0, 0], want, rtol=1e-3, atol=1e-4)
    x = np.random.default_rng(2).standard_normal((1, 64, 9, 9), np.float32)
    np.testing.assert_allclose(
        network.convolutions[1](jnp.asarray(x.transpose(0, 2, 3, 1)))[0],
        np.asarray(convolve(x, tensors["features.3.weight"], 1, 2))[0].transpose(
            1, 2, 0
        )
        + tensors["features.3.bias"],
        rtol=1e-3,
        atol=1e-4,
    )


# Bad files


def test_each_fault_of_a_state_dict_is_named(resnet18):
    broken = dict(resnet18)
    del broken["layer1.0.conv1.weight"], broken["bn1.running_var"]
    broken["layer5.0.conv1.weight"] = np.zeros(3, np.float32)
    broken["conv1.weight"] = np.zeros((64, 3, 3, 3), np.float32)
    broken["bn1.bias"] = np.zeros(32, np.float32)
    with pytest.raises(ValueError) as caught:
        set_pretrained(empty("resnet18", norm="frozen_batch"), "resnet18", broken)
    for fault in (
        "layer1.0.conv1.weight missing",
        "bn1.running_var missing",
        "layer5.0.conv1.weight unexpected",
        "conv1.weight has shape (64, 3, 3, 3), expected (64, 3, 7, 7)",
        "bn1.bias has shape (32,), expected (64,)",
    ):
        assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("norm", "batch_norm", "text"),
    [
        ("group", True, "BatchNorm network: set model.backbone.norm='frozen_batch'"),
        ("frozen_batch", False, "GroupNorm network: set model.backbone.norm='group'"),
    ],
)
def test_the_wrong_norm_is_named_with_its_remedy(norm, batch_norm, text):
    shapes = resnet_shapes("resnet18", batch_norm)
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=text):
        set_pretrained(empty("resnet18", norm=norm), "resnet18", tensors)


def test_a_file_of_another_network_is_refused_and_what_is_not_named_counted(resnet18):
    with pytest.raises(ValueError, match=r"network: .* missing; .* and \d+ more"):
        set_pretrained(empty("resnet50", norm="frozen_batch"), "resnet50", resnet18)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("bn1.weight", np.nan, "bn1.weight has a NaN or an infinity"),
        ("bn1.running_var", -1.0, "bn1.running_var is negative"),
    ],
)
def test_numbers_that_cannot_be_are_refused(resnet18, name, value, text):
    broken = resnet18 | {name: np.full(64, value, np.float32)}
    with pytest.raises(ValueError, match=text):
        set_pretrained(empty("resnet18", norm="frozen_batch"), "resnet18", broken)


def test_a_network_without_published_weights_is_refused():
    text = "'tiny' takes no pretrained weights; expected .* to be alexnet, resnet18,"
    with pytest.raises(ValueError, match=text):
        set_pretrained(empty("tiny", width=8), "tiny", {})


def test_a_file_of_pytorch_is_refused_with_the_command_that_converts_it(tmp_path):
    path = str(tmp_path / "alexnet.pth")
    text = f"python -m data_tools.convert_weights {re.escape(path)}"
    with pytest.raises(ValueError, match=text):
        read_weights(path)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"hello")
    with pytest.raises(ValueError, match="is no safetensors file"):
        load_pretrained(empty("resnet18"), "resnet18", str(path))


# The registry and the settings


def test_the_registry_says_what_a_user_must_know():
    for name, known in PRETRAINED.items():
        assert known.network in BACKBONES
        assert name.startswith(known.network)
        assert known.source.startswith("https://")
        assert known.licence
        if known.package is not None:
            assert known.sha256[:8] in known.package[1]
        else:
            assert known.sha256 is None or known.sha256 in known.source
    others = {"alexnet", "efficientnet_lite0"}
    assert {known.network for known in PRETRAINED.values()} == {*others, *DEPTHS}


def resnet18_config(weights):
    config = t3.get_config("backbone=resnet18")
    config.model.backbone.update(weights=weights, norm="frozen_batch")
    return config


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The file of the registered ResNet-18, empty, in a folder of its own."""
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path)
    path = tmp_path / "resnet18.tv_in1k.safetensors"
    save_file({"a": np.zeros(1, np.float32)}, path)
    return path


def test_a_missing_file_says_where_to_get_it_and_where_to_put_it(file):
    file.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        pretrained.note_weights(resnet18_config("resnet18.tv_in1k"))
    for part in (PRETRAINED["resnet18.tv_in1k"].source, str(file), "convert_weights"):
        assert part in str(caught.value)
    with pytest.raises(FileNotFoundError, match="there is no no.safetensors; expected"):
        pretrained.note_weights(resnet18_config("no.safetensors"))


def test_the_checksum_is_noted_and_decides_the_hash_not_the_path(file):
    config = resnet18_config("resnet18.tv_in1k")
    before = config_hash(config)
    pretrained.note_weights(config)
    assert config_hash(config) != before
    other = resnet18_config(str(file))
    pretrained.note_weights(other)
    assert config_hash(other) == config_hash(config)
    save_file({"a": np.ones(1, np.float32)}, file)
    with pytest.raises(ValueError, match="has the checksum .* give the file of the fi"):
        pretrained.note_weights(config)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model.backbone.name": "resnet34"}, "model.backbone.name='resnet18', got"),
        ({"model.backbone.norm": "group"}, "norm='frozen_batch', got 'group'"),
        ({"data.mean": (0.0, 0.0, 0.0)}, r"data.mean=\(0.485, .*\), got \(0.0"),
    ],
)
def test_weights_that_do_not_suit_the_settings_are_refused(file, change, text):
    config = resnet18_config("resnet18.tv_in1k")
    config.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=text):
        pretrained.note_weights(config)


def test_frozen_statistics_need_weights():
    config = resnet18_config("")
    with pytest.raises(ValueError, match="give model.backbone.weights, or norm='group"):
        build.check_config(config)
    with pytest.raises(ValueError, match="norm='batch': expected one of group, frozen"):
        empty("resnet18", norm="batch")


def test_a_file_that_is_not_the_published_one_is_refused(file, resnet18):
    save_file(resnet18, file, {"source_sha256": "0" * 64})
    config = resnet18_config("resnet18.tv_in1k")
    data = catalogue([(0, 0, 0, 0)], (1, 1, 1))
    model = nnx.eval_shape(lambda: build.make_model(config, data, text_dim=0))
    with pytest.raises(ValueError, match="checksum 000000000000, expected f37072fd…"):
        pretrained.load_weights(config, model)
    save_file(resnet18, file, {"source_sha256": "f37072fd" + "0" * 56})
    pretrained.load_weights(config, model)
    np.testing.assert_array_equal(
        model.backbone.stem.kernel[...], resnet18["conv1.weight"].transpose(2, 3, 1, 0)
    )


@pytest.mark.slow
@pytest.mark.parametrize("trainable", [False, True])
def test_a_run_starts_from_the_weights_of_a_pytorch_file(
    tmp_path, monkeypatch, trainable
):
    # Two stages of one block: the whole network would only take longer to compile.
    monkeypatch.setitem(DEPTHS, "resnet18", ((1, 1), False))
    tensors = draw(resnet_shapes("resnet18"))
    write_torch(tmp_path / "net.pth", tensors)
    convert_weights.main([str(tmp_path / "net.pth")])
    root = write_polyvore_u(tmp_path / "data", users=2, positives=(2, 1, 1))
    values = {
        "data.image_size": 32,
        "model.backbone.weights": str(tmp_path / "net.safetensors"),
        "model.backbone.norm": "frozen_batch",
        "model.backbone.trainable": trainable,
        "train.epochs": 1,
        "train.batch_size": 4,
    }
    config = settings(root, values, config="t3", arg="backbone=resnet18")
    trained = train(config, tmp_path / "run").model
    expected = empty("resnet18", norm="frozen_batch")
    set_pretrained(expected, "resnet18", tensors)
    got, want = (
        {path: np.asarray(x[...]) for path, x in nnx.to_flat_state(nnx.state(network))}
        for network in (trained.backbone, expected)
    )
    moved = [path for path in want if not np.array_equal(got[path], want[path])]
    assert bool(moved) == trainable
    for path, value in want.items():
        # One step of the rate .001 does not take them far.
        np.testing.assert_allclose(got[path], value, rtol=0, atol=0.05)
