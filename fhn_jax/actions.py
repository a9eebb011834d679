"""What the command line does. Each action imports only what it needs, when it runs."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from fhn_jax import evaluate
from fhn_jax.codes import Codes, Latents
from fhn_jax.data.images import open_images
from fhn_jax.data.schema import Catalogue, read_catalogue
from fhn_jax.workdir import check_trained, check_workdir, read_config

# What a user can cause and mend; anything else is a fault of ours and is not caught.
ERRORS = (
    ValueError,
    KeyError,
    OSError,
    FloatingPointError,
    ModuleNotFoundError,
)
DEFAULT_ROOT = Path("data/polyvore")
DEFAULT_VARIANT = "630"
DEMO_ROOT = Path("data/demo")


def prepare(
    config: ConfigDict | None,
    overrides: Mapping[str, Any],
    name: str | None,
    workdir: str | os.PathLike | None,
) -> tuple[ConfigDict, Path]:
    """Completes the settings: where the data is, and the folder of the run.

    Without a config, that of the workdir is taken.

    Args:
      config: as given by --config.
      overrides: single values given on the command line.
      name: of the config.
      workdir: as given by --workdir.
    Raises:
      ValueError: neither config nor workdir.
      FileNotFoundError: a workdir without config.json, or data that was named by the
        user and is not there.
    """
    if config is None:
        if workdir is None:
            raise ValueError(
                "give --config configs/vse_t3.py, or the --workdir of a run"
            )
        return ConfigDict(read_config(Path(workdir))), Path(workdir)
    config = _with_data(config, overrides)
    return config, Path(workdir or Path("runs") / name)


def _with_data(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """Names the data: what the user named, else data/polyvore, else the demo."""
    if config.data.root or config.data.variant or DEFAULT_ROOT.is_dir():
        config.data.root = config.data.root or str(DEFAULT_ROOT)
        config.data.variant = config.data.variant or DEFAULT_VARIANT
        if "demo" in config:
            with config.unlocked():
                del config.demo
        return config
    from data_tools.make_demo import make_demo

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
    config.update_from_flattened_dict(dict(overrides))
    marker = json.loads((DEMO_ROOT / "DEMO").read_text(encoding="utf-8"))
    config.data.root, config.data.variant = str(DEMO_ROOT), str(marker["users"])
    return config


def _catalogue(config: ConfigDict) -> Catalogue:
    return read_catalogue(Path(config.data.root), config.data.variant)


def _inputs(config: ConfigDict, workdir: Path):
    """Catalogue and item inputs, after all that can be checked without them."""
    from fhn_jax import build, compile_cache

    compile_cache.enable()
    build.check_config(config)
    check_workdir(build.config_values(config), workdir)
    catalogue = _catalogue(config)
    build.make_batches(config, catalogue)
    return catalogue, build.load_inputs(config, catalogue, progress)


def progress(title: str):
    """A progress bar: from a title to a function of the number done, and of all.

    Where there is no terminal, a plain line at each tenth.
    """
    bar, tenth = None, -1

    def update(done: int, total: int) -> None:
        nonlocal bar, tenth
        if bar is None:
            bar = tqdm(
                desc=title,
                total=total,
                unit="image",
                disable=not sys.stderr.isatty(),
            )
        bar.update(done - bar.n)
        if bar.disable and done * 10 // max(total, 1) > tenth:
            tenth = done * 10 // max(total, 1)
            print(f"{title}: {done:,} of {total:,}", file=sys.stderr)
        if done == total:
            bar.close()

    return update


def train(config: ConfigDict, workdir: Path, split: str) -> None:
    """Trains."""
    _train(config, workdir)


def _train(config, workdir):
    from fhn_jax.train import train as train_network
    from fhn_jax.writers import check_wandb

    check_wandb(config.wandb.mode)
    catalogue, inputs = _inputs(config, workdir)
    return catalogue, inputs, train_network(config, workdir, catalogue, inputs)


def extract_features(config: ConfigDict, workdir: Path, split: str) -> None:
    """Encodes every item once: codes.safetensors and latents.safetensors."""
    from fhn_jax.train import restore_best

    check_trained(workdir)
    catalogue, inputs = _inputs(config, workdir)
    trained = restore_best(config, workdir, catalogue, inputs)
    _export(config, workdir, catalogue, inputs, trained)


def _export(config, workdir, catalogue, inputs, trained) -> None:
    from fhn_jax import build
    from fhn_jax.export import make_codes

    encoder = build.make_encoder(config, trained.model, inputs)
    latents = encoder(
        trained.model,
        build.all_items(catalogue),
        catalogue.offsets,
        progress("encoding items"),
    )
    codes, relaxed = make_codes(
        trained.model,
        latents,
        catalogue,
        beta=trained.beta,
        config_hash=build.config_hash(config),
    )
    codes.save(workdir / "codes.safetensors")
    relaxed.save(workdir / "latents.safetensors", codes)


def run_evaluation(action: str):
    """The action that computes some fields of results.json from the codes."""

    def run(config: ConfigDict, workdir: Path, split: str) -> None:
        evaluate.run(action, workdir, _catalogue(config), split)

    return run


def report(config: ConfigDict, workdir: Path, split: str) -> None:
    """Writes report/index.html of an evaluated run."""
    from fhn_jax.report import write_report

    catalogue = _catalogue(config)
    codes = Codes.load(workdir / "codes.safetensors")
    latents = Latents.load(workdir / "latents.safetensors", codes)
    images = None
    if (Path(config.data.root) / "images").is_dir():
        images = open_images(Path(config.data.root))
    path = write_report(workdir, catalogue, codes, latents, images)
    print(f"report: {path}")


def run_all(config: ConfigDict, workdir: Path, split: str) -> None:
    """The main job: train, export, evaluate, report."""
    catalogue, inputs, trained = _train(config, workdir)
    _export(config, workdir, catalogue, inputs, trained)
    evaluate.run("all", workdir, catalogue, split)
    report(config, workdir, split)


ACTIONS = {
    "all": run_all,
    "train": train,
    "extract-features": extract_features,
    "evaluate-accuracy": run_evaluation("evaluate-accuracy"),
    "evaluate-rank": run_evaluation("evaluate-rank"),
    "fitb": run_evaluation("fitb"),
    "report": report,
}
