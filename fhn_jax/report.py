"""One page that shows what a run learned: figures, curves, and outfits as pictures.

`write_report` makes a self-contained folder (index.html, PNG charts, small JPEG
pictures of items) that opens in any browser, on a phone, in light and in dark mode,
without a network.
"""

import contextlib
import html
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float32, Float64, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fhn_jax import metrics
from fhn_jax.codes import Codes, Latents, Scorer
from fhn_jax.contact_sheet import as_worn
from fhn_jax.data.images import ImageStore, thumbnail
from fhn_jax.data.schema import Catalogue, Outfits, Split
from fhn_jax.evaluate import check_same_data, ranked_outfits, split_by_user

NUM_USERS = 6  # whose rankings are shown
NUM_RANKED = 8  # best-ranked outfits of each
NUM_LEARNED = 5  # training outfits of each
NUM_QUESTIONS = 6
THUMBNAIL_PX = 144

_GAP = -1  # in place of an item: the gap of a question

_SCORE_HELP = {
    "binary": "user and items as ±1 bits",
    "asymmetric": "real user, items as bits",
    "relaxed": "real user, real items",
}
_FIELD_LABELS = {
    "auc": "AUC",
    "auc_ci95": "95 % interval",
    "ndcg": "NDCG",
    "ndcg_parity": "NDCG parity",
    "ndcg_at_10": "NDCG@10",
    "recall_at_10": "Recall@10",
    "pair_accuracy": "Pair accuracy",
    "fitb": "FITB",
    "fitb_parity": "FITB parity",
}
_FIELD_HELP = {
    "auc": "share of (liked, not liked) outfit pairs of a user in the right order; a "
    "tie counts ½; mean over users. The interval is a bootstrap over users.",
    "ndcg": "NDCG averaged over all cutoffs, discount log2(max(rank, 2)), as in the "
    "paper; ties in expectation.",
    "ndcg_parity": "the same with every tie given to the liked outfit.",
    "ndcg_at_10": "NDCG of the ten best, discount log2(rank + 1).",
    "recall_at_10": "share of a user's liked outfits among the ten best; cannot "
    "exceed ten divided by their number.",
    "pair_accuracy": "share of liked outfits that beat a negative of their own; a tie "
    "is wrong.",
    "fitb": "fill in the blank: share of questions whose right answer scores highest.",
    "fitb_parity": "the same with every tie given to the answer.",
}


@dataclass(frozen=True)
class _Theme:
    """Colours of charts in one colour scheme."""

    name: str
    text: str
    muted: str
    grid: str
    series: Mapping[str, str]


_LIGHT = _Theme(
    "light",
    text="#1d2433",
    muted="#667085",
    grid="#e4e7ee",
    series={
        "binary": "#2563eb",
        "asymmetric": "#0d9488",
        "relaxed": "#b3539b",
        "liked": "#16a34a",
        "random": "#94a3b8",
        "hard": "#ea8a1f",
        "train": "#94a3b8",
        "visual": "#2563eb",
        "text": "#ea8a1f",
        "users": "#0d9488",
    },
)
_DARK = _Theme(
    "dark",
    text="#e6e9f0",
    muted="#98a2b3",
    grid="#2c3443",
    series={
        "binary": "#6ea2ff",
        "asymmetric": "#3fc9b8",
        "relaxed": "#e190cc",
        "liked": "#4ccb80",
        "random": "#7f8ba0",
        "hard": "#f5a84d",
        "train": "#7f8ba0",
        "visual": "#6ea2ff",
        "text": "#f5a84d",
        "users": "#3fc9b8",
    },
)


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
        pictures = _Pictures(folder, catalogue, images)
        sections = [
            _headline(results, codes, catalogue),
            _results_section(results),
            _users_section(catalogue, split, scores["binary"], pictures),
            _questions_section(catalogue, split, scorer, pictures),
            _scores_section(folder, catalogue, split, scores),
            _training_section(folder, curves),
            _bits_section(folder, codes),
        ]
        page = _page(catalogue, results, sections)
        (folder / "index.html").write_text(page, encoding="utf-8")
    return workdir / "report" / "index.html"


# Reading what the run left behind.


def _read_results(path: Path, codes: Codes) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; run evaluate-rank, evaluate-accuracy and fitb first"
        )
    results = json.loads(path.read_text(encoding="utf-8"))
    if results.get("codes_sha256") != codes.sha256():
        raise ValueError(
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
            raise ValueError(
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


# Pictures of items and outfits.


class _Pictures:
    """Items and outfits as HTML; a picture is written when an item is first shown."""

    def __init__(self, folder: Path, catalogue: Catalogue, images: ImageStore | None):
        self._folder = folder
        self._catalogue = catalogue
        self._images = images
        self._written: set[str] = set()
        if images is not None:
            (folder / "items").mkdir()

    def item(self, category: int, item: int) -> str:
        """One item: its picture, or its name where there are no pictures."""
        catalogue = self._catalogue
        kind, name = catalogue.categories[category], catalogue.names[category][item]
        label = _escape(f"{kind}: {name}")
        if self._images is None:
            return f'<span class="name" title="{label}">{_escape(name)}</span>'
        # A number, never the item's own name, so that no name leaves the folder.
        file = f"items/{catalogue.offsets[category] + item:07d}.jpg"
        if file not in self._written:
            picture = thumbnail(self._images, name, THUMBNAIL_PX)
            path = self._folder / file
            picture.save(path, "JPEG", quality=80, optimize=True)
            self._written.add(file)
        return (
            f'<img src="{file}" alt="{label}" title="{label}" loading="lazy" '
            f'width="{THUMBNAIL_PX}" height="{THUMBNAIL_PX}">'
        )

    def outfit(self, items: Int[np.ndarray, " s"], gap: Sequence[int] = ()) -> str:
        """The items stacked as worn, one row a category; slots in `gap` are open."""
        open_slots = np.isin(np.arange(len(items)), gap)
        shown = np.where(open_slots, _GAP, items).tolist()
        stacked = "".join(
            f"<div>{''.join(self._cell(*cell) for cell in line)}</div>"
            for line in as_worn(self._catalogue.slots, shown)
        )
        return f'<div class="stack">{stacked}</div>'

    def _cell(self, category: int, item: int) -> str:
        if item == _GAP:
            return '<span class="gap" title="the gap">?</span>'
        return self.item(category, item)


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


def _in_words(results: Mapping[str, Any]) -> str:
    auc = results["scores"].get("binary", {}).get("auc")
    if auc is None:
        return ""
    return (
        '<p class="words">Shown an outfit that a user liked and a random one, the '
        f"binary codes pick the liked one <b>{auc:.0%}</b> of the time.</p>"
    )


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
    columns = [f for f in _FIELD_LABELS if f in present and f != "auc_ci95"]
    rows = []
    for kind, scores in blocks.items():
        for number, (which, values) in enumerate(scores.items()):
            first = ""
            if number == 0:
                first = f'<th scope="rowgroup" rowspan="{len(scores)}">{kind}</th>'
            cells = "".join(f"<td>{_value(values, f)}</td>" for f in columns)
            rows.append(
                f'<tr class="{which}">{first}<th scope="row">{which}'
                f"<small>{_SCORE_HELP[which]}</small></th>{cells}</tr>"
            )
    head = "".join(f'<th scope="col">{_FIELD_LABELS[f]}</th>' for f in columns)
    notes = "".join(
        f"<dt>{_FIELD_LABELS[f]}</dt><dd>{_FIELD_HELP[f]}</dd>" for f in columns
    )
    return _section(
        "Results",
        "Random negatives mix items at random; hard negatives are outfits that other "
        "users like.",
        '<div class="scroll"><table class="results"><thead><tr>'
        f'<th scope="col">Negatives</th><th scope="col">Score</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f"<details><summary>What the columns mean</summary><dl>{notes}</dl></details>",
    )


def _value(values: Mapping[str, Any], field: str) -> str:
    if field not in values:
        return "–"
    text = f"{values[field]:.3f}"
    if field == "auc" and "auc_ci95" in values:
        low, high = values["auc_ci95"]
        text += f"<small>{low:.3f}–{high:.3f}</small>"
    return text


def _users_section(
    catalogue: Catalogue,
    split: Split,
    scores: Mapping[str, Float32[np.ndarray, " _"]],
    pictures: _Pictures,
) -> str:
    aucs = _per_user(catalogue, split, scores, "random", metrics.auc)
    by_auc = np.argsort(-np.array(aucs), kind="stable").tolist()
    count = min(NUM_USERS, len(aucs))
    places = np.linspace(0, len(aucs) - 1, count).round().astype(int).tolist()
    cards = [
        _user_card(catalogue, split, scores, pictures, by_auc[place], place, aucs)
        for place in places
    ]
    return _section(
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
    pictures: _Pictures,
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
        _card(
            pictures.outfit(items[rank]),
            f"<b>{rank + 1}</b>{_TICK if liked[rank] else ''}"
            f'<span class="num">{values[rank]:.2f}</span>',
            "hit" if liked[rank] else "",
        )
        for rank in range(min(NUM_RANKED, len(items)))
    ]
    train = catalogue.splits["train"].positives
    mine = train.items[train.users == user]
    rows = np.linspace(0, len(mine) - 1, min(NUM_LEARNED, len(mine))).astype(int)
    learned = [_card(pictures.outfit(mine[row]), "", "") for row in rows]
    hits = int(liked[:NUM_RANKED].sum())
    expected = NUM_RANKED * liked.mean()
    return f"""<article class="user">
<header><h3>User {user}</h3><p>AUC {aucs[user]:.3f}, {_ordinal(place + 1)} of {len(aucs)}
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
    catalogue: Catalogue, split: Split, scorer: Scorer, pictures: _Pictures
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
    return _section(
        "Fill in the blank",
        f"Which item did the user wear with the others? {len(rows)} of "
        f"{len(questions):,} questions, evenly spaced, not picked. Candidates stand in "
        "the model’s order.",
        f'<div class="questions">{"".join(cards)}</div>',
    )


def _question_card(
    catalogue: Catalogue,
    pictures: _Pictures,
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
        mark = _TICK_RIGHT if right else ""
        if chosen:
            mark = _TICK_CHOSEN if right else _CROSS_CHOSEN
        state = "hit" if right else "miss" if chosen else ""
        stack = f'<div class="stack">{"".join(shown)}</div>'
        number = f'<span class="num">{scores[candidate]:.2f}</span>'
        cells.append(_card(stack, f"{mark}{number}", state))
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

        def draw_roc(axes: Axes, theme: _Theme, rates=rates) -> None:
            axes.plot([0, 1], [0, 1], color=theme.muted, lw=1, ls=(0, (3, 3)))
            for which, (false, true) in rates.items():
                axes.plot(false, true, color=theme.series[which], lw=2, label=which)
            axes.set(xlabel="share of negatives above", ylabel="share of liked above")
            axes.set(xlim=(0, 1), ylim=(0, 1))
            axes.legend(loc="lower right")

        figures.append(
            _figure(
                folder,
                f"roc-{kind}",
                draw_roc,
                f"ROC against {kind} negatives",
                "Mean of the users’ curves; the area below is the AUC.",
            )
        )

    def draw_scores(axes: Axes, theme: _Theme) -> None:
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
        _figure(
            folder,
            "scores",
            draw_scores,
            "Binary scores",
            "The further right the liked outfits stand, the better.",
        )
    )
    return _section("Scores", "", f'<div class="charts">{"".join(figures)}</div>')


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
_CURVES = (
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
        "lr",
        "Learning rate",
        "",
        (("lr", "learning rate", "asymmetric"),),
    ),
    (
        "speed",
        "Training speed",
        "",
        (("train/images_per_second", "images per second", "asymmetric"),),
    ),
)


def _training_section(folder: Path, records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return _section("Training", "No metrics.jsonl: no training curves.", "")
    figures = []
    for name, title, note, lines in _CURVES:
        series = [(_series(records, line[0]), *line[1:]) for line in lines]
        series = [entry for entry in series if len(entry[0][0])]
        if not series:
            continue

        def draw(axes: Axes, theme: _Theme, series=series) -> None:
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

        figures.append(_figure(folder, f"train-{name}", draw, title, note))
    return _section("Training", "", f'<div class="charts">{"".join(figures)}</div>')


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

    def draw_balance(axes: Axes, theme: _Theme) -> None:
        axes.axhline(0, color=theme.muted, lw=1, ls=(0, (3, 3)))
        for name, means in balance.items():
            label = "users" if name == "users" else f"{name} codes"
            axes.plot(np.sort(means), color=theme.series[name], lw=2, label=label)
        axes.set(xlabel="bits, sorted", ylabel="mean of the bit", ylim=(-1.05, 1.05))
        axes.legend(loc="upper left")

    def draw_correlation(axes: Axes, theme: _Theme) -> None:
        bins = np.linspace(-1, 1, 61)
        for name, values in correlation.items():
            if not values.size:
                continue
            style = {"bins": bins, "density": True, "color": theme.series[name]}
            axes.hist(values, histtype="stepfilled", alpha=0.18, **style)
            axes.hist(values, histtype="step", lw=1.8, label=f"{name} codes", **style)
        axes.set(xlabel="correlation of two bits", ylabel="density", xlim=(-1, 1))
        axes.legend(loc="upper left")

    def draw_weights(axes: Axes, theme: _Theme) -> None:
        axes.axhline(0, color=theme.muted, lw=1, ls=(0, (3, 3)))
        for name, color in (("lambda_user", "users"), ("lambda_item", "binary")):
            values = np.sort(getattr(codes, name))
            label = f"{name[7:]} term"
            axes.plot(values, color=theme.series[color], lw=2, label=label)
        axes.set(xlabel="bits, sorted", ylabel="matching weight λ")
        axes.legend(loc="upper left")

    figures = [
        _figure(
            folder,
            "bits-balance",
            draw_balance,
            "Balance of the bits",
            "0: the bit is +1 for half of the items; ±1: it says nothing.",
        )
    ]
    if any(values.size for values in correlation.values()):
        figures.append(
            _figure(
                folder,
                "bits-correlation",
                draw_correlation,
                "Correlation between bits",
                "Narrow around 0: every bit says something of its own.",
            )
        )
    if codes.hash_types:
        figures.append(
            _figure(
                folder,
                "bits-weights",
                draw_weights,
                "Matching weights",
                "What each bit counts in the user term and in the item term.",
            )
        )
    return _section(
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


# Charts.


def _figure(
    folder: Path,
    name: str,
    draw: Callable[[Axes, _Theme], None],
    title: str,
    note: str,
) -> str:
    """Draws a chart once for each colour scheme; returns it as HTML."""
    for theme in (_LIGHT, _DARK):
        with matplotlib.rc_context(_style(theme)):
            figure = Figure(figsize=(4.8, 3.2), layout="constrained")
            draw(figure.subplots(), theme)
            figure.savefig(
                folder / f"{name}-{theme.name}.png", dpi=170, transparent=True
            )
    return (
        f"<figure><h3>{title}</h3><picture>"
        f'<source srcset="{name}-dark.png" media="(prefers-color-scheme: dark)">'
        f'<img src="{name}-light.png" alt="Chart: {title}. {note}" loading="lazy" '
        f'width="816" height="544"></picture><figcaption>{note}</figcaption></figure>'
    )


def _style(theme: _Theme) -> dict[str, Any]:
    return {
        "font.size": 10,
        "text.color": theme.text,
        "axes.labelcolor": theme.muted,
        "axes.edgecolor": theme.grid,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "xtick.color": theme.grid,
        "ytick.color": theme.grid,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "legend.frameon": False,
        "legend.fontsize": 9,
    }


# The page.

_TICK = '<span class="tick" role="img" aria-label="liked">✓</span>'
_TICK_RIGHT = '<span class="tick">✓ right</span>'
_TICK_CHOSEN = '<span class="tick">✓ chosen</span>'
_CROSS_CHOSEN = '<span class="cross">✗ chosen</span>'


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


def _ordinal(number: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if number % 100 in (11, 12, 13) else endings.get(number % 10, "th")
    return f"{number}{ending}"


def _card(body: str, caption: str, state: str) -> str:
    caption = f'<div class="caption">{caption}</div>' if caption else ""
    return f'<li class="{state}">{body}{caption}</li>'


def _section(title: str, lead: str, body: str) -> str:
    lead = f"<p>{lead}</p>" if lead else ""
    return f"<section><h2>{title}</h2>{lead}{body}</section>"


def _page(
    catalogue: Catalogue, results: Mapping[str, Any], sections: Sequence[str]
) -> str:
    dataset = _escape(catalogue.dataset)
    banner = ""
    if catalogue.dataset == "demo":
        banner = (
            '<p class="banner" role="note"><b>Demo data</b>: drawn garments, simulated '
            "users. These figures say that the pipeline works, and nothing about real "
            "people.</p>"
        )
    facts = (
        f"{results['split']} split · {results['users']:,} users · "
        f"{results['positives']:,} liked outfits · {catalogue.num_items:,} items"
    )
    checksums = (
        f"config {results['config_hash']} · codes {results['codes_sha256'][:16]}"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{dataset} · outfit codes</title>
<style>{_CSS}</style>
</head>
<body>
{banner}
<main>
<header class="top"><h1>Outfit codes: {dataset}</h1><p>{_escape(facts)}</p>
{_in_words(results)}</header>
{"".join(sections)}
<footer>fhn_jax · {_escape(checksums)}</footer>
</main>
</body>
</html>
"""


_CSS = """
:root { --page: #f6f7f9; --card: #fff; --text: #1d2433; --muted: #667085;
  --line: #e4e7ee; --green: #16a34a; --red: #d9480f; --accent: #2563eb;
  --demo: #fff4d6; --demo-text: #6b4300; --demo-line: #f0c14b }
@media (prefers-color-scheme: dark) {
  :root { --page: #10141c; --card: #181e29; --text: #e6e9f0; --muted: #98a2b3;
    --line: #2c3443; --green: #4ccb80; --red: #ff8a5c; --accent: #6ea2ff;
    --demo: #3a2c07; --demo-text: #ffdf91; --demo-line: #7a5c12 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 48px }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; letter-spacing: -.02em }
h2 { font-size: 1.35rem; margin: 0 0 4px; letter-spacing: -.01em }
h3, h4 { margin: 0; font-size: 1rem } h4 small { font-weight: 400 }
p { margin: 0 0 12px } small, .note, figcaption { color: var(--muted) }
section { margin-top: 40px } section > p { color: var(--muted); max-width: 75ch }
.top p { color: var(--muted); margin: 6px 0 0 }
.top .words { color: var(--text); font-size: 1.1rem; margin-top: 14px }
.banner { margin: 0; padding: 12px 20px; text-align: center; background: var(--demo);
  color: var(--demo-text); border-bottom: 2px solid var(--demo-line) }
.banner b { text-transform: uppercase; letter-spacing: .06em }
.tiles { display: grid; gap: 14px; margin-top: 24px;
  grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)) }
.tile, .user, .question, figure, .scroll { background: var(--card);
  border: 1px solid var(--line); border-radius: 14px }
.tile { padding: 16px 18px; display: flex; flex-direction: column }
.tile span { color: var(--muted); font-size: .9rem }
.tile b { font-size: 2.1rem; line-height: 1.25; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums }
.tile small { font-size: .82rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
th, td { padding: 9px 14px; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums }
tr + tr > *, tbody tr > * { border-top: 1px solid var(--line) }
th { text-align: left; font-weight: 600 }
thead th { color: var(--muted); font-weight: 500; font-size: .82rem }
thead th:not(:first-child) { text-align: right }
.results thead th:nth-child(2) { text-align: left }
.results th[rowspan] { vertical-align: top }
th small, td small { display: block; font-weight: 400; font-size: .76rem }
tr.binary > :not([rowspan]) { background: color-mix(in srgb, var(--accent) 8%, #0000) }
details { margin-top: 10px; font-size: .9rem } summary { cursor: pointer;
  color: var(--accent) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px }
dt { font-weight: 600 } dd { margin: 0; color: var(--muted) }
.user { padding: 18px; margin-top: 16px }
.user header { display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: baseline }
.user header p { margin: 0; color: var(--muted); font-size: .92rem }
.strip { display: block; width: 100%; height: 14px; margin: 10px 0 14px;
  background: var(--line); border-radius: 4px; fill: var(--green) }
.two { display: grid; gap: 22px; grid-template-columns: 5fr 8fr }
.outfits { list-style: none; margin: 8px 0 0; padding: 0; display: grid; gap: 10px;
  grid-template-columns: repeat(auto-fill, minmax(78px, 1fr)) }
.two > div + div .outfits { grid-template-columns: repeat(8, 1fr) }
.two > div:first-child .outfits { grid-template-columns: repeat(5, 1fr) }
.outfits li { border: 3px solid #0000; border-radius: 12px; min-width: 0 }
.outfits li.hit { border-color: var(--green) }
.outfits li.miss { border-color: var(--red); border-style: dashed }
.stack { background: #fff; border-radius: 9px; overflow: hidden; padding: 3px;
  box-shadow: inset 0 0 0 1px var(--line) }
.stack { display: grid; gap: 2px } .stack div { display: flex; gap: 2px }
.stack img, .stack .name, .stack .gap { display: block; flex: 1; min-width: 0;
  width: 100%; height: auto; aspect-ratio: 1; object-fit: contain }
.stack .name { color: #475067; font-size: .62rem; line-height: 1.2; padding: 4px;
  overflow: hidden; overflow-wrap: anywhere }
.stack .gap { display: grid; place-items: center; color: #475067; font-size: 1.6rem;
  border: 2px dashed #98a2b3; border-radius: 8px; background: #f2f4f7 }
.caption { display: flex; gap: 4px; align-items: baseline;
  padding: 2px 4px 3px; font-size: .76rem; font-variant-numeric: tabular-nums }
.caption .num { margin-left: auto; color: var(--muted) }
.tick { color: var(--green); font-weight: 600; white-space: nowrap }
.cross { color: var(--red); font-weight: 600; white-space: nowrap }
.questions { display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)) }
.question { padding: 14px 16px }
.row { display: grid; gap: 18px; grid-template-columns: 5fr 12fr; margin-top: 8px }
.row .outfits { margin: 0; align-content: center; grid-template-columns: 1fr 1fr }
.row > .stack { align-self: center }
.charts { display: grid; gap: 14px; margin-top: 12px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)) }
figure { margin: 0; padding: 14px 16px } figure img { width: 100%; height: auto;
  display: block; margin-top: 6px }
figcaption { font-size: .84rem; margin-top: 6px }
.charts + .scroll { margin-top: 14px } .note { margin-top: 10px }
footer { margin-top: 48px; color: var(--muted); font-size: .8rem;
  overflow-wrap: anywhere }
@media (max-width: 820px) {
  main { padding: 16px 12px 32px } h1 { font-size: 1.5rem }
  .two { grid-template-columns: 1fr } .user { padding: 14px 12px }
  .two > div .outfits, .two > div + div .outfits {
    grid-template-columns: repeat(4, 1fr); gap: 6px }
  .two > div:first-child .outfits { grid-template-columns: repeat(5, 1fr) }
  .caption { font-size: .7rem; padding: 1px 3px 2px } dl { display: block } }
"""
