"""The top of the report: key figures as tiles, and the table of all metrics."""

from collections.abc import Mapping
from typing import Any

from fhn_jax.codes import Codes
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.evaluation.metrics import METRICS, Metric
from fhn_jax.reporting.page import section

_SCORE_HELP = {
    "binary": "user and items as ±1 bits",
    "asymmetric": "real user, items as bits",
    "relaxed": "real user, real items",
}


def headline(results: Mapping[str, Any], codes: Codes, catalogue: Catalogue) -> str:
    """Key figures as tiles; `results` as in results.json."""
    binary = results["scores"].get("binary", {})
    hard = results.get("hard", {}).get("binary", {})
    tiles = [
        _tile(
            "AUC against random outfits",
            binary.get("auc"),
            f"{_interval(binary)} · chance 0.5",
        ),
        _tile(
            "AUC against others’ favourites",
            hard.get("auc"),
            f"{_interval(hard)} · chance 0.5",
        ),
        _tile(
            "Fill in the blank", binary.get("fitb"), _fitb_chance(results, catalogue)
        ),
    ]
    modalities = " and ".join(codes.modalities)
    num_bytes = codes.bits // 8 * len(codes.modalities)
    if codes.item_scales is not None:
        num_bytes += 2 * len(codes.modalities)
    tiles.append(
        f'<div class="tile"><span>Size of an item</span><b>{num_bytes} bytes</b>'
        f"<small>{codes.bits} bits, {modalities}"
        f"{', scaled' if codes.item_scales is not None else ''}</small></div>"
    )
    return f'<section class="tiles">{"".join(tiles)}</section>'


def _tile(label: str, value: float | None, note: str) -> str:
    if value is None:
        return ""
    return (
        f'<div class="tile"><span>{label}</span><b>{value:.3f}</b>'
        f"<small>{note}</small></div>"
    )


def _interval(values: Mapping[str, Any]) -> str:
    if "auc_ci95" not in values:
        return ""
    low, high = values["auc_ci95"]
    return f"{low:.3f} to {high:.3f} (95 %)"


def _fitb_chance(results: Mapping[str, Any], catalogue: Catalogue) -> str:
    questions = catalogue.fitb.get(results["split"])
    if questions is None:
        return ""
    count, candidates, _ = questions.items.shape
    return f"{count:,} questions · chance {1 / candidates:.2g}"


def results_section(results: Mapping[str, Any]) -> str:
    """All metrics of results.json as a table, with what they mean."""
    blocks = {"Random": results["scores"], "Hard": results.get("hard", {})}
    blocks |= {
        f"Random<small>{name}, {values['positives']:,} liked</small>": values["scores"]
        for name, values in results.get("by_template", {}).items()
    }
    present = {f for scores in blocks.values() for row in scores.values() for f in row}
    columns = [metric for metric in METRICS if metric.name in present]
    rows = []
    for kind, scores in blocks.items():
        for number, (which, values) in enumerate(scores.items()):
            first = ""
            if number == 0:
                first = f'<th scope="rowgroup" rowspan="{len(scores)}">{kind}</th>'
            cells = "".join(f"<td>{_value(values, m)}</td>" for m in columns)
            rows.append(
                f'<tr class="{which}">{first}<th scope="row">{which}'
                f"<small>{_SCORE_HELP[which]}</small></th>{cells}</tr>"
            )
    head = "".join(f'<th scope="col">{m.label}</th>' for m in columns)
    notes = "".join(f"<dt>{m.label}</dt><dd>{m.help}</dd>" for m in columns)
    return section(
        "Results",
        "Random negatives mix items at random; hard negatives are outfits that other "
        "users like.",
        '<div class="scroll"><table class="results"><thead><tr>'
        f'<th scope="col">Negatives</th><th scope="col">Score</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f"<details><summary>What the columns mean</summary><dl>{notes}</dl></details>",
    )


def _value(values: Mapping[str, Any], metric: Metric) -> str:
    if metric.name not in values:
        return "–"
    text = f"{values[metric.name]:.3f}"
    if metric.interval in values:
        low, high = values[metric.interval]
        text += f"<small>{low:.3f}–{high:.3f}</small>"
    return text
