"""The folder of a run: which config it belongs to."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fhn_jax import files
from fhn_jax.errors import InputError, MissingFileError

# What may change between the start of a run and its resumption: where it is logged,
# and where its data and pretrained weights lie, whose checksums are noted.
_FREE = ("wandb", "demo", "data.root", "model.backbone.weights")


def read_config(workdir: Path) -> dict[str, Any]:
    """The settings of the run in `workdir`, as JSON values.

    Raises:
      FileNotFoundError: there is no config.json.
      ValueError: it is damaged.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no such file; give --config, or the --workdir of a run"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path}: not JSON ({error}); remove it, and give the --config of the run"
        ) from None
    if not isinstance(values, dict):
        raise InputError(
            f"{path} holds a {type(values).__name__}, expected settings by name; "
            "remove it, and give the --config of the run"
        )
    return values


def is_trained(workdir: Path) -> bool:
    """Whether there is a finished checkpoint."""
    return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))


def check_trained(workdir: Path) -> None:
    """Raises FileNotFoundError unless there is a finished checkpoint."""
    if not is_trained(workdir):
        raise MissingFileError(
            f"{workdir / 'checkpoints'} holds no finished checkpoint; train first: "
            "python -m fhn_jax.main train --config … --workdir …"
        )


def check_workdir(values: Mapping[str, Any], workdir: Path) -> None:
    """Makes sure that a workdir does not hold results of another config.

    Args:
      values: the config, as JSON values.
    Raises:
      ValueError: it does; names the first differing keys.
    """
    if not (is_trained(workdir) and (workdir / "config.json").exists()):
        return
    differing = [
        f"{key} is {theirs!r} there and {ours!r} here"
        for key, theirs, ours in differences(read_config(workdir), values)
        if not any(f"{key}.".startswith(f"{free}.") for free in _FREE)
    ]
    if differing:
        raise InputError(
            f"{workdir} holds a run of another config: {'; '.join(differing[:5])}"
            f"{'; …' if len(differing) > 5 else ''}. Use another --workdir, or remove "
            "this one."
        )


def claim_workdir(
    values: Mapping[str, Any], workdir: Path, *, writes: bool = True
) -> None:
    """Writes config.json, after `check_workdir`; only the latter unless `writes`."""
    check_workdir(values, workdir)
    if writes:
        files.write_json(workdir / "config.json", values)


def differences(a: Any, b: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two nested dicts of settings differ: (dotted key, value in a, in b)."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted(a.keys() | b.keys()):
            yield from differences(a.get(key), b.get(key), f"{prefix}{key}.")
    elif a != b:
        yield prefix.rstrip("."), a, b
