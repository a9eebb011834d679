"""What refreshes have made of a run: which run is served, and the others there are.

The workdir of the run keeps it: `refresh.json` says which run is the last that was
published, and how far the refresh under way is; `refreshes/N` are the runs.
"""

import dataclasses
from pathlib import Path

from fhn_jax import files
from fhn_jax.cli.run import Run, RunChoice
from fhn_jax.codes.artifact import FILE as CODES

STATE, RUNS = "refresh.json", "refreshes"


@dataclasses.dataclass
class RefreshState:
    """What refresh.json holds.

    Attributes:
      last: the folder of the run that was published last, from the workdir; "" for the
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
    """The run that was published last: that of the workdir, or of a refresh."""
    return run_at(run, RefreshState.read(run.workdir).last)


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
