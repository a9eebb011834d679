"""Networks of the reference as workdirs: their scores, and what is refused."""

import numpy as np
import pytest
from polyvore_u import write_lines, write_table

from data_tools.convert_reference_checkpoint import epoch_of, main, scale_of
from fhn_jax.actions import ACTIONS, prepare
from fhn_jax.codes import Codes, Latents, Scorer
from tests.golden_weights import SLOTS, assert_close, load, part
from tests.torch_files import write_torch

CONFIG = "configs/text_t3.py:hash={hash},hash_types={hash_types},bits=16"
CASES = {
    "ht1": dict(hash_types=1),
    "ht3": dict(),
    "ht3_single": dict(values=["model.single=true"]),
    "ht3_share": dict(values=["model.user.share_user=true"]),
    "ht3_binary01": dict(hash="binary01"),
    "ht3_zi": dict(values=["model.matching.zero_item_term=true"]),
    "ht3_var": dict(),
}


def write_data(root, golden):
    """A data set whose outfits are those of a golden file, each item its own."""
    inputs = np.stack([golden["pos"], golden["neg"]], axis=1)
    rows, _, n, width = inputs.shape
    slots = SLOTS[n]
    categories = ("top", "bottom", "shoe")
    folder = root / "tuples_8"
    folder.mkdir(parents=True)
    names, vectors = [], []
    outfits = np.zeros((rows, 2, n), int)
    for category, title in enumerate(categories):
        mine = [slot for slot, c in enumerate(slots) if c == category]
        count = rows * 2 * len(mine)
        outfits[:, :, mine] = np.arange(count).reshape(rows, 2, len(mine))
        own = [f"{title}{i:03d}.jpg" for i in range(count)]
        write_lines(folder / f"image_list_{title}", own)
        names += own
        vectors.append(inputs[:, :, mine].reshape(count, width))
    (root / "sentence_vector").mkdir()
    np.savez(root / "sentence_vector" / "semantic.npz", names=np.array(names),
             vectors=np.concatenate(vectors))  # fmt: skip
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


def command(tmp_path, *, hash="tanh", hash_types=3, values=()):
    options = ["train.batch_size=4", "model.text_head.hidden=32", *values]
    return [
        str(tmp_path / "model.net"),
        f"--config={CONFIG.format(hash=hash, hash_types=hash_types)}",
        f"--root={tmp_path / 'data'}",
        "--variant=8",
        f"--workdir={tmp_path / 'run'}",
        *(f"--set={value}" for value in options),
    ]


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
    assert main(command(tmp_path, **options)) == 0, capsys.readouterr().err
    config, workdir = prepare(None, {}, None, tmp_path / "run")
    ACTIONS["extract-features"](config, workdir, "test")
    codes = Codes.load(workdir / "codes.safetensors")
    scorer = Scorer(codes, Latents.load(workdir / "latents.safetensors", codes))
    users = golden["uidx"]
    for kind, suffix in (("relaxed", ""), ("binary", "_binary")):
        for side, which in enumerate(("pos", "neg")):
            got = scorer.score(kind, users, outfits[:, side])
            want = golden[f"s{scale}.score.{which}{suffix}"][:, 0]
            assert_close(got, want, 1e-4)


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
        assert main(command(tmp_path)) == 1
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
        assert main(command(tmp_path, values=values)) == 1
        assert text in capsys.readouterr().err
    assert main(command(tmp_path)) == 0
    capsys.readouterr()
    assert main(command(tmp_path)) == 1
    assert "holds a checkpoint; give another --workdir" in capsys.readouterr().err


@pytest.mark.parametrize("epoch", [0, 1, 7, 99])
def test_the_slope_gives_the_epoch(epoch):
    assert epoch_of(float(np.float32(np.sqrt(1 + epoch))), 1.0) == epoch
    assert epoch_of(1.0, 0.0) == 0


def test_without_slopes_the_slope_is_1():
    assert scale_of({"core.0.weight": np.ones(1)}) == 1.0
