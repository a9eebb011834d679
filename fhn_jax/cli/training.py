"""Commands that need the network: the main job, and its first steps one by one."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fhn_jax import files
from fhn_jax.cli.command import SPLIT, Command, Flag
from fhn_jax.cli.evaluating import evaluate, report
from fhn_jax.cli.on_cluster import RAY_ADDRESS, encode_items
from fhn_jax.cli.progress import progress, say_written
from fhn_jax.cli.run import Run, RunChoice
from fhn_jax.cli.teaching import TEACH
from fhn_jax.codes import Latents
from fhn_jax.codes.artifact import FILE as CODES
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.errors import InputError
from fhn_jax.evaluation.evaluators import load_codes
from fhn_jax.integrations import tasks
from fhn_jax.training.workdir import check_trained, is_trained

# Which process of a multi-host run this is.
_PROCESS_FLAGS = (
    Flag("distributed", False, "One of several processes, as the cluster says"),
    Flag("coordinator", "", "HOST:PORT of process 0, where no cluster says it"),
    Flag("processes", 0, "How many processes there are, where no cluster says it"),
    Flag("process-id", -1, "Which of them this is, from 0, where no cluster says it"),
)


@contextlib.contextmanager
def _multi_host(
    *, distributed: bool, coordinator: str, processes: int, process_id: int
) -> Iterator[None]:
    """Makes this process one of several of a run, where `_PROCESS_FLAGS` say so.

    Raises:
      InputError: see `sharding.multi_host`.
    """
    given = (coordinator, processes, process_id)
    if not distributed and given == ("", 0, -1):
        yield
        return
    from fhn_jax.training import sharding
    from fhn_jax.training.stopping import Interrupted

    with sharding.multi_host(*given, agreed=Interrupted):
        yield


def progress_of_first() -> Callable[[str], Callable[[int, int], None]]:
    """`progress` in the first of several processes, silence in the others."""
    from fhn_jax.training import sharding

    return progress if sharding.is_first() else lambda title: lambda done, total: None


def main_job(choice: RunChoice, *, split: str, **process: Any) -> None:
    """Trains, exports, evaluates and reports."""
    with _multi_host(**process):
        run = choice.open()
        experiment, trained = train_network(run)
        if export(experiment, trained):
            results = evaluate(run, "all", split, experiment.catalogue)
            report(run, experiment.catalogue)
            _send(run, experiment, results)


def _send(run: Run, experiment: Any, results: dict[str, Any]) -> None:
    """Sends results, charts and codes to Weights & Biases, if it has the run."""
    from fhn_jax.codes import artifact
    from fhn_jax.evaluation.evaluators import result_table
    from fhn_jax.reporting.charts import charts_in
    from fhn_jax.training.settings import config_values
    from fhn_jax.training.writers import Outcome, write_outcome

    config = run.config
    about = {"sha256": results["codes_sha256"], "bits": config.model.bits}
    about["dataset"] = results["dataset"]
    write_outcome(
        run.workdir,
        config_values(config),
        Outcome(
            *result_table(results),
            charts=charts_in(run.workdir / "report"),
            codes=run.workdir / artifact.FILE,
            about=about,
        ),
        mode=config.wandb.mode,
        project=config.wandb.project,
        after_step=config.train.epochs * experiment.batches.steps,
    )


def train(choice: RunChoice, **process: Any) -> None:
    """Trains."""
    with _multi_host(**process):
        train_network(choice.open())


def extract_features(
    choice: RunChoice, *, update: bool, ray_address: str, **process: Any
) -> None:
    """Encodes every item once: codes.safetensors and latents.safetensors.

    Args:
      update: only what the data have more than the codes of the run; these stay.
      ray_address: of the head of a Ray cluster that encodes; if empty, this process does.
    """
    with _multi_host(**process), tasks.at(ray_address):
        run = choice.open()
        if _of_base(run) is not run:
            raise InputError(
                f"{run.workdir} has no network of its own: its users were learned on "
                f"{run.config.cold_start.base}; extract the features of that run"
            )
        check_trained(run.workdir)
        elsewhere = encode_items(run.workdir) if ray_address else None
        if update:
            update_codes(run, elsewhere)
            return
        experiment = open_experiment(run, encodes=elsewhere is None)
        export(experiment, experiment.best(), elsewhere)


def update_codes(run: Run, elsewhere: Callable | None = None) -> None:
    """Writes codes of what an update added to the data, beside those that there are.

    Args:
      elsewhere: what encodes, see `encode_items`; by default this process.
    Raises:
      InputError, MissingFileError: see `growth.grow`; there are no codes yet.
    """
    with files.lock(run.workdir / CODES, "encoding what is new"):
        known, latents = load_codes(run.workdir)
        catalogue = run.catalogue()
        if known.dataset_checksum == catalogue.checksum:
            print("there are no new items, users and likes; all codes stay")
            return
        # Packages of training take seconds to import.
        from fhn_jax.new_users import join_users
        from fhn_jax.training.growth import grow, new_items

        count = sum(map(len, new_items(known, catalogue)))
        of_run = (run.config, run.workdir, known, latents)
        codes, latents = grow(*of_run, catalogue, progress, elsewhere)
        codes = join_users(codes, catalogue)
        with files.lock(run.workdir, "exporting"):
            if latents is None:
                codes.save(run.workdir / CODES)
            else:
                Latents(latents.items, codes.sha256()).save_with(run.workdir, codes)
    print(
        f"{count:,} new items are encoded, and {codes.num_users - known.num_users:,} new "
        f"users fitted; {len(codes) - count:,} items and {known.num_users:,} users are "
        "as they were"
    )
    say_written(run.workdir / CODES)


def export_encoder(choice: RunChoice) -> None:
    """Writes the encoder of photos, with which the page takes visitors' own."""
    say_written(write_encoder(choice.open()))


def write_encoder(run: Run) -> Path:
    """The same for a run; returns the path of the encoder."""
    from fhn_jax.training.export import export_encoder as export_program
    from fhn_jax.web import photos

    base = _of_base(run)
    check_trained(base.workdir)
    codes, data = run.codes(), base.config.data
    # The data may have grown since: of them the network alone is needed.
    trained = open_experiment(base).best(grown=True)
    program = export_program(
        trained.model, data.image_size, mean=tuple(data.mean), std=tuple(data.std)
    )
    path = run.workdir / photos.FILE
    photos.save_encoder(
        path, program, codes, data.image_size, masked=trained.model.masked
    )
    return path


def _of_base(run: Run) -> Run:
    """The run that has the network: the base of users who were learned without one."""
    cold = run.config.get("cold_start")
    if cold is None or cold.method == "retrain":
        return run
    return RunChoice(workdir=Path(cold.base)).open()


def open_experiment(
    run: Run, catalogue: Catalogue | None = None, *, encodes: bool = True
) -> Any:
    """The `Experiment` of a run: its data, after all that can be checked without them.

    Args:
      catalogue: of the run, where it is read already.
      encodes: whether what is known of the items is needed in this process.
    """
    from fhn_jax.training.experiment import Experiment
    from fhn_jax.training.inputs import one_input

    experiment = Experiment(
        run.config, run.workdir, catalogue=catalogue, progress=progress_of_first()
    )
    if not encodes:
        experiment.inputs = one_input(run.config, experiment.catalogue)
    return experiment


def train_network(run: Run, start: Callable | None = None) -> tuple:
    """Trains from a random start, or from that of `start(experiment)`.

    Returns:
      the experiment, and the trained network.
    Raises:
      InputError: a cold start without a start.
    """
    from fhn_jax.training import sharding
    from fhn_jax.training.writers import check_wandb

    if "cold_start" in run.config and start is None and not is_trained(run.workdir):
        raise InputError(
            "these settings are of new users on a trained run; learn them with "
            "`fhn-jax cold-start`"
        )
    if sharding.is_first():
        check_wandb(run.config.wandb.mode)
    experiment = open_experiment(run)
    trained = experiment.train(
        None if start is None else lambda: start(experiment).model
    )
    if sharding.is_first():
        files = ("config.json", "metrics.jsonl", "checkpoints")
        say_written(*(run.workdir / name for name in files))
    return experiment, trained


def export(experiment: Any, trained: Any, elsewhere: Callable | None = None) -> bool:
    """Encodes all items and writes the codes; whether this process is the first."""
    from fhn_jax.training import sharding

    experiment.export(trained, elsewhere)
    if not sharding.is_first():
        return False
    names = ("codes", "latents")
    say_written(*(experiment.workdir / f"{name}.safetensors" for name in names))
    return True


COMMANDS = (
    Command(
        "all",
        "Train, export, evaluate and report; what is done without a command",
        main_job,
        (SPLIT, *_PROCESS_FLAGS),
    ),
    Command(
        "train",
        "Train the network, or go on from the last checkpoint",
        train,
        _PROCESS_FLAGS,
    ),
    TEACH,
    Command(
        "extract-features",
        "Encode every item once: codes.safetensors and latents.safetensors",
        extract_features,
        (
            Flag("update", False, "Encode only what an update of the data added"),
            RAY_ADDRESS,
            *_PROCESS_FLAGS,
        ),
    ),
    Command(
        "export-encoder",
        "Write the encoder with which the page takes photos of visitors",
        export_encoder,
        extra="train,web",
    ),
)
