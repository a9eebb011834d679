"""The state of a training run and the pure function that advances it by one step."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from fhn_jax.data.batches import Batch
from fhn_jax.errors import InputError, NotFiniteError
from fhn_jax.models.augment import Augmentation, normalise
from fhn_jax.models.fashion_hash_net import FashionHashNet
from fhn_jax.training import sharding
from fhn_jax.training.objective import Objective, vse_loss
from fhn_jax.training.rows import RowState, RowUpdates, Skipped, scale_by_row_rss

GROUPS = ("user", "backbone", "visual", "text", "matching")
OPTIMIZERS = ("sgd", "adam", "adamw", "adamax", "adagrad")
METRICS = (
    "loss",
    "rank_loss",
    "binary_loss",
    "vse_loss",
    "accuracy_relaxed",
    "accuracy_binary",
)


class TrainState(NamedTuple):
    """All that a run carries from step to step; a pytree of arrays.

    Attributes:
      step: [] int32, steps done.
      params: trained variables of the network.
      opt_state: of optax.
      average: moving average of `params`, what is validated and exported; None
        without averaging.
      sums: metric → its sum over the rows since the last log, and "rows", their count.
      bad_steps: metric → [] int32, the first step at which it was not finite, or -1.
      rows: what `RowUpdates` remembers; None where all users are passed over.
    """

    step: Int[Array, ""]
    params: nnx.State
    opt_state: Any
    average: nnx.State | None
    sums: dict[str, Float[Array, ""]]
    bad_steps: dict[str, Int[Array, ""]]
    rows: RowState | None = None


def group_of(path: tuple) -> str:
    """The learning-rate group of a variable: one of `GROUPS`."""
    keys = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
    name = keys[1] if keys[0] == "heads" else keys[0]
    return "visual" if name == "features" else name


def make_optimizer(
    name: str,
    rates: Mapping[str, float],
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """An optimiser with one learning rate for each group of variables.

    Weight decay is of the L2 kind (added to the gradient), but decoupled for "adamw".
    "adagrad" keeps one sum of squares for each user, not for each weight.
    A group of rate 0 is frozen and keeps no moments. The step scales all rates by the
    schedule's factor.

    Args:
      name: one of `OPTIMIZERS`.
      rates: learning rate of each of `GROUPS`.
      momentum: of "sgd"; 0 keeps no moments.
    Raises:
      ValueError: unknown optimiser, or a group missing or unknown.
    """
    if name not in OPTIMIZERS:
        raise InputError(
            f"optimizer.name={name!r}: expected one of {', '.join(OPTIMIZERS)}"
        )
    if set(rates) != set(GROUPS):
        raise InputError(
            f"optimizer.rates has {sorted(rates)}, expected {sorted(GROUPS)}"
        )
    decay = optax.add_decayed_weights(weight_decay)
    direction: dict[str, optax.GradientTransformation] = {
        "sgd": optax.trace(momentum) if momentum else optax.identity(),
        "adam": optax.scale_by_adam(b1, b2, eps),
        "adamw": optax.scale_by_adam(b1, b2, eps),
        "adamax": optax.scale_by_adamax(b1, b2, eps),
        "adagrad": optax.scale_by_rss(0.0, eps),
    }

    def of_group(group: str, rate: float) -> optax.GradientTransformation:
        if not rate:
            return optax.set_to_zero()
        step = direction[name]
        if name == "adagrad" and group == "user":
            step = scale_by_row_rss(eps)
        order = (step, decay) if name == "adamw" else (decay, step)
        return optax.chain(*order, optax.scale(-rate))

    by_group: dict[Any, optax.GradientTransformation] = {
        group: of_group(group, rate) for group, rate in rates.items()
    }
    return optax.partition(
        by_group,
        lambda params: jax.tree_util.tree_map_with_path(
            lambda path, _: group_of(path), params
        ),
    )


class Trainer:
    """A network, its optimiser and objective: makes states and steps.

    Args:
      model: the network; its variables are the start. A network without values
        (`nnx.eval_shape`) is enough where that is given to `init`, or restored.
      optimizer: see `make_optimizer`.
      objective: what is minimised.
      segments: rows of each category in a batch's items.
      slots: the category index of each slot.
      augmentation: of training images.
      mean, std: of pixels, for normalisation.
      average_decay: of the moving average of variables, 0 for none.
      compute_dtype: of the encoders' arithmetic, "float32" or "bfloat16"; variables,
        codes, scores and losses are float32 in any case.
      mesh: of devices that share the work, see `sharding`; None for one device.
      skipped: of the optimizer, see `skipped_step`: a step then passes over the rows of
        its users alone. Without, it passes over the whole user table.
    """

    def __init__(
        self,
        model: FashionHashNet,
        optimizer: optax.GradientTransformation,
        objective: Objective,
        *,
        segments: tuple[int, ...],
        slots: tuple[int, ...],
        augmentation: Augmentation,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        average_decay: float = 0.0,
        compute_dtype: str = "float32",
        mesh: Mesh | None = None,
        skipped: Skipped | None = None,
    ):
        self.graphdef, self._params, self.constants = nnx.split(model, nnx.Param, ...)
        self.optimizer, self.objective = optimizer, objective
        self.segments, self.slots = segments, slots
        self.augmentation, self.mean, self.std = augmentation, mean, std
        self.average_decay = average_decay
        self.modalities = model.modalities
        self.takes_images = model.backbone is not None
        self.compute_dtype = jnp.dtype(compute_dtype)
        self.mesh = mesh
        self.rows = None
        if skipped is not None:
            self.rows = RowUpdates(skipped, averaged=bool(average_decay))
        self.step = self._jit_step()
        self._settle = self._jit_settle()

    def init(
        self, model: FashionHashNet | None = None, *, take: bool = False
    ) -> TrainState:
        """The state before the first step.

        Args:
          model: the network to start from, where not that of the trainer.
          take: the variables of the network itself, not copies: the first step, which
            is given the state, then takes them away from the network.
        """
        params = self._params if model is None else nnx.state(model, nnx.Param)
        if not take:
            params = jax.tree.map(jnp.array, params)
        # Compiled as one: each array by itself would take longer. What jax is given and
        # gives back is copied.
        others = jax.jit(lambda params: self._start(params)._replace(params=None))
        state = others(params)._replace(params=params)
        if self.mesh is None:
            # As a restored one lies, so that both take the same compiled step.
            return jax.device_put(state, self.state_shardings)
        return sharding.place(self.mesh, state, self.state_shardings)

    def _start(self, params) -> TrainState:
        average = jax.tree.map(jnp.array, params) if self.average_decay else None
        state = TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state=self.optimizer.init(params),
            average=average,
            sums=zero_sums(),
            bad_steps={name: jnp.full((), -1, jnp.int32) for name in METRICS},
        )
        if self.rows is not None:
            state = state._replace(rows=self.rows.start(state))
        return state

    def shapes(self) -> TrainState:
        """A state without values: shapes, dtypes and shardings, to be restored."""
        return jax.tree.map(
            lambda array, where: jax.ShapeDtypeStruct(
                array.shape, array.dtype, sharding=where
            ),
            self._state,
            self.state_shardings,
        )

    @functools.cached_property
    def _state(self) -> TrainState:
        return jax.eval_shape(self._start, self._params)

    @functools.cached_property
    def state_shardings(self) -> Any:
        """Where each array of a state lies."""
        if self.mesh is not None:
            return sharding.of_state(self.mesh, self._state)
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        return jax.tree.map(lambda _: here, self._state)

    def _jit_step(self):
        if self.mesh is None:
            return jax.jit(self.one_step, donate_argnums=0)
        rows, copies = sharding.by_rows(self.mesh), sharding.everywhere(self.mesh)
        state = self.state_shardings
        return jax.jit(
            self.one_step,
            donate_argnums=0,
            in_shardings=(state, copies, copies, copies, rows, rows, copies),
            out_shardings=state,
        )

    def _jit_settle(self):
        if self.rows is None:
            return lambda state: state
        where = {} if self.mesh is None else self.state_shardings
        where = where and {"in_shardings": (where,), "out_shardings": where}
        return jax.jit(self.rows.settle, donate_argnums=0, **where)

    def settle(self, state: TrainState) -> TrainState:
        """The state (donated) in which every user has had every step."""
        behind = state.rows is not None and int(state.rows.start) != int(state.step)
        return self._settle(state) if behind else state

    def at_step(self, state: TrainState, step: int) -> TrainState:
        """The state (donated), settled, as of another number of steps."""
        state = self.settle(state)
        # An array each: a step may be given both, to overwrite them.
        now, start = (state.step * 0 + step for _ in range(2))
        rows = state.rows
        if rows is not None:
            rows = rows._replace(start=start, done=rows.done * 0)
        return state._replace(step=now, rows=rows)

    def model(self, state: TrainState) -> FashionHashNet:
        """The network to validate and export: of averaged variables if there are.

        A state that is not settled is copied for that.
        """
        if state.rows is not None and int(state.rows.start) != int(state.step):
            state = self._settle(jax.tree.map(sharding.copy, state))
        params = state.params if state.average is None else state.average
        params = sharding.local(params)
        return nnx.merge(self.graphdef, params, self.constants, copy=True)

    # Stated, not left to the environment; heads and losses ask for the highest.
    @jax.default_matmul_precision("default")
    def one_step(
        self,
        state: TrainState,
        key: Array,
        beta: Float[Array, ""],
        rate: Float[Array, ""],
        batch: Batch,
        inputs: dict[str, Array],
        tables: dict[str, Any],
    ) -> TrainState:
        """One step; `step` is the same, compiled, and takes the state's memory.

        Args:
          state: before it.
          key: of the run; the step's own key is folded from it.
          beta: slope of the relaxation.
          rate: factor on all learning rates.
          batch: who, what and which items.
          inputs: modality → rows of `batch.items`, where streamed.
          tables: modality → rows of all items, where resident on the device; "teacher"
            → the `Teacher` whose scores are learned in the place of the likes.
        """
        if self.rows is None:
            return self._update(state, key, beta, rate, batch, inputs, tables)
        own, batch, users = self.rows.take(state, batch, self._everywhere)
        after = self._update(own, key, beta, rate, batch, inputs, tables)
        decay = self._decay(state.step)
        return self.rows.put(state, after, users, rate, decay)

    def _everywhere(self, array):
        if self.mesh is None:
            return array
        return jax.lax.with_sharding_constraint(array, sharding.everywhere(self.mesh))

    def _decay(self, step):
        """Of the moving average; early on it is over all steps so far."""
        done = step.astype(jnp.float32)
        return jnp.minimum(self.average_decay, (1 + done) / (10 + done))

    def _update(self, state, key, beta, rate, batch, inputs, tables) -> TrainState:
        """`one_step` over all rows of the user table that the state has."""
        key = jax.random.fold_in(key, state.step)
        image_key, dropout_key = jax.random.split(key)
        inputs, tables = dict(inputs), dict(tables)
        teacher = tables.pop("teacher", None)
        for modality, table in tables.items():
            inputs[modality] = table[jnp.maximum(batch.items, 0)]
        if self.takes_images:
            images = self.augmentation(image_key, inputs["visual"])
            inputs["visual"] = normalise(images, self.mean, self.std)
        loss_fn = functools.partial(
            self._loss, dropout_key, beta, batch, inputs, teacher
        )
        grads, sums = jax.grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        updates = jax.tree.map(lambda u: rate * u, updates)
        params: Any = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            decay = self._decay(state.step)
            average = jax.tree.map(
                lambda a, p: decay * a + (1 - decay) * p, average, params
            )
        bad_steps = {
            name: jnp.where(
                (first < 0) & ~jnp.isfinite(sums[name]), state.step + 1, first
            )
            for name, first in state.bad_steps.items()
        }
        sums = jax.tree.map(jnp.add, state.sums, sums)
        return TrainState(
            state.step + 1, params, opt_state, average, sums, bad_steps, state.rows
        )

    def _loss(self, dropout_key, beta, batch, inputs, teacher, params):
        model = nnx.merge(self.graphdef, params, self.constants, copy=True)
        latents = self._latents(model, params, inputs, nnx.Rngs(dropout=dropout_key))
        relaxed, binary = model.scores(
            batch.users, latents, batch.outfits, self.slots, beta
        )
        weights = batch.weights
        rows = weights.sum()
        rank = self.objective.rank_loss(relaxed)
        binary_rank = self.objective.rank_loss(binary)
        share = self.objective.binary_share
        learned = rank, binary_rank
        if teacher is not None:
            target = teacher.scores(batch.users, self._global_ids(batch), self.slots)
            learned = [self.objective.imitation(s, target) for s in (relaxed, binary)]
        loss = (1 - share) * learned[0] + share * learned[1]
        loss = (loss * weights).sum() / rows
        vse = jnp.zeros(())
        if {"visual", "text"} <= set(self.modalities) and self.objective.vse_weight:
            visual, text = (
                model.hash.relaxed(jnp.concatenate(latents[m]), beta)
                for m in ("visual", "text")
            )
            # DIFFERS: over distinct items; an item of several outfits of a batch counts
            # several times in the reference.
            per_item = vse_loss(visual, text, self.objective.margin, batch.paired)
            vse = per_item.sum() / batch.paired.sum()
            loss = loss + self.objective.vse_weight * vse
        sums = {
            "loss": loss * rows,
            "rank_loss": (rank * weights).sum(),
            "binary_loss": (binary_rank * weights).sum(),
            "vse_loss": vse * rows,
            "accuracy_relaxed": (_right(relaxed) * weights).sum(),
            "accuracy_binary": (_right(binary) * weights).sum(),
            "rows": rows,
        }
        return loss, sums

    def _global_ids(self, batch: Batch) -> Int[Array, "b c s"]:
        """The items of the outfits in the numbering of all items, -1 where none is."""
        starts = np.cumsum((0, *self.segments))[None, None, np.array(self.slots)]
        ids = batch.items[jnp.maximum(batch.outfits, 0) + starts]
        return jnp.where(batch.outfits >= 0, ids, -1)

    def _latents(self, model, params, inputs, rngs):
        """Latents of items, float32."""
        if self.compute_dtype == jnp.float32:
            return model.item_latents(inputs, self.segments, rngs)
        params, inputs = jax.tree.map(
            lambda x: x.astype(self.compute_dtype), (params, inputs)
        )
        model = nnx.merge(self.graphdef, params, self.constants, copy=True)
        latents = model.item_latents(inputs, self.segments, rngs)
        return jax.tree.map(lambda z: z.astype(jnp.float32), latents)


def zero_sums() -> dict[str, Float[Array, ""]]:
    """Empty sums of `TrainState`."""
    return {name: jnp.zeros(()) for name in (*METRICS, "rows")}


def pop_metrics(state: TrainState) -> tuple[TrainState, dict[str, float]]:
    """Means of the metrics since the last call, and the state with empty sums.

    Raises:
      FloatingPointError: a metric was not finite; names metric and step.
    """
    first = jax.device_get(state.bad_steps)
    bad = [name for name in METRICS if first[name] >= 0]
    if bad:
        name = min(bad, key=first.get)
        raise NotFiniteError(
            f"train/{name} is not finite since step {int(first[name])}. Lower "
            "config.optimizer.rates, or look at the data of that step; the last good "
            "checkpoint is kept."
        )
    sums = {name: float(value) for name, value in jax.device_get(state.sums).items()}
    rows = sums.pop("rows")
    means = {name: value / max(rows, 1.0) for name, value in sums.items()}
    return state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums)), means


def _right(scores: Float[Array, "b c"]) -> Float[Array, " b"]:
    """Share of the negatives that score below the positive; a tie is wrong."""
    return (scores[:, :1] > scores[:, 1:]).mean(axis=1)
