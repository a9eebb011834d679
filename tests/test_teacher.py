"""Teachers: their tables, what they are made of, and runs that learn from them."""

import dataclasses
import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogues import catalogue, random_positives
from polyvore_u import write_polyvore_u
from random_codes import random_codes
from runs import act, flags, metrics, run, settings, train
from shapes import write_shapes

from fhn_jax.cli import refreshing
from fhn_jax.codes import Scorer
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError
from fhn_jax.files.reading import read_sealed, sha256_file
from fhn_jax.models.matching import category_pairs
from fhn_jax.training import build, taste, teacher
from fhn_jax.training.objective import Objective, imitation_loss
from fhn_jax.training.settings import config_hash
from fhn_jax.training.taste import TasteModel, standardised
from fhn_jax.training.teacher import Teacher

SIZES = (5, 4, 3)
SLOTS = (0, 1, 2)


def tables(seed=0, users=6, sizes=SIZES):
    """Random tables of a teacher."""
    rng = np.random.default_rng(seed)
    count = sum(sizes)
    category = np.repeat(np.arange(len(sizes)), sizes)
    match = rng.normal(size=(count, count)).astype(np.float32)
    match = np.where(category[:, None] == category, 0, match + match.T)
    taste = rng.normal(size=(count, users)).astype(np.float32)
    return Teacher(taste, match.astype(np.float32))


def test_scores_are_the_mean_taste_of_the_items_and_the_mean_match_of_the_pairs():
    found = tables()
    slots = (0, 0, 1, 2)
    outfits = np.array(
        [[[0, 1, 5, 9], [2, -1, 6, 10]], [[-1, -1, 7, -1], [4, 4, 8, 11]]]
    )
    users = np.array([3, 5])
    scores = np.asarray(found.scores(users, outfits, slots))
    for b, c in itertools.product(range(2), range(2)):
        here = outfits[b, c]
        items = [i for i in here if i >= 0]
        pairs = [
            found.match[here[j], here[k]]
            for j, k in category_pairs(slots)
            if min(here[j], here[k]) >= 0
        ]
        expected = np.mean([found.taste[i, users[b]] for i in items])
        expected += np.mean(pairs) if pairs else 0
        assert scores[b, c] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scaled": True},
        {"hash_types": 0},
        {"zero_item_term": True},
        {"zero_user_term": True},
        {"alphabet": "01"},
        {"modalities": ("text",)},
    ],
)
def test_the_teacher_of_codes_scores_as_they_do(changes):
    codes = random_codes(**changes)
    rng = np.random.default_rng(1)
    users = rng.integers(0, codes.num_users, 40)
    items = np.stack([rng.integers(0, n, 40) for n in SIZES], axis=1)
    ids = items + np.array([0, 5, 9])
    found = teacher.of_codes(codes).scores(users, ids[:, None], SLOTS)
    expected = Scorer(codes).score("binary", users, items)
    np.testing.assert_allclose(np.asarray(found)[:, 0], expected, atol=1e-4)


def test_the_mean_scores_the_mean():
    first, second = tables(0), tables(1)
    users, outfits = (
        np.arange(4),
        np.array([[[i, 5 + i % 4, 9 + i % 3]] for i in range(4)]),
    )
    each = [t.scores(users, outfits, SLOTS) for t in (first, second)]
    both = teacher.mean([first, second]).scores(users, outfits, SLOTS)
    np.testing.assert_allclose(both, (each[0] + each[1]) / 2, rtol=1e-5)


@pytest.mark.slow
def test_imitation_is_least_where_the_scores_are_the_teachers():
    rng = np.random.default_rng(0)
    target = jnp.asarray(rng.normal(size=(3, 5)))
    loss = lambda scores: imitation_loss(scores, target, 2.0).sum()  # noqa: E731
    # A student may add what it likes to all candidates of a positive.
    np.testing.assert_allclose(jax.grad(loss)(target + 1.5), 0, atol=1e-6)
    others = target + jnp.asarray(rng.normal(size=(3, 5)))
    assert loss(others) > loss(target)
    by_hand = -(jax.nn.softmax(2 * target) * jnp.log(jax.nn.softmax(2 * others))) / 4
    np.testing.assert_allclose(
        imitation_loss(others, target, 2.0), by_hand.sum(1), rtol=1e-5
    )
    own = Objective(sharpness=2.0).imitation(others, target)
    np.testing.assert_allclose(own, imitation_loss(others, target, 2.0))
    with pytest.raises(ValueError, match="differ"):
        imitation_loss(target, target[:, 1:])


def known(**changes):
    """A catalogue to which `tables()` belong."""
    positives = random_positives(6, 3, SIZES)
    return dataclasses.replace(catalogue(positives, SIZES), **changes)


def test_a_teacher_is_read_as_it_was_written_and_by_its_own_data_alone(tmp_path):
    path, data = tmp_path / "teacher.safetensors", known()
    tables().save(path, data)
    for read, written in zip(teacher.load(path, data), tables(), strict=True):
        np.testing.assert_array_equal(read, written)
    with pytest.raises(
        InputError, match=r"teacher.safetensors: it is of other data .*teach"
    ):
        teacher.load(path, known(train_checksum="1" * 64))
    with pytest.raises(
        InputError, match=r"taste is float32 \[12, 6\], expected float32 \[12, 7\]"
    ):
        teacher.load(path, known(num_users=7))
    bad = tables()
    bad.match[0, 6] = np.nan
    bad.save(path, data)
    with pytest.raises(InputError, match=r"match holds nan at \[0, 6\]"):
        teacher.load(path, data)
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 1
    path.write_bytes(bytes(damaged))
    with pytest.raises(InputError, match="teacher.safetensors: .*damaged.*teach"):
        teacher.load(path, data)


def test_tables_too_large_to_be_held_are_refused():
    names = tuple(tuple(map(str, range(n))) for n in (20_000, 10, 10))
    with pytest.raises(
        InputError, match=r"20,020 items .* expected at most 268,435,456"
    ):
        teacher.check_size(known(names=names))


def test_vectors_are_standardised_on_the_items_of_training():
    rng = np.random.default_rng(0)
    short = rng.normal(3, 5, (12, 4)).astype(np.float32)
    long = rng.normal(size=(12, 200)).astype(np.float32)
    used = (np.arange(4), np.arange(3), np.arange(2))
    found = standardised([short, long], used, (0, 5, 9, 12))
    # Nine items have no more than eight directions beside their mean.
    assert found.shape == (12, 4 + 9) and np.isfinite(found).all()
    for start, count in ((0, 4), (5, 3), (9, 2)):
        part = found[start : start + count]
        np.testing.assert_allclose(part.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(part[:, :4].std(axis=0), 1, atol=1e-2)
    # Others are clipped, not blown up.
    assert np.abs(found).max() <= 4


def _auc(model, data):
    """How often a like outranks what nobody likes."""
    likes = data.splits["train"].positives
    rng = np.random.default_rng(9)
    others = np.stack([rng.integers(0, n, len(likes)) for n in SIZES_OF_TASTE], axis=1)
    score = lambda items: np.asarray(  # noqa: E731
        model.scores(likes.users, data.global_ids(items)[:, None], data.slots)
    )[:, 0]
    return (score(likes.items) > score(others)).mean()


SIZES_OF_TASTE = (30, 20, 10)


@pytest.mark.slow
def test_a_model_of_taste_learns_users_and_pairs():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 6)).astype(np.float32)
    tastes = rng.normal(size=(5, 6))
    starts = np.array([0, 30, 50])
    rows = []
    for user in range(5):
        items = np.stack([rng.integers(0, n, 3000) for n in SIZES_OF_TASTE], axis=1)
        x = vectors[items + starts]
        # What is liked together is alike in its second number.
        value = (x @ tastes[user]).sum(axis=1) - 6 * np.abs(x[:, 0, 1] - x[:, 1, 1])
        best = np.unique(items[np.argsort(-value)[:300]], axis=0)
        rows += [(user, *outfit) for outfit in best]
    data = catalogue(rows, SIZES_OF_TASTE)
    config = settings("data", {"train.negatives": "random_online", "train.ratio": 4})
    batches = build.make_batches(config, data)
    model = TasteModel(data, batches, vectors, seed=0)
    said = []
    found = model.train(lambda *done: said.append(done), steps=300)
    assert said[-1] == (300, 300)
    assert _auc(found, data) > 0.75
    without = Teacher(found.taste, 0 * found.match)
    assert _auc(found, data) > _auc(without, data) + 0.02
    np.testing.assert_array_equal(found.match, found.match.T)
    again = TasteModel(data, build.make_batches(config, data), vectors, seed=0)
    again = again.train(lambda *done: None, steps=300)
    np.testing.assert_array_equal(found.taste, again.taste)


@pytest.mark.slow
def test_a_model_of_taste_scores_in_training_as_its_tables_do(tmp_path):
    data = read_catalogue(write_shapes(tmp_path), "8")
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(data.num_items, 5)).astype(np.float32)
    batches = build.make_batches(settings(tmp_path), data)
    model = TasteModel(data, batches, vectors, seed=0)
    params = jax.tree.map(
        lambda p: jnp.asarray(rng.normal(size=p.shape)), model._start()
    )
    batch = next(batches.epoch(0))
    starts = np.cumsum((0, *batches.segments))[np.array(data.slots)]
    ids = np.where(
        batch.outfits >= 0, batch.items[np.maximum(batch.outfits, 0) + starts], -1
    )
    expected = model._tables(params).scores(batch.users, ids, data.slots)
    # A kept unit counts twice, a dropped one nothing: the mean over many draws.
    drawn = jax.jit(jax.vmap(lambda key: model._scores(params, key, batch)))(
        jax.random.split(jax.random.key(0), 4000)
    )
    error = drawn.std(axis=0) / 4000**0.5
    assert (np.abs(drawn.mean(axis=0) - expected) < 6 * error + 1e-3).all()


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Data, a run on them, and a teacher of it and of a model of taste."""
    root = tmp_path_factory.mktemp("taught")
    data = write_polyvore_u(root / "data", image_size=None)
    code, _, err = run([*flags(data), f"--workdir={root / 'run'}"])
    assert not code, err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taste, "STEPS", 20)
        teach(data, root / "teacher", run=(str(root / "run"),), tastes=2)
    return root


def teach(data, workdir, **values):
    """Runs the command."""
    act("teach", settings(data), workdir, **values)


@pytest.mark.slow
def test_the_command_says_how_good_each_part_is(taught, capsys):
    data = taught / "data"
    teach(data, taught / "again", run=(str(taught / "run"),), tastes=0)
    out = capsys.readouterr().out
    assert "1 runs: validation AUC 0." in out and "together" not in out
    assert f"wrote {taught / 'again' / teacher.FILE}" in out
    found = teacher.load(taught / "again" / teacher.FILE, read_catalogue(data, "8"))
    assert np.abs(found.taste).max() > 0


@pytest.mark.slow
def test_a_student_learns_to_score_like_its_teacher(tmp_path, capsys):
    root = write_polyvore_u(tmp_path / "data", image_size=None, positives=(6, 0, 2))
    data, path = read_catalogue(root, "8"), tmp_path / teacher.FILE
    target = tables(users=8, sizes=[len(names) for names in data.names])
    target = Teacher(3 * target.taste, target.match)
    target.save(path, data)
    long = {"train.epochs": 60, "train.ratio": 7, "train.batch_size": 16}
    long |= {"model.bits": 64, "model.text_head.stddev": 0.0, "optimizer.name": "adamw"}
    long |= {"optimizer.rates.user": 0.05, "optimizer.rates.text": 0.01}
    agreement = {}
    for name, arg in (("alone", "smoke"), ("student", f"smoke,teacher={path}")):
        config = settings(root, long, arg=arg)
        train(config, tmp_path / name)
        codes = teacher.of_codes(_codes(config, tmp_path / name))
        agreement[name] = _agreement(codes, target, data)
        if name == "alone":
            # Without a validation split there is nothing to tell how good it is.
            teach(root, tmp_path / "again", run=(str(tmp_path / name),), tastes=0)
            assert "validation" not in capsys.readouterr().out
            again = teacher.load(tmp_path / "again" / teacher.FILE, data)
            np.testing.assert_array_equal(again.taste, codes.taste)
    losses = losses_of(tmp_path / "student")
    assert losses[-1] < losses[0] - 0.2
    assert agreement["student"] > max(0.4, agreement["alone"] + 0.3)
    noted = read_sealed(tmp_path / "student" / "config.json", "")
    assert noted["train"]["teacher_sha256"] == sha256_file(path)


def losses_of(workdir):
    """The training losses of a run."""
    lines = metrics(workdir)
    return [line["train/loss"] for line in lines if "train/loss" in line]


def _codes(config, workdir):
    from fhn_jax.training.experiment import Experiment

    experiment = Experiment(config, workdir)
    return experiment.export(experiment.best())


def _agreement(found, target, data):
    """Correlation of both scores of training negatives, each less its user's mean."""
    outfits = data.splits["train"].negatives["random"]
    ids = data.global_ids(outfits.items)[:, None]
    scores = (t.scores(outfits.users, ids, data.slots) for t in (found, target))
    both = np.stack([np.asarray(each)[:, 0] for each in scores])
    for user in range(data.num_users):
        rows = outfits.users == user
        both[:, rows] -= both[:, rows].mean(axis=1, keepdims=True)
    return np.corrcoef(both)[0, 1]


@pytest.mark.slow
def test_the_device_draws_for_a_student_too(taught, tmp_path):
    path = taught / "teacher" / teacher.FILE
    config = settings(
        taught / "data", {"train.sampler": "device"}, arg=f"smoke,teacher={path}"
    )
    train(config, tmp_path / "run")
    alone = settings(taught / "data", {"train.sampler": "device"})
    train(alone, tmp_path / "alone")
    losses, others = (losses_of(tmp_path / name) for name in ("run", "alone"))
    assert np.isfinite(losses).all() and (np.array(losses) != others).all()


@pytest.mark.slow
def test_another_file_in_the_place_of_a_runs_teacher_is_refused(taught, tmp_path):
    data, path = taught / "data", tmp_path / "teacher.safetensors"
    path.write_bytes((taught / "teacher" / teacher.FILE).read_bytes())
    config = settings(data, arg=f"smoke,teacher={path}")
    train(config, tmp_path / "run")
    teach(data, tmp_path / "other", run=(str(taught / "run"),), tastes=0)
    path.write_bytes((tmp_path / "other" / teacher.FILE).read_bytes())
    fresh = settings(
        data, {"train.teacher_sha256": "0" * 64}, arg=f"smoke,teacher={path}"
    )
    with pytest.raises(InputError, match="expected 000000000000 .*teacher_sha256"):
        train(fresh, tmp_path / "new")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="teacher.safetensors"):
        train(settings(data, arg=f"smoke,teacher={path}"), tmp_path / "new")
    # A trained run needs its teacher no more.
    assert len(_codes(config, tmp_path / "run"))


@pytest.mark.slow
def test_a_student_goes_on_only_with_the_teacher_that_it_began_with(taught, tmp_path):
    data, path = taught / "data", tmp_path / "teacher.safetensors"
    path.write_bytes((taught / "teacher" / teacher.FILE).read_bytes())
    arg = f"smoke,teacher={path}"
    train(settings(data, arg=arg), tmp_path / "run")
    noted = sha256_file(path)
    # The same command again, and the teacher in another folder.
    train(settings(data, arg=arg), tmp_path / "run")
    moved = path.rename(tmp_path / "moved.safetensors")
    train(settings(data, arg=f"smoke,teacher={moved}"), tmp_path / "run")
    teach(data, tmp_path / "other", run=(str(taught / "run"),), tastes=0)
    other = tmp_path / "other" / teacher.FILE
    for values in ({}, {"train.teacher_sha256": noted}):
        with pytest.raises(InputError, match="teacher_sha256"):
            train(
                settings(data, values, arg=f"smoke,teacher={other}"), tmp_path / "run"
            )


@pytest.mark.slow
@pytest.mark.parametrize("whom", [{"user": "#3"}, {"item": "top:#4"}])
def test_who_is_forgotten_is_in_no_teacher_of_the_run(tmp_path, capsys, whom):
    data = write_polyvore_u(tmp_path / "data", image_size=None)
    run, path = tmp_path / "run", tmp_path / "teacher.safetensors"
    known = read_catalogue(data, "8")
    target = tables(users=8, sizes=[len(names) for names in known.names])
    target.save(path, known)
    config = settings(data, arg=f"smoke,teacher={path}")
    train(config, run)
    act("extract-features", workdir=run)
    shutil.copy(path, run / teacher.FILE)
    nobody = {"user": "", "item": "", "receipt": "", "database_url": ""}
    act("forget", workdir=run, **nobody | whom)
    deleted = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
    assert not path.exists() and not (run / teacher.FILE).exists()
    assert deleted["deleted"][str(path)] == 1
    # A file that the run did not learn from stays.
    path.write_bytes(b"another's")
    act("forget", workdir=run, **nobody | {"user": "#2"})
    assert path.exists()


@pytest.mark.slow
def test_a_teacher_is_found_from_another_folder(taught, tmp_path, monkeypatch):
    monkeypatch.chdir(taught)
    name = f"teacher/{teacher.FILE}"
    train(settings(taught / "data", arg=f"smoke,teacher={name}"), tmp_path / "run")
    noted = read_sealed(tmp_path / "run" / "config.json", "")["train"]["teacher"]
    assert noted == str(taught / name)


def test_the_hash_of_a_config_depends_on_the_teacher_not_on_where_it_lies():
    one, two = (settings("data", arg=f"smoke,teacher={name}") for name in "ab")
    assert config_hash(one) == config_hash(two) != config_hash(settings("data"))
    with two.unlocked():
        two.train.teacher_sha256 = "1" * 64
    assert config_hash(one) != config_hash(two)


def test_a_refresh_of_a_student_learns_from_the_likes():
    student = settings(
        "data", {"train.teacher_sha256": "1" * 64}, arg="smoke,teacher=a"
    )
    found = refreshing._shorter(student, student, 1)
    assert teacher.path_of(found) is None and not found.train.teacher_sha256
    assert student.train.teacher == "a"
    alone = settings("data")
    assert "teacher" not in refreshing._shorter(alone, alone, 1).train


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"run": (), "tastes": 0}, "leave no model to learn from"),
        ({"run": (), "tastes": -1}, "tastes=-1"),
    ],
)
def test_a_teacher_of_nothing_is_refused(taught, tmp_path, values, said):
    with pytest.raises(InputError, match=said):
        teach(taught / "data", tmp_path, **values)


def test_a_teacher_of_other_data_or_of_images_alone_is_refused(taught, tmp_path):
    other = write_polyvore_u(tmp_path / "other", image_size=None, seed=1)
    with pytest.raises(InputError, match="the codes are of data set"):
        teach(other, tmp_path / "run", run=(str(taught / "run"),), tastes=0)
    images = settings(taught / "data", config="t3")
    with pytest.raises(InputError, match=r"needs vectors of items: .*--tastes=0"):
        taste.read_vectors(images, read_catalogue(taught / "data", "8"))
