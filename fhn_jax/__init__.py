"""Personalised outfit recommendation from compact binary codes.

Each name is loaded when it is used, so importing the package costs nothing, and what a
name needs (numpy, numba, jax) has to be installed only where it is used.

| name | what it is |
|---|---|
| `load` | the codes of a run |
| `Codes`, `Latents` | what a trained model says about its items and users |
| `Scorer` | scores of given outfits |
| `OutfitIndex` | exact search of stored outfits |
| `Composer` | the best of all possible outfits |
| `Where`, `HasCategory`, `MustContain`, `Only`, `Without`, `Wardrobe`, `ExcludeOutfits` | what outfits must be, to be found or composed |
| `Attributes` | prices, brands and the like of items, for `Where` |
| `fit_users` | codes of new users, from likes and dislikes |
| `Recommender` | all of this for a visitor who judges outfits |
| `import_catalogue` | a data set from a shop's own tables and photos |
| `train`, `evaluate` | the main job, and what its codes are worth |
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fhn_jax.codes import Codes, Latents, Scorer, load

    # In a checkout it lies beside the package, where pyright does not look.
    from fhn_jax.data_tools.import_catalogue import (  # pyright: ignore[reportMissingImports]
        import_catalogue,
    )
    from fhn_jax.new_users import fit_users
    from fhn_jax.recommender import Recommender
    from fhn_jax.retrieval.attributes import Attributes
    from fhn_jax.retrieval.composer import Composer
    from fhn_jax.retrieval.filters import (
        ExcludeOutfits,
        HasCategory,
        MustContain,
        Only,
        Wardrobe,
        Without,
    )
    from fhn_jax.retrieval.outfit_index import OutfitIndex
    from fhn_jax.retrieval.where import Where

__version__ = "0.2.0"

_MODULES = {
    "Attributes": "fhn_jax.retrieval.attributes",
    "Codes": "fhn_jax.codes",
    "Composer": "fhn_jax.retrieval.composer",
    "ExcludeOutfits": "fhn_jax.retrieval.filters",
    "HasCategory": "fhn_jax.retrieval.filters",
    "Latents": "fhn_jax.codes",
    "MustContain": "fhn_jax.retrieval.filters",
    "Only": "fhn_jax.retrieval.filters",
    "OutfitIndex": "fhn_jax.retrieval.outfit_index",
    "Recommender": "fhn_jax.recommender",
    "Scorer": "fhn_jax.codes",
    "Wardrobe": "fhn_jax.retrieval.filters",
    "Where": "fhn_jax.retrieval.where",
    "Without": "fhn_jax.retrieval.filters",
    "fit_users": "fhn_jax.new_users",
    "import_catalogue": "fhn_jax.data_tools.import_catalogue",
    "load": "fhn_jax.codes",
}
__all__ = [
    "Attributes",
    "Codes",
    "Composer",
    "ExcludeOutfits",
    "HasCategory",
    "Latents",
    "MustContain",
    "Only",
    "OutfitIndex",
    "Recommender",
    "Scorer",
    "Wardrobe",
    "Where",
    "Without",
    "__version__",
    "evaluate",
    "fit_users",
    "import_catalogue",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def train(config: Any, workdir: str | os.PathLike) -> Any:
    """Trains, or goes on where a stopped run left off, and writes the codes of all items.

    Args:
      config: all settings, such as `fhn_jax.configs.vse_t3.get_config()`, with
        `data.root` and `data.variant` set.
      workdir: gets checkpoints, codes.safetensors and latents.safetensors.
    Returns:
      the codes.
    Raises:
      ValueError, FileNotFoundError: settings or data that cannot be used, or a workdir
        of another config.

    >>> from fhn_jax.configs import vse_t3
    >>> config = vse_t3.get_config()
    >>> config.data.root, config.data.variant = "no_such_folder", "630"
    >>> train(config, "runs/mine")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    fhn_jax.errors.MissingFileError: there is no data at no_such_folder ...
    """
    from pathlib import Path

    from fhn_jax.training.experiment import Experiment

    experiment = Experiment(config, Path(workdir))
    return experiment.export(experiment.train())


def evaluate(codes: Any, catalogue: Any = None, split: str = "test") -> dict[str, Any]:
    """Accuracy, ranking and fill-in-the-blank of codes, without images or accelerator.

    Args:
      codes: `Codes`, or the workdir of a run (whose relaxed scores are computed too).
      catalogue: the data, see `fhn_jax.data.layout.read_catalogue`; by default that of
        the run.
      split: "val" or "test".
    Returns:
      as results.json, see `fhn_jax.evaluation.evaluators.evaluate`.
    Raises:
      FileNotFoundError: no codes in the workdir, or no data.
      ValueError: codes without a catalogue; or as `evaluators.evaluate`.

    >>> evaluate("no_such_run")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    fhn_jax.errors.MissingFileError: no_such_run/config.json: ...
    """
    from pathlib import Path

    from fhn_jax.data.layout import read_catalogue
    from fhn_jax.errors import InputError
    from fhn_jax.evaluation import evaluators
    from fhn_jax.training.workdir import data_of, read_config

    latents = None
    if isinstance(codes, str | os.PathLike):
        workdir = Path(codes)
        if catalogue is None:
            catalogue = read_catalogue(*data_of(read_config(workdir), workdir))
        codes, latents = evaluators.load_codes(workdir)
    elif catalogue is None:
        raise InputError(
            "evaluate got codes and no catalogue; give read_catalogue(root, variant), "
            "or the workdir of a run instead of its codes"
        )
    return evaluators.evaluate(codes, catalogue, split, latents)
