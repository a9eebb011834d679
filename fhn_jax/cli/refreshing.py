"""The command that takes a shop's tables of today to its running servers."""

import contextlib
import dataclasses
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fhn_jax import files
from fhn_jax.cli.command import DATABASE_URL, Command, Flag
from fhn_jax.cli.on_cluster import RAY_ADDRESS, encode_items
from fhn_jax.cli.publishing import publish_run
from fhn_jax.cli.refreshed import RUNS, RefreshState, remove_unused_runs, run_at
from fhn_jax.cli.run import Run, RunChoice
from fhn_jax.cli.training import open_experiment, update_codes, write_encoder
from fhn_jax.cli.visitor_likes import take_likes_of_visitors
from fhn_jax.codes import Codes, Latents
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.errors import InputError
from fhn_jax.evaluation.evaluators import evaluate
from fhn_jax.integrations import tasks
from fhn_jax.integrations.scoring import ClusterScorer

# Exit status where the network that was trained is not published, but all else is.
FELL = 2
_SCORE = "asymmetric"
# Of what was learned, the share that a network trains on from, see `warm_start`.
_KEPT = 0.8


def refresh(
    choice: RunChoice,
    *,
    shop: str,
    events: bool,
    database_url: str,
    epochs: int,
    fall: str,
    ray_address: str,
) -> None:
    """Updates the data, trains a few epochs from the last run, and publishes.

    Each step that is done is not done again when an interrupted refresh is called anew.
    What was done is told by the page refreshes.html in the workdir.

    Args:
      shop: folder of the shop's tables of today; the data stay as they are if empty.
      events: whether to take what visitors like now, see `take_likes_of_visitors`.
      database_url: of another database of visitors than that of the workdir.
      epochs: 0 trains nothing: new items and users get codes of the last network.
      fall: the most by which the AUC on the validation split may fall.
      ray_address: of the head of a Ray cluster that encodes and evaluates; if empty, this
        process does. It trains in any case.
    Raises:
      BusyError: another refresh of this run is under way.
      InputError: see `import_catalogue`; no validation split to compare on.
      SystemExit: with status 2: the trained network fell by more, and the data are
        published with the one before.
    """
    from fhn_jax.recommender.publishing import published
    from fhn_jax.reporting import refreshes

    most = _fall(fall)
    if epochs < 0:
        raise InputError(f"--epochs={epochs}: expected 0 or more")
    run = choice.open()
    began = time.monotonic()
    record: dict[str, Any] = {"is_good": True}

    def tell(outcome: str) -> None:
        current = published(run.workdir).current
        record["version"] = None if current is None else int(current.name)
        record["seconds"] = round(time.monotonic() - began, 1)
        record["outcome"] = outcome
        refreshes.note(run.workdir, record, run.root.resolve().name)

    with files.lock(run.workdir / RUNS, "refreshing"), tasks.at(ray_address):
        # Damaged ones are said before anything is done.
        refreshes.read_records(run.workdir)
        try:
            changes = _update_data(run, shop)
            if events:
                changes += take_likes_of_visitors(run, database_url)
            record["changes"] = dict(changes)
            version = _refresh(run, epochs, most, record, bool(ray_address))
        except Exception as error:
            record["is_good"] = False
            with contextlib.suppress(OSError):
                tell(f"failed: {error}")
            raise
        outcome = f"version {version.name} is current"
        if epochs:
            network = "trained today" if record["is_good"] else "before"
            outcome += f", with the network {network}"
        if not record["is_good"]:
            outcome += f": the validation AUC fell by more than {most:g}"
        tell(outcome)
    print(f"{version} is current, after {time.monotonic() - began:.1f} s")
    if not record["is_good"]:
        sys.exit(FELL)


def _refresh(
    run: Run, epochs: int, most: float, record: dict[str, Any], on_cluster: bool
) -> Path:
    """The steps after the data, noted in `record`; returns the new version."""
    state = RefreshState.read(run.workdir)
    last = run_at(run, state.last)
    update_codes(last, encode_items(last.workdir) if on_cluster else None)
    if epochs:
        record["is_good"] = _train(run, last, state, epochs, most, on_cluster)
        record |= {"before": state.before, "after": state.after}
        from fhn_jax.reporting.refresh_curves import curves_of

        record["curves"] = curves_of(_folder(run, state))
    served = run_at(run, state.last)
    _encode_photos(run, served)
    version = publish_run(served, run.workdir)
    state.under_way = False
    state.write(run.workdir)
    remove_unused_runs(run.workdir, state)
    return version


def _encode_photos(run: Run, served: Run) -> None:
    """Writes the encoder of visitors' photos for a trained run, if the first one has it."""
    from fhn_jax.web import photos

    if (run.workdir / photos.FILE).is_file():
        if not (served.workdir / photos.FILE).is_file():
            write_encoder(served)


def _fall(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise InputError(f"--fall={text}: expected a share such as 0.01")
    return value


def _update_data(run: Run, shop: str) -> Counter[str]:
    """Takes the shop's tables into the data, if any; what changed → how many."""
    if not shop:
        return Counter()
    # In a checkout it lies beside the package, where pyright does not look.
    from fhn_jax.data_tools.import_catalogue import (  # pyright: ignore[reportMissingImports]
        import_catalogue,
    )

    summary = import_catalogue(shop, run.root, update=True)
    print(summary.text)
    return Counter(summary.changes)


def _train(
    run: Run,
    last: Run,
    state: RefreshState,
    epochs: int,
    most: float,
    on_cluster: bool,
) -> bool:
    """Trains from the last run; whether the result takes its place."""
    catalogue = run.catalogue()
    if "val" not in catalogue.splits:
        raise InputError(
            f"{catalogue.root} has no validation split to compare networks on; give "
            "--epochs=0, or import with --val-share"
        )
    if not state.under_way or state.data != catalogue.train_checksum:
        state.number += 1
        state.under_way, state.data = True, catalogue.train_checksum
        shutil.rmtree(_folder(run, state), ignore_errors=True)
        state.write(run.workdir)
    if last.workdir == _folder(run, state):
        return True  # It was interrupted before it was published.
    new = Run(_folder(run, state), _shorter(last.config, run.config, epochs))
    codes = last.codes()

    experiment = open_experiment(new)
    trained = experiment.train(lambda: warm_start_of(experiment, last, codes))
    elsewhere = encode_items(new.workdir) if on_cluster else None
    made, latents = experiment.encode(trained, elsewhere)
    made = dataclasses.replace(made, lineage=codes.identity)
    with files.lock(new.workdir, "exporting"):
        Latents(latents.items, made.sha256()).save_with(new.workdir, made)
    folder = new.workdir / ".scores.parts" if on_cluster else None
    state.before = _score(codes, catalogue, folder)
    state.after = _score(made, catalogue, folder)
    better = state.after >= state.before - most
    print(
        f"validation AUC ({_SCORE}): {state.before:.4f} before, {state.after:.4f} after "
        f"{epochs} epochs; a fall of at most {most:g} is published: "
        + ("it is" if better else "it is not, the network before goes on")
    )
    if better:
        state.last = str(new.workdir.relative_to(run.workdir))
        state.write(run.workdir)
    return better


def _shorter(config: Any, first: Any, epochs: int) -> Any:
    """The settings of some more epochs.

    Args:
      config: of the last run.
      first: of the run that was trained from nothing.
    """
    config = config.copy_and_resolve_references()
    # The same rise of the rates, in a run this much shorter.
    config.schedule.warmup_steps = round(
        first.schedule.warmup_steps * epochs / first.train.epochs
    )
    config.train.epochs = epochs
    # A teacher knows nothing of what is new: the likes do.
    if "teacher" in config.train:
        config.train.teacher = config.train.teacher_sha256 = ""
    return config


def warm_start_of(experiment: Any, last: Run, codes: Codes) -> Any:
    """The network to start from."""
    from fhn_jax.training.warm_start import warm_start

    return warm_start(experiment, last.config, last.workdir, codes, _KEPT)


def _folder(run: Run, state: RefreshState) -> Path:
    return run.workdir / RUNS / str(state.number)


def _score(codes: Codes, catalogue: Catalogue, folder: Path | None) -> float:
    """The validation AUC; computed on the cluster if there is a folder for its parts."""
    scorer = ClusterScorer(codes, folder) if folder else None
    results = evaluate(codes, catalogue, "val", action="evaluate-rank", scorer=scorer)
    return float(results["scores"][_SCORE]["auc"])


COMMANDS = (
    Command(
        "refresh",
        "Take a shop's tables of today to its servers: update, train on, publish",
        refresh,
        (
            Flag(
                "shop", "", "Folder of the shop's tables; the data as they are if empty"
            ),
            Flag("events", False, "Take the likes of visitors, as they are now"),
            DATABASE_URL,
            Flag("epochs", 3, "To train from the last run; 0: codes of its network"),
            Flag("fall", "0.01", "The most by which the validation AUC may fall"),
            RAY_ADDRESS,
        ),
        extra="train,web,shop",
    ),
)
