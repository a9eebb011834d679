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
        "One training after the other; each begins at a dashed line, with the network that "
        "was published before it."
    )
    return section("Training", lead, f'<div class="charts">{"".join(figures)}</div>')


def _draw(
    axes: Axes,
    theme: Theme,
    trained: Sequence[Mapping[str, Any]],
    lines: Sequence[tuple[str, str, str]],
) -> None:
    """Lines of metrics, with a stretch of the axis for each training."""
    starts, ends = [0.0], []
    for record in trained:
        epochs = [series(record["curves"], line[0])[0] for line in lines]
        length = max((x.max() for x in epochs if len(x)), default=1.0)
        ends.append(starts[-1] + length)
        starts.append(ends[-1])
    for metric, label, colour in lines:
        found = [series(record["curves"], metric)[:2] for record in trained]
        x = np.concatenate(
            [x + start for (x, _), start in zip(found, starts, strict=False)]
        )
        y = np.concatenate([y for _, y in found])
        if len(x):
            color = theme.series[colour]
            axes.plot(x, y, lw=2, marker="o", ms=4, label=label, color=color)
    for start in starts[:-1]:
        axes.axvline(start, lw=0.8, ls="--", color=theme.muted)
    shown = np.linspace(0, len(trained) - 1, min(len(trained), _MOST_DATES)).astype(int)
    days = [datetime.datetime.fromisoformat(trained[k]["when"]) for k in shown]
    middles = [(starts[k] + ends[k]) / 2 for k in shown]
    axes.set_xticks(middles, [f"{day:%d %b}" for day in days])
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.03 * ends[-1], 1.03 * ends[-1])
    if len(axes.lines) > len(trained) + 1:
        axes.legend(loc="best")
