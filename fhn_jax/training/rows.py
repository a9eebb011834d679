"""Updates of the rows of the user table that a batch has, and of no others.

A step changes a row without a gradient too: by momentum, by weight decay, and in the
moving average. For "sgd" and "adagrad" those changes are linear, and the same for all
rows. Let x be what is kept of a row: its value w, its moments, its average a. A step that
has no gradient for it is x ← M x, and steps s to t − 1 are x ← M_{t−1} … M_s x, which
catches a row up, exactly for any course of the rates, before it is next used. With the
rate r of a step (schedule included), momentum μ, weight decay λ and the average's d:

    sgd      v ← μ v + λ w,  w ← w − r v,  a ← d a + (1 − d) w, each from those before it:

                 | 1 − rλ              −rμ         0 |        | w |
             M = | λ                   μ           0 |    x = | v |
                 | (1 − d)(1 − rλ)     −(1 − d)rμ  d |        | a |

    adagrad  w stays, and its sum of squares too; a as above. (Exact without weight decay,
             of which a row has that of its own steps.)

With the others a skipped step is not what a step without a gradient is: there, w drifts by
m / √v, which has no closed form. Rows are lazy instead: moments decay, w stays.

    adam, adamax   m ← b1 m,  v ← b2 v    (u of adamax likewise)
    adamw          the same, and w ← (1 − rλ) w

Weight decay of adam and adamax, which is part of the gradient, is that of a row's own steps.

The products of any range of steps are at hand without a pass over the steps: these are in
blocks of B. For each step s of a block, S[s] is the product from s to the end of its block,
or to now; for each block j, F[j] is the product from its start to now. A row that has had
the steps before s, of block j, is caught up by F[j + 1] S[s]. A step multiplies one block
of S, and F. After B blocks all rows are caught up, and it starts again.

Source: the lazy moments are in the spirit of TensorFlow Addons' LazyAdam, which does not
decay those that it skips, and of PyTorch's SparseAdam, which does not either.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from fhn_jax.data.batches import Batch
from fhn_jax.errors import InputError

# What `optimizer.users` of a config can be.
USERS = ("auto", "dense", "rows")
# Optimisers of which rows are what a pass over the whole table gives.
EXACT = ("sgd", "adagrad")
# In the path of the user table in a state, and of its moments and average.
USER_TABLE = "user/embedding"
# Steps in a block, B; its square is after how many steps all rows are caught up.
BLOCK = 128
# Rows that are caught up at once where all are.
_CHUNK = 4096

# From the rate of a step to what it does to a row without a gradient, as rows of M.
Skipped = Callable[[Any], list[list[Any]]]


class RowState(NamedTuple):
    """Which steps each row of the user table has had, and what they do to the others.

    Attributes:
      start: the number of steps that all rows have had.
      done: the number of steps that each row has had, at least `start` of them.
      within: S, of each block and step in it; what is of later steps has no meaning.
      since: F, of each block; the same.
    """

    start: Int[Array, ""]
    done: Int[Array, " users"]
    within: Float[Array, "blocks steps k k"]
    since: Float[Array, "_blocks k k"]


def scale_by_row_rss(eps: float) -> optax.GradientTransformation:
    """Row-wise Adagrad: g / √(Σ mean(g²) + eps), the mean over a row, the sum over steps.

    Source: Gupta et al. 2014, "Training highly multiclass classifiers"; the row-wise form
      as in FBGEMM.
    """

    def start(params):
        return jax.tree.map(lambda p: jnp.zeros((*p.shape[:-1], 1)), params)

    def update(updates, state, params=None):
        del params
        state = jax.tree.map(
            lambda s, g: s + (g * g).mean(axis=-1, keepdims=True), state, updates
        )
        updates = jax.tree.map(
            lambda g, s: jnp.where(s > 0, g * jax.lax.rsqrt(s + eps), 0.0),
            updates,
            state,
        )
        return updates, state

    return optax.GradientTransformation(start, update)


def by_rows(users: str, optimizer: str) -> bool:
    """Whether `optimizer.users` asks for updates of rows.

    Args:
      users: one of `USERS`; "auto" is by rows where that is the same.
      optimizer: its name.
    Raises:
      ValueError: unknown.
    """
    if users not in USERS:
        raise InputError(
            f"optimizer.users={users!r}: expected one of {', '.join(USERS)}"
        )
    return users == "rows" or (users == "auto" and optimizer in EXACT)


def skipped_step(
    name: str,
    rate: float,
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    b1: float = 0.9,
    b2: float = 0.999,
) -> Skipped:
    """What a step does to a row that has no gradient in it, without the average.

    Args:
      name, weight_decay, momentum, b1, b2: as of `make_optimizer`.
      rate: of the users.
    """

    def matrix(factor):
        kept = 1 - rate * factor * weight_decay
        if not rate or name == "adagrad":
            return [[1.0]]
        if name == "sgd":
            drift = -rate * factor * momentum
            both = [[kept, drift], [weight_decay, momentum]]
            return both if momentum else [[kept]]
        first = kept if name == "adamw" else 1.0
        return [[first, 0.0, 0.0], [0.0, b1, 0.0], [0.0, 0.0, b2]]

    return matrix


class RowUpdates:
    """Takes rows out of the tables of a training state, and puts them back.

    Args:
      skipped: see `skipped_step`.
      averaged: whether the state has a moving average.
    """

    def __init__(self, skipped: Skipped, averaged: bool):
        self.skipped, self.averaged = skipped, averaged
        self.kept = len(skipped(1.0)) + averaged

    def start(self, state: Any) -> RowState:
        """Of a state in which all rows are as they should be.

        Raises:
          ValueError: the optimiser keeps other moments than it was said to.
        """
        table, *others = user_tables(state)
        wide = 1 + sum(other.shape == table.shape for other in others)
        if wide != self.kept:
            raise InputError(
                f"the optimizer and the average keep {wide - 1} tables as large as that "
                f"of the users, and row-wise updates were told of {self.kept - 1}; "
                "an optimizer other than those of `make_optimizer` has no row-wise form: "
                "leave `skipped` out"
            )
        matrix = (self.kept, self.kept)
        return RowState(
            start=jnp.zeros((), jnp.int32),
            done=jnp.zeros(len(table), jnp.int32),
            within=jnp.zeros((BLOCK, BLOCK, *matrix)),
            since=jnp.zeros((BLOCK + 1, *matrix)),
        )

    def take(
        self, state: Any, batch: Batch, place: Callable[[Array], Array]
    ) -> tuple[Any, Batch, Int[Array, " b"]]:
        """The rows of the users of a batch, caught up.

        Args:
          state: a `TrainState`.
          batch: its padding is of nobody.
          place: puts an array on all devices.
        Returns:
          the state with these rows in place of all; the batch with users by row; and
          whose the rows are, ascending, with numbers of nobody behind.
        """
        done, nobody = state.rows.done, len(state.rows.done)
        real = jnp.asarray(batch.weights) > 0
        users = place(jnp.where(real, jnp.asarray(batch.users), nobody))
        users, own_done, places = _distinct(users, _rows_of(done, users), nobody)
        rows = [_rows_of(table, users) for table in user_tables(state)]
        own = _with_tables(state, self._caught_up(rows, own_done, state))
        arrays: Any = batch._replace(users=places)
        return own, arrays, users

    def put(
        self,
        state: Any,
        after: Any,
        users: Int[Array, " b"],
        rate: Float[Array, ""],
        decay: Float[Array, ""] | float,
    ) -> Any:
        """The state after a step that some rows had.

        Args:
          state: before it.
          after: what the step made of what `take` gave.
          users: whose the rows are.
          rate: factor on all learning rates.
          decay: of the moving average in that step.
        """
        tables = [
            _with_rows(table, users, rows)
            for table, rows in zip(user_tables(state), user_tables(after), strict=True)
        ]
        now = state.step - state.rows.start
        rows = self._advanced(state.rows, now, self._matrix(rate, decay))
        ones = jnp.full_like(users, after.step)
        rows = rows._replace(done=_with_rows(state.rows.done, users, ones))
        after = _with_tables(after, tables)._replace(rows=rows)
        return self.settle(after, now + 1 == BLOCK**2)

    def settle(self, state: Any, due: Bool[Array, ""] | bool = True) -> Any:
        """The state with all rows caught up, if that is due; a chunk at a time."""
        done = state.rows.done
        size = min(len(done), _CHUNK)

        def chunk(number, tables):
            some = number * size + jnp.arange(size)
            rows = [_rows_of(table, some) for table in tables]
            rows = self._caught_up(rows, _rows_of(done, some), state)
            return [
                _with_rows(table, some, new)
                for table, new in zip(tables, rows, strict=True)
            ]

        chunks = jnp.where(due, -(-len(done) // size), 0)
        tables = jax.lax.fori_loop(0, chunks, chunk, user_tables(state))
        start = jnp.where(due, state.step, state.rows.start)
        rows = state.rows._replace(start=start)
        return _with_tables(state, tables)._replace(rows=rows)

    def _matrix(self, rate, decay) -> Float[Array, "k k"]:
        """M of a step."""
        matrix = self.skipped(rate)
        if self.averaged:
            average = [(1 - decay) * entry for entry in matrix[0]] + [decay]
            matrix = [[*row, 0.0] for row in matrix] + [average]
        return jnp.array(matrix, jnp.float32)

    def _advanced(self, rows, now, matrix) -> RowState:
        """S and F after another step, the `now`-th since the start."""
        block, place = now // BLOCK, now % BLOCK
        steps = jnp.arange(BLOCK)[:, None, None]
        within = jnp.where(
            steps < place, _product(matrix, rows.within[block]), matrix
        )  # What is of later steps is overwritten in its turn.
        blocks = jnp.arange(BLOCK + 1)[:, None, None]
        one = jnp.eye(self.kept)
        begun = (blocks < block) | ((blocks == block) & (place > 0))
        since = jnp.where(begun, _product(matrix, rows.since), matrix)
        since = jnp.where(blocks > block, one, since)
        return rows._replace(within=rows.within.at[block].set(within), since=since)

    def _caught_up(self, tables, done, state) -> list[Array]:
        """Rows with the steps that they have not had.

        Args:
          tables: what is kept of the rows.
          done: steps that each has had.
        """
        rows, now = state.rows, state.step - state.rows.start
        done = jnp.maximum(done - rows.start, 0)
        block = jnp.minimum(done // BLOCK, BLOCK - 1)
        product = _product(rows.since[block + 1], rows.within[block, done % BLOCK])
        width = tables[0].shape[1]
        wide = [table for table in tables if table.shape[1] == width]
        behind = (done < now)[:, None]

        def caught(number, table):
            terms = (product[:, number, i, None] * wide[i] for i in range(len(wide)))
            return jnp.where(behind, sum(terms), table)

        numbers = iter(range(len(wide)))
        return [
            caught(next(numbers), table) if table.shape[1] == width else table
            for table in tables
        ]


def _distinct(
    users: Int[Array, " b"], done: Int[Array, " b"], nobody: int
) -> tuple[Int[Array, " b"], Int[Array, " b"], Int[Array, " b"]]:
    """Users once each, ascending, then nobody; theirs of `done`; where each user went."""
    order = jnp.arange(len(users))
    # Sorted with the users, whom everything waits for: what is read of the table of
    # `done` is read before it is written. Otherwise XLA would copy that table.
    users, done, order = jax.lax.sort((users, done, order), num_keys=1)
    place = jnp.cumsum(jnp.diff(users, prepend=-1) != 0) - 1
    return (
        jnp.full_like(users, nobody).at[place].set(users),
        jnp.zeros_like(done).at[place].set(done),
        jnp.zeros_like(order).at[order].set(place),
    )


def _rows_of(table: Array, users: Int[Array, " b"]) -> Array:
    """Rows of a table; any for a user who is not there."""
    return table.at[users].get(mode="clip")


def _with_rows(table: Array, users: Int[Array, " b"], rows: Array) -> Array:
    """The table with others in place of the rows of some users, who ascend."""
    # Not by slices: with them XLA copies the tables in each round of a loop.
    return table.at[users].set(rows, mode="drop", indices_are_sorted=True)


def _product(a: Float[Array, "*#n k k"], b: Float[Array, "*#n k k"]) -> Array:
    return jnp.matmul(a, b, precision="highest")


def _paths(state: Any):
    """What a state keeps of variables, flat, each with whether it is of the users."""
    kept = (state.params, state.opt_state, state.average)
    leaves, structure = jax.tree_util.tree_flatten_with_path(kept)
    flat = [
        (USER_TABLE in jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in leaves
    ]
    return flat, structure


def user_tables(state: Any) -> list[Any]:
    """The user table, its moments, and its average if there is one."""
    return [leaf for is_table, leaf in _paths(state)[0] if is_table]


def _with_tables(state: Any, tables: list[Array]) -> Any:
    """The state with others in their place."""
    flat, structure = _paths(state)
    others = iter(tables)
    leaves = [next(others) if is_table else leaf for is_table, leaf in flat]
    params, opt_state, average = jax.tree.unflatten(structure, leaves)
    return state._replace(params=params, opt_state=opt_state, average=average)
