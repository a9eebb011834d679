"""How fast are the codes of a large catalogue exported, and in how much memory?

    python benchmarks/export.py                  # 200,000 items
    python benchmarks/export.py --items 15000000 --folder /large/disk

Items have a feature vector each, drawn when its chunk is encoded, so that no table of them
exists. The network is untrained; its codes and relaxed codes are written as `export` writes
them. Anonymous memory is what the process must have; pages of mapped files count in the
peak of all memory, but the system takes them back when others need them.

Relaxed codes take 4 bytes a bit and item, twice on the disk while they are written: 15 GB
for 15 million items of 128 bits. `--width 64 --hidden 8` shows the memory of many items
without the arithmetic: features are never in memory for more than a chunk.
"""

import contextlib
import dataclasses
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness  # noqa: E402
import synthetic  # noqa: E402

from fhn_jax.data.items import ItemInputs  # noqa: E402

USERS = 1_000


@dataclasses.dataclass(frozen=True)
class DrawnInputs(ItemInputs):
    """Features that are drawn when they are wanted, a chunk at a time."""

    width: int = 0

    def stream(self, batches):
        """As `ItemInputs.stream`."""
        for ids, batch in batches:
            rng = np.random.default_rng(int(ids[0]))
            shape = (len(ids), self.width)
            yield batch, {"visual": rng.standard_normal(shape, np.float32)}


def _anonymous_mebibytes() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return float("nan")


@contextlib.contextmanager
def anonymous_peak() -> Iterator[list[float]]:
    """Yields a list that holds the most anonymous memory seen, MiB, at the end."""
    found, over = [_anonymous_mebibytes()], threading.Event()

    def watch():
        while not over.wait(0.05):
            found[0] = max(found[0], _anonymous_mebibytes())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def measure(
    folder: str, items: int, width: int, hidden: int, bits: int, chunk: int
) -> tuple[float, ...]:
    """Items a second, CPU-seconds, and MiB: anonymous, all, and of the files."""
    from flax import nnx

    from fhn_jax.codes.latents import FILE
    from fhn_jax.models.fashion_hash_net import PRECOMPUTED, FashionHashNet, Shape
    from fhn_jax.models.hashing import Hash
    from fhn_jax.training.export import ItemEncoder, all_items, make_codes

    network = FashionHashNet(
        Shape(USERS, synthetic.SLOTS, feature_dim=width),
        modalities=("visual",),
        bits=bits,
        hash=Hash("ste"),
        backbone=dict(name=PRECOMPUTED),
        visual_head=dict(hidden=hidden, input_dropout=0.5, dropout=0.5, stddev=0.01),
        text_head=dict(hidden=0, input_dropout=0.5, dropout=0.5, stddev=0.01),
        single=False,
        user=dict(share_user=False, stddev=0.01),
        matching=dict(hash_types=3),
        rngs=nnx.Rngs(0),
    )
    third = items // 3
    catalogue = synthetic.catalogue((items - 2 * third, third, third), USERS, USERS)
    inputs = DrawnInputs(
        tables={}, text=None, images=None, names=(), image_size=0, width=width
    )
    encoder = ItemEncoder(
        network, inputs, chunk=chunk, mean=synthetic.MEAN, std=synthetic.STD
    )
    said = 0.0

    def progress(done, total):
        nonlocal said
        if (now := time.perf_counter()) > said + 10:
            said = now
            print(f"{done:,} of {total:,} items", file=sys.stderr)

    with tempfile.TemporaryDirectory(dir=folder) as workdir, anonymous_peak() as peak:
        start, cpu = time.perf_counter(), time.process_time()
        codes, latents = make_codes(
            network,
            encoder.stream(network, all_items(catalogue), catalogue.offsets, progress),
            catalogue,
            beta=1.0,
            config_hash="",
            scratch=Path(workdir) / FILE,
        )
        latents.save_with(workdir, codes)
        seconds = time.perf_counter() - start
        cpu = time.process_time() - cpu
        size = sum(path.stat().st_size for path in Path(workdir).iterdir())
    return items / seconds, cpu, peak[0], harness.peak_mebibytes(), size / 2**20


def main() -> None:
    """The command line."""
    parser = harness.parser(__doc__)
    parser.set_defaults(repeats=1)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=4096, help="of the features")
    parser.add_argument(
        "--hidden", type=int, default=0, help="of the heads; 0 is half the width"
    )
    parser.add_argument("--bits", type=int, default=synthetic.BITS)
    parser.add_argument("--chunk", type=int, default=1024, help="items at a time")
    parser.add_argument("--folder", help="where the files are for a while")
    options = parser.parse_args()
    sizes = (options.items, options.width, options.hidden, options.bits, options.chunk)
    found = [
        harness.apart(measure, options.folder, *sizes) for _ in range(options.repeats)
    ]
    metrics = {
        "throughput": "items/s",
        "CPU time": "CPU-s",
        "peak anonymous memory": "MiB",
        "peak memory with pages of files": "MiB",
        "size of the files": "MiB",
    }
    case = f"export/{options.items}x{options.width}"
    harness.report(
        [
            harness.Row(case, metric, unit, values)
            for (metric, unit), values in zip(
                metrics.items(), zip(*found, strict=True), strict=True
            )
        ],
        options.json,
    )


if __name__ == "__main__":
    main()
