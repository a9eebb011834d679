import importlib
import json
import re
from pathlib import Path

import pytest
from absl import flags
from fhn_jax.configs import common
from flax import nnx
from ml_collections import ConfigDict
from polyvore_u import write_polyvore_u

from fhn_jax.data.layout import read_catalogue
from fhn_jax.models.backbones import BACKBONES
from fhn_jax.models.fashion_hash_net import FashionHashNet
from fhn_jax.models.hashing import HASHES
from fhn_jax.training import build
from fhn_jax.training.settings import config_hash, config_values
from fhn_jax.training.step import GROUPS, OPTIMIZERS

FOLDER = Path(common.__file__).parent
NAMES = sorted(
    path.stem for path in FOLDER.glob("*.py") if path.stem not in ("common", "__init__")
)
# That of a shop follows from the data.
REFERENCE = [name for name in NAMES if name != "shop"]
ARGUMENTS = [
    None,
    "smoke",
    "clothing",
    "clothing,smoke",
    "data=519",
    "bits=64",
    *(f"hash={hash}" for hash in HASHES),
    *(f"hash={hash},clothing" for hash in HASHES),
    *(f"hash_types={types}" for types in range(4)),
    "margin=0",
    *(f"optimizer={optimizer}" for optimizer in OPTIMIZERS),
]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    root = write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny", image_size=None)
    return read_catalogue(root, "8")


def load(name, arg=None):
    return importlib.import_module(f"fhn_jax.configs.{name}").get_config(arg)


def assert_builds(config, catalogue):
    """The config passes the checks, and its parts fit together."""
    build.check_config(config)
    # Shapes only: the large networks are not worth their memory here.
    model = nnx.eval_shape(lambda: build.make_model(config, catalogue, text_dim=24))
    assert isinstance(model, FashionHashNet)
    assert model.bits == config.model.bits
    config.train.batch_size = 8
    batches = build.make_batches(config, catalogue)
    build.make_schedule(config, batches.steps)
    build.make_trainer(config, model, batches)


def test_there_are_the_three_configs():
    assert {"t3", "text_t3", "vse_t3"} <= set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("arg", ARGUMENTS)
@pytest.mark.parametrize("name", NAMES)
def test_every_argument_of_every_config_builds(catalogue, name, arg):
    assert_builds(load(name, arg), catalogue)


# The two deepest differ from resnet50 in depth alone, and take a minute.
@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone", sorted(set(BACKBONES) - {"resnet101", "resnet152"})
)
def test_every_backbone_builds(catalogue, backbone):
    config = load("t3", f"backbone={backbone}")
    assert config.model.backbone.name == backbone
    assert_builds(config, catalogue)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("data", ["53", "519", "630"])
@pytest.mark.parametrize("name", ["t3", "vse_t3"])
@pytest.mark.parametrize("features", ["", ",features=resnet34"])
def test_every_experiment_of_the_reference_is_an_argument(
    name, data, optimizer, features
):
    config = load(name, f"data={data},optimizer={optimizer}{features}")
    build.check_config(config)
    assert (config.data.variant, config.optimizer.name) == (data, optimizer)
    precomputed = config.model.backbone.name == "precomputed"
    assert precomputed == bool(config.data.features) == bool(features)


@pytest.mark.parametrize("arg", ["", ",clothing", ",smoke"])
@pytest.mark.parametrize("name", ["t3", "vse_t3"])
def test_features_take_the_place_of_the_backbone(catalogue, name, arg):
    config = load(name, f"features=clip{arg}")
    assert config.data.features == "clip"
    assert config.model.backbone.name == "precomputed"
    model = nnx.eval_shape(
        lambda: build.make_model(config, catalogue, text_dim=24, feature_dim=768)
    )
    assert model.backbone is None
    assert model.heads["visual"][0].hidden.kernel.shape[0] == 768


@pytest.mark.parametrize("arg", ["", ",clothing", ",smoke"])
@pytest.mark.parametrize("name", ["t3", "vse_t3"])
def test_features_stand_beside_the_backbone(catalogue, name, arg):
    alone, config = load(name, arg[1:]), load(name, f"beside=clip{arg}")
    assert config.data.features == "clip"
    assert config.model.backbone == alone.model.backbone
    assert config.data.encode_batch == alone.data.encode_batch
    assert set(config.model.modalities) == {*alone.model.modalities, "features"}
    model = nnx.eval_shape(
        lambda: build.make_model(config, catalogue, text_dim=24, feature_dim=768)
    )
    assert model.heads["features"][0].hidden.kernel.shape[0] == 768
    inputs = model.heads["visual"][0].hidden.kernel.shape[0]
    assert inputs == model.backbone.num_features


@pytest.mark.parametrize(
    ("name", "arg"), [("text_t3", "beside=clip"), ("t3", "beside=clip,features=vgg")]
)
def test_features_beside_images_need_images(name, arg):
    with pytest.raises(ValueError, match="beside=clip: these features stand beside"):
        load(name, arg)


@pytest.mark.parametrize("name", NAMES)
def test_the_demo_builds(catalogue, name):
    config = load(name)
    for section, values in config.demo.items():
        config[section] = values
    assert_builds(config, catalogue)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_arrive(name):
    arg = "data=519,bits=64,hash=tanh,hash_types=1,optimizer=adam"
    config = load(name, arg)
    assert config.data.variant == "519"
    assert config.model.bits == 64
    assert config.model.hash == "tanh"
    assert config.model.matching.hash_types == 1
    assert config.optimizer.name == "adam"
    assert config.optimizer.rates.to_dict() == rates(name, common.RATES["adam"])


def rates(name, all_rates):
    """Those of a config: on a trained run, cold_start moves the users alone."""
    frozen = GROUPS if name == "cold_start" else ()
    return {g: 0.0 if g in frozen and g != "user" else r for g, r in all_rates.items()}


@pytest.mark.parametrize(
    ("name", "modalities"),
    [("t3", ("visual",)), ("text_t3", ("text",)), ("vse_t3", ("visual", "text"))],
)
def test_the_name_says_what_is_seen(name, modalities):
    assert load(name).model.modalities == modalities


@pytest.mark.parametrize("name", REFERENCE)
def test_the_defaults_are_those_of_the_reference(name):
    config = load(name)
    assert config.model.bits == 128
    assert config.model.backbone.name == "alexnet"
    assert config.model.matching.hash_types == 3
    assert not config.model.item_scale
    assert config.data.image_size == 291
    assert config.data.root == config.data.variant == ""
    assert (config.loss.rank, config.loss.vse_weight, config.loss.margin) == (
        "bpr", 0.1, 0.1
    )  # fmt: skip
    assert (config.optimizer.name, config.optimizer.momentum) == ("sgd", 0.9)
    assert config.optimizer.weight_decay == 1e-6
    reference = {
        "user": 10.0, "backbone": 0.001, "visual": 0.01, "text": 0.01, "matching": 0.1
    }  # fmt: skip
    assert config.optimizer.rates.to_dict() == rates(name, reference)
    schedule = config.schedule
    assert (schedule.name, schedule.factor, schedule.patience) == ("plateau", 0.5, 10)
    assert (schedule.cooldown, schedule.threshold) == (10, 0.05)
    assert (config.train.epochs, config.train.batch_size) == (100, 64)
    assert config.wandb.mode == "offline"


def test_there_are_rates_for_each_optimizer_and_group():
    assert common.RATES.keys() == set(OPTIMIZERS)
    assert all(rates.keys() == set(GROUPS) for rates in common.RATES.values())


@pytest.mark.parametrize("name", NAMES)
def test_configs_share_no_values(name):
    user = load(name).optimizer.rates.user
    load(name).optimizer.rates.user = user / 2
    load(name).model.matching.hash_types = 1
    assert load(name).optimizer.rates.user == user
    assert load(name).model.matching.hash_types == 3
    assert common.RATES["sgd"]["user"] == 10.0


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_the_header_are_right(name):
    header = importlib.import_module(f"fhn_jax.configs.{name}").__doc__
    commands = re.findall(r"^python -m fhn_jax.main (.*)$", header, re.MULTILINE)
    assert commands
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "", flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    for command in commands:
        values.unparse_flags()
        # Single values are read apart from the flags.
        words = [w for w in command.split() if not w.startswith("--config.")]
        rest = values(["program", *words])
        action = ["cold-start"] if name == "cold_start" else []
        assert rest == ["program", *action]
        path, _, arg = values.config.partition(":")
        assert path == f"configs/{name}.py"
        load(name, arg)


@pytest.mark.parametrize("arg", [None, "smoke", "clothing,hash=tanh"])
@pytest.mark.parametrize("name", NAMES)
def test_a_config_read_from_json_is_the_same(name, arg):
    config = load(name, arg)
    again = ConfigDict(json.loads(json.dumps(config_values(config))))
    assert config_values(again) == config_values(config)
    assert config_hash(again) == config_hash(config)


@pytest.mark.parametrize(
    ("name", "arg", "bits", "single"),
    [
        ("text_t3", "clothing", 1024, True),
        ("text_t3", "clothing,bits=64", 64, True),
        ("vse_t3", "clothing", 256, False),
        ("t3", "clothing", 256, False),
        ("text_t3", None, 128, False),
    ],
)
def test_text_alone_has_settings_of_its_own_on_small_data(name, arg, bits, single):
    config = load(name, arg)
    assert (config.model.bits, config.model.single) == (bits, single)
    assert config.model.text_head.gain == (8.0 if single else 1.0)
    # The demo has as many bits as were asked for.
    assert config.demo.model.bits == bits


def test_the_hash_is_of_what_decides_the_result():
    config = load("vse_t3")
    before = config_hash(config)
    config.wandb.mode = "disabled"
    config.data.root = "elsewhere"
    assert config_hash(config) == before
    config.seed = 1
    assert config_hash(config) != before


@pytest.mark.parametrize(
    ("arg", "expected"),
    [
        (None, dict(bits=128, rate=0.5, smoke=False, name="a")),
        ("", dict(bits=128, rate=0.5, smoke=False, name="a")),
        ("bits=64,smoke", dict(bits=64, rate=0.5, smoke=True, name="a")),
        (
            "rate=2,smoke=false,name=b=c",
            dict(bits=128, rate=2.0, smoke=False, name="b=c"),
        ),
        ("smoke=TRUE,", dict(bits=128, rate=0.5, smoke=True, name="a")),
    ],
)
def test_parse_arg_reads_values_of_the_type_of_the_default(arg, expected):
    values = common.parse_arg(arg, bits=128, rate=0.5, smoke=False, name="a")
    assert values.to_dict() == expected
    assert type(values.rate) is float


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("bitz=64", "'bitz' is unknown; expected some of bits, rate, smoke"),
        ("bits", "'bits' needs a value: bits=…"),
        ("bits=many", "bits='many': expected a whole number"),
        ("bits=6.5", "bits='6.5': expected a whole number"),
        ("rate=x", "rate='x': expected a number"),
        ("smoke=maybe", "smoke='maybe': expected true or false"),
        ("smoke=", "smoke='': expected true or false"),
    ],
)
def test_parse_arg_says_what_is_wrong(arg, message):
    with pytest.raises(ValueError, match=re.escape(f"config argument {message}")):
        common.parse_arg(arg, bits=128, rate=0.5, smoke=False)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_argument_is_an_error(name):
    with pytest.raises(ValueError, match="config argument 'foo' is unknown"):
        load(name, "foo=3")


def test_features_and_a_backbone_are_an_error():
    with pytest.raises(ValueError, match="features=clip and backbone=resnet18: feat"):
        load("t3", "features=clip,backbone=resnet18")


def test_an_unknown_optimizer_is_an_error():
    with pytest.raises(ValueError, match="optimizer='sdg': expected one of sgd, adam,"):
        load("vse_t3", "optimizer=sdg")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.bits", 12, "model.bits=12: .* use a multiple of 8, e.g. 16"),
        ("model.bits", 0, "model.bits=0: .* use a multiple of 8, e.g. 8"),
        ("model.hash", "stee", "'stee'.* expected one of ste, tanh"),
        ("model.ste_gradient", "cilp", "'cilp'.* expected one of clip, tanh"),
        ("model.modalities", (), r"model.modalities=\(\): expected one or more of"),
        ("model.modalities", ("txt",), "expected one or more of .*visual.*text"),
        ("loss.rank", "bprr", "loss.rank='bprr': expected one of bpr, softmax"),
        ("loss.binary_share", 1.5, "loss.binary_share=1.5: expected 0 to 1"),
        ("loss.vse_weight", -1.0, "loss.vse_weight=-1.0: expected at least 0"),
        ("optimizer.name", "sdg", "optimizer.name='sdg': expected one of sgd, adam"),
        ("optimizer.users", "few", "'few': expected one of auto, dense, rows"),
        ("schedule.name", "cos", "schedule.name='cos': expected one of constant"),
        ("schedule.factor", 2.0, "schedule.factor=2.0: expected above 0, below 1"),
        ("train.epochs", 0, "train.epochs=0: expected at least 1"),
        ("train.batch_size", 0, "train.batch_size=0: expected at least 1"),
        ("train.log_steps", 0, "train.log_steps=0: expected at least 1"),
        ("train.val_epochs", 0, "train.val_epochs=0: expected at least 1"),
        ("train.average_decay", 1.0, "train.average_decay=1.0: expected 0 to below 1"),
        (
            "train.select",
            "val/loss",
            "train.select='val/loss': expected one of val/auc",
        ),
        ("data.encode_batch", 0, "data.encode_batch=0: expected at least 1"),
        ("data.image_size", 0, "data.image_size=0: expected at least 1"),
    ],
)
def test_mistakes_are_found_without_any_data(key, value, message):
    config = load("vse_t3")
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=message):
        build.check_config(config)


@pytest.mark.parametrize("hash", sorted(set(HASHES) - {"ste"}))
def test_a_binary_share_needs_a_gradient(hash):
    config = load("vse_t3", f"hash={hash}")
    assert config.loss.binary_share == 0
    config.loss.binary_share = 0.5
    with pytest.raises(
        ValueError, match=f"model.hash='{hash}' pass no gradient; use 0"
    ):
        build.check_config(config)


@pytest.mark.parametrize("small", ["", "clothing", "smoke"])
def test_the_network_and_optimiser_that_are_named_win_over_small_settings(small):
    config = load("vse_t3", f"{small},backbone=resnet18,optimizer=adam".strip(","))
    for settings in (config, config.get("demo", config)):
        assert settings.model.backbone.name == "resnet18"
        assert settings.data.image_size == 291 and settings.data.mean[0] == 0.485
        assert settings.optimizer.name == "adam"
        assert settings.optimizer.rates.user == 0.01
    unnamed = load("vse_t3", small)
    assert unnamed.get("demo", unnamed).model.backbone.name == "tiny"
