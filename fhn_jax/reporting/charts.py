"""Charts, each drawn for a light and for a dark page; the only user of matplotlib."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Theme:
    """Colours of charts in one colour scheme."""

    name: str
    text: str
    muted: str
    grid: str
    series: Mapping[str, str]


LIGHT = Theme(
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
        "features": "#b3539b",
        "text": "#ea8a1f",
        "users": "#0d9488",
    },
)
DARK = Theme(
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
        "features": "#e190cc",
        "text": "#f5a84d",
        "users": "#3fc9b8",
    },
)


def save(
    draw: Callable[[Axes, Theme], None], theme: Theme, path: Path, **options
) -> None:
    """Draws a chart and writes it as PNG.

    Args:
      draw: draws everything on the axes.
      options: of `Figure.savefig`.
    """
    # Ticks take their style only when the figure is written.
    with matplotlib.rc_context(_style(theme)):
        canvas = Figure(figsize=(4.8, 3.2), layout="constrained")
        draw(canvas.subplots(), theme)
        canvas.savefig(path, dpi=170, format="png", **options)


def figure(
    folder: Path,
    name: str,
    draw: Callable[[Axes, Theme], None],
    title: str,
    note: str,
) -> str:
    """Draws a chart once per colour scheme; returns it as HTML.

    Args:
      folder: of the page; gets NAME-light.png and NAME-dark.png.
      draw: see `save`.
    """
    for theme in (LIGHT, DARK):
        save(draw, theme, folder / f"{name}-{theme.name}.png", transparent=True)
    return (
        f"<figure><h3>{title}</h3><picture>"
        f'<source srcset="{name}-dark.png" media="(prefers-color-scheme: dark)">'
        f'<img src="{name}-light.png" alt="Chart: {title}. {note}" loading="lazy" '
        f'width="816" height="544"></picture><figcaption>{note}</figcaption></figure>'
    )


def charts_in(folder: Path) -> dict[str, Path]:
    """The charts of a page, by name, as they are on a light ground."""
    ending = f"-{LIGHT.name}.png"
    found = sorted(folder.glob(f"*{ending}"))
    return {path.name.removesuffix(ending): path for path in found}


def _style(theme: Theme) -> Any:
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
