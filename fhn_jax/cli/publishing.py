"""Commands that publish what a run is now, and go back."""

from pathlib import Path

from fhn_jax import files
from fhn_jax.cli.command import Command, Flag
from fhn_jax.cli.progress import say_written
from fhn_jax.cli.refreshed import RUNS, follow_current
from fhn_jax.cli.run import Run, RunChoice


def publish(choice: RunChoice) -> None:
    """Publishes a run and its data as a version, which servers of the run take up."""
    run = choice.open()
    with files.lock(run.workdir / RUNS, "publishing"):
        say_written(publish_run(run))
        follow_current(run.workdir)


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
    """Makes the version before the current one current, and its network the last."""
    from fhn_jax.recommender import publishing
    from fhn_jax.reporting import refreshes

    run = choice.open()
    workdir = run.workdir
    with files.lock(workdir / RUNS, "going back"):
        number = publishing.rollback(workdir, run.variant)
        follow_current(workdir)
    if (workdir / refreshes.RECORDS).is_file():
        about = {"version": number, "outcome": f"rolled back to version {number}"}
        refreshes.note(workdir, about)
    print(f"version {number} is current; servers of the run take it up")


def compact(choice: RunChoice, *, index: str) -> None:
    """Makes the segments of an index one, without outfits that were removed.

    Args:
      index: folder of an `OutfitIndex` of the run's codes. If empty, that of what is
        served: of the current version in a new one, since versions never change.
    """
    from fhn_jax.recommender import publishing
    from fhn_jax.recommender.stored import stored_index
    from fhn_jax.retrieval.outfit_index import OutfitIndex

    run = choice.open()
    if not index and publishing.published(run.workdir).current is not None:
        say_written(publishing.compact(run.workdir))
        return
    codes = run.codes()
    if index:
        found = OutfitIndex.open(index, codes)
    else:
        names = run.names(codes)
        found = stored_index(run.workdir, codes, run.root, run.variant, names)
    found.compact()
    say_written(found.folder)


COMMANDS = (
    Command(
        "publish",
        "Publish a run and its data as a version, which its servers take up",
        publish,
        extra="web",
    ),
    Command(
        "compact",
        "Make an index small and fast again after many changes",
        compact,
        (Flag("index", "", "Folder of an OutfitIndex, instead of what is served"),),
        extra="retrieval",
    ),
    Command("rollback", "Go back to the version before the current one", rollback),
)
