"""A run from Python: its data, and what trains, restores and exports its network."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flax import nnx

from fhn_jax import files
from fhn_jax.codes import Codes, Latents, latents
from fhn_jax.data.audit import warnings_of
from fhn_jax.data.catalogue import Catalogue
from fhn_jax.data.items import ItemInputs
from fhn_jax.data.layout import read_catalogue, variant_folder
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.models.fashion_hash_net import FashionHashNet
from fhn_jax.models.hashing import tanh_scale
from fhn_jax.training import build, compile_cache, pretrained, sharding, teacher
from fhn_jax.training.checkpoint import Checkpoints
from fhn_jax.training.export import LatentChunk, all_items, make_codes
from fhn_jax.training.inputs import Progress, check_table_fits, load_inputs
from fhn_jax.training.loop import Loop
from fhn_jax.training.settings import Settings, config_hash, config_values
from fhn_jax.training.validation import Validation
from fhn_jax.training.workdir import (
    check_trained,
    check_workdir,
    claim_workdir,
    is_trained,
)
from fhn_jax.training.writers import Writer

# Of settings, items, a network and a progress: their latents, encoded elsewhere.
Encode = Callable[
    [Settings, Catalogue, FashionHashNet, Callable[[int, int], None]],
    Iterator[LatentChunk],
]


def _silent(title: str) -> Callable[[int, int], None]:
    return lambda done, total: None


class Trained(NamedTuple):
    """A network to validate, export and score with.

    Attributes:
      model: the network.
      beta: slope of the relaxation in its epoch.
      step: after which it was saved.
    """

    model: FashionHashNet
    beta: float
    step: int


class Experiment:
    """A run whose catalogue is read.

    Attributes:
      config: all settings, with `data.root` and `data.variant`.
      workdir: gets config.json, metrics.jsonl, checkpoints and codes.
      catalogue: the data.
      batches: of the training split.
    """

    def __init__(
        self,
        config: Settings,
        workdir: Path,
        *,
        catalogue: Catalogue | None = None,
        inputs: ItemInputs | None = None,
        progress: Progress = _silent,
    ):
        """Checks all that can be checked without what is known of the items.

        Args:
          config, workdir: see above; `model.backbone.weights_sha256` is noted in the
            config.
          catalogue, inputs: where they are read already.
          progress: from a title to a function of the number done, and of all.
        Raises:
          FileNotFoundError: data or weights are not there.
          ValueError: settings or data of no use, or a workdir of another config.
        """
        compile_cache.enable()
        build.check_config(config)
        if not (config.model.backbone.weights_sha256 and is_trained(workdir)):
            pretrained.note_weights(config)
        if teacher.path_of(config) is not None and not (
            config.train.teacher_sha256 and is_trained(workdir)
        ):
            teacher.note_teacher(config)
        if catalogue is None:  # A wrong root explains what differs after it.
            variant_folder(Path(config.data.root), config.data.variant)
        check_workdir(config_values(config), workdir)
        self.config, self.workdir, self.progress = config, workdir, progress
        if catalogue is None:
            catalogue = read_catalogue(Path(config.data.root), config.data.variant)
        self.catalogue = catalogue
        self.batches = build.make_batches(config, catalogue)
        if inputs is not None:
            self.inputs = inputs

    @functools.cached_property
    def inputs(self) -> ItemInputs:
        """Images, features and text of the items, read when they are first needed.

        Raises:
          FileNotFoundError, KeyError, ValueError: one is missing or of no use.
        """
        return load_inputs(self.config, self.catalogue, self.progress)

    @contextlib.contextmanager
    def _locked(self, work: str, *, shared: bool = False) -> Iterator[None]:
        """Locks the workdir in the first process, before any time is spent."""
        with contextlib.ExitStack() as stack:
            if sharding.is_first():
                stack.enter_context(files.lock(self.workdir, work, shared=shared))
            yield

    def new_model(self) -> FashionHashNet:
        """The network at its start, before pretrained weights."""
        return build.make_model(self.config, self.catalogue, **self.inputs.dims)

    def _shapes(self, users: int | None = None) -> FashionHashNet:
        """The network without values, where a checkpoint has them: drawing is slow.

        Args:
          users: that it has; by default those of the data.
        """
        dims = self.inputs.dims  # Not to be read within what jax traces.
        users = self.catalogue.num_users if users is None else users
        known = dataclasses.replace(self.catalogue, num_users=users)
        return nnx.eval_shape(lambda: build.make_model(self.config, known, **dims))

    def train(self, start: Callable[[], FashionHashNet] | None = None) -> Trained:
        """Trains a network, or goes on where a killed run of this workdir left off.

        A resumed run ends bit for bit as one that was never stopped (same machine). Of
        several processes, see `sharding.multi_host`, each calls this, and the first
        writes.

        Args:
          start: makes the network to start from; by default a new one.
        Returns:
          the network of the best validation score (`train.select`), or of the last
          epoch where the data has no validation split.
        Raises:
          FloatingPointError: a metric is not finite.
          Interrupted: stopped by a signal; the state is saved.
          BusyError: another process trains there.
          ValueError: the workdir holds a run of another config or of other data.
        """
        with self._locked("training"):
            # What is of no use is found before the workdir is claimed.
            learned_from, _ = self._teacher(), self.inputs
            self._train(None if start is None else start(), learned_from)
        return self.best()

    def _teacher(self) -> teacher.Teacher | None:
        """What is learned from in the place of the likes; None for the likes."""
        teacher.note_teacher(self.config)  # A resumed run goes on with its own.
        path = teacher.path_of(self.config)
        return None if path is None else teacher.load(path, self.catalogue)

    def _train(
        self, model: FashionHashNet | None, learned_from: teacher.Teacher | None
    ) -> None:
        config = self.config
        if sharding.is_first():
            print(*warnings_of(self.catalogue), sep="", end="", file=sys.stderr)
        claim_workdir(config_values(config), self.workdir, writes=sharding.is_first())
        given, model = model, self._shapes() if model is None else model
        trainer = build.make_trainer(config, model, self.batches)
        schedule = build.make_schedule(config, self.batches.steps)
        validation = None
        if "val" in self.catalogue.splits:
            encoder = build.make_encoder(config, model, self.inputs)
            objective = build.make_objective(config)
            validation = Validation(self.catalogue, encoder, objective)
        with Checkpoints(self.workdir / "checkpoints") as checkpoints:
            resumed = checkpoints.restore_latest(trainer.shapes(), self._check_data)
            if resumed is not None:
                state, host = resumed
                schedule.recall(host["schedule"])
            else:
                if given is None:
                    check_table_fits(config, trainer.shapes())
                    given = self.new_model()
                    pretrained.load_weights(config, given)
                state = trainer.init(given, take=True)
            done = int(state.step)
            if done == config.train.epochs * self.batches.steps:
                print(f"{self.workdir} is trained to the end already", file=sys.stderr)
            else:
                with Writer(
                    self.workdir,
                    config_values(config),
                    mode=config.wandb.mode,
                    project=config.wandb.project,
                    after_step=done,
                    writes=sharding.is_first(),
                ) as writer:
                    Loop(
                        config.train,
                        build.make_epochs(
                            *(config, trainer, self.batches, self.inputs), learned_from
                        ),
                        schedule,
                        self._beta,
                        validation,
                        writer,
                        checkpoints,
                        {
                            "data": self.catalogue.train_checksum,
                            "users": self.catalogue.num_users,
                            "steps_per_epoch": self.batches.steps,
                        },
                    ).run(state)

    def best(self, *, grown: bool = False) -> Trained:
        """The best network of the run.

        Args:
          grown: whether the data may be others than it was trained on. The network has
            the users that it was trained on.
        Raises:
          FileNotFoundError: the workdir holds no checkpoint.
          BusyError: another process trains there.
          ValueError: it holds a run of another config or of other data.
        """
        check_trained(self.workdir)
        with self._locked("reading the checkpoints", shared=True):
            return self._best(grown)

    def _best(self, grown: bool) -> Trained:
        with Checkpoints(self.workdir / "checkpoints") as checkpoints:
            best = checkpoints.best
            if best is None:
                raise MissingFileError(
                    f"{checkpoints.folder} holds no whole checkpoint; train again, with "
                    "another --workdir"
                )
            host = checkpoints.host(best)
            if not grown:
                self._check_data(host)
            shapes = self._shapes(host.get("users") if grown else None)
            trainer = build.make_trainer(self.config, shapes, self.batches)
            state, _ = checkpoints.restore(trainer.shapes(), best)
        step = int(state.step)
        steps = host.get("steps_per_epoch", self.batches.steps)
        epoch = max(step - 1, 0) // steps
        return Trained(trainer.model(state), self._beta(epoch), step)

    def encode(
        self, trained: Trained, elsewhere: Encode | None = None
    ) -> tuple[Codes, Latents]:
        """The codes of a network, and its real-valued latents; every item once.

        What is large is on the disk of the workdir until nobody holds it any more.

        Args:
          elsewhere: what encodes, in the place of this process.
        Raises:
          FloatingPointError: a latent is not finite.
          OSError: there is no room on the disk.
        """
        title, items = self.progress("encoding items"), self.catalogue
        if elsewhere is not None:
            chunks = elsewhere(self.config, items, trained.model, title)
        else:
            encoder = build.make_encoder(self.config, trained.model, self.inputs)
            of_items = (all_items(items), items.offsets, title)
            chunks = encoder.stream(trained.model, *of_items)
        return make_codes(
            trained.model,
            chunks,
            self.catalogue,
            beta=trained.beta,
            config_hash=config_hash(self.config),
            scratch=self.workdir / latents.FILE,
        )

    def export(self, trained: Trained, elsewhere: Encode | None = None) -> Codes:
        """Writes codes.safetensors and latents.safetensors, in the first process.

        Args:
          trained, elsewhere: see `encode`.
        Raises:
          FloatingPointError: a latent is not finite.
          BusyError: another process trains or exports there.
        """
        with self._locked("exporting"):
            codes, relaxed = self.encode(trained, elsewhere)
            if sharding.is_first():
                relaxed.save_with(self.workdir, codes)
        return codes

    def _beta(self, epoch: int) -> float:
        return tanh_scale(epoch, self.config.model.tanh_gamma)

    def _check_data(self, host: Mapping[str, Any]) -> None:
        """Raises InputError about the host values of a checkpoint of other data."""
        checksum, ours = host["data"], self.catalogue
        # Old checkpoints have the checksum of all files, those of the test split too.
        if checksum not in (ours.train_checksum, ours.checksum):
            raise InputError(
                f"{self.workdir / 'checkpoints'} was trained on other data (checksum "
                f"{checksum[:12]}) than tuples_{ours.variant} in {ours.root} "
                f"({ours.train_checksum[:12]}); give that data, or another --workdir, "
                "or encode what is new in these with `extract-features --update`"
            )
