"""Commands that measure a run from its codes alone, and the report."""

import functools
from typing import Any

from fhn_jax import files
from fhn_jax.cli.command import SPLIT, Command, Flag
from fhn_jax.cli.events import OFF_POLICY
from fhn_jax.cli.progress import say_written
from fhn_jax.cli.run import Run, RunChoice
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.vectors import read_item_vectors
from fhn_jax.evaluation import evaluators

# In the workdir of a run.
CATALOGUE_FILE = "catalogue_ranking.json"
_K = Flag("k", 10, "Length of the lists")


def evaluate(
    run: Run, action: str, split: str, catalogue: Catalogue | None = None
) -> dict[str, Any]:
    """Computes fields of results.json; prints them as a table, returns all."""
    of_data = catalogue or run.catalogue()
    results = evaluators.run(action, run.workdir, of_data, split)
    say_written(run.workdir / "results.json")
    return results


def report(run: Run, catalogue: Catalogue | None = None) -> None:
    """Writes report/index.html of an evaluated run."""
    from fhn_jax.reporting.report import write_report

    codes, latents = evaluators.load_codes(run.workdir)
    catalogue = catalogue or run.catalogue()
    say_written(write_report(run.workdir, catalogue, codes, latents, run.images()))


def evaluate_catalogue(choice: RunChoice, *, k: int, split: str) -> None:
    """Ranks all known outfits by the run and by baselines: tables, and a file of them."""
    from fhn_jax.evaluation.catalogue_ranking import evaluate_catalogue, format_table

    run = choice.open()
    catalogue, codes = run.catalogue(), run.codes()
    vectors = read_item_vectors(run.root, run.vector_names(), catalogue)
    results = evaluate_catalogue(codes, catalogue, split, k=k, vectors=vectors)
    print(format_table(results))
    about: dict[str, Any] = {"dataset": catalogue.dataset, "split": split}
    about["codes_sha256"] = codes.sha256()
    path = run.workdir / CATALOGUE_FILE
    files.write_sealed(path, about | results)
    say_written(path)


def _evaluate(action: str, choice: RunChoice, *, split: str) -> None:
    evaluate(choice.open(), action, split)


def _report(choice: RunChoice) -> None:
    report(choice.open())


COMMANDS = (
    *(
        Command(action, text, functools.partial(_evaluate, action), (SPLIT,))
        for action, text in (
            ("evaluate-rank", "AUC, NDCG and recall of a run's codes"),
            ("evaluate-accuracy", "Share of outfit pairs that are ranked right"),
            ("fitb", "Share of fill-in-the-blank questions answered right"),
        )
    ),
    Command(
        "evaluate-catalogue",
        "Rank all known outfits for every user, beside simple baselines",
        evaluate_catalogue,
        (_K, SPLIT),
        extra="retrieval",
    ),
    OFF_POLICY,
    Command("report", "Write the charts and pictures of an evaluated run", _report),
)
