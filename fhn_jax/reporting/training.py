"""Charts of the training: losses and validation metrics from metrics.jsonl."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fhn_jax.errors import InputError
from fhn_jax.files import read_text
from fhn_jax.reporting import charts
from fhn_jax.reporting.charts import Axes, Theme
from fhn_jax.reporting.page import section

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


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl.

    A last line that a crash cut off is left out, with a warning.

    Raises:
      ValueError: another line is not a JSON object of numbers, or its step is lower
        than that of the line before.
    """
    if not path.is_file():
        return []
    text = read_text(path, "remove it, or put back an older one")
    records: list[dict[str, Any]] = []
    lines = text.split("\n")
    if lines.pop():
        print(
            f"warning: {path}, line {len(lines) + 1} was cut off by a crash, and is "
            "left out",
            file=sys.stderr,
        )
    for number, line in enumerate(lines, start=1):
        record: Any
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        before = records[-1]["step"] if records else 0
        if not _is_record(record) or record["step"] < before:
            raise InputError(
                f"{path}, line {number}: got {line[:60]!r}, expected a JSON object of "
                f"numbers with a step of at least {before}; remove the line"
            )
        records.append(record)
    return records


def _is_record(record: Any) -> bool:
    """Whether a JSON value is an object of numbers with a step."""
    return (
        isinstance(record, dict)
        and type(record.get("step")) is int
        and all(type(value) in (int, float) for value in record.values())
    )


def training_section(folder: Path, records: Sequence[Mapping[str, Any]]) -> str:
    """The charts of `CURVES` as far as they were logged.

    Args:
      folder: gets the charts.
      records: see `read_log`.
    """
    if not records:
        return section("Training", "No metrics.jsonl: no training curves.", "")
    figures = []
    for name, title, note, lines in CURVES:
        curves = [(series(records, line[0]), *line[1:]) for line in lines]
        curves = [curve for curve in curves if len(curve[0][0])]
        if not curves:
            continue

        def draw(axes: Axes, theme: Theme, curves=curves) -> None:
            for (x, y, unit), label, name in curves:
                color = theme.series[name]
                smooth_x, smooth_y = _smooth(x, y)
                if len(smooth_x) < len(x):
                    axes.plot(x, y, lw=0.8, alpha=0.3, color=color)
                axes.plot(smooth_x, smooth_y, lw=2, label=label, color=color)
                axes.set_xlabel(unit)
            if len(curves) > 1:
                axes.legend(loc="best")
            axes.margins(x=0.01)

        figures.append(charts.figure(folder, f"train-{name}", draw, title, note))
    return section("Training", "", f'<div class="charts">{"".join(figures)}</div>')


def series(
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
