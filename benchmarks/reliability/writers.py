"""What is written and read back: small, and different from step to step."""

import csv
import dataclasses
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from fhn_jax.data_tools.build_lmdb import build_lmdb
from fhn_jax.data_tools.import_catalogue import import_catalogue
from PIL import Image

from fhn_jax import files, main
from fhn_jax.codes import Codes, Latents
from fhn_jax.data.images import LmdbImages, open_images
from fhn_jax.data.item_table import read_items
from fhn_jax.data.layout import read_catalogue
from fhn_jax.errors import MissingFileError
from fhn_jax.recommender import Judged, Recommender
from fhn_jax.recommender.publishing import published
from fhn_jax.reporting.refreshes import read_records
from fhn_jax.reporting.report import write_report
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.training import experiment  # noqa: F401  (so that it is imported)
from fhn_jax.training.checkpoint import Checkpoints, flatten
from fhn_jax.training.step import METRICS, TrainState, zero_sums

CONFIG = Path(__file__).parents[2] / "configs" / "text_t3.py"
# In metrics.jsonl, not equal in two runs that are otherwise equal bit for bit.
_TIMES = ("train/seconds", "train/images_per_second")


@dataclasses.dataclass(frozen=True)
class Kind:
    """Something that is written in steps.

    Attributes:
      write: writes a step, from 0, into a folder; does nothing that is done already.
      read: what is there, as something that can be compared.
      steps: how many there are.
      damaged: pattern of the files to damage.
    """

    write: Callable[[Path, int], None]
    read: Callable[[Path], Any]
    steps: int
    damaged: str | None = None

    def finish(self, folder: Path) -> Any:
        """Writes all steps; what is there then."""
        for step in range(self.steps):
            self.write(folder, step)
        return self.read(folder)

    def state(self, folder: Path) -> Any:
        """What is there; None for nothing."""
        try:
            return self.read(folder)
        except MissingFileError:
            return None

    def states(self, folder: Path) -> list[Any]:
        """What is there before the first step and after each."""
        found = [None]
        for step in range(self.steps):
            self.write(folder, step)
            found.append(self.read(folder))
        return found


def make_codes(seed: int) -> Codes:
    """Small codes."""
    rng = np.random.default_rng(seed)
    vectors = {name: rng.normal(size=(40, 32)) for name in ("top", "shoe")}
    return Codes.from_embeddings(vectors, users=rng.normal(size=(5, 32)), scaled=True)


OUTFITS = np.random.default_rng(1).integers(40, size=(600, 2))


def latents_of(codes: Codes) -> Latents:
    """Relaxed codes of small codes."""
    rng = np.random.default_rng(2)
    arrays = tuple(rng.normal(size=(40, 32)).astype(np.float32) for _ in range(2))
    return Latents({"visual": arrays}, codes.sha256())


def write_codes(folder: Path, step: int) -> None:
    """Codes and latents."""
    codes = make_codes(step)
    latents_of(codes).save_with(folder, codes)


def read_codes(folder: Path) -> Any:
    """What codes and latents hold."""
    codes = Codes.load(folder / "codes.safetensors")
    latents = Latents.beside(folder, codes)
    assert latents is not None
    return codes.sha256(), [a.tobytes() for a in latents.items["visual"]]


def write_index(folder: Path, step: int) -> None:
    """An index: built, appended to, compacted."""
    codes = make_codes(0)
    if not (folder / "index").exists():
        OutfitIndex.build(folder / "index", codes, OUTFITS[:500])
    index = OutfitIndex.open(folder / "index", codes)
    if step == 1 and len(index) < len(OUTFITS):
        index.append(OUTFITS[len(index) :])
    if step == 2:
        index.compact()


def read_index(folder: Path) -> Any:
    """What searches of an index find."""
    index = OutfitIndex.open(folder / "index", make_codes(0))
    hits = index.search_batch(np.arange(5), len(OUTFITS))
    return len(index), [(h.outfits.tolist(), h.items.tolist()) for h in hits]


def write_sealed(folder: Path, step: int) -> None:
    """A sealed JSON file."""
    files.write_sealed(folder / "config.json", {"step": step, "a": [0.5] * 20})


def read_sealed(folder: Path) -> Any:
    """What is in it."""
    return files.read_sealed(folder / "config.json", "make it again")


@functools.cache
def scratch() -> Path:
    """A folder of this process and those that it starts, for what writers read."""
    name = os.environ.get("RELIABILITY_SCRATCH")
    if name is None:
        name = tempfile.mkdtemp(prefix="reliability-")
        os.environ["RELIABILITY_SCRATCH"] = name
    return Path(name)


def clean() -> None:
    """Removes it."""
    shutil.rmtree(scratch(), ignore_errors=True)


def _once(make: Callable[[Path], None]) -> Callable[..., Path]:
    """Makes a folder of the scratch when it is first asked for."""

    @functools.wraps(make)
    def get() -> Path:
        path = scratch() / make.__name__
        if not path.exists():
            with files.new_folder(path) as new:
                make(new)
        return path

    return get


@_once
def photos(new: Path) -> None:
    """Photos."""
    rng = np.random.default_rng(0)
    for number in range(60):
        picture = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(picture).save(new / f"{number}.png")


@_once
def shop(new: Path) -> None:
    """A shop's tables and photos."""
    rng = np.random.default_rng(0)
    categories = {"top": "T-Shirts", "bottom": "Jeans", "shoe": "Sneaker"}
    items = [
        {"id": f"{slot}-{number}", "category": name, "title": f"{name} no. {number}"}
        for slot, name in categories.items()
        for number in range(8)
    ]
    for item in items:
        item["image"] = f"{item['id']}.jpg"
        picture = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(picture).save(new / item["image"])
    likes: dict[tuple, dict] = {}
    while len(likes) < 60:
        outfit = {slot: f"{slot}-{rng.integers(8)}" for slot in categories}
        likes.setdefault(tuple(outfit.values()), {"user": len(likes) // 12} | outfit)
    for name, rows in (("items", items), ("likes", list(likes.values()))):
        with open(new / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def write_lmdb(folder: Path, step: int) -> None:
    """An LMDB of images."""
    build_lmdb(photos(), folder / "lmdb")


def read_lmdb(folder: Path) -> Any:
    """Its values."""
    return LmdbImages(folder / "lmdb").read([f"{number}.png" for number in range(60)])


def write_import(folder: Path, step: int) -> None:
    """A shop's data, imported."""
    if not (folder / "data").exists():
        import_catalogue(shop(), folder / "data", image_size=32)


def read_import(folder: Path) -> Any:
    """What was imported: outfits, photos, and the other files."""
    catalogue = read_catalogue(folder / "data", "shop")
    read = read_items(folder / "data")
    assert read is not None
    images = open_images(folder / "data").read(catalogue.item_names())
    return catalogue.checksum, len(read.offsets), images, digests(folder / "data", ".")


def digests(folder: Path, *parts: str) -> list[tuple[str, str]]:
    """Checksums of the files in parts of a folder, but for those of an LMDB."""
    paths = sorted(path for part in parts for path in (folder / part).rglob("*"))
    return [
        (str(path.relative_to(folder)), files.sha256_file(path))
        for path in paths
        if path.is_file() and path.parent.name != "lmdb"
    ]


def state_of(step: int) -> TrainState:
    """A small state of training."""
    values = float(step) + jnp.arange(6.0).reshape(2, 3)
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        params={"user": {"embedding": values}},
        opt_state=(),
        average=None,
        sums=zero_sums(),
        bad_steps={name: jnp.full((), -1, jnp.int32) for name in METRICS},
    )


def write_checkpoint(folder: Path, step: int) -> None:
    """A checkpoint; the first stays the best."""
    with Checkpoints(folder / "checkpoints") as checkpoints:
        if checkpoints.latest is None or checkpoints.latest <= step:
            checkpoints.save(state_of(step + 1), {"step": step}, -float(step))


def read_checkpoints(folder: Path) -> Any:
    """The best and the latest."""
    if not (folder / "checkpoints").exists():
        raise MissingFileError("no checkpoints")
    with Checkpoints(folder / "checkpoints") as checkpoints:
        if checkpoints.latest is None:
            raise MissingFileError("no checkpoints")
        found = []
        for step in (checkpoints.best, checkpoints.latest):
            assert step is not None
            state, host = checkpoints.restore(state_of(0), step)
            arrays = {
                name: np.asarray(a).tolist() for name, a in flatten(state).items()
            }
            found.append((step, host, arrays))
    return found


@_once
def data(new: Path) -> None:
    """Data to train on."""
    new.rmdir()
    import_catalogue(shop(), new, image_size=32)


def write_run(folder: Path, step: int) -> None:
    """A run: trained, exported, evaluated, reported."""
    values = {
        "data.root": data(),
        "data.variant": "shop",
        "data.text": "title",
        "wandb.mode": "disabled",
        "train.epochs": 3,
        "train.batch_size": 8,
        "train.average_decay": 0.9,
        "optimizer.rates.user": 0.05,
    }
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    main.run([f"--config={CONFIG}:smoke", *flags, "--workdir", str(folder / "run")])


def read_run(folder: Path) -> Any:
    """What training, export, evaluation and report left."""
    run = folder / "run"
    lines = files.read_text(run / "metrics.jsonl", "").splitlines()
    rows = [json.loads(line) for line in lines]
    metrics = [{k: v for k, v in row.items() if k not in _TIMES} for row in rows]
    results = files.read_sealed(run / "results.json", "")
    codes = Codes.load(run / "codes.safetensors")
    assert Latents.beside(run, codes) is not None
    with Checkpoints(run / "checkpoints") as checkpoints:
        steps = checkpoints.verify()
        noted = [checkpoints._noted(step)["arrays"] for step in steps]
    report = [name for name, _ in digests(run, "report")]
    return metrics, results, codes.sha256(), steps, noted, report


@_once
def reported(new: Path) -> None:
    """A folder with a run whose report is written again."""
    write_run(new, 0)


def write_report_of(folder: Path, step: int) -> None:
    """The report of a run."""
    run = folder / "run"
    if not run.exists():
        with files.new_folder(run) as new:
            for name in ("results.json", "metrics.jsonl", "codes.safetensors"):
                shutil.copy(reported() / "run" / name, new)
    codes = Codes.load(run / "codes.safetensors")
    catalogue = read_catalogue(data(), "shop")
    images = open_images(data()) if step else None
    write_report(run, catalogue, codes, None, images)


def read_report(folder: Path) -> Any:
    """Its files."""
    if not (folder / "run" / "report").exists():
        raise MissingFileError("no report")
    return digests(folder / "run", "report")


@_once
def site(new: Path) -> None:
    """A shop, its data and a run of them, to be refreshed."""
    shutil.copytree(shop(), new / "shop")
    import_catalogue(new / "shop", new / "data", image_size=32)
    values = {"root": new / "data", "variant": "shop", "text": "title"}
    flags = [f"--config.data.{key}={value}" for key, value in values.items()]
    flags += ["--config.wandb.mode=disabled", "--config.train.epochs=1"]
    train = [f"--config={CONFIG}:smoke", *flags, "--workdir", str(new / "run")]
    main.run(["train", *train])
    main.run(["extract-features", *train])


def write_refresh(folder: Path, step: int) -> None:
    """Refreshes of a site: first without training, then with."""
    for name in ("shop", "data", "run"):
        if not (folder / name).exists():
            with files.new_folder(folder / name) as new:
                shutil.copytree(site() / name, new, dirs_exist_ok=True)
    run = folder / "run"
    # One that failed is noted, too.
    outcomes = [each["outcome"] for each in read_records(run)["refreshes"]]
    if sum(not outcome.startswith("failed") for outcome in outcomes) > step:
        return
    config = files.read_sealed(run / "config.json", "")
    config["data"]["root"] = str(folder / "data")
    files.write_sealed(run / "config.json", config)
    items = (site() / "shop" / "items.csv").read_text()
    new = f"new-{step},T-Shirts,New T-Shirts no. {step},top-{step}.jpg\n"
    (folder / "shop" / "items.csv").write_text(items + new)
    flags = ["--workdir", str(run), "--shop", str(folder / "shop")]
    main.run(["refresh", *flags, f"--epochs={step}", "--fall=0.9"])


def read_refresh(folder: Path) -> Any:
    """What is served: codes, data, and what is recommended."""
    current = published(folder / "run").current
    if current is None:
        raise MissingFileError("no version")
    served = Recommender.open(current, current, "shop")
    catalogue = read_catalogue(current, "shop")
    shown = served.recommend(served.start(0), 20, judged=Judged.nothing(3))
    items = [outfit.items for outfit in shown]
    return served.codes.sha256(), catalogue.checksum, items, digests(current, "images")


KINDS = {
    "codes": Kind(write_codes, read_codes, 2, "*.safetensors"),
    "index": Kind(write_index, read_index, 3, "index/**/*"),
    "sealed JSON": Kind(write_sealed, read_sealed, 2, "config.json"),
    "LMDB": Kind(write_lmdb, read_lmdb, 1, "lmdb/data.mdb"),
    "checkpoints": Kind(write_checkpoint, read_checkpoints, 4),
    "import": Kind(write_import, read_import, 1),
    "report": Kind(write_report_of, read_report, 2),
    "refresh": Kind(write_refresh, read_refresh, 2),
    "run": Kind(write_run, read_run, 1),
}
