"""How many images a second do the ways to the training step give?

    python benchmarks/input_pipeline.py --json input_pipeline.json

JPEG images are made first: 291 x 291 smooth noise of about the size of a photograph of
a garment. `pillow` is the baseline: a plain loop that reads and decodes one image after
the other; `lmdb` is `data.cache="none"` on an LMDB; `host` reads batches from the
memory-mapped file of decoded images; `device` gathers them from a table on the device.
"""

import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness  # noqa: E402

SIZE = 291
CASES = ("pillow", "lmdb", "host", "device")


def make_images(folder: Path, count: int) -> None:
    """Writes JPEG images with colours, edges and a bright background."""
    from PIL import Image

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        pixels = np.asarray(image).astype(np.int16)
        pixels = np.clip(pixels + rng.integers(-6, 7, pixels.shape), 0, 255)
        margin = SIZE // 5
        pixels[:margin] = pixels[-margin:] = 250
        pixels[:, :margin] = pixels[:, -margin:] = 250
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=90)
        (folder / f"{i:05d}.jpg").write_bytes(buffer.getvalue())


def measure(case: str, root: str, batch: int, repeats: int) -> tuple[list, list, float]:
    """Wall and CPU seconds of a pass over all images, and peak memory in MiB."""
    from fhn_jax.data.images import FolderImages, LmdbImages

    images = Path(root) / "images"
    names = tuple(sorted(path.name for path in (images / "291x291").iterdir()))
    order = np.random.default_rng(1).permutation(len(names)).astype(np.int32)
    batches = [order[i : i + batch] for i in range(0, len(order), batch)]
    if case == "pillow":
        from PIL import Image

        def run():
            for i in order:
                with Image.open(images / "291x291" / names[i]) as image:
                    np.array(image)

    elif case == "lmdb":
        from fhn_jax.data.pipeline import image_batches

        store = LmdbImages(images / "lmdb")

        def run():
            for _ in image_batches(batches, names, store, SIZE):
                pass

    elif case == "host":
        from fhn_jax.data.items import ItemInputs
        from fhn_jax.data.pixels import host_table

        folder = FolderImages(images / "291x291")
        table = host_table(images / "decoded.npy", folder, names, SIZE)
        inputs = ItemInputs({}, None, None, names, SIZE, table)

        def run():
            for _ in inputs.stream((ids, None) for ids in batches):
                pass

    else:
        import jax

        from fhn_jax.data.images import load_table

        folder = FolderImages(images / "291x291")
        table = jax.device_put(load_table(folder, names, SIZE))
        gather = jax.jit(lambda table, ids: table[ids])

        def run():
            for ids in batches:
                jax.block_until_ready(gather(table, ids))

    run()
    wall, cpu = [], []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    return wall, cpu, harness.peak_mebibytes()


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--images", type=int, default=2048, help="to make")
    parser.add_argument("--batch", type=int, default=128, help="images")
    parser.add_argument("--case", choices=CASES, action="append", help="all if none")
    options = parser.parse_args()
    from fhn_jax.data_tools.build_lmdb import build_lmdb

    rows = []
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "images" / "291x291"
        make_images(folder, options.images)
        build_lmdb(folder, Path(root) / "images" / "lmdb")
        for case in options.case or CASES:
            wall, cpu, memory = harness.apart(
                measure, case, root, options.batch, options.repeats
            )
            name, count = f"input_pipeline/{case}", options.images
            per_wall = tuple(count / s for s in wall)
            per_cpu = tuple(count / s for s in cpu)
            rows += [
                harness.Row(name, "images", "1/s", per_wall),
                harness.Row(name, "images a CPU-second", "1/CPU-s", per_cpu),
                harness.Row(name, "peak memory", "MiB", (memory,)),
            ]
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
