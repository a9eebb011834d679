"""Shows the results of runs side by side.

    fhn-jax compare runs/vse_t3 runs/text_t3

The binary and asymmetric scores of results.json, the lists of `evaluate-catalogue` where
they were computed, and the settings in which the runs differ.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fhn_jax import files
from fhn_jax.cli.evaluating import CATALOGUE_FILE
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.evaluation.evaluators import read_results
from fhn_jax.evaluation.metrics import METRICS
from fhn_jax.evaluation.top_k import LIST_METRICS
from fhn_jax.program import Arguments

_SCORES = ("binary", "asymmetric")


def table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of aligned cells: the first column to the left, the others to the right."""
    rows = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *cells in rows:
        others = [
            cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)
        ]
        yield "  ".join([first.ljust(widths[0]), *others]).rstrip()


def scores_row(results: Mapping[str, Any], score: str, block: str = "scores") -> list:
    """The summary metrics of one score in results.json, "-" for what is not there."""
    values = results.get(block, {}).get(score, {})
    return [
        f"{values[m.name]:.4f}" if m.name in values else "-"
        for m in METRICS
        if m.is_summary
    ]


def summary_labels() -> list[str]:
    """The columns of `scores_row`."""
    return [metric.name for metric in METRICS if metric.is_summary]


def compare(workdirs: Sequence[Path]) -> Iterator[str]:
    """Lines that show several runs side by side.

    Raises:
      MissingFileError: a workdir without results.json.
      InputError: damaged results.
    """
    results = {}
    for workdir in workdirs:
        if not (workdir / "results.json").is_file():
            raise MissingFileError(
                f"{workdir / 'results.json'}: no such file; evaluate the run first: "
                f"fhn-jax evaluate-rank --workdir {workdir}"
            )
        results[workdir] = read_results(workdir / "results.json")
    for block, title in (("scores", "random negatives"), ("hard", "hard negatives")):
        if not any(block in each for each in results.values()):
            continue
        rows = [[title, "data", "split", "score", *summary_labels()]]
        for workdir, each in results.items():
            about = [str(each.get("dataset", "-")), str(each.get("split", "-"))]
            rows += [
                [str(workdir), *about, score, *scores_row(each, score, block)]
                for score in _SCORES
            ]
        yield from table(rows)
        yield ""
    yield from _lists(results)
    yield from _differing(workdirs)


def _lists(results: Mapping[Path, Mapping[str, Any]]) -> Iterator[str]:
    """The lists of `evaluate-catalogue`, baselines included."""
    rows, k = [], set()
    for workdir, evaluated in results.items():
        path = workdir / CATALOGUE_FILE
        if not path.is_file():
            continue
        ranked = files.read_sealed(path, "run evaluate-catalogue again")
        if ranked.get("codes_sha256") != evaluated.get("codes_sha256"):
            raise InputError(
                f"{path} is of other codes than results.json; run evaluate-catalogue "
                "again"
            )
        k.add(ranked["k"])
        for name, values in ranked["scores"].items():
            cells = [f"{values[metric.name]:.4f}" for metric in LIST_METRICS]
            rows.append([str(workdir), name, str(ranked["k"]), *cells])
    if rows:
        shown = k.pop() if len(k) == 1 else "k"
        labels = [metric.label.format(k=shown) for metric in LIST_METRICS]
        yield from table([["whole catalogue", "ranked by", "k", *labels], *rows])
        yield ""


def _differing(workdirs: Sequence[Path]) -> Iterator[str]:
    """Settings in which the runs differ, a line each."""
    settings = []
    for workdir in workdirs:
        path = workdir / "config.json"
        found = files.read_sealed(path, "train again") if path.is_file() else {}
        settings.append(dict(_flat(found)))
    keys = sorted({key for each in settings for key in each})
    rows = [["settings", *map(str, workdirs)]]
    for key in keys:
        values = [json.dumps(each[key]) if key in each else "-" for each in settings]
        if len(set(values)) > 1:
            rows.append([key, *values])
    if len(rows) > 1:
        yield from table(rows)
    else:
        yield "The settings are the same."


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = Arguments("fhn-jax compare", __doc__)
    parser.add_argument("workdir", type=Path, nargs="+", help="of an evaluated run")
    print(*compare(parser.parse_args(argv).workdir), sep="\n")
