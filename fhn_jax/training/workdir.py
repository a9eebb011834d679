"""The folder of a run: which config it belongs to."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fhn_jax import files
from fhn_jax.data.vectors import TEXT
from fhn_jax.errors import InputError, MissingFileError

# What may change between the start of a run and its resumption: where it is logged,
# and where its data, pretrained weights and teacher lie, whose checksums are noted.
_FREE = ("wandb", "demo", "data.root", "model.backbone.weights", "train.teacher")


def read_config(workdir: Path) -> dict[str, Any]:
    """The settings of the run in `workdir`, as JSON values.

    A relative data.root is relative to the workdir, so that a run can be used from any
    folder; for the runs of old versions, to where they were trained. What is returned
    can be opened from the current folder.

    Raises:
      FileNotFoundError: there is no config.json.
      ValueError: it is damaged, or was changed by hand.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no such file; give --config, or the --workdir of a run"
        )
    remedy = (
        "remove it, and give the --config of the run and what is to differ, such as "
        "--config.data.root"
    )
    values = files.read_sealed(path, remedy)
    data = values.get("data")
    if isinstance(data, dict) and isinstance(data.get("root"), str) and data["root"]:
        data["root"] = _opened_root(data["root"], workdir)
    if isinstance(data, dict):
        data.setdefault("text", TEXT)  # Runs of version 0.2 have no name for it.
    return values


def data_of(values: Any, workdir: Path) -> tuple[Path, str]:
    """Root and variant of the data that settings name.

    Args:
      values: from `read_config`, of a file that may be hand-made or old; or a config.
    Raises:
      ValueError: they are not there, or are no text.
    """
    data = values.get("data")
    found = []
    for key in ("root", "variant"):
        value = data.get(key) if hasattr(data, "get") else None
        if not isinstance(value, str) or not value:
            raise InputError(
                f"{workdir / 'config.json'} has data.{key}={value!r}, expected a text; "
                "give the --config of the run"
            )
        found.append(value)
    return Path(found[0]), found[1]


def _opened_root(root: str, workdir: Path) -> str:
    """A data root of config.json, from the current folder."""
    path = Path(os.path.realpath(workdir)) / root
    # A name that no folder can have is no error yet.
    if os.path.isabs(root) or not os.path.isdir(path):
        return root
    return os.path.relpath(path)


def _noted_root(root: str, workdir: Path) -> str:
    """A data root as config.json has it: an absolute one stays absolute."""
    if not root or os.path.isabs(root):
        return root
    return os.path.relpath(root, os.path.realpath(workdir))


def is_trained(workdir: Path) -> bool:
    """Whether there is a finished checkpoint."""
    return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))


def check_trained(workdir: Path) -> None:
    """Raises FileNotFoundError unless there is a finished checkpoint."""
    if not is_trained(workdir):
        raise MissingFileError(
            f"{workdir / 'checkpoints'} holds no finished checkpoint; train first: "
            "fhn-jax train --config … --workdir …"
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
    """Writes config.json, after `check_workdir`; only the latter unless `writes`.

    Args:
      values: the config, as JSON values; data.root from the current folder.
    """
    check_workdir(values, workdir)
    if writes:
        data = dict(values["data"])
        data["root"] = _noted_root(data["root"], workdir)
        files.write_sealed(workdir / "config.json", dict(values) | {"data": data})


def differences(a: Any, b: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two nested dicts of settings differ: (dotted key, value in a, in b)."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted(a.keys() | b.keys()):
            yield from differences(a.get(key), b.get(key), f"{prefix}{key}.")
    elif a != b:
        yield prefix.rstrip("."), a, b
