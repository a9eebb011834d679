"""Command line: python -m fhn_jax.main [ACTION] --config … --workdir …"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from fhn_jax.cli import actions
from fhn_jax.errors import InputError

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Settings, with arguments: configs/vse_t3.py:bits=64"
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; runs/<config> if not given"
)
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "val", "test"], "To evaluate on")
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error")
_DEFINE = {bool: flags.DEFINE_bool, str: flags.DEFINE_string, int: flags.DEFINE_integer}
_FLAGS = actions.FLAGS.items()
_OPTIONS = {n: _DEFINE[type(v)](n.replace("_", "-"), v, t) for n, (v, t) in _FLAGS}


def main(argv: list[str]) -> None:
    """Runs one action, or all of them: train, export, evaluate, report."""
    config, given = _CONFIG.value, flags.FLAGS["config"]
    overrides = {} if config is None else config_flags.get_override_values(given)
    try:
        name, values = _name(argv), {n: flag.value for n, flag in _OPTIONS.items()}
        with actions.together(name, values):
            config, workdir = actions.prepare(
                config, overrides, _config_name(), _WORKDIR.value, name
            )
            options = {n: values[n] for n in actions.TAKES.get(name, ())}
            actions.ACTIONS[name](config, workdir, _SPLIT.value, **options)
    except actions.ERRORS as error:
        if _DEBUG.value:
            raise
        _fail(error)
    except KeyboardInterrupt as interrupt:
        text = str(interrupt) or "run again to go on from the last checkpoint"
        print(f"interrupted: {text}", file=sys.stderr)
        sys.exit(130)


def parse_flags(argv: list[str]) -> list[str]:
    """Reads the flags; a mistake in them ends in one line, not in a traceback.

    Returns:
      what is no flag.
    """
    try:
        rest = flags.FLAGS(argv)
        if _CONFIG.value is not None:
            # A file that cannot be read is not reported before it is used.
            _ = _CONFIG.value.data
    except Exception as error:  # A config is a program, and may raise anything.
        if "--debug" in argv:
            raise
        if isinstance(error, AttributeError) and isinstance(error.args[0], KeyError):
            text = error.args[0].args[0].replace("\n", ". ")
            _fail(f"unknown config key {text}")
        _fail(str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: "))
    if flags.FLAGS["verbosity"].using_default_value:
        # Warnings only: orbax has something to say about each file that it writes.
        flags.FLAGS.verbosity = -1
    return rest


def _fail(text) -> None:
    sys.exit(f"error: {text}\n(--debug shows where in the code)")


def _name(argv):
    if len(argv) > 2:
        raise InputError(f"one action at most, got {', '.join(argv[1:])}")
    name = argv[1] if len(argv) == 2 else "all"
    if name not in actions.ACTIONS:
        raise InputError(
            f"action {name!r} is unknown; expected {', '.join(actions.ACTIONS)}, or "
            "none for all of the main job"
        )
    return name


def _config_name() -> str | None:
    """A name for runs of the config: "vse_t3", or "vse_t3-bits=64" with arguments."""
    if _CONFIG.value is None:
        return None
    name = config_flags.get_config_filename(flags.FLAGS["config"])
    path, _, arg = name.partition(":")
    return Path(path).stem + (f"-{arg.replace(',', '-')}" if arg else "")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
