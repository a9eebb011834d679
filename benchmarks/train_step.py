"""How long does one training step take, and how much of the machine does it use?

    python benchmarks/train_step.py --json train_step.json
    python benchmarks/train_step.py --modalities text --batch 256
    python benchmarks/train_step.py --baseline torch
    python benchmarks/train_step.py --users 630 100k 1M 10M --optimizers sgd adam


Without options the cases that DESIGN.md names. A pair is a positive outfit and its
negative: six items of three categories. The network has the reference's settings. The
baseline is the same network and step written plainly in PyTorch, in the same run (pip
install "fhn_jax[bench]"). With --users the text case has other numbers of users, each
step with others; `dense` is the step that passes over all of them. Each side runs in a process of its own, so that peak memory
is its own; sides take turns, and both use all cores.
"""

import dataclasses
import importlib.util
import itertools
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness  # noqa: E402

TEXT_DIM = 2400
ITEMS_A_PAIR = 6
CATEGORIES = 3
USERS = {"630": 630, "100k": 10**5, "1M": 10**6, "10M": 10**7}


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
      modalities: of ("visual", "text").
      backbone: of the images; "" without.
      image_size: pixels of a side.
      batch: pairs.
      dtype: of the arithmetic in the encoders.
      users: how many, one of `USERS`.
      optimizer: "sgd" or "adam".
      table: "rows" or "dense": what a step passes over of the users.
    """

    modalities: tuple[str, ...]
    backbone: str = "alexnet"
    image_size: int = 291
    batch: int = 8
    dtype: str = "float32"
    users: str = "630"
    optimizer: str = "sgd"
    table: str = "rows"

    @property
    def name(self) -> str:
        """As in DESIGN.md: train_step/vse_alexnet_291_b8."""
        name = {2: "vse"}.get(len(self.modalities), self.modalities[0])
        if "visual" in self.modalities:
            name += f"_{self.backbone}_{self.image_size}"
        dtype = "" if self.dtype == "float32" else f"_{self.dtype}"
        name = f"train_step/{name}_b{self.batch}{dtype}"
        if (self.users, self.optimizer, self.table) == ("630", "sgd", "rows"):
            return name
        return f"{name}/{self.users}_users_{self.optimizer}_{self.table}"

    def inputs(self) -> dict[str, np.ndarray]:
        """Images and text vectors of the items of a batch, category by category."""
        rng = np.random.default_rng(0)
        items, size = self.batch * ITEMS_A_PAIR, self.image_size
        found = {}
        if "visual" in self.modalities:
            shape = (items, size, size, 3)
            found["visual"] = rng.integers(0, 256, shape, dtype=np.uint8)
        if "text" in self.modalities:
            found["text"] = rng.normal(size=(items, TEXT_DIM)).astype(np.float32)
        return found


CASES = (Case(("visual", "text")), Case(("text",), batch=64))


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one side found.

    Attributes:
      timing: of steps.
      first: seconds of the first step, compilation included.
      memory: peak of the process, MiB.
      device_memory: peak on the accelerator, MiB; None on a CPU.
      flops: of a step, as the compiler counts them; 0 if it does not.
      matmul: FLOP/s of a large matrix product in the same process.
      accelerator: its name, None on a CPU.
    """

    timing: harness.Timing
    first: float
    memory: float
    device_memory: float | None = None
    flops: float = 0.0
    matmul: float = 0.0
    accelerator: str | None = None


def measure_jax(case: Case, repeats: int, profile: str | None) -> Measured:
    """The step of fhn_jax; a trace of one more goes to the folder `profile`."""
    import jax
    import jax.numpy as jnp
    import synthetic

    from fhn_jax.data.batches import Batch

    per_category = case.batch * ITEMS_A_PAIR // CATEGORIES
    segments = (per_category,) * CATEGORIES
    count = USERS[case.users]
    network = synthetic.model(case.modalities, case.backbone, case.image_size, count)
    trainer = synthetic.trainer(
        network,
        segments,
        optimizer=case.optimizer,
        rows=case.table == "rows",
        compute_dtype=case.dtype,
    )
    rows = np.arange(per_category, dtype=np.int32).reshape(case.batch, 2, 1)
    batch = Batch(
        users=np.zeros(case.batch, np.int32),
        outfits=np.repeat(rows, CATEGORIES, axis=2),
        weights=np.ones(case.batch, np.float32),
        items=np.arange(case.batch * ITEMS_A_PAIR, dtype=np.int32),
        paired=np.ones(case.batch * ITEMS_A_PAIR, bool),
    )
    inputs, tables = case.inputs(), {}
    if jax.default_backend() != "cpu":
        # What `data.cache="device"` does: the items wait in the accelerator's memory.
        tables, inputs = jax.tree.map(jnp.asarray, inputs), {}
    key, one = jax.random.key(0), np.float32(1)
    state = trainer.init(take=True)
    rng = np.random.default_rng(0)

    def arguments():
        users = rng.integers(count, size=case.batch, dtype=np.int32)
        return key, one, one, batch._replace(users=users), inputs, tables

    flops = (trainer.step.lower(state, *arguments()).cost_analysis() or {}).get("flops")

    def step():
        nonlocal state
        state = jax.block_until_ready(trainer.step(state, *arguments()))

    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    timing = harness.timed(step, repeats)
    memory = harness.peak_mebibytes()
    if profile is not None:
        with jax.profiler.trace(profile):
            step()
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    size = 2048 if jax.default_backend() == "cpu" else 8192
    square = jnp.ones((size, size), case.dtype)
    product = jax.jit(lambda a: a @ a)
    matmul = harness.timed(lambda: jax.block_until_ready(product(square)), repeats)
    return Measured(
        timing,
        first,
        memory,
        None if peak is None else peak / 2**20,
        flops or 0.0,
        2 * size**3 / min(matmul.wall),
        harness.accelerator(),
    )


def measure_torch(case: Case, repeats: int, profile: str | None) -> Measured:
    """The same step in PyTorch; never traced."""
    import plain_torch

    step = plain_torch.make_step(
        case.inputs(), case.batch, case.backbone, USERS[case.users], case.dtype
    )
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    return Measured(harness.timed(step, repeats), first, harness.peak_mebibytes())


def rows_of(case: Case, side: str, measured: list[Measured]) -> list[harness.Row]:
    """The rows of a case.

    Args:
      side: "" for ours, or the name of the baseline.
      measured: of each process.
    """
    wall = tuple(s for m in measured for s in m.timing.wall)
    cpu = tuple(s for m in measured for s in m.timing.cpu)
    name = f"{case.name}/{side}" if side else case.name
    images = case.batch * ITEMS_A_PAIR
    rows = [
        ("step", "s", wall),
        ("CPU time of a step", "CPU-s", cpu),
        ("pairs", "1/s", tuple(case.batch / s for s in wall)),
        ("first step", "s", tuple(m.first for m in measured)),
        ("peak memory", "MiB", tuple(m.memory for m in measured)),
    ]
    if "visual" in case.modalities:
        rows.append(("images", "1/s", tuple(images / s for s in wall)))
    if measured[0].device_memory is not None:
        peaks = tuple(m.device_memory for m in measured)
        rows.append(("peak device memory", "MiB", peaks))
    if measured[0].flops:
        rates = tuple(m.flops / s for m in measured for s in m.timing.wall)
        shares = tuple(m.flops / s / m.matmul for m in measured for s in m.timing.wall)
        rows.append(("arithmetic", "FLOP/s", rates))
        rows.append(("share of a matrix product's FLOP/s", "1", shares))
    return [harness.Row(name, metric, unit, values) for metric, unit, values in rows]


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--modalities", help="visual,text or one of them")
    parser.add_argument("--backbone", help="see fhn_jax.models.backbones.BACKBONES")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch", type=int, help="pairs")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--users", nargs="+", choices=USERS, help="of the text case")
    parser.add_argument("--optimizers", nargs="+", choices=("sgd", "adam"))
    parser.add_argument("--tables", nargs="+", choices=("rows", "dense"))
    parser.add_argument("--baseline", choices=("torch",))
    parser.add_argument("--profile", help="folder for a jax.profiler trace of a step")
    parser.add_argument(
        "--processes", type=int, default=2, help="of each side, taking turns"
    )
    options = vars(parser.parse_args())
    repeats, processes = options.pop("repeats"), options.pop("processes")
    json_path, baseline = options.pop("json"), options.pop("baseline")
    profile = options.pop("profile")
    if baseline and importlib.util.find_spec(baseline) is None:
        print(
            'PyTorch is not installed, its rows are left out: pip install "fhn_jax[bench]"',
            file=sys.stderr,
        )
        baseline = None
    users, optimizers, tables = (
        options.pop(name) or (first,)
        for name, first in (("users", "630"), ("optimizers", "sgd"), ("tables", "rows"))
    )
    given = {key: value for key, value in options.items() if value is not None}
    cases = CASES
    if given:
        if "modalities" in given:
            given["modalities"] = tuple(given["modalities"].split(","))
        cases = (dataclasses.replace(CASES[0], **given),)
    variants = tuple(itertools.product(optimizers, tables, users))
    if variants != (("sgd", "rows", "630"),):
        cases = [
            dataclasses.replace(cases[-1], optimizer=name, table=table, users=count)
            for name, table, count in variants
        ]
    sides = {"": measure_jax} | ({"torch": measure_torch} if baseline else {})
    rows, accelerator = [], None
    found = {case: {side: [] for side in sides} for case in cases}
    for _ in range(processes):
        for case, side in itertools.product(cases, sides):
            measured = harness.apart(sides[side], case, repeats, profile)
            found[case][side].append(measured)
            # A run may take long, or be stopped before the table.
            print(
                f"{case.name} {side or 'fhn_jax'}: "
                f"{np.median(measured.timing.cpu):.3f} CPU-s a step, "
                f"{measured.memory:,.0f} MiB, first step {measured.first:.1f} s",
                file=sys.stderr,
            )
    for case in cases:
        for side, measured in found[case].items():
            rows += rows_of(case, side, measured)
        accelerator = found[case][""][0].accelerator
        if baseline:
            rows += _ratios(case, found[case][""], found[case]["torch"], "ours / torch")
        few = dataclasses.replace(case, users="630")
        if case != few and few in found:
            ours, theirs = found[case][""], found[few][""]
            rows += _ratios(case, ours, theirs, "of that of 630 users")
    harness.report(rows, json_path, accelerator)


def _ratios(
    case: Case, ours: list[Measured], theirs: list[Measured], text: str
) -> list[harness.Row]:
    """What a step takes, through what another takes, process by process."""
    rows = []
    for metric, of in (("time", "wall"), ("CPU time", "cpu")):
        ratios = tuple(
            float(np.median(getattr(a.timing, of)) / np.median(getattr(b.timing, of)))
            for a, b in zip(ours, theirs, strict=True)
        )
        rows.append(harness.Row(case.name, f"{metric}, {text}", "1", ratios))
    return rows


if __name__ == "__main__":
    main()
