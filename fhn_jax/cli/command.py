"""What a command is: its name, its flags, and how it is started."""

import argparse
import dataclasses
import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from fhn_jax.cli.config import read_config_arguments, split_config
from fhn_jax.cli.run import RunChoice
from fhn_jax.errors import InputError, MissingPackageError, nearest
from fhn_jax.program import Arguments

_BOOLS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag of a command.

    Attributes:
      name: without dashes.
      default: which has the type of the flag's values; a bool can be negated, `--no…`,
        and one that is a tuple can be given several times.
      help: one line.
      choices: all values that are allowed; any by default.
    """

    name: str
    default: bool | int | str | tuple[str, ...]
    help: str
    choices: tuple[str, ...] | None = None

    @property
    def variable(self) -> str:
        """The environment variable that gives its value, for some commands."""
        return f"FHN_JAX_{self.name.replace('-', '_').upper()}"

    def value(
        self, environment: Mapping[str, str]
    ) -> bool | int | str | tuple[str, ...]:
        """The value that its variable has, or the default.

        Raises:
          InputError: it is not of the flag's type.
        """
        text = environment.get(self.variable, "")
        if not text:
            return self.default
        kind = type(self.default)
        if isinstance(self.default, tuple):
            return (text,)
        try:
            return _BOOLS[text.lower()] if kind is bool else kind(text)
        except (KeyError, ValueError):
            expected = "yes or no" if kind is bool else "a whole number"
            raise InputError(f"{self.variable}={text}: expected {expected}") from None

    def add_to(
        self, arguments: argparse.ArgumentParser, environment: Mapping[str, str]
    ) -> None:
        """Declares the flag."""
        default = self.value(environment)
        if isinstance(default, tuple):
            text = f"{self.help}; may be given several times"
            arguments.add_argument(
                f"--{self.name}", action="append", default=[*default], help=text
            )
            return
        shown = default
        if isinstance(shown, bool):
            shown = "yes" if shown else "no"
        # A value from the environment may be a secret.
        known = default == self.default
        shown = f"{shown}" if known else f"from {self.variable}"
        text = self.help if shown == "" else f"{self.help} (default: {shown})"
        if isinstance(self.default, bool):
            name = f"--{self.name}"
            arguments.add_argument(
                name, action="store_true", default=default, help=text
            )
            arguments.add_argument(
                *(f"--no-{self.name}", f"--no{self.name}"),
                action="store_false",
                dest=self.name.replace("-", "_"),
                help=argparse.SUPPRESS if not self.default else f"not {name}",
            )
            return
        arguments.add_argument(
            f"--{self.name}",
            type=type(self.default),
            default=default,
            choices=self.choices,
            help=text,
        )


DATABASE_URL = Flag("database-url", "", "Of visitors; SQLite in the workdir if empty")
SPLIT = Flag("split", "test", "Outfits to evaluate on", ("train", "val", "test"))


@dataclasses.dataclass(frozen=True)
class Command:
    """Something that is done with a run: the settings and files in a workdir.

    Attributes:
      name: on the command line.
      help: one line.
      run: does it; gets which run is meant, and the values of the flags by name.
      flags: beside --config and --workdir.
      extra: of the package, whose dependencies it needs.
    """

    name: str
    help: str
    run: Callable[..., None]
    flags: tuple[Flag, ...] = ()
    extra: str = "train"

    @property
    def by_environment(self) -> bool:
        """Whether --workdir and the flags have a variable each, as FHN_JAX_DATABASE_URL.

        So have those of all commands that need the visitors' database: what a server is
        told by its surroundings, the commands beside it must know as well.
        """
        return DATABASE_URL in self.flags

    def arguments(self, environment: Mapping[str, str] = {}) -> Arguments:
        """The parser of its flags, whose defaults may be in the environment."""
        arguments = Arguments(f"fhn-jax {self.name}", self.help)
        arguments.add_argument(
            "--config",
            metavar="NAME[:ARGUMENTS]",
            help="settings: a file, or the name of one of the package's, such as "
            "vse_t3:bits=64; single values by --config.train.epochs=5 (default: those "
            "of the workdir)",
        )
        arguments.add_argument(
            "--workdir",
            type=Path,
            default=environment.get("FHN_JAX_WORKDIR") or None,
            help="folder of the run (default: runs/<config>)",
        )
        for flag in self.flags:
            flag.add_to(arguments, environment)
        return arguments

    def start(self, argv: Sequence[str]) -> None:
        """Runs the command with the arguments that follow its name."""
        about_config, rest = split_config(argv)
        environment = os.environ if self.by_environment else {}
        options = vars(self.arguments(environment).parse_args(rest))
        del options["config"]  # for --help alone
        given = read_config_arguments(about_config)
        choice = RunChoice(given, options.pop("workdir"))
        try:
            self.run(choice, **options)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("", "fhn_jax"):
                raise
            raise MissingPackageError(
                f"{self.name} needs the package {error.name}: "
                f'pip install "fhn_jax[{self.extra}]"'
            ) from error


@dataclasses.dataclass(frozen=True)
class Program:
    """A program with arguments of its own.

    Attributes:
      name: on the command line.
      help: one line.
      module: whose `main(argv)` it is.
    """

    name: str
    help: str
    module: str

    def start(self, argv: Sequence[str]) -> None:
        """Runs the program."""
        importlib.import_module(self.module).main(list(argv))


def find_command(
    argv: Sequence[str], commands: Mapping[str, Command | Program], default: str
) -> tuple[Command | Program, list[str]]:
    """The command that is named on the command line, and the other arguments.

    Args:
      argv: flags may come before the name of a `Command`.
      commands: by name.
      default: the name of the command if none is given.
    Raises:
      InputError: an unknown command or flag, or a flag of another command.
    """
    if argv and isinstance(commands.get(argv[0]), Program):
        return commands[argv[0]], list(argv[1:])
    parsers = {
        name: command.arguments()
        for name, command in commands.items()
        if isinstance(command, Command)
    }
    about_config, rest = split_config(argv)
    position = _first_word(rest, parsers.values())
    name = rest.pop(position) if position < len(rest) else default
    if name not in commands:
        raise InputError(
            f"command {name!r} is unknown; fhn-jax --help lists the commands"
            f"{nearest(name, commands)}"
        )
    if name not in parsers:
        raise InputError(f"{name} must come first: fhn-jax {name} …")
    for flag in (each.partition("=")[0] for each in rest):
        takers = [each for each, parser in parsers.items() if flag in parser.flags]
        if takers and name not in takers:
            raise InputError(
                f"{name} does not take {flag}, which is a flag of {', '.join(takers)}"
            )
    return commands[name], [*about_config, *rest]


def _first_word(argv: Sequence[str], parsers: Iterable[Arguments]) -> int:
    """Where the first argument is that is neither a flag nor a flag's value."""
    flags: dict[str, bool] = {}
    for parser in parsers:
        flags |= parser.flags
    position = 0
    while position < len(argv) and argv[position].startswith("-"):
        flag, value_given, _ = argv[position].partition("=")
        if flag not in flags:
            raise InputError(f"flag {flag} is unknown{nearest(flag, flags)}")
        position += 2 if flags[flag] and not value_given else 1
    return position
