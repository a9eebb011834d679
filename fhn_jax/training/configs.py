"""Finds and loads configs: programs that return the settings of a run."""

import importlib.util
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from fhn_jax import configs
from fhn_jax.errors import InputError, MissingFileError, nearest

# Those of the package, which have names: "vse_t3".
_FOLDER = Path(configs.__file__).parent


def names() -> list[str]:
    """The names of the configs that come with the package."""
    found = sorted(path.stem for path in _FOLDER.glob("*.py"))
    return [name for name in found if name not in ("__init__", "common")]


def find(config: str) -> tuple[Path, str]:
    """The file of a config, and its argument.

    Args:
      config: a file, or the name of one of the package's, and perhaps an argument
        after a colon: "configs/vse_t3.py:bits=64", "vse_t3". A file wins.
    Raises:
      MissingFileError: neither.
    """
    name, _, argument = config.partition(":")
    if Path(name).is_file():
        return Path(name), argument
    if name in names():
        return _FOLDER / f"{name}.py", argument
    raise MissingFileError(
        f"--config: there is no file {name}; expected one, or one of "
        f"{', '.join(names())}{nearest(Path(name).stem, names())}"
    )


def load_module(path: Path) -> ModuleType:
    """Runs the file of a config."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"--config: {path} is no Python file; expected a name.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(config: str) -> ConfigDict:
    """The settings of a config, locked; see `find`.

    Raises:
      MissingFileError: there is no such config.
      InputError: its argument is wrong, or it is no config.
    """
    path, argument = find(config)
    module = load_module(path)
    if not hasattr(module, "get_config"):
        raise InputError(f"--config: {path} has no function get_config(arg)")
    return module.get_config(argument or None).lock()
