"""The command that learns new users: a data set of them, or one by hand."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from fhn_jax import files
from fhn_jax.cli.answers import (
    items_of_cells,
    parse_item,
    read_csv,
    split_items,
    write_outfits,
)
from fhn_jax.cli.command import SPLIT, Command, Flag
from fhn_jax.cli.evaluating import evaluate
from fhn_jax.cli.progress import say_written
from fhn_jax.cli.recommending import K
from fhn_jax.cli.run import Run, RunChoice
from fhn_jax.cli.training import export, open_experiment, train_network
from fhn_jax.codes import Codes, Latents, Scorer, pack
from fhn_jax.codes.artifact import FILE as CODES
from fhn_jax.codes.latents import FILE as LATENTS
from fhn_jax.data.catalogue import Catalogue, Outfits, stored_outfits
from fhn_jax.data.item_names import ItemNames, read_names
from fhn_jax.errors import InputError
from fhn_jax.evaluation.cold_start import format_study, learners, study
from fhn_jax.evaluation.evaluators import check_same_data, load_codes
from fhn_jax.new_users import BprFit, Learner, NewUsers
from fhn_jax.training.settings import config_values
from fhn_jax.training.workdir import check_workdir, claim_workdir

_METHODS = ("retrain", "similarity", "fit", "random", "study")
# The settings of `learners` in config.cold_start.
OPTIONS = ("beta", "epsilon", "strength", "shrinkage")


def cold_start(
    choice: RunChoice,
    *,
    split: str,
    fit: bool,
    likes: Sequence[str],
    dislikes: Sequence[str],
    k: int,
) -> None:
    """Learns new users on a trained run, as config.cold_start.method says.

    Args:
      fit: instead of a data set of new users, learn one user of what is served.
      likes, dislikes: clicks of this user, see `parse_clicks`.
      k: how many outfits to recommend.
    """
    run = choice.open()
    if fit:
        of = run.served()
        codes, catalogue, images = of.codes(), of.catalogue(), of.images()
        fit_one(codes, catalogue, run.workdir, likes, dislikes, k, images)
    else:
        learn_data_set(run, split)


def learn_data_set(run: Run, split: str) -> None:
    """Learns the users of a data set, by the method of the config, and evaluates them.

    Raises:
      InputError: settings without a cold start, or of another network than the base
        run's.
      MissingFileError: no base run.
    """
    config = run.config
    if "cold_start" not in config:
        raise InputError(
            "cold-start needs --config configs/cold_start.py:base=…; or --fit with the "
            "--workdir of a run and --likes"
        )
    method = config.cold_start.method
    if method not in _METHODS:
        raise InputError(
            f"cold_start.method={method!r}: expected one of {', '.join(_METHODS)}"
        )
    if method == "retrain":
        from fhn_jax.training.fine_tune import restore_base

        experiment, trained = train_network(run, restore_base)
        export(experiment, trained)
        evaluate(run, "all", split, experiment.catalogue)
        return
    check_workdir(config_values(config), run.workdir)
    base = RunChoice(workdir=Path(config.cold_start.base)).open()
    codes, latents = load_codes(base.workdir)
    _check_same_network(codes, config.model, base.workdir)
    known, catalogue = base.catalogue(), run.catalogue()
    check_same_data(codes, known)
    items = codes
    if catalogue.names != known.names:
        items, latents = _encode_by_base(run, catalogue, codes)
    options = {name: config.cold_start[name] for name in OPTIONS}
    compared = learners(codes, known, items, **options)
    if method == "study":
        from fhn_jax.reporting.study import write_study

        found = study(compared, catalogue, split)
        write_study(run.workdir, found)
        print(format_study(found))
        say_written(run.workdir / "study.json")
        return
    _learn(run, compared[method], catalogue, latents)
    evaluate(run, "all", split, catalogue)


def _check_same_network(codes: Codes, model: Any, base: Path) -> None:
    """Raises InputError unless the settings are those of the base run's codes."""
    for key, theirs, ours in (
        ("bits", codes.bits, model.bits),
        ("modalities", codes.modalities, tuple(model.modalities)),
    ):
        if theirs != ours:
            raise InputError(
                f"the base run {base} has model.{key}={theirs}, this config {ours}; "
                "give the arguments of the base run to configs/cold_start.py, or "
                "another base=…"
            )


def _encode_by_base(
    run: Run, catalogue: Catalogue, codes: Codes
) -> tuple[Codes, Latents]:
    """Codes of other items by the base run's network, with the base run's users."""
    from fhn_jax.training.fine_tune import restore_base

    experiment = open_experiment(run, catalogue)
    items, latents = experiment.encode(restore_base(experiment))
    users = {"users": codes.users, "user_latents": codes.user_latents}
    return dataclasses.replace(items, **users), latents


def _learn(
    run: Run, learner: Learner, catalogue: Catalogue, latents: Latents | None
) -> None:
    """Learns the users of a data set from its train split; writes a run of them.

    Args:
      latents: of the learner's items, whatever users they were saved with.
    Raises:
      KeyError: the train split has no random negatives.
    """
    train = catalogue.splits["train"]
    train.ratio("random")
    users = learner.fit(train.positives, train.negatives["random"], catalogue.num_users)
    codes = users.into(learner.codes, catalogue)
    with files.lock(run.workdir, "learning users"):
        claim_workdir(config_values(run.config), run.workdir)
        paths = [run.workdir / CODES]
        if latents is None:
            Latents.remove(run.workdir)
            codes.save(paths[0])
        else:
            Latents(latents.items, codes.sha256()).save_with(run.workdir, codes)
            paths.append(run.workdir / LATENTS)
    say_written(run.workdir / "config.json", *paths)


def fit_one(
    codes: Codes,
    catalogue: Catalogue,
    workdir: Path,
    likes: Sequence[str],
    dislikes: Sequence[str],
    k: int,
    images: Any = None,
) -> dict[str, Any]:
    """Learns one user and prints the best stored outfits; writes fit.json and fit.png.

    Args:
      codes: of `catalogue`.
      likes, dislikes: texts, see `parse_clicks`.
      k: how many outfits.
      images: of the items; without them there is no picture.
    Returns:
      what fit.json holds: {"user": "new", "code": hexadecimal packed bits, "latent",
      "likes", "dislikes": items of each, "outfits": see `answers.write_outfits`}.
    Raises:
      FileNotFoundError, ValueError: as `parse_clicks` and `BprFit`; k below 1.
    """
    if k < 1:
        raise InputError(f"--k={k}: expected at least 1")
    check_same_data(codes, catalogue)
    names = read_names(catalogue.root, catalogue.variant, codes)
    stored = stored_outfits(catalogue)
    # Numbered as those of `search`.
    stored = stored[names.are_available(codes.slots, stored)]

    def clicks(texts: Sequence[str], flag: str) -> Outfits:
        found = [parse_clicks(t, codes, names, stored, flag) for t in texts or ("",)]
        items = np.concatenate([each.items for each in found])
        return Outfits(np.zeros(len(items), np.int32), items)

    users = BprFit(codes).fit(
        clicks(likes, "--likes"), clicks(dislikes, "--dislikes"), 1
    )
    about = {
        "user": "new",
        "code": pack(users.bits)[0].tobytes().hex(),
        "latent": users.latents[0].tolist(),
        "likes": users.likes.items.tolist(),
        "dislikes": users.dislikes.items.tolist(),
    }
    print(f"{len(users.likes)} likes, {len(users.dislikes)} dislikes")
    best, scores = _recommend(codes, users, stored, k)
    return write_outfits(
        workdir,
        "fit",
        about,
        codes,
        names,
        images,
        items=stored[best],
        scores=scores,
        numbers=best,
    )


def _recommend(
    codes: Codes, users: NewUsers, stored: Int[np.ndarray, "n s"], k: int
) -> tuple[Int[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
    """Ids and scores of the best outfits that were not clicked; ties by lower id."""
    clicked = np.concatenate([users.likes.items, users.dislikes.items])
    seen = (stored[:, None] == clicked[None]).all(axis=2).any(axis=1)
    rows = np.flatnonzero(~seen)
    nobody = np.zeros(len(rows), np.int32)
    scores = Scorer(users.into(codes)).score("asymmetric", nobody, stored[rows])
    best = np.argsort(-scores, kind="stable")[:k]
    return rows[best], scores[best]


def parse_clicks(
    text: str,
    codes: Codes,
    names: ItemNames,
    stored: Int[np.ndarray, "n s"],
    what: str,
) -> Outfits:
    """Clicks of one user, as the command line has them.

    Args:
      text: a CSV file, or clicks with commas between: `17` or `#17` is a stored outfit,
        `shoe:4` or a shop's `SKU-9` an item, `3/14/9` an outfit by its items, in the
        order of the slots, with nothing for none. A CSV file has a header of slots
        (`top,bottom,shoe`), empty for none; or the header `outfit` and numbers.
      codes: whose items they are.
      names: of these items; of a shop's, `17` is the item whose id that is.
      stored: the outfits that have numbers.
      what: the name of the flag.
    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a click that is none of these, an unknown id or name; says which.
    """
    slots = [codes.categories[category] for category in codes.slots]
    if text.endswith(".csv"):
        _, table = read_csv(Path(text), "clicks", [slots, ["outfit"]])
        clicks = [
            _outfit_of(cells[0].strip(), slots, names, stored, where)
            if len(cells) < len(slots)
            else items_of_cells(cells, slots, names, where)
            for where, cells in table
        ]
    else:
        parts = split_items(text, names)
        clicks = [_click(part, slots, names, stored, what) for part in parts]
    items = np.array(clicks, np.int32).reshape(len(clicks), len(slots))
    return Outfits(np.zeros(len(clicks), np.int32), items)


def _click(
    text: str,
    slots: Sequence[str],
    names: ItemNames,
    stored: Int[np.ndarray, "n s"],
    what: str,
) -> list[int]:
    """The items of a click of the command line, -1 for none."""
    where, item = f"{what}, {text!r}", text.partition(":")
    if names.item(text) is not None or (item[1] and item[0] in slots):
        category, number = parse_item(text, names, where)
        clicked = [-1] * len(slots)
        clicked[slots.index(category)] = number
        return clicked
    cells = text.split("/")
    if len(cells) == len(slots):
        return items_of_cells(cells, slots, names, where)
    return _outfit_of(text, slots, names, stored, where)


def _outfit_of(
    text: str,
    slots: Sequence[str],
    names: ItemNames,
    stored: Int[np.ndarray, "n s"],
    where: str,
) -> list[int]:
    """The items of a stored outfit, by its number."""
    number = re.fullmatch("#?([0-9]{1,18})", text)
    if number is None:
        raise InputError(
            f"{where}: expected the id of an outfit, one item such as '{slots[0]}:4', "
            f"or an outfit by its items {'/'.join(slots)}{names.nearest_item(text)}"
        )
    if int(number[1]) >= len(stored):
        raise InputError(
            f"{where}: outfit {text} is unknown; expected 0 to {len(stored) - 1}"
        )
    return stored[int(number[1])].tolist()


COMMANDS = (
    Command(
        "cold-start",
        "Learn new users of a trained run: a data set of them, or one with --fit",
        cold_start,
        (
            SPLIT,
            Flag("fit", False, "Learn one user of the workdir's codes from --likes"),
            Flag("likes", (), "Outfits (17, 3/14/9), items (shoe:4, SKU-9), or a CSV"),
            Flag("dislikes", (), "As --likes"),
            K,
        ),
    ),
)
