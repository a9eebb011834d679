"""Which run a command is about: its settings, its data and its workdir."""

import dataclasses
import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fhn_jax import files
from fhn_jax.cli.config import GivenConfig
from fhn_jax.codes import Codes
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.facts import data_facts
from fhn_jax.data.item_names import ItemNames, read_names
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError
from fhn_jax.training.workdir import data_of, read_config

DEFAULT_ROOT = Path("data/polyvore")
DEFAULT_VARIANT = "630"
DEMO_ROOT = Path("data/demo")


class Run:
    """A run.

    Attributes:
      workdir: its folder.
    """

    def __init__(self, workdir: Path, settings: Any):
        """Makes one.

        Args:
          workdir: need not exist yet.
          settings: a `ConfigDict`, or what config.json holds.
        """
        self.workdir = workdir
        self._settings = settings

    @functools.cached_property
    def config(self) -> Any:
        """All settings; they need the packages of training."""
        from ml_collections import ConfigDict

        given = self._settings
        return given if isinstance(given, ConfigDict) else ConfigDict(given)

    @property
    def root(self) -> Path:
        """The folder of the data."""
        return self._data[0]

    @property
    def variant(self) -> str:
        """The data are those of tuples_VARIANT."""
        return self._data[1]

    @property
    def _data(self) -> tuple[Path, str]:
        return data_of(self._settings, self.workdir)

    def vector_names(self) -> list[str]:
        """The vectors of items that the run was given: of text, of images."""
        data = self._settings["data"]
        return [str(data[key]) for key in ("text", "features") if data.get(key)]

    def served(self) -> "Run":
        """What is served of it: the current version if one is published, else itself.

        Says which version that is.
        """
        from fhn_jax.recommender.publishing import served

        workdir, root = served(self.workdir, self.root)
        if workdir == self.workdir:
            return self
        print(f"version {workdir.name} answers, the published one of {self.workdir}")
        data = {**self._settings["data"], "root": str(root)}
        return Run(workdir, {**self._settings, "data": data})

    def catalogue(self) -> Catalogue:
        """Reads the tuples of the data."""
        return read_catalogue(self.root, self.variant)

    def codes(self) -> Codes:
        """Reads the codes of the trained run."""
        return Codes.load(self.workdir / "codes.safetensors")

    def names(self, codes: Codes) -> ItemNames:
        """What the items and users of the codes are called."""
        return read_names(self.root, self.variant, codes)

    def images(self) -> Any:
        """The `ImageStore` of the data for people, None if there are no images."""
        from fhn_jax.data.images import shown_images

        return shown_images(self.root)


@dataclasses.dataclass(frozen=True)
class RunChoice:
    """The run that the command line names.

    Attributes:
      given: the config, if there is one.
      workdir: the value of --workdir, if there is one.
    """

    given: GivenConfig | None = None
    workdir: Path | None = None

    def open(self) -> Run:
        """The run; without a config, the settings are those of the workdir.

        Raises:
          InputError: neither config nor workdir.
          MissingFileError: a workdir without config.json, or data or weights that the
            user named and that are not there.
        """
        if self.given is None:
            if self.workdir is None:
                raise InputError(
                    "give --config, such as --config vse_t3, or the --workdir of a run"
                )
            return Run(self.workdir, read_config(self.workdir))
        workdir = self.workdir or Path("runs") / self.given.name
        return Run(workdir, with_data(self.given))


def with_data(given: GivenConfig) -> Any:
    """Names the data: what the user named, else data/polyvore, else the demo."""
    config = given.settings
    data = config.data
    if data.root or data.variant or data.features or DEFAULT_ROOT.is_dir():
        config.data.root = config.data.root or str(DEFAULT_ROOT)
        config.data.variant = config.data.variant or DEFAULT_VARIANT
        if given.choose is not None:
            config = _chosen(given)
        if "demo" in config:
            with config.unlocked():
                del config.demo
        return config
    # In a checkout it lies beside the package, where pyright does not look.
    from fhn_jax.data_tools.make_demo import (  # pyright: ignore[reportMissingImports]
        make_demo,
    )

    print(
        "=" * 72,
        f"  THIS IS DEMO DATA. There is no {DEFAULT_ROOT}, and no data was named by",
        "  --config.data.root, so drawn garments and simulated users stand in, with",
        f"  settings for a CPU. The data is in {DEMO_ROOT}.",
        "=" * 72,
        sep="\n",
        file=sys.stderr,
    )
    make_demo(DEMO_ROOT)
    with config.unlocked():
        if "demo" in config:
            for section, values in config.demo.items():
                config[section] = values
            del config.demo
    _check_overrides(config, given.overrides)
    config.update_from_flattened_dict(dict(given.overrides))
    marker = files.read_sealed(DEMO_ROOT / "DEMO", "remove the folder of the demo")
    config.data.root, config.data.variant = str(DEMO_ROOT), str(marker["users"])
    return config


def _chosen(given: GivenConfig) -> Any:
    """The settings that follow from the data, but for what the user named."""
    root, variant = Path(given.settings.data.root), given.settings.data.variant
    assert given.choose is not None
    config, said = given.choose(data_facts(root, variant), given=given.overrides)
    config.data.root, config.data.variant = str(root), variant
    try:
        config.update_from_flattened_dict(dict(given.overrides))
    except (KeyError, AttributeError) as error:
        raise InputError(
            f"a setting that was given is not one of those for these data: {error}"
        ) from None
    print(f"settings for {root}:", *said, sep="\n  ", file=sys.stderr)
    return config.lock()


def _check_overrides(demo: Any, overrides: Mapping[str, Any]) -> None:
    """Raises InputError where single values and the demo's settings do not go together.

    An image network and an optimiser come with settings of their own, which a single
    value does not bring.
    """
    for key, argument in (
        ("model.backbone.name", "backbone"),
        ("optimizer.name", "optimizer"),
    ):
        section, _, name = key.rpartition(".")
        wanted = overrides.get(key)
        theirs = demo.to_dict()
        for part in section.split("."):
            theirs = theirs[part]
        if wanted is not None and wanted != theirs[name]:
            raise InputError(
                f"{key}={wanted!r}: the demo's settings are for {theirs[name]!r}; give "
                f"the config's argument {argument}={wanted}, such as --config vse_t3:"
                f"{argument}={wanted}, or name data with --config.data.root"
            )
