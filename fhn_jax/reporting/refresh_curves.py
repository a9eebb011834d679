"""The curves of the trainings of refreshes, as the report of a run draws them."""

import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fhn_jax.reporting import charts
from fhn_jax.reporting.charts import Axes, Theme
from fhn_jax.reporting.page import section
from fhn_jax.reporting.training import CURVES, read_log, series

_CURVES = CURVES[:2]
# A refresh logs a few epochs; of more, so many points are drawn.
_MOST_POINTS = 200
_MOST_DATES = 7


def curves_of(run: Path) -> list[dict[str, Any]]:
    """The curves of a run that are drawn, from its metrics.jsonl."""
    names = {"step", "epoch", *(line[0] for *_, lines in _CURVES for line in lines)}
    found = [
        {name: value for name, value in record.items() if name in names}
        for record in read_log(run / "metrics.jsonl")
    ]
    return found[:: math.ceil(len(found) / _MOST_POINTS) or 1]


def curves_section(folder: Path, trained: Sequence[Mapping[str, Any]]) -> str:
    """The charts of trainings, one after the other.

    Args:
      folder: gets the charts.
      trained: records of refreshes with curves.
    """
    figures = []
    for name, title, note, lines in _CURVES:

        def draw(axes: Axes, theme: Theme, lines=lines) -> None:
            _draw(axes, theme, trained, lines)

        figures.append(charts.figure(folder, name, draw, title, note))
    lead = (
        "One training after the other; each goes on from the network that was published "
        "before it, and a dashed line is where it began."
    )
    return section("Training", lead, f'<div class="charts">{"".join(figures)}</div>')


def _draw(
    axes: Axes,
    theme: Theme,
    trained: Sequence[Mapping[str, Any]],
    lines: Sequence[tuple[str, str, str]],
) -> None:
    """Lines of metrics, a stretch of the axis for each training."""
    start, middles = 0.0, []
    labelled: set[str] = set()
    for record in trained:
        found = [(series(record["curves"], line[0]), *line[1:]) for line in lines]
        length = max((x.max() for (x, _, _), *_ in found if len(x)), default=1.0)
        for (x, y, _), label, colour in found:
            if not len(x):
                continue
            is_first = label not in labelled
            labelled.add(label)
            axes.plot(
                *(start + x, y),
                lw=2,
                marker="o",
                ms=3,
                label=label if is_first else None,
                color=theme.series[colour],
            )
        axes.axvline(start, lw=0.8, ls="--", color=theme.muted)
        middles.append(start + length / 2)
        start += length
    shown = np.linspace(0, len(trained) - 1, min(len(trained), _MOST_DATES)).astype(int)
    days = [datetime.datetime.fromisoformat(trained[k]["when"]) for k in shown]
    axes.set_xticks([middles[k] for k in shown], [f"{day:%d %b}" for day in days])
    axes.grid(visible=False, axis="x")
    axes.set_xlim(0, start)
    if len(labelled) > 1:
        axes.legend(loc="best")
