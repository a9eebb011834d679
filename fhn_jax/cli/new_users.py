"""What the cold-start action does with codes alone: learn users, compare, recommend."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from fhn_jax.cli.answers import ItemNumbers, read_csv, write_outfits
from fhn_jax.codes import Codes, Scorer, pack
from fhn_jax.data.catalogue import Catalogue, Outfits, stored_outfits
from fhn_jax.data.images import ImageStore
from fhn_jax.errors import InputError
from fhn_jax.evaluation.cold_start import draw_clicks, evaluate
from fhn_jax.evaluation.evaluators import check_same_data
from fhn_jax.evaluation.evaluators import evaluate as evaluate_codes
from fhn_jax.new_users import (
    BprFit,
    Learner,
    NewUsers,
    RandomCode,
    Similarity,
)
from fhn_jax.retrieval.searcher import Hits

METHODS = ("retrain", "similarity", "fit", "random", "study")
# The settings of `learners` in config.cold_start.
OPTIONS = ("beta", "epsilon", "strength", "shrinkage")
# The studies of the fork: weights of the similarity code, and how much of a user's
# training outfits is needed.
BETAS = tuple(np.round(np.arange(0, 1.01, 0.1), 1).tolist())
EPSILONS = (0.0, 0.25, 0.5, 0.75, 1.0)
SIZES = (
    ("100 %", 1.0, None),
    ("10 %", 0.1, None),
    ("5 %", 0.05, None),
    ("5 %, 20 negatives", 0.05, 20),
)


def check_method(method: str) -> None:
    """Raises ValueError unless `method` is one of `METHODS`."""
    if method not in METHODS:
        raise InputError(
            f"cold_start.method={method!r}: expected one of {', '.join(METHODS)}"
        )


def check_same_codes(
    codes: Codes, bits: int, modalities: Sequence[str], base: Path
) -> None:
    """Raises ValueError unless the settings are those of the base run's codes."""
    for key, theirs, ours in (
        ("bits", codes.bits, bits),
        ("modalities", codes.modalities, tuple(modalities)),
    ):
        if theirs != ours:
            raise InputError(
                f"the base run {base} has model.{key}={theirs}, this config {ours}; "
                "give the arguments of the base run to configs/cold_start.py, or "
                "another base=…"
            )


def learners(
    codes: Codes,
    known: Catalogue,
    items: Codes,
    *,
    beta: float,
    epsilon: float,
    strength: float,
    shrinkage: float,
) -> dict[str, Learner]:
    """The learners by name.

    Args:
      codes: of the base run.
      known: its data; the known users' likes and dislikes are of the train split.
      items: codes of the new users' items, with the users of the base run.
      beta, epsilon: of the similarity code.
      strength, shrinkage: of the fit.
    Raises:
      KeyError: the train split has no random negatives.
      ValueError: an option out of range.
    """
    train = known.splits["train"]
    train.ratio("random")
    return {
        "fit": BprFit(items, strength=strength, shrinkage=shrinkage),
        "similarity": Similarity(
            items,
            train.positives,
            train.negatives["random"],
            beta=beta,
            epsilon=epsilon,
            known=codes,
        ),
        "random": RandomCode(items),
    }


def learn(learner: Learner, catalogue: Catalogue, workdir: Path) -> None:
    """Learns the users of a data set from its train split; writes their codes.

    Raises:
      KeyError: the train split has no random negatives.
    """
    train = catalogue.splits["train"]
    train.ratio("random")
    users = learner.fit(train.positives, train.negatives["random"], catalogue.num_users)
    users.into(learner.codes, catalogue).save(workdir / "codes.safetensors")


# --- the studies ------------------------------------------------------------------


def study(
    learners: Mapping[str, Learner], catalogue: Catalogue, split: str
) -> dict[str, Any]:
    """The fork's studies of the similarity code, and all learners by their clicks.

    Args:
      learners: from `learners`.
      catalogue: of the new users.
      split: to evaluate on.
    Returns:
      {"dataset", "split", "users", "sweep": rows of beta and epsilon, "sizes": rows of
      size and method, "likes": rows of likes and method}; each row has "auc",
      "auc_hard" (if there are hard negatives) and "fitb" (if there are questions) of
      the binary score.
    """
    train = catalogue.splits["train"]
    train.ratio("random")
    everything = train.positives, train.negatives["random"]
    similarity = learners["similarity"]
    sweep = [
        {"beta": beta, "epsilon": epsilon}
        | _measure(similarity.weighted(beta, epsilon), *everything, catalogue, split)
        for beta in BETAS
        for epsilon in EPSILONS
    ]
    own = np.bincount(train.positives.users, minlength=catalogue.num_users)
    sizes = []
    for name, share, most in SIZES:
        counts = np.maximum(np.rint(share * own).astype(int), 1)
        clicks = draw_clicks(catalogue, counts, most_dislikes=most)
        sizes += [
            {"size": name, "method": method}
            | _measure(learner, *clicks, catalogue, split)
            for method, learner in learners.items()
        ]
    likes = [
        {"likes": row["likes"], "method": row["method"]} | _figures(row)
        for row in evaluate(
            learners, catalogue, split, dislikes=min(2, train.ratio("random"))
        )
    ]
    return {
        "dataset": catalogue.dataset,
        "split": split,
        "users": catalogue.num_users,
        "sweep": sweep,
        "sizes": sizes,
        "likes": likes,
    }


def format_study(study: Mapping[str, Any]) -> str:
    """The study as aligned text tables."""
    parts = [f"{study['dataset']}, {study['split']} split: {study['users']:,} users"]
    for key in ("sweep", "sizes", "likes"):
        rows = study[key]
        table = [list(rows[0])]
        table += [
            [f"{v:.4f}" if name in _FIGURES else str(v) for name, v in row.items()]
            for row in rows
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        parts.append(
            "\n".join(
                "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True))
                for row in table
            )
        )
    return "\n\n".join(parts)


_FIGURES = ("auc", "auc_hard", "fitb")


def _measure(learner, likes, dislikes, catalogue, split):
    users = learner.fit(likes, dislikes, catalogue.num_users)
    return _figures(
        evaluate_codes(users.into(learner.codes, catalogue), catalogue, split)
    )


def _figures(results: Mapping[str, Any]) -> dict[str, float]:
    """The binary figures of results.json."""
    binary = results["scores"]["binary"]
    figures = {"auc": binary["auc"]}
    if "hard" in results:
        figures["auc_hard"] = results["hard"]["binary"]["auc"]
    if "fitb" in binary:
        figures["fitb"] = binary["fitb"]
    return figures


# --- one user ---------------------------------------------------------------------


def fit_one(
    codes: Codes,
    catalogue: Catalogue,
    workdir: Path,
    likes: str,
    dislikes: str,
    k: int,
    images: ImageStore | None = None,
) -> dict[str, Any]:
    """Learns one user and prints the best stored outfits; writes fit.json and fit.png.

    Args:
      codes: of `catalogue`.
      likes, dislikes: see `parse_clicks`.
      k: how many outfits.
      images: of the items; without them there is no picture.
    Returns:
      what fit.json holds: {"user": "new", "code": hexadecimal packed bits, "latent",
      "likes", "dislikes": items of each, "outfits": see `recommend.write_outfits`}.
    Raises:
      FileNotFoundError, ValueError: as `parse_clicks` and `BprFit`; k below 1.
    """
    if k < 1:
        raise InputError(f"--k={k}: expected at least 1")
    check_same_data(codes, catalogue)
    stored = stored_outfits(catalogue)
    clicks = [
        parse_clicks(text, codes, stored, name)
        for name, text in (("--likes", likes), ("--dislikes", dislikes))
    ]
    users = BprFit(codes).fit(*clicks, 1)
    about = {
        "user": "new",
        "code": pack(users.bits)[0].tobytes().hex(),
        "latent": users.latents[0].tolist(),
        "likes": users.likes.items.tolist(),
        "dislikes": users.dislikes.items.tolist(),
    }
    print(f"{len(users.likes)} likes, {len(users.dislikes)} dislikes")
    hits = _recommend(codes, users, stored, k)
    return write_outfits(workdir, "fit", about, codes, hits, images)


def _recommend(
    codes: Codes, users: NewUsers, stored: Int[np.ndarray, "n s"], k: int
) -> Hits:
    """The best outfits that were not clicked; of equal scores the lower id."""
    clicked = np.concatenate([users.likes.items, users.dislikes.items])
    seen = (stored[:, None] == clicked[None]).all(axis=2).any(axis=1)
    rows = np.flatnonzero(~seen)
    nobody = np.zeros(len(rows), np.int32)
    scores = Scorer(users.into(codes)).score("asymmetric", nobody, stored[rows])
    best = np.argsort(-scores, kind="stable")[:k]
    return Hits(
        rows[best], scores[best].astype(np.float64), stored[rows[best]].astype(np.int32)
    )


def parse_clicks(
    text: str, codes: Codes, stored: Int[np.ndarray, "n s"], what: str
) -> Outfits:
    """Clicks of one user, as the command line has them.

    Args:
      text: a CSV file, or clicks with commas between: `17` is a stored outfit,
        `shoe:4` or `shoe:boot.jpg` an item, `3/14/9` an outfit by its items, in the
        order of the slots. A CSV file has a header of slots (`top,bottom,shoe`), with
        items by id or name, empty for none; or the header `outfit` and ids.
      codes: whose items they are.
      stored: the outfits that have ids.
      what: the name of the flag.
    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a click that is none of these, an unknown id or name; says which.
    """
    slots = [codes.categories[category] for category in codes.slots]
    if text.endswith(".csv"):
        _, table = read_csv(Path(text), "clicks", [slots, ["outfit"]])
        rows = [(where, [cell.strip() for cell in row]) for where, row in table]
    else:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        rows = [(f"{what}, {part!r}", _cells(part, slots)) for part in parts]
    numbers = ItemNumbers(codes)
    items = np.full((len(rows), len(slots)), -1, np.int32)
    for number, (where, cells) in enumerate(rows):
        items[number] = _click(cells, slots, numbers, stored, where)
    return Outfits(np.zeros(len(rows), np.int32), items)


def _cells(click: str, slots: Sequence[str]) -> list[str]:
    """A click of the command line as a row of a file."""
    name, colon, item = click.partition(":")
    if colon and name in slots:
        cells = [""] * len(slots)
        cells[slots.index(name)] = item
        return cells
    return [cell.strip() for cell in click.split("/")]


def _click(
    cells: Sequence[str],
    slots: Sequence[str],
    numbers: ItemNumbers,
    stored: Int[np.ndarray, "n s"],
    where: str,
) -> list[int]:
    """The items of a click, -1 for none."""
    if len(cells) == len(slots):
        return [
            -1 if cell in ("", "-1") else numbers.find(slot, cell, where)
            for slot, cell in zip(slots, cells, strict=True)
        ]
    if len(cells) != 1 or not re.fullmatch("[0-9]+", cells[0]):
        raise InputError(
            f"{where}: expected the id of an outfit, one item such as '{slots[0]}:4', "
            f"or an outfit by its items {'/'.join(slots)}"
        )
    if int(cells[0]) >= len(stored):
        raise InputError(
            f"{where}: outfit {cells[0]} is unknown; expected 0 to {len(stored) - 1}"
        )
    return stored[int(cells[0])].tolist()
