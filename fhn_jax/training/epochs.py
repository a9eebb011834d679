"""Epochs: steps led by the host, or left to the device in one long loop.

In the latter, negatives, batches and steps stay on the device. The host hands over the
order of an epoch and the rates of its steps, and hears again when something is to be
logged or saved. A step's negatives are a function of the run's key and the step's
number, so a resumed run sees the same ones.
"""

import collections
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32

from fhn_jax.data.batches import Batch, TrainBatches
from fhn_jax.data.negatives import (
    MAX_REDRAWS,
    NegativeSampler,
    no_negative_error,
    owners,
)
from fhn_jax.errors import InputError
from fhn_jax.training import sharding
from fhn_jax.training.schedule import Schedule
from fhn_jax.training.step import Trainer, TrainState

Advance = tuple[Callable[[TrainState], tuple[TrainState, int]], int]

T = TypeVar("T")
# Batches of which the copy to the device has begun before they are due.
_AHEAD = 2
# Larger than all ids.
_NO_ITEM = np.iinfo(np.int32).max
# Apart from the numbers of steps, from which a step's own key is folded.
_DRAWS = 0x6E656761


def sorted_rows(rows: Int[np.ndarray, "n f"]) -> Int32[np.ndarray, "_n f"]:
    """Distinct rows in lexicographic order, as `contains` needs them."""
    return np.unique(rows, axis=0).astype(np.int32)


def contains(table: Int[Array, "n f"], rows: Int[Array, "*b f"]) -> Bool[Array, "*b"]:
    """Which of `rows` are in a table of `sorted_rows`: binary search, exact.

    Keys of one integer a row, as the host has them, take 64 bits, which a device lacks.
    """
    low = jnp.zeros(rows.shape[:-1], jnp.int32)
    high = jnp.full(rows.shape[:-1], table.shape[0], jnp.int32)
    for _ in range(table.shape[0].bit_length()):
        middle = (low + high) // 2
        found = table[jnp.minimum(middle, table.shape[0] - 1)]
        differs = found != rows
        first = jnp.argmax(differs, axis=-1)[..., None]
        less = jnp.take_along_axis(found < rows, first, axis=-1)[..., 0]
        searching = low < high
        low = jnp.where(searching & less, middle + 1, low)
        high = jnp.where(searching & ~less, middle, high)
    found = table[jnp.minimum(low, table.shape[0] - 1)]
    return (low < table.shape[0]) & (found == rows).all(axis=-1)


class DeviceSampler:
    """Draws negatives on the device, with the distribution of `NegativeSampler`.

    Args:
      sampler: the host's; says what is drawn.
    Attributes:
      tables: arrays that `draw` reads, to be handed to it inside jit.
    """

    def __init__(self, sampler: NegativeSampler):
        self.ratio, self.slots = sampler.ratio, sampler.slots
        self.hard_share, self.hard_share_of = sampler.hard_share, sampler.hard_share_of
        self.fixed = sampler.kind.endswith("_fixed")
        positives = sampler.positives
        tables = {"users": positives.users, "items": positives.items}
        if self.fixed:
            tables["fixed"] = sampler.fixed.astype(np.int32)
        else:
            of = owners(positives.users, positives.items)
            tables["known"] = sorted_rows(np.column_stack([of, positives.items]))
            tables |= {f"pool{s}": pool for s, pool in enumerate(sampler.pools)}
        if self.hard_share:
            own = np.column_stack([positives.users, positives.items])
            tables["own"] = sorted_rows(own)
            tables |= {"order": sampler.order, "groups": sampler.groups}
            tables["shared"] = sampler.shared
        self.tables = {name: jnp.asarray(table) for name, table in tables.items()}

    def draw(
        self,
        key: Array,
        tables: dict[str, Array],
        rows: Int[Array, " b"],
        epoch: Int[Array, ""],
    ) -> tuple[Int[Array, "b k s"], Bool[Array, ""]]:
        """Negatives of the positives `rows`, and whether all could be drawn.

        Args:
          key: of the step.
          tables: of this sampler.
          rows: of the training positives.
          epoch: which of the negatives in the files are due.
        """
        if self.fixed:
            stored = tables["fixed"].shape[1]
            turn = (epoch * self.ratio + jnp.arange(self.ratio)) % stored
            return tables["fixed"][rows[:, None], turn[None]], jnp.array(True)
        random_key, choice_key, hard_key = jax.random.split(key, 3)
        items, drawn = self._random(random_key, tables, rows)
        if self.hard_share:
            shape = (len(rows), self.ratio)
            hard = jax.random.uniform(choice_key, shape) < self.hard_share_of(epoch)
            others, valid = self._hard(hard_key, tables, rows)
            items = jnp.where((hard & valid)[..., None], others, items)
        return items, drawn

    def _random(self, key, tables, rows):
        positives = tables["items"][rows]
        single = (positives >= 0).sum(axis=-1) == 1
        # As `owners` has it.
        of = jnp.where(single, tables["users"][rows], -1)
        of = jnp.broadcast_to(of[:, None], (len(rows), self.ratio))

        def propose(key):
            keys = jax.random.split(key, len(self.slots))
            slots = []
            for slot, category in enumerate(self.slots):
                pool = tables[f"pool{slot}"]
                shape = (len(rows), self.ratio)
                item = pool[jax.random.randint(keys[slot], shape, 0, len(pool))]
                if slot and category == self.slots[slot - 1]:
                    same = positives[:, slot] == positives[:, slot - 1]
                    item = jnp.where(same[:, None], slots[-1], item)
                slots.append(item)
            items = jnp.stack(slots, axis=-1)
            items = jnp.where(positives[:, None] < 0, -1, items)
            owned = jnp.concatenate([of[..., None], items], axis=-1)
            return items, ~contains(tables["known"], owned)

        items, valid = _redrawn(propose, key)
        return items, valid.all()

    def _hard(self, key, tables, rows):
        shape = (len(rows), self.ratio)
        users = jnp.broadcast_to(tables["users"][rows][:, None], shape)
        start, count = jnp.split(tables["groups"][rows], 2, axis=1)
        shared = jnp.broadcast_to(tables["shared"][rows][:, None], shape)

        def propose(key):
            other = start + jax.random.randint(key, shape, 0, count)
            items = tables["items"][tables["order"][other]]
            owned = jnp.concatenate([users[..., None], items], axis=-1)
            # What nobody else has a template of is not drawn for again.
            return items, ~contains(tables["own"], owned) | ~shared

        items, valid = _redrawn(propose, key)
        return items, valid & shared


def _redrawn(propose, key):
    """Draws again what is not valid, and only that, a limited number of times."""

    def again(carry):
        _, valid, _, turn = carry
        return (turn < MAX_REDRAWS) & ~valid.all()

    def redraw(carry):
        items, valid, key, turn = carry
        key, own = jax.random.split(key)
        new, fits = propose(own)
        items = jnp.where(valid[..., None], items, new)
        return items, valid | fits, key, turn + 1

    key, own = jax.random.split(key)
    items, valid = propose(own)
    carry = jax.lax.while_loop(again, redraw, (items, valid, key, jnp.int32(1)))
    return carry[:2]


def make_batch(
    users: Int[Array, " b"],
    outfits: Int[Array, "b c s"],
    weights: Float[Array, " b"],
    *,
    segments: tuple[int, ...],
    slots: tuple[int, ...],
    offsets: tuple[int, ...],
) -> Batch:
    """The batch that `TrainBatches` makes of the same outfits, on the device.

    Args:
      users: of the positives.
      outfits: candidates by item id within the category, -1 where there is none; the
        positive first.
      weights: 0 for padding, which repeats the outfits of the batch, and adds no item.
      segments, slots, offsets: of `TrainBatches`.
    """
    place, real = jnp.arange(len(weights)), weights > 0
    outfits = outfits[jnp.where(real, place, place % real.sum())]
    local = jnp.zeros_like(outfits)
    items, paired = [], []
    for category, size in enumerate(segments):
        mine = np.array([s for s, c in enumerate(slots) if c == category])
        chosen = outfits[..., mine]
        # No item comes last, behind as many items as there may be.
        sortable = jnp.where(chosen < 0, _NO_ITEM, chosen)
        ids, where = jnp.unique(
            sortable, return_inverse=True, size=size + 1, fill_value=_NO_ITEM
        )
        where = jnp.where(chosen < 0, -1, where.reshape(chosen.shape))
        local = local.at[..., mine].set(where)
        there = ids[:size] < _NO_ITEM
        items.append(jnp.where(there, ids[:size] + offsets[category], -1))
        if len(mine) > 1:  # Never absent, see `Outfits`.
            there &= jnp.zeros(size, bool).at[where[..., -1]].set(True)
        paired.append(there)
    arrays: Any = (users, local, weights, *map(jnp.concatenate, (items, paired)))
    return Batch(*arrays)


class HostEpochs:
    """Steps led by the host, which draws negatives and streams what is not resident.

    Args:
      trainer: of the step.
      batches: of each epoch.
      stream: adds to (item ids, batch) what is not resident, see `ItemInputs`.
      tables: modality → rows of all items, where resident.
      key: of the run.
    """

    def __init__(
        self,
        trainer: Trainer,
        batches: TrainBatches,
        stream: Callable[[Iterable], Iterator],
        tables: dict[str, Any],
        key: Array,
    ):
        self.trainer, self.batches, self.stream = trainer, batches, stream
        self.tables, self.key, self.mesh = tables, key, trainer.mesh
        if self.mesh is not None:
            copies = sharding.everywhere(self.mesh)
            self.tables, self.key = sharding.place(self.mesh, (tables, key), copies)
        self.own = sharding.own_rows(self.mesh, sum(batches.segments))

    def advances(
        self, schedule: Schedule, epoch: int, skip: int, beta: float
    ) -> Iterator[Advance]:
        """What advances a state, one after the other, to the end of an epoch.

        Args:
          schedule: of the rates.
          epoch: from 0.
          skip: steps of it that are done.
          beta: slope of the relaxation.
        Yields:
          a function from a state (donated) to the next one and the number of items
          that were encoded; and the number of steps that are done then.
        """
        batches = ((b.items[self.own], b) for b in self.batches.epoch(epoch, skip))
        placed = ahead(itertools.starmap(self._place, self.stream(batches)), _AHEAD)
        first = epoch * self.batches.steps + skip
        for step, (batch, streamed, items) in enumerate(placed, first):
            rate = np.float32(schedule.rate(step))
            yield (
                functools.partial(self._advance, beta, rate, batch, streamed, items),
                step + 1,
            )

    def _place(self, batch: Batch, streamed: dict[str, Any]):
        """A batch and its streamed inputs on the device; the number of its items."""
        items = int((batch.items >= 0).sum())
        if self.mesh is None:
            return *jax.device_put((batch, streamed)), items
        # Each process contributes its own rows.
        join = functools.partial(sharding.join_rows, self.mesh)
        batch = jax.tree.map(
            lambda whole: join(
                whole[sharding.own_rows(self.mesh, len(whole))], len(whole)
            ),
            batch,
        )
        length = sum(self.batches.segments)
        return batch, {m: join(rows, length) for m, rows in streamed.items()}, items

    def _advance(
        self, beta, rate, batch, streamed, items, state
    ) -> tuple[TrainState, int]:
        state = self.trainer.step(
            state, self.key, np.float32(beta), rate, batch, streamed,
            self.tables,
        )  # fmt: skip
        return state, items


def ahead(values: Iterable[T], count: int) -> Iterator[T]:
    """The values, made `count` ahead of their use.

    >>> made = []
    >>> values = ahead((made.append(i) or i for i in range(5)), 2)
    >>> next(values), made
    (0, [0, 1, 2])
    >>> list(values)
    [1, 2, 3, 4]
    """
    rest = iter(values)
    queue = collections.deque(itertools.islice(rest, count))
    for value in rest:
        queue.append(value)
        yield queue.popleft()
    yield from queue


class DeviceEpochs:
    """Runs steps without the host.

    Args:
      trainer: of the step.
      batches: the host's batches; says order, sampler and shapes.
      tables: modality → rows of all items, on the device.
      key: of the run.
      most: steps at once; every so many steps the host hears of them.
    Raises:
      ValueError: a modality is not on the device.
    """

    def __init__(
        self,
        trainer: Trainer,
        batches: TrainBatches,
        tables: dict[str, Any],
        key: Array,
        most: int,
    ):
        absent = [m for m in trainer.modalities if m not in tables]
        if absent:
            raise InputError(
                f"train.sampler='device' needs the items on the device, and "
                f"{' and '.join(absent)} are not there; use --config.data.cache=device,"
                " or --config.train.sampler=host"
            )
        self.trainer, self.batches, self.most = trainer, batches, most
        self.sampler = DeviceSampler(batches.sampler)
        self._resident = key, tables, self.sampler.tables
        options: dict[str, Any] = {}
        if trainer.mesh is not None:
            copies, state = sharding.everywhere(trainer.mesh), trainer.state_shardings
            self._resident = sharding.place(trainer.mesh, self._resident, copies)
            options["in_shardings"] = (state, *[copies] * 7)
            options["out_shardings"] = (state, copies, copies)
        self._run = jax.jit(self._steps, donate_argnums=0, **options)

    def advances(
        self, schedule: Schedule, epoch: int, skip: int, beta: float
    ) -> Iterator[Advance]:
        """As those of `HostEpochs`, with all steps up to a line of the log at once.

        Raises:
          ValueError: the data leave nearly no random negatives to draw.
        """
        rows, weights = self.batches.order(epoch)
        first = epoch * self.batches.steps
        rates = [schedule.rate(first + i) for i in range(self.batches.steps)]
        step, end = first + skip, first + self.batches.steps

        def advance(state: TrainState, last: int) -> tuple[TrainState, int]:
            state, images, drawn = self._run(
                state, np.float32(beta), np.array(rates, np.float32),
                rows, weights, np.int32(epoch), np.int32(last), self._resident,
            )  # fmt: skip
            if not bool(drawn):
                raise no_negative_error()
            return state, int(images)

        while step < end:
            step = min(step - step % self.most + self.most, end)
            yield functools.partial(advance, last=step), step

    def _steps(self, state, beta, rates, rows, weights, epoch, last, resident):
        key, tables, draws = resident
        first = epoch * rows.shape[0]

        def step(carry):
            state, images, drawn = carry
            own = jax.random.fold_in(jax.random.fold_in(key, _DRAWS), state.step)
            index = state.step - first
            positives = draws["items"][rows[index]]
            negatives, fits = self.sampler.draw(own, draws, rows[index], epoch)
            batch = make_batch(
                draws["users"][rows[index]],
                jnp.concatenate([positives[:, None], negatives], axis=1),
                weights[index],
                segments=self.batches.segments,
                slots=self.batches.slots,
                offsets=self.batches.offsets,
            )
            if self.trainer.mesh is not None:
                by_rows = sharding.by_rows(self.trainer.mesh)
                batch = jax.lax.with_sharding_constraint(batch, by_rows)
            state = self.trainer.one_step(
                state, key, beta, rates[index], batch, {}, tables
            )
            images = images + (batch.items >= 0).sum(dtype=jnp.int32)
            return state, images, drawn & fits

        return jax.lax.while_loop(
            lambda carry: carry[0].step < last,
            step,
            (state, jnp.int32(0), jnp.array(True)),
        )
