"""Accuracy, ranking and fill-in-the-blank of a trained model, from its codes alone.

Needs the codes artifact and the tuples of the data set; no image, no accelerator.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32

from fhn_jax import files
from fhn_jax.codes import Codes, Latents, Scorer
from fhn_jax.data.audit import audit, describe
from fhn_jax.data.catalogue import (
    Catalogue,
    Outfits,
    Questions,
    Split,
    template_masks,
)
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.evaluation.metrics import METRICS, Metric, bootstrap_ci95

ACTIONS = (*dict.fromkeys(metric.action for metric in METRICS), "all")
_FIELDS = tuple(field for metric in METRICS for field in metric.fields)


def evaluate(
    codes: Codes,
    catalogue: Catalogue,
    split: str = "test",
    latents: Latents | None = None,
    *,
    action: str = "all",
    seed: int = 0,
    scorer: Scorer | None = None,
) -> dict[str, Any]:
    """Evaluates codes on the fixed negatives and questions of a split.

    Args:
      codes: a trained model's codes, of `catalogue`.
      catalogue: the data set.
      split: "val" or "test" ("train" works too).
      latents: relaxed item codes; without them there are no relaxed scores.
      action: which metrics to compute: those of "evaluate-rank", "evaluate-accuracy"
        or "fitb", or "all" (without those of "fitb" if the split has no questions).
      seed: of the bootstrap over users.
      scorer: of the codes; by default one that computes in this process.
    Returns:
      what results.json holds: {"dataset", "split", "negatives": "random", "users",
      "positives", "scores": {"binary" | "asymmetric" | "relaxed": {field: value}},
      "config_hash", "codes_sha256", "data": see `fhn_jax.data.audit.audit`}, and the
      same scores against hard negatives under "hard" if there are any. "users" are
      those with positives in the split, over whom means are taken. Questions do not
      depend on the negatives; their fields are in both. The fields are those of
      `fhn_jax.evaluation.metrics.METRICS`. If outfits have several templates,
      "by_template" has "users", "positives", "scores" and "hard" of those of each, by
      its name, such as "top+bottom+shoe".
    Raises:
      ValueError: codes of another data set, an unknown split or action, or a split
        without questions for "fitb".
    """
    _check_action(action)
    check_same_data(codes, catalogue)
    part = part_of(catalogue, split)
    questions = catalogue.fitb.get(split) if action in ("fitb", "all") else None
    if action == "fitb" and questions is None:
        raise InputError(
            f"{catalogue.root}: no fill_in_blank_{split} in tuples_"
            f"{catalogue.variant}; it is needed for the fitb action"
        )
    wanted = [metric for metric in METRICS if action in (metric.action, "all")]
    scorer = scorer or Scorer(codes, latents)
    ranked = {metric.action for metric in wanted} != {"fitb"}
    scored = {
        which: _Scored.of(scorer, which, part, questions, ranked)
        for which in scorer.which
    }
    measured = _measure(part, scored, wanted, seed)
    hard = measured.pop("hard", None)
    results = {
        "dataset": catalogue.dataset,
        "split": split,
        "negatives": "random",
        **measured,
        "config_hash": codes.config_hash,
        "codes_sha256": codes.sha256(),
        "data": audit(catalogue, split),
    }
    if hard is not None:
        results["hard"] = hard
    if len(catalogue.templates) > 1:
        results["by_template"] = {}
        for template in catalogue.templates:
            of_template = catalogue.of_template(template).splits[split]
            if len(of_template.positives):
                values = _measure(
                    of_template,
                    {
                        w: every.only(part, questions, template)
                        for w, every in scored.items()
                    },
                    wanted,
                    seed,
                )
                results["by_template"][catalogue.template_name(template)] = values
    return results


@dataclass(frozen=True)
class _Scored:
    """One kind of scores of a split; None for what is not wanted.

    Attributes:
      positives: [p].
      negatives: kind → [n].
      questions: of the candidates, [q, c].
    """

    positives: Float32[np.ndarray, " p"] | None
    negatives: Mapping[str, Float32[np.ndarray, " _n"]]
    questions: Float32[np.ndarray, "q c"] | None

    @classmethod
    def of(
        cls,
        scorer: Scorer,
        which: str,
        part: Split,
        questions: Questions | None,
        ranked: bool,
    ) -> "_Scored":
        def score(outfits: Outfits) -> Float32[np.ndarray, " n"]:
            return scorer.score(which, outfits.users, outfits.items)

        return cls(
            score(part.positives) if ranked else None,
            {
                kind: score(outfits) if ranked else np.zeros(0, np.float32)
                for kind, outfits in part.negatives.items()
            },
            None if questions is None else _score_questions(scorer, which, questions),
        )

    def only(
        self, part: Split, questions: Questions | None, template: tuple[int, ...]
    ) -> "_Scored":
        """Those of one template."""
        mask = sum(1 << slot for slot in template)
        of_questions = self.questions
        if questions is not None and of_questions is not None:
            rows = template_masks(questions.items[:, 0]) == mask
            of_questions = of_questions[rows] if rows.any() else None
        if self.positives is None:
            return _Scored(None, self.negatives, of_questions)
        return _Scored(
            self.positives[template_masks(part.positives.items) == mask],
            {
                kind: scores[template_masks(part.negatives[kind].items) == mask]
                for kind, scores in self.negatives.items()
            },
            of_questions,
        )


def _measure(
    part: Split, scored: Mapping[str, _Scored], wanted: Sequence[Metric], seed: int
) -> dict[str, Any]:
    """ "users", "positives" and the fields of all metrics, as in `evaluate`."""
    scores: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in part.negatives}
    for which, of_outfits in scored.items():
        given: dict[str, Any] = {}
        if of_outfits.questions is not None:
            given["fitb"] = of_outfits.questions
        for kind, negatives in of_outfits.negatives.items():
            positives = of_outfits.positives
            if positives is not None:
                by_outfit = negatives.reshape(len(positives), -1)
                given["evaluate-accuracy"] = positives, by_outfit
                if any(metric.action == "evaluate-rank" for metric in wanted):
                    by_user = scores_by_user(part, kind, positives, negatives)
                    given["evaluate-rank"] = by_user.values()
            values = scores[kind][which] = {}
            for metric in wanted:
                if metric.action in given:
                    values |= _fields(metric, given[metric.action], seed)
    measured = {
        "users": len(np.unique(part.positives.users)),
        "positives": len(part.positives),
        "scores": scores["random"],
    }
    if "hard" in scores:
        measured["hard"] = scores["hard"]
    return measured


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
    files.write_sealed(path, results)
    print(format_table(results))
    return results


def read_results(path: Path) -> dict[str, Any]:
    """What a results.json holds; nothing where it is not there, or damaged."""
    try:
        return files.read_sealed(path, "all of it is computed again")
    except MissingFileError:
        return {}
    except InputError as error:
        print(f"warning: {error}", file=sys.stderr)
        return {}


def load_codes(workdir: Path) -> tuple[Codes, Latents | None]:
    """Reads the codes of a workdir, and its latents if there are any.

    Raises:
      FileNotFoundError: no codes.safetensors.
      ValueError: damaged files, or latents of other codes.
    """
    codes = Codes.load(Path(workdir) / "codes.safetensors")
    return codes, Latents.beside(workdir, codes)


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


def result_table(
    results: Mapping[str, Any],
) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of results.json: a row per kind of negatives and score.

    Values are those of the file: numbers, ends of an interval, None where there is none.
    """
    kinds = {"random": results["scores"], "hard": results.get("hard", {})}
    for name, values in results.get("by_template", {}).items():
        kinds[f"random, {name}"] = values["scores"]
    present = {
        field
        for scores in kinds.values()
        for values in scores.values()
        for field in values
    }
    columns = [field for field in _FIELDS if field in present]
    rows = [
        [kind, which, *(values.get(column) for column in columns)]
        for kind, scores in kinds.items()
        for which, values in scores.items()
    ]
    return ["negatives", "score", *columns], rows


def format_table(results: Mapping[str, Any]) -> str:
    """An aligned text table of results.json."""
    columns, values = result_table(results)
    rows = [columns, *([*row[:2], *map(_cell, row[2:])] for row in values)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        f"{results['dataset']}, {results['split']} split: {results['users']:,} users, "
        f"{results['positives']:,} positives"
    ]
    if odd := describe(results["data"], results["split"]):
        lines.append(f"warning: {odd}")
    for row in rows:
        texts = [cell.ljust(w) for cell, w in zip(row[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(w) for cell, w in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*texts, *numbers]).rstrip())
    return "\n".join(lines)


def scores_by_user(
    split: Split,
    kind: str,
    positives: Float[np.ndarray, " p"],
    negatives: Float[np.ndarray, " n"],
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The scores of the positives and negatives of each user who has positives.

    Args:
      split: to which the negatives of this kind belong.
      kind: of its negatives.
      positives, negatives: scores in the order of the split.
    Returns:
      user → [p_u] and [n_u] in the order of the split; users in their order.
    """
    users = np.unique(split.positives.users)
    per_user = []
    for outfits, scores in (
        (split.positives, positives),
        (split.negatives[kind], negatives),
    ):
        order = np.argsort(outfits.users, kind="stable")
        edges = (
            np.searchsorted(outfits.users[order], users, side)
            for side in ("left", "right")
        )
        per_user.append(
            [scores[order[a:b]] for a, b in zip(*edges, strict=True)],
        )
    return dict(zip(users.tolist(), zip(*per_user, strict=True), strict=True))


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


def _score_questions(
    scorer: Scorer, which: str, questions: Questions
) -> Float32[np.ndarray, "q c"]:
    count, candidates, slots = questions.items.shape
    users = np.repeat(questions.users, candidates)
    scores = scorer.score(which, users, questions.items.reshape(-1, slots))
    return scores.reshape(count, candidates)


def _fields(metric: Metric, given: Any, seed: int) -> dict[str, Any]:
    """The fields of a metric, of scores as `Metric.action` describes them."""
    if metric.action == "fitb":
        return {metric.name: metric.function(given)}
    if metric.action == "evaluate-accuracy":
        return {metric.name: metric.function(*given)}
    per_user = np.array([metric.function(*user) for user in given])
    values: dict[str, Any] = {metric.name: float(per_user.mean())}
    if metric.interval:
        values[metric.interval] = list(bootstrap_ci95(per_user, seed))
    return values


def _check_action(action: str) -> None:
    if action not in ACTIONS:
        raise InputError(f"action is {action!r}, expected one of {ACTIONS}")


def part_of(catalogue: Catalogue, split: str) -> Split:
    """A split with its random negatives; raises InputError where there is none."""
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
    merged = _merge_scores(old, new)
    if "by_template" in new:
        before = old.get("by_template", {})
        merged["by_template"] = {
            name: _merge_scores(before.get(name, {}), values)
            for name, values in new["by_template"].items()
        }
    return merged


def _merge_scores(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    merged = dict(new)
    for block in ("scores", "hard"):
        if block not in new:
            continue
        merged[block] = {}
        for which in (*new[block], *old.get(block, {})):
            values = old.get(block, {}).get(which, {}) | new[block].get(which, {})
            merged[block][which] = {f: values[f] for f in _FIELDS if f in values}
    return merged


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return "-".join(f"{end:.4f}" for end in value)
    return f"{value:.4f}"
