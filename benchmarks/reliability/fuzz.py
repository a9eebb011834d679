"""What is read is changed at random, and read: only errors with a type may come.

Half of the cases change bytes, with tokens of the format among them. The other half change
values of what was parsed and write it again with a right checksum, so that what comes
after the checksum is reached too.
"""

import contextlib
import io
import json
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from fhn_jax.configs import text_t3
from fhn_jax.data_tools.convert_weights import load_weights
from fhn_jax.data_tools.shop.settings import parse_settings, read_settings

from benchmarks.reliability.writers import OUTFITS, data, make_codes
from fhn_jax import files
from fhn_jax.cli.answers import parse_items, parse_templates
from fhn_jax.cli.config import read_config_arguments
from fhn_jax.cli.new_users import parse_clicks
from fhn_jax.codes import Codes, Latents, tensor_file
from fhn_jax.data.item_names import ItemNames
from fhn_jax.data.pictures import garment_photo
from fhn_jax.data.tables import parse_names, parse_table
from fhn_jax.data.titles import read_titles
from fhn_jax.data.vector_files import load_vectors
from fhn_jax.errors import UserError
from fhn_jax.evaluation.evaluators import read_results
from fhn_jax.reporting.training import read_log
from fhn_jax.retrieval.outfit_index import OutfitIndex
from fhn_jax.training.settings import config_values
from fhn_jax.training.workdir import check_workdir, data_of, read_config
from fhn_jax.web import schemas

Case = Callable[[random.Random], Any]
_TYPED = (UserError, pydantic.ValidationError)

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 255, 2**31, -(2**31) - 1, 2**63, 2**64, 10**400),
    *(0.5, -0.0, 1e308, math.inf, -math.inf, math.nan),
    *("", "0", "a", "7", "\0", "\ud800", "ä" * 300, "../../x", "-1", "a:b", "1e999"),
    *([], {}, [[]], [None], {"": None}, {"a": {"a": {}}}, [1, 2, 3], ["a"] * 40),
)
_TOKENS = (
    *(b"\0", b"\xff", b"\n", b"\r\n", b",", b":", b"{", b"}", b"[", b"]", b'"', b"\\"),
    *(
        b"-1",
        b"99999999999999999999",
        b"1e999",
        b"NaN",
        b"null",
        b"true",
        b"\xef\xbb\xbf",
    ),
    *(b"[" * 3000, b"\\ud800", b"=", b".", b"#", b"'", b'"""', b"\xc3\x28", b"+", b"/"),
)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Bytes with one to four changes."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(content) + 1)
        to = min(len(content), at + rng.choice((1, 2, 4, 16, 64)))
        how = rng.randrange(7)
        if how == 0 and content:
            at = rng.randrange(len(content))
            flipped = bytes([content[at] ^ 1 << rng.randrange(8)])
            content = content[:at] + flipped + content[at + 1 :]
        elif how == 1:
            content = content[:at] + rng.choice(_TOKENS) + content[at:]
        elif how == 2:
            content = content[:at] + rng.choice(_TOKENS) + content[to:]
        elif how == 3:
            content = content[:at] + content[to:]
        elif how == 4:
            content = content[:to] + content[at:]
        elif how == 5:
            content = content[:at] + rng.randbytes(to - at) + content[to:]
        else:
            content = content[:at]
    return content


def changed(value: Any, rng: random.Random) -> Any:
    """A JSON value, one or two of whose parts are others."""
    for _ in range(rng.choice((1, 1, 2))):
        value = _changed(value, rng)
    return value


def _changed(value: Any, rng: random.Random) -> Any:
    inner = isinstance(value, dict | list) and value and rng.random() < 0.9
    if not inner:
        return rng.choice(_VALUES)
    if isinstance(value, dict):
        value, key = dict(value), rng.choice(list(value))
    else:
        value, key = list(value), rng.randrange(len(value))
    how = rng.random()
    if how < 0.1:
        del value[key]
    elif how < 0.2 and isinstance(value, dict):
        value[str(rng.choice(_VALUES))] = value[key]
    else:
        value[key] = _changed(value[key], rng)
    return value


def _file(
    path: Path, read: Callable[[Path], Any], content: bytes | None = None
) -> Case:
    """Changes the bytes of a file."""
    whole = path.read_bytes() if content is None else content

    def case(rng: random.Random) -> None:
        path.write_bytes(mutated(whole, rng))
        read(path)

    return case


def _tree(
    path: Path, write: Callable[[Any], None], read: Callable[[Path], Any]
) -> Case:
    """Changes the bytes of a JSON file, or its values, with a right checksum then."""
    bytes_case = _file(path, read)
    values = json.loads(path.read_bytes())
    values = {
        k: v for k, v in values.items() if k not in (files.reading.SEAL, "checksum")
    }

    def case(rng: random.Random) -> None:
        if rng.random() < 0.4:
            return bytes_case(rng)
        try:
            write(changed(values, rng))
        except (ValueError, TypeError, AttributeError):
            return None  # no JSON, or no object
        return read(path)

    return case


def _sealed(path: Path, read: Callable[[Path], Any]) -> Case:
    return _tree(path, lambda values: files.write_sealed(path, values), read)


def _config(folder: Path) -> Case:
    path = folder / "config.json"
    (folder / "checkpoints" / "1").mkdir(parents=True)
    config = text_t3.get_config("smoke")
    config.data.root, config.data.variant = "data/polyvore", "630"
    files.write_sealed(path, config_values(config))
    ours = files.read_sealed(path, "")

    def read(path: Path) -> None:
        values = read_config(folder)
        data_of(values, folder)
        check_workdir(ours, folder)

    return _sealed(path, read)


def _results(folder: Path) -> Case:
    path = folder / "results.json"
    scores = {score: {"auc": 0.5, "ndcg": None} for score in ("binary", "relaxed")}
    values = {"split": "test", "codes_sha256": "a" * 64, "random": scores, "users": 5}
    files.write_sealed(path, values)
    return _sealed(path, read_results)


def _json(folder: Path) -> Case:
    path = folder / "titles.json"
    path.write_text(json.dumps({f"{n}.jpg": f"title {n}" for n in range(9)}))
    return _file(path, read_titles)


def _metrics(folder: Path) -> Case:
    path = folder / "metrics.jsonl"
    line = '{"step": %d, "epoch": 0.5, "train/loss": 0.25}\n'
    path.write_text("".join(line % step for step in range(9)))
    return _file(path, read_log)


def _tuples(folder: Path) -> Case:
    header = ("user", "top", "bottom", "shoe")
    rows = "".join(f"{n},{n % 3},{n % 5},{n}\n" for n in range(8))
    content = f"{','.join(header)}\n{rows}".encode()
    return lambda rng: parse_table(Path("t"), mutated(content, rng), header)


def _lists(folder: Path) -> Case:
    content = b"".join(b"item-%d.jpg\n" % n for n in range(8))
    return lambda rng: parse_names(Path("t"), mutated(content, rng))


def _codes(folder: Path) -> Case:
    path = folder / "codes.safetensors"
    codes = make_codes(0)
    codes.save(path)
    tensors, metadata = tensor_file.read(path, "fhn_jax.codes")
    bytes_case = _file(path, Codes.load)

    def case(rng: random.Random) -> None:
        if rng.random() < 0.5:
            return bytes_case(rng)
        other, key = dict(metadata), rng.choice(list(metadata))
        try:
            other[key] = json.dumps(changed(json.loads(other[key]), rng))
        except ValueError:
            other[key] = mutated(other[key].encode(), rng).decode("utf-8", "replace")
        arrays = dict(tensors)
        if rng.random() < 0.3:
            name = rng.choice(list(arrays))
            arrays[name] = _other_array(arrays[name], rng)
        try:
            content = tensor_file.serialize(arrays, other)
        except (ValueError, KeyError):
            return None  # no safetensors
        path.write_bytes(content)
        return Codes.load(path)

    return case


def _other_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    how = rng.randrange(4)
    if how == 0:
        return array[: len(array) // 2].copy()
    if how == 1:
        return array.astype(rng.choice((np.float32, np.uint8, np.int64)))
    if how == 2:
        return array.reshape(-1)
    array = array.copy()
    array.reshape(-1)[:1] = 200
    return array


def _latents(folder: Path) -> Case:
    path = folder / "latents.safetensors"
    codes = make_codes(0)
    arrays = tuple(np.ones((40, 32), np.float32) for _ in range(2))
    Latents({"visual": arrays}, codes.sha256()).save(path, codes)
    return _file(path, lambda path: Latents.load(path, codes))


def _npz(folder: Path) -> Case:
    path = folder / "title.npz"
    names = np.array([f"{n}.jpg" for n in range(6)])
    np.savez(path, names=names, vectors=np.ones((6, 4), np.float32))
    return _file(path, load_vectors)


def _npy(folder: Path) -> Case:
    path = folder / "a.npy"
    np.save(path, np.arange(40, dtype=np.int32).reshape(10, 4))
    return _file(
        path, lambda path: np.array(files.map_array(path, "r", "make it again"))
    )


def _manifest(folder: Path) -> Case:
    codes = make_codes(0)
    OutfitIndex.build(folder / "index", codes, OUTFITS)
    path = folder / "index" / "manifest.json"

    def write(values: Any) -> None:
        files.write_json(path, values | {"checksum": files.reading.checksum_of(values)})

    return _tree(path, write, lambda path: OutfitIndex.open(path.parent, codes))


def _toml(folder: Path) -> Case:
    values = {
        "slots": {"top": ["T-Shirts", "Blouses"], "shoe": ["Sneaker"]},
        "templates": [{"slots": ["top", "shoe"]}],
        "ignore": ["Gifts"],
        "columns": {"items": {"id": "sku"}},
        "attributes": {"price": "number"},
    }
    text = '[slots]\ntop = ["T-Shirts", "Blouses"]\nshoe = ["Sneaker"]\n'
    text += '[[templates]]\nslots = ["top", "shoe"]\n[columns.items]\nid = "sku"\n'
    text += '[attributes]\nprice = "number"\n'
    bytes_case = _file(folder / "catalogue.toml", read_settings, text.encode())

    def case(rng: random.Random) -> None:
        if rng.random() < 0.5:
            return bytes_case(rng)
        other = changed(values, rng)
        return parse_settings(other, "catalogue") if isinstance(other, dict) else None

    return case


def _bodies(folder: Path) -> Case:
    outfit = {"top": 1, "bottom": 2, "shoe": "SKU-3"}
    bodies: tuple[tuple[type[pydantic.BaseModel], Any], ...] = (
        (schemas.NewVisitor, {"user": 3}),
        (schemas.Judgement, {"items": outfit, "liked": True}),
        (schemas.Judgement, {"item": {"category": "top", "item": 4}, "liked": False}),
        (schemas.Outfit, {"items": outfit}),
        (
            schemas.Composition,
            {
                "k": 3,
                "fixed": {"shoe": [4, "a"]},
                "candidates": {"top": [1, 2]},
                "templates": [["top", "shoe"]],
                "diversity": 2,
            },
        ),
    )

    def case(rng: random.Random) -> None:
        model, body = rng.choice(bodies)
        if rng.random() < 0.5:
            model.model_validate_json(mutated(json.dumps(body).encode(), rng))
        else:
            model.model_validate(changed(body, rng))

    return case


def _flags(folder: Path) -> Case:
    codes = make_codes(0)
    names = ItemNames(codes.categories, codes.num_items)
    stored = OUTFITS.astype(np.int32)
    texts = (b"top:4,shoe:#7,top:1", b"top+shoe", b"#3,17,shoe:4,3/14", b"7", b"#2")

    def case(rng: random.Random) -> None:
        text = mutated(rng.choice(texts), rng).decode("utf-8", "surrogateescape")
        which = rng.randrange(4)
        if which == 0:
            parse_items(text, names, "--fixed")
        elif which == 1:
            parse_templates(text, codes)
        elif which == 2 and not text.endswith(".csv"):
            parse_clicks(text, codes, names, stored, "--likes")
        else:
            names.find_user(text, "--user")

    return case


def _settings(folder: Path) -> Case:
    flags = (
        "train.epochs=3",
        "model.bits=64",
        "data.text=title",
        "optimizer.rates.user=1",
    )

    def case(rng: random.Random) -> None:
        flag = mutated(rng.choice(flags).encode(), rng).decode("utf-8", "replace")
        read_config_arguments(["--config=text_t3:smoke", f"--config.{flag}"])

    return case


def _photos(folder: Path) -> Case:
    from fhn_jax.data.images import open_images
    from fhn_jax.data.layout import read_catalogue

    names = read_catalogue(data(), "shop").item_names()[:1]
    content = open_images(data()).read(names)[0]
    return lambda rng: garment_photo(mutated(content, rng), "photo")


def _weights(folder: Path) -> Case:
    import collections
    import pickle
    import zipfile

    path = folder / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        state = collections.OrderedDict(weight=[1.0, 2.0])
        archive.writestr("archive/data.pkl", pickle.dumps(state, 2))
        archive.writestr("archive/version", "3")
    return _file(path, load_weights)


# The share of the cases, by what a case costs.
PARSERS: dict[str, tuple[Callable[[Path], Case], float]] = {
    "tuples": (_tuples, 0.24),
    "image lists": (_lists, 0.13),
    "API bodies": (_bodies, 0.22),
    "flags of items": (_flags, 0.16),
    "catalogue.toml": (_toml, 0.08),
    "titles.json": (_json, 0.04),
    "config.json": (_config, 0.02),
    "results.json": (_results, 0.02),
    "metrics.jsonl": (_metrics, 0.02),
    "codes.safetensors": (_codes, 0.02),
    "latents.safetensors": (_latents, 0.01),
    "npz": (_npz, 0.01),
    "npy": (_npy, 0.01),
    "manifests": (_manifest, 0.01),
    "photos": (_photos, 0.005),
    "PyTorch files": (_weights, 0.004),
    "--config": (_settings, 0.001),
}


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """In memory where that can be: nothing here is about disks."""
    where = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=where) as name:
        yield Path(name)


def fuzz(name: str, cases: int, seed: int) -> tuple[float, list[str]]:
    """Cases a second, and the errors without a type, each kind once."""
    make, _ = PARSERS[name]
    found: dict[str, str] = {}
    with _folder() as folder, contextlib.redirect_stderr(io.StringIO()):
        case = make(folder)
        begun = time.perf_counter()
        for number in range(cases):
            rng = random.Random(f"{seed} {name} {number}")
            try:
                case(rng)
            except _TYPED:
                pass
            except Exception as error:
                about = f"{name}, case {number}: {type(error).__name__}: {error}"
                trace = error.__traceback__
                while trace is not None and trace.tb_next is not None:
                    trace = trace.tb_next
                where = (
                    trace and f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
                )
                found.setdefault(f"{type(error)} {where}", f"{about[:200]} ({where})")
        seconds = time.perf_counter() - begun
    return cases / max(seconds, 1e-9), list(found.values())
