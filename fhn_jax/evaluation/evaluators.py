"""Accuracy, ranking and fill-in-the-blank of a trained model, from its codes alone.

Needs the codes artifact and the tuples of the data set; no image, no accelerator.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32

from fhn_jax import files
from fhn_jax.codes import Codes, Latents, Scorer
from fhn_jax.data.layout import Catalogue, Outfits, Questions, Split
from fhn_jax.errors import InputError
from fhn_jax.evaluation import metrics

# What each action computes, in the order of results.json.
FIELDS = {
    "evaluate-rank": (
        "auc",
        "auc_ci95",
        "ndcg",
        "ndcg_parity",
        "ndcg_at_10",
        "recall_at_10",
    ),
    "evaluate-accuracy": ("pair_accuracy",),
    "fitb": ("fitb", "fitb_parity"),
}
ACTIONS = (*FIELDS, "all")


def evaluate(
    codes: Codes,
    catalogue: Catalogue,
    split: str = "test",
    latents: Latents | None = None,
    *,
    action: str = "all",
    seed: int = 0,
) -> dict[str, Any]:
    """Evaluates codes on the fixed negatives and questions of a split.

    Args:
      codes: a trained model's codes, of `catalogue`.
      catalogue: the data set.
      split: "val" or "test" ("train" works too).
      latents: relaxed item codes; without them there are no relaxed scores.
      action: which fields to compute: "evaluate-rank", "evaluate-accuracy", "fitb", or
        "all" of them (then a split without questions has no fitb fields).
      seed: of the bootstrap over users.
    Returns:
      what results.json holds: {"dataset", "split", "negatives": "random", "users",
      "positives", "scores": {"binary" | "asymmetric" | "relaxed": {field: value}},
      "config_hash", "codes_sha256"}, and the same scores against hard negatives under
      "hard" if there are any. Questions do not depend on the negatives; their fields
      stand in both. Fields are those of `fhn_jax.evaluation.metrics`.
    Raises:
      ValueError: codes of another data set, an unknown split or action, a user without
        positives in the split, or a split without questions for "fitb".
    """
    _check_action(action)
    check_same_data(codes, catalogue)
    part = _part(catalogue, split)
    questions = catalogue.fitb.get(split)
    if action == "fitb" and questions is None:
        raise InputError(
            f"{catalogue.root}: no fill_in_blank_{split} in tuples_"
            f"{catalogue.variant}; it is needed for the fitb action"
        )
    scorer = Scorer(codes, latents)
    scores = {kind: {} for kind in part.negatives}
    for which in scorer.which:
        of_questions = {}
        if action in ("fitb", "all") and questions is not None:
            of_questions = _fitb(scorer, which, questions)
        positives = _score(scorer, which, part.positives)
        for kind, outfits in part.negatives.items():
            negatives = _score(scorer, which, outfits)
            values = {}
            if action in ("evaluate-rank", "all"):
                values |= _rank(part, kind, positives, negatives, seed)
            if action in ("evaluate-accuracy", "all"):
                pairs = negatives.reshape(len(positives), -1)
                values["pair_accuracy"] = metrics.pair_accuracy(positives, pairs)
            scores[kind][which] = values | of_questions
    results = {
        "dataset": catalogue.dataset,
        "split": split,
        "negatives": "random",
        "users": catalogue.num_users,
        "positives": len(part.positives),
        "scores": scores["random"],
        "config_hash": codes.config_hash,
        "codes_sha256": codes.sha256(),
    }
    if "hard" in scores:
        results["hard"] = scores["hard"]
    return results


def run(action: str, workdir: Path, catalogue: Catalogue, split: str) -> dict[str, Any]:
    """Evaluates the codes in a workdir, prints a table, updates its results.json.

    Fields of other actions stay in results.json as long as they are of the same codes
    and split; otherwise the file is started anew.

    Args:
      action: one of `ACTIONS`.
      workdir: holds codes.safetensors and, for relaxed scores, latents.safetensors.
    Returns:
      what results.json now holds, see `evaluate`.
    Raises:
      FileNotFoundError: no codes in the workdir.
      ValueError: as `evaluate`; damaged codes or latents.
    """
    _check_action(action)
    codes, latents = load_codes(workdir)
    results = evaluate(codes, catalogue, split, latents, action=action)
    path = Path(workdir) / "results.json"
    results = _merge(read_results(path), results)
    files.write_json(path, results)
    print(format_table(results))
    return results


def read_results(path: Path) -> dict[str, Any]:
    """What a results.json holds; nothing where it is not there, or damaged."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}  # nothing to keep: all of it can be computed again
    return results if isinstance(results, dict) else {}


def load_codes(workdir: Path) -> tuple[Codes, Latents | None]:
    """Reads the codes of a workdir, and its latents if there are any.

    Raises:
      FileNotFoundError: no codes.safetensors.
      ValueError: damaged files, or latents of other codes.
    """
    codes = Codes.load(Path(workdir) / "codes.safetensors")
    path = Path(workdir) / "latents.safetensors"
    return codes, Latents.load(path, codes) if path.exists() else None


def check_same_data(codes: Codes, catalogue: Catalogue) -> None:
    """Raises ValueError, naming both, unless `codes` were made of `catalogue`."""
    of_codes = (
        codes.dataset_checksum,
        codes.num_users,
        codes.categories,
        codes.slots,
        codes.num_items,
    )
    of_catalogue = (
        catalogue.checksum,
        catalogue.num_users,
        catalogue.categories,
        catalogue.slots,
        tuple(len(names) for names in catalogue.names),
    )
    if of_codes != of_catalogue:
        raise InputError(
            f"the codes are of data set {_describe(codes.dataset, *of_codes)}, but the "
            f"data is {_describe(catalogue.dataset, *of_catalogue)} in "
            f"{catalogue.root}; give the data root and variant that the codes were "
            "made of, or make codes of this data with the extract-features action"
        )


def format_table(results: Mapping[str, Any]) -> str:
    """An aligned text table of results.json, one line per score and negatives."""
    kinds = {"random": results["scores"], "hard": results.get("hard", {})}
    present = {
        field
        for scores in kinds.values()
        for values in scores.values()
        for field in values
    }
    columns = [f for fields in FIELDS.values() for f in fields if f in present]
    rows = [["negatives", "score", *columns]]
    for kind, scores in kinds.items():
        for which, values in scores.items():
            cells = [_cell(values.get(column)) for column in columns]
            rows.append([kind, which, *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        f"{results['dataset']}, {results['split']} split: {results['users']:,} users, "
        f"{results['positives']:,} positives"
    ]
    for row in rows:
        texts = [cell.ljust(w) for cell, w in zip(row[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(w) for cell, w in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*texts, *numbers]).rstrip())
    return "\n".join(lines)


def split_by_user(
    outfits: Outfits, scores: Float32[np.ndarray, " n"], num_users: int
) -> list[np.ndarray]:
    """The scores of each user's outfits, in the order of the table; float32 [n_u]."""
    order = np.argsort(outfits.users, kind="stable")
    counts = np.bincount(outfits.users, minlength=num_users)
    return np.split(scores[order], np.cumsum(counts)[:-1])


def ranked_outfits(
    user: int,
    positives: Outfits,
    negatives: Outfits,
    positive_scores: Float32[np.ndarray, " p"],
    negative_scores: Float32[np.ndarray, " n"],
) -> tuple[Int32[np.ndarray, "m s"], Bool[np.ndarray, " m"], Float32[np.ndarray, " m"]]:
    """The outfits of one user, best first; of equal scores, negatives first.

    So what is shown to people never looks better than the model is.

    Returns:
      items, whether each is a positive, scores.
    """
    mine = positives.users == user, negatives.users == user
    items = np.concatenate([positives.items[mine[0]], negatives.items[mine[1]]])
    scores = np.concatenate([positive_scores[mine[0]], negative_scores[mine[1]]])
    liked = np.arange(len(items)) < mine[0].sum()
    order = np.lexsort((liked, -scores))
    return items[order], liked[order], scores[order]


def _score(scorer: Scorer, which: str, outfits: Outfits) -> Float32[np.ndarray, " n"]:
    return scorer.score(which, outfits.users, outfits.items)


def _rank(
    part: Split,
    kind: str,
    positives: Float32[np.ndarray, " p"],
    negatives: Float32[np.ndarray, " n"],
    seed: int,
) -> dict[str, Any]:
    num_users = int(part.positives.users.max()) + 1
    pairs = list(
        zip(
            split_by_user(part.positives, positives, num_users),
            split_by_user(part.negatives[kind], negatives, num_users),
            strict=True,
        )
    )
    per_user = {
        "auc": metrics.auc,
        "ndcg": metrics.ndcg,
        "ndcg_parity": metrics.ndcg_parity,
        "ndcg_at_10": metrics.ndcg_at_k,
        "recall_at_10": metrics.recall_at_k,
    }
    values = {
        name: np.array([metric(pos, neg) for pos, neg in pairs])
        for name, metric in per_user.items()
    }
    means = {name: float(value.mean()) for name, value in values.items()}
    interval = metrics.bootstrap_ci95(values["auc"], seed)
    return {"auc": means.pop("auc"), "auc_ci95": list(interval), **means}


def _fitb(scorer: Scorer, which: str, questions: Questions) -> dict[str, float]:
    count, candidates, slots = questions.items.shape
    users = np.repeat(questions.users, candidates)
    scores = scorer.score(which, users, questions.items.reshape(-1, slots))
    scores = scores.reshape(count, candidates)
    return {"fitb": metrics.fitb(scores), "fitb_parity": metrics.fitb_parity(scores)}


def _check_action(action: str) -> None:
    if action not in ACTIONS:
        raise InputError(f"action is {action!r}, expected one of {ACTIONS}")


def _part(catalogue: Catalogue, split: str) -> Split:
    if split not in catalogue.splits:
        raise InputError(
            f"{catalogue.root}: no {split!r} split in tuples_{catalogue.variant}, "
            f"expected one of {tuple(catalogue.splits)}"
        )
    part = catalogue.splits[split]
    if "random" not in part.negatives:
        raise InputError(
            f"{catalogue.root}: no tuples_{split}_nega in tuples_{catalogue.variant}; "
            "evaluation reads fixed negatives"
        )
    counts = np.bincount(part.positives.users, minlength=catalogue.num_users)
    if not counts.all():
        without = np.flatnonzero(counts == 0)
        raise InputError(
            f"{catalogue.root}: {without.size} of {catalogue.num_users} users have no "
            f"positives in tuples_{split}_posi, first user {without[0]}; expected at "
            "least one each"
        )
    return part


def _describe(
    dataset: str,
    checksum: str,
    num_users: int,
    categories: tuple[str, ...],
    slots: tuple[int, ...],
    num_items: tuple[int, ...],
) -> str:
    items = ", ".join(f"{n} {c}" for c, n in zip(categories, num_items, strict=True))
    order = " ".join(categories[slot] for slot in slots)
    return (
        f"{dataset!r} (checksum {checksum[:12]}, {num_users} users, items {items}, "
        f"outfits {order})"
    )


def _merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    same = ("dataset", "split", "negatives", "codes_sha256")
    if any(old.get(key) != new[key] for key in same):
        return new
    order = [field for fields in FIELDS.values() for field in fields]
    merged = dict(new)
    for block in ("scores", "hard"):
        if block not in new:
            continue
        merged[block] = {}
        for which in (*new[block], *old.get(block, {})):
            values = old.get(block, {}).get(which, {}) | new[block].get(which, {})
            merged[block][which] = {f: values[f] for f in order if f in values}
    return merged


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return "-".join(f"{end:.4f}" for end in value)
    return f"{value:.4f}"
