"""What refreshes have made of a run: which run is served, and the others there are.

The workdir of the run keeps it: `refresh.json` says which run is served, from whose
network the next refresh goes on, and how far the refresh under way is; `refreshes/N` are
the runs.
"""

import dataclasses
import shutil
from pathlib import Path

from fhn_jax import files
from fhn_jax.cli.run import Run, RunChoice
from fhn_jax.codes.artifact import FILE as CODES

STATE, RUNS = "refresh.json", "refreshes"


@dataclasses.dataclass
class RefreshState:
    """What refresh.json holds.

    Attributes:
      last: the folder of the run whose network is served, from the workdir; "" for the
        workdir itself.
      number: of the last refresh that trained.
      under_way: whether it is not done yet.
      data: the checksum of the data it is trained on.
      before, after: the AUC on the validation split, of the last that trained.
    """

    last: str = ""
    number: int = 0
    under_way: bool = False
    data: str = ""
    before: float | None = None
    after: float | None = None

    @classmethod
    def read(cls, workdir: Path) -> "RefreshState":
        path = workdir / STATE
        if not path.is_file():
            return cls()
        return cls(**files.read_sealed(path, "remove it to start from the run itself"))

    def write(self, workdir: Path) -> None:
        files.write_sealed(workdir / STATE, dataclasses.asdict(self))


def served_run(run: Run) -> Run:
    """The run whose network is served: that of the workdir, or of a refresh."""
    return run_at(run, RefreshState.read(run.workdir).last)


def follow_current(workdir: Path) -> None:
    """Makes the run of the current version the one that the next refresh goes on from."""
    from fhn_jax.recommender.publishing import published

    version = published(workdir).current
    last = None if version is None else _folder_of(version)
    state = RefreshState.read(workdir)
    if last is not None and state.last != last:
        state.last, state.under_way = last, False
        state.write(workdir)


def remove_unused_runs(workdir: Path, state: RefreshState) -> None:
    """Removes the runs of refreshes that neither are served nor can be gone back to."""
    from fhn_jax.recommender.publishing import published

    versions = published(workdir)
    used = {_folder_of(versions.folder / str(number)) for number in versions.numbers}
    for path in (workdir / RUNS).glob("[0-9]*"):
        if f"{RUNS}/{path.name}" not in used | {state.last}:
            shutil.rmtree(path, ignore_errors=True)


def _folder_of(version: Path) -> str | None:
    """The folder of a version's run, as `RefreshState` has it; None if nobody knows."""
    from fhn_jax.recommender.publishing import run_of

    folder = run_of(version)
    return "" if folder == "." else folder


def refreshed_runs(run: Run) -> list[Run]:
    """The runs of refreshes that are there, if they have codes."""
    folders = sorted((run.workdir / RUNS).glob("[0-9]*"))
    made = [path for path in folders if (path / CODES).is_file()]
    return [run_at(run, str(path.relative_to(run.workdir))) for path in made]


def run_at(run: Run, folder: str) -> Run:
    """A run below the workdir, on the data of the workdir's."""
    if not folder:
        return run
    found = RunChoice(workdir=run.workdir / folder).open()
    found.config.data.root = str(run.root)
    return Run(found.workdir, found.config)
