"""Command line: python -m fhn_jax.main [ACTION] --config … --workdir …"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from fhn_jax import actions

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Settings, with arguments: configs/vse_t3.py:bits=64"
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; runs/<config> if not given"
)
_SPLIT = flags.DEFINE_enum(
    "split", "test", ["train", "val", "test"], "What to evaluate on"
)
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error")


def main(argv: list[str]) -> None:
    """Runs one action, or all of them: train, export, evaluate, report."""
    if len(argv) > 2:
        raise app.UsageError(f"one action at most, got {argv[1:]}")
    action = argv[1] if len(argv) == 2 else "all"
    if action not in actions.ACTIONS:
        raise app.UsageError(
            f"action {action!r} is unknown; expected {', '.join(actions.ACTIONS)}, or "
            "none for all of the main job"
        )
    overrides = {}
    if _CONFIG.value is not None:
        overrides = config_flags.get_override_values(flags.FLAGS["config"])
    try:
        config, workdir = actions.prepare(
            _CONFIG.value, overrides, _config_name(), _WORKDIR.value
        )
        actions.ACTIONS[action](config, workdir, _SPLIT.value)
    except actions.ERRORS as error:
        if _DEBUG.value:
            raise
        text = error.args[0] if isinstance(error, KeyError) else error
        sys.exit(f"error: {text}\n(--debug shows where in the code)")


def _config_name() -> str | None:
    """A name for runs of the config: "vse_t3", or "vse_t3-bits=64" with arguments."""
    if _CONFIG.value is None:
        return None
    name = config_flags.get_config_filename(flags.FLAGS["config"])
    path, _, arg = name.partition(":")
    return Path(path).stem + (f"-{arg.replace(',', '-')}" if arg else "")


if __name__ == "__main__":
    app.run(main)
