"""The command that makes a teacher: of trained runs, and of models of taste."""

from pathlib import Path

from fhn_jax import files
from fhn_jax.cli.command import Command, Flag
from fhn_jax.cli.progress import progress, say_written
from fhn_jax.cli.run import RunChoice
from fhn_jax.errors import InputError
from fhn_jax.evaluation.evaluators import check_same_data, load_codes


def teach(choice: RunChoice, *, run: tuple[str, ...], tastes: int) -> None:
    """Writes what a student learns to score like.

    Args:
      run: workdirs of trained runs on the same data, whose binary scores count.
      tastes: how many models of taste are trained, which count as much together.
    Raises:
      InputError: neither, or runs of other data.
      FileNotFoundError: a run without codes.
    """
    # Packages of training take seconds to import.
    from fhn_jax.data.catalogue import items_by_category
    from fhn_jax.training import build, taste, teacher

    if tastes < 0 or not (run or tastes):
        raise InputError(
            f"--tastes={tastes} and {len(run)} times --run leave no model to learn from; "
            "give one of them"
        )
    opened = choice.open()
    config, catalogue = opened.config, opened.catalogue()
    build.check_config(config)
    teacher.check_size(catalogue)
    members = {}
    if run:
        of_runs = []
        for workdir in map(Path, run):
            codes = load_codes(workdir)[0]
            check_same_data(codes, catalogue)
            of_runs.append(teacher.of_codes(codes))
        members[f"{len(run)} runs"] = teacher.mean(of_runs)
    if tastes:
        vectors = taste.read_vectors(config, catalogue)
        used = items_by_category(
            catalogue.splits["train"].positives.items, catalogue.slots
        )
        vectors = taste.standardised(vectors, used, catalogue.offsets)
        found = []
        for number in range(tastes):
            seed = config.seed * tastes + number
            batches = build.make_batches(config, catalogue, seed=seed)
            model = taste.TasteModel(catalogue, batches, vectors, seed)
            title = f"model of taste {number + 1} of {tastes}"
            found.append(model.train(progress(title), taste.STEPS))
        # Their scores are logits; those of a run are that times the sharpness.
        scaled = [
            teacher.Teacher(*(table / config.loss.sharpness for table in each))
            for each in found
        ]
        members[f"{tastes} models of taste"] = teacher.mean(scaled)
    together = teacher.mean(list(members.values()))
    if len(members) > 1:
        members["together"] = together
    if "val" in catalogue.splits:
        for name, each in members.items():
            print(f"{name}: validation AUC {_auc(each, catalogue):.4f}")
    path = opened.workdir / teacher.FILE
    opened.workdir.mkdir(parents=True, exist_ok=True)
    with files.lock(path, "writing the teacher"):
        together.save(path, catalogue)
    say_written(path)


def _auc(teacher, catalogue) -> float:
    """Mean over users of the AUC of the validation split, random negatives."""
    import numpy as np

    from fhn_jax.evaluation import metrics
    from fhn_jax.evaluation.evaluators import scores_by_user

    split = catalogue.splits["val"]

    def scores(outfits):
        ids = catalogue.global_ids(outfits.items)[:, None]
        return np.asarray(teacher.scores(outfits.users, ids, catalogue.slots))[:, 0]

    parts = (split.positives, split.negatives["random"])
    by_user = scores_by_user(split, "random", *map(scores, parts))
    return float(np.mean([metrics.auc(*each) for each in by_user.values()]))


TEACH = Command(
    "teach",
    "Write the mean of runs and of models of taste, for train.teacher to learn from",
    teach,
    (
        Flag("run", (), "Workdir of a run on the same data"),
        Flag("tastes", 4, "Number of models of taste, which need vectors of items"),
    ),
)
