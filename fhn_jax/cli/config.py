"""--config and --config.KEY=VALUE: the settings that the command line gives."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fhn_jax.errors import InputError, nearest


@dataclasses.dataclass(frozen=True)
class GivenConfig:
    """A config of the command line.

    Attributes:
      settings: a locked `ConfigDict`, with the overrides in it.
      overrides: dotted key → value, of the settings that were given one by one.
      name: for runs of the config: "vse_t3", or "vse_t3-bits=64" with an argument. Of
        a config that follows from the data it is theirs: "shop" of data/shop.
      choose: from facts about the data, and the keys that are `given`, to the settings
        for them, and lines that say why; None where they do not follow from the data.
    """

    settings: Any
    overrides: Mapping[str, Any]
    name: str
    choose: Callable[..., tuple[Any, list[str]]] | None = None


def split_config(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments about the config, and the others."""
    about, others = [], []
    rest = iter(argv)
    for argument in rest:
        name, given, _ = argument.partition("=")
        if name != "--config" and not name.startswith(("--config.", "--noconfig.")):
            others.append(argument)
            continue
        about.append(argument)
        if not given and (value := next(rest, None)) is not None:
            # A switch such as --config.model.single has no value.
            (others if value.startswith("--") else about).append(value)
    return about, others


def read_config_arguments(arguments: Sequence[str]) -> GivenConfig | None:
    """Loads the config that the arguments name; None without arguments.

    Raises:
      MissingFileError: there is no such config.
      InputError: a key that the config does not have, or a value of another type.
    """
    if not arguments:
        return None
    # Only here: a workdir can be used without these packages.
    from absl import flags
    from ml_collections import config_flags

    from fhn_jax.training import configs

    config, overrides = _named(arguments)
    settings = configs.load(config)
    keys = [_key(each) for each in overrides if each.startswith("--")]
    for key in keys:
        _check_key(settings, key)
    argv, values = ["fhn-jax", *overrides], flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict(
            "config", settings, flag_values=values, sys_argv=argv
        )
        rest = values(argv)[1:]
    except flags.Error as error:
        raise InputError(str(error)) from None
    if rest:
        raise InputError(
            f"unexpected argument {rest[0]!r}; a setting is given as --config.KEY=VALUE"
        )
    path, argument = configs.find(config)
    choose = getattr(configs.load_module(path), "choose", None)
    data: Any = settings.data
    name = (Path(data.root).name if choose else "") or path.stem
    return GivenConfig(
        settings,
        config_flags.get_override_values(values["config"]),
        "-".join([name, *filter(None, argument.split(","))]),
        choose and functools.partial(choose, arg=argument or None),
    )


def _named(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The config that --config names, and the other arguments."""
    config, overrides = None, []
    rest = iter(arguments)
    for argument in rest:
        name, given, value = argument.partition("=")
        if name == "--config":
            if config is not None:
                raise InputError("--config is given twice; expected once")
            config = value if given else next(rest, "")
        else:
            overrides.append(argument)
    if not config:
        raise InputError(
            f"{overrides[0] if overrides else '--config'}: give --config NAME as well, "
            "such as --config vse_t3"
        )
    return config, overrides


def _key(argument: str) -> str:
    return argument.partition("=")[0].partition(".")[2]


def _check_key(settings: Any, key: str) -> None:
    known = set(_keys(settings.to_dict()))
    if key not in known:
        raise InputError(f"config key {key!r} is unknown{nearest(key, known)}")


def _keys(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of all sections and values."""
    for name, value in settings.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{name}.")
