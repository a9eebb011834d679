"""The cold-start study of new users as study.json and charts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fhn_jax import files
from fhn_jax.reporting import charts
from fhn_jax.reporting.charts import Axes, Theme


def write_study(workdir: Path, study: Mapping[str, Any]) -> None:
    """Writes study.json with its charts sweep.png, sizes.png and likes.png.

    Args:
      workdir: gets these files.
      study: rows {"epsilon", "beta", "auc"} as "sweep", {"method", "size", "auc"} as
        "sizes", and {"method", "likes", "auc"} as "likes"; all else is only kept.
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
