"""The converter of PyTorch files: what it reads, and that it runs nothing."""

import collections
import os
import zipfile

import numpy as np
import pytest
from fhn_jax.data_tools.convert_weights import convert, load_weights, main
from runs import exit_code
from safetensors import safe_open

from fhn_jax.files import sha256_file
from tests.torch_files import Call, Named, tensor, write_torch

RNG = np.random.default_rng(0)
WEIGHTS = collections.OrderedDict(
    {
        "conv1.weight": RNG.normal(size=(4, 3, 2, 2)).astype(np.float32),
        "bn1.running_var": RNG.normal(size=4),
        "bn1.num_batches_tracked": np.array(7),
        "fc.weight": RNG.normal(size=(2, 3)).astype(np.float16),
    }
)


@pytest.fixture
def source(tmp_path):
    return tmp_path / "net.pth"


def assert_reads(source, expected=WEIGHTS):
    found = load_weights(source)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("old", [False, True])
def test_state_dicts_of_both_layouts_are_read(source, old):
    write_torch(source, WEIGHTS, old=old)
    assert_reads(source)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_checkpoints_and_parallel_training_are_seen_through(source, wrapper):
    named = {f"module.{name}": value for name, value in WEIGHTS.items()}
    write_torch(source, {"epoch": 3, wrapper: named})
    assert_reads(source)


def test_parameters_and_other_orders_of_axes_are_read(source):
    values = WEIGHTS["conv1.weight"]
    write_torch(source, {"a": tensor(values, "0", order="F", parameter=True)})
    assert_reads(source, {"a": values})


def test_the_converted_file_notes_its_source(source, capsys):
    write_torch(source, WEIGHTS)
    assert exit_code(main, [str(source)]) == 0
    target = source.with_suffix(".safetensors")
    assert capsys.readouterr().out == f"{target} holds 4 tensors\n"
    with safe_open(target, framework="numpy") as file:
        assert file.metadata() == {
            "source": "net.pth",
            "source_sha256": sha256_file(source),
        }
        for name, value in WEIGHTS.items():
            np.testing.assert_array_equal(file.get_tensor(name), value)


@pytest.mark.parametrize("old", [False, True])
def test_a_malicious_file_is_refused_and_not_run(source, tmp_path, old):
    mark = tmp_path / "was_run"
    write_torch(source, {"a": _Run(os.system, f"touch {mark}")}, old=old)
    with pytest.raises(ValueError, match=r"\.system, which is refused and was not run"):
        load_weights(source)
    assert not mark.exists()


class _Run:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (5,), (1,)),
        (1, (4,), (1,)),
        (0, (2, 2), (3, 1)),
        (0, (1 << 40,), (0,)),
        (-1, (1,), (1,)),
        (0, (2,), (-1,)),
    ],
)
def test_tensors_outside_of_their_storage_are_refused(source, offset, shape, strides):
    made = tensor(np.zeros(4, np.float32), "0")
    storage = made.arguments[0]
    made.arguments = (storage, offset, shape, strides, *made.arguments[4:])
    write_torch(source, {"a": made})
    with pytest.raises(ValueError, match="a tensor of shape"):
        load_weights(source)


def test_storages_of_another_size_are_refused(source):
    write_torch(source, WEIGHTS)
    with zipfile.ZipFile(source) as archive:
        pickled = archive.read("archive/data.pkl")
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
            archive.writestr("archive/data/0", b"\0" * 8, compression)
        with pytest.raises(ValueError, match="48 numbers .* in 8 bytes|or compressed"):
            load_weights(source)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "holds an empty dict"),
        ({"a": 1}, "'a' is a int; expected a state dict"),
        (
            {"a": Call("collections", "Counter")},
            "collections.Counter, which is refused",
        ),
        ({"a": Named("torch.nn.modules.linear", "Linear")}, "Linear, which is refused"),
        ([1], "holds a list; expected tensors by name"),
    ],
)
def test_what_is_no_state_dict_is_refused(source, value, text):
    if isinstance(value, dict) and isinstance(value.get("a"), Call | Named):
        value = {"a": [value["a"]]}
    write_torch(source, value)
    with pytest.raises(ValueError, match=text):
        load_weights(source)


@pytest.mark.parametrize("old", [False, True])
def test_a_cut_off_file_is_refused_and_leaves_nothing(source, capsys, old):
    write_torch(source, WEIGHTS, old=old)
    content = source.read_bytes()
    for length in (0, 5, len(content) // 2, len(content) - 1):
        source.write_bytes(content[:length])
        with pytest.raises(ValueError):
            convert(source, source.with_suffix(".safetensors"))
        assert exit_code(main, [str(source)]) == 1
        assert capsys.readouterr().err.startswith(f"error: {source}")
    assert os.listdir(source.parent) == ["net.pth"]
