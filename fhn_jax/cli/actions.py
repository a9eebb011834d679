"""What the command line does. Each action imports only what it needs, when it runs."""

import contextlib
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from fhn_jax import files
from fhn_jax.codes import Codes, Latents
from fhn_jax.data.catalogue import Catalogue, stored_outfits
from fhn_jax.data.images import open_images
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import InputError, MissingPackageError, UserError
from fhn_jax.evaluation import evaluators
from fhn_jax.training.workdir import check_trained, check_workdir, read_config

# What a user can cause and mend; anything else is a fault of ours and is not caught.
ERRORS = (UserError, OSError)
DEFAULT_ROOT = Path("data/polyvore")
DEFAULT_VARIANT = "630"
DEMO_ROOT = Path("data/demo")


def prepare(
    config: ConfigDict | None,
    overrides: Mapping[str, Any],
    name: str | None,
    workdir: str | os.PathLike | None,
    action: str = "all",
) -> tuple[ConfigDict, Path]:
    """Completes the settings: where the data is, and the folder of the run.

    Without a config, that of the workdir is taken. To serve, neither is needed: the
    demo is served, and trained first if it is not yet.

    Args:
      config: as given by --config.
      overrides: single values given on the command line.
      name: of the config.
      workdir: as given by --workdir.
      action: that is to be done.
    Raises:
      ValueError: neither config nor workdir.
      FileNotFoundError: a workdir without config.json, or data or weights that were
        named by the user and are not there.
    """
    if config is None:
        if workdir is None and action == "serve":
            return _demo()
        if workdir is None:
            raise InputError(
                "give --config configs/vse_t3.py, or the --workdir of a run"
            )
        return ConfigDict(read_config(Path(workdir))), Path(workdir)
    config = _with_data(config, overrides)
    if config.model.backbone.weights:
        from fhn_jax.training import build

        build.note_weights(config)
    return config, Path(workdir or Path("runs") / name)


def _demo() -> tuple[ConfigDict, Path]:
    """The run of the README's command, trained if it is not yet and needs no data."""
    from fhn_jax.configs import vse_t3

    workdir = Path("runs") / "vse_t3"
    if (workdir / "codes.safetensors").is_file():
        return ConfigDict(read_config(workdir)), workdir
    if DEFAULT_ROOT.is_dir():
        raise InputError(
            f"there is no run in {workdir} yet; train one, `python -m fhn_jax.main "
            "--config configs/vse_t3.py`, or give the --workdir of another"
        )
    config = _with_data(vse_t3.get_config(), {})
    run_all(config, workdir, "test")
    return config, workdir


def _with_data(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """Names the data: what the user named, else data/polyvore, else the demo."""
    data = config.data
    if data.root or data.variant or data.features or DEFAULT_ROOT.is_dir():
        config.data.root = config.data.root or str(DEFAULT_ROOT)
        config.data.variant = config.data.variant or DEFAULT_VARIANT
        if "demo" in config:
            with config.unlocked():
                del config.demo
        return config
    from fhn_jax.data_tools.make_demo import make_demo

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
    from fhn_jax.training import build, compile_cache

    compile_cache.enable()
    build.check_config(config)
    check_workdir(build.config_values(config), workdir)
    catalogue = _catalogue(config)
    build.make_batches(config, catalogue)
    return catalogue, build.load_inputs(config, catalogue, _progress_of_first())


def _progress_of_first():
    """`progress` in the first of several processes, silence in the others."""
    from fhn_jax.training import sharding

    return progress if sharding.is_first() else lambda title: lambda done, total: None


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
                unit="item",
                disable=not sys.stderr.isatty(),
            )
        bar.update(done - bar.n)
        if bar.disable and done * 10 // max(total, 1) > tenth:
            tenth = done * 10 // max(total, 1)
            print(f"{title}: {done:,} of {total:,}", file=sys.stderr)
        if done == total:
            bar.close()

    return update


@contextlib.contextmanager
def together(name: str, flags: Mapping[str, Any]) -> Iterator[None]:
    """Makes this process one of several of a run, where the flags say so.

    Args:
      name: of the action.
      flags: the values of all `FLAGS`.
    Raises:
      ValueError: an action that runs in one process; and see `sharding.together`.
    """
    where = {flag: flags[flag] for flag in ("coordinator", "processes", "process_id")}
    given = any(value != FLAGS[flag][0] for flag, value in where.items())
    if not (flags["distributed"] or given):
        yield
        return
    if name not in DISTRIBUTED:
        raise InputError(
            f"{name} runs in one process: leave out --distributed and --coordinator, "
            f"which are for {', '.join(DISTRIBUTED)}"
        )
    from fhn_jax.training import sharding
    from fhn_jax.training.stopping import Interrupted

    with sharding.together(**where, agreed=Interrupted):
        yield


def train(config: ConfigDict, workdir: Path, split: str) -> None:
    """Trains."""
    _train(config, workdir)


def _train(config, workdir, start=None):
    from fhn_jax.training import sharding
    from fhn_jax.training.loop import train as train_network
    from fhn_jax.training.writers import check_wandb

    if sharding.is_first():
        check_wandb(config.wandb.mode)
    catalogue, inputs = _inputs(config, workdir)
    model = None if start is None else start(config, catalogue, inputs).model
    return catalogue, inputs, train_network(config, workdir, catalogue, inputs, model)


def extract_features(config: ConfigDict, workdir: Path, split: str) -> None:
    """Encodes every item once: codes.safetensors and latents.safetensors."""
    from fhn_jax.training.loop import restore_best

    check_trained(workdir)
    catalogue, inputs = _inputs(config, workdir)
    trained = restore_best(config, workdir, catalogue, inputs)
    _export(config, workdir, catalogue, inputs, trained)


def export_encoder(config: ConfigDict, workdir: Path, split: str) -> None:
    """Writes the encoder of photos, with which the page takes visitors' own."""
    from fhn_jax.training.export import export_encoder as export
    from fhn_jax.training.loop import restore_best
    from fhn_jax.web import photos

    check_trained(workdir)
    codes = Codes.load(workdir / "codes.safetensors")
    catalogue, inputs = _inputs(config, workdir)
    trained = restore_best(config, workdir, catalogue, inputs)
    size = config.data.image_size
    program = export(
        trained.model, size, mean=tuple(config.data.mean), std=tuple(config.data.std)
    )
    path = workdir / photos.FILE
    photos.save_encoder(path, program, codes, size)
    print(f"encoder: {path}, {len(program):,} bytes")


def _export(config, workdir, catalogue, inputs, trained) -> None:
    from fhn_jax.training import sharding

    codes, relaxed = _encode(config, catalogue, inputs, trained)
    if not sharding.is_first():
        return
    codes.save(workdir / "codes.safetensors")
    relaxed.save(workdir / "latents.safetensors", codes)


def _encode(config, catalogue, inputs, trained) -> tuple[Codes, Latents]:
    from fhn_jax.training import build
    from fhn_jax.training.export import make_codes

    encoder = build.make_encoder(config, trained.model, inputs)
    latents = encoder(
        trained.model,
        build.all_items(catalogue),
        catalogue.offsets,
        _progress_of_first()("encoding items"),
    )
    return make_codes(
        trained.model,
        latents,
        catalogue,
        beta=trained.beta,
        config_hash=build.config_hash(config),
    )


def run_evaluation(action: str):
    """The action that computes some fields of results.json from the codes."""

    def run(config: ConfigDict, workdir: Path, split: str) -> None:
        evaluators.run(action, workdir, _catalogue(config), split)

    return run


def report(config: ConfigDict, workdir: Path, split: str) -> None:
    """Writes report/index.html of an evaluated run."""
    from fhn_jax.reporting.report import write_report

    catalogue = _catalogue(config)
    codes = Codes.load(workdir / "codes.safetensors")
    latents = Latents.load(workdir / "latents.safetensors", codes)
    path = write_report(workdir, catalogue, codes, latents, _images(config))
    print(f"report: {path}")


def run_all(config: ConfigDict, workdir: Path, split: str) -> None:
    """The main job: train, export, evaluate, report."""
    catalogue, inputs, trained = _train(config, workdir)
    _export(config, workdir, catalogue, inputs, trained)
    from fhn_jax.training import sharding

    if sharding.is_first():
        evaluators.run("all", workdir, catalogue, split)
        report(config, workdir, split)


def search(
    config: ConfigDict,
    workdir: Path,
    split: str,
    *,
    user: int,
    k: int,
    outfits: str,
    index: str,
    fixed: str,
    ray_address: str,
) -> None:
    """The best stored outfits for a user: a table, search.json and search.png.

    Args:
      user: id.
      k: how many.
      outfits: a CSV file of outfits; the positives of the data set if empty.
      index: folder of an `OutfitIndex` to search instead.
      fixed: items that an outfit must contain, see `outfits.parse_items`.
      ray_address: of the head of a Ray cluster that shares the index; if empty, this
        process searches.
    """
    from fhn_jax.cli import answers

    _check_one_source(index, outfits)
    if ray_address and not index:
        raise InputError(
            f"--ray-address={ray_address} needs --index, the folder of an OutfitIndex "
            "that all nodes of the cluster can read"
        )
    codes = Codes.load(workdir / "codes.safetensors")
    items = answers.parse_items(fixed, codes, "--fixed")
    with contextlib.ExitStack() as stack:
        if ray_address:
            from fhn_jax.integrations import ray as cluster

            stack.enter_context(cluster.connect(ray_address))
            searcher = cluster.ClusterIndex.open(index, codes)
        elif index:
            from fhn_jax.retrieval.outfit_index import OutfitIndex

            searcher = OutfitIndex.open(index, codes)
        else:
            from fhn_jax.retrieval.searcher import Searcher

            searcher = Searcher.in_memory(codes, _outfits(config, codes, outfits))
        hits = searcher.search(user, k, must_contain=items)
    about = {"user": user, "k": k, "fixed": fixed, "score": "asymmetric"}
    answers.write_outfits(workdir, "search", about, codes, hits, _images(config))


def _check_one_source(index: str, outfits: str) -> None:
    if index and outfits:
        raise InputError(
            f"--index={index} and --outfits={outfits}: give one of them, an index has "
            "its own outfits"
        )


def _outfits(config: ConfigDict, codes: Codes, path: str):
    """The outfits of a CSV file; the positives of the data set if there is none."""
    from fhn_jax.cli import answers

    if path:
        return answers.read_outfits(Path(path), codes)
    catalogue = _catalogue(config)
    evaluators.check_same_data(codes, catalogue)
    return stored_outfits(catalogue)


def recommend_all(
    config: ConfigDict,
    workdir: Path,
    split: str,
    *,
    k: int,
    outfits: str,
    index: str,
    out: str,
    ray_address: str,
) -> None:
    """The best stored outfits for every user, as Parquet files, by tasks of Ray.

    Args:
      k: how many for each user.
      outfits: as for `search`.
      index: folder of an `OutfitIndex` to search instead.
      out: a new folder; "recommendations" in the workdir if empty.
      ray_address: of the head of a Ray cluster; this machine alone if empty.
    """
    from fhn_jax.integrations import ray as cluster
    from fhn_jax.retrieval.outfit_index import OutfitIndex

    _check_one_source(index, outfits)
    path = Path(out) if out else workdir / "recommendations"
    files.refuse_existing(path)
    codes = Codes.load(workdir / "codes.safetensors")
    with cluster.connect(ray_address), contextlib.ExitStack() as stack:
        if not index:
            # Beside the result, where all nodes can read it.
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = tempfile.TemporaryDirectory(prefix=".outfits.", dir=path.parent)
            index = Path(stack.enter_context(folder)) / "index"
            OutfitIndex.build(index, codes, _outfits(config, codes, outfits))
        bar = progress("recommending")
        count = cluster.recommend_all(index, codes, path, k, progress=bar)
    files_of = "file" if count == 1 else "files"
    print(f"recommendations: {path}, {codes.num_users:,} users in {count:,} {files_of}")


def compose(
    config: ConfigDict, workdir: Path, split: str, *, user: int, k: int, fixed: str
) -> None:
    """The best outfits of any items for a user: a table, compose.json and compose.png.

    Args:
      user: id.
      k: how many.
      fixed: items that each outfit has, see `outfits.parse_items`.
    """
    from fhn_jax.cli import answers
    from fhn_jax.retrieval.composer import Composer
    from fhn_jax.retrieval.items import ItemTables

    codes = Codes.load(workdir / "codes.safetensors")
    items = answers.parse_items(fixed, codes, "--fixed")
    hits = Composer(ItemTables.from_codes(codes)).compose(user, k, fixed=items)
    about = {"user": user, "k": k, "fixed": fixed, "score": "asymmetric"}
    answers.write_outfits(workdir, "compose", about, codes, hits, _images(config))


def serve(
    config: ConfigDict,
    workdir: Path,
    split: str,
    *,
    index: str,
    host: str,
    port: int,
    workers: int,
    database_url: str,
    allowed_hosts: str,
    rate: int,
    known_users: bool,
) -> None:
    """Serves the page and the API until it is stopped.

    Args:
      index: folder of an `OutfitIndex`; one of the data's outfits if empty.
      host, port, workers: see `web.app.serve`.
      database_url, rate, known_users: see `web.app.Settings`.
      allowed_hosts: names that the server answers to, beside this machine's.
    """
    try:
        from fhn_jax.web import app
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f'the page needs the package {error.name}: pip install "fhn_jax[web]"'
        ) from None

    settings = app.Settings(
        workdir=str(workdir),
        root=str(config.data.root),
        variant=str(config.data.variant),
        index=index,
        database_url=database_url,
        allowed_hosts=app.split_hosts(allowed_hosts, host),
        rate=float(rate),
        known_users=known_users,
    )
    app.serve(settings, host=host, port=port, workers=workers)


def _images(config: ConfigDict):
    root = Path(config.data.root)
    return open_images(root) if (root / "images").is_dir() else None


def cold_start(
    config: ConfigDict,
    workdir: Path,
    split: str,
    *,
    fit: bool = False,
    likes: str = "",
    dislikes: str = "",
    k: int = 10,
) -> None:
    """Learns new users on a trained run, as config.cold_start.method says.

    Args:
      fit: instead of a data set of new users, learn one user of the workdir's codes.
      likes, dislikes: clicks of this user, see `retrieval.new_users.parse_clicks`.
      k: how many outfits to recommend.
    """
    from fhn_jax.cli import new_users

    if fit:
        codes = Codes.load(workdir / "codes.safetensors")
        catalogue, images = _catalogue(config), _images(config)
        new_users.fit_one(codes, catalogue, workdir, likes, dislikes, k, images)
        return
    if "cold_start" not in config:
        raise InputError(
            "cold-start needs --config configs/cold_start.py:base=…; or --fit with the "
            "--workdir of a run and --likes"
        )
    method = config.cold_start.method
    if method == "retrain":
        _retrain(config, workdir, split)
        return
    new_users.check_method(method)
    base = Path(config.cold_start.base)
    known_config = ConfigDict(read_config(base))
    codes = Codes.load(base / "codes.safetensors")
    new_users.check_same_codes(codes, config.model.bits, config.model.modalities, base)
    known, catalogue = _catalogue(known_config), _catalogue(config)
    evaluators.check_same_data(codes, known)
    items = codes
    if catalogue.names != known.names:
        items = _encode_for(config, catalogue, codes)
    options = {name: config.cold_start[name] for name in new_users.OPTIONS}
    learners = new_users.learners(codes, known, items, **options)
    if method != "study":
        new_users.learn(learners[method], catalogue, workdir)
        evaluators.run("all", workdir, catalogue, split)
        return
    from fhn_jax.reporting.study import write_study

    study = new_users.study(learners, catalogue, split)
    write_study(workdir, study)
    print(new_users.format_study(study))


def _retrain(config, workdir, split):
    from fhn_jax.training.fine_tune import restore_base

    catalogue, inputs, trained = _train(config, workdir, restore_base)
    _export(config, workdir, catalogue, inputs, trained)
    evaluators.run("all", workdir, catalogue, split)


def _encode_for(config, catalogue, codes) -> Codes:
    """Codes of other items by the base run's network, with the base run's users."""
    from fhn_jax.training import build
    from fhn_jax.training.fine_tune import restore_base

    build.check_config(config)
    inputs = build.load_inputs(config, catalogue, progress)
    trained = restore_base(config, catalogue, inputs)
    items, _ = _encode(config, catalogue, inputs, trained)
    return dataclasses.replace(
        items, users=codes.users, user_latents=codes.user_latents
    )


# Actions that may run in several processes at once: those that encode items.
DISTRIBUTED = ("all", "train", "extract-features")
# Flags: name → (default, help), and which single actions take them.
FLAGS = {
    "distributed": (False, "One of several processes, as the cluster says"),
    "coordinator": ("", "HOST:PORT of process 0, where no cluster says it"),
    "processes": (0, "How many processes there are, where no cluster says it"),
    "process_id": (-1, "Which of them this is, from 0, where no cluster says it"),
    "user": (0, "Id of the user"),
    "outfits": ("", "CSV file of the outfits to search; those of the data if empty"),
    "fixed": ("", "Items that an outfit must have, such as shoe:4,top:shirt.jpg"),
    "fit": (False, "Learn one user of the workdir's codes from --likes"),
    "likes": ("", "Outfit ids, items (shoe:4), outfits (3/14/9), or a CSV file"),
    "dislikes": ("", "As --likes"),
    "k": (10, "How many outfits to recommend"),
    "index": ("", "Folder of an OutfitIndex to search; built of the outfits if empty"),
    "out": (
        "",
        "New folder for Parquet files; recommendations in the workdir if empty",
    ),
    "host": ("127.0.0.1", "Address to serve at; 0.0.0.0 is all of this machine's"),
    "port": (8000, "Port to serve at"),
    "workers": (1, "Processes that serve"),
    "database_url": ("", "Of the visitors; a SQLite file in the workdir if empty"),
    "allowed_hosts": ("", "Names, with commas, that the server is reached by"),
    "rate": (20, "Requests a second of one address, on average; 0 for any number"),
    "known_users": (True, "Whether visitors may start as a known user"),
    "ray_address": ("", "HOST:PORT of a Ray cluster; this machine alone if empty"),
}
TAKES = {
    "search": ("user", "k", "outfits", "index", "fixed", "ray_address"),
    "compose": ("user", "k", "fixed"),
    "recommend-all": ("k", "outfits", "index", "out", "ray_address"),
    "cold-start": ("fit", "likes", "dislikes", "k"),
    "serve": (
        "index",
        "host",
        "port",
        "workers",
        "database_url",
        "allowed_hosts",
        "rate",
        "known_users",
    ),
}
ACTIONS = {
    "all": run_all,
    "train": train,
    "extract-features": extract_features,
    "export-encoder": export_encoder,
    "evaluate-accuracy": run_evaluation("evaluate-accuracy"),
    "evaluate-rank": run_evaluation("evaluate-rank"),
    "fitb": run_evaluation("fitb"),
    "report": report,
    "search": search,
    "recommend-all": recommend_all,
    "cold-start": cold_start,
    "compose": compose,
    "serve": serve,
}
