"""One page that shows what a run learned: figures, curves, and outfits as pictures.

`write_report` makes a self-contained folder (index.html, PNG charts, small JPEG
pictures of items) that opens in any browser, on a phone, in light and in dark mode,
without a network.
"""

import contextlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int
from matplotlib.axes import Axes

from fhn_jax import files
from fhn_jax.codes import Codes, Latents, Scorer
from fhn_jax.data.catalogue import Catalogue, Outfits, Split
from fhn_jax.data.images import ImageStore
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.evaluation.evaluators import check_same_data, ranked_outfits, split_by_user
from fhn_jax.evaluation.metrics import METRICS, Metric, auc
from fhn_jax.reporting import charts
from fhn_jax.reporting.charts import Theme, figure_of
from fhn_jax.reporting.page import (
    CROSS_CHOSEN,
    TICK,
    TICK_CHOSEN,
    TICK_RIGHT,
    Pictures,
    card,
    ordinal,
    page_of,
    section,
)

NUM_USERS = 6  # whose rankings are shown
NUM_RANKED = 8  # best-ranked outfits of each
NUM_LEARNED = 5  # training outfits of each
NUM_QUESTIONS = 6

_SCORE_HELP = {
    "binary": "user and items as ±1 bits",
    "asymmetric": "real user, items as bits",
    "relaxed": "real user, real items",
}


def write_report(
    workdir: Path,
    catalogue: Catalogue,
    codes: Codes,
    latents: Latents | None,
    images: ImageStore | None,
) -> Path:
    """Writes workdir/report, replacing the one that was there.

    Reads workdir/results.json (which names the split) and, if it is there,
    workdir/metrics.jsonl.

    Args:
      workdir: a run that was evaluated.
      catalogue: its data set.
      codes: its codes.
      latents: its relaxed item codes, for the curves of the relaxed score.
      images: pictures of the items; None shows their names instead.
    Returns:
      the path of index.html.
    Raises:
      FileNotFoundError: the run was not evaluated.
      ValueError: codes or results.json are of another data set or run, or a line of
        metrics.jsonl is no JSON object.
    """
    workdir = Path(workdir)
    check_same_data(codes, catalogue)
    results = _read_results(workdir / "results.json", codes)
    curves = _read_metrics(workdir / "metrics.jsonl")
    split = catalogue.splits[results["split"]]
    scorer = Scorer(codes, latents)
    scores = {
        which: {
            kind: scorer.score(which, outfits.users, outfits.items)
            for kind, outfits in _tables(split).items()
        }
        for which in scorer.which
    }
    with _replaced_folder(workdir / "report") as folder:
        pictures = Pictures(folder, catalogue, images)
        sections = [
            _headline(results, codes, catalogue),
            _results_section(results),
            _users_section(catalogue, split, scores["binary"], pictures),
            _questions_section(catalogue, split, scorer, pictures),
            _scores_section(folder, catalogue, split, scores),
            _training_section(folder, curves),
            _bits_section(folder, codes),
        ]
        page = page_of(catalogue, results, sections)
        (folder / "index.html").write_text(page, encoding="utf-8")
    return workdir / "report" / "index.html"


# Reading what the run left behind.


def write_study(workdir: Path, study: Mapping[str, Any]) -> None:
    """Writes the cold-start study of new users: study.json and charts of it.

    Args:
      workdir: gets study.json, sweep.png, sizes.png and likes.png.
      study: from `fhn_jax.cli.new_users.study`.
    """
    files.write_json(workdir / "study.json", study)

    def draw_sweep(axes: Axes, _: Theme) -> None:
        for epsilon in sorted({row["epsilon"] for row in study["sweep"]}):
            line = [row for row in study["sweep"] if row["epsilon"] == epsilon]
            axes.plot(
                [row["beta"] for row in line],
                [row["auc"] for row in line],
                label=f"ε = {epsilon}",
            )
        axes.set(xlabel="β: weight of the known users' codes", ylabel="binary AUC")
        axes.legend()

    def draw_methods(axes: Axes, key: str) -> None:
        for method in dict.fromkeys(row["method"] for row in study[key]):
            line = [row for row in study[key] if row["method"] == method]
            x = [row[{"sizes": "size", "likes": "likes"}[key]] for row in line]
            axes.plot(x, [row["auc"] for row in line], marker="o", label=method)
        axes.set(ylabel="binary AUC")
        axes.legend()

    def draw_sizes(axes: Axes, _: Theme) -> None:
        draw_methods(axes, "sizes")
        axes.set(xlabel="share of the training outfits")

    def draw_likes(axes: Axes, _: Theme) -> None:
        draw_methods(axes, "likes")
        axes.set(xlabel="likes of a user", xscale="log")

    drawings = {"sweep": draw_sweep, "sizes": draw_sizes, "likes": draw_likes}
    for name, draw in drawings.items():
        with files.atomic_path(workdir / f"{name}.png") as temporary:
            charts.save(draw, charts.LIGHT, temporary)


def _read_results(path: Path, codes: Codes) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no such file; run evaluate-rank, evaluate-accuracy and fitb first"
        )
    results = json.loads(path.read_text(encoding="utf-8"))
    if results.get("codes_sha256") != codes.sha256():
        raise InputError(
            f"{path} is of codes {results.get('codes_sha256')!r}, expected "
            f"{codes.sha256()!r}; evaluate these codes first"
        )
    return results


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """The logged lines; a last line that was cut off by a crash is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            if number == len(lines):
                break
            record = None
        if not isinstance(record, dict):
            raise InputError(
                f"{path}, line {number}: got {line[:60]!r}, expected a JSON object; "
                "remove the line"
            )
        records.append(record)
    return records


def _tables(split: Split) -> dict[str, Outfits]:
    return {"liked": split.positives, **split.negatives}


@contextlib.contextmanager
def _replaced_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `path` once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        new = temporary / "new"
        new.mkdir()
        yield new
        if path.exists():
            path.rename(temporary / "old")
        new.rename(path)
    finally:
        shutil.rmtree(temporary)


# Sections of the page.


def _headline(results: Mapping[str, Any], codes: Codes, catalogue: Catalogue) -> str:
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


def _results_section(results: Mapping[str, Any]) -> str:
    blocks = {"Random": results["scores"], "Hard": results.get("hard", {})}
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


def _users_section(
    catalogue: Catalogue,
    split: Split,
    scores: Mapping[str, Float32[np.ndarray, " _"]],
    pictures: Pictures,
) -> str:
    aucs = _per_user(catalogue, split, scores, "random", auc)
    by_auc = np.argsort(-np.array(aucs), kind="stable").tolist()
    count = min(NUM_USERS, len(aucs))
    places = np.linspace(0, len(aucs) - 1, count).round().astype(int).tolist()
    cards = [
        _user_card(catalogue, split, scores, pictures, by_auc[place], place, aucs)
        for place in places
    ]
    return section(
        "What it recommends",
        f"{count} of {len(aucs)} users, from the best-predicted to the worst. By binary "
        "codes alone, the model ranks the test outfits that a user liked among random "
        'ones. The right ones have a green frame and a <span class="tick">✓</span>. The '
        "bar shows all ranks, best on the left, with a green mark at each liked outfit.",
        "".join(cards),
    )


def _user_card(
    catalogue: Catalogue,
    split: Split,
    scores: Mapping[str, Float32[np.ndarray, " _"]],
    pictures: Pictures,
    user: int,
    place: int,
    aucs: Sequence[float],
) -> str:
    items, liked, values = ranked_outfits(
        user,
        split.positives,
        split.negatives["random"],
        scores["liked"],
        scores["random"],
    )
    cards = [
        card(
            pictures.outfit(items[rank]),
            f"<b>{rank + 1}</b>{TICK if liked[rank] else ''}"
            f'<span class="num">{values[rank]:.2f}</span>',
            "hit" if liked[rank] else "",
        )
        for rank in range(min(NUM_RANKED, len(items)))
    ]
    train = catalogue.splits["train"].positives
    mine = train.items[train.users == user]
    rows = np.linspace(0, len(mine) - 1, min(NUM_LEARNED, len(mine))).astype(int)
    learned = [card(pictures.outfit(mine[row]), "", "") for row in rows]
    hits = int(liked[:NUM_RANKED].sum())
    expected = NUM_RANKED * liked.mean()
    return f"""<article class="user">
<header><h3>User {user}</h3><p>AUC {aucs[user]:.3f}, {ordinal(place + 1)} of {len(aucs)}
 · {hits} of the {len(cards)} best are liked ({expected:.1f} by chance)</p></header>
{_strip(liked)}
<div class="two"><div><h4>Learned from <small>{len(rows)} of {len(mine):,} liked outfits
 in training</small></h4><ul class="outfits">{"".join(learned)}</ul></div>
<div><h4>Ranked best <small>of {len(items):,} test outfits</small></h4>
<ul class="outfits">{"".join(cards)}</ul></div></div></article>"""


def _strip(liked: np.ndarray) -> str:
    """All ranks from left to right, with a mark at each liked outfit."""
    marks = "".join(
        f'<rect x="{rank}" width="1" height="1"/>' for rank in np.flatnonzero(liked)
    )
    return (
        f'<svg class="strip" viewBox="0 0 {len(liked)} 1" preserveAspectRatio="none" '
        f'role="img" aria-label="Ranks of the {int(liked.sum())} liked outfits among '
        f'{len(liked)}, best left">{marks}</svg>'
    )


def _questions_section(
    catalogue: Catalogue, split: Split, scorer: Scorer, pictures: Pictures
) -> str:
    questions = catalogue.fitb.get(split.name)
    if questions is None:
        return ""
    rows = np.linspace(0, len(questions) - 1, min(NUM_QUESTIONS, len(questions)))
    rows = np.unique(rows.round().astype(int))
    cards = []
    for row in rows:
        items = questions.items[row]
        user = int(questions.users[row])
        users = np.full(len(items), user)
        scores = scorer.score("binary", users, items)
        cards.append(_question_card(catalogue, pictures, user, items, scores))
    return section(
        "Fill in the blank",
        f"Which item did the user wear with the others? {len(rows)} of "
        f"{len(questions):,} questions, evenly spaced, not picked. Candidates stand in "
        "the model’s order.",
        f'<div class="questions">{"".join(cards)}</div>',
    )


def _question_card(
    catalogue: Catalogue,
    pictures: Pictures,
    user: int,
    items: Int[np.ndarray, "c s"],
    scores: Float32[np.ndarray, " c"],
) -> str:
    gap = np.flatnonzero((items != items[0]).any(axis=0)).tolist()
    is_answer = np.arange(len(items)) == 0
    order = np.lexsort((is_answer, -scores))
    cells = []
    for place, candidate in enumerate(order):
        shown = dict.fromkeys(
            pictures.item(catalogue.slots[slot], int(items[candidate, slot]))
            for slot in gap
        )
        right, chosen = candidate == 0, place == 0
        mark = TICK_RIGHT if right else ""
        if chosen:
            mark = TICK_CHOSEN if right else CROSS_CHOSEN
        state = "hit" if right else "miss" if chosen else ""
        stack = f'<div class="stack">{"".join(shown)}</div>'
        number = f'<span class="num">{scores[candidate]:.2f}</span>'
        cells.append(card(stack, f"{mark}{number}", state))
    solved = order[0] == 0
    verdict = "right" if solved else "wrong"
    return (
        f'<article class="question"><h4>User {user} <small>{verdict}</small></h4>'
        f'<div class="row">{pictures.outfit(items[0], gap)}'
        f'<ul class="outfits">{"".join(cells)}</ul></div></article>'
    )


def _scores_section(
    folder: Path,
    catalogue: Catalogue,
    split: Split,
    scores: Mapping[str, Mapping[str, Float32[np.ndarray, " _"]]],
) -> str:
    figures = []
    for kind in split.negatives:
        rates = {
            which: _mean_roc(catalogue, split, values, kind)
            for which, values in scores.items()
        }

        def draw_roc(axes: Axes, theme: Theme, rates=rates) -> None:
            axes.plot([0, 1], [0, 1], color=theme.muted, lw=1, ls=(0, (3, 3)))
            for which, (false, true) in rates.items():
                axes.plot(false, true, color=theme.series[which], lw=2, label=which)
            axes.set(xlabel="share of negatives above", ylabel="share of liked above")
            axes.set(xlim=(0, 1), ylim=(0, 1))
            axes.legend(loc="lower right")

        figures.append(
            figure_of(
                folder,
                f"roc-{kind}",
                draw_roc,
                f"ROC against {kind} negatives",
                "Mean of the users’ curves; the area below is the AUC.",
            )
        )

    def draw_scores(axes: Axes, theme: Theme) -> None:
        values = scores["binary"]
        low = min(v.min() for v in values.values())
        high = max(v.max() for v in values.values())
        bins = np.linspace(low, high, 50) if high > low else [low - 0.5, low + 0.5]
        for kind, of_kind in values.items():
            color = theme.series[kind]
            style = {"bins": bins, "density": True, "color": color}
            axes.hist(of_kind, histtype="stepfilled", alpha=0.18, **style)
            axes.hist(of_kind, histtype="step", lw=1.8, label=kind, **style)
        axes.set(xlabel="binary score", ylabel="density")
        axes.legend(loc="upper left")

    figures.append(
        figure_of(
            folder,
            "scores",
            draw_scores,
            "Binary scores",
            "The further right the liked outfits stand, the better.",
        )
    )
    return section("Scores", "", f'<div class="charts">{"".join(figures)}</div>')


def _per_user(
    catalogue: Catalogue,
    split: Split,
    scores: Mapping[str, Float32[np.ndarray, " _"]],
    kind: str,
    function: Callable,
) -> list[Any]:
    """function(scores of liked outfits, scores of negatives) of each user."""
    per_user = {
        name: split_by_user(outfits, scores[name], catalogue.num_users)
        for name, outfits in _tables(split).items()
        if name in ("liked", kind)
    }
    pairs = zip(per_user["liked"], per_user[kind], strict=True)
    return [function(liked, negatives) for liked, negatives in pairs]


def _mean_roc(
    catalogue: Catalogue,
    split: Split,
    scores: Mapping[str, Float32[np.ndarray, " _"]],
    kind: str,
) -> tuple[Float64[np.ndarray, " r"], Float64[np.ndarray, " r"]]:
    """False and true positive rates, averaged over users at equal false rates."""
    grid = np.linspace(0, 1, 201)

    def true_rates(liked: np.ndarray, negatives: np.ndarray) -> np.ndarray:
        thresholds = np.unique(np.concatenate([liked, negatives]))[::-1]
        true = [(liked >= t).mean() for t in thresholds]
        false = [(negatives >= t).mean() for t in thresholds]
        return np.interp(grid, [0, *false], [0, *true])

    return grid, np.mean(_per_user(catalogue, split, scores, kind, true_rates), axis=0)


# The training charts: file, title, note, and lines of (metric, label, colour).
CURVES = (
    (
        "loss",
        "Loss",
        "Training loss, and validation loss on fixed negatives.",
        (
            ("train/loss", "train", "train"),
            ("val/loss", "validation", "relaxed"),
            ("val/binary_loss", "validation, binary codes", "binary"),
        ),
    ),
    (
        "auc",
        "Validation AUC",
        "The gap between relaxed and binary is what the bits cost.",
        (
            ("val/auc_relaxed", "relaxed", "relaxed"),
            ("val/auc_asymmetric", "asymmetric", "asymmetric"),
            ("val/auc_binary", "binary", "binary"),
        ),
    ),
    (
        "accuracy",
        "Pair accuracy, binary codes",
        "Training far above validation is over-fitting.",
        (
            ("train/accuracy_binary", "train", "train"),
            ("val/accuracy_binary", "validation", "binary"),
        ),
    ),
    (
        "codes",
        "Health of the codes",
        "Imbalance: mean over bits of |mean over items|, 0 is ideal. Saturated: share "
        "of relaxed entries beyond ±0.99.",
        (
            ("val/bit_balance", "imbalance", "binary"),
            ("val/saturated", "saturated", "hard"),
        ),
    ),
    (
        "rate",
        "Learning rate",
        "As a share of the rates of the config.",
        (("train/rate", "learning rate", "asymmetric"),),
    ),
    (
        "speed",
        "Training speed",
        "Images a second.",
        (("train/images_per_second", "images per second", "asymmetric"),),
    ),
)


def _training_section(folder: Path, records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return section("Training", "No metrics.jsonl: no training curves.", "")
    figures = []
    for name, title, note, lines in CURVES:
        series = [(_series(records, line[0]), *line[1:]) for line in lines]
        series = [entry for entry in series if len(entry[0][0])]
        if not series:
            continue

        def draw(axes: Axes, theme: Theme, series=series) -> None:
            for (x, y, unit), label, name in series:
                color = theme.series[name]
                smooth_x, smooth_y = _smooth(x, y)
                if len(smooth_x) < len(x):
                    axes.plot(x, y, lw=0.8, alpha=0.3, color=color)
                axes.plot(smooth_x, smooth_y, lw=2, label=label, color=color)
                axes.set_xlabel(unit)
            if len(series) > 1:
                axes.legend(loc="best")
            axes.margins(x=0.01)

        figures.append(figure_of(folder, f"train-{name}", draw, title, note))
    return section("Training", "", f'<div class="charts">{"".join(figures)}</div>')


def _series(
    records: Sequence[Mapping[str, Any]], name: str
) -> tuple[np.ndarray, np.ndarray, str]:
    """Epochs (or steps, where epochs are not logged) and finite values of a metric."""
    rows = [
        record
        for record in records
        if isinstance(record.get(name), int | float) and math.isfinite(record[name])
    ]
    unit = "epoch" if all("epoch" in record for record in rows) else "step"
    rows = [record for record in rows if unit in record]
    return (
        np.array([record[unit] for record in rows], np.float64),
        np.array([record[name] for record in rows], np.float64),
        unit,
    )


def _smooth(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A moving average where there are more points than a chart can show."""
    window = len(x) // 40
    if window < 2:
        return x, y
    kernel = np.full(window, 1 / window)
    return np.convolve(x, kernel, "valid"), np.convolve(y, kernel, "valid")


def _bits_section(folder: Path, codes: Codes) -> str:
    signs = {
        modality: (np.concatenate(arrays) > 0) * 2.0 - 1
        for modality, arrays in codes.to_numpy().items()
    }
    balance = {name: values.mean(axis=0) for name, values in signs.items()}
    balance["users"] = ((codes.user_codes() > 0) * 2.0 - 1).mean(axis=0)
    correlation = {name: _correlations(values) for name, values in signs.items()}

    def draw_balance(axes: Axes, theme: Theme) -> None:
        axes.axhline(0, color=theme.muted, lw=1, ls=(0, (3, 3)))
        for name, means in balance.items():
            label = "users" if name == "users" else f"{name} codes"
            axes.plot(np.sort(means), color=theme.series[name], lw=2, label=label)
        axes.set(xlabel="bits, sorted", ylabel="mean of the bit", ylim=(-1.05, 1.05))
        axes.legend(loc="upper left")

    def draw_correlation(axes: Axes, theme: Theme) -> None:
        bins = np.linspace(-1, 1, 61)
        for name, values in correlation.items():
            if not values.size:
                continue
            style = {"bins": bins, "density": True, "color": theme.series[name]}
            axes.hist(values, histtype="stepfilled", alpha=0.18, **style)
            axes.hist(values, histtype="step", lw=1.8, label=f"{name} codes", **style)
        axes.set(xlabel="correlation of two bits", ylabel="density", xlim=(-1, 1))
        axes.legend(loc="upper left")

    def draw_weights(axes: Axes, theme: Theme) -> None:
        axes.axhline(0, color=theme.muted, lw=1, ls=(0, (3, 3)))
        for name, color in (("lambda_user", "users"), ("lambda_item", "binary")):
            values = np.sort(getattr(codes, name))
            label = f"{name[7:]} term"
            axes.plot(values, color=theme.series[color], lw=2, label=label)
        axes.set(xlabel="bits, sorted", ylabel="matching weight λ")
        axes.legend(loc="upper left")

    figures = [
        figure_of(
            folder,
            "bits-balance",
            draw_balance,
            "Balance of the bits",
            "0: the bit is +1 for half of the items; ±1: it says nothing.",
        )
    ]
    if any(values.size for values in correlation.values()):
        figures.append(
            figure_of(
                folder,
                "bits-correlation",
                draw_correlation,
                "Correlation between bits",
                "Narrow around 0: every bit says something of its own.",
            )
        )
    if codes.hash_types:
        figures.append(
            figure_of(
                folder,
                "bits-weights",
                draw_weights,
                "Matching weights",
                "What each bit counts in the user term and in the item term.",
            )
        )
    return section(
        "Bits",
        _weight_note(codes),
        f'<div class="charts">{"".join(figures)}</div>'
        f"{_bits_table(codes, signs, balance, correlation)}",
    )


def _correlations(signs: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " _"]:
    """Correlation of each pair of bits that are not constant."""
    varying = signs[:, signs.std(axis=0) > 0]
    if varying.shape[1] < 2:
        return np.zeros(0)
    matrix = np.corrcoef(varying, rowvar=False)
    return matrix[np.triu_indices(len(matrix), k=1)]


def _bits_table(
    codes: Codes,
    signs: Mapping[str, np.ndarray],
    balance: Mapping[str, np.ndarray],
    correlation: Mapping[str, np.ndarray],
) -> str:
    head = ("Codes", "Number", "Distinct", "Mean |balance|", "Constant bits")
    head = (*head, "Mean |correlation|")
    rows = []
    for name, means in balance.items():
        packed = codes.users
        if name != "users":
            packed = np.concatenate(codes.items[name])
        values = correlation.get(name, np.zeros(0))
        rows.append(
            (
                "users" if name == "users" else f"{name}, items",
                f"{len(packed):,}",
                f"{len(np.unique(packed, axis=0)):,}",
                f"{np.abs(means).mean():.3f}",
                f"{int((np.abs(means) == 1).sum())} of {codes.bits}",
                f"{np.abs(values).mean():.3f}" if values.size else "–",
            )
        )
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        f"{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    agree = ""
    if len(signs) == 2:
        share = float((signs["visual"] == signs["text"]).mean())
        agree = (
            f'<p class="note">Visual and text code of the same item agree in '
            f"{share:.1%} of the bits (50 % by chance).</p>"
        )
    columns = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    return (
        f'<div class="scroll"><table><thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{agree}"
    )


def _weight_note(codes: Codes) -> str:
    learned = {
        0: f"No weight per bit is learned; one factor on the user term, α = "
        f"{codes.alpha:.3f}.",
        1: "A weight per bit is learned for the user term.",
        2: "A weight per bit is learned for the item term.",
        3: "A weight per bit is learned for both terms (T3).",
    }
    return learned[codes.hash_types]
