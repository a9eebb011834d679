"""Command line: fhn-jax [COMMAND] [flags], or python -m fhn_jax.main"""

from collections.abc import Sequence

import fhn_jax
from fhn_jax.cli import (
    data,
    evaluating,
    new_users,
    recommending,
    serving,
    training,
    upkeep,
)
from fhn_jax.cli.command import find_command
from fhn_jax.program import run_program

# A new command is added to one of these modules.
_GROUPS = {
    "Train": training,
    "Evaluate": evaluating,
    "Recommend": recommending,
    "New users": new_users,
    "Serve": serving,
    "Keep up to date": upkeep,
    "Data and tools": data,
}
COMMANDS = {
    command.name: command for group in _GROUPS.values() for command in group.COMMANDS
}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line.

    Args:
      argv: its arguments; those of the process by default.
    """
    run_program(run, argv)


def run(argv: list[str]) -> None:
    """Runs a command; raises UserError for what a user can mend."""
    if argv in (["--help"], ["-h"], ["help"]):
        print(help_text())
    elif argv == ["--version"]:
        print(f"fhn_jax {fhn_jax.__version__}")
    else:
        command, rest = find_command(argv, COMMANDS, default="all")
        command.start(rest)


def help_text() -> str:
    """What `fhn-jax --help` prints.

    >>> "  search  " in help_text()
    True
    """
    width = max(map(len, COMMANDS))
    lines = [
        "fhn-jax [COMMAND] [flags]",
        "",
        "Personalised outfit recommendation from compact binary codes.",
        "fhn-jax --config vse_t3 trains, exports, evaluates and reports.",
    ]
    for title, group in _GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {each.name:{width}}  {each.help}" for each in group.COMMANDS]
    lines += [
        "",
        "fhn-jax COMMAND --help  flags of a command, with their defaults",
        "fhn-jax --version       the version of fhn_jax",
        "--debug                 shows the traceback of an error",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
