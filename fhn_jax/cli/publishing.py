"""Commands that publish what a run is now, and go back."""

from pathlib import Path

from fhn_jax.cli.command import Command
from fhn_jax.cli.progress import say_written
from fhn_jax.cli.run import Run, RunChoice


def publish(choice: RunChoice) -> None:
    """Publishes a run and its data as a version, which servers of the run take up."""
    say_written(publish_run(choice.open()))


def publish_run(run: Run, workdir: Path | None = None) -> Path:
    """The same; returns the folder of the version.

    Args:
      workdir: among whose versions it is; that of the run by default.
    """
    from fhn_jax.recommender.publishing import publish as publish_files
    from fhn_jax.web import photos

    site = run.workdir if workdir is None else workdir
    return publish_files(site, run.workdir, run.root, run.variant, (photos.FILE,))


def rollback(choice: RunChoice) -> None:
    """Makes the version before the current one current."""
    from fhn_jax.recommender.publishing import published

    number = published(choice.open().workdir).rollback()
    print(f"version {number} is current; servers of the run take it up")


COMMANDS = (
    Command(
        "publish",
        "Publish a run and its data as a version, which its servers take up",
        publish,
        extra="web",
    ),
    Command("rollback", "Go back to the version before the current one", rollback),
)
