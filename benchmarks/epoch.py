"""How long does an epoch of Polyvore-630's size take?

    python benchmarks/epoch.py --json epoch.json
    python benchmarks/epoch.py --cache host --steps 20 --items 3000
    python benchmarks/epoch.py --modalities text --batch 1024
    python benchmarks/epoch.py --features 512 --likes 10M --users 1M --items 1M

Synthetic images and text at the true item and outfit counts. With --cache device, all
items lie on the device and the steps of an epoch are one loop there; with --cache host,
each batch is read from an array of the host. Where a whole epoch takes too long,
--steps measures so many and --items makes the tables smaller; the table then says what
a whole epoch would take, as a metric of its own name. --features stands for images that
were encoded beforehand, --likes for single items that users like, in place of outfits.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness  # noqa: E402


def tables_of(modalities, items: int, size: int, features: int, resident: bool):
    """Random rows of all items, made where they will lie."""
    import jax
    import jax.numpy as jnp
    import synthetic

    found = {}
    if features:
        rows = np.random.default_rng(0).random((items, features), np.float32)
        found["visual"] = jnp.asarray(rows) if resident else rows
    elif "visual" in modalities:
        shape = (items, size, size, 3)
        if resident:
            draw = jax.jit(
                lambda key: jax.lax.map(
                    lambda k: jax.random.bits(k, shape[1:], jnp.uint8),
                    jax.random.split(key, items),
                )
            )
            found["visual"] = draw(jax.random.key(0))
        else:
            rng = np.random.default_rng(0)
            found["visual"] = rng.integers(0, 256, shape, dtype=np.uint8)
    if "text" in modalities:
        rng = np.random.default_rng(0)
        text = rng.standard_normal((items, synthetic.TEXT_DIM), np.float32)
        found["text"] = jnp.asarray(text) if resident else text
    return found


def measure(options: dict) -> tuple[dict, str | None]:
    """Metric → (unit, values), and the accelerator's name."""
    import jax
    import synthetic

    from fhn_jax.data.batches import TrainBatches
    from fhn_jax.data.negatives import NegativeSampler
    from fhn_jax.training.epochs import DeviceEpochs, HostEpochs
    from fhn_jax.training.schedule import Schedule

    modalities = tuple(options["modalities"].split(","))
    features, likes = options["features"], options["likes"]
    sizes = synthetic.POLYVORE_630 | {}
    if options["items"]:
        sizes["items"] = (options["items"] // 3,) * 3
    if options["users"]:
        sizes["users"] = options["users"]
    if likes:
        sizes["outfits"] = likes
    data = synthetic.catalogue(**sizes, likes=bool(likes))
    sampler = NegativeSampler(data, "random_online")
    batches = TrainBatches(data, sampler, options["batch"], 0)
    network = synthetic.model(
        modalities,
        options["backbone"],
        options["image_size"],
        data.num_users,
        features=features,
        likes=bool(likes),
    )
    dtype = options["dtype"]
    trainer = synthetic.trainer(network, batches.segments, compute_dtype=dtype)
    resident = options["cache"] == "device"
    tables = tables_of(
        modalities, data.num_items, options["image_size"], features, resident
    )
    key = jax.random.key(0)
    steps = min(options["steps"] or batches.steps, batches.steps)
    if resident:
        epochs = DeviceEpochs(trainer, batches, tables, key, steps)
    else:

        def stream(pairs):
            for ids, batch in pairs:
                rows = np.maximum(ids, 0)
                yield batch, {name: table[rows] for name, table in tables.items()}

        epochs = HostEpochs(trainer, batches, stream, {}, key)
    schedule = Schedule(
        name="plateau",
        total_steps=batches.steps,
        steps_per_epoch=batches.steps,
        warmup_steps=0,
        factor=0.5,
        patience=10,
        cooldown=10,
        threshold=0.05,
        every=10,
    )

    def advance(state, count):
        for move, done in epochs.advances(schedule, 0, int(state.step), 1.0):
            state, _ = move(state)
            if done >= count:
                break
        return jax.block_until_ready(state)

    # The first one compiles.
    epochs.most = 1
    state = advance(trainer.init(), 1)
    epochs.most = steps
    wall, cpu = [], []
    for _ in range(options["repeats"]):
        state = trainer.at_step(state, 0)
        start, cpu_start = time.perf_counter(), time.process_time()
        state = advance(state, steps)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    if options["profile"]:
        with jax.profiler.trace(options["profile"]):
            state = advance(trainer.at_step(state, 0), steps)
    whole = steps == batches.steps and (likes or not options["items"])
    share = batches.steps / steps
    name = "epoch" if whole else f"epoch, from {steps} of {batches.steps} steps"
    return {
        name: ("s", [s * share for s in wall]),
        f"CPU time of {name}": ("CPU-s", [s * share for s in cpu]),
        "pairs": ("1/s", [steps * options["batch"] / s for s in wall]),
        "peak memory": ("MiB", [harness.peak_mebibytes()]),
    }, harness.accelerator()


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--modalities", default="visual,text")
    parser.add_argument("--backbone", default="alexnet")
    parser.add_argument("--image-size", type=int, default=291)
    parser.add_argument("--batch", type=int, default=256, help="pairs")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--cache", choices=("device", "host"), default="device")
    count = dict(type=harness.count, default=0)
    parser.add_argument("--steps", **count, help="a whole epoch if none")
    parser.add_argument("--items", **count, help="the true number if none")
    parser.add_argument("--users", **count, help="the true number if none")
    parser.add_argument("--features", **count, help="width; images if none")
    parser.add_argument("--likes", **count, help="of single items; outfits if none")
    parser.add_argument("--profile", help="folder for a jax.profiler trace")
    options = vars(parser.parse_args())
    if options["features"]:
        options["modalities"] = "visual"
    json_path = options.pop("json")
    measured, accelerator = harness.apart(measure, options)
    size = f"{options['likes']:_}_likes" if options["likes"] else "630"
    case = f"epoch/{size}_{options['cache']}"
    if options["features"]:
        case += f"_features_b{options['batch']}"
    elif options["modalities"] != "visual,text":
        case += f"_{options['modalities']}"
    rows = [
        harness.Row(case, metric, unit, tuple(values))
        for metric, (unit, values) in measured.items()
    ]
    harness.report(rows, json_path, accelerator)


if __name__ == "__main__":
    main()
