"""Networks of the reference as workdirs: their scores, and what is refused."""

import numpy as np
import pytest
from fhn_jax.data_tools.convert_reference_checkpoint import (
    convert,
    epoch_of,
    main,
    read_config,
    scale_of,
    without_type_2,
)
from polyvore_u import write_lines, write_table
from runs import act, exit_code

from fhn_jax.codes import Codes, Latents, Scorer
from fhn_jax.data.items import ItemInputs
from fhn_jax.data.layout import read_catalogue
from fhn_jax.training.experiment import Experiment
from tests.golden_weights import (
    SLOTS,
    assert_close,
    load,
    normal,
    part,
    recipe_weights,
)
from tests.torch_files import write_torch

CONFIG = "configs/text_t3.py:hash={hash},hash_types={hash_types},bits={bits}"
CASES = {
    "ht0": dict(hash_types=0),
    "ht1": dict(hash_types=1),
    "ht2": dict(hash_types=2),
    "ht3": dict(),
    "ht3_single": dict(values=["model.single=true"]),
    "ht3_share": dict(values=["model.user.share_user=true"]),
    "ht3_binary01": dict(hash="binary01"),
    "ht3_nobin": dict(hash="none"),
    "ht3_zi": dict(values=["model.matching.zero_item_term=true"]),
    "ht3_zu": dict(values=["model.matching.zero_user_term=true"]),
    "ht3_var": dict(),
}


def by_category(positive, negative):
    """Inputs of all items, category by category: row, then outfit, then slot."""
    inputs = np.stack([positive, negative], axis=1)
    slots = np.array(SLOTS[inputs.shape[2]])
    return np.concatenate(
        [
            inputs[:, :, slots == category].reshape(-1, *inputs.shape[3:])
            for category in range(3)
        ]
    )


def write_data(root, golden):
    """A data set whose outfits are those of a golden file, each item its own."""
    rows, n, _ = golden["pos"].shape
    slots = SLOTS[n]
    categories = ("top", "bottom", "shoe")
    folder = root / "tuples_8"
    folder.mkdir(parents=True)
    names = []
    outfits = np.zeros((rows, 2, n), int)
    for category, title in enumerate(categories):
        mine = [slot for slot, c in enumerate(slots) if c == category]
        count = rows * 2 * len(mine)
        outfits[:, :, mine] = np.arange(count).reshape(rows, 2, len(mine))
        own = [f"{title}{i:03d}.jpg" for i in range(count)]
        write_lines(folder / f"image_list_{title}", own)
        names += own
    (root / "sentence_vector").mkdir()
    np.savez(root / "sentence_vector" / "semantic.npz", names=np.array(names),
             vectors=by_category(golden["pos"], golden["neg"]))  # fmt: skip
    header = ",".join(["user", *(categories[c] for c in slots)])
    num_users = golden["num_users"]
    users = np.arange(num_users)
    # Every user has an outfit in each split; which ones does not matter here.
    table = np.column_stack([users, outfits[users % rows, 0]])
    others = np.column_stack([users, outfits[users % rows, 1]])
    for split in ("train", "test"):
        write_table(folder / f"tuples_{split}_posi", header, table.tolist())
        write_table(folder / f"tuples_{split}_nega", header, others.tolist())
    return outfits


def golden_case(name):
    golden = load(f"pairwise_small_{name}")
    weights = part(golden, "w.")
    users = "user_embedding.encoder."
    key = f"{users}weight" if f"{users}weight" in weights else f"{users}0.weight"
    golden["num_users"] = weights[key].shape[1]
    return golden, weights


def command(tmp_path, *, hash="tanh", hash_types=3, bits=16, hidden=32, values=()):
    options = ["train.batch_size=4", f"model.text_head.hidden={hidden}", *values]
    return [
        str(tmp_path / "model.net"),
        f"--config={CONFIG.format(hash=hash, hash_types=hash_types, bits=bits)}",
        f"--root={tmp_path / 'data'}",
        "--variant=8",
        f"--workdir={tmp_path / 'run'}",
        *(f"--set={value}" for value in options),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scale"), [*((name, 1.0) for name in CASES), ("ht3", 2.5)]
)
def test_scores_of_the_exported_codes_are_those_of_the_reference(
    tmp_path, capsys, name, scale
):
    golden, weights = golden_case(name)
    outfits = write_data(tmp_path / "data", golden)
    for key in {key.rpartition(".encoder.")[0] for key in weights if "encoder." in key}:
        weights[f"{key}.scale"] = np.array([scale], np.float32)
    write_torch(tmp_path / "model.net", weights, old=name == "ht3")
    options = dict(CASES[name])
    gamma = f"model.tanh_gamma={scale**2 - 1}"
    options["values"] = [*options.get("values", ()), gamma]
    assert exit_code(main, command(tmp_path, **options)) == 0, capsys.readouterr().err
    scorer = exported(tmp_path / "run")
    assert_scores(scorer, outfits, golden["uidx"], part(golden, f"s{scale}."))


def exported(workdir):
    """The scorer of a converted run."""
    act("extract-features", workdir=workdir)
    codes = Codes.load(workdir / "codes.safetensors")
    return Scorer(codes, Latents.load(workdir / "latents.safetensors", codes))


def assert_scores(scorer, outfits, users, golden):
    """Scores of both outfits of each row are those of the reference."""
    for kind, suffix in (("relaxed", ""), ("binary", "_binary")):
        for side, which in enumerate(("pos", "neg")):
            got = scorer.score(kind, users, outfits[:, side])
            assert_close(got, golden[f"score.{which}{suffix}"][:, 0], 1e-4)


@pytest.mark.slow
def test_scores_of_a_text_network_of_full_size_are_those_of_the_reference(
    tmp_path, capsys
):
    golden = load("pairwise_full") | {"num_users": 6}
    weights = recipe_weights("pairwise_full", golden["seed_weights"])
    outfits = write_data(tmp_path / "data", golden)
    scale = float(golden["scale"])
    weights |= {f"encoder_t.{i}.scale": golden["scale"].reshape(1) for i in range(3)}
    write_torch(tmp_path / "model.net", weights)
    values = [f"model.tanh_gamma={scale**2 - 1}"]
    options = dict(bits=32, hidden=1024, values=values)
    assert exit_code(main, command(tmp_path, **options)) == 0, capsys.readouterr().err
    assert_scores(exported(tmp_path / "run"), outfits, golden["uidx"], golden)


@pytest.mark.slow
def test_scores_of_a_network_of_images_and_text_are_those_of_the_reference(tmp_path):
    golden = load("vse_alexnet")
    draws = np.random.RandomState(int(golden["seed_input"]))
    images = [normal(draws, golden["image_shape"]) for _ in range(2)]
    texts = [normal(draws, golden["text_shape"], 0.3) for _ in range(2)]
    golden |= {"pos": texts[0], "neg": texts[1], "num_users": 6}
    outfits = write_data(tmp_path / "data", golden)
    # The golden images are normalised, and no pixels: they go past the image files.
    values = ["data.mean=[0.0, 0.0, 0.0]", f"data.std={[1 / 255] * 3}"]
    values += ["data.image_size=224", "train.batch_size=2", "optimizer.momentum=0.0"]
    values += ["data.encode_batch=8"]
    config = read_config(
        "configs/vse_t3.py:hash=tanh,bits=32", str(tmp_path / "data"), "8", values
    )
    catalogue = read_catalogue(tmp_path / "data", "8")
    weights = recipe_weights("vse_alexnet", golden["seed_weights"])
    convert(weights, config, tmp_path / "run", catalogue)
    tables = {
        "visual": by_category(*images).transpose(0, 2, 3, 1),
        "text": by_category(*texts),
    }
    inputs = ItemInputs(tables, None, None, catalogue.item_names(), 224)
    run = Experiment(config, tmp_path / "run", catalogue=catalogue, inputs=inputs)
    scorer = Scorer(*run.encode(run.best()))
    assert_scores(scorer, outfits, golden["uidx"], part(golden, "s1.0."))


@pytest.mark.parametrize(
    ("ablation", "terms"),
    [
        ({}, (1, 1)),
        ({"zero_item_term": True}, (2, 0)),
        ({"zero_user_term": True}, (0, 2)),
    ],
)
def test_hash_types_2_of_the_reference_are_two_user_terms(ablation, terms):
    matching = [f"model.matching.{name}=true" for name in ablation]
    config = read_config("configs/text_t3.py:hash_types=2", "", "8", matching)
    weights = {"core.weight": np.linspace(0.5, 2, 8, dtype=np.float32)[None]}
    converted, ours = without_type_2(weights, config)
    # The reference: 10 · (mean of u·x + mean of λ·u·x), or twice one of the two.
    want = 10 * (terms[0] + terms[1] * weights["core.weight"])
    np.testing.assert_allclose(20 * converted["core.weight"], want)
    assert ours.model.matching.to_dict() == {
        "hash_types": 1, "zero_item_term": True, "zero_user_term": False,
    }  # fmt: skip
    assert config.model.matching.hash_types == 2


def test_faults_of_the_weights_are_named_and_nothing_is_written(tmp_path, capsys):
    golden, weights = golden_case("ht3")
    write_data(tmp_path / "data", golden)
    user = "user_embedding.encoder.weight"
    for change, text in (
        ({user: weights[user][:, :5]}, "user.embedding has shape (5, 16), expected (6"),
        ({"core.1.weight": None}, "matching.lambda_item missing"),
        ({"encoder_t.3.encoder.0.bias": weights["encoder_t.2.encoder.0.bias"]},
         "heads.text.3.hidden.bias unexpected"),
        ({"classifier.weight": np.ones(3)}, "'classifier.weight' is no weight of the"),
        ({"a.scale": np.ones(1), "b.scale": np.zeros(1)}, "slopes [0.0, 1.0] of tanh"),
        ({"a.scale": np.full(1, 1.1)}, "which is sqrt(1 + γ·epoch) in no epoch"),
    ):  # fmt: skip
        broken = weights | change
        broken = {key: value for key, value in broken.items() if value is not None}
        write_torch(tmp_path / "model.net", broken)
        assert exit_code(main, command(tmp_path)) == 1
        assert text in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_mistakes_of_the_command_are_errors(tmp_path, capsys):
    golden, weights = golden_case("ht3")
    write_data(tmp_path / "data", golden)
    write_torch(tmp_path / "model.net", weights)
    for values, text in (
        (["model.single=yes"], "--set model.single=yes: expected key=JSON"),
        (["model.bits"], "--set model.bits: expected key=JSON"),
        (["model.bitz=8"], "bitz"),
    ):
        assert exit_code(main, command(tmp_path, values=values)) == 1
        assert text in capsys.readouterr().err
    assert exit_code(main, command(tmp_path)) == 0
    capsys.readouterr()
    assert exit_code(main, command(tmp_path)) == 1
    assert "holds a checkpoint; give another --workdir" in capsys.readouterr().err


@pytest.mark.parametrize("epoch", [0, 1, 7, 99])
def test_the_slope_gives_the_epoch(epoch):
    assert epoch_of(float(np.float32(np.sqrt(1 + epoch))), 1.0) == epoch
    assert epoch_of(1.0, 0.0) == 0


def test_without_slopes_the_slope_is_1():
    assert scale_of({"core.0.weight": np.ones(1)}) == 1.0
