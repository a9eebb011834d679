"""Compares what was written with its checksums: all of it, which opening need not do.

    fhn-jax verify PATH…

A path is the workdir of a run, codes or latents, an index of outfits or the bounds for
composing, an LMDB, a file of decoded images, or a folder that holds some of these.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import safetensors

from fhn_jax import files
from fhn_jax.codes import Codes, Latents, artifact, latents
from fhn_jax.data import pixels
from fhn_jax.data.records import LmdbRecords
from fhn_jax.errors import InputError, MissingFileError
from fhn_jax.files import ArrayFolder
from fhn_jax.program import Arguments
from fhn_jax.retrieval import attributes, outfit_index, pair_bounds
from fhn_jax.web import photos


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Arguments("fhn-jax verify", __doc__)
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path)
    for path in parser.parse_args(arguments).paths:
        for found, verify in _parts(path):
            print(f"{found}: {verify(found)}")


def _parts(path: Path) -> list[tuple[Path, Callable[[Path], str]]]:
    """What there is to verify at a path, and how.

    Raises:
      MissingFileError: there is nothing at the path.
      InputError: there is nothing that has checksums.
    """
    if not path.exists():
        raise MissingFileError(f"{path}: no such file or folder")
    verify = _how(path)
    found = [] if verify is None else [(path, verify)]
    if path.is_dir():  # In an index are attributes, for one.
        for below in sorted(path.rglob("*")):
            verify = _how(below)
            if verify is not None:
                found.append((below, verify))
    if not found:
        raise InputError(
            f"{path} holds nothing that has a checksum; expected the workdir of a run, "
            "an index, an LMDB, codes or decoded images"
        )
    return found


def _how(path: Path) -> Callable[[Path], str] | None:
    """What verifies a file or folder; None where that is nothing of its own."""
    if path.is_dir():
        for name, verify in (
            ("manifest.json", _array_folder),
            ("data.mdb", _lmdb),
        ):
            if (path / name).is_file():
                return verify
        is_run = (path.parent / "config.json").is_file()
        return _checkpoints if path.name == "checkpoints" and is_run else None
    if path.suffix == ".safetensors":
        return {
            artifact.FORMAT: _codes,
            latents.FORMAT: _latents,
            photos.FORMAT: _encoder,
        }.get(_format(path))
    if path.name in ("config.json", "results.json", "DEMO"):
        return _sealed
    return _pixels if path.match("decoded_*.npy") else None


def _format(path: Path) -> str:
    """What a safetensors file says that it is; by its name if it is damaged."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format", "")
    except Exception:  # the package raises nearly anything
        names = {
            artifact.FILE: artifact.FORMAT,
            latents.FILE: latents.FORMAT,
            photos.FILE: photos.FORMAT,
        }
        return names.get(path.name, "")


def _array_folder(path: Path) -> str:
    manifest = files.read_json(path / "manifest.json", dict, "make it again")
    if manifest.get("format") == attributes.FORMAT.name:
        return _attributes(path)
    kinds = {kind.name: kind for kind in (outfit_index.FORMAT, pair_bounds.FORMAT)}
    kind = kinds.get(manifest.get("format", ""), outfit_index.FORMAT)
    folder = ArrayFolder.open(path, kind)
    folder.verify()
    return f"{kind.noun}, {len(folder.sizes)} files are as they were written"


def _attributes(path: Path) -> str:
    count = attributes.verify(path)
    return f"attributes of items, and {count} changes, are as they were written"


def _lmdb(path: Path) -> str:
    records = LmdbRecords(path, "make it again")
    count = records.verify()
    rest = len(records) - count
    others = f", {rest:,} have no checksum" if rest > 0 else ""
    return f"an LMDB, {count:,} values are as they were written{others}"


def _checkpoints(path: Path) -> str:
    from fhn_jax.training.checkpoint import Checkpoints

    with (
        files.lock(path.parent, "reading the checkpoints", shared=True),
        Checkpoints(path) as checkpoints,
    ):
        steps = checkpoints.verify()
    return f"checkpoints {', '.join(map(str, steps))} are as they were written"


def _codes(path: Path) -> str:
    return f"{Codes.load(path)}, as they were written"


def _latents(path: Path) -> str:
    codes = Codes.load(path.with_name(artifact.FILE))
    # Of an export that was killed, those of the codes lie under another name.
    among_run = path.name.startswith("latents.")
    found = (
        Latents.beside(path.parent, codes) if among_run else Latents.load(path, codes)
    )
    return f"{found} of the codes beside them, as they were written"


def _encoder(path: Path) -> str:
    photos.read_encoder(path)
    return "an encoder of photos, as it was written"


def _sealed(path: Path) -> str:
    files.read_sealed(path, "make it again")
    return "as it was written"


def _pixels(path: Path) -> str:
    return f"{pixels.verify(path):,} decoded images are as they were written"
