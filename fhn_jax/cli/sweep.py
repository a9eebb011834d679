"""Runs of a config that are to be compared: their commands, and their results.

    fhn-jax sweep vse_t3:data=630 | sh
    fhn-jax sweep vse_t3:data=630 --table

The first prints a command for each run that the config's `sweep(add)` adds to the given
arguments; whatever else is given (--config.train.epochs=5) is added to all of them. The
second prints what those that are done have reached.
"""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from fhn_jax.cli import compare
from fhn_jax.errors import InputError
from fhn_jax.evaluation.evaluators import read_results
from fhn_jax.program import Arguments


def runs(config: str) -> dict[str, Path]:
    """The runs of a config's sweep.

    Args:
      config: as of --config: a file or a name, and arguments.
    Returns:
      config with all arguments → workdir; of runs with equal settings the first alone.
    Raises:
      MissingFileError: no such config.
      InputError: it has no `sweep(add)`, or an argument is wrong.
    """
    # Here, so that `fhn-jax sweep --help` needs no packages of training.
    from fhn_jax.training import configs

    path, arg = configs.find(config)
    module = configs.load_module(path)
    if not hasattr(module, "sweep"):
        raise InputError(
            f"{path} has no function sweep(add): it says nothing to compare"
        )
    name = config.partition(":")[0]
    parts = [part.partition("=") for part in filter(None, arg.split(","))]
    given = {key: value for key, _, value in parts}
    found, settings = {}, []

    def add(**arguments):
        merged = given | {key: str(value) for key, value in arguments.items()}
        arg = ",".join(
            f"{key}={value}" if value else key for key, value in merged.items()
        )
        values = module.get_config(arg)
        if values not in settings:
            settings.append(values)
            folder = "-".join([path.stem, *filter(None, arg.split(","))])
            found[f"{name}:{arg}" if arg else name] = Path("runs") / folder

    module.sweep(add)
    return found


def commands(config: str, flags: Sequence[str] = ()) -> Iterator[str]:
    """A shell command for each run; see `runs`."""
    for run, workdir in runs(config).items():
        command = ["python", "-m", "fhn_jax.main", "--config", run]
        yield shlex.join([*command, "--workdir", str(workdir), *flags])


def table(config: str) -> Iterator[str]:
    """Lines of a table: binary scores of each run, "-" where it is not evaluated."""
    found = runs(config)
    rows = [["binary scores, random negatives", "split", *compare.summary_labels()]]
    for run, workdir in found.items():
        results = read_results(workdir / "results.json")
        split = results.get("split", "-")
        rows.append([run, split, *compare.scores_row(results, "binary")])
    return compare.table(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the commands or the table."""
    parser = Arguments("fhn-jax sweep", __doc__)
    parser.add_argument("config", help="with arguments, such as t3:data=630")
    parser.add_argument("--table", action="store_true", help="print results so far")
    arguments, flags = parser.parse_known_args(argv)
    for flag in flags:
        if not flag.startswith("--config."):
            parser.refuse(flag)
    if arguments.table and flags:
        parser.error(f"--table reads results alone; got {' '.join(flags)}")
    lines = (
        table(arguments.config)
        if arguments.table
        else commands(arguments.config, flags)
    )
    print(*lines, sep="\n")
