"""Commands that measure a run from its codes alone, and the report."""

import functools

from fhn_jax.cli.command import SPLIT, Command
from fhn_jax.cli.progress import say_written
from fhn_jax.cli.run import Run, RunChoice
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.evaluation import evaluators


def evaluate(
    run: Run, action: str, split: str, catalogue: Catalogue | None = None
) -> None:
    """Computes fields of results.json; prints them as a table."""
    evaluators.run(action, run.workdir, catalogue or run.catalogue(), split)
    say_written(run.workdir / "results.json")


def report(run: Run, catalogue: Catalogue | None = None) -> None:
    """Writes report/index.html of an evaluated run."""
    from fhn_jax.reporting.report import write_report

    codes, latents = evaluators.load_codes(run.workdir)
    catalogue = catalogue or run.catalogue()
    say_written(write_report(run.workdir, catalogue, codes, latents, run.images()))


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
    Command("report", "Write the charts and pictures of an evaluated run", _report),
)
