"""Charts of the scores: ROC curves and histograms."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from fhn_jax.data.catalogue import Split
from fhn_jax.evaluation.evaluators import scores_by_user
from fhn_jax.reporting import charts
from fhn_jax.reporting.charts import Axes, Theme
from fhn_jax.reporting.page import section


def scores_section(
    folder: Path,
    split: Split,
    scores: Mapping[str, Mapping[str, Float32[np.ndarray, " _"]]],
) -> str:
    """Mean ROC curves against each kind of negatives, and histograms of binary scores.

    Args:
      folder: gets the charts.
      scores: which score → "liked" or kind of negatives → scores of these outfits.
    """
    figures = []
    for kind in split.negatives:
        rates = {
            which: mean_roc(
                scores_by_user(split, kind, values["liked"], values[kind]).values()
            )
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
            charts.figure(
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
        charts.figure(
            folder,
            "scores",
            draw_scores,
            "Binary scores",
            "The further right the liked outfits stand, the better.",
        )
    )
    return section("Scores", "", f'<div class="charts">{"".join(figures)}</div>')


def mean_roc(
    users: Iterable[tuple[np.ndarray, np.ndarray]],
) -> tuple[Float64[np.ndarray, " r"], Float64[np.ndarray, " r"]]:
    """False and true positive rates, averaged over users at equal false rates.

    Args:
      users: scores of the liked outfits and of the negatives of each.
    """
    grid = np.linspace(0, 1, 201)
    rates = []
    for liked, negatives in users:
        thresholds = np.unique(np.concatenate([liked, negatives]))[::-1]
        true = [(liked >= t).mean() for t in thresholds]
        false = [(negatives >= t).mean() for t in thresholds]
        rates.append(np.interp(grid, [0, *false], [0, *true]))
    return grid, np.mean(rates, axis=0)
