"""The cold-start action: new users by training, by formulas, and one by hand."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from fhn_jax.configs import cold_start
from fhn_jax.data_tools.export_ranked import export_ranked
from fhn_jax.data_tools.split_users import split_users
from polyvore_u import write_lines, write_polyvore_u
from random_codes import codes_of, names_of, random_codes
from runs import REPOSITORY, act, run, settings

from fhn_jax.cli.answers import parse_items, read_outfits
from fhn_jax.cli.new_users import fit_one, parse_clicks
from fhn_jax.cli.verify import main as verify
from fhn_jax.codes import Codes, Latents, Scorer
from fhn_jax.data.catalogue import stored_outfits
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import UserError
from fhn_jax.evaluation import cold_start as studies
from fhn_jax.evaluation.cold_start import SIZES, format_study, learners, study
from fhn_jax.evaluation.evaluators import evaluate as evaluate_codes
from fhn_jax.new_users import BprFit, Similarity
from fhn_jax.recommender import Recommender
from fhn_jax.training.checkpoint import flatten
from fhn_jax.training.experiment import Experiment
from fhn_jax.training.fine_tune import restore_base


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Five known and three new users of the same items."""
    root = write_polyvore_u(tmp_path_factory.mktemp("data") / "tiny")
    split_users(root, "8", "5", users="0-4")
    split_users(root, "8", "3", users="5-7", at_most=4, negatives=2)
    return root


@pytest.fixture(scope="module")
def base(tmp_path_factory, root):
    """The workdir of a run on the known users, by text."""
    workdir = tmp_path_factory.mktemp("base")
    run = Experiment(settings(root, variant="5"), workdir)
    run.export(run.train())
    return workdir


def config_for(root, base, method="retrain", arg="", **overrides):
    """The smoke settings of a cold start on the base run."""
    config = cold_start.get_config(f"smoke,of=text_t3,base={base},method={method}{arg}")
    values = {"data.root": str(root), "data.variant": "3", "wandb.mode": "disabled"}
    config.update_from_flattened_dict(values | overrides)
    return config.lock()


def learn(config, workdir, **options):
    act("cold-start", config, workdir, **options)


# --- by training ------------------------------------------------------------------


@pytest.mark.slow
def test_retraining_learns_the_users_and_nothing_else(root, base, tmp_path):
    config = config_for(root, base)
    learn(config, tmp_path)
    theirs = Codes.load(base / "codes.safetensors")
    ours = Codes.load(tmp_path / "codes.safetensors")
    for before, after in zip(theirs.items["text"], ours.items["text"], strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(ours.lambda_user, theirs.lambda_user)
    np.testing.assert_array_equal(ours.lambda_item, theirs.lambda_item)
    start = flatten(restore_base(Experiment(config, tmp_path)).model.user)
    (embedding,) = (array for array in start.values() if array.shape == (3, 16))
    relaxed = np.clip(np.asarray(embedding), -1, 1)
    assert ours.num_users == 3
    assert np.abs(ours.user_latents - relaxed).max() > 0.01
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["users"], results["split"]) == (3, "test")
    # Again: trained to the end already, and the same codes.
    learn(config, tmp_path)
    assert Codes.load(tmp_path / "codes.safetensors").sha256() == ours.sha256()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arg", "overrides", "message"),
    [
        ("", {"model.bits": 32}, "another network: model.bits is 16 there and 32 here"),
        (",of=vse_t3", {}, r"model.modalities is \['text'\] there and \['visual', 'te"),
        ("", {"model.single": True}, "model.single is False there and True here"),
        ("", {"optimizer.rates.text": 0.1}, "rates of text are not 0; a cold start"),
    ],
)
def test_retraining_on_another_network_is_refused(
    root, base, tmp_path, arg, overrides, message
):
    with pytest.raises(ValueError, match=message):
        learn(config_for(root, base, arg=arg, **overrides), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_base_run_that_is_not_there_is_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere/config.json: no such file"):
        learn(config_for(root, "nowhere"), tmp_path)


# --- by formulas ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["similarity", "fit"])
def test_formulas_learn_from_the_train_split(root, base, tmp_path, method):
    learn(config_for(root, base, method), tmp_path)
    codes = Codes.load(base / "codes.safetensors")
    known = read_catalogue(root, "5").splits["train"]
    new = read_catalogue(root, "3")
    if method == "fit":
        learner = BprFit(codes)
    else:
        learner = Similarity(codes, known.positives, known.negatives["random"])
    train = new.splits["train"]
    want = learner.fit(train.positives, train.negatives["random"]).into(codes, new)
    got = Codes.load(tmp_path / "codes.safetensors")
    assert got.sha256() == want.sha256()
    results = json.loads((tmp_path / "results.json").read_text())
    items = Latents.load(base / "latents.safetensors", codes).items
    latents = Latents(items, want.sha256())
    assert results["scores"] == evaluate_codes(want, new, latents=latents)["scores"]


@pytest.fixture(scope="module")
def learned(root, base, tmp_path_factory):
    """The workdir of users who were learned by a formula."""
    workdir = tmp_path_factory.mktemp("learned")
    learn(config_for(root, base, "fit"), workdir)
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "options", "written"),
    [
        ("search", {}, "search.png"),
        ("compose", {}, "compose.png"),
        ("cold-start", {"fit": True, "likes": "1"}, "fit.png"),
        ("evaluate-rank", {}, "results.json"),
        ("fitb", {}, "results.json"),
        ("report", {}, "report/index.html"),
    ],
)
def test_commands_take_the_workdir_of_learned_users(learned, command, options, written):
    act(command, workdir=learned, **options)
    assert (learned / written).exists()


def test_programs_take_the_workdir_of_learned_users(learned, root, tmp_path, capsys):
    export_ranked(learned, tmp_path / "ranked.jpg")
    verify([str(learned)])
    assert f"{learned}/latents.safetensors: " in capsys.readouterr().out
    shared = shutil.copytree(learned, tmp_path / "served")
    recommender = Recommender.open(shared, root, "3")
    assert len(recommender.codes.user_latents) == 3


def test_the_network_of_learned_users_is_that_of_the_base_run(learned, base):
    for workdir in (learned, base):  # It knows text alone.
        with pytest.raises(UserError, match="no images|visual"):
            act("export-encoder", workdir=workdir)
    with pytest.raises(UserError, match=f"no network of its own.*{base}; extract"):
        act("extract-features", workdir=learned)
    with pytest.raises(UserError, match="learn them with `fhn-jax cold-start`"):
        act("train", workdir=learned)


def test_a_formula_does_not_overwrite_a_trained_run(root, base):
    before = (base / "codes.safetensors").read_bytes()
    with pytest.raises(UserError, match="holds a run of another config"):
        learn(config_for(root, base, "fit"), base)
    assert (base / "codes.safetensors").read_bytes() == before


@pytest.mark.slow
def test_other_items_are_encoded_by_the_base_run(root, base, tmp_path):
    """New users of the same items, listed in another order."""
    other = tmp_path / "data"
    shutil.copytree(root, other, symlinks=True)
    path = other / "tuples_3" / "image_list_top"
    lines = path.read_text().splitlines()
    write_lines(path, [lines[1], lines[0], *lines[2:]])
    workdir = tmp_path / "run"
    learn(config_for(other, base, "similarity"), workdir)
    got = Codes.load(workdir / "codes.safetensors").items["text"][0]
    base_items = Codes.load(base / "codes.safetensors").items["text"][0]
    np.testing.assert_array_equal(got[[1, 0, 2]], base_items[:3])


@pytest.mark.parametrize(
    ("method", "overrides", "message"),
    [
        ("fit", {"model.bits": 32}, "has model.bits=16, this config 32; give the arg"),
        ("fit", {"model.modalities": ("visual",)}, r"has model.modalities=\('text',\)"),
        ("dance", {}, "method='dance': expected one of retrain, similarity, fit, random, st"),
        ("fit", {"cold_start.strength": -1.0}, "strength=-1.0: expected above 0"),
        ("similarity", {"cold_start.beta": 2.0}, "beta=2.0: expected 0 to 1"),
    ],
)  # fmt: skip
def test_wrong_settings_of_a_formula_are_named(
    root, base, tmp_path, method, overrides, message
):
    with pytest.raises(ValueError, match=message):
        learn(config_for(root, base, method, **overrides), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_action_needs_its_config(root, base, tmp_path):
    with pytest.raises(ValueError, match="needs --config configs/cold_start.py"):
        learn(settings(root, variant="3"), tmp_path)


def test_new_users_need_dislikes_in_the_data(root, base, tmp_path):
    other = tmp_path / "data"
    shutil.copytree(root, other, symlinks=True)
    (other / "tuples_3" / "tuples_train_nega").unlink()
    with pytest.raises(KeyError, match="tuples_train_nega is absent"):
        learn(config_for(other, base, "fit"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- the studies ------------------------------------------------------------------


@pytest.mark.slow
def test_the_study_writes_a_table_and_charts(root, base, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(studies, "BETAS", (0.3, 1.0))
    monkeypatch.setattr(studies, "EPSILONS", (0.0, 0.75))
    learn(config_for(root, base, "study"), tmp_path, split="val")
    names = {"study.json", "sweep.png", "sizes.png", "likes.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    found = json.loads((tmp_path / "study.json").read_text())
    assert (found["split"], found["users"]) == ("val", 3)
    out = format_study(found) + f"\nwrote {tmp_path / 'study.json'}\n"
    assert capsys.readouterr().out == out
    assert len(found["sweep"]) == 4
    assert [row["size"] for row in found["sizes"]] == [
        name for name, *_ in SIZES for _ in range(3)
    ]
    assert {row["likes"] for row in found["likes"]} == {1, 3, 4}
    codes = Codes.load(base / "codes.safetensors")
    known, new = (read_catalogue(root, variant) for variant in "53")
    train = known.splits["train"]
    one = Similarity(
        codes, train.positives, train.negatives["random"], beta=0.3, epsilon=0.75
    )
    train = new.splits["train"]
    users = one.fit(train.positives, train.negatives["random"])
    want = evaluate_codes(users.into(codes, new), new, "val")
    (row,) = (r for r in found["sweep"] if (r["beta"], r["epsilon"]) == (0.3, 0.75))
    assert row["auc"] == want["scores"]["binary"]["auc"]
    assert row["auc_hard"] == want["hard"]["binary"]["auc"]


@pytest.mark.slow
def test_sizes_of_the_study_are_shares_of_each_users_outfits(
    root, tmp_path, monkeypatch
):
    known, new = (read_catalogue(root, variant) for variant in "53")
    codes = codes_of(known)
    options = dict(beta=0.5, epsilon=0.5, strength=0.1, shrinkage=0.2)
    compared = learners(codes, known, codes, **options)
    seen = []
    fit = BprFit.fit

    def noted(self, likes, dislikes, num_users):
        seen.append([np.bincount(c.users).tolist() for c in (likes, dislikes)])
        return fit(self, likes, dislikes, num_users)

    monkeypatch.setattr(BprFit, "fit", noted)
    monkeypatch.setattr(studies, "BETAS", (0.5,))
    monkeypatch.setattr(studies, "EPSILONS", (0.5,))
    study(compared, new, "val")
    # 4 outfits and 8 negatives of each user.
    assert seen[:4] == [[[4] * 3, [8] * 3], *([[[1] * 3, [2] * 3]] * 3)]


# --- one user ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalogue(root):
    return read_catalogue(root, "5")


def test_one_user_gets_the_best_outfits_that_were_not_clicked(
    catalogue, tmp_path, capsys
):
    codes = codes_of(catalogue)
    stored = stored_outfits(catalogue)
    request = fit_one(codes, catalogue, tmp_path, ("3", "5"), ("shoe:4,8",), 6)
    assert json.loads((tmp_path / "fit.json").read_text()) == request
    assert request["likes"] == [stored[3].tolist(), stored[5].tolist()]
    assert request["dislikes"] == [[-1, -1, 4], stored[8].tolist()]
    clicks = [
        parse_clicks(t, codes, names_of(codes), stored, "") for t in ("3,5", "shoe:4,8")
    ]
    users = BprFit(codes).fit(*clicks)
    scores = Scorer(users.into(codes)).score(
        "asymmetric", np.zeros(len(stored), np.int32), stored
    )
    scores[[3, 5, 8]] = -np.inf
    order = sorted(range(len(stored)), key=lambda row: (-scores[row], row))[:6]
    assert [outfit["id"] for outfit in request["outfits"]] == order
    for outfit in request["outfits"]:
        assert outfit["items"] == stored[outfit["id"]].tolist()
        assert outfit["names"][2] == catalogue.names[2][outfit["items"][2]]
        assert outfit["score"] == pytest.approx(scores[outfit["id"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 likes, 2 dislikes"
    assert len(lines) == 9
    assert lines[-1] == f"wrote {tmp_path / 'fit.json'}"
    bits = np.frombuffer(bytes.fromhex(request["code"]), np.uint8)
    np.testing.assert_array_equal(bits, users.into(codes).users[0])


@pytest.mark.slow
def test_the_command_line_fits_one_user(root, base, tmp_path):
    workdir = shutil.copytree(base, tmp_path / "run")
    code, out, err = run(
        ["cold-start", "--fit", "--workdir", workdir, "--likes=1,2", "--k=2"],
        patch="import atexit, sys; atexit.register(lambda: print(*sys.modules))",
        cwd=REPOSITORY,
    )
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "2 likes, 0 dislikes"
    assert len(lines) == 7
    assert (workdir / "fit.png").is_file()
    assert not {"jax", "flax", "tensorflow", "matplotlib"} & set(lines[-1].split())
    code, _, err = run(["cold-start", "--fit", "--workdir", workdir, "--likes=x"])
    assert code == 1
    assert err.startswith("error: --likes, 'x': expected the id of an outfit, one item")


CODES = random_codes(counts=(30, 20, 10))
STORED = np.array([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", []),
        ("1", [[4, 5, 6]]),
        ("1, 0", [[4, 5, 6], [1, 2, 3]]),
        ("shoe:9", [[-1, -1, 9]]),
        ("top:top007.jpg", [[7, -1, -1]]),
        ("7/8/9", [[7, 8, 9]]),
        ("7//shoe001.jpg", [[7, -1, 1]]),
    ],
)
def test_clicks_on_the_command_line(text, items):
    clicks = parse_clicks(text, CODES, names_of(CODES), STORED, "--likes")
    assert clicks.items.tolist() == items
    assert clicks.users.tolist() == [0] * len(items)


def test_an_item_called_like_the_id_of_another_is_meant_wherever_it_is_named(tmp_path):
    names = [list(each) for each in CODES.names]
    names[2][3], names[2][7] = "7", "seven"
    codes = dataclasses.replace(CODES, names=tuple(map(tuple, names)))
    clicks = parse_clicks("shoe:7", codes, names_of(codes), STORED, "--likes")
    assert clicks.items.tolist() == [[-1, -1, 3]]
    assert parse_items(["shoe:7"], names_of(codes), "--fixed") == {"shoe": [3]}
    write_lines(path := tmp_path / "outfits.csv", ["top,bottom,shoe", "1,2,7"])
    assert parse_clicks(
        str(path), codes, names_of(codes), STORED, ""
    ).items.tolist() == [[1, 2, 3]]
    assert read_outfits(path, codes, names_of(codes)).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("lines", "items"),
    [
        (["top,bottom,shoe", "1,2,3", "top004.jpg,,-1"], [[1, 2, 3], [4, -1, -1]]),
        (["outfit", "1"], [[4, 5, 6]]),
        (["top,bottom,shoe"], []),
    ],
)
def test_clicks_in_a_file(tmp_path, lines, items):
    path = tmp_path / "clicks.csv"
    write_lines(path, lines)
    assert (
        parse_clicks(str(path), CODES, names_of(CODES), STORED, "").items.tolist()
        == items
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2", "--likes, '2': outfit 2 is unknown; expected 0 to 1"),
        (
            "hat:2",
            "'hat:2': expected the id of an outfit, one item such as 'top:4', or",
        ),
        ("1/2", "'1/2': expected the id"),
        ("shoe:10", "shoe '10' is unknown; expected an id of 0 to 9, or the name"),
        ("top:boot.jpg", "top 'boot.jpg' is unknown"),
        ("1/-2/3", "bottom '-2' is unknown"),
    ],
)
def test_wrong_clicks_on_the_command_line_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_clicks(text, CODES, names_of(CODES), STORED, "--likes")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["top,shoe", "1,2"], "line 1: header is 'top,shoe', expected 'top,bottom,sho"),
        ([], "line 1: header is ''"),
        (["top,bottom,shoe", "1,2,3", "1,2"], "line 3: 2 cells, expected 3"),
        (["top,bottom,shoe", "1,2,99"], "line 2: shoe '99' is unknown"),
        (["top,bottom,shoe", "", "1,2,3", "1,2,99"], "line 4: shoe '99' is unknown"),
        (["outfit", "7"], "line 2: outfit 7 is unknown; expected 0 to 1"),
    ],
)
def test_wrong_clicks_in_a_file_are_named(tmp_path, lines, message):
    path = tmp_path / "clicks.csv"
    write_lines(path, lines)
    with pytest.raises(ValueError, match=rf"clicks.csv, {message}"):
        parse_clicks(str(path), CODES, names_of(CODES), STORED, "")


def test_files_and_numbers_that_cannot_be_are_refused(catalogue, tmp_path):
    codes = codes_of(catalogue)
    with pytest.raises(FileNotFoundError, match="none.csv: no such file"):
        parse_clicks(str(tmp_path / "none.csv"), CODES, names_of(CODES), STORED, "")
    with pytest.raises(ValueError, match="--k=0: expected at least 1"):
        fit_one(codes, catalogue, tmp_path, ["1"], [], 0)
    with pytest.raises(ValueError, match="both likes and dislikes outfit"):
        fit_one(codes, catalogue, tmp_path, ["1"], ["1"], 3)
    with pytest.raises(ValueError, match="the codes are of data set"):
        fit_one(CODES, catalogue, tmp_path, ["1"], [], 3)
    assert list(tmp_path.iterdir()) == []


# --- the config -------------------------------------------------------------------


def test_the_config_freezes_all_but_the_users():
    for arg in ("", "of=t3,optimizer=adam", "clothing", "base=runs/x,method=fit"):
        config = cold_start.get_config(arg)
        for settings_ in (config, config.demo):
            rates = settings_.optimizer.rates.to_dict()
            assert rates.pop("user") > 0
            assert set(rates.values()) == {0.0}
    assert config.cold_start.base == "runs/x"
    assert config.cold_start.method == "fit"
    assert cold_start.get_config().cold_start.base == "runs/vse_t3"
    with pytest.raises(ValueError, match="of='t4': expected one of t3, text_t3, vse"):
        cold_start.get_config("of=t4")
    with pytest.raises(ValueError, match="'tof' is unknown"):
        cold_start.get_config("tof=t3")
